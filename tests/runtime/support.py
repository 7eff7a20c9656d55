"""A replica, its lock and its driver, as `Node` would hold them; and ways to wait for something to become true."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress

import trio

from crdtcache.core.outcome import Change, Event
from crdtcache.core.replica import Replica
from crdtcache.runtime.clocks import SystemClock
from crdtcache.runtime.driver import Driver
from crdtcache.settings import digest_seed
from crdtcache.tuning import Tuning

# Waits are short, so that a test of a time-out takes a second and not ten.
QUICK = Tuning(
    keepalive_ms=200, silent_ms=1_000, context_ms=100, redial_ms=100, redial_slow_ms=200, dial_timeout_ms=500
)


class Party:
    """One participant. `driver` may be run in a nursery or in a thread."""

    def __init__(
        self,
        name,
        *,
        peers=None,
        listen="127.0.0.1:0",
        cluster="test",
        secret=None,
        insecure=False,
        advertise="",
        tuning=QUICK,
    ):
        self.name = name
        self.lock = threading.Lock()
        self.clock = SystemClock()
        self.events: list[Event] = []
        self.hook: Callable[[list[Event]], None] | None = None
        reading = self.clock.reading()
        self.replica = Replica(
            origin=random.getrandbits(64),
            name=name,
            cluster=cluster,
            generation=reading.wall_ms,
            rng=random.Random(name),
            reading=reading,
            advertise=advertise,
            seed=digest_seed(cluster, secret),
            tuning=tuning,
            maxsize=None,
            seeded=peers is not None,
        )
        self.replica.listening = True
        self.driver = Driver(
            self.replica,
            self.lock,
            self.clock,
            self._deliver,
            listen=listen,
            peers=peers,
            secret=secret,
            insecure=insecure,
            tuning=tuning,
        )

    def _deliver(self, events):
        self.events += events
        if self.hook is not None:
            self.hook(events)

    def set(self, key, value, expires_at=0):
        with self.lock:
            version = self.replica.put(key, value, expires_at, self.clock.reading())
        if self.driver.asleep:
            self.driver.wake()
        return version

    def delete(self, key):
        with self.lock:
            self.replica.delete(key, self.clock.reading())
        if self.driver.asleep:
            self.driver.wake()

    def get(self, key):
        with self.lock:
            entry = self.replica.entry(key, self.clock.reading())
        return None if entry is None else entry[6]

    def stats(self):
        with self.lock:
            return self.replica.stats()

    def links(self):
        return self.stats()["links_up"]

    def digest(self):
        with self.lock:
            return self.replica.digest()

    def changes(self, kind):
        return [event for event in self.events if isinstance(event, Change) and event.kind == kind]


async def until(true, seconds=5.0):
    """Wait until `true()`; AssertionError after `seconds`."""
    with trio.move_on_after(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for tells nobody
            await trio.sleep(0.005)
        return
    raise AssertionError(f"not within {seconds} s: {true}")


async def raw(address, data=b""):
    """A plain connection to a driver, with `data` sent."""
    host, _, port = address.rpartition(":")
    stream = await trio.open_tcp_stream(host.strip("[]"), int(port))
    if data:
        with suppress(trio.BrokenResourceError):  # closed while we were still sending
            await stream.send_all(data)
    return stream


async def drained(stream, seconds=5.0):
    """Everything the other side sends until it closes; AssertionError if it does not within `seconds`."""
    got = b""
    with trio.move_on_after(seconds):
        try:
            while part := await stream.receive_some(65_536):
                got += part
        except trio.BrokenResourceError:
            pass
        return got
    raise AssertionError(f"the link is still open after {seconds} s")
