"""Indices and masks whose values are known.

PyTorch's kernels refuse an index that is out of bounds, its meta kernels do not look.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

Known = Callable[[torch.Tensor], bool]

_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8)


_CHECKED: ContextVar[bool] = ContextVar("checked", default=True)


@contextmanager
def unchecked() -> Iterator[None]:
    """Indices out of bounds are let through, as PyTorch's meta kernels do."""
    token = _CHECKED.set(False)
    try:
        yield
    finally:
        _CHECKED.reset(token)


def _held(known: Known, index: Any, size: int, axis: int, below: bool = False) -> None:
    """Raises IndexError for an index that is not among `size`. below: whether one may count from the end."""
    if not _CHECKED.get():
        return
    if not isinstance(index, torch.Tensor) or index.dtype not in _WHOLE or not index.numel() or not known(index):
        return
    with torch._C._DisableTorchDispatch():
        least, most = (int(value) for value in index.aminmax())
    wrong = most if most >= size else least
    if most >= size or least < (-size if below else 0):
        raise IndexError(f"index {wrong} is out of bounds for dimension {axis} with size {size}")


def _along(known: Known, tensor: torch.Tensor, dim: int, index: Any, *_: Any, **__: Any) -> None:
    if tensor.dim() and index is not None and -tensor.dim() <= dim < tensor.dim():
        _held(known, index, tensor.shape[dim], dim % tensor.dim())


def _each(known: Known, tensor: torch.Tensor, indices: Sequence[Any], *_: Any, **__: Any) -> None:
    axis = 0
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            axis += index.dim()  # a mask is of as many axes
            continue
        if axis < tensor.dim():
            _held(known, index, tensor.shape[axis], axis, below=True)
        axis += 1


def _looked_up(known: Known, weight: torch.Tensor, indices: torch.Tensor, *_: Any, **__: Any) -> None:
    _held(known, indices, weight.shape[0], 0)


def _flat(known: Known, tensor: torch.Tensor, index: torch.Tensor, *_: Any, **__: Any) -> None:
    _held(known, index, tensor.numel(), 0, below=True)


BOUNDS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("aten.index", "aten._unsafe_index", "aten.index_put", "aten.index_put_"), _each),
    **dict.fromkeys(
        [
            f"aten.{name}{mark}"
            for name in ("index_select", "gather", "index_add", "index_copy", "index_fill", "index_reduce", "scatter",
                         "scatter_add", "scatter_reduce")
            for mark in ("", "_")
        ],
        _along,
    ),
    **dict.fromkeys(("aten.embedding", "aten._embedding_bag", "aten._embedding_bag_forward_only"), _looked_up),
    "aten.take": _flat,
}  # fmt: skip


def _selected(tensor: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with torch._C._DisableTorchDispatch():
        count = int(mask.expand(torch.broadcast_shapes(tensor.shape, mask.shape)).sum())
    return torch.empty(count, dtype=tensor.dtype, device="meta")


def _quantised(tensor: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(tensor, device="meta"), torch.empty_like(tensor, dtype=torch.bool, device="meta")


_aten = torch.ops.aten
# outputs of operators that PyTorch has no meta kernel for, where the values that decide are there
_MADE: dict[Any, Callable[..., Any]] = {
    _aten.masked_select.default: _selected,
    _aten.fake_quantize_per_channel_affine_cachemask.default: _quantised,
}


def with_values(func: Any, args: Sequence[Any], kwargs: Any) -> Any:
    """The output of an operator that wants the values of a small constant, which are there."""
    made = _MADE.get(func)
    return func(*args, **kwargs) if made is None else made(*args, **kwargs)
