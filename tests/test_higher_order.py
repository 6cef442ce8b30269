"""Operators on functions are followed: a branch by its predicate, a loop as often as it runs, attention by products."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan, while_loop
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import archscope
from archscope.analysis.metrics import totals
from archscope.analysis.training import work_by_phase
from archscope.core.record import Trace

LAYER = 3 * 4 * 4  # MACs of 3 examples


def record_of(model: nn.Module, *shape: int, values: str = "never") -> Trace:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # flex_attention advises to compile it
        return archscope.trace(model, (shape,), values=values)


class Branches(nn.Module):
    def __init__(self, known: bool) -> None:
        super().__init__()
        self.one, self.two, self.known = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4)), known

    def forward(self, x: Tensor) -> Tensor:
        predicate = torch.tensor(True) if self.known else x.square().sum() < 0
        return torch.cond(predicate, self.one, self.two, (x,))


def test_a_branch_whose_predicate_is_known() -> None:
    record = record_of(Branches(known=True), 3, 4)
    assert totals(record)["macs"] == LAYER
    assert [layer.path for layer in record.layers] == ["", "one"]


def test_a_branch_that_values_decide() -> None:
    with pytest.raises(archscope.TraceError, match="depends on the value of a tensor"):
        record_of(Branches(known=False), 3, 4)
    record = record_of(Branches(known=False), 3, 4, values="auto")
    assert totals(record)["macs"] == 2 * 3 * 4 * 8
    assert [layer.path for layer in record.layers] == ["", "two", "two.0", "two.1"]
    assert any("aten.is_nonzero" in note for note in record.notes)


def test_a_branch_in_a_step() -> None:
    record = archscope.trace_step(Branches(known=True), ((3, 4),))
    assert work_by_phase(record)["forward"][0] == LAYER
    assert work_by_phase(record)["backward"][0] == LAYER  # the weight's gradient alone


class Loops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return while_loop(lambda i, y: i < 5, lambda i, y: (i + 1, self.layer(y)), (torch.tensor(0), x))[1]


def test_a_loop_runs_as_often_as_its_condition_holds() -> None:
    record = record_of(Loops(), 3, 4)
    assert totals(record)["macs"] == 5 * LAYER
    assert [layer.path for layer in record.layers] == ["", *["layer"] * 5]


class Scans(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return scan(lambda state, one: (self.layer(state + one), state * one), torch.zeros(3, 4), x)


def test_a_scan_runs_over_the_first_axis() -> None:
    record = record_of(Scans(), 6, 3, 4)
    assert totals(record)["macs"] == 6 * LAYER
    assert [t.shape for t in record.layers[0].outputs] == [(3, 4), (6, 3, 4)]


class Flexible(nn.Module):
    """Four heads of queries for two of keys, with a bias that is learned and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.slope = nn.Linear(8, 8), nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        k = self.keys(x[:, :2])
        mask = create_block_mask(lambda b, h, q, k: q >= k, None, None, 16, 16, device="cpu")
        bias = self.slope
        return flex_attention(
            x, k, k, score_mod=lambda score, b, h, q, k: score + bias[h] * (q - k), block_mask=mask, enable_gqa=True
        )  # pyright: ignore[reportReturnType]


def test_flexible_attention_is_attention() -> None:
    record = record_of(Flexible(), 2, 4, 16, 8)
    keys = 2 * 2 * 16 * 8 * 8
    attention = 2 * 4 * 16 * 16 * (8 + 8)  # a mask is not discounted
    assert totals(record)["macs"] == keys + attention
    assert record.layers[0].outputs[0].shape == (2, 4, 16, 8)
    assert not totals(record)["unknown"]


def test_the_compiler_is_there_again() -> None:
    before = torch.compile
    record_of(Branches(known=True), 3, 4)
    assert torch.compile is before
