"""Membership with the numbers that users run with: who stopped is down in time, a split heals, joins hold up nobody.

FULL_SIZES=1 takes the sizes of the acceptance list: 50 nodes, a split of ten minutes, 200 that join at once.
"""

from __future__ import annotations

import os

import pytest

from crdtcache.core.codec import Limits, decode
from crdtcache.core.messages import Probe
from sim import faults
from sim.engine import MS, SECOND
from sim.plan import Fault, Plan
from sim.scenarios.making import make
from sim.world import World

FULL = os.environ.get("FULL_SIZES", "") not in ("", "0")
FOR_EVER = 10_000_000


def world_of(plan: Plan) -> World:
    world = World(plan.but(tuning={}), ())
    world.prepare()
    return world


def seconds_until(world: World, true, *, within: int, step_ms: int = 100) -> float:
    """How long it takes from now on."""
    began = world.engine.now
    while not true():
        assert world.engine.now - began < within * SECOND, f"not within {within} s"
        world.engine.run(world.engine.now + step_ms * MS)
    return (world.engine.now - began) / SECOND


def held_to_be_gone(world: World) -> list[tuple[int, int]]:
    """(who says so, origin)."""
    return [
        (node.index, origin)
        for node in world.nodes
        if node.replica is not None
        for origin, member in node.replica.members.known.items()
        if member.claim.gone
    ]


@pytest.mark.parametrize("kind", ["power", "crash"])
def test_who_has_stopped_is_down_everywhere_within_fifteen_seconds(kind):
    count = 50 if FULL else 15
    dies = Fault(kind, 8_000, FOR_EVER, nodes=(7,))
    world = world_of(make("stopped", 1, nodes=count, calm_ms=60_000, count=0, regions=5, wan_ms=80.0, faults=[dies]))
    world.engine.run(8_000 * MS - 1)
    origin = world.nodes[7].replica.origin
    took = seconds_until(world, lambda: len(held_to_be_gone(world)) == count - 1, within=15)
    assert took > 4, "nobody is down before it had time to say otherwise"
    assert {gone for _, gone in held_to_be_gone(world)} == {origin}


@pytest.mark.parametrize("count", [10, 70] if FULL else [6])
def test_a_long_split_is_whole_again_within_ten_seconds(count):
    """Of 70, each is linked only with some: with others while they are apart, with the same again afterwards."""
    split = 600 if FULL else 90
    halves = faults.between(range(0, count, 2), range(1, count, 2))
    cut = faults.cut(halves, 6_000, 6_000 + split * 1_000, "halves")
    plan = make(
        "split", 1, nodes=count, calm_ms=700_000, count=300, regions=2 if count < 64 else 5, wan_ms=80.0, faults=[cut]
    )
    world = world_of(plan)
    world.engine.run((6_000 + split * 1_000) * MS)
    assert len(held_to_be_gone(world)) == count * (count // 2), "each side holds the other to be down"

    def whole():
        replicas = [node.replica for node in world.nodes]
        linked = all(p.connected or not each.members.worth(p.origin) for each in replicas for p in each.peers())
        return linked and not held_to_be_gone(world) and len({node.replica.digest() for node in world.nodes}) == 1

    took = seconds_until(world, whole, within=10)
    print(f"{count} nodes: whole {took:.1f} s after {split} s apart")
    assert took < 10
    assert all((node.replica.members.mesh is None) is (count < 64) for node in world.nodes)


def test_many_that_join_at_once_hold_up_nobody():
    """The writers' lag stays what a context message takes, and no seed sends more than a small multiple of the map."""
    old, new = 5, 200 if FULL else 12
    late = {index: {"start_ms": 5_000, "seeds": (0, 1, 2)} for index in range(old, old + new)}
    work = {"count": 1_000, "keys": 300, "writers": range(old), "mix": {"put": 1}}
    plan = make("joins", 1, nodes=old + new, calm_ms=20_000, regions=5, wan_ms=80.0, machines=late, **work)
    world = world_of(plan)
    sent: dict[int, int] = {}

    def count(_, node, frame):
        sent[node.index] = sent.get(node.index, 0) + len(frame)

    world.engine.run(5_000 * MS - 1)
    world.network.tap = count
    writers = [node.replica for node in world.nodes[:old]]
    there = len(writers[0].store.entries)
    assert there > 100
    lags = []

    def filled():
        lags.extend(
            world.unix_ms - (each.map.context.frontier[other.origin] >> 16)
            for each in writers
            for other in writers
            if other is not each
        )
        rest = [node.replica for node in world.nodes[old:]]
        return all(each is not None and len(each.store.entries) >= there and each.caught_up() for each in rest)

    took = seconds_until(world, filled, within=3, step_ms=50)
    loads = [sent.get(seed, 0) for seed in range(3)]
    print(f"{new} whole in {took:.2f} s; a seed sent {max(loads):,} bytes; writers {max(lags)} ms behind each other")
    assert max(lags) < 1_000
    assert max(loads) < new * 20_000
    assert held_to_be_gone(world) == []


def test_while_nothing_is_wrong_nobody_is_asked_about():
    world = world_of(make("idle", 1, nodes=20, calm_ms=60_000, count=0, regions=2, wan_ms=80.0))
    world.engine.run(8_000 * MS)
    asked = []
    limits = Limits(1_024, 32_768)
    world.network.tap = lambda _, __, frame: asked.extend(m for m in decode(frame, limits)[1] if isinstance(m, Probe))
    world.engine.run(20_000 * MS)
    assert asked == []
