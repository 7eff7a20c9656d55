"""The doors: where new links come from, up to the moment when both sides have said who they are.

in:  accept -> greet -.
                       > a link and its HELLO, handed to the driver
out: call   -> greet -'          whom to call is the core's; the seeds' names are resolved here

Strangers are bounded: so many connections may stand here ungreeted, for so long, at so many bytes. One more
closes the oldest, not the newest: a member greets within milliseconds, an idle connection never does.

Workers of one service all want one port. The first has it; each of the others listens at a free one, calls the first,
and so all find all. When it goes, one of them inherits the port: whoever is given this host as a seed finds somebody.
Refused: sharing it by SO_REUSEPORT. A call to a shared port is answered by any of its owners, the caller itself among
them; of four workers that each call it until somebody else answers, one start in 27 leaves two pairs that never meet.

Decision: doors and links are apart because they close at different times. A node that stops closes the doors
first and lets the links finish what they had to say; one loop for both would have to ask at every step.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TypeAlias

import trio

from crdtcache.core.correction import Correction
from crdtcache.core.messages import Hello
from crdtcache.core.replica import Replica
from crdtcache.errors import ConfigError
from crdtcache.runtime import discovery
from crdtcache.runtime.addresses import Address, parse
from crdtcache.runtime.clocks import TimeSource
from crdtcache.runtime.conditions import Conditions
from crdtcache.runtime.discovery import Listening, PortTaken, Seeds, SeedSource, Transport, advice, callable_host
from crdtcache.runtime.handshake import GREETING_BYTES, NotAPeer, Refused, check_hello, greet, overhear
from crdtcache.runtime.link import FrameTooLong, Link, LinkLost, tune
from crdtcache.tuning import Tuning

__all__ = ["Doors", "OnLink"]

OnLink: TypeAlias = Callable[[Link, str, Hello, Hello, str | None], None]
"""Takes a greeted link: it, a name for logs, both HELLOs (own first), and the address called, None if accepted."""

_MOST_STRANGERS = 64
_MOST_RESOLVERS = 4  # threads, those included that hang in a dead name server
_INHERIT_S = 1.0  # between looks whether a port that was taken is free
_OTHERS = {b"HTTP": "HTTP", b"SSH-": "SSH", b"-ERR": "Redis"}  # how an answer of something else begins
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_log = logging.getLogger("crdtcache")


class Doors:
    """The listeners, the calls and the names of one node. Belongs to the thread of the driver.

    `listen` and `peers` as in `Node`. Raises `ConfigError` for what can be seen to be wrong without the network.
    """

    def __init__(
        self,
        replica: Replica,
        lock: AbstractContextManager[object],
        clock: TimeSource,
        *,
        listen: str | None,
        peers: SeedSource,
        secret: bytes | None,
        insecure: bool,
        tuning: Tuning,
        parent: str = "",
        transport: Transport = discovery,
    ) -> None:
        if secret is not None and not secret:
            raise ConfigError("secret= is empty; leave it out for none")
        self.address = ""  # "host:port" that is listened at, once open
        self.conditions = Conditions()
        self.refused: dict[str, str] = {}  # by those who were called
        self.found: list[str] = []  # the addresses of all seeds, none while a seed has none
        self._replica = replica
        self._lock = lock
        self._clock = clock
        self._listen = listen
        self._seeds = Seeds(peers)
        self._secret = secret
        self._insecure = insecure
        self._parent = parent
        self._tuning = tuning
        self._transport = transport
        self._given = str(parse(replica.advertise, "advertise=")) if replica.advertise else ""
        if self._given and parse(self._given, "advertise=").wildcard:
            raise ConfigError(f"advertise={replica.advertise!r} is a place to listen, not one to call")
        check_hello(replica.hello(clock.reading()))
        self._listening: Listening | None = None
        self._nursery: trio.Nursery | None = None
        self._strangers: dict[int, trio.CancelScope] = {}
        self._stranger = 0
        self._scanned = False
        self._suspect = False
        self._streams: weakref.WeakSet[trio.abc.Stream] = weakref.WeakSet()  # all that were met and not yet closed
        self._links = 0
        self._fewer = trio.Event()

    async def open(self) -> None:
        """Bind what `listen` asks for. Raises `ConfigError`, with nothing left open."""
        self._listening = None
        self.address = ""
        advertise = self._given
        if self._listen is not None:
            listening = self._listening = await self._bind(self._listen)
            self.address = str(listening.address)
            if not advertise and not listening.address.wildcard:
                advertise = self.address
            _log.info("listening at %s", self.address)
            if listening.taken is not None:
                chosen = f"port {listening.taken.port} was taken, so {self.address} was chosen"
                _log.info("%s", chosen)
                if self._listen == "auto" and not (self._seeds or self._parent):
                    text = f"{chosen}, and without peers= nobody is called: give peers=['localhost'] to meet who has it"
                    self.conditions.begin("alone", text, warn=False)
                given = parse(advertise, "advertise=") if advertise else None
                if given is not None and given.port == listening.taken.port:  # there it is the other worker
                    advertise = str(given._replace(port=listening.address.port))
        with self._lock:
            self._replica.advertise = advertise

    async def _bind(self, listen: str) -> Listening:
        guarded = self._secret is not None or self._insecure
        local = self._seeds.loopback
        try:
            return await self._transport.bind(listen, local=local, guarded=guarded, share=bool(self._parent))
        except PortTaken as taken:
            if not await self._is_ours(taken.address):
                raise
        return await self._transport.bind(listen, local=local, guarded=guarded, share=True)

    async def _is_ours(self, address: Address) -> bool:
        """Whether a node of this cluster listens there: another worker of this service."""
        limit_s = self._tuning.silent_ms / 1_000  # it may be busy: with forty workers on two cores, for seconds
        stream = await self._transport.call(str(address), self._tuning.dial_timeout_ms / 1_000, trio.CapacityLimiter(1))
        if isinstance(stream, str):
            return False
        link = Link(stream, GREETING_BYTES)
        try:
            with trio.move_on_after(limit_s):
                return await overhear(link) == self._replica.cluster
        except (NotAPeer, FrameTooLong, LinkLost, Refused):
            pass
        finally:
            await link.close()
        return False

    @trio.lowlevel.enable_ki_protection
    async def stand(self, on_link: OnLink, on_change: Callable[[], None]) -> None:
        """Accept, call and resolve until `close`. `on_change`: the core has learned when to call whom."""
        self._on_link = on_link
        self._on_change = on_change
        self._limiter = trio.CapacityLimiter(_MOST_RESOLVERS)
        self._alone_since = trio.current_time()
        self._links = 0
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for listener in self._listeners:
                    nursery.start_soon(self._accept, nursery, listener)
                taken = self._listening.taken if self._listening is not None else None
                if taken is not None:
                    nursery.start_soon(self._inherit, nursery, taken)
                if self._seeds or self._parent or (taken is not None and self._listen != "auto"):
                    nursery.start_soon(self._find_seeds)
                try:
                    await trio.sleep_forever()
                finally:
                    self._nursery = None  # before its last task is gone: then it takes no new one
        finally:
            for listener in self._listeners:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(listener)

    @trio.lowlevel.enable_ki_protection
    async def _inherit(self, nursery: trio.Nursery, taken: Address) -> None:
        listening = self._listening
        assert listening is not None, "it listens at another port"
        heirs: Sequence[trio.abc.Listener[trio.abc.Stream]] = ()
        while not heirs:
            await trio.sleep(_INHERIT_S * random.uniform(0.8, 1.2))
            heirs = discovery.inherit(listening.hosts, taken)
        self._listening = listening._replace(listeners=[*listening.listeners, *heirs])
        for listener in heirs:
            nursery.start_soon(self._accept, nursery, listener)
        _log.info("listening at port %d too, which is free now", taken.port)

    @property
    def _listeners(self) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        return self._listening.listeners if self._listening is not None else ()

    def close(self) -> None:
        """End `stand`: nothing new comes in or goes out."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def abandon(self) -> None:
        """Close every socket of this process, as `Driver.abandon` has it: trio is not told, it runs elsewhere."""
        for each in (*self._listeners, *self._streams):
            number = each.socket.detach() if isinstance(each, trio.SocketListener | trio.SocketStream) else -1
            if number >= 0:
                os.close(number)

    def call(self, address: str) -> None:
        """Try `address` once; a link goes to `on_link`, a failure to the core."""
        if self._nursery is not None:
            self._nursery.start_soon(self._call, address)
        else:
            with self._lock:
                self._replica.dial_failed(address, self._clock.reading())

    def refusal(self) -> tuple[str, bool]:
        """Why one of those that were called does not take this node in, "" for none; whether all seeds refuse it."""
        with self._lock:
            seeds = self._replica.members.seeds()
        return next(iter(self.refused.values()), ""), bool(seeds) and all(seed in self.refused for seed in seeds)

    def count(self, links: int) -> None:
        """So many links are up now; with fewer than before it is time to ask for the seeds' addresses again."""
        if links < self._links:
            self._fewer.set()
        if links:
            self.conditions.end("alone", "connected again")
        elif self._links:
            self._alone_since = trio.current_time()
        self._links = links

    @trio.lowlevel.enable_ki_protection
    async def _accept(self, nursery: trio.Nursery, listener: trio.abc.Listener[trio.abc.Stream]) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self.conditions.begin("full", f"no new link can be accepted: {error.strerror}")
                await trio.sleep(0.1)  # until something is closed
                continue
            self.conditions.end("full", "new links are accepted again")
            while len(self._strangers) >= _MOST_STRANGERS:
                self._strangers.pop(next(iter(self._strangers))).cancel()
            self._stranger += 1
            scope = self._strangers[self._stranger] = trio.CancelScope()
            nursery.start_soon(self._answer, self._stranger, stream, scope)

    @trio.lowlevel.enable_ki_protection
    async def _answer(self, number: int, stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
        try:
            await self._meet(stream, None, scope)
        finally:
            self._strangers.pop(number, None)

    @trio.lowlevel.enable_ki_protection
    async def _call(self, address: str) -> None:
        handed_over = False
        try:
            stream = await self._transport.call(address, self._tuning.dial_timeout_ms / 1_000, self._limiter)
            if isinstance(stream, str):
                _log.debug("calling %s: %s", address, stream)
                self._note_alone(address, stream)
            else:
                handed_over = await self._meet(stream, address, trio.CancelScope())
        finally:
            if not handed_over:
                with self._lock:
                    self._replica.dial_failed(address, self._clock.reading())
                self._on_change()

    @trio.lowlevel.enable_ki_protection
    async def _meet(self, stream: trio.abc.Stream, dialed: str | None, scope: trio.CancelScope) -> bool:
        """Greet whoever is at the other end, within `scope`; True if the link was handed over."""
        link = Link(stream, GREETING_BYTES)
        limit_s = self._tuning.silent_ms / 1_000
        scope.deadline = trio.current_time() + limit_s
        where = dialed or _remote(stream)
        self._streams.add(stream)
        tune(stream)
        self._learn_own_address(stream)
        with self._lock:
            own = self._replica.hello(self._clock.reading())
        hello: Hello | None = None
        failed = ""
        try:
            with scope:
                met = await greet(link, own, self._secret, dialler=dialed is not None)
                link.raise_limit(self._tuning.max_frame_bytes)
                if dialed is None:
                    # On a busy machine a call may have been given up before it was looked at: taken for a link, it
                    # would replace the one that this node had meanwhile called for, again and again.
                    await link.look()
                hello = met
            if hello is None:
                failed = f"no greeting within {limit_s:g} s"
                _log.debug("%s did not greet within %g s, or made way for others", where, limit_s)
        except (NotAPeer, FrameTooLong) as error:
            other = _OTHERS.get(error.start) if isinstance(error, FrameTooLong) else None
            failed = f"it speaks {other}, not crdtcache" if other else f"it does not speak this protocol: {error}"
            # The first one may be a mistake worth knowing; somebody who scans ports shall not fill the log.
            level = logging.DEBUG if self._scanned else logging.WARNING
            self._scanned = True
            _log.log(level, "%s: %s", where, failed)
        except LinkLost as lost:
            failed = f"greeting failed: {lost}"
            _log.debug("%s: %s", where, failed)
        except Refused as refused:
            who = "this node refused" if refused.here else "this node was refused by"
            text = f"{who} {where}: {refused.reason}{advice(self._listening, dialed)}"
            self.conditions.begin(f"refused {where}", text)
            if dialed is not None:
                self.refused[where] = text
        finally:
            if hello is None:
                await link.close()
        if hello is None:
            if failed and dialed is not None:
                self._note_alone(dialed, failed)
            return False
        self.conditions.end(f"refused {where}", f"{where} agrees now")
        self.refused.pop(where, None)
        self._on_link(link, f"{hello.name} at {where}", own, hello, dialed)
        return True

    def note_clock(self, correction: Correction) -> None:
        """Tell once when the clock becomes suspect, and when its peers agree with it again."""
        if correction.reason and not self._suspect:
            self.conditions.begin("clock", f"this clock is suspect: {correction.reason}; see status()['clock']")
        elif not correction.reason:
            self.conditions.end("clock", "this clock agrees with its peers'")
        self._suspect = bool(correction.reason)

    def _note_alone(self, address: str, why: str) -> None:
        # Nodes of one service start together: that nobody answers in the first moments is nothing to warn of.
        alone_s = trio.current_time() - self._alone_since
        if not self._links:
            text = f"no other node can be reached ({address}: {why}); working alone, calling on"
            self.conditions.begin("alone", text, warn=alone_s * 1_000 > self._tuning.silent_ms)

    def _learn_own_address(self, stream: trio.abc.Stream) -> None:
        """Listening at all addresses, the own end of the first link is what others may call; loopback if no other."""
        if self._given or self._listening is None or not self._listening.address.wildcard:
            return
        with suppress(OSError):
            host = callable_host(stream.socket.getsockname()) if isinstance(stream, trio.SocketStream) else None
            if host is None:
                return
            address = Address(host, self._listening.address.port)
            with self._lock:
                known = self._replica.advertise
                if not known or (parse(known, "advertise").loopback and not address.loopback):
                    self._replica.advertise = str(address)
                    _log.debug("others may call this node at %s", address)

    @trio.lowlevel.enable_ki_protection
    async def _find_seeds(self) -> None:
        wait_ms = float(self._tuning.redial_ms)
        known: list[str] | None = None
        while True:
            addresses, failures = await self._seeds.resolve(self._limiter)
            self.conditions.end_others("seed ", failures, "has addresses now")
            for seed, why in failures.items():
                self.conditions.begin(f"seed {seed}", f"no address for {seed}: {why}; asking again")
            if self._listening is not None and self._listening.taken is not None:
                addresses.append(str(self._listening.taken))
            if self._parent:
                addresses.append(self._parent)
            if addresses != known:
                known = addresses
                with self._lock:
                    self._replica.learn_seeds(list(addresses), self._clock.reading())
                self._on_change()
            self.found = [] if failures else addresses
            if not self._seeds.changing:
                return
            slow = self._tuning.redial_slow_ms
            wait_ms = min(wait_ms * 2, slow) if failures or not self._links else slow
            self._fewer = trio.Event()
            with trio.move_on_after(wait_ms * random.uniform(0.8, 1.2) / 1_000):
                await self._fewer.wait()
                wait_ms = self._tuning.redial_ms
                await trio.sleep(wait_ms / 1_000)  # many members lost at once are one reason to ask


def _remote(stream: trio.abc.Stream) -> str:
    if not isinstance(stream, trio.SocketStream):
        return "a caller without a socket"
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:
        return "a caller that has gone"
