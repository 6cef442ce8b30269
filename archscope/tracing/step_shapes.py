"""Outputs of operators without PyTorch's meta kernels, which take longer: of those that training calls most, made from
their arguments, and of all others as the kernel made them for an equal call.

Each function takes the arguments of the operator, all its tensors contiguous and of one dtype, and gives what PyTorch's
kernel would give, on the meta device. None: the kernel is asked after all.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from archscope.core.registry import Registry
from archscope.tracing.tensors import tensors_in
from archscope.tracing.weightless import META

OUTPUTS: Registry[Callable[..., Any]] = Registry("output of")
ON_CPU: Registry[Callable[..., Any]] = Registry("output on a CPU of")  # where PyTorch's meta kernel does as CUDA
REFUSED: Registry[Callable[..., Any]] = Registry("output of a refused")  # where it refuses what devices take
output_of = OUTPUTS.register

_empty = torch.empty
_strided = torch.empty_strided


class EqualCalls:
    """What meta kernels gave, by the operator and its arguments: repeated layers ask once."""

    def __init__(self) -> None:
        self.known: dict[Any, Any] = {}

    def __call__(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The output of an operator on meta tensors. It writes nothing and its schema tells no view."""
        key = func, _described(args), _described(kwargs.items())
        known = self.known.get(key)
        if known is not None:
            kind, forms = known
            made = [None if form is None else _strided(form[0], form[1], dtype=form[2], device=META) for form in forms]
            return kind(made) if kind else made[0]
        output = func(*args, **kwargs)
        kind = type(output) if isinstance(output, tuple | list) else None
        outputs = output if kind else [output]
        if all([o is None or isinstance(o, torch.Tensor) for o in outputs]) and _own(outputs, (args, kwargs)):
            self.known[key] = kind, _described(outputs)
        return output


def _described(values: Any) -> tuple[Any, ...]:
    """Arguments as a key: 1, 1.0 and True are not the same, and of a tensor its values do not count."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append((value.shape, value.stride(), value.dtype))
        elif value is None:
            found.append(None)
        elif isinstance(value, tuple | list):
            found.append(_described(value))
        else:
            found.append((type(value), value))
    return tuple(found)


def _own(outputs: Any, given: Any) -> bool:
    """Whether each output has memory of its own, and no more than it needs: `_unsafe_view` gives that of its input."""
    taken = {t.untyped_storage()._cdata for t in tensors_in(given)}
    for tensor in tensors_in(outputs):
        storage = tensor.untyped_storage()
        whole = _strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)
        if storage._cdata in taken or storage.nbytes() != whole.untyped_storage().nbytes():
            return False
        taken.add(storage._cdata)
    return True


def _of(shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    return _empty(shape, dtype=like.dtype, device=META)


_LIKE_FIRST = """relu threshold_backward hardtanh_backward hardswish_backward silu_backward gelu_backward
    sigmoid_backward tanh_backward silu gelu sigmoid tanh hardswish hardtanh hardsigmoid""".split()


@output_of(*(f"aten.{name}" for name in _LIKE_FIRST))
def same(x: torch.Tensor, *_: Any, **__: Any) -> Any:
    return _of(x.shape, x) if x.is_floating_point() else None


@output_of("aten.add", "aten.mul", "aten.sub", "aten.div")
def arithmetic(x: Any, y: Any, **_: Any) -> Any:
    if not isinstance(y, torch.Tensor) or x.shape != y.shape or not x.is_floating_point():
        return None
    return _of(x.shape, x)


@output_of("aten.zeros_like", "aten.ones_like", "aten.empty_like")
def filled(x: torch.Tensor, *, memory_format: Any = None, pin_memory: Any = None, **others: Any) -> Any:
    another = memory_format not in (None, torch.preserve_format) or any(value is not None for value in others.values())
    return None if another else _of(x.shape, x)


@output_of("aten._foreach_sqrt", "aten._foreach_neg", "aten._foreach_reciprocal")
def each(tensors: Sequence[torch.Tensor]) -> Any:
    return [_of(x.shape, x) for x in tensors] if tensors[0].is_floating_point() else None


@output_of("aten.native_batch_norm")
def batch_norm(x: torch.Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *_: Any) -> Any:
    if not training or x.dtype != torch.float32:
        return None
    channels = x.shape[1:2]
    return _of(x.shape, x), _of(channels, x), _of(channels, x)


@output_of("aten.native_batch_norm_backward")
def batch_norm_backward(gradient: torch.Tensor, x: torch.Tensor, *more: Any) -> Any:
    if x.dtype != torch.float32:
        return None
    mask, channels = more[-1], x.shape[1:2]
    return tuple(
        _of(shape, x) if wanted else None for wanted, shape in zip(mask, (x.shape, channels, channels), strict=True)
    )


@output_of("aten.convolution")
def convolution(x: torch.Tensor, weight: torch.Tensor, bias: Any, stride: Any, padding: Any, dilation: Any,
                transposed: bool, *_: Any) -> Any:  # fmt: skip
    if transposed or x.dim() != weight.dim() or 0 in x.shape:
        return None
    n = x.dim() - 2
    s, p, d = (tuple(v) * n if len(v) == 1 else v for v in (stride, padding, dilation))
    sides = [
        (m + 2 * pi - di * (k - 1) - 1) // si + 1
        for m, k, si, pi, di in zip(x.shape[2:], weight.shape[2:], s, p, d, strict=True)
    ]
    return _of((x.shape[0], weight.shape[0], *sides), x) if min(sides) > 0 else None


@output_of("aten.convolution_backward")
def convolution_backward(gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: Any, *more: Any) -> Any:
    mask = more[-1]
    shapes = (x.shape, weight.shape, (gradient.shape[1],))
    return tuple(_of(shape, x) if wanted else None for wanted, shape in zip(mask, shapes, strict=True))


@output_of("aten.im2col")
def im2col(x: torch.Tensor, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    sides = [
        (m + 2 * p - d * (k - 1) - 1) // s + 1
        for m, k, d, p, s in zip(x.shape[-2:], kernel, dilation, padding, stride, strict=True)
    ]
    shape = (*x.shape[:-3], x.shape[-3] * prod(kernel), prod(sides))
    return _as_large_as(x, shape) if min(sides) > 0 and x.dim() in (3, 4) else None


@output_of("aten.col2im")
def col2im(x: torch.Tensor, size: Any, kernel: Any, *_: Any) -> Any:
    return _as_large_as(x, (*x.shape[:-2], x.shape[-2] // prod(kernel), *size)) if x.dim() in (2, 3) else None


def _as_large_as(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The kernel takes memory for as many numbers as it is given, and keeps it where its output is smaller."""
    return _of((max(prod(shape), x.numel()),), x)[: prod(shape)].view(*shape)


@REFUSED.register("aten._grouped_mm")
def grouped_mm(a: torch.Tensor, b: torch.Tensor, offs: Any = None, bias: Any = None, out_dtype: Any = None) -> Any:
    """Rows begin at multiples of 16 bytes (`create_grouped_gemm_output_tensor` in GroupedMMUtils.h). The meta kernel
    takes no full precision."""
    dtype = out_dtype or a.dtype
    groups = a.shape[:-2] if b.dim() == a.dim() == 3 else offs.shape if b.dim() == a.dim() else ()
    n, p = a.shape[-2], b.shape[-1]
    step = 16 // dtype.itemsize
    padded = (p + step - 1) // step * step
    return _strided((*groups, n, p), (n * padded, padded, 1)[-2 - len(groups) :], dtype=dtype, device=META)


# ---------------------------------------------------------------------------------------------------- on a CPU
# statistics have the dtype of the weights, or of the input where there are none; on CUDA float32


def _normalised(x: torch.Tensor, weight: torch.Tensor | None, rows: Sequence[int]) -> Any:
    """The output, mean and inverse deviation of a normalisation."""
    dtype = x.dtype if weight is None else weight.dtype
    return _of(x.shape, x), *(_empty(rows, dtype=dtype, device=META) for _ in range(2))


@ON_CPU.register("aten.native_layer_norm")
def layer_norm(x: torch.Tensor, shape: Any, weight: Any, *_: Any) -> Any:
    return _normalised(x, weight, (*x.shape[: x.dim() - len(shape)], *(1 for _ in shape)))


@ON_CPU.register("aten.native_group_norm")
def group_norm(x: torch.Tensor, weight: Any, bias: Any, n: int, c: int, hw: int, groups: int, eps: float) -> Any:
    return _normalised(x, weight, (n, groups))


@ON_CPU.register("aten.native_batch_norm")
def batch_norm_on_cpu(x: torch.Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *_: Any) -> Any:
    if not training:
        return _normalised(x, weight, (0,))
    return _normalised(x, weight, x.shape[1:2]) if x.dtype != torch.float32 else None


@ON_CPU.register("aten._embedding_bag")
def embedding_bag(
    weight: torch.Tensor, indices: torch.Tensor, offsets: torch.Tensor, scale: bool = False, mode: int = 0,
    sparse: bool = False, per_sample: Any = None, last: bool = False, padding: int = -1,
) -> Any:  # fmt: skip
    """`make_offset2bag_out` and its like in EmbeddingBag.cpp: the bags of indices have memory for one index more, and
    sums are made without them; the sizes of bags have memory for each offset."""
    n, bags = indices.numel(), offsets.numel() - last
    summed = mode == 0 and padding < 0 and weight.dtype.itemsize < 8
    bag, size = _of((0 if summed else n + 1,), offsets), _of(offsets.shape, offsets)
    output = _of((bags, weight.shape[1]), weight)
    return output, bag[:n], size[:bags], _of(output.shape if mode == 2 else (bags,), offsets)
