"""Cached coroutine functions, in trio and in asyncio, and callers of both that wait for one run."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest
import trio

from crdtcache.arguments import MISSING
from crdtcache.node import Node
from tests.test_loading import in_threads, until, waiters


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def runs():
    return []


class Trio:
    """The few things that the tests below need of an event loop."""

    sleep = staticmethod(trio.sleep)
    cancelled = trio.Cancelled

    @staticmethod
    def run(main):
        async def limited():
            with trio.fail_after(20):
                return await main()

        return trio.run(limited)

    @staticmethod
    async def together(*functions):
        results: list = [None] * len(functions)

        async def run(i, function):
            try:
                results[i] = await function()
            except Exception as error:  # noqa: BLE001
                results[i] = error

        async with trio.open_nursery() as nursery:
            for pair in enumerate(functions):
                nursery.start_soon(run, *pair)
        return results

    @staticmethod
    async def cancel_first(first, second, when):
        """Run both; cancel the first as soon as `when()`; what the second returned."""
        result = []

        async def run(scope):
            with scope:
                await first()

        async def other():
            result.append(await second())

        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(run, scope)
            await trio.sleep(0.01)
            nursery.start_soon(other)
            while not when():  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.001)
            scope.cancel()
        return result[0]


class Asyncio:
    sleep = staticmethod(asyncio.sleep)
    cancelled = asyncio.CancelledError

    @staticmethod
    def run(main):
        async def limited():
            return await asyncio.wait_for(main(), 20)

        return asyncio.run(limited())

    @staticmethod
    async def together(*functions):
        return await asyncio.gather(*[function() for function in functions], return_exceptions=True)

    @staticmethod
    async def cancel_first(first, second, when):
        one = asyncio.create_task(first())
        await asyncio.sleep(0.01)
        two = asyncio.create_task(second())
        while not when():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        one.cancel()
        return await two


@pytest.fixture(params=[Trio, Asyncio], ids=["trio", "asyncio"])
def loop(request):
    return request.param


def test_a_coroutine_function_stays_one(node, loop, runs):
    @node.cached(key="square:{x}")
    async def square(x: int) -> int:
        runs.append(x)
        await loop.sleep(0)
        return x * x

    async def main():
        assert [await square(3), await square(x=3)] == [9, 9]
        assert square.peek(3) == node["square:3"] == 9
        assert await square.refresh(3) == 9
        assert square.put(10, 3)
        assert await square(3) == 10
        assert square.invalidate(3) is True
        assert square.peek(3) is MISSING
        return await square(3)

    assert loop.run(main) == 9
    assert runs == [3, 3, 3]
    assert inspect.iscoroutinefunction(square.__call__)
    assert square.cache_info()[:2] == (2, 2)


def test_methods(node, loop, runs):
    class Repository:
        @node.cached(ignore=["self"])
        async def load(self, x: int) -> int:
            runs.append(x)
            return x

    async def main():
        repository = Repository()
        assert await repository.load(1) == await Repository().load(x=1) == 1
        assert await repository.load.refresh(1) == 1
        return repository.load.peek(1)

    assert loop.run(main) == 1
    assert runs == [1, 1]


def test_tasks_that_miss_together_wait_for_one_run(node, loop, runs):
    @node.cached
    async def load(x: int) -> list[int]:
        runs.append(x)
        while waiters(node) < 9:
            await loop.sleep(0.001)
        return [x]

    async def main():
        return await loop.together(*[lambda: load(1)] * 10)

    results = loop.run(main)
    assert results == [[1]] * 10
    assert len({id(result) for result in results}) == 10
    assert runs == [1]


def test_an_exception_reaches_every_waiter(node, loop, runs):
    error = RuntimeError("down")

    @node.cached
    async def load() -> int:
        runs.append(1)
        while waiters(node) < 3:
            await loop.sleep(0.001)
        raise error

    async def main():
        return await loop.together(*[load] * 4)

    assert loop.run(main) == [error] * 4
    assert len(runs) == 1


def test_a_cancelled_leader_hands_over(node, loop, runs):
    @node.cached
    async def load() -> str:
        runs.append(1)
        if len(runs) == 1:
            await loop.sleep(30)
        return "second"

    async def main():
        return await loop.cancel_first(load, load, lambda: waiters(node) == 1)

    assert loop.run(main) == "second"
    assert len(runs) == 2


def test_a_cancelled_waiter_leaves_nothing_behind(node, loop, runs):
    @node.cached
    async def load() -> str:
        runs.append(1)
        while not seen or waiters(node):  # until it has come and gone
            await loop.sleep(0.001)
        return "value"

    async def waiter():
        while not runs:
            await loop.sleep(0.001)
        await load()

    async def main():
        return await loop.cancel_first(waiter, load, lambda: waiters(node) and not seen.append(1))

    seen: list[int] = []
    assert loop.run(main) == "value"
    assert runs == [1]
    assert node._flights._by_key == {}


def test_recursion_in_child_tasks_does_not_wait(node, loop, runs):
    @node.cached(key="k")
    async def load(depth: int) -> int:
        runs.append(depth)
        if depth < 3:
            (below,) = await loop.together(lambda: load(depth + 1))
            return below
        return depth

    async def main():
        return await load(0)

    assert loop.run(main) == 3
    assert runs == [0, 1, 2, 3]


def test_two_loads_that_need_each_other_end(node, loop):
    started: list[int] = []

    @node.cached
    async def load(x: int) -> str:
        if len(started) < 2:
            started.append(x)
            while len(started) < 2:
                await loop.sleep(0.001)
            return f"{x}({await load(1 - x)})"
        return f"{x}"

    async def main():
        return await loop.together(lambda: load(0), lambda: load(1))

    assert all(isinstance(result, str) for result in loop.run(main))


def test_one_function_over_several_loops(node, loop, runs):
    @node.cached
    async def load(x: int) -> int:
        runs.append(x)
        await loop.sleep(0)
        return x

    for _ in range(3):
        loop.run(lambda: load(1))
    assert runs == [1]


def test_trio_asyncio_and_threads_wait_for_one_run(node, runs):
    @node.cached(key="k")
    def plain() -> list[int]:
        runs.append("plain")
        until(lambda: waiters(node) == 3)
        return [1]

    @node.cached(key="k")
    async def coroutine() -> list[int]:
        runs.append("coroutine")
        return [2]

    def later(call):
        def run():
            until(lambda: bool(runs))
            return call()

        return run

    results = in_threads(
        plain,
        later(plain),
        later(lambda: Trio.run(coroutine)),
        later(lambda: Asyncio.run(coroutine)),
    )
    assert results == [[1]] * 4
    assert runs == ["plain"]


def test_a_loop_never_stands_still_for_another_thread(node, runs):
    """A plain function in a loop whose leader is elsewhere: it runs itself, the leader may need the loop."""

    @node.cached
    def load() -> int:
        runs.append(threading.get_ident())
        if len(runs) == 1:
            until(lambda: len(runs) == 2)
        return len(runs)

    def inside():
        until(lambda: bool(runs))

        async def main():
            return load()

        return Asyncio.run(main)

    assert in_threads(load, inside) == [2, 2]


def test_a_worker_thread_of_the_leader_is_inside_its_flight(node, loop, runs):
    @node.cached(key="k")
    def plain() -> str:
        runs.append("plain")
        return "below"

    @node.cached(key="k")
    async def load() -> str:
        runs.append("load")
        worker = trio.to_thread.run_sync if loop is Trio else asyncio.to_thread
        return await worker(plain)

    async def main():
        return await load()

    assert loop.run(main) == "below"
    assert runs == ["load", "plain"]


def test_a_loop_that_ends_during_a_flight_leaves_no_flight(node, runs):
    @node.cached
    async def load() -> str:
        runs.append(1)
        await asyncio.sleep(30 if len(runs) == 1 else 0)
        return "value"

    async def drop():
        task = asyncio.create_task(load())
        await asyncio.sleep(0.01)
        return task

    asyncio.run(drop())
    assert node._flights._by_key == {}
    assert asyncio.run(load()) == "value"
