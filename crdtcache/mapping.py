"""Writing: every change is one look at the clock and one turn of the lock; the network hears of it later.

A write checks key and value first, so that what raises has changed nothing. Then the replica is changed under
the node's lock, a sleeping driver is woken, and handlers run after the lock is released. Without a driver
(before `start()`, after `close()`) the calls keep house themselves.

Decision: conditions (`if_absent`, `keep_ttl`, `add`, `setdefault`) are checked here and nowhere else. A check
that held across nodes would have to wait for them, and no write of this cache ever waits.

Above 400 lines because every way to change the map is here: each is a few lines around one turn of the lock.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import datetime
from typing import Any, Final, TypeVar, cast, overload

from crdtcache.arguments import DEFAULT, MAX_MS, MISSING, Default, Seconds, milliseconds, moment_ms
from crdtcache.core.clock import Reading, stamp_ms
from crdtcache.core.entry import EXPIRES, LIVE, STATE, VALUE, Key, Value, Version
from crdtcache.interrupts import postponed
from crdtcache.lookup import K, Lookup, V
from crdtcache.values import encode

__all__ = ["FOR_LOADERS", "REQUIRED", "LocalMap"]

D = TypeVar("D")

log = logging.getLogger("crdtcache")

_INT_LOW: Final = -(1 << 63)
_INT_HIGH: Final = (1 << 64) - 1
REQUIRED: Final = object()  # `pop` without a default; MISSING may be one
FOR_LOADERS: Final = (
    "decoded",
    "encoded",
    "held",
    "is_fresh",
    "known_keys",
    "not_stored",
    "note_once",
    "set_unless_moved",
)
"""Methods for the rooms above: no user calls them, and `dir(node)` does not show them."""
_PLAIN: Final = (str, bytes, int, float, bool, type(None))
_new_version: Final = tuple.__new__  # a third of the cost of calling Version
_KEEP_HOUSE: Final = 4_095  # without a driver, one write in 4,096 keeps house


class LocalMap(Lookup[K, V], MutableMapping[K, V]):
    """The local half of a node: a mutable mapping that needs no network."""

    __slots__ = ()

    def set(
        self,
        key: K,
        value: V,
        ttl: Seconds | Default | None = DEFAULT,
        *,
        expires_at: datetime | float | None = None,
        if_absent: bool = False,
        if_present: bool = False,
        keep_ttl: bool = False,
    ) -> Version | None:
        """Store `value` here and, as soon as the network allows, on every node. Returns the write's version.

        `ttl`: seconds, "1h30m" or a `timedelta`; None for never; left out, the node's default. `expires_at`
        instead of it: an aware `datetime` or Unix seconds. `if_absent`, `if_present`: local checks (no lock across
        nodes); None is returned where they fail. `keep_ttl`: the expiry of the entry that is replaced, if there is one.
        Raises `KeyTypeError`, `EncodeError`, `ValueTooLarge` or ValueError, the caller's fault; nothing is
        changed then.
        """
        if key.__class__ is not str or len(key) > self._short_key or not key.isascii():  # type: ignore[arg-type,attr-defined]
            self._check_key(key)
        kind = value.__class__
        plain = True
        if kind is str or kind is bytes:
            if len(value) > self._small:  # type: ignore[arg-type]
                plain = False
                encode(value, self._inline)
            elif kind is str and not value.isascii():  # type: ignore[attr-defined]
                encode(value, self._inline)
            stored: Value = value  # type: ignore[assignment]
        elif kind is int and _INT_LOW <= value <= _INT_HIGH:  # type: ignore[operator]
            stored = value  # type: ignore[assignment]
        else:
            stored = self._encode(value, self._inline)
            plain = stored.__class__ in _PLAIN
        if (
            plain
            and ttl is DEFAULT
            and expires_at is None
            and not (self._ttl_ms or if_absent or if_present or keep_ttl or self._listening or self._interrupts())
        ):
            # The commonest write: a scalar that never expires, and nobody listens. `core.writing` tells the rest.
            with self._lock:
                stamp = self._write(key, stored, self._wall_ms())  # type: ignore[arg-type]
            if not stamp:
                return self._set_slowly(key, stored, ttl, expires_at, if_absent, if_present, keep_ttl)
            self._writes += 1
            driver = self._driver
            if driver is None:
                if not self._writes & _KEEP_HOUSE:
                    self._keep_house()
            elif driver.asleep:
                driver.wake()
            return _new_version(Version, (stamp, self._replica.origin))
        return self._set_slowly(key, stored, ttl, expires_at, if_absent, if_present, keep_ttl)

    put = set  # noqa: A003 - the method above is meant

    def __setitem__(self, key: K, value: V) -> None:
        self.set(key, value)

    @postponed(None)
    def _set_slowly(
        self,
        key: K,
        stored: Value,
        ttl: Seconds | Default | None,
        expires_at: datetime | float | None,
        if_absent: bool,
        if_present: bool,
        keep_ttl: bool,
    ) -> Version | None:
        reading = self._clock.reading()
        if ttl is DEFAULT and expires_at is None:
            expires = self._default_expiry(reading)
            if keep_ttl or if_absent or if_present:
                return self._set_if(key, stored, expires, reading, if_absent, if_present, keep_ttl)
        else:
            expires = self._expiry(ttl, expires_at, reading, keep_ttl=keep_ttl)
            if if_absent or if_present:
                return self._set_if(key, stored, expires, reading, if_absent, if_present, keep_ttl)
        with self._lock:
            version = self._replica.put(cast("Key", key), stored, expires, reading)
            outcomes = self._replica.take_events() if self._listening else None
        self._writes += 1
        driver = self._driver
        if driver is None:
            if not self._writes & _KEEP_HOUSE:
                self._keep_house()
        elif driver.asleep:
            driver.wake()
        if outcomes:
            self._subscriptions.deliver(outcomes)
        if self._postponed:
            self._postponed.catch_up()
        return version

    def _set_if(
        self, key: K, stored: Value, expires: int, reading: Reading, if_absent: bool, if_present: bool, keep_ttl: bool
    ) -> Version | None:
        if if_absent and (if_present or keep_ttl):
            raise ValueError("if_absent=True contradicts if_present=True and keep_ttl=True")
        with self._lock:
            held = self._replica.entry(cast("Key", key), reading)
            if if_absent if held is not None else if_present:
                return None
            if keep_ttl and held is not None:
                expires = held[EXPIRES]
            version = self._replica.put(cast("Key", key), stored, expires, reading)
            outcomes = self._outcomes()
        self._writes += 1
        self._told(outcomes)
        return version

    def add(self, key: K, value: V, ttl: Seconds | Default | None = DEFAULT) -> bool:
        """Store `value` unless the key is visible here; whether it was stored. No lock: another node may add too."""
        return self.set(key, value, ttl, if_absent=True) is not None

    @postponed(None)
    def set_many(
        self, items: Mapping[K, V] | Iterable[tuple[K, V]], ttl: Seconds | Default | None = DEFAULT
    ) -> Version | None:
        """Store many; all are checked before the first is written. Returns the last version, None for no items."""
        pairs = items.items() if isinstance(items, Mapping) else items
        checked: list[tuple[Key, Value]] = []
        for key, value in pairs:
            self._check_key(key)
            checked.append((cast("Key", key), self._encode(value, self._inline)))
        reading = self._clock.reading()
        expires = self._expiry(ttl, None, reading, keep_ttl=False)
        version = None
        step = self._replica.tuning.step_entries
        for start in range(0, len(checked), step):  # the lock is held for one step
            with self._lock:
                for key, stored in checked[start : start + step]:
                    if self._ttl_jitter:
                        expires = self._expiry(ttl, None, reading, keep_ttl=False)
                    version = self._replica.put(key, stored, expires, reading)
                outcomes = self._outcomes()
            self._writes += len(checked[start : start + step])
            self._told(outcomes)
        return version

    def update(self, items: Any = (), /, **named: V) -> None:
        """As `dict.update`; all is checked before the first is written."""
        self.set_many(dict(items.items() if isinstance(items, Mapping) else items, **named))

    @postponed(False)
    def delete(self, key: K) -> bool:
        """Delete everywhere, also a key that is absent here; whether it was visible here."""
        self._check_key(key)
        reading = self._clock.reading()
        with self._lock:
            _, shown = self._replica.delete(cast("Key", key), reading)
            outcomes = self._outcomes()
        self._told(outcomes)
        return shown

    remove = delete

    def __delitem__(self, key: K) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def delete_many(self, keys: Iterable[K]) -> int:
        """Delete many; all keys are checked first. How many were visible here."""
        checked = list(keys)
        for key in checked:
            self._check_key(key)
        return sum(map(self.delete, checked))

    @postponed(False)
    def evict(self, key: K) -> bool:
        """Drop the value from this node's memory only; whether there was one."""
        self._check_key(key)
        reading = self._clock.reading()
        with self._lock:
            dropped = self._replica.evict(cast("Key", key), reading)
            outcomes = self._outcomes()
        self._told(outcomes)
        return dropped

    @postponed(None)
    def clear(self, *, local: bool = False) -> None:
        """Remove what was written until now on every node; with `local=True`, drop this node's memory only."""
        reading = self._clock.reading()
        with self._lock:
            if local:
                self._replica.clear_local(reading)
            else:
                self._replica.clear(reading)
            outcomes = self._outcomes()
        self._told(outcomes)
        self._keep_house()

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: V | D) -> V | D: ...
    def pop(self, key: K, default: object = REQUIRED) -> object:
        """Delete `key` everywhere and return its value; without one here `default`, or KeyError."""
        self._check_key(key)  # one that is only equal (True, 1.0, a StrEnum) must not come into the map
        if self._postponed.owned():
            value = self.get(key, MISSING)
            self.delete(key)
            return self._popped(key, value, default)
        reading = self._clock.reading()
        with self._lock:
            entry = self._replica.entry(cast("Key", key), reading)
            found = entry is not None and entry[STATE] == LIVE
            if found:
                self._replica.delete(cast("Key", key), reading)
            outcomes = self._outcomes()
        self._told(outcomes)
        return self._popped(key, self._open(entry[VALUE]) if entry is not None and found else MISSING, default)

    @staticmethod
    def _popped(key: object, value: object, default: object) -> object:
        if value is MISSING and default is REQUIRED:
            raise KeyError(key)
        return default if value is MISSING else value

    def popitem(self) -> tuple[K, V]:
        """Delete everywhere the least recently used item of this node and return it; KeyError when empty."""
        self._refuse_interrupt("popitem()")
        while True:
            self._keep_house()
            with self._lock:
                store = self._replica.store
                self._replica.settle()  # `oldest` may move what is buffered out of the young generation
                if not store.live:
                    raise KeyError("popitem(): the cache is empty")
                key = cast("K", store.oldest())
            value: object = self.pop(key, MISSING)
            if value is not MISSING:
                return key, cast("V", value)

    def setdefault(
        self,
        key: K,
        default: V = None,  # type: ignore[assignment]
        ttl: Seconds | Default | None = DEFAULT,
    ) -> V:
        """The value of `key`; where none is here, store `default` and return it. `ttl` as in `set`."""
        value: object = self.get(key, MISSING)
        stored = self.encoded(default) if value is MISSING else None
        if self._postponed.owned():
            self.set(key, default, ttl, if_absent=True)
            return default if value is MISSING else cast("V", value)
        while value is MISSING:
            seen = self.held(key)
            value = self.peek(key, MISSING)
            if value is MISSING and self.set_unless_moved(key, stored, ttl, seen) is not None:
                return default
        return cast("V", value)

    # ---- for loaders: a value that was computed must not bury a write that came meanwhile --------------------------

    def encoded(self, value: object) -> Value:
        """What would be stored for `value`. Raises `EncodeError` or `ValueTooLarge`, the caller's fault."""
        return self._encode(value, self._inline)

    def not_stored(self, name: str, error: Exception) -> None:
        """Count that a result of `name` could not be stored, and say so once."""
        self._unstored += 1
        self.note_once(f"unstored {name}", f"a result of {name} is not cached: {error}")

    def note_once(self, case: str, text: str) -> None:
        """One WARNING per case in the life of a node."""
        if case not in self._noted:
            self._noted[case] = None
            log.warning("%s (logged once)", text)

    def is_fresh(self, key: K, stale_ms: int) -> bool:
        """Whether `key` is visible, and not in the last `stale_ms` of its time.

        What lives no longer than `stale_ms` in all was `set` and never loaded: nothing was added to its time.
        """
        entry = self._visible(key)
        if entry is None or not entry[EXPIRES]:
            return entry is not None
        loaded = entry[EXPIRES] - stamp_ms(entry[0]) > stale_ms
        return not loaded or entry[EXPIRES] - self._wall_ms() > stale_ms

    def held(self, key: K) -> tuple[int, int]:
        """The version of what was written for `key` last, deletes and clears too: what `set_unless_moved` compares."""
        self._check_key(key)
        with self._lock:
            self._replica.settle()
            return self._replica.map.moved(cast("Key", key))

    @postponed(None)
    def set_unless_moved(
        self, key: K, stored: Value, ttl: Seconds | Default | None, seen: tuple[int, int], extra_ms: int = 0
    ) -> Version | None:
        """Write what `encoded` returned, unless `key` was written or deleted since `held` returned `seen`.

        `extra_ms` is added to the `ttl` (less its jitter) if that ends.
        """
        reading = self._clock.reading()
        expires = self._expiry(ttl, None, reading, keep_ttl=False)
        if expires:
            expires += extra_ms - (self._jitter_ms(expires - reading.wall_ms) if ttl is not DEFAULT else 0)
        with self._lock:
            self._replica.settle()
            if self._replica.map.moved(cast("Key", key)) != seen:
                return None
            version = self._replica.put(cast("Key", key), stored, expires, reading)
            outcomes = self._outcomes()
        self._writes += 1
        self._told(outcomes)
        return version

    # ---- expiry ---------------------------------------------------------------------------------------------------

    def expire(self, key: K, ttl: Seconds | None) -> bool:
        """Give `key` a new time to live, None for never; 0 or less deletes it. Whether it was visible here."""
        if ttl is not None and milliseconds(ttl, "ttl") <= 0:
            return self.delete(key)
        return self.touch(key, ttl)

    @postponed(False)
    def touch(self, key: K, ttl: Seconds | Default | None = DEFAULT) -> bool:
        """Renew the time to live from now on (left out: the node's default). Whether `key` was visible here."""
        self._check_key(key)
        reading = self._clock.reading()
        expires = self._expiry(ttl, None, reading, keep_ttl=False)
        with self._lock:
            touched = self._replica.touch(cast("Key", key), expires, reading)
            outcomes = self._outcomes()
        self._told(outcomes)
        return touched

    @postponed(())
    def check_expiry(self, key: K | None = None) -> list[K]:
        """Expire what is due now, run the handlers, and say which; with `key`, only whether that one was due.

        A running node does this by itself every `sweep_interval`; there this is for who cannot wait.
        """
        reading = self._clock.reading()
        with self._lock:
            gone = self._replica.expire_due(reading, cast("Key", key))
            outcomes = self._outcomes()
        self._told(outcomes)
        return cast("list[K]", gone)

    def _default_expiry(self, reading: Reading) -> int:
        span = self._ttl_ms
        return reading.wall_ms + span - self._jitter_ms(span) if span else 0

    def _jitter_ms(self, span: int) -> int:
        """How much earlier than `span` an entry expires: what was written at once need not expire at once."""
        return int(span * self._ttl_jitter * random.random()) if self._ttl_jitter else 0

    def _expiry(
        self, ttl: Seconds | Default | None, expires_at: datetime | float | None, reading: Reading, *, keep_ttl: bool
    ) -> int:
        """Unix ms at which an entry written now ends, 0 for never. Raises ValueError for the past."""
        if ttl is DEFAULT and expires_at is None:
            return self._default_expiry(reading)
        if keep_ttl:
            raise ValueError("keep_ttl=True contradicts ttl= and expires_at=")
        if expires_at is not None:
            if ttl is not DEFAULT:
                raise ValueError("give ttl= or expires_at=, not both")
            expires = moment_ms(expires_at, "expires_at")
            if expires <= reading.wall_ms:
                raise ValueError(f"expires_at={expires_at!r}: {reading.wall_ms - expires} ms ago; use delete(key)")
            return expires
        if ttl is None:
            return 0
        span = milliseconds(cast("Seconds", ttl), "ttl")
        if span <= 0:
            raise ValueError(f"ttl={ttl!r}: must be positive; ttl=None means never, and delete(key) removes")
        if reading.wall_ms + span > MAX_MS:
            raise ValueError(f"ttl={ttl!r}: ends after Unix ms {MAX_MS}; ttl=None means never")
        return reading.wall_ms + span
