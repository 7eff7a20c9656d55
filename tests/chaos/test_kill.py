"""kill -9: the process comes back empty and has everything soon; what had left a killed writer is on all others."""

from __future__ import annotations

import time

import pytest
import trio

from tests.chaos.crew import agreed, sized

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


@pytest.mark.parametrize("mode", ["trio", "thread"])
async def test_one_of_three_is_killed_while_all_write_and_comes_back_empty(crew, mode, nursery, figure):
    count = sized(5_000, 20_000)
    nodes = await crew.cluster("a", "b", "c")
    a, b, c = nodes
    await a.ask("fill", within=60, prefix="base", count=count, size=100)
    for node in (b, c):
        await node.wait("until", 20, count=count)
    for node in nodes:
        await node.ask("watch")
        await node.child.tell("pace", prefix=f"{node.name}:", rate=200)
    await trio.sleep(1.0)
    await crew.kill(c)
    await trio.sleep(0.5)
    began = time.monotonic()
    c = await crew.again(c)
    want = (await a.ask("state"))["len"]
    there = await c.wait("until", began + 5 - time.monotonic(), count=want)
    figure(
        f"{want:,} keys: all there {there - began:.2f} s after the new process was started (limit 5 s), "
        f"interpreter and imports included, 400 writes/s going on"
    )
    await trio.sleep(0.5)
    for node in (a, b):
        await node.ask("halt")
    await agreed(a, b, c, within=5)
    await complete((a, b, c), "c:")


@pytest.mark.parametrize("round_", range(sized(3, 10)))
async def test_what_had_left_a_killed_writer_is_on_all_others(crew, round_, figure):
    """Nothing is written by anybody else, so nothing but the survivors' own rows can tell what is missing."""
    a, b, c = await crew.cluster("a", "b", "c")
    for node in (b, c):
        await node.ask("watch")
    await a.child.tell("pace", prefix="a:", rate=2_000, size=200)
    await b.wait("until", 5, count=300 + 37 * round_)
    await crew.kill(a)
    took = await agreed(b, c, within=5)
    lost = await complete((b, c), "a:")
    figure(f"{lost:,} writes had left the killed writer and are on both others; equal {took:.2f} s after the kill")


async def test_what_only_one_survivor_had_reaches_the_other(remote_crew, network, figure):
    """c is cut off for less than it takes to be given up; the writer dies before its packets can be sent again."""
    a, b, c = await remote_crew.cluster("a", "b", "c")
    for node in (b, c):
        await node.ask("watch")
    network.cut("c")
    await a.child.tell("pace", prefix="a:", rate=1_000, size=200)
    await b.wait("until", 5, count=sized(500, 1_000))
    await remote_crew.kill(a)
    only = (await b.ask("state"))["len"]
    assert (await c.ask("state"))["len"] == 0, "the cut let something through"
    await trio.sleep(0.1)
    network.heal("c")
    took = await agreed(b, c, within=5)
    assert await complete((b, c), "a:") >= only
    figure(f"{only:,} writes that only one survivor had: on the other {took:.2f} s after the heal")


async def complete(nodes, prefix):
    """What any of `nodes` has ever shown of a writer that is gone is on all of them; how many that are."""
    seen = set()
    for node in nodes:
        seen |= set((await node.ask("seen", prefix=prefix))["numbers"])
    assert seen, "nothing was seen before the kill: this tested nothing"
    for node in nodes:
        here = set((await node.ask("numbers", prefix=prefix))["numbers"])
        assert not seen - here, f"{node.name} lacks {sorted(seen - here)[:10]} of {len(seen)}"
    return len(seen)
