"""The `crdtcache` command: one subcommand per job; each imports what it needs when it runs.

Exit status: 0 it succeeded, 1 it ran and did not, 2 the command line was wrong, 130 interrupted.
Decision: argparse, because a cache that people embed should not bring a command line framework along.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from crdtcache import __version__
from crdtcache.errors import ConfigError

if TYPE_CHECKING:
    from crdtcache.node import Node

__all__ = ["main"]

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no public name
_Ask: TypeAlias = Callable[..., dict[str, Any]]


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
    _add_serve(commands)
    _add_asking(commands)
    _add_demo(commands)
    return parser


# ---- a node as a process of its own ---------------------------------------------------------------------------------


def _add_serve(commands: _Commands) -> None:
    serve = commands.add_parser(
        "serve",
        help="run a node as a process of its own (a sidecar) until SIGTERM or Ctrl-C",
        description="Run a node. Every argument of Node is read from the environment (CRDTCACHE_PEERS, "
        "CRDTCACHE_SECRET, CRDTCACHE_MAX_BYTES, ...); the options below count more. The secret has no option, "
        "because every user of a machine can read command lines.",
    )
    serve.add_argument("--peers", help="addresses, with commas")
    for name in ("cluster", "region", "zone", "name", "listen", "advertise", "ttl", "max-bytes"):
        serve.add_argument(f"--{name}")
    serve.add_argument("--insecure", action="store_true", default=None, help="do without a secret beyond this machine")
    serve.add_argument("--control", metavar="PATH", help="the socket for `crdtcache status` and the others")
    serve.set_defaults(run=_serve)


_SETTINGS = ("peers", "cluster", "region", "zone", "name", "listen", "advertise", "ttl", "max_bytes", "insecure")


def _serve(options: argparse.Namespace) -> int:
    import logging

    import trio

    from crdtcache import Node

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    given = {name: getattr(options, name) for name in _SETTINGS if getattr(options, name) is not None}
    node: Node = Node.from_env(**given)
    trio.run(_serving, node, _control(options, node.cluster))
    return 0


async def _serving(node: Node, path: Path) -> None:
    import signal

    import trio

    from crdtcache.control import listening

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with node, listening(node, path):
            sys.stdout.write(f"{node!r} at {node.status()['address'] or 'no port'}, controlled at {path}\n")
            sys.stdout.flush()
            async for number in signals:
                sys.stdout.write(f"leaving after {signal.Signals(number).name}\n")
                break


def _control(options: argparse.Namespace, cluster: str) -> Path:
    from crdtcache.control import default_path

    return Path(options.control) if options.control else default_path(cluster)


# ---- asking it ------------------------------------------------------------------------------------------------------


def _add_asking(commands: _Commands) -> None:
    def command(name: str, text: str, run: Callable[[argparse.Namespace, _Ask], int]) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        cluster = os.environ.get("CRDTCACHE_CLUSTER")
        parser.add_argument("--cluster", default=cluster, help=f"whose node (default: {cluster or 'default'})")
        parser.add_argument("--control", metavar="PATH", help="its socket, where that was given to `serve`")
        parser.set_defaults(run=lambda options: run(options, _asker(options)))
        return parser

    status = command("status", "whether the served node is ready (exit status 0, for probes), and how it is", _status)
    status.add_argument("--json", action="store_true", help="everything it knows about itself")

    def with_key(name: str, text: str, run: Callable[[argparse.Namespace, _Ask], int]) -> argparse.ArgumentParser:
        parser = command(name, text, run)
        parser.add_argument("key")
        parser.add_argument("--json-key", action="store_true", help='KEY is JSON: 42, or ["user", 42] for a tuple')
        return parser

    with_key("get", "print a value: text as it is, anything else as JSON", _get)
    put = with_key("set", "store a value on every node", _set)
    put.add_argument("value")
    put.add_argument("--json", action="store_true", help="VALUE is JSON, not text")
    put.add_argument("--ttl", help="how long it lives: seconds, or such as 1h30m")
    with_key("del", "delete a key on every node", _del)
    with_key("inspect", "say why a key is here, or is not", _inspect)
    top = command("top", "show the node and its peers again and again", _top)
    top.add_argument("--count", type=int, help="so many times (default: until Ctrl-C)")
    top.add_argument("--every", type=float, default=1.0, help="seconds (default: %(default)g)")


def _asker(options: argparse.Namespace) -> _Ask:
    from crdtcache.control import ask

    # Only a path that was given may lead to a node of any cluster, unless one was named.
    cluster = options.cluster or ("default" if options.control is None else None)
    named = {"cluster": cluster} if cluster else {}

    def asked(**request: Any) -> dict[str, Any]:
        try:
            return ask(_control(options, cluster or "default"), {**request, **named})
        except ValueError as error:
            raise ConfigError(str(error)) from None

    return asked


def _status(options: argparse.Namespace, ask: _Ask) -> int:
    status = ask(do="status")
    if options.json:
        sys.stdout.write(json.dumps(status, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(status)) + "\n")
    return 0 if status["ready"] else 1


def _lines(status: dict[str, Any]) -> Iterator[str]:
    up = sum(peer["connected"] for peer in status["peers"])
    yield f"{status['name']} {status['cluster']}/{status['region']} {'ready' if status['ready'] else 'NOT READY'}"
    if status["why"]:
        yield f"  {status['why']}"
    keys = "1 key" if status["keys"] == 1 else f"{status['keys']} keys"
    yield f"  {keys}, {status['bytes'] / 1e6:.1f} MB, {up} of {len(status['peers'])} peers connected"
    stats = status["stats"]
    yield f"  {stats['hits']} hits, {stats['misses']} misses, {stats['evicted']} evicted, {stats['expired']} expired"
    for peer in status["peers"]:
        lag = f"lag {peer['lag_ms']} ms" if peer["connected"] else "not connected"
        yield f"  {peer['name']:<24} {peer['region']:<12} {peer['address']:<24} {lag}"


def _key(options: argparse.Namespace) -> Any:
    return _json(options.key) if options.json_key else options.key


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not JSON: {error}") from None


def _get(options: argparse.Namespace, ask: _Ask) -> int:
    answer = ask(do="get", key=_key(options))
    if not answer["found"]:
        sys.stderr.write(f"{options.key!r} is not here; `crdtcache inspect` says why\n")
        return 1
    value = answer["value"]
    sys.stdout.write((value if isinstance(value, str) else json.dumps(value)) + "\n")
    return 0


def _set(options: argparse.Namespace, ask: _Ask) -> int:
    value = _json(options.value) if options.json else options.value
    ttl = {"ttl": options.ttl} if options.ttl is not None else {}
    sys.stdout.write(ask(do="set", key=_key(options), value=value, **ttl)["version"] + "\n")
    return 0


def _del(options: argparse.Namespace, ask: _Ask) -> int:
    visible = ask(do="del", key=_key(options))["was_visible"]
    sys.stdout.write("deleted\n" if visible else "not visible here; deleted everywhere all the same\n")
    return 0


def _inspect(options: argparse.Namespace, ask: _Ask) -> int:
    sys.stdout.write(ask(do="inspect", key=_key(options))["sentence"] + "\n")
    return 0


def _top(options: argparse.Namespace, ask: _Ask) -> int:
    clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
    shown = 0
    while True:
        sys.stdout.write(clear + "\n".join(_lines(ask(do="status"))) + "\n")
        sys.stdout.flush()
        shown += 1
        if shown == options.count:
            return 0
        time.sleep(options.every)


# ---- the demo -------------------------------------------------------------------------------------------------------


def _add_demo(commands: _Commands) -> None:
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
