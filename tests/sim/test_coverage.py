"""The table of what happened: seeing changes nothing, and mild runs do not count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtcache.core.lwwmap import LWWMap
from sim.__main__ import main
from sim.coverage import branches, counted, rough, table
from sim.faults import KINDS
from sim.plan import Fault
from sim.scenarios import find
from sim.scenarios.making import make
from sim.world import run


@pytest.fixture(scope="module")
def full_logs():
    return counted(lambda: run(find("full-logs").draw(0, None)))


def test_counting_changes_nothing_and_leaves_nothing_behind():
    plan = make("test", 3, nodes=2, calm_ms=5_000, count=150)
    before = LWWMap.__dict__["offer"]
    assert counted(lambda: run(plan)).trace == run(plan).trace
    assert LWWMap.__dict__["offer"] is before
    with pytest.raises(ZeroDivisionError), branches():
        _ = 1 / 0
    assert LWWMap.__dict__["offer"] is before


def test_what_makes_a_run_count(full_logs):
    assert rough(full_logs)
    short = full_logs.plan.but(faults=(Fault("cut", 2_000, 3_000, pairs=((0, 1),)),))
    assert not rough(replace(full_logs, plan=short))
    for name, enough in (("keys", 10), ("op delete", 1), ("rule collection", 1)):
        less = {**full_logs.coverage, name: enough - 1}
        assert not rough(replace(full_logs, coverage=less)), name
    few = {name: 70 if name.startswith("op ") else count for name, count in full_logs.coverage.items()}
    assert not rough(replace(full_logs, coverage=few))


def test_the_table_names_everything_and_what_never_was():
    lines = list(table([{"fault cut": 2, "rule O4 taken": 7}, {"fault cut": 1}]))
    assert [line for line in lines if "fault cut" in line] == [f"{'fault cut':48} {3:10} {2:8}"]
    assert [line for line in lines if "rule O4 taken" in line] == [f"{'rule O4 taken':48} {7:10} {1:8}"]
    assert sum(line.endswith("never") for line in lines) == len(lines) - 1 - 2
    assert all(any(f"fault {kind} " in line for line in lines) for kind in KINDS)


def test_a_sweep_prints_it(capsys):
    assert main(["sweep", "calm-sea", "--seeds", "2", "--nodes", "2"]) == 0
    told = capsys.readouterr().out
    assert "2 runs from seed 0, 0 violations, 2 too mild to count" in told
    assert "what happened in the 0 runs that count" in told
    assert "rule C3 rows adopted" in told
