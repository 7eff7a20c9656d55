"""The wheel of expiries against a plain dict: every key comes due exactly when its last expiry says so."""

from __future__ import annotations

import random

import pytest

from crdtcache.core.store import Wheel

START_MS = 1_700_000_000_000


@pytest.mark.parametrize("seed", range(20))
def test_what_is_due_is_what_a_plain_map_says(seed: int) -> None:
    rng = random.Random(seed)
    wheel, expires, now = Wheel(), {}, START_MS
    for _ in range(600):
        now += rng.choice([0, 0, 0, 0, 0, 1, 10, 100, 5_000, 70_000])
        if rng.random() < 0.7:
            key = rng.randrange(8)
            end = now + rng.choice([-5, 1, 20, 100, 1_000, 30_000, 66_000, 200_000, 10**7])
            wheel.add(key, end, expires.get(key, 0))
            expires[key] = end
        elif rng.random() < 0.3:
            expires.pop(rng.randrange(8), None)
        due = wheel.due(now, lambda key: expires.get(key, 0))
        assert sorted(due) == sorted(key for key, end in expires.items() if end <= now)
        for key in due:
            del expires[key]


def test_a_far_slot_that_was_moved_is_not_made_again() -> None:
    """Found by the demo: the reference of a key was left out because its slot seemed to exist."""
    wheel, expires = Wheel(), {}
    slot = START_MS // 65_536 * 65_536 + 65_536

    def put(key: str, end: int) -> None:
        wheel.add(key, end, expires.get(key, 0))
        expires[key] = end

    put("a", slot + 1_000)
    assert wheel.due(slot - 30_000, lambda key: expires.get(key, 0)) == []
    put("b", slot + 2_000)
    put("a", slot + 3_000)
    assert sorted(wheel.due(slot + 4_000, lambda key: expires.get(key, 0))) == ["a", "b"]
