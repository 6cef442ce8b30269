"""What the tracer must know of an operator overload before it runs."""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import torch

from archscope.operators import BY_OUTPUT, CONSTANT, DENSE, RULES, VIEWS, ZERO, Work
from archscope.tracing.bounds import BOUNDS
from archscope.tracing.memory_order import ORDERS, Order


class Overload(NamedTuple):
    """What is known of one operator overload."""

    name: str
    rule: Callable[..., Work] | None
    arguments: tuple[str, ...]
    in_place: bool
    composite: bool  # PyTorch can take it apart, and no rule knows it whole
    priced: bool  # its cost is known
    decides: bool  # the size of its output, or a number in Python, depends on values
    out: bool  # writes into an argument that it is given
    constant: bool  # makes a tensor whose values its arguments tell
    joins: bool  # a view of a contiguous tensor, a copy of another
    view: bool
    dense: bool  # the output is contiguous whatever the memory format of the input
    draws: bool  # random numbers
    order: Callable[..., Order] | None  # that of its output in memory, where the meta kernel does not tell
    bounds: Callable[..., None] | None  # refuses known indices that are out of bounds


_TAGS = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}

# in evaluation mode PyTorch gives their input back
DROPOUTS = frozenset(f"aten.{kind}dropout" for kind in ("", "feature_", "alpha_", "feature_alpha_"))
OVERLOADS: dict[Any, Overload] = {}  # by overload, filled as they are met

# recorded whole, though PyTorch could take them apart: a view with a name that a reader knows
_WHOLE = (VIEWS - {"aten.reshape", "aten.flatten"}) | {"aten.contiguous", "aten.one_hot"}  # whose checks cost nothing


def overload_of(func: Any) -> Overload:
    """What is known of an overload, from its schema."""
    schema = func._schema
    name = schema.name.replace("::", ".")
    composite = func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)
    first = schema.arguments[0] if schema.arguments else None
    out = any(a.is_out for a in schema.arguments)
    in_place = bool(first is not None and first.alias_info is not None and first.alias_info.is_write)
    return Overload(
        name=name,
        rule=None if out else RULES.get(name),
        out=out,
        arguments=tuple(a.name for a in schema.arguments),
        in_place=in_place,
        composite=composite and name not in _WHOLE and name not in RULES,
        priced=name in RULES or name in BY_OUTPUT or name in ZERO,
        decides=name in BY_VALUE or not _TAGS.isdisjoint(func.tags),
        joins=name in ("aten.flatten", "aten.reshape"),
        view=any(r.alias_info is not None for r in schema.returns),
        dense=name in DENSE,
        draws=torch.Tag.nondeterministic_seeded in func.tags,
        order=ORDERS.get(name),
        constant=name in CONSTANT,
        bounds=BOUNDS.get(name),
    )


BY_VALUE = {"aten.where", "aten.item", "aten.is_nonzero", "aten.equal", "aten.index"}  # some of them do, or untagged


def by_value(overload: Overload, args: Any) -> bool:
    """Whether this call gives a number of Python, or a tensor whose size depends on values."""
    if overload.name == "aten.where":
        return len(args) == 1
    if overload.name == "aten.index":
        return any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
    return True


def kept_whole(overload: Overload, args: Any, real: bool) -> bool:
    """Whether an operator of known values is recorded in one piece, though PyTorch could take it apart. real: whether
    every tensor has values."""
    if not overload.priced or overload.joins:
        return False
    return (overload.decides and by_value(overload, args)) or not (real or overload.name in ZERO)


def elements(overload: Overload, args: Any, kwargs: Any) -> int:
    """How many elements an operator that makes a tensor will make."""
    given = {**dict(zip(overload.arguments, args, strict=False)), **kwargs}
    if "size" in given:
        return prod(given["size"])
    if isinstance(given.get("self"), torch.Tensor):
        return given["self"].numel()
    if overload.name == "aten.arange":
        return int(abs(given["end"] - given.get("start", 0)) / abs(given.get("step", 1) or 1)) + 1
    return int(given.get("steps") or given.get("n") or 1)
