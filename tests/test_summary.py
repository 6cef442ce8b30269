"""The Python face for who knows torchinfo: `archscope.summary`, what a Trace shows, and what `trace` takes as input."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchinfo
from torch import nn

import archscope
from archscope import SpecError, Trace, record_of, summary, trace

PAGE = (Path(__file__).parent.parent / "docs/howto/torchinfo.md").read_text(encoding="utf-8")
MACS, PARAMS = 30 * 30 * 3 * 3 * 3 * 8, 3 * 3 * 3 * 8 + 8  # of a 3×3 convolution, 3 -> 8 channels on 32×32


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 30 * 30, 10))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        x = self.block(x)
        return x if y is None else x + y


def test_the_page_runs_and_torchinfo_takes_the_same_line(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    shown = capsys.readouterr().out
    found = names["trace"]
    assert (found["0"]["macs"], found["0"]["params"]) == (MACS, PARAMS)
    assert "1×7200" in shown and f"{MACS:,}" in shown and "(1, 8, 30, 30)" in shown
    exec(blocks[0].replace("# from torchinfo", "from torchinfo").replace("from archscope", "# from archscope"), names)
    theirs = names["trace"]
    assert isinstance(theirs, torchinfo.ModelStatistics)
    assert theirs.total_params == found.totals["params"]
    for number in (theirs.total_mult_adds, found.totals["macs"], found.totals["params"], MACS):
        assert f"{number:,}" in PAGE


def test_every_argument_of_torchinfo_has_its_name() -> None:
    from inspect import signature

    ours = list(signature(summary).parameters)
    assert ours == list(signature(torchinfo.summary).parameters)
    assert all(f"`{name}`" in PAGE for name in ours if name != "kwargs")


def test_columns_rows_and_modes(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [column.value for column in torchinfo.enums.ColumnSettings if column.value != "layer"]
    record = summary(net(), (3, 32, 32), batch_dim=0, col_names=columns, row_settings=("ascii_only", "depth"),
                     mode="train", device="cuda:7", cache_forward_pass=True, col_width=3)  # fmt: skip
    shown = capsys.readouterr().out
    assert shown.isascii() and "training mode" in shown and record.train
    assert "Depth" in shown and "3x3" in shown and f"{100 * PARAMS / (PARAMS + 8 * 30 * 30 * 10 + 10):.1f} %" in shown
    summary(net(), (1, 3, 32, 32), verbose=0)
    assert capsys.readouterr().out == ""
    model = net()
    assert not summary(model, (1, 3, 32, 32), mode="eval", verbose=0).train and model.training
    assert summary(model, (1, 3, 32, 32), mode="same", verbose=0).train


@pytest.mark.parametrize(
    ("arguments", "shapes"),
    [
        ({"input_size": (2, 4)}, [(2, 4)]),
        ({"input_size": [(2, 4), (1, 4)]}, [(2, 4), (1, 4)]),
        ({"input_size": [(4,), (4,)], "batch_dim": 0}, [(1, 4), (1, 4)]),
        ({"input_size": (4,), "batch_dim": -1}, [(4, 1)][:0]),
        ({"input_data": torch.zeros(2, 4)}, [(2, 4)]),
        ({"input_data": np.zeros((2, 4), "float32")}, [(2, 4)]),
        ({"input_data": [torch.zeros(2, 4), torch.zeros(1, 4)]}, [(2, 4), (1, 4)]),
        ({"input_data": {"x": torch.zeros(2, 4), "y": torch.zeros(4)}}, [(2, 4), (4,)]),
        ({"input_size": (2, 4), "y": (1, 4)}, [(2, 4), (1, 4)]),
        ({"x": (2, 4)}, [(2, 4)]),
    ],
)
def test_inputs_of_summary(arguments: dict[str, Any], shapes: list[Any]) -> None:
    if not shapes:
        with pytest.raises(ValueError, match="expects 4"):
            summary(Two(), verbose=0, **arguments)
        return
    assert [t.shape for t in summary(Two(), verbose=0, **arguments).inputs] == shapes


def test_names_and_dtypes() -> None:
    assert summary("lenet", (1, 1, 28, 28), verbose=0).totals == record_of("lenet").totals
    words = summary(nn.Embedding(10, 4), (1, 7), dtypes=[torch.long], verbose=0)
    assert (words.inputs[0].dtype, words.layers[0].outputs[0].shape) == ("int64", (1, 7, 4))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: summary(net()), "write input_size="),
        (lambda: summary(net(), 5), "input_size is a shape"),  # type: ignore[arg-type]
        (lambda: summary(net(), (1, 3, 32, 32), torch.zeros(1)), "not both"),
        (lambda: summary(net(), (1, 3, 32, 32), col_names=["macz"]), "did you mean macs"),
        (lambda: summary(net(), (1, 3, 32, 32), mode="fast"), "unknown mode 'fast'"),
        (lambda: summary(net(), (1, 3, 32, 32), row_settings=["colour"]), "unknown row setting"),
        (lambda: summary(net(), (1, 3, 32, 32), dtypes=[torch.half] * 2), "2 dtypes are given for 1 input"),
        (lambda: trace(Two, (2, 4)), r"Two is a class: give an object of it, Two\(…\)"),  # type: ignore[arg-type]
        (lambda: trace("alexnet", (1, 3)), r"archscope.record_of\('alexnet'\)"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_said(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        call()


def test_a_trace_is_printed_counted_and_gone_through() -> None:
    record = trace(Two(), (2, 4))
    assert str(record).startswith("Two, input 2×4") and "Total" in str(record)
    assert repr(record).startswith("<Trace of Two")
    assert record.totals["macs"] == 2 * 2 * 4 * 4 and len(record) == 2 and record
    assert [row["path"] for row in record] == ["block.0", "block.1"]
    assert record["block.1"]["params"] == 4 * 4 and record[0] == record["block.0"]
    assert record["block"]["params"] == 4 * 4 + 4 + 4 * 4  # all that runs inside
    with pytest.raises(KeyError, match="did you mean block.0"):
        record["block.00"]
    with pytest.raises(IndexError):
        record[2]
    assert trace(nn.Identity(), (1,)) and isinstance(record, Trace)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_shape_has_the_dtype_of_the_model(dtype: torch.dtype, tmp_path: Path, archscope: Callable[..., Any]) -> None:
    name = str(dtype).removeprefix("torch.")
    model = net().to(dtype)
    assert trace(model, (1, 3, 32, 32)).inputs[0].dtype == name
    assert trace(model, [(1, 3, 32, 32)]).layers[0].outputs[0].dtype == name
    file = tmp_path / "low.py"
    file.write_text(f"import torch\nfrom torch import nn\nnet = nn.Conv2d(3, 8, 3).to({dtype})\n")
    for input in ("32", "3,32,32", "1x3x32x32"):
        ran = archscope("trace", f"{file}:net", "--input", input)
        assert ran.code == 0 and f"1×3×32×32 {name}" in ran.out, ran.err
    file = tmp_path / "low_example.py"
    file.write_text(f"import torch\nfrom torch import nn\nexample_inputs = (1, 3, 8, 8)\n"
                    f"net = nn.Conv2d(3, 8, 3).to({dtype})\n")  # fmt: skip
    assert f"1×3×8×8 {name}" in archscope("trace", str(file)).out
    ran = archscope("trace", f"{file}:net", "--input", "1x3x32x32:float32")  # a dtype that is named stays
    assert ran.code == 1 and "needs one dtype" in ran.err


def test_arrays_and_names() -> None:
    assert trace(Two(), np.zeros((2, 4), "float32")).inputs[0].shape == (2, 4)
    assert trace(Two(), kwargs={"x": (2, 4)}).inputs[0].shape == (2, 4)
    assert trace(Two(), {"x": np.zeros((2, 4), "float32"), "y": np.zeros(4, "float32")}).inputs[1].shape == (4,)


def test_slices_and_paths_in_a_trace() -> None:
    record = trace(net(), (1, 3, 32, 32))
    assert [row["path"] for row in record[:2]] == ["0", "1"] and record[-1]["path"] == "2"
    assert "0" in record and "9" not in record and record[0] in record
    block = trace(Two(), (1, 4))
    assert "block" in block and "block.0" in block
    with pytest.raises(IndexError, match="Sequential has 3 rows, and none at 9"):
        record[9]
    with pytest.raises(TypeError, match="by its path or its place, not by float"):
        record[1.5]  # type: ignore[call-overload]


def test_inputs_by_their_names() -> None:
    record = trace(Two(), x=(1, 4), y=(1, 4))
    assert [tensor.shape for tensor in record.inputs] == [(1, 4), (1, 4)]
    assert record.totals["macs"] == 2 * 4 * 4
    with pytest.raises(TypeError, match="neither trace.. nor the forward of Two has an argument 'z'"):
        trace(Two(), z=(1, 4))


def some(value: Any) -> Any:
    """A value that is not of the type that is asked for."""
    return value


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: trace(Two()), r"Two needs an input, x: archscope.trace\(model, "),
        (lambda: trace(some((1, 4)), some(Two())), "the model comes first"),
        (lambda: trace(some(net), (1, 3, 32, 32)), r"net is a function: if it builds a model, call it, net\(\)"),
        (lambda: trace(some(np), (1, 4)), "numpy is a package"),
        (lambda: trace(some(torch.zeros(9, 9)), (1,)), "Tensor is no module"),
        (lambda: record_of(some(Two())), "record_of takes a name, .* as this Two"),
        (lambda: archscope.totals(some(Two())), "totals are of a trace, not of Two"),
        (lambda: archscope.layer_table(some(Two())), "a layer table is of a trace, not of Two"),
        (lambda: summary(Two(), (1, 4), device="tpuu"), "no device is called 'tpuu'"),
    ],
)
def test_what_is_handed_over_wrong(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        call()
