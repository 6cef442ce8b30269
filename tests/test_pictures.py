"""Pictures as PNG and PDF, their width, their direction, and how much of a network they show."""

import re
import socket
import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran
from torch import nn

from archscope import Trace, totals, trace
from archscope.report.fitting import SMALLEST, RequestedSize, drawn, length
from archscope.report.graph import Graph, graph_of
from archscope.report.graph_svg import svg_of
from archscope.report.layout import layered
from archscope.report.levels import LEVELS, at_level
from archscope.report.picture import BOLD, FACE, picture_of, size_of, smallest_text
from archscope.report.solids import svg_of_solids
from archscope.report.svg import wide

pytest.importorskip("matplotlib")
Command = Callable[..., Ran]
SVG = "{http://www.w3.org/2000/svg}"


def pixels(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def page(pdf: bytes) -> tuple[float, float]:
    """Width and height of the one page of a PDF, in points."""
    assert pdf.startswith(b"%PDF-")
    (box,) = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf)
    return float(box[0]), float(box[1])


class Detector(nn.Module):
    """Three maps, and what is made of each is an output."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, 2), nn.Conv2d(8, 8, 3, 2)
        self.heads = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = [x := layer(x) for layer in (self.one, self.two, self.three)]
        return [head(one) for head, one in zip(self.heads, maps, strict=True)]


class Pair(nn.Module):
    """Two inputs, a position that no input gives, and a mask that nobody takes."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.words, self.places = nn.Linear(6, 4), nn.Embedding(9, 4), nn.Embedding(5, 4)

    def forward(self, image: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        _ = torch.cumsum(words, 1) > 3
        return self.image(image)[:, None] + self.words(words) + self.places(torch.arange(5))


@pytest.fixture(scope="module")
def detector() -> Trace:
    return trace(Detector(), (1, 3, 65, 65))


@pytest.fixture(scope="module")
def pair() -> Trace:
    return trace(Pair(), (torch.zeros(1, 6), torch.zeros(1, 5, dtype=torch.int64)))


# ------------------------------------------------------------------------------------------------------ the files


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF-"), ("a.svg", b"<svg")])
def test_the_name_of_the_file_says_the_format(name: str, begins: bytes, archscope: Command, tmp_path: Path) -> None:
    for words in (("draw", "lenet"), ("draw", "residual-block"), ("plot", "layers", "lenet")):
        file = tmp_path / name
        ran = archscope(*words, "--output", str(file))
        assert ran.code == 0 and not ran.out and not ran.err
        assert file.read_bytes()[:5].startswith(begins) or words[0] == "plot" and name == "a.svg"
        other = tmp_path / "picture"
        assert archscope(*words, "--format", name[2:], "--output", str(other)).code == 0
        assert other.read_bytes() == file.read_bytes(), "the same bytes each time"


@pytest.mark.parametrize("option", ["memory lenet --plot", "sweep lenet --over batch=1,2 --plot"])
@pytest.mark.parametrize("form", ["png", "pdf"])
def test_other_plots_too(option: str, form: str, archscope: Command, tmp_path: Path) -> None:
    file = tmp_path / f"a.{form}"
    assert archscope(*option.split(), str(file)).code == 0
    assert (pixels if form == "png" else page)(file.read_bytes())[0] > 100


def test_nothing_is_asked_of_the_network(traced: Callable[..., Trace], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    for form in ("png", "pdf"):
        assert drawn(traced("residual-block"), RequestedSize()).bytes_of(form)


def test_a_pdf_holds_its_fonts_and_no_date(traced: Callable[..., Trace]) -> None:
    """Fonts that are not in the file are refused by journals."""
    pdf = drawn(traced("residual-block"), RequestedSize()).bytes_of("pdf")
    assert isinstance(pdf, bytes)
    assert b"/FontFile2" in pdf and b"DejaVuSans" in pdf and b"/CreationDate" not in pdf
    assert page(pdf) == pytest.approx(
        [0.75 * side for side in size_of(svg_of(graph_of(traced("residual-block"))))], abs=1
    )


def test_a_png_is_white_where_nothing_is(traced: Callable[..., Trace]) -> None:
    png = drawn(traced("lenet"), RequestedSize()).bytes_of("png")
    assert isinstance(png, bytes)
    data, at = b"", 8
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        data += png[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    assert zlib.decompress(data)[1:5] == b"\xff\xff\xff\xff"  # the first pixel, behind its line's filter


def test_an_element_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="<circle>"):
        picture_of('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle r="3"/></svg>', "png")


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121", "lenet", "alexnet"])
def test_text_is_as_wide_as_its_room(name: str, traced: Callable[..., Trace]) -> None:
    """Boxes are made for Helvetica by an estimate; the text that is drawn is measured here."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    graph = graph_of(traced(name))
    texts = {
        (t.text or "", t.get("font-size") or "10.5", t.get("font-weight"))
        for t in ET.fromstring(svg_of(graph)).iter(f"{SVG}text")
    }
    for text, size, weight in texts:
        face = FontProperties(family="DejaVu Sans", weight="bold" if weight else "normal")
        drawn_at = float(size) * (BOLD if weight else FACE)
        measured = TextPath((0, 0), text, size=drawn_at, prop=face).get_extents().width
        assert measured <= wide(text, float(size)) * (1.06 if weight else 1.0) + 18, text


# -------------------------------------------------------------------------------------------------------- the width


@pytest.mark.parametrize(
    ("text", "points"), [("3.25in", 234), ("8.5cm", 8.5 / 2.54 * 72), ("1280px", 960), ("240pt", 240)]
)
@pytest.mark.parametrize("name", ["resnet50", "alexnet", "googlenet"])
def test_the_page_has_the_width_that_was_asked_for(
    name: str, text: str, points: float, traced: Callable[..., Trace]
) -> None:
    one = drawn(traced(name), RequestedSize(), length("--width", text))
    assert one.scale * smallest_text(one.svg) >= SMALLEST - 1e-6
    assert size_of(one.svg)[0] * one.scale <= points + 1e-6
    pdf, png, svg = (one.bytes_of(form) for form in ("pdf", "png", "svg"))
    assert isinstance(pdf, bytes) and isinstance(png, bytes) and isinstance(svg, str)
    assert page(pdf)[0] == pytest.approx(points, abs=0.01)
    assert pixels(png)[0] == (1280 if text == "1280px" else pytest.approx(points / 72 * 300, abs=1))
    root = ET.fromstring(svg)
    box = [float(side) for side in root.get("viewBox", "").split()]
    assert root.get("width") == f"{points:.2f}pt"
    assert points / box[2] == pytest.approx(one.scale, rel=1e-3), "pixels are squares"
    assert box[0] + box[2] / 2 == pytest.approx(size_of(one.svg)[0] / 2, abs=5), "in the middle of the page"


def test_deep_networks_fit_on_a_page_and_on_a_slide(traced: Callable[..., Trace]) -> None:
    """A page has 9 inches of text, a slide 16:9."""
    for name in ("resnet50", "mobilenet-v3-large", "vgg16", "densenet121"):
        column, slide = (drawn(traced(name), RequestedSize(), length("", text)) for text in ("3.25in", "1280px"))
        if name not in ("vgg16", "densenet121"):  # 16 and more boxes in line at every level
            assert size_of(column.svg)[1] * column.scale <= 9 * 72 + 0.1, name
        assert size_of(slide.svg)[1] * slide.scale <= 960 * 9 / 16 + 0.1, name


def test_a_plot_has_a_width_too(archscope: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.pdf"
    for kind, model in (("layers", "alexnet"), ("scaling", "mobilenet-v1"), ("models", "lenet"), ("share", "lenet")):
        assert archscope("plot", kind, model, "--width", "3.25in", "--output", str(file)).code == 0
        assert page(file.read_bytes())[0] == pytest.approx(234, abs=0.1)
    wide_one = tmp_path / "a.png"
    assert archscope("plot", "field", "alexnet", "--width", "1280px", "--output", str(wide_one)).code == 0
    assert pixels(wide_one.read_bytes())[0] == 1280


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("draw lenet --width 3.25 -o a.png", "--width is a length with a unit, from 0.5in to 200in: 3.25in, 8.5cm"),
        ("draw lenet --width 0in -o a.png", "--width is a length with a unit"),
        ("draw lenet --width 3km -o a.png", "--width is a length with a unit"),
        ("draw lenet --width 3in --format mermaid", "--width is of svg, png and pdf; mermaid has no size"),
        ("draw lenet --format png", "a picture needs a file: --output lenet.png"),
        ("draw lenet --direction up", "unknown direction 'up': choose from down, right"),
        ("draw lenet --level blocks", "unknown level 'blocks': did you mean block?"),
        ("draw lenet --level block --depth 1", "--level and --depth both say how much is shown"),
        ("draw lenet --style solids --direction right", "--direction is of graphs"),
        ("draw resnet50 --style graph --direction right --width 3.25in", "cannot be read: --width "),
        ("plot models all --width 3.25in -o a.png", "the plot models has no room in that --width: a wider one"),
        ("plot lenet", "plot takes a kind and what to draw: archscope plot layers lenet --output layers.svg"),
        ("plot speed", "archscope plot speed runs.jsonl --output speed.svg"),
        ("plot layers lenet", "a plot needs a file: --output layers.svg"),
        ("draw lenet a.png", "write --output a.png"),
        ("draw lenet --pdf", "write --output FILE.pdf"),
        ("plot layers lenet --width wide -o a.png", "--width is a length with a unit"),
        ("plot layers lenet --format gif -o a.png", "unknown format 'gif'"),
    ],
)
def test_what_is_typed_wrong(words: str, said: str, archscope: Command, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    ran = archscope(*words.split())
    assert ran.code == 2 and said in ran.err and not ran.out and ran.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_is_too_small_is_answered_with_what_works(archscope: Command, tmp_path: Path) -> None:
    words = ["draw", "resnet18", "--style", "graph", "--direction", "right", "-o", str(tmp_path / "a.pdf")]
    ran = archscope(*words, "--width", "3.25in")
    found = re.search(r"--width ([\d.]+in) is enough, or (--direction down)", ran.err)
    assert ran.code == 2 and found is not None
    assert archscope(*words, "--width", found[1]).code == 0
    assert archscope(*words, *found[2].split(), "--width", "3.25in").code == 0  # the last one counts


# -------------------------------------------------------------------------------------------- direction and level


def test_to_the_right_nothing_overlaps_and_lines_go_right(traced: Callable[..., Trace], detector: Trace) -> None:
    for record in (traced("inception-block"), traced("resnet18"), traced("densenet121"), detector):
        root = ET.fromstring(svg_of(graph_of(record), right=True))
        left, top, across, down = map(float, root.get("viewBox", "").split())
        boxes = [
            tuple(float(rect.get(key, "0")) for key in ("x", "y", "width", "height"))
            for rect in root.iter(f"{SVG}rect")
            if rect.get("stroke-width") == "1.2"
        ]
        assert len(boxes) == len(graph_of(record).nodes)
        for i, (x, y, w, h) in enumerate(boxes):
            assert x >= left and y >= top and x + w <= left + across and y + h <= top + down
            assert all(x + w <= a or a + c <= x or y + h <= b or b + d <= y for a, b, c, d in boxes[i + 1 :])
        for path in root.iter(f"{SVG}path"):
            if path.get("marker-end") is not None:
                places = [float(pair.split(",")[0]) for pair in re.findall(r"-?[\d.]+,-?[\d.]+", path.get("d", ""))]
                assert places == sorted(places)


def test_mermaid_and_dot_go_right_too(archscope: Command) -> None:
    assert "flowchart LR" in archscope("draw", "lenet", "--format", "mermaid", "--direction", "right").out
    assert "rankdir=LR" in archscope("draw", "lenet", "--format", "dot", "--direction", "right").out


def of(graph: Graph) -> dict[str, str]:
    """Path -> kinds."""
    return {node.path: " · ".join(node.kinds) for node in graph.nodes}


def test_stages_of_a_residual_network(traced: Callable[..., Trace]) -> None:
    """He et al. 2016, table 1: conv2_x to conv5_x have 3, 4, 6 and 3 blocks, each of 56, 28, 14 and 7 pixels."""
    graph = at_level(traced("resnet50"), "stage")
    stages = {node.path: (node.kinds, (node.shape or ())[2:]) for node in graph.nodes if node.path.startswith("layer")}
    assert stages == {
        "layer1": (("3 × Bottleneck",), (56, 56)), "layer2": (("4 × Bottleneck",), (28, 28)),
        "layer3": (("6 × Bottleneck",), (14, 14)), "layer4": (("3 × Bottleneck",), (7, 7)),
    }  # fmt: skip
    wide, first = 256, 64  # the first block: 1×1, 3×3, 1×1 and its projection, each with a normalisation
    block = first * 64 + 9 * 64 * 64 + 64 * wide + 2 * (64 + 64 + wide) + first * wide + 2 * wide
    other = wide * 64 + 9 * 64 * 64 + 64 * wide + 2 * (64 + 64 + wide)
    (stage,) = [node for node in graph.nodes if node.path == "layer1"]
    assert stage.params == (block + 2 * other,)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["resnet50", "googlenet", "densenet121", "mobilenet-v3-large", "vgg16", "lstm"])
def test_every_level_holds_everything(name: str, level: str, traced: Callable[..., Trace]) -> None:
    record = traced(name)
    graph = at_level(record, level)
    assert sum(sum(node.params) for node in graph.nodes) == totals(record)["params"]
    assert sum(count or 0 for node in graph.nodes for count in node.macs) == totals(record)["macs"]
    ids = {node.id for node in graph.nodes}
    assert all({edge.source, edge.target} <= ids for edge in graph.edges)
    assert all(set(block.nodes) <= ids for block in graph.blocks)
    counts = [len(at_level(record, one).nodes) for one in LEVELS]
    assert counts == sorted(counts), "a finer level has no fewer nodes"


def test_a_stage_says_its_first_and_last_block(traced: Callable[..., Trace]) -> None:
    """Howard et al. 2019, table 1: blocks 4 to 6 give 28×28, 7 to 12 give 14×14, 13 to 15 give 7×7."""
    kinds = of(at_level(traced("mobilenet-v3-large"), "stage"))
    assert {path: kind for path, kind in kinds.items() if " to " in path} == {
        "block2 to 3": "2 × InvertedResidual", "block4 to 6": "3 × InvertedResidual",
        "block7 to 12": "6 × InvertedResidual", "block13 to 15": "3 × InvertedResidual",
    }  # fmt: skip


def test_a_stage_is_of_one_size_and_in_line(traced: Callable[..., Trace]) -> None:
    """Simonyan and Zisserman 2015, table 1, D: 2, 2, 3, 3 and 3 convolutions between the pools."""
    kinds = of(at_level(traced("vgg16"), "stage"))
    assert [kind[0] for path, kind in kinds.items() if "× Conv2d" in kind] == ["2", "2", "3", "3", "3"]


def test_blocks_that_repeat_are_not_hidden_in_the_one_around_them() -> None:
    pytest.importorskip("torchvision")
    from archscope import record_of

    kinds = of(at_level(record_of("torchvision:vit_b_16"), "block"))
    assert "EncoderBlock" in kinds.values() and "Encoder" not in kinds.values()


# ------------------------------------------------------------------------------------------------ what is drawn


def test_each_output_has_a_node(detector: Trace) -> None:
    graph = graph_of(detector)
    outputs = {node.path: node.shape for node in graph.nodes if node.role == "output"}
    assert outputs == {"output 1": (1, 4, 32, 32), "output 2": (1, 4, 15, 15), "output 3": (1, 4, 7, 7)}


def test_two_inputs_have_names_and_what_leads_nowhere_is_left_out(pair: Trace) -> None:
    graph = graph_of(pair)
    paths = [node.path for node in graph.nodes]
    assert paths[:2] == ["input 1", "input 2"] and "places" in paths
    assert not any(node.kinds[0] in ("cumsum", "gt", "arange") for node in graph.nodes)
    assert sum(sum(node.params) for node in graph.nodes) == (6 * 4 + 4) + 9 * 4 + 5 * 4


class Held:
    """An object that holds a tensor, as the images of a detector."""

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held


class Prepare(nn.Module):
    def forward(self, x: torch.Tensor) -> Held:
        return Held((x - 0.5) / 0.2)


class Prepared(nn.Module):
    """What comes before the network gives it an object."""

    def __init__(self) -> None:
        super().__init__()
        self.prepare, self.conv = Prepare(), nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.prepare(x).held)


def test_what_an_object_holds_is_followed() -> None:
    graph = graph_of(trace(Prepared(), (1, 3, 8, 8)), 1)
    ways = {(graph.by_id[e.source].path, graph.by_id[e.target].path) for e in graph.edges}
    assert ("prepare", "conv") in ways and ("conv", "output") in ways


@pytest.mark.parametrize("right", [False, True])
def test_shapes_stand_in_the_picture_and_beside_the_boxes(
    right: bool, traced: Callable[..., Trace], detector: Trace
) -> None:
    for record in (traced("resnet18"), traced("googlenet"), traced("inception-block"), detector):
        root = ET.fromstring(svg_of(graph_of(record), right))
        left, _, across, _ = map(float, root.get("viewBox", "").split())
        boxes = [
            tuple(float(rect.get(key, "0")) for key in ("x", "y", "width", "height"))
            for rect in root.iter(f"{SVG}rect")
            if rect.get("stroke-width") == "1.2"
        ]
        for text in root.iter(f"{SVG}text"):
            if text.get("font-size") != "10":
                continue
            x, y, room = float(text.get("x", "0")), float(text.get("y", "0")), wide(text.text or "", 10)
            begin = x - (room if text.get("text-anchor") == "end" else 0)
            assert left <= begin and begin + room <= left + across, text.text
            assert not any(a < begin + room and begin < a + c and b < y and y - 7 < b + d for a, b, c, d in boxes)


def test_layouts_are_turned_not_stretched(detector: Trace) -> None:
    graph = graph_of(detector)
    sizes = {node.id: (80.0, 30.0) for node in graph.nodes}
    down, right = layered(graph, sizes, {}), layered(graph, sizes, {}, right=True)
    for n, box in right.boxes.items():
        assert (box.width, box.height) == (down.boxes[n].width, down.boxes[n].height) == (80.0, 30.0)
    assert right.width > right.height and down.height > down.width


def test_solids_are_broken_into_rows(traced: Callable[..., Trace]) -> None:
    graph = graph_of(traced("alexnet"))
    (wide_one, flat), (narrow, tall) = size_of(svg_of_solids(graph)), size_of(svg_of_solids(graph, 360))
    assert narrow < wide_one and tall > flat
