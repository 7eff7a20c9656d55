"""Write-to-visible beside a bare echo: `python -m tests.chaos.latency`, `--writes 2000`, `--rate 200`, `--thread`.

Separate processes on loopback. A write's value is the time it was made; a peer takes the time in the handler of its
"set" event; both clocks are the machine's one monotonic clock. The echo, the pair and the four nodes take turns of
one second each, so that a slow second of the machine hits all of them.

Decision: the verdict is a ratio of medians to the echo's median of the same run, because microseconds belong to
machines. No test asserts it: what else the machine was doing is not this project's doing.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

import trio

from crdtcache.demo.crew import Child, Crew
from tests.chaos.crew import Worker, Workers

__all__ = ["Timed", "main", "measure"]

_LIMITS = {1: 4.0, 3: 6.0}  # peers -> times the echo's median


class Timed(NamedTuple):
    """ns of each: round trips of the echo, and by number of peers the writes until each peer saw them."""

    echo: list[int]
    visible: dict[int, list[int]]
    everywhere: dict[int, list[int]]  # until the last of the peers saw it

    def ratio(self, peers: int) -> float:
        """How many round trips a write takes to be visible at a peer, by medians."""
        return median(self.visible[peers]) / median(self.echo)


class _Echo:
    """A client and a server."""

    def __init__(self, nursery: trio.Nursery, logs: Path) -> None:
        self._crew = Crew(nursery, logs, lambda child, said: None, self._died)
        self._client: Child | None = None

    @staticmethod
    def _died(child: Child) -> None:
        raise AssertionError(f"{child.name} ended:\n{child.last_words()}")

    async def start(self) -> None:
        server = await self._crew.launch("echo-server", "tests.chaos.echo")
        self._client = await self._crew.launch("echo-client", "tests.chaos.echo")
        await self._client.ask("call", port=(await server.ask("serve"))["port"])

    async def turn(self, count: int, rate: float) -> list[int]:
        assert self._client is not None
        return list((await self._client.ask("ping", within=count / rate + 30, count=count, rate=rate))["took_ns"])

    async def close(self) -> None:
        await self._crew.close()


async def _turn(nodes: list[Worker], number: int, count: int, rate: float) -> tuple[list[int], list[int]]:
    """`count` writes of the first node; the times of all peers, and of the last peer of each write."""
    writer, *readers = nodes
    await writer.ask("pace", within=count / rate + 30, prefix=f"t{number}:", rate=rate, count=count)
    each = []
    for reader in readers:
        await reader.wait("until", 10, count=(number + 1) * count)
        each.append((await reader.ask("seen"))["took_ns"])
    assert all(len(took) == count for took in each), f"{[len(took) for took in each]} of {count} writes were seen"
    return [ns for took in each for ns in took], [max(of_one) for of_one in zip(*each, strict=True)]


async def measure(writes: int, rate: float, mode: str, logs: Path, rounds: int = 10) -> Timed:
    """`writes` round trips and writes of each kind, in `rounds` turns."""
    timed = Timed([], {peers: [] for peers in _LIMITS}, {peers: [] for peers in _LIMITS})
    count = max(1, writes // rounds)
    async with trio.open_nursery() as nursery:
        echo = _Echo(nursery, logs)
        crews = {peers: Workers(nursery, logs, mode) for peers in _LIMITS}
        try:
            await echo.start()
            clusters = {}
            for peers, crew in crews.items():
                clusters[peers] = await crew.cluster(*(f"{peers}-{number}" for number in range(peers + 1)))
                for node in clusters[peers][1:]:
                    await node.ask("watch")
            await echo.turn(50, rate)  # the first packets pay for what later ones find warm
            for number in range(rounds):
                timed.echo.extend(await echo.turn(count, rate))
                for peers, nodes in clusters.items():
                    visible, everywhere = await _turn(nodes, number, count, rate)
                    timed.visible[peers].extend(visible)
                    timed.everywhere[peers].extend(everywhere)
        finally:
            with trio.CancelScope(shield=True):
                await echo.close()
                for crew in crews.values():
                    await crew.close()
    return timed


def _row(name: str, took: list[int], against: float) -> str:
    us = [ns / 1_000 for ns in took]
    return (
        f"{name:24} {len(us):6} {median(us):9.0f} {quantiles(us, n=10)[-1]:9.0f} {quantiles(us, n=100)[-1]:9.0f} "
        f"{median(us) / against:7.2f}"
    )


def table(timed: Timed) -> tuple[str, bool]:
    """The table as text, and whether both limits hold."""
    rtt = median(timed.echo) / 1_000
    lines = [f"{'microseconds':24} {'n':>6} {'p50':>9} {'p90':>9} {'p99':>9} {'x echo':>7}  limit"]
    lines.append(_row("echo round trip", timed.echo, rtt))
    held = True
    for peers, limit in _LIMITS.items():
        good = timed.ratio(peers) <= limit
        held = held and good
        named = f"visible, {peers} peer{'s' if peers > 1 else ''}"
        lines.append(f"{_row(named, timed.visible[peers], rtt)}  {limit:g}  {'ok' if good else 'MISSED'}")
        if peers > 1:
            lines.append(_row(f"  at the last of the {peers}", timed.everywhere[peers], rtt))
    return "\n".join(lines), held


def main() -> int:
    """Prints the table; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.latency", description=__doc__.partition("\n")[0])
    parser.add_argument("--writes", type=int, default=2_000, help="of each kind (2000)")
    parser.add_argument("--rate", type=float, default=200.0, help="writes a second (200)")
    parser.add_argument("--thread", action="store_true", help="nodes in threads of their own instead of trio's nursery")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as logs:
        timed = trio.run(measure, chosen.writes, chosen.rate, "thread" if chosen.thread else "trio", Path(logs))
    text, held = table(timed)
    print(f"CPython {platform.python_version()}, {platform.system()} {platform.machine()}, {chosen.rate:g} writes/s")
    print(text)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
