"""The wide area network of the demo: a TCP relay that delays, and that can cut a region off.

Every service listens on a hidden loopback port and advertises a port of this relay, so no byte between two
services goes another way. Who dials is read from the greeting, the first frame of every connection, which
is passed on unchanged: it names the dialler's region. (Refused: one port per pair of regions. Members learn
each other's address by gossip, and a member has one address only.)

Per direction there is a first-in-first-out queue whose bytes fall due one delay after they came in; bandwidth
is not throttled. A new connection waits for the three packets that TCP's handshake sends across. A cut drops
what is in flight, resets established connections and resets new ones once their greeting says whose they are.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

import msgpack
import trio

from crdtcache.demo.lines import commands, run_child, say

__all__ = ["Relay", "main", "region_of", "reset"]

_GREETING_BYTES = 4_096
_GREETING_SECONDS = 3.0
_QUEUE = 1_024  # chunks in flight per direction; a full queue stops the reading, and TCP tells the sender
_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # close() then sends a reset
_Queue: TypeAlias = "trio.MemorySendChannel[tuple[float, bytes]]"
_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


def region_of(greeting: bytes) -> str | None:
    """The region that the msgpack map in `greeting` names, None where it is not a greeting."""
    try:
        fields = msgpack.unpackb(greeting, strict_map_key=False)
    except (ValueError, msgpack.UnpackException):
        return None
    region = fields.get("region") if isinstance(fields, dict) else None
    return region if isinstance(region, str) else None


def reset(stream: trio.SocketStream) -> None:
    """Close `stream` so that the other end gets a reset, not an orderly end."""
    with suppress(OSError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    stream.socket.close()


class Relay:
    """One listening port per service of `services` (name -> region); `delays` are (source, target) -> seconds."""

    def __init__(self, services: dict[str, str], delays: dict[tuple[str, str], float]) -> None:
        self.services = services
        self.targets: dict[str, tuple[str, int]] = {}  # where a service listens now; without one, diallers are reset
        self.counts = {"open": 0, "opened": 0, "reset": 0, "refused": 0, "dropped_bytes": 0, "relayed_bytes": 0}
        self._delays = delays
        self._regions = set(services.values())
        self._cut: str | None = None
        self._connections: list[_Connection] = []

    async def listen(self, nursery: trio.Nursery) -> dict[str, int]:
        """Open a port for each service and serve it in `nursery`; returns name -> port."""
        ports = {}
        for name in self.services:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            ports[name] = int(listeners[0].socket.getsockname()[1])
            nursery.start_soon(trio.serve_listeners, partial(self._serve, name), listeners)
        return ports

    def cut(self, region: str) -> tuple[int, int]:
        """Cut `region` off from all others; returns (connections reset, bytes in flight that were dropped)."""
        self._cut = region
        hit = [each for each in self._connections if self._blocked(each.source, each.target)]
        dropped = sum(each.in_flight for each in hit)
        for each in hit:
            each.scope.cancel()
        self.counts["reset"] += len(hit)
        self.counts["dropped_bytes"] += dropped
        return len(hit), dropped

    def heal(self) -> None:
        """Let everything through again."""
        self._cut = None

    def _blocked(self, source: str, target: str) -> bool:
        return self._cut is not None and (source == self._cut) != (target == self._cut)

    async def _serve(self, name: str, near: trio.SocketStream) -> None:
        """One connection that was dialled to the service `name`."""
        try:
            greeting = await _read_greeting(near)
            source, target = region_of(greeting[4:]), self.services[name]
            if source not in self._regions:
                return  # not one of ours
            if not self._blocked(source, target):
                there, back = self._delays.get((source, target), 0.0), self._delays.get((target, source), 0.0)
                # SYN, its answer, and the greeting that rides with the ACK.
                await trio.sleep(2 * there + back)
            if name not in self.targets or self._blocked(source, target):
                self.counts["refused"] += 1
                return
            far = await trio.open_tcp_stream(*self.targets[name])
            connection = _Connection(source, target, near, far)
            self._connections.append(connection)
            self.counts["opened"] += 1
            try:
                await connection.run(greeting, there, back)
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

    async def run(self, greeting: bytes, there: float, back: float) -> None:
        """Carry bytes both ways until both ends are done, one fails, or `scope` is cancelled."""
        try:
            with self.scope:
                await self._far.send_all(greeting)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry, self._near, self._far, there)
                    nursery.start_soon(self._carry, self._far, self._near, back)
        except* _GONE:
            pass  # the caller resets what is left

    async def _carry(self, source: trio.SocketStream, target: trio.SocketStream, delay: float) -> None:
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

    async def _take(self, source: trio.SocketStream, send: _Queue, delay: float) -> None:
        chunk = b"more"
        with send:
            while chunk:
                chunk = bytes(await source.receive_some())
                self.in_flight += len(chunk)
                await send.send((trio.current_time() + delay, chunk))


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


async def _run() -> None:
    async with trio.open_nursery() as nursery:
        relay: Relay | None = None
        async for command in commands():
            answer: dict[str, Any] = {"id": command["id"]}
            match command["do"]:
                case "open":
                    delays = {(source, target): ms / 1000 for source, target, ms in command["delays"]}
                    relay = Relay(command["services"], delays)
                    answer["ports"] = await relay.listen(nursery)
                    nursery.start_soon(_report, relay)
                case "target" if relay is not None:
                    relay.targets[command["node"]] = ("127.0.0.1", command["port"])
                case "gone" if relay is not None:
                    relay.targets.pop(command["node"], None)
                case "cut" if relay is not None:
                    answer["reset"], answer["dropped_bytes"] = relay.cut(command["region"])
                case "heal" if relay is not None:
                    relay.heal()
                case other:
                    raise ValueError(f"relay: no command {other!r} now")
            answer["at"] = time.monotonic()
            say(answer)
        nursery.cancel_scope.cancel()


async def _report(relay: Relay) -> None:
    while True:
        await trio.sleep(0.25)
        say({"say": "status", "counts": relay.status()})


def main() -> int:
    """The relay process; ends when the conductor closes its stdin or is gone."""
    return run_child(_run)
