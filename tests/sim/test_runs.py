"""Whole runs: plans survive a file, replays say where they part, shrinking keeps the failure."""

from __future__ import annotations

import shlex

import pytest

from sim import bugs
from sim.__main__ import main
from sim.plan import PlanError, read_plan
from sim.scenarios import find
from sim.shrink import shrink
from sim.sweep import diverged, one
from sim.world import run


def test_a_plan_survives_a_file(tmp_path):
    plan = find("kitchen-sink").draw(3, None)
    result = run(plan)
    path = tmp_path / "plan.json"
    plan.but(expect=result.expect()).write(path)
    again = read_plan(path)
    assert again.but() == plan
    assert run(again).trace == result.trace
    assert diverged(again, run(again)) == ""


def test_a_replay_says_where_it_parts(tmp_path):
    plan = find("calm-sea").draw(1, 2)
    result = run(plan)
    late = next(i for i, op in enumerate(plan.ops) if op.kind == "put" and op.at_us > 12_000_000)
    ops = list(plan.ops)
    at = ops[late].at_us // 1_000_000
    ops[late] = ops[late]._replace(value="another")
    other = run(plan.but(ops=tuple(ops)))
    assert f"between {at} s and {at + 1} s" in diverged(plan.but(expect=result.expect()), other)


def test_leaving_out_an_operation_changes_nothing_before_it():
    plan = find("kitchen-sink").draw(5, 3)
    whole, less = run(plan), run(plan.but(ops=plan.ops[:-30]))
    cut = plan.ops[-30].at_us // 1_000_000
    assert whole.marks[:cut] == less.marks[:cut]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "not a plan of format 1"),
        ('{"format": 1}', "KeyError: 'machines'"),
    ],
)
def test_what_is_not_a_plan(tmp_path, text, complaint):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(PlanError, match=complaint):
        read_plan(path)


BUG = "c2-gap-ignored"


def test_a_planted_bug_is_found_shrunk_and_gone_again():
    with bugs.planted(BUG):
        seed = next(s for s in range(40) if one("lost-middle", s).violation)
        result = run(find("lost-middle").draw(seed, None))
        small = shrink(result, runs=150, seconds=20)
        assert small.result.violation.invariant == result.violation.invariant
        assert small.plan.size() <= 10 < result.plan.size()
        assert run(small.plan).trace == small.result.trace
    assert run(small.plan.but()).violation is None


class TestCommandLine:
    def test_list(self, capsys):
        assert main(["list"]) == 0
        assert "kitchen-sink" in capsys.readouterr().out

    def test_run_and_replay(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert main(["run", "split-brain", "--seed", "2", "--nodes", "3", "--plan", "plan.json"]) == 0
        said = capsys.readouterr().out.splitlines()
        assert max(map(len, said)) <= 100
        assert "  op        " in "\n".join(said)
        assert said[-1].startswith("no violation")
        assert main(["replay", "plan.json"]) == 0
        assert "the same trace" in capsys.readouterr().out

    def test_a_violation_names_the_commands(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with bugs.planted(BUG):
            code = max(main(["run", "lost-middle", "--seed", str(seed)]) for seed in range(12))
        out = capsys.readouterr().out
        assert code == 1
        assert "VIOLATION" in out
        assert "python -m sim replay sim-failures" in out
        told = next(line for line in out.splitlines() if line.startswith("explain it:"))
        assert main(shlex.split(told.partition("python -m sim ")[2])) == 0

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["run", "kitchen"], "no scenario 'kitchen'; there are kitchen-sink"),
            (["run", "calm-sea", "--set", "frame_bytes"], "NAME=NUMBER is due"),
            (["run", "calm-sea", "--set", "frame_bytes=1"], "tuning"),
            (["run", "calm-sea", "--set", "frames=1"], "no field 'frames'; there are frame_bytes"),
            (["replay", "nowhere.json"], "No such file"),
            (["canaries", "no-such-bug"], "no planted bug 'no-such-bug'"),
            (["sweep", "--executor", "nowhere:client"], "MODULE:CALLABLE is due"),
        ],
    )
    def test_mistakes(self, arguments, complaint, capsys):
        assert main(arguments) == 64
        assert complaint in capsys.readouterr().err
