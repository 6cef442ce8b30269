"""`verify` and `reconcile`: whether the numbers hold, and why other tools have others."""

from typing import Annotated

import typer

from archscope.cli.base import (
    As,
    Batch,
    Columns,
    Image,
    Input,
    Method,
    Model,
    OneCommand,
    Output,
    OutputOptions,
    Source,
    Train,
    Values,
    names,
    progress,
    whole_number,
)
from archscope.core.errors import SpecError

app = typer.Typer()

Against = Annotated[
    str | None,
    typer.Option("--against", "-a", help="Tools to run: torchinfo,fvcore,torch, … or all.", metavar="TOOLS"),
]


@app.command(cls=OneCommand)
def verify(
    models: Annotated[
        list[str], typer.Argument(help="Names and wildcards, or all.", autocompletion=names, metavar="MODEL")
    ],
    against: Against = None,
    file: Annotated[
        str | None,
        typer.Option("--file", help="A file of weights to compare the model with; nothing is run.", metavar="FILE"),
    ] = None,
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    values: Values = None,
    method: Method = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """Whether the derivations of a model agree: each layer's closed form, PyTorch's own kernels, published figures.

    Exit code 1 where two numbers disagree and no reason for it is stated.

    \b
    archscope verify alexnet
    archscope verify all
    archscope verify resnet50 torchvision:vit_b_16 --against torchinfo,fvcore,torch
    archscope verify nets.py:Net --input 3x32x32
    archscope verify torchvision:resnet18 --file resnet18.safetensors
    """
    if file is not None:
        if len(models) > 1 or any([against, input, batch, train]):
            raise SpecError("--file compares one model with one file, and runs nothing: it goes with no other option")
        _file(models[0], file, OutputOptions(columns, format, output))
        return
    from archscope.peers.checks import COLUMNS_OF, HIDDEN, checked, checks_table, failed
    from archscope.peers.reconcile import chosen
    from archscope.sources.spec import expand

    shown = OutputOptions(columns, format, output)
    shown.check(COLUMNS_OF + HIDDEN)
    examples = whole_number("--batch", batch)
    tools = chosen(against) if against is not None else []
    specs = expand(models)

    with progress(specs) as counted:
        results = [checked(spec, input, examples, train, tools) for spec in counted]

    from archscope.analysis.texts import versions

    shown.print(checks_table(results, versions()))
    if failed(results):
        raise typer.Exit(1)


def _file(model: str, file: str, shown: OutputOptions) -> None:
    """A file of weights against a model."""
    from archscope.peers.weight_files import COLUMNS, HIDDEN, compared
    from archscope.sources.spec import parse

    shown.check(COLUMNS + HIDDEN)
    holder = parse(file)
    if not holder.source.only_weights:
        raise SpecError(f"{file} is no file of weights: write a .safetensors file or a .safetensors.index.json")
    table = compared(parse(model), holder.source.weights(holder.name))
    shown.print(table)
    if not all(row["verified"] for row in table.rows):
        raise typer.Exit(1)


@app.command(cls=OneCommand)
def reconcile(
    model: Model,
    against: Against = None,
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    values: Values = None,
    method: Method = None,
    llm: Annotated[bool, typer.Option("--llm", help="How frameworks count the training of a language model.")] = False,
    context: Annotated[
        str | None, typer.Option("--context", help="With --llm: tokens of a text (8192).", metavar="N")
    ] = None,
    source: Source = None,
    image: Image = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """Why other tools have other numbers: each is run, and its figure explained from archscope's, to the last unit.

    Tools that are not installed are predicted. Exit code 1 where something is left unexplained.

    \b
    archscope reconcile torchvision:resnet50
    archscope reconcile torchvision:vit_b_16 --against fvcore,torch
    archscope reconcile resnet50 --format json
    archscope reconcile mobilenet-v2 --train --against torch     forward and backward too
    archscope reconcile transformers:GPT2Config --llm --context 1024
    """
    if llm or any(word is not None for word in (context, source, image)):
        rows, side = whole_number("--source", source), whole_number("--image", image, 0)
        _reconcile_training(model, context, batch, rows, side, OutputOptions(columns, format, output))
        return
    from archscope.peers.checks import reconciled
    from archscope.peers.reconcile import PEOPLE, RECORD, account_table, chosen, records
    from archscope.sources.spec import parse

    shown = OutputOptions(columns, format, output)
    for_scripts = shown.format in ("json", "csv")
    shown.check(RECORD if for_scripts else PEOPLE)
    examples = whole_number("--batch", batch)
    tools = chosen(against)
    parsed = parse(model)
    trace, found = reconciled(parsed, tools, input, examples, train)

    step, of_step = 0, []
    if train and not parsed.source.saved:
        from archscope.peers.step_reconcile import step_reconciled

        step, of_step = step_reconciled(parsed, trace, input, examples)

    from archscope.analysis.texts import versions

    made_with = versions(trace.versions)
    everything = [*found, *of_step]
    shown.print(records(everything, trace) if for_scripts else account_table(found, trace, made_with, step, of_step))
    if any(one.residual for one in everything):
        raise typer.Exit(1)


def _reconcile_training(
    model: str, context: str | None, batch: str | None, source: int | None, image: int | None, shown: OutputOptions
) -> None:
    from archscope.peers.llm import COLUMNS, HIDDEN, conventions_table
    from archscope.sources.spec import parse

    shown.check(COLUMNS + HIDDEN)
    tokens, texts = whole_number("--context", context or "8192") or 1, whole_number("--batch", batch) or 1
    table = conventions_table(parse(model), tokens, texts, source, image)
    shown.print(table)
    if any(row.get("residual") for row in table.rows):
        raise typer.Exit(1)
