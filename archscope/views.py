"""The two tables that everything else prints: the layers of one trace, and models side by side."""

import sys
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from archscope import __version__, ir
from archscope.formulas import Derived
from archscope.ir import Trace
from archscope.passes import COLUMNS, Row, rows, totals, unknown, visible
from archscope.render import html
from archscope.table import Column, Table
from archscope.verify import WHOLE, Check, check

CONVENTION = (
    "MACs: multiply–accumulates of convolutions, matrix products, attention and recurrent gates. "
    "FLOPs: 2·MACs and bias, normalisation, activation, pooling, softmax and elementwise work. "
    "Parameters: each once, trainable or not. Activations: bytes of every tensor the run makes."
)

LAYER_COLUMNS = (
    Column("path", "Layer"),
    Column("kind", "Kind"),
    Column("window", "Kernel", priority=5),
    Column("output_shape", "Output", "shape"),
    Column("formula", "Derivation", priority=4),
    Column("neurons", "Neurons", "count", priority=3),
    Column("params_formula", "Parameters derived", priority=6),
    Column("params", "Parameters", "count"),
    Column("macs", "MACs", "count"),
    Column("agrees", "Agrees", "flag", priority=2),
)
LAYER_HIDDEN = (
    Column("model", "Model"),
    Column("call", "Call", "count"),
    Column("depth", "Depth", "count"),
    Column("config", "Configuration"),
    Column("input", "Input", "shape"),
    Column("trainable", "Trainable", "count"),
    Column("macs_formula", "MACs derived"),
    Column("flops", "FLOPs", "count"),
    Column("activations", "Activations", "bytes"),
    Column("receptive_field", "Receptive field", "count"),
    Column("effective_stride", "Effective stride", "count"),
)

MODEL_COLUMNS = (
    Column("model", "Model"),
    Column("input", "Input", "shape"),
    Column("depth", "Depth", "count", priority=4),
    Column("params", "Parameters", "count"),
    Column("memory", "Size", "bytes", priority=6),
    Column("macs", "MACs", "count"),
    Column("flops", "FLOPs", "count", priority=5),
    Column("activations", "Activations", "bytes", priority=3),
    Column("receptive_field", "Receptive field", "count", priority=7),
    Column("fc_share", "In fc", "share", priority=8),
    Column("verified", "Verified", "flag", priority=1),
)
MODEL_HIDDEN = (
    Column("source", "Source"),
    Column("trainable", "Trainable", "count"),
    Column("buffers", "Buffers", "count"),
    Column("neurons", "Neurons", "count"),
    Column("unknown", "Unknown operators"),
    Column("error", "Error"),
)


def layer_table(trace: Trace, depth: int | None = None, everything: bool = False) -> Table:
    """The layers of a trace in run order, one row each; the columns add up to the totals in the last row.

    depth: show modules down to this depth, with all that runs inside them in one row. everything: also a container's
    own reshaping and bookkeeping, which computes nothing.
    """
    table = rows(trace, depth, WHOLE)
    if not everything:
        table = [row for row in table if visible(trace, row)]
    checks = check(trace, table)
    values = {key: column(trace, table) for key, column in COLUMNS.items()}
    shown = []
    for i, (row, checked) in enumerate(zip(table, checks, strict=True)):
        shown.append(
            {
                "model": trace.model,
                "path": row.path or trace.model,
                "kind": row.kind,
                "call": row.call,
                "depth": row.depth,
                "config": dict(row.config),
                "window": window_text(row.config),
                "input": row.inputs[0].shape if row.inputs else None,
                "formula": shape_text(checked.derived),
                "params_formula": _derivation(checked.derived.params, values["params"][i]) if checked.derived else "",
                "macs_formula": _derivation(checked.derived.macs, values["macs"][i]) if checked.derived else "",
                "agrees": checked.agrees,
                **{key: column[i] for key, column in values.items()},
            }
        )
    sums = totals(trace)
    shape = "×".join(map(str, trace.inputs[0].shape)) if trace.inputs else ""
    return Table(
        title=f"{trace.model}, input {shape}" + (", training mode" if trace.train else ""),
        columns=LAYER_COLUMNS,
        hidden=LAYER_HIDDEN,
        rows=tuple(shown),
        totals={key: sums[key] for key in ("params", "neurons", "macs", "flops", "activations", "trainable")},
        notes=tuple(_notes(trace, table, checks)),
        caption=f"{CONVENTION} {versions(trace.versions)}",
    )


def _derivation(number: Any, observed: Any) -> str:
    """`11·11·3·96 + 96 = 34,944`, empty where there is nothing to derive or the row does not account for it."""
    if isinstance(number, int) or number.plain or int(number) != observed:
        return ""
    return str(number)


def shape_text(derived: Derived | None) -> str:
    """The derivation of the output's sides, once where all are alike."""
    if derived is None or not derived.sides:
        return ""
    texts = list(dict.fromkeys(str(side) for side in derived.sides if not side.plain))
    return ", ".join(texts)


def window_text(config: Mapping[str, Any]) -> str:
    """Kernel, stride, padding, dilation and groups of a layer as the papers write them: `3×3/2 p1 g32`."""
    kernel = config.get("kernel_size")
    if kernel is None:
        return ""
    n = len(kernel) if isinstance(kernel, tuple) else 2

    def sides(value: Any) -> tuple[Any, ...]:
        return value if isinstance(value, tuple) else (value,) * n

    def short(value: Any) -> str:
        each = sides(value)
        return str(each[0]) if len(set(each)) == 1 else "×".join(map(str, each))

    stride = config.get("stride") or kernel
    text = "×".join(map(str, sides(kernel)))
    text += f"/{short(stride)}" if set(sides(stride)) != {1} else ""
    padding = config.get("padding", 0)
    text += f" p{short(padding)}" if isinstance(padding, str) or set(sides(padding)) != {0} else ""
    text += f" d{short(config['dilation'])}" if set(sides(config.get("dilation", 1))) != {1} else ""
    text += f" g{config['groups']}" if config.get("groups", 1) != 1 else ""
    text += " ceil" if config.get("ceil_mode") else ""
    return text


def _notes(trace: Trace, table: list[Row], checks: list[Check]) -> Iterable[str]:
    for row, checked in zip(table, checks, strict=True):
        for difference in checked.differences:
            yield f"{row.path}: formula and observation disagree: {difference}"
        if checked.derived is not None and any(rest for *_, rest in checked.derived.lost):
            yield boundary_text(row, checked.derived)
    for row in table:
        if not row.called:
            yield f"{row.path} ({row.kind}) never ran in this forward; its {prod_params(row):,} parameters are counted"
        elif row.call and any(first.path == row.path for first in table):
            yield f"{row.path} runs again (call {row.call + 1}): its parameters are counted once"
    tied = len(trace.params) - len({p.tensor.id for p in trace.params})
    if tied:
        yield f"{tied} tied parameter{'s are' if tied > 1 else ' is'} counted once"
    missing = unknown(trace)
    if missing:
        names = ", ".join(f"{name} ({count}×)" for name, count in missing.items())
        yield f"the cost of these operators is unknown, and in no total: {names}"


def boundary_text(row: Row, derived: Derived) -> str:
    """What the last window does not reach: `conv1: (224 − 11)/4 leaves 1, …`."""
    told = []
    for (span, stride, rest), side in zip(derived.lost, row.inputs[0].shape[-len(derived.lost) :], strict=True):
        if rest:
            pad = span - side
            text = f"({side} {'−' if pad < 0 else '+'} {abs(pad)})/{stride} leaves {span % stride}"
            told.append((text, rest))
    texts = dict.fromkeys(text for text, _ in told)
    rest = max(rest for _, rest in told)
    what = "row and column" if len(told) > 1 else "row or column"
    lines = f"the last {what} are" if rest == 1 and len(told) > 1 else f"the last {rest} of a side are"
    return f"{row.path}: {', '.join(texts)}: {lines} never reached by the window"


def prod_params(row: Row) -> int:
    """Elements of the parameters of a row."""
    return sum(prod(p.tensor.shape) for p in row.params)


def model_row(trace: Trace, source: str, verified: bool | None) -> dict[str, Any]:
    """One model of the comparison table."""
    return {**totals(trace), "source": source, "verified": verified}


def model_table(models: Iterable[Mapping[str, Any]], made_with: str) -> Table:
    """Models side by side. A model that failed has its row too, with the reason under `error`."""
    listed = tuple(models)
    failed = [row for row in listed if row.get("error")]
    notes = [f"{row['model']}: {row['error']}" for row in failed]
    for row in listed:
        notes += [f"{row['model']}: {difference}" for difference in row.get("differences", ())]
        if row.get("unknown"):
            names = ", ".join(f"{name} ({count}×)" for name, count in row["unknown"].items())
            notes.append(f"{row['model']}: the cost of these operators is unknown, and in no total: {names}")
    return Table(
        title="Architectures compared",
        columns=MODEL_COLUMNS,
        hidden=MODEL_HIDDEN,
        rows=listed,
        notes=tuple(notes),
        caption=f"{CONVENTION} Input of each model in its row, batch first. {made_with}",
    )


def versions(known: Mapping[str, str] | None = None) -> str:
    """`archscope 0.1.0, torch 2.14.1.`, of a trace or of what is running."""
    if known is None:
        known = {"archscope": __version__, "torch": sys.modules["torch"].__version__}
    return ", ".join(f"{name} {version}" for name, version in known.items()) + "."


ir.VIEWS["table"] = layer_table
ir.VIEWS["html"] = lambda trace: html(layer_table(trace))
