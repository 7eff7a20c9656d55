"""Three replicas under any interleaving of delivery, loss and duplication stay safe, and end equal.

A plan is a list of steps drawn by hypothesis: writes of every kind, frames carried one by one or all, links cut
with what is in flight, frames received twice or from links that are gone, time passing with or without
delivery. The tuning is so small that logs overflow, dots run out, sessions are held and the dead are collected.
After each step the oracle checks safety; after a calm the replicas must agree.
"""

from __future__ import annotations

from typing import Any

from hypothesis import event, example, given
from hypothesis import strategies as st

from tests.core.oracle import Oracle
from tests.core.world import World

NODES = ("a", "b", "c")
TIMELESS = [f"k{i}" for i in range(8)]
FLEETING = [f"t{i}" for i in range(4)]

node = st.sampled_from(NODES)
pair = st.sampled_from([(x, y) for x in NODES for y in NODES if x != y])
key = st.sampled_from(TIMELESS)
some_ms = st.sampled_from([1, 20, 60, 150])
ttl_ms = st.sampled_from([30, 120, 500, 2_000])

step = st.one_of(
    st.tuples(st.just("put"), node, key),
    st.tuples(st.just("put"), node, key),
    st.tuples(st.just("burst"), node, st.integers(0, 7), st.integers(2, 24)),
    st.tuples(st.just("write"), node, key),
    st.tuples(st.just("delete"), node, key),
    st.tuples(st.just("delete"), node, key),
    st.tuples(st.just("evict"), node, key),
    st.tuples(st.just("fleeting"), node, st.sampled_from(FLEETING), ttl_ms),
    st.tuples(st.just("touch"), node, st.sampled_from(FLEETING), st.one_of(ttl_ms, st.just(0))),
    st.tuples(st.just("clear"), node),
    st.tuples(st.just("pump"), pair),
    st.tuples(st.just("deliver"), pair),
    st.tuples(st.just("twice"), pair),
    st.tuples(st.just("carry"), pair),
    st.tuples(st.just("flow"), some_ms),
    st.tuples(st.just("flow"), st.sampled_from([300, 1_500])),
    st.tuples(st.just("stand"), some_ms),
    st.tuples(st.just("cut"), pair),
    st.tuples(st.just("cut"), pair),
    st.tuples(st.just("link"), pair),
    st.tuples(st.just("link"), pair),
    st.tuples(st.just("ghosts")),
)
plans = st.lists(step, min_size=10, max_size=90)
offsets = st.fixed_dictionaries({name: st.sampled_from([0, 0, -90, 90, 199, -199]) for name in NODES})


def play(world: World, oracle: Oracle, action: tuple[Any, ...], number: int) -> None:  # noqa: C901 - one line per kind of step
    match action:
        case ("put", name, key):
            oracle.put(name, key, number)
        case ("burst", name, first, count):
            for i in range(count):
                oracle.put(name, TIMELESS[(first + i) % len(TIMELESS)], number)
        case ("write", name, key):
            oracle.put(name, key, f"{number}", fast=True)
        case ("delete", name, key):
            oracle.delete(name, key)
        case ("evict", name, key):
            before = world[name].digest()
            world[name].evict(key, world.reading(name))
            assert world[name].digest() == before, "E1: an eviction changed the digest"
        case ("fleeting", name, key, ttl):
            oracle.put(name, key, number, ttl)
        case ("touch", name, key, ttl):
            oracle.touch(name, key, ttl)
        case ("clear", name):
            oracle.clear(name)
        case ("pump", (x, y)):
            world.pump(x, y)
        case ("deliver", (x, y)):
            world.deliver(x, y)
        case ("twice", (x, y)):
            world.pump(x, y)
            world.deliver(x, y, times=2)
        case ("carry", direction):
            world.carry(direction)
        case ("flow", ms):
            world.run(ms)
        case ("stand", ms):
            world.step(ms)
        case ("cut", (x, y)):
            world.cut(x, y)
        case ("link", (x, y)):
            world.link(x, y)
        case ("ghosts",):
            world.deliver_lost()


#: b adopts what a wrote while c deletes one of its keys: the deletion must come with it, though c is not adopted.
ADOPTED = [
    *(("clear", "a"), ("clear", "a"), ("cut", ("a", "b")), ("burst", "a", 0, 13), ("twice", ("a", "c"))),
    *(("cut", ("b", "c")), ("link", ("a", "b")), ("put", "a", "k0"), ("delete", "c", "k1"), ("flow", 20)),
]


@example(ADOPTED, dict.fromkeys(NODES, 0), 0)
@given(plans, offsets, st.integers(0, 99))
def test_three_replicas_stay_safe_and_end_equal(plan: list[tuple[Any, ...]], skew: dict[str, int], seed: int) -> None:
    world = World(NODES, seed=seed, offsets=skew)
    oracle = Oracle(world)
    world.link_all()  # who has never met anybody promises nothing about what the others wrote before
    world.run(60)
    for number, action in enumerate(plan):
        play(world, oracle, action, number)
        oracle.check()
    world.check()
    world.calm()
    oracle.check()
    world.check()
    oracle.check_final(TIMELESS)
    for counter in ("sessions", "too_old", "parked", "gone", "compared_unequal"):
        event(f"{counter}: {any(replica.stats()[counter] for replica in world.nodes.values())}")
