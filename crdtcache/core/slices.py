"""Slices: the part of an origin's log after a stamp, as current entries; how one is made and applied (C2).

A slice carries state, never history: ten overwrites of a key travel once, and what was removed since travels
as dead. It is applied up to the first item that must wait (parked, rejected, or short of room for a dot), and
the frontier follows exactly as far; what lies behind a gap is an offer like any other and moves no frontier.

Decision: an item that must wait cuts the slice instead of being skipped. Skipping it would let the frontier
pass a write that is not here. Source: DESIGN sections 5 and 6.
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


def make_slice(held: LWWMap, origin: int, lo: int, budget: int) -> Slice | None:
    """The log of `origin` after `lo`, up to about `budget` bytes; None where the log begins above `lo`."""
    if lo < held.log.floor(origin):
        return None
    entries = held.store.entries
    found: dict[Key, _Found] = {}
    clears: list[int] = []
    hi, size = lo, 0
    for stamp, key, base in held.log.after(origin, lo):
        if key is None:
            clears.append(stamp)
        elif key in found:
            record = found[key]
            record.latest, record.base = stamp, base
        else:
            entry = entries.get(key)
            value = entry[VALUE] if entry is not None else None
            size += _ITEM_BYTES + wire_size(key) + (wire_size(value) if value is not None else 1)
            if size > budget and (found or clears):
                break
            found[key] = _Found(stamp, stamp, base, entry)
        hi = stamp
    else:
        hi = max(hi, held.context.frontier.get(origin, 0))
    items = []
    for key, record in found.items():
        base, entry = record.base, record.entry
        if entry is None:  # absent: removed here since, so it is dead wherever it still is
            entry = dead_entry(*(base if base is not None else (record.latest, origin)))
        items.append(Item(record.first, record.latest, *(base or (0, 0)), key, entry))
    last = min(held.context.last.get(origin, 0), hi)
    return Slice(origin, lo, hi, last, held.context.clear_mark, tuple(clears), items)


def apply_slice(held: LWWMap, part: Slice, reading: Reading, slowest_ms: int | None) -> Applied:
    """C2: apply up to the first item that must wait; after a gap everything is an offer like any other."""
    context = held.context
    origin = part.origin
    frontier = context.frontier.setdefault(origin, 0)
    contiguous = frontier >= part.lo
    hi = min(part.hi, held.clock.limit(reading.wall_ms))
    parked_ms, rejected = 0, 0
    for item in part.items:
        judged = held.clock.judge(max(item.entry[STAMP], item.entry[TOUCH]), reading.wall_ms)
        if judged is not Guard.ACCEPT:
            rejected += judged is Guard.REJECT
            if contiguous and item.first - 1 < hi:
                hi = item.first - 1
            due = held.clock.due_ms(max(item.entry[STAMP], item.entry[TOUCH]))
            if judged is Guard.PARK and (not parked_ms or due < parked_ms):
                parked_ms = due
    gone: list[tuple[Key, int, int]] = []
    records: list[Record] = []
    whole = not parked_ms and not rejected
    for item in part.items:
        within = contiguous and item.first <= hi
        entry = item.entry
        # The cap is for what lies behind a gap. Within the slice it would stop the frontier for ever, where dots of
        # an origin pile up that is gone, and whose rows nobody could adopt before it went.
        upto = (origin, hi) if within else (0, 0)
        verdict = held.offer(item.key, entry, reading, slowest_ms, upto=upto, capped=not within)
        if verdict is Verdict.GONE:
            gone.append((item.key, entry[STAMP], entry[ORIGIN]))
        elif verdict in UNSETTLED:
            whole = False
            if within and item.first - 1 < hi:
                hi = item.first - 1
                within = False
        if within:
            base = (item.base_stamp, item.base_origin) if item.base_stamp else None
            records.append((item.latest if item.latest <= hi else item.first, item.key, base))
    if contiguous and hi > frontier:
        records.extend((stamp, None, None) for stamp in part.clears)
        # An item applied before a later one cut the slice may have been noted at a stamp beyond the cut.
        records = sorted({r[0]: r for r in records if frontier < r[0] <= hi}.values(), key=_stamp_of)
        held.log.extend(origin, records)
        context.advance(origin, hi)
        context.note_last(origin, max(part.last, max((r[0] for r in records), default=0)))
        held.clock.accept(context.frontier[origin])
    return Applied(contiguous, whole, gone, parked_ms, rejected)


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
