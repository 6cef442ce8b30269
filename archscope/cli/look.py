"""`list`, `trace` and `table`: to look at networks."""

from typing import Annotated

import typer

from archscope.cli.base import (
    As,
    Batch,
    Columns,
    Input,
    OneCommand,
    Output,
    Shown,
    Train,
    names,
    progress,
    whole_number,
)
from archscope.errors import ArchscopeError, ShapeError

app = typer.Typer()


@app.command("list", cls=OneCommand, short_help="The networks of the zoo, with their counts and papers.")
def list_models(
    pattern: Annotated[list[str] | None, typer.Argument(help="Names or wildcards; all when left out.")] = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """The networks of the zoo, with their counts, arguments and papers.

    \b
    archscope list
    archscope list 'resnet*' --format json
    """
    from archscope.catalogue import listing
    from archscope.spec import expand

    shown = Shown(columns, format, output)
    listed = listing(expand(["all"] if pattern is None else pattern))
    shown.print(listed)


@app.command(cls=OneCommand, short_help="One model, layer by layer.")
def trace(
    model: Annotated[
        str,
        typer.Argument(help="A network, NAME@key=value to set its arguments.", autocompletion=names, metavar="MODEL"),
    ],
    input: Input = None,
    batch: Batch = None,
    depth: Annotated[
        str | None, typer.Option("--depth", "-d", help="Show modules down to this depth.", metavar="N")
    ] = None,
    train: Train = False,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """One model, layer by layer: shapes, parameters and MACs, each with its derivation and whether it holds.

    \b
    archscope trace alexnet
    archscope trace alexnet --input 224            what goes wrong, and what would work
    archscope trace mobilenet-v1@width=0.5 --depth 2
    archscope trace lenet --columns path,formula,params --format md
    """
    from archscope.spec import load, parse

    shown = Shown(columns, format, output)
    level, examples = whole_number("--depth", depth), whole_number("--batch", batch)
    spec = parse(model)
    built, inputs = load(spec, input, examples)

    import archscope.tracer as tracer
    from archscope.views import LAYER_COLUMNS, LAYER_HIDDEN, layer_table

    shown.check(LAYER_COLUMNS + LAYER_HIDDEN)
    try:
        record = tracer.trace(built, inputs, name=spec.text, train=train)
    except ArchscopeError as error:
        before = error.failure
        if before is not None and before.trace.ops and format == "terminal" and output is None:
            shown.print(layer_table(before.trace, level, stopped=before.path))
        if isinstance(error, ShapeError):
            from archscope.doctor import diagnose

            raise ShapeError(diagnose(error, spec, built, inputs, train)) from error
        raise
    table = layer_table(record, level)
    shown.print(table)
    if any(row["agrees"] is False for row in table.rows):
        raise typer.Exit(1)


@app.command(cls=OneCommand, short_help="Models side by side.")
def table(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names and wildcards, as with --models.", autocompletion=names, metavar="[MODEL]..."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", "-m", help="all, or names and wildcards separated by commas.", metavar="MODELS"),
    ] = None,
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    sort: Annotated[
        str | None, typer.Option("--sort", "-s", help="Key to sort by; -KEY for the largest first.", metavar="KEY")
    ] = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """Models side by side: parameters, MACs, memory, receptive field, and whether every derivation holds.

    \b
    archscope table --models all
    archscope table --models 'vgg*,resnet50' --sort -macs --format md
    archscope table --models all --format latex --output table.tex
    """
    from archscope.spec import expand

    shown = Shown(columns, format, output)
    examples = whole_number("--batch", batch)
    specs = expand([*(names or []), *(models or [])] if names or models else ["all"])

    from archscope.views import MODEL_COLUMNS, MODEL_HIDDEN

    shown.check(MODEL_COLUMNS + MODEL_HIDDEN, sort)

    from archscope.compare import side_by_side

    with progress(specs) as counted:
        compared = side_by_side(counted, input, examples, train)
    if sort:
        compared = compared.sort(sort.removeprefix("-"), descending=sort.startswith("-"))
    shown.print(compared)
    if any(row.get("error") or row.get("verified") is False for row in compared.rows):
        raise typer.Exit(1)
