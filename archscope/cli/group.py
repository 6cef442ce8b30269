"""The group of commands: errors as one line and an exit code, and what the terminal can show. Imported by `--help`."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from archscope.core.errors import ArchscopeError, ShapeError

LONGEST_WORD, LONGEST = 300, 1200  # characters of what is printed on stderr


class _Text:
    """Returns the text as it was typed, because archscope reads it itself. Newer versions of typer load pydantic for
    this, which takes longer than `archscope list`."""

    def coerce(self, value: Any, **context: Any) -> Any:
        return value


def _as_text(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "_runtime_param", ...) is None:
            param._runtime_param = _Text()
    return params


def _encodable(text: str) -> str:
    """The text with the characters that the output can encode: typer writes its help as UTF-8 everywhere."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "archscope").decode(encoding)


_Base = TyperCommand if TYPE_CHECKING else object


class _TextCommand(_Base):
    """What one command and the group share: values are text, help is encodable, an error knows its command."""

    def get_help(self, ctx: Any) -> str:
        from archscope.cli.help_text import formatter

        ctx.formatter_class = formatter(ctx.formatter_class)
        return _encodable(super().get_help(ctx))

    def get_params(self, ctx: Any) -> list[Any]:
        return _as_text(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # the parser leaves the command out where an option has no value
            failed: Any = error
            if getattr(failed, "ctx", ctx) is None:
                failed.ctx = ctx
            raise


class OneCommand(_TextCommand, TyperCommand):
    """A command whose values are all text."""


class Commands(_TextCommand, TyperGroup):
    """The commands in their given order; every error is one line on stderr and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of the first word; `archscope alexnet` and words of other tools are read as what they mean."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            from archscope.cli.first_words import command_for, note

            if (words := command_for(args[0], self.commands)) is not None:
                note(args[0], words, args[1:])
                args = [*words, *args[1:]]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Newer versions of typer exit silently after Ctrl-C, so the message is written here."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(_refuse("interrupted", 130)) from None

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        try:
            code = super().main(*args, standalone_mode=False, **kwargs)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, so that an error is reported
        except ArchscopeError as error:
            _explain(error)
            code = _refuse(str(error), error.exit_code)
        except BrokenPipeError:
            code = _closed()
        except SystemExit:
            if type(sys.stdout).__name__ != "PacifyFlushWrapper":  # click exits silently after a closed pipe
                raise
            code = _closed()
        except OSError as error:
            _drop_the_rest()
            code = _refuse(f"cannot write {error.filename or 'the output'}: {error.strerror or error}", 2)
        except KeyboardInterrupt:
            code = _refuse("interrupted", 130)
        except Exception as error:
            code = _refuse(*_message_of(error, kwargs.get("args", args[0] if args else None) or sys.argv[1:]))
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


def _message_of(error: Any, words: Sequence[str] = ()) -> tuple[str, int]:
    """A usage error of typer (or of the click inside it), an interruption, or a bug: one sentence and the exit code.

    words: of the command.
    """
    if type(error).__name__ == "Abort":
        return "interrupted", 130
    if hasattr(error, "format_message"):
        from archscope.cli.first_words import advice

        text = " ".join(error.format_message().split())
        if help := advice(error):
            text = f"{text.partition(' (Possible')[0].rstrip('.')}: {help}"
        command = error.ctx.command_path if getattr(error, "ctx", None) else "archscope"
        text = f"{text} See" if text.endswith("?") else f"{text.rstrip('.')}; see"
        return f"{text} `{command} --help`", 2
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing in ("torch", "torchvision"):
        return f"this needs a run of the model, and {missing} is not installed: pip install torch torchvision", 2
    if os.environ.get("ARCHSCOPE_DEBUG"):
        raise error
    if isinstance(error, MemoryError):
        return "there is not enough memory for this", 1
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    again = shlex.join(["archscope", *words])[:500]
    return f"this is a bug: {text[:200]}; please report it with what `ARCHSCOPE_DEBUG=1 {again}` prints", 1


def _explain(error: Any) -> None:
    """Print the layers up to a shape error and the fixes, unless the command has printed them already."""
    if isinstance(error, ShapeError) and error.failure is not None and not error.shown and sys.stderr is not None:
        text = error.explain(terminal_width(), False)
        if str(error).startswith(text.partition("\n")[0]):
            return  # no layer leads to it: the message says all of it
        try:
            print(text, file=sys.stderr)
        except OSError:
            pass


def _refuse(message: str, code: int) -> int:
    """One line on stderr."""
    if sys.stderr is not None:
        try:
            from archscope.core.formats.base import one_line

            print(f"archscope: {_short(one_line(' '.join(message.split())))}", file=sys.stderr, flush=True)
        except OSError:
            pass  # stderr is closed, too
    return code


def _short(message: str) -> str:
    """The sentence without the inside of words, such as names in files, that no terminal has room for."""
    words = (word if len(word) <= LONGEST_WORD else f"{word[:60]}…{word[-60:]}" for word in message.split(" "))
    whole = " ".join(words)
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST // 2]} … {whole[-LONGEST // 2 :]}"


def _drop_the_rest() -> None:
    """Drop the buffered output, or Python reports the error once more when it exits."""
    if sys.stdout is sys.__stdout__:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _closed() -> int:
    _drop_the_rest()
    return _refuse("the output was closed before all was written", 2)


def terminal_width() -> int | None:
    """The width of the terminal, None if the output is not one."""
    if os.environ.get("COLUMNS", "").isdigit() or (sys.stdout is not None and sys.stdout.isatty()):
        return shutil.get_terminal_size().columns
    return None


def use_color() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") != "0":
        return True
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
