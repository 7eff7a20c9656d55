"""Events: what is told, to whom, in which order and thread; and that a handler can break nothing."""

from __future__ import annotations

import logging
import threading

import pytest

from crdtcache.arguments import MISSING
from crdtcache.core.messages import Hello, MemberRow
from crdtcache.core.outcome import Dial, LinkBroken, PeerDown, PeerGone, PeerUp
from crdtcache.events import KINDS, Event
from crdtcache.node import Node
from tests.node_clock import FakeClock


def told(event: Event) -> tuple[object, ...]:
    return (event.kind, event.key, event.value, event.old)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def node(clock):
    return Node(clock=clock)


@pytest.fixture
def seen(node):
    events: list[tuple[object, ...]] = []
    node.on(call=lambda event: events.append(told(event)))
    return events


def test_every_kind_of_change_in_order(node, clock, seen):
    node["a"] = 1
    node["a"] = [2]
    node.delete("a")
    node.delete("a")  # nothing visible changes
    node.set("b", 3, ttl=1)
    node.touch("b", 2)  # neither
    clock.tick(2)
    node.check_expiry()
    node["c"] = 4
    node.evict("c")
    node.pop("c", None)
    node["d"] = 5
    node.clear()
    assert seen[:8] == [
        ("set", "a", 1, MISSING),
        ("set", "a", [2], 1),
        ("deleted", "a", MISSING, [2]),
        ("set", "b", 3, MISSING),
        ("expired", "b", MISSING, 3),
        ("set", "c", 4, MISSING),
        ("evicted", "c", MISSING, 4),
        ("set", "d", 5, MISSING),
    ]
    assert sorted(seen[8:]) == [("deleted", "c", MISSING, MISSING), ("deleted", "d", MISSING, 5)]


def test_set_after_delete_and_after_expiry(node, clock, seen):
    node["a"] = 1
    del node["a"]
    node.set("a", 2, ttl=1)
    clock.tick(1)
    node["a"] = 3
    assert seen[-1] == ("set", "a", 3, 2) or seen[-1][:3] == ("set", "a", 3)
    assert [event[0] for event in seen].count("set") == 3


def test_what_an_event_carries(node):
    events = []
    node.on("set", call=events.append)
    version = node.set("a", {"x": [1]})
    (event,) = events
    assert (event.version, event.remote, event.peer, event.region) == (version, False, None, None)
    event.value["x"].append(2)
    assert event.value == {"x": [1]}
    assert node["a"] == {"x": [1]}
    assert repr(event) == "<Event set 'a'>"


def test_many_writes_are_told_one_by_one(node, seen):
    node.update({i: i for i in range(1_200)})
    assert [event[1] for event in seen] == list(range(1_200))
    node.delete_many([3, 4])
    assert [event[:2] for event in seen[-2:]] == [("deleted", 3), ("deleted", 4)]


def test_eviction_for_want_of_room_is_told(clock):
    node = Node(maxsize=5, clock=clock)
    evicted = []
    node.on("evicted", call=lambda event: evicted.append((event.key, event.old)))
    for i in range(8):
        node[i] = i * 10
    assert evicted == [(0, 0), (1, 10), (2, 20)]


def test_kinds_and_prefixes(node):
    got: dict[str, list] = {"users": [], "bytes": [], "tuples": [], "deletes": []}
    node.on("set", prefix="user:", call=lambda event: got["users"].append(event.key))
    node.on("set", prefix=b"user:", call=lambda event: got["bytes"].append(event.key))
    node.on("set", prefix=("user:",), call=lambda event: got["tuples"].append(event.key))
    node.on("deleted", call=lambda event: got["deletes"].append(event.key))
    for key in ("user:1", "item:1", b"user:2", 5, ("user:", 1), ("item:", 1), "user"):
        node[key] = 1
    del node["item:1"]
    assert got == {"users": ["user:1"], "bytes": [b"user:2"], "tuples": [("user:", 1)], "deletes": ["item:1"]}


def test_one_handler_of_two_kinds_keeps_their_order(node):
    got = []
    node.on("set", "deleted", "set", call=lambda event: got.append(event.kind))
    node["a"] = 1
    del node["a"]
    node["a"] = 1
    assert got == ["set", "deleted", "set"]


def test_subscription_as_a_decorator_and_closed(node):
    subscription = node.on("set", prefix="a")

    @subscription
    def handler(event: Event) -> None:
        got.append(event.key)

    got: list = []
    assert handler.__name__ == "handler"
    node["a1"] = 1
    subscription.close()
    subscription.close()
    node["a2"] = 1
    assert got == ["a1"]
    assert node._replica.listening is False
    with node.on("set", call=handler):
        node["a3"] = 1
    node["a4"] = 1
    assert got == ["a1", "a3"]


def test_two_handlers_of_one_subscription(node):
    got = []
    subscription = node.on("set")
    subscription(lambda event: got.append(1))
    subscription(lambda event: got.append(2))
    node["a"] = 1
    assert got == [1, 2]


def test_nothing_is_collected_while_nobody_listens(node):
    node["a"] = 1
    assert node._replica.take_events() == []
    node.on("peer_up", call=print)
    assert node._replica.listening is False
    subscription = node.on("set", call=lambda event: None)
    assert node._replica.listening is True
    subscription.close()
    assert node._replica.listening is False


def test_mistakes_in_on(node):
    with pytest.raises(ValueError, match=r"'expire'.* expired"):
        node.on("expire")
    with pytest.raises(TypeError, match="prefix"):
        node.on("set", prefix=5)
    with pytest.raises(TypeError, match="callable"):
        node.on("set", call=5)

    async def handler(event: Event) -> None: ...

    with pytest.raises(TypeError, match="async"):
        node.on("set")(handler)


def test_what_a_handler_raises_is_logged_and_goes_no_further(node, caplog):
    got = []

    def bad(event: Event) -> None:
        raise RuntimeError("boom")

    node.on("set", call=bad)
    node.on("set", call=lambda event: got.append(event.key))
    with caplog.at_level(logging.ERROR, "crdtcache"):
        node["a"] = 1
    assert (node["a"], got) == (1, ["a"])
    assert "boom" in caplog.text
    assert node.stats()["handlers_failed"] == 1


def test_a_handler_may_use_the_cache_and_end_itself(node):
    def handler(event: Event) -> None:
        subscription.close()
        node["copy"] = event.value
        assert node["a"] == 1

    subscription = node.on("set", call=handler)
    node["a"] = 1
    assert node["copy"] == 1


def test_handlers_run_in_the_thread_that_wrote(node):
    threads = []
    node.on("set", call=lambda event: threads.append(threading.get_ident()))
    writer = threading.Thread(target=lambda: node.set("a", 1))
    writer.start()
    writer.join()
    node["b"] = 1
    assert threads == [writer.ident, threading.get_ident()]


def test_each_thread_hears_its_own_writes_once_under_load(node):
    got: list = []
    node.on("set", call=lambda event: got.append(event.key))

    def work(who: int) -> None:
        for i in range(500):
            node[(who, i)] = i

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [(who, i) for who in range(4) for i in range(500)]
    for who in range(4):
        assert [i for w, i in got if w == who] == list(range(500))


def test_peers_come_and_go(node):
    got = []
    node.on("peer_up", "peer_down", "peer_gone", prefix="ignored:", call=got.append)
    hello = Hello(1, 1, (), "c", 1, "web-2", "us", "", 7, 1, "", 0, False)
    others = [Dial("1.2.3.4:5"), LinkBroken(1, "x")]
    gone = PeerGone(MemberRow(7, 1, "web-2", "us", "", "", 0), "down")
    node._subscriptions.deliver([PeerUp(1, hello), *others, PeerDown(hello, "silent"), gone])
    assert [(e.kind, e.peer, e.region, e.key, e.version, e.reason) for e in got] == [
        ("peer_up", "web-2", "us", None, None, ""),
        ("peer_down", "web-2", "us", None, None, "silent"),
        ("peer_gone", "web-2", "us", None, None, "down"),
    ]
    assert repr(got[0]) == "<Event peer_up web-2 (us) remote>"
    assert set(KINDS) >= {e.kind for e in got}
