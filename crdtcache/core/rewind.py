"""Taking back a future that never came: what a fast clock has stamped is stamped again, under a new origin.

Once a replica's time is corrected back by more than `max_drift`, honest peers park or reject what it had stamped
before, and would go on to do so with every later write of that origin: stamps never go back. So it begins anew, as a
restarted process does that loads its entries as offers: a new origin, no context (an empty one is always safe), and the
entries that it holds. What lies in the future is moved back by as much as the clock was ahead: to its true time, so
that it beats what its writer had seen and not what others wrote after it.

So are the writes of others: whoever has followed a fast clock may hold the only copy of them, once the machine with
that clock has been restarted to set it right. What others have written yields to what they move themselves, and what is
held without its value to whoever has one: each goes back by `max_drift` more, which no two corrections differ by.

Decision: the old context goes too. It covers writes that were accounted for only because a future write here beat
them; with that gone they would be answered GONE, everywhere. Refused: to forget what others have stamped in that
future, because they take it back themselves. Random schedules (kitchen-sink, seed 10325) found a write that was gone
everywhere, though two replicas had held it: one forgot it, and then the other one crashed. Source: DESIGN section 11.
"""

from __future__ import annotations

from crdtcache.core.clock import COUNTER_BITS, Reading
from crdtcache.core.entry import (
    DEAD,
    EXPIRES,
    GHOST,
    ORIGIN,
    STAMP,
    STATE,
    TOUCH,
    VALUE,
    Entry,
    Key,
)
from crdtcache.core.lwwmap import LWWMap
from crdtcache.core.outcome import Moved

__all__ = ["earlier", "rewind"]


def rewind(held: LWWMap, origin: int, back_ms: int, reading: Reading) -> list[Moved]:
    """Begin anew as `origin` at a time that is `back_ms` before what it was; returns what moved."""
    held.settle()
    entries, context, log = held.store.entries, held.context, held.log
    limit, now = held.clock.limit(reading.wall_ms), reading.wall_ms << COUNTER_BITS
    cleared = mark = context.clear_mark
    future = []
    for key, entry in entries.items():
        at = max(entry[STAMP], entry[TOUCH])
        if at > limit:
            yields = 0
            if entry[STAMP] > limit:
                yields = (entry[ORIGIN] != held.origin) + 2 * (entry[STATE] == GHOST)
            future.append((at - ((back_ms + yields * held.tuning.max_drift_ms) << COUNTER_BITS), key, entry))
    future.sort(key=_when)
    stamp = 0
    log.clear()
    moved: list[Moved] = []
    if mark[0] > limit:
        stamp = earlier(mark[0] - (back_ms << COUNTER_BITS), now, 0)
        mark = (stamp, origin)
        log.append(origin, stamp, None)
    for at, key, entry in future:
        if entry[:2] <= cleared or (entry[STATE] == DEAD and entry[EXPIRES]):
            held.replace(key, None, entry, reading, remote=True)
            continue
        value = entry[VALUE]
        removed = value[0] if entry[STATE] == DEAD and value.__class__ is tuple else 0
        # Above what its writer had seen, as far as that is known: the clear, what a touch touches, a delete removes.
        seen = max(mark[0], *(known if known <= limit else 0 for known in (entry[STAMP], removed)))
        stamp = earlier(at, now, max(stamp, seen))
        expires = max(1, entry[EXPIRES] - back_ms) if entry[EXPIRES] else 0
        version = (entry[STAMP], entry[ORIGIN]) if entry[STAMP] <= limit else (stamp, origin)
        base = version if version[1] != origin else None
        if removed > limit:
            value = None
        again: Entry = (*version, stamp, origin, expires, entry[STATE], value)
        held.replace(key, again, entry, reading, remote=False, silent=True)
        log.append(origin, stamp, key, base)
        moved.append(Moved(key, (entry[STAMP], entry[ORIGIN]), again))
    context.clear()
    context.frontier[origin] = context.last[origin] = stamp
    context.clear_mark = mark
    latest = max((max(entry[STAMP], entry[TOUCH]) for entry in entries.values()), default=0)
    held.clock.last = max(min(held.clock.last, now), latest, stamp, mark[0])
    held.renamed(origin)
    return moved


def earlier(at: int, now: int, above: int) -> int:
    """The true time `at` of a stamp that was made by a fast clock, in order."""
    return max(min(at, now), above + 1)


def _when(found: tuple[int, Key, Entry]) -> int:
    return found[0]
