"""The pictures of a recorded run: what went wrong when, how far behind each node was, and who beat whom.

The HTML report and the notebooks call the same functions, each from a `Recording` to a `Drawing`: the three here show
the whole run on one time axis, `space_time` (in `spacetime`) the frames round an instant.

Decision: nodes stand by the sides of the longest cut. In the order of their numbers a partition is a set of stripes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from sim.chart import TOP, Axis, in_words, legend, mark, named, seconds, shade, short, verticals
from sim.engine import MS
from sim.faults import longest_cut, sides
from sim.plan import Fault, Plan
from sim.record import Conflict, Recording
from sim.spacetime import space_time
from sim.svg import COLOURS, LEFT, LEVELS, Drawing

__all__ = ["conflicts", "space_time", "staleness", "steps_of", "timeline"]

_MOST_FAULTS, _MOST_ROWS, _MOST_KEYS = 18, 64, 20

_FAMILY = {"cut": 0, "delay": 4, "loss": 4, "bandwidth": 4, "reset": 4, "swallow": 4, "refuse": 4}
_FAMILY |= {"step": 3, "jump": 3, "drift": 3, "rogue": 3, "memory": 2}  # colours; what happens to processes: 5
_AT_ONCE = ("reset", "swallow", "jump")
_UNIT = {"delay": "ms", "loss": "in a million", "bandwidth": "B/s", "slow": "us a frame", "step": "ms", "jump": "ms"}
_UNIT |= {"drift": "us/s", "rogue": "ms", "memory": "values"}


# ---- what went wrong ----------------------------------------------------------------------------------------------


def timeline(recording: Recording) -> Drawing:
    """Each fault as a bar from its begin to its end; above them the phases of the run."""
    result, plan = recording.result, recording.result.plan
    rows: dict[tuple[str, str], list[Fault]] = {}
    begun = [fault for fault in plan.faults if fault.start_ms * MS <= recording.end]
    for fault in begun:
        rows.setdefault((fault.label or fault.kind, _where(fault, len(plan.machines))), []).append(fault)
    if len(rows) > _MOST_FAULTS:
        rows = {}
        for fault in begun:
            rows.setdefault((fault.label or fault.kind, ""), []).append(fault)
    bottom = TOP + 24 + 20 * max(len(rows), 1)
    drawing, axis = Drawing(bottom + 24, "What went wrong"), Axis(0, recording.end)
    drawing.rect(axis.left, TOP, axis.right - axis.left, bottom - TOP, "panel")
    axis.draw(drawing, TOP, bottom)
    calm = plan.calm_ms * MS
    phases = [("faults and work", 0, min(calm, recording.end))]
    if result.converged_ms is not None:
        whole = calm + result.converged_ms * MS
        phases += [("", calm, whole), ("quiet", whole, recording.end)]
    elif recording.end > calm:
        phases.append(("not settled", calm, recording.end))
    for number, (name, begin, end) in enumerate(phases):
        drawing.rect(axis.x(begin), TOP, axis.x(end) - axis.x(begin), 16, "shade" if number % 2 == 0 else "h2")
        if axis.x(end) - axis.x(begin) > 7 * len(name):
            drawing.text((axis.x(begin) + axis.x(end)) / 2, TOP + 12, name, "mid soft")
    if result.converged_ms is not None:
        drawing.text(axis.right + 10, TOP + 12, f"all agree after {result.converged_ms} ms", "soft")
    verticals(drawing, axis, recording, TOP, bottom)
    y = TOP + 24
    for (name, where), together in rows.items():
        drawing.text(LEFT - 8, y + 13, name, "end")
        drawing.text(axis.right + 10, y + 13, short(where, 28), "soft")
        for fault in together:
            _bar(drawing, axis, fault, y, len(plan.machines))
        y += 20
    if not rows:
        drawing.text((axis.left + axis.right) / 2, y + 13, "nothing", "mid soft")
    return drawing


def _bar(drawing: Drawing, axis: Axis, fault: Fault, y: float, nodes: int) -> None:
    begin, end, colour = axis.x(fault.start_ms * MS), axis.x(fault.end_ms * MS), f"c{_FAMILY.get(fault.kind, 5)}"
    tip = f"{fault.label or fault.kind} ({fault.kind}), {_where(fault, nodes)}: "
    if fault.kind in _AT_ONCE:
        drawing.dot(begin, y + 9, 5, colour, f"{tip}at {seconds(fault.start_ms * MS)}")
    else:
        tip += f"{seconds(fault.start_ms * MS)} to {seconds(fault.end_ms * MS)}"
        drawing.rect(begin, y + 3, max(end - begin, 2), 13, colour, tip)


def _where(fault: Fault, nodes: int) -> str:
    parts = []
    if fault.kind == "cut":
        islands = sides(fault, nodes)
        parts.append(" | ".join(map(_names, islands)) if len(islands) > 1 else _links(fault, nodes))
    elif fault.pairs:
        parts.append(_links(fault, nodes))
    if fault.nodes:
        parts.append(_names(fault.nodes))
    if fault.amount:
        parts.append(f"{fault.amount:,} {_UNIT.get(fault.kind, '')}".strip())
    return ", ".join(parts)


def _links(fault: Fault, nodes: int) -> str:
    if len(fault.pairs) <= 3:
        return " ".join(f"n{a}-n{b}" for a, b in fault.pairs)
    return f"{len(fault.pairs)} of {nodes * (nodes - 1) // 2} links"


def _names(nodes: Iterable[int]) -> str:
    return " ".join(f"n{node}" for node in nodes)


# ---- keys behind --------------------------------------------------------------------------------------------------


def staleness(recording: Recording) -> Drawing:
    """On how many keys each node was behind, over time; below it the most and the mean."""
    plan, samples = recording.result.plan, recording.samples
    rows = _rows(plan)
    most = max((b for s in samples for b in s.behind if b is not None), default=0)
    steps = steps_of(most)
    high = max(min(26.0, 320 / len(rows)), 18.0 * (len(steps) + 2) / len(rows), 5.0)
    tops, y = [], float(TOP)
    for number, (_, side, _) in enumerate(rows):
        y += 6 if number and side != rows[number - 1][1] else 0  # a gap between the sides of the cut
        tops.append(y)
        y += high
    curve_top, bottom = y + 14, y + 74
    drawing = Drawing(bottom + 24, "Keys behind, node by node")
    axis = Axis(0, recording.end)
    drawing.rect(axis.left, TOP, axis.right - axis.left, y - TOP, "panel")
    drawing.rect(axis.left, curve_top, axis.right - axis.left, bottom - curve_top, "panel")
    shade(drawing, axis, recording, TOP, y)
    shade(drawing, axis, recording, curve_top, bottom)
    axis.draw(drawing, TOP, bottom)
    every = max(1, round(12 / high + 0.4))
    for number, (name, _, nodes) in enumerate(rows):
        if number % every == 0:
            drawing.text(LEFT - 8, tops[number] + high / 2 + 4, name, "end")
        _cells(drawing, axis, recording, nodes, name, tops[number], high, steps)
    _curve(drawing, axis, recording, curve_top, bottom, most)
    verticals(drawing, axis, recording, TOP, bottom)
    x = axis.right + 10
    drawing.text(x, TOP + 12, "keys behind", "soft")
    for number, (low, up) in enumerate(steps, 1):
        drawing.rect(x, TOP + 18 * number, 14, 14, f"h{_level(up, steps)}")
        drawing.text(x + 20, TOP + 18 * number + 12, f"{low}" if low == up else f"{low} to {up}")
    if any(None in sample.behind for sample in samples):
        y = TOP + 18 * (len(steps) + 1)
        drawing.rect(x, y, 14, 14, "down")
        drawing.text(x + 20, y + 12, "no process runs")
    return drawing


def _rows(plan: Plan) -> list[tuple[str, int, list[int]]]:
    """(name, side of the longest cut, nodes): one node a row, several where there are too many."""
    islands = sides(longest_cut(plan), len(plan.machines))
    each = -(-len(plan.machines) // _MOST_ROWS)
    rows = []
    for side, island in enumerate(islands):
        for at in range(0, len(island), each):
            nodes = island[at : at + each]
            rows.append((f"n{nodes[0]}" if len(nodes) == 1 else f"n{nodes[0]} +{len(nodes) - 1}", side, nodes))
    return rows


def steps_of(most: int) -> list[tuple[int, int]]:
    """At most `LEVELS` ranges of whole numbers that cover 1..most, each wider by the same ratio."""
    ups = sorted({min(most, max(level, round(most ** (level / LEVELS)))) for level in range(1, LEVELS + 1)} - {0})
    return [(low + 1, up) for low, up in zip([0, *ups], ups, strict=False)]


def _level(behind: int, steps: Sequence[tuple[int, int]]) -> int:
    """1..LEVELS; the greatest range has the strongest colour."""
    place = next(i for i, (_, up) in enumerate(steps, 1) if behind <= up)
    return LEVELS if len(steps) == 1 else 1 + (place - 1) * (LEVELS - 1) // (len(steps) - 1)


def _cells(
    drawing: Drawing,
    axis: Axis,
    recording: Recording,
    nodes: Sequence[int],
    name: str,
    top: float,
    high: float,
    steps: Sequence[tuple[int, int]],
) -> None:
    samples = recording.samples

    def worst(index: int) -> int | None:
        known = [b for n in nodes if (b := samples[index].behind[n]) is not None]
        return max(known) if known else None

    for behind, group in groupby(range(len(samples)), worst):
        if behind == 0:
            continue
        indexes = list(group)
        begin, last = samples[indexes[0]].at, indexes[-1] + 1
        end = samples[last].at if last < len(samples) else recording.end
        css = "down" if behind is None else f"h{_level(behind, steps)}"
        what = "no process runs" if behind is None else f"behind on {behind} key{'' if behind == 1 else 's'}"
        x = axis.x(begin)
        tip = f"{name}, {seconds(begin)} to {seconds(end)}: {what}"
        drawing.rect(x, top + 0.5, axis.x(end) - x + 0.7, high - 1, css, tip)  # no seams


def _curve(drawing: Drawing, axis: Axis, recording: Recording, top: float, bottom: float, most: int) -> None:
    scale = (bottom - top - 8) / max(most, 1)
    for css, of in (("l0 thick", max), ("l1 thick", lambda known: sum(known) / len(known))):
        points = [(axis.x(s.at), bottom - scale * of(known)) for s in recording.samples if (known := _known(s.behind))]
        if points:
            drawing.path(points, css)
    drawing.text(LEFT - 8, top + 12, str(most), "end soft")
    drawing.text(LEFT - 8, bottom, "0", "end soft")
    for number, (css, name) in enumerate((("l0 thick", "the most"), ("l1 thick", "the mean"))):
        y = top + 22 + 18 * number
        drawing.line(axis.right + 10, y, axis.right + 30, y, css)
        drawing.text(axis.right + 36, y + 4, name)


def _known(behind: Iterable[int | None]) -> list[int]:
    return [b for b in behind if b is not None]


# ---- who beat whom ------------------------------------------------------------------------------------------------


def conflicts(recording: Recording) -> Drawing:
    """Writes that were beaten by one whose writer had not seen them, key by key: a bow from the loser to the winner."""
    plan = recording.result.plan
    by_key: dict[str, list[Conflict]] = {}
    for conflict in recording.conflicts:
        by_key.setdefault(conflict.lost.key, []).append(conflict)
    shown = dict(list(by_key.items())[:_MOST_KEYS])
    more = len(by_key) - len(shown)
    bottom = TOP + 14 + 28 * max(len(shown), 1)
    drawing = Drawing(bottom + 62, "Conflicts, and who won" + (f" ({more} keys more)" if more else ""))
    axis = Axis(0, recording.end)
    drawing.rect(axis.left, TOP, axis.right - axis.left, bottom - TOP, "panel")
    shade(drawing, axis, recording, TOP, bottom)
    axis.draw(drawing, TOP, bottom)
    verticals(drawing, axis, recording, TOP, bottom)
    y = TOP + 28.0
    for key, of_key in shown.items():
        drawing.text(LEFT - 8, y + 4, short(key, 12), "end")
        drawing.line(axis.left, y, axis.right, y, "grid")
        in_conflict = {write.version for conflict in of_key for write in conflict}
        for write in recording.writes:
            if write.key == key and write.version not in in_conflict:
                mark(drawing, axis, write, y, 2, "faint")
        for lost, won in of_key:
            tip = f"{in_words(won)} beat {in_words(lost)}"
            drawing.arc(axis.x(lost.at), y, axis.x(won.at), 11, f"l{won.node % COLOURS}", tip)
            mark(drawing, axis, lost, y, 4, "lost", tip)
        for lost, won in of_key:
            mark(drawing, axis, won, y, 4, "", f"{in_words(won)} beat {in_words(lost)}")
        lost, won = of_key[-1]
        last = f"{named(won)} of n{won.node} beat {named(lost)} of n{lost.node}"
        drawing.text(axis.right + 10, y + 4, short(last, 30))
        y += 28
    if not shown:
        drawing.text((axis.left + axis.right) / 2, y, "no write was lost to one that had not seen it", "mid soft")
    legend(drawing, [(f"c{m.index % COLOURS}", f"n{m.index}") for m in plan.machines[:COLOURS]], bottom + 34)
    words = "full: won; hollow: lost; a cross: a delete; small: other writes; in words: the last conflict"
    drawing.text(LEFT, bottom + 56, words, "soft")
    return drawing
