"""L1 to L5: operations of one process, 100,000 str keys of 13 characters, values of 100 bytes.

The node counts its statistics, stamps and accounts every write, logs it for replication, and folds its digest
within the time of each batch of writes: all that a write costs before a socket is involved.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from itertools import accumulate
from time import perf_counter_ns
from typing import Protocol

import cachebox
import cachetools

from crdtcache import Node
from tests.bench.goals import Figure
from tests.bench.measure import Batch, take_turns

KEYS = 100_000
TTL_S = 3_600
GETS = 100_000  # per batch
OVERWRITES = 50_000
NEW = 50_000


def names(count: int, prefix: str = "user") -> list[str]:
    """Keys of 13 characters."""
    return [f"{prefix}:{number:08d}" for number in range(count)]


def texts(count: int, rng: random.Random) -> list[bytes]:
    """Values of 100 bytes, each its own object."""
    return [rng.randbytes(100) for _ in range(count)]


def zipf(keys: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """`count` keys drawn with Zipf exponent 1.0, the popular ones scattered over the map."""
    ranked = list(keys)
    rng.shuffle(ranked)
    weights = list(accumulate(1 / rank for rank in range(1, len(ranked) + 1)))
    return rng.choices(ranked, cum_weights=weights, k=count)


class Locked:
    """`cachetools.TTLCache` as an application with threads must use it."""

    def __init__(self, maxsize: int) -> None:
        self._cache: cachetools.TTLCache[str, bytes] = cachetools.TTLCache(maxsize, TTL_S)
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._cache.get(key)

    def set(self, key: str, value: bytes) -> None:
        with self._lock:
            self._cache[key] = value


class _Gets(Protocol):
    def get(self, key: str, /) -> object: ...


def _gets(cache: _Gets, sequence: Sequence[str]) -> Batch:
    """As a user writes it: `cache.get(key)`, the attribute looked up each time."""

    def batch() -> tuple[int, int]:
        start = perf_counter_ns()
        for key in sequence:
            cache.get(key)
        return perf_counter_ns() - start, len(sequence)

    return batch


def _sets(
    make: Callable[[], tuple[Callable[[str, bytes], object], Callable[[], object]]], pairs: Sequence[tuple[str, bytes]]
) -> Batch:
    """`make` returns (set, what ends the batch); making is not timed, the end is."""

    def batch() -> tuple[int, int]:
        put, end = make()
        start = perf_counter_ns()
        for key, value in pairs:
            put(key, value)
        end()
        return perf_counter_ns() - start, len(pairs)

    return batch


def hits(rounds: int) -> list[Figure]:
    """L1, L2, L3."""
    rng = random.Random(1)
    keys = names(KEYS)
    values = texts(KEYS, rng)
    plain = dict(zip(keys, values, strict=True))
    node, expiring = Node(maxsize=KEYS, max_bytes=None), Node(maxsize=KEYS, max_bytes=None, ttl=TTL_S)
    rust, rust_ttl = cachebox.LRUCache(KEYS), cachebox.VTTLCache(KEYS)
    locked = Locked(KEYS)
    for key, value in plain.items():
        node.set(key, value)
        expiring.set(key, value)
        rust.insert(key, value)
        rust_ttl.insert(key, value, TTL_S)
        locked.set(key, value)
    sequence = zipf(keys, GETS, rng)
    for cache in (node, expiring, rust, rust_ttl, locked):
        assert all(cache.get(key) == plain[key] for key in sequence), cache
    timings = take_turns(
        {
            "node": _gets(node, sequence),
            "node ttl": _gets(expiring, sequence),
            "cachebox LRU": _gets(rust, sequence),
            "cachebox VTTL": _gets(rust_ttl, sequence),
            "dict": _gets(plain, sequence),
            "cachetools TTL": _gets(locked, sequence),
        },
        rounds,
    )
    assert node.stats()["hits"] >= GETS * rounds, "statistics are on"
    lines = (
        ("L1", "node", "cachebox LRU"),
        ("L2", "node ttl", "cachebox VTTL"),
        ("L3a", "node", "dict"),
        ("L3b", "node", "cachetools TTL"),
    )
    return [
        Figure(goal, timings.typical(ours), timings.typical(theirs), "ns", timings.ratio(ours, theirs))
        for goal, ours, theirs in lines
    ]


def _nothing() -> None:
    """cachetools has nothing to fold."""


def overwrites(rounds: int) -> list[Figure]:
    """L4."""
    rng = random.Random(2)
    keys = names(KEYS)
    node, locked = Node(maxsize=KEYS, max_bytes=None), Locked(KEYS)
    for key, value in zip(keys, texts(KEYS, rng), strict=True):
        node.set(key, value)
        locked.set(key, value)
    pairs = list(zip(zipf(keys, OVERWRITES, rng), texts(OVERWRITES, rng), strict=True))
    before = node.digest()
    timings = take_turns(
        {
            "node": _sets(lambda: (node.set, node.digest), pairs),
            "cachetools": _sets(lambda: (locked.set, _nothing), pairs),
        },
        rounds,
    )
    assert node.digest() != before, "the digest must have followed"
    return [
        Figure("L4", timings.typical("node"), timings.typical("cachetools"), "ns", timings.ratio("node", "cachetools"))
    ]


def inserts(rounds: int) -> list[Figure]:
    """L5: each batch fills a map of its own."""
    rng = random.Random(3)
    pairs = list(zip(names(NEW), texts(NEW, rng), strict=True))

    def new_node() -> tuple[Callable[[str, bytes], object], Callable[[], object]]:
        node = Node(maxsize=KEYS, max_bytes=None)
        return node.set, node.digest

    timings = take_turns(
        {
            "node": _sets(new_node, pairs),
            "cachetools": _sets(lambda: (Locked(KEYS).set, _nothing), pairs),
        },
        rounds,
    )
    return [
        Figure("L5", timings.typical("node"), timings.typical("cachetools"), "ns", timings.ratio("node", "cachetools"))
    ]
