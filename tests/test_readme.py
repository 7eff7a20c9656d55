"""The README's snippets: all of them compile; each runs here as it stands, with a neighbour where it asks for one."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from crdtcache import Node
from crdtcache.configuring import from_env
from crdtcache.events import KINDS as KINDS_OF_EVENTS
from sim.__main__ import main
from sim.__main__ import parser as commandline
from sim.faults import KINDS, SHAPES

TOP = Path(__file__).parent.parent
README = (TOP / "README.md").read_text(encoding="utf-8")


def snippets(heading: str = "") -> list[str]:
    """The Python blocks below a heading, or all."""
    text = README if not heading else README.split(f"\n{heading}\n")[1].split("\n#")[0]
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(snippets())))
def test_it_compiles(number):
    compile(snippets()[number], f"README.md, snippet {number + 1}", "exec")


@pytest.fixture
def neighbour():
    """Who is already there when a snippet runs."""
    with Node(listen="127.0.0.1:0", secret="change me", name="neighbour") as node:
        yield node


def run_beside(neighbour: Node, snippet: str, names: dict[str, object] | None = None) -> None:
    """The snippet as it stands, but for where the neighbour is, and that it listens on loopback."""
    there = neighbour.status()["address"]
    text, count = re.subn(r"Node\(peers=\[[^]]*\]", f'Node(peers=["{there}"], listen="127.0.0.1:0"', snippet)
    assert count == 1
    exec(text, {"__name__": "readme", **(names or {})})


def seen(node: Node, key: str) -> object:
    """What is there of `key`, once it has come."""
    end = time.monotonic() + 10
    while key not in node and time.monotonic() < end:
        time.sleep(0.005)
    return node.get(key)


def test_the_first_one(neighbour, capsys):
    run_beside(neighbour, snippets()[0])
    assert capsys.readouterr().out == "{'name': 'Ada'}\n"
    assert seen(neighbour, "user:42") == {"name": "Ada"}
    assert 1795 < neighbour.ttl("session") <= 1800


def test_quick_start_with_trio_and_with_threads(neighbour):
    trio_one, _, threads = snippets("## Quick start")
    run_beside(neighbour, trio_one)
    assert seen(neighbour, "greeting") == "hello"
    run_beside(neighbour, threads)
    assert seen(neighbour, "k") == "v"


def test_two_processes_on_one_machine(neighbour, capsys):
    [snippet] = snippets("### Two processes on one machine")
    short = snippet.replace("range(60)", "range(3)").replace("sleep(1)", "sleep(0.05)")
    run_beside(neighbour, short.replace('["localhost"]', '["localhost"], secret="change me"'))
    assert capsys.readouterr().out.count("seen by") == 3
    assert isinstance(seen(neighbour, f"seen by {os.getpid()}"), float)


def test_cached_writes_and_invalidates():
    cache = Node()
    world = {"cache": cache}
    exec(snippets("### cached")[0], world)
    assert world["save_user"](42, "Ada") is None
    assert cache["user:42"] is None
    cache["team:7"] = 1
    world["move_user"](42, team_id=7)
    assert dict(cache) == {}


def test_events():
    cache = Node()
    loaded = []
    world = {"cache": cache, "load_user": type("", (), {"refresh": staticmethod(loaded.append)})}
    watching = threading.Thread(target=exec, args=(snippets("### Events")[0], world), daemon=True)
    watching.start()
    while not cache._subscriptions._by_kind.get("deleted"):
        watching.join(0.005)
    cache.set("user:42", 1, ttl=0.001)
    while not loaded:
        cache.check_expiry()
    assert loaded == [42]


def test_every_test_that_it_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", README)
    assert len(named) >= 14
    for path, test in named:
        assert re.search(rf"^(async )?def {test}\(", (TOP / path).read_text(), re.MULTILINE), f"{path}::{test}"


def test_every_file_that_it_names_is_there():
    named = re.findall(r"`((?:crdtcache|core|sim|tests|notebooks)/[\w/.-]*)`", README)
    assert len(named) > 20
    assert [name for name in named if not (TOP / name).exists() and not (TOP / "crdtcache" / name).exists()] == []


def table_of(heading: str, first_cell: str) -> str:
    """The rows below a heading's table that begins with such a cell, without its head."""
    section = README.split(f"\n{heading}\n")[1].split("\n#")[0]
    return section.split(f"| {first_cell} |")[1].split("\n\n")[0].split("|\n", 2)[2]


def test_every_call_of_a_node_stands_in_the_table_and_no_other():
    named = set(re.findall(r"`(\w+)(?:\(.*?\))?`", table_of("### All calls", "to"))) - {
        "in",
        "len",
        "iter",
        "del",
        "with",
    }
    assert named == {name for name in dir(Node()) if not name.startswith("_")}


def test_every_counter_stands_in_the_table_and_no_other():
    named = re.findall(r"`(\w+)`", table_of("### All calls", "numbers"))
    assert sorted(named) == sorted(Node().stats())


def test_testing_your_service():
    [snippet] = snippets("### Testing your service")
    world = {}
    exec(snippet, world)
    [test] = [found for name, found in world.items() if name.startswith("test_")]
    test()


def test_every_kind_of_event_is_named():
    section = README.split("\n### Events\n")[1].split("\n### ")[0]
    assert [kind for kind in KINDS_OF_EVENTS if f"`{kind}`" not in section] == []


def test_prometheus():
    from prometheus_client import REGISTRY, generate_latest

    cache = Node()
    cache["a"] = 1
    [snippet] = [text for text in snippets() if "prometheus" in text]
    world = {"cache": cache}
    before = set(REGISTRY._collector_to_names)
    exec(snippet, world)
    try:
        told = generate_latest().decode()
    finally:
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)
    assert "crdtcache_live 1.0" in told
    assert "crdtcache_writes 1.0" in told


def test_the_variables_and_the_url_that_it_names():
    named = set(re.findall(r"\bCRDTCACHE_([A-Z_]+)\b", README))
    assert named
    Node(**from_env("X_", {f"X_{name}": "5s" for name in named}))
    assert Node.from_url(re.findall(r'from_url\("(.*?)"\)', README)[0]).status()["region"] == "eu"


def test_the_simulators_example_is_the_file_that_runs():
    examples = Path(__file__).parent.parent / "sim" / "examples"
    section = README.split("\n## The simulator\n")[1].split("\n## ")[0]
    assert re.findall(r"^```toml\n(.*?)^```", section, re.MULTILINE | re.DOTALL) == [
        (examples / "three-regions.toml").read_text()
    ]
    assert f"```\n{(examples / 'three-regions.csv').read_text()}```" in section


def test_the_simulators_commands_exist_and_its_words_are_all_there():
    section = README.split("\n## The simulator\n")[1].split("\n## ")[0]
    commands = re.findall(r"^\.venv/bin/python -m sim (.*?) *(?:#|$)", section, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        assert commandline().parse_args(command.split()).command
    assert [kind for kind in KINDS if f"`{kind}`" not in section] == []
    assert [shape for shape in SHAPES if shape not in section] == []


def test_the_executor_of_a_cluster(monkeypatch):
    """With a stand-in for Dask, which is no dependency of the tests: what the snippet makes is what `sweep` takes."""
    host, distributed = ModuleType("dask"), ModuleType("dask.distributed")
    distributed.Client = lambda address: type("", (), {"get_executor": staticmethod(lambda: ThreadPoolExecutor(1))})
    monkeypatch.setitem(sys.modules, "dask", host)
    monkeypatch.setitem(sys.modules, "dask.distributed", distributed)
    cluster = ModuleType("cluster")
    [snippet] = snippets("## The simulator")
    exec(snippet, cluster.__dict__)
    monkeypatch.setitem(sys.modules, "cluster", cluster)
    assert main(["sweep", "calm-sea", "--seeds", "1", "--nodes", "2", "--executor", "cluster:executor"]) == 0
