"""Whom to tell: every member is told once, regions are crossed once, and few change their parent when one goes."""

from __future__ import annotations

import random
from collections import deque
from statistics import mean

import pytest

from crdtcache.core.spread import GROUPS, Place, Role, Spread, Tell, group_of

STAR, FAN_OUT = 24, 8


def cluster(*sizes: int, seed: int = 1) -> dict[int, Spread]:
    """Regions of these sizes; everybody sees everybody."""
    rng = random.Random(seed)
    places = [Place(rng.randrange(1, 1 << 64), f"r{number}") for number, size in enumerate(sizes) for _ in range(size)]
    spreads = {place.origin: Spread(place.origin, place.region, STAR, FAN_OUT) for place in places}
    for spread in spreads.values():
        spread.see(places)
    return spreads


def told(
    spreads: dict[int, Spread], writer: int, dead: frozenset[int] = frozenset()
) -> tuple[dict[int, int], int, int, dict[int, None]]:
    """(member -> hops, copies sent, copies that crossed to another region, who got a row) of one write."""
    hops, copies, crossed, rows = {writer: 0}, 0, 0, {}
    queue = deque([(writer, Role.WRITER)])
    while queue:
        teller, role = queue.popleft()
        for member, tell in spreads[teller].targets(writer, role, spreads).items():
            if tell is Tell.ROW:
                rows[member] = None
                continue
            copies += 1
            crossed += spreads[teller].region != spreads[member].region
            if member not in hops and member not in dead:
                hops[member] = hops[teller] + 1
                queue.append((member, Role.ENTRY if tell is Tell.ENTRY else Role.MEMBER))
    return hops, copies, crossed, rows


@pytest.mark.parametrize(
    "sizes", [(2,), (5,), (24,), (25,), (60,), (1, 1), (3, 1, 2), (24, 25), (20,) * 5, (200, 7, 1)]
)
def test_everybody_is_told_once_and_every_region_is_crossed_to_once(sizes: tuple[int, ...]) -> None:
    spreads = cluster(*sizes)
    for writer in random.Random(2).sample(list(spreads), min(len(spreads), 12)):
        hops, copies, crossed, _ = told(spreads, writer)
        assert hops.keys() == spreads.keys()
        assert copies == len(spreads) - 1
        assert crossed == len(sizes) - 1


def test_in_small_regions_two_hops_are_enough_and_four_within_two_hundred() -> None:
    for sizes, most in (((24,) * 3, 2), ((200,), 4), ((200,) * 2, 5)):
        spreads = cluster(*sizes)
        assert max(max(told(spreads, writer)[0].values()) for writer in list(spreads)[:20]) <= most


def test_the_second_of_a_region_hears_that_there_is_something() -> None:
    """Should the first not pass it on, the second knows what to ask for."""
    spreads = cluster(20, 20, 60)
    for writer in list(spreads)[:30]:
        group, rows = group_of(writer), told(spreads, writer)[3]
        for region in ("r0", "r1", "r2"):
            members = [o for o in spreads[writer].order(region, group) if o != writer]
            if region != spreads[writer].region or len(members) > STAR:
                assert writer == spreads[writer].order(region, group)[0] or members[1] in rows
    assert all(sum(o in rows for o in spreads[writer].order("r1", group)) <= 1 for writer in [next(iter(spreads))])


def test_whoever_had_to_pull_tells_all_that_the_one_before_it_should_have_told() -> None:
    spreads = cluster(12, 12, 60)
    writer = next(iter(spreads))
    for region in ("r1", "r2"):
        first, second, *_ = spreads[writer].order(region, group_of(writer))
        reached = told(spreads, writer, frozenset([first]))[0]
        assert not reached.keys() & set(spreads[writer].order(region, group_of(writer)))
        instead = spreads[second].targets(writer, Role.PULLED, spreads)
        asked = spreads[first].targets(writer, Role.ENTRY, spreads)
        assert asked.keys() - {second} <= instead.keys()


def test_who_cannot_be_reached_from_here_is_passed_over() -> None:
    """The next in the order gets the copy, and is told what it is for."""
    spreads = cluster(3, 5)
    writer = next(iter(spreads))
    order = spreads[writer].order("r1", group_of(writer))
    linked = spreads.keys() - {order[0]}
    targets = spreads[writer].targets(writer, Role.WRITER, linked)
    assert order[0] not in targets
    assert targets[order[1]] is Tell.ENTRY
    assert targets[order[2]] is Tell.ROW
    passed_on = spreads[order[1]].targets(writer, Role.ENTRY, spreads)
    assert passed_on.keys() == set(order) - {order[1]}


def test_few_members_change_their_parent_when_one_goes() -> None:
    """At most 5 % of 200 on 95 of 100 departures; a heap of positions would move 11 % on the average."""
    spreads = cluster(200)
    view = [Place(origin, "r0") for origin in spreads]

    def parents(places: list[Place], group: int) -> dict[int, int]:
        found = {}
        writer = next(origin for origin in spreads if group_of(origin) == group)
        for place in places:
            spread = Spread(place.origin, "r0", STAR, FAN_OUT)
            spread.see(places)
            role = Role.ENTRY if place.origin == spread.order("r0", group)[0] else Role.MEMBER
            found |= dict.fromkeys(spread.targets(writer, role, spreads), place.origin)
        return found

    before = {group: parents(view, group) for group in (0, 5)}
    shares = []
    for gone in random.Random(3).sample(view, 20):
        rest = [place for place in view if place != gone]
        for group, was in before.items():
            now = parents(rest, group)
            shares.append(sum(now.get(o) != parent for o, parent in was.items() if o != gone.origin) / len(rest))
    assert mean(shares) <= 0.03
    assert sorted(shares)[int(len(shares) * 0.9)] <= 0.06


def test_links_worth_having_are_few_and_both_ends_agree() -> None:
    spreads = cluster(200, 200)
    links = {origin: spread.neighbours() for origin, spread in spreads.items()}
    assert all(origin in links[other] for origin, others in links.items() for other in others)
    assert max(map(len, links.values())) <= 64
    for writer in list(spreads)[:: len(spreads) // 40]:
        for teller in list(spreads)[::7]:
            order = spreads[teller].order(spreads[teller].region, group_of(writer))
            roles = [Role.MEMBER] if teller != writer else [Role.WRITER]
            for role in [*roles, *([Role.ENTRY, Role.PULLED] if teller in order[:2] else [])]:
                assert spreads[teller].targets(writer, role, spreads).keys() <= links[teller].keys()


def test_groups_share_the_load_of_being_first() -> None:
    spread = next(iter(cluster(200).values()))
    leading = [origin for group in range(GROUPS) for origin in spread.order("r0", group)[:2]]
    assert len(set(leading)) == 2 * GROUPS


def test_a_member_that_nobody_else_is_seen_by_tells_nobody() -> None:
    assert Spread(7, "r0", STAR, FAN_OUT).targets(7, Role.WRITER, {}) == {}
    assert Spread(7, "r0", STAR, FAN_OUT).targets(8, Role.PULLED, {}) == {}
