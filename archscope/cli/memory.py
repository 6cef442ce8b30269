"""`memory`: the bytes of a step of training, or of inference."""

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
    OutputOptions,
    may_write,
    put,
    whole_number,
)
from archscope.core.errors import SpecError

app = typer.Typer()


@app.command("memory", cls=OneCommand)
def step_memory(
    model: Model,
    input: Input = None,
    batch: Batch = None,
    optimizer: Annotated[
        str, typer.Option("--optimizer", help="momentum, or one of torch.optim: sgd, adam, adamw, ….", metavar="NAME")
    ] = "sgd",
    implementation: Annotated[
        str, typer.Option("--implementation", help="Of the optimizer: foreach, for-loop, fused.", metavar="KIND")
    ] = "foreach",
    loss: Annotated[
        str | None, typer.Option("--loss", help="cross-entropy, next-token or mean-square.", metavar="NAME")
    ] = None,
    precision: Annotated[
        str,
        typer.Option("--precision", help="fp32 (as built), bf16, fp16; bf16-mixed, fp16-mixed.", metavar="NAME"),
    ] = "fp32",
    checkpoint: Annotated[
        list[str] | None,
        typer.Option("--checkpoint", help="Modules that run again in the backward; wildcards.", metavar="PATH"),
    ] = None,
    attention: Annotated[
        str, typer.Option("--attention", help="The kernel: math, flash, efficient, cpu-flash.", metavar="KERNEL")
    ] = "math",
    frozen: Annotated[
        list[str] | None, typer.Option("--freeze", help="Parameters that are not trained; wildcards.", metavar="NAME")
    ] = None,
    accumulate: Annotated[
        str | None, typer.Option("--accumulate", help="Batches for each step of the optimizer (1).", metavar="N")
    ] = None,
    inference: Annotated[bool, typer.Option("--inference", help="The forward alone, without autograd.")] = False,
    depth: Annotated[
        str | None, typer.Option("--depth", "-d", help="Show modules down to this depth.", metavar="N")
    ] = None,
    plot: Annotated[
        str | None, typer.Option("--plot", help="Draw the bytes over the step, as .svg, .png or .pdf.", metavar="FILE")
    ] = None,
    save: Annotated[str | None, typer.Option("--save", help="Keep the record as JSON.", metavar="FILE")] = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """What a step of training needs: the peak, its moment and its terms, layer by layer.

    \b
    archscope memory resnet50 --batch 32 --optimizer adamw
    archscope memory resnet50 --batch 32 --checkpoint 'layer?.?'
    archscope memory torchvision:vit_b_16 --precision bf16 --attention flash --plot step.svg
    archscope memory vgg16 --batch 8 --inference
    """
    from archscope.analysis.step_table import MEMORY_COLUMNS, block_paths, checkpoint_note, memory_table
    from archscope.sources.records import step_of

    shown = OutputOptions(columns, format, output)
    shown.check(MEMORY_COLUMNS)
    for option, path in (("--plot", plot), ("--save", save)):
        if path is not None:
            may_write(path, option)
    form = (plot or ".svg").lower().rpartition(".")[2]
    if form not in ("svg", "png", "pdf"):
        raise SpecError(f"--plot draws .svg, .png and .pdf, not {plot!r}")
    examples, level = whole_number("--batch", batch), whole_number("--depth", depth)
    conditions = {
        "optimizer": None if inference else optimizer, "implementation": implementation, "loss": loss,
        "precision": precision, "attention": attention, "frozen": tuple(frozen or ()),
        "accumulate": whole_number("--accumulate", accumulate) or 1,
    }  # fmt: skip
    record = step_of(model, input, examples, checkpoint=tuple(checkpoint or ()), **conditions)
    tips = []
    blocks = [] if inference or checkpoint or shown.for_machines else block_paths(record)
    if blocks:
        other = step_of(model, input, examples, checkpoint=tuple(blocks), **conditions)
        which = f"each of {len(blocks)} blocks ({blocks[0]} … {blocks[-1]})" if len(blocks) > 1 else blocks[0]
        tips.append(checkpoint_note(record, other, which))
    if save is not None:
        put(record.to_json() + "\n", save)
    if plot is not None:
        from archscope.report.picture import picture_of
        from archscope.report.step_plot import memory_svg

        drawn = memory_svg(record)
        put(drawn if form == "svg" else picture_of(drawn, form), plot)
    shown.print(memory_table(record, tips, level))
