"""A node that was never started is an in-process mapping."""

from __future__ import annotations

import collections

import pytest

from crdtcache.arguments import MISSING
from crdtcache.node import Node
from tests.node_clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def node(clock):
    return Node(clock=clock, name="n")


def test_is_a_mutable_mapping(node):
    assert isinstance(node, collections.abc.MutableMapping)
    node["a"] = 1
    node["b"] = "two"
    assert (node["a"], node.get("b"), node.get("c"), node.get("c", 5)) == (1, "two", None, 5)
    assert "a" in node
    assert "c" not in node
    assert len(node) == 2
    assert list(node) == ["a", "b"]
    assert dict(node.items()) == {"a": 1, "b": "two"}
    assert (list(node.keys()), list(node.values())) == (["a", "b"], [1, "two"])
    assert ("a", 1) in node.items()
    assert ("a", 2) not in node.items()
    assert 1 in node.values()
    del node["a"]
    with pytest.raises(KeyError, match="a"):
        node["a"]
    with pytest.raises(KeyError, match="a"):
        del node["a"]


def test_pop_popitem_setdefault_update(node):
    node.update({"a": 1}, b=2)
    node.update([("c", 3)])
    node.update(Node())
    assert node.pop("a") == 1
    assert node.pop("a", None) is None
    with pytest.raises(KeyError):
        node.pop("a")
    assert node.popitem() == ("b", 2)  # the least recently used
    assert node.setdefault("c", 9) == 3
    assert node.setdefault("d", 4) == 4
    assert node["d"] == 4
    assert dict(node) == {"c": 3, "d": 4}
    node.clear()
    assert dict(node) == {}
    with pytest.raises(KeyError, match="empty"):
        node.popitem()


def test_popitem_skips_what_has_expired(node, clock):
    node.set("old", 1, ttl=1)
    node["new"] = 2
    clock.tick(2)
    assert node.popitem() == ("new", 2)


def test_many(node):
    version = node.set_many({"a": 1, "b": [2]})
    assert version == node.version("b")
    assert node.set_many([]) is None
    assert node.get_many(["a", "b", "c"]) == {"a": 1, "b": [2]}
    assert node.delete_many(["a", "c"]) == 1
    assert dict(node) == {"b": [2]}


def test_iteration_is_a_snapshot(node):
    node.update({i: i for i in range(100)})
    for key in node:
        del node[key]
        node[key + 1_000] = 0
    assert len(node) == 100
    taken = iter(node.items())
    first = next(taken)
    node.clear()
    assert (first, list(taken)) == ((1_000, 0), [])


def test_none_is_a_value_and_missing_tells(node):
    node["none"] = None
    assert "none" in node
    assert node.get("none", 1) is None
    assert node.get("other", MISSING) is MISSING
    assert node.peek("other", MISSING) is MISSING
    assert (repr(MISSING), bool(MISSING)) == ("MISSING", False)


def test_nodes_are_equal_by_identity(node):
    assert node == node  # noqa: PLR0124
    assert node != Node()
    assert len({node, node}) == 1


def test_containers_come_back_as_copies(node):
    given = {"n": [1]}
    node["x"] = given
    given["n"].append(2)
    node["x"]["n"].append(3)
    node.peek("x")["n"].append(4)
    next(iter(node.values()))["n"].append(5)
    assert node["x"] == {"n": [1]}


def test_versions_grow_with_every_write_though_time_stands(node):
    versions = [node.set("k", 1), node.set("k", 1), node.set("other", 2), node.set_many({"k": 3})]
    assert versions == sorted(versions)
    assert len(set(versions)) == 4
    assert node.version("k") == versions[-1]
    assert node.version("absent") is None


def test_maxsize_evicts_the_least_recently_used(clock):
    node = Node(maxsize=10, clock=clock)
    for i in range(11):  # the first eviction begins a generation: recency is exact to within one
        node[i] = i
    assert node[1] == 1
    for i in range(11, 15):
        node[i] = i
    assert len(node) == 10
    assert 1 in node
    assert 2 not in node
    assert node.maxsize == node.cache_info().maxsize == 10


def test_max_bytes_evicts(clock):
    node = Node(maxsize=None, max_bytes="100KB", clock=clock)
    for i in range(1_000):
        node[i] = "x" * 1_000
    assert 0 < len(node) < 110
    assert 999 in node
    assert node.stats()["bytes"] <= 100_000


def test_evict_is_local_and_keeps_the_digest(node):
    node["k"] = 1
    digest, version = node.digest(), node.version("k")
    assert node.evict("k") is True
    assert node.evict("k") is False
    assert (node.get("k"), "k" in node, len(node)) == (None, False, 0)
    assert (node.digest(), node.version("k"), node.ttl("k")) == (digest, version, None)
    assert node.touch("k", 5) is True
    node.clear(local=True)
    assert node.setdefault("k", 2) == 2


def test_clear(node):
    node.update({i: i for i in range(3_000)})
    node.clear(local=True)
    assert (len(node), node.stats()["visible"]) == (0, 3_000)
    node.update({i: i for i in range(3_000)})
    node.clear()
    assert (len(node), node.stats()["visible"], node.stats()["bytes"]) == (0, 0, 0)
    node["after"] = 1
    assert dict(node) == {"after": 1}


def test_a_delete_of_an_absent_key_is_a_write(node):
    assert node.delete("never") is False
    assert node.stats()["dead"] == 1
