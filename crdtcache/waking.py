"""Whom a write wakes: the driver, as far as a write knows it, or what stands in its place until the first use.

Decision: an object with a flag, not an event: a write looks at one attribute and goes on, and calls only where
somebody sleeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Waiter", "Wakeable"]


class Wakeable(Protocol):
    """The driver, as far as a write needs it."""

    asleep: bool

    def wake(self) -> None:
        """There may be something to send."""
        ...

    def soon(self, call: Callable[[], object]) -> None:
        """Make this call in the driver's own thread, between two steps. Safe in a finalizer."""
        ...


class Waiter:
    """In the place of a driver: the first write that would wake it wakes what waits."""

    asleep = True

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    def soon(self, call: Callable[[], object]) -> None:
        """Nobody runs; the next change makes it."""
