"""The seven promises of the README, each shown as a user would try it: real nodes, real sockets, cuts and clocks.

These are the short proofs. Behind each stand harder ones, which the README names beside them.
"""

from __future__ import annotations

import itertools
import random
import time
from datetime import UTC, datetime, timedelta

from crdtcache import MISSING, Node, Tuning
from crdtcache.testing import FakeClock, LocalCluster


def test_1_whatever_was_cut_and_delayed_all_end_with_the_same_map():
    rng = random.Random(1)
    with LocalCluster(4, regions=["eu", "us"]) as cluster:
        cluster.latency("20ms", "eu", "us")
        for round_ in range(3):
            cluster.cut(*[("eu", "us"), (0, 1), (3, None)][round_])
            for n in range(300):
                node, key = rng.choice(cluster), rng.randrange(50)
                if rng.random() < 0.2:
                    node.delete(key)
                else:
                    node.set(key, [round_, n])
            assert not cluster.converged(0.05)
            cluster.heal()
        assert cluster.converged(15)
        maps = [dict(node) for node in cluster]
        assert maps == [maps[0]] * 4
        assert 20 < len(maps[0]) < 50


def test_2_what_was_deleted_or_expired_stays_away_however_long_a_node_was_cut_off():
    forgetful = Tuning(log_records=20, context_ms=100, redial_ms=100, redial_slow_ms=100)  # the log is no help
    with LocalCluster(3, tuning=forgetful) as cluster:
        here, there, away = cluster
        here.update(dict.fromkeys(range(100), "old"))
        here.set("session", "abc", ttl="1h")
        assert cluster.converged(15)
        cluster.cut(away)
        here.delete_many(range(100))
        eventually(lambda: len(there) == 1 and there.regions["node"].connected == 1)
        cluster.clock.tick("30d")
        eventually(lambda: here.stats()["dead"] == there.stats()["dead"] == 0)  # nobody even remembers
        assert (len(here), len(there), len(away)) == (0, 0, 100)
        cluster.heal()
        assert cluster.converged(15)
        assert [dict(node) for node in cluster] == [{}, {}, {}]
        assert "session" not in away


def test_3_the_value_that_all_see_is_the_newest_that_has_left_its_node():
    with LocalCluster(3) as cluster:
        first, second, third = cluster
        versions = {}
        cluster.cut(third)
        for n, node in zip(range(60), itertools.cycle(cluster), strict=False):
            version = node.set(n % 7, n)
            versions[n % 7] = max(versions.get(n % 7, (version, n)), (version, n))
        first["from one who is gone"] = 1
        eventually(lambda: "from one who is gone" in second)
        first.close()
        cluster.heal()
        assert cluster.converged(15)
        for key, (version, value) in versions.items():
            assert (second.version(key), second[key], third[key]) == (version, value, value)
        assert third["from one who is gone"] == 1


def test_4_without_any_network_every_call_works_and_waits_for_nothing():
    with Node(["192.0.2.1", "no-such-host.invalid"], listen="127.0.0.1:0") as alone:

        @alone.cached
        def square(n):
            return n * n

        began = time.monotonic()
        for n in range(1_000):
            alone[n] = n
            assert (alone[n], square(n), alone.delete(n)) == (n, n * n, True)
        assert time.monotonic() - began < 5  # 4,000 calls; one that waited for the network would take that long
        assert alone.wait_ready(0) is False
    alone["after"] = "the end"
    assert alone["after"] == "the end"


def test_5_a_clock_that_is_a_year_fast_spoils_nothing():
    fast = FakeClock(datetime.now(UTC) + timedelta(days=365), running=True)
    with LocalCluster(2) as cluster:
        one, other = cluster
        one.set("session", "abc", ttl="1h")
        one["price"] = 7
        assert cluster.converged(15)
        address = one.status()["address"]
        with Node([address], cluster=one.cluster, listen="127.0.0.1:0", clock=fast) as liar:
            liar.wait_ready(2)
            liar["price"] = "spoilt"
            liar.check_expiry()
            time.sleep(0.3)
            one["price"] = 8  # written after it, so it counts, whatever the liar's clock says
            eventually(lambda: other.get("price") == 8)
            time.sleep(0.3)
        assert [(node["price"], node["session"]) for node in cluster] == [(8, "abc")] * 2
        assert 3_590 < one.ttl("session") < 3_600


def test_6_what_a_node_keeps_is_bounded_also_while_nobody_takes_its_writes():
    with LocalCluster(2, maxsize=1_000, max_bytes="2MB") as cluster:
        one, other = cluster
        cluster.cut(one)
        for n in range(30_000):
            one.set(n % 5_000, b"x" * 1_000)  # 30 MB of writes, 5 MB of values
        assert len(one) <= 1_000
        assert one.stats()["bytes"] <= 2_000_000
        assert one.stats()["log_records"] <= 131_072
        cluster.heal()
        assert cluster.converged(15)
        assert len(other) <= 1_000
        assert other.stats()["bytes"] <= 2_000_000


def test_7_who_has_little_memory_makes_nobody_forget():
    with LocalCluster(2) as cluster:
        large, _ = cluster
        address = large.status()["address"]
        with Node([address], cluster=large.cluster, listen="127.0.0.1:0", maxsize=10, clock=cluster.clock) as small:
            assert small.wait_ready()
            for n in range(500):
                version = small.set(n, n)
                if n % 5 == 4:  # what nobody has taken yet is evicted last, but it is
                    assert small.wait_replicated(version, to="all", timeout=15).ok
            eventually(lambda: all(len(node) == 500 for node in cluster))
            eventually(lambda: small.digest() == large.digest())  # what it dropped it still knows of
            assert len(small) <= 10
            gone = next(n for n in range(500) if small.get(n, MISSING) is MISSING)
            assert "evicted" in small.inspect(gone)
            assert [node[gone] for node in cluster] == [gone, gone]


def eventually(true, seconds=15.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
