"""What is wrong just now, in words: for `status()` while it lasts, and for the log when it begins and ends.

Decision: a condition has a beginning and an end, not a line a second. Nobody reads a log that says the same for hours,
and a health page that shows only counters does not say what to do.
"""

from __future__ import annotations

import logging

from crdtcache.core.outcome import PeerDown, PeerUp

__all__ = ["Conditions"]

_MOST_CONDITIONS = 64

_log = logging.getLogger("crdtcache")


class Conditions:
    """What is wrong just now. One WARNING when it begins, DEBUG while it lasts, INFO when it is over."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._warned: set[str] = set()

    def texts(self) -> list[str]:
        """One line for each."""
        return list(self._texts.values())

    def begin(self, key: str, text: str, *, warn: bool = True) -> None:
        """`key` is the case, also when it was before. `warn`: False where it is too early for more than to show it."""
        _log.log(logging.WARNING if warn and key not in self._warned else logging.DEBUG, "%s", text)
        if warn:
            self._warned.add(key)
        self._texts.pop(key, None)
        self._texts[key] = text
        if len(self._texts) > _MOST_CONDITIONS:
            oldest = next(iter(self._texts))
            del self._texts[oldest]
            self._warned.discard(oldest)

    def end(self, key: str, text: str) -> None:
        """`key` is not the case any more, if it was."""
        if self._texts.pop(key, None) is not None:
            _log.log(logging.INFO if key in self._warned else logging.DEBUG, "%s", text)
        self._warned.discard(key)

    def end_others(self, prefix: str, lasting: dict[str, str], text: str) -> None:
        """End all conditions `prefix + name` whose name is not among `lasting`."""
        for key in [k for k in self._texts if k.startswith(prefix) and k.removeprefix(prefix) not in lasting]:
            self.end(key, f"{key.removeprefix(prefix)} {text}")

    def note_peer(self, event: PeerUp | PeerDown, own_name: str) -> None:
        """Tell who comes and goes; for as long as it is there, also of another node that has this one's name."""
        hello = event.hello
        namesake = f"name {hello.origin}"
        if isinstance(event, PeerDown):
            _log.info("%s (%s) is not connected any more: %s", hello.name, hello.region, event.reason)
            self.end(namesake, f"the other {hello.name} is gone")
            return
        _log.info("%s (%s) is connected", hello.name, hello.region)
        if hello.name == own_name:
            where = f"another node, at {hello.advertise or 'no port'}, has the name {own_name} too"
            self.begin(namesake, f"{where}: give each its own name=, or others take one for the other")
