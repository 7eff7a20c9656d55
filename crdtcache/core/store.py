"""A bounded map of entries: recency, expiry, bytes; live, ghost, dead.

`entries` is the truth. Beside it stand two generations of `key -> value` for the live ones: a lookup is one
C-level subscript of the young generation (`hot`), and only a miss there runs Python. A key found in the old
generation moves to the young one; what is evicted is the head of the old one; when that is empty the young
one becomes old. Together they hold exactly the live keys.

Decision: two generations instead of a linked list or `move_to_end`: LRU's hit ratio to within 0.02 points
on Zipf traces at a third of the cost of a hit, and no lock on it (figures: README, Benchmarks). `hot` holds
a scalar that `get` may return as it is, or the one mark LATER where `get` must look at the entry: it expires,
or its value is packed. A mark instead of the entry itself, because a hit then need not touch the value to know
what it is: that touch was a fifth of the hit.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, cast

from crdtcache.core.entry import DEAD, EXPIRES, LIVE, STATE, VALUE, Entry, Key, Packed, Value

__all__ = ["ABSENT", "INDEX_BYTES", "LATER", "Hot", "Store", "Wheel", "weight"]

LATER: Final = object()
"""What `hot` holds where a lookup must look at the entry: it expires, or its value is packed."""
ABSENT: Final = object()
"""What a lookup in `hot` gives where no value is in memory."""

INDEX_BYTES = 250
"""What one entry costs beside its key and value: measured by `tests/bench`, goal M1."""


def weight(value: Value | Key) -> int:
    """Accounted bytes of a key or value: a function of its content only, so that sums stay exact."""
    kind = value.__class__
    if kind is str:
        return 49 + len(value) if value.isascii() else 73 + 4 * len(value)  # type: ignore[arg-type,union-attr]
    if kind is bytes or kind is Packed:
        return len(value) + 33  # type: ignore[arg-type]
    if kind is tuple:
        return 40 + sum([8 + weight(part) for part in cast(tuple[Key, ...], value)])
    return 32


class Hot(dict[Key, object]):
    """The young generation; a missing key is asked of `missing`, which `Node` replaces by a locked one."""

    __slots__ = ("missing",)
    missing: Callable[[Key], object]

    def __missing__(self, key: Key) -> object:
        return self.missing(key)


class Wheel:
    """When entries expire: slots of 64 ms for the next minute, slots of 65 s beyond, keys in each.

    Decision: slots instead of a heap of keys: adding costs one append, and a key whose expiry moves leaves
    at most one stale reference per slot instead of one per write. A popped key is looked up again.
    """

    __slots__ = ("_far", "_far_ids", "_moved", "_near", "_near_ids")
    _NEAR, _FAR = 6, 16

    def __init__(self) -> None:
        self._near: dict[int, dict[Key, None]] = {}
        self._far: dict[int, list[Key]] = {}
        self._near_ids: list[int] = []
        self._far_ids: list[int] = []
        self._moved = 0  # far slots below this one have been moved to the near ones, and are never made again

    def add(self, key: Key, expires_ms: int, was_ms: int = 0) -> None:
        """Note that `key` expires; `was_ms` is the expiry that it had, to save a second reference."""
        far = expires_ms >> self._FAR
        if far < self._moved:
            self._near_add(key, expires_ms)
        elif was_ms >> self._FAR != far:
            slot = self._far.get(far)
            if slot is None:
                slot = self._far[far] = []
                heapq.heappush(self._far_ids, far)
            slot.append(key)

    def _near_add(self, key: Key, expires_ms: int) -> None:
        near = expires_ms >> self._NEAR
        slot = self._near.get(near)
        if slot is None:
            slot = self._near[near] = {}
            heapq.heappush(self._near_ids, near)
        slot[key] = None

    def due(self, now_ms: int, expires_of: Callable[[Key], int], most: int | None = None) -> list[Key]:
        """Take out the keys whose expiry, as `expires_of` says now (0: none), is at or before `now_ms`.

        At most about `most` of them; there may then be more, and the next call goes on.
        """
        while self._far_ids and self._far_ids[0] << self._FAR <= now_ms + (1 << self._FAR):
            far = heapq.heappop(self._far_ids)
            self._moved = far + 1
            for key in self._far.pop(far):
                expires = expires_of(key)
                if expires >> self._FAR == far:
                    self._near_add(key, expires)  # any other expiry has brought a reference of its own
        ready: dict[Key, None] = {}
        while self._near_ids and self._near_ids[0] << self._NEAR <= now_ms:
            slot = heapq.heappop(self._near_ids)
            later: dict[Key, None] = {}
            for key in self._near.pop(slot):
                expires = expires_of(key)
                if most is not None and len(ready) >= most:
                    later[key] = None
                elif 0 < expires <= now_ms:
                    ready[key] = None
                elif expires >> self._NEAR == slot:
                    later[key] = None
            if later:
                self._near[slot] = later
                heapq.heappush(self._near_ids, slot)
                break
        return list(ready)

    def next_ms(self) -> int | None:
        """The wall time at which `due` may next have something, at most 64 ms early or late."""
        times = []
        if self._near_ids:
            times.append((self._near_ids[0] + 1) << self._NEAR)
        if self._far_ids:
            times.append((self._far_ids[0] - 1) << self._FAR)
        return min(times) if times else None


class Store:
    """The entries of one replica, their recency, expiry and bytes.

    `replace` is the only way in: every sum, list and generation is kept there. `maxsize` bounds live values
    (None: no bound), `max_bytes` values and index.
    """

    __slots__ = ("_order", "bytes", "entries", "expiring", "hot", "max_bytes", "maxsize", "old")

    def __init__(self, maxsize: int | None, max_bytes: int | None) -> None:
        self.entries: dict[Key, Entry] = {}
        self.hot = Hot()
        self.hot.missing = self.promote
        self.old: dict[Key, object] = {}
        self._order: list[Key] | None = None  # the old generation, oldest last, while evicting from it
        self.bytes = 0
        self.maxsize = maxsize
        self.max_bytes = max_bytes
        self.expiring = Wheel()

    @property
    def live(self) -> int:
        """Live values, the expired but not yet swept among them."""
        return len(self.hot) + len(self.old)

    def keys(self) -> list[Key]:
        """The live keys, a snapshot."""
        return [*self.old, *self.hot]

    def promote(self, key: Key) -> object:
        """Move `key` to the young generation; what `hot` then holds, or ABSENT."""
        found = self.hot.get(key, ABSENT)
        if key in self.old:
            # Into the young one first: a reader without the lock must find it in one of the two.
            found = self.hot[key] = self.old[key]
            del self.old[key]
        return found

    def replace(self, key: Key, entry: Entry | None, old: Entry | None) -> None:
        """Put `entry` (None: forget the key) in the place of `old`, which is what the map holds."""
        hot = self.hot
        if entry is None:
            if old is None:
                return
            cost = INDEX_BYTES + weight(key) + weight(old[VALUE])
            del self.entries[key]
            self.bytes -= cost
            hot.pop(key, None)
            self.old.pop(key, None)
            return
        value = entry[VALUE]
        # First what may fail (a stack that is full): entries and bytes change together or not at all.
        cost = weight(value) - weight(old[VALUE]) if old is not None else INDEX_BYTES + weight(key) + weight(value)
        self.entries[key] = entry
        self.bytes += cost
        expires = entry[EXPIRES]
        if entry[STATE] == LIVE:
            hot[key] = LATER if expires or value.__class__ is Packed else value
            if self.old:
                self.old.pop(key, None)
        elif old is not None and old[STATE] == LIVE:
            hot.pop(key, None)
            self.old.pop(key, None)
        if expires and entry[STATE] != DEAD:
            self.expiring.add(key, expires, old[EXPIRES] if old is not None and old[STATE] != DEAD else 0)

    def hide(self, key: Key) -> bool:
        """Take an expired key out of the generations; its entry stays until D2 lets it die."""
        young = self.hot.pop(key, ABSENT) is not ABSENT
        return self.old.pop(key, ABSENT) is not ABSENT or young

    def hide_all(self) -> None:
        """Take every key out of the generations (a clear: what survives it is shown again)."""
        self.hot.clear()
        self.old.clear()
        self._order = None

    def show(self, key: Key) -> None:
        """Put a live entry that was hidden back into the young generation."""
        entry = self.entries[key]
        value = entry[VALUE]
        self.old.pop(key, None)
        self.hot[key] = LATER if entry[EXPIRES] or value.__class__ is Packed else value

    def is_shown(self, key: Key) -> bool:
        """Whether the key is in one of the generations."""
        return key in self.hot or key in self.old

    def over(self) -> bool:
        """Whether a live value should be evicted."""
        if self.maxsize is not None and self.live > self.maxsize:
            return True
        return self.max_bytes is not None and self.bytes > self.max_bytes and self.live > 0

    def oldest(self) -> Key:
        """The live key that was used least recently (to within a generation); there is one."""
        while True:
            order = self._order
            while order:
                key = order[-1]
                if key in self.old:
                    return key
                order.pop()
            if not self.old:
                self.old.update(self.hot)  # the same two dicts for ever: writers hold on to them
                self.hot.clear()
            # A copy, because evicting by `next(iter(dict))` walks over every deleted slot before it.
            self._order = [*self.old]
            self._order.reverse()

    def check(self) -> None:
        """AssertionError unless sums and generations agree with the entries."""
        sums = sum([INDEX_BYTES + weight(key) + weight(entry[VALUE]) for key, entry in self.entries.items()])
        assert self.bytes == sums, f"byte accounting: {self.bytes} counted, {sums} held"
        assert not self.hot.keys() & self.old.keys(), "a key in both generations"
        for key in self.keys():
            entry = self.entries[key]
            assert entry[STATE] == LIVE, f"{key!r} is shown in state {entry[STATE]}"
            shown = self.hot.get(key, self.old.get(key))
            assert shown is (LATER if entry[EXPIRES] or entry[VALUE].__class__ is Packed else entry[VALUE])
