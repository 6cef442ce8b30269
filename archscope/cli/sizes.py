"""`sizes`: the input sizes that a network accepts, and its counts in H and W."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from archscope.cli.base import (
    As,
    Batch,
    Input,
    Model,
    OneCommand,
    Output,
    OutputOptions,
    Train,
    progress,
    whole_number,
)

app = typer.Typer()


@app.command("sizes", cls=OneCommand)
def legal(
    model: Model,
    symbolic: Annotated[
        bool, typer.Option("--symbolic", help="Sides, MACs and activations as expressions in H and W.")
    ] = False,
    limit: Annotated[str | None, typer.Option("--limit", "-l", help="Largest side to try (512).", metavar="N")] = None,
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """The smallest input that works, the sizes that fit fixed layers, and those where no window loses a row.

    \b
    archscope sizes alexnet                 67; 227 to 258; 67, 99, 131, …; with the working
    archscope sizes alexnet --format json   {"minimum": 67, "fits": […], "lossless": […]}
    archscope sizes nets.py:Net --input 3x64x64
    archscope sizes resnet50 --symbolic     in N, H and W, with the floors
    """
    from archscope.shapes.resize import resized

    shown = OutputOptions(None, format, output)
    furthest, examples = whole_number("--limit", limit), whole_number("--batch", batch)
    subject = resized(model, input, examples, train)
    if symbolic:
        import archscope.shapes.symbolic as letters

        shown.write(letters.page, letters.in_letters(subject), shown.format)
        return
    import archscope.learn.input_sizes as pages
    from archscope.shapes.legal import legal_sizes

    shown.write(pages.page, legal_sizes(subject, furthest, _counted), subject, shown.format)


def _counted(sides: range) -> Iterator[int]:
    with progress(list(sides)) as bar:
        counted: Iterable[int] = bar
        yield from counted
