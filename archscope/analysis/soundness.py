"""Whether a record that was read can be what a run gave: all its figures can be made."""

from archscope.analysis.by_layer import layer_table
from archscope.analysis.metrics import totals
from archscope.analysis.step_table import memory_table
from archscope.core.errors import ShapeError
from archscope.core.record import Trace
from archscope.operators import COSTS, work


def sound(trace: Trace) -> Trace:
    """The record itself. Raises ValueError, with the first operator or layer that cannot have run as it says."""
    for i, op in enumerate(trace.ops):
        if op.name in COSTS:  # a user's own formula, which has its own errors
            continue
        try:
            work(op)
        except (ShapeError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise ValueError(f"it is damaged: operator {i}, {op.name}, cannot have run as it says") from error
    try:
        if trace.phases:
            memory_table(trace)
        else:
            layer_table(trace)
        totals(trace)
    except (ShapeError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ValueError("it is damaged: its layers and operators do not fit together") from error
    return trace
