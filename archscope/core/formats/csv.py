"""CSV, the raw values: shapes as JSON lists, booleans as true and false, unknown empty."""

import io
import json
from typing import Any

from archscope.core.formats.base import cell_text, raw, renderer, still_json
from archscope.core.table import Table


@renderer("csv")
def render(table: Table) -> str:
    """A line of keys and a line a row: raw values, shapes as JSON lists, booleans as true and false, unknown empty."""
    import csv

    keys = [column.key for column in table.columns + table.hidden]

    def cell(value: Any) -> Any:
        value = raw(value)
        as_json = isinstance(value, bool | list | dict)
        if isinstance(value, str):
            return cell_text(value)
        return still_json(json.dumps(value, ensure_ascii=False)) if as_json else value

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(keys)
    writer.writerows([cell(row.get(key)) for key in keys] for row in table.rows)
    return out.getvalue()
