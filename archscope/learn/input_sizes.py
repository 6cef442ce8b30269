"""The page of `archscope sizes`: the legal input sizes, their derivation layer by layer, and what a size loses."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from archscope.analysis.boundaries import boundary_text
from archscope.analysis.row import rows
from archscope.analysis.texts import versions, window_text
from archscope.analysis.verification import WHOLE, check
from archscope.core.errors import ShapeError
from archscope.core.expression import Expr, symbol
from archscope.core.formats import text_of
from archscope.core.record import Trace
from archscope.core.table import Column, Table
from archscope.shapes.doctor import examined
from archscope.shapes.legal import AllowedSizes, Bounds, layers_of, side_of, values
from archscope.shapes.resize import ResizableModel
from archscope.shapes.walk import Window

USUAL = 224  # what is typed for a network of photographs
NEAR = 0.2  # a default within this share of it is one that such a network might be thought to take

ANSWERS = (
    Column("quantity", "Sizes"),
    Column("said", "Sides"),
    Column("why", "Because", below=True),
)
ANSWERS_HIDDEN = (Column("model", "Model"), Column("sides", "Each"))

WORKING = (
    Column("path", "Layer"),
    Column("window", "Kernel"),
    Column("default", "Now"),
    Column("lost", "Lost", "count"),
    Column("least", "Smallest", priority=2, below=True),
    Column("fits", "To fit", priority=1, below=True),
)


def answers(legal: AllowedSizes) -> Table:
    """The three answers, each with its reason."""
    every = f"every {legal.side} from {legal.minimum} on"
    below = ""
    if legal.below is not None and legal.minimum is not None:
        path, why = legal.below
        below = f"{path} {why} at {legal.minimum - 1}" if path else f"at {legal.minimum - 1}: {why}"
    fitting = "nothing takes one size only" if legal.fits is None else "found by running"
    if legal.fixed is not None:
        fitting = f"{legal.fixed.path} takes {legal.fixed.takes}{_as_product(legal)}"
    elif legal.fits is not None and not legal.searched:
        fitting = "branches meet at these only"
    whole = "every window reaches the last row and column" if legal.side == "side" else "every window reaches the end"
    if legal.walk is not None and not legal.walk.windows:
        whole = "no window moves over it"
    shown: list[dict[str, Any]] = [
        {"quantity": "smallest", "said": str(legal.minimum or "none"), "sides": legal.minimum, "why": below},
        {
            "quantity": "that run",
            "said": every if legal.fits is None else _up_to(legal, legal.fits),
            "sides": None if legal.fits is None else list(legal.fits),
            "why": fitting,
        },
        {
            "quantity": "that lose nothing",
            "said": every if len(legal.lossless) == _count(legal) else _up_to(legal, legal.lossless),
            "sides": list(legal.lossless),
            "why": whole,
        },
    ]  # fmt: skip
    return Table(
        title=f"{legal.model}: input sizes, per {legal.side}",
        columns=ANSWERS,
        hidden=ANSWERS_HIDDEN,
        rows=tuple({"model": legal.model, **row} for row in shown),
        notes=(legal.searched,) if legal.searched else (),
        caption=f"Looked at up to {legal.limit}" + (f"; run at {_list(legal.run)}." if legal.run else "."),
    )


def _count(legal: AllowedSizes) -> int:
    return legal.limit - (legal.minimum or 0) + 1


def _up_to(legal: AllowedSizes, sides: Sequence[int]) -> str:
    return ranges(sides) if sides else f"none up to {legal.limit}"


def _list(sides: Sequence[int]) -> str:
    *first, last = map(str, sides)
    return f"{', '.join(first)} and {last}" if first else last


def _as_product(legal: AllowedSizes) -> str:
    """` = 256·6·6`: the number that a layer takes, in the sides that give it."""
    if legal.fixed is None:
        return ""
    side = side_of(legal.fixed.side, legal.fixed.takes)
    if side is None:
        return f" = {legal.fixed.side.text}, which no side gives"
    text = re.sub(r"\b[A-Za-z]\d*\b", str(side), legal.fixed.side.text)
    return f" = {text}" if text != str(legal.fixed.takes) else ""


def ranges(sides: Sequence[int]) -> str:
    """`227 to 258`, `67, 99, 131, … 483 (every 32)`, `none`."""
    if not sides:
        return "none"
    first, last = sides[0], sides[-1]
    if len(sides) == last - first + 1:
        return f"{first} to {last}" if last > first else str(first)
    step = sides[1] - first
    if len(sides) > 3 and all(b - a == step for a, b in zip(sides, sides[1:], strict=False)):
        return f"{first}, {sides[1]}, {sides[2]}, … {last} (every {step})"
    return _list(sides) if len(sides) <= 8 else f"{', '.join(map(str, sides[:6]))}, … {last} ({len(sides)} of them)"


# --------------------------------------------------------------------------------------------------- the way back


def working(legal: AllowedSizes, model: ResizableModel) -> Table | None:
    """The windows from the last to the first, and what each needs; None where nothing changes a side."""
    if legal.walk is None or not legal.steps:
        return None
    walk = legal.walk
    now = values(walk, model, legal.default)
    places = layers_of(walk.trace)
    shown = []
    for step in legal.steps:
        w = step.window
        shown.append(
            {
                "path": _paths(step.layers),
                "window": window_text(places[w.at].config),
                "default": f"{w.source.value(now)} → {w.out.value(now)}",
                "lost": w.lost(now),
                "least": needs(w, *step.least),
                "fits": needs(w, *step.fixed) if step.fixed is not None else "",
            }
        )
    fixed = legal.fixed
    asked = any(row["fits"] for row in shown)
    columns = tuple(
        replace(column, title=f"At {legal.default}") if column.key == "default" else column
        for column in (WORKING if asked else WORKING[:-1])
    )
    wanted = f" and for {fixed.path}'s {fixed.takes}{_as_product(legal)}" if fixed and asked else ""
    return Table(
        title=f"Worked back from the last window, for an output of 1{wanted}",
        columns=columns,
        rows=tuple(shown),
        notes=tuple(notes(legal, model)),
        caption=(
            "A window that must give at least o needs (o − 1)·s + p − 2·pad, and gives the same o up to s − 1 more "
            f"(p: what it spans, s: its stride). {versions(walk.trace.versions)}"
        ),
    )


def _paths(paths: Sequence[str]) -> str:
    return ", ".join(paths) if len(paths) < 3 else f"{paths[0]} and {len(paths) - 1} more"


def needs(window: Window, out: Bounds, source: Bounds) -> str:
    """`(6 − 1)·2 + 3 = 13 to 14`: the input that gives these outputs."""
    form = least_input(window, out.low)
    text = str(form) if form.value == source.low else f"{source.low:,}"
    if source.high is None or source.high == source.low:
        return text
    return f"{text} to {source.high:,}"


def least_input(window: Window, o: int) -> Expr:
    """The smallest input of a window that gives o: (o − 1)·s + p − 2·pad; rounded up, one stride less and 1 more."""
    form = (symbol("o", o) - (2 if window.ceil else 1)) * symbol("s", window.stride) + symbol("p", window.span)
    form = form + 1 if window.ceil else form
    return form - 2 * symbol("pad", window.pad) if window.pad else form


# --------------------------------------------------------------------------------------------------------- notes


def lost_at(trace: Trace) -> list[str]:
    """The windows of a run that do not reach the end of their input, and what would mend it."""
    table = [row for row in rows(trace, whole=WHOLE) if row.inputs]
    found: dict[str, list[str]] = {}
    for row, checked in zip(table, check(trace, table), strict=True):
        if checked.derived is not None and row.outputs and any(rest for *_, rest in checked.derived.lost):
            paths = found.setdefault(boundary_text(row, checked.derived), [])
            if row.path not in paths:
                paths.append(row.path)
    return [f"{_paths(paths)}: {text}" for text, paths in found.items()]


def notes(legal: AllowedSizes, model: ResizableModel) -> list[str]:
    """What is lost at the default size, and what happens at the size that people type."""
    found = lost_at(model.at(legal.default).trace)
    shown = [f"at {legal.default}: {note}" for note in found[:1]] or [
        f"at {legal.default} no window leaves anything out"
    ]
    if len(found) > 1:
        shown.append(f"at {legal.default}: more windows leave something out: {len(found) - 1}, under Lost")
    near = abs(legal.default - USUAL) <= NEAR * USUAL and "w" in model.layout
    if legal.fits is not None and USUAL not in legal.fits and near:
        ran = model.at(USUAL)
        shown += [f"at {USUAL}: {note}" for note in lost_at(ran.trace)[:1]]
        if isinstance(ran.error, ShapeError):
            shown.append(f"at {USUAL}: {examined(ran.error).sentence}")
    return shown


# -------------------------------------------------------------------------------------------------------- formats


def page(legal: AllowedSizes, model: ResizableModel, format: str, **options: Any) -> str:
    """The answers and the working in a format; JSON has the three answers alone, CSV the answers."""
    if format == "json":
        return json.dumps(legal.body) + "\n"
    worked = working(legal, model) if format != "csv" else None
    return "\n".join(text_of(table, format, **options) for table in (answers(legal), worked) if table is not None)
