"""Links and members: whom to call and when, which of two links stays, who counts as in use."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

from crdtcache.core.members import Members
from crdtcache.core.messages import MemberRow
from crdtcache.core.outcome import Dial, LinkBroken, PeerDown, PeerGone, PeerUp
from tests.core.world import FAST, HOUR_MS, MS, World

QUICK = replace(FAST, redial_ms=100, redial_patience_ms=2_000, redial_slow_ms=1_000, dial_timeout_ms=50)


def dials(world: World, name: str) -> list[str]:
    found = [event.address for event in world.events[name] if isinstance(event, Dial)]
    world.events[name].clear()
    return found


def dials_within(world: World, name: str, ms: int, *, fail: bool = True) -> list[tuple[int, str]]:
    """What `name` calls in the next `ms`, and when; every call fails at once."""
    found = []
    start = world.now_ms
    while world.now_ms - start < ms:
        world.step(5)
        for address in dials(world, name):
            found.append((world.now_ms - start, address))
            if fail:
                world[name].dial_failed(address, world.reading(name))
    return found


def test_seeds_are_called_at_once_and_again_with_growing_pauses() -> None:
    world = World("a", tuning=QUICK)
    world["a"].learn_seeds(["s1:1", "s2:2"], world.reading("a"))
    calls = dials_within(world, "a", 1_900)
    assert {address for _, address in calls[:2]} == {"s1:1", "s2:2"}
    times = [at for at, address in calls if address == "s1:1"]
    pauses = [b - a for a, b in pairwise(times)]
    assert pauses[0] <= 15
    assert max(pauses) <= 105
    assert len(times) >= 1_900 // 105
    late = dials_within(world, "a", 10_000)  # patience is over
    times = [at for at, address in late if address == "s1:1"]
    pauses = [b - a for a, b in pairwise(times[2:])]
    assert 450 <= min(pauses) <= max(pauses) <= 1_005


def test_a_seed_that_is_dropped_is_called_no_more_often_than_it_was_known() -> None:
    world = World("a", tuning=QUICK)
    world["a"].learn_seeds(["s1:1"], world.reading("a"))
    dials_within(world, "a", 50)
    world["a"].learn_seeds(["s2:1"], world.reading("a"))
    assert "s2:1" in {address for _, address in dials_within(world, "a", 20)}


def test_a_call_that_the_driver_forgot_is_made_again() -> None:
    world = World("a", tuning=QUICK)
    world["a"].learn_seeds(["s:1"], world.reading("a"))
    calls = dials_within(world, "a", 1_300, fail=False)
    assert [address for _, address in calls] == ["s:1"] * 3
    world["a"].dial_failed("never heard of:1", world.reading("a"))


def test_who_answers_as_oneself_is_never_called_again() -> None:
    world = World("a", tuning=QUICK)
    world["a"].learn_seeds(["a:2738"], world.reading("a"))
    world.step(5)
    assert dials(world, "a") == ["a:2738"]
    hello = world["a"].hello(world.reading("a"))
    reason = world["a"].connected(7, hello, world.reading("a"), dialed="a:2738")
    assert reason == "this is the node itself"
    assert dials_within(world, "a", 5_000) == []


def test_other_clusters_and_other_wires_are_refused_by_name() -> None:
    world = World("ab", tuning=QUICK)
    hello = world["b"].hello(world.reading("b"))
    refuse = world["a"].connected
    assert "'other'" in str(refuse(1, hello._replace(cluster="other"), world.reading("a"), dialed="b:2738"))
    assert "7..9" in str(refuse(1, hello._replace(wire_min=7, wire_max=9), world.reading("a")))
    assert "0..0" in str(refuse(1, hello._replace(wire_min=0, wire_max=0), world.reading("a")))
    assert world["a"].peers() == []


def test_one_seed_is_enough_to_meet_everybody() -> None:
    world = World("abc", tuning=QUICK)
    world["a"].learn_seeds(["b:2738"], world.reading("a"))
    world["c"].learn_seeds(["b:2738"], world.reading("c"))
    links: set[frozenset[str]] = set()
    for _ in range(100):
        world.step(5)
        world.carry()
        for name in "abc":
            for address in dials(world, name):
                world.link(name, address[0])
                links.add(frozenset((name, address[0])))
    assert frozenset("ac") in links
    for name in "abc":
        assert [peer.connected for peer in world[name].peers()] == [True, True]


def test_a_lost_member_is_called_again_soon_and_a_succeeded_one_never() -> None:
    world = World("ab", tuning=QUICK)
    world.link("a", "b")
    world.run(600)
    dials(world, "a")
    world.cut("a", "b")
    calls = dials_within(world, "a", 60)
    assert [address for _, address in calls] == ["b:2738"] * len(calls)
    assert calls
    world["b"].map.clock.last = 0
    world.now_ms += 10
    world.add("b", advertise="elsewhere:1")  # a new process of the same name
    world.link("a", "b")
    world.run(50)
    world.cut("a", "b")
    assert {address for _, address in dials_within(world, "a", 1_000)} <= {"elsewhere:1", "b:2738"}
    assert any(peer.address == "elsewhere:1" for peer in world["a"].peers())


def test_a_link_that_ends_soon_after_it_came_up_counts_as_a_call_that_failed() -> None:
    world = World("ab", tuning=QUICK)
    for _ in range(6):
        world.link("a", "b")
        world.step(1)
        world.cut("a", "b")
    dials(world, "a")
    assert [at for at, _ in dials_within(world, "a", 40)] == []


def test_of_two_links_between_two_members_the_smaller_origins_stays() -> None:
    for first in ("small", "great"):
        world = World(origins={"a": 5, "b": 9}, names="ab", tuning=QUICK)
        small, great = world["a"], world["b"]
        hello_small, hello_great = small.hello(world.reading("a")), great.hello(world.reading("b"))
        order = [("small", 1), ("great", 2)] if first == "small" else [("great", 2), ("small", 1)]
        for dialler, number in order:
            for replica, hello, name in ((small, hello_great, "a"), (great, hello_small, "b")):
                mine = (dialler == "small") == (replica is small)
                refused = replica.connected(number, hello, world.reading(name), dialed="x:1" if mine else None)
                assert (refused is None) == (number == 1 or first == "great")
        for replica in (small, great):
            assert list(replica._links) == [1]
            broken = [event.link for event in replica.take_events() if isinstance(event, LinkBroken)]
            assert broken == ([2] if first == "great" else [])
            replica.check()


def test_a_newer_link_of_the_same_dialler_takes_the_place_of_the_older() -> None:
    world = World("ab", tuning=QUICK)
    hello = world["b"].hello(world.reading("b"))
    assert world["a"].connected(1, hello, world.reading("a")) is None
    assert world["a"].connected(2, hello, world.reading("a")) is None
    assert list(world["a"]._links) == [2]
    world["a"].disconnected(1, world.reading("a"))
    assert world["a"].peers()[0].connected
    world["a"].check()


def test_frames_of_links_that_are_gone_are_ignored() -> None:
    world = World("ab")
    world.link("a", "b")
    world.put("a", "k", 1)
    while world.pump("a", "b"):
        pass
    world.cut("a", "b")
    world.deliver_lost()
    assert world.get("b", "k") is None
    assert world["b"].poll(12345, world.reading("b")) is None
    world["b"].disconnected(12345, world.reading("b"))


def test_an_idle_link_says_so_and_a_silent_one_is_given_up() -> None:
    world = World("ab")
    world.link_all()
    world.run(2_000)
    assert ("a", "b") in world.pipes
    for _ in range(60):
        world.step(10)
        world.carry(("a", "b"))  # b hears a; nothing comes back
    assert ("a", "b") not in world.pipes
    reasons = [event.reason for event in world.events["a"] if isinstance(event, LinkBroken)]
    assert reasons[0].startswith("silent for 4")


def test_a_process_that_stood_still_does_not_give_up_on_its_links() -> None:
    """The stall rule: what was said meanwhile has not been read yet."""
    world = World("ab")
    world.link_all()
    world.run(500)
    world.now_ms += 5_000
    for name in "ab":
        world[name].deadline()
    world["a"].advance(world.reading("a"))
    assert not [event for event in world["a"].take_events() if isinstance(event, LinkBroken)]
    world.carry()
    world.run(500)
    assert ("a", "b") in world.pipes


def test_nor_does_one_that_has_something_to_do_at_once() -> None:
    """Kitchen-sink seed 84: what is due at once said that nothing had been due."""
    world = World("ab")
    world.link_all()
    world.run(500)
    world["a"].deadline()
    world["a"].map.clearing = ["k"]
    world.now_ms += 5_000
    assert world["a"].deadline() == 0
    world["a"].advance(world.reading("a"))
    assert not [event for event in world["a"].take_events() if isinstance(event, LinkBroken)]


def test_a_frame_that_is_too_old_is_discarded_and_its_link_opened_anew() -> None:
    world = World("ab")
    world.link_all()
    world.run(100)
    world.put("a", "k", 1)
    world.pump("a", "b")
    for _ in range(FAST.max_frame_age_ms // 10 + 3):
        world.step(10)
        world.carry(("b", "a"))
    world.deliver("a", "b")
    assert world.get("b", "k") is None
    assert world["b"].stats()["frames_old"] == 1
    assert ("a", "b") not in world.pipes
    world.calm()
    assert world.get("b", "k") == 1


def test_monotonic_clocks_may_differ_by_a_thousandth_for_as_long_as_they_like() -> None:
    world = World("ab")
    world.link_all()
    for _ in range(400):
        world.run(1_000, quantum_ms=90)
        world._mono_ms["b"] += 1  # so a's frames look a millisecond older there, each second
    assert FAST.max_frame_age_ms < 400
    assert world["b"].stats()["frames_old"] == world["b"].stats()["links_broken"] == 0


def test_peers_say_how_far_behind_they_are() -> None:
    world = World("ab")
    world.link_all()
    world.run(200)
    [peer] = world["a"].peers()
    assert (peer.name, peer.connected, peer.address) == ("b", True, "b:2738")
    assert peer.lag_ms is not None
    assert peer.lag_ms <= 200
    assert sum(isinstance(event, PeerUp) for event in world.events["a"]) == 1
    world.cut("a", "b")
    assert isinstance(world.events["a"][-1], PeerDown)
    assert world["a"].peers()[0].lag_ms is None  # what it has written since nobody here can know


def test_a_member_that_only_somebody_else_is_connected_to_is_in_use() -> None:
    """Its unseen writes can still come, so the watermark waits for it, also where it cannot be called."""
    world = World("ab", tuning=replace(FAST, gc_hold_ms=300))
    world.add("x", advertise="")
    world.link("a", "b")
    world.link("x", "a")
    world.run(1_000)  # more than gc_hold
    in_use = [member.row.name for member in world["b"].members.in_use(world.reading("b").mono_ns)]
    assert in_use == ["a", "x"]
    assert [peer.connected for peer in world["b"].peers()] == [True, False]
    world.cut_off("x")
    world.run(1_000)
    in_use = [member.row.name for member in world["b"].members.in_use(world.reading("b").mono_ns)]
    assert in_use == ["a"]


def test_who_is_away_is_waited_for_also_by_a_process_that_never_met_it() -> None:
    """Found by a random schedule: a joiner forgot a delete while the writer of an older value was away."""
    world = World("axb", tuning=replace(FAST, gc_hold_ms=5_000))
    world.link_all()
    world.run(100)
    world.cut_off("x")
    world.run(500)
    joiner = world.add("j")
    world.link("j", "a")
    world.run(200)
    in_use = joiner.members.in_use(world.reading("j").mono_ns)
    assert [member.row.name for member in in_use] == ["a", "x", "b"]
    assert joiner.map.context.frontier.keys() >= {world["x"].origin}, "so that the low watermark waits for it"


def test_those_who_tell_each_other_of_one_that_is_away_let_go_of_it() -> None:
    """However often it is told on, and however long each frame travels."""
    world = World("abcx", tuning=replace(FAST, gc_hold_ms=5_000))
    world.link_all()
    world.run(100)
    world.cut_off("x")
    for _ in range(120):  # frames travel for 50 ms, a sixth of the age that they may have
        for source, target in list(world.pipes):
            while world.deliver(source, target):
                pass
            while world.pump(source, target):
                pass
        world.step(50)
    for name in "abc":
        names = [member.row.name for member in world[name].members.in_use(world.reading(name).mono_ns)]
        assert sorted([*names, name]) == ["a", "b", "c"]


def test_who_is_connected_is_in_use_even_if_another_has_taken_its_name() -> None:
    members = Members(1, FAST, random.Random(0))
    world = World("a")
    hello = world["a"].hello(world.reading("a"))
    elder, younger = hello._replace(origin=5), hello._replace(origin=6, generation=hello.generation + 1)
    members.up(elder, 1, 0, None)
    members.up(younger, 2, 0, None)
    assert [member.row.origin for member in members.in_use(HOUR_MS * MS)] == [5, 6]
    members.down(members.known[5], HOUR_MS * MS)
    assert [member.row.origin for member in members.in_use(HOUR_MS * MS)] == [6]
    assert members.rows(HOUR_MS * MS, members.in_use(HOUR_MS * MS)) == [
        MemberRow(6, younger.generation, "a", "default", "", "a:2738", 0)
    ]


def test_stopping_ends_every_link_and_forgets_calls_under_way() -> None:
    world = World("ab")
    world.link_all()
    world["a"].learn_seeds(["s:1"], world.reading("a"))
    world.step(10)
    assert dials(world, "a") == ["s:1"]
    world["a"].stopped(world.reading("a"))
    assert world["a"].stats()["links_up"] == 0
    world["a"].learn_seeds(["s:1"], world.reading("a"))
    world.pipes.clear()
    world.step(200)
    assert "s:1" in dials(world, "a")


def test_a_process_whose_clock_is_behind_that_of_the_one_before_it_succeeds_it_all_the_same() -> None:
    """The generation rule: else nobody would call it, or wait for it."""
    world = World("abc")
    world.link_all()
    world.run(200)
    before = world["b"].generation
    world.add("b", offset_ms=-1_000)
    assert world["b"].generation < before
    world.link("a", "b")
    world.run(300)
    assert world["b"].generation == before + 1
    for name in "ac":
        members = world[name].members
        assert not members.succeeded(members.known[world["b"].origin])


def test_who_leaves_is_not_waited_for_and_is_back_when_it_starts_again() -> None:
    world = World("ab", tuning=replace(FAST, gc_hold_ms=HOUR_MS))
    world.link_all()
    world.run(200)
    world["b"].leave()
    world.carry()
    world.cut("a", "b")
    world["b"].stopped(world.reading("b"))
    assert world["a"].members.in_use(world.reading("a").mono_ns) == []
    assert [peer.standing for peer in world["a"].peers()] == ["left"]
    assert [event.reason for event in world.events["a"] if isinstance(event, PeerGone)] == ["left"]
    world.link("b", "a")
    world.run(100)
    assert [peer.standing for peer in world["a"].peers()] == ["alive"]
    assert len(world["a"].members.in_use(world.reading("a").mono_ns)) == 1


def test_of_a_thousand_that_somebody_else_knows_only_those_worth_a_link_are_called_and_then_a_few_others() -> None:
    world = World("a", tuning=QUICK)
    rng = random.Random(3)
    rows = [MemberRow(rng.randrange(1, 1 << 64), 1, f"n{i}", "default", "", f"n{i}:2738", 0) for i in range(1_000)]
    address = {row.origin: row.advertise for row in rows}
    world["a"].meet(rows, world.reading("a"))
    worth = world["a"].members.mesh
    assert worth is not None
    assert len(worth) <= QUICK.full_mesh
    wanted = {address[origin] for origin in worth}
    assert {called for _, called in dials_within(world, "a", 150, fail=False)} == wanted
    for called in wanted:
        world["a"].dial_failed(called, world.reading("a"))
    others = [called for _, called in dials_within(world, "a", 25, fail=False) if called not in wanted]
    assert 0 < len(others) <= 8
    later = [called for _, called in dials_within(world, "a", 1_000) if called not in wanted]
    assert len(set(later)) > 8, "the same ones again and again"
