"""A plan on the real runtime: the simulator's nodes, links and clock are taken out, and the package's put in.

      simulator                     here
      Node (sim/adapter.py)         Driver, Doors, greeting, Link: the package's own, over streams in memory
      Engine's own time             trio's mock clock, which jumps to whatever is due next
      Network: cuts, latency ...    the same one; it carries the streams' bytes instead of frames

Plan, operations, faults, oracle and checks are the simulator's own, so that both worlds are judged by one court.
What of a machine only a simulator can do (a process that stands still, that is slow, that speaks another version) has
no counterpart here, and plans that ask for it are refused.

Decision: streams over the simulator's network, not a second model of one: two models would have to be compared too.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock

from crdtcache.core.outcome import Anew, Change
from crdtcache.runtime.discovery import Listening, parse
from crdtcache.runtime.driver import Driver
from sim.adapter import Node
from sim.checks.base import Check, Violation
from sim.checks.ending import ENDING
from sim.checks.safety import SAFETY
from sim.engine import SECOND, Engine
from sim.machines import address_of
from sim.network import Connection
from sim.plan import Plan
from sim.world import World

__all__ = ["UNREAL", "play"]

UNREAL = frozenset({"pause", "slow"})
"""The faults that only a simulated process can have."""


def play(plan: Plan, checks: Sequence[type[Check]] = (*SAFETY, *ENDING)) -> tuple[World, str]:
    """Run `plan` on the real runtime, in virtual time: the world at its end, and the violated invariant or ""."""
    asked = {fault.kind for fault in plan.faults} & UNREAL
    assert not asked, f"the real runtime has no {asked}"
    assert not any(machine.wire_next for machine in plan.machines), "the real runtime speaks one version"
    trio._core._run._r.seed(plan.seed)  # in which order trio runs tasks that are ready together
    return trio.run(_play, plan, checks, clock=MockClock(autojump_threshold=0))


async def _play(plan: Plan, checks: Sequence[type[Check]]) -> tuple[World, str]:
    engine, verdict = TrioEngine(), ""
    try:
        async with trio.open_nursery() as nursery:
            world = World(plan, checks, engine=engine, node=partial(RealNode, nursery))
            for until in world.phases():
                await engine.go_on(until)
            nursery.cancel_scope.cancel()
    except* Violation as found:
        first: BaseException = found
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        verdict = first.invariant
    return world, verdict


class TrioEngine(Engine):
    """The simulator's calendar, with trio's clock in place of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0
        self._sooner = trio.Event()

    @property
    def now(self) -> int:
        return round(trio.current_time() * SECOND)

    @now.setter
    def now(self, value: int) -> None:
        """Trio's clock says what time it is."""

    def at(self, when, rank, call, *args):
        super().at(when, rank, call, *args)
        if when < self._next:
            self._next = when
            self._sooner.set()

    async def go_on(self, until: int) -> None:
        """Make every call when it is due, up to `until`, while other tasks live their lives."""
        while True:
            self._next = min(self._heap[0][0], until) if self._heap else until
            self._sooner = trio.Event()
            with trio.move_on_at(self._next / SECOND):
                await self._sooner.wait()
            self.run(self.now)
            if self.now >= until:
                return


class RealNode(Node):
    """A machine on which the package's own driver runs."""

    def __init__(self, nursery: trio.Nursery, *given) -> None:
        super().__init__(*given)
        self._nursery = nursery
        self._driver: Driver | None = None
        self._life = trio.CancelScope()
        self._lines: dict[int, Line] = {}

    def start(self, *, seeded: bool = True) -> None:
        before = self.replica
        super().start(seeded=seeded)
        if self.replica is before:
            return
        self._door = Door(self)
        self._life = trio.CancelScope()
        self._driver = Driver(
            self.replica,
            threading.Lock(),
            self,
            partial(self._deliver, self.process),
            listen=address_of(self.index),
            peers=[address_of(i) for i in self.machine.seeds] or None,
            insecure=True,
            transport=self._door,
        )
        self._nursery.start_soon(self._live, self._driver, self._life)

    async def _live(self, driver: Driver, life: trio.CancelScope) -> None:
        with life:
            await driver.run()

    def stop(self, *, power: bool = False, leave: bool = False) -> None:
        super().stop(power=power, leave=leave)
        self._life.cancel()
        self._driver = None
        self._lines.clear()

    def _after(self, replica, *, rouse: bool = True) -> None:
        """A local operation was done: what `crdtcache.lookup` does after one."""
        self._deliver(self.process, replica.take_events())
        if self._driver is not None and self._driver.asleep:
            self._driver.wake()

    def _deliver(self, process: int, events) -> None:
        for event in events if process == self.process else ():
            if isinstance(event, Change):
                self._observer.changed(self, event)
            elif isinstance(event, Anew):
                self.processes += 1  # to the others it is another one
                self._observer.began_anew(self, event)

    # ---- what the network tells a node ------------------------------------------------------------------------

    def accept(self, connection: Connection) -> None:
        self._door.knocks.send_nowait(self._line(connection))

    def established(self, connection: Connection) -> None:
        self._door.answer(connection.address, self._line(connection))

    def unreachable(self, address: str, reason: str) -> None:
        self._door.answer(address, reason)

    def arrived(self, connection: Connection, frame: bytes, sent: int) -> None:
        self._lines[connection.number].coming.put_data(frame)  # some bytes; how old a frame is the package finds out

    def writable(self, connection: Connection) -> None:
        self._lines[connection.number].room.set()

    def lost(self, connection: Connection, reason: str) -> None:
        self._links.pop(connection.number, None)
        line = self._lines.pop(connection.number, None)
        if line is not None:
            line.coming.put_eof()
            line.room.set()

    def _line(self, connection: Connection) -> trio.abc.Stream:
        # From here on the package's own time-out limits the greeting, not the network's.
        connection.up[connection.side(self)] = True
        self._links[connection.number] = connection
        line = self._lines[connection.number] = Line(self, connection)
        return trio.StapledStream(line.going, line.coming)


class Line:
    """One end of a connection, as two streams: `going` into the network, `coming` out of it."""

    def __init__(self, node: RealNode, connection: Connection) -> None:
        self.room = trio.Event()
        self.going = MemorySendStream(send_all_hook=self._send)
        self.coming = MemoryReceiveStream(close_hook=self._close)
        self._node, self._connection = node, connection

    async def _send(self) -> None:
        node, connection = self._node, self._connection
        while connection.open[connection.side(node)] and not node.network.has_room(connection, node):
            self.room = trio.Event()
            await self.room.wait()
        if not connection.open[connection.side(node)]:
            raise trio.BrokenResourceError("the line is dead")
        node.network.send(connection, node, bytes(self.going.get_data_nowait()))

    def _close(self) -> None:
        self._node.network.close(self._connection, self._node)


class Door(trio.abc.Listener):
    """The transport of one process: who calls it, and whom it calls."""

    def __init__(self, node: RealNode) -> None:
        self._node = node
        self._calls: dict[str, list[trio.MemorySendChannel]] = {}
        self.knocks, self._heard = trio.open_memory_channel(1_000)

    async def bind(self, listen: str, *, local: bool, guarded: bool, share: bool = False) -> Listening:
        return Listening([self], parse(listen, "listen"), None)

    async def accept(self) -> trio.abc.Stream:
        return await self._heard.receive()

    async def aclose(self) -> None:
        self._heard.close()
        await trio.lowlevel.checkpoint()

    async def call(self, address: str, timeout_s: float, limiter: trio.CapacityLimiter) -> trio.abc.Stream | str:
        answer, answered = trio.open_memory_channel(1)
        self._calls.setdefault(address, []).append(answer)
        self._node.network.dial(self._node, address, round(timeout_s * SECOND))
        return await answered.receive()

    def answer(self, address: str, what: trio.abc.Stream | str) -> None:
        self._calls[address].pop(0).send_nowait(what)
