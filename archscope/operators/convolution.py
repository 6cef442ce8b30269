"""Convolutions: plain, transposed, deformable."""

from fractions import Fraction
from math import prod
from typing import Any

from archscope.core.errors import ShapeError
from archscope.core.record import Tensor
from archscope.operators.rule import (
    RULES,
    Maybe,
    Rule,
    Work,
    by_x,
    op,
    per_axis,
    positive,
    same,
    same_dtype,
    split_batch,
)


def _conv(n: int) -> Rule:
    what = f"a {n}-d convolution"

    def conv(
        input: Tensor, weight: Tensor, bias: Maybe = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
        groups: int = 1,
    ) -> Work:  # fmt: skip
        # [N, c_out, (h + 2p − d(k − 1) − 1)//s + 1, …] = conv([N, c_in, h, …], [c_out, c_in/g, k, …], [c_out])
        batch, c_in, sides = split_batch(input, n, what)
        c_out, c_in_g, *k = weight.shape
        same_dtype(what, input, weight, bias)
        s, d = per_axis(stride, n, "stride"), per_axis(dilation, n, "dilation")
        positive("groups", [groups])
        positive("stride", s)
        positive("dilation", d)
        positive("kernel_size", k)
        same("input channels", c_in_g * groups, c_in)
        if any([m < 1 for m in sides]) and prod(batch):
            raise ShapeError(f"{what} needs sides of at least 1, gets {by_x(sides)}")
        if c_out % groups:
            raise ShapeError(f"{c_out} output channels cannot be split into {groups} groups")
        if padding == "same":
            if max(s) > 1 or any([m < 1 for m in sides]):
                raise ShapeError(
                    f"padding='same' needs stride 1 and sides of at least 1, gets {by_x(s)} and {by_x(sides)}"
                )
            out = sides
        else:
            p = (0,) * n if padding == "valid" else per_axis(padding, n, "padding")
            positive("padding", p, 0)
            out = []
            for m, ki, si, pi, di in zip(sides, k, s, p, d, strict=True):
                rest = m + 2 * pi - di * (ki - 1) - 1
                if rest < 0:
                    raise ShapeError(
                        f"the kernel spans {di * (ki - 1) + 1} and the padded input only {m + 2 * pi} = {m} + 2·{pi}"
                    )
                out.append(rest // si + 1)
        outputs = prod(batch) * c_out * prod(out)
        macs = outputs * prod(k) * c_in_g
        reach = tuple([(di * (ki - 1) + 1, si) for ki, si, di in zip(k, s, d, strict=True)])
        return Work(((*batch, c_out, *out),), macs, 2 * macs + (outputs if bias is not None else 0), reach)

    return conv


def _conv_transpose(n: int) -> Rule:
    def conv_transpose(
        input: Tensor, weight: Tensor, bias: Maybe = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
        groups: int = 1, dilation: Any = 1,
    ) -> Work:  # fmt: skip
        # [N, c_out, (h − 1)s − 2p + d(k − 1) + o + 1, …] = conv_transpose([N, c_in, h, …], [c_in, c_out/g, k, …])
        what = f"a {n}-d transposed convolution"
        batch, c_in, sides = split_batch(input, n, what)
        c_in_w, c_out_g, *k = weight.shape
        same_dtype(what, input, weight, bias)
        s, p, d = per_axis(stride, n, "stride"), per_axis(padding, n, "padding"), per_axis(dilation, n, "dilation")
        o = per_axis(output_padding, n, "output_padding")
        positive("groups", [groups])
        positive("stride", s)
        positive("dilation", d)
        positive("kernel_size", k)
        positive("padding", p, 0)
        positive("output_padding", o, 0)
        same("input channels", c_in_w, c_in)
        if c_in % groups:
            raise ShapeError(f"{c_in} input channels cannot be split into {groups} groups")
        for oi, si, di in zip(o, s, d, strict=True):
            if oi >= max(si, di):
                raise ShapeError(f"output_padding {oi} must be smaller than stride {si} or dilation {di}")
        out = tuple(
            (m - 1) * si - 2 * pi + di * (ki - 1) + oi + 1
            for m, ki, si, pi, di, oi in zip(sides, k, s, p, d, o, strict=True)
        )
        smallest = 1 if prod(batch) else 0
        # an empty batch may have empty sides, and padding may take a side of the output to 0
        if min(out) < 0 or any([m < smallest for m in sides]):
            raise ShapeError(f"an input of {by_x(sides)} would give an output of {by_x(out)}")
        inputs, outputs = prod(batch) * c_in * prod(sides), prod(batch) * c_out_g * groups * prod(out)
        macs = inputs * prod(k) * c_out_g
        reach = tuple((Fraction(di * (ki - 1) + 1, si), Fraction(1, si)) for ki, si, di in zip(k, s, d, strict=True))
        shape = (*batch, c_out_g * groups, *out)
        return Work((shape,), macs, 2 * macs + (outputs if bias is not None else 0), reach)

    return conv_transpose


for _n in (1, 2, 3):
    op(f"aten.conv{_n}d")(_conv(_n))
    op(f"aten.conv_transpose{_n}d")(_conv_transpose(_n))


@op("aten.convolution", "aten._convolution")
def convolution(input: Tensor, weight: Tensor, bias: Maybe, transposed: bool, output_padding: Any, **more: Any) -> Work:
    # the general form, reached when a model calls torch.convolution itself, or was traced by torch.jit
    for switch in ("benchmark", "deterministic", "cudnn_enabled", "allow_tf32"):
        more.pop(switch, None)
    n = len(weight.shape) - 2
    if transposed:
        return _conv_transpose(n)(input, weight, bias, output_padding=output_padding, **more)
    return _conv(n)(input, weight, bias, **more)


@op("torchvision.deform_conv2d")
def deform_conv2d(input: Tensor, weight: Tensor, bias: Tensor, groups: int, use_mask: bool, **more: Any) -> Work:
    # [N, c_out, h, w] = conv([N, c_in, …], [c_out, c_in/g, k, k]), each weight at an offset of its own, interpolated
    at = [(more[f"{name}_h"], more[f"{name}_w"]) for name in ("stride", "pad", "dilation")]
    plain = RULES["aten.conv2d"](input, weight, bias, *at, groups)
    assert plain.shapes is not None
    n, _, h, w = plain.shapes[0]
    sampled = n * input.shape[1] * prod(weight.shape[2:]) * h * w
    return plain._replace(flops=plain.flops + sampled * (9 if use_mask else 8), reach=None)
