"""Merging is commutative, associative, idempotent and monotone, for entries and for the leases inside them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtcache.core.entry import DEAD, EXPIRES, GHOST, LIVE, STAMP, STATE, TOUCH, TOUCHER, VALUE, Entry, merge

SMALL = st.integers(1, 4)
UNKNOWN = 7  # a state of some newer wire version


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Few stamps and origins, so that equal versions with different contents (a duplicated identity) are common."""
    stamp, origin = draw(SMALL), draw(SMALL)
    touched = draw(st.booleans())
    touch, toucher = (draw(st.integers(stamp, 6)), draw(SMALL)) if touched else (stamp, origin)
    state = draw(st.sampled_from([LIVE, LIVE, GHOST, DEAD, UNKNOWN]))
    if state == DEAD:
        value = draw(st.sampled_from([None, (1, 1), (2, 1)]))
    elif state == GHOST:
        value = None
    else:
        value = draw(st.sampled_from(["a", "b", b"a", 1, True, 1.0, None]))
    return (stamp, origin, touch, toucher, draw(st.sampled_from([0, 5, 9])), state, value)


def same(a: Entry, b: Entry) -> bool:
    """Equal, also in the types of their values: 1, True and 1.0 are three values."""
    return a == b and a[VALUE].__class__ is b[VALUE].__class__


@given(entries(), entries())
def test_merge_is_commutative(a: Entry, b: Entry) -> None:
    assert same(merge(a, b), merge(b, a))


@given(entries(), entries(), entries())
def test_merge_is_associative(a: Entry, b: Entry, c: Entry) -> None:
    assert same(merge(merge(a, b), c), merge(a, merge(b, c)))


@given(entries(), entries())
def test_merge_is_idempotent(a: Entry, b: Entry) -> None:
    assert same(merge(a, a), a)
    assert same(merge(merge(a, b), b), merge(a, b))


@given(entries(), entries())
def test_merge_only_goes_up(a: Entry, b: Entry) -> None:
    merged = merge(a, b)
    for one in (a, b):
        assert merged[:TOUCH] >= one[:TOUCH]
        if merged[:TOUCH] == one[:TOUCH]:
            assert merged[TOUCH:STATE] >= one[TOUCH:STATE]
            assert one[STATE] != DEAD or merged[STATE] == DEAD


@given(entries(), entries())
def test_the_lease_is_a_register_of_its_own(a: Entry, b: Entry) -> None:
    if a[:TOUCH] != b[:TOUCH]:
        b = a[:TOUCH] + b[TOUCH:]
    merged = merge(a, b)
    assert merged[TOUCH : EXPIRES + 1] == max(a[TOUCH : EXPIRES + 1], b[TOUCH : EXPIRES + 1])


def test_a_value_fills_a_ghost_and_dead_beats_live() -> None:
    live: Entry = (3, 1, 3, 1, 0, LIVE, "x")
    ghost: Entry = (*live[:STATE], GHOST, None)
    dead: Entry = (*live[:STATE], DEAD, None)
    assert merge(ghost, live) == merge(live, ghost) == live
    assert merge(dead, live) == merge(live, dead) == dead


def test_the_greater_version_wins_whatever_its_state() -> None:
    older: Entry = (3, 9, 5, 5, 0, DEAD, (2, 2))
    newer: Entry = (4, 1, 4, 1, 0, GHOST, None)
    assert merge(older, newer) is newer
    assert merge(newer, older)[STAMP] == 4
    assert merge(newer, older)[TOUCHER] == 1
