"""Every metric, and the totals of a model. Each file of this folder registers some; a new file is all that one needs.

Tables, sweeps, lock files, budgets, pages and plots read `METRICS`. `STEP_METRICS` are those of a training step, whose
record costs more than a forward: tables, sweeps, lock files and budgets have them where they are asked for.
"""

from typing import Any

from archscope.analysis.metrics.base import METRICS, STEP_METRICS, Metric, arranged, metric
from archscope.analysis.observed import cached, shapes_of, unknown_operators
from archscope.core.errors import SpecError
from archscope.core.record import Trace
from archscope.core.registry import import_folder

__all__ = ["METRICS", "STEP_METRICS", "TOTALS", "Metric", "arranged", "metric", "step_totals", "totals"]

import_folder(__name__, __path__)
METRICS.put_first(*"""depth params trainable buffers memory macs flops activations neurons receptive_field
    effective_stride fc_share""".split())  # fmt: skip

# what sweeps keep of `totals`
TOTALS = ("model", "input", *(key for key, one in METRICS.items() if one.total), "unknown", "macs_is_lower_bound")


@cached
def totals(trace: Trace) -> dict[str, Any]:
    """The model in raw numbers: every metric that has a total, and which model and input it is.

    `macs` and `flops` are sums over the operators whose cost is known; `unknown` names the others and how often each
    ran (empty: nothing is missing); where it names any, both are lower bounds
    and `macs_is_lower_bound` is true. `memory` and `activations` are in bytes, `params`, `trainable` and `buffers` in
    elements.
    """
    if not isinstance(trace, Trace):
        raise SpecError(f"totals are of a trace, not of {type(trace).__name__}: archscope.trace(model, inputs).totals")
    known = {key: one.total(trace) for key, one in METRICS.items() if one.total is not None}
    missing = unknown_operators(trace)
    last = {"unknown": missing, "macs_is_lower_bound": bool(missing)}
    return {"model": trace.model, "input": shapes_of(trace.inputs), **known, **last}


def step_totals(trace: Trace) -> dict[str, Any]:
    """The metrics of a training step. trace: the record of one. Raises ValueError for the record of a forward."""
    if not any(phase.name == "backward" for phase in trace.phases):
        raise ValueError(f"{trace.model}: this is the record of a forward, not of a training step")
    return {key: one.total(trace) for key, one in STEP_METRICS.items() if one.total is not None}
