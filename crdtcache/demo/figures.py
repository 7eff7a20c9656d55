"""The figures of the run: traffic per service, and write-to-visible per pair of regions.

Decision: a write made while its way was cut, or before the receiver was up, is delivered late by design and
would tell how long the cut was, not how fast the cluster is; such samples are counted apart as "late". The
refused alternative, leaving them in, turns every p99 into the length of the cut.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from crdtcache.demo.regions import World
from crdtcache.demo.verdict import percentile

__all__ = ["Delivery", "Latencies", "Outage", "ServiceFigures", "Totals", "totals"]

_RATE_WINDOW = 3.0  # seconds over which a rate is taken


class Outage(NamedTuple):
    """From `began` to `ended` (monotonic s) nothing was owed from or to `who`: a region, or one service."""

    who: str
    began: float
    ended: float


class Delivery(NamedTuple):
    """One pair of regions: ms between a write and the event that shows it elsewhere."""

    source: str
    target: str
    one_way_ms: float
    p50: float | None
    p99: float | None
    samples: int
    late: int


class Latencies:
    """Samples per pair of regions. An outage with `ended` = inf is still going on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._regions = {service.name: service.region for service in world.services}
        self._samples: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._late: dict[tuple[str, str], int] = defaultdict(int)
        self._outages: list[Outage] = []

    def begin(self, who: str, at: float) -> None:
        """From `at` on, what is written from or to `who` is late."""
        self._outages.append(Outage(who, at, float("inf")))

    def end(self, who: str, at: float) -> None:
        """The outage of `who` ended at `at`."""
        self._outages = [o._replace(ended=min(o.ended, at)) if o.who == who else o for o in self._outages]

    def add(self, source: str, target: str, sent: float, ms: float) -> None:
        """One write of the service `source` at `sent` (monotonic s) was visible at `target` `ms` later."""
        pair = self._regions[source], self._regions[target]
        if any(self._hit(o, source, target) and o.began - ms / 1000 <= sent <= o.ended for o in self._outages):
            self._late[pair] += 1
        else:
            self._samples[pair].append(ms)

    def _hit(self, outage: Outage, source: str, target: str) -> bool:
        if outage.who in self._regions:
            return outage.who in {source, target}
        return (self._regions[source] == outage.who) != (self._regions[target] == outage.who)

    def table(self) -> list[Delivery]:
        """One row per pair of regions, in the order of the world."""
        rows = []
        for source in self._world.regions:
            for target in self._world.regions:
                taken = self._samples[source, target]
                p50, p99 = percentile(taken, 0.50), percentile(taken, 0.99)
                one_way = self._world.one_way_ms(source, target)
                rows.append(Delivery(source, target, one_way, p50, p99, len(taken), self._late[source, target]))
        return rows


@dataclass
class ServiceFigures:
    """What one service last reported, and the rate over its last few reports."""

    name: str
    region: str
    pid: int = 0
    state: str = "starting"
    keys: int = 0
    digest: str = ""
    peers: int = 0
    counts: dict[str, int] = field(default_factory=dict)  # of all its processes so far
    _base: dict[str, int] = field(default_factory=dict)  # of those that have ended
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    def report(self, at: float, fields: dict[str, Any]) -> None:
        """Take a report in; `at` monotonic s."""
        self.keys, self.digest, self.peers = fields["keys"], fields["digest"], fields["peers"]
        self.counts = {name: self._base.get(name, 0) + count for name, count in fields["counts"].items()}
        self._recent.append((at, self.counts["requests"]))
        while len(self._recent) > 2 and at - self._recent[0][0] > _RATE_WINDOW:
            self._recent.popleft()

    def ended(self, state: str) -> None:
        """Its process is gone; the counts stay, the contents do not."""
        self._base = dict(self.counts)
        self._recent.clear()
        self.state, self.pid, self.keys, self.digest, self.peers = state, 0, 0, "", 0

    @property
    def rate(self) -> float:
        """Requests per second."""
        if len(self._recent) < 2:
            return 0.0
        (began, before), (ended, after) = self._recent[0], self._recent[-1]
        return (after - before) / (ended - began) if ended > began else 0.0


class Totals(NamedTuple):
    """Over all services and the whole run; a hit is shared when another process had done the work."""

    requests: int
    hits: int
    shared: int
    saved_ms: float
    worked_ms: float
    overwritten: int

    @property
    def hit_ratio(self) -> float:
        """Of 1."""
        return self.hits / self.requests if self.requests else 0.0


def totals(services: list[ServiceFigures]) -> Totals:
    """The sums of what `services` have counted."""

    def total(name: str) -> int:
        return sum(each.counts.get(name, 0) for each in services)

    return Totals(
        requests=total("requests"),
        hits=total("hits"),
        shared=total("shared"),
        saved_ms=total("saved_us") / 1000,
        worked_ms=total("worked_us") / 1000,
        overwritten=total("overwritten"),
    )
