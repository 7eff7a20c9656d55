"""The child processes of the demo: launched, spoken to, killed, and never left behind.

Decision: every command carries an id and its answer carries it back, so the conductor reads as a script of
questions and answers although reports arrive in between. A child gets a session of its own, so that Ctrl-C
reaches the conductor alone, which then ends the others in order; it takes the `sys.path` of its parent rather
than the current directory, where somebody's `random.py` may lie.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import trio

from crdtcache.demo.lines import pack_line, split_lines, unpack_line

__all__ = ["Child", "ChildGone", "Crew"]

_SEND_LIMIT = 5.0  # seconds in which a child reads a command
_GRACE = 1.5  # seconds that a child gets to end by itself
_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import importlib; "
    "sys.exit(importlib.import_module(sys.argv[2]).main())"
)
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class ChildGone(Exception):
    """Fault: a child's, which ended or did not answer in time.

    State: the run cannot go on; the other children still run.
    Do: read its log, whose last lines are in the message.
    """


class Child:
    """One process: `ask` it, or `tell` it; what it says unasked goes to the crew's `heard`."""

    def __init__(self, name: str, process: trio.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.expected_to_end = False
        self.ended = trio.Event()
        self._ids = itertools.count(1)
        self._sending = trio.Lock()
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked: dict[int, trio.Event] = {}

    async def tell(self, do: str, **fields: Any) -> int:
        """Send a command and do not wait for the answer; returns its id."""
        number = next(self._ids)
        await self._send({"do": do, "id": number, **fields})
        return number

    async def ask(self, do: str, *, within: float = 10.0, **fields: Any) -> dict[str, Any]:
        """Send a command and wait `within` seconds for its answer. Raises `ChildGone` without one."""
        number = next(self._ids)
        answered = self._asked[number] = trio.Event()  # before sending: the answer may be quick
        try:
            await self._send({"do": do, "id": number, **fields})
            with trio.move_on_after(within):
                await answered.wait()
        finally:
            del self._asked[number]
        if number not in self._answers:
            how = "ended" if self.ended.is_set() else f"did not answer in {within:g} s"
            raise ChildGone(f"{self.name} {how}, asked to {do}\n{self.last_words()}")
        return self._answers.pop(number)

    async def _send(self, fields: dict[str, Any]) -> None:
        """One line, whole, also where the caller is cancelled half way: the next one must be readable."""
        if self.process.stdin is None:
            raise AssertionError("launched without a pipe")
        try:
            with trio.move_on_after(_SEND_LIMIT, shield=True) as scope:
                async with self._sending:
                    await self.process.stdin.send_all(pack_line(fields))
        except _GONE:
            raise ChildGone(f"{self.name} is gone\n{self.last_words()}") from None
        if scope.cancelled_caught:
            raise ChildGone(f"{self.name} does not read what it is told\n{self.last_words()}")

    def hear(self, fields: dict[str, Any]) -> bool:
        """Take a line in; False if nobody waits for it."""
        number = fields.get("id")
        if number not in self._asked:
            return False
        self._answers[number] = fields
        self._asked[number].set()
        return True

    def hang_up(self) -> None:
        """It is gone: nobody waits for it any longer."""
        self.ended.set()
        for answered in self._asked.values():
            answered.set()

    def last_words(self, lines: int = 12) -> str:
        """The end of its log."""
        with suppress(OSError):
            text = self.log.read_text(errors="replace").splitlines()[-lines:]
            return "\n".join(f"  {self.name}: {line}" for line in text)
        return ""


class Crew:
    """All children. `heard(child, fields)` gets what they report, `died(child)` whoever ends unexpectedly."""

    def __init__(
        self,
        nursery: trio.Nursery,
        logs: Path,
        heard: Callable[[Child, dict[str, Any]], None],
        died: Callable[[Child], None],
    ) -> None:
        self.children: dict[str, Child] = {}
        self._nursery = nursery
        self._logs = logs
        self._heard = heard
        self._died = died

    async def launch(self, name: str, module: str) -> Child:
        """Start `module`.main() in a process called `name` (the previous one of that name must have ended)."""
        log = self._logs / f"{name}.log"
        with log.open("ab") as errors:
            process = await _spawn([json.dumps(sys.path), module], errors)
        child = Child(name, process, log)
        self.children[name] = child
        self._nursery.start_soon(self._listen, child)
        return child

    async def kill(self, name: str) -> None:
        """SIGKILL: no handler runs, no buffer is flushed, no goodbye is said."""
        child = self.children[name]
        child.expected_to_end = True
        child.process.kill()
        await child.ended.wait()

    async def close(self) -> None:
        """End every child: a closed stdin asks, SIGKILL after a moment does not."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for child in self.children.values():
                    nursery.start_soon(self._end, child)

    async def _end(self, child: Child) -> None:
        child.expected_to_end = True
        if child.process.stdin is not None:
            await child.process.stdin.aclose()
        with trio.move_on_after(_GRACE):
            await child.process.wait()
        if child.process.returncode is None:
            child.process.kill()
            await child.process.wait()

    async def _listen(self, child: Child) -> None:
        """Hand on what `child` says until it ends."""
        if child.process.stdout is None or child.process.stdin is None:
            raise AssertionError("launched without pipes")
        buffer = bytearray()
        try:
            async with child.process.stdout, child.process.stdin:
                async for chunk in child.process.stdout:
                    for line in split_lines(buffer, bytes(chunk)):
                        fields = unpack_line(line)
                        if not child.hear(fields):
                            self._heard(child, fields)
                await child.process.wait()
        finally:
            child.hang_up()
        if not child.expected_to_end:
            self._died(child)


async def _spawn(arguments: list[str], errors: IO[bytes]) -> trio.Process:
    return await trio.lowlevel.open_process(
        # -P: not even the bootstrap may find somebody's json.py in the current directory.
        [sys.executable, "-P", "-c", _BOOTSTRAP, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
    )
