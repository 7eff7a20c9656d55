"""Repair by hand: compare with peers now, and exchange what differs, instead of waiting until a node does by itself.

Replicas find and repair gaps all the time; what only a comparison of the whole maps can show takes a session, and
those are rare. Who has doubts, or has just ended an experiment, starts them here and is told what came of it.

A session may come to nothing: the peer is busy, a clear or a lost link ends it, an entry has to wait. Then the next
peer has its turn, and this one is asked again as long as there is time.

Decision: one peer after the other, looked at every few ms: a session is short, and no message of the protocol need
exist for somebody who waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from crdtcache.core.replica import Replica
from crdtcache.runtime.clocks import TimeSource
from crdtcache.waking import Wakeable

__all__ = ["RepairReport", "Repairing"]


class RepairReport(NamedTuple):
    """What came of `Node.repair`. `ok`: there was a peer, and with every one that was asked for all was compared.

    `peers`: how many were. `received`, `sent`: entries meanwhile, ordinary traffic included. `elapsed`: seconds.
    """

    ok: bool
    peers: int
    received: int
    sent: int
    elapsed: float


class Repairing:
    """One repair under way: `step` again and again until it says that it is through, then `report`."""

    def __init__(
        self,
        replica: Replica,
        lock: AbstractContextManager[object],
        clock: TimeSource,
        driver: Callable[[], Wakeable | None],
        peer: str | None,
    ) -> None:
        self._replica = replica
        self._lock = lock
        self._clock = clock
        self._driver = driver
        self._began = time.monotonic()
        #: the link to the first of those to come, and how many had compared on it before the session asked for here
        self._asked: tuple[int, int] | None = None
        self._done = self._failed = 0
        with lock:
            up = [each for each in replica.peers() if each.connected and peer in (None, each.name)]
            self._before = replica.stats()
        if peer is not None and not up:
            raise ValueError(f"repair({peer!r}): no peer of that name is connected")
        self._to_come = [each.origin for each in up]

    def step(self) -> bool:
        """Go on with the first of those to come; whether all are through."""
        if not self._to_come:
            return True
        with self._lock:
            first = self._to_come[0]
            found = self._replica.session_with(first)
            if found is None:  # its link is gone
                self._failed += 1
                self._next()
            elif not found[0]:  # a session that the peer has opened meanwhile is waited for; then comes this one
                _, link, compared = found
                if self._asked is not None and self._asked[0] == link and self._asked[1] < compared:
                    self._done += 1
                    self._next()
                elif self._asked is None and self._replica.ask_session(first, self._clock.reading()):
                    self._asked = link, compared
                else:
                    self._next()
                    self._to_come.append(first)
            if not self._to_come:
                return True
        driver = self._driver()
        if driver is not None and driver.asleep:
            driver.wake()
        return False

    def _next(self) -> None:
        self._asked = None
        del self._to_come[0]

    def report(self) -> RepairReport:
        """What came of it until now."""
        with self._lock:
            after = self._replica.stats()
        more = {name: after[name] - self._before[name] for name in after}
        return RepairReport(
            not self._to_come and not self._failed and self._done > 0,
            self._done,
            more["entries_received"],
            more["entries_sent"],
            time.monotonic() - self._began,
        )
