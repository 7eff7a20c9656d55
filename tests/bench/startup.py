"""I1: what `import crdtcache` adds to the start of an interpreter; starts of both kinds take turns."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median
from time import perf_counter_ns

from tests.bench.goals import Figure

# With compiled files kept, as everywhere outside some developers' machines.
ENVIRONMENT = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def start_ms(program: str) -> float:
    """One start that runs `program`, in ms."""
    start = perf_counter_ns()
    subprocess.run([sys.executable, "-c", program], check=True, env=ENVIRONMENT)
    return (perf_counter_ns() - start) / 1e6


def measure(rounds: int) -> list[Figure]:
    """I1: the median of the differences of neighbouring starts."""
    for program in ("pass", "import crdtcache"):
        start_ms(program)  # compiles, and warms the page cache
    pairs = [(start_ms("import crdtcache"), start_ms("pass")) for _ in range(rounds)]
    ours, theirs = (median(column) for column in zip(*pairs, strict=True))
    return [Figure("I1", ours, theirs, "ms", median(with_it - without for with_it, without in pairs))]
