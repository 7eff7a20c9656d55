"""An independent account of what should be: every write, in a list, and last writer wins over that list.

It shares no rule with the core: no contexts, no digests, no sessions. A write is remembered with its version, its
leases and what its writer had seen; the winner of a key is the greatest version, and that is all.

Decision: versions are taken from the replicas (only the clock of a writer can stamp a write), and everything that
follows from them is worked out again here.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crdtcache.core.entry import Entry

__all__ = ["Oracle", "Write"]

Version = tuple[int, int]


@dataclass(slots=True)
class Write:
    """One put or delete. `seen` is the version its writer held for the key, `frontier` all that it had covered."""

    version: Version
    kind: str
    key: str
    value: str
    node: int
    process: int
    at: int  # true time, ns
    seen: Version | None
    frontier: dict[int, int] = field(default_factory=dict)  # of deletes only
    leases: list[tuple[int, int, int]] = field(default_factory=list)  # (touch stamp, toucher, expires Unix ms)

    def __lt__(self, other: Write) -> bool:
        return self.version < other.version

    @property
    def removal(self) -> bool:
        """Whether it takes the key away."""
        return self.kind == "delete"

    def had_seen(self, version: Version) -> bool:
        """Whether the writer of this delete knew that version."""
        if version >= self.version:
            return False
        return version == self.seen or version[0] <= self.frontier.get(version[1], 0)

    def expires_ms(self) -> int:
        """Of the greatest lease; 0 for never."""
        return max(self.leases)[2] if self.leases else 0

    @property
    def may_lapse(self) -> bool:
        """Whether some lease of it ends at all."""
        return any(expires for _, _, expires in self.leases)

    def may_lapse_by(self, unix_ms: int) -> bool:
        """Whether some lease of it has ended by then: a touch that came too late may be lost with its entry."""
        return any(0 < expires <= unix_ms for _, _, expires in self.leases)


class Oracle:
    """All writes of a run."""

    def __init__(self) -> None:
        self.writes: dict[str, list[Write]] = {}  # per key, in the order of their versions
        self.removals: dict[str, list[Write]] = {}
        self.by_version: dict[Version, Write] = {}
        self.clears: list[tuple[Version, int, int]] = []  # version, node, process
        self.taken_back: list[Version] = []  # clears that their writer holds no more
        self.last: dict[int, int] = {}  # origin -> its greatest stamp
        self.again: dict[Version, Version] = {}  # what a write became whose writer has stamped it anew
        # Writes that may be gone: beaten for good by one that was stamped anew since, below them; pruned unheard.
        self.waived: set[Version] = set()
        self.conflicts = 0  # writes of a key that their successor had not seen

    def wrote(self, write: Write) -> None:
        """A put or delete."""
        self.by_version[write.version] = write
        insort(self.writes.setdefault(write.key, []), write)
        if write.removal:
            insort(self.removals.setdefault(write.key, []), write)
        self.last[write.version[1]] = write.version[0]

    def cleared(self, version: Version, node: int, process: int) -> None:
        """A clear of the whole cluster."""
        self.clears.append((version, node, process))
        self.last[version[1]] = version[0]

    def touched(self, base: Version, stamp: int, toucher: int, expires_ms: int) -> None:
        """A lease was written."""
        write = self.by_version.get(base)
        if write is not None:
            write.leases.append((stamp, toucher, expires_ms))
        self.last[toucher] = stamp

    def take_back(self, origin: int, above: int, mark: Version, believed: Callable[[Version], bool]) -> None:
        """The writes of an origin above a stamp were never made, but for those that somebody has believed.

        A clear among them became `mark`, and counts as it was once somebody believes it: it may be on its way.
        """
        for lists in (self.writes, self.removals):
            for key, writes in list(lists.items()):
                kept = [w for w in writes if w.version[1] != origin or w.version[0] <= above or believed(w.version)]
                # Nobody but who believed them holds these, nor for longer than that process lives (seed 10004266).
                self.waived.update(w.version for w in kept if w.version[1] == origin and w.version[0] > above)
                if kept:
                    lists[key] = kept
                else:
                    del lists[key]
        back = [clear for clear in self.clears if clear[0][1] == origin and clear[0][0] > above]
        self.taken_back += [version for version, _, _ in back]
        self.clears += [(mark, node, process) for _, node, process in back]

    def stamp_again(self, before: Version, entry: Entry, who: tuple[int, int], held: Collection[Version]) -> None:
        """A write goes on as `entry`, under another version or with another lease, by `who`: node and process.

        Of the writes in between, those that are not `held` anywhere any more had been beaten, as one of two
        concurrent writes always is: no correction can bring them back. Nor itself, once nobody holds it as it was.
        """
        write, version, lease = self.by_version.get(before), entry[:2], entry[2:5]
        if write is None:
            return
        leases = [*write.leases, lease] if write.leases or lease[2] else []
        if before == version:
            write.leases = leases
            return
        if who == (write.node, write.process):
            self.again[before] = version
        between = [w.version for w in self.writes.get(write.key, []) if version < w.version <= before]
        self.waived.update(w for w in between if w not in held)
        self.wrote(replace(write, version=version, leases=leases, node=who[0], process=who[1]))

    def winner(self, key: str) -> Write | None:
        """The greatest write of a key."""
        writes = self.writes.get(key)
        return writes[-1] if writes else None
