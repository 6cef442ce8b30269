"""The order in memory of what an operator makes, where PyTorch's meta kernel does not do as its CPU kernel does.

Each function takes the arguments of the operator and gives the axes of its first output from the outermost to the
innermost, () for a contiguous one, or None: as the meta kernel says. Read from `aten/src/ATen/native` of PyTorch 2.14.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import torch

from archscope.core.registry import Registry
from archscope.operators.rule import aten
from archscope.tracing.weightless import META

Order = tuple[int, ...] | None

ORDERS: Registry[Callable[..., Order]] = Registry("memory order of")

_LAST = {4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}  # channels last, by the number of axes
_INWARD = {4: (1, 3, 2, 0), 5: (1, 4, 3, 2, 0)}


def channels_last(x: torch.Tensor) -> bool:
    """Whether PyTorch takes a tensor for one whose channels lie innermost (`is_channels_last_strides` in c10)."""
    strides = x.stride()
    inward = _INWARD.get(len(strides))
    if inward is None or strides[1] > strides[-1] or not strides[1]:
        return False
    least, sides = 0, x.shape
    for axis in inward:
        if not sides[axis] or strides[axis] < least or (axis == 0 and least == strides[1]):
            return False
        least = strides[axis] * max(sides[axis], 1)
    return True


_LIKE_FIRST = """group_norm native_group_norm max_unpool2d max_unpool3d pixel_shuffle channel_shuffle roll
    adaptive_avg_pool2d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d
    _upsample_nearest_exact3d upsample_bilinear2d _upsample_bilinear2d_aa upsample_bicubic2d _upsample_bicubic2d_aa
    upsample_trilinear3d"""


@ORDERS.register(*aten(_LIKE_FIRST))
def like_first(x: torch.Tensor, *_: Any, **__: Any) -> Order:
    return _LAST[x.dim()] if channels_last(x) else ()


@ORDERS.register(*aten("conv2d conv3d conv_transpose2d conv_transpose3d convolution _convolution"))
def convolution(x: torch.Tensor, weight: torch.Tensor, *more: Any, groups: int = 1, **_: Any) -> Order:
    n = weight.dim()
    if not (channels_last(x) or channels_last(weight)):
        return ()
    if n == 5:  # PyTorch's own kernel knows no such order in 3-d; oneDNN's does, which is left out where it is slower
        groups = more[6] if len(more) > 6 else more[4] if len(more) > 4 else groups
        batch, *sides = x.shape if x.dim() == n else (1, *x.shape)
        large = batch > 1 or prod(sides[:3]) > 20480 or min(weight.shape[-2:]) > 3
        if x.dtype == torch.float64 or not (groups > 1 or large):
            return ()
    return _LAST[n] if x.dim() == n else tuple([axis - 1 for axis in _LAST[n][1:]])  # of one example


@ORDERS.register(*aten("batch_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training"))
def batch_norm(x: torch.Tensor, *_: Any, **__: Any) -> Order:
    return _LAST[x.dim()] if not x.is_contiguous() and channels_last(x) else ()


@ORDERS.register("aten.pad")
def pad(x: torch.Tensor, sides: Any, mode: str = "constant", *_: Any, **__: Any) -> Order:
    kernel = mode == "circular" or (mode == "constant" and max(sides, default=0) <= 0)
    return None if kernel else like_first(x)


@ORDERS.register("aten.max_pool1d")
def contiguous(*_: Any, **__: Any) -> Order:
    return ()


@ORDERS.register("aten.rrelu")
def rrelu(x: torch.Tensor, lower: Any = 0, upper: Any = 0, training: bool = False, *_: Any, **__: Any) -> Order:
    return () if training else None


@ORDERS.register(*aten("lstm gru rnn_tanh rnn_relu"))
def recurrent(x: torch.Tensor, *more: Any, batch_first: bool = False, **_: Any) -> Order:
    # the loop goes over positions, so that they lie outermost; a packed sequence (two axes) has no such argument: the
    # last one says whether it goes both ways
    return (1, 0, 2) if x.dim() == 3 and (batch_first or (len(more) == 8 and more[7] is True)) else ()


@ORDERS.register("aten.scaled_dot_product_attention")
def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: Any = None, dropout_p: float = 0.0,
    *_: Any, enable_gqa: bool = False, **__: Any,
) -> Order:  # fmt: skip
    if query.is_contiguous() or not fused_on_cpu(query, key, value, attn_mask, dropout_p, enable_gqa):
        return ()
    strides = torch.empty_like(query, device=META).stride()
    return tuple(sorted(range(len(strides)), key=lambda i: -strides[i]))


def fused_on_cpu(q: Any, k: Any, v: Any, mask: Any, dropout_p: float, grouped: bool) -> bool:
    """Whether attention is PyTorch's fused kernel on a CPU (`use_flash_attention_cpp`)."""
    if not q.dim() == k.dim() == v.dim() in (3, 4) or dropout_p or not q.shape[-1] == k.shape[-1] == v.shape[-1]:
        return False
    if q.dim() == 4 and not q.shape[0] == k.shape[0] == v.shape[0]:
        return False
    heads, shared = q.shape[-3], k.shape[-3]
    if shared != v.shape[-3] or not (shared in (1, heads) or (grouped and shared and heads % shared == 0)):
        return False
    if not q.shape[-2] or not k.shape[-2] or any([t.stride(-1) != 1 for t in (q, k, v)]):
        return False
    if mask is None:
        return True
    whole = (*q.shape[:-1], k.shape[-2])
    return mask.dim() in (2, q.dim()) and all(
        [m in (1, n) for m, n in zip(mask.shape[::-1], whole[::-1], strict=False)]
    )


def ordered(order: Order, output: Any) -> Any:
    """The output of a meta kernel with its first tensor in another order."""
    if order is None:
        return output
    first = output if isinstance(output, torch.Tensor) else output[0]
    made = torch.empty_permuted(first.shape, order or tuple(range(first.dim())), dtype=first.dtype, device=META)
    return made if first is output else (made, *output[1:])
