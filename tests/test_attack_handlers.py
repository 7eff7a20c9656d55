"""Attacks by handlers: what they may raise, in whose thread."""

from __future__ import annotations

import sys
import time

import pytest

from crdtcache import Node
from crdtcache.events import Event


def test_a_handler_that_exits_in_the_node_s_thread_does_not_end_the_node() -> None:
    """`sys.exit()`, or pytest's own `fail`, is no Exception: it tore the network thread down without a word."""
    with Node(listen="127.0.0.1:0") as a, Node(peers=[a.status()["address"]], listen="127.0.0.1:0") as b:
        assert b.wait_ready(5)
        heard: list[object] = []

        @b.on("set")
        def leave(event: Event) -> None:
            heard.append(event.key)
            sys.exit(1)

        end = time.monotonic() + 5
        for number in range(3):
            a[f"k{number}"] = number
            while len(heard) <= number and time.monotonic() < end:
                time.sleep(0.01)
        assert heard == ["k0", "k1", "k2"]
        assert b.running
        with pytest.raises(SystemExit):  # in the caller's own thread it is his own affair
            b["own"] = 1
        assert b["own"] == 1
