"""Products with a sparse tensor: what they cost is told by its entries, which a record's shapes do not have."""

from math import prod
from typing import Any, NamedTuple

import torch

from archscope.core.errors import ShapeError
from archscope.tracing.dispatch import Overload

SPARSE = frozenset((torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc))

# where the two factors stand among the arguments
_FACTORS = {
    **dict.fromkeys(("aten.mm", "aten.matmul", "aten.mv", "aten.bmm", "aten._sparse_mm", "aten.linear"), (0, 1)),
    **dict.fromkeys(("aten.addmm", "aten._sparse_addmm", "aten.sspaddmm", "aten.addmv"), (1, 2)),
}


class Product(NamedTuple):
    """A product of a sparse and a dense tensor, as the record keeps it: name, arguments and the shape of its output."""

    name: str
    arguments: dict[str, Any]
    shape: tuple[int, ...]


def entries(tensor: torch.Tensor) -> int:
    """Numbers that a sparse tensor stores."""
    with torch._C._DisableTorchDispatch():
        return (tensor._values() if tensor.layout is torch.sparse_coo else tensor.values()).numel()


def product_of(overload: Overload, args: Any, kwargs: Any) -> Product | None:
    """The product that an operator makes, None where it makes none of one sparse and one dense tensor."""
    places = _FACTORS.get(overload.name)
    if places is None:
        return None
    left, right = (args[i] for i in places)
    one, other = left.layout in SPARSE, right.layout in SPARSE
    if one == other or left.dim() < 1:
        return None
    added = args[0] if places[0] else args[2] if overload.name == "aten.linear" and len(args) > 2 else None
    if not (args[3] if places[0] and len(args) > 3 else kwargs.get("beta", 1)):
        added = None
    a, b = tuple(left.shape), tuple(right.shape)
    if overload.name == "aten.linear":
        b = b[::-1]
    if a[-1] != b[-2 if len(b) > 1 else 0]:
        raise ShapeError(f"the matrices do not fit: {a[-1]} columns against {b[-2 if len(b) > 1 else 0]} rows")
    shape = (*a[:-1], *b[-1:]) if len(b) > 1 else a[:-1]
    rows = (b[-1] if len(b) > 1 else 1) if one else prod(a[:-1])  # of the other factor that meet each entry
    arguments = {"self": left, "other": right, "entries": entries(left if one else right), "each": rows}
    return Product("aten._sparse_mm", {**arguments, **({"added": added} if added is not None else {})}, shape)
