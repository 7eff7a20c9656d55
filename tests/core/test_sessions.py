"""C3: sessions. What a log cannot tell any more is settled by offering everything, and only then adopted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtcache.core.digest import ROOT
from crdtcache.core.entry import dead_entry, live_entry
from crdtcache.core.lwwmap import LWWMap
from crdtcache.core.messages import Answered, Busy, End, Equal, Gone, List, Offer, Open, Ready, Turn, Want
from crdtcache.core.session import Phase, Session
from tests.core.world import FAST, World


def away_beyond_the_log(tuning=FAST, **arguments) -> World:
    """b has missed more writes of a than a's log holds; they have just met again."""
    world = World("ab", tuning=tuning, **arguments)
    world.link_all()
    world.put("a", "shared", "old")
    world.run(100)
    world.cut("a", "b")
    for i in range(tuning.log_records + 8):
        world.put("a", f"a{i}", i)
    world.delete("a", "shared")
    world.link("a", "b")
    return world


def session_of(world: World, name: str) -> Session | None:
    sessions = [link.session for link in world[name]._links.values() if link.session is not None]
    return sessions[0] if sessions else None


def offering(held: LWWMap) -> Session:
    """A session in which both sides offer all they hold."""
    session = Session(2, Ready(2, [], 0, (0, 0), 0, ()), opener=True, now_ns=0)
    session.begin(session.own)
    session.turn(Turn(2, (ROOT,), True), held)
    return session


def until_the_session_begins(world: World, name: str) -> Session:
    for _ in range(100):
        session = session_of(world, name)
        if session is not None and session.rows is not None:
            return session
        world.step(5)
        for direction in list(world.pipes):
            world.pump(*direction)
            world.deliver(*direction)
    raise AssertionError("no session")


def test_who_was_away_beyond_the_log_gets_everything_by_a_session() -> None:
    world = away_beyond_the_log()
    world.run(300)
    assert world.agree()
    assert world["a"].stats()["too_old"] == 1
    assert world["a"].stats()["sessions"] == world["b"].stats()["sessions"] == 1
    assert world.get("b", "shared") is None
    world.check()


def test_what_was_adopted_from_a_session_has_no_log_and_is_answered_too_old() -> None:
    world = away_beyond_the_log()
    world.run(300)
    origin = world["a"].origin
    assert world["b"].map.log.floor(origin) > 0
    assert list(world["b"].map.log.after(origin, 0)) == []
    world.cut_off("a")
    world.add("c")
    world.link("b", "c")
    world.run(300)
    assert world["b"].stats()["too_old"] == 1
    assert world.visible("c") == world.visible("b")


def test_a_newcomer_of_a_full_cluster_is_filled_by_a_session_and_brings_its_own() -> None:
    world = World("ab")
    world.link_all()
    for i in range(50):
        world.put("a", i, i)
    world.run(50)
    for i in range(10):
        world.delete("b", 40 + i)
    world.run(300)
    world.add("c")
    world.put("c", "own", 1)
    world.calm()
    assert len(world.visible("c")) == 41
    assert world.get("a", "own") == 1


def test_an_entry_that_is_deleted_on_one_side_only_is_gone_on_both_after_the_session() -> None:
    """The deleter has collected it; the other one offers it and is told GONE."""
    world = World("ab")
    world.link_all()
    world.put("b", "k", 1)
    world.run(100)
    world.cut("a", "b")
    removal = world.delete("a", "k")
    for i in range(FAST.log_records + 4):
        world.put("a", i, i)
    world["a"].map.forget("k", world.held("a", "k"), world.reading("a"))
    world.link("a", "b")
    world.run(400)
    assert world.get("b", "k") is None
    assert world.covers("b", removal, "k")
    assert world["b"].stats()["gone"] == 1
    assert world.agree()


def test_a_better_entry_answers_one_that_was_offered() -> None:
    world = away_beyond_the_log()
    world.step(5)
    world.put("b", "a3", "newer")
    world.run(300)
    assert world.get("a", "a3") == "newer"
    assert world.agree()


def test_rows_of_the_first_message_are_adopted_and_not_later_ones() -> None:
    world = away_beyond_the_log()
    session = until_the_session_begins(world, "b")
    rows = {row.origin: row.now for row in session.rows or []}
    origin = world["a"].origin
    late = world.put("a", "late", 1)
    assert rows[origin] < late.stamp
    link = next(iter(world["b"]._links.values()))
    for _ in range(200):
        for direction in (("b", "a"), ("a", "b")):
            world.pump(*direction)
            world.deliver(*direction)
        if link.session is None:
            break
    assert not world.covers("b", late, "late") or world.get("b", "late") == 1
    world.run(300)
    assert world.agree()


def test_an_incomplete_session_adopts_nothing_and_is_held_again() -> None:
    """An entry of a clock that is too far ahead is parked: the peer must not adopt rows that cover it."""
    world = World("abc", offsets={"c": 195, "b": -100})
    world.link("a", "b")
    world.run(60)
    world.cut("a", "b")
    for i in range(FAST.log_records + 4):
        world.put("a", i, i)
    world.link("a", "b")
    world.link("a", "c")
    parked = world.put("c", "ahead", 1)
    world.carry(("c", "a"))
    assert world.get("a", "ahead") == 1
    for _ in range(60):
        world.run(5, 5)
        assert not world.covers("b", parked, "ahead") or world.get("b", "ahead") == 1
    assert world["b"].stats()["sessions_incomplete"] >= 1
    world.calm()


@pytest.mark.parametrize("covered", [True, False])
def test_what_comes_from_another_peer_meanwhile_is_not_covered_by_what_is_adopted(covered: bool) -> None:
    """The peer was not asked about it and may have removed it: its rows would tell of nothing else (seed 40003672)."""
    world = away_beyond_the_log()
    session = until_the_session_begins(world, "b")
    assert session.rows is not None
    row = next(row for row in session.rows if row.origin in session.own.adopts)
    entry = live_entry(row.now - 1 if covered else row.now + 1, row.origin, 0, "v")
    world["b"]._sessions._offers(None, [("from another", entry)], world.reading("b"))
    assert world.held("b", "from another") is not None
    assert session.limited == covered


def test_an_answer_that_comes_twice_settles_one_window_only() -> None:
    """Otherwise a session ends with a window outstanding, and its rows are adopted all the same."""
    world = away_beyond_the_log()
    session = until_the_session_begins(world, "a")
    world.pump("a", "b")
    world.pump("a", "b")
    windows = list(session.unanswered)
    assert windows
    for _ in range(3):
        world.inject("b", "a", Answered(session.number, windows[0], True))
    assert list(session.unanswered)[: len(windows) - 1] == windows[1:]


def test_messages_of_another_session_are_ignored() -> None:
    world = away_beyond_the_log()
    session = until_the_session_begins(world, "b")
    others = (End(99, 1, True), Answered(99, 1, False), Offer(99, 1, []), Ready(99, [], 0, (0, 0), 0, ()), Equal(99))
    world.inject("a", "b", *others, Turn(99, (), True), Want(99, []), List(99, (1,), []), Busy(99, 1))
    assert session_of(world, "b") is session
    assert session.complete
    assert not session.their_end


def test_what_a_phase_does_not_expect_is_ignored() -> None:
    world = away_beyond_the_log()
    link = next(iter(world["b"]._links.values()))
    link.too_old[world["a"].origin] = 1 << 63
    world["b"]._sessions.open(link, world.reading("b"))
    session = link.session
    assert session is not None
    assert session.rows is None
    number = session.number
    world.inject("a", "b", End(number, 7, True), Answered(number, 1, False), Turn(number, (), True))
    assert session.phase is Phase.ASKED
    assert session.complete
    assert not session.their_end
    assert not session.limited
    world.calm()


def test_of_two_sessions_asked_for_at_once_one_is_held() -> None:
    world = World("ab")
    world.link_all()
    world.run(60)
    world.cut("a", "b")
    for name in "ab":
        for i in range(FAST.log_records + 4):
            world.put(name, f"{name}{i}", i)
    world.link("a", "b")
    assert world.calm() <= 500
    assert world["a"].stats()["sessions"] == world["b"].stats()["sessions"]


def test_who_is_busy_when_both_ask_at_once_gives_up_its_own_as_well() -> None:
    """The smaller origin does not answer it: it waits for an answer to its own (kitchen-sink, seed 50067)."""
    world = World("ab")
    world.link_all()
    world.run(60)
    small, great = sorted("ab", key=lambda name: world[name].origin)
    assert world[great].ask_session(world[small].origin, world.reading(great))
    world[great].map.clearing = ["k"]
    world.inject(small, great, Open(2, 0, 0, (0, 0), 0, 0))
    assert session_of(world, great) is None


@pytest.mark.parametrize(("size", "most"), [(40, 1), (0, 2)])
def test_who_is_busy_with_a_session_says_so_but_fills_two_joiners_at_once(size: int, most: int) -> None:
    world = World("abcd")
    for i in range(40):
        world.put("a", i, i)
    for name in "bcd":
        world.link("a", name)
        world.inject(name, "a", Open(2, 0, 0, (0, 0), 7, size))
    assert sum(link.session is not None for link in world["a"]._links.values()) == most
    assert [link.control[-1][:2] == b"\x93\x07" for link in world["a"]._links.values()].count(True) == 3 - most
    world.calm()


def test_one_who_clears_is_busy() -> None:
    world = World("ab")
    world.link_all()
    world.run(60)
    world["a"].map.clearing = ["k"]
    world.inject("b", "a", Open(5, 0, 0, (0, 0), 0, 0))
    assert session_of(world, "a") is None
    sent = [link.control[-1] for link in world["a"]._links.values()]
    assert sent[0][0] == 0x93
    assert sent[0][1] == 7  # BUSY


def test_busy_makes_the_asker_wait_with_jitter() -> None:
    world = away_beyond_the_log()
    until_the_session_begins(world, "b")
    link = next(iter(world["b"]._links.values()))
    session = link.session
    assert session is not None
    world.inject("a", "b", Busy(session.number, 30))
    assert link.session is None
    wait_ms = (link.retry_ns - world.reading("b").mono_ns) / 1e6
    assert 30 <= wait_ms <= 30 * 15
    world.inject("a", "b", Busy(session.number, 30))  # nothing to decline any more


def test_a_session_without_progress_ends_and_leaves_room_for_the_next() -> None:
    world = away_beyond_the_log(replace(FAST, compare_ms=60_000))
    until_the_session_begins(world, "b")
    link = next(iter(world["a"]._links.values()))
    link.session = None  # the peer has forgotten it
    for _ in range(30):
        world.run(50)
        if world["b"].stats()["sessions_stuck"]:
            break
    assert world["b"].stats()["sessions_stuck"] == 1
    world.calm()


def test_digests_that_stand_still_and_differ_lead_to_a_session() -> None:
    """As after a touch that came too late for some: nothing is missing, and yet the maps differ."""
    world = World("ab")
    world.link_all()
    version = world.put("a", "k", 1)
    world.run(100)
    world["b"].map.gone("k", version, world.reading("b"))
    assert not world.agree()
    world.run(1_000)
    assert world.agree()
    assert world.get("a", "k") is None  # b knows that it is gone


def test_a_session_is_made_of_windows_that_wait_for_answers() -> None:
    world = World("a")
    for i in range(40):
        world.put("a", i, i)
    held = world["a"].map
    session = offering(held)
    windows = []
    while (message := session.next_message(held, 4_000)) is not None:
        assert isinstance(message, Offer)
        assert len(message.entries) <= FAST.window_entries
        windows.append(message.window)
    assert windows == [1, 2]
    session.answers.window(session.number, [("k", 1, 2)], [0, 1], 9, True)
    kinds = [type(session.next_message(held, 4_000)) for _ in range(3)]
    assert kinds == [Gone, Offer, Answered]  # in this order: ANSWERED says that the others were before it
    sent = {}
    while True:
        for window in list(session.unanswered):
            session.answered(window, True)
        message = session.next_message(held, 4_000)
        if isinstance(message, End):
            break
        assert isinstance(message, Offer)
        sent |= dict(message.entries)
    assert session.next_message(held, 4_000) is None
    assert not session.done
    session.their_end = True
    session.answered(message.window, True)
    assert session.done
    assert session.complete


def test_answers_too_large_for_a_frame_are_parted() -> None:
    world = World("a")
    for i in range(4):
        world.put("a", i, "x" * 900)
    session = offering(world["a"].map)
    session.answers.window(session.number, [], [0, 1, 2, 3, "absent"], 5, True)
    got = []
    while not isinstance(message := session.next_message(world["a"].map, 2_000), Answered):
        assert isinstance(message, Offer)
        got.append([key for key, _ in message.entries])
    assert got == [[0, 1], [2, 3]]


def test_a_better_entry_that_is_itself_known_to_be_gone_is_answered() -> None:
    """Outside of a session as well: an answer is an offer like any other."""
    world = World("ab")
    world.link_all()
    version = world.put("a", "k", 1)
    world.run(100)
    world["b"].map.gone("k", version, world.reading("b"))
    world.inject("a", "b", Offer(0, 0, [("k", live_entry(*version, 0, 1))]))
    world.carry()
    assert world.get("a", "k") is None


def test_offers_that_had_to_wait_make_the_session_incomplete() -> None:
    world = away_beyond_the_log()
    session = until_the_session_begins(world, "b")
    far = (world.wall_ms("b") + FAST.max_drift_ms + 500) << 16
    world.inject("a", "b", Offer(session.number, 0, [("far", live_entry(far, 77, 0, 1))]))
    assert not session.complete
    rejected = (world.wall_ms("b") + FAST.reject_ms + 500) << 16
    world.inject("a", "b", Offer(session.number, 50, [("farther", dead_entry(rejected, 77))]))
    assert world["b"].stats()["parked"] == 1
    assert world["b"].stats()["rejected"] == 1
