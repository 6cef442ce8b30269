"""Trace -> the graph that is drawn: nodes, edges with shapes, blocks, and repeated blocks once.

The ids of the tensors are the edges, so nothing is needed but the record. A normalisation, an activation or a dropout
is drawn in the node that it belongs to ("Conv2d 3×3 · BatchNorm2d · ReLU"), reshaping that computes nothing is an edge,
and a block that follows itself is drawn once, with a count.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from archscope.analysis.metrics import METRICS
from archscope.analysis.row import Row, rows, visible
from archscope.analysis.texts import window_text
from archscope.analysis.verification import WHOLE
from archscope.core.formats import show
from archscope.core.record import Layer, Shape, Tensor, Trace

MOST = 60  # nodes: of a larger graph the blocks within blocks are closed
TOO_MANY = 150  # beyond that every block is, and where there are more lines than GitHub's Mermaid takes (500)
LINES = 300
OUTPUTS = 4  # tensors that have a node each; more are one node

# what is drawn in the node before it (or behind it) instead of in one of its own
_BESIDE = re.compile(
    r".*(Norm\d?d?|norm)$|.*(ReLU6?|relu6?_?|GELU|gelu|SiLU|silu_?|Sigmoid|sigmoid_?|Tanh|tanh_?|Hardswish|hardswish_?|"
    r"Hardsigmoid|hardsigmoid_?|Hardtanh|hardtanh_?|ELU|Mish|Dropout\d?d?|dropout_?|Softmax|softmax|LogSoftmax|log_softmax)$"
)
_MERGES = frozenset("cat concat concatenate stack add add_ mul mul_ sub where matmul bmm".split())
_NAMELESS = frozenset(("Sequential", "ModuleList", "ModuleDict"))


@dataclass(frozen=True)
class Node:
    """One box.

    kinds: the row's kind and those drawn with it, in run order. window: `3×3/2 p1`. shape: of its output. params, macs:
    raw, None where unknown; one for each of the `times` that the node runs. role:
    "input", "output", "layer" or "block" (a closed container). weighted: whether it multiplies by weights.
    """

    id: int
    path: str
    kinds: tuple[str, ...]
    window: str = ""
    shape: Shape | None = None
    params: tuple[int, ...] = (0,)
    macs: tuple[int | None, ...] = (0,)
    role: str = "layer"
    times: int = 1
    inside: tuple[int, ...] = ()  # the enclosing layer calls, outermost first (indices of trace.layers)

    @property
    def main(self) -> str:
        """The kind that gives the node its name: the first that is not an activation or normalisation."""
        return next((kind for kind in self.kinds if not _BESIDE.match(kind)), self.kinds[0])


class Edge(NamedTuple):
    """From node to node, with the shape that flows."""

    source: int
    target: int
    shape: Shape


@dataclass(frozen=True)
class Block:
    """Nodes that are drawn within one frame. path: "layer1.1", kind: "Bottleneck".

    times: how often what is in it repeats; what: which of its parts that is, "" for the whole. level: 1 for a
    frame in no other.
    """

    path: str
    kind: str
    nodes: tuple[int, ...]
    times: int = 1
    level: int = 1
    what: str = ""


@dataclass(frozen=True)
class Graph:
    """What is drawn. nodes in run order; blocks, outer ones first; batch: the first side where every shape has it."""

    model: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def by_id(self) -> dict[int, Node]:
        return {node.id: node for node in self.nodes}

    @property
    def is_chain(self) -> bool:
        """Whether every node has one way in and one way out at most."""
        into, out = [e.target for e in self.edges], [e.source for e in self.edges]
        return len(set(into)) == len(into) and len(set(out)) == len(out)


# ------------------------------------------------------------------------------------------------------- words


def shape_words(shape: Shape | None) -> str:
    """`64×56×56`: without a batch of one; `scalar` for a single number."""
    if shape is None:
        return ""
    if not shape:
        return "scalar"
    return show(shape[1:] if len(shape) > 1 and shape[0] == 1 else shape, "shape")


def counts_words(node: Node) -> str:
    """`9,408 params · 118.0 M MACs`, the smallest and largest where a repeated node has several; empty for none."""
    words = [f"{_span(node.params)} params"] if any(node.params) else []
    if None in node.macs:
        words.append("MACs unknown")
    elif any(node.macs):
        words.append(f"{_span(node.macs)} MACs")
    return " · ".join(words)


def _span(values: Sequence[Any]) -> str:
    values = [value for value in values if value] or values  # a module that runs again has its parameters once
    least, most = show(min(values), "scaled"), show(max(values), "scaled")
    return least if least == most else f"{least} to {most}"


def kind_words(node: Node) -> str:
    """`Conv2d 3×3/2 p1 · BatchNorm2d · ReLU`."""
    return " · ".join(f"{kind} {node.window}".strip() if kind == node.main else kind for kind in node.kinds)


def name_in(node: Node, block: Block | None) -> str:
    """The node's path within its frame."""
    return node.path if block is None else node.path.removeprefix(f"{block.path}.")


def block_words(block: Block) -> str:
    """`layer1.1 Bottleneck × 2`."""
    kind = "" if block.kind in _NAMELESS else block.kind
    name = f"{block.path} {kind}".strip() + (f": {block.what}" if block.what else "")
    return f"{name} × {block.times}" if block.times > 1 else name


# ------------------------------------------------------------------------------------------------ nodes and edges


class _GraphBuilder:
    """The graph while it is made: nodes by id, edges between them."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.nodes: dict[int, Node] = {}
        self.into: dict[int, dict[Edge, None]] = {}
        self.out: dict[int, dict[Edge, None]] = {}
        self.maker: dict[int, tuple[int, ...]] = {}  # tensor id -> the nodes that it comes from

    def from_rows(self, depth: int | None, closed: frozenset[str]) -> None:
        trace = self.trace
        table = [row for row in rows(trace, depth, WHOLE | closed) if row.stop > row.start or row.inputs]
        params, macs = METRICS["params"].of(trace, table), METRICS["macs"].of(trace, table)
        for name, tensor in zip(_numbered("input", len(trace.inputs)), trace.inputs, strict=True):
            self._enter(Node(len(self.nodes), name, ("Input",), shape=tensor.shape, role="input"), (), (tensor,))
        enclosing = _enclosing(trace, table)
        used = {tensor.id: i for i, op in enumerate(trace.ops) for tensor in op.inputs}  # by which operator last
        for i, row in enumerate(table):
            taken = self._taken(row)
            made = row.outputs if row.outputs else trace.ops[row.stop - 1].outputs if row.stop > row.start else ()
            ran = trace.ops[row.start : row.stop]  # an object among the outputs may hold what others take
            made += tuple(t for op in ran for t in op.outputs if used.get(t.id, 0) >= row.stop and t not in made)
            if row.stop == row.start or not visible(trace, row):  # an identity or a view: its input goes on
                for tensor in made:
                    if tensor.id not in self.maker:
                        self.maker[tensor.id] = tuple(n for t in taken for n in self.maker.get(t.id, ()))
                continue
            if not taken and not params[i] and not macs[i]:
                continue  # a constant: it does not come from the input
            whole = row.layer is not None and row.kind not in WHOLE and _has_inside(trace, row.layer)
            node = Node(
                len(self.nodes),
                row.path,
                (row.kind,),
                window_text(row.config) if row.layer is not None else "",
                made[0].shape if made else None,
                (params[i],),
                (macs[i],),
                "block" if whole else "layer",
                inside=enclosing[i],
            )
            self._enter(node, taken, made)
        last = trace.layers[0].outputs if trace.layers else ()
        ends = list({t.id: t for t in last if self.maker.get(t.id)}.values())
        groups = [[end] for end in ends] if len(ends) <= OUTPUTS else [ends]
        for name, group in zip(_numbered("output", len(groups)), groups, strict=True):
            words = name if len(group) == 1 else f"{len(group)} outputs"
            self._enter(Node(len(self.nodes), words, ("Output",), shape=group[0].shape, role="output"), group, ())
        if ends:
            self._without_dead_ends()

    def _without_dead_ends(self) -> None:
        """Leave out what has no weights and leads to no output, such as a mask that is made and not used."""
        for number in sorted(self.nodes, reverse=True):
            node = self.nodes[number]
            if node.role == "layer" and not self.out.get(number) and not any(node.params) and not any(node.macs):
                for edge in self.into.pop(number, ()):
                    self.out[edge.source].pop(edge)
                del self.nodes[number]

    def _taken(self, row: Row) -> list[Tensor]:
        """The tensors that a row takes from others: those that were made before it."""
        seen: dict[int, Tensor] = {}
        inside: set[int] = set()
        for op in self.trace.ops[row.start : row.stop]:
            seen |= {t.id: t for t in op.inputs if self.maker.get(t.id) and t.id not in inside and t.id not in seen}
            inside.update(t.id for t in op.outputs)
        if row.stop == row.start:
            seen = {t.id: t for t in row.inputs if self.maker.get(t.id)}
        return list(seen.values())

    def _enter(self, node: Node, taken: Iterable[Tensor], made: Iterable[Tensor]) -> None:
        self.nodes[node.id] = node
        for tensor in taken:
            for source in self.maker.get(tensor.id, ()):
                self._link(Edge(source, node.id, tensor.shape))
        for tensor in made:
            self.maker[tensor.id] = (node.id,)

    def _link(self, edge: Edge) -> None:
        self.out.setdefault(edge.source, {})[edge] = None
        self.into.setdefault(edge.target, {})[edge] = None

    @property
    def edges(self) -> list[Edge]:
        """Every edge, by its ends."""
        return sorted(edge for edges in self.out.values() for edge in edges)

    def join(self) -> None:
        """Draw normalisations and activations in the node before them, or else in the one behind them."""
        for before in (True, False):
            for number in sorted(self.nodes, reverse=not before):
                node = self.nodes.get(number)
                into = {e.source for e in self.into.get(number, ())}
                out = {e.target for e in self.out.get(number, ())}
                if node is None or node.role != "layer" or not all(map(_BESIDE.match, node.kinds)):
                    continue
                if len(into) != 1 or not before and len(out) != 1:
                    continue
                other = self.nodes[next(iter(into if before else out))]
                ends = {e.target for e in self.out[other.id]} if before else {e.source for e in self.into[other.id]}
                if len(ends) == 1 and other.role == "layer" and self._near(other, node):
                    if before or not _is_merge(other):
                        self._merge(other.id, number, before)

    def _near(self, one: Node, other: Node) -> bool:
        """Whether two nodes stand in one block; a mere sequence is none."""
        if _is_merge(one):
            return one.inside == other.inside
        apart = {*one.inside} ^ {*other.inside}
        return all(self.trace.layers[i].kind in _NAMELESS for i in apart)

    def _merge(self, keep: int, drop: int, before: bool) -> None:
        """Draw one node in another. before: that runs first."""
        kept, gone = self.nodes[keep], self.nodes.pop(drop)
        first, last = (kept, gone) if before else (gone, kept)
        macs = None if None in (kept.macs[0], gone.macs[0]) else kept.macs[0] + gone.macs[0]  # type: ignore[operator]
        self.nodes[keep] = replace(
            kept,
            kinds=first.kinds + last.kinds,
            shape=last.shape,
            params=(kept.params[0] + gone.params[0],),
            macs=(macs,),
        )
        for edge in [*self.into.pop(drop, ()), *self.out.pop(drop, ())]:
            self.out.get(edge.source, {}).pop(edge, None)
            self.into.get(edge.target, {}).pop(edge, None)
            source, target = (keep if end == drop else end for end in (edge.source, edge.target))
            if source != target:
                self._link(Edge(source, target, edge.shape))


def _numbered(word: str, count: int) -> list[str]:
    """`input`, or `input 1` and `input 2`."""
    return [word] if count == 1 else [f"{word} {i}" for i in range(1, count + 1)]


def _is_merge(node: Node) -> bool:
    return node.kinds[0] in _MERGES


def _has_inside(trace: Trace, layer: Layer) -> bool:
    return any(y.depth == layer.depth + 1 and layer.start <= y.start and y.stop <= layer.stop for y in trace.layers)


def _enclosing(trace: Trace, table: Sequence[Row]) -> list[tuple[int, ...]]:
    """For each row, the calls of the modules around it, outermost first, the root left out."""
    around: list[list[int]] = [[] for _ in range(len(trace.ops) + 1)]  # by operator
    for i, layer in enumerate(trace.layers):
        for at in range(layer.start, layer.stop if i else 0):
            around[at].append(i)
    depths = [row.layer.depth if row.layer is not None else row.depth for row in table]
    return [
        tuple(i for i in around[row.start] if trace.layers[i].depth < depth)
        for row, depth in zip(table, depths, strict=True)
    ]


# --------------------------------------------------------------------------------------------- blocks and repeats


@dataclass
class _Item:
    """A node, or a container with its items. layer: the container's call."""

    nodes: list[Node]
    layer: int | None = None
    items: list["_Item"] = field(default_factory=list)


def _tree(nodes: Iterable[Node], level: int = 0) -> list[_Item]:
    out: list[_Item] = []
    for node in nodes:
        container = node.inside[level] if len(node.inside) > level else None
        if container is not None and out and out[-1].layer == container:
            out[-1].nodes.append(node)
        else:
            out.append(_Item([node], container))
    for item in out:
        if item.layer is not None:
            item.items = _tree(item.nodes, level + 1)
    return out


def _instance(items: Sequence[_Item], at: int, period: int, k: int = 0) -> list[Node]:
    """The nodes of the k-th instance of what begins at an item and repeats after so many."""
    return [node for item in items[at + k * period : at + (k + 1) * period] for node in item.nodes]


def _signature(raw: _GraphBuilder, nodes: Sequence[Node], relaxed: bool) -> tuple[Any, ...]:
    """What is equal in nodes that are drawn once. relaxed: widths may differ, as in concatenated maps."""
    place = {node.id: i for i, node in enumerate(nodes)}
    found: list[Any] = []
    for node in nodes:
        loose = relaxed and not any(node.params)
        shape = node.shape[2:] if loose and node.shape else node.shape
        found.append((node.kinds, node.window, shape, None if relaxed else node.macs))
    edges = sorted((place[e.source], place[e.target]) for n in place for e in raw.out.get(n, ()) if e.target in place)
    return (*found, tuple(edges))


def _runs(raw: _GraphBuilder, items: list[_Item]) -> Iterator[tuple[int, int, int]]:
    """(start, period, times) of what repeats, the longest first come."""

    @functools.cache
    def signature(i: int, period: int, relaxed: bool) -> tuple[Any, ...]:
        return _signature(raw, _instance(items, i, period), relaxed)

    at = 0
    while at < len(items):
        best = (at, 1, 1)
        for period in range(1, min(4, (len(items) - at) // 2) + 1):
            relaxed = any(node.kinds[0].startswith("cat") for node in _instance(items, at, period))
            times, most = 1, (len(items) - at) // period
            while times < most and signature(at, period, relaxed) == signature(at + times * period, period, relaxed):
                times += 1
            while times > 1 and not _in_line(raw, [_instance(items, at, period, k) for k in range(times)]):
                times -= 1
            if times > 1 and times * period > best[1] * best[2]:
                best = (at, period, times)
        if best[2] > 1:
            yield best
        at += best[1] * best[2]


def _in_line(raw: _GraphBuilder, instances: Sequence[Sequence[Node]]) -> bool:
    """Whether each instance follows from the one before it, apart from what all of them share."""
    number = {node.id: k for k, nodes in enumerate(instances) for node in nodes}
    into: dict[int, set[int]] = {}
    out: dict[int, set[int]] = {}
    linked: set[int] = set()
    for edge in {e: None for n in number for e in (*raw.into.get(n, ()), *raw.out.get(n, ()))}:
        a, b = number.get(edge.source), number.get(edge.target)
        if a is None and b is not None:
            into.setdefault(edge.source, set()).add(b)
        elif a is not None and b is None:
            out.setdefault(edge.target, set()).add(a)
        elif a is not None and b is not None and a != b:
            if b != a + 1:
                return False
            linked.add(a)
    every, last = set(range(len(instances))), len(instances) - 1
    return (
        linked == every - {last}
        and all(to in ({0}, every) for to in into.values())
        and all(come in ({last}, every) for come in out.values())
    )


class _Folded:
    """Repeats folded into their first instance, and the frames."""

    def __init__(self, raw: _GraphBuilder) -> None:
        self.raw = raw
        self.blocks: list[Block] = []
        self.same: dict[int, int] = {}  # node -> the node of the first instance
        self.times: dict[int, int] = {}  # of a single repeated node
        self.instance: dict[int, dict[Any, int]] = {}  # node -> run -> instance
        self._walk(_tree(raw.nodes[i] for i in sorted(raw.nodes)), 1)

    def _walk(self, items: list[_Item], level: int) -> None:
        covered: set[int] = set()
        for start, period, times in _runs(self.raw, items):
            covered.update(range(start, start + period * times))
            first = _instance(items, start, period)
            for k in range(times):
                for node, original in zip(_instance(items, start, period, k), first, strict=True):
                    self.instance.setdefault(node.id, {})[first[0].id, level, period] = k
                    if k:
                        self.same[node.id] = original.id
            if len(first) == 1:
                self.times[first[0].id] = times
            else:
                self._frame(items[start : start + period], level, times)
            for item in items[start : start + period]:
                self._walk(item.items, level + 1)
        for i, item in enumerate(items):
            if i not in covered and item.layer is not None:
                own = [node for inner in item.items if inner.layer is None for node in inner.nodes]
                framed = len(item.nodes) > 2 and any(map(_is_merge, own))
                if framed:
                    self._frame([item], level, 1)
                self._walk(item.items, level + framed)

    def _frame(self, items: Sequence[_Item], level: int, times: int) -> None:
        head = items[0]
        named = self.raw.trace.layers[head.layer] if head.layer is not None else None
        path = named.path if named else head.nodes[0].path
        kind = named.kind if named and len(items) == 1 else ""
        self.blocks.append(Block(path, kind, tuple(n.id for item in items for n in item.nodes), times, level))

    def finish(self, model: str) -> Graph:
        raw = self.raw
        alike: dict[int, list[Node]] = {}
        for n, node in raw.nodes.items():
            alike.setdefault(self._first(n), []).append(node)
        nodes = [
            replace(
                raw.nodes[n],
                params=tuple(p for one in group for p in one.params),
                macs=tuple(m for one in group for m in one.macs),
                times=self.times.get(n, 1),
            )
            for n, group in sorted(alike.items())
        ]
        edges: dict[tuple[int, int], Edge] = {}
        for edge in raw.edges:
            source, target = self._first(edge.source), self._first(edge.target)
            if source != target and not self._between(edge):
                edges.setdefault((source, target), Edge(source, target, edge.shape))
        blocks = [replace(b, nodes=tuple(n for n in b.nodes if n in alike)) for b in self.blocks]
        blocks = _single(sorted((b for b in blocks if len(b.nodes) > 1), key=lambda b: (min(b.nodes), b.level)))
        return Graph(model, tuple(nodes), tuple(sorted(edges.values())), tuple(blocks))

    def _first(self, n: int) -> int:
        while n in self.same:
            n = self.same[n]
        return n

    def _between(self, edge: Edge) -> bool:
        """Whether an edge leads from one instance to the next."""
        source, target = (self.instance.get(end, {}) for end in (edge.source, edge.target))
        return any(source.get(run, k) != k for run, k in target.items())


def _single(blocks: Iterable[Block]) -> list[Block]:
    """A block that is nothing but a repeat is one frame."""
    out: list[Block] = []
    for block in blocks:
        if out and out[-1].times == 1 and out[-1].nodes == block.nodes and block.times > 1:
            outer = out.pop()
            block = replace(outer, times=block.times, what=block.path.removeprefix(f"{outer.path}."))
        out.append(block)
    return out


def graph_of(trace: Trace, depth: int | None = None, level: str = "") -> Graph:
    """The graph of a trace. depth: modules that this many enclose are one node; None closes what is too much.

    level: "layer" closes nothing, "block" every block.
    """
    graph = _drawn(trace, depth)
    if depth is not None or level == "layer":
        return graph
    if level:
        return _drawn(trace, None, frozenset(b.kind for b in graph.blocks if b.kind and not _holds_repeats(b, graph)))
    closed: frozenset[str] = frozenset()
    for most, least in ((MOST, 2), (TOO_MANY, 1)):
        if len(graph.nodes) > most:
            closed |= {block.kind for block in graph.blocks if block.level >= least and block.kind} - _NAMELESS
            graph = _drawn(trace, None, closed)
    deepest = max((layer.depth for layer in trace.layers), default=0)
    while (len(graph.nodes) > TOO_MANY or len(graph.edges) > LINES) and deepest > 1:
        deepest -= 1
        graph = _drawn(trace, deepest)
    return graph


def _holds_repeats(block: Block, graph: Graph) -> bool:
    """Whether blocks that repeat stand in a block, which is then more than one."""
    inside = (b for b in graph.blocks if b.level > block.level and set(b.nodes) <= set(block.nodes))
    return block.kind in _NAMELESS or any(b.times > 1 and b.kind for b in inside)


def _drawn(trace: Trace, depth: int | None, closed: frozenset[str] = frozenset()) -> Graph:
    raw = _GraphBuilder(trace)
    raw.from_rows(depth, closed)
    raw.join()
    return _Folded(raw).finish(trace.model)
