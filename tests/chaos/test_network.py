"""The network of the tests itself: a cut loses packets without a word, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.chaos.network import Network, sweep, unavailable

pytestmark = pytest.mark.chaos

# Dials a listener of another site; says how that went after at most 0.5 s.
_DIAL = """
import socket, sys
from tests.chaos.network import enter
enter(sys.argv[1])
try:
    socket.create_connection((sys.argv[2], 2738), 0.5).close()
    print("through")
except TimeoutError:
    print("silence")
except OSError as error:
    print(error)
"""
_LISTEN = """
import socket, sys
from tests.chaos.network import enter
enter(sys.argv[1])
server = socket.create_server((sys.argv[2], 2738))
print("listening", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not os.environ.get("CI"), reason="only where CI is set")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="network namespaces are Linux's")
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="making namespaces needs root")
def test_ci_does_not_skip_what_needs_a_network():
    assert unavailable() is None


def dial(network, site, other):
    arguments = [sys.executable, "-c", _DIAL, network.namespaces[site], network.addresses[other]]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def test_a_cut_is_silence_and_healing_ends_it(network):
    arguments = [sys.executable, "-c", _LISTEN, network.namespaces["a"], network.addresses["a"]]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        server.stdout.readline()
        assert [dial(network, "b", "a"), dial(network, "c", "a")] == ["through", "through"]
        network.cut("b")
        assert [dial(network, "b", "a"), dial(network, "c", "a")] == ["silence", "through"]
        network.heal("b")
        assert dial(network, "b", "a") == "through"
        network.part("a", "b")
        assert [dial(network, "b", "a"), dial(network, "c", "a")] == ["silence", "through"]
        network.part()
        assert dial(network, "b", "a") == "through"
        server.stdin.close()
        server.wait(5)


def test_what_a_killed_run_left_is_removed(network):
    program = (
        "import os\nfrom tests.chaos.network import Network\nNetwork('x').__enter__()\nprint(os.getpid())\nos._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=20)
    names = f"crdtcache-chaos-{done.stdout.strip()}-"
    assert names in listed()
    sweep()
    assert names not in listed()
    assert f"crdtcache-chaos-{os.getpid()}-" in listed(), "the running test's own are not leftovers"


def test_a_failing_test_leaves_nothing():
    reason = unavailable()
    if reason is not None:
        pytest.skip(reason)

    def fail():
        with Network("a"):
            assert f"crdtcache-chaos-{os.getpid()}-a" in listed()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert f"crdtcache-chaos-{os.getpid()}-" not in listed()


def listed():
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
