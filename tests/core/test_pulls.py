"""A joiner far away: one pull is answered by many slices, and none of them travels twice."""

from __future__ import annotations

import heapq
import random
from itertools import count

import pytest

from crdtcache.core.clock import Reading
from crdtcache.core.replica import Replica

_WALL_MS = 1_700_000_000_000
_BYTES_PER_MS = 5_000


def at(ms: int) -> Reading:
    return Reading(_WALL_MS + ms, (1_000 + ms) * 1_000_000)


def replica(origin: int) -> Replica:
    name = f"n{origin}"
    return Replica(
        origin=origin,
        name=name,
        cluster="c",
        generation=origin,
        rng=random.Random(origin),
        reading=at(0),
        maxsize=None,
    )


@pytest.mark.parametrize("one_way_ms", [1, 20, 100])
def test_what_a_joiner_lacks_is_sent_once_however_long_the_way(one_way_ms):
    keys = 20_000
    donor, joiner = replica(1), replica(2)
    for number in range(keys):
        donor.put(f"k{number}", "v" * 20, 0, at(0))
    donor.connected(1, joiner.hello(at(0)), at(0))
    joiner.connected(1, donor.hello(at(0)), at(0), dialed="10.0.0.1:2738")
    travelling: list[tuple[float, int, Replica, bytes]] = []
    order, free = count(), {1: 0.0, 2: 0.0}  # when each end of the link can take the next frame
    ms = 0
    while joiner.store.live < keys or joiner.digest() != donor.digest():
        ms += 1
        assert ms < 10_000, "it never arrives"
        while travelling and travelling[0][0] <= ms:
            _, _, receiver, frame = heapq.heappop(travelling)
            receiver.receive(1, frame, at(ms))
        for sender, receiver in ((donor, joiner), (joiner, donor)):
            due = sender.deadline()
            if due is not None and due <= at(ms).mono_ns:
                sender.advance(at(ms))
            while free[sender.origin] <= ms and (frame := sender.poll(1, at(ms))) is not None:
                free[sender.origin] = max(free[sender.origin], ms) + len(frame) / _BYTES_PER_MS
                heapq.heappush(travelling, (free[sender.origin] + one_way_ms, next(order), receiver, frame))
            sender.take_events()
    assert donor.stats()["entries_sent"] == keys
    assert joiner.stats()["pulls"] == 1
