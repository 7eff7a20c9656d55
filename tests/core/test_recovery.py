"""An exception may end a change at any line: nothing is shown that is not there, and the next turn mends the rest."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from crdtcache.core.clock import Reading
from crdtcache.core.entry import DEAD, STATE, VALUE, dead_entry
from crdtcache.core.replica import Replica

_START = Reading(1_700_000_000_000, 1_000)


class Interrupt(BaseException):
    """What a signal handler raises."""


def interrupted(act: Callable[[], object], line: int) -> bool:
    """Whether `act` had so many lines of the core that it was ended at that one."""
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        nonlocal left
        # The two lines of `write` have no call between them, so that no handler can run there.
        if "/core/" not in frame.f_code.co_filename or frame.f_code.co_name in ("write", "whole", "mend", "recover"):
            return trace
        if event == "line":
            left -= 1
            if left < 0:
                raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def filled() -> tuple[Replica, Reading]:
    replica = Replica(
        origin=7,
        name="a",
        cluster="c",
        generation=1,
        rng=random.Random(1),
        reading=_START,
        maxsize=6,
        max_bytes=None,
        seeded=True,
    )
    now = Reading(_START.wall_ms + 1, _START.mono_ns + 1_000_000)
    for i in range(4):
        replica.put(f"k{i}", i, 0, now)
    replica.put("ends", 1, now.wall_ms + 60_000, now)
    replica.write("plain", "x", now.wall_ms)
    replica.settle()
    long_ago = (now.wall_ms - 600_000) << 16
    replica.map.offer("aged", dead_entry(long_ago, 9), now, None)
    return replica, now


ACTS: dict[str, Callable[[Replica, Reading], object]] = {
    "put": lambda r, now: r.put("k1", "new", 0, now),
    "put, with a lease": lambda r, now: r.put("k1", "new", now.wall_ms + 5_000, now),
    "put, over the limit": lambda r, now: r.put("more", "new", 0, now),
    "write, over the limit": lambda r, now: (r.write("more", "new", now.wall_ms), r.settle()),
    "write over what expires": lambda r, now: (r.write("ends", "new", now.wall_ms), r.settle()),
    "put over what died long ago": lambda r, now: r.put("aged", "new", 0, now),
    "delete": lambda r, now: r.delete("k1", now),
    "delete what is absent": lambda r, now: r.delete("k9", now),
    "touch": lambda r, now: r.touch("ends", now.wall_ms + 90_000, now),
    "evict": lambda r, now: r.evict("k1", now),
    "clear": lambda r, now: r.clear(now),
    "expiry": lambda r, now: r.advance(Reading(now.wall_ms + 61_000, now.mono_ns + 61_000_000_000)),
}


@pytest.mark.parametrize("name", ACTS)
def test_wherever_a_change_is_ended_the_map_is_whole_again_and_goes_on(name: str) -> None:
    line = 0
    while True:
        replica, now = filled()
        if not interrupted(lambda r=replica, at=now: ACTS[name](r, at), line):  # type: ignore[misc]
            break
        line += 1
        replica.settle()
        replica.check()
        entries = replica.store.entries
        for key in list(replica.store.direct.young):
            shown = replica.store.shown(key)
            assert shown in (entries[key], entries[key][VALUE])
        own = replica.map.log.after(7, 0)
        assert [stamp for stamp, *_ in own] == sorted({stamp for stamp, *_ in replica.map.log.after(7, 0)})
        for i in range(12):
            replica.put(f"then{i}", i, 0, now)
            replica.write(f"k{i}", "y", now.wall_ms)
        replica.delete("k2", now)
        replica.settle()
        replica.check()
        dead = {key for key, entry in entries.items() if entry[STATE] == DEAD}
        assert [set(queue) - dead for queue in replica.map.dead()] == [set()] * 3, "the living are not collected"
        assert replica.store.live <= 6
    assert line > 5
