"""The plot of a sweep: one figure of its records over an axis."""

from collections.abc import Iterable, Mapping
from typing import Any

from archscope.core.errors import SpecError
from archscope.report.plots import COLORS, bytes_of, canvas, scaled, style_of
from archscope.sweeps.grid import BATCH, INPUT, Grid, key_of
from archscope.sweeps.tables import FIGURES, axes_of, title_of


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
    colors = [color for name, color in COLORS.items() if name != "grey"]
    means = next(c for c in FIGURES if c.key == of)
    with canvas(figsize=(7.0, 4.4)) as figure:
        ax = figure.add_subplot()
        for i, (where, points) in enumerate(lines.items()):
            label = ", ".join(f"{title_of(key_of(a.name))} {v}" for a, v in zip(others, where, strict=True))
            x, y = zip(*sorted(points), strict=True)
            ax.plot(x, y, marker="o", markersize=3, label=label if i < 24 else None, **style_of(i, colors))
        ax.set_xlabel(title_of(key_of(across.name)))
        ax.set_ylabel(means.title if means.form != "bytes" else f"{means.title} (B)")
        ax.yaxis.set_major_formatter(scaled)
        ax.set_ylim(bottom=0)
        ax.set_title(title)
        if len(lines) > 1:
            ax.legend()
        return bytes_of(figure, form)


def _value(record: Mapping[str, Any], name: str) -> Any:
    return record.get(key_of(name), record["input"]) if name in (INPUT, BATCH) else record[key_of(name)]
