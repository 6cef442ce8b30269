"""What a record says beside its numbers: assumptions, bounds, and what is no layer of PyTorch's."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import archscope
from archscope.analysis.verification import disagreements


def notes(model: nn.Module, *inputs: Any) -> str:
    return "\n".join(archscope.layer_table(archscope.trace(model, inputs)).notes)


class GELU(nn.Module):
    """A class with a name of PyTorch's, and a layer inside."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(self.proj(x))


class LayerNorm(nn.LayerNorm):
    """Of the channels of an image."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class Linear(nn.Linear):
    """Only its name is new."""


def test_a_class_is_what_it_is_and_not_what_it_is_called() -> None:
    record = archscope.trace(nn.Sequential(GELU()), [(2, 4)])
    assert disagreements(record) == []
    assert record.modules["0"] == "test_said.GELU"
    rows = archscope.layer_table(record).rows
    # the layer inside has a row of its own: 4·8 + 8 parameters
    assert [row["params"] for row in rows if row["path"] == "0.proj"] == [4 * 8 + 8]
    record = archscope.trace(nn.Sequential(LayerNorm(4)), [(2, 4, 5, 5)])
    assert disagreements(record) == []
    assert record.modules["0"] == "test_said.LayerNorm"


def test_a_subclass_that_does_not_change_the_forward_has_the_closed_form() -> None:
    record = archscope.trace(nn.Sequential(Linear(4, 3)), [(2, 4)])
    assert record.modules["0"] == "Linear"
    assert archscope.layer_table(record).rows[0]["agrees"]


def test_layers_in_a_plain_list_are_named() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(4, 4, bias=False)]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers[0](x)

    assert "16 parameters that the forward uses are no parameters of the model" in notes(Plain(), (2, 4))
    assert "no parameters of the model" not in notes(nn.Sequential(nn.Linear(4, 4)), (2, 4))


def test_a_module_that_ran_without_a_call_is_not_said_never_to_run() -> None:
    class ByForward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first.forward(x).relu())

    said = notes(ByForward(), (2, 4))
    assert "third (Linear) never ran" in said
    assert "first" not in said
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    assert "never ran" not in notes(scripted, (2, 4))


class Rows(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(-1, self.features)


def test_a_view_that_takes_examples_apart_is_named() -> None:
    # 4·30·30 = 3,600 numbers an example: 9 rows of 400, so that 4 examples are 36 rows
    assert "view(-1, 400) makes 36 rows of 4 examples" in notes(Rows(400), (4, 4, 30, 30))
    for features in (3600, 900, 30, 10):  # the example, a channel, a row, and parts of a row
        assert notes(Rows(features), (4, 4, 30, 30)) == ""


def test_a_forward_that_never_ends_is_refused() -> None:
    class Endless(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            while True:
                yield x

    with pytest.raises(archscope.TraceError, match=r"yields more than 10,000 parts"):
        archscope.trace(Endless(), [(1,)])


def test_values_of_weights_that_decide_are_named() -> None:
    class ByWeight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.Parameter(torch.tensor(2.0))
            self.register_buffer("limit", torch.tensor(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(int(self.steps)):
                x = x.relu()
            return x

    assert "depend on the values of weights, by aten.item in ByWeight (" in notes(ByWeight(), (2, 4))

    class ByBuffer(ByWeight):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.relu() if int(self.get_buffer("limit")) else x

    assert notes(ByBuffer(), (2, 4)) == ""


def test_an_output_size_that_is_asked_for_is_derived() -> None:
    class Back(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.up(x, output_size=(10, 9))

    # (5 − 1)·2 + 3 − 2·1 = 9 by itself, and 1 more where 10 is asked for
    record = archscope.trace(Back(), [(1, 2, 5, 5)])
    assert record.layers[0].outputs[0].shape == (1, 3, 10, 9)
    assert disagreements(record) == []


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_a_sparse_product_costs_its_entries(layout: torch.layout) -> None:
    class Sparse(nn.Module):
        def forward(self, a: torch.Tensor, x: torch.Tensor) -> Any:
            return a @ x, torch.sparse.addmm(x, a, x), a @ x[:, 0], x.T @ a

    a = torch.diag(torch.tensor([1.0, 2.0, 0.0])).to_sparse(layout=layout)
    total = archscope.totals(archscope.trace(Sparse(), (a, torch.rand(3, 3))))
    # two entries, each with 3 numbers of a row; with one number; and with the 3 rows on the left
    assert total["macs"] == 2 * 3 + 2 * 3 + 2 * 1 + 2 * 3
    assert total["flops"] == 2 * total["macs"] + 3 * 3  # x is added to 3·3
    assert not total["unknown"]


def test_what_else_is_done_to_a_sparse_tensor_is_unknown() -> None:
    class Softmax(nn.Module):
        def forward(self, a: torch.Tensor) -> torch.Tensor:
            return torch.sparse.softmax(a, 1).to_dense()

    total = archscope.totals(archscope.trace(Softmax(), (torch.eye(3).to_sparse(),)))
    assert total["unknown"] == {"sparse._sparse_softmax": 1}
    assert total["macs_is_lower_bound"]


def test_what_is_not_followed_is_said_in_one_sentence() -> None:
    from torch._higher_order_ops.associative_scan import associative_scan_op

    class Scanned(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return associative_scan_op(lambda a, b: (a + b,), (x,), ())

    with pytest.raises(
        archscope.TraceError, match="calls associative_scan, an operator on functions, which a trace does not follow"
    ):
        archscope.trace(Scanned(), [(2, 4)])

    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))

    with pytest.raises(archscope.TraceError, match="depends on the value of a tensor"):
        archscope.trace(Branch(), [(2, 4)], values="never")
