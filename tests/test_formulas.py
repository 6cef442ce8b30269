"""Closed forms by hand: every number here was worked from the configuration on paper, and cites the same sources.

The formulas know nothing of the operators, and the operators nothing of the formulas; the last part plants errors in
copies of both, and `archscope.analysis.verification` must report each of them.
"""

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import archscope
from archscope import operators as ops
from archscope.analysis import verification as verify
from archscope.core.errors import ShapeError
from archscope.core.expression import Expr
from archscope.layers import LAYERS, Derived, Layer, derive, layer, window
from archscope.operators import RULES, Work
from archscope.tracing import run
from archscope.tracing.modules import describe
from archscope.tracing.tracer import trace
from archscope.zoo import catalogue as registry


def by_hand(module: nn.Module, *shapes: tuple[int, ...]) -> Derived:
    kind, config = describe(module)
    derived = derive(kind, config, shapes)
    assert derived is not None
    return derived


# ----------------------------------------------------------------------------------------------------- AlexNet

ALEXNET = (
    # path, input, output, neurons, parameters, MACs: outputs · k · k · c_in/g
    ("conv1", (3, 227, 227), (96, 55, 55), 290_400, 11 * 11 * 3 * 96 + 96, 55 * 55 * 96 * 11 * 11 * 3),
    ("pool1", (96, 55, 55), (96, 27, 27), 0, 0, 0),
    ("conv2", (96, 27, 27), (256, 27, 27), 186_624, 5 * 5 * 48 * 256 + 256, 27 * 27 * 256 * 5 * 5 * 48),
    ("pool2", (256, 27, 27), (256, 13, 13), 0, 0, 0),
    ("conv3", (256, 13, 13), (384, 13, 13), 64_896, 3 * 3 * 256 * 384 + 384, 13 * 13 * 384 * 3 * 3 * 256),
    ("conv4", (384, 13, 13), (384, 13, 13), 64_896, 3 * 3 * 192 * 384 + 384, 13 * 13 * 384 * 3 * 3 * 192),
    ("conv5", (384, 13, 13), (256, 13, 13), 43_264, 3 * 3 * 192 * 256 + 256, 13 * 13 * 256 * 3 * 3 * 192),
    ("pool5", (256, 13, 13), (256, 6, 6), 0, 0, 0),
    ("fc6", (9216,), (4096,), 4_096, 6 * 6 * 256 * 4096 + 4096, 9216 * 4096),
    ("fc7", (4096,), (4096,), 4_096, 4096 * 4096 + 4096, 4096 * 4096),
    ("fc8", (4096,), (1000,), 1_000, 4096 * 1000 + 1000, 4096 * 1000),
)
ALEXNET_PARAMETERS = {
    "conv1": 34_944, "conv2": 307_456, "conv3": 885_120, "conv4": 663_936, "conv5": 442_624,
    "fc6": 37_752_832, "fc7": 16_781_312, "fc8": 4_097_000,
}  # fmt: skip


@pytest.fixture(scope="module")
def alexnet() -> dict[str, nn.Module]:
    """The weighted layers and the pools of the zoo's AlexNet, in order."""
    model, _ = archscope.load("alexnet")
    kept = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.MaxPool2d, nn.Linear))]
    return dict(zip([row[0] for row in ALEXNET], kept, strict=True))


@pytest.mark.parametrize(("name", "shape", "output", "neurons", "params", "macs"), ALEXNET, ids=[r[0] for r in ALEXNET])
def test_alexnet_layer_by_layer(
    alexnet: Any, name: str, shape: Any, output: Any, neurons: int, params: int, macs: int
) -> None:
    derived = by_hand(alexnet[name], (1, *shape))
    assert derived.shapes == ((1, *output),)
    assert int(derived.params) == params == ALEXNET_PARAMETERS.get(name, 0)
    assert int(derived.macs) == macs
    assert derived.weighted == bool(neurons)
    if neurons:
        assert torch.Size(derived.shapes[0]).numel() == neurons


def test_alexnet_adds_up() -> None:
    assert sum(row[3] for row in ALEXNET) == 659_272
    assert sum(row[4] for row in ALEXNET) == 60_965_224
    assert sum(row[5] for row in ALEXNET) == 724_406_816


def test_the_text_of_alexnets_first_convolution(alexnet: Any) -> None:
    derived = by_hand(alexnet["conv1"], (1, 3, 227, 227))
    assert isinstance(derived.params, Expr)
    assert derived.sides[0].symbols == "⌊(m − p + 2·pad)/s⌋ + 1"
    assert derived.sides[0].digits == "⌊(227 − 11 + 2·0)/4⌋ + 1"
    assert str(derived.sides[0]) == "⌊(227 − 11 + 2·0)/4⌋ + 1 = 55"
    assert derived.params.digits == "11·11·3·96 + 96"
    assert derived.params.symbols == "k_h·k_w·c_in·c_out + c_out"
    assert str(derived.macs) == "55·55·11·11·3·96 = 105,415,200"
    grouped = by_hand(alexnet["conv2"], (1, 96, 27, 27))
    assert str(grouped.params) == "5·5·96/2·256 + 256 = 307,456"
    assert str(by_hand(alexnet["fc6"], (1, 9216)).params) == "9216·4096 + 4096 = 37,752,832"


def test_224_leaves_a_row_and_a_column_unseen() -> None:
    """(224 − 11)/4 is no integer: 54, one row and column of the picture never reached, and fc6 would see 5·5·256."""
    conv = by_hand(nn.Conv2d(3, 96, 11, 4), (1, 3, 224, 224))
    assert conv.shapes == ((1, 96, 54, 54),)
    assert conv.lost == ((213, 4, 1), (213, 4, 1))  # 224 − 11 = 213 = 4·53 + 1
    assert by_hand(nn.Conv2d(3, 96, 11, 4), (1, 3, 227, 227)).lost == ((216, 4, 0),) * 2
    assert by_hand(nn.Conv2d(3, 96, 11, 4, padding=2), (1, 3, 224, 224)).shapes == ((1, 96, 55, 55),)
    side = 54
    for k, s, p in ((3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 1, 1), (3, 1, 1), (3, 1, 1), (3, 2, 0)):
        side = window(side, k, s, p).value
    assert side * side * 256 == 6_400


# ------------------------------------------------------------------------------------------------------ windows


def test_the_boundary_effect() -> None:
    """A 4×4 input, a 3×3 kernel, stride 2: one output, and the last row and column are lost."""
    derived = by_hand(nn.Conv2d(1, 1, 3, 2), (1, 1, 4, 4))
    assert derived.shapes == ((1, 1, 1, 1),)
    assert derived.lost == ((1, 2, 1), (1, 2, 1))


def test_padding_is_lost_before_the_input() -> None:
    # 5 + 2·1 − 2 = 5 = 3·1 + 2: two columns are left over, one of them is padding
    assert by_hand(nn.Conv1d(1, 1, 2, 3, padding=1), (1, 1, 5)).lost == ((5, 3, 1),)


def test_ceil_mode_drops_a_window_that_starts_in_the_padding() -> None:
    """⌈(5 − 2 + 2·1)/4⌉ + 1 = 3 windows at −1, 3 and 7; the input and its left padding end before 7 + 1 = 8."""
    kept, dropped = window(5, 2, 4, 1), window(5, 2, 4, 1, ceil_mode=True)
    assert (kept.value, dropped.value) == (2, 2)
    assert dropped.digits == "⌈(5 − 2 + 2·1)/4⌉ + 1 − 1"
    assert by_hand(nn.MaxPool1d(2, 4, 1, ceil_mode=True), (1, 1, 5)).shapes == ((1, 1, 2),)
    # without padding the last, partial window stays: ⌈(6 − 3)/2⌉ + 1 = 3 against 2
    assert by_hand(nn.MaxPool1d(3, 2, ceil_mode=True), (1, 1, 6)).shapes == ((1, 1, 3),)
    assert by_hand(nn.MaxPool1d(3, 2), (1, 1, 6)).shapes == ((1, 1, 2),)


def test_dilation() -> None:
    derived = by_hand(nn.Conv2d(1, 1, 3, dilation=4), (1, 1, 20, 20))
    assert str(derived.sides[0]) == "⌊(20 − 4·(3 − 1) − 1 + 2·0)/1⌋ + 1 = 12"
    assert derived.shapes == ((1, 1, 12, 12),)


@pytest.mark.parametrize(
    ("module", "shape", "output", "params", "macs"),
    [
        # [D] relationship 6, and groups
        (nn.Conv1d(4, 6, 5, stride=2), (2, 4, 11), (2, 6, 4), 5 * 4 * 6 + 6, 2 * 4 * 5 * 4 * 6),
        (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 8, 8), (2, 8, 8, 8), 3 * 3 * 3 * 8 + 8, 27_648),
        (nn.Conv2d(3, 8, 4, padding="same", bias=False), (2, 3, 8, 8), (2, 8, 8, 8), 4 * 4 * 3 * 8, 49_152),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), (2, 8, 8, 8), (2, 8, 8, 8), 3 * 3 * 8, 9_216),
        (nn.Conv3d(2, 3, (1, 2, 3)), (1, 2, 4, 4, 4), (1, 3, 4, 3, 2), 6 * 2 * 3 + 3, 4 * 3 * 2 * 6 * 2 * 3),
        (nn.Conv2d(3, 8, 3), (3, 8, 8), (8, 6, 6), 3 * 3 * 3 * 8 + 8, 6 * 6 * 3 * 3 * 3 * 8),
        # [D] relationship 14: (5 − 1)·2 + 3 = 11; every input is spread over 3·3·6 outputs
        (nn.ConvTranspose2d(4, 6, 3, 2, bias=False), (2, 4, 5, 5), (2, 6, 11, 11), 3 * 3 * 4 * 6, 10_800),
        (nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, groups=4, bias=False), (2, 4, 8, 8), (2, 4, 16, 16), 3 * 3 * 4, 4_608),
        # pooling, [D] relationship 7
        (nn.MaxPool2d(3, 2), (1, 96, 55, 55), (1, 96, 27, 27), 0, 0),
        (nn.AvgPool2d(2), (1, 6, 28, 28), (1, 6, 14, 14), 0, 0),
        (nn.AdaptiveAvgPool2d((2, 3)), (1, 6, 28, 28), (1, 6, 2, 3), 0, 0),
        # linear
        (nn.Linear(10, 20), (2, 10), (2, 20), 10 * 20 + 20, 2 * 10 * 20),
        (nn.Linear(10, 20), (2, 5, 10), (2, 5, 20), 10 * 20 + 20, 2_000),
        (nn.Linear(10, 20, bias=False), (10,), (20,), 10 * 20, 10 * 20),
        (nn.Embedding(100, 16), (2, 5), (2, 5, 16), 100 * 16, 0),
        # normalising: γ and β, per channel or per element
        (nn.BatchNorm2d(8), (2, 8, 4, 4), (2, 8, 4, 4), 2 * 8, 0),
        (nn.InstanceNorm2d(8), (2, 8, 4, 4), (2, 8, 4, 4), 0, 0),
        (nn.LayerNorm([4, 4]), (2, 8, 4, 4), (2, 8, 4, 4), 2 * 4 * 4, 0),
        (nn.LayerNorm(4, bias=False), (2, 4), (2, 4), 4, 0),
        (nn.RMSNorm(16), (2, 16), (2, 16), 16, 0),
        (nn.GroupNorm(2, 8), (2, 8, 4, 4), (2, 8, 4, 4), 2 * 8, 0),
        (nn.PReLU(8), (2, 8, 4), (2, 8, 4), 8, 0),
        (nn.GLU(1), (2, 8, 4), (2, 4, 4), 0, 0),
        # one step: gates · h · (in + h) weights, and two biases a gate
        (nn.RNNCell(4, 4), (1, 4), (1, 4), 40, 4 * (4 + 4)),
        (nn.RNN(4, 4), (5, 1, 4), (5, 1, 4), 40, 5 * 32),
        (nn.RNN(4, 4, 2), (5, 1, 4), (5, 1, 4), 80, 5 * 64),
        (nn.LSTM(4, 4), (5, 1, 4), (5, 1, 4), 4 * 40, 5 * 4 * 32),
        (nn.GRU(4, 4), (5, 1, 4), (5, 1, 4), 3 * 40, 5 * 3 * 32),
        (nn.LSTM(10, 20, 2, bidirectional=True), (5, 2, 10), (5, 2, 40),
            2 * 4 * 20 * (10 + 20) + 2 * 4 * 20 * (40 + 20) + 4 * 2 * 4 * 20, 144_000),
        (nn.LSTM(10, 20, proj_size=5), (5, 2, 10), (5, 2, 5), 4 * 20 * (10 + 5) + 20 * 5 + 2 * 4 * 20,
            5 * 2 * (4 * 20 * (10 + 5) + 20 * 5)),
        (nn.GRU(10, 20, batch_first=True), (2, 5, 10), (2, 5, 20), 3 * 20 * (10 + 20) + 2 * 3 * 20, 18_000),
        # [V] section 3.2.2: four projections of e·e + e
        (nn.MultiheadAttention(16, 4), (5, 2, 16), (5, 2, 16), 4 * 16 * 16 + 4 * 16, 11_840),
        # shape only
        (nn.Flatten(), (2, 256, 6, 6), (2, 9216), 0, 0),
        (nn.Unflatten(1, (256, -1)), (2, 9216), (2, 256, 36), 0, 0),
        (nn.PixelShuffle(2), (1, 12, 3, 5), (1, 3, 6, 10), 0, 0),
        (nn.PixelUnshuffle(2), (1, 3, 6, 10), (1, 12, 3, 5), 0, 0),
        (nn.ReflectionPad2d((1, 2, 3, 0)), (1, 3, 6, 10), (1, 3, 9, 13), 0, 0),
        (nn.ZeroPad1d(-1), (1, 3, 6), (1, 3, 4), 0, 0),
        (nn.Upsample(scale_factor=2), (1, 3, 6, 10), (1, 3, 12, 20), 0, 0),
        (nn.Upsample(size=(5, 7)), (1, 3, 6, 10), (1, 3, 5, 7), 0, 0),
        (nn.Softmax(1), (2, 5), (2, 5), 0, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)  # fmt: skip
def test_a_layer_by_hand(module: nn.Module, shape: Any, output: Any, params: int, macs: int) -> None:
    derived = by_hand(module, shape)
    assert derived.shapes[0] == output
    assert int(derived.params) == params == sum(p.numel() for p in module.parameters())
    assert int(derived.macs) == macs


# ------------------------------------------------------------------------------------- products, attention, joins


@pytest.mark.parametrize(
    ("left", "right", "output", "macs"),
    [
        ((3, 4), (4, 5), (3, 5), 3 * 4 * 5),
        ((2, 3, 4), (2, 4, 5), (2, 3, 5), 2 * 3 * 4 * 5),
        ((7, 1, 3, 4), (2, 4, 5), (7, 2, 3, 5), 7 * 2 * 3 * 4 * 5),
        ((4,), (4, 5), (5,), 4 * 5),
        ((2, 3, 4), (4,), (2, 3), 2 * 3 * 4),
        ((4,), (4,), (), 4),
    ],
)
def test_a_product_of_two_tensors(left: Any, right: Any, output: Any, macs: int) -> None:
    derived = derive("matmul", {}, (left, right))
    assert derived is not None and derived.shapes == (output,) and int(derived.macs) == macs
    assert torch.matmul(torch.zeros(left), torch.zeros(right)).shape == output


@pytest.mark.parametrize("shapes", [((3, 4), (5, 6)), ((2, 3, 4), (3, 4, 5))])
def test_products_that_do_not_fit(shapes: Any) -> None:
    with pytest.raises(ShapeError):
        derive("matmul", {}, shapes)


def test_scores_and_sums_of_attention() -> None:
    """[V] equation 1 on 2 examples of 4 heads: 5 queries, 7 keys of 8 features, values of 6."""
    derived = derive("scaled_dot_product_attention", {}, ((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 6)))
    assert derived is not None and derived.shapes == ((2, 4, 5, 6),)
    assert int(derived.macs) == 2 * 4 * 5 * 7 * (8 + 6)


def test_tensors_side_by_side() -> None:
    derived = derive("cat", {"dim": 1}, ((1, 64, 28, 28), (1, 128, 28, 28), (1, 32, 28, 28), (1, 32, 28, 28)))
    assert derived is not None and derived.shapes == ((1, 256, 28, 28),)
    assert str(derived.sides[0]) == "64 + 128 + 32 + 32 = 256"
    with pytest.raises(ShapeError, match="joins along axis 1"):
        derive("cat", {"dim": 1}, ((1, 64, 28, 28), (1, 128, 14, 14)))


@pytest.mark.parametrize("side", [56, 60])
def test_attention_in_windows(side: int) -> None:
    """[L] equation 2 with M = 7, e = 96, 3 heads; 60 is filled up to 63: nine windows a side."""
    config = {"window_size": (7, 7), "num_heads": 3}
    first, second = (derive(f"ShiftedWindowAttention{v}", config, ((1, side, side, 96),)) for v in ("", "V2"))
    assert first is not None and second is not None and first.shapes == ((1, side, side, 96),)
    tokens = (56 if side == 56 else 63) ** 2
    work = tokens * 4 * 96 * 96 + 2 * tokens * 49 * 96
    assert int(first.macs) == work
    assert int(first.params) == 4 * 96 * 96 + 4 * 96 + 13 * 13 * 3
    # [S]: a scale a head, and a network 2 → 512 → 3 that gives the bias of each of 13·13 offsets
    assert int(second.macs) == work + 13 * 13 * (2 * 512 + 512 * 3)
    assert int(second.params) == 4 * 96 * 96 + 4 * 96 + 3 + (2 * 512 + 512) + 512 * 3


def test_classes_that_only_bear_the_name_are_not_derived() -> None:
    assert derive("ShiftedWindowAttention", {}, ((1, 56, 56, 96),)) is None
    assert derive("ShiftedWindowAttentionV2", {}, ((1, 56, 56, 96),)) is None
    assert derive("LayerNorm2d", {}, ((1, 96, 56, 56),)) is None


class RMSNorm(nn.Module):
    """A user's own, without the arguments of PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def test_a_users_class_with_a_name_of_pytorchs_does_not_disagree() -> None:
    assert verify.disagreements(trace(nn.Sequential(RMSNorm(), nn.Linear(8, 8)), ((2, 8),))) == []


def test_layer_norm_over_channels() -> None:
    config = {"normalized_shape": (96,), "elementwise_affine": True}
    derived = derive("LayerNorm2d", config, ((1, 96, 56, 56),))
    assert derived is not None and int(derived.params) == 2 * 96
    with pytest.raises(ShapeError):
        derive("LayerNorm2d", config, ((1, 56, 56, 96),))


def test_a_parameter_of_its_own() -> None:
    derived = derive("parameter", {}, ((1, 197, 768),))
    assert derived is not None and str(derived.params) == "1·197·768 = 151,296"
    number = derive("parameter", {}, ((),))
    assert number is not None and int(number.params) == 1


def test_the_text_of_a_recurrent_layer() -> None:
    derived = by_hand(nn.LSTM(10, 20), (5, 2, 10))
    assert isinstance(derived.params, Expr) and isinstance(derived.macs, Expr)
    assert derived.params.symbols == "gates·h·(in + h) + 2·gates·h"
    assert str(derived.params) == "4·20·(10 + 20) + 2·4·20 = 2,560"
    assert str(derived.macs) == "5·2·4·20·(10 + 20) = 24,000"
    assert derived.shapes == ((5, 2, 20), (1, 2, 20), (1, 2, 20))


def test_the_text_of_a_transposed_convolution() -> None:
    derived = by_hand(nn.ConvTranspose2d(4, 4, 3, 2, 1, 1), (2, 4, 8, 8))
    assert str(derived.sides[0]) == "(8 − 1)·2 + 3 − 2·1 + 1 = 16"
    assert derived.sides[0].symbols == "(m − 1)·s + p − 2·pad + extra"


def test_the_depthwise_separable_ratio() -> None:
    """[H] section 3.1: a depthwise and a pointwise convolution cost 1/c_out + 1/k² of the standard one."""
    c_in, c_out, shape = 32, 64, (1, 32, 112, 112)
    standard = by_hand(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), shape)
    depthwise = by_hand(nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=False), shape)
    pointwise = by_hand(nn.Conv2d(c_in, c_out, 1, bias=False), shape)
    apart = int(depthwise.macs) + int(pointwise.macs)
    # apart / standard = 1/c_out + 1/9, as integers
    assert apart * 9 * c_out == int(standard.macs) * (9 + c_out)


def test_a_fully_connected_layer_is_a_convolution() -> None:
    dense = by_hand(nn.Linear(256 * 6 * 6, 4096), (1, 9216))
    conv = by_hand(nn.Conv2d(256, 4096, 6), (1, 256, 6, 6))
    assert conv.shapes == ((1, 4096, 1, 1),)
    assert int(dense.params) == int(conv.params) == 37_752_832
    assert int(dense.macs) == int(conv.macs)
    assert str(conv.sides[0]) == "⌊(6 − 6 + 2·0)/1⌋ + 1 = 1"


@pytest.mark.parametrize(
    ("module", "shape", "sentence"),
    [
        (nn.Conv2d(3, 8, 3), (1, 4, 8, 8), "takes 3 channels, gets 4"),
        (nn.Conv2d(3, 8, 9), (1, 3, 8, 8), "does not fit"),
        (nn.Conv2d(3, 8, 3), (8, 8), "takes"),
        (nn.Linear(320, 50), (1, 1440), "takes 320 features, gets 1440"),
        (nn.MaxPool2d(2), (1, 3, 1, 1), "does not fit"),
        (nn.BatchNorm2d(8), (1, 4, 2, 2), "takes 8 channels, gets 4"),
        (nn.LSTM(10, 20), (5, 2, 11), "takes 10 features, gets 11"),
        (nn.LSTM(10, 20), (0, 2, 10), "at least one step"),
        (nn.PixelShuffle(2), (1, 5, 3, 3), "cannot be spread"),
        (nn.ReflectionPad2d(3), (1, 3, 3, 3), "padding up to 2"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_a_layer_refuses(module: nn.Module, shape: Any, sentence: str) -> None:
    with pytest.raises(ShapeError, match=sentence):
        by_hand(module, shape)


def test_what_is_not_known_is_not_derived() -> None:
    assert derive("MyBlock", {}, ((1, 3),)) is None
    assert derive("Linear", {"in_features": 3, "out_features": 4, "bias": True}, ()) is None


def test_every_formula_has_a_source() -> None:
    assert all(len(entry.source) > 10 for entry in LAYERS.values())
    with pytest.raises(ValueError, match="the closed form of 'Conv2d' is registered twice"):
        layer("Conv2d", source="")(lambda config, shapes: Derived(()))
    assert LAYERS["Conv2d"].source  # and nothing has changed


# ------------------------------------------------------------------------------------------------ independence


def test_layers_and_operators_never_meet() -> None:
    """Neither room's files name the other's, by import or by text, and both stand on the ground floor alone."""
    home = Path(ops.__file__).parents[1]
    grounds = tuple(f"archscope.core.{name}" for name in ("errors", "expression", "record", "registry"))
    for own, other in (("operators", "layers"), ("layers", "operators")):
        for path in (home / own).glob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
            found |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
            inside = {name for name in found if name.startswith("archscope.")}
            assert all(name in grounds or name.startswith(f"archscope.{own}") for name in inside), (path, inside)
            texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            assert not any(f"archscope.{other}" in text for text in texts), path


# ---------------------------------------------------------------------------------------------- planted errors


class Net(nn.Module):
    """A small network in which each of the planted errors shows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, (3, 5), stride=(1, 2), padding=1, groups=2)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, groups=2)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.up(self.pool(self.conv(x))).mean((2, 3)))


def told() -> list[str]:
    """What verify says of a new run of the network. Nothing is remembered from before."""
    verify.forget()
    try:
        return verify.disagreements(trace(Net(), ((1, 4, 11, 15),)))
    finally:
        verify.forget()


def test_the_network_without_a_planted_error_is_verified() -> None:
    assert told() == []


def changed(kind: str, **config: Any) -> Layer:
    """The entry of a kind whose form gets another configuration than the layer has."""
    original = LAYERS[kind]
    return original._replace(form=lambda given, shapes: original.form({**given, **config}, shapes))


FORMULA_ERRORS: list[tuple[str, str, Any]] = [
    ("kernel off by one", "Conv2d", {"kernel_size": (4, 5)}),
    ("bias forgotten", "Conv2d", {"bias": False}),
    ("groups ignored", "Conv2d", {"groups": 1}),
    ("stride on the wrong axis", "Conv2d", {"stride": (2, 1)}),
    ("padding forgotten", "Conv2d", {"padding": (0, 0)}),
    ("floor for ceiling", "MaxPool2d", {"ceil_mode": False}),
    ("stride of the pool", "MaxPool2d", {"stride": 1}),
    ("groups ignored", "ConvTranspose2d", {"groups": 1}),
    ("bias forgotten", "Linear", {"bias": False}),
    ("one output too many", "Linear", {"out_features": 4}),
]


@pytest.mark.parametrize(("error", "kind", "config"), FORMULA_ERRORS, ids=[f"{e} ({k})" for e, k, _ in FORMULA_ERRORS])
def test_an_error_in_a_formula_is_reported(
    monkeypatch: pytest.MonkeyPatch, error: str, kind: str, config: dict[str, Any]
) -> None:
    monkeypatch.setitem(LAYERS, kind, changed(kind, **config))
    assert told(), f"{error} goes unnoticed"


def told_other(name: str, **arguments: Any) -> Callable[..., Work]:
    """The rule of an operator, told other arguments than the call had."""
    original = RULES[name]
    return lambda **given: original(**{**given, **arguments})


def conv_by_channels(input: Any, weight: Any, bias: Any = None, groups: int = 1, **more: Any) -> Work:
    """Groups ignored: as if every output saw every input channel."""
    done = ORIGINAL["aten.conv2d"](input, weight, bias, groups=groups, **more)
    return done._replace(macs=done.macs * groups)


def kernel_off_by_one(input: Any, weight: Any, bias: Any = None, **more: Any) -> Work:
    *c, k_h, k_w = weight.shape
    return ORIGINAL["aten.conv2d"](input, weight._replace(shape=(*c, k_h + 1, k_w)), bias, **more)


def transposed_by_outputs(**given: Any) -> Work:
    """The mistake that half of the tools make: by output size."""
    done = ORIGINAL["aten.conv_transpose2d"](**given)
    assert done.shapes is not None
    outputs = done.shapes[0][-2] * done.shapes[0][-1]
    return done._replace(macs=done.macs // (given["input"].shape[-2] * given["input"].shape[-1]) * outputs)


def bias_in_macs(**given: Any) -> Work:
    done = ORIGINAL["aten.linear"](**given)
    assert done.shapes is not None
    return done._replace(macs=done.macs + done.shapes[0][-1])


ORIGINAL = dict(RULES)
RULE_ERRORS: list[tuple[str, str, Callable[..., Work]]] = [
    ("kernel off by one", "aten.conv2d", kernel_off_by_one),
    ("groups ignored", "aten.conv2d", conv_by_channels),
    ("stride on the wrong axis", "aten.conv2d", told_other("aten.conv2d", stride=(2, 1))),
    ("padding forgotten", "aten.conv2d", told_other("aten.conv2d", padding=(0, 0))),
    ("floor for ceiling", "aten.max_pool2d", told_other("aten.max_pool2d", ceil_mode=False)),
    ("by output size", "aten.conv_transpose2d", transposed_by_outputs),
    ("bias counted as a product", "aten.linear", bias_in_macs),
]


@pytest.mark.parametrize(("error", "name", "rule"), RULE_ERRORS, ids=[f"{e} ({n})" for e, n, _ in RULE_ERRORS])
def test_an_error_in_a_rule_is_reported(
    monkeypatch: pytest.MonkeyPatch, error: str, name: str, rule: Callable[..., Work]
) -> None:
    monkeypatch.setitem(RULES, name, rule)
    monkeypatch.setattr(run, "OVERLOADS", {})  # the rules that the tracer has looked up already
    assert told(), f"{error} goes unnoticed"


def test_a_bias_that_the_record_loses_is_reported() -> None:
    run = trace(Net(), ((1, 4, 11, 15),))
    without = replace(run, params=tuple(p for p in run.params if p.name != "conv.bias"))
    weights = 3 * 5 * 4 // 2 * 8
    assert verify.disagreements(without) == [f"conv: {weights + 8} parameters by formula, {weights} observed"]


def test_a_wrong_registration_is_reported() -> None:
    model, inputs = archscope.load("lenet")
    run = archscope.trace(model, inputs)
    entry = registry.entries()["lenet"]
    assert verify.disagreements(run, entry) == []
    assert verify.disagreements(run, replace(entry, params=entry.params + 1)) != []
    assert verify.disagreements(run, replace(entry, macs=entry.macs - 1)) != []
