"""Each fault does what it says: watched from outside, on two or three nodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sim import faults
from sim.engine import MS
from sim.faults import KINDS
from sim.network import read_matrix
from sim.plan import Fault, Op
from sim.scenarios.making import make, rng_of
from sim.world import World


def world_of(*wrong: Fault, nodes: int = 2, ops: tuple[Op, ...] = (), calm_ms: int = 10_000) -> World:
    plan = make("test", 0, nodes=nodes, calm_ms=calm_ms, count=0, faults=wrong, ops=ops)
    plan = plan.but(machines=tuple(replace(m, listening=True) for m in plan.machines))
    world = World(plan)
    world.prepare()
    return world


def run_to(world: World, ms: int) -> None:
    world.engine.run(ms * MS)


def shows(world: World, node: int, key: str) -> object:
    at = world.nodes[node]
    entry = at.replica.entry(key, at.reading()) if at.replica else None
    return entry[6] if entry else None


def links(world: World, node: int) -> int:
    return world.nodes[node].replica.stats()["links_up"]


def put(ms: int, node: int, value: str, key: str = "k") -> Op:
    return Op(ms * 1_000, node, "put", key, value)


def test_without_faults_a_write_arrives_within_a_round_trip():
    world = world_of(ops=(put(2_000, 0, "v"),))
    run_to(world, 1_999)
    assert links(world, 0) == links(world, 1) == 1
    run_to(world, 2_003)
    assert shows(world, 1, "k") == "v"


def test_a_short_cut_stalls_both_directions_and_loses_nothing():
    ops = (put(2_100, 0, "a", "x"), put(2_100, 1, "b", "y"))
    world = world_of(faults.cut(((0, 1),), 2_000, 2_500), ops=ops)
    run_to(world, 2_490)
    assert shows(world, 1, "x") is None is shows(world, 0, "y")
    run_to(world, 3_000)
    assert (shows(world, 1, "x"), shows(world, 0, "y")) == ("a", "b")
    assert world.nodes[0].replica.stats()["links_broken"] == 0


def test_a_long_cut_ends_the_link_by_silence_and_it_comes_back():
    world = world_of(faults.cut(((0, 1),), 2_000, 5_000), ops=(put(3_500, 0, "v"),))
    run_to(world, 4_000)
    assert links(world, 0) == links(world, 1) == 0
    run_to(world, 4_990)
    assert shows(world, 1, "k") is None
    run_to(world, 7_000)
    assert shows(world, 1, "k") == "v"


def test_cuts_add_up():
    world = world_of(faults.cut(((0, 1),), 2_000, 6_000), faults.cut(((0, 1),), 3_000, 4_000))
    run_to(world, 5_900)
    assert world.network.blocked(*world.nodes)
    run_to(world, 6_100)
    assert not world.network.blocked(*world.nodes)


def test_a_reset_loses_what_is_in_flight_and_both_learn_of_it():
    delay = Fault("delay", 1_900, 2_100, pairs=((0, 1),), amount=200)
    reset = Fault("reset", 2_050, 2_050, pairs=((0, 1),))
    world = world_of(delay, reset, ops=(put(2_000, 0, "v"),))
    run_to(world, 2_060)
    assert links(world, 0) == links(world, 1) == 0
    run_to(world, 4_000)
    assert shows(world, 1, "k") == "v"
    assert world.nodes[1].replica.stats()["pulls"] > 0


def test_a_swallowed_link_is_found_out_by_silence():
    world = world_of(Fault("swallow", 2_000, 2_000, pairs=((0, 1),)), ops=(put(2_010, 0, "v"),))
    run_to(world, 2_700)
    assert links(world, 0) == 1
    assert shows(world, 1, "k") is None
    run_to(world, 4_500)
    assert shows(world, 1, "k") == "v"


def test_delay_and_loss_hold_frames_up():
    delay = Fault("delay", 1_990, 3_000, pairs=((0, 1),), amount=300)
    world = world_of(delay, ops=(put(2_000, 0, "v"),))
    run_to(world, 2_290)
    assert shows(world, 1, "k") is None
    run_to(world, 2_310)
    assert shows(world, 1, "k") == "v"
    loss = Fault("loss", 1_990, 2_100, pairs=((0, 1),), amount=999_999)
    world = world_of(loss, ops=(put(2_000, 0, "v"),))
    run_to(world, 2_190)
    assert shows(world, 1, "k") is None


def test_bandwidth_limits_bytes_and_not_what_is_first():
    ops = tuple(put(2_000, 0, "x" * 1_000, f"k{i}") for i in range(20))
    world = world_of(Fault("bandwidth", 1_000, 9_000, pairs=((0, 1),), amount=10_000), ops=ops)
    run_to(world, 3_000)
    arrived = sum(shows(world, 1, f"k{i}") is not None for i in range(20))
    assert 3 <= arrived <= 12
    run_to(world, 6_000)
    assert all(shows(world, 1, f"k{i}") for i in range(20))


def test_pause_and_slow():
    pause = Fault("pause", 2_000, 2_600, nodes=(1,))
    world = world_of(pause, ops=(put(2_100, 0, "v"),))
    run_to(world, 2_590)
    assert shows(world, 1, "k") is None
    run_to(world, 2_610)
    assert shows(world, 1, "k") == "v"
    slow = Fault("slow", 1_900, 4_000, nodes=(1,), amount=50_000)
    world = world_of(slow, ops=tuple(put(2_000 + i, 0, f"v{i}", f"k{i}") for i in range(20)))
    run_to(world, 2_100)
    assert shows(world, 1, "k19") is None
    run_to(world, 6_000)
    assert shows(world, 1, "k19") == "v19"


@pytest.mark.parametrize("kind", ["crash", "power"])
def test_a_crash_forgets_everything_and_comes_back_as_somebody_else(kind):
    world = world_of(Fault(kind, 3_000, 4_000, nodes=(1,)), ops=(put(2_000, 0, "v"), put(2_999, 1, "w", "lost")))
    run_to(world, 2_500)
    origin = world.nodes[1].replica.origin
    run_to(world, 3_100)
    assert world.nodes[1].replica is None
    assert links(world, 0) == (0 if kind == "crash" else 1)
    run_to(world, 4_001)
    assert world.nodes[1].replica.origin != origin
    assert not world.nodes[1].replica.store.entries
    run_to(world, 7_000)
    assert shows(world, 1, "k") == "v"


def test_leaving_is_for_good_and_refusals_end():
    world = world_of(Fault("leave", 2_000, 2_000, nodes=(1,)), Fault("crash", 3_000, 4_000, nodes=(1,)))
    run_to(world, 6_000)
    assert world.nodes[1].replica is None
    refuse = Fault("refuse", 0, 3_000, nodes=(0, 1))
    world = world_of(refuse)
    run_to(world, 2_900)
    assert links(world, 0) == 0
    run_to(world, 5_000)
    assert links(world, 0) == 1


def test_clocks_that_step_and_lie():
    step = Fault("step", 2_000, 3_000, nodes=(0,), amount=700)
    rogue = Fault("rogue", 4_000, 5_000, nodes=(1,), amount=-5_000)
    world = world_of(step, rogue)
    run_to(world, 2_500)
    assert world.nodes[0].clock.error_ms(world.now) == 700
    run_to(world, 4_500)
    assert [n.clock.error_ms(world.now) for n in world.nodes] == [0, -5_000]
    process = world.nodes[1].process
    run_to(world, 5_100)
    assert world.nodes[1].clock.error_ms(world.now) == 0
    assert world.nodes[1].process == process + 1


def test_a_jump_is_for_good_and_a_drift_until_its_end():
    jump = Fault("jump", 2_000, 2_000, nodes=(0,), amount=-700)
    world = world_of(jump, Fault("drift", 2_000, 4_000, nodes=(1,), amount=50_000))
    run_to(world, 3_000)
    assert [n.clock.error_ms(world.now) for n in world.nodes] == [-700, 50]
    run_to(world, 5_000)
    assert [n.clock.error_ms(world.now) for n in world.nodes] == [-700, 0]


def test_a_wrong_clock_is_set_right_and_its_process_goes_on():
    world = world_of(Fault("wrong", 2_000, 4_000, nodes=(1,), amount=600_000))
    run_to(world, 3_000)
    assert world.nodes[1].clock.error_ms(world.now) == 600_000
    run_to(world, 5_000)
    assert world.nodes[1].clock.error_ms(world.now) == 0
    assert world.nodes[1].processes == 1


def test_memory_runs_short_for_a_while():
    ops = tuple(put(2_000 + i, 0, "v", f"k{i}") for i in range(20))
    world = world_of(Fault("memory", 1_000, 5_000, nodes=(0,), amount=5), ops=ops)
    run_to(world, 3_000)
    assert world.nodes[0].replica.store.live <= 5
    assert world.nodes[0].replica.digest() == world.nodes[1].replica.digest()


def test_every_kind_is_tested_here():
    text = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text and f"faults.{kind}(" not in text] == []


class TestShapes:
    def test_each_cuts_somebody_off(self):
        for name, shape in faults.SHAPES.items():
            for seed in range(20):
                pairs = shape(5, rng_of(name, seed))
                assert all(0 <= a < b < 5 for a, b in pairs)
                assert len(set(pairs)) == len(pairs)

    def test_a_bridge_reaches_both_sides_and_a_ring_two_neighbours(self):
        cut = faults.bridge(5, rng_of("bridge", 1))
        reach = {n: sum(n not in pair for pair in faults.all_pairs(5) if pair in cut) for n in range(5)}
        assert len(cut) == 4
        assert reach
        ring = faults.ring(5, rng_of("ring", 1))
        assert len(ring) == 10 - 5


def test_a_matrix_of_pings(tmp_path):
    path = tmp_path / "pings.csv"
    path.write_text("from,eu,us\neu,1,85\nus,85,1\n")
    assert read_matrix(path) == (["eu", "us"], [[1.0, 85.0], [85.0, 1.0]])
    for text, complaint in (
        ("from,eu,us\neu,1\nus,85,1\n", "line 2: 2 fields; 3 are due"),
        ("from,eu\neu,fast\n", "line 2: .*: round trips are numbers"),
        ("from,eu\n\neu,-1\n", "line 3: .*: round trips are 0 ms or more"),
        ("from,eu\neu,nan\n", "line 2: .*: round trips are 0 ms or more, and finite"),
        ("from,eu,us\nus,1,2\neu,2,1\n", "line 2: the row of 'us'; that of 'eu' is due"),
        ("from,eu,us\neu,1,2\n", "1 rows for 2 regions"),
        ("from\n", "line 1: a word and then the name of each region"),
        ("", "line 1: a word and then the name of each region"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=complaint):
            read_matrix(path)
