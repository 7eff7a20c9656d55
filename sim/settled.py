"""When a run is settled: one map, one mesh, and nothing missing that anybody knows of."""

from __future__ import annotations

from collections.abc import Sequence

from crdtcache.core.replica import Replica
from sim.adapter import Node
from sim.checks.ending import equal_maps

__all__ = ["unsettled"]


def unsettled(nodes: Sequence[Node]) -> str:
    """Why these nodes, which all run, are not settled; "" where they are."""
    origins = {node.replica.origin: node.index for node in nodes if node.replica is not None}
    for node in nodes:
        replica = node.replica
        assert replica is not None
        if replica.map.clearing:
            return f"n{node.index} is still clearing"
        up = {m.row.origin for m in replica.members.known.values() if m.link is not None}
        apart = [origins[o] for o in origins if o not in up | {replica.origin} and replica.members.worth(o)]
        if apart:
            return f"n{node.index} has no link to n{apart[0]}"
        late = [n for n in nodes if n.replica is not None and not _accounts(replica, n.replica)]
        if late:
            return f"n{node.index} has not accounted for all that n{late[0].index} knows of"
        if not replica.caught_up():
            return f"n{node.index} knows that it is missing something, or a session still runs"
    return "" if equal_maps(nodes) else "maps differ"


def _accounts(replica: Replica, other: Replica) -> bool:
    """Whether a replica has accounted for everything that another wrote, or knows that somebody wrote."""
    reach = replica.map.context.reach
    return all(reach(origin) >= last for origin, last in other.map.context.last.items())
