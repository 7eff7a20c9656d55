"""Calls that interrupt this very thread in the middle of a change: from a `__del__`, or from a signal handler.

The cyclic collector runs finalizers wherever something is allocated, also under the lock of a node, and then the thread
that would wait for the lock is the one that holds it. So the lock may be taken again by its holder (a lookup finds
what is there), and a change is postponed until the one that it interrupts is through: it returns what it would
return for a key that is not here. Plain sets of scalars need no waiting: they only fill the buffer (`core.writing`).

Decision: postponed, not refused. An exception in a `__del__` is printed and lost, and with it the write.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, cast

__all__ = ["Postponed", "postponed"]

log = logging.getLogger("crdtcache")

F = TypeVar("F", bound=Callable[..., Any])


class Postponed:
    """What is still to be done, in order. `owned`: whether the calling thread holds the lock already."""

    __slots__ = ("_calls", "_catching_up", "owned")

    def __init__(self, owned: Callable[[], bool]) -> None:
        self.owned = owned
        self._calls: deque[Callable[[], object]] = deque()
        self._catching_up = False

    def __bool__(self) -> bool:
        return bool(self._calls)

    def renew(self) -> None:
        """In a forked child: whoever was catching up is not here any more. What waits is still to be done here too."""
        self._catching_up = False

    def add(self, call: Callable[[], object]) -> None:
        """Do it later."""
        self._calls.append(call)

    def catch_up(self) -> None:
        """Do all of it, unless this is an interruption itself. What fails is logged: its caller is long gone."""
        if self._catching_up:
            return  # each call ends here; one loop makes them all
        self._catching_up = True
        try:
            while self._calls and not self.owned():
                call = self._calls.popleft()
                try:
                    call()
                except Exception:
                    log.exception("a call of a finalizer or signal handler failed")
        finally:
            self._catching_up = False


def postponed(instead: object) -> Callable[[F], F]:
    """Decorator for a method that changes the map: an interruption gets `instead`, and is served afterwards."""

    def decorate(method: F) -> F:
        @functools.wraps(method)
        def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self._postponed.owned():
                self._postpone(lambda: method(self, *args, **kwargs))
                return instead
            return method(self, *args, **kwargs)

        return cast("F", guarded)

    return decorate
