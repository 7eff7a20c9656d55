"""A node's arguments from an environment or a URL: the same names, read as text.

`CRDTCACHE_PEERS=10.0.0.1,10.0.0.2`, or `crdtcache://:secret@10.0.0.1,10.0.0.2:2738/shop?region=eu`. Both give keyword
arguments for `Node`, which checks them as it checks all others.

Decision: a variable that is set and empty is an error, and so is a name that nobody knows, in a URL or behind the
prefix: a typo would leave a node alone, or without its secret. But those that Kubernetes sets of its own for every
service (`CRDTCACHE_PORT`, `CRDTCACHE_WEB_SERVICE_HOST`) are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from crdtcache.errors import ConfigError

__all__ = ["from_env", "from_url", "in_variables"]

# NAME=TEXT, in small letters and without the prefix
_KUBERNETES = re.compile(r"(\w+_)?(service_(host|port(_\w+)?)=.*|port=\w+://.*|port_\d+_\w+=.*)", re.DOTALL)


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
    "ttl": _or_none(_text),
    "ttl_jitter": _share,
    "stale_ttl": _text,
    "negative_ttl": _or_none(_text),
    "sweep_interval": _or_none(_text),
    "thread": _or_none(_flag),
    "switch_interval": _or_none(_text),
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
        elif not _KUBERNETES.fullmatch(f"{name}={environ[variable]}"):
            raise ConfigError(f"{variable} is not known; known after {prefix} are {', '.join(_READERS).upper()}")
    return arguments


def in_variables(error: ConfigError, prefix: str, arguments: Collection[str]) -> ConfigError:
    """What `Node` said of one of `arguments`, which came from variables, said of the variable."""
    name, said = re.fullmatch(r"(\w*)(.*)", str(error), re.DOTALL).groups()  # type: ignore[union-attr]
    return ConfigError(f"{prefix}{name.upper()}{said}") if name in arguments else error


def from_url(url: str) -> dict[str, Any]:
    """Arguments from `crdtcache://name:secret@host,host:port/cluster?region=eu`. Raises `ConfigError`."""
    if not isinstance(url, str):
        raise ConfigError(f"a URL of a node is text such as crdtcache://10.0.0.1/shop, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    # A / or ? or # in a secret ends the host for whoever reads on; what is said of it must not hold the secret.
    if parts is None or parts.fragment or "@" in parts.path + parts.query:
        raise ConfigError(
            "a URL of a node that cannot be read: write IPv6 as in crdtcache://[::1]:2738/shop, "
            "and what is no letter or digit in a secret or a name as %xx"
        )
    if url.partition("//")[0].strip().lower() != "crdtcache:":
        raise ConfigError(f"a URL of a node begins with crdtcache://, this one with {parts.scheme or 'nothing'}:")
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
