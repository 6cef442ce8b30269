"""Parameters and buffers: how many, and how large. Tied ones are counted once."""

from collections.abc import Iterable

from archscope.analysis.metrics.base import metric
from archscope.analysis.observed import cached
from archscope.analysis.row import Row
from archscope.core.record import Param, Tensor, Trace
from archscope.layers import LAYERS

DENSE = frozenset(kind for kind, layer in LAYERS.items() if layer.family == "linear")  # fully connected layers


def _distinct(params: Iterable[Param]) -> dict[int, Tensor]:
    return {p.tensor.id: p.tensor for p in params}


@cached
def _parameters(trace: Trace) -> dict[int, Tensor]:
    return _distinct(trace.params)


def _elements(tensors: Iterable[Tensor]) -> int:
    return sum([t.numel for t in tensors])


@cached
def _buffers(trace: Trace) -> list[Tensor]:
    """The buffers that are no parameters."""
    params = _parameters(trace)
    return [t for i, t in _distinct(trace.buffers).items() if i not in params]


def _all(trace: Trace) -> int:
    return _elements(_parameters(trace).values())


def _trainable(trace: Trace) -> int:
    frozen = {p.tensor.id for p in trace.params if not p.trainable}
    return _elements(t for i, t in _parameters(trace).items() if i not in frozen)


@metric("params", "Parameters", "row", _all, unit="parameters", layer_priority=0, model_priority=0, locked=True,
        layer_locked=True)  # fmt: skip
def params(trace: Trace, table: list[Row]) -> list[int]:
    """Elements of the parameters that a row accounts for; a module that runs twice has them in its first row."""
    return [sum(p.tensor.numel for p in row.params) for row in table]


@metric("trainable", "Trainable", "row", _trainable, unit="trainable parameters", locked=True, layer_locked=True,
        implied_by="params")  # fmt: skip
def trainable(trace: Trace, table: list[Row]) -> list[int]:
    """The part of `params` that requires a gradient."""
    return [sum(p.tensor.numel for p in row.params if p.trainable) for row in table]


@metric("buffers", "Buffers", "model", unit="elements of buffers", locked=True)
def buffers(trace: Trace) -> int:
    """Elements of the buffers."""
    return _elements(_buffers(trace))


@metric("memory", "Size", "model", form="bytes", model_priority=6, locked=True, implied_by="params")
def memory(trace: Trace) -> int:
    """Bytes of parameters and buffers."""
    return sum([t.nbytes for t in (*_parameters(trace).values(), *_buffers(trace))])


@metric("fc_share", "In fc", "model", form="share", model_priority=8,
        means="In fc: parameters in fully connected layers.")  # fmt: skip
def fc_share(trace: Trace) -> float | None:
    """The share of the parameters that belongs to fully connected layers; None for a model without parameters."""
    dense = (p for p in trace.params if trace.modules.get(p.name.rpartition(".")[0]) in DENSE)
    whole = _all(trace)
    return _elements(_distinct(dense).values()) / whole if whole else None
