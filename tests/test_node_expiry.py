"""Conditions and times of entries, on a clock of the test's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from crdtcache.node import Node
from tests.node_clock import START_MS, FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def node(clock):
    return Node(clock=clock, name="n")


def test_add_stores_only_what_is_absent(node, clock):
    assert node.add("k", 1, ttl=5) is True
    assert node.add("k", 2) is False
    assert node["k"] == 1
    clock.tick(5)
    assert node.add("k", 3) is True
    assert node["k"] == 3
    node.evict("k")
    assert node.add("k", 4) is False  # it is still there for the others
    node.delete("k")
    assert node.add("k", 5) is True


def test_conditions_of_set(node):
    assert node.set("k", 1, if_present=True) is None
    assert node.set("k", 1, if_absent=True) is not None
    assert node.set("k", 2, if_absent=True) is None
    assert node.set("k", 3, if_present=True) is not None
    assert node["k"] == 3
    with pytest.raises(ValueError, match="contradicts"):
        node.set("k", 1, if_absent=True, if_present=True)


def test_keep_ttl(node, clock):
    node.set("k", 1, ttl=10)
    clock.tick(3)
    node.set("k", 2, keep_ttl=True)
    assert (node["k"], node.ttl("k")) == (2, 7)
    node.set("k", 3)
    assert node.ttl("k") is None
    node.set("new", 1, keep_ttl=True)
    assert node.ttl("new") is None
    with pytest.raises(ValueError, match="keep_ttl"):
        node.set("k", 1, ttl=5, keep_ttl=True)


def test_an_expired_entry_is_missing_everywhere(node, clock):
    for key, value in (("scalar", 1), ("packed", [1])):
        node.set(key, value, ttl=1)
    node["stays"] = 1
    clock.tick(0.999)
    assert node.get("scalar") == 1
    assert node["packed"] == [1]
    assert len(node) == 3
    clock.tick(0.001)
    misses = node.stats()["misses"]
    assert node.get("scalar") is None
    assert node.get("packed") is None
    assert node.stats()["misses"] == misses + 2
    assert node.peek("scalar") is None
    assert "scalar" not in node
    assert node.get_many(["scalar", "stays"]) == {"stays": 1}
    with pytest.raises(KeyError):
        node["scalar"]
    with pytest.raises(KeyError):
        node.ttl("scalar")
    assert node.pop("scalar", 7) == 7
    assert node.delete("scalar") is False
    assert len(node) == 1
    assert list(node) == ["stays"]


def test_ttl_and_expires_at(node, clock):
    node.set("k", 1, ttl="1m30s")
    assert node.ttl("k") == 90
    assert node.expires_at("k") == datetime.fromtimestamp(START_MS / 1_000 + 90, UTC)
    node.set("k", 1, expires_at=datetime.fromtimestamp(START_MS / 1_000 + 5, UTC))
    assert node.ttl("k") == 5
    node.set("k", 1, expires_at=START_MS / 1_000 + 7.5)
    assert node.ttl("k") == 7.5
    node.set("k", 1, ttl=timedelta(milliseconds=1))
    assert node.ttl("k") == 0.001
    node["k"] = 1
    assert (node.ttl("k"), node.expires_at("k")) == (None, None)
    node.set("k", 1, ttl="99999999h")
    assert node.expires_at("k") == datetime.max.replace(tzinfo=UTC)
    node.delete("k")
    for call in (node.ttl, node.expires_at):
        with pytest.raises(KeyError):
            call("absent")


@pytest.mark.parametrize(
    "arguments",
    [
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": float("nan")},
        {"ttl": float("inf")},
        {"ttl": "soon"},
        {"ttl": 1e300},
        {"ttl": 2**52},
        {"expires_at": START_MS / 1_000},
        {"expires_at": datetime(2100, 1, 1)},
        {"ttl": 1, "expires_at": START_MS},
        {"ttl": None, "expires_at": START_MS},
    ],
)
def test_bad_times_are_value_errors_and_change_nothing(node, arguments):
    node["k"] = 1
    with pytest.raises(ValueError, match=r"ttl|expires_at"):
        node.set("k", 2, **arguments)
    assert node["k"] == 1


def test_bad_types_of_time(node):
    for ttl in (True, [], b"1s"):
        with pytest.raises(TypeError, match="ttl"):
            node.set("k", 1, ttl=ttl)


def test_the_default_ttl(clock):
    node = Node(ttl="10s", clock=clock)
    node["a"] = 1
    node.set("b", 1, ttl=None)
    node.set("c", 1, ttl=3)
    node.add("d", 1)
    node.update(e=1)
    node.setdefault("f", 1)
    assert [node.ttl(key) for key in "abcdef"] == [10, None, 3, 10, 10, 10]
    clock.tick(4)
    assert node.touch("a")
    assert node.ttl("a") == 10


def test_touch_and_expire(node, clock):
    node.set("k", 1, ttl=10)
    version = node.version("k")
    assert node.touch("k", 20) is True
    assert node.ttl("k") == 20
    assert node.expire("k", "1m") is True
    assert node.ttl("k") == 60
    assert node.expire("k", None) is True
    assert node.ttl("k") is None
    assert node.version("k") == version  # a lease, no write
    node.touch("k", 1)
    clock.tick(1)
    assert node.touch("k", 10) is False  # a touch never revives
    assert node.get("k") is None
    assert node.touch("absent") is False
    assert node.expire("absent", 5) is False
    with pytest.raises(ValueError, match="positive"):
        node.touch("k", 0)


def test_expire_with_nothing_left_deletes(node):
    node["k"] = 1
    assert node.expire("k", 0) is True
    assert "k" not in node
    assert node.expire("k", -5) is False


def test_check_expiry_says_which(node, clock):
    node.set("a", 1, ttl=1)
    node.set("b", 2, ttl=1)
    node.set("c", 3, ttl=9)
    assert node.check_expiry() == []
    clock.tick(1)
    assert sorted(node.check_expiry()) == ["a", "b"]
    assert node.check_expiry() == []
    clock.tick(8)
    assert node.check_expiry("b") == []
    node.set("d", 4, ttl=1)
    clock.tick(1)
    assert node.check_expiry("d") == ["d"]


def test_without_a_driver_writes_keep_house(clock):
    node = Node(clock=clock)
    for i in range(500):
        node.set(("short", i), i, ttl=1)
    clock.tick(2)
    for i in range(4_100):
        node[i] = i
    assert node.stats()["live"] == 4_100
