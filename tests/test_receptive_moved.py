"""Branches that do not lie over each other: what the position that sees most sees, by hand and by the gradient.

In front of each function is a window of 3 with padding 1 over 24 × 24 positions: position i sees i − 1 to i + 1.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from archscope.analysis.observed import fields
from archscope.tracing.tracer import trace

SIDE = 24


class Behind(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.window, self.function = nn.Conv2d(3, 3, 3, padding=1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.window(x))


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


def taps(y: Tensor) -> Tensor:
    wide = functional.pad(y, (1, 1, 1, 1))
    return sum((wide[..., i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)), torch.zeros(()))


def down_and_up(y: Tensor) -> Tensor:
    coarse = functional.conv2d(y, ones(3, 3, 3, 3), stride=2, padding=1)
    return functional.interpolate(coarse, scale_factor=2) + functional.conv2d(y, ones(3, 3, 3, 3), padding=1)


MOVED: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, int]]] = {
    "difference of neighbours": (lambda y: y[..., 1:] - y[..., :-1], (3, 3 + 1)),
    "shift of tokens": (lambda y: functional.pad(y, (3, 0))[..., :-3] + y, (3, 3 + 3)),
    "padding that cuts": (lambda y: functional.pad(y, (2, -2, 0, 0)) * y, (3, 3 + 2)),
    "narrow": (lambda y: y.narrow(2, 4, 20) + y.narrow(2, 0, 20), (3 + 4, 3)),
    "halves": (lambda y: sum(y.chunk(2, -1), torch.zeros(())), (3, 3 + SIDE // 2)),
    "thirds": (lambda y: y.split(8, 2)[0] * y.split(8, 2)[2], (3 + 2 * 8, 3)),
    "nine taps": (taps, (3 + 2, 3 + 2)),
    "a crop beside a window without padding": (
        lambda y: functional.conv2d(y, ones(3, 3, 3, 3)) + y[..., 1:-1, 1:-1], (3 + 2, 3 + 2),
    ),
    "a crop beside a window with padding": (  # −2 to 2 beside 2 + (−1 to 1)
        lambda y: functional.conv2d(y, ones(3, 3, 3, 3), padding=1)[..., :-2] + y[..., 2:], (3 + 2, 3 + 2 + 1),
    ),
    "the first row beside all": (lambda y: y + y[..., :1, :], (3 + SIDE - 1, 3)),
    # coarse position ⌊i/2⌋ sees 2⌊i/2⌋ − 2 to 2⌊i/2⌋ + 2, which is i − 3 to i + 1 of an odd i; beside it i − 2 to i + 2
    "down and up beside a window": (down_and_up, (6, 6)),
    # of three positions i − 1 to i + 1 an even i has the coarse ones i/2 − 1 and i/2, which see i − 4 to i + 2; beside
    # them i − 3 to i + 3
    "and a window behind it": (lambda y: functional.conv2d(down_and_up(y), ones(3, 3, 3, 3), padding=1), (8, 8)),
    "rows as channels": (
        lambda y: functional.conv1d(y.flatten(1, 2), ones(4, 3 * SIDE, 3), padding=1), (3 + SIDE - 1, 3 + 2),
    ),
    "the same places again": (lambda y: torch.cat([y[..., :9], y[..., 9:]], -1) + y, (3, 3)),
}  # fmt: skip


def said(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    record = trace(model, (shape,))
    field = fields(record).get(record.layers[0].outputs[0].id)
    return None if field is None else field.extent


def by_gradient(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The widest that any position of the output sees."""
    for parameter in model.parameters():
        parameter.data.abs_().add_(0.01)
    x = torch.rand(shape, requires_grad=True)
    seen = [0] * (len(shape) - 2)
    for value in model(x)[0].sum(0).flatten():
        (slope,) = torch.autograd.grad(value, x, retain_graph=True)
        for side in range(len(seen)):
            others = [axis for axis in range(len(shape)) if axis != side + 2]
            places = slope.abs().sum(others).nonzero()
            seen[side] = max(seen[side], int(places.max() - places.min()) + 1 if len(places) else 0)
    return tuple(seen)


@pytest.mark.parametrize("name", MOVED)
def test_what_lies_between_is_seen(name: str) -> None:
    function, expected = MOVED[name]
    shape = (1, 3, SIDE, SIDE)
    assert said(Behind(function), shape) == expected
    assert by_gradient(Behind(function), shape) == tuple(min(m, SIDE) for m in expected)


class DepthToChannels(nn.Module):
    """Two planes are left, and their maps are the channels of what follows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv3d(1, 2, 3, (1, 2, 2), (0, 1, 1)), nn.Conv2d(4, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).flatten(1, 2))


def test_planes_that_become_channels_are_seen_together() -> None:
    shape = (1, 1, 4, 20, 20)
    expected = (3 + 1, 3 + 2 * 2, 3 + 2 * 2)
    assert said(DepthToChannels(), shape) == expected
    assert by_gradient(DepthToChannels(), shape) == expected


def shifted_in_place(y: Tensor) -> Tensor:
    y[..., 1:] += y[..., :-1].clone()
    return y


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y + y.mT,
        lambda y: torch.cat([y[..., 4:], y[..., :4]], -1) + y,
        shifted_in_place,
        lambda y: functional.conv1d(y.transpose(1, 2).flatten(1, 2), ones(SIDE, 3, 3), groups=SIDE),
    ],
    ids=["transposed", "out of order", "in place", "groups of rows"],
)
def test_it_is_unknown_where_it_follows_from_no_window(function: Any) -> None:
    assert said(Behind(function), (1, 3, SIDE, SIDE)) is None
