"""A cache that is switched off: for tests, and to find out whether it is the cache that is to blame.

While `with cache.disabled()` lasts, nothing is found and nothing is stored: `get` misses, cached functions and loaders
run at each call, writes are checked and dropped, in every thread of the process. What is in memory stays, and what
peers write goes on arriving underneath.

Decision: the node's class is swapped for one that finds nothing. The refused alternative, a flag, would be looked at
by each lookup of every user for ever.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from crdtcache.core.store import ABSENT
from crdtcache.mapping import REQUIRED, LocalMap

__all__ = ["disabled_kind"]


class _Disabled(LocalMap[Any, Any]):
    """What a disabled node does instead."""

    __slots__ = ()

    def get(self, key: Hashable, default: Any = None) -> Any:
        self._check_key(key)
        return default

    def __getitem__(self, key: Hashable) -> Any:
        self._check_key(key)
        return self.__missing__(key)

    def _shown(self, key: object) -> object:
        self._check_key(key)
        return ABSENT

    def _visible(self, key: object) -> None:
        self._check_key(key)

    def _snapshot(self) -> list[Any]:
        return []

    def __len__(self) -> int:
        return 0

    def set(self, key: Hashable, value: Any, *_: Any, **__: Any) -> None:
        self._check_key(key)
        self.encoded(value)

    put = set  # noqa: A003 - the method above is meant

    def set_many(self, items: Mapping[Any, Any] | Iterable[tuple[Any, Any]], *_: Any, **__: Any) -> None:
        for key, value in items.items() if isinstance(items, Mapping) else items:
            self.set(key, value)

    def set_unless_moved(self, *_: Any) -> None:
        return None

    def setdefault(self, key: Hashable, default: Any = None, ttl: Any = None) -> Any:
        self.set(key, default, ttl)
        return default

    def delete(self, key: Hashable) -> bool:
        self._check_key(key)
        return False

    remove = delete

    def evict(self, key: Hashable) -> bool:
        return self.delete(key)

    def touch(self, key: Hashable, *_: Any) -> bool:
        return self.delete(key)

    def pop(self, key: Hashable, default: Any = REQUIRED) -> Any:
        self._check_key(key)
        if default is REQUIRED:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[Any, Any]:
        raise KeyError("popitem(): the cache is disabled")

    def clear(self, **_: Any) -> None:
        return None

    def check_expiry(self, *_: Any) -> list[Any]:
        return []

    def lasts_ms(self, key: Hashable) -> float:
        self._check_key(key)
        return 0

    def held(self, key: Hashable) -> tuple[int, int]:
        self._check_key(key)
        return 0, 0


@functools.cache
def disabled_kind(kind: type) -> type:
    """The class to swap `kind`, a class of nodes, for."""
    if issubclass(kind, _Disabled):
        return kind
    return type(f"Disabled{kind.__name__}", (_Disabled, kind), {"__slots__": ()})
