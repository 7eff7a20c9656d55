"""A codec of one's own: what it writes and reads, and what nodes with another one, or none, make of it."""

from __future__ import annotations

import json
import time
import zlib

import pytest

from crdtcache import ConfigError, EncodeError, MsgpackCodec, Node, Unknown, ValueTooLarge


class Json:
    tag = 200

    def encode(self, value):
        return json.dumps(value).encode()

    def decode(self, data):
        return json.loads(data)


class Squeezed:
    """As users write one: the built-in format, compressed."""

    tag = 201

    def __init__(self):
        self.inner = MsgpackCodec()

    def encode(self, value):
        return zlib.compress(self.inner.encode(value))

    def decode(self, data):
        return self.inner.decode(zlib.decompress(data))


@pytest.mark.parametrize("codec", [Json(), Squeezed()], ids=["json", "squeezed"])
def test_values_come_back_as_copies_by_every_way(codec):
    node = Node(codec=codec)
    seen = []
    node.on("set", "deleted", call=lambda event: seen.append(event.value or event.old))
    value = {"n": [1, None, "x"]}
    node["a"] = value
    node["a"]["n"].append(2)
    assert node["a"] == node.get("a") == node.peek("a") == value
    node.update(b=[1])
    assert node.get_or_set("c", lambda: [2]) == [2]
    assert node.cached(key="d")(lambda: [3])() == [3]
    assert dict(node.items()) == {"a": value, "b": [1], "c": [2], "d": [3]}
    assert node.pop("a") == value
    assert seen == [value, [1], [2], [3], value]


def test_scalars_are_stored_as_they_are():
    node = Node(codec=Json())
    scalars = [None, True, 5, -(1 << 63), (1 << 64) - 1, 1.5, "text", b"\x00bytes"]
    for i, scalar in enumerate(scalars):
        node[i] = scalar
    assert list(node.values()) == scalars


def test_squeezing_makes_room():
    node = Node(codec=Squeezed())
    node["a"] = ["x" * 1_000] * 100
    assert node["a"] == ["x" * 1_000] * 100
    with pytest.raises(ValueTooLarge):
        Node()["a"] = ["x" * 1_000] * 100


def test_what_goes_wrong_in_a_codec(caplog):
    class Broken(Json):
        def decode(self, data):
            raise LookupError("lost the key")

    node = Node(codec=Broken())
    with pytest.raises(EncodeError, match="object"):
        node["a"] = [object()]
    node["a"] = [1]
    assert node.get("a", "missed") == "missed"
    assert "lost the key" in caplog.text
    assert node.stats()["unreadable"] == 1
    with pytest.raises(EncodeError, match="not as bytes"):
        Node(codec=type("Text", (Json,), {"encode": lambda self, value: "text"})())["a"] = [1]


@pytest.mark.parametrize("tag", [None, 1, 127, 256, "200"])
def test_a_tag_is_needed(tag):
    with pytest.raises(ConfigError, match="128 to 255"):
        Node(codec=type("Bad", (Json,), {"tag": tag})())
    with pytest.raises(ConfigError):
        Node(codec=MsgpackCodec())


def test_nodes_with_and_without_it_share_a_map():
    one = Node(listen="127.0.0.1:0", codec=Json()).start()
    with one, Node([one.status()["address"]], listen="127.0.0.1:0") as two:
        assert two.wait_ready()
        one["by json"] = [1]
        two["plain"] = (2,)
        end = time.monotonic() + 10
        while not ("by json" in two and "plain" in one):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert one["plain"] == (2,)
        assert two["by json"] == Unknown(200, b"[1]", whole=True)
        assert one.digest() == two.digest()
