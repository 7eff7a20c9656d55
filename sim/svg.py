"""A page of SVG: what the pictures of a run are drawn on.

A drawing shows itself in a notebook (`_repr_svg_`) and is put as it is into an HTML report. It carries its paper and
its colours with it, for light and for dark surroundings, so that it can be read wherever it is pasted; whatever can be
pointed at says in a tip what it is.

Decision: a hundred lines of our own, not a plotting library: nothing to install, the same bytes for the same run, and
tips and dark surroundings, which pictures made of pixels do not have. Node colours are those of Okabe and Ito (2008),
which colour-blind readers can tell apart; amounts go from pale to dark (in the dark: from dark to pale).
"""

from __future__ import annotations

from html import escape

__all__ = ["COLOURS", "LEFT", "LEVELS", "RIGHT", "WIDTH", "Drawing", "style"]

WIDTH, LEFT, RIGHT = 1000, 96, 210
"""Of every drawing, in px: its width, and the margins for what stands beside a row; so time axes stand in line."""

COLOURS = 8
"""Classes c0..c7 (filled) and l0..l7 (lines), for nodes."""

LEVELS = 7
"""Classes h1..h7, for amounts."""

_LIGHT = (
    "--paper:#fff;--panel:#f4f5f7;--ink:#1f2328;--soft:#6a737d;--grid:#e2e5e9;--shade:#dfe7f1;--down:#c3c8ce;"
    "--bad:#c2185b;--h1:#fde3a8;--h2:#fcbc4e;--h3:#f98e09;--h4:#e45a31;--h5:#bc3754;--h6:#87216b;--h7:#4a0c6b;"
    "--c0:#0072b2;--c1:#e69f00;--c2:#009e73;--c3:#cc79a7;--c4:#56b4e9;--c5:#d55e00;--c6:#a89c00;--c7:#6a737d"
)
_DARK = (
    "--paper:#15181c;--panel:#1f242a;--ink:#e6e9ed;--soft:#98a2ad;--grid:#313840;--shade:#28384c;--down:#4b545e;"
    "--bad:#ff6f9f;--h1:#57106e;--h2:#87216b;--h3:#bc3754;--h4:#e45a31;--h5:#f98e09;--h6:#fcbc4e;--h7:#fde3a8;"
    "--c0:#4aa3df;--c1:#e69f00;--c2:#23c197;--c3:#dd9abd;--c4:#8fd0f5;--c5:#f0813a;--c6:#f0e442;--c7:#98a2ad"
)
_RULES = (
    "rect{shape-rendering:crispEdges}text{font:12px system-ui,sans-serif;fill:var(--ink)}"
    "text.over{paint-order:stroke;stroke:var(--paper);stroke-width:3}text.soft{fill:var(--soft)}text.bad{fill:var(--bad)}"
    "text.head{font-weight:600;font-size:13px}text.end{text-anchor:end}text.mid{text-anchor:middle}"
    ".paper{fill:var(--paper)}.panel{fill:var(--panel)}.shade{fill:var(--shade)}.down{fill:var(--down)}"
    ".grid{stroke:var(--grid);fill:none}.rule{stroke:var(--ink);fill:none}.faint{opacity:.35}"
    ".heal{stroke:var(--ink);fill:none;stroke-dasharray:5 4}"
    ".badline{stroke:var(--bad);fill:none;stroke-width:2}.none{fill:none}.thick{stroke-width:2.2}"
)


def style() -> str:
    """The colours, as variables of the class `crdt`, and the rules of a drawing."""
    rules = [f".crdt{{{_LIGHT}}}@media(prefers-color-scheme:dark){{.crdt{{{_DARK}}}}}"]
    rules += [f".crdt {rule}}}" for rule in _RULES.split("}") if rule]
    rules += [f".crdt .h{i}{{fill:var(--h{i})}}" for i in range(1, LEVELS + 1)]
    rules += [f".crdt .c{i}{{fill:var(--c{i})}}.crdt .l{i}{{stroke:var(--c{i});fill:none}}" for i in range(COLOURS)]
    return "".join(rules)


def _px(*numbers: float) -> list[str]:
    return [f"{number:.1f}".removesuffix(".0") for number in numbers]


class Drawing:
    """One picture. Coordinates in px from the upper left; `css` are class names; `tip` is shown when pointed at."""

    def __init__(self, height: float, title: str) -> None:
        self.height = height
        self.title = title
        self._parts: list[str] = []
        self.rect(0, 0, WIDTH, height, "paper")
        self.text(12, 20, title, "head")

    def rect(self, x: float, y: float, width: float, height: float, css: str, tip: str = "") -> None:
        """A filled box."""
        a, b, c, d = _px(x, y, max(width, 0.5), height)
        self._put(f'rect x="{a}" y="{b}" width="{c}" height="{d}" class="{css}"', "rect", tip)

    def line(self, x: float, y: float, to_x: float, to_y: float, css: str, tip: str = "") -> None:
        """A straight line."""
        a, b, c, d = _px(x, y, to_x, to_y)
        self._put(f'path d="M{a} {b}L{c} {d}" class="{css}"', "path", tip)

    def path(self, points: list[tuple[float, float]], css: str) -> None:
        """A line through points."""
        self._put(f'path d="M{"L".join(" ".join(_px(x, y)) for x, y in points)}" class="{css}"', "path", "")

    def arc(self, x: float, y: float, to_x: float, height: float, css: str, tip: str = "") -> None:
        """A bow over two points on one level."""
        a, b, c, d, e = _px(x, y, (x + to_x) / 2, y - 2 * height, to_x)
        self._put(f'path d="M{a} {b}Q{c} {d} {e} {b}" class="{css}"', "path", tip)

    def dot(self, x: float, y: float, radius: float, css: str, tip: str = "") -> None:
        """A circle."""
        a, b, c = _px(x, y, radius)
        self._put(f'circle cx="{a}" cy="{b}" r="{c}" class="{css}"', "circle", tip)

    def cross(self, x: float, y: float, radius: float, css: str, tip: str = "") -> None:
        """An x."""
        a, b, c, d = _px(x - radius, x + radius, y - radius, y + radius)
        self._put(f'path d="M{a} {c}L{b} {d}M{a} {d}L{b} {c}" class="{css}"', "path", tip)

    def text(self, x: float, y: float, text: str, css: str = "") -> None:
        """A line of text; classes `end` and `mid` say which of its points stands at `x`."""
        a, b = _px(x, y)
        if text:
            self._parts.append(f'<text x="{a}" y="{b}" class="{css}">{escape(text)}</text>')

    def _put(self, element: str, name: str, tip: str) -> None:
        self._parts.append(f"<{element}><title>{escape(tip)}</title></{name}>" if tip else f"<{element}/>")

    def __repr__(self) -> str:
        return f"Drawing({self.title!r})"

    def __str__(self) -> str:
        height = _px(self.height)[0]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="crdt" role="img" aria-label="{escape(self.title)}" '
            f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" style="max-width:100%;height:auto">'
            f"<style>{style()}</style>{''.join(self._parts)}</svg>"
        )

    def _repr_svg_(self) -> str:
        return str(self)
