"""How most scenarios are made: some nodes, some faults, some work, and what differs from the common case by name."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sim import workload
from sim.machines import Machine
from sim.plan import Fault, Op, Plan

__all__ = ["SMALL_TUNING", "make", "rng_of"]

SMALL_TUNING: dict[str, float] = {
    "frame_bytes": 4_096,
    "max_frame_bytes": 16_384,
    "inline_bytes": 2_048,
    "key_bytes": 256,
    "context_ms": 200,
    "keepalive_ms": 300,
    "silent_ms": 900,
    "graft_delay_ms": 60,
    "log_records": 2_000,
    "dots_per_origin": 64,
    "window_entries": 8,
    "windows_in_flight": 2,
    "session_idle_ms": 1_500,
    "busy_ms": 60,
    "max_drift_ms": 300,
    "reject_ms": 4_000,
    "max_frame_age_ms": 1_500,
    "min_dead_age_ms": 3_000,
    "gc_hold_ms": 20_000,
    "probe_ms": 300,
    "probe_remote_ms": 1_500,
    "probe_timeout_ms": 60,
    "probe_timeout_remote_ms": 300,
    "suspect_ms": 1_200,
    "dial_timeout_ms": 800,
    "redial_ms": 300,
    "redial_patience_ms": 600_000,
    "redial_slow_ms": 2_000,
    "compare_ms": 1_000,
    "compare_remote_ms": 3_000,
    "list_entries": 4,
    "session_leaves": 16,
    "session_bytes": 16_384,
    "sweep_ms": 50,
    "step_entries": 64,
}
"""Everything happens within seconds: collection, TOO_OLD, parked stamps, full logs. The ratios are the defaults'."""


def rng_of(name: str, seed: int) -> random.Random:
    """The stream that a scenario draws its plan from."""
    return random.Random(f"{name}/{seed}")


def make(
    name: str,
    seed: int,
    *,
    nodes: int,
    calm_ms: int,
    faults: Sequence[Fault] = (),
    ops: Sequence[Op] = (),
    count: int = 500,
    keys: int = 20,
    skew: float = 0.6,
    mix: Mapping[str, int] | None = None,
    ttl_ms: tuple[int, int] = (500, 8_000),
    writers: Sequence[int] | None = None,
    machines: Mapping[int, Mapping[str, Any]] | None = None,
    regions: int = 1,
    rtt_ms: float = 1.0,
    wan_ms: float = 80.0,
    tuning: Mapping[str, float] | None = None,
    **more: Any,
) -> Plan:
    """A plan with `count` random operations and the `ops` given; `machines` changes single ones by number."""
    rng = rng_of(f"{name}/work", seed)
    built = []
    for index in range(nodes):
        region = index % regions
        seeds = tuple(i for i in range(nodes) if i != index)[:8]
        machine = Machine(
            index=index,
            region=region,
            region_name=f"r{region}",
            seeds=seeds,
            listening=bool((index + seed) % 2),
            # Otherwise what goes wrong with a clock would be mended before it shows what the other rules are for.
            stubborn=any(f.kind in ("step", "jump", "drift", "rogue") and index in f.nodes for f in faults),
        )
        built.append(replace(machine, **(machines or {}).get(index, {})))
    work = workload.operations(
        rng,
        nodes=writers if writers is not None else range(nodes),
        start_ms=1_500,
        end_ms=calm_ms,
        count=count,
        keys=keys,
        skew=skew,
        mix=mix if mix is not None else workload.MIX,
        ttl_ms=ttl_ms,
    )
    matrix = tuple(tuple(rtt_ms if a == b else wan_ms for b in range(regions)) for a in range(regions))
    return Plan(
        scenario=name,
        seed=seed,
        machines=tuple(built),
        faults=tuple(sorted(faults, key=lambda f: (f.start_ms, f.end_ms))),
        ops=tuple(sorted([*work, *ops])),
        tuning={**SMALL_TUNING, **(tuning or {})},
        matrix_ms=matrix,
        calm_ms=calm_ms,
        **more,
    )
