"""The table of `archscope trace --train-step`: what a training step computes, layer by layer and phase by phase.

Forward and backward of a layer, and the update of its parameters by the optimizer. A layer that runs several times is
one row, as its parameters are updated once; so the columns add up to the whole step.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from archscope.analysis.by_layer import run_json
from archscope.analysis.metrics import step_totals
from archscope.analysis.observed import cached, works
from archscope.analysis.step_table import conditions_text
from archscope.analysis.texts import inputs_text, uncounted, versions
from archscope.analysis.training import (
    OUTSIDE,
    layer_indices,
    peak,
    phase_of,
    shares,
    training_flops,
    training_macs,
    uncounted_in,
    work_by_phase,
)
from archscope.core.formats.base import show
from archscope.core.record import Op, Tensor, Trace
from archscope.core.table import Column, Table

WORK_COLUMNS = (
    Column("path", "Layer"),
    Column("kind", "Kind", priority=3),
    Column("params", "Parameters", "count", priority=2),
    Column("forward_macs", "Forward MACs", "count"),
    Column("backward_macs", "Backward MACs", "count"),
    Column("recompute_macs", "Recomputed MACs", "count", priority=1),
    Column("training_macs", "Training MACs", "count"),
    Column("forward_flops", "Forward FLOPs", "count", priority=5),
    Column("backward_flops", "Backward FLOPs", "count", priority=5),
    Column("recompute_flops", "Recomputed FLOPs", "count", priority=5),
    Column("optimizer_flops", "Optimizer FLOPs", "count", priority=1),
    Column("training_flops", "Training FLOPs", "count", priority=4),
    Column("peak_memory", "At the peak", "bytes", priority=2, means="At the peak: bytes of the layer at that moment."),
)


def work_table(trace: Trace, depth: int | None = None) -> Table:
    """The layers of a step with their work; the columns add up to the totals in the last row.

    depth: layers below that depth are added up in the module around them.
    """
    found: dict[str, dict[str, Any]] = {}
    for path, kind, figures in _figures(trace):
        short = path if path.startswith("(") else ".".join(path.split(".")[:depth])
        kind = kind if short == path else trace.modules.get(short, "")
        row = found.setdefault(short, {"path": short or "(model)", "kind": kind, "training_macs": 0})
        for key, amount in figures.items():
            row[key] = row.get(key, 0) + amount
    order = {name: place for place, name in enumerate(dict.fromkeys(layer.path for layer in trace.layers))}
    last = [f"({name})" for name in OUTSIDE]
    rows = sorted(found.items(), key=lambda item: order.get(item[0], len(order) + (item[0] in last)))
    listed = tuple(row for _, row in rows)
    sums = {c.key: sum(row.get(c.key) or 0 for row in listed) for c in WORK_COLUMNS if c.form != "text"}
    used = [c for c in WORK_COLUMNS if c.form == "text" or sums[c.key]]
    top = peak(trace)
    phases = [f"{show(m, 'scaled')} {name}" for name, (m, _) in work_by_phase(trace).items() if m]
    moment = f"{top.phase} of {top.layer}" if top.layer else top.phase
    notes = [
        f"MACs: {show(training_macs(trace), 'scaled')} = {' + '.join(phases)}",
        f"FLOPs: {show(training_flops(trace), 'scaled')}; peak memory: {show(top.nbytes, 'bytes')} in the {moment}",
        *trace.notes,
    ]
    if missing := uncounted_in(trace):
        notes.append(f"operators of unknown cost: {', '.join(uncounted(missing))}")
    return Table(
        title=f"{trace.model}, input {inputs_text(trace)}, {conditions_text(trace)}",
        columns=tuple(used),
        hidden=tuple(c for c in WORK_COLUMNS if c not in used),
        rows=listed,
        totals={"path": "Total", **sums, **step_totals(trace)},
        notes=tuple(notes),
        caption=versions(trace.versions),
    )


def work_json(trace: Trace, table: Table) -> str:
    """The table of a step as one JSON object, with its totals before the rows."""
    return run_json(trace, table, {key: value for key, value in (table.totals or {}).items() if key != "path"})


def _figures(trace: Trace) -> Iterator[tuple[str, str, dict[str, int]]]:
    """Path, kind and amounts of every layer, a piece at a time."""
    kinds = dict(trace.modules)
    for one in shares(trace):
        yield one.path, one.kind, {"peak_memory": sum(one.bytes.values())}
    seen: set[int] = set()
    for param in trace.params:
        if param.tensor.id not in seen:
            seen.add(param.tensor.id)
            path = param.name.rpartition(".")[0]
            yield path, kinds.get(path, ""), {"params": param.tensor.numel}
    homes = layer_indices(trace)
    for index, done in enumerate(works(trace)):
        if done is None or not (done.macs or done.flops):
            continue
        phase = phase_of(trace, index).name
        if phase == "optimizer":
            for path, flops in _updated(trace, trace.ops[index], done.flops):
                yield path, kinds.get(path, ""), {"optimizer_flops": flops, "training_flops": flops}
            continue
        home = homes[index]
        path = "(loss)" if home is None else trace.layers[home].path
        column = phase if phase in ("backward", "recompute") else "forward"  # the loss is in row (loss)
        amounts = {f"{column}_macs": done.macs, "training_macs": done.macs}
        amounts |= {f"{column}_flops": done.flops, "training_flops": done.flops}
        yield path, kinds.get(path, ""), amounts


def _updated(trace: Trace, op: Op, flops: int) -> Iterator[tuple[str, int]]:
    """The parts of an optimizer's operator by module: as many for each element of every parameter that it updates."""
    homes = _parameters_of(trace)
    tensors = next(iter(_lists(op)), ())
    whole = sum([t.numel for t in tensors])
    for tensor in tensors:
        yield homes.get(tensor.id, "(optimizer)"), flops * tensor.numel // whole


def _lists(op: Op) -> list[tuple[Tensor, ...]]:
    """The lists of tensors that an operator works on side by side; of one on single tensors those of one size."""
    lists = [tuple(v) for v in op.args.values() if isinstance(v, tuple) and v and all(isinstance(t, Tensor) for t in v)]
    if lists:
        return [each for each in (*lists, op.outputs) if len(each) == len(lists[0])]
    tensors = [t for t in (*op.inputs, *op.outputs) if t.numel == op.inputs[0].numel] if op.inputs else []
    return [(t,) for t in tensors]


@cached
def _parameters_of(trace: Trace) -> dict[int, str]:
    """The module of each tensor that an optimizer works with: at one place of its lists stands what is of one
    parameter, its gradient and its state."""
    above: dict[int, int] = {}

    def root(i: int) -> int:
        while (up := above.setdefault(i, i)) != i:
            above[i] = above[up]
            i = up
        return i

    stop = next((phase.start for phase in trace.phases if phase.name == "optimizer"), len(trace.ops))
    for op in trace.ops[stop:]:
        for together in _columns(_lists(op)):
            for tensor in together:
                above[root(tensor.id)] = root(together[0].id)
    modules = {root(p.tensor.id): p.name.rpartition(".")[0] for p in reversed(trace.params)}
    return {i: modules[root(i)] for i in list(above) if root(i) in modules}


def _columns(lists: Iterable[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    return zip(*lists, strict=True)
