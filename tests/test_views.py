"""The two tables, as raw values; the same from Python, as frames and in notebooks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

import archscope
from archscope import Table, Trace, layer_table, load, totals, trace
from archscope.analysis.boundaries import boundary_text
from archscope.analysis.by_layer import SUMS
from archscope.analysis.by_model import model_table
from archscope.analysis.row import rows
from archscope.analysis.texts import shape_text, window_text
from archscope.analysis.verification import WHOLE
from archscope.layers import derive
from archscope.report.comparison import side_by_side
from archscope.sources.catalogue import listing
from archscope.sources.records import result_of
from archscope.sources.spec import Spec, expand
from archscope.zoo.catalogue import entries

Traced = Callable[..., Trace]

KEYS = "model params trainable buffers macs flops activations neurons receptive_field".split()
LAYER_KEYS = set(KEYS) | set("input path kind config output_shape formula agrees".split())


def summed(table: Table, key: str) -> int:
    return sum(row[key] or 0 for row in table.rows)


# ------------------------------------------------------------------------------------------- every network adds up


@pytest.mark.parametrize("name", entries())
def test_the_rows_add_up_to_the_totals(name: str, traced: Traced) -> None:
    run = traced(name)
    sums = totals(run)
    for depth in (None, 1, 2, 3):
        for everything in (False, True):
            table = layer_table(run, depth, everything)
            assert {key: summed(table, key) for key in SUMS} == {key: sums[key] for key in SUMS}, (depth, everything)
            assert table.totals == {key: sums[key] for key in SUMS}


@pytest.mark.parametrize("name", entries())
def test_every_row_is_whole(name: str, traced: Traced) -> None:
    table = layer_table(traced(name))
    for row in table.rows:
        assert row.keys() >= {column.key for column in table.columns + table.hidden} >= LAYER_KEYS
        assert all(type(row[key]) is int for key in ("params", "trainable", "buffers", "macs", "flops", "activations"))
        assert row["agrees"] is not False
        assert row["model"] == name


@pytest.mark.parametrize("name", ["googlenet@aux=true", "googlenet", "densenet121", "mobilenet-v3-small", "lstm"])
def test_training_mode_adds_up(name: str, traced: Traced) -> None:
    run = traced(name, train=True)
    for depth in (None, 1):
        table = layer_table(run, depth)
        assert {key: summed(table, key) for key in SUMS} == {key: totals(run)[key] for key in SUMS}
    assert table.title.endswith(", training mode")


def test_alexnet_layer_by_layer(traced: Traced) -> None:
    by_path = {row["path"]: row for row in layer_table(traced("alexnet")).rows}
    conv1 = by_path["conv1"]
    assert conv1["output_shape"] == (1, 96, 55, 55)
    assert conv1["formula"] == "⌊(227 − 11 + 2·0)/4⌋ + 1 = 55"
    assert conv1["params_formula"] == "11·11·3·96 + 96 = 34,944"
    assert conv1["window"] == "11×11/4"
    assert (conv1["params"], conv1["neurons"], conv1["receptive_field"]) == (34944, 290400, 11)
    assert by_path["conv2"]["params"] == 307456
    assert by_path["fc6"]["params"] == 37752832
    assert by_path["pool1"]["neurons"] is None
    assert by_path["flatten"]["formula"] == "256·6·6 = 9,216"


# --------------------------------------------------------------------------------------------------------- depth


def test_a_collapsed_row_agrees_when_all_in_it_agree(traced: Traced) -> None:
    table = layer_table(traced("resnet18"), depth=1)
    assert {row["path"]: row["agrees"] for row in table.rows}["layer1"] is True
    assert all(row["depth"] == 1 for row in table.rows)


def test_a_collapsed_row_disagrees_when_one_in_it_disagrees() -> None:
    class Odd(nn.Linear):
        """A linear layer by name, with a parameter that no formula knows."""

        def __init__(self) -> None:
            super().__init__(4, 4)
            self.extra = nn.Parameter(torch.zeros(3))

    run = trace(nn.Sequential(nn.Sequential(Odd(), nn.ReLU()), nn.Linear(4, 2)), [(1, 4)])
    for depth in (None, 1):
        table = layer_table(run, depth)
        flags = [row["agrees"] for row in table.rows]
        assert flags.count(False) == 1
        assert any(
            "0.0: formula and observation disagree: 20 parameters by formula, 23" in note for note in table.notes
        )


# --------------------------------------------------------------------------------------------------------- notes


def test_the_boundary_is_told(traced: Traced) -> None:
    notes = layer_table(traced("alexnet-slim")).notes
    assert notes[0] == (
        "conv1: (224 − 11)/4 leaves 1: the last row and column are never reached by the window; "
        "padding=2 or a side of 223 or 227 would lose nothing"
    )
    notes = layer_table(traced("alexnet-d2l")).notes
    assert notes[0].startswith(
        "conv1: (224 − 11 + 2·1)/4 leaves 3: the last 2 rows and columns are never reached by the window; "
    )
    assert layer_table(traced("alexnet")).notes == ()


def test_boundaries_with_the_same_numbers_are_one_sentence(traced: Traced) -> None:
    notes = layer_table(traced("resnet50")).notes
    assert any(note.startswith("layer2.0.downsample.0, layer2.0.conv1: (56 − 1)/2 leaves 1") for note in notes)
    assert layer_table(traced("resnet50"), depth=1).notes == notes


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        (nn.Conv2d(1, 1, 3, 2), (1, 1, 4, 4), "(4 − 3)/2 leaves 1: the last row and column are never reached"),
        (nn.Conv2d(1, 1, 3, 2), (1, 1, 5, 4), "(4 − 3)/2 leaves 1: the last column is never reached"),
        (nn.Conv2d(1, 1, 3, 2), (1, 1, 4, 5), "(4 − 3)/2 leaves 1: the last row is never reached"),
        (nn.Conv2d(1, 1, 1, 3), (1, 1, 3, 2), "(3 − 1)/3 leaves 2, (2 − 1)/3 leaves 1: the last 2 rows and the last 1"),
        (nn.MaxPool2d(3, 3), (1, 1, 5, 5), "(5 − 3)/3 leaves 2: the last 2 rows and columns are never reached"),
        (nn.Conv1d(1, 1, 4, 3), (1, 1, 6), "(6 − 4)/3 leaves 2: the last 2 positions are never reached"),
        (nn.Conv2d(1, 1, 3, 2, dilation=2), (1, 1, 6, 6), "(6 − 5)/2 leaves 1: the last row and column are never"),
    ],
)  # fmt: skip
def test_boundary_sentences(layer: nn.Module, shape: tuple[int, ...], said: str) -> None:
    (row,) = rows(trace(layer, [shape]), None, WHOLE)
    derived = derive(row.kind, row.config, (shape,))
    assert derived is not None
    assert boundary_text(row, derived).startswith(said)


def test_modules_that_never_run_and_that_run_twice() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.relu, self.aux = nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
            self.register_buffer("scale", torch.ones(5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.fc(self.relu(self.fc(x))))

    run = trace(Net(), [(1, 4)])
    table = layer_table(run)
    assert table.notes == (
        "aux (Sequential) never ran in this forward; its 30 parameters are counted",
        "fc runs 2 times: its parameters are counted once",
    )
    assert [row["path"] for row in table.rows] == ["fc", "relu", "fc", "relu", "aux.0", "aux.1", "scale"]
    flat = layer_table(run, depth=1)
    assert [row["path"] for row in flat.rows] == ["fc", "relu", "fc", "relu", "aux", "scale"]
    for one in (table, flat):
        assert summed(one, "params") == totals(run)["params"] == 50
        assert summed(one, "buffers") == totals(run)["buffers"] == 5


def test_a_run_that_stopped_shows_what_ran() -> None:
    model, inputs = load("alexnet", "224")
    with pytest.raises(archscope.ShapeError) as caught:
        trace(model, inputs, name="alexnet")
    failure = caught.value.failure
    table = layer_table(failure.trace, stopped=failure.path)
    assert table.title == "alexnet, input 1×3×224×224, as far as fc6"
    assert table.rows[-1]["path"] == "fc6"
    assert all(table.rows[-1][key] is None for key in ("agrees", "output_shape", "macs", "flops", "neurons"))
    assert all(row["agrees"] for row in table.rows[:-1])
    assert table.totals is None
    assert len(table.notes) == 4
    assert all("leaves" in note for note in table.notes)


# --------------------------------------------------------------------------------------------------------- texts


def test_sides_that_differ_have_letters() -> None:
    config = {"kernel_size": (3, 5), "stride": 1, "padding": 0}
    text = shape_text(derive("MaxPool2d", config, ((1, 1, 10, 20),)))
    assert text == "h: ⌊(10 − 3 + 2·0)/1⌋ + 1 = 8, w: ⌊(20 − 5 + 2·0)/1⌋ + 1 = 16"
    assert shape_text(derive("MaxPool2d", config | {"kernel_size": 3}, ((1, 1, 10, 10),))).count("=") == 1
    assert shape_text(derive("AdaptiveAvgPool2d", {"output_size": 1}, ((1, 1, 10, 20),))) == ""
    assert shape_text(derive("ReLU", {}, ((1, 1, 10, 20),))) == ""
    assert shape_text(None) == ""


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, ""),
        ({"kernel_size": (11, 11), "stride": (4, 4)}, "11×11/4"),
        ({"kernel_size": 3, "stride": 2}, "3×3/2"),
        ({"kernel_size": 2}, "2×2/2"),
        ({"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "groups": 32}, "3×3 p1 g32"),
        ({"kernel_size": (3, 5), "stride": (1, 2), "padding": (1, 2), "dilation": (2, 2)}, "3×5/1×2 p1×2 d2"),
        ({"kernel_size": (3,), "stride": (1,), "padding": "same"}, "3 same"),
        ({"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}, "3×3/2 p1 ceil"),
    ],
)
def test_windows(config: dict[str, Any], text: str) -> None:
    assert window_text(config) == text


def test_titles_say_the_dtype(traced: Traced) -> None:
    assert layer_table(traced("gru-classifier")).title == "gru-classifier, input 1×10 int64"
    assert layer_table(traced("lenet", "8x1x28x28")).title == "lenet, input 8×1×28×28"


# --------------------------------------------------------------------------------------------- models side by side


def test_the_comparison() -> None:
    table = side_by_side(expand(["alexnet,lenet,rnn"]))
    by_name = {row["model"]: row for row in table.rows}
    assert list(by_name) == ["alexnet", "lenet", "rnn"]
    assert by_name["alexnet"]["params"] == 60965224
    assert by_name["alexnet"]["macs"] == 724406816
    assert by_name["alexnet"]["depth"] == 8
    assert by_name["alexnet"]["memory"] == 4 * 60965224
    assert by_name["alexnet"]["neurons"] == 659272
    assert by_name["alexnet"]["fc_share"] == pytest.approx(58631144 / 60965224)
    assert all(row["verified"] is True and not row.get("error") for row in table.rows)
    assert table.notes == ()
    for said in ("MACs: ", "FLOPs: ", "Parameters: each once", "Input: each model's own", "archscope 0", "torch 2"):
        assert said in table.legend()


def test_a_model_that_fails_has_its_row() -> None:
    table = side_by_side(expand(["lenet,alexnet,basic-cnn"]), input="28", batch=4)
    assert [row["verified"] for row in table.rows] == [True, False, True]
    assert "pool2 (MaxPool2d) has a window of 3, which does not fit 2 after conv2" in table.rows[1]["error"]
    assert table.rows[1]["input"] == (4, 3, 28, 28)
    assert table.notes == (f"alexnet: {table.rows[1]['error']}",)
    assert "Input: 28 for every model, batch 4." in table.legend()


def test_an_input_of_another_form_is_one_models_failure() -> None:
    table = side_by_side(expand(["lenet,rnn,gru-classifier"]), input="1x1x28x28")
    assert [bool(row.get("error")) for row in table.rows] == [False, True, True]
    assert "has 4 axes; the model takes 3, such as 5x1x4" in table.rows[1]["error"]
    with pytest.raises(archscope.SpecError):
        side_by_side(expand(["lenet,rnn"]), input="abc")


def test_whatever_a_model_does_the_others_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(kind: str, make: Any, spec: Spec, *more: Any) -> Any:
        if spec.name == "nin":
            raise RecursionError("too deep")
        return result_of(kind, make, spec, *more)

    monkeypatch.setattr("archscope.report.comparison.result_of", broken)
    table = side_by_side(expand(["nin,lenet"]))
    assert table.rows[0]["error"] == "RecursionError: too deep"
    assert table.rows[1]["verified"] is True


def test_unknown_operators_are_named() -> None:
    row = {"model": "net", "unknown": {"aten.fft": 2}}
    note = model_table([row], "").notes[0]
    assert note == "net: the cost of these operators is unknown, and the totals are lower bounds: aten.fft (2×)"


def test_the_listing() -> None:
    table = listing(expand(["all"]))
    assert [row["name"] for row in table.rows] == list(entries())
    assert all(row["params"] == entries()[row["name"]].params for row in table.rows)
    (changed,) = listing(expand(["alexnet@in_channels=1"])).rows
    assert changed["params"] is None
    assert changed["input"] == (1, 1, 227, 227)
    assert "in_channels=1 " in changed["keys"]


# ------------------------------------------------------------------------------------------------- the Python face


def test_the_face() -> None:
    model, inputs = archscope.load("alexnet")
    run = archscope.trace(model, inputs)
    sums = archscope.totals(run)
    assert (sums["params"], sums["macs"], sums["neurons"]) == (60965224, 724406816, 659272)
    assert set(KEYS) | {"input"} <= set(sums)
    assert all(type(sums[key]) is int for key in SUMS)
    assert run.layers[0].path == ""
    assert (Path(archscope.__file__).parent / "py.typed").exists()


def test_frames_keep_integers(traced: Traced) -> None:
    frame = traced("alexnet").to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert LAYER_KEYS <= set(frame.columns)
    for key in ("params", "macs", "flops", "activations", "buffers"):
        assert frame[key].dtype == "int64"
    assert frame["neurons"].dtype == "Int64"
    assert frame["neurons"].isna().any()
    assert frame["params"].sum() == 60965224
    assert frame["neurons"].sum() == 659272
    assert frame["output_shape"][0] == (1, 96, 55, 55)
    assert frame["agrees"].all()


def test_a_table_as_a_frame() -> None:
    frame = side_by_side(expand(["lenet,alexnet"]), input="28").to_frame()
    assert frame["params"].dtype == "Int64"
    assert list(frame["params"].isna()) == [False, True]
    assert list(frame["verified"]) == [True, False]


def test_notebooks(traced: Traced) -> None:
    page = traced("lenet")._repr_html_()
    assert page.startswith("<div")
    assert "61,706" in page
    assert layer_table(traced("lenet"))._repr_html_() == page


def test_a_single_layer_is_its_own_root() -> None:
    (row,) = layer_table(trace(nn.Linear(3, 4), [(1, 3)])).rows
    assert (row["path"], row["kind"], row["params"], row["agrees"]) == ("", "Linear", 16, True)


def test_a_stored_trace_gives_the_same_table(traced: Traced) -> None:
    for name in ("googlenet", "gru-classifier", "mobilenet-v3-small"):
        run = traced(name)
        again = Trace.from_json(run.to_json())
        assert layer_table(again) == layer_table(run)
        assert totals(again) == totals(run)


class OnlyFunctions(nn.Module):
    """A network without a module: every layer is a call."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(8, 3, 3, 3))
        self.weight = nn.Parameter(torch.zeros(5, 8 * 15 * 15))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(functional.conv2d(x, self.kernel, padding=1))
        x = functional.max_pool2d(x, 3, 2)
        return functional.linear(x.flatten(1), self.weight)


def test_functional_calls_are_derived_like_the_layers_they_are_equal_to() -> None:
    table = archscope.layer_table(archscope.trace(OnlyFunctions(), (1, 3, 32, 32)))
    rows = {row["path"]: row for row in table.rows}
    assert [row["kind"] for row in table.rows][:5] == ["conv2d", "relu", "max_pool2d", "flatten", "linear"]
    assert all(rows[path]["agrees"] is True for path in ("conv2d", "relu", "max_pool2d", "flatten", "linear"))
    assert rows["conv2d"]["formula"] == "⌊(32 − 3 + 2·1)/1⌋ + 1 = 32"
    assert rows["max_pool2d"]["formula"] == "⌊(32 − 3 + 2·0)/2⌋ + 1 = 15"
    assert rows["conv2d"]["macs"] == 32 * 32 * 3 * 3 * 3 * 8 and rows["linear"]["macs"] == 8 * 15 * 15 * 5
    assert rows["kernel"]["params"] == 8 * 3 * 3 * 3  # a parameter that no module owns has a row of its own


def test_a_loaded_model_bears_the_name_that_was_asked_for() -> None:
    assert totals(trace(*load("mobilenet-v1@width=0.5")))["model"] == "mobilenet-v1@width=0.5"
    assert totals(trace(*load("alexnet"), name="mine"))["model"] == "mine"
    assert totals(trace(nn.Linear(2, 2), (1, 2)))["model"] == "Linear"


def test_a_failed_model_is_named_once() -> None:
    table = model_table([{"model": "a", "error": "a: it fails"}, {"model": "b", "error": "c: it fails"}], "")
    assert table.notes == ("a: it fails", "b: c: it fails")
