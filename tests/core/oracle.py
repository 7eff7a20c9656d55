"""An account of every write, kept beside the replicas, that knows what must hold at any moment.

It does not look at how the core decides. For each write it remembers which other writes of the key its writer
had accounted for; everything it asserts follows from that, from the clocks, and from what each replica shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from crdtcache.core.entry import DEAD, EXPIRES, STATE, Key
from tests.core.world import WALL_MS, World

Pair = tuple[int, int]


class Write(NamedTuple):
    """`seen`: the versions of the key that its writer had accounted for, this one's predecessors."""

    kind: str  # "set" or "delete"
    seen: frozenset[Pair]


@dataclass
class Oracle:
    """What was written, who has shown what, who was told GONE."""

    world: World
    writes: dict[Key, dict[Pair, Write]] = field(default_factory=dict)
    ends: dict[Pair, int] = field(default_factory=dict)  # version -> the least expiry that it ever had, Unix ms
    clears: list[Pair] = field(default_factory=list)
    shown: dict[tuple[str, Key], Pair] = field(default_factory=dict)
    gone: set[Pair] = field(default_factory=set)
    stamps: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for replica in self.world.nodes.values():
            self._listen(replica.map)

    def _listen(self, held: object) -> None:
        """Note which versions a replica was told to forget; nothing is changed."""
        told = held.gone  # type: ignore[attr-defined]

        def gone(key: Key, version: Pair, reading: object) -> bool:
            self.gone.add(version)
            return bool(told(key, version, reading))

        held.gone = gone  # type: ignore[attr-defined]

    # ---- what happens ---------------------------------------------------------------------------------------------

    def put(self, name: str, key: Key, value: object, ttl_ms: int = 0, *, fast: bool = False) -> None:
        seen = self._seen(name, key)
        version = self.world.write(name, key, value) if fast else self.world.put(name, key, value, ttl_ms)
        self._note(name, key, version, Write("set", seen))
        if ttl_ms:
            self.ends[version] = self.world.wall_ms(name) + ttl_ms

    def delete(self, name: str, key: Key) -> None:
        seen = self._seen(name, key)
        self._note(name, key, self.world.delete(name, key), Write("delete", seen))

    def touch(self, name: str, key: Key, ttl_ms: int) -> None:
        entry = self.world[name].entry(key, self.world.reading(name))
        if entry is None:
            assert not self.world.touch(name, key, ttl_ms), "a touch revived what is not visible"
            return
        assert self.world.touch(name, key, ttl_ms)
        version = entry[:2]
        if ttl_ms:
            ends = self.world.wall_ms(name) + ttl_ms
            self.ends[version] = min(self.ends.get(version, ends), ends)
        self._stamp(name)

    def clear(self, name: str) -> None:
        self.clears.append(self.world[name].clear(self.world.reading(name)))
        self._stamp(name)

    def _seen(self, name: str, key: Key) -> frozenset[Pair]:
        return frozenset(v for v in self.writes.get(key, {}) if self.world.covers(name, v, key))

    def _note(self, name: str, key: Key, version: Pair, write: Write) -> None:
        assert all(v < version for v in write.seen), "a write that loses against what its writer could see"
        self.writes.setdefault(key, {})[version[:2]] = write
        self._stamp(name)

    def _stamp(self, name: str) -> None:
        replica = self.world[name]
        replica.settle()
        stamp = replica.map.context.last[replica.origin]
        assert stamp > self.stamps.get(replica.origin, 0), "I7: stamps of an origin strictly increase"
        self.stamps[replica.origin] = stamp

    # ---- what must hold at any moment -----------------------------------------------------------------------------

    def check(self) -> None:
        world = self.world
        strict = not any(replica.map.unsafe_gc for replica in world.nodes.values())
        for name, replica in world.nodes.items():
            replica.settle()
            for key in self.writes:
                self._check_dead(name, key)
                if strict:
                    self._check_key(name, key)
            for origin, frontier in replica.map.context.frontier.items():
                ahead = (frontier >> 16) - world.wall_ms(name)
                # The own one is above what was accepted, so the counter may borrow from the next millisecond.
                most = world.tuning.max_drift_ms + (origin == replica.origin)
                assert ahead <= most, f"a frontier at {name} is {ahead} ms ahead of its clock"
        digests = {name: (replica.digest(), world.visible(name)) for name, replica in world.nodes.items()}
        for a, (root_a, map_a) in digests.items():
            for b, (root_b, map_b) in digests.items():
                assert (root_a == root_b) == (map_a == map_b), f"I2: digests and maps of {a} and {b}"

    def _check_dead(self, name: str, key: Key) -> None:
        """I10: nothing is dead of expiry before a lease that it had is over, less the drift.

        A touch that comes after the old lease was over may be lost with its entry, so the shortest one counts.
        What was removed in another way is dead at its version too, where a slice says that it is absent.
        """
        held = self.world.held(name, key)
        if held is not None and held[STATE] == DEAD and held[EXPIRES]:
            deletes = [v for v, write in self.writes[key].items() if write.kind == "delete"]
            if any(held[:2] <= removal for removal in self.clears + deletes):
                return
            early = self.ends[held[:2]] - WALL_MS - self.world.now_ms
            assert early <= self.world.tuning.max_drift_ms, f"I10: {key} died {early} ms early at {name}"

    def _check_key(self, name: str, key: Key) -> None:
        world, writes = self.world, self.writes[key]
        context = world[name].map.context
        entry = world[name].entry(key, world.reading(name))
        held = world.held(name, key)
        shown = entry[:2] if entry is not None else None
        if shown is not None:
            assert shown in writes, f"{name} shows {key} at a version that nobody wrote"
            before = self.shown.get((name, key), (0, 0))
            # What lapsed is forgotten whether or not all were heard, so an older write, unseen by it, may come after
            # it. Whoever was told GONE while a clear is parked here may show what the clear is about to take.
            parked = before in self.gone and any(before <= mark > context.clear_mark for mark in self.clears)
            assert shown >= before or parked or self._lapsed(before), (
                f"I13: {name} shows {key} at {shown} after {before}"
            )
            self.shown[name, key] = shown
        for version, write in writes.items():
            at_hand = held is not None and held[:2] == version
            covered = context.covers(*version)
            if not at_hand and not covered:
                continue
            if shown is not None and version > shown:
                # I3, and for every other write too: what it had seen stays away from those who know of it.
                assert shown not in write.seen, f"I3: {name} shows {key} at {shown}, which {version} had seen"
                assert write.kind == "set", f"{name} shows {key} at {shown} and knows of its later delete {version}"
            if not at_hand and write.kind == "set" and (held is None or held[:2] < version):
                assert self._removed(name, key, version), f"I6: {name} covers {key} at {version} without reason"

    def _removed(self, name: str, key: Key, version: Pair) -> bool:
        """Whether `version` is dominated by a removal that `name` knows of, or that somebody told of by GONE."""
        world = self.world
        context = world[name].map.context
        if version <= context.clear_mark or self._lapsed(version):
            return True
        told = any(other in self.gone for other in self.writes[key] if other >= version)
        for later, write in self.writes[key].items():
            if later <= version or not (write.kind == "delete" or self._lapsed(later)):
                continue
            if told or world.covers(name, later, key):
                return True
        return told and any(version <= mark for mark in self.clears)

    def _lapsed(self, version: Pair) -> bool:
        """Whether the shortest lease that `version` ever had is over by the fastest clock."""
        ends = self.ends.get(version, 0)
        return bool(ends) and ends <= WALL_MS + self.world.now_ms + max(self.world.offset_ms.values())

    # ---- what must hold in the end --------------------------------------------------------------------------------

    def check_final(self, timeless: list[Key]) -> None:
        """After a calm: of every key that never had an expiry, all show the greatest write, or nothing."""
        mark = max(self.clears, default=(0, 0))
        for key in timeless:
            writes = self.writes.get(key)
            if not writes:
                continue
            last = max(writes)
            expected = last if writes[last].kind == "set" and last > mark else None
            for name, replica in self.world.nodes.items():
                if replica.map.unsafe_gc:
                    return
                entry = replica.entry(key, self.world.reading(name))
                assert (entry[:2] if entry is not None else None) == expected, f"I4: {key} at {name}"
