"""Why a node showed what it showed: who wrote the key, when each node came to hold it, and what stood in between.

The run is repeated with every node listening, and each change of the key is noted with its time.

Decision: told in sentences about one key on one node at one time. A dump of the trace answers every question, and
none of them to whoever has only this one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from crdtcache.core.entry import DEAD, STATE
from crdtcache.core.outcome import Change
from sim.adapter import Node
from sim.checks.base import Check, Violation, text_of
from sim.engine import MS, SECOND
from sim.oracle import Write
from sim.plan import Fault, Plan
from sim.world import World

__all__ = ["why"]

Version = tuple[int, int]


class _Seen(NamedTuple):
    """A change of the key on one node."""

    at: int
    node: int
    kind: str
    version: Version


class _Watch(Check):
    """Notes every change of one key."""

    key = ""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.seen: list[_Seen] = []

    def changed(self, node: Node, change: Change) -> None:
        """An event of a replica."""
        if change.key == self.key and change.kind != "overwritten":
            self.seen.append(_Seen(self.world.now, node.index, change.kind, change.entry[:2]))


def why(plan: Plan, key: str, node: int, at_s: float) -> list[str]:
    """Sentences about `key` on `node` at `at_s` seconds of virtual time."""
    at = round(at_s * SECOND)
    watching = type("Watching", (_Watch,), {"key": key})
    listening = tuple(replace(machine, listening=True) for machine in plan.machines)
    world = World(plan.but(machines=listening), (watching,))
    shown: list[str] = []

    def look() -> None:
        replica = world.nodes[node].replica
        entry = replica.store.entries.get(key) if replica is not None else None
        if replica is None:
            shown.append("does not run")
        elif entry is None:
            shown.append("holds nothing")
        else:
            state = "a dead entry, " if entry[STATE] == DEAD else ""
            shown.append(f"holds {state}{_named(world.oracle.by_version.get(entry[:2]), entry[:2])}")

    world.engine.at(at, 9, look)
    try:
        world.play()
    except Violation as found:
        shown.append(str(found))
    watch = world.checks[0]
    assert isinstance(watch, _Watch)
    lines = [f"n{node} at {at_s:.3f} s {shown[0] if shown else 'is beyond the end of the run'}."]
    before = [w for w in world.oracle.writes.get(key, []) if w.at <= at]
    if not before:
        return [*lines, f"Nobody had written {key!r} by then."]
    best = before[-1]
    lines.append(f"The greatest write until then: {_named(best, best.version)}; its writer had {_saw(best)}.")
    lines.extend(_spread(watch.seen, best, len(plan.machines)))
    got = min((s.at for s in watch.seen if s.node == node and s.version >= best.version), default=None)
    until = got if got is not None else world.now
    if got is None:
        lines.append(f"n{node} never came to hold it.")
    elif got > best.at + 100 * MS:
        lines.append(f"n{node} held it or something newer {(got - best.at) / SECOND:.3f} s after it was written.")
    lines += [f"Meanwhile: {_told(fault)}." for fault in plan.faults if _between(fault, node, best, until)]
    return lines


def _spread(seen: list[_Seen], best: Write, count: int) -> list[str]:
    first: dict[int, int] = {best.node: best.at}
    for change in seen:
        if change.version == best.version:
            first.setdefault(change.node, change.at)
    held = ", ".join(f"n{n} from {first[n] / SECOND:.3f} s" for n in sorted(first, key=first.__getitem__))
    never = [f"n{n}" for n in range(count) if n not in first]
    return [f"It was on {held}" + (f"; nothing of it was seen on {', '.join(never)}." if never else ".")]


def _named(write: Write | None, version: Version) -> str:
    if write is None:
        return text_of(version)
    what = f"{write.kind} {write.value}".strip()
    return f"{what} ({text_of(version)}, by n{write.node} at {write.at / SECOND:.3f} s)"


def _saw(write: Write) -> str:
    return f"seen {text_of(write.seen)}" if write.seen else "seen nothing"


def _between(fault: Fault, node: int, best: Write, until: int) -> bool:
    touches = node in fault.nodes or best.node in fault.nodes or any(node in pair for pair in fault.pairs)
    return touches and fault.start_ms * MS <= until and max(fault.end_ms, fault.start_ms + 1_000) * MS >= best.at


def _told(fault: Fault) -> str:
    where = ", ".join([*(f"n{n}" for n in fault.nodes), *(f"n{a}-n{b}" for a, b in fault.pairs)])
    amount = f" {fault.amount}" if fault.amount else ""
    start, end = fault.start_ms / 1_000, fault.end_ms / 1_000
    return f"{fault.label or fault.kind}{amount} on {where}, {start:.3f} s to {end:.3f} s"
