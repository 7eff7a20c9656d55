"""What a write costs and how long it takes to the last node: copies, crossings, idle bytes; and what the dead change.

`measure` has nodes of five regions meet, lets them write for a while, and counts. `with_dead` takes away the power of
one node in twenty, none of them suspected yet, the entry nodes of some writers among them, and has these write.

Decision: counted at the frames and at the nodes' events, not by the nodes' own counters alone: what they say of
themselves is half of the question. Source: DESIGN section 14, I9.
"""

from __future__ import annotations

import random
from statistics import median
from typing import NamedTuple

from crdtcache.core.codec import Limits, decode
from crdtcache.core.messages import MemberRow, Slice
from crdtcache.core.outcome import Change
from crdtcache.core.spread import Place, Spread, group_of
from sim.adapter import Node
from sim.checks.base import Check, Watched
from sim.engine import MS, SECOND, Rank
from sim.machines import Machine
from sim.network import Connection, Endpoint
from sim.oracle import Write
from sim.plan import Op, Plan
from sim.world import World

__all__ = ["Dead", "Figures", "measure", "with_dead"]

#: Round trips in ms between five regions, as between Frankfurt, Virginia, Oregon, Singapore and Sao Paulo.
MATRIX = (
    (1.0, 90.0, 150.0, 160.0, 205.0),
    (90.0, 1.0, 70.0, 225.0, 120.0),
    (150.0, 70.0, 1.0, 170.0, 175.0),
    (160.0, 225.0, 170.0, 1.0, 320.0),
    (205.0, 120.0, 175.0, 320.0, 1.0),
)
_QUIET_MS = 1_000  # after the writes, for the last of them to arrive
_SETTLE_MS = 30_000  # until on each link everybody was named that was met
_MEET_ALL = 200  # more nodes know each other from the start: that a thousand meet at once is not what is measured


class Figures(NamedTuple):
    """What was measured. `idle_bytes`: sent a second and node before the writes. `last`: in slowest one-way delays."""

    nodes: int
    writes: int
    copies: float  # of an entry, per write and per other node
    crossings: float  # of an entry, per write and per remote region: of the pair of regions with most
    last_median: float
    last_most: float
    links_most: int
    idle_bytes: float
    duplicates: int
    pulls: int


class Dead(NamedTuple):
    """One writer whose entry nodes are dead. `last_ms`: until the last of the living had its write."""

    writer: int
    dead: int
    last_ms: float


class _Arrivals(Check):
    """When each write came to each node."""

    def __init__(self, world: Watched) -> None:
        super().__init__(world)
        self.written: dict[str, tuple[int, int]] = {}  # key: when, by whom
        self.last: dict[str, int] = {}
        self.count: dict[str, int] = {}

    def wrote(self, node: Node, write: Write) -> None:
        self.written[write.key] = write.at, node.index

    def changed(self, node: Node, change: Change) -> None:
        key = str(change.key)
        if change.kind == "set" and key in self.written and node.index != self.written[key][1]:
            self.last[key] = self.world.now
            self.count[key] = self.count.get(key, 0) + 1


class _Crossings:
    """Entries and bytes on the links."""

    def __init__(self, world: World) -> None:
        self.bytes = 0
        self.entries: dict[tuple[int, int], int] = {}
        self._region = {n.replica.origin: n.region for n in world.nodes if n.replica is not None}
        self._limits = Limits(1 << 16, 1 << 20)
        world.network.tap = self.sent

    def sent(self, connection: Connection, node: Endpoint, frame: bytes) -> None:
        self.bytes += len(frame) + 4
        to = connection.ends[1 - connection.side(node)].region
        if to != node.region:
            for message in decode(frame, self._limits)[1]:
                if isinstance(message, Slice) and message.items:
                    pair = self._region[message.origin], to
                    self.entries[pair] = self.entries.get(pair, 0) + len(message.items)


def _world(nodes: int, seed: int, ops: list[Op]) -> tuple[World, _Arrivals]:
    regions = len(MATRIX)
    first = range(min(nodes, 2 * regions))
    acquainted = nodes > _MEET_ALL
    plan = Plan(
        scenario="traffic",
        seed=seed,
        machines=tuple(
            Machine(
                index=i,
                region=i % regions,
                region_name=f"r{i % regions}",
                seeds=((i + 1) % nodes,) if acquainted else tuple(s for s in first if s != i),
            )
            for i in range(nodes)
        ),
        ops=tuple(ops),
        matrix_ms=MATRIX,
        jitter_percent=5,
    )
    world = World(plan, (_Arrivals,))
    arrivals = world.checks[0]
    assert isinstance(arrivals, _Arrivals)
    world.prepare()
    if acquainted:
        world.engine.at(1, Rank.FAULT, _acquaint, world)
    return world, arrivals


def _meet_ms(nodes: int) -> int:
    """Until the last of the links is up that stays."""
    return 5_000 + (80 * nodes if nodes <= _MEET_ALL else 10_000)


def _acquaint(world: World) -> None:
    """All know of all, as if from a file, and none is linked yet."""
    hellos = [node.replica.hello(node.reading()) for node in world.nodes if node.replica is not None]
    rows = [MemberRow(h.origin, h.generation, h.name, h.region, h.zone, h.advertise, 0) for h in hellos]
    for node in world.nodes:
        if node.replica is not None:
            node.replica.meet(rows, node.reading())


def _name(world: World) -> None:
    """On all links, as if everybody had been named: with a thousand that takes minutes, and is not what idle means."""
    for node in world.nodes:
        if node.replica is not None:
            for link in node.replica._links.values():  # noqa: SLF001
                link.met = node.replica.members.met


def measure(nodes: int, writes: int = 200, seed: int = 1, settle_ms: int = 0) -> Figures:
    """Write `writes` keys, at random on `nodes` nodes, for 5 seconds, `settle_ms` after they have met."""
    rng = random.Random(seed)
    meet_ms = _meet_ms(nodes) + settle_ms
    instants = sorted(rng.randrange(meet_ms * 1_000, (meet_ms + 5_000) * 1_000) for _ in range(writes))
    world, arrivals = _world(
        nodes, seed, [Op(at, rng.randrange(nodes), "put", f"w{i}", "v") for i, at in enumerate(instants)]
    )
    world.engine.run((meet_ms - 4_000) * MS)
    if nodes > _MEET_ALL:
        _name(world)
    world.engine.run((meet_ms - 3_000) * MS)
    crossings = _Crossings(world)
    world.engine.run(meet_ms * MS)
    idle = crossings.bytes / nodes / 3
    before = _counts(world)
    crossings.entries.clear()
    world.engine.run((meet_ms + 5_000 + _QUIET_MS) * MS)
    after = _counts(world)
    slowest = max(max(row) for row in MATRIX) / 2 * MS
    took = [(arrivals.last[key] - at) / slowest for key, (at, _) in arrivals.written.items() if key in arrivals.last]
    missing = sum(arrivals.count.get(key, 0) != nodes - 1 for key in arrivals.written)
    if missing:
        raise AssertionError(f"{missing} of {writes} writes have not come to all {nodes} nodes")
    by_region: dict[int, int] = {}
    for _, writer in arrivals.written.values():
        by_region[world.nodes[writer].region] = by_region.get(world.nodes[writer].region, 0) + 1
    return Figures(
        nodes,
        writes,
        (after["items_sent"] - before["items_sent"]) / writes / (nodes - 1),
        max(count / by_region[source] for (source, _), count in crossings.entries.items()),
        median(took),
        max(took),
        max(node.replica.stats()["links_up"] for node in world.nodes if node.replica is not None),
        idle,
        after["duplicates"] - before["duplicates"],
        after["pulls"] - before["pulls"],
    )


def with_dead(nodes: int, seed: int = 1) -> list[Dead]:
    """All that live of one group of origins in one region write, while their entry nodes elsewhere lie dead."""
    meet_ms = _meet_ms(nodes)
    world, arrivals = _world(nodes, seed, [])
    world.engine.run(meet_ms * MS)
    places = {n.replica.origin: (n, Place(n.replica.origin, n.machine.region_name)) for n in world.nodes if n.replica}
    rng = random.Random(seed)
    chief, _ = places[rng.choice(list(places))]
    assert chief.replica is not None
    group = group_of(chief.replica.origin)
    spread = Spread(chief.replica.origin, chief.machine.region_name, chief.tuning.star_members, chief.tuning.fan_out)
    spread.see(place for _, place in places.values())
    # The entry node of each other region; and as many more at random.
    dead = {places[spread.order(f"r{r}", group)[0]][0].index: None for r in range(len(MATRIX)) if r != chief.region}
    writers = [n for o, (n, _) in places.items() if group_of(o) == group and n.index not in dead]
    others = [n.index for n in world.nodes if n.index not in dead and n not in writers]
    dead |= dict.fromkeys(rng.sample(others, max(0, nodes // 20 - len(dead))))
    for index in dead:
        world.nodes[index].stop(power=True)
    for number, writer in enumerate(writers):
        writer.operate("put", f"w{number}", "", 0)
    world.engine.run(world.now + 4 * SECOND)
    found = []
    for key, (at, writer_index) in arrivals.written.items():
        if arrivals.count.get(key, 0) != nodes - 1 - len(dead):
            raise AssertionError(f"{key} has come to {arrivals.count.get(key, 0)} of {nodes - 1 - len(dead)} in 4 s")
        found.append(Dead(writer_index, len(dead), (arrivals.last[key] - at) / MS))
    return found


def _counts(world: World) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in world.nodes:
        if node.replica is not None:
            for name, count in node.replica.stats().items():
                counts[name] = counts.get(name, 0) + count
    return counts


def lines(nodes: int) -> list[str]:
    """All of it for so many nodes, to print."""
    acquainted = nodes > _MEET_ALL
    found, dead = measure(nodes, settle_ms=0 if acquainted else _SETTLE_MS), with_dead(nodes)
    most_ms = max(one.last_ms for one in dead)
    return [
        f"{nodes} nodes in {len(MATRIX)} regions, at most {found.links_most} links each",
        f"per write: {found.copies:.3f} copies for each other node, {found.crossings:.2f} for each remote region",
        f"{found.writes} writes in 5 s: {found.duplicates} duplicates, {found.pulls} pulls",
        f"to the last node: {found.last_median:.2f} slowest one-way delays (median), {found.last_most:.2f} (most)",
        f"idle: {found.idle_bytes:,.0f} bytes a second and node",
        f"{dead[0].dead} dead, not yet suspected, entry nodes of all {len(dead)} writers: {most_ms:.0f} ms to the last",
    ]
