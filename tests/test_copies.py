"""A run on real values takes a copy of the model, and functions in it use the copy; `verify` is silent where hooks and
torch.func do more than a layer."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import hessian, jvp, vmap
from torch.nn.utils import rnn

import archscope
from archscope.analysis.metrics import totals
from archscope.peers.checks import of_module


class ByFunctions(nn.Module):
    """Calls its layer through a function, one in a dict, and a function within a function; decides by a value."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.call: Any = lambda x: self.layer(x)
        inner = self.call
        self.calls: dict[str, Any] = {"twice": lambda x: inner(inner(x))}

    def forward(self, x: Tensor) -> Tensor:
        y = self.call(x) + self.calls["twice"](x)
        return y if y.sum() > 0 else -y


def test_functions_that_hold_the_model_use_its_copy() -> None:
    with archscope.weightless():
        made_without_weights = ByFunctions()
    for model in (ByFunctions(), made_without_weights):
        record = archscope.trace(model, (torch.rand(2, 4),))
        assert [layer.path for layer in record.layers] == ["", "layer", "layer", "layer"]
        assert totals(record)["macs"] == 3 * 2 * 4 * 4
        assert not any("no parameters of the model" in note for note in record.notes)


class Features(nn.Module):
    """Hooks that halve an output and keep what came out, in an attribute and in a list beside the model."""

    def __init__(self, beside: list[Any]) -> None:
        super().__init__()
        self.first, self.second, self.features = nn.Linear(6, 6), nn.Linear(3, 2), beside
        self.first.register_forward_hook(lambda module, given, output: output.chunk(2, -1)[0])
        self.second.register_forward_hook(lambda module, given, output: beside.append(output))

    def forward(self, x: Tensor) -> Tensor:
        self.second(self.first(x))
        return self.features[-1]


@pytest.mark.parametrize("values", ["never", "always"])
def test_hooks_write_to_the_copy(values: str) -> None:
    beside: list[Any] = []
    model = Features(beside)
    record = archscope.trace(model, (torch.rand(4, 6),), values=values)
    assert record.layers[0].outputs[0].shape == (4, 2)
    assert totals(record)["macs"] == 4 * 6 * 6 + 4 * 3 * 2
    assert beside == []
    assert model.features is beside


def test_hooks_that_change_an_output_are_no_disagreement() -> None:
    assert of_module(Features([]), (torch.rand(4, 6),))[1].wrong == []


class Derivatives(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.layers, self.function = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.layers, x)


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script.*:DeprecationWarning", "ignore:.*torch.jit.script.*:FutureWarning"
)
@pytest.mark.parametrize(
    "function",
    [
        lambda net, x: jvp(net, (x,), (torch.ones_like(x),)),
        lambda net, x: vmap(lambda one: hessian(lambda at: net(at).squeeze())(one).diagonal().sum())(x),
    ],
    ids=["jvp", "laplacian"],
)
def test_derivatives_within_a_layer_are_no_disagreement(function: Any) -> None:
    assert of_module(Derivatives(function), (torch.rand(5, 4),))[1].wrong == []


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(4, 5, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]


def test_kernels_that_need_values_are_compared_with_a_run_on_values() -> None:
    found = of_module(Packed(), (torch.rand(3, 6, 4), torch.tensor([3, 6, 2])))[1]
    assert found.wrong == []
    assert found.kernels.compared > 0


class OneHot(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(x.argmax(-1), 4)


def test_a_layer_still_disagrees_without_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    from archscope.analysis import verification

    model = nn.Sequential(nn.Linear(4, 6))
    record = archscope.trace(model, ((2, 4),))
    derived: Any = verification.derive
    monkeypatch.setattr(verification, "derive", lambda *given: derived(*given)._replace(macs=1))
    verification.forget()
    wrong = verification.check(record, archscope_rows(record))
    verification.forget()
    assert any("MACs by formula" in text for one in wrong for text in one.differences)


def archscope_rows(record: archscope.Trace) -> Any:
    from archscope.analysis.row import rows

    return rows(record, whole=frozenset({"Linear"}))


@pytest.mark.parametrize("values", ["never", "always"])
def test_the_checks_of_one_hot_cost_nothing(values: str) -> None:
    found = totals(archscope.trace(OneHot(), (torch.rand(3, 4),), values=values))
    assert (found["flops"], found["macs"]) == (3 * 4, 0)  # of argmax, 1 per element
