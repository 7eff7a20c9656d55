"""Many processes join at once: the writer goes on writing, its peers go on seeing, and all are whole in seconds."""

from __future__ import annotations

import statistics
import time

import pytest
import trio

from tests.chaos.crew import agreed, sized

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


async def test_twenty_that_join_at_once_hold_up_nobody(crew, figure):
    """All know one seed, which is not the writer's only peer."""
    new, rate = sized(6, 20), 200
    a, b, c = await crew.cluster("a", "b", "c")
    await a.ask("fill", prefix="base", count=2_000)
    await c.ask("watch")
    await a.child.tell("pace", prefix="k", rate=rate, spread=500)
    await trio.sleep(1)
    usual = (await c.ask("seen"))["took_ns"]
    late = []

    async def join(number):
        late.append(await crew.launch(f"late{number}", peers=[b.address]))

    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        for number in range(new):
            nursery.start_soon(join, number)
    launched = time.monotonic()
    for node in late:
        await node.wait("ready", 20, peers=new + 2)
    ready = time.monotonic()
    during = (await c.ask("seen"))["took_ns"]
    await a.ask("halt")
    await agreed(a, b, c, *late, within=5)
    for node in late:
        assert len((await node.ask("numbers", prefix="base"))["numbers"]) == 2_000
    # The processes of the joiners need both cores to start: what is owed is that no write waits for a join.
    assert len(during) > (ready - began) * rate * 0.5, "the writer was held up"
    figure(
        f"{new} started within {launched - began:.1f} s, all whole {ready - launched:.2f} s later; writes were "
        f"seen after {statistics.median(usual) / 1e6:.2f} ms, {statistics.median(during) / 1e6:.2f} ms meanwhile "
        f"(at most {max(during) / 1e6:.0f} ms)"
    )
