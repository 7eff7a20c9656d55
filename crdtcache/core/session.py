"""One anti-entropy session over one link: compare the digests, turn by turn, then offer what differs.

    ASKED       OPEN was sent.
    COMPARING   The sides take turns. In its turn a side sends, for each node of the digest that differs, the sums of
                its children (NODES), or all entries below it where they are few (LIST), then what it lacks of what
                was listed (WANT), and TURN. A turn without NODES and LIST is the last one.
    OFFERING    Both sides offer what they found the other to lack, in windows, a few unanswered at a time.

Where one side has less than a quarter of the other's entries below a node, nothing is listed: both offer all they
hold there. So a joiner is filled by one session, the most recently used entries first. The rest goes in the order of
the tree: what came before a cut is a branch that is nearly equal by then, and the next session leaves it nearly alone.
A sixteenth (design section 9) was too little: of the branches that a cut had left untouched, a joiner held that much by
what was written meanwhile, listed them, and came to the limit a hundred times (1e6 entries: 183 s; without a cut 40 s).

The map may change meanwhile, because everything changed is pushed as well and O1..O5 make the order irrelevant. When
both sides have offered all and every window is answered, nothing is left that one of them knows to be removed and the
other shows: only then may the rows of the peer's *first* message be adopted (C3). The digest says nothing of the dead,
so who adopts an origin is also offered all dead that it has not accounted for: an adopted row covers a delete, and what
that had removed may still be on its way (I3); or it covers what somebody else has deleted since (I6).

Decision: turns, not a message that is answered whenever it comes: so both know when there is nothing more to compare,
without counting what is in flight. A session holds no copy of the map, and a slow peer costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import IntEnum
from itertools import islice

from crdtcache.core.answers import Answers, offer_of
from crdtcache.core.digest import LEAF, ROOT
from crdtcache.core.entry import DEAD, GHOST, ORIGIN, STAMP, STATE, Entry, Key
from crdtcache.core.lwwmap import LWWMap
from crdtcache.core.messages import (
    Answered,
    Busy,
    End,
    Equal,
    InSession,
    List,
    Message,
    Nodes,
    Offer,
    Ready,
    Row,
    Turn,
    Want,
)
from crdtcache.core.slices import wire_size

__all__ = ["EXPECTED", "OutOfTurn", "Phase", "Session"]


class OutOfTurn(Exception):
    """Fault: the peer's, which speaks of branches that it was told nothing of.

    State: nothing of the message was applied. Do: close the link with this reason.
    """


class Phase(IntEnum):
    """What a session is at."""

    ASKED = 0
    COMPARING = 1
    OFFERING = 2


EXPECTED: dict[Phase, tuple[type[InSession], ...]] = {
    Phase.ASKED: (Ready, Equal, Busy),
    Phase.COMPARING: (Ready, Nodes, List, Want, Turn, Busy),
    Phase.OFFERING: (Ready, Offer, Answered, End, Busy),
}
"""What may come in each phase. Anything else is left of an earlier session, and ignored."""

_SHARE = 4  # where one side holds less than this part of the other's, nothing is listed
_FIRST = 64  # the part of a map that a joiner gets before all else, of what was used last
_WIDE = 256  # children in a message about a node with many entries below it: two levels at once
_SCANNED = 4_096  # of the dead, looked at for one window


class Session:
    """The state of one session on one side. `rows` are the peer's, as of its first message."""

    __slots__ = (
        "_below",
        "_charged",
        "_found",
        "_leaves",
        "_listing",
        "_rest",
        "_source",
        "_spoke",
        "_streams",
        "_their_lists",
        "_told",
        "_untold",
        "_wanted",
        "_window",
        "active_ns",
        "adopts",
        "answers",
        "complete",
        "ended",
        "filling",
        "limited",
        "moved",
        "number",
        "opener",
        "our_turn",
        "own",
        "phase",
        "prune_mark",
        "rows",
        "sent_bytes",
        "size",
        "their_end",
        "theirs",
        "unanswered",
    )

    def __init__(self, number: int, own: Ready, *, opener: bool, now_ns: int) -> None:
        self.number = number
        self.own = own  # our first message
        self.opener = opener
        self.phase = Phase.ASKED
        self.rows: list[Row] | None = None
        self.prune_mark = 0  # the peer's, as of then
        self.theirs: tuple[int, ...] = ()  # the origins that the peer will adopt
        self.size = 0  # entries that the peer held when it began
        self.active_ns = now_ns
        self.complete = True  # nothing in it was parked, rejected or left unapplied
        self.limited = False  # it has not settled all: more differs than fits, or something came beside it
        self.filling = False  # this side holds much less than the peer, and is being filled
        self.moved = 0  # entries offered, here and there
        self.sent_bytes = 0
        self.our_turn = not opener
        self.ended = False  # END was sent
        self.their_end = False
        self.unanswered: dict[int, None] = {}  # windows of ours; by number, as an answer may come twice
        self._below: deque[int] = deque()  # nodes whose children the peer is to see
        self._leaves: deque[int] = deque()  # nodes to be listed
        self._told: dict[int, None] = {ROOT: None} if opener else {}  # nodes whose sums the peer has and may answer
        self._their_lists = 0  # nodes listed by the peer
        self._listing = 0  # nodes listed or streamed, by both
        self._charged = 0  # what the nodes of this turn will come to
        self._wanted: deque[Key] = deque()
        self._streams: dict[int, None] = {}
        self._untold: list[int] = []  # of the streams, those that the peer is to be told of
        self._spoke = False  # NODES or LIST was sent in this turn
        self._found: dict[Key, tuple[int, int] | None] = {}  # to be offered; the version that the peer holds, if known
        self._source: Iterator[list[Key]] | None = None
        self._rest: list[Key] = []  # of the keys being offered: what did not fit the last window
        self._window = 0
        self.answers = Answers()

    # ---- comparing ------------------------------------------------------------------------------------------------

    def agree(self, adopts: tuple[int, ...]) -> None:
        """Both want it: say so, with the origins that are to be adopted here at its end."""
        self.own = self.own._replace(adopts=adopts)
        self.answers.say(self.own)
        self.phase = Phase.COMPARING

    def begin(self, ready: Ready) -> None:
        """The peer's first message: what follows is at least as new as its rows."""
        self.rows, self.theirs, self.size = ready.rows, ready.adopts, max(self.size, ready.size)
        self.prune_mark = ready.prune_mark

    def beside(self, entry: Entry) -> None:
        """It has come from another peer meanwhile: this one was not asked about it, and may know what had removed it.

        Rows that cover it are not adopted then, and the session is held again (kitchen-sink, seed 40003672).
        """
        if self.own.adopts and any(row.origin == entry[ORIGIN] and entry[STAMP] <= row.now for row in self.rows or ()):
            self.limited = True

    def compare(self, message: Nodes, held: LWWMap) -> None:
        """The sums of the peer: what differs is looked at in the turn that follows."""
        self._answering(message.nodes)
        held.digest.fold()
        fan = len(message.counts) // max(1, len(message.nodes))
        for i, (total, count) in enumerate(zip(message.sums, message.counts, strict=True)):
            self.look(message.nodes[i // fan] * fan + i % fan, total, count, held)

    def look(self, node: int, total: int, count: int, held: LWWMap) -> None:
        """The peer has `count` entries below `node`, and the visible ones sum up to `total`."""
        own_total, own_count = held.digest.node(node)
        if own_total == total:
            return
        few, many = sorted((own_count, count))
        streamed = few * _SHARE < many
        if not streamed and many > held.tuning.list_entries and node < LEAF:
            # At least as many leaves differ below as the counts do.
            charge = min(16, max(1, many - few))
            if self._within(charge, held):
                self._charged += charge
                self._below.append(node)
        elif self._within(1, held):
            self._listing += 1
            if streamed or many > 16 * held.tuning.list_entries:
                self._streams[node] = None
                self._untold.append(node)
            else:
                self._leaves.append(node)

    def _within(self, more: int, held: LWWMap) -> bool:
        if self._listing + self._charged + more > held.tuning.session_leaves:
            self.limited = True
        return not self.limited

    def _answering(self, nodes: tuple[int, ...]) -> None:
        """A branch is looked at once in a session: by who was told its sums, in the turn that follows.

        Without this a kilobyte that names the root again and again kept a replica busy for a minute.
        """
        for node in nodes:
            if node not in self._told:
                raise OutOfTurn(f"node {node} of the digest where it was not asked for")
        for node in nodes:
            del self._told[node]

    def stream_all(self) -> None:
        """Both offer all they hold: where the sums cannot be compared."""
        self._streams[ROOT] = None
        self._untold.append(ROOT)

    def listed(self, nodes: tuple[int, ...], keys: dict[Key, Entry], held: LWWMap) -> None:
        """The peer has listed what it holds below `nodes`: offer what is not in it."""
        self._answering(nodes)
        self._listing += len(nodes)
        self._their_lists += len(nodes)
        if self._their_lists > held.tuning.session_leaves:
            self.limited = True  # more than the peer may list: it comes again
            return
        for node in nodes:
            for group in held.digest.keys_below(node):
                self.find([key for key in group if key not in keys], held)

    def want(self, key: Key, held: LWWMap) -> None:
        """The peer has listed an entry that is not accounted for here."""
        if self._notes(held):
            self._wanted.append(key)

    def find(self, keys: list[Key], held: LWWMap, version: tuple[int, int] | None = None) -> None:
        """The peer lacks these; where it holds this `version` only a lease or a death is news to it."""
        if self._notes(held):
            self._found.update((key, version) for key in keys)

    def _notes(self, held: LWWMap) -> bool:
        """Whether more can be noted: as much as both may list comes to, whatever the peer lists and wants."""
        most = 2 * held.tuning.session_leaves * 16 * held.tuning.list_entries
        full = len(self._found) + len(self._wanted) >= most
        self.limited = self.limited or full
        return not full

    def turn(self, message: Turn, held: LWWMap) -> None:
        """It is our turn; after the last one both offer."""
        self._answering(message.streams)
        self._streams |= dict.fromkeys(message.streams)
        self._told = {}
        self.our_turn = True
        if message.last:
            self._offering(held)

    def _say(self, held: LWWMap, budget: int) -> Message:
        """The next message of our turn."""
        digest = held.digest
        if self._below:
            digest.fold()
            wide = self._below[0] == ROOT and len(held.store.entries) > _WIDE * held.tuning.list_entries
            fan = _WIDE if wide else 16
            nodes = [self._below.popleft() for _ in range(min(len(self._below), max(1, budget // (12 * fan))))]
            sums = [digest.node(node * fan + i) for node in nodes for i in range(fan)]
            self._spoke = True
            self._told |= dict.fromkeys(node * fan + i for node in nodes for i in range(fan))
            return Nodes(self.number, tuple(nodes), tuple(s for s, _ in sums), tuple(count for _, count in sums))
        if self._leaves:
            nodes, entries, size = [], [], 0
            while self._leaves and size < budget // 2:
                nodes.append(self._leaves.popleft())
                for key in (key for keys in digest.keys_below(nodes[-1]) for key in keys):
                    entry = held.store.entries[key]
                    entries.append((key, entry if entry[STATE] == DEAD else (*entry[:STATE], GHOST, None)))
                    size += 32 + wire_size(key)
            self._spoke = True
            return List(self.number, tuple(nodes), entries)
        if self._wanted:
            keys, size = [], 0
            while self._wanted and size < budget // 2:
                keys.append(self._wanted.popleft())
                size += 3 + wire_size(keys[-1])
            return Want(self.number, keys)
        turn = Turn(self.number, tuple(self._untold), not self._spoke)
        self.our_turn, self._untold, self._charged, self._spoke = False, [], 0, False
        if turn.last:
            self._offering(held)
        return turn

    # ---- offering -------------------------------------------------------------------------------------------------

    def _offering(self, held: LWWMap) -> None:
        self.phase = Phase.OFFERING
        streamed = any(node < LEAF >> 4 for node in self._streams)
        self.filling = streamed and len(held.store.entries) < self.size

    def answered(self, window: int, complete: bool) -> None:
        """The peer has settled one of our windows."""
        self.unanswered.pop(window, None)
        self.complete = self.complete and complete

    @property
    def done(self) -> bool:
        """Both sides offered all, and everything is answered and sent."""
        return self.ended and self.their_end and not self.unanswered and not self.answers

    def next_message(self, held: LWWMap, budget: int) -> Message | None:
        """What to send next, of at most about `budget` bytes; None while waiting for the peer."""
        if self.answers:
            return self.answers.take(self.number, held, budget)
        if self.phase is Phase.COMPARING and self.our_turn:
            return self._say(held, budget)
        if self.phase is Phase.OFFERING and self.rows is not None:
            return self._window_of_offers(held, budget)
        return None

    def _window_of_offers(self, held: LWWMap, budget: int) -> Message | None:
        if self.ended or len(self.unanswered) >= held.tuning.windows_in_flight:
            return None
        if self._source is None:
            self._source = self._to_offer(held)
        keys: list[Key] | None = self._rest or next(self._source, None)
        self._window += 1
        self.unanswered[self._window] = None
        if keys is None:
            self.ended = True
            return End(self.number, self._window, self.limited)
        offer, self._rest = offer_of(self.number, self._window, keys, held, budget, self._found)
        self.moved += len(offer.entries)
        return offer

    def _to_offer(self, held: LWWMap) -> Iterator[list[Key]]:
        """Groups of keys: what was found, up to the limit; the dead that the peer adopts; what is streamed."""
        found, most = iter(list(self._found)), held.tuning.window_entries
        while batch := list(islice(found, most)):
            yield batch  # first, so that each session makes progress
            if self.sent_bytes > held.tuning.session_bytes:
                self.limited = self.limited or next(found, None) is not None
                break
        yield from self._dead(held)
        batch = []
        first: dict[Key, None] = {}
        if ROOT in self._streams:
            first = dict.fromkeys(held.store.recent(len(held.store.entries) // _FIRST))
            batch = list(first)
        for node in self._streams:
            for keys in held.digest.keys_below(node):
                batch += [key for key in keys if key not in first] if first else keys
                if batch and len(batch) >= most // 2:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _dead(self, held: LWWMap) -> Iterator[list[Key]]:
        """The dead that the peer has not accounted for, whoever deleted them, if it will adopt any origin."""
        if not self.theirs or ROOT in self._streams:
            return
        known = {row.origin: row.now for row in self.rows or ()}
        dead = iter([key for queue in held.dead() for key in queue])
        entries, most = held.store.entries, held.tuning.window_entries
        while scanned := list(islice(dead, _SCANNED)):
            batch = []
            for key in scanned:
                entry = entries.get(key)
                if entry is not None and entry[STATE] == DEAD and entry[STAMP] > known.get(entry[ORIGIN], 0):
                    batch.append(key)
            for start in range(0, max(1, len(batch)), most):
                yield batch[start : start + most]
