"""Autocast for tensors without values: PyTorch's own looks at the device, and knows none of them.

Which operators it casts, and to what, the lists of `casts.py` say. A step of training casts above autograd, by kernels;
here it is done as operators arrive, which leaves them whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import get_ident
from typing import Any

import torch

from archscope.tracing.casts import LISTS
from archscope.tracing.tensors import tensors_in

_RULES = {device: {n: rule for rule, names in each.items() for n in names.split()} for device, each in LISTS.items()}


@cache
def _policy(func: Any, device: str) -> str:
    """What autocast does with the inputs of an operator: "lower", "widest", "float", or nothing."""
    schema = func._schema
    name = schema.name.partition("::")[2]
    if name == "lstm" and device == "cpu":
        return "lower"  # which a CPU runs as mkldnn_rnn_layer
    rule = _RULES[device].get(f"{name}.{schema.overload_name}" if schema.overload_name else name, "")
    return {"dtype": "float", "refused": ""}.get(rule, rule)


class Autocast:
    """The casts of one run. on: the kinds of devices whose autocast is enabled. done: what weights have become, by id
    and dtype."""

    def __init__(self, device: torch.device) -> None:
        self.device = device.type
        self.on: set[str] = set()
        self.done: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    @contextmanager
    def instead(self) -> Iterator[None]:
        """Within this block PyTorch's own autocast is off, and its switches turn this one on."""
        ask, turn = torch.is_autocast_enabled, torch.set_autocast_enabled
        self.on = {kind for kind in _RULES if ask(kind)}
        around, here = tuple(self.on), get_ident()

        def asked(kind: str = "cuda") -> bool:
            return kind in self.on if kind in _RULES and get_ident() == here else ask(kind)

        def turned(*args: Any) -> None:
            kind, value = args if len(args) == 2 else ("cuda", *args)
            if kind in _RULES and get_ident() == here:
                (self.on.add if value else self.on.discard)(kind)
            else:
                turn(kind, value)

        for kind in around:
            turn(kind, False)
        torch.is_autocast_enabled, torch.set_autocast_enabled = asked, turned
        try:
            yield
        finally:
            torch.is_autocast_enabled, torch.set_autocast_enabled = ask, turn
            for kind in around:
                turn(kind, True)

    def __call__(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """An operator's arguments as autocast would hand them on. To be called where a cast is recorded."""
        policy = _policy(func, self.device) if self.device in self.on else ""
        if not policy:
            return args, kwargs
        to = torch.get_autocast_dtype(self.device) if policy == "lower" else torch.float32
        if policy == "widest":
            found = [t.dtype for t in tensors_in((args, kwargs)) if t.is_floating_point()]
            to = to if not found or to in found else found[0]
        return self._cast(tuple(args), to), self._cast(kwargs, to)

    def _cast(self, value: Any, to: torch.dtype) -> Any:
        if isinstance(value, torch.Tensor):
            if not value.is_floating_point() or value.dtype in (to, torch.float64):
                return value
            if not isinstance(value, torch.nn.Parameter) or not torch.is_autocast_cache_enabled():
                return torch.ops.aten._to_copy(value, dtype=to)
            key = (id(value), to)
            if key not in self.done:
                self.done[key] = torch.ops.aten._to_copy(value, dtype=to)
            return self.done[key]
        if isinstance(value, (list, tuple)):
            return type(value)([self._cast(one, to) for one in value])
        if isinstance(value, dict):
            return {key: self._cast(one, to) for key, one in value.items()}
        return value
