"""A replica comes back after 720 times as long as anybody waits for a member: with the defaults, after a month.

Other systems name a time after which a returner is dangerous (a grace period for tombstones). Here there is none:
what a delete had seen is answered GONE by whoever accounted for it, however long ago the delete itself was forgotten.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtcache.core.outcome import Change, Event
from tests.core.world import FAST, World

HOLD_MS = 1_200
AWAY_MS = 720 * HOLD_MS
#: The defaults' ratios: an hour, two minutes, a minute.
SCALED = replace(
    FAST,
    gc_hold_ms=HOLD_MS,
    min_dead_age_ms=HOLD_MS // 30,
    max_frame_age_ms=HOLD_MS // 60,
    context_ms=300,
    keepalive_ms=600,
    silent_ms=2_000,
    compare_ms=1_000,
    sweep_ms=100,
)


@pytest.mark.parametrize("log_records", [16, 10_000])
def test_a_replica_that_was_away_720_times_as_long_as_it_was_waited_for(log_records: int) -> None:
    world = World("abr", tuning=replace(SCALED, log_records=log_records))
    world.link_all()
    for number in range(60):
        world.put("abr"[number % 3], number, "old", ttl_ms=0 if number % 5 else 2 * AWAY_MS)
    world.run(700)
    assert len(world.visible("r")) == 60
    world.cut_off("r")

    # Deleted soon, half way and just before the return; overwritten, deleted and written again; left alone.
    soon, half, late, again = range(15), range(15, 30), range(30, 36), range(36, 45)
    gone = [*soon, *half, *late]
    for number in (*soon, *again):
        world.delete("ab"[number % 2], number)
    for number in range(20):
        world.put("r", f"unseen{number}", "of r")
    for number in (45, 46):
        world.put("r", number, "of r")
    world.run(AWAY_MS // 2, 50)
    world.add("b")  # of who wrote a third of it all there is nobody left
    world.link("b", "a")
    for number in (*half, *again):
        world.put("b", number, "new") if number in again else world.delete("a", number)
    world.run(AWAY_MS // 2, 50)
    for number in late:
        world.delete("b", number)
    world.put("r", soon[0], "of r, after the delete")
    world.run(100)
    assert all(world.held(name, number) is None for name in "ab" for number in (*soon, *half)), "long forgotten"
    assert [world.get("r", number) for number in gone[1:]] == ["old"] * (len(gone) - 1), "r shows it all"

    returned = []

    def watch(name: str, event: Event) -> None:
        if isinstance(event, Change) and event.kind == "set" and event.entry[6] == "old":
            returned.append((name, event.key))

    world.watch_events = watch
    world.link_all()
    for _ in range(100):
        world.run(10)
        assert [world.get(name, number) for name in "ab" for number in gone[1:]] == [None] * 2 * (len(gone) - 1)
    world.calm()
    assert returned == [], "not even briefly"
    assert bool(world["r"].stats()["sessions"]) == (log_records == 16), "this tested the other way"
    for name in "abr":
        assert world[name].stats()["unsafe_gc"] == 0
        assert world.get(name, soon[0]) == "of r, after the delete"
        assert [world.get(name, number) for number in gone[1:]] == [None] * (len(gone) - 1)
        assert [world.get(name, number) for number in again] == ["new"] * len(again)
        assert [world.get(name, number) for number in range(45, 60)] == ["of r"] * 2 + ["old"] * 13
        assert [world.get(name, f"unseen{number}") for number in range(20)] == ["of r"] * 20
    world.check()
