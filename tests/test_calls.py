"""Models named as Python calls them, `package:Net('small', width=2).encoder`."""

import sys
import textwrap
import types
from pathlib import Path

import pytest

from archscope import SpecError, totals
from archscope.sources.dependencies import user_files
from archscope.sources.records import record_of
from archscope.sources.spec import parse

NETS = """
    from dataclasses import dataclass

    import torch
    from torch import nn

    @dataclass
    class Config:
        width: int = 3
        bias: bool = True

    class Net(nn.Module):
        def __init__(self, config: Config, classes: int = 2):
            super().__init__()
            self.conv = nn.Conv2d(4, config.width, 3, bias=config.bias)
            self.fc = nn.Linear(config.width, classes)

        def forward(self, x, step=None):
            x = self.fc(self.conv(x).mean((2, 3)))
            return x if step is None else x + step

    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3 * 4 * 4, 5)

        def forward(self, x):
            b, c, h, w = x.shape
            return self.fc(x.reshape(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 1, 3, 5).flatten(3))

    class Needs:
        def __init__(self, path, width=1):
            self.path, self.net = path, nn.Linear(width, 5)

    def made(sizes=(1, 1), act="relu", *, bias=True) -> nn.Module:
        return nn.Sequential(nn.Linear(*sizes, bias=bias), getattr(nn, {"relu": "ReLU"}[act])())
"""


@pytest.fixture
def nets(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(textwrap.dedent(NETS), encoding="utf-8")
    return str(path)


def params(text: str, *inputs: str) -> int:
    return totals(record_of(text, list(inputs)))["params"]


def test_arguments_by_place_and_by_name(nets: str) -> None:
    assert params(f"{nets}:made((6, 4))", "6") == 6 * 4 + 4
    assert params(f"{nets}:made([6, 4], 'relu', bias=False)", "6") == 6 * 4
    assert params(f"{nets}::made(sizes=(6, 4))@bias=false", "6") == 6 * 4
    assert params("torch.nn.Linear(6, 4)", "6") == 6 * 4 + 4
    assert params("torch.nn.LSTM(6, 4, bias=False)", "5x6") == 4 * (6 * 4 + 4 * 4)  # its constructor takes *args
    assert parse("torch.nn:Linear(6, out_features=4)").arguments == {"0": 6, "out_features": 4}
    assert parse("torch:Net(sizes=(6, 4), path='a.yaml')").text == "torch:Net@sizes=(6, 4)@path='a.yaml'"


def test_a_text_is_no_file_and_an_attribute_is_the_model(nets: str) -> None:
    assert params(f"{nets}:Needs('cfg.yaml', 7).net", "7") == 7 * 5 + 5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("made((6, 4), act=relu)", "is not a list of values"),
        ("made(*[(6, 4)])", "is not a list of values"),
        ("made((6, 4), 'relu', True)", "made takes 2 arguments by place, not 3"),
        ("made((6, 4), sizes=(1, 2))", "sizes of made is set twice"),
        ("mode((6, 4))", "did you mean made"),
        ("Needs('a', 7).nut", "what Needs gives has no 'nut'"),
        ("Needs('a')", "gives a Needs, not a module"),
    ],
)
def test_what_is_wrong_with_a_call(nets: str, call: str, said: str) -> None:
    with pytest.raises(SpecError, match=said.replace("(", r"\(")):
        record_of(f"{nets}:{call}", "6")


def test_a_configuration_with_defaults_need_not_be_given(nets: str) -> None:
    """3 kernels of 4·3·3 weights and a bias, then 3·2 weights and 2 biases."""
    assert params(f"{nets}:Net", "8") == 3 * (4 * 9 + 1) + 3 * 2 + 2
    assert params(f"{nets}:Net@config.bias=false", "8") == 3 * 4 * 9 + 3 * 2 + 2


def test_the_batch_of_an_image_beside_arguments_by_name(nets: str) -> None:
    assert record_of(f"{nets}:Net", ["4x8x8", "step=1x2"]).inputs[0].shape == (1, 4, 8, 8)


def test_the_batch_of_an_image_that_is_cut_into_patches(nets: str) -> None:
    record = record_of(f"{nets}:Patches", "3x8x12")
    assert record.inputs[0].shape == (1, 3, 8, 12)
    assert totals(record)["macs"] == (8 // 4) * (12 // 4) * (3 * 4 * 4) * 5
    assert record_of(f"{nets}:made((6, 4))", "3x2x6").inputs[0].shape == (3, 2, 6)  # it runs as it is


def test_a_module_that_loads_itself_when_it_is_asked_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(types.ModuleType):
        def __getattr__(self, name: str) -> None:
            raise ImportError(f"{name} wants a library that is not there")

    monkeypatch.setitem(sys.modules, "lazy_one", Lazy("lazy_one"))
    assert "lazy_one" not in user_files()
