"""A member whose clock is wrong keeps every session from being complete; that may not become a habit of all others."""

from __future__ import annotations

from tests.core.world import FAST, World

_MINUTE_MS = 60_000


def test_sessions_that_cannot_be_complete_are_held_less_and_less() -> None:
    world = World("ab", offsets={"b": 2 * _MINUTE_MS})
    for i in range(FAST.log_records + 8):
        world.put("a", f"a{i}", i)
    world.put("b", "own", "x")  # its stamp stays out of reach for the whole run
    world.link_all()
    world.run(_MINUTE_MS)
    stats = world["a"].stats()
    assert stats["sessions_incomplete"] == stats["sessions"] > 0
    # 20 ms doubled up to reject_ms (5 s) by the one who opens them; digests that differ ask for no more.
    assert stats["sessions"] <= 8 + 2 * _MINUTE_MS // FAST.reject_ms
    assert world.get("a", "own") is None
    assert world.get("b", "a0") == 0


def test_what_was_parked_is_settled_soon_after_it_falls_due() -> None:
    ahead_ms = FAST.reject_ms // 2
    world = World("ab", offsets={"b": ahead_ms})
    for i in range(FAST.log_records + 8):
        world.put("a", f"a{i}", i)
        world.put("b", f"b{i}", i)
    world.link_all()
    world.run(ahead_ms - FAST.max_drift_ms - 50)
    assert world.get("a", "b0") is None
    world.calm(2 * ahead_ms)
    assert world.get("a", "b0") == 0
    # One more session, now complete, and the next that is not waits no longer than the first did.
    assert all(link.incomplete == 0 for link in world["a"]._links.values())
