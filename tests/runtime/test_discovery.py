"""Addresses in text, names with a dead name server, and every way in which listening can fail."""

from __future__ import annotations

import errno
import socket
import threading
import time

import pytest
import trio

from crdtcache.errors import ConfigError
from crdtcache.runtime import discovery
from crdtcache.runtime.addresses import Address, parse
from crdtcache.runtime.discovery import Seeds, bind, call, callable_host


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="IPv6 is off here")


@pytest.fixture
def ipv6_off(monkeypatch):
    class WithoutIPv6(socket.socket):
        def __init__(self, family=socket.AF_INET, *args, **kwargs):
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *args, **kwargs)

    monkeypatch.setattr(discovery.socket, "socket", WithoutIPv6)


@pytest.fixture
def names(monkeypatch):
    """A name server of our own: name -> addresses, or an exception, or a callable that may hang."""
    table = {}
    real = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        if host not in table:
            return real(host, port, *args, **kwargs)
        answer = table[host]
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET6 if ":" in ip else socket.AF_INET, 1, 6, "", (ip, 0)) for ip in answer]

    monkeypatch.setattr(discovery.socket, "getaddrinfo", look_up)
    return table


def limiter():
    return trio.CapacityLimiter(4)


# ---- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.2", "10.0.0.2", 2738),
        (" web-1:80 ", "web-1", 80),
        ("cache.eu.svc.cluster.local", "cache.eu.svc.cluster.local", 2738),
        ("[2001:db8::1]:99", "2001:db8::1", 99),
        ("[2001:db8::1]", "2001:db8::1", 2738),
        ("2001:db8::1", "2001:db8::1", 2738),
        ("::1", "::1", 2738),
        ("[fe80::1%eth0]:5", "fe80::1%eth0", 5),
    ],
)
def test_an_address_in_each_of_its_forms(text, host, port):
    assert parse(text, "peers") == Address(host, port)
    assert parse(str(parse(text, "peers")), "peers") == Address(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":2738",
        "host:",
        "host:port",
        "host:0",
        "host:65536",
        "host:-1",
        "host:2738x",
        "host:٣",
        "[::1",
        "[::1]2738",
        "[host]:1",
        "1:2:3",
        "http://host:1",
        "user@host",
        "two hosts",
        "x" * 300,
        None,
        2738,
        b"host",
    ],
)
def test_what_is_no_address_is_named_with_the_argument(text):
    with pytest.raises(ConfigError, match="peers"):
        parse(text, "peers")


@pytest.mark.parametrize("text", ["0.0.0.0", "[::]:2738", "*"])
def test_a_place_to_listen_is_not_one_to_call(text):
    with pytest.raises(ConfigError, match="a place to listen"):
        Seeds([text])


def test_seeds_from_one_text_or_many_without_empty_ones_and_doubles():
    assert Seeds("a, b:1,,a ,").given == [Address("a", 2738), Address("b", 1)]
    assert Seeds(("a", "b:1")).given == [Address("a", 2738), Address("b", 1)]
    assert not Seeds(None)
    assert not Seeds("")
    assert Seeds(list)


def test_only_literal_or_local_seeds_are_known_to_stay_on_this_machine():
    assert Seeds(None).loopback
    assert Seeds("127.0.0.1:1,localhost,[::1]:3").loopback
    assert not Seeds("127.0.0.1,web-1").loopback
    assert not Seeds(lambda: ["127.0.0.1"]).loopback


@pytest.mark.parametrize(
    ("own", "host"),
    [
        (("10.0.0.1", 1), "10.0.0.1"),
        (("::ffff:10.0.0.1", 1, 0, 0), "10.0.0.1"),
        (("2001:db8::1", 1, 0, 0), "2001:db8::1"),
        (("127.0.0.1", 1), "127.0.0.1"),
        (("fe80::1%eth0", 1, 0, 3), None),
        (("0.0.0.0", 1), None),
        (("::", 1, 0, 0), None),
        (("", 1), None),
    ],
)
def test_what_others_may_call_is_never_a_wildcard_nor_link_local(own, host):
    assert callable_host(own) == host


# ---- names ---------------------------------------------------------------------------------------------------------


async def test_a_name_stands_for_all_its_records(names):
    names["cache"] = ["10.0.0.1", "10.0.0.2", "2001:db8::1", "10.0.0.1"]
    found, failures = await Seeds("cache:99,10.0.0.9").resolve(limiter())
    assert sorted(found) == ["10.0.0.1:99", "10.0.0.2:99", "10.0.0.9:2738", "[2001:db8::1]:99"]
    assert failures == {}


async def test_literal_addresses_ask_no_name_server(names):
    names["10.0.0.1"] = AssertionError("asked")
    seeds = Seeds("10.0.0.1")
    assert await seeds.resolve(limiter()) == (["10.0.0.1:2738"], {})
    assert not seeds.changing


async def test_an_unresolvable_seed_is_a_failure_with_a_reason_and_the_others_count():
    found, failures = await Seeds("no-such-host.invalid,10.0.0.1").resolve(limiter())
    assert found == ["10.0.0.1:2738"]
    assert list(failures) == ["no-such-host.invalid:2738"]
    assert failures["no-such-host.invalid:2738"]


async def test_a_name_that_cannot_be_encoded_is_a_failure_not_a_crash():
    _, failures = await Seeds("a..b").resolve(limiter())
    assert list(failures) == ["a..b:2738"]


async def test_a_seed_without_an_answer_this_time_keeps_its_last_one(names):
    names["cache"] = ["10.0.0.1"]
    seeds = Seeds("cache")
    await seeds.resolve(limiter())
    names["cache"] = socket.gaierror(-3, "try again")
    assert await seeds.resolve(limiter()) == (["10.0.0.1:2738"], {"cache:2738": "try again"})
    names["cache"] = ["10.0.0.2"]
    assert await seeds.resolve(limiter()) == (["10.0.0.2:2738"], {})


async def test_a_callable_is_asked_anew_in_a_thread_of_its_own():
    answers = [["10.0.0.1"], ["10.0.0.2:5"]]
    threads = []

    def ask():
        threads.append(threading.get_ident())
        return answers.pop(0)

    seeds = Seeds(ask)
    assert seeds.changing
    assert (await seeds.resolve(limiter()))[0] == ["10.0.0.1:2738"]
    assert (await seeds.resolve(limiter()))[0] == ["10.0.0.2:5"]
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: None, "TypeError"),
        (lambda: ["a:b"], "ConfigError"),
        (lambda: iter([3]), "ConfigError"),
    ],
)
async def test_what_goes_wrong_in_a_callable_is_a_failure_and_the_last_answer_stays(ask, why):
    seeds = Seeds(ask)
    seeds.given = [Address("10.0.0.1", 2738)]
    found, failures = await seeds.resolve(limiter())
    assert found == ["10.0.0.1:2738"]
    assert why in failures["peers()"]


async def test_a_dead_name_server_is_waited_for_only_so_long_and_holds_few_threads(names, monkeypatch):
    monkeypatch.setattr(discovery, "_RESOLVE_S", 0.2)
    release = threading.Event()
    asked = []

    def hang():
        asked.append(1)
        release.wait(10)
        return ["10.0.0.1"]

    for number in range(20):
        names[f"host{number}"] = hang
    began = time.monotonic()
    found, failures = await Seeds([f"host{n}" for n in range(20)]).resolve(limiter())
    assert found == []
    assert len(failures) == 20
    assert "no answer within 0.2 s" in failures["host0:2738"]
    assert time.monotonic() - began < 2
    assert len(asked) <= 4
    release.set()


async def test_resolving_is_cancelled_at_once(names):
    release = threading.Event()
    names["slow"] = lambda: release.wait(10) and ["10.0.0.1"]
    began = time.monotonic()
    with trio.move_on_after(0.05):
        await Seeds("slow").resolve(limiter())
    assert time.monotonic() - began < 1
    release.set()


# ---- calling -------------------------------------------------------------------------------------------------------


async def test_a_call_says_in_words_why_it_failed(names):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        assert "refused" in await call(f"127.0.0.1:{unused.getsockname()[1]}", 1, limiter())
    assert await call("no-such-host.invalid", 1, limiter())
    assert "not an address" in await call("what is this", 1, limiter())
    names["empty"] = []
    assert await call("empty", 1, limiter()) == "no address"
    release = threading.Event()
    names["slow"] = lambda: release.wait(10) and []
    assert await call("slow", 0.05, limiter()) == "no answer within 0.05 s"
    release.set()


async def test_a_call_tries_each_address_of_a_name(names):
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    names["cache"] = ["127.9.9.9", "127.0.0.1"]
    stream = await call(f"cache:{listener.socket.getsockname()[1]}", 1, limiter())
    assert isinstance(stream, trio.SocketStream)
    await stream.aclose()
    await listener.aclose()


# ---- listening -----------------------------------------------------------------------------------------------------


def close(listening):
    for listener in listening.listeners:
        listener.socket.close()


@pytest.fixture
def free_port(monkeypatch):
    """A default port that nobody else on this machine uses."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    monkeypatch.setattr(discovery, "DEFAULT_PORT", port)
    return port


async def test_auto_stays_on_loopback_without_peers_beyond(free_port):
    listening = await bind("auto", local=True, guarded=False)
    assert listening.address == Address("127.0.0.1", free_port)
    assert {each.socket.getsockname()[0] for each in listening.listeners} <= {"127.0.0.1", "::1"}
    close(listening)


async def test_auto_with_peers_beyond_listens_everywhere_and_asks_for_a_guard(free_port):
    with pytest.raises(ConfigError, match=r"secret=.*insecure=True"):
        await bind("auto", local=False, guarded=False)
    listening = await bind("auto", local=False, guarded=True)
    assert listening.address.wildcard
    assert listening.address.port == free_port
    close(listening)


async def test_auto_takes_another_port_where_its_own_is_taken_and_says_which(free_port):
    first = await bind("auto", local=True, guarded=False)
    second = await bind("auto", local=True, guarded=False)
    assert first.taken is None
    assert second.taken == Address("127.0.0.1", free_port)
    assert second.address.port not in {0, free_port}
    assert len({each.socket.getsockname()[1] for each in second.listeners}) == 1
    close(first)
    close(second)


async def test_a_busy_port_is_an_error_that_names_it():
    first = await bind("127.0.0.1:0", local=True, guarded=False)
    port = first.address.port
    assert port != 0
    with pytest.raises(ConfigError, match=rf"listen='127.0.0.1:{port}': port {port} is in use; .*port 0"):
        await bind(f"127.0.0.1:{port}", local=True, guarded=False)
    close(first)
    close(await bind(f"127.0.0.1:{port}", local=True, guarded=False))  # free again at once


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "*:0", "203.0.113.1:0", pytest.param("[::]:0", marks=needs_ipv6)])
async def test_beyond_loopback_a_guard_is_asked_for_by_name(listen):
    with pytest.raises(ConfigError, match=r"(?s)listen=.*reached from other machines.*secret=.*insecure=True"):
        await bind(listen, local=True, guarded=False)


async def test_a_name_is_judged_by_its_addresses(names):
    names["inside"] = ["127.0.0.1"]
    names["outside"] = ["127.0.0.1", "203.0.113.1"]
    close(await bind("inside:0", local=True, guarded=False))
    with pytest.raises(ConfigError, match="secret="):
        await bind("outside:0", local=True, guarded=False)


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("203.0.113.1:0", "no interface of this machine has the address 203.0.113.1"),
        ("no-such-host.invalid:0", "cannot be resolved"),
        ("127.0.0.1:http", "port 'http' is not a number from 0 to 65535"),
        ("", "not an address"),
    ],
)
async def test_bad_bind_addresses_are_errors_in_words(listen, why):
    with pytest.raises(ConfigError, match=why):
        await bind(listen, local=True, guarded=True)


@needs_ipv6
async def test_all_addresses_means_both_families():
    listening = await bind("*:0", local=True, guarded=True)
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, listening.address.port), timeout=1):
            pass
    close(listening)


async def test_where_ipv6_is_off_all_addresses_means_ipv4(ipv6_off, free_port):
    listening = await bind("auto", local=False, guarded=True)
    assert listening.address == Address("0.0.0.0", free_port)
    close(listening)
    listening = await bind("auto", local=True, guarded=False)
    assert [each.socket.getsockname() for each in listening.listeners] == [("127.0.0.1", free_port)]
    close(listening)


@pytest.mark.parametrize("listen", ["[::1]:0", "[::]:0"])
async def test_where_ipv6_is_off_and_asked_for_the_error_says_so(ipv6_off, listen):
    with pytest.raises(ConfigError, match=r"IPv6 is off on this machine; listen on 0\.0\.0\.0 or 127\.0\.0\.1"):
        await bind(listen, local=True, guarded=True)


async def test_where_ipv6_is_off_a_name_with_both_families_listens_on_one(ipv6_off, names):
    names["both"] = ["::1", "127.0.0.1"]
    listening = await bind("both:0", local=True, guarded=False)
    assert listening.address.host == "127.0.0.1"
    close(listening)


async def test_a_privileged_port_says_so(monkeypatch):
    class Denied(socket.socket):
        def bind(self, address):
            raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(discovery.socket, "socket", Denied)
    with pytest.raises(ConfigError, match=r"may not use port 80; those below 1024"):
        await bind("127.0.0.1:80", local=True, guarded=False)
