"""Depthwise separable against standard, small kernels against a large one, a fully connected layer as a convolution."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

from archscope.core.document import Equation, Section
from archscope.core.expression import product, ratio, symbol, symbols
from archscope.core.record import Tensor, Trace
from archscope.layers import derive
from archscope.learn.comparisons.base import (
    ComparedRow,
    Instance,
    comparison,
    conv_before,
    convolutions_of,
    kernel_of,
    made_by,
    otherwise,
    sum_of,
    times,
    totals_of,
)

_HOWARD = "A. Howard et al.: MobileNets. arXiv:1704.04861 (2017), section 3.1: the last equation is the ratio"


@comparison("Depthwise separable against standard convolution")
def depthwise_separable(trace: Trace, items: Sequence[ComparedRow]) -> Iterator[Instance]:
    """A convolution of each channel alone, then a 1×1 over the channels: 1/c_out + 1/k² of the cost."""
    convs = convolutions_of(items)
    for i, deep in enumerate(convs):
        c = deep.config["in_channels"]
        if deep.config["groups"] != c or deep.config["out_channels"] != c or c == 1:
            continue
        wide = next((one for one in convs[i + 1 :] if one.row.inputs[0].shape == deep.row.outputs[0].shape), None)
        if wide is None or set(kernel_of(wide)) != {1} or wide.config["groups"] != 1 or wide.config["in_channels"] != c:
            continue
        standard = otherwise(deep, groups=1, out_channels=wide.config["out_channels"], bias=wide.config["bias"])
        c_out = symbol("c_out", wide.config["out_channels"])
        k_h, k_w = (symbol(f"k_{axis}", k) for axis, k in zip("hw", kernel_of(deep), strict=True))
        share = ratio(1, c_out) + ratio(1, k_h * k_w)
        here, there = int(deep.derived.macs) + int(wide.derived.macs), int(standard.macs)
        if share.value != Fraction(here, there):
            continue  # the 1×1 strides, say
        apart = sum_of(depthwise=int(deep.derived.params), pointwise=int(wide.derived.params))
        yield Instance(
            (deep.row.path, wide.row.path),
            Section(
                f"{deep.row.path} and {wide.row.path}",
                (f"A {times(kernel_of(deep))} convolution of each channel alone, then a 1×1 over all channels.",),
                (
                    Equation("depthwise MACs", deep.derived.macs),
                    Equation("pointwise MACs", wide.derived.macs),
                    Equation("together", sum_of(depthwise=int(deep.derived.macs), pointwise=int(wide.derived.macs))),
                    Equation("standard MACs", standard.macs),
                    Equation("cost ratio", share, "", _HOWARD),
                    Equation("parameters", apart),
                    Equation("standard parameters", standard.params),
                ),
            ),
            (here, there),
        )


@comparison("A fully connected layer as a convolution")
def dense_as_convolution(trace: Trace, items: Sequence[ComparedRow]) -> Iterator[Instance]:
    """Behind a flatten of [c, h, w] it is the convolution h×w with as many kernels as it has outputs."""
    for one in items:
        if one.kind != "Linear" or not one.check.agrees:
            continue
        source = _flattened(trace, one.row.inputs[0])
        if source is None or source.numel != one.row.inputs[0].numel or len(source.shape) != 4:
            continue
        config = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": one.config["bias"]}
        config |= {"kernel_size": source.shape[2:], "in_channels": source.shape[1]}
        conv = derive("Conv2d", {**config, "out_channels": one.config["out_features"]}, (source.shape,))
        if conv is None or totals_of([conv]) != totals_of([one.derived]):
            continue
        same = len({str(side) for side in conv.sides}) == 1
        sides = (
            [Equation("height and width", conv.sides[0], "h_out = w_out")]
            if same
            else [Equation("height", conv.sides[0], "h_out"), Equation("width", conv.sides[1], "w_out")]
        )
        yield Instance(
            (one.row.path,),
            Section(
                one.row.path,
                (
                    f"It follows a flatten of {times(source.shape[1:])}, and so it is the convolution "
                    f"{times(source.shape[2:])}, stride 1, no padding, {one.config['out_features']:,} kernels:",
                ),
                (
                    *sides,
                    Equation("parameters", conv.params),
                    Equation("parameters as fc", one.derived.params),
                    Equation("MACs", conv.macs),
                    Equation("MACs as fc", one.derived.macs),
                ),
                (
                    "The same weights in another order: on a larger picture the convolution slides, the fc refuses."
                    if source.numel > source.shape[0] * source.shape[1]
                    else "Behind a global pooling: one vector a picture, whatever its size.",
                ),
            ),
        )


def _flattened(trace: Trace, tensor: Tensor) -> Tensor | None:
    """The feature map whose flattening gave a tensor, through dropout and activations."""
    makers = made_by(trace)
    op = makers.get(tensor.id)
    while op is not None and op.inputs:
        if op.name in ("aten.flatten", "aten.view", "aten.reshape", "aten._unsafe_view"):
            return op.inputs[0]
        if op.inputs[0].shape != op.outputs[0].shape:
            return None
        op = makers.get(op.inputs[0].id)
    return None


_SIMONYAN = "K. Simonyan, A. Zisserman: Very deep convolutional networks. arXiv:1409.1556 (2014), section 2.3"


@comparison("Small kernels in a row against one large")
def stacked(trace: Trace, items: Sequence[ComparedRow]) -> Iterator[Instance]:
    """n convolutions k×k in a row see as far as one of n·(k − 1) + 1, with fewer weights and more nonlinearities."""
    plain = [one for one in convolutions_of(items) if _keeps(one)]
    stacks: list[list[ComparedRow]] = []
    for last in reversed(plain):
        if any(last in stack for stack in stacks):
            continue
        stack = [last]
        while (before := conv_before(trace, plain, stack[0])) is not None and before.config == last.config:
            stack.insert(0, before)
        if len(stack) > 1:
            stacks.insert(0, stack)
    for stack in stacks:
        first, last = stack[0], stack[-1]
        n, k, c = symbols(n=len(stack), k=kernel_of(last)[0], c=last.config["in_channels"])
        side = n * (k - 1) + 1
        wide = symbol("K", side.value)
        yield Instance(
            tuple(one.row.path for one in stack),
            Section(
                f"{first.row.path} to {last.row.path}",
                (f"{n.value} convolutions {times(kernel_of(last))} of {c.value} channels, one behind the other.",),
                (
                    Equation("they see", side, "K"),
                    Equation("their weights", product(n, k, k, c, c)),
                    Equation(f"one of {side.value}×{side.value}", product(wide, wide, c, c)),
                    Equation("weights kept", ratio(n * k * k, wide * wide), "", _SIMONYAN),
                ),
                ("The MACs are in the same proportion: every place of the output takes one a weight.",),
            ),
        )


def _keeps(one: ComparedRow) -> bool:
    """A square kernel that keeps sides and channels."""
    kernel, same = kernel_of(one), one.row.inputs[0].shape == one.row.outputs[0].shape
    plain = one.config["groups"] == 1 and set(one.config["stride"]) == set(one.config["dilation"]) == {1}
    return same and plain and len(set(kernel)) == 1 and kernel[0] > 1
