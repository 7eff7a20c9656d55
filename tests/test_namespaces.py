"""A namespace is a mapping of its own over the keys of one node."""

from __future__ import annotations

import asyncio

import pytest
import trio

from crdtcache.errors import ConfigError, WouldBlock
from crdtcache.node import Node
from tests.node_clock import FakeClock

both_loops = pytest.mark.parametrize("run", [trio.run, lambda main: asyncio.run(main())], ids=["trio", "asyncio"])


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def node(clock):
    return Node(clock=clock, ttl=100)


def test_it_is_a_mapping_that_sees_only_its_own(node):
    node.update({"user": 0, "users:1": 0, ("user", "1"): 0, ("user", 1, 2): 0})
    before = dict(node)
    users = node.namespace("user")
    users["1"] = {"name": "Ada"}
    users[2] = {"name": "Grace"}
    users[("a", b"b")] = 3
    assert dict(users) == {"1": {"name": "Ada"}, 2: {"name": "Grace"}, ("a", b"b"): 3}
    assert node["user:1"] == {"name": "Ada"}
    assert node["user", 2] == {"name": "Grace"}
    assert len(users) == 3
    assert "1" in users
    assert 3 not in users
    assert users.get_many(["1", "x"]) == {"1": {"name": "Ada"}}
    assert users.pop(2) == {"name": "Grace"}
    assert users.setdefault("1", 5) == {"name": "Ada"}
    assert users.delete("1") is True
    with pytest.raises(KeyError):
        users["1"]
    with pytest.raises(KeyError):
        del users["1"]
    users.set_many({"1": 1, "2": 2})
    assert users.delete_many(["1", "9"]) == 1
    users.clear()
    assert dict(node) == before
    assert repr(users).startswith("<Namespace user 0 keys of <Node")


def test_its_ttl_is_its_own(node):
    users = node.namespace("user", ttl="10s")
    users["a"] = 1
    users.set("b", 1, ttl=5)
    users.set_many({"c": 1})
    users.set("d", 1, ttl=None)
    assert [users.ttl(key) for key in "abcd"] == [10, 5, 10, None]
    assert users.touch("b")
    assert users.expire("a", 7)
    assert [users.ttl(key) for key in "ab"] == [7, 10]
    assert users.add("a", 2) is False
    assert users.add("e", 2) is True
    assert node.namespace("other").set("x", 1)
    assert node.ttl("other:x") == 100


def test_its_loader_gets_the_key_as_it_is_called_there(node, clock):
    loaded = []

    def load(number: int) -> str | None:
        loaded.append(number)
        return None if number == 0 else f"user {number}"

    users = node.namespace("user", ttl=10, loader=load, negative_ttl=2, stale_ttl=5)
    assert (users[7], users.get_or_set(7), users[0], users.get(8)) == ("user 7", "user 7", None, None)
    assert (users.ttl(7), users.ttl(0)) == (15, 7)
    assert users.get_or_set(9, lambda: "given") == "given"
    assert loaded == [7, 0]


def test_a_default_buries_no_write_that_came_meanwhile():
    class Meanwhile:
        tag = 200

        def encode(self, value):
            users.set(1, "meanwhile")
            return b""

        def decode(self, data):
            raise AssertionError("it was never stored")

    users = Node(codec=Meanwhile()).namespace("user", ttl=5)
    assert users.setdefault(1, []) == users[1] == "meanwhile"
    assert users.setdefault(2, "default") == users[2] == "default"
    assert 4 < users.ttl(2) <= 5
    with users._cache.disabled():
        assert users.setdefault(3, "default") == "default"
    assert 3 not in users


@both_loops
def test_in_an_event_loop(node, run):
    async def load(number: int) -> str:
        return f"user {number}"

    users = node.namespace("user", loader=load)

    async def main():
        with pytest.raises(WouldBlock, match=r"await namespace.aget_or_set\(key\)"):
            users[1]
        assert (users.pop(1, "none"), users.setdefault(2, "set"), users.pop(2)) == ("none", "set", "set")
        with pytest.raises(WouldBlock, match="aget_or_set"):
            users.get_or_set(1)
        assert await users.aget_or_set(1) == users[1] == "user 1"

    run(main)


@pytest.mark.parametrize("name", ["", 5])
def test_a_name_is_text(node, name):
    with pytest.raises(ConfigError, match="namespace"):
        node.namespace(name)


def test_what_is_loaded_while_it_is_cleared_is_not_kept(node):
    users = node.namespace("user", loader=lambda key: users.clear() or key)
    assert (users["42"], users[42]) == ("42", 42)
    assert not node


def test_a_time_to_live_that_is_none_is_told_at_once(node):
    for times in ({"ttl": 0}, {"negative_ttl": -1}):
        with pytest.raises(ConfigError, match="must be positive"):
            node.namespace("user", **times)
