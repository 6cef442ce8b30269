"""Nodes that are layers of PyTorch: the layer, built with the weights of the graph, None where it is another."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from archscope.core.registry import Registry
from archscope.sources.graphs.graph import Graph, Node

Make = Callable[[Node, list[Any], Graph], nn.Module | None]
LAYERS: Registry[Make] = Registry("layer of ONNX")


def _weight(known: list[Any], i: int) -> torch.Tensor | None:
    return known[i] if i < len(known) and isinstance(known[i], torch.Tensor) else None


def _rank(node: Node, graph: Graph) -> int | None:
    """Axes of the first input."""
    declared = graph.shapes.get(node.inputs[0])
    return None if declared is None else len(declared.shape)


def symmetric(node: Node, sides: int) -> tuple[int, ...] | None:
    """The padding of each side, None where it differs before and behind."""
    if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    pads = node.attributes.get("pads", [0] * 2 * sides)
    before, behind = tuple(pads[:sides]), tuple(pads[sides:])
    return before if before == behind and min(before, default=0) >= 0 else None


def _with(layer: nn.Module, **weights: torch.Tensor | None) -> nn.Module:
    for name, weight in weights.items():
        if weight is not None:
            layer._parameters.pop(name, None)
            layer._buffers.pop(name, None)
            group: dict[str, Any] = layer._parameters if isinstance(weight, nn.Parameter) else layer._buffers
            group[name] = weight
    return layer


@LAYERS.register("Conv", "ConvTranspose")
def convolution(node: Node, known: list[Any], graph: Graph) -> nn.Module | None:
    weight, bias = _weight(known, 1), _weight(known, 2)
    missing_bias = len(node.inputs) > 2 and node.inputs[2] and bias is None
    if weight is None or missing_bias or not 3 <= weight.dim() <= 5:
        return None
    a, n = node.attributes, weight.dim() - 2
    padding = symmetric(node, n)
    if padding is None or a.get("output_shape"):
        return None
    groups, kernel = a.get("group", 1), tuple(weight.shape[2:])
    options: dict[str, Any] = {
        "stride": tuple(a.get("strides", [1] * n)), "padding": padding, "groups": groups, "bias": bias is not None,
        "dilation": tuple(a.get("dilations", [1] * n)),
    }  # fmt: skip
    if node.op == "Conv":
        made = getattr(nn, f"Conv{n}d")(weight.shape[1] * groups, weight.shape[0], kernel, **options)
    else:
        options["output_padding"] = tuple(a.get("output_padding", [0] * n))
        made = getattr(nn, f"ConvTranspose{n}d")(weight.shape[0], weight.shape[1] * groups, kernel, **options)
    return _with(made, weight=weight, bias=bias)


@LAYERS.register("BatchNormalization")
def batch_norm(node: Node, known: list[Any], graph: Graph) -> nn.Module | None:
    rank = _rank(node, graph)
    weight, bias, mean, var = (_weight(known, i) for i in range(1, 5))
    if rank is None or weight is None or bias is None or mean is None or var is None or not 2 <= rank <= 5:
        return None
    made = getattr(nn, f"BatchNorm{max(rank - 2, 1)}d")(weight.shape[0], eps=node.attributes.get("epsilon", 1e-5))
    made._buffers["num_batches_tracked"] = None
    mean, var = (torch.empty_like(one) if isinstance(one, nn.Parameter) else one for one in (mean, var))  # stored once
    return _with(made, weight=weight, bias=bias, running_mean=mean, running_var=var)


@LAYERS.register("Gemm")
def linear(node: Node, known: list[Any], graph: Graph) -> nn.Module | None:
    weight, bias = _weight(known, 1), _weight(known, 2)
    a = node.attributes
    plain = a.get("transB") == 1 and not a.get("transA") and a.get("alpha", 1.0) == 1.0 and a.get("beta", 1.0) == 1.0
    whole = len(node.inputs) < 3 or not node.inputs[2] or (bias is not None and bias.dim() == 1)
    if not plain or not whole or weight is None or weight.dim() != 2:
        return None
    if bias is not None and bias.shape[0] != weight.shape[0]:
        return None
    return _with(nn.Linear(weight.shape[1], weight.shape[0], bias is not None), weight=weight, bias=bias)


@LAYERS.register("LayerNormalization")
def layer_norm(node: Node, known: list[Any], graph: Graph) -> nn.Module | None:
    weight, bias = _weight(known, 1), _weight(known, 2)
    axis, rank = node.attributes.get("axis", -1), _rank(node, graph)
    if weight is None or rank is None or len(node.outputs) > 1 or (len(node.inputs) > 2 and bias is None):
        return None
    if weight.dim() != (-axis if axis < 0 else rank - axis):
        return None
    made = nn.LayerNorm(list(weight.shape), eps=node.attributes.get("epsilon", 1e-5), bias=bias is not None)
    return _with(made, weight=weight, bias=bias)


@LAYERS.register("MaxPool", "AveragePool")
def pool(node: Node, known: list[Any], graph: Graph) -> nn.Module | None:
    a = node.attributes
    kernel = tuple(a["kernel_shape"])
    n = len(kernel)
    padding = symmetric(node, n)
    if padding is None or len([name for name in node.outputs if name]) > 1 or not 1 <= n <= 3:
        return None
    options: dict[str, Any] = {"stride": tuple(a.get("strides", [1] * n)), "padding": padding,
                               "ceil_mode": bool(a.get("ceil_mode", 0))}  # fmt: skip
    dilation = tuple(a.get("dilations", [1] * n))
    if node.op == "MaxPool":
        return getattr(nn, f"MaxPool{n}d")(kernel, dilation=dilation, **options)
    if set(dilation) != {1}:
        return None
    return getattr(nn, f"AvgPool{n}d")(kernel, count_include_pad=bool(a.get("count_include_pad", 0)), **options)


@LAYERS.register("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: Node, known: list[Any], graph: Graph) -> nn.Module | None:
    rank = _rank(node, graph)
    if rank is None or not 3 <= rank <= 5:
        return None
    kind = "Avg" if node.op == "GlobalAveragePool" else "Max"
    return getattr(nn, f"Adaptive{kind}Pool{rank - 2}d")(1)


@LAYERS.register("LRN")
def local_response(node: Node, known: list[Any], graph: Graph) -> nn.Module | None:
    a = node.attributes
    return nn.LocalResponseNorm(a["size"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1.0))


@LAYERS.register("Flatten")
def flatten(node: Node, known: list[Any], graph: Graph) -> nn.Module | None:
    return nn.Flatten() if node.attributes.get("axis", 1) == 1 else None


@LAYERS.register("Clip")
def clip(node: Node, known: list[Any], graph: Graph) -> nn.Module | None:
    low, high = (known[1:3] + [None, None])[:2]
    if low is None and high is None:
        low, high = node.attributes.get("min"), node.attributes.get("max")
    return nn.ReLU6() if low is not None and high is not None and (float(low), float(high)) == (0.0, 6.0) else None


@LAYERS.register("Softmax", "LogSoftmax")
def softmax(node: Node, known: list[Any], graph: Graph) -> nn.Module | None:
    if graph.opset < 13:  # before, everything behind the axis was one
        return None
    return getattr(nn, node.op)(dim=node.attributes.get("axis", -1))


@LAYERS.register("Gelu")
def gelu(node: Node, known: list[Any], graph: Graph) -> nn.Module | None:
    return nn.GELU(approximate=node.attributes.get("approximate", "none"))


_ACTIVATIONS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "Relu": lambda a: nn.ReLU(), "Sigmoid": lambda a: nn.Sigmoid(), "Tanh": lambda a: nn.Tanh(),
    "LeakyRelu": lambda a: nn.LeakyReLU(a.get("alpha", 0.01)), "Elu": lambda a: nn.ELU(a.get("alpha", 1.0)),
    "Selu": lambda a: nn.SELU(), "Celu": lambda a: nn.CELU(a.get("alpha", 1.0)), "Softplus": lambda a: nn.Softplus(),
    "Softsign": lambda a: nn.Softsign(), "Mish": lambda a: nn.Mish(), "HardSwish": lambda a: nn.Hardswish(),
    "HardSigmoid": lambda a: nn.Hardsigmoid(),
}  # fmt: skip


def _activation(make: Callable[[dict[str, Any]], nn.Module]) -> Make:
    return lambda node, known, graph: make(node.attributes)


for _op, _made in _ACTIVATIONS.items():
    LAYERS.add(_op, _activation(_made))
