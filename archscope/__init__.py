"""archscope: what a network's shapes, parameters, MACs and memory are, and why.

    model, inputs = archscope.load("alexnet")
    trace = archscope.trace(model, inputs)
    archscope.totals(trace)["params"]        60965224
    archscope.record_of("torchvision:vit_b_16")   the trace of a model of any source
    trace.to_frame()                         a row a layer, raw values

Importing this package imports neither torch nor anything else of weight; the first call does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from archscope.construct import weightless as weightless
    from archscope.errors import ArchscopeError as ArchscopeError
    from archscope.errors import ShapeError as ShapeError
    from archscope.errors import SpecError as SpecError
    from archscope.errors import TraceError as TraceError
    from archscope.gate.asserts import assert_budget as assert_budget
    from archscope.gate.asserts import assert_params as assert_params
    from archscope.gate.asserts import assert_unchanged as assert_unchanged
    from archscope.ir import Trace as Trace
    from archscope.passes import totals as totals
    from archscope.runs import record_of as record_of
    from archscope.spec import load as load
    from archscope.sweeps.run import sweep as sweep
    from archscope.table import Table as Table
    from archscope.tracer import trace as trace
    from archscope.views import layer_table as layer_table

_FACE = {
    "ArchscopeError": "errors",
    "ShapeError": "errors",
    "SpecError": "errors",
    "TraceError": "errors",
    "Trace": "ir",
    "Table": "table",
    "totals": "passes",
    "load": "spec",
    "record_of": "runs",
    "trace": "tracer",
    "layer_table": "views",
    "sweep": "sweeps.run",
    "weightless": "construct",
    "assert_budget": "gate.asserts",
    "assert_params": "gate.asserts",
    "assert_unchanged": "gate.asserts",
}

__all__ = [
    "ArchscopeError",
    "ShapeError",
    "SpecError",
    "Table",
    "Trace",
    "TraceError",
    "__version__",
    "assert_budget",
    "assert_params",
    "assert_unchanged",
    "layer_table",
    "load",
    "record_of",
    "sweep",
    "totals",
    "trace",
    "weightless",
]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'archscope' has no attribute {name!r}")
    import_module("archscope.views")  # what a Trace shows of itself
    value = getattr(import_module(f"archscope.{_FACE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
