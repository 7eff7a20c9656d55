"""What a node was told: every argument of its constructor, checked once, in the units that the rooms below use.

A mistake raises here, on the line of the user who made it, before anything is opened. What needs the network to be
known (a busy port, a name without addresses) is found by `start()`.

Decision: one frozen record, so that `status()` can show what a node runs with, the secret left out, and nothing
reads an argument twice in two ways.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from crdtcache.arguments import Seconds, byte_count, milliseconds, span_ms
from crdtcache.core.store import INDEX_BYTES, weight
from crdtcache.errors import ConfigError
from crdtcache.runtime.addresses import parse, parse_peers
from crdtcache.tuning import Tuning

__all__ = ["Peers", "Settings", "checked", "digest_seed"]

Peers: TypeAlias = "str | Iterable[str] | Callable[[], Iterable[str]] | None"

_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The constructor's arguments as they were understood."""

    peers: list[str] | Callable[[], Iterable[str]] | None
    cluster: str
    region: str
    zone: str
    name: str
    listen: str | None
    advertise: str
    secret: bytes | None
    insecure: bool
    maxsize: int | None
    max_bytes: int | None
    max_value_bytes: int
    ttl_ms: int
    ttl_jitter: float
    stale_ms: int
    negative_ttl: float | None
    loader: Callable[[Any], Any] | None
    thread: bool | None
    switch_ms: int
    tuning: Tuning

    def shown(self) -> dict[str, Any]:
        """For people and JSON: no secret, no functions."""
        return {
            "peers": getattr(self.peers, "__qualname__", "a function") if callable(self.peers) else self.peers,
            "cluster": self.cluster,
            "region": self.region,
            "zone": self.zone,
            "listen": self.listen,
            "advertise": self.advertise,
            "secret": "***" if self.secret is not None else None,
            "insecure": self.insecure,
            "maxsize": self.maxsize,
            "max_bytes": self.max_bytes,
            "max_value_bytes": min(self.max_value_bytes, self.tuning.inline_bytes),  # the one that counts
            "ttl": self.ttl_ms / 1_000 if self.ttl_ms else None,
            "ttl_jitter": self.ttl_jitter,
            "stale_ttl": self.stale_ms / 1_000,
            "negative_ttl": self.negative_ttl,
            "loader": getattr(self.loader, "__qualname__", "a function") if self.loader else None,
            "sweep_interval": self.tuning.sweep_ms / 1_000,
            "thread": self.thread,
            "switch_interval": self.switch_ms / 1_000 if self.switch_ms else None,
        }


def checked(
    *,
    peers: Peers,
    cluster: str,
    region: str,
    zone: str | None,
    name: str | None,
    listen: str | None,
    advertise: str | None,
    secret: str | bytes | None,
    insecure: bool,
    maxsize: int | None,
    max_bytes: int | str | None,
    max_value_bytes: int | str,
    ttl: Seconds | None,
    ttl_jitter: float,
    stale_ttl: Seconds,
    negative_ttl: Seconds | None,
    loader: Callable[[Any], Any] | None,
    sweep_interval: Seconds | None,
    thread: bool | None,
    switch_interval: Seconds | None,
    tuning: Tuning | None,
) -> Settings:
    """The arguments of `Node`, or `ConfigError`, the caller's fault, that names the one that is wrong."""
    try:
        numbers = _tuning(tuning)
        if sweep_interval is not None:
            numbers = replace(numbers, sweep_ms=_positive(sweep_interval, "sweep_interval"))
        largest = byte_count(max_value_bytes, "max_value_bytes")
        return Settings(
            peers=_peers(peers),
            cluster=_name("cluster", cluster),
            region=_name("region", region),
            zone=_name("zone", zone) if zone is not None else "",
            name=_name("name", name) if name is not None else f"{socket.gethostname()[:200]}-{secrets.token_hex(2)}",
            listen=_listen(listen),
            advertise=_advertise(advertise),
            secret=_secret(secret),
            insecure=_flag("insecure", insecure),
            maxsize=_maxsize(maxsize),
            max_bytes=_max_bytes(max_bytes, min(largest, numbers.inline_bytes), numbers.key_bytes),
            max_value_bytes=largest,
            ttl_ms=_positive(ttl, "ttl") if ttl is not None else 0,
            ttl_jitter=_share("ttl_jitter", ttl_jitter),
            stale_ms=span_ms(stale_ttl, "stale_ttl"),
            negative_ttl=_positive(negative_ttl, "negative_ttl") / 1_000 if negative_ttl is not None else None,
            loader=_loader(loader),
            thread=_flag("thread", thread) if thread is not None else None,
            switch_ms=_positive(switch_interval, "switch_interval") if switch_interval is not None else 0,
            tuning=numbers,
        )
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from None


def _peers(peers: Peers) -> list[str] | Callable[[], Iterable[str]] | None:
    if peers is None or callable(peers):
        return peers
    if not isinstance(peers, Iterable):
        raise ConfigError(
            f"peers={peers!r}: addresses such as '10.0.0.2' or 'host:2738', or a function that returns them"
        )
    addresses = peers.strip().removesuffix(",").split(",") if isinstance(peers, str) else list(peers)
    for address in addresses:
        if not isinstance(address, str):
            raise ConfigError(f"peers= holds {address!r}: addresses are text such as '10.0.0.2' or 'host:2738'")
        if not address.strip():
            # As an unset environment variable reads: the node would be alone, and nobody would notice.
            raise ConfigError("peers= holds an empty address; leave peers= out for a node on its own")
    parse_peers(addresses)
    return [address.strip() for address in addresses]


def _listen(listen: object) -> str | None:
    if listen is not None and listen != "auto":
        parse(listen, f"listen={listen!r}", lowest_port=0)
    return cast("str | None", listen)


def _advertise(advertise: str | None) -> str:
    if advertise is not None and parse(advertise, "advertise=").wildcard:
        raise ConfigError(f"advertise={advertise!r} is a place to listen, not one to call")
    return advertise or ""


def _flag(argument: str, flag: object) -> bool:
    if not isinstance(flag, bool):  # "false" would be taken for true, and open the door
        raise ConfigError(f"{argument}={flag!r}: True or False")
    return flag


def _maxsize(maxsize: object) -> int | None:
    if maxsize is None or (isinstance(maxsize, int) and not isinstance(maxsize, bool) and maxsize > 0):
        return maxsize
    raise ConfigError(f"maxsize={maxsize!r}: a number of values above 0, or None for no bound")


def _max_bytes(max_bytes: int | str | None, largest: int, longest_key: int) -> int | None:
    if max_bytes is None:
        return None
    # As the store counts it; text that is not ASCII weighs up to four times as much.
    room, least = byte_count(max_bytes, "max_bytes"), INDEX_BYTES + 2 * weight("") + longest_key + largest
    if room < least:  # what is written would be evicted at once
        raise ConfigError(
            f"max_bytes={max_bytes!r} has no room for one value of {largest} bytes: "
            f"give {least} at least, or a smaller max_value_bytes="
        )
    return room


def _positive(time: Seconds, argument: str) -> int:
    span = milliseconds(time, argument)
    if span <= 0:
        raise ConfigError(f"{argument}={time!r}: must be positive")
    return span


def _share(argument: str, share: object) -> float:
    if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 <= share < 1:
        raise ConfigError(f"{argument}={share!r}: a share from 0 to below 1, such as 0.1 for up to a tenth")
    return float(share)


def _loader(loader: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if loader is not None and not callable(loader):
        raise ConfigError(f"loader={loader!r}: a function of the key, or None")
    return loader


def _tuning(tuning: Tuning | None) -> Tuning:
    if tuning is not None and not isinstance(tuning, Tuning):
        raise ConfigError(f"tuning={tuning!r}: a crdtcache.Tuning(...), or None")
    return tuning or Tuning()


def _name(argument: str, text: object) -> str:
    if not isinstance(text, str) or not text:
        raise ConfigError(f"{argument}={text!r}: must be text, and not empty")
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise ConfigError(f"{argument}={text[:40]!r}: {len(text)} characters; at most {_LONGEST_NAME}, all printable")
    return text


def _secret(secret: object) -> bytes | None:
    if secret is None:
        return None
    if not isinstance(secret, (str, bytes)) or not secret:
        raise ConfigError("secret= must be text or bytes, and not empty; leave it out for none")
    return secret.encode() if isinstance(secret, str) else secret


def digest_seed(cluster: str, secret: bytes | None) -> int:
    """The 64-bit seed of the digest: the same for all nodes of a cluster, unknown to others."""
    mac = hmac.new(secret or b"", b"crdtcache digest seed\0" + cluster.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return int.from_bytes(mac.digest()[:8], "big")
