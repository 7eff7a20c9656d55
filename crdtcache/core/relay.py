"""Hands writes on: which links are to carry which origin's writes next, by the order that `spread` computes.

own write        the links of its targets stand at a cursor, from when they became targets
slice received   what it added to the frontier goes on to this member's targets, from where the frontier stood
pulled           the same, in the place of whoever should have told this member and may have told nobody

Decision: a relayed origin has a cursor on a link only while something of it is to be sent; the next slice sets it
anew where the frontier stood, which is where the child stands if it has taken all before. If not, it sees a gap and
pulls. So there is no state about children to keep right, and an entry node that changes is a changed view, no
handover. Source: DESIGN section 10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crdtcache.core.clock import NEVER, Reading
from crdtcache.core.codec import encode
from crdtcache.core.links import Link
from crdtcache.core.lwwmap import LWWMap
from crdtcache.core.members import Member, Members
from crdtcache.core.messages import Receipt
from crdtcache.core.spread import Place, Role, Spread, Tell
from crdtcache.tuning import Tuning

__all__ = ["Relay"]

_MS = 1_000_000
_AT_ONCE = 32  # a view of so many members is computed whenever it changes, a larger one after a while
_QUICK = 256  # of so many members it takes some 10 ms


class Relay:
    """Sets the cursors of one replica's `links`, and puts those with something to send into `ready`."""

    __slots__ = (
        "_due_ns",
        "_held",
        "_link_of",
        "_links",
        "_members",
        "_ready",
        "_spread",
        "_told",
        "_tuning",
        "_wait_ns",
        "receipts",
    )

    def __init__(
        self,
        held: LWWMap,
        members: Members,
        links: Mapping[int, Link],
        ready: dict[int, None],
        region: str,
        tuning: Tuning,
    ) -> None:
        self._held = held
        self._members = members
        self._links = links
        self._ready = ready
        self._spread = Spread(held.origin, region, tuning.star_members, tuning.fan_out)
        self._tuning = tuning
        self._wait_ns = tuning.graft_delay_ms * _MS
        self._link_of: dict[int, Link] = {}
        self._told: dict[tuple[int, Role], dict[int, Tell]] = {}
        self.receipts: dict[int, int] = {}  # of members without a link, how far they have the own writes
        self._due_ns = 0  # when the view is computed anew, 0: nothing has changed since

    def renamed(self) -> None:
        """The replica has become another member, without links."""
        self._spread.origin = self._held.origin
        self.receipts.clear()
        self._look(0)

    def changed(self, reading: Reading) -> None:
        """A link has come or gone, or somebody's standing has changed."""
        # At once also where it is first found that there are too many to link with all: they would be called meanwhile.
        known = len(self._members.known)
        if known <= _AT_ONCE or (self._members.mesh is None and known >= self._tuning.full_mesh):
            self._look(reading.mono_ns)
        elif not self._due_ns:
            # The longer it takes, the later: who invents members one by one shall not keep this replica busy.
            self._due_ns = reading.mono_ns + self._wait_ns * max(1, known // _QUICK)

    def due_ns(self) -> int:
        """When the view is computed anew."""
        return self._due_ns or NEVER

    def look(self, reading: Reading) -> None:
        """Compute the view, if that is due."""
        if self._due_ns and self._due_ns <= reading.mono_ns:
            self._look(reading.mono_ns)

    def _look(self, now_ns: int) -> None:
        self._due_ns = 0
        self._link_of = {link.hello.origin: link for link in self._links.values()}
        for member in [member for member in self.receipts if member not in self._members.known]:
            del self.receipts[member]
        alive = self._members.alive(now_ns)
        self._members.linked_anew(self._mesh(alive, now_ns), now_ns)
        # Who should be linked and is not can be told nothing; the others are told by whoever is linked to them.
        self._spread.see(_places(m for m in alive if m.link is not None or not self._members.worth(m.row.origin)))
        self._told.clear()
        own, context = self._held.origin, self._held.context
        targets = self._targets(own, Role.WRITER)
        for member, link in self._link_of.items():
            tell = targets.get(member)
            if tell is link.carries:
                continue
            link.carries = tell
            link.entries[own] = tell is Tell.ENTRY
            if tell is not None and link.start_ns < now_ns:  # a new one begins with all rows
                link.due_rows[own] = None
                self._ready[link.number] = None
            if tell in (Tell.COPY, Tell.ENTRY):
                # It begins at the head, with a row: what the peer lacks before it, it pulls.
                link.cursors.setdefault(own, context.frontier[own])
            elif link.cursors.get(own, 0) >= context.last.get(own, 0):
                link.cursors.pop(own, None)
                link.asks.pop(own, None)

    def _mesh(self, alive: list[Member], now_ns: int) -> dict[int, None] | None:
        """With whom a link is worth having, once there are too many members for links to all.

        Also those that are so while the members that are down are counted: after a cut in the middle, both halves look
        for the same links again.
        """
        most = self._tuning.full_mesh if self._members.mesh is None else self._tuning.full_mesh * 3 // 4
        if len(alive) < most:
            return None
        self._spread.see(_places(alive))
        mesh = self._spread.neighbours()
        away = self._members.alive(now_ns, self._tuning.redial_patience_ms)
        if len(away) > len(alive):
            self._spread.see(_places(away))
            mesh |= self._spread.neighbours()
        return mesh

    def _targets(self, origin: int, role: Role) -> dict[int, Tell]:
        targets = self._told.get((origin, role))
        if targets is None:
            targets = self._told[origin, role] = self._spread.targets(origin, role, self._link_of)
        return targets

    def wrote(self) -> None:
        """There are new own writes."""
        for number, link in self._links.items():
            if link.carries is not None:
                self._ready[number] = None
                if link.carries is Tell.ROW:
                    link.due_rows[self._held.origin] = None

    def ask(self, reading: Reading) -> None:
        """Somebody waits until others have the own writes: all of them are to say how far they are."""
        own = self._held.origin
        # What asks again reaches further than what asked before, or who passes it on would take it for the same.
        self._held.context.advance(own, self._held.clock.announce(reading.wall_ms))
        for number, link in self._links.items():
            if own in link.cursors:
                link.asks[own] = None
                self._ready[number] = None

    def answer(self, origin: int, asker: Link) -> None:
        """`origin` waits: it gets this member's row; where it has no link, a receipt through who asked."""
        link = self._link_of.get(origin)
        if self._held.partial:
            return
        if link is not None:
            link.due_rows[origin] = None
        else:
            link = asker
            link.say(encode(Receipt(self._held.origin, origin, self._held.context.frontier.get(origin, 0))))
        self._ready[link.number] = None

    def receipt(self, receipt: Receipt, asker: int) -> None:
        """One of a member that has no link to whom it is for: this one, or somebody on the way to it."""
        member, origin, upto = receipt
        if origin == self._held.origin:
            if member in self._members.known:
                self.receipts[member] = max(upto, self.receipts.get(member, 0))
            return
        link = self._link_of.get(origin) or self._links.get(asker)
        if link is not None and link.hello.origin != member:
            link.say(encode(receipt))
            self._ready[link.number] = None

    def took(self, origin: int, since: int, role: Role, *, ask: bool = False) -> None:
        """The frontier of `origin` has moved from `since` to where it is: tell whom this member has to tell.

        `ask`: `origin` waits for their rows, also of those that have it all.
        """
        last = self._held.context.last.get(origin, 0)
        for member, tell in self._targets(origin, role).items():
            link = self._link_of[member]
            if link.rows.get(origin, 0) >= last and not ask:
                continue
            if tell is Tell.ROW or (role is Role.JOINED and not ask):
                link.due_rows[origin] = None
            else:
                if ask:
                    link.asks[origin] = None
                link.cursors.setdefault(origin, since)
                link.entries[origin] = tell is Tell.ENTRY
            self._ready[link.number] = None


def _places(members: Iterable[Member]) -> list[Place]:
    return [Place(member.row.origin, member.row.region) for member in members]
