"""`bench`: train networks, and compare accuracy and speed."""

from typing import Annotated, Any

import typer

from archscope.cli.base import (
    As,
    Columns,
    OneCommand,
    OutputOptions,
    choice,
    may_write,
    names,
    whole_number,
    whole_numbers,
)
from archscope.core.errors import SpecError

app = typer.Typer()
MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")  # of torch.compile


@app.command("bench", cls=OneCommand)
def bench_models(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Networks to train; or `compare` and result files.", autocompletion=names, metavar="MODEL"),
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="NAME or NAME@field=value; --list shows them.", metavar="RECIPE")
    ] = "auto",
    dataset: Annotated[
        str, typer.Option("--dataset", "-D", help="NAME, NAME@train=N@test=N, a folder, file.py:NAME.", metavar="DATA")
    ] = "auto",
    data_dir: Annotated[str, typer.Option("--data-dir", help="Folder with data; searched first.", metavar="DIR")] = "",
    download: Annotated[bool, typer.Option("--download", help="Download missing data.")] = False,
    epochs: Annotated[
        str | None, typer.Option("--epochs", "-e", help="Passes over the training set.", metavar="N")
    ] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", "-b", help="Examples in a step; max: what fits the device.", metavar="N")
    ] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Runs of each network, with seeds 0 to N-1.", metavar="N")
    ] = "1",
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
    no_fused: Annotated[bool, typer.Option("--no-fused", help="Do not use the fused kernel of the optimiser.")] = False,
    deterministic: Annotated[bool, typer.Option("--deterministic", help="Use deterministic algorithms only.")] = False,
    threads: Annotated[str | None, typer.Option("--threads", help="Number of CPU threads.", metavar="N")] = None,
    warmup: Annotated[
        str, typer.Option("--warmup", help="Maximum of steps before time is measured; 0: none.", metavar="N")
    ] = "10",
    peak_tflops: Annotated[
        str | None,
        typer.Option("--peak-tflops", help="Published peak of the device, if archscope does not know it.", metavar="T"),
    ] = None,
    checkpoints: Annotated[
        str | None, typer.Option("--checkpoints", help="Folder for checkpoints, or none.", metavar="DIR")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last complete epoch.")] = False,
    infer: Annotated[bool, typer.Option("--infer", help="Measure inference, compared with the roofline.")] = False,
    batches: Annotated[
        str, typer.Option("--batches", help="Batch sizes of --infer, separated by commas.", metavar="N,N")
    ] = "1,8,64",
    show_list: Annotated[bool, typer.Option("--list", help="Show recipes and data sets.")] = False,
    curves: Annotated[bool, typer.Option("--curves", help="With compare: one row per epoch.")] = False,
    columns: Columns = None,
    format: As = "terminal",
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Append one JSON line per run to a file.", metavar="FILE")
    ] = None,
) -> None:
    """Train networks briefly and compare them. Each has a named recipe and a process of its own.

    \b
    archscope bench lenet,resnet18-d2l --epochs 1 --output runs.jsonl
    archscope bench mnist-cnn --dataset digits --recipe adam@epochs=20 --seeds 3
    archscope bench lenet --resume                 after Ctrl-C
    archscope bench resnet18 --batch max           the largest batch that fits, as `archscope fit` has it
    archscope bench 'vgg*' --infer --batches 1,32
    archscope bench compare runs.jsonl             recorded results as tables
    archscope bench compare runs.jsonl --curves    one row per epoch
    archscope bench --list                         recipes and data sets
    """
    from archscope.bench import results
    from archscope.bench.job import under_torchrun
    from archscope.bench.run import bench, bench_here

    shown = OutputOptions(columns, format, None)
    if show_list:
        _print_catalogues(shown)
        return
    if output is not None:
        may_write(output)
    if not models:
        raise SpecError(
            "name the networks to train, such as `archscope bench lenet`; --list shows recipes and data sets"
        )
    shown.check(sum((results.CURVES, results.CURVES_HIDDEN) if curves else results.columns_of(infer), ()))
    if models[0] == "compare":
        if len(models) == 1:
            raise SpecError("compare needs files: archscope bench compare runs.jsonl")
        rows = results.read(models[1:])
        _print(shown, [results.curves(rows)] if curves else None, rows)
        return
    most = batch == "max"
    if most and infer:
        raise SpecError("--batch max is for a training; --batches has the batch sizes of --infer")
    given = {"epochs": whole_number("--epochs", epochs), "batch": None if most else whole_number("--batch", batch)}
    flags = {
        "precision": precision, "channels_last": channels_last, "compile": compile, "fused": not no_fused,
        "deterministic": deterministic, "threads": whole_number("--threads", threads) or 0,
    }  # fmt: skip
    common = {
        "data": dataset, "data_dir": data_dir, "download": download, "device": device, "flags": flags,
        "warmup": whole_number("--warmup", warmup, 0), "checkpoints": _checkpoints(checkpoints, resume),
        "resume": resume, "peak_tflops": _tflops(peak_tflops),
        "batches": tuple(whole_numbers("--batches", batches)) if infer else (),
    }  # fmt: skip
    _check(dataset, device, precision, compile)
    count = 1 if infer else whole_number("--seeds", seeds) or 1
    jobs = _jobs(models, "adam" if infer else recipe, {} if infer else given, range(count), common, most)

    from archscope.bench.progress import shown as progress

    with progress() as show:
        rows = bench_here(jobs, output, show) if under_torchrun() else bench(jobs, output, show, resume)
    if not rows:  # under torchrun, only the first process has rows
        return
    _print(shown, None, rows)
    if any(row["status"] == "interrupted" for row in rows):
        raise typer.Exit(130)
    if any(row["status"] not in results.GOOD for row in rows):
        raise typer.Exit(1)


def _check(dataset: str, device: str, precision: str, compile: str) -> None:
    """Raises SpecError for a wrong word before any network is trained."""
    from archscope.bench.datasets import check_name
    from archscope.bench.peaks import PRECISIONS

    check_name(dataset)
    choice("precision", precision, PRECISIONS)
    if compile:
        choice("mode of --compile", compile, MODES)
    if device not in ("auto", "cpu"):  # only PyTorch knows the others
        from archscope.bench.device import device_of

        device_of(device)


def _jobs(
    models: list[str],
    recipe: str,
    given: dict[str, int | None],
    seeds: range,
    common: dict[str, Any],
    most: bool = False,
) -> list[Any]:
    """A job for each network and seed. most: with the largest batch that fits the device."""
    from archscope.bench.job import Job
    from archscope.bench.recipes import recipe_of
    from archscope.sources.spec import expand

    chosen = []
    for spec in expand(models):
        name = spec.name if spec.in_zoo else spec.text
        fields = recipe_of(recipe, name, given)
        if most:
            from archscope.bench.device import Flags, device_of
            from archscope.bench.memory import largest_batch

            batch = largest_batch(spec, fields, Flags(**common["flags"]), device_of(common["device"]))
            if batch is None:
                raise SpecError(f"not even one example of {spec.text} fits the device: give a smaller side, @side=N")
            fields = recipe_of(recipe, name, given | {"batch": batch})
        chosen.append((spec.text, fields.to_dict()))
    return [Job(text, fields, seed=seed, **common) for text, fields in chosen for seed in seeds]


def _checkpoints(folder: str | None, resume: bool) -> str:
    from archscope.bench.datasets import cache_folder

    if folder == "none" and resume:
        raise SpecError("--resume needs a checkpoint, and --checkpoints none keeps none")
    return str(cache_folder() / "bench") if folder is None else "" if folder == "none" else folder


def _tflops(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9 or (text is not None and not value):
        raise SpecError(f"--peak-tflops is a number of TFLOP/s, not {text!r}")
    return value


def _print_catalogues(shown: OutputOptions) -> None:
    """Recipes and data sets; only the recipes if one table is wanted."""
    from archscope.bench.datasets import datasets_table
    from archscope.bench.recipes import recipes_table

    one = shown.for_machines or shown.columns is not None
    shown.print_all([recipes_table()] if one else [recipes_table(), datasets_table()])


def _print(shown: OutputOptions, tables: list[Any] | None, rows: list[dict[str, Any]]) -> None:
    """One table for CSV and JSON; else one for each device, precision, recipe and data set."""
    from archscope.bench import results

    shown.print_all(tables or ([results.whole(rows)] if shown.for_machines else results.tables(rows)))
