"""Writes are handed on: one copy each, one across for each region; and somebody acts where the first does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtcache.core.codec import Limits, decode
from crdtcache.core.messages import Slice
from crdtcache.core.spread import Place, Spread, group_of
from tests.core.world import FAST, World

TREE = replace(FAST, star_members=3, fan_out=2, context_ms=10_000)


def regions(*sizes: int) -> World:
    """Regions of these sizes, everybody linked with everybody, and all quiet but for pushes and pulls."""
    world = World((), tuning=TREE)
    for region, size in enumerate(sizes):
        for number in range(size):
            world.add(f"r{region}n{number}", region=f"r{region}")
    world.link_all()
    world.run(500)
    return world


def order(world: World, region: str, writer: str) -> list[str]:
    """The members of a region, as the writes of `writer` come to them."""
    names = {replica.origin: name for name, replica in world.nodes.items()}
    places = [Place(replica.origin, replica.region) for replica in world.nodes.values()]
    spread = Spread(next(place.origin for place in places if place.region == region), region, 3, 2)
    spread.see(places)
    return [names[o] for o in spread.order(region, group_of(world[writer].origin)) if names[o] != writer]


def copies(world: World) -> int:
    return sum(replica.stats()["items_sent"] for replica in world.nodes.values())


@pytest.mark.parametrize("sizes", [(3,), (3, 3), (3, 2, 1), (9,), (9, 4, 1)])
def test_a_write_is_sent_once_to_everybody_and_crosses_once_to_each_region(sizes: tuple[int, ...]) -> None:
    world = regions(*sizes)
    crossed: list[str] = []

    def watch(source: str, target: str, data: bytes) -> None:
        messages = decode(data, Limits(TREE.key_bytes, TREE.inline_bytes))[1]
        if source[:2] != target[:2] and any(isinstance(message, Slice) and message.items for message in messages):
            crossed.append(target)

    world.watch = watch
    for number, writer in enumerate(world.nodes):
        before = copies(world)
        world.put(writer, "k", number)
        crossed.clear()
        world.carry()
        assert all(world.get(name, "k") == number for name in world.nodes)
        assert copies(world) - before == sum(sizes) - 1
        assert len(crossed) == len(sizes) - 1
    assert not sum(replica.stats()["duplicates"] for replica in world.nodes.values())


def test_where_the_entry_node_is_silent_the_second_notices_pulls_and_acts() -> None:
    """It is connected still, and nobody suspects it: of the write, the second has only been told that there is one."""
    world = regions(1, 5)
    first, second, *others = order(world, "r1", "r0n0")
    world.put("r0n0", "k", "v")
    quiet = [(a, b) for a, b in world.pipes if first not in (a, b)]
    world.carry(*quiet)
    assert [name for name in (second, *others) if world.get(name, "k")] == []
    for _ in range(3):
        world.step(TREE.graft_delay_ms)
        world.carry(*quiet)
    assert all(world.get(name, "k") == "v" for name in (second, *others))
    assert world[second].stats()["pulls"] == 1
    assert not sum(world[name].stats()["pulls"] for name in others)


def test_who_has_lost_its_link_to_the_entry_node_gives_the_copy_to_the_next() -> None:
    world = regions(1, 5)
    first, second, *others = order(world, "r1", "r0n0")
    world.cut("r0n0", first)
    world.put("r0n0", "k", "v")
    world.carry()
    assert all(world.get(name, "k") == "v" for name in (first, second, *others))
    assert world[second].stats()["pulls"] == 0
    # The first, whom nobody asked to, has passed it on to those below it as well.
    assert copies(world) == 5 + TREE.fan_out


def test_what_lies_behind_a_gap_is_not_passed_on() -> None:
    """Who passed it on would claim to have all that was written before it."""
    world = regions(1, 3)
    first, second, third = order(world, "r1", "r0n0")
    world.put("r0n0", "lost", "v")
    assert world.pump("r0n0", first)
    world.pipes["r0n0", first].frames.clear()
    world.put("r0n0", "k", "v")
    world.carry(("r0n0", first), (first, second), (first, third))
    assert world.get(first, "k") == "v"
    assert world.get(first, "lost") is None
    assert not world.get(second, "k")
    assert not world.get(third, "k")
    world.step(TREE.graft_delay_ms)
    world.step(TREE.graft_delay_ms)
    world.carry()
    assert all(world.get(name, key) == "v" for name in (first, second, third) for key in ("lost", "k"))


def test_who_becomes_the_entry_node_begins_at_the_head() -> None:
    """What it lacks of the time before it pulls; what comes after is pushed, and nothing twice."""
    world = regions(1, 5)
    first, second, *_ = order(world, "r1", "r0n0")
    world.put("r0n0", "k", 1)
    world.carry()
    world.cut_off(first)
    world.put("r0n0", "k", 2)
    world.carry()
    assert world.get(second, "k") == 2
    before = copies(world)
    for name in world.nodes:
        world.link(name, first)
    world.carry()
    world.run(200)
    assert world.get(first, "k") == 2
    assert copies(world) - before == 1


def test_who_waits_hears_from_all_at_once_through_the_tree_and_from_those_that_had_it_already() -> None:
    world = regions(9, 4, 1)
    for number, writer in enumerate(("r0n3", "r1n0", "r2n0")):
        version = world.put(writer, "k", number)
        world.carry()
        before = {name: world[name].stats()["frames_sent"] for name in world.nodes}
        world[writer].ask_receipts(world.reading(writer))
        world.carry()
        assert sorted(world[writer].acknowledged(version)) == sorted(
            replica.origin for name, replica in world.nodes.items() if name != writer
        )
        sent = sum(world[name].stats()["frames_sent"] - before[name] for name in world.nodes)
        assert sent <= 2 * 13 + 3, "a question and an answer for each, and a row for the second in each region"


def test_who_has_not_the_write_is_not_counted() -> None:
    world = regions(1, 5)
    first, second, *others = order(world, "r1", "r0n0")
    version = world.put("r0n0", "k", 1)
    world["r0n0"].ask_receipts(world.reading("r0n0"))
    world.carry(("r0n0", first), (first, "r0n0"), ("r0n0", second), (second, "r0n0"))
    assert world["r0n0"].acknowledged(version) == [world[first].origin]
    world.carry()
    assert len(world["r0n0"].acknowledged(version)) == 1 + 1 + len(others)


def test_of_many_that_join_at_once_each_asks_for_what_was_there_and_passes_nothing_on() -> None:
    world = World("abcdef", tuning=replace(FAST, log_records=1_000))
    for number in range(200):
        world.put("a", f"k{number}", number)
    world.link_all()
    world.calm()
    assert [len(world.visible(name)) for name in "abcdef"] == [200] * 6
    assert [world[name].stats()["entries_received"] for name in "bcdef"] == [200] * 5
