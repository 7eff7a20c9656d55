"""The worker processes of a test: launched, asked, stopped, killed, and never left behind.

The processes and their lines are the demo's (`crdtcache.demo.crew`); here is what a test says to them.

Decision: every wait has a bound, and one that fails says what it saw last; a test that hangs tells nobody anything.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, TypeVar

import trio

from crdtcache.demo.crew import Child, Crew
from tests.chaos.network import Network

__all__ = ["FULL", "Worker", "Workers", "agreed", "sized"]

T = TypeVar("T")

FULL = os.environ.get("FULL_SIZES", "") not in ("", "0")
"""Whether to run the sizes of the acceptance lists."""

_ORDER_S = 30.0  # an order that takes no time by itself
_LOOK_S = 0.01


def sized(short: T, full: T) -> T:
    """The size for this run."""
    return full if FULL else short


class Worker:
    """One process with one node."""

    def __init__(self, child: Child, settings: dict[str, Any]) -> None:
        self.name = child.name
        self.child = child
        self.settings = settings
        self.address = ""

    async def ask(self, do: str, *, within: float = _ORDER_S, **fields: Any) -> dict[str, Any]:
        """Give an order and wait for the answer. Raises `ChildGone`."""
        return await self.child.ask(do, within=within, **fields)

    async def wait(self, what: str, seconds: float, **fields: Any) -> float:
        """`ready` or `until`, which must come true within `seconds`; monotonic time when it did."""
        answer = await self.ask(what, within=seconds + _ORDER_S, seconds=seconds, **fields)
        if not answer["ok"]:
            raise AssertionError(
                f"{self.name}: {what} {fields} did not come within {seconds:g} s: {answer}\n"
                f"{await self.ask('state')}\n{self.child.last_words()}"
            )
        return float(answer["at"])

    def freeze(self) -> None:
        """SIGSTOP: the process stands still, its kernel goes on acknowledging."""
        self.child.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.child.process.send_signal(signal.SIGCONT)


class Workers:
    """All workers of a test; `mode` is that of their nodes, "trio" or "thread"."""

    def __init__(self, nursery: trio.Nursery, logs: Path, mode: str = "trio", network: Network | None = None) -> None:
        self.mode = mode
        self.unexpected: list[str] = []
        self._network = network
        self._logs = logs
        self._crew = Crew(nursery, logs, self._heard, self._died)

    def _heard(self, child: Child, fields: dict[str, Any]) -> None:
        if "id" not in fields:  # else the answer to an order that nobody waited for
            self.unexpected.append(f"{child.name} said unasked {fields}")

    def _died(self, child: Child) -> None:
        self.unexpected.append(f"{child.name} ended with {child.process.returncode}:\n{child.last_words()}")

    async def launch(self, name: str, **settings: Any) -> Worker:
        """A process with a running node; in a network, at the site of the same name."""
        settings = {"mode": self.mode, "name": name, "listen": "127.0.0.1:0", "maxsize": None, **settings}
        if self._network is not None:
            settings |= {
                "namespace": self._network.namespaces[name],
                "listen": f"{self._network.addresses[name]}:2738",
                "insecure": True,
            }
        worker = Worker(await self._crew.launch(name, "tests.chaos.worker"), settings)
        worker.address = (await worker.ask("start", settings=settings))["address"]
        return worker

    async def cluster(self, *names: str, **settings: Any) -> list[Worker]:
        """Workers that know the ones before them as seeds, all of them connected to each other."""
        workers: list[Worker] = []
        for name in names:
            workers.append(await self.launch(name, peers=[w.address for w in workers], **settings))
        for worker in workers:
            await worker.wait("ready", 10, peers=len(names) - 1)
        return workers

    async def again(self, worker: Worker) -> Worker:
        """The same node in a new process, at the old address, empty."""
        settings = worker.settings | ({} if self._network is not None else {"listen": worker.address})
        return await self.launch(**settings)

    async def kill(self, worker: Worker) -> float:
        """SIGKILL; monotonic time when it was gone."""
        await self._crew.kill(worker.name)
        return time.monotonic()

    async def close(self) -> None:
        """End all of them. Raises AssertionError if one had ended by itself."""
        for child in self._crew.children.values():
            if child.process.returncode is None:
                child.process.send_signal(signal.SIGCONT)
        await self._crew.close()
        if self.unexpected:
            raise AssertionError("\n".join(self.unexpected))

    def complaints(self) -> str:
        """The lines of all logs."""
        return "\n".join(
            f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            for log in sorted(self._logs.glob("*.log"))
        )


async def agreed(*workers: Worker, within: float) -> float:
    """Wait until all digests and counts are equal; returns the seconds that took."""
    began = time.monotonic()
    while True:
        states = [await worker.ask("state") for worker in workers]
        if len({(state["digest"], state["len"]) for state in states}) == 1:
            return time.monotonic() - began
        if time.monotonic() - began > within:
            shown = "\n".join(f"{w.name}: {s}" for w, s in zip(workers, states, strict=True))
            raise AssertionError(f"no equal digests within {within:g} s\n{shown}")
        await trio.sleep(_LOOK_S)
