"""The relay with raw sockets: it delays each way, keeps the order, passes the greeting on, and cuts for real."""

from __future__ import annotations

import msgpack
import pytest
import trio

from crdtcache.relay import Relay, named_in

DELAYS = {("eu", "ap"): 0.08, ("ap", "eu"): 0.05}
SERVICES = {"eu-1": "eu", "eu-2": "eu", "ap-1": "ap"}


def greeting(region: str) -> bytes:
    body = msgpack.packb({"magic": "crdtcache", "region": region, "unknown": [1, 2]})
    return len(body).to_bytes(4, "big") + body


def around_ap(source, target):
    return (source == "ap") != (target == "ap")


class Echo:
    """A service behind the relay that returns what it gets, and keeps it."""

    def __init__(self) -> None:
        self.taken = bytearray()

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            async for chunk in stream:
                self.taken += chunk
                await stream.send_all(chunk)
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass


@pytest.fixture
async def world(nursery):
    targets = {}
    relay = Relay(SERVICES, field="region", target=targets.get, delay=lambda a, b: DELAYS.get((a, b), 0.0))
    ports = await relay.listen(nursery)
    echoes = {}
    for name in SERVICES:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        targets[name] = ("127.0.0.1", listeners[0].socket.getsockname()[1])
        echoes[name] = Echo()
        nursery.start_soon(trio.serve_listeners, echoes[name].serve, listeners)
    yield relay, ports, echoes, targets
    for stream in _dialled:
        stream.socket.close()
    _dialled.clear()


_dialled = []


async def connect(port):
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    _dialled.append(stream)
    return stream


async def dial(ports, name, region):
    stream = await connect(ports[name])
    await stream.send_all(greeting(region))
    return stream


async def take(stream, size):
    taken = b""
    while len(taken) < size:
        chunk = await stream.receive_some(size - len(taken))
        assert chunk, f"ended after {taken!r}"
        taken += chunk
    return taken


async def refused(stream):
    """Whether the other end resets the connection, without a byte having come."""
    with trio.fail_after(2):
        try:
            return await stream.receive_some(1) == b"reset expected"
        except trio.BrokenResourceError:
            return True


async def test_the_greeting_arrives_unchanged_after_a_handshake_across_the_delay(world):
    _, ports, echoes, _ = world
    began = trio.current_time()
    stream = await dial(ports, "ap-1", "eu")
    with trio.fail_after(2):
        assert await take(stream, len(greeting("eu"))) == greeting("eu")
    assert bytes(echoes["ap-1"].taken) == greeting("eu")
    # Three packets of the handshake (80 + 50 + 80), and the echo back (50).
    assert 0.26 <= trio.current_time() - began < 0.26 + 0.5


async def test_bytes_are_delayed_each_way_in_order_and_not_throttled(world):
    _, ports, _, _ = world
    stream = await dial(ports, "ap-1", "eu")
    await take(stream, len(greeting("eu")))
    sent = b"".join(n.to_bytes(4, "big") for n in range(100_000))
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, sent)
        with trio.fail_after(5):
            assert await take(stream, 4) == sent[:4]
            first = trio.current_time() - began
            assert await take(stream, len(sent) - 4) == sent[4:]
    assert 0.13 <= first < 0.13 + 0.4
    assert trio.current_time() - began < 2.0  # 400 kB in flight at once


async def test_within_a_region_nothing_waits(world):
    _, ports, _, _ = world
    began = trio.current_time()
    stream = await dial(ports, "eu-2", "eu")
    await take(stream, len(greeting("eu")))
    assert trio.current_time() - began < 0.05


async def test_an_orderly_end_is_passed_on_both_ways(world):
    _, ports, _, _ = world
    stream = await dial(ports, "eu-2", "eu")
    await stream.send_eof()
    with trio.fail_after(2):
        assert await take(stream, len(greeting("eu"))) == greeting("eu")
        assert await stream.receive_some(1) == b""


async def test_a_cut_resets_what_is_open_drops_what_is_in_flight_and_refuses_new_ones(world):
    relay, ports, echoes, _ = world
    crossing = await dial(ports, "ap-1", "eu")
    inside = await dial(ports, "eu-2", "eu")
    await take(crossing, len(greeting("eu")))
    await take(inside, len(greeting("eu")))
    await crossing.send_all(b"never seen")
    await trio.sleep(0.02)
    assert relay.cut(around_ap) == (1, len(b"never seen"))
    assert await refused(crossing)
    assert await refused(await dial(ports, "ap-1", "eu"))
    assert await refused(await dial(ports, "eu-1", "ap"))
    assert b"never seen" not in echoes["ap-1"].taken
    await inside.send_all(b"still here")
    assert await take(inside, 10) == b"still here"
    assert relay.status()["refused"] == 2
    assert relay.status()["reset"] == 1
    relay.heal()
    again = await dial(ports, "ap-1", "eu")
    with trio.fail_after(2):
        assert await take(again, len(greeting("eu"))) == greeting("eu")


async def test_a_connection_half_way_through_its_handshake_is_cut_too(world):
    relay, ports, echoes, _ = world
    stream = await dial(ports, "ap-1", "eu")
    await trio.sleep(0.05)
    relay.cut(around_ap)
    assert await refused(stream)
    assert not echoes["ap-1"].taken


async def test_a_service_that_is_gone_refuses(world):
    _, ports, _, targets = world
    del targets["eu-1"]
    assert await refused(await dial(ports, "eu-1", "eu"))


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02\xc1\xc1",
        b"\x00\x00\x00\x01\x80",
        greeting("mars"),
        b"GET / HTTP/1.0\r\n\r\n",
    ],
    ids=["too long", "not msgpack", "no region", "unknown region", "http"],
)
async def test_who_does_not_greet_is_reset(world, bytes_sent):
    _, ports, echoes, _ = world
    stream = await connect(ports["eu-1"])
    await stream.send_all(bytes_sent)
    assert await refused(stream)
    assert not echoes["eu-1"].taken


def test_a_greeting_is_a_map_with_text_in_it():
    assert named_in(msgpack.packb({"region": "eu"}), "region") == "eu"
    assert named_in(msgpack.packb({"region": 7}), "region") is None
    assert named_in(msgpack.packb(["region"]), "region") is None
    assert named_in(b"", "region") is None
