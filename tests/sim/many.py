"""What takes many runs, handed out to two processes as one list, so that both cores are busy until the last of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from sim import bugs
from sim.scenarios import SCENARIOS, load
from sim.sweep import Outcome, one

SEEDS = 300
TWICE = 50  # of them are run once more, in a process with another hash seed

# Planted bugs of which a few runs are enough, by many different checks.
FOUND_AT_ONCE = (
    "c2-parked-item-skipped",
    "d2-own-clock-only",
    "drift-guard-off",
    "gone-below-a-clear",
    "left-alone-by-own-clock",
    "o3-off",
    "o4-dead-stored-again",
    "o5-no-dot-for-the-replaced",
    "stall-rule-off",
    "touch-without-base",
)


class Many(NamedTuple):
    """Results to come."""

    scenarios: dict[str, Future[Outcome]]  # seed 0 of each
    hunts: dict[str, Future[bugs.Found | None]]
    elsewhere: list[Future[list[str]]]  # traces
    seeds: list[Future[Outcome]]  # of the kitchen sink


def two_processes() -> Executor:
    """What `--executor tests.sim.many:two_processes` names."""
    return ProcessPoolExecutor(2, get_context("spawn"))


def handed_out(executor: Executor) -> Many:
    """All of it, the longest runs first."""
    load()
    halves = range(TWICE // 2), range(TWICE // 2, TWICE)
    return Many(
        {name: executor.submit(one, name, 0) for name in SCENARIOS if name != "kitchen-sink"},
        {name: executor.submit(bugs.hunt, name, seeds=24) for name in FOUND_AT_ONCE},
        [executor.submit(traces_elsewhere, half) for half in halves],
        [executor.submit(one, "kitchen-sink", seed) for seed in range(SEEDS)],
    )


def traces_elsewhere(seeds: Sequence[int]) -> list[str]:
    """The traces of these seeds, from a process with another hash seed than this one."""
    program = (
        "from sim.scenarios import find\nfrom sim.world import run\n"
        f"for seed in {seeds!r}: print(run(find('kitchen-sink').draw(seed, None)).trace)"
    )
    other = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": other},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.split()
