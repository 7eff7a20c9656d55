"""Who waits until others have what was written is told the truth, soon, and never waits for who is gone."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import pytest

from crdtcache import Node, Version, WouldBlock
from crdtcache.receipts import Reach
from crdtcache.testing import LocalCluster


def test_a_wait_names_who_has_it_and_who_has_not() -> None:
    with LocalCluster(4, regions=["eu", "us"]) as cluster:
        first = cluster[0]
        others = [node.name for node in cluster[1:]]
        first["k"] = 1
        done = first.wait_replicated(to="all")
        assert done.ok
        assert sorted(done.acked) == sorted(others)
        assert done.missing == []
        assert all(node["k"] == 1 for node in cluster)
        cluster.cut("eu", "us")
        first["k"] = 2
        assert first.wait_replicated(to="region").ok
        cut_off = first.wait_replicated(to="all", timeout=0.3)
        assert not cut_off.ok
        assert cut_off.acked == ["eu-2"]
        assert sorted(cut_off.missing) == ["us-1", "us-2"]
        assert 0.3 <= cut_off.elapsed < 1
        assert not first.wait_replicated(to="regions", timeout=0).ok
        assert not first.wait_replicated(to="majority", timeout=0).ok
        assert first.wait_replicated(to=1).ok
        cluster.heal()
        assert first.wait_replicated(to="all").ok
        assert first.wait_replicated(to="majority").ok
        assert first.wait_replicated(to=3).ok
        assert all(node["k"] == 2 for node in cluster)


def test_one_has_it_within_three_round_trips() -> None:
    one_way_s = 0.02
    with LocalCluster(3) as cluster:
        cluster.latency(one_way_s)
        took = []
        for number in range(15):
            cluster[0]["k"] = number
            done = cluster[0].wait_replicated(to="one")
            assert done.ok
            took.append(done.elapsed)
    assert median(took) <= 3 * 2 * one_way_s, took  # the slowest of them is this machine's, when others use it too


def test_a_version_that_was_handed_on_is_waited_for() -> None:
    """Read your own writes elsewhere: with the request goes the version."""
    with LocalCluster(2, regions=["eu", "us"]) as cluster:
        eu, us = cluster
        version = eu.set("k", 1)
        assert us.wait_seen(str(version))
        assert us["k"] == 1
        assert eu.wait_replicated(str(version), to="all").ok
        cluster.cut("eu", "us")
        assert not us.wait_seen(eu.set("k", 2), timeout=0.05)
        assert eu.wait_seen(eu.version("k"), timeout=0)


def test_the_twins_wait_in_a_loop_and_the_plain_ones_refuse_to() -> None:
    async def use(first: Node[Any, Any], second: Node[Any, Any]) -> None:
        version = first.set("k", 1)
        assert (await first.areplicated(to="all")).ok
        assert await second.aseen(version)
        with pytest.raises(WouldBlock, match="areplicated"):
            first.wait_replicated()
        with pytest.raises(WouldBlock, match="aseen"):
            first.wait_seen(version)

    with LocalCluster(2) as cluster:
        asyncio.run(use(cluster[0], cluster[1]))


def test_who_is_alone_has_told_all_and_who_has_met_nobody_of_its_peers_has_not() -> None:
    alone = Node()
    alone["k"] = 1
    assert alone.wait_replicated(to="all", timeout=0).ok
    assert not alone.wait_replicated(to="one", timeout=0).ok
    lonely = Node("127.0.0.1:9")
    lonely["k"] = 1
    assert not lonely.wait_replicated(to="all", timeout=0).ok


def test_what_cannot_be_waited_for_is_refused() -> None:
    with pytest.raises(ValueError, match="to='everybody'"):
        Node().wait_replicated(to="everybody")  # type: ignore[arg-type]
    for mistaken in ("all", 2, -1, b"a-b"):
        with pytest.raises(ValueError, match=f"not a version; did you mean to={mistaken!r}"):
            Node().wait_replicated(mistaken)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a version"):
        Node().wait_seen("yesterday")
    with pytest.raises(ValueError, match="not a version"):
        Node().wait_replicated("yesterday")
    assert not Node().wait_seen(Version(1, 2), timeout=0)


def test_a_wait_that_comes_to_nothing_says_why() -> None:
    assert Node().wait_replicated(timeout=60).elapsed < 1
    assert Node().wait_replicated(timeout=0).why == "this node does not run: call start()"
    with Node(listen="127.0.0.1:0") as alone:
        assert alone.wait_replicated(timeout=0).why == "no other node is known to be up"
    with LocalCluster(2) as cluster:
        first = cluster[0]
        first["k"] = 1
        assert first.wait_replicated().why == ""
        assert first.wait_replicated(to=5, timeout=0).why == "to=5, and only 1 other node is known to be up"
        cluster.cut(first)
        first["k"] = 2
        assert first.wait_replicated(timeout=0.1).why.startswith("not yet heard from node-2")
        first.close()
        assert first.wait_replicated(timeout=0).why == "this node does not run: call start()"


@pytest.mark.parametrize(("to", "silent"), [("region", ["eu-2"]), ("regions", ["us-1"]), ("all", ["us-1", "eu-2"])])
def test_a_wait_for_some_regions_names_none_of_another(to: Reach, silent: list[str]) -> None:
    with LocalCluster(3, regions=["eu", "us"]) as cluster:
        assert cluster[0].wait_ready(min_peers=2)
        cluster.cut(0)
        cluster[0]["k"] = 1
        why = cluster[0].wait_replicated(to=to, timeout=0).why
        assert [name for name in ("us-1", "eu-2") if name in why] == silent


async def test_all_of_twenty_four_have_it_within_a_second() -> None:
    """In one thread and one process, which is more work at once than any of them would have alone."""
    async with AsyncExitStack() as stack:
        nodes: list[Node[str, int]] = []
        for _ in range(24):
            peers = [nodes[0].status()["address"]] if nodes else None
            nodes.append(await stack.enter_async_context(Node(peers, listen="127.0.0.1:0")))
        assert await nodes[0].aready(20, min_peers=23)
        took = []
        for number in range(11):
            nodes[0]["k"] = number
            done = await nodes[0].areplicated(to="all", timeout=10)
            assert done.ok
            assert len(done.acked) == 23
            took.append(done.elapsed)
        assert sorted(took)[5] <= 1.0, took
