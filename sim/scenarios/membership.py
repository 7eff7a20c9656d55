"""Who is alive, and who only seems to be: the troubles that membership is there for."""

from __future__ import annotations

from sim import faults
from sim.plan import Fault, Plan
from sim.scenarios import scenario
from sim.scenarios.making import make, rng_of

__all__: list[str] = []

_FOR_EVER = 10_000_000


@scenario
def who_is_alive(seed: int, nodes: int | None) -> Plan:
    """Some die, one leaves, one stands still, two regions part and meet: in the end all know who is alive, and why."""
    rng, count = rng_of("who-is-alive", seed), max(nodes or 7, 5)
    dead, left, still, *rest = rng.sample(range(count), count)
    # It ends while others are cut off from each other: who hears of it does so by hearsay, or when they meet again.
    parted = rng.randrange(3_000, 5_000)
    ends = rng.randrange(4_000, 8_000)
    pauses = [(at, at + rng.randrange(100, 1_000), rng.choice(rest)) for at in range(2_000, 20_000, 1_100)]
    a, b = rng.sample(rest, 2)
    wrong = [
        Fault("crash", ends, _FOR_EVER, nodes=(dead,)) if seed % 2 else Fault("power", ends, _FOR_EVER, nodes=(dead,)),
        Fault("leave", ends + rng.randrange(3_000), _FOR_EVER, nodes=(left,)),
        # Longer than a suspicion lasts: what it did not hear meanwhile is nobody's silence.
        Fault("pause", 9_000, 9_000 + rng.randrange(6_000, 14_000), nodes=(still,)),
        *(Fault("pause", at, to, nodes=(index,)) for at, to, index in pauses),
        faults.cut(faults.between(range(0, count, 2), range(1, count, 2)), parted, parted + 9_000, "regions"),
        faults.cut(((a, b),), 14_000, 22_000, "one pair"),
    ]
    return make(
        "who-is-alive",
        seed,
        nodes=count,
        calm_ms=24_000,
        quiet_ms=rng.choice((3_000, 18_000)),
        core=tuple(index for index in range(count) if index not in (dead, left)),
        faults=wrong,
        count=500,
        regions=2,
        wan_ms=40.0,
    )


@scenario
def short_pauses(seed: int, nodes: int | None) -> Plan:
    """Every process stands still now and then, for at most three and a half seconds: nobody is held to be down."""
    rng, count = rng_of("short-pauses", seed), nodes or 6
    pauses = [
        Fault("pause", at, at + rng.randrange(200, 3_500), nodes=(turn % count,))
        for turn, at in enumerate(range(2_000, 26_000, 8_000 // count))
    ]
    plan = make("short-pauses", seed, nodes=count, calm_ms=30_000, faults=pauses, count=450, regions=2, wan_ms=60.0)
    return plan.but(tuning={})


@scenario
def named_and_gone(seed: int, nodes: int | None) -> Plan:
    """One joins while those that it hears of by name are killed for good, all at once: it does not wait for them."""
    rng, count = rng_of("named-and-gone", seed), max(nodes or 3, 3)
    at = 4_003 + rng.randrange(60)
    # For good: whoever comes back has succeeded who it was, which is known to be gone by that alone.
    wrong = [Fault("crash", at, _FOR_EVER, nodes=(index,)) for index in range(count - 1)]
    return make(
        "named-and-gone",
        seed,
        nodes=count,
        calm_ms=16_000,
        quiet_ms=18_000,
        machines={count - 1: {"start_ms": 4_000, "seeds": (0,)}},
        faults=wrong,
        count=300,
        tuning={"gc_hold_ms": 60_000},
        core=(count - 1,),
    )
