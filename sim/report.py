"""A run as one HTML file: the verdict, how to repeat it, the pictures, why it failed, and what was counted.

Nothing is loaded from anywhere and nothing is scripted, so the file can be mailed, kept beside a failing plan, and
opened in ten years. It is well-formed XML as well, which is how its test reads it.

Decision: made from a `Recording` by the drawings of `plots`, as the notebooks are; the page adds words and tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from sim import plots
from sim.coverage import rough
from sim.engine import MS, SECOND
from sim.faults import longest_cut
from sim.plan import Plan
from sim.record import Recording
from sim.scenarios import SCENARIOS
from sim.svg import Drawing, style
from sim.why import why

__all__ = ["page"]

_MOST_PLAN = 300_000

_STYLE = """
body{margin:0;background:var(--panel);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1020px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:17px;margin:0 0 6px}p{margin:6px 0;max-width:75ch}
.soft{color:var(--soft)}section,.box{background:var(--paper);border-radius:8px;padding:14px 18px;margin:14px 0}
.verdict{border-left:6px solid var(--c2)}.verdict.failed{border-color:var(--bad)}.verdict strong{font-size:17px}
pre{background:var(--panel);border-radius:6px;padding:10px 12px;overflow:auto;margin:8px 0;
font:13px/1.45 ui-monospace,monospace}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px 18px;margin:12px 0 2px}
dt{color:var(--soft);font-size:12px}dd{margin:0;font-size:17px}.tables{display:flex;flex-wrap:wrap;
align-items:flex-start;gap:12px 40px}
table{border-collapse:collapse;font-size:13px}td,th{padding:2px 14px 2px 0;text-align:left;vertical-align:top}
th{color:var(--soft);font-weight:400;border-bottom:1px solid var(--grid)}
td.number{text-align:right;font-variant-numeric:tabular-nums}
figure{margin:0 0 18px;overflow-x:auto}figcaption{font-size:13px;color:var(--soft);max-width:90ch}svg{display:block}
"""


def page(recording: Recording, command: str) -> str:
    """The whole file. `command` repeats the run."""
    result = recording.result
    plan, found = result.plan, result.violation
    known = SCENARIOS.get(plan.scenario)
    body = [
        f"<h1>{escape(plan.scenario)} <span class='soft'>seed {plan.seed}</span></h1>",
        f"<p>{escape(known.sentence)}</p>" if known else "",
        _verdict(recording),
        "<section><h2>Repeat it</h2>",
        f"<pre>{escape(command)}</pre>",
        f"<p class='soft'>Trace hash {result.trace}: the same plan gives the same one on any machine.</p></section>",
        _why(recording),
        "<section>",
        _figure(
            plots.timeline(recording),
            "Faults are intervals; after the calm none is left, and the nodes owe agreement and then silence.",
        ),
        _figure(
            plots.staleness(recording),
            "A node is behind on a key until it has accounted for the newest write of it that any running node knows. "
            "Nodes stand by the sides of the longest cut.",
        ),
        _figure(
            plots.conflicts(recording),
            "Two writes of a key, neither writer having seen the other's: the greater version wins everywhere.",
        ),
        _figure(
            plots.space_time(recording, key=_key(recording)),
            "Each line is a frame, from when it was sent to when the other process had it; a stub with a cross never "
            "arrived. Dots on a node's line are its own writes. Point at anything to read what it is.",
        ),
        "</section><section><h2>What was counted</h2><div class='tables'>",
        _table("in the run", {name: n for name, n in result.coverage.items() if " " in name}),
        _table("by the replicas, in all", {name: n for name, n in result.counts.items() if n}),
        _table("tuning", dict(plan.tuning)),
        f"</div></section>{_plan(plan)}",
    ]
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'/>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'/>"
        f"<title>{escape(plan.scenario)} seed {plan.seed}: {'violation' if found else 'no violation'}</title>"
        f"<style>{style()}{_STYLE}</style></head><body class='crdt'><main>{''.join(body)}</main></body></html>\n"
    )


def _verdict(recording: Recording) -> str:
    result, plan, found = recording.result, recording.result.plan, recording.result.violation
    cut = longest_cut(plan)
    most = max((b for s in recording.samples for b in s.behind if b is not None), default=0)
    facts = {
        "nodes": f"{len(plan.machines)} in {len({m.region for m in plan.machines})} region(s)",
        "operations": f"{len(plan.ops)}",
        "faults": f"{len(plan.faults)}",
        "virtual time": f"{recording.end / SECOND:.1f} s",
        "events": f"{result.events:,}",
        "most keys behind": f"{most} of {result.coverage['keys']}",
        "writes beaten unseen": f"{len(recording.conflicts)}",
    }
    if cut is not None and cut.end_ms * MS < recording.end:
        whole = recording.whole_after(cut.end_ms)
        facts["longest cut"] = f"{(cut.end_ms - cut.start_ms) / 1_000:.1f} s"
        facts["whole again after it"] = f"{whole} ms" if whole is not None else "never"
    if found is not None:
        text = f"<strong>Violation of {escape(found.invariant)}</strong><p>{escape(str(found))}</p>"
    else:
        text = (
            f"<strong>No violation</strong><p>Agreed {result.converged_ms} ms after the calm, and then fell silent.</p>"
        )
        text += "" if rough(result) else "<p class='soft'>A mild run: it does not count as evidence.</p>"
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f"<div class='box verdict{' failed' if found else ''}'>{text}<dl>{listed}</dl></div>"


def _why(recording: Recording) -> str:
    """For a violation that names a key and a node: who wrote it, and where it was."""
    found = recording.result.violation
    if found is None or not isinstance(found.key, str) or found.node < 0:
        return ""
    plan = recording.result.plan
    before = plan.but(faults=tuple(fault for fault in plan.faults if fault.start_ms * MS <= found.now))
    told = why(before, found.key, found.node, found.now / SECOND)
    lines = "".join(f"<p>{escape(line)}</p>" for line in told)
    return f"<section><h2>Why n{found.node} showed that</h2>{lines}</section>"


def _key(recording: Recording) -> str | None:
    """The key to mark: of the violation, or of the conflict that was won last before the longest cut ended."""
    found, cut = recording.result.violation, longest_cut(recording.result.plan)
    if found is not None or cut is None:
        return None
    settled = [c for c in recording.conflicts if cut.start_ms * MS <= c.lost.at and c.won.at <= cut.end_ms * MS]
    return max(settled, key=lambda c: c.won.at).won.key if settled else None


def _figure(drawing: Drawing, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(title: str, rows: Mapping[str, float]) -> str:
    cells = "".join(f"<tr><td>{escape(name)}</td><td class='number'>{n:,}</td></tr>" for name, n in rows.items())
    return f"<table><tr><th colspan='2'>{title}</th></tr>{cells}</table>" if cells else ""


def _plan(plan: Plan) -> str:
    """The plan itself, so that the file is enough to repeat the run."""
    text = plan.but().to_json()
    if len(text) > _MOST_PLAN:
        return ""
    summary = "<summary>The plan: save it, and <code>python -m sim replay</code> repeats the run</summary>"
    return f"<section><details>{summary}<pre>{escape(text)}</pre></details></section>"
