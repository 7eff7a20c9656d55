"""O1 to O5: whatever arrives is an offer, and there is one rule for it."""

from __future__ import annotations

import pytest

from crdtcache.core.clock import Reading
from crdtcache.core.entry import DEAD, GHOST, LIVE, STATE, VALUE, Entry, dead_entry, live_entry
from crdtcache.core.lwwmap import LWWMap, Verdict
from crdtcache.core.messages import Offer
from crdtcache.core.store import Store
from crdtcache.tuning import Tuning
from tests.core.world import WALL_MS, World

OWN, A, B = 0x0FF0, 0xA1B2C3D4E5F60718, 0xB1B2C3D4E5F60718
NOW = Reading(WALL_MS, 1)
AT = WALL_MS << 16
TUNING = Tuning(dots_per_origin=2)


def a_map() -> LWWMap:
    return LWWMap(OWN, TUNING, Store(None, None), 7)


def offer(held: LWWMap, entry: Entry, **arguments: object) -> Verdict:
    return held.offer("k", entry, NOW, arguments.pop("slowest_ms", None), **arguments)  # type: ignore[arg-type]


def live(stamp: int, origin: int = A, value: object = "v", *, expires_at: int = 0) -> Entry:
    return live_entry(AT + stamp, origin, expires_at, value)  # type: ignore[arg-type]


# ---- O1: held -------------------------------------------------------------------------------------------------------


def test_o1_the_version_that_is_held_is_merged_in_state_lease_and_value() -> None:
    held = a_map()
    first = live(1)
    offer(held, (*first[:STATE], GHOST, None))
    assert offer(held, first) is Verdict.MERGED
    assert held.store.entries["k"] == first
    touched = (*first[:2], AT + 9, B, 77, GHOST, None)
    assert offer(held, touched) is Verdict.MERGED
    assert held.store.entries["k"] == (*first[:2], AT + 9, B, 77, LIVE, "v")
    assert held.clock.last == AT + 9
    assert offer(held, dead_entry(AT + 1, A)) is Verdict.MERGED
    assert held.store.entries["k"][STATE] == DEAD
    assert offer(held, first) is Verdict.MERGED
    assert held.store.entries["k"][STATE] == DEAD
    held.check()


def test_o1_a_removed_version_that_is_learned_later_is_covered() -> None:
    """First the delete came as what was absent elsewhere, then as its writer made it."""
    held = a_map()
    offer(held, dead_entry(AT + 5, B))
    assert offer(held, dead_entry(AT + 5, B, (AT + 1, A))) is Verdict.MERGED
    offer(held, live(9, B))
    held.gone("k", (AT + 9, B), NOW)
    assert offer(held, live(1)) is Verdict.GONE


# ---- O2: beaten -----------------------------------------------------------------------------------------------------


def test_o2_a_smaller_version_than_the_one_held_is_ignored_and_covered() -> None:
    held = a_map()
    offer(held, live(5, B, "new"))
    assert offer(held, live(1)) is Verdict.BEATEN
    assert held.store.entries["k"][VALUE] == "new"
    assert held.context.covers(AT + 1, A)
    held.check()


def test_o2_a_delete_that_is_beaten_covers_what_it_removed_too() -> None:
    held = a_map()
    offer(held, live(9, B, "new"))
    assert offer(held, dead_entry(AT + 5, B, (AT + 1, A))) is Verdict.BEATEN
    assert held.context.covers(AT + 1, A)


def test_o2_covers_what_a_beaten_delete_removed_even_where_the_delete_was_covered_before() -> None:
    """Its slice brought the newer entry instead of the delete, so nothing told of what it had removed."""
    held = a_map()
    held.context.advance(B, AT + 9)
    offer(held, live(12, B, "new"))
    offer(held, dead_entry(AT + 5, B, (AT + 1, A)))
    assert held.context.covers(AT + 1, A)


# ---- O3: gone -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [LIVE, GHOST, 9])
@pytest.mark.parametrize("smaller", [False, True])
def test_o3_a_live_one_that_is_covered_but_not_held_is_answered_gone(state: int, smaller: bool) -> None:
    held = a_map()
    if smaller:
        offer(held, live(1, B, "held"))
    held.context.advance(A, AT + 9)
    entry = (*live(5)[:STATE], state, None)
    assert offer(held, entry) is Verdict.GONE
    assert (held.store.entries["k"][VALUE] if smaller else held.store.entries.get("k")) == ("held" if smaller else None)


def test_o3_who_is_told_gone_forgets_exactly_that_version() -> None:
    held = a_map()
    offer(held, live(5))
    assert not held.gone("k", (AT + 4, A), NOW)
    assert not held.gone("k", (AT + 5, B), NOW)
    assert not held.gone("absent", (AT + 5, A), NOW)
    assert held.gone("k", (AT + 5, A), NOW)
    assert held.store.entries == {}
    assert offer(held, live(5)) is Verdict.GONE
    offer(held, dead_entry(AT + 7, A))
    assert not held.gone("k", (AT + 7, A), NOW)  # a dead one is nothing to forget
    held.check()


def test_o3_gone_is_answered_with_what_is_held_for_the_key() -> None:
    world = World("ab")
    world.link_all()
    world.carry()
    older = live(1, A, "older")
    world["b"].map.offer("k", older, world.reading("b"), None)
    newer = live(5, B, "newer")
    world["a"].map.offer("k", newer, world.reading("a"), None)
    world["b"].map.context.leave_dot(AT + 5, B)
    world["b"].map.context.leave_dot(AT + 5, A)
    [link] = world["b"]._links.values()
    world["b"]._outbox.answer_gone(link, [("k", AT + 5, B)])
    world["b"]._ready[link.number] = None
    world.carry(("b", "a"))
    assert world.get("a", "k") == "older"


# ---- O4: take -------------------------------------------------------------------------------------------------------


def test_o4_anything_else_is_stored() -> None:
    for entry in (live(1), dead_entry(AT + 1, A), (*live(1)[:STATE], GHOST, None), (*live(1)[:STATE], 9, b"?")):
        held = a_map()
        assert offer(held, entry) is Verdict.TAKEN
        assert held.store.entries["k"] == entry
        held.check()


def test_o4_a_dead_one_that_is_covered_is_stored_only_where_a_smaller_version_is_held() -> None:
    held = a_map()
    held.context.advance(A, AT + 9)
    assert offer(held, dead_entry(AT + 5, A, (AT + 3, B))) is Verdict.IGNORED
    assert held.store.entries == {}
    assert held.context.covers(AT + 3, B)
    offer(held, live(1, B))
    assert offer(held, dead_entry(AT + 5, A)) is Verdict.TAKEN
    assert held.store.entries["k"][STATE] == DEAD
    held.check()


def test_o4_a_live_one_whose_lease_has_passed_by_all_clocks_is_stored_dead() -> None:
    for slowest, state in ((WALL_MS, DEAD), (WALL_MS - 1, LIVE), (None, LIVE)):
        held = a_map()
        assert offer(held, live(1, expires_at=WALL_MS), slowest_ms=slowest) is Verdict.TAKEN
        assert held.store.entries["k"][STATE] == state
        assert held.visible("k", NOW) is None
        held.check()


# ---- O5: afterwards -------------------------------------------------------------------------------------------------


def test_o5_what_was_replaced_stays_covered_also_after_its_replacement_is_gone() -> None:
    held = a_map()
    offer(held, live(1))
    offer(held, live(5, B))
    assert held.context.covers(AT + 1, A)
    assert held.gone("k", (AT + 5, B), NOW)
    assert offer(held, live(1)) is Verdict.GONE
    assert offer(held, live(5, B)) is Verdict.GONE


def test_o5_what_an_own_write_replaces_stays_covered() -> None:
    for write in ("put", "write", "delete"):
        world = World("a")
        held = world["a"].map
        held.offer("k", live(-9), world.reading("a"), None)
        world.delete("a", "k") if write == "delete" else getattr(world, write)("a", "k", "own")
        world["a"].settle()
        assert held.context.covers(AT - 9, A)
        world.check()


def test_o5_a_delete_covers_what_its_writer_could_see_where_it_arrives() -> None:
    held = a_map()
    assert offer(held, dead_entry(AT + 5, B, (AT + 1, A))) is Verdict.TAKEN
    assert held.forget("k", held.store.entries["k"], NOW)
    assert offer(held, live(1)) is Verdict.GONE


def test_o5_a_second_delete_still_answers_for_what_the_first_one_removed() -> None:
    world = World("a")
    held = world["a"].map
    held.offer("k", live(-9), world.reading("a"), None)
    world.delete("a", "k")
    world.delete("a", "k")
    assert held.store.entries["k"][VALUE] == (AT - 9, A)


def test_o5_no_entry_is_forgotten_without_room_for_the_dots_that_it_needs() -> None:
    held = a_map()
    for i in range(TUNING.dots_per_origin + 1):
        held.offer(i, live(i + 1), NOW, None)
    for i in range(TUNING.dots_per_origin):
        assert held.forget(i, held.store.entries[i], NOW)
    last = TUNING.dots_per_origin
    assert not held.forget(last, held.store.entries[last], NOW)
    assert held.store.entries[last][STATE] == LIVE
    assert held.gone(last, (AT + last + 1, A), NOW)  # but the value goes: the entry is kept dead instead
    assert held.store.entries[last][STATE] == DEAD
    assert held.offer(last, live(last + 1), NOW, None) is Verdict.MERGED
    assert held.store.entries[last][STATE] == DEAD
    held.check()


def test_o5_an_offer_behind_a_gap_that_would_need_a_dot_beyond_the_cap_is_not_applied() -> None:
    held = a_map()
    held.context.leave_dot(AT + 100, A)
    held.context.leave_dot(AT + 101, A)
    offer(held, live(1))
    assert offer(held, live(5, B), capped=True) is Verdict.FULL
    assert held.store.entries["k"] == live(1)
    assert offer(held, live(0), capped=True) is Verdict.FULL  # beaten, and to be covered as well
    assert offer(held, live(5, B)) is Verdict.TAKEN
    held.check()


# ---- the guard, and the clock ---------------------------------------------------------------------------------------


def test_a_stamp_too_far_ahead_is_parked_or_rejected_and_leaves_no_trace() -> None:
    for ahead, verdict in ((1_001, Verdict.PARKED), (60_000, Verdict.PARKED), (60_001, Verdict.REJECTED)):
        far = AT + (ahead << 16)
        for entry in (live_entry(far, A, 0, "v"), (AT, A, far, B, 0, LIVE, "v"), dead_entry(far, A)):
            held = a_map()
            assert offer(held, entry) is verdict
            assert held.store.entries == {}
            assert held.clock.last == 0
            assert not held.context.covers(*entry[:2])


def test_what_is_accepted_moves_the_clock_so_that_the_next_write_wins() -> None:
    for fast in (False, True):
        world = World("ab", offsets={"b": 190})
        world.link_all()
        world.put("b", "k", "ahead")
        world.carry()
        assert world.get("a", "k") == "ahead"
        (world.write if fast else world.put)("a", "k", "after")
        world.run(300)
        assert world.get("b", "k") == "after"


def test_an_offer_of_what_is_beaten_moves_the_clock_too() -> None:
    held = a_map()
    offer(held, live(5 << 16, B))
    offer(held, (AT + 4, A, AT + (9 << 16), A, 0, LIVE, "v"))
    assert held.clock.last == AT + (9 << 16)


# ---- conflicts ------------------------------------------------------------------------------------------------------


def conflicts(world: World, name: str) -> list[tuple[object, object]]:
    return [
        (change.entry[VALUE], change.previous[VALUE] if change.previous else None)
        for change in world.changes(name)
        if change.kind == "overwritten"
    ]


def test_a_concurrent_write_that_lost_is_reported_once_by_the_one_who_knows_for_certain() -> None:
    world = World("abc")
    world.link_all()
    world.put("a", "k", "loses")
    world.step(1)
    world.put("b", "k", "wins")
    world.run(200)
    assert [conflicts(world, name) for name in "abc"].count([]) == 2
    assert [("wins", "loses")] in [conflicts(world, name) for name in "abc"]


def test_an_overwrite_that_had_seen_the_old_value_is_no_conflict() -> None:
    world = World("ab")
    world.link_all()
    world.put("a", "k", 1)
    world.run(100)
    world.put("b", "k", 2)
    world.run(100)
    world.delete("a", "k")
    world.run(100)
    assert conflicts(world, "a") == conflicts(world, "b") == []


def test_a_write_that_nobody_was_told_of_and_that_lost_is_reported_by_its_writer() -> None:
    world = World("ab")
    world.link_all()
    world.run(60)
    world.put("b", "k", "wins")
    world.carry(("b", "a"))
    world["a"].map.sent = 0
    world.put("a", "x", 1)
    older = live_entry(AT, world["a"].origin, 0, "loses")
    world["a"].map.replace("y", older, None, world.reading("a"), remote=False)
    world.inject("b", "a", Offer(0, 0, [("y", live_entry(world.wall_ms("b") << 16, B, 0, "newer"))]))
    assert conflicts(world, "a") == [("newer", "loses")]
