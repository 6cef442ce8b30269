"""A forward that takes gradients: what autograd runs is counted in rows of its own, and the model is left alone."""

import torch
from torch import nn

import archscope


class Forces(nn.Module):
    """An energy of positions, and its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 8, bias=False), nn.Linear(8, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.requires_grad_()
        energy = self.second(self.first(x).tanh()).sum()
        return torch.autograd.grad(energy, x)[0]


def test_operators_of_autograd_have_rows_of_their_own() -> None:
    record = archscope.trace(Forces(), [(5, 3)])
    table = archscope.layer_table(record)
    macs = {row["path"]: row["macs"] for row in table.rows if row["macs"]}
    own = [row["macs"] for row in table.rows if row["kind"] == "mm"]
    assert macs["first"] == 5 * 3 * 8
    assert macs["second"] == 5 * 8 * 1
    assert own == [5 * 1 * 8, 5 * 8 * 3]  # back through the second layer, then through the first
    assert archscope.totals(record)["neurons"] == 5 * 8 + 5 * 1  # of the layers, and not of the way back
    assert "autograd ran" in table.notes[0]
    assert f"with {5 * 8 + 5 * 8 * 3} MACs" in table.notes[0]
    assert archscope.Trace.from_json(record.to_json()) == record


def test_the_model_keeps_its_weights_and_no_gradients() -> None:
    class Backward(Forces):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.second(self.first(x)).sum().backward()
            assert self.first.weight.grad is not None
            return self.first.weight.grad

    model = Backward()
    weights = [p for p in model.parameters()]
    before = [p.detach().clone() for p in weights]
    record = archscope.trace(model, [(5, 3)])
    assert record.layers[0].outputs[0].shape == (8, 3)
    assert all(a is b for a, b in zip(model.parameters(), weights, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, weights, strict=True))
    assert all(p.grad is None for p in weights)


def test_an_input_is_not_made_to_require_gradients() -> None:
    x = torch.rand(5, 3)
    archscope.trace(Forces(), (x,))
    assert not x.requires_grad


def test_a_gradient_is_never_silently_zero() -> None:
    """Without autograd torch.autograd.functional.jacobian gives zeros and runs no product back."""

    class Jacobian(Forces):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.autograd.functional.jacobian(self.first, x)  # pyright: ignore[reportReturnType]

    # 3 x 8 once, and back for each of 8 outputs
    assert archscope.totals(archscope.trace(Jacobian(), (torch.rand(3),)))["macs"] == 3 * 8 + 8 * 3 * 8
