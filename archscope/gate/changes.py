"""What changed between entries of a lock, as tables: the totals of the models, and their layers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from archscope.core.table import Column, Table
from archscope.gate.drift import Drift, LayerChange, what
from archscope.gate.lock import Entry

MODEL_COLUMNS = (
    Column("model", "Model"),
    Column("how", "Change"),
    Column("params", "Parameters", "count"),
    Column("macs", "MACs", "count"),
)
TOTAL_COLUMNS = (
    Column("model", "Model"),
    Column("total", "Total"),
    Column("before", "Before", "count", priority=2),
    Column("after", "After", "count"),
    Column("change", "Change", "change"),
    Column("share", "Share", "share", priority=1),
)
LAYER_COLUMNS = (
    Column("model", "Model"),
    Column("how", "Change"),
    Column("path", "Layer"),
    Column("what", "What"),
    Column("params", "Parameters", "change", priority=1),
    Column("macs", "MACs", "change"),
    Column("flops", "FLOPs", "change", priority=3),
    Column("activations", "Activations (B)", "change", priority=2),
)
LAYER_HIDDEN = (
    Column("kind", "Kind"),
    Column("config", "Configuration"),
    Column("output", "Output"),
    Column("before", "Layer before"),
)


def totals_table(drifts: Iterable[Drift], caption: str = "") -> Table:
    """The totals that changed, one row each, and the inputs where they differ."""
    listed = []
    for drift in drifts:
        model = drift.after.model
        if drift.input:
            listed.append({"model": model, "total": "input", "before": drift.input[0], "after": drift.input[1]})
        for key, (before, after) in drift.totals.items():
            row: dict[str, Any] = {"model": model, "total": key, "before": _raw(before), "after": _raw(after)}
            if type(before) is int and type(after) is int:
                row |= {"change": after - before, "share": (after - before) / before if before else None}
            listed.append(row)
    return _table("Totals", TOTAL_COLUMNS, listed, caption)


def layers_table(drifts: Iterable[Drift], caption: str = "") -> Table:
    """The layers that changed, one row each; those that only follow come last."""
    listed = []
    for drift in drifts:
        own = [change for change in drift.changes if change.how != "follows"]
        rest = [change for change in drift.changes if change.how == "follows"]
        listed += [_row(drift.after.model, change) for change in (*own, *rest)]
    return _table("Layers", LAYER_COLUMNS, listed, caption, LAYER_HIDDEN)


def _table(
    title: str,
    columns: tuple[Column, ...],
    listed: Sequence[Mapping[str, Any]],
    caption: str,
    hidden: tuple[Column, ...] = (),
) -> Table:
    """Where there is only one model, the table for people does not repeat its name."""
    one = len({row["model"] for row in listed}) < 2
    shown = columns[1:] if one else columns
    return Table(title, shown, tuple(listed), caption=caption, hidden=(*(columns[:1] if one else ()), *hidden))


def _raw(value: Any) -> Any:
    """An integer, or a text in its place."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{name} ({count}×)" for name, count in value.items()) or None
    return "×".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _row(model: str, change: LayerChange) -> dict[str, Any]:
    old, new, line = change.before, change.after, change.line
    row: dict[str, Any] = {"model": model, "how": change.how, "path": line.path, "kind": line.kind}
    row["what"] = what(change).removeprefix(f"{change.how}, ")
    row |= {key: change.delta(key) for key in ("params", "macs", "flops", "activations")}
    row |= {"config": dict(line.config), "output": line.output}
    if old is not None and new is not None:
        row["before"] = {key: value for key, value in old._asdict().items() if value != getattr(new, key)}
    return row


def models_table(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> Table:
    """The models that only one of two locks has."""
    gone = [(name, "removed", before[name]) for name in before if name not in after]
    new = [(name, "added", after[name]) for name in after if name not in before]
    listed = tuple(
        {"model": name, "how": how, "params": entry.totals["params"], "macs": entry.totals["macs"]}
        for name, how, entry in sorted((*gone, *new))
    )
    return Table("Models", MODEL_COLUMNS, listed)
