"""Bugs that the simulator found in the core, planted again: each stands for a fix and its schedule."""

from __future__ import annotations

from typing import Any

from crdtcache.core import outbox, slices
from crdtcache.core.clock import Reading
from crdtcache.core.entry import DEAD, STATE, Entry, Key
from crdtcache.core.gaps import Gaps
from crdtcache.core.lwwmap import LWWMap, Verdict
from crdtcache.core.messages import Item
from crdtcache.core.replica import Replica
from sim.bugs import Patch, bug

_MS = 1_000_000


@bug("dies-with-its-write", "crash-loop")
def gap_kept_for_ever() -> list[Patch]:
    """Gaps: what nobody connected can fill stays wanted, although its writer has died with it."""
    pulls = Gaps.pulls

    def broken(self: Gaps, reading: Reading, reach: Any, *rest: Any) -> Any:
        before = dict(self._wanted)
        asked = pulls(self, reading, reach, *rest)
        for origin, gap in before.items():
            if gap.target > reach(origin):
                self._wanted.setdefault(origin, gap)
        return asked

    return [Patch(Gaps, "pulls", broken)]


@bug("fast-clock-alone")
def left_alone_by_own_clock() -> list[Patch]:
    """D2: who has had peers, and has none in use, lets entries die by the own clock alone."""

    def broken(self: Replica, reading: Reading) -> int | None:
        members = self.members
        clocks = [
            m.clock_ms + (reading.mono_ns - m.heard_ns) // _MS for m in members.in_use(reading.mono_ns) if m.clock_ms
        ]
        if clocks:
            return min(clocks)
        return None if self.seeded and not any(m.clock_ms for m in members.known.values()) else reading.wall_ms

    return [Patch(Replica, "_slowest_ms", broken)]


@bug("full-logs")
def cap_within_a_slice() -> list[Patch]:
    """O5: the dot cap stops contiguous slices too, for ever where the dots are of an origin that is gone."""
    offer = LWWMap.offer

    def broken(self: LWWMap, key: Key, entry: Entry, *args: Any, **kw: Any) -> Verdict:
        return offer(self, key, entry, *args, **{**kw, "capped": kw.get("capped", False) or "upto" in kw})

    return [Patch(LWWMap, "offer", broken)]


@bug("rogue-clears")
def gone_below_a_clear() -> list[Patch]:
    """O3: what only a clear covers is answered GONE, also where the receiver's clock would not believe that clear."""
    offer = LWWMap.offer

    def broken(self: LWWMap, key: Key, entry: Entry, *args: Any, **kw: Any) -> Verdict:
        verdict = offer(self, key, entry, *args, **kw)
        cleared = verdict is Verdict.IGNORED and entry[STATE] != DEAD and entry[:2] <= self.context.clear_mark
        return Verdict.GONE if cleared else verdict

    return [Patch(LWWMap, "offer", broken)]


@bug("born-apart")
def collected_before_anybody_was_met() -> list[Patch]:
    """Collection: a process that has met nobody yet forgets its deletes, because nothing holds its watermark back."""
    watermark = Replica.__dict__["_watermark"]

    def broken(self: Replica, now_ns: int) -> Any:
        return watermark(self, now_ns) if self.members.known else self.map.clock.last

    return [Patch(Replica, "_watermark", broken)]


@bug("two-returners")
def older_write_in_a_slice() -> list[Patch]:
    """Slices: where an older write has taken the place of a forgotten delete, it is sent instead of the delete."""
    make_slice = slices.make_slice

    def broken(held: LWWMap, *args: Any) -> Any:
        part = make_slice(held, *args)
        return part and part._replace(items=[_as_held(held, item) for item in part.items])

    return [Patch(outbox, "make_slice", broken)]


def _as_held(held: LWWMap, item: Item) -> Item:
    entry = held.store.entries.get(item.key)
    return item._replace(entry=entry) if entry is not None and entry[:2] < item.entry[:2] else item
