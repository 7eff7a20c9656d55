"""One node under threads, an asyncio loop and a trio loop at once, while it evicts, expires and replicates.

FULL_SIZES=1 runs it for 30 s instead of 3.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
import threading
import time

import pytest
import trio

from crdtcache import MISSING, Node

SECONDS = 30.0 if os.environ.get("FULL_SIZES", "") not in ("", "0") else 3.0
KEYS = 1_000
ROOM = 300  # values: most keys are evicted most of the time


class Work:
    """What one thread or task does to a node, and which of its sets of each key had the greatest version."""

    def __init__(self, node, number, end):
        self.node = node
        self.number = number
        self.rng = random.Random(number)
        self.greatest = {}
        self.steps = 0
        self.end = end

    @property
    def goes_on(self):
        self.steps += 1
        return time.monotonic() < self.end

    def wrote(self, key, value, version):
        self.greatest[key] = max(self.greatest.get(key, ((0, 0), None)), (version, value), key=lambda found: found[0])

    def step(self):
        node, rng = self.node, self.rng
        n = rng.randrange(KEYS)
        value = rng.choice([f"{self.number} {self.steps}", {"by": self.number, "step": [self.steps]}])
        key = f"stays {n}"
        match rng.randrange(12):
            case 0 | 1 | 2 | 3:
                version = node.set(key, value)
                self.wrote(key, value, version)
                assert node.version(key) >= version
            case 4:
                key = f"expires {n}"
                self.wrote(key, value, node.set(key, value, ttl=rng.choice([0.001, 0.01, 0.2])))
            case 5:
                key = f"goes {n}"
                if rng.random() < 0.5:
                    self.wrote(key, value, node.set(key, value))
                else:
                    node.delete(key)
            case 6:
                node.evict(key)
            case 7:
                node.touch(f"expires {n}", 0.05)
            case 8:
                assert len(node) <= ROOM + 2_048  # of which the write buffer holds the newest
                assert node.get_many([key, "nobody"]).keys() <= {key}
            case 9:
                assert node.setdefault(f"loads {n}", value) is not MISSING
            case _:
                if (found := node.get(key, MISSING)) is not MISSING:
                    assert isinstance(found, (str, dict))


class InThread(Work):
    """In a thread of its own."""

    def run(self):
        while self.goes_on:
            self.step()


class InLoop(Work):
    """A task of trio's or asyncio's, which also uses what is awaited."""

    async def run(self, sleep, double):
        while self.goes_on:
            self.step()
            n = self.rng.randrange(KEYS)
            if not self.steps % 7:
                assert await double(n) == 2 * n
            if not self.steps % 5:
                await sleep(0)


def in_asyncio(works, double):
    async def main():
        await asyncio.gather(*(work.run(asyncio.sleep, double) for work in works))

    asyncio.run(main())


def in_trio(works, double):
    async def main():
        async with trio.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(work.run, trio.sleep, double)

    trio.run(main)


def put_to_work(node, peer, told):
    """Let everybody work until the time is up, and look after the node meanwhile; returns who worked."""

    @node.cached(ttl=0.1, key="double {n}")
    async def double(n):
        return 2 * n

    numbers, end = itertools.count(1), time.monotonic() + SECONDS
    in_threads = [InThread(where, next(numbers), end) for where in (node, node, node, peer)]
    loops = {run: [InLoop(node, next(numbers), end) for _ in range(3)] for run in (in_asyncio, in_trio)}
    failures = []

    def guarded(call, *arguments):
        try:
            call(*arguments)
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=guarded, args=[work.run]) for work in in_threads]
    threads += [threading.Thread(target=guarded, args=[run, works, double]) for run, works in loops.items()]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with node.on("evicted", "expired", "overwritten", call=lambda event: told.add(event.kind)):
            time.sleep(0.2)
        time.sleep(0.2)  # nobody listens: a `set` takes its shortest way
        with node._lock:
            node._replica.check()
    assert failures == []
    return [*in_threads, *itertools.chain(*loops.values())]


def greatest_of(works):
    """Key -> the greatest version that any `set` returned, and the value of that one."""
    greatest = {}
    for work in works:
        for key, found in work.greatest.items():
            greatest[key] = max(greatest.get(key, ((0, 0), None)), found, key=lambda found: found[0])
    return greatest


@pytest.fixture
def eager_threads():
    """Threads take turns fifty times as often: more places where one meets another, and nobody starves."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.000_1)
    yield
    sys.setswitchinterval(before)


@pytest.mark.slow
def test_every_key_ends_as_its_greatest_version_and_every_byte_is_accounted_for(caplog, eager_threads):
    with Node(listen="127.0.0.1:0", maxsize=ROOM) as node, Node([node.status()["address"]], maxsize=ROOM) as peer:
        assert peer.wait_ready()
        told, seen = set(), 0
        works = put_to_work(node, peer, told)
        assert min(work.steps for work in works) > 100  # nobody was starved
        time.sleep(0.3)  # what expires has expired
        deadline = time.monotonic() + 20
        while node.digest() != peer.digest():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for where in (node, peer):
            for key, (version, value) in greatest_of(works).items():
                last, found = where.version(key), where.peek(key, MISSING)
                if key.startswith("stays"):
                    assert last == version
                else:
                    assert last in ((None,) if key.startswith("expires") else (None, version))
                if found is not MISSING:
                    assert found == value
                    seen += 1
            with where._lock:
                where._replica.check()  # sums against entries, among much else
        assert seen > 100
        assert {"evicted", "expired", "overwritten"} <= told
        assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
        print({key: node.stats()[key] for key in ("writes", "hits", "misses", "evicted", "expired")})
