"""One service of the demo: a process that embeds a `Node` and does real work through it.

It answers requests (the analysis of a standard library module) from `@cache.cached(ttl=...)`, keeps reviews of
modules that it writes and deletes, and writes probes that others time. What it reports is in `witness`.

Decision: the analysis runs in a worker thread and the interpreter switches threads every half millisecond, as
a service does that must not stall its event loop; the node's own trio tasks share that loop with the requests.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from crdtcache import Node
from crdtcache.demo.analysis import analyse, standard_modules
from crdtcache.demo.ledger import honours
from crdtcache.demo.lines import commands, run_child, say
from crdtcache.demo.traffic import Zipf, review_pools
from crdtcache.demo.witness import PROBE, Witness

__all__ = ["Settings", "main"]

_REPORT_EVERY = 0.5  # seconds
_POLL_EVERY = 0.01  # seconds between looks at what is still missing
_PROBE_SLOTS = 16
_ANALYSIS = "analysis:"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the conductor tells a service when it starts; rates are per second."""

    name: str
    region: str
    cluster: str
    peers: list[str]
    advertise: str
    seed: int
    ttl: float = 20.0
    requests: float = 40.0
    reviews: float = 3.0
    probes: float = 5.0


class _Service:
    """The node, its traffic, and the answers to the conductor."""

    def __init__(self, settings: Settings, cache: Node[str, Any]) -> None:
        self.counts = {"requests": 0, "hits": 0, "shared": 0, "saved_us": 0, "worked_us": 0}
        self.witness = Witness(lambda key: settings.ttl if key.startswith(_ANALYSIS) else 0.0)
        self._settings = settings
        self._cache = cache
        self._rng = random.Random(f"{settings.seed}/{settings.name}")
        self._modules = standard_modules()
        self._zipf = Zipf(list(self._modules), settings.seed)
        self._pools = review_pools(list(self._modules), settings.seed)
        self._me = f"{settings.name}@{time.time_ns():x}"  # of this process, not of its name
        self._written = 0
        self._worked = 0
        self._missing: dict[str, list[str]] = {}
        self._analysis = cache.cached(ttl=settings.ttl, key=_ANALYSIS + "{module}")(self._work)
        cache.on("set", "deleted", "overwritten", call=self.witness)

    async def _work(self, module: str) -> dict[str, Any]:
        """What is worth caching."""
        self._worked += 1
        result = await trio.to_thread.run_sync(analyse, module, self._modules[module])
        result["by"] = self._me
        self.counts["worked_us"] += result["took_us"]
        return result

    async def _request(self) -> None:
        module, worked, began = self._zipf.draw(self._rng), self._worked, time.perf_counter_ns()
        result = await self._analysis(module)
        self.counts["requests"] += 1
        if self._worked == worked:
            self.counts["hits"] += 1
            self.counts["shared"] += result["by"] != self._me
            self.counts["saved_us"] += max(0, result["took_us"] - (time.perf_counter_ns() - began) // 1000)

    async def _review(self) -> None:
        key = self._rng.choice(self._pools.steady)
        self._write("delete" if self._rng.random() < 0.15 else "set", key)

    async def _probe(self) -> None:
        self._written += 1
        self._cache.set(f"{PROBE}{self._settings.name}:{self._written % _PROBE_SLOTS}", time.monotonic_ns())

    def _write(self, what: str, key: str) -> None:
        if what == "delete":
            self._cache.delete(key)
            return
        self._written += 1
        self._cache.set(key, {"by": self._me, "number": self._written, "verdict": self._rng.choice(("ok", "rework"))})

    async def traffic(self) -> None:
        """Requests, reviews and probes until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pace, self._request, self._settings.requests)
            nursery.start_soon(self._pace, self._review, self._settings.reviews)
            nursery.start_soon(self._pace, self._probe, self._settings.probes)

    async def _pace(self, step: Callable[[], Awaitable[None]], rate: float) -> None:
        """Run `step` `rate` times per second on average, at random times; what is missed is not made up for."""
        due = trio.current_time()
        while True:
            due = max(due + self._rng.expovariate(rate), trio.current_time() - 0.5)
            await trio.sleep_until(due)
            await step()

    async def perform(self, steps: list[list[str]], seconds: float) -> float:
        """The writes and deletes of the script, spread over `seconds`; returns when they were done."""
        for number, (what, key) in enumerate(steps, 1):
            self._write(what, key)
            await trio.sleep(seconds / len(steps) if number < len(steps) else 0)
        return time.monotonic()

    async def until_met(self, count: int) -> float:
        """Wait until `count` other members are connected and nothing they have is missing here."""
        await self._cache.aready(None, min_peers=count)
        return time.monotonic()

    async def until_reached(self, target: dict[str, list[str]]) -> float:
        """Wait until everything in `target` (key -> version, kind) shows here; returns when, monotonic s."""
        self._missing = dict(target)
        at = time.monotonic()
        while True:
            for key, (version, kind) in list(self._missing.items()):
                if honours(kind, version, self._shown(key)):
                    del self._missing[key]
                    at = time.monotonic()
            if not self._missing:
                return at
            await trio.sleep(_POLL_EVERY)

    def waive(self, keys: list[str]) -> None:
        """Newer operations have made waiting for `keys` pointless: a key that was deleted since never shows."""
        for key in keys:
            self._missing.pop(key, None)

    def _shown(self, key: str) -> str | None:
        version = self._cache.version(key)
        return None if version is None else str(version)

    def _met(self) -> int:
        return sum(peer.connected for peer in self._cache.peers)

    def report(self) -> dict[str, Any]:
        """What is new since the last one."""
        return {
            "say": "report",
            "counts": {**self.counts, "overwritten": self.witness.overwritten},
            "keys": len(self._cache),
            "peers": self._met(),
            "digest": f"{self._cache.digest():016x}",
            **self.witness.take(),
        }

    def final(self) -> dict[str, Any]:
        """Every visible key with its version."""
        states = {key: str(version) for key in self._cache if (version := self._cache.version(key)) is not None}
        return {"states": states, "wall_ms": time.time_ns() // 1_000_000}


class _Orders:
    """Obeys the conductor: quick orders at once, the others in tasks of `nursery` that answer when done."""

    def __init__(self, service: _Service, nursery: trio.Nursery) -> None:
        self._service = service
        self._nursery = nursery
        self._traffic = trio.CancelScope()
        self._idle = trio.Event()
        self._idle.set()

    async def obey(self, order: dict[str, Any]) -> None:
        """Do what `order` says; each order but "waive" is answered once, under its id."""
        service, number = self._service, order["id"]
        match order["do"]:
            case "meet":
                self._later(number, service.until_met, order["peers"])
            case "work":
                self._traffic, self._idle = trio.CancelScope(), trio.Event()
                self._nursery.start_soon(self._work, self._traffic, self._idle)
                say({"id": number})
            case "pause":
                self._traffic.cancel()
                await self._idle.wait()  # what was under way has been written
                say({"id": number, "at": time.monotonic()})
            case "perform":
                self._later(number, service.perform, order["steps"], order["seconds"])
            case "reach":
                self._later(number, service.until_reached, order["target"])
            case "waive":
                service.waive(order["keys"])
            case "report":
                say({"id": number, **service.report()})
            case "final":
                say({"id": number, **service.report(), **service.final()})
            case other:
                raise ValueError(f"service: no order {other!r}")

    def _later(self, number: int, step: Callable[..., Awaitable[float]], *arguments: object) -> None:
        async def run() -> None:
            say({"id": number, "at": await step(*arguments)})

        self._nursery.start_soon(run)

    async def _work(self, scope: trio.CancelScope, idle: trio.Event) -> None:
        with scope:
            await self._service.traffic()
        idle.set()


async def _run() -> None:
    arriving = commands()
    start = await anext(arriving, None)
    if start is None:
        return  # the run was over before it began
    settings = Settings(**start["settings"])
    cache: Node[str, Any] = Node(
        settings.peers,
        cluster=settings.cluster,
        region=settings.region,
        name=settings.name,
        listen="127.0.0.1:0",
        advertise=settings.advertise,
    )
    service = _Service(settings, cache)
    async with cache, trio.open_nursery() as nursery:
        status = cache.status()
        say({"id": start["id"], "port": int(status["address"].rpartition(":")[2]), "origin": status["origin"]})
        nursery.start_soon(_report_for_ever, service)
        orders = _Orders(service, nursery)
        async for order in arriving:
            await orders.obey(order)
        nursery.cancel_scope.cancel()


async def _report_for_ever(service: _Service) -> None:
    while True:
        await trio.sleep(_REPORT_EVERY)
        say(service.report())


def main() -> int:
    """The service process; ends when the conductor closes its stdin or is gone."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    sys.setswitchinterval(0.0005)
    return run_child(_run)
