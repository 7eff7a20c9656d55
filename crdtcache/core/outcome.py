"""What a replica wants its driver and its user to know: collected while deciding, drained afterwards.

Decision: effects are a list, not callbacks: nothing of the outside runs in the middle of a decision, and a
test reads the list. Frames are not in it; they are made when the link can take them (`Replica.poll`).
"""

from __future__ import annotations

from typing import NamedTuple

from crdtcache.core.entry import Entry, Key
from crdtcache.core.messages import Hello, MemberRow

__all__ = ["Anew", "Change", "Dial", "Event", "LinkBroken", "Moved", "PeerDown", "PeerGone", "PeerUp"]


class Change(NamedTuple):
    """A visible value changed here. `kind` is "set", "deleted", "expired", "evicted" or "overwritten".

    "overwritten": `previous` lost against `entry`, a write that had not seen it. Reported once per conflict,
    by the replica that knows it for certain.
    """

    kind: str
    key: Key
    entry: Entry
    previous: Entry | None
    remote: bool


class Anew(NamedTuple):
    """The clock was set back: a new origin goes on; what was written `above` a stamp was stamped again."""

    former: int
    origin: int
    back_ms: int
    above: int
    moved: list[Moved]


class Moved(NamedTuple):
    """A write that was stamped again, or whose lease was (`entry` has the version `before`)."""

    key: Key
    before: tuple[int, int]
    entry: Entry


class PeerUp(NamedTuple):
    """A member is connected."""

    link: int
    hello: Hello


class PeerDown(NamedTuple):
    """A member's last link is gone."""

    hello: Hello
    reason: str


class PeerGone(NamedTuple):
    """The members hold a member to be gone: nobody hears it, or it said itself that it was leaving."""

    member: MemberRow
    reason: str  # "down" or "left"


class LinkBroken(NamedTuple):
    """The driver must close this link."""

    link: int
    reason: str


class Dial(NamedTuple):
    """The driver should try this address once, then call `connected` or `dial_failed`."""

    address: str


Event = Change | Anew | PeerUp | PeerDown | PeerGone | LinkBroken | Dial
