"""Is the simulator itself sound here? The same seeds in two processes whose string hashes differ give one trace each.

Decision: processes, not two runs in one: what leaks through the order of a set, an `id()` or a module's state shows
only across processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["doctor"]

_PROGRAM = """
import sys
from sim.scenarios import find
from sim.world import run
scenario = find(sys.argv[1])
for seed in range(int(sys.argv[2])):
    print(run(scenario.draw(seed, None)).trace, flush=True)
"""


def doctor(scenario: str, seeds: int) -> Iterator[tuple[int, bool]]:
    """(seed, whether both processes went the same way) for each seed."""
    runs = [_start(scenario, seeds, hash_seed) for hash_seed in ("1", "987654321")]
    for seed in range(seeds):
        lines = [run.stdout.readline() if run.stdout is not None else "" for run in runs]
        yield seed, bool(lines[0]) and lines[0] == lines[1]
    for run in runs:
        run.communicate()


def _start(scenario: str, seeds: int, hash_seed: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    top = Path(__file__).resolve().parents[1]
    arguments = [sys.executable, "-c", _PROGRAM, scenario, str(seeds)]
    return subprocess.Popen(  # noqa: S603 our own interpreter and program
        arguments, cwd=top, env=environment, stdout=subprocess.PIPE, text=True
    )
