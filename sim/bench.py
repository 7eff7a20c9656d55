"""How fast it is: events per second and memory of whole worlds, beside a bare heap loop; and a trace as text.

An event is one receive, advance or local operation. The work is the same everywhere, plain writes to 200 keys at
20 a second for 30 simulated seconds, from nothing: the nodes find each other first. Checks are off, for they are not
what is measured: beside it stands one run of `kitchen-sink` with all of them.

Decision: seconds of this process, not of the clock on the wall. On a machine that others use too, the wall tells
what they do; the bare heap loop of the same run tells how fast the machine is just now.
"""

from __future__ import annotations

import gc
import heapq
import random
import tracemalloc
from collections.abc import Iterator
from hashlib import blake2b
from time import process_time

from sim.engine import SECOND, Code
from sim.machines import Machine
from sim.plan import Op, Plan
from sim.scenarios import find
from sim.world import World, run

__all__ = ["bench", "steady", "trace_of"]

_SECONDS, _RATE = 30, 20


def bench(*, quick: bool) -> Iterator[str]:
    """Lines to print."""
    for nodes in (5, 20) if quick else (5, 20, 50, 100):
        times = 5 if nodes < 20 else 1
        events, seconds = min((_timed(nodes) for _ in range(times)), key=lambda timed: timed[1])
        yield (
            f"{nodes:4} nodes, {_SECONDS} s with {_RATE} writes/s: {events:8} events in {seconds * 1_000:8,.0f} ms, "
            f"{events / seconds:9,.0f} a second; a bare heap: {_bare(events):11,.0f}"
        )
    began = process_time()
    result = run(find("kitchen-sink").draw(0, None))
    seconds = process_time() - began
    yield f"kitchen-sink with all checks: {result.events / seconds:,.0f} events a second"
    yield f"an idle node takes {_idle_bytes():,} bytes, a link between two {_link_bytes():,}, both ends and the network"


def steady(nodes: int, seconds: int = _SECONDS, rate: int = _RATE) -> Plan:
    """Plain writes at a steady rate, with the tuning of a real cluster and nothing wrong."""
    rng = random.Random(nodes)
    seeds = range(min(nodes, 8))
    instants = sorted(rng.randrange(seconds * 1_000_000) for _ in range(seconds * rate))
    return Plan(
        scenario="steady",
        seed=0,
        machines=tuple(
            Machine(index=i, seeds=tuple(s for s in seeds if s != i), listening=False) for i in range(nodes)
        ),
        ops=tuple(
            Op(at, rng.randrange(nodes), "put", f"k{rng.randrange(200)}", f"v{i}") for i, at in enumerate(instants)
        ),
        calm_ms=seconds * 1_000,
    )


def _timed(nodes: int) -> tuple[int, float]:
    world = World(steady(nodes), ())
    world.prepare()
    gc.collect()
    gc.disable()
    try:
        began = process_time()
        world.engine.run(_SECONDS * SECOND)
        seconds = process_time() - began
    finally:
        gc.enable()
    digests = {node.replica.digest() for node in world.nodes if node.replica is not None}
    if len(digests) > 1:
        raise AssertionError(f"{nodes} nodes have {len(digests)} different maps: the figures would mean nothing")
    return world.engine.events, seconds


def _bare(count: int) -> float:
    """Calls a second of a loop that only takes the next from a heap and puts another one in."""
    heap: list[tuple[int, int]] = [(i * 7919 % 1_000, i) for i in range(100)]
    heapq.heapify(heap)
    began = process_time()
    for i in range(count):
        when, _ = heapq.heappop(heap)
        heapq.heappush(heap, (when + i % 1_000, i))
    return count / max(process_time() - began, 1e-9)


def _idle_bytes() -> int:
    """Of a node that is alone."""
    return _held(steady(20, 1, 0), alone=True) // 20


def _link_bytes() -> int:
    nodes = 40
    apart, together = (_held(steady(nodes, 3, 0), alone=alone) for alone in (True, False))
    return (together - apart) // (nodes * (nodes - 1) // 2)


def _held(plan: Plan, *, alone: bool) -> int:
    tracemalloc.start()
    try:
        world = World(plan.but(machines=tuple(Machine(index=m.index) for m in plan.machines)) if alone else plan, ())
        world.prepare()
        world.engine.run(plan.calm_ms * SECOND // 1_000)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


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
