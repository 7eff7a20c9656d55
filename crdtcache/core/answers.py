"""What a replica owes a peer: answers wait as keys, and their entries are looked up when the link can take them.

Decision: made late instead of when asked for. The values would be a thousand times what asked for them, and may have
changed until they leave. What waits is counted: who asks for more than it takes in loses its link.
"""

from __future__ import annotations

from collections import deque

from crdtcache.core.entry import DEAD, GHOST, STATE, VALUE, Entry, Key
from crdtcache.core.lwwmap import LWWMap
from crdtcache.core.messages import Answered, Gone, Message, Offer
from crdtcache.core.slices import wire_size

__all__ = ["Answers", "offer_of"]

_HEAD_BYTES = 48  # what a message, or a key in one, takes here beside its bytes


class Answers:
    """The answers of one session, in order; `waiting`: about the bytes of memory that they take."""

    __slots__ = ("_queue", "waiting")

    def __init__(self) -> None:
        self._queue: deque[tuple[Message | list[Key], int]] = deque()
        self.waiting = 0

    def __bool__(self) -> bool:
        return bool(self._queue)

    def say(self, message: Message) -> None:
        """Queue a message that is small, or GONE."""
        keys = [key for key, _, _ in message.versions] if isinstance(message, Gone) else []
        self._append(message, keys)

    def window(
        self, session: int, gone: list[tuple[Key, int, int]], better: list[Key], window: int, complete: bool
    ) -> None:
        """Queue what answers a window of the peer: GONE, then better entries, then ANSWERED, in this order."""
        if gone:
            self.say(Gone(gone))
        if better:
            self._append(better, better)
        if window:
            self.say(Answered(session, window, complete))

    def take(self, session: int, held: LWWMap, budget: int) -> Message:
        """The first, which is there: of better entries as many as fit."""
        head, size = self._queue.popleft()
        self.waiting -= size
        if not isinstance(head, list):
            return head
        offer, rest = offer_of(session, 0, head, held, budget, {})
        if rest:
            self._append(rest, rest, first=True)
        return offer

    def _append(self, answer: Message | list[Key], keys: list[Key], *, first: bool = False) -> None:
        size = _HEAD_BYTES + sum(_HEAD_BYTES + wire_size(key) for key in keys)
        (self._queue.appendleft if first else self._queue.append)((answer, size))
        self.waiting += size


def offer_of(
    number: int, window: int, keys: list[Key], held: LWWMap, budget: int, known: dict[Key, tuple[int, int] | None]
) -> tuple[Offer, list[Key]]:
    """The entries of `keys` held now, as many as fit, without their values where the peer holds the version."""
    entries: list[tuple[Key, Entry]] = []
    size = 0
    for i, key in enumerate(keys):
        entry = held.store.entries.get(key)
        if entry is None or entry[:2] <= held.context.clear_mark:
            continue
        if entry[:2] == known.get(key) and entry[STATE] != DEAD:
            entry = (*entry[:STATE], GHOST, None)
        size += 48 + wire_size(key) + (wire_size(entry[VALUE]) if entry[VALUE] is not None else 1)
        if (size > budget or len(entries) >= held.tuning.window_entries) and entries:
            return Offer(number, window, entries), keys[i:]
        entries.append((key, entry))
    return Offer(number, window, entries), []
