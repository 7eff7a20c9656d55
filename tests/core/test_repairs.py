"""A repair costs what differs, not what is held; replicas that are equal say so in two messages."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from crdtcache.tuning import Tuning
from tests.core.repairs import VALUE_BYTES, equal_pair, repair, watched
from tests.core.world import World

KEYS = 6_000


@pytest.mark.parametrize("by_digest", [False, True])
@pytest.mark.parametrize(("differing", "most"), [(0, 150), (1, 6_000), (10, 20_000)])
def test_a_small_repair_takes_a_few_kilobytes(differing: int, most: int, by_digest: bool) -> None:
    done = repair(equal_pair(KEYS), differing, by_digest=by_digest)
    assert done.bytes < most, done


def test_a_repair_by_slices_takes_little_more_than_what_differs() -> None:
    done = repair(equal_pair(KEYS), 500, by_digest=False)
    assert done.bytes <= 1.4 * done.entries, done
    assert not done.counts["List"]


def test_a_repair_by_digest_takes_a_few_times_what_differs() -> None:
    """In more than one session, each within its limits."""
    world = equal_pair(KEYS, replace(Tuning(), session_leaves=200))
    done = repair(world, 500, by_digest=True)
    assert done.bytes <= 7 * done.entries, done
    assert done.counts["Slice"] == 0
    assert world["b"].stats()["sessions_limited"] >= 2


def test_after_five_minutes_of_cut_the_bytes_are_proportional_to_what_changed() -> None:
    world = equal_pair(KEYS)
    done = repair(world, KEYS // 100, by_digest=False, cut_ms=300_000)
    assert done.bytes <= 2 * done.entries, done


def test_two_equal_idle_replicas_compare_in_two_messages_in_ten_seconds() -> None:
    world = equal_pair(500)
    world.run(30_000, 50)
    sizes, counts = watched(world)
    for _ in range(5):
        counts.clear()
        sizes.clear()
        world.run(10_000, 50)
        assert sum(counts.values()) <= 2, counts
        assert set(counts) <= {"Open", "Equal"}
        assert sum(sizes.values()) < 150


def test_where_a_thousand_entries_expire_per_second_on_both_no_entry_moves() -> None:
    world = World("ab", tuning=replace(Tuning(), compare_ms=500), offsets={"a": 70, "b": -40})
    world.link_all()
    world.run(100)
    for i in range(8_000):
        world.put("ab"[i % 2], f"key:{i:06d}", i, 1_000 + i)
    world.run(1_000)
    sent = [world[name].stats()["entries_sent"] for name in "ab"]
    counts = watched(world)[1]
    while world["a"].stats()["visible"]:
        # Sweeps and messages at odds with each other, as between processes.
        world.step(7)
        world.carry(("a", "b"))
        world.step(16)
        world.carry()
    assert counts["Open"] >= 10
    assert sent == [world[name].stats()["entries_sent"] for name in "ab"]
    assert not counts["Offer"] + counts["Want"] + counts["Slice"]


def filled(*, cut: bool) -> tuple[int, int]:
    """Bytes until a joiner has all, while its donor goes on writing, and sessions that came to their limits."""
    count, burst = 12_000, 20
    world = World("a", tuning=replace(Tuning(), log_records=6_000, dots_per_origin=16, session_leaves=64))
    for number in range(count):
        world.write("a", number, "x" * VALUE_BYTES)
    world.run(100)
    rng, donor, joiner = random.Random(3), world["a"], world.add("b")
    sizes = watched(world)[0]
    world.link("a", "b")
    while not joiner.map.context.reach(donor.origin) or not joiner.caught_up():
        for _ in range(burst):
            world.write("a", rng.randrange(count), "y" * VALUE_BYTES)
        world.step(5)
        for source, target in ("ab", "ba"):
            world.pump(source, target)
            world.deliver(source, target)
        if cut and len(joiner.store.entries) >= count // 2:
            cut = False
            world.cut("a", "b")
            for _ in range(20 * burst):
                world.write("a", rng.randrange(count), "y" * VALUE_BYTES)
            world.run(100)
            world.link("a", "b")
        assert world.now_ms < 5_000
    assert len(joiner.store.entries) == count
    return sizes.total(), joiner.stats()["sessions_limited"]


def test_a_joiner_that_is_cut_off_half_way_goes_on_where_it_was_although_writes_go_on() -> None:
    through, limited = filled(cut=False)
    assert limited == 0
    again, limited = filled(cut=True)
    assert limited <= 10
    assert again <= 1.1 * through
