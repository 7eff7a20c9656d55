"""A node's life: in a nursery of the caller's trio run, or in a thread of its own; started, closed, started again.

    trio      async with node      the driver runs in a nursery around the block
    asyncio   async with node      a private daemon thread runs trio; the caller's loop only waits for it
    threads   with node, start()   the same thread

Nothing here knows the network: it waits for a port to open and for a thread to end, both bounded, so `start()`
and `with` may be used inside an event loop (a notebook's) too. trio is imported by the first start, not before.

Decision: the mode is found out when the block is entered, not configured: one class, and the same three lines of a
quick start everywhere. `thread=True` asks for the thread in trio as well: an application that keeps its loop
busy for long would keep the node waiting.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from crdtcache.errors import ConfigError, WouldBlock
from crdtcache.flights import Flights
from crdtcache.forks import watch_forks
from crdtcache.loops import event_loop

if TYPE_CHECKING:
    from trio.lowlevel import TrioToken

    from crdtcache.runtime.driver import Driver
    from crdtcache.runtime.thread import NetworkThread

__all__ = ["Life"]


class Life:
    """Starts and ends the driver of one node. `make` makes a driver; `attach` is told which one writes must wake.

    `share`: what a fork does to a node that runs; `renew`: to the child's, given where its parent listens if that ran.
    `lock`: the node's.

    `thread`: True for the thread always, False for never, None to decide by where the node is entered. `switch_s`: how
    long a busy thread keeps this process's other threads waiting while the node's runs; 0 to leave that as it is.
    """

    def __init__(
        self,
        make: Callable[[], Driver],
        attach: Callable[[Driver | None], None],
        share: Callable[[], None],
        renew: Callable[[str | None], None],
        lock: AbstractContextManager[object],
        name: str,
        thread: bool | None,
        switch_s: float,
    ) -> None:
        self.driver: Driver | None = None
        self.began = False  # whether it ever ran
        self._make = make
        self._attach = attach
        self._share = share
        self._renew = renew
        self._lock = lock
        self._name = name
        self._mode = thread
        self._switch_s = switch_s
        self._switched_s = 0.0  # what the interval was before
        self._turn = threading.RLock()  # one start or close at a time
        self._thread: NetworkThread | None = None
        self._block: AbstractAsyncContextManager[None] | None = None
        self._token: TrioToken | None = None  # of the trio run that the block is in
        watch_forks(self)

    @property
    def running(self) -> bool:
        """Whether a driver serves."""
        if self._thread is not None:
            return self._thread.running
        return self.driver is not None and self.driver.running

    @property
    def mode(self) -> str | None:
        """Where it runs: "trio" in a nursery of the caller's, "thread" in its own; None when it does not."""
        if not self.running:
            return None
        return "thread" if self._thread is not None else "trio"

    def _prepare(self) -> Driver:
        # Attached before it runs: a local call that keeps house would take the driver's effects away.
        self.driver = self._make()
        self._attach(self.driver)
        self.began = True
        return self.driver

    def _forget(self) -> None:
        self._attach(None)
        self.driver = self._thread = None
        if self._switched_s:
            sys.setswitchinterval(self._switched_s)
            self._switched_s = 0.0

    # ---- forks (`forks`) ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Nothing of this node is half changed meanwhile."""
        with self._lock, Flights.still:
            if self.driver is not None:
                self._share()  # the child will call this process, with all that is here
            yield

    def after_fork(self) -> None:
        """In a forked child: let go of what only the parent has, and become another."""
        driver, ran = self.driver, self._thread is not None
        self._turn = threading.RLock()
        self._block = self._token = self._thread = self.driver = None
        if driver is not None:
            driver.abandon()
        self._renew(driver.address if driver is not None and ran else None)

    # ---- in a thread of its own -----------------------------------------------------------------------------------

    def start(self, timeout: float) -> None:
        """Start the thread; returns when it listens. Nothing happens where the node runs already."""
        with self._turn:
            if self.running:
                return
            if self._mode is False:
                raise ConfigError("thread=False: such a node runs only by `async with node` inside trio")
            _check_select()
            from crdtcache.runtime.thread import NetworkThread

            thread = NetworkThread(self._prepare(), f"crdtcache {self._name}")
            self._thread = thread
            try:
                thread.start(timeout)
            except BaseException:
                self._forget()
                raise
            if self._switch_s:
                self._switched_s = sys.getswitchinterval()
                sys.setswitchinterval(self._switch_s)

    def close(self, timeout: float) -> None:
        """End the driver, wherever it runs; at most `timeout` seconds. Nothing happens where none does."""
        with self._turn:
            if self._thread is not None:
                try:
                    self._thread.close(timeout)
                finally:
                    self._forget()
            elif self.driver is not None:
                if event_loop() == "trio":
                    raise WouldBlock("this node runs in a nursery of this trio run; use `await node.aclose()`")
                import trio

                with contextlib.suppress(trio.RunFinishedError):
                    trio.from_thread.run(self._stop, trio_token=self._token)

    # ---- in an event loop -----------------------------------------------------------------------------------------

    async def enter(self, limit_s: float) -> None:
        """Start where the caller runs: in a nursery of trio's, or, without blocking the loop, in the thread."""
        if self.running:
            return
        if event_loop() != "trio" or self._mode is True:
            await _aside(lambda: self.start(limit_s), lambda: self.close(limit_s))
            return
        import trio

        from crdtcache.runtime.thread import running

        self._token = trio.lowlevel.current_trio_token()
        block = running(self._prepare())
        self._block = block
        try:
            await block.__aenter__()
        except BaseException:
            self._block = None
            self._forget()
            raise

    async def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, limit_s: float
    ) -> bool | None:
        """The end of an `async with`; the body's exception comes out as it is."""
        block, self._block = self._block, None
        try:
            return await block.__aexit__(kind, error, trace) if block is not None else None
        finally:
            if self._thread is not None:
                await _aside(lambda: self.close(limit_s))
            else:
                self._forget()

    async def aclose(self, limit_s: float) -> None:
        """As `close`; the block of an `async with` goes on, with a node that is only local."""
        if self._thread is None and self.driver is not None and event_loop() == "trio":
            await self._stop()
        else:
            await _aside(lambda: self.close(limit_s))

    async def _stop(self) -> None:
        """End the driver that runs in a block; the block itself goes on to its end."""
        import trio

        driver = self.driver
        if driver is not None:
            await driver.stop()
            while driver.running:  # it has been cancelled, and closes its sockets
                await trio.lowlevel.checkpoint()
            self._forget()


def _check_select() -> None:
    """Raises `ConfigError` where the system's own way to wait for sockets has been taken away."""
    import select

    if sys.platform == "linux" and not hasattr(select, "epoll"):
        raise ConfigError(
            "select.epoll is gone, as after gevent.monkey.patch_all(): a node cannot wait for sockets in this process. "
            "Run it beside the application, `crdtcache serve`, or use it without start(), for this process alone"
        )


async def _aside(work: Callable[[], None], undo: Callable[[], None] | None = None) -> None:
    """Run a short blocking call in a worker thread. A start that is cancelled is waited for and undone."""
    if event_loop() == "trio":
        import trio

        with trio.CancelScope(shield=True):  # it is short, and the end of a cancelled block must not be skipped
            await trio.to_thread.run_sync(work)
        return
    import asyncio

    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        if undo is not None and doing.exception() is None:
            await asyncio.to_thread(undo)
        raise
