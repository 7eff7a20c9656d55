"""Equal nodes with nothing to do: OPEN and EQUAL each ten seconds, no entries, and expiry costs no byte more."""

from __future__ import annotations

import pytest
import trio

from tests.chaos.crew import agreed, sized

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

_MOVED = ("sessions", "entries_sent", "entries_received", "slices_made", "pulls", "too_old", "gone", "compared_unequal")


async def stats(*nodes):
    return [(await node.ask("state"))["stats"] for node in nodes]


async def watched(network, nodes, seconds):
    """What each node's counters grew by while nobody touched it for so long, and bytes sent by all per second."""
    before, bytes_ = await stats(*nodes), sum(network.sent(node.name) for node in nodes)
    await trio.sleep(seconds)
    after = await stats(*nodes)
    rate = (sum(network.sent(node.name) for node in nodes) - bytes_) / seconds / len(nodes)
    return [{name: now[name] - then[name] for name in now} for then, now in zip(before, after, strict=True)], rate


async def test_two_equal_idle_nodes_say_little(remote_crew, network, figure):
    seconds, count = sized(6, 61), sized(2_000, 100_000)
    nodes = await remote_crew.cluster("a", "b")
    await nodes[0].ask("fill", within=120, prefix="k", count=count, size=100)
    await nodes[1].ask("fill", within=120, prefix="l", count=count, size=100)
    await agreed(*nodes, within=20)
    await trio.sleep(1.5)  # rows of the last writes
    grown, rate = await watched(network, nodes, seconds)
    for node in grown:
        assert {name: node[name] for name in _MOVED} == dict.fromkeys(_MOVED, 0)
    # A comparison that finds nothing is two messages, OPEN and EQUAL; who answers EQUAL has put off its own.
    equal = sum(node["sessions_equal"] for node in grown)
    assert equal <= 1 + seconds // 10
    assert rate <= 2_000
    figure(
        f"{2 * count:,} equal keys, {seconds} s: {2 * equal} session messages, no lists, no entries, "
        f"{rate:.0f} bytes/s sent by each node, headers included"
    )


async def test_a_thousand_expiries_a_second_move_no_entry(remote_crew, network, figure):
    """Both nodes let the same thousand go each second, each for itself."""
    seconds, rate = sized(4, 60), 1_000
    nodes = await remote_crew.cluster("a", "b")
    await nodes[0].ask("lease", within=60, prefix="k", count=seconds * rate, rate=rate, seconds=sized(3, 10))
    await agreed(*nodes, within=2)
    await trio.sleep(1)
    grown, bytes_ = await watched(network, nodes, seconds + sized(3, 10))
    for node in grown:
        assert {name: node[name] for name in _MOVED} == dict.fromkeys(_MOVED, 0)
        assert node["visible"] == -seconds * rate, "not all of it has died meanwhile"
    assert bytes_ <= 2_000
    figure(f"{seconds * rate:,} expiries in {seconds} s: no entry moved, {bytes_:.0f} bytes/s sent by each node")
