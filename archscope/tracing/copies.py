"""Copies of a model whose functions use the copy: `self.act = lambda x: self.layer(x)`, hooks that write to `self`.

`copy.deepcopy` takes a function as it is: one that holds the model, or a list beside it, would use the original.
"""

import copy
from types import CellType, FunctionType
from typing import Any

from torch import nn

_CONTAINERS = (list, dict, set)
_DISPATCH: dict[type, Any] = copy._deepcopy_dispatch  # type: ignore[attr-defined]


def copied(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy of a model, and of every function in it that holds one of its modules or a container."""
    own = {id(module) for module in model.modules()}
    before = _DISPATCH[FunctionType]
    _DISPATCH[FunctionType] = lambda function, memo: _function(function, memo, own)
    try:
        return copy.deepcopy(model, {} if memo is None else memo)
    finally:
        _DISPATCH[FunctionType] = before


def _function(function: Any, memo: dict[int, Any], own: set[int]) -> Any:
    if not any(_holds(cell, own, set()) for cell in function.__closure__ or ()):
        return function
    cells = tuple([_cell(cell, memo, own) for cell in function.__closure__])
    made = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    made.__kwdefaults__, made.__qualname__ = function.__kwdefaults__, function.__qualname__
    made.__dict__.update(function.__dict__)
    memo[id(function)] = made
    for cell, new in zip(function.__closure__, cells, strict=True):
        if new is not cell and not _filled(new):
            new.cell_contents = copy.deepcopy(cell.cell_contents, memo)
    return made


def _cell(cell: CellType, memo: dict[int, Any], own: set[int]) -> CellType:
    """A new cell for what is copied, one for all functions that share it."""
    return memo.setdefault(id(cell), CellType()) if _holds(cell, own, set()) else cell


def _filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # it is empty
        return False


def _holds(cell: CellType, own: set[int], seen: set[int]) -> bool:
    """Whether a cell holds a module of the model, a method of one, a container, or a function that does."""
    if id(cell) in seen or not _filled(cell):
        return False
    seen.add(id(cell))
    value = cell.cell_contents
    if isinstance(value, FunctionType):
        return any(_holds(inner, own, seen) for inner in value.__closure__ or ())
    return type(value) in _CONTAINERS or id(getattr(value, "__self__", value)) in own
