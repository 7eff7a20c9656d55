"""The atoms that MessagePack lacks, each as an extension with a payload: written and read here, side by side.

Decision: fixed binary fields and UTF-8 text instead of each type's `str()`: smaller, exact (`fold`, the offset's
microseconds, a NaN's payload in a Decimal all survive), and independent of the Python that reads them. A time
zone is a fixed offset or an IANA key; anything else is refused, because its meaning lives in somebody's code.
The codes are the format: never given to another type.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Final

from msgpack import ExtType

from crdtcache.errors import EncodeError

__all__ = ["ATOM_READERS", "ATOM_WRITERS"]

_BIG_INT, _DECIMAL, _DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _COMPLEX = range(16, 24)

_DATETIME_FIELDS: Final = struct.Struct(">HBBBBBIB")
_DATE_FIELDS: Final = struct.Struct(">HBB")
_TIME_FIELDS: Final = struct.Struct(">BBBIB")
_TIMEDELTA_FIELDS: Final = struct.Struct(">iii")
_COMPLEX_FIELDS: Final = struct.Struct(">dd")
_OFFSET: Final = struct.Struct(">q")
_MICROSECOND: Final = timedelta(microseconds=1)


def _write_big_int(number: int) -> ExtType:
    return ExtType(_BIG_INT, number.to_bytes(number.bit_length() // 8 + 1, signed=True))


def _write_decimal(number: Decimal) -> ExtType:
    return ExtType(_DECIMAL, str(number).encode())


def _write_datetime(at: datetime) -> ExtType:
    fields = (at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond, at.fold)
    return ExtType(_DATETIME, _DATETIME_FIELDS.pack(*fields) + _write_zone(at.tzinfo))


def _read_datetime(payload: bytes) -> datetime:
    year, month, day, hour, minute, second, microsecond, fold = _DATETIME_FIELDS.unpack_from(payload)
    zone = _read_zone(payload[_DATETIME_FIELDS.size :])
    return datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def _write_date(day: date) -> ExtType:
    return ExtType(_DATE, _DATE_FIELDS.pack(day.year, day.month, day.day))


def _write_time(at: time) -> ExtType:
    fields = (at.hour, at.minute, at.second, at.microsecond, at.fold)
    return ExtType(_TIME, _TIME_FIELDS.pack(*fields) + _write_zone(at.tzinfo))


def _read_time(payload: bytes) -> time:
    hour, minute, second, microsecond, fold = _TIME_FIELDS.unpack_from(payload)
    return time(hour, minute, second, microsecond, _read_zone(payload[_TIME_FIELDS.size :]), fold=fold)


def _write_timedelta(span: timedelta) -> ExtType:
    return ExtType(_TIMEDELTA, _TIMEDELTA_FIELDS.pack(span.days, span.seconds, span.microseconds))


def _write_uuid(identity: uuid.UUID) -> ExtType:
    return ExtType(_UUID, identity.bytes)


def _write_complex(number: complex) -> ExtType:
    return ExtType(_COMPLEX, _COMPLEX_FIELDS.pack(number.real, number.imag))


def _write_zone(zone: tzinfo | None) -> bytes:
    """Nothing for none; "f", an offset in microseconds and a name if it has one; or "z" and an IANA key."""
    if zone is None:
        return b""
    if zone.__class__ is timezone:
        offset = zone.utcoffset(None)
        assert offset is not None, "a datetime.timezone has an offset"
        name = zone.tzname(None) or ""
        if name == timezone(offset).tzname(None):
            name = ""
        return b"f" + _OFFSET.pack(offset // _MICROSECOND) + name.encode()
    import zoneinfo  # not for nodes whose values have no zones

    key = zone.key if isinstance(zone, zoneinfo.ZoneInfo) else None
    if not key:
        raise EncodeError(f"the time zone {zone!r} has no encoding: use datetime.timezone or zoneinfo.ZoneInfo(key)")
    return b"z" + key.encode()


def _read_zone(written: bytes) -> tzinfo | None:
    if not written:
        return None
    if written[:1] == b"f":
        offset: timedelta = _OFFSET.unpack_from(written, 1)[0] * _MICROSECOND
        name = written[1 + _OFFSET.size :].decode()
        return timezone(offset, name) if name else timezone(offset)
    if written[:1] != b"z":
        raise EncodeError(f"a time zone written as {written[:1]!r}: 'f' and 'z' are known")
    import zoneinfo

    key = written[1:].decode()
    try:
        return zoneinfo.ZoneInfo(key)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise EncodeError(f"the time zone {key!r} is not known on this host; install tzdata ({error})") from error


ATOM_WRITERS: Final[dict[type, Callable[[Any], ExtType]]] = {
    int: _write_big_int,  # MessagePack asks only for what is beyond 64 bits
    Decimal: _write_decimal,
    datetime: _write_datetime,
    date: _write_date,
    time: _write_time,
    timedelta: _write_timedelta,
    uuid.UUID: _write_uuid,
    complex: _write_complex,
}
"""Exact type -> its extension."""

ATOM_READERS: Final[dict[int, Callable[[bytes], object]]] = {
    _BIG_INT: lambda payload: int.from_bytes(payload, signed=True),
    _DECIMAL: lambda payload: Decimal(payload.decode("ascii")),
    _DATETIME: _read_datetime,
    _DATE: lambda payload: date(*_DATE_FIELDS.unpack(payload)),
    _TIME: _read_time,
    _TIMEDELTA: lambda payload: timedelta(*_TIMEDELTA_FIELDS.unpack(payload)),
    _UUID: lambda payload: uuid.UUID(bytes=payload),
    _COMPLEX: lambda payload: complex(*_COMPLEX_FIELDS.unpack(payload)),
}
"""Extension code -> what makes the atom of its payload; raises anything for a payload that it did not write."""
