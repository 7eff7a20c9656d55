"""A node's life in trio, asyncio and threads: three of them share a key, leave, come back, and break nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
import time
from contextlib import AsyncExitStack, ExitStack

import msgpack
import pytest
import trio

from crdtcache.errors import ConfigError, JoinRefused, WouldBlock
from crdtcache.node import Node
from crdtcache.runtime import discovery
from crdtcache.tuning import Tuning

LOCAL = "127.0.0.1:0"


def make(peers=None, **settings) -> Node:
    return Node(peers, listen=settings.pop("listen", LOCAL), **settings)


def address(node: Node) -> str:
    return node.status()["address"]


def until(condition, limit_s: float = 10.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"it did not come to pass within {limit_s} s"
        time.sleep(0.005)


async def auntil(condition, sleep, limit_s: float = 10.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"it did not come to pass within {limit_s} s"
        await sleep(0.005)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("crdtcache")]


def equal(nodes) -> bool:
    return len({node.digest() for node in nodes}) == 1 and len({len(node) for node in nodes}) == 1


# ---- three nodes, three ways ----


def test_three_nodes_in_threads():
    with ExitStack() as stack:
        first = stack.enter_context(make(name="one"))
        others = [stack.enter_context(make([address(first)], name=name, region="us")) for name in ("two", "three")]
        nodes = [first, *others]
        assert all(node.wait_ready(min_peers=2) for node in nodes)
        events = []
        others[0].on("set", "deleted", call=lambda e: events.append((e.kind, e.key, e.value, e.remote)))
        first["a"] = {"n": [1]}
        others[1]["b"] = 2
        until(lambda: all(dict(node) == {"a": {"n": [1]}, "b": 2} for node in nodes))
        del first["b"]
        until(lambda: all(dict(node) == {"a": {"n": [1]}} for node in nodes))
        until(lambda: equal(nodes))
        until(lambda: "deleted" in others[1].inspect("b") and "seen by 2 of 2 peers" in others[1].inspect("a"))
        assert "by one in default" in others[1].inspect("a")
        assert "one" in first._repr_html_()
        assert "<td>us</td>" in first._repr_html_()
        assert sorted(map(repr, events)) == [
            "('deleted', 'b', MISSING, True)",
            "('set', 'a', {'n': [1]}, True)",
            "('set', 'b', 2, True)",
        ]
        assert sorted(peer.name for peer in first.peers) == ["three", "two"]
        assert first.regions["us"][:2] == (2, 2)
        assert first.regions["default"] == (0, 0, None)
        assert first.status()["mode"] == "thread"
        assert repr(first).startswith("<Node one default/default running 2 peers 1 key")
    assert [node.running for node in nodes] == [False] * 3
    assert repr(first).startswith("<Node one default/default closed 0 peers 1 key")


def test_three_nodes_in_trio():
    async def main():
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(make())
            nodes = [first]
            for _ in range(2):
                nodes.append(await stack.enter_async_context(make([address(first)])))  # noqa: PERF401
            assert all([await node.aready(min_peers=2) for node in nodes])
            assert {node.status()["mode"] for node in nodes} == {"trio"}
            nodes[1]["a"] = [1]
            await auntil(lambda: all(node.get("a") == [1] for node in nodes), trio.sleep)
            nodes[2].clear()
            await auntil(lambda: all(len(node) == 0 for node in nodes), trio.sleep)
            assert equal(nodes)
        return nodes

    assert not any(node.running for node in trio.run(main))


def test_three_nodes_in_asyncio():
    async def main():
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(make())
            nodes = [first]
            for _ in range(2):
                nodes.append(await stack.enter_async_context(make([address(first)])))  # noqa: PERF401
            assert all([await node.aready(min_peers=2) for node in nodes])
            assert {node.status()["mode"] for node in nodes} == {"thread"}
            nodes[1]["a"] = [1]
            await auntil(lambda: all(node.get("a") == [1] for node in nodes), asyncio.sleep)
            nodes[0].set("a", 2, ttl=60)
            await auntil(lambda: all(node.get("a") == 2 and node.ttl("a") > 50 for node in nodes), asyncio.sleep)
            assert equal(nodes)
        return nodes

    assert not any(node.running for node in asyncio.run(main()))


def test_nodes_of_all_three_kinds_share_a_key():
    with make() as threaded:

        async def in_trio(done):
            async with make([address(threaded)]) as node:
                await auntil(lambda: len(node) >= 3, trio.sleep)
                node["trio"] = 1
                await auntil(lambda: len(node) == 5, trio.sleep)
                done.append(dict(node))

        async def in_asyncio(done):
            async with make([address(threaded)]) as node:
                await auntil(lambda: len(node) >= 3, asyncio.sleep)
                node["asyncio"] = 1
                await auntil(lambda: len(node) == 5, asyncio.sleep)
                done.append(dict(node))

        done: list = []
        runners = [
            threading.Thread(target=lambda: trio.run(in_trio, done)),
            threading.Thread(target=lambda: asyncio.run(in_asyncio(done))),
        ]
        threaded.update(a=1, b=2, c=3)
        for thread in runners:
            thread.start()
        for thread in runners:
            thread.join(15)
        everything = {"a": 1, "b": 2, "c": 3, "trio": 1, "asyncio": 1}
        assert done == [everything] * 2
        assert dict(threaded) == everything


# ---- starting and closing ----


def test_local_calls_work_before_between_and_after():
    node = make()
    node["before"] = 1
    node.start()
    assert node.start() is node  # nothing happens
    node["running"] = 2
    node.close()
    node.close()
    node["after"] = 3
    del node["before"]
    assert dict(node) == {"running": 2, "after": 3}
    with node:
        assert node.running
        assert node["after"] == 3
    assert node.status()["state"] == "closed"


def test_a_node_that_comes_back_hears_what_it_missed():
    with make() as stays:
        comes = make([address(stays)])
        with comes:
            assert comes.wait_ready()
            comes.update({i: i for i in range(50)})
            until(lambda: len(stays) == 50)
        stays["missed"] = 1
        del stays[7]
        comes["offline"] = 2
        with comes:
            until(lambda: equal([stays, comes]) and "offline" in stays and "missed" in comes)
            assert 7 not in comes
            assert len(stays) == 51


def test_who_joins_late_has_everything_once_ready():
    with make() as first:
        first.update({f"key {i}": i for i in range(5_000)})
        with make([address(first)]) as late:
            assert late.wait_ready()
            assert len(late) == 5_000
            assert late.digest() == first.digest()


def test_a_joiner_that_may_serve_with_a_part_is_ready_before_it_has_all():
    count = 30_000
    with make(tuning=Tuning(log_records=1_000)) as donor:  # what it wrote can only come in a session
        donor.set_many({f"k{number}": "x" * 100 for number in range(count)})
        with make(address(donor)) as joiner:
            assert joiner.wait_ready(coverage=0.1, min_peers=1)
            assert count // 10 <= len(joiner) < count
            assert joiner.wait_ready()
            assert len(joiner) == count


def test_ready_alone():
    with make() as alone:
        assert alone.wait_ready(0) is True
        assert alone.wait_ready(0.05, min_peers=1) is False
    with make(["127.0.0.1:1"]) as lonely:
        assert lonely.wait_ready("50ms") is False
        assert lonely.wait_ready(0, min_peers=0) is True
        lonely["a"] = 1
        assert lonely["a"] == 1


def test_a_service_of_one_replica_is_ready_and_says_so_and_the_next_one_joins():
    """As a service of one pod: the name that all its pods share stands for itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = f"127.0.0.1:{free.getsockname()[1]}"
    with make([own], listen=own) as first:
        assert first.wait_ready()
        assert first.status()["conditions"] == ["peers= names only this node: working alone until another one calls"]
        first["a"] = 1
        with make([own], listen=own) as second:
            assert second.wait_ready()
            assert second["a"] == 1
            until(lambda: first.status()["conditions"] == [])
            first.close()
            first.start()  # the port that was its own may be the other's now, or not yet
            until(lambda: any(peer.connected for peer in first.peers))
    with make([own, "127.0.0.1:1"], listen=own) as lonely:
        until(lambda: len(lonely._replica.members.seeds()) == 1)
        assert lonely.wait_ready(0.1) is False


def test_what_keeps_it_from_being_ready_is_said_at_once():
    lonely = make(["127.0.0.1:1"])
    assert lonely.wait_ready(0) is False
    assert lonely.status()["conditions"] == ["not started: call start(), or use `with`"]
    assert make().status()["conditions"] == []
    with lonely:
        until(lambda: lonely.status()["conditions"] != [])  # and in the log once it lasts
        assert "127.0.0.1:1: " in lonely.status()["conditions"][0]


def test_a_service_that_finds_the_port_of_another_one_is_told_to_take_its_own(monkeypatch):
    with make(cluster="a") as first:
        port = int(address(first).rpartition(":")[2])
        for room in ("discovery", "addresses"):
            monkeypatch.setattr(f"crdtcache.runtime.{room}.DEFAULT_PORT", port)
        with Node(["localhost"], cluster="b") as second:
            with pytest.raises(JoinRefused):
                second.wait_ready()
            wrong = second.status()["conditions"]
    own = f"; another service of this machine has port {port}: give this one a port of its own, such as listen="
    assert any("another cluster: 'b' here, 'a' there" + own in line for line in wrong)


def test_without_peers_the_second_of_a_host_says_that_it_calls_nobody(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setattr(discovery, "DEFAULT_PORT", free.getsockname()[1])
    with Node() as one, Node() as two:
        assert one.status()["conditions"] == []
        assert "was taken" in two.status()["conditions"][0]
        assert "give peers=['localhost']" in two.status()["conditions"][0]


def test_an_async_loader_is_told_by_its_argument():
    async def load(key):
        return key

    with pytest.raises(TypeError, match=r"loader=.* is async: use `await aget_or_set"):
        Node(loader=load)["a"]


def test_there_is_no_lag_of_whom_nothing_is_known_yet():
    with make() as one, make([address(one)], name="two") as two:
        assert two.wait_ready()
        with two._lock:
            [peer] = two._replica.peers()
            frontier = two._replica.map.context.frontier
            before, frontier[peer.origin] = frontier[peer.origin], 0
            try:
                assert two.peers[0].lag_ms is two.regions["default"].lag_ms is None
                assert "lag" not in repr(two)
            finally:
                frontier[peer.origin] = before


def test_who_was_ready_stays_so_when_the_last_peer_leaves():
    with make() as first:
        first["a"] = 1
        second = make([address(first)])
        assert second.status()["ready"] is False
        second.start()
        assert second.wait_ready(30)
    until(lambda: not any(peer.connected for peer in second.peers))
    assert second.wait_ready(0) is second.status()["ready"] is True
    assert second.wait_ready(0, min_peers=1) is False
    second.close()
    assert second.wait_ready(0) is False
    with second:
        assert second.wait_ready(0) is False  # what it missed meanwhile nobody knows
    with make(["127.0.0.1:1"]) as lonely:
        assert lonely.wait_ready(0, min_peers=0) is True
        assert lonely.wait_ready(0) is lonely.status()["ready"] is False


def test_expiry_is_told_by_itself():
    gone = []
    with make() as node:
        node.on("expired", call=lambda event: gone.append((event.key, event.old)))
        node.set("k", [1], ttl=0.05)
        until(lambda: gone == [("k", [1])])
    assert threads() == []


def test_started_again_it_says_where_it_is_now():
    node = make()
    with node:
        before = address(node)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(before.rpartition(":")[2])))
        other.listen()  # so that it gets another port
        with node:
            assert address(node) != before
            assert node.status()["advertise"] == address(node)


def test_a_port_that_is_taken_starts_nothing():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        node = make(listen=f"127.0.0.1:{port}", tuning=Tuning(keepalive_ms=100, silent_ms=300))
        for _ in range(2):
            with pytest.raises(ConfigError, match=str(port)):
                node.start()
            assert node.running is False
            assert node.status()["address"] == ""
        node["a"] = 1

        async def main():
            async with node:
                pass

        with pytest.raises(ConfigError, match=str(port)):
            trio.run(main)
        with pytest.raises(ConfigError, match=str(port)):
            asyncio.run(main())
    with node:
        assert address(node) == f"127.0.0.1:{port}"
        assert node["a"] == 1


def test_a_worker_that_is_slow_to_greet_is_a_worker_all_the_same():
    """A start must not fail because the first of many, on a busy machine, has had no turn for a second."""
    with socket.socket() as first, ExitStack() as stack:
        first.bind(("127.0.0.1", 0))
        first.listen()

        def greet():
            caller = stack.enter_context(first.accept()[0])
            time.sleep(0.3)
            greeting = msgpack.packb({"magic": "crdtcache", "cluster": "default"})
            caller.sendall(len(greeting).to_bytes(4) + greeting)

        greeter = threading.Thread(target=greet)
        greeter.start()
        port = first.getsockname()[1]
        with make(listen=f"127.0.0.1:{port}", tuning=Tuning(dial_timeout_ms=100)) as node:
            assert address(node) != f"127.0.0.1:{port}"
        greeter.join()


@pytest.mark.parametrize("listen", ["192.0.2.1:0", "no-such-host.invalid:1"])
def test_addresses_that_are_not_this_hosts_are_told_at_start(listen):
    node = make(listen=listen)
    with pytest.raises(ConfigError):
        node.start()
    assert node.running is False


def test_beyond_loopback_a_secret_is_asked_for():
    with pytest.raises(ConfigError, match="secret"):
        make(listen="0.0.0.0:0").start()
    with make(listen="0.0.0.0:0", secret="s") as node:
        assert node.running
    with make(listen="0.0.0.0:0", insecure=True) as node:
        assert node.running


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({"cluster": "a"}, {"cluster": "b"}),
        ({"secret": "a"}, {"secret": "b"}),
        ({"secret": "a"}, {}),
    ],
    ids=["cluster", "wrong secret", "no secret"],
)
def test_those_who_do_not_belong_together_stay_apart(here, there):
    with make(**here) as one, make([address(one)], **there) as two:
        one["a"] = 1
        began = time.monotonic()
        with pytest.raises(JoinRefused, match="refused"):
            two.wait_ready(60)
        assert time.monotonic() - began < 10, "all that it could join have refused: there is nothing to wait for"
        assert two.wait_ready(0.1, min_peers=0) is True
        assert "a" not in two
        assert two.status()["conditions"] != []
        assert one.wait_ready(0.1, min_peers=1) is False  # it was called, and did not call


def test_who_is_refused_by_one_and_taken_in_by_another_is_ready():
    with make(cluster="a") as one, make(cluster="b") as other, make([address(other), address(one)], cluster="a") as two:
        assert two.wait_ready()
        until(lambda: two.status()["conditions"] != [])
        assert two.wait_ready(0.2, min_peers=2) is False


def test_what_was_written_just_before_the_end_arrives():
    with make() as stays:
        for i in range(20):
            with make([address(stays)]) as node:
                node.update({(i, number): number for number in range(50)})
        until(lambda: len(stays) == 1_000)


def test_with_nobody_in_reach_the_end_comes_within_a_second(caplog):
    with make(["127.0.0.1:1"]) as node:
        node["a"] = 1
        began = time.monotonic()
    assert time.monotonic() - began < 1
    assert "may have reached nobody" in caplog.text


@pytest.mark.parametrize("writes", [False, True], ids=["nothing was written", "all were called in vain"])
def test_where_there_is_nothing_to_wait_for_the_end_comes_at_once(writes, caplog):
    node = make(["127.0.0.1:1"], tuning=Tuning(redial_ms=50)).start()
    time.sleep(0.3)
    if writes:
        node["a"] = 1
    began = time.monotonic()
    node.close(timeout=20)
    assert time.monotonic() - began < 3  # it may wait for six
    assert ("may have reached nobody" in caplog.text) is writes


def test_the_same_secret_joins():
    with make(secret="s") as one, make([address(one)], secret=b"s") as two:
        one["a"] = 1
        until(lambda: "a" in two)
        assert one.digest() == two.digest()


# ---- inside event loops ----


def loops():
    return pytest.mark.parametrize("run", [trio.run, lambda main: asyncio.run(main())], ids=["trio", "asyncio"])


@loops()
def test_what_would_block_says_so_and_names_its_twin(run):
    async def main():
        async with make() as node:
            with pytest.raises(WouldBlock, match="aclose"):
                node.close()
            with pytest.raises(WouldBlock, match="aready"):
                node.wait_ready()
            assert await node.aready(0.05, min_peers=1) is False
            assert node.running

    run(main)


@loops()
def test_with_and_start_work_inside_a_loop(run):
    async def main():
        with make() as node:
            assert node.status()["mode"] == "thread"
            node["a"] = 1
        assert node.running is False
        node.start()
        await node.aclose()
        assert node.running is False
        return node["a"]

    assert run(main) == 1


@loops()
def test_the_bodys_exception_comes_out_as_it_is(run):
    error = LookupError("mine")

    async def main():
        async with make():
            raise error

    with pytest.raises(LookupError) as caught:
        run(main)
    assert caught.value is error


@loops()
def test_aclose_inside_the_block(run):
    async def main():
        async with make() as node:
            await node.aclose()
            assert node.running is False
            node["a"] = 1
            await (trio.sleep if run is trio.run else asyncio.sleep)(0.01)
        await node.aclose()
        return node["a"]

    assert run(main) == 1


@loops()
def test_a_node_entered_twice_in_turn(run):
    async def main():
        node = make()
        for i in range(3):
            async with node:
                node[i] = i
        return dict(node)

    assert run(main) == {0: 0, 1: 1, 2: 2}


def test_a_cancelled_block_in_trio():
    async def main():
        with trio.move_on_after(0.05) as scope:
            async with make() as node:
                await trio.sleep_forever()
        assert scope.cancelled_caught
        return node

    assert trio.run(main).running is False


def test_a_cancelled_block_in_asyncio():
    async def main():
        node = make()

        async def body():
            async with node:
                await asyncio.sleep(30)

        task = asyncio.create_task(body())
        await auntil(lambda: node.running, asyncio.sleep)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return node

    assert asyncio.run(main()).running is False


def test_a_start_that_is_cancelled_in_asyncio_leaves_no_thread():
    async def main():
        node = make()

        async def body():
            async with node:
                await asyncio.sleep(30)

        task = asyncio.create_task(body())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return node

    for _ in range(5):
        assert asyncio.run(main()).running is False


def test_another_thread_closes_a_node_that_runs_in_trio():
    async def main():
        async with make() as node:
            await trio.to_thread.run_sync(node.close)
            assert node.running is False
            await trio.sleep(0.01)

    trio.run(main)


def test_a_block_in_trio_that_closes_and_starts_a_thread_ends_both():
    async def main():
        async with make() as node:
            await node.aclose()
            node.start()
            assert node.status()["mode"] == "thread"
        return node.running

    assert trio.run(main) is False
    assert threads() == []


def test_a_cancelled_block_of_a_node_in_a_thread_of_its_own():
    async def main():
        with trio.move_on_after(0.05):
            async with make(thread=True) as node:
                await trio.sleep_forever()
        return node.running

    assert trio.run(main) is False


def test_the_thread_argument():
    async def threaded():
        async with make(thread=True) as node:
            return node.status()["mode"]

    assert trio.run(threaded) == "thread"

    async def nursery():
        async with make(thread=False) as node:
            return node.status()["mode"]

    assert trio.run(nursery) == "trio"
    with pytest.raises(ConfigError, match="thread=False"):
        asyncio.run(nursery())
    with pytest.raises(ConfigError, match="thread=False"):
        make(thread=False).start()


def test_events_of_peers_are_told_in_the_nodes_thread():
    with make(name="one") as one:
        seen = []
        one.on(
            "peer_up", "peer_down", call=lambda e: seen.append((e.kind, e.peer, e.region, threading.current_thread()))
        )
        with make([address(one)], name="two", region="us") as two:
            assert two.wait_ready()
            until(lambda: len(seen) == 1)
            until(lambda: one.peers[0].lag_ms is not None)
        until(lambda: len(seen) == 2)
        assert one.peers[0].lag_ms is None  # nobody knows what it has written since
        assert one.regions["us"] == (1, 0, None)
        assert one.status()["peers"][0]["lag_ms"] is None
    assert [event[:3] for event in seen] == [("peer_up", "two", "us"), ("peer_down", "two", "us")]
    assert all(thread is not threading.main_thread() for *_, thread in seen)


def test_who_comes_and_goes_is_logged_once(caplog):
    with caplog.at_level(logging.INFO, "crdtcache"), make(name="one") as one:
        for _ in range(2):
            with make([address(one)], name="two") as two:
                assert two.wait_ready()
            until(lambda: not one.peers[-1].connected)
    told = [record.message for record in caplog.records if record.message.startswith("two (default)")]
    assert [line.split(":")[0] for line in told] == [
        "two (default) is connected",
        "two (default) is not connected any more",
    ] * 2


def test_a_handler_that_fails_does_not_stop_replication():
    with make() as one, make([address(one)]) as two:

        def handler(event):
            raise RuntimeError("boom")

        two.on(call=handler)
        for i in range(20):
            one[i] = i
        until(lambda: len(two) == 20)
        assert two.running


def test_a_handler_may_write_back():
    with make() as one, make([address(one)]) as two:
        two.on("set", prefix="ask:", call=lambda e: two.set("answer:" + e.key[4:], e.value * 2) if e.remote else None)
        assert two.wait_ready()
        one["ask:x"] = 21
        until(lambda: one.get("answer:x") == 42)


def test_of_those_who_subscribe_with_scope_one_exactly_one_runs_the_handler():
    with ExitStack() as stack:
        first = stack.enter_context(make(name="0"))
        nodes = [first, *(stack.enter_context(make([address(first)], name=str(i))) for i in (1, 2))]
        assert all(node.wait_ready(min_peers=2) for node in nodes)
        ran: list = []
        every: list = []
        for node in nodes:
            node.on("expired", scope="one", call=lambda e, name=node.name: ran.append((e.key, name)))
            node.on("expired", call=lambda e: every.append(e.key))
        for i in range(60):
            nodes[i % 3].set(f"k{i}", i, ttl=0.5)
        until(lambda: len(every) == 180)
        assert sorted(key for key, _ in ran) == sorted(f"k{i}" for i in range(60))
        assert len({name for _, name in ran}) == 3  # the work is shared
    with pytest.raises(ValueError, match="scope"):
        first.on("set", scope="some")


def test_refreshing_ahead_by_an_event():
    """What expires is loaded again by one node, before anybody asks for it."""
    with make() as one, make([address(one)]) as two:
        assert one.wait_ready(min_peers=1)
        assert two.wait_ready()
        runs = []

        def load(x: int) -> int:
            runs.append(x)
            return len(runs)

        for node in (one, two):
            cached = node.cached(key="load:{x}", ttl=0.2)(load)
            node.on("expired", prefix="load:", scope="one", call=lambda e, f=cached: f.refresh(int(e.key[5:])))
        assert cached(7) == 1
        until(lambda: len(runs) >= 4)
        assert set(runs) == {7}


def lose(node: Node, key: str) -> None:
    """As a bug would: the entry is gone, and the context says that it was accounted for."""
    with node._lock:
        replica = node._replica
        replica.settle()
        replica.map.replace(key, None, replica.store.entries[key], node._clock.reading(), remote=True)


def test_repair_brings_back_what_only_a_comparison_can_find():
    seldom = Tuning(compare_ms=600_000)  # none by itself, which would find it before, or answer BUSY
    with ExitStack() as stack:
        first = stack.enter_context(make(name="one", tuning=seldom))
        others = [stack.enter_context(make([address(first)], name=name, tuning=seldom)) for name in ("two", "three")]
        assert all(node.wait_ready(min_peers=2) for node in [first, *others])
        first.update({f"k{i}": i for i in range(2_000)})
        until(lambda: equal([first, *others]))
        lose(others[0], "k7")
        assert first.digest() != others[0].digest()
        report = first.repair("two", timeout=10)
        assert (report.ok, report.peers) == (True, 1)
        until(lambda: equal([first, others[0]]))
        report = first.repair()
        assert (report.ok, report.peers, report.elapsed < 10) == (True, 2, True)
        until(lambda: equal([first, *others]))
        with pytest.raises(ValueError, match="four"):
            first.repair("four")
        assert first.repair(timeout=0).ok is False
    assert first.repair() == (False, 0, 0, 0, pytest.approx(0, abs=1))


@loops()
def test_repair_in_an_event_loop(run):
    async def main():
        async with make() as one, make([address(one)]) as two:
            assert await two.aready()
            two["a"] = 1
            await auntil(lambda: "a" in one, trio.sleep if run is trio.run else asyncio.sleep)
            with pytest.raises(WouldBlock, match="arepair"):
                one.repair()
            return (await one.arepair(timeout=10)).ok

    assert run(main) is True


def test_a_cached_function_is_shared_and_invalidated_everywhere():
    runs = []
    with make() as one, make([address(one)]) as two:

        def load(x: int) -> list[int]:
            runs.append(x)
            return [x, len(runs)]

        here, there = one.cached(key="load:{x}")(load), two.cached(key="load:{x}")(load)
        assert two.wait_ready()
        assert here(1) == [1, 1]
        until(lambda: "load:1" in two)
        assert there(1) == [1, 1]
        there.invalidate(1)
        until(lambda: "load:1" not in one)
        assert here(1) == [1, 2]
    assert runs == [1, 1]


def test_busy_threads_take_shorter_turns_while_it_runs_if_that_is_wanted():
    before = sys.getswitchinterval()
    with Node(listen=LOCAL, switch_interval="1ms"):
        assert sys.getswitchinterval() == 0.001
    assert sys.getswitchinterval() == before
    with Node(listen=LOCAL):
        assert sys.getswitchinterval() == before


def test_two_of_one_name_say_so_until_one_is_gone():
    with make(name="web") as elder:
        with make([address(elder)], name="web") as younger:
            assert younger.wait_ready()
            until(lambda: all("the name web too" in str(node.status()["conditions"]) for node in (elder, younger)))
            assert elder.status()["ready"]
        until(lambda: elder.status()["conditions"] == [])
    with make(name="web") as once, make([address(once)], name="web-2") as other:
        assert other.wait_ready()
        assert (once.status()["conditions"], other.status()["conditions"]) == ([], [])
