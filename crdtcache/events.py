"""What changed, told to whoever asked: kinds, subscriptions, and delivery outside the lock.

A handler runs in the thread that caused the change: the caller's for an own write, the node's for what came
from a peer. It runs after the change and outside the node's lock, so it may use the cache. What it raises is
logged; it reaches neither the application's `set` nor the network.

Decision: no dispatcher thread and no queue between change and handler. A queue costs a thread hop per event
and needs a rule for when it is full; a handler that wants one puts the event into its own.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal, TypeAlias

from xxhash import xxh3_64_intdigest

from crdtcache.arguments import MISSING
from crdtcache.core.entry import LIVE, STATE, VALUE, Entry, Key, Packed, Version, key_bytes, version_of
from crdtcache.core.messages import Hello, MemberRow
from crdtcache.core.outcome import Change, PeerDown, PeerGone, PeerUp
from crdtcache.core.outcome import Event as Outcome
from crdtcache.values import decode

__all__ = ["KINDS", "Event", "Handler", "Prefix", "Kind", "Scope", "Subscription", "Subscriptions"]

Kind: TypeAlias = Literal["set", "deleted", "expired", "evicted", "overwritten", "peer_up", "peer_down", "peer_gone"]
_CHANGES = ("set", "deleted", "expired", "evicted", "overwritten")
KINDS = (*_CHANGES, "peer_up", "peer_down", "peer_gone")
"""Every kind that `on` knows, see `Event`."""
Scope: TypeAlias = Literal["every", "one"]
_OWN_AFFAIR = ("evicted", "overwritten")  # reported by one node only, so that there is nobody to choose from

log = logging.getLogger("crdtcache")
log.addHandler(logging.NullHandler())


class Event:
    """One thing that happened, as a handler sees it.

    ===========  ====================================================================================
    kind         what it says; `value` and `old` are MISSING where there is none
    ===========  ====================================================================================
    set          `value` is visible here now; `old` is what it replaced
    deleted      `old` was removed by a `delete` or a `clear`, here or elsewhere
    expired      `old` has passed its `ttl`
    evicted      `old` left this node's memory; other nodes still have it
    overwritten  of two writes that had not seen each other `value` stays and `old` is lost
    peer_up      the member `peer` is connected
    peer_down    the member `peer` is not connected any more, for `reason`
    peer_gone    the members hold `peer` to be gone; `reason`: "down" where nobody hears it, or "left"
    ===========  ====================================================================================

    `key` is None for the last three. `remote`: a peer's doing. `version`: the write's, None for peers.
    A packed value is decoded at each look, so handlers share nothing.
    """

    __slots__ = ("_decode", "_old", "_value", "key", "kind", "peer", "reason", "region", "remote", "version")

    def __init__(
        self,
        kind: str,
        key: Key | None = None,
        value: object = MISSING,
        old: object = MISSING,
        *,
        remote: bool = True,
        version: Version | None = None,
        peer: Hello | MemberRow | None = None,
        reason: str = "",
        decode: Callable[[Packed], object] = decode,
    ) -> None:
        self._decode = decode
        self.kind = kind
        self.key = key
        self.remote = remote
        self.version = version
        self.peer = peer.name if peer is not None else None
        self.region = peer.region if peer is not None else None
        self.reason = reason
        self._value = value
        self._old = old

    @property
    def value(self) -> object:
        """The value that is visible from now on. Raises `EncodeError` where this node cannot read it."""
        return self._decode(self._value) if isinstance(self._value, Packed) else self._value

    @property
    def old(self) -> object:
        """The value that is gone. Raises `EncodeError` where this node cannot read it."""
        return self._decode(self._old) if isinstance(self._old, Packed) else self._old

    def __repr__(self) -> str:
        subject = repr(self.key) if self.peer is None else f"{self.peer} ({self.region})"
        return f"<Event {self.kind} {subject}{' remote' if self.remote else ''}>"


Handler: TypeAlias = Callable[[Event], object]
Prefix: TypeAlias = str | bytes | tuple[Key, ...]


def _stored(entry: Entry | None) -> object:
    return entry[VALUE] if entry is not None and entry[STATE] == LIVE else MISSING


def _event_of(outcome: Change | PeerUp | PeerDown | PeerGone, decode: Callable[[Packed], object]) -> Event:
    if isinstance(outcome, Change):
        kind, key, entry, previous, remote = outcome
        version = version_of(entry)
        if kind in ("set", "overwritten"):
            return Event(kind, key, _stored(entry), _stored(previous), remote=remote, version=version, decode=decode)
        # What went: the entry before, or, where it stays as it was and is only hidden, the entry itself.
        gone = previous if previous is not None else entry
        return Event(kind, key, MISSING, _stored(gone), remote=remote, version=version, decode=decode)
    if isinstance(outcome, PeerUp):
        return Event("peer_up", peer=outcome.hello)
    if isinstance(outcome, PeerGone):
        return Event("peer_gone", peer=outcome.member, reason=outcome.reason)
    return Event("peer_down", peer=outcome.hello, reason=outcome.reason)


class Subscription:
    """A handler's place among the subscribers; `close()` ends it, also as a context manager.

    Without a handler yet it is a decorator: `@cache.on("set")` subscribes the function and returns it.
    """

    __slots__ = ("_handlers", "_owner", "at_end", "kinds", "once", "prefix")

    def __init__(self, owner: Subscriptions, kinds: tuple[str, ...], prefix: Prefix, *, once: bool) -> None:
        self._owner = owner
        self.once = once
        self.at_end: Callable[[], object] | None = None  # called when the node is closed
        self._handlers: tuple[Handler, ...] = ()
        self.kinds = kinds
        self.prefix = prefix

    def __call__(self, handler: Handler) -> Handler:
        """Subscribe `handler` and return it. Raises TypeError for an `async def`, which nobody would await."""
        if not callable(handler):
            raise TypeError(f"{handler!r} is not callable; a handler takes one Event")
        if inspect.iscoroutinefunction(handler):
            raise TypeError(f"{handler!r} is async; a handler is a plain function (put the event into your own queue)")
        self._handlers = (*self._handlers, handler)
        self._owner.add(self)
        return handler

    def close(self) -> None:
        """Stop: no event that happens from now on is delivered. May be called twice, and from a handler."""
        self._handlers = ()
        self._owner.remove(self)

    def wants(self, key: Key | None) -> bool:
        """Whether `key` begins with the prefix: text with text, bytes with bytes, a tuple with the parts of a tuple.

        Peers have no key and always pass.
        """
        prefix = self.prefix
        if not prefix or key is None:
            return True
        if isinstance(key, str):
            return isinstance(prefix, str) and key.startswith(prefix)
        if isinstance(key, tuple):
            return isinstance(prefix, tuple) and key[: len(prefix)] == prefix
        return isinstance(key, bytes) and isinstance(prefix, bytes) and key.startswith(prefix)

    def deliver(self, event: Event, caught: type[BaseException] = Exception) -> None:
        """Run the handlers; what one raises of the kind `caught` is logged and concerns nobody else."""
        for handler in self._handlers:
            try:
                handler(event)
            except caught:  # the door to foreign code
                self._owner.failed += 1
                log.exception("the handler %r of %r failed", handler, event)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class Subscriptions:
    """All subscriptions of one node. `changed(listening)` is called when the first comes or the last goes.

    `live`: the origins of this node, first, and of those it is connected to. `decode`: how packed values are read.
    """

    def __init__(
        self, changed: Callable[[bool], None], live: Callable[[], list[int]], decode: Callable[[Packed], object]
    ) -> None:
        self._changed = changed
        self._decode = decode
        self._live = live
        self._lock = threading.Lock()  # of the list of subscribers only; never held while a handler runs
        self._by_kind: dict[str, tuple[Subscription, ...]] = {}
        self.failed = 0  # handlers that raised

    def subscribe(
        self, kinds: tuple[str, ...], prefix: Prefix, handler: Handler | None, scope: str = "every"
    ) -> Subscription:
        """A new subscription to `kinds` (none: all of them) of keys that begin with `prefix`.

        Raises ValueError for an unknown kind or scope, TypeError for a prefix of another type.
        """
        if scope not in ("every", "one"):
            raise ValueError(f"scope={scope!r}: 'every' node runs the handler, or only 'one'")
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"on({kind!r}): there is no such event; there are {', '.join(KINDS)}")
        if prefix.__class__ not in (str, bytes, tuple):
            raise TypeError(f"prefix={prefix!r}: text for str keys, bytes for bytes keys, a tuple for tuples")
        subscription = Subscription(self, tuple(dict.fromkeys(kinds)) or KINDS, prefix, once=scope == "one")
        if handler is not None:
            subscription(handler)
        return subscription

    def renew(self) -> None:
        """In a forked child: whoever had the lock is not here any more."""
        self._lock = threading.Lock()

    def add(self, subscription: Subscription) -> None:
        """Take a subscription in; it is there once however often it is added."""
        # Tuples replaced whole: a delivery under way in another thread sees one state or the other.
        with self._lock:
            for kind in subscription.kinds:
                present = self._by_kind.get(kind, ())
                if subscription not in present:
                    self._by_kind[kind] = (*present, subscription)
            self._changed(self.hears_changes)

    def remove(self, subscription: Subscription) -> None:
        """Take it out; nothing happens where it is not."""
        with self._lock:
            for kind in subscription.kinds:
                self._by_kind[kind] = tuple(s for s in self._by_kind.get(kind, ()) if s is not subscription)
            self._changed(self.hears_changes)

    def end(self) -> None:
        """The node is closed: tell those who wait for events. Handlers stay, for local calls go on."""
        with self._lock:
            subscriptions = {subscription for some in self._by_kind.values() for subscription in some}
        for subscription in subscriptions:
            if subscription.at_end is not None:
                subscription.at_end()

    @property
    def hears_changes(self) -> bool:
        """Whether anybody asked for changes of keys: until then none need be collected."""
        return any(self._by_kind.get(kind) for kind in _CHANGES)

    def deliver_aside(self, outcomes: Iterable[Outcome]) -> None:
        """As `deliver`, in the node's own thread or task: there a handler's `sys.exit()` would end the node only."""
        self.deliver(outcomes, BaseException)

    def deliver(self, outcomes: Iterable[Outcome], caught: type[BaseException] = Exception) -> None:
        """Hand out what a replica collected, in order. Called without the lock; raises no error of a handler's.

        What is no error (KeyboardInterrupt, SystemExit, a timeout of gevent's) is the calling thread's own affair.
        """
        for outcome in outcomes:
            if isinstance(outcome, Change):
                interested = self._by_kind.get(outcome.kind)
                if interested:
                    interested = tuple(s for s in interested if s.wants(outcome.key))
            elif isinstance(outcome, (PeerUp, PeerDown, PeerGone)):
                kind = {PeerUp: "peer_up", PeerDown: "peer_down", PeerGone: "peer_gone"}[outcome.__class__]
                interested = self._by_kind.get(kind)
            else:
                continue  # for the driver, or for the log
            if interested:
                event = _event_of(outcome, self._decode)
                for subscription in interested:
                    if not subscription.once or self._is_ours(outcome, event.kind):
                        subscription.deliver(event, caught)

    def _is_ours(self, outcome: Change | PeerUp | PeerDown | PeerGone, kind: str) -> bool:
        """Whether this node is the first of those it knows to be alive in the event's own order of the nodes.

        Rendezvous hashing: all who see the same members choose the same one, without a word, and when that one
        goes only its events move. Who sees others, on the far side of a split, may choose another as well.
        """
        if kind in _OWN_AFFAIR:
            return True
        if isinstance(outcome, Change):
            what = key_bytes(outcome.key) + b"%x %x" % outcome.entry[:2]
        else:
            what = b"%x" % (outcome.member.origin if isinstance(outcome, PeerGone) else outcome.hello.origin)
        live = self._live()
        return live[0] == min(live, key=lambda origin: xxh3_64_intdigest(what + b"%016x" % origin))
