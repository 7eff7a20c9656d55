"""The laws of merge: commutative, associative, idempotent, monotone, whatever stands under one version.

Contents that differ under one version are a duplicated identity; the laws hold for them too, or such a cluster
would never agree.
"""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtcache.core.entry import (
    DEAD,
    EXPIRES,
    GHOST,
    LIVE,
    STATE,
    TOUCH,
    TOUCHER,
    VALUE,
    Entry,
    Key,
    Packed,
    Version,
    dead_entry,
    key_bytes,
    live_entry,
    merge,
    version_of,
)
from crdtcache.errors import EncodeError, KeyTypeError
from tests.core import strategies as draw

few = st.integers(1, 2)
#: Few versions and few leases, so that most draws meet; every state, any value.
entries = st.one_of(
    draw.entries(st.tuples(few, few)),
    st.builds(
        lambda version, lease, expires, state, value: (
            *version,
            *lease,
            expires,
            state,
            None if state == GHOST else value,
        ),
        st.tuples(few, few),
        st.tuples(few, few),
        st.sampled_from([0, 5, 9]),
        st.sampled_from([LIVE, GHOST, 3, 4]),
        draw.values,
    ),
    st.builds(lambda version, removed: dead_entry(*version, removed), st.tuples(few, few), draw.removed),
)


def typed(entry: Entry) -> tuple[object, ...]:
    """Equal only where the bytes on the wire are: 1 is not True is not 1.0, and -0.0 is not 0.0."""
    return (*entry[:VALUE], type(entry[VALUE]), repr(entry[VALUE]))


def lease(entry: Entry) -> tuple[int, ...]:
    return entry[TOUCH], entry[TOUCHER], entry[EXPIRES]


@given(entries, entries)
def test_merge_is_commutative(a: Entry, b: Entry) -> None:
    assert typed(merge(a, b)) == typed(merge(b, a))


@given(entries, entries, entries)
def test_merge_is_associative(a: Entry, b: Entry, c: Entry) -> None:
    results = {typed(merge(merge(x, y), z)) for x, y, z in permutations((a, b, c))}
    results |= {typed(merge(x, merge(y, z))) for x, y, z in permutations((a, b, c))}
    assert len(results) == 1


@given(entries, entries)
def test_merge_is_idempotent_and_gives_back_what_it_was_given_where_nothing_is_added(a: Entry, b: Entry) -> None:
    assert merge(a, a) is a
    both = merge(a, b)
    assert merge(both, b) is both
    assert typed(merge(both, a)) == typed(both)


@given(entries, entries)
def test_merge_is_monotone_in_version_state_and_lease(a: Entry, b: Entry) -> None:
    both = merge(a, b)
    assert both[:2] == max(a[:2], b[:2])
    for entry in (a, b):
        if entry[:2] == both[:2]:
            assert lease(both) >= lease(entry)
            assert (both[STATE] == DEAD) >= (entry[STATE] == DEAD)
            assert (both[STATE] != GHOST) >= (entry[STATE] != GHOST)


@given(entries, entries)
def test_a_lease_never_outlives_its_version(a: Entry, b: Entry) -> None:
    if a[:2] > b[:2]:
        assert merge(a, b) is a


@given(st.tuples(few, few), draw.values, st.integers(1, 9), st.integers(1, 9))
def test_what_beats_what_at_one_version(version: tuple[int, int], value: object, earlier: int, more: int) -> None:
    live = live_entry(*version, earlier, value)  # type: ignore[arg-type]
    ghost = (*live[:STATE], GHOST, None)
    dead = (*live[:STATE], DEAD, None)
    newer = (*live[:STATE], 7, b"")
    touched = (*version, version[0] + 1, 9, earlier + more, GHOST, None)
    assert merge(ghost, live) is live  # a value fills a ghost
    assert merge(live, dead) is dead  # dead beats live
    assert merge(newer, dead) is dead
    assert merge(newer, live) is newer
    assert lease(merge(live, touched)) == lease(touched)
    assert merge(live, touched)[VALUE] is value
    assert lease(merge(dead, touched)) == lease(touched)
    assert merge(dead, touched)[STATE] == DEAD  # a touch never revives


@given(st.tuples(draw.stamps, draw.origins).map(lambda pair: Version(*pair)))
def test_a_version_is_read_back_from_its_text(version: Version) -> None:
    assert Version.parse(str(version)) == version
    assert version_of(live_entry(*version, 0, None)) == version


@given(*(st.tuples(draw.words64, draw.words64).map(lambda pair: Version(*pair)) for _ in range(2)))
def test_texts_of_versions_sort_as_versions_do(a: Version, b: Version) -> None:
    assert (str(a) < str(b)) == (a < b)


ZEROS = "0" * 16


@pytest.mark.parametrize(
    "half", ["", "0" * 15, " " * 16, "g" * 16, "A" * 16, "+" + "0" * 15, "0_" * 8, "0x" + "0" * 14]
)
def test_almost_a_version_is_none(half: str) -> None:
    for text in (f"{half}-{ZEROS}", f"{ZEROS}-{half}", f"{half}{ZEROS}", f"{ZEROS}-{ZEROS}-{half}"):
        with pytest.raises(ValueError, match="not a version"):
            Version.parse(text)


@given(draw.keys, draw.keys)
def test_keys_are_equal_where_their_bytes_are(a: Key, b: Key) -> None:
    assert (a == b) == (key_bytes(a) == key_bytes(b))


@pytest.mark.parametrize("key", [True, None, 1.5, [1], {1}, ("a", True), ("a", ["b"]), (((((1,),),),),), Packed(b"x")])
def test_what_is_no_key_is_refused_by_name(key: object) -> None:
    with pytest.raises(KeyTypeError, match="key"):
        key_bytes(key)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [1 << 64, -(1 << 63) - 1, ("a", 1 << 70)])
def test_a_number_beyond_64_bits_is_no_key(key: Key) -> None:
    with pytest.raises(KeyTypeError, match="64 bits"):
        key_bytes(key)


@pytest.mark.parametrize("key", ["\ud800", ("a", "\udfff")])
def test_a_lone_surrogate_cannot_be_encoded(key: Key) -> None:
    with pytest.raises(EncodeError):
        key_bytes(key)
