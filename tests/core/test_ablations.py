"""Each rule, switched off alone, breaks a promise that holds with it: the proof that the tests can fail.

The table: rule, how it is switched off from outside (the core has no switches), what is then broken. Where the
promise is a test of another file, that test is it; the others stand here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from crdtcache.core import inbox as inbox_room
from crdtcache.core import outbox as outbox_room
from crdtcache.core import rewind as rewind_room
from crdtcache.core.clock import Clock, Guard
from crdtcache.core.context import Context
from crdtcache.core.correction import Correction, line_of
from crdtcache.core.entry import DEAD, STATE, Entry, Key
from crdtcache.core.links import Link
from crdtcache.core.log import Log
from crdtcache.core.lwwmap import LWWMap, Verdict
from crdtcache.core.messages import Row, Slice
from crdtcache.core.replica import Replica
from crdtcache.core.session import Session
from crdtcache.core.sessions import Sessions
from tests.core import promises
from tests.core import test_clear as clear
from tests.core import test_comparing as comparing
from tests.core import test_context as context
from tests.core import test_correction as correction
from tests.core import test_going as going
from tests.core import test_members as members
from tests.core import test_offers as offers
from tests.core import test_sessions as sessions
from tests.core import test_slices as slices

Patch = pytest.MonkeyPatch

# ---- the five that the README names ---------------------------------------------------------------------------------


def no_dot(patch: Patch) -> None:
    patch.setattr(Context, "leave_dot", lambda self, stamp, origin: None)


def gaps_ignored(patch: Patch) -> None:
    apply = inbox_room.apply_slice

    def apply_slice(held: LWWMap, part: Slice, *rest: object) -> object:
        return apply(held, part._replace(lo=min(part.lo, held.context.frontier.get(part.origin, 0))), *rest)  # type: ignore[arg-type]

    patch.setattr(inbox_room, "apply_slice", apply_slice)


def last_ignored(patch: Patch) -> None:
    apply_row = Context.apply_row
    patch.setattr(Context, "apply_row", lambda self, row, limit: apply_row(self, Row(row.origin, 0, row.now), limit))


def absent_items_left_out(patch: Patch) -> None:
    make = outbox_room.make_slice

    def make_slice(held: LWWMap, origin: int, lo: int, budget: int) -> Slice | None:
        part = make(held, origin, lo, budget)
        if part is None:
            return None
        return part._replace(items=[item for item in part.items if item.key in held.store.entries])

    patch.setattr(outbox_room, "make_slice", make_slice)


def watermark_ignored(patch: Patch) -> None:
    patch.setattr(Replica, "_watermark", lambda self, now_ns: 1 << 64)


# ---- offers ---------------------------------------------------------------------------------------------------------


def after_offer(patch: Patch, change: Callable[[LWWMap, Key, Entry, Verdict], bool]) -> None:
    """Where `change` says so, store what was offered after all."""
    offer = LWWMap.offer

    def changed(self: LWWMap, key: Key, entry: Entry, reading: Any, *rest: Any, **named: Any) -> Verdict:
        verdict = offer(self, key, entry, reading, *rest, **named)
        if not change(self, key, entry, verdict):
            return verdict
        self.replace(key, entry, self.store.entries.get(key), reading, remote=True)
        return Verdict.TAKEN

    patch.setattr(LWWMap, "offer", changed)


def o3_off(patch: Patch) -> None:
    after_offer(patch, lambda held, key, entry, verdict: verdict is Verdict.GONE)


def o3_only_when_absent(patch: Patch) -> None:
    after_offer(patch, lambda held, key, entry, verdict: verdict is Verdict.GONE and key in held.store.entries)


def the_covered_dead_are_stored(patch: Patch) -> None:
    after_offer(patch, lambda held, key, entry, verdict: verdict is Verdict.IGNORED and entry[STATE] == DEAD)


# ---- slices and the context -----------------------------------------------------------------------------------------


def parked_items_skipped(patch: Patch) -> None:
    apply = inbox_room.apply_slice

    def apply_slice(held: LWWMap, part: Slice, reading: Any, slowest_ms: int | None) -> object:
        items = [i for i in part.items if held.clock.judge(i.entry[0], reading.wall_ms) is Guard.ACCEPT]
        return apply(held, part._replace(items=items), reading, slowest_ms)

    patch.setattr(inbox_room, "apply_slice", apply_slice)


def no_seams(patch: Patch) -> None:
    patch.setattr(Log, "seam", lambda self, origin, lo, hi: hi)


def since_forgotten(patch: Patch) -> None:
    extend = Log.extend
    patch.setattr(Log, "extend", lambda self, origin, records: extend(self, origin, [(*r[:3], r[0]) for r in records]))


def announced_not_issued(patch: Patch) -> None:
    patch.setattr(Clock, "announce", lambda self, wall_ms: max(self.last, wall_ms << 16))


def accepted_left_out(patch: Patch) -> None:
    patch.setattr(Clock, "accept", lambda self, stamp: None)


def no_drift_guard(patch: Patch) -> None:
    patch.setattr(Clock, "judge", lambda self, stamp, wall_ms: Guard.ACCEPT)
    patch.setattr(Clock, "limit", lambda self, wall_ms: 1 << 63)


# ---- sessions -------------------------------------------------------------------------------------------------------


def rows_of_the_last_message(patch: Patch) -> None:
    settle = Sessions.settle

    def settled(self: Sessions, link: Link, reading: Any) -> None:
        if link.session is not None and link.session.rows is not None:
            link.session.rows = [Row(o, last, max(now, link.rows.get(o, 0))) for o, last, now in link.session.rows]
        settle(self, link, reading)

    patch.setattr(Sessions, "settle", settled)


def partial_sessions_adopted(patch: Patch) -> None:
    settle = Sessions.settle

    def settled(self: Sessions, link: Link, reading: Any) -> None:
        if link.session is not None:
            link.session.complete = True
        settle(self, link, reading)

    patch.setattr(Sessions, "settle", settled)


def log_not_cut(patch: Patch) -> None:
    patch.setattr(Log, "cut", lambda self, origin, floor: None)


def the_dead_not_offered(patch: Patch) -> None:
    patch.setattr(Session, "_dead", lambda self, held: iter(()))


def never_busy(patch: Patch) -> None:
    on_open = Sessions.on_open

    def opened(self: Sessions, *rest: Any) -> None:
        clearing, self._held.clearing = self._held.clearing, []
        on_open(self, *rest)
        self._held.clearing = clearing

    patch.setattr(Sessions, "on_open", opened)


def clears_do_not_end_sessions(patch: Patch) -> None:
    patch.setattr(Sessions, "interrupt", lambda self: None)


# ---- ways to go, and links ------------------------------------------------------------------------------------------


def own_clock_only(patch: Patch) -> None:
    lapsed = LWWMap.has_lapsed
    patch.setattr(LWWMap, "has_lapsed", lambda self, entry, reading, _: lapsed(self, entry, reading, reading.wall_ms))


def touch_as_a_write(patch: Patch) -> None:
    def touch(self: LWWMap, key: Key, expires_at: int, reading: Any) -> bool:
        old = self.visible(key, reading)
        if old is not None:
            self.put(key, old[6], expires_at, reading)
        return old is not None

    patch.setattr(LWWMap, "touch", touch)


def touch_without_its_base(patch: Patch) -> None:
    append = Log.append
    patch.setattr(Log, "append", lambda self, origin, stamp, key, base=None: append(self, origin, stamp, key))


def eviction_forgets(patch: Patch) -> None:
    def evict(self: LWWMap, key: Key, reading: Any) -> bool:
        old = self.store.entries.get(key)
        if old is not None:
            self.replace(key, None, old, reading, remote=False)
        return old is not None

    patch.setattr(LWWMap, "evict", evict)


def no_frame_age(patch: Patch) -> None:
    patch.setattr(Link, "age_ms", property(lambda self: None, lambda self, value: None))


def no_stall_rule(patch: Patch) -> None:
    patch.setattr(Replica, "_expected_ns", property(lambda self: 0, lambda self, value: None), raising=False)


def jumps_believed(patch: Patch) -> None:
    def now(self: Correction, reading: Any) -> Any:
        self.state = line_of(*reading), self.ms
        return reading._replace(wall_ms=reading.wall_ms + self.ms)

    patch.setattr(Correction, "now", now)


def future_moved_to_now(patch: Patch) -> None:
    earlier = rewind_room.earlier
    patch.setattr(rewind_room, "earlier", lambda at, now, above: earlier(now, now, above))


OFF: dict[str, tuple[Callable[[Patch], None], Callable[[], bool | None]]] = {
    "the dot of O5": (no_dot, promises.what_was_removed_in_a_gap_stays_removed),
    "the gap rule of C2": (gaps_ignored, promises.a_slice_behind_a_gap_moves_no_frontier),
    "C4's last": (last_ignored, promises.a_row_moves_no_frontier_past_a_write_that_is_missing),
    "absent items become dead in slices": (
        absent_items_left_out,
        promises.what_is_absent_where_a_slice_is_made_dies_where_it_arrives,
    ),
    "the low watermark": (watermark_ignored, promises.a_delete_is_kept_until_nothing_older_can_arrive),
    "O3": (
        o3_off,
        sessions.test_an_entry_that_is_deleted_on_one_side_only_is_gone_on_both_after_the_session,
    ),
    "O3 also where the key is present": (
        o3_only_when_absent,
        partial(offers.test_o3_a_live_one_that_is_covered_but_not_held_is_answered_gone, 0, True),
    ),
    "O4's exception for the dead": (
        the_covered_dead_are_stored,
        offers.test_o4_a_dead_one_that_is_covered_is_stored_only_where_a_smaller_version_is_held,
    ),
    "C2's cut at a parked item": (
        parked_items_skipped,
        context.test_c2_a_parked_item_is_pulled_when_it_falls_due_and_not_before,
    ),
    "slices end at seams": (
        no_seams,
        slices.test_a_relay_does_not_end_a_slice_between_a_record_and_what_it_stands_for,
    ),
    "records say since when": (since_forgotten, slices.test_a_relay_tells_since_when_a_record_stands_for_its_key),
    "announcing issues": (announced_not_issued, context.test_a_row_that_was_announced_is_issued),
    "accepted stamps move the clock": (
        accepted_left_out,
        offers.test_what_is_accepted_moves_the_clock_so_that_the_next_write_wins,
    ),
    "the drift guard": (no_drift_guard, context.test_i7_a_lying_clock_moves_nobody_beyond_true_time_and_the_drift),
    "C3 from the first message": (
        rows_of_the_last_message,
        promises.what_the_peer_learned_during_a_session_is_not_taken_for_compared,
    ),
    "C3 only when complete": (
        partial_sessions_adopted,
        sessions.test_an_incomplete_session_adopts_nothing_and_is_held_again,
    ),
    "C3 cuts the log": (log_not_cut, sessions.test_what_was_adopted_from_a_session_has_no_log_and_is_answered_too_old),
    "C3 brings the dead": (
        the_dead_not_offered,
        comparing.test_the_dead_of_an_adopted_origin_are_offered_also_where_the_digests_agree,
    ),
    "BUSY while clearing": (never_busy, sessions.test_one_who_clears_is_busy),
    "a clear ends sessions": (
        clears_do_not_end_sessions,
        clear.test_a_session_ends_when_a_clear_begins_because_it_cannot_be_complete_any_more,
    ),
    "D2's slowest clock": (own_clock_only, going.test_d2_reads_miss_by_the_own_clock_and_the_entry_dies_by_the_slowest),
    "D3 makes no version": (touch_as_a_write, going.test_d3_a_touch_never_revives_and_never_beats_a_set),
    "D3's base in the log": (
        touch_without_its_base,
        going.test_d3_where_a_touched_entry_is_absent_the_slice_says_dead_at_the_base_version,
    ),
    "E1, D4": (eviction_forgets, going.test_d4_an_eviction_leaves_a_ghost_of_the_same_version_and_sends_nothing),
    "the age of frames": (
        no_frame_age,
        members.test_a_frame_that_is_too_old_is_discarded_and_its_link_opened_anew,
    ),
    "a jump is held until it is confirmed": (
        jumps_believed,
        partial(correction.test_a_clock_ten_minutes_fast_then_slow_kills_nothing_and_loses_nothing, "ab"),
    ),
    "a future is taken back to its true time": (
        future_moved_to_now,
        correction.test_what_a_fast_clock_did_before_it_met_anybody_counts_at_its_true_time,
    ),
    "the stall rule": (no_stall_rule, members.test_a_process_that_stood_still_does_not_give_up_on_its_links),
}


def kept(promise: Callable[[], bool | None]) -> bool:
    """Whether a promise holds: a scenario says so, a test fails if not."""
    try:
        return promise() is not False
    except AssertionError:
        return False


@pytest.mark.parametrize("rule", OFF)
def test_with_the_rule_the_promise_holds(rule: str) -> None:
    assert kept(OFF[rule][1])


@pytest.mark.parametrize("rule", OFF)
def test_without_the_rule_it_is_broken(rule: str, monkeypatch: Patch) -> None:
    switch_off, promise = OFF[rule]
    switch_off(monkeypatch)
    assert not kept(promise), f"{rule} is off and nothing broke: the scenario proves nothing"
