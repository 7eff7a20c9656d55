"""Links as the streams that TCP makes of a bad network: what was sent arrives whole and in order, or the link dies.

So a network that loses packets only delays (a lost frame holds up all behind it), a cut stalls both directions
until it heals, and bytes are lost only with their connection: by a reset (both ends learn of it) or by a black
hole (neither does, until silence tells them). Latency comes from a matrix of regions, plus keyed jitter.

Decision: streams, not datagrams. A model that drops single frames tests a protocol that nobody runs, and hides
what streams really do: stale bytes that arrive late, all at once, after the peer has changed.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from crdtcache.core.messages import Hello
from sim.engine import MS, SECOND, Code, Engine, Rank
from sim.rand import Luck

__all__ = ["BUFFER_BYTES", "Connection", "Endpoint", "Network", "Pipe", "read_matrix"]

BUFFER_BYTES = 131_072
"""How much a direction takes from its writer before the first of it has arrived."""

_RTO = 200 * MS
_GREETING_BYTES = 300


class Endpoint(Protocol):
    """What the network knows of a node."""

    index: int
    region: int
    process: int  # counts the processes of this machine; 0: none runs
    powered: bool

    def accept(self, connection: Connection) -> None:
        """A call has come in."""

    def established(self, connection: Connection) -> None:
        """The call stands."""

    def greeted(self, connection: Connection, hello: Hello) -> None:
        """The other end's greeting."""

    def arrived(self, connection: Connection, frame: bytes, sent: int) -> None:
        """A frame, and the instant at which it was sent."""

    def lost(self, connection: Connection, reason: str) -> None:
        """The connection is gone."""

    def writable(self, connection: Connection) -> None:
        """There is room again."""

    def unreachable(self, address: str, reason: str) -> None:
        """A call has failed."""

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Do this when the process gets to it."""


class Pipe:
    """One direction of a connection."""

    __slots__ = ("flying", "free_at", "full", "held", "last_at", "source", "target")

    def __init__(self, source: Endpoint, target: Endpoint) -> None:
        self.source = source
        self.target = target
        self.free_at = 0  # when the last byte taken has left
        self.last_at = 0  # when the last byte taken arrives
        self.flying = 0  # bytes that have not arrived
        self.full = False  # the writer waits for room
        self.held: deque[tuple[int, Any, int]] = deque()  # arrived during a cut


class Connection:
    """One TCP connection. `number` is the link number of both replicas; side 0 is the dialler."""

    __slots__ = ("address", "ends", "hole", "number", "open", "pipes", "processes", "up")

    def __init__(self, number: int, dialler: Endpoint, listener: Endpoint, address: str) -> None:
        self.number = number
        self.address = address
        self.ends = (dialler, listener)
        self.processes = [dialler.process, listener.process]
        self.pipes = (Pipe(dialler, listener), Pipe(listener, dialler))
        self.open = [True, True]  # each side has its socket
        self.up = [False, False]  # each side's replica knows the link
        self.hole = False  # everything vanishes

    def side(self, node: Endpoint) -> int:
        """0 where `node` is the dialler, else 1."""
        return 0 if node is self.ends[0] else 1


# What a pipe carries beside frames.
_GREETING, _FRAME, _END = 0, 1, 2


class Network:
    """All links of a world, and what is wrong with them just now."""

    def __init__(self, engine: Engine, luck: Luck, matrix_ms: Sequence[Sequence[float]], jitter_percent: int) -> None:
        self._engine = engine
        self._luck = luck
        self._oneway = [[max(1, round(rtt * MS / 2)) for rtt in row] for row in matrix_ms]
        self._jitter = jitter_percent
        self._numbers = 0
        self._by_address: dict[str, Endpoint] = {}
        self._pairs: dict[tuple[int, int], dict[int, Connection]] = {}
        self._cuts: dict[tuple[int, int], int] = {}
        self._delays: dict[tuple[int, int], int] = {}  # extra ns
        self._losses: dict[tuple[int, int], int] = {}  # per million
        self._rates: dict[tuple[int, int], int] = {}  # bytes per second
        self._refusing: dict[int, int] = {}
        self.rate = 125_000_000
        self.tap: Callable[[Connection, Endpoint, bytes], None] | None = None  # is handed each frame that is sent

    def place(self, address: str, node: Endpoint) -> None:
        """`node` listens at `address` whenever it runs."""
        self._by_address[address] = node

    # ---- what is wrong ----------------------------------------------------------------------------------------

    def cut(self, a: int, b: int) -> None:
        """Nothing passes between two nodes; cuts add up."""
        pair = _pair(a, b)
        self._cuts[pair] = self._cuts.get(pair, 0) + 1

    def heal(self, a: int, b: int) -> None:
        """Undo one `cut`: what was held up is sent again."""
        pair = _pair(a, b)
        left = self._cuts.get(pair, 0) - 1
        if left > 0:
            self._cuts[pair] = left
            return
        self._cuts.pop(pair, None)
        for connection in list(self._pairs.get(pair, {}).values()):
            for pipe in connection.pipes:
                self._resend(connection, pipe)

    def slow_down(self, a: int, b: int, *, delay_ms: int = 0, loss_ppm: int = 0, rate: int = 0) -> None:
        """Set extra delay, loss (each lost frame waits for its retransmission) and bandwidth of a pair; 0: none."""
        pair = _pair(a, b)
        for table, value in (
            (self._delays, delay_ms * MS),
            (self._losses, loss_ppm),
            (self._rates, rate),
        ):
            if value:
                table[pair] = value
            else:
                table.pop(pair, None)

    def reset(self, a: int, b: int) -> None:
        """Every connection of a pair dies, with all that is in flight; both ends learn of it."""
        for connection in list(self._pairs.get(_pair(a, b), {}).values()):
            connection.hole = True
            for side in (0, 1):
                self._engine.at(self._engine.now, Rank.DELIVER, self._tell_lost, connection, side, "reset")

    def swallow(self, a: int, b: int) -> None:
        """Every connection of a pair goes silent for good; neither end is told (a forgotten NAT entry)."""
        for connection in self._pairs.get(_pair(a, b), {}).values():
            connection.hole = True

    def refuse(self, node: int, *, on: bool) -> None:
        """Calls to `node` are refused (its backlog is full)."""
        self._refusing[node] = self._refusing.get(node, 0) + (1 if on else -1)

    def blocked(self, a: Endpoint, b: Endpoint) -> bool:
        """Whether nothing passes between two nodes."""
        return bool(self._cuts) and _pair(a.index, b.index) in self._cuts

    # ---- connections ------------------------------------------------------------------------------------------

    def dial(self, caller: Endpoint, address: str, timeout_ns: int) -> None:
        """Try to connect; ends in `established` and `greeted`, or in `unreachable`."""
        target = self._by_address.get(address)
        process = caller.process
        if target is None or target is caller:
            # A node that calls its own address gets itself; the greeting tells.
            self._fail(caller, process, address, self._engine.now + MS, "nobody there")
            return
        deadline = self._engine.now + timeout_ns
        there = self._engine.now + self.latency(caller, target)
        self._engine.at(there, Rank.DELIVER, self._knock, caller, process, target, address, deadline)

    def _knock(self, caller: Endpoint, process: int, target: Endpoint, address: str, deadline: int) -> None:
        now = self._engine.now
        if self.blocked(caller, target) or not target.powered:
            self._fail(caller, process, address, max(now, deadline), "timed out")
            return
        back = now + self.latency(target, caller)
        if not target.process or self._refusing.get(target.index, 0) > 0:
            self._fail(caller, process, address, back, "refused")
            return
        if caller.process != process:
            return
        self._numbers += 1
        connection = Connection(self._numbers, caller, target, address)
        self._pairs.setdefault(_pair(caller.index, target.index), {})[connection.number] = connection
        target.post(target.accept, connection)
        self._engine.at(back, Rank.DELIVER, self._answered, connection, deadline)

    def _answered(self, connection: Connection, deadline: int) -> None:
        caller = connection.ends[0]
        if connection.open[0] and caller.process == connection.processes[0]:
            caller.post(caller.established, connection)
        self._engine.at(max(deadline, self._engine.now), Rank.TIMER, self._give_up, connection)

    def _give_up(self, connection: Connection) -> None:
        """A greeting that did not come in time."""
        for side in (0, 1):
            if connection.open[side] and not connection.up[side]:
                self._tell_lost(connection, side, "no greeting in time")

    def _fail(self, caller: Endpoint, process: int, address: str, when: int, reason: str) -> None:
        self._engine.at(when, Rank.DELIVER, self._report, caller, process, address, reason)

    def _report(self, caller: Endpoint, process: int, address: str, reason: str) -> None:
        if caller.process == process:
            caller.post(caller.unreachable, address, reason)

    def close(self, connection: Connection, node: Endpoint, *, silent: bool = False) -> None:
        """`node` closes its end; what it has sent still arrives. `silent`: its machine has lost power."""
        side = connection.side(node)
        if not connection.open[side]:
            return
        connection.open[side] = connection.up[side] = False
        if not silent and connection.open[1 - side]:
            self._send(connection, side, _END, None, 40)
        if not any(connection.open):
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        pair = _pair(connection.ends[0].index, connection.ends[1].index)
        self._pairs.get(pair, {}).pop(connection.number, None)

    def power_up(self, node: Endpoint) -> None:
        """A machine is back: whoever still holds a connection to its old process is told so when it next speaks."""
        for pair, connections in list(self._pairs.items()):
            if node.index not in pair:
                continue
            for connection in list(connections.values()):
                side = connection.side(node)
                if not connection.open[side]:
                    when = self._engine.now + self.latency(node, connection.ends[1 - side])
                    self._engine.at(when, Rank.DELIVER, self._refused_later, connection, 1 - side)

    def _refused_later(self, connection: Connection, side: int) -> None:
        if not connection.hole and not self.blocked(*connection.ends):
            self._tell_lost(connection, side, "reset")

    # ---- bytes ------------------------------------------------------------------------------------------------

    def greet(self, connection: Connection, node: Endpoint, hello: Hello) -> None:
        """Send a greeting."""
        self._send(connection, connection.side(node), _GREETING, hello, _GREETING_BYTES)

    def has_room(self, connection: Connection, node: Endpoint) -> bool:
        """Whether the writer of `node` may make a frame; if not, it is told when it may (`writable`)."""
        pipe = connection.pipes[connection.side(node)]
        if pipe.flying >= BUFFER_BYTES:
            pipe.full = True
        return not pipe.full

    def send(self, connection: Connection, node: Endpoint, frame: bytes) -> None:
        """Send one frame."""
        if self.tap is not None:
            self.tap(connection, node, frame)
        self._send(connection, connection.side(node), _FRAME, (frame, self._engine.now), len(frame) + 4)

    def _send(self, connection: Connection, side: int, kind: int, content: Any, size: int) -> None:
        pipe = connection.pipes[side]
        start = max(self._engine.now, pipe.free_at)
        rate = self._rates.get(_pair(pipe.source.index, pipe.target.index), self.rate) if self._rates else self.rate
        pipe.free_at = start + size * SECOND // rate
        arrives = pipe.free_at + self.latency(pipe.source, pipe.target)
        if self._losses:
            loss = self._losses.get(_pair(pipe.source.index, pipe.target.index), 0)
            wait, luck = _RTO, self._luck.number(3, pipe.source.index, pipe.target.index, start)
            while luck % 1_000_000 < loss and wait < 16 * _RTO:
                arrives += wait
                wait, luck = 2 * wait, luck >> 7
        pipe.last_at = max(arrives, pipe.last_at + 1)
        pipe.flying += size
        self._engine.at(pipe.last_at, Rank.DELIVER, self._arrive, connection, side, kind, content, size)

    def latency(self, source: Endpoint, target: Endpoint) -> int:
        """One way, in ns, of something that is sent now."""
        base = self._oneway[source.region][target.region]
        luck = self._luck.number(2, source.index, target.index, self._engine.now)
        # Uniform within the jitter, and a tail that doubles each time a coin falls on one side.
        spread = base * self._jitter // 100
        extra = (luck & 0xFFF) * spread >> 12
        tail = (luck >> 12 | 1 << 7) & -(luck >> 12 | 1 << 7)
        delay = self._delays.get(_pair(source.index, target.index), 0) if self._delays else 0
        return base + extra + (spread * tail >> 4) + delay

    def _arrive(self, connection: Connection, side: int, kind: int, content: Any, size: int) -> None:
        pipe = connection.pipes[side]
        if connection.hole:
            return
        if pipe.held or self.blocked(pipe.source, pipe.target):
            pipe.held.append((kind, content, size))
            return
        self._hand_over(connection, side, kind, content, size)

    def _resend(self, connection: Connection, pipe: Pipe) -> None:
        if not pipe.held:
            return
        luck = self._luck.number(4, pipe.source.index, pipe.target.index, self._engine.now)
        when = self._engine.now + luck % (2 * _RTO)
        pipe.last_at = max(pipe.last_at, when)
        self._engine.at(when, Rank.DELIVER, self._release, connection, pipe)

    def _release(self, connection: Connection, pipe: Pipe) -> None:
        if self.blocked(pipe.source, pipe.target):
            return  # cut again meanwhile
        held, pipe.held = pipe.held, deque()
        side = connection.pipes.index(pipe)
        for kind, content, size in held:
            if not connection.hole:
                self._hand_over(connection, side, kind, content, size)

    def _hand_over(self, connection: Connection, side: int, kind: int, content: Any, size: int) -> None:
        pipe = connection.pipes[side]
        target, other = pipe.target, 1 - side
        if not target.powered:
            return
        if not connection.open[other] or target.process != connection.processes[other]:
            if kind != _END and connection.open[side]:
                when = self._engine.now + self.latency(target, pipe.source)
                self._engine.at(when, Rank.DELIVER, self._refused_later, connection, side)
            return
        pipe.flying -= size
        if kind == _FRAME:
            target.post(target.arrived, connection, *content)
        elif kind == _GREETING:
            target.post(target.greeted, connection, content)
        else:
            self._tell_lost(connection, other, "closed")
        if pipe.full and pipe.flying < BUFFER_BYTES // 2:
            pipe.full = False
            source = pipe.source
            if connection.open[side] and source.process == connection.processes[side]:
                source.post(source.writable, connection)

    def _tell_lost(self, connection: Connection, side: int, reason: str) -> None:
        if not connection.open[side]:
            return
        node = connection.ends[side]
        self._engine.note(Code.DISCONNECTED, node.index, connection.number)
        connection.open[side] = False
        if not any(connection.open):
            self._forget(connection)
        if node.process == connection.processes[side]:
            node.post(node.lost, connection, reason)


def _pair(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def read_matrix(path: Path) -> tuple[list[str], list[list[float]]]:
    """Region names and round trips in ms from a CSV: a header of names, then one row per region, in the same order.

    Raises ValueError, the caller's fault, naming the line and what is allowed there.
    """
    with path.open(newline="", encoding="utf-8") as text:
        rows = [(number, row) for number, row in enumerate(csv.reader(text), 1) if row]
    names = [name.strip() for name in rows[0][1][1:]] if rows else []
    if not names:
        raise ValueError(f"{path}, line 1: a word and then the name of each region are due")
    if len(rows) - 1 != len(names):
        raise ValueError(f"{path}: {len(rows) - 1} rows for {len(names)} regions")
    matrix: list[list[float]] = []
    for (number, row), name in zip(rows[1:], names, strict=True):
        where = f"{path}, line {number}"
        if row[0].strip() != name:
            raise ValueError(f"{where}: the row of {row[0].strip()!r}; that of {name!r} is due, as in the first line")
        if len(row) != len(names) + 1:
            raise ValueError(f"{where}: {len(row)} fields; {len(names) + 1} are due: a name, then ms")
        try:
            matrix.append([float(field) for field in row[1:]])
        except ValueError:
            raise ValueError(f"{where}: {row[1:]}: round trips are numbers of ms") from None
        if not all(0 <= trip < float("inf") for trip in matrix[-1]):
            raise ValueError(f"{where}: {row[1:]}: round trips are 0 ms or more, and finite")
    return names, matrix
