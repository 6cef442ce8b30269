"""A run whose forward takes gradients: forces, gradient penalties, Grad-CAM.

Autograd hands its operators to the same dispatch mode, so that they are counted. They belong to no layer call, and
stand in rows of their own. With autograd PyTorch takes linear layers and convolutions apart before they reach the mode,
and views come back as other objects: here a tensor is known by its place in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.autograd import forward_ad, functional

from archscope.core.record import Tensor, Trace
from archscope.tracing.devices import is_meta
from archscope.tracing.dispatch import Overload
from archscope.tracing.inputs import without_values
from archscope.tracing.run import Run
from archscope.tracing.sparse import SPARSE
from archscope.tracing.tensors import is_wrapped
from archscope.tracing.weightless import META


def differentiable(tensor: torch.Tensor) -> torch.Tensor:
    """An input as such a run sees it: of floating numbers none keeps its values, because gradients for it have none."""
    if not tensor.is_floating_point() or tensor.layout in SPARSE:
        return without_values(tensor)
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)


@contextmanager
def refused() -> Iterator[None]:
    """Within this block torch.autograd.functional raises, which else takes a gradient for zero where autograd does not
    run."""
    original = functional._autograd_grad

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a gradient is asked for, and no tensor requires grad")

    functional._autograd_grad = refuse
    try:
        yield
    finally:
        functional._autograd_grad = original


@contextmanager
def taken() -> Iterator[None]:
    """Within this block autograd runs, and recurrent layers are made of products."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)  # torch.backends.mkldnn.flags sets others too, and warns
    try:
        with torch.enable_grad():
            yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def scripted(error: Exception) -> bool:
    """Whether a run failed because PyTorch compiled its rules of forward-mode gradients in it; they are there now."""
    if "Compiled functions can't take variable" not in str(error):
        return False
    forward_ad._maybe_load_decompositions()
    return True


class GradientRun(Run):
    """A run with autograd. backward: the operators that autograd ran, by index."""

    gradients = True

    def __init__(self, *args: Any) -> None:
        self.places: dict[Any, Tensor] = {}
        self.backward: list[int] = []
        super().__init__(*args)

    def record(self, tensor: torch.Tensor) -> Tensor:
        known = self.records.get(id(tensor))
        if known is None:
            if tensor.layout is not torch.strided or is_wrapped(tensor):
                return super().record(tensor)
            storage = tensor.untyped_storage()
            place = (storage._cdata, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
            known = self.places.get(place)
            if known is None:
                return self.places.setdefault(place, super().record(tensor))
            self.records[id(tensor)] = known
            self.alive.append(tensor)
        return known

    def kernel(self, overload: Overload, func: Any, args: Any, kwargs: Any) -> Any:
        if self.casts.on:
            raise NotImplementedError("autocast and gradients are followed with values only, on no meta tensors")
        if overload.constant and not self.real and args and isinstance(args[0], torch.Tensor) and is_meta(args[0]):
            overload = overload._replace(constant=False)  # ones like a sum: a gradient is where its tensor is
        return super().kernel(overload, func, args, kwargs)

    def keep(self, overload: Overload, named: dict[str, Any], output: Any) -> None:
        if torch._C._current_autograd_node() is not None:
            self.backward.append(len(self.ops))
        super().keep(overload, named, output)

    def finish(self, train: bool) -> Trace:
        record = super().finish(train)
        return replace(record, spelled={**(record.spelled or {}), **dict.fromkeys(self.backward, "autograd")})

    def notes(self) -> tuple[str, ...]:
        if not self.backward:
            return super().notes()
        macs = sum(done.macs for i in self.backward if (done := self.works[i]) is not None)
        said = f"the forward takes gradients: autograd ran {len(self.backward):,} operators with {macs:,} MACs"
        return (f"{said}, which stand in rows of their own", *super().notes())
