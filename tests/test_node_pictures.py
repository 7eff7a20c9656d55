"""What a node was told, what it counts, and what it shows of itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from crdtcache.errors import ConfigError, KeyTypeError
from crdtcache.node import Node
from crdtcache.testing import LocalCluster
from crdtcache.tuning import Tuning
from tests.node_clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def node(clock):
    return Node(clock=clock, name="n")


def test_hits_and_misses(node):
    node.update(a=1, b=[1])
    for key in ("a", "b", "c"):
        node.get(key)
        node.peek(key)
        key in node  # noqa: B015
    with pytest.raises(KeyError):
        node["d"]
    list(node.items())
    assert node.cache_info()[:2] == (2, 2)
    assert (node.stats()["hits"], node.stats()["misses"]) == (2, 2)


def test_repr_and_status(clock):
    node = Node(["10.0.0.1"], name="web-1", cluster="shop", region="eu", secret="hush", clock=clock)
    node["a"] = 1
    assert repr(node) == "<Node web-1 shop/eu new 0 peers 1 key>"
    status = node.status()
    text = json.dumps(status)
    assert "hush" not in text
    assert (status["settings"]["secret"], status["state"], status["mode"]) == ("***", "new", None)
    assert (status["keys"], status["digest"]) == (1, f"{node.digest():016x}")
    assert (node.cluster, node.region) == ("shop", "eu")
    assert node.regions == {"eu": (0, 0, None)}
    assert node.peers == []
    assert json.loads(text) == status


@pytest.mark.parametrize(
    "arguments",
    [
        {"cluster": ""},
        {"region": 5},
        {"name": "a\nb"},
        {"name": "x" * 300},
        {"zone": ""},
        {"secret": ""},
        {"secret": 5},
        {"peers": [5]},
        {"peers": "10.0.0.1:273800"},
        {"peers": ["10.0.0.1", "http://10.0.0.2"]},
        {"peers": ["0.0.0.0"]},
        {"listen": "127.0.0.1:x"},
        {"listen": "127.0.0.1:70000"},
        {"listen": "no such host:1"},
        {"listen": ""},
        {"listen": 2738},
        {"advertise": "10.0.0.1:x"},
        {"advertise": "0.0.0.0"},
        {"maxsize": 0},
        {"maxsize": 1.5},
        {"max_bytes": "lots"},
        {"max_bytes": -1},
        {"max_value_bytes": 0},
        {"ttl": 0},
        {"ttl": "x"},
        {"sweep_interval": 0},
        {"sweep_interval": True},
        {"insecure": "false"},
        {"insecure": 1},
        {"thread": "no"},
        {"peers": 5},
        {"tuning": {"max_drift_ms": 5}},
        {"clock": 5},
    ],
)
def test_mistakes_in_the_constructor_are_named(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        Node(**arguments)


def test_memory_without_room_for_a_single_value_is_named_with_what_is_needed():
    with pytest.raises(ConfigError, match=r"max_bytes=1000 has no room .*of 500 bytes: give \d+ at least") as caught:
        Node(max_bytes=1000, max_value_bytes=500)
    node = Node(max_bytes=int(re.findall(r"\d+", str(caught.value))[-1]), max_value_bytes=500)
    longest = "k" * (Tuning().key_bytes - 3)
    node[longest] = "x" * 500
    assert len(node[longest]) == 500
    with pytest.raises(ConfigError, match=r"of 32768 bytes: give 34140 at least"):
        Node(max_bytes=1000)


def test_sweep_interval_and_tuning_meet():
    assert Node(sweep_interval=0.5).status()["settings"]["sweep_interval"] == 0.5
    assert Node(tuning=Tuning(sweep_ms=250)).status()["settings"]["sweep_interval"] == 0.25


def test_default_names_differ():
    assert Node().name != Node().name


def test_neither_import_nor_constructor_loads_trio_or_asyncio():
    code = (
        "import sys, crdtcache.node\n"
        "node = crdtcache.node.Node(['10.0.0.1']); node['a'] = 1; len(node)\n"
        "node.cached(lambda x: x)(1); repr(node)\n"
        "print([name for name in ('trio', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- a sentence about a key ----


def test_why_a_key_is_here_or_not(clock):
    node = Node(clock=clock, name="n", maxsize=2)
    assert "nothing is known of it" in node.inspect("never")
    node.set("user:42", 1, ttl=30)
    clock.tick(12)
    said = node.inspect("user:42")
    assert said.startswith("'user:42' is here: written 12 s ago by this node, expires in 18 s, no peer is connected")
    assert said.endswith(str(node.version("user:42")))
    del node["user:42"]
    clock.tick(200)
    assert node.inspect("user:42").startswith("'user:42' is not here: deleted 3 min ago by this node")
    node.set("brief", 1, ttl=1)
    clock.tick(3)
    assert node.inspect("brief").startswith("'brief' is not here: expired 2 s ago, written 3 s ago by this node")
    node.evict("brief")
    node.update(a=1)
    node.evict("a")
    assert node.inspect("a").startswith("'a' is not in this memory (evicted): written 0 ms ago by this node, never exp")
    node["c"] = 1
    node.clear()
    clock.tick(5)
    said = node.inspect("c")
    assert "all was cleared 5 s ago by this node" in said or "cleared with all else 5 s ago by this node" in said
    with pytest.raises(KeyTypeError):
        node.inspect(1.5)


def test_why_a_key_that_was_here_is_not(clock):
    node = Node(clock=clock, name="n", maxsize=1)
    node["a"] = 1
    assert node.inspect("b").endswith("never written, or deleted so long ago that it is forgotten")
    node["b"] = 1
    assert len(node) == 1
    assert "forgotten, or evicted here before anybody else had it" in node.inspect("a")


def test_why_a_key_that_is_here_is_a_miss(clock):
    class Picky:
        tag = 200

        def encode(self, value):
            return b"x"

        def decode(self, data):
            raise ValueError("not today")

    node = Node(clock=clock, codec=Picky())
    node["a"] = [1]
    assert node.get("a") is None
    assert "'a' is here but cannot be read (" in node.inspect("a")
    assert "not today" in node.inspect("a")


def test_who_has_seen_a_key_and_who_cannot_be_asked():
    with LocalCluster(3) as cluster:
        one, other, cut_off = cluster
        cluster.cut(cut_off)
        one["a"] = one["b"] = 1
        end = time.monotonic() + 5
        while "seen by 1 of 2 peers (1 not connected)" not in one.inspect("b"):
            assert time.monotonic() < end, one.inspect("b")
            time.sleep(0.005)
        one.evict("b")
        other.evict("b")
        assert "(evicted):" in one.inspect("b")
        assert "(evicted, here or before it was sent)" in other.inspect("b")
        cluster.heal()
        assert cluster.converged()
        assert cut_off["a"] == 1
        assert "(evicted before it was sent)" in cut_off.inspect("b")
        assert cut_off.wait_ready(min_peers=2)
        assert cut_off.inspect("c").endswith("forgotten")
        cluster.cut(cut_off)
        end = time.monotonic() + 5
        for node, why in ((cut_off, "no peer is connected"), (one, "1 not connected")):
            while f"or written where it is not heard of ({why})" not in node.inspect("c"):
                assert time.monotonic() < end, node.inspect("c")
                time.sleep(0.005)


def test_a_notebook_shows_a_table_and_no_markup_of_others(clock):
    node = Node(clock=clock, name="<b>n</b>", cluster="a & b")
    shown = node._repr_html_()
    assert "&lt;b&gt;n&lt;/b&gt;: a &amp; b/default, new, 0 keys" in shown
    assert "<table>" in shown
