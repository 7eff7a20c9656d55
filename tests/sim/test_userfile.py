"""A user's TOML file becomes a plan, and a mistake in it is answered with line, field and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.__main__ import main
from sim.faults import KINDS
from sim.plan import PlanError
from sim.userfile import _AMOUNTS, _BY_PAIR, read_toml
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


def mistake(write, old: str, new: str) -> str:
    assert old in GOOD
    with pytest.raises(PlanError) as caught:
        read_toml(write(GOOD.replace(old, new, 1)))
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        # what is no table, and what is no field
        (
            "[tuning]",
            "[tunings]",
            "line 15, [tunings]",
            "no table 'tunings'; there are cluster, workload, tuning, fault",
        ),
        ("[cluster]", "nodes = 4\n[cluster]", "line 2, [nodes]", "no table 'nodes'"),
        ("[cluster]", "[[cluster]]", "line 2, [cluster]", "a table is due that is written [cluster]"),
        ("put = 3", "puts = 3", "line 11, [workload]", "no field 'puts'; there are rate, keys, seconds"),
        ("silent_ms = 2_500", "silence = 1", "line 16, [tuning]", "no field 'silence'"),
        # one field
        ("nodes = 4", "nodes = 0", "line 3, [cluster]", "nodes = 0: a whole number of 1..1000 is due"),
        ("nodes = 4", "nodes = true", "line 3, [cluster]", "nodes = True: a whole number"),
        ("nodes = 4", "nodes = 4.0", "line 3, [cluster]", "nodes = 4.0: a whole number"),
        ("keys = 12", 'keys = "many"', "line 9, [workload]", "keys = 'many': a whole number"),
        ("keys = 12", "skew = true", "line 9, [workload]", "skew = True: a number of 0..3 is due"),
        ("keys = 12", "skew = nan", "line 9, [workload]", "skew = nan: a number of 0..3 is due"),
        ("silent_ms = 2_500", "silent_ms = 1.5", "line 16, [tuning]", "silent_ms = 1.5: a whole number"),
        ("silent_ms = 2_500", "dead_share = 0", "line 16, [tuning]", "dead_share = 0: a number above 0"),
        ('kind = "cut"', 'kind = "snip"', "line 19, [fault]", "kind = 'snip': one of cut, delay"),
        ('kind = "cut"', "kind = []", "line 19, [fault]", "kind = []: one of cut, delay"),
        ('at = "8s"', 'at = "8 hours"', "line 26, [fault]", "at = '8 hours': a time such as"),
        ('at = "8s"', "at = 8", "line 26, [fault]", "at = 8: a time such as"),
        ("nodes = [3]", "nodes = 3", "line 28, [fault]", "nodes = 3: a list of node numbers"),
        ("nodes = [3]", "nodes = []", "line 28, [fault]", "nodes = []: a list of node numbers"),
        ("[[0, 1], [2, 3]]", "[0, 1]", "line 22, [fault]", "between = [0, 1]: a list of two lists"),
        ("rate = 10", "'rate' = -1", "line 8, [workload]", "rate = -1: a whole number"),
        # fields that go together
        ("silent_ms = 2_500", "silent_ms = 1", "line 16, [tuning]", "silent_ms=1 must be at least 2 x keepalive_ms"),
        ("put = 3\ndelete = 1\nget = 2", "put = 0", "line 7, [workload]", "no operation has a weight above 0"),
        ("rate = 10\nkeys = 12\nseconds = 12", "rate = 99_999\nseconds = 99", "line 8, [workload]", "at most 5000000"),
        ("nodes = [3]", "nodes = [4]", "line 28, [fault]", "no node 4; there are 0..3"),
        ("[[0, 1], [2, 3]]", "[[0, 1], [2, 9]]", "line 22, [fault]", "no node 9; there are 0..3"),
        ("[[0, 1], [2, 3]]", "[[0, 1], [1, 2]]", "line 22, [fault]", "node 1 is on both sides"),
        ("nodes = [3]", "", "line 24, [fault]", "'nodes' is missing: a list of node numbers"),
        (
            "nodes = [3]",
            "between = [[0], [3]]",
            "line 28, [fault]",
            "'crash' has no 'between'; 'crash': the nodes' proc",
        ),
        ('kind = "cut"\n', "", "line 18, [fault]", "'kind' is missing: one of cut"),
        ('for = "4s"', "", "line 18, [fault]", "'for' is missing: a time such as"),
        ('for = "4s"', 'for = "40s"', "line 21, [fault]", "the fault ends at 43000 ms, after the 12000 ms of seconds"),
        (
            'kind = "cut"',
            'kind = "reset"',
            "line 21, [fault]",
            "'reset' has no 'for'; 'reset': the pairs' connections die",
        ),
        ('kind = "cut"', 'kind = "loss"', "line 18, [fault]", "'amount' is missing: a whole number of 1..999999"),
        ('kind = "cut"', 'kind = "loss"\namount = 0', "line 20, [fault]", "amount = 0: a whole number of 1..999999"),
        ('kind = "crash"', 'kind = "step"\namount = 0', "line 26, [fault]", "or the same below 0 is due"),
        ("nodes = [3]", "nodes = [3]\namount = 3", "line 29, [fault]", "'crash' has no 'amount'"),
        # other files
        ('rtt = "pings.csv"', 'rtt = "none.csv"', "line 4, [cluster]", "No such file"),
        (
            'rtt = "pings.csv"',
            'rtt = "bad.csv"',
            "line 4, [cluster]",
            "line 2: ['fast']: round trips are numbers of ms",
        ),
        (
            'rtt = "pings.csv"',
            'rtt = "moon.csv"',
            "line 4, [cluster]",
            "2560 ms; it must be below dial_timeout_ms = 1000",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line_its_field_and_what_is_allowed(write, tmp_path, old, new, line, said):
    (tmp_path / "bad.csv").write_text("from,eu\neu,fast\n")
    (tmp_path / "moon.csv").write_text("from,earth,moon\nearth,1,2560\nmoon,2560,1\n")
    told = mistake(write, old, new)
    assert told.startswith(f"{tmp_path / 'mine.toml'}, {line}: ")
    assert said in told


def test_what_is_not_toml(write, tmp_path):
    assert "(at line 3" in mistake(write, "nodes = 4", "nodes =")
    path = write("")
    path.write_bytes(b"# caf\xe9\n")
    with pytest.raises(PlanError, match="byte 5 is not UTF-8"):
        read_toml(path)
    with pytest.raises(PlanError, match="No such file"):
        read_toml(tmp_path / "nowhere.toml")


def test_one_fault_is_a_list_as_well(write):
    with pytest.raises(PlanError, match=r"line 1, \[fault\]: a table is due that is written \[\[fault\]\]"):
        read_toml(write('[fault]\nkind = "leave"\n'))


@pytest.mark.parametrize("text", ["cluster = {nodes = 0}", "cluster.nodes = 0", "\n[cluster]\n'nodes' = 0"])
def test_other_ways_to_write_a_table(write, text):
    with pytest.raises(PlanError, match=r"line [13], \[cluster\]: nodes = 0: a whole number of 1\.\.1000 is due"):
        read_toml(write(text))


def test_what_each_kind_takes_is_what_its_sentence_says():
    assert set(_AMOUNTS) == {kind for kind, sentence in KINDS.items() if "`amount`" in sentence}
    assert set(_BY_PAIR) == {kind for kind, sentence in KINDS.items() if "pairs" in sentence}


EXAMPLE = Path(__file__).parents[2] / "sim" / "examples" / "three-regions.toml"


def test_the_example_runs(capsys):
    assert main(["run", str(EXAMPLE)]) == 0
    assert "no violation" in capsys.readouterr().out
    plan = read_toml(EXAMPLE)
    assert plan.matrix_ms[1] == (92.0, 0.7, 215.0)
    assert [machine.region for machine in plan.machines] == [0, 1, 2, 0, 1, 2]


def test_a_file_can_be_swept(write, capsys):
    small = "[cluster]\nnodes = 2\n[workload]\nseconds = 5\n"
    assert main(["sweep", str(write(small)), "--seeds", "2"]) == 0
    assert "2 runs from seed 0, 0 violations" in capsys.readouterr().out
    assert main(["sweep", str(write(small)), "--nodes", "3"]) == 64
    assert "says how many nodes there are" in capsys.readouterr().err
    assert main(["sweep", str(write("[workload]\nrate = 0"))]) == 64
    assert "line 2, [workload]: rate = 0" in capsys.readouterr().err
