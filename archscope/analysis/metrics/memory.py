"""Memory of the tensors that a run makes."""

from archscope.analysis.metrics.base import metric
from archscope.analysis.observed import stored_bytes
from archscope.core.record import Trace


@metric("activations", "Activations", "operator", form="bytes", unit="bytes", model_priority=3, locked=True,
        layer_locked=True, sized=True, means="Activations: every tensor that the run makes, in bytes.")  # fmt: skip
def activations(trace: Trace) -> list[int]:
    """Bytes of the operators' outputs, less views and in-place results."""
    return stored_bytes(trace)
