"""How much of a network a graph shows: its layers, its blocks, or its stages.

A block is a module that joins branches or that repeats (a bottleneck, a transformer layer); where there is none, a
child of the model. A stage is what follows in line with one kind and one size of maps: `layer2: 4 × Bottleneck`.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from archscope.core.record import Shape, Trace
from archscope.report.graph import Edge, Graph, Node, graph_of

LEVELS = ("stage", "block", "layer")
FEW = 6  # children of a model that has fewer say less than its layers


def at_level(trace: Trace, level: str) -> Graph:
    """The graph of a trace at one of LEVELS."""
    layers = graph_of(trace, level="layer")
    if level == "layer":
        return layers
    blocks = graph_of(trace, level="block")
    if len(blocks.nodes) == len(layers.nodes):
        children = graph_of(trace, 1)
        inner = [node for node in children.nodes if node.role in ("layer", "block")]
        blocks = children if len(inner) >= FEW else blocks
    return blocks if level == "block" else staged(blocks)


def staged(graph: Graph) -> Graph:
    """The graph with the nodes of each stage as one."""
    into: dict[int, list[int]] = {}
    out: dict[int, list[int]] = {}
    for edge in graph.edges:
        out.setdefault(edge.source, []).append(edge.target)
        into.setdefault(edge.target, []).append(edge.source)
    frames = {n: tuple(i for i, block in enumerate(graph.blocks) if n in block.nodes) for n in graph.by_id}
    home: dict[int, list[Node]] = {}
    for node in graph.nodes:
        before = graph.by_id[into[node.id][0]] if len(into.get(node.id, ())) == 1 else None
        follows = (
            before is not None
            and out[before.id] == [node.id]
            and frames[before.id] == frames[node.id]
            and _alike(before, node)
        )
        home[node.id] = home[before.id] if follows and before is not None else []
        home[node.id].append(node)
    groups = list({id(group): group for group in home.values()}.values())
    taken = [group[0].path.rpartition(".")[0] for group in groups]
    nodes = [_stage(group, taken) if len(group) > 1 or group[0].times > 1 else group[0] for group in groups]
    edges: dict[tuple[int, int], Edge] = {}
    for edge in graph.edges:
        source, target = home[edge.source][0].id, home[edge.target][0].id
        if source != target:
            edges.setdefault((source, target), Edge(source, target, edge.shape))
    kept = {node.id for node in nodes}
    blocks = [replace(block, nodes=tuple(n for n in block.nodes if n in kept)) for block in graph.blocks]
    blocks = [block for block in blocks if len(block.nodes) > 1]
    return Graph(graph.model, tuple(nodes), tuple(sorted(edges.values())), tuple(blocks), graph.notes)


def _alike(one: Node, other: Node) -> bool:
    """Whether two nodes may be of one stage: of one kind, with weights and with maps of one size."""
    same = one.role == other.role and one.main == other.main and one.role in ("layer", "block")
    return same and any(one.params) and any(other.params) and _side(one.shape) == _side(other.shape)


def _side(shape: Shape | None) -> Shape | None:
    return shape[2:] if shape is not None and len(shape) > 3 else shape


def _stage(group: Sequence[Node], taken: Sequence[str]) -> Node:
    """One node for several. taken: the modules around the first nodes of all stages."""
    first, last = group[0], group[-1]
    count = sum(node.times for node in group)
    around = first.path.rpartition(".")[0]
    same = all(node.path.rpartition(".")[0] == around for node in group)
    alone = around and same and taken.count(around) == 1
    windows = {node.window for node in group}
    known = [macs for node in group for macs in node.macs]
    return replace(
        last,
        id=first.id,
        path=around if alone else _span(first, last),
        kinds=(f"{count} × {first.main}",),
        window=first.window if len(windows) == 1 else "",
        params=(sum(params for node in group for params in node.params),),
        macs=(None,) if None in known else (sum(macs for macs in known if macs is not None),),
        times=1,
    )


def _span(first: Node, last: Node) -> str:
    """`block4 to 6`, `features.denseblock1 to transition1`: the first and the last of a stage."""
    end = last.path.rpartition(".")[2]
    if number := re.search(r"\d+$", end):
        whole = end[: number.start()] + str(int(number[0]) + last.times - 1)
        same = first.path.rpartition(".")[2].startswith(end[: number.start()])
        end = str(int(number[0]) + last.times - 1) if same else whole
    return first.path if first.path.rpartition(".")[2] == last.path.rpartition(".")[2] and last.times == 1 else (
        f"{first.path} to {end}"
    )  # fmt: skip
