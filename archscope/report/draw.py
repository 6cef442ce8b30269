"""A graph as text that others draw (Mermaid, DOT), or as a picture of its own (SVG).

Mermaid is what GitHub renders in Markdown; DOT is for Graphviz; the SVG needs neither. Colours are those of Okabe and
Ito (2008), which people of every colour vision tell apart; lines and free text are of a grey that can be read on white
and on black.
"""

import re
from collections.abc import Callable, Iterator
from html import escape
from typing import Any, NamedTuple

from archscope.core.registry import Registry
from archscope.report.graph import Block, Graph, Node, block_words, counts_words, kind_words, name_in, shape_words
from archscope.report.layout import Frame, Layout, layered

GREY = "#767676"  # contrast 4.5 to white and to black
INK = "#1a1a1a"  # on the fills below


class Look(NamedTuple):
    """Fill and line of a node."""

    fill: str
    line: str


LOOKS = {  # Okabe–Ito, the fill a third of the line
    "conv": Look("#cfe3f2", "#0072b2"),
    "dense": Look("#fbe3b5", "#b47a00"),
    "pool": Look("#c9ece0", "#009e73"),
    "merge": Look("#f6d5bf", "#d55e00"),
    "recurrent": Look("#f0d9e6", "#a3537f"),
    "block": Look("#d9effb", "#2f8fbf"),
    "io": Look("#ffffff", "#767676"),
    "other": Look("#e8e8e8", "#767676"),
}
_FAMILIES = (
    ("conv", r"Conv|^conv"),
    ("dense", r"Linear|^linear|^addmm|Embedding|^embedding"),
    ("pool", r"Pool|_pool|^mean$"),
    ("merge", r"^(cat|concat|concatenate|stack|add_?|mul_?|sub|where)$"),
    ("recurrent", r"RNN|LSTM|GRU|Attention|attention|^b?matmul$|^bmm$"),
)


def look_of(node: Node) -> str:
    """The key of LOOKS for a node."""
    if node.role != "layer":
        return "block" if node.role == "block" else "io"
    return next((name for name, pattern in _FAMILIES if re.search(pattern, node.main)), "other")


DRAWINGS: Registry[Callable[[Graph], str]] = Registry("drawing")
drawing = DRAWINGS.register


def words_of(graph: Graph, node: Node) -> list[str]:
    """The lines in a node: name, kinds, counts."""
    if node.role in ("input", "output"):
        return [node.role, shape_words(node.shape)]
    inner = [b for b in graph.blocks if node.id in b.nodes]
    block = max(inner, key=lambda b: b.level) if inner else None
    name, kinds = name_in(node, block), kind_words(node)
    if name.lower() == node.kinds[0].lower() or name.lower() == node.main.lower():
        name, kinds = kinds, ""
    name += f" × {node.times}" if node.times > 1 else ""
    return [line for line in (name, kinds, counts_words(node)) if line]


def nested(graph: Graph, block: Block | None = None, indent: str = "  ") -> Iterator[tuple[str, Node | Block | None]]:
    """Indents with the nodes and blocks as they contain each other: a block, what is in it, None at its end."""
    inside = graph.blocks if block is None else [b for b in graph.blocks if _within(b, block)]
    direct = [b for b in inside if not any(_within(b, other) for other in inside)]
    taken = {n for b in direct for n in b.nodes}
    nodes = [n for n in graph.nodes if n.id not in taken and (block is None or n.id in block.nodes)]
    items: list[tuple[int, Node | Block]] = [*((n.id, n) for n in nodes), *((min(b.nodes), b) for b in direct)]
    for _, item in sorted(items, key=lambda pair: pair[0]):
        yield indent, item
        if isinstance(item, Block):
            yield from nested(graph, item, indent + "  ")
            yield indent, None


def _within(one: Block, other: Block) -> bool:
    return one is not other and one.level > other.level and set(one.nodes) <= set(other.nodes)


# ------------------------------------------------------------------------------------------------------ Mermaid


@drawing("mermaid")
def mermaid(graph: Graph) -> str:
    """A flowchart for a ```mermaid block on GitHub."""
    out = ['%%{init: {"flowchart": {"wrappingWidth": 420}}}%%', "flowchart TD"]
    for indent, item in nested(graph):
        if isinstance(item, Node):
            text = "<br/>".join(map(_mermaid_text, words_of(graph, item)))
            left, right = ("([", "])") if item.role in ("input", "output") else ("[", "]")
            out.append(f'{indent}n{item.id}{left}"{text}"{right}:::{look_of(item)}')
        elif isinstance(item, Block):
            out.append(f'{indent}subgraph b{graph.blocks.index(item)}["{_mermaid_text(block_words(item))}"]')
        else:
            out.append(f"{indent}end")
    out += [f'  n{e.source} -->|"{shape_words(e.shape)}"| n{e.target}' for e in graph.edges]
    used = {look_of(node) for node in graph.nodes}
    out += [f"  classDef {k} fill:{v.fill},stroke:{v.line},color:{INK}" for k, v in LOOKS.items() if k in used]
    if graph.blocks:
        frames = ",".join(f"b{i}" for i in range(len(graph.blocks)))
        out += [f"  classDef frame fill:none,stroke:{GREY},stroke-dasharray:5 4", f"  class {frames} frame"]
    return "\n".join(out) + "\n"


def _mermaid_text(text: str) -> str:
    text = text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
    return text.replace("`", "'")


# ---------------------------------------------------------------------------------------------------------- DOT


@drawing("dot")
def dot(graph: Graph) -> str:
    """A digraph for Graphviz, with a cluster for each block."""
    out = [
        f"digraph {_quoted(graph.model)} {{",
        f'  bgcolor="transparent"; node [shape=box style="filled,rounded" fontname="Helvetica" fontsize=11 '
        f'fontcolor="{INK}"];',
        f'  edge [fontname="Helvetica" fontsize=10 color="{GREY}" fontcolor="{GREY}"];',
    ]
    for indent, item in nested(graph):
        if isinstance(item, Node):
            look, text = LOOKS[look_of(item)], _quoted("\n".join(words_of(graph, item)))
            out.append(f'{indent}n{item.id} [label={text} fillcolor="{look.fill}" color="{look.line}"];')
        elif isinstance(item, Block):
            out.append(f"{indent}subgraph cluster_{graph.blocks.index(item)} {{")
            out.append(
                f'{indent}  label={_quoted(block_words(item))} labeljust=l style="rounded,dashed" '
                f'color="{GREY}" fontcolor="{GREY}" fontname="Helvetica" fontsize=11;'
            )
        else:
            out.append(f"{indent}}}")
    out += [f"  n{e.source} -> n{e.target} [label={_quoted(shape_words(e.shape))}];" for e in graph.edges]
    return "\n".join([*out, "}"]) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


# ---------------------------------------------------------------------------------------------------------- SVG

FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"


def wide(text: str, size: float) -> float:
    """About how wide a text is in a sans-serif face."""
    narrow = sum(c in " .,·:;|!'iljtf()[]" for c in text)
    return size * (0.60 * (len(text) - narrow) + 0.31 * narrow)


def number(value: float) -> str:
    """A coordinate, the same on every machine: to a tenth."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def tag(name: str, text: str | None = None, **attributes: Any) -> str:
    """An element of SVG: floats to a tenth, `_` in a name for `-`. text: what it contains, escaped."""
    values = {k.replace("_", "-"): number(v) if isinstance(v, float) else v for k, v in attributes.items()}
    start = f"<{name} " + " ".join(f'{k}="{v}"' for k, v in values.items())
    return f"{start}/>" if text is None else f"{start}>{escape(text)}</{name}>"


def svg_of(graph: Graph) -> str:
    """The graph as a picture: layers from top to bottom, frames around blocks, shapes beside the lines."""
    words = {node.id: words_of(graph, node) for node in graph.nodes}
    sizes = {
        n: (max([wide(lines[0], 12) * 1.06, *(wide(line, 10.5) for line in lines[1:])]) + 20, 9.0 + 14.5 * len(lines))
        for n, lines in words.items()
    }
    titles = {i: wide(block_words(b), 11) + 24 for i, b in enumerate(graph.blocks)}
    laid = layered(graph, sizes, titles)
    body = [
        tag("rect", x=f.x, y=f.y, width=f.width, height=f.height, rx=10, fill=GREY, fill_opacity="0.07", stroke=GREY,
            stroke_dasharray="5 4")
        for f in laid.frames
    ]  # fmt: skip
    body += [*map(_way, laid.ways), *_flowing(graph, laid), *map(_title, laid.frames)]
    body += [_box(laid, node, words[node.id]) for node in graph.nodes]
    return document(laid.width, laid.height, body, f"{graph.model}: its graph")


def document(width: float, height: float, body: list[str], title: str) -> str:
    """An SVG document: transparent, named for screen readers."""
    w, h = number(width), number(height)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img" '
            f'font-family="{FONT}">',
            f"<title>{escape(title)}</title>",
            f'<defs><marker id="to" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="{GREY}"/></marker></defs>',
            *body,
            "</svg>",
            "",
        ]
    )


def _title(frame: Frame) -> str:
    """The name of a block, on a tab over its frame."""
    text = block_words(frame.block)
    tab = wide(text, 11) * 0.97 + 14
    return tag("rect", x=frame.x + 8, y=frame.y - 9, width=tab, height=18, rx=9, fill="#f4f4f4", stroke=GREY) + tag(
        "text", text, x=frame.x + 15, y=frame.y + 4, font_size=11, font_weight=600, fill=INK
    )


def _way(points: list[tuple[float, float]]) -> str:
    path = f"M{number(points[0][0])},{number(points[0][1])}"
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        end, middle = f"{number(x1)},{number(y1)}", number((y0 + y1) / 2)
        path += f" L{end}" if abs(x1 - x0) < 0.6 else f" C{number(x0)},{middle} {number(x1)},{middle} {end}"
    return tag("path", d=path, fill="none", stroke=GREY, stroke_width="1.2", marker_end="url(#to)")


def _flowing(graph: Graph, laid: Layout) -> list[str]:
    """The shape of what flows, under the node that it comes from: once where all its lines carry the same."""
    out = []
    seen: set[tuple[int, str]] = set()
    for edge, way in zip(graph.edges, laid.ways, strict=True):
        shape = shape_words(edge.shape)
        if (edge.source, shape) in seen or graph.by_id[edge.source].role == "input":
            continue
        seen.add((edge.source, shape))
        (x, y), several = way[0], sum(s == edge.source for s, _ in seen) - 1
        ends = [w[1][0] - x for e, w in zip(graph.edges, laid.ways, strict=True) if e.source == edge.source]
        side, anchor = (-6, "end") if max(ends) > 4 and min(ends) > -4 else (6, "start")  # where no line goes
        out.append(tag("text", shape, x=x + side, y=y + 12 + 11 * several, font_size=10, text_anchor=anchor, fill=GREY))
    return out


def _box(laid: Layout, node: Node, lines: list[str]) -> str:
    box, look = laid.boxes[node.id], LOOKS[look_of(node)]
    left, top = box.x - box.width / 2, box.y - box.height / 2
    round = 5 if node.role in ("layer", "block") else 12
    out = tag("rect", x=left, y=top, width=box.width, height=box.height, rx=round, fill=look.fill, stroke=look.line,
              stroke_width="1.2")  # fmt: skip
    for i, line in enumerate(lines):
        style = {"font_size": "12", "font_weight": 600} if i == 0 else {"font_size": "10.5"}
        out += tag("text", line, x=box.x, y=top + 16 + 14.5 * i, text_anchor="middle", fill=INK, **style)
    return out
