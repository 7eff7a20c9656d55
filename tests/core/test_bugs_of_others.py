"""Tests that the bugs of other caches, databases and membership protocols wrote: a row each, and where it is tested.

`ROWS` names for each bug what must hold here, whose bug it was, and the tests; a row without one says why. The
tests below are those that stand nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from crdtcache.core.entry import DEAD, EXPIRES, LIVE, STATE, TOUCH, VALUE, live_entry
from crdtcache.tuning import Tuning
from tests.core.world import FAST, HOUR_MS, WALL_MS, World

ROWS = """
B01 | olric 225                     | a replica restarts, and soon after it the writer: nothing is lost
    core/test_bugs_of_others.py::test_b01_a_replica_restarts_and_soon_after_it_the_writer
    chaos/test_attack.py::test_a_rolling_restart_that_waits_for_ready_loses_nothing
B02 | delta_crdt_ex 45, 65          | many keys reach a live neighbour, all of them
    chaos/test_many_keys.py::test_a_live_neighbour_has_all_keys
B03 | hazelcast 8517                | what comes out of order leaves no hole that the digest calls equal
    core/test_bugs_of_others.py::test_b03_what_comes_out_of_order_leaves_no_hole_that_is_called_equal
    transcripts/a_gap_and_its_pull.txt
B04 | akka.net 5022                 | two equal idle nodes say almost nothing
    chaos/test_idle.py::test_two_equal_idle_nodes_say_little
    transcripts/an_idle_pair.txt
B05 | hazelcast 10975, ignite 4036  | an expired key misses everywhere within the drift, and no message says so
    core/test_going.py::test_d2_reads_miss_by_the_own_clock_and_the_entry_dies_by_the_slowest
    core/test_going.py::test_d2_nothing_is_sent_for_an_expiry
    chaos/test_idle.py::test_a_thousand_expiries_a_second_move_no_entry
    transcripts/a_fast_and_a_slow_sweeper.txt
B06 | riak ReapErase, aerospike     | what expired is not brought back by a peer with a slow clock
    core/test_bugs_of_others.py::test_b06_what_expired_is_not_brought_back_by_a_peer_with_a_slow_clock
B07 | keydb, ditto, chitchat        | what a delete had seen stays deleted, after a split of any length
    core/test_collection.py::test_a_returner_resurrects_nothing_however_long_it_was_away
    core/test_far_away.py::test_a_replica_that_was_away_720_times_as_long_as_it_was_waited_for
    chaos/test_far_away.py::test_who_was_away_for_long_brings_nothing_back_and_loses_nothing
    chaos/test_cut.py::test_two_that_were_cut_apart_agree_and_nothing_deleted_returns
    chaos/test_cut.py::test_a_delete_that_was_forgotten_during_the_cut_still_counts
B08 | akka 21249, akka.net 5103     | adding and deleting millions of distinct keys leaves memory flat
    chaos/test_memory.py::test_keys_that_come_and_go_leave_nothing_behind
B09 | redis active-active           | eviction pressure on both sides of a split: limits hold, no mass eviction
    core/test_bugs_of_others.py::test_b09_limits_hold_on_both_sides_of_a_split_and_after_it
    chaos/test_memory.py::test_eviction_is_private
B10 | infinispan 16797              | what must be evicted while it waits to be sent is evicted last
    core/test_bugs_of_others.py::test_b10_what_waits_to_be_sent_is_evicted_last
B11 | scylladb 12527                | a clock an hour fast, then an hour slow, then right
    core/test_bugs_of_others.py::test_b11_a_clock_an_hour_fast_then_an_hour_slow_then_right
    chaos/test_attack.py::test_a_clock_ten_minutes_fast_poisons_nobody
B12 | yugabyte 10872                | a local clock that jumps ahead by a day empties no cache
    core/test_bugs_of_others.py::test_b12_a_clock_that_jumps_ahead_by_a_day_empties_no_cache
B13 | keydb `<=`                    | of equal stamps the same one wins, whichever arrives first
    core/test_bugs_of_others.py::test_b13_of_equal_stamps_the_same_one_wins_whichever_arrives_first
    laws/test_merge.py::test_merge_is_commutative
B14 | redis active-active, infinispan 9365 | concurrent expire, extend and set end the same in every order
    core/test_bugs_of_others.py::test_b14_concurrent_expire_extend_and_set_end_the_same_in_every_order
B15 | olric 172, hazelcast 6799     | an expiry survives copies: another replica's, a joiner's, by log and by session
    core/test_bugs_of_others.py::test_b15_a_joiner_has_the_same_expiries
    test_node_expiry.py::test_keep_ttl
B16 | hazelcast 13409               | a clear leaves no timers behind
    core/test_bugs_of_others.py::test_b16_a_clear_leaves_no_timers_behind
B17 | keydb 367                     | after a cut, bytes are proportional to what changed
    core/test_bugs_of_others.py::test_b17_after_a_cut_bytes_are_proportional_to_what_changed
B18 | delta_crdt_ex 47, olric 209   | a slow peer costs its sender no memory, and others no time
    core/test_outbox.py::test_a_slow_peer_costs_a_cursor_and_gets_the_current_state_once
    chaos/test_attack.py::test_a_peer_that_stands_still_costs_a_cursor
B19 | keydb 367, akka 25529         | a value of 20 MB delays neither signs of life nor small keys
    open: larger values than `inline_bytes` are refused until they travel in chunks
B20 | nebulex 99, hazelcast         | joining under load blocks no writer, and who is ready has what its peers have
    chaos/test_kill.py::test_one_of_three_is_killed_while_all_write_and_comes_back_empty
B21 | pysyncobj 142, infinispan 16916 | a name that cannot be resolved at the start, or changes later
    runtime/test_discovery.py::test_a_seed_without_an_answer_this_time_keeps_its_last_one
    runtime/test_driver.py::test_seeds_without_addresses_are_one_warning_and_asked_for_again
B22 | memberlist 345, 312           | a mass restart; who was succeeded stays so
    core/test_redial.py::test_of_one_name_only_the_latest_process_is_in_use_and_called
    chaos/test_attack.py::test_nodes_that_restart_all_the_time_settle
B23 | memberlist 264, infinispan 16916 | a link that is dead in one direction, or for two of three
    chaos/test_cut.py::test_two_that_cannot_hear_each_other_agree_through_a_third
    core/test_members.py::test_an_idle_link_says_so_and_a_silent_one_is_given_up
B24 | quickwit 6653                 | five hundred processes that are gone: what is said of them still fits a frame
    core/test_bugs_of_others.py::test_b24_what_is_said_of_five_hundred_processes_that_are_gone_fits_a_frame
B25 | pysyncobj 164, 98             | kill -9 at every write boundary; torn tail; full disk; bounded log
    open: there is no disk yet
B26 | nebulex 107, corrosion 1.0    | neighbouring wire versions in one cluster, and unknown fields
    core/test_codec.py::test_messages_of_unknown_types_and_fields_of_newer_versions_are_skipped
    core/test_codec.py::test_an_entry_in_a_state_of_a_newer_version_is_kept_opaque
B27 | groupcache 72                 | two loads that need each other end
    test_loading.py::test_three_loads_in_a_ring_over_two_nodes_end
B28 | akka 25529, fly.io            | a long merge leaves others their turn
    runtime/test_driver.py::test_a_long_merge_leaves_others_their_turn
"""

TESTS = Path(__file__).parents[1]
QUIET = replace(FAST, compare_ms=HOUR_MS)  # what heals here is not a session
BY_LOG = replace(FAST, log_records=1_000)
DAY_MS = 24 * HOUR_MS


def test_every_row_names_tests_that_are_there_or_says_why_not() -> None:
    rows = re.findall(r"^(B\d\d) \| .+ \| .+\n((?:    .+\n)+)", ROWS, re.MULTILINE)
    assert [row for row, _ in rows] == [f"B{number:02}" for number in range(1, 29)]
    for row, places in rows:
        for place in map(str.strip, places.splitlines()):
            path, _, name = place.partition("::")
            if not place.startswith("open: "):
                text = (TESTS / path).read_text()
                assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE) if name else text, f"{row}: {place}"


def test_every_test_of_this_file_stands_in_its_row() -> None:
    for row, name in re.findall(r"^def (test_(b\d\d)_\w+)", Path(__file__).read_text(), re.MULTILINE):
        assert re.search(rf"^{name.upper()} \|.+\n(    .+\n)*    .+::{row}\n", ROWS, re.MULTILINE), row


def frames_of(world: World, source: str, target: str) -> int:
    """Take all that `source` has for `target` onto their link."""
    while world.pump(source, target):
        pass
    return len(world.pipes[source, target].frames)


@pytest.mark.parametrize("log_records", [16, 1_000])
def test_b01_a_replica_restarts_and_soon_after_it_the_writer(log_records: int) -> None:
    """As soon as the first says that nothing is missing, the other one may go: by the log, and by a session."""
    world = World("ab", tuning=replace(FAST, log_records=log_records))
    world.link_all()
    for number in range(60):
        world.put("a", number, number)
    world.delete("a", 7)
    world.run(100)
    world.add("b")
    world.link("b", "a")
    while not (world["b"].caught_up() and world["b"].stats()["links_up"]):
        world.run(10)
        assert world.now_ms < 5_000
    world.add("a")
    world.calm()
    for name in "ab":
        assert [world.get(name, number) for number in range(60)] == [*range(7), None, *range(8, 60)]


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_b03_what_comes_out_of_order_leaves_no_hole_that_is_called_equal(order: tuple[int, ...]) -> None:
    world = World("ab", tuning=QUIET)
    world.link_all()
    world.run(60)
    stamps = []
    for number in range(3):
        stamps.append(world.put("a", f"k{number}", number).stamp)
        world.step(1)
        assert frames_of(world, "a", "b") == number + 1
    frames = world.pipes["a", "b"].frames
    for frame in [list(frames)[number] for number in order]:
        frames.appendleft(frame)
        world.deliver("a", "b")
        missing = [number for number in range(3) if world.get("b", f"k{number}") is None]
        assert (world["a"].digest() == world["b"].digest()) == (not missing)
        assert all(world["b"].map.context.frontier[world["a"].origin] < stamps[number] for number in missing)
        assert not missing or order[0] == 0 or not world["b"].caught_up(), "it knows that something is missing"
    frames.clear()
    world.run(200)
    assert world.agree()


@pytest.mark.parametrize(("writer", "slow_ms"), [("a", 150), ("s", 150), ("s", 60_000)])
@pytest.mark.parametrize("tuning", [FAST, BY_LOG], ids=["by session", "by log"])
def test_b06_what_expired_is_not_brought_back_by_a_peer_with_a_slow_clock(
    writer: str, slow_ms: int, tuning: Tuning
) -> None:
    world = World("abs", tuning=replace(tuning, gc_hold_ms=1_000), offsets={"s": -slow_ms})
    world.link_all()
    world.run(60)
    world[writer].put("k", "v", world.wall_ms("a") + 300, world.reading(writer))
    world.run(60)
    assert [world.get(name, "k") for name in "ab"] == ["v", "v"]
    world.cut_off("s")
    for number in range(40):
        world.put("a", number, number)
    world.run(3_000)
    assert [world.held(name, "k") for name in "ab"] == [None, None], "dead and forgotten"
    assert (world.get("s", "k") == "v") == (slow_ms > 3_000), "the slow one still shows it"
    world.link_all()
    for _ in range(200):
        world.run(5)
        assert [world.get(name, "k") for name in "ab"] == [None, None]
    world.calm(120_000)
    assert world.get("s", "k") is None


def test_b09_limits_hold_on_both_sides_of_a_split_and_after_it() -> None:
    """A side evicts its own surplus and no more; healed, each keeps what it used last, and knows of all the rest."""
    limit, each = 20, 60
    world = World("ab", tuning=BY_LOG, maxsize=limit)
    world.link_all()
    world.run(60)
    world.cut("a", "b")
    for number in range(each):
        for name in "ab":
            world.put(name, f"{name}{number}", number)
        world.run(10)
        for name in "ab":
            assert world[name].stats()["live"] == min(number + 1, limit)
    world.calm()
    world.run(100)
    for name in "ab":
        stats = world[name].stats()
        assert (stats["live"], stats["visible"]) == (limit, 2 * each)
        # The own surplus, and what the other still has: by its pushes, and once more by the session meanwhile.
        assert each - limit <= stats["evicted"] <= each + limit


def test_b10_what_waits_to_be_sent_is_evicted_last() -> None:
    world = World("", tuning=BY_LOG)
    world.add("a", maxsize=10)
    world.add("b")
    world.link_all()
    for number in range(10):
        world.put("a", f"sent{number}", number)
    world.run(100)
    for number in range(8):
        world.put("a", f"waiting{number}", number)
        world.step(10)
    assert world["a"].stats()["live"] == 10
    assert world["a"].stats()["evicted"] == 8
    world.run(100)
    assert [world.get("b", f"waiting{number}") for number in range(8)] == [*range(8)]


@pytest.mark.parametrize("corrected", [True, False])
def test_b11_a_clock_an_hour_fast_then_an_hour_slow_then_right(corrected: bool) -> None:
    """The others lose no write, stamp none ahead of the true time and the drift, and stay together.

    Also where the one with the wrong clock believes it; where it listens to its peers, nothing of it is stuck.
    """
    world = World("abc", tuning=BY_LOG, corrected=corrected)
    written: dict[str, str] = {}
    world.link_all()
    world.run(100)
    for phase, offset_ms in enumerate((HOUR_MS, -HOUR_MS, 0)):
        world.offset_ms["c"] = offset_ms
        for number in range(20):
            for name in "abc":
                key = f"{phase} {number % 5} {name}"
                world.put(name, key, f"{number}")
                if name != "c":
                    written[key] = f"{number}"
            if offset_ms > 0 and not corrected:
                world.put("c", f"{phase} {number % 5} a", "of a clock that is wrong")
            world.run(20)
            world.link_all()
        world.run(200)
        for name in "ab":
            assert {key: world.get(name, key) for key in written} == written
            assert world[name].map.clock.last <= (world.now_ms + WALL_MS + FAST.max_drift_ms + 1) << 16
        assert ("a", "b") in world.pipes
    if corrected:
        world.put("c", "after", "all is well")
        world.calm()
        assert [world.get(name, "after") for name in "abc"] == ["all is well"] * 3
        assert all(world.get("a", f"2 {number} c") is not None for number in range(5))


@pytest.mark.parametrize("corrected", [True, False])
def test_b12_a_clock_that_jumps_ahead_by_a_day_empties_no_cache(corrected: bool) -> None:
    """Who believes it hides what ends within the day from its own readers while it lasts, and removes it nowhere."""
    world = World("abc", corrected=corrected)
    world.link_all()
    for number in range(20):
        world.put("abc"[number % 3], number, number, ttl_ms=HOUR_MS if number % 2 else 0)
    world.run(100)
    world.offset_ms["c"] += DAY_MS
    world.run(2_000)
    for name in "ab":
        assert [world.get(name, number) for number in range(20)] == [*range(20)]
    assert [world.get("c", number) for number in range(0, 20, 2)] == [*range(0, 20, 2)]
    assert [world.get("c", number) for number in range(1, 20, 2)] == ([*range(1, 20, 2)] if corrected else [None] * 10)
    assert all(world.held("c", number)[STATE] == LIVE for number in range(20))
    world.offset_ms["c"] -= DAY_MS
    world.run(500)
    for name in "abc":
        assert [world.get(name, number) for number in range(20)] == [*range(20)]
        assert world[name].stats()["live"] == 20
        assert [world[name].store.shown(number)[VALUE] for number in range(1, 20, 2)] == [*range(1, 20, 2)]
    assert world.agree()


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("greater", ["a", "b"])
def test_b13_of_equal_stamps_the_same_one_wins_whichever_arrives_first(first: str, greater: str) -> None:
    world = World("abc", origins={"a": 2, "b": 1 if greater == "a" else 3, "c": 9}, tuning=QUIET)
    world.link("a", "c")
    world.link("b", "c")
    world.run(60)
    world.now_ms += 5  # beyond what was announced
    stamps = {world.put(name, "k", name).stamp for name in "ab"}
    assert len(stamps) == 1, "no tie: this tested nothing"
    for name in (first, *({"a", "b"} - {first})):
        world.carry((name, "c"))
    assert world.get("c", "k") == greater
    world.calm()
    assert [world.get(name, "k") for name in "abc"] == [greater] * 3


@pytest.mark.parametrize("order", list(permutations("abc")), ids="".join)
@pytest.mark.parametrize("deliveries", list(permutations("abc")), ids="".join)
def test_b14_concurrent_expire_extend_and_set_end_the_same_in_every_order(
    order: tuple[str, ...], deliveries: tuple[str, ...]
) -> None:
    """A set beats every lease of what it replaces; of two leases the one that was stamped later wins."""
    world = World("abcd", tuning=QUIET)
    for name in "abc":
        world.link(name, "d")
    world.put("d", "k", "old", ttl_ms=50_000)
    world.put("d", "leases", "old", ttl_ms=50_000)
    world.run(100)
    for name in "abc":
        world.cut(name, "d")
    for name in order:
        world.step(5)
        if name == "a":
            world.put("a", "k", "new", ttl_ms=20_000)
            expires = world.held("a", "k")[EXPIRES]
        else:
            for key in ("k", "leases"):
                world.touch(name, key, 10_000 if name == "b" else 90_000)
    later = max("bc", key=lambda name: world.held(name, "leases")[TOUCH])
    lease = world.held(later, "leases")[:STATE]
    assert later == [name for name in order if name != "a"][-1]
    for name in deliveries:
        world.link(name, "d")
        world.run(60)
    world.calm()
    for name in "abcd":
        assert (world.get(name, "k"), world.held(name, "k")[EXPIRES]) == ("new", expires)
        assert world.held(name, "leases")[:STATE] == lease


@pytest.mark.parametrize("tuning", [FAST, BY_LOG], ids=["by session", "by log"])
def test_b15_a_joiner_has_the_same_expiries(tuning: Tuning) -> None:
    world = World("ab", tuning=tuning)
    world.link_all()
    for number in range(40):
        world.put("a", number, number, ttl_ms=(number % 4) * 20_000)
    for number in range(0, 40, 5):
        world.touch("b" if world.get("b", number) is not None else "a", number, 60_000)
    world.run(100)
    world.add("c")
    world.calm()
    assert bool(world["c"].stats()["sessions"]) == (tuning is FAST), "this tested the other way"
    for number in range(40):
        assert world.held("c", number) == world.held("a", number)
    assert len({world.held("c", number)[EXPIRES] for number in range(40)}) >= 4


def test_b16_a_clear_leaves_no_timers_behind() -> None:
    world = World("ab")
    world.link_all()
    for number in range(40):
        world.put("a", number, number, ttl_ms=100 * number + 200)
    world.run(100)
    world["a"].clear(world.reading("a"))
    world.run(6_000)
    for name in "ab":
        assert world[name].store.expiring.next_ms() is None
        assert world[name].stats()["expired"] == 0
        assert not world[name].store.entries
        assert not world[name].map.overdue


@pytest.mark.parametrize("changed", [0, 20, 200])
def test_b17_after_a_cut_bytes_are_proportional_to_what_changed(changed: int) -> None:
    """2,000 entries of 100 bytes; the log answers."""
    world = World("ab", tuning=Tuning())
    world.link_all()
    for number in range(2_000):
        world.put("a", f"key{number:07}", "x" * 100)
    world.run(2_000)
    world.cut("a", "b")
    for number in range(changed):
        world.put("a", f"key{number * 7 % 2_000:07}", "y" * 100)
    world.run(1_000)
    sizes: list[int] = []
    world.watch = lambda source, target, data: sizes.append(len(data))
    world.link("a", "b")
    world.run(2_000)
    assert world.agree()
    assert sum(sizes) <= 1_500 + changed * 150


def test_b24_what_is_said_of_five_hundred_processes_that_are_gone_fits_a_frame() -> None:
    """`World.pump` refuses a frame that a peer would."""
    gone, tuning = 500, replace(FAST, log_records=2_000)
    world = World("ab", tuning=tuning)
    now = world.reading("a")
    for number in range(gone):
        stamp, origin = (now.wall_ms << 16) + number, 1_000_000 + number
        world["a"].map.offer(f"k{number}", live_entry(stamp, origin, 0, number), now, None)
        world["a"].map.context.advance(origin, stamp)
        world["a"].map.context.note_last(origin, stamp)
        world["a"].map.log.cut(origin, stamp)
    world.calm()
    assert len(world.visible("b")) == gone
    assert world["b"].stats()["origins"] >= gone
    world.put("b", "k1", "new")
    world.delete("b", "k2")
    world.run(100)
    assert world.get("a", "k1") == "new"
    assert world.held("a", "k2")[STATE] == DEAD
