"""B2: the bytes of a repair beside those of what differed, counted in memory; one run, for bytes do not vary."""

from __future__ import annotations

from tests.bench.goals import Figure
from tests.core.repairs import equal_pair, repair


def measure(keys: int) -> list[Figure]:
    """One line for each number of entries that differ, and way to find them."""
    figures = []
    for goal, differing in (("B2e", 0), ("B2a", 1), ("B2b", 10), ("B2d", keys // 100)):
        done = repair(equal_pair(keys), differing, by_digest=True)
        ratio = done.bytes / done.entries if goal == "B2d" else done.bytes
        figures.append(Figure(goal, done.bytes, done.entries, "B", ratio))
    for goal, cut_ms in (("B2s", 200), ("B2c", 300_000)):
        done = repair(equal_pair(keys), keys // 100, by_digest=False, cut_ms=cut_ms)
        figures.append(Figure(goal, done.bytes, done.entries, "B", done.bytes / done.entries))
    return figures
