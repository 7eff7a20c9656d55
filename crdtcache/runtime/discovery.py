"""From text to addresses: whom to call, where to listen, and what to tell others about oneself.

A seed is an address in text (`addresses`), and a name stands for all its A and AAAA records. Who is behind an
address is decided by the origin in its greeting, never by the address: so every node can be given one list
with its own address in it, and 0.0.0.0 is never told to anybody.

Decision: names are resolved in a worker thread that is abandoned when its task is cancelled or out of time: a
dead name server delays neither the start nor the end. Resolving once at the start is refused: behind one name
pods come and go. A list without names needs no thread at all.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - `getaddrinfo` asks for it; a fork in the middle of its import would never have it
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import trio

from crdtcache.errors import ConfigError
from crdtcache.runtime.addresses import ANY, DEFAULT_PORT, Address, parse, parse_peers

__all__ = [
    "Listening",
    "PortTaken",
    "SeedSource",
    "Seeds",
    "Transport",
    "advice",
    "bind",
    "call",
    "callable_host",
    "inherit",
]

SeedSource: TypeAlias = "str | Iterable[str] | Callable[[], Iterable[str]] | None"

_RESOLVE_S = 5.0  # for one round of names; late answers are dropped
_BACKLOG = 128
_MOST_ADDRESSES = 10_000
_T = TypeVar("_T")


class Seeds:
    """The configured peers: a text (commas allowed), texts, or a callable that gives texts when it is asked.

    Raises `ConfigError` for what cannot be an address. A callable is asked in a worker thread.
    """

    def __init__(self, source: SeedSource) -> None:
        self._ask: Callable[[], Iterable[str]] | None = None
        self.given: list[Address] = []
        if callable(source):
            self._ask = source
        elif source is not None:
            self.given = parse_peers(source)
        self._last: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return self._ask is not None or bool(self.given)

    @property
    def loopback(self) -> bool:
        """Whether there is nobody beyond this machine. What a callable will say is not known: then False."""
        return self._ask is None and all(seed.loopback for seed in self.given)

    @property
    def changing(self) -> bool:
        """Whether asking again can give another answer."""
        return self._ask is not None or any(seed.ip is None for seed in self.given)

    async def resolve(self, limiter: trio.CapacityLimiter) -> tuple[list[str], dict[str, str]]:
        """Every address of every seed, "ip:port" each; and for seeds without an answer, why.

        A seed that has no answer this time keeps its last one. `limiter` bounds the threads, those included that
        hang in a dead name server. Never raises for the network, nor for what the callable does.
        """
        failures: dict[str, str] = {}
        seeds = self.given
        if self._ask is not None:
            asked = await _asked(self._ask, limiter, failures)
            seeds = self.given = self.given if asked is None else asked
        found: dict[str, list[str]] = {str(seed): self._last.get(str(seed), []) for seed in seeds}
        async with trio.open_nursery() as nursery:
            for seed in seeds:
                if seed.ip is not None:
                    found[str(seed)] = [str(seed)]
                else:
                    nursery.start_soon(_look_up, seed, limiter, found, failures)
        self._last = found
        return list(dict.fromkeys(a for some in found.values() for a in some))[:_MOST_ADDRESSES], failures


async def call(address: str, timeout_s: float, limiter: trio.CapacityLimiter) -> trio.SocketStream | str:
    """A connection to `address`, or why there is none. Never raises for the network nor for a foreign address."""
    with trio.move_on_after(timeout_s):
        try:
            to = parse(address, "address")
            hosts = [to.host] if to.ip else await _in_thread(lambda: _hosts(to.host), limiter)
            why = "no address"
            for host in hosts:
                with trio.move_on_after(timeout_s / len(hosts)):
                    try:
                        return await trio.open_tcp_stream(host, to.port)
                    except OSError as error:
                        group = error.__cause__  # trio tells the reason of each attempt there
                        why = _words(group.exceptions[0] if isinstance(group, BaseExceptionGroup) else error)
        except (OSError, UnicodeError, ConfigError, RuntimeError) as error:
            return _words(error)  # RuntimeError: the interpreter is ending, no thread can start any more
        else:
            return why
    return f"no answer within {timeout_s:g} s"


async def _asked(
    ask: Callable[[], Iterable[str]], limiter: trio.CapacityLimiter, failures: dict[str, str]
) -> list[Address] | None:
    with trio.move_on_after(_RESOLVE_S) as scope:
        try:
            return await _in_thread(lambda: parse_peers(ask()), limiter)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything; the background may not
            failures["peers()"] = f"{type(error).__name__}: {error}"
    if scope.cancelled_caught:
        failures["peers()"] = f"no answer within {_RESOLVE_S:g} s"
    return None


async def _look_up(
    seed: Address, limiter: trio.CapacityLimiter, found: dict[str, list[str]], failures: dict[str, str]
) -> None:
    with trio.move_on_after(_RESOLVE_S) as scope:
        try:
            hosts = await _in_thread(lambda: _hosts(seed.host), limiter)
            found[str(seed)] = [str(Address(host, seed.port)) for host in hosts]
        except (OSError, UnicodeError) as error:
            failures[str(seed)] = _words(error)
        except RuntimeError as error:  # the interpreter is ending: no thread can start any more
            failures[str(seed)] = str(error)
    if scope.cancelled_caught:
        failures[str(seed)] = f"no answer within {_RESOLVE_S:g} s"


async def _in_thread(work: Callable[[], _T], limiter: trio.CapacityLimiter) -> _T:
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)


def _hosts(name: str) -> list[str]:
    answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class Listening(NamedTuple):
    """What was bound. Closing the listeners is the caller's part."""

    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]
    address: Address  # the first one, with the port that was really given
    taken: Address | None  # the port that was wanted is taken here, by another worker of the same service as it seems
    hosts: Sequence[str] = ()


def advice(listening: Listening | None, refused_by: str | None) -> str:
    """What to do about a refusal by another service of this machine, which has the port that this node wanted."""
    taken = listening.taken if listening is not None else None
    by = parse(refused_by, "address") if refused_by is not None else None
    if taken is None or by is None or by.port != taken.port or not by.loopback:
        return ""
    own = "give this one a port of its own, such as listen='127.0.0.1:7000', and say it in peers= too"
    return f"; another service of this machine has port {taken.port}: {own}"


class PortTaken(ConfigError):
    """Fault: the caller's: somebody has the port already. State: nothing is left open. Do: choose another one.

    `address`: where that somebody can be called from here.
    """

    def __init__(self, text: str, address: Address) -> None:
        super().__init__(text)
        self.address = address


class Transport(Protocol):
    """Where streams come from: this module's `bind` and `call`, or what stands in their place without a socket."""

    async def bind(self, listen: str, *, local: bool, guarded: bool, share: bool = False) -> Listening:
        """Open what `listen` asks for; where that is taken, another port if it may `share`. Raises `ConfigError`."""
        ...

    async def call(self, address: str, timeout_s: float, limiter: trio.CapacityLimiter) -> trio.abc.Stream | str:
        """A connection to `address`, or why there is none."""
        ...


async def bind(listen: str, *, local: bool, guarded: bool, share: bool = False) -> Listening:
    """Open the sockets that `listen` asks for; "auto" stays on loopback where `local`.

    A port that is taken is an error, but for "auto" and where `share` says that another worker of this service has it.

    Raises `ConfigError`, with nothing left open: an address that cannot be bound, a port that is taken (`PortTaken`),
    or one that others can reach while the node is not `guarded` (by a secret, or by the word that it need not be).
    """
    what = f"listen={listen!r}"
    if listen == "auto":
        hosts = ["127.0.0.1", "::1"] if local else [ANY]
        wanted = Address(hosts[0], DEFAULT_PORT)
    else:
        wanted = parse(listen, what, lowest_port=0)
        hosts = [wanted.host]
        if wanted.ip is None and not wanted.wildcard:
            hosts = await _own_addresses(wanted, what)
    if not guarded and not all(Address(host, 0).loopback for host in hosts):
        raise ConfigError(
            f"{what} can be reached from other machines, and anybody there could write into this cache: "
            "give secret= (the same on every node), or insecure=True to do without, or listen='127.0.0.1'"
        )
    first = hosts[0] if not Address(hosts[0], 0).wildcard else "127.0.0.1"
    taken = Address(first, wanted.port)
    try:
        return _bind_all(hosts, wanted.port, None)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise ConfigError(f"{what}: {_why_not(wanted, error)}") from None
        if listen != "auto" and not share:
            raise PortTaken(f"{what}: {_why_not(wanted, error)}", taken) from None
    # Two workers of one service on one machine: first come, first served; the second calls the first.
    return _bind_all(hosts, 0, taken)


def inherit(hosts: Sequence[str], taken: Address) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
    """The port that was taken, where whoever had it is gone; none while it is not free."""
    try:
        return _bind_all(hosts, taken.port, None).listeners
    except OSError:
        return ()


async def _own_addresses(wanted: Address, what: str) -> list[str]:
    with trio.move_on_after(_RESOLVE_S):
        try:
            return await _in_thread(lambda: _hosts(wanted.host), trio.CapacityLimiter(1))
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"{what}: {wanted.host!r} cannot be resolved: {_words(error)}") from None
    raise ConfigError(f"{what}: {wanted.host!r} was not resolved within {_RESOLVE_S:g} s")


def _bind_all(hosts: Sequence[str], port: int, taken: Address | None) -> Listening:
    opened: list[socket.socket] = []
    failure: OSError | None = None
    try:
        for host in hosts:
            try:
                opened.append(_bind_any(port) if host == ANY else _bind_one(host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise
                failure = failure or error  # one family may be off as long as the other is there
            else:
                port = opened[0].getsockname()[1]
        if not opened and failure is not None:
            raise failure
    except OSError:
        for sock in opened:
            sock.close()
        raise
    bound = opened[0].getsockname()
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in opened]
    return Listening(listeners, Address(bound[0], bound[1]), taken, hosts)


def _bind_any(port: int) -> socket.socket:
    """All addresses of both families, or of IPv4 alone where IPv6 is off."""
    try:
        return _bind_one("::", port)
    except OSError as error:
        if error.errno in {errno.EADDRINUSE, errno.EACCES}:
            raise
        return _bind_one("0.0.0.0", port)  # noqa: S104 - `bind` has checked that the node is guarded


def _bind_one(host: str, port: int) -> socket.socket:
    v6 = ":" in host
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "nt":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _why_not(wanted: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {wanted.port} is in use; choose another, or port 0 for any free one"
    if error.errno == errno.EACCES:
        return f"this process may not use port {wanted.port}; those below 1024 need a privilege"
    if error.errno == errno.EAFNOSUPPORT or (error.errno == errno.EADDRNOTAVAIL and wanted.host == "::1"):
        return "IPv6 is off on this machine; listen on 0.0.0.0 or 127.0.0.1"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"no interface of this machine has the address {wanted.host}"
    return f"{wanted} cannot be bound: {_words(error)}"


def callable_host(sockname: tuple[object, ...]) -> str | None:
    """The host in a socket's own name as others may call it, or None: link-local ones mean nothing elsewhere."""
    host = str(sockname[0])
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_unspecified or (ip.is_link_local and ip.version == 6):
        return None
    return str(ip)


def _words(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
