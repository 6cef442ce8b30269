"""`fit`: the largest batch or input of a training step that fits the memory of a card."""

from typing import Annotated, Any

import typer

from archscope.cli.base import (
    As,
    Batch,
    Columns,
    Input,
    OneCommand,
    Output,
    OutputOptions,
    choice,
    names,
    progress,
    whole_number,
)
from archscope.core.errors import SpecError

app = typer.Typer()
USUAL = ("T4", "RTX 3060", "RTX 4090", "A100 40GB", "H100")  # the cards of the table where none is named


@app.command("fit", cls=OneCommand)
def largest_that_fits(
    models: Annotated[str, typer.Argument(help="Names, separated by commas.", autocompletion=names, metavar="MODELS")],
    memory: Annotated[
        str | None, typer.Option("--memory", "-m", help="Of a card: '24 GB', '24 GiB'; several by commas.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="A card, such as 'RTX 4090'; several by commas.")
    ] = None,
    over: Annotated[str, typer.Option("--over", help="What grows: batch, or side (also a length).")] = "batch",
    optimizer: Annotated[
        str, typer.Option("--optimizer", help="sgd, momentum, adam, adamw, … of torch.optim.")
    ] = "sgd",
    precision: Annotated[str, typer.Option("--precision", help="fp32, bf16, fp16, bf16-mixed or fp16-mixed.")] = "fp32",
    checkpoint: Annotated[
        list[str] | None, typer.Option("--checkpoint", help="Modules to run again in the backward: 'layer1.*'.")
    ] = None,
    attention: Annotated[str, typer.Option("--attention", help="math, flash or efficient.")] = "math",
    allowance: Annotated[
        str, typer.Option("--allowance", help="Memory that is not for tensors: CUDA's context, workspaces.")
    ] = "600 MB",
    input: Input = None,
    batch: Batch = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """The largest batch, input side or sequence length whose training step fits a card.

    \b
    archscope fit resnet50 --device "RTX 4090" --optimizer adamw
    archscope fit vgg11,alexnet --memory 2GiB,4GiB,8GiB --input 96
    archscope fit resnet50 --memory "24 GB" --over side --batch 8

    The allocator of PyTorch is simulated over the record of a step, so that what it reserves is known without a GPU.
    """
    from archscope.analysis.texts import versions
    from archscope.shapes.fit import COLUMNS, HIDDEN, card_bytes, fit_row, fit_table, steps_of
    from archscope.sources.spec import expand

    shown = OutputOptions(columns, format, output)
    shown.check(COLUMNS + HIDDEN)
    choice("what grows", over, ("batch", "side"))
    examples = whole_number("--batch", batch)
    if over == "batch" and examples is not None:
        raise SpecError("--batch sets the batch that --over batch looks for; leave it out, or use --over side")
    cards = [_bytes("--memory", text) for text in (memory or "").split(",") if text.strip()]
    cards += [card_bytes(name) for name in (device or "").split(",") if name.strip()]
    reserve = _bytes("--allowance", allowance)
    conditions: dict[str, Any] = {
        "optimizer": optimizer, "precision": precision, "checkpoint": tuple(checkpoint or ()), "attention": attention,
    }  # fmt: skip
    rows = []
    with progress(expand([models])) as specs:
        for spec in specs:
            record = steps_of(spec, input, over, examples, conditions)
            for size in cards or [card_bytes(name) for name in USUAL]:
                rows.append(fit_row(spec, record, over, size, reserve))
    words = f"Optimizer {optimizer}, precision {precision}, attention {attention}"
    words += f", checkpoints on {', '.join(checkpoint)}." if checkpoint else "."
    shown.print(fit_table(rows, over, reserve, words, versions()))


def _bytes(option: str, text: str) -> int:
    from archscope.core.units import amount

    try:
        return int(amount(text, in_bytes=True))
    except ValueError as error:
        raise SpecError(f"{option}: {error}") from error
