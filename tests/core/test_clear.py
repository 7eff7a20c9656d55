"""D5: a clear is one number; what it covers is missing at once, everywhere it is known, and never comes back."""

from __future__ import annotations

from dataclasses import replace

from crdtcache.core.clock import Guard
from crdtcache.core.entry import live_entry
from crdtcache.core.lwwmap import Verdict
from crdtcache.core.store import ABSENT
from tests.core.world import FAST, World


def test_a_clear_takes_what_was_written_before_it_everywhere() -> None:
    world = World("ab")
    world.link_all()
    world.put("a", "x", 1)
    world.put("b", "y", 2)
    world.run(100)
    world["a"].clear(world.reading("a"))
    world.put("a", "z", 3)
    world.run(100)
    for name in "ab":
        assert [world.get(name, key) for key in "xyz"] == [None, None, 3]
    world.check()


def test_own_writes_are_above_a_clear_that_was_heard_even_with_a_slow_clock() -> None:
    world = World("ab", offsets={"a": 150})
    world.link_all()
    world["a"].clear(world.reading("a"))
    world.carry()
    for fast in (False, True):
        write = world.write if fast else world.put
        write("b", "k", 1)
        assert world.get("b", "k") == 1


def test_a_cleared_version_that_is_offered_later_is_ignored_and_not_answered() -> None:
    """The mark travels by itself and each clock judges it; GONE would carry it around the drift guard."""
    world = World("ab")
    version = world.put("a", "k", 1)
    world["b"].map.raise_clear_mark((version.stamp + 5, 1))
    reading = world.reading("b")
    assert world["b"].map.offer("k", live_entry(*version, 0, 1), reading, None) is Verdict.IGNORED


def test_a_big_clear_is_made_in_steps_and_nothing_of_it_shows_meanwhile() -> None:
    world = World("ab", tuning=replace(FAST, step_entries=2, log_records=100))
    world.link_all()
    for i in range(20):
        world.put("a", i, i)
    world.run(200)
    world["a"].clear(world.reading("a"))
    world.put("a", 3, "new")
    assert world["a"].map.clearing
    for name in "ab":
        world.carry()
        assert [i for i in range(20) if world.get(name, i) is not None] == [3]
    world.run(300)
    assert not world["a"].map.clearing
    assert len(world["a"].store.entries) == len(world["b"].store.entries) == 1
    world.check()


def test_what_survives_a_clear_is_shown_again_also_where_its_key_was_overdue() -> None:
    """A key that expired and was written again in the same sweep is no longer overdue."""
    world = World("ab")
    world.link_all()
    world.run(60)
    world.put("b", "k", "old", ttl_ms=5)
    world.step(10)
    world["b"].expire_due(world.reading("b"))
    world["b"].map.overdue["k"] = None  # the members' clocks have not agreed yet
    mark = world["a"].clear(world.reading("a"))
    world.put("b", "k", "new")
    world["b"].map.raise_clear_mark(mark)
    while world["b"].map.clearing:
        world["b"].advance(world.reading("b"))
    assert world["b"].store.shown("k") is not ABSENT


def test_gone_is_not_followed_by_an_entry_that_a_clear_has_still_to_take() -> None:
    world = World("ab")
    world.link_all()
    world.carry()
    old = world.put("b", "k", "old")
    world["b"].map.context.clear_mark = old
    [link] = world["b"]._links.values()
    link.control.clear()
    world["b"]._outbox.answer_gone(link, [("k", old.stamp + 1, 5)])
    assert len(link.control) == 1


def test_a_session_ends_when_a_clear_begins_because_it_cannot_be_complete_any_more() -> None:
    """Random schedule 499: rows were adopted for entries that the peer had cleared, and so did not offer."""
    world = World("abc")
    world.link("a", "b")
    world.link("b", "c")
    for key in range(16):
        world.put("b", key, "old")
    world.run(200)
    world.cut("b", "c")
    overwritten = {key: world.put("b", key % 16, "new") for key in range(20)}
    world.run(200)
    assert world.link("b", "c")
    while not any(link.session is not None and link.session.rows for link in world["c"]._links.values()):
        for direction in (("b", "c"), ("c", "b")):
            world.pump(*direction)
            world.deliver(*direction)
        world.step(1)
    world["a"].clear(world.reading("a"))
    world.carry(("a", "b"))
    for _ in range(50):
        for direction in (("b", "c"), ("c", "b")):
            world.pump(*direction)
            world.deliver(*direction)
        for key in range(16):
            assert world.get("c", key) != "old" or not world.covers("c", overwritten[key], key)
    world.calm()
    assert not world.visible("c")


def test_a_clear_far_ahead_is_parked_and_one_absurdly_far_ahead_breaks_the_link() -> None:
    world = World("ab", offsets={"a": FAST.max_drift_ms + 100})
    world.link_all()
    world.put("b", "k", 1)
    mark = world["a"].clear(world.reading("a"))
    world.run(50)
    assert world["b"].map.context.clear_mark == (0, 0)
    world.run(200)
    assert world["b"].map.context.clear_mark == mark

    world = World("ab", offsets={"a": FAST.reject_ms + 1_000})
    world.link_all()
    mark = world["a"].clear(world.reading("a"))
    world.put("b", "k", 1)
    assert world["b"].map.clock.judge(mark.stamp, world.wall_ms("b")) is Guard.REJECT
    world.carry(("b", "a"))
    world.run(50)
    assert world.get("b", "k") == 1
    assert world["b"].stats()["links_broken"] >= 1
    assert world["b"].map.context.clear_mark == (0, 0)
