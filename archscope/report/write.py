"""Models -> files: the Markdown of a report with its drawings and plots."""

import os
from collections.abc import Sequence
from pathlib import Path

from archscope.bench.results import tables
from archscope.core.errors import SpecError
from archscope.core.files import save
from archscope.report.grid import grid_of
from archscope.report.pages import ReportModel, marked, pages_of, plots_of
from archscope.report.plots import picture
from archscope.report.runs import Row, drawable
from archscope.sources.spec import parse

GRID = "mobilenet-v1"  # of the plot of sizes and widths


def markdown(subjects: Sequence[ReportModel], folder: str, runs: Sequence[Row] = ()) -> str:
    """Write the pages, drawings and plots of a report; a sentence on what was written. runs: rows of bench, which are
    shown as tables and plots. Raises SpecError."""
    grid = grid_of([parse(GRID)]) if any(s.own and s.spec.text == GRID for s in subjects) else []
    plots = plots_of(subjects, grid) | drawable(runs)
    pages = pages_of(subjects, {name: f"plots/{name}.svg" for name in plots}, tables(runs))
    home = Path(os.path.expanduser(folder))
    for path, text in pages.items():
        _write(home / path, text)
    for name, (kind, data) in plots.items():
        file = home / f"plots/{name}.svg"
        if not (file.exists() and marked(kind, data) in file.read_text(encoding="utf-8", errors="replace")):
            _write(file, picture(kind, data))
    drawn = sum(path.startswith("figures/") for path in pages)
    parts = [_many(len(pages) - drawn, "page"), _many(drawn, "drawing")] if drawn else [_many(len(pages), "page")]
    return f"{_many(len(subjects), 'model')}: {', '.join(parts)} and {_many(len(plots), 'plot')} in {folder}"


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _write(path: Path, content: str | bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(content, path)
    except OSError as error:
        raise SpecError(f"cannot write {path}: {error.strerror or error}") from error
