"""The only place that reads a clock: wall time for stamps and leases, monotonic time for timers.

Decision: both are read together, once per operation, and handed down as one `Reading`; the functions are looked
up in `time` at each use, never bound at import, so that a test that freezes or shifts `time` freezes the cache
too. The refused alternative, `from time import time_ns`, is a little faster and quietly ignores such tests.
Monotonic time stands still in a suspended machine; what depends on it only happens later, never wrongly.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from crdtcache.core.clock import Reading
from crdtcache.core.correction import Correction

__all__ = ["CorrectedClock", "SystemClock", "TimeSource"]


class TimeSource(Protocol):
    """Anything with a `reading()`: the system's clocks, or those of a test."""

    def reading(self) -> Reading:
        """One look at both clocks: Unix ms, and monotonic ns that never go back."""
        ...


class SystemClock:
    """The clocks of this machine."""

    __slots__ = ()

    def wall_ms(self) -> int:
        """The wall clock alone, Unix ms: for reads of what expires, and for plain writes."""
        return time.time_ns() // 1_000_000

    def reading(self) -> Reading:
        """One look at both clocks: Unix ms, and monotonic ns."""
        return Reading(time.time_ns() // 1_000_000, time.monotonic_ns())


class CorrectedClock:
    """A clock as the replica corrects it by those of its peers: what stamps, leases and reads go by."""

    __slots__ = ("_now", "_source", "wall_ms")

    def __init__(self, source: TimeSource, correction: Correction) -> None:
        self._source = source
        self._now = correction.now
        #: The wall clock alone, Unix ms
        self.wall_ms: Callable[[], int]
        if isinstance(source, SystemClock):
            # One call less for each plain write, and for each hit of what expires.
            self.wall_ms = lambda: time.time_ns() // 1_000_000 + correction.state[1]
        else:
            self.wall_ms = lambda: source.reading().wall_ms + correction.state[1]

    def reading(self) -> Reading:
        """One look at both clocks, corrected."""
        return self._now(self._source.reading())
