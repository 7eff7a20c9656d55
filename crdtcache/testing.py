"""For tests of services: a cluster of real nodes in one process that can be cut apart, and a clock that can be moved.

    with LocalCluster(2, regions=["eu", "us"]) as cluster:
        eu, us = cluster
        cluster.cut("eu", "us")
        eu["a"] = 1
        assert not cluster.converged(0.2) and "a" not in us
        cluster.heal()
        assert cluster.converged() and us["a"] == 1

Each node is a `Node` as in production, in a thread of its own, with sockets on loopback; the bytes between any two of
them go through one relay (`relay`), which holds them up for as long as `latency` says, and cuts.

Decision: nothing of a node is replaced but its clock, which all share. The refused alternative, nodes that call each
other's methods, is quicker, and shows a world in which no message is ever late and no link breaks half way.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeAlias, overload

import trio

from crdtcache import Node, Tuning
from crdtcache.arguments import Seconds, moment_ms, span_ms
from crdtcache.core.clock import Reading
from crdtcache.loops import asleep, refuse_loop
from crdtcache.relay import Relay

__all__ = ["FakeClock", "LocalCluster", "Place"]

Place: TypeAlias = "Node[Any, Any] | int | str"
"""A node of a cluster, its number, its name, or a region: then all nodes there."""

_POLL_S = 0.005
_MEET_S = 10.0
_OWN = {"peers", "name", "region", "listen", "advertise", "clock"}  # what it gives each node
# A test should wait for a node's patience no longer than it must.
_QUICK = Tuning(context_ms=100, redial_ms=100, redial_slow_ms=100, compare_ms=1_000, compare_remote_ms=1_000)


class FakeClock:
    """A clock for `Node(clock=...)` that a test moves by `tick`.

    `start`: an aware `datetime` or Unix seconds, left out: now. It stands still between two ticks, so that a test knows
    each `ttl` to the millisecond; `running`: it goes on as time does, which a node that shall keep its links needs.
    """

    def __init__(self, start: datetime | float | None = None, *, running: bool = False) -> None:
        self._start_ms = time.time_ns() // 1_000_000 if start is None else moment_ms(start, "start")
        self._began_ns = time.monotonic_ns()
        self._running = running
        self._ticked_ms = 0

    def reading(self) -> Reading:
        """The time as the test wants it: Unix ms, monotonic ns."""
        gone_ns = self._ticked_ms * 1_000_000 + (time.monotonic_ns() - self._began_ns if self._running else 0)
        return Reading(self._start_ms + gone_ns // 1_000_000, self._began_ns + gone_ns)

    def tick(self, seconds: Seconds) -> None:
        """Let so much time pass."""
        self._ticked_ms += span_ms(seconds, "tick")


class LocalCluster(Sequence[Node[Any, Any]]):
    """`n` nodes that know each other, dealt out to `regions` in turn; started and closed by `with`.

    It is the sequence of its nodes, called "eu-1", "us-1", "eu-2" and so on. `clock`: theirs, which runs, and which a
    test can `tick`. `settings`: further arguments of each `Node`, such as `ttl` and `loader`. A node that was closed
    can be started again. All may be used inside an event loop, but `converged`, whose twin is `aconverged`.
    """

    def __init__(self, n: int = 3, *, regions: Sequence[str] = ("node",), **settings: Any) -> None:
        if n < 1 or not regions or isinstance(regions, str):
            raise ValueError(f"LocalCluster({n}, regions={regions!r}): at least one node, and a list of regions")
        if own := ", ".join(sorted(_OWN & settings.keys())):
            raise TypeError(f"LocalCluster gives each node its own {own}; regions=[...] says where they are")
        self.clock = FakeClock(running=True)
        self._settings = {"cluster": f"test-{secrets.token_hex(4)}", "tuning": _QUICK, **settings}
        dealt = [regions[i % len(regions)] for i in range(n)]
        self._regions = {f"{region}-{dealt[: i + 1].count(region)}": region for i, region in enumerate(dealt)}
        self._nodes: list[Node[Any, Any]] = []
        self._cuts: set[frozenset[str]] = set()
        self._latency: dict[frozenset[str], float] = {}
        self._relay = Relay(
            {name: name for name in self._regions},
            field="name",
            target=self._address,
            delay=lambda a, b: self._latency.get(frozenset((a, b)), 0.0),
        )
        self._thread = threading.Thread(target=lambda: trio.run(self._carry), name="crdtcache relay", daemon=True)
        self._ports: dict[str, int] = {}
        self._opened = threading.Event()

    # ---- life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._opened.wait(_MEET_S):
            raise TimeoutError("the relay did not open its ports")
        addresses = {name: f"127.0.0.1:{port}" for name, port in self._ports.items()}
        try:
            for name, region in self._regions.items():
                node: Node[Any, Any] = Node(
                    list(addresses.values()),
                    name=name,
                    region=region,
                    listen="127.0.0.1:0",
                    advertise=addresses[name],
                    clock=self.clock,
                    **self._settings,
                )
                self._nodes.append(node.start())
            self._meet()
        except BaseException:
            self._close()
            raise
        return self

    def _check_began(self) -> None:
        if not self._nodes:
            raise RuntimeError("a LocalCluster has its nodes from its `with` on: with LocalCluster(2) as cluster: ...")

    def _meet(self) -> None:
        end = time.monotonic() + _MEET_S
        while not all(len(node.peers) >= len(self) - 1 for node in self):
            if time.monotonic() > end:
                raise TimeoutError(f"the nodes have not met within {_MEET_S:g} s: {self}")
            time.sleep(_POLL_S)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        with ThreadPoolExecutor(len(self._regions)) as aside:  # each waits a moment for its last words, cut off or not
            list(aside.map(lambda node: node.close(), self._nodes))
        self._token.run_sync_soon(self._over.set)
        self._thread.join()

    async def _carry(self) -> None:
        self._over = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._ports = await self._relay.listen(nursery)
            self._opened.set()
            await self._over.wait()
            nursery.cancel_scope.cancel()

    def _address(self, name: str) -> tuple[str, int] | None:
        """Where a node listens just now; another port after each start."""
        [address] = [node.status()["address"] for node in self._nodes if node.name == name] or [""]
        host, _, port = address.rpartition(":")
        return (host, int(port)) if port else None

    # ---- the network ----------------------------------------------------------------------------------------------

    def cut(self, a: Place, b: Place | None = None) -> None:
        """Cut every link between `a` and `b`, or between `a` and all others: what is under way is lost."""
        self._check_began()
        self._cuts |= self._pairs(a, b)
        cut = threading.Event()

        def in_relay() -> None:
            self._relay.cut(lambda source, target: frozenset((source, target)) in self._cuts)
            cut.set()

        self._token.run_sync_soon(in_relay)
        cut.wait()

    def heal(self, a: Place | None = None, b: Place | None = None) -> None:
        """End the cuts between `a` and `b`, or between `a` and all others, or all; they meet again within a moment."""
        self._cuts -= self._pairs(a, b)

    def latency(self, seconds: Seconds, a: Place | None = None, b: Place | None = None) -> None:
        """From now on bytes between `a` and `b` take so long, each way; left out, those between all nodes."""
        delay = span_ms(seconds, "latency") / 1_000
        self._latency |= dict.fromkeys(self._pairs(a, b), delay)

    def _pairs(self, a: Place | None, b: Place | None) -> set[frozenset[str]]:
        here = self._named(a)
        there = self._named(b) if a is None or b is not None else [name for name in self._regions if name not in here]
        return {frozenset((one, other)) for one in here for other in there if one != other}

    def _named(self, place: Place | None) -> list[str]:
        """The names of the nodes of `place`. Raises ValueError, the caller's fault, where there are none."""
        if place is None:
            return list(self._regions)
        if isinstance(place, Node):
            place = place.name
        places = enumerate(self._regions.items())
        found = [name for number, (name, region) in places if place in (number, number - len(self), name, region)]
        if not found:
            raise ValueError(f"{place!r} is no node and no region of this cluster: {', '.join(self._regions)}")
        return found

    # ---- what came of it ------------------------------------------------------------------------------------------

    def converged(self, timeout: Seconds = 5.0) -> bool:
        """Wait until all nodes that run show the same keys and values; whether it came within `timeout`.

        A handler of the last change may run a moment later. Raises `WouldBlock` in an event loop: there it is
        `await cluster.aconverged()`.
        """
        refuse_loop("converged()", "await cluster.aconverged()")
        end = time.monotonic() + span_ms(timeout, "timeout") / 1_000
        while not self._equal() and time.monotonic() < end:
            time.sleep(_POLL_S)
        return self._equal()

    async def aconverged(self, timeout: Seconds = 5.0) -> bool:  # noqa: ASYNC109 - the twin of converged
        """As `converged`, in trio or asyncio."""
        end = time.monotonic() + span_ms(timeout, "timeout") / 1_000
        while not self._equal() and time.monotonic() < end:
            await asleep(_POLL_S)
        return self._equal()

    def _equal(self) -> bool:
        return len({node.digest() for node in self._nodes if node.running}) <= 1

    @overload
    def __getitem__(self, number: int) -> Node[Any, Any]: ...
    @overload
    def __getitem__(self, number: slice) -> list[Node[Any, Any]]: ...
    def __getitem__(self, number: int | slice) -> Node[Any, Any] | list[Node[Any, Any]]:
        self._check_began()
        return self._nodes[number]

    def __len__(self) -> int:
        return len(self._regions)

    def __iter__(self) -> Iterator[Node[Any, Any]]:
        self._check_began()
        return iter(self._nodes)

    def __repr__(self) -> str:
        cuts = sorted("|".join(sorted(pair)) for pair in self._cuts)
        return f"<LocalCluster {self._nodes}{' cut: ' + ' '.join(cuts) if cuts else ''}>"
