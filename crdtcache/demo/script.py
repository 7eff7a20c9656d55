"""The script of the demo: what happens, in which order, and how many seconds each part gets.

Decision: shares of whatever is left once the processes are up, so that `--seconds` bounds the whole run,
start-up included. A part that waits for something (convergence, a process that comes back) lasts its share
or until that happened, whichever is later; only a run that fails takes longer than asked.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "CONVERGE_LIMIT",
    "DEFAULT_SECONDS",
    "MIN_SECONDS",
    "PHASES",
    "REJOIN_LIMIT",
    "SETTLE_LIMIT",
    "Slots",
    "slots",
]

DEFAULT_SECONDS = 55.0
MIN_SECONDS = 15.0
"""Seconds; below it there is no time to converge in after a start on a busy machine."""

CONVERGE_LIMIT = 5.0
"""Seconds from the heal until every process shows every write and delete of the cut: redial takes up to one."""
REJOIN_LIMIT = 5.0
"""Seconds from the launch of the killed process until it has everything again."""
SETTLE_LIMIT = 5.0
"""Seconds from the stop of all writing until all digests are equal."""

PHASES = ("start", "work", "cut", "heal", "kill", "back", "quiet")


_SHARES = (0.32, 0.26, 0.15, 0.05, 0.15, 0.07)


class Slots(NamedTuple):
    """Seconds per phase, in the order of `PHASES` after "start"."""

    work: float
    cut: float
    heal: float
    kill: float
    back: float
    quiet: float


def slots(left: float) -> Slots:
    """Divide the `left` seconds. The last second is kept for the end: final states, farewell, exit."""
    left = max(left - 1.0, 6.0)
    return Slots(*(share * left for share in _SHARES))
