"""What each operator costs, with every factor written out: `Counting semantics` in `archscope/ops.py`, as a table.

A row is (id, module or function, inputs, MACs, FLOPs). Numbers are products of the configuration, never copied from
an output. The figures that other tools dispute are those of a survey of thirteen of them.
"""

import ast
import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.models
import torchvision.ops
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from archscope import operators as ops
from archscope.analysis.metrics import totals
from archscope.analysis.observed import unknown_operators, works
from archscope.core.errors import ShapeError
from archscope.operators import BY_OUTPUT, RULES, VIEWS, ZERO, op, work
from archscope.tracing.tracer import trace
from archscope.tracing.weightless import weightless


class Call(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def indices(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64)


X = (2, 8, 4, 4)  # 2·8·4·4 = 256 elements
SEQUENCE = (5, 2, 10)  # 5 steps, a batch of 2, 10 features

# fmt: off
TABLE: list[tuple[str, Any, tuple[Any, ...], int, int]] = [
    # convolution: N · sides · k · c_in/g · c_out, and a bias an output
    ("conv2d bias", nn.Conv2d(3, 8, 3, padding=1), ((2, 3, 8, 8),),
        2*8*8 * 3*3 * 3 * 8, 2 * 27_648 + 2*8*8*8),
    ("conv2d", nn.Conv2d(3, 8, 3, padding=1, bias=False), ((2, 3, 8, 8),), 27_648, 2 * 27_648),
    ("conv2d functional", Call(F.conv2d), ((2, 3, 8, 8), (8, 3, 3, 3)), 2*6*6 * 3*3 * 3 * 8, 2 * 2*6*6 * 3*3 * 3 * 8),
    ("conv2d unbatched", nn.Conv2d(3, 8, 3, padding=1, bias=False), ((3, 8, 8),), 8*8 * 3*3 * 3 * 8, 2 * 8*8*3*3*3*8),
    ("conv2d depthwise", nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), ((2, 8, 8, 8),),
        2*8*8 * 3*3 * 1 * 8, 2 * 9_216),
    ("conv2d same", nn.Conv2d(3, 8, 4, padding="same", bias=False), ((2, 3, 8, 8),), 2*8*8 * 4*4 * 3 * 8, 2 * 49_152),
    ("conv2d dilated", nn.Conv2d(3, 8, 3, dilation=2, bias=False), ((2, 3, 8, 8),), 2*4*4 * 3*3 * 3 * 8, 2 * 6_912),
    ("conv1d", nn.Conv1d(4, 6, 5, stride=2), ((2, 4, 11),), 2*4 * 5 * 4 * 6, 2 * 960 + 2*4*6),
    ("conv3d", nn.Conv3d(2, 3, (1, 2, 3)), ((1, 2, 4, 4, 4),), 4*3*2 * 1*2*3 * 2 * 3, 2 * 864 + 4*3*2*3),
    ("convolution", Call(lambda x, w: torch.convolution(x, w, None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1)),
        ((2, 3, 8, 8), (8, 3, 3, 3)), 2*6*6 * 3*3 * 3 * 8, 2 * 15_552),
    ("deform_conv2d", torchvision.ops.DeformConv2d(3, 8, 3, padding=1), ((2, 3, 8, 8), (2, 2*3*3, 8, 8), (2, 9, 8, 8)),
        27_648, 2 * 27_648 + 2*8*8*8 + 2*8*8 * 3*3 * 3 * (8 + 1)),
    # transposed convolution: by input size
    ("transposed", nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False), ((2, 4, 5, 5),),
        2*5*5 * 3*3 * 4 * 6, 2 * 10_800),
    ("transposed bias", nn.ConvTranspose2d(4, 6, 3, stride=2), ((2, 4, 5, 5),), 10_800, 2 * 10_800 + 2*11*11*6),
    ("transposed grouped", nn.ConvTranspose2d(4, 4, 3, 2, padding=1, output_padding=1, groups=4, bias=False),
        ((2, 4, 8, 8),), 2*8*8 * 3*3 * 4 * 1, 2 * 4_608),
    # matrix products
    ("linear", nn.Linear(10, 20), ((2, 10),), 2 * 10 * 20, 2 * 400 + 2*20),
    ("linear on steps", nn.Linear(10, 20), ((2, 5, 10),), 2*5 * 10 * 20, 2 * 2_000 + 2*5*20),
    ("linear on a vector", nn.Linear(10, 20), ((10,),), 10 * 20, 2 * 200 + 20),
    ("linear functional", Call(F.linear), ((2, 10), (20, 10), (20,)), 2 * 10 * 20, 2 * 400 + 2*20),
    ("x @ w", Call(lambda x, w: x @ w), ((2, 5, 7), (7, 16)), 2*5 * 7 * 16, 2 * 1_120),
    ("matmul method", Call(lambda x, w: x.matmul(w)), ((2, 5, 7), (7, 16)), 1_120, 2 * 1_120),
    ("matmul of vectors", Call(torch.matmul), ((7,), (7,)), 7, 2 * 7),
    ("mm", Call(torch.mm), ((3, 4), (4, 5)), 3 * 4 * 5, 2 * 60),
    ("mv", Call(torch.mv), ((3, 4), (4,)), 3 * 4, 2 * 12),
    ("bmm", Call(torch.bmm), ((2, 5, 8), (2, 8, 10)), 2 * 5 * 8 * 10, 2 * 800),
    ("addmm", Call(torch.addmm), ((5,), (3, 4), (4, 5)), 3 * 4 * 5, 2 * 60 + 3*5),
    ("baddbmm", Call(torch.baddbmm), ((2, 3, 5), (2, 3, 4), (2, 4, 5)), 2 * 3 * 4 * 5, 2 * 120 + 2*3*5),
    ("addbmm", Call(torch.addbmm), ((3, 5), (2, 3, 4), (2, 4, 5)), 2 * 3 * 4 * 5, 2 * 120 + 3*5),
    ("addmv", Call(torch.addmv), ((3,), (3, 4), (4,)), 3 * 4, 2 * 12 + 3),
    ("einsum", Call(lambda a, b: torch.einsum("bij,bkj->bik", a, b)), ((2, 5, 8), (2, 10, 8)), 2*5 * 8 * 10, 2 * 800),
    ("Bilinear", nn.Bilinear(3, 4, 5), ((2, 3), (2, 4)), 5 * (2 * 3*4 + 2*4), 2 * 160 + 2*5),
    ("Bilinear on steps", nn.Bilinear(3, 4, 5, bias=False), ((2, 7, 3), (2, 7, 4)), 5 * (14 * 3*4 + 14*4), 2 * 1_120),
    ("einsum of one", Call(lambda a: torch.einsum("bij->bji", a)), ((2, 5, 8),), 0, 0),
    # attention: q kᵀ and the sum of v
    ("attention", Call(F.scaled_dot_product_attention), ((2, 4, 5, 4),) * 3,
        2*4 * 5*5 * (4 + 4), 2 * 1_600 + 2*4*5*5 * 6),
    ("attention masked", Call(F.scaled_dot_product_attention), (*((2, 4, 5, 4),) * 3, (5, 5)),
        1_600, 2 * 1_600 + 2*4*5*5 * 7),
    ("attention of few keys", Call(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)),
        ((2, 6, 5, 4), (2, 2, 7, 4), (2, 2, 7, 3)), 2*6 * 5*7 * (4 + 3), 2 * 2_940 + 2*6*5*7 * 6),
    ("MultiheadAttention", nn.MultiheadAttention(16, 4), ((5, 2, 16),) * 3,
        4 * 16*16*10 + 2 * (2 * 5*5 * 16), -1),
    ("TransformerEncoderLayer", nn.TransformerEncoderLayer(16, 4, 32), ((5, 2, 16),), 11_840 + 2 * (10*16*32), -1),
    # recurrent: steps · gates · h · (in + h)
    ("RNN", nn.RNN(10, 20), (SEQUENCE,), 5*2 * 1 * 20 * (10 + 20), 2 * 6_000 + 5*2 * (20 * 2 + 2 * 1*20)),
    ("LSTM", nn.LSTM(10, 20), (SEQUENCE,), 5*2 * 4 * 20 * (10 + 20), 2 * 24_000 + 5*2 * (20 * 13 + 2 * 4*20)),
    ("GRU", nn.GRU(10, 20), (SEQUENCE,), 5*2 * 3 * 20 * (10 + 20), 2 * 18_000 + 5*2 * (20 * 10 + 2 * 3*20)),
    ("LSTM no bias", nn.LSTM(10, 20, bias=False), (SEQUENCE,), 24_000, 2 * 24_000 + 5*2 * 20 * 13),
    ("BiLSTM of 2 layers", nn.LSTM(10, 20, 2, bidirectional=True), (SEQUENCE,),
        5*2 * 2 * (4 * 20 * (10 + 20) + 4 * 20 * (40 + 20)), 2 * 144_000 + 5*2 * 4 * (20 * 13 + 2 * 4*20)),
    ("LSTM projected", nn.LSTM(10, 20, proj_size=5), (SEQUENCE,), 5*2 * (4 * 20 * (10 + 5) + 20 * 5), -1),
    ("LSTM packed", nn.LSTM(10, 20), (nn.utils.rnn.pack_sequence([torch.zeros(3, 10), torch.zeros(2, 10)]),),
        (3 + 2) * 4 * 20 * (10 + 20), 2 * 12_000 + (3 + 2) * (20 * 13 + 2 * 4*20)),
    ("LSTMCell", nn.LSTMCell(10, 20), ((2, 10),), 2 * 4 * 20 * (10 + 20), 2 * 4_800 + 2 * (20 * 13 + 2 * 4*20)),
    ("GRUCell", nn.GRUCell(10, 20), ((2, 10),), 2 * 3 * 20 * (10 + 20), 2 * 3_600 + 2 * (20 * 10 + 2 * 3*20)),
    ("RNNCell", nn.RNNCell(10, 20), ((2, 10),), 2 * 1 * 20 * (10 + 20), 2 * 1_200 + 2 * (20 * 2 + 2 * 1*20)),
    ("same layer twice", nn.Sequential(*[nn.Linear(10, 10)] * 2), ((2, 10),), 2 * 2*10*10, 2 * 400 + 2 * 2*10),
    # normalisation
    ("BatchNorm2d", nn.BatchNorm2d(8), (X,), 0, 256 * 2),
    ("BatchNorm2d of its batch", nn.BatchNorm2d(8, track_running_stats=False), (X,), 0, 256 * (2 + 4)),
    ("InstanceNorm2d", nn.InstanceNorm2d(8), (X,), 0, 256 * (2 + 4)),
    ("LayerNorm", nn.LayerNorm(16), ((2, 5, 16),), 0, 2*5*16 * 5),
    ("RMSNorm", nn.RMSNorm(16), ((2, 5, 16),), 0, 2*5*16 * 4),
    ("GroupNorm", nn.GroupNorm(2, 8), (X,), 0, 256 * 5),
    # activation, arithmetic, softmax
    *((f.__name__, Call(f), (X,), 0, 256) for f in (
        F.relu, F.gelu, F.silu, F.sigmoid, F.tanh, F.hardswish, F.hardsigmoid, F.elu, F.softplus, torch.exp, torch.sqrt,
        F.relu6, F.mish, F.leaky_relu, F.logsigmoid, F.rrelu)),
    ("inplace", nn.Hardswish(inplace=True), (X,), 0, 256),
    ("softsign", nn.Softsign(), (X,), 0, 256 * 3),
    ("tanhshrink", nn.Tanhshrink(), (X,), 0, 256 * 2),
    ("PReLU", nn.PReLU(8), (X,), 0, 256),
    ("GLU", nn.GLU(1), (X,), 0, 256 // 2),
    ("x + y", Call(torch.add), (X, X), 0, 256),
    ("x * gate", Call(torch.mul), (X, (2, 8, 1, 1)), 0, 256),
    ("x / 2", Call(lambda x: x / 2), (X,), 0, 256),
    ("clamp", Call(lambda x: x.clamp(0, 6)), (X,), 0, 256),
    ("softmax", nn.Softmax(-1), ((2, 16),), 0, 2*16 * 5),
    ("log_softmax", nn.LogSoftmax(-1), ((2, 16),), 0, 2*16 * 5),
    # pooling, reductions
    ("MaxPool2d", nn.MaxPool2d(2), (X,), 0, 2*8*2*2 * (2*2 - 1)),
    ("MaxPool2d indices", nn.MaxPool2d(2, return_indices=True), (X,), 0, 2*8*2*2 * (2*2 - 1)),
    ("AvgPool2d", nn.AvgPool2d(2), (X,), 0, 2*8*2*2 * (2*2)),
    ("AvgPool3d", nn.AvgPool3d(2), ((1, 2, 4, 4, 4),), 0, 2 * 2*2*2 * 2*2*2),
    ("AdaptiveAvgPool2d of 3", nn.AdaptiveAvgPool2d(3), (X,), 0, 2*8 * (2+2+2) * (2+2+2)),  # windows 0-1, 1-2, 2-3
    ("AdaptiveMaxPool2d of 2", nn.AdaptiveMaxPool2d(2), (X,), 0, 2*8 * 2*2 * (2*2 - 1)),
    ("AdaptiveAvgPool2d of 1", nn.AdaptiveAvgPool2d(1), (X,), 0, 2*8 * 4*4),
    ("mean", Call(lambda x: x.mean((2, 3))), (X,), 0, 256 + 2*8),
    ("sum", Call(lambda x: x.sum(1)), (X,), 0, 256),
    ("amax", Call(lambda x: x.amax(1)), (X,), 0, 256),
    ("var", Call(lambda x: x.var(1)), (X,), 0, 256),
    ("mse_loss", Call(F.mse_loss), (X, X), 0, 256),
    # interpolation: 2^n neighbours, a product and an addition each
    ("nearest", nn.Upsample(scale_factor=2), (X,), 0, 0),
    ("linear 1d", nn.Upsample(scale_factor=2, mode="linear"), ((2, 8, 4),), 0, 2*8*8 * 2 * 2),
    ("bilinear", nn.Upsample(scale_factor=2, mode="bilinear"), (X,), 0, 2*8*8*8 * 4 * 2),
    ("trilinear", nn.Upsample(scale_factor=2, mode="trilinear"), ((1, 2, 2, 2, 2),), 0, 2*4*4*4 * 8 * 2),
    ("bicubic", nn.Upsample(scale_factor=2, mode="bicubic"), (X,), 0, 2*8*8*8 * 16 * 2),
    ("grid_sample", Call(lambda x, g: F.grid_sample(x, g, align_corners=False)), (X, (2, 3, 3, 2)), 0, 2*8*3*3 * 4*2),
    # bags, sums at an index, weight norm
    ("EmbeddingBag", nn.EmbeddingBag(9, 16), (indices(2, 3),), 0, 2*3 * 16),
    ("scatter_add", Call(lambda x, i: x.scatter_add(0, i, x)), (torch.zeros(4, 3), indices(4, 3)), 0, 4*3),
    ("weight_norm", Call(lambda v, g: torch.ops.aten._weight_norm(v, g, 0)), ((6, 3), (6, 1)), 0, 2 * 6*3 + 6),
    # zero by definition
    ("Embedding", nn.Embedding(100, 16), (indices(2, 5),), 0, 0),
    ("Dropout", nn.Dropout(), (X,), 0, 0),
    ("Flatten", nn.Flatten(), (X,), 0, 0),
    ("cat", Call(lambda x: torch.cat([x, x], 1)), (X,), 0, 0),
    ("pad", nn.ReflectionPad2d(1), (X,), 0, 0),
    ("PixelShuffle", nn.PixelShuffle(2), (X,), 0, 0),
    ("Unfold", nn.Unfold(2), (X,), 0, 0),
    ("where", Call(lambda x: torch.where(x > 0, x, 0.0)), (X,), 0, 0),
    ("sort", Call(lambda x: x.sort(1)[0]), (X,), 0, 0),
    ("roll", Call(lambda x: x.roll(1, 2)), (X,), 0, 0),
]
# fmt: on


@pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:.*inference_mode")
@pytest.mark.parametrize("place", ["cpu", "meta"])
@pytest.mark.parametrize(("module", "inputs", "macs", "flops"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE])
def test_the_cost_of_an_operator(module: Any, inputs: Any, macs: int, flops: int, place: str) -> None:
    seen = totals(trace(module.to(place), inputs))
    assert seen["unknown"] == {}
    assert seen["macs"] == macs
    if flops != -1:  # made of many operators
        assert seen["flops"] == flops
    module.to_empty(device="cpu")


def test_the_figures_that_other_tools_dispute() -> None:
    """The true values of the survey, as plain numbers, so that a wrong product in the table cannot hide."""
    stated = {row[0]: row[3] for row in TABLE}
    assert stated["conv2d bias"] == 27_648
    assert stated["transposed"] == 10_800
    assert stated["transposed grouped"] == 4_608
    assert stated["conv2d same"] == 49_152
    assert stated["MultiheadAttention"] == 11_840
    assert stated["TransformerEncoderLayer"] == 22_080
    assert stated["LSTM"] == 24_000
    assert stated["GRU"] == 18_000
    assert stated["BiLSTM of 2 layers"] == 144_000
    assert stated["LSTMCell"] == 4_800
    assert stated["attention"] == 1_600
    assert stated["x @ w"] == 1_120
    assert stated["bmm"] == stated["einsum"] == 800
    assert stated["linear on steps"] == 2_000


def test_bilinear_costs_what_is_executed() -> None:
    """PyTorch's own profile of the call: the matrix products [b, n, m] · [b, m, p] that it consists of."""
    b, i, j, o = 2, 3, 4, 5
    with torch.profiler.profile(record_shapes=True) as profile:
        nn.Bilinear(i, j, o)(torch.zeros(b, i), torch.zeros(b, j))
    products = [event.input_shapes for event in profile.events() or () if event.name == "aten::bmm"]
    executed = sum(math.prod(left) * right[-1] for left, right, *_ in products)
    assert len(products) == 2 * o
    assert totals(trace(nn.Bilinear(i, j, o), ((b, i), (b, j))))["macs"] == executed == o * (b * i * j + b * j)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_attention_costs_the_same_by_every_path(need_weights: bool, frozen: bool) -> None:
    module = nn.MultiheadAttention(16, 4).requires_grad_(not frozen)
    run = trace(module, ((5, 2, 16),) * 3, {"need_weights": need_weights})
    assert totals(run)["macs"] == 4 * 16 * 16 * 10 + 2 * (2 * 5 * 5 * 16) == 11_840


def test_training_adds_the_statistics_of_the_batch() -> None:
    norm = nn.BatchNorm2d(8)
    assert totals(trace(norm, (X,)))["flops"] == 256 * 2
    assert totals(trace(norm, (X,), train=True))["flops"] == 256 * (2 + 4) + 1  # and one batch more is counted


def test_constants_multiply_too() -> None:
    """Between the model's own small weights nothing is taken apart, and nothing is lost."""
    left, right = nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(4, 5))
    for product in (
        lambda: torch.einsum("ij,jk->ik", left, right),
        lambda: left @ right,
        lambda: torch.mm(left, right),
    ):
        run = trace(Call(lambda x, product=product: x + product()), ((3, 5),))
        assert totals(run)["unknown"] == {}
        assert totals(run)["macs"] == 3 * 4 * 5


EINSUMS = ("ij,jk->ik", "bij,bkj->bik", "ij,ij->ij", "i,j->ij", "ij,jk->k", "bhqd,bhkd->bhqk", "ab,cd->ad", "i,i->")


@pytest.mark.parametrize("equation", EINSUMS)
def test_an_einsum_kept_whole_costs_what_its_pieces_cost(equation: str) -> None:
    sides = dict(zip("abcdhijkq", range(2, 11), strict=True))
    one, other = (torch.zeros([sides[c] for c in term]) for term in equation.partition("->")[0].split(","))
    weights = nn.ParameterList([one, other])
    module = Call(lambda x: x * torch.einsum(equation, *weights).sum())
    module.weights = weights
    whole = trace(module, ((1,),))
    apart = trace(module.to("meta"), ((1,),))
    assert "aten.einsum" in [o.name for o in whole.ops]
    assert totals(whole)["macs"] == totals(apart)["macs"]
    assert totals(whole)["unknown"] == {}


@pytest.mark.parametrize("equation", ["ii->i", "i...,i...,i...->...", "ij,jk,kl->il"])
def test_an_einsum_kept_whole_that_is_not_understood_is_unknown(equation: str) -> None:
    operands = [torch.zeros(3, 3) for _ in equation.partition("->")[0].split(",")]
    run = trace(Call(lambda x: x * torch.einsum(equation, *operands).sum()), ((1,),))
    assert unknown_operators(run) == {"aten.einsum": 1}


def test_an_einsum_with_an_ellipsis_is_understood() -> None:
    run = trace(Call(lambda x: x * torch.einsum("i...,i...->...", torch.zeros(3, 4), torch.zeros(3, 4)).sum()), ((1,),))
    assert totals(run)["macs"] == 3 * 4 and unknown_operators(run) == {}  # for each of 4 columns a sum of 3 products


# ------------------------------------------------------------------------------------------------------- unknown


def test_what_nobody_knows_is_none_and_named() -> None:
    for module, inputs, name in (
        (Call(torch.linalg.qr), ((2, 8),), "aten.linalg_qr"),
        (Call(torch.linalg.solve), ((2, 3, 3), (2, 3, 3)), "aten._linalg_solve_ex"),
    ):
        run = trace(module, inputs)
        assert name in unknown_operators(run)
        assert name in totals(run)["unknown"]
        by_name = dict(zip([o.name for o in run.ops], works(run), strict=True))
        assert by_name[name] is None


def test_a_custom_operator_is_unknown() -> None:
    @torch.library.custom_op("archscope_test::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @double.register_fake
    def _(x: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x)

    run = trace(nn.Sequential(nn.Linear(4, 4), Call(double)), ((2, 4),))
    assert unknown_operators(run) == {"archscope_test.double": 1}
    assert totals(run)["macs"] == 2 * 4 * 4


def test_integers_become_floats_where_pytorch_says_so() -> None:
    for function in (torch.exp, torch.sigmoid, torch.sqrt, torch.abs):
        run = trace(Call(function), (indices(3),))
        real = function(indices(3))
        assert run.layers[0].outputs[0].dtype == str(real.dtype).removeprefix("torch.")
        assert totals(run)["flops"] == 3


def test_the_indices_of_a_pool_are_integers() -> None:
    for pool in (nn.MaxPool2d(2, return_indices=True), nn.AdaptiveMaxPool2d(2, return_indices=True)):
        run = trace(pool, (X,))
        assert [t.dtype for t in run.layers[0].outputs] == ["float32", "int64"]


# -------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("table", [RULES, BY_OUTPUT, ZERO, VIEWS], ids=["RULES", "BY_OUTPUT", "ZERO", "VIEWS"])
def test_every_name_is_an_operator_that_exists(table: Any) -> None:
    invented = []
    for name in table:
        space, _, packet = name.partition(".")
        if not hasattr(getattr(torch.ops, space), packet):
            invented.append(name)
    assert invented == []


def test_no_operator_stands_in_two_tables() -> None:
    assert not RULES.keys() & BY_OUTPUT.keys()
    assert not RULES.keys() & ZERO
    assert not BY_OUTPUT.keys() & ZERO
    assert VIEWS <= ZERO


def test_no_operator_is_written_twice_in_a_list() -> None:
    lists = 0
    families = sorted(Path(inspect.getfile(ops)).parent.glob("*.py"))
    for node in (node for family in families for node in ast.walk(ast.parse(family.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Attribute) and node.attr == "split" and isinstance(node.value, ast.Constant):
            words = str(node.value.value).split()
            assert len(words) == len(set(words)), sorted(w for w in words if words.count(w) > 1)
            lists += 1
    assert lists > 4


def test_a_second_rule_for_an_operator_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"the rule of 'aten\.mm' is registered twice"):
        op("aten.mm")(lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=r"the rule of 'aten\.mm' is registered twice"):
        ops.by_output("aten.mm")(lambda operator: None)


def test_zero_is_stated_for_each_zero_by_definition() -> None:
    """The docstring names the groups; an operator of each of them is in the table, and its work is zero, not None."""
    stated = ast.get_docstring(ast.parse(inspect.getsource(ops))) or ""
    groups = stated.partition("Zero by definition: ")[2].partition(".")[0].replace("\n", " ")
    members = {
        "views": "view", "copies": "clone", "concatenation": "cat", "padding": "pad", "indexing": "index",
        "embedding": "embedding", "dropout": "dropout", "comparison": "gt", "sorting": "sort", "creation": "zeros",
    }  # fmt: skip
    assert all(group in groups for group in members)
    assert {f"aten.{name}" for name in members.values()} <= ZERO | RULES.keys()


def test_the_docstring_lists_what_is_counted() -> None:
    """Each line of Counting semantics belongs to a family of rules that exists, and the other way round."""
    stated = ast.get_docstring(ast.parse(inspect.getsource(ops))) or ""
    for word, name in {
        "convolution": "conv2d", "transposed convolution": "conv_transpose2d", "linear": "linear", "mm": "mm",
        "bmm": "bmm", "matmul": "matmul", "mv": "mv", "dot": "dot", "einsum": "einsum",
        "bilinear": "_trilinear",
        "attention": "scaled_dot_product_attention", "recurrent gates": "lstm", "batch, instance norm": "batch_norm",
        "layer, group, RMS norm": "rms_norm", "activation, arithmetic": "relu", "softmax": "softmax",
        "max pooling": "max_pool2d", "average pooling": "avg_pool2d", "reductions": "sum", "losses": "mse_loss",
        "embedding bag": "_embedding_bag", "scatter, index add": "scatter_add", "interpolation": "upsample_bilinear2d",
        "weight norm": "_weight_norm",
    }.items():  # fmt: skip
        assert word in stated
        assert f"aten.{name}" in RULES.keys() | BY_OUTPUT.keys()
    multiply = {n for n in RULES if _multiplies(n)}
    families = r"conv|linear|mm|mv|dot|matmul|attention|lstm|gru|rnn"
    assert all(re.search(families, name) for name in multiply)


def _multiplies(name: str) -> bool:
    """Whether a rule's source has a product that it returns as macs: whether its second number is not 0."""
    source = inspect.getsource(RULES[name])
    return "macs" in source or "_plus(" in source


# -------------------------------------------------------------------------------------------- whole networks

NETWORKS = (
    *("resnet18", "googlenet", "densenet121", "mobilenet_v3_small", "vit_b_16", "swin_t", "convnext_tiny"),
    *("efficientnet_b0", "regnet_y_400mf", "maxvit_t", "inception_v3", "shufflenet_v2_x0_5", "swin_v2_t"),
)


def network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    keywords: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with weightless():
        model = torchvision.models.get_model(name, weights=None, **keywords)
    side = 299 if name == "inception_v3" else 224
    return model.eval(), (1, 3, side, side)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_rules_run_a_network_as_pytorchs_own_kernels_do(name: str) -> None:
    """The same layers with the same output shapes, and the same counts, as a run on PyTorch's meta kernels."""
    model, shape = network(name)
    by_rule, by_kernel = trace(model, (shape,)), trace(model, (shape,), rules=False)
    assert [(y.path, y.call, [t.shape for t in y.outputs]) for y in by_rule.layers] == [
        (y.path, y.call, [t.shape for t in y.outputs]) for y in by_kernel.layers
    ]
    assert [[t.dtype for t in y.outputs] for y in by_rule.layers] == [
        [t.dtype for t in y.outputs] for y in by_kernel.layers
    ]
    assert unknown_operators(by_rule) == {}
    for operator, done in zip(by_rule.ops, works(by_rule), strict=True):
        if done is not None and done.shapes is not None:
            assert tuple(t.shape for t in operator.outputs) == done.shapes
    with FlopCounterMode(display=False) as counter:
        model.to("meta").requires_grad_(False)(torch.empty(shape, device="meta"))
    assert totals(by_rule)["macs"] == counter.get_total_flops() // 2


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "fcn_resnet50", "deeplabv3_mobilenet_v3_large"])
def test_nothing_is_unknown_in_a_segmentation_network(name: str) -> None:
    with weightless():
        model = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    assert unknown_operators(trace(model, ((1, 3, 64, 64),))) == {}


def test_nothing_is_unknown_in_the_backbone_of_a_detector() -> None:
    with weightless():
        model = torchvision.models.get_model("fasterrcnn_resnet50_fpn", weights=None, weights_backbone=None)
    backbone = model.get_submodule("backbone")
    assert unknown_operators(trace(backbone, ((1, 3, 64, 64),))) == {}


def test_stochastic_depth_is_known_in_training() -> None:
    block = torchvision.ops.StochasticDepth(0.5, "row")
    assert unknown_operators(trace(block, ((2, 3, 4, 4),), train=True)) == {}


def test_a_rule_takes_what_a_record_holds() -> None:
    """Whatever overload ran: every operator of a record can be asked again, without the run."""
    run = trace(nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.MaxPool2d(2), nn.Flatten()), ((1, 3, 8, 8),))
    assert [work(o) for o in run.ops] == works(run)


def test_floats_for_an_embedding_say_what_to_write() -> None:
    with pytest.raises(ShapeError, match="looks up integers, gets float32; write the input as 1x128:int64"):
        trace(nn.Embedding(10, 4), ((1, 12),))
