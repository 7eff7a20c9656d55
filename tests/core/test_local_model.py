"""The store and its digest under any local operations, against a plain dict and a tree made anew."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from crdtcache.core.clock import Reading
from crdtcache.core.entry import DEAD, EXPIRES, GHOST, STATE, VALUE, Packed
from crdtcache.core.replica import Replica
from crdtcache.tuning import Tuning

START_MS = 1_700_000_000_000
KEYS = ("a", b"a", 1, ("a", 1), "ä")
VALUES = (None, True, 1, 1.5, "x", "ä" * 3, b"x" * 9, "long" * 300, Packed(b"\x01\x90"))
TUNING = Tuning(min_dead_age_ms=1_000, max_frame_age_ms=500, log_records=20)

operation = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.sampled_from(VALUES), st.sampled_from([0, 0, 50, 70_000])),
    st.tuples(st.just("write"), st.sampled_from(KEYS), st.sampled_from(VALUES[:-1]), st.just(0)),
    st.tuples(st.sampled_from(["delete", "evict", "get"]), st.sampled_from(KEYS), st.none(), st.just(0)),
    st.tuples(st.just("touch"), st.sampled_from(KEYS), st.none(), st.sampled_from([0, 40, 90_000])),
    st.tuples(st.sampled_from(["clear", "clear_local"]), st.none(), st.none(), st.just(0)),
    st.tuples(st.just("wait"), st.none(), st.none(), st.sampled_from([1, 60, 2_000, 80_000])),
)


def make(maxsize: int | None, origin: int = 1) -> tuple[Replica, list[int]]:
    replica = Replica(
        origin=origin,
        name="n",
        cluster="c",
        generation=1,
        rng=random.Random(1),
        reading=Reading(START_MS, 0),
        tuning=TUNING,
        maxsize=maxsize,
        seed=9,
    )
    return replica, [0]


def play(replica: Replica, elapsed: list[int], model: dict, step: tuple) -> None:
    """One operation on both; `model` holds key -> (value, expiry or 0)."""
    name, key, value, span = step
    now = Reading(START_MS + elapsed[0], elapsed[0] * 1_000_000)
    if name == "put":
        expires = now.wall_ms + span if span else 0
        replica.put(key, value, expires, now)
        model[key] = (value, expires)
    elif name == "write":
        _ = replica.write(key, value, now.wall_ms) or replica.put(key, value, 0, now)
        model[key] = (value, 0)
    elif name == "delete":
        _, shown = replica.delete(key, now)
        assert shown == (key in model)
        model.pop(key, None)
    elif name == "touch":
        expires = now.wall_ms + span if span else 0
        assert replica.touch(key, expires, now) == (key in model)
        if key in model:
            model[key] = (model[key][0], expires)
    elif name == "evict":
        replica.evict(key, now)
    elif name == "get":
        shown = replica.store.shown(key)
        assert replica.store.promote(key) is shown
    elif name == "clear":
        replica.clear(now)
        model.clear()
    elif name == "clear_local":
        replica.clear_local(now)
    else:
        elapsed[0] += span
        now = Reading(START_MS + elapsed[0], elapsed[0] * 1_000_000)
        replica.advance(now)
        for gone in [k for k, (_, expires) in model.items() if expires and expires <= now.wall_ms]:
            del model[gone]


@given(st.lists(operation, max_size=40))
@settings(deadline=None)
def test_any_operations_leave_what_a_plain_dict_would_hold(steps: list[tuple]) -> None:
    replica, elapsed = make(None)
    model: dict = {}
    for step in steps:
        play(replica, elapsed, model, step)
        replica.check()  # byte sums, generations, the digest against one made anew
        now = Reading(START_MS + elapsed[0], elapsed[0] * 1_000_000)
        for key in KEYS:
            entry = replica.entry(key, now)
            assert (entry is not None) == (key in model)
            if entry is not None:
                assert entry[EXPIRES] == model[key][1]
                if entry[STATE] != GHOST:
                    assert entry[VALUE] == model[key][0]
                    assert entry[VALUE].__class__ is model[key][0].__class__


@given(st.lists(operation, max_size=60), st.integers(1, 4))
@settings(deadline=None)
def test_a_small_memory_is_never_exceeded_and_never_lies(steps: list[tuple], maxsize: int) -> None:
    replica, elapsed = make(maxsize)
    model: dict = {}
    for step in steps:
        if step[0] in ("touch", "delete"):
            continue  # what a full memory let go nobody can touch; the plain model does not know it
        play(replica, elapsed, model, step)
        replica.settle()
        replica.check()
        assert replica.store.live <= maxsize
        now = Reading(START_MS + elapsed[0], elapsed[0] * 1_000_000)
        shown = replica.store.keys()
        for key in shown:
            entry = replica.entry(key, now)
            if entry is not None:
                assert model[key][0] == entry[VALUE]


@given(st.lists(operation, max_size=40), st.lists(operation, max_size=40))
@settings(deadline=None)
def test_digests_are_equal_where_visible_entries_are(one: list[tuple], other: list[tuple]) -> None:
    pictures = []
    for steps in (one, other):
        replica, elapsed = make(None)
        model: dict = {}
        for step in steps:
            play(replica, elapsed, model, step)
        replica.settle()
        visible = {k: e[:STATE] for k, e in replica.store.entries.items() if e[STATE] != DEAD}
        pictures.append((visible, replica.digest()))
    assert (pictures[0][0] == pictures[1][0]) == (pictures[0][1] == pictures[1][1])
