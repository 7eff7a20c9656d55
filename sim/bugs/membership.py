"""Broken rules of membership, each one comparison or one statement. None costs an entry: no verdict decides of one."""

from __future__ import annotations

from typing import Any

from crdtcache.core.claims import Claim, Suspicion
from crdtcache.core.codec import encode
from crdtcache.core.detector import Detector
from crdtcache.core.members import Member
from crdtcache.core.messages import Heard, Probe
from sim.bugs import Patch, bug


@bug("who-is-alive")
def accusation_not_answered() -> list[Patch]:
    """Claims: the accused does not raise its incarnation."""

    def broken(self: Detector, *_: Any) -> None:  # noqa: ARG001
        return None

    return [Patch(Detector, "_answer", broken)]


@bug("who-is-alive")
def accused_not_told() -> list[Patch]:
    """Claims: whoever is accused is the only one that does not hear of it."""
    told = Detector.told

    def broken(self: Detector, link: Any, claims: Any, now_ns: int) -> None:
        mine = self._members.origin
        told(self, link, claims._replace(statements=[s for s in claims.statements if s.origin != mine]), now_ns)

    return [Patch(Detector, "told", broken)]


@bug("who-is-alive")
def standing_before_incarnation() -> list[Patch]:
    """Claims: the worse standing wins, whatever the accused has said since."""
    return [
        Patch(Claim, "__gt__", lambda a, b: (a.generation, a.standing, a.incarnation) > (b[0], b[2], b[1])),
        Patch(Claim, "__lt__", lambda a, b: (a.generation, a.standing, a.incarnation) < (b[0], b[2], b[1])),
    ]


@bug("who-is-alive")
def vouched_by_hearsay() -> list[Patch]:
    """Probes: a member is vouched for by those that have only heard others vouch for it."""
    asked = Detector.asked

    def broken(self: Detector, link: Any, probe: Probe, now_ns: int) -> None:
        member: Member | None = self._members.known.get(probe.origin)
        if member is not None and not member.claim.gone and now_ns - member.vouched_ns < 4 * self._patience_ns(member):
            link.say(encode(Heard(probe.origin, 0)))
        else:
            asked(self, link, probe, now_ns)

    return [Patch(Detector, "asked", broken)]


@bug("who-is-alive")
def stall_accuses() -> list[Patch]:
    """The stall rule: doubts and suspicions go on over a time in which this process stood still."""

    def broken(self: Detector, now_ns: int) -> None:  # noqa: ARG001
        return None

    return [Patch(Detector, "stalled", broken)]


@bug("named-and-gone")
def hearsay_never_watched() -> list[Patch]:
    """Probes: a member that this replica has only heard of is alive for ever."""

    def broken(self: Detector, *_: Any, **__: Any) -> None:  # noqa: ARG001
        return None

    return [Patch(Detector, "named", broken)]


@bug("short-pauses")
def down_at_the_first_silence() -> list[Patch]:
    """Suspicion: a suspect has no time to say otherwise."""
    return [Patch(Suspicion, "ends_ns", 0)]
