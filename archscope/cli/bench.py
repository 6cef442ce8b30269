"""`bench`: to train networks and compare how they learn and how fast."""

from typing import Annotated, Any

import typer

from archscope.cli.base import As, Batch, Columns, OneCommand, Shown, may_write, names, whole_number
from archscope.core.errors import SpecError

app = typer.Typer()


@app.command("bench", cls=OneCommand)
def bench_models(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Networks to train; or `compare` and files of rows.", autocompletion=names, metavar="MODEL"
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="NAME or NAME@field=value; --list shows them.", metavar="RECIPE")
    ] = "auto",
    dataset: Annotated[
        str, typer.Option("--dataset", "-D", help="NAME, NAME@train=N@test=N, a folder, file.py:NAME.", metavar="DATA")
    ] = "auto",
    data_dir: Annotated[
        str, typer.Option("--data-dir", help="A folder to look for data in, before others.", metavar="DIR")
    ] = "",
    download: Annotated[bool, typer.Option("--download", help="Fetch data that is missing.")] = False,
    epochs: Annotated[
        str | None, typer.Option("--epochs", "-e", help="Passes over the training set.", metavar="N")
    ] = None,
    batch: Batch = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Runs of each, with seeds 0 to N-1.", metavar="N")] = "1",
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps, xpu.", metavar="DEVICE")
    ] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, tf32, bf16 or fp16.", metavar="PRECISION")
    ] = "fp32",
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Channels last in memory.")] = False,
    compile: Annotated[
        str, typer.Option("--compile", help="torch.compile: default, reduce-overhead, max-autotune.", metavar="MODE")
    ] = "",
    no_fused: Annotated[bool, typer.Option("--no-fused", help="The optimiser without its fused kernel.")] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Only algorithms that repeat exactly.")
    ] = False,
    threads: Annotated[str | None, typer.Option("--threads", help="Threads of the CPU.", metavar="N")] = None,
    warmup: Annotated[
        str, typer.Option("--warmup", help="Steps before the clock at most; 0 for none.", metavar="N")
    ] = "10",
    peak_tflops: Annotated[
        str | None, typer.Option("--peak-tflops", help="The device's published peak, where none is known.", metavar="T")
    ] = None,
    checkpoints: Annotated[
        str | None, typer.Option("--checkpoints", help="Where to keep the state; none for nowhere.", metavar="DIR")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last complete epoch.")] = False,
    infer: Annotated[bool, typer.Option("--infer", help="Run instead of training, next to the roofline.")] = False,
    batches: Annotated[
        str, typer.Option("--batches", help="Batch sizes of --infer, separated by commas.", metavar="N,N")
    ] = "1,8,64",
    show_list: Annotated[bool, typer.Option("--list", help="Recipes and data sets.")] = False,
    curves: Annotated[bool, typer.Option("--curves", help="With compare: epoch by epoch.")] = False,
    columns: Columns = None,
    format: As = "terminal",
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Add a JSON line a run to a file.", metavar="FILE")
    ] = None,
) -> None:
    """Train networks shortly, each by a named recipe in a process of its own, and set the results side by side.

    \b
    archscope bench lenet,resnet18-d2l --epochs 1 --output runs.jsonl
    archscope bench mnist-cnn --dataset digits --recipe adam@epochs=20 --seeds 3
    archscope bench lenet --resume                 after Ctrl-C
    archscope bench 'vgg*' --infer --batches 1,32
    archscope bench compare runs.jsonl             what was recorded, again as tables
    archscope bench compare runs.jsonl --curves    epoch by epoch
    archscope bench --list                         recipes and data sets
    """
    from archscope.bench import results

    shown = Shown(columns, format, None)
    if show_list:
        _list(shown)
        return
    if output is not None:
        may_write(output)
    training = results.INFERENCE + results.INFERENCE_HIDDEN if infer else results.TRAINING + results.TRAINING_HIDDEN
    if not models:
        raise SpecError(
            "name the networks to train, such as `archscope bench lenet`; --list shows recipes and data sets"
        )
    if models[0] == "compare":
        if len(models) == 1:
            raise SpecError("compare what? Name the files: archscope bench compare runs.jsonl")
        rows = results.read(models[1:])
        if curves:
            shown.check(results.CURVES + results.CURVES_HIDDEN)
            shown.print(results.curves(rows))
            return
        shown.check(training)
        _print(shown, rows)
        return
    shown.check(training)
    jobs = _jobs(
        models, recipe, dataset, data_dir, download, epochs, batch, seeds, device, warmup, peak_tflops, checkpoints,
        resume, batches if infer else "",
        {"precision": _precision(precision), "channels_last": channels_last, "compile": _mode(compile),
         "fused": not no_fused, "deterministic": deterministic, "threads": whole_number("--threads", threads) or 0},
    )  # fmt: skip

    import os

    from archscope.bench.progress import shown as progress
    from archscope.bench.run import bench as run
    from archscope.bench.run import bench_here

    several = "RANK" in os.environ and "WORLD_SIZE" in os.environ  # torchrun
    with progress() as show:
        rows = bench_here(jobs, output, show) if several else run(jobs, output, show, resume)
    if several and os.environ["RANK"] != "0":
        return
    _print(shown, rows)
    if any(row["status"] == "interrupted" for row in rows):
        raise typer.Exit(130)
    if any(row["status"] not in results.GOOD for row in rows):
        raise typer.Exit(1)


def _jobs(
    models: list[str], recipe: str, dataset: str, data_dir: str, download: bool, epochs: str | None, batch: str | None,
    seeds: str, device: str, warmup: str, peak: str | None, checkpoints: str | None, resume: bool, batches: str,
    flags: dict[str, Any],
) -> list[dict[str, Any]]:  # fmt: skip
    """A job for each network and seed; what is wrong with what was typed is said before anything runs."""
    from archscope.bench.datasets import check_name
    from archscope.bench.idx import cache
    from archscope.bench.recipes import recipe_of
    from archscope.sources.spec import expand

    check_name(dataset)
    given = {"epochs": whole_number("--epochs", epochs), "batch": whole_number("--batch", batch)}
    if not warmup.isdigit():
        raise SpecError(f"--warmup is a whole number, not {warmup!r}")
    sizes = [whole_number("--batches", size.strip()) for size in batches.split(",")] if batches else []
    where = str(cache() / "bench") if checkpoints is None else "" if checkpoints == "none" else checkpoints
    if resume and not where:
        raise SpecError("--resume goes on from a checkpoint, and --checkpoints none keeps none")
    common = {
        "data": dataset, "data_dir": data_dir, "download": download, "device": device, "flags": flags,
        "warmup": int(warmup), "checkpoints": where, "resume": resume, "peak_tflops": _tflops(peak), "batches": sizes,
    }  # fmt: skip
    jobs = []
    for spec in expand(models):
        name = spec.name if spec.in_zoo else spec.text
        chosen = recipe_of("adam" if batches else recipe, name, None if batches else given)
        for seed in range(1 if batches else whole_number("--seeds", seeds) or 1):
            jobs.append({"model": spec.text, "recipe": chosen.to_dict(), "seed": seed, **common})
    return jobs


def _tflops(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9 or (text is not None and not value):
        raise SpecError(f"--peak-tflops is a number of TFLOP/s, not {text!r}")
    return value


def _precision(text: str) -> str:
    from archscope.bench.peaks import PRECISIONS
    from archscope.core.table import unknown

    if text not in PRECISIONS:
        raise SpecError(unknown("precision", text, PRECISIONS))
    return text


def _mode(text: str) -> str:
    from archscope.core.table import unknown

    modes = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
    if text and text not in modes:
        raise SpecError(unknown("mode of --compile", text, modes))
    return text


def _list(shown: Shown) -> None:
    """Recipes and data sets; the recipes alone where one table is wanted."""
    from archscope.bench.datasets import datasets_table
    from archscope.bench.recipes import recipes_table

    shown.print(recipes_table())
    if shown.format not in ("json", "csv") and shown.columns is None:
        print()
        shown.print(datasets_table())


def _print(shown: Shown, rows: list[dict[str, Any]]) -> None:
    """One table for machines; for people one for each device, precision, recipe and data set."""
    from archscope.bench.results import tables, whole

    if shown.format in ("json", "csv"):
        shown.print(whole(rows))
        return
    for number, table in enumerate(tables(rows)):
        _apart(shown, number)
        shown.print(table)


def _apart(shown: Shown, number: int) -> None:
    if number and shown.format not in ("json", "csv"):
        print()
