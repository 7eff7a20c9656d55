"""Who is let in, who is told why not, and that no bytes before trust do anything else."""

from __future__ import annotations

import msgpack
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from crdtcache.core.messages import Hello
from crdtcache.errors import ConfigError, JoinRefused
from crdtcache.runtime.handshake import GREETING_BYTES, NotAPeer, Refused, check_hello, greet
from crdtcache.runtime.link import FrameTooLong, Link, LinkLost, joined
from crdtcache.settings import digest_seed

HELLO = Hello(1, 1, ("a",), "shop", 1, "web-1", "eu", "z", 7, 1_000, "10.0.0.1:2738", 2_000, False)
OTHER = HELLO._replace(name="web-2", origin=8, features=())


async def meet(dialler, listener, secret_d=None, secret_l=None):
    """Both sides greet; what each got: a Hello or the exception."""
    got = [None, None]
    ends = trio.testing.memory_stream_pair()

    async def side(number, hello, secret):
        try:
            got[number] = await greet(Link(ends[number], GREETING_BYTES), hello, secret, dialler=number == 0)
        except (Refused, NotAPeer, LinkLost) as error:
            got[number] = error

    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(side, 0, dialler, secret_d)
            nursery.start_soon(side, 1, listener, secret_l)
    return got


async def test_each_learns_all_that_the_other_says_of_itself():
    assert await meet(HELLO, OTHER) == [OTHER, HELLO]


async def test_the_same_secret_lets_both_in():
    assert await meet(HELLO, OTHER, b"s3cret", b"s3cret") == [OTHER, HELLO]


async def test_another_secret_is_refused_and_both_know_why():
    dialler, listener = await meet(HELLO, OTHER, b"s3cret", b"other")
    assert (str(dialler), dialler.here) == ("wrong secret", False)
    assert (str(listener), listener.here) == ("wrong secret", True)
    assert isinstance(dialler, JoinRefused)


@pytest.mark.parametrize(("ours", "theirs"), [(b"s3cret", None), (None, b"s3cret")])
async def test_a_secret_on_one_side_only_is_refused_by_both(ours, theirs):
    dialler, listener = await meet(HELLO, OTHER, ours, theirs)
    for side, own in ((dialler, ours), (listener, theirs)):
        assert "one side has a secret and the other none" in str(side)
        assert side.here
        assert ("a secret here, none there" in str(side)) == (own is not None)


async def test_another_cluster_is_refused_and_both_are_named():
    dialler, listener = await meet(HELLO, OTHER._replace(cluster="bank"))
    assert str(dialler) == "another cluster: 'shop' here, 'bank' there"
    assert str(listener) == "another cluster: 'bank' here, 'shop' there"


async def test_without_a_common_wire_version_both_ranges_are_named():
    dialler, _ = await meet(HELLO, OTHER._replace(wire_min=3, wire_max=4))
    assert str(dialler) == "no common wire version: 1..1 here, 3..4 there"


async def test_a_neighbouring_wire_version_is_welcome():
    newer = OTHER._replace(wire_min=1, wire_max=2)
    assert await meet(HELLO, newer) == [newer, HELLO]


async def test_a_secret_of_another_cluster_does_not_help():
    """The cluster is in the proof, not only in the greeting."""
    ends = trio.testing.memory_stream_pair()
    got = []

    async def listener():
        with pytest.raises(Refused, match="wrong secret"):
            await greet(Link(ends[1], GREETING_BYTES), OTHER, b"s3cret", dialler=False)

    async def liar():
        # It proves for "bank" while it says "shop" in the clear.
        link = Swapping(ends[0])
        with pytest.raises(Refused) as refused:
            await greet(link, HELLO._replace(cluster="bank"), b"s3cret", dialler=True)
        got.append(refused.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener)
        nursery.start_soon(liar)
    assert str(got[0]) == "wrong secret"


class Swapping(Link):
    """Rewrites the cluster's name in both directions."""

    def __init__(self, stream):
        super().__init__(stream, GREETING_BYTES)

    async def send(self, frames):
        await super().send([frame.replace(b"\xa4bank", b"\xa4shop") for frame in frames])

    async def receive(self):
        return (await super().receive()).replace(b"\xa4shop", b"\xa4bank")


async def test_a_listener_gives_no_proof_to_who_has_not_proved():
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refused, Link(ours, GREETING_BYTES), b"s3cret")
        stranger = Link(theirs, GREETING_BYTES)
        await stranger.send([greeting(secured=True)])
        assert msgpack.unpackb(await stranger.receive())["magic"] == "crdtcache"
        await stranger.send([msgpack.packb({"proof": bytes(32)})])
        assert msgpack.unpackb(await stranger.receive()) == {"refused": "wrong secret"}
        with pytest.raises(LinkLost):
            await stranger.receive()


async def test_a_proof_cannot_be_reflected():
    """Who answers with our own nonce and our own proof does not know the secret."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def dial():
            with pytest.raises(Refused, match="wrong secret"):
                await greet(Link(ours, GREETING_BYTES), HELLO, b"s3cret", dialler=True)

        nursery.start_soon(dial)
        mirror = Link(theirs, GREETING_BYTES)
        await mirror.send([await mirror.receive()])
        await mirror.send([await mirror.receive()])
        assert msgpack.unpackb(await mirror.receive()) == {"refused": "wrong secret"}


async def test_nonces_are_fresh_so_a_recorded_proof_is_worth_nothing():
    seen = []
    for _ in range(2):
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, Link(ours, GREETING_BYTES), b"s3cret")
            stranger = Link(theirs, GREETING_BYTES)
            seen.append(msgpack.unpackb(await stranger.receive())["nonce"])
            await stranger.send([msgpack.packb({"refused": "enough"})])
    assert len(seen[0]) == 16
    assert seen[0] != seen[1]


async def refused(link, secret):
    with pytest.raises((Refused, NotAPeer)):
        await greet(link, OTHER, secret, dialler=False)
    await link.close()


def greeting(**changes):
    fields = {"magic": "crdtcache", **HELLO._asdict(), "nonce": bytes(16), "secured": False}
    fields.update(changes)
    return msgpack.packb({name: value for name, value in fields.items() if value is not ...})


async def answer_to(frame):
    """What `greet` makes of `frame` as the other side's greeting."""
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(joined([frame]))
    await theirs.send_eof()
    return await greet(Link(ours, GREETING_BYTES), OTHER, None, dialler=False)


async def test_fields_of_a_newer_version_are_skipped():
    assert await answer_to(greeting(colour="blue", shoes=[1, 2])) == HELLO


@pytest.mark.parametrize("name", [*(f for f in Hello._fields), "secured"])
async def test_a_greeting_without_a_field_names_it(name):
    with pytest.raises(NotAPeer, match=name):
        await answer_to(greeting(**{name: ...}))


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": True},
        {"origin": -1},
        {"origin": "7"},
        {"name": b"web"},
        {"name": "x" * 256},
        {"name": "two\nlines"},
        {"zone": None},
        {"features": "abc"},
        {"features": [1]},
        {"features": ["x"] * 65},
        {"partial": 0},
        {"secured": 1},
        {"clock_ms": 1.5},
        {"magic": "redis"},
        {"magic": None},
    ],
)
async def test_a_malformed_greeting_is_no_peer(changes):
    with pytest.raises(NotAPeer):
        await answer_to(greeting(**changes))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_peer_and_raise_nothing_else(frame):
    async def main():
        with pytest.raises((NotAPeer, Refused, LinkLost)):
            await answer_to(frame)

    trio.run(main)


@given(st.dictionaries(st.text(max_size=8), st.recursive(st.none() | st.integers(-9, 9), st.lists, max_leaves=5)))
def test_arbitrary_maps_are_no_peer_and_raise_nothing_else(fields):
    async def main():
        with pytest.raises((NotAPeer, Refused)):
            await answer_to(msgpack.packb(fields))

    trio.run(main)


@pytest.mark.parametrize(
    "frame", [b"\x91" * 4_000, b"\xdd\xff\xff\xff\xff", b"\xc7\xff\xff", b"\xd6\xff\x00\x00\x00\x00"]
)
async def test_nested_and_lying_msgpack_is_no_peer(frame):
    with pytest.raises(NotAPeer):
        await answer_to(frame)


async def test_a_greeting_over_4_kib_is_not_read():
    with pytest.raises(FrameTooLong, match=r"limit is 4096"):
        await answer_to(bytes(4_097))


async def test_a_foreign_reason_cannot_write_lines_into_the_log():
    with pytest.raises(Refused) as refused:
        await answer_to(msgpack.packb({"refused": "no\n2026 ERROR disk on fire" + "x" * 1_000}))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) <= 255


async def test_somebody_who_says_nothing_is_waited_for_only_as_long_as_the_caller_wants():
    ours, _theirs = trio.testing.memory_stream_pair()
    with trio.move_on_after(0.05) as scope:
        await greet(Link(ours, GREETING_BYTES), OTHER, None, dialler=False)
    assert scope.cancelled_caught


@pytest.mark.parametrize("field", ["cluster", "name", "region", "zone"])
@pytest.mark.parametrize("text", ["x" * 256, "a\nb", "\ud800"])
def test_own_names_that_no_greeting_can_carry_are_an_error_at_home(field, text):
    with pytest.raises(ConfigError, match=field):
        check_hello(HELLO._replace(**{field: text}))


def test_the_digest_seed_depends_on_cluster_and_secret():
    seeds = {digest_seed(c, s) for c in ("a", "b") for s in (None, b"x", b"y")}
    assert len(seeds) == 6
    assert all(0 <= seed < 1 << 64 for seed in seeds)
    assert digest_seed("a", b"x") == digest_seed("a", b"x")
