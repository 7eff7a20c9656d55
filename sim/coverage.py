"""What a run has been through: faults by kind, operations, and the branches of the core's rules that fired.

A branch is seen from outside: the core makes a call at it anyway, that call is wrapped for the time of a run, and what
went in and came out says which way it took. Counters that the core keeps for its users are taken as they are.

Decision: the list of all that could happen comes first, and what never did stands in the table with a zero. A table
of what happened hides just what it is there to show. Nothing of it is in the core; it costs 4 % of a run, so it is left
out where speed is measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, get_args

from crdtcache.core import inbox, removal
from crdtcache.core.claims import Standing
from crdtcache.core.context import Context
from crdtcache.core.detector import Detector
from crdtcache.core.entry import EXPIRES
from crdtcache.core.lwwmap import LWWMap, Verdict
from crdtcache.core.messages import InSession, Open
from crdtcache.core.sessions import Sessions
from crdtcache.core.store import Store
from sim.faults import KINDS, SHAPES
from sim.world import Result

__all__ = ["RULES", "branches", "counted", "rough", "table"]

_VERDICTS = {
    Verdict.MERGED: "O1 held: merged",
    Verdict.BEATEN: "O2 beaten: ignored",
    Verdict.GONE: "O3 gone: answered",
    Verdict.TAKEN: "O4 taken",
    Verdict.IGNORED: "O4 dead and covered: ignored",
    Verdict.PARKED: "offer parked",
    Verdict.REJECTED: "offer rejected",
    Verdict.FULL: "O5 no room for a dot: not taken",
}
# What replicas count for their users, and what of the rules it says.
_COUNTED = {
    "too_old": "log answers TOO_OLD",
    "pulls": "C2 gap pulled",
    "sessions": "session moved or adopted something",
    "sessions_equal": "session found nothing",
    "sessions_incomplete": "session incomplete: nothing adopted",
    "sessions_limited": "session at its limits: the next follows",
    "sessions_stuck": "session given up: no progress",
    "compared_unequal": "digests differed for compare_ms",
    "expired": "D2 hidden by the own clock",
    "evicted": "D4 evicted",
    "overwritten": "conflict told to the loser",
    "unsafe_gc": "collection forced too early",
    "frames_old": "old frame discarded",
    "messages_skipped": "message of a newer version skipped",
    "links_broken": "link broken by the core",
}
_OPERATIONS = ("put", "get", "delete", "touch", "evict", "clear", "clear_local")
_LABELS = (*SHAPES, "flapping", "swizzle", "rolling")
_MACHINES = {
    "newer wire version": "wire_next",
    "late start": "start_ms",
    "limit of values": "maxsize",
    "limit of bytes": "max_bytes",
    "clock off": "offset_ms",
    "clock drifts": "drift_ppm",
}


def _offered(_: tuple[Any, ...], verdict: Any) -> str:
    return _VERDICTS[verdict]


def _applied(_: tuple[Any, ...], applied: Any) -> str:
    if not applied.contiguous:
        return "C2 slice behind a gap"
    return "C2 slice, whole" if applied.whole else "C2 slice, cut at an item"


def _row(_: tuple[Any, ...], reached: Any) -> str:
    return "C4 row: nothing was missed" if reached else "C4 row tells of a gap"


def _lapsed(given: tuple[Any, ...], lapsed: Any) -> str:
    _, entry, reading, *_ = given
    if lapsed:
        return "D2 died"
    return "D2 waits for the slowest clock" if 0 < entry[EXPIRES] <= reading.wall_ms else ""


def _if(name: str) -> Callable[[tuple[Any, ...], Any], str]:
    return lambda _, result: name if result else ""


def _always(name: str) -> Callable[[tuple[Any, ...], Any], str]:
    return lambda _, __: name


def _received(given: tuple[Any, ...], _: Any) -> str:
    return f"session {type(given[2]).__name__.upper()} received"


def _believed(given: tuple[Any, ...], _: Any) -> str:
    return f"member {Standing(given[2].standing).name.lower()}"


def _adopted(given: tuple[Any, ...], _: Any) -> str:
    return "C3 rows adopted" if given[2].own.adopts else ""


# Where a call is found, and what its branches are called.
_CALLS: tuple[tuple[Any, str, Callable[[tuple[Any, ...], Any], str], tuple[str, ...]], ...] = (
    (LWWMap, "offer", _offered, tuple(_VERDICTS.values())),
    (LWWMap, "gone", _if("O3 told GONE: forgotten"), ("O3 told GONE: forgotten",)),
    (inbox, "apply_slice", _applied, ("C2 slice, whole", "C2 slice, cut at an item", "C2 slice behind a gap")),
    (Context, "apply_row", _row, ("C4 row: nothing was missed", "C4 row tells of a gap")),
    (LWWMap, "has_lapsed", _lapsed, ("D2 died", "D2 waits for the slowest clock")),
    (LWWMap, "raise_clear_mark", _if("D5 clear mark raised"), ("D5 clear mark raised",)),
    (removal, "collect", _if("collection"), ("collection",)),
    (removal, "make_room", _always("E3 over a limit: made room"), ("E3 over a limit: made room",)),
    (Store, "promote", _always("E2 evicted last"), ("E2 evicted last",)),
    (
        Sessions,
        "receive",
        _received,
        tuple(f"session {kind.__name__.upper()} received" for kind in (Open, *get_args(InSession))),
    ),
    (Sessions, "_adopt", _adopted, ("C3 rows adopted",)),
    (Detector, "_believe", _believed, tuple(f"member {standing.name.lower()}" for standing in Standing)),
)

RULES = (*(name for *_, names in _CALLS for name in names), *_COUNTED.values())


@contextmanager
def branches() -> Iterator[Counter[str]]:
    """Counts of the branches that fire inside the block, in this process."""
    fired: Counter[str] = Counter()
    before = [(owner, name, owner.__dict__[name]) for owner, name, *_ in _CALLS]
    for owner, name, tell, _ in _CALLS:
        setattr(owner, name, _wrapped(owner.__dict__[name], tell, fired))
    try:
        yield fired
    finally:
        for owner, name, original in before:
            setattr(owner, name, original)
        del fired[""]


def _wrapped(call: Any, tell: Callable[[tuple[Any, ...], Any], str], fired: Counter[str]) -> Callable[..., Any]:
    def told(*given: Any, **named: Any) -> Any:
        result = call(*given, **named)
        fired[tell(given, result)] += 1
        return result

    return told


def counted(play: Callable[[], Result]) -> Result:
    """The result of `play()`, with one kind of name in its coverage: "fault cut", "shape ring", "rule O4 taken"."""
    with branches() as fired:
        result = play()
    plan, seen = result.plan, Counter({f"rule {name}": count for name, count in fired.items()})
    seen.update({f"rule {name}": result.counts.get(counter, 0) for counter, name in _COUNTED.items()})
    seen.update(f"fault {fault.kind}" for fault in plan.faults)
    seen.update(f"shape {fault.label}" for fault in plan.faults if fault.label)
    for machine in plan.machines:
        seen.update(f"machine {name}" for name, field in _MACHINES.items() if getattr(machine, field))
    seen.update({name: count for name, count in result.coverage.items() if not name.startswith("fault ")})
    return replace(result, coverage=dict(sorted(seen.items())))


def rough(result: Result) -> bool:
    """Whether a `counted` run counts: 10 keys, 400 operations, a cut beyond every time-out, a delete, a collection."""
    plan, seen = result.plan, result.coverage
    tuning = plan.tuned()
    longest = max(
        tuning.silent_ms,
        tuning.dial_timeout_ms,
        tuning.redial_ms,
        tuning.compare_ms,
        tuning.session_idle_ms,
        tuning.max_frame_age_ms,
    )
    return (
        seen.get("keys", 0) >= 10
        and sum(count for name, count in seen.items() if name.startswith("op ")) >= 400
        and any(
            fault.kind == "cut" and fault.pairs and fault.end_ms - fault.start_ms > longest for fault in plan.faults
        )
        and seen.get("op delete", 0) > 0
        and seen.get("rule collection", 0) > 0
    )


def table(runs: Sequence[dict[str, int]]) -> Iterable[str]:
    """Everything that could happen: how often it did, and in how many of the runs; "never" stands out."""
    groups = {
        "fault": tuple(KINDS),
        "shape": _LABELS,
        "machine": tuple(_MACHINES),
        "op": _OPERATIONS,
        "rule": RULES,
    }
    yield f"{'':48} {'times':>10} {'runs':>8}"
    for group, names in groups.items():
        for name in names:
            counts = [run.get(f"{group} {name}", 0) for run in runs]
            hit = sum(map(bool, counts))
            yield f"{group + ' ' + name:48} {sum(counts):10} {hit:8}" + ("" if hit else "  never")
