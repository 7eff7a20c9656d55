"""A run: boot, then faults and work under watch, calm, liveness, quiescence, and the final account.

`run(plan)` is a pure function: the same plan gives the same `Result`, trace hash and all, in any process. Safety is
sampled all through; after the calm the core owes convergence within a bound, then silence, then the right answer.

Decision: one entry for everybody who runs a plan (command line, sweeps, shrinker, tests, notebooks), with no state
outside the world that it makes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

from crdtcache.core.clock import Reading
from crdtcache.core.entry import Entry, Key, Version
from crdtcache.core.outcome import Anew, Change
from sim import faults
from sim.adapter import Node
from sim.checks.base import Check, Violation
from sim.checks.ending import ENDING, Converges
from sim.checks.safety import SAFETY
from sim.clocks import EPOCH_MS
from sim.engine import MS, SECOND, Code, Engine, Rank
from sim.network import Network
from sim.oracle import Oracle, Write
from sim.plan import Expect, Fault, Op, Plan, skew_ms
from sim.rand import Luck
from sim.settled import unsettled

__all__ = ["Result", "World", "played", "run"]

_SAMPLE = 100 * MS
_STAYS = 1 * SECOND


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a run. `converged_ms` is counted from the calm; `seconds` is wall time."""

    plan: Plan
    violation: Violation | None
    trace: str
    marks: tuple[str, ...]
    events: int
    converged_ms: int | None
    seconds: float
    counts: dict[str, int]  # the replicas' counters, summed over all processes
    coverage: dict[str, int]  # what happened in the run: faults by label, operations by kind, rules

    def expect(self) -> Expect:
        """What a replay is to be compared with."""
        return Expect(self.trace, self.marks, self.violation.invariant if self.violation else "")


class World:
    """The nodes, the network and who watches them. Implements what `faults`, `adapter` and `checks` need of it."""

    def __init__(
        self,
        plan: Plan,
        checks: Sequence[type[Check]] = (*SAFETY, *ENDING),
        *,
        engine: Engine | None = None,
        node: Callable[..., Node] = Node,
    ) -> None:
        self.plan = plan
        self.engine = engine if engine is not None else Engine()
        self.oracle = Oracle()
        luck = Luck(plan.seed)
        self.network = Network(self.engine, luck, plan.matrix_ms, plan.jitter_percent)
        tuning = plan.tuned()
        self.nodes: Sequence[Node] = [
            node(machine, self.engine, self.network, luck, tuning, self) for machine in plan.machines
        ]
        self.core: Sequence[int] = plan.core or tuple(range(len(self.nodes)))
        self.rogues: Sequence[int] = tuple(
            sorted({i for f in plan.faults if f.kind in ("rogue", "wrong") for i in f.nodes})
        )
        self.skew_ms = skew_ms(plan)
        self.calm_at = 0
        self.converged_ms: int | None = None
        self.counts: dict[str, int] = {}
        self.coverage: dict[str, int] = {}
        self._unsafe = 0
        self._alone: dict[tuple[int, int], int] = {}  # until when a process had met nobody
        self._thin: dict[tuple[int, int], int] = {}  # until when it had met nobody, and had evicted something
        self._value = ""
        self.checks = [check(self) for check in checks]
        self._on_write = _overriding(self.checks, Check.wrote)
        self._on_read = _overriding(self.checks, Check.read)
        self._on_change = _overriding(self.checks, Check.changed)
        self._on_took = _overriding(self.checks, Check.took)
        self._on_gave_up = _overriding(self.checks, Check.gave_up)
        self._on_sample = _overriding(self.checks, Check.sample)

    # ---- what others see of it --------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """True time, ns since the beginning."""
        return self.engine.now

    @property
    def unix_ms(self) -> int:
        """True time, Unix ms."""
        return EPOCH_MS + self.engine.now // MS

    @property
    def strict(self) -> bool:
        """Whether no replica had to forget the dead too early."""
        return not self._unsafe and not any(n.replica.map.unsafe_gc for n in self.nodes if n.replica is not None)

    # ---- what the nodes report --------------------------------------------------------------------------------

    def wrote(self, node: Node, kind: str, key: Key, version: Version, expires_at: int, seen: Entry | None) -> None:
        """A put, delete or clear."""
        replica = node.replica
        assert replica is not None
        if kind == "clear":
            self.oracle.cleared((version.stamp, version.origin), node.index, node.process)
            return
        write = Write(
            (version.stamp, version.origin),
            kind,
            str(key),
            "",
            node.index,
            node.process,
            self.now,
            (seen[0], seen[1]) if seen else None,
        )
        if kind == "put":
            entry = replica.entry(key, node.reading())
            write.value = self._value
            write.leases.append((version.stamp, version.origin, expires_at))
            if entry is not None and entry[:2] != write.version:
                raise Violation("I4", "an own write lost at once", now=self.now, node=node.index, key=key)
        else:
            write.frontier = dict(replica.map.context.frontier)
        before = self.oracle.winner(str(key))
        if before is not None and write.seen != before.version:
            self.oracle.conflicts += 1
        self.oracle.wrote(write)
        for check in self._on_write:
            check.wrote(node, write)

    def touched(self, node: Node, key: Key, base: Entry, entry: Entry) -> None:  # noqa: ARG002
        """A lease was written."""
        self.oracle.touched(base[:2], entry[2], entry[3], entry[4])

    def read(self, node: Node, key: Key, entry: Entry | None, reading: Reading) -> None:
        """A get."""
        for check in self._on_read:
            check.read(node, key, entry, reading)

    def changed(self, node: Node, change: Change) -> None:
        """An event."""
        self._count(f"event {change.kind}")
        for check in self._on_change:
            check.changed(node, change)

    def began_anew(self, node: Node, event: Anew) -> None:
        """The future writes of a process were never made, but at their true time."""
        replica = node.replica
        assert replica is not None
        self._count("began anew")
        replicas = [n.replica for n in self.nodes if n.replica is not None]
        for each in replicas:
            each.settle()
        held = {entry[:2] for each in replicas for entry in each.store.entries.values()}

        def believed(version: tuple[int, int]) -> bool:
            return any(each is not replica and each.map.context.covers(*version) for each in replicas)

        self.oracle.take_back(event.former, event.above, replica.map.context.clear_mark, believed)
        for moved in event.moved:
            self.oracle.stamp_again(moved.before, moved.entry, (node.index, node.process), held)

    def took(self, node: Node, age: int) -> None:
        """A frame."""
        for check in self._on_took:
            check.took(node, age)

    def gave_up(self, node: Node, unread: int) -> None:
        """A link given up."""
        for check in self._on_gave_up:
            check.gave_up(node, unread)

    def judged(self, node: Node, origin: int, reason: str, unread: int) -> None:
        """A verdict."""
        for check in self.checks:
            check.judged(node, origin, reason, unread)

    def ended(self, node: Node) -> None:
        """A process ends: its counters are kept."""
        if node.replica is not None:
            self._unsafe += node.replica.map.unsafe_gc
            self._sum(node)

    # ---- the run ----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Put the whole plan on the calendar."""
        plan, engine = self.plan, self.engine
        for node in self.nodes:
            engine.at(node.machine.start_ms * MS, Rank.FAULT, node.start)
        for fault in plan.faults:
            engine.at(fault.start_ms * MS, Rank.FAULT, self._begin, fault)
            if fault.end_ms * MS > fault.start_ms * MS and fault.kind != "leave":
                engine.at(fault.end_ms * MS, Rank.HEAL, self._end, fault)
        for op in plan.ops:
            engine.at(op.at_us * 1_000, Rank.OPERATION, self._post, op)
        engine.at(_SAMPLE, Rank.SAMPLE, self._sample)
        engine.at(1 * SECOND, Rank.SAMPLE, self._mark)

    def play(self, progress: Callable[[int], None] | None = None, until_ms: int | None = None) -> None:
        """The whole run, or up to `until_ms`; raises the `Violation`, if there is one.

        `progress` is told the percentage of the time up to the calm.
        """
        last = until_ms * MS if until_ms is not None else None
        for until in self.phases():
            self.engine.run(until if last is None else min(until, last))
            if progress is not None:
                progress(min(100, 100 * until // (self.plan.calm_ms * MS)))
            if last is not None and until >= last:
                return

    def phases(self) -> Iterator[int]:
        """The whole run as the instants up to which the engine is to be run, one after the other.

        Raises the `Violation`, if there is one. At the end `converged_ms` is set.
        """
        self.prepare()
        engine, plan = self.engine, self.plan
        step = plan.calm_ms * MS // 20 or MS
        yield from range(step, plan.calm_ms * MS, step)
        yield plan.calm_ms * MS
        self.calm_at = engine.now
        converges = Converges(self)
        until = engine.now + converges.bound_ms() * MS
        settled_at = -1
        # Answers may still be on their way when all agree at first: it must stay so for a while.
        while settled_at < 0 or engine.now - settled_at < _STAYS:
            if self.unsettled():
                settled_at = -1
                if engine.now >= until:
                    raise converges.failure()
            elif settled_at < 0:
                settled_at = engine.now
            yield engine.now + 50 * MS
        self.converged_ms = (settled_at - self.calm_at) // MS
        for check in self.checks:
            check.converged()
        yield engine.now + plan.quiet_ms * MS
        for check in self.checks:
            check.final()

    def cleared(self, version: tuple[int, int]) -> bool:
        """Whether there was a clear above that version.

        One of a clock that lies, or that its writer has taken back, counts once others believe it.
        """
        honest = [n.replica.map.context.clear_mark for n in self.nodes if n.replica and n.index not in self.rogues]
        believed, back = max(honest, default=(0, 0)), self.oracle.taken_back
        return any(
            v > version and (v <= believed or (node not in self.rogues and v not in back))
            for v, node, _ in self.oracle.clears
        )

    def alone(self, write: Write) -> bool:
        """Whether its writer had met nobody then: nobody could wait for it."""
        return write.at <= self._alone.get((write.node, write.process), -1)

    def untold(self, write: Write) -> bool:
        """Whether its writer had met nobody then, and had no room either: it may have forgotten it whole."""
        return write.at <= self._thin.get((write.node, write.process), -1)

    def unsettled(self) -> str:
        """Why the core is not settled; "" where it is."""
        return unsettled([self.nodes[i] for i in self.core if self.nodes[i].replica is not None])

    def _begin(self, fault: Fault) -> None:
        self.engine.note(Code.FAULT, -1, fault.amount, f"{fault.kind} {fault.nodes} {fault.pairs}".encode())
        self._count(f"fault {fault.label or fault.kind}")
        faults.begin(fault, self)

    def _end(self, fault: Fault) -> None:
        self.engine.note(Code.HEAL, -1, fault.amount, f"{fault.kind} {fault.nodes} {fault.pairs}".encode())
        faults.end(fault, self)

    def _post(self, op: Op) -> None:
        node = self.nodes[op.node]
        node.post(self._operate, node, op)

    def _operate(self, node: Node, op: Op) -> None:
        self._count(f"op {op.kind}")
        self._value = op.value
        node.operate(op.kind, op.key, op.value, op.ttl_ms)

    def _sample(self) -> None:
        for node in self.nodes:
            if node.replica is not None and not node.replica.members.known:
                self._alone[node.index, node.process] = self.now
                if node.replica.map.evicted:
                    self._thin[node.index, node.process] = self.now
        for check in self._on_sample:
            check.sample()
        self.engine.at(self.now + _SAMPLE, Rank.SAMPLE, self._sample)

    def _mark(self) -> None:
        self.engine.mark()
        self.engine.at(self.now + 1 * SECOND, Rank.SAMPLE, self._mark)

    def _count(self, what: str) -> None:
        self.coverage[what] = self.coverage.get(what, 0) + 1

    def _sum(self, node: Node) -> None:
        assert node.replica is not None
        for name, count in node.replica.stats().items():
            self.counts[name] = self.counts.get(name, 0) + count

    def close(self) -> None:
        """Sum up."""
        for node in self.nodes:
            if node.replica is not None:
                self._sum(node)
        self.coverage["conflicts"] = self.oracle.conflicts
        self.coverage["keys"] = len(self.oracle.writes)


def run(
    plan: Plan,
    checks: Sequence[type[Check]] = (*SAFETY, *ENDING),
    *,
    progress: Callable[[int], None] | None = None,
    until_ms: int | None = None,
) -> Result:
    """Run a plan, whole or `until_ms`. A violation is returned, not raised; an exception of the core is one too."""
    return played(World(plan, checks), progress=progress, until_ms=until_ms)


def played(world: World, *, progress: Callable[[int], None] | None = None, until_ms: int | None = None) -> Result:
    """Run a world that was made; `run` for whoever wants to look into it afterwards."""
    began = perf_counter()
    collecting = gc.isenabled()
    gc.disable()  # a world makes few cycles and is thrown away whole
    violation = None
    try:
        world.play(progress, until_ms)
    except Violation as found:
        violation = found
    except Exception as error:  # noqa: BLE001 whatever the core raises is a finding, with its plan
        violation = Violation("raised", f"{type(error).__name__}: {error}", now=world.now)
        violation.__cause__ = error
    finally:
        if collecting:
            gc.enable()
    seconds = perf_counter() - began
    world.close()
    engine = world.engine
    return Result(
        world.plan,
        violation,
        engine.trace(),
        tuple(engine.marks),
        engine.events,
        world.converged_ms,
        seconds,
        world.counts,
        dict(sorted(world.coverage.items())),
    )


def _overriding(checks: Sequence[Check], hook: Callable[..., None]) -> list[Check]:
    name = hook.__name__
    return [check for check in checks if getattr(type(check), name) is not getattr(Check, name)]
