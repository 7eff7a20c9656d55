"""crdtcache: a distributed cache inside your process. `from crdtcache import Node` is the import for almost everybody.

The public names are resolved on first use. Decision: importing this package loads nothing else, neither trio
nor asyncio nor msgpack (trio alone takes some 150 ms), opens nothing and starts nothing, so it is safe at
import time, before a fork, and in a command that ends without touching the cache. The refused alternative,
plain imports here, would make every script of an application pay for its cache.
"""

TYPE_CHECKING = False  # type checkers know this name; `from typing import` it would cost milliseconds
if TYPE_CHECKING:
    from crdtcache.arguments import DEFAULT, MISSING
    from crdtcache.codecs import MsgpackCodec
    from crdtcache.core.entry import Version
    from crdtcache.core.replica import Peer
    from crdtcache.errors import (
        ConfigError,
        CrdtCacheError,
        EncodeError,
        JoinRefused,
        KeyTypeError,
        ValueTooLarge,
        WouldBlock,
    )
    from crdtcache.events import Event, Subscription
    from crdtcache.namespaces import Namespace
    from crdtcache.node import Node
    from crdtcache.portrait import Region
    from crdtcache.receipts import Replicated
    from crdtcache.repairing import RepairReport
    from crdtcache.tuning import Tuning
    from crdtcache.values import Unknown, register
    from crdtcache.watching import Watch

__version__ = "0.1.0"

__all__ = [
    "DEFAULT",
    "MISSING",
    "ConfigError",
    "CrdtCacheError",
    "EncodeError",
    "Event",
    "JoinRefused",
    "KeyTypeError",
    "MsgpackCodec",
    "Namespace",
    "Node",
    "Peer",
    "Region",
    "RepairReport",
    "Replicated",
    "Subscription",
    "Tuning",
    "Unknown",
    "ValueTooLarge",
    "Version",
    "Watch",
    "WouldBlock",
    "__version__",
    "register",
]

_ROOMS = {
    "DEFAULT": "crdtcache.arguments",
    "MISSING": "crdtcache.arguments",
    "ConfigError": "crdtcache.errors",
    "CrdtCacheError": "crdtcache.errors",
    "EncodeError": "crdtcache.errors",
    "Event": "crdtcache.events",
    "JoinRefused": "crdtcache.errors",
    "KeyTypeError": "crdtcache.errors",
    "MsgpackCodec": "crdtcache.codecs",
    "Namespace": "crdtcache.namespaces",
    "Node": "crdtcache.node",
    "Peer": "crdtcache.core.replica",
    "Region": "crdtcache.portrait",
    "RepairReport": "crdtcache.repairing",
    "Replicated": "crdtcache.receipts",
    "Subscription": "crdtcache.events",
    "Tuning": "crdtcache.tuning",
    "Unknown": "crdtcache.values",
    "ValueTooLarge": "crdtcache.errors",
    "Version": "crdtcache.core.entry",
    "Watch": "crdtcache.watching",
    "WouldBlock": "crdtcache.errors",
    "register": "crdtcache.values",
}


def __getattr__(name: str) -> object:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'crdtcache' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(room), name)
    globals()[name] = found  # the next use costs a dict lookup
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
