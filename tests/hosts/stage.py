"""A host as a process of its own, with every warning an error, asked over HTTP, stopped as a person would."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

TOP = Path(__file__).parents[2]
LIMIT_S = 30


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def until(condition, limit_s: float = LIMIT_S):
    """What `condition` returns, once that is true."""
    end = time.monotonic() + limit_s
    while not (true := condition()):
        assert time.monotonic() < end, f"it did not come to pass within {limit_s} s"
        time.sleep(0.02)
    return true


class Host:
    """`python -m` what `command` says, in a group of processes of its own as a terminal has it; "PORT" is free."""

    def __init__(self, command: Iterable[str], *, folder: Path, peers: str = "none", **variables: str) -> None:
        self.port = free_port()
        environment = {name: text for name, text in os.environ.items() if not name.startswith(("CRDTCACHE_", "COV"))}
        environment |= {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error", "CRDTCACHE_CLUSTER": f"hosts-{self.port}"}
        environment |= {"CRDTCACHE_PEERS": peers, "CRDTCACHE_LISTEN": "127.0.0.1:0", **variables}
        # gunicorn closes neither its sockets nor the files by which its workers say that they live, and a worker of
        # uvicorn not the standard input that it opens anew.
        files = r"gunicorn\.ctl>|<_io.FileIO name=\d+ mode='rb\+'|<_io.\w+ name=0 mode='rb?'"
        self._of_the_host = re.compile(rf"<socket.socket .*'127.0.0.1', {self.port}\)|{files}")
        self.log = folder / f"{self.port}.log"
        command = [sys.executable, "-m", *(part.replace("PORT", str(self.port)) for part in command)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=TOP, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        return self.log.read_text()

    def ask(self, path: str, **query: str) -> dict:
        """One request on a connection of its own: any worker may answer."""
        assert self.process.poll() is None, self.said()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            connection.request("GET", f"/{path}?{urlencode(query)}")
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 200, f"{text}\n{self.said()}"
            return json.loads(text)
        finally:
            connection.close()

    def up(self):
        """Wait until it answers."""

        def answers() -> bool:
            assert self.process.poll() is None, self.said()
            with suppress(OSError, http.client.HTTPException), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False

        until(answers)
        return self

    def ask_all(self, workers: int, expected: str, path: str, **query: str) -> dict[int, str]:
        """Ask until so many workers have each answered with what is expected: their pids and origins."""
        found: dict[int, str] = {}

        def all_have() -> bool:
            with ThreadPoolExecutor(2 * workers) as pool:
                for told in pool.map(lambda _: self.ask(path, **query), range(2 * workers)):
                    if told["value"] == expected:
                        found[told["pid"]] = told["origin"]
            return len(found) == workers

        until(all_have)
        return found

    def stop(self, how: signal.Signals = signal.SIGINT) -> float:
        """Ctrl-C, which every process of the group gets; seconds until all is over. It must have ended cleanly."""
        time.sleep(0.1)  # for a worker that is still closing its last answer: gunicorn calls its end there an error
        began = time.monotonic()
        if how == signal.SIGINT:
            os.killpg(self.process.pid, how)
        else:
            self.process.send_signal(how)
        self.process.wait(LIMIT_S)
        took = time.monotonic() - began
        bad = re.compile("Traceback|Warning|Error|Exception|CRITICAL")
        lines = self.said().splitlines()
        assert not [line for line in lines if bad.search(line) and not self._of_the_host.search(line)], self.said()
        return took
