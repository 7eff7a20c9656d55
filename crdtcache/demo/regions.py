"""The world of the demo: regions, the services in them, and how long a packet takes from one to another.

Decision: delays are one-way and directed (routes on the Internet are seldom symmetric), so that what is
measured, write to visible, can stand beside the one number that bounds it from below. The refused alternative
is a round trip per pair: its half is a guess, and a replica that waited for an answer would go unnoticed.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import NamedTuple

from crdtcache.errors import ConfigError

__all__ = ["DEFAULT_REGIONS", "MAX_SERVICES", "Service", "World"]

DEFAULT_REGIONS = ("eu", "us", "ap")
MAX_SERVICES = 24
"""Each service is an operating system process: two cores carry about eight of them without strain."""

_ONE_WAY_MS = {
    ("eu", "us"): 40.0,
    ("us", "eu"): 44.0,
    ("eu", "ap"): 90.0,
    ("ap", "eu"): 84.0,
    ("us", "ap"): 75.0,
    ("ap", "us"): 80.0,
}
_NAME = re.compile(r"[a-z][a-z0-9]{0,7}")


class Service(NamedTuple):
    """One process of the demo: `name` is unique in the world, `region` is where it runs."""

    name: str
    region: str


@dataclass(frozen=True, slots=True)
class World:
    """`regions` x `nodes` services; `seed` draws the delays of regions that have no entry in the table."""

    regions: tuple[str, ...] = DEFAULT_REGIONS
    nodes: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for region in self.regions:
            if not _NAME.fullmatch(region):
                raise ConfigError(f"region {region!r}: 1 to 8 of a-z and 0-9, a letter first")
        if len(set(self.regions)) != len(self.regions):
            raise ConfigError(f"regions {','.join(self.regions)}: each name once")
        if len(self.regions) < 2:
            raise ConfigError(f"{len(self.regions)} region: at least 2, or there is nothing to cut off")
        if self.nodes < 1:
            raise ConfigError(f"{self.nodes} services per region: at least 1")
        if len(self.services) > MAX_SERVICES:
            product = f"{len(self.regions)} regions x {self.nodes} services"
            raise ConfigError(f"{product} are {len(self.services)} processes: at most {MAX_SERVICES}")

    @property
    def services(self) -> list[Service]:
        """All services, region by region."""
        return [Service(f"{region}-{n}", region) for region in self.regions for n in range(1, self.nodes + 1)]

    def one_way_ms(self, source: str, target: str) -> float:
        """How long the relay holds a byte on its way from region `source` to region `target`, in ms."""
        if source == target:
            return 0.0
        known = _ONE_WAY_MS.get((source, target))
        if known is not None:
            return known
        return float(random.Random(f"{self.seed}/{source}/{target}").randrange(20, 111))

    @property
    def cut_region(self) -> str:
        """The region that the script cuts off: the last one."""
        return self.regions[-1]

    @property
    def victim(self) -> str:
        """The service that the script kills: the last one of a region that is not cut off."""
        return f"{self.regions[-2]}-{self.nodes}"
