"""The control socket of `crdtcache serve`: one request per line as JSON, one answer per line, on this machine only.

    {"do": "get", "key": "user:42"}                    {"found": true, "value": "Ada"}
    {"do": "set", "key": "user:42", "value": "Ada", "ttl": "30m"}    {"version": "0123...-4567..."}
    {"do": "del", "key": ...}, {"do": "inspect", "key": ...}, {"do": "status"}     as `answer` has it

Any of them may name its "cluster"; a node of another one refuses. The key ["user", 42] is the tuple.

Decision: a Unix socket that only its owner may open, in a directory of the same user, instead of a port: whoever
reaches it may write into every node of the cluster, so no second secret has to be invented and kept. Both ends look
whose the two are: who asks hands over keys and values too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crdtcache.arguments import DEFAULT, MISSING
from crdtcache.errors import ConfigError, CrdtCacheError

if TYPE_CHECKING:
    import trio

    from crdtcache.node import Node

__all__ = ["NotServed", "answer", "ask", "default_path", "listening"]

_log = logging.getLogger("crdtcache")
_LONGEST = 1 << 20  # bytes of a request; a value of the greatest size fits, written as JSON


class NotServed(OSError):
    """Fault: nobody's, or the caller's: no node serves at this path, or it has just ended.

    State: nothing was asked.
    Do: start one with `crdtcache serve`, or name its socket with `--control`.
    """


def default_path(cluster: str) -> Path:
    """Where the node of `cluster` is controlled if nobody says otherwise: one per user, machine and cluster."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    own = Path(base) if base else Path(tempfile.gettempdir()) / f"crdtcache-{os.getuid()}"
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in cluster)[:40]
    exact = hashlib.sha256(cluster.encode("utf-8", "surrogatepass")).hexdigest()[:8]  # "a/b" is not "a_b"
    return own / f"crdtcache-{name}-{exact}.sock"


def ask(path: Path, request: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    """The answer of the node that serves at `path`.

    Raises `NotServed`, `ConfigError` where others could serve there in its place, and ValueError where it refused.
    """
    try:
        _check_own(path.parent)
        _check_own(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            sock.sendall(json.dumps(request).encode() + b"\n")
            with sock.makefile("rb") as lines:
                line = lines.readline()
    except OSError as error:
        raise NotServed(
            f"no node serves at {path} ({error.strerror or error}): start one with `crdtcache serve`, "
            "or say whose you mean with --cluster or --control"
        ) from None
    if not line:
        raise NotServed(f"the node at {path} ended without an answer")
    answered: dict[str, Any] = json.loads(line)
    if "error" in answered:
        raise ValueError(answered["error"])
    return answered


def answer(node: Node[Any, Any], request: Any) -> dict[str, Any]:
    """What one request does, as JSON types. Never raises for what a request can hold: then it says `error`."""
    try:
        if not isinstance(request, dict):
            return {"error": 'a request is an object such as {"do": "status"}'}
        return _done(node, request)
    except (CrdtCacheError, ValueError, TypeError, RecursionError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _done(node: Node[Any, Any], request: dict[str, Any]) -> dict[str, Any]:
    do, cluster = request.get("do"), request.get("cluster", node.cluster)
    if cluster != node.cluster:
        raise ValueError(f"cluster={cluster!r}: this node belongs to {node.cluster!r}")
    if do == "status":
        return _status(node)
    if do not in ("get", "set", "del", "inspect"):
        raise ValueError(f"do={do!r}: status, get, set, del or inspect")
    key = _key(request.get("key"))
    if do == "get":
        value = node.get(key, MISSING)
        return {"found": value is not MISSING, "value": _shown(value)}
    if do == "set":
        version = node.set(key, request.get("value"), request.get("ttl", DEFAULT))
        return {"version": str(version)}
    if do == "del":
        return {"was_visible": node.delete(key)}
    return {"sentence": node.inspect(key)}


def _key(key: Any) -> Any:
    """A key as JSON has it: a tuple is a list there."""
    return tuple(map(_key, key)) if isinstance(key, list) else key


def _status(node: Node[Any, Any]) -> dict[str, Any]:
    status = node.status()
    alone = "no peer is connected, or not everything they have is here yet"
    return {**status, "why": "" if status["ready"] else "; ".join(status["conditions"]) or alone}


def _shown(value: object) -> object:
    """`value` where JSON has it, else what Python writes for it."""
    if value is MISSING:
        return None
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value


@asynccontextmanager
async def listening(node: Node[Any, Any], path: Path) -> AsyncIterator[None]:
    """Answer requests at `path` while the body runs. Raises `ConfigError` where another process does already."""
    import trio

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(_bound(path)))
    serve = partial(trio.serve_listeners, partial(_serve, node), [listener])
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            yield
            nursery.cancel_scope.cancel()
    finally:
        _remove(path)


def _bound(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_own(path.parent)
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.connect(str(path))
        raise ConfigError(f"another node is controlled at {path}: name another socket with --control")
    _remove(path)  # of a process that was killed
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen()
    except OSError as error:
        sock.close()
        raise ConfigError(f"{path} cannot be a control socket: {error.strerror or error}") from None
    finally:
        os.umask(before)
    return sock


def _check_own(place: Path) -> None:
    """Raises `ConfigError` where somebody else could put another socket here: whatever answers at it is believed."""
    found = place.lstat()
    if stat.S_ISLNK(found.st_mode):
        what = "is a symbolic link"
    elif found.st_uid != os.getuid():
        what = f"belongs to another user ({found.st_uid})"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        what = f"can be written by others (mode {stat.S_IMODE(found.st_mode):o})"
    else:
        return
    raise ConfigError(f"{place} {what}, so a node there cannot be trusted: name a socket of your own with --control")


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


async def _serve(node: Node[Any, Any], stream: trio.SocketStream) -> None:
    import trio

    try:
        async with stream:
            await _converse(node, stream)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    except Exception:  # noqa: BLE001 - a defect here costs one who asks an answer, and not the cluster a node
        _log.exception("a control connection was closed")


async def _converse(node: Node[Any, Any], stream: trio.SocketStream) -> None:
    rest = b""
    async for part in stream:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            try:
                request = json.loads(line)
            except (ValueError, RecursionError):
                request = None
            await stream.send_all(json.dumps(answer(node, request)).encode() + b"\n")
        if len(rest) > _LONGEST:
            await stream.send_all(b'{"error": "a request above %d bytes"}\n' % _LONGEST)
            return
