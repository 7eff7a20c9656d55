"""Functions that change what the cache stands for: `writes` stores what they return, `invalidates` deletes.

`writes` acts when the function has succeeded, and deletes the key where the result cannot be stored: what is there
is old by then. `invalidates` acts also where the function raised: what it had changed until then nobody knows, and
to look once more is cheap.

Decision: both return a function of the same type, nothing with methods of its own: they stand on functions that are
there for their effect, and may stand on one another. Keys are made from arguments exactly as `cached` makes them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TypeAlias

from crdtcache.arguments import Default, Seconds
from crdtcache.errors import ConfigError, EncodeError, ValueTooLarge
from crdtcache.loading import Cached, check_function
from crdtcache.mapping import LocalMap
from crdtcache.naming import KeyOf, key_maker

__all__ = ["Target", "invalidating", "writing"]

Target: TypeAlias = "Cached[Any, Any] | str | Callable[..., Hashable]"
"""What `invalidates` deletes: the result of a cached function, or a key made like that of `cached(key=)`."""

_Call: TypeAlias = "tuple[tuple[Any, ...], Mapping[str, Any]]"


def writing(
    cache: LocalMap[Any, Any], function: Any, key: str | Callable[..., Hashable], ttl: Seconds | Default | None
) -> Any:
    """What `Node.writes` makes of `function`."""
    check_function(function, "writes")
    key_of = key_maker(function, key, (), 0)

    def store(call: _Call, result: Any) -> None:
        at = key_of(*call)
        try:
            cache.set(at, result, ttl)
        except (EncodeError, ValueTooLarge) as error:
            cache.not_stored(key_of.name, error)
            cache.delete(at)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awriter(*args: Any, **kwargs: Any) -> Any:
            result = await function(*args, **kwargs)
            store((args, kwargs), result)
            return result

        return awriter

    @functools.wraps(function)
    def writer(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        store((args, kwargs), result)
        return result

    return writer


def invalidating(cache: LocalMap[Any, Any], function: Any, targets: tuple[Target, ...]) -> Any:
    """What `Node.invalidates` makes of `function`."""
    check_function(function, "invalidates")
    if not targets:
        raise ConfigError("invalidates() deletes nothing: name cached functions or keys such as 'user:{user_id}'")
    keys_of = [_aimed(function, target) for target in targets]

    def keys(call: _Call) -> Iterator[Hashable]:
        for key_of in keys_of:
            yield key_of(*call)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def adeleter(*args: Any, **kwargs: Any) -> Any:
            gone = list(keys((args, kwargs)))  # before the function may change its arguments
            try:
                return await function(*args, **kwargs)
            finally:
                cache.delete_many(gone)

        return adeleter

    @functools.wraps(function)
    def deleter(*args: Any, **kwargs: Any) -> Any:
        gone = list(keys((args, kwargs)))
        try:
            return function(*args, **kwargs)
        finally:
            cache.delete_many(gone)

    return deleter


def _aimed(function: Any, target: Target) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Hashable]:
    """From a call of `function` to the key of `target`; parameters of a cached function are found by name."""
    if not isinstance(target, Cached):
        return key_maker(function, target, (), 0)
    theirs, ours = inspect.signature(target.__wrapped__), KeyOf(function, (), 0)
    missing = [
        name
        for name, each in theirs.parameters.items()
        if name not in ours.names
        and each.default is each.empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if missing:
        raise ConfigError(
            f"invalidates({target!r}): its key needs {', '.join(missing)}, which {ours.name} does not have "
            f"({', '.join(ours.names) or 'no parameters'}); give a key such as 'user:{{user_id}}' instead"
        )
    shared = [name for name in theirs.parameters if name in ours.names]
    key = target.key_of

    def key_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
        bound = ours.bound(args, kwargs)
        return key((), {name: bound[name] for name in shared})

    return key_of
