"""Worksheets: what is asked, and what marking makes of students who miss one rule. Each student does the arithmetic
here, in plain Python and with the mistake in it; the program has to find out which it was."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from archscope import Trace, trace
from archscope.core.errors import SpecError
from archscope.learn.grade import (
    BLANK,
    CARRIED,
    RIGHT,
    WRONG,
    GradedCell,
    Worksheet,
    marked,
    number_of,
    shapes_of,
    sheet_of,
    sheet_row,
    sheets_in,
    trace_for,
)
from archscope.learn.mistakes import CHANGES, RULES, SLIPS
from archscope.learn.quiz import head, questions, worksheet

Traced = Callable[..., Trace]


def marks_of(record: Trace, **changed: Any) -> dict[str, dict[str, GradedCell]]:
    """A sheet, right but for `layer__output="…"` or `layer__parameters="…"`, marked: layer -> cell -> mark."""
    answers = {
        one.layer: {"output": "x".join(map(str, one.output)), "parameters": str(one.params)}
        for one in questions(record)
    }
    for key, value in changed.items():
        layer, _, cell = key.rpartition("__")
        answers[layer.replace("__", ".")][cell] = str(value)
    out: dict[str, dict[str, GradedCell]] = {}
    for mark in marked(record, Worksheet("a sheet", {"model": record.model}, answers)):
        out.setdefault(mark.layer, {})[mark.cell] = mark
    return out


def wrong(record: Trace, **changed: Any) -> str:
    """What is said of the one cell that was changed; no other is wrong."""
    marks = [mark for cells in marks_of(record, **changed).values() for mark in cells.values() if mark.verdict != RIGHT]
    assert [mark.verdict for mark in marks] == [WRONG], marks
    return marks[0].reason


# --------------------------------------------------------------------------------------------------------- the sheet


def test_what_is_asked_of_alexnet(traced: Traced) -> None:
    asked = questions(traced("alexnet"))
    assert [one.layer for one in asked] == [
        "conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "flatten", "fc6", "fc7", "fc8",
    ]  # fmt: skip
    assert [one.after for one in asked[:3]] == [("input",), ("conv1",), ("pool1",)]  # ReLU and norm keep the shape
    assert all(one.asked for one in asked)


def test_a_blank_sheet_tells_the_configuration_and_nothing_else(traced: Traced) -> None:
    text = worksheet(traced("alexnet"), "csv", head(traced("alexnet")))
    lines = list(csv.reader(io.StringIO(text)))
    assert lines[0] == ["model", "alexnet"] and lines[1] == ["input", "1x3x227x227"]
    keys, conv2 = lines[2], lines[5]
    assert dict(zip(keys, conv2, strict=True)) == {
        "layer": "conv2", "after": "pool1", "kind": "Conv2d", "kernel": "5x5", "stride": "1", "padding": "2",
        "groups": "2", "bias": "yes", "out": "256", "output": "", "parameters": "",
    }  # fmt: skip
    for number in ("34944", "307456", "55", "9216"):
        assert number not in text


def test_the_same_model_gives_the_same_sheet(archscope) -> None:
    assert archscope("quiz", "googlenet").out == archscope("quiz", "googlenet").out


@pytest.mark.parametrize("format", ["md", "csv"])
@pytest.mark.parametrize(
    "name",
    ["alexnet", "googlenet", "resnet18", "densenet-d2l", "mobilenet-v3-small", "gru-classifier@bidirectional=true",
     "char-rnn-embedding", "dense-block"],
)  # fmt: skip
def test_the_answers_are_right(traced: Traced, tmp_path: Path, name: str, format: str) -> None:
    record = traced(name)
    file = tmp_path / f"sheet.{format}"
    file.write_text(worksheet(record, format, head(record), answers=True), encoding="utf-8")
    sheet = sheet_of(str(file))
    assert sheet.head["model"] == name
    marks = marked(record, sheet)
    assert len(marks) >= 6 and all(mark.verdict == RIGHT for mark in marks)


def test_what_is_joined_is_asked(traced: Traced) -> None:
    (joined,) = [one for one in questions(traced("inception-block")) if one.kind == "cat"]
    assert joined.after == ("branch1.conv", "branch2.conv", "branch3.conv", "branch4.conv")
    assert joined.output == (1, 64 + 128 + 32 + 32, 28, 28)


def test_a_sum_is_called_by_its_terms(traced: Traced) -> None:
    after = {one.layer: one.after for one in questions(traced("resnet18"))}
    assert after["layer1.1.conv1"] == ("layer1.0.bn2 + maxpool",)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.fc(x))[:, :2]


def test_what_no_closed_form_derives_is_given() -> None:
    record = trace(Shared(), ((3, 4),))
    assert [(one.layer, one.asked, one.params) for one in questions(record)][0] == ("fc", True, 20)
    given = [one for one in questions(record) if not one.asked]
    assert given and "3×2" in worksheet(record, "md", head(record))
    assert {mark.layer for mark in marked(record, Worksheet("", {}, {}))} == {"fc"}


# -------------------------------------------------------------------------------------------------- what is missed


def side(m: int, k: int, s: int = 1, pad: int = 0) -> int:
    return (m - k + 2 * pad) // s + 1


@pytest.fixture(scope="module")
def student() -> Trace:
    """A network in which every rule shows."""
    layers = {
        "conv": nn.Conv2d(3, 16, 5, stride=3, padding=1),  # (32 − 5 + 2)/3 = 29/3: the floor takes two thirds off
        "pool": nn.MaxPool2d(3, 2, ceil_mode=True),  # ⌈(10 − 3)/2⌉ + 1 = 5
        "grouped": nn.Conv2d(16, 32, 3, padding=2, dilation=2, groups=4, bias=False),
        "norm": nn.BatchNorm2d(32),
        "wide": nn.Conv2d(32, 8, (1, 3)),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(8 * 5 * 3, 10),
    }
    net = nn.Sequential()
    for name, layer in layers.items():
        net.add_module(name, layer)
    return trace(net, ((1, 3, 32, 32),), name="student")


def test_the_student_network(student: Trace) -> None:
    assert [one.output for one in questions(student)] == [
        (1, 16, 10, 10), (1, 16, 5, 5), (1, 32, 5, 5), (1, 32, 5, 5), (1, 8, 5, 3), (1, 120), (1, 10),
    ]  # fmt: skip


OUTPUTS = [
    ("conv", f"16x{side(32, 5, 3)}x{side(32, 5, 3)}", "padding forgotten", False),  # 9 + 1 = 10 as well: no difference
    ("conv", f"16x{-(-(32 - 5 + 2) // 3) + 1}x11", "floor against ceiling", True),
    ("conv", f"16x{side(32, 5, 1, 1)}x30", "stride forgotten", True),
    ("conv", "16x9x9", "the + 1 at the end forgotten", True),
    ("conv", "3x10x10", "the channels of the input kept: a kernel gives one each", True),
    ("conv", "10x10x16", "the channels written last: they stand before the sides", True),
    ("conv", "16x10x11", "off by one", True),
    ("conv", "10x10", "the channels left out", True),
    ("conv", "1600", "the elements counted", True),
    ("conv", "3x32x32", "the shape of the input: this layer changes it", True),
    ("conv", "77x1x2", "no rule that is known gives this", True),
    ("pool", f"16x{side(10, 3, 2)}x4", "floor against ceiling", True),
    ("pool", f"16x{side(10, 3, 1)}x8", "stride forgotten", True),
    ("grouped", f"32x{side(5, 3, 1, 2)}x7", "dilation ignored", True),
    ("grouped", f"32x{5 - 2 * 2}x1", "padding forgotten", True),
    ("grouped", f"32x{side(5, 3)}x3", "padding counted on one end only", True),  # 5 + 2 − 4 = 3; so is neither of both
    ("wide", "8x3x5", "height and width exchanged", True),
    ("flatten", f"{5 * 3}", "only the sides multiplied, without the channels", True),
    ("flatten", "8", "only the channels kept: a flatten multiplies them with the sides", True),
]


@pytest.mark.parametrize(("layer", "answer", "rule", "differs"), OUTPUTS, ids=[f"{o[0]}-{o[2][:24]}" for o in OUTPUTS])
def test_a_missed_rule_of_a_shape(student: Trace, layer: str, answer: str, rule: str, differs: bool) -> None:
    if not differs:
        assert marks_of(student, **{f"{layer}__output": answer})[layer]["output"].verdict == RIGHT
        return
    mark = marks_of(student, **{f"{layer}__output": answer})[layer]["output"]
    assert mark.verdict == WRONG and rule in mark.reason, mark


PARAMETERS = [
    ("conv", 5 * 5 * 3 * 16, "bias forgotten"),
    ("conv", 5 * 5 * 3 * 16 + 1, "one bias for the layer"),
    ("conv", 5 * 5 * 3 * 16 + 3, "a bias for every input channel"),
    ("conv", 5 * 3 * 16 + 16, "the kernel counted on one side only"),
    ("conv", 5 * 5 * 16 + 16, "the input channels forgotten"),
    ("conv", 5 * 5 * 3 + 1, "one kernel counted"),
    ("conv", 10 * 10 * 5 * 5 * 3 * 16, "multiply–accumulates counted"),
    ("conv", 16 * 10 * 10, "neurons counted"),
    ("conv", 5 * 5 * 3 * 16 + 17, "off by one"),
    ("conv", 0, "this layer has weights"),
    ("conv", 123_457, "no rule that is known"),
    ("pool", 9, "this layer learns nothing"),
    ("grouped", 3 * 3 * 16 * 32, "groups ignored"),
    ("grouped", 3 * 3 * 4 * 32 + 32, "a bias counted that the layer does not have"),
    ("grouped", 3 * 3 * 16 * 32 + 32, "a bias counted that the layer does not have and groups ignored"),
    ("norm", 4 * 32, "the buffers counted"),
    ("norm", 4 * 32 + 1, "the buffers counted"),
    ("norm", 32, "γ or β forgotten"),
    ("fc", 120 * 10, "bias forgotten"),
    ("fc", 120 * 10 + 120, "a bias for every input"),
]


@pytest.mark.parametrize(("layer", "answer", "rule"), PARAMETERS, ids=[f"{p[0]}-{p[2][:24]}" for p in PARAMETERS])
def test_a_missed_rule_of_a_count(student: Trace, layer: str, answer: int, rule: str) -> None:
    assert rule in wrong(student, **{f"{layer}__parameters": answer})


@pytest.mark.parametrize(
    ("name", "answer", "rule"),
    [
        ("lstm", 4 * 4 * (4 + 4) + 4 * 4, "one bias a gate"),
        ("lstm", 4 * (4 + 4) + 2 * 4, "the gates forgotten"),
        ("gru", 3 * 4 * (4 + 4), "bias forgotten"),
        ("rnn@num_layers=2", 4 * (4 + 4) + 2 * 4, "only one layer of several"),
    ],
)
def test_a_missed_rule_of_a_recurrent_layer(traced: Traced, name: str, answer: int, rule: str) -> None:
    assert rule in wrong(traced(name), rnn__parameters=answer)


def test_alexnet_with_its_groups_ignored(traced: Traced) -> None:
    """The other source's 614,656, and the 34,848 that has lost its biases."""
    assert wrong(traced("alexnet"), conv2__parameters="614,656") == "groups ignored"
    assert wrong(traced("alexnet"), conv1__parameters="34 848") == "bias forgotten"


# ------------------------------------------------------------------------------------------------------ carried over


def test_an_error_carried_over_is_one_error(traced: Traced) -> None:
    """A student who rounds (227 − 11)/4 + 1 to 54 once and counts on without another mistake."""
    first = 54
    pool1 = side(first, 3, 2)
    conv2 = side(pool1, 5, 1, 2)
    pool2 = side(conv2, 3, 2)
    pool5 = side(pool2, 3, 2)
    assert (pool1, pool2, pool5) == (26, 12, 5)
    marks = marks_of(
        traced("alexnet"),
        conv1__output=f"96x{first}x{first}", pool1__output=f"96x{pool1}x{pool1}",
        conv2__output=f"256x{conv2}x{conv2}", pool2__output=f"256x{pool2}x{pool2}",
        conv3__output=f"384x{pool2}x{pool2}", conv4__output=f"384x{pool2}x{pool2}",
        conv5__output=f"256x{pool2}x{pool2}", pool5__output=f"256x{pool5}x{pool5}",
        flatten__output=pool5 * pool5 * 256,
        fc6__parameters=pool5 * pool5 * 256 * 4096 + 4096,
    )  # fmt: skip
    verdicts = {layer: cells["output"].verdict for layer, cells in marks.items()}
    assert verdicts.pop("conv1") == WRONG
    assert {layer for layer, verdict in verdicts.items() if verdict == CARRIED} == {
        "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "flatten",
    }  # fmt: skip
    assert verdicts["fc6"] == RIGHT
    assert (
        marks["fc6"]["parameters"].verdict == CARRIED
        and marks["fc6"]["parameters"].reason == "right by your own flatten"
    )
    assert marks["pool1"]["output"].reason == "right by your own conv1"


def test_a_second_mistake_on_top_of_the_first(traced: Traced) -> None:
    marks = marks_of(traced("alexnet"), conv1__output="96x54x54", pool1__output=f"96x{side(54, 3)}x52")
    assert marks["pool1"]["output"].reason == "stride forgotten, counted on from your own conv1"


def test_an_error_carried_through_a_join(traced: Traced) -> None:
    marks = marks_of(
        traced("inception-block"), branch2__conv__output="100x28x28", cat__output=f"{64 + 100 + 32 + 32}x28x28"
    )
    assert marks["cat"]["output"].verdict == CARRIED


def test_an_error_carried_through_layers_without_a_row(traced: Traced) -> None:
    """BatchNorm and ReLU between two convolutions, and a sum."""
    marks = marks_of(
        traced("resnet18"),
        conv1__output="64x111x111", bn1__output="64x111x111", maxpool__output=f"64x{side(111, 3, 2, 1)}x56",
    )  # fmt: skip
    assert marks["bn1"]["output"].verdict == CARRIED and marks["maxpool"]["output"].verdict == RIGHT


def test_channels_carried_into_the_parameters(traced: Traced) -> None:
    counted_on = 5 * 5 * 65 * 192 + 192
    marks = marks_of(
        traced("alexnet-owt"), conv1__output="65x55x55", pool1__output="65x27x27", conv2__parameters=counted_on
    )
    assert marks["conv2"]["parameters"].verdict == CARRIED


# ------------------------------------------------------------------------------------------------- what can be written


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("34944", 34_944), ("34,944", 34_944), ("34.944", 34_944), ("34 944", 34_944), ("34'944", 34_944),
        ("34\u202f944", 34_944), ("34_944", 34_944), ("34944.0", 34_944), ("34944,00", 34_944),
        ("1,234,567", 1_234_567),
        ("11·11·3·96 + 96", 34_944), ("11*11*3*96+96 = 34,944", 34_944), ("11 x 11 x 3 x 96", 34_848), ("０３", 3),
        ("−5", None), ("2·(3 − 1)", 4), ("", None), ("many", None), ("3.5", None), ("1e3", None), ("9**9", None),
        ("__import__('os')", None), ("(" * 300, None), ("1,23", None),
    ],
)  # fmt: skip
def test_numbers_as_they_are_written(text: str, number: int | None) -> None:
    assert number_of(text) == number


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("1x96x55x55", (1, 96, 55, 55)), ("1 x 96 x 55 x 55", (1, 96, 55, 55)), ("96×55×55", (96, 55, 55)),
        ("96 X 55 X 55", (96, 55, 55)), ("(1, 96, 55, 55)", (1, 96, 55, 55)), ("[96,55,55]", (96, 55, 55)),
        ("torch.Size([1, 96, 55, 55])", (1, 96, 55, 55)), ("96 55 55", (96, 55, 55)), ("96*55*55", (96, 55, 55)),
        ("4,096", (4096,)), ("4 096", (4096,)), ("1×4,096", (1, 4096)), ("9216", (9216,)), ("6·6·256 = 9216", (9216,)),
        ("55,55", (55, 55)), ("“96x55x55”", None), ("?", None),
    ],
)  # fmt: skip
def test_shapes_as_they_are_written(text: str, shape: tuple[int, ...] | None) -> None:
    assert (shape in shapes_of(text)) if shape else shapes_of(text) == []


def resaved(text: str, how: str) -> bytes:
    """What spreadsheet programs make of a CSV."""
    rows = list(csv.reader(io.StringIO(text)))
    wide = max(map(len, rows))
    out = io.StringIO()
    delimiter = {"semicolons": ";", "tabs": "\t"}.get(how, ",")
    quoting = csv.QUOTE_ALL if how == "quotes" else csv.QUOTE_MINIMAL
    padded = [row + [""] * (wide - len(row)) for row in rows]
    csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator="\r\n").writerows(padded)
    encoding = {"bom": "utf-8-sig", "tabs": "utf-16", "latin": "cp1252"}.get(how, "utf-8")
    return out.getvalue().encode(encoding)


@pytest.mark.parametrize("how", ["semicolons", "tabs", "quotes", "bom", "latin"])
def test_sheets_that_a_spreadsheet_saved(traced: Traced, tmp_path: Path, how: str) -> None:
    record = traced("lenet")
    text = worksheet(record, "csv", head(record), answers=True).replace("61,706", "")
    text = text.replace("1x6x28x28", "1 × 6 × 28 × 28").replace(",48120", ',"48,120"')
    (tmp_path / "sheet.csv").write_bytes(resaved(text, how))
    sheet = sheet_of(str(tmp_path / "sheet.csv"))
    assert sheet.head == {"model": "lenet", "input": "1x1x28x28"}
    assert all(mark.verdict == RIGHT for mark in marked(trace_for(sheet), sheet))


def test_what_cannot_be_read_is_said(student: Trace) -> None:
    marks = marks_of(student, conv__output="big", conv__parameters="some")
    assert marks["conv"]["output"].reason.startswith("this is no shape")
    assert marks["conv"]["parameters"].reason.startswith("this is no number")


def test_blank_cells_are_not_answered(student: Trace) -> None:
    marks = [
        mark for cells in marks_of(student, conv__output=" ", pool__parameters="").values() for mark in cells.values()
    ]
    assert sorted(mark.verdict for mark in marks if mark.verdict != RIGHT) == [BLANK, BLANK]
    row = sheet_row("sheet", "student", marks)
    assert (row["cells"], row["right"], row["blank"], row["wrong"]) == (14, 12, 2, 0) and row["mark"] == 12 / 14


def test_the_batch_may_be_left_out(student: Trace) -> None:
    assert marks_of(student, conv__output="16x10x10")["conv"]["output"].verdict == RIGHT
    assert marks_of(student, fc__output="10")["fc"]["output"].verdict == RIGHT
    assert marks_of(student, fc__output="2x10")["fc"]["output"].verdict == WRONG


# -------------------------------------------------------------------------------------------------------- mistakes


def test_mistakes_are_entered_once() -> None:
    with pytest.raises(ValueError, match="the mistake 'padding forgotten' is registered twice"):
        RULES["output"].add("padding forgotten", lambda case: ())
    assert len(RULES["output"]) >= 8 and len(RULES["parameters"]) >= 12
    assert not any(RULES[cell].keys() & SLIPS[cell].keys() for cell in RULES)
    assert all(name in RULES[cell] for name, (*_, cells) in CHANGES.items() for cell in cells)


def test_every_mistake_of_every_layer_can_be_asked(traced: Traced) -> None:
    """A mistake that cannot be made in a layer is no mistake of it, and never an error of the program."""
    for name in ("googlenet", "mobilenet-v3-small", "gru-classifier", "char-rnn-embedding", "densenet-d2l"):
        record = traced(name)
        for one in questions(record):
            mark = marks_of(record, **{f"{one.layer}__output": "7x7x7x7x7", f"{one.layer}__parameters": "7777777777"})
            assert mark[one.layer]["output"].reason == "no rule that is known gives this"
            assert mark[one.layer]["parameters"].reason in (
                "no rule that is known gives this",
                "this layer learns nothing",
            )


# ------------------------------------------------------------------------------------------------------- the commands


def filled(archscope, path: Path, model: str = "lenet", **replaced: str) -> str:
    text = archscope("quiz", model, "--answers").out
    for old, new in replaced.items():
        text = text.replace(f"| {old.removeprefix('_')} ", f"| {new} ")
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_grade_of_one_sheet(archscope, tmp_path: Path) -> None:
    right = archscope("grade", filled(archscope, tmp_path / "right.md"))
    assert right.code == 0 and "100.0 %" in right.out
    assert json.loads(archscope("grade", str(tmp_path / "right.md"), "--format", "json").out) == []
    ran = archscope("grade", filled(archscope, tmp_path / "wrong.md", _156="150"), "--format", "json")
    (cell,) = json.loads(ran.out)
    assert ran.code == 1
    assert (cell["layer"], cell["cell"], cell["verdict"], cell["missed"]) == (
        "conv1", "parameters", WRONG, "bias forgotten",
    )  # fmt: skip
    everything = archscope("grade", str(tmp_path / "wrong.md"), "--all", "--format", "json")
    assert len(json.loads(everything.out)) == 16


def test_grade_of_a_blank_sheet(archscope, tmp_path: Path) -> None:
    sheet = tmp_path / "blank.csv"
    assert archscope("quiz", "lenet", "--output", str(sheet)).code == 0
    assert sheet.read_text().startswith("model,lenet\n")  # by the name of the file
    ran = archscope("grade", str(sheet))
    assert ran.code == 1 and "0 of 16 cells are right, 16 not answered" in ran.out


def test_grade_of_a_folder(archscope, tmp_path: Path) -> None:
    filled(archscope, tmp_path / "anna.md")
    filled(archscope, tmp_path / "ben.md", _156="150", _2416="2400")
    filled(archscope, tmp_path / "carl.md", "alexnet")
    (tmp_path / "notes.md").write_text("nothing here", encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"")
    ran = archscope("grade", str(tmp_path), "--format", "json", "--model", "lenet")
    rows = {Path(row["sheet"]).name: row for row in json.loads(ran.out)}
    assert ran.code == 1 and rows.keys() == {"anna.md", "ben.md", "carl.md", "notes.md"}
    assert rows["anna.md"]["mark"] == 1.0
    assert rows["ben.md"]["wrong"] == 2 and rows["ben.md"]["missed"] == "bias forgotten (2×)"
    assert "is a sheet of alexnet, not of lenet" in rows["carl.md"]["error"]
    assert "is no worksheet" in rows["notes.md"]["error"]
    assert archscope("grade", str(tmp_path / "anna.md"), str(tmp_path / "anna.md")).code == 0


def test_a_sheet_with_answers_is_not_overwritten(archscope, tmp_path: Path) -> None:
    path = tmp_path / "lenet.md"
    assert archscope("quiz", "lenet", "--output", str(path)).code == 0
    blank = path.read_text()
    assert archscope("quiz", "lenet", "--output", str(path)).code == 0  # nothing is lost
    line = next(one for one in blank.splitlines() if one.startswith("| conv1"))
    cells = line.split("|")
    cells[-2] = cells[-2].replace("  ", "156 ", 1) if len(cells[-2]) > 5 else " 156 "
    path.write_text(blank.replace(line, "|".join(cells)))
    filled = path.read_text()
    refused = archscope("quiz", "lenet", "--output", str(path))
    assert refused.code == 2 and "lost (1)" in refused.err and path.read_text() == filled
    assert archscope("quiz", "lenet", "--answers", "--output", str(path)).code == 0  # 6·(25·1 + 1) = 156 stays


def test_the_input_stands_in_the_sheet(archscope, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.md"
    assert archscope("quiz", "lenet", "--input", "30", "--batch", "2", "--answers", "-o", str(sheet)).code == 0
    assert "- input: `2x1x30x30`" in sheet.read_text(encoding="utf-8")
    assert archscope("grade", str(sheet)).code == 0


def test_a_sheet_runs_nobodys_code(archscope, tmp_path: Path) -> None:
    """A student's sheet may not name a file that the teacher's machine then runs."""
    code = tmp_path / "evil.py"
    mark = tmp_path / "ran"
    code.write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n", encoding="utf-8")
    for named in (
        f"{code}:Net",
        "evil.module:Net",
        str(tmp_path / "trace.json"),
        str(tmp_path / "program.pt2"),
        "os:x",
    ):
        sheet = tmp_path / "sheet.csv"
        sheet.write_text(f"model,{named}\ninput,default\nlayer,output,parameters\nconv1,1,1\n", encoding="utf-8")
        ran = archscope("grade", str(sheet))
        assert ran.code == 2 and "says that you trust it" in ran.err, named
    assert not mark.exists()


def test_a_users_own_file(archscope, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\n"
        "def net():\n    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3))\n",
        encoding="utf-8",
    )
    named, sheet = f"{tmp_path / 'nets.py'}:net", str(tmp_path / "sheet.md")
    assert archscope("quiz", named, "--input", "1x1x8x8", "--answers", "--output", sheet).code == 0
    assert archscope("grade", sheet, "--model", named).code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("quiz", "lenett"), "did you mean lenet"),
        (("quiz", "lenet", "--format", "xlsx"), "unknown format 'xlsx'"),
        (("grade", "nowhere.md"), "cannot read nowhere.md"),
        (("grade", "nowhere.md", "--columns", "layr"), "unknown column 'layr': did you mean layer"),
        (("grade",), "Missing argument"),
    ],
)
def test_what_is_refused(archscope, arguments: tuple[str, ...], sentence: str) -> None:
    ran = archscope(*arguments)
    assert ran.code == 2 and sentence in ran.err and len(ran.err.splitlines()) == 1


def test_a_folder_without_sheets(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no worksheet"):
        sheets_in([str(tmp_path)])
