"""B3: a joiner is filled with a million entries over loopback while its donor goes on writing, and once is cut off.

Donor and joiner are processes of their own; all bytes between them pass through this one, which counts them and can
cut. The donor writes bursts of existing keys all the time and notes how long each `set` took. The joiner is cut off
when it holds half, for a second; or it is not, to compare. `python -m tests.bench.bootstrap [entries] [trio|thread]`
prints what came of it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import trio

from crdtcache import Node

VALUE_BYTES = 100
_BURST, _PAUSE_S = 20, 0.01


class Wire:
    """A relay in front of one port: counts bytes, cuts."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.target = 0
        self.bytes = 0
        self.open = True
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, *, heal: bool = False) -> None:
        """No connection from now on, or again."""
        self.open = heal
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if not self.open:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self.target))
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(1 << 18):
                self.bytes += len(part)
                sink.sendall(part)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Child:
    """A donor or a joiner: one line of JSON for each order."""

    def __init__(self, *arguments: object) -> None:
        words = [sys.executable, "-m", "tests.bench.bootstrap", *map(str, arguments)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, order: str) -> dict[str, Any]:
        """What it answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        """Let it stop."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


def burst(cache: Node[str, str], entries: int, turn: int, took: list[int]) -> None:
    """Overwrite a few keys, and note how long each took."""
    clock = time.perf_counter_ns
    for i in range(_BURST):
        key, value = f"key:{(turn * 7919 + i * 104729) % entries:07d}", f"{turn:0{VALUE_BYTES}d}"
        began = clock()
        cache.set(key, value)
        took.append(clock() - began)


def answer(cache: Node[str, str], order: str, took: list[int]) -> dict[str, Any]:
    """What there is to see, and the times of `set` since this was last asked."""
    times, stats = sorted(took), cache.stats()
    took.clear()
    quantiles = {f"p{q}": times[len(times) * q // 100] / 1_000 for q in (50, 99)} if times else {}
    kept = ("entries_received", "entries_sent", "sessions", "sessions_equal", "sessions_limited", "too_old", "pulls")
    seen = {
        "len": len(cache),
        "digest": cache.digest(),
        "ready": cache._is_ready(1, 1.0),
        "most": max(times, default=0),
    }
    return {
        "order": order,
        "address": cache.status()["address"],
        **seen,
        **quantiles,
        **{name: stats[name] for name in kept},
    }


def orders() -> Iterator[str]:
    """The lines of stdin."""
    for line in sys.stdin:
        yield line.strip()


def write_beside(cache: Node[str, str], entries: int, took: list[int]) -> None:
    """Write in a thread of its own until the process ends."""
    for turn in range(1 << 40):
        burst(cache, entries, turn, took)
        time.sleep(_PAUSE_S)


async def write_here(cache: Node[str, str], entries: int, took: list[int]) -> None:
    """Write in the event loop that also carries the bytes."""
    for turn in range(1 << 40):
        burst(cache, entries, turn, took)
        await trio.sleep(_PAUSE_S)


async def child(role: str, port: int, entries: int, mode: str) -> None:
    """One node that does as it is told."""
    place: dict[str, Any] = {"listen": "127.0.0.1:0", "advertise": f"127.0.0.1:{port}"}
    if role == "joiner":
        place = {"listen": None, "peers": [f"127.0.0.1:{port}"]}
    cache: Node[str, str] = Node(maxsize=None, max_bytes=None, **place)
    took: list[int] = []
    for i in range(entries if role == "donor" else 0):
        cache.set(f"key:{i:07d}", f"{i:0{VALUE_BYTES}d}")
    if mode == "thread":
        with cache:
            for order in orders():
                if order == "write":
                    threading.Thread(target=write_beside, args=(cache, entries, took), daemon=True).start()
                print(json.dumps(answer(cache, order, took)), flush=True)
        return
    async with cache, trio.open_nursery() as nursery:
        lines = orders()
        while (order := await trio.to_thread.run_sync(partial(next, lines, ""))) != "":
            if order == "write":
                nursery.start_soon(write_here, cache, entries, took)
            print(json.dumps(answer(cache, order, took)), flush=True)
        nursery.cancel_scope.cancel()


def run(entries: int, mode: str, *, cut: bool = True) -> dict[str, Any]:
    """Fill a joiner, with a cut in the middle or without; figures by name."""
    wire = Wire()
    donor = Child("donor", wire.port, entries, mode)
    wire.target = int(donor.ask("look")["address"].rpartition(":")[2])
    donor.ask("write")
    time.sleep(3)
    before = donor.ask("look")
    joiner = Child("joiner", wire.port, entries, mode)
    began = time.monotonic()
    found: dict[str, Any] = {"entries": entries, "mode": mode, "set p99 us before": before["p99"]}
    cut_s = 0.0
    while True:
        time.sleep(0.2)
        seen = joiner.ask("look")
        if cut and not cut_s and seen["len"] >= entries // 2:
            wire.cut()
            found["before the cut"] = {"len": seen["len"], "bytes": wire.bytes, "s": time.monotonic() - began}
            time.sleep(1)
            wire.cut(heal=True)
            cut_s = 1.0
        if seen["ready"] and seen["len"] >= entries:
            break
        assert time.monotonic() - began < 600, seen
    found["s, without the cut"] = round(time.monotonic() - began - cut_s, 1)
    during = donor.ask("look")
    found["MB"] = round(wire.bytes / 1e6, 1)
    found["bytes an entry"] = round(wire.bytes / entries)
    found["set p99 us during"] = during["p99"]
    found["set p50 us before, during"] = (before["p50"], during["p50"])
    found["longest set ms during"] = during["most"] / 1e6
    found["received, of each entry once"] = round(seen["entries_received"] / entries, 3)
    found["joiner"] = {name: seen[name] for name in ("sessions", "sessions_limited", "too_old", "pulls")}
    joiner.end()
    donor.end()
    return found


if __name__ == "__main__":
    if sys.argv[1:2] in (["donor"], ["joiner"]):
        trio.run(child, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
        for name in sys.argv[2:3] or ("trio", "thread"):
            for cut in (False, True):
                print(json.dumps(run(count, name, cut=cut), indent=1), flush=True)
