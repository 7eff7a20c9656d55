"""A node's arguments from an environment or a URL: the same names, read as text.

`CRDTCACHE_PEERS=10.0.0.1,10.0.0.2`, or `crdtcache://:secret@10.0.0.1,10.0.0.2:2738/shop?region=eu`. Both give keyword
arguments for `Node`, which checks them as it checks all others.

Decision: a variable that is set and empty is an error, and so is a name in a URL that nobody knows; a variable that
nobody knows is only a warning, because Kubernetes sets some of its own for every service (`CRDTCACHE_PORT`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from crdtcache.errors import ConfigError

__all__ = ["from_env", "from_url"]

log = logging.getLogger("crdtcache")


def _text(text: str) -> str:
    return text


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("write true or false")


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("write a whole number, or none")
    return int(text)


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("write a share such as 0.1") from None


def _or_none(read: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text.lower() == "none" else read(text)


def _time(text: str) -> float | str:
    """Seconds, or text with a unit, which `Node` reads."""
    try:
        return float(text)
    except ValueError:
        return text


_READERS: dict[str, Callable[[str], Any]] = {
    "peers": _or_none(_text),
    "cluster": _text,
    "region": _text,
    "zone": _or_none(_text),
    "name": _or_none(_text),
    "listen": _or_none(_text),
    "advertise": _or_none(_text),
    "secret": _or_none(_text),
    "insecure": _flag,
    "maxsize": _or_none(_whole),
    "max_bytes": _or_none(lambda text: int(text) if text.isdigit() else text),
    "max_value_bytes": lambda text: int(text) if text.isdigit() else text,
    "ttl": _or_none(_time),
    "ttl_jitter": _share,
    "stale_ttl": _time,
    "negative_ttl": _or_none(_time),
    "sweep_interval": _or_none(_time),
    "thread": _or_none(_flag),
    "switch_interval": _or_none(_time),
}


def from_env(prefix: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Arguments from `PREFIX` + their names in capitals. Raises `ConfigError` that names the variable."""
    arguments = {}
    for variable in sorted(environ):
        name = variable.removeprefix(prefix).lower()
        if not variable.startswith(prefix):
            continue
        if name in _READERS:
            arguments[name] = _read(name, environ[variable], variable)
        elif not name.startswith(("port", "service_")):  # Kubernetes' own, for a service of this name
            log.warning("%s is not known and ignored; known are %s", variable, ", ".join(_READERS).upper())
    return arguments


def from_url(url: str) -> dict[str, Any]:
    """Arguments from `crdtcache://name:secret@host,host:port/cluster?region=eu`. Raises `ConfigError`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    # A / or ? or # in a secret ends the host for whoever reads on; what is said of it must not hold the secret.
    if parts is None or "@" in parts.path + parts.query + parts.fragment:
        raise ConfigError(
            "a URL of a node that cannot be read: write IPv6 as in crdtcache://[::1]:2738/shop, "
            "and what is no letter or digit in a secret as %xx"
        )
    if parts.scheme != "crdtcache":
        raise ConfigError(f"a URL of a node begins with crdtcache://, this one with {parts.scheme or 'nothing'}://")
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, secret = user.partition(":")
    if parts.netloc and not hosts:  # as an unset variable reads: the node would be alone, and nobody would notice
        raise ConfigError(
            "a URL of a node with nothing after its @: name a host; crdtcache:///shop is a node on its own"
        )
    cluster = parts.path.strip("/")
    found = {"peers": hosts, "cluster": cluster, "name": name, "secret": secret}
    arguments = {key: unquote(text) for key, text in found.items() if text}
    for key, text in parse_qsl(parts.query, keep_blank_values=True):
        if key not in _READERS or key in ("peers", "secret"):
            raise ConfigError(f"?{key}= of the URL is not known; known are {', '.join(_READERS)}")
        arguments[key] = _read(key, text, f"?{key}= of the URL")
    return arguments


def _read(name: str, text: str, where: str) -> Any:
    if not text.strip():
        raise ConfigError(f"{where} is empty: give it a value, or leave it out")
    try:
        return _READERS[name](text.strip())
    except ValueError as error:
        raise ConfigError(f"{where}={text!r}: {error}") from None
