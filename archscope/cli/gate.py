"""`lock`, `check` and `diff`: to guard a repository."""

from typing import Annotated

import typer

from archscope.cli.base import (
    As,
    Batch,
    Columns,
    ExplainCache,
    Fresh,
    Input,
    OneCommand,
    Output,
    OutputOptions,
    Train,
    may_write,
    names,
    progress,
    put,
    terminal_width,
    use_color,
    whole_number,
)
from archscope.core.errors import SpecError

app = typer.Typer()

Models = Annotated[
    list[str] | None,
    typer.Argument(help="Names and wildcards; those of the config when left out.", autocompletion=names,
                   metavar="MODEL"),
]  # fmt: skip
LockFile = Annotated[
    str | None, typer.Option("--lock", "-l", help="The lock; archscope.lock beside the config.", metavar="FILE")
]


@app.command(cls=OneCommand)
def lock(
    models: Models = None,
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    lock: LockFile = None,
    fresh: Fresh = False,
    explain_cache: ExplainCache = False,
) -> None:
    """Write archscope.lock: for each model its input, totals and layers, one line each.

    Models that are named are added or renewed, the others stay. Without names the lock becomes that of the models in
    `[tool.archscope]` of pyproject.toml, or of archscope.toml.

    \b
    archscope lock alexnet 'resnet*'
    archscope lock net.py:Net --input 1x28x28
    archscope lock
    """
    from archscope.gate.budget import find
    from archscope.gate.judge import look, plan_to_lock, renew
    from archscope.gate.reports import written

    asked = {"input": input, "batch": whole_number("--batch", batch), "train": train}
    if lock is not None:
        may_write(lock, "--lock")
    plan = plan_to_lock(find(), lock, models or [], asked)
    with progress(list(plan.targets)) as targets:
        outcomes = [look(target, plan) for target in targets]
    renew(plan, outcomes)
    put(written(plan, outcomes))
    if any(outcome.after is None for outcome in outcomes):
        raise typer.Exit(1)


@app.command(cls=OneCommand)
def check(
    models: Models = None,
    update: Annotated[bool, typer.Option("--update", "-u", help="Accept the changes: renew the lock.")] = False,
    cached: Annotated[
        bool, typer.Option("--cached", help="Skip zoo networks whose code and versions are unchanged.")
    ] = False,
    require_coverage: Annotated[
        bool, typer.Option("--require-coverage", help="Fail where the cost of an operator is unknown.")
    ] = False,
    lock: LockFile = None,
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", help="text, github, md, junit or json; github within GitHub Actions.",
                     metavar="FORMAT"),
    ] = None,
    output: Output = None,
    fresh: Fresh = False,
    explain_cache: ExplainCache = False,
) -> None:  # fmt: skip
    """Run the models again and compare them with archscope.lock, layer by layer, and with the budgets of the config.

    Exit code 1 where a model changed, is over a budget, cannot be run or is not locked. With --output the report
    goes to the file and the text to the terminal; $GITHUB_STEP_SUMMARY gets the Markdown where it is set.

    \b
    archscope check
    archscope check 'resnet*' --update
    archscope check --format junit --output archscope.xml
    """
    from archscope.core.table import unknown
    from archscope.gate.budget import find
    from archscope.gate.judge import Result, look, missing, plan, renew, settled
    from archscope.gate.reports import REPORTS, default_format, summarise

    wanted = format or default_format()
    if wanted not in REPORTS:
        raise SpecError(unknown("format", wanted, REPORTS))
    if output is not None:
        may_write(output)
    work = plan(find(), lock, models or [])
    with progress(list(work.targets)) as targets:
        outcomes = [look(target, work, cached, require_coverage) for target in targets] + missing(work)
    if update:
        renew(work, outcomes)
        outcomes = [settled(outcome, work) for outcome in outcomes]
    result = Result(tuple(outcomes), work.config, work.path, updated=update)
    put(REPORTS[wanted](result), output)
    if output is not None:
        put(REPORTS[default_format()](result))
    summarise(result)
    if result.fails:
        raise typer.Exit(1)


@app.command(cls=OneCommand)
def diff(
    a: Annotated[str, typer.Argument(help="A model, a lock, a git revision or two: main..HEAD.", metavar="A")],
    b: Annotated[str | None, typer.Argument(help="What to compare it with.", metavar="B")] = None,
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    lock: LockFile = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
    fresh: Fresh = False,
    explain_cache: ExplainCache = False,
) -> None:
    """Totals and layers that were added, removed, changed or renamed.

    \b
    archscope diff resnet50 resnet50-v1.5
    archscope diff main..HEAD               archscope.lock in two git revisions
    archscope diff main                     and as it is now
    archscope diff old.lock new.lock --format md
    archscope diff archscope.lock net.py:Net
    """
    from archscope.gate.budget import find
    from archscope.gate.judge import path_of
    from archscope.gate.sides import comparison, comparison_text, layers

    shown = OutputOptions(columns, format, output)
    shown.check(layers(()).columns + layers(()).hidden)
    asked = {"input": input, "batch": whole_number("--batch", batch), "train": train}
    found = comparison(a, b, path_of(find(), lock), asked)
    if columns is not None:
        shown.print(layers(found.drifts, found.title))
        return
    options = {"width": terminal_width(), "color": use_color()} if shown.format == "terminal" and output is None else {}
    put(comparison_text(found, shown.format, **options), output)
