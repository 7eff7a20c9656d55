"""The ten papercuts of caches that people use, a test for each, numbered as in the design of the API.

Where a papercut has a whole file of tests, the shortest of them that would have hurt stands here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from crdtcache.node import Node
from crdtcache.tuning import Tuning

LOCAL = "127.0.0.1:0"


def script(code: str, *, limit_s: float = 20.0) -> str:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_1_after_a_fork_a_write_is_neither_swallowed_nor_somebody_elses():
    assert (
        script("""
        import os, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from crdtcache import Node
        node = Node(listen="127.0.0.1:0").start()
        pid = os.fork()
        if not pid:
            node["child"] = 1
            end = time.monotonic() + 10
            while "parent" not in node and time.monotonic() < end:
                time.sleep(0.01)
            node.close()
            os._exit(0 if "parent" in node else 1)
        node["parent"] = 1
        end = time.monotonic() + 10
        while "child" not in node and time.monotonic() < end:
            time.sleep(0.01)
        assert os.waitpid(pid, 0)[1] == 0
        print("child" in node, node.version("child").origin != node.version("parent").origin)
        node.close()
    """)
        == "True True"
    )


def test_2_workers_of_one_host_share_what_they_have_though_only_one_has_the_port(monkeypatch):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for room in ("discovery", "addresses"):
        monkeypatch.setattr(f"crdtcache.runtime.{room}.DEFAULT_PORT", port)
    with Node(["localhost"]) as first, Node(["localhost"]) as second, Node(["localhost"]) as third:
        workers = [first, second, third]
        assert first.status()["address"] == f"127.0.0.1:{port}"
        assert len({worker.status()["address"] for worker in workers}) == 3
        assert all(worker.wait_ready(min_peers=2) for worker in workers)


def test_3_a_process_that_forgets_to_close_ends_clean_and_within_a_second():
    began = time.monotonic()
    assert script("""
        import time
        from crdtcache import Node
        node = Node(["192.0.2.1", "no-such-host.invalid"], listen="127.0.0.1:0").start()
        node["a"] = 1
        print(time.monotonic())
    """)
    bare = time.monotonic()
    script("import trio, crdtcache.node, crdtcache.runtime.driver")
    imports = time.monotonic() - bare
    assert bare - began - imports < 1.5  # on a busy machine; the goodbye itself is bounded by 0.8 s


def test_4_in_a_notebook_a_cell_may_run_twice_and_a_node_lives_across_cells():
    """A kernel runs asyncio and calls each cell inside its loop."""
    shared: dict = {}

    async def cell():
        shared["node"] = Node().start()
        with Node() as other:
            assert other.running
        async with Node() as another:
            assert another.running

    async def next_cell():
        shared["node"]["a"] = 1
        return shared["node"].running

    async def kernel():
        first = None
        for _ in range(2):
            await cell()
            first = shared["node"] if first is None else first
        assert await next_cell()
        await first.aclose()
        await shared["node"].aclose()

    asyncio.run(kernel())


@pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")
def test_5_without_epoll_as_under_gevent_start_names_the_way_out():
    assert "crdtcache serve" in script("""
        import select
        del select.epoll
        from crdtcache import ConfigError, Node
        node = Node()
        node["a"] = 1
        try:
            node.start()
        except ConfigError as error:
            print(error, node["a"])
    """)


def test_5_ctrl_c_is_the_applications_own():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Node(listen=LOCAL):
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    code = """
        import os, signal, time
        from crdtcache import Node
        with Node(listen="127.0.0.1:0") as node:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(10)
            except KeyboardInterrupt:
                print("interrupted", node.running)
    """
    assert script(code) == "interrupted True"


def test_6_a_cached_function_that_calls_itself_ends():
    node = Node()

    runs = []

    @node.cached
    def own_key(n: int) -> int:
        runs.append(n)
        return own_key(n) if len(runs) < 3 else n

    @node.cached
    def tree(n: int) -> int:
        return n if n < 2 else tree(n - 1) + tree(n - 2)

    assert tree(40) == 102_334_155
    assert own_key(7) == 7


def test_7_an_object_is_no_argument_of_a_key_unless_that_is_said():
    node = Node()

    class Connection:
        pass

    @node.cached
    def load(connection: Connection, number: int) -> int:
        return number

    @node.cached(ignore=["connection"])
    def load_by_number(connection: Connection, number: int) -> int:
        return number

    with pytest.raises(TypeError, match=r"ignore=\['connection'\]"):
        load(Connection(), 5)
    assert load_by_number(Connection(), 5) == load_by_number(Connection(), number=5) == 5
    assert load_by_number.cache_info()[:2] == (1, 1)


def test_8_dead_peers_delay_no_start_and_no_wildcard_is_told():
    began = time.monotonic()
    with Node(["192.0.2.1", "no-such-host.invalid", "127.0.0.1:1"], listen="0.0.0.0:0", insecure=True) as node:
        assert time.monotonic() - began < 1
        assert not node.status()["advertise"].startswith(("0.0.0.0", "["))


def test_9_clocks_are_read_when_used(monkeypatch):
    node = Node()
    node.set("a", 1, ttl="1h")
    later = time.time_ns() + 3_601 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert "a" not in node


def test_10_alone_is_fine_and_said(caplog):
    with Node(["127.0.0.1:1"], listen=LOCAL, tuning=Tuning(keepalive_ms=100, silent_ms=300)) as node:
        node["a"] = 1
        assert node["a"] == 1
        assert node.wait_ready(0.05) is False
        end = time.monotonic() + 15
        while not node.status()["conditions"]:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert "working alone" in caplog.text
