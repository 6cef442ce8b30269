"""Receptive fields: chains worked by hand, and the published figures of well-known networks.

A window of p moves s at a time: size + (p − 1)·jump, jump·s. The published figures: A. Araujo, W. Norris, J. Sim,
Computing receptive fields of convolutional neural networks, Distill (2019), table of section "Applications".
"""

from typing import Any

import pytest
import torch
from torch import nn

import archscope
from archscope.analysis.metrics import METRICS, totals
from archscope.analysis.row import rows
from archscope.tracing.tracer import trace


class Call(nn.Module):
    def __init__(self, function: Any, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


def fields_of(model: nn.Module, shape: tuple[int, ...]) -> list[Any]:
    """The receptive field of each row."""
    run = trace(model, (shape,))
    return METRICS["receptive_field"].of(run, rows(run))


def strides_of(model: nn.Module, shape: tuple[int, ...]) -> list[Any]:
    run = trace(model, (shape,))
    return METRICS["effective_stride"].of(run, rows(run))


# ------------------------------------------------------------------------------------------------------ published


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("alexnet", 195),
        ("vgg16", 212),
        ("resnet50", 483),
        ("resnet101", 1027),
        ("resnet152", 1507),
        ("mobilenet-v1", 315),
    ],
)
def test_the_published_figure(name: str, field: int) -> None:
    model, inputs = archscope.load(name)
    assert archscope.totals(archscope.trace(model, inputs))["receptive_field"] == field


# -------------------------------------------------------------------------------------------------------- by hand


def test_a_chain_of_convolutions_and_pools() -> None:
    chain = nn.Sequential(
        nn.Conv2d(3, 4, 5),  # 1 + (5 − 1)·1 = 5,  jump 1
        nn.ReLU(),  # the same
        nn.MaxPool2d(2),  # 5 + (2 − 1)·1 = 6,  jump 2
        nn.Conv2d(4, 4, 3, stride=2, padding=1),  # 6 + (3 − 1)·2 = 10, jump 4
        nn.BatchNorm2d(4),
        nn.AvgPool2d(3, 1),  # 10 + (3 − 1)·4 = 18, jump 4
    )
    assert fields_of(chain, (1, 3, 64, 64)) == [5, 5, 6, 10, 10, 18]
    assert strides_of(chain, (1, 3, 64, 64)) == [1, 1, 2, 4, 4, 4]
    assert totals(trace(chain, ((1, 3, 64, 64),)))["receptive_field"] == 18


def test_dilation_spreads_the_window() -> None:
    chain = nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2), nn.Conv2d(1, 1, 3, dilation=4))
    assert fields_of(chain, (1, 1, 32, 32)) == [2 * 2 + 1, 5 + 4 * 2]


def test_the_sides_are_told_apart() -> None:
    chain = nn.Sequential(nn.Conv2d(1, 1, (3, 5), stride=(1, 2)), nn.Conv2d(1, 1, (1, 3)))
    # down: 3, then 3. across: 5, then 5 + (3 − 1)·2 = 9
    assert fields_of(chain, (1, 1, 32, 32)) == [(3, 5), (3, 9)]
    assert strides_of(chain, (1, 1, 32, 32)) == [(1, 2), (1, 2)]


def test_one_and_three_sides() -> None:
    assert fields_of(nn.Sequential(nn.Conv1d(1, 1, 7, 3), nn.Conv1d(1, 1, 3)), (1, 1, 64)) == [7, 7 + 2 * 3]
    assert fields_of(nn.Conv3d(1, 1, (1, 3, 5)), (1, 1, 8, 8, 8)) == [(1, 3, 5)]


def test_where_branches_meet_the_largest_counts() -> None:
    model = Call(
        lambda m, x: m.after(torch.cat([m.small(x), m.large(x)], 1)),
        small=nn.Conv2d(1, 2, 1),
        large=nn.Conv2d(1, 2, 5, padding=2),
        after=nn.Conv2d(4, 1, 3),
    )
    assert fields_of(model, (1, 1, 16, 16)) == [1, 5, 5, 7]
    shortcut = Call(lambda m, x: m.conv(x) + x, conv=nn.Conv2d(1, 1, 3, padding=1))
    assert fields_of(shortcut, (1, 1, 16, 16)) == [3, 3]


def test_a_transposed_convolution_draws_outputs_closer() -> None:
    """3 wide at stride 2: an output is touched by at most ⌈3/2⌉ = 2 inputs, and two outputs lie on one input."""
    chain = nn.Sequential(
        nn.Conv2d(1, 1, 3, stride=2, padding=1),  # 3, jump 2
        nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1),  # 3 + (2 − 1)·2 = 5, jump 1
        nn.Conv2d(1, 1, 3),  # 5 + 2·1 = 7
    )
    assert fields_of(chain, (1, 1, 16, 16)) == [3, 5, 7]
    assert strides_of(chain, (1, 1, 16, 16)) == [2, 1, 1]


def test_resampling() -> None:
    chain = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3))
    assert fields_of(chain, (1, 4, 16, 16)) == [2, 2, 2 + 2]
    assert strides_of(chain, (1, 4, 16, 16)) == [2, 1, 1]
    bilinear = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear"))
    assert fields_of(bilinear, (1, 4, 16, 16)) == [2, 2 + (2 - 1) * 2]
    shuffled = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.PixelShuffle(2), nn.Conv2d(1, 1, 3))
    assert fields_of(shuffled, (1, 1, 16, 16)) == [3, 3, 3 + 2 * 1]
    assert strides_of(shuffled, (1, 1, 16, 16)) == [2, 1, 1]
    patches = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 1, 3))
    assert fields_of(patches, (1, 1, 16, 16)) == [2, 2 + 2 * 2]


def test_slices_that_begin_apart_see_more() -> None:
    """Focus: 3, then two neighbours side by side: 3 + 1 = 4, jump 2; then 4 + (3 − 1)·2 = 8."""

    def focus(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.first(x)
        parts = [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return m.second(torch.cat(parts, 1))

    model = Call(focus, first=nn.Conv2d(1, 2, 3), second=nn.Conv2d(8, 1, 3))
    assert fields_of(model, (1, 1, 22, 22))[-1] == 8
    assert strides_of(model, (1, 1, 22, 22))[-1] == 2
    one = Call(lambda m, x: m.second(m.first(x)[..., 1::2]), first=nn.Conv1d(1, 1, 3), second=nn.Conv1d(1, 1, 3))
    assert fields_of(one, (1, 1, 22))[-1] == 3 + 2 * 2
    halves = Call(lambda m, x: m.after(x[..., ::2] - x[..., 1::2]), after=nn.Conv1d(1, 1, 3))
    assert fields_of(halves, (1, 1, 20))[-1] == 2 + 2 * 2


def test_channels_on_the_last_axis() -> None:
    """Two windows of 3 one after the other: 3 + 2 = 5, down and across, wherever the input has its channels."""
    image = Call(lambda m, x: m.b(m.a(x.permute(0, 3, 1, 2))), a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(4, 4, (3, 5)))
    assert fields_of(image, (1, 20, 16, 3))[-1] == (5, 7)
    # steps before channels, the second dilated by 2: 3 + 2·2 = 7
    steps = Call(lambda m, x: m.b(m.a(x.mT)).mT, a=nn.Conv1d(8, 8, 3), b=nn.Conv1d(8, 8, 3, dilation=2))
    assert totals(trace(steps, ((1, 20, 8),)))["receptive_field"] == 7
    # a layer for each step sees one step
    each = Call(lambda m, x: m.b(m.a(x).transpose(1, 2)), a=nn.Linear(6, 8), b=nn.Conv1d(8, 8, 3))
    assert fields_of(each, (1, 20, 6))[-2:] == [1, 3]


def test_padding_moves_nothing() -> None:
    chain = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(1, 1, 3), nn.ZeroPad2d(2), nn.Conv2d(1, 1, 3))
    assert fields_of(chain, (1, 1, 16, 16)) == [1, 3, 3, 5]


def test_a_fully_connected_layer_is_the_convolution_that_sees_all() -> None:
    """fc on a flattened 6×6 map of jump 2 and field 4: 4 + (6 − 1)·2 = 14, as the conv of 6×6."""
    before = [nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)]  # 14 → 12 → 6; fields 3 and 4, jump 2
    dense = nn.Sequential(*before, nn.Flatten(), nn.Linear(2 * 6 * 6, 10))
    conv = nn.Sequential(*before, nn.Conv2d(2, 10, 6))
    assert fields_of(dense, (1, 1, 14, 14))[-1] == 14
    assert fields_of(conv, (1, 1, 14, 14))[-1] == 14


def test_a_global_pool_sees_all() -> None:
    chain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    assert fields_of(chain, (1, 1, 10, 10)) == [3, 3 + 7, 3 + 7, 3 + 7]
    # the model's own figure is of its last feature map
    assert totals(trace(chain, ((1, 1, 10, 10),)))["receptive_field"] == 3


def test_attention_loses_the_places() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 4, 4)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.conv(x).flatten(2).transpose(1, 2)
            return self.attention(tokens, tokens, tokens)[0]

    run = trace(Attends(), ((1, 1, 16, 16),))
    table = rows(run)
    found = dict(zip([r.path for r in table], METRICS["receptive_field"].of(run, table), strict=True))
    assert found["conv"] == 4
    assert found["attention"] is None
    assert totals(run)["receptive_field"] is None


def test_a_sequence_of_symbols_has_no_field() -> None:
    run = trace(nn.Embedding(10, 4), (torch.zeros(1, 5, dtype=torch.int64),))
    assert totals(run)["receptive_field"] is None


# ------------------------------------------------------------------------------------------ held against the gradient


def seen(model: nn.Module, side: int) -> int:
    """The largest extent of the input, over the positions of the output, on which one position depends."""
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    x = torch.rand(1, 1, side, dtype=torch.float64, requires_grad=True)
    out = model.double()(x)[0].sum(0)
    widest = 0
    for position in range(len(out)):
        (slope,) = torch.autograd.grad(out[position], x, retain_graph=True)
        places = slope[0, 0].nonzero()
        widest = max(widest, int(places.max() - places.min()) + 1 if len(places) else 0)
    return widest


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (nn.Sequential(nn.ConvTranspose1d(1, 1, 3, 3), nn.AvgPool1d(3, 1)), 2),  # two of three phases see one
        (nn.Sequential(nn.Upsample(scale_factor=4), *(nn.Conv1d(1, 1, 3) for _ in range(3))), 3),
        (nn.Sequential(nn.ConvTranspose1d(1, 1, 4, 2), nn.Conv1d(1, 1, 3)), 3),
        (nn.Sequential(nn.ConvTranspose1d(1, 1, 2, 3), nn.AvgPool1d(2, 1)), 1),
        (Call(lambda self, x: self.a(x)[..., ::2], a=nn.Conv1d(1, 1, 3)), 3),
        (Call(lambda self, x: self.b(self.a(x)[..., ::2]), a=nn.Conv1d(1, 1, 3), b=nn.Conv1d(1, 1, 3)), 3 + 2 * 2),
        (Call(lambda self, x: self.a(x).cumsum(-1), a=nn.Conv1d(1, 1, 3)), 24),  # back to the start
    ],
)
def test_phases_and_strides(model: nn.Module, field: int) -> None:
    assert fields_of(model, (1, 1, 24))[-1] == field
    assert seen(model, 24) == field


@pytest.mark.parametrize("seed", range(30))
def test_random_chains(seed: int) -> None:
    """A transposed convolution or an upsampling between convolutions and pools, by the gradient."""
    draw = torch.Generator().manual_seed(seed)

    def one_of(*values: int) -> int:
        return values[int(torch.randint(len(values), (1,), generator=draw))]

    def layer() -> nn.Module:
        k = one_of(1, 2, 3)
        return (nn.Conv1d(1, 1, k, dilation=one_of(1, 2)), nn.AvgPool1d(k, 1))[one_of(0, 1)]

    def wider() -> nn.Module:
        s = one_of(2, 3)
        return (nn.ConvTranspose1d(1, 1, s * one_of(1, 2), s), nn.Upsample(scale_factor=s))[one_of(0, 1)]

    first = nn.Conv1d(1, 1, 3, one_of(1, 2))
    model = nn.Sequential(first, layer(), wider(), layer(), layer())
    assert fields_of(model, (1, 1, 48))[-1] == seen(model, 48)
