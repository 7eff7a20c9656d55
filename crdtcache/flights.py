"""One load per key at a time, and nobody waits for himself: single-flight for threads, asyncio and trio at once.

The first to miss a key leads: it runs the function. Whoever misses the same key meanwhile waits for the leader's
outcome: its value, or its exception. A leader that is cancelled, or whose value was outrun by a write, has no
outcome for others: then one of those who wait leads next.

Who may wait: a caller that is inside a flight (its own, its task's parent's, its worker thread's caller's, as
`contextvars` say) must not wait for a flight that waits for that one. Every wait is an edge from the flights one
is inside to the flight one waits for; a wait that would close a circle is not begun, and its caller runs the
function itself. So recursion, and two loads that need each other, end, and cost one extra run.

Decision: no future of any event loop is stored in a flight, only functions that wake a waiter from any thread,
so threads and several loops may wait for one leader. The refused alternative, a lock per key, deadlocks when
the function calls itself, and knows nothing of a cancelled owner.

One wait cannot be seen: a function that starts a bare `threading.Thread` (which inherits no context) and joins
it, where that thread wants the same key. `single_flight=False` is for such functions.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from enum import Enum

from crdtcache.arguments import MISSING
from crdtcache.loops import event_loop, sleeper

__all__ = ["Flight", "Flights"]

_inside: ContextVar[tuple[Flight, ...]] = ContextVar("crdtcache_flights", default=())
# One for the process: circles may run through the functions of several nodes. Held for a few steps only.
_lock = threading.RLock()  # as a fork enters it once per node


class _Join(Enum):
    """What came of the wish to wait."""

    WAITING = 0
    ENDED = 1
    CIRCLE = 2


class Flight:
    """One run of a function for one key. `thread` is the leader's if it is a plain call: it cannot be elsewhere."""

    __slots__ = ("_error", "_read", "_wakers", "ended", "thread", "waits_for")

    def __init__(self, thread: int | None) -> None:
        self.thread = thread
        self.ended = False
        self._read: Callable[[], object] | None = None
        self._error: Exception | None = None
        self._wakers: list[Callable[[], None]] = []
        self.waits_for: list[Flight] = []

    def land(self, read: Callable[[], object]) -> None:
        """The leader has a value: `read` gives every waiter a copy of its own."""
        self._read = read

    def outcome(self) -> object:
        """What the leader had: its value, its exception raised, or MISSING where it had none for others."""
        if self._error is not None:
            raise self._error
        return self._read() if self._read is not None else MISSING

    def wait(self) -> bool:
        """Block this thread until the flight has ended; False, at once, where that might be for ever."""
        if self.thread == threading.get_ident() or event_loop() is not None:
            # The leader is further up on this very stack; or it may need the loop that would stand still here.
            return False
        landed = threading.Event()
        with self._waiting(landed.set) as joined:
            if joined is _Join.WAITING:
                landed.wait()
        return joined is not _Join.CIRCLE

    async def await_(self) -> bool:
        """Await the end of the flight in trio or asyncio; False, at once, where that might be for ever."""
        wake, asleep = sleeper()
        with self._waiting(wake) as joined:
            if joined is _Join.WAITING:
                await asleep()
        return joined is not _Join.CIRCLE

    @contextlib.contextmanager
    def _waiting(self, wake: Callable[[], None]) -> Iterator[_Join]:
        inside = [flight for flight in _inside.get() if not flight.ended]
        with _lock:
            if self.ended:
                joined = _Join.ENDED
            elif self._needs(inside):
                joined = _Join.CIRCLE
            else:
                joined = _Join.WAITING
                self._wakers.append(wake)
                for flight in inside:
                    flight.waits_for.append(self)
        try:
            yield joined
        finally:
            if joined is _Join.WAITING:
                with _lock:
                    for flight in inside:
                        flight.waits_for.remove(self)
                    if wake in self._wakers:
                        self._wakers.remove(wake)

    def _needs(self, flights: list[Flight]) -> bool:
        """Whether this flight is one of `flights` or waits, over any number of others, for one of them."""
        seen: list[Flight] = []
        ahead = [self]
        while ahead:
            flight = ahead.pop()
            if flight in flights:
                return True
            if flight not in seen:
                seen.append(flight)
                ahead.extend(flight.waits_for)
        return False

    def end(self, error: Exception | None) -> None:
        """The leader is through, or has given up; everybody who waits is woken, in whatever thread and loop."""
        with _lock:
            self.ended = True
            self._error = error
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()


class Flights:
    """The flights of one node, by key. `still` is what a fork enters: no flight is half changed then."""

    still = _lock

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Flight] = {}

    def renew(self) -> None:
        """In a forked child: those who fly are not here any more."""
        self._by_key.clear()

    def keys(self) -> list[Hashable]:
        """The keys that are being loaded just now."""
        with _lock:
            return list(self._by_key)

    def board(self, key: Hashable, *, plain: bool) -> tuple[Flight, bool]:
        """The flight of `key`, and whether the caller leads it (then `lead` must follow). `plain`: no coroutine."""
        with _lock:
            flight = self._by_key.get(key)
            if flight is not None:
                return flight, False
            flight = self._by_key[key] = Flight(threading.get_ident() if plain else None)
            return flight, True

    @contextlib.contextmanager
    def lead(self, key: Hashable, flight: Flight) -> Iterator[None]:
        """The body is the flight. What it raises is the outcome, unless it was cancelled or interrupted."""
        token = _inside.set((*_inside.get(), flight))
        error: Exception | None = None
        try:
            yield
        except Exception as failure:
            error = failure
            raise
        finally:
            with contextlib.suppress(ValueError):  # a coroutine that was dropped ends in somebody else's context
                _inside.reset(token)
            with _lock:
                self._by_key.pop(key, None)
            flight.end(error)
