"""Tensors in arguments, in records and in modules."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from archscope.core.errors import TraceError
from archscope.core.record import Tensor
from archscope.tracing.modules import PLAIN

SMALL = 1 << 16  # elements; a real tensor up to this size keeps its values while the model runs
FLOATS = 1 << 20  # the same of what is computed of such constants
MANY = 1 << 22  # the same of integers and booleans: edges, lengths, masks
EXPANDED = 8 * MANY  # of a mask that is expanded to more rows, and takes no memory for them


def is_small(tensor: torch.Tensor) -> bool:
    """Whether a tensor keeps its values while the model runs."""
    dtype = tensor.dtype
    most = FLOATS if dtype.is_floating_point or dtype.is_complex else MANY
    if tensor.numel() <= most:
        return True
    return dtype == torch.bool and tensor.numel() <= EXPANDED and tensor.untyped_storage().nbytes() <= most


_functorch: Any = torch._C._functorch  # type: ignore[attr-defined]
is_wrapped: Callable[[torch.Tensor], bool] = _functorch.is_functorch_wrapped_tensor


def unwrapped(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor that torch.func has wrapped."""
    while is_wrapped(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return tensor


def is_lazy(tensor: torch.Tensor | None) -> bool:
    return isinstance(tensor, (UninitializedParameter, UninitializedBuffer))


def tensors_in(values: Any) -> list[torch.Tensor]:
    """Every tensor in nested lists, tuples, dicts and dataclasses, in order."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif type(value) in PLAIN:
            continue
        elif isinstance(value, (list, tuple)):
            found += tensors_in(value)
        elif isinstance(value, Mapping):
            found += tensors_in(value.values())
        elif is_dataclass(value) and not isinstance(value, type):
            found += tensors_in([getattr(value, f.name) for f in fields(value)])
    return found


PARTS = 10_000  # that a forward may yield


def all_of(parts: Iterator[Any]) -> tuple[Any, ...]:
    """What a forward yields. Raises TraceError where it does not end."""
    found = tuple(islice(parts, PARTS + 1))
    if len(found) > PARTS:
        raise TraceError(f"the forward yields more than {PARTS:,} parts: give trace a module that ends")
    return found


def records_in(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if type(value) is Tensor:
            found.append(value)
        elif type(value) is tuple:
            found += records_in(value)
    return found


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """The dtype of a model's first parameter of floating point, None where it has none."""
    return first_dtype(model.parameters())


def first_dtype(parameters: Iterable[torch.Tensor]) -> torch.dtype | None:
    """The first dtype of floating point of more than a byte."""
    return next((p.dtype for p in parameters if p.dtype.is_floating_point and p.dtype.itemsize > 1), None)


_SCRIPTED: dict[type, bool] = {}


def is_scripted(module: nn.Module) -> bool:
    """Whether TorchScript holds it, outside of Python."""
    known = _SCRIPTED.get(type(module))  # asking PyTorch's class takes three times as long
    if known is None:
        known = _SCRIPTED[type(module)] = isinstance(module, torch.jit.ScriptModule)
    return known


def own_tensors(module: nn.Module, group: str) -> Iterable[tuple[str, torch.Tensor | None]]:
    """A module's own parameters or buffers."""
    if is_scripted(module):
        return module.named_parameters("", False) if group == "_parameters" else module.named_buffers("", False)
    return module.__dict__[group].items()
