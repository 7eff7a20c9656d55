"""A topology and its troubles in a TOML file, for whoever wants to see their own cluster in the simulator.

    [cluster]                       [workload]               [[fault]]
    nodes = 6                       rate = 20                kind = "cut"
    rtt = "pings.csv"               keys = 50                at = "10s"
    maxsize = 1000                  seconds = 40             for = "15s"
    [tuning]                        put = 50                 between = [[0, 1], [2, 3, 4, 5]]
    gc_hold_ms = 60_000             delete = 10              amount = 0

Every table may be left out. A mistake is answered with its line, its field, and what is allowed there.

Decision: the file becomes a `Plan` like any other, so that it is run, replayed and shrunk by the same tools.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from crdtcache.tuning import Tuning
from sim import workload
from sim.faults import KINDS, between
from sim.network import read_matrix
from sim.plan import Fault, Plan, PlanError
from sim.scenarios.making import make

__all__ = ["read_toml"]

_INTEGERS = {field.name: field.type in (int, "int") for field in fields(Tuning)}
_MIX = (*workload.MIX, "clear_local")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m)")
_MOST_OPERATIONS = 5_000_000


class _Field(NamedTuple):
    what: str  # what is allowed, for the message
    check: Callable[[Any], bool]


def _whole(least: int, most: int) -> _Field:
    return _Field(f"a whole number of {least}..{most}", lambda v: type(v) is int and least <= v <= most)


def _number(what: str, least: float, most: float) -> _Field:
    return _Field(what, lambda v: type(v) in (int, float) and least <= v <= most)


def _either(field: _Field) -> _Field:
    """The same range on both sides of 0, which itself says nothing."""
    return _Field(f"{field.what}, or the same below 0", lambda v: type(v) is int and field.check(abs(v)))


_TIME = _Field('a time such as "500ms", "10s" or "2m"', lambda v: isinstance(v, str) and bool(_DURATION.fullmatch(v)))
_NODES = _Field("a list of node numbers", lambda v: isinstance(v, list) and bool(v) and all(type(n) is int for n in v))
_SIDES = _Field(
    "a list of two lists of node numbers", lambda v: isinstance(v, list) and len(v) == 2 and all(map(_NODES.check, v))
)
_DAY_MS = 86_400_000
_AMOUNTS = {
    "delay": _whole(1, 60_000),
    "loss": _whole(1, 999_999),
    "bandwidth": _whole(1, 10**9),
    "slow": _whole(1, 10**6),
    "memory": _whole(1, 10**9),
    "step": _either(_whole(1, 400 * _DAY_MS)),
    "jump": _either(_whole(1, 400 * _DAY_MS)),
    "rogue": _either(_whole(1, 400 * _DAY_MS)),
    "wrong": _either(_whole(1, 400 * _DAY_MS)),
    "drift": _either(_whole(1, 10**6)),
}
"""What `amount` may be, of the kinds that have one; `KINDS` says what it means."""
_BY_PAIR = ("cut", "delay", "loss", "bandwidth", "reset", "swallow")
_AT_ONCE = ("reset", "swallow", "leave", "jump")
_TABLES: dict[str, dict[str, _Field]] = {
    "cluster": {
        "nodes": _whole(1, 1_000),
        "rtt": _Field("the path of a CSV file of round trips in ms", lambda v: isinstance(v, str)),
        "maxsize": _whole(1, 10**9),
        "max_bytes": _whole(1, 10**12),
    },
    "workload": {
        "rate": _whole(1, 100_000),
        "keys": _whole(1, 10**6),
        "seconds": _whole(5, 36_000),
        "ttl_ms": _whole(10, 10**9),
        "skew": _number("a number of 0..3", 0, 3),
        **{kind: _whole(0, 1_000_000) for kind in _MIX},
    },
    "tuning": {
        name: _whole(1, 10**15) if integer else _number("a number above 0", 1e-9, 1e15)
        for name, integer in sorted(_INTEGERS.items())
    },
    "fault": {
        "kind": _Field("one of " + ", ".join(KINDS), lambda v: isinstance(v, str) and v in KINDS),
        "at": _TIME,
        "for": _TIME,
        "nodes": _NODES,
        "between": _SIDES,
        "amount": _Field("a whole number", lambda v: type(v) is int),
    },
}


def read_toml(path: Path, seed: int = 0) -> Plan:
    """The plan in a file. Raises `PlanError`, the caller's fault, naming line, field and what is allowed there."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise PlanError(f"{path}: byte {error.start} is not UTF-8, and TOML is") from None
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path}: {error}") from None
    file = _File(path, text)
    for name, table in raw.items():
        file.check(name, table)
    return _plan(file, raw, seed)


class _File:
    """The text, for the lines of mistakes."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._lines = text.splitlines()

    def check(self, name: str, table: Any) -> None:
        """Every field by itself."""
        if name not in _TABLES:
            raise self.mistake(name, 0, None, f"no table {name!r}; there are {', '.join(_TABLES)}")
        many = name == "fault"
        tables = table if isinstance(table, list) else [table]
        if isinstance(table, list) is not many or not all(isinstance(each, dict) for each in tables):
            due = f"[[{name}]]" if many else f"[{name}]"
            raise self.mistake(name, 0, None, f"a table is due that is written {due}")
        for index, each in enumerate(tables):
            for key, value in each.items():
                allowed = _TABLES[name].get(key)
                if allowed is None:
                    raise self.mistake(name, index, key, f"no field {key!r}; there are {', '.join(_TABLES[name])}")
                if not allowed.check(value):
                    raise self.mistake(name, index, key, f"{key} = {value!r}: {allowed.what} is due")

    def mistake(self, table: str, index: int, key: str | None, text: str) -> PlanError:
        """The error, with the line on which the field stands, or else its table."""
        seen, at, inside = -1, 0, False
        for number, line in enumerate(self._lines, 1):
            head = re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]\]?", line)
            if head:
                seen += head[1] == table
                inside = head[1] == table and seen == index
                at = number if inside else at
            elif key is not None and inside and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
                at = number
                break
            elif not at and seen < 0 and re.match(rf"\s*{re.escape(table)}\s*[.=]", line):
                at = number  # written as `table.key =` or `table = {...}`
        return PlanError(f"{self.path}, line {at or 1}, [{table}]: {text}")


def _plan(file: _File, raw: dict[str, Any], seed: int) -> Plan:
    cluster, work, tuning = raw.get("cluster", {}), raw.get("workload", {}), raw.get("tuning", {})
    nodes = cluster.get("nodes", 5)
    regions, matrix = 1, None
    if "rtt" in cluster:
        try:
            names, rows = read_matrix(file.path.parent / cluster["rtt"])
        except (OSError, ValueError) as error:
            raise file.mistake("cluster", 0, "rtt", str(error)) from None
        regions, matrix = len(names), tuple(tuple(row) for row in rows)
    limits = {name: cluster[name] for name in ("maxsize", "max_bytes") if name in cluster}
    mix = {kind: work[kind] for kind in _MIX if kind in work} or dict(workload.MIX)
    if not sum(mix.values()):
        raise file.mistake("workload", 0, None, "no operation has a weight above 0")
    seconds, rate = work.get("seconds", 30), work.get("rate", 20)
    if rate * seconds > _MOST_OPERATIONS:
        text = f"rate x seconds is {rate * seconds} operations; at most {_MOST_OPERATIONS} are allowed"
        raise file.mistake("workload", 0, "rate", text)
    ttl = work.get("ttl_ms", 8_000)
    plan = make(
        file.path.stem,
        seed,
        nodes=nodes,
        calm_ms=1_000 * seconds,
        faults=[_fault(file, i, table, nodes, 1_000 * seconds) for i, table in enumerate(raw.get("fault", []))],
        count=rate * seconds,
        keys=work.get("keys", 50),
        skew=work.get("skew", 0.8),
        mix=mix,
        ttl_ms=(max(1, ttl // 16), ttl),
        machines=dict.fromkeys(range(nodes), limits),
        regions=regions,
    ).but(tuning=tuning)
    try:
        tuned = plan.tuned()
    except PlanError as error:
        named = [name for name in re.findall(r"\w+", str(error)) if name in tuning]
        raise file.mistake("tuning", 0, named[0] if named else None, str(error)) from None
    if matrix is None:
        return plan
    longest = max(map(max, matrix))
    if longest >= tuned.dial_timeout_ms:
        text = f"a round trip of {longest:g} ms; it must be below dial_timeout_ms = {tuned.dial_timeout_ms} of [tuning]"
        raise file.mistake("cluster", 0, "rtt", text)
    return plan.but(matrix_ms=matrix)


def _fault(file: _File, index: int, table: dict[str, Any], count: int, end_ms: int) -> Fault:
    """Fields that go together: who, how long and how much, as its kind has it."""

    def mistake(field: str | None, text: str) -> PlanError:
        return file.mistake("fault", index, field, text)

    def needs(name: str, what: str = "") -> None:
        if name not in table:
            raise mistake(None, f"{name!r} is missing: {what or _TABLES['fault'][name].what}")

    needs("kind")
    needs("at")
    kind = table["kind"]
    meaning = f"{kind!r}: {KINDS[kind]}"
    where, other = ("between", "nodes") if kind in _BY_PAIR else ("nodes", "between")
    unfit = [other] + ["for"] * (kind in _AT_ONCE) + ["amount"] * (kind not in _AMOUNTS)
    for name in unfit:
        if name in table:
            raise mistake(name, f"{kind!r} has no {name!r}; {meaning}")
    needs(where)
    pairs = _pairs(table, count, lambda text: mistake(where, text))
    if kind not in _AT_ONCE:
        needs("for")
    if kind in _AMOUNTS:
        allowed = _AMOUNTS[kind]
        needs("amount", f"{allowed.what}; {meaning}")
        if not allowed.check(table["amount"]):
            raise mistake("amount", f"amount = {table['amount']}: {allowed.what} is due; {meaning}")
    start = _ms(table["at"])
    end = start + _ms(table.get("for", "0s"))
    if end > end_ms:
        text = f"the fault ends at {end} ms, after the {end_ms} ms of seconds in [workload]"
        raise mistake("for" if "for" in table else "at", text)
    return Fault(kind, start, end, tuple(table.get("nodes", [])), pairs, table.get("amount", 0))


def _pairs(table: dict[str, Any], count: int, mistake: Callable[[str], PlanError]) -> tuple[tuple[int, int], ...]:
    left, right = table.get("between", [[], []])
    for number in (*table.get("nodes", []), *left, *right):
        if not 0 <= number < count:
            raise mistake(f"no node {number}; there are 0..{count - 1}")
    both = sorted(set(left) & set(right))
    if both:
        raise mistake(f"node {both[0]} is on both sides")
    return between(left, right)


def _ms(text: str) -> int:
    found = _DURATION.fullmatch(text)
    assert found, "checked before"
    return round(float(found[1]) * {"ms": 1, "s": 1_000, "m": 60_000}[found[2]])
