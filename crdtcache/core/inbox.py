"""What comes in: what each message does here, after its frame was read and before anything is answered.

    SLICE        applied (C2), handed to the relay; what is missing before or after it becomes a gap
    CONTEXT      rows (C4), members, the clock; who is behind is told
    PULL         a cursor
    TOO_OLD      a session
    GONE         forgotten, exactly that version
    CLAIMS, PROBE, HEARD   to `detector`
    the others   to `sessions`

Decision: a clear mark is believed before anything else of its message, for what it covers must not be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from crdtcache.core.clock import Guard, Reading, stamp_ms
from crdtcache.core.codec import encode
from crdtcache.core.correction import Line, line_of, plausible
from crdtcache.core.detector import Detector
from crdtcache.core.entry import EXPIRES, STAMP, TOUCH
from crdtcache.core.gaps import Gaps
from crdtcache.core.links import Link
from crdtcache.core.lwwmap import LWWMap
from crdtcache.core.members import Members
from crdtcache.core.messages import (
    Claims,
    Context,
    Gone,
    Heard,
    MemberRow,
    Message,
    Open,
    Probe,
    Pull,
    Ready,
    Receipt,
    Slice,
    TooOld,
)
from crdtcache.core.outbox import Outbox
from crdtcache.core.relay import Relay
from crdtcache.core.session import OutOfTurn
from crdtcache.core.sessions import Sessions
from crdtcache.core.slices import apply_slice
from crdtcache.core.spread import Role

__all__ = ["Inbox"]

_MS = 1_000_000


class Inbox:
    """Takes in the messages of one replica. `break_link` ends a link with a reason."""

    __slots__ = (
        "_asked",
        "_break_link",
        "_counts",
        "_detector",
        "_gaps",
        "_held",
        "_interrupt",
        "_judge",
        "_members",
        "_outbox",
        "_ready",
        "_relay",
        "_sessions",
        "_slowest_ms",
        "_tuning",
    )

    def __init__(
        self,
        held: LWWMap,
        members: Members,
        detector: Detector,
        gaps: Gaps,
        counts: dict[str, int],
        ready: dict[int, None],
        outbox: Outbox,
        relay: Relay,
        sessions: Sessions,
        *,
        slowest_ms: Callable[[Reading], int | None],
        break_link: Callable[[Link, str, Reading], None],
        interrupt: Callable[[], None],
        judge: Callable[[Reading], None],
    ) -> None:
        self._held = held
        self._tuning = held.tuning
        self._members = members
        self._detector = detector
        self._gaps = gaps
        self._counts = counts
        # Of each origin, the last slice that asked for rows and was passed on: its end, and the link that it came by.
        self._asked: dict[int, tuple[int, int]] = {}
        self._ready = ready
        self._outbox = outbox
        self._relay = relay
        self._sessions = sessions
        self._slowest_ms = slowest_ms
        self._break_link = break_link
        self._interrupt = interrupt
        self._judge = judge

    def take(self, link: Link, message: Message, reading: Reading) -> None:
        """One message of a link that is up."""
        match message:
            case Slice():
                self._on_slice(link, message, reading)
            case Context():
                self._on_context(link, message, reading)
            case Pull():
                self._on_pull(link, message)
            case TooOld():
                self._on_too_old(link, message, reading)
            case Receipt():
                self._relay.receipt(message, self._asked.get(message.origin, (0, 0))[1])
            case Gone():
                for key, stamp, origin in message.versions:
                    self._counts["gone"] += self._held.gone(key, (stamp, origin), reading)
            case Claims():
                self._detector.told(link, message, reading.mono_ns)
                self._judge(reading)
            case Probe():
                self._detector.asked(link, message, reading.mono_ns)
            case Heard():
                self._detector.vouched(message, reading.mono_ns)
            case Open() | Ready() if not self._believe(link, message.clear_mark, reading):
                pass
            case _:
                try:
                    self._sessions.receive(link, message, reading)
                except OutOfTurn as error:
                    self._break_link(link, str(error), reading)

    def _on_slice(self, link: Link, part: Slice, reading: Reading) -> None:
        self._counts["slices_received"] += 1
        if not self._believe(link, part.clear_mark, reading):
            return
        if part.origin == self._held.origin:
            return
        # The slowest clock is looked for among all members, and matters only to what expires.
        before = self._held.context.reach(part.origin)
        # What the log there could not tell, sessions bring, branch by branch. What is written meanwhile is taken beside
        # them, or the branches would differ again as fast as they are compared; of all together as many as a log holds.
        adopts = self._tuning.log_records // len(link.too_old) if part.origin in link.too_old else 0
        self._held.context.cap = max(self._tuning.dots_per_origin, adopts)
        expires = any(item.entry[EXPIRES] for item in part.items)
        applied = apply_slice(self._held, part, reading, self._slowest_ms(reading) if expires else None)
        self._counts["entries_received"] += len(part.items)
        if applied.gone:
            self._outbox.answer_gone(link, applied.gone)
        if applied.rejected:
            self._counts["rejected"] += applied.rejected
            if link.hello.origin == part.origin and self._compared(link, reading):
                ahead = (
                    max(stamp_ms(max(item.entry[STAMP], item.entry[TOUCH])) for item in part.items) - reading.wall_ms
                )
                self._break_link(link, f"its clock is {ahead} ms ahead; the limit is {self._tuning.reject_ms}", reading)
                return
        frontier = self._held.context.reach(part.origin)
        asked = part.ack and part.hi > self._asked.get(part.origin, (0, 0))[0]
        if asked:
            self._note_asker(part, link)
        if part.ack:
            self._relay.answer(part.origin, link)
        if frontier > before or asked:
            self._pass_on(link, part, before, asked=asked)
        elif part.items and applied.contiguous:
            self._counts["duplicates"] += 1
        if part.hi > link.rows.get(part.origin, 0):
            link.rows[part.origin] = part.hi
        if self._gaps:
            self._gaps.answered(part.origin, link.number, reading.mono_ns)
            self._gaps.reached(part.origin, frontier)
        if frontier >= part.last:
            return
        due = reading.mono_ns + self._tuning.graft_delay_ms * _MS
        if applied.parked_until_ms:
            self._counts["parked"] += 1
            due = reading.mono_ns + max(1, applied.parked_until_ms - reading.wall_ms) * _MS
            self._gaps.parked(part.origin, due)
        self._gaps.want(part.origin, part.last, due)

    def _note_asker(self, part: Slice, link: Link) -> None:
        self._asked[part.origin] = part.hi, link.number
        if len(self._asked) > self._tuning.origins:
            del self._asked[next(iter(self._asked))]

    def _pass_on(self, link: Link, part: Slice, before: int, *, asked: bool) -> None:
        role = Role.ENTRY if part.entry else self._gaps.role(part.origin, link.number)
        if role is not Role.JOINED or asked or self._held.context.reach(part.origin) >= part.last:
            self._relay.took(part.origin, before, role, ask=asked)

    def _on_context(self, link: Link, context: Context, reading: Reading) -> None:
        now, line, sender = reading.mono_ns, None, self._members.known[link.hello.origin]
        round_trip_ms = now // _MS - context.heard_ms - context.ago_ms
        if context.heard_ms and round_trip_ms >= 0 and plausible(context.wall_ms):
            half = (round_trip_ms + 1) // 2
            line = Line(line_of(context.wall_ms + half, now), line_of(context.clock_ms + half, now), half + 1, now)
            sender.round_trip_ms = round_trip_ms
        self._members.heard(sender, context.clock_ms, now, line)
        if not self._believe(link, context.clear_mark, reading):
            return
        self.meet(context.members, reading)
        link.prune_mark = context.prune_mark or link.prune_mark
        limit = self._held.clock.limit(reading.wall_ms)
        own = self._held.context
        # The first rows on a link speak of what no push on it will bring.
        due = reading.mono_ns + (self._tuning.graft_delay_ms * _MS if link.rows else 0)
        frontier, lasts = own.frontier, own.last
        for row in context.rows:
            origin, last, now = row
            link.heard(row)
            if origin == self._held.origin:
                self._held.sent = max(self._held.sent, now)  # a fork has what it never was sent
            # Most rows say what is known.
            if (now > frontier.get(origin, -1) or last > lasts.get(origin, 0)) and origin != self._held.origin:
                if last <= limit and own.apply_row(row, limit):
                    self._held.clock.accept(own.reach(origin))
                elif last <= limit:
                    self._gaps.want(origin, last, due)
        if not context.members:
            return  # a sign of life, or rows of what somebody else passes on: not a whole context
        if self._is_behind(link, context) and reading.mono_ns - link.told_ns >= self._tuning.graft_delay_ms * _MS:
            self._outbox.tell(link, reading)
        self._compare(link, context.root, reading)

    def meet(self, rows: Iterable[MemberRow], reading: Reading) -> None:
        """Whom somebody else has met."""
        now = reading.mono_ns
        known = self._members.known
        count = len(known)
        for told in rows:
            member = known.get(told.origin)
            if member is None or member.link is None:
                member = self._members.learn(told, now)
                if member is not None:
                    self._detector.named(member, now, connected=not told.down_ms)
                if told.name == self._members.name and told.origin != self._held.origin and told.down_ms:
                    self._detector.succeed(told.generation, now)
        if len(known) != count:
            self._relay.changed(reading)

    def _is_behind(self, link: Link, context: Context) -> bool:
        """Whether the peer lacks something, and was not told, or was told in vain."""
        lasts, theirs, said = self._held.context.last, link.rows, link.said
        for row in context.rows:
            if row.now < lasts.get(row.origin, 0):
                said.pop(row.origin, None)
        return any(last > theirs.get(origin, 0) and last > said.get(origin, 0) for origin, last in lasts.items())

    def _compare(self, link: Link, root: int, reading: Reading) -> None:
        """Digests that stand still and differ although nothing is missing: only a session can tell why.

        It happens after a forced collection, or a touch that came too late for some (design section 7).
        """
        roots = (self._held.digest.root(), root)
        if roots != link.roots or roots[0] == root or self._gaps:
            link.roots, link.differ_ns = roots, reading.mono_ns
        elif reading.mono_ns - link.differ_ns >= self._tuning.compare_ms * _MS:
            link.differ_ns = reading.mono_ns
            self._counts["compared_unequal"] += 1
            self._sessions.open(link, reading, differs=True)

    def _on_pull(self, link: Link, pull: Pull) -> None:
        if pull.lo < self._held.log.floor(pull.origin) or pull.origin not in self._held.context.frontier:
            link.say(encode(TooOld(pull.origin, self._held.log.floor(pull.origin))))
            self._counts["too_old"] += 1
            return
        link.cursors[pull.origin] = min(pull.lo, link.cursors.get(pull.origin, pull.lo))
        if pull.origin == self._held.origin:
            link.before = 0
        self._ready[link.number] = None

    def _on_too_old(self, link: Link, answer: TooOld, reading: Reading) -> None:
        self._gaps.answered(answer.origin, link.number, reading.mono_ns)
        if answer.floor > self._held.context.reach(answer.origin):
            link.too_old[answer.origin] = answer.floor
            self._sessions.open(link, reading)

    def _believe(self, link: Link, mark: tuple[int, int], reading: Reading) -> bool:
        """The drift guard on a clear mark, raised before anything else of its message."""
        if mark <= self._held.context.clear_mark:
            return True
        judged = self._held.clock.judge(mark[0], reading.wall_ms)
        if judged is Guard.REJECT:
            self._counts["rejected"] += 1
            if self._compared(link, reading):
                self._break_link(link, f"a clear {stamp_ms(mark[0]) - reading.wall_ms} ms ahead", reading)
            return False
        if judged is Guard.PARK:
            self._counts["parked"] += 1
            return False
        if self._held.raise_clear_mark(mark):
            self._interrupt()
        return True

    def _compared(self, link: Link, reading: Reading) -> bool:
        """Whether this link has had the time to compare clocks: before that, the wrong one may be the own.

        A replica that two wrong clocks had talked into yesterday broke each link to those who were right, at the
        first thing it heard of today, and never heard what time it is (kitchen-sink, seed 50664).
        """
        line = self._members.known[link.hello.origin].line
        heard = line is not None and line.since_ns >= link.start_ns
        return heard or reading.mono_ns - link.start_ns >= self._tuning.silent_ms * _MS
