"""What goes out: frames made when a link can take them, control before slices before sessions.

Batching is natural: at once when idle, larger when busy, with no timers, because a frame holds all that has
come up since the last one. Slices of one `(origin, lo, head)` are encoded once and the bytes are reused for
every peer at that cursor.

Decision: made at the last moment instead of queued when written: a peer that was slow gets the current state
once, and memory does not grow with the slowest. Source: DESIGN section 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import nlargest
from typing import TypeVar

from crdtcache.core.answers import offer_of
from crdtcache.core.clock import Reading
from crdtcache.core.codec import encode, frame
from crdtcache.core.correction import Correction
from crdtcache.core.entry import Key
from crdtcache.core.links import Link
from crdtcache.core.lwwmap import LWWMap
from crdtcache.core.members import Member, Members
from crdtcache.core.messages import Context, Gone, Offer, Row, TooOld
from crdtcache.core.slices import make_slice
from crdtcache.core.spread import Tell

__all__ = ["Outbox"]

_T = TypeVar("_T")
_MS = 1_000_000
_MOST_ROWS = 8_000  # in one message: of at most 28 bytes each, they fit a frame that is accepted
_MOST_MEMBERS = 500
_SIGNED = 8  # links that get the own row and clock in each keepalive_ms
_IDLE_ROWS = 8  # at least, of origins that have not written, in one message
_IDLE_TURNS = 32  # messages in which all of them are told, on whatever links
_OLD_MEMBERS = 4  # that were named on the link before, so that they are waited for, and known where they were dropped


class Outbox:
    """Makes the frames of one replica. `counts` are the replica's counters."""

    __slots__ = ("_correction", "_counts", "_held", "_keepalive_ns", "_last", "_links", "_members", "_slice", "_turn")

    def __init__(
        self,
        held: LWWMap,
        members: Members,
        links: Mapping[int, Link],
        correction: Correction,
        counts: dict[str, int],
    ) -> None:
        self._held = held
        self._links = links
        self._last = held.context.last
        self._keepalive_ns = held.tuning.keepalive_ms * _MS
        self._correction = correction
        self._members = members
        self._counts = counts
        self._turn = 0  # which of the idle rows, and of the members, are told next
        # The slice made last: what it depends on, its bytes, its end, its items.
        self._slice: tuple[tuple[int, ...], bytes, int, int] = ((), b"", 0, 0)

    def poll(self, target: Link, reading: Reading) -> bytes | None:
        """The next frame for a link that can take one: control, then slices, then its session; None: nothing."""
        last = self._last.get(self._held.origin, 0)
        idle = not target.waits and target.cursors.get(self._held.origin, last) >= last
        if idle and reading.mono_ns - target.sent_ns < self._keepalive_ns:
            return None
        messages: list[bytes] = []
        size = 16
        room = self._held.tuning.frame_bytes - 64
        while target.control and size + len(target.control[0]) <= room:
            messages.append(target.take())
            size += len(messages[-1])
        if target.control and not messages:
            messages.append(target.take())
            size += len(messages[-1])
        if target.due_rows and not target.control:
            messages.append(encode(self._rows(list(target.due_rows)[:_MOST_ROWS], target, reading)))
            target.due_rows.clear()
            size += len(messages[-1])
        if not target.control:
            size = self._better(target, messages, size, room)
            size = self._slices(target, messages, size, room)
            if target.session is not None and size < room // 2:
                self._session(target, messages, size, room, reading)
        if not messages:
            if reading.mono_ns - target.sent_ns < self._keepalive_ns:
                return None
            # A sign of life: the own row and clock; where there are many links, mostly nothing, for nothing is new.
            rare_ns = self._keepalive_ns * len(self._links) // _SIGNED
            if last > target.signed or reading.mono_ns - target.signed_ns >= rare_ns:
                target.signed, target.signed_ns = last, reading.mono_ns
                messages.append(encode(self._rows([self._held.origin], target, reading)))
        target.sent_ns = reading.mono_ns
        self._counts["frames_sent"] += 1
        return frame(reading.mono_ns // _MS, messages)

    def _better(self, link: Link, messages: list[bytes], size: int, room: int) -> int:
        """What is held of the keys that the peer spoke of, behind the control messages about them."""
        while link.better and size < room // 2:
            offer, rest = offer_of(0, 0, list(link.better), self._held, room - size, {})
            link.better = dict.fromkeys(rest)
            if offer.entries:
                messages.append(encode(offer))
                size += len(messages[-1])
        return size

    def _slices(self, link: Link, messages: list[bytes], size: int, room: int) -> int:
        own, frontier = self._held.origin, self._held.context.frontier
        # The own origin's cursor stays where new writes are to follow. All others are for what is asked for, or
        # passed on: up to the head, even if nothing was written since; a peer waits for it, and asks nobody else.
        stays = own if link.carries in (Tell.COPY, Tell.ENTRY) else None
        heads = {o: self._last.get(o, 0) if o == stays else frontier.get(o, 0) for o in link.cursors}
        for origin, head in heads.items():
            while (link.cursors[origin] < head or origin in link.asks) and (size < room // 2 or not messages):
                flags = link.entries.get(origin, False), origin in link.asks
                made = self._slice_bytes(origin, link.cursors[origin], room - size, flags)
                if made is None:
                    messages.append(encode(TooOld(origin, self._held.log.floor(origin))))
                    del link.cursors[origin]
                    link.asks.pop(origin, None)
                    if origin == stays:
                        link.cursors[origin] = frontier[origin]
                    break
                data, hi, items = made
                self._counts["items_sent"] += items
                messages.append(data)
                size += len(data)
                link.cursors[origin] = hi
                if hi >= head:
                    link.asks.pop(origin, None)
                    if origin != stays:
                        del link.cursors[origin]
                        link.entries.pop(origin, None)
                        break
        return size

    def _slice_bytes(
        self, origin: int, lo: int, budget: int, flags: tuple[bool, bool]
    ) -> tuple[bytes, int, int] | None:
        """A slice encoded once, its end, and its items; the bytes are reused for every peer at the same cursor."""
        head = self._held.context.frontier[origin]
        # Entries as well as the log: the items of a slice of one origin may have been replaced by another's, or be
        # gone. An old copy would bring them to a joiner that has already adopted what covers their removal.
        basis = (origin, lo, head, *flags, self._held.replaced, self._held.context.last.get(self._held.origin, 0))
        if self._slice[0] == basis and len(self._slice[1]) <= budget + 1_024:
            return self._slice[1:]
        part = make_slice(self._held, origin, lo, budget)
        if part is None:
            return None
        data = encode(part._replace(entry=flags[0], ack=flags[1]))
        self._slice = (basis, data, part.hi, len(part.items))
        self._counts["slices_made"] += 1
        self._counts["entries_sent"] += len(part.items)
        if origin == self._held.origin:
            self._held.sent = max(self._held.sent, part.hi)
        return data, part.hi, len(part.items)

    def _session(self, link: Link, messages: list[bytes], size: int, room: int, reading: Reading) -> None:
        session = link.session
        assert session is not None
        # Entries leave by offers as well as by slices: from here on an own write may have been seen.
        self._held.sent = max(self._held.sent, self._held.context.frontier[self._held.origin])
        while size < room // 2:
            message = session.next_message(self._held, room - size)
            if message is None:
                break
            if isinstance(message, Offer):
                self._counts["entries_sent"] += len(message.entries)
            messages.append(encode(message))
            size += len(messages[-1])
            session.sent_bytes += len(messages[-1])
            session.active_ns = reading.mono_ns

    def tell(self, link: Link, reading: Reading) -> None:
        """Queue a context message: what is accounted for here, and who has been met.

        After the first on a link: the rows of all who have written since the last one, and a few others in turn, or a
        hundred idle nodes would say 8 kB of nothing with each message. A row that stands still, as of a process that
        is gone, is told once: where services are restarted day and night, these would soon be all that there is to say.
        Of the members, those that were met since the last one, and a few others in turn.
        """
        said, used = link.said, self._members.in_use(reading.mono_ns)
        rows, clock_ms, mark = self.position(reading, said)
        fresh = [member for member in used if member.number > link.met][:_MOST_MEMBERS]
        others: list[Member] = []
        if link.told_ns:
            here = {member.row.origin: None for member in used}
            idle, news = [], []
            for row in rows:
                told = said.get(row.origin, 0)
                if row.last > told or row.origin == self._held.origin:
                    news.append(row)
                elif row.now != told and (row.last or row.origin in here):
                    idle.append(row)
            named = [member for member in used if member.number <= link.met]
            others = _in_turn(named, self._turn * _OLD_MEMBERS, _OLD_MEMBERS)
            most = max(_IDLE_ROWS, len(idle) // _IDLE_TURNS)
            rows = news + _in_turn(idle, self._turn * most, most)
            self._turn += 1
        said.update((row.origin, row.now) for row in rows if row.last)
        link.met = max([link.met, *(member.number for member in fresh)])
        members = self._members.rows(reading.mono_ns, fresh + others)
        root, pruned = self._held.digest.root(), self._held.context.prune_mark
        context = Context(rows, clock_ms, mark, members, root, *self._clocks(link, reading), pruned)
        link.say(encode(context))
        link.told_ns = reading.mono_ns
        self._counts["contexts_sent"] += 1

    def _rows(self, origins: list[int], link: Link, reading: Reading) -> Context:
        """Rows of these only: of the own origin, a sign of life; of others, that there is something to be had."""
        own = self._held.context
        own.advance(self._held.origin, self._held.clock.announce(reading.wall_ms))
        rows = [Row(origin, own.last.get(origin, 0), own.frontier[origin]) for origin in origins]
        return Context(rows, reading.wall_ms, own.clear_mark, [], 0, *self._clocks(link, reading))

    def _clocks(self, link: Link, reading: Reading) -> tuple[int, int, int]:
        """The clock without correction, and what the peer needs to know how old it is when it comes."""
        ago_ms = max(0, reading.mono_ns - link.came_ns) // _MS if link.their_ms else 0
        return max(0, reading.wall_ms - self._correction.ms), link.their_ms, ago_ms

    def answer_gone(self, link: Link, gone: list[tuple[Key, int, int]]) -> None:
        """O3's answer to a slice: GONE, then what is held for those keys.

        The entries are looked up when the link can take them: their values would be a thousand times the slice.
        """
        if self._held.partial:
            return  # a partial replica forgets for want of room: it knows nothing of removals (E4)
        held = self._held.store.entries
        for start in range(0, len(gone), 512):
            link.say(encode(Gone(gone[start : start + 512])))
        link.better.update((key, None) for key, _, _ in gone if key in held)

    def position(self, reading: Reading, said: dict[int, int]) -> tuple[list[Row], int, tuple[int, int]]:
        """Rows but those that were said, clock and clear mark, as a context message or a session begins with them."""
        own = self._held.context
        own.advance(self._held.origin, self._held.clock.announce(reading.wall_ms))
        rows = own.rows(said)
        if len(rows) > _MOST_ROWS:  # those that have moved last: the others are of processes gone
            rows = nlargest(_MOST_ROWS, rows, key=lambda row: row.now)
        return rows, reading.wall_ms, own.clear_mark


def _in_turn(those: list[_T], start: int, count: int) -> list[_T]:
    """So many of them, from where the turn has come to."""
    start %= max(1, len(those))
    return (those[start:] + those[:start])[:count]
