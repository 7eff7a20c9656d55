"""Who is alive: each link's silence is watched, others are asked before anybody is suspected, and the accused is told.

A hears nothing of X for longer than probe + timeout       PROBE to X and three others: do you hear X?
    somebody does                                          HEARD: the silence counts from what that one heard
    nobody does, for another probe interval                suspect, and A is a witness of it: CLAIMS to all
X hears of it                                              it is alive in a higher incarnation: CLAIMS to all
it does not, until `Suspicion` ends                        down: CLAIMS to all
X stops of its own accord                                  left: CLAIMS to all

Claims are told once on every link when they change, and all that matter on a new one, so whoever was away hears what is
said of it. A timer that fires late means that *this* process stood still: what it did not hear meanwhile is nobody's
silence, so all doubts and suspicions begin anew (`stalled`). Nobody is held to be down by a member that hears it.

Decision: no pings. A link that has nothing to say says so each `keepalive_ms`, and that is the probe: of each member by
all that are linked to it, at no byte more. SWIM's one random target per interval would be N times cheaper than signs of
life and N times later, and the links need theirs anyway (a silent one is closed after `silent_ms`).
Decision: only who does not hear the suspect itself confirms a suspicion (`witness`); who merely repeats it does not.
Source: DESIGN section 12; SWIM 4.1 and 4.2; Lifeguard.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from crdtcache.core.claims import Claim, Standing, Suspicion
from crdtcache.core.clock import NEVER
from crdtcache.core.codec import encode
from crdtcache.core.links import Link
from crdtcache.core.members import Member, Members
from crdtcache.core.messages import Claims, Heard, Probe, Statement
from crdtcache.tuning import Tuning

__all__ = ["Detector"]

_MS = 1_000_000
_MOST_STATEMENTS = 1_000  # in one message
_MOST = 1 << 60  # a generation or incarnation above it is made up, and leaves nothing to count on from
_HEARSAY = 6  # remote probe intervals in which somebody names a member that is only known by name
_FORGET_NS = 60_000 * _MS  # between two looks for members to forget


class Detector:
    """Judges the members of one replica. `judged` gathers those whose standing has changed, for the replica to take."""

    __slots__ = (
        "_forgot_ns",
        "_links",
        "_members",
        "_news",
        "_region",
        "_rng",
        "_tuning",
        "_watched",
        "due_ns",
        "judged",
        "own",
    )

    def __init__(
        self,
        members: Members,
        links: Mapping[int, Link],
        tuning: Tuning,
        rng: random.Random,
        region: str,
        generation: int,
    ) -> None:
        self.own = Claim(generation, 0, Standing.ALIVE)
        self.judged: list[Member] = []
        self.due_ns = NEVER  # when `look` has something to do
        self._members = members
        self._links = links
        self._tuning = tuning
        self._rng = rng
        self._region = region
        self._watched: dict[int, Member] = {}  # who is not gone
        self._news: dict[int, None] = {}  # of whom something is to be told
        self._forgot_ns = 0

    # ---- about this replica ---------------------------------------------------------------------------------------

    def renamed(self, generation: int) -> None:
        """It is another process from now on, without links."""
        self.own = Claim(generation, 0, Standing.ALIVE)
        self._news.clear()

    def succeed(self, generation: int, now_ns: int) -> None:
        """A process of the same name that is gone was of that generation, for its clock was ahead: be later."""
        if self.own.generation <= generation < _MOST:
            self._say(Claim(generation + 1, 0, Standing.ALIVE))
            self._due(now_ns)

    def leave(self) -> None:
        """It is about to stop: say so at once. Whoever starts again is `back`."""
        self._say(self.own._replace(standing=Standing.LEFT))
        self._tell()

    def back(self) -> None:
        """It has left, and goes on."""
        if self.own.standing == Standing.LEFT:
            self._say(Claim(self.own.generation, self.own.incarnation + 1, Standing.ALIVE))

    def _say(self, claim: Claim) -> None:
        self.own = claim
        self._news[self._members.origin] = None

    # ---- what happens ---------------------------------------------------------------------------------------------

    def met(self, member: Member, link: Link, now_ns: int) -> None:
        """A link is up: tell on it all that is believed, what is said of its other end included."""
        member.vouched_ns, member.asked_ns = now_ns, 0
        if not member.claim.gone:
            self._watched[member.row.origin] = member
        hold = now_ns - self._tuning.gc_hold_ms * _MS
        statements = [
            self._statement(other.row.origin)
            for other in self._members.known.values()
            if other.claim[1:] != (0, Standing.ALIVE) and (other.link is not None or other.down_ns > hold)
        ]
        if self.own.incarnation:
            statements.append(self._statement(self._members.origin))
        for message in _messages(statements):
            link.say(message)
        self._due(now_ns)

    def lost(self, member: Member, link: Link, now_ns: int) -> None:
        """A link is gone: the silence counts from what was heard last."""
        member.vouched_ns = max(member.vouched_ns, link.heard_ns)
        self._due(now_ns)

    def named(self, member: Member, now_ns: int, *, connected: bool) -> None:
        """Somebody names a member that is not linked here, perhaps as one that it is `connected` to."""
        if not self._members.worth(member.row.origin):
            return  # whoever is linked to it watches it
        if member.row.origin not in self._watched and not member.claim.gone:
            self._watched[member.row.origin] = member
            member.vouched_ns = member.vouched_ns or now_ns
            self._due(now_ns)
        elif connected and not member.up_ns:
            member.vouched_ns, member.asked_ns = now_ns, 0

    def stalled(self, now_ns: int) -> None:
        """This process stood still."""
        for member in self._watched.values():
            member.vouched_ns, member.asked_ns = now_ns, 0
            if member.suspicion is not None:
                member.suspicion.restart(now_ns)

    def asked(self, link: Link, probe: Probe, now_ns: int) -> None:
        """Somebody hears nothing of a member: say if this replica does. Not by hearsay, or doubts would never end."""
        if probe.origin == self._members.origin:
            link.say(encode(Heard(probe.origin, 0)))
            return
        member = self._members.known.get(probe.origin)
        to = self._links.get(member.link) if member is not None and member.link is not None else None
        if member is not None and to is not None and now_ns < to.heard_ns + self._patience_ns(member):
            link.say(encode(Heard(probe.origin, (now_ns - to.heard_ns) // _MS)))

    def vouched(self, heard: Heard, now_ns: int) -> None:
        """Somebody hears a member."""
        member = self._members.known.get(heard.origin)
        at = now_ns - heard.ago_ms * _MS
        if member is not None and at > member.vouched_ns:
            member.vouched_ns, member.asked_ns = at, 0

    def told(self, link: Link, claims: Claims, now_ns: int) -> None:
        """Somebody says what it believes."""
        for origin, generation, incarnation, standing, witness in claims.statements:
            # A word of a later version, or nonsense. What is said against somebody ends before what it may answer.
            if standing > Standing.LEFT or max(generation, incarnation + (standing > Standing.ALIVE)) > _MOST:
                continue
            claim = Claim(generation, incarnation, standing)
            if origin == self._members.origin:
                self._answer(link, claim, now_ns)
                continue
            member = self._members.known.get(origin)
            if member is None:
                continue  # who tells others of it tells them before what is said of it
            if claim > member.claim:
                self._believe(member, claim, now_ns)
                self._due(now_ns)
            if witness and member.suspicion is not None and claim == member.claim:
                member.suspicion.confirm(link.hello.origin)
                self._due(now_ns)

    def _answer(self, link: Link, claim: Claim, now_ns: int) -> None:
        if self.own.standing == Standing.LEFT:
            return
        if claim > self.own:
            incarnation = min(claim.incarnation + 1, _MOST)
            self._say(Claim(max(claim.generation, self.own.generation), incarnation, Standing.ALIVE))
            self._due(now_ns)
        elif claim < self.own and claim.standing:
            for message in _messages([self._statement(self._members.origin)]):
                link.say(message)

    # ---- what time brings -----------------------------------------------------------------------------------------

    def look(self, now_ns: int) -> None:
        """Ask about the silent, suspect whom nobody hears, judge the suspects, and tell what is new."""
        if now_ns < self.due_ns:
            return
        self.due_ns = NEVER
        for origin, member in list(self._watched.items()):
            if now_ns < member.doubt_ns and member.suspicion is None:
                self._due(member.doubt_ns)  # as nearly all; with a thousand members this line is what watching costs
                continue
            parted = member.link is None and not self._members.worth(origin)
            if parted or member.claim.gone or self._members.known.get(origin) is not member:
                del self._watched[origin]
            else:
                self._look_at(member, now_ns)
        if now_ns - self._forgot_ns >= _FORGET_NS:
            self._forgot_ns = now_ns
            self._members.forget(now_ns)
        self._tell()
        # Not each at its own instant, but all whose time comes within half of a timeout together.
        self.due_ns = max(self.due_ns, now_ns + self._tuning.probe_timeout_ms * _MS // 2)

    def _look_at(self, member: Member, now_ns: int) -> None:
        link = self._links.get(member.link) if member.link is not None else None
        heard_ns = max(member.vouched_ns, link.heard_ns if link is not None else 0)
        patience_ns = self._patience_ns(member)
        silent = now_ns >= heard_ns + patience_ns
        if not silent:
            member.asked_ns, member.witness = 0, False
            member.doubt_ns = heard_ns + patience_ns
            self._due(member.doubt_ns)
        elif not member.asked_ns:
            member.asked_ns = now_ns
            self._ask(member, link)
            self._due(now_ns + self._interval_ns(member))
        elif not member.witness and now_ns >= member.asked_ns + self._interval_ns(member):
            member.witness = True
            self._news[member.row.origin] = None
            if member.suspicion is None:
                self._believe(member, member.claim._replace(standing=Standing.SUSPECT), now_ns)
            assert member.suspicion is not None, "nobody is watched who is gone"
            member.suspicion.confirm(self._members.origin)
        elif not member.witness:
            self._due(member.asked_ns + self._interval_ns(member))
        suspicion = member.suspicion
        if suspicion is not None and now_ns >= suspicion.ends_ns:
            if silent:
                self._believe(member, member.claim._replace(standing=Standing.DOWN), now_ns)
                return
            suspicion.restart(now_ns)  # who is heard here is not down, whoever said that it is suspect
        if suspicion is not None:
            self._due(suspicion.ends_ns)

    def _ask(self, member: Member, link: Link | None) -> None:
        """Those of its own region first: they hear it best."""
        question = encode(Probe(member.row.origin))
        if link is not None:
            link.say(question)
        others = [other for other in self._links.values() if other is not link]
        self._rng.shuffle(others)
        others.sort(key=lambda other: other.hello.region != member.row.region)
        for other in others[: self._tuning.helpers]:
            other.say(question)

    def _believe(self, member: Member, claim: Claim, now_ns: int) -> None:
        before, member.claim = member.claim, claim
        self._news[member.row.origin] = None
        if claim.generation > member.row.generation:
            self._members.raised(member, claim.generation)
        if claim.standing == Standing.SUSPECT:
            count = 1 + sum(not other.claim.gone for other in self._members.known.values())
            member.suspicion = Suspicion(count, self._tuning.suspect_ms, now_ns)
        else:
            member.suspicion, member.witness = None, False
        if claim.standing == Standing.ALIVE:  # it has said so itself, just now
            member.vouched_ns, member.asked_ns = now_ns, 0
            if member.link is not None:
                self._watched[member.row.origin] = member
            elif before.gone:
                self._members.back(member, now_ns)
        if claim.standing != before.standing:
            self.judged.append(member)

    def _tell(self) -> None:
        if not self._news:
            return
        statements = [self._statement(o) for o in self._news if o == self._members.origin or o in self._members.known]
        self._news.clear()
        for message in _messages(statements):
            for link in self._links.values():
                link.say(message)

    def _statement(self, origin: int) -> Statement:
        member = self._members.known.get(origin)
        claim, witness = (self.own, False) if member is None else (member.claim, member.witness)
        return Statement(origin, *claim, witness)

    def _interval_ns(self, member: Member) -> int:
        near = member.row.region == self._region
        probe_ms = self._tuning.probe_ms if near else self._tuning.probe_remote_ms
        return max(probe_ms, self._tuning.keepalive_ms) * _MS

    def _patience_ns(self, member: Member) -> int:
        """How long a member may be silent before others are asked."""
        near = member.row.region == self._region
        least_ms = self._tuning.probe_timeout_ms if near else self._tuning.probe_timeout_remote_ms
        # Whom this replica has never met others watch, and name, as long as they do.
        interval_ns = self._interval_ns(member) if member.up_ns else _HEARSAY * self._tuning.probe_remote_ms * _MS
        return interval_ns + max(least_ms, 3 * member.round_trip_ms) * _MS

    def _due(self, when_ns: int) -> None:
        self.due_ns = min(self.due_ns, when_ns)


def _messages(statements: list[Statement]) -> list[bytes]:
    starts = range(0, len(statements), _MOST_STATEMENTS)
    return [encode(Claims(statements[start : start + _MOST_STATEMENTS])) for start in starts]
