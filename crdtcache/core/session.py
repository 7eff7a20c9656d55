"""One anti-entropy session over one link: both sides offer all they hold, and each offer is answered.

The offers go out in windows, a few unanswered at a time, group by group of the digest's hash space; the map
may change meanwhile, because everything changed is pushed as well and O1..O5 make the order irrelevant.
When both sides have offered all and every window is answered, nothing is left that one of them knows to be
removed and the other shows: only then may the rows of the peer's *first* message be adopted (C3).

Decision: the sender makes a window when the link can take it and the peer has answered an earlier one; so a
session holds no copy of the map and a slow peer costs nothing. Compared branches instead of whole maps come
with the issue on sessions; the messages and the end of a session stay as they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from crdtcache.core.entry import VALUE, Entry, Key
from crdtcache.core.lwwmap import LWWMap
from crdtcache.core.messages import Answered, End, Gone, Message, Offer, Row
from crdtcache.core.slices import wire_size

__all__ = ["Session"]


class Session:
    """The state of one session on one side. `rows` are the peer's, as of its first message."""

    __slots__ = (
        "_answers",
        "_rest",
        "_source",
        "_window",
        "active_ns",
        "complete",
        "ended",
        "number",
        "opener",
        "rows",
        "their_end",
        "unanswered",
    )

    def __init__(self, number: int, *, opener: bool, now_ns: int) -> None:
        self.number = number
        self.opener = opener
        self.rows: list[Row] | None = None  # None: OPEN was sent and READY is due
        self.active_ns = now_ns
        self.complete = True
        self.ended = False  # END was sent
        self.their_end = False
        self.unanswered: dict[int, None] = {}  # windows of ours; by number, as an answer may come twice
        self._source: Iterator[list[Key]] | None = None
        self._rest: list[Key] = []  # of the group being offered: what did not fit the last window
        self._window = 0
        self._answers: deque[Gone | Answered | list[Key]] = deque()

    def begin(self, rows: list[Row], held: LWWMap) -> None:
        """The peer has agreed (or asked): from now on windows are made."""
        self.rows = rows
        self._source = _key_groups(held)

    def answer(self, gone: list[tuple[Key, int, int]], better: list[Key], window: int, complete: bool) -> None:
        """Queue what answers a window of the peer: GONE, then better entries, then ANSWERED, in this order."""
        if gone:
            self._answers.append(Gone(gone))
        if better:
            self._answers.append(better)
        if window:
            self._answers.append(Answered(self.number, window, complete))

    def answered(self, window: int, complete: bool) -> None:
        """The peer has settled one of our windows."""
        self.unanswered.pop(window, None)
        self.complete = self.complete and complete

    @property
    def done(self) -> bool:
        """Both sides offered all, and everything is answered and sent."""
        return self.ended and self.their_end and not self.unanswered and not self._answers

    def next_message(self, held: LWWMap, budget: int) -> Message | None:
        """What to send next, of at most about `budget` bytes; None while waiting for the peer."""
        answers = self._answers
        if answers:
            head = answers.popleft()
            if not isinstance(head, list):
                return head
            offer, rest = _offer(self.number, 0, head, held, budget)
            if rest:
                answers.appendleft(rest)
            return offer
        tuning = held.tuning
        if self._source is None or self.ended or len(self.unanswered) >= tuning.windows_in_flight:
            return None
        keys: list[Key] | None = self._rest or next(self._source, None)
        self._window += 1
        self.unanswered[self._window] = None
        if keys is None:
            self.ended = True
            return End(self.number, self._window)
        offer, self._rest = _offer(self.number, self._window, keys, held, budget)
        return offer


def _key_groups(held: LWWMap) -> Iterator[list[Key]]:
    batch: list[Key] = []
    for group in range(1 << 12):
        batch += held.digest.keys_of_group(group)
        if len(batch) >= held.tuning.window_entries // 2:
            yield batch
            batch = []
    if batch:
        yield batch


def _offer(number: int, window: int, keys: list[Key], held: LWWMap, budget: int) -> tuple[Offer, list[Key]]:
    """The entries of `keys` held now, as many as fit; the keys that did not."""
    entries: list[tuple[Key, Entry]] = []
    size = 0
    for i, key in enumerate(keys):
        entry = held.store.entries.get(key)
        if entry is None or entry[:2] <= held.context.clear_mark:
            continue
        size += 48 + wire_size(key) + (wire_size(entry[VALUE]) if entry[VALUE] is not None else 1)
        if (size > budget or len(entries) >= held.tuning.window_entries) and entries:
            return Offer(number, window, entries), keys[i:]
        entries.append((key, entry))
    return Offer(number, window, entries), []
