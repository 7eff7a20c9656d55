"""Away for many times as long as anybody waits, and restarts that never end, on real processes with short times.

Members are waited for a fifth of a second, where the default is an hour: 144 seconds, 720 times as long, are a month.
The dead are held for longer than that, so that nothing has to be forced out while somebody is still waited for.
"""

from __future__ import annotations

import time

import pytest
import trio

from tests.chaos.crew import agreed, sized

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

_HOLD_MS = 200
_TIMES = {"gc_hold_ms": _HOLD_MS, "min_dead_age_ms": 2 * _HOLD_MS, "max_frame_age_ms": _HOLD_MS, "context_ms": 50}
_SPREAD = 300


async def shows(node, prefix):
    return len((await node.ask("numbers", prefix=prefix))["numbers"])


@pytest.mark.parametrize("log_records", sized([100], [131_072, 100]))
async def test_who_was_away_for_long_brings_nothing_back_and_loses_nothing(
    remote_crew, network, nursery, log_records, figure
):
    """All the while keys are written and deleted, and one of the two that stay is killed and replaced."""
    away_s = sized(30, 720) * _HOLD_MS / 1_000
    a, b, c = await remote_crew.cluster("a", "b", "c", tuning=_TIMES | {"log_records": log_records})
    for prefix in ("soon", "late", "kept"):
        await c.ask("fill", prefix=prefix, count=_SPREAD)
    for node in (a, b):
        await node.wait("until", 10, count=3 * _SPREAD)
    network.cut("c")
    await a.wait("until", 10, peers=1)
    await trio.sleep(2 * _HOLD_MS / 1_000)  # nobody waits for c any more, so nothing has to be forced out
    began = time.monotonic()
    for node in (a, c):
        await node.ask("watch")
    await a.ask("delete", keys=[f"soon{number}" for number in range(_SPREAD)])
    await c.ask("fill", prefix="own", count=_SPREAD)
    await remote_crew.kill(b)
    b = await remote_crew.again(b)
    await b.ask("watch")
    while time.monotonic() < began + away_s - 1:
        await a.ask("come_and_go", prefix=f"{time.monotonic()}:", count=100)
        await trio.sleep(0.2)
    await a.ask("delete", keys=[f"late{number}" for number in range(_SPREAD)])
    for node in (a, b):
        await node.wait("until", 20, dead=0)
    away = time.monotonic() - began
    assert [await shows(c, prefix) for prefix in ("soon", "late", "kept", "own")] == [_SPREAD] * 4
    for node in (a, b):
        assert await shows(node, "kept") == len((await node.ask("get", keys=[*all_keys()]))["values"]) == _SPREAD
        for prefix in ("soon", "late"):
            nursery.start_soon(guard, node, prefix)
    await trio.sleep(0.2)
    network.heal("c")
    took = await agreed(a, b, c, within=10)
    await trio.sleep(2)
    for node in (a, b, c):
        assert [await shows(node, prefix) for prefix in ("soon", "late", "kept", "own")] == [0, 0, _SPREAD, _SPREAD]
        state = await node.ask("state")
        assert state["stats"]["unsafe_gc"] == 0
        assert (await node.ask("seen"))["backwards"] == [], "something removed was shown again while they healed"
    figure(
        f"away for {away:.0f} s, {away * 1_000 / _HOLD_MS:.0f} times as long as it is waited for: equal {took:.2f} s "
        f"after the heal, {2 * _SPREAD} deletes held, {_SPREAD} unseen writes kept"
    )


def all_keys():
    return (f"{prefix}{number}" for prefix in ("soon", "late", "kept") for number in range(_SPREAD))


async def guard(node, prefix):
    answer = await node.ask("guard", prefix=prefix, spread=_SPREAD, seconds=3.0)
    assert answer["rounds"] > 10


async def test_a_cluster_that_never_stops_restarting_collects(crew, figure):
    """Each process lives hardly longer than the dead are held, so each takes over some from the one before it."""
    restarts, each = sized(6, 60), 100
    tuning = {"min_dead_age_ms": 2_000, "max_frame_age_ms": 1_000}
    nodes = await crew.cluster("a", "b", "c", tuning=tuning)
    held, forced = [], 0
    for number in range(restarts):
        for node in nodes:
            await node.ask("come_and_go", prefix=f"{number}{node.name}:", count=each)
        which = number % 3
        forced += (await nodes[which].ask("state"))["stats"]["unsafe_gc"]
        await crew.kill(nodes[which])
        nodes[which] = await crew.again(nodes[which])
        await nodes[which].wait("ready", 10, peers=2)
        held.append([(await node.ask("state"))["stats"]["dead"] for node in nodes])
    began = time.monotonic()
    for node in nodes:
        await node.wait("until", 20, dead=0)
    ended = time.monotonic() - began
    await agreed(*nodes, within=5)
    states = [(await node.ask("state"))["stats"] for node in nodes]
    assert forced == sum(state["unsafe_gc"] for state in states) == 0
    assert [state["visible"] for state in states] == [0, 0, 0]
    # A newcomer has for a moment all that a log speaks of. Who stays holds a few seconds' worth, and no more.
    assert all(sorted(row)[1] <= 18 * each for row in held), held
    figure(
        f"{restarts} restarts, {restarts * each * 3:,} keys written and deleted: dead held after each restart "
        f"{'; '.join('/'.join(map(str, row)) for row in held[-6:])}; none {ended:.1f} s after the last, unsafe_gc 0"
    )
