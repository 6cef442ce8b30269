"""What operators cost that compute in place, or were unknown; and forwards that PyTorch refused without values."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import archscope
from archscope.analysis.metrics import totals
from archscope.analysis.training import memory_curve
from archscope.peers.cpu_step import real_step


class Forward(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Tensor) -> Any:
        return self.function(*given)


def costs(function: Callable[..., Any], *shapes: tuple[int, ...], values: str = "never") -> tuple[int, int]:
    """MACs and FLOPs; no operator is unknown."""
    found = totals(archscope.trace(Forward(function), [torch.rand(shape) for shape in shapes], values=values))
    assert not found["unknown"]
    return found["macs"], found["flops"]


def test_products_in_place_cost_what_they_cost_elsewhere() -> None:
    # [3, 5] += [3, 4] · [4, 5]: 3·4·5 products, each an operation with its sum; 1 more an element that is added
    for plain, in_place in (
        (lambda x, a, b: torch.addmm(x, a, b), lambda x, a, b: x.clone().addmm_(a, b)),
        (
            lambda x, a, b: torch.baddbmm(x[None], a[None], b[None]),
            lambda x, a, b: x[None].clone().baddbmm_(a[None], b[None]),
        ),
    ):
        assert costs(plain, (3, 5), (3, 4), (4, 5)) == costs(in_place, (3, 5), (3, 4), (4, 5))
        assert costs(in_place, (3, 5), (3, 4), (4, 5))[0] == 3 * 4 * 5
    assert costs(lambda x, a, b: x.clone().addmv_(a, b), (3,), (3, 4), (4,))[0] == 3 * 4


ONE_EACH: dict[str, Callable[[Tensor], Any]] = {
    "tangent": lambda x: x.clone().tan_(),
    "sums so far": lambda x: x.clone().cumsum_(0),
    "two angles": lambda x: x.clone().atan2_(x),
    "fake quantised": lambda x: torch.fake_quantize_per_channel_affine(
        x, torch.ones(4), torch.zeros(4, dtype=torch.int32), 0, -8, 7
    ),
    "distance": lambda x: torch.dist(x, x),
    "margins": lambda x: functional.soft_margin_loss(x, x),
    "segments": lambda x: torch.segment_reduce(x, "sum", lengths=torch.tensor([1, 3])),
    "by index": lambda x: torch.zeros(4, 6).index_reduce(0, torch.tensor([0, 1, 1, 2]), x, "amax"),
    "entropy": lambda x: torch.special.entr(x),
}


@pytest.mark.filterwarnings("ignore:index_reduce:UserWarning")
@pytest.mark.parametrize("name", ONE_EACH)
def test_one_operation_an_element(name: str) -> None:
    for values in ("never", "always"):
        assert costs(ONE_EACH[name], (4, 6), values=values) == (0, 4 * 6)


NOTHING: dict[str, Callable[[Tensor], Any]] = {
    "comparison in place": lambda x: x.clone().gt_(0.5),
    "not, in place": lambda x: (x > 0.5).logical_not_(),
    "index fill": lambda x: x.index_fill(0, torch.tensor([1]), 0.0),
    "window": lambda x: (x, torch.hamming_window(8), torch.kaiser_window(8)),
    "drawn around": lambda x: torch.normal(x, 1.0),
    "copied views": lambda x: (torch.permute_copy(x, (1, 0)), torch.slice_copy(x, 0, 1)),
}


@pytest.mark.parametrize("name", NOTHING)
def test_no_operation(name: str) -> None:
    for values in ("never", "always"):
        assert costs(NOTHING[name], (4, 6), values=values)[0] == 0


def test_a_fractional_pool_compares_within_its_windows() -> None:
    # 8 × 8 to 4 × 4, windows of 2 × 2: three comparisons each
    assert costs(lambda x: functional.fractional_max_pool2d(x, 2, output_ratio=(0.5, 0.5)), (1, 3, 8, 8)) == (
        0,
        3 * 4 * 4 * 3,
    )


@pytest.mark.parametrize("function", [lambda x: x.quantile(0.9, dim=1), lambda x: x.nanquantile(0.9, dim=1)])
def test_quantiles_of_what_has_no_values(function: Callable[[Tensor], Tensor]) -> None:
    assert costs(function, (4, 12)) == costs(function, (4, 12), values="always")
    record = archscope.trace(Forward(function), ((4, 12),), values="never")
    assert record.layers[0].outputs[0].shape == (4,)


class Interleaves(nn.Module):
    """Writes into the parts of a constant: they share its memory also when its values are no longer known."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y, out = self.layer(x), torch.zeros(4, 16)
        out[:, ::2] = y
        out[:, 1::2] = -y
        return out


def test_a_constant_that_is_written_to_takes_its_memory_once() -> None:
    given = (torch.rand(4, 8),)
    for optimizer in ("sgd", None):
        record = archscope.trace_step(Interleaves(), given, device="cpu", optimizer=optimizer)
        if optimizer:
            assert max(memory_curve(record)) == real_step(Interleaves(), given).peak
        else:
            resident = 4 * (8 * 8 + 8) + 4 * (4 * 8)  # weights and input
            made = 4 * (4 * 8) + 4 * (4 * 16) + 4 * (4 * 8)  # the layer's output, the constant, and the negative
            assert max(memory_curve(record)) == resident + made
