"""Planted bugs: a rule of the core, broken from outside in one place, to measure what the simulator would find.

Each is a patch that is on inside `planted(name)` and off again after it; nothing in `crdtcache` knows of them. How
many seeds each needs is the simulator's strength (`python -m sim canaries`).

Decision: patching, not flags in the core: a flag is code that ships, and a rule with an off switch is no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

from sim.scenarios import find
from sim.shrink import shrink
from sim.world import run

__all__ = ["BUGS", "Bug", "Found", "hunt", "planted"]


_NOTHING = object()


class Patch(NamedTuple):
    """One attribute of a module or class, and what stands in its place."""

    owner: Any
    name: str
    value: Any


@dataclass(frozen=True, slots=True)
class Bug:
    """`patches()` makes them when they are needed; `scenarios` are where the bug is looked for."""

    name: str
    sentence: str
    patches: Callable[[], list[Patch]]
    scenarios: tuple[str, ...]


BUGS: dict[str, Bug] = {}


def bug(*scenarios: str) -> Callable[[Callable[[], list[Patch]]], Callable[[], list[Patch]]]:
    """Register a planted bug under the name of the function; its docstring says which rule is broken."""

    def register(patches: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
        name = patches.__name__.replace("_", "-")
        BUGS[name] = Bug(name, (patches.__doc__ or "").strip(), patches, (*scenarios, "kitchen-sink"))
        return patches

    return register


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The core with that bug."""
    patches = BUGS[name].patches()
    before = [(p.owner, p.name, p.owner.__dict__.get(p.name, _NOTHING)) for p in patches]
    for patch in patches:
        setattr(patch.owner, patch.name, patch.value)
    try:
        yield
    finally:
        for owner, attribute, value in before:
            if value is _NOTHING:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, value)


class Found(NamedTuple):
    """Where a planted bug was found: the how-manieth run it was, by what, and how small it became (0: not shrunk)."""

    scenario: str
    seed: int
    runs: int
    invariant: str
    items: int

    def __str__(self) -> str:
        small = f", {self.items} items" if self.items else ""
        return f"{self.invariant:4} in run {self.runs:3} ({self.scenario}, seed {self.seed}{small})"


def hunt(name: str, *, first: int = 0, seeds: int = 300, small: bool = False) -> Found | None:
    """Run seeds with the bug planted, its scenarios in turn, until a check sees it."""
    scenarios = BUGS[name].scenarios
    with planted(name):
        for runs in range(1, seeds + 1):
            scenario, seed = scenarios[runs % len(scenarios)], first + runs // len(scenarios)
            result = run(find(scenario).draw(seed, None))
            if result.violation is not None:
                items = shrink(result, runs=400, seconds=90).plan.size() if small else 0
                return Found(scenario, seed, runs, result.violation.invariant, items)
    return None


import_module("sim.bugs.rules")
import_module("sim.bugs.found")
import_module("sim.bugs.membership")
