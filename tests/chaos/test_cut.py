"""A cut: both sides go on and write and delete the same keys; healed, they agree soon and nothing deleted returns."""

from __future__ import annotations

import time

import pytest
import trio

from tests.chaos.crew import agreed, sized

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

_SPREAD = 400  # keys, of which each side hits most


def greatest(ledgers):
    """What each key must show: the write with the greatest version, None for a delete."""
    last = {}
    for ledger in ledgers:
        for key, (stamp, origin, value) in ledger.items():
            if key not in last or (stamp, origin) > last[key][0]:
                last[key] = ((stamp, origin), value)
    return {key: value for key, (_, value) in last.items()}


async def shows(node, expected):
    """`node` shows what is expected and nothing else."""
    values = (await node.ask("get", keys=sorted(expected)))["values"]
    returned = sorted(key for key in values if expected[key] is None)
    assert not returned, f"{node.name} shows deleted keys {returned[:10]}"
    assert values == {key: value for key, value in expected.items() if value is not None}, node.name


@pytest.mark.parametrize("round_", range(sized(1, 3)))
async def test_two_that_were_cut_apart_agree_and_nothing_deleted_returns(remote_crew, network, round_, nursery, figure):
    seconds, heal_s = sized(6.0, 10.0), 3.0
    a, b = nodes = await remote_crew.cluster("a", "b")
    # Before the cut both know every key, so each delete has seen something and has something to bring back.
    await a.ask("fill", prefix="k", count=_SPREAD)
    await a.ask("fill", prefix="gone", count=_SPREAD)
    await b.wait("until", 5, count=2 * _SPREAD)
    for node in nodes:
        await node.ask("watch")
    network.cut("b")
    gone = [f"gone{number}" for number in range(_SPREAD)]
    await a.ask("delete", keys=gone[::2])
    await b.ask("delete", keys=gone[1::2])
    done = []

    async def churn(node):
        fields = {"prefix": "k", "spread": _SPREAD, "seconds": seconds, "rate": 300}
        answer = await node.ask("churn", **fields, seed=f"{node.name}{round_}", tag=node.name)
        done.append(answer["written"])

    async with trio.open_nursery() as writers:
        for node in nodes:
            writers.start_soon(churn, node)
    assert sum([await connected(node) for node in nodes]) == 0, "the cut let something through"
    for node in nodes:
        nursery.start_soon(guard, node, heal_s + 1)
    await trio.sleep(0.2)
    began = time.monotonic()
    network.heal("b")
    took = await agreed(*nodes, within=heal_s)
    figure(
        f"cut for {seconds:g} s, {sum(done):,} writes and deletes of {_SPREAD} keys and {len(gone)} deletes: "
        f"digests equal {took:.2f} s after the heal (limit {heal_s:g} s)"
    )
    expected = greatest([(await node.ask("ledger"))["ledger"] for node in nodes]) | dict.fromkeys(gone)
    for node in nodes:
        await shows(node, expected)
    await trio.sleep(max(0.0, began + heal_s + 1.2 - time.monotonic()))
    for node in nodes:
        await shows(node, expected)
        assert (await node.ask("seen"))["backwards"] == [], "something removed was shown again while they healed"


# Deletes are held for a second, and nobody who is away for two holds them longer.
_FORGETFUL = {"min_dead_age_ms": 1_000, "max_frame_age_ms": 400, "gc_hold_ms": 2_000}


@pytest.mark.parametrize("log_records", [131_072, 100])
async def test_a_delete_that_was_forgotten_during_the_cut_still_counts(
    remote_crew, network, nursery, log_records, figure
):
    """No returner is dangerous, however old: a holds no trace of its deletes when b brings the values back.

    With a short log both offer each other all they hold, and only O3 stands between a delete and its value.
    """
    a, b = await remote_crew.cluster("a", "b", tuning=_FORGETFUL | {"log_records": log_records})
    await a.ask("fill", prefix="gone", count=_SPREAD)
    await a.ask("fill", prefix="kept", count=_SPREAD)
    await b.wait("until", 5, count=2 * _SPREAD)
    for node in (a, b):
        await node.ask("watch")
    network.cut("b")
    gone = [f"gone{number}" for number in range(_SPREAD)]
    await a.ask("delete", keys=gone)
    await b.ask("fill", prefix="new", count=_SPREAD)
    await a.wait("until", 20, dead=0)
    assert (await b.ask("state"))["len"] == 3 * _SPREAD, "b shows what it could not know to be deleted"
    nursery.start_soon(guard, a, 3.0, "gone")
    await trio.sleep(0.2)
    network.heal("b")
    took = await agreed(a, b, within=3)
    told = (await a.ask("state"))["stats"]
    assert bool(told["sessions"]) == (log_records < _SPREAD), "this tested the other way"
    repaired = "by offering all" if told["sessions"] else "from the logs"
    figure(
        f"{len(gone)} deletes forgotten during the cut: equal {took:.2f} s after the heal {repaired}, none came back"
    )
    await trio.sleep(3)
    for node in (a, b):
        assert (await node.ask("get", keys=gone))["values"] == {}
        for prefix in ("kept", "new"):
            assert len((await node.ask("numbers", prefix=prefix))["numbers"]) == _SPREAD
    assert (await a.ask("seen"))["backwards"] == [], "something removed was shown again while they healed"


async def guard(node, seconds, prefix="k"):
    answer = await node.ask("guard", prefix=prefix, spread=_SPREAD, seconds=seconds)
    assert answer["rounds"] > 10


async def connected(node):
    return sum(up for _, up in (await node.ask("state"))["peers"])


async def test_two_that_cannot_hear_each_other_agree_through_a_third(remote_crew, network, figure):
    """Only the link between a and b loses packets; c reaches both."""
    a, b, c = await remote_crew.cluster("a", "b", "c")
    network.part("a", "b")
    for node in (a, b):
        await node.wait("until", 10, peers=1)
    await c.wait("until", 1, peers=2)
    for node in (a, b):
        await node.ask("fill", prefix=node.name, count=500)
    took = await agreed(a, b, c, within=5)
    assert (await a.ask("state"))["len"] == 1_000
    figure(f"1,000 writes across a third node: digests equal after {took:.2f} s")
    network.part()
    for node in (a, b, c):
        await node.wait("until", 10, peers=2)
    await agreed(a, b, c, within=5)
