"""The command line: parse, call, print, exit code. Each file holds the commands of one task.

Exit codes: 0: success; 1: a model or a check failed; 2: a usage error, or the output cannot be written.
"""

import gc
import io
import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Annotated, Any

import typer

import archscope.core.ascii  # noqa: F401, registers the error handler "archscope"
from archscope.cli.group import Commands
from archscope.core.version import other_archscope

# by task: name -> its file, imported when the command is called, and its line in `--help`
COMMANDS = {
    "Look": {
        "list": ("models", "List the models of the zoo or of another source."),
        "trace": ("models", "Show one model layer by layer."),
        "table": ("models", "Compare models."),
        "llm": ("language", "Parameters, cache and work of a language model."),
        "sizes": ("sizes", "Find the input sizes that work, and those that lose no row."),
        "memory": ("memory", "Derive the bytes of a step of training."),
        "fit": ("fit", "Find the largest batch or input that fits a card."),
    },
    "Vary": {
        "sweep": ("sweep", "Run a model at every point of a grid."),
        "search": ("sweep", "Find the best of a space of architectures."),
    },
    "Check the numbers": {
        "verify": ("verification", "Check that independent derivations of a model agree."),
        "reconcile": ("verification", "Explain the numbers of other tools, to the last unit."),
        "verify-table": ("verify_table", "Check the numbers of a printed table."),
    },
    "Learn": {
        "explain": ("learn", "Derive a layer as a textbook does."),
        "quiz": ("learn", "Make a worksheet with blanks for shapes and parameters."),
        "grade": ("learn", "Mark worksheets, with the rule that each wrong cell breaks."),
    },
    "Guard": {
        "lock": ("gate", "Record models in archscope.lock, for `check`."),
        "check": ("gate", "Compare models with archscope.lock and with budgets."),
        "diff": ("gate", "Compare two models, locks or revisions of a lock."),
    },
    "Train": {
        "bench": ("bench", "Train networks briefly and compare them."),
    },
    "Show": {
        "report": ("report", "Write pages, plots or one interactive page."),
        "plot": ("report", "Plot models, or results of bench."),
        "draw": ("report", "Draw one model."),
    },
    "Records": {
        "cache": ("cache", "Show, clear or verify the stored records."),
    },
}
FILES = {name: file for commands in COMMANDS.values() for name, (file, _) in commands.items()}


class _LazyCommands(MutableMapping[str, Any]):
    """The commands by name; each is imported on first use."""

    def __init__(self) -> None:
        self.more: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name in self.more:
            return self.more[name]
        commands: typer.Typer = import_module(f"archscope.cli.{FILES[name]}").app
        commands.rich_markup_mode = None  # typer's boxes and its Markdown take more time than all the rest
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
        self.commands = _LazyCommands()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """By task, from the table above, so that nothing is imported."""
        wide = max(map(len, FILES))
        for task, commands in COMMANDS.items():
            with formatter.section(task):
                formatter.write_dl([(f"{name:<{wide}}", text) for name, (_, text) in commands.items()])


app = typer.Typer(cls=AllCommands, rich_markup_mode=None, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["--help", "-h"]})  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        from archscope.core.version import __version__

        print(f"archscope {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The shapes, parameters, MACs and memory of a network, each with its derivation.

    \b
    archscope list                          the networks of the zoo
    archscope trace alexnet                 layer by layer, with derivations
    archscope table --models 'vgg*,nin'     a comparison
    """
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)
    if context.invoked_subcommand != "list":
        from archscope.cli.base import enter_costs

        enter_costs()


def main() -> None:
    """The entry point of the `archscope` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="archscope")
    if sys.stderr is not None and (warning := other_archscope()):
        print(f"archscope: {warning}", file=sys.stderr)
    try:
        app()
    finally:
        gc.freeze()  # skip garbage collection at exit: with PyTorch loaded it takes a second
