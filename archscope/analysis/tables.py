"""The two tables that everything else prints: the layers of one trace, and models side by side."""

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from archscope.analysis.columns import COLUMNS, Row, rows, totals, unknown, visible
from archscope.analysis.verification import WHOLE, Check, as_layer, check
from archscope.core.errors import ShapeError
from archscope.core.record import Trace
from archscope.core.table import Column, Table
from archscope.core.version import __version__
from archscope.layers.formulas import Derived, derive

MACS = "MACs: multiply–accumulates of convolutions, matrix products, attention and recurrent gates."
FLOPS = "FLOPs: 2·MACs plus biases, normalisation, activations, pooling, softmax and elementwise work."
ACTIVATIONS = "Activations: every tensor that the run makes, in bytes."
AGREES = "OK: formula and observation agree."

LAYER_COLUMNS = (
    Column("path", "Layer"),
    Column("kind", "Kind", priority=1),
    Column("window", "Kernel", priority=5, below=True),
    Column("output_shape", "Output", "shape", priority=1),
    Column("formula", "Derivation", priority=4, below=True),
    Column("neurons", "Neurons", "count", priority=3),
    Column("params_formula", "Parameters derived", priority=6, below=True),
    Column("params", "Parameters", "count"),
    Column("macs", "MACs", "count", means=MACS),
    Column("agrees", "OK", "flag", priority=2, means=AGREES),
)
LAYER_HIDDEN = (
    Column("model", "Model"),
    Column("call", "Call", "count"),
    Column("depth", "Depth", "count"),
    Column("config", "Configuration"),
    Column("input", "Input", "shape"),
    Column("trainable", "Trainable", "count"),
    Column("buffers", "Buffers", "count"),
    Column("macs_formula", "MACs derived"),
    Column("flops", "FLOPs", "count", means=FLOPS),
    Column("activations", "Activations", "bytes", means=ACTIVATIONS),
    Column("receptive_field", "Receptive field", "count"),
    Column("effective_stride", "Effective stride", "count"),
)

MODEL_COLUMNS = (
    Column("model", "Model"),
    Column("input", "Input", "shape", priority=1),
    Column("depth", "Depth", "count", priority=4),
    Column("params", "Parameters", "count", means="Parameters: each once, trainable or not."),
    Column("memory", "Size", "bytes", priority=6),
    Column("macs", "MACs", "count", means=MACS),
    Column("flops", "FLOPs", "count", priority=5, means=FLOPS),
    Column("activations", "Activations", "bytes", priority=3, means=ACTIVATIONS),
    Column("receptive_field", "Receptive field", "count", priority=7),
    Column("fc_share", "In fc", "share", priority=8, means="In fc: parameters in fully connected layers."),
    Column("verified", "Verified", "flag", priority=2, means="Verified: every derivation and published count agrees."),
)
MODEL_HIDDEN = (
    Column("source", "Source"),
    Column("trainable", "Trainable", "count"),
    Column("buffers", "Buffers", "count"),
    Column("neurons", "Neurons", "count"),
    Column("unknown", "Unknown operators"),
    Column("error", "Error"),
)


def layer_table(trace: Trace, depth: int | None = None, everything: bool = False, stopped: str | None = None) -> Table:
    """The layers of a trace in run order, one row each; the columns add up to the totals in the last row.

    depth: show modules down to this depth, with all that runs inside them in one row. everything: also a container's
    own reshaping, which neither computes nor stores anything. stopped: the path of the module in which the run
    failed; the table is then of what ran before.
    """
    table = _merged(trace, rows(trace, depth, WHOLE), depth)
    stored = COLUMNS["activations"](trace, table)
    if stopped is not None:
        table = [row for row in table if row.layer is not None or row.stop > row.start]
    elif not everything:
        table = [row for row, count in zip(table, stored, strict=True) if count or visible(trace, row)]
    table, buffers = _with_buffers(trace, table, stopped is not None)
    leaves = table if depth is None else rows(trace, None, WHOLE)
    checks = dict(zip(map(_key, leaves), check(trace, leaves), strict=True))
    values = {key: column(trace, table) for key, column in COLUMNS.items()}
    shown = []
    for i, row in enumerate(table):
        derived = checks[_key(row)].derived if _key(row) in checks else None
        one = {
            "model": trace.model,
            "path": row.path,
            "kind": row.kind,
            "call": row.call,
            "depth": row.depth,
            "config": dict(row.config),
            "window": window_text(row.config),
            "input": row.inputs[0].shape if row.inputs else None,
            "formula": shape_text(derived),
            "params_formula": _derivation(derived.params, values["params"][i]) if derived else "",
            "macs_formula": _derivation(derived.macs, values["macs"][i]) if derived else "",
            "agrees": _agrees(row, checks),
            "buffers": buffers[i],
            **{key: column[i] for key, column in values.items()},
        }
        if stopped is not None and not row.outputs:  # the module that failed: nothing came out of it
            one |= dict.fromkeys(("agrees", "neurons", "macs", "flops", "activations"))
        shown.append(one)
    sums = totals(trace)
    notes = _notes(trace, leaves, checks) if stopped is None else _boundaries(leaves, checks)
    return Table(
        title=f"{trace.model}, input {inputs_text(trace)}"
        + (", training mode" if trace.train else "")
        + (f", as far as {stopped or trace.model}" if stopped is not None else ""),
        columns=LAYER_COLUMNS,
        hidden=LAYER_HIDDEN,
        rows=tuple(shown),
        totals=None if stopped is not None else {key: sums[key] for key in SUMS},
        notes=tuple(notes),
        caption=versions(trace.versions),
    )


SUMS = ("params", "neurons", "macs", "flops", "activations", "trainable", "buffers")

_Key = tuple[str, int, int, int]


def _key(row: Row) -> _Key:
    return row.path, row.call, row.start, row.stop


def _agrees(row: Row, checks: Mapping[_Key, Check]) -> bool | None:
    """Whether the formulas of a row hold: its own, or all that stand inside it."""
    own = checks.get(_key(row))
    if own is not None:
        return own.agrees
    inside = [
        checked.agrees
        for (path, _, start, stop), checked in checks.items()
        if path.startswith(f"{row.path}.") and row.start <= start and stop <= row.stop
    ]
    return False if False in inside else True if True in inside else None


def _merged(trace: Trace, table: list[Row], depth: int | None) -> list[Row]:
    """Modules that never ran, down to a depth: those below it in one row with their parameters."""
    if depth is None:
        return table
    out: dict[Any, Row] = {}
    for row in table:
        if row.called or row.depth <= depth:
            out[_key(row), row.kind] = row
            continue
        path = ".".join(row.path.split(".")[:depth])
        kind = trace.modules.get(path, "Module")
        before = out.get((path, kind))
        params = (before.params if before else ()) + row.params
        out[path, kind] = row._replace(path=path, kind=kind, depth=depth, params=params)
    return list(out.values())


def _with_buffers(trace: Trace, table: list[Row], stopped: bool) -> tuple[list[Row], list[int]]:
    """Elements of the buffers that each row accounts for; those of a container without a row get rows of their own."""
    first: dict[str, int] = {}
    for i, row in enumerate(table):
        if row.layer is not None or not row.called:
            first.setdefault(row.path, i)
    counts = [0] * len(table)
    rest = []
    seen = {p.tensor.id for p in trace.params}
    for buffer in trace.buffers:
        if buffer.tensor.id in seen:
            continue
        seen.add(buffer.tensor.id)
        path = buffer.name.rpartition(".")[0]
        while path not in first and path:
            path = path.rpartition(".")[0]
        if path in first:
            counts[first[path]] += buffer.tensor.numel
        elif not stopped:
            where = buffer.name.count(".") + 1
            rest.append(Row(buffer.name, 0, "Buffer", where, {}, (), (buffer.tensor,), 0, 0))
    return [*table, *rest], [*counts, *(row.outputs[0].numel for row in rest)]


def inputs_text(trace: Trace) -> str:
    """`1×3×227×227`, `1×128 int64`, several separated by commas."""
    texts = ("×".join(map(str, t.shape)) + (f" {t.dtype}" if t.dtype != "float32" else "") for t in trace.inputs)
    return ", ".join(texts)


def _derivation(number: Any, observed: Any) -> str:
    """`11·11·3·96 + 96 = 34,944`, empty where there is nothing to derive or the row does not account for it."""
    if isinstance(number, int) or number.plain or int(number) != observed:
        return ""
    return str(number)


def shape_text(derived: Derived | None) -> str:
    """The derivation of the output's sides: once where all are alike, else each under its letter."""
    if derived is None:
        return ""
    sides = derived.sides
    texts = [str(side) for side in sides]
    if all(side.plain for side in sides):
        return ""
    if len(set(texts)) == 1:
        return texts[0]
    return ", ".join(f"{axis}: {text}" for axis, text in zip("thw"[-len(texts) :], texts, strict=True))


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
    if isinstance(padding, str):
        text += f" {padding}"
    else:
        text += f" p{short(padding)}" if set(sides(padding)) != {0} else ""
    text += f" d{short(config['dilation'])}" if set(sides(config.get("dilation", 1))) != {1} else ""
    text += f" g{config['groups']}" if config.get("groups", 1) != 1 else ""
    text += " ceil" if config.get("ceil_mode") else ""
    return text


def _notes(trace: Trace, table: list[Row], checks: Mapping[_Key, Check]) -> Iterable[str]:
    for row in table:
        for difference in checks[_key(row)].differences:
            yield f"{row.path or trace.model}: formula and observation disagree: {difference}"
    yield from _boundaries(table, checks)
    yield from _silent(trace, table)
    calls = Counter(row.path for row in table if row.layer is not None)
    for row in table:
        if calls[row.path] > 1 and row.params:
            yield f"{row.path} runs {calls[row.path]} times: its parameters are counted once"
    tied = len(trace.params) - len({p.tensor.id for p in trace.params})
    if tied:
        yield f"{tied} tied parameter{'s are' if tied > 1 else ' is'} counted once"
    yield from trace.notes
    missing = unknown(trace)
    if missing:
        yield without_cost(uncounted(missing))


def uncounted(missing: Mapping[str, int]) -> tuple[str, ...]:
    """Operators of unknown cost and how often each ran, `mine.double (2×)`."""
    return tuple(f"{name} ({count}×)" for name, count in missing.items())


def without_cost(names: Iterable[str]) -> str:
    """What is said of operators that `uncounted` has named."""
    return f"the cost of these operators is unknown, and in no total: {', '.join(names)}"


def _silent(trace: Trace, table: list[Row]) -> Iterable[str]:
    """The modules that never ran, each with all that it contains."""
    called = {layer.path for layer in trace.layers}
    counts: Counter[str] = Counter()
    for row in table:
        if not row.called:
            path = row.path
            while path.rpartition(".")[0] not in called and "." in path:
                path = path.rpartition(".")[0]
            counts[path] += sum(p.tensor.numel for p in row.params)
    for path, count in counts.items():
        kind = trace.modules.get(path, "Module")
        yield f"{path} ({kind}) never ran in this forward; its {count:,} parameters are counted"


def _boundaries(table: list[Row], checks: Mapping[_Key, Check]) -> Iterable[str]:
    """The layers whose windows do not reach the end of their input, those with the same numbers in one sentence."""
    told: dict[str, dict[str, None]] = {}
    for row in table:
        derived = checks[_key(row)].derived
        if derived is not None and any(rest for *_, rest in derived.lost):
            told.setdefault(boundary_text(row, derived), {})[row.path] = None
    for text, paths in told.items():
        yield f"{', '.join(path for path in paths if path) or 'here'}: {text}"


def boundary_text(row: Row, derived: Derived) -> str:
    """What the last window does not reach: `(224 − 11)/4 leaves 1: the last row and column are never reached`."""
    n = len(derived.lost)
    padding = row.config.get("padding", 0)
    told = []
    for i, (span, stride, rest) in enumerate(derived.lost):
        side = row.inputs[0].shape[i - n]
        pad = padding[i] if isinstance(padding, tuple) else padding if isinstance(padding, int) else 0
        ends = f" + 2·{pad}" if pad else ""
        told.append((f"({side} − {side + 2 * pad - span}{ends})/{stride} leaves {span % stride}", rest))
    texts = dict.fromkeys(text for text, rest in told if rest)
    ends = [(name, rest) for name, (_, rest) in zip(NAMES[n], told, strict=True) if rest]
    if len({rest for _, rest in ends}) == 1:
        rest = ends[0][1]
        names = " and ".join(name if rest == 1 else f"{name}s" for name, _ in ends)
        lost = f"the last {names}" if rest == 1 else f"the last {rest} {names}"
    else:
        lost = " and ".join(f"the last {rest} {name}{'s' if rest > 1 else ''}" for name, rest in ends)
    one = len(ends) == 1 and ends[0][1] == 1
    mends = boundary_mends(row, derived)
    would = f"; {mends} would lose nothing" if mends else ""
    return f"{', '.join(texts)}: {lost} {'is' if one else 'are'} never reached by the window{would}"


def boundary_mends(row: Row, derived: Derived) -> str:
    """What makes a window reach the end of its input: `padding=2 or a side of 223 or 227`; the closed form says so.

    The padding is at most half of the window. Sides are those of what the window moves over, and are left out where
    it loses on one axis and not on another.
    """
    kind, config = (row.kind, row.config) if row.layer is not None else as_layer(row)
    shape, n = row.inputs[0].shape, len(derived.lost)

    def whole(sides: tuple[int, ...], **other: Any) -> bool:
        try:
            found = derive(kind, {**config, **other}, ((*shape[:-n], *sides),))
        except ShapeError:
            return False
        return found is not None and not any(rest for *_, rest in found.lost)

    sides, padding, window = shape[-n:], config.get("padding", 0), config.get("kernel_size", 0)
    most = min(window if isinstance(window, tuple) else (window,)) // 2
    least = max(padding if isinstance(padding, tuple) else (padding,)) if not isinstance(padding, str) else most
    found = [f"padding={pad}" for pad in range(least + 1, most + 1) if whole(sides, padding=pad)][:1]
    if "Pool" in kind and not config.get("ceil_mode") and whole(sides, ceil_mode=True):
        found.append("ceil_mode=True")
    if len(set(sides)) == 1:
        (side,), (_, stride, _) = set(sides), derived.lost[0]
        near = [m for m in (*range(side - 1, 0, -1)[:stride], *range(side + 1, side + stride + 1)) if whole((m,) * n)]
        near = [*[m for m in near if m < side][:1], *[m for m in near if m > side][:1]]
        found += [f"a side of {' or '.join(map(str, near))}"] if near else []
    return f"{', '.join(found[:-1])} or {found[-1]}" if len(found) > 1 else "".join(found)


NAMES = {1: ("position",), 2: ("row", "column"), 3: ("plane", "row", "column")}


def model_row(trace: Trace, source: str, verified: bool | None) -> dict[str, Any]:
    """One model of the comparison table."""
    return {**totals(trace), "source": source, "verified": verified, "notes": trace.notes}


TOLD = 3  # disagreements of one model that are told beside others


def of_model(model: str, text: str) -> str:
    """A sentence about a model, which an error may name already."""
    return text if text.startswith(f"{model}: ") else f"{model}: {text}"


def model_table(models: Iterable[Mapping[str, Any]], made_with: str) -> Table:
    """Models side by side. A model that failed has its row too, with the reason under `error`."""
    listed = tuple(models)
    failed = [row for row in listed if row.get("error")]
    notes = [of_model(row["model"], row["error"]) for row in failed]
    for row in listed:
        differences = row.get("differences", ())
        more = len(differences) - TOLD
        rest = [f"and {more:,} more disagreements: archscope verify {row['model']}"] if more > 0 else []
        said = (*differences[:TOLD], *rest, *row.get("notes", ()))
        notes += [f"{row['model']}: {text}" for text in said]
        if row.get("unknown"):
            notes.append(f"{row['model']}: {without_cost(uncounted(row['unknown']))}")
    return Table(
        title="Architectures compared",
        columns=MODEL_COLUMNS,
        hidden=MODEL_HIDDEN,
        rows=listed,
        notes=tuple(notes),
        caption=made_with,
    )


def versions(known: Mapping[str, str] | None = None) -> str:
    """`archscope 0.1.0, torch 2.14.1.`, of a trace or of what is running."""
    if known is None:
        known = {"archscope": __version__, "torch": import_module("torch").__version__}
    return ", ".join(f"{name} {version}" for name, version in known.items()) + "."
