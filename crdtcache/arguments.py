"""What a user may write for a time, a size, or for "not given": read once at the door, whole numbers inside.

Times are seconds (a number), a `timedelta`, or text such as "90" and "1h30m"; sizes are bytes or text such as "256MB".
Inside the package a time is whole milliseconds and a size whole bytes, so no room below parses anything.

Decision: one unit outside for each (seconds, bytes), text for people. The refused alternative is a keyword per
unit, as `ex=`/`px=` of Redis: two names for one number, and a rule for when both are given.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, TypeAlias

__all__ = [
    "DEFAULT",
    "MISSING",
    "Default",
    "Missing",
    "Seconds",
    "byte_count",
    "milliseconds",
    "moment",
    "moment_ms",
    "span_ms",
]

Seconds: TypeAlias = "float | int | timedelta | str"


class _Sentinel(Enum):
    """Values that no user can store, so that a stored None stays a value. One member each, for type checkers."""

    def __repr__(self) -> str:
        return self.name

    def __bool__(self) -> bool:
        return False


class Missing(_Sentinel):
    """The type of MISSING."""

    MISSING = "MISSING"


class Default(_Sentinel):
    """The type of DEFAULT."""

    DEFAULT = "DEFAULT"


MISSING: Final = Missing.MISSING
"""What `get(key, MISSING)` returns for a key that is not here: the exact test where None may be stored."""
DEFAULT: Final = Default.DEFAULT
"""`ttl=DEFAULT`, the same as leaving it out: the node's own `ttl=`."""

MAX_MS = 1 << 53
"""The last Unix ms that an expiry may name: every language that reads the wire holds it exactly."""

_TIME_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
_MOST_BYTES = 1 << 62
_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])\s*", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII)


def milliseconds(time: object, name: str) -> int:
    """`time` in whole ms, rounded up, so that what is positive stays positive; zero and less pass unchanged.

    `name` is the argument's, for the message. Raises ValueError for text that is no time, for NaN and for
    what is beyond any calendar, and TypeError for another type: the caller's faults.
    """
    if time.__class__ is int:
        ms = time * 1_000
    elif isinstance(time, str):
        ms = _parse_time(time, name)
    elif isinstance(time, timedelta):
        whole, rest = divmod(time, timedelta(milliseconds=1))
        ms = whole + bool(rest)
    elif isinstance(time, (int, float)) and not isinstance(time, bool):
        if not -MAX_MS < time * 1_000 < MAX_MS:  # also refuses NaN
            raise ValueError(f"{name}={time!r}: not a time; {name}=None means never")
        # Rounded first: 1.1 * 1000 is 1100.0000000000002, which would become 1101.
        ms = -int(-round(time * 1_000, 6) // 1) or int(time > 0)
    else:
        raise TypeError(f"{name}={time!r}: a number of seconds, a timedelta, or text such as '1h30m'")
    if not -MAX_MS < ms < MAX_MS:
        raise ValueError(f"{name}={time!r}: beyond {MAX_MS // 1000} seconds; {name}=None means never")
    return ms


def span_ms(time: object, name: str) -> int:
    """As `milliseconds`, for a span that may be zero but not negative."""
    ms = milliseconds(time, name)
    if ms < 0:
        raise ValueError(f"{name}={time!r}: must not be negative")
    return ms


def _parse_time(text: str, name: str) -> int:
    total = 0.0
    at = 0
    stripped = text.strip().lower()
    if _SECONDS.fullmatch(stripped):  # as a variable or a command line has it
        stripped += "s"
    while at < len(stripped):
        part = _TIME.match(stripped, at)
        if part is None:
            break
        total += float(part[1]) * _TIME_UNITS[part[2]]
        at = part.end()
    if not stripped or at < len(stripped):
        raise ValueError(f"{name}={text!r}: not a time; write 90, '90s', '1h30m' or '250ms' (units: ms s m h d w)")
    return -int(-round(min(total, MAX_MS), 6) // 1)


def moment_ms(moment: object, name: str) -> int:
    """A point in time as Unix ms: an aware `datetime`, or Unix seconds.

    Raises ValueError for a naive `datetime`, which names different moments on different machines, and
    TypeError for another type: the caller's faults.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError(f"{name}={moment!r}: has no time zone; use datetime.now(timezone.utc) + ...")
        return milliseconds(moment.timestamp(), name)
    return milliseconds(moment, name)


def moment(ms: int) -> datetime:
    """Unix ms in UTC; beyond the year 9999, where a `ttl` may end and no `datetime` reaches, its last moment."""
    try:
        return datetime.fromtimestamp(ms / 1_000, UTC)
    except (ValueError, OverflowError, OSError):  # which of them depends on the system
        return datetime.max.replace(tzinfo=UTC)


def byte_count(size: object, name: str) -> int:
    """`size` in bytes: a whole number, or text such as "256MB" (10**6 each) or "256MiB" (2**20 each).

    Raises ValueError for text that is no size and for what is not positive, TypeError for another type.
    """
    if isinstance(size, int) and not isinstance(size, bool):
        count = size
    elif isinstance(size, str):
        part = _SIZE.fullmatch(size.strip().lower())
        if part is None or part[2] not in _SIZE_UNITS:
            raise ValueError(f"{name}={size!r}: not a size; write 1000000, '256MB' or '256MiB'")
        count = int(min(float(part[1]) * _SIZE_UNITS[part[2]], _MOST_BYTES))
    else:
        raise TypeError(f"{name}={size!r}: a whole number of bytes, or text such as '256MB'")
    if count <= 0:
        raise ValueError(f"{name}={size!r}: must be positive")
    return count
