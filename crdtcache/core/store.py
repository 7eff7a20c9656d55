"""A bounded map of entries: recency, expiry, bytes; live, ghost, dead.

`entries` is the truth. Beside it stand the generations (`Aging`): the live keys again, each with what a lookup
needs of it, so that a lookup is one `in` and one subscript of a plain dict, at C speed. `direct` shows scalars
that `get` may return as they are; `guarded` shows the entries of the others, which expire or are packed.

Decision: two generations instead of a linked list or `move_to_end`: LRU's hit ratio to within 0.02 points
on Zipf traces at a third of the cost of a hit, and no lock on it (measured before it was built). Decision: a dict
for each kind instead of a mark in one, because to tell them apart costs a hit a tenth, and a dict of
scalars is nothing that the cyclic collector has to walk over.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final, Generic, TypeVar, cast

from crdtcache.core.entry import DEAD, EXPIRES, LIVE, STAMP, STATE, VALUE, Entry, Key, Packed, Value

S = TypeVar("S")

__all__ = ["ABSENT", "INDEX_BYTES", "Aging", "Store", "Wheel", "weight"]

ABSENT: Final = object()
"""What is shown for a key whose value is not in memory."""

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


class Aging(Generic[S]):
    """Two generations of `key -> what a lookup needs`. A lookup finds the young; what it finds in the old moves over.

    The same two dicts for ever: readers without a lock, and the write path, hold on to them. A key is in the
    young one before it leaves the old one, so that such a reader finds it in one of them.
    """

    __slots__ = ("_order", "_turned", "old", "young")

    def __init__(self) -> None:
        self.young: dict[Key, S] = {}
        self.old: dict[Key, S] = {}
        self._order: list[Key] = []  # the old generation as it was made, oldest last
        self._turned = 0  # how many that were

    def show(self, key: Key, shown: S) -> None:
        """Put `key` into the young generation."""
        self.young[key] = shown
        if self.old:
            self.old.pop(key, None)

    def hide(self, key: Key) -> bool:
        """Take `key` out; whether it was there."""
        young = self.young.pop(key, ABSENT) is not ABSENT
        return self.old.pop(key, ABSENT) is not ABSENT or young

    def clear(self) -> None:
        """Take every key out."""
        self.young.clear()
        self.old.clear()

    def turn(self) -> None:
        """The young generation becomes old, behind what is."""
        self.old.update(self.young)
        self.young.clear()
        # A copy, because evicting by `next(iter(dict))` walks over every deleted slot before it.
        self._order = [*self.old]
        self._order.reverse()
        self._turned = len(self._order)

    def place(self) -> float:
        """Where the oldest key stands in its generation, of 0 to 1; 1 where there is none."""
        return (self._turned - len(self.old) + 0.5) / self._turned if self.old else 1.0

    def oldest(self) -> Key:
        """The key of the old generation, which is not empty, that came first into it when it was young."""
        order = self._order
        while order[-1] not in self.old:
            order.pop()
        return order[-1]


class Wheel:
    """When entries expire: slots of 64 ms for the next minute, slots of 65 s beyond, keys in each.

    Decision: slots instead of a heap of keys: adding costs one append, and a key whose expiry moves leaves
    at most one stale reference per slot instead of one per write. A popped key is looked up again.
    """

    __slots__ = ("_far", "_far_ids", "_moved", "_near", "_near_ids")
    _NEAR, _FAR = 6, 16

    def __init__(self) -> None:
        self._near: dict[int, dict[Key, None]] = {}
        self._far: dict[int, dict[Key, None]] = {}
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
                slot = self._far[far] = {}
                heapq.heappush(self._far_ids, far)
            slot[key] = None

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

    __slots__ = ("bytes", "direct", "entries", "expiring", "guarded", "max_bytes", "maxsize")

    def __init__(self, maxsize: int | None, max_bytes: int | None) -> None:
        self.entries: dict[Key, Entry] = {}
        self.direct: Aging[object] = Aging()
        self.guarded: Aging[Entry] = Aging()
        self.bytes = 0
        self.maxsize = maxsize
        self.max_bytes = max_bytes
        self.expiring = Wheel()

    @property
    def live(self) -> int:
        """Live values, the expired but not yet swept among them."""
        direct, guarded = self.direct, self.guarded
        return len(direct.young) + len(direct.old) + len(guarded.young) + len(guarded.old)

    def keys(self) -> list[Key]:
        """The live keys, a snapshot."""
        return [*self.direct.old, *self.guarded.old, *self.direct.young, *self.guarded.young]

    def recent(self, count: int) -> list[Key]:
        """Up to `count` live keys of each kind that were used last, the last first (to within a generation)."""
        generations = (reversed(self.direct.young), reversed(self.guarded.young))
        return [key for generation in generations for key in islice(generation, count)]

    def shown(self, key: Key) -> object:
        """What a lookup needs of `key`: its value, its entry where that expires or is packed, or ABSENT."""
        direct, guarded = self.direct, self.guarded
        generations: tuple[Mapping[Key, object], ...] = (direct.young, guarded.young, direct.old, guarded.old)
        for generation in generations:
            if key in generation:
                return generation[key]
        return ABSENT

    def promote(self, key: Key) -> object:
        """Move `key` to the young generation: it was used. What is shown for it."""
        shown = self.shown(key)
        if shown.__class__ is tuple:
            self.guarded.show(key, cast("Entry", shown))
        elif shown is not ABSENT:
            self.direct.show(key, shown)
        return shown

    def show(self, key: Key, entry: Entry) -> None:
        """Put a live entry into the young generation of its kind."""
        value = entry[VALUE]
        if entry[EXPIRES] or value.__class__ is Packed:
            self.guarded.show(key, entry)
            self.direct.hide(key)
        else:
            self.direct.show(key, value)
            self.guarded.hide(key)

    def hide(self, key: Key) -> bool:
        """Take a key out of the generations; its entry stays: expired, until D2 lets it die, or evicted."""
        direct = self.direct.hide(key)
        return self.guarded.hide(key) or direct

    def hide_all(self) -> None:
        """Take every key out of the generations (a clear: what survives it is shown again)."""
        self.direct.clear()
        self.guarded.clear()

    def replace(self, key: Key, entry: Entry | None, old: Entry | None) -> None:
        """Put `entry` (None: forget the key) in the place of `old`, which is what the map holds."""
        if entry is None:
            if old is None:
                return
            cost = INDEX_BYTES + weight(key) + weight(old[VALUE])
            del self.entries[key]
            self.bytes -= cost
            self.hide(key)
            return
        value = entry[VALUE]
        # First what may fail (a stack that is full): entries and bytes change together or not at all.
        cost = weight(value) - weight(old[VALUE]) if old is not None else INDEX_BYTES + weight(key) + weight(value)
        self.entries[key] = entry
        self.bytes += cost
        if entry[STATE] == LIVE:
            self.show(key, entry)
        elif old is not None and old[STATE] == LIVE:
            self.hide(key)
        expires = entry[EXPIRES]
        if expires and entry[STATE] != DEAD:
            self.expiring.add(key, expires, old[EXPIRES] if old is not None and old[STATE] != DEAD else 0)

    def rest(self) -> None:
        """Make everything old, so that no lookup finds it young."""
        self.direct.turn()
        self.guarded.turn()

    def rebuild(self, buffered: Mapping[Key, int], shows: Callable[[Key, Entry], bool]) -> None:
        """Sums, expiry and generations from the entries: of the live ones, those that `shows` says are shown.

        The values of `buffered` keys are in the young generation and nowhere else: they stay.
        """
        young = self.direct.young
        for key in [key for key in young if key not in buffered]:
            del young[key]
        self.direct.old.clear()
        self.guarded.clear()
        self.expiring = Wheel()
        self.bytes = 0
        for key, entry in self.entries.items():
            self.bytes += INDEX_BYTES + weight(key) + weight(entry[VALUE])
            if entry[STATE] == LIVE and key not in buffered and shows(key, entry):
                self.show(key, entry)
            if entry[EXPIRES] and entry[STATE] != DEAD:
                self.expiring.add(key, entry[EXPIRES])

    def over(self) -> bool:
        """Whether a live value should be evicted."""
        if self.maxsize is not None and self.live > self.maxsize:
            return True
        return self.crowded() and self.live > 0

    def crowded(self) -> bool:
        """Whether values and index together take more than they may."""
        return self.max_bytes is not None and self.bytes > self.max_bytes

    def oldest(self) -> Key:
        """The live key that was used least recently (to within a generation); there is one.

        Both kinds grow old together: first goes what stands further ahead in the old generation of its kind.
        """
        direct, guarded = self.direct, self.guarded
        if not direct.old and not guarded.old:
            direct.turn()
            guarded.turn()
        ahead = direct.place() - guarded.place()
        if not ahead:
            ahead = self.entries[direct.oldest()][STAMP] - self.entries[guarded.oldest()][STAMP]
        return (guarded if ahead > 0 else direct).oldest()

    def check(self) -> None:
        """AssertionError unless sums and generations agree with the entries."""
        sums = sum([INDEX_BYTES + weight(key) + weight(entry[VALUE]) for key, entry in self.entries.items()])
        assert self.bytes == sums, f"byte accounting: {self.bytes} counted, {sums} held"
        assert len(set(self.keys())) == self.live, "a key in two generations"
        for key in self.keys():
            entry = self.entries[key]
            assert entry[STATE] == LIVE, f"{key!r} is shown in state {entry[STATE]}"
            assert self.shown(key) is (entry if entry[EXPIRES] or entry[VALUE].__class__ is Packed else entry[VALUE])
