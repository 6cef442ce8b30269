"""The tensors that an object holds: the cache of a language model is such an object, and an input of its forward."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from archscope.tracing.modules import PLAIN

_OTHERS = (type, FunctionType, ModuleType, nn.Module, torch.dtype, torch.device)  # they hold none of their own


def _walk(value: Any, place: str, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor within a value, each once, with its place: "layers.0.keys"."""
    if type(value) in PLAIN or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield place, value
        return
    if isinstance(value, Mapping):
        parts: Any = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    elif isinstance(value, _OTHERS) or not isinstance(getattr(value, "__dict__", None), dict):
        return
    else:
        parts = vars(value).items()
    for key, part in list(parts):
        yield from _walk(part, f"{place}.{key}" if place else str(key), seen)


def held_by(named: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors within objects among the arguments of a forward, by place: "past_key_values.layers.0.keys"."""
    return {key: t for name, value in named.items() if _holds(value) for key, t in _walk(value, name, set())}


def _holds(value: Any) -> bool:
    known = (torch.Tensor, nn.Module, Mapping)  # and a dataclass: its tensors are inputs
    return isinstance(getattr(value, "__dict__", None), dict) and not (isinstance(value, known) or is_dataclass(value))
