"""Arithmetic: MACs and FLOPs by the rules of the operators, neurons, and depth."""

from archscope.analysis.metrics.base import metric
from archscope.analysis.observed import weighted, works
from archscope.analysis.row import Row
from archscope.core.record import Trace


@metric(
    "macs", "MACs", "operator", unit="MACs", layer_priority=0, model_priority=0, locked=True, layer_locked=True,
    sized=True, means="MACs: multiply–accumulates of convolutions, matrix products, attention and recurrent gates.",
)  # fmt: skip
def macs(trace: Trace) -> list[int | None]:
    """Multiply–accumulates of convolutions, matrix products, attention and recurrent gates."""
    return [done and done.macs for done in works(trace)]


@metric(
    "flops", "FLOPs", "operator", unit="FLOPs", model_priority=5, locked=True, layer_locked=True, implied_by="macs",
    sized=True, means="FLOPs: 2·MACs plus biases, normalisation, activations, pooling, softmax and elementwise work.",
)  # fmt: skip
def flops(trace: Trace) -> list[int | None]:
    """2·macs, and the work that `operators/__init__.py` lists under Counting semantics."""
    return [done and done.flops for done in works(trace)]


def _neurons(trace: Trace) -> int:
    return sum([op.outputs[0].numel for op, is_one in zip(trace.ops, weighted(trace), strict=True) if is_one])


@metric("neurons", "Neurons", "row", _neurons, unit="neurons", layer_priority=3, locked=True, implied_by="macs",
        sized=True)  # fmt: skip
def neurons(trace: Trace, table: list[Row]) -> list[int | None]:
    """Output elements of the operators that multiply by parameters; None for a row that has none."""
    flags, ops = weighted(trace), trace.ops
    return [sum(ops[i].outputs[0].numel for i in range(row.start, row.stop) if flags[i]) or None for row in table]


@metric("depth", "Depth", "model", unit="layers", model_priority=4, locked=True)
def depth(trace: Trace) -> int:
    """Layers with weights on the longest path from input to output (a recurrent operator counts each of its layers)."""
    longest: dict[int, int] = {}
    for op, is_one in zip(trace.ops, weighted(trace), strict=True):
        after = max([longest.get(t.id, 0) for t in op.inputs], default=0)
        if is_one:
            after += int(op.args.get("num_layers", 1))
        for t in op.outputs:
            if after > longest.get(t.id, 0):
                longest[t.id] = after
    return max(longest.values(), default=0)
