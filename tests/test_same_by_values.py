"""The same figures without values and on real ones, also of what is computed of constants: PyTorch's parts of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import archscope
from archscope.analysis.metrics import totals


class OfAConstant(nn.Module):
    """What a function makes of 3 × 4 numbers that are known, beside an input that is not."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return x, self.function(torch.arange(12.0).view(3, 4))


NUMBERS = 4 * 12  # bytes of the constant

MADE: dict[str, tuple[Callable[[Tensor], Any], int]] = {
    "grid": (lambda i: torch.meshgrid(i[0], i[:, 0], indexing="ij"), 0),  # both expand what they are given
    "spread": (lambda i: torch.broadcast_tensors(i, i[0]), 0),
    "broadcast": (lambda i: i[0].broadcast_to(5, 4), 0),
    "sorted by": (lambda i: i.gather(1, i.argsort()), 4 * 12 + 8 * 12 + 4 * 12),  # values and places, and what is taken
    "chosen": (lambda i: torch.where(i > 1, i, 0.0), 12 + 4 + 4 * 12),  # a mask, the other number, and the choice
    "upper": (lambda i: i.triu(), 4 * 12),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_made_of_a_constant(name: str) -> None:
    function, nbytes = MADE[name]
    found = [totals(archscope.trace(OfAConstant(function), ((2, 2),), values=values)) for values in ("never", "always")]
    assert [one["activations"] for one in found] == [NUMBERS + nbytes] * 2
    assert found[0]["flops"] == found[1]["flops"]
