"""Frames: cut at every place, limited before memory is taken, and whole at the other end."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from crdtcache.runtime.link import HEADER, FrameTooLong, Link, LinkLost, Splitter, joined, tune


@given(st.lists(st.binary(max_size=40), max_size=12), st.lists(st.integers(1, 9), min_size=1))
def test_frames_come_out_as_they_went_in_wherever_the_bytes_are_cut(frames, steps):
    splitter = Splitter(64)
    wire = joined(frames)
    got, at, turn = [], 0, 0
    while at < len(wire):
        step = steps[turn % len(steps)]
        got += splitter.feed(wire[at : at + step])
        at, turn = at + step, turn + 1
    assert got == frames
    assert splitter.held == 0


@given(st.lists(st.binary(max_size=200)))
def test_no_bytes_make_the_splitter_hold_more_than_a_frame_and_a_read(reads):
    splitter = Splitter(64)
    for data in reads:
        try:
            splitter.feed(data)
        except FrameTooLong:
            break
        assert splitter.held <= HEADER + 64 + len(data)


def test_an_empty_frame_is_a_frame():
    assert Splitter(64).feed(joined([b"", b"x", b""])) == [b"", b"x", b""]


def test_a_frame_at_the_limit_passes_and_one_byte_more_does_not():
    assert Splitter(64).feed(joined([b"x" * 64])) == [b"x" * 64]
    with pytest.raises(FrameTooLong, match=r"65 bytes .* limit is 64"):
        Splitter(64).feed(joined([b"x" * 65]))


def test_the_length_is_judged_before_anything_of_the_frame_has_come():
    with pytest.raises(FrameTooLong, match="4294967295"):
        Splitter(262_144).feed(b"\xff\xff\xff\xff")


def test_text_of_another_protocol_is_too_long_a_frame():
    with pytest.raises(FrameTooLong):
        Splitter(262_144).feed(b"GET / HTTP/1.1\r\n")


def test_good_frames_before_a_bad_length_are_not_lost_and_the_next_call_raises():
    splitter = Splitter(64)
    assert splitter.feed(joined([b"good"]) + b"\xff\xff\xff\xff") == [b"good"]
    with pytest.raises(FrameTooLong):
        splitter.feed(b"")


async def test_a_frame_that_came_with_the_last_one_before_trust_is_measured_by_the_new_limit():
    ours, theirs = trio.testing.memory_stream_pair()
    link = Link(ours, 16)
    await theirs.send_all(joined([b"hello", b"x" * 1_000]))
    assert await link.receive() == b"hello"
    link.raise_limit(1_000)
    assert await link.receive_some() == [b"x" * 1_000]


async def test_a_bad_length_behind_the_greeting_is_seen_at_once():
    ours, theirs = trio.testing.memory_stream_pair()
    link = Link(ours, 16)
    await theirs.send_all(joined([b"hello"]) + b"\xff\xff\xff\xff")
    assert await link.receive() == b"hello"
    with pytest.raises(FrameTooLong):
        link.raise_limit(1_000)


async def test_a_bad_length_behind_a_good_frame_needs_no_further_byte_to_be_seen():
    ours, theirs = trio.testing.memory_stream_pair()
    link = Link(ours, 16)
    await theirs.send_all(joined([b"good"]) + b"\xff\xff\xff\xff")
    assert await link.receive_some() == [b"good"]
    with trio.fail_after(1), pytest.raises(FrameTooLong):
        await link.receive_some()


async def test_the_end_of_the_stream_is_a_lost_link_with_a_reason():
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"\x00\x00")
    await theirs.send_eof()
    link = Link(ours, 16)
    assert await link.receive_some() == []
    with pytest.raises(LinkLost, match="closed by the other side"):
        await link.receive_some()


async def test_a_look_keeps_what_has_come_and_sees_that_the_other_side_has_hung_up():
    ours, theirs = trio.testing.memory_stream_pair()
    link = Link(ours, 64)
    await link.look()
    await theirs.send_all(joined([b"a", b"b"]))
    await link.look()
    assert [await link.receive(), await link.receive()] == [b"a", b"b"]
    await theirs.aclose()
    with pytest.raises(LinkLost, match="closed by the other side"):
        await link.look()


async def test_network_errors_become_lost_links_with_the_words_of_the_system():
    (ours, theirs) = await _sockets()
    link = Link(ours, 16)
    theirs.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    await theirs.aclose()  # a reset, not an end
    with pytest.raises(LinkLost, match=r"(?i)reset"):
        await link.receive_some()
    with pytest.raises(LinkLost, match="sending failed"):
        await link.send([b"x"])
    await link.close()
    with pytest.raises(LinkLost):
        await link.receive_some()


async def test_closing_needs_no_network_and_works_in_a_cancelled_task():
    ours, theirs = await _sockets()
    link = Link(ours, 16)
    with trio.CancelScope() as scope:
        scope.cancel()
        await link.close()
    with trio.fail_after(1):
        assert await theirs.receive_some() == b""
    await theirs.aclose()


async def test_after_finish_the_other_side_reads_an_end_and_can_still_send():
    ours, theirs = await _sockets()
    link = Link(ours, 16)
    await link.finish()
    assert await theirs.receive_some() == b""
    await theirs.send_all(joined([b"last"]))
    assert await link.receive_some() == [b"last"]
    await link.close()
    await theirs.aclose()


async def test_small_frames_leave_at_once_and_few_unsent_bytes_are_kept():
    ours, theirs = await _sockets()
    tune(ours)
    assert ours.getsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY) != 0
    lowat = getattr(trio.socket, "TCP_NOTSENT_LOWAT", None)
    if lowat is not None:
        assert ours.getsockopt(trio.socket.IPPROTO_TCP, lowat) == 131_072
    await ours.aclose()
    await theirs.aclose()


async def _sockets():
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return ours, await listener.accept()
