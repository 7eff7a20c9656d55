"""The goals, as numbers: what must hold, what is aimed at, and whether a figure is a ratio or has a unit."""

from __future__ import annotations

from typing import NamedTuple


class Goal(NamedTuple):
    """`must` and `aim` are upper bounds of the figure, in `unit`."""

    text: str
    must: float
    aim: float
    unit: str = "x"

    def verdict(self, figure: float) -> str:
        """In three words of one meaning each; a missed goal is not a failed run."""
        if figure <= self.aim:
            return "aim"
        return "must" if figure <= self.must else "MISSED"


GOALS = {
    "L1": Goal("get hit, Zipf, against cachebox.LRUCache", 1.3, 0.9),
    "L2": Goal("the same with a TTL on every key, against cachebox.VTTLCache", 1.6, 1.0),
    "L3a": Goal("get hit, Zipf, against dict.get", 2.0, 1.3),
    "L3b": Goal("get hit, Zipf, against cachetools.TTLCache and a lock", 0.2, 0.1),
    "L4": Goal("set overwrite, Zipf, digest folded, against cachetools.TTLCache and a lock", 0.9, 0.5),
    "L5": Goal("set new, digest folded, against cachetools.TTLCache and a lock", 0.9, 0.5),
    "M1": Goal("bytes per entry over key and value, against cachetools.TTLCache", 1.2, 0.75),
    "M1g": Goal("full garbage collection with that map", 60, 10, "ms"),
    "B2e": Goal("repair by digest of 1e5 keys, 100 bytes each, of which none differs", 150, 100, "B"),
    "B2a": Goal("the same, 1 differs", 6_000, 4_000, "B"),
    "B2b": Goal("the same, 10 differ", 20_000, 10_000, "B"),
    "B2d": Goal("the same, 1,000 differ, against the bytes of these entries", 7, 4),
    "B2s": Goal("the same by slices", 1.4, 1.15),
    "B2c": Goal("the same after a cut of five minutes", 1.4, 1.15),
    "I1": Goal("import crdtcache, over an empty interpreter", 25, 8, "ms"),
}


class Figure(NamedTuple):
    """One line of the table: ours and theirs in `unit` per operation, and what the goal compares."""

    goal: str
    ours: float
    theirs: float
    unit: str
    figure: float
