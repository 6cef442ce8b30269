"""torchinfo's convention: each of its ways of counting by hand, and held against torchinfo itself."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from archscope.peers.measured import run_tool
from archscope.peers.reconcile import account_of
from archscope.peers.tools import COUNTERS
from archscope.tracing.tracer import trace


class Call(nn.Module):
    """Modules, and a function of them and of tensors."""

    def __init__(self, function: Any, *modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.inner = nn.ModuleList(modules)

    def forward(self, *inputs: Any) -> Any:
        return self.function(*self.inner, *inputs)


def indices(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64)


class Conv1D(nn.Module):
    """As in GPT-2: a linear layer, whatever its name says."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(4, 6)), nn.Parameter(torch.empty(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x.reshape(-1, 4), self.weight).view(*x.shape[:-1], 6)


LINEAR, CELL = "Linear counted once a batch and not once a token", "LSTMCell counted once more for each hidden unit"
TRANSPOSED = "transposed convolution by output size, not by input size"

# fmt: off
TABLE: list[tuple[str, nn.Module, tuple[Any, ...], int, dict[str, int]]] = [
    # (id, module, inputs, torchinfo's figure, the differences to archscope's MACs)
    ("convolution", nn.Conv2d(3, 8, 3, padding=1), ((2, 3, 9, 9),),
        2*9*9 * (3*3*3*8 + 8), {"convolution biases counted as multiply-adds": 2*9*9 * 8}),
    ("grouped", nn.Conv2d(4, 8, 3, groups=2, bias=False), ((1, 4, 9, 9),), 7*7 * 3*3*2*8, {}),
    ("without a batch", nn.Conv2d(3, 8, 3, bias=False), ((3, 9, 9),),
        8*7 * 3*3*3*8, {"convolution without a batch axis": 8*7 * 3*3*3*8 - 7*7 * 3*3*3*8}),
    ("transposed", nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False), ((1, 4, 5, 5),),
        11*11 * 3*3*4*6, {TRANSPOSED: (11*11 - 5*5) * 3*3*4*6}),
    ("linear", nn.Linear(5, 4), ((3, 5),), 3 * (5*4 + 4), {"Linear biases counted as multiply-adds": 3 * 4}),
    ("linear on tokens", nn.Linear(5, 4, bias=False), ((3, 7, 5),), 3 * 5*4, {LINEAR: 3 * 5*4 - 3*7 * 5*4}),
    ("batch norm", nn.BatchNorm2d(4), ((2, 4, 3, 3),),
        2 * (4 + 4), {"batch-norm weights and biases counted as multiply-adds": 2 * (4 + 4)}),
    ("layer norm", nn.LayerNorm(6), ((2, 5, 6),),
        2 * (6 + 6), {"layer-norm weights and biases counted as multiply-adds": 2 * (6 + 6)}),
    ("no bias", nn.LayerNorm(6, bias=False), ((2, 6),), 2 * 6, {"layer-norm weights counted as multiply-adds": 2 * 6}),
    ("embedding", nn.Embedding(10, 4), (indices(2, 3),),
        2 * 10*4, {"embedding weights counted as multiply-adds": 2 * 10*4}),
    ("lstm", nn.LSTM(3, 4), ((5, 2, 3),),
        5*2 * (4*4*3 + 4*4*4 + 2*4*4), {"recurrent biases counted as multiply-adds": 5*2 * 2*4*4}),
    ("lstm cell", nn.LSTMCell(3, 4, bias=False), ((2, 3),),
        2*4 * (4*4*3 + 4*4*4), {CELL: 2*4 * 112 - 2 * 112}),
    ("attention", Call(lambda m, x: m(x, x, x, need_weights=False)[0], nn.MultiheadAttention(8, 2)), ((5, 1, 8),),
        0, {"attention not seen": -(4 * 5*8*8 + 2 * 5*5*8)}),
    ("product", Call(torch.matmul), ((3, 4), (4, 5)), 0, {"matrix products outside modules not seen": -3*4*5}),
    ("functional", Call(lambda x, w: F.conv2d(x, w)), ((1, 3, 9, 9), (8, 3, 3, 3)),
        0, {"convolutions outside modules not seen": -7*7 * 3*3*3*8}),
    ("called twice", Call(lambda m, x: m(m(x)), nn.Linear(4, 4, bias=False)), ((3, 4),), 2 * 3 * 4*4, {}),
    ("a shared activation", Call(lambda a, m, x: a(m(a(x))), nn.ReLU(), nn.Linear(4, 4, bias=False)), ((3, 4),),
        3 * 4*4, {}),
    ("called by its forward", Call(lambda m, x: m.forward(x), nn.Linear(4, 5, bias=False)), ((3, 4),),
        0, {"matrix products outside modules not seen": -3*4*5}),
    ("by its name", Conv1D(), ((1, 5, 4),), 6 * (4*6 + 6),  # the sides after the second, here the features
        {"Conv1D taken for a convolution by its name": (6 - 5) * 4*6, "Conv1D biases counted as multiply-adds": 6 * 6}),
    ("slopes", nn.PReLU(4), ((2, 4, 3),), 2 * 4, {"PReLU weights counted as multiply-adds": 2 * 4}),
    ("makes tensors", Call(lambda m, x: m(x + torch.ones(4)), nn.Linear(4, 5, bias=False)), ((3, 4),), 3*4*5, {}),
]
# fmt: on


@pytest.mark.parametrize(("module", "inputs", "figure", "items"), [r[1:] for r in TABLE], ids=[r[0] for r in TABLE])
def test_what_torchinfo_counts(module: nn.Module, inputs: Any, figure: int, items: dict[str, int]) -> None:
    account = COUNTERS["torchinfo"].convention(trace(module, inputs))
    assert account.figure == figure
    assert {item.reason: item.amount for item in account.items} == items


@pytest.mark.parametrize(("module", "inputs"), [r[1:3] for r in TABLE], ids=[r[0] for r in TABLE])
def test_torchinfo_itself_says_the_same(module: nn.Module, inputs: Any) -> None:
    tensors = tuple(each if isinstance(each, torch.Tensor) else torch.empty(each) for each in inputs)
    told = account_of(trace(module, inputs), "torchinfo", run_tool("torchinfo", module, tensors))
    assert told.residual == 0
    assert told.notes == []


def test_a_place_is_named_where_there_is_one() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    (item,) = COUNTERS["torchinfo"].convention(trace(net, ((1, 4),))).items
    assert str(item) == "Linear biases counted as multiply-adds (2 layers)"
    assert item.places == ("0", "1")
    (item,) = COUNTERS["torchinfo"].convention(trace(net[:1], ((1, 4),))).items
    assert str(item) == "Linear biases counted as multiply-adds (0)"
