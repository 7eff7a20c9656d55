"""Where the driver runs: in a daemon thread of its own, or in a nursery of the caller's trio run.

The thread serves asyncio, plain threads and notebooks alike: the caller's loop is never blocked and never
nested. It is a daemon so that it cannot keep a process alive, and since a daemon dies without its `finally`,
`atexit` closes it. Closing starts no thread and asks no name server: on Python 3.12 the one raises at exit, and
the other may take half a minute.

Decision: trio's guest mode inside asyncio is refused: if the host loop ends first, that thread can never run
trio again.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio

from crdtcache.errors import ConfigError
from crdtcache.runtime.driver import GOODBYE_S, Driver

__all__ = ["NetworkThread", "running"]

_log = logging.getLogger("crdtcache")


class NetworkThread:
    """Runs a driver in a private daemon thread; may be started again after it was closed.

    All methods may be called in any thread, but not concurrently with each other. `crash` is the bug that ended
    the thread, None while there was none; the thread's traceback goes to `threading.excepthook` too.
    """

    def __init__(self, driver: Driver, name: str = "crdtcache") -> None:
        self.crash: BaseException | None = None
        self._driver = driver
        self._name = name
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop = trio.Event()
        self._scope = trio.CancelScope()
        self._goodbye_s = GOODBYE_S
        self._ended = threading.Event()
        self._pid = 0

    @property
    def running(self) -> bool:
        """Whether the thread serves; False in a forked child, where there is no such thread."""
        return self._thread is not None and self._thread.is_alive() and self._pid == os.getpid()

    def start(self, timeout: float = 5.0) -> None:
        """Start the thread and wait, at most `timeout` seconds, until it listens; at once if it runs already.

        Raises `ConfigError` where it cannot listen; then nothing was started.
        """
        if self.running:
            return
        self.crash = None
        self._pid = os.getpid()
        self._stop = trio.Event()
        self._scope = trio.CancelScope()
        self._ended.clear()
        ready = threading.Event()
        failures: list[ConfigError] = []
        self._thread = threading.Thread(target=self._main, args=(ready, failures), name=self._name, daemon=True)
        self._thread.start()
        if ready.wait(timeout) and not failures and self.crash is None:
            atexit.register(self._at_exit)
            return
        self._call(self._scope.cancel)
        self._thread.join(0.5)
        self._thread = None
        if failures:
            raise failures[0]
        if self.crash is not None:
            raise self.crash
        raise ConfigError(f"the node did not listen within timeout={timeout:g} s")

    def close(self, timeout: float = 2.0) -> None:
        """Say goodbye and end the thread; returns after at most `timeout` seconds. Calling it again does nothing.

        What was written before is given some of that time to leave, 0.8 of the usual 2 s.
        """
        thread, self._thread = self._thread, None
        atexit.unregister(self._at_exit)
        if thread is None or self._pid != os.getpid() or thread is threading.current_thread():
            return
        self._goodbye_s = timeout * GOODBYE_S / 2.0
        self._call(self._stop.set)
        thread.join(timeout)
        if thread.is_alive():
            _log.warning("the network thread did not end within %g s and is left behind", timeout)

    def _at_exit(self) -> None:
        """As `close`, also where the process is told so once more: gunicorn tells workers what a terminal told them."""
        try:
            self.close()
        except (SystemExit, KeyboardInterrupt):
            with suppress(SystemExit, KeyboardInterrupt):
                self._ended.wait(GOODBYE_S)  # no join: Python 3.11 takes a thread for ended once a join was interrupted

    def _call(self, function: Callable[[], object]) -> None:
        """Call `function` in the thread, if that still runs."""
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(function)

    def _main(self, ready: threading.Event, failures: list[ConfigError]) -> None:
        try:
            trio.run(self._serve, ready, failures)
        except BaseException as bug:
            self.crash = bug
            _log.exception("a bug ended the network thread; the cache goes on alone")
            raise
        finally:
            self._token = None
            ready.set()
            self._ended.set()

    async def _serve(self, ready: threading.Event, failures: list[ConfigError]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                try:
                    await nursery.start(self._driver.run)
                except ConfigError as error:
                    failures.append(error)
                    return
                ready.set()
                await self._stop.wait()
                await self._driver.stop(self._goodbye_s)


@asynccontextmanager
async def running(driver: Driver) -> AsyncIterator[None]:
    """Run `driver` in a nursery around the body of an `async with`, in the caller's own trio run.

    What the body raises comes out as it is, not wrapped in a group. A bug of the driver cancels the body and
    comes out as trio's group. Raises `ConfigError` where the driver cannot listen.
    """
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(driver.run)
            yield
            await driver.stop()
        except (trio.Cancelled, GeneratorExit):
            raise
        except BaseException as error:
            if isinstance(error, BaseExceptionGroup) and error.subgroup(trio.Cancelled):
                raise
            failure = error
            await driver.stop()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
