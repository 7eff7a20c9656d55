"""`crdtcache demo` from its options to its exit status: board, signals, logs, the JSON document.

Decision: with `--json` stdout carries one JSON document and nothing else, and what people read goes to stderr;
so a pipe into a JSON reader works while the board stays visible.
"""

from __future__ import annotations

import json
import platform
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from crdtcache import __version__
from crdtcache.demo.analysis import standard_modules
from crdtcache.demo.board import Board
from crdtcache.demo.conductor import Conductor
from crdtcache.demo.crew import ChildGone
from crdtcache.demo.figures import totals
from crdtcache.demo.regions import World
from crdtcache.demo.script import MIN_SECONDS
from crdtcache.demo.verdict import Check, decide
from crdtcache.errors import ConfigError

__all__ = ["Options", "document", "run"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said."""

    world: World
    seconds: float
    json: bool = False
    keep_logs: bool = False

    def __post_init__(self) -> None:
        if not MIN_SECONDS <= self.seconds <= 3_600:
            raise ConfigError(f"{self.seconds:g} seconds: between {MIN_SECONDS:g} and 3600")


def run(options: Options) -> int:
    """Run the demo. Returns the exit status: 0 everything holds, 1 it does not, 128 + the signal that ended it."""
    modules = list(standard_modules())
    logs = Path(tempfile.mkdtemp(prefix="crdtcache-demo-"))
    board = Board.on(sys.stderr if options.json else sys.stdout)
    conductor = Conductor(options.world, options.seconds, board, logs, modules)
    keep = True
    try:
        signum = trio.run(_until_done_or_signalled, conductor)
        if signum is not None:
            keep = options.keep_logs
            board.close()
            sys.stderr.write("interrupted; every process has ended\n")
            return 128 + signum
        conductor.refresh()
        checks = decide(conductor.facts)
        ok = all(check.ok for check in checks)
        board.end(conductor.view, checks)
        if options.json:
            sys.stdout.write(json.dumps(document(options, conductor, checks), indent=2) + "\n")
            sys.stdout.flush()
        keep = options.keep_logs or not ok
        return 0 if ok else 1
    except ExceptionGroup as group:
        if group.split((ChildGone, BrokenPipeError))[1] is not None:
            raise  # a bug of ours
        first = _first(group)
        if isinstance(first, BrokenPipeError):
            keep = options.keep_logs
            raise first from None  # whoever read the board has gone
        board.close()
        sys.stderr.write(f"\nthe demo stopped: {first}\n")
        return 1
    finally:
        board.close()
        if keep:
            sys.stderr.write(f"logs of the processes: {logs}\n")
        else:
            shutil.rmtree(logs, ignore_errors=True)


async def _until_done_or_signalled(conductor: Conductor) -> int | None:
    """Run; returns the signal that interrupted, None if none did. The children have ended either way."""
    caught: int | None = None
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                nonlocal caught
                caught = await anext(aiter(signals))
                nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            await conductor.run()
            nursery.cancel_scope.cancel()
    return caught


def document(options: Options, conductor: Conductor, checks: list[Check]) -> dict[str, Any]:
    """The run as one JSON document: the verdict, each check with its figures, and what was measured."""
    view = conductor.view
    total = totals(view.services)
    return {
        "ok": all(check.ok for check in checks),
        "checks": {check.name: {"ok": check.ok, "text": check.text, **check.figures} for check in checks},
        "traffic": {**total._asdict(), "hit_ratio": total.hit_ratio},
        "write_to_visible_ms": [each._asdict() for each in view.deliveries],
        "services": [
            {"name": each.name, "region": each.region, "keys": each.keys, "digest": each.digest, **each.counts}
            for each in view.services
        ],
        "relay": view.relay,
        "news": view.news,
        "seconds": round(view.seconds, 3),
        "seed": options.world.seed,
        "crdtcache": __version__,
        "python": platform.python_version(),
    }


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
