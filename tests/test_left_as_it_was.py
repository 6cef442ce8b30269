"""What a trace finds and leaves: the user's own `train()`, caches of functions and files, layers that give back."""

import functools
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import archscope
from archscope.analysis.metrics import totals
from archscope.analysis.training import memory_curve
from archscope.peers.checks import of_module
from archscope.peers.cpu_step import real_step
from archscope.shapes.resize import ResizableModel
from archscope.shapes.symbolic import in_letters
from archscope.shapes.symbolic_int import Unsupported


class FrozenNorm(nn.Module):
    """The first norm stays in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.frozen, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def train(self, mode: bool = True) -> "FrozenNorm":
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.frozen(self.conv(x)))


def test_a_model_trains_as_its_own_train_says() -> None:
    outputs = 2 * 4 * 6 * 6
    products = 2 * outputs * 3 * 3 * 3
    given = torch.rand(2, 3, 8, 8)
    model = FrozenNorm()
    # 2 an element by statistics that are there, 4 more where they are taken, and 1 to count the batches
    assert totals(archscope.trace(model, (given,), train=True))["flops"] == products + 2 * outputs + 6 * outputs + 1
    assert totals(archscope.trace(model, (given,)))["flops"] == products + 2 * outputs + 2 * outputs
    assert [module.training for module in model.modules()] == [True] * 4  # it was never told to train
    record = archscope.trace_step(model, (given,), device="cpu")
    assert max(memory_curve(record)) == real_step(FrozenNorm(), (given,)).peak


class Merges(nn.Linear):
    """Changes its weight when it is told to train, as adapters do."""

    def train(self, mode: bool = True) -> "Merges":
        self.weight.data.add_(1.0)
        return super().train(mode)


def test_what_a_train_writes_is_not_written() -> None:
    model = Merges(4, 4)
    before = model.weight.detach().clone()
    archscope.trace(model, ((2, 4),), train=True)
    assert torch.equal(model.weight, before)


TABLES: dict[int, Tensor] = {}


@functools.lru_cache
def triangle(n: int) -> Tensor:
    return torch.ones(n, n).tril()


class Remembers(nn.Module):
    seen: ClassVar[dict[int, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        if n not in TABLES:
            TABLES[n] = torch.ones(n, n)
        self.seen[n] = x
        return (triangle(n) + TABLES[n]) @ self.layer(x)


@pytest.mark.parametrize("n", [5, 300])  # of 300 × 300 numbers no constant keeps its values
def test_caches_hold_nothing_of_a_trace(n: int) -> None:
    model = Remembers()
    for _ in range(2):
        record = archscope.trace(model, ((n, 4),))
        assert totals(record)["macs"] == n * 4 * 4 + n * n * 4
    assert of_module(model, (torch.rand(n, 4),))[1].wrong == []
    assert (TABLES, Remembers.seen, triangle.cache_info().currsize) == ({}, {}, 0)
    model(torch.rand(n, 4)).sum().backward()  # it can still be trained
    assert triangle.cache_info().currsize == 1
    archscope.trace(model, ((n, 4),))
    assert triangle.cache_info().currsize == 1  # what the user's own run has left stays
    triangle.cache_clear()
    TABLES.clear()
    Remembers.seen.clear()


@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5), nn.FeatureAlphaDropout(0.5)]
)
def test_dropout_in_evaluation_gives_its_input_back(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), layer)
    record = archscope.trace(model, ((2, 3, 8, 8),))
    assert totals(record)["activations"] == 4 * (2 * 4 * 8 * 8)  # of the convolution alone


class CutTable(nn.Module):
    """Adds as much of a table of 16 × 16 as the map has places."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(1, 1, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.interpolate(x, scale_factor=2)
        return y + self.get_buffer("table")[:, :, : y.shape[2], : y.shape[3]]


def test_a_table_that_is_cut_has_no_expressions() -> None:
    with pytest.raises(Unsupported, match="decides by the size itself"):
        in_letters(ResizableModel(CutTable(), [torch.rand(2, 3, 8, 8)], name="net"))
