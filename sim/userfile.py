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

_TUNING = {field.name for field in fields(Tuning)}
_MIX = (*workload.MIX, "clear_local")
_BY_PAIR = ("cut", "delay", "loss", "bandwidth", "reset", "swallow")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m)")


class _Field(NamedTuple):
    what: str  # what is allowed, for the message
    check: Callable[[Any], bool]


def _whole(least: int, most: int) -> _Field:
    return _Field(f"a whole number of {least}..{most}", lambda v: type(v) is int and least <= v <= most)


_TIME = _Field('a time such as "500ms", "10s" or "2m"', lambda v: isinstance(v, str) and bool(_DURATION.fullmatch(v)))
_NODES = _Field("a list of node numbers", lambda v: isinstance(v, list) and all(type(n) is int for n in v))
_SIDES = _Field(
    "a list of two lists of node numbers", lambda v: isinstance(v, list) and len(v) == 2 and all(map(_NODES.check, v))
)
_TABLES: dict[str, dict[str, _Field]] = {
    "cluster": {
        "nodes": _whole(1, 1_000),
        "rtt": _Field("the path of a CSV file of round trips in ms", lambda v: isinstance(v, str)),
        "maxsize": _whole(1, 10**9),
        "max_bytes": _whole(1, 10**12),
    },
    "workload": {
        "rate": _whole(1, 100_000),
        "keys": _whole(1, 10**7),
        "seconds": _whole(5, 36_000),
        "ttl_ms": _whole(10, 10**9),
        "skew": _Field("a number of 0..3", lambda v: isinstance(v, int | float) and 0 <= v <= 3),
        **{kind: _whole(0, 1_000_000) for kind in _MIX},
    },
    "tuning": {
        name: _Field("a number above 0", lambda v: isinstance(v, int | float) and v > 0) for name in sorted(_TUNING)
    },
    "fault": {
        "kind": _Field("one of " + ", ".join(KINDS), lambda v: v in KINDS),
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
        text = path.read_text()
        raw = tomllib.loads(text)
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path}: {error}") from None
    file = _File(path, text)
    for name, table in raw.items():
        if name not in _TABLES:
            raise file.mistake(name, 0, None, f"no table {name!r}; there are {', '.join(_TABLES)}")
        file.check(name, table)
    return _plan(file, raw, seed)


class _File:
    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._lines = text.splitlines()

    def check(self, name: str, table: Any) -> None:
        tables = table if name == "fault" and isinstance(table, list) else [table]
        for index, each in enumerate(tables):
            if not isinstance(each, dict):
                raise self.mistake(name, index, None, f"{name!r} is a table: [{name}]")
            for key, value in each.items():
                allowed = _TABLES[name].get(key)
                if allowed is None:
                    raise self.mistake(name, index, key, f"no field {key!r}; there are {', '.join(_TABLES[name])}")
                if not allowed.check(value):
                    raise self.mistake(name, index, key, f"{key} = {value!r}: {allowed.what} is due")

    def mistake(self, table: str, index: int, key: str | None, text: str) -> PlanError:
        """The error, with the line on which the field (or else its table) stands."""
        seen, at = -1, 1
        for number, line in enumerate(self._lines, 1):
            head = re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]\]?", line)
            if head:
                seen += head[1] == table
                inside = head[1] == table and seen == index
                at = number if inside else at
            elif key is not None and seen == index and re.match(rf"\s*{re.escape(key)}\s*=", line):
                at = number
                break
        return PlanError(f"{self.path}, line {at}, [{table}]: {text}")


def _plan(file: _File, raw: dict[str, Any], seed: int) -> Plan:
    cluster, work = raw.get("cluster", {}), raw.get("workload", {})
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
    seconds = work.get("seconds", 30)
    ttl = work.get("ttl_ms", 8_000)
    plan = make(
        file.path.stem,
        seed,
        nodes=nodes,
        calm_ms=1_000 * seconds,
        faults=[_fault(file, i, table, nodes) for i, table in enumerate(raw.get("fault", []))],
        count=work.get("rate", 20) * seconds,
        keys=work.get("keys", 50),
        skew=work.get("skew", 0.8),
        mix=mix,
        ttl_ms=(max(1, ttl // 16), ttl),
        machines=dict.fromkeys(range(nodes), limits),
        regions=regions,
    ).but(tuning=raw.get("tuning", {}))
    plan.tuned()
    return plan.but(matrix_ms=matrix) if matrix is not None else plan


def _fault(file: _File, index: int, table: dict[str, Any], count: int) -> Fault:
    for name in ("kind", "at"):
        if name not in table:
            raise file.mistake("fault", index, None, f"{name!r} is missing: {_TABLES['fault'][name].what}")
    kind = table["kind"]
    where = "between" if kind in _BY_PAIR else "nodes"
    if where not in table:
        raise file.mistake("fault", index, None, f"{where!r} is missing: {_TABLES['fault'][where].what}")
    sides = table.get("between", [[], []])
    for number in (*table.get("nodes", []), *sides[0], *sides[1]):
        if not 0 <= number < count:
            raise file.mistake("fault", index, where, f"no node {number}; there are 0..{count - 1}")
    start = _ms(table["at"])
    end = start + _ms(table["for"]) if "for" in table else start
    return Fault(kind, start, end, tuple(table.get("nodes", [])), between(*sides), table.get("amount", 0))


def _ms(text: str) -> int:
    found = _DURATION.fullmatch(text)
    assert found, "checked before"
    return round(float(found[1]) * {"ms": 1, "s": 1_000, "m": 60_000}[found[2]])
