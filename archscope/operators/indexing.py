"""Lookup, indexing, sorting, concatenation, dropout."""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from archscope.core.errors import ShapeError
from archscope.core.record import Op, Shape, Tensor
from archscope.operators.rule import (
    DENSE,
    KEEPS,
    SHOWN,
    ZERO,
    Work,
    aten,
    axes_of,
    axis,
    by_output,
    by_x,
    free,
    op,
    shape,
    upper_bound,
)  # fmt: skip

if TYPE_CHECKING:
    import torch

free("_pack_padded_sequence _pad_packed_sequence")  # copies
free("index_copy index_copy_ promote_types result_type masked_scatter masked_scatter_")
free("index index_put index_put_ _unsafe_index index_select gather scatter scatter_ take take_along_dim one_hot")
free("masked_fill masked_fill_ masked_select where tril triu triu_ tril_ slice_scatter select_scatter nonzero")
free("index_fill put as_strided_scatter diagonal_scatter nonzero_static isin mode nanmedian unique_dim")
free("sort argsort topk _unique2 median kthvalue searchsorted bucketize histc bincount cartesian_prod")
free("max_unpool2d max_unpool3d native_dropout dropout_ feature_dropout_ alpha_dropout_")
ZERO.update(("profiler._record_function_enter_new", "profiler._record_function_exit"))
KEEPS.update(aten("clone contiguous alias detach to copy chunk split dropout slice cat concat"))
SHOWN.update(aten("cat concat concatenate stack chunk"))
DENSE.add("aten.embedding")


@op("aten.embedding")
def embedding(weight: Tensor, indices: Tensor, **_: Any) -> Work:
    # [*, d] = embedding([v, d], [*]): a lookup
    d = axes_of(weight, "a table of embeddings", 2)[1]
    if indices.dtype not in ("int64", "int32"):
        raise ShapeError(f"an embedding looks up integers, gets {indices.dtype}; write the input as 1x128:int64")
    return Work(((*indices.shape, d),))


@by_output("aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding_bag(operator: Op) -> Work:
    # [bags, d] = embedding_bag([v, d], [*]): 1 per element of the rows looked up
    return Work(None, 0, operator.args["indices"].numel * operator.args["weight"].shape[1])


@op("aten.cat")
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Work:
    # [*, a + b + …, *] = cat([*, a, *], [*, b, *], …)
    kept = [t for t in tensors if t.shape != (0,)]  # an empty vector may stand beside anything
    if not kept:
        return Work(((0,),) if len({t.dtype for t in tensors}) == 1 else None)
    first = kept[0].shape
    dim = axis(dim, kept[0])
    before, after, total = first[:dim], first[dim + 1 :], 0
    for t in kept:
        if len(t.shape) != len(first) or t.shape[:dim] != before or t.shape[dim + 1 :] != after:
            raise ShapeError(
                f"{by_x(first)} and {by_x(t.shape)} cannot be joined along axis {dim}: another axis differs"
            )
        total += t.shape[dim]
    known = len({t.dtype for t in kept}) == 1
    return Work(((*before, total, *after),) if known else None)


@shape("aten.concat", "aten.concatenate")
def concat(tensors: Sequence[Tensor], dim: int = 0) -> tuple[Shape, ...]:
    return cat([t._replace(dtype=tensors[0].dtype) for t in tensors], dim).shapes or ()


@op("aten.stack")
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Work:
    # [*, n, *] = stack n·[*]
    first = tensors[0].shape
    for t in tensors:
        if t.shape != first:
            raise ShapeError(f"{by_x(first)} and {by_x(t.shape)} cannot be stacked: all shapes must be the same")
    if not -len(first) - 1 <= dim <= len(first):
        raise ShapeError(f"axis {dim} is not among the {len(first) + 1} axes of the stack")
    dim %= len(first) + 1
    known = len({t.dtype for t in tensors}) == 1
    return Work(((*first[:dim], len(tensors), *first[dim:]),) if known else None)


@op("aten.dropout", "aten.feature_dropout", "aten.alpha_dropout", "aten.feature_alpha_dropout")
def dropout(input: Tensor, p: float, train: bool) -> Work:
    # [*] = dropout([*])
    return Work((input.shape,))


# ------------------------------------------------------------- the largest output, where the size depends on values
# `trace(..., bound=True)` asks: every element is not zero, every mask is true. Tensors on the meta device in and out.


def indices(*shape: int) -> "torch.Tensor":
    import torch

    return torch.empty(shape, dtype=torch.int64, device="meta")


@upper_bound("aten.nonzero")
def nonzero(x: "torch.Tensor") -> "torch.Tensor":
    return indices(x.numel(), x.dim())


@upper_bound("aten.nonzero_numpy")
def nonzero_numpy(x: "torch.Tensor") -> "list[torch.Tensor]":
    return [indices(x.numel()) for _ in range(x.dim())]


@upper_bound("aten.masked_select")
def masked_select(x: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    import torch

    return x.new_empty(prod(torch.broadcast_shapes(x.shape, mask.shape)))


@upper_bound("aten.index")
def index(x: "torch.Tensor", where: Any) -> "torch.Tensor | None":
    """Each boolean mask as the positions of all its elements; None where there is no mask."""
    import torch

    masks = [one is not None and one.dtype in (torch.bool, torch.uint8) for one in where]
    if not any(masks):
        return None
    positions: list[torch.Tensor | None] = []
    for one, is_mask in zip(where, masks, strict=True):
        positions += [indices(one.numel())] * one.dim() if is_mask else [one]
    return torch.ops.aten.index(x, positions)
