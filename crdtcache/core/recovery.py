"""Everything but the entries can be made anew: what follows a change that was interrupted in the middle.

An exception of a signal handler (Ctrl-C in a notebook, a soft time limit in a worker) may come at any call of the
user's thread, so also between two steps of one change. Then the next turn begins here: generations, byte sums,
expiry, the dead, the digest and the end of the own log are made from the entries.

Decision: `LWWMap` and `Store` need no order of steps that survives an exception at each of them, and pay nothing for
one; what is lost is the order of use. The refused alternative is to hold signals back, which only the main
thread can, and not for handlers of other libraries.
"""

from __future__ import annotations

from crdtcache.core.entry import DEAD, EXPIRES, ORIGIN, STAMP, STATE, TOUCH, TOUCHER, Key
from crdtcache.core.lwwmap import LWWMap

__all__ = ["recover"]


def recover(held: LWWMap, mono_ns: int) -> None:
    """Make everything anew from the entries of `held`; what it had not queued yet died at `mono_ns`."""
    _log(held)
    mark = held.context.clear_mark
    held.store.rebuild(held.fresh, lambda key, entry: entry[:2] > mark and key not in held.overdue)
    aged = dict(held.aged)
    since = {**aged, **held.lapsed, **held.deleted}
    for queue in held.dead():
        queue.clear()
    dead = [(since.get(key, mono_ns), key, entry) for key, entry in held.store.entries.items() if entry[STATE] == DEAD]
    for at, key, entry in sorted(dead, key=lambda found: found[0]):
        (held.aged if key in aged else held.lapsed if entry[EXPIRES] else held.deleted)[key] = at
    if mark > (0, 0):
        held.clearing = list(held.store.entries)
    held.digest.rebuild()
    held.replaced += 1
    held.clock.last = max(held.clock.last, held.context.frontier[held.origin])


def _log(held: LWWMap) -> None:
    """The own writes and touches that were not logged yet, in order; then C1 for them."""
    origin, log, fresh = held.origin, held.log, held.fresh
    known = max(log.mend(origin), held.context.frontier[origin])
    for key in [key for key, stamp in fresh.items() if stamp <= known]:
        del fresh[key]
    own: list[tuple[int, Key, tuple[int, int] | None]] = []
    for key, entry in held.store.entries.items():
        if entry[ORIGIN] == origin and entry[STAMP] > known and fresh.get(key) != entry[STAMP]:
            own.append((entry[STAMP], key, None))
        if entry[TOUCHER] == origin and entry[TOUCH] > max(known, entry[STAMP]):
            own.append((entry[TOUCH], key, (entry[STAMP], entry[ORIGIN])))
    for stamp, key, base in sorted(own, key=lambda found: found[0]):
        log.append(origin, stamp, key, base)
        known = stamp
    clears = [stamp for stamp, key, _, _ in log.after(origin, log.floor(origin)) if key is None]
    if clears:
        held.raise_clear_mark((clears[-1], origin))
    if known > held.context.frontier[origin]:
        held.context.frontier[origin] = held.context.last[origin] = known
