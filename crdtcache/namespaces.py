"""A namespace: the keys of a node that begin with one name, as a mapping of its own.

Of `users = cache.namespace("user")`, `users["42"]` is the node's key "user:42", and `users[42]` is `("user", 42)`. So
events, `inspect` and other languages see ordinary keys, and all namespaces share the limits of the node.

Decision: a view, not a map with an index: whoever knows a name can write below it, on any node and before this one
has heard of it. The price is that `len`, iteration and `clear` look at every key of the node.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, TypeVar, cast

from crdtcache.arguments import DEFAULT, MISSING, Default, Missing, Seconds
from crdtcache.core.entry import Version
from crdtcache.errors import ConfigError
from crdtcache.filling import Fill, Rule
from crdtcache.flights import Flights
from crdtcache.loops import refuse_loop
from crdtcache.mapping import LocalMap

__all__ = ["Namespace"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Namespace(MutableMapping[K, V]):
    """What `Node.namespace` returns. Its methods are the node's, for its own keys and with its own `ttl`."""

    __slots__ = ("_cache", "_fill", "_loader", "_prefix", "_ttl", "name")

    def __init__(
        self,
        cache: LocalMap[Any, Any],
        flights: Flights,
        name: str,
        rule: Rule,
        loader: Callable[[K], V | Awaitable[V]] | None,
    ) -> None:
        if name.__class__ is not str or not name:
            raise ConfigError(f"namespace({name!r}): a name is text, and not empty")
        self.name = name
        self._cache = cache
        self._prefix = f"{name}:"
        self._ttl = rule.ttl
        self._loader = loader
        self._fill = Fill(cache, flights, rule)

    def key(self, key: K) -> Any:
        """The key of the node that `key` stands for."""
        return self._prefix + key if isinstance(key, str) else (self.name, key)

    def _own(self, keys: Iterable[Any]) -> Iterator[tuple[Any, K]]:
        """Of the node's `keys` those in here, each with what it is called here."""
        prefix, skip = self._prefix, len(self._prefix)
        for key in keys:
            if isinstance(key, str):
                if key.startswith(prefix):
                    yield key, cast("K", key[skip:])
            elif isinstance(key, tuple) and len(key) == 2 and key[0] == self.name and not isinstance(key[1], str):
                yield key, cast("K", key[1])

    def __getitem__(self, key: K) -> V:
        value = self._cache.get(self.key(key), MISSING)
        if value is MISSING:
            if self._loader is None:
                raise KeyError(key)
            refuse_loop("the loader of [], for a key that is not here,", "await namespace.aget_or_set(key)")
            return self.get_or_set(key)
        return cast("V", value)

    def get(self, key: K, default: Any = None) -> Any:
        """As `Node.get`."""
        return self._cache.get(self.key(key), default)

    def peek(self, key: K, default: Any = None) -> Any:
        """As `Node.peek`."""
        return self._cache.peek(self.key(key), default)

    def __setitem__(self, key: K, value: V) -> None:
        self.set(key, value)

    def set(self, key: K, value: V, ttl: Seconds | Default | None = DEFAULT, **conditions: Any) -> Version | None:
        """As `Node.set`; `ttl` left out is the namespace's."""
        if ttl is DEFAULT and not conditions.keys() & {"expires_at", "keep_ttl"}:
            ttl = self._ttl
        return self._cache.set(self.key(key), value, ttl, **conditions)

    def add(self, key: K, value: V, ttl: Seconds | Default | None = DEFAULT) -> bool:
        """As `Node.add`."""
        return self.set(key, value, ttl, if_absent=True) is not None

    def set_many(
        self, items: Mapping[K, V] | Iterable[tuple[K, V]], ttl: Seconds | Default | None = DEFAULT
    ) -> Version | None:
        """As `Node.set_many`."""
        pairs = items.items() if isinstance(items, Mapping) else items
        return self._cache.set_many([(self.key(k), v) for k, v in pairs], self._ttl if ttl is DEFAULT else ttl)

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """As `Node.get_many`."""
        found = {key: self.get(key, MISSING) for key in keys}
        return {key: value for key, value in found.items() if value is not MISSING}

    def delete(self, key: K) -> bool:
        """As `Node.delete`."""
        return self._cache.delete(self.key(key))

    def delete_many(self, keys: Iterable[K]) -> int:
        """As `Node.delete_many`."""
        return self._cache.delete_many([self.key(key) for key in keys])

    def __delitem__(self, key: K) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def pop(self, key: K, default: Any = MISSING) -> Any:
        """As `Node.pop`: the loader is not called."""
        value = self._cache.pop(self.key(key), default)
        if value is MISSING:
            raise KeyError(key)
        return value

    def setdefault(self, key: K, default: Any = None) -> Any:
        """As `Node.setdefault`, with the namespace's `ttl`: the loader is not called."""
        return self._cache.setdefault(self.key(key), default, self._ttl)

    def clear(self) -> None:
        """Delete everywhere every key of the namespace that is known here."""
        self._cache.delete_many([key for key, _ in self._own(self._fill.known_keys())])

    def __contains__(self, key: object) -> bool:
        return self.key(cast("K", key)) in self._cache

    def __iter__(self) -> Iterator[K]:
        return (key for _, key in self._own(list(self._cache)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def ttl(self, key: K) -> float | None:
        """As `Node.ttl`."""
        return self._cache.ttl(self.key(key))

    def touch(self, key: K, ttl: Seconds | Default | None = DEFAULT) -> bool:
        """As `Node.touch`; `ttl` left out is the namespace's."""
        return self._cache.touch(self.key(key), self._ttl if ttl is DEFAULT else ttl)

    def expire(self, key: K, ttl: Seconds | None) -> bool:
        """As `Node.expire`."""
        return self._cache.expire(self.key(key), ttl)

    def get_or_set(self, key: K, default_or_factory: V | Callable[[], V] | Missing = MISSING) -> V:
        """As `Node.get_or_set`, with the namespace's `ttl`; left out, it is the namespace's `loader`."""
        refuse_loop("get_or_set()", "await namespace.aget_or_set(...)")
        return cast("V", self._fill.get(self.key(key), self._fill.plainly(self._source(key, default_or_factory))))

    async def aget_or_set(
        self, key: K, default_or_factory: V | Callable[[], V | Awaitable[V]] | Missing = MISSING
    ) -> V:
        """As `get_or_set`, in trio or asyncio; the function may be async."""
        return cast(
            "V", await self._fill.aget(self.key(key), self._fill.awaited(self._source(key, default_or_factory)))
        )

    def _source(self, key: K, default_or_factory: object) -> Callable[[], object]:
        return self._fill.source(default_or_factory, self._loader, key)

    def __repr__(self) -> str:
        return f"<Namespace {self.name} {len(self)} keys of {self._cache!r}>"
