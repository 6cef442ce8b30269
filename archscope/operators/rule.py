"""What a rule of an operator is: its work, the registries, and the checks that rules share."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import prod
from typing import Any, NamedTuple

from archscope.core.errors import ShapeError
from archscope.core.record import Op, Shape, Tensor
from archscope.core.registry import Registry

# per spatial axis: how many input positions one output sees, and how far apart neighbouring outputs lie
Reach = tuple[tuple[int | Fraction, int | Fraction], ...]


class Work(NamedTuple):
    """What one operator does.

    shapes: of its outputs, or None where only PyTorch's own kernel says. macs, flops: see above.
    reach: the window of each spatial axis (the last axes of the output), None where it has none.
    dtype: of an output, where it is not that of the first tensor.
    """

    shapes: tuple[Shape, ...] | None
    macs: int = 0
    flops: int = 0
    reach: Reach | None = None
    dtype: str | None = None


Rule = Callable[..., Work]
Maybe = Tensor | None
Axes = tuple[tuple[int, ...], ...]  # for each axis of the output, the axes of the input that lie on it

# One operator, one entry: its family's file says all of this about it. Names are those of PyTorch's dispatcher.
RULES: Registry[Rule] = Registry("rule of")  # shape and cost, from the arguments
BY_OUTPUT: Registry[Callable[[Op], Work | None]] = Registry("rule of")  # cost; PyTorch's own kernel gives the shape
SHAPES: Registry[Callable[..., tuple[Shape, ...]]] = Registry("shape of")  # and that shape, for symbolic sides
AXES: Registry[Callable[..., Axes | None]] = Registry("axes of")  # where a receptive field finds its axes; None: lost
UPPER_BOUNDS: Registry[Callable[..., Any]] = Registry("upper bound of")  # the largest output, where values decide
VIEWS: set[str] = set()  # the output shares the memory of its input
ZERO: set[str] = set()  # no cost by definition
KEEPS: set[str] = set()  # no arithmetic, and every position stays where it is
CONSTANT: set[str] = set()  # the arguments tell the values of the output
DENSE: set[str] = set()  # the output is contiguous, whatever the memory format of the input
SHOWN: set[str] = set()  # a row of its own in a container, though it computes nothing

op = RULES.register
shape = SHAPES.register
upper_bound = UPPER_BOUNDS.register


def aten(names: str) -> list[str]:
    """ "conv2d linear" -> ["aten.conv2d", "aten.linear"]."""
    return [f"aten.{name}" for name in names.split()]


def by_output(*names: str) -> Callable[[Callable[[Op], Any]], Callable[[Op], Any]]:
    """Enter the cost of operators whose output shape is left to PyTorch's own kernel."""
    if twice := [name for name in names if name in RULES]:
        raise ValueError(f"the rule of {twice[0]!r} is registered twice")
    return BY_OUTPUT.register(*names)


def free(names: str, view: bool = False, constant: bool = False) -> None:
    """Enter operators that cost nothing by definition: they move numbers and compute none."""
    ZERO.update(aten(names))
    if view:
        VIEWS.update(aten(names))
    if constant:
        CONSTANT.update(aten(names))


def shares(op: Op, output: Tensor) -> bool:
    """Whether an output lies in the memory of the operator's first input."""
    return op.name in VIEWS or (op.name.startswith("aten.resize_") and output.nbytes <= op.inputs[0].nbytes)


def per_axis(value: int | Sequence[int], n: int, name: str) -> tuple[int, ...]:
    """One number for n axes, or n numbers."""
    if type(value) is tuple and len(value) == n:
        return value
    values = (value,) if isinstance(value, int) else tuple(value)
    if len(values) == 1:
        values = values * n
    if len(values) != n:
        raise ShapeError(f"{name} needs 1 or {n} numbers, gets {len(values)}: {list(values)}")
    return values


def positive(name: str, values: Sequence[int], least: int = 1) -> None:
    if min(values) < least:
        raise ShapeError(f"{name} must be at least {least}, gets {by_x(values)}")


def by_x(values: Sequence[int]) -> str:
    return "×".join(map(str, values))


def split_batch(x: Tensor, n: int, what: str) -> tuple[Shape, int, Shape]:
    """Split [N, C, *sides] or [C, *sides] into batch, channels, sides."""
    if len(x.shape) not in (n + 1, n + 2):
        raise ShapeError(f"{what} expects {n + 1} or {n + 2} axes, gets {len(x.shape)}: {by_x(x.shape)}")
    return x.shape[: -n - 1], x.shape[-n - 1], x.shape[-n:]


def agree(a: int, b: int) -> bool:
    """Whether two sides that must be equal are. `==` never takes a symbolic side for 1, because it may ask whether an
    axis is repeated; here a 1 is a number like any other.
    """
    for one, other in ((a, b), (b, a)):
        if type(one) is not int:
            return one.agrees(other)  # type: ignore[attr-defined]
    return a == b


def same(what: str, expected: int, got: int) -> None:
    if not agree(expected, got):
        raise ShapeError(f"expects {expected} {what}, gets {got}", expected=expected, got=got)


def per_channel(c: int, *tensors: Maybe) -> None:
    for tensor in tensors:
        if tensor is not None and tensor.shape != (c,):
            same("channels", prod(tensor.shape), c)
            raise ShapeError(f"expects [{c}], gets {by_x(tensor.shape)}")


def same_dtype(what: str, *tensors: Maybe) -> None:
    first = tensors[0]
    for tensor in tensors:
        if tensor is not None and first is not None and tensor.dtype != first.dtype:
            raise ShapeError(f"{what} needs one dtype, gets {first.dtype} and {tensor.dtype}")


def axes_of(t: Tensor, what: str, *counts: int) -> Shape:
    """The shape of a tensor that must have one of these numbers of axes."""
    if len(t.shape) not in counts:
        raise ShapeError(f"{what} has {' or '.join(map(str, counts))} axes, gets {len(t.shape)}: {by_x(t.shape)}")
    return t.shape


def fits(small: Shape, large: Shape) -> None:
    """Refuse what cannot be expanded to a shape."""
    if broadcast(small, large) != large:
        raise ShapeError(f"{by_x(small)} cannot be expanded to {by_x(large)}")


def least(a: int, b: int) -> int:
    """The smaller of two sides; of symbolic ones the expression min(a, b)."""
    for one, other in ((a, b), (b, a)):
        if type(one) is not int:
            return one.least(other)  # type: ignore[attr-defined]
    return min(a, b)


def axis(dim: int, t: Tensor) -> int:
    """An axis counted from the front; a scalar has one that can be named."""
    n = max(len(t.shape), 1)
    if not -n <= dim < n:
        raise ShapeError(f"axis {dim} is not among the {len(t.shape)} axes of {by_x(t.shape)}")
    return dim % n


def broadcast(a: Shape, b: Shape) -> Shape:
    """The common shape of two; raises ShapeError when an axis differs and is 1 on neither side."""
    if a == b:
        return a
    if len(a) < len(b):
        a, b = b, a
    out = list(a)
    for i in range(1, len(b) + 1):
        if b[-i] != out[-i]:
            if out[-i] == 1:
                out[-i] = b[-i]
            elif b[-i] != 1:
                raise ShapeError(f"{by_x(a)} and {by_x(b)} do not fit: {out[-i]} against {b[-i]}")
    return tuple(out)


def elementwise(self: Tensor, *_: Any, **__: Any) -> Work:
    """[*] = f([*]): one operation per element."""
    # of integers, f may give floats: PyTorch's own promotion decides
    known = self.dtype.startswith(("float", "bfloat"))
    return Work((self.shape,) if known else None, 0, prod(self.shape))
