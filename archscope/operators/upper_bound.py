"""The largest output of operators whose size depends on values: every element is not zero, every box is kept.

`trace(..., bound=True)` uses them, so that a detector can be recorded without data: what follows is counted for as many
proposals as the model keeps at most. One function an operator, tensors on the meta device in and out; None where an
operator's arguments leave nothing open.
"""

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

from archscope.core.registry import Registry

if TYPE_CHECKING:
    import torch

UPPER_BOUNDS: Registry[Callable[..., Any]] = Registry("bound of")
bound = UPPER_BOUNDS.register


def _indices(*shape: int) -> "torch.Tensor":
    import torch

    return torch.empty(shape, dtype=torch.int64, device="meta")


@bound("aten.nonzero")
def nonzero(x: "torch.Tensor") -> "torch.Tensor":
    return _indices(x.numel(), x.dim())


@bound("aten.nonzero_numpy")
def nonzero_numpy(x: "torch.Tensor") -> "list[torch.Tensor]":
    return [_indices(x.numel()) for _ in range(x.dim())]


@bound("aten.masked_select")
def masked_select(x: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    import torch

    return x.new_empty(prod(torch.broadcast_shapes(x.shape, mask.shape)))


@bound("torchvision.nms")
def nms(boxes: "torch.Tensor", scores: "torch.Tensor", iou_threshold: float) -> "torch.Tensor":
    return _indices(len(boxes))


@bound("aten.index")
def index(x: "torch.Tensor", indices: Any) -> "torch.Tensor | None":
    """Each boolean mask as the positions of all its elements."""
    import torch

    if not any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in indices):
        return None
    positions: list[torch.Tensor | None] = []
    for one in indices:
        if one is not None and one.dtype in (torch.bool, torch.uint8):
            positions += [_indices(one.numel())] * one.dim()
        else:
            positions.append(one)
    return torch.ops.aten.index(x, positions)
