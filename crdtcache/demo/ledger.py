"""What is known of each key: which writes have left their process, and which of them is the greatest.

Decision: a write has left once *another* process has reported an event that shows it; that is the moment from
which the cluster owes it. Reports are streamed, so what a process saw survives its SIGKILL. Versions are kept
as their text: fixed-width hex, so that the order of the strings is the order of the versions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Ledger", "Loss", "Op", "honours", "stamp_ms"]

_COUNTER_BITS = 16
_EXPIRY_SLACK_MS = 1_000  # an expiry is known here by the stamp of the write and the ttl, not to the ms


class Op(NamedTuple):
    """A write (`kind` "set") or a delete ("deleted") of one key; `expires_ms` Unix ms, 0 for never."""

    version: str
    kind: str
    expires_ms: int


class Loss(NamedTuple):
    """A write or delete that had left its process and is not what `node` shows in the end."""

    node: str
    key: str
    owed: Op
    shown: str | None


def stamp_ms(version: str) -> int:
    """The Unix ms in the text of a version."""
    return int(version[:16], 16) >> _COUNTER_BITS


def honours(kind: str, version: str, shown: str | None) -> bool:
    """Whether showing version `shown` (None: nothing) honours the operation `kind` at `version`."""
    if shown is None:
        return kind == "deleted"
    return shown > version or (shown == version and kind == "set")


class Ledger:
    """Collects what processes report; answers what every process must show. `side_of` says which side a node is on."""

    def __init__(self, side_of: Callable[[str], bool]) -> None:
        self.side_of = side_of
        self.cut_ms: int | None = None  # Unix ms since which two sides are apart, None while they are not
        self.left: dict[str, Op] = {}  # key -> greatest operation that another process has seen
        self.own: dict[str, dict[str, Op]] = defaultdict(dict)  # node -> key -> its own greatest
        self.writes_left: set[str] = set()
        self.deletes_left: set[str] = set()
        self.sides: dict[str, set[bool]] = defaultdict(set)  # key -> sides that wrote it while apart
        self.cut_deletes: set[str] = set()  # keys deleted while the two sides were apart

    def wrote(self, node: str, rows: Iterable[Sequence[object]]) -> None:
        """Operations of `node` itself, as (key, kind, version, expires_ms)."""
        for row in rows:
            key, op = _parse(row)
            _raise(self.own[node], key, op)
            if self.cut_ms is not None and stamp_ms(op.version) > self.cut_ms:
                self._meanwhile(node, key, op)

    def _meanwhile(self, node: str, key: str, op: Op) -> None:
        if op.kind == "set":
            self.sides[key].add(self.side_of(node))
        else:
            self.cut_deletes.add(key)

    def forget_own(self, node: str) -> None:
        """`node` was killed: what only itself knew of its own writes died with it."""
        self.own.pop(node, None)

    def saw(self, rows: Iterable[Sequence[object]]) -> None:
        """Operations of others that some process has seen by an event."""
        for row in rows:
            key, op = _parse(row)
            _raise(self.left, key, op)
            (self.writes_left if op.kind == "set" else self.deletes_left).add(op.version)

    def owed(self, alive: Iterable[str]) -> dict[str, Op]:
        """Key -> the greatest operation that has left its process, or that a process of `alive` still holds."""
        owed = dict(self.left)
        for node in alive:
            for key, op in self.own[node].items():
                _raise(owed, key, op)
        return owed

    def target(self, alive: Iterable[str]) -> dict[str, tuple[str, str]]:
        """What a process must show to be up to date: key -> (version, kind), without what expires."""
        return {key: (op.version, op.kind) for key, op in self.owed(alive).items() if not op.expires_ms}

    def superseded(self, target: Mapping[str, tuple[str, str]]) -> list[str]:
        """The keys of a `target` for which a later operation has been seen since."""
        return [key for key, (version, _) in target.items() if key in self.left and self.left[key].version > version]

    def conflicts(self) -> list[str]:
        """The keys that were written on both sides of the cut."""
        return sorted(key for key, sides in self.sides.items() if len(sides) == 2)

    def losses(self, finals: Mapping[str, Mapping[str, str]], wall_ms: int) -> list[Loss]:
        """What is owed and not shown in `finals` (node -> key -> visible version), taken at `wall_ms`."""
        owed = self.owed(finals)
        return [
            Loss(node, key, op, shown.get(key))
            for node, shown in sorted(finals.items())
            for key, op in sorted(owed.items())
            if not _holds(op, shown.get(key), wall_ms)
        ]


def _parse(row: Sequence[object]) -> tuple[str, Op]:
    key, kind, version, expires_ms = row[:4]
    if kind not in {"set", "deleted"} or not isinstance(expires_ms, int):
        raise ValueError(f"not an operation: {row!r}")
    return str(key), Op(str(version), str(kind), expires_ms)


def _raise(ops: dict[str, Op], key: str, op: Op) -> None:
    held = ops.get(key)
    if held is None or op > held:
        ops[key] = op


def _holds(op: Op, shown: str | None, wall_ms: int) -> bool:
    expired = shown is None and 0 < op.expires_ms <= wall_ms + _EXPIRY_SLACK_MS
    return expired or honours(op.kind, op.version, shown)
