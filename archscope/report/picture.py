"""An SVG of archscope as PNG or PDF, drawn with matplotlib and the fonts that come with it: the same on every machine.

What archscope draws has few elements: `rect`, `line`, `path` (M, L, C, H, v), `polygon`, `text`, `g` and the arrow at
the end of a path. Another element is an error. Nothing is read but the text of the SVG.
"""

import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any

from archscope.core.errors import SpecError

NAMESPACE = "{http://www.w3.org/2000/svg}"
POINTS = 0.75  # of a pixel of CSS: 96 make an inch
FACE = 0.94  # DejaVu Sans at this size is about as wide as Helvetica, for which the texts have room
BOLD = 0.9
DPI = 192.0  # of a PNG whose width is not asked for: two pixels for one of the SVG
_STEP = re.compile(r"([MLCHv])([^MLCHv]*)")

Style = Mapping[str, str]


def picture_of(svg: str, form: str, scale: float = POINTS, width: float | None = None, dpi: float = DPI) -> bytes:
    """The bytes of a png or a pdf. scale: points for a pixel of the SVG. width: of the page, in points, the drawing in
    its middle; None: that of the drawing. dpi: of a png. Raises SpecError where matplotlib is missing."""
    root = ET.fromstring(svg)
    left, top, across, down = map(float, root.get("viewBox", "").split())
    page = across * scale if width is None else width
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.backends.backend_pdf import FigureCanvasPdf
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SpecError("PNG and PDF need matplotlib: pip install matplotlib") from error
    with rc_context({"pdf.fonttype": 42, "path.simplify": False, "text.hinting": "no_hinting"}):
        figure = Figure((page / 72, down * scale / 72))
        (FigureCanvasPdf if form == "pdf" else FigureCanvasAgg)(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        spare = (page / scale - across) / 2
        axes.set(xlim=(left - spare, left + across + spare), ylim=(top + down, top))
        axes.set_axis_off()
        for number, (element, style) in enumerate(_elements(root, {})):
            for artist in _artists(element, style, scale):
                artist.set_zorder(number)  # in the order of the SVG
                axes.add_artist(artist)
        title = root.findtext(f"{NAMESPACE}title", "")
        said: dict[str, Any] = {"Title": title, "CreationDate": None} if form == "pdf" else {"Title": title}
        said |= {"Creator": "archscope", "Producer": "archscope"} if form == "pdf" else {"Software": None}
        out = io.BytesIO()
        figure.savefig(out, format=form, dpi=dpi, transparent=form == "pdf", facecolor="white", metadata=said)
    return out.getvalue()


def smallest_text(svg: str) -> float:
    """The size of the smallest text, in pixels of the SVG."""
    texts = [style for element, style in _elements(ET.fromstring(svg), {}) if _name(element) == "text"]
    return FACE * min((float(style["font-size"]) for style in texts), default=12.0)


def size_of(svg: str) -> tuple[float, float]:
    """Width and height of an SVG, in its pixels."""
    _, _, across, down = map(float, ET.fromstring(svg).get("viewBox", "").split())
    return across, down


def _name(element: ET.Element) -> str:
    return element.tag.removeprefix(NAMESPACE)


def _elements(parent: ET.Element, inherited: Style) -> Iterator[tuple[ET.Element, Style]]:
    """What is drawn, each with its own style and that of the groups around it."""
    for element in parent:
        if _name(element) in ("title", "defs"):
            continue
        style = {**inherited, **element.attrib}
        if _name(element) == "g":
            yield from _elements(element, style)
        else:
            yield element, style


def _artists(element: ET.Element, style: Style, scale: float) -> Iterator[Any]:
    """The artists of matplotlib for an element."""
    from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon, Rectangle
    from matplotlib.text import Text

    def value(key: str) -> float:
        return float(style.get(key, 0))

    name = _name(element)
    if name == "text":
        weight, face = ("bold", BOLD) if style.get("font-weight", "400") >= "600" else ("normal", FACE)
        place = {"start": "left", "middle": "center", "end": "right"}[style.get("text-anchor", "start")]
        yield Text(
            value("x"), value("y"), (element.text or "").replace("$", r"\$"), color=style["fill"], ha=place,
            va="baseline", fontsize=value("font-size") * scale * face, fontfamily="DejaVu Sans", fontweight=weight,
        )  # fmt: skip
        return
    look: dict[str, Any] = {
        "facecolor": _color(style.get("fill", "black"), style.get("fill-opacity")),
        "edgecolor": _color(style.get("stroke", "none")),
        "linewidth": float(style.get("stroke-width", 1)) * scale if "stroke" in style else 0.0,
        "joinstyle": "round" if style.get("stroke-linejoin") == "round" else "miter",
    }
    if dashes := style.get("stroke-dasharray"):
        width = float(style.get("stroke-width", 1))
        look["linestyle"] = (0, [float(dash) / width for dash in re.split(r"[ ,]+", dashes)])
    if name == "rect":
        corner, size = (value("x"), value("y")), (value("width"), value("height"))
        radius = min(value("rx"), *(side / 2 for side in size))
        if radius:
            yield FancyBboxPatch(corner, *size, boxstyle=f"round,pad=0,rounding_size={radius}", **look)
        else:
            yield Rectangle(corner, *size, **look)
    elif name == "polygon":
        yield Polygon([tuple(map(float, pair.split(","))) for pair in style["points"].split()], closed=True, **look)
    elif name == "line":
        yield Polygon([(value("x1"), value("y1")), (value("x2"), value("y2"))], closed=False, **look)
    elif name == "path":
        path = _path(style["d"])
        if "marker-end" not in style:
            yield PathPatch(path, capstyle="butt", **look)
            return
        head = _arrow(path.vertices, float(style.get("stroke-width", 1)))
        yield PathPatch(path, capstyle="butt", **look)
        yield Polygon(head, closed=True, facecolor=look["edgecolor"], edgecolor="none", linewidth=0)
    else:
        raise ValueError(f"an SVG of archscope has no <{name}>")


def _color(text: str, opacity: str | None = None) -> Any:
    return "none" if text == "none" else text if opacity is None else (text, float(opacity))


def _path(data: str) -> Any:
    from matplotlib.path import Path

    codes: list[Any] = []
    points: list[tuple[float, float]] = []
    for letter, text in _STEP.findall(data):
        numbers = [float(one) for one in re.findall(r"-?[\d.]+", text)]
        x, y = points[-1] if points else (0.0, 0.0)
        if letter in "HLMv":
            codes.append(Path.MOVETO if letter == "M" else Path.LINETO)
            points.append(
                (numbers[0], y) if letter == "H" else (x, y + numbers[0]) if letter == "v" else (numbers[0], numbers[1])
            )
        else:
            codes += [Path.CURVE4] * 3
            points += list(zip(numbers[::2], numbers[1::2], strict=True))
    return Path(points, codes)


def _arrow(points: Any, width: float) -> list[tuple[float, float]]:
    """The head of an arrow at the end of a path, as the marker `to` has it: 7 widths of the line long."""
    (x0, y0), (x1, y1) = next((p, points[-1]) for p in reversed(points[:-1]) if tuple(p) != tuple(points[-1]))
    turn, size = math.atan2(y1 - y0, x1 - x0), 7 / 8 * width
    corners = ((-7.0, -3.5), (1.0, 0.0), (-7.0, 3.5))  # of the marker, from its reference
    return [
        (x1 + size * (a * math.cos(turn) - b * math.sin(turn)), y1 + size * (a * math.sin(turn) + b * math.cos(turn)))
        for a, b in corners
    ]
