"""The ways to go: expiry, clearing, collection of the dead, and eviction, each in bounded steps.

Expiry has two instants (D2): an entry is hidden when the own clock says so, and dies, at its own version and
without a message, when the slowest clock of the members in use agrees. A fast clock hides its own entries
early, removes nobody's, and shows them again once it is set right. Collection needs no agreement: below the low
watermark nothing unknown can still arrive, and O3 answers for what was forgotten. Eviction keeps the entry as a
ghost, so no digest changes.

Decision: every step has a count, because the lock is held meanwhile. The refused alternative, one sweep over
everything, is a pause that grows with the cache. Source: DESIGN section 7.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from itertools import islice
from typing import TYPE_CHECKING

from crdtcache.core.clock import COUNTER_BITS, Reading
from crdtcache.core.entry import DEAD, EXPIRES, LIVE, ORIGIN, STAMP, STATE, Entry, Key
from crdtcache.core.lwwmap import LWWMap
from crdtcache.core.outcome import Change
from crdtcache.core.store import ABSENT

if TYPE_CHECKING:
    from crdtcache.core.links import Link

__all__ = [
    "adopt",
    "clear_step",
    "collect",
    "drop_overdue",
    "expire",
    "lasts",
    "make_room",
    "prune",
    "to_prune",
    "youngest",
]


def expire(held: LWWMap, reading: Reading, slowest_ms: int | None, count: int | None = None) -> list[Key]:
    """Hide what is due by the own clock, and let die what is due by the slowest one as well.

    At most about `count` of each (None: all). Returns what was hidden; where that is `count`, there may be more.
    """
    store, entries = held.store, held.store.entries
    hidden: list[Key] = []
    for key in store.expiring.due(reading.wall_ms, held.expiry_of, count):
        held.overdue[key] = None
        if store.hide(key):
            hidden.append(key)
            held.expired += 1
            if held.listening:
                held.changes.append(Change("expired", key, entries[key], None, False))
    # Who came first is first here: the rest waits for its turn, or for the slowest clock.
    for key in list(islice(held.overdue, None if count is None else 2 * count)):
        if _settles(held, key, reading, slowest_ms):
            del held.overdue[key]
    if slowest_ms is None and store.crowded():
        drop_overdue(held, reading, len(held.overdue) if count is None else count)
    return hidden


def drop_overdue(held: LWWMap, reading: Reading, count: int) -> None:
    """Drop what has expired while nobody was heard, as far as it takes room from values: at most `count`.

    It may not die (D2), but neither does anybody else hold it. What a fork holds too waits on, behind the others.
    """
    for key in list(islice(held.overdue, count)):
        if not held.store.crowded() or not reading.wall_ms:
            return
        del held.overdue[key]
        entry = held.store.entries.get(key)
        if entry is None or entry[STATE] == DEAD or not 0 < entry[EXPIRES] <= reading.wall_ms:
            continue  # written anew or touched meanwhile (kitchen-sink seed 10077: the new value was dropped)
        if held.only_here(entry):
            _drop(held, key, entry, reading)
        else:
            held.overdue[key] = None


def clear_step(held: LWWMap, reading: Reading, count: int) -> None:
    """Forget the next `count` of what a clear covers, and show what survives it."""
    entries, mark = held.store.entries, held.context.clear_mark
    for key in held.clearing[-count:]:
        entry = entries.get(key)
        if entry is None:
            continue
        if entry[:2] <= mark:
            if held.listening and entry[STATE] != DEAD:
                held.changes.append(Change("deleted", key, entry, None, mark[1] != held.origin))
            held.replace(key, None, entry, reading, remote=False, silent=True)
        elif entry[STATE] == LIVE and not 0 < entry[EXPIRES] <= reading.wall_ms and held.store.shown(key) is ABSENT:
            held.store.show(key, entry)
    del held.clearing[-count:]  # last: a step that an exception ended is taken again


def collect(held: LWWMap, reading: Reading, watermark: int, count: int) -> int:
    """Forget the dead that nothing can contradict any more; at most `count`. Returns how many."""
    entries, held_ns = held.store.entries, held.tuning.min_dead_age_ms * 1_000_000
    collected = 0
    for queue in (held.aged, held.lapsed, held.deleted):
        budget = len(held.aged) + len(held.deleted) - held.tuning.dead_share * max(len(entries), 1_000)
        for key, since in list(_first(queue, count - collected)):
            entry = entries[key]
            young = reading.mono_ns - since < held_ns
            above = entry[STAMP] > watermark and not entry[EXPIRES]
            forced = above and budget > 0 and not young
            if queue is not held.aged and (young or (above and not forced)):
                break  # so are all that died after it
            if (above and not forced) or not held.forget(key, entry, reading):
                queue[key] = queue.pop(key)  # not yet, or no room for its dots: last in the queue
                continue
            held.unsafe_gc += forced
            budget -= 1
            collected += 1
    return collected


def to_prune(held: LWWMap, used: Container[int], links: Collection[Link], wall_ms: int) -> list[int]:
    """The origins whose rows may go: of processes long gone, on which all who are connected agree.

    Older than `forget_ms`; where there are more than `origins`, those as well that ended first. Who is alone prunes
    nothing: what it would forget, nobody could tell it again. Nor does who hears of a greater mark, before it has
    adopted that: of processes without a row it may lack what is held there, and would answer it GONE.
    """
    frontier, ends, tuning = held.context.frontier, held.context.ends, held.tuning
    least, mark = youngest(held, wall_ms), held.context.prune_mark
    if not links or any(mark < link.prune_mark <= least for link in links):
        return []
    gone = sorted(
        (ends(origin), origin)
        for origin, now in frontier.items()
        if ends(origin) < least
        and origin not in used
        and origin != held.origin
        and all(
            _agrees(link, origin, now if origin in held.context.last else 0, ends(origin) <= mark) for link in links
        )
    )
    excess = len(frontier) - tuning.origins
    most = excess + tuning.origins // 16 if excess > 0 else 0  # not one by one
    old = max((wall_ms - tuning.forget_ms) << COUNTER_BITS, mark + 1)
    return [origin for number, (end, origin) in enumerate(gone) if number < most or end < old]


def youngest(held: LWWMap, wall_ms: int) -> int:
    """The greatest stamp that anybody whose clock says `wall_ms` may have pruned."""
    return (wall_ms - held.tuning.least_prune_ms()) << COUNTER_BITS


def lasts(held: LWWMap, wall_ms: int) -> int:
    """What two replicas compare of their rows, at a time that both know: all that nobody may have pruned yet.

    The others are gone here, and there not yet: two that are equal would compare their whole maps until both had
    pruned (kitchen-sink seed 42528).
    """
    return held.context.lasts(youngest(held, wall_ms))


def adopt(held: LWWMap, mark: int, reading: Reading) -> None:
    """All that a peer with this mark holds was taken: what of processes without a row is not here is gone."""
    if held.context.prune_mark < mark <= youngest(held, reading.wall_ms):
        prune(held, [], mark, ())


def _agrees(link: Link, origin: int, now: int, pruned: bool) -> bool:
    """Whether the peer has accounted for just as much of it; or has no row, of what the own mark answers for as well.

    Without the latter, who had no agreement in time would keep the row for as long as one lives that joined later.
    """
    told = link.rows.get(origin, 0)
    return told == now or (pruned and not told and bool(link.rows))


def prune(held: LWWMap, origins: list[int], mark: int, links: Collection[Link]) -> None:
    """Forget these origins: from now on, whoever has no row here is accounted for up to `mark`.

    What it costs: a process away for so long that its row was pruned loses what it wrote up to the mark and nobody
    had heard, and what that had beaten goes with it. Refused: to have such a process begin anew, with an empty context:
    what it had deleted lately itself, and forgotten, would come back. A miss is the smaller harm.
    """
    held.context.prune(origins, mark)
    held.log.prune(origins, mark)
    for link in links:
        for of_origin in (link.rows, link.said, link.cursors, link.too_old):
            for origin in origins:
                of_origin.pop(origin, None)


def make_room(held: LWWMap, reading: Reading, count: int, confirmed: int, *, alone: bool) -> None:
    """Evict until the limits hold, at most `count` (E2: what nobody else holds goes last)."""
    store = held.store
    spared = 0
    while count and store.over():
        count -= 1
        key = store.oldest()
        entry = store.entries[key]
        if spared < 8 and entry[ORIGIN] == held.origin and confirmed < entry[STAMP]:
            spared += 1
            store.promote(key)
            continue
        if alone and held.only_here(entry):
            _drop(held, key, entry, reading)
        else:
            held.evict(key, reading)


def _drop(held: LWWMap, key: Key, entry: Entry, reading: Reading) -> None:
    """Evict without a ghost: nobody else was ever told of it, so nobody can offer it again or ask for the ghost.

    A later joiner is answered TOO_OLD and gets what is left. What a fork has in common with its parent is not dropped:
    the context covers it, so it would be answered GONE, and deleted where it is still held.
    """
    held.log.cut(entry[ORIGIN], entry[STAMP])
    shown = held.store.shown(key) is not ABSENT
    held.evicted += shown
    held.replace(key, None, entry, reading, remote=False, silent=True)
    if held.listening and shown:
        held.changes.append(Change("evicted", key, entry, None, False))


def _settles(held: LWWMap, key: Key, reading: Reading, slowest_ms: int | None) -> bool:
    entry = held.store.entries.get(key)
    if entry is None or entry[STATE] == DEAD:
        return True
    if not 0 < entry[EXPIRES] <= reading.wall_ms:
        _come_back(held, key, entry)
        return True
    if not held.has_lapsed(entry, reading, slowest_ms):
        return False
    held.replace(key, (*entry[:STATE], DEAD, None), entry, reading, remote=False, silent=True)
    return True


def _come_back(held: LWWMap, key: Key, entry: Entry) -> None:
    """What was hidden is due no more: written again or touched, and shown since; or the clock was set back."""
    store = held.store
    if entry[EXPIRES]:
        store.expiring.add(key, entry[EXPIRES])
    if entry[STATE] == LIVE and store.shown(key) is ABSENT and entry[:2] > held.context.clear_mark:
        store.show(key, entry)
        if held.listening:
            held.changes.append(Change("set", key, entry, None, False))


def _first(queue: dict[Key, int], count: int) -> list[tuple[Key, int]]:
    return [pair for pair, _ in zip(queue.items(), range(max(count, 0)), strict=False)]
