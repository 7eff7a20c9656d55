"""Event loops from outside: which one the caller runs in, and how any thread wakes a task in it.

Decision: found out at each call, and only of modules that somebody has imported: one node serves trio, asyncio and
plain threads at once, and to import either costs what a script that uses neither should not pay.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Awaitable, Callable

from crdtcache.errors import WouldBlock

__all__ = ["asleep", "event_loop", "refuse_loop", "sleeper"]


def event_loop() -> str | None:
    """The name of the event loop that the caller runs in, "trio" or "asyncio"; None in a plain thread."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return "trio"
    asyncio = sys.modules.get("asyncio")  # who runs in its loop has imported it; importing it costs 30 ms
    if asyncio is not None:
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            return "asyncio"
    return None


def refuse_loop(blocking: str, twin: str) -> None:
    """Raises `WouldBlock`, the caller's fault, inside an event loop. `twin`: what to write there."""
    loop = event_loop()
    if loop is not None:
        raise WouldBlock(f"{blocking} would block the {loop} loop that it is called in; use `{twin}`")


async def asleep(seconds: float) -> None:
    """Sleep in trio or asyncio."""
    if event_loop() == "trio":
        from trio import sleep

        await sleep(seconds)
    else:
        from asyncio import sleep as asyncio_sleep

        await asyncio_sleep(seconds)


def sleeper() -> tuple[Callable[[], None], Callable[[], Awaitable[object]]]:
    """What wakes this task, from any thread and also when it is too late; and what it awaits until then."""
    if event_loop() == "trio":
        import trio

        done, token = trio.Event(), trio.lowlevel.current_trio_token()

        def wake() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        return wake, done.wait
    import asyncio

    loop = asyncio.get_running_loop()
    landed = loop.create_future()

    def land() -> None:
        if not landed.done():  # it is where the waiter was cancelled
            landed.set_result(None)

    def wake_loop() -> None:
        with contextlib.suppress(RuntimeError):  # that loop has been closed
            loop.call_soon_threadsafe(land)

    async def asleep() -> None:
        await landed

    return wake_loop, asleep
