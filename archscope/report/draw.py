"""A graph as text that others draw: Mermaid and DOT; what stands in its nodes, and their colours.

Mermaid is what GitHub renders in Markdown; DOT is for Graphviz. Colours are those of Okabe and Ito (2008), which people
of every colour vision tell apart; lines and free text are of a grey that can be read on white and on black.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from archscope.core.formats.base import one_line
from archscope.core.registry import Registry
from archscope.report.graph import Block, Graph, Node, block_words, counts_words, kind_words, name_in, shape_words

GREY = "#767676"  # contrast 4.5 to white and to black
INK = "#1a1a1a"  # on the fills below


class NodeStyle(NamedTuple):
    """Fill and line of a node."""

    fill: str
    line: str


LOOKS = {  # Okabe–Ito, the fill a third of the line
    "conv": NodeStyle("#cfe3f2", "#0072b2"),
    "dense": NodeStyle("#fbe3b5", "#b47a00"),
    "pool": NodeStyle("#c9ece0", "#009e73"),
    "merge": NodeStyle("#f6d5bf", "#d55e00"),
    "recurrent": NodeStyle("#f0d9e6", "#a3537f"),
    "block": NodeStyle("#d9effb", "#2f8fbf"),
    "io": NodeStyle("#ffffff", "#767676"),
    "other": NodeStyle("#e8e8e8", "#767676"),
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


DRAWINGS: Registry[Callable[..., str]] = Registry("drawing")  # of a graph; right: from left to right
drawing = DRAWINGS.register


def words_of(graph: Graph, node: Node) -> list[str]:
    """The lines in a node: name, kinds, counts."""
    if node.role in ("input", "output"):
        return [node.path, shape_words(node.shape)]
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
def mermaid(graph: Graph, right: bool = False) -> str:
    """A flowchart for a ```mermaid block on GitHub."""
    out = ['%%{init: {"flowchart": {"wrappingWidth": 420}}}%%', f"flowchart {'LR' if right else 'TD'}"]
    for indent, item in nested(graph):
        if isinstance(item, Node):
            text = "<br/>".join(map(_mermaid_text, words_of(graph, item)))
            begin, end = ("([", "])") if item.role in ("input", "output") else ("[", "]")
            out.append(f'{indent}n{item.id}{begin}"{text}"{end}:::{look_of(item)}')
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
    text = one_line(text).replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
    return text.replace("`", "'")


# ---------------------------------------------------------------------------------------------------------- DOT


@drawing("dot")
def dot(graph: Graph, right: bool = False) -> str:
    """A digraph for Graphviz, with a cluster for each block."""
    out = [
        f"digraph {_quoted(graph.model)} {{",
        *(["  rankdir=LR;"] if right else []),
        f'  bgcolor="transparent"; node [shape=box style="filled,rounded" fontname="Helvetica" fontsize=11 '
        f'fontcolor="{INK}"];',
        f'  edge [fontname="Helvetica" fontsize=10 color="{GREY}" fontcolor="{GREY}"];',
    ]
    for indent, item in nested(graph):
        if isinstance(item, Node):
            look, text = LOOKS[look_of(item)], _quoted(*words_of(graph, item))
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


def _quoted(*lines: str) -> str:
    """Lines of text as a quoted string of DOT."""
    return '"' + "\\n".join(one_line(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'
