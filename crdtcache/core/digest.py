"""A sum tree over versions: marked by each write, folded when compared, compared branch by branch.

65,536 buckets by the top bits of the key's hash, 16-ary sums above them. A visible entry adds
`xxh3_64(key hash, version, lease; seed)` mod 2**64 to its bucket; every node has a sum, a visible count
and a dead count.

Decision: sum, not XOR (a delta applied twice must show), 64 bits, never the values and never the dead: what
may be removed at different times must not be in the checksum. Members are authenticated, so a hash that is
not cryptographic is enough. The write path only marks (0.05 us); hashing is left to the fold (about 1 us).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator

import xxhash

from crdtcache.core.entry import DEAD, STATE, Entry, Key, key_bytes

__all__ = ["BUCKET_BITS", "DIGEST_VERSION", "Digest"]

DIGEST_VERSION = 1
BUCKET_BITS = 16
GROUP_BITS = 12
_GROUP_SHIFT = 64 - GROUP_BITS
_BUCKET_SHIFT = 64 - BUCKET_BITS
_MASK = (1 << 64) - 1
_FOLD_AT = 512

_row = struct.Struct(">6Q").pack
_hash = xxhash.xxh3_64_intdigest


class Digest:
    """The tree of one replica over `entries`, the map that it must describe."""

    __slots__ = ("_dead", "_entries", "_groups", "_marks", "_seed", "_stale", "_sums", "_visible")

    def __init__(self, entries: dict[Key, Entry], seed: int) -> None:
        self._entries = entries
        self._seed = seed
        self._sums = array("Q", bytes(8 << BUCKET_BITS))
        self._visible = array("L", bytes(array("L").itemsize << BUCKET_BITS))
        self._dead = array("L", bytes(array("L").itemsize << BUCKET_BITS))
        self._marks: dict[Key, Entry | None] = {}
        # Lists of the keys of each 4096th of the hash space, made when first used. A forgotten key stays in
        # its list until the list is next read or half of it is stale: removal on the spot would be a scan.
        self._groups: list[list[Key] | None] = [None] * (1 << GROUP_BITS)
        self._stale = array("L", bytes(array("L").itemsize << GROUP_BITS))

    def key_hash(self, key: Key) -> int:
        """64 bits that place `key` in the tree; seeded, so that keys cannot be aimed at one bucket."""
        return _hash(key_bytes(key), self._seed)

    def mark(self, key: Key, old: Entry | None) -> None:
        """Note that `key` is about to change from `old`, before the map holds the new entry."""
        marks = self._marks
        if key not in marks:
            marks[key] = old
            if len(marks) >= _FOLD_AT:
                del marks[key]  # the map still holds its old entry: it is folded next time
                self.fold()
                marks[key] = old

    def fold(self) -> None:
        """Bring the sums up to date with the map."""
        entries = self._entries
        for key, old in self._marks.items():
            new = entries.get(key)
            hashed = self.key_hash(key)
            bucket = hashed >> _BUCKET_SHIFT
            delta = 0
            if old is not None:
                if old[STATE] == DEAD:
                    self._dead[bucket] -= 1
                else:
                    self._visible[bucket] -= 1
                    delta -= self._contribution(hashed, old)
            if new is not None:
                if new[STATE] == DEAD:
                    self._dead[bucket] += 1
                else:
                    self._visible[bucket] += 1
                    delta += self._contribution(hashed, new)
                if old is None:
                    self._list(hashed, key)
            elif old is not None:
                self._unlist(hashed)
            if delta:
                self._sums[bucket] = (self._sums[bucket] + delta) & _MASK
        self._marks.clear()

    def root(self) -> int:
        """The sum over all visible entries; equal maps have equal roots."""
        self.fold()
        return sum(self._sums) & _MASK

    def counts(self) -> tuple[int, int]:
        """(visible, dead) entries in the map."""
        self.fold()
        return sum(self._visible), sum(self._dead)

    def node(self, prefix: int, bits: int) -> tuple[int, int, int]:
        """(sum, visible, dead) of the `bits`-bit `prefix` (0 to 16 bits). The caller has folded."""
        width = BUCKET_BITS - bits
        low, high = prefix << width, (prefix + 1) << width
        return sum(self._sums[low:high]) & _MASK, sum(self._visible[low:high]), sum(self._dead[low:high])

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

    def rebuilt(self) -> Digest:
        """The same tree made anew from the map: what `check` compares with."""
        fresh = Digest(self._entries, self._seed)
        for key in self._entries:
            fresh.mark(key, None)
        fresh.fold()
        return fresh

    def check(self) -> None:
        """AssertionError unless the tree equals one rebuilt from the map, and lists every key."""
        self.fold()
        fresh = self.rebuilt()
        assert fresh.leaves() == self.leaves(), "digest drift: sums or counts"
        assert sum(len(self.keys_of_group(g)) for g in self.groups()) == len(self._entries), "digest drift: keys"

    def leaves(self) -> tuple[array[int], array[int], array[int]]:
        """Sums, visible counts and dead counts of all buckets. The caller has folded."""
        return self._sums, self._visible, self._dead

    def groups(self) -> Iterator[int]:
        """The groups that may hold keys."""
        return (group for group, listed in enumerate(self._groups) if listed is not None)

    def _contribution(self, hashed: int, entry: Entry) -> int:
        stamp, origin, touch, toucher, expires, _, _ = entry
        return _hash(_row(hashed, stamp, origin, touch, toucher, expires), self._seed)

    def _list(self, hashed: int, key: Key) -> None:
        group = hashed >> _GROUP_SHIFT
        listed = self._groups[group]
        if listed is None:
            self._groups[group] = [key]
        else:
            listed.append(key)

    def _unlist(self, hashed: int) -> None:
        group = hashed >> _GROUP_SHIFT
        self._stale[group] += 1
        listed = self._groups[group]
        if listed is not None and self._stale[group] * 2 > len(listed) + 8:
            entries = self._entries
            self._groups[group] = list(dict.fromkeys(k for k in listed if k in entries))
            self._stale[group] = 0
