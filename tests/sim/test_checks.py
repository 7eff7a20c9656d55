"""Every invariant can fail: a forged state makes it, and the report says where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crdtcache.core.clock import Clock
from crdtcache.core.entry import dead_entry, live_entry
from crdtcache.core.outcome import Change
from crdtcache.core.removal import prune
from sim.checks.base import Check, Violation
from sim.checks.ending import ENDING, Bounded, Converges, Digests, NothingLost, Quiet
from sim.checks.pruning import Prunes
from sim.checks.safety import (
    SAFETY,
    Accounted,
    Acknowledged,
    Expiry,
    Monotonic,
    NoResurrection,
    NoThinAir,
    Stamps,
)
from sim.checks.upkeep import FrameAge, Stalled, StaysForgotten
from sim.checks.verdicts import Verdicts, bound_ms
from sim.engine import MS
from sim.oracle import Oracle, Write
from sim.plan import Op
from sim.scenarios import find
from sim.scenarios.making import make
from sim.world import World, run


@pytest.fixture
def world() -> World:
    """Two nodes that share `k` and have both deleted `gone`."""
    ops = (
        Op(2_000_000, 0, "put", "k", "v"),
        Op(2_000_000, 0, "put", "gone", "old"),
        Op(2_500_000, 1, "delete", "gone"),
        Op(2_600_000, 0, "put", "brief", "v", 3_000),
    )
    world = World(make("test", 0, nodes=2, calm_ms=4_000, count=0, ops=ops))
    world.prepare()
    world.engine.run(3_000 * MS)
    for check in world.checks:
        check.sample()
    return world


def expect(name: str, call, *arguments) -> None:
    with pytest.raises(Violation) as caught:
        call(*arguments)
    assert caught.value.invariant == name
    assert name in str(caught.value)


def forge(world: World, node: int, key: str, entry) -> None:
    replica = world.nodes[node].replica
    held = replica.store.entries.get(key)
    replica.map.replace(key, entry, held, world.nodes[node].reading(), remote=True)


def check(world: World, kind: type[Check]) -> Check:
    return next(c for c in world.checks if type(c) is kind)


def test_frames_that_are_too_old(world):
    limit = world.plan.tuned().max_frame_age_ms
    check(world, FrameAge).took(world.nodes[0], limit * MS)
    expect("age", check(world, FrameAge).took, world.nodes[0], 2 * limit * MS)


def test_a_link_given_up_with_its_frames_unread(world):
    check(world, Stalled).gave_up(world.nodes[0], 250 * MS)
    expect("I12", check(world, Stalled).gave_up, world.nodes[0], 251 * MS)
    world.nodes[0].service_ns = 3 * MS
    check(world, Stalled).gave_up(world.nodes[0], 265 * MS)
    expect("I12", check(world, Stalled).gave_up, world.nodes[0], 266 * MS)


def test_the_dead_that_come_back(world):
    dead = world.nodes[0].replica.store.entries["gone"]
    world.engine.run(9_000 * MS)
    forge(world, 0, "gone", dead)
    expect("I14", check(world, StaysForgotten).sample)


def test_resurrection(world):
    seen = world.oracle.removals["gone"][0].seen
    forge(world, 0, "gone", live_entry(*seen, 0, "old"))
    expect("I3", check(world, NoResurrection).sample)


def test_what_nobody_wrote(world):
    held = world.nodes[0].replica.store.entries["k"]
    forge(world, 0, "k", (*held[:6], "w"))
    expect("I4", check(world, NoThinAir).sample)
    forge(world, 0, "k", live_entry(1, 2, 0, "v"))
    expect("I4", check(world, NoThinAir).sample)


def test_accounted(world):
    forge(world, 1, "k", None)
    expect("I6", check(world, Accounted).sample)


def test_what_a_peer_is_believed_to_have(world):
    one, other = (node.replica for node in world.nodes)
    one.known_of(other.origin)[one.origin] = 1 + other.map.context.frontier[one.origin]
    expect("I5", check(world, Acknowledged).sample)


def test_stamps_that_repeat(world):
    write = world.oracle.winner("k")
    expect("I7", check(world, Stamps).wrote, world.nodes[0], write)


def test_a_frontier_beyond_the_drift(world):
    world.nodes[0].replica.map.context.frontier[5] = (world.unix_ms + 5_000) << 16
    expect("I7", check(world, Stamps).sample)


def test_dead_before_its_time(world):
    held = world.nodes[0].replica.store.entries["brief"]
    forge(world, 0, "brief", (*held[:5], 2, None))
    expect("I10", check(world, Expiry).sample)


def test_dead_without_a_reason(world):
    held = world.nodes[1].replica.store.entries["k"]
    forge(world, 1, "k", (*held[:5], 2, None))
    expect("I10", check(world, Expiry).sample)


def test_dead_by_a_lease_that_everybody_knows_to_be_replaced():
    ops = (Op(2_000_000, 0, "put", "k", "v", 2_000), Op(2_500_000, 1, "touch", "k", "", 60_000))
    for seconds, what in ((5, None), (11, "I10")):
        world = World(make("test", 0, nodes=2, calm_ms=20_000, count=0, ops=ops))
        world.prepare()
        world.engine.run(seconds * 1_000 * MS)
        held = world.nodes[0].replica.store.entries["k"]
        forge(world, 0, "k", (*held[:5], 2, None))
        if what is None:  # a frame that does not know of the touch may still have been on its way
            check(world, Expiry).sample()
        else:
            expect(what, check(world, Expiry).sample)


def test_served_after_its_time(world):
    node = world.nodes[0]
    entry = live_entry(1, 2, node.reading().wall_ms - 1, "v")
    expect("I10", check(world, Expiry).read, node, "k", entry, node.reading())


def test_reads_that_go_back(world):
    node, watch = world.nodes[0], check(world, Monotonic)
    watch.changed(node, Change("set", "k", live_entry(9, 1, 0, "new"), None, remote=True))
    old = live_entry(8, 1, 0, "old")
    expect("I13", watch.read, node, "k", old, node.reading())
    lapsed = replace(world.oracle.winner("k"), version=(10, 2), leases=[(10, 2, world.unix_ms - 1)])
    world.oracle.wrote(lapsed)
    watch.read(node, "k", old, node.reading())  # what was shown before had been beaten by what has lapsed since


def test_digests_that_lie(world):
    digest = world.nodes[0].replica.map.digest
    digest.fold()
    digest.sums[7] += 1
    expect("I2", check(world, Digests).final)


def test_lost_values_and_values_from_nowhere(world):
    world.engine.run(7_000 * MS)
    for node in (0, 1):
        forge(world, node, "k", None)
    expect("I4", check(world, NothingLost).final)
    for node in (0, 1):
        forge(world, node, "k", live_entry(world.nodes[0].replica.map.clock.last, 5, 0, "x"))
    expect("I4", check(world, NothingLost).final)


def test_an_own_delete_that_is_forgotten_is_no_loss(world):
    world.engine.run(9_000 * MS)
    assert "gone" not in world.nodes[0].replica.store.entries
    check(world, NothingLost).final()


@pytest.mark.parametrize("held", [False, True])
def test_a_write_that_a_fast_clock_had_beaten_is_lost_only_where_somebody_still_held_it(world, held):
    world.engine.run(7_000 * MS)
    oracle, put = world.oracle, world.oracle.winner("k")
    stamp, origin = put.version
    fast, beaten, again = ((stamp + after, origin) for after in (5_000 << 16, 10, 5))
    oracle.wrote(replace(put, version=fast))
    oracle.wrote(replace(put, version=beaten))
    entry = live_entry(*again, 0, "v")
    oracle.stamp_again(fast, entry, (put.node, put.process), {beaten} if held else ())
    for node in (0, 1):
        forge(world, node, "k", entry)
    if held:
        expect("I4", check(world, NothingLost).final)
    else:
        check(world, NothingLost).final()


def test_bounds(world):
    world.nodes[0].replica.map.context.frontier.update(dict.fromkeys(range(5), 1))
    expect("I8", check(world, Bounded).sample)


def test_a_row_of_somebody_connected_that_is_pruned(world):
    prunes = check(world, Prunes)
    prunes._never = False
    prunes.sample()
    here, there = (node.replica for node in world.nodes[:2])
    prune(here.map, [], here.map.clock.last, [])
    prunes.sample()
    assert not world.oracle.waived, "all is known here"
    unheard = (here.map.clock.last + 1, 77)
    world.oracle.wrote(replace(world.oracle.winner("k"), version=unheard))
    prune(here.map, [], unheard[0], [])
    prunes.final()
    assert world.oracle.waived == {unheard}, "also what was pruned since the last sample"
    prune(here.map, [there.origin], 1, [])
    expect("I8", prunes.sample)


def test_the_dead_that_stay(world):
    for queue in ("lapsed", "deleted"):
        held = world.nodes[0].replica.map
        getattr(held, queue).update(dict.fromkeys(held.store.entries, -(10**12)))
        with_a_share = queue == "deleted"
        if with_a_share:
            held.lapsed.clear()
            check(world, Bounded).sample()
            check(world, Bounded)._tuning = replace(world.plan.tuned(), dead_share=0.001)
        check(world, Bounded).sample()  # there may have been no room for their dots until now
        expect("I8", check(world, Bounded).sample)


def test_noise_when_all_agree(world):
    quiet = check(world, Quiet)
    quiet.converged()
    world.nodes[0].replica._counts["entries_sent"] += 1
    expect("I14", quiet.final)


def test_the_dead_that_are_collected_meanwhile_may_cross_once(world):
    quiet = check(world, Quiet)
    quiet.converged()
    quiet._dead[0].add((1, 2))
    world.nodes[0].replica._counts["entries_sent"] += 1
    quiet.final()
    world.nodes[0].replica._counts["entries_sent"] += 1
    expect("I14", quiet.final)


def test_a_gap_that_is_wanted_although_nothing_has_expired_meanwhile(world):
    quiet = check(world, Quiet)
    quiet.converged()
    world.nodes[0].replica._gaps.want(77, 1, 0)
    expect("I14", quiet.final)
    forge(world, 0, "k", dead_entry(1, 2))
    quiet.final()


def test_not_converged(world):
    forge(world, 1, "k", dead_entry(1, 2))
    assert world.unsettled() == "maps differ"
    assert "shows nothing" in str(Converges(world).failure())


def test_every_check_is_made_to_fail_here():
    text = Path(__file__).read_text()
    assert [kind.__name__ for kind in (*SAFETY, *ENDING) if f", {kind.__name__})" not in text] == []


def test_an_exception_of_the_core_is_a_violation(monkeypatch):
    def broken(self, wall_ms, above=0):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(Clock, "issue", broken)
    result = run(find("calm-sea").draw(0, 2))
    assert result.violation.invariant == "raised"
    assert "ZeroDivisionError: planted" in str(result.violation)


class TestOracle:
    def write(self, version, **more) -> Write:
        given = {"kind": "put", "key": "k", "value": "", "node": 0, "process": 1, "at": 0, "seen": None, **more}
        return Write(version, **given)

    def test_the_greatest_version_wins_whatever_the_order(self):
        oracle = Oracle()
        for stamp in (5, 9, 7):
            oracle.wrote(self.write((stamp, 1)))
        assert oracle.winner("k").version == (9, 1)
        assert oracle.winner("other") is None

    def test_what_a_delete_had_seen(self):
        delete = self.write((9, 1), kind="delete", seen=(7, 3), frontier={2: 5})
        assert delete.had_seen((7, 3))
        assert delete.had_seen((5, 2))
        assert not delete.had_seen((6, 2))
        assert not delete.had_seen((10, 3))

    def test_who_is_set_back_takes_back_what_nobody_has_believed(self):
        """Kitchen-sink seed 208: its clear was on its way still, and stood with all the others in the end."""
        for believed, winner in ((False, (5, 1)), (True, (7, 1))):
            oracle = Oracle()
            for stamp in (5, 7):
                oracle.wrote(self.write((stamp, 1)))
            oracle.cleared((8, 1), 0, 1)
            oracle.take_back(1, 6, (4, 3), lambda _, believed=believed: believed)
            assert oracle.clears == [((8, 1), 0, 1), ((4, 3), 0, 1)]
            assert oracle.taken_back == [(8, 1)]
            assert oracle.winner("k").version == winner
            assert oracle.waived == ({(7, 1)} if believed else set()), "who believed it may be gone (seed 10004266)"

    def test_leases(self):
        oracle = Oracle()
        write = self.write((5, 1))
        write.leases.append((5, 1, 1_000))
        oracle.wrote(write)
        oracle.touched((5, 1), 8, 2, 3_000)
        assert write.expires_ms() == 3_000
        assert write.may_lapse_by(1_000)
        assert not write.may_lapse_by(999)


def test_i12_somebody_well_held_to_be_gone(world):
    verdicts = check(world, Verdicts)
    here, there = world.nodes
    expect("I12", verdicts.judged, here, there.replica.origin, "down", 0)
    verdicts.judged(here, 12345, "down", 0)
    member = here.replica.members.known[there.replica.origin]
    verdicts.final()
    member.claim = member.claim._replace(standing=2)
    expect("I12", verdicts.final)


def test_i12_somebody_gone_held_to_be_alive(world):
    verdicts = check(world, Verdicts)
    there = world.nodes[1]
    verdicts.sample()
    there.stop()
    verdicts.final()
    world.engine.now += (bound_ms(world) + 1) * MS
    expect("I12", verdicts.final)
