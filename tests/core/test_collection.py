"""The collection of the dead: when an entry may be forgotten, and what must stay known of it then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtcache.core.entry import DEAD, STATE, live_entry
from crdtcache.core.lwwmap import Verdict
from tests.core.world import FAST, HOUR_MS, World

QUIET = replace(FAST, compare_ms=HOUR_MS)  # what heals here is not a session


def test_a_dead_entry_is_forgotten_after_its_least_age_when_all_in_use_were_heard_beyond_it() -> None:
    world = World("abc")
    world.link_all()
    world.put("a", "k", 1)
    world.run(100)
    removed = world.held("a", "k")[:2]
    version = world.delete("a", "k")
    world.run(FAST.min_dead_age_ms - 50)
    assert [world.held(name, "k")[STATE] for name in "abc"] == [DEAD] * 3
    world.run(200)
    for name in "abc":
        assert world.held(name, "k") is None
        assert world.covers(name, version, "k")
        assert world.covers(name, removed, "k")
        offered = world[name].map.offer("k", live_entry(*removed, 0, 1), world.reading(name), None)
        assert offered is Verdict.GONE
    assert world.agree()


def test_a_member_that_is_away_holds_collection_back_until_it_is_out_of_use() -> None:
    world = World("abc", tuning=replace(FAST, gc_hold_ms=3_000))
    world.link_all()
    world.run(60)
    world.cut_off("c")
    world.delete("a", "k")
    world.run(2_500)
    assert world.held("a", "k") is not None
    world.run(1_000)
    assert world.held("a", "k") is None
    assert world["a"].stats()["unsafe_gc"] == 0


def test_a_process_that_was_succeeded_does_not_hold_collection_back() -> None:
    world = World("ab")
    world.link_all()
    world.run(60)
    world.cut("a", "b")
    world.delete("a", "k")
    world.run(1_000)
    assert world.held("a", "k") is not None
    world.add("b")
    world.link("a", "b")
    world.run(100)
    assert world.held("a", "k") is None


def test_what_died_of_expiry_is_forgotten_without_waiting_for_anybody() -> None:
    world = World("ab", tuning=QUIET)
    world.link_all()
    world.run(60)
    world.cut("a", "b")
    world.put("a", "k", 1, ttl_ms=50)
    world.run(FAST.min_dead_age_ms + 150)
    assert world.held("a", "k") is None
    world.check()


def test_beyond_their_share_the_oldest_dead_go_first_and_are_counted() -> None:
    world = World("ab", tuning=replace(FAST, dead_share=0.005, log_records=100))  # five of a thousand
    world.link_all()
    world.run(60)
    world.cut("a", "b")
    for i in range(9):
        world.delete("a", i)
        world.run(10)
    world.run(FAST.min_dead_age_ms - 200)
    assert world["a"].stats()["dead"] == 9  # forced collection keeps to the least age as well
    world.run(500)
    assert world["a"].stats()["dead"] == 5
    assert world["a"].stats()["unsafe_gc"] == 4
    assert [world.held("a", i) is None for i in range(9)] == [True] * 4 + [False] * 5
    world.check()


def test_the_dead_without_room_for_their_dots_are_kept_and_do_not_stop_the_others() -> None:
    world = World("a", tuning=replace(FAST, dots_per_origin=1))
    held, now = world["a"].map, world.reading("a")
    stamp = now.wall_ms << 16
    for i in range(4):  # of an origin that nobody can tell more of
        held.offer(i, (stamp + i, 77, stamp + i, 77, 0, DEAD, None), now, None)
    held.offer("other", (stamp + 9, 88, stamp + 9, 88, 0, DEAD, None), now, None)
    world.run(1_500)
    assert sorted(held.deleted, key=str) == [1, 2, 3]
    world.check()


@pytest.mark.parametrize("log_records", [64, 10_000])
def test_processes_that_live_hardly_longer_than_the_dead_collect_them_all_the_same(log_records: int) -> None:
    """One of three is restarted each second, and the dead are held for two; each newcomer takes them over."""
    tuning = replace(FAST, log_records=log_records, min_dead_age_ms=2_000, max_frame_age_ms=1_000, step_entries=64)
    world = World("abc", tuning=replace(tuning, gc_hold_ms=60_000))
    each, held = 20, []
    for second in range(14):
        world.add("abc"[second % 3])
        for number in range(each):
            world.link_all()
            world.put("b", (second, number), 1)
            world.run(50)
            world.delete("a", (second, number))
        held.append(max(world[name].stats()["dead"] for name in "abc"))
    # Held for two seconds where they were made, once more by who came in between, and then it ends.
    assert max(held) <= 5 * each, held
    assert max(held[-3:]) <= max(held[5:8]) + each // 2, held
    assert sum(world[name].stats()["unsafe_gc"] for name in "abc") == 0
    for second in range(6):
        world.add("abc"[second % 3])
        for _ in range(20):
            world.link_all()
            world.run(50)
    assert [world[name].stats()["dead"] for name in "abc"] == [0, 0, 0]


@pytest.mark.parametrize("away_ms", [200, 2_000, 5_000])
def test_a_returner_resurrects_nothing_however_long_it_was_away(away_ms: int) -> None:
    """No resurrection, no deadline: deletes, overwrites and clears meet one who still has it all."""
    world = World("abc", tuning=replace(FAST, gc_hold_ms=1_000))
    world.link_all()
    for i in range(12):
        world.put("c", i, "old")
    world.run(100)
    world.cut_off("c")
    for i in range(4):
        world.delete("a", i)
        world.put("b", 4 + i, "new")
    world.run(away_ms)
    world.link("c", "b")
    world.link("c", "a")
    for _ in range(100):
        world.run(10)
        for name in "ab":
            assert [world.get(name, i) for i in range(4)] == [None] * 4
    assert world.agree()
    assert [world.get("c", i) for i in range(12)] == [None] * 4 + ["new"] * 4 + ["old"] * 4
    world.check()
