"""A drawing of a width, such as a column of a paper or a slide, whose text can be read there."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from archscope.core.errors import SpecError
from archscope.core.record import Trace
from archscope.report.graph import Graph, graph_of
from archscope.report.graph_svg import svg_of
from archscope.report.levels import LEVELS, at_level
from archscope.report.picture import DPI, POINTS, picture_of, size_of, smallest_text
from archscope.report.solids import is_figure, svg_of_solids

UNITS = {"in": 72.0, "cm": 72 / 2.54, "mm": 72 / 25.4, "pt": 1.0, "px": 0.75}  # in points
SMALLEST = 6.0  # points: what can be read in print
LARGEST = 0.95  # points for a pixel: text of 9 to 11 points
PAGE = 9.0 * 72  # the height of a page of text
PRINT = 300.0  # dots per inch


class Length(NamedTuple):
    """A width as it was typed, in points; slide: it is in pixels of a screen."""

    text: str
    points: float
    slide: bool

    @property
    def dpi(self) -> float:
        """Of a PNG: pixels as they were asked for, else those of print."""
        return 96.0 if self.slide else PRINT

    @property
    def tallest(self) -> float:
        """The height that one looks for: a page, or a slide of 16:9."""
        return self.points * 9 / 16 if self.slide else PAGE

    def of(self, points: float) -> str:
        """Another length in the same unit, rounded up."""
        unit = self.text.lstrip("0123456789. ")
        value = points / UNITS[unit]
        return f"{-(-value // 1):.0f}px" if unit == "px" else f"{value + 0.05:.1f}{unit}"


def length(option: str, text: str) -> Length:
    """`3.25in`, `8.5cm`, `85mm`, `240pt`, `1280px`. Raises SpecError for anything else."""
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?(in|cm|mm|pt|px)", text.strip())
    points = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not 36 <= points <= 14400:
        raise SpecError(f"{option} is a length with a unit, from 0.5in to 200in: 3.25in, 8.5cm, 85mm, 240pt or 1280px, "
                        f"not {text!r}")  # fmt: skip
    return Length(text.strip(), points, text.strip().endswith("px"))


class RequestedSize(NamedTuple):
    """What was asked for; None where nothing was."""

    level: str | None = None
    depth: int | None = None
    right: bool | None = None
    style: str = "auto"


class Drawing(NamedTuple):
    """A drawing. scale: points for a pixel; width: of its page, in points; dpi: of a PNG."""

    svg: str
    scale: float = POINTS
    width: float | None = None
    dpi: float = DPI
    level: str | None = None

    def bytes_of(self, form: str) -> str | bytes:
        """The drawing as svg, png or pdf."""
        if form != "svg":
            return picture_of(self.svg, form, self.scale, self.width, self.dpi)
        return self.svg if self.width is None else _paged(self.svg, self.scale, self.width)


def graph_for(trace: Trace, wish: RequestedSize) -> Graph:
    """The graph at the level or depth that was asked for."""
    return graph_of(trace, wish.depth) if wish.level is None else at_level(trace, wish.level)


def drawn(trace: Trace, wish: RequestedSize, wide: Length | None = None) -> Drawing:
    """A trace as a picture. wide: its width; then direction and level are those that can be read, unless asked for.

    Raises SpecError where the text would be smaller than SMALLEST.
    """
    if wide is None:
        return Drawing(next(_svgs(graph_for(trace, wish), wish, ACROSS_ANY))[0])
    found, readable = [], []
    for one in _candidates(trace, wish, wide):
        found.append(one)
        if one.scale * smallest_text(one.svg) >= SMALLEST - 1e-6:
            readable.append(one)
            if size_of(one.svg)[1] * one.scale <= wide.tallest + 1e-6:
                return one
    if readable:
        return min(readable, key=lambda one: size_of(one.svg)[1] * one.scale)
    best = max(found, key=lambda one: one.scale * smallest_text(one.svg))
    text = best.scale * smallest_text(best.svg)
    raise SpecError(
        f"at {wide.text} the smallest text would have {text:.1f} pt, and less than {SMALLEST:g} cannot be read: "
        f"--width {wide.of(wide.points * SMALLEST / text)}{_advice(trace, wish, wide)}"
    )


ACROSS_ANY = 1200.0  # how wide a row of solids is where no width is asked for


def _advice(trace: Trace, wish: RequestedSize, wide: Length) -> str:
    """What would be readable at the width."""
    if wish.right:
        other, word = wish._replace(right=False), "--direction down"
    elif wish.level not in (None, "stage") or wish.depth is not None:
        other, word = wish._replace(level="stage", depth=None), "--level stage"
    else:
        return " is enough"
    try:
        drawn(trace, other, wide)
    except SpecError:
        return " is enough"
    return f" is enough, or {word}"


def _candidates(trace: Trace, wish: RequestedSize, wide: Length) -> Iterator[Drawing]:
    """Drawings of the width, the one with the most in it first."""
    free = wish.level is None and wish.depth is None
    before = None
    for level in reversed(LEVELS) if free else (wish.level,):
        one = wish._replace(level=level)
        graph = graph_for(trace, one)
        if graph == before:
            continue
        before = graph
        for svg, least in _svgs(graph, one, wide.points / (SMALLEST / 10)):
            across, down = size_of(svg)
            scale = min(LARGEST, wide.points / across)
            scale = max(min(scale, wide.tallest / down), min(scale, SMALLEST / least))
            yield Drawing(svg, scale, wide.points, wide.dpi, level)


def _svgs(graph: Graph, wish: RequestedSize, across: float) -> Iterator[tuple[str, float]]:
    """The graph as SVG in the ways that were not excluded, and the size of its smallest text."""
    if wish.style != "graph" and not wish.right and (is_figure(graph) or wish.style == "solids"):
        for part in (1.0, 0.8, 0.65, 0.5):  # a row is about as wide, and may be wider
            svg = svg_of_solids(graph, across * part)
            yield svg, smallest_text(svg)
        if wish.style == "solids":
            return
    for right in (False, True) if wish.right is None else (wish.right,):
        for narrow, tight in ((False, False), (False, True), (True, False), (True, True)):
            if not (right and tight):
                svg = svg_of(graph, right, narrow, tight)
                yield svg, smallest_text(svg)


def _paged(svg: str, scale: float, width: float) -> str:
    """An SVG whose page has a width, with the drawing in its middle."""
    across, down = size_of(svg)
    spare = (width / scale - across) / 2
    head, rest = svg.split(">", 1)
    left = float(re.findall(r'viewBox="([-\d.]+)', head)[0])
    head = re.sub(r' width="[^"]*" height="[^"]*" viewBox="[^"]*"', "", head)
    box = f"{left - spare:.2f} 0 {across + 2 * spare:.2f} {down:.2f}"
    return f'{head} width="{width:.2f}pt" height="{down * scale:.2f}pt" viewBox="{box}">{rest}'
