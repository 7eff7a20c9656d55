"""Views of a cache: `values()` and `items()` that count as no use of what they show.

Decision: peeked one by one instead of the views of `collections.abc`, which would look each key up as a user does
and turn the order of eviction around; what goes while somebody iterates is left out.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import Any, TypeVar, cast

from crdtcache.arguments import MISSING

__all__ = ["Items", "Values"]

K = TypeVar("K")
V = TypeVar("V")


class Values(ValuesView[V]):
    """Values without use of them: no recency, no statistics."""

    __slots__ = ()
    _mapping: Any  # with `peek`

    def __iter__(self) -> Iterator[V]:
        for _, value in self._mapping.items():  # noqa: PERF102 - this is values()
            yield value

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)


class Items(ItemsView[K, V]):
    """Items without use of them: no recency, no statistics."""

    __slots__ = ()
    _mapping: Any

    def __iter__(self) -> Iterator[tuple[K, V]]:
        for key in self._mapping:
            value = self._mapping.peek(key, MISSING)
            if value is not MISSING:
                yield key, value

    def __contains__(self, item: object) -> bool:
        key, value = cast("tuple[K, V]", item)
        found = self._mapping.peek(key, MISSING)
        return found is value or (found is not MISSING and found == value)
