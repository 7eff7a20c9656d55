"""`python -m tests.bench`: the table of goals. `--only L1 M1` for some lines, `--quick` for a look, `--json`."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from time import monotonic

from tests.bench.goals import GOALS, Figure


def sections(quick: bool) -> dict[tuple[str, ...], Callable[[], list[Figure]]]:
    """What measures which lines; imported only when asked for, so that `--only I1` needs no extra."""

    def local(name: str, rounds: int) -> Callable[[], list[Figure]]:
        def run() -> list[Figure]:
            from tests.bench import local

            return list(getattr(local, name)(3 if quick else rounds))

        return run

    def memory() -> list[Figure]:
        from tests.bench import memory

        return memory.measure(100_000 if quick else 1_000_000)

    def repair() -> list[Figure]:
        from tests.bench import repair

        return repair.measure(10_000 if quick else 100_000)

    def startup() -> list[Figure]:
        from tests.bench import startup

        return startup.measure(10 if quick else 40)

    return {
        ("L1", "L2", "L3a", "L3b"): local("hits", 15),
        ("L4",): local("overwrites", 15),
        ("L5",): local("inserts", 15),
        ("M1", "M1g"): memory,
        ("B2e", "B2a", "B2b", "B2d", "B2s", "B2c"): repair,
        ("I1",): startup,
    }


def row(figure: Figure) -> str:
    """One line of the table."""
    goal = GOALS[figure.goal]
    sides = (
        f"{figure.goal:4} {figure.ours:9.1f} {figure.theirs:9.1f} {figure.unit:3} {figure.figure:7.2f} {goal.unit:2}"
    )
    return f"{sides} {goal.must:6g} {goal.aim:6g}  {goal.verdict(figure.figure):7}  {goal.text}"


def main() -> int:
    """Prints the table; 1 if a goal's `must` is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="figures beside those of peers")
    parser.add_argument("--only", nargs="+", metavar="GOAL", choices=GOALS, help=f"of {', '.join(GOALS)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and entries: a look, not a figure")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    chosen = parser.parse_args()
    began = monotonic()
    figures: list[Figure] = []
    if not chosen.json:
        print(f"CPython {platform.python_version()}, {platform.system()} {platform.machine()}; medians, interleaved")
        print(f"{'':4} {'ours':>9} {'theirs':>9} {'':3} {'figure':>7}    {'must':>6} {'aim':>6}  verdict", flush=True)
    for lines, run in sections(chosen.quick).items():
        if chosen.only and not set(lines) & set(chosen.only):
            continue
        for figure in run():
            if not chosen.only or figure.goal in chosen.only:
                figures.append(figure)
                if not chosen.json:
                    print(row(figure), flush=True)
    if chosen.json:
        print(json.dumps({figure.goal: figure._asdict() for figure in figures}, indent=1))
    else:
        print(f"{monotonic() - began:.0f} s")
    return int(any(GOALS[figure.goal].verdict(figure.figure) == "MISSED" for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
