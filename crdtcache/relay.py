"""A wide area network on one machine, of the demo and of tests: a TCP relay that delays and cuts.

Every node listens on a hidden loopback port and advertises a port of this relay, so no byte between two nodes
goes another way. Who dials is read from the greeting, the first frame of every connection, which is passed
on unchanged: it names the dialler and its region. (Refused: one port per pair of places. Members learn
each other's address by gossip, and a member has one address only.)

Per direction there is a first-in-first-out queue whose bytes fall due one delay after they came in; bandwidth
is not throttled. A new connection waits for the three packets that TCP's handshake sends across. A cut drops
what is in flight, resets established connections and resets new ones once their greeting says whose they are.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeAlias

import msgpack
import trio

__all__ = ["Relay", "named_in", "reset"]

_GREETING_BYTES = 4_096
_GREETING_SECONDS = 3.0
_QUEUE = 1_024  # chunks in flight per direction; a full queue stops the reading, and TCP tells the sender
_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # close() then sends a reset
_Queue: TypeAlias = "trio.MemorySendChannel[tuple[float, bytes]]"
_Delay: TypeAlias = "Callable[[], float]"
_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


def named_in(greeting: bytes, field: str) -> str | None:
    """What the msgpack map in `greeting` has under `field`, None where it is not a greeting."""
    try:
        fields = msgpack.unpackb(greeting, strict_map_key=False)
    except (ValueError, msgpack.UnpackException):
        return None
    name = fields.get(field) if isinstance(fields, dict) else None
    return name if isinstance(name, str) else None


def reset(stream: trio.SocketStream) -> None:
    """Close `stream` so that the other end gets a reset, not an orderly end."""
    with suppress(OSError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    stream.socket.close()


class Relay:
    """One listening port per node of `places` (its name -> where it is).

    `field`: what of a greeting says where the dialler is. `target`: the (host, port) at which a node listens just now,
    None where it does not; its diallers are then reset. `delay`: seconds from one place to another, asked per chunk.
    """

    def __init__(
        self,
        places: Mapping[str, str],
        *,
        field: str,
        target: Callable[[str], tuple[str, int] | None],
        delay: Callable[[str, str], float],
    ) -> None:
        self.counts = {"open": 0, "opened": 0, "reset": 0, "refused": 0, "dropped_bytes": 0, "relayed_bytes": 0}
        self._places = places
        self._known = set(places.values())
        self._field = field
        self._target = target
        self._delay = delay
        self._cut: Callable[[str, str], bool] = _nobody
        self._connections: list[_Connection] = []

    async def listen(self, nursery: trio.Nursery) -> dict[str, int]:
        """Open a port for each node and serve it in `nursery`; returns name -> port."""
        ports = {}
        for name in self._places:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            ports[name] = int(listeners[0].socket.getsockname()[1])
            nursery.start_soon(trio.serve_listeners, partial(self._serve, name), listeners)
        return ports

    def cut(self, between: Callable[[str, str], bool]) -> tuple[int, int]:
        """Let nothing through from one place to another where `between` says so, and nothing else is cut.

        Returns (connections reset, bytes in flight that were dropped).
        """
        self._cut = between
        hit = [each for each in self._connections if between(each.source, each.target)]
        dropped = sum(each.in_flight for each in hit)
        for each in hit:
            each.scope.cancel()
        self.counts["reset"] += len(hit)
        self.counts["dropped_bytes"] += dropped
        return len(hit), dropped

    def heal(self) -> None:
        """Let everything through again."""
        self._cut = _nobody

    async def _serve(self, name: str, near: trio.SocketStream) -> None:
        """One connection that was dialled to the service `name`."""
        try:
            greeting = await _read_greeting(near)
            source, target = named_in(greeting[4:], self._field), self._places[name]
            if source is None or source not in self._known:
                return  # not one of ours
            if not self._cut(source, target):
                # SYN, its answer, and the greeting that rides with the ACK.
                await trio.sleep(2 * self._delay(source, target) + self._delay(target, source))
            address = self._target(name)
            if address is None or self._cut(source, target):
                self.counts["refused"] += 1
                return
            far = await trio.open_tcp_stream(*address)
            if self._cut(source, target):  # meanwhile
                self.counts["refused"] += 1
                reset(far)
                return
            connection = _Connection(source, target, near, far)
            self._connections.append(connection)
            self.counts["opened"] += 1
            try:
                await connection.run(greeting, self._delay)
            finally:
                self._connections.remove(connection)
                self.counts["relayed_bytes"] += connection.relayed
                reset(far)
        except _GONE:
            pass  # a peer that went away, or a service that does not listen yet: the dialler gets the reset below
        finally:
            reset(near)

    def status(self) -> dict[str, int]:
        """The counters, those of established connections included."""
        relayed = self.counts["relayed_bytes"] + sum(each.relayed for each in self._connections)
        return {**self.counts, "open": len(self._connections), "relayed_bytes": relayed}


def _nobody(source: str, target: str) -> bool:  # noqa: ARG001 - as `cut` asks
    return False


class _Connection:
    """Two streams and the bytes between them."""

    def __init__(self, source: str, target: str, near: trio.SocketStream, far: trio.SocketStream) -> None:
        self.source = source
        self.target = target
        self.scope = trio.CancelScope()
        self.in_flight = 0  # bytes taken from one end and not yet handed to the other
        self.relayed = 0
        self._near = near
        self._far = far

    async def run(self, greeting: bytes, delay: Callable[[str, str], float]) -> None:
        """Carry bytes both ways until both ends are done, one fails, or `scope` is cancelled."""
        try:
            with self.scope:
                await self._far.send_all(greeting)
                async with trio.open_nursery() as nursery:
                    there, back = partial(delay, self.source, self.target), partial(delay, self.target, self.source)
                    nursery.start_soon(self._carry, self._near, self._far, there)
                    nursery.start_soon(self._carry, self._far, self._near, back)
        except* _GONE:
            pass  # the caller resets what is left

    async def _carry(self, source: trio.SocketStream, target: trio.SocketStream, delay: _Delay) -> None:
        send, receive = trio.open_memory_channel[tuple[float, bytes]](_QUEUE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take, source, send, delay)
            async for due, chunk in receive:
                await trio.sleep_until(due)
                if chunk:
                    await target.send_all(chunk)
                    self.in_flight -= len(chunk)
                    self.relayed += len(chunk)
                else:
                    await target.send_eof()

    async def _take(self, source: trio.SocketStream, send: _Queue, delay: _Delay) -> None:
        chunk = b"more"
        with send:
            while chunk:
                chunk = bytes(await source.receive_some())
                self.in_flight += len(chunk)
                await send.send((trio.current_time() + delay(), chunk))


async def _read_greeting(stream: trio.SocketStream) -> bytes:
    """The first frame, with its four bytes of length; empty when it is none or does not come in time."""
    taken = bytearray()
    size = 4
    with trio.move_on_after(_GREETING_SECONDS):
        while len(taken) < size:
            chunk = await stream.receive_some(size - len(taken))
            if not chunk:
                return b""
            taken += chunk
            if len(taken) == size == 4:
                size += int.from_bytes(taken, "big")
                if size > 4 + _GREETING_BYTES:
                    return b""
        return bytes(taken)
    return b""
