"""From a failing plan to a small one: leave things out as long as the same invariant still fails.

Possible because luck is keyed by what it decides (`rand`): leaving out one operation changes nobody else's luck. A
plan of 800 operations and 30 faults usually ends below 10 items within half a minute.

Decision: an own shrinker for plans, not a general one: it knows that time after the violation cannot matter, that the
violation is about one key, that a kind of fault can go whole, that a machine without operations can often go too, and
that a log of two records overflows with three writes where one of 24 needs twenty-five. Nine attempts in ten fail
to fail, so an attempt is looked at by the one check only and up to the time when it is due; who fails there is run
again as a replay will run it, and only that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import process_time
from typing import TypeVar

from sim.checks.ending import ENDING
from sim.checks.safety import SAFETY
from sim.engine import MS
from sim.plan import Fault, Op, Plan
from sim.world import Result, run

__all__ = ["Shrunk", "shrink"]

Item = TypeVar("Item", Fault, Op)

_SLACK_MS = 2_000  # a violation may come so much later where something was left out
_NEAR_US = 20_000
_TIGHTER = (("log_records", (1, 2, 4, 8)), ("dots_per_origin", (1,)), ("window_entries", (2,)))


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The small plan, what it gave, and how many runs that took."""

    plan: Plan
    result: Result
    runs: int


class _Shrinker:
    def __init__(self, result: Result, runs: int, seconds: float) -> None:
        assert result.violation is not None
        self.name = result.violation.invariant
        self.best = result
        self.runs = 0
        self._checks = [check for check in (*SAFETY, *ENDING) if check.name == self.name]
        self._tried: set[object] = set()
        self._most = runs
        self._until = process_time() + seconds

    @property
    def spent(self) -> bool:
        return self.runs >= self._most or process_time() > self._until

    def attempt(self, plan: Plan) -> bool:
        """Whether `plan` still fails in the same way; then it is the best."""
        made = (plan.faults, plan.ops, plan.machines, plan.calm_ms, plan.jitter_percent, *plan.tuning.items())
        if self.spent or made in self._tried:
            return False
        self._tried.add(made)
        self.runs += 1
        at_ms = self._at_ms()
        if not self._fails(run(plan, self._checks, until_ms=at_ms + _SLACK_MS if at_ms < plan.calm_ms else None)):
            return False
        result = run(plan)
        if self._fails(result):
            self.best = result
        return self._fails(result)

    def _fails(self, result: Result) -> bool:
        return result.violation is not None and result.violation.invariant == self.name

    def _at_ms(self) -> int:
        assert self.best.violation is not None
        return self.best.violation.now // MS

    def cut_tail(self) -> None:
        """Nothing after the violation can matter, unless it is what ends the faults; nor a wait before the calm."""
        plan, at_ms = self.best.plan, self._at_ms()
        ops = tuple(op for op in plan.ops if op.at_us < at_ms * 1_000)
        faults = tuple(f for f in plan.faults if f.start_ms < at_ms)
        ends = [f.end_ms for f in faults] + [op.at_us // 1_000 for op in ops]
        calm_ms = 1 + min(at_ms, max(ends, default=0)) if at_ms >= plan.calm_ms else at_ms + 1
        if len(ops) + len(faults) < plan.size() or calm_ms < plan.calm_ms:
            self.attempt(plan.but(ops=ops, faults=faults, calm_ms=calm_ms))

    def tighter(self) -> None:
        """Smaller logs and caps: what needs them full needs fewer writes then."""
        for name, sizes in _TIGHTER:
            plan = self.best.plan
            for size in sizes:
                if size < plan.tuning.get(name, size) and self.attempt(plan.but(tuning={**plan.tuning, name: size})):
                    break

    def sooner(self) -> None:
        """Each operation half as long after what happened before it: a session need not be so long to see it."""
        for i, op in enumerate(self.best.plan.ops):
            plan = self.best.plan
            times = [f.end_ms * 1_000 for f in plan.faults] + [other.at_us for other in plan.ops[:i]]
            before = max((at for at in times if at < op.at_us), default=op.at_us)
            if op.at_us - before > _NEAR_US:
                moved = op._replace(at_us=(before + op.at_us) // 2)
                self.attempt(plan.but(ops=(*plan.ops[:i], moved, *plan.ops[i + 1 :])))

    def one_key(self) -> None:
        """Leave out all other keys, all operations of a kind, all operations of a node."""
        assert self.best.violation is not None
        key = self.best.violation.key
        if key is not None:
            self._without_ops(lambda op: bool(op.key) and op.key != key)
        for kind in sorted({op.kind for op in self.best.plan.ops}):
            self._without_ops(lambda op, kind=kind: op.kind == kind)  # type: ignore[misc]
        for node in range(len(self.best.plan.machines)):
            self._without_ops(lambda op, node=node: op.node == node)  # type: ignore[misc]

    def _without_ops(self, left_out: Callable[[Op], bool]) -> None:
        plan = self.best.plan
        ops = tuple(op for op in plan.ops if not left_out(op))
        if len(ops) < len(plan.ops):
            self.attempt(plan.but(ops=ops))

    def fewer(self, items: Sequence[Item], rebuilt: Callable[[tuple[Item, ...]], Plan]) -> None:
        """Leave out ever smaller pieces of a list (ddmin, by complements only)."""
        left = list(items)
        size = max(1, len(left) // 2)
        while left and not self.spent:
            at, before = 0, len(left)
            while at < len(left) and not self.spent:
                without = left[:at] + left[at + size :]
                if self.attempt(rebuilt(tuple(without))):
                    left = without
                else:
                    at += size
            if size == 1 and len(left) == before:
                return
            size = max(1, size // 2)

    def whole_kinds(self) -> None:
        """Leave out every fault of one kind at once."""
        for label in sorted({f.label or f.kind for f in self.best.plan.faults}):
            plan = self.best.plan
            self.attempt(plan.but(faults=tuple(f for f in plan.faults if (f.label or f.kind) != label)))

    def narrower(self) -> None:
        """Fewer pairs and nodes in each fault, and shorter ones."""
        for i in range(len(self.best.plan.faults)):
            fault = self.best.plan.faults[i]
            for pair in fault.pairs:
                fault = self.best.plan.faults[i]
                if len(fault.pairs) > 1:
                    self._with(i, fault._replace(pairs=tuple(p for p in fault.pairs if p != pair)))
            fault = self.best.plan.faults[i]
            length = fault.end_ms - fault.start_ms
            if length > 200:
                self._with(i, fault._replace(end_ms=fault.start_ms + length // 2))

    def _with(self, index: int, fault: Fault) -> bool:
        faults = list(self.best.plan.faults)
        faults[index] = fault
        return self.attempt(self.best.plan.but(faults=tuple(faults)))

    def plainer(self) -> None:
        """No drift, no memory limits, nobody late: whatever of that does not matter."""
        plan = self.best.plan
        self.attempt(plan.but(jitter_percent=0))
        for i in range(len(plan.machines)):
            for plain in (
                {"offset_ms": 0, "drift_ppm": 0},
                {"maxsize": None},
                {"start_ms": 0},
                {"max_bytes": None},
                {"wire_next": False},
            ):
                machines = list(self.best.plan.machines)
                machine = replace(machines[i], **plain)
                if machine != machines[i]:
                    machines[i] = machine
                    self.attempt(self.best.plan.but(machines=tuple(machines)))

    def fewer_machines(self) -> None:
        """The last machine goes, while there are two."""
        while len(self.best.plan.machines) > 1 and not self.spent:
            for gone in reversed(range(len(self.best.plan.machines))):
                if self.attempt(_without(self.best.plan, gone)):
                    break
            else:
                return


def shrink(
    result: Result,
    *,
    runs: int = 600,
    seconds: float = 300.0,
    tell: Callable[[Plan, int], None] | None = None,
) -> Shrunk:
    """Shrink a failing result's plan, with at most `runs` attempts in `seconds` of this process. `tell` hears of it."""
    work = _Shrinker(result, runs, seconds)
    size = -1
    while size != work.best.plan.size() and not work.spent:
        size = work.best.plan.size()
        for step in (
            work.cut_tail,
            work.tighter,
            work.one_key,
            work.whole_kinds,
            lambda: work.fewer(work.best.plan.faults, lambda items: work.best.plan.but(faults=items)),
            lambda: work.fewer(work.best.plan.ops, lambda items: work.best.plan.but(ops=items)),
            work.fewer_machines,
            work.narrower,
            work.plainer,
            work.sooner,
        ):
            step()
            if tell is not None:
                tell(work.best.plan, work.runs)
    return Shrunk(work.best.plan.but(expect=work.best.expect()), work.best, work.runs)


def _without(plan: Plan, gone: int) -> Plan:
    """The plan without one machine; those above it move down."""

    def moved(index: int) -> int:
        return index - (index > gone)

    machines = tuple(
        replace(m, index=moved(m.index), seeds=tuple(moved(s) for s in m.seeds if s != gone))
        for m in plan.machines
        if m.index != gone
    )
    faults = []
    for fault in plan.faults:
        nodes = tuple(moved(n) for n in fault.nodes if n != gone)
        pairs = tuple((moved(a), moved(b)) for a, b in fault.pairs if gone not in (a, b))
        if nodes or pairs:
            faults.append(fault._replace(nodes=nodes, pairs=pairs))
    ops = tuple(op._replace(node=moved(op.node)) for op in plan.ops if op.node != gone)
    core = tuple(moved(i) for i in plan.core if i != gone)
    return plan.but(machines=machines, faults=tuple(faults), ops=ops, core=core)
