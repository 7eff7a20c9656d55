"""The context: C1, C2's gaps and pulls, C4, and what a pull is answered."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtcache.core.clock import Clock, Guard
from crdtcache.core.codec import Limits, decode
from crdtcache.core.context import Context
from crdtcache.core.entry import live_entry
from crdtcache.core.gaps import Gaps
from crdtcache.core.log import Log
from crdtcache.core.messages import Context as ContextMessage
from crdtcache.core.messages import Item, Pull, Row, Slice, TooOld
from tests.core.world import FAST, WALL_MS, World

A, B = 0xA1B2C3D4E5F60718, 0xB1B2C3D4E5F60718
LONG = replace(FAST, log_records=1_000)


def sent(world: World, source: str, target: str) -> list[object]:
    """The messages that `source` has for `target` now; they are not delivered."""
    messages: list[object] = []
    while world.pump(source, target):
        messages += decode(world.pipes[source, target].frames.pop(), Limits(64, 1_024))[1]
    return messages


# ---- C1, and the clock ----------------------------------------------------------------------------------------------


def test_c1_an_own_write_moves_the_own_frontier_and_nothing_else() -> None:
    world = World("ab")
    world.link_all()
    version = world.put("a", "k", 1)
    assert world["a"].map.context.frontier[world["a"].origin] == version.stamp
    assert world["a"].map.context.last[world["a"].origin] == version.stamp
    assert world["b"].map.context.frontier.get(world["a"].origin, 0) < version.stamp


def test_a_row_that_was_announced_is_issued() -> None:
    """No later write is at or below it, in the same millisecond or with a clock that went back."""
    for back in (0, 50):
        world = World("ab", offsets={"b": -100})  # whose clock moves nobody's
        world.link_all()
        world.run(60)
        announced = world["a"].map.context.frontier[world["a"].origin]
        assert announced >> 16 <= world.wall_ms("a")
        world["a"]._outbox.tell(next(iter(world["a"]._links.values())), world.reading("a"))
        announced = world["a"].map.context.frontier[world["a"].origin]
        world.offset_ms["a"] -= back
        assert world.put("a", "k", 1).stamp > announced
        world.run(60)
        assert world.get("b", "k") == 1


@given(st.lists(st.tuples(st.sampled_from(["issue", "announce", "accept"]), st.integers(-50, 50)), max_size=40))
def test_stamps_of_one_origin_strictly_increase_whatever_the_clock_does(steps: list[tuple[str, int]]) -> None:
    clock, issued, floor = Clock(1_000, 60_000), 0, 0
    for kind, at in steps:
        wall = WALL_MS + at
        if kind == "issue":
            stamp = clock.issue(wall)
            assert stamp > max(issued, floor)
            issued = stamp
        elif kind == "announce":
            floor = max(floor, clock.announce(wall))
        else:
            clock.accept((wall << 16) + 7)
            floor = max(floor, (wall << 16) + 7)
        assert clock.last >= max(issued, floor)


def test_the_counter_borrows_from_the_next_millisecond() -> None:
    clock = Clock(1_000, 60_000)
    first = clock.issue(WALL_MS)
    for _ in range(1 << 16):
        last = clock.issue(WALL_MS)
    assert last == first + (1 << 16)
    assert clock.issue(WALL_MS, above=last + 99) == last + 100


def test_the_guard_parks_beyond_the_drift_and_rejects_beyond_all_reason() -> None:
    clock = Clock(1_000, 60_000)
    for ahead, expected in ((0, Guard.ACCEPT), (1_000, Guard.ACCEPT), (1_001, Guard.PARK), (60_001, Guard.REJECT)):
        stamp = ((WALL_MS + ahead) << 16) + 65_535
        assert clock.judge(stamp, WALL_MS) is expected
        assert clock.judge(stamp, clock.due_ms(stamp)) is Guard.ACCEPT
        assert (stamp <= clock.limit(WALL_MS)) == (expected is Guard.ACCEPT)


def test_i7_a_lying_clock_moves_nobody_beyond_true_time_and_the_drift() -> None:
    for lie in (150, 300, 3_000, 10_000):
        world = World("abc", offsets={"c": lie})
        for _ in range(60):
            world.link_all()
            world.put("c", "k", 1)
            world.put("a", "l", 1)
            world["c"].clear(world.reading("c")) if lie > FAST.max_drift_ms else None
            world.run(10)
            for name in "ab":
                most = world.wall_ms(name) + FAST.max_drift_ms
                assert world[name].map.clock.last >> 16 <= most + 1
                assert max(world[name].map.context.frontier.values()) >> 16 <= most + 1
        assert world.get("b", "l") == 1 or lie <= FAST.reject_ms  # a clear that is due takes it, rejected it does not


# ---- C2: gaps and pulls ---------------------------------------------------------------------------------------------


def test_c2_what_lies_behind_a_gap_is_taken_at_once_and_the_gap_is_pulled_after_the_graft_delay() -> None:
    world = World("ab", tuning=LONG)
    world.link_all()
    world.run(100)
    first = world.put("a", "one", 1)
    world.pump("a", "b")
    world.pipes["a", "b"].frames.clear()  # lost on the way, somehow
    world.step(1)
    second = world.put("a", "two", 2)
    world.carry(("a", "b"))
    origin = world["a"].origin
    assert world.get("b", "two") == 2
    assert world.get("b", "one") is None
    assert world["b"].map.context.frontier[origin] < first.stamp < second.stamp
    pulls = [m for m in sent(world, "b", "a") if isinstance(m, Pull)]
    assert pulls == []  # the missing slice may be on its way
    world.step(FAST.graft_delay_ms + 1)
    pulls = [m for m in sent(world, "b", "a") if isinstance(m, Pull)]
    assert [(p.origin, p.lo) for p in pulls] == [(origin, world["b"].map.context.frontier[origin])]
    world.step(FAST.graft_delay_ms + 1)
    assert [m for m in sent(world, "b", "a") if isinstance(m, Pull)] == []  # one in flight per origin
    world.inject("b", "a", *pulls)
    world.carry()
    assert world.get("b", "one") == 1
    assert world["b"].map.context.frontier[origin] >= second.stamp


def test_c2_a_slice_is_applied_again_without_harm_and_an_overlapping_one_extends_it() -> None:
    world = World("ab", tuning=LONG)
    world.link_all()
    world.put("a", "k", 1)
    world.pump("a", "b")
    world.deliver("a", "b", times=3)
    world.run(60)
    log = list(world["b"].map.log.after(world["a"].origin, 0))
    assert [record[1] for record in log] == ["k"]
    origin, frontier = world["a"].origin, world["b"].map.context.frontier[world["a"].origin]
    entry = live_entry(frontier + 5, origin, 0, 2)
    item = Item(frontier - 3, frontier + 5, 0, 0, "l", entry)
    world.inject("a", "b", Slice(origin, frontier - 9, frontier + 9, frontier + 5, (0, 0), (), [item]))
    assert world["b"].map.context.frontier[origin] == frontier + 9
    world.check()


def test_c2_a_parked_item_is_pulled_when_it_falls_due_and_not_before() -> None:
    world = World("ab", offsets={"a": FAST.max_drift_ms + 100}, tuning=LONG)
    world.link_all()
    world.run(60)
    world.put("a", "k", "ahead")
    world.carry(("a", "b"))
    assert world.get("b", "k") is None
    assert world["b"].stats()["parked"] == 1
    pulls = world["b"].stats()["pulls"]
    world.run(60)
    assert world["b"].stats()["pulls"] == pulls
    world.run(100)
    assert world.get("b", "k") == "ahead"


def test_a_rejected_item_closes_the_link_of_its_origin_with_a_reason() -> None:
    world = World("ab", offsets={"a": FAST.reject_ms + 2_000})
    world.link_all()
    world.put("a", "k", "poison")
    world.carry(("a", "b"))
    assert world.get("b", "k") is None
    assert ("a", "b") not in world.pipes
    assert "ahead; the limit is 5000" in str(world.events["b"])
    assert world["b"].stats()["rejected"] == 1


def test_a_rejected_item_that_a_relay_brings_does_not_cost_the_relay_its_link() -> None:
    world = World("ab")
    world.link_all()
    far = (world.wall_ms("b") + FAST.reject_ms + 100) << 16
    good = Item(5, 5, 0, 0, "good", live_entry(5, B, 0, 1))
    bad = Item(9, 9, 0, 0, "bad", live_entry(far, B, 0, 1))
    world.inject("a", "b", Slice(B, 0, 20, 20, (0, 0), (), [good, bad]))
    assert ("a", "b") in world.pipes
    assert world["b"].map.context.frontier[B] == 8
    assert world.get("b", "good") == 1


def test_a_write_reaches_who_is_not_connected_to_its_writer() -> None:
    world = World("abc")
    world.link("a", "b")
    world.link("b", "c")
    world.put("a", "k", 1)
    world.run(300)
    assert world.get("c", "k") == 1
    world.cut("a", "b")
    world.delete("c", "k")
    world.run(100)
    world.link("a", "b")
    world.run(300)
    assert world.get("a", "k") is None


# ---- what a pull is answered ----------------------------------------------------------------------------------------


def test_a_pull_is_answered_by_the_slice_or_by_too_old() -> None:
    world = World("ab", tuning=LONG)
    world.link_all()
    world.run(60)
    versions = [world.put("a", i, i) for i in range(5)]
    world.carry()
    sent(world, "a", "b")
    origin = world["a"].origin
    world.inject("b", "a", Pull(origin, versions[1].stamp))
    [part] = [m for m in sent(world, "a", "b") if isinstance(m, Slice)]
    assert [item.key for item in part.items] == [2, 3, 4]
    world["a"].map.log.cut(origin, versions[2].stamp)
    world.inject("b", "a", Pull(origin, versions[1].stamp), Pull(0xDEAD, 0))
    answers = [m for m in sent(world, "a", "b") if isinstance(m, TooOld)]
    assert answers == [TooOld(origin, versions[2].stamp), TooOld(0xDEAD, 0)]


def test_a_pull_is_answered_even_where_nothing_was_written_since() -> None:
    """Or the asker would wait for an answer that never comes, and ask nobody else meanwhile."""
    world = World("abc", tuning=LONG)
    world.link("a", "b")
    world.link("b", "c")
    version = world.put("a", "k", 1)
    world.run(300)
    sent(world, "b", "c")
    world.inject("c", "b", Pull(world["a"].origin, version.stamp))
    answers = [m for m in sent(world, "b", "c") if isinstance(m, Slice)]
    assert [(m.lo, m.items) for m in answers] == [(version.stamp, [])]


def test_a_log_that_was_trimmed_while_a_slice_was_due_is_answered_too_old() -> None:
    world = World("ab")
    world.link_all()
    world.run(60)
    world.pump("a", "b")
    for i in range(FAST.log_records + 4):
        world.put("a", i, i)
    messages = sent(world, "a", "b")
    assert [type(m) for m in messages].count(TooOld) == 1
    world.calm()


def test_whoever_could_not_tell_is_not_asked_again_and_what_nobody_has_is_not_missed() -> None:
    world = World("abc", tuning=replace(FAST, compare_ms=60_000))
    world.link("b", "c")
    world.run(60)
    [link] = world["c"]._links.values()
    gaps, reach = Gaps(FAST, random.Random(0)), world["c"].map.context.reach
    gaps.want(A, 50, 0)
    link.rows[A], link.too_old[A] = 60, 40
    assert gaps.pulls(world.reading("c"), reach, [link]) == []
    link.too_old.clear()
    world.now_ms += FAST.context_ms
    assert gaps.pulls(world.reading("c"), reach, [link]) == [(link, Pull(A, 0))]
    world.now_ms += 2 * FAST.silent_ms
    assert gaps.pulls(world.reading("c"), reach, [link]) == []
    world.now_ms += 10  # the answer was lost
    assert gaps.pulls(world.reading("c"), reach, [link]) == [(link, Pull(A, 0))]
    gaps.dropped(link.number, 0)
    assert gaps
    assert gaps.pulls(world.reading("c"), reach, []) == []
    assert not gaps


# ---- C4: rows -------------------------------------------------------------------------------------------------------


def test_c4_a_row_moves_the_frontier_where_nothing_was_missed() -> None:
    context = Context(10)
    limit = 1_000
    assert context.apply_row(Row(A, 0, 50), limit)  # it never wrote
    assert context.frontier[A] == 50
    assert not context.apply_row(Row(A, 60, 90), limit)
    assert context.frontier[A] == 50
    context.advance(A, 60)
    assert context.apply_row(Row(A, 60, 90), limit)
    assert (context.frontier[A], context.last[A]) == (90, 60)
    assert context.apply_row(Row(A, 60, 70), limit)
    assert context.frontier[A] == 90
    assert context.apply_row(Row(A, 60, 5_000), limit)
    assert context.frontier[A] == limit
    assert context.rows() == [Row(A, 60, limit)]


def test_c4_an_origin_is_known_from_its_first_row_on_so_that_the_watermark_waits_for_it() -> None:
    context = Context(10)
    assert not context.apply_row(Row(A, 60, 90), 1_000)
    assert context.frontier == {A: 0}
    assert context.rows() == [Row(A, 0, 0)]


def test_rows_of_the_own_origin_and_those_too_far_ahead_are_not_taken_over() -> None:
    world = World("ab")
    world.link_all()
    world.run(60)
    own = world["b"].map.context.frontier[world["b"].origin]
    far = (world.wall_ms("b") + FAST.max_drift_ms + 50) << 16
    rows = [Row(world["b"].origin, far, far), Row(A, far, far), Row(B, 0, far)]
    world.inject("a", "b", ContextMessage(rows, world.wall_ms("a"), (0, 0), [], 0))
    context = world["b"].map.context
    assert context.frontier[world["b"].origin] == own
    assert context.frontier.get(A, 0) == 0
    assert context.frontier[B] == world["b"].map.clock.limit(world.wall_ms("b"))


def test_who_is_behind_is_told_at_once_and_not_again_and_again() -> None:
    world = World("ab", tuning=replace(LONG, context_ms=10_000))
    world.link_all()
    world.run(100)
    world["a"].map.put("k", 1, 0, world.reading("a"))
    for link in world["a"]._links.values():
        link.cursors[world["a"].origin] = world["a"].map.context.frontier[world["a"].origin]  # as if it was pushed
    row = Row(world["b"].origin, 0, world["b"].map.context.frontier[world["b"].origin])
    told = world["a"].stats()["contexts_sent"]
    members = world["b"].members.rows(0, world["b"].members.known.values())
    message = ContextMessage([row, Row(A, 0, 1)], world.wall_ms("b"), (0, 0), members, 5)
    for _ in range(3):
        world.inject("b", "a", message)
    assert world["a"].stats()["contexts_sent"] == told + 1
    world.run(100)
    assert world.get("b", "k") == 1


def test_a_link_remembers_nothing_of_members_that_never_wrote() -> None:
    world = World([f"n{number}" for number in range(12)])
    world.link_all()
    world.put("n0", "k", 1)
    world.run(5_000)
    writer = world["n0"].origin
    for replica in world.nodes.values():
        assert len(replica.map.context.frontier) == 12
        for link in replica._links.values():
            assert link.rows.keys() <= {writer, link.hello.origin}
            assert link.said.keys() <= {writer}
            assert link.met == 11


# ---- dots and the log -----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["dot", "advance", "last"]), st.integers(1, 12)), max_size=30))
def test_a_context_covers_what_it_was_told_and_keeps_no_dot_within_its_frontier(steps: list[tuple[str, int]]) -> None:
    context, told, frontier = Context(100), set(), 0
    for kind, stamp in steps:
        if kind == "dot":
            context.leave_dot(stamp, A)
            told.add(stamp)
        elif kind == "advance":
            context.advance(A, stamp)
            frontier = max(frontier, stamp)
        else:
            context.note_last(A, stamp)
        context.check(B)
        for stamp in range(1, 14):
            assert context.covers(stamp, A) == (stamp <= frontier or stamp in told)
        assert context.dot_count() == len({stamp for stamp in told if stamp > frontier})
        assert context.last.get(A, 0) <= frontier


@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.sampled_from([A, B]), st.integers(1, 3), st.booleans(), st.integers(0, 30)), max_size=60),
)
def test_a_log_is_complete_above_its_floor_and_bounded(cap: int, steps: list[tuple[int, int, bool, int]]) -> None:
    log, model, stamp = Log(cap), {A: [], B: []}, 0
    for origin, more, touch, cut in steps:
        stamp += more
        record = (stamp, f"k{stamp % 5}", (7, origin) if touch else None, stamp - (more - 1) * (cut % 2))
        log.extend(origin, [record])
        model[origin].append(record)
        if cut > 25:
            log.cut(origin, stamp - 2)
        log.check()
        assert log.count <= cap
        for which in (A, B):
            floor = log.floor(which)
            assert list(log.after(which, floor)) == [r for r in model[which] if r[0] > floor]
            for lo in (floor, floor + 1, stamp - 1, stamp):
                if lo >= floor:
                    assert list(log.after(which, lo)) == [r for r in model[which] if r[0] > lo]


@pytest.mark.parametrize("origins", [1, 5])
def test_a_log_forgets_the_oldest_of_all_origins_first(origins: int) -> None:
    log = Log(32)
    for stamp in range(1, 200):
        log.append(A + stamp % origins, stamp, "k")
    kept = sorted(r[0] for origin in range(A, A + origins) for r in log.after(origin, log.floor(origin)))
    assert kept == list(range(200 - len(kept), 200))
    assert 28 <= len(kept) <= 32
    assert list(log.after(0xDEAD, 0)) == []
    log.cut(0xDEAD, 7)
    assert log.floor(0xDEAD) == 7


def test_of_processes_that_are_gone_nothing_more_is_said() -> None:
    """Fifty restarts leave fifty rows on each side: told once on each link, not twice a second for ever."""
    world = World("ab")
    for _ in range(50):
        world.add("b")
        world.link("a", "b")
        world.put("b", "k", 1)
        world.run(60)
    world.calm()
    told: list[int] = []

    def watch(_: str, __: str, frame: bytes) -> None:
        told.extend(len(m.rows) for m in decode(frame, Limits(64, 1_024))[1] if isinstance(m, ContextMessage))

    world.watch = watch
    world.run(1_000)
    assert len(world["a"].map.context.rows()) == len(world["b"].map.context.rows()) == 51
    assert told
    assert max(told) <= 2
    world.check()
