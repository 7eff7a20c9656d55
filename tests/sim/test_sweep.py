"""Three hundred fixed seeds of the kitchen sink: no violation, nothing left out, and the same in every process.

And whatever else takes many runs, on both cores: one seed of each scenario, and planted bugs until they are found.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from sim.__main__ import main
from sim.coverage import RULES, table
from sim.scenarios import SCENARIOS
from sim.sweep import Outcome, one, sweep
from tests.sim.many import SEEDS, TWICE, Many

# Seen in sweeps only: they need logs and dots that are short and full at the wrong moment.
RARE = {"O5 no room for a dot: not taken", "digests differed for compare_ms", "session given up: no progress"}


@pytest.fixture(scope="module")
def outcomes(many: Many) -> list[Outcome]:
    return [seed.result() for seed in many.seeds]


@pytest.fixture(scope="module")
def scenarios(many: Many, outcomes) -> list[Outcome]:
    return [outcomes[0], *(run.result() for run in many.scenarios.values())]


def test_no_violation(outcomes):
    assert [o.seed for o in outcomes] == list(range(SEEDS))
    assert [f"python -m sim run kitchen-sink --seed {o.seed}: {o.violation}" for o in outcomes if o.violation] == []


def test_the_same_traces_with_another_hash_seed(outcomes, many):
    elsewhere = [trace for half in many.elsewhere for trace in half.result()]
    assert elsewhere == [outcome.trace for outcome in outcomes[:TWICE]]


def test_nearly_every_run_counts_and_everything_happens_in_them(outcomes):
    counted = [outcome.coverage for outcome in outcomes if outcome.counted]
    assert len(counted) >= 0.9 * SEEDS
    # A step for good, a wrong clock and a local clear are in scenarios of their own; digests that stand still and
    # differ are nearly always met by the periodic session first.
    never = {line.partition("  ")[0] for line in table(counted) if line.endswith("never")}
    assert never <= {"fault jump", "fault wrong", "op clear_local", "rule digests differed for compare_ms"}


def test_every_scenario_passes(scenarios):
    assert sorted(run.scenario for run in scenarios) == sorted(SCENARIOS)
    assert [f"python -m sim run {o.scenario} --seed 0: {o.violation}" for o in scenarios if o.violation] == []
    assert all(scenario.sentence.endswith(".") for scenario in SCENARIOS.values())


def test_every_branch_of_the_rules_is_seen_in_one_of_them(scenarios):
    never = {rule for rule in RULES if not any(run.coverage.get(f"rule {rule}") for run in scenarios[1:])}
    assert never <= RARE


def test_what_is_found_at_once_stays_so(many):
    found = {name: hunt.result() for name, hunt in many.hunts.items()}
    assert [name for name, hunt in found.items() if hunt is None] == []
    assert all(hunt.invariant in str(hunt) for hunt in found.values())


def test_any_executor_gives_the_same(capsys):
    def sweeping(*more: str) -> list[str]:
        assert main(["sweep", "calm-sea", "--seeds", "3", "--nodes", "2", *more]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if "a second" not in line]

    assert (
        sweeping()
        == sweeping("--executor", "concurrent.futures:ThreadPoolExecutor")
        == sweeping("--executor", "tests.sim.many:two_processes")
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
