"""The recent writes of each origin as `(stamp, key, base)`, and the part of them after a stamp.

Records of an origin are complete on `(floor, frontier]`. `base` is None for a write and the touched version
for a touch; a clear is a record without a key. A slice carries state, never history: ten overwrites of one
key travel once, as the entry held now. So a record that came in a slice may stand for earlier writes of its
key, as far back as `since`: whoever cuts a slice may not cut between the two, or a frontier passes a write of
which nothing has come (random schedules found a replica that had accounted for an overwrite and still
showed what it had overwritten).

Decision: columns of references instead of record objects (16 bytes a record instead of about 90), one cap
for all origins together, oldest first. The refused alternative is a queue per peer: there a slow peer costs
memory; here it costs a cursor.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from crdtcache.core.entry import Key

__all__ = ["Log", "Record"]

Record = tuple[int, "Key | None", "tuple[int, int] | None", int]
"""(stamp, key, base, since): `since` is the stamp itself where the record stands for one write."""


class Column:
    __slots__ = ("bases", "floor", "keys", "sinces", "stamps")

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.keys: list[Key | None] = []
        self.bases: dict[int, tuple[int, int]] = {}
        self.sinces: dict[int, int] = {}
        self.floor = 0

    def drop(self, count: int) -> None:
        for notes in (self.bases, self.sinces):
            if notes:
                for stamp in self.stamps[:count]:
                    notes.pop(stamp, None)
        self.floor = max(self.floor, self.stamps[count - 1])
        del self.stamps[:count]
        del self.keys[:count]


class Log:
    """The logs of all origins, `cap` records together."""

    __slots__ = ("_columns", "cap", "count", "least")

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self._columns: dict[int, Column] = {}
        self.count = 0
        self.least = 0  # the prune mark: where the logs of origins begin that are new here

    def column(self, origin: int, floor: int | None = None) -> Column:
        """The records of `origin`; the same lists for ever. A new one begins at `floor`, if that is below the least."""
        column = self._columns.get(origin)
        if column is None:
            column = self._columns[origin] = Column()
            column.floor = self.least if floor is None else min(floor, self.least)
        return column

    def floor(self, origin: int) -> int:
        """Slices of `origin` can be made from this stamp on."""
        column = self._columns.get(origin)
        return column.floor if column is not None else self.least

    def append(self, origin: int, stamp: int, key: Key | None, base: tuple[int, int] | None = None) -> None:
        """Log one write, touch or (without a key) clear; `stamp` is above all logged of `origin`."""
        column = self.column(origin, stamp - 1)
        column.stamps.append(stamp)
        column.keys.append(key)
        if base is not None:
            column.bases[stamp] = base
        self.count += 1
        if self.count > self.cap:
            self.trim()

    def extend(self, origin: int, records: Iterable[Record]) -> None:
        """Log what a slice brought: sorted by stamp, all above what is logged of `origin`."""
        for stamp, key, base, since in records:
            if since < stamp:
                self.column(origin, since - 1).sinces[stamp] = since
            self.append(origin, stamp, key, base)

    def after(self, origin: int, lo: int) -> Iterator[Record]:
        """The records of `origin` above `lo`, in order. The caller has checked `lo >= floor(origin)`."""
        column = self._columns.get(origin)
        if column is None:
            return
        stamps, keys, bases, sinces = column.stamps, column.keys, column.bases, column.sinces
        for i in range(bisect_right(stamps, lo), len(stamps)):
            stamp = stamps[i]
            yield stamp, keys[i], bases.get(stamp) if bases else None, sinces.get(stamp, stamp) if sinces else stamp

    def back(self, origin: int, lo: int) -> int:
        """How far back from `lo` nothing was written: to the record before it, or to the floor."""
        column = self._columns.get(origin)
        if column is None:
            return 0
        index = bisect_right(column.stamps, lo)
        return column.stamps[index - 1] if index else min(lo, column.floor)

    def seam(self, origin: int, lo: int, hi: int) -> int:
        """Where a slice after `lo` may end: the greatest stamp up to `hi` that parts no record from what it
        stands for; where there is none, the least above `hi`.
        """
        column = self._columns.get(origin)
        if column is None or not column.sinces:
            return hi
        spans = sorted((since, stamp) for stamp, since in column.sinces.items() if stamp > lo)
        low = hi
        for since, stamp in reversed(spans):
            if since <= low < stamp:
                low = since - 1
        if low > lo:
            return low
        for since, stamp in spans:
            if since <= hi < stamp:
                hi = stamp
        return hi

    def cut(self, origin: int, floor: int) -> None:
        """Forget the records of `origin` up to `floor`: slices below it are answered TOO_OLD."""
        column = self.column(origin, floor)
        count = bisect_right(column.stamps, floor)
        if count:
            column.drop(count)
            self.count -= count
        column.floor = max(column.floor, floor)

    def clear(self) -> None:
        """Forget all records; slices begin anew."""
        self._columns.clear()
        self.count = self.least = 0

    def prune(self, origins: Iterable[int], mark: int) -> None:
        """Forget these origins; where one comes back, its log begins at `mark`."""
        for origin in origins:
            column = self._columns.pop(origin, None)
            if column is not None:
                self.count -= len(column.stamps)
        self.least = max(self.least, mark)

    def mend(self, origin: int) -> int:
        """After an interruption: drop what has no key yet, count anew. The last stamp logged of `origin`."""
        column = self.column(origin)
        del column.stamps[len(column.keys) :], column.keys[len(column.stamps) :]
        kept = dict.fromkeys(column.stamps)
        for notes in (column.bases, column.sinces):
            for stamp in [stamp for stamp in notes if stamp not in kept]:
                del notes[stamp]
        self.count = sum(len(each.stamps) for each in self._columns.values())
        return column.stamps[-1] if column.stamps else column.floor

    def trim(self) -> None:
        """Drop the oldest sixteenth, whoever wrote it."""
        excess = max(1, self.count - self.cap + self.cap // 16)
        while excess > 0:
            heads = sorted((c.stamps[0], o) for o, c in self._columns.items() if c.stamps)
            column = self._columns[heads[0][1]]
            upto = bisect_right(column.stamps, heads[1][0]) if len(heads) > 1 else len(column.stamps)
            count = min(excess, max(1, upto))
            column.drop(count)
            self.count -= count
            excess -= count

    def check(self) -> None:
        """AssertionError unless stamps ascend above the floor and the count is right."""
        assert self.count == sum(len(c.stamps) for c in self._columns.values()) <= self.cap
        for origin, column in self._columns.items():
            assert len(column.stamps) == len(column.keys)
            ascending = all(a < b for a, b in zip(column.stamps, column.stamps[1:], strict=False))
            assert ascending, f"the log of {origin:016x} is out of order"
            assert not column.stamps or column.stamps[0] > column.floor
            assert {*column.bases, *column.sinces} <= {*column.stamps}, "notes of records that are gone"
