"""What a check is: it watches a run through a few hooks, and raises a `Violation` that says where and when.

Decision: safety is checked while the run goes on, not from its end. A study of planted bugs for this project
found that a check at the end only lets most of them pass: anti-entropy repairs the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from sim.engine import SECOND

if TYPE_CHECKING:
    from crdtcache.core.clock import Reading
    from crdtcache.core.entry import Entry, Key
    from crdtcache.core.outcome import Change
    from sim.adapter import Node
    from sim.network import Network
    from sim.oracle import Oracle, Write
    from sim.plan import Plan

__all__ = ["Check", "Violation", "Watched", "text_of"]


class Violation(Exception):
    """Fault: the core's, or the check's.

    State: the run stopped there.
    Do: run the command that the report names, and read what the check says.
    """

    def __init__(self, invariant: str, text: str, *, now: int, node: int = -1, key: object = None) -> None:
        super().__init__(text)
        self.invariant = invariant
        self.text = text
        self.now = now
        self.node = node
        self.key = key

    def __str__(self) -> str:
        where = f" at n{self.node}" if self.node >= 0 else ""
        what = f", key {self.key!r}" if self.key is not None else ""
        return f"{self.invariant}{where}{what}, {self.now / SECOND:.3f} s: {self.text}"


class Watched(Protocol):
    """What a check may look at: the world."""

    nodes: Sequence[Node]
    network: Network
    oracle: Oracle
    plan: Plan
    core: Sequence[int]
    skew_ms: int  # no honest clock is further from true time
    rogues: Sequence[int]  # nodes whose clock lies at some time
    calm_at: int  # ns; 0 before the calm

    @property
    def now(self) -> int:
        """True time, ns."""

    @property
    def unix_ms(self) -> int:
        """True time, Unix ms."""

    @property
    def strict(self) -> bool:
        """Whether every promise holds without exception: nobody had to forget the dead too early."""

    def cleared(self, version: tuple[int, int]) -> bool:
        """Whether there was a clear above that version; one of a clock that lies counts once others believe it."""

    def alone(self, write: Write) -> bool:
        """Whether its writer had met nobody then: nobody could wait for it."""

    def untold(self, write: Write) -> bool:
        """Whether its writer had met nobody then, and had no room either: it may have forgotten it whole."""

    def unsettled(self) -> str:
        """Why the core has not settled; "" where it has."""


class Check:
    """One invariant. The hooks that a check leaves out cost nothing."""

    name = ""

    def __init__(self, world: Watched) -> None:
        self.world = world

    def fail(self, text: str, *, node: int = -1, key: object = None) -> Violation:
        """The violation to raise."""
        return Violation(self.name, text, now=self.world.now, node=node, key=key)

    def wrote(self, node: Node, write: Write) -> None:
        """A put or delete."""

    def read(self, node: Node, key: Key, entry: Entry | None, reading: Reading, /) -> None:
        """A get, and what it found."""

    def changed(self, node: Node, change: Change) -> None:
        """An event of a replica."""

    def took(self, node: Node, age: int) -> None:
        """A frame was taken in, `age` ns older than the youngest that its link has brought."""

    def gave_up(self, node: Node, unread: int) -> None:
        """A link was given up as silent; for `unread` ns its oldest frame has waited for the process to read it."""

    def judged(self, node: Node, origin: int, reason: str, unread: int) -> None:
        """A member is held to be gone; by this process itself, while a frame has waited for `unread` ns to be read."""

    def sample(self) -> None:
        """Called all through the run."""

    def converged(self) -> None:
        """The core has converged; quiescence begins."""

    def final(self) -> None:
        """The run is over."""


def text_of(version: tuple[int, int]) -> str:
    """A version, short."""
    return f"{version[0]:x}-{version[1] >> 48:04x}"
