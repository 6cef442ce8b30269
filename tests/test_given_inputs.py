"""Inputs by value, by a function of the user's file, and by an attribute; other methods; runs on real values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archscope import SpecError, totals
from archscope.analysis.row import rows
from archscope.sources.inputs import Argument, Input, parse_inputs
from archscope.sources.loading import load
from archscope.sources.records import record_of

FILE = """
from collections import UserDict
from typing import NamedTuple
import torch
from torch import nn

class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lin = nn.Embedding(100, 8), nn.Linear(8, 8, bias=False)
    def forward(self, tokens, steps: int = 1, mask=None, scale=1.0, mode="slow"):
        x = self.embed(tokens)
        for _ in range(steps if mode == "slow" else 7):
            x = self.lin(x) * scale
        return x if mask is None else x[mask]

class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 6, batch_first=True)
    def forward(self, x, lengths):
        return self.rnn(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))[0].data

class Sound(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv1d(1, 4, 10, 5, bias=False), nn.Linear(4, 2, bias=False)
    def features(self, x):
        return self.conv(x.unsqueeze(1))
    def forward(self, x):
        return self.out(self.features(x).mean(-1))

class Channels(Sound):
    def forward(self, x):
        return self.out(self.conv(x).mean(-1))

class Patches(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3 * 8 * 8, 16, bias=False)
    def forward(self, x):
        return self.embed(nn.functional.unfold(x, 8, stride=8).transpose(1, 2))

class Pipeline(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
    def __call__(self, x):
        return self.weight * x

class Batch(NamedTuple):
    x: torch.Tensor
    times: int
    extra: object = None

class Encoding(UserDict):
    pass

class OnBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 3, bias=False)
    def forward(self, batch):
        assert batch.extra is None
        for _ in range(batch.times):
            y = self.lin(batch.x)
        return y

class OnList(OnBatch):
    def forward(self, items):
        return [self.lin(item["x"]) for item in items]

class OnNames(OnBatch):
    def forward(self, x, flag=None):
        return self.lin(x)

class OnDict(OnBatch):
    def forward(self, batch):
        return self.lin(batch["x"])

class Lit(OnBatch):
    example_input_array = (torch.zeros(7, 4), None, 3)
    def forward(self, x, nothing, times):
        for _ in range(times):
            y = self.lin(x)
        return y

def batch(): return Batch(torch.zeros(2, 4), 5)
def items(): return [{"x": torch.zeros(2, 4), "id": 3}, {"x": torch.zeros(6, 4), "label": None}]
def names(): return Encoding(x=torch.zeros(2, 4), flag=True)
def fails(): return 1 / 0
value = torch.zeros(9, 4)
"""


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def macs(name: str, *inputs: str, **how: Any) -> int:
    return totals(record_of(f"nets.py:{name}", list(inputs) or None, **how))["macs"]


def test_values_by_name(at: Path) -> None:
    tokens = "tokens=1x64:int64"
    assert macs("Steps", tokens) == 64 * 8 * 8
    assert macs("Steps", tokens, "steps=3") == 3 * 64 * 8 * 8
    assert macs("Steps", tokens, "mask=none", "scale=0.5", "mode='fast'") == 7 * 64 * 8 * 8
    # 4·6 weights of the input and 6·6 of the state for each of 4 gates, in each of 5 + 3 steps
    assert macs("Packed", "x=2x5x4", "lengths=[5,3]") == 4 * (4 * 6 + 6 * 6) * (5 + 3)


def test_forms_of_values() -> None:
    def one(text: str) -> Argument:
        (given,) = parse_inputs([text], ())
        return given

    assert one("lengths=[5,3]") == Argument(Input((2,), "int64"), "", "lengths", value=([5, 3],))
    assert one("lengths=[5, 3]:int32").input == Input((2,), "int32")
    assert one("mask=[[true,false],[True,True]]").input == Input((2, 2), "bool")
    assert one("x=[0.5,1]").input == Input((2,), "float32")
    assert one("rate=0.5:float64").input == Input((), "float64")
    assert one("rate=1e-3").value == (1e-3,) and one("lowest=-1").value == (-1,)
    assert one("ids=1x128:int64<30000").below == 30_000
    assert one("x=(2, 3)").input == Input((2, 3))  # a shape, as Python writes it
    assert one("[2, 3]").input == Input((2, 3))
    for wrong, said in {
        "x=2x3<5": "only integers", "ids=2:int64<0": "from 1 on", "ids=2:int64<many": "from 1 on",
        "x=[1,[2]]": "one length", "x=[1,'a']": "str", "x=[1,": "no value",
    }.items():  # fmt: skip
        with pytest.raises(SpecError, match=said):
            one(wrong)


def test_a_bound_of_what_is_drawn(at: Path) -> None:
    (at / "ids.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Largest(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.lin = nn.Linear(1, 1, bias=False)\n"
        "    def forward(self, ids):\n"
        "        return self.lin(torch.zeros(int(ids.max()) // 1000, 1))\n"
    )
    found = totals(record_of("ids.py:Largest", "ids=64x64:int64<30000"))["macs"]
    assert found == 29  # of 4096 numbers below 30,000 one is at least 29,000: it fails with (29/30)⁴⁰⁹⁶ < 10⁻⁶⁰


def test_a_sound_of_batch_and_time(at: Path) -> None:
    windows = (16_000 - 10) // 5 + 1
    assert macs("Sound", "1x16000") == windows * 10 * 4 + 4 * 2
    assert macs("Channels", "1x16000") == windows * 10 * 4 + 4 * 2
    assert record_of("nets.py:Sound", "1x16000").inputs[0].shape == (1, 16_000)
    assert record_of("nets.py:Channels", "1x16000").inputs[0].shape == (1, 1, 16_000)
    assert record_of("nets.py:Sound", "8x16000").inputs[0].shape == (8, 16_000)


def test_one_number_for_a_model_of_patches(at: Path) -> None:
    """The first layer takes 3·8·8 features: an image is meant where 64 features do not run and 3×64×64 does."""
    record = record_of("nets.py:Patches", "64")
    assert record.inputs[0].shape == (1, 3, 64, 64)
    assert totals(record)["macs"] == (64 // 8) ** 2 * 3 * 8 * 8 * 16
    assert record_of("torch.nn:Linear@in_features=64,out_features=2", "64").inputs[0].shape == (1, 64)


def test_a_call_of_its_own(at: Path) -> None:
    """A class that replaces `__call__` runs as no layer: its operators are rows, and its parameters a row."""
    record = record_of("nets.py:Pipeline", "2x4")
    assert not record.layers and [(row.path, row.depth) for row in rows(record)][0] == ("mul", 1)
    assert (totals(record)["params"], totals(record)["flops"]) == (4, 2 * 4)


def test_another_method(at: Path, archscope: Callable[..., Any]) -> None:
    windows = (16_000 - 10) // 5 + 1
    assert macs("Sound", "1x16000", method="features") == windows * 10 * 4
    assert macs("Sound", "1x16000") == windows * 10 * 4 + 4 * 2
    ran = archscope("trace", "nets.py:Sound", "--input", "1x16000", "--method", "featurs")
    assert ran.code == 2 and "did you mean features?" in ran.err


def test_batches_of_any_class(at: Path) -> None:
    assert macs("OnBatch", "nets.py:batch") == 5 * 2 * 4 * 3
    assert macs("OnList", "nets.py:items") == (2 + 6) * 4 * 3
    assert macs("OnNames", "nets.py:names") == macs("OnDict", "nets.py:names") == 2 * 4 * 3
    assert macs("OnNames", "nets.py:value") == 9 * 4 * 3
    assert macs("Lit") == 3 * 7 * 4 * 3
    model, given = load("nets.py:OnBatch", "nets.py:batch")
    assert given[0].x.device.type == "meta" and type(given[0]).__name__ == "Batch"
    assert model(*given).shape == (2, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--inputs", "nets.py:fails"], "nets.py:fails fails, called without arguments: ZeroDivisionError"),
        (["--inputs", "nets.py:bach"], "did you mean Batch?"),
        (["--inputs", "nets.py:batch", "--input", "2x4"], "leave out the other inputs"),
        (["--inputs", "nets.py:batch", "--batch", "4"], "leave --batch out"),
        (["--input", "2x4", "--values", "alway"], "did you mean always?"),
    ],
)
def test_what_is_wrong_is_said(at: Path, archscope: Callable[..., Any], given: list[str], said: str) -> None:
    ran = archscope("trace", "nets.py:OnNames", *given)
    assert ran.code == 2 and said in ran.err and not ran.out


def test_values_on_the_command_line(at: Path, archscope: Callable[..., Any]) -> None:
    """A mask of ones keeps every token; without values the rows of a boolean mask are unknown."""
    words = ["table", "nets.py:Steps", "--input", "tokens=1x64:int64", "--input", "mask=1x64:bool", "--format", "json"]
    assert archscope(*words).code == 0
    ran = archscope(*words, "--values", "never")
    assert ran.code == 1 and "depends on the value" in ran.out
    assert archscope(*words).code == 0  # the option holds for its command only
    ran = archscope("trace", "nets.py:OnNames", "--input", "2x4", "--values", "always")
    assert ran.code == 0 and "it ran on real values" in ran.out


def test_the_store_knows_the_conditions(at: Path) -> None:
    from archscope.sources import store
    from archscope.sources.conditions import under

    plain = store.asked_of("alexnet")
    with under("always"):
        assert store.asked_of("alexnet") == plain._replace(values="always")
        assert store.key_of(store.asked_of("alexnet")) != store.key_of(plain)
    with under(method="features"):
        assert store.asked_of("alexnet") == plain._replace(method="features")
    assert store.asked_of("alexnet") == plain
