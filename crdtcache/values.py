"""Python values to opaque bytes and back: what is stored is a scalar as it is, or bytes that only readers decode.

An immutable scalar (None, bool, int of 64 bits, float, str, bytes) is stored and returned itself. Everything
else becomes a `Packed`: one format byte, then MessagePack. Readers get a fresh copy each time, so nobody can
change what the cache holds, and replicas pass values on without understanding them.

Decision: MessagePack at rest instead of Python objects that are copied on `get`: decoding a small dict is
several times faster than `copy.deepcopy`, and the wire carries bytes anyway. Never pickle: it runs what comes.

The formats, by their first byte:

1 plain   MessagePack of None, bool, int, float, str, bytes, list and dict (any key), nothing else.
2 rich    the same, with extensions. A container that MessagePack lacks (tuple, set, frozenset, an object of a
          registered type) is an array that ends in an empty extension, its mark. An atom it lacks (Decimal, a
          big int, datetime, ...) is an extension with a payload. Marks instead of nested payloads: decoding is
          one pass without recursion, and nesting copies nothing.
other     a later version's: read as `Unknown`, which encodes to the same bytes again.

Subclasses are not their base: a named tuple or an `IntEnum` member would come back as something else, so they
are refused unless registered.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

import msgpack

from crdtcache.atoms import ATOM_READERS, ATOM_WRITERS
from crdtcache.core.entry import Packed, Value
from crdtcache.errors import ConfigError, EncodeError, ValueTooLarge

__all__ = ["MAX_DEPTH", "Unknown", "decode", "encode", "register", "size"]

T = TypeVar("T")

MAX_DEPTH: Final = 100
"""Containers inside containers; deeper ones are refused. MessagePack's own stack holds several times as many."""

PLAIN, RICH = 1, 2


@dataclasses.dataclass(frozen=True, slots=True)
class Unknown:
    """What this version cannot read: stored by a later one, or of a type that is not registered here.

    `tag`: the extension code, the registered name, or (when `whole`) the format byte. `payload`: the bytes, or
    for a registered name what its `encode` returned. Encoding it again gives what was stored.
    """

    tag: int | str
    payload: object
    whole: bool = False

    def __hash__(self) -> int:
        return hash(self.tag)  # the payload may be a list; a set that holds an Unknown must still be readable


def encode(value: object, limit: int | None = None) -> Value:
    """What is stored for `value`: a scalar itself, anything else a `Packed`.

    `limit`: bytes of content, None for no limit. Raises `EncodeError` for what has no encoding (it names the
    place inside the value), `ValueTooLarge` above the limit; both are the caller's fault.
    """
    kind = value.__class__
    if kind is str:
        length = len(value) if value.isascii() else _utf8(value)  # type: ignore[attr-defined,arg-type]
    elif kind in _UNLIMITED:
        return value  # type: ignore[return-value]
    elif kind is bytes:
        length = len(value)  # type: ignore[arg-type]
    elif kind is int and _INT_LOW <= value <= _INT_HIGH:  # type: ignore[operator]
        return value  # type: ignore[return-value]
    else:
        value = _packed(value)
        length = len(value)
    if limit is not None and length > limit:
        raise ValueTooLarge.of_value(length, limit)
    return value  # type: ignore[return-value]


def decode(value: Packed) -> object:
    """A fresh copy of the value in `value`, or an `Unknown` if this version cannot read it.

    For any bytes whatever it returns or raises `EncodeError` (the fault of who stored them, or of a registered
    `decode`), in memory bounded by some 80 times their length: what a list of empty lists needs.
    """
    if not value:
        raise EncodeError("a packed value of 0 bytes: at least the format byte was expected")
    body = value[1:]
    form = value[0]
    try:
        if len(body) > _SMALL and (0xDC in body or 0xDD in body):  # the heads of long arrays, or what looks like one
            _check_claims(body)
        if form == PLAIN:
            return msgpack.unpackb(body, strict_map_key=False, ext_hook=_refuse_extension)
        if form == RICH:
            return _Reader().read(body)
    except (EncodeError, MemoryError):
        raise
    except Exception as error:  # the door for foreign bytes: whatever is wrong with them is one error
        raise EncodeError(f"a packed value of {len(value)} bytes cannot be decoded: {error!r}") from error
    return Unknown(form, body, whole=True)


def size(value: Value) -> int:
    """Bytes of the content of a stored value, without the wire's headers: what limits compare."""
    kind = value.__class__
    if kind is str:
        return len(value) if value.isascii() else _utf8(value)  # type: ignore[arg-type,union-attr]
    if kind is bytes or kind is Packed:
        return len(value)  # type: ignore[arg-type]
    return 1 if value is None or kind is bool else 8


def register(
    kind: type[T],
    *,
    name: str | None = None,
    encode: Callable[[T], object] | None = None,
    decode: Callable[[Any], T] | None = None,
) -> type[T]:
    """Teach this process to store objects of exactly `kind`; returns `kind`, so it works as a class decorator.

    `name`: what stands for the type in stored bytes, the same in every process (default: the class name).
    `encode` returns something storable, `decode` rebuilds the object from it. Both may be left out for a
    dataclass (its fields by name; fields that this version lacks are skipped) and an enum (the member's name,
    for a flag its value). A process where the name is not registered reads an `Unknown`.
    Raises `ConfigError`, the caller's fault, for a name that another type has, and for what cannot be registered.
    """
    if not isinstance(kind, type):
        raise ConfigError(f"register({kind!r}): not a class")
    name = name or kind.__qualname__
    if kind in _BUILT_IN:
        raise ConfigError(f"{kind.__name__} is built in and needs no register()")
    if encode is None or decode is None:
        if encode is not decode:
            raise ConfigError(f"register({kind.__name__}): give both encode= and decode=, or none")
        encode, decode = _codec_of(kind)
    holder = _named.get(name)
    # A class defined again (a notebook cell run twice, a reloaded module) takes the place of its former self.
    if holder is not None and _home(holder[0]) != _home(kind):
        raise ConfigError(f"register({_home(kind)}): the name {name!r} is taken by {_home(holder[0])}; give name=")
    to_plain = encode

    def write(obj: T) -> list[object]:
        try:
            plain = to_plain(obj)
        except Exception as error:
            raise EncodeError(f"the encode= registered for {name!r} failed: {error!r}") from error
        _survey(plain, None, 1)
        return [name, plain, _NAMED_END]

    _named[name] = (kind, decode)
    _WRITERS[kind] = write
    return kind


# -- writing ---------------------------------------------------------------------------------------------------------

_INT_LOW: Final = -(1 << 63)
_INT_HIGH: Final = (1 << 64) - 1
_UNLIMITED: Final = frozenset({type(None), bool, float})
_ATOMS: Final = frozenset({type(None), bool, int, float, str, bytes})  # what MessagePack has, in values and keys

_Path: TypeAlias = "tuple[_Path | None, object]"


def _packed(value: object) -> Packed:
    if isinstance(value, Unknown) and value.whole:
        return _whole(value)
    try:
        if not _survey(value, None, 1):
            try:
                return Packed(b"\x01" + _pack(_plain_packers, None, value))
            except OverflowError:  # an int of more than 64 bits
                pass
        return Packed(b"\x02" + _pack(_rich_packers, _write, value))
    except EncodeError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # a lone surrogate is a ValueError
        raise EncodeError(f"a {value.__class__.__name__} cannot be encoded: {error}") from error


# A packer costs several times what it saves by being reused. One per call in progress, not one for all: a
# registered `encode` may store something itself, and another thread may pack meanwhile. `pop` is atomic.
_plain_packers: list[msgpack.Packer] = []
_rich_packers: list[msgpack.Packer] = []
_KEEP_BYTES: Final = 65_536  # a packer that has grown a larger buffer is dropped


def _pack(pool: list[msgpack.Packer], default: Callable[[object], object] | None, value: object) -> bytes:
    try:
        packer = pool.pop()
    except IndexError:
        packer = msgpack.Packer(strict_types=True, default=default)
    body: bytes = packer.pack(value)
    if len(body) <= _KEEP_BYTES:
        pool.append(packer)
    return body


def _survey(value: object, path: _Path | None, depth: int) -> bool:
    """Whether `value` needs the rich format. Raises for what has no encoding, naming its place.

    MessagePack alone would not do: it silently turns a bytearray or memoryview into bytes.
    """
    kind = type(value)
    parts: Iterable[tuple[object, object]]
    if kind is dict:
        rich = False
        if _ATOMS.issuperset(map(type, value)) and _ATOMS.issuperset(map(type, value.values())):  # type: ignore[attr-defined,call-overload]
            return rich
        parts = chain(((key, key) for key in value), value.items())  # type: ignore[attr-defined]
    elif kind is list or kind is tuple or kind is set or kind is frozenset:
        rich = kind is not list
        if _ATOMS.issuperset(map(type, value)):  # type: ignore[call-overload]
            return rich
        parts = enumerate(value)  # type: ignore[arg-type]
    elif kind in _ATOMS or kind in _WRITERS:
        return kind not in _ATOMS
    else:
        raise EncodeError(
            f"value{_place(path)} is a {_home(kind)}, which has no encoding: convert it, or register() its type"
        )
    if depth >= MAX_DEPTH:
        raise EncodeError(f"value{_place(path)} nests deeper than {MAX_DEPTH} levels, or contains itself")
    for step, part in parts:
        if type(part) not in _ATOMS and _survey(part, (path, step), depth + 1):
            rich = True
    return rich


def _place(path: _Path | None) -> str:
    steps = []
    while path is not None:
        path, step = path
        steps.append(f"[{step!r:.40}]")
    return "".join(steps[:-9:-1]) + "..." * (len(steps) > 8)


def _utf8(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise EncodeError(f"a str holds a lone surrogate, which UTF-8 lacks: {error}") from None


def _write(obj: object) -> object:
    """What MessagePack packs in place of an object that it lacks."""
    return _WRITERS[type(obj)](obj)


def _write_set(items: set[Any] | frozenset[Any]) -> list[Any]:
    """In an order that does not depend on the hash seed: the same value has the same bytes in every process."""
    kinds = {type(item) for item in items}
    return sorted(items, key=None if kinds in ({str}, {int}, {bytes}) else _order)


def _order(item: object) -> tuple[str, Any]:
    kind = item.__class__
    if kind is tuple:
        return "tuple", [_order(part) for part in item]  # type: ignore[attr-defined]
    if kind is frozenset:
        return "frozenset", sorted(map(_order, item))  # type: ignore[call-overload]
    pool, default = (_plain_packers, None) if kind in _ATOMS and kind is not int else (_rich_packers, _write)
    return kind.__qualname__, _pack(pool, default, item)


def _whole(unknown: Unknown) -> Packed:
    form, body = unknown.tag, unknown.payload
    if not isinstance(form, int) or not 0 <= form <= 255 or not isinstance(body, bytes):
        raise EncodeError(f"{unknown!r:.100} is no whole value: its tag is a byte and its payload bytes")
    return Packed(bytes((form,)) + body)


def _write_unknown(unknown: Unknown) -> object:
    if unknown.whole:
        raise EncodeError(f"an Unknown of format {unknown.tag!r} is a whole value and cannot stand inside another")
    if isinstance(unknown.tag, str):
        _survey(unknown.payload, None, 1)
        return [unknown.tag, unknown.payload, _NAMED_END]
    return msgpack.ExtType(unknown.tag, unknown.payload)


# -- reading ---------------------------------------------------------------------------------------------------------


_SMALL: Final = 256  # so few bytes cannot claim more than some 200 kB


class _Mark:
    """The last element of an array that stands for another container, made by `build`."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[[list[Any]], object]) -> None:
        self.build = build


class _Reader:
    """Decodes one rich value. `open_marks` counts those read and not yet at the end of an array."""

    __slots__ = ("open_marks",)

    def __init__(self) -> None:
        self.open_marks = 0

    def read(self, body: bytes) -> object:
        found = msgpack.unpackb(body, strict_map_key=False, ext_hook=self.extension, list_hook=self.array)
        if self.open_marks:
            raise EncodeError(f"a packed value holds {self.open_marks} marks that end no array")
        return found

    def extension(self, code: int, payload: bytes) -> object:
        mark = _MARKS.get(code)
        if mark is not None and not payload:
            self.open_marks += 1
            return mark
        reader = ATOM_READERS.get(code)
        return Unknown(code, payload) if reader is None else reader(payload)

    def array(self, items: list[Any]) -> object:
        if items and items[-1].__class__ is _Mark:
            self.open_marks -= 1
            return items.pop().build(items)
        return items


def _check_claims(body: bytes) -> None:
    """Raises where an array claims elements that do not follow; asked where a long array may begin.

    The decoder reserves 8 bytes for each claimed element, at up to 1,024 levels at once, before it sees that
    nothing follows: 5 kB of nested heads took 65 MB. Skipping reserves nothing and costs a sixth of decoding.
    """
    scanner = msgpack.Unpacker(max_buffer_size=len(body))
    scanner.feed(body)
    scanner.skip()


def _refuse_extension(code: int, payload: bytes) -> NoReturn:
    raise EncodeError(f"extension {code} of {len(payload)} bytes in a plain value")


def _read_named(items: list[Any]) -> object:
    name, plain = items
    if name.__class__ is not str:
        raise EncodeError(f"the name of a registered type is a {name.__class__.__name__}")
    known = _named.get(name)
    if known is None:
        return Unknown(name, plain)
    kind, rebuild = known
    try:
        return rebuild(plain)
    except Exception as error:
        raise EncodeError(f"the decode= registered for {name!r} ({kind.__name__}) failed: {error!r}") from error


# -- the types -------------------------------------------------------------------------------------------------------

_TUPLE, _SET, _FROZENSET, _NAMED = range(1, 5)
_TUPLE_END, _SET_END, _FROZENSET_END, _NAMED_END = (
    msgpack.ExtType(code, b"") for code in (_TUPLE, _SET, _FROZENSET, _NAMED)
)
_MARKS: Final = {_TUPLE: _Mark(tuple), _SET: _Mark(set), _FROZENSET: _Mark(frozenset), _NAMED: _Mark(_read_named)}

_WRITERS: Final[dict[type, Callable[[Any], object]]] = {
    tuple: lambda items: [*items, _TUPLE_END],
    set: lambda items: [*_write_set(items), _SET_END],
    frozenset: lambda items: [*_write_set(items), _FROZENSET_END],
    **ATOM_WRITERS,
    Unknown: _write_unknown,
}
_BUILT_IN: Final = frozenset({*_ATOMS, *_WRITERS, list, dict, Packed})

_named: dict[str, tuple[type, Callable[[Any], Any]]] = {}


def _home(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _codec_of(kind: type[Any]) -> tuple[Callable[[Any], object], Callable[[Any], Any]]:
    """How a dataclass or an enum is written and read when its owner says nothing."""
    if issubclass(kind, enum.Flag):
        return lambda member: member.value, kind
    if issubclass(kind, enum.Enum):
        return lambda member: member.name, lambda name: kind[name]
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind) if field.init]

        def rebuild(written: dict[str, object]) -> object:
            return kind(**{name: written[name] for name in names if name in written})

        return lambda obj: {name: getattr(obj, name) for name in names}, rebuild
    raise ConfigError(f"register({kind.__name__}): neither a dataclass nor an enum; give encode= and decode=")
