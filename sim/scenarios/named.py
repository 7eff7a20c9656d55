"""What networks of services live through: one situation each, one sentence each."""

from __future__ import annotations

from sim import faults
from sim.plan import Fault, Plan
from sim.scenarios import scenario
from sim.scenarios.making import make, rng_of

__all__: list[str] = []


@scenario
def calm_sea(seed: int, nodes: int | None) -> Plan:
    """Nothing goes wrong: everybody agrees at once, and an idle cluster says almost nothing."""
    return make("calm-sea", seed, nodes=nodes or 5, calm_ms=30_000, count=600, quiet_ms=2_000)


@scenario
def split_brain(seed: int, nodes: int | None) -> Plan:
    """Clean halves, the same keys written on both sides: one map afterwards, the last writer's."""
    rng, count = rng_of("split-brain", seed), nodes or 5
    return make(
        "split-brain", seed, nodes=count, calm_ms=20_000, faults=[faults.cut(faults.halves(count, rng), 4_000, 14_000)]
    )


@scenario
def three_islands(seed: int, nodes: int | None) -> Plan:
    """Three islands are joined one after the other: what one has reaches the third through the second."""
    count = nodes or 6
    a, b, c = range(0, count, 3), range(1, count, 3), range(2, count, 3)
    cuts = [
        faults.cut(faults.between(a, b), 4_000, 11_000),
        faults.cut(faults.between(b, c), 4_000, 14_000),
        faults.cut(faults.between(a, c), 4_000, 19_000),
    ]
    return make("three-islands", seed, nodes=count, calm_ms=20_000, faults=cuts)


@scenario
def isolated_writer(seed: int, nodes: int | None) -> Plan:
    """One node alone goes on writing: its newer writes win afterwards, its older ones lose."""
    count = nodes or 4
    cut = faults.cut(faults.between([0], range(1, count)), 3_000, 15_000, "one")
    return make("isolated-writer", seed, nodes=count, calm_ms=18_000, faults=[cut])


@scenario
def bridge_node(seed: int, nodes: int | None) -> Plan:
    """Two halves that only one node can reach both of: all still converges, through it."""
    rng, count = rng_of("bridge-node", seed), nodes or 5
    return make(
        "bridge-node", seed, nodes=count, calm_ms=18_000, faults=[faults.cut(faults.bridge(count, rng), 3_000, 16_000)]
    )


@scenario
def majorities_ring(seed: int, nodes: int | None) -> Plan:
    """Everybody hears only two neighbours, each another two: writes go round the ring."""
    rng, count = rng_of("majorities-ring", seed), nodes or 6
    cut = faults.cut(faults.ring(count, rng), 3_000, 16_000, "ring")
    return make("majorities-ring", seed, nodes=count, calm_ms=18_000, faults=[cut])


@scenario
def partial_mesh(seed: int, nodes: int | None) -> Plan:
    """Too many for links to everybody, cut in the middle, and some of them restarted: each link that is due is made."""
    rng, count = rng_of("partial-mesh", seed), nodes or 12
    cut = faults.cut(faults.halves(count, rng), 6_000, 12_000)
    restarts = faults.rolling_restart(rng.sample(range(count), 3), 4_000, 4_000, 1_500)
    return make(
        "partial-mesh",
        seed,
        nodes=count,
        regions=3,
        wan_ms=40.0,
        calm_ms=20_000,
        count=400,
        faults=[cut, *restarts],
        tuning={"full_mesh": 5},
    )


@scenario
def flapping_link(seed: int, nodes: int | None) -> Plan:
    """Links go up and down around the time at which silence ends them."""
    rng, count = rng_of("flapping-link", seed), nodes or 4
    period = rng.randrange(700, 2_400)
    flaps = faults.flapping(faults.halves(count, rng), 3_000, 16_000, period)
    return make("flapping-link", seed, nodes=count, calm_ms=18_000, faults=flaps)


@scenario
def swizzle(seed: int, nodes: int | None) -> Plan:
    """Nodes are cut off one after the other and come back in another order."""
    rng, count = rng_of("swizzle", seed), nodes or 5
    return make("swizzle", seed, nodes=count, calm_ms=18_000, faults=faults.swizzle(count, 3_000, 16_000, rng))


@scenario
def lossy_wan(seed: int, nodes: int | None) -> Plan:
    """Two regions with 5 to 40 % loss between them: retransmissions hold up whole streams, and nothing else breaks."""
    rng, count = rng_of("lossy-wan", seed), nodes or 4
    across = tuple((a, b) for a, b in faults.all_pairs(count) if (a + b) % 2)
    loss = Fault("loss", 2_000, 16_000, pairs=across, amount=rng.randrange(50_000, 400_000))
    return make("lossy-wan", seed, nodes=count, calm_ms=18_000, faults=[loss], regions=2)


@scenario
def long_tail(seed: int, nodes: int | None) -> Plan:
    """Latencies with a long tail: what overtakes what changes all the time, and old versions never win."""
    return make("long-tail", seed, nodes=nodes or 4, calm_ms=15_000, rtt_ms=20.0, jitter_percent=300)


@scenario
def thin_pipe(seed: int, nodes: int | None) -> Plan:
    """A few kB/s, and a node that comes back with everything to learn: progress, and control before bulk."""
    count = nodes or 3
    thin = Fault("bandwidth", 1_000, 17_000, pairs=faults.all_pairs(count), amount=6_000)
    crash = Fault("crash", 9_000, 10_000, nodes=(count - 1,))
    return make("thin-pipe", seed, nodes=count, calm_ms=18_000, faults=[thin, crash], count=450, keys=80, skew=0.2)


@scenario
def clock_skew(seed: int, nodes: int | None) -> Plan:
    """Wall clocks apart, within what is allowed: the order of writes bends a little, nothing else does."""
    rng, count = rng_of("clock-skew", seed), nodes or 4
    machines = {i: {"offset_ms": rng.randrange(-140, 140), "drift_ppm": rng.randrange(-300, 300)} for i in range(count)}
    cut = faults.cut(faults.one(count, rng), 5_000, 9_000, "one")
    return make("clock-skew", seed, nodes=count, calm_ms=15_000, machines=machines, faults=[cut])


@scenario
def wrong_clock(seed: int, nodes: int | None) -> Plan:
    """A clock is ten minutes fast, then ten minutes slow, among 2, 3 or 5: it goes by its peers' time instead."""
    rng, count = rng_of("wrong-clock", seed), nodes or (2, 3, 5)[seed % 3]
    # Of two that have never met, nobody can know whose clock is right; of more, their median does.
    bad, first = rng.randrange(count), 2_000 + rng.randrange(3_000) if count == 2 or seed % 2 else 0
    wrong = [
        Fault("wrong", first, 8_000, nodes=(bad,), amount=rng.choice((1, -1)) * 600_000),
        Fault("wrong", 8_500, 13_000, nodes=(bad,), amount=rng.choice((1, -1)) * 600_000),
        faults.cut(faults.one(count, rng), 6_000, 6_000 + rng.randrange(300, 5_000), "one"),
    ]
    mix = {"put": 30, "ttl": 30, "touch": 10, "delete": 8, "get": 22}
    return make("wrong-clock", seed, nodes=count, calm_ms=17_000, faults=wrong, mix=mix, ttl_ms=(500, 60_000))


@scenario
def rogue_clock(seed: int, nodes: int | None) -> Plan:
    """A clock that is wrong by seconds, a day, or backwards: nobody else's stamps move, nobody else's entries go."""
    rng, count = rng_of("rogue-clock", seed), nodes or 4
    amount = rng.choice((-86_400_000, -3_000, 1_500, 3_000, 3_900, 30_000, 86_400_000))
    at = rng.randrange(3_000, 8_000)
    wrong = [
        Fault("rogue", at, at + rng.randrange(500, 6_000), nodes=(count - 1,), amount=amount),
        faults.cut(faults.one(count, rng), 9_000, 12_000, "one"),
    ]
    mix = {"put": 40, "delete": 15, "get": 20, "ttl": 12, "touch": 10, "clear": 1}
    return make("rogue-clock", seed, nodes=count, calm_ms=18_000, faults=wrong, mix=mix)


@scenario
def clock_backwards(seed: int, nodes: int | None) -> Plan:
    """Clocks step back, freeze and strobe: stamps still increase, and no version is made twice."""
    rng, count = rng_of("clock-backwards", seed), nodes or 3
    wrong = [
        Fault("step", at, at + rng.randrange(30, 900), nodes=(rng.randrange(count),), amount=-rng.randrange(1, 10_000))
        for at in range(2_500, 13_000, 600)
    ]
    frozen = Fault("drift", 6_000, 6_250, nodes=(0,), amount=-1_000_000)
    return make("clock-backwards", seed, nodes=count, calm_ms=16_000, faults=[*wrong, frozen])


@scenario
def same_millisecond(seed: int, nodes: int | None) -> Plan:
    """Everybody writes the same few keys in the same few milliseconds: one total order, the same for all."""
    count = nodes or 5
    plan = make("same-millisecond", seed, nodes=count, calm_ms=12_000, count=900, keys=10, rtt_ms=40.0)
    rounded = tuple(op._replace(at_us=op.at_us // 100_000 * 100_000) for op in plan.ops)
    return plan.but(ops=rounded)


@scenario
def tombstone_outlives_hold(seed: int, nodes: int | None) -> Plan:
    """A partition longer than members are waited for, deletes on both sides: nothing that a delete had seen is back."""
    rng, count = rng_of("tombstone-outlives-hold", seed), nodes or 4
    cut = faults.cut(faults.halves(count, rng), 4_000, 20_000, "halves")
    return make(
        "tombstone-outlives-hold",
        seed,
        nodes=count,
        calm_ms=24_000,
        faults=[cut],
        mix={"put": 40, "delete": 30, "get": 25, "ttl": 5},
        tuning={"gc_hold_ms": 3_000},
    )


@scenario
def delete_write_race(seed: int, nodes: int | None) -> Plan:
    """Deletes and writes of few keys race across short splits."""
    rng, count = rng_of("delete-write-race", seed), nodes or 4
    cuts = [faults.cut(faults.halves(count, rng), at, at + 700) for at in range(2_000, 14_000, 1_000)]
    cuts.append(faults.cut(faults.one(count, rng), 9_000, 12_000, "one"))
    mix = {"put": 45, "delete": 45, "get": 10}
    return make("delete-write-race", seed, nodes=count, calm_ms=16_000, faults=cuts, mix=mix, count=800, keys=10)


@scenario
def ttl_under_skew(seed: int, nodes: int | None) -> Plan:
    """Short expiries with skewed clocks, late messages and touches that race the end."""
    rng, count = rng_of("ttl-under-skew", seed), nodes or 4
    machines = {i: {"offset_ms": rng.randrange(-140, 140)} for i in range(count)}
    late = Fault("delay", 3_000, 12_000, pairs=faults.halves(count, rng), amount=400)
    mix = {"put": 10, "ttl": 50, "touch": 25, "get": 15}
    return make(
        "ttl-under-skew",
        seed,
        nodes=count,
        calm_ms=16_000,
        machines=machines,
        faults=[late],
        mix=mix,
        ttl_ms=(100, 2_500),
    )


@scenario
def rolling_restart(seed: int, nodes: int | None) -> Plan:
    """Every node is restarted, one after the other, under load: what had left its node is still there."""
    rng, count = rng_of("rolling-restart", seed), nodes or 4
    each = 14_000 // count
    rolls = faults.rolling_restart(range(count), 3_000, each, rng.randrange(200, each))
    return make("rolling-restart", seed, nodes=count, calm_ms=20_000, faults=rolls)


@scenario
def crash_loop(seed: int, nodes: int | None) -> Plan:
    """One node dies every second: no session leaks, and its many lives cost the others little."""
    rng, count = rng_of("crash-loop", seed), nodes or 4
    loop = faults.rolling_restart([count - 1] * 12, 3_000, 1_000, rng.randrange(50, 900))
    return make("crash-loop", seed, nodes=count, calm_ms=18_000, faults=loop)


@scenario
def restarts_without_end(seed: int, nodes: int | None) -> Plan:
    """One node after the other is restarted, for ever, and lives hardly longer than the dead are held: they go too."""
    rng, count = rng_of("restarts-without-end", seed), nodes or 3
    each = 1_500  # with the defaults' two minutes for three seconds, a restart every minute
    rolls = faults.rolling_restart([i % count for i in range(14)], 3_000, each, rng.randrange(100, 600))
    mix = {"put": 45, "delete": 45, "ttl": 5, "touch": 5}
    return make("restarts-without-end", seed, nodes=count, calm_ms=25_000, faults=rolls, mix=mix, count=900, keys=400)


@scenario
def power_loss(seed: int, nodes: int | None) -> Plan:
    """Machines vanish without a word: their peers find out by silence, and nothing waits for them for ever."""
    rng, count = rng_of("power-loss", seed), nodes or 4
    lost = [
        Fault("power", at, at + rng.randrange(300, 4_000), nodes=(rng.randrange(count),))
        for at in range(3_000, 15_000, 4_100)
    ]
    return make("power-loss", seed, nodes=count, calm_ms=20_000, faults=lost)


@scenario
def long_pause(seed: int, nodes: int | None) -> Plan:
    """A process stands still for seconds and then gets everything at once: it catches up and blames nobody."""
    rng, count = rng_of("long-pause", seed), nodes or 4
    pauses = [
        Fault("pause", at, at + rng.randrange(300, 6_000), nodes=(rng.randrange(count),))
        for at in (3_000, 7_000, 12_000)
    ]
    return make("long-pause", seed, nodes=count, calm_ms=20_000, faults=pauses)


@scenario
def limping_node(seed: int, nodes: int | None) -> Plan:
    """One node needs tens of milliseconds for a frame: it lags, the others do not."""
    rng, count = rng_of("limping-node", seed), nodes or 4
    slow = Fault("slow", 2_000, 15_000, nodes=(0,), amount=rng.randrange(2_000, 15_000))
    return make("limping-node", seed, nodes=count, calm_ms=18_000, faults=[slow])


@scenario
def thundering_join(seed: int, nodes: int | None) -> Plan:
    """Most nodes start within the same second, with one seed in common: all meet all, and all learn all."""
    rng, count = rng_of("thundering-join", seed), nodes or 10
    machines = {i: {"start_ms": 6_000 + rng.randrange(1_000), "seeds": (0,)} for i in range(2, count)}
    cut = faults.cut(((0, 1),), 7_000, 9_500)
    return make("thundering-join", seed, nodes=count, calm_ms=15_000, machines=machines, faults=[cut], keys=40)


@scenario
def lost_seed(seed: int, nodes: int | None) -> Plan:
    """The only seed dies for good once all have met: those that remain stay together, also after a split."""
    rng, count = rng_of("lost-seed", seed), nodes or 5
    machines = {i: {"seeds": (0,)} for i in range(1, count)}
    rest = [(a + 1, b + 1) for a, b in faults.halves(count - 1, rng)]
    wrong = [Fault("leave", 5_000, 5_000, nodes=(0,)), faults.cut(tuple(rest), 7_000, 12_000, "halves")]
    return make("lost-seed", seed, nodes=count, calm_ms=16_000, machines=machines, faults=wrong)


@scenario
def churn(seed: int, nodes: int | None) -> Plan:
    """Processes come and go at random; the cluster lives on in whoever is there."""
    rng, count = rng_of("churn", seed), nodes or 6
    going = []
    at = 3_000
    while at < 15_000:
        going.append(Fault("crash", at, at + rng.randrange(200, 3_000), nodes=(rng.randrange(count),), label="churn"))
        at += rng.randrange(200, 1_500)
    return make("churn", seed, nodes=count, calm_ms=20_000, faults=going)


@scenario
def hot_key(seed: int, nodes: int | None) -> Plan:
    """Nine writes of ten go to one key, from everywhere: it travels as state, not as history."""
    count = nodes or 5
    cut = faults.cut(((0, 1),), 5_000, 8_000)
    return make("hot-key", seed, nodes=count, calm_ms=14_000, faults=[cut], count=900, skew=3.0, keys=12)


@scenario
def cache_pressure(seed: int, nodes: int | None) -> Plan:
    """Memory for a few values, another number on each node: eviction is private, and no digest moves."""
    rng, count = rng_of("cache-pressure", seed), nodes or 4
    machines = {i: {"maxsize": rng.choice((4, 9, 15, None))} for i in range(count)}
    squeeze = Fault("memory", 6_000, 10_000, nodes=(rng.randrange(count),), amount=3)
    cut = faults.cut(faults.one(count, rng), 4_000, 8_000, "one")
    return make(
        "cache-pressure", seed, nodes=count, calm_ms=15_000, machines=machines, faults=[squeeze, cut], keys=60, skew=0.9
    )


@scenario
def mixed_versions(seed: int, nodes: int | None) -> Plan:
    """Half of the nodes speak a newer wire version, with messages that the others do not know: they still agree."""
    rng, count = rng_of("mixed-versions", seed), nodes or 4
    machines = {i: {"wire_next": bool(i % 2)} for i in range(count)}
    cut = faults.cut(faults.halves(count, rng), 4_000, 9_000, "halves")
    return make("mixed-versions", seed, nodes=count, calm_ms=14_000, machines=machines, faults=[cut])


@scenario
def region_outage(seed: int, nodes: int | None) -> Plan:
    """One region of three is lost for a while and comes back."""
    count = nodes or 6
    lost = [i for i in range(count) if i % 3 == 2]
    cut = faults.cut(faults.between(lost, (i for i in range(count) if i % 3 != 2)), 4_000, 14_000, "region")
    return make("region-outage", seed, nodes=count, calm_ms=18_000, faults=[cut], regions=3, wan_ms=85.0)


@scenario
def core_and_remainder(seed: int, nodes: int | None) -> Plan:
    """Some nodes stay broken for ever: the others converge without them."""
    count = max(nodes or 5, 3)
    core = tuple(range(count - 2))
    broken = faults.cut(faults.between(range(count - 2, count), range(count)), 6_000, 10_000_000, "for ever")
    return make("core-and-remainder", seed, nodes=count, calm_ms=14_000, faults=[broken], core=core)


@scenario
def default_tuning(seed: int, nodes: int | None) -> Plan:
    """The numbers that users run with: a split of half a minute, and a restart."""
    rng, count = rng_of("default-tuning", seed), nodes or 4
    wrong = [faults.cut(faults.halves(count, rng), 5_000, 35_000, "halves"), Fault("crash", 38_000, 41_000, nodes=(0,))]
    plan = make("default-tuning", seed, nodes=count, calm_ms=50_000, faults=wrong, ttl_ms=(2_000, 60_000))
    return plan.but(tuning={})
