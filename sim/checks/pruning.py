"""What pruning may cost, noted when it happens: the writes of processes long gone, or long away, that were not heard.

Decision: taken from what a replica had accounted for an instant before, and whoever was linked to it a second before.
What one of those knew of is not waived: there pruning has to wait, or the other checks find what it cost. What comes
back in the very second in which it would be pruned is lost: it is as old as what is pruned, and no row has told of it.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from crdtcache.core.replica import Replica
from sim.adapter import Node
from sim.checks.base import Check, Watched

__all__ = ["Prunes"]


class Prunes(Check):
    """Design section 5: only rows of processes that are gone, or away for longer than anybody waits, are pruned."""

    name = "I8"

    def __init__(self, world: Watched) -> None:
        super().__init__(world)
        self._never = world.plan.tuned().forget_ms > 1_000_000
        self._past: deque[dict[int, _State]] = deque([{}], maxlen=10)  # by origin; of a second, the last one last

    def sample(self) -> None:
        """Who has pruned something since the last time."""
        if self._never:
            return
        running = [(node, node.replica) for node in self.world.nodes if node.replica is not None]
        states = {replica.origin: _State.of(replica) for _, replica in running}
        for node, replica in running:
            now = states[replica.origin]
            before = self._past[-1].get(replica.origin, _State(0, {}, now.linked, set()))
            if now.mark > before.mark or before.frontier.keys() - now.frontier.keys():
                self._pruned(node, before, now)
        self._past.append(states)

    def final(self) -> None:
        """What was pruned since the last sample counts as well: the checks of the end come next."""
        self.sample()

    def _pruned(self, node: Node, before: _State, now: _State) -> None:
        linked = before.linked & now.linked
        if missing := [origin for origin in linked if origin in before.frontier and origin not in now.frontier]:
            raise self.fail(f"pruned the row of {missing[0]:016x}, which is connected", node=node.index)
        peers = [self._past[0][origin] for origin in linked if origin in self._past[0]]
        for stamp, origin in self.world.oracle.by_version:
            if origin in before.frontier and origin in now.frontier:
                continue
            unheard = before.frontier.get(origin, before.mark) < stamp <= now.mark
            if unheard and not any(peer.has_heard((stamp, origin)) for peer in peers):
                self.world.oracle.waived.add((stamp, origin))


class _State(NamedTuple):
    """What a replica has pruned, accounts for and holds, and who is connected to it."""

    mark: int
    frontier: dict[int, int]
    linked: set[int]
    held: set[tuple[int, int]]

    def has_heard(self, version: tuple[int, int]) -> bool:
        """Whether it can tell of that write: by a row, or by what it holds."""
        return self.frontier.get(version[1], 0) >= version[0] or version in self.held

    @classmethod
    def of(cls, replica: Replica) -> _State:
        linked = {member.row.origin for member in replica.members.known.values() if member.link is not None}
        held = {entry[:2] for entry in replica.store.entries.values()}
        return cls(replica.map.context.prune_mark, dict(replica.map.context.frontier), linked, held)
