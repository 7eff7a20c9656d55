"""From a call to a key: which arguments tell one result from another, and how they are written down.

Calls that mean the same have the same key: arguments are bound to parameters and defaults applied, so `f(1)` and
`f(x=1)` share one. Without `key=` the key is a tuple: the function's name, then each argument: text, bytes and
whole numbers as they are, an object that has a `__cache_key__` (a value, or a method that returns one) as that, a
class as its name, anything else as its stored bytes. It is the same in every process of the cluster.

Decision: an argument that has no encoding is a TypeError that names the parameter. The refused alternative is its
`repr()`: that may hold an address of memory, and such a key is never found again. That goes for the `self` of a method
too: left out of the key, one customer's object would be given what another one's had loaded.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import string
from collections.abc import Callable, Collection, Hashable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, cast
from uuid import UUID

from crdtcache.core.entry import Key, key_bytes
from crdtcache.errors import ConfigError, EncodeError
from crdtcache.values import encode

__all__ = ["KeyOf", "fitting", "key_maker"]

_PLAIN: Final = (str, int, float, bool, type(None), date, time, timedelta, Decimal, UUID, Enum)
_LONGEST: Final = 200  # bytes of a tuple key; beyond it the arguments become one digest
_FITS: Final = 1_000  # bytes of text that make a key, beside what `Tuning.key_bytes` counts around them
_BIG: Final = 1 << 63
_AS_THEY_ARE: Final = (str, bytes, int)
_formatter: Final = string.Formatter()


class KeyOf:
    """The key of a call of one function, made in one of the three ways of `key=`."""

    def __init__(self, function: Callable[..., object], ignore: Collection[str], version: int) -> None:
        self.name = f"{function.__module__}.{function.__qualname__}" + (f"@{version}" if version else "")
        self.version = version
        self.signature = inspect.signature(function)
        self.names = tuple(self.signature.parameters)
        unknown = [name for name in ignore if name not in self.names]
        if unknown:
            raise ConfigError(f"ignore={unknown!r}: {self.name} has the parameters {', '.join(self.names) or 'none'}")
        self.ignored = frozenset(ignore)
        # A call with all arguments by position needs no binding.
        self.plain = all(
            p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in self.signature.parameters.values()
        )

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
        """The key of the call `f(*args, **kwargs)`. Raises TypeError where the call or an argument does not fit."""
        raise NotImplementedError

    def owns(self, key: object) -> bool:
        """Whether `key` is one that this function's calls can have. Raises TypeError where that cannot be known."""
        raise NotImplementedError

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Every parameter with its argument or default."""
        if self.plain and not kwargs and len(args) == len(self.names):
            return dict(zip(self.names, args, strict=True))
        call = self.signature.bind(*args, **kwargs)
        call.apply_defaults()
        return call.arguments


class _ByArguments(KeyOf):
    """`key=None`: (name, argument, ...)."""

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
        parts: list[Key] = [self.name]
        for name, argument in self.bound(args, kwargs).items():
            if name in self.ignored:
                continue
            value: Any = argument if argument.__class__ in _AS_THEY_ARE else _identity(argument)
            kind = value.__class__
            if kind is str or kind is bytes or (kind is int and -_BIG < value < _BIG):
                parts.append(value)
            else:
                parts.append(self._encoded(name, value))
        key = tuple(parts)
        written = key_bytes(key)
        if len(written) > _LONGEST:
            # Two parts in a tuple: no argument looks like that, encoded ones stand in a tuple of one.
            return (self.name, (b"", hashlib.blake2b(written, digest_size=24).digest()))
        return key

    def _encoded(self, name: str, value: object) -> Key:
        if isinstance(value, dict) and self.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            value = dict(sorted(value.items()))  # f(a=1, b=2) is f(b=2, a=1)
        try:
            stored = encode(value, None)
        except EncodeError as error:
            shared = " where all objects share their results" if name == "self" else ""
            raise TypeError(
                f"the argument {name} of {self.name} cannot be part of a key: {error}; leave it out with "
                f"ignore=[{name!r}]{shared}, give its class a __cache_key__, or give key= a template such as "
                f"'name:{{{name}.id}}'"
            ) from None
        # The type tells 1, 1.0 and True apart.
        if isinstance(stored, bytes):
            return (bytes(stored),)
        return (f"{stored.__class__.__name__} {stored!r}",)

    def owns(self, key: object) -> bool:
        return isinstance(key, tuple) and bool(key) and key[0] == self.name


def _identity(argument: Any) -> Any:
    """What stands for an object in a key: its `__cache_key__` where it has one, a class's name, else itself."""
    if isinstance(argument, type):
        return f"{argument.__module__}.{argument.__qualname__}"
    identity = getattr(argument, "__cache_key__", argument)
    return identity() if identity is not argument and callable(identity) else identity


class _ByTemplate(KeyOf):
    """`key="user:{user_id}"`, with the fields of `str.format`: `{user.id}`, `{page:03d}`."""

    def __init__(self, function: Callable[..., object], ignore: Collection[str], version: int, template: str) -> None:
        super().__init__(function, ignore, version)
        self.template = template
        self.suffix = f"@{version}" if version else ""
        pattern = ""
        try:
            pieces = list(_formatter.parse(template))
        except ValueError as error:
            raise ConfigError(f"key={template!r} is no template: {error}") from None
        for literal, field, _, _ in pieces:
            pattern += re.escape(literal) + ("" if field is None else "(?:.*)")
            root = re.split(r"[.\[]", field, maxsplit=1)[0] if field is not None else None
            if root is not None and root not in self.names:
                raise ConfigError(
                    f"key={template!r}: {{{field}}} is no parameter of {self.name} ({', '.join(self.names) or 'none'})"
                )
        self.pattern = re.compile(pattern + re.escape(self.suffix), re.DOTALL)
        self.pieces = [(literal, field, spec or "", conversion) for literal, field, spec, conversion in pieces]

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
        bound = self.bound(args, kwargs)
        text = ""
        for literal, field, spec, conversion in self.pieces:
            text += literal
            if field is None:
                continue
            value, _ = _formatter.get_field(field, (), bound)
            if not isinstance(value, _PLAIN):
                raise TypeError(
                    f"key={self.template!r} of {self.name}: {{{field}}} is a {value.__class__.__name__}, whose text "
                    f"may differ from run to run; use an attribute such as {{{field}.id}}, or give key= a function"
                )
            if conversion:
                value = _formatter.convert_field(value, cast("Any", conversion))
            text += format(value, spec)
        return text + self.suffix

    def owns(self, key: object) -> bool:
        return isinstance(key, str) and self.pattern.fullmatch(key) is not None


class _ByFunction(KeyOf):
    """`key=function`: called like the cached function itself."""

    def __init__(
        self,
        function: Callable[..., object],
        ignore: Collection[str],
        version: int,
        make: Callable[..., Hashable],
    ) -> None:
        super().__init__(function, ignore, version)
        self.make = make

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
        key = self.make(*args, **kwargs)
        return (key, f"@{self.version}") if self.version else key

    def owns(self, key: object) -> bool:  # noqa: ARG002 - it cannot be known from the key
        raise TypeError(
            f"cache_clear() of {self.name}: key= is a function, so nobody knows which keys are its own; "
            f"use invalidate(...) per call"
        )


def fitting(key: str) -> str:
    """`key` as it is, or where it is too long for one its beginning and a digest: for callers who know no bound."""
    written = key.encode()
    return (
        key if len(written) <= _FITS else f"{key[:_LONGEST]}...{hashlib.blake2b(written, digest_size=24).hexdigest()}"
    )


def key_maker(
    function: Callable[..., object],
    key: str | Callable[..., Hashable] | None,
    ignore: Collection[str],
    version: int,
) -> KeyOf:
    """How the keys of `function` are made. Raises `ConfigError`, the caller's fault, at the decorator."""
    if isinstance(ignore, str):
        raise ConfigError(f"ignore={ignore!r}: a list of parameter names, such as [{ignore!r}]")
    if key is None:
        return _ByArguments(function, ignore, version)
    if isinstance(key, str):
        return _ByTemplate(function, ignore, version, key)
    if callable(key):
        return _ByFunction(function, ignore, version, key)
    raise ConfigError(f"key={key!r}: a template such as 'user:{{user_id}}', a function, or None")
