"""A table of raw values: the contents, not how they look.

A row maps column keys to plain numbers, shapes, booleans and text; what is missing or None is unknown or does not
apply. The form and the unit belong to the column, and only `formats/` turns a value into digits.
This file needs the standard library only (and pandas for `to_frame`).
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from archscope.core.registry import PROVIDED

FORMS = ("text", "count", "change", "scaled", "bytes", "shape", "share", "flag")


@dataclass(frozen=True)
class Column:
    """One column.

    key: what scripts use, "params". title: what people read, "Parameters". form: how a raw value is shown, one of
    FORMS. unit: "MAC"; goes with the title where the title does not say it already. priority: on a terminal that is
    too narrow the columns with the highest number are left out first, those with 1 only when folding their text does
    not help, those with 0 never. below: what is left out gets a line of its own under the row. means: a sentence
    for readers, printed under every table that shows the column.
    """

    key: str
    title: str
    form: str = "text"
    unit: str = ""
    priority: int = 0
    below: bool = False
    means: str = ""

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(unknown("form", self.form, FORMS))


@dataclass(frozen=True, repr=False)
class Table:
    """Rows of raw values and how to read them.

    rows: raw values by column key; keys without a column are kept and not printed. notes: one sentence each, printed
    under the table. caption: counting convention, input, versions. totals: an optional last row, for people only.
    hidden: columns that only the machine formats (json, csv, frame) carry.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    caption: str = ""
    totals: Mapping[str, Any] | None = None
    hidden: tuple[Column, ...] = ()

    def __post_init__(self) -> None:
        keys = [column.key for column in self.columns + self.hidden]
        if not self.columns:
            raise ValueError(f"table {self.title!r} has no columns")
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"table {self.title!r} has two columns with the key {twice[0]!r}")

    def select(self, keys: Iterable[str]) -> "Table":
        """The columns with these keys, in this order and no others; a hidden column may be asked for.

        Raises ValueError on an unknown key and on one that is named twice. The rows stay whole, and what was asked
        for is not left out on a narrow terminal.
        """
        chosen = list(keys)
        if twice := [key for i, key in enumerate(chosen) if key in chosen[:i]]:
            raise ValueError(f"column {twice[0]!r} is named twice")
        columns = tuple(replace(self._column(key), priority=0) for key in chosen)
        return replace(self, columns=columns, hidden=())

    def legend(self, columns: Iterable[Column] | None = None) -> str:
        """The text below the table: what the columns mean (all, or those that are shown), then the caption."""
        meanings = (column.means for column in (self.columns if columns is None else columns))
        return " ".join(text for text in (*meanings, self.caption) if text)

    def sort(self, key: str, descending: bool = False) -> "Table":
        """The rows in order of one column, ties as they were, unknown values last in either direction.

        Shapes are ordered by how many elements they have. Raises ValueError on an unknown key.
        """
        form = self._column(key).form
        known = [row for row in self.rows if not is_unknown(row.get(key))]
        rest = [row for row in self.rows if is_unknown(row.get(key))]
        known.sort(key=lambda row: _rank(row[key], form), reverse=descending)
        return replace(self, rows=(*known, *rest))

    def to_frame(self) -> Any:
        """The raw values as a pandas DataFrame, one column a key, hidden ones too, without the totals.

        Integers stay integers where some are unknown (dtype Int64). Needs pandas.
        """
        import pandas as pd

        def series(column: Column) -> Any:
            values = [row.get(column.key) for row in self.rows]
            kinds = {type(value) for value in values}
            if column.form == "shape":
                return pd.Series(values, dtype="object")
            if kinds == {int, type(None)} and all(v is None or abs(v) < 2**63 for v in values):
                return pd.Series(values, dtype="Int64")
            if kinds == {bool, type(None)}:
                return pd.Series(values, dtype="boolean")
            return pd.Series(values, dtype="object" if kinds <= {type(None)} else None)

        return pd.DataFrame({column.key: series(column) for column in self.columns + self.hidden})

    def _column(self, key: str) -> Column:
        columns = {column.key: column for column in self.columns + self.hidden}
        if key not in columns:
            raise ValueError(unknown("column", key, columns))
        return columns[key]

    def _repr_html_(self) -> str:
        return PROVIDED["html"](self)

    def __repr__(self) -> str:
        return f"<Table {self.title!r}: {len(self.rows)} rows, columns {' '.join(c.key for c in self.columns)}>"


class AtLeast(int):
    """A number of which a part is unknown: `≥ 108` where people read it, 108 in the machine formats."""

    def __repr__(self) -> str:
        return f"AtLeast({int(self)})"


def is_unknown(value: Any) -> bool:
    """Whether a raw value says nothing: None, or the NaN that pandas puts in its place."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The error text for a name that is not known: the nearest right ones, or all where none is near."""
    known = list(known)
    hint = did_you_mean(name, known) or f"choose from {', '.join(known)}"
    return f"unknown {what} {name!r}: {hint}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean vgg11, vgg13 or vgg16?`, empty where nothing is near.

    Names that begin with what was typed come first, in their own order, without those that only lengthen another
    (`macs`, not `macs_is_lower_bound`); then those that differ by little.
    """
    known, name = list(known), name.lower()
    begun = [one for one in known if name and one.lower().startswith(name)]
    heads = [one for one in begun if one.lower() != name]
    near = [one for one in begun if not any(one != head and one.startswith(head) for head in heads)]
    small = {one.lower(): one for one in reversed(known)}
    for found in difflib.get_close_matches(name, small, n=3, cutoff=0.6):
        one = small[found]
        ratio, best = (_alike(name, other.lower()) for other in (one, near[0] if near else one))
        if one not in near and ratio > best - 0.15:
            near.append(one)
    *first, last = near[:3] or [""]
    return f"did you mean {', '.join(first)}{' or ' if first else ''}{last}?" if last else ""


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, one).ratio()


def _rank(value: Any, form: str) -> tuple[int, Any]:
    """A sort key that also holds where a column mixes numbers and text: numbers first."""
    if form == "shape" and isinstance(value, tuple | list):
        return (0, _elements(value))
    return (0, value) if isinstance(value, int | float) else (1, str(value))


def _elements(shape: Any) -> int:
    if any(isinstance(side, tuple | list) for side in shape):
        return sum(_elements(one) for one in shape)
    return math.prod(shape)
