"""The command line: parse, call, print, exit code; nothing else.

Exit codes: 0 fine, 1 a model failed or a check did not hold, 2 what was asked for cannot be understood or written.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from archscope import __version__
from archscope.errors import ArchscopeError, ShapeError, SpecError


class Format(str, Enum):
    """What a table is written as."""

    terminal = "terminal"
    md = "md"
    csv = "csv"
    latex = "latex"
    json = "json"
    html = "html"


class Commands(TyperGroup):
    """The commands in the order they are written, every error one line on stderr and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        try:
            code = super().main(*args, standalone_mode=False, **kwargs)
        except ArchscopeError as error:
            code = _refuse(str(error), error.exit_code)
        except KeyboardInterrupt:
            code = _refuse("interrupted", 130)
        except Exception as error:  # a usage error, in whatever package typer keeps it
            if not hasattr(error, "format_message"):
                if type(error).__name__ == "Abort":
                    code = _refuse("interrupted", 130)
                else:
                    raise
            else:
                code = _refuse(_one_sentence(error), 2)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


def _one_sentence(error: Any) -> str:
    text = " ".join(error.format_message().split())
    command = error.ctx.command_path if getattr(error, "ctx", None) else "archscope"
    return f"{text.rstrip('.')}; see `{command} --help`"


def _refuse(message: str, code: int) -> int:
    """One line on stderr."""
    print(f"archscope: {' '.join(message.split())}", file=sys.stderr)
    return code


# typer draws help in boxes with rich's markdown, which costs more than everything else this command does
app = typer.Typer(cls=Commands, rich_markup_mode=None, no_args_is_help=True, pretty_exceptions_enable=False)

Input = Annotated[
    str | None,
    typer.Option("--input", "-i", help="227, 3x227x227, 8x3x227x227 or 1x128:int64.", metavar="SHAPE"),
]
Batch = Annotated[int | None, typer.Option("--batch", "-b", help="Examples in the batch.", metavar="N")]
Train = Annotated[bool, typer.Option("--train/--eval", help="Training or evaluation mode.")]
Columns = Annotated[
    str | None, typer.Option("--columns", "-c", help="Keys of the columns, separated by commas.", metavar="KEYS")
]
As = Annotated[Format, typer.Option("--format", "-f", help="Format of the table.")]
Output = Annotated[str | None, typer.Option("--output", "-o", help="Write to a file, whole or not at all.", metavar="FILE")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"archscope {__version__}")
        raise typer.Exit


def _complete(incomplete: str) -> list[str]:
    from archscope.zoo.registry import entries

    return [name for name in entries() if name.startswith(incomplete)]


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What a network's shapes, parameters, MACs and memory are, and why.

    \b
    archscope list                          the networks it knows
    archscope trace alexnet                 layer by layer, with the working
    archscope table --models 'vgg*,nin'     side by side
    """


@app.command("list")
def list_models(
    pattern: Annotated[list[str] | None, typer.Argument(help="Names or wildcards; all when left out.")] = None,
    columns: Columns = None,
    format: As = Format.terminal,
    output: Output = None,
) -> None:
    """The networks of the zoo, with their counts and papers.

    \b
    archscope list
    archscope list 'resnet*' --format json
    """
    from archscope.catalogue import catalogue
    from archscope.spec import expand

    _print(catalogue(expand(pattern or ["all"])), columns, format, output)


@app.command()
def trace(
    model: Annotated[str, typer.Argument(help="A network, `NAME@key=value` to set its arguments.", autocompletion=_complete)],
    input: Input = None,
    batch: Batch = None,
    depth: Annotated[
        int | None, typer.Option("--depth", "-d", help="Show modules down to this depth.", min=1, metavar="N")
    ] = None,
    train: Train = False,
    columns: Columns = None,
    format: As = Format.terminal,
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

    spec = parse(model)
    built, inputs = load(spec, input, batch)

    import archscope.tracer as tracer
    from archscope.views import layer_table

    try:
        record = tracer.trace(built, inputs, name=spec.text, train=train)
    except ArchscopeError as error:
        if error.failure is not None and format in (Format.terminal, Format.md) and error.failure.trace.layers:
            _print(layer_table(error.failure.trace, depth), columns, format, output)
        if isinstance(error, ShapeError):
            raise ShapeError(_diagnosis(error, spec, built, inputs)) from error
        raise
    table = layer_table(record, depth)
    _print(table, columns, format, output)
    if any(row["agrees"] is False for row in table.rows):
        raise typer.Exit(1)


def _diagnosis(error: ShapeError, spec: Any, model: Any, inputs: tuple[Any, ...]) -> str:
    import archscope.tracer as tracer
    from archscope.doctor import diagnose, square

    shape = tuple(inputs[0].shape)
    text = diagnose(error, lambda side: tracer.trace(model, (square(shape, side),)) if len(shape) == 4 else None)
    if "input channels" in text and error.failure.trace.ops == () and len(shape) == 4:
        text += f"; `{spec.name}@in_channels={shape[1]}` is built for {shape[1]}"
    return text


@app.command()
def table(
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
    format: As = Format.terminal,
    output: Output = None,
) -> None:
    """Models side by side: parameters, MACs, memory, receptive field, and whether every derivation holds.

    \b
    archscope table --models all
    archscope table --models 'vgg*,resnet50' --sort -macs --format md
    archscope table --models all --format latex --output table.tex
    """
    from archscope.spec import expand

    specs = expand(models or ["all"])

    from archscope.compare import compare

    with _progress(specs) as counted:
        compared = compare(counted, input, batch, train)
    if sort:
        compared = _asked(lambda: compared.sort(sort.lstrip("-"), descending=sort.startswith("-")))
    _print(compared, columns, format, output)
    if any(row.get("error") or row.get("verified") is False for row in compared.rows):
        raise typer.Exit(1)


# ------------------------------------------------------------------------------------------------------- output


def _asked(make: Any) -> Any:
    """A ValueError of the tables is about what the user typed."""
    try:
        return make()
    except ValueError as error:
        raise SpecError(str(error)) from error


@contextmanager
def _progress(items: list[Any]) -> Iterator[Iterable[Any]]:
    """A progress bar on stderr, where someone is looking."""
    if len(items) < 8 or not sys.stderr.isatty():
        yield items
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield bar.track(items, description="tracing")


def _print(shown: Any, columns: str | None, format: Format, output: str | None) -> None:
    """Write a table to stdout or to a file. Raises SpecError for an unknown column and for a file that cannot be
    written."""
    from archscope.render import save, text_of

    if columns:
        keys = [key.strip() for key in columns.split(",") if key.strip()]
        shown = _asked(lambda: shown.select(keys))
    options: dict[str, Any] = {}
    if format is Format.terminal and output is None:
        options = {"width": _width(), "color": _color()}
    text = text_of(shown, format.value, **options)
    if output is not None:
        try:
            save(text, output)
        except OSError as error:
            raise SpecError(f"cannot write {output}: {error.strerror or error}") from error
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        raise SpecError("the output was closed before all was written") from None


def _width() -> int | None:
    """Columns of the terminal, None where the output is not one."""
    if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return None


def _color() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def main() -> None:
    """The entry point of the `archscope` command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without × still shows the numbers
    app()
