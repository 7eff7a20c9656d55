"""Named situations: each is one sentence, and a function from a seed to a plan.

Decision: a scenario draws its plan and is done; it never runs anything. So every scenario can be listed, written to
a file, replayed and shrunk by the same tools.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from sim.plan import Plan, PlanError

__all__ = ["SCENARIOS", "Scenario", "find", "scenario"]

_ROOMS = ("named", "directed", "returners", "membership", "swarm")


@dataclass(frozen=True, slots=True)
class Scenario:
    """`draw(seed, nodes)` gives the plan; `nodes` None leaves the number to the scenario."""

    name: str
    sentence: str
    draw: Callable[[int, int | None], Plan]


SCENARIOS: dict[str, Scenario] = {}


def scenario(draw: Callable[[int, int | None], Plan]) -> Callable[[int, int | None], Plan]:
    """Register a function under its name; the first sentence of its docstring is what the scenario shows."""
    name = draw.__name__.replace("_", "-")
    sentence = (inspect.getdoc(draw) or "").partition("\n\n")[0].replace("\n", " ")
    SCENARIOS[name] = Scenario(name, sentence, draw)
    return draw


def find(name: str) -> Scenario:
    """The scenario of that name. Raises `PlanError` that names the nearest ones."""
    load()
    if name not in SCENARIOS:
        near = [other for other in SCENARIOS if name[:3] in other] or list(SCENARIOS)
        raise PlanError(f"no scenario {name!r}; there are {', '.join(near)}")
    return SCENARIOS[name]


def load() -> None:
    """Import the rooms that register scenarios."""
    for room in _ROOMS:
        import_module(f"sim.scenarios.{room}")
