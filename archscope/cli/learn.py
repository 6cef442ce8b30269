"""`explain`, `quiz` and `grade`: how the numbers are derived."""

from typing import Annotated

import typer

from archscope.cli.base import (
    As,
    Batch,
    Columns,
    ExplainCache,
    Fresh,
    Input,
    Method,
    Model,
    OneCommand,
    Output,
    OutputOptions,
    Train,
    Values,
    choice,
    format_option,
    may_write,
    put,
    whole_number,
)
from archscope.core.errors import SpecError
from archscope.core.formats import WRITERS
from archscope.core.record import Trace

app = typer.Typer()


@app.command(cls=OneCommand)
def explain(
    model: Model,
    layer: Annotated[
        str | None,
        typer.Argument(help="A layer, a block or a wildcard; default: the whole network.", metavar="[LAYER]"),
    ] = None,
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    values: Values = None,
    method: Method = None,
    format: Annotated[str, format_option(WRITERS)] = "terminal",
    output: Output = None,
    fresh: Fresh = False,
    explain_cache: ExplainCache = False,
) -> None:
    """The derivation of a layer as a textbook prints it: letters, numbers, result, and the source of each rule.

    \b
    archscope explain alexnet conv1
    archscope explain googlenet inception3a        a block: what its 1×1 reductions save
    archscope explain resnet18 'layer1.*.conv1'
    archscope explain mobilenet-v1                 the whole network, briefly, and what its design saves
    archscope explain alexnet fc6 --format md      maths that GitHub renders; latex: a document for pdflatex
    """
    from archscope.learn.explain import explanation
    from archscope.sources.records import record_of

    shown = OutputOptions(None, format, output, WRITERS)
    examples = whole_number("--batch", batch)
    with shown.chain():
        record = record_of(model, input, examples, train)
    document = explanation(record, layer)
    shown.write(WRITERS[shown.format], document)
    if any(section.facts.get("agrees") is False for section in document.sections):
        raise typer.Exit(1)


@app.command(cls=OneCommand)
def quiz(
    model: Model,
    input: Input = None,
    batch: Batch = None,
    answers: Annotated[bool, typer.Option("--answers", help="Fill in the answers.")] = False,
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", help="md or csv; by default from the name of --output.", metavar="FORMAT"),
    ] = None,
    output: Output = None,
    fresh: Fresh = False,
    explain_cache: ExplainCache = False,
) -> None:
    """A worksheet of a network with blanks for shapes and parameter counts. It names its model and input.

    \b
    archscope quiz lenet --output lenet.md
    archscope quiz alexnet --input 256 --output alexnet.csv      for a spreadsheet
    archscope quiz lenet --answers                               the same, filled in
    """
    from archscope.learn.grade import answers_lost
    from archscope.learn.quiz import FORMATS, head, questions, worksheet
    from archscope.sources.records import record_of

    if output is not None:
        may_write(output)
    if format is None:
        format = "csv" if output is not None and output.lower().endswith(".csv") else "md"
    choice("format", format, FORMATS)
    examples = whole_number("--batch", batch)

    with OutputOptions(None, "json", output).chain():
        record = record_of(model, input, examples)
    if not any(one.asked for one in questions(record)):
        raise SpecError(f"{model} has no layer with a derived shape or parameter count, so there are no questions")
    sheet = worksheet(record, format, head(record, input or (), examples), answers)
    if output is not None and (lost := answers_lost(output, sheet)):
        raise SpecError(f"{output} has answers that would be lost ({lost}): choose another file or remove it first")
    put(sheet, output)


@app.command(cls=OneCommand)
def grade(
    sheets: Annotated[list[str], typer.Argument(help="Filled-in worksheets, or folders of them.", metavar="SHEET...")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model that all sheets must have.", metavar="MODEL")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show correct cells, too.")] = False,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """Mark worksheets: which cells are correct, and which rule each wrong cell breaks.

    One sheet gets a row per cell, several sheets a row each. Exit code 1 if a cell is not correct.

    \b
    archscope grade lenet.md
    archscope grade sheets/ --model lenet          a folder, all of one network
    archscope grade sheets/ --format csv --output marks.csv
    """
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

    shown = OutputOptions(columns, format, output)
    paths = sheets_in(sheets)
    alone = len(paths) == 1 and paths == sheets
    shown.check(CELL_COLUMNS + CELL_HIDDEN if alone else SHEET_COLUMNS + SHEET_HIDDEN)
    known: dict[object, Trace] = {}
    if alone:
        sheet = sheet_of(paths[0])
        marks = marked(trace_for(sheet, model, known), sheet)
        perfect = all(mark.verdict == RIGHT for mark in marks)
        for_people = perfect and not everything and columns is None and not shown.for_machines
        if for_people:  # no wrong cell to list
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
