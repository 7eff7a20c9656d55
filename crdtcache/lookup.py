"""Looking up: what a node shows of its replica's memory, and the one lock around it.

A hit of `get` is an `in` and a subscript of a plain dict (`core.store`, its young generation) and takes no lock; only
what expires, is packed, or is not there goes further. `get`, `in`, `len` and iteration show values that are in
memory; `ttl`, `expires_at` and `version` answer for every visible entry, also one whose value this node has evicted.

Decision: types of keys are checked on a write and on a miss, not on a hit: `True` may find the key 1, and the
hit stays at dict speed. `==` is identity, not content: a node belongs into sets and weak references, and
comparing a live cache item by item would answer for no single instant.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

from crdtcache.arguments import MISSING, moment
from crdtcache.codecs import Codec, decoder, encoder
from crdtcache.core.entry import DEAD, EXPIRES, STATE, VALUE, Entry, Key, Packed, Version, is_key, key_bytes, version_of
from crdtcache.core.outcome import Dial
from crdtcache.core.outcome import Event as Outcome
from crdtcache.core.replica import Replica
from crdtcache.core.store import ABSENT
from crdtcache.core.writing import LARGE
from crdtcache.errors import EncodeError, ValueTooLarge
from crdtcache.events import Subscriptions
from crdtcache.interrupts import Postponed
from crdtcache.runtime.clocks import TimeSource
from crdtcache.views import Items, Values
from crdtcache.waking import Waiter, Wakeable

if TYPE_CHECKING:  # with defaults, so that `Node()` needs no annotation; a plain TypeVar has none before 3.13
    from typing_extensions import TypeVar as DefaultTypeVar

    K = DefaultTypeVar("K", bound=Hashable, default=Any)
    V = DefaultTypeVar("V", default=Any)
else:
    K = TypeVar("K")
    V = TypeVar("V")
D = TypeVar("D")

__all__ = ["K", "Lookup", "V"]

log = logging.getLogger("crdtcache")


class Lookup(Mapping[K, V]):
    """What a node shows of its replica's memory. `ttl_ms`: the default time to live, 0 for none."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_decode",
        "_driver",
        "_encode",
        "_guarded",
        "_hits",
        "_inline",
        "_interrupts",
        "_listening",
        "_lock",
        "_misses",
        "_noted",
        "_postponed",
        "_replica",
        "_short_key",
        "_small",
        "_subscriptions",
        "_ttl_jitter",
        "_ttl_ms",
        "_unreadable",
        "_unstored",
        "_wall_ms",
        "_write",
        "_writes",
        "_young",
    )

    def __init__(
        self,
        replica: Replica,
        clock: TimeSource,
        *,
        ttl_ms: int,
        ttl_jitter: float,
        max_value_bytes: int,
        codec: Codec | None,
    ) -> None:
        self._replica: Final = replica
        self._clock: Final = clock
        self._lock: Final = threading.RLock()
        # whether this call comes in the middle of a change of the same thread
        self._interrupts: Final[Callable[[], bool]] = self._lock._is_owned  # type: ignore[attr-defined]  # noqa: SLF001
        self._postponed: Final = Postponed(self._interrupts)
        depth = getattr(self._lock, "_recursion_count", lambda: 1)
        replica.interrupts = lambda: depth() > 1
        self._driver: Wakeable | None = None
        self._young: Final[dict[Any, object]] = cast("dict[Any, object]", replica.store.direct.young)
        self._guarded: Final[dict[Any, Entry]] = cast("dict[Any, Entry]", replica.store.guarded.young)
        self._write: Final = replica.write
        self._wall_ms: Final = getattr(clock, "wall_ms", None) or (lambda: clock.reading().wall_ms)
        self._encode: Final = encoder(codec)
        self._decode: Final = decoder(codec)
        self._ttl_ms = ttl_ms
        self._ttl_jitter = ttl_jitter
        self._noted: dict[str, None] = {}  # what was logged and is not logged again
        self._unstored = 0
        self._inline = min(max_value_bytes, replica.tuning.inline_bytes)
        self._small = min(self._inline, LARGE)
        # A shorter str of ASCII needs no encoding to know that it is within the limit.
        self._short_key = min(256, replica.tuning.key_bytes - 3)
        self._hits = self._misses = self._writes = self._unreadable = 0
        self._listening = False
        self._subscriptions: Final = Subscriptions(self._listen, self._live, self._decode)

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: V | D) -> V | D: ...
    def get(self, key: K, default: object = None) -> object:
        """The value of `key`, or `default`. Never loads, never waits, never raises for a key that is not here.

        Containers come back as a fresh copy each time. Raises `KeyTypeError` for what cannot be a key.
        """
        young = self._young
        if key in young:
            self._hits += 1
            try:
                return young[key]
            except KeyError:  # taken out since the line above
                self._hits -= 1
        shown = self._guarded.get(key)
        if shown is not None:
            expires = shown[EXPIRES]
            if not expires or self._wall_ms() < expires:
                value: object = shown[VALUE]
                if value.__class__ is not Packed:
                    self._hits += 1
                    return value
        return self._attend(key, default)

    def __getitem__(self, key: K) -> V:
        young = self._young
        if key in young:
            self._hits += 1
            try:
                return young[key]  # type: ignore[return-value]
            except KeyError:
                self._hits -= 1
        value = self._attend(key, MISSING)
        if value is MISSING:
            return self.__missing__(key)
        return value  # type: ignore[return-value]

    def __missing__(self, key: K) -> V:
        """What `[]` gives for a key that is not here, as for a dict: KeyError, unless there is a loader."""
        raise KeyError(key)

    def _attend(self, key: K, default: object) -> object:
        """What a hit of the fast path leaves: packed, expired, in the old generation, or absent."""
        shown: object = self._guarded.get(key, ABSENT)
        if shown is ABSENT:
            self._use()
            store = self._replica.store
            if self._postponed.owned() or not is_key(key):
                # A key that is only equal to one that is here (True, 1.0, a StrEnum) finds it, and stays outside.
                shown = store.shown(cast("Key", key))
            else:
                with self._lock:
                    shown = store.promote(cast("Key", key))
            if shown is ABSENT:
                self._check_key(key)
        value = self._value(shown)
        if value is MISSING:
            self._misses += 1
            return default
        self._hits += 1
        return value

    def _value(self, shown: object) -> object:
        """A reader's copy of the value that `shown` stands for, MISSING where it has expired or there is none."""
        if shown.__class__ is not tuple:
            return MISSING if shown is ABSENT else shown
        entry = cast("Entry", shown)
        return MISSING if 0 < entry[EXPIRES] <= self._wall_ms() else self._open(entry[VALUE])

    def _open(self, value: object) -> object:
        """A reader's copy of a stored value; MISSING, and one warning per node, where it cannot be read."""
        if value.__class__ is not Packed:
            return value
        try:
            return self._decode(value)
        except EncodeError as error:
            if not self._unreadable:
                log.warning("a value cannot be read here and is treated as missing: %s (logged once)", error)
            self._unreadable += 1
            return MISSING

    def decoded(self, stored: object) -> object:
        """A copy of what `encoded` returned; MISSING where it cannot be read."""
        return self._open(stored)

    @overload
    def peek(self, key: K) -> V | None: ...
    @overload
    def peek(self, key: K, default: V | D) -> V | D: ...
    def peek(self, key: K, default: object = None) -> object:
        """`get` that counts as no use: neither recency nor statistics change."""
        value = self._look(key)
        return default if value is MISSING else value

    def _look(self, key: object) -> object:
        """What `get` would return, or MISSING, without the promotion that a use is."""
        return self._value(self._shown(key))

    def _shown(self, key: object) -> object:
        """What the generations show of `key` (`Store.shown`); its type is checked where that is nothing."""
        shown = self._young.get(key, ABSENT)
        if shown is ABSENT:
            with self._lock:
                shown = self._replica.store.shown(cast("Key", key))
            if shown is ABSENT:
                self._check_key(key)
        return shown

    def _visible(self, key: object) -> Entry | None:
        """The visible entry of `key`; its type is checked where there is none."""
        reading = self._clock.reading()
        with self._lock:
            entry = self._replica.entry(cast("Key", key), reading)
        if entry is None:
            self._check_key(key)
        return entry

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """The values of those of `keys` that are here."""
        found = {key: self.get(key, MISSING) for key in keys}
        return {key: value for key, value in found.items() if value is not MISSING}

    def __contains__(self, key: object) -> bool:
        shown = self._shown(key)
        if shown.__class__ is tuple:
            expires = cast("Entry", shown)[EXPIRES]
            return not expires or self._wall_ms() < expires
        return shown is not ABSENT

    def __len__(self) -> int:
        self._keep_house()
        with self._lock:  # between two steps of an eviction the generations overlap
            self._replica.settle()
            return self._replica.store.live

    def __iter__(self) -> Iterator[K]:
        return iter(self._snapshot())

    def _snapshot(self) -> list[K]:
        self._keep_house()
        with self._lock:
            return cast("list[K]", self._replica.store.keys())

    def known_keys(self) -> list[K]:
        """Every visible key, also those whose value this node has evicted; some may have expired just now."""
        entries = self._replica.store.entries
        with self._lock:
            self._replica.settle()
            keys = list(entries)
        return [cast("K", key) for key in keys if (entry := entries.get(key)) is not None and entry[STATE] != DEAD]

    @property
    def maxsize(self) -> int | None:
        """The greatest number of values in this node's memory, None for no bound."""
        return self._replica.store.maxsize

    def keys(self) -> KeysView[K]:
        """A view of the keys; iterating it takes a snapshot, so the map may change meanwhile."""
        return KeysView(self)

    def values(self) -> ValuesView[V]:
        """A view of the values, peeked one by one; what goes while iterating is left out."""
        return Values(self)

    def items(self) -> ItemsView[K, V]:
        """A view of keys and values, peeked one by one; what goes while iterating is left out."""
        return Items(self)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def ttl(self, key: K) -> float | None:
        """Seconds until `key` expires; None if it never does. Raises KeyError where it is not visible."""
        reading = self._clock.reading()
        entry = self._visible(key)
        if entry is None:
            raise KeyError(key)
        return max(0, entry[EXPIRES] - reading.wall_ms) / 1_000 if entry[EXPIRES] else None

    def expires_at(self, key: K) -> datetime | None:
        """When `key` expires, in UTC; None if it never does. Raises KeyError where it is not visible."""
        entry = self._visible(key)
        if entry is None:
            raise KeyError(key)
        return moment(entry[EXPIRES]) if entry[EXPIRES] else None

    def version(self, key: K) -> Version | None:
        """The version of the visible entry of `key`, None where there is none: equal versions are equal values."""
        entry = self._visible(key)
        return version_of(entry) if entry is not None else None

    # ---- around the lock ------------------------------------------------------------------------------------------

    def _check_key(self, key: object) -> None:
        """Raises `KeyTypeError`, `EncodeError` or `ValueTooLarge`, the caller's fault, for what cannot be a key."""
        length = len(key_bytes(cast("Key", key)))
        limit = self._replica.tuning.key_bytes
        if length > limit:
            raise ValueTooLarge(f"a key of {length} bytes is above the limit of {limit} bytes (Tuning.key_bytes)")

    def _outcomes(self) -> list[Outcome] | None:
        """What the call under the lock has changed; only collected while somebody listens."""
        return self._replica.take_events() if self._listening else None

    def _told(self, outcomes: list[Outcome] | None) -> None:
        """After the lock: wake the driver if it sleeps, and run the handlers."""
        driver = self._driver
        if driver is not None and driver.asleep:
            driver.wake()
        if outcomes:
            self._subscriptions.deliver(outcomes)
        if self._postponed:
            self._postponed.catch_up()

    def _postpone(self, call: Callable[[], object]) -> None:
        """Make a call when what it interrupts is through: at the driver's next turn, else at the next change."""
        self._postponed.add(call)
        if self._driver is not None:
            self._driver.soon(self._postponed.catch_up)

    def _refuse_interrupt(self, call: str) -> None:
        if self._interrupts():
            raise RuntimeError(f"{call} in a finalizer or signal handler, in the middle of a change of this very cache")

    def _attach(self, driver: Wakeable | None) -> None:
        with self._lock:
            self._driver = driver

    def _await_use(self, begin: Callable[[], object]) -> None:
        """Call `begin` once, at the next lookup or write, whichever comes first."""

        def once() -> None:
            if self._driver is waiter:
                self._attach(None)
                begin()

        waiter = Waiter(once)
        with self._lock:
            self._replica.store.rest()
            self._driver = waiter

    def _use(self) -> None:
        """This is a use, as `_await_use` means it."""
        driver = self._driver
        if driver.__class__ is Waiter:
            driver.wake()

    def _live(self) -> list[int]:
        """The origins of this node and of those it is connected to."""
        with self._lock:
            return [self._replica.origin, *(peer.origin for peer in self._replica.peers() if peer.connected)]

    def _listen(self, listening: bool) -> None:
        with self._lock:
            self._replica.listening = listening
            self._listening = listening

    def _keep_house(self) -> None:
        """Hide what is due; without a driver also do what the driver would: clear, collect, make room."""
        if self._postponed.owned():
            return
        self._postponed.catch_up()
        while True:
            reading = self._clock.reading()
            with self._lock:
                self._replica.expire_due(reading)
                due = self._replica.deadline() if self._driver is None else None
                again = due is not None and due <= reading.mono_ns
                if again:
                    self._replica.advance(reading)
                outcomes = self._replica.take_events() if self._listening or again else None
                if again:
                    for outcome in outcomes or ():
                        if isinstance(outcome, Dial):  # nobody is there to call; it counts as a failed call
                            self._replica.dial_failed(outcome.address, reading)
            if outcomes:
                self._subscriptions.deliver(outcomes)
            if not again:
                return
