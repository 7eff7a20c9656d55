"""I12: who is gone is known to be, everywhere and in time; who is healthy and can be reached is never held to be.

What is in time is worked out from the tuning, as the bound of convergence is: to notice, to suspect for as long as one
member alone suspects, and to hear of it.

Decision: healthy means that for all of that time no fault has touched the machine, but for pauses so short that a
suspect can still say otherwise. A narrower rule would have to know whose silence which fault explains, and would be a
second detector.
"""

from __future__ import annotations

import math

from sim.adapter import Node
from sim.checks.base import Check, Watched
from sim.engine import MS

__all__ = ["Verdicts", "bound_ms"]


def bound_ms(world: Watched) -> int:
    """Within this time a process that has ended is down everywhere, and one that was held to be says otherwise."""
    tuning, plan = world.plan.tuned(), world.plan
    count = max(2, sum(node.processes for node in world.nodes))
    latency = round(6 * max(max(row) for row in plan.matrix_ms) * (1 + plan.jitter_percent / 25))
    notice = 8 * max(tuning.probe_ms, tuning.probe_remote_ms) + tuning.probe_timeout_remote_ms + latency
    judge = round(6 * tuning.suspect_ms * max(1.0, math.log10(count)))
    meet = tuning.silent_ms + 2 * tuning.redial_ms + 2 * tuning.dial_timeout_ms + latency
    return notice + judge + meet


class Verdicts(Check):
    """Both halves of I12."""

    name = "I12"

    def __init__(self, world: Watched) -> None:
        super().__init__(world)
        self._ran: dict[int, int] = {}  # origin -> when its process was last seen to run
        self._troubles: dict[int, list[tuple[int, int]]] = {}
        for fault in world.plan.faults:
            if fault.kind == "pause" and fault.end_ms - fault.start_ms <= self._short_ms():
                continue
            touched = {*fault.nodes, *(index for pair in fault.pairs for index in pair)}
            # What is slow, or is served by a slow one, may be late with everything.
            for index in range(len(world.plan.machines)) if fault.kind == "slow" else sorted(touched):
                self._troubles.setdefault(index, []).append((fault.start_ms * MS, fault.end_ms * MS))

    def _short_ms(self) -> int:
        """A pause that ends before those are down whom everybody suspects, though signs of life come late."""
        tuning = self.world.plan.tuned()
        latency = round(2 * max(max(row) for row in self.world.plan.matrix_ms))
        return 2 * (tuning.probe_ms - tuning.keepalive_ms) + tuning.probe_timeout_ms + tuning.suspect_ms - latency

    def sample(self) -> None:
        """Who runs."""
        for node in self.world.nodes:
            if node.replica is not None:
                self._ran[node.replica.origin] = self.world.now

    def judged(self, node: Node, origin: int, reason: str, unread: int) -> None:  # noqa: ARG002
        """Nobody who was well all the time is held to be gone."""
        for other in self.world.nodes:
            if other.replica is not None and other.replica.origin == origin and self._well(other):
                raise self.fail(f"holds n{other.index} to be gone ({reason}), which is well", node=node.index)

    def _well(self, node: Node) -> bool:
        since, troubles = self.world.now - bound_ms(self.world) * MS, self._troubles.get(node.index, ())
        return all(end < since or start > self.world.now for start, end in troubles)

    def _stood_still(self, node: Node) -> int:
        """When its last pause ended, 0 without one."""
        pauses = (f.end_ms for f in self.world.plan.faults if f.kind == "pause" and node.index in f.nodes)
        return max(pauses, default=0) * MS

    def final(self) -> None:
        """All who run know who does not any more, and who does."""
        world = self.world
        bound, core = bound_ms(world) * MS, [world.nodes[index] for index in world.core]
        running = {node.replica.origin: node for node in core if node.replica is not None}
        for node in running.values():
            assert node.replica is not None
            for origin, member in node.replica.members.known.items():
                if origin in running and member.claim.gone:
                    raise self.fail(f"still holds n{running[origin].index} to be gone", node=node.index)
                # Who is succeeded is gone whatever is said of it; and who stood still gives everybody their time again.
                known = member.claim.gone or node.replica.members.succeeded(member)
                ended = self._ran.get(origin, world.now)
                met = max(ended, node.started_at, self._stood_still(node))
                if world.now - met > bound and not known:
                    late = (world.now - ended) // MS
                    raise self.fail(f"does not know that {member.row.name} has ended {late} ms ago", node=node.index)
