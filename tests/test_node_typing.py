"""The types that a user sees: mypy and pyright agree with every line of `typed_use.py`, the refused ones included.

pyright is no dependency of the tests, because it fetches its own program when it first runs: where it is installed
(`pip install pyright && pyright --version`), it is asked too. What neither can see is a cached function below
@classmethod: only a plain function loses its first parameter there.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

USE = Path(__file__).with_name("typed_use.py")
TOP = USE.parent.parent


@pytest.mark.slow
def test_mypy_agrees():
    command = [sys.executable, "-m", "mypy", "--strict", str(USE)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOP, check=False)
    complaints = [line for line in done.stdout.splitlines() if "typed_use.py" in line]
    assert complaints == [], "\n".join(complaints)
    assert "typed_use" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed here")
def test_pyright_agrees(tmp_path):
    copy = shutil.copy(USE, tmp_path)
    rules = {"include": ["typed_use.py"], "extraPaths": [str(TOP)], "typeCheckingMode": "strict"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({**rules, "enableTypeIgnoreComments": False}))
    command = ["pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    refused = {found["range"]["start"]["line"] + 1 for found in json.loads(done.stdout)["generalDiagnostics"]}
    lines = enumerate(Path(copy).read_text().splitlines(), 1)
    assert refused == {number for number, line in lines if re.search(r"# type: ignore\[", line)}
