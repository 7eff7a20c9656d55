"""A sum tree over versions: marked by each write, folded when compared, compared branch by branch.

65,536 buckets by the top bits of the key's hash, 16-ary sums above them. A visible entry adds
a hash of its key, version and lease (where that is not the one its set wrote) mod 2**64 to its bucket; every
bucket has a sum and a count of all, the dead included. A node of the tree is one number, as in a heap: the root is 1,
the children of n are 16 n to 16 n + 15, and 65,536 to 131,071 are the buckets.

Decision: sum, not XOR (a delta applied twice must show), 64 bits, never the values and never the dead: what
may be removed at different times must not be in the checksum. Members are authenticated, so a hash that is
not cryptographic is enough. The write path only marks (0.05 us); hashing is left to the fold (about 1 us).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Collection, Iterator
from typing import TypeAlias

import xxhash

from crdtcache.core.entry import DEAD, STATE, VALUE, Entry, Key, key_bytes

Header: TypeAlias = tuple[int, int, int, int, int, int]
"""An entry without its value."""

__all__ = [
    "BUCKET_BITS",
    "BUCKET_SHIFT",
    "DIGEST_VERSION",
    "LEAF",
    "MASK",
    "ROOT",
    "Digest",
    "apart",
    "hash64",
    "is_node",
]

DIGEST_VERSION = 1
BUCKET_BITS = 16
GROUP_BITS = 12
_GROUP_SHIFT = 64 - GROUP_BITS
_GROUP_WIDTH = BUCKET_BITS - GROUP_BITS
ROOT = 1
LEAF = 1 << BUCKET_BITS
BUCKET_SHIFT = 64 - BUCKET_BITS
MASK = (1 << 64) - 1
FOLD_AT = 4096

_row = struct.Struct(">3Q").pack
hash64 = xxhash.xxh3_64_intdigest


def is_node(node: int) -> bool:
    """Whether the number is one of a node of the tree."""
    return 0 < node < 2 * LEAF and node.bit_length() % 4 == 1


def apart(nodes: Collection[int]) -> bool:
    """Whether these are nodes of the tree, each named once, and none of them lies below another."""
    named = frozenset(nodes)
    return len(named) == len(nodes) and not any(
        not is_node(n) or any(n >> up in named for up in range(4, BUCKET_BITS + 1, 4)) for n in nodes
    )


def _buckets(node: int) -> tuple[int, int]:
    width = BUCKET_BITS + 1 - node.bit_length()
    return (node << width) - LEAF, ((node + 1) << width) - LEAF


class Digest:
    """The tree of one replica over `entries`, the map that it must describe."""

    __slots__ = ("_counts", "_entries", "_groups", "_stale", "marks", "seed", "sums", "total")

    def __init__(self, entries: dict[Key, Entry], seed: int) -> None:
        self._entries = entries
        self.seed = seed
        self.sums = array("Q", bytes(8 << BUCKET_BITS))
        self._counts = array("I", bytes(array("I").itemsize << BUCKET_BITS))  # of all, the dead included
        self.total = 0  # of all sums, not yet mod 2**64
        self.marks: dict[Key, Header | None] = {}
        # Lists of the keys of each 4096th of the hash space, made when first used. A forgotten key stays in
        # its list until the list is next read or half of it is stale: removal on the spot would be a scan.
        self._groups: list[list[Key] | None] = [None] * (1 << GROUP_BITS)
        self._stale = array("I", bytes(array("I").itemsize << GROUP_BITS))

    def keyhash64(self, key: Key) -> int:
        """64 bits that place `key` in the tree; seeded, so that keys cannot be aimed at one bucket."""
        return hash64(self._content(key), self.seed)

    def mark(self, key: Key, old: Entry | None) -> None:
        """Note that `key` is about to change from `old`, before the map holds the new entry."""
        marks = self.marks
        if key not in marks:
            if len(marks) >= FOLD_AT:
                self.fold()
            marks[key] = old[:VALUE] if old is not None else None  # not the value: it would live until the fold

    def fold(self) -> None:
        """Bring the sums up to date with the map."""
        marks = self.marks
        if not marks:
            return
        sums, entry_of, seed, contribution = self.sums, self._entries.get, self.seed, self._contribution
        for key, old in marks.items():
            new = entry_of(key)
            # Written out for the commonest key and lease: the fold is half of what a `set` costs.
            content = key.encode() if key.__class__ is str else self._content(key)
            bucket = hash64(content, seed) >> BUCKET_SHIFT
            total = before = sums[bucket]
            if old is not None and old[STATE] != DEAD:
                stamp, origin, touch, toucher, expires, *_ = old
                if expires or touch != stamp or toucher != origin:
                    total -= contribution(content, old)
                else:
                    total -= hash64(content, stamp ^ origin ^ seed)
            if new is not None and new[STATE] != DEAD:
                stamp, origin, touch, toucher, expires, _, _ = new
                if expires or touch != stamp or toucher != origin:
                    total += contribution(content, new)
                else:
                    total += hash64(content, stamp ^ origin ^ seed)
            if (old is None) is not (new is None):
                self._count(content, bucket, 1 if old is None else -1, key)
            sums[bucket] = total & MASK
            self.total += total - before
        marks.clear()

    def root(self) -> int:
        """The sum over all visible entries; equal maps have equal roots."""
        self.fold()
        self.total &= MASK
        return self.total

    def node(self, node: int) -> tuple[int, int]:
        """(sum of the visible, count of all, the dead included) below a node. The caller has folded."""
        if node == ROOT:
            return self.total & MASK, len(self._entries)
        low, high = _buckets(node)
        return sum(self.sums[low:high]) & MASK, sum(self._counts[low:high])

    def keys_below(self, node: int) -> Iterator[list[Key]]:
        """The keys below a node, group by group, each as it is held when its turn comes."""
        low, high = _buckets(node)
        if node < LEAF:
            for group in range(low >> _GROUP_WIDTH, high >> _GROUP_WIDTH):
                yield self.keys_of_group(group)
        else:
            yield [k for k in self.keys_of_group(low >> _GROUP_WIDTH) if self.keyhash64(k) >> BUCKET_SHIFT == low]

    def keys_of_group(self, group: int) -> list[Key]:
        """The keys of one of the 4,096 groups, held now; a snapshot."""
        self.fold()
        listed = self._groups[group]
        if listed is None:
            return []
        entries = self._entries
        keys = list(dict.fromkeys(key for key in listed if key in entries))
        self._groups[group] = keys
        self._stale[group] = 0
        return list(keys)

    def rebuild(self) -> None:
        """Make the tree anew, in the same arrays: the write path holds on to them."""
        for numbers in (self.sums, self._counts, self._stale):
            numbers[:] = array(numbers.typecode, bytes(numbers.itemsize * len(numbers)))
        self._groups[:] = [None] * len(self._groups)
        self.total = 0
        self.marks.clear()
        self._mark_all()

    def rebuilt(self) -> Digest:
        """The same tree made anew from the map: what `check` compares with."""
        fresh = Digest(self._entries, self.seed)
        fresh._mark_all()
        return fresh

    def _mark_all(self) -> None:
        for key in self._entries:
            self.mark(key, None)
        self.fold()

    def check(self) -> None:
        """AssertionError unless the tree equals one rebuilt from the map, and lists every key."""
        self.fold()
        fresh = self.rebuilt()
        assert fresh.leaves() == self.leaves(), "digest drift: sums or counts"
        assert fresh.root() == self.root(), "digest drift: root"
        assert sum(len(self.keys_of_group(g)) for g in self.groups()) == len(self._entries), "digest drift: keys"

    def leaves(self) -> tuple[array[int], array[int]]:
        """Sums of the visible and counts of all, of each bucket. The caller has folded."""
        return self.sums, self._counts

    def groups(self) -> Iterator[int]:
        """The groups that may hold keys."""
        return (group for group, listed in enumerate(self._groups) if listed is not None)

    def _contribution(self, content: bytes, entry: Entry | Header) -> int:
        stamp, origin, touch, toucher, expires, *_ = entry
        return hash64(_row(touch, toucher, expires), hash64(content, stamp ^ origin ^ self.seed))

    def _content(self, key: Key) -> bytes:
        """The bytes of a key that are hashed: of three kinds, so that "a", b"a" and ("a",) stay apart."""
        kind = key.__class__
        if kind is str:
            return key.encode()  # type: ignore[union-attr]
        return b"\xff" + key if kind is bytes else b"\xfe" + key_bytes(key)  # type: ignore[operator]

    def _count(self, content: bytes, bucket: int, by: int, key: Key) -> None:
        """A key has come or gone."""
        self._counts[bucket] += by
        group = hash64(content, self.seed) >> _GROUP_SHIFT
        if by > 0:
            listed = self._groups[group]
            if listed is None:
                self._groups[group] = [key]
            else:
                listed.append(key)
        else:
            self._unlist(group)

    def _unlist(self, group: int) -> None:
        self._stale[group] += 1
        listed = self._groups[group]
        if listed is not None and self._stale[group] * 2 > len(listed) + 8:
            entries = self._entries
            self._groups[group] = list(dict.fromkeys(k for k in listed if k in entries))
            self._stale[group] = 0
