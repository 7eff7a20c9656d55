"""Luck, keyed by the identity of what it decides: who, whom, what and when.

A frame's latency or a peer choice is a hash of the seed and that identity, never the next number of a shared
stream. So taking one operation out of a plan changes nobody else's luck, and a shrinker can take out almost
everything (measured in a study for this project: a failing plan shrank to 1 operation instead of 7).

Decision: blake2b of packed integers, a microsecond each, from the standard library, the same on every platform.
"""

from __future__ import annotations

import random
import struct
from hashlib import blake2b

__all__ = ["CoreRandom", "Luck"]

_pack = struct.Struct("<qqqq").pack
_MASK = (1 << 64) - 1


class Luck:
    """Numbers for one seed."""

    __slots__ = ("_keyed",)

    def __init__(self, seed: int) -> None:
        self._keyed = blake2b(digest_size=8, key=seed.to_bytes(16, "little", signed=True))

    def number(self, purpose: int, a: int = 0, b: int = 0, c: int = 0) -> int:
        """64 bits that depend on the seed and on what they are for, on nothing else."""
        hashed = self._keyed.copy()
        hashed.update(_pack(purpose, a, b, c))
        return int.from_bytes(hashed.digest(), "little")


class CoreRandom(random.Random):
    """The `Random` that a replica is given: re-keyed before each call into it, so that no draw depends on earlier ones.

    The key is computed at the first draw: most calls draw nothing.
    """

    def __init__(self, luck: Luck, node: int, incarnation: int) -> None:
        super().__init__(0)
        self._luck = luck
        self._node = (node << 20) | incarnation
        self._what = 0
        self._when = 0
        self._state = -1

    def rekey(self, what: int, when: int) -> None:
        """What is about to be decided, and at which ns."""
        self._what, self._when, self._state = what, when, -1

    def _next(self) -> int:
        if self._state < 0:
            self._state = self._luck.number(1, self._node, self._what, self._when)
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def random(self) -> float:
        """A float in [0, 1)."""
        return (self._next() >> 11) * 2.0**-53

    def getrandbits(self, k: int, /) -> int:
        """`k` bits."""
        bits = 0
        for _ in range(0, k, 64):
            bits = (bits << 64) | self._next()
        return bits >> (-k % 64) if k else 0
