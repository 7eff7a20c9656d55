"""The store: eviction is least-recently-used to within a generation; the limits hold; nothing else is lost."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtcache.core.clock import Reading
from crdtcache.core.entry import GHOST, LIVE, Packed, live_entry
from crdtcache.core.store import ABSENT, INDEX_BYTES, Store, Wheel, weight
from tests.core import strategies as draw
from tests.core.world import World

NOW = Reading(1_700_000_000_000, 0)


def put(store: Store, key: int, value: object = "v", *, expires_at: int = 0) -> None:
    store.replace(key, live_entry(1, 1, expires_at, value), store.entries.get(key))  # type: ignore[arg-type]


def evict(store: Store) -> int:
    key = store.oldest()
    old = store.entries[key]
    store.replace(key, (*old[:5], GHOST, None), old)
    assert isinstance(key, int)
    return key


@given(st.integers(1, 12), st.lists(st.tuples(st.sampled_from(["put", "read"]), st.integers(0, 20)), max_size=200))
def test_what_is_evicted_was_used_before_all_that_the_young_generation_holds(
    maxsize: int, steps: list[tuple[str, int]]
) -> None:
    """The bound of two generations: no key that was used since the generations last changed is evicted."""
    store = Store(maxsize, None)
    for step, key in steps:
        if step == "put":
            put(store, key)
        elif store.promote(key) is ABSENT:
            continue
        assert key in store.direct.young
        while store.over():
            recent = set(store.direct.young) if store.direct.old else set()
            gone = evict(store)
            assert gone not in recent
            assert store.shown(gone) is ABSENT
        assert store.live <= maxsize
        store.check()


def test_a_scan_evicts_hardly_anything_that_is_read_all_the_time() -> None:
    """At most one key each time the generations change: what was read in the young one is not known there."""
    store = Store(100, None)
    missed = 0
    for key in range(1_000, 3_000):
        put(store, key)
        for often in range(10):
            if store.promote(often) is ABSENT:
                missed += 1
                put(store, often)
        while store.over():
            evict(store)
    assert missed <= 10 + 2_000 // 80


def test_both_kinds_grow_old_together() -> None:
    """A tenth of the keys expires: neither kind is evicted long before the other, whatever its share."""
    store = Store(100, None)
    gone = []
    for key in range(1_000):
        put(store, key, expires_at=key % 10 == 0)
        while store.over():
            gone.append(evict(store))
    assert len(gone) == 900
    assert all(abs(key - place) <= 10 for place, key in enumerate(gone))


def test_a_key_that_changes_its_kind_is_shown_once() -> None:
    store = Store(100, None)
    for ends in (0, 5, 0, 5, 5):
        put(store, 1, expires_at=ends)
        assert store.keys() == [1]
        store.check()
    store.guarded.turn()
    put(store, 1)
    store.check()


def test_without_reads_eviction_is_in_the_order_of_writing() -> None:
    store = Store(50, None)
    gone = []
    for key in range(500):
        put(store, key)
        while store.over():
            gone.append(evict(store))
    assert all(a < b for a, b in pairwise(gone))
    assert gone == list(range(450))


def test_the_two_generations_are_the_same_two_dicts_for_ever() -> None:
    """Readers without the lock and the write path hold on to them."""
    store = Store(3, None)
    kinds = (store.direct, store.guarded)
    before = [generation for kind in kinds for generation in (kind.young, kind.old)]
    for key in range(20):
        put(store, key, expires_at=key % 2)
        while store.over():
            evict(store)
    store.hide_all()
    put(store, 99)
    after = [generation for kind in kinds for generation in (kind.young, kind.old)]
    assert all(a is b for a, b in zip(before, after, strict=True))


@given(st.lists(st.tuples(draw.keys, draw.values), max_size=20), st.integers(1_000, 4_000))
def test_max_bytes_counts_keys_values_and_index(pairs: list[tuple[object, object]], most: int) -> None:
    world = World("a", max_bytes=most)
    for key, value in pairs:
        world.put("a", key, value)  # type: ignore[arg-type]
        store = world["a"].store
        store.check()
        assert store.bytes <= most or store.live == 0
        assert store.bytes >= len(store.entries) * INDEX_BYTES


@pytest.mark.parametrize(
    ("value", "bytes_"),
    [
        ("abc", 52),
        ("äbc", 85),
        (b"abc", 36),
        (Packed(b"abc"), 36),
        (1, 32),
        (None, 32),
        (("a", 1), 40 + 8 + 50 + 8 + 32),
    ],
)
def test_a_weight_depends_on_the_content_only(value: object, bytes_: int) -> None:
    assert weight(value) == bytes_  # type: ignore[arg-type]


def test_what_expires_or_is_packed_is_shown_as_its_entry() -> None:
    store = Store(None, None)
    put(store, 1, "plain")
    put(store, 2, Packed(b"\x01\x90"))
    put(store, 3, "expires", expires_at=5)
    put(store, 4, None)
    assert [store.shown(key) for key in (1, 2, 3, 4, 5)] == ["plain", store.entries[2], store.entries[3], None, ABSENT]
    assert list(store.direct.young) == [1, 4]
    assert list(store.guarded.young) == [2, 3]
    assert store.hide(3)
    assert not store.hide(3)
    store.show(3, store.entries[3])
    assert store.shown(3) is store.entries[3]
    assert store.entries[1][5] == LIVE
    store.replace(1, None, store.entries[1])
    store.replace(77, None, None)
    assert store.shown(1) is ABSENT
    store.check()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-1_000, 200_000), st.integers(0, 70_000)), max_size=40))
def test_keys_come_due_in_the_first_sweep_at_or_after_their_expiry_and_once(steps: list[tuple[int, int, int]]) -> None:
    wheel, ends, now = Wheel(), {}, 1_700_000_000_000
    for key, end, wait in steps:
        wheel.add(key, now + end, ends.get(key, 0))
        ends[key] = now + end
        now += wait
        due = wheel.due(now, lambda key: ends.get(key, 0))
        assert sorted(due) == sorted(key for key, end in ends.items() if end <= now)
        for key in due:
            del ends[key]
        next_ms = wheel.next_ms()
        assert (next_ms is not None) >= bool(ends)
        if ends and next_ms is not None:
            assert next_ms <= min(ends.values()) + 64


def test_a_sweep_of_a_few_keys_goes_on_where_it_stopped() -> None:
    wheel, now = Wheel(), 1_700_000_000_000
    for key in range(10):
        wheel.add(key, now + 1)
    ends = dict.fromkeys(range(10), now + 1)
    while due := wheel.due(now + 100, lambda key: ends.get(key, 0), 3):
        assert len(due) <= 3
        for key in due:
            del ends[key]
    assert ends == {}


def test_a_key_whose_expiry_comes_and_goes_leaves_one_reference() -> None:
    wheel, now = Wheel(), 1_700_000_000_000
    for _ in range(1_000):
        wheel.add("k", now + 86_400_000)
    assert [len(slot) for slot in wheel._far.values()] == [1]
