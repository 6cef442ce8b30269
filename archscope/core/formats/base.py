"""What all formats share: how one value is printed, and the registries.

    text    as it is
    count   34,944           an exact integer; one a side: 11×219×219
    change  +34,944          the same, by how much one grew
    scaled  724.4 M          four significant digits; K M G T P E are powers of 1000
    bytes   243.9 MB         the same, in bytes
    shape   1×96×55×55       several shapes: 1×96×55×55, 1×96; a single number is a count
    share   96.2 %           of 0.962
    flag    ✓ ✗

Unknown is empty, in every form; a lower bound has ≥ before it.
"""

import json
import numbers
import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from archscope.core.registry import Registry
from archscope.core.table import AtLeast, Column, Table, is_unknown

RENDERERS: Registry[Callable[..., str]] = Registry("format")  # of a Table
WRITERS: Registry[Callable[..., str]] = Registry("format")  # of a Document
renderer, writer = RENDERERS.register, WRITERS.register


def show(value: Any, form: str = "text", unit: str = "") -> str:
    """One raw value as people read it: `show(34944, "count", "MAC")` is "34,944 MAC". Unknown is "".

    Text in the place of a number is shown as it is.
    """
    if form not in SHOW:
        raise ValueError(f"unknown form {form!r}: there is {', '.join(SHOW)}")
    if is_unknown(value):
        return ""
    if isinstance(value, str):
        return one_line(value)
    shown = SHOW[form](value, unit)
    return f"≥ {shown}" if isinstance(value, AtLeast) else shown


def one_line(text: str) -> str:
    """Without line breaks and control characters: a layer's name must not move the cursor."""
    if text.isascii() and text.isprintable():
        return text.strip()
    return "".join(c for c in " ".join(text.split()) if c.isprintable() or c == " ")


def inert(text: str) -> str:
    """The same lines, none of which the runner of GitHub Actions takes for a command, as it does `::error::` at a
    line's beginning."""
    return _COMMAND.sub(r"\1: ", text) if "::" in text else text


_COMMAND = re.compile(r"^([^\S\n]*):(?=:)", re.MULTILINE)


def cell_text(value: str) -> str:
    """A text as a cell of CSV: without control characters but line feeds, and with a ' before it where a spreadsheet
    would take it for a formula, or GitHub's runner for a command."""
    text = inert("\n".join(map(one_line, value.split("\n"))))
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "::")) else text


def json_text(body: Any) -> str:
    """JSON for people and programs: indented, and without a character that moves the cursor."""
    return still_json(json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def still_json(text: str) -> str:
    """The same JSON, with escapes for the characters that move the cursor and that JSON allows."""
    return _MOVES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_MOVES = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def _text(value: Any, unit: str) -> str:
    return _with(one_line(str(value)), unit)


def _count(value: Any, unit: str) -> str:
    if isinstance(value, tuple | list):
        return _shape(value, unit)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _with(f"{value:,}", unit)


def _scaled(value: Any, unit: str, prefixes: str = "KMGTPE") -> str:
    if abs(value) < 1000:
        exact = isinstance(value, int) or float(value).is_integer()
        return _with(str(int(value)) if exact else f"{value:.4g}", unit)
    for power, prefix in enumerate(prefixes, 1):
        if abs(value / 1000**power) < 999.95:  # else it would read 1000
            return f"{value / 1000**power:#.4g} {prefix}{unit}"
    return f"{value / 1000 ** len(prefixes):,.0f} {prefixes[-1]}{unit}"


def _bytes(value: Any, unit: str) -> str:
    return _scaled(value, unit or "B", "kMGTPE")


def _shape(value: Any, unit: str) -> str:
    if isinstance(value, int):
        return _count(value, unit)
    if value and isinstance(value[0], tuple | list):
        return ", ".join(_shape(one, unit) for one in value)
    return _with("×".join(map(str, value)) or "()", unit)


def _share(value: Any, unit: str) -> str:
    return f"{100 * value:.1f} %"


def _flag(value: Any, unit: str) -> str:
    return "✓" if value else "✗"


def _with(number: str, unit: str) -> str:
    return f"{number} {unit}" if unit else number


SHOW: dict[str, Callable[[Any, str], str]] = {
    "text": _text, "count": _count, "scaled": _scaled, "bytes": _bytes, "shape": _shape, "share": _share,
    "flag": _flag, "change": lambda value, unit: _with(f"{value:+,}".replace("-", "−").replace("+0", "0"), unit),
}  # fmt: skip

RIGHT = {"count", "change", "scaled", "bytes", "share"}  # the forms that are aligned to the right


def heading(column: Column) -> str:
    """The title of a column, with its unit where neither title nor values say it."""
    known = not column.unit or column.form == "bytes" or column.unit.lower() in column.title.lower()
    return column.title if known else f"{column.title} ({column.unit})"


def cells_of(table: Table, row: Mapping[str, Any]) -> list[str]:
    return [show(row.get(column.key), column.form) for column in table.columns]


def totals_of(table: Table) -> list[str] | None:
    """The last row as text, called "Total" where the first column has room for that word."""
    if table.totals is None:
        return None
    cells = cells_of(table, table.totals)
    if not cells[0] and table.columns[0].form == "text":
        cells[0] = "Total"
    return cells


def raw(value: Any) -> Any:
    """A value as JSON knows it."""
    if is_unknown(value):
        return None
    if isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if isfinite(value) else str(float(value))  # JSON has no infinity
    if isinstance(value, Mapping):
        return {str(key): raw(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [raw(one) for one in value]
    return str(value)
