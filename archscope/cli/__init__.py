"""The command line: parse, call, print, exit code; nothing else. A file here holds the commands of one task.

Exit codes: 0 fine, 1 a model failed or a check did not hold, 2 what was asked for cannot be understood or written.
"""

import codecs
import gc
import io
import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Annotated, Any

import typer

from archscope.cli.base import Commands, spelled
from archscope.core.version import other_archscope

# by task: name -> the file that holds it, imported when it is called, and what `--help` says of it
COMMANDS = {
    "Look": {
        "list": ("models", "The models of the zoo or of another source."),
        "trace": ("models", "One model, layer by layer."),
        "table": ("models", "Models side by side."),
        "sizes": ("sizes", "The input sizes that work, and those that lose nothing."),
    },
    "Vary": {
        "sweep": ("sweep", "How cost grows: a model at every point of a grid."),
        "search": ("sweep", "The best of a space of architectures."),
    },
    "Check the numbers": {
        "verify": ("verification", "Whether the derivations of a model agree."),
        "reconcile": ("verification", "Why other tools have other numbers, to the last unit."),
        "verify-table": ("verify_table", "Whether the figures of a printed table hold."),
    },
    "Learn": {
        "explain": ("learn", "The working of a layer, as a textbook prints it."),
        "quiz": ("learn", "A worksheet with shapes and parameter counts left blank."),
        "grade": ("learn", "Mark worksheets: which rule each wrong cell missed."),
    },
    "Guard": {
        "lock": ("gate", "Write down what models are, for `check`."),
        "check": ("gate", "Compare models with what was written down, and with budgets."),
        "diff": ("gate", "What differs between models, locks or revisions of a lock."),
    },
    "Train": {
        "bench": ("bench", "Train networks shortly, side by side."),
    },
    "Show": {
        "report": ("report", "Pages, plots and one interactive page."),
        "plot": ("report", "Models, or runs of bench, as a plot."),
        "draw": ("report", "One model as a picture."),
    },
}
FILES = {name: file for commands in COMMANDS.values() for name, (file, _) in commands.items()}


class _Late(MutableMapping[str, Any]):
    """The commands by name; one that is looked up is imported."""

    def __init__(self) -> None:
        self.more: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name in self.more:
            return self.more[name]
        commands: typer.Typer = import_module(f"archscope.cli.{FILES[name]}").app
        commands.rich_markup_mode = None  # typer's boxes and its markdown cost more than all the rest
        return typer.main.get_group(commands).commands[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self.more[name] = command

    def __delitem__(self, name: str) -> None:
        del self.more[name]

    def __iter__(self) -> Iterator[str]:
        yield from FILES
        yield from self.more

    def __len__(self) -> int:
        return len(FILES) + len(self.more)


class AllCommands(Commands):
    """The commands of every file."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.commands = _Late()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """By task, from the table above: nothing is imported for it."""
        wide = max(map(len, FILES))
        for task, commands in COMMANDS.items():
            with formatter.section(task):
                formatter.write_dl([(f"{name:<{wide}}", text) for name, (_, text) in commands.items()])


app = typer.Typer(cls=AllCommands, rich_markup_mode=None, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        from archscope.core.version import __version__

        print(f"archscope {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
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
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


def main() -> None:
    """The entry point of the `archscope` command."""
    codecs.register_error("archscope", spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="archscope")
    if sys.stderr is not None and (warning := other_archscope()):
        print(f"archscope: {warning}", file=sys.stderr)
    try:
        app()
    finally:
        gc.freeze()  # on the way out nothing is looked through for garbage: of PyTorch alone that takes a second
