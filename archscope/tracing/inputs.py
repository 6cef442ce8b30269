"""What the forward is given, as the run sees it: the same objects with another tensor in the place of each.

A tensor of floating numbers becomes one of the same shape and dtype on the meta device. One of integers or booleans
(lengths, masks, edges) keeps its values in a copy, and so does a small one of floating numbers (a step, a rate).
"""

import copy
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from archscope.core.errors import SpecError
from archscope.tracing.devices import CPU, chosen, device_of, is_meta
from archscope.tracing.layer_cache import META
from archscope.tracing.modules import PLAIN
from archscope.tracing.sparse import SPARSE
from archscope.tracing.tensors import dtype_of, tensors_in


class Array(Protocol):
    """NumPy's arrays, and what can be read like one."""

    @property
    def __array_interface__(self) -> Any: ...


FEW = 64  # numbers in a tensor of floating numbers that keeps its values, of one axis at most


class Inputs(NamedTuple):
    """Arguments by position and by name, the tensors in them, and the device that they are said to be on."""

    arguments: tuple[Any, ...]
    named: dict[str, Any]
    tensors: tuple[torch.Tensor, ...]
    device: torch.device


def prepared(
    model: nn.Module, inputs: Any, kwargs: Mapping[str, Any] | None, take: Callable[[Any], Any] | None = None
) -> Inputs:
    """What `trace` was given, for a run. take: what becomes of a tensor.

    A tuple of ints by itself, or as an argument, is a shape where no argument is a tensor, and where the forward does
    not say by annotation or default that it takes numbers. A list of ints is a list, unless all inputs are such. A
    named tuple by itself is one argument.
    """
    alone = not isinstance(inputs, (list, tuple, Mapping)) and hasattr(inputs, "shape")
    alone |= hasattr(inputs, "_fields")  # a named tuple, such as a packed sequence
    if alone or (len(inputs) > 0 and all(type(side) is int for side in inputs)):
        inputs = (inputs,)  # one tensor, or one shape, without the tuple around it
    if isinstance(inputs, Mapping):
        inputs, kwargs = (), {**inputs, **(kwargs or {})}
    kwargs = kwargs or {}
    found: list[torch.Tensor] = []

    def taken(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_nested:
            raise SpecError("an input is a nested tensor, which a trace does not follow: give it padded, with a mask")
        made = (take or without_values)(tensor)
        found.append(made)
        return made

    inputs = [_tensor(value) for value in inputs]
    kwargs = {key: _tensor(value) for key, value in kwargs.items()}
    given = [*inputs, *kwargs.values()]
    device = chosen(tensors_in(given))
    lists = not kwargs and all(_sides(value) for value in inputs)
    if not any(isinstance(value, torch.Tensor) for value in given):
        numbers = _numbers(model, len(inputs), kwargs) if len(given) > 1 and any(map(_sides, given)) else frozenset()
        dtype = dtype_of(model)
        inputs = [v if i in numbers else _shaped(v, lists, dtype) for i, v in enumerate(inputs)]
        kwargs = {k: v if k in numbers else _shaped(v, False, dtype) for k, v in kwargs.items()}
    kept: dict[int, Any] = {}  # an object that is given twice is one object
    own: list[nn.Module] = list(model.modules()) if any(not _simple(value) for value in given) else []
    kept |= {id(module): module for module in own}
    arguments = tuple([_replaced(value, taken, kept) for value in inputs])
    named = {key: _replaced(value, taken, kept) for key, value in kwargs.items()}
    return Inputs(arguments, named, tuple(found), device)


def without_values(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as a run without values sees it."""
    if tensor.layout in SPARSE:  # its entries tell what a product costs
        return tensor.detach().clone()
    if tensor.layout is not torch.strided:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=META)
    if not is_meta(tensor) and device_of(tensor) == CPU and _keeps_values(tensor):
        return tensor.detach().clone()
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)


def _keeps_values(tensor: torch.Tensor) -> bool:
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        return tensor.dim() <= 1 and tensor.numel() <= FEW
    return not tensor.is_quantized


def _sides(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) > 0 and all(type(side) is int for side in value)


def _tensor(value: Any) -> Any:
    """NumPy's arrays are tensors, too, at any depth of plain containers."""
    if type(value) in (list, tuple):
        return value if _sides(value) else type(value)(_tensor(one) for one in value)
    if type(value) is dict:
        return {key: _tensor(one) for key, one in value.items()}
    array = type(value).__module__ == "numpy" and hasattr(value, "__array_interface__")
    return torch.as_tensor(value) if array else value


def _shaped(value: Any, lists: bool, dtype: torch.dtype | None) -> Any:
    """Shapes as tensors."""
    if _sides(value) and (lists or isinstance(value, tuple)):
        return torch.empty(tuple(value), dtype=dtype, device=META)
    if type(value) in (list, tuple):
        return type(value)(_shaped(one, False, dtype) for one in value)
    if type(value) is dict:
        return {key: _shaped(one, False, dtype) for key, one in value.items()}
    return value


def _numbers(model: nn.Module, positional: int, kwargs: Mapping[str, Any]) -> frozenset[int | str]:
    """Arguments that the forward takes as numbers, by position or name: `size: tuple[int, int]`, `size=(1, 1)`."""
    try:
        parameters = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return frozenset()
    found: set[int | str] = set()
    for place, (name, parameter) in enumerate(parameters.items()):
        text = parameter.annotation if isinstance(parameter.annotation, str) else repr(parameter.annotation)
        annotated = parameter.annotation is not parameter.empty and "int" in text and "Tensor" not in text
        if annotated or isinstance(parameter.default, tuple | list | int):
            found.add(place if place < positional else name)
    return frozenset(found)


def _simple(value: Any) -> bool:
    """Whether it holds nothing but tensors and plain values in plain containers."""
    if isinstance(value, torch.Tensor) or type(value) in PLAIN:
        return True
    if type(value) in (list, tuple):
        return all(map(_simple, value))
    return type(value) is dict and all(map(_simple, value.values()))


def _replaced(value: Any, taken: Callable[[torch.Tensor], torch.Tensor], kept: dict[int, Any]) -> Any:
    """The same with another tensor in the place of each; a list, dict or object is a copy."""
    if isinstance(value, torch.Tensor):
        return kept[id(value)] if id(value) in kept else kept.setdefault(id(value), taken(value))
    if type(value) in PLAIN:
        return value
    if type(value) in (list, tuple):
        return type(value)([_replaced(one, taken, kept) for one in value])
    if type(value) is dict:
        return {key: _replaced(one, taken, kept) for key, one in value.items()}
    if isinstance(value, (nn.Module, type, types.FunctionType, types.ModuleType)):
        return value
    return _copied(value, taken, kept)


def _copied(value: Any, taken: Callable[[torch.Tensor], torch.Tensor], kept: dict[int, Any]) -> Any:
    """A copy of an object of any class, by its own way to be copied; the object itself where it cannot be."""
    original = torch.Tensor.__deepcopy__

    def replace(tensor: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
        if id(tensor) not in kept:
            kept[id(tensor)] = taken(tensor)
        return kept[id(tensor)]

    torch.Tensor.__deepcopy__ = replace  # type: ignore[method-assign]
    try:
        return copy.deepcopy(value, kept)
    except (TypeError, RuntimeError, AttributeError, ValueError):
        return value
    finally:
        torch.Tensor.__deepcopy__ = original  # type: ignore[method-assign]
