"""Directed schedules: the corners that random faults reach seldom, each drawn so that every seed reaches it.

They are the list at the end of design section 14, with whatever a planted bug needed to be found reliably.
"""

from __future__ import annotations

from sim import faults
from sim.plan import Fault, Op, Plan
from sim.scenarios import scenario
from sim.scenarios.making import make, rng_of

__all__: list[str] = []


@scenario
def parked_inside_a_slice(seed: int, nodes: int | None) -> Plan:
    """A clock runs ahead for a while: stamps are parked in the middle of slices, and nothing around them is lost."""
    rng, count = rng_of("parked-inside-a-slice", seed), nodes or 3
    ahead = rng.randrange(count)
    steps = []
    for _ in range(5):
        at = rng.randrange(2_000, 15_000)
        steps.append(Fault("step", at, at + rng.randrange(50, 1_500), nodes=(ahead,), amount=rng.randrange(350, 2_500)))
    cuts = [
        faults.cut(faults.one(count, rng), at, at + rng.randrange(200, 2_500)) for at in range(2_000, 15_000, 2_600)
    ]
    return make(
        "parked-inside-a-slice",
        seed,
        nodes=count,
        calm_ms=18_000,
        faults=[*steps, *cuts],
        count=700,
        keys=14,
        mix={"put": 55, "delete": 12, "get": 25, "touch": 4, "ttl": 4},
        tuning={"log_records": rng.choice((24, 60, 2_000)), "dots_per_origin": rng.choice((4, 64))},
    )


@scenario
def overwrite_parked(seed: int, nodes: int | None) -> Plan:
    """A key is written, and written again with a stamp that is parked: the first write is not skipped over."""
    rng, count = rng_of("overwrite-parked", seed), nodes or 3
    plan = make("overwrite-parked", seed, nodes=count, calm_ms=14_000, count=420, keys=12, writers=range(1, count))
    ops, wrong = [], []
    for number in range(20):
        at = 2_000 + 500 * number + rng.randrange(100)
        wrong.append(Fault("step", at + 20, at + 60, nodes=(0,), amount=rng.randrange(320, 900)))
        keys = [f"k{rng.randrange(12)}" for _ in range(3)]
        ops += [Op(at * 1_000 + 900 * i, 0, "put", key, f"a{number}.{i}") for i, key in enumerate(keys)]
        ops += [Op((at + 25) * 1_000 + 900 * i, 0, "put", key, f"b{number}.{i}") for i, key in enumerate(keys[:2])]
        wrong.append(faults.cut(faults.one(count, rng), at - 30, at + rng.randrange(30, 200)))
    wrong.append(faults.cut(faults.one(count, rng), 5_000, 8_000, "one"))
    return plan.but(ops=tuple(sorted([*plan.ops, *ops])), faults=tuple(sorted(wrong, key=lambda f: f.start_ms)))


@scenario
def touch_after_delete(seed: int, nodes: int | None) -> Plan:
    """Touches and deletes of the same keys on both sides of a partition: a touch revives nothing and is no version."""
    rng, count = rng_of("touch-after-delete", seed), nodes or 3
    cuts = [
        faults.cut(faults.halves(count, rng), 2_500, rng.randrange(7_500, 10_500), "halves"),
        faults.cut(faults.one(count, rng), 12_000, rng.randrange(16_500, 19_500), "one"),
        faults.cut(faults.one(count, rng), 11_000, 11_500, "one"),
    ]
    return make(
        "touch-after-delete",
        seed,
        nodes=count,
        calm_ms=20_000,
        faults=cuts,
        count=500,
        keys=24,
        skew=0.0,
        mix={"put": 35, "delete": 10, "touch": 40, "ttl": 5, "get": 10},
        ttl_ms=rng.choice(((200, 1_200), (2_000, 30_000))),
        tuning={"gc_hold_ms": rng.choice((2_500, 60_000)), "log_records": rng.choice((200, 2_000))},
    )


@scenario
def touch_meets_set(seed: int, nodes: int | None) -> Plan:
    """A touch of an old version reaches a relay that holds a newer set: the set wins, also for whoever pulls later."""
    rng, count = rng_of("touch-meets-set", seed), nodes or 4
    cuts = [
        faults.cut(faults.bridge(count, rng), at, at + rng.randrange(500, 1_800), "bridge")
        for at in range(2_500, 15_000, 1_900)
    ]
    cuts.append(faults.cut(faults.one(count, rng), 6_000, 9_500, "one"))
    return make(
        "touch-meets-set",
        seed,
        nodes=count,
        calm_ms=18_000,
        faults=cuts,
        count=700,
        keys=12,
        mix={"put": 35, "touch": 35, "ttl": 10, "get": 15, "delete": 5},
        ttl_ms=(1_000, 20_000),
    )


@scenario
def write_at_an_announced_row(seed: int, nodes: int | None) -> Plan:
    """Rows are announced all the time, and writes fall into the same millisecond: no write hides behind a row."""
    count = nodes or 3
    return make(
        "write-at-an-announced-row",
        seed,
        nodes=count,
        calm_ms=12_000,
        faults=[faults.cut(((0, 1),), 4_000, 7_000)],
        count=900,
        keys=30,
        tuning={"context_ms": 5, "keepalive_ms": 100},
    )


@scenario
def fast_clock_alone(seed: int, nodes: int | None) -> Plan:
    """A fast clock starts before its peers, or is left alone by them: it lets nobody's entries die."""
    rng, count = rng_of("fast-clock-alone", seed), nodes or 3
    alone = faults.between([0], range(1, count))
    ahead = rng.choice((1_000, 2_500, 60_000))
    machines: dict[int, dict[str, object]] = {
        0: {"listening": True},
        **{i: {"start_ms": rng.randrange(0, 1_000)} for i in range(1, count)},
    }
    return make(
        "fast-clock-alone",
        seed,
        nodes=count,
        calm_ms=16_000,
        machines=machines,
        faults=[
            Fault("rogue", rng.choice((100, 5_000)), 13_000, nodes=(0,), amount=ahead),
            faults.cut(alone, 50, 3_000, "one"),
            faults.cut(alone, 6_000, 11_000, "one"),
        ],
        count=500,
        keys=14,
        mix={"put": 20, "ttl": 45, "touch": 10, "get": 20, "delete": 5},
        ttl_ms=(1_000, 9_000),
        tuning={"gc_hold_ms": 2_000},
    )


@scenario
def fast_and_slow_sweepers(seed: int, nodes: int | None) -> Plan:
    """Clocks apart by almost max_drift, and everything expires: nothing dies before the slowest says so."""
    rng, count = rng_of("fast-and-slow-sweepers", seed), nodes or 4
    machines = {i: {"offset_ms": rng.choice((-140, -60, 0, 60, 140))} for i in range(count)}
    rogue = Fault("rogue", 4_000, 12_000, nodes=(count - 1,), amount=2_500)
    cuts = [faults.cut(faults.halves(count, rng), at, at + rng.randrange(400, 3_000)) for at in (3_000, 8_000, 12_500)]
    return make(
        "fast-and-slow-sweepers",
        seed,
        nodes=count,
        calm_ms=16_000,
        machines=machines,
        faults=[rogue, *cuts] if seed % 2 else cuts,
        count=600,
        keys=14,
        mix={"put": 15, "ttl": 50, "touch": 15, "get": 15, "delete": 5},
        ttl_ms=(400, 5_000),
    )


@scenario
def stalled_link(seed: int, nodes: int | None) -> Plan:
    """A process stands still over unread frames while the rest deletes and collects: the past is not replayed."""
    rng, count = rng_of("stalled-link", seed), nodes or 3
    stalls = [
        Fault("pause", at, at + rng.randrange(2_000, 5_000), nodes=(rng.randrange(count),))
        for at in range(3_000, 16_000, 4_500)
    ]
    return make(
        "stalled-link",
        seed,
        nodes=count,
        calm_ms=22_000,
        faults=[*stalls, faults.cut(faults.one(count, rng), 9_000, 12_000, "one")],
        count=700,
        keys=16,
        mix={"put": 40, "delete": 30, "get": 20, "ttl": 10},
        tuning={"gc_hold_ms": 2_000, "dead_share": 0.001},
    )


@scenario
def full_logs(seed: int, nodes: int | None) -> Plan:
    """Logs hold seconds only: whoever was away longer is told TOO_OLD, and a session under fire makes it whole."""
    rng, count = rng_of("full-logs", seed), nodes or 4
    cuts = []
    for at in range(2_500, 15_000, 3_000):
        shape = rng.choice((faults.one, faults.halves))
        cuts.append(faults.cut(shape(count, rng), at, at + rng.randrange(1_200, 4_000), "long"))
    resets = [Fault("reset", at, at, pairs=faults.halves(count, rng)) for at in range(6_000, 17_000, 900)]
    ahead = Fault("step", 8_000, 9_500, nodes=(rng.randrange(count),), amount=600)
    return make(
        "full-logs",
        seed,
        nodes=count,
        calm_ms=18_000,
        faults=[*cuts, *resets, ahead],
        count=900,
        keys=40,
        mix={"put": 55, "delete": 20, "get": 20, "ttl": 3, "touch": 2},
        tuning={
            "log_records": 24,
            "window_entries": 2,
            "dots_per_origin": rng.choice((4, 64)),
            "busy_ms": 20,
            "list_entries": rng.choice((1, 4)),
        },
        rtt_ms=rng.choice((1.0, 40.0)),
    )


@scenario
def written_amid_a_session(seed: int, nodes: int | None) -> Plan:
    """More is written while a session fills somebody than there is room for dots: rows of its end would cover it."""
    rng, count = rng_of("written-amid-a-session", seed), nodes or 2
    ops, wrong = [], []
    for number, start in enumerate((2_000, 6_000, 10_000, 14_000)):
        back = start + 2_000
        wrong.append(faults.cut(faults.between([1], (i for i in range(count) if i != 1)), start, back, "one"))
        instants = [start + 500, start + 700, *range(back + rng.randrange(40), back + 1_900, 40)]
        ops += [Op(at * 1_000, 0, "put", f"w{rng.randrange(4)}", f"{number}.{i}") for i, at in enumerate(instants)]
    plan = make(
        "written-amid-a-session",
        seed,
        nodes=count,
        calm_ms=19_000,
        faults=wrong,
        count=60,
        rtt_ms=rng.choice((60.0, 200.0)),
        tuning={"log_records": 1, "dots_per_origin": 1, "window_entries": 2, "windows_in_flight": 1},
    )
    return plan.but(ops=tuple(sorted([*plan.ops, *ops])))


@scenario
def lost_middle(seed: int, nodes: int | None) -> Plan:
    """Connections die with frames in flight, again and again: every gap is noticed, pulled, and filled."""
    rng, count = rng_of("lost-middle", seed), nodes or 3
    resets = [
        Fault(rng.choice(("reset", "reset", "swallow")), at, at, pairs=(rng.choice(faults.all_pairs(count)),))
        for at in range(2_000, 14_000, 170)
    ]
    return make(
        "lost-middle",
        seed,
        nodes=count,
        calm_ms=16_000,
        faults=[*resets, faults.cut(faults.one(count, rng), 7_000, 10_000, "one")],
        count=900,
        keys=24,
        mix={"put": 50, "delete": 20, "get": 20, "ttl": 5, "touch": 5},
        rtt_ms=30.0,
        tuning={"dots_per_origin": rng.choice((4, 64))},
    )


@scenario
def clears(seed: int, nodes: int | None) -> Plan:
    """Clears from every side amid writes: each clear ends exactly what was written before it, everywhere."""
    rng, count = rng_of("clears", seed), nodes or 4
    cuts = [
        faults.cut(faults.halves(count, rng), at, at + rng.randrange(300, 4_000), "halves")
        for at in range(2_500, 13_000, 2_500)
    ]
    resets = [Fault("reset", at, at, pairs=faults.halves(count, rng)) for at in range(3_000, 13_000, 1_100)]
    return make(
        "clears",
        seed,
        nodes=count,
        calm_ms=16_000,
        faults=[*cuts, *resets],
        count=700,
        keys=30,
        mix={"put": 55, "delete": 10, "get": 20, "touch": 5, "ttl": 8, "clear": 2, "clear_local": 1},
        tuning={"log_records": rng.choice((24, 2_000)), "step_entries": 4, "window_entries": 2},
    )


@scenario
def clear_amid_a_session(seed: int, nodes: int | None) -> Plan:
    """Somebody is filled by a session, beyond what logs can tell, and who fills it clears with a clock that is ahead.

    The mark is parked where it comes, and what it covers is not offered any more: a session that went on would end as
    if all had been told. By chance this is too rare: the mark travels before whatever else a frame holds, so only
    one that is not believed yet, in the second that a session takes, leaves a difference.
    """
    rng, count = rng_of("clear-amid-a-session", seed), nodes or 2
    ops, wrong = [], []
    for start in (2_000, 8_000, 14_000):
        back = start + 3_000
        wrong.append(faults.cut(faults.between([1], (i for i in range(count) if i != 1)), start + 800, back, "one"))
        for i in range(60):
            ops.append(Op((start + rng.randrange(700)) * 1_000 + i, 0, "put", f"q{i}", f"older{start}.{i}"))
            ops.append(Op((start + 1_000 + rng.randrange(1_500)) * 1_000 + i, 0, "put", f"q{i}", f"newer{start}.{i}"))
        at = back + rng.randrange(300, 1_500)
        wrong.append(Fault("step", at, at + 1_200, nodes=(0,), amount=rng.randrange(900, 2_500)))
        ops.append(Op((at + 2) * 1_000, 0, "clear", ""))
    plan = make(
        "clear-amid-a-session",
        seed,
        nodes=count,
        calm_ms=20_000,
        faults=wrong,
        count=100,
        writers=range(1, count),  # a write of the clock that is ahead would leave the session incomplete
        rtt_ms=60.0,
        tuning={"log_records": 24, "window_entries": 2, "windows_in_flight": 1, "session_leaves": 512},
    )
    return plan.but(ops=tuple(sorted([*plan.ops, *ops])))


@scenario
def rogue_clears(seed: int, nodes: int | None) -> Plan:
    """A clock that is seconds ahead clears: what honest clocks do not believe yet takes nothing from them."""
    rng, count = rng_of("rogue-clears", seed), max(nodes or 4, 3)
    rogue = count - 1
    at = rng.randrange(3_000, 8_000)
    ops = [Op((at + 100 + rng.randrange(1_500)) * 1_000, rogue, "clear", "") for _ in range(3)]
    wrong = [
        Fault("rogue", at, at + 2_000, nodes=(rogue,), amount=rng.choice((2_600, 3_800, 30_000))),
        faults.cut(faults.one(count, rng), 11_000, 13_500, "one"),
    ]
    work = {"writers": range(rogue), "count": 500, "keys": 40, "skew": 0.2}
    return make("rogue-clears", seed, nodes=count, calm_ms=15_000, faults=wrong, ops=ops, **work)  # type: ignore[arg-type]


@scenario
def dies_with_its_write(seed: int, nodes: int | None) -> Plan:
    """A writer dies after the row that tells of a write, and before anybody has the write: nobody waits for ever."""
    rng, count = rng_of("dies-with-its-write", seed), max(4, nodes or 5)
    wrong, ops = [], []
    for number in range(6):
        at, writer = 3_000 + 1_400 * number, 2 * rng.randrange((count + 1) // 2)
        # One of the other region hears a row only, and the one that is to have a copy is cut off.
        wrong.append(faults.cut(((writer, 1 + 2 * rng.randrange(count // 2)),), at - 50, at + 400))
        wrong += [faults.cut(((writer, other),), at - 50, at + 400) for other in range(0, count, 2) if other != writer]
        wrong.append(Fault("crash", at + rng.randrange(50, 95), at + rng.randrange(200, 900), nodes=(writer,)))
        ops += [Op(at * 1_000 + 900 * i, writer, "put", f"k{rng.randrange(12)}", f"w{number}.{i}") for i in range(2)]
    wrong = [f._replace(pairs=tuple((min(p), max(p)) for p in f.pairs)) for f in wrong]
    return make(
        "dies-with-its-write",
        seed,
        nodes=count,
        calm_ms=12_000,
        faults=wrong,
        ops=ops,
        count=40,
        keys=12,
        regions=2,
        wan_ms=80.0,
    )
