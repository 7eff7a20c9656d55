"""The measurement of write-to-visible runs and sees every write once. How long they took is printed, not asserted."""

from __future__ import annotations

import pytest

from tests.chaos.crew import FULL
from tests.chaos.latency import measure, table

pytestmark = pytest.mark.chaos


async def test_every_write_is_timed_at_every_peer(tmp_path, figure):
    writes = 2_000 if FULL else 200
    timed = await measure(writes, 200, "trio", tmp_path, rounds=10 if FULL else 2)
    assert len(timed.echo) == writes
    assert {peers: len(took) for peers, took in timed.visible.items()} == {1: writes, 3: 3 * writes}
    # One clock for all processes, or the figures would be nonsense.
    assert min(min(took) for took in timed.visible.values()) > 0
    figure("\n" + table(timed)[0])
