"""The house rules, held against every file that is there. What each check catches: `test_planted.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import crdtcache
from tests.style import checks
from tests.style.order import PUBLIC_NAMES, READING_ORDER

TOP = Path(__file__).resolve().parents[2]
PACKAGE = sorted(TOP.glob("crdtcache/**/*.py"))
CORE = [path for path in PACKAGE if path.parent.name == "core"]
SIMULATOR = sorted(TOP.glob("sim/**/*.py"))
TESTS = sorted(TOP.glob("tests/**/*.py"))
ROOMS = ("core", "runtime")  # their own docstrings, nothing else
DEPENDENCIES = ("crdtcache", "trio", "msgpack", "xxhash")


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP))


def module_of(path: Path) -> str:
    """ "core.clock" for crdtcache/core/clock.py, "" for the package itself."""
    parts = path.relative_to(TOP / "crdtcache").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def source_files() -> list[Path]:
    """What is, or is about to be, under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        capture_output=True,
        check=False,
    )
    if listed.returncode:  # an unpacked source distribution
        return [*PACKAGE, *SIMULATOR, *TESTS, *TOP.glob("*.*"), *TOP.glob(".ci/*")]
    names = listed.stdout.decode().split("\0")
    return [path for name in names if name and (path := TOP / name).is_file() and path.suffix != ".ipynb"]


def run_python(program: str) -> str:
    """What `program` prints in a fresh interpreter that sees this checkout and no coverage hooks."""
    environment = {key: text for key, text in os.environ.items() if not key.startswith(("COV_", "COVERAGE"))}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=TOP, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def no_complaints(found: list[str]) -> None:
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_core_is_pure(path):
    no_complaints(checks.impure_imports(path.read_text()))


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_no_order_of_a_set_in_core(path):
    no_complaints(checks.set_iteration(path.read_text()))


def test_every_file_has_its_place():
    modules = [module_of(path) for path in PACKAGE]
    no_complaints(checks.without_place([module for module in modules if module not in ROOMS], READING_ORDER))


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_nothing_imports_upwards(path):
    no_complaints(checks.upward_imports(module_of(path), path.read_text(), READING_ORDER))


@pytest.mark.parametrize("path", [*PACKAGE, *SIMULATOR, *TESTS], ids=name_of)
def test_every_module_says_its_one_idea(path):
    no_complaints(checks.no_docstring(path.read_text()))


@pytest.mark.parametrize("path", [*PACKAGE, *SIMULATOR], ids=name_of)
def test_no_file_has_two_ideas(path):
    no_complaints(checks.too_long(path.read_text()))


@pytest.mark.parametrize("path", [*PACKAGE, *SIMULATOR], ids=name_of)
def test_imports_name_the_full_path(path):
    no_complaints(checks.relative_imports(path.read_text()))


@pytest.mark.parametrize("path", [path for path in PACKAGE if "contrib" not in path.parts], ids=name_of)
def test_three_dependencies(path):
    no_complaints(checks.foreign_imports(path.read_text(), DEPENDENCIES, sys.stdlib_module_names))


def test_the_simulator_uses_the_core_only():
    no_complaints(
        [f"{name_of(path)}: {found}" for path in SIMULATOR for found in checks.simulator_imports(path.read_text())]
    )


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_no_mocks(path):
    no_complaints(checks.mocks(path.read_text()))


def test_no_path_of_a_machine():
    found = []
    for path in source_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name_of(path)}: {complaint}" for complaint in checks.machine_paths(text)]
    no_complaints(found)


def test_the_core_loads_no_runtime():
    modules = [f"crdtcache.{module_of(path)}" for path in CORE]
    program = f"import sys, json\nfor name in {modules!r}: __import__(name)\nprint(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run_python(program))
    assert "crdtcache.core" in loaded
    no_complaints(checks.loaded_too_much(loaded, ("trio", "asyncio", "socket", "crdtcache.runtime", "crdtcache.node")))


def test_importing_the_package_loads_nothing_else():
    program = "import sys, json\nbefore = set(sys.modules)\nimport crdtcache\n"
    program += "print(json.dumps(sorted(set(sys.modules) - before)))"
    assert json.loads(run_python(program)) == ["crdtcache"], "resolve it on first use, in crdtcache.__getattr__"


def test_node_loads_no_trio():
    if not (TOP / "crdtcache/node.py").exists():
        pytest.skip("crdtcache/node.py is not written yet")
    loaded = json.loads(run_python("import sys, json\nfrom crdtcache import Node\nprint(json.dumps([*sys.modules]))"))
    no_complaints(checks.loaded_too_much(loaded, ("trio", "asyncio")))


class TestPublicNames:
    def test_exactly_the_listed_ones(self):
        assert sorted(crdtcache.__all__) == sorted(PUBLIC_NAMES)
        assert set(PUBLIC_NAMES) <= set(dir(crdtcache))
        assert sorted(crdtcache._ROOMS) == sorted(name for name in PUBLIC_NAMES if not name.startswith("__"))

    @pytest.mark.parametrize("name", PUBLIC_NAMES)
    def test_each_resolves(self, name):
        room = crdtcache._ROOMS.get(name)
        if room and not (TOP / (room.replace(".", "/") + ".py")).exists():
            pytest.skip(f"{room} is not written yet")
        program = f"import crdtcache\nfirst = crdtcache.{name}\nfrom crdtcache import {name}\nassert first is {name}"
        run_python(program)

    def test_what_type_checkers_see(self):
        """The lazy names and the imports under TYPE_CHECKING must be the same."""
        no_complaints(checks.lazy_names((TOP / "crdtcache/__init__.py").read_text(), crdtcache._ROOMS))

    def test_an_unknown_name(self):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = crdtcache.nothing


def test_the_readme_and_ci_run_the_same_tests():
    script = TOP / ".ci/run"
    shown = subprocess.run(["bash", str(script), "--show"], capture_output=True, text=True, check=True).stdout
    no_complaints(checks.readme_command_faults((TOP / "README.md").read_text(), shown, script.read_text()))


def test_the_reading_order_names_each_file_once():
    assert len(set(READING_ORDER)) == len(READING_ORDER)
