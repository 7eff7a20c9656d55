"""The verdict: pure functions from what was collected to named checks, each with its figure and its limit.

Decision: nothing here looks at a socket, a process or a clock, so a test can hand in the facts of a run that
went wrong in one way and see that the verdict says so. A check that had nothing to check fails: a run without
conflicts proves nothing about conflicts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from crdtcache.demo.ledger import Ledger, Loss
from crdtcache.demo.script import CONVERGE_LIMIT, REJOIN_LIMIT, SETTLE_LIMIT

__all__ = ["Check", "Facts", "decide", "percentile"]


_FIRST = 20  # how many pieces of evidence a check carries


class Check(NamedTuple):
    """One line of the verdict; `figures` are for machines."""

    name: str
    ok: bool
    text: str
    figures: dict[str, Any]


@dataclass
class Facts:
    """What the conductor collected. Seconds are None where something did not happen within its limit."""

    ledger: Ledger
    nodes: list[str] = field(default_factory=list)  # every process that must be there at the end
    converged_s: dict[str, float | None] = field(default_factory=dict)  # node -> seconds after the heal
    owed_at_heal: int = 0  # writes and deletes of the cut that had to cross
    settled_s: float | None = None  # seconds from the stop of all writing to equal digests
    rejoined_s: float | None = None  # seconds from launching the killed process to its having everything
    rejoined_keys: int = 0
    victim: str = ""
    leaks: int = 0  # writes made on one side of the cut and seen on the other before the heal
    overwritten: int = 0  # conflicts that the processes counted
    resurrections: list[str] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)  # processes that ended and should not have
    finals: dict[str, dict[str, str]] = field(default_factory=dict)  # node -> key -> visible version
    digests: dict[str, str] = field(default_factory=dict)
    wall_ms: int = 0  # when the finals were taken


def percentile(numbers: Iterable[float], share: float) -> float | None:
    """The nearest-rank percentile, 0 < `share` <= 1; None of nothing."""
    ranked = sorted(numbers)
    if not ranked:
        return None
    return ranked[max(1, math.ceil(share * len(ranked))) - 1]


def decide(facts: Facts) -> list[Check]:
    """All checks, in the order of the script. The demo has succeeded if every one is ok."""
    losses = facts.ledger.losses(facts.finals, facts.wall_ms)
    return [
        _cut(facts),
        _converged(facts),
        _conflicts(facts),
        _deletes(facts, losses),
        _rejoined(facts),
        _lost(facts, losses),
        _digests(facts),
        *_deaths(facts),
    ]


def _cut(facts: Facts) -> Check:
    text = f"{facts.leaks or 'no'} writes crossed the cut before it healed"
    return Check("cut", facts.leaks == 0, text, {"leaks": facts.leaks})


def _converged(facts: Facts) -> Check:
    slowest = _slowest(facts.converged_s, facts.nodes)
    ok = slowest is not None and slowest <= CONVERGE_LIMIT and facts.owed_at_heal > 0
    when = f"{_seconds(slowest, CONVERGE_LIMIT)} after the heal"
    text = f"all {facts.owed_at_heal} keys of both sides right in every process: {when}"
    return Check("converge", ok, text, {"seconds": slowest, "limit": CONVERGE_LIMIT, "keys": facts.owed_at_heal})


def _conflicts(facts: Facts) -> Check:
    keys = facts.ledger.conflicts()
    split = [key for key in keys if len({shown.get(key) for shown in facts.finals.values()}) != 1]
    resolved = len(keys) - len(split)
    ok = bool(keys) and not split and facts.overwritten > 0
    text = f"{resolved} of {len(keys)} keys written on both sides show one winner, {facts.overwritten} losers were told"
    figures = {"keys": len(keys), "resolved": resolved, "overwritten": facts.overwritten, "split": split[:_FIRST]}
    return Check("conflicts", ok, text, figures)


def _deletes(facts: Facts, losses: list[Loss]) -> Check:
    owed = facts.ledger.owed(facts.finals)
    deleted = sorted(key for key, op in owed.items() if op.kind == "deleted")
    of_cut = [key for key in deleted if key in facts.ledger.cut_deletes]
    back = sorted({loss.key for loss in losses if loss.owed.kind == "deleted"})
    ok = bool(of_cut) and not back and not facts.resurrections
    stayed = f"{len(deleted) - len(back)} of {len(deleted)} deleted keys stayed deleted"
    text = f"{stayed}, {len(of_cut)} of them from the cut"
    if facts.resurrections:
        text += f"; {len(facts.resurrections)} showed again for a while"
    figures = {
        "deleted": len(deleted),
        "of_cut": len(of_cut),
        "back": back[:_FIRST],
        "resurrections": facts.resurrections[:_FIRST],
    }
    return Check("deletes", ok, text, figures)


def _rejoined(facts: Facts) -> Check:
    seconds, keys, node = facts.rejoined_s, facts.rejoined_keys, facts.victim
    ok = seconds is not None and seconds <= REJOIN_LIMIT and keys > 0
    when = f"{_seconds(seconds, REJOIN_LIMIT)} after its launch"
    text = f"{node}, killed and launched empty, had all {keys} keys: {when}"
    return Check("rejoin", ok, text, {"seconds": seconds, "limit": REJOIN_LIMIT, "keys": keys, "node": node})


def _lost(facts: Facts, losses: list[Loss]) -> Check:
    lost = [loss for loss in losses if loss.owed.kind == "set"]
    left = len(facts.ledger.writes_left)
    text = f"{len(lost)} of {left} writes that had left their process were lost"
    first = [f"{each.node} shows {each.shown} for {each.key}, owed {each.owed.version}" for each in lost[:_FIRST]]
    figures = {"writes": left, "lost": len(lost), "first": first}
    return Check("lost", not lost and left > 0 and _complete(facts), text, figures)


def _digests(facts: Facts) -> Check:
    seconds, different = facts.settled_s, sorted(set(facts.digests.values()))
    ok = len(different) == 1 and _complete(facts) and seconds is not None and seconds <= SETTLE_LIMIT
    shown = f"digest {different[0]}" if len(different) == 1 else f"{len(different)} different digests"
    text = f"{len(facts.digests)} processes, {shown}, {_seconds(seconds, SETTLE_LIMIT)} after writing stopped"
    figures = {"digests": facts.digests, "seconds": seconds, "limit": SETTLE_LIMIT, "differing": _differing(facts)}
    return Check("digests", ok, text, figures)


def _deaths(facts: Facts) -> list[Check]:
    if not facts.deaths:
        return []
    text = f"ended and should not have: {', '.join(facts.deaths)}"
    return [Check("processes", False, text, {"deaths": facts.deaths})]


def _differing(facts: Facts) -> list[str]:
    """The first keys that do not show the same version everywhere, with what each process shows."""
    keys = sorted({key for shown in facts.finals.values() for key in shown})
    told = []
    for key in keys:
        shown = {node: states.get(key) for node, states in facts.finals.items()}
        if len(set(shown.values())) > 1:
            told.append(f"{key}: {', '.join(f'{node} {version}' for node, version in shown.items())}")
    return told[:_FIRST]


def _complete(facts: Facts) -> bool:
    return bool(facts.nodes) and set(facts.finals) == set(facts.digests) == set(facts.nodes)


def _slowest(seconds: Mapping[str, float | None], nodes: list[str]) -> float | None:
    """The greatest of `seconds`; None if a node is missing or did not make it."""
    slowest = 0.0
    for node in nodes:
        taken = seconds.get(node)
        if taken is None:
            return None
        slowest = max(slowest, taken)
    return slowest if nodes else None


def _seconds(seconds: float | None, limit: float) -> str:
    return f"not within {limit:.0f} s" if seconds is None else f"{seconds:.2f} s"
