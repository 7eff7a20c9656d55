"""Everything this package raises, and whose fault each one is.

Each docstring has three lines: whose fault, the state afterwards, what to do. The message of an error
holds the offending number or name and the limit. A bug of the package itself is an `AssertionError`
that tears the node's nursery down; it is never one of these.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "CrdtCacheError",
    "EncodeError",
    "JoinRefused",
    "KeyTypeError",
    "ValueTooLarge",
    "WouldBlock",
]


class CrdtCacheError(Exception):
    """Fault: see the subclass.

    State: unchanged by the call that raised.
    Do: catch this one to catch everything the package raises on purpose.
    """


class ConfigError(CrdtCacheError, ValueError):
    """Fault: the caller's, in the constructor, `start()` or `Tuning`.

    State: nothing was opened and nothing was started.
    Do: change the argument that the message names.
    """


class WouldBlock(CrdtCacheError, RuntimeError):
    """Fault: the caller's: a blocking call was made inside a running event loop.

    State: unchanged; the call did not wait.
    Do: await the `a`-prefixed twin that the message names.
    """


class EncodeError(CrdtCacheError, TypeError):
    """Fault: the caller's: a value (or a key) has no encoding.

    State: the cache is unchanged; the old value, if any, is still there.
    Do: store one of the types of API section 3, or convert it first.
    """


class ValueTooLarge(CrdtCacheError, ValueError):
    """Fault: the caller's: a value or key is larger than the limit in the message.

    State: the cache is unchanged; the old value, if any, is still there.
    Do: store less under one key, or raise the limit that the message names on every node.
    """

    @classmethod
    def of_value(cls, length: int, limit: int) -> ValueTooLarge:
        """The error for a value of `length` bytes."""
        return cls(
            f"a value of {length} bytes is above the limit of {limit} bytes: store it in parts or keep a reference to "
            "it, or raise the smaller of max_value_bytes and Tuning.inline_bytes (32 KiB for now) on every node"
        )


class KeyTypeError(CrdtCacheError, TypeError):
    """Fault: the caller's: keys are str, bytes, int (64 bits) and tuples of these.

    State: the cache is unchanged.
    Do: convert the key; `True` and `1` would be one key here and two on the wire.
    """


class JoinRefused(CrdtCacheError):
    """Fault: the configuration of one of two nodes (cluster name, secret or version differ); from `wait_ready`.

    State: the link is closed, nothing was exchanged but the greeting; the node goes on alone, and calls again.
    Do: compare `cluster=` and `secret=` of both; both logs hold the same reason.
    """
