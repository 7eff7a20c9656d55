"""Who asks for what, and when: Zipf-distributed requests and the reviews that services write and delete.

Decision: every service ranks the modules alike (drawn from the seed), so the popular ones are popular
everywhere, as they are in a real fleet, and one service's work is of use to all. The keys of the script's
proof are pools of their own, so that background traffic cannot rewrite a key whose deletion is being watched.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from itertools import accumulate, pairwise
from typing import NamedTuple

__all__ = ["Pools", "Zipf", "plan_writes", "review_pools"]


class Zipf:
    """Draws from `items` with P(rank r) proportional to 1 / r ** `exponent`; the order is drawn from `seed`."""

    def __init__(self, items: list[str], seed: int, exponent: float = 1.1) -> None:
        if not items:
            raise ValueError("nothing to draw from")
        self.ranked = sorted(items)
        random.Random(f"{seed}/ranking").shuffle(self.ranked)
        self._edges = list(accumulate(1 / rank**exponent for rank in range(1, len(self.ranked) + 1)))

    def draw(self, rng: random.Random) -> str:
        """One item."""
        return self.ranked[bisect_left(self._edges, rng.random() * self._edges[-1])]


class Pools(NamedTuple):
    """The review keys by what happens to them while a region is cut off."""

    steady: list[str]  # written and deleted by anybody, any time
    both: list[str]  # written on both sides: each is a conflict
    near: list[str]  # deleted on the side that was cut off, and nowhere written
    far: list[str]  # deleted on the other side, and nowhere written
    fought: list[str]  # deleted on one side, written on the other: the later one decides

    @property
    def script(self) -> list[str]:
        """The keys that only the script touches; all of them are written before the cut."""
        return [*self.both, *self.near, *self.far, *self.fought]


def review_pools(modules: list[str], seed: int, scale: int = 12) -> Pools:
    """Pools of about `scale` keys each, from the names of `modules`."""
    names = sorted(modules)
    random.Random(f"{seed}/pools").shuffle(names)
    sizes = [4 * scale, 2 * scale, scale, scale, scale]
    keys = [f"review:{names[n % len(names)]}:{n // len(names)}" for n in range(sum(sizes))]
    edges = list(accumulate(sizes, initial=0))
    return Pools(*(keys[low:high] for low, high in pairwise(edges)))


def plan_writes(pools: Pools, *, cut_off: bool, rng: random.Random) -> list[tuple[str, str]]:
    """What one side does while it is cut from the other: ("set" | "delete", key), in a drawn order.

    `cut_off`: for the side of the region that was cut off. Of the keys in `fought` each side deletes one half
    and writes the other, so that a delete and a write of the same key always meet.
    """
    half = len(pools.fought) // 2
    mine, theirs = (pools.fought[:half], pools.fought[half:]) if cut_off else (pools.fought[half:], pools.fought[:half])
    steps = [("set", key) for key in (*pools.both, *theirs)]
    steps += [("delete", key) for key in (*(pools.near if cut_off else pools.far), *mine)]
    rng.shuffle(steps)
    return steps
