"""A node with little memory makes no other one forget, and what it evicts is no difference between them."""

from __future__ import annotations

import pytest

from tests.chaos.crew import agreed

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
