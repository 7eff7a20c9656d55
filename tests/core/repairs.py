"""What it takes to make two replicas equal again, in bytes: two that were equal, a cut, and writes on one side.

Counted are the messages of pulls, slices and sessions, encoded; context messages are sent whether or not anything is
missing, and are left out. "By digest" empties the logs first, so that no pull can be answered and a session has to
find what differs. The differing entries themselves, in one message, are what every repair has to move.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

from crdtcache.core.codec import Limits, decode, encode
from crdtcache.core.messages import Context, Offer
from crdtcache.tuning import Tuning
from tests.core.world import World

VALUE_BYTES = 100


class Repair(NamedTuple):
    """`sizes` and `counts` by the kind of message; `entries`: the bytes of what differed."""

    sizes: Counter[str]
    counts: Counter[str]
    entries: int
    ms: int  # of virtual time, until both were equal

    @property
    def bytes(self) -> int:
        """All that was sent for the repair."""
        return sum(self.sizes.values())


def equal_pair(keys: int, tuning: Tuning | None = None) -> World:
    """Two replicas that hold the same; each has written half of it."""
    world = World("ab", tuning=tuning or Tuning())
    world.link_all()
    world.run(100)
    for i in range(keys):
        world.write("ab"[i % 2], f"key:{i:06d}", f"{i:0{VALUE_BYTES}d}")
    world.run(2_000, 50)
    assert world.agree()
    return world


def watched(world: World) -> tuple[Counter[str], Counter[str]]:
    """Bytes and numbers of messages from now on, by kind."""
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()

    def watch(_source: str, _target: str, data: bytes) -> None:
        for message in decode(data, Limits(1_024, 32_768))[1]:
            if not isinstance(message, Context):
                sizes[type(message).__name__] += len(encode(message))
                counts[type(message).__name__] += 1

    world.watch = watch
    return sizes, counts


def repair(world: World, differing: int, *, by_digest: bool, cut_ms: int = 200) -> Repair:
    """Cut the two, overwrite `differing` keys at one, and connect them until they agree and have compared."""
    world.cut("a", "b")
    keys = random.Random(differing).sample(sorted(world["a"].store.entries, key=str), differing)
    for key in keys:
        world.write("a", key, "y" * VALUE_BYTES)
    world.run(cut_ms, 50)
    if by_digest:
        for replica in world.nodes.values():
            replica.settle()
            for origin, frontier in replica.map.context.frontier.items():
                replica.map.log.cut(origin, frontier)
    sizes, counts = watched(world)
    world.link("a", "b")
    began = world.now_ms
    while not world.agree():
        world.run(50)
        assert world.now_ms - began < 60_000
    ms = world.now_ms - began
    world.run(2 * world.tuning.compare_ms // 10 + 100, 50)  # the comparison that follows a new link
    world.check()
    entries = [(key, world.held("b", key)) for key in keys]
    return Repair(sizes, counts, len(encode(Offer(1, 1, entries))) if keys else 0, ms)  # type: ignore[arg-type]
