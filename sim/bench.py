"""How fast it is: events per second of whole worlds, beside a bare heap loop; and a trace as text."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from hashlib import blake2b
from time import perf_counter

from sim.engine import SECOND, Code
from sim.plan import Plan
from sim.scenarios import find
from sim.world import World, run

__all__ = ["bench", "trace_of"]


def bench(*, quick: bool) -> Iterator[str]:
    """Lines to print. An event is a receive, an advance or a local operation."""
    for nodes in (5, 20) if quick else (5, 20, 50, 100):
        result = run(find("calm-sea").draw(0, nodes), ())
        bare = _bare(result.events)
        yield (
            f"{nodes:4} nodes: {result.events:8} events in {result.seconds:7.2f} s, "
            f"{result.events / result.seconds:10,.0f} a second; a bare heap: {result.events / bare:10,.0f}"
        )


def _bare(count: int) -> float:
    began = perf_counter()
    heap: list[tuple[int, int]] = [(i * 7919 % 1_000, i) for i in range(100)]
    heapq.heapify(heap)
    for i in range(count):
        when, _ = heapq.heappop(heap)
        heapq.heappush(heap, (when + i % 1_000, i))
    return max(perf_counter() - began, 1e-9)


def trace_of(plan: Plan) -> list[str]:
    """Everything that happens in a run, one line each; its violation, if any, is the last."""
    world = World(plan)
    lines: list[str] = []

    def note(code: Code, node: int, other: int, payload: bytes) -> None:
        shown = f" {len(payload)}:{blake2b(payload, digest_size=4).hexdigest()}" if payload else ""
        lines.append(f"{world.now / SECOND:.9f} n{node} {code.name.lower()} {other}{shown}")

    world.engine.tap = note
    try:
        world.play()
    except Exception as error:  # noqa: BLE001 a trace of what fails is the use of it
        lines.append(f"{type(error).__name__}: {error}")
    return lines
