"""The only place that reads a clock: wall time for stamps and leases, monotonic time for timers.

Decision: both are read together, once per operation, and handed down as one `Reading`; the functions are looked
up in `time` at each use, never bound at import, so that a test that freezes or shifts `time` freezes the cache
too. The refused alternative, `from time import time_ns`, is a little faster and quietly ignores such tests.
Monotonic time stands still in a suspended machine; what depends on it only happens later, never wrongly.
"""

from __future__ import annotations

import time
from typing import Protocol

from crdtcache.core.clock import Reading

__all__ = ["SystemClock", "TimeSource"]


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
