"""The replicated map: store, context, log and digest behind one primitive; rules O1..O5 and C1.

Whatever arrives, in a slice, in a session or from disk, is an offer, and there is one rule for it (`offer`).
Every change of an entry goes through `replace`, which keeps store, digest and events in step.

Decision: the four structures are only ever changed together, here. The refused alternative, letting each
message handler touch what it needs, is how a published Merkle root was left stale after a merge.
"""

from __future__ import annotations

from enum import IntEnum

from crdtcache.core.clock import Clock, Guard, Reading, stamp_ms
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
from crdtcache.core.log import Log
from crdtcache.core.outcome import Change
from crdtcache.core.store import Store
from crdtcache.core.writing import settler
from crdtcache.tuning import Tuning

__all__ = ["UNSETTLED", "LWWMap", "Verdict"]


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
        self._frontier, self._last = self.context.frontier, self.context.last
        self._frontier[origin] = 0
        # The dead, in the order in which they died here, with the monotonic time: collected from the front.
        self.deleted: dict[Key, int] = {}
        self.lapsed: dict[Key, int] = {}
        self.aged: dict[Key, int] = {}  # those that had been dead for long when they came here
        # Expired by the own clock, not yet by the slowest one heard (D2).
        self.overdue: dict[Key, None] = {}
        self.clearing: list[Key] = []  # keys that a clear has still to look at
        self.changes: list[Change] = []
        self.listening = False
        self.partial = False  # entries were forgotten for want of room: no GONE, no donor (E4)
        # The greatest own stamp that has been sent to anybody: tells a lost own write that nobody saw.
        self.sent = 0
        # A fork has, besides this replica, what was stamped up to here.
        self.shared = 0
        self.overwritten = 0
        self.evicted = 0
        self.expired = 0
        self.unsafe_gc = 0
        self.replaced = 0  # how often an entry changed, but for buffered own writes
        # Own plain writes whose accounts are still to be made: key -> stamp (see `writing`).
        self.fresh: dict[Key, int] = {}
        self._settle = settler(self, self.fresh)

    def renamed(self, origin: int) -> None:
        """Go on as another origin that holds and accounts for the same: what it has written so far is another's."""
        self.settle()
        self.origin = origin
        self._frontier.setdefault(origin, 0)
        self.sent = 0
        self._settle = settler(self, self.fresh)

    # ---- own operations -------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Make the accounts of buffered writes; before anything looks at entries, log, digest or context."""
        if self.fresh:
            self._settle()

    def put(self, key: Key, value: Value, expires_at: int, reading: Reading) -> int:
        """Write a value: C1. Returns its stamp."""
        old = self.store.entries.get(key)
        stamp = self.clock.issue(reading.wall_ms, old[STAMP] if old is not None else 0)
        self._write(key, live_entry(stamp, self.origin, expires_at, value), old, reading)
        return stamp

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
        self.replace(key, entry, old, reading, remote=False)
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

    def moved(self, key: Key) -> tuple[int, int]:
        """What was written for `key` last, as far as it is known here: its own version, or that of a clear."""
        entry = self.store.entries.get(key)
        return max(entry[:2], self.context.clear_mark) if entry is not None else self.context.clear_mark

    def evict(self, key: Key, reading: Reading) -> bool:
        """Drop a value from memory (D4): same version, same digest, nothing sent."""
        old = self.store.entries.get(key)
        if old is None or old[STATE] != LIVE:
            return False
        self.evicted += 1
        self.replace(key, (*old[:STATE], GHOST, None), old, reading, remote=False)
        return True

    def _write(self, key: Key, entry: Entry, old: Entry | None, reading: Reading) -> None:
        stamp = entry[STAMP]
        if old is not None:
            # O5 for what an own write replaces. Beyond the cap as well: own writes are always possible.
            self.context.leave_dot(old[STAMP], old[ORIGIN])
        self.replace(key, entry, old, reading, remote=False)
        self.log.append(self.origin, stamp, key)
        self._own(stamp)

    def _own(self, stamp: int) -> None:
        self._frontier[self.origin] = self._last[self.origin] = stamp

    # ---- offers: O1..O5 -------------------------------------------------------------------------------------------

    def offer(
        self,
        key: Key,
        entry: Entry,
        reading: Reading,
        slowest_ms: int | None,
        *,
        upto: tuple[int, int] = (0, 0),
        capped: bool = False,
    ) -> Verdict:
        """One entry from anywhere. `slowest_ms`: D2's slowest clock. `upto`: (origin, stamp) about to be covered.

        `capped`: no dot beyond the cap; for slices, which somebody goes on sending. What a session offers is
        bounded by the peer's index and covered by the rows at its end; with the cap, two replicas that had
        overwritten more than 4,096 keys of each other's beyond their logs would never end a session.
        """
        stamp, origin = entry[STAMP], entry[ORIGIN]
        refused = self._refused(entry, reading)
        if refused is not None:
            return refused
        context = self.context
        held = self.store.entries.get(key)
        removed = entry[VALUE] if entry[STATE] == DEAD and entry[VALUE].__class__ is tuple else None
        if held is not None and held[:2] == entry[:2]:  # O1
            merged = merge(held, entry)
            if merged is not held:
                self._leave_dots(upto, removed, capped=False)
                self._accept(merged)
                self.replace(key, merged, held, reading, remote=True)
            return Verdict.MERGED
        covered = context.covers(stamp, origin)
        if held is not None and held[:2] > entry[:2]:  # O2
            # Covered or not: where its slice brought what beat it, nothing has told of what it had removed.
            if not self._leave_dots(upto, entry[:2], removed, capped=capped):
                return Verdict.FULL
            if not covered:
                if held[ORIGIN] == self.origin and entry[STATE] != DEAD:
                    self._lost(key, held, entry, remote=True)
                self._accept(entry)
            return Verdict.BEATEN
        if covered:
            if entry[STATE] != DEAD:  # O3
                # What a clear covers is not answered: the mark travels by itself, and each clock judges it.
                return Verdict.GONE if entry[:2] > context.clear_mark else Verdict.IGNORED
            if held is None:
                return Verdict.IGNORED if self._leave_dots(upto, removed, capped=capped) else Verdict.FULL
        # What is held is covered by that: only what it replaces, or its writer removed, may need a dot.
        replaced = held[:2] if held is not None else None
        if (replaced or removed) and not self._leave_dots(upto, replaced, removed, capped=capped):
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
        if entry[EXPIRES] and entry[STATE] != DEAD and self.has_lapsed(entry, reading, slowest_ms):
            entry = (*entry[:STATE], DEAD, None)
        self.replace(key, entry, held, reading, remote=True)  # O4
        return Verdict.TAKEN

    def _refused(self, entry: Entry, reading: Reading) -> Verdict | None:
        judged = self.clock.judge(max(entry[STAMP], entry[TOUCH]), reading.wall_ms)
        if judged is not Guard.ACCEPT:
            return Verdict.PARKED if judged is Guard.PARK else Verdict.REJECTED
        if entry[ORIGIN] == self.origin and entry[STAMP] > self._frontier[self.origin]:
            return Verdict.REJECTED  # never written here: somebody else's identity, which is not taken over
        return None

    def _leave_dots(self, upto: tuple[int, int], *versions: object, capped: bool) -> bool:
        """O5: cover each version that the frontier (or `upto`) does not; False where the cap forbids it."""
        context = self.context
        origin, limit = upto
        needed: list[tuple[int, int]] = [
            v  # type: ignore[misc]
            for v in versions
            # Own versions are covered, all that there are: one beyond the own frontier was never written.
            if v is not None and v[1] != self.origin and not (v[1] == origin and v[0] <= limit)  # type: ignore[index]
        ]
        for version in needed:
            if capped and not context.has_room(*version):
                return False
        for version in needed:
            context.leave_dot(*version)
        return True

    def _accept(self, entry: Entry) -> None:
        self.clock.accept(max(entry[STAMP], entry[TOUCH]))

    def _lost(self, key: Key, winner: Entry, loser: Entry, *, remote: bool) -> None:
        self.overwritten += 1
        if self.listening:
            self.changes.append(Change("overwritten", key, winner, loser, remote))

    def gone(self, key: Key, version: tuple[int, int], reading: Reading) -> bool:
        """A peer answered GONE: forget exactly that version."""
        held = self.store.entries.get(key)
        if held is None or held[:2] != version or held[STATE] == DEAD:
            return False
        if not self.forget(key, held, reading):
            self.replace(key, (*held[:STATE], DEAD, None), held, reading, remote=True)
        return True

    # ---- going ----------------------------------------------------------------------------------------------------

    def only_here(self, entry: Entry) -> bool:
        """Whether nobody else can hold it as long as nobody was met: written here, since the last fork."""
        return entry[ORIGIN] == self.origin and entry[STAMP] > self.shared

    def has_lapsed(self, entry: Entry, reading: Reading, slowest_ms: int | None) -> bool:
        """D2: past by the own clock and by the slowest one heard (None: nobody was heard, nothing lapses)."""
        expires = entry[EXPIRES]
        return bool(expires) and slowest_ms is not None and expires <= min(reading.wall_ms, slowest_ms)

    def forget(self, key: Key, entry: Entry, reading: Reading) -> bool:
        """Drop an entry whole; only where its version, and what it removed, stay covered (O5)."""
        removed = entry[VALUE] if entry[STATE] == DEAD and entry[VALUE].__class__ is tuple else None
        if not self._leave_dots((0, 0), entry[:2], removed, capped=True):
            return False
        self.replace(key, None, entry, reading, remote=True)
        return True

    def raise_clear_mark(self, mark: tuple[int, int]) -> bool:
        """Everything at or below `mark` reads as missing from now on; it is forgotten in steps."""
        if mark <= self.context.clear_mark:
            return False
        self.context.clear_mark = mark
        self.clock.accept(mark[0])
        self.store.hide_all()
        self.clearing = list(self.store.entries)
        return True

    def expiry_of(self, key: Key) -> int:
        """When the entry of `key` expires, Unix ms; 0 for never, for the dead and for the absent."""
        entry = self.store.entries.get(key)
        return entry[EXPIRES] if entry is not None and entry[STATE] != DEAD else 0

    # ---- the primitive --------------------------------------------------------------------------------------------

    def replace(
        self, key: Key, entry: Entry | None, old: Entry | None, reading: Reading, *, remote: bool, silent: bool = False
    ) -> None:
        """Every change of an entry: store, digest, the dead, events."""
        self.replaced += 1
        self.digest.mark(key, old)
        self.store.replace(key, entry, old)
        was_dead = old is not None and old[STATE] == DEAD
        is_dead = entry is not None and entry[STATE] == DEAD
        if was_dead:
            for queue in self.dead():
                queue.pop(key, None)
        if entry is not None and is_dead:
            self._queue(entry, reading)[key] = reading.mono_ns
        if not self.listening or silent:
            return
        was_visible = old is not None and not was_dead and old[:2] > self.context.clear_mark
        if entry is None or is_dead:
            if old is None or not was_visible:
                return
            hidden = key in self.overdue and 0 < old[EXPIRES] <= reading.wall_ms
            if not hidden:
                kind = "expired" if entry is not None and entry[EXPIRES] else "deleted"
                self.changes.append(Change(kind, key, entry or old, old, remote))
        elif entry[STATE] == GHOST and was_visible and old[:2] == entry[:2]:  # type: ignore[index]
            self.changes.append(Change("evicted", key, entry, old, remote))
        elif old is None or old[:2] != entry[:2]:
            self.changes.append(Change("set", key, entry, old, remote))

    def dead(self) -> tuple[dict[Key, int], ...]:
        """The queues of the dead."""
        return self.aged, self.deleted, self.lapsed

    def _queue(self, entry: Entry, reading: Reading) -> dict[Key, int]:
        """Where a dead entry waits to be forgotten.

        What had been dead for `min_dead_age` before it came here is not held for as long again: where processes live
        for less than that, each would hand its dead to the next, and none would ever be collected.
        """
        expires, tuning = entry[EXPIRES], self.tuning
        if reading.wall_ms - (expires or stamp_ms(entry[STAMP])) > tuning.min_dead_age_ms + tuning.max_drift_ms:
            return self.aged
        return self.lapsed if expires else self.deleted

    def check(self) -> None:
        """AssertionError if an invariant of the data is broken; for tests and the simulator."""
        self.store.check()
        self.digest.check()
        self.log.check()
        self.context.check(self.origin)
        entries = self.store.entries
        dead = {key for key, entry in entries.items() if entry[STATE] == DEAD}
        assert dead == {key for queue in self.dead() for key in queue}, "the dead are not all queued for collection"
        for key, entry in entries.items():
            assert max(entry[STAMP], entry[TOUCH]) <= self.clock.last, f"{key!r} is ahead of the clock"
            assert entry[ORIGIN] != self.origin or entry[STAMP] <= self.context.frontier[self.origin]
            assert entry[TOUCHER] or not entry[TOUCH], f"{key!r} has a lease without a toucher"
