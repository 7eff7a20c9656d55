"""Plays a transcript: commands in, and after each of them the whole log of what followed.

A transcript begins with a sentence of what it shows. A line that begins with `>` is a command, one with `#` a
remark; everything else is the log, and is compared. The commands are the methods of `Stage` that have no
underscore. A message is logged when it is delivered, an event when it is reported.

    a@118       the version (or touch) that a stamped at 118 ms; a@118.1 is its next one in that millisecond
    a 118..120  a row: a wrote last at 118, and nothing since, up to 120
    (100, 120]  a slice: all that was written after 100, up to 120
    <120        the last stamp before 120

All times are ms since the beginning. Decision: context messages and signs of life are rare here unless the
transcript asks for them, or a conversation of five messages would be told in fifty.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace

from crdtcache.core.claims import Standing
from crdtcache.core.codec import Limits, decode
from crdtcache.core.digest import ROOT
from crdtcache.core.entry import DEAD, GHOST, LIVE, Entry, Key
from crdtcache.core.messages import (
    Answered,
    Busy,
    Claims,
    Context,
    End,
    Equal,
    Gone,
    Heard,
    Item,
    List,
    Message,
    Nodes,
    Offer,
    Open,
    Probe,
    Pull,
    Ready,
    Row,
    Slice,
    TooOld,
    Turn,
    Want,
)
from crdtcache.core.outcome import Change, Dial, Event, LinkBroken, PeerGone, PeerUp
from crdtcache.core.replica import Replica
from tests.core.world import FAST, HOUR_MS, WALL_MS, World

__all__ = ["play"]

_TUNING = replace(
    FAST, context_ms=HOUR_MS, keepalive_ms=HOUR_MS, silent_ms=2 * HOUR_MS, gc_hold_ms=HOUR_MS, compare_ms=HOUR_MS
)


def play(text: str) -> str:
    """The transcript as it is today. Raises AssertionError where the replicas do not agree at its end."""
    told: list[str] = []
    stage: Stage | None = None
    for line in text.splitlines():
        if line.startswith(">"):
            told.append(line)
            name, *words = shlex.split(line[1:])
            if stage is None:
                assert name == "nodes", "a transcript begins with its nodes"
                stage = Stage(words, told)
            else:
                getattr(stage, name)(*words)
        elif stage is None or line.startswith("#") or not line:
            told.append(line)  # the sentence at the top, a remark, or room to breathe
    assert stage is not None, "no commands"
    stage.world.check()
    assert stage.world.agree(), "\n".join([*told, "at the end they do not agree"])
    return "\n".join(told) + "\n"


class Stage:
    """The replicas of one transcript, and the log."""

    def __init__(self, words: Iterable[str], told: list[str]) -> None:
        settings = [word for word in words if "=" in word]
        names = [word for word in words if "=" not in word]
        tuning = replace(_TUNING, **{k: float(v) if "." in v else int(v) for k, v in (s.split("=") for s in settings)})
        self._told = told
        self._names: dict[int, str] = {}
        self._meeting = False
        self._quiet = False
        self.world = _World(self, names, tuning)

    # ---- commands -------------------------------------------------------------------------------------------------

    def node(self, name: str, region: str = "default") -> None:
        """A new process; one of the same name is gone."""
        self.world.add(name, region=region)

    def link(self, *names: str) -> None:
        """Connect two nodes, or all."""
        self.world.link(*names) if names else self.world.link_all()

    def cut(self, *names: str) -> None:
        """The link of two nodes, or all of one, end; what is in flight is lost."""
        self.world.cut(*names) if len(names) == 2 else self.world.cut_off(*names)

    def meeting(self) -> None:
        """From here on the log tells whom each calls, meets and names."""
        self._meeting = True

    def quiet(self) -> None:
        """From here on the log leaves out signs of life."""
        self._quiet = True

    def seed(self, name: str, other: str) -> None:
        """`name` is configured with the address of `other`."""
        self.world[name].learn_seeds([f"{other}:2738"], self.world.reading(name))

    def hold(self, name: str) -> None:
        """The process stands still: it does nothing, and nothing reaches it."""
        self.world.still[name] = None

    def release(self, name: str) -> None:
        """It goes on."""
        del self.world.still[name]

    def leave(self, name: str) -> None:
        """It says that it is leaving, and ends."""
        self.world[name].leave()
        self.world.carry()
        self.world.cut_off(name)
        del self.world.nodes[name]

    def put(self, name: str, *words: str) -> None:
        """Write `key=value`s, with `ttl=ms` as the last word if they shall expire."""
        ttl = int(words[-1].removeprefix("ttl=")) if words[-1].startswith("ttl=") else 0
        for word in words[:-1] if ttl else words:
            key, _, value = word.partition("=")
            self._did(name, f"wrote {self._version(self.world.put(name, key, value, ttl))}")

    def delete(self, name: str, *keys: str) -> None:
        """Delete keys."""
        for key in keys:
            self._did(name, f"wrote {self._version(self.world.delete(name, key))}")

    def touch(self, name: str, key: str, ttl: str) -> None:
        """Give a key another expiry."""
        touched = self.world.touch(name, key, int(ttl.removeprefix("ttl=")))
        entry = self.world.held(name, key)
        self._did(name, f"touched {self._entry(key, entry)}" if touched and entry else "has nothing to touch")

    def clear(self, name: str) -> None:
        """Clear the cluster."""
        self._did(name, f"wrote {self._version(self.world[name].clear(self.world.reading(name)))}")

    def send(self, source: str, target: str) -> None:
        """Take one frame onto the link; it is in flight until `deliver`, `carry` or `run`."""
        assert self.world.pump(source, target), f"{source} has nothing for {target}"

    def deliver(self, source: str, target: str) -> None:
        """Hand over the frame that was sent first."""
        assert self.world.deliver(source, target), "nothing is in flight"

    def carry(self) -> None:
        """Carry everything, until nobody has anything to say now."""
        self.world.carry()

    def run(self, ms: str) -> None:
        """Time passes, and everything is carried."""
        self.world.run(int(ms))

    def step(self, ms: str) -> None:
        """Time passes, everybody does what is due, and nothing is carried."""
        self.world.step(int(ms))

    def show(self, *keys: str) -> None:
        """What each node holds of `keys`, and what a reader sees of it."""
        for key in keys:
            for name in self.world.nodes:
                entry = self.world.held(name, key)
                if entry is None:
                    self._told.append(f"  {name} holds no {key}")
                else:
                    seen = (
                        "" if entry[5] == DEAD or self.world.get(name, key) is not None else ", which reads as missing"
                    )
                    self._told.append(f"  {name} holds {self._entry(key, entry)}{seen}")

    def covers(self, version: str) -> None:
        """Which nodes have accounted for a version."""
        name, _, at = version.partition("@")
        ms, _, count = at.partition(".")
        stamp = (WALL_MS + int(ms) << 16) + int(count or 0)
        origin = next(origin for origin, known in self._names.items() if known == name)
        for name in self.world.nodes:
            covered = self.world[name].map.context.covers(stamp, origin)
            self._told.append(f"  {name} {'has' if covered else 'has not'} accounted for {version}")

    def rows(self) -> None:
        """The context of each node."""
        for name, replica in self.world.nodes.items():
            dots = replica.map.context.dot_count()
            self._told.append(
                f"  {name} has accounted for {self._rows(replica.map.context.rows())}"
                + (f" and {dots} beyond" if dots else "")
            )

    def members(self) -> None:
        """What each node believes of the others."""
        for name, replica in self.world.nodes.items():
            believed = [
                f"{self._names[origin]} {Standing(member.claim.standing).name.lower()}"
                + (f" in incarnation {member.claim.incarnation}" if member.claim.incarnation else "")
                for origin, member in sorted(replica.members.known.items())
            ]
            self._told.append(f"  {name} holds {', '.join(believed)}")

    def count(self, *counters: str) -> None:
        """Counters of each node."""
        for name, replica in self.world.nodes.items():
            stats = replica.stats()
            self._told.append(f"  {name} " + ", ".join(f"{counter} {stats[counter]}" for counter in counters))

    # ---- the log --------------------------------------------------------------------------------------------------

    def _is(self, name: str, replica: Replica) -> None:
        """Versions are told by the names of nodes; a later process of one has a prime."""
        while name in self._names.values():
            name += "'"
        self._names[replica.origin] = name

    def _say(self, text: str) -> None:
        self._told.append(f"{self.world.now_ms:6} {text}")

    def _did(self, name: str, text: str) -> None:
        self._say(f"{name}: {text}")

    def _passed(self, source: str, target: str, data: bytes) -> None:
        tuning = self.world.tuning
        _, messages, _ = decode(data, Limits(tuning.key_bytes, tuning.inline_bytes))
        for message in messages:
            if self._quiet and isinstance(message, Context) and not message.members:
                continue
            self._say(f"{source} -> {target}  {self._message(message)}")

    def _happened(self, name: str, event: Event) -> None:
        if isinstance(event, LinkBroken):
            self._did(name, f"breaks the link: {event.reason}")
        elif isinstance(event, PeerGone):
            self._did(name, f"{self._names[event.member.origin]} is held to be gone: {event.reason}")
        elif isinstance(event, Dial) and self._meeting:
            self._did(name, f"calls {event.address}")
        elif isinstance(event, PeerUp) and self._meeting:
            self._did(name, f"meets {self._names[event.hello.origin]}")
        elif isinstance(event, Change) and event.kind == "overwritten":
            self._did(name, f"overwritten: {event.key}, a write that the winner had not seen")
        elif isinstance(event, Change) and (event.remote or event.kind == "expired"):
            value = f" = {event.entry[6]}" if event.kind == "set" else ""
            self._did(name, f"{event.kind} {event.key}{value}")

    # ---- words for messages ---------------------------------------------------------------------------------------

    def _message(self, message: Message) -> str:
        match message:
            case Context(rows, clock_ms, mark, members, root):
                name = "CONTEXT" if members or root else "ALIVE"
                said = f"{name}  {self._rows(rows)}, clock {clock_ms - WALL_MS}{self._mark(mark)}"
                if members and self._meeting:
                    said += f", knows {' '.join(self._names[row.origin] for row in members)}"
                return f"{said}, root {root >> 48:04x}" if members or root else said
            case Slice(origin, lo, hi, _, mark, clears, items, entry, ack):
                parts = [*(f"CLEAR {self._version((stamp, origin))}" for stamp in clears), *map(self._item, items)]
                at = f"{self._names[origin]} ({_ms(lo)}, {_ms(hi)}]"
                asks = f"{', to be passed on' if entry else ''}{', asks for receipts' if ack else ''}"
                return f"SLICE  {at}{self._mark(mark)}{asks}: {'; '.join(parts) or 'nothing'}"
            case Pull(origin, lo):
                return f"PULL  {self._names[origin]} after {_ms(lo)}"
            case TooOld(origin, floor):
                return f"TOO_OLD  {self._names[origin]}, whose log begins at {_ms(floor)}"
            case Claims(statements):
                return f"CLAIMS  {', '.join(self._statement(*each) for each in statements)}"
            case Probe(origin):
                return f"PROBE  {self._names[origin]}"
            case Heard(origin, ago_ms):
                return f"HEARD  {self._names[origin]}, {ago_ms} ms ago"
            case Gone(versions):
                return "GONE  " + ", ".join(f"{key} {self._version((s, o))}" for key, s, o in versions)
        return self._in_session(message)

    def _in_session(self, message: Message) -> str:
        match message:
            case Open(_, _, _, mark, root, size):
                return f"OPEN  root {root >> 48:04x}, {size} entries{self._mark(mark)}"
            case Ready(_, rows, _, mark, size, adopts, _):
                named = ", ".join(self._names[origin] for origin in adopts)
                adopting = f", will adopt {named}" if named else ""
                return f"READY  {self._rows(rows)}, {size} entries{self._mark(mark)}{adopting}"
            case Nodes(_, nodes, _, counts):
                return f"NODES  below {_nodes(nodes)}: {sum(counts)} entries in {sum(map(bool, counts))} branches"
            case List(_, nodes, entries):
                return f"LIST  below {_nodes(nodes)}: {'; '.join(self._listed(*item) for item in entries) or 'nothing'}"
            case Want(_, keys):
                return f"WANT  {' '.join(map(str, keys))}"
            case Turn(_, streams, last):
                offer_all = f", both offer all below {_nodes(streams)}" if streams else ""
                return f"TURN{offer_all}{', and nothing more to compare' if last else ''}"
            case Offer(_, window, entries):
                name = f"OFFER {window}" if window else "BETTER"
                return f"{name}  {'; '.join(self._entry(key, entry) for key, entry in entries) or 'nothing'}"
            case Answered(_, window, complete):
                return f"ANSWERED {window}{'' if complete else ', but not settled'}"
            case End(_, window, limited):
                return f"END {window}{', and there is more' if limited else ''}"
            case Equal():
                return "EQUAL"
            case Busy(_, retry_ms):
                return f"BUSY  for {retry_ms} ms"
        raise AssertionError(f"no words for {message!r}")

    def _statement(self, origin: int, _: int, incarnation: int, standing: int, witness: bool) -> str:
        again = f" in incarnation {incarnation}" if incarnation else ""
        silent = ", which I do not hear" if witness else ""
        return f"{self._names[origin]} {Standing(standing).name.lower()}{again}{silent}"

    def _version(self, version: tuple[int, int]) -> str:
        return f"{self._names[version[1]]}@{_ms(version[0])}"

    def _rows(self, rows: Iterable[Row]) -> str:
        return ", ".join(f"{self._names[origin]} {_ms(last)}..{_ms(now)}" for origin, last, now in sorted(rows))

    def _mark(self, mark: tuple[int, int]) -> str:
        return f", clear {self._version(mark)}" if mark[1] else ""

    def _entry(self, key: Key, entry: Entry) -> str:
        stamp, origin, touch, toucher, expires, state, value = entry
        what = {LIVE: f"= {value}", GHOST: "ghost", DEAD: "dead"}[state]
        more = f", until {expires - WALL_MS}" if expires else ""
        if (touch, toucher) != (stamp, origin):
            more += f" by {self._version((touch, toucher))}"
        if state == DEAD and value:
            more += f", removed {self._version(value)}"  # type: ignore[arg-type]
        return f"{key} {what} ({self._version((stamp, origin))}{more})"

    def _listed(self, key: Key, entry: Entry) -> str:
        return self._entry(key, entry) if entry[5] == DEAD else f"{key} ({self._version(entry[:2])})"

    def _item(self, item: Item) -> str:
        told = self._entry(item.key, item.entry)
        if item.base_stamp:
            return f"touched {_ms(item.latest)} {told}"
        if item.latest != item.entry[0] or item.first != item.latest:
            first = f"{_ms(item.first)}.." if item.first != item.latest else ""
            return f"written {first}{_ms(item.latest)} {told}"
        return told


class _World(World):
    """A world that tells its stage what happens."""

    def __init__(self, stage: Stage, names: list[str], tuning: object) -> None:
        self._stage = stage
        self.still: dict[str, None] = {}
        super().__init__((), tuning=tuning)  # type: ignore[arg-type]
        self.watch, self.watch_events = stage._passed, stage._happened
        for name in names:
            self.add(name[0], offset_ms=int(name[1:] or 0))  # "b-50": its clock is 50 ms slow

    def step(self, ms: int = 10) -> None:
        every = self.nodes
        self.nodes = {name: replica for name, replica in every.items() if name not in self.still}
        super().step(ms)
        self.nodes = every

    def carry(self, *directions: tuple[str, str]) -> None:
        moves = [pair for pair in self.pipes if not self.still.keys() & {*pair}]
        super().carry(*(directions or moves or [("", "")]))

    def add(self, name: str, **arguments: object) -> Replica:
        # One more than all before it: of two writes in one millisecond, the later letter's wins.
        self.origins[name] = (ord(name) << 32) + len(self._stage._names)
        replica = super().add(name, **arguments)  # type: ignore[arg-type]
        self._stage._is(name, replica)
        return replica


def _nodes(nodes: Iterable[int]) -> str:
    return ", ".join("the root" if node == ROOT else f"{node:x}" for node in nodes)


def _ms(stamp: int) -> str:
    """A stamp, in ms since the beginning; with its count where it is not the first of its millisecond."""
    if stamp < WALL_MS << 15:
        return str(stamp)
    ms, count = (stamp >> 16) - WALL_MS, stamp & 0xFFFF
    return f"<{ms + 1}" if count == 0xFFFF else f"{ms}.{count}" if count else str(ms)
