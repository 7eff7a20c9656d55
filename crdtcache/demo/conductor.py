"""The conductor: launches the world, plays the script on it, collects the evidence, asks for the verdict.

start: the relay and the services; everybody meets everybody
work:  requests, reviews and probes everywhere
cut:   one region is cut off; both sides go on, write the same keys and delete keys
heal:  the way is open again; the clock runs until every process shows the outcome
kill:  one process gets SIGKILL
back:  it is launched again, empty; the clock runs until it has everything
quiet: nobody writes; the digests must agree, and the final state of each process is taken

Decision: the conductor holds no cache and takes no part in the cluster: it sees what the processes report, and
what is owed at the heal is computed from those reports alone, so that a cluster which forgot a write together
would not look converged.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import trio

from crdtcache.demo.board import Board, View
from crdtcache.demo.crew import Child, ChildGone, Crew
from crdtcache.demo.figures import Latencies, ServiceFigures
from crdtcache.demo.ledger import Ledger, stamp_ms
from crdtcache.demo.regions import World
from crdtcache.demo.script import CONVERGE_LIMIT, REJOIN_LIMIT, SETTLE_LIMIT, slots
from crdtcache.demo.traffic import plan_writes, review_pools
from crdtcache.demo.verdict import Facts

__all__ = ["Conductor"]

_RELAY = "relay"
_START_LIMIT = 20.0  # seconds for all processes to start and meet; a busy machine needs some
_FRAME = 0.25  # seconds between redraws
_LOOK = 0.05  # seconds between looks at the digests


class Conductor:
    """One run on `world`, of `seconds` in all, told on `board`, with the children's logs in `logs`."""

    def __init__(self, world: World, seconds: float, board: Board, logs: Path, modules: list[str]) -> None:
        self._side = {each.name: each.region == world.cut_region for each in world.services}
        self.facts = Facts(Ledger(self._side.__getitem__), nodes=list(self._side), victim=world.victim)
        self.latencies = Latencies(world)
        self.view = View(limit=seconds)
        self.began = time.monotonic()
        self._world = world
        self._seconds = seconds
        self._board = board
        self._logs = logs
        self._rng = random.Random(f"{world.seed}/conductor")
        self._pools = review_pools(modules, world.seed)
        self._figures = {each.name: ServiceFigures(each.name, each.region) for each in world.services}
        self.view.services = list(self._figures.values())
        self._crew: Crew
        self._ports: dict[str, int] = {}
        self._origin_side: dict[str, bool] = {}

    async def run(self) -> None:
        """Play the whole script. Raises `ChildGone` where a child leaves it."""
        async with trio.open_nursery() as nursery:
            self._crew = Crew(nursery, self._logs, self._heard, self._died)
            try:
                nursery.start_soon(self._draw)
                await self._start()
                slot = slots(self._seconds - (time.monotonic() - self.began))
                await self._work(slot.work)
                await self._cut(slot.cut)
                await self._heal(slot.heal)
                await self._kill(slot.kill)
                await self._back(slot.back)
                await self._quiet(slot.quiet)
            finally:
                await self._crew.close()
            nursery.cancel_scope.cancel()

    # -- the script

    async def _start(self) -> None:
        names = self.facts.nodes
        await self._each([_RELAY, *names], self._launch)
        delays = [[a, b, self._world.one_way_ms(a, b)] for a in self._world.regions for b in self._world.regions]
        regions = {each.name: each.region for each in self._world.services}
        self._ports = (await self._relay("open", services=regions, delays=delays, within=_START_LIMIT))["ports"]
        await self._each(names, self._configure)
        await self._all("meet", peers=len(names) - 1, within=_START_LIMIT)
        self._news(f"{len(names)} processes have met; every byte between them goes through the relay")

    async def _work(self, seconds: float) -> None:
        self._phase("work")
        await self._all("work")
        await self._perform(self.facts.nodes, [("set", key) for key in self._pools.script], 0.8 * seconds)
        await trio.sleep(0.2 * seconds)

    async def _cut(self, seconds: float) -> None:
        region = self._world.cut_region
        self._phase("cut")
        await self._all("report")
        self.latencies.begin(region, time.monotonic())
        answer = await self._relay("cut", region=region)
        self.facts.ledger.cut_ms = time.time_ns() // 1_000_000
        reset, dropped = answer["reset"], answer["dropped_bytes"]
        self._news(f"{region} is cut off: {reset} connections reset, {dropped} bytes in flight dropped")
        for side, names in self._sides():
            for name in names:
                self._figures[name].state = "cut off" if side else "running"
        async with trio.open_nursery() as nursery:
            for side, names in self._sides():
                steps = plan_writes(self._pools, cut_off=side, rng=self._rng)
                nursery.start_soon(self._perform, names, steps, 0.8 * seconds)
            await trio.sleep(seconds)
        await self._all("report")
        conflicts = len(self.facts.ledger.conflicts())
        self._news(
            f"both sides went on: {conflicts} keys written on both, {len(self.facts.ledger.cut_deletes)} deleted"
        )

    async def _heal(self, seconds: float) -> None:
        self._phase("heal")
        self.facts.ledger.cut_ms = None
        target = self.facts.ledger.target(self.facts.nodes)
        self.facts.owed_at_heal = len(target)
        healed = (await self._relay("heal"))["at"]
        self._news(f"the way to {self._world.cut_region} is open again")

        async def watch(name: str) -> None:
            at = await self._reach(name, target, CONVERGE_LIMIT)
            self.facts.converged_s[name] = None if at is None else at - healed

        await self._each(self.facts.nodes, watch)
        self.latencies.end(self._world.cut_region, time.monotonic())
        for figures in self._figures.values():
            figures.state = "running"
        taken = [taken for taken in self.facts.converged_s.values() if taken is not None]
        if len(taken) == len(self.facts.nodes):
            self._news(f"all {len(target)} keys are right in every process, {max(taken):.2f} s after the heal")
        else:
            self._news(f"not converged: {len(self.facts.nodes) - len(taken)} processes after {CONVERGE_LIMIT:g} s")
        await self._until(healed + seconds)

    async def _kill(self, seconds: float) -> None:
        self._phase("kill")
        victim = self.facts.victim
        self.latencies.begin(victim, time.monotonic())
        await self._crew.kill(victim)
        self._figures[victim].ended("killed")
        await self._relay("gone", node=victim)
        self._news(f"{victim} got SIGKILL")
        await trio.sleep(seconds)

    async def _back(self, seconds: float) -> None:
        self._phase("back")
        victim, began = self.facts.victim, time.monotonic()
        target = self.facts.ledger.target(name for name in self.facts.nodes if name != victim)
        self.facts.ledger.forget_own(victim)
        self.facts.rejoined_keys = sum(kind == "set" for _, kind in target.values())
        self._news(f"{victim} is launched again, empty")
        await self._launch(victim)
        await self._configure(victim)
        at = await self._reach(victim, target, max(0.1, REJOIN_LIMIT - (time.monotonic() - began)))
        if at is not None:
            self.facts.rejoined_s = at - began
            self._news(f"{victim} has all {self.facts.rejoined_keys} keys again, {at - began:.2f} s after its launch")
        else:
            self._news(f"{victim} does not have everything {REJOIN_LIMIT:g} s after its launch")
        self.latencies.end(victim, time.monotonic())
        await self._crew.children[victim].ask("work")
        await self._until(began + seconds)

    async def _quiet(self, seconds: float) -> None:
        self._phase("quiet")
        stopped = max(answer["at"] for answer in await self._all("pause"))
        await self._agree("report", stopped)
        settled = time.monotonic() - stopped
        if settled <= SETTLE_LIMIT:
            self.facts.settled_s = settled
            self._news(f"nobody writes any more: all digests are equal after {settled:.2f} s")
        else:
            self._news(f"nobody writes any more, and the digests still differ after {SETTLE_LIMIT:g} s")
        await self._until(stopped + seconds)
        # Entries expire while nobody writes, in each process by its own timer: take the last look when all agree.
        finals = await self._agree("final", time.monotonic())
        self.facts.finals = {name: final["states"] for name, final in finals.items()}
        self.facts.digests = {name: final["digest"] for name, final in finals.items()}
        self.facts.wall_ms = max(final["wall_ms"] for final in finals.values())

    async def _agree(self, ask: str, since: float) -> dict[str, dict[str, Any]]:
        """Ask all until their digests are equal, or for `SETTLE_LIMIT` seconds after `since`; the last answers."""
        while True:
            answers = dict(zip(self.facts.nodes, await self._all(ask), strict=True))
            if len({each["digest"] for each in answers.values()}) == 1 or time.monotonic() - since > SETTLE_LIMIT:
                return answers
            await trio.sleep(_LOOK)

    # -- its steps

    async def _launch(self, name: str) -> None:
        module = "crdtcache.demo.relay" if name == _RELAY else "crdtcache.demo.service"
        child = await self._crew.launch(name, module)
        if name in self._figures:
            self._figures[name].pid = child.process.pid
            self._figures[name].state = "starting"

    async def _configure(self, name: str) -> None:
        """Give the service `name` its settings, and the relay the port at which it then listens."""
        settings = {
            "name": name,
            "region": self._figures[name].region,
            "cluster": f"demo-{self._world.seed}",
            "peers": [f"127.0.0.1:{port}" for port in self._ports.values()],
            "advertise": f"127.0.0.1:{self._ports[name]}",
            "seed": self._world.seed,
        }
        answer = await self._crew.children[name].ask("start", settings=settings, within=_START_LIMIT)
        self._origin_side[answer["origin"]] = self._side[name]
        await self._relay("target", node=name, port=answer["port"])
        self._figures[name].state = "running"

    async def _perform(self, names: list[str], steps: list[tuple[str, str]], seconds: float) -> None:
        """Let `names` take turns in doing `steps` within `seconds`."""

        async def one(name: str) -> None:
            mine = steps[names.index(name) :: len(names)]
            await self._crew.children[name].ask("perform", steps=mine, seconds=seconds, within=seconds + 5)

        await self._each(names, one)

    async def _reach(self, name: str, target: dict[str, tuple[str, str]], limit: float) -> float | None:
        """When `name` showed everything in `target` (monotonic s), None if not within `limit` seconds."""
        child = self._crew.children[name]
        at: float | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._waive, child, target)
            try:
                at = float((await child.ask("reach", target=target, within=limit))["at"])
            except ChildGone:
                if child.ended.is_set():
                    raise
            nursery.cancel_scope.cancel()
        return at

    async def _waive(self, child: Child, target: dict[str, tuple[str, str]]) -> None:
        """Traffic goes on: tell `child` which of `target` newer operations have replaced since."""
        while True:
            await trio.sleep(_FRAME)
            await child.tell("waive", keys=self.facts.ledger.superseded(target))

    def _sides(self) -> list[tuple[bool, list[str]]]:
        """(whether it is the one that was cut off, its services) for both sides."""
        return [(side, [name for name in self.facts.nodes if self._side[name] is side]) for side in (True, False)]

    async def _relay(self, do: str, within: float = 10.0, **fields: Any) -> dict[str, Any]:
        return await self._crew.children[_RELAY].ask(do, within=within, **fields)

    async def _all(self, do: str, within: float = 10.0, **fields: Any) -> list[dict[str, Any]]:
        """Ask every service at once; the answers in the order of the services."""
        answers: dict[str, dict[str, Any]] = {}

        async def one(name: str) -> None:
            answers[name] = await self._crew.children[name].ask(do, within=within, **fields)
            if "wrote" in answers[name]:
                self._take_report(name, answers[name])

        await self._each(self.facts.nodes, one)
        return [answers[name] for name in self.facts.nodes]

    async def _each(self, names: Iterable[str], step: Callable[[str], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(step, name)

    async def _until(self, at: float) -> None:
        await trio.sleep(max(0.0, at - time.monotonic()))

    # -- what comes in, what is told

    def _heard(self, child: Child, fields: dict[str, Any]) -> None:
        if fields.get("say") == "report":
            if not self.facts.finals:  # what expires after the last look is none of the verdict's
                self._take_report(child.name, fields)
        elif fields.get("say") == "status":
            self.view.relay = fields["counts"]

    def _take_report(self, name: str, fields: dict[str, Any]) -> None:
        self._figures[name].report(time.monotonic(), fields)
        ledger = self.facts.ledger
        ledger.wrote(name, fields["wrote"])
        ledger.saw(fields["saw"])
        self.facts.resurrections += [f"{name}: {text}" for text in fields["resurrections"]]
        self.facts.overwritten = sum(each.counts.get("overwritten", 0) for each in self._figures.values())
        for source, sent, ms in fields["samples"]:
            self.latencies.add(source, name, sent, ms)
        if ledger.cut_ms is not None:
            self.facts.leaks += sum(self._leaked(name, row[2], ledger.cut_ms) for row in fields["saw"])

    def _leaked(self, name: str, version: str, cut_ms: int) -> bool:
        """Whether `name` saw a write that the other side made after the cut."""
        side = self._origin_side.get(version.rpartition("-")[2])
        return side is not None and side is not self._side[name] and stamp_ms(version) > cut_ms

    def _died(self, child: Child) -> None:
        self.facts.deaths.append(child.name)
        raise ChildGone(f"{child.name} ended with status {child.process.returncode}\n{child.last_words()}")

    def _phase(self, name: str) -> None:
        self.view.phase = name

    def _news(self, text: str) -> None:
        self.view.news.append(f"{time.monotonic() - self.began:6.1f} s  {text}")

    def refresh(self) -> None:
        """Bring the view up to date."""
        self.view.seconds = time.monotonic() - self.began
        self.view.deliveries = self.latencies.table()

    async def _draw(self) -> None:
        while True:
            self.refresh()
            self._board.show(self.view)
            await trio.sleep(_FRAME)
