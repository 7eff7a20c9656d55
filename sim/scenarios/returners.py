"""Directed schedules about absence: who comes back, with what, to whom; and who was never met.

Apart from the other directed ones because here the question is always the same: what may be forgotten, and when.
"""

from __future__ import annotations

from sim import faults
from sim.plan import Fault, Op, Plan
from sim.scenarios import scenario
from sim.scenarios.making import make, rng_of

__all__: list[str] = []


@scenario
def away_across_collection(seed: int, nodes: int | None) -> Plan:
    """A node is away while what it holds is deleted and collected, longer than anybody waits: it revives nothing."""
    rng, count = rng_of("away-across-collection", seed), nodes or 3
    away = rng.randrange(count)
    alone = faults.between([away], (i for i in range(count) if i != away))
    start = rng.randrange(4_000, 6_000)
    return make(
        "away-across-collection",
        seed,
        nodes=count,
        calm_ms=24_000,
        faults=[
            faults.cut(alone, start, 15_000, "one"),
            faults.cut(alone, 17_000, 22_000 + rng.randrange(1_500), "one"),
        ],
        count=600,
        keys=24,
        mix={"put": 40, "delete": 30, "get": 25, "ttl": 4, "evict": 1},
        tuning={
            "gc_hold_ms": rng.choice((2_000, 2_000, 60_000)),
            "dead_share": rng.choice((0.001, 0.5, 0.5)),
            "log_records": rng.choice((24, 100, 2_000)),
        },
    )


@scenario
def held_on_one_side(seed: int, nodes: int | None) -> Plan:
    """Some have collected a dead entry and some still hold it, when old live entries come back."""
    rng, count = rng_of("held-on-one-side", seed), nodes or 4
    shapes = [faults.halves(count, rng), faults.one(count, rng), faults.one(count, rng)]
    cuts = []
    at = 3_000
    for pairs in shapes:
        length = rng.randrange(3_500, 6_500)
        cuts.append(faults.cut(pairs, at, at + length, "staggered"))
        at += rng.randrange(2_000, 5_500)
    late = rng.randrange(count)
    return make(
        "held-on-one-side",
        seed,
        nodes=count,
        calm_ms=22_000,
        faults=[*cuts, Fault("crash", 9_000, 12_000, nodes=(late,))],
        count=600,
        keys=16,
        mix={"put": 40, "delete": 35, "get": 25},
        tuning={"gc_hold_ms": 2_500, "log_records": rng.choice((24, 60)), "window_entries": 4},
    )


@scenario
def two_returners(seed: int, nodes: int | None) -> Plan:
    """One comes back with an older write than a forgotten delete had removed, then another with what it removed."""
    rng, count = rng_of("two-returners", seed), max(nodes or 4, 4)
    early, late = count - 2, count - 1
    others = tuple(i for i in range(count) if i != early)
    cuts = [
        faults.cut(faults.between([early], others), 3_000, 13_000, "one"),
        faults.cut(faults.between([late], (i for i in range(count) if i != late)), 6_000, 14_500, "one"),
    ]
    ops = []
    for number in range(30):
        key, at = f"q{number}", rng.randrange(1_000)
        if number % 3:  # the others are only removed, and come back to nothing
            ops.append(Op((3_200 + at) * 1_000, early, "put", key, f"older{number}"))
        ops += [
            Op((4_600 + at) * 1_000, rng.randrange(count - 2), "put", key, f"newer{number}"),
            Op((6_300 + at) * 1_000, rng.randrange(count - 2), "delete", key),
        ]
    return make(
        "two-returners",
        seed,
        nodes=count,
        calm_ms=18_000,
        faults=cuts,
        ops=ops,
        count=400,
        tuning={
            "gc_hold_ms": rng.choice((2_000, 60_000)),
            "dead_share": 0.5,
            "log_records": rng.choice((24, 24, 2_000)),
        },
    )


@scenario
def born_apart(seed: int, nodes: int | None) -> Plan:
    """A node is born into a partition and deletes what others wrote: to know nobody is no reason to forget."""
    rng, count = rng_of("born-apart", seed), max(nodes or 3, 2)
    lone = count - 1
    ops = []
    for number in range(20):
        key, at = f"q{number}", rng.randrange(1_000)
        ops += [
            Op((2_000 + at) * 1_000, rng.randrange(lone), "put", key, f"older{number}"),
            Op((3_200 + at) * 1_000, lone, "delete", key),
        ]
    return make(
        "born-apart",
        seed,
        nodes=count,
        calm_ms=14_000,
        faults=[faults.cut(faults.between([lone], range(lone)), 0, 9_000 + rng.randrange(2_000), "one")],
        ops=ops,
        count=400,
        tuning={"gc_hold_ms": 60_000, "dead_share": 0.5, "log_records": rng.choice((24, 60))},
    )


@scenario
def joined_while_away(seed: int, nodes: int | None) -> Plan:
    """While one is away all others are replaced by processes that never met it: they wait for it all the same."""
    rng, count = rng_of("joined-while-away", seed), max(nodes or 3, 3)
    away = count - 1
    restarts = faults.rolling_restart(range(away), 4_000, 1_500, rng.randrange(100, 1_000))
    ops = []
    for number in range(20):
        key, at = f"q{number}", rng.randrange(500)
        ops += [
            Op((3_000 + at) * 1_000, away, "put", key, f"unheard{number}"),
            Op((4_000 + 1_500 * away + at) * 1_000, rng.randrange(away), "delete", key),
        ]
    back = 9_500 + 1_500 * away + rng.randrange(2_000)
    return make(
        "joined-while-away",
        seed,
        nodes=count,
        calm_ms=back + 3_000,
        faults=[*restarts, faults.cut(faults.between([away], range(away)), 2_500, back, "one")],
        ops=ops,
        count=400,
        tuning={"gc_hold_ms": 60_000, "dead_share": 0.5, "log_records": rng.choice((24, 60))},
    )


@scenario
def its_remover_knew_more(seed: int, nodes: int | None) -> Plan:
    """A delete is forgotten by one that never met what it removed: whoever brings that later is answered all the same.

    Writer, remover, forgetter and returner: the write reaches the remover and the returner, the delete the forgetter,
    and before the forgetter asks for what it lacks of the writer, everybody is alone.
    """
    rng, count = rng_of("its-remover-knew-more", seed), max(nodes or 4, 4)
    writer, remover, forgetter, returner = rng.sample(range(count), 4)
    ops = []
    for number in range(12):
        at = 3_000_000 + 600 * number + rng.randrange(200)
        ops += [
            Op(at, writer, "put", f"q{number}", f"seen{number}"),
            Op(at + 9_000 + rng.randrange(4_000), remover, "delete", f"q{number}"),
        ]
    apart = faults.between([forgetter, returner], (i for i in range(count) if i not in (forgetter, remover, returner)))
    alone = rng.randrange(9_500, 11_500)
    cuts = [
        faults.cut(((forgetter, writer), (forgetter, returner)), 2_000, alone, "seen by others"),
        faults.cut(((returner, remover),), 2_000, alone + 2_000, "unheard"),
        faults.cut(apart, 3_030, alone + 2_000, "apart"),
        faults.cut(((remover, forgetter), (remover, writer)), 3_030, alone + 2_000, "alone"),
    ]
    return make(
        "its-remover-knew-more",
        seed,
        nodes=count,
        calm_ms=alone + 4_000,
        faults=cuts,
        ops=ops,
        count=400,
        tuning={"gc_hold_ms": 2_000, "log_records": rng.choice((24, 200, 2_000)), "context_ms": 500},
    )


_SOON_FORGOTTEN = {"gc_hold_ms": 1_500, "max_frame_age_ms": 500, "min_dead_age_ms": 1_000, "forget_ms": 3_500}


@scenario
def older_than_the_mark(seed: int, nodes: int | None) -> Plan:
    """One is away until its row, and those of processes that came and went meanwhile, are pruned: it revives nothing.

    It has written before, what others then deleted, and holds what a process had written that is gone. While it is
    away it writes on: what lies beyond the mark survives. Who joins after the mark takes all that the gone had written.
    """
    rng, count = rng_of("older-than-the-mark", seed), max(nodes or 4, 4)
    away, brief = count - 1, count - 2
    others = range(away)
    ops = []
    for number in range(24):
        key, at = f"q{number}", rng.randrange(800)
        ops += [
            Op((1_600 + at) * 1_000, rng.choice((away, brief)), "put", key, f"older{number}"),
            Op((4_000 + at) * 1_000, rng.randrange(brief), "delete", key),
            Op((3_200 + 400 * number) * 1_000, away, "put", f"own{number}", f"offline{number}"),
            Op((1_600 + at) * 1_000, brief, "put", f"kept{number}", f"kept{number}"),
        ]
    back = 12_000 + rng.randrange(2_000)
    return make(
        "older-than-the-mark",
        seed,
        nodes=count,
        calm_ms=back + 3_000,
        faults=[
            faults.cut(faults.between([away], others), 3_000, back, "one"),
            *faults.rolling_restart([brief] * 6, 3_000, 1_400, rng.randrange(50, 600)),
            faults.cut(faults.one(away, rng), 6_000, 6_000 + rng.randrange(200, 3_000), "one"),
        ],
        ops=ops,
        count=300,
        tuning={
            **_SOON_FORGOTTEN,
            "log_records": rng.choice((24, 200, 2_000)),
        },
    )


@scenario
def back_while_others_prune(seed: int, nodes: int | None) -> Plan:
    """Rows are pruned all the time when two parts meet after long: not before each knows what the other has.

    In one part processes write, come and go: there is always a row old enough, and there are values of those whose rows
    are pruned. In the other a process writes, and is gone. They meet over slow links: for some rounds of pruning nobody
    across has said yet what it knows.
    """
    rng, count = rng_of("back-while-others-prune", seed), max(nodes or 4, 4)
    brief, writer = count - 2, count - 1
    across = faults.between([*range(1, brief), writer], [0, brief])
    back = rng.randrange(9_000, 10_000)
    ops = []
    for number in range(24):
        at = back - 3_500 + 40 * number + rng.randrange(40)
        ops += [
            Op(at * 1_000, writer, "put", f"q{number}", f"unheard{number}"),
            Op((at - 1_400) * 1_000, brief, "put", f"kept{number}", f"kept{number}"),
        ]
    return make(
        "back-while-others-prune",
        seed,
        nodes=count,
        calm_ms=back + 4_000,
        faults=[
            faults.cut(across, 2_500, back, "parts"),
            *faults.rolling_restart([brief] * 8, back - 5_000, 400, 100),
            Fault("crash", back - 2_400, back - 2_200, nodes=(writer,)),
            Fault("delay", back - 100, back + 2_500, pairs=across, amount=rng.randrange(180, 250)),
        ],
        ops=ops,
        count=300,
        tuning={
            **_SOON_FORGOTTEN,
            "compare_ms": 300,
            "log_records": rng.choice((24, 200, 2_000)),
        },
    )
