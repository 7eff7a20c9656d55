"""What applications do: operations drawn once, with Zipf's popularity, written into the plan.

Decision: a value is the number of its write, so that whoever reads it in a report knows which write it was.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate

from sim.plan import Op

__all__ = ["MIX", "operations"]

MIX: Mapping[str, int] = {"put": 50, "get": 20, "delete": 12, "ttl": 8, "touch": 6, "evict": 3, "clear": 0}
"""Weights; `ttl` is a put with an expiry, "clear_local" is allowed too."""


def operations(
    rng: random.Random,
    *,
    nodes: Sequence[int],
    start_ms: int,
    end_ms: int,
    count: int,
    keys: int = 20,
    skew: float = 0.8,
    mix: Mapping[str, int] = MIX,
    ttl_ms: tuple[int, int] = (500, 10_000),
) -> list[Op]:
    """`count` operations at random times. `skew` is Zipf's exponent; 0 makes all keys equally popular."""
    names = [f"k{i}" for i in range(keys)]
    steps = list(accumulate((i + 1) ** -skew for i in range(keys)))
    kinds, weights = list(mix), list(mix.values())
    ops = []
    for number, at_us in enumerate(sorted(rng.randrange(start_ms * 1_000, end_ms * 1_000) for _ in range(count))):
        kind = rng.choices(kinds, weights)[0]
        key = names[bisect_left(steps, rng.random() * steps[-1])]
        ttl = 0
        if kind in ("ttl", "touch"):
            # A touch may also take the expiry away.
            ttl = 0 if kind == "touch" and rng.random() < 0.2 else rng.randrange(*ttl_ms)
            kind = "put" if kind == "ttl" else kind
        value = f"v{number}" if kind == "put" else ""
        if value and rng.random() < 0.02:
            value += "x" * rng.randrange(200, 1_500)
        ops.append(Op(at_us, rng.choice(nodes), kind, key, value, ttl))
    return ops
