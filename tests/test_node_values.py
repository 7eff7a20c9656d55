"""What can be a key or a value; what cannot is refused and changes nothing."""

from __future__ import annotations

import pytest

from crdtcache.errors import EncodeError, KeyTypeError, ValueTooLarge
from crdtcache.node import Node
from tests.node_clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def node(clock):
    return Node(clock=clock, name="n")


@pytest.mark.parametrize("key", ["", "ключ", "k" * 1_000, b"\xff", 0, -1, 2**63, ("a", 1, (b"b",)), 2**64 - 1])
def test_keys(node, key):
    node[key] = "v"
    assert node[key] == "v"
    assert list(node) == [key]


BAD_KEYS = [
    (True, KeyTypeError),
    (1.5, KeyTypeError),
    (None, KeyTypeError),
    (frozenset(), KeyTypeError),
    (("a", 1.5), KeyTypeError),
    (((((((1,),),),),),), KeyTypeError),
    (2**64, KeyTypeError),
    ("\ud800", EncodeError),
    ("\ud800" * 300, EncodeError),
    ("k" * 1_022, ValueTooLarge),
    ("я" * 600, ValueTooLarge),
    (b"k" * 1_100, ValueTooLarge),
]


@pytest.mark.parametrize(("key", "error"), BAD_KEYS)
def test_bad_keys_are_refused_and_change_nothing(node, key, error):
    node["kept"] = 1
    digest = node.digest()
    calls = [
        lambda: node.set(key, 1),
        lambda: node.add(key, 1),
        lambda: node.set_many({"fine": 1, key: 1}),
        lambda: node.get(key),
        lambda: node[key],
        lambda: node.peek(key),
        lambda: key in node,
        lambda: node.delete(key),
        lambda: node.delete_many(["kept", key]),
        lambda: node.evict(key),
        lambda: node.pop(key, None),
        lambda: node.setdefault(key, 1),
        lambda: node.ttl(key),
        lambda: node.touch(key, 1),
        lambda: node.expire(key, 1),
        lambda: node.version(key),
    ]
    for call in calls:
        with pytest.raises(error):
            call()
    assert dict(node) == {"kept": 1}
    assert node.digest() == digest


def test_an_unhashable_key_is_a_type_error(node):
    for call in (lambda: node.set([], 1), lambda: node.get([]), lambda: [] in node, lambda: node.delete([])):
        with pytest.raises(TypeError):
            call()


class Opaque:
    pass


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (Opaque(), EncodeError),
        ("\ud800", EncodeError),
        (["\ud800"], EncodeError),
        (lambda: 1, EncodeError),
        ("x" * 32_769, ValueTooLarge),
        ("я" * 20_000, ValueTooLarge),
        (b"x" * 32_769, ValueTooLarge),
        (["x" * 40_000], ValueTooLarge),
    ],
)
def test_bad_values_are_refused_and_nothing_is_lost(node, value, error):
    node["k"] = "before"
    version = node.version("k")
    for call in (
        lambda: node.set("k", value),
        lambda: node.update(k="after", other=value),
        lambda: node.set_many([("k", 1), ("new", value)]),
        lambda: node.add("new", value),
        lambda: node.setdefault("new", value),
    ):
        with pytest.raises(error):
            call()
    assert dict(node) == {"k": "before"}
    assert node.version("k") == version


def test_a_value_at_the_limit_is_kept(node):
    for value in ("x" * 32_768, b"x" * 32_768, "я" * 16_384):
        node["k"] = value
        assert node["k"] == value
    small = Node(max_value_bytes=10)
    small["k"] = "x" * 10
    with pytest.raises(ValueTooLarge, match=r"11 bytes.* limit of 10.* store it in parts"):
        small["k"] = "x" * 11
    assert small.status()["settings"]["max_value_bytes"] == 10
    assert node.status()["settings"]["max_value_bytes"] == 32_768  # whatever the argument says, until values are cut


def test_big_ints_booleans_and_floats_keep_their_types(node):
    for value in (True, False, 1, 1.0, 2**63, 2**64, -(2**63), -(2**63) - 1, 0.1, float("inf")):
        node["k"] = value
        assert node["k"] == value
        assert type(node["k"]) is type(value)
