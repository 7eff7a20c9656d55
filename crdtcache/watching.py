"""Watching: events as something to iterate over, in a thread, trio or asyncio.

Decision: a buffer that drops its oldest event and counts it, because there are only three ways with a reader who
is slower than the writers, and the other two stop the node's thread or take all memory. Who must not miss one
uses a handler (`on`), or looks at `dropped` and reads the cache again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType

from crdtcache.events import Event, Handler, Subscription
from crdtcache.loops import refuse_loop, sleeper

__all__ = ["Watch"]


class Watch(Iterator[Event], AsyncIterator[Event]):
    """Events from its creation on, to be taken with `for` or `async for`, until it or its node is closed.

    `dropped`: how many were thrown away because nobody took them in time. `close()` lets those end who wait, after
    what is buffered; `with` closes it too. Several may iterate at once: each event goes to one of them.
    """

    __slots__ = ("_closed", "_events", "_lock", "_subscription", "_wakers", "dropped")

    def __init__(self, subscribe: Callable[[Handler], Subscription], buffer: int) -> None:
        if buffer < 1:
            raise ValueError(f"buffer={buffer!r}: a number of events, at least 1")
        self.dropped = 0
        self._events: deque[Event] = deque(maxlen=buffer)
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], None]] = []
        self._closed = False
        self._subscription = subscribe(self._take)
        self._subscription.at_end = self.close

    def _take(self, event: Event) -> None:
        with self._lock:
            self.dropped += len(self._events) == self._events.maxlen
            self._events.append(event)
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def close(self) -> None:
        """No event is taken in any more; who waits ends. May be called twice."""
        self._subscription.close()
        with self._lock:
            self._closed = True
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def _next(self, wake: Callable[[], None]) -> Event | None:
        """An event, or None: then either all is over, or `wake` will be called."""
        with self._lock:
            if self._events:
                return self._events.popleft()
            if not self._closed:
                self._wakers.append(wake)
            return None

    def _forget(self, wake: Callable[[], None]) -> None:
        with self._lock:
            if wake in self._wakers:
                self._wakers.remove(wake)

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Event:
        """The next event; waits for it. Raises `WouldBlock` in an event loop: there it is `async for`."""
        refuse_loop("for event in watch", "async for")
        while True:
            came = threading.Event()
            event = self._next(came.set)
            if event is not None:
                return event
            if self._closed:
                raise StopIteration
            try:
                came.wait()
            finally:
                self._forget(came.set)

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Event:
        """The next event; waits for it in trio or asyncio."""
        while True:
            wake, asleep = sleeper()
            event = self._next(wake)
            if event is not None:
                return event
            if self._closed:
                raise StopAsyncIteration
            try:
                await asleep()
            finally:
                self._forget(wake)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
