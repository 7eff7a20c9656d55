"""What must hold at every instant, whatever goes wrong: I3, I4, I5, I6, I7, I10 and I13, and what `upkeep` watches."""

from __future__ import annotations

from crdtcache.core.clock import Reading, stamp_ms
from crdtcache.core.entry import DEAD, EXPIRES, LIVE, STATE, TOUCH, TOUCHER, VALUE, Entry, Key
from crdtcache.core.outcome import Change
from crdtcache.core.replica import Replica
from sim.adapter import Node
from sim.checks.base import Check, Watched, text_of
from sim.checks.pruning import Prunes
from sim.checks.upkeep import UPKEEP
from sim.engine import MS
from sim.oracle import Write

__all__ = [
    "SAFETY",
    "Accounted",
    "Acknowledged",
    "Expiry",
    "Monotonic",
    "NoResurrection",
    "NoThinAir",
    "Stamps",
]

Version = tuple[int, int]
Lease = tuple[int, int]  # the stamp of a touch, and who made it


class NoResurrection(Check):
    """I3: no replica whose context covers a delete shows what that delete had seen.

    Strict while nobody had to collect too early (`unsafe_gc`); otherwise it holds again at the end of the run.
    """

    name = "I3"

    def changed(self, node: Node, change: Change) -> None:
        """Each time when something becomes visible."""
        if change.kind == "set":
            self._look(node, change.key, change.entry)

    def read(self, node: Node, key: Key, entry: Entry | None, _: Reading) -> None:
        """What an application sees."""
        if entry is not None:
            self._look(node, key, entry)

    def sample(self) -> None:
        """Everything that is visible anywhere."""
        if not self.world.strict:
            return
        removals = self.world.oracle.removals
        for node in self.world.nodes:
            if node.replica is not None:
                for key, entry in shown(node.replica):
                    deletes = removals.get(str(key))
                    if deletes and deletes[-1].version > entry[:2]:
                        self._look(node, key, entry)

    def final(self) -> None:
        """Without exceptions."""
        for node in self.world.nodes:
            if node.replica is not None and node.index in self.world.core:
                for key, entry in shown(node.replica):
                    self._look(node, key, entry, at_the_end=True)

    def _look(self, node: Node, key: Key, entry: Entry, *, at_the_end: bool = False) -> None:
        removals = self.world.oracle.removals.get(str(key))
        if not removals or node.replica is None or not (self.world.strict or at_the_end):
            return
        version = entry[:2]
        for delete in reversed(removals):
            if delete.version < version:
                return
            if delete.version in self.world.oracle.waived:
                continue
            if delete.had_seen(version) and node.replica.map.context.covers(*delete.version):
                shown_now = node.replica.store.entries.get(key)
                if shown_now is None or shown_now[:2] != version or shown_now[STATE] == DEAD:
                    return  # an event of a moment ago: what followed in the same call has mended it
                raise self.fail(
                    f"shows {text_of(version)}, which the delete {text_of(delete.version)} had seen, "
                    "and its context covers that delete",
                    node=node.index,
                    key=key,
                )


class Accounted(Check):
    """I6: what a context covers is held, or beaten by something held, or dominated by a removal.

    The removal is covered here, or who knew of it answered GONE, or agreed in a session: the dead are no difference.
    """

    name = "I6"

    def sample(self) -> None:
        """The greatest covered write of each key is held, if nothing has removed it."""
        world, waived = self.world, self.world.oracle.waived
        latest_ms = world.unix_ms + world.skew_ms
        for node in world.nodes:
            replica = node.replica
            if replica is None:
                continue
            replica.settle()
            context, entries = replica.map.context, replica.store.entries
            for key, writes in world.oracle.writes.items():
                held = entries.get(key)
                if held is not None and held[:2] >= writes[-1].version:
                    continue
                covered = next((w for w in reversed(writes) if context.covers(*w.version)), None)
                if covered is None or covered.removal or covered.version <= context.clear_mark:
                    continue
                if covered.version in waived:
                    continue
                if held is not None and held[:2] >= covered.version:
                    continue
                # Two clocks that lie may let it die early anywhere, and one that talks another into it (see I10).
                lied = node.index in world.rogues or len(world.rogues) > 1 or _misled(world)
                if covered.may_lapse_by(latest_ms) or (lied and covered.may_lapse):
                    continue
                if covered.node == node.index and world.untold(covered):
                    continue
                above = [w for w in writes if w.version > covered.version]
                removals = [w.version for w in above if w.removal or w.may_lapse or w.version in waived]
                if removals and (replica.stats()["gone"] or replica.stats()["sessions"]):
                    continue
                if any(self._elsewhere(node, version) for version in removals):
                    continue  # a slice told of it: absent there, dead here
                if any(w.removal and w.had_seen(covered.version) and self._long_ago(w, latest_ms) for w in writes):
                    continue  # the same, told by one who was told: what has been dead for so long is not kept
                raise self.fail(
                    f"covers {text_of(covered.version)} but holds "
                    f"{text_of(held[:2]) if held is not None else 'nothing'}, and nothing has removed it",
                    node=node.index,
                    key=key,
                )

    def _long_ago(self, removal: Write, now_ms: int) -> bool:
        return stamp_ms(removal.version[0]) + self.world.plan.tuned().min_dead_age_ms <= now_ms

    def _elsewhere(self, node: Node, version: Version) -> bool:
        others = [other.replica for other in self.world.nodes if other is not node and other.replica is not None]
        return any(other.map.context.covers(*version) for other in others)


class Stamps(Check):
    """I7: stamps increase per origin, above all that was announced; no clock moves an honest replica too far.

    An honest replica's clock and frontiers are never beyond its wall time (the greatest it read) + max_drift.
    """

    name = "I7"

    def __init__(self, world: Watched) -> None:
        super().__init__(world)
        self._last: dict[int, int] = {}
        self._drift_ms = world.plan.tuned().max_drift_ms

    def wrote(self, node: Node, write: Write) -> None:
        """A new stamp is greater than the last, and than what any replica believes that origin has finished."""
        stamp, origin = write.version
        if stamp <= self._last.get(origin, 0):
            raise self.fail(f"stamp {stamp:x} is not above {self._last[origin]:x}", node=node.index, key=write.key)
        self._last[origin] = stamp
        for other in self.world.nodes:
            replica = other.replica
            if replica is not None and other is not node and replica.map.context.frontier.get(origin, 0) >= stamp:
                raise self.fail(
                    f"n{other.index} has accounted for everything of it up to "
                    f"{replica.map.context.frontier[origin]:x}, and it wrote {stamp:x} after that",
                    node=node.index,
                    key=write.key,
                )

    def sample(self) -> None:
        """Nobody has been dragged along."""
        drift = self._drift_ms
        for node in self.world.nodes:
            replica = node.replica
            if replica is None or node.index in self.world.rogues:
                continue
            limit = node.most() + drift + 2
            for origin, stamp in (*replica.map.context.frontier.items(), (0, replica.map.clock.last)):
                if stamp_ms(stamp) > limit:
                    raise self.fail(
                        f"{'its clock' if not origin else f'the frontier of {origin:016x}'} is "
                        f"{stamp_ms(stamp) - node.most_ms} ms ahead of its wall clock; the limit is {drift}",
                        node=node.index,
                    )


class Expiry(Check):
    """I10: nothing is served after its expiry + max_drift by an honest clock, and nothing dies anywhere before it.

    Before: less the error of honest clocks. A clock that lies may hide its own entries early; it kills nobody's.
    A lease that a touch has replaced may still end an entry, where the touch came too late: as long as some replica,
    or a frame on its way, may not know of the touch. Where two clocks lie, the only other clock that somebody has
    heard may be the other liar's: then nothing is promised; nor where an honest one was talked into a wrong time, as
    the younger of two is (design section 11).
    """

    name = "I10"

    def __init__(self, world: Watched) -> None:
        super().__init__(world)
        tuning = world.plan.tuned()
        self._travel = (tuning.max_frame_age_ms + tuning.silent_ms + 1_000) * MS
        self._turn = 0
        # The least lease that any replica has of an entry which all hold, since when, and the one before it.
        self._known: dict[Version, tuple[Lease, int, Lease]] = {}

    def read(self, node: Node, key: Key, entry: Entry | None, reading: Reading) -> None:
        """What an application sees has not expired."""
        if entry is None or not entry[EXPIRES] or node.index in self.world.rogues:
            return
        if reading.wall_ms >= entry[EXPIRES]:
            raise self.fail(f"served {reading.wall_ms - entry[EXPIRES]} ms after its expiry", node=node.index, key=key)

    def sample(self) -> None:
        """What died had expired, or was removed by somebody."""
        world = self.world
        if len(world.rogues) > 1 or _misled(world):
            return
        now_ms = world.unix_ms + world.skew_ms
        self._turn += 1
        if self._turn % 5 == 0:
            self._learn()
        for node in world.nodes:
            if node.replica is None:
                continue
            cleared = node.replica.map.context.clear_mark  # what it covers is removed, and goes in steps
            for key, entry in node.replica.store.entries.items():
                if entry[STATE] != DEAD or entry[:2] <= cleared:
                    continue
                write = world.oracle.by_version.get(entry[:2])
                if write is None or write.removal:
                    continue
                if write.version in world.oracle.waived:
                    continue
                least = self._known.get(write.version, ((0, 0), 0, (0, 0)))[2]
                if any(0 < lease[2] <= now_ms and lease[:2] >= least for lease in write.leases):
                    continue
                if any(w.version > write.version and (w.removal or w.may_lapse) for w in world.oracle.writes[str(key)]):
                    continue  # somebody has answered GONE, and there was no room for its dot
                raise self.fail(
                    f"dead {entry[EXPIRES] - now_ms} ms before any honest clock reached its expiry"
                    if entry[EXPIRES]
                    else "dead without an expiry, and nobody has removed it",
                    node=node.index,
                    key=key,
                )

    def _learn(self) -> None:
        """Which touches everybody knows, and no frame that does not know of them can still arrive."""
        now = self.world.now
        held = [node.replica.store.entries for node in self.world.nodes if node.replica is not None]
        for key, writes in self.world.oracle.writes.items():
            write = writes[-1]
            if len(write.leases) < 2 or not held:
                continue
            entries = [entries.get(key) for entries in held]
            if any(e is None or e[:2] != write.version or e[STATE] == DEAD for e in entries):
                continue
            least = min((e[TOUCH], e[TOUCHER]) for e in entries if e is not None)
            lease, since, before = self._known.get(write.version, (least, now, (0, 0)))
            if now - since >= self._travel:
                lease, since, before = least, now, lease
            self._known[write.version] = lease, since, before


def _misled(world: Watched) -> bool:
    """Whether an honest clock was talked into a wrong time by one that lies."""
    return any(n.index not in world.rogues and n.wrong_ms > world.skew_ms + 1 for n in world.nodes)


class Monotonic(Check):
    """I13: on one replica, what is visible of a key never goes back to an older version.

    Unless the newer one has expired, or what had beaten it (seed 10003556), or it was deleted while the older one's
    writer was away for longer than gc_hold, or had met nobody yet, or is gone: then the older write, which its remover
    had not seen, may be taken in after the removal was forgotten.
    """

    name = "I13"

    def __init__(self, world: Watched) -> None:
        super().__init__(world)
        self._newest: dict[tuple[int, int, Key], tuple[int, int]] = {}

    def changed(self, node: Node, change: Change) -> None:
        """Something became visible."""
        if change.kind == "set":
            self._look(node, change.key, change.entry)

    def read(self, node: Node, key: Key, entry: Entry | None, _: Reading) -> None:
        """What an application sees."""
        if entry is not None:
            self._look(node, key, entry)

    def _look(self, node: Node, key: Key, entry: Entry) -> None:
        place = (node.index, node.replica.origin if node.replica is not None else 0, key)
        before = self._newest.get(place, (0, 0))
        if entry[:2] < before and self.world.strict and not self._excused(key, entry[:2], before):
            raise self.fail(f"shows {text_of(entry[:2])} after {text_of(before)}", node=node.index, key=key)
        self._newest[place] = max(before, entry[:2])

    def _excused(self, key: Key, version: tuple[int, int], before: tuple[int, int]) -> bool:
        world = self.world
        newer = world.oracle.by_version.get(before)
        if before in world.oracle.waived:
            return True
        if newer is not None and world.untold(newer):
            return True
        now_ms = world.unix_ms + world.skew_ms
        if any(w.version >= before and w.may_lapse_by(now_ms) for w in world.oracle.writes.get(str(key), ())):
            return True  # it has lapsed, or what had beaten it has, perhaps before it came here
        older = world.oracle.by_version.get(version)
        gone = older is not None and (world.nodes[older.node].process != older.process or world.alone(older))
        if world.plan.tuned().gc_hold_ms >= world.plan.calm_ms and not gone:
            return False
        removals = world.oracle.removals.get(str(key), [])
        return any(d.version > version and not d.had_seen(version) for d in removals)


class Acknowledged(Check):
    """I5: whom a replica believes to have accounted for something has: what is waited for by `wait_replicated`."""

    name = "I5"

    def sample(self) -> None:
        """What is believed of each peer, against the peer."""
        running = {node.replica.origin: node for node in self.world.nodes if node.replica is not None}
        for node in self.world.nodes:
            if node.replica is None:
                continue
            for origin, peer in running.items():
                if peer is node or peer.replica is None:
                    continue
                known = node.replica.known_of(origin)
                reach = peer.replica.map.context.reach
                for writer, stamp in known.items():
                    if stamp > reach(writer):
                        raise self.fail(
                            f"believes that n{peer.index} has accounted for {writer:016x} up to {stamp:x}; "
                            f"it is at {reach(writer):x}",
                            node=node.index,
                        )


class NoThinAir(Check):
    """I4: whatever is held anywhere was written by somebody: its version, and under that version its value."""

    name = "I4"

    def sample(self) -> None:
        """Each entry against the list of all writes."""
        by_version = self.world.oracle.by_version
        for node in self.world.nodes:
            if node.replica is None:
                continue
            node.replica.settle()
            for key, entry in node.replica.store.entries.items():
                write = by_version.get(entry[:2])
                if write is None or write.key != key:
                    raise self.fail(f"holds {text_of(entry[:2])}, which nobody wrote", node=node.index, key=key)
                if entry[STATE] == LIVE and entry[VALUE] != write.value:
                    raise self.fail(f"holds {entry[VALUE]!r} for {write.value!r}", node=node.index, key=key)


SAFETY: tuple[type[Check], ...] = (
    Prunes,  # first: the others ask what it has noted
    NoResurrection,
    NoThinAir,
    Acknowledged,
    Accounted,
    Stamps,
    Expiry,
    Monotonic,
    *UPKEEP,
)


def shown(replica: Replica) -> list[tuple[Key, Entry]]:
    """The visible entries, as the map holds them: whatever is not dead and not cleared."""
    replica.settle()
    mark = replica.map.context.clear_mark
    return [(k, e) for k, e in replica.store.entries.items() if e[STATE] != DEAD and e[:2] > mark]
