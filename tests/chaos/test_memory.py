"""Memory: a node with little of it makes no other one forget, and keys that come and go leave nothing behind."""

from __future__ import annotations

import pytest

from tests.chaos.crew import agreed, sized

pytestmark = pytest.mark.chaos


async def test_eviction_is_private(crew, figure):
    small, large = await crew.launch("small", maxsize=500), await crew.launch("large")
    third = await crew.launch("third", peers=[small.address, large.address])
    for node in (small, large, third):
        await node.wait("ready", 10, peers=2)
    # A burst is well below what the small node holds: what was not sent yet is what it evicts last (E2).
    await small.ask("fill", prefix="s", count=5_000, step=50)
    await large.ask("fill", prefix="l", count=5_000)
    for node in (large, third):
        await node.wait("until", 10, count=10_000)
    await agreed(large, third, within=5)
    few, all_ = await small.ask("state"), await large.ask("state")
    assert few["digest"] == all_["digest"]
    assert few["len"] <= 500
    assert few["stats"]["evicted"] >= 9_000
    assert few["stats"]["visible"] == 10_000
    assert (all_["len"], all_["stats"]["evicted"]) == (10_000, 0)
    figure(f"{few['len']} of 10,000 values on the small node, all on the others, one digest")


_ROUNDS = sized(3, 4)


async def test_keys_that_come_and_go_leave_nothing_behind(crew, figure):
    """Memory is that of a full log and of the digest's buckets, however many keys there were.

    Blocks of the allocator are judged, for they are exact: of each record the stamp and the key, and on who has them
    in slices also since when, for as many as luck has it. RSS is told: a burst leaves it full of holes.
    """
    each = sized(15_000, 500_000)
    tuning = {"min_dead_age_ms": sized(2_000, 10_000), "max_frame_age_ms": sized(1_000, 5_000)}
    tuning |= sized({"log_records": 20_000}, {})  # which a round must fill, so that the next ones add nothing
    a, b = await crew.cluster("a", "b", tuning=tuning)
    empty = [(await node.ask("state"))["blocks"] for node in (a, b)]
    full = tuning.get("log_records", 131_072)
    sizes = []
    took = 0.0
    for number in range(_ROUNDS):
        took += (await a.ask("come_and_go", within=600, prefix=f"{number}:", count=each))["seconds"]
        for node in (a, b):
            await node.wait("until", 60, dead=0)
        await agreed(a, b, within=10)
        states = [await node.ask("state") for node in (a, b)]
        sizes.append([(state["blocks"], state["rss"]) for state in states])
        for state in states:
            told = state["stats"]
            assert (told["visible"], told["dead"], told["bytes"], told["dots"], told["unsafe_gc"]) == (0, 0, 0, 0, 0)
            assert 0.9 * full <= told["log_records"] <= full, "the log was not full: memory may grow yet"
    writers, readers = ([blocks for blocks, _ in nodes] for nodes in zip(*sizes, strict=True))
    assert writers[-1] <= 1.05 * writers[0], f"blocks and RSS after each round: {sizes}"
    assert max(readers) <= empty[1] + 4 * full, f"blocks and RSS after each round: {sizes}, {empty} before"
    told = [" ".join(f"{blocks:,} ({rss / 1e6:.0f} MB)" for blocks, rss in nodes) for nodes in zip(*sizes, strict=True)]
    figure(
        f"{_ROUNDS * each:,} keys written and deleted in {took:.1f} s, no entry left, unsafe_gc 0; blocks allocated "
        f"(and RSS) after each round: writer {told[0]}, reader {told[1]}"
    )
