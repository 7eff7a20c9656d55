"""Routes messages to the rooms of the core; one object, no clock, no socket, one deadline.

A driver hands in frames and readings of its clocks, and asks for frames (`poll`), effects (`take_events`) and
the time of the next `advance`. Frames are made when a link can take them, from the link's cursor to the head:
a slow peer costs a cursor, not a queue. Whatever bytes arrive, `receive` raises nothing: it marks the link
broken and leaves the state as it was.

Decision: pull, not push, between core and driver (the contract of design section 13). With callbacks or
per-peer queues the order of effects would depend on the transport, and a test could not read it.

This file is over 400 lines because it is the whole surface that a driver and a user's node see: each method
is a few lines that hand on to a room.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from crdtcache.core import removal
from crdtcache.core.claims import Standing
from crdtcache.core.clock import NEVER, Reading, stamp_ms
from crdtcache.core.codec import FrameError, Limits, decode, encode
from crdtcache.core.correction import Correction, plausible
from crdtcache.core.detector import Detector
from crdtcache.core.digest import DIGEST_VERSION
from crdtcache.core.entry import DEAD, Entry, Key, Value, Version
from crdtcache.core.gaps import Gaps
from crdtcache.core.inbox import Inbox
from crdtcache.core.links import Link
from crdtcache.core.lwwmap import LWWMap
from crdtcache.core.members import Member, Members
from crdtcache.core.messages import (
    Context,
    Hello,
    MemberRow,
)
from crdtcache.core.outbox import Outbox
from crdtcache.core.outcome import Anew, Dial, Event, LinkBroken, PeerDown, PeerGone, PeerUp
from crdtcache.core.recovery import recover
from crdtcache.core.relay import Relay
from crdtcache.core.rewind import rewind
from crdtcache.core.sessions import Sessions
from crdtcache.core.store import Store
from crdtcache.core.writing import MOST_FRESH, writer
from crdtcache.tuning import Tuning

__all__ = ["WIRE_MAX", "WIRE_MIN", "Peer", "Replica"]

WIRE_MIN = WIRE_MAX = 1
_MS = 1_000_000
_MOST_FRAMES = 16  # of control messages may wait for a link; a peer that reads has less than one
_GREETED_BEFORE = "this clock was set back, and the origin that was greeted with is no more"


class Peer(NamedTuple):
    """A member as this replica sees it. `lag_ms`: how far what is accounted for of it lies behind its clock.

    That is None for a member that is not connected or has not said so yet: nobody here can know what it has written.
    `standing`: "alive", "suspect", "down" or "left", what the members believe of it.
    """

    name: str
    region: str
    zone: str
    origin: int
    generation: int
    address: str
    connected: bool
    lag_ms: int | None
    standing: str


P = ParamSpec("P")
T = TypeVar("T")


def _recovering(turn: Callable[Concatenate[Replica, P], T]) -> Callable[Concatenate[Replica, P], T]:
    """A turn that an exception of a signal handler may end anywhere: what is half done then is made whole."""

    @functools.wraps(turn)
    def whole(replica: Replica, /, *args: P.args, **rest: P.kwargs) -> T:
        try:
            return turn(replica, *args, **rest)
        except BaseException:
            replica.shaken_ns = max((each.mono_ns for each in args if isinstance(each, Reading)), default=0)
            replica.mend()
            raise

    return whole


class Replica:
    """One participant of the protocol. Not thread-safe: callers hold one lock around every call.

    `origin`: 64 random bits, never reused. `generation`: process start, Unix ms. `rng` decides whom to tell
    and when, nothing about data. `seed` is the digest's, the same in the whole cluster. `seeded` says that
    peers were configured, so that nothing dies of expiry before one of them was heard (D2).
    """

    def __init__(
        self,
        *,
        origin: int,
        name: str,
        cluster: str,
        generation: int,
        rng: random.Random,
        reading: Reading,
        region: str = "default",
        zone: str = "",
        advertise: str = "",
        seed: int = 0,
        tuning: Tuning | None = None,
        maxsize: int | None = 100_000,
        max_bytes: int | None = 256_000_000,
        seeded: bool = False,
    ) -> None:
        self.origin = origin
        self.cluster = cluster
        self.region = region
        self.zone = zone
        self.advertise = advertise
        self.tuning = tuning if tuning is not None else Tuning()
        self.seeded = seeded
        self.map = LWWMap(origin, self.tuning, Store(maxsize, max_bytes), seed)
        self.store = self.map.store
        self.members = Members(origin, self.tuning, rng, name)
        self._rng = rng
        self._limits = Limits(self.tuning.key_bytes, self.tuning.inline_bytes)
        self._links: dict[int, Link] = {}
        self._detector = Detector(self.members, self._links, self.tuning, rng, region, generation)
        self._ready: dict[int, None] = {}  # the links that may have something to send
        self._pushed = 0  # the last own write that made all of them ready
        self.shaken_ns: int | None = None  # when a change was interrupted in the middle
        self._gaps = Gaps(self.tuning, rng)
        self._events: list[Event] = []
        self._context_ns = reading.mono_ns
        self._swept_ns = 0  # when expiry and collection last had their turn
        self._lead_ms = 0  # wall minus monotonic clock, at that time
        self._prune_ns = 0
        self._links_ns = 0  # a lower bound of when a link must be kept alive or given up
        self._expected_ns = 0  # when advance() was due, to see a stall of this process
        self._counts = dict.fromkeys(_COUNTERS, 0)
        #: whether this call comes in the middle of another one of the same thread, from a finalizer: it may look at
        #: the map and `write`, and the accounts wait until the other one is through
        self.interrupts: Callable[[], bool] = _never
        most = MOST_FRESH if maxsize is None else min(MOST_FRESH, maxsize // 32 + 1)
        #: `write(key, value, wall_ms) -> stamp`: `put` for a scalar without expiry while nobody listens; 0: `put` it
        self.write = writer(self.map, self.map.fresh, most, self._settle_full)
        self.correction = Correction(self.tuning.max_drift_ms, reading)
        self._compare_ns = 0  # no comparison of clocks before this
        self._outbox = Outbox(self.map, self.members, self._links, self.correction, self._counts)
        self._relay = Relay(self.map, self.members, self._links, self._ready, region, self.tuning)
        self._sessions = Sessions(
            self.map, self._links, self._gaps, self._counts, rng, region, self._outbox.position, self._slowest_ms
        )
        self._inbox = Inbox(
            self.map,
            self.members,
            self._detector,
            self._gaps,
            self._counts,
            self._ready,
            self._outbox,
            self._relay,
            self._sessions,
            slowest_ms=self._slowest_ms,
            break_link=self._break,
            interrupt=self._interrupt,
            judge=self._judge,
        )

    @property
    def name(self) -> str:
        """What people call it; a later process may take it over."""
        return self.members.name

    @property
    def generation(self) -> int:
        """When the process started, Unix ms; later than that of any process before it of its name."""
        return self._detector.own.generation

    @generation.setter
    def generation(self, value: int) -> None:
        self._detector.renamed(value)

    # ---- time, corrected (design section 11) ----------------------------------------------------------------------

    def now(self, reading: Reading) -> Reading:
        """What the clocks say, corrected: every reading that is handed in should come from here. Any thread."""
        return self.correction.now(reading)

    def _compare_clocks(self, reading: Reading) -> Reading:
        """Judge the own clock by all that are known; the reading at the time that comes of it.

        Also by those that are away, as long as it is known well enough where they stand: in a partition the only
        peer that is left must not talk a replica into a time that many had contradicted.
        """
        now = reading.mono_ns
        lost = not plausible(reading.wall_ms - self.correction.ms)
        peers = [
            (lost or (member.row.generation, member.row.origin) < (self.generation, self.origin), member.line)
            for member in self.members.known.values()
            if member.line is not None
            and member.line.error_at(now) < self.tuning.reject_ms
            and not self.members.succeeded(member)
        ]
        self.correction.holds = bool(peers)
        moved = self.correction.judge(peers, now)
        if moved:
            reading = Reading(reading.wall_ms + moved, reading.mono_ns)
        self._take_back(reading, -moved)
        return reading

    def _take_back(self, reading: Reading, back_ms: int) -> None:
        """Begin anew where stamps were issued that peers will not believe for long."""
        ahead_ms = stamp_ms(self.map.clock.last) - reading.wall_ms
        if ahead_ms <= self.tuning.max_drift_ms or not self.correction.holds:
            return
        back_ms = back_ms if back_ms > 0 else ahead_ms
        former, above = self.origin, self.map.clock.limit(reading.wall_ms)
        moved = rewind(self.map, self._rng.getrandbits(64) or 1, back_ms, reading)
        self.origin = self.map.origin
        self.members.renamed(self.origin)
        self._relay.renamed()
        self.generation += 1
        self.members.latest[self.name] = self.generation  # it has succeeded itself
        for link in list(self._links.values()):
            self._break(link, f"this clock was set back by {back_ms} ms: its writes go on under a new origin", reading)
        self._gaps.clear()
        self._counts["begun_anew"] += 1
        self._events.append(Anew(former, self.origin, back_ms, above, moved))

    # ---- local operations: memory only ----------------------------------------------------------------------------

    @property
    def listening(self) -> bool:
        """Whether changes become events; False until somebody subscribes."""
        return self.map.listening

    @listening.setter
    def listening(self, value: bool) -> None:
        self.settle()
        self.map.listening = value

    @_recovering
    def _settle_full(self) -> None:
        if self.interrupts():
            return
        self.map.settle()
        if self.store.over():
            self._make_room(Reading(0, 0))

    def settle(self) -> None:
        """Make the accounts of what `write` has buffered; every other method does so first."""
        if self.shaken_ns is not None:
            self.mend()
        if self.map.fresh:
            self._settle_full()

    def mend(self) -> None:
        """Make whole what an exception has left half changed; if this is interrupted as well, the next turn does it."""
        if self.shaken_ns is not None and not self.interrupts():
            recover(self.map, self.shaken_ns)
            self.shaken_ns = None

    @_recovering
    def put(self, key: Key, value: Value, expires_at: int, reading: Reading) -> Version:
        """Write `value`; `expires_at` in Unix ms, 0 for never. The caller has checked key and value."""
        self.settle()
        stamp = self.map.put(key, value, expires_at, reading)
        if self.store.over():
            self._make_room(reading)
        return Version(stamp, self.origin)

    @_recovering
    def delete(self, key: Key, reading: Reading) -> tuple[Version, bool]:
        """Delete everywhere, also an absent key. Returns whether a value was visible here."""
        self.settle()
        return self.map.delete(key, reading)

    @_recovering
    def touch(self, key: Key, expires_at: int, reading: Reading) -> bool:
        """Give a visible entry a new expiry (Unix ms, 0 for never); False where there is none."""
        self.settle()
        return self.map.touch(key, expires_at, reading)

    @_recovering
    def evict(self, key: Key, reading: Reading) -> bool:
        """Drop the value from this memory only; False where there is none."""
        self.settle()
        return self.map.evict(key, reading)

    @_recovering
    def clear(self, reading: Reading) -> Version:
        """Clear the whole cluster of everything written before this instant."""
        self.settle()
        version = self.map.clear(reading)
        self._interrupt()
        removal.clear_step(self.map, reading, self.tuning.step_entries)
        return version

    @_recovering
    def clear_local(self, reading: Reading) -> None:
        """Drop every value from this memory only."""
        self.settle()
        live = self.store.keys()
        for key in live:
            self.map.evict(key, reading)

    def entry(self, key: Key, reading: Reading) -> Entry | None:
        """The visible entry of `key` (live or ghost), or None."""
        self.settle()
        return self.map.visible(key, reading)

    @_recovering
    def expire_due(self, reading: Reading, key: Key | None = None) -> list[Key]:
        """Expire what is due by the own clock now; the keys, or only `key` where it was among them."""
        self.settle()
        hidden = removal.expire(self.map, reading, self._slowest_ms(reading))
        return hidden if key is None else [k for k in hidden if k == key]

    def digest(self) -> int:
        """64 bits over all visible entries: equal maps have equal digests."""
        self.settle()
        return self.map.digest.root()

    # ---- links ----------------------------------------------------------------------------------------------------

    def hello(self, reading: Reading) -> Hello:
        """What the driver sends first on a new link."""
        return Hello(
            WIRE_MIN,
            WIRE_MAX,
            (),
            self.cluster,
            DIGEST_VERSION,
            self.name,
            self.region,
            self.zone,
            self.origin,
            self.generation,
            self.advertise,
            reading.wall_ms,
            self.map.partial,
        )

    def connected(
        self, link: int, hello: Hello, reading: Reading, *, dialed: str | None = None, greeted_as: int | None = None
    ) -> str | None:
        """A link is up; `dialed` is the address that this side called, `greeted_as` the origin in its own HELLO.

        Returns why it must be closed, or None.
        """
        self.settle()
        reason = self._refusal(hello)
        if reason is None and greeted_as not in (None, self.origin):
            reason = _GREETED_BEFORE
        if reason is not None:
            if dialed is not None:
                self.members.failed(dialed, reading.mono_ns, own=hello.origin == self.origin)
            return reason
        member = self.members.known.get(hello.origin)
        if member is not None and member.link is not None:
            old = self._links[member.link]
            caller = self.origin if dialed is not None else hello.origin
            old_caller = self.origin if old.our_dial else hello.origin
            if old_caller < caller:
                self.members.up(hello, old.number, reading.mono_ns, dialed)
                return "a better link to this member is up"
            self._events.append(LinkBroken(old.number, "replaced by a newer link"))
            self._drop(old, reading)
        member = self.members.up(hello, link, reading.mono_ns, dialed)
        origin = self.origin
        reading = self._compare_clocks(reading)
        if self.origin != origin:
            self.members.down(member, reading.mono_ns)
            return _GREETED_BEFORE
        fresh = Link(link, hello, reading.mono_ns, our_dial=dialed is not None)
        fresh.before = self.map.context.last.get(self.origin, 0)
        self._links[link] = fresh
        self._links_ns = 0
        self._sessions.joined(fresh, reading)
        self._outbox.tell(fresh, reading)
        self._detector.met(member, fresh, reading.mono_ns)
        self._ready[link] = None
        self._relay.changed(reading)
        self._events.append(PeerUp(link, hello))
        return None

    def _refusal(self, hello: Hello) -> str | None:
        if hello.origin == self.origin:
            return "this is the node itself"
        if hello.cluster != self.cluster:
            return f"cluster {hello.cluster!r} is not {self.cluster!r}"
        if hello.wire_max < WIRE_MIN or hello.wire_min > WIRE_MAX:
            return f"wire versions {hello.wire_min}..{hello.wire_max} and {WIRE_MIN}..{WIRE_MAX} have none in common"
        return None

    def disconnected(self, link: int, reading: Reading, reason: str = "closed") -> None:
        """The driver has lost or closed a link; may be called twice."""
        gone = self._links.get(link)
        if gone is None:
            return
        self._drop(gone, reading)
        member = self.members.known[gone.hello.origin]
        self._detector.lost(member, gone, reading.mono_ns)
        if member.link == link:
            self.members.down(member, reading.mono_ns)
            left = member.claim.standing == Standing.LEFT
            self._events.append(PeerDown(gone.hello, "it has left" if left else reason))
        self._relay.changed(reading)

    def _drop(self, link: Link, reading: Reading) -> None:
        self._links.pop(link.number, None)
        self._ready.pop(link.number, None)
        self._gaps.dropped(link.number, reading.mono_ns)

    def learn_seeds(self, addresses: list[str], reading: Reading) -> None:
        """The resolved addresses of the configured peers, "ip:port" each, in place of those before."""
        self.members.learn_seeds(addresses, reading.mono_ns)

    def meet(self, members: list[MemberRow], reading: Reading) -> None:
        """Learn of members from elsewhere than a peer, as a registry or a file may have them."""
        self._inbox.meet(members, reading)

    def dial_failed(self, address: str, reading: Reading) -> None:
        """A call was refused, timed out, or its greeting failed."""
        self.members.failed(address, reading.mono_ns)

    def stopped(self, reading: Reading) -> None:
        """The driver has stopped: every link is down, no call is under way."""
        for link in list(self._links):
            self.disconnected(link, reading, "stopped")
        self.members.stopped(reading.mono_ns)
        self._detector.back()

    def leave(self) -> None:
        """The driver is about to stop: tell all links that this replica is not to be waited for."""
        self._detector.leave()
        self._ready.update((number, None) for number in self._links)

    def renamed(self, origin: int, name: str, generation: int, reading: Reading) -> None:
        """Become another member that holds the same: what a fork makes of a replica. No link survives it."""
        self.settle()
        self.stopped(reading)
        self.origin, self.members.name, self.generation = origin, name, generation
        self._rng.seed(origin)
        self.map.renamed(origin)
        self.members.renamed(origin)
        self._relay.renamed()
        self._events.clear()

    def shared(self) -> None:
        """This process is about to fork: what is held here now, the child holds as well."""
        self.map.shared = self.map.clock.last

    # ---- receiving ------------------------------------------------------------------------------------------------

    @_recovering
    def receive(self, link: int, data: bytes, reading: Reading) -> None:
        """One frame from a link. Raises nothing for bad bytes: the link is broken with a reason instead."""
        self.settle()
        source = self._links.get(link)
        if source is None:
            return
        try:
            their_ms, messages, skipped = decode(data, self._limits)
        except FrameError as error:
            self._counts["frames_bad"] += 1
            self._break(source, f"bad frame: {error}", reading)
            return
        self._counts["frames_received"] += 1
        self._counts["messages_skipped"] += skipped
        source.heard_ns = source.came_ns = reading.mono_ns
        source.their_ms = their_ms
        age = reading.mono_ns // _MS - their_ms
        # Two monotonic clocks may differ by a thousandth: after weeks, the least of all would be out of reach.
        if source.age_ms is None or age < source.age_ms + (reading.mono_ns - source.aged_ns) // (1_000 * _MS):
            source.age_ms, source.aged_ns = age, reading.mono_ns
        elif age - source.age_ms > self.tuning.max_frame_age_ms:
            self._counts["frames_old"] += 1
            self._break(
                source, f"a frame {age - source.age_ms} ms old; the limit is {self.tuning.max_frame_age_ms}", reading
            )
            return
        most = _MOST_FRAMES * self.tuning.max_frame_bytes
        for message in messages:
            if source.number in self._links:
                self._inbox.take(source, message, reading)
            waiting = source.waiting + (source.session.answers.waiting if source.session is not None else 0)
            if waiting > most:
                self._break(source, f"{waiting} bytes wait to be sent; the limit is {most}", reading)
                return
        if source.waits and source.number in self._links:
            self._ready[source.number] = None
        # All clocks are looked at each time: with many members, not for each of their signs of life.
        if reading.mono_ns >= self._compare_ns and any(message.__class__ is Context for message in messages):
            reading = self._compare_clocks(reading)
            self._compare_ns = reading.mono_ns + 5 * len(self._links) * _MS
        if self.store.over():
            self._make_room(reading)

    def _judge(self, reading: Reading) -> None:
        """The standing of some members has changed, perhaps."""
        if not self._detector.judged:
            return
        for member in self._detector.judged:
            if member.claim.gone:
                self._events.append(PeerGone(member.row, Standing(member.claim.standing).name.lower()))
        self._detector.judged.clear()
        self._relay.changed(reading)

    # ---- sending --------------------------------------------------------------------------------------------------

    def ready(self) -> list[int]:
        """The links that may have something to send since this was last asked; `poll` of others gives None.

        Not asked of all links after each call: what arrives is mostly for this replica alone, and to find that
        out link by link costs more than all the rest where there are many.
        """
        self.settle()
        last = self.map.context.last.get(self.origin, 0)
        if last != self._pushed:
            self._pushed = last
            self._relay.wrote()
        elif not self._ready:
            return []
        links = [number for number in self._ready if number in self._links]
        self._ready.clear()
        # A session, or a pull of what is still to come, goes on by itself.
        self._ready.update((number, None) for number in links if self._links[number].goes_on)
        return links

    def poll(self, link: int, reading: Reading) -> bytes | None:
        """The next frame for a link that can take one, at most about `frame_bytes`; None: nothing to send now."""
        self.settle()
        target = self._links.get(link)
        if target is None:
            return None
        data = self._outbox.poll(target, reading)
        if target.session is not None:
            self._sessions.settle(target, reading)
        return data

    # ---- time -----------------------------------------------------------------------------------------------------

    def deadline(self) -> int | None:
        """Monotonic ns at which `advance` is due; the driver may come later, and loses only time."""
        if self.map.clearing:
            due = 0
        else:
            due = min(self._sweep_ns(), self.members.next_call_ns, self._detector.due_ns)
            if self._links:
                due = min(due, self._context_ns, self._links_ns, self._relay.due_ns(), self._sessions.due_ns())
            if self._gaps and not self._sessions.filling:
                due = min(due, self._gaps.due_ns())
        if due:  # 0, at once, says nothing of since when
            self._expected_ns = due if due < NEVER else 0
        return due if due < NEVER else None

    def _sweep_ns(self) -> int:
        """When something may expire, die, be collected or evicted: no sweep is due that would find nothing."""
        held, sweep_ns = self.map, self.tuning.sweep_ms * _MS
        if held.overdue or held.deleted or held.lapsed or held.aged or held.store.over():
            return self._swept_ns + sweep_ns
        next_ms = held.store.expiring.next_ms()
        if next_ms is None:
            return NEVER
        # Somebody may set the wall clock: looked at again after ten sweeps.
        due = min((next_ms - self._lead_ms) * _MS, self._swept_ns + 10 * sweep_ns)
        return max(due, self._swept_ns + sweep_ns)

    @_recovering
    def advance(self, reading: Reading) -> None:
        """Do what is due: expiry, clearing, collection, room, pulls, context messages, silent links, calls."""
        self.settle()
        now = reading.mono_ns
        tuning = self.tuning
        held = self.map
        late = now - self._expected_ns
        if self._expected_ns and late > 250 * _MS:
            # This process stood still: what was said meanwhile has not been read yet (the stall rule).
            for link in self._links.values():
                link.heard_ns = max(link.heard_ns, now - tuning.keepalive_ms * _MS)
            self._detector.stalled(now)
        self.correction.holds = self.correction.holds and self.members.any_in_use(now)
        self._take_back(reading, 0)
        if held.clearing:
            removal.clear_step(held, reading, tuning.step_entries)
        if now >= self._sweep_ns():
            step = tuning.step_entries
            may_expire = held.overdue or held.store.expiring.next_ms() is not None
            hidden = removal.expire(held, reading, self._slowest_ms(reading), step) if may_expire else []
            collected = removal.collect(held, reading, self._watermark(now) if held.aged or held.deleted else 0, step)
            # A full step means more: go on at once, after whoever waits for the lock.
            full = len(hidden) >= step or collected >= step
            self._swept_ns = now - tuning.sweep_ms * _MS if full else now
            self._lead_ms = reading.wall_ms - now // _MS
        if self.store.over():
            self._make_room(reading)
        self._relay.look(reading)
        if self._links and now >= self._links_ns:
            self._watch_links(reading)
        self._detector.look(now)
        self._judge(reading)
        if self._links and now >= self._context_ns:
            spread = self._rng.uniform(0.8, 1.2)
            self._context_ns = now + round(tuning.context_ms * spread * _MS)
            number = self._rng.choice(list(self._links))
            self._outbox.tell(self._links[number], reading)
            self._ready[number] = None
        if not self._sessions.filling:
            for link, pull in self._gaps.pulls(reading, held.context.reach, self._links.values()):
                link.say(encode(pull))
                self._counts["pulls"] += 1
        self._sessions.compare(reading)
        self._ready.update((link.number, None) for link in self._links.values() if link.control)
        self._events.extend(Dial(address) for address in self.members.calls(now))

    def _watch_links(self, reading: Reading) -> None:
        now, tuning = reading.mono_ns, self.tuning
        keepalive_ns, silent_ns = tuning.keepalive_ms * _MS, tuning.silent_ms * _MS
        due = now + keepalive_ns
        for link in list(self._links.values()):
            if now - link.heard_ns >= silent_ns:
                self._break(link, f"silent for {(now - link.heard_ns) // _MS} ms", reading)
                continue
            if self._superfluous(link, now):
                self._break(link, "others tell it, and this link is not needed", reading)
                continue
            session = link.session
            if session is not None and now - session.active_ns > tuning.session_idle_ms * _MS:
                link.session = None
                self._counts["sessions_stuck"] += 1
            if link.too_old:
                self._sessions.open(link, reading)
            sent_ns = link.sent_ns
            if link.control or now - sent_ns >= keepalive_ns:
                self._ready[link.number] = None
                sent_ns = now
            due = min(due, sent_ns + keepalive_ns, link.heard_ns + silent_ns)
        if now >= self._prune_ns:
            self._prune_ns = now + tuning.compare_ms * _MS
            self._prune(reading)
        # Not each at its own instant, but all whose time comes within an eighth of the period together; when it was a
        # quarter, those of the own region were late so often that each member asked three others twice a second.
        self._links_ns = max(due, now + keepalive_ns // 8)

    def _superfluous(self, link: Link, now_ns: int) -> bool:
        """Whether the own call for this link would not be made today, and nothing is under way on it.

        Only who called hangs up: where the two see different members, the other may need it.
        """
        return (
            link.our_dial
            and not self.members.worth(link.hello.origin)
            and now_ns - link.start_ns > 2 * self.tuning.silent_ms * _MS
            and not (link.waits or self._gaps)
        )

    def _prune(self, reading: Reading) -> None:
        used = {member.row.origin: None for member in self.members.in_use(reading.mono_ns)}
        origins = removal.to_prune(self.map, used, self._links.values(), reading.wall_ms)
        if origins:
            mark = max(map(self.map.context.ends, origins))
            removal.prune(self.map, origins, mark, self._links.values())
            self._counts["pruned"] += len(origins)

    def _watermark(self, now_ns: int) -> int:
        """The least frontier here over the origins in use: below it nothing unknown can still arrive."""
        frontier = self.map.context.frontier
        own = frontier[self.origin]
        lows = [frontier[m.row.origin] for m in self.members.in_use(now_ns) if m.row.origin in frontier]
        if not lows and self.seeded and not self.members.known:
            return 0  # as D2: who has peers and has heard nobody yet cannot know what may still arrive
        return min(lows, default=max(own, self.map.clock.last))

    def _slowest_ms(self, reading: Reading) -> int | None:
        """D2's slowest clock: last heard from any member in use, advanced by monotonic time; None: heard nobody.

        With no member in use any longer, those that were known still count: a fast clock that is left alone would
        otherwise kill what others gave it, and tell them when they are back.
        """
        for members in (self.members.in_use(reading.mono_ns), self.members.known.values()):
            clocks = [m.clock_ms + (reading.mono_ns - m.heard_ns) // _MS for m in members if m.clock_ms]
            if clocks:
                return min(clocks)
        return None if self.seeded else reading.wall_ms

    def _make_room(self, reading: Reading) -> None:
        alone = not self.seeded and not self.members.known
        if self.store.crowded() and self._slowest_ms(reading) is None:
            removal.drop_overdue(self.map, reading, self.tuning.step_entries)
        confirmed = 0
        if not self._links:
            confirmed = self.map.clock.last
        for link in self._links.values():
            confirmed = max(confirmed, link.rows.get(self.origin, 0))
        removal.make_room(self.map, reading, self.tuning.step_entries, confirmed, alone=alone)

    # ---- the rest -------------------------------------------------------------------------------------------------

    def _interrupt(self) -> None:
        self._sessions.interrupt()
        self._ready.update((link.number, None) for link in self._links.values() if link.waits)

    def _break(self, link: Link, reason: str, reading: Reading) -> None:
        self._counts["links_broken"] += 1
        self._events.append(LinkBroken(link.number, reason))
        self.disconnected(link.number, reading, reason)

    def take_events(self) -> list[Event]:
        """What has happened since the last call, in order: changes first come, first served."""
        self.settle()
        changes = self.map.changes
        if not changes and not self._events:
            return []
        events: list[Event] = [*changes, *self._events]
        changes.clear()
        self._events = []
        return events

    def peers(self) -> list[Peer]:
        """The members that have been met, connected or not; their lag by their own clocks."""
        frontier = self.map.context.frontier
        peers = []
        for member in self.members.known.values():
            row, known = member.row, frontier.get(member.row.origin)
            up = member.link is not None
            # A frontier of 0: that it exists is all that is known, and no lag since 1970.
            lag = max(0, member.clock_ms - stamp_ms(known)) if up and known and member.clock_ms else None
            believed = Standing(member.claim.standing).name.lower()
            said = (row.name, row.region, row.zone, row.origin, row.generation, row.advertise)
            peers.append(Peer(*said, up, lag, believed))
        return peers

    def caught_up(self, coverage: float = 1.0) -> bool:
        """Whether every connected member has said what it has, and nothing of it is missing here.

        While this replica is being filled: whether it holds at least `coverage` of what the other side held.
        """
        links = self._links.values()
        filling = [link.session.size for link in links if link.session is not None and link.session.filling]
        if filling and coverage < 1.0:
            return len(self.store.entries) >= coverage * max(filling)
        return not self._gaps and all(
            k.rows and not k.too_old and (k.session is None or k.session.rows is None) for k in links
        )

    def owes(self) -> bool:
        """Whether own writes have still to be sent to anybody, where there is somebody.

        A replica that is about to stop waits a little for this while it `expects` it: what was never sent goes with it.
        """
        self.settle()
        last = self.map.context.last.get(self.origin, 0)
        if not self._links:
            return self.map.sent < last and (self.seeded or self.members.next_call_ns < NEVER)
        return not any(
            link.rows and link.rows.get(self.origin, 0) >= link.before and link.cursors.get(self.origin, 0) >= last
            for link in self._links.values()
        )

    def expects(self, reading: Reading) -> bool:
        """Whether somebody may take them soon: a link is up, or may come up."""
        asking = self.seeded and not self.members.resolved
        return bool(self._links) or asking or self.members.hopeful(reading.mono_ns)

    @property
    def written(self) -> Version:
        """The version of the last own write."""
        self.settle()
        return Version(self.map.context.last.get(self.origin, 0), self.origin)

    def ask_receipts(self, reading: Reading) -> None:
        """Have all members say at once how far they have accounted for what was written here."""
        self.settle()
        self._relay.ask(reading)

    def acknowledged(self, version: tuple[int, int]) -> list[int]:
        """The members that are known to have accounted for it and for all before it of its origin."""
        stamp, origin = version
        told = self._relay.receipts.items() if origin == self.origin else ()
        linked = [link.hello.origin for link in self._links.values() if link.rows.get(origin, 0) >= stamp]
        return list(dict.fromkeys([*linked, *(member for member, upto in told if upto >= stamp)]))

    def known_of(self, origin: int) -> dict[int, int]:
        """What a member has accounted for, as far as it has said: a stamp of each origin."""
        member = self.members.known.get(origin)
        link = self._links.get(member.link) if member is not None and member.link is not None else None
        return link.rows if link is not None else {self.origin: self._relay.receipts.get(origin, 0)}

    def has_seen(self, version: tuple[int, int]) -> bool:
        """Whether it is accounted for here."""
        self.settle()
        return self.map.context.covers(*version)

    def session_with(self, origin: int) -> tuple[bool, int, int] | None:
        """Whether one is under way with this member, on which link, and how many on it have compared the whole maps.

        None where it is not connected.
        """
        member = self.members.known.get(origin)
        link = self._links.get(member.link) if member is not None and member.link is not None else None
        return None if link is None else (link.session is not None, link.number, link.compared)

    def ask_session(self, origin: int, reading: Reading) -> bool:
        """Compare with a connected member now, whatever the digests say; False where it must wait a little."""
        self.settle()
        link = self._links[self.members.known[origin].link or 0]
        self._sessions.open(link, reading, differs=True)
        self._ready[link.number] = None
        return link.session is not None

    def trace(self, key: Key) -> tuple[Entry | None, Version, int]:
        """The entry of `key`, the dead included; the version of the last clear; how many peers have seen the entry."""
        self.settle()
        entry = self.store.entries.get(key)
        seen = 0
        if entry is not None:
            stamp, origin = entry[:2]
            seen = sum(link.rows.get(origin, 0) >= stamp for link in self._links.values())
        return entry, Version(*self.map.context.clear_mark), seen

    def stats(self) -> dict[str, int]:
        """Counters since the start, and sizes now."""
        self.settle()
        held = self.map
        dead = sum(map(len, held.dead()))
        return {
            **self._counts,
            "overwritten": held.overwritten,
            "evicted": held.evicted,
            "expired": held.expired,
            "unsafe_gc": held.unsafe_gc,
            "live": self.store.live,
            "visible": len(self.store.entries) - dead,
            "dead": dead,
            "bytes": self.store.bytes,
            "origins": len(held.context.frontier),
            "dots": held.context.dot_count(),
            "log_records": held.log.count,
            "links_up": len(self._links),
            "members": len(self.members.known),
        }

    def check(self) -> None:
        """AssertionError if an invariant is broken; for tests and the simulator, never in production."""
        self.settle()
        self.map.check()
        for link in self._links.values():
            member: Member = self.members.known[link.hello.origin]
            assert member.link == link.number, "two links to one member"
        if not self.map.clearing:
            for key, entry in self.store.entries.items():
                assert entry[:2] > self.map.context.clear_mark, f"{key!r} is covered by a clear"
                assert entry[5] == DEAD or self.map.context.clear_mark <= (self.map.clock.last, self.origin)


def _never() -> bool:
    return False


_COUNTERS = (
    "begun_anew",
    "compared_unequal",
    "contexts_sent",
    "duplicates",
    "entries_received",
    "entries_sent",
    "frames_bad",
    "frames_old",
    "frames_received",
    "frames_sent",
    "gone",
    "items_sent",
    "links_broken",
    "messages_skipped",
    "parked",
    "pruned",
    "pulls",
    "rejected",
    "sessions",
    "sessions_equal",
    "sessions_incomplete",
    "sessions_limited",
    "sessions_stuck",
    "slices_made",
    "slices_received",
    "too_old",
)
