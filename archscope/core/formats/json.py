"""JSON, the raw values: shapes as lists, unknown as null."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from archscope.core.document import Document, Equation
from archscope.core.expression import Expr, symbol
from archscope.core.formats.base import json_text, raw, renderer, writer
from archscope.core.table import Table

SCHEMA = 1  # of the objects that `whole` writes; docs/reference/schema.json describes all JSON


@renderer("json")
def render(table: Table) -> str:
    """A list of objects, one a row: raw values, shapes as lists, unknown as null."""
    return json_text(_rows(table))


def whole(table: Table, rows: str, about: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """One object: what the rows are about, the rows under their name, the notes and the versions."""
    head = {"schema": SCHEMA, **{key: raw(value) for key, value in about.items()}}
    return json_text({**head, rows: _rows(table), "notes": list(table.notes), "versions": dict(versions)})


def _rows(table: Table) -> list[dict[str, Any]]:
    keys = [column.key for column in table.columns + table.hidden]
    return [{key: raw(row.get(key)) for key in keys} for row in table.rows]


@writer("json")
def write(document: Document) -> str:
    """The sections with their equations: letters, digits, LaTeX and the raw value of each; tables as their rows."""
    sections = []
    for section in document.sections:
        body = {"title": section.title, **section.facts, "lines": list(map(_json_equation, section.equations))}
        if section.tables:
            body["tables"] = list(map(_rows, section.tables))
        sections.append({**body, "notes": list(section.notes)})
    return json_text({"title": document.title, "sections": sections})


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
