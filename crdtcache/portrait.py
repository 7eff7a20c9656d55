"""What a node looks like from outside: one line, a table of regions, and everything as JSON.

Decision: pictures are made from what the replica says under the lock, by functions that change nothing, so that
looking at a node can never be what broke it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from crdtcache.core.replica import Peer

__all__ = ["Region", "portrait", "regions_of", "summary"]


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
    settings: dict[str, Any],
    peers: list[Peer],
    digest: int,
    stats: dict[str, int],
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
        "mode": mode,
        "address": address,
        "advertise": advertise,
        "conditions": conditions,
        "keys": stats["live"],
        "bytes": stats["bytes"],
        "digest": f"{digest:016x}",
        "peers": [{**peer._asdict(), "origin": f"{peer.origin:016x}"} for peer in peers],
        "regions": {region: found._asdict() for region, found in regions_of(settings["region"], peers).items()},
        "stats": stats,
        "settings": settings,
    }
