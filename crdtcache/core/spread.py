"""Who hands whose writes to whom: regions, entry nodes, the star and the tree. Everybody computes it from its own view.

Origins fall into 20 groups, and each region orders its members anew for each group, by a hash. The first is the
group's *entry node* there: writes cross to a region once, to its entry node. The second gets a row with each of
them, notices what the first did not pass on, pulls it, and acts in its place.

    region of up to 24      the writer, or the entry node, tells everybody (a star); the writer itself crosses
    larger                  the writer tells its own entry node, which crosses, and tells the first eight; these tell
                            the next 64, and so on: each member is told by the one above that hashes highest with it

Nothing is elected, nothing agreed: views that differ make a duplicate (harmless, counted) or a hole (repaired by a
pull). Decision: a member finds its parent by a hash of both, not by counting positions (`8p + 1 .. 8p + 8` in the
design): there one departure moves all positions behind it, and on average a tenth of 200 members change their parent;
here a seventieth do. For the same reason one tree serves all writers of a group: the writer stays where it is in it.
Decision: a copy says whether its receiver is to act as the entry node, so that two who see different members agree.
Decision: 20 groups, no member leading two: with 8, and leaders as they come, one of 200 had 97 links; so it has 64.
Source: DESIGN section 10; rendezvous hashing: Thaler and Ravishankar 1996.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from crdtcache.core.digest import hash64

__all__ = ["GROUPS", "Place", "Role", "Spread", "Tell", "group_of"]

GROUPS = 20
_Tree = tuple[tuple[int, ...], dict[int, tuple[int, ...]]]


class Place(NamedTuple):
    """A member that can be told something, and its region."""

    origin: int
    region: str


class Role(IntEnum):
    """How a replica has come by writes of an origin."""

    MEMBER = 0  # told by the one above it
    ENTRY = 1  # told to act as the entry node
    WRITER = 2  # they are its own
    PULLED = 3  # it had to ask: whoever should have told it may have told nobody
    JOINED = 4  # it knew nothing of the origin and asked for all: a row does, who lacks it as well asks for it too


class Tell(IntEnum):
    """What a member is told of them."""

    ROW = 0  # only that there are some
    COPY = 1
    ENTRY = 2  # a copy to act upon as the entry node


def group_of(origin: int) -> int:
    """The group of an origin: its writes travel like those of all origins of the group."""
    return origin % GROUPS


class Spread:
    """Whom one replica tells. `see` takes its view: the members that are alive or suspect, with itself or without."""

    def __init__(self, origin: int, region: str, star: int, fan_out: int) -> None:
        self.origin = origin
        self.region = region
        self._star = star
        self._fan_out = fan_out
        self._regions: dict[str, tuple[int, ...]] = {}
        self._region_of: dict[int, str] = {}
        self.see(())

    def see(self, members: Iterable[Place]) -> None:
        """The view has changed."""
        regions: dict[str, list[int]] = {self.region: [self.origin]}
        for origin, region in members:
            if origin != self.origin:
                regions.setdefault(region, []).append(origin)
        self._regions = {region: tuple(sorted(origins)) for region, origins in sorted(regions.items())}
        self._region_of = {origin: region for region, origins in self._regions.items() for origin in origins}

    def order(self, region: str, group: int) -> tuple[int, ...]:
        """The members of `region` as `group` orders them; the first is its entry node."""
        return _orders(self._regions[region])[group]

    def targets(self, origin: int, role: Role, linked: Container[int]) -> dict[int, Tell]:
        """Whom to tell of writes of `origin`, and how; only those of `linked`."""
        group = group_of(origin)
        order, below = self._tree(group)
        star = len(order) <= self._star
        told: dict[int, Tell] = {}
        if role is Role.WRITER and not star and order[0] != self.origin:
            self._enter(order, linked, told)
        elif role is not Role.MEMBER:
            told |= dict.fromkeys(order if star else (order[0], *below[order[0]]), Tell.COPY)
            if self._region_of.get(origin) == self.region:  # out of its region, too
                for region in self._regions:
                    if region != self.region:
                        self._enter(self.order(region, group), linked, told)
        if not star:
            told |= dict.fromkeys(below[self.origin], Tell.COPY)
        told.pop(self.origin, None)
        told.pop(origin, None)
        return {member: tell for member, tell in told.items() if member in linked}

    def _enter(self, order: tuple[int, ...], linked: Container[int], told: dict[int, Tell]) -> None:
        """A copy for the first of `order` that can be reached from here, a row for the next."""
        reached = [origin for origin in order if origin in linked and origin != self.origin]
        told |= zip(reached[:2], (Tell.ENTRY, Tell.ROW), strict=False)

    def neighbours(self) -> dict[int, None]:
        """Everybody that this replica tells or is told by, of whatever origin: the links worth having. Symmetric."""
        found: dict[int, None] = {}
        for group in range(GROUPS):
            order, below = self._tree(group)
            star, first = len(order) <= self._star, order[:2]
            if star:
                found |= dict.fromkeys(order)
            else:
                found |= dict.fromkeys(below[self.origin])
                found |= dict.fromkeys([above for above, children in below.items() if self.origin in children])
                if self.origin in first:
                    found |= dict.fromkeys([*below[order[0]], *(o for o in order if group_of(o) == group)])
                if self.origin in first or self.origin in below[order[0]] or group == group_of(self.origin):
                    found |= dict.fromkeys(first)
            if self.origin in self._crossing(self.region, group):
                for region in self._regions:
                    found |= dict.fromkeys(self.order(region, group)[:2])
            if self.origin in first:
                for region in self._regions:
                    found |= dict.fromkeys(self._crossing(region, group))
        found.pop(self.origin, None)
        return found

    def _crossing(self, region: str, group: int) -> Sequence[int]:
        """The members of `region` that tell other regions of writes of `group`."""
        origins = self._regions[region]
        if len(origins) <= self._star:
            return [origin for origin in origins if group_of(origin) == group]
        return self.order(region, group)[:2]

    def _tree(self, group: int) -> _Tree:
        order = self.order(self.region, group)
        return order, _below(order, self._fan_out) if len(order) > self._star else {}


@lru_cache(maxsize=64)
def _orders(origins: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """A region as each group orders it. The first two of a group lead no other, where there are enough members."""
    orders: list[tuple[int, ...]] = []
    leads: dict[int, None] = {}
    for group in range(GROUPS):
        ranked = sorted((hash64(origin.to_bytes(8), group), origin) for origin in origins)
        order = [origin for _, origin in ranked]
        if len(origins) >= 2 * GROUPS:
            first = [origin for origin in order if origin not in leads][:2]
            leads |= dict.fromkeys(first)
            order = first + [origin for origin in order if origin not in first]
        orders.append(tuple(order))
    return tuple(orders)


@lru_cache(maxsize=128)
def _below(order: tuple[int, ...], fan_out: int) -> dict[int, tuple[int, ...]]:
    """Who is told by whom: level by level, each by the one above that hashes highest with it and has room for it."""
    below: dict[int, list[int]] = {origin: [] for origin in order}
    most = fan_out + fan_out // 4
    above, start, width = order[:1], 1, fan_out
    while start < len(order):
        level = order[start : start + width]
        for origin in level:
            open_to = [other for other in above if len(below[other]) < most]
            below[max((hash64((other ^ origin).to_bytes(8)), other) for other in open_to)[1]].append(origin)
        above, start, width = level, start + width, width * fan_out
    return {origin: tuple(children) for origin, children in below.items()}
