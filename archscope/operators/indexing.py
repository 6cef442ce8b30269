"""Lookup, concatenation, dropout."""

from collections.abc import Sequence
from typing import Any

from archscope.core.errors import ShapeError
from archscope.core.record import Op, Tensor
from archscope.operators.rule import Work, axes_of, axis, by_output, by_x, op


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
