"""Each of five rules, switched off alone, breaks a promise that holds with it: the proof that the test can fail.

The table is the list that the README speaks of: rule, how it is switched off from outside, what then happens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from crdtcache.core import replica as replica_room
from crdtcache.core.context import Context
from crdtcache.core.lwwmap import LWWMap, Verdict
from crdtcache.core.messages import Item, Row, Slice
from crdtcache.core.replica import Replica
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


def no_dot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Context, "leave_dot", lambda self, stamp, origin: None)


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


def gaps_ignored(patch: pytest.MonkeyPatch) -> None:
    apply = replica_room.apply_slice

    def apply_slice(held: LWWMap, part: Slice, *rest: object) -> object:
        return apply(held, part._replace(lo=min(part.lo, held.context.frontier.get(part.origin, 0))), *rest)  # type: ignore[arg-type]

    patch.setattr(replica_room, "apply_slice", apply_slice)


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


def last_ignored(patch: pytest.MonkeyPatch) -> None:
    apply_row = Context.apply_row
    patch.setattr(Context, "apply_row", lambda self, row, limit: apply_row(self, Row(row.origin, 0, row.now), limit))


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


def absent_items_left_out(patch: pytest.MonkeyPatch) -> None:
    from crdtcache.core import outbox

    make = outbox.make_slice

    def make_slice(held: LWWMap, origin: int, lo: int, budget: int) -> Slice | None:
        part = make(held, origin, lo, budget)
        if part is None:
            return None
        return part._replace(items=[item for item in part.items if item.key in held.store.entries])

    patch.setattr(outbox, "make_slice", make_slice)


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


def watermark_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Replica, "_watermark", lambda self, now_ns: 1 << 64)


OFF: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], bool]]] = {
    "the dot of O5": (no_dot, what_was_removed_in_a_gap_stays_removed),
    "the gap rule of C2": (gaps_ignored, a_slice_behind_a_gap_moves_no_frontier),
    "C4's last": (last_ignored, a_row_moves_no_frontier_past_a_write_that_is_missing),
    "absent items become dead in slices": (
        absent_items_left_out,
        what_is_absent_where_a_slice_is_made_dies_where_it_arrives,
    ),
    "the low watermark": (watermark_ignored, a_delete_is_kept_until_nothing_older_can_arrive),
}


@pytest.mark.parametrize("rule", OFF)
def test_with_the_rule_the_promise_holds(rule: str) -> None:
    _, promise = OFF[rule]
    assert promise()


@pytest.mark.parametrize("rule", OFF)
def test_without_the_rule_it_is_broken(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    switch_off, promise = OFF[rule]
    switch_off(monkeypatch)
    try:
        kept = promise()
    except AssertionError:
        kept = False
    assert not kept, f"{rule} is off and nothing broke: the scenario proves nothing"
