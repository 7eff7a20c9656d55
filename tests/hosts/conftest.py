"""Django's own tests sleep for most of their seconds, so they run beside the other tests of this room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
FETCH = """
import subprocess, sys, tarfile
from pathlib import Path
import django
folder, wanted = Path(sys.argv[1]), f"django=={django.__version__}"
pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "django", "--no-build-isolation"]
subprocess.run([*pip, "-d", folder, wanted], check=True)
[archive] = folder.glob("*.tar.gz")
with tarfile.open(archive) as packed:
    packed.extractall(folder, [file for file in packed if "/tests/cache/" in file.name], filter="data")
[tests] = folder.glob("*/tests")
suite = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.hosts.django_suite", tests]
sys.exit(subprocess.run(suite).returncode)
"""


@pytest.fixture(scope="session", autouse=True)
def django_suite(tmp_path_factory):
    """Django's source distribution fetched, and its cache tests begun. Whoever asks for it waits for the end."""
    folder = tmp_path_factory.mktemp("django")
    with (folder / "output").open("w+") as output:
        command = [sys.executable, "-c", FETCH, str(folder)]
        with subprocess.Popen(command, cwd=TOP, stdout=output, stderr=subprocess.STDOUT) as running:

            def finished() -> tuple[int, str]:
                code = running.wait(300)
                output.seek(0)
                return code, output.read()

            yield finished
            running.kill()
