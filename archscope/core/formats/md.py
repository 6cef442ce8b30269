"""Markdown as GitHub shows it: pipe tables, `$$…$$` for maths."""

import re

from archscope.core.document import Document, inline, meanings, steps, tex_name
from archscope.core.formats.base import RIGHT, cells_of, heading, one_line, renderer, totals_of, writer
from archscope.core.table import Table

# what GitHub would read as markup; "_" only at the edge of a word, "<" and "&" only where a tag or an entity begins
_MARKUP = re.compile(r"[\\`*|\[~$]|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=#?\w+;)")


def escape(text: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", one_line(text))


@renderer("md")
def render(table: Table) -> str:
    """A pipe table as GitHub shows it, the notes as a list under it, then the caption."""
    from tabulate import tabulate

    rows = [[escape(cell) for cell in cells_of(table, row)] for row in table.rows]
    if totals := totals_of(table):
        rows.append([f"**{escape(cell)}**" if cell else "" for cell in totals])
    body = tabulate(
        rows,
        headers=[escape(heading(column)) for column in table.columns],
        tablefmt="pipe",
        colalign=["right" if column.form in RIGHT else "left" for column in table.columns] if rows else None,
        disable_numparse=True,
    )
    blocks = [
        f"**{escape(table.title)}**" if table.title else "",
        body,
        "\n".join(f"- {escape(note)}" for note in table.notes),
        f"*{escape(table.legend())}*" if table.legend() else "",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


@writer("md")
def write(document: Document) -> str:
    """Markdown for GitHub: every equation a block of maths, a brief one in a line of its own."""
    numbers = document.sources

    blocks = [f"# {escape(document.title)}", *map(escape, document.about)]
    for section in document.sections:
        blocks += [f"## {escape(section.title)}", *map(escape, section.about)]
        if section.brief:
            blocks.append("\n".join(f"- {inline(one, escape)}" for one in section.equations))
        for one in () if section.brief else section.equations:
            mark = f" [{numbers[one.source]}]" if one.source else ""
            unit = rf"\ \text{{{one.unit}}}" if one.unit else ""
            blocks.append(f"**{escape(one.name)}**{mark}")
            blocks.append(f"$$\n{' = '.join(steps(one, tex=True))}{unit}\n$$")
        blocks += [render(table).rstrip("\n") for table in section.tables]
        where = [f"- ${tex_name(x)}$ = {escape(f'{value}: {meaning}')}" for x, value, meaning in meanings(section)]
        blocks += ["\n".join(where), "\n>\n".join(f"> {escape(note)}" for note in section.notes)]
    if numbers:
        blocks += ["## Sources", "\n".join(f"- [{i}] {escape(source)}" for source, i in numbers.items())]
    blocks.append(f"*{escape(document.caption)}*" if document.caption else "")
    return "\n\n".join(block for block in blocks if block) + "\n"
