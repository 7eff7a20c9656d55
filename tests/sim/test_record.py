"""What a recording says of a run: who was behind, which frames arrived, which writes lost. It changes nothing."""

from __future__ import annotations

import pytest

from crdtcache.core.messages import Slice
from sim import faults
from sim.bench import trace_of
from sim.plan import Fault, Op
from sim.record import record
from sim.scenarios import find
from sim.scenarios.making import make
from sim.world import run

N2_ALONE = faults.cut(((0, 2), (1, 2)), 3_000, 9_000, "one")


def small(ops, wrong=(N2_ALONE,), **more):
    return make("test", 0, nodes=3, calm_ms=10_000, count=0, ops=ops, faults=wrong, **more)


@pytest.mark.parametrize(("name", "seed"), [("kitchen-sink", 3), ("lost-middle", 1)])
def test_recording_changes_nothing(name, seed):
    plan = find(name).draw(seed, None)
    assert record(plan).result.trace == run(plan).trace


def test_who_is_cut_off_is_behind_until_it_heals():
    recording = record(small([Op(4_000_000, 0, "put", "a", "v0"), Op(5_000_000, 1, "put", "b", "v1")]))
    behind = {s.at // 1_000_000: s for s in recording.samples}
    assert behind[3_900].behind == (0, 0, 0)
    assert behind[4_500].behind == (0, 0, 1)
    assert behind[8_900].behind == (0, 0, 2)
    assert behind[8_900].oldest == 4_000_000_000
    assert behind[10_000].behind == (0, 0, 0)
    assert 0 < recording.whole_after(9_000) < 1_000
    assert recording.whole_after(3_500) == 100  # nobody lacks what was written before that: the next sample says so


def test_a_node_without_a_process_is_not_behind():
    gone = Fault("leave", 6_000, 10_000, nodes=(1,))
    recording = record(small([Op(4_000_000, 0, "put", "a", "v0")], [gone], core=(0, 2)))
    assert recording.samples[-1].behind == (0, None, 0)


def test_a_write_that_died_with_its_process_leaves_nobody_behind():
    crash = Fault("crash", 4_010, 5_000, nodes=(2,))
    recording = record(small([Op(4_000_000, 2, "put", "a", "v0")], [N2_ALONE, crash]))
    assert {s.behind for s in recording.samples if s.at > 5_000_000_000} == {(0, 0, 0)}


def test_every_frame_is_seen_to_leave_and_to_arrive():
    recording = record(find("calm-sea").draw(0, 3))
    counts = recording.result.counts
    assert len(recording.passages) == counts["frames_sent"]
    arrived = [p for p in recording.passages if p.arrived >= 0]
    assert len(arrived) == counts["frames_received"]
    assert all(250_000 < p.arrived - p.sent < 60_000_000 for p in arrived)  # half a round trip of 1 ms, and jitter


def test_what_was_in_flight_at_a_reset_never_arrives():
    deaf = Fault("swallow", 3_000, 3_000, pairs=((0, 1),))
    plan = small([Op(3_100_000, 0, "put", "a", "v0")], [deaf])
    lost = [p for p in record(plan).passages if p.arrived < 0 and 3_000_000_000 < p.sent < 3_200_000_000]
    said = [m for p in lost for m in p.messages(plan) if isinstance(m, Slice)]
    assert [item.key for m in said for item in m.items] == ["a"]


class TestConflicts:
    def test_the_later_of_two_that_had_not_seen_each_other_wins(self):
        ops = [Op(4_000_000, 0, "put", "a", "v0"), Op(5_000_000, 2, "put", "a", "v1")]
        recording = record(small(ops))
        assert [(c.lost.value, c.won.value) for c in recording.conflicts] == [("v0", "v1")]

    def test_who_has_seen_it_replaces_it(self):
        ops = [Op(4_000_000, 0, "put", "a", "v0"), Op(5_000_000, 1, "put", "a", "v1")]
        assert record(small(ops)).conflicts == []

    def test_only_the_last_of_each_side_loses(self):
        ops = [
            Op(4_000_000, 0, "put", "a", "v0"),
            Op(4_500_000, 2, "put", "a", "v1"),
            Op(5_000_000, 1, "put", "a", "v2"),
            Op(6_000_000, 2, "delete", "a"),
        ]
        assert [(c.lost.value, c.won.kind) for c in record(small(ops)).conflicts] == [("v2", "delete")]

    def test_a_fast_clock_wins_over_a_later_write(self):
        ops = [Op(4_000_000, 2, "put", "a", "v0"), Op(4_050_000, 0, "put", "a", "v1")]
        recording = record(small(ops, machines={2: {"offset_ms": 140}}))
        assert [(c.lost.value, c.won.value) for c in recording.conflicts] == [("v1", "v0")]


def test_a_trace_is_text_as_well():
    lines = trace_of(small([Op(4_000_000, 0, "put", "a", "v0")]))
    assert any(line.startswith("4.000000000 n0 operation") for line in lines)
    assert any(" fault " in line for line in lines)
