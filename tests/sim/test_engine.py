"""Time, luck and clocks: one order, one hash, and numbers that depend on nothing but what they are for."""

from __future__ import annotations

import random

from sim.__main__ import main
from sim.clocks import EPOCH_MS, MachineClock
from sim.engine import MS, SECOND, Code, Engine, Rank
from sim.rand import CoreRandom, Luck


def test_calls_are_made_by_time_then_rank_then_order():
    engine, made = Engine(), []
    engine.at(20, Rank.DELIVER, made.append, "later")
    engine.at(10, Rank.OPERATION, made.append, "operation")
    engine.at(10, Rank.HEAL, made.append, "heal")
    engine.at(10, Rank.DELIVER, made.append, "first frame")
    engine.at(10, Rank.DELIVER, made.append, "second frame")
    engine.run(15)
    assert made == ["heal", "first frame", "second frame", "operation"]
    assert engine.now == 15
    engine.run(20)
    assert made[-1] == "later"


def test_the_trace_hash_is_over_everything():
    def trace(payload: bytes, node: int) -> str:
        engine = Engine()
        engine.note(Code.RECEIVE, node, 7, payload)
        return engine.trace()

    assert trace(b"a", 1) == trace(b"a", 1)
    assert len({trace(b"a", 1), trace(b"b", 1), trace(b"a", 2)}) == 3


def test_luck_depends_on_what_it_decides_only():
    luck = Luck(5)
    first = luck.number(1, 2, 3, 4)
    for i in range(100):
        luck.number(9, i)
    assert luck.number(1, 2, 3, 4) == first != Luck(6).number(1, 2, 3, 4)


def test_the_core_draws_the_same_for_the_same_occasion():
    rng = CoreRandom(Luck(1), 0, 1)
    rng.rekey(2, 1_000)
    drawn = [rng.random(), rng.uniform(1, 2), rng.choice(range(100)), rng.getrandbits(80)]
    rng.rekey(2, 1_001)
    assert rng.random() != drawn[0]
    rng.rekey(2, 1_000)
    assert [rng.random(), rng.uniform(1, 2), rng.choice(range(100)), rng.getrandbits(80)] == drawn
    assert isinstance(rng, random.Random)


def test_core_random_is_spread_evenly():
    rng = CoreRandom(Luck(3), 1, 1)
    rng.rekey(1, 1)
    numbers = [rng.random() for _ in range(4_000)]
    assert 0.48 < sum(numbers) / len(numbers) < 0.52
    assert 0 <= min(numbers) < 0.01
    assert 0.99 < max(numbers) < 1


class TestClocks:
    def test_drift_step_freeze_and_right_again(self):
        clock = MachineClock(0, offset_ms=10, drift_ppm=1_000)
        assert clock.reading(0).wall_ms == EPOCH_MS + 10
        assert clock.error_ms(10 * SECOND) == 20
        clock.step(10 * SECOND, -500)
        assert clock.error_ms(10 * SECOND) == -480
        clock.drift(10 * SECOND, -1_000_000)
        assert clock.reading(12 * SECOND).wall_ms == clock.reading(10 * SECOND).wall_ms
        clock.set_right(12 * SECOND)
        assert clock.error_ms(12 * SECOND) == 0

    def test_the_monotonic_clock_is_the_machines_own_and_never_steps(self):
        clock, other = MachineClock(0), MachineClock(1)
        before = clock.reading(5 * MS).mono_ns
        clock.step(5 * MS, -86_400_000)
        assert clock.reading(6 * MS).mono_ns == before + MS
        assert abs(other.reading(0).mono_ns - clock.reading(0).mono_ns) > 1_000 * SECOND


class TestDoctor:
    def test_the_same_in_two_processes_with_different_hash_seeds(self, capsys):
        assert main(["doctor", "full-logs", "--seeds", "2"]) == 0
        assert "2 seeds went the same way" in capsys.readouterr().out

    def test_what_hangs_on_the_hash_seed_is_noticed(self, capsys, monkeypatch):
        monkeypatch.setattr("sim.doctor._PROGRAM", "import sys\nfor n in range(int(sys.argv[2])): print(hash(str(n)))")
        assert main(["doctor", "full-logs", "--seeds", "3"]) == 3
        assert "seed 0 went two ways in two processes, and 2 others did" in capsys.readouterr().out
