"""A member that repeats itself: what a frame costs here, in work and in memory, stays in proportion to its bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtcache.core.entry import live_entry
from crdtcache.core.messages import (
    Context,
    Item,
    List,
    MemberRow,
    Message,
    Nodes,
    Offer,
    Open,
    Pull,
    Row,
    Slice,
    Turn,
    Want,
)
from crdtcache.core.outcome import LinkBroken
from crdtcache.core.session import Phase, Session
from crdtcache.tuning import Tuning
from tests.core.world import WALL_MS, World

C = 0xC0FFEE


def linked(tuning: Tuning | None = None) -> World:
    """a holds 2,000 keys; b is the one that floods it."""
    world = World("ab", tuning=tuning or Tuning())
    world.link_all()
    world.run(100)
    for i in range(2_000):
        world.put("a", i, i)
    world.carry()
    return world


def broken(world: World) -> list[str]:
    return [event.reason for event in world.events["a"] if isinstance(event, LinkBroken)]


@pytest.mark.parametrize(
    "message",
    [
        Nodes(2, (1,), (0,) * 16, (0,) * 16),  # it is a that has to tell first
        List(2, (1,), []),
        Turn(2, (16,), True),
    ],
    ids=lambda message: type(message).__name__,
)
def test_branches_that_the_peer_was_not_told_of_end_the_link(message: Nodes | List | Turn) -> None:
    world = linked()
    world.inject("b", "a", Open(2, 1, 0, (0, 0), 77, 2_000), message)
    assert any("of the digest where it was not asked for" in reason for reason in broken(world))


def test_a_branch_is_listed_once_in_a_session() -> None:
    world = linked()
    world.inject("b", "a", Open(2, 1, 0, (0, 0), 77, 2_000))
    while world.pump("a", "b"):
        pass  # a has told the sums below the root
    world.inject("b", "a", List(2, (16, 17), []))
    assert broken(world) == []
    world.inject("b", "a", List(2, (17,), []))
    assert broken(world) == ["node 17 of the digest where it was not asked for"]


def test_of_many_requests_for_a_session_most_are_answered_busy() -> None:
    world = linked()
    [link] = world["a"]._links.values()
    before = len(link.control)
    world.inject("b", "a", *[Open(2, 1, 0, (0, 0), 77, 2_000)] * 500)
    assert 480 <= len(link.control) - before <= 490
    assert link.session is not None


def test_the_sum_and_count_of_the_root_are_at_hand() -> None:
    world = linked()
    digest = world["a"].map.digest
    digest.fold()
    children = [digest.node(16 + i) for i in range(16)]
    assert digest.node(1) == (sum(s for s, _ in children) % 2**64, sum(count for _, count in children))
    digest.sums = None  # type: ignore[assignment]
    assert digest.node(1)[1] == 2_000


def test_large_entries_that_answer_a_slice_wait_as_keys() -> None:
    world = linked()
    for i in range(300):
        world.put("a", f"big{i}", "x" * 30_000)
    while world.pump("a", "b"):
        pass
    [link] = world["a"]._links.values()
    stamp = (WALL_MS + world.now_ms + 1) << 16
    items = [Item(stamp + i, stamp + i, 0, 0, f"big{i - 1}", live_entry(stamp + i, C, 0, 0)) for i in range(1, 301)]
    covered = Row(C, 0, stamp + 400)
    world.inject(
        "b", "a", Context([covered], WALL_MS, (0, 0), [], 0), Slice(C, stamp, stamp + 400, stamp, (0, 0), (), items)
    )
    assert len(link.better) == 300
    assert link.waiting < 20_000
    offers = 0
    while world.pump("a", "b"):
        offers += 1
    assert offers >= 100
    assert not link.better
    assert link.waiting == 0


def comparing(world: World) -> Session:
    """The session that b has opened, at a."""
    world.inject("b", "a", Open(2, 1, 0, (0, 0), 77, 2_000))
    [link] = world["a"]._links.values()
    assert link.session is not None
    return link.session


def test_what_one_session_is_to_offer_is_bounded_whatever_is_listed_and_wanted() -> None:
    world = linked(replace(Tuning(), session_leaves=16, list_entries=1))
    session = comparing(world)
    while world.pump("a", "b"):
        pass  # a has told the sums below the root
    stamp = (WALL_MS + world.now_ms) << 16
    for node in range(256, 272):
        lacked = [(f"{node}-{i}", live_entry(stamp, C, 0, None)) for i in range(100)]
        world.inject("b", "a", List(2, (node,), lacked))
    assert len(session._wanted) <= 2 * 16 * 16
    session._wanted.clear()
    for start in range(0, 2_000, 100):
        world.inject("b", "a", Want(2, list(range(start, start + 100))))
    assert len(session._found) <= 2 * 16 * 16 + 100
    assert session.limited, "and so nothing is adopted from it"
    assert broken(world) == []


@pytest.mark.parametrize("flood", ["pulls", "windows"])
def test_who_asks_and_does_not_read_loses_the_link(flood: str) -> None:
    world = linked()
    asks: list[Message] = [Pull(99, 0)] * 5_000
    if flood == "windows":
        comparing(world).phase = Phase.OFFERING
        beaten = live_entry(1, C, 0, 0)
        asks = [Offer(2, window, [(key, beaten) for key in range(1_000)]) for window in range(1, 4)]
    for _ in range(100):
        world.inject("b", "a", *asks)
        if reasons := broken(world):
            break
    [reason] = reasons
    assert reason.endswith(f"bytes wait to be sent; the limit is {16 * Tuning().max_frame_bytes}")


def test_of_invented_members_nothing_is_kept_beyond_the_bound_and_the_view_is_not_computed_for_each() -> None:
    world = linked()
    views = 0
    see = world["a"]._relay._spread.see

    def counted(members: object) -> None:
        nonlocal views
        views += 1
        see(())

    world["a"]._relay._spread.see = counted  # type: ignore[method-assign, assignment]
    for start in range(0, 12_000, 100):
        rows = [MemberRow(i, i, f"m{i}", "r", "", f"m{i}:1", 0) for i in range(start + 10, start + 110)]
        world.inject("b", "a", Context([], 0, (0, 0), rows, 0))
    members = world["a"].members
    assert len(members.known) <= 10_000
    assert len(members.latest) <= len(members.known) + 1
    assert len(members.addresses) <= len(members.known) + 1
    assert views < 20


def test_of_more_origins_than_fit_a_message_those_are_told_that_write() -> None:
    world = linked()
    world.add("c")
    world.link("a", "c")
    world.inject("b", "a", Context([Row(i + 10, 0, WALL_MS << 16) for i in range(8_000)], 0, (0, 0), [], 0))
    world.run(100)
    rows, *_ = world["a"]._outbox.position(world.reading("a"), {})
    assert len(rows) <= 8_000
    assert {world[name].origin for name in "abc"} <= {row.origin for row in rows}
