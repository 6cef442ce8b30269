"""archscope: what a network's shapes, parameters, MACs and memory are, and why.

    model, inputs = archscope.load("alexnet")
    trace = archscope.trace(model, inputs)
    trace.totals["params"]                   60965224
    archscope.summary(model, (1, 3, 227, 227))    prints the layers, with torchinfo's arguments
    archscope.record_of("torchvision:vit_b_16")   the trace of a model of any source
    trace.to_frame()                         a row a layer, raw values

Importing this package imports neither torch nor anything else of weight; the first call does.
"""

from importlib import import_module
from sys import modules
from typing import TYPE_CHECKING, Any

from archscope.core.registry import PROVIDED

if TYPE_CHECKING:
    from archscope.analysis.by_layer import layer_table as layer_table
    from archscope.analysis.metrics import totals as totals
    from archscope.bench.meter import Meter as Meter
    from archscope.core.errors import ArchscopeError as ArchscopeError
    from archscope.core.errors import ShapeError as ShapeError
    from archscope.core.errors import SpecError as SpecError
    from archscope.core.errors import TraceError as TraceError
    from archscope.core.record import Trace as Trace
    from archscope.core.table import Table as Table
    from archscope.core.version import __version__ as __version__
    from archscope.gate.asserts import assert_budget as assert_budget
    from archscope.gate.asserts import assert_params as assert_params
    from archscope.gate.asserts import assert_unchanged as assert_unchanged
    from archscope.operators.custom import register_cost as register_cost
    from archscope.sources.loading import load as load
    from archscope.sources.records import record_of as record_of
    from archscope.sources.summaries import summary as summary
    from archscope.sweeps.run import sweep as sweep
    from archscope.tracing.step import trace_step as trace_step
    from archscope.tracing.tracer import trace as trace
    from archscope.tracing.weightless import weightless as weightless

_FACE = {
    "__version__": "core.version",
    "ArchscopeError": "core.errors",
    "ShapeError": "core.errors",
    "SpecError": "core.errors",
    "TraceError": "core.errors",
    "Trace": "core.record",
    "Table": "core.table",
    "totals": "analysis.metrics",
    "load": "sources.loading",
    "record_of": "sources.records",
    "Meter": "bench.meter",
    "trace": "tracing.tracer",
    "trace_step": "tracing.step",
    "layer_table": "analysis.by_layer",
    "register_cost": "operators.custom",
    "summary": "sources.summaries",
    "sweep": "sweeps.run",
    "weightless": "tracing.weightless",
    "assert_budget": "gate.asserts",
    "assert_params": "gate.asserts",
    "assert_unchanged": "gate.asserts",
}

__all__ = [
    "ArchscopeError",
    "Meter",
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
    "register_cost",
    "summary",
    "sweep",
    "totals",
    "trace",
    "trace_step",
    "weightless",
]


_ELSEWHERE = {  # names of other tools, and of commands
    **{name: f"`archscope {name} nets.py:Net` in a shell" for name in
       ("explain", "verify", "reconcile", "sizes", "fit", "llm", "quiz", "bench", "lock", "search")},
    **dict.fromkeys(("flops", "macs", "profile", "count_ops", "clever_format", "get_model_complexity_info", "stat",
                     "FlopCountAnalysis", "FlopCounterMode", "params", "parameter_count"),
                    "archscope.trace(model, inputs).totals"),
    **dict.fromkeys(("draw", "plot", "plot_model", "draw_graph", "make_dot", "view"),
                    "`archscope draw nets.py:Net --output net.svg` in a shell"),
    "memory": "archscope.trace_step(model, inputs)", "Summary": "archscope.summary(model, (1, 3, 224, 224))",
    "table": "archscope.layer_table(trace), or `archscope table MODEL MODEL` in a shell",
}  # fmt: skip


def _provide(what: str, place: str, name: str) -> None:
    """Let the ground floor show what a higher room makes, imported when it is asked for."""
    PROVIDED.add(what, lambda *args, **kwargs: getattr(import_module(f"archscope.{place}"), name)(*args, **kwargs))


_provide("html", "core.formats.html", "render")
_provide("printed table", "core.formats", "printed")
_provide("totals", "analysis.metrics", "totals")
_provide("layer table", "analysis.by_layer", "layer_table")
_provide("soundness", "analysis.soundness", "sound")
_provide("diagnosis", "shapes.doctor", "diagnose")
_provide("explanation", "shapes.doctor", "explanation")


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        instead = _ELSEWHERE.get(name, "")
        text = f"module 'archscope' has no attribute {name!r}{instead and f': write {instead}'}"
        raise AttributeError(text, name=name, obj=modules[__name__])  # so that Python names a near one
    value = getattr(import_module(f"archscope.{_FACE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
