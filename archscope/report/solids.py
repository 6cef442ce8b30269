"""A chain of feature maps as solids: the figure of LeNet and AlexNet that everyone knows.

A solid is as tall as its map is high (H), as deep as it is wide (W), drawn askew, and as long as it has channels (C),
as in LeCun et al. 1998, figure 2, and Krizhevsky et al. 2012, figure 2. A vector is a bar as tall as it has elements.
Lengths go with the square root: else a map of 224 hides one of 6.
"""

from typing import NamedTuple

from archscope.core.record import Shape
from archscope.report.draw import GREY, LOOKS, drawing, look_of
from archscope.report.graph import Graph, Node, counts_words, kind_words, shape_words
from archscope.report.graph_svg import svg_of
from archscope.report.svg import document, number, tag, wide

TALL = 132.0  # of the largest map
LONG = 74.0  # of the most channels
SKEW = 0.32  # how far a side that goes into the depth moves to the right and up
GAP = 20.0
ACROSS = 1200.0  # wider figures go on below
LONGEST = 40  # solids


class Solid(NamedTuple):
    """One feature map: long (channels), tall and deep (sides), as drawn."""

    node: Node
    long: float
    tall: float
    deep: float
    words: list[str]

    @property
    def width(self) -> float:
        return max(self.long + self.deep * SKEW, max((wide(w, 10.5) for w in self.words), default=0.0)) + GAP


def sides(shape: Shape | None) -> tuple[int, int, int] | None:
    """Channels, height and width of a map (`1×96×55×55`) or a vector (`1×4096`); None for anything else."""
    if shape is None or len(shape) < 2:
        return None
    if len(shape) == 4:
        return shape[1], shape[2], shape[3]
    return (shape[1], 1, 1) if len(shape) == 2 else None


def is_figure(graph: Graph) -> bool:
    """Whether the solids say it better than a graph: a chain of feature maps, not too long."""
    shown = _maps(graph)
    maps = sum(len(node.shape or ()) == 4 for node in shown)
    return graph.is_chain and 2 < len(shown) <= LONGEST and maps > 1 and all(sides(node.shape) for node in shown)


def _maps(graph: Graph) -> list[Node]:
    """The nodes that make a map of their own: neither the output again nor what is the same in another order."""
    return [
        n for n in graph.nodes if n.role != "output" and n.main not in ("Flatten", "flatten", "Dropout", "Unflatten")
    ]


def _solids(graph: Graph) -> list[Solid]:
    shown = _maps(graph)
    whole = [made for node in shown if (made := sides(node.shape)) is not None]
    most = max((c for c, h, w in whole if h * w > 1), default=1)
    vectors = max((c for c, h, w in whole if h * w == 1), default=1)
    largest = max(max(h, w) for _, h, w in whole)
    out = []
    for node in shown:
        c, h, w = sides(node.shape) or (1, 1, 1)
        if h * w == 1:  # a vector is upright
            long, tall, deep = 9.0, 14 + (TALL - 14) * (c / vectors) ** 0.5, 9.0
        else:
            long = 3 + (LONG - 3) * (min(c, most) / most) ** 0.5
            tall, deep = (6 + (TALL - 6) * (side / largest) ** 0.5 for side in (h, w))
        name = "input" if node.role == "input" else node.path + (f" × {node.times}" if node.times > 1 else "")
        kinds = kind_words(node).split(" · ") if node.role != "input" else []
        counts = counts_words(node).split(" · ") if node.role != "input" else []
        out.append(Solid(node, long, tall, deep, [w for w in (name, shape_words(node.shape), *kinds, *counts) if w]))
    return out


def svg_of_solids(graph: Graph, across: float = ACROSS) -> str:
    """The figure. Rows of about `across`; each solid with its name, shape, kinds and counts under it."""
    solids = _solids(graph)
    groups = _groups(graph, solids)
    total = sum(solid.width for solid in solids)
    count = max(1, round(total / across + 0.35))
    lines: list[list[tuple[int, list[Solid]]]] = [[]]
    for times, group in groups:  # what repeats stays in one line
        so_far = sum(s.width for _, these in lines[-1] for s in these)
        if lines[-1] and so_far + group[0].width / 2 > total / count and len(lines) < count:
            lines.append([])
        lines[-1].append((times, group))
    body: list[str] = []
    top = 26.0 if graph.blocks else 12.0
    width = 0.0
    for i, line in enumerate(lines):
        row = [solid for _, group in line for solid in group]
        base = top + max(s.tall + s.deep * SKEW for s in row)
        x = 10.0
        for times, group in line:
            start = x
            for solid in group:
                body += _drawn(solid, x + solid.width / 2, base, None if i == 0 and x == 10.0 else x - GAP / 2)
                x += solid.width
            if times > 1:
                high = max(s.tall + s.deep * SKEW for s in group)
                body.append(_brace(start + GAP / 2, x - GAP / 2, base - high, times))
        width = max(width, x + 10)
        top = base + 24 + 13.0 * max(len(s.words) for s in row) + (14.0 if graph.blocks else 0.0)
    note = "height √H, depth √W, length √C; a bar: √ of its elements"
    body.append(tag("text", note, x=14, y=top, font_size="9.5", fill=GREY))
    return document(width, top + 10, body, f"{graph.model}: its feature maps, drawn as solids")


def _groups(graph: Graph, solids: list[Solid]) -> list[tuple[int, list[Solid]]]:
    """Solids that repeat together, with how often; the others alone."""
    times = {n: (i, block.times) for i, block in enumerate(graph.blocks) if block.times > 1 for n in block.nodes}
    out: list[tuple[int, list[Solid]]] = []
    last: int | None = None
    for solid in solids:
        block, count = times.get(solid.node.id, (None, 1))
        if block is not None and block == last:
            out[-1][1].append(solid)
        else:
            out.append((count, [solid]))
        last = block
    return out


def _brace(left: float, right: float, top: float, times: int) -> str:
    """`× 5` over what repeats five times."""
    y = top - 5
    path = f"M{number(left)},{number(y)} v-5 H{number(right)} v5"
    return tag("path", d=path, fill="none", stroke=GREY, stroke_width="1.1") + tag(
        "text",
        f"× {times}",
        x=(left + right) / 2,
        y=y - 9,
        text_anchor="middle",
        font_size=11,
        font_weight=600,
        fill=GREY,
    )


def _drawn(solid: Solid, middle: float, base: float, before: float | None) -> list[str]:
    look = LOOKS[look_of(solid.node)]
    dx = solid.deep * SKEW
    x, y = middle - (solid.long + dx) / 2, base - solid.tall
    right, back = x + solid.long, y - dx

    def face(points: list[tuple[float, float]], shade: float) -> str:
        path = " ".join(f"{number(a)},{number(b)}" for a, b in points)
        return tag("polygon", points=path, fill=_darker(look.fill, shade), stroke=look.line, stroke_linejoin="round")

    out = []
    if before is not None and x - 3 - before > 7:
        path = f"M{number(before)},{number(base - 5)} H{number(x - 3)}"
        out.append(tag("path", d=path, stroke=GREY, stroke_width="1.1", fill="none", marker_end="url(#to)"))
    out += [
        face([(x, y), (x + dx, back), (right + dx, back), (right, y)], 0),
        face([(right, y), (right + dx, back), (right + dx, base - dx), (right, base)], 0.13),
        face([(x, y), (right, y), (right, base), (x, base)], 0.04),
        f'<g text-anchor="middle" font-size="10.5" fill="{GREY}">',
    ]
    for i, word in enumerate(solid.words):
        weight = {"font_weight": 600} if i < 2 else {}
        out.append(tag("text", word, x=middle, y=base + 15 + 13 * i, **weight))
    return [*out, "</g>"]


def _darker(color: str, share: float) -> str:
    return "#" + "".join(f"{round(int(color[i : i + 2], 16) * (1 - share)):02x}" for i in (1, 3, 5))


@drawing("svg")
def svg(graph: Graph, right: bool = False) -> str:
    """Solids for a chain of feature maps, layers from top to bottom for everything else.

    right: layers from left to right, also for a chain.
    """
    return svg_of_solids(graph) if is_figure(graph) and not right else svg_of(graph, right)
