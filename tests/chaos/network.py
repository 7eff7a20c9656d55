"""A network of this test's own: namespaces joined by a bridge, where a cut loses packets and nobody is told.

Each site is a network namespace with one interface; the other end of it is a port of a bridge that lies in one more
namespace. A cut takes the port off the bridge: the carrier stays up, no reset and no "unreachable" comes back, what
is sent is simply gone, as when a router between two regions fails. Neighbours are entered by hand, for address
resolution would give up after seconds and turn the silence into an error.

Decision: namespaces made with `ip netns` instead of a proxy that stops forwarding: a proxy acknowledges what
it has read, so the sender's kernel would never see the loss.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["Network", "enter", "sweep", "unavailable"]

_PREFIX = "crdtcache-chaos-"
_CLONE_NEWNET = 0x40000000


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=20)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def unavailable() -> str | None:
    """Why no namespaces can be made here, None where they can."""
    if not sys.platform.startswith("linux"):
        return f"network namespaces are Linux's; this is {sys.platform}"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    if shutil.which("ip") is None:
        return "there is no `ip` (package iproute2)"
    probe = f"{_PREFIX}{os.getpid()}-probe"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "del", probe)
    except OSError as error:
        return f"namespaces are refused here: {error}"
    return None


def sweep() -> None:
    """Remove what earlier runs left that were killed: namespaces of processes that are gone."""
    for name in [line.split()[0] for line in _ip("netns", "list").splitlines() if line.startswith(_PREFIX)]:
        pid = int(name.removeprefix(_PREFIX).partition("-")[0])
        if pid != os.getpid() and not Path(f"/proc/{pid}").exists():
            _ip("netns", "del", name)


def enter(namespace: str) -> None:
    """Move the calling thread, and threads that it starts, into `namespace`; call it before anything else."""
    with Path("/run/netns", namespace).open("rb") as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")


class Network:
    """Sites on one Ethernet. As a context manager it is removed at the end, whatever happened."""

    def __init__(self, *sites: str) -> None:
        own = f"{_PREFIX}{os.getpid()}-"
        self.addresses = {site: f"10.213.0.{number}" for number, site in enumerate(sites, 1)}
        self.namespaces = {site: f"{own}{site}" for site in sites}
        self._bridge = f"{own}bridge"
        self._mac = {site: f"02:00:00:00:00:{number:02x}" for number, site in enumerate(sites, 1)}

    def __enter__(self) -> Network:
        sweep()
        try:
            _ip("netns", "add", self._bridge)
            _ip("-n", self._bridge, "link", "add", "bridge", "type", "bridge")
            _ip("-n", self._bridge, "link", "set", "bridge", "up")
            for site, namespace in self.namespaces.items():
                self._join(site, namespace)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _join(self, site: str, namespace: str) -> None:
        _ip("netns", "add", namespace)
        at, inside, port = ("-n", self._bridge), ("-n", namespace), f"to-{site}"
        _ip(*at, "link", "add", "name", port, "type", "veth", "peer", "name", "net", "netns", namespace)
        _ip(*at, "link", "set", "dev", port, "master", "bridge", "up")
        _ip(*inside, "link", "set", "net", "address", self._mac[site])
        _ip(*inside, "addr", "add", f"{self.addresses[site]}/24", "dev", "net")
        for name in ("lo", "net"):
            _ip(*inside, "link", "set", name, "up")
        for other, address in self.addresses.items():
            if other != site:
                _ip(*inside, "neigh", "add", address, "lladdr", self._mac[other], "dev", "net", "nud", "permanent")

    def __exit__(self, *_: object) -> None:
        for namespace in (*self.namespaces.values(), self._bridge):
            with suppress(OSError):
                _ip("netns", "del", namespace)

    def cut(self, site: str) -> None:
        """From now on every packet from and to `site` is lost."""
        _ip("-n", self._bridge, "link", "set", "dev", f"to-{site}", "nomaster")

    def heal(self, site: str) -> None:
        """Packets pass again."""
        _ip("-n", self._bridge, "link", "set", "dev", f"to-{site}", "master", "bridge")

    def part(self, *sites: str) -> None:
        """Lose the packets between any two of `sites`; each still reaches everybody else. Without any: none."""
        for site in self.addresses:
            isolated = "on" if site in sites else "off"
            _ip("-n", self._bridge, "link", "set", "dev", f"to-{site}", "type", "bridge_slave", "isolated", isolated)

    def sent(self, site: str) -> int:
        """Bytes that `site` has sent, with all headers, lost or not."""
        (link,) = json.loads(_ip("-n", self.namespaces[site], "-s", "-j", "link", "show", "dev", "net"))
        return int(link["stats64"]["tx"]["bytes"])
