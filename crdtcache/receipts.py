"""Waiting until others have what was written here, and what came of it.

A node asks (`replica.ask_receipts`): the next slice, which may hold no entry, tells all members to answer with how far
they have accounted for this node's writes, and who relays it asks on. Whoever is not counted has not said so: it may
have the write all the same, but nobody is counted who has not.

Decision: the waiter looks, ever more rarely, at what its replica has been told anyway, instead of a callback for each
answer: a write that nobody waits for pays nothing, and a wait that goes wrong leaves nothing behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

from crdtcache.core.entry import Version
from crdtcache.core.replica import Peer, Replica
from crdtcache.runtime.clocks import TimeSource
from crdtcache.waking import Wakeable

__all__ = ["Receipts", "Replicated", "Reach"]

Reach = Literal["one", "region", "majority", "regions", "all"] | int
"""How far a write is to get before a wait is over; a number: so many other nodes."""

_ASK_S = 0.25  # the first time after which it is asked again; then twice as long, and so on
_LEAST_S, _MOST_S = 0.0002, 0.01  # between two looks


class Replicated(NamedTuple):
    """What came of `Node.wait_replicated`. `acked`: the names of who has said that it has it.

    `missing`: the names of those alive that have not said so. `ok`: `acked` are as many as were asked for. `elapsed`:
    seconds. `why`: in words why it is not ok; empty where it is.
    """

    ok: bool
    acked: list[str]
    missing: list[str]
    elapsed: float
    why: str = ""


class Receipts:
    """One wait: `step` again and again until it says that it is through, then `report`."""

    def __init__(
        self,
        replica: Replica,
        lock: AbstractContextManager[object],
        clock: TimeSource,
        driver: Callable[[], Wakeable | None],
        version: Version,
        to: Reach,
        *,
        alone_is_enough: bool,
    ) -> None:
        if to not in ("one", "region", "majority", "regions", "all") and (to.__class__ is not int or to < 0):
            raise ValueError(f"wait_replicated(to={to!r}): one, region, majority, regions, all, or a number of nodes")
        self._replica = replica
        self._lock = lock
        self._clock = clock
        self._driver = driver
        self._version = version
        self._to = to
        self._alone_is_enough = alone_is_enough
        self._began = time.monotonic()
        self._ask_at, self._asks = self._began, 0
        self._acked: list[Peer] = []
        self._missing: list[Peer] = []

    def step(self) -> bool:
        """Look who has it, and ask from time to time; whether it is enough."""
        with self._lock:
            self._look()
            if self._enough() or self._driver() is None:  # whoever does not run is told of nothing
                return True
            now = time.monotonic()
            ask = now >= self._ask_at
            if ask:
                self._ask_at = now + _ASK_S * 2**self._asks
                self._asks += 1
                self._replica.ask_receipts(self._clock.reading())
        driver = self._driver()
        if ask and driver is not None and driver.asleep:
            driver.wake()
        return False

    @property
    def pause_s(self) -> float:
        """How long to wait before the next look: a quarter of the time until now, so that little is added to it."""
        return min(_MOST_S, max(_LEAST_S, (time.monotonic() - self._began) / 4))

    def report(self) -> Replicated:
        """What came of it until now."""
        with self._lock:
            self._look()
            acked, missing = [peer.name for peer in self._acked], [peer.name for peer in self._missing]
            ok = self._enough()
            return Replicated(ok, acked, missing, time.monotonic() - self._began, "" if ok else self._why())

    def _look(self) -> None:
        has = self._replica.acknowledged(self._version)
        members = [p for p in self._replica.peers() if p.connected or p.standing in ("alive", "suspect")]
        self._acked = [peer for peer in members if peer.origin in has]
        self._missing = [peer for peer in members if peer.origin not in has]

    def _why(self) -> str:
        """What keeps it from being enough."""
        if self._driver() is None:
            return "this node does not run: call start()"
        met = len(self._acked) + len(self._missing)
        if not met:
            return "no other node is known to be up"
        if self._to.__class__ is int and self._to > met:
            return f"to={self._to}, and only {met} other {'node is' if met == 1 else 'nodes are'} known to be up"
        silent = [f"{peer.name}{'' if peer.connected else ' (not connected)'}" for peer in self._awaited()]
        return f"not yet heard from {', '.join(silent)}"

    def _enough(self) -> bool:
        acked, missing = self._acked, self._missing
        if self._to.__class__ is int:
            return len(acked) >= self._to
        if self._to == "one":
            return bool(acked)
        if not acked and not missing:
            return self._alone_is_enough
        if self._to == "majority":
            return 2 * (len(acked) + 1) > len(acked) + len(missing) + 1
        return not self._awaited()

    def _awaited(self) -> list[Peer]:
        """Of the missing, those whose answer counts."""
        own, reached = self._replica.region, {peer.region for peer in self._acked}
        if self._to == "region":
            return [peer for peer in self._missing if peer.region == own]
        if self._to == "regions":
            return [peer for peer in self._missing if peer.region != own and peer.region not in reached]
        return self._missing
