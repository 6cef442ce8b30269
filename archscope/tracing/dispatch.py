"""What the tracer must know of an operator: of its overload before it runs, and how Python called it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from archscope.core.record import Op
from archscope.operators import CONSTANT, DENSE, RULES, VIEWS, Work


class Call(NamedTuple):
    """What is known of one operator overload."""

    name: str
    rule: Callable[..., Work] | None
    arguments: tuple[str, ...]
    in_place: bool
    composite: bool  # PyTorch can take it apart, and no rule knows it whole
    out: bool  # writes into an argument that it is given
    constant: bool  # makes a tensor whose values its arguments tell
    joins: bool  # a view of a contiguous tensor, a copy of another
    view: bool
    dense: bool  # the output is contiguous whatever the memory format of the input


CALLS: dict[Any, Call] = {}  # by overload, filled as they are met

# recorded whole, though PyTorch could take them apart: a view with a name that a reader knows
_WHOLE = VIEWS - {"aten.reshape", "aten.flatten"}


def call_of(func: Any) -> Call:
    """What is known of an overload, from its schema."""
    schema = func._schema
    name = schema.name.replace("::", ".")
    composite = func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)
    first = schema.arguments[0] if schema.arguments else None
    out = any(a.is_out for a in schema.arguments)
    in_place = bool(first is not None and first.alias_info is not None and first.alias_info.is_write)
    return Call(
        name=name,
        rule=None if out else RULES.get(name),
        out=out,
        arguments=tuple(a.name for a in schema.arguments),
        in_place=in_place,
        composite=composite and name not in _WHOLE and name not in RULES,
        joins=name in ("aten.flatten", "aten.reshape"),
        view=any(r.alias_info is not None for r in schema.returns),
        dense=name in DENSE,
        constant=name in CONSTANT,
    )


def elements(call: Call, args: Any, kwargs: Any) -> int:
    """How many elements an operator that makes a tensor will make."""
    given = {**dict(zip(call.arguments, args, strict=False)), **kwargs}
    if "size" in given:
        return prod(given["size"])
    if isinstance(given.get("self"), torch.Tensor):
        return given["self"].numel()
    if call.name == "aten.arange":
        return int(abs(given["end"] - given.get("start", 0)) / abs(given.get("step", 1) or 1)) + 1
    return int(given.get("steps") or given.get("n") or 1)


# -------------------------------------------------------------------------------------------------------- spelling

# how an operator is usually called: the functions, or "" for an operator of Python
USUAL = {
    "aten.add": ("",),
    "aten.mul": ("",),
    "aten.matmul": ("torch.matmul", "Tensor.matmul"),
    "aten.baddbmm": ("torch.baddbmm",),
    **{f"aten.{name}{place}": (f"functional.{name}",)
       for name in "relu elu leaky_relu gelu silu softmax".split() for place in ("", "_")},
}  # fmt: skip

# where the functions stand that are listened to
_HOMES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "torch": (torch, ("add", "mul", "matmul", "baddbmm")),
    "Tensor": (torch.Tensor, ("add", "mul", "matmul")),
    "functional": (functional, ("relu", "elu", "leaky_relu", "gelu", "silu", "softmax")),
}


@contextmanager
def heard(ops: Sequence[Op]) -> Iterator[dict[int, str]]:
    """By which function each operator that this block adds to `ops` is called, by its index: {2: "torch.add"}.

    The functions are replaced while the block runs, as tools do that count by them: one that the model has kept under a
    name of its own is not heard, here as there. A mode for functions would hear all of them, and each `x.shape` too.
    """
    calls: dict[int, str] = {}
    here = get_ident()

    def listening(function: Callable[..., Any], spelling: str) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            index = len(ops)
            output = function(*args, **kwargs)
            if len(ops) == index + 1 and get_ident() == here:
                calls[index] = spelling
            return output

        return called

    kept = [(home, name, vars(home).get(name)) for home, names in _HOMES.values() for name in names]
    try:
        for word, (home, names) in _HOMES.items():
            for name in names:
                setattr(home, name, listening(getattr(home, name), f"{word}.{name}"))
        yield calls
    finally:
        for home, name, own in kept:
            if own is not None:
                setattr(home, name, own)
            else:  # inherited
                delattr(home, name)


def spelled(ops: Sequence[Op], calls: dict[int, str]) -> dict[int, str]:
    """Those operators that were not called the usual way, and by which function they were, "" for none."""
    found = {}
    for index, op in enumerate(ops):
        usual = USUAL.get(op.name)
        if usual is not None and (name := calls.get(index, "")) not in usual:
            found[index] = name
    return found
