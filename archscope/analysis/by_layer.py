"""The layer table: the rows of one trace with their metrics, their derivations, and whether both agree."""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from archscope.analysis.boundaries import boundary_text
from archscope.analysis.metrics import METRICS, arranged, totals
from archscope.analysis.observed import unknown_operators
from archscope.analysis.row import Row, rows, visible
from archscope.analysis.texts import inputs_text, shape_text, uncounted, versions, window_text, without_cost
from archscope.analysis.verification import WHOLE, Check, check
from archscope.core.errors import SpecError
from archscope.core.formats.json import whole
from archscope.core.record import Shape, Trace
from archscope.core.table import Column, Table

_OWN = (
    Column("path", "Layer"),
    Column("kind", "Kind", priority=1),
    Column("window", "Kernel", priority=5, below=True),
    Column("formula", "Derivation", priority=4, below=True),
    Column("params_formula", "Parameters derived", priority=6, below=True),
    Column("agrees", "OK", "flag", priority=2, means="OK: formula and observation agree."),
    Column("model", "Model"),
    Column("call", "Call", "count"),
    Column("depth", "Depth", "count"),
    Column("config", "Configuration"),
    Column("input", "Input", "shape"),
    Column("buffers", "Buffers", "count"),
    Column("macs_formula", "MACs derived"),
)
_METRICS = [one for one in METRICS.values() if one.values is not None]
LAYER_COLUMNS = arranged(
    "path kind window output_shape formula neurons params_formula params macs * agrees",
    _OWN,
    [one.column(one.layer_priority) for one in _METRICS if one.layer_priority is not None],
)
LAYER_HIDDEN = arranged(
    """model call depth config input trainable buffers macs_formula flops activations receptive_field effective_stride
    *""",
    _OWN,
    [one.column() for one in _METRICS if one.layer_priority is None],
)

_Key = tuple[str, int, int, int]


def layer_table(trace: Trace, depth: int | None = None, everything: bool = False, stopped: str | None = None) -> Table:
    """The layers of a trace in run order, one row each; the columns add up to the totals in the last row.

    depth: show modules down to this depth, with all that runs inside them in one row. everything: also a container's
    own reshaping, which neither computes nor stores anything. stopped: the path of the module in which the run
    failed; the table is then of what ran before.
    """
    if not isinstance(trace, Trace):
        raise SpecError(f"a layer table is of a trace, not of {type(trace).__name__}: archscope.trace(model, inputs)")
    table = _merged(trace, rows(trace, depth, WHOLE), depth)
    if stopped is not None:
        table = [row for row in table if row.layer is not None or row.stop > row.start]
    elif not everything:
        stored = METRICS["activations"].of(trace, table)
        table = [row for row, count in zip(table, stored, strict=True) if count or visible(trace, row)]
    table, buffers = _with_buffers(trace, table, stopped is not None)
    leaves = table if depth is None else rows(trace, None, WHOLE)
    checks = dict(zip(map(_key, leaves), check(trace, leaves), strict=True))
    values = {one.key: one.of(trace, table) for one in _METRICS}
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
        if stopped is not None and not row.outputs:  # the module that failed: it has no output
            one |= dict.fromkeys(("agrees", "neurons", "macs", "flops", "activations"))
        shown.append(one)
    sums = {key: value for key, value in totals(trace).items() if key in SUMS}
    notes = _notes(trace, leaves, checks) if stopped is None else _boundaries(leaves, checks)
    return Table(
        title=f"{trace.model}, input {inputs_text(trace)}"
        + (", training mode" if trace.train else "")
        + (f", as far as {stopped or trace.model}" if stopped is not None else ""),
        columns=LAYER_COLUMNS,
        hidden=LAYER_HIDDEN,
        rows=tuple(shown),
        totals=sums if stopped is None else None,
        notes=tuple(notes),
        caption=versions(trace.versions),
    )


def layer_json(trace: Trace, table: Table) -> str:
    """A layer table as one JSON object, with the model, its inputs and its totals before the rows."""
    return run_json(trace, table, {key: value for key, value in totals(trace).items() if key not in ("model", "input")})


def run_json(trace: Trace, table: Table, sums: Mapping[str, Any]) -> str:
    """A table of the layers of a run as one JSON object. sums: its totals."""
    about = {
        "model": trace.model,
        "input": [{"shape": tensor.shape, "dtype": tensor.dtype} for tensor in trace.inputs],
        "train": trace.train,
        "totals": sums,
    }
    return whole(table, "layers", about, trace.versions)


SUMS = ("params", "neurons", "macs", "flops", "activations", "trainable", "buffers")


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


def _derivation(number: Any, observed: Any) -> str:
    """`11·11·3·96 + 96 = 34,944`, empty where there is nothing to derive or the row does not account for it."""
    if isinstance(number, int) or number.plain or int(number) != observed:
        return ""
    return str(number)


def _notes(trace: Trace, table: list[Row], checks: Mapping[_Key, Check]) -> Iterable[str]:
    for row in table:
        for difference in checks[_key(row)].differences:
            yield f"{row.path or trace.model}: formula and observation disagree: {difference}"
    yield from _boundaries(table, checks)
    yield from _never_ran(trace, table)
    yield from _rows_of_examples(trace)
    calls = Counter(row.path for row in table if row.layer is not None)
    for row in table:
        if calls[row.path] > 1 and row.params:
            yield f"{row.path} runs {calls[row.path]} times: its parameters are counted once"
    tied = len(trace.params) - len({p.tensor.id for p in trace.params})
    if tied:
        yield f"{tied} tied parameter{'s are' if tied > 1 else ' is'} counted once"
    yield from trace.notes
    missing = unknown_operators(trace)
    if missing:
        yield without_cost(uncounted(missing))


def _never_ran(trace: Trace, table: list[Row]) -> Iterable[str]:
    """The modules that never ran, each with all that it contains. A weight is used without a call of its module by
    `.forward()`, in a scripted module and by a function."""
    called = {layer.path for layer in trace.layers}
    counts: Counter[str] = Counter()
    used: set[int] = set()
    if not all(row.called for row in table):
        used = {t.id for op in trace.ops for t in op.inputs}
    for row in table:
        if not row.called and not any(p.tensor.id in used for p in row.params):
            path = row.path
            while path.rpartition(".")[0] not in called and "." in path:
                path = path.rpartition(".")[0]
            counts[path] += sum(p.tensor.numel for p in row.params)
    for path, count in counts.items():
        kind = trace.modules.get(path, "Module")
        yield f"{path} ({kind}) never ran in this forward; its {count:,} parameters are counted"


def _rows_of_examples(trace: Trace) -> Iterable[str]:
    """The views `x.view(-1, 400)` whose rows are no examples, because an example has not 400 numbers."""
    found: dict[str, None] = {}
    for op in trace.ops:
        if op.name not in ("aten.view", "aten.reshape") or not op.inputs or len(op.inputs[0].shape) < 3:
            continue
        before, after = op.inputs[0].shape, op.outputs[0].shape
        sizes = op.args.get("size") or op.args.get("shape")
        if not isinstance(sizes, tuple) or len(after) != 2 or sizes[0] != -1 or after[0] == before[0]:
            continue
        whole = {prod(before[i:]) for i in range(1, len(before))}  # rows that join axes
        n = after[1]
        if n and n not in whole and before[-1] % n:
            one = prod(before[1:])
            rows_each = f"each example becomes {one // n} rows" if one % n == 0 else "rows mix examples"
            found.setdefault(
                f"{op.name.removeprefix('aten.')}(-1, {n}) makes {after[0]:,} rows of {before[0]:,} examples: one has"
                f" {_by_x(before[1:])} = {one:,} numbers, and {rows_each}"
            )
    yield from found


def _by_x(shape: Shape) -> str:
    return "×".join(map(str, shape))


def _boundaries(table: list[Row], checks: Mapping[_Key, Check]) -> Iterable[str]:
    """The layers whose windows do not reach the end of their input, those with the same numbers in one sentence."""
    found: dict[str, dict[str, None]] = {}
    for row in table:
        derived = checks[_key(row)].derived
        if derived is not None and any(rest for *_, rest in derived.lost):
            found.setdefault(boundary_text(row, derived), {})[row.path] = None
    for text, paths in found.items():
        yield f"{', '.join(path for path in paths if path) or 'here'}: {text}"
