"""The kitchen sink: the seed draws which faults exist at all, how hard they are, and what the applications do.

Decision: a swarm, as testers of compilers and databases do it: each run bans a random half of what can go wrong. A
run with every fault at a moderate rate never gets into the corners that one fault alone, hard, gets into. What is
never banned is what a run must have to say something (`coverage.rough`): a cut beyond every time-out, operations that
somebody performs, and time for what was deleted to be collected.
"""

from __future__ import annotations

import random
from dataclasses import replace

from sim import faults, workload
from sim.machines import Machine
from sim.plan import Fault, Op, Plan
from sim.scenarios import scenario
from sim.scenarios.making import SMALL_TUNING, rng_of

__all__ = ["kitchen_sink"]


@scenario
def kitchen_sink(seed: int, nodes: int | None) -> Plan:
    """Any mix of faults: everything that the other scenarios check, at once."""
    rng = random.Random(f"kitchen-sink/{seed}")
    count = nodes or rng.choice((2, 3, 3, 3, 4, 4, 5, 6))
    start, calm = 1_500, rng.randrange(16_000, 26_000)
    tuning = _tuning(rng)
    regions = rng.choice((1, 1, 2))
    wan = rng.choice((10.0, 40.0, 120.0))
    machines = [_machine(rng, i, count, regions) for i in range(count)]
    # A stream of its own: what is drawn later in the life of this file must not change what a seed meant before.
    later = rng_of("kitchen-sink/later", seed)
    machines = [replace(m, max_bytes=later.choice((None, None, None, None, 2_000, 8_000))) for m in machines]
    tuning["list_entries"] = later.choice((1, 1, 4, 64))
    tuning["session_bytes"] = later.choice((400, 16_384))
    machines = [replace(m, stubborn=later.random() < 0.5) for m in machines]
    tuning["star_members"] = later.choice((24, 24, 1, 2))
    tuning["fan_out"] = later.choice((1, 2))
    drawn: list[Fault] = []
    for kind in [kind for kind in _KINDS if rng.random() < 0.45]:
        for _ in range(rng.randrange(1, 4)):
            drawn += _draw(rng, kind, count, start, calm, tuning)
    at = rng.randrange(start, calm - 8_500)
    pairs, shape = _shape(rng, count)
    drawn.append(faults.cut(pairs, at, min(calm, at + rng.randrange(5_000, 14_000)), shape))
    mix = dict(workload.MIX)
    if rng.random() < 0.3:
        mix["clear"] = 1
    if rng.random() < 0.3:
        mix["delete"] *= 3
    if rng.random() < 0.3:
        mix["touch"] *= 3
    if rng.random() < 0.2:
        mix["ttl"] *= 4
    ops = workload.operations(
        rng,
        nodes=range(count),
        start_ms=start,
        end_ms=calm - rng.choice((0, 0, 500)),
        count=rng.randrange(450, 900),
        keys=rng.choice((10, 12, 16, 30, 60)),
        skew=rng.choice((0.0, 0.5, 0.9, 1.2)),
        mix=mix,
        ttl_ms=rng.choice(((100, 2_000), (500, 8_000))),
    )
    ops = [_where_somebody_is(rng, op, machines, drawn) for op in ops]
    if any(fault.kind == "leave" for fault in drawn):
        # Whoever knew only one that left would be alone for ever, and that is nobody's fault.
        machines = [replace(m, seeds=tuple(i for i in range(count) if i != m.index)) for m in machines]
    return Plan(
        scenario="kitchen-sink",
        seed=seed,
        machines=tuple(machines),
        faults=tuple(sorted(drawn, key=lambda f: (f.start_ms, f.end_ms))),
        ops=tuple(ops),
        tuning=tuning,
        matrix_ms=tuple(tuple(1.0 if a == b else wan for b in range(regions)) for a in range(regions)),
        # More across the world than this would look like silence to links that wait so short a time.
        jitter_percent=rng.choice((10, 50, 200)) if regions == 1 else rng.choice((10, 50)),
        calm_ms=calm,
        quiet_ms=8_000 if tuning["min_dead_age_ms"] > 3_000 else rng.choice((2_500, 2_500, 8_000)),
    )


_KINDS = (
    "partition",
    "flapping",
    "swizzle",
    "delay",
    "loss",
    "bandwidth",
    "reset",
    "swallow",
    "refuse",
    "pause",
    "slow",
    "crash",
    "power",
    "crash loop",
    "rolling",
    "step",
    "drift",
    "rogue",
    "memory",
    "leave",
)


def _tuning(rng: random.Random) -> dict[str, float]:
    tuning = dict(SMALL_TUNING)
    tuning["log_records"] = rng.choice((24, 60, 200, 2_000))
    tuning["dots_per_origin"] = rng.choice((4, 16, 64, 4_096))
    tuning["window_entries"] = rng.choice((2, 8, 64))
    tuning["gc_hold_ms"] = rng.choice((2_000, 6_000, 20_000, 60_000))
    tuning["dead_share"] = rng.choice((0.01, 0.1, 0.5))
    tuning["min_dead_age_ms"] = rng.choice((3_000, 3_000, 6_000))
    tuning["max_drift_ms"] = rng.choice((50, 300, 300))
    if tuning["gc_hold_ms"] <= 6_000:  # what is gone for so long as nobody waits is soon pruned
        tuning["forget_ms"] = tuning["gc_hold_ms"] + 2 * tuning["min_dead_age_ms"]
    return tuning


def _machine(rng: random.Random, index: int, count: int, regions: int) -> Machine:
    seeds = tuple(i for i in range(count) if i != index and (i == 0 or rng.random() < 0.5)) or (
        (1,) if count > 1 else ()
    )
    region = index % regions
    return Machine(
        index=index,
        region=region,
        region_name=f"r{region}",
        seeds=seeds,
        offset_ms=rng.choice((0, 0, rng.randrange(-40, 40))),
        drift_ppm=rng.choice((0, rng.randrange(-200, 200))),
        maxsize=rng.choice((None, None, None, 8, 100)),
        listening=rng.random() < 0.6,
        start_ms=rng.choice((0, 0, 0, rng.randrange(8_000))),
        wire_next=rng.random() < 0.1,
    )


def _where_somebody_is(rng: random.Random, op: Op, machines: list[Machine], drawn: list[Fault]) -> Op:
    """The operation, at another node where no process runs on its own by then."""
    at_ms = op.at_us // 1_000
    down = {m.index for m in machines if at_ms < m.start_ms}
    for fault in drawn:
        ended = fault.kind in ("crash", "power", "leave") and fault.start_ms <= at_ms
        if ended and (fault.kind == "leave" or at_ms < fault.end_ms):
            down.update(fault.nodes)
    running = [m.index for m in machines if m.index not in down]
    return op._replace(node=rng.choice(running)) if op.node in down and running else op


def _shape(rng: random.Random, count: int) -> tuple[faults.Pairs, str]:
    """Pairs of nodes, never none: a ring of three parts nobody, and islands may all be one."""
    shape = rng.choice(list(faults.SHAPES))
    pairs = faults.SHAPES[shape](count, rng)
    return (pairs, shape) if pairs else (faults.halves(count, rng), "halves")


def _interval(rng: random.Random, start: int, calm: int, shortest: int, longest: int) -> tuple[int, int]:
    # Log-uniform lengths: short ones often, long ones sometimes.
    length = round(shortest * (longest / shortest) ** rng.random())
    at = rng.randrange(start, max(start + 1, calm - length))
    return at, min(at + length, calm)


def _draw(rng: random.Random, kind: str, count: int, start: int, calm: int, tuning: dict[str, float]) -> list[Fault]:
    node = rng.randrange(count)
    pairs, shape = _shape(rng, count)
    if kind == "partition":
        at, to = _interval(rng, start, calm, 300, 9_000)
        return [faults.cut(pairs, at, to, shape)]
    if kind == "flapping":
        at, to = _interval(rng, start, calm, 1_000, 8_000)
        return faults.flapping(pairs, at, to, rng.randrange(200, 2_500))
    if kind == "swizzle":
        at, to = _interval(rng, start, calm, 2_000, 8_000)
        return faults.swizzle(count, at, to, rng)
    if kind == "crash loop":
        at, to = _interval(rng, start, calm, 2_000, 6_000)
        return faults.rolling_restart([node] * ((to - at) // 1_200), at, 1_200, rng.randrange(50, 1_000))
    if kind == "rolling":
        each = rng.randrange(500, 3_000)
        at = rng.randrange(start, max(start + 1, calm - each * count))
        return [f for f in faults.rolling_restart(range(count), at, each, each // 2) if f.end_ms <= calm]
    at, to = _interval(rng, start, calm, 100, 8_000)
    if kind in ("reset", "swallow"):
        return [Fault(kind, at, at, pairs=pairs)]
    if kind in ("delay", "loss", "bandwidth"):
        amount = {
            "delay": rng.randrange(50, 1_500),
            "loss": rng.randrange(10_000, 400_000),
            "bandwidth": rng.randrange(500, 50_000),
        }
        return [Fault(kind, at, to, pairs=pairs, amount=amount[kind])]
    if kind in ("step", "drift"):
        drift = tuning["max_drift_ms"]
        amount_ms = rng.randrange(-2_000, 2_000) if rng.random() < 0.5 else rng.randrange(-int(drift), int(drift))
        return [Fault(kind, at, to, nodes=(node,), amount=amount_ms if kind == "step" else amount_ms * 50)]
    if kind == "rogue":
        return [
            Fault(kind, at, to, nodes=(node,), amount=rng.choice((-1, 1)) * rng.choice((3_000, 30_000, 86_400_000)))
        ]
    if kind == "leave":
        return [Fault(kind, at, at, nodes=(node,))] if count > 2 and rng.random() < 0.4 else []
    if kind == "memory":
        return [Fault(kind, at, to, nodes=(node,), amount=rng.randrange(2, 12))]
    return [Fault(kind, at, to, nodes=(node,), amount=rng.randrange(200, 20_000) if kind == "slow" else 0)]
