"""Real replicas over real loopback sockets in one trio run: they converge, and bad neighbours change nothing."""

from __future__ import annotations

import gc
import logging
import socket
import time
from contextlib import AsyncExitStack, suppress

import msgpack
import pytest
import trio
import trio.lowlevel

from crdtcache.core.codec import frame
from crdtcache.core.outcome import Dial, PeerDown, PeerUp
from crdtcache.errors import ConfigError
from crdtcache.runtime import discovery, doors
from crdtcache.runtime.link import joined
from crdtcache.runtime.thread import running
from crdtcache.tuning import Tuning
from tests.runtime.support import QUICK, Party, drained, raw, until


def greeting(party, **changes):
    with party.lock:
        hello = party.replica.hello(party.clock.reading())
    fields = {"magic": "crdtcache", **hello._asdict(), "nonce": bytes(16), "secured": False, "origin": 99}
    return joined([msgpack.packb(fields | {"name": "stranger", "advertise": ""} | changes)])


def lines(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelno == level and record.name == "crdtcache"]


async def converged(*parties):
    await until(lambda: len({party.digest() for party in parties}) == 1)


# ---- together ---------------------------------------------------------------------------------------------------


async def test_two_nodes_converge_in_both_directions():
    first = Party("a")
    async with running(first.driver):
        second = Party("b", peers=[first.driver.address])
        async with running(second.driver):
            await until(lambda: first.links() == second.links() == 1)
            first.set("x", 1)
            second.set("y", "two")
            await until(lambda: second.get("x") == 1 and first.get("y") == "two")
            first.delete("y")
            await until(lambda: second.get("y") is None)
            await converged(first, second)
        await until(lambda: first.links() == 0)
    assert [type(e) for e in first.events if isinstance(e, (PeerUp, PeerDown))] == [PeerUp, PeerDown]


async def test_what_was_written_before_the_link_arrives_too():
    first = Party("a")
    for number in range(3_000):
        first.set(f"key{number}", number)
    async with running(first.driver):
        second = Party("b", peers=first.driver.address)
        async with running(second.driver):
            await converged(first, second)
            assert second.get("key2999") == 2_999


async def test_three_nodes_that_know_one_seed_meet_all():
    seed = Party("seed")
    async with running(seed.driver):
        second = Party("b", peers=[seed.driver.address])
        third = Party("c", peers=[seed.driver.address])
        async with running(second.driver), running(third.driver):
            everybody = (seed, second, third)
            await until(lambda: all(party.links() == 2 for party in everybody))
            for party in everybody:
                party.set(party.name, party.name * 3)
            await until(lambda: all(p.get(o.name) == o.name * 3 for p in everybody for o in everybody))
            await converged(*everybody)


async def test_nodes_that_call_each_other_at_once_keep_one_link():
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in (one, two)]
    first, second = (Party(name, listen=at, peers=addresses) for name, at in zip("ab", addresses, strict=True))
    async with running(first.driver), running(second.driver):
        await until(lambda: first.links() == second.links() == 1)
        await trio.sleep(0.5)
        assert first.links() == second.links() == 1
        first.set("x", 1)
        await until(lambda: second.get("x") == 1)


async def test_the_own_address_among_the_seeds_is_ignored():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    alone = Party("a", listen=address, peers=[address])
    async with running(alone.driver):
        await trio.sleep(0.7)
        assert alone.links() == 0
        assert len([e for e in alone.events if isinstance(e, Dial)]) <= 2
        second = Party("b", peers=[address])
        async with running(second.driver):
            await until(lambda: alone.links() == second.links() == 1)


async def test_with_the_same_secret_nodes_meet():
    first = Party("a", secret=b"s3cret")
    async with running(first.driver):
        second = Party("b", secret=b"s3cret", peers=[first.driver.address])
        async with running(second.driver):
            first.set("x", 1)
            await until(lambda: second.get("x") == 1)
            await converged(first, second)


async def test_a_node_that_only_dials_out_is_reached_over_its_own_link():
    first = Party("a")
    async with running(first.driver):
        second = Party("b", listen=None, peers=[first.driver.address])
        async with running(second.driver):
            assert second.driver.address == ""
            first.set("x", 1)
            await until(lambda: second.get("x") == 1)
            assert [peer.address for peer in first.replica.peers()] == [""]


async def test_after_the_listener_was_away_the_link_comes_back_and_so_does_what_was_written():
    first = Party("a")
    async with running(first.driver):
        address = first.driver.address
        second = Party("b", peers=[address])
        nursery_left = trio.Event()
        async with running(second.driver):
            await until(lambda: second.links() == 1)
            await first.driver.stop()
            await until(lambda: second.links() == 0)
            second.set("meanwhile", 1)
            third = Party("a2", listen=address)
            async with running(third.driver):
                await until(lambda: third.get("meanwhile") == 1)
            nursery_left.set()


async def test_a_driver_runs_again_after_it_was_stopped():
    first = Party("a")
    for number in range(3):
        async with running(first.driver):
            second = Party(f"b{number}", peers=[first.driver.address])
            async with running(second.driver):
                first.set("round", number)
                await until(lambda party=second, n=number: party.get("round") == n)
    assert not first.driver.running


SLOW = Tuning(context_ms=60_000, keepalive_ms=20_000, silent_ms=60_000, sweep_ms=30_000)  # no timer within a test


# ---- the path of a write ------------------------------------------------------------------------------------------


async def test_a_write_leaves_without_waiting_for_any_timer():
    first = Party("a", tuning=SLOW)
    async with running(first.driver):
        second = Party("b", peers=[first.driver.address], tuning=SLOW)
        async with running(second.driver):
            await until(lambda: first.links() == second.links() == 1)
            await until(lambda: first.driver.asleep)
            for number in range(50):
                first.set("x", number)
                await until(lambda n=number: second.get("x") == n)  # within 5 s, and no timer is due before 20


async def test_an_answer_leaves_without_waiting_for_any_timer():
    first = Party("a", tuning=SLOW)
    first.set("x", 1)
    async with running(first.driver):
        second = Party("b", peers=[first.driver.address], tuning=SLOW)
        async with running(second.driver):
            await until(lambda: second.get("x") == 1)  # a pull, and its answer


async def test_writes_of_other_threads_wake_the_writers():
    first = Party("a")
    async with running(first.driver):
        second = Party("b", peers=[first.driver.address])
        async with running(second.driver):
            await until(lambda: first.links() == second.links() == 1)

            def write(name):
                for number in range(300):
                    first.set(f"{name}{number}", number)

            async with trio.open_nursery() as nursery:
                for name in "pqr":
                    nursery.start_soon(trio.to_thread.run_sync, write, name)
            await until(lambda: all(second.get(f"{name}299") == 299 for name in "pqr"))
            await converged(first, second)


async def test_a_write_by_the_callback_of_an_event_is_not_forgotten():
    """`deliver` may write: between a poll that found nothing and the sleep of the writer."""
    first = Party("a", tuning=SLOW)
    async with running(first.driver):
        second = Party("b", peers=[first.driver.address], tuning=SLOW)
        async with running(second.driver):
            await until(lambda: first.links() == second.links() == 1)

            def answer(events):
                for event in events:
                    if getattr(event, "remote", False) and event.key.startswith("ask"):
                        second.set("answer" + event.key[3:], 1)

            second.hook = answer
            for number in range(50):
                first.set(f"ask{number}", 1)
                await until(lambda n=number: first.get(f"answer{n}") == 1)


async def test_what_was_written_just_before_the_stop_is_sent():
    first = Party("a")
    second = Party("b")
    async with running(second.driver):
        async with running(first.driver):
            third = Party("c", peers=[first.driver.address, second.driver.address])
            async with running(third.driver):
                await until(lambda: third.links() == 2)
                third.set("last words", 1)
        await until(lambda: second.get("last words") == 1, 1)


async def test_a_long_merge_leaves_others_their_turn():
    first = Party("a")
    for number in range(30_000):
        first.set(f"key{number}", number)
    async with running(first.driver):
        second = Party("b", peers=[first.driver.address])
        async with running(second.driver), trio.open_nursery() as nursery:
            worst = 0.0

            async def tick():
                nonlocal worst
                while True:
                    before = time.thread_time()
                    await trio.lowlevel.checkpoint()
                    worst = max(worst, time.thread_time() - before)

            nursery.start_soon(tick)
            await until(lambda: second.get("key29999") is not None, 60)
            nursery.cancel_scope.cancel()
    # Seconds of work, not of waiting for a busy machine; both ends share this loop.
    assert worst < 0.3, f"the loop stood still for {worst * 1_000:.0f} ms of work"


async def test_a_call_that_was_given_up_before_it_was_answered_replaces_no_link():
    first = Party("a")
    async with running(first.driver):
        stream = await raw(first.driver.address, greeting(first))
        await until(lambda: first.links() == 1)
        host, _, port = first.driver.address.rpartition(":")
        for _ in range(5):  # each before the driver has its turn
            with socket.create_connection((host, int(port))) as late:
                late.sendall(greeting(first))
        await trio.sleep(0.2)
        assert first.links() == 1
        assert [event for event in first.events if isinstance(event, PeerDown)] == []
        with trio.move_on_after(0.2) as still:
            while await stream.receive_some(65_536):
                pass
        await stream.aclose()
        assert still.cancelled_caught, "the link that was there is there"


async def test_many_small_frames_in_one_read_leave_others_their_turn():
    first = Party("a")
    async with running(first.driver):
        received = 0
        real = first.replica.receive

        def receive(*arguments):
            nonlocal received
            received += 1
            time.sleep(0.001)
            real(*arguments)

        first.replica.receive = receive
        empty = frame(0, [])
        stream = await raw(first.driver.address, greeting(first))
        await until(lambda: first.links() == 1)
        await stream.send_all(joined([empty] * 500))
        most = before = 0
        while received < 500:
            await trio.lowlevel.checkpoint()
            most, before = max(most, received - before), received
        assert most <= 20  # of 1 ms each
        await stream.aclose()


async def test_expiry_needs_no_traffic_to_be_noticed():
    alone = Party("a", listen=None)
    async with running(alone.driver):
        alone.set("x", 1, alone.clock.reading().wall_ms + 150)
        await until(lambda: alone.changes("expired"), 2)


# ---- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        ({"secret": b"one"}, {"secret": b"two"}, "wrong secret"),
        ({"secret": b"one"}, {}, "one side has a secret and the other none"),
        ({}, {"secret": b"one"}, "one side has a secret and the other none"),
        ({"cluster": "shop"}, {"cluster": "bank"}, "another cluster"),
    ],
)
async def test_who_does_not_belong_here_is_refused_and_each_log_says_so_once(ours, theirs, reason, caplog):
    caplog.set_level(logging.DEBUG, "crdtcache")
    first = Party("a", **ours)
    async with running(first.driver):
        second = Party("b", peers=[first.driver.address], **theirs)
        async with running(second.driver):
            first.set("x", 1)
            await until(lambda: len([line for line in lines(caplog, logging.DEBUG) if reason in line]) >= 4)
            assert first.links() == second.links() == 0
            assert second.get("x") is None
            warnings = [line for line in lines(caplog, logging.WARNING) if reason in line]
            assert len(warnings) == 2, warnings
            assert any(reason in text for text in second.driver.conditions)


async def test_without_a_guard_nobody_listens_beyond_loopback():
    for listen, peers in (("0.0.0.0:0", None), ("auto", ["10.0.0.1"]), ("auto", list)):
        party = Party("a", listen=listen, peers=peers)
        with pytest.raises(ConfigError, match="secret="):
            async with running(party.driver):
                raise AssertionError("it listens")
        assert not party.driver.running


async def test_a_port_that_somebody_else_has_is_an_error_at_the_start():
    first = Party("a")
    async with running(first.driver):
        second = Party("b", listen=first.driver.address, cluster="another")
        with pytest.raises(ConfigError, match="in use"):
            async with running(second.driver):
                raise AssertionError("it listens")
        await until(lambda: not first.events)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\1\x80"])
async def test_a_port_that_no_node_has_is_an_error_at_the_start(answer):
    async def serve(stream):
        if answer:
            await stream.send_all(answer)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        party = Party("a", listen=f"127.0.0.1:{listener.socket.getsockname()[1]}")
        with pytest.raises(ConfigError, match="in use"):
            async with running(party.driver):
                raise AssertionError("it listens")
        nursery.cancel_scope.cancel()


async def test_workers_that_all_ask_for_one_port_find_each_other_and_inherit_it(caplog):
    caplog.set_level(logging.INFO, "crdtcache")
    first = Party("a")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(first.driver))
        wanted = first.driver.address
        workers = [Party(name, listen=wanted, advertise=wanted) for name in "bcd"]
        for worker in workers:
            await stack.enter_async_context(running(worker.driver))
        assert len({party.driver.address for party in (first, *workers)}) == 4
        assert [worker.replica.advertise for worker in workers] == [worker.driver.address for worker in workers]
        await until(lambda: all(party.links() == 3 for party in (first, *workers)))
        await first.driver.stop()
        await until(lambda: "too, which is free now" in caplog.text)
        late = Party("e", peers=[wanted])
        await stack.enter_async_context(running(late.driver))
        await until(lambda: late.links() == 3)
        workers[0].set("x", 1)
        await until(lambda: late.get("x") == 1)
    async with running(Party("f", listen=wanted, cluster="another").driver):
        pass  # the heir has closed it too


@pytest.mark.parametrize(
    "arguments",
    [
        {"secret": b""},
        {"peers": ["a:b"]},
        {"advertise": "0.0.0.0"},
        {"advertise": "host:port"},
        {"cluster": "x" * 300},
    ],
)
def test_what_can_be_seen_to_be_wrong_is_an_error_in_the_constructor(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        Party("a", **arguments)


async def test_seeds_without_addresses_are_one_warning_and_asked_for_again(caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, "crdtcache")
    first = Party("a")
    async with running(first.driver):
        host, port = first.driver.address.split(":")
        real = socket.getaddrinfo
        answers = []

        def look_up(name, *args, **kwargs):
            if name != "late.example":
                return real(name, *args, **kwargs)
            if not answers:
                raise socket.gaierror(-2, "Name or service not known")
            return answers

        monkeypatch.setattr(discovery.socket, "getaddrinfo", look_up)
        second = Party("b", peers=[f"late.example:{port}"])
        second.set("x", 1)
        async with running(second.driver):
            text = f"no address for late.example:{port}: Name or service not known; asking again"
            await until(lambda: lines(caplog, logging.DEBUG).count(text) >= 2)
            assert lines(caplog, logging.WARNING).count(text) == 1
            assert second.driver.conditions == [text]
            answers.append((socket.AF_INET, 1, 6, "", (host, 0)))
            await until(lambda: first.get("x") == 1)
            assert second.driver.conditions == []


async def test_when_a_member_goes_the_names_are_asked_again(monkeypatch):
    """Behind one name another pod has come: it is met soon, though somebody else is still there."""
    first, stays, up, goes = Party("a"), Party("b"), trio.Event(), trio.Event()

    async def comes_and_goes():
        async with running(first.driver):
            up.set()
            await goes.wait()

    async with trio.open_nursery() as nursery, running(stays.driver):
        nursery.start_soon(comes_and_goes)
        await up.wait()
        host, port = first.driver.address.split(":")
        answers = [(socket.AF_INET, 1, 6, "", (host, 0))]
        real = socket.getaddrinfo

        def look_up(name, *args, **kwargs):
            return list(answers) if name == "pods.example" else real(name, *args, **kwargs)

        monkeypatch.setattr(discovery.socket, "getaddrinfo", look_up)
        second = Party("c", peers=[f"pods.example:{port}", stays.driver.address], tuning=Tuning(redial_ms=50))
        async with running(second.driver):
            await until(lambda: second.links() == 2)
            await trio.sleep(0.2)  # the names were asked, and would be again in a minute
            other = Party("d", listen=f"127.0.0.2:{port}")
            async with running(other.driver):
                answers[:] = [(socket.AF_INET, 1, 6, "", ("127.0.0.2", 0))]
                goes.set()
                await until(lambda: other.links() >= 1)


async def test_a_node_whose_peers_cannot_be_reached_works_and_says_once_that_it_is_alone(caplog):
    caplog.set_level(logging.DEBUG, "crdtcache")
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        alone = Party("a", peers=[f"127.0.0.1:{dead.getsockname()[1]}"])
        async with running(alone.driver):
            alone.set("x", 1)
            assert alone.get("x") == 1
            await until(lambda: any("working alone" in text for text in alone.driver.conditions))
            assert lines(caplog, logging.WARNING) == []  # shown at once; told of when it lasts
            await until(lambda: lines(caplog, logging.WARNING))
            await trio.sleep(0.3)
            assert len([line for line in lines(caplog, logging.WARNING) if "working alone" in line]) == 1
            assert "refused" in lines(caplog, logging.WARNING)[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it speaks HTTP, not crdtcache"),
        (b"\xff" * 100, "it does not speak this protocol: a frame of 4294967295 bytes"),
        (b"", "greeting failed: closed by the other side"),
        (None, "no greeting within 1 s"),
    ],
    ids=["http", "noise", "nothing", "silence"],
)
async def test_a_peer_that_is_no_node_is_told_of_and_called_ever_more_slowly(answer, words):
    calls = []

    async def strange(stream):
        async with stream:
            calls.append(trio.current_time())
            await stream.receive_some()
            if answer is None:
                await trio.sleep_forever()
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, strange, 0)
        alone = Party("a", peers=[f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"])
        async with running(alone.driver):
            await until(lambda: any(words in text for text in alone.driver.conditions))
            assert "working alone" in alone.driver.conditions[0]
            assert 1 <= len(calls) <= 30  # in the second that it took, from some ms apart to `redial_ms`
        nursery.cancel_scope.cancel()


# ---- addresses ----------------------------------------------------------------------------------------------------


async def test_listening_at_one_address_that_one_is_told_to_others():
    party = Party("a")
    async with running(party.driver):
        assert party.replica.advertise == party.driver.address == party.replica.advertise
        assert not party.driver.address.endswith(":0")


async def test_listening_everywhere_the_address_of_a_link_is_told_and_never_the_wildcard():
    first = Party("a", listen="0.0.0.0:0", insecure=True)
    async with running(first.driver):
        assert first.driver.address.startswith("0.0.0.0:")
        assert first.replica.advertise == ""
        port = first.driver.address.rpartition(":")[2]
        second = Party("b", listen="*:0", insecure=True, peers=[f"127.0.0.1:{port}"])
        async with running(second.driver):
            await until(lambda: first.links() == second.links() == 1)
            assert first.replica.advertise == f"127.0.0.1:{port}"
            assert second.replica.advertise == "127.0.0.1:" + second.driver.address.rpartition(":")[2]
            assert [peer.address for peer in second.replica.peers()] == [first.replica.advertise]
            assert [peer.address for peer in first.replica.peers()] == [second.replica.advertise]


async def test_the_first_address_of_a_link_stays_unless_it_was_loopback():
    party = Party("a", listen="0.0.0.0:0", insecure=True)
    async with running(party.driver):
        port = party.driver.address.rpartition(":")[2]
        for host in ("127.0.0.1", "127.0.0.2"):
            stream = await raw(f"{host}:{port}")
            await stream.receive_some()  # its greeting
            await stream.aclose()
            assert party.replica.advertise == f"127.0.0.1:{port}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing; says which address would be used
            except OSError:
                return  # a machine without any network has no other address
            outside = probe.getsockname()[0]
        for host in (outside, "127.0.0.1"):
            stream = await raw(f"{host}:{port}")
            await stream.receive_some()
            await stream.aclose()
            assert party.replica.advertise == f"{outside}:{port}"


async def test_what_the_user_says_is_told_as_it_is():
    party = Party("a", listen="0.0.0.0:0", insecure=True, advertise="web-1.example")
    async with running(party.driver):
        other = Party("b", listen=None, peers=["127.0.0.1:" + party.driver.address.rpartition(":")[2]])
        async with running(other.driver):
            await until(lambda: other.links() == 1)
            assert [peer.address for peer in other.replica.peers()] == ["web-1.example:2738"]


async def test_the_second_node_of_a_machine_takes_another_port_and_calls_the_first(monkeypatch):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        monkeypatch.setattr(discovery, "DEFAULT_PORT", sock.getsockname()[1])
    first = Party("a", listen="auto")
    async with running(first.driver):
        assert first.driver.address == f"127.0.0.1:{discovery.DEFAULT_PORT}"
        second = Party("b", listen="auto", peers=["127.0.0.1:9"])
        async with running(second.driver):
            assert second.driver.address != first.driver.address
            await until(lambda: first.links() == second.links() == 1)


# ---- bad neighbours -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: cache\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x10\x01",
        joined([b""]),
        joined([b"\x91" * 4_000]),
        joined([b"\x80"]),
        joined([msgpack.packb({"refused": "x" * 4_000})]),
        joined([bytes(4_096)]) * 50,
    ],
)
async def test_garbage_instead_of_a_greeting_closes_that_link_and_nothing_else(garbage):
    first = Party("a")
    async with running(first.driver):
        second = Party("b", peers=[first.driver.address])
        async with running(second.driver):
            await until(lambda: first.links() == 1)
            stream = await raw(first.driver.address, garbage)
            await drained(stream, 0.8)  # sooner than the time for greetings would close it
            await stream.aclose()
            first.set("x", 1)
            await until(lambda: second.get("x") == 1)
            first.replica.check()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff",
        joined([b"garbage"]),
        joined([b"\x93\x00\x00\xc1"]),
        b"\x00\x04\x00\x01",
        joined([b"\xc1"] * 3),
    ],
)
async def test_garbage_after_a_good_greeting_closes_that_link_and_nothing_else(garbage):
    first = Party("a")
    async with running(first.driver):
        second = Party("b", peers=[first.driver.address])
        async with running(second.driver):
            await until(lambda: first.links() == 1)
            stream = await raw(first.driver.address, greeting(first))
            await until(lambda: first.links() == 2)
            await stream.send_all(garbage)
            await drained(stream, 0.9)  # sooner than silence would close it
            await stream.aclose()
            await until(lambda: first.links() == 1)
            first.set("x", 1)
            await until(lambda: second.get("x") == 1)
            first.replica.check()


async def test_garbage_in_the_same_packet_as_the_greeting_closes_the_link():
    first = Party("a")
    async with running(first.driver):
        for garbage in (b"\xff\xff\xff\xff", joined([b"\xc1"])):
            stream = await raw(first.driver.address, greeting(first) + garbage)
            await drained(stream, 0.9)
            await stream.aclose()
        await until(lambda: first.links() == 0)


async def test_half_open_greetings_are_given_up():
    first = Party("a")
    async with running(first.driver):
        began = time.monotonic()
        silent = await raw(first.driver.address)
        halfway = await raw(first.driver.address, b"\x00\x00\x01")
        for stream in (silent, halfway):
            await drained(stream)
            await stream.aclose()
        assert 0.5 < time.monotonic() - began < 4


async def test_a_greeting_in_drops_does_not_live_longer():
    first = Party("a")
    async with running(first.driver):
        began = time.monotonic()
        stream = await raw(first.driver.address)
        with suppress(trio.BrokenResourceError):
            for byte in b"\x00\x00\x0f\xff" + bytes(400):
                await stream.send_all(bytes([byte]))
                await trio.sleep(0.02)
        assert time.monotonic() - began < 4
        await stream.aclose()


async def test_a_peer_that_falls_silent_is_given_up():
    first = Party("a")
    async with running(first.driver):
        stream = await raw(first.driver.address, greeting(first))
        await until(lambda: first.links() == 1)
        await drained(stream)
        await until(lambda: first.links() == 0)
        await stream.aclose()


async def test_a_flood_of_idle_connections_is_bounded_and_members_still_get_in():
    first = Party("a")
    async with running(first.driver):
        flood = [await raw(first.driver.address) for _ in range(500)]
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(first.driver._doors._strangers) <= doors._MOST_STRANGERS
        second = Party("b", peers=[first.driver.address])
        async with running(second.driver):
            await until(lambda: first.links() == 1, 2)
            first.set("x", 1)
            await until(lambda: second.get("x") == 1)
        for stream in flood:
            await stream.aclose()
        await until(lambda: not first.driver._doors._strangers)


async def small_window(party):
    """A member with a small window that does not read, so that nothing but the kernel holds what is sent."""
    sock = trio.socket.socket()
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4_096)
    host, port = party.driver.address.split(":")
    await sock.connect((host, int(port)))
    await sock.send(greeting(party))
    return sock


async def test_a_reader_that_stalls_costs_the_sender_a_cursor_and_no_memory():
    first = Party("a", tuning=Tuning(silent_ms=60_000, keepalive_ms=20_000))
    async with running(first.driver):
        sock = await small_window(first)
        await until(lambda: first.links() == 1)
        made = []
        for round_ in range(40):
            for number in range(200):
                first.set(f"key{number}", f"{round_}" * 2_000)
            await trio.sleep(0.01)
            made.append(first.stats()["frames_sent"])
        wire = next(iter(first.driver._wires.values()))
        # 16 MB were written; what was made of it stopped growing when the kernel was full.
        assert made[-1] == made[-10]
        assert sum(map(len, wire.made)) == 0
        assert made[-1] * first.replica.tuning.frame_bytes < 6_000_000
        sock.close()


async def test_a_reader_that_comes_back_gets_the_present_once():
    first = Party("a", tuning=Tuning(silent_ms=60_000, keepalive_ms=20_000))
    async with running(first.driver):
        stream = trio.SocketStream(await small_window(first))
        await until(lambda: first.links() == 1)
        for round_ in range(500):
            for number in range(20):
                first.set(f"key{number}", f"{round_:03}" * 400)
            await trio.lowlevel.checkpoint()
        got = b""
        with trio.move_on_after(1):
            while part := await stream.receive_some(65_536):
                got += part
        await stream.aclose()
        assert got.count(b"499" * 400) == 20
        assert len(got) < 3_000_000  # 12 MB were written


async def test_full_descriptors_are_one_warning_and_pass(caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, "crdtcache")
    first = Party("a")
    async with running(first.driver):
        real = trio.SocketListener.accept
        failures = [OSError(24, "Too many open files")] * 3

        async def accept(self):
            if failures:
                await trio.lowlevel.checkpoint()
                raise failures.pop()
            return await real(self)

        monkeypatch.setattr(trio.SocketListener, "accept", accept)
        (await raw(first.driver.address)).socket.close()
        second = Party("b", listen=None, peers=[first.driver.address])
        async with running(second.driver):
            await until(lambda: first.links() == 1)
        assert len([line for line in lines(caplog, logging.WARNING) if "Too many open files" in line]) == 1


# ---- the end ------------------------------------------------------------------------------------------------------


async def test_what_the_body_raises_comes_out_as_it_is():
    party = Party("a")
    with pytest.raises(KeyError, match="mine"):
        async with running(party.driver):
            raise KeyError("mine")
    with pytest.raises(KeyboardInterrupt):
        async with running(party.driver):
            raise KeyboardInterrupt
    with pytest.raises(ExceptionGroup, match="two of mine") as group:
        async with running(party.driver):
            raise ExceptionGroup("two of mine", [KeyError(), ValueError()])
    assert len(group.value.exceptions) == 2
    assert not party.driver.running


async def test_a_cancelled_body_ends_at_once_and_its_links_are_closed():
    first = Party("a")
    async with running(first.driver):
        second = Party("b", peers=[first.driver.address])
        with trio.CancelScope() as scope:
            async with running(second.driver):
                await until(lambda: first.links() == 1)
                began = trio.current_time()
                scope.cancel()
                await trio.sleep_forever()
        assert trio.current_time() - began < 0.3
        assert second.links() == 0
        await until(lambda: first.links() == 0)


async def test_a_bug_in_the_core_tears_the_nursery_down():
    first = Party("a")

    def bug(*_):
        raise AssertionError("a bug")

    async def body():
        async with running(first.driver):
            first.replica.receive = bug
            second = Party("b", peers=[first.driver.address])
            async with running(second.driver):
                await trio.sleep(5)

    with pytest.raises(ExceptionGroup) as group:
        await body()
    assert group.value.subgroup(AssertionError) is not None
    assert not first.driver.running


async def test_a_stop_waits_no_longer_than_its_peers_need():
    first = Party("a")
    async with running(first.driver):
        second = Party("b", peers=[first.driver.address])
        async with running(second.driver):
            await until(lambda: first.links() == second.links() == 1)
            began = trio.current_time()
            await second.driver.stop(5)
            assert trio.current_time() - began < 1


async def test_a_stop_does_not_wait_for_a_peer_that_does_not_read():
    first = Party("a", tuning=Tuning(silent_ms=60_000, keepalive_ms=20_000))
    async with running(first.driver):
        stream = await raw(first.driver.address, greeting(first))
        await until(lambda: first.links() == 1)
        for number in range(2_000):
            first.set(f"key{number}", "x" * 4_000)
        await trio.sleep(0.2)
        began = trio.current_time()
        await first.driver.stop(0.3)
    assert trio.current_time() - began < 1
    await stream.aclose()


@pytest.mark.parametrize("turns", range(8))
async def test_a_call_that_is_wanted_while_the_doors_close_is_a_failed_call(turns):
    party = Party("a", listen=None)
    async with running(party.driver):
        await trio.testing.wait_all_tasks_blocked()
        party.driver._doors.close()
        for _ in range(turns):
            await trio.lowlevel.cancel_shielded_checkpoint()
        party.driver._doors.call("127.0.0.1:1")


async def test_nothing_is_left_open():
    gc.collect()
    first = Party("a")
    async with running(first.driver):
        stranger = await raw(first.driver.address)
        second = Party("b", peers=[first.driver.address])
        async with running(second.driver):
            await until(lambda: first.links() == 1)
    await drained(stranger)
    await stranger.aclose()
    gc.collect()  # an unclosed socket is a ResourceWarning, and those are errors here
    with pytest.raises(OSError, match="failed"):
        await raw(first.driver.address)


def test_waking_a_driver_that_does_not_run_does_nothing():
    party = Party("a")
    assert not party.driver.asleep
    party.driver.wake()
    party.set("x", 1)


def test_quick_numbers_keep_the_rules():
    assert QUICK.silent_ms > 2 * QUICK.keepalive_ms
