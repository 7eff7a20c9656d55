"""What must hold once it is calm: I1, I2, I4, I8 and I14."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from crdtcache.core.entry import STATE, VALUE, Key
from crdtcache.core.replica import Replica
from sim.adapter import Node
from sim.checks.base import Check, Violation, Watched, text_of
from sim.checks.safety import shown
from sim.engine import MS, SECOND
from sim.oracle import Write

__all__ = ["ENDING", "Bounded", "Converges", "Digests", "NothingLost", "Quiet", "equal_maps"]

Shown = dict[Key, tuple[int, ...]]


def shown_map(replica: Replica) -> Shown:
    """Key -> version and lease of what is visible."""
    return {key: entry[:STATE] for key, entry in shown(replica)}


def equal_maps(nodes: Sequence[Node]) -> bool:
    """Whether the nodes that run show the same."""
    maps = [shown_map(node.replica) for node in nodes if node.replica is not None]
    return all(other == maps[0] for other in maps[1:])


class Converges(Check):
    """I1: replicas that can talk end with equal visible maps, within a bound worked out from the tuning."""

    name = "I1"

    def bound_ms(self) -> int:
        """How long after the calm: notice dead links, call again, hear a context of everybody, pull, hold sessions."""
        plan = self.world.plan
        tuning = plan.tuned()
        count = len(self.world.core)
        links = tuning.silent_ms + 4 * tuning.redial_ms + 4 * tuning.dial_timeout_ms
        # One context message per period goes to one of the members: each pair has its turn within a few rounds.
        contexts = round(1.2 * tuning.context_ms * 8 * max(1, count - 1))
        sessions = 2 * tuning.session_idle_ms + (15 * tuning.busy_ms + tuning.compare_ms + 1_000) * max(2, count)
        parked = min(tuning.reject_ms, 2 * self.world.skew_ms + tuning.max_drift_ms)
        latency = round(20 * max(max(row) for row in plan.matrix_ms))
        return links + contexts + sessions + parked + latency + 2_000

    def failure(self) -> Violation:
        """Who differs, on which key."""
        nodes = [self.world.nodes[i] for i in self.world.core]
        first = next(node for node in nodes if node.replica is not None)
        assert first.replica is not None
        mine = shown_map(first.replica)
        for node in nodes:
            if node.replica is None:
                continue
            theirs = shown_map(node.replica)
            for key in sorted(mine.keys() | theirs.keys(), key=str):
                if mine.get(key) != theirs.get(key):
                    a, b = mine.get(key), theirs.get(key)
                    return self.fail(
                        f"not converged {self.bound_ms()} ms after the calm: n{first.index} shows "
                        f"{_text(a)}, n{node.index} shows {_text(b)}",
                        node=node.index,
                        key=key,
                    )
        return self.fail(f"not settled {self.bound_ms()} ms after the calm: {self.world.unsettled()}")


class Digests(Check):
    """I2: digests are equal exactly where visible maps are; the tree equals one rebuilt from the map."""

    name = "I2"
    period = 1 * SECOND

    def __init__(self, world: Watched) -> None:
        super().__init__(world)
        self._next = 0
        self._turn = 0

    def sample(self) -> None:
        """Once a second all digests, and a whole `check()` of one node."""
        if self.world.now < self._next:
            return
        self._next = self.world.now + self.period
        self._compare()
        self._turn += 1
        self._check(self.world.nodes[self._turn % len(self.world.nodes)])

    def final(self) -> None:
        """All of it, everywhere."""
        self._compare()
        for node in self.world.nodes:
            self._check(node)

    def _compare(self) -> None:
        maps: dict[int, tuple[Node, Shown]] = {}
        digests: list[tuple[Node, int, Shown]] = []
        for node in self.world.nodes:
            replica = node.replica
            if replica is None or replica.map.clearing:
                continue
            digest, visible = replica.digest(), shown_map(replica)
            if digest in maps and maps[digest][1] != visible:
                raise self.fail(f"n{maps[digest][0].index} has the same digest and another map", node=node.index)
            for other, its_digest, its_map in digests:
                if its_map == visible and its_digest != digest:
                    raise self.fail(f"n{other.index} has the same map and another digest", node=node.index)
            maps[digest] = node, visible
            digests.append((node, digest, visible))

    def _check(self, node: Node) -> None:
        if node.replica is not None:
            try:
                node.replica.check()
            except AssertionError as error:
                raise self.fail(f"check(): {error}", node=node.index) from error


class NothingLost(Check):
    """I4: in the end the visible value of a key is the greatest version that has left its node, or is held there.

    Excused are writes of a process that is gone which no replica has accounted for, what a removal that had not seen
    a write costs it, where somebody was away for longer than members are waited for, and what had lost against a
    concurrent write of a fast clock before that one was stamped anew (`Oracle.stamp_again`), and what a process had
    written before it was pruned, and nobody had heard (`pruning`).
    """

    name = "I4"

    def final(self) -> None:
        """Each key of the converged map against the list of all writes."""
        world = self.world
        node = next((world.nodes[i] for i in world.core if world.nodes[i].replica is not None), None)
        if node is None or node.replica is None:
            return  # all have left
        held = {str(key): entry for key, entry in shown(node.replica)}
        replicas = [n.replica for n in world.nodes if n.replica is not None and n.index in world.core]
        mark = max([v for v, _, _ in world.oracle.clears if _knows(replicas, v)], default=(0, 0))
        for key, writes in world.oracle.writes.items():
            entry = held.get(key)
            shows = entry[:2] if entry is not None else None
            alive = [
                w
                for w in writes
                if w.version > mark
                and (w.version not in world.oracle.waived or w.version == shows)
                and (self._holds_on(w) or _covered(replicas, w.version))
                and not (world.untold(w) and not any(_holds(r, w.version) for r in replicas))
            ]
            if not alive:
                if entry is not None:
                    raise self.fail(f"shows {text_of(entry[:2])}, which nobody wrote or a clear covers", key=key)
                continue
            best = alive[-1]
            if shows == best.version and not best.removal:
                self._value(node, key, best)
            elif shows is None:
                self._absent(key, alive[-1], writes)
            elif shows > best.version:
                raise self.fail(f"shows {text_of(shows)}, above every write that can be there", key=key)
            elif best.removal and self._survives(best, shows):
                continue
            elif best.may_lapse_by(world.unix_ms + world.skew_ms):
                continue  # it expired and was collected; an older concurrent write came later
            else:
                raise self.fail(
                    f"shows {_text(shows)}, but {best.kind} {text_of(best.version)} of n{best.node} is newer", key=key
                )

    def _holds_on(self, write: Write) -> bool:
        """Whether its writer runs, and has not stamped it anew: then only who believed the old stamp has it."""
        if write.version in self.world.oracle.again:
            return False
        return write.node in self.world.core and self.world.nodes[write.node].process == write.process

    def _runs(self, origin: int) -> bool:
        return any(
            n.replica is not None and n.replica.origin == origin for n in (self.world.nodes[i] for i in self.world.core)
        )

    def _absent(self, key: str, best: Write, writes: list[Write]) -> None:
        """Something has removed the best that is left, though its process may be gone since (GONE is told further)."""
        now_ms = self.world.unix_ms + self.world.skew_ms
        waived = self.world.oracle.waived  # what such a write had beaten is gone with it
        if any(
            w.version >= best.version and (w.removal or w.may_lapse_by(now_ms) or w.version in waived) for w in writes
        ):
            return
        if self.world.cleared(best.version):
            return
        raise self.fail(f"absent, but put {text_of(best.version)} of n{best.node} was never removed", key=key)

    def _survives(self, delete: Write, shows: tuple[int, int]) -> bool:
        """What a removal costs that could not wait: a write that it had not seen may come after it was forgotten."""
        world = self.world
        tuning = world.plan.tuned()
        write = world.oracle.by_version.get(shows)
        gone = write is not None and (world.nodes[write.node].process != write.process or world.alone(write))
        waited = world.strict and tuning.gc_hold_ms >= world.plan.calm_ms and not gone
        return not delete.had_seen(shows) and not waited

    def _value(self, node: Node, key: str, best: Write) -> None:
        assert node.replica is not None
        entry = node.replica.store.entries[key]
        left = [lease for lease in best.leases if self._runs(lease[1])]
        if left and entry[2:5] < max(left):
            raise self.fail(f"the lease {entry[2:5]} is not the greatest, {max(left)}", node=node.index, key=key)
        value = entry[6]
        if value is not None and value != best.value:
            raise self.fail(f"value {value!r} under the version of {best.value!r}", node=node.index, key=key)


class Bounded(Check):
    """I8: values, the dead and members stay within what the tuning and the memory limits allow.

    The log's bound is part of `check()`. What has no room for its dots may stay dead for longer.
    """

    name = "I8"

    def __init__(self, world: Watched) -> None:
        super().__init__(world)
        self._tuning = world.plan.tuned()
        self._late: set[tuple[int, str]] = set()

    def sample(self) -> None:
        """Sizes that may be over only until the next housekeeping."""
        processes = sum(node.processes for node in self.world.nodes)
        for node in self.world.nodes:
            replica = node.replica
            if replica is None:
                continue
            if len(replica.members.known) > processes or len(replica.map.context.frontier) > processes:
                raise self.fail(f"{len(replica.members.known)} members of {processes} processes", node=node.index)
            limit = replica.store.maxsize
            fresh = self.world.now - node.limited_at < 1 * SECOND or node.paused or node.service_ns
            if limit is not None and not fresh and replica.store.live > limit + 64:
                raise self.fail(f"{replica.store.live} live values, the limit is {limit}", node=node.index)
            most = replica.store.max_bytes
            if most is not None and not fresh and replica.store.live > 64 and replica.store.bytes > most:
                raise self.fail(f"{replica.store.bytes} bytes, the limit is {most}", node=node.index)
            if not fresh:
                self._dead(node, replica)

    def _dead(self, node: Node, replica: Replica) -> None:
        """Whatever is long over its least age is gone, but for a share of the index that waits for a watermark."""
        tuning, held = self._tuning, replica.map
        long_ago = node.reading().mono_ns - (tuning.min_dead_age_ms + 2_000) * MS
        share = tuning.dead_share * max(len(held.store.entries), 1_000)
        for what, queue, most in (("expired", held.lapsed, 0.0), ("deleted", held.deleted, share)):
            # In line only: what had no room for its dots waits once more, behind younger ones.
            old = [key for key, _ in takewhile(lambda waiting: waiting[1] < long_ago, queue.items())]
            who = node.index, what
            late = len(old) > most and all(self._has_room(replica, key) for key in old)
            if late and who in self._late:  # at the sample before, too: room may have come since the last sweep
                raise self.fail(f"{len(old)} {what} ones are held for too long, {most:g} may be", node=node.index)
            (self._late.add if late else self._late.discard)(who)

    def _has_room(self, replica: Replica, key: Key) -> bool:
        entry, context = replica.store.entries[key], replica.map.context
        removed = entry[VALUE] if entry[VALUE].__class__ is tuple else entry[:2]
        return context.has_room(*entry[:2]) and context.has_room(*removed)


class Quiet(Check):
    """I14: every session ends, and once all agree nobody sends entries, pulls or opens sessions any more.

    But for the dead that are collected meanwhile: not by all at one instant, for each counts from when it heard of
    them, and who compares in between offers what the other has collected already. Once each, it is allowed, also at
    the very end. Where something expires that late, by each clock at its own instant, a session may be under way
    (seed 10001673); where somebody's clock is corrected, what it had stamped ahead of time is told again; where rows
    are pruned, a dot of what is collected after them makes a writer known again, and is asked for
    (seed 1002454).
    """

    name = "I14"
    quiet = ("entries_sent", "sessions", "pulls", "too_old", "sessions_stuck", "gone")

    def __init__(self, world: Watched) -> None:
        super().__init__(world)
        self._before: dict[tuple[int, str], int] = {}
        self._dead: dict[int, set[tuple[int, int]]] = {}
        self._rows: list[tuple[int, set[int]]] = []
        self._digests: dict[int, int] = {}

    def converged(self) -> None:
        """What was counted so far does not count."""
        self._rows = self._rows_now()
        for node in self.world.nodes:
            if node.replica is not None:
                stats = node.replica.stats()
                self._before.update(((node.index, name), stats[name]) for name in self.quiet)
                self._dead[node.index] = _dead(node.replica)
                self._digests[node.index] = node.replica.digest()

    def final(self) -> None:
        """Nothing was moved since all agreed."""
        left = [_dead(node.replica) for node in self.world.nodes if node.replica is not None]
        same = self._rows_now() == self._rows
        for node in self.world.nodes:
            if node.replica is None or node.index not in self.world.core:
                continue
            collected = len(self._dead.get(node.index, set()) - left[0].intersection(*left))
            expired = node.replica.digest() != self._digests.get(node.index)
            if not (node.replica.caught_up() or collected or expired):
                raise self.fail(
                    "a gap is still wanted, or a session still runs, after the quiet phase", node=node.index
                )
            stats = node.replica.stats()
            for name in self.quiet:
                more = stats[name] - self._before.get((node.index, name), 0)
                if same and more > (collected if name in ("entries_sent", "sessions") else 0):
                    raise self.fail(f"{more} {name} in the quiet phase, when all had agreed", node=node.index)

    def _rows_now(self) -> list[tuple[int, set[int]]]:
        """Who is who, and of whom each has rows."""
        running = [node.replica for node in self.world.nodes if node.replica is not None]
        return [(replica.origin, set(replica.map.context.frontier)) for replica in running]


ENDING: tuple[type[Check], ...] = (Digests, NothingLost, Bounded, Quiet)


def _covered(replicas: list[Replica], version: tuple[int, int]) -> bool:
    return any(r.map.context.covers(*version) or _holds(r, version) for r in replicas)


def _knows(replicas: list[Replica], clear: tuple[int, int]) -> bool:
    """Whether somebody has heard of a clear: what a prune mark covers nobody may have heard."""
    contexts = [r.map.context for r in replicas]
    return any(c.clear_mark == clear or (clear[1] in c.frontier and c.covers(*clear)) for c in contexts)


def _holds(replica: Replica, version: tuple[int, int]) -> bool:
    return any(entry[:2] == version for entry in replica.store.entries.values())


def _dead(replica: Replica) -> set[tuple[int, int]]:
    entries = replica.store.entries
    return {entries[key][:2] for queue in (replica.map.lapsed, replica.map.deleted) for key in queue}


def _text(version: tuple[int, ...] | None) -> str:
    return text_of((version[0], version[1])) if version is not None else "nothing"
