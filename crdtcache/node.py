"""Node: the user's cache. A mapping in memory (`mapping`), a life (`life`), and what can be seen of the others.

The constructor opens nothing and starts nothing: a node that was never started is an in-process cache. Started,
it is one replica among many, and the calls stay what they were: memory operations that no network can delay or
fail. What can wait for the network exists twice, the plain name for threads and the `a`-prefixed one for event loops.

Decision: one class for trio, asyncio and threads. The refused alternative, a sync and an async class, makes every
library above choose, and every local call an `await` that never waits.

Above 400 lines because it is the whole surface of a user: signatures and what they promise; the work is in the rooms.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, Protocol, Self, TypeVar, cast, overload

from crdtcache.arguments import DEFAULT, MISSING, Default, Missing, Seconds, milliseconds, span_ms
from crdtcache.codecs import Codec
from crdtcache.configuring import from_env, from_url, in_variables
from crdtcache.core.entry import VALUE, Key, Packed, Version
from crdtcache.core.replica import Peer, Replica
from crdtcache.disabling import disabled_kind
from crdtcache.effects import Target, invalidating, writing
from crdtcache.errors import ConfigError, EncodeError, JoinRefused
from crdtcache.events import Handler, Kind, Prefix, Scope, Subscription
from crdtcache.filling import Fill, Rule
from crdtcache.flights import Flights
from crdtcache.life import Life
from crdtcache.loading import AsyncCached, Cached, CacheInfo, check_times, make_cached
from crdtcache.lookup import K, V
from crdtcache.loops import asleep, refuse_loop
from crdtcache.mapping import FOR_LOADERS, LocalMap
from crdtcache.namespaces import Namespace
from crdtcache.portrait import Region, page, portrait, regions_of, sentence, summary
from crdtcache.receipts import Reach, Receipts, Replicated
from crdtcache.repairing import Repairing, RepairReport
from crdtcache.runtime.clocks import CorrectedClock, SystemClock, TimeSource
from crdtcache.settings import Peers, checked, digest_seed
from crdtcache.tuning import Tuning
from crdtcache.waking import Waiter
from crdtcache.watching import Watch

__all__ = ["MISSING", "Node"]


P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger("crdtcache")

_POLL_S = 0.01  # how often a waiter looks
_LOOK_S = 0.001  # the same where it is a request that waits


class Node(LocalMap[K, V]):
    """A cache in this process that all its peers share.

    `peers`: seeds, one or more of "10.0.0.2", "host:2738", "[2001:db8::1]:2738", or a function that returns them; a
    name stands for all its addresses; the node's own address may be among them. `cluster`: nodes of another name
    are refused. `region`, `zone`: where this node is. `name`: who it is, for people; a later process of the same
    name takes its place; left out, the host name and a random suffix.

    `listen`: "auto" (loopback where all peers are, else all addresses, port 2738), "host:port" (port 0: any), or
    None to dial out only; a port that another worker of this service has is shared: this one takes a free port, and
    inherits that one. `advertise`: the "host:port" where others reach this node. `secret`: text or bytes
    that all nodes know; beyond loopback `start()` asks for it, or for `insecure=True`.

    `maxsize`: values in memory. `max_bytes`: bytes of memory, with the index, and enough for one value of the
    largest size; the first limit reached evicts the least recently used. `max_value_bytes`: the largest value;
    `Tuning.inline_bytes` limits it too until large values travel in chunks. Sizes are bytes or "256MB". `ttl`:
    seconds, "1h30m" or a `timedelta` that entries live where `set` says nothing; None for ever. `ttl_jitter`: the
    share by which a default or a loaded `ttl` is shorter at random: what was written at once need not expire at
    once. `sweep_interval`: how late an expiry event may be.

    `loader`: a function of a key that `[]` calls for what is not here (in a plain thread), and `get_or_set(key)` or
    `await aget_or_set(key)`; it may be async for the latter, and raises KeyError where there is nothing. `stale_ttl`:
    for how long beyond its `ttl` a loaded value is served while one caller renews it, or where that fails.
    `negative_ttl`: how long a None that was loaded lives, where that shall differ.

    `codec`: how values that are no scalars become bytes, MessagePack if left out (`crdtcache.codecs`).

    `thread`: True to run in a thread of its own even inside trio, False never to. `switch_interval`: how long a busy
    thread of yours may keep that one waiting (Python's own 5 ms if left out; 1 ms at least, and for all threads of the
    process, from `start()` to `close()`). `clock`: anything with a `reading()`, for tests. `tuning`: the numbers of the
    protocol. Raises `ConfigError`, the caller's fault.
    """

    __slots__ = ("_filled", "_flights", "_life", "_parent", "_settings")

    def __init__(
        self,
        peers: Peers = None,
        *,
        cluster: str = "default",
        region: str = "default",
        zone: str | None = None,
        name: str | None = None,
        listen: str | None = "auto",
        advertise: str | None = None,
        secret: str | bytes | None = None,
        insecure: bool = False,
        maxsize: int | None = 100_000,
        max_bytes: int | str | None = "256MB",
        max_value_bytes: int | str = "8MB",
        ttl: Seconds | None = None,
        ttl_jitter: float = 0.0,
        loader: Callable[[K], V | Awaitable[V]] | None = None,
        stale_ttl: Seconds = 0.0,
        negative_ttl: Seconds | None = None,
        sweep_interval: Seconds | None = None,
        codec: Codec | None = None,
        thread: bool | None = None,
        switch_interval: Seconds | None = None,
        clock: TimeSource | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        settings = checked(
            peers=peers,
            cluster=cluster,
            region=region,
            zone=zone,
            name=name,
            listen=listen,
            advertise=advertise,
            secret=secret,
            insecure=insecure,
            maxsize=maxsize,
            max_bytes=max_bytes,
            max_value_bytes=max_value_bytes,
            ttl=ttl,
            ttl_jitter=ttl_jitter,
            stale_ttl=stale_ttl,
            negative_ttl=negative_ttl,
            loader=loader,
            sweep_interval=sweep_interval,
            thread=thread,
            switch_interval=switch_interval,
            tuning=tuning,
        )
        clock = clock if clock is not None else SystemClock()
        if not callable(getattr(clock, "reading", None)):
            raise ConfigError(f"clock={clock!r}: an object with a reading(), such as crdtcache.testing.FakeClock()")
        reading = clock.reading()
        replica = Replica(
            origin=int.from_bytes(os.urandom(8), "big") or 1,
            name=settings.name,
            cluster=settings.cluster,
            generation=reading.wall_ms,
            rng=random.Random(),
            reading=reading,
            region=settings.region,
            zone=settings.zone,
            advertise=settings.advertise,
            seed=digest_seed(settings.cluster, settings.secret),
            tuning=settings.tuning,
            maxsize=settings.maxsize,
            max_bytes=settings.max_bytes,
            seeded=bool(settings.peers),
        )
        super().__init__(
            replica,
            CorrectedClock(clock, replica.correction),
            ttl_ms=settings.ttl_ms,
            ttl_jitter=settings.ttl_jitter,
            max_value_bytes=settings.max_value_bytes,
            codec=codec,
        )
        self._settings = settings
        self._flights = Flights()
        self._life = Life(
            self._make_driver,
            self._attach,
            replica.shared,
            self._renew,
            self._lock,
            settings.name,
            settings.thread,
            settings.switch_ms / 1_000,
        )
        self._filled = False  # since it runs, it has once been ready: it holds what the others held
        self._parent = ""  # of a fork, where its parent listens

    def _make_driver(self) -> Any:
        from crdtcache.runtime.driver import Driver

        self._filled = False
        settings = self._settings
        self._replica.advertise = settings.advertise  # not where it was before, nor where the parent of a fork is
        return Driver(
            self._replica,
            self._lock,
            self._clock,
            self._subscriptions.deliver_aside,
            listen=settings.listen,
            peers=settings.peers,
            secret=settings.secret,
            insecure=settings.insecure,
            tuning=settings.tuning,
            parent=self._parent,
        )

    @classmethod
    def from_env(cls, prefix: str = "CRDTCACHE_", **overrides: Any) -> Self:
        """A node from environment variables: CRDTCACHE_PEERS, CRDTCACHE_SECRET and so on, each argument in capitals.

        Times and sizes are text ("90", "90s", "256MB"), peers are separated by commas, "none" is None. `overrides` are
        arguments that count more. Raises `ConfigError`, which names the variable, also for one that is not known.
        """
        found = from_env(prefix, os.environ)
        try:
            return cls(**{**found, **overrides})
        except ConfigError as error:
            raise in_variables(error, prefix, found.keys() - overrides.keys()) from None

    @classmethod
    def from_url(cls, url: str, **overrides: Any) -> Self:
        """A node from "crdtcache://:secret@10.0.0.1,10.0.0.2:2738/cluster?region=eu"; `overrides` count more.

        What stands after the ? are arguments by name. Without a host nobody is called, and that is
        logged. Raises `ConfigError`.
        """
        arguments = {**from_url(url), **overrides}
        if "peers" not in arguments and arguments.get("listen", "auto") is not None:  # as an unset variable reads
            log.warning("the URL of a node names no host, so it calls nobody; if it is to be alone, add ?listen=none")
        return cls(**arguments)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a Node cannot be copied or pickled: it is one member of a cluster, with an origin and sockets of its own; "
            "make another Node(...) with the same arguments, or take the contents, dict(node)"
        )

    def _renew(self, parent: str | None) -> None:
        """In a forked child: a member of its own; one that runs from its first use on if there is a `parent`."""
        reading = self._clock.reading()
        self._settings = replace(self._settings, name=f"{self._settings.name}-{os.getpid()}")
        origin = int.from_bytes(os.urandom(8), "big") or 1
        self._replica.renamed(origin, self._settings.name, reading.wall_ms, reading)
        self._flights.renew()
        self._postponed.renew()
        self._subscriptions.renew()
        unused = isinstance(self._driver, Waiter)  # a child in its turn, that was forked before its first use
        self._attach(None)
        if parent is not None or unused:
            self._parent = parent or self._parent
            self._await_use(self._resume)

    def _resume(self) -> None:
        try:
            self.start()
        except ConfigError as error:
            log.warning("after a fork this node stays on its own: %s", error)

    # ---- life -----------------------------------------------------------------------------------------------------

    def start(self, timeout: Seconds = 5.0) -> Self:
        """Run in a thread of its own; returns itself once it listens, and never waits for a peer.

        May be called inside an event loop, twice, and after `close()`. Raises `ConfigError`, nothing being
        started then: a port that a stranger has, an address that is not this host's, no `secret=` where one is needed.
        """
        self._life.start(_seconds(timeout, "timeout"))
        return self

    def close(self, timeout: Seconds = 2.0) -> None:
        """Leave the cluster within `timeout`; what is in memory stays, and local calls go on working. Watches end.

        What was written just before is given two fifths of that time to leave, also where no link was up yet; none
        where all peers have been called in vain for a second.

        Raises `WouldBlock` inside an event loop: there it is `await node.aclose()`, or the end of the `with`.
        """
        refuse_loop("close()", "await node.aclose()")
        with self._ending_watches():
            self._life.close(_seconds(timeout, "timeout"))

    async def aclose(self, timeout: Seconds = 2.0) -> None:  # noqa: ASYNC109 - the twin of close
        """As `close`, in trio or asyncio."""
        with self._ending_watches():
            await self._life.aclose(_seconds(timeout, "timeout"))

    @contextmanager
    def _ending_watches(self) -> Iterator[None]:
        try:
            yield
        finally:  # who iterates in a thread would keep the process from ending
            self._subscriptions.end()
            if isinstance(self._driver, Waiter):  # a forked child that was closed is not to start any more
                self._attach(None)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._ending_watches():  # also inside a loop, a notebook's: it waits for a thread, not for the network
            self._life.close(2.0)

    async def __aenter__(self) -> Self:
        await self._life.enter(5.0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        with self._ending_watches():
            return await self._life.leave(kind, error, tb, 2.0)

    def wait_ready(
        self, timeout: Seconds | None = 10.0, *, min_peers: int | None = None, coverage: float = 1.0
    ) -> bool:
        """Wait until `min_peers` are connected and nothing they have is known to be missing here; whether it came.

        `min_peers`: left out, 1 where `peers=` names others, else 0; once there, a node that runs on stays ready
        without peers, for it still holds what they had. `coverage`: while this node is being filled by one
        that holds much more, the share of it that is enough, from 0 to 1; what was used last there comes first.
        `timeout`: None to wait for ever. It never raises for a network that is away. Raises `JoinRefused` (another
        `cluster=` or `secret=`) as soon as all of `peers=` have refused this node, or where nobody is connected at the
        end and one of those who answered refuses it, and `WouldBlock` inside an event loop: there it is
        `await node.aready()`.
        """
        refuse_loop("wait_ready()", "await node.aready()")
        end = _deadline(timeout)
        self._use()
        while not self._is_ready(min_peers, coverage):
            if time.monotonic() >= end or self._refused_by_all():
                return self._not_ready()
            time.sleep(_POLL_S)
        return True

    async def aready(
        self,
        timeout: Seconds | None = 10.0,  # noqa: ASYNC109
        *,
        min_peers: int | None = None,
        coverage: float = 1.0,
    ) -> bool:
        """As `wait_ready`, in trio or asyncio."""
        end = _deadline(timeout)
        self._use()
        while not self._is_ready(min_peers, coverage):
            if time.monotonic() >= end or self._refused_by_all():
                return self._not_ready()
            await asleep(_POLL_S)
        return True

    def _is_ready(self, min_peers: int | None, coverage: float) -> bool:
        driver = self._life.driver
        default = int(bool(self._settings.peers) and not (driver is not None and driver.names_only_itself))
        needed = min_peers if min_peers is not None else 0 if self._filled and self.running else default
        with self._lock:
            up = [peer for peer in self._replica.peers() if peer.connected]
            rows = self._replica.map.context.frontier  # at 0 while all that a peer wrote comes in a session
            whole = all(peer.origin in rows for peer in up)
            self._filled = self._filled or (len(up) >= default and whole and self._replica.caught_up())
            return len(up) >= needed and whole and self._replica.caught_up(coverage)

    def _refused_by_all(self) -> bool:
        driver = self._life.driver
        return driver is not None and driver.refused[1] and not any(peer.connected for peer in self.peers)

    def _not_ready(self) -> bool:
        driver = self._life.driver
        if driver is not None and driver.refused[0] and not any(peer.connected for peer in self.peers):
            raise JoinRefused(driver.refused[0])
        return False

    # ---- loading --------------------------------------------------------------------------------------------------

    def __missing__(self, key: K) -> V:
        """`[]` for a key that is not here: what the `loader` has, where there is one; `WouldBlock` in an event loop."""
        if self._settings.loader is None:
            raise KeyError(key)
        refuse_loop("the loader of [], for a key that is not here,", "await node.aget_or_set(key)")
        return self.get_or_set(key)

    def get_or_set(
        self,
        key: K,
        default_or_factory: V | Callable[[], V] | Missing = MISSING,
        ttl: Seconds | Default | None = DEFAULT,
        *,
        stale_ttl: Seconds | Default = DEFAULT,
        single_flight: bool = True,
    ) -> V:
        """The value of `key`; where none is here, store and return a default, or what a function returns.

        The function is called without arguments, once for all threads that miss the key meanwhile; what it raises
        reaches all of them. Left out, it is the node's `loader`. `stale_ttl`, `single_flight`: as in `cached`.
        Raises `WouldBlock` in an event loop, also where the key is here: there it is `await node.aget_or_set(...)`.
        """
        refuse_loop("get_or_set()", "await node.aget_or_set(...)")
        fill = self._fill(ttl, stale_ttl, single_flight=single_flight)
        produce = fill.source(default_or_factory, self._settings.loader, key)
        return cast("V", fill.get(key, fill.plainly(produce)))

    async def aget_or_set(
        self,
        key: K,
        default_or_factory: V | Callable[[], V | Awaitable[V]] | Missing = MISSING,
        ttl: Seconds | Default | None = DEFAULT,
        *,
        stale_ttl: Seconds | Default = DEFAULT,
        single_flight: bool = True,
    ) -> V:
        """As `get_or_set`, in trio or asyncio; the function may be async."""
        fill = self._fill(ttl, stale_ttl, single_flight=single_flight)
        produce = fill.source(default_or_factory, self._settings.loader, key)
        return cast("V", await fill.aget(key, fill.awaited(produce)))

    def _fill(self, ttl: Seconds | Default | None, stale_ttl: Seconds | Default, *, single_flight: bool) -> Fill:
        settings = self._settings
        stale_ms = settings.stale_ms if isinstance(stale_ttl, Default) else span_ms(stale_ttl, "stale_ttl")
        rule = Rule("get_or_set", ttl, stale_ms, settings.negative_ttl, single_flight=single_flight)
        return Fill(self, self._flights, rule)

    def namespace(
        self,
        name: str,
        *,
        ttl: Seconds | Default | None = DEFAULT,
        loader: Callable[[Any], Any] | None = None,
        stale_ttl: Seconds = 0,
        negative_ttl: Seconds | None = None,
    ) -> Namespace[Any, Any]:
        """The keys that begin with `name`, as a mapping of its own with its own `ttl` and `loader`.

        `cache.namespace("user")["42"]` is `cache["user:42"]`; keys that are not text become `("user", key)`.
        """
        check_times(ttl=ttl, negative_ttl=negative_ttl)
        rule = Rule(f"namespace {name}", ttl, span_ms(stale_ttl, "stale_ttl"), negative_ttl)
        return Namespace(self, self._flights, name, rule, loader)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """While the `with` lasts nothing is found and nothing stored, in every thread: for tests, and for doubts.

        Cached functions and loaders run at each call. What is in memory stays.
        """
        kind = self.__class__
        self.__class__ = disabled_kind(kind)
        try:
            yield
        finally:
            self.__class__ = kind

    # ---- functions and events -------------------------------------------------------------------------------------

    @overload
    def cached(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> AsyncCached[P, T]: ...
    @overload
    def cached(self, function: Callable[P, R], /) -> Cached[P, R]: ...
    @overload
    def cached(
        self,
        function: None = None,
        /,
        *,
        ttl: Seconds | Default | None = DEFAULT,
        key: str | Callable[..., Hashable] | None = None,
        ignore: Collection[str] = (),
        cache_if: Callable[[Any], object] | None = None,
        negative_ttl: Seconds | None = None,
        stale_ttl: Seconds = 0,
        single_flight: bool = True,
        version: int = 0,
    ) -> _Decorator: ...
    def cached(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        ttl: Seconds | Default | None = DEFAULT,
        key: str | Callable[..., Hashable] | None = None,
        ignore: Collection[str] = (),
        cache_if: Callable[[Any], object] | None = None,
        negative_ttl: Seconds | None = None,
        stale_ttl: Seconds = 0,
        single_flight: bool = True,
        version: int = 0,
    ) -> Any:
        """Decorator: the results of a function (`def` or `async def`, trio or asyncio, also a method) in the cache.

        `key`: a template of its parameters such as "user:{user_id}", a function of the same arguments, or None for
        name and arguments. `ignore`: parameters that do not matter (a connection). `cache_if`: a function of the
        result, which is not stored where that is false. `negative_ttl`: how long a result of None lives. `stale_ttl`:
        for how long beyond `ttl` a result is served while one caller runs the function again, or where that fails;
        `get` shows it so long. `single_flight`: callers that miss together wait for one run. `version`: raise it when
        results of the code before must not be used. What is returned has `key`, `peek`, `invalidate`, `refresh`,
        `put`, `cache_info`, `cache_clear` and `__wrapped__`. Raises `ConfigError` for what cannot be cached.
        """

        def decorate(function: Callable[..., Any]) -> Any:
            return make_cached(
                self,
                self._flights,
                function,
                ttl=ttl,
                key=key,
                ignore=ignore,
                cache_if=cache_if,
                negative_ttl=negative_ttl,
                stale_ttl=stale_ttl,
                single_flight=single_flight,
                version=version,
            )

        return decorate if function is None else decorate(function)

    def writes(
        self, key: str | Callable[..., Hashable], *, ttl: Seconds | Default | None = DEFAULT
    ) -> Callable[[F], F]:
        """Decorator: what the function returns is stored under `key`, once it has succeeded (write-through).

        `key`: a template of its parameters such as "user:{user.id}", or a function of the same arguments. For `def` and
        `async def`, also methods; the type is kept. A result that cannot be stored deletes the key.
        """
        return lambda function: writing(self, function, key, ttl)

    def invalidates(self, *targets: Target) -> Callable[[F], F]:
        """Decorator: each call of the function deletes `targets` on every node, also where it raised.

        A target is a cached function (its parameters are found by name among those of the decorated one), a
        template such as "user:{user_id}", or a function of the same arguments. The type is kept.
        Raises `ConfigError` where a target needs a parameter that the function does not have.
        """
        return lambda function: invalidating(self, function, targets)

    def on(
        self, *kinds: Kind, prefix: Prefix = "", scope: Scope = "every", call: Handler | None = None
    ) -> Subscription:
        """Run a handler at every event of `kinds` (none: all) whose key begins with `prefix` (of a tuple: its parts).

        The handler is `call`, or what the result decorates; it gets an `Event` in the thread that caused it, and
        what it raises is logged. `close()` of the result ends it. `scope="one"`: of the nodes that subscribe so and
        are connected only one runs it for each event; a best effort, for during a split each side has one.
        Raises ValueError for an unknown kind.
        """
        return self._subscriptions.subscribe(kinds, prefix, call, scope)

    def watch(self, *kinds: Kind, prefix: Prefix = "", buffer: int = 1_000) -> Watch:
        """The events from now on, for `for event in watch` in a thread or `async for` in trio and asyncio.

        Of more than `buffer` that wait to be taken the oldest are dropped, and counted in `dropped`. `close()`, its own
        or the node's, or the end of a `with`, ends it.
        """
        return Watch(lambda handler: self._subscriptions.subscribe(kinds, prefix, handler), buffer)

    # ---- what can be seen -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Who this node is, for people."""
        return self._settings.name

    @property
    def cluster(self) -> str:
        """The name of the cluster; nodes of another one are refused."""
        return self._settings.cluster

    @property
    def region(self) -> str:
        """Where this node is."""
        return self._settings.region

    @property
    def running(self) -> bool:
        """Whether it is part of the cluster just now."""
        return self._life.running

    @property
    def peers(self) -> list[Peer]:
        """The members that have been met, connected or not. In a forked child this starts it, as `get` does."""
        self._use()
        return self._members()

    def _members(self) -> list[Peer]:
        with self._lock:
            return self._replica.peers()

    @property
    def regions(self) -> dict[str, Region]:
        """The regions that are known, the own one first: peers, how many of them are connected, the greatest lag."""
        return regions_of(self._settings.region, self.peers)

    def repair(self, peer: str | None = None, timeout: Seconds = 30.0) -> RepairReport:
        """Compare with `peer` (its name; None: with every one that is connected) and exchange what differs.

        Nodes do so by themselves; this is for who has doubts. It returns what came of it within `timeout`, and raises
        nothing for the network. Raises ValueError for a name that is not connected, and `WouldBlock` inside an event
        loop: `await node.arepair()`.
        """
        refuse_loop("repair()", "await node.arepair()")
        end = _deadline(timeout)
        repairing = self._repairing(peer)
        while not repairing.step() and time.monotonic() < end:
            time.sleep(_POLL_S)
        return repairing.report()

    async def arepair(self, peer: str | None = None, timeout: Seconds = 30.0) -> RepairReport:  # noqa: ASYNC109
        """As `repair`, in trio or asyncio."""
        end = _deadline(timeout)
        repairing = self._repairing(peer)
        while not repairing.step() and time.monotonic() < end:
            await asleep(_POLL_S)
        return repairing.report()

    def _repairing(self, peer: str | None) -> Repairing:
        self._refuse_interrupt("repair()")
        return Repairing(self._replica, self._lock, self._clock, lambda: self._driver, peer)

    def wait_replicated(
        self, version: Version | str | None = None, *, to: Reach = "one", timeout: Seconds | None = 5.0
    ) -> Replicated:
        """Wait until other nodes have accounted for what was written here: all until now, or up to `version`.

        `to`: "one", "region" (all of the own one), "majority" (of all, this node counted), "regions" (one in each
        other), "all", or how many others. Those that are known to be down are not waited for. It returns what was
        reached within `timeout`, with `why` where it is not enough, and raises nothing for the network. Raises
        ValueError for another `to` or text that is no version, and `WouldBlock` inside an event loop:
        `await node.areplicated()`.
        """
        refuse_loop("wait_replicated()", "await node.areplicated()")
        end = _deadline(timeout)
        receipts = self._receipts(version, to)
        while not receipts.step() and time.monotonic() < end:
            time.sleep(receipts.pause_s)
        return receipts.report()

    async def areplicated(
        self,
        version: Version | str | None = None,
        *,
        to: Reach = "one",
        timeout: Seconds | None = 5.0,  # noqa: ASYNC109
    ) -> Replicated:
        """As `wait_replicated`, in trio or asyncio."""
        end = _deadline(timeout)
        receipts = self._receipts(version, to)
        while not receipts.step() and time.monotonic() < end:
            await asleep(receipts.pause_s)
        return receipts.report()

    def _receipts(self, version: Version | str | None, to: Reach) -> Receipts:
        self._refuse_interrupt("wait_replicated()")
        if not isinstance(version, Version | None) and (version.__class__ is not str or "-" not in version):
            raise ValueError(f"wait_replicated({version!r}): not a version; did you mean to={version!r}?")
        with self._lock:
            wanted = _version(version) if version is not None else self._replica.written
        driver = self._life.driver
        alone = not self._settings.peers or (driver is not None and driver.names_only_itself)
        return Receipts(self._replica, self._lock, self._clock, lambda: self._driver, wanted, to, alone_is_enough=alone)

    def wait_seen(self, version: Version | str, timeout: Seconds | None = 5.0) -> bool:
        """Wait until the write of `version`, or what beats it, is here, with all that its writer wrote before.

        So that who has written elsewhere reads it here: carry `str(version)` with the request. Whether it came within
        `timeout`. Raises ValueError for text that is no version, and `WouldBlock` inside an event loop:
        `await node.aseen()`.
        """
        refuse_loop("wait_seen()", "await node.aseen()")
        end = _deadline(timeout)
        while not self._has_seen(version):
            if time.monotonic() >= end:
                return False
            time.sleep(_LOOK_S)
        return True

    async def aseen(self, version: Version | str, timeout: Seconds | None = 5.0) -> bool:  # noqa: ASYNC109
        """As `wait_seen`, in trio or asyncio."""
        end = _deadline(timeout)
        while not self._has_seen(version):
            if time.monotonic() >= end:
                return False
            await asleep(_LOOK_S)
        return True

    def _has_seen(self, version: Version | str) -> bool:
        wanted = _version(version)
        with self._lock:
            return self._replica.has_seen(wanted)

    def digest(self) -> int:
        """64 bits over everything visible: nodes with equal digests hold equal maps."""
        self._refuse_interrupt("digest()")
        with self._lock:
            return self._replica.digest()

    def inspect(self, key: K) -> str:
        """Why `key` is here, or is not, in one sentence for people: who wrote or deleted it, when, who has seen it."""
        self._check_key(key)
        reading = self._clock.reading()
        with self._lock:
            entry, mark, seen = self._replica.trace(cast("Key", key))
            peers, own, evicted = self._replica.peers(), self._replica.origin, self._replica.map.evicted
        unreadable = ""
        try:
            if entry is not None and isinstance(entry[VALUE], Packed):
                self._decode(entry[VALUE])
        except EncodeError as error:
            unreadable = str(error)
        return sentence(
            key, entry, mark, seen, peers, own=own, evicted=evicted, unreadable=unreadable, now_ms=reading.wall_ms
        )

    def stats(self) -> dict[str, int]:
        """Counters since the constructor, and sizes now. Counts of hits may miss some that threads made at once."""
        self._refuse_interrupt("stats()")
        with self._lock:
            counts = self._replica.stats()
        own = {"hits": self._hits, "misses": self._misses, "writes": self._writes, "unreadable": self._unreadable}
        own |= {"unstored": self._unstored, "handlers_failed": self._subscriptions.failed}
        return {**own, **counts}

    def cache_info(self) -> CacheInfo:
        """`(hits, misses, maxsize, currsize)`, as `functools.lru_cache` has it."""
        return CacheInfo(self._hits, self._misses, self.maxsize, len(self))

    def status(self) -> dict[str, Any]:
        """Everything about this node as JSON types, for a health page; the secret is left out.

        In a forked child of a node that ran it starts that one, as `get` does: a probe may be all that ever comes.
        """
        self._use()
        driver = self._life.driver
        return portrait(
            name=self.name,
            origin=self._replica.origin,
            generation=self._replica.generation,
            state=self._state(),
            mode=self._life.mode,
            address=driver.address if driver is not None else "",
            advertise=self._replica.advertise,
            conditions=self._conditions(),
            clock=self._replica.correction,
            settings=self._settings.shown(),
            peers=self._members(),
            digest=self.digest(),
            stats=self.stats(),
            ready=self._is_ready(None, 1.0),
        )

    def _state(self) -> str:
        if self.running:
            return "running"
        return "forked" if isinstance(self._driver, Waiter) else "closed" if self._life.began else "new"

    def _conditions(self) -> list[str]:
        driver = self._life.driver
        if driver is None:
            alone = self._life.began or not self._settings.peers  # it has been closed, or is for this process only
            return [] if alone else ["not started: call start(), or use `with`"]
        itself = driver.names_only_itself and not any(peer.connected for peer in self._members())
        alone_so_far = "peers= names only this node: working alone until another one calls"
        return [*([alone_so_far] if itself else []), *driver.conditions]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return page(self.status())

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in FOR_LOADERS]

    def __repr__(self) -> str:
        settings = self._settings
        return summary(
            self.name, settings.cluster, settings.region, self._state(), self._members(), self._replica.store.live
        )


class _Decorator(Protocol):
    """What `cached(...)` returns: the types of the function that it decorates are kept."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> AsyncCached[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Cached[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any: ...


def _version(version: Version | str) -> Version:
    return Version.parse(version) if isinstance(version, str) else version


def _seconds(time: Seconds, argument: str) -> float:
    return max(0, milliseconds(time, argument)) / 1_000


def _deadline(timeout: Seconds | None) -> float:
    return time.monotonic() + (float("inf") if timeout is None else _seconds(timeout, "timeout"))
