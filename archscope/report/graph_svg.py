"""A graph as an SVG of its own, without Graphviz: layers from top to bottom or from left to right."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from archscope.report.draw import GREY, INK, LOOKS, look_of, words_of
from archscope.report.graph import Graph, Node, block_words, shape_words
from archscope.report.layout import DROP, Frame, Layout, layered
from archscope.report.svg import document, number, tag, wide

NARROW = 118.0  # where words are to take little room, lines of more than that are broken
TIGHT = 30.0
CELL = 16.0  # of the map of what is taken

Point = tuple[float, float]


def svg_of(graph: Graph, right: bool = False, narrow: bool = False, tight: bool = False) -> str:
    """The graph as a picture: frames around blocks, shapes beside the lines.

    right: layers go from left to right. narrow: the words in a node are broken into more lines. tight: less room
    between layers that go down.
    """
    words = {node.id: _broken(words_of(graph, node)) if narrow else words_of(graph, node) for node in graph.nodes}
    sizes = {
        n: (max([wide(lines[0], 12) * 1.06, *(wide(line, 10.5) for line in lines[1:])]) + 20, 9.0 + 14.5 * len(lines))
        for n, lines in words.items()
    }
    titles = {i: wide(block_words(b), 11) + 24 for i, b in enumerate(graph.blocks)}
    drop = TIGHT if tight else DROP
    if right:
        drop = max([DROP, *(wide(shape_words(e.shape), 10) + 24 for e in graph.edges)])
    laid = layered(graph, sizes, titles, right, drop)
    body = [
        tag("rect", x=f.x, y=f.y, width=f.width, height=f.height, rx=10, fill=GREY, fill_opacity="0.07", stroke=GREY,
            stroke_dasharray="5 4")
        for f in laid.frames
    ]  # fmt: skip
    labels = list(_flowing(graph, laid, right))
    body += [_way(way, right) for way in laid.ways]
    body += [tag("text", one.text, x=one.x, y=one.y, font_size=10, text_anchor=one.anchor, fill=GREY) for one in labels]
    body += map(_title, laid.frames)
    body += [_box(laid, node, words[node.id]) for node in graph.nodes]
    left = min([0.0, *(one.rect[0] - 4 for one in labels)])
    width = max([laid.width, *(one.rect[2] + 4 for one in labels)]) - left
    return document(width, laid.height, body, f"{graph.model}: its graph", left)


def _broken(lines: list[str]) -> list[str]:
    """The lines of a node, broken at their points where they are long."""
    out = lines[:1]
    for line in lines[1:]:
        for part in line.split(" · "):
            joined = f"{out[-1]} · {part}"
            begins = len(out) == 1 or part == line.split(" · ")[0]
            if begins or wide(joined, 10.5) > NARROW:
                out.append(part)
            else:
                out[-1] = joined
    return out


def _title(frame: Frame) -> str:
    """The name of a block, on a tab over its frame."""
    text = block_words(frame.block)
    tab = wide(text, 11) * 0.97 + 14
    return tag("rect", x=frame.x + 8, y=frame.y - 9, width=tab, height=18, rx=9, fill="#f4f4f4", stroke=GREY) + tag(
        "text", text, x=frame.x + 15, y=frame.y + 4, font_size=11, font_weight=600, fill=INK
    )


def _bends(points: list[Point], right: bool) -> Iterator[tuple[Point, Point, Point, Point]]:
    """The pieces of a way as cubic curves; a straight one has its ends as the points that it is drawn to."""
    for (x0, y0), (x1, y1) in pairwise(points):
        if abs((y1 - y0) if right else (x1 - x0)) < 0.6:
            yield (x0, y0), (x0, y0), (x1, y1), (x1, y1)
        elif right:
            yield (x0, y0), ((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1), (x1, y1)
        else:
            yield (x0, y0), (x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), (x1, y1)


def _way(points: list[Point], right: bool) -> str:
    def at(point: Point) -> str:
        return f"{number(point[0])},{number(point[1])}"

    path = f"M{at(points[0])}"
    for start, one, other, end in _bends(points, right):
        path += f" L{at(end)}" if start == one else f" C{at(one)} {at(other)} {at(end)}"
    return tag("path", d=path, fill="none", stroke=GREY, stroke_width="1.2", marker_end="url(#to)")


class _Label(NamedTuple):
    """A shape beside a line."""

    text: str
    x: float
    y: float
    anchor: str

    @property
    def rect(self) -> tuple[float, float, float, float]:
        """Left, upper, right and lower side."""
        width = wide(self.text, 10)
        left = self.x - {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        return left, self.y - 8, left + width, self.y + 2


class _Occupied:
    """What is drawn where: points of lines, boxes and labels."""

    def __init__(self, laid: Layout, right: bool) -> None:
        self.points: dict[tuple[int, int], list[Point]] = {}
        for way in laid.ways:
            for curve in _bends(way, right):
                length = max(abs(curve[3][0] - curve[0][0]), abs(curve[3][1] - curve[0][1]))
                steps = max(2, int(length / 3))
                self._enter(_on(curve, i / steps) for i in range(steps + 1))
        for box in laid.boxes.values():
            self.rect(box.x - box.width / 2, box.y - box.height / 2, box.x + box.width / 2, box.y + box.height / 2)
        for f in laid.frames:
            tab = wide(block_words(f.block), 11) + 14
            self.rect(f.x + 8, f.y - 9, f.x + 8 + tab, f.y + 9)

    def rect(self, left: float, top: float, right: float, bottom: float) -> None:
        """Enter a rectangle, as points within it."""
        across, down = (max(2, int(length / 4) + 1) for length in (right - left, bottom - top))
        self._enter(
            (left + (right - left) * i / across, top + (bottom - top) * j / down)
            for i in range(across + 1)
            for j in range(down + 1)
        )

    def _enter(self, points: Iterable[Point]) -> None:
        for x, y in points:
            self.points.setdefault((int(x // CELL), int(y // CELL)), []).append((x, y))

    def within(self, rect: tuple[float, float, float, float]) -> int:
        """How many points a rectangle covers."""
        left, top, right, bottom = rect
        return sum(
            left - 2 < x < right + 2 and top - 1 < y < bottom + 1
            for i in range(int((left - 2) // CELL), int((right + 2) // CELL) + 1)
            for j in range(int((top - 1) // CELL), int((bottom + 1) // CELL) + 1)
            for x, y in self.points.get((i, j), ())
        )


def _on(curve: tuple[Point, Point, Point, Point], t: float) -> Point:
    a, b, c, d = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t * t, t**3
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = curve
    return a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3


def _flowing(graph: Graph, laid: Layout, right: bool) -> Iterator[_Label]:
    """The shape of what flows, beside the node that it comes from: once where all its lines carry the same.

    Of several places the first where it covers nothing, else the one where it covers least.
    """
    taken = _Occupied(laid, right)
    seen: set[tuple[int, str]] = set()
    for edge, way in zip(graph.edges, laid.ways, strict=True):
        shape = shape_words(edge.shape)
        if (edge.source, shape) in seen or graph.by_id[edge.source].role == "input":
            continue
        seen.add((edge.source, shape))
        several = sum(s == edge.source for s, _ in seen) - 1
        places = [_Label(shape, x, y + 11 * several, anchor) for x, y, anchor in _spots(way[0], right)]
        found = min(places, key=lambda place: taken.within(place.rect))
        taken.rect(*found.rect)
        yield found


def _spots(start: Point, right: bool) -> list[tuple[float, float, str]]:
    """Where a label may stand, the best place first: on either side of the line, near its begin and further on."""
    x, y = start
    if right:
        return [(x + 5 + far, y + side, "start") for side in (-5, 12, -16, 23, -27, 34) for far in (0, 10)]
    beside = [(x + side * near, y + far, anchor) for far in (12, 22, 31) for near in (6, 16, 28, 44)
              for side, anchor in ((1, "start"), (-1, "end"))]  # fmt: skip
    return sorted(beside, key=lambda spot: 2 * abs(spot[0] - x) + spot[1])


def _box(laid: Layout, node: Node, lines: list[str]) -> str:
    box, look = laid.boxes[node.id], LOOKS[look_of(node)]
    left, top = box.x - box.width / 2, box.y - box.height / 2
    round = 5 if node.role in ("layer", "block") else 12
    out = tag("rect", x=left, y=top, width=box.width, height=box.height, rx=round, fill=look.fill, stroke=look.line,
              stroke_width="1.2")  # fmt: skip
    for i, line in enumerate(lines):
        style: dict[str, Any] = {"font_size": "12", "font_weight": 600} if i == 0 else {"font_size": "10.5"}
        out += tag("text", line, x=box.x, y=top + 16 + 14.5 * i, text_anchor="middle", fill=INK, **style)
    return out
