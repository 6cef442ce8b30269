"""Where the nodes of a graph stand: layers from top to bottom or from left to right, few crossings, straight ways.

Sugiyama, Tagawa, Toda 1981, Methods for visual understanding of hierarchical system structures: a node's layer is the
longest way to it, edges over several layers pass through points of their own, each layer is ordered by the mean place
of its neighbours; then every place is moved towards its neighbours as far as the others in its layer allow (least
squares under separations, by pooling adjacent violators).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from statistics import median
from typing import NamedTuple

from archscope.report.graph import Block, Graph

GAP = 26.0  # between neighbours in a layer
DROP = 40.0  # between layers: room for a shape beside the line
SWEEPS = 24
POINT = 10.0  # the width that a passing edge takes


class _Pads(NamedTuple):
    """The room between a frame and what is in it: before and behind it on the way of the data, and at its sides.

    inner: the same for a frame within the frame.
    """

    before: float
    behind: float
    first: float
    last: float
    inner: tuple[float, float, float, float]


_DOWN = _Pads(22.0, 19.0, 12.0, 12.0, (18.0, 7.0, 12.0, 12.0))  # the title before it
_RIGHT = _Pads(14.0, 14.0, 24.0, 12.0, (10.0, 10.0, 20.0, 8.0))  # the title at its upper side


class Box(NamedTuple):
    """Centre and size of a node."""

    x: float
    y: float
    width: float
    height: float


class Frame(NamedTuple):
    """The rectangle around a block: left, top, width, height."""

    block: Block
    x: float
    y: float
    width: float
    height: float


class Layout(NamedTuple):
    """boxes by node id; ways: the points of each edge, in the order of graph.edges; the size of the whole."""

    boxes: dict[int, Box]
    ways: list[list[tuple[float, float]]]
    frames: list[Frame]
    width: float
    height: float


@dataclass(eq=False, slots=True)
class _PlacedNode:
    """A node or a passing edge in a layer. x: of its centre."""

    layer: int
    width: float
    height: float
    node: int | None
    x: float = 0.0
    above: list["_PlacedNode"] = field(default_factory=list)
    below: list["_PlacedNode"] = field(default_factory=list)


def layered(
    graph: Graph,
    sizes: Mapping[int, tuple[float, float]],
    titles: Mapping[int, float],
    right: bool = False,
    drop: float = DROP,
) -> Layout:
    """Places for a graph. sizes: width and height by node id. titles: widths of the blocks' titles, by place.

    right: layers go from left to right. drop: the room between layers.
    """
    if right:  # laid out as if it went down, and turned at the end
        sizes = {n: (height, width) for n, (width, height) in sizes.items()}
    places, ways = _places(graph, sizes)
    layers: list[list[_PlacedNode]] = [[] for _ in range(1 + max(p.layer for p in places))]
    for place in places:
        layers[place.layer].append(place)
    _order(layers)
    _straighten(layers)
    _upright(layers)
    starts, ends = _rows_of(graph, places)
    tops, centre = [], 24.0
    for i, layer in enumerate(layers):
        height = max(place.height for place in layer)
        centre += 22.0 * starts.get(i, 0)
        tops.append(centre + height / 2)
        centre += height + drop + 16.0 * ends.get(i, 0)
    return _laid(graph, places, ways, tops, titles, right)


def _places(
    graph: Graph, sizes: Mapping[int, tuple[float, float]]
) -> tuple[list[_PlacedNode], list[list[_PlacedNode]]]:
    depth: dict[int, int] = {}
    into: dict[int, list[int]] = {}
    for edge in graph.edges:
        into.setdefault(edge.target, []).append(edge.source)
    for node in graph.nodes:
        depth[node.id] = 1 + max((depth.get(n, -1) for n in into.get(node.id, ())), default=-1)
    own = {n.id: _PlacedNode(depth[n.id], *sizes[n.id], n.id) for n in graph.nodes}
    places = list(own.values())
    ways = []
    for edge in graph.edges:
        passing = [_PlacedNode(layer, POINT, 0, None) for layer in range(depth[edge.source] + 1, depth[edge.target])]
        way = [own[edge.source], *passing, own[edge.target]]
        for one, other in pairwise(way):
            one.below.append(other)
            other.above.append(one)
        places += passing
        ways.append(way)
    return places, ways


def _order(layers: list[list[_PlacedNode]]) -> None:
    """Order each layer by the mean place of the neighbours, and keep the order with the fewest crossings."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers)
    for sweep in range(SWEEPS if fewest else 1):
        down = sweep % 2 == 0
        rank = {id(p): i for layer in layers for i, p in enumerate(layer)}
        for layer in layers if down else reversed(layers):
            near = {id(p): [rank[id(q)] for q in (p.above if down else p.below)] or [rank[id(p)]] for p in layer}
            layer.sort(key=lambda p, near=near: sum(near[id(p)]) / len(near[id(p)]))
            rank |= {id(p): i for i, p in enumerate(layer)}
        count = _crossings(layers)
        if count < fewest:
            best, fewest = [list(layer) for layer in layers], count
        if not fewest:
            break
    layers[:] = best


def _crossings(layers: list[list[_PlacedNode]]) -> int:
    count = 0
    for upper, lower in pairwise(layers):
        rank = {id(p): i for i, p in enumerate(lower)}
        ends = [i for p in upper for i in sorted(rank[id(q)] for q in p.below)]
        count += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return count


def _straighten(layers: list[list[_PlacedNode]]) -> None:
    for layer in layers:
        right = accumulate(place.width + GAP for place in layer)
        middle = (sum(place.width + GAP for place in layer) - GAP) / 2
        for place, x in zip(layer, right, strict=True):
            place.x = x - GAP - place.width / 2 - middle
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            wanted = [_median(place, place.above if down else place.below) for place in layer]
            for place, x in zip(layer, _separated(layer, wanted), strict=True):
                place.x = x


def _upright(layers: list[list[_PlacedNode]]) -> None:
    """Put the layers of one node, through which everything flows, under one another."""
    cuts = [i for i, layer in enumerate(layers) if len(layer) == 1]
    at = {i: layers[i][0].x for i in cuts}
    for i, layer in enumerate(layers):
        ends = [at[c] for c in ([c for c in cuts if c <= i][-1:] + [c for c in cuts if c >= i][:1])]
        for place in layer:
            place.x -= sum(ends) / len(ends) if ends else 0.0


def _weight(place: _PlacedNode) -> float:
    """How firmly a place is held: nodes between nodes most, what merely passes least."""
    if place.node is None:
        return 1.0
    return 10.0 + 10.0 * sum(p.node is not None for p in (*place.above, *place.below)) ** 3


def _median(place: _PlacedNode, near: Sequence[_PlacedNode]) -> float:
    """The weighted median of the neighbours' places, the mean of the middle two where the weights are even.

    What passes bends first, but not on its way: a line between passing points pulls most, one at an end least.
    """
    pull = {p: (2, 1, 4)[(place.node is None) + (p.node is None)] for p in near}
    return median(sorted(p.x for p in near for _ in range(pull[p]))) if near else place.x


def _separated(layer: Sequence[_PlacedNode], wanted: Sequence[float]) -> list[float]:
    """The places nearest to what is wanted, in least squares, that keep their order and their distance."""
    offset = [0.0, *accumulate((one.width + other.width) / 2 + GAP for one, other in pairwise(layer))]
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for place, want, off in zip(layer, wanted, offset, strict=True):
        mean, total, members = want - off, _weight(place), 1
        while pools and pools[-1][0] > mean:
            other, its, count = pools.pop()
            mean, total, members = (mean * total + other * its) / (total + its), total + its, members + count
        pools.append((mean, total, members))
    means = [mean for mean, _, members in pools for _ in range(members)]
    return [mean + off for mean, off in zip(means, offset, strict=True)]


def _rows_of(graph: Graph, places: Sequence[_PlacedNode]) -> tuple[dict[int, int], dict[int, int]]:
    """How many frames begin above a layer, and end below it."""
    layer = {p.node: p.layer for p in places if p.node is not None}
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    for block in graph.blocks:
        mine = [layer[n] for n in block.nodes]
        starts[min(mine)] = max(starts.get(min(mine), 0), block.level)
        ends[max(mine)] = max(ends.get(max(mine), 0), block.level)
    return starts, ends


class _Rectangle(NamedTuple):
    """A rectangle: left, right and upper, lower side as if layers went down."""

    left: float
    right: float
    top: float
    bottom: float


def _laid(
    graph: Graph,
    places: Sequence[_PlacedNode],
    ways: Sequence[Sequence[_PlacedNode]],
    tops: Sequence[float],
    titles: Mapping[int, float],
    turned: bool,
) -> Layout:
    parts = {
        p.node: _Rectangle(
            p.x - p.width / 2, p.x + p.width / 2, tops[p.layer] - p.height / 2, tops[p.layer] + p.height / 2
        )
        for p in places
        if p.node is not None
    }
    found: dict[int, _Rectangle] = {}
    for i, block in sorted(enumerate(graph.blocks), key=lambda pair: -pair[1].level):
        inner = [part for j, part in found.items() if set(graph.blocks[j].nodes) <= set(block.nodes)]
        found[i] = _frame(graph, block, parts, inner, ways, tops, titles[i], turned)
    frames = [found[i] for i in sorted(found)]
    every = [*parts.values(), *frames]
    left = min([part.left for part in every] + [p.x for p in places]) - 16
    right = max([part.right for part in every] + [p.x for p in places]) + 16
    bottom = max(part.bottom for part in every) + 16
    top = min([0.0, *(part.top - 16 for part in frames)])
    tall: dict[int, float] = {}
    for place in places:
        tall[place.layer] = max(tall.get(place.layer, 0.0), place.height)

    def at(x: float, y: float) -> tuple[float, float]:
        return (y - top, x - left) if turned else (x - left, y - top)

    lines = []
    for first, *middle, last in ways:  # straight past the nodes of its layer
        past = [at(p.x, tops[p.layer] + side * tall[p.layer] / 2) for p in middle for side in (-1, 1)]
        start, end = tops[first.layer] + first.height / 2, tops[last.layer] - last.height / 2
        lines.append([at(first.x, start), *past, at(last.x, end)])
    boxes = {n: Box(*_centre(part, at), *_size(part, turned)) for n, part in parts.items()}
    edges = [at(part.left, part.top) for part in frames]
    framed = [
        Frame(block, *edge, *_size(part, turned)) for block, edge, part in zip(graph.blocks, edges, frames, strict=True)
    ]
    width, height = (bottom - top, right - left) if turned else (right - left, bottom - top)
    return Layout(boxes, lines, framed, width, height)


def _centre(part: _Rectangle, at: Callable[[float, float], tuple[float, float]]) -> tuple[float, float]:
    return at((part.left + part.right) / 2, (part.top + part.bottom) / 2)


def _size(part: _Rectangle, turned: bool) -> tuple[float, float]:
    across, along = part.right - part.left, part.bottom - part.top
    return (along, across) if turned else (across, along)


def _frame(
    graph: Graph,
    block: Block,
    parts: Mapping[int, _Rectangle],
    inner: Sequence[_Rectangle],
    ways: Sequence[Sequence[_PlacedNode]],
    tops: Sequence[float],
    title: float,
    turned: bool,
) -> _Rectangle:
    """The frame around a block's nodes, the frames within it and what passes through it. title: its width."""
    mine, own = set(block.nodes), [parts[n] for n in block.nodes]
    low, high = (f([(part.top + part.bottom) / 2 for part in own]) for f in (min, max))
    into = [way[1:-1] for edge, way in zip(graph.edges, ways, strict=True) if edge.target in mine]
    passing = [p.x for way in into for p in way if low <= tops[p.layer] <= high]
    pads = _RIGHT if turned else _DOWN
    before, behind, first, last = pads.inner
    left = min([p.left for p in own] + [x - 4 for x in passing] + [f.left + pads.first - first for f in inner])
    right = max([p.right for p in own] + [x + 4 for x in passing] + [f.right - pads.last + last for f in inner])
    top = min([p.top for p in own] + [f.top + pads.before - before for f in inner])
    bottom = max([p.bottom for p in own] + [f.bottom - pads.behind + behind for f in inner])
    part = _Rectangle(left - pads.first, right + pads.last, top - pads.before, bottom + pads.behind)
    if turned:
        return part._replace(bottom=max(part.bottom, part.top + title))
    lack = max(0.0, title - (part.right - part.left)) / 2
    return part._replace(left=part.left - lack, right=part.right + lack)
