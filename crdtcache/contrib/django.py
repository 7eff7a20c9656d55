"""Django's cache API on a node: `CACHES = {"default": {"BACKEND": "crdtcache.contrib.django.CrdtCache"}}`.

    LOCATION   "crdtcache://:secret@10.0.0.1,10.0.0.2/shop?region=eu"; left out, the CRDTCACHE_ variables are read
    OPTIONS    arguments of `Node`, which count more: {"maxsize": 50_000}. TIMEOUT, KEY_PREFIX and the rest are Django's

Django makes one backend object for each alias and thread; all with one LOCATION and OPTIONS share one node, which
starts when it is first used: `manage.py check` opens no port, and under a preforking server each worker is a member
of its own. `caches["default"].node` is that node, for `cached`, events and `status()`.

Decision: the a-twins (`aget`, ...) call their namesakes directly. Django's own send each call through a thread,
because its other backends may wait for a network; this one never does.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

try:
    from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
    from django.http import HttpResponse
    from django.utils.safestring import SafeString
except ImportError as error:
    raise ImportError(f"crdtcache.contrib.django needs Django ({error}): pip install django") from error

from crdtcache import MISSING, Node, ValueTooLarge, register
from crdtcache.naming import fitting

__all__ = ["CrdtCache"]

_nodes: dict[str, Node[str, Any]] = {}  # by LOCATION and OPTIONS


class CrdtCache(BaseCache):
    """One alias of `CACHES`. What is too large to be cached is deleted, logged once and counted, and never raises."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._location = location
        self._options = params.get("OPTIONS", {})

    @cached_property
    def node(self) -> Node[str, Any]:
        """The node behind this alias, started."""
        options = self._options
        name = repr((self._location, sorted(options.items())))
        if name not in _nodes:
            made = Node.from_url(self._location, **options) if self._location else Node.from_env(**options)
            _nodes.setdefault(name, made)
        return _nodes[name].start()

    def _key(self, key: str, version: int | None) -> str:
        # Django only warns of long keys, and a visitor may have written them: their reader shall not fail.
        return fitting(self.make_and_validate_key(key, version))

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """The value, or `default`."""
        return self.node.get(self._key(key, version), default)

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Store `value` for `timeout` seconds: None for ever, 0 or less not at all."""
        self._store(key, value, timeout, version)

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Store `value` unless the key is here; whether it was stored. A local check: another node may add too."""
        return self._store(key, value, timeout, version, if_absent=True)

    def _store(self, key: str, value: Any, timeout: Any, version: int | None, *, if_absent: bool = False) -> bool:
        key = self._key(key, version)
        ttl = self._ttl(timeout)
        if isinstance(value, HttpResponse):
            value = _response(_parts(value))  # of whatever class: what is cached is what was sent
        try:
            if ttl is None or ttl > 0:
                return self.node.set(key, value, ttl, if_absent=if_absent) is not None
            stored = True  # for no time at all
        except ValueTooLarge as error:
            self.node.not_stored("Django's cache", error)
            stored = False
        if if_absent:
            return stored and key not in self.node
        self.node.delete(key)
        return stored

    def _ttl(self, timeout: Any) -> float | None:
        seconds: float | None = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return seconds

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Give the key a new timeout; whether it is here."""
        return self.node.expire(self._key(key, version), self._ttl(timeout))

    def delete(self, key: str, version: int | None = None) -> bool:
        """Delete everywhere; whether the key was here."""
        return self.node.delete(self._key(key, version))

    def has_key(self, key: str, version: int | None = None) -> bool:
        """Whether the key is here."""
        return self._key(key, version) in self.node

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> Any:
        """Add to the value, whose timeout stays. Of two nodes that add at once one is lost: a cache is no counter."""
        key = self._key(key, version)
        value = self.node.get(key, MISSING)
        if value is MISSING:
            raise ValueError(f"Key {key!r} not found")
        self.node.set(key, value + delta, keep_ttl=True)
        return value + delta

    def clear(self) -> None:
        """Remove everything, on every node, whichever alias wrote it."""
        self.node.clear()


def _twin(name: str) -> Any:
    async def twin(self: CrdtCache, *args: Any, **named: Any) -> Any:
        return getattr(self, name)(*args, **named)

    twin.__name__, twin.__doc__ = f"a{name}", f"As `{name}`, which never waits."
    return twin


for _name in ("get", "set", "add", "touch", "delete", "has_key", "incr", "clear"):
    setattr(CrdtCache, f"a{_name}", _twin(_name))


def _parts(response: Any) -> tuple[Any, ...]:
    cookies = [morsel.OutputString() for morsel in response.cookies.values()]
    return response.status_code, response.reason_phrase, list(response.headers.items()), cookies, response.content


def _response(parts: tuple[Any, ...]) -> Any:
    status, reason, headers, cookies, content = parts
    response = HttpResponse(content, status=status, reason=reason, headers=dict(headers))
    for cookie in cookies:
        response.cookies.load(cookie)
    return response


register(HttpResponse, name="django.HttpResponse", encode=_parts, decode=_response)  # what `cache_page` stores
register(SafeString, name="django.SafeString", encode=str.__str__, decode=SafeString)  # and `{% cache %}`
