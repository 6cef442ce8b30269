"""`sweep` and `search`: many architectures, by a grid or by chance."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from archscope.cli.base import (
    As,
    Batch,
    Columns,
    Input,
    Model,
    OneCommand,
    Optimizer,
    Output,
    OutputOptions,
    Precision,
    Train,
    TrainStep,
    may_write,
    put,
    step_conditions,
    whole_number,
)
from archscope.core.errors import SpecError

app = typer.Typer()

Jobs = Annotated[str | None, typer.Option("--jobs", "-j", help="Processes (1).", metavar="N")]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="Run on a Dask cluster: tcp://HOST:PORT.", metavar="ADDRESS")
]
PICTURES = ("svg", "png", "pdf")


@app.command("sweep", cls=OneCommand)
def over_a_grid(
    model: Model,
    over: Annotated[
        list[str] | None,
        typer.Option("--over", help="NAME=VALUES: width=0.25,0.5,1, input=64:512:32, batch=1,8.", metavar="AXIS"),
    ] = None,
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    train_step: TrainStep = False,
    optimizer: Optimizer = None,
    precision: Precision = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    plot: Annotated[
        str | None, typer.Option("--plot", help="Also draw it: a .svg, .png or .pdf.", metavar="FILE")
    ] = None,
    of: Annotated[str, typer.Option("--of", help="What the plot shows (macs).", metavar="KEY")] = "macs",
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """A model at every point of a grid: any argument of its builder, input size, batch, sequence length.

    A file ending in .csv, .parquet or .jsonl is written while it runs; the same command goes on after a kill. Exit code
    1 where no point could be run; one that fails is a row with its reason.

    \b
    archscope sweep mobilenet-v1 --over width=0.25,0.5,0.75,1 --over input=128:224:32
    archscope sweep vgg16 --over input=64:512:32 --plot vgg.svg --of activations
    archscope sweep nets.py:Net --over depth=1:100 --over width=8:512:8 --jobs 8 --output grid.parquet
    archscope sweep gru-classifier --over input=16:512:16          a sequence's length
    archscope sweep resnet50 --over batch=1,8,32 --train-step --optimizer adamw
    """
    from functools import partial

    from archscope.analysis.metrics import STEP_METRICS
    from archscope.core.table import unknown
    from archscope.report.sweep_plot import picture
    from archscope.sources.loading import inputs_of
    from archscope.sources.spec import expand
    from archscope.sweeps.factory import SweepModel
    from archscope.sweeps.grid import TOTALS, Grid, typed_axes
    from archscope.sweeps.run import records
    from archscope.sweeps.store import is_store, resumed
    from archscope.sweeps.tables import axes_of, columns_of, failure_notes, sweep_table

    shown = OutputOptions(columns, format, output)
    specs = expand([model])
    if len(specs) != 1:
        raise SpecError(f"one model at a time, not {len(specs)}: `archscope table --models {model!r}` takes several")
    (spec,) = specs
    if not over:
        several = f"batch={batch}" if "," in (batch or "") else "width=0.25,0.5,1 or --over input=64:512:32"
        raise SpecError(f"nothing is varied: write --over {several}")
    grid = Grid(typed_axes(over, spec))
    axes = axes_of(grid)
    kept, hidden = columns_of(axes, True)
    shown.check(kept + hidden)
    if of not in (*TOTALS, *STEP_METRICS):
        raise SpecError(
            f"--of: {unknown('figure', of, [c.key for c in kept[len(axes) :] + hidden if c.form != 'flag'])}"
        )
    form = _ending(plot)
    asked = train_step or any(key in STEP_METRICS for key in (of, *(shown.columns or ())))
    step = step_conditions(asked, optimizer, precision)
    subject = SweepModel(spec, None, input, whole_number("--batch", batch), train, step)
    subject.source()
    point_spec, text, examples = subject.at(grid[0])
    inputs_of(point_spec, text, examples)  # a wrong input is refused before anything is run
    processes = whole_number("--jobs", jobs) or 1

    run = partial(records, subject, jobs=processes, scheduler=scheduler)
    stored = is_store(output) and format in ("terminal", "csv") and columns is None
    found: Iterable[Any] = resumed(output, grid, subject, run) if stored and output else run(grid)
    failures: dict[str, int] = {}
    rows = []
    with resumable(output if stored else None), counted(found, len(grid)) as points:
        for record in points:
            if record["error"]:
                failures[record["error"]] = failures.get(record["error"], 0) + 1
            if not stored or plot:
                rows.append(record)
    title = f"{spec.text} over {', '.join(axis.name for axis in grid.axes)}"
    if plot is not None:
        put(picture(title, grid, rows, of, form), plot)
    if stored:
        _note(f"{len(grid):,} points in {output}", *failure_notes(failures, len(grid)))
    else:
        shown.print(sweep_table(title, axes, rows, _caption(train, step), step is not None))
    if sum(failures.values()) == len(grid):
        raise typer.Exit(1)


@app.command(cls=OneCommand)
def search(
    space: Annotated[str, typer.Argument(help="FILE.py:NAME of a dict of values or a function.", metavar="SPACE")],
    trials: Annotated[str, typer.Option("--trials", "-n", help="Points to sample (1000).", metavar="N")] = "1000",
    where: Annotated[
        str | None,
        typer.Option("--where", "-w", help="What must hold: 'macs <= 600e6 and params <= 5e6'.", metavar="CONDITION"),
    ] = None,
    best: Annotated[
        str | None,
        typer.Option("--best", help="The smallest of this first: macs; -params for the largest.", metavar="EXPRESSION"),
    ] = None,
    top: Annotated[str, typer.Option("--top", help="How many are shown (10).", metavar="N")] = "10",
    seed: Annotated[str, typer.Option("--seed", help="Of the random numbers (0).", metavar="N")] = "0",
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    train_step: TrainStep = False,
    optimizer: Optimizer = None,
    precision: Precision = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """Sample a space of architectures, keep those that meet conditions, and show the best.

    The space is a dict of values, or a function of random numbers that returns arguments, beside `build(…)`, which
    returns the model. A file ending in .csv, .parquet or .jsonl takes all that meet the conditions while it runs; the
    same command goes on after a kill. Exit code 1 where none does.

    \b
    archscope search nets.py:space --trials 10000 --where 'macs <= 600e6 and params <= 5e6' --best=-params
    archscope search nets.py:space --best 'macs / params' --top 5 --seed 1
    archscope search nets.py:space --trials 1000000 --where 'macs < 1e8' --jobs 8 --output found.parquet
    """
    from archscope.analysis.metrics import STEP_METRICS
    from archscope.sources.loading import inputs_of
    from archscope.sweeps.search import Search, space_of
    from archscope.sweeps.store import is_store
    from archscope.sweeps.tables import columns_of, failure_notes, sweep_table

    shown = OutputOptions(columns, format, output)
    asked = space_of(space)
    texts = f"{where} {best} {' '.join(shown.columns or ())}"
    wanted = train_step or any(key in texts for key in STEP_METRICS)
    processes = whole_number("--jobs", jobs) or 1
    if not seed.isdigit():
        raise SpecError(f"--seed is a whole number from 0 on, not {seed!r}")
    one = Search(asked, whole_number("--trials", trials) or 1, int(seed), where, best, whole_number("--top", top) or 1,
                 input, whole_number("--batch", batch), train,
                 step_conditions(wanted, optimizer, precision))  # fmt: skip
    axes = {"trial": True, **dict.fromkeys(one.arguments, True)}
    step = one.subject.step
    kept, hidden = columns_of(axes, step is not None)
    shown.check(kept + hidden)
    spec, text, examples = one.subject.at(one.trials[0])
    inputs_of(spec, text, examples)
    stored = is_store(output) and format in ("terminal", "csv") and columns is None
    file = output if stored else None
    with resumable(file), counted(one.run(processes, scheduler, file), len(one.trials), one) as points:
        for _ in points:
            pass
    found = one.found()
    title = f"{asked.name}: {one.met:,} of {one.evaluated:,} trials" + (f" meet {where}" if where else "")
    notes = failure_notes(one.failures, one.evaluated)
    if where and not one.met:
        notes += [f"{count:,} meet {part}" for part, count in one.parts.items()] if len(one.parts) > 1 else []
    table = sweep_table(title, axes, found, _caption(train, step), step is not None)
    if stored:
        shown = OutputOptions(columns, "terminal", None)
        _note(f"{one.met:,} of {one.evaluated:,} trials in {output}", *notes)
        notes = []
    from dataclasses import replace

    shown.print(replace(table, notes=(*table.notes, *notes)))
    if not one.met:
        raise typer.Exit(1)


def _caption(train: bool, step: Any = None) -> str:
    from archscope.analysis.texts import step_text, versions

    given = f"{step_text(step)}. " if step is not None else ""
    return f"{'Training mode. ' if train else ''}{given}{versions()}"


def _ending(path: str | None) -> str:
    if path is None:
        return ""
    ending = path.rpartition(".")[2].lower()
    if ending not in PICTURES:
        raise SpecError(f"--plot draws .svg, .png and .pdf, not {path!r}")
    may_write(path, "--plot")
    return ending


def _note(*lines: str) -> None:
    """Print to stderr: the records are in a file."""
    if sys.stderr is not None:
        for line in lines:
            print(line, file=sys.stderr)


@contextmanager
def resumable(file: str | None) -> Iterator[None]:
    """Print where the records are when Ctrl-C ends a sweep that is written to a file."""
    try:
        yield
    except KeyboardInterrupt:
        if file is not None:
            _note(f"what came so far is in {file}.part: the same command goes on from there")
        raise


@contextmanager
def counted(items: Iterable[Any], total: int, search: Any = None) -> Iterator[Iterable[Any]]:
    """A bar on stderr with the rate and the time left, where someone is looking. search: counts its trials itself."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as bar:
        task = bar.add_task("", total=total, rate="")

        def shown() -> Iterator[Any]:
            from time import monotonic

            begun, first, last = monotonic(), None, 0.0
            for done, item in enumerate(items, 1):
                yield item
                now = monotonic()
                if now - last > 0.2:
                    at = search.evaluated if search is not None else done
                    first = at if first is None else first
                    rate = (at - first) / (now - begun) if now > begun else 0
                    bar.update(task, completed=at, rate=f"{rate:,.0f}/s" if rate else "")
                    last = now

        yield shown()
