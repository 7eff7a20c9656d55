"""The command line: list, run, sweep, replay, shrink, why, canaries, doctor, bench, traffic.

Exit codes: 0 all is well; 1 a violation; 3 a replay that diverged; 64 a mistake in the call.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import textwrap
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import fields
from importlib import import_module
from itertools import chain, groupby
from pathlib import Path
from time import monotonic
from typing import TextIO

from crdtcache.tuning import Tuning
from sim import bench, bugs
from sim.coverage import counted, rough, table
from sim.doctor import doctor
from sim.engine import SECOND
from sim.plan import Plan, PlanError, read_plan
from sim.record import Recording, record
from sim.report import page
from sim.scenarios import SCENARIOS, find, load
from sim.shrink import shrink
from sim.sweep import Outcome, diverged, draw, kept, sweep
from sim.traffic import lines as traffic
from sim.why import why
from sim.world import Result, run

FAILURES = Path("sim-failures")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except PlanError as error:
        _say(f"sim: {error}", stream=sys.stderr)
        return 64
    except KeyboardInterrupt:
        return 130
    return code


def parser() -> argparse.ArgumentParser:  # noqa: PLR0915 one for each thing that can be said
    """What can be said on the command line."""
    parser = argparse.ArgumentParser(prog="python -m sim", description="Runs the real core in a simulated world.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, what: str, call: object) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=what, description=what)
        sub.set_defaults(command=call)
        return sub

    command("list", "the scenarios, one sentence each", _list)
    sub = command("run", "one scenario with one seed", _run)
    sub.add_argument("name", help="of a scenario, or a .toml file of yours (see sim/userfile.py)")
    sub.add_argument("--nodes", type=int)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help="a field of the tuning")
    sub.add_argument("--plan", type=Path, help="write the plan here, with what the run gave")
    sub.add_argument("--html", type=Path, help="write a report with pictures here")
    sub = command("sweep", "many seeds of one scenario", _sweep)
    sub.add_argument("name", nargs="?", default="kitchen-sink", help="of a scenario, or a .toml file")
    sub.add_argument("--seeds", type=int, default=100)
    sub.add_argument("--first", type=int, default=0)
    sub.add_argument("--fresh", action="store_true", help="begin at a seed that nobody has run")
    sub.add_argument("--nodes", type=int)
    sub.add_argument("--jobs", type=int, default=1)
    sub.add_argument("--time", type=float, help="stop after so many seconds")
    sub.add_argument("--executor", metavar="MODULE:CALLABLE", help="what makes a concurrent.futures.Executor")
    sub.add_argument("--into", type=Path, metavar="FILE", help="keep each outcome here, and go on where it ends")
    sub = command("replay", "run a plan from a file, and compare with what it gave before", _replay)
    sub.add_argument("plan", type=Path)
    sub.add_argument("--trace", action="store_true", help="print everything that happens")
    sub.add_argument("--html", type=Path, help="write a report with pictures here")
    sub = command("shrink", "make a failing plan small", _shrink)
    sub.add_argument("plan", type=Path)
    sub.add_argument("--runs", type=int, default=600)
    sub.add_argument("--seconds", type=float, default=300.0)
    sub.add_argument("--bug", help="with this planted bug")
    sub = command("why", "why a node showed what it showed", _why)
    sub.add_argument("plan", type=Path)
    sub.add_argument("--key", required=True)
    sub.add_argument("--node", type=_number, required=True, help="its number, or n and its number")
    sub.add_argument("--at", type=float, required=True, metavar="SECONDS")
    sub = command("canaries", "planted bugs: seeds until each is found, what finds it, how small it becomes", _canaries)
    sub.add_argument("names", nargs="*")
    sub.add_argument("--seeds", type=int, default=300, help="in each range")
    sub.add_argument("--ranges", type=int, default=5, help="of seeds, each beginning 10,000 after the one before")
    sub.add_argument("--first", type=int, default=0)
    sub.add_argument("--no-shrink", action="store_true", help="leave what was found as it is")
    sub.add_argument("--list", action="store_true")
    sub = command("doctor", "whether the same seed gives the same run in another process", _doctor)
    sub.add_argument("name", nargs="?", default="kitchen-sink")
    sub.add_argument("--seeds", type=int, default=10)
    what = "copies per write, time to the last node, idle bytes; and what the dead change"
    command("traffic", what, _traffic).add_argument("--nodes", type=int, default=30)
    command("bench", "events per second", _bench).add_argument("--quick", action="store_true")
    return parser


def _number(node: str) -> int:
    return int(node.removeprefix("n"))


def _list(_: argparse.Namespace) -> int:
    load()
    width = max(map(len, SCENARIOS))
    for name, scenario in SCENARIOS.items():
        _say(f"{name:{width}}  {scenario.sentence}")
    return 0


def _run(options: argparse.Namespace) -> int:
    plan = _tuned(draw(options.name, options.seed, options.nodes), options.set)
    bar = _Bar(100)
    recording = record(plan, progress=bar.show) if options.html else None
    result = recording.result if recording is not None else counted(lambda: run(plan, progress=bar.show))
    bar.clear()
    if options.plan:
        plan.but(expect=result.expect()).write(options.plan)
    if recording is not None:
        again = f"python -m sim run {options.name} --seed {options.seed}" + _nodes(options)
        _write_report(recording, options.html, "".join((again, *(f" --set {s}" for s in options.set))))
    return _report(result)


def _write_report(recording: Recording, path: Path, command: str) -> None:
    path.write_text(page(recording, command), encoding="utf-8")
    _say(f"the report is in {path}")


def _tuned(plan: Plan, settings: Sequence[str]) -> Plan:
    tuning = dict(plan.tuning)
    for setting in settings:
        name, equals, number = setting.partition("=")
        try:
            tuning[name] = float(number) if "." in number else int(number)
        except ValueError:
            raise PlanError(f"--set {setting}: {'a number is due' if equals else 'NAME=NUMBER is due'}") from None
        if name not in (known := [field.name for field in fields(Tuning)]):
            raise PlanError(f"--set {setting}: no field {name!r}; there are {', '.join(known)}")
    plan = plan.but(tuning=tuning)
    plan.tuned()
    return plan


def _report(result: Result) -> int:
    plan, found = result.plan, result.violation
    _say(
        f"{plan.scenario} seed {plan.seed}: {len(plan.machines)} nodes, {len(plan.ops)} operations, "
        f"trace {result.trace}"
    )
    speed = result.events / max(result.seconds, 1e-9)
    _say(f"{result.events} events in {result.seconds:.2f} s ({speed:,.0f} a second)")
    happened = sorted(name for name, count in result.coverage.items() if count)
    for kind, named in groupby(happened, lambda name: name.partition(" ")[0]):
        counts = (f"{name.partition(' ')[2]} {result.coverage[name]}".strip() for name in named)
        _say(textwrap.fill("; ".join(counts), 100, initial_indent=f"  {kind:10}", subsequent_indent=" " * 12))
    if found is None:
        _say(
            f"no violation; converged {result.converged_ms} ms after the calm"
            + ("" if rough(result) else " (a mild run)")
        )
        return 0
    path = FAILURES / f"{plan.scenario}-{plan.seed}-{found.invariant}.json"
    plan.but(expect=result.expect()).write(path)
    _say(f"VIOLATION {found}")
    _say(f"repeat it:  python -m sim replay {path}")
    _say(f"shrink it:  python -m sim shrink {path}")
    _say(f"look at it: python -m sim replay {path} --html {path.with_suffix('.html')}")
    if found.key is not None and found.node >= 0:
        key, at = shlex.quote(str(found.key)), found.now / SECOND
        _say(f"explain it: python -m sim why {path} --key {key} --node n{found.node} --at {at:.3f}")
    return 1


def _sweep(options: argparse.Namespace) -> int:
    draw(options.name, options.first, options.nodes)  # mistakes in a file are told here, not by an executor
    first = int(monotonic() * 1e6) % 10**9 * 1_000 if options.fresh else options.first
    seeds = range(first, first + options.seeds)
    bar, began = _Bar(options.seeds), monotonic()
    failed: list[Outcome] = []
    coverages: list[dict[str, int]] = []
    events, seconds, done = 0, 0.0, 0
    before = kept(options.into, options.name, seeds) if options.into else {}
    left = [seed for seed in seeds if seed not in before]
    with (
        _executor(options) as executor,
        options.into.open("a") if options.into else nullcontext() as into,
        closing(sweep(options.name, left, nodes=options.nodes, executor=executor)) as outcomes,
    ):
        for outcome in chain(before.values(), outcomes):
            if into is not None and outcome.seed not in before:
                into.write(json.dumps(outcome) + "\n")
                into.flush()
            done += 1
            bar.show(done, f"{len(failed)} violations")
            events, seconds = events + outcome.events, seconds + outcome.seconds
            if outcome.counted:
                coverages.append(outcome.coverage)
            if outcome.violation:
                failed.append(outcome)
                bar.clear()
                _say(f"seed {outcome.seed}: {outcome.violation}")
                _say(f"    python -m sim run {outcome.scenario} --seed {outcome.seed}" + _nodes(options))
            if options.time and monotonic() - began > options.time:
                break
    bar.clear()
    _say(f"{done} runs from seed {first}, {len(failed)} violations, {done - len(coverages)} too mild to count")
    _say(f"{events} events, {events / max(seconds, 1e-9):,.0f} a second and process")
    _say(f"what happened in the {len(coverages)} runs that count:")
    for line in table(coverages):
        _say(line)
    return 1 if failed else 0


def _nodes(options: argparse.Namespace) -> str:
    return f" --nodes {options.nodes}" if options.nodes else ""


def _executor(options: argparse.Namespace) -> Executor | nullcontext[None]:
    if options.executor:
        module, _, name = options.executor.partition(":")
        try:
            made: Executor = getattr(import_module(module), name)()
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise PlanError(f"--executor {options.executor}: {error}; MODULE:CALLABLE is due") from None
        if not isinstance(made, Executor):
            raise PlanError(f"--executor {options.executor}: gave {made!r}; a concurrent.futures.Executor is due")
        return made
    return ProcessPoolExecutor(options.jobs) if options.jobs > 1 else nullcontext()


def _replay(options: argparse.Namespace) -> int:
    plan = read_plan(options.plan)
    if options.trace:
        for line in bench.trace_of(plan):
            _say(line)
    recording = record(plan) if options.html else None
    result = recording.result if recording is not None else run(plan)
    if recording is not None:
        _write_report(recording, options.html, f"python -m sim replay {options.plan}")
    where = diverged(plan, result)
    if where:
        _say(f"{options.plan}: {where}")
        return 3
    if plan.expect is not None:
        _say("the same trace as before")
    if result.violation is not None:
        _say(f"VIOLATION {result.violation}")
        return 1
    return 0


def _shrink(options: argparse.Namespace) -> int:
    plan = read_plan(options.plan)
    with bugs.planted(options.bug) if options.bug else nullcontext():
        result = run(plan)
        if result.violation is None:
            raise PlanError(f"{options.plan}: no violation, there is nothing to shrink")
        bar = _Bar(options.runs)
        small = shrink(
            result,
            runs=options.runs,
            seconds=options.seconds,
            tell=lambda plan, runs: bar.show(runs, f"{plan.size()} items, {len(plan.machines)} nodes"),
        )
        bar.clear()
    path = options.plan.with_suffix(".small.json")
    small.plan.write(path)
    _say(f"{plan.size()} items became {small.plan.size()} on {len(small.plan.machines)} nodes, in {small.runs} runs")
    _say(f"VIOLATION {small.result.violation}")
    _say(f"repeat it:  python -m sim replay {path}")
    return 0


def _why(options: argparse.Namespace) -> int:
    plan = read_plan(options.plan)
    if not 0 <= options.node < len(plan.machines):
        raise PlanError(f"no node {options.node}; there are 0..{len(plan.machines) - 1}")
    for line in why(plan, options.key, options.node, options.at):
        _say(line)
    return 0


def _canaries(options: argparse.Namespace) -> int:
    unknown = [name for name in options.names if name not in bugs.BUGS]
    if unknown:
        raise PlanError(f"no planted bug {unknown[0]!r}; there are {', '.join(bugs.BUGS)}")
    if options.list:
        for name in options.names or bugs.BUGS:
            _say(f"{name:34} {bugs.BUGS[name].sentence}")
        return 0
    firsts = range(options.first, options.first + 10_000 * options.ranges, 10_000)
    _say(f"{'bug':34} {'seeds until found':24} {'by':10} {'items':20} in")
    missed = 0
    for name in options.names or bugs.BUGS:
        hunts = [bugs.hunt(name, first=at, seeds=options.seeds, small=not options.no_shrink) for at in firsts]
        found = [hunt for hunt in hunts if hunt is not None]
        missed += len(hunts) - len(found)
        seeds = " ".join(f"{hunt.runs:3}" if hunt is not None else "  -" for hunt in hunts)
        items = " ".join(f"{hunt.items:3}" if hunt.items else "  ." for hunt in found)
        invariants = ", ".join(sorted({hunt.invariant for hunt in found}))
        scenarios = ", ".join(sorted({hunt.scenario for hunt in found}))
        _say(f"{name:34} {seeds:24} {invariants:10} {items:20} {scenarios}".rstrip())
    _say(f"{missed} times a bug was not found in {options.seeds} seeds" if missed else "each was found each time")
    return 1 if missed else 0


def _doctor(options: argparse.Namespace) -> int:
    find(options.name)
    bar, apart = _Bar(options.seeds), []
    for seed, same in doctor(options.name, options.seeds):
        bar.show(seed + 1)
        if not same:
            apart.append(seed)
    bar.clear()
    if apart:
        _say(f"{options.name}: seed {apart[0]} went two ways in two processes, and {len(apart) - 1} others did")
        return 3
    _say(f"{options.name}: {options.seeds} seeds went the same way in two processes with different hash seeds")
    return 0


def _traffic(options: argparse.Namespace) -> int:
    for line in traffic(options.nodes):
        _say(line)
    return 0


def _bench(options: argparse.Namespace) -> int:
    for line in bench.bench(quick=options.quick):
        _say(line)
    return 0


def _say(text: str, *, stream: TextIO | None = None) -> None:
    (stream or sys.stdout).write(text + "\n")
    (stream or sys.stdout).flush()


class _Bar:
    """A progress bar on stderr, where that is a terminal."""

    def __init__(self, whole: int) -> None:
        self._whole = max(whole, 1)
        self._on = sys.stderr.isatty()

    def show(self, done: int, text: str = "") -> None:
        if self._on:
            filled = 30 * done // self._whole
            sys.stderr.write(f"\r[{'#' * filled}{'.' * (30 - filled)}] {done}/{self._whole} {text}\x1b[K")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._on:
            sys.stderr.write("\r\x1b[K")


if __name__ == "__main__":
    sys.exit(main())
