"""Ways to go (D1 to D4) and memory limits (E1 to E3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtcache.core.entry import DEAD, EXPIRES, GHOST, LIVE, STATE, TOUCH, VALUE, live_entry
from crdtcache.core.lwwmap import Verdict
from crdtcache.core.store import ABSENT
from tests.core.world import FAST, HOUR_MS, World

QUIET = replace(FAST, compare_ms=HOUR_MS)  # what heals here is not a session


def kinds(world: World, name: str, key: str = "k") -> list[str]:
    return [change.kind for change in world.changes(name) if change.key == key]


# ---- D1: delete -----------------------------------------------------------------------------------------------------


def test_d1_a_delete_is_a_write_and_wins_over_what_its_writer_could_see() -> None:
    world = World("abc")
    world.link_all()
    world.put("a", "k", 1)
    world.run(100)
    removed = world.held("b", "k")[:2]
    version = world.delete("b", "k")
    assert version > removed
    assert world.held("b", "k")[VALUE] == removed
    world.run(100)
    assert [world.get(name, "k") for name in "abc"] == [None] * 3
    assert kinds(world, "c") == ["set", "deleted"]


def test_d1_an_absent_key_can_be_deleted_and_older_writes_of_it_lose() -> None:
    world = World("ab")
    world.link_all()
    world.run(60)
    world.cut("a", "b")
    world.put("a", "k", "older, unseen")
    world.step(5)
    _, shown = world["b"].delete("k", world.reading("b"))
    assert shown is False
    world.link("a", "b")
    world.run(200)
    assert world.get("a", "k") is None


# ---- D2: expire -----------------------------------------------------------------------------------------------------


def test_d2_reads_miss_by_the_own_clock_and_the_entry_dies_by_the_slowest() -> None:
    world = World("ab", offsets={"a": 100, "b": -50}, tuning=QUIET)
    world.link_all()
    world.run(60)
    version = world.put("a", "k", 1, ttl_ms=150)
    world.run(50)
    assert world.get("b", "k") == 1
    world.run(110)  # over for the fast one
    assert world.get("a", "k") is None
    assert world.held("a", "k")[STATE] == LIVE
    assert world.get("b", "k") == 1
    assert kinds(world, "a")[-1] == "expired"
    world.run(200)  # over for the slow one too
    for name in "ab":
        assert world.held(name, "k")[:2] == version[:2]
        assert world.held(name, "k")[STATE] == DEAD
        assert kinds(world, name).count("expired") == 1
    world.check()


def test_d2_nothing_is_sent_for_an_expiry() -> None:
    world = World("ab", tuning=QUIET)
    world.link_all()
    for i in range(5):
        world.put("a", i, i, ttl_ms=200)
    world.run(150)
    sent = [world[name].stats()["entries_sent"] for name in "ab"]
    world.run(400)
    assert [world[name].stats()["dead"] for name in "ab"] == [5, 5]
    assert [world[name].stats()["entries_sent"] for name in "ab"] == sent


def test_d2_who_has_seeds_and_has_heard_nobody_lets_nothing_die() -> None:
    world = World("a", seeded=True)
    world.put("a", "k", 1, ttl_ms=50)
    world.run(500)
    assert world.get("a", "k") is None
    assert world.held("a", "k")[STATE] == LIVE


def test_i8_what_was_written_anew_after_it_had_expired_is_no_room_to_be_had() -> None:
    """It waited to die, a seeded node that had met nobody was full, and the value just written went instead."""
    world = World("a", seeded=True, max_bytes=20_000)
    world.put("a", "k", 1, ttl_ms=40)
    world.run(100)
    for i in range(30):
        if world["a"].stats()["bytes"] < 19_000:
            world.put("a", f"k{i}", "x" * 300)
    world.put("a", "k", "y" * 1_000)  # this one makes it full
    entry = world.held("a", "k")
    assert entry is not None
    assert entry[VALUE] in ("y" * 1_000, None)  # evicted perhaps, never forgotten
    world.check()


def test_i8_what_expires_has_a_bound_where_seeds_were_never_met() -> None:
    world = World("a", seeded=True, max_bytes=80_000)
    most = 0
    for i in range(1_500):
        world.put("a", f"k{i}", "value", ttl_ms=40)
        world.step(5)
        most = max(most, world["a"].stats()["bytes"])
    assert most < 1.1 * 80_000  # between two steps of housekeeping
    assert world.get("a", "k1499") is not None
    late = world.put("a", "last", 1)
    world.add("b")
    world.calm()
    assert world.get("b", "last") == 1
    assert world.held("b", "last")[:2] == late
    world.check()


def test_d2_who_never_had_a_peer_goes_by_its_own_clock() -> None:
    world = World("a")
    world.put("a", "k", 1, ttl_ms=50)
    world.run(100)
    assert world.held("a", "k")[STATE] == DEAD


def test_d2_a_member_that_is_away_is_waited_for_until_it_is_out_of_use() -> None:
    world = World("ab", offsets={"b": -199}, tuning=replace(QUIET, gc_hold_ms=1_000))
    world.link_all()
    world.run(60)
    world.cut("a", "b")
    world.put("a", "k", 1, ttl_ms=100)
    world.run(250)
    assert world.held("a", "k")[STATE] == LIVE
    world.run(60)  # its clock, advanced by ours
    assert world.held("a", "k")[STATE] == DEAD


def test_d2_a_key_that_is_written_again_before_all_clocks_agree_lives() -> None:
    world = World("ab", offsets={"b": -150}, tuning=QUIET)
    world.link_all()
    world.run(60)
    world.put("a", "k", 1, ttl_ms=50)
    world.run(80)
    assert world.get("a", "k") is None
    world.put("a", "k", 2)
    world.run(400)
    assert world.get("a", "k") == world.get("b", "k") == 2
    world.check()


def test_d2_an_expiry_is_swept_on_demand() -> None:
    world = World("a")
    world.put("a", "k", 1, ttl_ms=50)
    world.put("a", "l", 1, ttl_ms=50)
    world.now_ms += 50
    assert world["a"].expire_due(world.reading("a"), "k") == ["k"]
    assert world["a"].expire_due(world.reading("a")) == []
    assert world["a"].stats()["expired"] == 2


# ---- D3: touch ------------------------------------------------------------------------------------------------------


def test_d3_a_touch_moves_the_expiry_everywhere_and_makes_no_version() -> None:
    world = World("abc")
    world.link_all()
    version = world.put("a", "k", 1, ttl_ms=150)
    world.run(50)
    assert world.touch("b", "k", 5_000)
    world.run(500)
    for name in "abc":
        assert world.get(name, "k") == 1
        assert world.held(name, "k")[:2] == version[:2]
    assert world.agree()
    assert world.touch("c", "k", 0)
    world.run(100)
    assert world.held("a", "k")[EXPIRES] == 0


def test_d3_a_touch_never_revives_and_never_beats_a_set() -> None:
    world = World("ab", tuning=QUIET)
    world.link_all()
    world.run(60)
    world.put("a", "k", 1)
    world.run(30)
    world.put("a", "l", 1)
    world.run(30)
    world.cut("a", "b")
    world.delete("a", "k")
    world.put("a", "l", "newer")
    world.step(5)
    assert world.touch("b", "k", 60_000)
    assert world.touch("b", "l", 60_000)
    assert not world.touch("b", "absent", 60_000)
    world.link("a", "b")
    world.run(300)
    for name in "ab":
        assert world.get(name, "k") is None
        assert world.get(name, "l") == "newer"
        assert world.held(name, "l")[EXPIRES] == 0


def test_d3_of_two_touches_the_later_stamp_wins() -> None:
    world = World("ab")
    world.link_all()
    world.put("a", "k", 1, ttl_ms=10_000)
    world.run(60)
    world.cut("a", "b")
    world.touch("a", "k", 50_000)
    world.step(5)
    world.touch("b", "k", 20_000)
    expected = world.held("b", "k")[:5]
    assert expected[TOUCH] > world.held("a", "k")[TOUCH]
    world.link("a", "b")
    world.run(200)
    assert world.held("a", "k")[:5] == world.held("b", "k")[:5] == expected


def test_d3_where_a_touched_entry_is_absent_the_slice_says_dead_at_the_base_version() -> None:
    """And not at the touch: that would remove writes that nobody who removed the entry had seen."""
    world = World("abc", tuning=replace(QUIET, log_records=1_000))
    world.link("a", "b")
    version = world.put("a", "k", 1)
    world.run(60)
    world.touch("b", "k", 60_000)
    world.run(60)
    world["b"].map.gone("k", version[:2], world.reading("b"))
    unseen = live_entry(world.held("a", "k")[TOUCH] - 1, 77, 0, "between base and touch")
    world["c"].map.offer("k", unseen, world.reading("c"), None)
    world.link("b", "c")
    world.run(200)
    assert world.get("c", "k") == "between base and touch"
    assert world["c"].map.offer("k", live_entry(*version[:2], 0, 1), world.reading("c"), None) is not Verdict.TAKEN


# ---- D4, E1, E2, E3: memory -----------------------------------------------------------------------------------------


def test_d4_an_eviction_leaves_a_ghost_of_the_same_version_and_sends_nothing() -> None:
    world = World("ab")
    world.link_all()
    world.put("a", "k", "v", ttl_ms=60_000)
    world.run(100)
    before = world.held("b", "k")
    digest, sent = world["b"].digest(), world["b"].stats()["entries_sent"]
    assert world["b"].evict("k", world.reading("b"))
    assert not world["b"].evict("k", world.reading("b"))
    assert world.held("b", "k") == (*before[:STATE], GHOST, None)
    assert world["b"].digest() == digest  # E1
    world.run(500)
    assert world["b"].stats()["entries_sent"] == sent
    assert world.get("a", "k") == "v"
    assert kinds(world, "b") == ["set", "evicted"]
    assert world["b"].stats()["live"] == 0
    world.check()


def test_d4_a_value_that_is_offered_again_fills_the_ghost() -> None:
    world = World("ab")
    world.link_all()
    version = world.put("a", "k", "v")
    world.run(100)
    world["b"].evict("k", world.reading("b"))
    assert world["b"].map.offer("k", live_entry(*version[:2], 0, "v"), world.reading("b"), None) is Verdict.MERGED
    assert world.get("b", "k") == "v"


def test_a_local_clear_makes_ghosts_only_here() -> None:
    world = World("ab")
    world.link_all()
    for i in range(5):
        world.put("a", i, i)
    world.run(100)
    world["a"].clear_local(world.reading("a"))
    world.run(500)
    assert world.agree()
    assert [world[name].stats()["live"] for name in "ab"] == [0, 5]


def test_e2_what_nobody_else_is_known_to_hold_is_evicted_last() -> None:
    world = World("ab", maxsize=10)
    world.link("a", "b")
    world.put("a", "only here", 1)
    for i in range(20):
        held = live_entry((world.wall_ms("a") << 16) - 100 + i, 77, 0, i)
        world["a"].map.offer(i, held, world.reading("a"), None)
    for _ in range(3):  # a few at a time
        world["a"].advance(world.reading("a"))
    assert world["a"].store.shown("only here") is not ABSENT
    assert world["a"].stats()["live"] == 10
    assert world["a"].stats()["evicted"] == 11


def test_e3_maxsize_counts_live_values_and_max_bytes_values_and_index() -> None:
    world = World("ab", maxsize=10)
    world.link_all()
    for i in range(30):
        world.put("a", i, i)
        world.run(10)
    assert world["a"].stats()["live"] == world["b"].stats()["live"] == 10
    assert world["a"].stats()["visible"] == 30  # ghosts
    assert world.agree()
    world = World("ab", max_bytes=4_000)
    world.link_all()
    for i in range(10):
        world.put("a", i, "x" * 500)
    world.run(100)
    for name in "ab":
        assert world[name].store.bytes <= 4_000
        assert world[name].stats()["live"] < 10
    assert world.agree()


def test_who_never_had_a_peer_keeps_no_ghosts() -> None:
    world = World("a", maxsize=10)
    for i in range(30):
        world.put("a", i, i)
    assert len(world["a"].store.entries) == 10
    world.step()
    assert kinds(world, "a", 0) == ["set", "evicted"]
    world.add("b")
    world.calm()
    assert len(world.visible("b")) == 10
    world.check()


@pytest.mark.parametrize("ttl_ms", [0, 40], ids=["values", "what has expired"])
@pytest.mark.parametrize(("crowded", "other"), [("child", "parent"), ("parent", "child")])
def test_e1_what_a_fork_has_in_common_with_its_parent_is_lost_by_neither_because_the_other_makes_room(
    crowded: str, other: str, ttl_ms: int
) -> None:
    """Found by fuzzing: before they had met, one forgot it outright, and told the other that it had been deleted."""
    world = World((), origins={"parent": 5, "child": 5}, seeded=ttl_ms > 0)
    for name in ("parent", "child"):  # stamp by stamp the same
        limits = {"max_bytes": 20_000} if ttl_ms else {"maxsize": 10}
        world.add(name, **limits if name == crowded else {})
        for i in range(8):
            world.put(name, i, i, ttl_ms)
    world["parent"].shared()
    world["child"].renamed(77, "child", world.wall_ms("child") + 1, world.reading("child"))
    for i in range(8):
        world.touch(other, i, HOUR_MS)  # the one that makes room does not hear of it
    for i in range(500):
        world.put(crowded, f"own {i}", i, ttl_ms)
        world.step(5)
    assert len(world[crowded].store.entries) < 150, "what was written since the fork leaves no ghosts"
    world.calm()
    assert [world.get(other, i) for i in range(8)] == list(range(8))
    world.check()
