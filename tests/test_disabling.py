"""A cache that is switched off for a while: nothing is found, nothing is stored, nothing breaks."""

from __future__ import annotations

import pytest

from crdtcache.arguments import MISSING
from crdtcache.errors import EncodeError, KeyTypeError
from crdtcache.node import Node


@pytest.fixture
def node():
    node = Node()
    node.update(a=1, b=[2])
    return node


def test_nothing_is_found(node):
    with node.disabled():
        assert (node.get("a"), node.get("a", 7), node.peek("b", MISSING)) == (None, 7, MISSING)
        assert (len(node), list(node), dict(node.items()), "a" in node) == (0, [], {}, False)
        assert (node.version("a"), node.get_many(["a"]), node.pop("a", 3)) == (None, {}, 3)
        for missing in (lambda: node["a"], lambda: node.pop("a"), node.popitem, lambda: node.ttl("a")):
            with pytest.raises(KeyError):
                missing()
    assert dict(node) == {"a": 1, "b": [2]}


def test_nothing_is_stored_or_removed(node):
    with node.disabled():
        node["c"] = 3
        node.update(d=4)
        assert node.set("e", 5) is None
        assert node.set_many({"f": 6}) is None
        assert node.add("g", 7) is False
        assert node.setdefault("h", 8) == 8
        assert (node.delete("a"), node.touch("a", 5), node.expire("a", 5), node.evict("a")) == (False,) * 4
        node.clear()
        node.check_expiry()
    assert dict(node) == {"a": 1, "b": [2]}
    node["c"] = 3
    assert "c" in node


def test_mistakes_are_told_all_the_same(node):
    with node.disabled():
        with pytest.raises(KeyTypeError):
            node.get(1.5)
        with pytest.raises(KeyTypeError):
            node[1.5] = 1
        with pytest.raises(EncodeError):
            node["x"] = object()


def test_functions_run_each_time(node):
    runs = []

    @node.cached
    def load() -> int:
        runs.append(1)
        return len(runs)

    with node.disabled():
        assert [load(), load(), node.get_or_set("k", load)] == [1, 2, 3]
    assert [load(), load()] == [4, 4]


def test_twice_and_after_an_error_and_while_it_runs(node):
    with pytest.raises(LookupError), node.disabled(), node.disabled():
        raise LookupError
    assert node["a"] == 1
    with node.start(), node.disabled():
        assert "a" not in node
        assert repr(node).startswith("<Node ")
    assert (node["a"], node.running, type(node)) == (1, False, Node)
