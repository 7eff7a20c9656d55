"""Addresses in text: `host`, `host:port` or `[v6]:port`, read without asking anybody.

Decision: apart from the names and sockets of `discovery`, so that the constructor of a node can refuse a mistyped
address on the user's own line, before trio is imported or anything is opened.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from crdtcache.errors import ConfigError

__all__ = ["ANY", "DEFAULT_PORT", "Address", "parse", "parse_peers"]

DEFAULT_PORT = 2738  # "CRDT" on a phone pad
ANY = "*"  # in `listen`: all addresses of both families


class Address(NamedTuple):
    """A host name or literal IP (without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The literal address, or None where `host` is a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def loopback(self) -> bool:
        """Whether it stays in this machine. A name other than localhost is taken to leave it."""
        ip = self.ip
        if ip is None:
            return self.host == "localhost" or self.host.endswith(".localhost")
        return ip.is_loopback

    @property
    def wildcard(self) -> bool:
        """Whether it stands for all addresses of this machine: a place to listen, not one to call."""
        return self.host == ANY or (self.ip is not None and self.ip.is_unspecified)


def parse(text: object, what: str, *, lowest_port: int = 1) -> Address:
    """The address in "host", "host:port", "[v6]:port" or "v6". `what` names the argument in errors.

    Raises `ConfigError`, the caller's fault.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{what}: {text!r} is not an address; addresses are text such as 'host:{DEFAULT_PORT}'")
    host, port = text.strip(), ""
    if host.startswith("["):
        host, bracket, port = host[1:].partition("]")
        if not bracket or (port and not port.startswith(":")) or ":" not in host:
            raise ConfigError(f"{what}: {text!r} is not an address; IPv6 is written [2001:db8::1]:{DEFAULT_PORT}")
        port = port[1:]
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
        if not port:
            raise ConfigError(f"{what}: {text!r} has no port after the colon")
    if not host or len(host) > 255 or any(c.isspace() or c in "/@,[]" for c in host):
        raise ConfigError(f"{what}: {text!r} is not an address; write 'host', 'host:port' or '[v6]:port'")
    if ":" in host and Address(host, 0).ip is None:
        raise ConfigError(f"{what}: {host!r} is not an IPv6 address")
    if not port:
        return Address(host, DEFAULT_PORT)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and lowest_port <= int(port) <= 65_535):
        raise ConfigError(f"{what}: port {port[:20]!r} is not a number from {lowest_port} to 65535")
    return Address(host, int(port))


def parse_peers(source: str | Iterable[str]) -> list[Address]:
    """The addresses of `peers=`, each once; empty ones are left out. Raises `ConfigError`, the caller's fault."""
    texts: Iterable[object] = source.split(",") if isinstance(source, str) else source
    seeds = []
    for text in texts:
        if isinstance(text, str) and not text.strip():
            continue  # an empty variable, or a comma at the end
        seed = parse(text, "peers")
        if seed.wildcard:
            raise ConfigError(f"peers: {text!r} is a place to listen, not one to call")
        seeds.append(seed)
    return list(dict.fromkeys(seeds))
