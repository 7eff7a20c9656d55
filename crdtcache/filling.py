"""Filling a gap: what a function computes for a key that is not here, or not for long any more.

The first to miss runs the function, in its own thread or task, and the others wait for it (`flights`). If the key is
written or deleted meanwhile, the result goes to its caller but not into the cache: what was read before an
invalidation must not outlive it. A result that cannot be stored (too large, no encoding) is returned all the
same; that is logged once and counted as `unstored`, because a cache may make a service slow but not break it.

In the last `stale` ms of its time a loaded value is stale: whoever meets it first runs the function again, the others
are served what is there, and so is the first where the function fails. Decision: the renewal is the caller's own run.
The refused alternative, a thread or task in the background, runs a user's code where nobody waits for it, without the
caller's context (a request's transaction, a task's cancellation), and after the event loop has ended.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, NamedTuple

from crdtcache.arguments import MISSING, Default, Seconds
from crdtcache.errors import EncodeError, ValueTooLarge
from crdtcache.flights import Flight, Flights
from crdtcache.mapping import LocalMap

__all__ = ["Fill", "Rule"]

log = logging.getLogger("crdtcache")


class Rule(NamedTuple):
    """How results are kept. `ttl`: of those that are fresh; `stale_ms`: how long a value is served beyond it.

    `negative_ttl`: of a result that is None, where that shall differ. `cache_if`: which results are kept at all.
    """

    name: str
    ttl: Seconds | Default | None
    stale_ms: int = 0
    negative_ttl: Seconds | None = None
    cache_if: Callable[[Any], object] | None = None
    single_flight: bool = True


class Fill:
    """Gives the values of one function, or of one place that loads. Raises what the function raises."""

    __slots__ = ("_cache", "_flights", "hits", "misses", "rule")

    def __init__(self, cache: LocalMap[Any, Any], flights: Flights, rule: Rule) -> None:
        self._cache = cache
        self._flights = flights
        self.rule = rule
        self.hits = self.misses = 0

    def get(self, key: Hashable, produce: Callable[[], Any]) -> Any:
        """The value of `key`, else what `produce` returns, run once for all who miss it meanwhile."""
        value, fresh = self._look(key)
        if fresh:
            return value
        stale = value
        while self.rule.single_flight:
            flight, leads = self._flights.board(key, plain=True)
            if leads:
                with self._flights.lead(key, flight):
                    return self.run(key, produce, flight, stale)
            if stale is not MISSING:
                return stale  # somebody is renewing it
            if not flight.wait():
                break
            value = flight.outcome()
            if value is not MISSING:
                return value
        return self.run(key, produce, None, stale)

    async def aget(self, key: Hashable, produce: Callable[[], Awaitable[Any]]) -> Any:
        """As `get`, in trio or asyncio."""
        value, fresh = self._look(key)
        if fresh:
            return value
        stale = value
        while self.rule.single_flight:
            flight, leads = self._flights.board(key, plain=False)
            if leads:
                with self._flights.lead(key, flight):
                    return await self.arun(key, produce, flight, stale)
            if stale is not MISSING:
                return stale
            if not await flight.await_():
                break
            value = flight.outcome()
            if value is not MISSING:
                return value
        return await self.arun(key, produce, None, stale)

    def run(
        self, key: Hashable, produce: Callable[[], Any], flight: Flight | None = None, stale: object = MISSING
    ) -> Any:
        """Run `produce` and store what it returns; if it fails, `stale` unless that is MISSING."""
        seen = self._cache.held(key)
        value = self._landed(key, flight)
        if value is MISSING:
            try:
                value = produce()
            except Exception as error:
                if stale is MISSING:
                    raise
                return self._instead(stale, error)
            self._keep(flight, key, value, seen)
        return value

    async def arun(
        self,
        key: Hashable,
        produce: Callable[[], Awaitable[Any]],
        flight: Flight | None = None,
        stale: object = MISSING,
    ) -> Any:
        """As `run`, in trio or asyncio."""
        seen = self._cache.held(key)
        value = self._landed(key, flight)
        if value is MISSING:
            try:
                value = await produce()
            except Exception as error:
                if stale is MISSING:
                    raise
                return self._instead(stale, error)
            self._keep(flight, key, value, seen)
        return value

    def known_keys(self) -> list[Any]:
        """All keys that are here or on their way: what is being loaded when they are cleared is old by then."""
        return list(dict.fromkeys([*self._cache.known_keys(), *self._flights.keys()]))

    @staticmethod
    def source(default_or_factory: object, loader: Callable[[Any], object] | None, key: Hashable) -> Callable[[], Any]:
        """What `get_or_set` loads from: a default, a function without arguments, or the loader."""
        if default_or_factory is not MISSING:
            return default_or_factory if callable(default_or_factory) else lambda: default_or_factory
        if loader is None:
            raise TypeError("get_or_set(key) needs a default, a function, or a loader=")
        return lambda: loader(key)

    @staticmethod
    def plainly(produce: Callable[[], Any]) -> Callable[[], Any]:
        """`produce`, refused where it is async."""

        def plain() -> Any:
            value = produce()
            if inspect.isawaitable(value):
                if inspect.iscoroutine(value):
                    value.close()
                raise TypeError("what makes the value (loader=, or a function) is async: use `await aget_or_set(...)`")
            return value

        return plain

    @staticmethod
    def awaited(produce: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
        """`produce`, async or not, as something to await."""

        async def awaited() -> Any:
            value = produce()
            return await value if inspect.isawaitable(value) else value

        return awaited

    def _look(self, key: Hashable) -> tuple[object, bool]:
        value = self._cache.get(key, MISSING)
        fresh = value is not MISSING and self._is_fresh(key)
        if fresh:
            self.hits += 1
        else:
            self.misses += 1
        return value, fresh

    def _is_fresh(self, key: Hashable) -> bool:
        return not self.rule.stale_ms or self._cache.is_fresh(key, self.rule.stale_ms)

    def _landed(self, key: Hashable, flight: Flight | None) -> object:
        """What another flight brought between the miss of this leader and its boarding."""
        if flight is None:
            return MISSING
        value = self._cache.peek(key, MISSING)
        if value is MISSING or not self._is_fresh(key):
            return MISSING
        flight.land(lambda: self._cache.peek(key, MISSING))
        return value

    def _instead(self, stale: object, error: Exception) -> object:
        self._cache.note_once(f"stale {self.rule.name}", f"{self.rule.name} failed, a stale value is served: {error!r}")
        return stale

    def _keep(self, flight: Flight | None, key: Hashable, result: Any, seen: tuple[int, int]) -> None:
        """Store a result unless the key has moved, and hand it to those who wait."""
        rule = self.rule
        wanted = rule.cache_if is None or bool(rule.cache_if(result))
        try:
            stored = self._cache.encoded(result)
        except (EncodeError, ValueTooLarge) as error:
            if wanted:
                self._cache.not_stored(rule.name, error)
            if flight is not None:
                flight.land(lambda: result)
            return
        if wanted:
            ttl = rule.negative_ttl if result is None and rule.negative_ttl is not None else rule.ttl
            if self._cache.set_unless_moved(key, stored, ttl, seen, rule.stale_ms) is None:
                return  # those who wait look again
        if flight is not None:
            flight.land(lambda: self._cache.decoded(stored))
