"""200,000 keys reach a neighbour: while it listens, and after it was away for longer than the log reaches back."""

from __future__ import annotations

import time

import pytest

from tests.chaos.crew import agreed, sized

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

_LOG = 131_072  # Tuning.log_records


@pytest.mark.parametrize("mode", ["trio", "thread"])
async def test_a_live_neighbour_has_all_keys(crew, mode, figure):
    count = 200_000 if mode == "trio" else sized(50_000, 200_000)
    writer, reader = await crew.cluster("a", "b")
    began = time.monotonic()
    wrote = (await writer.ask("fill", within=120, prefix="k", count=count))["seconds"]
    there = await reader.wait("until", 60, count=count)
    await agreed(writer, reader, within=10)
    figure(f"{count:,} keys: written in {wrote:.2f} s, all on both {there - began:.2f} s after the first write")
    for worker in (writer, reader):
        state = await worker.ask("state")
        assert state["len"] == count
        assert state["stats"]["sessions"] == 0, "a neighbour that is there needs no repair"


async def test_a_neighbour_that_was_cut_off_gets_all_keys(remote_crew, network, figure):
    """Both sides hold keys of their own before the cut, so that there is something to compare."""
    count, own = 200_000, 2_000
    assert count > _LOG, "or the log would answer"
    writer, reader = await remote_crew.cluster("a", "b")
    await writer.ask("fill", prefix="old", count=own)
    await reader.wait("until", 10, count=own)
    network.cut("b")
    wrote = (await writer.ask("fill", within=120, prefix="k", count=count))["seconds"]
    await reader.ask("fill", prefix="b", count=own)
    # A link that stays up would deliver what waits in its buffers; it must have been given up on both sides.
    await writer.wait("until", 10, peers=0)
    await reader.wait("until", 10, peers=0)
    assert (await reader.ask("state"))["len"] == 2 * own
    before = [network.sent(site) for site in "ab"]
    began = time.monotonic()
    network.heal("b")
    there = await reader.wait("until", 60, count=count + 2 * own)
    await agreed(writer, reader, within=20)
    done = time.monotonic()
    sent = [network.sent(site) - earlier for site, earlier in zip("ab", before, strict=True)]
    states = [await worker.ask("state") for worker in (writer, reader)]
    assert [state["len"] for state in states] == [count + 2 * own] * 2
    assert states[0]["stats"]["log_records"] <= _LOG
    assert sum(state["stats"]["too_old"] for state in states) > 0, "the log did answer: this tested nothing"
    figure(
        f"{count:,} keys behind a cut: written in {wrote:.2f} s, all there {there - began:.2f} s after the heal, "
        f"digests equal after {done - began:.2f} s; {sent[0] / 1e6:.1f} MB to it, {sent[1] / 1e6:.1f} MB from it "
        f"({sum(sent) / (count + 2 * own):.0f} bytes a key)"
    )
