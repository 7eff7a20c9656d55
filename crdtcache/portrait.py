"""What a node looks like from outside: one line, a table, everything as JSON, and a sentence about a key.

Decision: pictures are made from what the replica says under the lock, by functions that change nothing, so that
looking at a node can never be what broke it.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, NamedTuple

from crdtcache.core.clock import stamp_ms
from crdtcache.core.correction import Correction
from crdtcache.core.entry import DEAD, EXPIRES, GHOST, STATE, Entry, Version, version_of
from crdtcache.core.replica import Peer

__all__ = ["Region", "page", "portrait", "regions_of", "sentence", "summary"]


class Region(NamedTuple):
    """The peers of one region; the node itself is none of them. `lag_ms`: the greatest of a connected one, or None."""

    peers: int
    connected: int
    lag_ms: int | None


def _worst(peers: list[Peer]) -> int | None:
    return max((peer.lag_ms for peer in peers if peer.connected and peer.lag_ms is not None), default=None)


def regions_of(own: str, peers: list[Peer]) -> dict[str, Region]:
    """Every region that is known, the own one first."""
    names = dict.fromkeys([own, *sorted(peer.region for peer in peers)])
    regions = {}
    for name in names:
        there = [peer for peer in peers if peer.region == name]
        regions[name] = Region(len(there), sum(peer.connected for peer in there), _worst(there))
    return regions


def summary(name: str, cluster: str, region: str, state: str, peers: list[Peer], keys: int) -> str:
    """`<Node web-1 shop/eu running 6 peers 48201 keys lag 2 ms>`."""
    up = sum(peer.connected for peer in peers)
    lag = _worst(peers)
    counts = f"{up} {'peer' if up == 1 else 'peers'} {keys} {'key' if keys == 1 else 'keys'}"
    return f"<Node {name} {cluster}/{region} {state} {counts}{'' if lag is None else f' lag {lag} ms'}>"


def portrait(
    *,
    name: str,
    origin: int,
    generation: int,
    state: str,
    mode: str | None,
    address: str,
    advertise: str,
    conditions: list[str],
    clock: Correction,
    settings: dict[str, Any],
    peers: list[Peer],
    digest: int,
    stats: dict[str, int],
    ready: bool,
) -> dict[str, Any]:
    """Everything, as JSON types only; numbers of 64 bits as hex digits, which every reader keeps whole."""
    return {
        "name": name,
        "cluster": settings["cluster"],
        "region": settings["region"],
        "zone": settings["zone"],
        "origin": f"{origin:016x}",
        "generation": generation,
        "state": state,
        "ready": ready,
        "mode": mode,
        "address": address,
        "advertise": advertise,
        "conditions": conditions,
        "clock": {"corrected_by_ms": clock.ms, "suspect": clock.reason},
        "keys": stats["live"],
        "bytes": stats["bytes"],
        "digest": f"{digest:016x}",
        "peers": [{**peer._asdict(), "origin": f"{peer.origin:016x}"} for peer in peers],
        "regions": {region: found._asdict() for region, found in regions_of(settings["region"], peers).items()},
        "stats": stats,
        "settings": settings,
    }


def sentence(
    key: object,
    entry: Entry | None,
    mark: Version,
    seen: int,
    peers: list[Peer],
    *,
    own: int,
    evicted: int,
    unreadable: str,
    now_ms: int,
) -> str:
    """Why `key` is here, or is not. `mark`: the last clear; `seen`: by so many of `peers`; `own`: this node's origin.

    `evicted`: so many values were, here; `unreadable`: why this one is, if it is.
    """

    def written(version: tuple[int, int]) -> str:
        known = {peer.origin: f"{peer.name} in {peer.region}" for peer in peers} | {own: "this node"}
        by = known.get(version[1], f"a node that is gone ({version[1]:016x})")
        return f"{_span(now_ms - stamp_ms(version[0]))} ago by {by}"

    up = sum(peer.connected for peer in peers)
    away = sum(peer.standing in ("alive", "suspect") for peer in peers if not peer.connected)
    if entry is None:
        causes = ["never written", "deleted so long ago that it is forgotten"]
        if mark[0]:
            causes.append(f"cleared with all else {written(mark)}")
        if evicted:
            causes.append("evicted here before anybody else had it")
        if away or (peers and not up):
            causes.append(f"written where it is not heard of ({f'{away} not' if up else 'no peer is'} connected)")
        return f"{key!r} is not here: nothing is known of it; {', or '.join(causes)}"
    version = version_of(entry)
    others = f"seen by {seen} of {up + away} peers" if up else "no peer is connected"
    if up and away:
        others += f" ({away} not connected)"
    ago = now_ms - entry[EXPIRES]
    if version <= mark:
        return f"{key!r} is not here: all was cleared {written(mark)}"
    if entry[STATE] == DEAD and not entry[EXPIRES]:
        return f"{key!r} is not here: deleted {written(version)}, {others}"
    if entry[EXPIRES] and ago >= 0:
        return f"{key!r} is not here: expired {_span(ago)} ago, written {written(version)}"
    expires = f"expires in {_span(-ago)}" if entry[EXPIRES] else "never expires"
    where = f"is here but cannot be read ({unreadable})" if unreadable else "is here"
    if entry[STATE] == GHOST:
        here = "" if version.origin == own else ", here or before it was sent" if evicted else " before it was sent"
        where = f"is not in this memory (evicted{here})"
    return f"{key!r} {where}: written {written(version)}, {expires}, {others}, version {version}"


def _span(ms: int) -> str:
    """As people say it: "12 s"."""
    if ms < 0:
        return f"-{_span(-ms)}"
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if ms >= 2 * size or (unit == "s" and ms >= size):
            return f"{ms / size:.0f} {unit}"
    return f"{ms} ms"


def page(status: Mapping[str, Any]) -> str:
    """A small table for notebooks, made of what `portrait` returns."""

    def row(*cells: object, tag: str = "td") -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    head = f"{status['name']}: {status['cluster']}/{status['region']}, {status['state']}, {status['keys']} keys"
    rows = [row("peer", "region", "connected", "lag", "address", tag="th")]
    for peer in status["peers"]:
        lag = "" if peer["lag_ms"] is None else f"{peer['lag_ms']} ms"
        rows.append(row(peer["name"], peer["region"], "yes" if peer["connected"] else "no", lag, peer["address"]))
    wrong = "".join(f"<li>{escape(line)}</li>" for line in status["conditions"])
    return f"<b>{escape(head)}</b><table>{''.join(rows)}</table>" + (f"<ul>{wrong}</ul>" if wrong else "")
