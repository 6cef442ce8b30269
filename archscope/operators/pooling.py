"""Pooling windows, and adaptive pooling."""

from fractions import Fraction
from math import prod
from typing import Any

from archscope.core.errors import ShapeError
from archscope.core.record import Op, Shape, Tensor
from archscope.operators.rule import Reach, Rule, Work, by_output, by_x, least, op, per_axis, positive, split_batch


def pooled(m: int, k: int, s: int, p: int, d: int, ceil_mode: bool) -> int:
    """Output side of a pooling window. With ceil_mode a last window that starts in the right padding is dropped."""
    span = d * (k - 1) + 1
    out = (m + 2 * p - span + (s - 1 if ceil_mode else 0)) // s + 1
    return least(out, (m + p + s - 1) // s) if ceil_mode and p + s > span else out


def _window(
    input: Tensor, n: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, what: str
) -> tuple[Shape, int, int, Reach]:
    """Output shape, elements, window size and reach of a pooling layer."""
    batch, c, sides = split_batch(input, n, what)
    k = per_axis(kernel_size, n, "kernel_size")
    s = k if stride is None or stride in ((), []) else per_axis(stride, n, "stride")
    p, d = per_axis(padding, n, "padding"), per_axis(dilation, n, "dilation")
    positive("kernel_size", k)
    positive("stride", s)
    positive("dilation", d)
    positive("padding", p, 0)
    for ki, pi in zip(k, p, strict=True):
        if pi > ki // 2:
            raise ShapeError(f"padding {pi} is more than half of the window {ki}")
    if c < 1 or any([m < 1 for m in sides]):
        raise ShapeError(f"{what} needs a non-empty input, gets {by_x(input.shape)}")
    out = tuple(pooled(m, ki, si, pi, di, ceil_mode) for m, ki, si, pi, di in zip(sides, k, s, p, d, strict=True))
    if any([m < 1 for m in out]):
        raise ShapeError(
            f"a window of {by_x(k)} does not fit an input of {by_x(sides)}: the output would be {by_x(out)}"
        )
    reach = tuple([(di * (ki - 1) + 1, si) for ki, si, di in zip(k, s, d, strict=True)])
    return (*batch, c, *out), prod(batch) * c * prod(out), prod(k), reach


def _max_pool(n: int, indices: bool) -> Rule:
    def max_pool(
        self: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> Work:
        # [N, c, out, …] = max_pool([N, c, h, …])
        shape, outputs, k, reach = _window(
            self, n, kernel_size, stride, padding, dilation, ceil_mode, f"{n}-d max pooling"
        )
        if indices:
            return Work((shape, shape), 0, outputs * (k - 1), reach, dtype="int64")
        return Work((shape,), 0, outputs * (k - 1), reach)

    return max_pool


def _avg_pool(n: int) -> Rule:
    def avg_pool(
        self: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False, **more: Any
    ) -> Work:
        # [N, c, out, …] = avg_pool([N, c, h, …])
        if more.get("divisor_override") == 0:
            raise ShapeError("divisor_override must not be 0")
        shape, outputs, k, reach = _window(self, n, kernel_size, stride, padding, 1, ceil_mode, f"{n}-d pooling")
        if n == 3 and any(m < span for m, (span, _) in zip(self.shape[-3:], reach, strict=True)):
            raise ShapeError(f"3-d average pooling needs an input of at least its window, gets {by_x(self.shape[-3:])}")
        return Work((shape,), 0, outputs * k, reach)

    return avg_pool


def _adaptive(n: int, kind: str) -> Rule:
    def adaptive(self: Tensor, output_size: Any) -> Work:
        # [N, c, out, …] = adaptive_pool([N, c, h, …]): output i sees ⌊i·h/out⌋ … ⌈(i + 1)·h/out⌉
        batch, c, sides = split_batch(self, n, f"{n}-d adaptive pooling")
        out = per_axis(output_size, n, "output_size")
        positive("output_size", out, 0)
        if c < 1 or any([m < 1 for m in sides]):
            raise ShapeError(f"adaptive pooling needs a non-empty input, gets {by_x(self.shape)}")
        seen = [[-(-(i + 1) * m // o) - i * m // o for i in range(o)] for m, o in zip(sides, out, strict=True)]
        outputs, inputs = prod(batch) * c * prod(out), prod(batch) * c * prod(map(sum, seen))
        reach = tuple((max(w, default=0), Fraction(m, o or 1)) for w, m, o in zip(seen, sides, out, strict=True))
        shape = (*batch, c, *out)
        if kind == "max":
            return Work((shape, shape), 0, inputs - outputs, reach, dtype="int64")
        return Work((shape,), 0, inputs, reach)

    return adaptive


for _n in (1, 2, 3):
    op(f"aten.max_pool{_n}d")(_max_pool(_n, False))
    op(f"aten.max_pool{_n}d_with_indices")(_max_pool(_n, True))
    op(f"aten.avg_pool{_n}d")(_avg_pool(_n))
    op(f"aten.adaptive_avg_pool{_n}d")(_adaptive(_n, "avg"))
    op(f"aten.adaptive_max_pool{_n}d")(_adaptive(_n, "max"))


@by_output("aten.fractional_max_pool2d", "aten.fractional_max_pool3d")
def fractional(operator: Op) -> Work:
    # k − 1 comparisons per output, where the windows lie by chance
    return Work(None, 0, operator.outputs[0].numel * (prod(operator.args["kernel_size"]) - 1))
