"""What one process sees by its own `on(...)` events: the evidence that the verdict rests on.

Decision: the user's event callback is the only witness. A counter inside the library would testify for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from crdtcache.demo.ledger import stamp_ms

__all__ = ["PROBE", "Seen", "Witness"]

PROBE = "probe:"
"""Keys "probe:<service>:<slot>" whose value is the monotonic ns of their write."""


class Seen(Protocol):
    """The part of an event that is looked at."""

    kind: str
    key: Any
    remote: bool
    version: Any

    @property
    def value(self) -> Any:
        """The value that is visible now."""


class Witness:
    """Takes the events of one node; `take()` gives what is new as JSON fields.

    `ttl_s` (key -> seconds, 0 for none) says how long the writers let a key live.
    `now_ns` is the monotonic clock that all processes of one machine share.
    """

    def __init__(self, ttl_s: Callable[[str], float], now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.gone: dict[str, str] = {}  # key -> version of the greatest delete seen here
        self.overwritten = 0
        self._ttl_s = ttl_s
        self._now_ns = now_ns
        self._wrote: list[list[object]] = []
        self._saw: list[list[object]] = []
        self._samples: list[list[object]] = []
        self._resurrections: list[str] = []

    def __call__(self, event: Seen) -> None:
        """The handler of "set", "deleted" and "overwritten"."""
        now = self._now_ns()
        key, version = str(event.key), str(event.version)
        if event.kind == "overwritten":
            self.overwritten += 1
            return
        if event.kind == "deleted":
            self.gone[key] = max(version, self.gone.get(key, ""))
        elif version < self.gone.get(key, ""):
            self._resurrections.append(f"{key} at {version}, deleted at {self.gone[key]}")
        if event.remote and event.kind == "set" and key.startswith(PROBE):
            self._samples.append([key.split(":")[1], event.value / 1e9, (now - event.value) / 1e6])
        ttl = self._ttl_s(key) if event.kind == "set" else 0.0
        expires = stamp_ms(version) + int(ttl * 1000) if ttl else 0
        (self._saw if event.remote else self._wrote).append([key, event.kind, version, expires])

    def take(self) -> dict[str, Any]:
        """What was seen since the last call."""
        taken = {
            "wrote": self._wrote,
            "saw": self._saw,
            "samples": self._samples,
            "resurrections": self._resurrections,
        }
        self._wrote, self._saw, self._samples, self._resurrections = [], [], [], []
        return taken
