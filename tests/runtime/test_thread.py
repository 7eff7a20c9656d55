"""The private thread: it starts or says why not, serves writers of any thread, and ends quickly in any network."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import pytest

from crdtcache.core.outcome import PeerDown
from crdtcache.errors import ConfigError
from crdtcache.runtime import discovery
from crdtcache.runtime.thread import NetworkThread
from tests.runtime.support import Party


@contextmanager
def started(party):
    thread = NetworkThread(party.driver, party.name)
    thread.start()
    try:
        yield thread
    finally:
        thread.close()
        assert not thread.running


def wait_for(true, seconds=5.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.005)


def test_two_threads_converge_with_writers_in_several_others():
    first, second = Party("a"), None
    with started(first):
        second = Party("b", peers=[first.driver.address])
        with started(second):
            wait_for(lambda: first.links() == second.links() == 1)

            def write(party, name):
                for number in range(500):
                    party.set(f"{name}{number}", number)

            writers = [
                threading.Thread(target=write, args=(p, n)) for p, n in ((first, "p"), (first, "q"), (second, "r"))
            ]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            wait_for(lambda: first.digest() == second.digest(), 2)
            assert second.get("q499") == first.get("r499") == 499


def test_a_single_write_of_another_thread_needs_no_timer_to_leave():
    first = Party("a")
    with started(first):
        second = Party("b", peers=[first.driver.address])
        seen = threading.Event()
        second.hook = lambda events: any(getattr(e, "key", None) == "x" for e in events) and seen.set()
        with started(second):
            wait_for(lambda: first.links() == second.links() == 1)
            delays = []
            for number in range(30):
                time.sleep(0.02)
                seen.clear()
                began = time.monotonic()
                first.set("x", number)
                assert seen.wait(2)
                delays.append(time.monotonic() - began)
    # The timer would come by every 100 ms; half of the writes at least must not have waited for it.
    assert sorted(delays)[15] < 0.03


def test_a_port_in_use_is_raised_in_the_caller_and_nothing_is_left():
    first = Party("a")
    with started(first):
        second = Party("b", listen=first.driver.address, cluster="another")
        thread = NetworkThread(second.driver)
        with pytest.raises(ConfigError, match="in use"):
            thread.start()
        assert not thread.running
        assert thread.crash is None
    thread.start()  # the port is free now
    thread.close()


def test_no_guard_beyond_loopback_is_raised_in_the_caller():
    thread = NetworkThread(Party("a", listen="0.0.0.0:0").driver)
    with pytest.raises(ConfigError, match="secret="):
        thread.start()


def test_a_start_that_takes_too_long_is_given_up(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(discovery.socket, "getaddrinfo", lambda *_, **__: release.wait(10) and [])
    thread = NetworkThread(Party("a", listen="slow.example:0").driver)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"did not listen within timeout=0.2 s"):
        thread.start(0.2)
    assert time.monotonic() - began < 1
    assert not thread.running
    release.set()


def test_closing_twice_and_before_a_start_does_nothing():
    thread = NetworkThread(Party("a").driver)
    thread.close()
    thread.start()
    thread.start()
    assert thread.running
    thread.close()
    thread.close()
    assert not thread.running


def test_it_starts_again_after_it_was_closed():
    party = Party("a")
    for number in range(3):
        with started(party):
            other = Party(f"b{number}", peers=[party.driver.address])
            with started(other):
                party.set("round", number)
                wait_for(lambda o=other, n=number: o.get("round") == n)


def test_what_was_written_just_before_the_close_is_sent():
    for number in range(10):
        first = Party("a")
        with started(first):
            second = Party("b", peers=[first.driver.address])
            with started(second):
                wait_for(lambda a=first, b=second: a.links() == b.links() == 1)
                second.set("last words", number)
            wait_for(lambda a=first, n=number: a.get("last words") == n, 1)


def test_closing_is_quick_while_calls_names_and_peers_hang(monkeypatch):
    release = threading.Event()
    real = socket.getaddrinfo

    def hang(host, *args, **kwargs):
        return release.wait(20) and [] if host == "dead.example" else real(host, *args, **kwargs)

    monkeypatch.setattr(discovery.socket, "getaddrinfo", hang)
    # 192.0.2.0/24 is nobody's (RFC 5737): a call there is answered by silence or an error, never by a peer.
    party = Party("a", listen="127.0.0.1:0", peers=["dead.example", "192.0.2.123:1", "127.0.0.1:1"])
    thread = NetworkThread(party.driver)
    thread.start()
    host, port = party.driver.address.split(":")
    with socket.create_connection((host, int(port))):  # somebody who never greets
        time.sleep(0.2)
        began = time.monotonic()
        thread.close()
        assert time.monotonic() - began < 1
    assert not thread.running
    release.set()


def test_a_thread_that_cannot_end_is_left_behind_in_time(caplog):
    party = Party("a")
    release = threading.Event()
    party.hook = lambda _: release.wait(5)
    thread = NetworkThread(party.driver)
    thread.start()
    other = Party("b", peers=[party.driver.address])
    with started(other):  # its PeerUp blocks the thread in a callback of the user
        wait_for(lambda: party.events)
        began = time.monotonic()
        thread.close(0.3)
        assert time.monotonic() - began < 1
    assert "left behind" in caplog.text
    release.set()
    wait_for(lambda: not any(t.name == "crdtcache" for t in threading.enumerate()))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_ends_the_thread_loudly_and_the_cache_goes_on_alone(caplog):
    party = Party("a")
    with started(party) as thread:

        def bug(*_):
            raise AssertionError("a bug")

        with party.lock:
            party.replica.deadline = bug  # asked at every turn of the timer; `advance` only where something is due
        wait_for(lambda: not thread.running)
        assert thread.crash is not None
        assert "a bug ended the network thread" in caplog.text
        assert caplog.records[-1].levelno == logging.ERROR
        party.set("x", 1)
        assert party.get("x") == 1
        assert not party.driver.running


def test_wakes_after_the_thread_has_gone_are_swallowed():
    party = Party("a")
    with started(party):
        pass
    party.driver.asleep = True
    party.driver.wake()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # that is what is tested
def test_in_a_forked_child_there_is_no_thread_and_closing_does_nothing():
    party = Party("a")
    with started(party) as thread:
        child = os.fork()
        if child == 0:
            fine = not thread.running
            thread.close()
            os._exit(0 if fine else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert thread.running


SCRIPT = """
    import sys, time
    from tests.runtime.support import Party
    from crdtcache.runtime.thread import NetworkThread

    party = Party("a", peers=["no-such-host.invalid", "127.0.0.1:1"])
    thread = NetworkThread(party.driver)
    thread.start()
    print("up", flush=True)
"""


def run(more, send=None):
    """A process of its own: its exit code, what it wrote to stderr, and how long it took to end."""
    script = textwrap.dedent(SCRIPT) + textwrap.dedent(more)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"
    time.sleep(0.2)
    began = time.monotonic()
    if send is not None:
        process.send_signal(send)
    _, errors = process.communicate(timeout=10)
    return process.returncode, errors, time.monotonic() - began


def test_a_process_that_never_closes_ends_cleanly_and_quickly():
    code, errors, seconds = run("time.sleep(0.5)")
    assert (code, errors) == (0, "")
    assert seconds < 3


def test_what_a_process_wrote_just_before_its_end_is_sent():
    party = Party("a")
    with started(party):
        code, errors, _ = run(
            f"""
            thread.close()
            party = Party("c", peers=["{party.driver.address}"])
            NetworkThread(party.driver).start()
            while not party.links():
                time.sleep(0.01)
            for number in range(3_000):
                party.set(f"key{{number}}", "x" * 1_000)
            """
        )
        assert (code, errors) == (0, "")
        wait_for(lambda: party.stats()["live"] == 3_000, 2)


def test_a_process_that_is_told_to_end_while_it_ends_says_nothing_and_says_goodbye():
    party = Party("a")
    with started(party):
        code, errors, _ = run(
            f"""
            import signal, trio
            thread.close()
            party = Party("c", peers=["{party.driver.address}"])
            real = party.driver.stop
            async def stop(seconds):
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                await trio.sleep(0.3)
                await real(seconds)
            party.driver.stop = stop
            signal.signal(signal.SIGALRM, lambda *_: sys.exit(3))
            NetworkThread(party.driver).start()
            while not party.links():
                time.sleep(0.01)
            """
        )
        assert (code, errors) == (0, "")
        wait_for(lambda: not party.links())
        assert [event.reason for event in party.events if isinstance(event, PeerDown)] == ["it has left"]


def test_a_process_that_ends_by_an_error_shows_only_that():
    code, errors, seconds = run("raise SystemExit('mine')")
    assert (code, errors) == (1, "mine\n")
    assert seconds < 3


def test_ctrl_c_reaches_the_app_and_no_handler_was_installed():
    code, errors, seconds = run(
        """
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            party.set("still", "here")
            assert thread.running and party.get("still") == "here"
            sys.exit(7)
        """,
        signal.SIGINT,
    )
    assert (code, errors) == (7, "")
    assert seconds < 3


def test_ctrl_c_in_a_trio_program_reaches_its_body_as_it_is():
    code, errors, seconds = run(
        """
        import trio
        from crdtcache.runtime.thread import running

        thread.close()
        other = Party("b")

        async def main():
            async with running(party.driver), running(other.driver):
                await trio.sleep(60)

        try:
            trio.run(main)
        except KeyboardInterrupt:  # and no group of them
            sys.exit(7)
        """,
        signal.SIGINT,
    )
    assert (code, errors) == (7, "")
    assert seconds < 3
