"""Forks: each child is a member of its own that has what its parent had, and shares no socket with it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import textwrap

import pytest

from crdtcache.node import Node

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

PRELUDE = """
    import gc, json, os, sys, threading, time, traceback, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later warn of forks beside threads, ours too
    from crdtcache import Node

    def until(condition, limit_s=10):
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, "it did not come to pass"
            time.sleep(0.005)

    def fork(work):
        pid = os.fork()
        if not pid:
            try:
                work()
                sys.stdout.flush()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        return pid

    def check(node):
        with node._lock:
            node._replica.check()

    def joined(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def say(**what):
        os.write(1, json.dumps(what).encode() + b"\\n")  # in one piece: several processes write here
"""


def run(script: str) -> list[dict]:
    code = textwrap.dedent(PRELUDE) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_children_of_a_running_node_are_members_of_their_own():
    told = run("""
        node = Node(listen="127.0.0.1:0", name="web")
        node.start()
        node["warm"] = [1]
        gc.collect()

        def serve():
            assert node["warm"] == [1]                      # the first use
            node[f"child {os.getpid()}"] = 1
            until(lambda: len(node) >= 4 and sum(peer.connected for peer in node.peers) == 2)   # the sibling too
            say(name=node.name, origin=node.status()["origin"], warm=node["warm"], alive=node.running)
            node[f"done {os.getpid()}"] = 1
            until(lambda: node.get("stop"))
            node.close()

        children = [fork(serve), fork(serve)]
        node["parent"] = 1
        until(lambda: len(node) == 6)   # each of them has met all
        say(name=node.name, origin=node.status()["origin"], warm=node["warm"], alive=node.running)
        node["stop"] = True
        assert [joined(pid) for pid in children] == [0, 0]
        check(node)
        node.close()
    """)
    assert len(told) == 3
    assert len({each["origin"] for each in told}) == len({each["name"] for each in told}) == 3
    assert all(each["name"].startswith("web") and each["warm"] == [1] and each["alive"] for each in told)


def test_a_node_that_was_not_started_before_the_fork_is_started_after_it():
    """As `gunicorn --preload` and Celery do it: the application is imported once, the workers serve."""
    told = run("""
        node = Node(listen="127.0.0.1:0")
        node["preloaded"] = 1
        origin = node.status()["origin"]

        def serve():
            assert not node.running
            node["worker"] = os.getpid()
            assert not node.running
            check(node)
            with node:
                say(keys=sorted(node), own=node.status()["origin"] != origin, version=node.version("worker").origin)

        assert joined(fork(serve)) == 0
        say(keys=sorted(node), own=False, version=int(origin, 16))
    """)
    assert [each["keys"] for each in told] == [["preloaded", "worker"], ["preloaded"]]
    assert [each["own"] for each in told] == [True, False]
    assert told[0]["version"] != told[1]["version"]


def test_a_child_that_does_not_use_the_node_opens_nothing_and_holds_no_socket_open():
    told = run("""
        node, peer = Node(listen="127.0.0.1:0"), None
        node.start()
        peer = Node([node.status()["address"]], listen="127.0.0.1:0", name="peer")
        peer.start()
        assert peer.wait_ready()
        reasons = []
        peer.on("peer_down", call=lambda event: reasons.append(event.reason))
        ready, go_on = os.pipe(), os.pipe()

        def idle():
            os.write(ready[1], b"x")
            os.read(go_on[0], 1)
            say(threads=threading.active_count(), running=node.running)

        child = fork(idle)
        os.read(ready[0], 1)
        address = node.status()["address"]
        node.close()
        until(lambda: reasons)
        Node(listen=address, cluster="another").start().close()   # nobody has the port any more
        os.write(go_on[1], b"x")
        assert joined(child) == 0
        say(reason=reasons[0])
        peer.close()
    """)
    assert told == [{"threads": 1, "running": False}, {"reason": "it has left"}]


def test_a_child_that_is_only_asked_how_it_is_starts_and_one_that_was_closed_does_not():
    """As a probe of a worker that gets no other request before it is ready."""
    told = run("""
        node = Node(listen="127.0.0.1:0").start()

        def probed():
            before = repr(node)
            until(lambda: node.status()["ready"])
            say(before="forked" in before, running=node.running)
            node.close()

        def asked():
            before = repr(node)
            until(lambda: any(peer.connected for peer in node.peers))
            say(before="forked" in before, running=node.running)
            node.close()

        def closed():
            node.close()
            say(before=node.status()["state"] == "closed", running=node.running)

        assert [joined(fork(work)) for work in (probed, asked, closed)] == [0, 0, 0]
        node.close()
    """)
    assert [(each["before"], each["running"]) for each in told] == [(True, True), (True, True), (True, False)]


def test_a_child_of_a_child_that_has_not_used_the_node_is_a_member_too():
    """As where a service forks once to be a daemon, and again for its workers."""
    told = run("""
        node = Node(listen="127.0.0.1:0").start()
        node["warm"] = 1

        def serve():
            until(lambda: node.get("warm") and node.status()["ready"] and any(peer.connected for peer in node.peers))
            say(who="worker", running=node.running)
            node.close()

        def daemon():
            assert joined(fork(serve)) == 0
            say(who="daemon", running=node.running)
            node.close()
            assert joined(fork(lambda: say(who="late", running=node.status()["state"] != "closed"))) == 0

        assert joined(fork(daemon)) == 0
        node.close()
    """)
    assert {each["who"]: each["running"] for each in told} == {"worker": True, "daemon": False, "late": False}


def test_a_fork_beside_busy_threads_leaves_no_lock_held():
    told = run("""
        node = Node(listen="127.0.0.1:0", maxsize=500)
        node.start()
        stop = threading.Event()

        def work(number):
            while not stop.is_set():
                for i in range(200):
                    node.set(f"{number} {i}", [i], ttl=0.05)
                    node.get(f"{number} {i - 50}")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()

        def use():
            for i in range(1_000):
                node[i] = [i]
            check(node)
            assert node.running

        exits = [joined(fork(use)) for _ in range(12)]
        stop.set()
        for thread in threads:
            thread.join()
        check(node)
        say(exits=exits)
        node.close()
    """)
    assert told == [{"exits": [0] * 12}]


def test_a_fork_beside_a_thread_that_serves_postponed_calls_serves_its_own():
    told = run("""
        node, busy, forked = Node(), threading.Event(), threading.Event()
        node["of the parent"] = node["of the child"] = 1

        def serve():
            busy.set()
            assert forked.wait(10)

        def work():
            with node._lock:  # as from a finalizer in the middle of a change
                node._postpone(serve)
                node.delete("of the parent")
            node["other"] = [1]

        thread = threading.Thread(target=work)
        thread.start()
        assert busy.wait(10)

        def use():
            with node._lock:
                node.delete("of the child")
            node["other"] = [2]
            say(keys=sorted(node))

        child = fork(use)
        forked.set()
        thread.join()
        assert joined(child) == 0
        say(keys=sorted(node))
    """)
    assert sorted(each["keys"] for each in told) == [["of the child", "other"], ["other"]]


def test_what_a_parent_evicts_before_its_child_calls_it_is_no_delete_at_the_child():
    told = run("""
        node = Node(listen="127.0.0.1:0", max_bytes=40_000)
        node.start()
        for i in range(20):
            node[f"warm {i}"] = i
        go_on = os.pipe()

        def serve():
            os.read(go_on[0], 1)
            assert node["warm 0"] == 0                      # the first use
            assert node.wait_ready(min_peers=1)
            until(lambda: "last" in node)
            say(warm=sum(f"warm {i}" in node for i in range(20)), gone=node.stats()["gone"])

        child = fork(serve)
        for i in range(20):
            node[f"large {i}"] = "x" * 5_000                # none of the small ones has room beside them
        for i in range(20):
            node.delete(f"large {i}")
        node["last"] = 1
        say(warm=sum(f"warm {i}" in node for i in range(20)), gone=0)
        os.write(go_on[1], b"x")
        assert joined(child) == 0
        node.close()
    """)
    assert told == [{"warm": 0, "gone": 0}, {"warm": 20, "gone": 0}]


def test_a_port_that_the_parent_holds_is_no_reason_not_to_serve():
    told = run("""
        import socket
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        node = Node(listen=f"127.0.0.1:{port}")
        node.start()

        def serve():
            assert node.wait_ready(min_peers=1)
            say(other=node.status()["address"] != f"127.0.0.1:{port}", peers=len(node.peers))

        assert joined(fork(serve)) == 0
        node.close()
    """)
    assert told == [{"other": True, "peers": 1}]


def test_the_network_thread_imports_nothing_once_it_runs():
    """In a child that was forked in the middle of an import that module would be missing for good."""
    told = run("""
        node = Node(["localhost:1", "127.0.0.1:1"], listen="127.0.0.1:0", secret="s").start()
        loaded = set(sys.modules)
        with Node([node.status()["address"]], listen="127.0.0.1:0", secret="s", name="peer") as peer:
            peer["a"] = [1]
            until(lambda: node.get("a"))
            assert peer.repair(timeout=5).ok
        until(lambda: not any(each.connected for each in node.peers))
        say(late=sorted(name for name in set(sys.modules) - loaded))
        node.close()
    """)
    assert told == [{"late": []}]


def test_a_parent_does_not_wait_to_tell_what_its_children_have_from_the_fork():
    """They have it though it was never sent to them, and nobody else can be reached."""
    told = run("""
        node = Node(["127.0.0.1:1"], listen="127.0.0.1:0").start()
        node["preloaded"] = 1

        def serve():
            assert node.wait_ready(min_peers=1)
            node["child"] = 1
            node.close()

        child = fork(serve)
        until(lambda: "child" in node)
        assert joined(child) == 0
        until(lambda: not any(peer.connected for peer in node.peers))
        began = time.monotonic()
        node.close(timeout=20)
        say(quick=time.monotonic() - began < 3)             # it may wait for six
    """)
    assert told == [{"quick": True}]


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
def test_a_node_has_no_twin(twin):
    with pytest.raises(TypeError, match=r"cannot be copied or pickled.*dict\(node\)"):
        twin(Node())
