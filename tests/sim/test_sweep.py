"""Three hundred fixed seeds of the kitchen sink: no violation, nothing left out, and the same in every process.

And whatever else takes many runs, on both cores: one seed of each scenario, and planted bugs until they are found.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from sim import bugs
from sim.__main__ import main
from sim.coverage import table
from sim.scenarios import SCENARIOS, load
from sim.sweep import Outcome, one, sweep

load()

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


def two_processes() -> Executor:
    """What `--executor tests.sim.test_sweep:two_processes` names."""
    return ProcessPoolExecutor(2, get_context("spawn"))


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with two_processes() as executor:
        yield executor


@pytest.fixture(scope="module")
def elsewhere() -> subprocess.Popen[str]:
    """Another process, which prints traces while the sweep runs."""
    program = (
        "from sim.scenarios import find\nfrom sim.world import run\n"
        f"for seed in range({TWICE}): print(run(find('kitchen-sink').draw(seed, None)).trace)"
    )
    other = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": other},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def outcomes(elsewhere, executor) -> list[Outcome]:
    return sorted(sweep("kitchen-sink", range(SEEDS), executor=executor), key=lambda outcome: outcome.seed)


def test_no_violation(outcomes):
    assert [o.seed for o in outcomes] == list(range(SEEDS))
    assert [f"python -m sim run kitchen-sink --seed {o.seed}: {o.violation}" for o in outcomes if o.violation] == []


def test_the_same_traces_with_another_hash_seed(outcomes, elsewhere):
    assert elsewhere.communicate()[0].split() == [outcome.trace for outcome in outcomes[:TWICE]]


def test_nearly_every_run_counts_and_everything_happens_in_them(outcomes):
    counted = [outcome.coverage for outcome in outcomes if outcome.counted]
    assert len(counted) >= 0.9 * SEEDS
    # A step for good, a wrong clock and a local clear are in scenarios of their own; digests that stand still and
    # differ are nearly always met by the periodic session first.
    never = {line.partition("  ")[0] for line in table(counted) if line.endswith("never")}
    assert never <= {"fault jump", "fault wrong", "op clear_local", "rule digests differed for compare_ms"}


def test_every_scenario_passes(executor):
    runs = list(executor.map(one, SCENARIOS, [0] * len(SCENARIOS)))
    assert [f"python -m sim run {o.scenario} --seed 0: {o.violation}" for o in runs if o.violation] == []
    assert all(scenario.sentence.endswith(".") for scenario in SCENARIOS.values())


def test_what_is_found_at_once_stays_so(executor):
    found = dict(zip(FOUND_AT_ONCE, executor.map(partial(bugs.hunt, seeds=24), FOUND_AT_ONCE), strict=True))
    assert [name for name, hunt in found.items() if hunt is None] == []
    assert all(hunt.invariant in str(hunt) for hunt in found.values())


def test_any_executor_gives_the_same(capsys):
    def sweeping(*more: str) -> list[str]:
        assert main(["sweep", "calm-sea", "--seeds", "3", "--nodes", "2", *more]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if "a second" not in line]

    assert (
        sweeping()
        == sweeping("--executor", "concurrent.futures:ThreadPoolExecutor")
        == sweeping("--executor", "tests.sim.test_sweep:two_processes")
    )


def test_a_sweep_goes_on_where_its_file_ends(tmp_path, capsys, monkeypatch):
    def sweeping(seeds: int, *more: str) -> list[str]:
        assert main(["sweep", "calm-sea", "--seeds", str(seeds), "--nodes", "2", *more]) == 0
        return capsys.readouterr().out.splitlines()

    path, ran = tmp_path / "outcomes", []
    monkeypatch.setattr("sim.sweep.one", lambda *asked: ran.append(asked[1]) or one(*asked))
    sweeping(2, "--into", str(path))
    whole = sweeping(3, "--into", str(path))
    assert ran == [0, 1, 2]
    assert whole == sweeping(3, "--into", str(path))
    assert whole[2:] == sweeping(3)[2:]
    path.write_text("{}")
    assert main(["sweep", "calm-sea", "--into", str(path)]) == 64
    assert f"{path}: not the outcomes of a sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "complaint"),
    [
        ("nowhere:client", "No module named 'nowhere'"),
        ("concurrent.futures:Pool", "no attribute 'Pool'"),
        ("concurrent.futures", "MODULE:CALLABLE is due"),
        ("builtins:dict", "gave {}; a concurrent.futures.Executor is due"),
        ("builtins:open", "MODULE:CALLABLE is due"),
    ],
)
def test_what_is_no_executor(named, complaint, capsys):
    assert main(["sweep", "calm-sea", "--executor", named]) == 64
    assert complaint in capsys.readouterr().err


def test_who_has_heard_enough_is_not_waited_for():
    handed_out = []

    class Noting(ThreadPoolExecutor):
        def submit(self, *work):
            handed_out.append(super().submit(*work))
            return handed_out[-1]

    with Noting(1) as executor:
        outcomes = sweep("calm-sea", range(10_000), nodes=2, executor=executor)
        next(outcomes)
        outcomes.close()
    assert len(handed_out) < 100
    assert sum(future.cancelled() for future in handed_out) >= 60
