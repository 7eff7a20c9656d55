"""Threads share a node; a node shows what a plain dict with expiry times shows."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from crdtcache.arguments import MISSING
from crdtcache.node import Node
from tests.node_clock import FakeClock


def test_threads_share_a_node():
    node = Node(maxsize=50)
    failures = []

    def work(seed: int) -> None:
        try:
            for i in range(3_000):
                key = (i * 7 + seed) % 80
                node[key] = [key, i] if i % 3 else key
                value = node.get(key)
                assert value is None or value == key or value[0] == key
                if not i % 11:
                    node.delete(key)
                if not i % 50:
                    list(node.items())
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(node) <= 50
    node._replica.check()


def test_only_one_of_many_adds():
    for _ in range(20):
        node: Node[str, int] = Node()
        barrier = threading.Barrier(4)
        won = []

        def work(node=node, barrier=barrier, won=won) -> None:
            barrier.wait()
            if node.add("k", 1):
                won.append(1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1


keys = st.sampled_from(["a", "b", "c", 1, b"x", ("t", 1)])
values = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
ttls = st.one_of(st.none(), st.integers(1, 5))


class AgainstModel(RuleBasedStateMachine):
    """The node shows what a dict with expiry times shows."""

    @initialize()
    def begin(self) -> None:
        self.clock = FakeClock()
        self.node: Node = Node(clock=self.clock)
        self.model: dict = {}
        self.reported: list = []
        self.node.on("expired", call=lambda event: self.reported.append(event.key))
        self.expired = 0

    def shown(self) -> dict:
        gone = [key for key, (_, ends) in self.model.items() if ends is not None and ends <= self.clock.ms]
        for key in gone:
            del self.model[key]
            self.expired += 1
        return self.model

    def ends(self, ttl):
        return None if ttl is None else self.clock.ms + ttl * 1_000

    @rule(key=keys, value=values, ttl=ttls)
    def set(self, key, value, ttl):
        self.node.set(key, value, ttl)
        self.node.check_expiry()
        self.shown()[key] = (value, self.ends(ttl))

    @rule(key=keys, value=values, ttl=ttls)
    def add(self, key, value, ttl):
        self.node.check_expiry()
        assert self.node.add(key, value, ttl) is (key not in self.shown())
        self.model.setdefault(key, (value, self.ends(ttl)))

    @rule(key=keys)
    def delete(self, key):
        self.node.check_expiry()
        assert self.node.delete(key) is (self.shown().pop(key, None) is not None)

    @rule(key=keys)
    def pop(self, key):
        self.node.check_expiry()
        value, _ = self.shown().pop(key, (MISSING, None))
        assert self.node.pop(key, MISSING) == value

    @rule(key=keys, ttl=ttls)
    def touch(self, key, ttl):
        self.node.check_expiry()
        held = self.shown().get(key)
        assert self.node.touch(key, ttl) is (held is not None)
        if held is not None:
            self.model[key] = (held[0], self.ends(ttl))

    @rule()
    def clear(self):
        self.node.check_expiry()
        self.shown()
        self.node.clear()
        self.model.clear()

    @rule(seconds=st.integers(0, 4))
    def wait(self, seconds):
        self.clock.tick(seconds)

    @invariant()
    def same(self):
        model = self.shown()
        for key in ("a", "b", "c", 1, b"x", ("t", 1)):
            value, ends = model.get(key, (MISSING, None))
            assert self.node.get(key, MISSING) == value
            assert self.node.peek(key, MISSING) == value
            assert (key in self.node) is (key in model)
            if key in model:
                assert self.node.ttl(key) == (None if ends is None else (ends - self.clock.ms) / 1_000)
        assert len(self.node) == len(model)
        assert dict(self.node.items()) == {key: value for key, (value, _) in model.items()}
        assert len(self.reported) == self.expired
        self.node._replica.check()


TestAgainstModel = AgainstModel.TestCase


@given(st.lists(st.tuples(keys, values), max_size=30), st.integers(1, 4))
def test_what_is_here_is_a_part_of_what_was_written(pairs, maxsize):
    node: Node = Node(maxsize=maxsize)
    node.update(pairs)
    written = dict(pairs)
    assert len(node) == min(maxsize, len(written))
    assert all(written[key] == value for key, value in node.items())
    assert not written or list(written)[-1] in node
