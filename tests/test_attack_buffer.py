"""Attacks on the buffer of plain writes: what moves, hides, raises or listens while writes wait in it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from crdtcache import Node
from crdtcache.events import Event
from tests.node_clock import FakeClock


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads change places all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def checked(node: Node) -> None:
    with node._lock:
        node._replica.check()


def test_popitem_meets_a_write_that_came_after_its_housekeeping() -> None:
    """It moved the generations under a buffered write, whose settling then asked for the lock that it held."""

    class Between(Node):
        __slots__ = ()

        def _keep_house(self) -> None:
            super()._keep_house()
            self["late"] = 1

    between = Between(listen=None)
    between["early"] = 0
    popped: list[tuple[str, int]] = []
    thread = threading.Thread(target=lambda: popped.append(between.popitem()), daemon=True)
    thread.start()
    thread.join(5)
    assert popped == [("early", 0)]
    checked(between)


@pytest.mark.usefixtures("hasty")
def test_len_is_one_instant_and_within_maxsize() -> None:
    """Between two steps of an eviction a key is in both generations; `len` counted it twice."""
    node = Node(listen=None, maxsize=20)
    end = time.monotonic() + 1

    def write(thread: int) -> None:
        for i in count():
            node[f"{thread}:{i % 100}"] = i
            if time.monotonic() > end:
                return

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    greatest = 0
    while time.monotonic() < end:
        greatest = max(greatest, len(node))
    for thread in threads:
        thread.join()
    assert greatest <= 20
    checked(node)


# The exception may come in the middle of somebody's collector callback (hypothesis has one), which swallows it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_an_exception_of_a_signal_handler_loses_no_write_that_returned() -> None:
    """Ctrl-C in a notebook, a soft time limit in a worker: what `set` returned for stays, and goes to the log."""

    class Limit(Exception):
        pass

    struck: list[int] = []

    def interrupt(*_: object) -> None:
        struck.append(1)
        raise Limit

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for turn in range(60):
            node = Node(listen=None)
            done: dict[str, int] = {}
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.01 + turn * 0.0001)
                for i in count():
                    if len(struck) > turn:  # it came within a callback of the garbage collector, which swallows it
                        break
                    node[f"k{i % 3_000}"] = i
                    done[f"k{i % 3_000}"] = i
            except Limit:
                pass
            checked(node)
            logged = set(node._replica.map.log.column(node._replica.origin).keys)
            assert done.keys() <= logged
            # The write that was interrupted may have happened.
            assert sum(node.get(key) != value for key, value in done.items()) <= 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_key_that_expired_and_was_written_again_tells_of_its_deletion() -> None:
    """Until a peer's clock was heard an expired key stayed marked as told; its next delete said nothing."""
    clock = FakeClock()
    node = Node(peers=["127.0.0.1:1"], listen=None, clock=clock)
    told: list[tuple[str, object]] = []

    @node.on()
    def tell(event: Event) -> None:
        told.append((event.kind, event.key))

    node.set("k", 1, ttl=1)
    clock.tick(2)
    node.check_expiry()
    node["k"] = 2
    node.delete("k")
    assert told == [("set", "k"), ("expired", "k"), ("set", "k"), ("deleted", "k")]


def test_a_clock_set_back_shows_the_same_to_every_look() -> None:
    """`in` and `peek` said yes where `get`, `len` and iteration said no; and it never came due again."""
    clock = FakeClock()
    node = Node(peers=["127.0.0.1:1"], listen=None, clock=clock)
    node.set("k", 1, ttl=1)
    clock.tick(2)
    assert node.check_expiry() == ["k"]
    clock.tick(-1.5)
    assert (node.get("k"), node.peek("k"), "k" in node) == (None, None, False)
    assert node.check_expiry() == []
    assert (node.get("k"), node.peek("k"), "k" in node, len(node), list(node)) == (1, 1, True, 1, ["k"])
    clock.tick(1)
    assert node.check_expiry() == ["k"]


@pytest.mark.parametrize("act", [lambda node: node.delete("b3"), Node.clear], ids=["delete", "clear"])
def test_a_stack_that_is_full_leaves_the_accounts_exact(act: Callable[[Node], object]) -> None:
    """A write deep in a recursion failed between an entry and its bytes, which then differed for ever."""

    def deep(node: Node, frames: int) -> None:
        if frames:
            deep(node, frames - 1)
        else:
            act(node)

    limit = sys.getrecursionlimit()
    for frames in range(limit - 150, limit):
        node = Node(listen=None)
        for i in range(20):
            node["t", i] = [i]
            node[f"b{i}"] = i
        node.digest()
        for i in range(20):
            node[f"b{i}"] = i + 1
            node["t", i] = [i, i]
            node[f"new{i}", i] = i
        try:
            deep(node, frames)
        except RecursionError:
            checked(node)
