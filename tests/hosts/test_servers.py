"""Servers with worker processes: each worker is a member of its own, and what one writes all have."""

from __future__ import annotations

import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hosts.stage import Host, free_port, until

UVICORN = ("uvicorn", "--port", "PORT", "--workers", "2", "--log-level", "warning", "tests.hosts.app_fastapi:app")
GUNICORN = ("gunicorn", "--bind", "127.0.0.1:PORT", "--log-level", "warning")
FLASK = (*GUNICORN, "--preload", "-w", "3", "tests.hosts.app_flask:app")
DJANGO = (*GUNICORN, "-w", "2", "tests.hosts.app_django")

SERVERS = pytest.mark.parametrize(
    ("command", "workers"), [(UVICORN, 2), (FLASK, 3), (DJANGO, 2)], ids=["uvicorn", "flask", "django"]
)


@SERVERS
def test_a_write_in_one_worker_is_seen_in_all(command, workers, tmp_path):
    """All are given one port, and it as their seed."""
    shared = f"127.0.0.1:{free_port()}"
    with Host(command, peers=shared, CRDTCACHE_LISTEN=shared, folder=tmp_path) as host:
        host.up()
        wrote = {host.ask("put", key="a", value="1")["pid"]}
        origins = host.ask_all(workers, "1", "get", key="a")
        assert len(set(origins.values())) == workers
        # Another one has the last word, and the first one hears it.
        wrote |= {until(lambda: (told := host.ask("put", key="a", value="2"))["pid"] not in wrote and told["pid"])}
        assert host.ask_all(workers, "2", "get", key="a") == origins
        host.stop()


@SERVERS
def test_it_ends_within_a_second_where_no_peer_can_be_reached(command, workers, tmp_path):
    """Later than one beside it that has no peers by less than that: servers take their time as well."""
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(2) as pool:
        peers = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:1,no-such-host.invalid"
        with Host(command, peers=peers, folder=tmp_path) as host, Host(command, folder=tmp_path) as alone:
            for each in (host, alone):
                each.up().ask_all(workers, "1", "put", key="a", value="1")
            took, took_alone = pool.map(lambda each: each.stop(signal.SIGTERM), (host, alone))
            assert took - took_alone < 1.5  # on a busy machine; the goodbye itself is bounded by 0.8 s
