"""One node in a process of its own that does what it is told, one JSON object per line, and reports what it saw.

    fill, set, lease, delete            write
    pace, churn, come_and_go            go on writing
    get, numbers, state, ledger, seen   look
    ready, until                        wait

Times are of CLOCK_MONOTONIC, which all processes of a machine share, so a writer's time can be a value and its
reader can tell how long the value took.

Decision: what must be seen at the moment it happens (a write becoming visible, a deleted key coming back) is seen
here, by the handler of an event; the test asks afterwards. Asking over a pipe at the right moment cannot be done.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import trio

from crdtcache import Node
from crdtcache.core.clock import Reading
from crdtcache.demo.lines import commands, run_child, say, unpack_line
from crdtcache.events import Event
from crdtcache.tuning import Tuning
from tests.chaos.network import enter

__all__ = ["main"]

Order: TypeAlias = dict[str, Any]
Cache: TypeAlias = Node[str, Any]
_STEP = 256
_LOOK_S = 0.005


class _ShiftedClock:
    """The machine's clocks, with a wall clock that is wrong by `ahead_ms`."""

    def __init__(self, ahead_ms: int) -> None:
        self.ahead_ms = ahead_ms

    def reading(self) -> Reading:
        return Reading(time.time_ns() // 1_000_000 + self.ahead_ms, time.monotonic_ns())


class _Trail:
    """What events have shown of each key: nothing older may show after it."""

    def __init__(self, cache: Cache) -> None:
        self.backwards: list[str] = []
        self.took_ns: list[int] = []  # of remote values that are times, until they were visible here
        self.shown: dict[str, int] = {}  # how often each key became visible by a peer's doing
        self._cache = cache
        self._newest: dict[str, tuple[tuple[int, int], bool]] = {}  # version, and whether it was removed then

    def __call__(self, event: Event) -> None:
        now = time.monotonic_ns()
        key, removed = event.key, event.kind != "set"
        assert isinstance(key, str)
        assert event.version is not None
        if not removed and event.remote:
            self.shown[key] = self.shown.get(key, 0) + 1
            value = event.value
            if isinstance(value, int):
                self.took_ns.append(now - value)
            elif isinstance(value, str) and ":" in value:
                self.took_ns.append(now - int(value.partition(":")[0]))
        self._judge(key, event.version, removed=removed)

    def look(self, keys: Iterable[str]) -> None:
        """Compare what a reader sees now with what events have shown until now."""
        for key in keys:
            version = self._cache.version(key)
            if version is not None:
                self._judge(key, version, removed=False)

    def _judge(self, key: str, version: tuple[int, int], *, removed: bool) -> None:
        now = (tuple(version), removed)
        if now >= self._newest.get(key, now):
            self._newest[key] = now  # type: ignore[assignment]
        elif not removed:
            self.backwards.append(f"{key}: {now} shows after {self._newest[key]}")


class _Worker:
    """A node, its trail, and what it wrote last of each key."""

    def __init__(self, cache: Cache, clock: _ShiftedClock) -> None:
        self._cache = cache
        self._clock = clock
        self._trail = _Trail(cache)
        self._ledger: dict[str, list[Any]] = {}  # key -> [stamp, origin, value or None]
        self._going = True

    # ---- write ----------------------------------------------------------------------------------------------------

    async def fill(self, prefix: str, count: int, size: int = 0, step: int = _STEP) -> Order:
        """Write `prefix` + number for `count` numbers as fast as it goes; the network gets a turn after each `step`."""
        filler, began = "x" * size, time.monotonic()
        for number in range(count):
            self._cache[f"{prefix}{number}"] = f"{number}{filler}"
            if number % step == 0:
                await trio.lowlevel.checkpoint()
        return {"seconds": time.monotonic() - began}

    async def lease(self, prefix: str, count: int, rate: float, seconds: float) -> Order:
        """Write `count` keys of which `rate` a second expire, the first in so many `seconds`."""
        for number in range(count):
            self._cache.set(f"{prefix}{number}", number, ttl=seconds + number / rate)
            if number % _STEP == 0:
                await trio.lowlevel.checkpoint()
        return {}

    async def come_and_go(self, prefix: str, count: int) -> Order:
        """Write and delete `count` keys, never the same twice, at most a few hundred of them at once."""
        began = time.monotonic()
        for start in range(0, count, _STEP):
            keys = [f"{prefix}{number}" for number in range(start, min(start + _STEP, count))]
            for key in keys:
                self._cache[key] = "x"
            await trio.lowlevel.checkpoint()
            self._cache.delete_many(keys)
            await trio.lowlevel.checkpoint()
        return {"seconds": time.monotonic() - began}

    async def set(self, items: dict[str, Any], ttl: float | None = None) -> Order:
        """Write each of `items`."""
        for key, value in items.items():
            self._cache.set(key, value, ttl=ttl)
        return {}

    async def delete(self, keys: list[str]) -> Order:
        """Delete each of `keys`; how many were visible."""
        return {"visible": self._cache.delete_many(keys)}

    async def pace(self, prefix: str, rate: float, count: int = 0, spread: int = 0, size: int = 0) -> Order:
        """Write the time `rate` times a second, `count` times or until `halt`; over `spread` keys, or each its own."""
        filler, number, began = "x" * size, 0, trio.current_time()
        self._going = True
        while self._going and (not count or number < count):
            await trio.sleep_until(began + number / rate)
            now = time.monotonic_ns()
            self._cache[f"{prefix}{number % spread if spread else number}"] = f"{now}:{filler}" if size else now
            number += 1
        return {"written": number, "seconds": trio.current_time() - began}

    async def halt(self) -> Order:
        """End `pace`."""
        self._going = False
        return {}

    async def churn(self, prefix: str, spread: int, seconds: float, rate: float, seed: str, tag: str) -> Order:
        """Set and delete keys at random; the last of each goes into the ledger."""
        rng, began, number = random.Random(seed), trio.current_time(), 0
        while number < seconds * rate:
            await trio.sleep_until(began + number / rate)
            key = f"{prefix}{rng.randrange(spread)}"
            if rng.random() < 0.4:
                self._cache.delete(key)
                version = self._cache.held(key)
                assert version is not None
                self._ledger[key] = [*version, None]
            else:
                version = self._cache.set(key, f"{tag}{number}")
                assert version is not None
                self._ledger[key] = [*version, f"{tag}{number}"]
            number += 1
        return {"written": number}

    async def shift(self, ahead_ms: int) -> Order:
        """Somebody sets this machine's wall clock: so far ahead of the true time."""
        self._clock.ahead_ms = ahead_ms
        return {}

    # ---- look -----------------------------------------------------------------------------------------------------

    async def get(self, keys: list[str]) -> Order:
        """The values of those of `keys` that are visible."""
        return {"values": self._cache.get_many(keys)}

    async def numbers(self, prefix: str) -> Order:
        """The numbers behind `prefix` among the visible keys."""
        return {"numbers": sorted(int(key[len(prefix) :]) for key in self._cache if key.startswith(prefix))}

    async def versions(self, keys: list[str]) -> Order:
        """[Unix ms, origin] of the visible entry of each of `keys`, None where there is none."""
        versions = [self._cache.version(key) for key in keys]
        return {"versions": [[v[0] >> 16, v[1]] if v is not None else None for v in versions]}

    async def state(self) -> Order:
        """The whole picture."""
        return {
            "at": time.monotonic(),
            "digest": f"{self._cache.digest():016x}",
            "len": len(self._cache),
            "stats": self._cache.stats(),
            "clock": self._cache.status()["clock"],
            "peers": [[peer.name, peer.connected] for peer in self._cache.peers],
            "rss": _rss(),
            "blocks": sys.getallocatedblocks(),
            "cpu": time.process_time(),
        }

    async def ledger(self) -> Order:
        """What `churn` wrote last of each key here."""
        return {"ledger": self._ledger}

    async def watch(self) -> Order:
        """Begin to follow every change, by events."""
        self._cache.on("set", "deleted", call=self._trail)
        return {}

    async def guard(self, prefix: str, spread: int, seconds: float) -> Order:
        """Look at every key of a range all the time, as a reader would: does anything removed come back?"""
        keys, rounds = [f"{prefix}{number}" for number in range(spread)], 0
        with trio.move_on_after(seconds):
            while True:
                self._trail.look(keys)
                rounds += 1
                await trio.sleep(_LOOK_S)
        return {"rounds": rounds}

    async def seen(self, prefix: str = "") -> Order:
        """What events have shown: times until visible, numbers behind `prefix`, and what came back."""
        trail = self._trail
        took, trail.took_ns = trail.took_ns, []
        numbers = sorted(int(key[len(prefix) :]) for key in trail.shown if prefix and key.startswith(prefix))
        return {"took_ns": took, "numbers": numbers, "backwards": trail.backwards}

    # ---- wait -----------------------------------------------------------------------------------------------------

    async def ready(self, peers: int, seconds: float) -> Order:
        """Wait for so many peers and all they have."""
        return {"ok": await self._cache.aready(seconds, min_peers=peers), "at": time.monotonic()}

    async def until(self, seconds: float, count: int = 0, peers: int = -1, dead: int = -1) -> Order:
        """Wait for at least `count` keys, exactly so many connected peers, and at most so many dead entries."""
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            reached = (
                len(self._cache) >= count
                and (peers < 0 or sum(peer.connected for peer in self._cache.peers) == peers)
                and (dead < 0 or self._cache.stats()["dead"] <= dead)
            )
            if reached or now >= end:
                return {"ok": reached, "at": now, "len": len(self._cache)}
            await trio.sleep(_LOOK_S)

    async def obey(self, order: Order) -> None:
        """Do one order and answer it."""
        number, act = order.pop("id"), getattr(self, order.pop("do"))
        say({"id": number, **await act(**order)})


def _rss() -> int:
    """Bytes of memory this process uses now; 0 where /proc does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


async def _serve(start: Order) -> None:
    settings = dict(start["settings"])
    settings.pop("namespace", None)
    clock = _ShiftedClock(settings.pop("ahead_ms", 0))
    cache: Cache = Node(
        thread=settings.pop("mode") == "thread",
        tuning=Tuning(**settings.pop("tuning", {})),
        clock=clock,
        **settings,
    )
    worker = _Worker(cache, clock)
    async with cache, trio.open_nursery() as nursery:
        say({"id": start["id"], "address": cache.status()["address"]})
        async for order in commands():
            nursery.start_soon(worker.obey, order)
        nursery.cancel_scope.cancel()


def first_order() -> Order | None:
    """Read the first line before any thread or loop exists, so that a namespace can still be entered."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 1)  # not a byte of what follows
        if not chunk:
            return None
        line += chunk
    return unpack_line(line)


def main() -> int:
    """The process; ends when its stdin is closed."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s.%(msecs)03d %(message)s")
    start = first_order()
    if start is None:
        return 0
    namespace = start["settings"].get("namespace")
    if namespace:
        enter(namespace)
    return run_child(partial(_serve, start))
