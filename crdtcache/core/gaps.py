"""What is known to be missing, and from whom it is pulled: one pull per origin in flight.

A gap is a target: a stamp of an origin that a row or a slice told of and that the own frontier has not
reached. It waits `graft_delay` (a push may be on its way), then the slice after the frontier is asked for,
of the origin itself if it is connected, else of anybody who has accounted for more of it.

Decision: a gap is a number, not a list of missing writes: what exactly is missing, only the log of the one
who has it can say. Source: DESIGN section 5, C2.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable

from crdtcache.core.clock import NEVER, Reading
from crdtcache.core.links import Link
from crdtcache.core.messages import Pull
from crdtcache.core.spread import Role
from crdtcache.tuning import Tuning

__all__ = ["Gaps"]

_MS = 1_000_000


class _Gap:
    """A gap in an origin: pulled when due, from whoever can fill it."""

    __slots__ = ("asked", "asked_ns", "due_ns", "lo", "source", "target", "whole")

    def __init__(self, target: int, due_ns: int) -> None:
        self.target = target
        self.due_ns = due_ns
        self.asked: int | None = None  # the link of the pull in flight
        self.asked_ns = 0
        self.source = 0  # the link of the last pull
        self.lo: int | None = None  # the frontier when it was last looked at; None: nothing more will follow by itself
        self.whole = False  # all that the origin ever wrote was asked for


class Gaps:
    """The gaps of one replica, by origin."""

    __slots__ = ("_rng", "_tuning", "_wanted")

    def __init__(self, tuning: Tuning, rng: random.Random) -> None:
        self._tuning = tuning
        self._rng = rng
        self._wanted: dict[int, _Gap] = {}

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def want(self, origin: int, target: int, due_ns: int) -> None:
        """Something of `origin` up to `target` is missing; pull it at `due_ns` unless it comes before."""
        gap = self._wanted.get(origin)
        if gap is None:
            self._wanted[origin] = _Gap(target, due_ns)
        else:
            gap.target = max(gap.target, target)

    def role(self, origin: int, link: int) -> Role:
        """As what this replica gets what comes of `origin` on this link: as one that has asked for it, or not."""
        gap = self._wanted.get(origin)
        if gap is None or gap.source != link:
            return Role.MEMBER
        return Role.JOINED if gap.whole else Role.PULLED

    def answered(self, origin: int, link: int, due_ns: int) -> None:
        """The pull of `origin` in flight on `link`, if there is one, is over; the next may go at `due_ns`."""
        gap = self._wanted.get(origin)
        if gap is not None and gap.asked == link:
            gap.asked, gap.due_ns = None, due_ns

    def parked(self, origin: int, due_ns: int) -> None:
        """What is missing next is parked: no pull of `origin` before it falls due."""
        gap = self._wanted.get(origin)
        if gap is not None:
            gap.due_ns, gap.lo, gap.source = due_ns, None, 0

    def reached(self, origin: int, frontier: int) -> None:
        """The own frontier of `origin` has moved to `frontier`."""
        gap = self._wanted.get(origin)
        if gap is not None and frontier >= gap.target:
            del self._wanted[origin]

    def clear(self) -> None:
        """Nothing is wanted any more: it begins anew."""
        self._wanted.clear()

    def dropped(self, link: int, now_ns: int) -> None:
        """A link is gone, and the answers due on it with it."""
        for gap in self._wanted.values():
            if link in (gap.asked, gap.source):
                gap.asked, gap.due_ns = None, now_ns

    def pulls(self, reading: Reading, reach: Callable[[int], int], links: Collection[Link]) -> list[tuple[Link, Pull]]:
        """What to ask of whom now; `reach` says up to where an origin is accounted for."""
        now = reading.mono_ns
        asked = []
        for origin, gap in list(self._wanted.items()):
            lo = reach(origin)
            if lo >= gap.target:
                del self._wanted[origin]
                continue
            if gap.asked is not None and now - gap.asked_ns > 2 * self._tuning.silent_ms * _MS:
                gap.asked, gap.due_ns = None, now
            if gap.asked is not None or gap.due_ns > now:
                continue
            if (
                gap.lo is not None
                and lo > gap.lo
                and any(k.number == gap.source and _has(k, origin, lo) for k in links)
            ):
                # It is being filled. One pull is answered by all slices up to the head; another one would have
                # those that are still on their way sent again, as often as a round trip holds slices.
                gap.lo, gap.due_ns = lo, now + self._tuning.context_ms * _MS
                continue
            gap.due_ns = now + self._tuning.context_ms * _MS
            link = self._who_has(origin, lo, links)
            if link is not None:
                gap.asked, gap.asked_ns, gap.source, gap.lo = link.number, now, link.number, lo
                gap.whole = gap.whole or not lo
                asked.append((link, Pull(origin, lo)))
            elif all(link.rows.get(origin, 0) <= lo for link in links):
                # Nobody here has it, perhaps nobody ever will (its writer is gone): whoever does says so in a row.
                del self._wanted[origin]
        return asked

    def due_ns(self) -> int:
        """When the first of the gaps that nobody was asked about is due."""
        return min([gap.due_ns for gap in self._wanted.values() if gap.asked is None], default=NEVER)

    def _who_has(self, origin: int, beyond: int, links: Iterable[Link]) -> Link | None:
        able = []
        for link in links:
            if not _has(link, origin, beyond):
                continue
            if link.hello.origin == origin:
                return link
            able.append(link)
        return self._rng.choice(able) if able else None


def _has(link: Link, origin: int, beyond: int) -> bool:
    """Whether the peer can send what `origin` wrote after `beyond`, as far as it has said."""
    return link.rows.get(origin, 0) > beyond and origin not in link.too_old
