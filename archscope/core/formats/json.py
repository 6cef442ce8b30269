"""JSON, the raw values: shapes as lists, unknown as null."""

import json
from fractions import Fraction
from typing import Any

from archscope.core.document import Document, Equation
from archscope.core.expression import Expr, symbol
from archscope.core.formats.base import raw, renderer, writer
from archscope.core.table import Table


@renderer("json")
def render(table: Table) -> str:
    """A list of objects, one a row: raw values, shapes as lists, unknown as null."""
    keys = [column.key for column in table.columns + table.hidden]
    rows = [{key: raw(row.get(key)) for key in keys} for row in table.rows]
    return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@writer("json")
def write(document: Document) -> str:
    """The sections with their equations: letters, digits, LaTeX and the raw value of each; tables as their rows."""
    sections = []
    for section in document.sections:
        body = {"title": section.title, **section.facts, "lines": list(map(_json_equation, section.equations))}
        if section.tables:
            body["tables"] = [json.loads(render(table)) for table in section.tables]
        sections.append({**body, "notes": list(section.notes)})
    return json.dumps({"title": document.title, "sections": sections}, indent=2, ensure_ascii=False) + "\n"


def _json_equation(one: Equation) -> dict[str, Any]:
    number = one.number if isinstance(one.number, Expr) else symbol(str(one.number), one.number)
    value = number.value
    return {
        "quantity": one.name,
        "letter": one.letter or None,
        "symbols": number.symbols,
        "digits": number.digits,
        "latex": number.latex,
        "value": float(value) if isinstance(value, Fraction) and value.denominator != 1 else int(value),
        "source": one.source or None,
    }
