"""From a failing plan to a small one: leave things out as long as the same invariant still fails.

Possible because luck is keyed by what it decides (`rand`): leaving out one operation changes nobody else's luck. A
plan of 800 operations and 30 faults usually ends below 10 items within a minute.

Decision: an own shrinker for plans, not a general one: it knows that time after the violation cannot matter, that a
kind of fault can go whole, and that a machine without operations can often go too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TypeVar

from sim.engine import MS
from sim.plan import Fault, Op, Plan
from sim.world import Result, run

__all__ = ["Shrunk", "shrink"]

Item = TypeVar("Item", Fault, Op)


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The small plan, what it gave, and how many runs that took."""

    plan: Plan
    result: Result
    runs: int


class _Shrinker:
    def __init__(self, result: Result, play: Callable[[Plan], Result], runs: int, seconds: float) -> None:
        assert result.violation is not None
        self.name = result.violation.invariant
        self.best = result
        self.play = play
        self.runs = 0
        self._most = runs
        self._until = monotonic() + seconds

    @property
    def spent(self) -> bool:
        return self.runs >= self._most or monotonic() > self._until

    def attempt(self, plan: Plan) -> bool:
        """Whether `plan` still fails in the same way; then it is the best."""
        if self.spent:
            return False
        self.runs += 1
        result = self.play(plan)
        if result.violation is None or result.violation.invariant != self.name:
            return False
        self.best = result
        return True

    def cut_tail(self) -> None:
        """Nothing after the violation can matter, unless it is what ends the faults."""
        plan, found = self.best.plan, self.best.violation
        assert found is not None
        at_ms = found.now // MS
        if at_ms < plan.calm_ms:
            ops = tuple(op for op in plan.ops if op.at_us < at_ms * 1_000)
            faults = tuple(f for f in plan.faults if f.start_ms < at_ms)
            if len(ops) + len(faults) < plan.size() or at_ms + 1 < plan.calm_ms:
                self.attempt(plan.but(ops=ops, faults=faults, calm_ms=max(at_ms + 1, 1)))

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
    play: Callable[[Plan], Result] = run,
    tell: Callable[[Plan, int], None] | None = None,
) -> Shrunk:
    """Shrink a failing result's plan, with at most `runs` runs in `seconds`. `tell` hears of progress."""
    work = _Shrinker(result, play, runs, seconds)
    size = -1
    while size != work.best.plan.size() and not work.spent:
        size = work.best.plan.size()
        for step in (
            work.cut_tail,
            work.whole_kinds,
            lambda: work.fewer(work.best.plan.faults, lambda items: work.best.plan.but(faults=items)),
            lambda: work.fewer(work.best.plan.ops, lambda items: work.best.plan.but(ops=items)),
            work.fewer_machines,
            work.narrower,
            work.plainer,
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
