"""How the conductor and its children talk: one JSON object per line, commands on stdin, reports on stdout.

Decision: pipes, because they end when either side dies: a child whose stdin is closed has lost its conductor
and exits, so that not even a SIGKILL of the conductor leaves an orphan. Stdin is read with `os.read` in a
thread (portable, also where pipes cannot be polled); a buffered reader would keep a lock that a thread
abandoned at exit still holds, and the interpreter aborts on that.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio

__all__ = ["MAX_LINE", "commands", "pack_line", "run_child", "say", "split_lines", "unpack_line"]

MAX_LINE = 16_000_000
"""Bytes; a longer line is a bug of the sender, not a report."""

_CHUNK = 65_536


def pack_line(fields: dict[str, Any]) -> bytes:
    """`fields` as one line of JSON with its newline."""
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def unpack_line(line: bytes) -> dict[str, Any]:
    """The object in `line`. Raises ValueError, the sender's fault, where it is anything else."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError(f"not an object: {line[:80]!r}")  # noqa: TRY004  (one error for every bad line)
    return fields


def split_lines(buffer: bytearray, chunk: bytes) -> list[bytes]:
    """Append `chunk` to `buffer` and take the whole lines out of it."""
    buffer += chunk
    if b"\n" not in chunk:
        if len(buffer) > MAX_LINE:
            raise ValueError(f"a line of more than {MAX_LINE} bytes")
        return []
    *whole, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest
    return [line for line in whole if line]


def say(fields: dict[str, Any]) -> None:
    """Report to the conductor. A conductor that is gone raises BrokenPipeError: the child ends."""
    left = memoryview(pack_line(fields))
    while left:
        left = left[os.write(1, left) :]


def run_child(main: Callable[[], Awaitable[None]]) -> int:
    """Run a child's `main` on trio until it returns or the conductor is gone; the exit status."""
    try:
        trio.run(main)
    except* BrokenPipeError:
        pass  # nobody reads any more
    return 0


async def commands() -> AsyncIterator[dict[str, Any]]:
    """The conductor's commands, until it closes the pipe or is gone."""
    buffer = bytearray()
    while chunk := await trio.to_thread.run_sync(os.read, 0, _CHUNK, abandon_on_cancel=True):
        for line in split_lines(buffer, chunk):
            yield unpack_line(line)
