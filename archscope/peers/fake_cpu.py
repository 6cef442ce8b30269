"""Run a model on tensors that claim to be of the CPU and have no contents. Nothing is computed.

Some tools cannot be run on the meta device (`torch.jit` tracing hands tensors to its Python kernels where they expect
numbers). Here every tensor claims to be of the CPU and its memory is never touched: below the tool each operator runs
on the meta device, and its output is memory that no one writes to. Small constants keep their values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from archscope.tracing.weightless import META


class _FakeCpu(TorchDispatchMode):
    """empty: the tensors whose contents mean nothing; they live as long as the mode, so that an id() names one."""

    def __init__(self) -> None:
        super().__init__()
        self.empty: dict[int, torch.Tensor] = {}
        self.metas: dict[int, torch.Tensor] = {}

    def fake(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the CPU with the shape, strides and dtype of one on the meta device."""
        made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
        self.empty[id(made)] = made
        return made

    def meta(self, tensor: torch.Tensor) -> torch.Tensor:
        known = self.metas.get(id(tensor))
        if known is None:
            known = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)
            if id(tensor) in self.empty:
                self.metas[id(tensor)] = known
        return known

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        if func is torch.ops.aten.convolution.default and torch._C._get_tracing_state() is not None:
            with _traced(), self:  # `torch.jit` records what this operator becomes, not the operator
                return torch.ops.aten._convolution.default(*args, **_FLAGS)
        with _untraced():
            if not any(id(t) in self.empty for t in tensors):
                return func(*args, **kwargs)
            if func is torch.ops.aten._convolution.default:
                func, args, kwargs = torch.ops.aten.convolution.default, args[:9], {}
            try:
                output = func(*tree_map(self._argument, args), **tree_map(self._argument, kwargs))
            except Exception:  # it wants the values of a constant: lengths, sizes
                output = func(*tree_map(self._fakes_only, args), **tree_map(self._fakes_only, kwargs))
            first = func._schema.arguments[0] if func._schema.arguments else None
            if first is not None and first.alias_info is not None and first.alias_info.is_write:
                return args[0]
            return tree_map(self._result, output)

    def _argument(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.meta(value)
        return META if isinstance(value, torch.device) else value

    def _fakes_only(self, value: Any) -> Any:
        return self.meta(value) if id(value) in self.empty else value

    def _result(self, value: Any) -> Any:
        return self.fake(value) if isinstance(value, torch.Tensor) and value.is_meta else value


@contextmanager
def _untraced() -> Iterator[None]:
    """`torch.jit` looks away: else the sizes that kernels written in Python read are tensors."""
    state = torch._C._get_tracing_state()
    if state is None:
        yield
        return
    _set_tracing(None)
    try:
        yield
    finally:
        _set_tracing(state)


@contextmanager
def _traced() -> Iterator[None]:
    """`torch.jit` records the operators that are called here, within one that it is recording."""
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded(_TRACER)
    torch._C._dispatch_tls_set_dispatch_key_excluded(_TRACER, False)
    try:
        yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_excluded(_TRACER, excluded)


_FLAGS = {"benchmark": False, "deterministic": False, "cudnn_enabled": True, "allow_tf32": True}


def _set_tracing(state: Any) -> None:
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded(_TRACER)
    torch._C._dispatch_tls_set_dispatch_key_excluded(_TRACER, False)
    torch._C._set_tracing_state(state)  # type: ignore[attr-defined]
    torch._C._dispatch_tls_set_dispatch_key_excluded(_TRACER, excluded)


_TRACER = torch._C._dispatch_key_parse("Tracer")


@contextmanager
def on_fake_cpu(model: nn.Module, inputs: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Within this block the model (changed in place) and the inputs that it yields have no contents."""
    mode = _FakeCpu()
    kept: dict[int, torch.Tensor] = {}

    def filled(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_meta:
            return tensor
        if id(tensor) not in kept:
            kept[id(tensor)] = mode.fake(tensor)
        return kept[id(tensor)]

    held = []  # the old ones live until all are replaced: an id() names one tensor only while it lives
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_meta:
                held.append(parameter)
                tensor = kept.get(id(parameter))
                if tensor is None:
                    tensor = nn.Parameter(mode.fake(parameter), requires_grad=False)
                    kept[id(parameter)] = mode.empty[id(tensor)] = tensor
                module._parameters[name] = tensor  # type: ignore[assignment]
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta:
                held.append(buffer)
                module._buffers[name] = filled(buffer)
    given = tree_map(lambda t: filled(t) if isinstance(t, torch.Tensor) else t, inputs)
    with mode:
        yield given
