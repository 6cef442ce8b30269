"""Operators that change the shape of the tensor that they are given."""

import torch
from torch import Tensor, nn

from archscope import trace
from archscope.analysis.metrics import totals


class Turned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2, 5))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(x)  # 2×3
        y.t_()
        return y @ self.w  # 3×2 by 2×5


class Squeezed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(x)  # 1×2×3
        y.squeeze_(0).unsqueeze_(2)  # 2×3×1
        y.transpose_(0, 1)  # 3×2×1
        z = torch.empty(0)
        torch.matmul(y.squeeze(2), torch.ones(2, 4), out=z)  # 3×4
        return z


class Resized(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        y.resize_(6, 2)
        return y @ y.t()  # 6×2 by 2×6


def test_a_record_has_the_new_shape() -> None:
    record = trace(Turned(), ((2, 3),))
    assert record.layers[0].outputs[0].shape == (3, 5) and totals(record)["macs"] == 3 * 2 * 5
    turned = next(op for op in record.ops if op.name == "aten.t_")
    assert (turned.inputs[0].shape, turned.outputs[0].shape) == ((2, 3), (3, 2))

    record = trace(Squeezed(), ((1, 2, 3),))
    assert record.layers[0].outputs[0].shape == (3, 4) and totals(record)["macs"] == 3 * 2 * 4

    record = trace(Resized(), ((3, 4),))
    assert record.layers[0].outputs[0].shape == (6, 6) and totals(record)["macs"] == 6 * 2 * 6
