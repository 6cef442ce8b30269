"""`explain`, `quiz` and `grade`: to learn how the numbers come about."""

from typing import Annotated

import typer

from archscope.cli.base import (
    As,
    Batch,
    Columns,
    Input,
    Model,
    OneCommand,
    Output,
    Shown,
    Train,
    format_of,
    may_write,
    put,
    terminal_width,
    use_color,
    whole_number,
)
from archscope.core.errors import SpecError
from archscope.core.record import Trace

app = typer.Typer()

PAGES = ("terminal", "md", "latex", "json")
SHEETS = ("md", "csv")


def _pages(incomplete: str) -> list[str]:
    return [name for name in PAGES if name.startswith(incomplete)]


@app.command(cls=OneCommand)
def explain(
    model: Model,
    layer: Annotated[
        str | None,
        typer.Argument(help="A layer, a block or a wildcard; the whole network when left out.", metavar="[LAYER]"),
    ] = None,
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help=f"{', '.join(PAGES)}; by the name of --output when left out.",
            metavar="FORMAT",
            autocompletion=_pages,
        ),
    ] = "terminal",
    output: Output = None,
) -> None:
    """The working of a layer as a textbook prints it: letters, numbers, result, and the source of each rule.

    \b
    archscope explain alexnet conv1
    archscope explain googlenet inception3a        a block: what its 1×1 reductions save
    archscope explain resnet18 'layer1.*.conv1'
    archscope explain mobilenet-v1                 the whole network, briefly, and what its construction saves
    archscope explain alexnet fc6 --format md      maths that GitHub renders; latex: a document for pdflatex
    """
    from archscope.core.table import unknown

    if format not in PAGES:
        raise SpecError(unknown("format", format, PAGES))
    if output is not None:
        may_write(output)
    format = format_of(format, output, PAGES)
    examples = whole_number("--batch", batch)

    from archscope.sources.records import record_of

    with Shown(None, format, output).chain():
        record = record_of(model, input, examples, train)

    from archscope.core.formats import WRITERS
    from archscope.learn.explain import explanation

    shown = explanation(record, layer)
    options = {"width": terminal_width(), "color": use_color()} if format == "terminal" and output is None else {}
    put(WRITERS[format](shown, **options), output)
    if any(section.facts.get("agrees") is False for section in shown.sections):
        raise typer.Exit(1)


@app.command(cls=OneCommand)
def quiz(
    model: Model,
    input: Input = None,
    batch: Batch = None,
    answers: Annotated[bool, typer.Option("--answers", help="Fill everything in, to mark by hand.")] = False,
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", help="md or csv; by the file's name when left out.", metavar="FORMAT"),
    ] = None,
    output: Output = None,
) -> None:
    """A worksheet of a network, with shapes and parameter counts left blank. It names its model and input.

    \b
    archscope quiz lenet --output lenet.md
    archscope quiz alexnet --input 256 --output alexnet.csv      for a spreadsheet
    archscope quiz lenet --answers                               the same, filled in
    """
    from archscope.core.table import unknown

    if output is not None:
        may_write(output)
    if format is None:
        format = "csv" if output is not None and output.lower().endswith(".csv") else "md"
    if format not in SHEETS:
        raise SpecError(unknown("format", format, SHEETS))
    examples = whole_number("--batch", batch)

    from archscope.learn.quiz import head, questions, worksheet
    from archscope.sources.records import record_of

    with Shown(None, "json", output).chain():
        record = record_of(model, input, examples)
    if not any(one.asked for one in questions(record)):
        raise SpecError(f"{model} has no layer whose shape or parameters are derived: there is nothing to ask")
    put(worksheet(record, format, head(record, input or (), examples), answers), output)


@app.command(cls=OneCommand)
def grade(
    sheets: Annotated[list[str], typer.Argument(help="Worksheets, filled in, or folders of them.", metavar="SHEET...")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="What the sheets have to be of.", metavar="MODEL")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="The cells that are right, too.")] = False,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """Mark worksheets: which cells are right, and which rule each wrong one missed.

    One sheet is marked cell by cell, several in a table of marks. The exit code is 1 when a cell is not right.

    \b
    archscope grade lenet.md
    archscope grade sheets/ --model lenet          a folder, all of one network
    archscope grade sheets/ --format csv --output marks.csv
    """
    shown = Shown(columns, format, output)

    from archscope.core.errors import ArchscopeError
    from archscope.learn.grade import (
        CELL_COLUMNS,
        CELL_HIDDEN,
        RIGHT,
        SHEET_COLUMNS,
        SHEET_HIDDEN,
        cell_table,
        marked,
        sheet_of,
        sheet_row,
        sheet_table,
        sheets_in,
        trace_for,
    )

    paths = sheets_in(sheets)
    alone = len(paths) == 1 and paths == sheets
    shown.check(CELL_COLUMNS + CELL_HIDDEN if alone else SHEET_COLUMNS + SHEET_HIDDEN)
    known: dict[object, Trace] = {}
    if alone:
        sheet = sheet_of(paths[0])
        marks = marked(trace_for(sheet, model, known), sheet)
        perfect = all(mark.verdict == RIGHT for mark in marks)
        for_people = perfect and not everything and columns is None and shown.format not in ("json", "csv")
        if for_people:  # nothing to list: the mark says it
            shown.print(sheet_table([sheet_row(sheet.path, sheet.head["model"], marks)]))
        else:
            shown.print(cell_table(sheet, sheet.head["model"], marks, everything))
        if not perfect:
            raise typer.Exit(1)
        return
    listed = []
    for path in paths:
        try:
            sheet = sheet_of(path)
            marks = marked(trace_for(sheet, model, known), sheet)
            listed.append(sheet_row(path, sheet.head["model"], marks))
        except ArchscopeError as error:
            listed.append({"sheet": path, "error": str(error)})
    shown.print(sheet_table(listed))
    if any(row.get("error") or row["right"] != row["cells"] for row in listed):
        raise typer.Exit(1)
