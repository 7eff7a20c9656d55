"""Holding sessions: who may open one, what each of its messages does, and what its end adopts (C3).

    A -> B   OPEN                 A was answered TOO_OLD
    B -> A   READY | BUSY         one incoming and one outgoing session at a time
    both     OFFER(n)... END      answered by GONE, better entries, ANSWERED(n)
    both     C3                   once both ends are sent and every window is answered

Decision: only origins whose log could not answer a pull are adopted; for all others the pull is both cheaper
and leaves a log that can be relayed. Source: DESIGN sections 5 and 9.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from crdtcache.core.clock import Reading
from crdtcache.core.codec import encode
from crdtcache.core.entry import Key
from crdtcache.core.gaps import Gaps
from crdtcache.core.links import Link
from crdtcache.core.lwwmap import UNSETTLED, LWWMap, Verdict
from crdtcache.core.messages import Answered, Busy, End, Gone, Offer, Open, Ready, Row
from crdtcache.core.session import Session

__all__ = ["Sessions"]

_MS = 1_000_000


class Sessions:
    """The sessions of one replica: at most one on a link, one opened here and one opened by a peer."""

    __slots__ = ("_counts", "_gaps", "_held", "_links", "_number", "_position", "_rng", "_slowest_ms")

    def __init__(
        self,
        held: LWWMap,
        links: dict[int, Link],
        gaps: Gaps,
        counts: dict[str, int],
        rng: random.Random,
        position: Callable[[Reading], tuple[list[Row], int, tuple[int, int]]],
        slowest_ms: Callable[[Reading], int | None],
    ) -> None:
        self._held = held
        self._links = links
        self._gaps = gaps
        self._counts = counts
        self._rng = rng
        self._position = position
        self._slowest_ms = slowest_ms
        self._number = 0

    def open(self, link: Link, reading: Reading, *, differs: bool = False) -> None:
        """Ask for a session, unless one is running, a BUSY is being waited out, or entries are missing here."""
        if link.session is not None or reading.mono_ns < link.retry_ns or self._held.clearing or self._held.partial:
            return
        frontier = self._held.context.frontier
        for origin, floor in list(link.too_old.items()):
            if frontier.get(origin, 0) >= floor:
                del link.too_old[origin]  # somebody else had the log
        if not link.too_old and not differs:
            return
        if any(other.session is not None and other.session.opener for other in self._links.values()):
            return  # one outgoing at a time; housekeeping comes back to it
        self._number += 1
        link.session = Session(self._number, opener=True, now_ns=reading.mono_ns)
        link.control.append(encode(Open(self._number, *self._position(reading))))

    def on_open(self, link: Link, message: Open | Ready, reading: Reading) -> None:
        """The peer asks for a session, or has agreed to the one asked for here."""
        session = link.session
        if isinstance(message, Ready):
            if session is not None and session.opener and session.number == message.session:
                session.begin(message.rows, self._held)
                session.active_ns = reading.mono_ns
            return
        if session is not None and session.opener and self._held.origin < link.hello.origin:
            return  # both asked at once: the smaller origin's session is held
        incoming = any(o.session is not None and not o.session.opener for o in self._links.values() if o is not link)
        if self._held.clearing or self._held.partial or incoming:
            link.control.append(encode(Busy(message.session, self._held.tuning.busy_ms)))
            return
        link.session = Session(message.session, opener=False, now_ns=reading.mono_ns)
        link.session.begin(message.rows, self._held)
        link.control.append(encode(Ready(message.session, *self._position(reading))))

    def on_window(self, link: Link, message: Offer | End | Answered, reading: Reading) -> None:
        """A window of offers, the end of them, or the answer to one of ours."""
        session = link.session
        if session is None or session.rows is None or session.number != message.session:
            return  # before READY, only what is left of an earlier session can come: the peer counts for itself
        session.active_ns = reading.mono_ns
        if isinstance(message, Answered):
            session.answered(message.window, message.complete)
        elif isinstance(message, End):
            session.their_end = True
            session.answer([], [], message.window, True)
        else:
            self._on_offer(session, message, reading)
        self.settle(link, reading)

    def on_better(self, link: Link, offer: Offer, reading: Reading) -> None:
        """Entries that answer something offered from here; in a session or outside of one."""
        gone, _, complete = self._offers(offer, reading)
        if gone:
            link.control.append(encode(Gone(gone)))
        if link.session is not None and link.session.number == offer.session:
            link.session.complete = link.session.complete and complete

    def _on_offer(self, session: Session, offer: Offer, reading: Reading) -> None:
        gone, better, complete = self._offers(offer, reading)
        session.complete = session.complete and complete
        session.answer(gone, better, offer.window, complete)

    def _offers(self, offer: Offer, reading: Reading) -> tuple[list[tuple[Key, int, int]], list[Key], bool]:
        """Apply offers; what to answer GONE, what is held in their place, and whether all were settled."""
        held = self._held
        slowest = self._slowest_ms(reading)
        gone: list[tuple[Key, int, int]] = []
        better: list[Key] = []
        complete = True
        for key, entry in offer.entries:
            verdict = held.offer(key, entry, reading, slowest)
            if verdict is Verdict.BEATEN:
                better.append(key)
            elif verdict is Verdict.GONE:
                gone.append((key, entry[0], entry[1]))
                if key in held.store.entries:
                    better.append(key)
            elif verdict in UNSETTLED:
                complete = False
                self._counts["rejected" if verdict is Verdict.REJECTED else "parked"] += 1
        self._counts["entries_received"] += len(offer.entries)
        # Who forgot for want of room knows nothing of removals (E4).
        return gone if not held.partial else [], better, complete

    def settle(self, link: Link, reading: Reading) -> None:
        """C3, once both sides have offered all and are answered."""
        session = link.session
        if session is None or not session.done or session.rows is None:
            return
        link.session = None
        self._counts["sessions"] += 1
        if not session.complete:
            self._counts["sessions_incomplete"] += 1
            # What is parked falls due within `reject_ms`, what is rejected may never: a member whose clock is wrong
            # would have everybody send it their whole map again and again.
            tuning = self._held.tuning
            wait_ms = min(tuning.busy_ms << min(link.incomplete, 16), tuning.reject_ms)
            link.incomplete += 1
            link.retry_ns = reading.mono_ns + wait_ms * _MS
            return
        link.incomplete = 0
        own = self._held.context
        limit = self._held.clock.limit(reading.wall_ms)
        for row in session.rows:
            frontier = own.frontier.get(row.origin, 0)
            if row.origin not in link.too_old or row.now <= frontier or row.origin == self._held.origin:
                continue
            own.advance(row.origin, min(row.now, limit))
            own.note_last(row.origin, row.last)
            self._held.log.cut(row.origin, own.frontier[row.origin])
            self._held.clock.accept(own.frontier[row.origin])
            self._gaps.reached(row.origin, own.frontier[row.origin])
        link.too_old.clear()

    def interrupt(self) -> None:
        """A clear has begun: what it covers is not offered any more, so no running session can be complete.

        Found by a random schedule: the peer adopted the rows and, until the clear reached it, showed a value
        whose overwrite it had accounted for.
        """
        for link in self._links.values():
            if link.session is not None:
                link.control.append(encode(Busy(link.session.number, self._held.tuning.busy_ms)))
                link.session = None

    def on_busy(self, link: Link, message: Busy, reading: Reading) -> None:
        """Declined: again later, with full jitter, so that a cluster does not ask as one."""
        if link.session is not None and link.session.number == message.session:
            link.session = None
            wait = max(message.retry_ms, self._held.tuning.busy_ms) * self._rng.uniform(1.0, 15.0)
            link.retry_ns = reading.mono_ns + round(wait * _MS)
