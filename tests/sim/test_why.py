"""The reason why a key was missing: who wrote it, where it was, and what stood in between."""

from __future__ import annotations

from sim import faults
from sim.__main__ import main
from sim.plan import Op
from sim.scenarios.making import make
from sim.why import why


def test_a_cut_is_named(tmp_path, capsys):
    ops = (Op(4_000_000, 0, "put", "k", "v"), Op(9_000_000, 1, "delete", "k"))
    plan = make(
        "test", 0, nodes=3, calm_ms=10_000, count=0, ops=ops, faults=[faults.cut(((0, 2), (1, 2)), 3_000, 7_000, "one")]
    )
    told = "\n".join(why(plan, "k", 2, 5.0))
    assert "n2 at 5.000 s holds nothing" in told
    assert "put v (" in told
    assert "by n0 at 4.000 s" in told
    assert "It was on n0 from 4.000 s, n1 from 4.00" in told
    assert "Meanwhile: one on n0-n2, n1-n2, 3.000 s to 7.000 s." in told
    assert "after it was written" in told
    assert why(plan, "other", 2, 5.0)[-1] == "Nobody had written 'other' by then."
    assert "holds a dead entry, delete" in why(plan, "k", 2, 9.5)[0]
    path = tmp_path / "plan.json"
    plan.write(path)
    assert main(["why", str(path), "--key", "k", "--node", "n2", "--at", "5"]) == 0
    assert "n2 at 5.000 s holds nothing" in capsys.readouterr().out
    assert main(["why", str(path), "--key", "k", "--node", "3", "--at", "5"]) == 64
    assert "no node 3; there are 0..2" in capsys.readouterr().err
