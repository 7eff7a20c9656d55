"""What every picture of a run has: a time axis, the cuts shaded, a line where one healed, marks for writes, words.

Decision: one time axis for all pictures of the whole run, with the same margins, so that they can be read as one.
"""

from __future__ import annotations

from collections.abc import Iterable

from sim.engine import MS, SECOND
from sim.oracle import Write
from sim.record import Recording
from sim.svg import COLOURS, LEFT, RIGHT, WIDTH, Drawing

__all__ = ["TOP", "Axis", "in_words", "legend", "mark", "named", "seconds", "shade", "short", "verticals"]

TOP = 40
"""px above the first row of a picture."""


class Axis:
    """Time from left to right: `start` and `end` in ns."""

    def __init__(self, start: int, end: int, right: int = RIGHT) -> None:
        self.start = start
        self.end = max(end, start + 1)
        self.left, self.right = LEFT, WIDTH - right

    def x(self, at: float) -> float:
        """Where an instant stands; what is outside stands at the margin."""
        part = (at - self.start) / (self.end - self.start)
        return self.left + min(max(part, 0.0), 1.0) * (self.right - self.left)

    def draw(self, drawing: Drawing, top: float, bottom: float) -> None:
        """The grid and the seconds below it."""
        span = (self.end - self.start) / SECOND
        step = next(s * 10**p for p in range(-4, 9) for s in (1, 2, 5) if span / (s * 10**p) <= 10)
        digits = max(0, 3 if step < 0.01 else 2 if step < 0.1 else 1 if step < 1 else 0)
        tick = round(-(-self.start / SECOND // step))
        while tick * step <= self.end / SECOND + 1e-9:
            x = self.x(tick * step * SECOND)
            drawing.line(x, top, x, bottom, "grid")
            drawing.text(x, bottom + 16, f"{tick * step:.{digits}f} s", "soft mid")
            tick += 1


def mark(drawing: Drawing, axis: Axis, write: Write, y: float, radius: float, css: str, tip: str = "") -> None:
    """A write: a dot, or a cross where it is a delete; hollow with the class `lost`."""
    x, colour = axis.x(write.at), write.node % COLOURS
    tip = tip or in_words(write)
    if write.removal:
        drawing.cross(x, y, radius, f"l{colour} thick {css}", tip)
    elif css == "lost":
        drawing.dot(x, y, radius, f"paper l{colour} thick", tip)
    else:
        drawing.dot(x, y, radius, f"c{colour} {css}", tip)


def named(write: Write) -> str:
    """Its value, or that it is a delete."""
    return "delete" if write.removal else short(write.value, 8)


def in_words(write: Write) -> str:
    """What was written, where and when."""
    return f"{named(write)} of n{write.node} at {seconds(write.at)}"


def shade(drawing: Drawing, axis: Axis, recording: Recording, top: float, bottom: float) -> None:
    """The cuts."""
    for fault in recording.result.plan.faults:
        begin, end = fault.start_ms * MS, fault.end_ms * MS
        if fault.kind == "cut" and end > axis.start and begin < axis.end:
            drawing.rect(axis.x(begin), top, axis.x(end) - axis.x(begin), bottom - top, "shade")


def verticals(drawing: Drawing, axis: Axis, recording: Recording, top: float, bottom: float) -> None:
    """The heals, and the violation."""
    ends = sorted({f.end_ms for f in recording.result.plan.faults if f.kind == "cut"})
    for at in ends if len(ends) <= 4 else ends[-1:]:
        if axis.start <= at * MS <= axis.end:
            x = axis.x(at * MS)
            drawing.line(x, top, x, bottom, "heal", f"heal, {seconds(at * MS)}")
            drawing.text(x, top - 5, "heal", "mid soft")
    found = recording.result.violation
    if found is not None and axis.start <= found.now <= axis.end:
        x = axis.x(found.now)
        drawing.line(x, top, x, bottom, "badline", str(found))
        drawing.text(x, top - 5, found.invariant, "mid bad")


def legend(drawing: Drawing, items: Iterable[tuple[str, str]], y: float, wide: int = 56) -> None:
    """Names beside what they stand for, in a row: (class, name); dots for filled classes, lines for the others."""
    for number, (css, name) in enumerate(items):
        x = LEFT + wide * number
        if css.startswith("c"):
            drawing.dot(x + 6, y, 5, css)
        else:
            drawing.line(x, y, x + 16, y, css)
        drawing.text(x + (14 if css.startswith("c") else 22), y + 4, name)


def seconds(at: int) -> str:
    """An instant, to the ms."""
    return f"{at / SECOND:.3f} s"


def short(text: str, most: int) -> str:
    """The text, or its beginning."""
    return text if len(text) <= most else text[: most - 3] + "..."
