"""A training step: its work, and the most memory that it takes. Of the record of a step, `archscope.trace_step`.

The step is that of its conditions, without others that of `trace_step`: a batch as given, plain SGD (foreach), the
model's own precision, cross-entropy where the one output is N×C and else the mean of squares of every output.
"""

from archscope.analysis import training
from archscope.analysis.metrics.base import metric
from archscope.core.record import Trace
from archscope.core.table import AtLeast


@metric("training_macs", "Training MACs", "model", step=True, unit="MACs", model_priority=1, locked=True, sized=True,
        means="Training MACs: of forward, backward and what checkpoints run again; an optimizer has none.")  # fmt: skip
def training_macs(trace: Trace) -> int:
    """MACs of forward, backward and recomputation; a lower bound where an operator's cost is unknown."""
    return _known(trace, training.training_macs(trace))


@metric("training_flops", "Training FLOPs", "model", step=True, unit="FLOPs", model_priority=5, locked=True, sized=True,
        implied_by="training_macs", means="Training FLOPs: of forward, loss, backward and optimizer.")  # fmt: skip
def training_flops(trace: Trace) -> int:
    """FLOPs of the whole step; a lower bound where an operator's cost is unknown."""
    return _known(trace, training.training_flops(trace))


@metric("peak_memory", "Peak memory", "model", step=True, form="bytes", unit="bytes", model_priority=1, locked=True,
        sized=True, means="Peak memory: the most bytes of tensors at any moment of a training step.")  # fmt: skip
def peak_memory(trace: Trace) -> int:
    """The most bytes that tensors take at any moment; workspaces inside kernels are no tensors."""
    return training.peak(trace).nbytes


def _known(trace: Trace, value: int) -> int:
    return AtLeast(value) if training.uncounted_in(trace) else value
