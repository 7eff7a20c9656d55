"""The write path of the user's thread: plain writes wait in a buffer until anything looks at the map.

`write` stamps the write and shows the value; that is all a `set` has to do at once. `settle` makes the
entries, log records, digest marks and byte sums of what has gathered, before anything reads them: every
method of `Replica` begins with it. Ten writes of one key in between are one entry, as they would be on the
wire. A write with an expiry, of a packed or large value, or with somebody listening takes the general path.

Decision: a store buffer, as a processor has one, because `set` has a budget of about a microsecond and the
accounts of one entry cost as much again (Zipf overwrites of 100,000 keys with lock, clock and digest, against
cachetools.TTLCache with a lock in the same run: 1.9x before there was the buffer, 1.2 to 1.3x with it). The
refused alternative is to queue writes for another thread: then a `get` right after could miss them.

An exception of a signal handler (Ctrl-C in a notebook, a soft time limit in a worker) may come at any call. So
`write` shows a value and notes it without a call in between; what else an interruption leaves half done is made anew
(`recovery`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from crdtcache.core.clock import COUNTER_BITS, Reading
from crdtcache.core.digest import BUCKET_SHIFT, MASK, hash64
from crdtcache.core.entry import EXPIRES, LIVE, ORIGIN, STAMP, STATE, TOUCH, VALUE, Entry, Key, Value
from crdtcache.core.store import INDEX_BYTES, weight

if TYPE_CHECKING:
    from crdtcache.core.lwwmap import LWWMap

__all__ = ["LARGE", "MOST_FRESH", "settler", "writer"]

MOST_FRESH = 2_048
LARGE = 1_024
"""A longer str or bytes is put, not written, so that the buffer holds at most 2 MB."""

_NO_TIME = Reading(0, 0)


def writer(
    held: LWWMap, fresh: dict[Key, int], most: int, settle: Callable[[], None]
) -> Callable[[Key, Value, int], int]:
    """`write(key, value, wall_ms) -> stamp`: a plain own write (C1); the caller has checked key and value.

    0, and nothing is written, where the wall clock is far beyond the last stamp: whether it has jumped (section 11: a
    jump is not believed before a peer confirms it), only `put` can tell, which is given the monotonic time as well.
    """
    clock, young = held.clock, held.store.direct.young
    far = held.tuning.max_drift_ms << COUNTER_BITS - 1  # half of it, as in `correction`

    def write(key: Key, value: Value, wall_ms: int) -> int:
        # `clock.last` is at or above every stamp held, so the write wins over what its writer could see.
        stamp = clock.last + 1
        wall = wall_ms << COUNTER_BITS
        if wall > stamp:
            if wall > stamp + far:
                return 0
            stamp = wall
        clock.last = stamp
        young[key] = value  # wherever else the key is shown, a lookup comes here first; `settle` takes it out there
        fresh[key] = stamp
        if len(fresh) >= most:
            settle()
        return stamp

    return write


def settler(held: LWWMap, fresh: dict[Key, int]) -> Callable[[], None]:  # noqa: PLR0915 - one loop, written out
    """`settle()`: make the accounts of what `write` has gathered."""
    store, log, origin, digest = held.store, held.log, held.origin, held.digest
    entries, young, entry_of = store.entries, store.direct.young, store.entries.get
    old_generation, guarded = store.direct.old, store.guarded
    mark, marks, sums, seed = digest.mark, digest.marks, digest.sums, digest.seed
    mixed = origin ^ seed
    column = log.column(origin)
    context, replace = held.context, held.replace
    frontier, last, leave_dot = context.frontier, context.last, context.leave_dot

    def settle() -> None:
        keys = sorted(fresh, key=fresh.__getitem__)
        stamps = [fresh[key] for key in keys]
        count = len(keys)
        if old_generation or guarded.young or guarded.old:
            for key in keys:
                old_generation.pop(key, None)
                guarded.hide(key)
        for key, stamp in zip(keys, stamps, strict=True):
            value: Value = young[key]  # type: ignore[assignment]
            old = entry_of(key)
            entry: Entry = (stamp, origin, stamp, origin, 0, LIVE, value)
            if old is not None and (old[ORIGIN] != origin or old[STATE] != LIVE):
                # O5 for what an own write replaces. Beyond the cap as well: own writes are always possible.
                leave_dot(old[0], old[1])
                replace(key, entry, old, _NO_TIME, remote=False)
                continue
            if old is None:
                mark(key, None)
                cost = INDEX_BYTES + weight(key) + weight(value)
                entries[key] = entry
                store.bytes += cost
                continue
            delta = grown = 0
            if old[EXPIRES] or old[TOUCH] != old[STAMP] or (marks and key in marks) or key.__class__ is not str:
                mark(key, old)
            else:
                # One live entry for another: only the sum changes, and all it needs is at hand.
                content = key.encode()
                bucket = hash64(content, seed) >> BUCKET_SHIFT
                delta = hash64(content, stamp ^ mixed) - hash64(content, old[STAMP] ^ mixed)
            was = old[VALUE]
            kind = value.__class__
            if kind is was.__class__ and (kind is bytes or (kind is str and value.isascii() and was.isascii())):  # type: ignore[union-attr]
                grown = len(value) - len(was)  # type: ignore[arg-type]
            elif value is not was:
                grown = weight(value) - weight(was)
            entries[key] = entry
            if delta:
                sums[bucket] = (sums[bucket] + delta) & MASK
                digest.total += delta
            store.bytes += grown
        column.stamps += stamps
        column.keys += keys
        log.count += count
        frontier[origin] = last[origin] = stamps[-1]
        fresh.clear()
        if log.count > log.cap:
            log.trim()

    return settle
