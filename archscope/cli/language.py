"""`llm`: what a language model costs, at a context and a batch."""

from typing import TYPE_CHECKING, Annotated

import typer

from archscope.cli.base import (
    As,
    Columns,
    Image,
    Model,
    OneCommand,
    Output,
    OutputOptions,
    Source,
    choice,
    may_write,
    put,
    whole_number,
)
from archscope.core.errors import SpecError

if TYPE_CHECKING:
    from archscope.report.language import Setting

app = typer.Typer()

Context = Annotated[
    str | None, typer.Option("--context", help="Tokens of the prompt, and in the cache; else 8192, or all positions of "
                             "a model with fewer.", metavar="N")
]  # fmt: skip
Batch = Annotated[str, typer.Option("--batch", "-b", help="Texts at once.", metavar="N")]
Dtype = Annotated[str, typer.Option("--dtype", help="Of the weights: fp32, bf16, fp8, int4, mxfp4.", metavar="DTYPE")]
CacheDtype = Annotated[
    str | None,
    typer.Option("--cache-dtype", help="Of the cache; else that of the weights, fp8 at least.", metavar="DTYPE"),
]
Cache = Annotated[str, typer.Option("--cache", help="transformers, or paged: blocks of 16 tokens.", metavar="KIND")]
Memory = Annotated[
    str | None, typer.Option("--memory", help="The largest context and batch for it, such as '80 GB'.", metavar="SIZE")
]


@app.command(cls=OneCommand)
def llm(
    model: Model,
    context: Context = None,
    batch: Batch = "1",
    dtype: Dtype = "bf16",
    cache_dtype: CacheDtype = None,
    cache: Cache = "transformers",
    memory: Memory = None,
    source: Source = None,
    image: Image = None,
    plot: Annotated[
        str | None, typer.Option("--plot", help="Draw memory against context, as .svg, .png or .pdf.", metavar="FILE")
    ] = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """Parameters, MACs of prefill and decode, cache and memory of a language model, each observed and derived.

    Exit code 1 where a figure of the run and its closed form disagree.

    \b
    archscope llm transformers:LlamaConfig
    archscope llm transformers:GptOssConfig --context 131072 --memory '80 GB'
    archscope llm transformers:MistralConfig --cache-dtype fp8 --format md
    archscope llm transformers:T5Config --context 100 --source 512
    archscope llm transformers:LlavaConfig --image 336
    archscope llm transformers:MistralConfig --plot memory.svg
    """
    from archscope.report.language import COLUMNS, HIDDEN, Usage

    shown = OutputOptions(columns, format, output)
    shown.check(COLUMNS + HIDDEN)
    form = (plot or ".svg").rpartition(".")[2]
    if plot is not None:
        choice("form of a plot", form, ("svg", "png", "pdf"))
        may_write(plot, "--plot")
    setting = setting_of(context, batch, dtype, cache_dtype, cache, memory, source, image)
    usage = Usage(model, setting)
    table = usage.table()
    if plot is not None:
        from archscope.report.language_plot import picture

        put(picture(usage, form), plot)
    shown.print(table)
    if any(row["agrees"] is False for row in table.rows):
        raise typer.Exit(1)


def setting_of(
    context: str | None,
    batch: str,
    dtype: str,
    cache_dtype: str | None,
    cache: str,
    memory: str | None,
    source: str | None = None,
    image: str | None = None,
) -> "Setting":
    """The options as a `Setting`. Raises SpecError for a wrong one."""
    from archscope.core.units import amount
    from archscope.report.language import Setting, width_of

    tokens, texts = whole_number("--context", context), whole_number("--batch", batch)
    assert texts is not None
    if cache_dtype is None:
        cache_dtype = dtype if width_of(dtype) >= 1 else "fp8"
    try:
        room = None if memory is None else int(amount(memory, in_bytes=True))
    except ValueError as error:
        raise SpecError(f"--memory: {error}") from error
    paged = choice("kind of cache", cache, ("transformers", "paged")) == "paged"
    rows, side = whole_number("--source", source), whole_number("--image", image, 0)
    return Setting(tokens or 8192, texts, dtype, cache_dtype, paged, room, rows, side, shorten=tokens is None)
