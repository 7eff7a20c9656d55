"""What a process notes of its events: own and remote operations, latencies, and a deleted key that shows again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from crdtcache.demo.witness import Witness

WALL = 1_700_000_000_000


def version(ms):
    return f"{(WALL + ms) << 16:016x}-{1:016x}"


def event(kind, key, ms, *, remote=True, value=None):
    return SimpleNamespace(kind=kind, key=key, version=version(ms), remote=remote, value=value)


@pytest.fixture
def witness():
    return Witness(lambda key: 20.0 if key.startswith("analysis:") else 0.0, now_ns=lambda: 5_000_000_000)


def test_own_and_remote_operations_are_told_apart_with_the_expiry_that_the_ttl_gives(witness):
    witness(event("set", "analysis:ast", 1_000))
    witness(event("set", "review:ast", 1_001, remote=False))
    witness(event("deleted", "review:ast", 1_002, remote=False))
    taken = witness.take()
    assert taken["saw"] == [["analysis:ast", "set", version(1_000), WALL + 21_000]]
    assert taken["wrote"] == [["review:ast", "set", version(1_001), 0], ["review:ast", "deleted", version(1_002), 0]]
    assert not any(witness.take().values())


def test_a_probe_of_somebody_else_is_timed(witness):
    witness(event("set", "probe:ap-1:3", 1_000, value=4_910_000_000))
    witness(event("set", "probe:eu-1:3", 1_000, value=4_999_000_000, remote=False))
    assert witness.take()["samples"] == [["ap-1", 4.91, 90.0]]


def test_a_deleted_key_that_shows_an_older_write_again_is_a_resurrection(witness):
    witness(event("deleted", "review:ast", 1_000))
    witness(event("set", "review:ast", 1_001))
    assert witness.take()["resurrections"] == []
    witness(event("set", "review:ast", 999))
    (told,) = witness.take()["resurrections"]
    assert "review:ast" in told


def test_losers_are_counted_and_are_no_operation(witness):
    witness(event("overwritten", "review:ast", 1_000))
    assert witness.overwritten == 1
    assert not any(witness.take().values())
