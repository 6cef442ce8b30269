"""Records -> a table, and a picture of one figure over an axis."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from archscope.errors import SpecError
from archscope.sweeps.grid import BATCH, INPUT, Grid, key_of
from archscope.table import Column, Table
from archscope.views import MODEL_COLUMNS, MODEL_HIDDEN

REASONS = 5  # of failures that are told under a table

_TOTALS = tuple(c for c in MODEL_COLUMNS if c.key not in ("model", "verified", "input"))
_REST = tuple(c for c in MODEL_HIDDEN if c.key not in ("source", "error"))
_INPUT = next(c for c in MODEL_COLUMNS if c.key == "input")
_MODEL = Column("model", "Model")
_ERROR = Column("error", "Error")


def columns_of(axes: Mapping[str, bool]) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """The columns that are shown, and those that only scripts get. axes: key of each, and whether it is a number."""
    first = tuple(Column(key, _title(key), "count" if number else "text") for key, number in axes.items())
    if "side" in axes:
        return (*first, *_TOTALS), (_MODEL, _INPUT, *_REST, _ERROR)
    return (*first, _INPUT, *_TOTALS), (_MODEL, *_REST, _ERROR)


def _title(key: str) -> str:
    return {"side": "Input side", "batch": "Batch", "trial": "Trial"}.get(key, key.replace("arg_", "@"))


def axes_of(grid: Grid) -> dict[str, bool]:
    """The columns of a grid's axes, and whether they are numbers."""
    found = {}
    for axis in grid.axes:
        numbers = all(type(value) in (int, float) for value in axis.values)
        if axis.name != INPUT or numbers:
            found[key_of(axis.name)] = numbers
    return found


def sweep_table(title: str, axes: Mapping[str, bool], records: Sequence[Mapping[str, Any]], caption: str) -> Table:
    """One row a record; what failed is told under it."""
    columns, hidden = columns_of(axes)
    failures = Counter(record["error"] for record in records if record["error"])
    return Table(title, columns, tuple(records), tuple(told(failures, len(records))), caption, hidden=hidden)


def told(failures: Mapping[str, int], of: int) -> list[str]:
    """Why points failed, the most frequent reason first, a sentence each."""
    common = sorted(failures.items(), key=lambda item: -item[1])
    notes = [f"{_points(count)} failed: {why}" for why, count in common[:REASONS]]
    if rest := sum(count for _, count in common[REASONS:]):
        notes.append(f"{_points(rest)} failed for other reasons; the column `error` has them")
    return notes


def _points(count: int) -> str:
    return f"{count:,} point{'s' if count != 1 else ''}"


def picture(title: str, grid: Grid, records: Iterable[Mapping[str, Any]], of: str, form: str = "svg") -> bytes:
    """One figure of the records over the axis with most numbers, a line for each combination of the others.

    of: a key of `totals`. Raises SpecError where there is no axis of numbers, and where matplotlib is missing.
    """
    numeric = [axis for axis in grid.axes if axes_of(grid).get(key_of(axis.name))]
    if not numeric:
        raise SpecError("a plot needs an axis of numbers: none of those that are varied is one")
    across = max(numeric, key=lambda axis: len(axis.values))
    others = [axis for axis in grid.axes if axis is not across]
    lines: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for record in records:
        value = record[of]
        if type(value) in (int, float):
            where = tuple(_value(record, axis.name) for axis in others)
            lines.setdefault(where, []).append((record[key_of(across.name)], value))
    from archscope.report.plots import COLORS, LINES, bytes_of, canvas, scaled

    colors = [color for name, color in COLORS.items() if name != "grey"]
    means = next(c for c in (*_TOTALS, *_REST) if c.key == of)
    with canvas(figsize=(7.0, 4.4)) as figure:
        ax = figure.add_subplot()
        for i, (where, points) in enumerate(lines.items()):
            label = ", ".join(f"{_title(key_of(a.name))} {v}" for a, v in zip(others, where, strict=True))
            x, y = zip(*sorted(points), strict=True)
            style: dict[str, Any] = {
                "color": colors[i % len(colors)],
                "linestyle": LINES[i // len(colors) % len(LINES)],
            }
            ax.plot(x, y, marker="o", markersize=3, label=label if i < 24 else None, **style)
        ax.set_xlabel(_title(key_of(across.name)))
        ax.set_ylabel(means.title if means.form != "bytes" else f"{means.title} (B)")
        ax.yaxis.set_major_formatter(scaled)
        ax.set_ylim(bottom=0)
        ax.set_title(title)
        if len(lines) > 1:
            ax.legend()
        return bytes_of(figure, form)


def _value(record: Mapping[str, Any], name: str) -> Any:
    return record.get(key_of(name), record["input"]) if name in (INPUT, BATCH) else record[key_of(name)]
