"""Arithmetic on shapes: operators whose inputs are all known, done with NumPy and not recorded.

Exporters write `x.view(x.size(0), -1)` as Shape, Gather, Unsqueeze, Concat and Reshape. Only the last is an operator of
the network.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

MOST = 1 << 16  # elements of a constant


def _axes(a: dict[str, Any], more: tuple[Any, ...]) -> tuple[int, ...] | None:
    axes = more[0] if more and more[0] is not None else a.get("axes")
    return None if axes is None else tuple(int(i) for i in np.atleast_1d(axes))


def _unsqueeze(a: dict[str, Any], x: Any, *more: Any) -> Any:
    return np.expand_dims(x, _axes(a, more) or ())


def _squeeze(a: dict[str, Any], x: Any, *more: Any) -> Any:
    return np.squeeze(x, _axes(a, more))


def _slice(a: dict[str, Any], x: Any, *more: Any) -> Any:
    given: list[Any] = [*more, None, None, None, None]
    starts, ends, axes, steps = given[:4]
    starts, ends = (a["starts"], a["ends"]) if starts is None else (starts, ends)
    axes = a.get("axes") if axes is None else axes
    cut = [slice(None)] * x.ndim
    for i, (begin, end) in enumerate(zip(starts, ends, strict=True)):
        step = 1 if steps is None else int(steps[i])
        last = int(end)
        cut[int(axes[i]) if axes is not None else i] = slice(
            int(begin), None if step < 0 and last < -x.shape[i] else last, step
        )
    return x[tuple(cut)]


def _reshape(a: dict[str, Any], x: Any, shape: Any) -> Any:
    sides = [int(x.shape[i]) if m == 0 and not a.get("allowzero") else int(m) for i, m in enumerate(shape)]
    return x.reshape(sides)


def _expand(a: dict[str, Any], x: Any, shape: Any) -> Any:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(m) for m in shape)))


def _filled(a: dict[str, Any], shape: Any) -> Any:
    from onnx import numpy_helper

    value = numpy_helper.to_array(a["value"])[0] if "value" in a else np.float32(0)
    return np.full(tuple(int(m) for m in shape), value)


def _cast(a: dict[str, Any], x: Any) -> Any:
    from onnx.helper import tensor_dtype_to_np_dtype

    return x.astype(tensor_dtype_to_np_dtype(a["to"]))


def _div(a: dict[str, Any], x: Any, y: Any) -> Any:
    if not np.issubdtype(x.dtype, np.integer):
        return x / y
    return (np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))).astype(x.dtype)


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(a: dict[str, Any], x: Any, *more: Any) -> Any:
        return function(x, axis=_axes(a, more), keepdims=bool(a.get("keepdims", 1)))

    return reduce


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, *values: function(*values)


FOLDED: dict[str, Callable[..., Any]] = {
    "Add": _plain(np.add), "Sub": _plain(np.subtract), "Mul": _plain(np.multiply), "Div": _div,
    "Mod": lambda a, x, y: np.fmod(x, y) if a.get("fmod") else np.mod(x, y),
    "Pow": lambda a, x, y: np.power(x, y).astype(x.dtype), "Neg": _plain(np.negative), "Abs": _plain(np.abs),
    "Floor": _plain(np.floor), "Ceil": _plain(np.ceil), "Sqrt": _plain(np.sqrt), "Identity": _plain(np.asarray),
    "Min": lambda a, *values: np.minimum.reduce(values), "Max": lambda a, *values: np.maximum.reduce(values),
    "And": _plain(np.logical_and), "Or": _plain(np.logical_or), "Not": _plain(np.logical_not),
    "Equal": _plain(np.equal), "Greater": _plain(np.greater), "Less": _plain(np.less),
    "GreaterOrEqual": _plain(np.greater_equal), "LessOrEqual": _plain(np.less_equal), "Where": _plain(np.where),
    "Concat": lambda a, *values: np.concatenate(values, axis=a["axis"]),
    "Gather": lambda a, x, at: np.take(x, at.astype(np.int64), axis=a.get("axis", 0)),
    "Unsqueeze": _unsqueeze, "Squeeze": _squeeze, "Slice": _slice, "Reshape": _reshape, "Expand": _expand,
    "ConstantOfShape": _filled, "Cast": _cast, "CastLike": lambda a, x, y: x.astype(y.dtype),
    "Transpose": lambda a, x: np.transpose(x, a.get("perm")), "Size": _plain(lambda x: np.int64(x.size)),
    "Shape": lambda a, x: np.array(x.shape[a.get("start", 0) : a.get("end")], np.int64),
    "Range": _plain(lambda start, end, step: np.arange(start, end, step)),
    "ReduceProd": _reduced(np.prod), "ReduceSum": _reduced(np.sum), "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
}  # fmt: skip
BROADCAST = set(
    """Add Sub Mul Div Mod Pow Min Max And Or Equal Greater Less GreaterOrEqual LessOrEqual
    Where""".split()
)


def folded(op: str, attributes: dict[str, Any], values: list[Any]) -> Any:
    """The result of an operator on constants, None where it is none of these or would be large."""
    if op not in FOLDED:
        return None
    if op in ("Expand", "ConstantOfShape") and prod(int(m) for m in values[-1]) > MOST:
        return None
    if op in BROADCAST and prod(np.broadcast_shapes(*(value.shape for value in values))) > MOST:
        return None
    if op == "Range" and abs((float(values[1]) - float(values[0])) / float(values[2] or 1)) > MOST:
        return None
    with np.errstate(all="ignore"):
        return np.asarray(FOLDED[op](attributes, *values))
