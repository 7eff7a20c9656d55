"""A user's TOML file becomes a plan, and a mistake in it is answered with line, field and what is allowed."""

from __future__ import annotations

import pytest

from sim.plan import PlanError
from sim.userfile import read_toml
from sim.world import run

GOOD = """
[cluster]
nodes = 4
rtt = "pings.csv"
maxsize = 30

[workload]
rate = 10
keys = 12
seconds = 12
put = 3
delete = 1
get = 2

[tuning]
silent_ms = 2_500

[[fault]]
kind = "cut"
at = "3s"
for = "4s"
between = [[0, 1], [2, 3]]

[[fault]]
kind = "crash"
at = "8s"
for = "1500ms"
nodes = [3]
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "pings.csv").write_text("from,eu,us\neu,1,80\nus,80,1\n")

    def written(text: str):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return written


def test_a_file_is_a_plan(write):
    plan = read_toml(write(GOOD), seed=4)
    assert (plan.scenario, plan.seed, len(plan.machines), plan.calm_ms) == ("mine", 4, 4, 12_000)
    assert plan.machines[0].maxsize == 30
    assert plan.matrix_ms == ((1.0, 80.0), (80.0, 1.0))
    assert [(f.kind, f.start_ms, f.end_ms) for f in plan.faults] == [("cut", 3_000, 7_000), ("crash", 8_000, 9_500)]
    assert plan.faults[0].pairs == ((0, 2), (0, 3), (1, 2), (1, 3))
    assert plan.tuned().silent_ms == 2_500
    assert {op.kind for op in plan.ops} == {"put", "delete", "get"}
    result = run(plan)
    assert result.violation is None


def test_an_empty_file_is_the_common_case(write):
    assert len(read_toml(write("")).machines) == 5


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("nodes = 4", "nodes = 0", r"line 3, \[cluster\]: nodes = 0: a whole number of 1..1000 is due"),
        ("keys = 12", 'keys = "many"', r"line 9, \[workload\]: keys = 'many': a whole number"),
        ("put = 3", "puts = 3", r"line 11, \[workload\]: no field 'puts'; there are rate, keys"),
        ("[tuning]", "[tunings]", r"line 15, \[tunings\]: no table 'tunings'; there are cluster"),
        ("silent_ms = 2_500", "silence = 1", r"line 16, \[tuning\]: no field 'silence'"),
        ("silent_ms = 2_500", "silent_ms = 1", r"tuning: tuning silent_ms=1 must be at least 2 x keepalive_ms"),
        ('kind = "cut"', 'kind = "snip"', r"line 19, \[fault\]: kind = 'snip': one of cut, delay"),
        ('at = "8s"', 'at = "8 hours"', r"line 26, \[fault\]: at = '8 hours': a time such as"),
        ("nodes = [3]", "nodes = [4]", r"line 28, \[fault\]: no node 4; there are 0..3"),
        ("nodes = [3]", "", r"line 24, \[fault\]: 'nodes' is missing: a list of node numbers"),
        ('rtt = "pings.csv"', 'rtt = "none.csv"', r"line 4, \[cluster\]: .*No such file"),
        ("nodes = 4", "nodes =", r"mine.toml: Invalid value \(at line 3"),
    ],
)
def test_mistakes(write, old, new, complaint):
    with pytest.raises(PlanError, match=complaint):
        read_toml(write(GOOD.replace(old, new, 1)))
