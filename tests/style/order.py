"""The reading order of the package: a file imports only files above it. A new file gets its line here.

The list is the guided tour of the house. Where a file would need something from below it, either the thing
stands in the wrong room or the file does.
"""

from __future__ import annotations

READING_ORDER = (
    "errors",
    "tuning",
    # pure: bytes, ints and values in; bytes and events out
    "core.clock",
    "core.entry",
    "core.messages",
    "core.outcome",
    "core.context",
    "core.digest",
    "core.log",
    "core.store",
    "core.writing",
    "core.lwwmap",
    "core.removal",
    "core.slices",
    "core.codec",
    "core.claims",
    "core.spread",
    "core.members",
    "core.session",
    "core.links",
    "core.gaps",
    "core.outbox",
    "core.sessions",
    "core.replica",
    # the only files that know a socket, a thread or a clock
    "runtime.clocks",
    "runtime.addresses",
    "runtime.link",
    "runtime.handshake",
    "runtime.discovery",
    "runtime.doors",
    "runtime.driver",
    "runtime.thread",
    # the user's mapping
    "arguments",
    "atoms",
    "values",
    "events",
    "loops",
    "watching",
    "flights",
    "forks",
    "naming",
    "views",
    "lookup",
    "mapping",
    "filling",
    "loading",
    "effects",
    "settings",
    "life",
    "portrait",
    "node",
    "",  # crdtcache/__init__.py: what stands below uses the package as its users do
    "demo.*",
    "cli",
    "__main__",
)

PUBLIC_NAMES = (
    "DEFAULT",
    "MISSING",
    "ConfigError",
    "CrdtCacheError",
    "EncodeError",
    "Event",
    "JoinRefused",
    "KeyTypeError",
    "Node",
    "Peer",
    "Subscription",
    "Tuning",
    "Unknown",
    "ValueTooLarge",
    "Version",
    "WouldBlock",
    "__version__",
    "register",
)
