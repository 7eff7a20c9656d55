"""The codec: what goes out comes back; what comes from outside is refused with a reason and costs little.

The frames of `golden.txt` are the wire format: a change to one of them is a new wire version. After a deliberate
change, write them anew with `UPDATE_GOLDEN=1 python -m pytest tests/core/test_codec.py`.
"""

from __future__ import annotations

import os
import random
import tracemalloc
from contextlib import suppress
from pathlib import Path

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtcache.core.codec import FrameError, Limits, decode, encode, frame
from crdtcache.core.entry import DEAD, GHOST, LIVE, Packed, dead_entry, key_bytes, live_entry
from crdtcache.core.messages import (
    Answered,
    Busy,
    Claims,
    Context,
    End,
    Equal,
    Gone,
    Heard,
    Item,
    List,
    MemberRow,
    Message,
    Nodes,
    Offer,
    Open,
    Probe,
    Pull,
    Ready,
    Receipt,
    Row,
    Slice,
    Statement,
    TooOld,
    Turn,
    Want,
)
from tests.core import strategies as draw
from tests.core.world import FAST, MS, World

LIMITS = Limits(1_024, 32_768)
MOST = 262_144  # the greatest frame that the link layer lets through by default
#: Memory at the peak while a frame is decoded, in multiples of its size; measured 40, for lists within lists.
MULTIPLE = 64
GOLDEN = Path(__file__).with_name("golden.txt")

A, B = 0x0102030405060708, 0xF1F2F3F4F5F6F7F8
S = 0x18BCFE568000000

FIVES = (5).to_bytes(8, "big") * 2

SAMPLES: dict[str, Message] = {
    "context": Context(
        [Row(A, S + 5, S + 9), Row(B, 0, S)],
        1_700,
        (S, A),
        [MemberRow(B, 1_699, "n", "eu", "z", "h:2738", 250)],
        7,
        2_300,
        51,
        9,
        S,
    ),
    "sign of life": Context([Row(A, S, S + 1)], 1_700, (0, 0), [], 0),
    "slice, empty": Slice(A, S, S + 9, S, (0, 0), (), []),
    "slice, one write": Slice(A, 0, S, S, (0, 0), (), [Item(S, S, 0, 0, "k", live_entry(S, A, 0, "v"))]),
    "slice, of everything": Slice(
        A,
        S,
        S + 99,
        S + 9,
        (S + 3, B),
        (S + 3,),
        [
            Item(S + 1, S + 2, 0, 0, "key", live_entry(S + 2, A, 1_800, 1.5)),
            Item(S + 4, S + 4, S, B, b"key", (S, B, S + 4, A, 1_900, LIVE, Packed(b"\x01\x91\x01"))),
            Item(S + 5, S + 5, 0, 0, 42, dead_entry(S + 5, A, (S, B))),
            Item(S + 6, S + 6, 0, 0, ("t", (1, b"x")), dead_entry(S + 6, A)),
            Item(S + 7, S + 7, 0, 0, -1, (S + 7, A, S + 7, A, 0, GHOST, None)),
            Item(S + 8, S + 9, 0, 0, "", (S + 9, A, S + 9, A, 0, 77, True)),
        ],
    ),
    "pull": Pull(A, S),
    "too old": TooOld(A, S),
    "open": Open(1, 77, 1_700, (0, 0), B, 3),
    "equal": Equal(1),
    "ready": Ready(1, [Row(B, 0, S)], 1_700, (S, A), 3, (B,), S),
    "busy": Busy(1, 1_000),
    "nodes": Nodes(1, (1,), tuple(range(16)), tuple(range(16, 32))),
    "nodes, none": Nodes(1, (), (), ()),
    "list": List(1, (16, 131_071), [("k", (S, A, S, A, 1_900, GHOST, None)), (b"l", dead_entry(S + 1, B, (S, A)))]),
    "want": Want(1, ["k", ("a", 1)]),
    "turn": Turn(1, (256, 131_071), False),
    "turn, the last": Turn(1, (), True),
    "offer": Offer(1, 2, [("k", live_entry(S, A, 0, None)), ("l", dead_entry(S, B, (S - 1, A)))]),
    "offer, an answer": Offer(0, 0, [("k", live_entry(S, A, 0, b"v"))]),
    "end": End(1, 3, False),
    "end, limited": End(1, 3, True),
    "answered": Answered(1, 2, True),
    "answered, not complete": Answered(1, 2, False),
    "gone": Gone([("k", S, A), (("a", 1), S, B)]),
    "claims": Claims([Statement(A, 1_699, 0, 1, True), Statement(B, 1_700, 2, 0, False)]),
    "probe": Probe(B),
    "heard": Heard(B, 250),
    "slice to an entry node that asks for receipts": Slice(A, 1, S, S, (0, 0), (), [], True, True),
    "receipt": Receipt(B, A, 7),
}


def typed(thing: object) -> object:
    """With the exact types, because True == 1 and Packed(b"") == b""."""
    if isinstance(thing, tuple | list):
        return [type(thing).__name__, *map(typed, thing)]
    return (type(thing).__name__, repr(thing))


# ---- what goes out comes back ---------------------------------------------------------------------------------------


@given(st.lists(draw.messages, max_size=20), draw.words64)
def test_every_message_comes_back_as_it_was(messages: list[Message], mono_ms: int) -> None:
    data = frame(mono_ms, [encode(message) for message in messages])
    back_ms, back, skipped = decode(data, LIMITS)
    assert (back_ms, skipped) == (mono_ms, 0)
    assert typed(back) == typed(messages)


def test_the_wire_format_is_what_it_was() -> None:
    """Golden bytes of every message."""
    lines = [f"{name}: {frame(1_234, [encode(message)]).hex()}" for name, message in SAMPLES.items()]
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text("\n".join(lines) + "\n")
    assert GOLDEN.read_text().splitlines() == lines
    assert {type(message) for message in SAMPLES.values()} == set(Message.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("line", GOLDEN.read_text().splitlines() if GOLDEN.exists() else [])
def test_a_golden_frame_is_read_as_it_was_meant(line: str) -> None:
    name, text = line.rsplit(": ", 1)
    assert typed(decode(bytes.fromhex(text), LIMITS)[1]) == typed([SAMPLES[name]])


def test_messages_of_unknown_types_and_fields_of_newer_versions_are_skipped() -> None:
    newer = msgpack.packb([*msgpack.unpackb(encode(Pull(A, S))), "new field", [1]])
    unknown = msgpack.packb([99, "what", ["ever"]])
    _, messages, skipped = decode(frame(1, [unknown, newer, unknown]), LIMITS)
    assert messages == [Pull(A, S)]
    assert skipped == 2


def test_an_entry_in_a_state_of_a_newer_version_is_kept_opaque() -> None:
    entry = (S, A, S, A, 0, 200, Packed(b"\x09what"))
    [offer] = decode(frame(1, [encode(Offer(1, 1, [("k", entry)]))]), LIMITS)[1]
    assert isinstance(offer, Offer)
    assert typed(offer.entries) == typed([("k", entry)])


@pytest.mark.parametrize("state", [LIVE, 3, 200])
@pytest.mark.parametrize("value", ["x" * 11, b"x" * 11, Packed(b"x" * 11)])
def test_a_value_that_is_larger_than_this_replica_keeps_becomes_a_ghost(state: int, value: str | bytes) -> None:
    data = frame(1, [encode(Offer(1, 1, [("k", (S, A, S, A, 9, state, value))]))])
    [offer] = decode(data, Limits(1_024, 10))[1]
    assert isinstance(offer, Offer)
    assert offer.entries == [("k", (S, A, S, A, 9, GHOST, None))]


# ---- what comes from outside ----------------------------------------------------------------------------------------


def offer_frame(*, key: object = "k", values: object = (None,), states: object = None, **columns: object) -> bytes:
    """An offer of one entry with something wrong with it."""
    parts = {"table": [A], "makers": None, "stamps": S.to_bytes(8, "big"), "expires": None, "touched": None}
    parts |= columns
    return msgpack.packb([1, [8, 1, 1, [key], [*parts.values(), states, values]]])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x01",
        b"\x90",
        b"\x91\xa1x",
        b"\x91\xff",
        b"\x92\x01\x01",
        b"\x92\x01\x90",
        b"\x92\x01\x91\xc2",
        b"\x91\x01\x01",  # bytes after the frame
        msgpack.packb([1, [3, A]]),
        msgpack.packb([1, [3, A, -1]]),
        msgpack.packb([1, [3, A, True]]),
        msgpack.packb([1, [3, A, 1.0]]),
        msgpack.packb([1, {"a": 1}]),
        msgpack.packb([1, [3, A, {}]]),
        msgpack.packb([1, [1, [[A, 5, 4]], 1, [0, 0], [], 0]]),
        msgpack.packb([1, [1, [[A, 5]], 1, [0, 0], [], 0]]),
        msgpack.packb([1, [1, [], 1, [0, 0, 0], [], 0]]),
        msgpack.packb([1, [1, [], 1, [0, 0], [[A, 1, "n" * 256, "r", "z", "a"]], 0]]),
        msgpack.packb([1, [1, [], 1, [0, 0], [[A, 1, "n"]], 0]]),
        msgpack.packb([1, [2, A, 9, 8, 0, [0, 0], [], [], [[], None, b"", None, None, None, []], []]]),
        msgpack.packb([1, [2, A, 1, 8, 0, [0, 0], [9], [], [[], None, b"", None, None, None, []], []]]),
        msgpack.packb([1, [2, A, 1, 8, 0, [0, 0], [5, 4], [], [[], None, b"", None, None, None, []], []]]),
        msgpack.packb([1, [2, A, 1, 8, 9, [0, 0], [], [], [[], None, b"", None, None, None, []], []]]),
        # An origin of 0, wherever one may stand: it would be passed on to others, who refuse it.
        msgpack.packb([1, [1, [[0, 4, 5]], 1, [0, 0], [], 0]]),
        msgpack.packb([1, [2, 0, 1, 8, 0, [0, 0], [], [], [[], None, b"", None, None, None, []], []]]),
        msgpack.packb(
            [1, [2, A, 1, 8, 8, [0, 0], [], ["k"], [[A], None, FIVES[:8], None, None, None, [1]], [[0, 5, 5, 3, 0]]]]
        ),
        offer_frame(values=[msgpack.ExtType(2, b"\1" * 8 + bytes(8))], states=b"\x02"),
        # What a touch or a removal stands on was written before it: a base of the far future, passed on, is refused.
        msgpack.packb(
            [1, [2, A, 1, 8, 8, [0, 0], [], ["k"], [[A], None, FIVES[:8], None, None, None, [1]], [[0, 5, 5, 5, A]]]]
        ),
        offer_frame(values=[msgpack.ExtType(2, S.to_bytes(8) + A.to_bytes(8))], states=b"\x02"),
        msgpack.packb([1, [7, 1, 3_600_001]]),
        msgpack.packb([1, [10, [["k", 1]]]]),
        msgpack.packb([1, [5, 1, 77, 1_700, [0, 0], 5]]),
        msgpack.packb([1, [6, 1, [[A, 5, 4]], 1_700, [0, 0], 3, []]]),
        msgpack.packb([1, [6, 1, [], 1_700, [0, 0], 3, [-1]]]),
        msgpack.packb([1, [13, 1, [0], bytes(128), [0] * 16]]),
        msgpack.packb([1, [13, 1, [2], bytes(128), [0] * 16]]),  # no node has this number
        msgpack.packb([1, [13, 1, [1], bytes(120), [0] * 16]]),
        msgpack.packb([1, [13, 1, [1], bytes(128), [0] * 15]]),
        msgpack.packb([1, [13, 1, [1], bytes(128), [-1] * 16]]),
        msgpack.packb([1, [13, 1, [65_536], bytes(128), [0] * 16]]),  # a bucket has no children
        msgpack.packb([1, [13, 1, [4_096], bytes(8 * 256), [0] * 256]]),
        msgpack.packb([1, [13, 1, [], bytes(128), [0] * 16]]),
        msgpack.packb([1, [14, 1, [131_072], [], [[], None, b"", None, None, None, []]]]),
        msgpack.packb([1, [14, 1, 5, [], [[], None, b"", None, None, None, []]]]),
        msgpack.packb([1, [15, 1, [True]]]),
        msgpack.packb([1, [15, 1, ["k" * 1_025]]]),
        msgpack.packb([1, [16, 1, [32], True]]),
        msgpack.packb([1, [13, 1, [16, 16], bytes(256), [0] * 32]]),  # a node that is named twice
        msgpack.packb([1, [14, 1, [1, 131_071], [], [[], None, b"", None, None, None, []]]]),  # one within the other
        msgpack.packb([1, [16, 1, [256, 4_096], True]]),
        msgpack.packb([1, [8, 1, 1, ["k", "k"], [[A], None, bytes(16), None, None, None, [1, 2]]]]),  # a key twice
        msgpack.packb([1, [2, A, 1, 8, 8, [0, 0], [], ["k", "k"], [[A], None, FIVES, None, None, None, [1, 2]], []]]),
        offer_frame(key=True),
        offer_frame(key=None),
        offer_frame(key=1.5),
        offer_frame(key="k" * 1_025),
        offer_frame(key="ä" * 513),
        offer_frame(key=["k" * 1_000, "k" * 1_000]),
        offer_frame(key=[[[[["deep"]]]]]),
        offer_frame(key=[True]),
        offer_frame(values=[[1, 2]]),
        offer_frame(values=[[1, 2]], states=b"\x02"),
        offer_frame(values=[["a", "b"]], states=b"\x02"),
        offer_frame(values=[[-1, 1 << 64 - 1]], states=b"\x02"),
        offer_frame(values=[]),
        offer_frame(values=[None, None]),
        offer_frame(values=None),
        offer_frame(values=[{}]),
        offer_frame(values=[msgpack.Timestamp(1)]),
        offer_frame(values=[msgpack.ExtType(3, b"")]),
        offer_frame(values=[msgpack.ExtType(2, b"short")]),
        offer_frame(values=[msgpack.ExtType(2, b"x" * 16)]),
        offer_frame(table=[]),
        offer_frame(table=[0]),
        offer_frame(table=[-1]),
        offer_frame(makers=b"\x01"),
        offer_frame(makers=b""),
        offer_frame(makers=[-1]),
        offer_frame(makers=5),
        offer_frame(makers="\0"),
        offer_frame(stamps=b"short"),
        offer_frame(stamps=None),
        offer_frame(expires=b"short"),
        offer_frame(touched=[[0, 1]]),
        offer_frame(touched=[[0, 1, 0]]),
        offer_frame(touched=[[{}, 1, 1]]),
        offer_frame(touched=5),
        offer_frame(states=b""),
        offer_frame(states=[0]),
        b"\x92\x01" + b"\x91" * 1_000 + b"\xc0",
        b"\x91" + b"\x91" * 900 + b"\xc0",
    ],
    ids=lambda data: data[:24].hex(),
)
def test_what_cannot_be_parsed_is_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        decode(data, LIMITS)
    assert 0 < len(str(caught.value)) <= 300


@given(draw.keys)
@example(("a", ("b", ("c", ("d",)))))
def test_every_key_that_is_read_can_be_hashed(key: object) -> None:
    """A key that the codec lets in and the digest cannot take would raise much later, from a fold."""
    [offer] = decode(offer_frame(key=key), LIMITS)[1]
    assert isinstance(offer, Offer)
    assert key_bytes(offer.entries[0][0])


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(FrameError):
        decode(data, LIMITS)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A valid frame with a few bytes changed, left out, doubled or cut off."""
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data = data[:at] + bytes((rng.randrange(256),)) + data[at + 1 :]
            case 1:
                data = data[:at] + bytes((data[at - 1] ^ (1 << rng.randrange(8)),)) + data[at + 1 :] if at else data
            case 2:
                data = data[:at] + data[at + rng.randrange(1, 9) :]
            case 3:
                data = data[:at] + data[max(0, at - rng.randrange(1, 9)) : at] + data[at:]
            case 4:
                data = (
                    data[:at]
                    + rng.choice([b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc0", b"\x90"])
                    + data[at:]
                )
    return data


@given(st.lists(draw.messages, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_mutated_frames_are_read_or_refused(messages: list[Message], rng: random.Random) -> None:
    data = frame(5, [encode(message) for message in messages])
    for _ in range(20):
        with suppress(FrameError):
            decode(mutated(data, rng), LIMITS)


BOMBS = {
    "lists that announce more than is there": (b"\xdd" + (MOST - 10).to_bytes(4, "big")) * (MOST // 5),
    "lists within lists": b"\xdd" + (MOST // 2 - 5).to_bytes(4, "big") + b"\x91\xc0" * (MOST // 2 - 5),
    "lists in lists in lists": b"\xdd" + (MOST // 3 - 5).to_bytes(4, "big") + b"\x91\x91\xc0" * (MOST // 3 - 5),
    "a map of lists": b"\xdf" + (MOST // 2 - 5).to_bytes(4, "big") + b"\x01\x90" * (MOST // 2 - 5),
    "small extensions": b"\xdd" + (MOST // 3 - 5).to_bytes(4, "big") + b"\xd4\x01a" * (MOST // 3 - 5),
    "numbers": b"\xdd" + (MOST // 3 - 5).to_bytes(4, "big") + b"\xcd\x7f\x7f" * (MOST // 3 - 5),
    "deep": b"\x91" * (MOST - 1) + b"\xc0",
    "a long text": b"\x91\xdb" + (MOST - 6).to_bytes(4, "big") + b"x" * (MOST - 6),
    "messages of no type": b"\xdd" + (MOST // 2 - 5).to_bytes(4, "big") + b"\x01" + b"\x91\x7f" * (MOST // 2 - 6),
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_frame_takes_more_memory_than_a_small_multiple_of_its_size(name: str) -> None:
    data = BOMBS[name]
    assert len(data) <= MOST
    tracemalloc.start()
    try:
        decode(data, LIMITS)
    except FrameError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= MULTIPLE * len(data), f"{peak / len(data):.1f} times the frame"


# ---- the same at the door of a replica ------------------------------------------------------------------------------


def picture(world: World, name: str) -> object:
    replica = world[name]
    return dict(replica.store.entries), replica.map.context.rows(), replica.map.context.clear_mark, replica.digest()


def two_with_entries(**arguments: dict[str, int]) -> World:
    world = World("ab", **arguments)
    world.link_all()
    for i, name in enumerate("abab"):
        world.put(name, f"k{i}", i)
    world.delete("a", "k0")
    world.run(100)
    return world


@given(st.binary(max_size=100))
def test_a_replica_that_gets_rubbish_breaks_the_link_and_stays_as_it_was(data: bytes) -> None:
    world = two_with_entries()
    before = picture(world, "b")
    world.pipes["a", "b"].frames.append(data)
    world.deliver("a", "b")
    assert picture(world, "b") == before
    if ("a", "b") not in world.pipes:
        stats = world["b"].stats()
        assert stats["frames_bad"] + stats["frames_old"] == 1  # b"\x91\x00" is a frame, made long ago
        assert "bad frame" in str(world.events["b"]) or stats["frames_old"]
    world.check()


@given(st.randoms(use_true_random=False))
def test_a_replica_that_gets_mutated_frames_raises_nothing_and_keeps_its_invariants(rng: random.Random) -> None:
    """Authentic frames, damaged: what still parses may do what its sender could have done, and nothing else."""
    world = World("ab")
    world.link_all()
    for number in range(12):
        for source, target in (("a", "b"), ("b", "a")):
            world.put(source, f"k{number % 5}", number)
            world.put(source, f"t{number % 3}", number, 50)
            world.delete(source, f"k{(number + 1) % 5}")
            world.touch(source, f"t{number % 2}", 90)
            world.link(source, target)
            if world.pump(source, target):
                frames = world.pipes[source, target].frames
                frames.append(mutated(frames[-1], rng))
                frames.rotate(1)
            world.carry()
        world.step(15)
    world.check()


@given(st.lists(draw.messages, min_size=1, max_size=6))
def test_a_replica_takes_any_well_formed_message_and_keeps_its_invariants(messages: list[Message]) -> None:
    world = two_with_entries(origins={"a": 1, "b": 2})
    for message in messages:
        world.link("a", "b")
        world.inject("a", "b", message)
        while world.pump("b", "a"):
            pass
    world.check()
    world.step(FAST.sweep_ms)
    world.check()


def test_nothing_of_a_frame_is_applied_when_its_last_message_is_bad() -> None:
    world = two_with_entries()
    before = picture(world, "b")
    good = encode(Offer(0, 0, [("new", live_entry(world.wall_ms("b") << 16, A, 0, 1))]))
    data = frame(world.reading("a").mono_ns // MS, [good, b"\xc0"])
    world["b"].receive(world.pipes["a", "b"].receiver_link, data, world.reading("b"))
    assert picture(world, "b") == before


@pytest.mark.parametrize("state", [LIVE, DEAD])
def test_a_claimed_write_of_the_own_origin_that_was_never_made_is_refused(state: int) -> None:
    """Somebody else's identity, or damage; either way it must not move the own frontier or stay uncovered."""
    world = two_with_entries()
    ahead = (world.wall_ms("b") + 50) << 16
    for version in ((ahead, world["b"].origin), (world.wall_ms("b") << 16, A)):
        entry = (*version, ahead, world["b"].origin, 0, state, None)
        world.inject("a", "b", Offer(0, 0, [("new", entry)]))
        world.check()
    world.put("b", "new", 2)
    assert world.get("b", "new") == 2
    world.check()


def test_a_removed_version_of_the_own_origin_that_was_never_written_leaves_no_dot() -> None:
    world = two_with_entries()
    ahead = (world.wall_ms("b") + 50) << 16
    dead = dead_entry(ahead, A, (ahead - 1, world["b"].origin))
    world.inject("a", "b", Offer(0, 0, [("k1", dead)]))
    assert world.get("b", "k1") is None
    world.check()
