"""Models -> what the interactive page holds: raw values, every model at every size of the slider, as plain JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from archscope.analysis.by_layer import LAYER_COLUMNS, LAYER_HIDDEN, layer_table
from archscope.analysis.by_model import MODEL_COLUMNS, MODEL_HIDDEN
from archscope.analysis.metrics import METRICS, totals
from archscope.analysis.texts import inputs_text
from archscope.analysis.verification import disagreements
from archscope.bench.results import blocks, tables
from archscope.core.errors import ArchscopeError
from archscope.core.formats import heading
from archscope.core.record import Trace
from archscope.core.table import Column, Table
from archscope.peers.reconcile import predicted
from archscope.peers.tools import COUNTERS
from archscope.report.graph import graph_of
from archscope.report.pages import ReportModel, verdicts
from archscope.report.runs import Row, curves_of, speed_of
from archscope.report.solids import svg
from archscope.shapes.resize import ResizableModel, resized
from archscope.zoo.catalogue import entries

SIDES = (28, 32, 64, 96, 128, 160, 192, 224, 227, 256, 288, 299, 320, 384, 448, 512)
SIZED = [key for key, one in METRICS.items() if one.sized and one.total]  # what the size of the input changes
LAYERS = """path kind window output_shape formula params_formula params macs_formula macs flops activations neurons
    receptive_field agrees""".split()
MORE = (
    *(c for c in MODEL_HIDDEN if c.key in METRICS),
    Column("family", "Family"),
    Column("paper", "Paper"),
)


def page_data(
    subjects: Iterable[ReportModel], sides: Sequence[int] = SIDES, runs: Sequence[Row] = ()
) -> dict[str, Any]:
    """Everything that the page shows."""
    layers = {column.key: column for column in (*LAYER_COLUMNS, *LAYER_HIDDEN)}
    return {
        "sides": list(sides),
        "columns": [_column(c) for c in (*MODEL_COLUMNS, *MORE)],
        "shown": [c.key for c in MODEL_COLUMNS if c.key != "memory"],
        "layer_columns": [_column(layers[key]) for key in LAYERS],
        "conventions": [
            {"key": c.name, "title": c.title, "means": c.means, "calls": c.calls} for c in COUNTERS.values()
        ],
        "moving": SIZED,
        "models": [_model(subject, sides) for subject in subjects],
        "runs": [_block(block, table) for block, table in zip(blocks(runs), tables(runs), strict=True)],
    }


def _block(block: Sequence[Row], table: Table) -> dict[str, Any]:
    """The runs of one device, precision, recipe and data set: their table, and what the plots of trainings show."""
    trained = block[0].get("kind") != "infer"
    keys = [column.key for column in table.columns]
    return {
        "title": table.title,
        "columns": [_column(column) for column in table.columns],
        "rows": [{key: row.get(key) for key in keys} for row in table.rows],
        "notes": [*table.notes, *([table.caption] if table.caption else [])],
        "lines": curves_of(block) if trained else [],
        "points": speed_of(block) if trained else [],
    }


def _column(column: Column) -> dict[str, Any]:
    return {"key": column.key, "title": heading(column), "form": column.form, "means": column.means}


def _model(subject: ReportModel, sides: Sequence[int]) -> dict[str, Any]:
    trace = subject.trace
    entry = entries().get(subject.spec.name) if subject.spec.in_zoo else None
    wrong = disagreements(trace, subject.entry)
    layers = layer_table(trace)
    found = totals(trace)
    own = trace.inputs[0].shape[-1] if trace.inputs and len(trace.inputs[0].shape) == 4 else None
    sizes = _sizes(subject, sides) if own is not None else {}
    return {
        **{key: value for key, value in found.items() if key != "unknown"},
        "model": subject.spec.text,
        "input_text": inputs_text(trace),
        "side": own if sizes else None,
        "family": entry.family if entry is not None else subject.spec.source.name,
        "paper": subject.spec.source.published(subject.spec.name).get("paper") or "",
        "verified": not wrong,
        "told": [*wrong, *verdicts(subject)],
        "notes": list(layers.notes),
        "as": predicted(trace, COUNTERS),
        "layers": [[row.get(key) for key in LAYERS] for row in layers.rows],
        "drawing": svg(graph_of(trace)),
        "sizes": sizes,
    }


def _sizes(subject: ReportModel, sides: Sequence[int]) -> dict[str, Mapping[str, Any] | None]:
    """The totals at each side, None where the model does not run; empty where it cannot be run again."""
    try:
        model = resized(subject.spec, subject.input, subject.batch)
    except ArchscopeError:
        return {}
    return {str(side): _at(model, side) for side in sides}


def _at(model: ResizableModel, side: int) -> Mapping[str, Any] | None:
    try:
        ran = model.at(side)
    except ArchscopeError:
        return None
    return moving(ran.trace) if model.works(ran) else None


def moving(trace: Trace) -> dict[str, Any]:
    """The figures that a size changes."""
    found = totals(trace)
    return {**{key: found[key] for key in SIZED}, "as": predicted(trace, COUNTERS)}
