"""The clocks of a machine: a wall clock that drifts, steps, freezes and lies, and a monotonic one that does not.

True time is the engine's. The wall clock is a line from its last change: `value + elapsed x rate`; a freeze is
the rate zero. The monotonic clock has an offset of its own, so that mixing two machines' clocks shows at once.

Decision: exact integers, so that a clock is the same function on every platform.
"""

from __future__ import annotations

from crdtcache.core.clock import Reading
from sim.engine import MS

__all__ = ["EPOCH_MS", "MachineClock"]

EPOCH_MS = 1_700_000_000_000
"""The Unix time, in ms, at which every simulated world begins."""

_MILLION = 1_000_000


class MachineClock:
    """The clocks of one machine; they outlive its processes."""

    __slots__ = ("_base", "_mono", "_rate", "_read", "_since")

    def __init__(self, number: int, offset_ms: int = 0, drift_ppm: int = 0) -> None:
        self._since = 0
        self._base = (EPOCH_MS + offset_ms) * MS
        self._rate = _MILLION + drift_ppm
        self._mono = (number + 1) * 7_777 * 1_000 * MS
        self._read: tuple[int, Reading] = (-1, Reading(0, 0))  # an instant is read many times

    def reading(self, now: int) -> Reading:
        """Both clocks at true time `now` (ns)."""
        if self._read[0] == now:
            return self._read[1]
        wall = (self._base + (now - self._since) * self._rate // _MILLION) // MS
        self._read = now, Reading(wall, self._mono + now)
        return self._read[1]

    def true_ns(self, mono_ns: int) -> int:
        """The true time at which the monotonic clock shows `mono_ns`."""
        return mono_ns - self._mono

    def error_ms(self, now: int) -> int:
        """How far the wall clock is ahead of true time, without counting as a look at it."""
        return (self._base + (now - self._since) * self._rate // _MILLION) // MS - (EPOCH_MS + now // MS)

    def step(self, now: int, by_ms: int) -> None:
        """Somebody sets the clock."""
        self._settle(now)
        self._base += by_ms * MS

    def set_right(self, now: int) -> None:
        """Somebody sets the clock to the true time."""
        self._settle(now)
        self._base = EPOCH_MS * MS + now

    def drift(self, now: int, ppm: int) -> None:
        """From now on the clock gains `ppm` microseconds per second; -1,000,000 freezes it."""
        self._settle(now)
        self._rate = _MILLION + ppm

    def _settle(self, now: int) -> None:
        self._base += (now - self._since) * self._rate // _MILLION
        self._since = now
        self._read = (-1, self._read[1])
