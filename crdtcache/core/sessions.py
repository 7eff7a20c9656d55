"""Holding sessions: when one is opened and with whom, what each of its messages does, what its end adopts (C3).

    A -> B   OPEN                     A was answered TOO_OLD, or its turn has come to compare
    B -> A   EQUAL | BUSY | READY     at most one incoming and one outgoing, two where joiners are filled
    both     compare, then OFFER(n)... END      answered by GONE, better entries, ANSWERED(n)
    both     C3                       once both ends are sent and every window is answered

Compared with a random member of the region each `compare_ms`, with a remote one each `compare_remote_ms`, soon after a
link came up (a join, a heal), and at once after a session that found more than fits one.

Before they compare, both let die what has expired by the later of what each knows of D2's slowest clock: both are
bounds from below of the same clock, and what either has let die already, the other would learn to be dead (O1). So
replicas where a thousand entries expire per second compare equal. The refused alternative, the lesser of the two own
clocks (design section 9), lets entries die that a third, slower member still shows.

Above 400 lines because all that one session means for another, of the same or another link, is to be seen in one place.

Decision: only origins whose log could not answer a pull are adopted; for all others the pull is both cheaper
and leaves a log that can be relayed. Source: DESIGN sections 5 and 9.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from crdtcache.core import removal
from crdtcache.core.clock import NEVER, Reading
from crdtcache.core.codec import encode
from crdtcache.core.digest import DIGEST_VERSION, ROOT
from crdtcache.core.entry import DEAD, EXPIRES, GHOST, STATE, TOUCH, Entry, Key
from crdtcache.core.gaps import Gaps
from crdtcache.core.links import Link
from crdtcache.core.lwwmap import UNSETTLED, LWWMap, Verdict
from crdtcache.core.messages import (
    Answered,
    Busy,
    End,
    Equal,
    Gone,
    InSession,
    List,
    Nodes,
    Offer,
    Open,
    Ready,
    Row,
    Turn,
    Want,
)
from crdtcache.core.session import EXPECTED, Phase, Session

__all__ = ["Sessions"]

_MS = 1_000_000
_MOST_OPENS = 16  # of one peer in `busy_ms` that lead to nothing


class Sessions:
    """The sessions of one replica: at most one on a link, one opened here and one opened by a peer."""

    __slots__ = (
        "_begun_ns",
        "_counts",
        "_due_ns",
        "_gaps",
        "_held",
        "_links",
        "_number",
        "_position",
        "_region",
        "_rng",
        "_slowest_ms",
    )

    def __init__(
        self,
        held: LWWMap,
        links: dict[int, Link],
        gaps: Gaps,
        counts: dict[str, int],
        rng: random.Random,
        region: str,
        position: Callable[[Reading, dict[int, int]], tuple[list[Row], int, tuple[int, int]]],
        slowest_ms: Callable[[Reading], int | None],
    ) -> None:
        self._held = held
        self._links = links
        self._gaps = gaps
        self._counts = counts
        self._rng = rng
        self._region = region
        self._position = position
        self._slowest_ms = slowest_ms
        self._number = 0
        # In the region, and across: when the next comparison is due, and when the last one began.
        self._due_ns = [0, 0]
        self._begun_ns = [0, 0]

    # ---- when -----------------------------------------------------------------------------------------------------

    def joined(self, link: Link, reading: Reading) -> None:
        """A link is up: compare soon, when what the pushes and pulls bring is here."""
        remote, now = self._remote(link), reading.mono_ns
        soon = now + round(self._held.tuning.compare_ms * self._rng.uniform(0.1, 0.2) * _MS)
        if not now < self._due_ns[remote] < soon:
            self._due_ns[remote] = soon

    def due_ns(self) -> int:
        """When the next comparison is due."""
        return min([due or NEVER for due in self._due_ns])

    def compare(self, reading: Reading) -> None:
        """Open the sessions that are due, each with a random member; first with those whose links are new."""
        now = reading.mono_ns
        for remote in (False, True):
            if not 0 < self._due_ns[remote] <= now:
                continue
            links = [link for link in self._links.values() if self._remote(link) is remote]
            fresh = [link for link in links if link.start_ns > self._begun_ns[remote]]
            self._put_off(remote, reading)
            if not links:
                self._due_ns[remote] = 0
                continue
            if self._gaps:
                self._due_ns[remote] = now + self._held.tuning.context_ms * _MS  # what is on its way is no difference
            else:
                self.open(self._rng.choice(fresh or links), reading, differs=True)

    def _put_off(self, remote: bool, reading: Reading) -> None:
        tuning = self._held.tuning
        interval_ms = tuning.compare_remote_ms if remote else tuning.compare_ms
        self._due_ns[remote] = reading.mono_ns + round(interval_ms * self._rng.uniform(1.0, 1.4) * _MS)
        self._begun_ns[remote] = reading.mono_ns

    def _remote(self, link: Link) -> bool:
        return link.hello.region != self._region

    @property
    def filling(self) -> bool:
        """Whether this replica is being filled by a session: gaps are not pulled meanwhile, and nobody is filled."""
        return any(link.session is not None and link.session.filling for link in self._links.values())

    # ---- the beginning --------------------------------------------------------------------------------------------

    def open(self, link: Link, reading: Reading, *, differs: bool = False) -> None:
        """Ask for a session, unless one is running, a BUSY is being waited out, or entries are missing here."""
        if link.session is not None or reading.mono_ns < link.retry_ns or self._held.clearing or self._held.partial:
            return
        reach = self._held.context.reach
        for origin, floor in list(link.too_old.items()):
            if reach(origin) >= floor:
                del link.too_old[origin]  # somebody else had the log
        if not link.too_old and not (differs and link.hello.digest_version == DIGEST_VERSION):
            return
        if any(other.session is not None and other.session.opener for other in self._links.values()):
            return  # one outgoing at a time; housekeeping comes back to it
        slowest = self._slowest_ms(reading)
        if not self._swept(reading, slowest):
            return
        # Odd or even by who asks, so that what is left of one session is not taken for the other's.
        self._number += 1
        number = 2 * self._number + (self._held.origin > link.hello.origin)
        own = self._ready(number, reading, slowest)
        link.session = Session(number, own, opener=True, now_ns=reading.mono_ns)
        # Who is to adopt rows wants those, and not to hear that all is EQUAL.
        root, lasts = self._held.digest.root(), removal.lasts(self._held, own.slowest_ms) ^ bool(link.too_old)
        link.say(encode(Open(number, lasts, own.slowest_ms, own.clear_mark, root, own.size)))

    def _ready(self, number: int, reading: Reading, slowest: int | None) -> Ready:
        rows, _, mark = self._position(reading, {})
        # Never beyond the own clock: where the slowest heard is a fast one, the peer must not go by it alone.
        slowest_ms = min(slowest or 0, reading.wall_ms)
        return Ready(number, rows, slowest_ms, mark, len(self._held.store.entries), (), self._held.context.prune_mark)

    def _swept(self, reading: Reading, slowest: int | None) -> bool:
        """Let die what has expired; False where there is more of it than one step may take."""
        step = self._held.tuning.step_entries
        return len(removal.expire(self._held, reading, slowest, step)) < step

    def on_open(self, link: Link, message: Open, reading: Reading) -> None:
        """The peer asks for a session: EQUAL, BUSY, or READY and our turn."""
        session = link.session
        if session is not None and session.opener:
            if session.phase is Phase.ASKED and self._held.origin < link.hello.origin:
                return  # both asked at once: the smaller origin's session is held
            link.session = None  # so nobody answers this one
        held = self._held
        busy = held.clearing or held.partial or self._too_many(link, reading) or self._taken(link, message)
        slowest = None if busy else max(self._slowest_ms(reading) or 0, message.slowest_ms) or None
        if busy or not self._swept(reading, slowest):
            link.say(encode(Busy(message.session, held.tuning.busy_ms)))
            return
        self._put_off(self._remote(link), reading)
        same = message.root == held.digest.root() and message.lasts == removal.lasts(held, message.slowest_ms)
        if same and not link.too_old:
            link.session = None
            link.compared += 1
            self._counts["sessions_equal"] += 1
            removal.adopt(held, link.prune_mark, reading)
            link.say(encode(Equal(message.session)))
            return
        own = self._ready(message.session, reading, slowest)
        session = link.session = Session(message.session, own, opener=False, now_ns=reading.mono_ns)
        session.size = message.size
        session.agree(tuple(link.too_old))
        if link.hello.digest_version == DIGEST_VERSION:
            session.look(ROOT, message.root, message.size, held)
        else:
            session.stream_all()

    def _too_many(self, link: Link, reading: Reading) -> bool:
        """More of these than an honest peer sends, who waits for an answer: what each costs here is not for nothing."""
        if reading.mono_ns - link.opens_ns >= self._held.tuning.busy_ms * _MS:
            link.opens, link.opens_ns = 0, reading.mono_ns
        link.opens += 1
        return link.opens > _MOST_OPENS

    def _taken(self, link: Link, message: Open) -> bool:
        """One incoming at a time, two where joiners are filled; and who is being filled has nothing to give."""
        incoming = sum(o.session is not None and not o.session.opener for o in self._links.values() if o is not link)
        joins = 16 * message.size < len(self._held.store.entries)
        return incoming > joins or (self.filling and not (link.session is not None and link.session.filling))

    def interrupt(self) -> None:
        """A clear has begun: what it covers is not offered any more, so no running session can be complete.

        Found by a random schedule: the peer adopted the rows and, until the clear reached it, showed a value
        whose overwrite it had accounted for.
        """
        for link in self._links.values():
            if link.session is not None:
                link.say(encode(Busy(link.session.number, self._held.tuning.busy_ms)))
                link.session = None

    # ---- what comes in one ----------------------------------------------------------------------------------------

    def receive(self, link: Link, message: Open | InSession, reading: Reading) -> None:
        """One of its messages. What a session does not expect at its phase is left of an earlier one."""
        session, held = link.session, self._held
        if isinstance(message, Open):
            self.on_open(link, message, reading)
            return
        if isinstance(message, Offer) and not message.window:
            self._on_better(link, message, reading)
            return
        if session is None or not isinstance(message, EXPECTED[session.phase]) or message.session != session.number:
            return
        session.active_ns = reading.mono_ns
        match message:
            case Equal():
                link.session = None
                link.compared += 1
                removal.adopt(held, link.prune_mark, reading)
            case Busy():
                # With full jitter, so that a cluster does not ask as one.
                link.session = None
                wait = max(message.retry_ms, held.tuning.busy_ms) * self._rng.uniform(1.0, 15.0)
                link.retry_ns = reading.mono_ns + round(wait * _MS)
            case Ready():
                self._on_ready(link, session, message, reading)
            case Nodes():
                session.compare(message, held)
            case List():
                self._on_list(session, message, reading)
            case Want():
                session.find([key for key in message.keys if key in held.store.entries], held)
            case Turn():
                session.turn(message, held)
            case Offer():
                self._counts["entries_received"] += len(message.entries)
                gone, better = self._offers(session, message.entries, reading)
                session.moved += len(message.entries)
                session.answers.window(session.number, gone, better, message.window, session.complete)
            case Answered():
                session.answered(message.window, message.complete)
            case End():
                session.their_end = True
                session.limited = session.limited or message.limited
                session.answers.window(session.number, [], [], message.window, session.complete)  # with what it listed
        self.settle(link, reading)

    def _on_better(self, link: Link, offer: Offer, reading: Reading) -> None:
        """Entries that answer something offered from here; in a session or outside of one."""
        session = link.session if link.session is not None and link.session.number == offer.session else None
        self._counts["entries_received"] += len(offer.entries)
        gone, _ = self._offers(session, offer.entries, reading)
        if gone:
            link.say(encode(Gone(gone)))

    def _on_ready(self, link: Link, session: Session, message: Ready, reading: Reading) -> None:
        if session.rows is not None:
            return
        session.begin(message)
        if session.phase is Phase.ASKED:
            session.agree(tuple(link.too_old))
            self._swept(reading, max(self._slowest_ms(reading) or 0, message.slowest_ms) or None)
        reach, limit = self._held.context.reach, self._held.clock.limit(reading.wall_ms)
        for row in message.rows:
            link.heard(row._replace(now=max(row.now, link.rows.get(row.origin, 0))))
            if row.origin != self._held.origin and reach(row.origin) < row.last <= limit:
                self._gaps.want(row.origin, row.last, reading.mono_ns)

    def _on_list(self, session: Session, message: List, reading: Reading) -> None:
        """What is listed is offered, without the values: what would be taken is wanted instead."""
        held = self._held
        entries = held.store.entries
        lately_ms = reading.wall_ms - held.tuning.max_drift_ms
        session.listed(message.nodes, dict(message.entries), held)
        for key, entry in message.entries:
            mine = entries.get(key)
            version = entry[:2]
            if entry[STATE] != DEAD:
                if (mine is None or mine[:2] < version) and not held.context.covers(*version):
                    session.want(key, held)
                    continue
                entry = (*entry[:STATE], GHOST, None)
            gone, better = self._offers(session, [(key, entry)], reading)
            session.answers.window(session.number, gone, [], 0, True)
            session.find(better, held)
            mine = entries.get(key)
            if mine is not None and mine[:2] == version and _is_news(mine, entry, lately_ms):
                session.find([key], held, version)

    def _offers(
        self, session: Session | None, entries: Iterable[tuple[Key, Entry]], reading: Reading
    ) -> tuple[list[tuple[Key, int, int]], list[Key]]:
        """Apply offers; what to answer GONE, and what is held in their place."""
        held = self._held
        slowest = self._slowest_ms(reading)
        gone: list[tuple[Key, int, int]] = []
        better: list[Key] = []
        for key, entry in entries:
            verdict = held.offer(key, entry, reading, slowest)
            if verdict is Verdict.BEATEN:
                better.append(key)
            elif verdict is Verdict.GONE:
                gone.append((key, entry[0], entry[1]))
                if key in held.store.entries:
                    better.append(key)
            elif verdict is Verdict.TAKEN:
                for other in (link.session for link in self._links.values()):
                    if other is not None and other is not session:
                        other.beside(entry)
            elif verdict in UNSETTLED:
                if session is not None:
                    session.complete = False
                self._counts["rejected" if verdict is Verdict.REJECTED else "parked"] += 1
        # Who forgot for want of room knows nothing of removals (E4).
        return gone if not held.partial else [], better

    # ---- the end --------------------------------------------------------------------------------------------------

    def settle(self, link: Link, reading: Reading) -> None:
        """The end, once both sides have offered all and are answered: C3 if it was complete."""
        session = link.session
        if session is None or not session.done or session.rows is None:
            return
        link.session = None
        self._counts["sessions" if session.moved or session.own.adopts else "sessions_equal"] += 1
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
        if session.moved:
            link.opens = 0
        if not session.limited:
            link.compared += 1
            self._adopt(link, session, session.rows, reading)
            return
        self._counts["sessions_limited"] += 1
        if session.opener and session.moved:
            self.open(link, reading, differs=True)

    def _adopt(self, link: Link, session: Session, rows: list[Row], reading: Reading) -> None:
        """C3; and what was missing of an origin that the peer has pruned will not come from there."""
        own = self._held.context
        limit = self._held.clock.limit(reading.wall_ms)
        adopts = [origin for origin in session.own.adopts if link.too_old.pop(origin, None) is not None]
        for row in rows:
            if row.origin not in adopts or row.now <= own.reach(row.origin) or row.origin == self._held.origin:
                continue
            own.advance(row.origin, min(row.now, limit))
            own.note_last(row.origin, row.last)
            self._held.log.cut(row.origin, own.frontier[row.origin])
            self._held.clock.accept(own.frontier[row.origin])
            self._gaps.reached(row.origin, own.frontier[row.origin])
        removal.adopt(self._held, session.prune_mark, reading)
        kept = {row.origin: None for row in rows} | {other.hello.origin: None for other in self._links.values()}
        gone = [origin for origin in adopts if origin not in kept and own.ends(origin) <= own.prune_mark]
        removal.prune(self._held, gone, 0, self._links.values())


def _is_news(mine: Entry, listed: Entry, lately_ms: int) -> bool:
    """Whether a death or a lease of the same version has to be told to who listed it.

    What has expired after `lately_ms` dies there by itself; the two have only not swept at the same instant.
    """
    leased = mine[TOUCH:STATE] != listed[TOUCH:STATE]
    return leased or (mine[STATE] == DEAD != listed[STATE] and mine[EXPIRES] <= lately_ms)
