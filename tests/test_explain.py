"""The working on the page: every number here is worked out from the papers' hyperparameters, with its factors."""

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from test_expr import evaluate
from torch import nn

from archscope import Trace, trace
from archscope.analysis.verification import forget
from archscope.core.document import Document, Equation, Section, meanings, steps
from archscope.core.errors import SpecError
from archscope.core.expression import Expr
from archscope.core.formats import WRITERS, writer
from archscope.core.table import Column, Table
from archscope.layers import LAYERS, REFERENCES, derive
from archscope.learn.explain import LETTERS, compared_rows, explanation
from archscope.tracing.modules import describe
from archscope.zoo.catalogue import entries

Traced = Callable[..., Trace]


def lines_of(page: Document, title: str = "") -> dict[str, Equation]:
    """The lines of the first section whose title begins so, by their names; the first of each name."""
    section = next(s for s in page.sections if s.title.startswith(title))
    return {line.name: line for line in reversed(section.equations)}


def values(page: Document, title: str = "") -> dict[str, Any]:
    return {name: getattr(line.number, "value", line.number) for name, line in lines_of(page, title).items()}


def notes(page: Document) -> str:
    return " ".join(note for section in page.sections for note in section.notes)


# ------------------------------------------------------------------------------------------------------- one layer


def test_alexnets_first_convolution(traced: Traced) -> None:
    lines = lines_of(explanation(traced("alexnet"), "conv1"))
    assert steps(lines["height and width"]) == [
        "h_out = w_out", "⌊(m − p + 2·pad)/s⌋ + 1", "⌊(227 − 11 + 2·0)/4⌋ + 1", "55",
    ]  # fmt: skip
    assert steps(lines["channels"]) == ["c_out", "96"]
    assert steps(lines["parameters"]) == ["k_h·k_w·c_in·c_out + c_out", "11·11·3·96 + 96", "34,944"]
    assert steps(lines["MACs"])[1:] == ["55·55·11·11·3·96", "105,415,200"]
    assert steps(lines["neurons"]) == ["h_out·w_out·c_out", "55·55·96", "290,400"]
    assert steps(lines["receptive field"]) == ["r_out", "r_in + (p − 1)·j_in", "1 + (11 − 1)·1", "11"]
    assert steps(lines["jump"]) == ["j_out", "j_in·s", "1·4", "4"]
    assert steps(lines["memory"])[1:] == ["55·55·96·4", "1,161,600"] and lines["memory"].unit == "B"
    assert all(line.source for line in lines.values())


# path: receptive field and jump, by r + (p − 1)·j and j·s from 1, 1
FIELDS = {
    "conv1": (11, 4), "pool1": (11 + 2 * 4, 8), "conv2": (19 + 4 * 8, 8), "pool2": (51 + 2 * 8, 16),
    "conv3": (67 + 2 * 16, 16), "conv5": (99 + 2 * 16 + 2 * 16, 16), "pool5": (163 + 2 * 16, 32),
}  # fmt: skip


@pytest.mark.parametrize("path", FIELDS)
def test_the_receptive_field_grows(traced: Traced, path: str) -> None:
    found = values(explanation(traced("alexnet"), path))
    assert (found["receptive field"], found["jump"]) == FIELDS[path]


def test_height_and_width_apart_where_they_differ() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, (3, 5), stride=(2, 1), padding=(1, 0)))
    lines = lines_of(explanation(trace(net, ((1, 1, 20, 30),)), "0"))
    assert str(lines["height"].number) == "⌊(20 − 3 + 2·1)/2⌋ + 1 = 10" and lines["height"].letter == "h_out"
    assert str(lines["width"].number) == "⌊(30 − 5 + 2·0)/1⌋ + 1 = 26" and lines["width"].letter == "w_out"
    assert str(lines["receptive field, height"].number) == "1 + (3 − 1)·1 = 3"
    assert str(lines["receptive field, width"].number) == "1 + (5 − 1)·1 = 5"
    assert [lines[f"jump, {side}"].number.value for side in ("height", "width")] == [2, 1]  # type: ignore[union-attr]


def test_dilation_in_the_receptive_field() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, dilation=4))
    lines = lines_of(explanation(trace(net, ((1, 1, 20, 20),)), "0"))
    assert str(lines["receptive field"].number) == "1 + 4·(3 − 1)·1 = 9"


def test_a_batch_is_a_factor(traced: Traced) -> None:
    lines = lines_of(explanation(traced("alexnet", "8x3x227x227"), "conv1"))
    assert str(lines["MACs"].number) == "8·55·55·11·11·3·96 = 843,321,600"
    assert str(lines["neurons"].number) == "8·55·55·96 = 2,323,200"
    assert lines["parameters"].number.value == 11 * 11 * 3 * 96 + 96  # type: ignore[union-attr]


def test_batch_normalisation_learns_two_and_keeps_two_and_one(traced: Traced) -> None:
    lines = lines_of(explanation(traced("resnet18"), "bn1"))
    assert str(lines["parameters"].number) == "2·64 = 128"
    assert str(lines["buffers"].number) == "2·64 + 1 = 129"


@pytest.mark.parametrize(
    "module",
    [nn.BatchNorm2d(8), nn.BatchNorm2d(8, track_running_stats=False), nn.BatchNorm2d(8, affine=False),
     nn.InstanceNorm2d(8), nn.Conv2d(8, 4, 1), nn.LayerNorm(4), nn.SyncBatchNorm(8)],
    ids=lambda module: str(module),
)  # fmt: skip
def test_buffers_are_those_of_the_module(module: nn.Module) -> None:
    kind, config = describe(module)
    derived = derive(kind, config, ((2, 8, 4, 4),))
    assert derived is not None
    assert int(derived.buffers) == sum(buffer.numel() for buffer in module.buffers())


class Odd(nn.Module):
    """What is no layer: a token of its own, a module that never runs, a product of tensors, a layer run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 3, 8))
        self.never = nn.Linear(5, 7)
        self.twice = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twice(self.twice(x + self.token))
        return torch.matmul(x, x.transpose(1, 2))


def test_rounding_up_transposing_and_keeping() -> None:
    net = nn.Sequential(
        nn.MaxPool2d(2, 2, padding=1, ceil_mode=True), nn.ConvTranspose2d(3, 2, 3, stride=2, output_padding=1),
        nn.Conv2d(2, 2, 3, padding="same"),
    )  # fmt: skip
    record = trace(net, ((1, 3, 9, 9),))
    # ⌈(9 − 2 + 2)/2⌉ + 1 = 6 windows at −1, 1, …, 9; 9 + 1 = 10 is where the right padding begins
    assert "a last window that would start in the padding is dropped: here the − 1" in notes(explanation(record, "0"))
    up = lines_of(explanation(record, "1"))
    assert str(up["height and width"].number) == "(5 − 1)·2 + 3 − 2·0 + 1 = 12"
    assert str(up["MACs"].number) == "5·5·3·3·3·2 = 1,350" and "every place of the input" in up["MACs"].source
    assert steps(lines_of(explanation(record, "2"))["height and width"]) == ["h_out = w_out", "12"]


def test_what_belongs_to_no_layer() -> None:
    record = trace(Odd(), ((2, 3, 8),))
    assert str(lines_of(explanation(record, "token"))["parameters"].number) == "1·3·8 = 24"
    assert str(lines_of(explanation(record, "never"))["parameters"].number) == "7·5 + 7 = 42"
    assert "never ran" in notes(explanation(record, "never"))
    assert str(lines_of(explanation(record, "matmul"))["MACs"].number) == "2·3·8·3 = 144"
    assert len(explanation(record, "twice").sections) == 2


def test_a_row_that_disagrees_is_told(monkeypatch: pytest.MonkeyPatch, archscope) -> None:
    original = LAYERS["Conv2d"]
    forget()
    without = original._replace(form=lambda config, shapes: original.form({**config, "bias": False}, shapes))
    monkeypatch.setitem(LAYERS, "Conv2d", without)
    ran = archscope("explain", "lenet", "conv1")
    forget()
    assert ran.code == 1
    assert "The run disagrees: 150 parameters by formula, 156 observed" in " ".join(ran.out.split())


# -------------------------------------------------------------------------------------- where the literature stumbles


def test_224_or_227(traced: Traced) -> None:
    told = notes(explanation(traced("alexnet"), "conv1"))
    assert "(224 − 11)/4 = 213/4 is no integer: ⌊(224 − 11 + 2·0)/4⌋ + 1 = 54" in told
    assert "5×5, so fc6 sees 5·5·256 = 6,400 features in the place of 9,216" in told
    assert "227 with padding 0 gives 55" in told and "⌊(224 − 11 + 2·2)/4⌋ + 1 = 55" in told
    # the same of another input: 259 gives 63, and 227 still 55
    assert "227 with padding 0 gives 55" in notes(explanation(traced("alexnet", "8x3x230x230"), "conv1"))


def test_the_forgotten_biases(traced: Traced) -> None:
    assert "11·11·3·96 = 34,848; a count of 34,848 has forgotten them" in notes(explanation(traced("alexnet"), "conv1"))


def test_two_towers_or_one(traced: Traced) -> None:
    told = notes(explanation(traced("alexnet"), "conv2"))
    assert 5 * 5 * 48 * 256 + 256 == 307_456 and 5 * 5 * 96 * 256 + 256 == 614_656
    assert "as 48 (the paper's two towers, 2 groups)" in told and "with 96 (one device)" in told
    assert "307,456 and 614,656 parameters" in told
    assert "towers" not in notes(explanation(traced("alexnet-onegpu"), "conv2"))


def test_a_lost_row_is_told(traced: Traced) -> None:
    told = notes(explanation(traced("alexnet", "1x3x229x229"), "conv1"))
    assert "(229 − 11)/4 leaves 2: the last 2 rows and columns are never reached" in told


# ------------------------------------------------------------------------------------------------------- comparisons


def test_depthwise_separable(traced: Traced) -> None:
    page = explanation(traced("depthwise-separable-block"))
    found = values(page, "Depthwise separable")
    depthwise, pointwise, standard = 112 * 112 * 9 * 32, 112 * 112 * 32 * 64, 112 * 112 * 9 * 32 * 64
    assert (found["depthwise MACs"], found["pointwise MACs"], found["standard MACs"]) == (
        depthwise,
        pointwise,
        standard,
    )
    assert found["cost ratio"] == Fraction(1, 64) + Fraction(1, 9) == Fraction(depthwise + pointwise, standard)
    assert found["parameters"] == 9 * 32 + 32 * 64 and found["standard parameters"] == 9 * 32 * 64
    ratio = lines_of(page, "Depthwise separable")["cost ratio"]
    assert steps(ratio) == ["1/c_out + 1/(k_h·k_w)", "1/64 + 1/(3·3)", "73/576 = 0.1267"]


def test_every_depthwise_pair_of_mobilenet(traced: Traced) -> None:
    assert "All 13 together" in notes(explanation(traced("mobilenet-v1")))
    # a squeeze-and-excitation between the two does not part them, nor is it taken for one
    v3 = explanation(traced("mobilenet-v3-small"), "block1.depthwise.conv")
    assert v3.sections[1].title.endswith(": block1.depthwise.conv and block1.project.conv")
    assert "All 11 together" in notes(explanation(traced("mobilenet-v3-small")))


def test_small_kernels_in_a_row(traced: Traced) -> None:
    """VGG-16: the second and the third 3×3 of 256 channels see as far as a 5×5, with 2·9/25 of its weights."""
    record = traced("vgg16")
    convs = [one.row.path for one in compared_rows(record) if one.kind == "Conv2d"]
    page = explanation(record, convs[6])
    title = f"Small kernels in a row against one large: {convs[5]} to {convs[6]}"
    found = values(page, title)
    assert found["they see"] == 5 and found["their weights"] == 2 * 9 * 256 * 256
    assert found["one of 5×5"] == 25 * 256 * 256 and found["weights kept"] == Fraction(18, 25)
    stacks = [s for s in explanation(traced("vgg19"), "*").sections if s.title.startswith("Small kernels")]
    assert {str(line.number) for s in stacks for line in s.equations if line.name == "they see"} == {
        "3·(3 − 1) + 1 = 7", "4·(3 − 1) + 1 = 9",
    }  # fmt: skip
    # a sum between two convolutions parts them
    residual = [s.title for s in explanation(traced("resnet18"), "layer1.*.conv2").sections if "Small" in s.title]
    assert [title.rpartition(": ")[2] for title in residual] == [
        "layer1.0.conv1 to layer1.0.conv2", "layer1.1.conv1 to layer1.1.conv2",
    ]  # fmt: skip


def test_fc6_as_a_convolution(traced: Traced) -> None:
    page = explanation(traced("alexnet"), "fc6")
    lines = lines_of(page, "A fully connected layer")
    assert str(lines["height and width"].number) == "⌊(6 − 6 + 2·0)/1⌋ + 1 = 1"
    assert str(lines["parameters"].number) == "6·6·256·4096 + 4096 = 37,752,832"
    assert values(page, "A fully connected layer")["MACs"] == 6 * 6 * 256 * 4096
    assert not any(s.title.startswith("A fully") for s in explanation(traced("alexnet"), "fc7").sections)


def test_inception_with_and_without_its_reductions(traced: Traced) -> None:
    places = 28 * 28
    pool = places * 192 * 32
    with_ = places * (192 * 64 + 192 * 96 + 9 * 96 * 128 + 192 * 16 + 25 * 16 * 32) + pool
    without = places * (192 * 64 + 9 * 192 * 128 + 25 * 192 * 32)
    section = next(s for s in explanation(traced("googlenet"), "inception3a").sections if "reductions" in s.title)
    blocks = [line.number.value for line in section.equations if line.name in ("block MACs", "block MACs without")]  # type: ignore[union-attr]
    assert with_ in blocks and without in blocks
    kept = next(line.number for line in section.equations if line.name == "MACs kept")
    assert kept.value == Fraction(with_, without)  # type: ignore[union-attr]
    channels = [line.number for line in section.equations if line.name.startswith("channels")]
    assert [str(c) for c in channels] == ["64 + 128 + 32 + 32 = 256", "64 + 128 + 32 + 192 = 416"]
    # the zoo's naive block is what stands on the other side
    naive = values(explanation(traced("inception-naive-block")), "The network")
    told = [int(getattr(line.number, "value", 0)) for line in section.equations]
    assert naive["MACs"] == without and naive["parameters"] in told


def test_a_residual_block(traced: Traced) -> None:
    plain = values(explanation(traced("residual-block")), "What a residual")
    body = 2 * 9 * 64 * 64 + 2 * 2 * 64
    assert plain["parameters of F"] == plain["parameters"] == body and plain["additions"] == 64 * 56 * 56
    wider = values(explanation(traced("resnet18"), "layer2.0"), "What a residual")
    assert wider["parameters of F"] == 9 * 64 * 128 + 9 * 128 * 128 + 2 * 2 * 128
    assert wider["shortcut"] == 64 * 128 and wider["its norm"] == 2 * 128
    assert wider["shortcut MACs"] == 28 * 28 * 64 * 128 and wider["additions"] == 128 * 28 * 28


def test_a_positions_table_is_no_residual_block() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions = nn.Parameter(torch.zeros(1, 3, 8))
            self.fc = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x + self.positions)

    page = explanation(trace(nn.Sequential(Encoder()), ((2, 3, 8),)))
    assert not any("residual" in section.title for section in page.sections)


def test_a_dense_block(traced: Traced) -> None:
    lines = lines_of(explanation(traced("dense-block")), "What a dense block")
    assert str(lines["channels"].number) == "3 + 2·10 = 23"
    assert str(lines["last layer"].number) == "3·3·13·10 + 10 = 1,180"
    published = values(explanation(traced("densenet121"), "features.denseblock1"), "What a dense block")
    assert published["channels"] == 64 + 6 * 32 and published["the last layer reads"] == 64 + 5 * 32


def test_the_gates(traced: Traced) -> None:
    lines = lines_of(explanation(traced("lstm")), "The gates")
    assert str(lines["one gate"].number) == "4·(4 + 4) + 2·4 = 40"
    assert [lines[f"as {kind}"].number.value for kind in ("RNN", "GRU", "LSTM")] == [40, 120, 160]  # type: ignore[union-attr]
    assert lines["all gates"].number.value == 160  # type: ignore[union-attr]


def test_attention() -> None:
    """MultiheadAttention(16, 4) on [2, 5, 16]: projections 4·16·16·10 = 10,240, scores 2·(2·5·5·16) = 1,600."""

    class Self(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x)[0]

    found = values(explanation(trace(Self(), ((2, 5, 16),)), "attention"), "Projections")
    assert (found["projections"], found["scores and sums"], found["together"]) == (10_240, 1_600, 11_840)
    assert found["parameters"] == 4 * 16 * 16 + 4 * 16 and found["features of a head"] == 4


# ------------------------------------------------------------------------------------------- every network of the zoo


def full(record: Trace) -> Document:
    """Every layer, block and operator of a network in full."""
    return explanation(record, "*")


@pytest.mark.parametrize("name", [name for name in entries() if not re.search("101|152|161|169|201", name)])
def test_what_is_printed_computes_to_what_is_printed(traced: Traced, name: str) -> None:
    """Text and value of each derivation, letters with a meaning, rules with a source, in every network."""
    record = traced(name)
    layers = full(record).sections
    for section in (*layers, *explanation(record).sections):
        for line in section.equations:
            number = line.number
            if isinstance(number, Expr) and isinstance(number.value, int) and not number.plain:
                assert evaluate(number.digits.replace(",", "")) == number.value, (section.title, line.name)
            assert steps(line)[-1].replace(",", "").split(" = ")[0] == str(
                number.value if isinstance(number, Expr) else number
            )
    for section in layers:
        if not section.letters:
            continue  # a comparison: its letters are words
        for line in section.equations:
            assert line.source, (section.title, line.name)
            letters = line.number.leaves if isinstance(line.number, Expr) else {}
            assert {a for a in letters if not re.fullmatch(r"n_\d+", a)} <= section.letters.keys(), section.title
        assert len(meanings(section)) <= len(section.letters)


def test_the_derived_totals_are_the_networks(traced: Traced) -> None:
    for name in ("alexnet", "googlenet-d2l", "gru-classifier"):
        found = values(explanation(traced(name)), "The network")
        assert found["parameters"] == entries()[name].params
        assert found["MACs"] == (entries()[name].macs or found["MACs"])


def test_letters_and_references() -> None:
    assert all(LETTERS.values())
    cited = set(itertools.chain.from_iterable(re.findall(r"\[([A-Z])\]", one.source) for one in LAYERS.values()))
    assert cited <= REFERENCES.keys()
    assert all(re.search(r"\(\d{4}\)$", work) for work in REFERENCES.values())


def test_equal_layers_stand_once(traced: Traced) -> None:
    titles = [section.title for section in explanation(traced("vgg16")).sections]
    assert sum("more like it" in title for title in titles) >= 3
    items = [one for one in compared_rows(traced("vgg16")) if one.values["params"] or one.values["macs"]]
    told = sum(
        1 + int(m[1]) if (m := re.search(r"and (\d+) more", t)) else 1 for t in titles if ": Conv" in t or ": Lin" in t
    )
    assert told == len(items)


# ------------------------------------------------------------------------------------------------------------ finding


def test_paths_and_wildcards(traced: Traced) -> None:
    record = traced("resnet18")
    titles = [s.title.partition(":")[0] for s in explanation(record, "layer1.*.conv1").sections if s.facts]
    assert titles == ["layer1.0.conv1", "layer1.1.conv1"]
    assert explanation(record, "layer1.0").sections[0].title == "layer1.0: BasicBlock"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [("cnov1", "did you mean conv1"), ("downsample", "did you mean layer2.0.downsample"), ("zzz", "trace resnet18`")],
)  # fmt: skip
def test_a_layer_that_is_not_there(traced: Traced, typed: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=re.escape(sentence)):
        explanation(traced("resnet18"), typed)


# ------------------------------------------------------------------------------------------------------------ formats

PAGE = Document(
    "A page",
    (
        Section(
            "One",
            ("about",),
            (Equation("side", Expr("+", (Expr("symbol", ("m",), 3), 2), 5), "h_out", "[D] 1"),),
            ("note",),
        ),
        Section("Two", (), (Equation("side", 5, "h_out", "[D] 2"),), brief=True),
    ),
    caption="archscope",
)


def test_the_terminal() -> None:
    assert WRITERS["terminal"](PAGE) == (
        "A page\n\nOne\nabout\n\n  side  h_out = m + 2 = 3 + 2 = 5  [1]\n\n· note\n\nTwo\n  side  h_out = 5\n\n"
        "Sources\n[1] [D] 1\n\narchscope\n"
    )
    assert "\x1b[" not in WRITERS["terminal"](PAGE) and "\x1b[1mA page" in WRITERS["terminal"](PAGE, color=True)


@pytest.mark.parametrize(("format", "row"), [("terminal", "conv1 5"), ("md", "| conv1"), ("latex", "conv1 & 5")])
def test_a_table_in_a_document(format: str, row: str) -> None:
    table = Table("Sides", (Column("path", "Layer"), Column("side", "Side", "count")), ({"path": "conv1", "side": 5},))
    document = Document("A page", (Section("One", tables=(table,), notes=("a note",)),))
    text = WRITERS[format](document)
    assert row in " ".join(text.split()) or row in text
    assert text.index("One") < text.index("conv1") < text.index("a note")
    assert json.loads(WRITERS["json"](document))["sections"][0]["tables"] == [[{"path": "conv1", "side": 5}]]


def test_a_narrow_terminal_breaks_at_the_signs_of_equality() -> None:
    text = WRITERS["terminal"](PAGE, width=24)
    assert "  side  h_out = m + 2\n              = 3 + 2\n              = 5  [1]\n" in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_text_fits_the_terminal(traced: Traced, width: int) -> None:
    lines = WRITERS["terminal"](explanation(traced("alexnet"), "conv1"), width=width).splitlines()
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("name", ["alexnet", "lstm", "mobilenet-v2"])
def test_a_narrow_terminal_folds_and_loses_nothing(name: str, traced: Traced) -> None:
    page = explanation(traced(name))
    narrow, wide = WRITERS["terminal"](page, width=40), WRITERS["terminal"](page, width=None)
    assert max(map(len, narrow.splitlines())) <= 40
    equations = [line.split("  ", 2)[-1] for line in wide.splitlines() if line.startswith("  ") and " = " in line]
    assert len(equations) > 5
    for equation in equations:
        assert "".join(equation.split()) in "".join(narrow.split())


def test_markdown(traced: Traced) -> None:
    text = WRITERS["md"](explanation(traced("alexnet"), "conv1"))
    assert (
        "**height and width** [1]\n\n$$\n"
        r"h_{\mathrm{out}} = w_{\mathrm{out}} = \left\lfloor\frac{m - p + 2 \cdot \mathrm{pad}}{s}\right\rfloor + 1 = "
        r"\left\lfloor\frac{227 - 11 + 2 \cdot 0}{4}\right\rfloor + 1 = 55" + "\n$$\n"
    ) in text
    assert text.count("$$") % 2 == 0
    for maths in re.findall(r"\$\$\n(.*?)\n\$\$", text, re.DOTALL):
        assert maths.count("{") == maths.count("}") and not re.search("[·−⌊⌋×]", maths)
    assert r"\_" not in re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)


def test_json(archscope) -> None:
    ran = archscope("explain", "alexnet", "conv1", "--format", "json")
    (section,) = json.loads(ran.out)["sections"]
    assert section["path"] == "conv1" and section["output"] == [1, 96, 55, 55] and section["agrees"] is True
    lines = {line["quantity"]: line for line in section["lines"]}
    assert lines["parameters"]["value"] == 34_944 and lines["parameters"]["digits"] == "11·11·3·96 + 96"
    assert lines["height and width"]["latex"].startswith(r"\left\lfloor\frac{m - p")
    ratio = json.loads(archscope("explain", "depthwise-separable-block", "--format", "json").out)["sections"][-1]
    assert [line["value"] for line in ratio["lines"] if line["quantity"] == "cost ratio"] == [73 / 576]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize(
    ("model", "layer"),
    [("alexnet", "*"), ("googlenet", "inception3a"), ("mobilenet-v1", None), ("lstm", None), ("lenet-bn", "*"),
     ("gru-classifier", "*")],
)  # fmt: skip
def test_latex_compiles(traced: Traced, tmp_path: Path, model: str, layer: str | None) -> None:
    (tmp_path / "page.tex").write_text(WRITERS["latex"](explanation(traced(model), layer)), encoding="utf-8")
    ran = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert (tmp_path / "page.pdf").stat().st_size > 10_000


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_every_source_compiles(tmp_path: Path) -> None:
    lines = tuple(Equation(kind, 1, "", one.source) for kind, one in LAYERS.items())
    (tmp_path / "page.tex").write_text(
        WRITERS["latex"](Document("Sources", (Section("All", (), lines),))), encoding="utf-8"
    )
    ran = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-2000:]


def test_a_format_is_entered_once() -> None:
    with pytest.raises(ValueError, match="the format 'md' is registered twice"):
        writer("md")(lambda page: "")


# ------------------------------------------------------------------------------------------------------- the command


def test_the_command(archscope, tmp_path: Path) -> None:
    ran = archscope("explain", "alexnet", "conv1", env={"COLUMNS": "100"})
    assert ran.code == 0 and ran.out.startswith("alexnet, input 1×3×227×227\n")
    whole = archscope("explain", "lenet")
    assert whole.code == 0 and "The network" in whole.out and "5·5·1·6 + 6 = 156" in whole.out
    for format in ("md", "latex", "json"):
        file = tmp_path / f"page.{format}"
        assert archscope("explain", "lenet", "--format", format, "--output", str(file)).code == 0
        assert file.read_text(encoding="utf-8") == archscope("explain", "lenet", "--format", format).out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("alexnet", "cnov1"), "did you mean conv1"),
        (("alexnet", "--format", "makdown"), "unknown format 'makdown'"),
        (("alexnett",), "did you mean alexnet"),
        (("alexnet", "--batch", "0"), "--batch is a whole number from 1 on"),
        (("alexnet", "--output", "/nowhere/at/all"), "there is no folder"),
    ],
)
def test_what_is_refused(archscope, arguments: tuple[str, ...], sentence: str) -> None:
    ran = archscope("explain", *arguments)
    assert ran.code == 2 and sentence in ran.err and len(ran.err.splitlines()) == 1


def test_an_input_that_does_not_fit(archscope) -> None:
    ran = archscope("explain", "alexnet", "--input", "224")
    assert ran.code == 1 and "9216" in ran.err and "6400" in ran.err


def test_a_layer_of_two_inputs() -> None:
    """Bilinear has out_features and no in_features."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both = nn.Bilinear(3, 4, 5)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.linalg.qr(self.both(x, y)).Q

    record = trace(Net(), ((2, 3), (2, 4)))
    whole, alone = (explanation(record, layer) for layer in (None, "both"))
    assert [page.sections[0].title for page in (whole, alone)] == ["both: Bilinear"] * 2
    assert "The MACs of 1 operator is unknown and in no sum." in whole.sections[-1].notes
