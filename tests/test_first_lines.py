"""What strangers type: each line of docs/howto/first-lines.md runs as the page says, or is answered as it says."""

import copy
import json
import pickle
import re
import shlex
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import archscope as archscope_package
from archscope import ShapeError, SpecError
from archscope.sources.source import every_source
from archscope.sources.spec import parse

PAGE = (Path(__file__).parent.parent / "docs/howto/first-lines.md").read_text(encoding="utf-8")
RUN, ANSWERED = (re.findall(r"^\| `(archscope .*?)` \| `(.*?)` \|$", part, re.MULTILINE)
                 for part in PAGE.split("## These are answered"))  # fmt: skip
IN_PYTHON = re.findall(r"^\| `(archscope\..*?)` \| `(.*?)` \|$", PAGE, re.MULTILINE)
NET = """
import torch
from torch import nn


class Net(nn.Module):
    example_inputs = (1, 3, 32, 32)

    def __init__(self, width=8):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)

    def forward(self, x):
        return self.conv(x)
"""
TWO = NET.replace("class Net", "class Small") + NET.partition("nn\n\n\n")[2].replace("class Net", "class Large")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "two.py").write_text(TWO)
    (tmp_path / "build.py").write_text("def get_model(width=8):\n    pass\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/cnn.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "net", raising=False)
    return tmp_path


def _needs(line: str) -> None:
    for package in ("timm", "transformers"):
        if f"{package}:" in line and find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def test_there_are_eighty_lines() -> None:
    assert len(RUN) + len(ANSWERED) >= 70 and len(IN_PYTHON) >= 15


@pytest.mark.parametrize(("typed", "same"), RUN, ids=[typed for typed, _ in RUN])
def test_lines_that_run(typed: str, same: str, folder: Path, archscope: Callable[..., Any]) -> None:
    _needs(same)
    ran, plain = (archscope(*shlex.split(line)[1:], "--format", "json") for line in (typed, same))
    assert (ran.code, plain.code) == (0, 0), ran.err + plain.err
    found, expected = json.loads(ran.out), json.loads(plain.out)
    for body in (found, expected):
        if isinstance(body, dict):  # a note says how the line was read
            body.pop("notes", None)
    assert found == expected and found


@pytest.mark.parametrize(("typed", "answer"), ANSWERED, ids=[typed for typed, _ in ANSWERED])
def test_lines_that_are_answered(typed: str, answer: str, folder: Path, archscope: Callable[..., Any]) -> None:
    _needs(answer)
    ran = archscope(*shlex.split(typed)[1:])
    assert ran.code == 2 and ran.out == ""
    assert answer in ran.err


@pytest.mark.parametrize(("typed", "answer"), IN_PYTHON, ids=[typed for typed, _ in IN_PYTHON])
def test_lines_of_python_that_are_answered(typed: str, answer: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    names = {"archscope": archscope_package, "torch": torch, "model": model, "x": torch.zeros(1, 3, 32, 32)}
    with pytest.raises((SpecError, ShapeError, TypeError, AttributeError)) as caught:
        eval(typed, names)
    assert answer in "".join(traceback.format_exception_only(caught.value))


def test_what_python_is_told_to_write_works() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    x = torch.zeros(1, 3, 32, 32)
    params = 8 * 3 * 3 * 3 + 8 + 8 * 10 + 10
    record = archscope_package.trace(model, x)
    assert record.totals["params"] == params == archscope_package.trace(model, (1, 3, 32, 32)).totals["params"]
    assert archscope_package.summary(model, x, verbose=0) == record  # a tensor in the place of its shape
    assert archscope_package.trace(torch.export.export(model, (x,)).module(), x).totals["params"] == params
    assert copy.deepcopy(record) == pickle.loads(pickle.dumps(record)) == record
    with pytest.raises(AttributeError, match="a Trace has no 'width'$"):
        record.width  # noqa: B018


def test_the_full_name_is_in_a_note(archscope: Callable[..., Any]) -> None:
    assert "torchvision.models.alexnet is torchvision:alexnet" in archscope("trace", "torchvision.models.alexnet").out
    assert parse("torchvision:alexnet").note == parse("alexnet").note == ""  # the zoo has one of that name
    if find_spec("timm") is not None:
        assert parse("efficientnet_b0").note == (
            "efficientnet_b0 is torchvision:efficientnet_b0; timm:efficientnet_b0 is another model"
        )


def test_a_package_of_python_does_not_hide_a_file(folder: Path) -> None:
    assert parse("trace.json").source.name == "trace"  # `trace` is a module of the standard library
    assert parse("code.pt2").source.name == "exported"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Net:\n    pass\n", "defines no model"),
        (NET.replace("width=8", "width"), "write one.py:Net@width=…"),
        ("import sys\nsys.exit(0)\n", "the model's code ends the process, by exit(0) at"),
    ],
)
def test_a_file_without_a_model(text: str, said: str, folder: Path, archscope: Callable[..., Any]) -> None:
    (folder / "one.py").write_text(text)
    ran = archscope("trace", "one.py")
    assert ran.code in (1, 2) and said in ran.err


@pytest.mark.parametrize(
    "source", [each for each in every_source() if each.name in ("torchvision", "timm")], ids=lambda source: source.name
)
def test_names_read_from_files_are_those_of_the_library(source: Any) -> None:
    if find_spec(source.name) is None:
        pytest.skip(f"{source.name} is not installed")
    assert source.names_in_files() == set(source.names("*"))


def test_names_of_transformers_are_read_from_its_files() -> None:
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    names = parse("transformers:bert").source.names_in_files()
    assert {"bert", "gpt2", "LlamaConfig", "BertModel", "BertForMaskedLM"} <= names
