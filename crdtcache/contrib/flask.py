"""Flask-Caching on a node: `Cache(app, config={"CACHE_TYPE": "crdtcache.contrib.flask.CrdtCache"})`.

    CACHE_OPTIONS        arguments of `Node`, or {"node": node} for one that is there already
    CACHE_CRDTCACHE_URL  "crdtcache://:secret@10.0.0.1,10.0.0.2/shop"; left out, the CRDTCACHE_ variables are read

Code without Flask-Caching needs no adapter: `cache = Node(...).start()` in the module of the app is all, also for
`gunicorn --preload`. The node of this one starts when it is first used.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

try:
    from flask import Response
    from flask_caching.backends.base import BaseCache
    from markupsafe import Markup
except ImportError as error:
    raise ImportError(f"crdtcache.contrib.flask needs Flask-Caching ({error}): pip install flask-caching") from error

from crdtcache import Node, ValueTooLarge, register
from crdtcache.naming import fitting

__all__ = ["CrdtCache"]


class CrdtCache(BaseCache):
    """The backend. A timeout of 0 is for ever, as in Flask-Caching; what is too large is not kept, and said once."""

    def __init__(self, node: Node[str, Any], default_timeout: int = 300, **settings: Any) -> None:
        super().__init__(default_timeout, **settings)
        self._node = node

    @classmethod
    def factory(cls, _app: Any, config: dict[str, Any], _args: list[Any], kwargs: dict[str, Any]) -> CrdtCache:
        """Called by Flask-Caching, with CACHE_OPTIONS and two settings of its own in `kwargs`."""
        own = ("default_timeout", "ignore_delete_many_errors")
        settings = {name: kwargs.pop(name) for name in own if name in kwargs}
        url = config.get("CACHE_CRDTCACHE_URL")
        node = kwargs.pop("node", None)
        if node is None:
            node = Node.from_url(url, **kwargs) if url else Node.from_env(**kwargs)
        return cls(node, **settings)

    @property
    def node(self) -> Node[str, Any]:
        """The node behind this cache, started."""
        return self._node.start()

    def get(self, key: str) -> Any:
        """The value, or None."""
        return self.node.get(fitting(key))

    def set(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Store `value` for `timeout` seconds; whether that was done."""
        return self._store(key, value, timeout)

    def add(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Store `value` unless the key is here; whether it was stored. A local check: another node may add too."""
        return self._store(key, value, timeout, if_absent=True)

    def _store(self, key: str, value: Any, timeout: int | timedelta | None, **condition: bool) -> bool:
        key = fitting(key)  # a path that a visitor wrote
        try:
            return self.node.set(key, value, self._normalize_timeout(timeout) or None, **condition) is not None
        except ValueTooLarge as error:
            self.node.not_stored("Flask's cache", error)
        if not condition:
            self.node.delete(key)
        return False

    def delete(self, key: str) -> bool:
        """Delete everywhere; whether the key was here."""
        return self.node.delete(fitting(key))

    def has(self, key: str) -> bool:
        """Whether the key is here."""
        return fitting(key) in self.node

    def clear(self) -> bool:
        """Remove everything, on every node."""
        self.node.clear()
        return True


def _parts(response: Any) -> tuple[Any, ...]:
    return response.status, response.headers.to_wsgi_list(), response.get_data()


def _response(parts: tuple[Any, ...]) -> Any:
    status, headers, body = parts
    return Response(body, status=status, headers=headers)


register(Response, name="flask.Response", encode=_parts, decode=_response)  # what a cached view may return
register(Markup, name="markupsafe.Markup", encode=str.__str__, decode=Markup)
