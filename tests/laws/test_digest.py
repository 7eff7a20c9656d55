"""The digest: whatever happens to a map, the tree is the one made anew from it; equal maps have equal roots."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crdtcache.core.digest import FOLD_AT, GROUP_BITS, LEAF, MASK, ROOT, Digest, is_node
from crdtcache.core.entry import DEAD, STATE, Entry, Key, live_entry
from tests.core import strategies as draw

few_keys = st.one_of(st.sampled_from(["a", b"a", ("a",), 1, "1", b"\xffa", "ÿa"]), draw.keys)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), few_keys, draw.entries()),
        st.tuples(st.just("forget"), few_keys),
        st.tuples(st.sampled_from(["fold", "root", "check"])),
    ),
    max_size=60,
)


class Marked:
    """A map and its digest, changed as `LWWMap` does it: marked before, then replaced."""

    def __init__(self, seed: int = 0) -> None:
        self.entries: dict[Key, Entry] = {}
        self.digest = Digest(self.entries, seed)

    def put(self, key: Key, entry: Entry | None) -> None:
        self.digest.mark(key, self.entries.get(key))
        if entry is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = entry

    def play(self, actions: list[tuple[Any, ...]]) -> None:
        for name, *rest in actions:
            if name == "put":
                self.put(*rest)
            elif name == "forget":
                self.put(*rest, None)
            else:
                getattr(self.digest, name)()

    def visible(self) -> dict[Key, tuple[int, ...]]:
        return {key: entry[:5] for key, entry in self.entries.items() if entry[STATE] != DEAD}


@given(steps, st.integers(0, (1 << 64) - 1))
def test_the_tree_is_the_one_that_is_made_anew_and_lists_every_key(actions: list[tuple[Any, ...]], seed: int) -> None:
    marked = Marked(seed)
    marked.play(actions)
    digest = marked.digest
    digest.check()
    listed = [key for group in range(1 << GROUP_BITS) for key in digest.keys_of_group(group)]
    assert sorted(map(repr, listed)) == sorted(map(repr, marked.entries))
    assert sum(digest.leaves()[1]) == len(marked.entries)


@given(steps, steps, steps)
def test_equal_maps_have_equal_roots_and_different_ones_have_not(
    one: list[tuple[Any, ...]], other: list[tuple[Any, ...]], both: list[tuple[Any, ...]]
) -> None:
    a, b = Marked(5), Marked(5)
    a.play(one + both)
    b.play(other + both)
    assert (a.visible() == b.visible()) == (a.digest.root() == b.digest.root())


@given(steps)
def test_sums_of_branches_add_up_and_differ_only_where_the_maps_do(actions: list[tuple[Any, ...]]) -> None:
    a, b = Marked(1), Marked(1)
    a.play(actions)
    b.play(actions)
    a.put("only here", live_entry(5, 5, 0, "v"))
    for marked in (a, b):
        digest = marked.digest
        digest.fold()
        for first in (1, 16, 256, 4_096):
            for node in range(first, 2 * first, max(1, first // 16)):
                sums, counts = zip(*(digest.node(16 * node + i) for i in range(16)), strict=True)
                assert digest.node(node) == (sum(sums) & MASK, sum(counts))
    differ = [node for node in range(16, 32) if a.digest.node(node) != b.digest.node(node)]
    assert differ == ([16 + (a.digest.keyhash64("only here") >> 60)] if a.visible() != b.visible() else [])
    assert a.digest.node(ROOT) == (a.digest.root(), len(a.entries))


@given(steps)
def test_each_level_of_the_tree_lists_every_key_once_below_the_node_of_its_hash(actions: list[tuple[Any, ...]]) -> None:
    marked = Marked(1)
    marked.play(actions)
    for level in range(5):
        nodes = {(1 << 4 * level) + (marked.digest.keyhash64(key) >> 64 - 4 * level) for key in marked.entries}
        listed = [key for node in sorted(nodes) for keys in marked.digest.keys_below(node) for key in keys]
        assert sorted(map(repr, listed)) == sorted(map(repr, marked.entries))
        for node in nodes:
            found = [key for keys in marked.digest.keys_below(node) for key in keys]
            assert len(found) == marked.digest.node(node)[1] > 0


def test_only_the_numbers_of_nodes_are_nodes() -> None:
    assert [node for node in range(-1, 300) if is_node(node)] == [1, *range(16, 32), *range(256, 300)]
    assert is_node(2 * LEAF - 1)
    assert not is_node(2 * LEAF)


def test_a_digest_depends_on_the_seed_and_not_on_values_states_or_the_dead() -> None:
    entry = live_entry(5, 7, 9, "v")
    roots = []
    for seed, content in ((1, entry), (2, entry), (1, (*entry[:STATE], 1, None)), (1, (*entry[:STATE], 9, b"?"))):
        marked = Marked(seed)
        marked.put("k", content)
        marked.put("dead", (5, 5, 5, 5, 0, DEAD, None))
        roots.append(marked.digest.root())
    assert roots[0] == roots[2] == roots[3] != roots[1]


def test_a_change_applied_twice_shows() -> None:
    """Why it is a sum: with XOR the second would undo the first."""
    marked = Marked()
    roots = {marked.digest.root()}
    for key in ("a", "b", "c"):
        marked.put(key, live_entry(5, 5, 0, "v"))
        roots.add(marked.digest.root())
    assert len(roots) == 4


def test_more_marks_than_fit_are_folded_on_the_way_and_forgotten_keys_leave_their_lists() -> None:
    marked, rng = Marked(3), random.Random(1)
    for number in range(3 * FOLD_AT):
        key = rng.randrange(2 * FOLD_AT)
        marked.put(key, None if number % 3 == 0 else live_entry(number + 1, 7, 0, None))
    marked.digest.check()
    for key in list(marked.entries):
        marked.put(key, None)
    marked.digest.check()
    assert marked.digest.root() == 0
    assert sum(len(listed or ()) for listed in marked.digest._groups) <= 8 << GROUP_BITS
