"""M1: what an entry costs beside its key and value, and how long a full garbage collection takes.

Each map fills a process of its own, with keys and values made before the first reading of the resident size:
`python -m tests.bench.memory node|cachetools ENTRIES` prints (bytes per entry, ms of a collection).
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter_ns

from tests.bench.goals import Figure

TTL_S = 3_600


def resident_bytes() -> int:
    """The resident size of this process now (Linux; the benchmark is a developer's tool)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def fill(kind: str, entries: int) -> tuple[object, Callable[[str, bytes], object], Callable[[], object]]:
    """(the map, its set, what settles whatever it has put off)."""
    if kind == "node":
        from crdtcache import Node

        node = Node(maxsize=None, max_bytes=None)
        return node, node.set, node.digest
    import cachetools

    cache = cachetools.TTLCache(entries + 1, TTL_S)
    return cache, cache.__setitem__, gc.collect


def child(kind: str, entries: int) -> tuple[float, float]:
    """Fills one map; returns (bytes per entry, ms of a full collection)."""
    cache, put, settle = fill(kind, entries)
    rng = random.Random(4)
    pairs = [(f"user:{number:08d}", rng.randbytes(100)) for number in range(entries)]
    gc.collect()
    before = resident_bytes()
    for key, value in pairs:
        put(key, value)
    settle()
    gc.collect()
    used = resident_bytes() - before
    pauses = []
    for _ in range(3):
        start = perf_counter_ns()
        gc.collect()
        pauses.append(perf_counter_ns() - start)
    assert len(cache) == entries  # type: ignore[arg-type]
    return used / entries, median(pauses) / 1e6


def measure(entries: int) -> list[Figure]:
    """M1, its two halves."""
    found = {}
    for kind in ("node", "cachetools"):
        command = [sys.executable, "-m", "tests.bench.memory", kind, str(entries)]
        found[kind] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    (ours, our_pause), (theirs, their_pause) = found["node"], found["cachetools"]
    return [Figure("M1", ours, theirs, "B", ours / theirs), Figure("M1g", our_pause, their_pause, "ms", our_pause)]


if __name__ == "__main__":
    print(json.dumps(child(sys.argv[1], int(sys.argv[2]))))
