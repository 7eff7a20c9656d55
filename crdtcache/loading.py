"""Cached functions: the function's result stands in the cache under a key that its arguments make.

A hit costs a key and a `get`. A miss runs the function once for all who wait for that key (`flights`), in the
caller's own thread or task, never in the node's. If the key is written or deleted while the function runs, the
result goes to its caller but not into the cache: what was read before an invalidation must not outlive it.

Decision: one decorator for `def` and `async def`, with the same handle (`key`, `peek`, `invalidate`, `refresh`, `put`,
`cache_info`, `cache_clear`), which is also what a method's `obj.method` returns. The refused alternative, a plain
function with attributes, makes `obj.method.invalidate(1)` need `obj` twice.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
from collections.abc import Callable, Collection, Coroutine, Hashable
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

from crdtcache.arguments import DEFAULT, MISSING, Default, Seconds, milliseconds
from crdtcache.core.entry import Packed, Version
from crdtcache.errors import ConfigError, ValueTooLarge
from crdtcache.flights import Flight, Flights
from crdtcache.mapping import LocalMap
from crdtcache.naming import KeyOf, key_maker
from crdtcache.values import decode

__all__ = ["AsyncCached", "CacheInfo", "Cached", "make_cached"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

log = logging.getLogger("crdtcache")


class CacheInfo(NamedTuple):
    """As `functools.lru_cache` reports it. `maxsize` is the node's; a function has no room of its own."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class _Counts:
    """Shared by a cached function and all the methods bound from it."""

    __slots__ = ("hits", "misses", "warned")

    def __init__(self) -> None:
        self.hits = self.misses = 0
        self.warned = False


class Cached(Generic[P, R]):
    """A cached function. Call it as before; its other methods take the same arguments as the function.

    The calls raise what the function raises, and TypeError or `EncodeError` where an argument cannot be part of
    a key, or the result cannot be stored. A result that is too large is returned and not stored (one warning).
    """

    __wrapped__: Callable[P, R]

    def __init__(
        self,
        cache: LocalMap[Any, Any],
        flights: Flights,
        function: Callable[P, R],
        key_of: KeyOf,
        ttl: Seconds | Default | None,
        *,
        single_flight: bool,
    ) -> None:
        functools.update_wrapper(self, function)
        self._cache = cache
        self._flights = flights
        self._function = function
        self._key_of = key_of
        self._ttl = ttl
        self._single_flight = single_flight
        self._counts = _Counts()
        self._owner: tuple[object, ...] = ()  # the object that a method was called on

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The cached result, else that of the function, run once for all who ask for it meanwhile."""
        call = self._owner + args
        key = self._key_of(call, kwargs)
        value = self._hit(key)
        while value is MISSING and self._single_flight:
            flight, leads = self._flights.board(key, plain=True)
            if leads:
                with self._flights.lead(key, flight):
                    return self._run(key, call, kwargs, flight)
            if not flight.wait():
                break
            value = flight.outcome()
        return self._run(key, call, kwargs) if value is MISSING else cast("R", value)

    def _hit(self, key: Hashable) -> object:
        value = self._cache.get(key, MISSING)
        if value is MISSING:
            self._counts.misses += 1
        else:
            self._counts.hits += 1
        return value

    def _run(self, key: Hashable, call: tuple[Any, ...], kwargs: Any, flight: Flight | None = None) -> R:
        seen = self._cache.held(key)
        value = self._landed(key, flight)
        if value is MISSING:
            value = self._function(*call, **kwargs)
            self._keep(flight, key, value, seen)
        return cast("R", value)

    def _landed(self, key: Hashable, flight: Flight | None) -> object:
        """What another flight brought between the miss of this leader and its boarding."""
        value = self._cache.peek(key, MISSING) if flight is not None else MISSING
        if flight is not None and value is not MISSING:
            flight.land(lambda: self._cache.peek(key, MISSING))
        return value

    def _keep(self, flight: Flight | None, key: Hashable, result: object, seen: tuple[int, int] | None) -> None:
        """Store a result unless the key has moved, and hand it to those who wait."""
        try:
            stored = self._cache.encoded(result)
        except ValueTooLarge as error:
            if not self._counts.warned:
                self._counts.warned = True
                log.warning("a result of %s is not cached: %s (logged once)", self._key_of.name, error)
            if flight is not None:
                flight.land(lambda: result)
            return
        if self._cache.set_unless_moved(key, stored, self._ttl, seen) is not None and flight is not None:
            flight.land(lambda: decode(stored) if isinstance(stored, Packed) else stored)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The key of the call with these arguments."""
        return self._key_of(self._owner + args, kwargs)

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The cached result of the call with these arguments, or MISSING; nothing is run or counted."""
        return self._cache.peek(self._key_of(self._owner + args, kwargs), MISSING)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the result of the call with these arguments on every node; whether it was visible here."""
        return self._cache.delete(self._key_of(self._owner + args, kwargs))

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function whatever is cached, and store what it returns."""
        call = self._owner + args
        return self._run(self._key_of(call, kwargs), call, kwargs)

    def put(self, value: Any, *args: P.args, **kwargs: P.kwargs) -> Version:
        """Store `value` as the result of the call with these arguments."""
        return cast("Version", self._cache.set(self._key_of(self._owner + args, kwargs), value, self._ttl))

    def cache_info(self) -> CacheInfo:
        """Hits and misses of this function in this process; `currsize` counts its results that are here.

        For `key=function` nobody knows which keys are its own: `currsize` is then that of the whole node.
        """
        try:
            size = sum(map(self._key_of.owns, self._cache))
        except TypeError:
            size = len(self._cache)
        return CacheInfo(self._counts.hits, self._counts.misses, self._cache.maxsize, size)

    def cache_clear(self) -> None:
        """Delete every result of this function on every node: all keys that its `key=` can produce.

        A template is taken by its word: "user:{id}" also owns "user:1:cart". Raises TypeError for `key=function`.
        """
        self._cache.delete_many([key for key in self._cache.known_keys() if self._key_of.owns(key)])
        self._counts.hits = self._counts.misses = 0

    def __set_name__(self, owner: type, name: str) -> None:
        self._key_of.method = True

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> Cached[P, R]: ...
    @overload
    def __get__(self: Cached[Concatenate[S, Q], R], obj: S, owner: type | None = None) -> Cached[Q, R]: ...
    def __get__(self, obj: object, owner: type | None = None) -> Any:
        if obj is None:
            return self
        bound = copy.copy(self)
        bound._owner = (obj,)  # noqa: SLF001 - a copy of itself
        return bound

    def __repr__(self) -> str:
        return f"<cached {self._key_of.name}>"


class AsyncCached(Cached[P, Coroutine[Any, Any, T]]):
    """A cached coroutine function: calling and refreshing is awaited in trio or asyncio, the rest is plain."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """The cached result, else that of the function, run once for all who ask for it meanwhile."""
        call = self._owner + args
        key = self._key_of(call, kwargs)
        value = self._hit(key)
        while value is MISSING and self._single_flight:
            flight, leads = self._flights.board(key, plain=False)
            if leads:
                with self._flights.lead(key, flight):
                    return await self._arun(key, call, kwargs, flight)
            if not await flight.await_():
                break
            value = flight.outcome()
        return await self._arun(key, call, kwargs) if value is MISSING else cast("T", value)

    async def _arun(self, key: Hashable, call: tuple[Any, ...], kwargs: Any, flight: Flight | None = None) -> T:
        seen = self._cache.held(key)
        value = self._landed(key, flight)
        if value is MISSING:
            value = await self._function(*call, **kwargs)
            self._keep(flight, key, value, seen)
        return cast("T", value)

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function whatever is cached, and store what it returns."""
        call = self._owner + args
        return await self._arun(self._key_of(call, kwargs), call, kwargs)


def make_cached(
    cache: LocalMap[Any, Any],
    flights: Flights,
    function: Callable[P, Any],
    *,
    ttl: Seconds | Default | None,
    key: str | Callable[..., Hashable] | None,
    ignore: Collection[str],
    single_flight: bool,
    version: int,
) -> Cached[P, Any]:
    """What `Node.cached` makes of `function`. Raises `ConfigError`, the caller's fault, for what cannot be cached."""
    if isinstance(function, (classmethod, staticmethod)):
        raise ConfigError(f"cached goes below @{type(function).__name__}, next to the function")
    if not callable(function):
        raise ConfigError(f"cached({function!r}): not a function; the arguments of cached are given by name")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{function.__qualname__} is a generator: it can be used up only once; return a list")
    if ttl is not DEFAULT and ttl is not None and milliseconds(ttl, "ttl") <= 0:
        raise ConfigError(f"ttl={ttl!r}: must be positive; ttl=None means never")
    kind = AsyncCached if inspect.iscoroutinefunction(function) else Cached
    return kind(cache, flights, function, key_maker(function, key, ignore, version), ttl, single_flight=single_flight)
