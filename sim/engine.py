"""Virtual time: a heap of calls in one total order, and a hash over everything that happened.

Two calls at one nanosecond are ordered by rank (faults end, then begin, then frames arrive, then timers, then
operations), then by the order in which they were scheduled. So a plan is unambiguous, and a run of it has one
trace hash; `marks` keeps that hash for each virtual second, which is how a replay says where it diverged.

Decision: integers for time. Floats make the order of two events depend on how their sums were rounded.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable
from enum import IntEnum
from hashlib import blake2b
from typing import Any

__all__ = ["MS", "SECOND", "Code", "Engine", "Rank"]

MS = 1_000_000
SECOND = 1_000 * MS

_pack = struct.Struct("<qiqq").pack


class Rank(IntEnum):
    """What comes first at one instant."""

    HEAL = 0
    FAULT = 1
    DELIVER = 2
    TIMER = 3
    OPERATION = 4
    SAMPLE = 5


class Code(IntEnum):
    """What a line of the trace says."""

    RECEIVE = 1
    ADVANCE = 2
    OPERATION = 3
    CONNECTED = 4
    DISCONNECTED = 5
    DIAL = 6
    REFUSED = 7
    STARTED = 8
    STOPPED = 9
    FAULT = 10
    HEAL = 11
    CHANGE = 12


class Engine:
    """The clock of a world. `now` is in ns since its beginning; `events` counts receives, advances, operations."""

    def __init__(self) -> None:
        self.now = 0
        self.events = 0
        self.marks: list[str] = []
        self._heap: list[tuple[int, int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._hash = blake2b(digest_size=16)
        self.tap: Callable[[Code, int, int, bytes], None] | None = None  # is handed each line of the trace as well

    def at(self, when: int, rank: int, call: Callable[..., None], *args: Any) -> None:
        """Schedule `call(*args)` for `when` (ns, not before now)."""
        self._order += 1
        heapq.heappush(self._heap, (when, rank, self._order, call, args))

    def run(self, until: int) -> None:
        """Make every call that is due up to `until`, in order, and leave the clock there."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until:
            self.now, _, _, call, args = pop(heap)
            call(*args)
        self.now = until

    def note(self, code: Code, node: int, other: int = 0, payload: bytes = b"") -> None:
        """Add to the trace: who, what, with whom, and the bytes."""
        self._hash.update(_pack(self.now, code, node, other) + payload)
        if self.tap is not None:
            self.tap(code, node, other, payload)

    def mark(self) -> None:
        """Note the trace hash so far, for comparison with another run."""
        self.marks.append(self.trace()[:12])

    def trace(self) -> str:
        """The hash over everything that happened so far, in hex."""
        return self._hash.copy().hexdigest()
