"""`crdtcache serve` and the commands that ask it: real processes, a real socket, clean signals, exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from crdtcache import ConfigError, Node, cli
from crdtcache import control as control_room
from crdtcache.control import answer, ask, default_path, listening

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")


@contextmanager
def served(control: Path, *options: str, **environ: str):
    """A serving process, once it says so; it must end cleanly when the block has ended it, or is terminated."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "crdtcache", "serve", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--control", str(control), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )
    try:
        process.banner = process.stdout.readline()
        assert "controlled at" in process.banner, process.stderr.read()
        yield process
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=10)
    assert "Traceback" not in errors, errors
    assert "Warning" not in errors, errors


@pytest.fixture
def run(capsys):
    def run(control: Path, *words: str) -> tuple[int, str, str]:
        status = cli.main([words[0], "--control", str(control), *words[1:]])
        said = capsys.readouterr()
        return status, said.out.strip(), said.err.strip()

    return run


@pytest.fixture
def control(tmp_path):
    return tmp_path / "a.sock"


def test_a_node_is_asked_by_command(control, run):
    with served(control, CRDTCACHE_NAME="side", CRDTCACHE_SECRET="hush", CRDTCACHE_TTL="1h"):
        assert stat.S_IMODE(control.stat().st_mode) == 0o600
        status, said, _ = run(control, "status")
        assert status == 0
        assert said.startswith("side default/default ready")
        assert run(control, "get", "k") == (1, "", "'k' is not here; `crdtcache inspect` says why")
        assert run(control, "set", "k", "Ada", "--ttl", "90")[0] == 0
        assert run(control, "get", "k") == (0, "Ada", "")
        assert run(control, "inspect", "k")[1].startswith("'k' is here: written ")
        assert run(control, "set", "k", '{"n": [1, null]}', "--json")[0] == 0
        assert json.loads(run(control, "get", "k")[1]) == {"n": [1, None]}
        assert run(control, "set", '["user", 42]', "Ada", "--json-key")[0] == 0
        assert run(control, "get", '["user", 42]', "--json-key") == (0, "Ada", "")
        assert run(control, "inspect", '["user", 42]', "--json-key")[1].startswith("('user', 42) is here")
        assert run(control, "get", '["user", 42]')[0] == run(control, "get", "42", "--json-key")[0] == 1
        assert run(control, "del", "[", "--json-key")[0] == run(control, "del", "1.5", "--json-key")[0] == 2
        assert run(control, "del", "k") == (0, "deleted", "")
        assert run(control, "del", "k")[1].startswith("not visible here")
        assert run(control, "inspect", "k")[1].startswith("'k' is not here: deleted ")
        everything = json.loads(run(control, "status", "--json")[1])
        assert everything["settings"]["secret"] == "***"
        assert everything["settings"]["ttl"] == 3_600
        assert run(control, "top", "--count", "2", "--every", "0.01")[1].count("side default/default") == 2
        assert run(control, "set", "k", "{", "--json")[0] == 2
        status, _, wrong = run(control, "set", "k", "v", "--ttl", "soon")
        assert (status, "ttl='soon'" in wrong) == (2, True)
        assert run(control, "set", "k" * 2_000, "v")[0] == 2


def test_what_is_no_request_is_answered_too(control):
    with served(control):
        for request, words in [
            ("x", "a request is"),
            ({"do": "fly"}, "do='fly'"),
            ({"do": "get", "key": 5.0}, "KeyType"),
        ]:
            with pytest.raises(ValueError, match=words):
                ask(control, request)
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(control))
            raw.sendall(b"\xff\n" + b"[" * 100_000 + b"\n" + b'{"do": "get", "key": "a"}\n')
            with raw.makefile("rb") as lines:
                assert b"error" in lines.readline()
                assert b"error" in lines.readline()
                assert json.loads(lines.readline()) == {"found": False, "value": None}
            raw.sendall(b"{" * 2_000)  # and goes away in the middle
        assert ask(control, {"do": "status"})["ready"] is True


def test_what_goes_wrong_for_one_who_asks_ends_only_that_connection(tmp_path, monkeypatch, caplog):
    def broken(node: Node, request: object) -> dict[str, object]:
        if request:
            return answer(node, request)
        raise KeyError("a defect")

    async def main() -> None:
        monkeypatch.setattr(control_room, "answer", broken)
        async with listening(Node(), tmp_path / "a.sock"):
            async with await trio.open_unix_socket(str(tmp_path / "a.sock")) as stream:
                await stream.send_all(b"{}\n")
                assert await stream.receive_some() == b""
            told = await trio.to_thread.run_sync(ask, tmp_path / "a.sock", {"do": "get", "key": "k"})
            assert told == {"found": False, "value": None}

    trio.run(main)
    assert "a control connection was closed" in caplog.text


def test_a_socket_that_others_could_have_put_there_is_not_asked(tmp_path, monkeypatch):
    place = tmp_path / "place"
    place.mkdir(mode=0o700)
    path = place / "a.sock"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(path))
        stranger.listen()
        path.chmod(0o777)
        with pytest.raises(ConfigError, match=r"a\.sock can be written by others \(mode 777\)"):
            ask(path, {"do": "get", "key": "k"})
        path.chmod(0o600)
        place.chmod(0o770)
        with pytest.raises(ConfigError, match="place can be written by others"):
            ask(path, {"do": "get", "key": "k"})
        place.chmod(0o700)
        (tmp_path / "link").symlink_to(place)
        with pytest.raises(ConfigError, match="is a symbolic link"):
            ask(tmp_path / "link" / "a.sock", {"do": "get", "key": "k"})
        monkeypatch.setattr(os, "getuid", lambda: place.stat().st_uid + 1)
        with pytest.raises(ConfigError, match="belongs to another user"):
            ask(path, {"do": "get", "key": "k"})


def test_a_place_that_others_can_write_to_is_not_served_at(tmp_path):
    async def main() -> None:
        async with listening(Node(), tmp_path / "a.sock"):
            pytest.fail("it was")

    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="can be written by others"):
        trio.run(main)


def test_who_names_a_cluster_reaches_no_other(control, run):
    with served(control, "--cluster", "shop"):
        assert run(control, "status", "--cluster", "shop")[0] == 0
        status, _, wrong = run(control, "set", "k", "v", "--cluster", "bank")
        assert (status, "this node belongs to 'shop'" in wrong) == (2, True)


def test_two_served_nodes_share_a_key_and_readiness_is_an_exit_code(tmp_path, control, run):
    with served(control) as first:
        address = first.banner.split(" at ")[1].split(",")[0]
        with served(tmp_path / "b.sock", CRDTCACHE_PEERS=address):
            end = time.monotonic() + 10
            while run(tmp_path / "b.sock", "status")[0]:
                assert time.monotonic() < end
            run(control, "set", "k", "v")
            while run(tmp_path / "b.sock", "get", "k")[0]:
                assert time.monotonic() < end
    with served(control, "--peers", "127.0.0.1:1"):
        status, said, _ = run(control, "status")
        assert status == 1
        assert "NOT READY" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_it_cleanly_and_soon(control, number):
    with served(control, "--peers", "127.0.0.1:1") as process:
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(5) == 0
        assert time.monotonic() - began < 1.5
        assert f"leaving after {number.name}" in process.stdout.read()
    assert not control.exists()


def test_one_socket_one_node_and_what_a_killed_one_left_is_in_nobodys_way(control, run):
    with served(control) as first:
        second = subprocess.run(
            [sys.executable, "-m", "crdtcache", "serve", "--listen", "127.0.0.1:0", "--control", str(control)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert second.returncode == 2
        assert "another node is controlled at" in second.stderr
        first.kill()
        first.wait(5)
    assert control.exists()
    assert run(control, "status")[0] == 1
    with served(control):
        assert run(control, "status")[0] == 0


def test_where_nobody_serves(control, run):
    status, said, wrong = run(control, "status")
    assert (status, said) == (1, "")
    assert "crdtcache serve" in wrong


def test_the_default_path_is_one_per_user_and_cluster(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_path("shop") == default_path("shop")
    assert default_path("shop").parent == tmp_path
    assert default_path("../a b").name.startswith("crdtcache-.._a_b-")
    assert default_path("a/b") != default_path("a_b")
    assert default_path("x" * 60 + "prod") != default_path("x" * 60 + "test")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert str(os.getuid()) in str(default_path("shop"))
