"""Frames on the way between nodes, round one instant: the picture to look at when something did not arrive.

Time goes from left to right, each node is a line, each frame a line from its sender to its receiver. What was held up
by a cut lies flat across it, what never arrived is a stub, and frames that speak of one key can be made to stand out.

Decision: a second or two hundred frames at most; a space-time diagram of a whole run is a black page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from crdtcache.core.messages import (
    Answered,
    Busy,
    Context,
    End,
    Gone,
    Message,
    Offer,
    Open,
    Pull,
    Ready,
    Slice,
    TooOld,
)
from sim.chart import TOP, Axis, in_words, legend, mark, seconds, shade, short, verticals
from sim.engine import MS, SECOND
from sim.faults import longest_cut, sides
from sim.plan import Plan
from sim.record import Passage, Recording
from sim.svg import LEFT, Drawing

__all__ = ["space_time"]

_MOST_NODES, _MOST_FRAMES = 12, 200


class _Kind(NamedTuple):
    """A kind of frame: its colour, and how it is called."""

    css: str
    name: str


_WRITES, _SESSION = _Kind("l0 thick", "writes"), _Kind("l2 thick", "session")
_PULL, _OTHER, _EMPTY = _Kind("l1 thick", "pull"), _Kind("l7", "context and other"), _Kind("grid", "sign of life")
_KINDS: dict[type, _Kind] = {
    Gone: _Kind("l5 thick", "gone"),
    **dict.fromkeys((Offer, Open, Ready, Busy, End, Answered), _SESSION),
    Slice: _WRITES,
    Pull: _PULL,
    TooOld: _PULL,
}
"""A frame is of the first of these kinds that it holds."""


def space_time(
    recording: Recording, at_s: float | None = None, key: str | None = None, span_s: float | None = None
) -> Drawing:
    """Frames between the nodes round an instant: each from when it was sent to when the other process had it.

    Without `at_s`: what led to the violation, or what followed the end of the longest cut. With `key`, or the key of
    the violation, frames that carry it stand out, with what they say of it. With `span_s`: so long from that instant.
    """
    result, plan = recording.result, recording.result.plan
    found, cut = result.violation, longest_cut(plan)
    backwards = found is not None and at_s is None
    if at_s is not None:
        at = round(at_s * SECOND)
    elif found is not None:
        at = found.now
    else:
        at = cut.end_ms * MS if cut is not None and cut.end_ms * MS < recording.end else recording.end // 2
    key = key if key is not None or found is None or found.key is None else str(found.key)
    order = _lines_of(recording, at, key)
    if span_s is None:
        begin, end = _window(recording, at, order, backwards=backwards)
    else:
        begin, end = at, min(at + round(span_s * SECOND), recording.end)
    row = min(90.0, max(44.0, 240 / len(order)))
    bottom = TOP + 16 + row * max(len(order) - 1, 1)
    marked = f", {key!r} marked" if key is not None else ""
    drawing = Drawing(bottom + 62, f"Frames between {seconds(begin)} and {seconds(end)}{marked}")
    axis = Axis(begin, end, 24)
    drawing.rect(axis.left, TOP, axis.right - axis.left, bottom - TOP + 12, "panel")
    shade(drawing, axis, recording, TOP, bottom + 12)
    axis.draw(drawing, TOP, bottom + 12)
    heights = {node: TOP + 12 + row * number for number, node in enumerate(order)}
    for node, y in heights.items():
        drawing.text(LEFT - 8, y + 4, f"n{node}", "end")
        for running, since, until in _runs(recording, node, begin, end):
            drawing.line(axis.x(since), y, axis.x(until), y, "rule" if running else "grid")
    names: dict[str, str] = {}
    placed: list[tuple[float, float]] = []
    for passage in recording.passages:
        seen = begin <= passage.sent < end or passage.sent < begin < passage.arrived
        if seen and passage.source in heights and passage.target in heights:
            kind, said, x, y = _passage(drawing, axis, heights, passage, plan, key)
            names.setdefault(kind.name, kind.css)
            if said and x < axis.right - 50 and all(abs(x - a) > 44 or abs(y - b) > 11 for a, b in placed):
                placed.append((x, y))
                drawing.text(x + 4, y + 4, said, "over")
    for write in recording.writes:
        if begin <= write.at <= end and write.node in heights:
            radius, tip = (5 if write.key == key else 3.5), f"{write.key}: {in_words(write)}"
            mark(drawing, axis, write, heights[write.node], radius, "", tip)
    verticals(drawing, axis, recording, TOP, bottom + 12)
    legend(drawing, [(css, name) for name, css in names.items()], bottom + 46, wide=140)
    return drawing


def _lines_of(recording: Recording, at: int, key: str | None) -> list[int]:
    """The nodes to show, in the order of the sides: all of them, or those that have most to do with it."""
    plan = recording.result.plan
    order = [node for island in sides(longest_cut(plan), len(plan.machines)) for node in island]
    if len(order) <= _MOST_NODES:
        return order
    found = recording.result.violation
    near = [found.node] if found is not None and found.node >= 0 else []
    near += [write.node for write in reversed(recording.writes) if write.at <= at and key in (None, write.key)]
    kept = list(dict.fromkeys([*near, *order]))[:_MOST_NODES]
    return [node for node in order if node in kept]


def _window(recording: Recording, at: int, nodes: Sequence[int], *, backwards: bool) -> tuple[int, int]:
    """As long as there are not too many frames in it, about a second at most."""
    before = SECOND if backwards else SECOND // 5
    after = SECOND // 50 if backwards else SECOND
    times = sorted(p.sent for p in recording.passages if at - before <= p.sent <= at + after and p.source in nodes)
    if len(times) > _MOST_FRAMES:
        if backwards:
            before = at - times[-_MOST_FRAMES]
        else:
            after = max(times[_MOST_FRAMES] - at, SECOND // 20)
    return max(0, at - before), min(at + after, recording.end)


def _runs(recording: Recording, node: int, begin: int, end: int) -> Iterator[tuple[bool, int, int]]:
    """(whether a process ran, from, until) in turn."""
    samples = [s for s in recording.samples if begin <= s.at <= end]
    since = begin
    for running, group in groupby(samples, lambda s: s.behind[node] is not None):
        last = list(group)[-1]
        until = end if last is samples[-1] else last.at
        yield running, since, until
        since = until
    if not samples:
        yield True, begin, end


def _passage(
    drawing: Drawing, axis: Axis, heights: dict[int, float], passage: Passage, plan: Plan, key: str | None
) -> tuple[_Kind, str, float, float]:
    """What kind it is, what it says of the key, and where that may be written."""
    messages = passage.messages(plan)
    kind = next((kind for sort, kind in _KINDS.items() if any(isinstance(m, sort) for m in messages)), None)
    if kind is None:
        kind = _OTHER if any(not isinstance(m, Context) or m.root for m in messages) else _EMPTY
    said = [text for m in messages for k, text in _said(m) if k == key]
    names = ", ".join(dict.fromkeys(_message(m) for m in messages)) or "a sign of life"
    when = f"arrived {seconds(passage.arrived)}" if passage.arrived >= 0 else "never arrived"
    tip = f"n{passage.source} to n{passage.target}, sent {seconds(passage.sent)}, {when}: {names}; "
    tip += f"{len(passage.frame)} bytes"
    css = kind.css if said or key is None or kind is _EMPTY else f"{kind.css} faint"
    start, stop = heights[passage.source], heights[passage.target]
    x, y, to_x, to_y = axis.x(passage.sent), start, axis.x(passage.arrived), stop
    if passage.arrived < 0:
        to_x, to_y = x + 14, y + (14 if stop > start else -14)
        drawing.cross(to_x, to_y, 3, css, tip)
    else:
        slope = (stop - start) / max(passage.arrived - passage.sent, 1)  # what comes from or goes beyond the margins
        y += slope * max(axis.start - passage.sent, 0)
        to_y -= slope * max(passage.arrived - axis.end, 0)
        if passage.arrived <= axis.end and kind is not _EMPTY:
            drawing.dot(to_x, to_y, 3.5 if said else 2.2, css.replace("l", "c", 1).replace(" thick", ""), tip)
    drawing.line(x, y, to_x, to_y, css, tip)
    return kind, said[0] if said else "", (x + to_x) / 2, (y + to_y) / 2


def _message(message: Message) -> str:
    name = type(message).__name__.lower()
    keys = [str(item.key) for item in message.items] if isinstance(message, Slice) else []
    keys += [str(k) for k, _ in message.entries] if isinstance(message, Offer) else []
    keys += [str(k) for k, *_ in message.versions] if isinstance(message, Gone) else []
    return f"{name} {short(' '.join(keys), 40)}".strip()


def _said(message: Message) -> Iterator[tuple[str, str]]:
    """(key, what is said of it)."""
    if isinstance(message, Slice):
        yield from ((str(item.key), _value(item.entry[6])) for item in message.items)
    elif isinstance(message, Offer):
        yield from ((str(k), _value(entry[6])) for k, entry in message.entries)
    elif isinstance(message, Gone):
        yield from ((str(k), "gone") for k, *_ in message.versions)


def _value(value: object) -> str:
    return short(value, 10) if isinstance(value, str) else "delete"
