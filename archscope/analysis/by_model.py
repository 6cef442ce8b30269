"""The table of models side by side."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from archscope.analysis.metrics import METRICS, STEP_METRICS, arranged, totals
from archscope.analysis.texts import of_model, uncounted, without_cost
from archscope.core.record import Trace
from archscope.core.table import Column, Table

_OWN = (
    Column("model", "Model"),
    Column("input", "Input", "shape", priority=1),
    Column("verified", "Verified", "flag", priority=2, means="Verified: every derivation and published count agrees."),
    Column("source", "Source"),
    Column("unknown", "Unknown operators"),
    Column("macs_is_lower_bound", "MACs are a lower bound", "flag"),
    Column("error", "Error"),
)
_MEANS = {"params": "Parameters: each once, trainable or not."}  # of whole models only
_METRICS = [one for one in METRICS.values() if one.total is not None]
MODEL_COLUMNS = arranged(
    "model input depth params memory macs flops activations receptive_field fc_share * verified",
    _OWN,
    [
        replace(one.column(one.model_priority), means=_MEANS.get(one.key, one.means))
        for one in _METRICS
        if one.model_priority is not None
    ],
)
MODEL_HIDDEN = arranged(
    "source trainable buffers neurons * unknown macs_is_lower_bound error",
    _OWN,
    [one.column() for one in _METRICS if one.model_priority is None],
)
STEP_COLUMNS = tuple(one.column(one.model_priority) for one in STEP_METRICS.values())  # where a step is asked for


def model_row(trace: Trace, source: str, verified: bool | None) -> dict[str, Any]:
    """One model of the comparison table. What has operators of unknown cost is never called verified."""
    total = totals(trace)
    held = None if verified and total["unknown"] else verified
    return {**total, "source": source, "verified": held, "notes": trace.notes}


SHOWN = 3  # disagreements of one model below the table


def model_table(models: Iterable[Mapping[str, Any]], made_with: str) -> Table:
    """Models side by side. A model that failed has its row too, with the reason under `error`."""
    listed = tuple(models)
    failed = [row for row in listed if row.get("error")]
    notes = [of_model(row["model"], row["error"]) for row in failed]
    for row in listed:
        differences = row.get("differences", ())
        more = len(differences) - SHOWN
        rest = [f"and {more:,} more disagreements: archscope verify {row['model']}"] if more > 0 else []
        sentences = (*differences[:SHOWN], *rest, *row.get("notes", ()))
        notes += [f"{row['model']}: {text}" for text in sentences]
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
