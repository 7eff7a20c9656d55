"""Promises that stand or fall with one rule: scenarios that `test_ablations` plays with the rule and without it."""

from __future__ import annotations

from dataclasses import replace

from crdtcache.core.lwwmap import LWWMap, Verdict
from crdtcache.core.messages import Item, Slice
from tests.core import test_sessions as sessions
from tests.core.world import FAST, HOUR_MS, World

PATIENT = replace(FAST, gc_hold_ms=HOUR_MS, log_records=1_000)


def what_was_removed_in_a_gap_stays_removed() -> bool:
    """The dot of O5: `c` has a value only as an offer, sees its delete, forgets both, and is offered it again."""
    world = World("c")
    held: LWWMap = world["c"].map
    now = world.reading("c")
    stamp = now.wall_ms << 16
    value = (stamp, 77, stamp, 77, 0, 0, "old")
    dead = (stamp + 5, 88, stamp + 5, 88, 0, 2, (stamp, 77))
    assert held.offer("k", value, now, None) is Verdict.TAKEN
    assert held.offer("k", dead, now, None) is Verdict.TAKEN
    assert held.forget("k", dead, now)
    return held.offer("k", value, now, None) is Verdict.GONE


def a_slice_behind_a_gap_moves_no_frontier() -> bool:
    """C2: a slice arrives whose predecessor has not."""
    world = World("ab", tuning=PATIENT)
    world.link("a", "b")
    missing, origin = world.put("a", "one", 1)
    stamp, _ = world.put("a", "two", 2)
    entry = world.held("a", "two")
    assert entry is not None
    item = Item(stamp, stamp, 0, 0, "two", entry)
    world.inject("a", "b", Slice(origin, missing, stamp, stamp, (0, 0), (), [item]))
    assert world.get("b", "two") == 2, "an offer like any other"
    return world["b"].map.context.frontier[origin] < missing


def a_row_moves_no_frontier_past_a_write_that_is_missing() -> bool:
    """C4's `last`: the only push of a write is lost, and then a row comes."""
    world = World("ab", tuning=PATIENT)
    world.link("a", "b")
    world.run(100)
    world.put("a", "k", "v")
    world.pump("a", "b")
    world.cut("a", "b")
    world.link("a", "b")
    world.run(500)
    return world.get("b", "k") == "v"


def what_is_absent_where_a_slice_is_made_dies_where_it_arrives() -> bool:
    """A delete is collected while `b` is away for longer than anybody waits; the log still speaks of its key."""
    world = World("ab", tuning=replace(FAST, gc_hold_ms=100, log_records=1_000, compare_ms=HOUR_MS))
    world.link("a", "b")
    world.put("a", "k", "v")
    world.run(300)
    assert world.get("b", "k") == "v"
    world.cut("a", "b")
    world.delete("a", "k")
    world.run(3_000)
    assert world.held("a", "k") is None, "collected"
    world.link("a", "b")
    world.run(1_000)
    return world.get("b", "k") is None


def a_delete_is_kept_until_nothing_older_can_arrive() -> bool:
    """The low watermark: `a` wrote before `b` deleted, and is heard of again only long after."""
    world = World("ab", tuning=replace(FAST, gc_hold_ms=HOUR_MS, silent_ms=10**9, keepalive_ms=10**8))
    world.link("a", "b")
    world.run(100)
    world.put("a", "k", "concurrent and older")
    world.now_ms += 5
    world.delete("b", "k")
    for number in range(2 * FAST.log_records):
        world.put("b", f"other {number}", number)  # the log of `b` no longer speaks of its delete
    for _ in range(300):
        world.step(10)  # nothing is carried: three seconds, min_dead_age is 0.7
    world.cut("a", "b")
    world.calm()
    return world.get("a", "k") is None and world.get("b", "k") is None


def what_the_peer_learned_during_a_session_is_not_taken_for_compared() -> bool:
    """C3: `a` writes once more while `b` streams from `p`, and `p` tells of it, but has no more to offer."""
    world = World("apb", tuning=replace(FAST, compare_ms=HOUR_MS))
    world.link("a", "p")
    world.link("p", "b")
    world.run(100)
    world.cut("p", "b")
    for number in range(FAST.log_records + 8):
        world.put("a", number, number)
    world.run(100)
    world.link("p", "b")
    sessions.until_the_session_begins(world, "b")
    for _ in range(100):
        world.pump("p", "b")
        session = sessions.session_of(world, "p")
        if session is not None and session.ended and world.held("p", "late") is None:
            world.put("a", "late", 1)
            world.carry(("a", "p"))
            [link] = [link for link in world["p"]._links.values() if link.hello.name == "b"]
            world["p"]._outbox.tell(link, world.reading("p"))
            world.pump("p", "b")
        while world.deliver("p", "b"):
            pass
        world.pump("b", "p")
        world.deliver("b", "p")
    world.run(300)
    assert world.get("p", "late") == 1
    return world.get("b", "late") == 1
