"""What people install: the wheel holds `crdtcache` only, needs three packages, and works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import crdtcache

TOP = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(TOP)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = out.glob("*.whl")
    return found


def metadata(wheel: Path) -> tuple[list[str], dict[str, str]]:
    """(the names in the wheel, its .dist-info files)."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        texts = {Path(name).name: archive.read(name).decode() for name in names if ".dist-info/" in name}
    return names, texts


def test_it_holds_the_package_only(wheel):
    names, _ = metadata(wheel)
    rooms = {name.partition("/")[0] for name in names}
    assert rooms == {"crdtcache", f"crdtcache-{crdtcache.__version__}.dist-info"}
    assert "crdtcache/py.typed" in names
    sources = {str(path.relative_to(TOP)) for path in TOP.glob("crdtcache/**/*.py")}
    assert sources <= set(names)


def test_it_says_what_it_needs(wheel):
    _, texts = metadata(wheel)
    head = Parser().parsestr(texts["METADATA"])
    assert head["Name"] == "crdtcache"
    assert head["Version"] == crdtcache.__version__
    assert head["Requires-Python"] == ">=3.11"
    always = [line for line in head.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(line.partition(">=")[0] for line in always) == ["msgpack", "trio", "xxhash"]
    assert set(head.get_all("Provides-Extra")) == {"dev", "notebooks", "bench"}
    assert "crdtcache = crdtcache.cli:main" in texts["entry_points.txt"]


def test_it_works_elsewhere(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    program = "import crdtcache; print(crdtcache.__file__)"
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert Path(shown.strip()).is_relative_to(tmp_path)
    helped = subprocess.run(
        [sys.executable, "-m", "crdtcache", "--help"], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert helped.returncode == 0, helped.stderr.decode()
