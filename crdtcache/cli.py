"""The `crdtcache` command: one subcommand per job; each imports what it needs when it runs.

Exit status: 0 it succeeded, 1 it ran and did not, 2 the command line was wrong, 130 interrupted.
Decision: argparse, because a cache that people embed should not bring a command line framework along.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from crdtcache import __version__
from crdtcache.errors import ConfigError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of the process); returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except ConfigError as error:
        sys.stderr.write(f"crdtcache {options.command}: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone. What is still buffered goes nowhere, instead of into a traceback at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        sys.stderr.write(f"crdtcache {options.command}: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crdtcache", description="A distributed cache inside your process.")
    parser.add_argument("--version", action="version", version=f"crdtcache {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    _add_demo(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser(
        "demo",
        help="three regions in processes of their own, cut apart, healed, killed; with a verdict",
        description="Run services in several processes and regions, delay what they say to each other, cut a region "
        "off, heal it, kill a process, and say whether everything that was promised held (exit status 0).",
    )
    demo.add_argument("--seconds", type=float, default=55.0, help="how long, start included (default: %(default)g)")
    demo.add_argument("--regions", default="eu,us,ap", help="their names, with commas (default: %(default)s)")
    demo.add_argument("--nodes", type=int, default=2, help="services per region (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="of the traffic and the script (default: %(default)s)")
    demo.add_argument("--json", action="store_true", help="one JSON document on stdout; lines for people on stderr")
    demo.add_argument("--keep-logs", action="store_true", help="keep the logs of the processes, and say where")
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from crdtcache.demo import regions, run

    world = regions.World(tuple(options.regions.split(",")), options.nodes, options.seed)
    return run.run(run.Options(world, options.seconds, json=options.json, keep_logs=options.keep_logs))
