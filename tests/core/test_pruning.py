"""Rows of processes that are long gone are pruned: what is accounted for stays bounded, and nothing comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtcache.core import removal
from crdtcache.core.context import Context
from crdtcache.core.entry import Key, live_entry
from crdtcache.core.messages import Item, Row, Slice
from crdtcache.core.removal import to_prune
from crdtcache.core.slices import apply_slice
from crdtcache.errors import ConfigError
from crdtcache.tuning import Tuning
from tests.core.repairs import watched
from tests.core.world import FAST, MS, WALL_MS, World

C, D, E = 0xC0, 0xD0, 0xE0
BRIEF = replace(FAST, gc_hold_ms=1_000, forget_ms=3_000, dots_per_origin=64)


def wrote(world: World, name: str, origin: int, *keys: Key) -> int:
    """A process that is gone by now has written these keys here; returns its last stamp."""
    stamp = (WALL_MS + world.now_ms) << 16
    items = [Item(stamp + i, stamp + i, 0, 0, key, live_entry(stamp + i, origin, 0, 1)) for i, key in enumerate(keys)]
    last = stamp + len(items) - 1
    apply_slice(world[name].map, Slice(origin, 0, last, last, (0, 0), (), items), world.reading(name), None)
    return last


def met(names: str, tuning: Tuning = BRIEF) -> World:
    world = World(names, tuning=tuning)
    world.calm()
    return world


def known(world: World, name: str) -> list[int]:
    return [origin for origin in world[name].map.context.frontier if origin < 1 << 32]


# ---- the mark -------------------------------------------------------------------------------------------------------


def test_an_origin_without_a_row_is_accounted_for_up_to_the_prune_mark() -> None:
    context = Context(4)
    context.apply_row(Row(C, 5, 9), 1_000)
    context.prune([C], 9)
    assert context.covers(9, C)
    assert context.covers(9, D), "whoever it is: nobody here could tell them apart any more"
    assert not context.covers(10, C)
    assert context.apply_row(Row(C, 5, 9), 1_000), "nothing is missing"
    assert context.frontier == {}, "and who still has the row does not bring it back"
    assert not context.apply_row(Row(C, 12, 20), 1_000), "it lives, and what it wrote since is missing"
    assert context.rows() == [Row(C, 9, 9)], "that it wrote nothing up to the mark is more than anybody knows here"
    context.leave_dot(30, D)
    assert context.covers(9, D)
    assert context.rows()[1] == Row(D, 9, 9)


def test_who_begins_anew_accounts_for_nothing() -> None:
    context = Context(4)
    context.apply_row(Row(C, 5, 9), 1_000)
    context.prune([C], 9)
    context.clear()
    assert not context.covers(9, C)


# ---- who prunes what ------------------------------------------------------------------------------------------------


def test_a_row_is_pruned_when_it_is_old_and_all_who_are_connected_agree_on_it() -> None:
    world = met("abc")
    for name in "abc":
        last = wrote(world, name, C, "k")
    world.run(BRIEF.forget_ms - 200)
    assert [known(world, name) for name in "abc"] == [[C]] * 3
    world.run(1_500)
    assert [known(world, name) for name in "abc"] == [[]] * 3
    for name in "abc":
        assert world.get(name, "k") == 1, "what it wrote stays"
        assert world[name].map.log.floor(C) == world[name].map.context.prune_mark >= last
    world.delete("a", "k")
    world.run(3_000)
    assert [world.held(name, "k") for name in "abc"] == [None] * 3
    assert world["a"].map.context.dot_count() == 0, "what is removed needs no dot"
    world.check()


def test_who_says_something_else_of_it_or_nothing_keeps_it_from_being_pruned() -> None:
    world = met("ab")
    wrote(world, "a", C, "k")
    [link] = world["a"]._links.values()
    now = world["a"].map.context.frontier[C]
    later_ms = WALL_MS + 2 * BRIEF.forget_ms
    used = [world["b"].origin]
    for told in (None, now - 1, now + 1, now):
        link.rows[C] = told  # type: ignore[assignment]
        assert to_prune(world["a"].map, used, [link], later_ms) == ([C] if told == now else [])
    assert to_prune(world["a"].map, [*used, C], [link], later_ms) == [], "it is waited for"


def test_who_meets_one_that_has_pruned_more_takes_what_that_one_holds_before_it_prunes() -> None:
    """What processes without a row wrote: its own mark, raised before, would answer for that as if it were gone."""
    world = World("ab", tuning=BRIEF)
    wrote(world, "b", D, "of one without a row")
    for name in "ab":
        wrote(world, name, C, "old")
    context = world["b"].map.context
    context.prune([D], context.ends(D))
    world.run(BRIEF.forget_ms)
    world.link("a", "b")
    counts = watched(world)[1]
    while not counts["Open"]:
        world["a"]._prune_ns = world["a"]._links_ns = 0  # again and again
        assert world["a"].map.context.prune_mark == 0
        world.step(2)
        world.carry()
    world.run(2_000)
    assert [world.get(name, "of one without a row") for name in "ab"] == [1, 1]
    assert [known(world, name) for name in "ab"] == [[], []]
    assert world["a"].map.context.prune_mark == context.prune_mark > 0


def test_a_mark_that_nobody_could_have_yet_keeps_nobody_from_pruning() -> None:
    world = met("ab")
    wrote(world, "a", C, "k")
    [link] = world["a"]._links.values()
    link.rows[C] = world["a"].map.context.frontier[C]
    later_ms = WALL_MS + 2 * BRIEF.forget_ms
    for mark, pruned in ((1, []), ((later_ms + 1) << 16, [C])):
        link.prune_mark = mark
        assert to_prune(world["a"].map, [world["b"].origin], [link], later_ms) == pruned


def test_who_is_alone_prunes_nothing() -> None:
    world = World("a", tuning=BRIEF)
    wrote(world, "a", C, "k")
    world.run(8_000)
    assert known(world, "a") == [C]


def test_who_has_no_row_of_what_the_own_mark_answers_for_agrees_once_it_has_spoken() -> None:
    world = met("ab")
    wrote(world, "a", C, "k")
    world["a"].map.context.prune_mark = world["a"].map.context.frontier[C]
    [link] = world["a"]._links.values()
    link.rows.pop(C, None)
    used, later_ms = [world["b"].origin], WALL_MS + 2 * BRIEF.forget_ms
    assert to_prune(world["a"].map, used, [link], later_ms) == [C]
    world["a"].map.context.prune_mark -= 1
    assert to_prune(world["a"].map, used, [link], later_ms) == [], "there may be more of it there"
    world["a"].map.context.prune_mark += 1
    link.rows.clear()
    assert to_prune(world["a"].map, used, [link], later_ms) == [], "it has said nothing yet"


def test_what_one_has_pruned_and_the_other_has_not_is_no_difference() -> None:
    """Or they would send each other the sums of their maps at every comparison until both have (kitchen-sink 42528)."""
    world = met("ab")
    last = max([wrote(world, name, C, "k") for name in "ab"])
    world.run(BRIEF.forget_ms // 2)
    context = world["a"].map.context
    context.prune([C], last)
    later = [removal.lasts(world[name].map, WALL_MS + world.now_ms) for name in "ab"]
    assert later[0] != later[1], "for now: nobody can have pruned it yet"
    world.run(BRIEF.forget_ms // 2 - 300)
    assert known(world, "b") == [C], "or this shows nothing"
    counts = watched(world)[1]
    world.run(4_000)
    assert set(counts) <= {"Open", "Equal"}
    assert counts["Equal"] > 5
    assert known(world, "a") == known(world, "b") == []


def test_a_joiner_of_an_empty_map_adopts_rows_that_somebody_may_have_pruned_by_now() -> None:
    """Nothing is visible anywhere, and no recent write: the two are equal but for what the joiner has to adopt."""
    world = World("ab", tuning=replace(BRIEF, forget_ms=60_000))
    world.calm()
    for number in range(40):
        world.put("a", number, 1)
        world.delete("a", number)
    world.run(8_000)
    assert world["a"].stats()["dead"] == 0
    world.add("c")
    world.link("b", "c")
    world.run(1_500)
    assert world["c"].caught_up()
    assert world["c"].map.context.frontier[world["a"].origin] >= world["b"].map.context.last[world["a"].origin]


def test_a_row_of_a_member_that_is_waited_for_is_not_pruned() -> None:
    world = met("abc", replace(BRIEF, gc_hold_ms=6_000, forget_ms=7_400))
    away = world["c"].origin
    world.put("c", "k", 1)
    world.calm()
    world.cut_off("c")
    world.run(5_000)
    assert away in world["a"].map.context.frontier
    world.run(6_000)
    assert away not in world["a"].map.context.frontier


def test_of_ten_thousand_processes_that_lived_for_a_minute_each_no_trace_is_left() -> None:
    """All of them wrote; two replicas have been there all the time. Memory: rows, logs, what links remember."""
    tuning = replace(Tuning(), compare_ms=60_000, origins=1_024)
    world = met("ab", tuning)
    replicas = [world[name] for name in "ab"]
    for number in range(10_000):
        for name in "ab":
            wrote(world, name, number + 1, f"k{number % 100}")
        world.now_ms += 59_000
        if number % 500 == 499:
            for replica in replicas:  # a stall is not what this is about
                replica._expected_ns = 0
                for link in replica._links.values():
                    link.heard_ns += 500 * 59_000 * MS
            world.run(2_000, 1_000)
    world.calm()
    for replica in replicas:
        [link] = replica._links.values()
        assert replica.stats()["origins"] <= tuning.origins + 502
        assert replica.stats()["pruned"] >= 10_000 - tuning.origins - 502
        assert len(replica.map.log._columns) <= tuning.origins + 502
        assert max(len(link.rows), len(link.said), len(link.cursors)) <= tuning.origins + 502
        assert replica.map.context.dot_count() == 0
    world.add("c")
    world.calm()
    assert world.visible("c") == world.visible("a")
    assert len(world.visible("c")) == 100


# ---- who comes back -------------------------------------------------------------------------------------------------


def pruned_while_away() -> tuple[World, int]:
    """c is away so long that its row is pruned, and writes; what it and a gone process had written is deleted."""
    world = met("abc")
    world.put("c", "mine", 1)
    for name in "abc":
        wrote(world, name, C, "of another", "kept")
    world.calm()
    away = world["c"].origin
    world.cut_off("c")
    world.put("c", "unheard", 1)
    world.run(100)
    for key in ("mine", "of another"):
        world.delete("a", key)
    for name in "ab":
        wrote(world, name, D, "last")  # raises the mark above what nobody has heard
    world.run(6_000)
    assert away not in world["a"].map.context.frontier
    assert known(world, "a") == []
    assert world.held("a", "mine") is None
    return world, away


def test_a_returner_older_than_the_mark_revives_nothing_and_loses_only_what_it_wrote_before_the_mark() -> None:
    world, _ = pruned_while_away()
    world.put("c", "late", 1)
    seen: list[object] = []
    world.watch_events = lambda name, event: seen.append((name, event))
    world.calm()
    for name in "abc":
        visible = {key: world.get(name, key) for key in ("mine", "of another", "unheard", "kept", "last", "late")}
        assert visible == {"mine": None, "of another": None, "unheard": None, "kept": 1, "last": 1, "late": 1}
    shown = [(name, event.key) for name, event in seen if getattr(event, "kind", "") == "set"]  # type: ignore[misc]
    assert sorted(shown) == [("a", "late"), ("b", "late"), ("c", "last"), ("c", "late")], "not even for a moment"
    assert world["c"].map.context.prune_mark == world["a"].map.context.prune_mark, "it has adopted the mark"
    world.run(2 * BRIEF.compare_ms)
    assert known(world, "c") == []
    world.check()


def test_a_joiner_takes_all_there_is_before_it_adopts_the_mark() -> None:
    """What it had not taken yet would count as removed, and its GONE would remove it everywhere."""
    world = met("ab")
    for name in "ab":
        wrote(world, name, C, *range(200))
    world.run(6_000)
    assert known(world, "a") == []
    world.add("c")
    world.calm()
    for name in "abc":
        assert [world.get(name, key) for key in range(200)] == [1] * 200
    assert world["c"].map.context.prune_mark == world["a"].map.context.prune_mark
    assert sum(world[name].stats()["gone"] for name in "abc") == 0


def test_a_mark_that_nobody_could_have_yet_is_not_adopted() -> None:
    world = met("ab")
    world["b"].map.context.prune_mark = (WALL_MS + 3_600_000) << 16
    world.put("a", "k", 1)
    world["b"].map.replace("k", None, world.held("b", "k"), world.reading("b"), remote=True)
    world.run(3_000)
    assert world["a"].map.context.prune_mark == 0


def test_the_tuning_refuses_to_prune_what_is_still_waited_for() -> None:
    with pytest.raises(ConfigError, match="forget_ms=3000 must be at least"):
        replace(FAST, forget_ms=3_000)
