"""The live board: one block of aligned lines that is redrawn in place, or plain lines where there is no terminal.

Decision: plain ANSI (up, clear to the end of the line, hide the cursor), no alternate screen: the last board
stays in the scrollback with the verdict below it. A line is cut to the width *before* colour is added, and
the block to the height, because a line that wraps or scrolls would break the way back up.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TextIO

from crdtcache.demo.figures import Delivery, ServiceFigures, totals
from crdtcache.demo.script import PHASES
from crdtcache.demo.verdict import Check

__all__ = ["Board", "View", "matrix_lines", "render", "verdict_lines"]

_BOLD, _DIM, _RED, _GREEN, _YELLOW, _CYAN = (f"\x1b[{code}m" for code in (1, 2, 31, 32, 33, 36))
_END = "\x1b[0m"
_STATE = {"running": _GREEN, "cut off": _YELLOW, "killed": _RED, "starting": _DIM}
_SERVICE_HEAD = (
    f"{'service':<10}{'pid':>8}{'req/s':>8}{'hits':>8}{'shared':>8}{'saved':>10}{'keys':>7}{'peers':>7}"
    f"  {'digest':<17} state"
)
_LEGEND = "shared: hits on the work of another process   saved: time that hits did not spend on analysis"
_NEWS_LINES, _FEW_NEWS = 7, 3
_PLAIN_EVERY = 5.0  # seconds between the summary lines of a run without a terminal


@dataclass
class View:
    """What the board shows; the conductor keeps it up to date."""

    seconds: float = 0.0
    limit: float = 0.0
    phase: str = PHASES[0]
    services: list[ServiceFigures] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    relay: dict[str, int] = field(default_factory=dict)
    news: list[str] = field(default_factory=list)


def render(view: View, width: int = 100, height: int = 50, *, colour: bool = False) -> list[str]:
    """The block, line by line, none wider than `width`; of at most `height` lines, where need be without gaps."""
    regions = list(dict.fromkeys(each.region for each in view.services))
    clock = f"{view.seconds:5.1f} / {view.limit:.0f} s"
    title = f"crdtcache demo   {len(regions)} regions, {len(view.services)} processes"
    gap = ("", "")
    rows = [
        (f"{title}{clock:>{max(1, min(width, 96) - len(title))}}", _BOLD),
        gap,
        (_phase_line(view.phase), _CYAN),
        gap,
        (_SERVICE_HEAD, _DIM),
        *((_service_line(each), _STATE.get(each.state, "")) for each in view.services),
        (_total_line(view.services), _BOLD),
        (_LEGEND, _DIM),
        gap,
        *((line, "" if n else _DIM) for n, line in enumerate(matrix_lines(view.deliveries))),
        gap,
        (_relay_line(view.relay), _DIM),
        gap,
    ]
    if len(rows) + _FEW_NEWS > height:
        rows = [row for row in rows if row != gap]
    room = min(_NEWS_LINES, max(1, height - len(rows)))
    rows = [*rows[: height - room], *((line, "") for line in view.news[-room:])]
    return [_paint(text[:width].rstrip(), style if colour else "") for text, style in rows]


def matrix_lines(deliveries: list[Delivery]) -> list[str]:
    """Write-to-visible as a table, a row per writer's region and a column per reader's."""
    regions = list(dict.fromkeys(each.source for each in deliveries))
    lines = ["write to visible, ms:  p50 / p99  (one-way delay of the relay)"]
    if not regions:
        return lines
    lines.append("".join(["from    to ", *(f"{region:^24}" for region in regions)]).rstrip())
    for source in regions:
        cells = [_cell(each) for each in deliveries if each.source == source]
        lines.append(f"{source:<11}{''.join(cells)}".rstrip())
    return lines


def verdict_lines(checks: list[Check], *, colour: bool = False) -> list[str]:
    """The verdict, one aligned line per check and one for all."""
    lines = [_paint("verdict", _BOLD if colour else "")]
    for check in checks:
        mark, style = ("ok", _GREEN) if check.ok else ("FAILED", _RED)
        lines.append(f"  {_paint(f'{mark:<7}', style if colour else '')} {check.name:<10} {check.text}")
    failed = [check.name for check in checks if not check.ok]
    text = f"  does not hold: {', '.join(failed)}" if failed else "  everything holds"
    lines.append(_paint(text, (_RED if failed else _GREEN) if colour else ""))
    return lines


class Board:
    """Writes to `out`: in place if `live`, else plain lines as things happen."""

    def __init__(self, out: TextIO, *, live: bool, colour: bool) -> None:
        self._out = out
        self._live = live
        self._colour = colour
        self._drawn = 0
        self._told = 0
        self._next_plain = 0.0
        if live:
            self._write("\x1b[?25l")

    @classmethod
    def on(cls, out: TextIO) -> Board:
        """As `out` allows: live on a terminal that knows ANSI, coloured unless NO_COLOR is set."""
        live = out.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}
        return cls(out, live=live, colour=live and not os.environ.get("NO_COLOR"))

    def show(self, view: View) -> None:
        """Draw `view`, or tell what is new in it."""
        if self._live:
            self._redraw(view)
            return
        for line in view.news[self._told :]:
            self._write(line + "\n")
        self._told = len(view.news)
        # Nobody works at the start and at the end; there what expires, in each process by its own timer, would be told.
        if view.phase not in (PHASES[0], PHASES[-1]) and view.seconds >= self._next_plain:
            self._next_plain = view.seconds - view.seconds % _PLAIN_EVERY + _PLAIN_EVERY
            self._write(_plain_line(view) + "\n")

    def end(self, view: View, checks: list[Check]) -> None:
        """The last board and the verdict below it."""
        self.show(view)
        lines = [] if self._live else ["", *matrix_lines(view.deliveries), _relay_line(view.relay)]
        self._write("\n".join([*lines, "", *verdict_lines(checks, colour=self._colour)]) + "\n")

    def close(self) -> None:
        """Give the terminal back."""
        if self._live:
            self._live = False
            self._write("\x1b[?25h")

    def _redraw(self, view: View) -> None:
        columns, height = _size(self._out)
        lines = render(view, columns - 1, height - 1, colour=self._colour)
        lines += [""] * (min(self._drawn, height - 1) - len(lines))
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._write(up + "\r" + "".join(f"{line}\x1b[K\n" for line in lines))
        self._drawn = len(lines)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _size(out: TextIO) -> tuple[int, int]:
    """(columns, lines) of the terminal behind `out`, which is stderr where stdout carries JSON."""
    with suppress(OSError, ValueError):
        size = os.get_terminal_size(out.fileno())
        if size.columns and size.lines:
            return size.columns, size.lines
    return shutil.get_terminal_size()


def _paint(text: str, style: str) -> str:
    return f"{style}{text}{_END}" if style and text else text


def _phase_line(phase: str) -> str:
    return "  ".join(f"[{each.upper()}]" if each == phase else f" {each} " for each in PHASES)


def _service_line(each: ServiceFigures) -> str:
    counts, pid, digest = each.counts, str(each.pid or "-"), each.digest or "-"
    return (
        f"{each.name:<10}{pid:>8}{each.rate:>8.1f}{_share(counts, 'hits'):>8}{_share(counts, 'shared'):>8}"
        f"{_duration(counts.get('saved_us', 0) / 1000):>10}{each.keys:>7}{each.peers:>7}  {digest:<17} {each.state}"
    )


def _total_line(services: list[ServiceFigures]) -> str:
    total, rate = totals(services), sum(each.rate for each in services)
    counts = total._asdict()
    return (
        f"{'all':<10}{'':>8}{rate:>8.1f}{_share(counts, 'hits'):>8}{_share(counts, 'shared'):>8}"
        f"{_duration(total.saved_ms):>10}{'':>7}{'':>7}  {_digests_told(services)}"
    )


def _plain_line(view: View) -> str:
    total, rate = totals(view.services), sum(each.rate for each in view.services)
    counts = total._asdict()
    return (
        f"{view.seconds:6.1f} s  {rate:.0f} requests/s, {_share(counts, 'hits')} hits, "
        f"{_share(counts, 'shared')} on the work of another process, {_duration(total.saved_ms)} saved, "
        f"{_digests_told(view.services)}"
    )


def _digests_told(services: list[ServiceFigures]) -> str:
    digests = [each.digest for each in services if each.digest]
    if len(set(digests)) > 1:
        return f"{len(set(digests))} digests, changes are under way"
    if len(digests) < len(services):
        return f"{len(digests)} of {len(services)} have reported"
    return f"all {len(digests)} digests equal"


def _share(counts: dict[str, int], name: str) -> str:
    requests = counts.get("requests", 0)
    return f"{100 * counts.get(name, 0) / requests:.1f}%" if requests else "-"


def _duration(ms: float) -> str:
    return f"{ms / 1000:.2f} s" if ms >= 10_000 else f"{ms:.0f} ms"


def _cell(each: Delivery) -> str:
    if each.p50 is None or each.p99 is None:
        return f"{'-':>7} / {'-':<6} ({each.one_way_ms:g})".ljust(24)
    return f"{each.p50:>7.1f} / {each.p99:<6.1f} ({each.one_way_ms:g})".ljust(24)


def _relay_line(counts: dict[str, int]) -> str:
    def count(name: str) -> int:
        return counts.get(name, 0)

    return (
        f"relay: {count('open')} open, {count('relayed_bytes') / 1000:.0f} kB carried, "
        f"{count('reset')} reset, {count('refused')} refused, {count('dropped_bytes')} bytes in flight dropped"
    )
