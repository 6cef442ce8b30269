"""A real run on the CPU beside archscope's record of the same model, operator by operator.

The real run shares one thing with archscope: which operators are taken apart, so that both see the same ones.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from archscope import trace
from archscope.analysis.observed import parameter_ids, stored_bytes
from archscope.core.record import Trace
from archscope.tracing.dispatch import overload_of
from archscope.tracing.run import Run
from archscope.tracing.tensors import tensors_in

# shape, and the strides of the sides that are not 1; None where the tensor has another shape by now
Output = tuple[tuple[int, ...], tuple[int, ...] | None]


class Call(NamedTuple):
    """One operator. new: bytes of the memory that it took; None where a weight is made, which is no activation."""

    name: str
    outputs: tuple[Output, ...]
    new: int | None


def _output(tensor: torch.Tensor) -> Output:
    shape = tuple(tensor.shape)
    strided = tensor.layout is torch.strided and tensor.numel()
    return shape, tuple([s for m, s in zip(shape, tensor.stride(), strict=True) if m != 1]) if strided else ()


class Real(TorchDispatchMode):
    """Writes down what PyTorch's own kernels do on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.alive: list[Any] = []  # an address is unique only while its memory lives

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known, kwargs = overload_of(func), kwargs or {}
        as_view = known.joins and args[0].is_contiguous()
        if known.composite and not as_view:
            with self:
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        given = tensors_in((args, kwargs))
        before = {t.untyped_storage().data_ptr() for t in given}
        output = func(*args, **kwargs)
        made = tensors_in((output,))
        self.alive += [given, made]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in made}
        new = sum([size for place, size in storages.items() if place not in before])
        self.calls.append(Call(known.name, tuple(map(_output, made)), new))
        return output


def real_calls(model: nn.Module, inputs: Sequence[Any]) -> list[Call]:
    """What the model does on the CPU, without the fused encoder layer, which hides its operators."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.inference_mode(), Real() as mode:
            model(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return mode.calls


def said_calls(model: nn.Module, inputs: Sequence[Any], values: str = "never") -> list[Call]:
    """The same of archscope's record. Strides are those of the tensors that stood for the real ones."""
    runs: list[Run] = []
    finish = Run.finish

    def kept(self: Run, train: bool) -> Trace:
        runs.append(self)
        return finish(self, train)

    Run.finish = kept
    try:
        record = trace(model, list(inputs), train=None, values=values)
    finally:
        Run.finish = finish
    alive, weights = runs[-1].alive, parameter_ids(record)
    calls = []
    for op, new in zip(record.ops, stored_bytes(record), strict=True):
        outputs = tuple([_output(alive[t.id]) if alive[t.id].shape == t.shape else (t.shape, None) for t in op.outputs])
        calls.append(Call(op.name, outputs, None if any(t.id in weights for t in op.outputs) else new))
    return calls


def differences(model: nn.Module, inputs: Sequence[Any], values: str = "never") -> list[str]:
    """Where the record is not what PyTorch did, up to the first operator that only one of the two has."""
    said, real = said_calls(model, inputs, values), real_calls(model, inputs)
    found = []
    for i, (ours, theirs) in enumerate(zip(said, real, strict=False)):
        if ours.new is None:
            theirs = theirs._replace(new=None)
        if len(ours.outputs) == len(theirs.outputs):
            both = zip(ours.outputs, theirs.outputs, strict=True)
            theirs = theirs._replace(outputs=tuple([(y[0], None) if x[1] is None else y for x, y in both]))
        if ours != theirs:
            found.append(f"{i}: {ours} said, {theirs} real")
        if ours.name != theirs.name:
            return found
    if len(said) != len(real):
        found.append(f"{len(said)} operators said, {len(real)} real")
    return found
