"""The same plan in the simulator and on the real runtime: the same verdict, the same reads, the same maps at the end.

What the simulator proves of the core holds for users only where the driver on trio treats the core as the simulator
does. Here both are run and compared; and changes planted on one side alone show that the comparison can fail.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from typing import NamedTuple

import pytest
import trio

from crdtcache.core.entry import EXPIRES, Entry
from crdtcache.core.replica import Replica
from crdtcache.runtime.driver import Driver
from sim import bugs, faults
from sim.checks.base import Check, Violation
from sim.checks.ending import ENDING
from sim.checks.safety import SAFETY, shown
from sim.plan import Fault, Plan
from sim.scenarios import find
from sim.scenarios.making import make
from sim.world import World
from tests.conformance.real import UNREAL, play


class Witness(Check):
    """Notes what applications read, and what all show at the end: of each entry the value and when it expires."""

    def __init__(self, world) -> None:
        super().__init__(world)
        self.reads = []
        self.maps = {}
        self.lost = set()  # writes that died with their process: nobody has accounted for them
        self.end_ms = 0

    def read(self, node, key, entry, reading) -> None:
        self.reads.append((round(self.world.now / 1e6), node.index, key, self._said(entry) if entry else None))

    def final(self) -> None:
        world = self.world
        self.end_ms = world.unix_ms
        nodes = [node for node in world.nodes if node.replica is not None and node.index in world.core]
        for node in nodes:
            self.maps[node.index] = {key: self._said(entry) for key, entry in shown(node.replica)}
        for write in world.oracle.by_version.values():
            if not any(node.replica.map.context.covers(*write.version) for node in nodes):
                self.lost.add((write.key, write.kind, write.value, write.node))

    def _said(self, entry: Entry) -> tuple[str, int]:
        return self.world.oracle.by_version[entry[:2]].value, entry[EXPIRES]


class End(NamedTuple):
    """What became of a plan in one world: the invariant that was violated, or "", and what was witnessed."""

    verdict: str
    seen: Witness


CHECKS = (*SAFETY, *ENDING, Witness)


def simulated(plan: Plan) -> End:
    world, verdict = World(plan, CHECKS), ""
    try:
        world.play()
    except Violation as found:
        verdict = found.invariant
    return End(verdict, world.checks[-1])


def really(plan: Plan) -> End:
    world, verdict = play(plan, CHECKS)
    return End(verdict, world.checks[-1])


def luck(one: End, other: End) -> set[str]:
    """Keys one of whose writes died with its process in one run only: whether last words are heard is luck anywhere."""
    return {key for key, *_ in one.seen.lost ^ other.seen.lost}


def differences(one: End, other: End) -> list[str]:
    """Where two runs of a plan came to another end; keys left to luck, and those that expire by then, left out."""
    if one.verdict != other.verdict:
        return [f"the verdicts are {one.verdict!r} and {other.verdict!r}"]
    end_ms, out = max(one.seen.end_ms, other.seen.end_ms), luck(one, other)
    found = []
    for node in sorted(one.seen.maps.keys() | other.seen.maps.keys()):
        a, b = (
            {k: said for k, said in end.seen.maps.get(node, {}).items() if k not in out and not 0 < said[1] <= end_ms}
            for end in (one, other)
        )
        found += [f"n{node} shows {k} = {a.get(k)} or {b.get(k)}" for k in sorted(a | b) if a.get(k) != b.get(k)]
    return found


def reads_apart(plan: Plan, one: End, other: End) -> list[tuple]:
    """What one read gave in two runs, where that differs; not in the second after a heal, when all is in flight."""
    return [
        (a, b)
        for a, b in zip_longest(one.seen.reads, other.seen.reads)
        if a != b and not any(fault.end_ms <= (a or b)[0] < fault.end_ms + 1_000 for fault in plan.faults)
    ]


def real_part(plan: Plan) -> Plan:
    """The plan without what only a simulated machine can do."""
    return plan.but(
        machines=tuple(replace(machine, wire_next=False) for machine in plan.machines),
        faults=tuple(fault for fault in plan.faults if fault.kind not in UNREAL),
    )


PLAIN = make("plain", 1, nodes=3, calm_ms=6_000, count=250, mix={"put": 3, "get": 2})
MIXED = make("mixed", 2, nodes=3, calm_ms=8_000, count=400, ttl_ms=(300, 4_000))
SPLIT = make(
    "split", 3, nodes=4, calm_ms=12_000, count=400, faults=[faults.cut(faults.between([0, 1], [2, 3]), 3_000, 9_000)]
)
RESTART = make(
    "restart",
    4,
    nodes=3,
    calm_ms=12_000,
    count=400,
    faults=[Fault("crash", 4_000, 5_000, nodes=(1,)), Fault("power", 7_000, 9_000, nodes=(2,))],
)


@pytest.mark.parametrize("plan", [PLAIN, MIXED, SPLIT, RESTART], ids=lambda plan: plan.scenario)
def test_the_same_reads_and_the_same_end(plan):
    one, other = simulated(plan), really(plan)
    assert one.verdict == ""
    assert len(one.seen.reads) > 50
    assert all(one.seen.maps.values())
    assert reads_apart(plan, one, other) == []
    assert differences(one, other) == []


# Left out is 12: one crash after another behind a cut, so that most of its writes are last words.
@pytest.mark.parametrize("seed", [*range(12), 13])
def test_a_plan_drawn_from_a_seed_comes_to_the_same_end(seed):
    plan = real_part(find("kitchen-sink").draw(seed, None))
    one, other = simulated(plan), really(plan)
    assert one.verdict == ""
    assert len(luck(one, other)) <= len({op.key for op in plan.ops}) / 2
    assert differences(one, other) == []


BROKEN = [
    ("c2-gap-ignored", "lost-middle", 0),
    ("c2-parked-item-skipped", "parked-inside-a-slice", 0),
    ("d2-own-clock-only", "fast-and-slow-sweepers", 1),
    ("o3-off", "two-returners", 0),
    ("touch-without-base", "touch-after-delete", 0),
]


@pytest.mark.parametrize(("bug", "scenario", "seed"), BROKEN)
def test_a_broken_rule_gets_the_same_verdict_and_one_world_alone_is_noticed(bug, scenario, seed):
    plan = real_part(find(scenario).draw(seed, None))
    with bugs.planted(bug):
        one, other = simulated(plan), really(plan)
    assert one.verdict == other.verdict != ""
    assert differences(one, really(plan)) != []


async def _forever(_: Driver) -> None:
    await trio.sleep_forever()


class TestABrokenRuntimeIsNoticed:
    def test_time_does_not_reach_the_core(self, monkeypatch):
        monkeypatch.setattr(Driver, "_keep_time", _forever)
        assert differences(simulated(PLAIN), really(PLAIN)) == ["the verdicts are '' and 'I1'"]

    def test_writes_wait_for_other_traffic(self, monkeypatch):
        monkeypatch.setattr(Driver, "wake", lambda self: None)
        assert reads_apart(MIXED, simulated(MIXED), really(MIXED)) != []

    def test_a_lost_link_is_not_reported(self, monkeypatch):
        one = simulated(SPLIT)
        monkeypatch.setattr(Replica, "disconnected", lambda *_: None)
        assert differences(one, really(SPLIT)) == ["the verdicts are '' and 'I1'"]

    def test_an_operation_more_or_less(self):
        last = max(i for i, op in enumerate(PLAIN.ops) if op.kind == "put")
        less = PLAIN.but(ops=PLAIN.ops[:last] + PLAIN.ops[last + 1 :])
        assert differences(simulated(PLAIN), really(less)) != []
