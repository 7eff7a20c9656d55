"""The yardstick: a bare trio TCP echo, client and server in processes of their own, nothing of this project in it."""

from __future__ import annotations

import socket
import time
from typing import Any

import trio

from crdtcache.demo.lines import commands, run_child, say

__all__ = ["main"]

_BYTES = 64  # about the frame of one small write


async def _echo(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    async for chunk in stream:
        await stream.send_all(chunk)


class _Client:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def ping(self, count: int, rate: float) -> list[int]:
        """`count` round trips, `rate` a second, in ns each."""
        took, began, stream = [], trio.current_time(), self._stream
        for number in range(count):
            await trio.sleep_until(began + number / rate)
            sent = time.monotonic_ns()
            await stream.send_all(b"x" * _BYTES)
            missing = _BYTES
            while missing:
                missing -= len(await stream.receive_some(missing))
            took.append(time.monotonic_ns() - sent)
        return took


async def _run() -> None:
    client: _Client | None = None
    async with trio.open_nursery() as nursery:
        async for order in commands():
            answer: dict[str, Any] = {"id": order["id"]}
            if order["do"] == "serve":
                (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
                nursery.start_soon(trio.serve_listeners, _echo, [listener])
                answer["port"] = listener.socket.getsockname()[1]
            elif order["do"] == "call":
                stream = await trio.open_tcp_stream("127.0.0.1", order["port"])
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client = _Client(stream)
            else:
                assert client is not None
                answer["took_ns"] = await client.ping(order["count"], order["rate"])
            say(answer)
        nursery.cancel_scope.cancel()


def main() -> int:
    """The process; ends when its stdin is closed."""
    return run_child(_run)
