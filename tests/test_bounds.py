"""Known indices and masks: what PyTorch's kernels refuse a trace refuses, and what a known mask selects is known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import archscope
from archscope.shapes.legal import legal_sizes
from archscope.shapes.resize import ResizableModel


class At(nn.Module):
    """Looks up places 0 and 5 of the last axis."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("places", torch.tensor([0, 5]))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.get_buffer("places"))


LOOKUPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "index": lambda x, i: x[:, i],
    "select": lambda x, i: x.index_select(1, i),
    "gather": lambda x, i: x.gather(-1, i[None]),
    "fill": lambda x, i: x.index_fill(1, i, 0.0),
    "add": lambda x, i: x.index_add(1, i, x[:, :2]),
    "copy": lambda x, i: x.index_copy(1, i, x[:, :2]),
    "scatter": lambda x, i: x.scatter(1, i[None], 1.0),
    "put": lambda x, i: x.clone().index_put_((torch.tensor(0), i), torch.tensor(0.0)),
    "embedding": lambda x, i: functional.embedding(i, x.T),
    "from the end": lambda x, i: x[:, -1 - i],
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_an_index_out_of_bounds_is_refused_as_pytorch_refuses_it(name: str) -> None:
    model = At(LOOKUPS[name])
    large, small = torch.rand(2, 6), torch.rand(2, 3)
    model(large)
    archscope.trace(model, (large,))
    with pytest.raises((IndexError, RuntimeError)):
        model(small)
    with pytest.raises(archscope.ShapeError, match=r"index -?[56] is out of bounds for dimension . with size 3"):
        archscope.trace(model, (small,))


class Positions(nn.Module):
    """A table of positions that is too large to keep its values."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1024, 128)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table(torch.arange(x.shape[1]))


def test_a_sequence_that_is_longer_than_its_table() -> None:
    archscope.trace(Positions(), ((1, 1024, 128),))
    with pytest.raises(archscope.ShapeError, match="index 1024 is out of bounds for dimension 0 with size 1024"):
        archscope.trace(Positions(), ((1, 1025, 128),))
    with pytest.raises(archscope.ShapeError, match="index 1024 is out of bounds for dimension 0 with size 1024"):
        archscope.trace_step(Positions(), ((1, 1025, 128),))


def test_the_sizes_of_a_model_that_looks_up_a_place() -> None:
    model = ResizableModel(At(lambda x, i: x[..., i]), [torch.rand(1, 1, 8, 8)])
    assert legal_sizes(model, 12).minimum == 6  # places 0 to 5


class Selects(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x.masked_select(mask)


def test_what_a_known_mask_selects() -> None:
    mask = torch.tensor([True, False, True])  # of both rows
    for values in ("never", "always"):
        record = archscope.trace(Selects(), (torch.rand(2, 3), mask), values=values)
        assert record.layers[0].outputs[0].shape == (2 * 2,)
