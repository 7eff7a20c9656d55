"""A codec of one's own: how values that are no scalars become bytes, where MessagePack is not what one wants.

Scalars (None, bool, int of 64 bits, float, str, bytes) are stored as they are, whatever the codec; keys are always
encoded in one way, or two nodes would not mean the same. A packed value begins with the `tag` of its codec: so a node
with another codec, or none, passes it on unharmed and reads an `Unknown`, and one with a codec still reads what was
stored without it. A cluster can change its codec node by node.

Decision: bytes in and out, and a tag; nothing of streams, and no codec that is told the key. What compresses or
encrypts wraps `MsgpackCodec`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, cast

from crdtcache.core.entry import Packed, Value
from crdtcache.errors import ConfigError, EncodeError, ValueTooLarge
from crdtcache.values import decode, encode

__all__ = ["Codec", "Decoder", "Encoder", "MsgpackCodec", "decoder", "encoder"]

Encoder: TypeAlias = Callable[[object, int | None], Value]
Decoder: TypeAlias = Callable[[Packed], object]

_SCALARS: Final = frozenset({type(None), bool, float, str, bytes})
_LOWEST: Final = 128  # tags below are this package's own


class Codec(Protocol):
    """What `Node(codec=)` takes. `tag`: 128 to 255, the same in every process, another one for another format.

    Either method may raise anything: `set` then raises `EncodeError`, and a value that cannot be read is a miss.
    """

    tag: int

    def encode(self, value: object, /) -> bytes:
        """The bytes of a value that is no scalar."""
        ...

    def decode(self, data: bytes, /) -> object:
        """A fresh copy of the value in what `encode` returned."""
        ...


class MsgpackCodec:
    """The built-in format, for codecs that wrap it: `encode` and `decode` of whole values, scalars included."""

    def encode(self, value: object, /) -> bytes:
        """Raises `EncodeError` for what has no encoding."""
        return bytes(cast("Packed", encode([value])))

    def decode(self, data: bytes, /) -> object:
        """Raises `EncodeError` for bytes that are no value."""
        found = decode(Packed(data))
        if not isinstance(found, list) or len(found) != 1:
            raise EncodeError(f"{len(data)} bytes that MsgpackCodec did not write")
        return found[0]


def _checked(codec: Codec) -> int:
    tag = getattr(codec, "tag", None)
    if not isinstance(tag, int) or not _LOWEST <= tag <= 255:
        raise ConfigError(f"codec={codec!r}: tag={tag!r}, a number from {_LOWEST} to 255 is needed")
    if not callable(getattr(codec, "encode", None)) or not callable(getattr(codec, "decode", None)):
        raise ConfigError(f"codec={codec!r}: it needs encode(value) and decode(data)")
    return tag


def encoder(codec: Codec | None) -> Encoder:
    """`values.encode`, or the same by `codec`. Raises `ConfigError` for what is no codec."""
    if codec is None:
        return encode
    head = bytes((_checked(codec),))

    def encode_by(value: object, limit: int | None = None) -> Value:
        kind = value.__class__
        if kind in _SCALARS or (kind is int and -(1 << 63) <= value < 1 << 64):  # type: ignore[operator]
            return encode(value, limit)
        try:
            written = codec.encode(value)
        except Exception as error:
            raise EncodeError(f"a {kind.__name__} cannot be encoded by {codec!r}: {error!r}") from error
        if not isinstance(written, bytes):
            raise EncodeError(f"{codec!r} encoded a {kind.__name__} as {written.__class__.__name__}, not as bytes")
        if limit is not None and len(written) + 1 > limit:
            raise ValueTooLarge.of_value(len(written) + 1, limit)
        return Packed(head + written)

    return encode_by


def decoder(codec: Codec | None) -> Decoder:
    """`values.decode`, or the same by `codec` for what that has written."""
    if codec is None:
        return decode
    tag = _checked(codec)

    def decode_by(packed: Packed) -> object:
        if not packed or packed[0] != tag:
            return decode(packed)
        try:
            return codec.decode(bytes(packed[1:]))
        except Exception as error:
            raise EncodeError(f"a value of {len(packed)} bytes cannot be decoded by {codec!r}: {error!r}") from error

    return decode_by
