"""Events to iterate over: in a thread, in trio, in asyncio; a slow reader loses the oldest and is told how many."""

from __future__ import annotations

import asyncio
import threading

import pytest
import trio

from crdtcache.errors import WouldBlock
from crdtcache.node import Node

both_loops = pytest.mark.parametrize("run", [trio.run, lambda main: asyncio.run(main())], ids=["trio", "asyncio"])


@pytest.fixture
def node():
    return Node()


def test_a_thread_takes_what_comes_until_the_watch_is_closed(node):
    seen = []
    watch = node.watch("set", "deleted", prefix="user:")
    taker = threading.Thread(target=lambda: seen.extend((event.kind, event.key) for event in watch))
    taker.start()
    node["user:1"] = 1
    node["other"] = 1
    del node["user:1"]
    while len(seen) < 2:
        taker.join(0.005)
    node["user:2"] = 2
    watch.close()
    watch.close()
    node["user:3"] = 3
    taker.join(10)
    assert not taker.is_alive()
    assert seen == [("set", "user:1"), ("deleted", "user:1"), ("set", "user:2")]


def test_what_happened_before_the_first_look_is_there(node):
    with node.watch() as watch:
        node["a"] = 1
        assert next(watch).key == "a"
    assert list(watch) == []


def test_a_full_buffer_drops_the_oldest_and_counts(node):
    watch = node.watch("set", buffer=3)
    node.update({i: i for i in range(10)})
    watch.close()
    assert [event.key for event in watch] == [7, 8, 9]
    assert watch.dropped == 7
    with pytest.raises(ValueError, match="buffer=0"):
        node.watch(buffer=0)
    with pytest.raises(ValueError, match="sett"):
        node.watch("sett")


@both_loops
def test_a_task_takes_what_other_threads_write(node, run):
    async def main():
        seen = []
        with node.watch("set") as watch:
            writer = threading.Timer(0.02, lambda: node.update({i: i for i in range(50)}))
            writer.start()
            async for event in watch:
                seen.append(event.key)
                if len(seen) == 50:
                    break
            writer.join()
        assert [event async for event in watch] == []
        return seen

    assert run(main) == list(range(50))


@both_loops
def test_closing_ends_a_task_that_waits(node, run):
    async def main():
        watch = node.watch()
        threading.Timer(0.02, watch.close).start()
        return [event async for event in watch]

    assert run(main) == []


@both_loops
def test_a_loop_is_not_blocked(node, run):
    async def main():
        with pytest.raises(WouldBlock, match="async for"):
            next(node.watch())

    run(main)


def test_a_cancelled_taker_loses_no_event(node):
    async def main():
        watch = node.watch()
        with trio.move_on_after(0.01):
            await watch.__anext__()
        node["a"] = 1
        assert (await watch.__anext__()).key == "a"
        assert watch._wakers == []

    trio.run(main)


def test_a_node_that_is_closed_ends_the_threads_that_watch_it():
    seen = []
    with Node(listen="127.0.0.1:0") as node:
        watch = node.watch("set")
        taker = threading.Thread(target=lambda: seen.extend(event.key for event in watch), daemon=True)
        taker.start()
        node["a"] = 1
    taker.join(10)
    assert not taker.is_alive()
    assert seen == ["a"]
    later = node.watch("set")  # local calls go on, and so does who watches from now on
    node["b"] = 1
    assert next(later).key == "b"
    node.close()
    assert list(later) == []


@both_loops
def test_a_node_that_is_closed_ends_the_tasks_that_watch_it(run):
    async def main():
        async with Node(listen="127.0.0.1:0") as node:
            watch, closing = node.watch(), threading.Event()

            def close():
                closing.wait(10)
                node.close()

            closer = threading.Thread(target=close, daemon=True)
            closer.start()
            node["a"] = 1
            closing.set()
            return [event.key async for event in watch]

    assert run(main) == ["a"]
