"""A cluster that never stops restarting still collects its dead, and keeps every promise meanwhile."""

from __future__ import annotations

from sim.checks.base import Check
from sim.checks.ending import ENDING
from sim.checks.safety import SAFETY
from sim.scenarios import find, load
from sim.world import World

load()


class Held(Check):
    """The most dead entries that any node held in each second."""

    def __init__(self, world):
        super().__init__(world)
        self.by_second = {}

    def sample(self):
        dead = max((n.replica.stats()["dead"] for n in self.world.nodes if n.replica is not None), default=0)
        second = self.world.now // 10**9
        self.by_second[second] = max(self.by_second.get(second, 0), dead)


def test_restarts_without_end():
    plan = find("restarts-without-end").draw(1, None).but(quiet_ms=5_000)
    world = World(plan, (*SAFETY, *ENDING, Held))
    world.play()
    held = world.checks[-1].by_second
    removed = {op.key for op in plan.ops if op.kind == "delete"}
    assert max(held.values()) <= len(removed) // 2, "everything that was ever deleted is held"
    assert max(held[s] for s in range(18, 25)) <= 1.5 * max(held[s] for s in range(8, 15)), "it grows"
    assert not any(node.replica.map.deleted or node.replica.map.aged for node in world.nodes)
    assert world.strict, "nothing was forced out"
