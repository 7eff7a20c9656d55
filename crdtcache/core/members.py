"""Who has been met, who is connected, and which addresses are worth a call.

A member is known by its origin, never by its address. One that is not connected is called at the address it
advertised; seeds are called until the member behind them is connected. Nothing is elected: of two members
that call each other at once, the link whose dialler has the smaller origin stays. What is believed of each, and how
long a suspect still has, stands here; `detector` decides it.

Decision: the policy of dialling is here, in the core, and only names and sockets are outside, so that the
simulator runs the very same policy. Source: DESIGN section 12.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from crdtcache.core.claims import Claim, Standing, Suspicion
from crdtcache.core.clock import NEVER
from crdtcache.core.correction import Line, line_of, plausible
from crdtcache.core.messages import Hello, MemberRow
from crdtcache.tuning import Tuning

__all__ = ["Member", "Members"]

_MS = 1_000_000
_MOST_MEMBERS = 10_000
_OTHERS = 8  # that are not worth a link are called at once by who has none


@dataclass(slots=True)
class Member:
    """One member: what it said of itself, its link if connected, its clock as last heard."""

    row: MemberRow
    number: int  # in the order in which they were met
    link: int | None = None
    up_ns: int = 0  # when its link came up
    down_ns: int = 0  # since when it is not connected
    clock_ms: int = 0  # its wall clock, as it corrects it, when last heard; 0: never
    heard_ns: int = 0
    line: Line | None = None  # what is known of its clock against the own
    claim: Claim = field(init=False)  # the greatest that was heard of it
    suspicion: Suspicion | None = None  # while it is a suspect
    vouched_ns: int = 0  # when somebody is known to have heard it, beside what its link says
    doubt_ns: int = 0  # before this it is not worth a look: it was heard lately
    asked_ns: int = 0  # when others were asked whether they hear it; 0: no need
    witness: bool = False  # nobody who was asked hears it: this replica says so itself
    round_trip_ms: int = 0

    def __post_init__(self) -> None:
        self.claim = Claim(self.row.generation, 0, Standing.ALIVE)


@dataclass(slots=True)
class _Address:
    due_ns: int
    failures: int = 0
    first_failure_ns: int = 0
    calling_ns: int = 0  # since when a call is under way, 0: none
    origin: int = 0  # who answered there
    seed: bool = False
    own: bool = False  # it turned out to be this replica


@dataclass(slots=True)
class Members:
    """All members but this one, and the address book."""

    origin: int
    tuning: Tuning
    rng: random.Random
    name: str = ""
    known: dict[int, Member] = field(default_factory=dict)  # by their numbers
    met: int = 0  # how many ever
    addresses: dict[str, _Address] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)  # the greatest generation of each name
    mesh: dict[int, None] | None = None  # with whom a link is worth having; None: with everybody
    last_slow_ns: int = 0  # when the last of the gone is due to be called
    next_call_ns: int = NEVER  # a lower bound of when the next address is due: the book is read then, not before
    resolved: bool = False  # the names of the seeds have been looked up

    def learn_seeds(self, seeds: list[str], now_ns: int) -> None:
        """The resolved seeds, in place of those before; they are called at once."""
        self.resolved = True
        for address in self.addresses.values():
            address.seed = False
        for seed in seeds:
            entry = self.addresses.setdefault(seed, _Address(now_ns))
            entry.seed = True
            self._note_due(entry)

    def seeds(self) -> list[str]:
        """The seeds that are not this replica itself."""
        return [address for address, entry in self.addresses.items() if entry.seed and not entry.own]

    def learn(self, row: MemberRow, now_ns: int) -> Member | None:
        """Somebody has met this member; call it soon, the greater origin a little later than the smaller.

        Whoever the sender still waits for is waited for here too, by a process that never met it as well.
        Returns the member, None where that is this replica.
        """
        member = self.known.get(row.origin)
        down_ns = now_ns - row.down_ms * _MS
        # What is told and told on gets younger by the time it travels, which is less than the age of a frame:
        # it counts beyond that only, or two who tell each other of a third would wait for it for ever.
        slack = self.tuning.max_frame_age_ms * _MS if row.down_ms else 0
        if member is not None and member.link is None and down_ns > member.down_ns + slack:
            member.down_ns = down_ns
        if member is not None or row.origin == self.origin:
            return member
        if len(self.known) >= _MOST_MEMBERS:
            self.forget(now_ns)
        member = self._meet(row._replace(down_ms=0) if row.down_ms else row)
        member.down_ns = down_ns
        self._note_generation(row)
        entry = self.addresses.get(row.advertise)
        if entry is None and row.advertise:
            wait = 0 if self.origin < row.origin else self.tuning.redial_ms * _MS
            entry = self.addresses[row.advertise] = _Address(now_ns + wait, origin=row.origin)
            self._note_due(entry)
        elif entry is not None:
            before = self.known.get(entry.origin)
            if before is None or (before.link is None and before.row.generation < row.generation):
                entry.origin = row.origin  # a later process is there now
                self._note_due(entry)
        return member

    def up(self, hello: Hello, link: int, now_ns: int, dialed: str | None) -> Member:
        """A link to this member is up."""
        row = MemberRow(hello.origin, hello.generation, hello.name, hello.region, hello.zone, hello.advertise, 0)
        member = self.known.get(hello.origin) or self._meet(row)
        if member.link != link:
            member.up_ns = now_ns
        member.row, member.link = row, link
        member.claim = max(member.claim, Claim(row.generation, 0, Standing.ALIVE))
        self._note_generation(row)
        # A greeting is no older than the call that it answers. One that came with a call may have waited for long where
        # this process had no time for it: of 44 that began at once on one host, one was so set back by five seconds.
        # It still counts as a look: a clock that jumps before the next frame must have somebody to be measured by.
        entry = self.addresses.get(dialed or "")
        since_ns = entry.calling_ns if entry is not None else 0
        error_ms = (now_ns - since_ns) // _MS + 1 if since_ns else self.tuning.reject_ms // 2
        at = line_of(hello.clock_ms, now_ns)
        first = Line(at, at, error_ms, now_ns) if member.line is None else None
        self.heard(member, hello.clock_ms, now_ns, first)
        for address in (dialed, hello.advertise):
            if address:
                entry = self.addresses.setdefault(address, _Address(now_ns))
                if entry.origin != hello.origin:
                    entry.origin, entry.failures = hello.origin, 0
                entry.calling_ns, entry.own = 0, False
        return member

    def _meet(self, row: MemberRow) -> Member:
        self.met += 1
        member = self.known[row.origin] = Member(row, self.met)
        return member

    def down(self, member: Member, now_ns: int) -> None:
        """Its last link is gone: call it again, with jitter so that a cluster does not call as one.

        A link that ended soon after it came up counts as a call that failed: where one side closes every link for
        what the other sends (a clock that is wrong), connecting must not become their main business.
        """
        member.link, member.down_ns = None, now_ns
        lasted = now_ns - member.up_ns >= self.tuning.silent_ms * _MS
        for entry in self.addresses.values():
            if entry.origin != member.row.origin:
                continue
            if lasted and (entry.seed or member.claim.standing != Standing.LEFT):
                entry.failures = 0
                entry.due_ns = now_ns + round(self.rng.uniform(0.02, 0.1) * self.tuning.redial_ms * _MS)
                self._note_due(entry)
            else:
                self._back_off(entry, now_ns)

    def back(self, member: Member, now_ns: int) -> None:
        """It was thought to be gone, and says otherwise: call it soon, however long nobody answered."""
        for address, entry in self.addresses.items():
            if entry.origin == member.row.origin or address == member.row.advertise:
                entry.failures = 0
                entry.due_ns = now_ns + round(self.rng.uniform(0.02, 1.0) * self.tuning.redial_ms * _MS)
                self._note_due(entry)

    def heard(self, member: Member, clock_ms: int, now_ns: int, line: Line | None) -> None:
        """Note the wall clock that a member sent."""
        member.clock_ms, member.heard_ns = clock_ms, now_ns
        if line is not None and plausible(clock_ms):
            member.line = line if member.line is None else member.line.followed_by(line)

    def failed(self, address: str, now_ns: int, *, own: bool = False) -> None:
        """A call went wrong: back off to `redial_ms`, after `redial_patience_ms` to `redial_slow_ms`.

        That long is waited for each seed; of all others that are gone for so long, or have left, for one of them.
        """
        entry = self.addresses.get(address)
        if entry is None:
            return
        entry.calling_ns, entry.own = 0, own
        self._back_off(entry, now_ns)

    def _back_off(self, entry: _Address, now_ns: int) -> None:
        if not entry.failures:
            entry.first_failure_ns = now_ns
        entry.failures += 1
        tuning = self.tuning
        cap, member = tuning.redial_ms, self.known.get(entry.origin)
        patience = now_ns - entry.first_failure_ns <= tuning.redial_patience_ms * _MS
        left = member is not None and member.claim.standing == Standing.LEFT
        if not entry.seed and (left or not patience):
            entry.due_ns = self.last_slow_ns = max(self.last_slow_ns, now_ns) + tuning.redial_slow_ms * _MS
            self._note_due(entry)
            return
        if not patience:
            cap = tuning.redial_slow_ms
        wait = min(cap, cap * 2 ** min(entry.failures, 10) // 32)
        entry.due_ns = now_ns + round(wait * self.rng.uniform(0.5, 1.0) * _MS)
        self._note_due(entry)

    def renamed(self, origin: int) -> None:
        """This replica is another one from now on; where it met itself, somebody else is now."""
        self.origin = origin
        for entry in self.addresses.values():
            entry.own = False

    def stopped(self, now_ns: int) -> None:
        """The driver has stopped: no call is under way, and a new driver begins without a back-off."""
        for entry in self.addresses.values():
            entry.calling_ns, entry.failures, entry.due_ns = 0, 0, now_ns
            entry.own = False  # where it met itself, somebody else may be by then
            self._note_due(entry)
        self.resolved = False

    def calls(self, now_ns: int) -> list[str]:
        """The addresses to call now; each is then under way until `up` or `failed`."""
        if now_ns < self.next_call_ns:
            return []
        due = []
        self.next_call_ns = NEVER
        wanted = {text: entry for text, entry in self.addresses.items() if self._wanted(entry)}
        calls = {t: entry for t, entry in wanted.items() if entry.origin not in self.known or self.worth(entry.origin)}
        alone = not any(member.link is not None for member in self.known.values())
        # Where all that are worth a call were called in vain, others as well, a few at a time.
        others = _OTHERS if alone and all(entry.failures for entry in calls.values()) else 0
        for text, entry in wanted.items():
            if text not in calls:
                if not others:
                    continue
                others -= entry.calling_ns > 0 or entry.due_ns <= now_ns
            if max(entry.due_ns, self._call_ends(entry)) <= now_ns:
                entry.calling_ns = now_ns
                due.append(text)
            self._note_due(entry)
        return due

    def hopeful(self, now_ns: int) -> bool:
        """Whether somebody may still answer soon: of those worth a call one has not been in vain for `redial_ms`."""
        since = now_ns - self.tuning.redial_ms * _MS
        return any(
            (entry.first_failure_ns if entry.failures else entry.calling_ns or now_ns) >= since
            for entry in self.addresses.values()
            if self._wanted(entry)
        )

    def _note_due(self, entry: _Address) -> None:
        self.next_call_ns = min(self.next_call_ns, max(entry.due_ns, self._call_ends(entry)))

    def _call_ends(self, entry: _Address) -> int:
        # A driver that forgot to report is not waited for longer than any call can take.
        return entry.calling_ns + 10 * self.tuning.dial_timeout_ms * _MS if entry.calling_ns else 0

    def _wanted(self, entry: _Address) -> bool:
        if entry.own:
            return False
        member = self.known.get(entry.origin)
        if member is not None:
            return member.link is None and (entry.seed or not self.succeeded(member))
        return True

    def worth(self, origin: int) -> bool:
        """Whether a link to this member is worth having."""
        return self.mesh is None or origin in self.mesh

    def linked_anew(self, mesh: dict[int, None] | None, now_ns: int) -> None:
        """Links are worth having to these from now on; None: to everybody."""
        if mesh != self.mesh:
            self.mesh = mesh
            self.next_call_ns = min(self.next_call_ns, now_ns)

    def succeeded(self, member: Member) -> bool:
        """Whether a later process has taken this one's name: then it is gone for good."""
        return member.row.generation < self.latest[member.row.name]

    def raised(self, member: Member, generation: int) -> None:
        """A member has learned that it is later than a process before it."""
        member.row = member.row._replace(generation=generation)
        self._note_generation(member.row)

    def _note_generation(self, row: MemberRow) -> None:
        # Kept, not searched for: this is asked for each address whenever one is due.
        self.latest[row.name] = max(self.latest.get(row.name, 0), row.generation)

    def in_use(self, now_ns: int) -> list[Member]:
        """Members connected, or gone for less than `gc_hold_ms`, neither left nor succeeded (design section 7)."""
        since = now_ns - self.tuning.gc_hold_ms * _MS
        return [member for member in self.known.values() if self._is_in_use(member, since)]

    def any_in_use(self, now_ns: int) -> bool:
        """Whether there is one at least."""
        since = now_ns - self.tuning.gc_hold_ms * _MS
        return any(self._is_in_use(member, since) for member in self.known.values())

    def _is_in_use(self, member: Member, since_ns: int) -> bool:
        return member.link is not None or (
            member.down_ns > since_ns and member.claim.standing != Standing.LEFT and not self.succeeded(member)
        )

    def alive(self, now_ns: int, down_for_ms: int = 0) -> list[Member]:
        """The members that are not believed to be gone; and those that are down for less than `down_for_ms`."""
        since = now_ns - down_for_ms * _MS
        return [
            member
            for member in self.known.values()
            if (not member.claim.gone or (member.claim.standing == Standing.DOWN and member.down_ns > since))
            and not self.succeeded(member)
        ]

    def forget(self, now_ns: int) -> None:
        """Drop whoever is gone for longer than `forget_ms`, with its addresses; of too many, those gone first."""
        gone = sorted((m.down_ns, o) for o, m in self.known.items() if m.link is None)
        most = max(0, len(self.known) - _MOST_MEMBERS * 9 // 10) if len(self.known) >= _MOST_MEMBERS else 0
        limit = now_ns - self.tuning.forget_ms * _MS
        for number, (down_ns, origin) in enumerate(gone):
            if number < most or down_ns < limit:
                del self.known[origin]
        names = {self.name: None} | {member.row.name: None for member in self.known.values()}
        self.latest = {name: generation for name, generation in self.latest.items() if name in names}
        for address, entry in list(self.addresses.items()):
            stale = entry.failures and entry.first_failure_ns < limit
            if not entry.seed and (stale or (entry.origin and entry.origin not in self.known)):
                del self.addresses[address]

    def rows(self, now_ns: int, members: Iterable[Member]) -> list[MemberRow]:
        """What others are told of these, to meet them and to wait for them."""
        return [
            member.row
            if member.link is not None
            else member.row._replace(down_ms=max(1, (now_ns - member.down_ns) // _MS))
            for member in members
        ]
