"""The vocabulary of what goes wrong: each word makes intervals for a plan; `begin` and `end` make them happen.

Words for shapes (halves, ring, bridge, islands, swizzle ...) are resolved to pairs of nodes when the plan is made.
So the world knows a dozen primitive kinds, and a shrinker can narrow any fault without knowing its shape.

Decision: faults overlap freely and add up; `Kind` says of each what `amount` means and what its end undoes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Protocol

from sim.adapter import Node
from sim.network import Network
from sim.plan import Fault, Plan

__all__ = [
    "KINDS",
    "SHAPES",
    "Site",
    "all_pairs",
    "begin",
    "between",
    "bridge",
    "cut",
    "end",
    "flapping",
    "halves",
    "islands",
    "longest_cut",
    "one",
    "ring",
    "rolling_restart",
    "sides",
    "swizzle",
]

KINDS = {
    "cut": "nothing passes between the pairs",
    "delay": "the pairs' frames take `amount` ms longer",
    "loss": "of the pairs' frames `amount` in a million wait for their retransmission",
    "bandwidth": "the pairs share `amount` bytes a second each way",
    "reset": "the pairs' connections die at the start",
    "swallow": "the pairs' connections go silent at the start, and nobody is told",
    "refuse": "calls to the nodes are refused",
    "pause": "the nodes' processes stand still",
    "slow": "the nodes need `amount` us for each frame",
    "crash": "the nodes' processes are killed; at the end new ones start, empty",
    "power": "the nodes' machines lose power: their links go silent; at the end new processes start, empty",
    "leave": "the nodes' processes end at the start, for good",
    "step": "the nodes' wall clocks are stepped by `amount` ms, and back at the end",
    "jump": "the nodes' wall clocks are stepped by `amount` ms, for good",
    "drift": "the nodes' wall clocks gain `amount` us a second; at the end they are set right",
    "rogue": "the nodes' wall clocks lie by `amount` ms; at the end they are set right and the processes replaced",
    "wrong": "the nodes' wall clocks are off by `amount` ms; at the end they are set right",
    "memory": "the nodes may hold `amount` live values",
}
"""Every primitive kind, and what it does."""


class Site(Protocol):
    """Where faults happen: the world."""

    nodes: Sequence[Node]
    network: Network

    @property
    def now(self) -> int:
        """True time, ns."""


def begin(fault: Fault, site: Site) -> None:
    """The fault begins."""
    network, kind = site.network, fault.kind
    for a, b in fault.pairs:
        if kind == "cut":
            network.cut(a, b)
        elif kind == "reset":
            network.reset(a, b)
        elif kind == "swallow":
            network.swallow(a, b)
        else:
            _impair(network, kind, a, b, fault.amount)
    for index in fault.nodes:
        node = site.nodes[index]
        if kind == "refuse":
            network.refuse(index, on=True)
        elif kind == "pause":
            node.pause()
        elif kind == "slow":
            node.service_ns = fault.amount * 1_000
        elif kind in ("crash", "power"):
            node.stop(power=kind == "power")
        elif kind == "leave":
            node.stop(leave=True)
        elif kind in ("step", "jump", "rogue", "wrong"):
            node.clock.step(site.now, fault.amount)
        elif kind == "drift":
            node.clock.drift(site.now, fault.amount)
        elif kind == "memory":
            node.limit(fault.amount)


def end(fault: Fault, site: Site) -> None:
    """The fault ends; what that means is in `KINDS`."""
    network, kind = site.network, fault.kind
    for a, b in fault.pairs:
        if kind == "cut":
            network.heal(a, b)
        elif kind not in ("reset", "swallow"):
            _impair(network, kind, a, b, 0)
    for index in fault.nodes:
        node = site.nodes[index]
        if kind == "refuse":
            network.refuse(index, on=False)
        elif kind == "pause":
            node.resume()
        elif kind == "slow":
            node.service_ns = 0
        elif kind in ("crash", "power"):
            node.restart(power=kind == "power")
        elif kind == "step":
            node.clock.step(site.now, -fault.amount)
        elif kind in ("drift", "rogue", "wrong"):
            node.clock.drift(site.now, 0)
            node.clock.set_right(site.now)
            if kind == "rogue":
                node.stop()
                node.restart()
        elif kind == "memory":
            node.limit(None)


def _impair(network: Network, kind: str, a: int, b: int, amount: int) -> None:
    if kind == "delay":
        network.slow_down(a, b, delay_ms=amount)
    elif kind == "loss":
        network.slow_down(a, b, loss_ppm=amount)
    elif kind == "bandwidth":
        network.slow_down(a, b, rate=amount)


# ---- shapes: nodes to pairs ---------------------------------------------------------------------------------------

Pairs = tuple[tuple[int, int], ...]


def between(left: Iterable[int], right: Iterable[int]) -> Pairs:
    """Every pair with one end on each side."""
    other = list(right)
    return tuple((min(a, b), max(a, b)) for a in left for b in other if a != b)


def all_pairs(count: int) -> Pairs:
    """Every pair."""
    return tuple((a, b) for b in range(count) for a in range(b))


def halves(count: int, rng: random.Random) -> Pairs:
    """Two sides, each of a random size of at least one."""
    nodes = rng.sample(range(count), count)
    at = rng.randrange(1, count)
    return between(nodes[:at], nodes[at:])


def one(count: int, rng: random.Random) -> Pairs:
    """One node alone."""
    lone = rng.randrange(count)
    return between([lone], (i for i in range(count) if i != lone))


def ring(count: int, rng: random.Random) -> Pairs:
    """Everybody hears two neighbours only."""
    order = rng.sample(range(count), count)
    kept = {(min(a, b), max(a, b)) for a, b in zip(order, order[1:] + order[:1], strict=True)}
    return tuple(pair for pair in all_pairs(count) if pair not in kept)


def bridge(count: int, rng: random.Random) -> Pairs:
    """Two sides that only one node can reach both of."""
    order = rng.sample(range(count), count)
    rest = order[1:]
    return between(rest[: len(rest) // 2], rest[len(rest) // 2 :])


def islands(count: int, rng: random.Random) -> Pairs:
    """Three sides, or as many as there are nodes."""
    side = [rng.randrange(min(3, count)) for _ in range(count)]
    return tuple((a, b) for a, b in all_pairs(count) if side[a] != side[b])


SHAPES = {"halves": halves, "one": one, "ring": ring, "bridge": bridge, "islands": islands}


def cut(pairs: Pairs, start_ms: int, end_ms: int, label: str = "cut") -> Fault:
    """A partition."""
    return Fault("cut", start_ms, end_ms, pairs=pairs, label=label)


def flapping(pairs: Pairs, start_ms: int, end_ms: int, period_ms: int) -> list[Fault]:
    """Up and down, half of each period."""
    return [
        cut(pairs, at, min(at + period_ms // 2, end_ms), "flapping")
        for at in range(start_ms, end_ms, max(2, period_ms))
    ]


def swizzle(count: int, start_ms: int, end_ms: int, rng: random.Random) -> list[Fault]:
    """Nodes are cut off one after the other, and come back in another order."""
    begins = sorted(rng.randrange(start_ms, (start_ms + end_ms) // 2) for _ in range(count))
    ends = [rng.randrange((start_ms + end_ms) // 2, end_ms) for _ in range(count)]
    return [
        cut(between([i], (j for j in range(count) if j != i)), a, b, "swizzle")
        for i, a, b in zip(rng.sample(range(count), count), begins, ends, strict=True)
    ]


def rolling_restart(nodes: Sequence[int], start_ms: int, each_ms: int, down_ms: int) -> list[Fault]:
    """One after the other."""
    return [
        Fault("crash", start_ms + i * each_ms, start_ms + i * each_ms + down_ms, nodes=(node,), label="rolling")
        for i, node in enumerate(nodes)
    ]


def longest_cut(plan: Plan) -> Fault | None:
    """The partition that lasted longest, if there was one."""
    cuts = [fault for fault in plan.faults if fault.kind == "cut"]
    return max(cuts, key=lambda f: (f.end_ms - f.start_ms, len(f.pairs)), default=None)


def sides(fault: Fault | None, nodes: int) -> list[list[int]]:
    """The islands that a cut leaves; one of all nodes where it leaves them connected."""
    apart = set(fault.pairs) if fault is not None else set()
    left, found = list(range(nodes)), []
    while left:
        island = [left.pop(0)]
        for node in island:
            near = [other for other in left if (min(node, other), max(node, other)) not in apart]
            island += near
            left = [other for other in left if other not in near]
        found.append(sorted(island))
    return found
