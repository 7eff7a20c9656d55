"""Before a link carries the protocol, both ends say who they are and prove that they know the secret.

dialler                                        listener
GREETING {magic, hello fields, nonce, secured} ->
                                               <- GREETING
PROOF {proof} ->                                              only where both are secured
                                               <- PROOF
A refusal is sent as REFUSED {reason} and the link closed: each side's log then holds the reason, its own or
the other's. A greeting is a map by field name, and fields that are not known here are skipped, so a newer
version may add some. All of it is at most 4 KiB per frame and has one deadline: a stranger costs little.

The proof is HMAC-SHA-256 under the secret over the role, both nonces, both origins and the cluster: it cannot be
replayed (fresh nonces), reflected (the role), or taken from another cluster that shares the secret.

Decision: the dialler proves first. With both proofs sent at once, whoever dials gets one for free, to try
guesses of the secret against at leisure; this way a stranger gets nothing, for half a round trip when a link
opens. What it does not give is secrecy: after the proof the bytes travel in the clear, and somebody on the path can
read and change them. Where the path is not trusted, put the cluster on a private network.
Source: DESIGN section 13.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import TypeAlias, cast

import msgpack

from crdtcache.core.messages import Hello
from crdtcache.errors import ConfigError, JoinRefused
from crdtcache.runtime.link import Link

__all__ = ["GREETING_BYTES", "NotAPeer", "Refused", "check_hello", "greet", "overhear"]

GREETING_BYTES = 4_096  # the greatest frame before trust
_MAGIC = "crdtcache"
_NONCE_BYTES = 16
_PROOF_BYTES = 32
_TEXT = 255  # the longest name, address or feature, in characters
_FEATURES = 64

_Fields: TypeAlias = dict[str, object]


class NotAPeer(Exception):
    """Fault: the other side's: its bytes are no greeting of this protocol. Never leaves the runtime.

    State: nothing was believed.
    Do: close the link; nothing is answered to a stranger.
    """


class Refused(JoinRefused):
    """Fault: the configuration of one of the two. `here` says whether this side refused or was refused.

    State: the other side has been told, or told us.
    Do: close the link and log the reason.
    """

    def __init__(self, reason: str, *, here: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.here = here


def check_hello(own: Hello) -> None:
    """Raises `ConfigError`, the caller's fault, for names that no greeting can carry."""
    for field in ("cluster", "name", "region", "zone", "advertise"):
        text: str = getattr(own, field)
        if len(text) > _TEXT:
            raise ConfigError(f"{field}={text[:40]!r}... has {len(text)} characters; the limit is {_TEXT}")
        if not text.isprintable():
            raise ConfigError(f"{field}={text!r} holds a character that cannot be printed; others would refuse it")


async def greet(link: Link, own: Hello, secret: bytes | None, *, dialler: bool) -> Hello:
    """Exchange greetings (and proofs, with `secret`) on a new link; returns what the other side says it is.

    Raises `Refused` (configurations differ), `NotAPeer` (not this protocol) and `LinkLost`. The caller
    limits the time, and raises the link's limit afterwards.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    await link.send([_pack({"magic": _MAGIC, **own._asdict(), "nonce": nonce, "secured": secret is not None})])
    fields = await _next(link)
    if fields.get("magic") != _MAGIC:
        raise NotAPeer("the first frame is no greeting")
    reason = _stranger(fields, own, secured=secret is not None)
    if reason is not None:
        await _refuse(link, reason)
    hello = _hello(fields)
    if secret is not None:
        theirs = cast("bytes", _take(fields, "nonce", lambda v: type(v) is bytes and len(v) == _NONCE_BYTES))
        nonces = (nonce, theirs) if dialler else (theirs, nonce)
        origins = (own.origin, hello.origin) if dialler else (hello.origin, own.origin)
        await _prove(link, secret, nonces, origins, own.cluster, dialler=dialler)
    return hello


async def overhear(link: Link) -> str:
    """The cluster of whoever listens at the other end, by its greeting, without answering. Raises as `greet` does."""
    fields = await _next(link)
    if fields.get("magic") != _MAGIC:
        raise NotAPeer("the first frame is no greeting")
    return _text(fields, "cluster")


def _stranger(fields: _Fields, own: Hello, *, secured: bool) -> str | None:
    """Why the two do not belong together, or None. Looks at nothing but what every version will send."""
    cluster = _text(fields, "cluster")
    if cluster != own.cluster:
        return f"another cluster: {own.cluster!r} here, {cluster!r} there"
    low, high = _number(fields, "wire_min"), _number(fields, "wire_max")
    if max(low, own.wire_min) > min(high, own.wire_max):
        return f"no common wire version: {own.wire_min}..{own.wire_max} here, {low}..{high} there"
    theirs = _flag(fields, "secured")
    if theirs != secured:
        have = "a secret here, none there" if secured else "no secret here, one there"
        return f"one side has a secret and the other none: {have}"
    return None


async def _prove(
    link: Link, secret: bytes, nonces: tuple[bytes, bytes], origins: tuple[int, int], cluster: str, *, dialler: bool
) -> None:
    own, expected = (
        hmac.new(
            secret,
            role + b"".join(nonces) + b"".join(o.to_bytes(8, "big") for o in origins) + cluster.encode(),
            hashlib.sha256,
        ).digest()
        for role in ((b"D", b"L") if dialler else (b"L", b"D"))
    )
    if dialler:
        await link.send([_pack({"proof": own})])
    fields = await _next(link)
    proof = _take(fields, "proof", lambda v: type(v) is bytes and len(v) == _PROOF_BYTES)
    if not hmac.compare_digest(cast("bytes", proof), expected):
        await _refuse(link, "wrong secret")
    if not dialler:
        await link.send([_pack({"proof": own})])


async def _refuse(link: Link, reason: str) -> None:
    await link.send([_pack({"refused": reason})])
    await link.finish()
    raise Refused(reason, here=True)


async def _next(link: Link) -> _Fields:
    """The next map. Raises `Refused` where the other side refuses, `NotAPeer` for anything but a map."""
    frame = await link.receive()
    try:
        fields = msgpack.unpackb(frame)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise NotAPeer(f"a frame that is no greeting: {error}") from None
    if type(fields) is not dict:
        raise NotAPeer(f"a frame that is no greeting: a {type(fields).__name__}")
    reason = fields.get("refused")
    if reason is not None:
        # Foreign text goes into the log: short, and no control characters.
        text = "".join(c if c.isprintable() else "?" for c in str(reason)[:_TEXT])
        raise Refused(text, here=False)
    return cast("_Fields", fields)


def _pack(fields: _Fields) -> bytes:
    return cast("bytes", msgpack.packb(fields))


def _take(fields: _Fields, name: str, good: Callable[[object], bool]) -> object:
    value = fields.get(name)
    if not good(value):
        raise NotAPeer(f"a greeting with {name} missing or malformed")
    return value


def _good_text(value: object) -> bool:
    # It will stand in logs: no control characters, and no lone surrogates.
    return type(value) is str and len(value) <= _TEXT and value.isprintable()


def _text(fields: _Fields, name: str) -> str:
    return cast("str", _take(fields, name, _good_text))


def _number(fields: _Fields, name: str) -> int:
    return cast("int", _take(fields, name, lambda v: type(v) is int and 0 <= v < 1 << 64))


def _flag(fields: _Fields, name: str) -> bool:
    return cast("bool", _take(fields, name, lambda v: type(v) is bool))


def _features(fields: _Fields, name: str) -> tuple[str, ...]:
    def good(value: object) -> bool:
        return type(value) is list and len(value) <= _FEATURES and all(map(_good_text, value))

    return tuple(cast("list[str]", _take(fields, name, good)))


def _hello(fields: _Fields) -> Hello:
    return Hello(
        wire_min=_number(fields, "wire_min"),
        wire_max=_number(fields, "wire_max"),
        features=_features(fields, "features"),
        cluster=_text(fields, "cluster"),
        digest_version=_number(fields, "digest_version"),
        name=_text(fields, "name"),
        region=_text(fields, "region"),
        zone=_text(fields, "zone"),
        origin=_number(fields, "origin"),
        generation=_number(fields, "generation"),
        advertise=_text(fields, "advertise"),
        clock_ms=_number(fields, "clock_ms"),
        partial=_flag(fields, "partial"),
    )
