"""Resampling, padding and regions of images."""

from collections.abc import Sequence
from fractions import Fraction
from math import floor, prod
from typing import TYPE_CHECKING, Any

from archscope.core.errors import ShapeError
from archscope.core.record import Op, Shape, Tensor
from archscope.operators.indexing import indices
from archscope.operators.rule import (
    KEEPS,
    SHOWN,
    ZERO,
    Maybe,
    Rule,
    Work,
    aten,
    axes_of,
    by_output,
    by_x,
    free,
    op,
    per_axis,
    shape,
    upper_bound,
)  # fmt: skip

if TYPE_CHECKING:
    import torch


@op("aten.pixel_shuffle")
def pixel_shuffle(self: Tensor, upscale_factor: int) -> Work:
    # [*, c, h·r, w·r] = pixel_shuffle([*, c·r², h, w])
    r = upscale_factor
    if len(self.shape) < 3 or r < 1 or self.shape[-3] % r**2:
        raise ShapeError(f"pixel shuffle by {r} needs [*, c·{r}², h, w], gets {by_x(self.shape)}")
    *n, c, h, w = self.shape
    return Work(((*n, c // r**2, h * r, w * r),), reach=((1, Fraction(1, r)),) * 2)


@op("aten.pixel_unshuffle")
def pixel_unshuffle(self: Tensor, downscale_factor: int) -> Work:
    # [*, c·r², h, w] = pixel_unshuffle([*, c, h·r, w·r])
    r = downscale_factor
    if len(self.shape) < 3 or r < 1 or self.shape[-2] % r or self.shape[-1] % r:
        raise ShapeError(f"pixel unshuffle by {r} needs [*, c, h·{r}, w·{r}], gets {by_x(self.shape)}")
    *n, c, h, w = self.shape
    return Work(((*n, c * r**2, h // r, w // r),), reach=((r, Fraction(r)),) * 2)


SHOWN.add("aten.pixel_shuffle")


@op("aten.pad")
def pad(self: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Work:
    return Work((_padded(self, pad, mode),))


def _padded(self: Tensor, pad: Sequence[int], mode: str) -> Shape:
    # [*, h + before + after, …] = pad([*, h, …], (…, before, after)): pairs from the last axis forward
    n, axes = len(pad) // 2, len(self.shape)
    if len(pad) % 2 or n > axes or (mode != "constant" and (not 1 <= n <= 3 or axes not in (n + 1, n + 2))):
        raise ShapeError(f"{mode} padding of {axes} axes by {list(pad)}: one pair an axis, from the last forward")
    out = list(self.shape)
    for i in range(n):
        m, before, after = self.shape[-1 - i], pad[2 * i], pad[2 * i + 1]
        most = {"reflect": m - 1, "circular": m}.get(mode)
        if most is not None and max(before, after) > most:
            raise ShapeError(f"{mode} padding of a side of {m} is at most {most}, gets {max(before, after)}")
        least = 1 if mode == "replicate" else 0
        cut = min(before, 0) + min(after, 0) if mode in ("constant", "circular") else before + after
        if m + cut < least or m + before + after < least:
            raise ShapeError(f"padding a side of {m} by {before} and {after} leaves {m + before + after}")
        out[-1 - i] += before + after
    if mode == "reflect" and not any([m > 0 for m in out[-n:]]):
        raise ShapeError(f"reflect padding by {list(pad)} leaves nothing of {by_x(self.shape[-n:])}")
    if mode in ("reflect", "replicate") and not prod(self.shape[-n - 1 :]):
        raise ShapeError(f"{mode} padding needs a non-empty input, gets {by_x(self.shape)}")
    return tuple(out)


free("constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d")
free("replication_pad3d _pad_circular")
KEEPS.update(aten("pad constant_pad_nd reflection_pad2d replication_pad2d"))


@shape("aten.constant_pad_nd")
def constant_pad(self: Tensor, pad: Sequence[int], **_: Any) -> tuple[Shape, ...]:
    return (_padded(self, pad, "constant"),)


def _upsample(n: int, cost: int) -> Rule:
    def upsample(self: Maybe = None, output_size: Any = None, *_: Any, input: Maybe = None, **more: Any) -> Work:
        # [N, c, ⌊h·factor⌋, …] = upsample([N, c, h, …])
        x = self or input
        assert x is not None
        *batch, c = axes_of(x, f"the input of {n}-d interpolation", n + 2)[:2]
        sides = x.shape[2:]
        if output_size is None:
            factors = per_axis(more["scale_factors"], n, "scale_factors")
            out = tuple([floor(m * factor) for m, factor in zip(sides, factors, strict=True)])
        else:
            out = per_axis(output_size, n, "output_size")
        if any([m < 1 for m in (*sides, *out)]):
            raise ShapeError(f"interpolation needs sides of at least 1, gets {by_x(sides)} and gives {by_x(out)}")
        shape = (*batch, c, *out)
        return Work((shape,), 0, cost * prod(shape))

    return upsample


for _kind, _n, _cost in (
    *(("nearest", n, 0) for n in (1, 2, 3)),
    *(("linear", 1, 4), ("bilinear", 2, 8), ("trilinear", 3, 16), ("bicubic", 2, 32)),
):
    op(f"aten.upsample_{_kind}{_n}d")(_upsample(_n, _cost))


for _n in (1, 2, 3):
    op(f"aten._upsample_nearest_exact{_n}d")(_upsample(_n, 0))


@by_output(
    "aten._upsample_bilinear2d_aa", "aten._upsample_bicubic2d_aa", "aten.grid_sampler_2d", "aten.grid_sampler_3d"
)
def interpolate(operator: Op) -> Work:
    # linear in n dimensions: 2^n neighbours, a product and an addition each; cubic: 4·4 of them
    cost = 32 if "bicubic" in operator.name else 16 if "3d" in operator.name else 8
    return Work(None, 0, cost * operator.outputs[0].numel)


@op("torchvision.roi_align")
def roi_align(
    input: Tensor, rois: Tensor, pooled_height: int, pooled_width: int, sampling_ratio: int, **more: Any
) -> Work:
    # [K, c, h, w] = align([N, c, …], [K, 5]): s·s samples a cell, interpolated, and their mean
    if len(input.shape) != 4 or len(rois.shape) != 2 or rois.shape[1] != 5:
        raise ShapeError(f"expects [N, c, h, w] and boxes [K, 5], gets {by_x(input.shape)} and {by_x(rois.shape)}")
    out = (rois.shape[0], input.shape[1], pooled_height, pooled_width)
    samples = max(sampling_ratio, 1) ** 2  # a ratio below 1 takes as many as the box is large: at least one
    return Work((out,), flops=prod(out) * samples * 9)


ZERO.add("torchvision.nms")


@upper_bound("torchvision.nms")
def nms(boxes: "torch.Tensor", scores: "torch.Tensor", iou_threshold: float) -> "torch.Tensor":
    """Every box is kept."""
    return indices(len(boxes))
