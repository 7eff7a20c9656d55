"""Every check of the house, given a violation that it must catch and a neighbour that it must not."""

from __future__ import annotations

import sys

import pytest

from tests.style import checks

ORDER = ("errors", "core.entry", "core.store", "runtime.link", "node", "", "demo.*", "cli")


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import os.path",
        "from datetime import datetime",
        "from random import randint",
        "import random\nrandom.random()",
        "import random\nfrom random import Random, choice",
        "def later():\n    import threading",
        "from trio.abc import Stream",
        "from crdtcache.runtime.link import Link",
        "from crdtcache import node\nfrom crdtcache.node import Node",
        "order = hash('key')",
        "print('here')",
        "import logging as log",
    ],
)
def test_impure_core(source):
    assert checks.impure_imports(source)


@pytest.mark.parametrize(
    "source",
    [
        "import heapq, struct\nfrom crdtcache.core.entry import Entry",
        "import random\n\ndef draw(rng: random.Random) -> int:\n    return rng.getrandbits(64)",
        "from random import Random",
        "from crdtcache.errors import CrdtCacheError\nfrom crdtcache.tuning import Tuning",
        "import timeit_like",
    ],
)
def test_pure_core(source):
    assert not checks.impure_imports(source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.entry", "from crdtcache.core.store import Store"),
        ("core.entry", "from crdtcache.core import store"),
        ("core.store", "import crdtcache.runtime.link"),
        ("runtime.link", "def lazily():\n    from crdtcache.node import Node"),
        ("node", "from crdtcache import Node"),
        ("node", "from crdtcache.demo.run import main"),
        ("demo.run", "from crdtcache.cli import main"),
        ("core.store", "if TYPE_CHECKING:\n    from crdtcache.node import Node"),
        ("errors", "if TYPE_CHECKING:\n    from crdtcache.core.entry import Entry"),
    ],
)
def test_upwards(module, source):
    assert checks.upward_imports(module, source, ORDER)


def test_without_place():
    assert checks.without_place(["errors", "core.clock"], ORDER)
    assert not checks.without_place(["errors", "demo.run", ""], ORDER)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.store", "from crdtcache.core.entry import Entry\nfrom crdtcache.core import entry"),
        ("node", "from crdtcache.runtime import link"),
        ("demo.run", "from crdtcache import Node\nfrom crdtcache.demo import board"),
        ("demo.board", "from crdtcache.demo.run import main"),
        ("", "from crdtcache.node import Node"),
        ("core.entry", "if TYPE_CHECKING:\n    from crdtcache.core.store import Store"),
        ("errors", "import crdtcache_other"),
    ],
)
def test_downwards(module, source):
    assert not checks.upward_imports(module, source, ORDER)


@pytest.mark.parametrize(
    "source",
    [
        "for x in {1, 2}: pass",
        "for x in set(y): pass",
        "s = set()\nfor x in s: pass",
        "s: set[int] = make()\nt = list(s)",
        "class A:\n    def __init__(self):\n        self.s = set()\n    def f(self):\n        [x for x in self.s]",
        "class A:\n    def f(self):\n        return tuple(self.s)\n    def g(self):\n        self.s = {1} | self.s",
        "def f(s: frozenset[str]): return ','.join(s)",
        "def f(s: 'set[str] | None'): return [*s]",
        "for x in a.keys() & b.keys(): pass",
        "for x in a.keys() - b: pass",
        "s = {1}\ns.pop()",
        "s = {1}\nd = {x: 0 for x in s}",
        "s = {1}\nd = dict.fromkeys(s)",
        "s = {1}\nfirst = next(iter(s))",
        "s = {1, 2}\na, b = s",
        "s = a.union(b)\nrows.extend(s)",
        "s = {1}\nf(x for x in s)",
        "s = {1}\nfor i, x in enumerate(s): pass",
        "s = {1} if y else {2}\nfor x in s: pass",
    ],
)
def test_order_of_a_set(source):
    assert checks.set_iteration(source)


@pytest.mark.parametrize(
    "source",
    [
        "s = {1}\nfor x in sorted(s): pass",
        "s = {1}\nt = sorted(x + 1 for x in s)",
        "s = {1}\nt = sorted(map(str, s))",
        "s = {1}\nt = {*s, 2}\nu = {x for x in s}",
        "s = {1}\nn = len(s) + max(s) + sum(s) if any(x for x in s) else 3 in s",
        "for x in {1: 2}: pass\nfor k in d.keys(): pass",
        "d = {}\nd.pop()\nl = [1]\nl.pop()",
        "a, b = c",
    ],
)
def test_no_order_of_a_set(source):
    assert not checks.set_iteration(source)


def test_a_long_file():
    long = '"""An idea."""\n' + "x = 1\n" * checks.MAX_LINES
    assert checks.too_long(long)
    assert not checks.too_long(long[: -len("x = 1\n")])
    assert not checks.too_long(long.replace("An idea.", "An idea. Above 400 lines because the table is one."))


def test_a_module_that_says_nothing():
    assert checks.no_docstring("# a comment\nx = 1\n")
    assert checks.no_docstring("")
    assert not checks.no_docstring('"""An idea."""\n')


def test_a_relative_import():
    assert checks.relative_imports("from . import entry")
    assert checks.relative_imports("def f():\n    from ..core import entry")
    assert not checks.relative_imports("from crdtcache.core import entry")


def test_a_foreign_import():
    assert checks.foreign_imports("import numpy.random", ("trio",), sys.stdlib_module_names)
    assert checks.foreign_imports("def f():\n    from attrs import define", ("trio",), sys.stdlib_module_names)
    assert checks.foreign_imports("import typing_extensions", (), sys.stdlib_module_names)
    typed = "if TYPE_CHECKING:\n    from typing_extensions import TypeVar"
    assert not checks.foreign_imports(typed, (), sys.stdlib_module_names)
    assert not checks.foreign_imports("import trio.abc\nimport heapq", ("trio",), sys.stdlib_module_names)


def test_a_simulator_that_reaches_too_far():
    for source in ("import trio", "from crdtcache import node", "from crdtcache.runtime.driver import Driver"):
        assert checks.simulator_imports(source)
    assert not checks.simulator_imports("from crdtcache.core import entry\nfrom crdtcache.tuning import Tuning")


def test_a_mock():
    assert checks.mocks("from unittest import mock")
    assert checks.mocks("from unittest.mock import patch")
    assert not checks.mocks("import unittest")


@pytest.mark.parametrize("folder", ["work", "home", "root", "farm", "Users"])
def test_a_path_of_a_machine(folder):
    assert checks.machine_paths(f"first\nsee /{folder}/somebody/notes")
    assert checks.machine_paths(f'"/{folder}/x"')
    assert not checks.machine_paths(f"the net{folder}/x, a/{folder}/x and ./{folder}/x are relative")


def test_a_host_of_a_registry():
    assert checks.machine_paths("--index" + "-url x")
    assert checks.machine_paths("https:" + "//host/some-1.0.whl")
    assert checks.machine_paths("https:" + "//host/some-1.0.tar.gz")
    assert not checks.machine_paths("https:" + "//host/a/page")


def test_loaded_too_much():
    assert checks.loaded_too_much(["sys", "trio._core"], ("trio",))
    assert not checks.loaded_too_much(["sys", "triode"], ("trio",))


def test_lazy_names_that_differ():
    source = "if TYPE_CHECKING:\n    from crdtcache.node import Node\n    from crdtcache.tuning import Tuning\n"
    rooms = {"Node": "crdtcache.node", "Tuning": "crdtcache.tuning"}
    assert not checks.lazy_names(source, rooms)
    assert checks.lazy_names(source, {**rooms, "MISSING": "crdtcache.node"})
    assert checks.lazy_names(source, {"Node": "crdtcache.node"})
    assert checks.lazy_names(source, {**rooms, "Tuning": "crdtcache.errors"})


COMMAND = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python -m pytest"
README = f"# Title\n\n## Tests\n\nSome words.\n\n```sh\n{COMMAND}\n```\n\n## Next\n"


def test_the_readme_command():
    assert checks.readme_command(README) == COMMAND
    assert not checks.readme_command_faults(README, COMMAND + "\n", "eval it")
    assert checks.readme_command_faults(README.replace("## Tests", "## Checks"), COMMAND, "")
    assert checks.readme_command_faults(README, "python3 -m pytest", "")
    assert checks.readme_command_faults(README, COMMAND, f"set -e\n{COMMAND}\n")
    assert checks.readme_command_faults(README.replace(COMMAND, "pytest"), "pytest", "")
    assert checks.readme_command_faults(README.replace(COMMAND, COMMAND + "\npytest"), COMMAND, "")
