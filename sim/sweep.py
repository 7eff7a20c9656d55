"""Many seeds of a scenario, on any `concurrent.futures` executor; and a replay, compared second by second.

Decision: the unit of work is (scenario, seed, nodes) and what comes back is a small summary, so that processes of this
machine and of a cluster are served alike; a failing plan is drawn again from its seed where it is needed. A sweep
that takes hours keeps each outcome in a file, and goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from concurrent.futures import Executor, Future, as_completed
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sim.coverage import counted, rough
from sim.plan import Plan, PlanError
from sim.scenarios import find
from sim.userfile import read_toml
from sim.world import Result, run

__all__ = ["Outcome", "diverged", "draw", "kept", "one", "sweep"]


class Outcome(NamedTuple):
    """What became of one seed. `violation` is its text, "" where there is none."""

    scenario: str
    seed: int
    invariant: str
    violation: str
    trace: str
    events: int
    seconds: float
    counted: bool  # the run was rough enough to say something
    coverage: dict[str, int]


def draw(scenario: str, seed: int, nodes: int | None = None) -> Plan:
    """The plan of a named scenario, or of a user's file (`userfile`). Raises `PlanError`."""
    if not scenario.endswith(".toml"):
        return find(scenario).draw(seed, nodes)
    if nodes is not None:
        raise PlanError(f"{scenario} says how many nodes there are: change it there")
    return read_toml(Path(scenario), seed)


def one(scenario: str, seed: int, nodes: int | None = None) -> Outcome:
    """Run one seed."""
    plan = draw(scenario, seed, nodes)
    result = counted(lambda: run(plan))
    found = result.violation
    return Outcome(
        scenario,
        seed,
        found.invariant if found else "",
        str(found) if found else "",
        result.trace,
        result.events,
        result.seconds,
        rough(result),
        result.coverage,
    )


def sweep(
    scenario: str, seeds: Iterable[int], *, nodes: int | None = None, executor: Executor | None = None, ahead: int = 64
) -> Generator[Outcome, None, None]:
    """The outcomes, as they come; with an executor at most `ahead` runs are handed out at a time."""
    if executor is None:
        yield from (one(scenario, seed, nodes) for seed in seeds)
        return
    source = iter(seeds)
    running: list[Future[Outcome]] = [executor.submit(one, scenario, seed, nodes) for seed in islice(source, ahead)]
    try:
        while running:
            done = next(as_completed(running))
            running.remove(done)
            running.extend(executor.submit(one, scenario, seed, nodes) for seed in islice(source, 1))
            yield done.result()
    finally:
        for future in running:  # somebody has heard enough
            future.cancel()


def kept(path: Path, scenario: str, seeds: Iterable[int]) -> dict[int, Outcome]:
    """The outcomes of these seeds in a file of one JSON list a line; none where there is no file."""
    try:
        outcomes = [Outcome(*json.loads(line)) for line in path.read_text().splitlines()]
    except FileNotFoundError:
        return {}
    except (OSError, TypeError, ValueError) as error:
        raise PlanError(f"{path}: not the outcomes of a sweep: {error}") from None
    wanted = set(seeds)
    return {o.seed: o for o in outcomes if o.scenario == scenario and o.seed in wanted}


def diverged(plan: Plan, result: Result) -> str:
    """Where a replay went another way than the plan says it went before; "" where it did not."""
    expect = plan.expect
    if expect is None or expect.trace == result.trace:
        return ""
    for second, (was, now) in enumerate(zip(expect.marks, result.marks, strict=False), 1):
        if was != now:
            return (
                f"diverged between {second - 1} s and {second} s of virtual time (trace {was} was expected, got {now})"
            )
    return f"diverged after {min(len(expect.marks), len(result.marks))} s of virtual time"
