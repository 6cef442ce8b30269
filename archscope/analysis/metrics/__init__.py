"""Every metric, and the totals of a model. Each file of this folder registers some; a new file is all that one needs.

Tables, sweeps, lock files, budgets, pages and plots read `METRICS`.
"""

from typing import Any

from archscope.analysis.metrics.base import METRICS, Metric, arranged, metric
from archscope.analysis.observed import cached, shapes_of, unknown_operators
from archscope.core.record import Trace
from archscope.core.registry import import_folder

__all__ = ["METRICS", "TOTALS", "Metric", "arranged", "metric", "totals"]

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
    known = {key: one.total(trace) for key, one in METRICS.items() if one.total is not None}
    missing = unknown_operators(trace)
    last = {"unknown": missing, "macs_is_lower_bound": bool(missing)}
    return {"model": trace.model, "input": shapes_of(trace.inputs), **known, **last}
