"""Sizes of forwards that compute with their sides: halves of a side, one side that is fixed, a batch of one."""

import json
from collections.abc import Callable

import torch
from torch import Tensor, nn

from archscope.shapes.legal import legal_sizes
from archscope.shapes.resize import ResizableModel, another_batch
from archscope.shapes.symbolic import in_letters, page
from archscope.shapes.symbolic import json as as_json


class Behind(nn.Module):
    def __init__(self, layer: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def pairs_of_rows(y: Tensor) -> Tensor:
    n, c, h, w = y.shape
    return y.view(n, c, h // 2, 2, w).sum(3)


def test_half_of_a_side_is_half_of_a_side() -> None:
    for shape in ((1, 3, 12, 12), (2, 3, 12, 12), (2, 3, 12, 10)):
        model = ResizableModel(Behind(nn.Conv2d(3, 3, 3, padding=1), pairs_of_rows), [torch.rand(shape)])
        found = legal_sizes(model, 12)
        assert (found.minimum, found.fits) == (2, (2, 4, 6, 8, 10, 12))  # every even number of rows


class RowsOfFeatures(nn.Module):
    """Takes rows of 8 numbers, and lays two of them beside each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x[:, :2].shape
        return self.layer(x[:, :2]).reshape(n, c, h // 2, 2 * w)


def test_a_side_that_is_fixed_does_not_fix_the_other() -> None:
    model = ResizableModel(RowsOfFeatures(), [torch.rand(2, 4, 16, 8)])
    assert legal_sizes(model, 20).fits == (8,)  # a square of 8 features a row


def test_no_batch_is_such_a_multiple_as_the_sides() -> None:
    for batch in range(1, 9):
        assert another_batch(batch) > batch + 1
        assert another_batch(batch) not in (2 * batch, 3 * batch)


def steps_first(y: Tensor) -> Tensor:
    return y.transpose(0, 1).reshape(-1, 4)


def test_a_batch_of_one_is_said_to_copy_less() -> None:
    # a linear layer of 4 numbers of 4 bytes, and the same once more where steps come first; with N = 1 that is a view
    for batch in (1, 2):
        closed = in_letters(ResizableModel(Behind(nn.Linear(4, 4), steps_first), [torch.rand(batch, 5, 4)], name="net"))
        assert closed.at(N=3, T=7)["activations"] == 2 * (3 * 7 * 4 * 4)
        sentence = f"for N = 1 activations are {5 * 4 * 4} bytes and not {2 * 5 * 4 * 4}: some copies are views then"
        assert closed.alone == sentence
        assert sentence in " ".join(page(closed, "terminal").split())
        assert sentence in json.loads(as_json(closed))["notes"]


def test_a_batch_of_one_that_is_like_any_other_needs_no_word() -> None:
    closed = in_letters(ResizableModel(nn.Linear(4, 4), [torch.rand(1, 5, 4)], name="net"))
    assert closed.alone == ""
    assert closed.letters["N"] == 1
