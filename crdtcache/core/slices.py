"""Slices: the part of an origin's log after a stamp, as current entries; how one is made and applied (C2).

A slice carries state, never history: ten overwrites of a key travel once, and what was removed since travels
as dead. It is applied up to the first item that must wait (parked, rejected, or short of room for a dot), and
the frontier follows exactly as far; what lies behind a gap is an offer like any other and moves no frontier.

A slice begins at the write before it, not where its sender's cursor stands: members learn at different times that
an origin has written nothing since, and who relays to one that has not heard yet would show it a gap.

Decision: an item that must wait cuts the slice instead of being skipped. Skipping it would let the frontier
pass a write that is not here. The cut lies below the first stamp of every item that was written again beyond
it (design section 5 logs such an item at its first stamp, and says nothing of the writes in between: random
schedules found replicas that had accounted for an overwrite and still showed what it had overwritten).
Source: DESIGN sections 5 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from crdtcache.core.clock import Guard, Reading
from crdtcache.core.entry import ORIGIN, STAMP, TOUCH, VALUE, Entry, Key, Value, dead_entry
from crdtcache.core.log import Record
from crdtcache.core.lwwmap import UNSETTLED, LWWMap, Verdict
from crdtcache.core.messages import Item, Slice

__all__ = ["Applied", "apply_slice", "make_slice", "wire_size"]

# What a slice item weighs beside its key and value: stamps, indices, headers (measured: 14 to 40 bytes).
_ITEM_BYTES = 48


class Applied(NamedTuple):
    """What became of a slice."""

    contiguous: bool  # False: there was a gap before it
    whole: bool  # every item was applied
    gone: list[tuple[Key, int, int]]  # to be answered GONE
    parked_until_ms: int  # wall time at which the cut item falls due, 0: nothing was parked
    rejected: int  # items rejected


@dataclass(slots=True)
class _Found:
    """What a slice says of one key: its first and latest records, the base of the latest, the entry held."""

    first: int
    latest: int
    base: tuple[int, int] | None
    entry: Entry | None


@dataclass(slots=True)
class _Part:
    """The records after `lo`, one per key, up to `hi`; `cut` where there are more. They stand for all after `since`."""

    found: dict[Key, _Found]
    clears: list[int]
    hi: int
    size: int
    cut: bool
    since: int


def make_slice(held: LWWMap, origin: int, lo: int, budget: int) -> Slice | None:
    """The log of `origin` after `lo`, up to about `budget` bytes; None where the log begins above `lo`."""
    if lo < held.log.floor(origin):
        return None
    part = _collect(held, origin, lo, budget, None)
    if part.cut:
        seam = held.log.seam(origin, lo, part.hi)
        if seam != part.hi:
            part = _collect(held, origin, lo, None, seam)
            if part.size > max(budget, held.tuning.max_frame_bytes // 2):
                # What came here as one slice has grown beyond a frame, and may not be parted.
                held.log.cut(origin, seam)
                return None
    hi = part.hi if part.cut else max(part.hi, held.context.frontier.get(origin, 0))
    items = []
    for key, record in part.found.items():
        base, entry = record.base, record.entry
        logged = base if base is not None else (record.latest, origin)
        if entry is None or entry[:2] < logged:
            # Removed here since, so it is dead wherever it still is. So it is where an older write is held by now:
            # that one came after the removal was forgotten, and says nothing of what the removal had seen.
            entry = dead_entry(*logged)
        items.append(Item(record.first, record.latest, *(base or (0, 0)), key, entry))
    last = min(held.context.last.get(origin, 0), hi)
    if part.since > lo:
        lo = held.log.back(origin, lo)  # where no record stands for what was written there
    return Slice(origin, lo, hi, last, held.context.clear_mark, tuple(part.clears), items)


def _collect(held: LWWMap, origin: int, lo: int, budget: int | None, upto: int | None) -> _Part:
    entries = held.store.entries
    part = _Part({}, [], lo, 0, False, 1 << 64)
    found = part.found
    for stamp, key, base, since in held.log.after(origin, lo):
        if upto is not None and stamp > upto:
            part.hi, part.cut = upto, True
            break
        part.since = min(part.since, since)
        record = found.get(key) if key is not None else None
        if record is not None:
            record.latest, record.base = stamp, base
            part.hi = stamp
            continue
        entry = entries.get(key) if key is not None else None
        value = entry[VALUE] if entry is not None else None
        size = part.size + _ITEM_BYTES + (wire_size(key) if key is not None else 0)
        size += wire_size(value) if value is not None else 1
        if budget is not None and size > budget and (found or part.clears):
            part.cut = True
            break
        part.size = size
        if key is None:
            part.clears.append(stamp)
        else:
            found[key] = _Found(max(since, lo + 1), stamp, base, entry)
        part.hi = stamp
    return part


def apply_slice(held: LWWMap, part: Slice, reading: Reading, slowest_ms: int | None) -> Applied:
    """C2: apply up to the first item that must wait; after a gap everything is an offer like any other."""
    context = held.context
    origin = part.origin
    frontier = context.reach(origin)
    if part.hi > frontier or not frontier:
        context.know(origin)
    contiguous = frontier >= part.lo
    limit = held.clock.limit(reading.wall_ms)
    hi = min(part.hi, limit) if contiguous else 0
    parked_ms, rejected = 0, 0
    for item in part.items:
        newest = max(item.entry[STAMP], item.entry[TOUCH])
        if newest > limit:
            judged = held.clock.judge(newest, reading.wall_ms)
            rejected += judged is Guard.REJECT
            hi = min(hi, item.first - 1)
            due = held.clock.due_ms(newest)
            if judged is Guard.PARK and (not parked_ms or due < parked_ms):
                parked_ms = due
    if hi < part.hi:
        # Not between an item's first and latest stamps: logged at either, it would be silent about the other.
        for item in sorted(part.items, key=_first_of, reverse=True):
            if item.first <= hi < item.latest:
                hi = item.first - 1
    gone: list[tuple[Key, int, int]] = []
    records: list[Record] = [(stamp, None, None, stamp) for stamp in part.clears]
    whole = not parked_ms and not rejected
    for item in part.items:
        within = item.first <= hi
        entry = item.entry
        # The cap is for what lies behind a gap. Within the slice it would stop the frontier for ever, where dots of
        # an origin pile up that is gone, and whose rows nobody could adopt before it went.
        upto = (origin, hi) if within else (0, 0)
        verdict = held.offer(item.key, entry, reading, slowest_ms, upto=upto, capped=not within)
        if verdict is Verdict.GONE:
            gone.append((item.key, entry[STAMP], entry[ORIGIN]))
        elif verdict in UNSETTLED:
            whole = False
        if within:
            base = (item.base_stamp, item.base_origin) if item.base_stamp else None
            records.append((item.latest, item.key, base, max(item.first, frontier + 1)))
    if hi > frontier:
        records = [record for record in records if frontier < record[0] <= hi]
        if len(records) > 1:
            records = sorted({record[0]: record for record in records}.values(), key=_stamp_of)
        held.log.extend(origin, records)
        context.advance(origin, hi)
        context.note_last(origin, max(part.last, records[-1][0]) if records else part.last)
        held.clock.accept(context.frontier[origin])
    return Applied(contiguous, whole, gone, parked_ms, rejected)


def _first_of(item: Item) -> int:
    return item.first


def _stamp_of(record: Record) -> int:
    return record[0]


def wire_size(value: Value | Key) -> int:
    """About how many bytes a key or value takes in a frame; never less than it does."""
    kind = value.__class__
    if kind is str or kind is bytes or isinstance(value, bytes):
        return len(value) * (1 if kind is not str or value.isascii() else 4)  # type: ignore[arg-type,union-attr]
    if kind is tuple:
        return 4 + sum(2 + wire_size(part) for part in value)  # type: ignore[union-attr,misc]
    return 9
