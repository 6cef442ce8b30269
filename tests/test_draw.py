"""Drawings: the graph is the trace's, nothing is lost when it is joined and folded, and the three forms are valid."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn

from archscope import Trace, totals, trace
from archscope.report.draw import DRAWINGS, drawing, mermaid
from archscope.report.graph import LINES, TOO_MANY, Graph, counts_words, graph_of, kind_words, shape_words
from archscope.report.graph_svg import svg_of
from archscope.report.solids import is_figure, sides, svg_of_solids
from archscope.zoo.catalogue import entries

SVG = "{http://www.w3.org/2000/svg}"
NETWORKS = list(entries())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_holds_every_parameter_and_every_mac(name: str, traced: Callable[..., Trace]) -> None:
    """What is joined or drawn once is still there: the nodes, each as often as it stands, add up to the totals."""
    record = traced(name)
    graph = graph_of(record)
    assert sum(sum(node.params) for node in graph.nodes) == totals(record)["params"]
    assert sum(count or 0 for node in graph.nodes for count in node.macs) == totals(record)["macs"]
    assert len(graph.nodes) <= TOO_MANY and len(graph.edges) <= LINES


@pytest.mark.parametrize("name", NETWORKS)
def test_every_node_is_on_a_way_from_the_input_to_the_output(name: str, traced: Callable[..., Trace]) -> None:
    graph = graph_of(traced(name))
    ids = {node.id for node in graph.nodes}
    assert {e.source for e in graph.edges} | {e.target for e in graph.edges} == ids
    begins, ends = ids - {e.target for e in graph.edges}, ids - {e.source for e in graph.edges}
    assert {graph.by_id[n].role for n in begins} == {"input"}
    assert {graph.by_id[n].role for n in ends} == {"output"}
    for block in graph.blocks:
        assert set(block.nodes) <= ids


def named(graph: Graph) -> dict[str, list[str]]:
    """Node -> the nodes that it goes to, by path."""
    out: dict[str, list[str]] = {node.path: [] for node in graph.nodes}
    for edge in graph.edges:
        out[graph.by_id[edge.source].path].append(graph.by_id[edge.target].path)
    return out


def test_the_inception_block_has_four_branches(traced: Callable[..., Trace]) -> None:
    """Szegedy et al. 2015, figure 2(b): 1×1; 1×1, 3×3; 1×1, 5×5; pool, 1×1; joined."""
    ways = named(graph_of(traced("inception-block")))
    assert ways["input"] == ["branch1.conv", "branch2.reduce", "branch3.reduce", "branch4.pool"]
    assert ways["branch1.conv"] == ["cat"] and ways["branch2.reduce"] == ["branch2.conv"]
    assert ways["branch2.conv"] == ways["branch3.conv"] == ways["branch4.conv"] == ["cat"]


def test_a_residual_block_has_a_shortcut(traced: Callable[..., Trace]) -> None:
    """He et al. 2016, figure 2: what goes in goes round the two convolutions into the sum."""
    graph = graph_of(traced("resnet18"))
    ways = named(graph)
    assert set(ways["maxpool"]) == {"layer1.0.conv1", "layer1.0.add"}
    assert ways["layer1.0.conv1"] == ["layer1.0.conv2"] and ways["layer1.0.conv2"] == ["layer1.0.add"]
    assert set(ways["layer1.0.add"]) == {"layer2.0.conv1", "layer2.0.downsample.0"}


def test_repeated_blocks_are_drawn_once(traced: Callable[..., Trace]) -> None:
    """He et al. 2016, table 1: 3, 8, 36 and 3 blocks; the first of each has a projection and stands alone."""
    graph = graph_of(traced("resnet152"))
    assert [(b.path, b.times) for b in graph.blocks] == [
        ("layer1.0", 1), ("layer1.1", 2), ("layer2.0", 1), ("layer2.1", 7),
        ("layer3.0", 1), ("layer3.1", 35), ("layer4.0", 1), ("layer4.1", 2),
    ]  # fmt: skip
    edges = {(graph.by_id[e.source].path, graph.by_id[e.target].path): e.shape for e in graph.edges}
    assert edges["layer3.1.add", "layer4.0.conv1"] == (1, 1024, 14, 14)


def test_dense_layers_are_drawn_once_though_they_widen(traced: Callable[..., Trace]) -> None:
    """Huang et al. 2017, table 1: 6, 12, 24 and 16 layers; a layer's 1×1 convolution takes 32 maps more each time."""
    graph = graph_of(traced("densenet121"))
    assert [b.times for b in graph.blocks] == [6, 12, 24, 16]
    assert [b.what for b in graph.blocks] == ["denselayer1"] * 4
    first = next(node for node in graph.nodes if node.path.endswith("denselayer1.conv1"))
    wide = [64 + 32 * i for i in range(6)]
    assert list(first.params) == [2 * c + 1 * 1 * c * 128 + 2 * 128 for c in wide]  # norm, 1×1, norm
    assert counts_words(first).startswith("8.576 K to 29.38 K params")
    edges = {(graph.by_id[e.source].path, graph.by_id[e.target].path): e.shape for e in graph.edges}
    assert edges["features.denseblock1.cat", "features.transition1.conv"] == (1, 64 + 6 * 32, 56, 56)


class Sum(nn.Module):
    """Two inputs, added and convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.conv(x + y)


class Skips(nn.Module):
    """The third block takes the first one's output too: only two follow each other and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = Sum(), Sum(), Sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.one(x, x)
        return self.three(self.two(first, first), first)


class Widening(nn.Module):
    """A dense block whose growth changes: its layers are not one layer twice."""

    def __init__(self, *growth: int) -> None:
        super().__init__()
        wide = [4 + sum(growth[:i]) for i in range(len(growth))]
        self.layers = nn.ModuleList(nn.Conv2d(c, g, 3, padding=1) for c, g in zip(wide, growth, strict=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.cat((x, layer(x)), dim=1)
        return x


def test_what_does_not_follow_in_line_is_not_folded() -> None:
    graph = graph_of(trace(Skips(), (1, 4, 8, 8)))
    assert sum("conv" in node.path for node in graph.nodes) >= 2
    ways = named(graph)
    assert "three.add" in ways or "three.conv" in ways
    assert all(block.times < 3 for block in graph.blocks)


@pytest.mark.parametrize(("growth", "times"), [((8, 8, 8), [3]), ((8, 16), [])])
def test_only_layers_of_one_growth_are_folded(growth: tuple[int, ...], times: list[int]) -> None:
    graph = graph_of(trace(Widening(*growth), (1, 4, 8, 8)))
    assert [block.times for block in graph.blocks if block.times > 1] == times


def test_what_runs_again_is_drawn_once(traced: Callable[..., Trace]) -> None:
    graph = graph_of(traced("rnn-cell"))
    cell = next(node for node in graph.nodes if node.path == "cell")
    assert cell.times == 5 and sum(cell.params) == 4 * 4 + 4 * 4 + 4 + 4


def test_an_activation_stands_in_the_node_of_its_layer(traced: Callable[..., Trace]) -> None:
    graph = graph_of(traced("resnet18"))
    words = {node.path: kind_words(node) for node in graph.nodes}
    assert words["conv1"] == "Conv2d 7×7/2 p3 · BatchNorm2d · ReLU"
    assert words["layer1.0.add"] == "add · ReLU"


def test_depth_closes_modules(traced: Callable[..., Trace]) -> None:
    graph = graph_of(traced("googlenet"), 1)
    closed = [node for node in graph.nodes if node.role == "block"]
    assert len(closed) == 9 and {node.kinds[0] for node in closed} == {"Inception"}
    assert sum(sum(node.params) for node in graph.nodes) == totals(traced("googlenet"))["params"]


def test_words_of_a_shape() -> None:
    assert shape_words((1, 64, 56, 56)) == "64×56×56"
    assert shape_words((8, 64, 56, 56)) == "8×64×56×56"
    assert shape_words(()) == "scalar" and shape_words(None) == ""


# ---------------------------------------------------------------------------------------------------- the forms

NODE = re.compile(r'n(\d+)(\(\[|\[)"[^"\n]+"(\]\)|\]):::[a-z]+')
LINE = re.compile(r'n(\d+) -->\|"[^"\n]+"\| n(\d+)')
RESERVED = {"end", "graph", "subgraph", "style", "click", "default", "class"}


@pytest.mark.parametrize("name", NETWORKS)
def test_mermaid_says_nodes_before_lines_and_closes_its_blocks(name: str, traced: Callable[..., Trace]) -> None:
    """What GitHub takes: its grammar for what is written here, and its limits of 50,000 characters and 500 lines."""
    graph = graph_of(traced(name))
    text = mermaid(graph)
    first, second, *lines = text.splitlines()
    assert first.startswith("%%{init: ") and second == "flowchart TD"
    known: set[str] = set()
    open_blocks = drawn = 0
    for line in map(str.strip, lines):
        if match := NODE.fullmatch(line):
            known.add(match[1])
        elif match := LINE.fullmatch(line):
            assert {match[1], match[2]} <= known
            drawn += 1
        elif re.fullmatch(r'subgraph b\d+\["[^"\n]+"\]', line):
            open_blocks += 1
        elif line == "end":
            open_blocks -= 1
        elif match := re.fullmatch(r"classDef (\w+) fill:.+", line):
            assert match[1] not in RESERVED
        else:
            assert re.fullmatch(r"class b\d+(,b\d+)* frame", line)
        assert open_blocks >= 0
    assert open_blocks == 0 and drawn == len(graph.edges) and len(known) == len(graph.nodes)
    assert len(text) < 50_000 and drawn < 500


def test_mermaid_takes_any_name() -> None:
    from archscope.report.draw import _mermaid_text

    assert _mermaid_text('a "b" <c> #1 `d`') == "a #quot;b#quot; #lt;c#gt; #35;1 'd'"


@pytest.mark.parametrize("name", ["lenet", "resnet18", "densenet121", "googlenet", "rnn-cell"])
def test_dot_is_balanced_and_has_every_line(name: str, traced: Callable[..., Trace]) -> None:
    graph = graph_of(traced(name))
    text = DRAWINGS["dot"](graph)
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    assert bare.count("{") == bare.count("}") == 1 + len(graph.blocks)
    assert bare.count("->") == len(graph.edges) and bare.count('"') % 2 == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_boxes_of_the_drawn_graph_do_not_overlap(name: str, traced: Callable[..., Trace]) -> None:
    graph = graph_of(traced(name))
    root = ET.fromstring(svg_of(graph))
    boxes = [
        tuple(float(rect.get(key, "0")) for key in ("x", "y", "width", "height"))
        for rect in root.iter(f"{SVG}rect")
        if rect.get("stroke-width") == "1.2"
    ]
    assert len(boxes) == len(graph.nodes)
    for i, (x, y, w, h) in enumerate(boxes):
        assert x >= 0 and y >= 0 and x + w <= float(root.get("width", "0")) and y + h <= float(root.get("height", "0"))
        for a, b, c, d in boxes[i + 1 :]:
            assert x + w <= a or a + c <= x or y + h <= b or b + d <= y


def test_lines_end_where_boxes_begin(traced: Callable[..., Trace]) -> None:
    """Every line goes down, from the lower edge of a box to the upper edge of another."""
    root = ET.fromstring(svg_of(graph_of(traced("inception-block"))))
    rects = [r for r in root.iter(f"{SVG}rect") if r.get("stroke-width") == "1.2"]
    tops = {round(float(r.get("y", "0")), 1) for r in rects}
    bottoms = {round(float(r.get("y", "0")) + float(r.get("height", "0")), 1) for r in rects}
    for path in root.iter(f"{SVG}path"):
        if path.get("marker-end") is None:
            continue
        heights = [float(pair.split(",")[1]) for pair in re.findall(r"-?[\d.]+,-?[\d.]+", path.get("d", ""))]
        assert heights == sorted(heights)
        assert any(abs(heights[0] - b) < 0.2 for b in bottoms) and any(abs(heights[-1] - t) < 0.2 for t in tops)


def test_what_is_a_figure(traced: Callable[..., Trace]) -> None:
    for name in ("lenet", "alexnet", "vgg16", "nin", "mobilenet-v1"):
        assert is_figure(graph_of(traced(name))), name
    for name in ("resnet18", "googlenet", "densenet121", "mobilenet-v2", "lstm"):
        assert not is_figure(graph_of(traced(name))), name


def test_solids_are_drawn_to_scale(traced: Callable[..., Trace]) -> None:
    """LeNet: 28, 28, 14, 10 and 5 high; 1, 6, 6, 16 and 16 long; both by the square root over a least size."""
    root = ET.fromstring(svg_of_solids(graph_of(traced("lenet"))))
    fronts = [list(root.iter(f"{SVG}polygon"))[2::3]][0][:5]
    tall, long = [], []
    for front in fronts:
        points = [tuple(map(float, pair.split(","))) for pair in front.get("points", "").split()]
        tall.append(max(y for _, y in points) - min(y for _, y in points))
        long.append(max(x for x, _ in points) - min(x for x, _ in points))
    assert tall == pytest.approx([6 + (132 - 6) * (h / 28) ** 0.5 for h in (28, 28, 14, 10, 5)], abs=0.15)
    assert long == pytest.approx([3 + (74 - 3) * (c / 16) ** 0.5 for c in (1, 6, 6, 16, 16)], abs=0.15)


def test_labels_of_solids_do_not_run_into_each_other(traced: Callable[..., Trace]) -> None:
    from archscope.report.solids import _solids

    for name in ("lenet", "alexnet", "vgg19", "mobilenet-v1"):
        for one, other in pairwise(_solids(graph_of(traced(name)))):
            widest = max(len(word) for word in (*one.words, *other.words))
            assert one.width / 2 + other.width / 2 > 5 * widest / 2, (name, one.node.path)


def test_sides_of_a_solid() -> None:
    assert sides((1, 96, 55, 54)) == (96, 55, 54)
    assert sides((1, 4096)) == (4096, 1, 1)
    assert sides((5, 1, 4)) is None and sides(None) is None


def test_drawings_are_the_same_every_time(traced: Callable[..., Trace]) -> None:
    record = traced("googlenet")
    again = Trace.from_json(record.to_json())
    for write in DRAWINGS.values():
        assert write(graph_of(record)) == write(graph_of(again))


def test_two_drawings_of_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match="svg"):
        drawing("svg")(mermaid)


# ------------------------------------------------------------------------------------------------- the command


def test_draw_writes_what_the_file_is_called(archscope: Callable, tmp_path) -> None:
    for name, begins in (("a.svg", "<svg"), ("a.mmd", "%%{init"), ("a.dot", "digraph")):
        ran = archscope("draw", "lenet", "--output", str(tmp_path / name))
        assert ran.code == 0 and (tmp_path / name).read_text(encoding="utf-8").startswith(begins)
    assert archscope("draw", "lenet", "--format", "dot").out.startswith("digraph")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "gif"), "unknown format 'gif'"),
        (("--output", "a.gif"), "--output ends in .svg, .png, .pdf, .mmd or .dot, not 'a.gif'; --format svg draws it"),
        (("--style", "blocks"), "unknown style 'blocks'"),
        (("--style", "solids"), "resnet18 is not a chain of feature maps; use --style graph"),
        (("--style", "graph", "--format", "dot"), "--style is of svg, png and pdf"),
        (("--depth", "0"), "--depth is a whole number"),
    ],
)
def test_draw_says_what_to_type_instead(arguments: tuple[str, ...], said: str, archscope: Callable) -> None:
    ran = archscope("draw", "resnet18", *arguments)
    assert ran.code == 2 and said in ran.err and not ran.out
