"""Every message, with the conversations drawn above them.

joining             HELLO <-> HELLO                           (see runtime.handshake for the secret)
spreading           SLICE ->                                  own writes, from the link's cursor to the head
repairing           CONTEXT ->   <- PULL   SLICE -> | TOO_OLD ->
after TOO_OLD       OPEN ->   <- READY | BUSY                 both then stream all they hold, dead included:
                    OFFER(n) ->  <- GONE, OFFER(0)..., ANSWERED(n)     (0: a better entry, needs no answer)
                    END ->       <- ANSWERED(end)             C3 once both ends are settled
keeping alive       an empty frame

Decision: a message is a `NamedTuple` whose field order is its wire order; a newer version appends fields,
an older one skips what it does not know. An entry is never skipped: what cannot be parsed breaks the link.
"""

from __future__ import annotations

from typing import NamedTuple

from crdtcache.core.entry import Entry, Key

__all__ = [
    "Answered",
    "Busy",
    "Context",
    "End",
    "Gone",
    "Hello",
    "Item",
    "MemberRow",
    "Message",
    "Offer",
    "Open",
    "Pull",
    "Ready",
    "Row",
    "Slice",
    "TooOld",
]


class Hello(NamedTuple):
    """Who is at the other end of a link. Known to both sides before the link carries anything else."""

    wire_min: int
    wire_max: int
    features: tuple[str, ...]
    cluster: str
    digest_version: int
    name: str
    region: str
    zone: str
    origin: int
    generation: int  # process start, Unix ms; a later one of the same name succeeds the earlier
    advertise: str  # "host:port" where others may dial it, "" if it only dials out
    clock_ms: int
    partial: bool


class Row(NamedTuple):
    """`(origin, last, now)`: the origin wrote nothing in `(last, now]`."""

    origin: int
    last: int
    now: int


class MemberRow(NamedTuple):
    """What a member says of another that is in use, so that one seed is enough to meet all."""

    origin: int
    generation: int
    name: str
    region: str
    zone: str
    advertise: str
    down_ms: int  # for how long nobody has been connected to it, as far as the sender knows; 0: the sender is


class Item(NamedTuple):
    """A key of a slice: its first and latest logged stamps there, a touch's base (0 for a write), the entry."""

    first: int
    latest: int
    base_stamp: int
    base_origin: int
    key: Key
    entry: Entry


class Slice(NamedTuple):
    """The part of the log of `origin` in `(lo, hi]`, as current entries in the order of `first`."""

    origin: int
    lo: int
    hi: int
    last: int
    clear_mark: tuple[int, int]
    clears: tuple[int, ...]  # the stamps of keyless records (clears of `origin`) in the slice
    items: list[Item]


class Context(NamedTuple):
    """What the sender has accounted for, its clock, whom it has met, and the digest of what it holds."""

    rows: list[Row]
    clock_ms: int
    clear_mark: tuple[int, int]
    members: list[MemberRow]
    root: int  # of the digest; 0 in a sign of life, which is one row and nothing else


class Pull(NamedTuple):
    """Asks for the slice of `origin` after `lo`."""

    origin: int
    lo: int


class TooOld(NamedTuple):
    """The log of `origin` begins at `floor`, above what was pulled: only a session can help."""

    origin: int
    floor: int


class Open(NamedTuple):
    """Asks for a session; `rows` are what the other may adopt at its end."""

    session: int
    rows: list[Row]
    clock_ms: int
    clear_mark: tuple[int, int]


class Ready(NamedTuple):
    """Agrees to a session, with the rows of the answering side as of this message."""

    session: int
    rows: list[Row]
    clock_ms: int
    clear_mark: tuple[int, int]


class Busy(NamedTuple):
    """Declines a session for now; `retry_ms` is the least wait."""

    session: int
    retry_ms: int


class Offer(NamedTuple):
    """Entries offered by rules O1..O5. `window` > 0 asks to be ANSWERED; 0 is itself an answer."""

    session: int
    window: int
    entries: list[tuple[Key, Entry]]


class End(NamedTuple):
    """The sender has offered all it holds; `window` is one above its last."""

    session: int
    window: int


class Answered(NamedTuple):
    """Every GONE and every better entry for `window` was sent before this message."""

    session: int
    window: int
    complete: bool  # False: something in the window was parked, rejected or left unapplied


class Gone(NamedTuple):
    """Live versions that were offered and are known to be removed; whoever holds exactly them forgets them."""

    versions: list[tuple[Key, int, int]]


Message = Slice | Context | Pull | TooOld | Open | Ready | Busy | Offer | End | Answered | Gone
