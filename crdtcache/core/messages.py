"""Every message, with the conversations drawn above them.

joining             HELLO <-> HELLO                           (see runtime.handshake for the secret)
spreading           SLICE ->   SLICE ->                       from the link's cursor to the head; passed on by `relay`
                    CONTEXT(one row) ->                       to who notices what was not passed on
                    <- CONTEXT(one row) | RECEIPT             while somebody waits, from each to the writer
repairing           CONTEXT ->   <- PULL   SLICE -> | TOO_OLD ->
a session           OPEN ->      <- EQUAL | BUSY | READY, and the first turn:
                    NODES, LIST, WANT, TURN  <->              turn by turn, as far down as the digests differ
                    OFFER(n) ->  <- GONE, OFFER(0)..., ANSWERED(n)     both sides at once; 0: a better entry
                    END ->       <- ANSWERED(end)             C3 once both ends are settled
keeping alive       a context of one row, when nothing else was to be said
membership          CLAIMS ->                                 what is believed of whom, when it changes
                    PROBE ->     <- HEARD                     whether others hear a member that has fallen silent

Decision: a message is a `NamedTuple` whose field order is its wire order; a newer version appends fields,
an older one skips what it does not know. An entry is never skipped: what cannot be parsed breaks the link.
"""

from __future__ import annotations

from typing import NamedTuple

from crdtcache.core.entry import Entry, Key

__all__ = [
    "Answered",
    "Busy",
    "Claims",
    "Context",
    "End",
    "Equal",
    "Gone",
    "Heard",
    "Hello",
    "InSession",
    "Item",
    "List",
    "MemberRow",
    "Message",
    "Nodes",
    "Offer",
    "Open",
    "Probe",
    "Pull",
    "Ready",
    "Receipt",
    "Row",
    "Slice",
    "Statement",
    "TooOld",
    "Turn",
    "Want",
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
    entry: bool = False  # the receiver is to pass it on as the entry node of its region
    ack: bool = False  # somebody waits: the receiver is to send `origin` its row at once


class Context(NamedTuple):
    """What the sender has accounted for, its clock, whom it has met, and the digest of what it holds."""

    rows: list[Row]
    clock_ms: int
    clear_mark: tuple[int, int]
    members: list[MemberRow]
    root: int  # of the digest; 0 in a sign of life, which is one row, or a frame without messages
    wall_ms: int = 0  # the sender's clock without correction
    heard_ms: int = 0  # the monotonic time in the last frame from the receiver, 0 if there was none
    ago_ms: int = 0  # how long ago that frame came, so that the receiver knows the round trip
    prune_mark: int = 0  # the sender's; 0 in a sign of life


class Pull(NamedTuple):
    """Asks for the slice of `origin` after `lo`."""

    origin: int
    lo: int


class TooOld(NamedTuple):
    """The log of `origin` begins at `floor`, above what was pulled: only a session can help."""

    origin: int
    floor: int


class Open(NamedTuple):
    """Asks for a session; what follows in it is at least as new as this."""

    session: int
    lasts: int  # a hash of the last write of each origin that is accounted for
    slowest_ms: int  # D2's slowest clock as the sender knows it, 0: it has heard nobody
    clear_mark: tuple[int, int]
    root: int
    size: int  # entries below the root, the dead included


class Equal(NamedTuple):
    """The answer to OPEN where root and last writes are equal: that was all."""

    session: int


class Ready(NamedTuple):
    """The first message of a session from each side but for OPEN: its rows as of then (of OPEN, or of now)."""

    session: int
    rows: list[Row]
    slowest_ms: int
    clear_mark: tuple[int, int]
    size: int  # entries held, the dead included
    adopts: tuple[int, ...]  # origins that the sender was answered TOO_OLD about: it will adopt their rows (C3)
    prune_mark: int = 0  # origins without a row are accounted for up to this stamp


class Nodes(NamedTuple):
    """What is below some nodes of the digest that differ: for each of its 16 (or 256) children sum and count."""

    session: int
    nodes: tuple[int, ...]
    sums: tuple[int, ...]
    counts: tuple[int, ...]


class List(NamedTuple):
    """All entries below some nodes, the dead included; the visible ones as ghosts, whatever they are."""

    session: int
    nodes: tuple[int, ...]
    entries: list[tuple[Key, Entry]]


class Want(NamedTuple):
    """Entries that were listed and that the sender has not accounted for."""

    session: int
    keys: list[Key]


class Turn(NamedTuple):
    """The sender has said what it had to say; `last`: neither nodes nor lists, so there is nothing to compare."""

    session: int
    streams: tuple[int, ...]  # nodes below which both sides offer all they hold, unlisted
    last: bool


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
    """The sender has offered all that it had to offer; `window` is one above its last."""

    session: int
    window: int
    limited: bool  # it found more differences than fit one session: rows may not be adopted


class Answered(NamedTuple):
    """Every GONE and every better entry for `window` was sent before this message."""

    session: int
    window: int
    complete: bool  # False: something in the window was parked, rejected or left unapplied


class Gone(NamedTuple):
    """Live versions that were offered and are known to be removed; whoever holds exactly them forgets them."""

    versions: list[tuple[Key, int, int]]


class Statement(NamedTuple):
    """What the sender believes of a process; see `claims.Claim` for the order of what is said of one."""

    origin: int
    generation: int
    incarnation: int
    standing: int
    witness: bool  # the sender does not hear it itself


class Claims(NamedTuple):
    """What the sender believes of some processes."""

    statements: list[Statement]


class Probe(NamedTuple):
    """Asks whether the receiver hears `origin`, which may be itself; whoever does not, says nothing."""

    origin: int


class Heard(NamedTuple):
    """The sender has heard `origin` itself, so long ago."""

    origin: int
    ago_ms: int


class Receipt(NamedTuple):
    """`member` has accounted for what `origin` wrote up to `upto`: on its way to `origin`, which it has no link to."""

    member: int
    origin: int
    upto: int


InSession = Equal | Busy | Ready | Nodes | List | Want | Turn | Offer | End | Answered
Message = Slice | Context | Pull | TooOld | Open | InSession | Gone | Claims | Probe | Heard | Receipt
