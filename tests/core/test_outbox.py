"""What goes out: state and not history, bounded frames, control first, and nothing when nothing is new."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from crdtcache.core.codec import Limits, decode, encode, frame
from crdtcache.core.entry import Packed, live_entry
from crdtcache.core.lwwmap import LWWMap
from crdtcache.core.messages import Context, Offer, Pull, Slice
from crdtcache.core.slices import make_slice
from crdtcache.core.store import Store
from crdtcache.tuning import Tuning
from tests.core.test_sessions import offering
from tests.core.world import FAST, WALL_MS, World

A = 0xA1B2C3D4E5F60718
LONG = replace(FAST, log_records=10_000)


def take(world: World, source: str, target: str) -> list[list[object]]:
    """The messages of each frame that `source` has for `target` now; they are not delivered."""
    frames = []
    while world.pump(source, target):
        frames.append(decode(world.pipes[source, target].frames.pop(), Limits(64, 1_024))[1])
    return frames


def test_ten_writes_of_one_key_travel_once_as_the_state_now() -> None:
    world = World("ab", tuning=LONG)
    world.link_all()
    world.carry()
    for i in range(10):
        world.put("a", "k", i)
    [[part]] = take(world, "a", "b")
    assert isinstance(part, Slice)
    assert [item.entry[6] for item in part.items] == [9]


def test_a_slow_peer_costs_a_cursor_and_gets_the_current_state_once() -> None:
    world = World("ab", tuning=LONG)
    world.link_all()
    world.carry()
    [link] = world["a"]._links.values()
    for i in range(500):
        world.put("a", i % 20, i)
    assert len(link.control) == 0
    entries = [item.key for messages in take(world, "a", "b") for part in messages for item in part.items]
    assert sorted(entries) == list(range(20))


def test_when_nothing_is_new_nothing_is_sent_until_a_sign_of_life_is_due() -> None:
    world = World("ab")
    world.link_all()
    world.carry()
    assert take(world, "a", "b") == []
    world.now_ms += FAST.keepalive_ms - 1
    assert take(world, "a", "b") == []
    world.now_ms += 1
    [[sign]] = take(world, "a", "b")
    assert isinstance(sign, Context)
    assert [row.origin for row in sign.rows] == [world["a"].origin]
    assert take(world, "a", "b") == []


def test_control_goes_before_slices_and_slices_before_sessions() -> None:
    world = World("ab", tuning=LONG)
    world.link_all()
    world.carry()
    world.put("a", "k", "v")
    [link] = world["a"]._links.values()
    link.session = offering(world["a"].map)
    link.say(encode(Pull(A, 1)))
    kinds = [type(message) for messages in take(world, "a", "b") for message in messages]
    assert kinds[:3] == [Pull, Slice, Offer]


def test_a_slice_is_encoded_once_for_all_peers_at_the_same_place() -> None:
    world = World("abcd", tuning=LONG)
    world.link_all()
    for value in "uv":  # from the first write on, all cursors are at one place
        world.carry()
        world.put("a", "k", value)
    made = world["a"].stats()["slices_made"]
    for name in "bcd":
        assert take(world, "a", name)
    assert world["a"].stats()["slices_made"] == made + 1


def test_a_frame_holds_one_thing_that_is_larger_than_a_frame_ought_to_be() -> None:
    world = World("ab")
    world.link_all()
    world.carry()
    [link] = world["a"]._links.values()
    big = encode(Pull(A, 1)) + b""
    link.control.extend([big, b"\x92\x63" + b"\xc6" + (5_000).to_bytes(4, "big") + b"x" * 5_000, big])
    world["a"]._ready[link.number] = None
    sizes = []
    while world.pump("a", "b"):
        sizes.append(len(world.pipes["a", "b"].frames.pop()))
    assert sizes[0] < 100
    assert sizes[1] > 5_000
    assert len(sizes) == 3


DEFAULT = Tuning()


@pytest.mark.parametrize("kind", ["short", "texts", "packed", "touched by many", "clears", "dead", "deep keys"])
def test_no_frame_is_larger_than_what_every_peer_accepts(kind: str) -> None:
    """The size of a slice is estimated while it is made; this is how wrong the estimate may be."""
    held, rng = LWWMap(A, DEFAULT, Store(None, None), 7), random.Random(1)
    at = WALL_MS << 16
    for i in range(30_000 if kind != "packed" else 300):
        key: object = i
        stamp, origin = at + 2 * i, A
        entry = live_entry(stamp, origin, 0, None)
        base = None
        if kind == "texts":
            key = "ä" * 5 + str(i)
            entry = live_entry(stamp, origin, at, "ü" * 7)
        elif kind == "packed":
            entry = live_entry(stamp, origin, 0, Packed(rng.randbytes(DEFAULT.inline_bytes)))
        elif kind == "touched by many":
            maker, toucher = rng.randrange(1, 1 << 64), rng.randrange(1, 1 << 64)
            entry, base = (stamp, maker, stamp + 1, toucher, at, 0, 1.5), (stamp, maker)
        elif kind == "dead":
            entry = (stamp, origin, stamp, origin, 0, 2, (stamp - 1, rng.randrange(1, 1 << 64)))
        elif kind == "deep keys":
            key = (((i, b""), 1, ""), -5)
        if kind == "clears":
            held.log.append(A, stamp, None)
            continue
        held.store.entries[key] = entry  # type: ignore[index]
        held.log.append(A, stamp + 1, key, base)  # type: ignore[arg-type]
    held.context.advance(A, at + 100_000)
    budget = DEFAULT.frame_bytes - 80
    part = make_slice(held, A, 0, budget)
    assert part is not None
    assert part.items or part.clears
    data = frame(1 << 50, [encode(part)])
    assert len(data) <= DEFAULT.max_frame_bytes * 3 // 4, f"{len(data) / budget:.2f} times the budget"
    offer = encode(Offer(1, 1, [(item.key, item.entry) for item in part.items]))
    assert len(offer) <= len(data)
    assert decode(data, Limits(1_024, DEFAULT.inline_bytes))[1] == [part]


def test_where_there_are_many_links_most_signs_of_life_say_nothing_and_a_lost_push_is_noticed_all_the_same() -> None:
    rare = replace(FAST, context_ms=60_000, compare_ms=60_000, star_members=40)
    world = World([f"n{number}" for number in range(33)], tuning=rare)
    world.link_all()
    world.run(4 * FAST.keepalive_ms)
    said: list[int] = []
    world.watch = lambda _, __, data: said.append(len(decode(data, Limits(64, 1_024))[1]))
    world.run(10 * FAST.keepalive_ms)
    assert 0.65 < said.count(0) / len(said) < 0.85
    world.put("n0", "k", 1)
    for other in list(world.nodes)[1:]:
        world.pump("n0", other)
        world.pipes["n0", other].frames.clear()
        assert world.get(other, "k") is None
    world.run(FAST.keepalive_ms + FAST.graft_delay_ms + 60)
    assert [world.get(name, "k") for name in world.nodes] == [1] * 33
