"""An HTML fragment: one div with its style, a table, the notes and the caption."""

from collections.abc import Sequence
from html import escape

from archscope.core.formats.base import RIGHT, cells_of, heading, one_line, renderer, totals_of
from archscope.core.table import Column, Table

# no colour of its own: text and lines take the colour of the page, light or dark
_STYLE = """\
.archscope { overflow-x: auto; }
.archscope table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.archscope table caption { text-align: left; font-weight: bold; padding: 0.3em 0; color: inherit; }
.archscope table th, .archscope table td { text-align: left; padding: 0.2em 0.8em; border: 0; color: inherit; }
.archscope table tbody th { font-weight: normal; }
.archscope table .number { text-align: right; white-space: nowrap; }
.archscope table thead tr { border-bottom: 1px solid currentColor; }
.archscope table tfoot tr { border-top: 1px solid currentColor; font-weight: bold; }
.archscope ul, .archscope p { font-size: 0.9em; margin: 0.5em 0; opacity: 0.8; }"""


@renderer("html")
def render(table: Table) -> str:
    """A fragment that stands alone: one div with its style, a table, the notes and the caption."""

    def line(cells: Sequence[str], scope: str) -> str:
        def cell(column: Column, text: str, first: bool) -> str:
            name = "th" if first or scope == "col" else "td"
            mark = ' class="number"' if column.form in RIGHT else ""
            mark += f' scope="{scope}"' if name == "th" else ""
            return f"<{name}{mark}>{escape(one_line(text))}</{name}>"

        pairs = zip(table.columns, cells, strict=True)
        return f"<tr>{''.join(cell(c, text, c is table.columns[0]) for c, text in pairs)}</tr>"

    lines = ['<div class="archscope">', f"<style>\n{_STYLE}\n</style>", "<table>"]
    if table.title:
        lines.append(f"<caption>{escape(one_line(table.title))}</caption>")
    lines += ["<thead>", line([heading(column) for column in table.columns], "col"), "</thead>", "<tbody>"]
    lines += [line(cells_of(table, row), "row") for row in table.rows]
    lines.append("</tbody>")
    if totals := totals_of(table):
        lines += ["<tfoot>", line(totals, "row"), "</tfoot>"]
    lines.append("</table>")
    if table.notes:
        lines += ["<ul>", *(f"<li>{escape(one_line(note))}</li>" for note in table.notes), "</ul>"]
    if legend := table.legend():
        lines.append(f"<p>{escape(one_line(legend))}</p>")
    return "\n".join([*lines, "</div>"]) + "\n"
