"""The clock of the tests of nodes: the package's own, from a moment that tests may name."""

from __future__ import annotations

from crdtcache import testing

__all__ = ["START_MS", "FakeClock"]

START_MS = 1_800_000_000_000


class FakeClock(testing.FakeClock):
    """Stands still between ticks."""

    def __init__(self) -> None:
        super().__init__(START_MS / 1_000)

    @property
    def ms(self) -> int:
        """Unix ms."""
        return self.reading().wall_ms

    def tick(self, seconds: float) -> None:
        """Let time pass; below zero, as for somebody who sets the clock back."""
        self._ticked_ms += round(seconds * 1_000)
