"""`crdtcache.testing`: what a user's tests are built on must itself do what it says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest
import trio

from crdtcache import Node, WouldBlock
from crdtcache.testing import FakeClock, LocalCluster

both_loops = pytest.mark.parametrize("run", [trio.run, lambda main: asyncio.run(main())], ids=["trio", "asyncio"])


def test_a_write_is_everywhere_and_a_cut_keeps_it_where_it_is():
    with LocalCluster(3, regions=["eu", "us"]) as cluster:
        eu, us, eu2 = cluster
        assert [(node.name, node.region) for node in cluster] == [
            ("eu-1", "eu"),
            ("us-1", "us"),
            ("eu-2", "eu"),
        ]
        eu["a"] = 1
        assert cluster.converged()
        assert [node["a"] for node in cluster] == [1, 1, 1]
        cluster.cut("eu", "us")
        eu["a"] = 2
        us["b"] = 1
        assert not cluster.converged(0.3)
        assert (eu2["a"], us["a"], "b" in eu) == (2, 1, False)
        assert repr(cluster).endswith("cut: eu-1|us-1 eu-2|us-1>")
        cluster.heal()
        assert cluster.converged()
        assert [dict(node) for node in cluster] == [{"a": 2, "b": 1}] * 3
        del eu2["a"]
        assert cluster.converged()
        assert "a" not in us


def test_what_may_be_cut_and_who_then_still_hears_whom():
    with LocalCluster(3, regions=["eu", "us"]) as cluster:
        eu, us, eu2 = cluster
        cluster.cut(eu)  # from all others
        assert "cut: eu-1|eu-2 eu-1|us-1" in repr(cluster)
        us["a"] = 1
        eventually(lambda: "a" in eu2)
        assert "a" not in eu
        cluster.heal()
        cluster.cut(0, "eu-2")  # to us-1 both have a link, and what they say goes on from there
        eu["b"] = 1
        assert cluster.converged()
        for nobody in ("ap", 3, Node()):
            with pytest.raises(ValueError, match="no node and no region of this cluster: eu-1, us-1, eu-2"):
                cluster.cut(nobody)


def test_one_of_two_cuts_is_healed():
    with LocalCluster(3, regions=["eu", "us", "ap"]) as cluster:
        eu, us, ap = cluster
        cluster.cut("eu")
        cluster.cut(us, -1)
        cluster.heal("us", 0)
        assert "cut: ap-1|eu-1 ap-1|us-1>" in repr(cluster)
        eu["a"] = 1
        eventually(lambda: "a" in us)
        assert "a" not in ap


def test_before_its_with_it_says_that_it_has_no_nodes_yet():
    cluster = LocalCluster(2)
    for use in (list, lambda cluster: cluster[0], lambda cluster: cluster.cut(0)):
        with pytest.raises(RuntimeError, match="from its `with` on"):
            use(cluster)


def test_a_region_that_is_named_twice_has_two_in_each_turn():
    with LocalCluster(4, regions=["eu", "eu", "us"]) as cluster:
        assert [node.name for node in cluster] == ["eu-1", "eu-2", "us-1", "eu-3"]
        assert len(cluster) == 4


def test_latency_is_that_of_each_way():
    with LocalCluster(2) as cluster:
        one, other = cluster
        cluster.latency("150ms", one, other)
        began = time.monotonic()
        one["a"] = 1
        assert cluster.converged()
        assert time.monotonic() - began >= 0.15
        cluster.latency(0)
        one["b"] = 1
        assert cluster.converged()
        assert other["b"] == 1


def test_its_clock_goes_on_and_can_be_moved():
    with LocalCluster(2, ttl="1h") as cluster:
        one, other = cluster
        expired = []
        other.on("expired", call=lambda event: expired.append(event.key))
        one["a"] = 1
        assert cluster.converged()
        assert 3_590 < other.ttl("a") < 3_600
        cluster.clock.tick("61m")
        assert "a" not in one
        assert "a" not in other
        eventually(lambda: expired == ["a"])
        one["b"] = 1  # two nodes that heard nothing of each other for an hour begin anew
        assert cluster.converged()
        assert other["b"] == 1


def test_a_node_that_was_closed_comes_back_and_is_told_what_it_missed():
    with LocalCluster(3) as cluster:
        cluster[2].close()
        cluster[0]["a"] = 1
        assert cluster.converged()  # of those that run
        assert "a" not in cluster[2]
        cluster[2].start()
        assert cluster.converged()
        assert [node.get("a") for node in cluster[1:]] == [1, 1]


@both_loops
def test_inside_an_event_loop(run):
    async def main():
        with LocalCluster(2) as cluster:
            cluster[0]["a"] = 1
            with pytest.raises(WouldBlock, match="aconverged"):
                cluster.converged()
            assert await cluster.aconverged()
            assert cluster[1]["a"] == 1
            cluster.cut(0)
            cluster[0]["a"] = 2
            assert not await cluster.aconverged(0.2)

    run(main)


def test_nothing_of_it_is_left_behind():
    before = threading.active_count()
    with LocalCluster(2):
        assert threading.active_count() > before
    assert threading.active_count() == before


@pytest.mark.parametrize("wrong", [{"n": 0}, {"regions": []}, {"regions": "eu"}])
def test_a_cluster_has_nodes_and_regions(wrong):
    with pytest.raises(ValueError, match="LocalCluster"):
        LocalCluster(**wrong)


def test_what_it_gives_each_node_cannot_be_given():
    with pytest.raises(TypeError, match="its own clock, region; regions="):
        LocalCluster(2, region="eu", clock=FakeClock())


def test_a_wrong_argument_of_a_node_leaves_nothing_behind():
    before = threading.active_count()
    with pytest.raises(TypeError), LocalCluster(2, nonsense=1):
        pass
    assert threading.active_count() == before


def test_a_fake_clock_stands_still_until_it_is_told():
    clock = FakeClock(datetime(2027, 1, 1, tzinfo=UTC))
    node = Node(clock=clock, ttl=60)
    node["a"] = 1
    time.sleep(0.002)
    assert node.ttl("a") == 60
    assert node.expires_at("a") == datetime(2027, 1, 1, 0, 1, tzinfo=UTC)
    clock.tick("59s")
    assert node.ttl("a") == 1
    clock.tick(1)
    assert "a" not in node
    with pytest.raises(ValueError, match="negative"):
        clock.tick(-1)


def eventually(true, seconds=5.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_fixtures_of_pytest(tmp_path):
    test = tmp_path / "test_service.py"
    test.write_text(
        "from crdtcache import Node\n"
        "def test_two(local_cluster, fake_clock):\n"
        "    one, other = cluster = local_cluster(2, ttl=60)\n"
        "    one['a'] = 1\n"
        "    assert cluster.converged() and other['a'] == 1\n"
        "    node = Node(clock=fake_clock, ttl=60)\n"
        "    node['a'] = 1\n"
        "    fake_clock.tick(60)\n"
        "    assert 'a' not in node\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "crdtcache.contrib.pytest", "-W", "error", str(test)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
