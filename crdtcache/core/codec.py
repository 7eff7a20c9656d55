"""Messages to frames and back; every length is checked before it is trusted.

A frame is `[monotonic ms of the sender, message, message, ...]` in msgpack, a message `[type, field, ...]`.
Entries travel as columns (stamps in one `bin`, origins as a table with indices, leases only where they are
not the entry's own), which costs 10 bytes an entry beside key and value instead of about 60 as rows.

Decision: one door. `decode` takes foreign bytes and either returns messages made of checked types or raises
`FrameError`; behind it, anything unexpected is a bug of ours. Messages of an unknown type and fields beyond
the known ones are skipped; an entry never is: a state above those known is kept opaque, and what cannot be
parsed refuses the whole frame.

Above 400 lines because a second door, for some of the messages, would be one more to guard.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgpack

from crdtcache.core.digest import LEAF, apart
from crdtcache.core.entry import DEAD, GHOST, LIVE, Entry, Key, Packed, Value, Version, key_bytes
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
    MemberRow,
    Message,
    Nodes,
    Offer,
    Open,
    Probe,
    Pull,
    Ready,
    Receipt,
    Row,
    Slice,
    Statement,
    TooOld,
    Turn,
    Want,
)
from crdtcache.errors import CrdtCacheError

__all__ = ["FrameError", "Limits", "decode", "encode", "frame"]

_TYPES: tuple[type[Any], ...] = (
    *(Context, Slice, Pull, TooOld, Open, Ready, Busy, Offer, End, Answered, Gone),
    *(Equal, Nodes, List, Want, Turn),
    *(Claims, Probe, Heard, Receipt),
)
_CODES = {kind: code for code, kind in enumerate(_TYPES, 1)}
_EXT_PACKED, _EXT_REMOVED = 1, 2
_MAX64 = (1 << 64) - 1
_SMALL = 512
_version = struct.Struct(">QQ")
_pack: Callable[[object], bytes] = msgpack.Packer(autoreset=True).pack
_SCALARS = frozenset((str, bytes, int, float, bool, type(None)))


class FrameError(Exception):
    """Fault: the sender's. State: nothing of the frame was applied. Do: close the link with this reason."""


class Limits(NamedTuple):
    """What a receiver accepts: `key_bytes`, and `inline_bytes`, above which a value is kept as a ghost."""

    key_bytes: int
    inline_bytes: int


# ---- encoding -----------------------------------------------------------------------------------------------------


def frame(mono_ms: int, messages: Sequence[bytes]) -> bytes:
    """One frame around messages that `encode` made."""
    count = len(messages) + 1
    head = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return b"".join((head, _pack(mono_ms), *messages))


def encode(message: Message) -> bytes:
    """One message; the same bytes can go into the frames of many links."""
    code = _CODES[message.__class__]
    if message.__class__ is Slice:
        return _pack((code, *message[:6], *_encode_items(message.items), *_flags(message)))
    if message.__class__ is Offer or message.__class__ is List:
        keys = [key for key, _ in message.entries]
        return _pack((code, *message[:2], keys, _encode_entries([e for _, e in message.entries])))
    if message.__class__ is Nodes:
        return _pack((code, *message[:2], _column(array("Q", message.sums)), message.counts))
    return _pack((code, *message))


def _encode_items(items: list[Item]) -> tuple[object, ...]:
    # Most items were written once: then first, latest and the version are one stamp, and nothing is said.
    odd = [
        (i, item.first, item.latest, item.base_stamp, item.base_origin)
        for i, item in enumerate(items)
        if item.base_stamp or item.first != item.latest or item.latest != item.entry[0]
    ]
    return [item.key for item in items], _encode_entries([item.entry for item in items]), odd


def _encode_entries(entries: list[Entry]) -> tuple[object, ...]:
    table: dict[int, int] = {}
    makers, stamps, values = [], array("Q"), []
    expires, touched, states = array("Q"), [], bytearray()
    for i, (stamp, origin, touch, toucher, expire, state, value) in enumerate(entries):
        stamps.append(stamp)
        makers.append(table.setdefault(origin, len(table)))
        expires.append(expire)
        if touch != stamp or toucher != origin:
            touched.append((i, touch, toucher))
        states.append(min(state, 255))
        kind = value.__class__
        if kind is Packed:
            value = msgpack.ExtType(_EXT_PACKED, bytes(value))  # type: ignore[arg-type]
        elif kind is tuple:
            value = msgpack.ExtType(_EXT_REMOVED, _version.pack(*value))  # type: ignore[misc]
        values.append(value)
    return (
        list(table),
        None if len(table) < 2 else bytes(makers) if len(table) < 256 else makers,
        _column(stamps),
        _column(expires) if any(expires) else None,
        touched or None,
        bytes(states) if any(states) else None,
        values,
    )


def _column(numbers: array[int]) -> bytes:
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()


# ---- decoding -----------------------------------------------------------------------------------------------------


def decode(data: bytes, limits: Limits) -> tuple[int, list[Message], int]:
    """(sender's monotonic ms, messages, messages of unknown types skipped). Raises `FrameError` only.

    `data` is bounded by the link, and nothing is made before every length in it was compared with the bytes
    that are there: memory stays within a small multiple of it.
    """
    try:
        # Walked through before anything is made: an array's head reserves memory for what it announces, and
        # 5 kB of nested heads took 65 MB. What a small frame can hold of them takes less than 1 MB.
        if len(data) > _SMALL:
            walker = msgpack.Unpacker(max_buffer_size=len(data))
            walker.feed(data)
            walker.skip()
        parts = msgpack.unpackb(
            data,
            use_list=False,
            raw=False,
            strict_map_key=True,
            max_map_len=0,
            ext_hook=_extension,
            max_ext_len=len(data),
        )
    except FrameError:
        raise
    except Exception as error:  # noqa: BLE001 - msgpack raises a dozen kinds, all of them mean bad bytes
        raise FrameError(f"not msgpack: {type(error).__name__}: {error}"[:200]) from None
    if parts.__class__ is not tuple or not parts:
        raise FrameError("a frame is a list that begins with a time")
    mono_ms = _number(parts[0])
    messages: list[Message] = []
    skipped = 0
    for part in parts[1:]:
        if part.__class__ is not tuple or not part or part[0].__class__ is not int:
            raise FrameError("a message is a list that begins with its type")
        parse = _PARSERS.get(part[0])
        if parse is None:
            skipped += 1
            continue
        try:
            messages.append(parse(part, limits))
        except (IndexError, ValueError, TypeError) as error:
            raise FrameError(f"message {part[0]}: {error}"[:200]) from None
    return mono_ms, messages, skipped


def _extension(code: int, content: bytes) -> Value:
    if code == _EXT_PACKED:
        return Packed(content)
    if code == _EXT_REMOVED and len(content) == 16:
        return Version(*_version.unpack(content))
    raise FrameError(f"extension {code} of {len(content)} bytes")


def _number(value: object, most: int = _MAX64) -> int:
    if value.__class__ is not int:
        raise FrameError(f"a {type(value).__name__} where a number of 0..{most} is due")
    if not 0 <= value <= most:
        raise FrameError(f"{value} where a number of 0..{most} is due")
    return value


def _origin(value: object) -> int:
    if value == 0:  # nobody's: what is written in its name could not be passed on
        raise FrameError("an origin of 0")
    return _number(value)


def _text(value: object) -> str:
    if value.__class__ is not str or len(value) > 255:
        raise FrameError("a name is a str of at most 255 characters")
    return value


def _tuple(value: object) -> tuple[Any, ...]:
    if value.__class__ is not tuple:
        raise FrameError(f"a {type(value).__name__} where a list is due")
    return value


def _pair(value: object) -> tuple[int, int]:
    stamp, origin = _tuple(value)
    return _number(stamp), _number(origin)


def _rows(value: object) -> list[Row]:
    rows = [Row(_origin(o), _number(last), _number(now)) for o, last, now, *_ in _tuple(value)]
    for row in rows:
        if row.last > row.now:
            raise FrameError("a row whose last write lies after its now")
    return rows


def _key(key: object, limits: Limits) -> Key:
    """The key, if it is one for `key_bytes` as well; which need not look at a number or a short text."""
    kind = key.__class__
    if kind is int or (kind is str and len(key) * 4 < limits.key_bytes):  # type: ignore[arg-type]
        return key  # type: ignore[return-value]
    try:
        size = len(key_bytes(key))  # type: ignore[arg-type]
    except CrdtCacheError as error:
        raise FrameError(str(error)[:200]) from None
    if size > limits.key_bytes:
        raise FrameError(f"a key of {size} bytes, the limit is {limits.key_bytes}")
    return key  # type: ignore[return-value]


def _entries(keys: object, columns: object, limits: Limits) -> list[tuple[Key, Entry]]:
    table, makers, stamps, expires, touched, states, values, *_ = _tuple(columns)
    names = [_key(key, limits) for key in _tuple(keys)]
    count = len(names)
    origins = [_origin(origin) for origin in _tuple(table)]
    if len(frozenset(names)) != count:
        raise FrameError("a key that is named twice")
    makers = bytes(count) if makers is None else makers
    if not (len(makers) == len(_tuple(values)) == count) or (count and not origins):
        raise FrameError("columns of different lengths")
    versions = _numbers(stamps, count)
    if touched is states is expires is None and len(origins) == 1 and _plain(values, limits.inline_bytes):
        [origin] = origins  # as nearly all slices are
        if not any(makers):
            live = [(stamp, origin, stamp, origin, 0, LIVE, v) for stamp, v in zip(versions, values, strict=True)]
            return list(zip(names, live, strict=True))
    ends = _numbers(expires, count) if expires is not None else None
    if states is not None and (states.__class__ is not bytes or len(states) != count):
        raise FrameError("a state column of the wrong length")
    leases = {i: (_number(touch), _origin(toucher)) for i, touch, toucher in _tuple(touched)} if touched else {}
    entries: list[tuple[Key, Entry]] = []
    for i, key in enumerate(names):
        stamp, origin, value = versions[i], origins[_number(makers[i])], values[i]
        touch, toucher = leases.get(i, (stamp, origin)) if leases else (stamp, origin)
        state = states[i] if states is not None else LIVE
        kind = value.__class__
        if kind is Version:
            if state != DEAD:
                raise FrameError("a removed version where nothing is dead")
            value = (value.stamp, _origin(value.origin))
            if value >= (stamp, origin):
                raise FrameError("a removal of what was written after it")
        elif kind is not Packed and kind not in _SCALARS:
            raise FrameError(f"a {kind.__name__} as a value")
        elif state in (DEAD, GHOST):
            value = None
        elif (kind is str or kind is bytes or kind is Packed) and len(value) > limits.inline_bytes:
            state, value = GHOST, None  # more than this replica keeps: its version counts all the same
        entries.append((key, (stamp, origin, touch, toucher, ends[i] if ends is not None else 0, state, value)))
    return entries


def _plain(values: tuple[Any, ...], longest: int) -> bool:
    """Whether all are values as they are, and none is too long to keep."""
    for value in values:
        kind = value.__class__
        if kind not in _SCALARS or ((kind is str or kind is bytes) and len(value) > longest):
            return False
    return True


def _numbers(column: object, count: int) -> array[int]:
    if column.__class__ is not bytes or len(column) != 8 * count:
        raise FrameError(f"a column that is not {count} numbers")
    numbers = array("Q", column)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _parse_slice(part: tuple[Any, ...], limits: Limits) -> Slice:
    _, origin, lo, hi, last, mark, clears, keys, columns, odd, *more = part
    origin, lo, hi = _origin(origin), _number(lo), _number(hi)
    if lo > hi:
        raise FrameError("a slice that ends before it begins")
    stamps = _tuple(clears)
    if stamps and not (lo < min(map(_number, stamps)) and max(stamps) <= hi and sorted(stamps) == list(stamps)):
        raise FrameError("a clear outside its slice")
    # Of an item that was written once, first and latest are its version's stamp.
    items = [Item(entry[0], entry[0], 0, 0, key, entry) for key, entry in _entries(keys, columns, limits)]
    for i, *rest in _tuple(odd):
        first, latest, base_stamp, base_origin = map(_number, rest)
        if base_stamp:
            _origin(base_origin)
            if base_stamp >= latest:
                raise FrameError("a touch of what was written after it")
        items[_number(i)] = Item(first, latest, base_stamp, base_origin, *items[i][4:])
    for item in items:
        if not lo < item[0] <= item[1] <= hi:
            raise FrameError("an item outside its slice")
    entry, ack, *_ = *(flag is True for flag in more), False, False
    return Slice(origin, lo, hi, _number(last, hi), _pair(mark), stamps, items, entry, ack)


def _flags(part: Slice) -> tuple[bool, ...]:
    return (part.entry, part.ack) if part.ack else (True,) if part.entry else ()


@lru_cache(4_096)
def _member(row: object) -> MemberRow:
    # Everybody names the same ones, again and again: they are checked, and kept, once.
    origin, born, name, region, zone, address, down_ms, *_ = _tuple(row)
    texts = _text(name), _text(region), _text(zone), _text(address)
    return MemberRow(_number(origin), _number(born), *texts, _number(down_ms))


def _parse_context(part: tuple[Any, ...], _: Limits) -> Context:
    members = [_member(row) for row in _tuple(part[4])]
    return Context(_rows(part[1]), _number(part[2]), _pair(part[3]), members, *map(_number, part[5:10]))


def _parse_gone(part: tuple[Any, ...], limits: Limits) -> Gone:
    return Gone([(_key(key, limits), _number(stamp), _number(origin)) for key, stamp, origin in _tuple(part[1])])


def _parse_offer(part: tuple[Any, ...], limits: Limits) -> Offer:
    return Offer(_number(part[1]), _number(part[2]), _entries(part[3], part[4], limits))


def _parse_open(part: tuple[Any, ...], __: Limits) -> Open:
    _, session, lasts, slowest_ms, mark, root, size, *_ = part
    return Open(_number(session), _number(lasts), _number(slowest_ms), _pair(mark), _number(root), _number(size))


def _parse_ready(part: tuple[Any, ...], __: Limits) -> Ready:
    _, session, rows, slowest_ms, mark, size, adopts, prune_mark, *_ = part
    return Ready(
        _number(session),
        _rows(rows),
        _number(slowest_ms),
        _pair(mark),
        _number(size),
        _every(_number, adopts),
        _number(prune_mark),
    )


def _parse_nodes(part: tuple[Any, ...], __: Limits) -> Nodes:
    _, session, nodes, sums, counts, *_ = part
    nodes, counts = _nodes(nodes), _every(_number, counts)
    if len(counts) not in (16 * len(nodes), 256 * len(nodes)) or any(
        len(counts) // len(nodes) * n >= 2 * LEAF for n in nodes
    ):
        raise FrameError(f"{len(counts)} children of {len(nodes)} nodes")
    return Nodes(_number(session), nodes, tuple(_numbers(sums, len(counts))), counts)


def _parse_list(part: tuple[Any, ...], limits: Limits) -> List:
    return List(_number(part[1]), _nodes(part[2]), _entries(part[3], part[4], limits))


def _parse_want(part: tuple[Any, ...], limits: Limits) -> Want:
    return Want(_number(part[1]), [_key(key, limits) for key in _tuple(part[2])])


def _parse_claims(part: tuple[Any, ...], __: Limits) -> Claims:
    return Claims(
        [
            Statement(_number(origin), _number(born), _number(incarnation), _number(standing), witness is True)
            for origin, born, incarnation, standing, witness, *_ in _tuple(part[1])
        ]
    )


def _nodes(values: object) -> tuple[int, ...]:
    nodes = _every(_number, values)
    if not apart(nodes):
        raise FrameError("nodes that are not of the digest, named twice, or within each other")
    return nodes


def _every(parse: Callable[[object], int], values: object) -> tuple[int, ...]:
    return tuple(parse(value) for value in _tuple(values))


_PARSERS: dict[int, Callable[[tuple[Any, ...], Limits], Message]] = {
    _CODES[Context]: _parse_context,
    _CODES[Slice]: _parse_slice,
    _CODES[Offer]: _parse_offer,
    _CODES[Open]: _parse_open,
    _CODES[Ready]: _parse_ready,
    _CODES[Gone]: _parse_gone,
    _CODES[Pull]: lambda part, _: Pull(_number(part[1]), _number(part[2])),
    _CODES[TooOld]: lambda part, _: TooOld(_number(part[1]), _number(part[2])),
    _CODES[Busy]: lambda part, _: Busy(_number(part[1]), _number(part[2], 3_600_000)),
    _CODES[End]: lambda part, _: End(_number(part[1]), _number(part[2]), part[3] is True),
    _CODES[Answered]: lambda part, _: Answered(_number(part[1]), _number(part[2]), part[3] is True),
    _CODES[Equal]: lambda part, _: Equal(_number(part[1])),
    _CODES[Nodes]: _parse_nodes,
    _CODES[List]: _parse_list,
    _CODES[Want]: _parse_want,
    _CODES[Claims]: _parse_claims,
    _CODES[Probe]: lambda part, _: Probe(_number(part[1])),
    _CODES[Receipt]: lambda part, _: Receipt(_number(part[1]), _number(part[2]), _number(part[3])),
    _CODES[Heard]: lambda part, _: Heard(_number(part[1]), _number(part[2])),
    _CODES[Turn]: lambda part, _: Turn(_number(part[1]), _nodes(part[2]), part[3] is True),
}
