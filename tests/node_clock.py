"""A clock for nodes that stands still until a test moves it."""

from __future__ import annotations

from crdtcache.core.clock import Reading

__all__ = ["START_MS", "FakeClock"]

START_MS = 1_800_000_000_000


class FakeClock:
    """Wall and monotonic time, moved together by `tick`."""

    def __init__(self) -> None:
        self.ms = START_MS

    def reading(self) -> Reading:
        """The time of the test."""
        return Reading(self.ms, (self.ms - START_MS + 1_000) * 1_000_000)

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.ms += round(seconds * 1_000)
