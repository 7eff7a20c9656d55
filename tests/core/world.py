"""Several real replicas, joined by links in memory, driven by hand: no sockets, no sleeping, no mocks.

True time is one number; every node reads it through a wall clock with an offset of its own and a monotonic
clock with an origin of its own. A link is a first-in first-out queue in each direction. It can be left alone
(a stall), cut with what is in flight, and what it carried can be delivered again.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from itertools import combinations

from crdtcache.core.clock import Reading
from crdtcache.core.codec import Limits, decode, encode, frame
from crdtcache.core.entry import DEAD, STATE, Entry, Key
from crdtcache.core.messages import Context, Message
from crdtcache.core.outcome import Change, Event, LinkBroken
from crdtcache.core.replica import Replica
from crdtcache.tuning import Tuning

MS = 1_000_000
WALL_MS = 1_700_000_000_000
HOUR_MS = 3_600_000

#: Everything happens within a second or two of virtual time, so that logs overflow, dots run out and the dead
#: are collected in a run of a few dozen steps.
FAST = Tuning(
    frame_bytes=4_096,
    max_frame_bytes=16_384,
    graft_delay_ms=20,
    context_ms=50,
    keepalive_ms=100,
    silent_ms=400,
    log_records=16,
    dots_per_origin=4,
    window_entries=4,
    windows_in_flight=2,
    compare_ms=300,
    compare_remote_ms=900,
    list_entries=4,
    session_leaves=16,
    session_bytes=16_384,
    session_idle_ms=500,
    busy_ms=20,
    max_drift_ms=200,
    reject_ms=5_000,
    max_frame_age_ms=300,
    min_dead_age_ms=700,
    inline_bytes=1_024,
    key_bytes=64,
    sweep_ms=20,
    step_entries=8,
)


class Stubborn(Replica):
    """A process that believes its own clock, whatever its peers say: all other rules must hold without correction."""

    def now(self, reading: Reading) -> Reading:
        return reading

    def _take_back(self, reading: Reading, back_ms: int) -> None:
        pass

    def _compare_clocks(self, reading: Reading) -> Reading:
        return reading


class Pipe:
    """One direction of a link: the numbers both ends know it by, and what is in flight."""

    def __init__(self, sender_link: int, receiver_link: int) -> None:
        self.sender_link = sender_link
        self.receiver_link = receiver_link
        self.frames: deque[bytes] = deque()


def is_sign_of_life(data: bytes) -> bool:
    """Whether a frame says nothing but that its sender is there: due by time, so `advance` makes its link ready."""
    messages = decode(data, Limits(1_024, 32_768))[1]
    return not messages or ([type(message) for message in messages] == [Context] and len(messages[0].rows) == 1)  # type: ignore[union-attr]


class World:
    """The replicas by name, the links between them, and the time."""

    def __init__(
        self,
        names: Iterable[str] = "abc",
        *,
        seed: int = 1,
        tuning: Tuning = FAST,
        offsets: dict[str, int] | None = None,
        tunings: dict[str, Tuning] | None = None,
        origins: dict[str, int] | None = None,
        corrected: bool = False,
        **arguments: object,
    ) -> None:
        self.rng = random.Random(seed)
        self.tuning = tuning
        self.tunings = tunings or {}
        self.origins = origins or {}
        self.kind = Replica if corrected else Stubborn
        self.arguments = arguments
        self.now_ms = 0
        self.nodes: dict[str, Replica] = {}
        self.offset_ms: dict[str, int] = {}
        self.events: dict[str, list[Event]] = {}
        self.pipes: dict[tuple[str, str], Pipe] = {}
        self.lost: list[tuple[str, str, Pipe, bytes]] = []
        self.watch: Callable[[str, str, bytes], None] | None = None
        self.watch_events: Callable[[str, Event], None] | None = None
        self._mono_ms: dict[str, int] = {}
        self._links = 0
        self._ready: dict[str, set[int]] = {}  # links whose replica has said that they may have something to send
        for name in names:
            self.add(name, offset_ms=(offsets or {}).get(name, 0))

    def add(self, name: str, *, offset_ms: int = 0, **arguments: object) -> Replica:
        """A new process; one of the same name is forgotten with its links."""
        for other in list(self.nodes):
            self.cut(name, other)
        self.offset_ms[name] = offset_ms
        self._mono_ms[name] = self.rng.randrange(1 << 40)
        self.events[name] = []
        self.nodes.pop(name, None)
        reading = self.reading(name)
        settings: dict[str, object] = {"maxsize": None, "max_bytes": None, "advertise": f"{name}:2738", "seed": 7}
        settings |= self.arguments | arguments
        replica = self.kind(
            origin=self.origins.get(name) or self.rng.randrange(1, 1 << 64),
            name=name,
            cluster="test",
            generation=self.wall_ms(name),
            rng=random.Random(self.rng.random()),
            reading=reading,
            tuning=self.tunings.get(name, self.tuning),
            **settings,  # type: ignore[arg-type]
        )
        replica.listening = True
        self.nodes[name] = replica
        self._ready[name] = set()
        return replica

    def __getitem__(self, name: str) -> Replica:
        return self.nodes[name]

    # ---- time -----------------------------------------------------------------------------------------------------

    def wall_ms(self, name: str) -> int:
        return self.reading(name).wall_ms

    def reading(self, name: str) -> Reading:
        plain = Reading(WALL_MS + self.now_ms + self.offset_ms[name], (self.now_ms + self._mono_ms[name]) * MS)
        return self.nodes[name].now(plain) if name in self.nodes else plain

    def step(self, ms: int = 10) -> None:
        """Time moves on, and everybody does what is due; nothing is carried."""
        self.now_ms += ms
        for name in list(self.nodes):
            reading = self.reading(name)
            due = self.nodes[name].deadline()
            if due is not None and due <= reading.mono_ns:
                self.nodes[name].advance(reading)
            self._react(name)

    def run(self, ms: int, quantum_ms: int = 10) -> None:
        """Time moves on and every link carries whatever it is given."""
        until = self.now_ms + ms
        while self.now_ms < until:
            self.step(min(quantum_ms, until - self.now_ms))
            self.carry()

    # ---- links ----------------------------------------------------------------------------------------------------

    def link(self, a: str, b: str) -> bool:
        """Connect two nodes; `a` dials."""
        if a == b or (a, b) in self.pipes:
            return False
        self._links += 2
        there, back = self._links, self._links + 1
        hello_a, hello_b = self[a].hello(self.reading(a)), self[b].hello(self.reading(b))
        self.pipes[a, b] = Pipe(there, back)
        self.pipes[b, a] = Pipe(back, there)
        origins = self[a].origin, self[b].origin
        refused = self[b].connected(back, hello_a, self.reading(b), greeted_as=origins[1])
        address = f"{b}:2738"
        refused = self[a].connected(there, hello_b, self.reading(a), dialed=address, greeted_as=origins[0]) or refused
        self._react(a)
        self._react(b)
        if refused is not None:
            assert origins != (self[a].origin, self[b].origin), refused
            self.cut(a, b)
            return False
        return True

    def link_all(self) -> None:
        for a, b in combinations(self.nodes, 2):
            self.link(a, b)

    def cut(self, a: str, b: str) -> bool:
        """The link is reset: what is in flight is lost, and both sides know."""
        pipes = [(x, y, self.pipes.pop((x, y), None)) for x, y in ((a, b), (b, a))]
        for source, target, pipe in pipes:
            if pipe is None:
                return False
            self.lost += [(source, target, pipe, data) for data in pipe.frames]
            self[source].disconnected(pipe.sender_link, self.reading(source))
            self._react(source)
        return True

    def cut_off(self, name: str) -> None:
        for other in self.nodes:
            self.cut(name, other)

    def pump(self, source: str, target: str) -> bool:
        """Take one frame from `source` for `target` onto the link."""
        pipe = self.pipes.get((source, target))
        if pipe is None:
            return False
        ready, number = self._ready[source], pipe.sender_link
        ready.update(self[source].ready())
        data = self[source].poll(number, self.reading(source))
        self._react(source)
        if data is None:
            ready.discard(number)
            return False
        assert number in ready or is_sign_of_life(data), "a driver that asks `ready` would not have sent this"
        assert len(data) <= self[source].tuning.max_frame_bytes, "a frame that every peer would refuse"
        pipe.frames.append(data)
        return True

    def deliver(self, source: str, target: str, *, times: int = 1) -> bool:
        """Hand over the frame that is due on the link, `times` times."""
        pipe = self.pipes.get((source, target))
        if pipe is None or not pipe.frames:
            return False
        data = pipe.frames.popleft()
        for _ in range(times):
            if self.watch is not None:
                self.watch(source, target, data)
            self[target].receive(pipe.receiver_link, data, self.reading(target))
            self._react(target)
        return True

    def inject(self, source: str, target: str, *messages: Message) -> None:
        """Hand over a frame of these messages, as if `source` had sent it now."""
        data = frame(self.reading(source).mono_ns // MS, [encode(message) for message in messages])
        self.pipes[source, target].frames.appendleft(data)
        self.deliver(source, target)

    def deliver_lost(self) -> None:
        """What was in flight on links that are gone comes in after all, under their old numbers."""
        for _, target, pipe, data in self.lost:
            self[target].receive(pipe.receiver_link, data, self.reading(target))
            self._react(target)
        self.lost.clear()

    def carry(self, *directions: tuple[str, str]) -> None:
        """Carry everything that is there, until nobody has anything to send now."""
        busy = True
        while busy:
            busy = False
            for source, target in directions or list(self.pipes):
                while self.pump(source, target):
                    pass
                while self.deliver(source, target):
                    busy = True

    def _react(self, name: str) -> None:
        for event in self[name].take_events():
            self.events[name].append(event)
            if self.watch_events is not None:
                self.watch_events(name, event)
            if isinstance(event, LinkBroken):
                for (source, target), pipe in list(self.pipes.items()):
                    if source == name and pipe.sender_link == event.link:
                        self.cut(source, target)

    # ---- what is there --------------------------------------------------------------------------------------------

    def put(self, name: str, key: Key, value: object, ttl_ms: int = 0) -> tuple[int, int]:
        expires = self.wall_ms(name) + ttl_ms if ttl_ms else 0
        return self[name].put(key, value, expires, self.reading(name))  # type: ignore[arg-type]

    def write(self, name: str, key: Key, value: object) -> tuple[int, int]:
        """A plain write the fast way, which `Node` takes while nobody listens."""
        replica = self[name]
        replica.listening = False
        wall_ms = WALL_MS + self.now_ms + self.offset_ms[name] + replica.correction.ms  # nothing else is looked at
        stamp = replica.write(key, value, wall_ms)  # type: ignore[arg-type]
        return (stamp, replica.origin) if stamp else self.put(name, key, value)

    def delete(self, name: str, key: Key) -> tuple[int, int]:
        return self[name].delete(key, self.reading(name))[0]

    def touch(self, name: str, key: Key, ttl_ms: int) -> bool:
        return self[name].touch(key, self.wall_ms(name) + ttl_ms if ttl_ms else 0, self.reading(name))

    def get(self, name: str, key: Key) -> object:
        """The visible value of `key` at `name`, or None."""
        entry = self[name].entry(key, self.reading(name))
        return entry[6] if entry is not None else None

    def held(self, name: str, key: Key) -> Entry | None:
        self[name].settle()
        return self[name].store.entries.get(key)

    def visible(self, name: str) -> dict[Key, tuple[int, ...]]:
        """What the digest is about: versions and leases of all entries that are not dead."""
        self[name].settle()
        return {k: e[:5] for k, e in self[name].store.entries.items() if e[STATE] != DEAD}

    def changes(self, name: str) -> list[Change]:
        return [event for event in self.events[name] if isinstance(event, Change)]

    def covers(self, name: str, version: tuple[int, int], key: Key) -> bool:
        """Held or in the context."""
        held = self.held(name, key)
        return (held is not None and held[:2] == version) or self[name].map.context.covers(*version)

    def agree(self) -> bool:
        """Whether all hold the same, know it, and miss nothing."""
        first, *rest = self.nodes
        return (
            len({self[name].digest() for name in self.nodes}) == 1
            and all(self.visible(name) == self.visible(first) for name in rest)
            and all(self[name].caught_up() and not self[name].map.clearing for name in self.nodes)
        )

    def calm(self, limit_ms: int = 30_000) -> int:
        """No more faults: everybody is connected until all agree. Returns the ms it took."""
        start = self.now_ms
        while self.now_ms - start < limit_ms:
            self.link_all()
            self.run(50)
            if self.agree():
                return self.now_ms - start
        state = {name: (self.visible(name), self[name].map.context.rows()) for name in self.nodes}
        raise AssertionError(f"no agreement within {limit_ms} ms of calm: {state}")

    def check(self) -> None:
        for replica in self.nodes.values():
            replica.check()
