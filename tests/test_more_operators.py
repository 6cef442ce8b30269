"""Operators and weights of people's own models: costs by convention, copies, computed weights."""

import json
from collections.abc import Callable
from math import ceil, log2
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import archscope
from archscope.core.formats import text_of
from archscope.peers.checks import derived


class Function(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: torch.Tensor) -> Any:
        return self.function(*given)


def totals(function: Any, *shapes: tuple[int, ...], train: bool = False) -> dict[str, Any]:
    model = function if isinstance(function, nn.Module) else Function(function)
    return archscope.totals(archscope.trace(model, shapes, train=train))


def zeros(shape: int = 3) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64)


@pytest.mark.parametrize(
    ("function", "shapes", "macs", "flops"),
    [
        (torch.fft.rfft, [(6, 16)], 0, 6 * ceil(5 * 16 * 4 / 2)),  # log2 16 = 4
        (lambda x: torch.fft.fft2(torch.complex(x, x)), [(2, 8, 8)], 0, 2 * 8 * 8 + 2 * 5 * 64 * 6),
        (lambda x: torch.fft.irfft(torch.complex(x, x), n=10), [(3, 6)], 0, 3 * 6 + 3 * ceil(5 * 10 * log2(10) / 2)),
        (torch.cdist, [(5, 3), (7, 3)], 0, 5 * 7 * (3 * 3 + 1)),
        (lambda x: nn.functional.affine_grid(x, [2, 1, 4, 5], align_corners=False), [(2, 2, 3)], 2 * 4 * 5 * 2 * 3,
         2 * 2 * 4 * 5 * 2 * 3),
        (lambda x: x.new_zeros(4, 3).scatter_reduce_(0, zeros(12).view(4, 3), x, "sum"), [(4, 3)], 0, 4 * 3),
        (lambda x: (x * 1).index_copy_(0, zeros(1), x[:1]), [(4, 3)], 0, 4 * 3),
        (lambda x: x.masked_scatter(x > 0, x), [(4, 3)], 0, 0),
        (torch.subtract, [(4, 3), (4, 3)], 0, 4 * 3),
        # rows 0 to 3 take 0 + 1 + 2 + 3 products for each of 5 columns, and one division each
        (lambda a, b: torch.linalg.solve_triangular(a, b, upper=False), [(2, 4, 4), (2, 4, 5)], 2 * 5 * (0 + 1 + 2 + 3),
         2 * 5 * (2 * (0 + 1 + 2 + 3) + 4)),
        (lambda a, b: torch.linalg.solve_triangular(a, b, upper=True, left=False, unitriangular=True),
         [(4, 4), (2, 5, 4)], 2 * 5 * 6, 2 * 5 * 2 * 6),
        (lambda x: x * (torch.promote_types(x.dtype, torch.float64) is torch.float64), [(4, 3)], 0, 4 * 3),
    ],
)  # fmt: skip
def test_costs(function: Any, shapes: list[tuple[int, ...]], macs: int, flops: int) -> None:
    total = totals(function, *shapes)
    assert (total["macs"], total["flops"], total["unknown"]) == (macs, flops, {})


@pytest.mark.parametrize("name", ["svdvals", "qr", "cholesky", "inv", "eigvalsh", "matrix_exp", "det"])
def test_factorisations_are_unknown_by_name(name: str) -> None:
    (only,) = totals(getattr(torch.linalg, name), (4, 4))["unknown"]
    assert only.startswith(("aten.linalg_", "aten._linalg_"))


def test_a_transposed_convolution_may_give_sides_of_0() -> None:
    model = nn.ConvTranspose3d(16, 16, 1, stride=(1, 1, 2), padding=2, output_padding=(0, 0, 1), groups=4)
    record = archscope.trace(model, [(1, 16, 4, 4, 5)])
    # (4 − 1)·1 − 4 + 1 = 0, and (5 − 1)·2 − 4 + 1 + 1 = 6
    assert record.layers[0].outputs[0].shape == (1, 16, 0, 0, 6) == model(torch.rand(1, 16, 4, 4, 5)).shape
    assert not derived(record).wrong
    with pytest.raises(archscope.ShapeError):
        archscope.trace(nn.ConvTranspose2d(1, 1, 1, padding=3), [(1, 1, 4, 4)])  # 4 − 6 < 0


def test_spectral_norm_in_training_counts_its_iteration() -> None:
    def model() -> nn.Module:
        return parametrizations.spectral_norm(nn.Linear(4, 3, bias=False))

    once = 2 * 4 * 3 + 3 * 4 + 3  # 2 examples; σ = u·(W v)
    assert totals(model(), (2, 4))["macs"] == once
    trained = totals(model(), (2, 4), train=True)
    assert trained["macs"] == once + 2 * 3 * 4 and trained["unknown"] == {}


class Bytes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(3, 4, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.get_buffer("weight").to(x.dtype) * self.get_buffer("scale")
        return nn.functional.linear(x, weight)


def pruned() -> nn.Module:
    return prune.random_unstructured(nn.Linear(4, 3, bias=False), "weight", 0.5)


def normed() -> nn.Module:
    return parametrizations.spectral_norm(nn.Linear(4, 3, bias=False))


@pytest.mark.parametrize(("build", "copies"), [(pruned, 0), (normed, 3 + 4), (Bytes, 0)])
def test_a_computed_weight_is_a_weight(build: Callable[[], nn.Module], copies: int) -> None:
    """The product has 2 x 3 outputs, of 4 bytes each; what comes before it are weights, and copies of u and v."""
    total = totals(build(), (2, 4))
    assert total["activations"] == 4 * (2 * 3 + copies)
    assert total["depth"] == 1 and total["neurons"] == 2 * 3


@pytest.mark.parametrize(
    ("function", "shape", "elements"),
    [
        (lambda x: x.t().contiguous(), (4, 3), 12),
        (lambda x: x.expand(5, 3).contiguous(), (1, 3), 15),
        (lambda x: x.contiguous(), (4, 3), 0),
        (lambda x: torch.cat([part.contiguous() for part in x.split(2, 1)], 1), (4, 4), 16 + 16),
    ],
)
def test_copies_take_memory(function: Any, shape: tuple[int, ...], elements: int) -> None:
    assert totals(function, shape)["activations"] == 4 * elements


def test_infinities_are_valid_json() -> None:
    record = archscope.trace(Function(lambda x: x.masked_fill(x > 0, -torch.inf)), [(3, 3)])

    def refused(text: str) -> None:
        raise AssertionError(text)

    json.loads(record.to_json(), parse_constant=refused)
    assert archscope.Trace.from_json(record.to_json()) == record
    json.loads(text_of(archscope.layer_table(record, everything=True), "json"), parse_constant=refused)
