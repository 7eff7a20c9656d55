"""What a run looked like: how far behind each node was, which frames went where, and which writes lost to which.

Three questions that a verdict does not answer and a picture does. A recorder is one more check of the run, and takes
what the trace and the network hand to their taps; it asks the core nothing that could change it, so a recorded run
has the trace hash of the same run unrecorded, and a run that nobody records pays nothing.

Decision: measured against the list of all writes (`oracle`), never by what the replicas believe of each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from crdtcache.core.codec import Limits, decode
from crdtcache.core.messages import Message
from sim.adapter import Node
from sim.checks.base import Check
from sim.checks.ending import ENDING
from sim.checks.safety import SAFETY
from sim.coverage import counted
from sim.engine import MS, Code
from sim.network import Connection, Endpoint
from sim.oracle import Write
from sim.plan import Plan
from sim.world import Result, World, played

__all__ = ["Conflict", "Passage", "Recording", "Sample", "record"]

_MOST_PASSAGES = 100_000


class Sample(NamedTuple):
    """At one instant (ns): for each node, how many keys it was behind on; None where no process ran.

    A node is behind on a key if it has not accounted for the greatest write of it that some running node knows.
    `oldest` is when the oldest of those writes was made; `at` where nobody is behind.
    """

    at: int
    behind: tuple[int | None, ...]
    oldest: int


class Passage:
    """One frame's way: when it was sent and when the other process had it (ns); `arrived` -1: never."""

    __slots__ = ("arrived", "frame", "sent", "source", "target")

    def __init__(self, sent: int, source: int, target: int, frame: bytes) -> None:
        self.sent = sent
        self.arrived = -1
        self.source = source
        self.target = target
        self.frame = frame

    def messages(self, plan: Plan) -> list[Message]:
        """What the frame says."""
        tuning = plan.tuned()
        return decode(self.frame, Limits(tuning.key_bytes, tuning.inline_bytes))[1]


class Conflict(NamedTuple):
    """A write that was beaten by one whose writer had not seen it."""

    lost: Write
    won: Write


@dataclass(frozen=True, slots=True)
class Recording:
    """A run and what was seen of it. `writes` in the order of true time; `passages` the latest 100,000."""

    result: Result
    end: int  # ns
    samples: list[Sample]
    passages: list[Passage]
    conflicts: list[Conflict]
    writes: list[Write]

    def whole_after(self, at_ms: int) -> int | None:
        """How many ms after `at_ms` nobody lacked a write made before it; None: never. Seen ten times a second."""
        last = max((s.at for s in self.samples if s.oldest < at_ms * MS <= s.at), default=at_ms * MS)
        after = next((s.at for s in self.samples if s.at > last), None)
        return after // MS - at_ms if after is not None else None


def record(plan: Plan, *, progress: Callable[[int], None] | None = None) -> Recording:
    """Run a plan and record it."""
    world = World(plan, (_Recorder, *SAFETY, *ENDING))
    result = counted(lambda: played(world, progress=progress))
    recorder = world.checks[0]
    assert isinstance(recorder, _Recorder)
    writes = sorted((w for ws in world.oracle.writes.values() for w in ws), key=lambda w: (w.at, w.version))
    conflicts = sorted(recorder.beaten.values(), key=lambda c: (c.lost.at, c.lost.version))
    return Recording(result, world.now, recorder.samples, list(recorder.passages), conflicts, writes)


class _Recorder(Check):
    """Stands first among the checks, so that the instant of a violation is still seen."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.samples: list[Sample] = []
        self.passages: deque[Passage] = deque(maxlen=_MOST_PASSAGES)
        self.beaten: dict[tuple[int, int], Conflict] = {}
        self._under_way: dict[tuple[int, int], deque[Passage]] = {}  # by link and receiver: a stream keeps the order
        self._latest: dict[str, dict[tuple[int, int], Write]] = {}  # writes that nobody has replaced knowingly
        world.engine.tap = self._noted
        world.network.tap = self._sent

    def _sent(self, connection: Connection, node: Endpoint, frame: bytes) -> None:
        target = connection.ends[1 - connection.side(node)].index
        passage = Passage(self.world.now, node.index, target, frame)
        self.passages.append(passage)
        self._under_way.setdefault((connection.number, target), deque()).append(passage)

    def _noted(self, code: Code, node: int, other: int, _: bytes) -> None:
        if code is Code.RECEIVE:
            self._under_way[other, node].popleft().arrived = self.world.now

    def wrote(self, node: Node, write: Write) -> None:
        """Each write of the key that this writer had not accounted for is in conflict with it."""
        assert node.replica is not None
        context, now_ms = node.replica.map.context, self.world.unix_ms
        latest = self._latest.setdefault(write.key, {})
        if write.seen is not None:
            latest.pop(write.seen, None)
            self.beaten.pop(write.seen, None)
        for other in latest.values():
            own = other.version[1] == write.version[1]
            if own or context.covers(*other.version) or other.may_lapse_by(now_ms):
                continue
            lost, won = sorted((other, write))
            before = self.beaten.get(lost.version)
            if before is None or before.won < won:
                self.beaten[lost.version] = Conflict(lost, won)
        latest[write.version] = write

    def sample(self) -> None:
        """Each key's newest write that anybody knows, and who does not know it."""
        replicas = [node.replica for node in self.world.nodes]
        behind, oldest = [0] * len(replicas), self.world.now
        for key, writes in self.world.oracle.writes.items():
            for write in reversed(writes):
                stamp, origin = write.version
                missing = []
                for index, replica in enumerate(replicas):
                    if replica is not None and replica.origin != origin:
                        held = replica.store.entries.get(key)
                        if not replica.map.context.covers(stamp, origin) and (held is None or held[:2] < write.version):
                            missing.append(index)
                if len(missing) < sum(replica is not None for replica in replicas):
                    for index in missing:
                        behind[index] += 1
                    oldest = min(oldest, write.at) if missing else oldest
                    break
        shown = (None if replica is None else behind[i] for i, replica in enumerate(replicas))
        self.samples.append(Sample(self.world.now, tuple(shown), oldest))
