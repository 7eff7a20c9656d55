"""A plan: everything that was drawn for a run, written down. Replaying it gives the same trace.

Machines, tuning, faults and operations are lists; what is left to luck (latencies, whom the core tells) is keyed
by the plan's seed and by what it decides (`rand`). A fault is an interval, so leaving one out can never leave a
cut without its heal. After a run the plan may carry what the run gave (`expect`), and a replay is compared with it.

Decision: the plan is data, not code that draws while running: only data can be shrunk, mailed and read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from crdtcache.errors import CrdtCacheError
from crdtcache.tuning import Tuning
from sim.machines import Machine

__all__ = ["Expect", "Fault", "Op", "Plan", "PlanError", "read_plan", "skew_ms"]

_FORMAT = 1


class PlanError(ValueError):
    """Fault: the caller's: a plan file or a setting is not what it should be.

    State: nothing was run.
    Do: correct the place that the message names.
    """


class Fault(NamedTuple):
    """Something is wrong in `[start_ms, end_ms)`. `pairs` for links, `nodes` for machines, `amount` by kind."""

    kind: str
    start_ms: int
    end_ms: int
    nodes: tuple[int, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    amount: int = 0
    label: str = ""


class Op(NamedTuple):
    """One operation of an application."""

    at_us: int
    node: int
    kind: str
    key: str
    value: str = ""
    ttl_ms: int = 0


class Expect(NamedTuple):
    """What a run of the plan gave: the trace hash, the hash at each virtual second, the violation or ""."""

    trace: str
    marks: tuple[str, ...]
    violation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run. `core` are the nodes that must converge: the others may stay broken for ever."""

    scenario: str
    seed: int
    machines: tuple[Machine, ...]
    faults: tuple[Fault, ...] = ()
    ops: tuple[Op, ...] = ()
    tuning: Mapping[str, float] = field(default_factory=dict)
    matrix_ms: tuple[tuple[float, ...], ...] = ((0.5,),)
    jitter_percent: int = 20
    calm_ms: int = 30_000
    quiet_ms: int = 3_000
    core: tuple[int, ...] = ()
    expect: Expect | None = None

    def tuned(self) -> Tuning:
        """The replicas' tuning."""
        try:
            return Tuning(**self.tuning)  # type: ignore[arg-type]
        except (TypeError, CrdtCacheError) as error:
            raise PlanError(f"tuning: {error}") from None

    def but(self, **changes: Any) -> Plan:
        """The plan with some fields changed, and without what its run gave."""
        return replace(self, **{"expect": None, **changes})

    def size(self) -> int:
        """Items: faults and operations."""
        return len(self.faults) + len(self.ops)

    def to_json(self) -> str:
        """The plan as text; one line per fault and operation, so that two plans can be compared by eye."""
        head: dict[str, Any] = {
            "format": _FORMAT,
            "scenario": self.scenario,
            "seed": self.seed,
            "calm_ms": self.calm_ms,
            "quiet_ms": self.quiet_ms,
            "core": self.core,
            "jitter_percent": self.jitter_percent,
            "matrix_ms": self.matrix_ms,
            "tuning": dict(self.tuning),
        }
        parts = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
        parts.append(_lines("machines", [asdict(machine) for machine in self.machines]))
        parts.append(_lines("faults", self.faults))
        parts.append(_lines("ops", self.ops))
        parts.append(f'  "expect": {json.dumps(self.expect)}')
        return "{\n" + ",\n".join(parts) + "\n}\n"

    def write(self, path: Path) -> None:
        """Write the plan to a file; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json())


def skew_ms(plan: Plan) -> int:
    """The greatest error that an honest clock can have in this plan."""
    most = 0
    minutes = (plan.calm_ms + 60_000) // 1_000
    for machine in plan.machines:
        error = abs(machine.offset_ms) + abs(machine.drift_ppm) * minutes // 1_000 + 1
        for fault in plan.faults:
            if machine.index in fault.nodes:
                if fault.kind in ("step", "jump"):
                    error += abs(fault.amount)
                elif fault.kind == "drift":
                    error += abs(fault.amount) * (fault.end_ms - fault.start_ms) // 1_000_000
        most = max(most, error)
    return most


def _lines(name: str, items: Any) -> str:
    body = ",\n".join("    " + json.dumps(item) for item in items)
    return f'  "{name}": [\n{body}\n  ]' if body else f'  "{name}": []'


def read_plan(path: Path) -> Plan:
    """The plan in a file. Raises `PlanError` naming what is wrong with it."""
    try:
        raw = json.loads(path.read_text())
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise PlanError(f"{path}: not JSON: {error}") from None
    if not isinstance(raw, dict) or raw.pop("format", None) != _FORMAT:
        raise PlanError(f"{path}: not a plan of format {_FORMAT}")
    try:
        machines = tuple(Machine(**{**m, "seeds": tuple(m["seeds"])}) for m in raw.pop("machines"))
        faults = tuple(_fault(item) for item in raw.pop("faults"))
        ops = tuple(Op(*item) for item in raw.pop("ops"))
        expect = raw.pop("expect")
        matrix = tuple(tuple(row) for row in raw.pop("matrix_ms"))
        core = tuple(raw.pop("core"))
        return Plan(
            machines=machines,
            faults=faults,
            ops=ops,
            matrix_ms=matrix,
            core=core,
            expect=None if expect is None else Expect(expect[0], tuple(expect[1]), expect[2]),
            **raw,
        )
    except (KeyError, TypeError, IndexError) as error:
        raise PlanError(f"{path}: {type(error).__name__}: {error}") from None


def _fault(item: list[Any]) -> Fault:
    kind, start, end, nodes, pairs, amount, label = item
    return Fault(kind, start, end, tuple(nodes), tuple((a, b) for a, b in pairs), amount, label)
