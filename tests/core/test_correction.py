"""A clock that is wrong is corrected by its peers': lines, the median, jumps, and a future that is taken back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtcache.core.clock import Reading, stamp_ms
from crdtcache.core.correction import Correction, Line
from crdtcache.core.entry import DEAD, STATE, VALUE, live_entry
from crdtcache.core.lwwmap import Verdict
from crdtcache.core.replica import Replica
from crdtcache.core.rewind import rewind
from crdtcache.tuning import Tuning
from tests.core.world import FAST, WALL_MS, Stubborn, World

MINUTES_MS = 600_000
DAY_MS = 86_400_000
BAD = [MINUTES_MS, -MINUTES_MS]
LONG = replace(FAST, log_records=1_000)
CLUSTERS = ["ab", "abc", "abcde"]


def error_ms(world: World, name: str) -> int:
    """How far the time that a replica goes by is from the true one."""
    return world.wall_ms(name) - WALL_MS - world.now_ms


def met(names: str, **arguments: object) -> World:
    world = World(names, corrected=True, tuning=LONG, **arguments)  # type: ignore[arg-type]
    world.calm()
    return world


# ---- the promise ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", CLUSTERS)
def test_a_clock_ten_minutes_fast_then_slow_kills_nothing_and_loses_nothing(names: str) -> None:
    world = met(names)
    bad, good = names[0], names[1]
    expected = {}
    for minute, off in enumerate([*BAD, 0]):
        world.offset_ms[bad] = off
        for name in names:
            world.put(name, f"{minute}{name}", name)
            world.put(name, f"{minute}{name} brief", name, ttl_ms=60_000)
            expected |= {f"{minute}{name}": name, f"{minute}{name} brief": name}
        world.put(bad, "contested", "before")
        world.run(20)
        world.put(good, "contested", f"after {minute}")
        world.run(1_000)
        assert abs(error_ms(world, bad)) <= FAST.max_drift_ms
        assert bool(world[bad].correction.reason) == (off != 0)
    world.calm()
    for name in names:
        assert {key: world.get(name, key) for key in expected} == expected
        assert world.get(name, "contested") == "after 2"
    assert all(world[name].stats()["rejected"] == world[name].stats()["begun_anew"] == 0 for name in names)
    world.check()


@pytest.mark.parametrize("off", BAD)
@pytest.mark.parametrize("names", CLUSTERS[1:])
def test_who_starts_with_a_wrong_clock_takes_the_time_of_the_others(names: str, off: int) -> None:
    world = World(names, corrected=True, tuning=LONG, offsets={names[-1]: off})
    *good, bad = names
    for name in good:
        world.put(name, f"{name} brief", 1, ttl_ms=60_000)
        world.put(name, "contested", name)
    world.put(bad, "own", "mine")
    world.put(bad, "contested", "bad")
    world.step(50)
    world.put(good[0], "contested", "newest")
    for name in good[1:]:  # the good ones have met before
        world.link(good[0], name)
    world.run(500)
    world.calm()
    assert abs(error_ms(world, bad)) <= FAST.max_drift_ms
    for name in names:
        assert world.get(name, "contested") == "newest"
        assert world.get(name, "own") == "mine"
        assert [world.get(name, f"{other} brief") for other in good] == [1] * len(good)
        assert world[name].map.clock.last >> 16 <= WALL_MS + world.now_ms + FAST.max_drift_ms
    assert world[bad].stats()["begun_anew"] == (off > 0)
    world.offset_ms[bad] = 0
    world.run(1_000)
    assert world[bad].correction.ms == 0
    assert world[bad].correction.reason == ""
    world.check()


def test_of_two_that_meet_with_different_clocks_the_younger_takes_the_time_of_the_older() -> None:
    world = World("a", corrected=True, tuning=LONG)
    world.run(1_000)
    world.add("b", offset_ms=MINUTES_MS)
    world.put("b", "own", 1)
    world.calm()
    assert abs(error_ms(world, "b")) <= FAST.max_drift_ms
    assert error_ms(world, "a") == 0
    assert world.get("a", "own") == 1
    world.run(1_000)  # who was called knows it from the first answer
    assert all("peer" in world[name].correction.reason for name in "ab"), "both say so"
    world.offset_ms["b"] = 0
    world.run(1_000)
    assert [world[name].correction.reason for name in "ab"] == ["", ""]


# ---- jumps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", CLUSTERS)
def test_a_jump_that_all_clocks_make_is_confirmed(names: str) -> None:
    world = met(names)
    for name in names:
        world.offset_ms[name] += 3_600_000  # the host of all of them was suspended
    assert [error_ms(world, name) for name in names] == [0] * len(names), "not at once"
    world.run(1_000)
    assert [error_ms(world, name) for name in names] == [3_600_000] * len(names)


def test_a_plain_write_does_not_believe_a_jump_either() -> None:
    """It looks at the wall clock alone: it took a future, and the next reading took the whole replica back."""
    world = met("ab")
    world.write("a", "before", 1)
    world.offset_ms["a"] += MINUTES_MS
    assert world.write("a", "k", 1)[0] >> 16 <= WALL_MS + world.now_ms + FAST.max_drift_ms
    world.run(100)
    assert world.get("b", "k") == 1
    assert world["a"].stats()["begun_anew"] == 0


def test_who_has_no_peers_believes_its_clock() -> None:
    world = World("a", corrected=True, seeded=True)
    world.offset_ms["a"] += MINUTES_MS
    world.run(100)
    assert error_ms(world, "a") == MINUTES_MS
    world.offset_ms["a"] -= MINUTES_MS
    world.put("a", "k", 1)
    world.run(100)
    assert world["a"].stats()["begun_anew"] == 0


def test_a_jump_is_seen_by_whoever_reads_the_clock_first_and_only_once() -> None:
    clock = Correction(1_000, Reading(50_000, 0))
    clock.holds = True
    ahead = Reading(650_000, 1_000_000)
    assert [clock.now(ahead).wall_ms for _ in range(3)] == [50_001] * 3
    assert clock.now(Reading(50_003, 3_000_000)).wall_ms == 50_003, "a reading of before the jump that comes late"
    assert clock.now(Reading(650_003, 4_000_000)).wall_ms == 50_003 + 1


# ---- what is known of a clock ---------------------------------------------------------------------------------------


def test_a_message_that_was_late_is_no_slow_clock() -> None:
    world = met("abc")
    for _ in range(60):  # everything takes 150 ms more, and max_drift is 200
        for target in "bc":
            world.pump("a", target)
            world.pump(target, "a")
        world.step(150)
        for target in "bc":
            world.deliver("a", target)
            world.deliver(target, "a")
    assert [world[name].correction.ms for name in "abc"] == [0, 0, 0]


def test_the_better_look_stays_until_it_is_too_old_or_the_clock_has_moved() -> None:
    good = Line(100, 100, 2, 0)
    assert good.followed_by(Line(60, 60, 50, 1_000_000)) is good
    later = Line(60, 60, 50, 60_000_000_000)
    assert good.followed_by(later) == later
    moved = Line(400, 400, 50, 1_000_000)
    assert good.followed_by(moved) == moved._replace(moved=True)


@pytest.mark.parametrize(
    ("others", "moved"),
    [
        ([], 0),
        ([(False, 700)], 0),  # the older of two goes on
        ([(True, 700)], 700),
        ([(True, 400)], 0),  # within max_drift / 2
        ([(True, 700), (False, 700)], 700),
        ([(True, 700), (True, -700)], 0),  # it is the median itself
        ([(True, 700), (True, 710), (True, 0), (True, 2)], 0),
        ([(False, -900), (False, -800), (False, -700), (False, 5)], -700),
    ],
)
def test_the_median_of_all_clocks_and_of_two_the_older_ones(others: list[tuple[bool, int]], moved: int) -> None:
    clock = Correction(1_000, Reading(10_000, 0))
    assert clock.judge([(older, Line(10_000 + off, 10_000 + off, 1, 0)) for older, off in others], 0) == moved
    assert clock.ms == moved


def test_a_clock_at_the_threshold_is_not_corrected_and_believed_in_turns() -> None:
    clock = Correction(1_000, Reading(10_000, 0))
    looks = [[(True, Line(10_000 + off, 10_000 + off, 1, 0))] * 2 for off in (510, 490, 300, 260, 240, 510, -400)]
    assert [(clock.judge(peers, 0), clock.ms)[1] for peers in looks] == [510, 510, 510, 510, 0, 510, 0]


def test_what_a_clock_was_talked_into_ends_once_its_only_peer_is_younger_and_nearer_without_it() -> None:
    clock = Correction(1_000, Reading(10_000, 0))
    assert clock.judge([(True, Line(-18_000, -18_000, 1, 0))], 0) == -28_000
    # The peer has started again, with a clock that is neither right nor 28 s off, and follows whom it has met.
    assert clock.judge([(False, Line(11_700, -18_000, 1, 0))], 0) == 28_000
    assert clock.judge([(False, Line(11_700, 11_700, 1, 0))], 0) == 0


def test_the_only_peer_that_is_left_talks_nobody_into_what_others_have_contradicted() -> None:
    world = met("abcd", origins={"a": 1})  # a counts as the oldest
    for name in "cd":
        world.cut_off(name)
    world.kind = Stubborn
    world.add("a", offset_ms=-MINUTES_MS)
    world.link("a", "b")
    world.run(2_000)
    assert error_ms(world, "b") == 0
    assert world["b"].correction.reason == ""


def test_whoever_was_talked_into_yesterday_hears_what_time_it_is() -> None:
    """Before the clocks of a link are compared, nothing that it says of today breaks it (kitchen-sink, seed 50664)."""
    world = met("abc")
    for other in "bc":
        world.cut("a", other)
    for member in world["a"].members.known.values():
        assert member.line is not None
        member.line = member.line._replace(plain=member.line.plain - DAY_MS, used=member.line.used - DAY_MS)
    world["a"].correction.state = world["a"].correction.state[0], -DAY_MS
    world["b"].clear(world.reading("b"))
    world.run(100)
    for other in "bc":
        world.link("a", other)
    world.run(2_000)
    assert world["a"].correction.ms == 0
    assert world["a"].stats()["links_broken"] <= 2, "who begins anew does so on new links"
    world.calm()


@pytest.mark.parametrize("off", BAD)
def test_a_jump_of_the_only_peer_is_not_followed_even_if_it_believes_itself(off: int) -> None:
    world = World("", corrected=True, tuning=LONG)
    world.kind = Stubborn
    world.add("a")
    world.run(100)
    world.kind = Replica
    world.add("b")
    world.put("b", "brief", 1, ttl_ms=60_000)
    world.calm()
    world.offset_ms["a"] = off
    world.run(2_000)
    assert error_ms(world, "b") == 0
    assert world["b"].correction.reason
    assert world.get("b", "brief") == 1
    world.offset_ms["a"] = 0
    world.run(2_000)
    assert world["b"].correction.reason == ""


def test_a_clock_without_a_battery_follows_whoever_is_there() -> None:
    world = World("a", corrected=True, offsets={"a": -WALL_MS + 1_000})
    world.run(10)
    world.add("b")
    world.put("a", "k", 1)
    world.calm()
    assert [error_ms(world, name) for name in "ab"] == pytest.approx([0, 0], abs=FAST.max_drift_ms)
    assert world.get("b", "k") == 1


# ---- a future that is taken back ------------------------------------------------------------------------------------


def test_what_a_fast_clock_did_before_it_met_anybody_counts_at_its_true_time() -> None:
    world = World("ab", corrected=True, tuning=LONG, offsets={"b": MINUTES_MS})
    world["b"].generation += 1_000_000  # the younger
    for key in ("older", "doomed", "cleared"):
        world.put("a", key, "a")
    world.run(50)
    for key in ("older", "newer", "leased"):
        world.put("b", key, "b", ttl_ms=5_000 if key == "leased" else 0)
    world.delete("b", "doomed")
    world.step(50)
    world.put("a", "newer", "a")
    former = world["b"].origin
    world.calm()
    assert world["b"].origin != former
    for name in "ab":
        assert {key: world.get(name, key) for key in ("older", "newer", "doomed", "leased")} == {
            "older": "b",
            "newer": "a",
            "doomed": None,
            "leased": "b",
        }
    world.run(5_100)
    assert world.get("a", "leased") is None, "its lease was taken back as well"
    assert world.put("b", "last", 1)[0] >> 16 <= WALL_MS + world.now_ms + FAST.max_drift_ms
    world.calm()
    assert world.get("a", "last") == 1
    world.check()


def test_a_delete_that_is_taken_back_stays_above_what_it_removed() -> None:
    """Found by the simulator (kitchen-sink, seed 12): the delete went below a value that its deleter had seen."""
    world = World("a")
    held, now = world["a"].map, world.reading("a")
    value = ((now.wall_ms - 2_900) << 16, 77)
    assert held.offer("k", live_entry(*value, 0, "v"), now, None) is Verdict.TAKEN
    world.delete("a", "k")
    rewind(held, 5, 3_000, Reading(now.wall_ms - 3_000, now.mono_ns))
    dead = held.store.entries["k"]
    assert (dead[STATE], dead[VALUE]) == (DEAD, value)
    assert dead[:2] == (value[0] + 1, 5)
    assert held.offer("k", live_entry(*value, 0, "v"), now, None) is Verdict.BEATEN


def test_a_clear_and_a_touch_of_a_fast_clock_are_taken_back_too() -> None:
    world = World("ab", corrected=True, tuning=LONG)
    world["b"].generation += 1_000_000
    world.put("a", "touched", 1, ttl_ms=2_000)
    world.put("a", "cleared", 1)
    world.calm()
    world.cut_off("b")
    world["b"].correction.holds = False  # as a process that has just started, and holds what it has read from a disk
    world.offset_ms["b"] = MINUTES_MS
    world.delete("b", "cleared")
    world.put("b", "touched", 2, ttl_ms=2_000)
    world["b"].clear(world.reading("b"))
    world.put("b", "after", 1, ttl_ms=2_000)
    world.touch("b", "after", 4_000)
    world.step(50)
    world.put("a", "since", 1)
    world.calm()
    for name in "ab":
        assert world.get(name, "touched") is world.get(name, "cleared") is None
        assert world.get(name, "since") == world.get(name, "after") == 1
    world.run(3_000)
    assert world.get("a", "after") == 1
    world.run(1_500)
    assert world.get("a", "after") is None
    world.check()


def test_what_a_fork_has_from_its_parent_is_taken_back_by_it_too() -> None:
    """A master that warms a cache and forks is a member of nothing: only its children can take back what it wrote."""
    world = World("abc", corrected=True, tuning=LONG, offsets={"a": 2_000})
    for i in range(10):
        world.put("a", i, i)
    world["a"].renamed(77, "child", world.wall_ms("a") + 1, world.reading("a"))
    world["a"].renamed(78, "grandchild", world.wall_ms("a") + 2, world.reading("a"))
    world.put("a", "own", 1)
    world.calm()
    assert world["a"].stats()["begun_anew"] == 1
    for name in "abc":
        assert [world.get(name, key) for key in (*range(10), "own")] == [*range(10), 1]
    world.check()


def test_what_a_fast_clock_wrote_outlives_the_restart_that_sets_it_right() -> None:
    """The younger of two follows the older one's clock; that machine is restarted, and has nothing any more."""
    world = World("a", corrected=True, tuning=LONG, offsets={"a": MINUTES_MS})
    world.run(50)
    world.add("b")
    world["b"].generation += 10 * MINUTES_MS
    world.calm()
    assert error_ms(world, "b") == pytest.approx(MINUTES_MS, abs=FAST.max_drift_ms)
    for key in ("kept", "deleted", "theirs"):
        world.put("a", key, "a")
    world.calm()
    world.put("b", "theirs", "b")
    world.delete("a", "deleted")
    world.calm()
    world.add("a")
    world["a"].generation = world["b"].generation + 1
    for _ in range(10):
        world.link_all()
        world.run(100)
    world.calm()
    assert [error_ms(world, name) for name in "ab"] == pytest.approx([0, 0], abs=FAST.max_drift_ms)
    for name in "ab":
        assert {key: world.get(name, key) for key in ("kept", "deleted", "theirs")} == {
            "kept": "a",
            "deleted": None,
            "theirs": "b",
        }
    world.check()


def test_of_one_write_that_two_take_back_the_writers_stands_and_a_value_before_none() -> None:
    """Who holds it moves it further back than its writer, and without its value further still."""
    world = World("ab", corrected=True, tuning=LONG, offsets={"a": 3_000, "b": 3_000})
    world.put("a", "newer", 1)
    world.put("a", "evicted", "value")
    world.calm()
    world["a"].evict("evicted", world.reading("a"))
    moved = {}
    for name, back_ms in (("a", 3_000), ("b", 2_900)):  # no two corrections are equal
        held, now = world[name].map, world.reading(name)
        if name == "a":
            world.put("a", "newer", 2)
        moved[name] = rewind(held, ord(name), back_ms, Reading(now.wall_ms - back_ms, now.mono_ns))
    stamps = {(name, each.key): each.entry for name in moved for each in moved[name]}
    assert stamps["a", "newer"] > stamps["b", "newer"]
    assert stamps["b", "evicted"] > stamps["a", "evicted"]


@pytest.mark.parametrize("calls", [False, True], ids=["who is called", "who calls"])
def test_a_greeting_that_waited_long_says_little_of_the_clock(calls: bool) -> None:
    """A process that had no time for five seconds finds the greetings of all others that have called it meanwhile."""
    world = World("abcd", corrected=True, tuning=Tuning())
    others = {name: world[name].hello(world.reading(name)) for name in "bcd"}
    if calls:
        world["a"].learn_seeds([f"{name}:2738" for name in others], world.reading("a"))
        world["a"].advance(world.reading("a"))
    world.run(5_000, quantum_ms=5_000)
    for number, (name, hello) in enumerate(others.items()):
        dialed = f"{name}:2738" if calls else None
        assert world["a"].connected(number, hello, world.reading("a"), dialed=dialed) is None
    assert error_ms(world, "a") == 0
    assert world["a"].stats()["begun_anew"] == 0


def test_a_clock_that_is_set_right_after_a_greeting_is_measured_by_it() -> None:
    """No frame with a round trip has come yet: what is written goes by monotonic time, and nobody has to reject it."""
    world = World("ab", corrected=True, tuning=Tuning())
    assert world["a"].connected(0, world["b"].hello(world.reading("b")), world.reading("a"), dialed=None) is None
    world.offset_ms["a"] = MINUTES_MS
    world.put("a", "k", 1)
    assert error_ms(world, "a") == 0
    assert stamp_ms(world["a"].map.clock.last) <= WALL_MS + world.now_ms
