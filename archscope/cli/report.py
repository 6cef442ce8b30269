"""`report`, `plot` and `draw`: pages and pictures."""

import os
import sys
from typing import Annotated, Any

import typer

from archscope.cli.base import (
    Batch,
    Bench,
    ExplainCache,
    Fresh,
    Input,
    Method,
    Model,
    OneCommand,
    Output,
    Train,
    Values,
    choice,
    may_write,
    progress,
    put,
    whole_number,
    whole_numbers,
)
from archscope.core.errors import SpecError

app = typer.Typer()

PICTURES = ("svg", "png", "pdf")
DRAWN = (*PICTURES, "mermaid", "dot")
STYLES = ("auto", "solids", "graph")
DIRECTIONS = ("down", "right")

Width = Annotated[
    str | None,
    typer.Option(
        "--width",
        help="Of the picture, with readable text: 3.25in (a column), 8.5cm, 1280px (a slide).",
        metavar="LENGTH",
    ),
]


def _ending(output: str | None, known: tuple[str, ...]) -> str | None:
    """The format from the name of the file, or None."""
    ending = output.rpartition(".")[2].lower() if output and "." in output else ""
    ending = {"mmd": "mermaid", "gv": "dot"}.get(ending, ending)
    return ending if ending in known else None


@app.command(cls=OneCommand)
def draw(
    model: Model,
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    values: Values = None,
    method: Method = None,
    depth: Annotated[
        str | None, typer.Option("--depth", "-d", help="Show modules below this depth as one box.", metavar="N")
    ] = None,
    level: Annotated[
        str | None, typer.Option("--level", help="How much is shown: stage, block or layer.", metavar="LEVEL")
    ] = None,
    direction: Annotated[
        str | None, typer.Option("--direction", help="Where the data goes: down or right.", metavar="DIRECTION")
    ] = None,
    width: Width = None,
    style: Annotated[str, typer.Option("--style", help=f"{', '.join(STYLES)}.", metavar="STYLE")] = "auto",
    format: Annotated[
        str | None, typer.Option("--format", "-f", help=f"{', '.join(DRAWN)}; default: svg.", metavar="FORMAT")
    ] = None,
    output: Output = None,
    fresh: Fresh = False,
    explain_cache: ExplainCache = False,
) -> None:
    """One model as a picture: feature maps as solids for a chain of layers, else a graph.

    With --width, direction and level are chosen so that all text has 6 points or more.

    \b
    archscope draw alexnet --output alexnet.svg
    archscope draw resnet50 --output resnet50.pdf --width 3.25in      a column of a paper
    archscope draw resnet50 --output resnet50.png --width 1280px      a slide
    archscope draw torchvision:swin_t --level stage --direction right --output swin.pdf
    archscope draw resnet50 --format mermaid           for a ```mermaid block on GitHub
    archscope draw densenet121 --output dense.dot      for Graphviz
    archscope draw lenet --style graph --output lenet.svg
    """
    from archscope.report.draw import DRAWINGS
    from archscope.report.fitting import RequestedSize, drawn, graph_for, length
    from archscope.report.levels import LEVELS
    from archscope.report.solids import is_figure
    from archscope.sources.records import record_of

    form = choice("format", format or _ending(output, DRAWN) or "svg", DRAWN)
    ending = os.path.splitext(output or "")[1]
    if format is None and ending and _ending(output, DRAWN) is None:
        raise SpecError(
            f"--output ends in .svg, .png, .pdf, .mmd or .dot, not {output!r}; --format svg draws it under any name"
        )
    choice("style", style, STYLES)
    if style != "auto" and form not in PICTURES:
        raise SpecError(f"--style is of svg, png and pdf; {form} is always a graph")
    if width is not None and form not in PICTURES:
        raise SpecError(f"--width is of svg, png and pdf; {form} has no size")
    if level is not None and depth is not None:
        raise SpecError("--level and --depth both say how much is shown: write one of them")
    if style == "solids" and direction is not None:
        raise SpecError("--direction is of graphs; solids stand in rows")
    if output is not None:
        may_write(output)
    elif form in ("png", "pdf") or (form == "svg" and format is None and sys.stdout.isatty()):
        raise SpecError(f"a picture needs a file: --output {model.rpartition(':')[2]}.{form}")
    wish = RequestedSize(
        None if level is None else choice("level", level, LEVELS),
        whole_number("--depth", depth),
        None if direction is None else choice("direction", direction, DIRECTIONS) == "right",
        style,
    )
    wide = None if width is None else length("--width", width)
    record = record_of(model, input, whole_number("--batch", batch), train)
    if form not in PICTURES:
        put(DRAWINGS[form](graph_for(record, wish), bool(wish.right)), output)
        return
    if style == "solids" and not is_figure(graph_for(record, wish)):
        raise SpecError(f"{record.model} is not a chain of feature maps; use --style graph")
    put(drawn(record, wish, wide).bytes_of(form), output)


@app.command(cls=OneCommand)
def plot(
    kind: Annotated[
        str,
        typer.Argument(help="models, layers, share, field, scaling; of results: curves, speed.", metavar="KIND"),
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="all, or names and wildcards separated by commas; for curves and speed: result files.",
            metavar="MODEL...",
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="A file that ends in .svg, .png or .pdf.", metavar="FILE")
    ] = None,
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    values: Values = None,
    method: Method = None,
    sides: Annotated[
        str | None,
        typer.Option("--sides", help="For scaling: sides of the input, separated by commas.", metavar="SIDES"),
    ] = None,
    width: Width = None,
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", help="svg, png, pdf; by default from the name of --output.", metavar="FORMAT"),
    ] = None,
    fresh: Fresh = False,
    explain_cache: ExplainCache = False,
) -> None:
    """Models, or results of archscope bench, as a plot.

    \b
    models    parameters against MACs, areas are activation memory
    layers    parameters, MACs and activations, layer by layer
    share     where parameters and MACs sit: convolutions, fully connected layers, the rest
    field     receptive field against depth
    scaling   MACs against the side of the input; of one model with the key width, at four widths
    curves    of runs: loss and accuracies over the epochs, seeds as mean and range
    speed     of runs: test accuracy against examples a second, areas are parameters

    \b
    archscope plot models all --output models.svg
    archscope plot layers alexnet resnet18 --output layers.pdf --width 3.25in
    archscope plot scaling mobilenet-v1 --output scaling.svg
    archscope plot curves runs.jsonl --output curves.svg
    archscope plot speed 'runs.jsonl@recipe=d2l' --output speed.svg
    """
    from archscope.report import runs  # enters its plots
    from archscope.report.fitting import length
    from archscope.report.plots import PLOTS, numbers_of, picture

    if not models:
        of = "runs.jsonl" if kind in PLOTS and PLOTS[kind].of == "runs" else "alexnet" if kind in PLOTS else kind
        named = kind if kind in PLOTS else "layers"
        raise SpecError(f"plot takes a kind and what to draw: archscope plot {named} {of} --output {named}.svg")
    choice("plot", kind, tuple(PLOTS))
    if not output:
        raise SpecError(f"a plot needs a file: --output {kind}.svg")
    form = _ending(output, PICTURES) if format is None else choice("format", format, PICTURES)
    if form is None:
        raise SpecError(f"--output ends in .svg, .png or .pdf, not {output!r}; --format png draws it under any name")
    may_write(output)
    wide = None if width is None else length("--width", width)
    size = {} if wide is None else {"inches": wide.points / 72, "dpi": wide.dpi}
    if PLOTS[kind].of == "runs":
        given = {"--input": input, "--batch": batch, "--train": train, "--sides": sides}
        if wrong := [option for option, value in given.items() if value]:
            raise SpecError(f"{wrong[0]} is for plots of models; {kind} shows results of bench")
        shown: Any = runs.read(kind, models)
    else:
        if files := [name for name in models if ".jsonl" in name]:
            raise SpecError(
                f"{kind} is a plot of models, and {files[0]} holds runs: "
                f"archscope plot curves {files[0]} -o curves.svg, or plot speed, draws them"
            )
        shown = _traces(kind, models, input, batch, train, sides)
    put(picture(kind, numbers_of(kind, shown), form, **size), output)


def _traces(kind: str, models: list[str], input: Any, batch: str | None, train: bool, sides: str | None) -> list[Any]:
    """The records that a plot of models needs."""
    from archscope.report.grid import grid_of, of_each
    from archscope.report.plots import may_plot
    from archscope.sources.spec import expand

    specs = expand(models)
    may_plot(kind, len(specs))
    if sides is not None and kind != "scaling":
        raise SpecError("--sides is for the plot scaling; --input sets the input of the others")
    if kind != "scaling":
        return of_each(specs, input, whole_number("--batch", batch), train)
    if input:
        raise SpecError("the plot scaling varies the side of the input: use --sides 128,160,192,224, not --input")
    varied = None if sides is None else whole_numbers("--sides", sides)
    return grid_of(specs, varied, whole_number("--batch", batch), train)


@app.command("report", cls=OneCommand)
def write_report(
    models: Annotated[
        list[str] | None,
        typer.Option("--models", "-m", help="all, or names and wildcards separated by commas.", metavar="MODELS"),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", help="Folder for Markdown pages; default: reports.", metavar="FOLDER")
    ] = None,
    html: Annotated[
        str | None,
        typer.Option("--html", help="Write one interactive page instead (with --out: as well).", metavar="FILE"),
    ] = None,
    bench: Bench = None,
    input: Input = None,
    batch: Batch = None,
    values: Values = None,
    method: Method = None,
    fresh: Fresh = False,
    explain_cache: ExplainCache = False,
) -> None:
    """Pages for GitHub: an overview with plots, and for each model its totals, drawing and derived layers.

    \b
    archscope report                                   reports/README.md and a page for each network
    archscope report --models 'vgg*,torchvision:resnet50' --out /tmp/vgg
    archscope report --html page.html                  one interactive page: sort, filter, compare
    archscope report --html page.html --bench runs.jsonl       with results of archscope bench
    """
    from archscope.bench.results import read
    from archscope.report.html import page_of
    from archscope.report.pages import ReportModel
    from archscope.report.write import markdown
    from archscope.sources.records import record_of
    from archscope.sources.spec import expand

    if html is not None:
        may_write(html, "--html")
    if out == "":
        raise SpecError("--out names no folder")
    specs = expand(models or ["all"])
    examples = whole_number("--batch", batch)
    runs = read(bench) if bench else []
    with progress(specs) as counted:
        subjects = [ReportModel(spec, record_of(spec, input, examples), input, examples) for spec in counted]
    if html is not None:
        with progress(subjects) as counted:
            text = page_of(counted, runs=runs)
        put(text, html)
        print(f"{len(subjects)} model{'' if len(subjects) == 1 else 's'} in {html}")
    if out is not None or html is None:
        print(markdown(subjects, out or "reports", runs))
