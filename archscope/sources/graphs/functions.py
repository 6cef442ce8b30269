"""Operators of ONNX as functions of PyTorch. Each takes the node, the version of the operator set, and its inputs.

An input is a tensor, a NumPy array where its value is known, or None where it is left out.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from archscope.core.errors import TraceError
from archscope.core.registry import Registry
from archscope.sources.graphs.graph import DTYPES

FUNCTIONS: Registry[Callable[..., Any]] = Registry("operator of ONNX")
on = FUNCTIONS.register


def tensor(value: Any) -> Any:
    """A tensor; a known value becomes one, a single number a plain number."""
    if value is None or isinstance(value, torch.Tensor):
        return value
    array = np.asarray(value)
    return array.item() if array.ndim == 0 else torch.from_numpy(np.array(array))


def ints(value: Any, what: str) -> list[int]:
    """Known whole numbers. Raises TraceError where they depend on values of tensors."""
    if value is None or isinstance(value, torch.Tensor):
        raise TraceError(f"{what} depends on the value of a tensor, which a trace does not compute")
    return [int(one) for one in np.atleast_1d(value)]


def _axes(node: Any, given: Any) -> list[int] | None:
    if given is not None:
        return ints(given, f"the axes of {node.op}")
    return node.attributes.get("axes")


# ------------------------------------------------------------------------------------------------------ arithmetic

_TWO: dict[str, Callable[..., Any]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div, "Pow": torch.pow, "Equal": torch.eq,
    "Greater": torch.gt, "Less": torch.lt, "GreaterOrEqual": torch.ge, "LessOrEqual": torch.le,
    "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
}  # fmt: skip
_ONE: dict[str, Callable[..., Any]] = {
    "Sqrt": torch.sqrt, "Exp": torch.exp, "Log": torch.log, "Neg": torch.neg, "Abs": torch.abs, "Erf": torch.erf,
    "Reciprocal": torch.reciprocal, "Floor": torch.floor, "Ceil": torch.ceil, "Round": torch.round,
    "Sign": torch.sign, "Sin": torch.sin, "Cos": torch.cos, "Not": torch.logical_not, "Identity": lambda x: x,
    "IsNaN": torch.isnan, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Relu": torch.relu,
}  # fmt: skip


def _binary(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(node: Any, opset: int, x: Any, y: Any) -> Any:
        x, y = tensor(x), tensor(y)
        if not isinstance(x, torch.Tensor) and not isinstance(y, torch.Tensor):
            x = torch.tensor(x)
        elif not isinstance(x, torch.Tensor) and function not in (torch.add, torch.mul):
            x = torch.tensor(x, dtype=y.dtype)
        return function(x, y)

    return run


def _unary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda node, opset, x: function(x if isinstance(x, torch.Tensor) else torch.as_tensor(x))


for _name, _function in _TWO.items():
    FUNCTIONS.add(_name, _binary(_function))
for _name, _function in _ONE.items():
    FUNCTIONS.add(_name, _unary(_function))


@on("Min", "Max", "Sum", "Mean")
def several(node: Any, opset: int, *given: Any) -> Any:
    function = {"Min": torch.minimum, "Max": torch.maximum}.get(node.op, torch.add)
    first, *rest = (torch.as_tensor(x) for x in given)
    for one in rest:
        first = function(first, one)
    return first / len(given) if node.op == "Mean" else first


@on("Clip")
def clip(node: Any, opset: int, x: Any, low: Any = None, high: Any = None) -> Any:
    low = node.attributes.get("min") if low is None else tensor(low)
    high = node.attributes.get("max") if high is None else tensor(high)
    return torch.clamp(x, low, high) if low is not None or high is not None else x


@on("Where")
def where(node: Any, opset: int, condition: Any, x: Any, y: Any) -> Any:
    return torch.where(*(torch.as_tensor(one) for one in (condition, x, y)))


@on("PRelu")
def prelu(node: Any, opset: int, x: Any, slope: Any) -> Any:
    return functional.prelu(x, slope.reshape(-1))


@on("Softmax", "LogSoftmax")
def softmax(node: Any, opset: int, x: Any) -> Any:
    function = torch.softmax if node.op == "Softmax" else torch.log_softmax
    if opset >= 13:
        return function(x, node.attributes.get("axis", -1))
    axis = node.attributes.get("axis", 1) % x.dim()
    return function(x.flatten(axis), axis).reshape(x.shape)


@on("Cast")
def cast(node: Any, opset: int, x: Any) -> Any:
    return torch.as_tensor(x).to(getattr(torch, DTYPES[node.attributes["to"]]))


@on("CastLike")
def cast_like(node: Any, opset: int, x: Any, y: Any) -> Any:
    return torch.as_tensor(x).to(torch.as_tensor(y).dtype)


@on("CumSum")
def cumsum(node: Any, opset: int, x: Any, axis: Any) -> Any:
    return torch.cumsum(torch.as_tensor(x), ints(axis, "an axis")[0])


@on("Dropout")
def dropout(node: Any, opset: int, x: Any, *_: Any) -> Any:
    return functional.dropout(x, 0.5, training=False)


# -------------------------------------------------------------------------------------------------------- products


@on("MatMul")
def matmul(node: Any, opset: int, x: Any, y: Any) -> Any:
    return torch.matmul(torch.as_tensor(x), torch.as_tensor(y))


@on("Gemm")
def gemm(node: Any, opset: int, x: Any, y: Any, bias: Any = None) -> Any:
    a = node.attributes
    x = x.t() if a.get("transA") else x
    y = y if a.get("transB") else y.t()
    plain = a.get("alpha", 1.0) == 1.0 and a.get("beta", 1.0) == 1.0
    if plain and (bias is None or (isinstance(bias, torch.Tensor) and bias.shape == y.shape[:1])):
        return functional.linear(x, y, bias)
    done = functional.linear(x, y)
    done = done * a["alpha"] if a.get("alpha", 1.0) != 1.0 else done
    if bias is None:
        return done
    bias = tensor(bias)
    return done + (bias * a["beta"] if a.get("beta", 1.0) != 1.0 else bias)


@on("Einsum")
def einsum(node: Any, opset: int, *given: Any) -> Any:
    return torch.einsum(node.attributes["equation"], *(torch.as_tensor(x) for x in given))


def _padded(node: Any, x: Any, kernel: list[int], value: float = 0.0) -> tuple[Any, Any]:
    """The input with its padding where that is not the same before and behind, and the padding that is left."""
    a, n = node.attributes, x.dim() - 2
    auto = a.get("auto_pad", "NOTSET")
    strides, dilations = a.get("strides", [1] * n), a.get("dilations", [1] * n)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for side, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            whole = max((-(-side // s) - 1) * s + d * (k - 1) + 1 - side, 0)
            less, more = whole // 2, whole - whole // 2
            pairs.append((less, more) if auto == "SAME_UPPER" else (more, less))
    elif auto == "VALID":
        return x, [0] * n
    else:
        pads = a.get("pads", [0] * 2 * n)
        pairs = list(zip(pads[:n], pads[n:], strict=True))
    if all(before == behind for before, behind in pairs):
        return x, [before for before, _ in pairs]
    return functional.pad(x, [side for pair in reversed(pairs) for side in pair], value=value), [0] * n


@on("Conv")
def conv(node: Any, opset: int, x: Any, weight: Any, bias: Any = None) -> Any:
    a, n = node.attributes, x.dim() - 2
    x, padding = _padded(node, x, list(weight.shape[2:]))
    function = getattr(functional, f"conv{n}d")
    return function(x, weight, tensor(bias), a.get("strides", 1), padding, a.get("dilations", 1), a.get("group", 1))


@on("ConvTranspose")
def conv_transpose(node: Any, opset: int, x: Any, weight: Any, bias: Any = None) -> Any:
    a, n = node.attributes, x.dim() - 2
    if a.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or a.get("output_shape"):
        raise TraceError("a transposed convolution with a given output shape is not supported")
    pads, more = a.get("pads", [0] * 2 * n), list(a.get("output_padding", [0] * n))
    extra = [before - behind for before, behind in zip(pads[:n], pads[n:], strict=True)]
    more = [one + other for one, other in zip(more, extra, strict=True)]
    if min(more, default=0) < 0:
        raise TraceError("a transposed convolution that cuts more behind than before is not supported")
    function = getattr(functional, f"conv_transpose{n}d")
    return function(x, weight, tensor(bias), a.get("strides", 1), pads[:n], more, a.get("group", 1),
                    a.get("dilations", 1))  # fmt: skip


@on("LSTM", "GRU", "RNN")
def recurrent(node: Any, opset: int, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, *state: Any) -> Any:
    a = node.attributes
    directions, hidden = r.shape[0], r.shape[-1]
    if len(state) > 2 and state[2] is not None:
        raise TraceError("an LSTM with peepholes is not supported")
    if a.get("layout") or a.get("direction") == "reverse":
        raise TraceError(f"{node.op} with this layout or direction is not supported")
    weights = []
    for way in range(directions):
        weights += [w[way], r[way]]
        if b is not None:
            weights += list(b[way].chunk(2))
    n = x.shape[1]
    begin = torch.empty(directions, n, hidden, dtype=x.dtype, device="meta")
    options = (b is not None, 1, 0.0, False, directions == 2, False)
    if node.op == "LSTM":
        out, *states = torch.lstm(x, [begin, begin], weights, *options)
    elif node.op == "GRU":
        out, *states = torch.gru(x, begin, weights, *options)
    else:
        act = (a.get("activations") or ["Tanh"])[0].lower()
        out, *states = (torch.rnn_relu if act == "relu" else torch.rnn_tanh)(x, begin, weights, *options)
    out = out.view(x.shape[0], n, directions, hidden).transpose(1, 2)
    return (out, *states)


# ---------------------------------------------------------------------------------------------------- normalization


@on("BatchNormalization")
def batch_norm(node: Any, opset: int, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    mean, var, weight, bias = (torch.as_tensor(one) for one in (mean, var, weight, bias))
    return functional.batch_norm(x, mean, var, weight, bias, eps=node.attributes.get("epsilon", 1e-5))


@on("LayerNormalization")
def layer_norm(node: Any, opset: int, x: Any, weight: Any = None, bias: Any = None) -> Any:
    axis = node.attributes.get("axis", -1) % x.dim()
    return functional.layer_norm(x, x.shape[axis:], weight, bias)


@on("InstanceNormalization")
def instance_norm(node: Any, opset: int, x: Any, weight: Any, bias: Any) -> Any:
    return functional.instance_norm(x, weight=torch.as_tensor(weight), bias=torch.as_tensor(bias))


@on("GroupNormalization")
def group_norm(node: Any, opset: int, x: Any, weight: Any, bias: Any) -> Any:
    groups = node.attributes["num_groups"]
    if weight.shape[0] != x.shape[1]:  # before version 21: one a group
        raise TraceError("a group norm with a scale a group is not supported")
    return functional.group_norm(x, groups, weight, bias)


@on("RMSNormalization")
def rms_norm(node: Any, opset: int, x: Any, weight: Any = None) -> Any:
    axis = node.attributes.get("axis", -1) % x.dim()
    return functional.rms_norm(x, x.shape[axis:], weight)


# ---------------------------------------------------------------------------------------------------------- pooling


@on("MaxPool")
def max_pool(node: Any, opset: int, x: Any) -> Any:
    a = node.attributes
    kernel = list(a["kernel_shape"])
    x, padding = _padded(node, x, kernel, float("-inf"))
    function = getattr(functional, f"max_pool{len(kernel)}d")
    return function(x, kernel, a.get("strides", [1] * len(kernel)), padding, a.get("dilations", 1),
                    bool(a.get("ceil_mode", 0)))  # fmt: skip


@on("AveragePool")
def average_pool(node: Any, opset: int, x: Any) -> Any:
    a = node.attributes
    kernel = list(a["kernel_shape"])
    x, padding = _padded(node, x, kernel)
    function = getattr(functional, f"avg_pool{len(kernel)}d")
    return function(x, kernel, a.get("strides", [1] * len(kernel)), padding, bool(a.get("ceil_mode", 0)))


@on("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: Any, opset: int, x: Any) -> Any:
    kind = "avg" if node.op == "GlobalAveragePool" else "max"
    return getattr(functional, f"adaptive_{kind}_pool{x.dim() - 2}d")(x, 1)


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(node: Any, opset: int, x: Any, axes: Any = None) -> Any:
        found = _axes(node, axes)
        if not found and node.attributes.get("noop_with_empty_axes"):
            return x
        return function(x, found or list(range(x.dim())), bool(node.attributes.get("keepdims", 1)))

    return run


for _name, _function in {
    "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax, "ReduceMin": torch.amin,
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep),
    "ReduceLogSumExp": torch.logsumexp,
}.items():  # fmt: skip
    FUNCTIONS.add(_name, _reduce(_function))


@on("ArgMax", "ArgMin")
def arg(node: Any, opset: int, x: Any) -> Any:
    function = torch.argmax if node.op == "ArgMax" else torch.argmin
    return function(x, node.attributes.get("axis", 0), bool(node.attributes.get("keepdims", 1)))


@on("TopK")
def topk(node: Any, opset: int, x: Any, k: Any = None) -> Any:
    count = node.attributes["k"] if k is None else ints(k, "the number of TopK")[0]
    return tuple(torch.topk(x, count, node.attributes.get("axis", -1)))


# ------------------------------------------------------------------------------------------------------------ views


@on("Transpose")
def transpose(node: Any, opset: int, x: Any) -> Any:
    return x.permute(node.attributes.get("perm") or list(range(x.dim()))[::-1])


@on("Reshape")
def reshape(node: Any, opset: int, x: Any, shape: Any) -> Any:
    sides = ints(shape, "a shape")
    if not node.attributes.get("allowzero"):
        sides = [x.shape[i] if side == 0 else side for i, side in enumerate(sides)]
    return torch.as_tensor(x).reshape(sides)


@on("Flatten")
def flatten(node: Any, opset: int, x: Any) -> Any:
    axis = node.attributes.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    before = 1
    for side in x.shape[:axis]:
        before *= side
    return x.reshape(before, -1)


@on("Squeeze")
def squeeze(node: Any, opset: int, x: Any, axes: Any = None) -> Any:
    found = _axes(node, axes)
    return x.squeeze() if found is None else x.squeeze(tuple(found))


@on("Unsqueeze")
def unsqueeze(node: Any, opset: int, x: Any, axes: Any = None) -> Any:
    found = _axes(node, axes) or []
    x = torch.as_tensor(x)
    rank = x.dim() + len(found)
    for axis in sorted(axis % rank for axis in found):
        x = x.unsqueeze(axis)
    return x


@on("Concat")
def concat(node: Any, opset: int, *given: Any) -> Any:
    return torch.cat([torch.as_tensor(x) for x in given], node.attributes["axis"])


@on("Split")
def split(node: Any, opset: int, x: Any, sizes: Any = None) -> Any:
    axis, parts = node.attributes.get("axis", 0), len(node.outputs)
    found = node.attributes.get("split") if sizes is None else ints(sizes, "the sizes of Split")
    return tuple(x.split(found if found else -(-x.shape[axis] // parts), axis))


@on("Slice")
def cut(node: Any, opset: int, x: Any, *given: Any) -> Any:
    a = node.attributes
    starts, ends, axes, steps = (*given, *[None] * 4)[:4]
    starts = a["starts"] if starts is None else ints(starts, "the start of a slice")
    ends = a["ends"] if ends is None else ints(ends, "the end of a slice")
    axes = a.get("axes", list(range(len(starts)))) if axes is None else ints(axes, "the axis of a slice")
    steps = [1] * len(starts) if steps is None else ints(steps, "the step of a slice")
    x = torch.as_tensor(x)
    for begin, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            if step != -1 or begin not in (-1, x.shape[axis] - 1) or end > -x.shape[axis]:
                raise TraceError("a slice with a negative step is not supported")
            x = x.flip(axis)
        else:
            x = torch.ops.aten.slice(x, axis, begin, min(end, 2**62), step)
    return x


@on("Gather")
def gather(node: Any, opset: int, x: Any, at: Any) -> Any:
    axis = node.attributes.get("axis", 0)
    x = torch.as_tensor(x)
    if not isinstance(at, torch.Tensor):
        array = np.asarray(at)
        if array.ndim == 0:
            return x.select(axis, int(array))
        at = torch.from_numpy(np.array(array))
    if isinstance(x, torch.nn.Parameter) and x.dim() == 2 and axis == 0:
        return functional.embedding(at, x)
    before, behind = x.shape[:axis], x.shape[axis % x.dim() + 1 :]
    done = x.index_select(axis, at.reshape(-1))
    return done if at.dim() == 1 else done.reshape(*before, *at.shape, *behind)


@on("GatherElements")
def gather_elements(node: Any, opset: int, x: Any, at: Any) -> Any:
    return torch.gather(x, node.attributes.get("axis", 0), torch.as_tensor(at))


@on("ScatterND")
def scatter(node: Any, opset: int, x: Any, at: Any, new: Any) -> Any:
    x, at, new = (torch.as_tensor(one) for one in (x, at, new))
    return torch.index_put(x, tuple(at.unbind(-1)), new.to(x.dtype), node.attributes.get("reduction") == "add")


@on("Expand")
def expand(node: Any, opset: int, x: Any, shape: Any) -> Any:
    x = torch.as_tensor(x)
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(ints(shape, "a shape"))))


@on("Tile")
def tile(node: Any, opset: int, x: Any, times: Any) -> Any:
    return torch.as_tensor(x).repeat(ints(times, "the number of copies"))


@on("Pad")
def pad(node: Any, opset: int, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    sides = node.attributes["pads"] if pads is None else ints(pads, "a padding")
    rank = x.dim()
    where = list(range(rank)) if axes is None else [axis % rank for axis in ints(axes, "an axis")]
    pairs = [(0, 0)] * rank
    for i, axis in enumerate(where):
        pairs[axis] = (sides[i], sides[i + len(where)])
    mode = str(node.attributes.get("mode", "constant"))
    mode = {"edge": "replicate", "wrap": "circular"}.get(mode, mode)
    while mode != "constant" and len(pairs) > 2 and pairs[0] == (0, 0):
        pairs = pairs[1:]
    flat = [side for pair in reversed(pairs) for side in pair]
    if not any(flat):
        return x
    return functional.pad(x, flat, mode=mode)


@on("Trilu")
def triangle(node: Any, opset: int, x: Any, k: Any = None) -> Any:
    function = torch.triu if node.attributes.get("upper", 1) else torch.tril
    return function(torch.as_tensor(x), 0 if k is None else ints(k, "a diagonal")[0])


@on("ConstantOfShape")
def filled(node: Any, opset: int, shape: Any) -> Any:
    from onnx import numpy_helper

    value = numpy_helper.to_array(node.attributes["value"])[0].item() if "value" in node.attributes else 0.0
    return torch.full(ints(shape, "a shape"), value, device="meta")


@on("DepthToSpace")
def depth_to_space(node: Any, opset: int, x: Any) -> Any:
    return functional.pixel_shuffle(x, node.attributes["blocksize"])


@on("SpaceToDepth")
def space_to_depth(node: Any, opset: int, x: Any) -> Any:
    return functional.pixel_unshuffle(x, node.attributes["blocksize"])


@on("Resize", "Upsample")
def resize(node: Any, opset: int, x: Any, *given: Any) -> Any:
    a = node.attributes
    roi, scales, sizes = (*given, None, None, None)[:3] if node.op == "Resize" and opset > 10 else (None, *given, None)
    if sizes is not None and np.size(sizes):
        out = ints(sizes, "a size")
    else:
        factors = a.get("scales") if scales is None else np.atleast_1d(scales).tolist()
        if factors is None or isinstance(scales, torch.Tensor):
            raise TraceError("a scale depends on the value of a tensor, which a trace does not compute")
        out = [int(side * factor) for side, factor in zip(x.shape, factors, strict=True)]
    if out[:2] != list(x.shape[:2]) or a.get("axes") or a.get("antialias"):
        raise TraceError(f"{node.op} of other axes than the sides of an image is not supported")
    mode = a.get("mode", "nearest")
    names = {"linear": ["linear", "bilinear", "trilinear"][x.dim() - 3], "cubic": "bicubic", "nearest": "nearest"}
    return functional.interpolate(x, out[2:], mode=names[mode])
