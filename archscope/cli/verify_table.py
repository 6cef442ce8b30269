"""`verify-table`: whether somebody's comparison table holds."""

from typing import Annotated

import typer

from archscope.cli.base import As, Columns, OneCommand, Output, OutputOptions, progress

app = typer.Typer()


@app.command("verify-table", cls=OneCommand)
def check_table(
    file: Annotated[
        str,
        typer.Argument(
            help="A CSV or Markdown file with columns of models, parameters, MACs, FLOPs, KV cache.", metavar="FILE"
        ),
    ],
    input: Annotated[
        str | None,
        typer.Option("--input", "-i", help="What all rows ran on, where they do not say: 256.", metavar="SHAPE"),
    ] = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """Whether the figures of somebody's comparison table hold, row by row, to the digits that are printed.

    A figure agrees, agrees as MACs (a factor of 2), is what a tool or a paper has, or is explained by another input,
    head or part of the network. Exit code 1 where a figure disagrees and nothing explains it,
    where a cell is no number, and where no figure could be checked. Of language models also columns of KV cache,
    active parameters and training FLOPs, with the names of usual mistakes.

    \b
    archscope verify-table table.md
    archscope verify-table models.csv --input 256 --format md
    archscope verify-table - < table.md             what is piped in
    """
    from archscope.peers.explanations import HIDDEN, SHOWN, failed, judged, verdict_table
    from archscope.peers.printed_table import lines_of

    shown = OutputOptions(columns, format, output)
    shown.check(SHOWN + HIDDEN)
    if input is not None:
        from archscope.sources.inputs import shape_and_dtype

        shape_and_dtype(input)
    lines = lines_of(file)
    with progress(lines) as counted:
        found = [one for line in counted for one in judged(line, input or "")]

    from archscope.analysis.texts import versions

    shown.print(verdict_table(f"{file} checked", found, versions()))
    if failed(found):
        raise typer.Exit(1)
