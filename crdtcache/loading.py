"""Cached functions: the function's result stands in the cache under a key that its arguments make.

A hit costs a key (`naming`) and a `get`; what a miss does is told in `filling`.

Decision: one decorator for `def` and `async def`, with the same handle (`key`, `peek`, `invalidate`, `refresh`, `put`,
`cache_info`, `cache_clear`), which is also what a method's `obj.method` returns. The refused alternative, a plain
function with attributes, makes `obj.method.invalidate(1)` need `obj` twice.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Coroutine, Hashable
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

from crdtcache.arguments import MISSING, Default, Seconds, milliseconds, span_ms
from crdtcache.core.entry import Version
from crdtcache.errors import ConfigError
from crdtcache.filling import Fill, Rule
from crdtcache.flights import Flights
from crdtcache.mapping import LocalMap
from crdtcache.naming import KeyOf, key_maker

__all__ = ["AsyncCached", "CacheInfo", "Cached", "check_function", "check_times", "make_cached"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


class CacheInfo(NamedTuple):
    """As `functools.lru_cache` reports it. `maxsize` is the node's; a function has no room of its own."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class Cached(Generic[P, R]):
    """A cached function. Call it as before; its other methods take the same arguments as the function.

    The calls raise what the function raises, and TypeError where an argument cannot be part of a key. A result
    that cannot be stored is returned all the same (`filling`).
    """

    __wrapped__: Callable[P, R]

    def __init__(self, cache: LocalMap[Any, Any], fill: Fill, function: Callable[P, R], key_of: KeyOf) -> None:
        functools.update_wrapper(self, function)
        self._cache = cache
        self._fill = fill
        self._function: Callable[..., Any] = function
        self.key_of = key_of
        self._owner: tuple[object, ...] = ()  # the object that a method was called on

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The cached result, else that of the function, run once for all who ask for it meanwhile."""
        call = self._owner + args
        return cast("R", self._fill.get(self.key_of(call, kwargs), lambda: self._function(*call, **kwargs)))

    def key(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The key of the call with these arguments."""
        return self.key_of(self._owner + args, kwargs)

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The cached result of the call with these arguments, or MISSING; nothing is run or counted."""
        return self._cache.peek(self.key_of(self._owner + args, kwargs), MISSING)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the result of the call with these arguments on every node; whether it was visible here."""
        return self._cache.delete(self.key_of(self._owner + args, kwargs))

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function whatever is cached, and store what it returns."""
        call = self._owner + args
        return cast("R", self._fill.run(self.key_of(call, kwargs), lambda: self._function(*call, **kwargs)))

    def put(self, value: Any, *args: P.args, **kwargs: P.kwargs) -> Version:
        """Store `value` as the result of the call with these arguments."""
        return cast("Version", self._cache.set(self.key_of(self._owner + args, kwargs), value, self._fill.rule.ttl))

    def cache_info(self) -> CacheInfo:
        """Hits and misses of this function in this process; `currsize` counts its results that are here.

        For `key=function` nobody knows which keys are its own: `currsize` is then that of the whole node.
        """
        try:
            size = sum(map(self.key_of.owns, self._cache))
        except TypeError:
            size = len(self._cache)
        return CacheInfo(self._fill.hits, self._fill.misses, self._cache.maxsize, size)

    def cache_clear(self) -> None:
        """Delete every result of this function on every node: all keys that its `key=` can produce.

        A template is taken by its word: "user:{id}" also owns "user:1:cart". Raises TypeError for `key=function`.
        """
        self._cache.delete_many([key for key in self._fill.known_keys() if self.key_of.owns(key)])
        self._fill.hits = self._fill.misses = 0

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> Cached[P, R]: ...
    @overload
    def __get__(self: Cached[Concatenate[S, Q], R], obj: S, owner: type | None = None) -> Cached[Q, R]: ...
    def __get__(self, obj: object, owner: type | None = None) -> Any:
        if obj is None:
            return self
        bound = self.__class__.__new__(self.__class__)
        bound.__dict__.update(self.__dict__, _owner=(obj,))
        return bound

    def __reduce__(self) -> str | tuple[Any, ...]:
        """By name, as a plain function: another process that unpickles it uses the node of its own module."""
        return (getattr, (*self._owner, self.__wrapped__.__name__)) if self._owner else self.__wrapped__.__qualname__

    def __repr__(self) -> str:
        return f"<cached {self.key_of.name}>"


class AsyncCached(Cached[P, Coroutine[Any, Any, T]]):
    """A cached coroutine function: calling and refreshing is awaited in trio or asyncio, the rest is plain."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """The cached result, else that of the function, run once for all who ask for it meanwhile."""
        call = self._owner + args
        return cast("T", await self._fill.aget(self.key_of(call, kwargs), lambda: self._function(*call, **kwargs)))

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function whatever is cached, and store what it returns."""
        call = self._owner + args
        return cast("T", await self._fill.arun(self.key_of(call, kwargs), lambda: self._function(*call, **kwargs)))


def make_cached(
    cache: LocalMap[Any, Any],
    flights: Flights,
    function: Callable[P, Any],
    *,
    ttl: Seconds | Default | None,
    key: str | Callable[..., Hashable] | None,
    ignore: Collection[str],
    cache_if: Callable[[Any], object] | None,
    negative_ttl: Seconds | None,
    stale_ttl: Seconds,
    single_flight: bool,
    version: int,
) -> Cached[P, Any]:
    """What `Node.cached` makes of `function`. Raises `ConfigError`, the caller's fault, for what cannot be cached."""
    check_function(function, "cached")
    check_times(ttl=ttl, negative_ttl=negative_ttl)
    key_of = key_maker(function, key, ignore, version)
    stale_ms = span_ms(stale_ttl, "stale_ttl")
    rule = Rule(key_of.name, ttl, stale_ms, negative_ttl, cache_if, single_flight)
    kind = AsyncCached if inspect.iscoroutinefunction(function) else Cached
    return kind(cache, Fill(cache, flights, rule), function, key_of)


def check_times(**times: Seconds | Default | None) -> None:
    """Raises `ConfigError`, the caller's fault, for a time to live that is none."""
    for name, time in times.items():
        if time is not None and not isinstance(time, Default) and milliseconds(time, name) <= 0:
            raise ConfigError(f"{name}={time!r}: must be positive; ttl=None means never")


def check_function(function: Any, decorator: str) -> None:
    """Raises `ConfigError`, the caller's fault, where `decorator` cannot go around `function`."""
    if isinstance(function, (classmethod, staticmethod)):
        raise ConfigError(f"{decorator} goes below @{type(function).__name__}, next to the function")
    if not callable(function):
        raise ConfigError(f"{decorator}({function!r}): not a function; the arguments of {decorator} are given by name")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{function.__qualname__} is a generator: it can be used up only once; return a list")
