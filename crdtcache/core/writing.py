"""The write path of the user's thread: one closure that does what a `set` costs, and nothing else.

`LWWMap.replace` says in general what is written out here for the commonest write: a live value, over none or
over a live one of the own making, with nobody listening. Everything else takes the general path.

Decision: a closure with its tables bound once, not methods: an attribute costs 10 ns and a call 60 ns, and a
`set` has a budget of about 1,000. The refused alternative is to queue writes and account for them later:
then `bytes`, `digest` and the own frontier would be wrong in between. Tests hold both paths against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from crdtcache.core.clock import COUNTER_BITS
from crdtcache.core.digest import FOLD_AT
from crdtcache.core.entry import LIVE, ORIGIN, STAMP, STATE, VALUE, Entry, Key, Packed, Value
from crdtcache.core.store import INDEX_BYTES, weight

if TYPE_CHECKING:
    from crdtcache.core.clock import Reading
    from crdtcache.core.lwwmap import LWWMap

__all__ = ["writer"]


def writer(held: LWWMap) -> Callable[[Key, Value, int, Reading], int]:  # noqa: PLR0915 - one call deep on purpose
    """`put(key, value, expires_at, reading) -> stamp` for `held`; the caller has checked key and value."""
    store, clock, log, origin = held.store, held.clock, held.log, held.origin
    entries, hot, old_generation = store.entries, store.hot, store.old
    entry_of = entries.get
    marks, fold = held.digest.marks, held.digest.fold
    column = log.column(origin)
    add_stamp, add_key = column.stamps.append, column.keys.append
    frontier, last = held.context.frontier, held.context.last
    leave_dot, replace = held.context.leave_dot, held.replace

    def put(key: Key, value: Value, expires_at: int, reading: Reading) -> int:
        old = entry_of(key)
        stamp = clock.last + 1
        wall = reading[0] << COUNTER_BITS
        if wall > stamp:
            stamp = wall
        if old is None:
            plain = not (expires_at or held.listening)
        else:
            if old[STAMP] >= stamp:
                stamp = old[STAMP] + 1
            plain = old[ORIGIN] == origin and old[STATE] == LIVE and not (expires_at or held.listening)
        clock.last = stamp
        entry: Entry = (stamp, origin, stamp, origin, expires_at, LIVE, value)
        if plain:
            if key not in marks:
                if len(marks) >= FOLD_AT:
                    fold()
                marks[key] = old[:VALUE] if old is not None else None  # not the value: it would live until the fold
            entries[key] = entry
            hot[key] = entry if value.__class__ is Packed else value
            if old_generation:
                old_generation.pop(key, None)
            if old is None:
                store.bytes += INDEX_BYTES + weight(key) + weight(value)
            else:
                was = old[VALUE]
                if value.__class__ is was.__class__ is str and value.isascii() and was.isascii():
                    if len(value) != len(was):
                        store.bytes += len(value) - len(was)
                else:
                    store.bytes += weight(value) - weight(was)
        else:
            if old is not None:
                # O5 for what an own write replaces. Beyond the cap as well: own writes are always possible.
                leave_dot(old[STAMP], old[ORIGIN])
            replace(key, entry, old, reading, remote=False)
        add_stamp(stamp)
        add_key(key)
        log.count += 1
        if log.count > log.cap:
            log.trim()
        frontier[origin] = last[origin] = stamp
        return stamp

    return put
