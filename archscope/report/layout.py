"""Where the nodes of a graph stand: layers from top to bottom, few crossings, straight ways.

Sugiyama, Tagawa, Toda 1981, Methods for visual understanding of hierarchical system structures: a node's layer is the
longest way to it, edges over several layers pass through points of their own, each layer is ordered by the mean place
of its neighbours; then every place is moved towards its neighbours as far as the others in its layer allow (least
squares under separations, by pooling adjacent violators).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from statistics import median
from typing import NamedTuple

from archscope.report.graph import Block, Graph

GAP = 26.0  # between neighbours in a layer
DROP = 40.0  # between layers: room for a shape beside the line
SWEEPS = 24
POINT = 10.0  # the width that a passing edge takes


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
class _Place:
    """A node or a passing edge in a layer. x: of its centre."""

    layer: int
    width: float
    height: float
    node: int | None
    x: float = 0.0
    above: list["_Place"] = field(default_factory=list)
    below: list["_Place"] = field(default_factory=list)


def layered(graph: Graph, sizes: Mapping[int, tuple[float, float]], titles: Mapping[int, float]) -> Layout:
    """Places for a graph. sizes: width and height by node id. titles: widths of the blocks' titles, by place."""
    places, ways = _places(graph, sizes)
    layers: list[list[_Place]] = [[] for _ in range(1 + max(p.layer for p in places))]
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
        centre += height + DROP + 16.0 * ends.get(i, 0)
    return _laid(graph, places, ways, tops, titles)


def _places(graph: Graph, sizes: Mapping[int, tuple[float, float]]) -> tuple[list[_Place], list[list[_Place]]]:
    depth: dict[int, int] = {}
    into: dict[int, list[int]] = {}
    for edge in graph.edges:
        into.setdefault(edge.target, []).append(edge.source)
    for node in graph.nodes:
        depth[node.id] = 1 + max((depth.get(n, -1) for n in into.get(node.id, ())), default=-1)
    own = {n.id: _Place(depth[n.id], *sizes[n.id], n.id) for n in graph.nodes}
    places = list(own.values())
    ways = []
    for edge in graph.edges:
        passing = [_Place(layer, POINT, 0, None) for layer in range(depth[edge.source] + 1, depth[edge.target])]
        way = [own[edge.source], *passing, own[edge.target]]
        for one, other in pairwise(way):
            one.below.append(other)
            other.above.append(one)
        places += passing
        ways.append(way)
    return places, ways


def _order(layers: list[list[_Place]]) -> None:
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


def _crossings(layers: list[list[_Place]]) -> int:
    count = 0
    for upper, lower in pairwise(layers):
        rank = {id(p): i for i, p in enumerate(lower)}
        ends = [i for p in upper for i in sorted(rank[id(q)] for q in p.below)]
        count += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return count


def _straighten(layers: list[list[_Place]]) -> None:
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


def _upright(layers: list[list[_Place]]) -> None:
    """Put the layers of one node, through which everything flows, under one another."""
    cuts = [i for i, layer in enumerate(layers) if len(layer) == 1]
    at = {i: layers[i][0].x for i in cuts}
    for i, layer in enumerate(layers):
        ends = [at[c] for c in ([c for c in cuts if c <= i][-1:] + [c for c in cuts if c >= i][:1])]
        for place in layer:
            place.x -= sum(ends) / len(ends) if ends else 0.0


def _weight(place: _Place) -> float:
    """How firmly a place is held: nodes between nodes most, what merely passes least."""
    if place.node is None:
        return 1.0
    return 10.0 + 10.0 * sum(p.node is not None for p in (*place.above, *place.below)) ** 3


def _median(place: _Place, near: Sequence[_Place]) -> float:
    """The weighted median of the neighbours' places, the mean of the middle two where the weights are even.

    What passes bends first, but not on its way: a line between passing points pulls most, one at an end least.
    """
    pull = {p: (2, 1, 4)[(place.node is None) + (p.node is None)] for p in near}
    return median(sorted(p.x for p in near for _ in range(pull[p]))) if near else place.x


def _separated(layer: Sequence[_Place], wanted: Sequence[float]) -> list[float]:
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


def _rows_of(graph: Graph, places: Sequence[_Place]) -> tuple[dict[int, int], dict[int, int]]:
    """How many frames begin above a layer, and end below it."""
    layer = {p.node: p.layer for p in places if p.node is not None}
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    for block in graph.blocks:
        mine = [layer[n] for n in block.nodes]
        starts[min(mine)] = max(starts.get(min(mine), 0), block.level)
        ends[max(mine)] = max(ends.get(max(mine), 0), block.level)
    return starts, ends


def _laid(
    graph: Graph,
    places: Sequence[_Place],
    ways: Sequence[Sequence[_Place]],
    tops: Sequence[float],
    titles: Mapping[int, float],
) -> Layout:
    boxes = {p.node: Box(p.x, tops[p.layer], p.width, p.height) for p in places if p.node is not None}
    found: dict[int, Frame] = {}
    for i, block in sorted(enumerate(graph.blocks), key=lambda pair: -pair[1].level):
        mine = set(block.nodes)
        own = [boxes[n] for n in block.nodes]
        low, high = min(b.y for b in own), max(b.y for b in own)
        into = [way[1:-1] for edge, way in zip(graph.edges, ways, strict=True) if edge.target in mine]
        passing = [p.x for way in into for p in way if low <= tops[p.layer] <= high]
        inner = [f for f in found.values() if set(f.block.nodes) <= mine]
        left = min([b.x - b.width / 2 for b in own] + [x - 4 for x in passing] + [f.x for f in inner]) - 12
        right = max([b.x + b.width / 2 for b in own] + [x + 4 for x in passing] + [f.x + f.width for f in inner]) + 12
        lack = max(0.0, titles[i] - (right - left)) / 2
        top = min([b.y - b.height / 2 - 22.0 for b in own] + [f.y - 18 for f in inner])
        bottom = max([b.y + b.height / 2 + 19.0 for b in own] + [f.y + f.height + 7 for f in inner])
        found[i] = Frame(block, left - lack, top, right - left + 2 * lack, bottom - top)
    frames = [found[i] for i in sorted(found)]
    passed = [p.x for p in places]
    left = min([b.x - b.width / 2 for b in boxes.values()] + [f.x for f in frames] + passed) - 16
    right = max([b.x + b.width / 2 for b in boxes.values()] + [f.x + f.width for f in frames] + passed)
    tall: dict[int, float] = {}
    for place in places:
        tall[place.layer] = max(tall.get(place.layer, 0.0), place.height)
    lines = []
    for first, *middle, last in ways:  # straight past the nodes of its layer
        past = [(p.x - left, tops[p.layer] + side * tall[p.layer] / 2) for p in middle for side in (-1, 1)]
        start, end = tops[first.layer] + first.height / 2, tops[last.layer] - last.height / 2
        lines.append([(first.x - left, start), *past, (last.x - left, end)])
    bottom = max([b.y + b.height / 2 for b in boxes.values()] + [f.y + f.height for f in frames])
    moved = {n: b._replace(x=b.x - left) for n, b in boxes.items()}
    return Layout(moved, lines, [f._replace(x=f.x - left) for f in frames], right - left + 16, bottom + 16)
