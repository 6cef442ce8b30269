"""Records of a sweep -> a table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from archscope.analysis.by_model import MODEL_COLUMNS, MODEL_HIDDEN, STEP_COLUMNS
from archscope.core.table import Column, Table
from archscope.sweeps.grid import INPUT, Grid, key_of

REASONS = 5  # of failures that are listed under a table

_TOTALS = tuple(c for c in MODEL_COLUMNS if c.key not in ("model", "verified", "input"))
_REST = tuple(c for c in MODEL_HIDDEN if c.key not in ("source", "error"))
_INPUT = next(c for c in MODEL_COLUMNS if c.key == "input")
_MODEL = Column("model", "Model")
_ERROR = Column("error", "Error")

FIGURES = (*_TOTALS, *_REST, *STEP_COLUMNS)  # what a plot may show


def columns_of(axes: Mapping[str, bool], step: bool = False) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """The columns that are shown, and those that only scripts get.

    axes: key of each, and whether it is a number. step: whether the metrics of a training step are there.
    """
    first = tuple(Column(key, title_of(key), "count" if number else "text") for key, number in axes.items())
    totals = (*_TOTALS, *STEP_COLUMNS) if step else _TOTALS
    if "side" in axes:
        return (*first, *totals), (_MODEL, _INPUT, *_REST, _ERROR)
    return (*first, _INPUT, *totals), (_MODEL, *_REST, _ERROR)


def title_of(key: str) -> str:
    """What people read for the key of an axis."""
    return {"side": "Input side", "batch": "Batch", "trial": "Trial"}.get(key, key.replace("arg_", "@"))


def axes_of(grid: Grid) -> dict[str, bool]:
    """The columns of a grid's axes, and whether they are numbers."""
    found = {}
    for axis in grid.axes:
        numbers = all(type(value) in (int, float) for value in axis.values)
        if axis.name != INPUT or numbers:
            found[key_of(axis.name)] = numbers
    return found


def sweep_table(
    title: str, axes: Mapping[str, bool], records: Sequence[Mapping[str, Any]], caption: str, step: bool = False
) -> Table:
    """One row a record; failures are listed under the table."""
    columns, hidden = columns_of(axes, step)
    failures = Counter(record["error"] for record in records if record["error"])
    return Table(title, columns, tuple(records), tuple(failure_notes(failures, len(records))), caption, hidden=hidden)


def failure_notes(failures: Mapping[str, int], of: int) -> list[str]:
    """Why points failed, the most frequent reason first, a sentence each."""
    common = sorted(failures.items(), key=lambda item: -item[1])
    notes = [f"{_points(count)} failed: {why}" for why, count in common[:REASONS]]
    if rest := sum(count for _, count in common[REASONS:]):
        notes.append(f"{_points(rest)} failed for other reasons; the column `error` has them")
    return notes


def _points(count: int) -> str:
    return f"{count:,} point{'s' if count != 1 else ''}"
