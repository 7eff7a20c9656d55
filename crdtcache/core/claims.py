"""What members say of each other: a claim is a tuple, and the greatest one holds. The second use of the one idea.

              alive  --nobody hears it--> suspect --nobody hears it for long enough--> down
                ^                            |                                          |
                '-- it says so itself, with a higher incarnation ----------------------'      left: it said so itself

Claims about one process are compared as (generation, incarnation, standing), so a later standing beats an earlier one
until the accused raises its incarnation: nobody says "alive" for somebody else. A wrong one costs routing for seconds;
no decision about entries rests on it but who is waited for (`gc_hold_ms`).

Decision: how long a suspect has depends on who else suspects it (Lifeguard): from six times the least down to the
least with three more accusers. One slow process then suspects many and condemns none. The refused alternative, a
fixed time, is either slow for everybody or hard on those whose observer stalls.
Source: DESIGN section 12; Das, Gupta, Motivala 2002 (SWIM); Dadgar, Phillips, Currey 2018 (Lifeguard).
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

__all__ = ["Claim", "Standing", "Suspicion"]


class Standing(IntEnum):
    """Later ones beat earlier ones of the same incarnation."""

    ALIVE = 0
    SUSPECT = 1
    DOWN = 2
    LEFT = 3


class Claim(NamedTuple):
    """One statement about one process; the greater tuple supersedes the smaller."""

    generation: int  # of the process: a later one of the same name succeeds the earlier
    incarnation: int  # raised by the accused, to refute
    standing: int

    @property
    def gone(self) -> bool:
        """Whether nobody expects anything of this process any more."""
        return self.standing >= Standing.DOWN


_MOST_CONFIRMATIONS = 3
_SPAN = 6  # how many times its least time a suspect has that only one member suspects


class Suspicion:
    """How long one suspect still has. `least_ms` with enough accusers, six times that with one."""

    __slots__ = ("_accusers", "_expected", "_least_ns", "_start_ns")

    def __init__(self, members: int, least_ms: int, now_ns: int) -> None:
        self._start_ns = now_ns
        # Never with one member's word at once: of two, the other may be right; of three, nobody else may have looked.
        self._expected = max(1, min(_MOST_CONFIRMATIONS, members - 2))
        self._least_ns = round(least_ms * max(1.0, math.log10(max(members, 1)))) * 1_000_000
        self._accusers: dict[int, None] = {}

    def confirm(self, accuser: int) -> bool:
        """Another member suspects it as well; whether that was news."""
        if accuser in self._accusers or len(self._accusers) > self._expected:
            return False
        self._accusers[accuser] = None
        return True

    def restart(self, now_ns: int) -> None:
        """This process stood still: what it did not hear meanwhile is nobody's fault."""
        self._start_ns = now_ns

    @property
    def ends_ns(self) -> int:
        """When the suspect is down unless it says otherwise."""
        others = max(0, len(self._accusers) - 1)  # the first accuser is who suspected it
        share = math.log(others + 1) / math.log(self._expected + 1)
        most = self._least_ns * _SPAN
        return self._start_ns + max(self._least_ns, round(most - (most - self._least_ns) * share))
