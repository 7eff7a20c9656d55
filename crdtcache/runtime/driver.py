"""The one driver: carries bytes and time to the replica, and frames and effects away from it. It decides nothing.

app thread: set() -- lock: put -- wake ----.
                                           v
writer (one per link): lock: poll ... -> send_all -> park          parked until there is something to say
reader (one per link): receive_some -> lock: receive -> deliver -> rouse the writers that have something to say
timer (one):           sleep until the deadline -> lock: advance -> deliver -> rouse

The lock is held for one call of the replica (a few for a writer) and never across an await. A writer goes to sleep
under it: a write that comes later finds `asleep` set, so no wake-up is lost, and one that comes while nobody sleeps
pays nothing. Whom to call, which of two links stays, when a silent one is given up: all that is the core's.

Decision: network trouble is logged and never raised; everything else is a bug and is not caught, so that it
tears the nursery down. Catching what "should not happen" is refused: a cache that goes on after its own state broke
serves wrong answers quietly.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import trio

from crdtcache.core.messages import Hello
from crdtcache.core.outcome import Anew, Change, Dial, Event, LinkBroken, PeerDown, PeerGone, PeerUp
from crdtcache.core.replica import Replica
from crdtcache.runtime import discovery
from crdtcache.runtime.clocks import TimeSource
from crdtcache.runtime.discovery import SeedSource, Transport
from crdtcache.runtime.doors import Doors
from crdtcache.runtime.link import HEADER, SEND_BYTES, Link, LinkLost
from crdtcache.tuning import Tuning

__all__ = ["GOODBYE_S", "Driver"]

GOODBYE_S = 0.8  # how long `stop` lets what was written before leave; with nobody in reach an exit stays below 1 s
_LOOK_S = 0.005
_TURN_NS = 5_000_000  # of merging before other tasks get their turn

_log = logging.getLogger("crdtcache")
_log.addHandler(logging.NullHandler())


class Driver:
    """Runs one replica on trio: sockets, time and names. Everything but `wake` belongs to the thread of `run`.

    `lock` guards the replica; `deliver` gets every event, outside the lock, in the thread of `run`. `listen` and
    `peers` as in `Node`; `parent`: of a fork, where its parent listens; `transport` opens the streams: TCP, where none
    is given. Raises `ConfigError` for what can be seen to be wrong without the network.
    """

    def __init__(
        self,
        replica: Replica,
        lock: AbstractContextManager[object],
        clock: TimeSource,
        deliver: Callable[[list[Event]], None],
        *,
        listen: str | None = "auto",
        peers: SeedSource = None,
        secret: bytes | None = None,
        insecure: bool = False,
        tuning: Tuning | None = None,
        parent: str = "",
        transport: Transport = discovery,
    ) -> None:
        self.asleep = False  # some writer sleeps, and no wake-up is on its way
        self._replica = replica
        self._lock = lock
        self._clock = clock
        self._deliver = deliver
        self._tuning = tuning if tuning is not None else replica.tuning
        self._doors = Doors(
            replica,
            lock,
            clock,
            listen=listen,
            peers=peers,
            secret=secret,
            insecure=insecure,
            tuning=self._tuning,
            parent=parent,
            transport=transport,
        )
        self._numbers = itertools.count(1)
        self._rest()

    def _rest(self) -> None:
        """The state of a driver that does not run."""
        with self._lock:
            self._replica.stopped(self._clock.reading())
        self.asleep = False
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread = 0
        self._wires: dict[int, _Wire] = {}
        self._parked: dict[int, _Wire] = {}  # those whose writer sleeps
        self._last_gone = trio.Event()
        self._alarm_ns = 0  # until when the timer sleeps; 0: it does not
        self._timer = trio.lowlevel.ParkingLot()
        self._leaving = False

    @property
    def address(self) -> str:
        """The "host:port" that is listened at, once running; "" where there is none."""
        return self._doors.address

    @property
    def running(self) -> bool:
        """Whether `run` is under way."""
        return self._nursery is not None

    @property
    def refused(self) -> tuple[str, bool]:
        """Who of those that were called does not take this node in, and why ("": nobody); whether all seeds refuse."""
        return self._doors.refusal()

    @property
    def names_only_itself(self) -> bool:
        """Whether every address of every peer that was given turned out to be this node."""
        with self._lock:
            return bool(self._doors.found) and not self._replica.members.seeds()

    @property
    def conditions(self) -> list[str]:
        """What is not as it should be just now, one line each: seeds without addresses, refusals, being alone."""
        return self._doors.conditions.texts()

    def wake(self) -> None:
        """Something was written: let the writers look. Any thread; cheap; call it when `asleep`."""
        if not self.asleep:
            return
        self.asleep = False
        if threading.get_ident() == self._thread:
            self._ring()
        elif self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._ring, idempotent=True)

    def soon(self, call: Callable[[], object]) -> None:
        """Make this call between two turns, in the thread of `run`. Any thread, also in a finalizer."""
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(call)

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, call, and serve for ever; `task_status.started()` once the port is open.

        Cancel it to close all links at once, or end it by `stop`. Raises `ConfigError` where it cannot listen.
        """
        if self._nursery is not None:
            raise RuntimeError("this driver is already running")
        await self._doors.open()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._token = trio.lowlevel.current_trio_token()
                self._thread = threading.get_ident()
                nursery.start_soon(self._doors.stand, self._take_link, self._retime)
                nursery.start_soon(self._keep_time)
                task_status.started()
        finally:
            self._rest()

    async def stop(self, seconds: float = GOODBYE_S) -> None:
        """End `run`: let what was written leave, at most for `seconds`, and close.

        Three quarters of the time are for a link that is still to come up: a process may write and end before. None is
        waited for where all that can be called have been called in vain for a second.
        """
        nursery = self._nursery
        if nursery is None:
            return
        end = trio.current_time() + seconds
        with trio.move_on_after(seconds * 0.75):
            while self._owes(expected=True):  # noqa: ASYNC110 - nobody tells; it is looked at only at the very end
                await trio.sleep(_LOOK_S)
        if self._owes():
            _log.warning("closing, and what was written last may have reached nobody")
        self._leaving = True
        self._doors.close()
        with self._lock:
            self._replica.leave()
        self._ring()
        with trio.move_on_at(end):
            while self._wires:
                self._last_gone = trio.Event()
                await self._last_gone.wait()
        nursery.cancel_scope.cancel()

    def _owes(self, *, expected: bool = False) -> bool:
        with self._lock:
            return self._replica.owes() and (not expected or self._replica.expects(self._clock.reading()))

    def abandon(self) -> None:
        """In a forked child: close its copies of the sockets, without a word to those at the other end."""
        self._doors.abandon()

    # ---- links ----------------------------------------------------------------------------------------------------

    def _take_link(self, link: Link, name: str, own: Hello, hello: Hello, dialed: str | None) -> None:
        assert self._nursery is not None, "doors are open only while the driver runs"
        self._nursery.start_soon(self._serve, _Wire(next(self._numbers), link, name), own, hello, dialed)

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, wire: _Wire, own: Hello, hello: Hello, dialed: str | None) -> None:
        with self._lock:
            reading = self._clock.reading()
            reason = self._replica.connected(wire.number, hello, reading, dialed=dialed, greeted_as=own.origin)
            events = self._replica.take_events()
        try:
            if reason is None:
                self._wires[wire.number] = wire
                self._doors.count(len(self._wires))
            self._act(events)
            self._retime()
            if reason is None:
                with wire.scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._write, wire)
                        nursery.start_soon(self._read, wire)
            else:
                _log.debug("link to %s not needed: %s", wire.name, reason)
        finally:
            await wire.link.close()
            self._parked.pop(wire.number, None)
            if self._wires.pop(wire.number, None) is not None:
                self._doors.count(len(self._wires))
                with self._lock:
                    self._replica.disconnected(wire.number, self._clock.reading(), wire.reason or "stopped")
                    events = self._replica.take_events()
                self._act(events)
                self._retime()
            if not self._wires:
                self._last_gone.set()

    @trio.lowlevel.enable_ki_protection
    async def _write(self, wire: _Wire) -> None:
        try:
            while True:
                frames = self._gather(wire)
                if frames:
                    await wire.link.send(frames)
                elif self._leaving:
                    await wire.link.finish()
                    return
                while wire.number in self._parked:  # unless rung while `_gather` handed events on
                    await wire.bell.park()
        except LinkLost as lost:
            wire.end(str(lost))

    def _gather(self, wire: _Wire) -> list[bytes]:
        """Frames for one send. With none, the writer is noted as asleep, under the lock that a `put` takes."""
        frames, wire.made = wire.made, []
        size = sum(map(len, frames))
        with self._lock:
            reading = self._clock.reading()
            while size < SEND_BYTES:
                frame = self._replica.poll(wire.number, reading)
                if frame is None:
                    break
                frames.append(frame)
                size += HEADER + len(frame)
            if not frames:
                self._parked[wire.number] = wire
                self.asleep = True
            events = self._replica.take_events()
        if events:
            self._act(events)
        return frames

    @trio.lowlevel.enable_ki_protection
    async def _read(self, wire: _Wire) -> None:
        try:
            while True:
                began = 0
                for frame in await wire.link.receive_some():
                    with self._lock:
                        reading = self._clock.reading()
                        self._replica.receive(wire.number, frame, reading)
                        events = self._replica.take_events()
                    if events:
                        self._act(events)
                    began = began or reading.mono_ns
                    if reading.mono_ns - began > _TURN_NS:
                        began = 0
                        self._rouse()
                        await trio.lowlevel.checkpoint()
                self._rouse()
                self._retime()
        except LinkLost as lost:
            wire.end(str(lost))

    def _rouse(self) -> None:
        """Wake the sleeping writers that have something to send, and only those.

        Most of what arrives is for this replica alone; waking every writer to find nothing would cost a turn
        of the scheduler per link and frame.
        """
        with self._lock:
            ready = self._replica.ready()
        for number in ready:
            wire = self._parked.get(number)
            if wire is None:
                continue  # its writer is awake, and sleeps only when nothing is left
            with self._lock:
                frame = self._replica.poll(wire.number, self._clock.reading())
                events = self._replica.take_events()
            if frame is not None:
                wire.made.append(frame)
                del self._parked[wire.number]
                wire.bell.unpark()
            if events:
                self._act(events)

    def _ring(self) -> None:
        """Wake all sleeping writers: something was written, so each has something to send."""
        self.asleep = False
        parked, self._parked = self._parked, {}
        for wire in parked.values():
            wire.bell.unpark()

    # ---- time and effects -----------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _keep_time(self) -> None:
        longest_ns = self._tuning.sweep_ms * 1_000_000
        while True:
            with self._lock:
                reading = self._clock.reading()
                due = self._replica.deadline()
                late = due is not None and due <= reading.mono_ns
                if late:
                    self._replica.advance(reading)
                events = self._replica.take_events()
            self._act(events)
            self._doors.note_clock(self._replica.correction)
            if late:
                self._rouse()
                await trio.lowlevel.checkpoint()
                continue
            # A write of another thread may move the deadline without a word, so no sleep is longer than this.
            sleep_ns = longest_ns if due is None else min(due - reading.mono_ns, longest_ns)
            self._alarm_ns = reading.mono_ns + sleep_ns
            with trio.move_on_after(sleep_ns / 1_000_000_000):
                await self._timer.park()
            self._alarm_ns = 0

    def _retime(self) -> None:
        """Wake the timer if the deadline has moved to before its alarm."""
        if self._alarm_ns:
            with self._lock:
                due = self._replica.deadline()
            if due is not None and due < self._alarm_ns:
                self._timer.unpark()

    def _act(self, events: list[Event]) -> None:
        """Do what the core wants done, log it, and hand everything on. Never called with the lock held."""
        for event in events:
            if event.__class__ is Change:
                continue
            if isinstance(event, LinkBroken):
                wire = self._wires.get(event.link)
                if wire is not None:
                    wire.end(event.reason)
            elif isinstance(event, Anew):
                _log.warning("the clock was set back by %d ms: %d writes moved", event.back_ms, len(event.moved))
            elif isinstance(event, Dial):
                self._doors.call(event.address)
            elif isinstance(event, PeerUp | PeerDown):
                self._doors.conditions.note_peer(event, self._replica.name)
            elif isinstance(event, PeerGone) and event.reason == "down":
                _log.info("%s (%s) is down: no member hears it", event.member.name, event.member.region)
        if events:
            self._deliver(events)


class _Wire:
    """A link that is up, and its writer's bell."""

    __slots__ = ("bell", "link", "made", "name", "number", "reason", "scope")

    def __init__(self, number: int, link: Link, name: str) -> None:
        self.number = number
        self.link = link
        self.name = name
        self.scope = trio.CancelScope()
        self.bell = trio.lowlevel.ParkingLot()
        self.made: list[bytes] = []  # frames that were made for the writer while it slept
        self.reason = ""

    def end(self, reason: str) -> None:
        """Close this link; the first reason counts."""
        self.reason = self.reason or reason
        self.scope.cancel()
