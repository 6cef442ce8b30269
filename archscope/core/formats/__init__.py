"""From a Table or a Document to text: a file of this folder a format, and a new file is all that one needs.

A table's function is registered in `RENDERERS`, a document's in `WRITERS`; both end in one newline. The machine formats
(csv, json) carry raw values and the hidden columns, and no title, notes, caption or totals; the others are for people.
"""

import os
import shutil
import sys
from typing import Any

from archscope.core.formats import latex, md
from archscope.core.formats.base import RENDERERS, SHOW, WRITERS, heading, inert, renderer, show, writer
from archscope.core.registry import import_folder
from archscope.core.table import Table

__all__ = ["RENDERERS", "SHOW", "WRITERS", "escaped", "heading", "printed", "renderer", "show", "text_of", "writer"]

import_folder(__name__, __path__)
for _formats in (RENDERERS, WRITERS):
    _formats.put_first("terminal", "md", "csv", "latex", "json", "html")


def text_of(table: Table, format: str, **options: Any) -> str:
    """The table in one of the formats of RENDERERS. Raises ValueError, naming the right ones, on an unknown format."""
    if format not in RENDERERS:
        raise ValueError(f"unknown format {format!r}: there is {', '.join(RENDERERS)}")
    text = RENDERERS[format](table, **options)
    return text if format in ("csv", "json") else inert(text)


def printed(table: Table) -> str:
    """The table as `print` shows it: as wide as the terminal, 100 columns where there is none."""
    on_terminal = os.environ.get("COLUMNS", "").isdigit() or (sys.stdout is not None and sys.stdout.isatty())
    width = shutil.get_terminal_size().columns if on_terminal else 100
    return text_of(table, "terminal", width=width)


def escaped(text: str, format: str) -> str:
    """Running text as Markdown ("md") or LaTeX ("latex") writes it."""
    return {"md": md.escape, "latex": latex.escape}[format](text)
