"""Where the nodes of a graph stand: layers from top to bottom, few crossings, straight ways.

Sugiyama, Tagawa, Toda 1981, Methods for visual understanding of hierarchical system structures: a node's layer is the
longest way to it, edges over several layers pass through points of their own, each layer is ordered by the mean place
of its neighbours; then every place is moved towards its neighbours as far as the others in its layer allow (least
squares under separations, by pooling adjacent violators).
"""

from collections.abc import Mapping, Sequence
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


class _Place:
    """A node or a passing edge in a layer."""

    __slots__ = ("above", "below", "height", "layer", "node", "width", "x")

    def __init__(self, layer: int, width: float, height: float, node: int | None) -> None:
        self.layer, self.width, self.height, self.node = layer, width, height, node
        self.x = 0.0
        self.above: list[_Place] = []
        self.below: list[_Place] = []


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
        way = [own[edge.source]]
        for layer in range(depth[edge.source] + 1, depth[edge.target]):
            way.append(_Place(layer, POINT, 0, None))
        way.append(own[edge.target])
        for one, other in zip(way, way[1:], strict=False):
            one.below.append(other)
            other.above.append(one)
        places += way[1:-1]
        ways.append(way)
    return places, ways


def _order(layers: list[list[_Place]]) -> None:
    """Order each layer by the mean place of the neighbours, and keep the order with the fewest crossings."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            rank = {id(p): i for other in layers for i, p in enumerate(other)}

            def mean(place: _Place, down: bool = down, rank: dict[int, int] = rank) -> float:
                near = place.above if down else place.below
                return sum(rank[id(p)] for p in near) / len(near) if near else rank[id(place)]

            layer.sort(key=mean)
        count = _crossings(layers)
        if count < fewest:
            best, fewest = [list(layer) for layer in layers], count
        if not fewest:
            break
    layers[:] = best


def _crossings(layers: list[list[_Place]]) -> int:
    count = 0
    for upper, lower in zip(layers, layers[1:], strict=False):
        rank = {id(p): i for i, p in enumerate(lower)}
        ends = [rank[id(q)] for p in upper for q in sorted(p.below, key=lambda q: rank[id(q)])]
        count += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return count


def _straighten(layers: list[list[_Place]]) -> None:
    for layer in layers:
        x = 0.0
        for place in layer:
            place.x = x + place.width / 2
            x += place.width + GAP
        for place in layer:
            place.x -= (x - GAP) / 2
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            wanted = [_median(place, place.above if down else place.below) for place in layer]
            weights = [_weight(place) for place in layer]
            for place, x in zip(layer, _separated(layer, wanted, weights), strict=True):
                place.x = x


def _pull(one: _Place, other: _Place) -> int:
    """How straight a line should be: what passes bends first, but not on its way."""
    return (2, 1, 4)[(one.node is None) + (other.node is None)]


def _upright(layers: list[list[_Place]]) -> None:
    """Put the layers of one node, through which everything flows, under one another."""
    cuts = [i for i, layer in enumerate(layers) if len(layer) == 1]
    at = {i: layers[i][0].x for i in cuts}
    for i, layer in enumerate(layers):
        before = max((c for c in cuts if c <= i), default=None)
        behind = min((c for c in cuts if c >= i), default=None)
        ends = [at[c] for c in (before, behind) if c is not None]
        for place in layer:
            place.x -= sum(ends) / len(ends) if ends else 0.0


def _weight(place: _Place) -> float:
    """How firmly a place is held: nodes between nodes most, what merely passes least."""
    if place.node is None:
        return 1.0
    return 10.0 + 10.0 * sum(p.node is not None for p in (*place.above, *place.below)) ** 3


def _median(place: _Place, near: Sequence[_Place]) -> float:
    """The weighted median of the neighbours' places, the mean of the middle two where the weights are even."""
    if not near:
        return place.x
    line = sorted(p.x for p in near for _ in range(_pull(place, p)))
    middle = len(line) // 2
    return line[middle] if len(line) % 2 else (line[middle - 1] + line[middle]) / 2


def _separated(layer: Sequence[_Place], wanted: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The places nearest to what is wanted, in least squares, that keep their order and their distance."""
    offset = [0.0]
    for one, other in zip(layer, layer[1:], strict=False):
        offset.append(offset[-1] + (one.width + other.width) / 2 + GAP)
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for want, off, weight in zip(wanted, offset, weights, strict=True):
        mean, total, members = want - off, weight, 1
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
        passing = [
            p.x
            for edge, way in zip(graph.edges, ways, strict=True)
            if edge.target in mine
            for p in way[1:-1]
            if min(b.y for b in own) <= tops[p.layer] <= max(b.y for b in own)
        ]
        inner = [f for f in found.values() if set(f.block.nodes) <= mine]
        left = min([b.x - b.width / 2 for b in own] + [x - 4 for x in passing] + [f.x for f in inner]) - 12
        right = max([b.x + b.width / 2 for b in own] + [x + 4 for x in passing] + [f.x + f.width for f in inner]) + 12
        lack = max(0.0, titles[i] - (right - left)) / 2
        top = min([b.y - b.height / 2 - 22.0 for b in own] + [f.y - 18 for f in inner])
        bottom = max([b.y + b.height / 2 + 19.0 for b in own] + [f.y + f.height + 7 for f in inner])
        found[i] = Frame(block, left - lack, top, right - left + 2 * lack, bottom - top)
    frames = [found[i] for i in sorted(found)]
    left = min([b.x - b.width / 2 for b in boxes.values()] + [f.x for f in frames] + [p.x for p in places]) - 16
    right = max([b.x + b.width / 2 for b in boxes.values()] + [f.x + f.width for f in frames] + [p.x for p in places])
    tall: dict[int, float] = {}
    for place in places:
        tall[place.layer] = max(tall.get(place.layer, 0.0), place.height)
    lines = []
    for way in ways:
        first, last = way[0], way[-1]
        line = [(first.x - left, tops[first.layer] + first.height / 2)]
        for p in way[1:-1]:  # straight past the nodes of its layer
            line += [(p.x - left, tops[p.layer] - tall[p.layer] / 2), (p.x - left, tops[p.layer] + tall[p.layer] / 2)]
        lines.append([*line, (last.x - left, tops[last.layer] - last.height / 2)])
    bottom = max([b.y + b.height / 2 for b in boxes.values()] + [f.y + f.height for f in frames])
    return Layout(
        {n: b._replace(x=b.x - left) for n, b in boxes.items()},
        lines,
        [f._replace(x=f.x - left) for f in frames],
        right - left + 16,
        bottom + 16,
    )
