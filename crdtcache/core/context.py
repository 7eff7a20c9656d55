"""What this replica has accounted for: a frontier per origin, and dots for single versions beyond it.

`frontier[o] = s` says that every write of `o` up to `s` is held here, or beaten by something held, or
removed by something accounted for. That one structure buys an exact in-sync test, gap repair in one round
trip, "known dead" without tombstones, and their collection.

Origins whose processes are gone are pruned one day (`removal.prune`). Whoever has no row here is accounted for up to
the prune mark, so that what such a process had written is no news for whoever missed its removal.

Decision: a frontier moves only by C1..C4 (see `crdtcache.core`), never because single versions happen to
touch it. The refused alternative, a version vector that absorbs its dots, once lost a write in a model of
this design: a frontier that grows without its log being complete promises slices it cannot make.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from xxhash import xxh3_64_intdigest

from crdtcache.core.messages import Row

__all__ = ["Context"]


class Context:
    """`frontier`, `last`, dots, the `clear_mark` and the `prune_mark` of one replica."""

    __slots__ = ("_dots", "cap", "clear_mark", "frontier", "last", "prune_mark")

    def __init__(self, dots_per_origin: int) -> None:
        self.frontier: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.clear_mark: tuple[int, int] = (0, 0)
        self.prune_mark = 0  # a stamp
        self._dots: dict[int, dict[int, None]] = {}
        self.cap = dots_per_origin  # of the dots of one origin

    def covers(self, stamp: int, origin: int) -> bool:
        """Whether the version is accounted for by the context alone, held or not."""
        if stamp <= self.frontier.get(origin, self.prune_mark) or (stamp, origin) <= self.clear_mark:
            return True
        dots = self._dots.get(origin)
        return dots is not None and stamp in dots

    def has_room(self, stamp: int, origin: int) -> bool:
        """Whether `leave_dot` would stay within the cap of `origin`."""
        return self.covers(stamp, origin) or len(self._dots.get(origin, ())) < self.cap

    def leave_dot(self, stamp: int, origin: int) -> None:
        """Cover one version, by a dot where the frontier does not reach it."""
        if not self.covers(stamp, origin):
            self._dots.setdefault(origin, {})[stamp] = None
            self.know(origin)

    def reach(self, origin: int) -> int:
        """Up to where `origin` is accounted for."""
        return self.frontier.get(origin, self.prune_mark)

    def know(self, origin: int) -> None:
        """Give `origin` a row, if it has none: it may have written until the prune mark, which only others can tell."""
        if origin not in self.frontier:
            self.frontier[origin] = self.prune_mark
            if self.prune_mark:
                self.last[origin] = self.prune_mark

    def ends(self, origin: int) -> int:
        """The greatest stamp of `origin` that is accounted for, dots included."""
        return max(self.frontier[origin], *self._dots.get(origin, ()), 0)

    def prune(self, origins: Iterable[int], mark: int) -> None:
        """Drop these rows, of which nothing lies beyond `mark`."""
        for origin in origins:
            del self.frontier[origin]
            self.last.pop(origin, None)
            self._dots.pop(origin, None)
        self.prune_mark = max(self.prune_mark, mark)

    def advance(self, origin: int, to: int) -> None:
        """Raise the frontier of `origin`; the dots that it passes are no longer needed."""
        if to <= self.reach(origin):
            return
        self.frontier[origin] = to
        dots = self._dots.get(origin)
        if dots:
            beyond = {stamp: None for stamp in dots if stamp > to}
            if beyond:
                self._dots[origin] = beyond
            else:
                del self._dots[origin]

    def clear(self) -> None:
        """Account for nothing any more. All origins stay known: the low watermark waits for them."""
        for origin in self.frontier:
            self.frontier[origin] = 0
        self.last.clear()
        self._dots.clear()
        self.prune_mark = 0

    def note_last(self, origin: int, last: int) -> None:
        """Raise the last write of `origin`, only as far as its frontier reaches (design section 5, C4)."""
        last = min(last, self.frontier.get(origin, 0))
        if last > self.last.get(origin, 0):
            self.last[origin] = last

    def apply_row(self, row: Row, limit: int) -> bool:
        """C4: take over `now` where nothing was missed. Returns whether the frontier reaches `row.last`.

        `limit` is the greatest stamp the drift guard accepts; no frontier passes it.
        """
        if row.origin not in self.frontier:
            if self.prune_mark and row.now <= self.prune_mark:
                return True  # it was pruned here
            # Known from now on, also where nothing of it is here yet: the low watermark must wait for it.
            self.know(row.origin)
        frontier = self.frontier[row.origin]
        if frontier < row.last:
            return False
        now = min(row.now, limit)
        if now > frontier:
            self.advance(row.origin, now)
        self.note_last(row.origin, row.last)
        return True

    def rows(self, said: Mapping[int, int] = MappingProxyType({})) -> list[Row]:
        """One row per known origin, but for those that were `said`: what this replica may promise about it."""
        last, before = self.last, said.get
        return [Row(origin, last.get(origin, 0), now) for origin, now in self.frontier.items() if before(origin) != now]

    def lasts(self, after: int) -> int:
        """A hash over each last write after a stamp: equal where neither side has missed one that the other knows."""
        flat = [number for row in sorted(self.last.items()) if row[1] > after for number in row]
        return xxh3_64_intdigest(struct.pack(f">{len(flat)}Q", *flat))

    def dot_count(self) -> int:
        """Dots in all: bounded by the cap times the origins that have a gap."""
        return sum(map(len, self._dots.values()))

    def check(self, own: int) -> None:
        """AssertionError unless every dot lies beyond its frontier and no `last` does."""
        for origin, dots in self._dots.items():
            assert dots, f"empty dots of {origin:016x}"
            assert min(dots) > self.frontier.get(origin, 0), f"a dot of {origin:016x} within its frontier"
            assert origin != own, "an own write beyond the own frontier"
        for origin, last in self.last.items():
            assert last <= self.frontier[origin], f"last of {origin:016x} beyond its frontier"
