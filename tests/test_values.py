"""Runs on real values, where the forward decides by them."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archscope import trace, weightless
from archscope.analysis.metrics import totals
from archscope.core.errors import TraceError


class Routed(nn.Module):
    """One expert for each token: whichever it is, each token costs one."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(4, 3), nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.register_buffer("calls", torch.zeros(1))
        self.log: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.log.append(1)
        self.calls += 1
        chosen, y = self.gate(x).argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = torch.where(chosen == number)[0]
            y[rows] = expert(x[rows])
        return y


@pytest.mark.parametrize("built", [False, True])
def test_a_mixture_of_experts(built: bool) -> None:
    if built:
        model = Routed()
    else:
        with weightless():
            model = Routed()
    before = {name: p.device for name, p in model.named_parameters()}
    with pytest.raises(TraceError, match=r"aten\.nonzero"):
        trace(model, ((10, 4),), values="never")
    for _ in range(2):
        record = trace(model, ((10, 4),))
        assert totals(record)["macs"] == 10 * 4 * 3 + 10 * 4 * 4
        (note,) = record.notes
        assert "aten.where" in note and "test_values.py:" in note and "seed 0" in note
    assert model.calls.item() == 0 and model.log == []
    assert {name: p.device for name, p in model.named_parameters()} == before


class Until(nn.Module):
    """Halves until all is below one: 6 times for 40 < 64 = 2**6."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(2, 2, bias=False)
        self.lin.weight.data = torch.eye(2) / 2

    def forward(self, x: Tensor) -> Tensor:
        while x.abs().max() >= 1:
            x = self.lin(x)
        return x


def test_a_loop_that_ends_on_a_value() -> None:
    record = trace(Until(), (torch.full((3, 2), 40.0),))
    assert totals(record)["macs"] == 6 * 3 * 2 * 2
    assert "inputs as given" in record.notes[0] and "weights" not in record.notes[0]


class Numpy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin(torch.from_numpy(np.flip(x.numpy(), 0).copy()))


def test_leaving_pytorch() -> None:
    assert totals(trace(Numpy(), ((2, 4),)))["macs"] == 2 * 4 * 4


class Table(nn.Module):
    """Integers within the table, as the smallest embedding says."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.lin = nn.Linear(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.lin(self.table(torch.unique(ids)))


def test_drawn_integers_are_in_range() -> None:
    record = trace(Table(), (torch.empty(1, 200, dtype=torch.int64, device="meta"),))
    assert totals(record)["macs"] == 5 * 4 * 2  # 200 draws of 5: all of them


def test_the_limit_of_memory() -> None:
    with pytest.raises(TraceError, match="needs 0.0 GiB and more; it may take 0.0 GiB"):
        trace(Until(), (torch.full((3, 2), 40.0),), memory=50)
    with pytest.raises(TraceError, match="On real values"):
        trace(Until(), (torch.full((3, 2), 40.0),), memory=50)


def test_always_and_never() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1))
    always, auto = trace(model, ((2, 4),), values="always"), trace(model, ((2, 4),))
    assert [op.name for op in always.ops] == [op.name for op in auto.ops]
    assert totals(always)["macs"] == totals(auto)["macs"] == 2 * 4 * 3
    assert always.notes and not auto.notes


class Keeps(nn.Module):
    """Fills what it has: a list in a dict, an object, a module that it swaps, a buffer that is written by `out=`."""

    lin: nn.Linear
    other: nn.Linear
    u: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.notes: dict[str, list[Tensor]] = {"seen": []}
        self.cache = Cache()
        self.register_buffer("u", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        self.notes["seen"].append(x)
        self.cache.kept = x
        self.cache.more[len(self.cache.more)] = x
        torch.mul(self.u, 2, out=self.u)
        assert self.u.sum().item() == 8  # what is written is read
        self.lin.register_forward_hook(lambda *_: None)
        self.add_module("other", nn.Linear(4, 4))
        y = self.lin(x)
        self.lin = self.other
        return y


class Cache:
    def __init__(self) -> None:
        self.kept: Tensor | None = None
        self.more: dict[int, Tensor] = {}


def test_everything_is_as_it_was() -> None:
    model = Keeps()
    first = trace(model, ((2, 4),))
    assert trace(model, ((2, 4),)).ops == first.ops
    assert model.notes == {"seen": []} and model.cache.kept is None and model.cache.more == {}
    assert model.u.tolist() == [1, 1, 1, 1] and list(model._modules) == ["lin"] and not model.lin._forward_hooks
    model(torch.zeros(2, 4))


def test_spectral_norm_in_training_keeps_its_vectors() -> None:
    model = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trace(model, ((2, 4),), train=True)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
