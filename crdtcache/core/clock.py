"""A stamp orders all writes of the cluster; a clock makes stamps never behind what it has heard.

A stamp is 64 bits of hybrid logical time: Unix milliseconds << 16, and a 16-bit counter that borrows the
next millisecond when it overflows. Time is never read here: each call brings a `Reading`. A stamp too far
ahead of local time is parked (wait, it may come true) or rejected (somebody's clock is broken), so that a
poisoned stamp stops at the first honest hop. The refused alternative is to follow whatever is heard, as a
plain hybrid clock does: then one bad clock moves every clock of the cluster, for good.
Source: Kulkarni et al., "Logical Physical Clocks" (2014); DESIGN section 11.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

__all__ = ["COUNTER_BITS", "NEVER", "Clock", "Guard", "Reading", "stamp_ms"]

COUNTER_BITS = 16
NEVER = 1 << 63
"""A monotonic time, in ns, that does not come."""


class Reading(NamedTuple):
    """One look at both clocks, taken once per operation: `wall_ms` Unix ms, `mono_ns` monotonic ns."""

    wall_ms: int
    mono_ns: int


class Guard(IntEnum):
    """What the drift guard says of a stamp that arrived."""

    ACCEPT = 0
    PARK = 1
    REJECT = 2


def stamp_ms(stamp: int) -> int:
    """The Unix milliseconds in `stamp`."""
    return stamp >> COUNTER_BITS


class Clock:
    """Makes stamps that are strictly greater than everything issued or accepted before.

    `last` is the greatest stamp issued, accepted, or announced as the `now` of an own row.
    """

    __slots__ = ("_drift", "_reject", "last")

    def __init__(self, max_drift_ms: int, reject_ms: int, last: int = 0) -> None:
        self._drift = max_drift_ms
        self._reject = reject_ms
        self.last = last

    def issue(self, wall_ms: int, above: int = 0) -> int:
        """A new stamp, greater than `last` and than `above` (a stamp that the writer could see)."""
        stamp = self.last + 1
        wall = wall_ms << COUNTER_BITS
        if wall > stamp:
            stamp = wall
        if above >= stamp:
            stamp = above + 1
        self.last = stamp
        return stamp

    def announce(self, wall_ms: int) -> int:
        """The `now` of an own row: announcing issues it, so no later write is at or below it."""
        wall = wall_ms << COUNTER_BITS
        if wall > self.last:
            self.last = wall
        return self.last

    def judge(self, stamp: int, wall_ms: int) -> Guard:
        """Whether a foreign `stamp` may be believed at local time `wall_ms`."""
        ahead = (stamp >> COUNTER_BITS) - wall_ms
        if ahead <= self._drift:
            return Guard.ACCEPT
        return Guard.PARK if ahead <= self._reject else Guard.REJECT

    def accept(self, stamp: int) -> None:
        """Note a stamp that passed the guard: nothing issued later will be at or below it."""
        if stamp > self.last:
            self.last = stamp

    def limit(self, wall_ms: int) -> int:
        """The greatest stamp that the guard accepts at `wall_ms`; no frontier passes it."""
        return ((wall_ms + self._drift + 1) << COUNTER_BITS) - 1

    def due_ms(self, stamp: int) -> int:
        """The wall time in ms at which a parked `stamp` will be accepted."""
        return (stamp >> COUNTER_BITS) - self._drift
