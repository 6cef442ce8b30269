"""What the commands share: errors as one line and an exit code, options, where and how a table is printed."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from archscope.core.errors import ArchscopeError, ShapeError, SpecError

FORMATS = ("terminal", "md", "csv", "latex", "json", "html")
ENDINGS = {"tex": "latex", "htm": "html"}  # of files; the others are called like their format


class _Text:
    """Hands on what was typed; archscope reads it itself. For the same, newer typers load all of pydantic, which
    takes longer than `archscope list`."""

    def coerce(self, value: Any, **context: Any) -> Any:
        return value


def _as_text(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "_runtime_param", ...) is None:
            param._runtime_param = _Text()
    return params


class OneCommand(TyperCommand):
    """A command all of whose values are text."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _as_text(super().get_params(ctx))


class Commands(TyperGroup):
    """The commands in the order they are written, every error one line on stderr and an exit code."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _as_text(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Newer typers leave after Ctrl-C without a word: it is said here."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(_refuse("interrupted", 130)) from None

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        try:
            code = super().main(*args, standalone_mode=False, **kwargs)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where what goes wrong can be told
        except ArchscopeError as error:
            _explain(error)
            code = _refuse(str(error), error.exit_code)
        except BrokenPipeError:
            code = _closed()
        except SystemExit:
            if type(sys.stdout).__name__ != "PacifyFlushWrapper":  # how click leaves, without a word, a closed pipe
                raise
            code = _closed()
        except OSError as error:
            _drop_the_rest()
            code = _refuse(f"cannot write the output: {error.strerror or error}", 2)
        except KeyboardInterrupt:
            code = _refuse("interrupted", 130)
        except Exception as error:
            code = _refuse(*_told(error))
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


def _told(error: Any) -> tuple[str, int]:
    """A usage error, in whatever package typer keeps it, an interruption, or a bug: one sentence and the exit code."""
    if type(error).__name__ == "Abort":
        return "interrupted", 130
    if hasattr(error, "format_message"):
        text = " ".join(error.format_message().split())
        command = error.ctx.command_path if getattr(error, "ctx", None) else "archscope"
        told = f"{text} See" if text.endswith("?") else f"{text.rstrip('.')}; see"
        return f"{told} `{command} --help`", 2
    if os.environ.get("ARCHSCOPE_DEBUG"):
        raise error
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"this is a bug: {text[:200]} (ARCHSCOPE_DEBUG=1 shows where)", 1


def _explain(error: Any) -> None:
    """The layers up to a failed shape, and what would mend it, where a command has not shown them already."""
    if isinstance(error, ShapeError) and error.failure is not None and not error.shown and sys.stderr is not None:
        text = error.explain(terminal_width(), False)
        if all(line.strip() in str(error) for line in text.splitlines()):
            return  # nothing that the line behind it does not say
        try:
            print(text, file=sys.stderr)
        except OSError:
            pass


def _refuse(message: str, code: int) -> int:
    """One line on stderr."""
    if sys.stderr is not None:
        try:
            print(f"archscope: {' '.join(message.split())}", file=sys.stderr, flush=True)
        except OSError:
            pass  # nobody listens there either
    return code


def _drop_the_rest() -> None:
    """What Python still holds of the output goes nowhere, or it complains once more at its end."""
    if sys.stdout is sys.__stdout__:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _closed() -> int:
    _drop_the_rest()
    return _refuse("the output was closed before all was written", 2)


def names(incomplete: str) -> list[str]:
    from archscope.sources.source import prefixes
    from archscope.zoo.catalogue import entries

    others = (f"{prefix}:" for prefix in prefixes() if prefix != "zoo")
    return [name for name in (*entries(), *others) if name.startswith(incomplete)]


def _formats(incomplete: str) -> list[str]:
    return [name for name in FORMATS if name.startswith(incomplete)]


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
        "--input", "-i", help="227, 3x227x227, 8x3x227x227, 1x128:int64, NAME=SHAPE; once an input.", metavar="SHAPE"
    ),
]
Batch = Annotated[str | None, typer.Option("--batch", "-b", help="Examples in the batch.", metavar="N")]
Train = Annotated[bool, typer.Option("--train/--eval", help="Training or evaluation mode.")]
Columns = Annotated[
    str | None, typer.Option("--columns", "-c", help="Keys of the columns, separated by commas.", metavar="KEYS")
]
As = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        help=f"{', '.join(FORMATS)}; by the name of --output when left out.",
        metavar="FORMAT",
        autocompletion=_formats,
    ),
]
Bench = Annotated[
    list[str] | None,
    typer.Option(
        "--bench", help="Results of archscope bench, or FILE@recipe=d2l for some of them; once a file.", metavar="FILE"
    ),
]
Output = Annotated[
    str | None, typer.Option("--output", "-o", help="Write to a file, whole or not at all.", metavar="FILE")
]


# ----------------------------------------------------------------------------------------------- what was typed


def whole_number(option: str, text: str | None) -> int | None:
    """A whole number from 1 on, of which typer's own message is different in every version."""
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise SpecError(f"{option} is a whole number from 1 on, not {text!r}")
    return number


def format_of(format: str, output: str | None, known: tuple[str, ...] = FORMATS) -> str:
    """The format of a file: the one asked for, or that of its name, `table.csv`, where none is."""
    ending = os.path.splitext(output or "")[1][1:].lower()
    named = ENDINGS.get(ending, ending)
    return named if format == "terminal" and named in known else format


class Shown:
    """How and where a table is printed: what is wrong with that is said before any work is done."""

    def __init__(self, columns: str | None, format: str, output: str | None) -> None:
        from archscope.core.table import unknown

        if format not in FORMATS:
            raise SpecError(unknown("format", format, FORMATS))
        self.format, self.output = format_of(format, output), output
        self.columns = None if columns is None else [key.strip() for key in columns.split(",") if key.strip()]
        if self.columns == []:
            raise SpecError(f"--columns names no column: {columns!r}")
        if output is not None:
            may_write(output)

    def check(self, columns: tuple[Any, ...], sort: str | None = None) -> None:
        """Raises SpecError for a key that no column has."""
        from archscope.core.table import Table

        empty = Table("", columns, ())
        with _asked():
            if self.columns is not None:
                empty.select(self.columns)
            if sort in ("", "-"):
                raise SpecError(f"--sort names no column: {sort!r}")
            if sort is not None:
                empty.sort(sort.removeprefix("-"))

    @contextmanager
    def chain(self, depth: int | None = None) -> Iterator[None]:
        """Where a run stops, the layers up to there are printed before the error is told."""
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

    def print(self, shown: Any) -> None:
        """Write a table to stdout or to the file. Raises SpecError where that cannot be done."""
        from archscope.core.formats import text_of

        if self.columns is not None:
            with _asked():
                shown = shown.select(self.columns)
        options: dict[str, Any] = {}
        if self.format == "terminal" and self.output is None:
            options = {"width": terminal_width(), "color": use_color()}
        put(text_of(shown, self.format, **options), self.output)


def put(text: str | bytes, output: str | None = None) -> None:
    """Write a text to stdout, or a text or a picture to a file. Raises SpecError where that cannot be done."""
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
def _asked() -> Iterator[None]:
    """A ValueError of the tables is about what the user typed."""
    try:
        yield
    except ValueError as error:
        raise SpecError(str(error)) from error


def may_write(path: str, option: str = "--output") -> None:
    """Raises SpecError for a file that cannot be written, as far as one can know before it is."""
    full = os.path.expanduser(path)
    folder = os.path.dirname(os.path.realpath(full))
    if not path:
        raise SpecError(f"{option} names no file")
    if os.path.isdir(full):
        raise SpecError(f"cannot write {path}: it is a folder")
    if not os.path.isdir(folder):
        raise SpecError(f"cannot write {path}: there is no folder {folder}")


# ------------------------------------------------------------------------------------------------- the terminal


@contextmanager
def progress(items: list[Any]) -> Iterator[Iterable[Any]]:
    """A progress bar on stderr, where someone is looking."""
    if len(items) < 8 or sys.stderr is None or not sys.stderr.isatty():
        yield items
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield bar.track(items, description="tracing")


def terminal_width() -> int | None:
    """Columns of the terminal, None where the output is not one."""
    if os.environ.get("COLUMNS", "").isdigit() or (sys.stdout is not None and sys.stdout.isatty()):
        return shutil.get_terminal_size().columns
    return None


def use_color() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") != "0":
        return True
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


# what a stream shows that has no such characters; [x] is how Gauss wrote ⌊x⌋
_PLAIN = {"×": "x", "·": "*", "−": "-", "–": "-", "─": "-", "⌊": "[", "⌋": "]", "⌈": "ceil(", "⌉": ")", "✓": "y",
          "✗": "n", "γ": "gamma", "β": "beta", "ᵀ": "'", "²": "^2", "→": "->", "≤": "<=", "≥": ">="}  # fmt: skip


def spelled(error: UnicodeError) -> tuple[str, int]:
    """For characters that an encoding does not have."""
    assert isinstance(error, UnicodeEncodeError)
    wrong = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in wrong), error.end
