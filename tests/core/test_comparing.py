"""How a session finds what differs: turns, lists, streams, limits; what is moved for it, and what is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from crdtcache.core.codec import Limits, decode
from crdtcache.core.entry import DEAD, GHOST, STATE, VALUE, Entry, dead_entry, live_entry
from crdtcache.core.messages import Busy, Equal, InSession, List, Message, Nodes, Offer, Open, Slice, Turn, Want
from crdtcache.core.session import EXPECTED, Phase
from tests.core.world import FAST, HOUR_MS, World

QUIET = replace(FAST, compare_ms=HOUR_MS, compare_remote_ms=HOUR_MS, log_records=4_000)


def equal_pair(keys: int, **tuning: int) -> World:
    """Two that hold the same, compare only when told to, and repair by digest: their logs are empty."""
    world = World("ab", tuning=replace(QUIET, **tuning))
    world.link_all()
    for i in range(keys):
        world.put("ab"[i % 2], i, f"v{i}")
    world.run(500)
    assert world.agree()
    return world


def unsent(world: World, name: str, key: object, value: object) -> tuple[int, int]:
    """A write whose push was lost."""
    version = world.put(name, key, value)  # type: ignore[arg-type]
    for link in world[name]._links.values():
        link.cursors[world[name].origin] = version[0]
    return version


def behind(world: World, name: str, key: object, entry: Entry | None) -> None:
    """Change an entry as nobody would: without log, without a word to the other."""
    replica = world[name]
    replica.map.replace(key, entry, world.held(name, key), world.reading(name), remote=True)
    if entry is not None:
        replica.map.clock.accept(max(entry[0], entry[2]))


def messages_of(world: World) -> list[tuple[str, Message]]:
    """Everything that is sent from now on, with its sender."""
    sent: list[tuple[str, Message]] = []

    def watch(source: str, _target: str, data: bytes) -> None:
        sent.extend((source, m) for m in decode(data, Limits(64, 1_024))[1] if isinstance(m, Open | InSession))

    world.watch = watch
    return sent


def compare(world: World, name: str = "a") -> list[tuple[str, Message]]:
    """Let `name` open a session, and see what is sent until it is over."""
    sent = messages_of(world)
    world[name]._sessions._due_ns = [1, 0]
    world.step(0)
    world.carry()
    assert all(link.session is None for replica in world.nodes.values() for link in replica._links.values())
    world.check()
    return sent


def moved(sent: list[tuple[str, Message]]) -> dict[str, list[tuple[object, Entry]]]:
    """The entries offered, by sender."""
    found: dict[str, list[tuple[object, Entry]]] = {}
    for source, message in sent:
        if isinstance(message, Offer):
            found.setdefault(source, []).extend(message.entries)
    return {source: entries for source, entries in found.items() if entries}


def kinds(sent: list[tuple[str, Message]]) -> Counter[type[Message]]:
    return Counter(type(message) for _, message in sent)


def test_equal_replicas_need_one_question_and_one_answer() -> None:
    assert [type(message) for _, message in compare(equal_pair(40))] == [Open, Equal]


@pytest.mark.parametrize("keys", [3, 40, 600])
def test_one_newer_entry_is_found_and_nothing_else_is_moved(keys: int) -> None:
    for opener in "ab":
        world = equal_pair(keys)
        stamp, origin = unsent(world, "a", 1, "newer")
        sent = compare(world, opener)
        assert world.get("b", 1) == "newer"
        assert moved(sent) == {"a": [(1, live_entry(stamp, origin, 0, "newer"))]}


def test_an_entry_that_one_side_lacks_is_offered_without_being_asked_for() -> None:
    world = equal_pair(40)
    unsent(world, "b", "new", 1)
    sent = compare(world)
    assert [key for key, _ in moved(sent)["b"]] == ["new"]
    assert Want not in kinds(sent)


def test_a_lease_travels_without_the_value_it_is_of() -> None:
    for opener in "ab":
        world = equal_pair(3)
        entry = world.held("b", 1)
        assert entry is not None
        behind(world, "b", 1, (*entry[:2], entry[0] + 1, world["b"].origin, world.wall_ms("b") + 9_000, *entry[5:]))
        sent = compare(world, opener)
        assert world.held("a", 1) == world.held("b", 1)
        assert all(entry[VALUE] is None for entries in moved(sent).values() for _, entry in entries)


def test_a_death_travels_without_a_value_and_a_live_entry_does_not_come_back() -> None:
    for opener in "ab":
        world = equal_pair(3)
        entry = world.held("a", 1)
        assert entry is not None
        behind(world, "a", 1, (*entry[:STATE], DEAD, None))
        sent = compare(world, opener)
        assert world.get("b", 1) is None
        assert all(entry[STATE] == DEAD for entries in moved(sent).values() for _, entry in entries)


def test_what_is_listed_and_known_to_be_removed_is_answered_gone() -> None:
    for opener in "ab":
        world = equal_pair(3)
        behind(world, "b", 1, None)
        compare(world, opener)
        assert world.held("a", 1) is None
        assert world["a"].stats()["gone"] == 1


def test_what_is_listed_and_beaten_here_is_answered_by_what_beats_it() -> None:
    """Also where one side holds a ghost: what is listed is never taken without its value."""
    world = equal_pair(3)
    unsent(world, "a", 1, "older")
    unsent(world, "b", 1, "newer")
    world["b"].evict(2, world.reading("b"))
    unsent(world, "a", 2, "new")
    compare(world)
    assert [world.get(name, 1) for name in "ab"] == ["newer", "newer"]
    assert [world.get(name, 2) for name in "ab"] == ["new", "new"]


def test_an_evicted_value_is_no_difference_and_a_listed_ghost_is_wanted_as_what_it_is() -> None:
    world = equal_pair(40)
    world["a"].evict(1, world.reading("a"))
    assert kinds(compare(world)) == {Open: 1, Equal: 1}
    unsent(world, "a", 2, "newer")
    world["a"].evict(2, world.reading("a"))
    compare(world)
    held = world.held("b", 2)
    assert held is not None
    assert held[STATE] == GHOST


def test_a_listed_entry_of_a_clock_too_far_ahead_makes_the_session_incomplete() -> None:
    world = equal_pair(3)
    stamp = (world.wall_ms("b") + FAST.max_drift_ms + 500) << 16
    behind(world, "a", 1, live_entry(stamp, 77, 0, "ahead"))
    compare(world)
    assert world.get("b", 1) == "v1"
    assert world["b"].stats()["sessions_incomplete"] == 1


def test_a_listed_entry_that_cannot_be_judged_makes_it_incomplete_for_who_has_listed_it() -> None:
    """What is held in its place was not told: rows that cover that may not be adopted (kitchen-sink, seed 20001397)."""
    world = equal_pair(3)
    unsent(world, "b", 1, "newer")
    world.offset_ms["b"] = -24 * HOUR_MS
    compare(world, "b")
    assert [world[name].stats()["sessions_incomplete"] for name in "ab"] == [1, 1]


def test_a_session_at_its_limits_is_followed_by_the_next_until_all_is_equal() -> None:
    world = equal_pair(600, session_leaves=16, list_entries=2)
    for i in range(0, 600, 5):
        unsent(world, "a", i, "newer")
    sent = compare(world)
    assert kinds(sent)[Open] > 5
    assert world["a"].digest() == world["b"].digest()
    listed = [0]
    for _, message in sent:
        if isinstance(message, Open):
            listed.append(0)
        listed[-1] += len(getattr(message, "nodes", ())) if not isinstance(message, Nodes) else 0
    assert max(listed) <= 2 * 16  # by both


def test_a_session_that_has_offered_enough_bytes_leaves_the_rest_to_the_next() -> None:
    world = equal_pair(60, session_bytes=1_000, session_leaves=512)
    for i in range(60):
        unsent(world, "a", i, "x" * 200)
    sent = compare(world)
    assert kinds(sent)[Open] > 3
    assert world["a"].digest() == world["b"].digest()


def test_a_limited_session_adopts_nothing() -> None:
    world = World("ab", tuning=replace(FAST, session_bytes=400, compare_ms=HOUR_MS))
    world.link_all()
    for i in range(40):
        world.put("a", i, i)
    world.run(200)
    world.cut("a", "b")
    for i in range(40):
        world.put("a", i, "x" * 100)
    origin, before = world["a"].origin, world["b"].map.context.frontier[world["a"].origin]
    world.link("a", "b")
    whole = world["b"].stats()["sessions"]
    stats = world["b"].stats()
    for _ in range(200):
        world.step(1)
        for direction in (("a", "b"), ("b", "a")):
            world.pump(*direction)
            world.deliver(*direction)
        stats = world["b"].stats()
        if stats["sessions"] - stats["sessions_limited"] == whole:
            assert world["b"].map.context.frontier[origin] == before
    assert stats["sessions_limited"] > 1
    assert world["b"].map.context.frontier[origin] > before
    world.calm()


def test_where_one_side_has_much_less_nothing_is_listed_and_both_offer_all() -> None:
    world = World("ab", tuning=QUIET)
    for i in range(100):
        world.put("a", i, f"v{i}")
    world.delete("a", 5)
    world.put("b", 7, "b's")
    for name in "ab":
        world[name].map.log.cut(world[name].origin, 1 << 63)
    world.link_all()
    sent = messages_of(world)
    world.run(1_000)
    assert world.agree()
    assert {type(message) for _, message in sent} & {Nodes, Want} == set()
    assert [message.streams for _, message in sent if isinstance(message, Turn)] == [(1,)]
    assert {key for key, _ in moved(sent)["a"]} == set(range(100))
    assert 7 in [key for key, _ in moved(sent)["b"]]


def filled(world: World, until: int) -> None:
    """Let b be filled by a, frame by frame, until it holds so many entries."""
    for _ in range(20_000):
        if len(world["b"].store.entries) >= until:
            return
        for direction in (("a", "b"), ("b", "a")):
            world.pump(*direction)
            world.deliver(*direction)
        world.step(1)
    raise AssertionError(f"b holds {len(world['b'].store.entries)}")


JOINER = replace(FAST, window_entries=16, list_entries=16, session_leaves=512, compare_ms=2_000)


def big(count: int) -> World:
    """a holds many entries, most of them no longer in its log; b has just started."""
    world = World("ab", tuning=JOINER)
    for i in range(count):
        world.put("a", i, f"v{i}")
    return world


def test_what_was_used_last_comes_first() -> None:
    world = big(2_000)
    world["a"].store.rest()
    for i in range(500, 520):
        world["a"].store.promote(i)
    world.link("a", "b")
    filled(world, 40)
    assert set(range(500, 520)) <= world["b"].store.entries.keys()


def test_a_filling_that_was_cut_goes_on_where_it_was() -> None:
    world = big(4_000)
    world.link("a", "b")
    filled(world, 2_500)
    world.cut("a", "b")
    here = len(world["b"].store.entries)
    before = world["b"].stats()["entries_received"]
    world.link("a", "b")
    world.calm()
    again = world["b"].stats()["entries_received"] - before - (4_000 - here)
    assert again < 4_000 // 16, f"{again} entries came twice"


def test_nothing_is_pulled_while_a_replica_is_filled_and_writes_go_on() -> None:
    world = big(1_000)
    world.link("a", "b")
    filled(world, 100)
    pulls = world["b"].stats()["pulls"]
    for number in range(300):
        world.put("a", f"new{number}", number)
        filled(world, min(1_000, 100 + 3 * number))
        if not world["b"]._sessions.filling:
            break
        assert world["b"].stats()["pulls"] == pulls
    assert number > 10
    world.calm()


def test_a_replica_that_is_being_filled_fills_nobody_but_does_so_when_done() -> None:
    world = big(1_000)
    world.add("c")
    world.link("a", "b")
    filled(world, 100)
    world.link("b", "c")
    sent = messages_of(world)
    world.inject("c", "b", Open(99, 0, 0, (0, 0), 5, 1))
    world.carry(("b", "c"))
    assert ("b", Busy(99, FAST.busy_ms)) in sent
    filled(world, 1_000)
    world.cut_off("a")
    world.run(3_000)
    assert len(world["c"].store.entries) == 1_000


def test_ready_means_whole_or_as_much_as_is_asked_for() -> None:
    world = big(1_000)
    world.link("a", "b")
    filled(world, 300)
    replica = world["b"]
    assert replica.caught_up(0.3)
    assert not replica.caught_up(0.5)
    assert not replica.caught_up()
    world.run(500)
    assert replica.caught_up()


def test_the_dead_of_an_adopted_origin_are_offered_also_where_the_digests_agree() -> None:
    """A delete that is adopted without them is covered, and what it removed may still be on its way (I3)."""
    world = World("abc", tuning=replace(FAST, compare_ms=HOUR_MS))
    world.link("a", "b")
    world.run(100)
    world.cut("a", "b")
    world.link("a", "c")
    world.run(100)
    unsent(world, "c", "first", 1)  # so that a has the next only as an offer, behind a gap
    version = world.put("c", "k", "old")
    world.pump("c", "a")
    world.deliver("c", "a")
    world.cut("a", "c")
    removal = world.delete("a", "k")
    assert world["a"].map.context.frontier[world["c"].origin] < version.stamp
    world["a"].map.log.cut(world["a"].origin, removal.stamp)
    world.link("a", "b")
    world.run(200)
    assert world.covers("b", removal, "k")
    world["b"].map.offer("k", live_entry(*version, 0, "old"), world.reading("b"), None)
    assert world.get("b", "k") is None


def test_only_what_the_peer_lacks_of_an_adopted_origin_is_offered_of_the_dead() -> None:
    world = World("ab", tuning=replace(FAST, compare_ms=HOUR_MS))
    world.link_all()
    for i in range(8):
        world.delete("a", i)
    world.run(100)
    world.cut("a", "b")
    world.delete("a", "late")
    world["a"].map.log.cut(world["a"].origin, 1 << 63)
    sent = messages_of(world)
    world.link("a", "b")
    world.run(200)
    assert [key for key, _ in moved(sent)["a"]] == ["late"]


def test_the_phases_expect_each_message_of_a_session_and_no_other() -> None:
    expected = {kind for kinds in EXPECTED.values() for kind in kinds}
    assert expected == set(InSession.__args__)
    assert set(EXPECTED) == set(Phase)


# ---- when -----------------------------------------------------------------------------------------------------------


def opened(world: World, ms: int) -> list[tuple[str, int]]:
    """Who opens sessions in the time to come, and when."""
    found: list[tuple[str, int]] = []

    def watch(source: str, _target: str, data: bytes) -> None:
        found.extend((source, world.now_ms) for m in decode(data, Limits(64, 1_024))[1] if isinstance(m, Open))

    world.watch = watch
    world.run(ms)
    return found


def test_a_comparison_follows_soon_after_a_link_and_then_one_in_each_period() -> None:
    world = World("ab", tuning=replace(FAST, compare_ms=1_000))
    world.link_all()
    times = [ms for _, ms in opened(world, 10_000)]
    assert times[0] <= 300
    gaps = [later - ms for ms, later in pairwise(times)]
    assert min(gaps) >= 900, "who is asked need not ask"
    assert max(gaps) <= 1_500


def test_remote_members_are_compared_with_less_often() -> None:
    world = World("ab", tuning=replace(FAST, compare_ms=500, compare_remote_ms=3_000))
    world.add("c", region="far")
    world.link_all()
    world.run(1_000)
    sent: Counter[bool] = Counter()

    def watch(source: str, target: str, data: bytes) -> None:
        sent.update("c" in (source, target) for m in decode(data, Limits(64, 1_024))[1] if isinstance(m, Open))

    world.watch = watch
    world.run(18_000)
    assert 4 <= sent[True] <= 13
    assert sent[False] >= 20


def test_what_is_missing_is_not_a_difference_so_gaps_are_filled_first() -> None:
    world = World("ab", tuning=replace(FAST, compare_ms=1_000))
    world.link_all()
    world["a"]._gaps.want(77, 1 << 63, world.reading("a").mono_ns + 10**12)
    world["b"]._gaps.want(77, 1 << 63, world.reading("b").mono_ns + 10**12)
    assert opened(world, 3_000) == []


def test_a_replica_of_another_digest_is_not_compared_with_but_filled_all_the_same() -> None:
    world = World("ab", tuning=replace(FAST, compare_ms=500))
    world.link_all()
    for replica in world.nodes.values():
        for link in replica._links.values():
            link.hello = link.hello._replace(digest_version=99)
    assert opened(world, 3_000) == []
    world["b"].map.context.frontier.pop(world["a"].origin, None)
    for i in range(40):
        world.put("a", i, i)
    [link] = world["b"]._links.values()
    link.too_old[world["a"].origin] = 1 << 63
    world["b"]._sessions.open(link, world.reading("b"))
    sent = messages_of(world)
    world.carry()
    assert (1,) in [message.streams for _, message in sent if isinstance(message, Turn)]
    assert Slice not in kinds(sent)
    assert world.visible("a") == world.visible("b")


def test_dead_entries_below_a_branch_that_differs_are_settled_by_their_versions() -> None:
    world = equal_pair(3)
    removed = dead_entry(world.wall_ms("a") << 16, 77, world.held("a", 1)[:2])  # type: ignore[index]
    behind(world, "a", 1, removed)
    compare(world, "b")
    assert world.held("b", 1) == removed


def test_what_expires_while_two_compare_is_listed_and_moved_by_neither() -> None:
    """Each of their frames takes 60 ms, and every 10 ms a key expires on both: their sums are never of one instant."""
    world = World("ab", tuning=replace(QUIET, list_entries=64))
    world.link_all()
    world.run(60)
    for number in range(100):
        world.put("a", number, number, ttl_ms=150 + 10 * number)
    world.run(200)
    sent = messages_of(world)
    world["a"]._sessions._due_ns = [1, 0]
    world.step(0)
    for _ in range(20):
        for direction in (("a", "b"), ("b", "a")):
            world.pump(*direction)
            world.step(60)
            world.deliver(*direction)
    assert any(isinstance(message, List) and message.entries for _, message in sent), "no difference: nothing tested"
    assert not any(isinstance(message, Offer) and message.entries for _, message in sent)
    world.run(500)
    assert [world[name].stats()["sessions"] for name in "ab"] == [0, 0]
    assert world.agree()
    assert not world.visible("a")
