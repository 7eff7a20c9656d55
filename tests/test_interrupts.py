"""Finalizers and signal handlers that call the cache in the middle of its own change: no deadlock, nothing broken."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from crdtcache.node import Node

SCRIPT = """
    import gc, sys, threading
    from crdtcache import Node

    class Session:
        'Garbage in a circle, which only the cyclic collector finds, and that tells the cache when it goes.'
        gone = inside = 0
        def __init__(self):
            self.me = self
        def __del__(self):
            n = Session.gone = Session.gone + 1
            Session.inside += node._lock._is_owned()
            {calls}

    def then_here(phase, _, here=threading.get_ident()):
        # Finalizers that wait for the lock in the node's thread let the next collection become due meanwhile, which
        # takes place there again, and so on: after each one there, none comes before this thread goes on.
        if phase == "stop" and threading.get_ident() != here:
            gc.disable()

    gc.callbacks.append(then_here)
    node = Node(maxsize=300, listen="127.0.0.1:0")
    if {running}:
        node.start()
    load = node.cached(key="l:{{x}}")(lambda x: [x])
    for i in range({rounds}):
        gc.enable()
        gc.set_threshold(5 + i % 23)  # so that it comes at any place
        Session()
        node[f"plain {{i % 400}}"] = i
        node[f"packed {{i % 50}}"] = [i]
        node.set(f"brief {{i % 50}}", i, ttl=60)
        node.delete(f"packed {{(i + 7) % 50}}")
        node.get(f"plain {{(i * 7) % 400}}")
        len(node)
    gc.set_threshold(700)
    node["last"] = [1]
    if {running}:
        node.close()
    node["last"] = [2]
    assert Session.inside > {rounds} / 50, (Session.inside, Session.gone)
    assert not node._postponed
    node._replica.check()
    assert node["last"] == [2]
    print("done")
"""

CALLS = {
    "slow": 'node.set(f"gone {n % 9}", [n], ttl=60); node.delete(f"packed {n % 50}"); node.touch("brief 1", 5)',
    "plain": 'node[f"gone {n % 9}"] = n; node[f"plain {n % 400}"] = -n',
    "many": '[node.set(f"plain {(n + i) % 400}", -i) for i in range(20)]',
    "reads": 'node.get("nowhere"); "x" in node; len(node); list(node); node.peek("plain 1"); node.get("plain 7")',
    "others": 'node.pop("packed 7", None); node.setdefault("d", n); node.evict("plain 3"); repr(node)',
    "loads": 'load(n % 9); node.set_many({"m": [n]}); n % 500 or node.clear()',
}


@pytest.mark.parametrize("running", [False, True], ids=["alone", "running"])
@pytest.mark.parametrize("calls", CALLS)
def test_a_finalizer_may_call_the_cache(calls, running):
    code = textwrap.dedent(SCRIPT).format(calls=CALLS[calls], running=running, rounds=1_500)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("done", "")


def test_what_a_finalizer_changes_is_changed_right_after():
    node = Node()
    node["victim"] = 1
    said = []
    with node._lock:  # as in the middle of a change of this thread
        said.append(node.set("k", [1]))
        said.append(node.delete("victim"))
        said.append(node.get("victim"))
        said.append("k" in node)
        for refused in (node.stats, node.digest, node.popitem):
            with pytest.raises(RuntimeError, match="in the middle of a change"):
                refused()
    assert said == [None, False, 1, False]
    node.set("other", [2])
    assert dict(node) == {"k": [1], "other": [2]}


def test_what_fails_later_is_logged(caplog):
    node = Node()
    with node._lock:
        node._postpone(lambda: 1 / 0)
    node["other"] = [2]
    assert "ZeroDivisionError" in caplog.text
