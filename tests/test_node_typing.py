"""The types that a user sees: mypy agrees with every line of `typed_use.py`, the refused ones included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_users_file_is_typed_as_it_says():
    here = Path(__file__).parent
    command = [sys.executable, "-m", "mypy", "--strict", str(here / "typed_use.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here.parent, check=False)
    complaints = [line for line in done.stdout.splitlines() if "typed_use.py" in line]
    assert complaints == [], "\n".join(complaints)
    assert "typed_use" not in done.stderr
