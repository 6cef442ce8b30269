"""Views and rearrangements: the same elements under other axes."""

from collections.abc import Callable, Sequence
from math import prod
from sys import maxsize
from typing import Any

from archscope.core.errors import ShapeError
from archscope.core.record import Shape, Tensor
from archscope.operators.rule import AXES, SHAPES, SHOWN, Axes, axis, by_x, free, least, shape

free(
    """view reshape flatten unflatten permute transpose t mT swapaxes movedim expand expand_as squeeze unsqueeze select
    slice split split_with_sizes tensor_split chunk unsafe_split unsafe_split_with_sizes unsafe_chunk unbind narrow
    diagonal as_strided detach alias view_as
    unfold hsplit vsplit real imag view_as_real view_as_complex _unsafe_view _reshape_alias lift_fresh lift squeeze_
    unsqueeze_ transpose_ t_ detach_ as_strided_ adjoint numpy_T matrix_H _conj conj resolve_conj resolve_neg""",
    view=True,
)
free("hstack vstack column_stack repeat repeat_interleave tile roll flip rot90 broadcast_tensors broadcast_to")
free("contiguous")  # where the order of the elements changes; else the tensor itself comes back
free("concat concatenate meshgrid block_diag channel_shuffle native_channel_shuffle im2col col2im diag diag_embed")

SHOWN.add("aten.flatten")


# ------------------------------------------------------------------------------------------- where the axes come to lie


def moves(*names: str, field: bool = True) -> Callable[[Callable[..., Axes]], Callable[..., Axes]]:
    """Enter which axes of the input each axis of the output joins: that is its shape. field: and how a receptive field
    goes through."""

    def enter(axes: Callable[..., Axes]) -> Callable[..., Axes]:
        def moved(self: Tensor, **more: Any) -> tuple[Shape, ...]:
            return (tuple([prod([self.shape[i] for i in joined]) for joined in axes(self, **more)]),)

        SHAPES.register(*names)(moved)
        if field:
            AXES.register(*names)(axes)
        return axes

    return enter


def _alone(n: int) -> list[tuple[int, ...]]:
    return [(i,) for i in range(n)]


@moves("aten.flatten")
def flatten(self: Tensor, start_dim: int = 0, end_dim: int = -1) -> Axes:
    # [*, a·b, *] = flatten([*, a, b, *])
    first, last = axis(start_dim, self), axis(end_dim, self)
    axes = _alone(len(self.shape))
    return (*axes[:first], tuple(range(first, min(last + 1, len(axes)))), *axes[last + 1 :])


@moves("aten.permute")
def permute(self: Tensor, dims: Sequence[int]) -> Axes:
    # [b, a] = permute([a, b], [1, 0])
    return tuple([(axis(d, self),) for d in dims])


@moves("aten.transpose")
def transpose(self: Tensor, dim0: int = 0, dim1: int = 1) -> Axes:
    # [b, a] = transpose([a, b])
    axes = _alone(len(self.shape))
    i, j = axis(dim0, self), axis(dim1, self)
    if axes:
        axes[i], axes[j] = axes[j], axes[i]
    return tuple(axes)


@moves("aten.mT")
def last_two(self: Tensor) -> Axes:
    # [*, b, a] = mT([*, a, b])
    return transpose(self, -2, -1)


@moves("aten.swapaxes", "aten.transpose_", "aten.t", field=False)
def swapaxes(self: Tensor, axis0: int = 0, axis1: int = -1, **dims: int) -> Axes:
    # [b, a] = t([a, b])
    return transpose(self, *dims.values()) if dims else transpose(self, axis0, axis1)


@moves("aten.unsqueeze")
def unsqueeze(self: Tensor, dim: int) -> Axes:
    # [*, 1, *] = unsqueeze([*])
    axes = _alone(len(self.shape))
    at = dim % (len(axes) + 1)
    return (*axes[:at], (), *axes[at:])


@moves("aten.select", field=False)
def select(self: Tensor, dim: int = 0, **_: Any) -> Axes:
    # [*] = select([*, m, *])
    at = axis(dim, self)
    return tuple([joined for joined in _alone(len(self.shape)) if joined != (at,)])


# ------------------------------------------------------------------------------------------------------------ views


@shape("aten.squeeze")
def squeeze(self: Tensor, dim: int | Sequence[int] | None = None) -> tuple[Shape, ...]:
    # [*] = squeeze([*, 1, *])
    dims = range(len(self.shape)) if dim is None else (dim,) if isinstance(dim, int) else dim
    over = {axis(d, self) for d in dims}
    return (tuple([m for i, m in enumerate(self.shape) if i not in over or m != 1]),)


@shape("aten.view", "aten.reshape", "aten._unsafe_view", "aten._reshape_alias")
def view(
    self: Tensor, size: Sequence[int] | None = None, shape: Sequence[int] | None = None, **_: Any
) -> tuple[Shape, ...]:
    # [*] = view([*]) of as many elements; one side may be left open as −1
    sides = size if size is not None else shape
    if sides is None:
        raise ShapeError("a view as another dtype has no rule")
    total, known = prod(self.shape), prod([m for m in sides if m != -1])
    if -1 not in sides:
        if total != known:
            raise ShapeError(f"{by_x(self.shape)} has {total} elements, not {known}")
        return (tuple(sides),)
    if sides[0] == -1 and self.shape and self.shape[0] * known == total:  # the examples stay as they are
        return ((self.shape[0], *sides[1:]),)
    if not known or total % known:
        raise ShapeError(f"{total} elements cannot be split into rows of {known}")
    return (tuple([total // known if m == -1 else m for m in sides]),)


@shape("aten.unflatten")
def unflatten(self: Tensor, dim: int, sizes: Sequence[int]) -> tuple[Shape, ...]:
    # [*, a, b, *] = unflatten([*, a·b, *])
    at = axis(dim, self)
    ((*parts,),) = view(self._replace(shape=(self.shape[at],)), sizes)
    return ((*self.shape[:at], *parts, *self.shape[at + 1 :]),)


@AXES.register("aten.view", "aten.reshape", "aten._unsafe_view")
def of_view(**arguments: Any) -> Axes | None:
    """Where the axes lie after a view that joins those behind the first, or drops and adds sides of 1."""
    return _joined(arguments["self"].shape, view(**arguments)[0])


@AXES.register("aten.squeeze")
def of_squeeze(**arguments: Any) -> Axes | None:
    return _joined(arguments["self"].shape, squeeze(**arguments)[0])


def _joined(before: Shape, after: Shape) -> Axes | None:
    axes = _alone(len(before))
    if before == after:
        return tuple(axes)
    if len(after) == 2 and after[0] == before[0]:
        return (0,), tuple(range(1, len(before)))
    if [m for m in before if m != 1] == [m for m in after if m != 1]:
        kept = iter([joined for m, joined in zip(before, axes, strict=True) if m != 1])
        return tuple([next(kept) if m != 1 else () for m in after])
    return None


@shape("aten.expand", "aten.broadcast_to")
def expand(self: Tensor, size: Sequence[int], **_: Any) -> tuple[Shape, ...]:
    # [*, m, *] = expand([*, 1, *])
    padded = (1,) * (len(size) - len(self.shape)) + self.shape
    for m, s in zip(padded, size, strict=True):
        if m != 1 and s != -1 and m != s:
            raise ShapeError(f"{by_x(self.shape)} cannot be expanded to {by_x(size)}")
    return (tuple([s if m == 1 and s != -1 else m for m, s in zip(padded, size, strict=True)]),)


@shape("aten.expand_as")
def expand_as(self: Tensor, other: Tensor) -> tuple[Shape, ...]:
    # [*] = expand_as([*, 1, *], [*])
    return expand(self, other.shape)


# ------------------------------------------------------------------------------------------------------------ parts


def _with(self: Tensor, at: int, *sides: int) -> tuple[Shape, ...]:
    """The shape once for each of these sides of an axis."""
    return tuple([(*self.shape[:at], m, *self.shape[at + 1 :]) for m in sides])


@shape("aten.slice")
def cut(
    self: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> tuple[Shape, ...]:
    # [*, ⌈(last − first)/step⌉, *] = slice([*, m, *])
    at = axis(dim, self)
    m, first = self.shape[at], start or 0
    last = m if end in (None, maxsize) else m + end if end < 0 else least(m, end)
    first = m + first if first < 0 else first
    return _with(self, at, (last - first + step - 1) // step)


@shape("aten.narrow")
def narrow(self: Tensor, dim: int, start: int, length: int) -> tuple[Shape, ...]:
    # [*, length, *] = narrow([*, m, *])
    return _with(self, axis(dim, self), length)


@shape("aten.chunk")
def chunk(self: Tensor, chunks: int, dim: int = 0) -> tuple[Shape, ...]:
    # [*, ⌈m/chunks⌉, *] … = chunk([*, m, *]), the last part smaller
    m = int(self.shape[axis(dim, self)])
    return split(self, max(-(-m // chunks), 1), dim)


@shape("aten.split")
def split(self: Tensor, split_size: int | Sequence[int], dim: int = 0) -> tuple[Shape, ...]:
    # [*, size, *] … = split([*, m, *]), the last part smaller
    if not isinstance(split_size, int):
        return split_with_sizes(self, split_size, dim)
    at = axis(dim, self)
    m = int(self.shape[at])
    return _with(self, at, *[min(split_size, m - i) for i in range(0, m, split_size)] or [0])


@shape("aten.split_with_sizes")
def split_with_sizes(self: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Shape, ...]:
    # [*, a, *], [*, b, *] … = split([*, a + b + …, *], [a, b, …])
    at = axis(dim, self)
    if sum(split_sizes) != self.shape[at]:
        raise ShapeError(f"a side of {self.shape[at]} cannot be split into {list(split_sizes)}")
    return _with(self, at, *split_sizes)


@shape("aten.unbind")
def unbind(self: Tensor, dim: int = 0) -> tuple[Shape, ...]:
    # m·[*] = unbind([*, m, *])
    at = axis(dim, self)
    return ((*self.shape[:at], *self.shape[at + 1 :]),) * int(self.shape[at])
