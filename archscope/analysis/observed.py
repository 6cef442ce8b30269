"""What a run did, operator by operator: the facts that rows, metrics and tables are made of."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any, ParamSpec, TypeVar

from archscope.analysis import receptive_field
from archscope.core.record import Tensor, Trace
from archscope.operators import Work, shares, work

P = ParamSpec("P")
T = TypeVar("T")


def cached(function: Callable[P, T]) -> Callable[P, T]:
    """Compute once for each trace and arguments; the result is stored with the trace, under the function's name."""

    @functools.wraps(function)
    def get(*args: P.args, **kwargs: P.kwargs) -> T:
        trace, *rest = args
        store: dict[Any, T] = trace.__dict__.setdefault("_kept", {})
        key = (function.__name__, *rest, *kwargs.items())
        if key not in store:
            store[key] = function(*args, **kwargs)
        return store[key]

    return get


@cached
def works(trace: Trace) -> list[Work | None]:
    """The work of each operator, None where it is unknown."""
    return [work(op) for op in trace.ops]


@cached
def parameter_ids(trace: Trace) -> frozenset[int]:
    """Ids of the parameters and of all tensors that are computed from parameters, or from these and buffers: a
    transposed weight, one times a mask; and of weights that are kept as bytes in a buffer."""
    ids = {p.tensor.id for p in trace.params}
    buffers = {b.tensor.id for b in trace.buffers}
    narrow = {b.tensor.id for b in trace.buffers if b.tensor.dtype in BYTE}
    for op in trace.ops:
        inputs = [t.id for t in op.inputs]
        if computed_weight(inputs, ids, buffers, narrow):
            ids.update([t.id for t in op.outputs])
        elif inputs and buffers.issuperset(inputs):
            buffers.update([t.id for t in op.outputs])
    return frozenset(ids)


BYTE = ("int8", "uint8", "float8_e4m3fn", "float8_e5m2", "qint8", "quint8")  # dtypes of quantised weights


def computed_weight(
    inputs: Iterable[int], learned: AbstractSet[int], buffers: AbstractSet[int], narrow: AbstractSet[int]
) -> bool:
    """Whether the output of an operator with these inputs is a weight. narrow: buffers that may hold weights."""
    if learned.isdisjoint(inputs) and narrow.isdisjoint(inputs):
        return False
    return all([i in learned or i in buffers for i in inputs])


@cached
def weighted(trace: Trace) -> list[bool]:
    """For each operator, whether it multiplies activations by parameters; those of autograd go back over them."""
    weights, called = parameter_ids(trace), trace.spelled or {}
    return [
        done is not None
        and done.macs > 0
        and any(t.id in weights for t in op.inputs)
        and any(t.id not in weights for t in op.inputs)
        and not all(t.id in weights for t in op.outputs)  # it makes a weight
        and called.get(i) != "autograd"
        for i, (op, done) in enumerate(zip(trace.ops, works(trace), strict=True))
    ]


@cached
def fields(trace: Trace) -> dict[int, receptive_field.Field]:
    """The receptive field of each tensor that has one, by tensor id."""
    return receptive_field.fields(trace, works(trace))


@cached
def unknown_operators(trace: Trace) -> dict[str, int]:
    """Operators whose cost no rule knows, and how often each ran."""
    return dict(Counter(op.name for op, done in zip(trace.ops, works(trace), strict=True) if done is None))


@cached
def stored_bytes(trace: Trace) -> list[int]:
    """Bytes that each operator's outputs take: views, in-place results and rearranged parameters take none."""
    weights = parameter_ids(trace)
    seen = {t.id for t in trace.inputs} | {p.tensor.id for p in (*trace.params, *trace.buffers, *trace.cache)}
    out = []
    for op in trace.ops:
        count = 0
        for t in op.outputs:
            if t.id not in seen:
                seen.add(t.id)
                if t.id not in weights and not shares(op, t):
                    count += t.nbytes
        out.append(count)
    return out


def shapes_of(tensors: tuple[Tensor, ...]) -> Any:
    """The shape of a single tensor, a tuple of shapes of several, None where there is none."""
    if len(tensors) == 1:
        return tensors[0].shape
    return tuple(t.shape for t in tensors) or None
