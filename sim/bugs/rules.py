"""The bugs of design section 14 whose rule the core has by now, each one comparison or one statement.

Three of them cost traffic or time and never a wrong answer, as long as the other rules hold: O4's exception for the
dead, the stall rule and the age of frames. A check of its own judges each. Not planted is what the core does not have
yet: a replica that is partial for want of room, and a context kept from a damaged disk.
"""

from __future__ import annotations

from typing import Any

from crdtcache.core import inbox, outbox, removal, slices
from crdtcache.core.clock import Clock, Guard, Reading
from crdtcache.core.context import Context
from crdtcache.core.entry import DEAD, STATE, Entry, Key
from crdtcache.core.links import Link
from crdtcache.core.log import Log
from crdtcache.core.lwwmap import LWWMap, Verdict
from crdtcache.core.messages import Item, Ready, Row
from crdtcache.core.outbox import Outbox
from crdtcache.core.replica import Replica
from crdtcache.core.sessions import Sessions
from sim.bugs import Patch, bug

offer = LWWMap.offer


@bug("two-returners", "away-across-collection")
def o3_off() -> list[Patch]:
    """O3: what is covered but not held is stored again instead of answered GONE."""

    def broken(self: LWWMap, key: Key, entry: Entry, *args: Any, **kw: Any) -> Verdict:
        if self.store.entries.get(key) is None and entry[STATE] != DEAD and entry[:2] > self.context.clear_mark:
            return _offer_uncovered(self, key, entry, *args, **kw)
        return offer(self, key, entry, *args, **kw)

    return [Patch(LWWMap, "offer", broken)]


@bug("two-returners")
def o3_only_when_absent() -> list[Patch]:
    """O3 applies only where the key is absent: a covered live entry beats an older one that is held."""

    def broken(self: LWWMap, key: Key, entry: Entry, *args: Any, **kw: Any) -> Verdict:
        held = self.store.entries.get(key)
        if held is not None and held[:2] < entry[:2] and entry[STATE] != DEAD:
            return _offer_uncovered(self, key, entry, *args, **kw)
        return offer(self, key, entry, *args, **kw)

    return [Patch(LWWMap, "offer", broken)]


@bug("its-remover-knew-more")
def o5_no_dot_for_the_replaced() -> list[Patch]:
    """O5: what an entry replaces, or its writer removed, is left uncovered."""

    def broken(self: LWWMap, *_: Any, **__: Any) -> bool:  # noqa: ARG001
        return True

    return [Patch(LWWMap, "_leave_dots", broken)]


@bug("lost-middle")
def c2_gap_ignored() -> list[Patch]:
    """C2: a slice that begins beyond the frontier moves it all the same."""
    apply_slice = slices.apply_slice

    def broken(held: LWWMap, part: Any, *args: Any) -> Any:
        return apply_slice(held, part._replace(lo=min(part.lo, held.context.frontier.get(part.origin, 0))), *args)

    return [Patch(inbox, "apply_slice", broken)]


@bug("parked-inside-a-slice")
def c2_parked_item_skipped() -> list[Patch]:
    """C2: an item that is parked is skipped, and the frontier passes it."""
    apply_slice = slices.apply_slice

    def broken(held: LWWMap, part: Any, reading: Reading, slowest_ms: int | None) -> Any:
        judge = held.clock.judge
        now = [i for i in part.items if judge(max(i.entry[0], i.entry[2]), reading.wall_ms) is Guard.ACCEPT]
        return apply_slice(held, part._replace(items=now), reading, slowest_ms)

    return [Patch(inbox, "apply_slice", broken)]


@bug("written-amid-a-session")
def c3_rows_from_the_end() -> list[Patch]:
    """C3: the rows adopted are those of now, not those of the first message."""
    settle = Sessions.settle

    def broken(self: Any, link: Any, reading: Reading) -> None:
        if link.session is not None and link.session.rows is not None:
            link.session.rows = [
                row._replace(now=max(row.now, link.rows.get(row.origin, 0), row.last)) for row in link.session.rows
            ]
        settle(self, link, reading)

    return [Patch(Sessions, "settle", broken)]


@bug("full-logs")
def c3_log_not_cut() -> list[Patch]:
    """C3: the log of an adopted origin keeps its floor, and promises slices that it cannot make."""
    settle = Sessions.settle

    def broken(self: Any, link: Any, reading: Reading) -> None:
        log = self._held.log
        cut = log.cut
        type(log).cut = lambda *_: None
        try:
            settle(self, link, reading)
        finally:
            type(log).cut = cut.__func__

    return [Patch(Sessions, "settle", broken)]


@bug("full-logs", "parked-inside-a-slice")
def c3_after_a_partial_session() -> list[Patch]:
    """C3: a session in which something was parked counts as complete."""
    settle = Sessions.settle

    def broken(self: Any, link: Any, reading: Reading) -> None:
        if link.session is not None:
            link.session.complete = True
        settle(self, link, reading)

    return [Patch(Sessions, "settle", broken)]


@bug("lost-middle")
def c4_without_last() -> list[Patch]:
    """C4: a row moves the frontier although writes before it are missing."""
    apply_row = Context.apply_row

    def broken(self: Context, row: Row, limit: int) -> bool:
        return apply_row(self, row._replace(last=0), limit)

    return [Patch(Context, "apply_row", broken)]


@bug("fast-and-slow-sweepers", "fast-clock-alone")
def d2_own_clock_only() -> list[Patch]:
    """D2: an entry dies as soon as the own clock says so, whatever the slowest says."""

    def broken(self: Replica, reading: Reading) -> int:  # noqa: ARG001
        return reading.wall_ms

    return [Patch(Replica, "_slowest_ms", broken)]


@bug("touch-meets-set")
def d3_touch_revives() -> list[Patch]:
    """D3: a touch makes a version, so that it beats a set it has not seen."""

    def broken(self: LWWMap, key: Key, expires_at: int, reading: Reading) -> bool:
        old = self.visible(key, reading)
        if old is None:
            return False
        self.put(key, old[6], expires_at, reading)
        return True

    return [Patch(LWWMap, "touch", broken)]


@bug("away-across-collection")
def absent_item_left_out() -> list[Patch]:
    """Slices leave out keys that are absent by now, instead of sending them as dead."""
    make_slice = slices.make_slice

    def broken(held: LWWMap, *args: Any) -> Any:
        part = make_slice(held, *args)
        if part is None:
            return None
        kept: list[Item] = [item for item in part.items if item.key in held.store.entries]
        return part._replace(items=kept)

    return [Patch(outbox, "make_slice", broken)]


@bug("two-returners", "away-across-collection")
def watermark_ignored() -> list[Patch]:
    """Collection: the dead are forgotten by age alone, whoever has not been heard."""

    def broken(self: Replica, now_ns: int) -> int:  # noqa: ARG001
        return (1 << 64) - 1

    return [Patch(Replica, "_watermark", broken)]


@bug("write-at-an-announced-row")
def announced_now_not_issued() -> list[Patch]:
    """Clock: the `now` of an own row may be given to a later write."""

    def broken(self: Clock, wall_ms: int) -> int:
        return max(self.last, wall_ms << 16)

    return [Patch(Clock, "announce", broken)]


@bug("touch-after-delete")
def touch_without_base() -> list[Patch]:
    """Log: a touch is logged like a write, without the version that it touched."""
    append = Log.append

    def broken(self: Log, origin: int, stamp: int, key: Key | None, base: Any = None) -> None:  # noqa: ARG001
        append(self, origin, stamp, key)

    return [Patch(Log, "append", broken)]


@bug("rogue-clock")
def drift_guard_off() -> list[Patch]:
    """Clock: any stamp is believed."""

    def broken(self: Clock, stamp: int, wall_ms: int) -> Guard:  # noqa: ARG001
        return Guard.ACCEPT

    def no_limit(self: Clock, wall_ms: int) -> int:  # noqa: ARG001
        return (1 << 64) - 1

    return [Patch(Clock, "judge", broken), Patch(Clock, "limit", no_limit)]


@bug("wrong-clock")
def correction_without_new_origin() -> list[Patch]:
    """Clocks: who is corrected back goes on under its old origin, whose stamps nobody believes for a long time."""

    def broken(self: Replica, reading: Reading, back_ms: int) -> None:  # noqa: ARG001
        return None

    return [Patch(Replica, "_take_back", broken)]


@bug()
def accepted_left_out() -> list[Patch]:
    """Clock: accepted stamps do not move the own clock."""

    def broken(self: Clock, stamp: int) -> None:  # noqa: ARG001
        return None

    return [Patch(Clock, "accept", broken)]


@bug("held-on-one-side", "away-across-collection")
def o4_dead_stored_again() -> list[Patch]:
    """O4: a dead entry whose version is covered is stored also where there is nothing for it to remove."""

    def broken(self: LWWMap, key: Key, entry: Entry, reading: Reading, *args: Any, **kw: Any) -> Verdict:
        verdict = offer(self, key, entry, reading, *args, **kw)
        if verdict is not Verdict.IGNORED or entry[STATE] != DEAD:
            return verdict
        self.replace(key, entry, None, reading, remote=True)
        return Verdict.TAKEN

    return [Patch(LWWMap, "offer", broken)]


@bug()
def relayed_behind_a_gap() -> list[Patch]:
    """Relay: who has something behind a gap passes it on as if it had all before it."""
    make_slice = slices.make_slice

    def broken(held: LWWMap, origin: int, *args: Any) -> Any:
        part = make_slice(held, origin, *args)
        if part is None or origin == held.origin:
            return part
        versions = (entry[:2] for entry in held.store.entries.values())
        return part._replace(hi=max([part.hi, *(stamp for stamp, writer in versions if writer == origin)]))

    return [Patch(outbox, "make_slice", broken)]


@bug()
def receipt_when_sent() -> list[Patch]:
    """Receipts: whoever was sent a slice counts as having it."""
    poll = Outbox.poll

    def broken(self: Outbox, target: Link, reading: Reading) -> bytes | None:
        frame = poll(self, target, reading)
        target.rows.update((origin, max(upto, target.rows.get(origin, 0))) for origin, upto in target.cursors.items())
        return frame

    return [Patch(Outbox, "poll", broken)]


@bug("stalled-link")
def stall_rule_off() -> list[Patch]:
    """Links: a process that stood still gives up links whose frames it has not read yet."""
    return [Patch(Replica, "_expected_ns", property(lambda _: 0, lambda *_: None))]


@bug("stalled-link")
def frame_age_off() -> list[Patch]:
    """Links: a frame is taken in however old it is."""
    return [Patch(Link, "age_ms", property(lambda _: None, lambda *_: None))]


@bug("cache-pressure")
def e1_eviction_forgets() -> list[Patch]:
    """E1: what is evicted is forgotten, and leaves the digest."""

    def evict(self: LWWMap, key: Key, reading: Reading) -> bool:
        held = self.store.entries.get(key)
        if held is None or held[STATE] != 0:
            return False
        self.evicted += 1
        self.replace(key, None, held, reading, remote=False, silent=True)
        return True

    return [Patch(LWWMap, "evict", evict)]


@bug("older-than-the-mark")
def pruned_come_back_from_zero() -> list[Patch]:
    """Pruning: an origin that was pruned, and comes back, is accounted for up to nothing instead of up to the mark."""

    def broken(self: Context, origin: int) -> None:
        self.frontier.setdefault(origin, 0)

    return [Patch(Context, "know", broken)]


@bug("older-than-the-mark")
def prune_mark_adopted_at_once() -> list[Patch]:
    """Pruning: the peer's mark is adopted when a session begins, before what the peer holds was taken."""
    receive = Sessions.receive

    def broken(self: Any, link: Any, message: Any, reading: Reading) -> None:
        receive(self, link, message, reading)
        if isinstance(message, Ready) and message.prune_mark > self._held.context.prune_mark:
            removal.prune(self._held, [], message.prune_mark, [])

    return [Patch(Sessions, "receive", broken)]


@bug("back-while-others-prune")
def pruned_before_all_was_taken() -> list[Patch]:
    """Pruning: a row is pruned although somebody has pruned more, and what that one holds was not compared yet."""
    return [Patch(Link, "prune_mark", property(lambda _: 0, lambda *_: None))]


@bug("back-while-others-prune")
def pruned_without_agreement() -> list[Patch]:
    """Pruning: whoever finds a row to be old prunes it, whatever those that are connected have of it."""

    def broken(held: LWWMap, used: Any, links: Any, wall_ms: int) -> list[int]:  # noqa: ARG001
        old = (wall_ms - held.tuning.forget_ms) << 16
        return [o for o, now in held.context.frontier.items() if now < old and o not in used and o != held.origin]

    return [Patch(removal, "to_prune", broken)]


@bug("clear-amid-a-session")
def busy_off() -> list[Patch]:
    """Sessions: who clears does not say BUSY: a session is taken in, or goes on, while what it covers is forgotten."""
    on_open = Sessions.on_open

    def broken(self: Any, link: Any, message: Any, reading: Reading) -> None:
        clearing, self._held.clearing = self._held.clearing, []
        on_open(self, link, message, reading)
        self._held.clearing = clearing

    def goes_on(self: Any) -> None:  # noqa: ARG001
        return None

    return [Patch(Sessions, "on_open", broken), Patch(Sessions, "interrupt", goes_on)]


@bug("clears")
def clear_mark_not_sent() -> list[Patch]:
    """D5: the clear mark does not travel with contexts and slices."""
    position = Outbox.position

    def broken(self: Outbox, *args: Any) -> Any:
        rows, clock_ms, _ = position(self, *args)
        return rows, clock_ms, (0, 0)

    return [Patch(Outbox, "position", broken)]


def _offer_uncovered(self: LWWMap, key: Key, entry: Entry, *args: Any, **kw: Any) -> Verdict:
    covers = Context.covers
    Context.covers = lambda me, *version: version != entry[:2] and covers(me, *version)  # type: ignore[method-assign]
    try:
        return offer(self, key, entry, *args, **kw)
    finally:
        Context.covers = covers  # type: ignore[method-assign]
