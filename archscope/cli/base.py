"""Shared by the commands: options, how their values are read, and how a result is printed."""

import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from archscope.cli.group import OneCommand as OneCommand
from archscope.cli.group import terminal_width as terminal_width
from archscope.cli.group import use_color as use_color
from archscope.core import limits
from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.files import content
from archscope.core.formats import RENDERERS

FORMATS = tuple(RENDERERS)
# other words, and endings of files; the others are called like their format
ENDINGS = {"tex": "latex", "htm": "html", "markdown": "md", **dict.fromkeys(("text", "txt", "table"), "terminal")}
NO_TABLE = ("xlsx", "xls", "ods", "docx", "yaml", "yml", "svg", "png", "pdf", "jpg", "jpeg")


def names(incomplete: str) -> list[str]:
    from archscope.sources.source import prefixes
    from archscope.zoo.catalogue import entries

    others = (f"{prefix}:" for prefix in prefixes() if prefix != "zoo")
    return [name for name in (*entries(), *others) if name.startswith(incomplete)]


def format_option(known: Collection[str]) -> Any:
    """The option --format of a command that writes these formats."""
    return typer.Option(
        "--format",
        "-f",
        help=f"{', '.join(known)}; by default from the name of --output.",
        metavar="FORMAT",
        autocompletion=lambda incomplete: [name for name in known if name.startswith(incomplete)],
    )


Model = Annotated[
    str,
    typer.Argument(
        help="A network, torchvision:NAME, timm:NAME, transformers:CLASS, file.py:NAME, package.module:NAME or a saved "
        "trace; @key=value sets an argument of its builder.",
        autocompletion=names,
        metavar="MODEL",
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "--inputs",
        "-i",
        help="227, 3x227x227, 8,3,227,227, 1x128:int64, NAME=SHAPE, NAME=[5,3]; once per input. Or batch.py:function.",
        metavar="SHAPE",
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source", help="Tokens that a language model's encoder reads; else as many as the text.", metavar="N"
    ),
]
Image = Annotated[
    str | None,
    typer.Option("--image", help="Side of the image in a prompt; 0: text alone; else as configured.", metavar="PIXELS"),
]
Batch = Annotated[str | None, typer.Option("--batch", "-b", help="Examples in the batch.", metavar="N")]
Train = Annotated[bool, typer.Option("--train/--eval", help="Training or evaluation mode.")]
Columns = Annotated[
    str | None, typer.Option("--columns", "-c", help="Keys of the columns, separated by commas.", metavar="KEYS")
]
As = Annotated[str, format_option(FORMATS)]
Bench = Annotated[
    list[str] | None,
    typer.Option(
        "--bench",
        help="Results of archscope bench, or FILE@recipe=d2l for some of them; once per file.",
        metavar="FILE",
    ),
]
Output = Annotated[
    str | None, typer.Option("--output", "-o", help="Write to a file; on an error it is not changed.", metavar="FILE")
]

TrainStep = Annotated[
    bool, typer.Option("--train-step", help="Run a training step too: its MACs, FLOPs and peak memory.")
]
Optimizer = Annotated[
    str | None,
    typer.Option("--optimizer", help="Of the training step: momentum, or one of torch.optim (sgd).", metavar="NAME"),
]
Precision = Annotated[
    str | None,
    typer.Option("--precision", help="Of the training step: fp32 (as built), bf16, bf16-mixed, ….", metavar="NAME"),
]


def step_conditions(wanted: bool, optimizer: str | None, precision: str | None) -> dict[str, Any] | None:
    """The conditions of a training step, None where none is wanted. Raises SpecError for one that does not exist."""
    given = {key: word for key, word in (("optimizer", optimizer), ("precision", precision)) if word is not None}
    if given and not wanted:
        raise SpecError("--optimizer and --precision are of a training step: add --train-step")
    if not wanted:
        return None
    from archscope.sources.records import check_step

    check_step(given)
    return given


def _setting(variable: str) -> Any:
    """The callback of an option that sets a variable for this command and the processes that it starts."""

    def entered(context: typer.Context, wanted: bool | str | None) -> bool | str | None:
        if wanted:
            before = os.environ.get(variable, "")
            os.environ[variable] = "1" if wanted is True else str(wanted)
            context.call_on_close(lambda: os.environ.update({variable: before}))
        return wanted

    return entered


Values = Annotated[
    str | None,
    typer.Option(
        "--values",
        callback=_setting("ARCHSCOPE_VALUES"),
        help="Run on real values: auto (where the forward needs them), never or always.",
        metavar="MODE",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        callback=_setting("ARCHSCOPE_METHOD"),
        help="Run this method in place of forward, such as forward_features.",
        metavar="NAME",
    ),
]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", callback=_setting("ARCHSCOPE_FRESH"), help="Run the model even if its record is stored."),
]
ExplainCache = Annotated[
    bool,
    typer.Option(
        "--explain-cache",
        callback=_setting("ARCHSCOPE_EXPLAIN_CACHE"),
        help="Say why a stored record is used or not.",
    ),
]


# ------------------------------------------------------------------------------------------- values of options


def whole_number(option: str, text: str | None, least: int = 1) -> int | None:
    """Read a whole number. Not left to typer, whose message differs between versions."""
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise SpecError(f"{option} is a whole number from {least} on, not {text!r}")
    if number > limits.INPUT:
        raise SpecError(f"{option} {text[:40]} fits no machine: {limits.INPUT:,} at most")
    return number


def whole_numbers(option: str, text: str) -> list[int]:
    """Read whole numbers from 1 on, separated by commas."""
    return [number for part in text.split(",") if (number := whole_number(option, part.strip()))]


def choice(what: str, word: str, known: Collection[str]) -> str:
    """The word itself. Raises SpecError, naming the nearest of the known words, if it is none of them."""
    from archscope.core.table import unknown

    if word not in known:
        raise SpecError(unknown(what, word, known))
    return word


def format_of(format: str, output: str | None, known: Collection[str] = FORMATS) -> str:
    """The format that was asked for, else that of the file's name, `table.csv`. Raises SpecError if it is unknown."""
    format = format if format in known else ENDINGS.get(format.lower(), format)
    choice("format", format, known)
    ending = os.path.splitext(output or "")[1][1:].lower()
    named = ENDINGS.get(ending, ending)
    if ending in NO_TABLE and ending not in known:
        raise SpecError(f"--output {output}: no .{ending} is written here; formats are {', '.join(known)}")
    return named if format == "terminal" and named in known else format


class OutputOptions:
    """How and where the result is printed. Wrong options are errors before any work is done.

    known: the formats of this command.
    """

    def __init__(self, columns: str | None, format: str, output: str | None, known: Collection[str] = FORMATS) -> None:
        self.format, self.output = format_of(format, output, known), output
        self.columns = None if columns is None else re.findall(r"[^,\s]+", columns)
        if self.columns == []:
            raise SpecError(f"--columns names no column: {columns!r}")
        if output is not None:
            may_write(output)

    @property
    def for_machines(self) -> bool:
        """Whether the format carries raw values and nothing else."""
        return self.format in ("json", "csv")

    @property
    def options(self) -> dict[str, Any]:
        """Width and colour for the terminal; none for other formats and for files."""
        on_terminal = self.format == "terminal" and self.output is None
        return {"width": terminal_width(), "color": use_color()} if on_terminal else {}

    def check(self, columns: tuple[Any, ...], sort: str | None = None) -> None:
        """Raises SpecError for an unknown column of --columns or --sort."""
        from archscope.core.table import Table

        empty = Table("", columns, ())
        with _as_spec_error():
            if self.columns is not None:
                empty.select(self.columns)
            if sort in ("", "-"):
                raise SpecError(f"--sort names no column: {sort!r}")
            if sort is not None:
                empty.sort(sort.removeprefix("-"))

    @contextmanager
    def chain(self, depth: int | None = None) -> Iterator[None]:
        """If a run stops, print the layers up to there before the error."""
        try:
            yield
        except ArchscopeError as error:
            before = error.failure
            if before is not None and before.trace.ops and self.format == "terminal" and self.output is None:
                from archscope.analysis.by_layer import layer_table

                self.print(layer_table(before.trace, depth, stopped=before.path))
                error.shown = True
            error.shown = error.shown or self.format != "terminal"  # a script reads one line
            raise

    def print(self, shown: Any, json: Callable[[Any], str] | None = None) -> None:
        """Write a table to stdout or to the file. json: writes the table as JSON where that has more than its rows.

        Raises SpecError if that fails.
        """
        from archscope.core.formats import text_of

        if self.columns is not None:
            with _as_spec_error():
                shown = shown.select(self.columns)
        if json is None or self.format != "json":
            put(text_of(shown, self.format, **self.options), self.output)
        else:
            put(json(shown), self.output)

    def print_all(self, tables: Iterable[Any]) -> None:
        """Print several tables, with a blank line between them."""
        for number, table in enumerate(tables):
            if number:
                print()
            self.print(table)

    def write(self, writer: Callable[..., str], *shown: Any) -> None:
        """Print what a writer, `writer(*shown, width=…, color=…)`, makes."""
        from archscope.core.formats.base import inert

        put(inert(writer(*shown, **self.options)), self.output)


def put(text: str | bytes, output: str | None = None) -> None:
    """Write text to stdout, or text or a picture to a file. Raises SpecError if that fails."""
    from archscope.core.files import save

    try:
        if output is not None:
            save(text, output)
        elif sys.stdout is None:
            raise SpecError("there is no standard output to write to")
        else:
            sys.stdout.write(text if isinstance(text, str) else text.decode())
            sys.stdout.flush()
    except OSError as error:
        if output is None:
            raise
        raise SpecError(f"cannot write {output}: {error.strerror or error}") from error


@contextmanager
def _as_spec_error() -> Iterator[None]:
    """A ValueError of a table is about an option."""
    try:
        yield
    except ValueError as error:
        raise SpecError(str(error)) from error


def may_write(path: str, option: str = "--output") -> None:
    """Raises SpecError for a file that certainly cannot be written."""
    full = os.path.expanduser(path)
    folder = os.path.dirname(os.path.realpath(full))
    if not path:
        raise SpecError(f"{option} names no file")
    if os.path.isdir(full):
        raise SpecError(f"cannot write {path}: it is a folder")
    if not os.path.isdir(folder):
        raise SpecError(f"cannot write {path}: there is no folder {folder}")


def enter_costs() -> None:
    """Enter the costs of operators that the config of this folder states. Only a config that may state one is read."""
    folder = Path.cwd()
    for place in (folder, *folder.parents):
        for file in (place / "archscope.toml", place / "pyproject.toml"):
            try:
                states = file.is_file() and re.search(rb"\bcost\b", content(file, limits.SETTINGS))
            except OSError:
                continue  # a command that needs the file says why it cannot be read
            if states:
                from archscope.gate.budget import find

                find()
                return
        if (place / ".git").exists():
            return


# ------------------------------------------------------------------------------------------------- the terminal


@contextmanager
def progress(items: list[Any]) -> Iterator[Iterable[Any]]:
    """A progress bar on stderr, on a terminal and for at least 8 items."""
    if len(items) < 8 or sys.stderr is None or not sys.stderr.isatty():
        yield items
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield bar.track(items, description="tracing")
