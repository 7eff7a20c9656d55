"""The replicated map: store, context, log and digest behind one primitive; rules O1..O5 and C1, C2.

Whatever arrives, in a slice, in a session or from disk, is an offer, and there is one rule for it (`offer`).
Every change of an entry goes through `_replace`, which keeps store, digest and events in step.

Decision: the four structures are only ever changed together, here. The refused alternative, letting each
message handler touch what it needs, is how a published Merkle root was left stale after a merge.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from crdtcache.core.clock import Clock, Guard, Reading
from crdtcache.core.context import Context
from crdtcache.core.digest import Digest
from crdtcache.core.entry import (
    DEAD,
    EXPIRES,
    GHOST,
    LIVE,
    ORIGIN,
    STAMP,
    STATE,
    TOUCH,
    TOUCHER,
    VALUE,
    Entry,
    Key,
    Value,
    Version,
    dead_entry,
    live_entry,
    merge,
)
from crdtcache.core.log import Log, Record
from crdtcache.core.messages import Item, Slice
from crdtcache.core.outcome import Change
from crdtcache.core.store import Store
from crdtcache.tuning import Tuning

__all__ = ["UNSETTLED", "Applied", "LWWMap", "Verdict", "wire_size"]

# What a slice item weighs beside its key and value: stamps, indices, headers (measured: 14 to 40 bytes).
_ITEM_BYTES = 48


class Verdict(IntEnum):
    """What became of an offer."""

    MERGED = 1  # O1: the same version was held
    BEATEN = 2  # O2: a greater one is held
    GONE = 3  # O3: live, covered, not held: removed here
    TAKEN = 4  # O4: stored
    IGNORED = 5  # O4's exception: dead, covered, and nothing here to remove
    PARKED = 6  # too far ahead: may be accepted later
    REJECTED = 7  # absurdly far ahead
    FULL = 8  # it would need a dot beyond the cap


UNSETTLED = (Verdict.PARKED, Verdict.REJECTED, Verdict.FULL)


class Applied(NamedTuple):
    """What became of a slice."""

    contiguous: bool  # False: there was a gap before it
    whole: bool  # every item was applied
    gone: list[tuple[Key, int, int]]  # to be answered GONE
    parked_until_ms: int  # wall time at which the cut item falls due, 0: nothing was parked
    rejected: int  # items rejected


class LWWMap:
    """The map of one replica. `origin` is its own; everything else comes with the calls."""

    def __init__(self, origin: int, tuning: Tuning, store: Store, seed: int) -> None:
        self.origin = origin
        self.tuning = tuning
        self.store = store
        self.clock = Clock(tuning.max_drift_ms, tuning.reject_ms)
        self.context = Context(tuning.dots_per_origin)
        self.log = Log(tuning.log_records)
        self.digest = Digest(store.entries, seed)
        self.context.frontier[origin] = 0
        # The dead, in the order in which they died here, with the monotonic time: collected from the front.
        self.deleted: dict[Key, int] = {}
        self.lapsed: dict[Key, int] = {}
        # Expired by the own clock, not yet by the slowest one heard (D2).
        self.overdue: dict[Key, None] = {}
        self.clearing: list[Key] = []  # keys that a clear has still to look at
        self.changes: list[Change] = []
        self.listening = False
        self.partial = False  # entries were forgotten for want of room: no GONE, no donor (E4)
        # The greatest own stamp that has been sent to anybody: tells a lost own write that nobody saw.
        self.sent = 0
        self.overwritten = 0
        self.evicted = 0
        self.expired = 0
        self.unsafe_gc = 0

    # ---- own operations -------------------------------------------------------------------------------------------

    def put(self, key: Key, value: Value, expires_at: int, reading: Reading) -> Version:
        """Write a value: C1."""
        old = self.store.entries.get(key)
        stamp = self.clock.issue(reading.wall_ms, old[STAMP] if old is not None else 0)
        self._write(key, live_entry(stamp, self.origin, expires_at, value), old, reading)
        return Version(stamp, self.origin)

    def delete(self, key: Key, reading: Reading) -> tuple[Version, bool]:
        """Write a dead entry, also for an absent key (D1). Returns whether a value was visible here."""
        old = self.store.entries.get(key)
        shown = self.visible(key, reading) is not None
        stamp = self.clock.issue(reading.wall_ms, old[STAMP] if old is not None else 0)
        # A second delete in a row still answers for the write that the first one removed.
        removed = None if old is None else (old[VALUE] if old[STATE] == DEAD and old[VALUE] else old[:2])
        self._write(key, dead_entry(stamp, self.origin, removed), old, reading)  # type: ignore[arg-type]
        return Version(stamp, self.origin), shown

    def touch(self, key: Key, expires_at: int, reading: Reading) -> bool:
        """Write the lease of a visible entry (D3): no version, logged with the version that it touches."""
        old = self.visible(key, reading)
        if old is None:
            return False
        stamp = self.clock.issue(reading.wall_ms, max(old[STAMP], old[TOUCH]))
        entry = (old[STAMP], old[ORIGIN], stamp, self.origin, expires_at, old[STATE], old[VALUE])
        self._replace(key, entry, old, reading, remote=False)
        self.log.append(self.origin, stamp, key, (old[STAMP], old[ORIGIN]))
        self._own(stamp)
        return True

    def clear(self, reading: Reading) -> Version:
        """Clear everything that was written before this instant, everywhere (D5)."""
        stamp = self.clock.issue(reading.wall_ms)
        self.log.append(self.origin, stamp, None)
        self._own(stamp)
        self.raise_clear_mark((stamp, self.origin))
        return Version(stamp, self.origin)

    def visible(self, key: Key, reading: Reading) -> Entry | None:
        """The live or ghost entry of `key`, unless it has expired by the own clock or was cleared."""
        entry = self.store.entries.get(key)
        if entry is None or entry[STATE] == DEAD or entry[:2] <= self.context.clear_mark:
            return None
        expires = entry[EXPIRES]
        return entry if not expires or reading.wall_ms < expires else None

    def evict(self, key: Key, reading: Reading) -> bool:
        """Drop a value from memory (D4): same version, same digest, nothing sent."""
        old = self.store.entries.get(key)
        if old is None or old[STATE] != LIVE:
            return False
        self.evicted += 1
        self._replace(key, (*old[:STATE], GHOST, None), old, reading, remote=False)
        return True

    def _write(self, key: Key, entry: Entry, old: Entry | None, reading: Reading) -> None:
        stamp = entry[STAMP]
        if old is not None and old[ORIGIN] != self.origin:
            # O5 for what an own write replaces. Beyond the cap as well: own writes are always possible.
            self.context.leave_dot(old[STAMP], old[ORIGIN])
        self._replace(key, entry, old, reading, remote=False)
        self.log.append(self.origin, stamp, key)
        self._own(stamp)

    def _own(self, stamp: int) -> None:
        context = self.context
        context.frontier[self.origin] = stamp
        context.last[self.origin] = stamp

    # ---- offers: O1..O5 -------------------------------------------------------------------------------------------

    def offer(
        self, key: Key, entry: Entry, reading: Reading, slowest_ms: int | None, upto: tuple[int, int] = (0, 0)
    ) -> Verdict:
        """One entry from anywhere. `slowest_ms`: D2's slowest clock. `upto`: (origin, stamp) about to be covered."""
        stamp, origin = entry[STAMP], entry[ORIGIN]
        judged = self.clock.judge(max(stamp, entry[TOUCH]), reading.wall_ms)
        if judged is not Guard.ACCEPT:
            return Verdict.PARKED if judged is Guard.PARK else Verdict.REJECTED
        context = self.context
        held = self.store.entries.get(key)
        if held is not None and held[:2] == entry[:2]:  # O1
            merged = merge(held, entry)
            if merged is not held:
                self._accept(merged)
                self._replace(key, merged, held, reading, remote=True)
            return Verdict.MERGED
        removed = entry[VALUE] if entry[STATE] == DEAD and entry[VALUE].__class__ is tuple else None
        covered = context.covers(stamp, origin)
        if held is not None and held[:2] > entry[:2]:  # O2
            if not covered:
                if not self._leave_dots(upto, entry[:2], removed):
                    return Verdict.FULL
                if held[ORIGIN] == self.origin and entry[STATE] != DEAD:
                    self._lost(key, held, entry, remote=True)
                self._accept(entry)
            return Verdict.BEATEN
        if covered:
            if entry[STATE] != DEAD:  # O3
                return Verdict.GONE
            if held is None:
                return Verdict.IGNORED
        if not self._leave_dots(upto, entry[:2], held[:2] if held is not None else None, removed):
            return Verdict.FULL
        if (
            held is not None
            and held[ORIGIN] == self.origin
            and held[STAMP] > self.sent
            and held[STATE] != DEAD
            and removed != held[:2]
        ):
            self._lost(key, entry, held, remote=False)
        self._accept(entry)
        if entry[STATE] != DEAD and self.has_lapsed(entry, reading, slowest_ms):
            entry = (*entry[:STATE], DEAD, None)
        self._replace(key, entry, held, reading, remote=True)  # O4
        return Verdict.TAKEN

    def _leave_dots(self, upto: tuple[int, int], *versions: object) -> bool:
        """O5: cover each version that the frontier (or `upto`) does not; False where the cap forbids it."""
        context = self.context
        origin, limit = upto
        needed: list[tuple[int, int]] = [
            v  # type: ignore[misc]
            for v in versions
            if v is not None and not (v[1] == origin and v[0] <= limit)  # type: ignore[index]
        ]
        for version in needed:
            if not context.has_room(*version):
                return False
        for version in needed:
            context.leave_dot(*version)
        return True

    def _accept(self, entry: Entry) -> None:
        clock = self.clock
        clock.accept(entry[STAMP])
        clock.accept(entry[TOUCH])

    def _lost(self, key: Key, winner: Entry, loser: Entry, *, remote: bool) -> None:
        self.overwritten += 1
        if self.listening:
            self.changes.append(Change("overwritten", key, winner, loser, remote))

    def gone(self, key: Key, version: tuple[int, int], reading: Reading) -> bool:
        """A peer answered GONE: forget exactly that version."""
        held = self.store.entries.get(key)
        if held is None or held[:2] != version or held[STATE] == DEAD:
            return False
        return self.forget(key, held, reading)

    # ---- slices: C2 -----------------------------------------------------------------------------------------------

    def make_slice(self, origin: int, lo: int, budget: int) -> Slice | None:
        """The log of `origin` after `lo`, up to about `budget` bytes; None where the log begins above `lo`."""
        if lo < self.log.floor(origin):
            return None
        entries = self.store.entries
        found: dict[Key, list[object]] = {}
        clears: list[int] = []
        hi, size = lo, 0
        for stamp, key, base in self.log.after(origin, lo):
            if key is None:
                clears.append(stamp)
            elif key in found:
                record = found[key]
                record[1], record[2] = stamp, base
            else:
                entry = entries.get(key)
                value = entry[VALUE] if entry is not None else None
                size += _ITEM_BYTES + wire_size(key) + (wire_size(value) if value is not None else 1)
                if size > budget and (found or clears):
                    break
                found[key] = [stamp, stamp, base, entry]
            hi = stamp
        else:
            hi = max(hi, self.context.frontier.get(origin, 0))
        items = []
        for key, (first, latest, base, entry) in found.items():
            if entry is None:  # absent: removed here since, so it is dead wherever it still is
                stamp, maker = base if base is not None else (latest, origin)  # type: ignore[misc,assignment]
                entry = dead_entry(stamp, maker)
            base_stamp, base_origin = base if base is not None else (0, 0)  # type: ignore[misc]
            items.append(Item(first, latest, base_stamp, base_origin, key, entry))  # type: ignore[arg-type]
        last = min(self.context.last.get(origin, 0), hi)
        return Slice(origin, lo, hi, last, self.context.clear_mark, tuple(clears), items)

    def apply_slice(self, part: Slice, reading: Reading, slowest_ms: int | None) -> Applied:
        """C2: apply up to the first item that must wait; after a gap everything is an offer like any other."""
        context = self.context
        origin = part.origin
        frontier = context.frontier.get(origin, 0)
        contiguous = frontier >= part.lo
        hi = min(part.hi, self.clock.limit(reading.wall_ms))
        parked_ms, rejected = 0, 0
        for item in part.items:
            judged = self.clock.judge(max(item.entry[STAMP], item.entry[TOUCH]), reading.wall_ms)
            if judged is not Guard.ACCEPT:
                rejected += judged is Guard.REJECT
                if contiguous and item.first - 1 < hi:
                    hi = item.first - 1
                due = self.clock.due_ms(max(item.entry[STAMP], item.entry[TOUCH]))
                if judged is Guard.PARK and (not parked_ms or due < parked_ms):
                    parked_ms = due
        gone: list[tuple[Key, int, int]] = []
        records: list[Record] = []
        whole = not parked_ms and not rejected
        for item in part.items:
            within = contiguous and item.first <= hi
            entry = item.entry
            verdict = self.offer(item.key, entry, reading, slowest_ms, (origin, hi) if within else (0, 0))
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
            self.log.extend(origin, records)
            context.advance(origin, hi)
            context.note_last(origin, max(part.last, max((r[0] for r in records), default=0)))
            self.clock.accept(context.frontier[origin])
        return Applied(contiguous, whole, gone, parked_ms, rejected)

    # ---- going: expiry, clear, collection -------------------------------------------------------------------------

    def has_lapsed(self, entry: Entry, reading: Reading, slowest_ms: int | None) -> bool:
        """D2: past by the own clock and by the slowest one heard (None: nobody was heard, nothing lapses)."""
        expires = entry[EXPIRES]
        return bool(expires) and slowest_ms is not None and expires <= min(reading.wall_ms, slowest_ms)

    def expire(self, reading: Reading, slowest_ms: int | None) -> list[Key]:
        """Hide what is due by the own clock, and let die what is due by the slowest one as well."""
        store, entries = self.store, self.store.entries
        hidden: list[Key] = []
        for key in store.expiring.due(reading.wall_ms, self._expiry_of):
            self.overdue[key] = None
            if store.hide(key):
                hidden.append(key)
                self.expired += 1
                if self.listening:
                    self.changes.append(Change("expired", key, entries[key], None, False))
        if self.overdue and slowest_ms is not None:
            for key in [k for k in self.overdue if self._settles(k, reading, slowest_ms)]:
                del self.overdue[key]
        return hidden

    def _settles(self, key: Key, reading: Reading, slowest_ms: int) -> bool:
        entry = self.store.entries.get(key)
        if entry is None or entry[STATE] == DEAD or not 0 < entry[EXPIRES] <= reading.wall_ms:
            return True  # replaced or touched meanwhile
        if not self.has_lapsed(entry, reading, slowest_ms):
            return False
        self._replace(key, (*entry[:STATE], DEAD, None), entry, reading, remote=False, silent=True)
        return True

    def _expiry_of(self, key: Key) -> int:
        entry = self.store.entries.get(key)
        return entry[EXPIRES] if entry is not None and entry[STATE] != DEAD else 0

    def raise_clear_mark(self, mark: tuple[int, int]) -> bool:
        """Everything at or below `mark` reads as missing from now on; it is forgotten in steps."""
        if mark <= self.context.clear_mark:
            return False
        self.context.clear_mark = mark
        self.clock.accept(mark[0])
        self.store.hide_all()
        self.clearing = list(self.store.entries)
        return True

    def clear_step(self, reading: Reading, count: int) -> None:
        """Forget the next `count` of what a clear covers, and show what survives it."""
        entries, mark = self.store.entries, self.context.clear_mark
        batch, self.clearing = self.clearing[-count:], self.clearing[:-count]
        for key in batch:
            entry = entries.get(key)
            if entry is None:
                continue
            if entry[:2] <= mark:
                if self.listening and entry[STATE] != DEAD:
                    self.changes.append(Change("deleted", key, entry, None, False))
                self._replace(key, None, entry, reading, remote=False, silent=True)
            elif entry[STATE] == LIVE and not self.store.is_shown(key) and key not in self.overdue:
                self.store.show(key)

    def forget(self, key: Key, entry: Entry, reading: Reading) -> bool:
        """Drop an entry whole; only where its version, and what it removed, stay covered (O5)."""
        removed = entry[VALUE] if entry[STATE] == DEAD and entry[VALUE].__class__ is tuple else None
        if not self._leave_dots((0, 0), entry[:2], removed):
            return False
        self._replace(key, None, entry, reading, remote=True)
        return True

    def collect(self, reading: Reading, watermark: int, count: int) -> int:
        """Forget the dead that nothing can contradict any more; at most `count`. Returns how many."""
        entries, held_ns = self.store.entries, self.tuning.min_dead_age_ms * 1_000_000
        collected = 0
        for queue, bound in ((self.lapsed, None), (self.deleted, watermark)):
            budget = len(self.deleted) - self.tuning.dead_share * max(len(entries), 1_000)
            for key, since in list(_first(queue, count - collected)):
                if reading.mono_ns - since < held_ns:
                    break
                entry = entries[key]
                forced = bound is not None and entry[STAMP] > bound
                if forced and budget <= 0:
                    break
                if not self.forget(key, entry, reading):
                    queue[key] = queue.pop(key)  # no room for its dots: last in the queue
                    continue
                self.unsafe_gc += forced
                budget -= 1
                collected += 1
        return collected

    def make_room(self, reading: Reading, count: int, confirmed: int, *, alone: bool) -> None:
        """Evict until the limits hold, at most `count` (E2: what nobody else holds goes last)."""
        store = self.store
        spared = 0
        while count and store.over():
            count -= 1
            key = store.oldest()
            entry = store.entries[key]
            if spared < 8 and entry[ORIGIN] == self.origin and confirmed < entry[STAMP]:
                spared += 1
                store.promote(key)
                continue
            if alone:
                # Nobody will ever ask for the ghost. A later joiner is answered TOO_OLD and gets what is left.
                self.partial = True
                self.log.cut(entry[ORIGIN], entry[STAMP])
                self.evicted += 1
                self._replace(key, None, entry, reading, remote=False, silent=True)
                if self.listening:
                    self.changes.append(Change("evicted", key, entry, None, False))
            else:
                self.evict(key, reading)

    # ---- the primitive --------------------------------------------------------------------------------------------

    def _replace(
        self, key: Key, entry: Entry | None, old: Entry | None, reading: Reading, *, remote: bool, silent: bool = False
    ) -> None:
        """Every change of an entry: store, digest, the dead, events."""
        self.digest.mark(key, old)
        self.store.replace(key, entry, old)
        was_dead = old is not None and old[STATE] == DEAD
        is_dead = entry is not None and entry[STATE] == DEAD
        if was_dead:
            self.deleted.pop(key, None)
            self.lapsed.pop(key, None)
        if is_dead:
            (self.lapsed if entry[EXPIRES] else self.deleted)[key] = reading.mono_ns  # type: ignore[index]
        if not self.listening or silent:
            return
        was_visible = old is not None and not was_dead and old[:2] > self.context.clear_mark
        if entry is None or is_dead:
            if was_visible and key not in self.overdue:
                kind = "expired" if entry is not None and entry[EXPIRES] else "deleted"
                self.changes.append(Change(kind, key, entry or old, old, remote))  # type: ignore[arg-type]
        elif entry[STATE] == GHOST and was_visible and old[:2] == entry[:2]:  # type: ignore[index]
            self.changes.append(Change("evicted", key, entry, old, remote))
        elif old is None or old[:2] != entry[:2]:
            self.changes.append(Change("set", key, entry, old, remote))

    def check(self) -> None:
        """AssertionError if an invariant of the data is broken; for tests and the simulator."""
        self.store.check()
        self.digest.check()
        self.log.check()
        self.context.check(self.origin)
        entries = self.store.entries
        dead = {key for key, entry in entries.items() if entry[STATE] == DEAD}
        assert dead == self.deleted.keys() | self.lapsed.keys(), "the dead are not all queued for collection"
        for key, entry in entries.items():
            assert max(entry[STAMP], entry[TOUCH]) <= self.clock.last, f"{key!r} is ahead of the clock"
            assert entry[ORIGIN] != self.origin or entry[STAMP] <= self.context.frontier[self.origin]
            assert entry[TOUCHER] or not entry[TOUCH], f"{key!r} has a lease without a toucher"


def _stamp_of(record: Record) -> int:
    return record[0]


def _first(queue: dict[Key, int], count: int) -> list[tuple[Key, int]]:
    return [pair for pair, _ in zip(queue.items(), range(max(count, 0)), strict=False)]


def wire_size(value: Value | Key) -> int:
    """About how many bytes a key or value takes in a frame; never less than it does."""
    kind = value.__class__
    if kind is str or kind is bytes or isinstance(value, bytes):
        return len(value) * (1 if kind is not str or value.isascii() else 4)  # type: ignore[arg-type,union-attr]
    if kind is tuple:
        return 4 + sum(2 + wire_size(part) for part in value)  # type: ignore[union-attr,misc]
    return 9
