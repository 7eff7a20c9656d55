"""Celery's prefork pool: each child is a member of its own, and leaves before it is ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.hosts.stage import TOP, Host, free_port

WORKER = ("celery", "-A", "tests.hosts.app_celery", "worker", "-c", "2", "-l", "error", "--without-mingle")
AS_ROOT = "error,ignore:You're running the worker with superuser"  # as some machines that run tests do

ASK = """
import json
from tests.hosts.app_celery import get, put
wrote = put.delay("a", "1").get(timeout=30)
while True:
    answers = [answer.get(timeout=30) for answer in [get.delay("a") for _ in range(8)]]
    if len({answer["pid"] for answer in answers}) == 2 and all(answer["value"] == "1" for answer in answers):
        break
print(json.dumps([wrote, *answers]))
"""


def test_a_write_in_one_child_is_seen_in_all(tmp_path):
    shared = f"127.0.0.1:{free_port()}"
    variables = {"TASKS": str(tmp_path), "CRDTCACHE_LISTEN": shared, "PYTHONWARNINGS": AS_ROOT}
    with Host(WORKER, peers=shared, folder=tmp_path, **variables) as host:
        asked = subprocess.run(
            [sys.executable, "-c", ASK],
            cwd=TOP,
            env={**os.environ, "TASKS": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert asked.returncode == 0, asked.stderr + host.said()
        answers = json.loads(asked.stdout)
        assert len({answer["pid"] for answer in answers}) == 2
        assert len({answer["origin"] for answer in answers}) == 2
        host.stop()
