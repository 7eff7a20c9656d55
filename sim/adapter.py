"""A node in the simulated world: drives the real `Replica` with real bytes. The only file that knows both.

It is what `crdtcache.runtime.driver` is on trio: it hands in frames and readings, sends what `poll` makes while
the link has room, acts on `Dial` and `LinkBroken`, and calls `advance` at the deadline. A machine has a clock, an
address and power; processes come and go on it, each with an origin of its own.

Decision: writers look for frames a moment after something happened (`_TURN`), not in the middle of it, as tasks
of an event loop do; so what happens within that moment is batched, here as there.

Above 400 lines because a process's links, dials and timers are one state machine: parted, each half would reach
into the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from crdtcache.core import replica as core
from crdtcache.core.clock import Reading
from crdtcache.core.codec import decode
from crdtcache.core.correction import line_of
from crdtcache.core.entry import Entry, Key, Version
from crdtcache.core.messages import Hello
from crdtcache.core.outcome import Anew, Change, Dial, LinkBroken, PeerGone
from crdtcache.core.replica import Replica
from crdtcache.tuning import Tuning
from sim.clocks import EPOCH_MS, MachineClock
from sim.engine import MS, Code, Engine, Rank
from sim.machines import Machine, address_of, of_next_version, origin_of
from sim.network import Connection, Network
from sim.rand import CoreRandom, Luck

__all__ = ["Node", "Observer"]

# A write goes to all in the same bytes: they are read once, and what they say is handed to each.
vars(core)["decode"] = lru_cache(256)(decode)

_TURN = 50_000  # ns until the writers' turn
_RECEIVE, _ADVANCE, _POLL, _LOCAL, _LINK = range(5)


class Observer(Protocol):
    """Who watches the nodes: the checks."""

    def wrote(self, node: Node, kind: str, key: Key, version: Version, expires_at: int, seen: Entry | None) -> None:
        """A put, delete or clear; `seen` is what the writer held."""

    def touched(self, node: Node, key: Key, base: Entry, entry: Entry) -> None:
        """A lease was written: from `base` to `entry`."""

    def read(self, node: Node, key: Key, entry: Entry | None, reading: Reading) -> None:
        """A get, and what it found."""

    def changed(self, node: Node, change: Change) -> None:
        """An event of the replica."""

    def began_anew(self, node: Node, event: Anew) -> None:
        """Its clock was set back, and its future writes are stamped again."""

    def took(self, node: Node, age: int) -> None:
        """A frame was taken in, `age` ns older than the youngest that its link has brought."""

    def gave_up(self, node: Node, unread: int) -> None:
        """A link was given up as silent; for `unread` ns its oldest frame has waited for the process to read it."""

    def judged(self, node: Node, origin: int, reason: str, unread: int) -> None:
        """A member is held to be gone; by this process itself, while a frame has waited for `unread` ns to be read."""

    def ended(self, node: Node) -> None:
        """The process is about to end."""


class _Stubborn(Replica):
    """Of a version that knows of no correction: what others promise may not depend on it."""

    def now(self, reading: Reading) -> Reading:
        return reading

    def _compare_clocks(self, reading: Reading) -> Reading:
        return reading

    def _take_back(self, reading: Reading, back_ms: int) -> None:
        pass


class Node:
    """One machine and the process on it. `replica` is None while none runs."""

    def __init__(
        self, machine: Machine, engine: Engine, network: Network, luck: Luck, tuning: Tuning, observer: Observer
    ) -> None:
        self.machine = machine
        self.index = machine.index
        self.region = machine.region
        self.engine = engine
        self.network = network
        self.tuning = tuning
        self.clock = MachineClock(machine.index, machine.offset_ms, machine.drift_ppm)
        self.replica: Replica | None = None
        self.process = 0
        self.processes = 0
        self.powered = True
        self.started_at = 0
        self.paused = 0
        self.service_ns = 0
        self.limited_at = 0
        self.left = False
        # For the checks: the greatest corrected wall time that was read, and how far one was from true time at most.
        self.most_ms = 0
        self.wrong_ms = 0
        self._luck = luck
        self._observer = observer
        self._rng = CoreRandom(luck, self.index, 0)
        self._links: dict[int, Connection] = {}
        self._ready: dict[int, None] = {}  # links that may have something to send
        self._said: dict[int, int] = {}  # of each link that is being greeted on: as whom
        self._least: dict[int, int] = {}  # of each link: the least ns that a frame took
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...], int]] = deque()  # call, arguments, since when
        self._busy_until = 0
        self._alarm = 0
        self._pump_due = False
        network.place(address_of(self.index), self)

    # ---- the process ------------------------------------------------------------------------------------------

    def start(self, *, seeded: bool = True) -> None:
        """Start a process with nothing in memory and a new origin."""
        if self.replica is not None or self.left:
            return
        self.processes += 1
        self.process = self.processes
        self.powered = True
        self.started_at = self.engine.now
        machine, reading = self.machine, self.reading()
        self._rng = CoreRandom(self._luck, self.index, self.process)
        self.replica = replica = (_Stubborn if machine.stubborn else Replica)(
            origin=origin_of(self._luck, self.index, self.process),
            name=f"n{self.index}",
            cluster="sim",
            generation=reading.wall_ms,
            rng=self._rng,
            reading=reading,
            region=machine.region_name,
            advertise=address_of(self.index),
            seed=99,
            tuning=self.tuning,
            maxsize=machine.maxsize,
            max_bytes=machine.max_bytes,
            seeded=seeded and bool(machine.seeds),
        )
        replica.listening = machine.listening
        replica.learn_seeds([address_of(i) for i in machine.seeds], reading)
        self.engine.note(Code.STARTED, self.index, replica.origin >> 1)
        self._after(replica)

    def stop(self, *, power: bool = False, leave: bool = False) -> None:
        """End the process: its links close, or, with `power`, go silent; `leave`: it says so, and never comes back."""
        self.left = self.left or leave
        replica = self.replica
        if replica is None:
            return
        if leave and not self.paused:
            replica.leave()
            for connection in list(self._links.values()):
                self._write(replica, connection)
        self._observer.ended(self)
        self.engine.note(Code.STOPPED, self.index)
        self.replica, self.process = None, 0
        self.powered = not power
        self._inbox.clear()
        for connection in list(self._links.values()):
            self.network.close(connection, self, silent=power)
        self._links.clear()
        self._ready.clear()
        self._least.clear()
        self._said.clear()
        self._alarm, self._pump_due = 0, False

    def restart(self, *, power: bool = False) -> None:
        """Start again, empty, with a new origin."""
        if self.left or self.replica is not None:
            return
        self.start()
        if power:
            self.network.power_up(self)

    def limit(self, maxsize: int | None) -> None:
        """Memory runs short: fewer live values until further notice; None: as configured."""
        self.limited_at = self.engine.now
        if self.replica is not None:
            self.replica.store.maxsize = self.machine.maxsize if maxsize is None else maxsize

    def reading(self) -> Reading:
        """Both clocks now, as the process corrects them."""
        now = self.engine.now
        reading = self.clock.reading(now)
        if self.replica is not None:
            reading = self.replica.now(reading)
            wrong_ms = abs(reading.wall_ms - EPOCH_MS - now // MS)
            if wrong_ms > self.wrong_ms:
                self.wrong_ms = wrong_ms
            if reading.wall_ms > self.most_ms:
                self.most_ms = reading.wall_ms
        return reading

    def most(self) -> int:
        """The greatest corrected wall time so far, Unix ms; after a correction it need not have been read."""
        if self.replica is not None:
            plain, (line, ms) = self.clock.reading(self.engine.now), self.replica.correction.state
            if abs(line_of(*plain) - line) <= 1:  # no jump that the process has not seen yet
                self.most_ms = max(self.most_ms, plain.wall_ms + ms)
        return self.most_ms

    # ---- taking turns -----------------------------------------------------------------------------------------

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Something for the process to do: now, when it is no longer paused, or when it gets to it (slow)."""
        if self.replica is None:
            return
        if self.paused or self._inbox:
            self._inbox.append((call, args, self.engine.now))
        elif self.service_ns or self._busy_until > self.engine.now:
            self._inbox.append((call, args, self.engine.now))
            self.engine.at(max(self.engine.now, self._busy_until), Rank.DELIVER, self._serve, self.process)
        else:
            call(*args)

    def pause(self) -> None:
        """The process stands still; its machine goes on."""
        self.paused += 1

    def resume(self) -> None:
        """The process goes on with what has gathered."""
        self.paused -= 1
        if not self.paused and self.replica is not None:
            self.engine.at(self.engine.now, Rank.DELIVER, self._serve, self.process)
            self._set_alarm(self.replica)

    def _serve(self, process: int) -> None:
        while self._inbox and process == self.process and not self.paused:
            if self.service_ns:
                if self._busy_until > self.engine.now:
                    self.engine.at(self._busy_until, Rank.DELIVER, self._serve, process)
                    return
                self._busy_until = self.engine.now + self.service_ns
            call, args, _ = self._inbox.popleft()
            call(*args)

    # ---- links ------------------------------------------------------------------------------------------------

    def accept(self, connection: Connection) -> None:
        """Somebody called."""
        self.established(connection)

    def established(self, connection: Connection) -> None:
        """A connection stands: say who we are."""
        replica = self.replica
        if replica is not None and connection.open[connection.side(self)]:
            self._said[connection.number] = replica.origin
            self.network.greet(connection, self, replica.hello(self.reading()))

    def greeted(self, connection: Connection, hello: Hello) -> None:
        """The other end has said who it is."""
        replica, side = self.replica, connection.side(self)
        if replica is None or not connection.open[side]:
            return
        connection.up[side] = True
        self._key(_LINK)
        self._links[connection.number] = connection
        dialed = connection.address if side == 0 else None
        said = self._said.pop(connection.number, None)
        refused = replica.connected(connection.number, hello, self.reading(), dialed=dialed, greeted_as=said)
        self.engine.note(Code.CONNECTED if refused is None else Code.REFUSED, self.index, connection.number)
        if refused is not None:
            del self._links[connection.number]
            self.network.close(connection, self)
        self._after(replica)

    def lost(self, connection: Connection, reason: str) -> None:
        """A connection is gone, or never came to a greeting."""
        replica = self.replica
        if replica is None:
            return
        self._key(_LINK)
        if self._links.pop(connection.number, None) is not None:
            replica.disconnected(connection.number, self.reading(), reason)
        elif connection.side(self) == 0 and not connection.up[0]:
            replica.dial_failed(connection.address, self.reading())
        self._after(replica)

    def unreachable(self, address: str, reason: str) -> None:
        """A call has failed."""
        replica = self.replica
        if replica is not None:
            self._key(_LINK)
            self.engine.note(Code.DIAL, self.index, len(reason))
            replica.dial_failed(address, self.reading())
            self._after(replica)

    def arrived(self, connection: Connection, frame: bytes, sent: int) -> None:
        """A frame, and the instant at which it was sent."""
        replica, number = self.replica, connection.number
        if replica is None or number not in self._links:
            return
        self._key(_RECEIVE)
        self.engine.events += 1
        self.engine.note(Code.RECEIVE, self.index, number, frame)
        replica.receive(number, frame, self.reading())
        self._after(replica)
        took = self.engine.now - sent
        least = self._least[number] = min(took, self._least.get(number, took))
        if number in self._links:
            self._observer.took(self, took - least)

    def writable(self, connection: Connection) -> None:
        """A link has room again."""
        if self.replica is not None and connection.number in self._links:
            self._write(self.replica, connection)
            self._after(self.replica, rouse=False)

    def _unread(self, connection: Connection) -> int:
        waiting = (since for call, args, since in self._inbox if call == self.arrived and args[0] is connection)
        return self.engine.now - next(waiting, self.engine.now)

    def _write(self, replica: Replica, connection: Connection) -> None:
        network, number = self.network, connection.number
        reading = self.reading()
        while number in self._links and network.has_room(connection, self):
            self._key(_POLL)
            frame = replica.poll(number, reading)
            if frame is None:
                return
            network.send(connection, self, of_next_version(frame) if self.machine.wire_next else frame)

    def _pump(self, process: int) -> None:
        self._pump_due = False
        replica = self.replica
        if replica is None or process != self.process:
            return
        ready, self._ready = self._ready, {}
        for number in ready:
            connection = self._links.get(number)
            if connection is not None:
                self._write(replica, connection)
        self._after(replica, rouse=False)

    # ---- time and effects -------------------------------------------------------------------------------------

    def _key(self, what: int) -> None:
        self._rng.rekey(what, self.engine.now)

    def _after(self, replica: Replica, *, rouse: bool = True, judging: bool = False) -> None:
        """What follows every call: effects, the writers' turn, the alarm."""
        for event in replica.take_events():
            if isinstance(event, Change):
                self._observer.changed(self, event)
            elif isinstance(event, Anew):
                self.processes += 1  # to the others it is another one
                self._observer.began_anew(self, event)
            elif isinstance(event, Dial):
                self.engine.note(Code.DIAL, self.index)
                self.network.dial(self, event.address, self.tuning.dial_timeout_ms * MS)
            elif isinstance(event, PeerGone):
                waits = min([since for _, _, since in self._inbox], default=self.engine.now)
                unread = self.engine.now - waits if judging else 0
                self._observer.judged(self, event.member.origin, event.reason, unread)
            elif isinstance(event, LinkBroken):
                connection = self._links.pop(event.link, None)
                if connection is not None:
                    if event.reason.startswith("silent"):
                        self._observer.gave_up(self, self._unread(connection))
                    self.network.close(connection, self)
                    replica.disconnected(event.link, self.reading(), event.reason)
                    rouse = True
        if replica is not self.replica:
            return
        if rouse:
            for number in replica.ready():
                self._ready[number] = None
            if self._ready and not self._pump_due:
                self._pump_due = True
                self.engine.at(self.engine.now + _TURN, Rank.TIMER, self._post_pump, self.process)
        self._set_alarm(replica)

    def _post_pump(self, process: int) -> None:
        if self.replica is None or process != self.process:
            self._pump_due = False
            return
        self.post(self._pump, process)

    def _set_alarm(self, replica: Replica) -> None:
        due = replica.deadline()
        if due is None:
            return
        when = max(self.clock.true_ns(due), self.engine.now + 1_000)
        if not self._alarm or when < self._alarm:
            self._alarm = when
            self.engine.at(when, Rank.TIMER, self._ring, self.process, when)

    def _ring(self, process: int, when: int) -> None:
        if process == self.process and when == self._alarm:
            self.post(self._advance, when)

    def _advance(self, when: int) -> None:
        replica = self.replica
        if replica is None or when != self._alarm:
            return
        self._alarm = 0
        reading = self.reading()
        due = replica.deadline()
        if due is not None and due <= reading.mono_ns:
            self._key(_ADVANCE)
            self.engine.events += 1
            self.engine.note(Code.ADVANCE, self.index)
            replica.advance(reading)
            self._after(replica, judging=True)
        else:
            self._set_alarm(replica)

    # ---- local operations -------------------------------------------------------------------------------------

    def operate(self, kind: str, key: Key, value: str, ttl_ms: int) -> None:
        """One operation of the application, with its effects reported to the observer."""
        replica = self.replica
        if replica is None:
            return
        self._key(_LOCAL)
        self.engine.events += 1
        wall_ms = self.clock.reading(self.engine.now).wall_ms + replica.correction.ms  # all that a plain write looks at
        reading = self.reading()
        self.engine.note(Code.OPERATION, self.index, reading.wall_ms, f"{kind} {key!r} {value} {ttl_ms}".encode())
        expires = reading.wall_ms + ttl_ms if ttl_ms else 0
        if kind == "put" and not ttl_ms and not replica.listening:
            waiting = replica.map.fresh.get(key)
            seen = (waiting, replica.origin, waiting, replica.origin, 0, 0, None) if waiting else _held(replica, key)
            stamp = replica.write(key, value, wall_ms)
            version = Version(stamp, replica.origin) if stamp else replica.put(key, value, 0, reading)
            self._observer.wrote(self, kind, key, version, 0, seen)
        elif kind == "put":
            replica.settle()
            seen = _held(replica, key)
            self._observer.wrote(self, kind, key, replica.put(key, value, expires, reading), expires, seen)
        elif kind == "delete":
            replica.settle()
            seen = _held(replica, key)
            self._observer.wrote(self, kind, key, replica.delete(key, reading)[0], 0, seen)
        elif kind == "touch":
            self._touch(replica, key, expires, reading)
        elif kind == "clear":
            self._observer.wrote(self, kind, "", replica.clear(reading), 0, None)
        elif kind == "clear_local":
            replica.clear_local(reading)
        elif kind == "evict":
            replica.evict(key, reading)
        else:
            self._observer.read(self, key, replica.entry(key, reading), reading)
        self._after(replica)

    def _touch(self, replica: Replica, key: Key, expires: int, reading: Reading) -> None:
        base = replica.entry(key, reading)
        if replica.touch(key, expires, reading):
            entry = replica.entry(key, reading)
            if base is not None and entry is not None:
                self._observer.touched(self, key, base, entry)


def _held(replica: Replica, key: Key) -> Entry | None:
    return replica.store.entries.get(key)
