"""One connection to a member, seen from the core: its cursors, what waits to be sent, when it was last heard.

Decision: the state of a slow peer is a number per origin (the cursor), not a queue of entries; only control
messages, which are few, wait here as bytes, and those are counted: who makes more of them than it takes loses the link.
"""

from __future__ import annotations

from collections import deque

from crdtcache.core.entry import Key
from crdtcache.core.messages import Hello, Row
from crdtcache.core.session import Session
from crdtcache.core.spread import Tell

__all__ = ["Link"]

_HEAD_BYTES = 48  # what a queued message takes beside its bytes


class Link:
    """One connection to a member: its cursors, what waits to be sent, and when it was last heard."""

    __slots__ = (
        "age_ms",
        "aged_ns",
        "asks",
        "before",
        "better",
        "came_ns",
        "carries",
        "compared",
        "control",
        "cursors",
        "differ_ns",
        "due_rows",
        "entries",
        "heard_ns",
        "hello",
        "incomplete",
        "met",
        "number",
        "opens",
        "opens_ns",
        "our_dial",
        "prune_mark",
        "retry_ns",
        "roots",
        "rows",
        "said",
        "sent_ns",
        "session",
        "signed",
        "signed_ns",
        "start_ns",
        "their_ms",
        "told_ns",
        "too_old",
        "waiting",
    )

    def __init__(self, number: int, hello: Hello, now_ns: int, *, our_dial: bool) -> None:
        self.number = number
        self.hello = hello
        self.our_dial = our_dial
        self.start_ns = self.heard_ns = self.sent_ns = now_ns
        self.told_ns = 0  # when a context message was last sent
        self.age_ms: int | None = None  # the least (our ms - its ms) of a frame seen on this link
        self.aged_ns = now_ns  # when that was
        self.their_ms = 0  # the time in the last frame, of the peer's monotonic clock
        self.came_ns = 0  # when that frame came
        self.control: deque[bytes] = deque()
        self.waiting = 0  # bytes of memory that `control` takes
        self.better: dict[Key, None] = {}  # what is held of these goes out behind `control`: keys, made entries late
        self.cursors: dict[int, int] = {}  # origin -> up to where its log was sent on this link
        self.carries: Tell | None = None  # how the peer is told of own writes; None: somebody else tells it
        self.entries: dict[int, bool] = {}  # origin -> whether the peer is to act as its entry node
        self.asks: dict[int, None] = {}  # origins that wait for the peer's row: the next slice says so
        self.due_rows: dict[int, None] = {}  # origins of which the peer is to get a row
        self.before = 0  # the last own write before the link, 0 once the peer has asked for what it lacked of those
        # Origins that have written -> the peer's frontier, as last heard; the own frontier, as last told in a context
        # message. Of who never wrote there is nothing to have: a thousand idle members would take 100 kB on each link.
        self.rows: dict[int, int] = {}
        self.said: dict[int, int] = {}
        self.signed = 0  # the last own write that a sign of life has told of
        self.signed_ns = 0  # when one did last
        self.met = 0  # the number of the last member that was named in a context message
        self.prune_mark = 0  # the peer's, as last heard
        self.too_old: dict[int, int] = {}  # origins that the peer could not slice for us, and where its log begins
        self.session: Session | None = None
        self.retry_ns = 0  # no OPEN before this
        self.opens = 0  # of the peer, since `opens_ns` or a session that moved something
        self.opens_ns = now_ns
        self.compared = 0  # sessions that compared the whole maps, and left nothing open
        self.incomplete = 0  # sessions in a row that were not complete
        self.roots = (0, 0)  # our digest and the peer's, as of its last context message
        self.differ_ns = now_ns  # since when these two have not changed

    def say(self, message: bytes) -> None:
        """Queue a control message."""
        self.control.append(message)
        self.waiting += len(message) + _HEAD_BYTES

    def take(self) -> bytes:
        """The first of the control messages, to be sent now; there is one."""
        message = self.control.popleft()
        self.waiting -= len(message) + _HEAD_BYTES
        return message

    def heard(self, row: Row) -> None:
        """Note how far the peer has accounted for one origin."""
        origin, last, now = row
        if last or origin in self.rows or origin == self.hello.origin:
            self.rows[origin] = now

    @property
    def goes_on(self) -> bool:
        """Whether there may be more to send without anything new: a session, or a pull of what is still to come."""
        return self.session is not None or len(self.cursors) > (self.carries in (Tell.COPY, Tell.ENTRY))

    @property
    def waits(self) -> bool:
        """Whether something waits to be sent, own writes left aside."""
        return bool(self.control or self.better or self.due_rows or self.asks) or self.goes_on
