"""Taking turns: each round times every contender once, in an order drawn anew, so that drift hits all alike."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

Batch = Callable[[], tuple[int, int]]
"""Runs once; returns (nanoseconds taken, operations done). What is only set-up is done before the clock starts."""


class Timings(NamedTuple):
    """ns per operation, one number per round and contender; the same index is the same round."""

    rounds: Mapping[str, list[float]]

    def typical(self, name: str) -> float:
        """The median of `name`, in ns per operation."""
        return median(self.rounds[name])

    def ratio(self, ours: str, theirs: str) -> float:
        """The median of the per-round ratios: a slow second of the machine touches both sides of one ratio."""
        return median(a / b for a, b in zip(self.rounds[ours], self.rounds[theirs], strict=True))


def take_turns(contenders: Mapping[str, Batch], rounds: int, seed: int = 1) -> Timings:
    """Times each contender `rounds` times after one round that is not counted."""
    order = list(contenders)
    shuffle = random.Random(seed).shuffle
    timings: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        shuffle(order)
        for name in order:
            gc.collect()
            nanoseconds, operations = contenders[name]()
            if number:
                timings[name].append(nanoseconds / operations)
    return Timings(timings)
