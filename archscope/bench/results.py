"""Rows, one per run, stored as JSON lines, and the tables made from them. Does not import torch.

A row is a flat JSON object with raw values: seconds, milliseconds if the key says ms, bytes, FLOP/s, shares in 0 to 1,
null for unknown. `schema` is the version of its keys. Rows are only appended, each with one write.
"""

import json
import math
import os
import statistics
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from archscope.bench.row_schema import row_of
from archscope.core import files, limits
from archscope.core.errors import SpecError
from archscope.core.table import Column, Table, unknown

MFU = "MFU: 2·MACs of forward and backward per second, as a share of the fastest matrix product on this device."
WAIT = "Data wait: share of the time spent on making batches."
MEMORY = "Memory: peak of tensors on an accelerator, or of the whole process on a CPU."
PREDICTED = "Predicted: the most that the tensors of a step hold by its record, without the data set."
TRAINING = (
    Column("model", "Model"),
    Column("params", "Parameters", "scaled", priority=7),
    Column("epochs", "Epochs", "count", priority=8),
    Column("train_loss", "Train loss", "count", priority=5),
    Column("train_accuracy", "Train", "share", priority=4),
    Column("test_accuracy", "Test", "share"),
    Column("spread", "±", "share", priority=1),
    Column("best_test_accuracy", "Best", "share", priority=3),
    Column("examples_per_second", "Examples/s", "scaled", priority=1),
    Column("step_ms_p50", "Step p50", "count", unit="ms", priority=4),
    Column("step_ms_p90", "p90", "count", unit="ms", priority=9),
    Column("step_ms_p99", "p99", "count", unit="ms", priority=6),
    Column("data_wait_share", "Data wait", "share", priority=5, means=WAIT),
    Column("peak_memory", "Memory", "bytes", priority=6, means=MEMORY),
    Column("predicted_memory", "Predicted", "bytes", priority=6, means=PREDICTED),
    Column("flops_per_second", "FLOP/s", "scaled", priority=5),
    Column("mfu", "MFU", "share", priority=2, means=MFU),
    Column("mfu_published", "of published", "share", priority=7),
    Column("flags", "Flags", priority=3),
    Column("status", "Status", priority=2),
)
TRAINING_HIDDEN = tuple(
    Column(key, key)
    for key in """recipe data device device_name world_size precision seed seeds batch micro_batch epochs_done
    fitting_batch validation_accuracy test_loss best_epoch train_s eval_s warmup_s compile_s prepare_s
    wall_s peak_memory_process flops_per_example peak_flops_measured peak_flops_published peak_source
    synthetic resumed sample error key schema torch archscope""".split()
)
INFERENCE = (
    Column("model", "Model"),
    Column("batch", "Batch", "count"),
    Column("examples_per_second", "Examples/s", "scaled"),
    Column("latency_ms_p50", "Latency p50", "count", unit="ms"),
    Column("latency_ms_p90", "p90", "count", unit="ms", priority=5),
    Column("latency_ms_p99", "p99", "count", unit="ms", priority=4),
    Column("flops_per_second", "FLOP/s", "scaled", priority=3),
    Column("intensity", "FLOP/B", "count", priority=4, means="FLOP/B: operations per byte read or written."),
    Column("roofline_ms", "Roofline", "count", unit="ms", priority=1,
           means="Roofline: minimal time by the trace at the measured peak and bandwidth."),
    Column("roofline_share", "Reached", "share", priority=1),
    Column("bound", "Bound by", priority=2),
    Column("status", "Status", priority=2),
)  # fmt: skip
INFERENCE_HIDDEN = tuple(
    Column(key, key)
    for key in """device device_name precision params flops_per_example peak_flops_measured bandwidth_measured
    bandwidth_published flags error schema torch archscope""".split()
)

# rows that differ in one of these are never in one table
APART = ("kind", "schema", "data", "recipe", "device_name", "world_size", "threads", "precision")
# keys that select rows of a file: FILE@recipe=d2l
CHOOSE = ("model", "data", "recipe", "device", "device_name", "world_size", "threads", "precision", "seed", "flags",
          "status", "kind")  # fmt: skip


def append(path: str | Path, row: Mapping[str, Any]) -> None:
    """Append a row to a file with one write, and sync it to disk. An unfinished last line is ended first. Raises
    SpecError."""
    line = (json.dumps(plain(row), ensure_ascii=False, allow_nan=False) + "\n").encode()
    try:
        file = os.open(os.path.expanduser(path), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(file).st_size
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            os.write(file, b"\n" + line if torn else line)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise SpecError(f"cannot write {path}: {error.strerror or error}") from error


def plain(value: Any) -> Any:
    """A value for JSON; NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """The rows of files in order, without an unfinished last line. `FILE@recipe=d2l@model=vgg*` selects the rows of
    that recipe and those models. Raises SpecError for other text, and if no row is left."""
    rows = []
    for path in paths:
        name, chosen = _chosen(str(path))
        own = [row for row in _rows(name) if all(_is(row, key, value) for key, value in chosen.items())]
        if chosen and not own:
            raise SpecError(_none_left(name, chosen))
        rows += own
    if not rows:
        raise SpecError(f"there are no rows in {', '.join(map(str, paths))}")
    return rows


def _rows(path: str) -> Iterable[dict[str, Any]]:
    try:
        text = files.text(path, limits.RUNS)
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "it is not text"
        raise SpecError(f"cannot read {path}: {what}") from error
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield row_of(line)
        except SpecError as error:
            raise SpecError(f"{path}, line {number}: {error}") from error
        except ValueError as error:
            if number < len(lines):  # an unfinished last line is no error
                raise SpecError(f"{path}, line {number}, is not a row of archscope bench: {error}") from error


def _chosen(text: str) -> tuple[str, dict[str, str]]:
    """File and conditions of `FILE@key=value…`; names of recipes, data sets and devices may contain @."""
    chosen: dict[str, str] = {}
    path = last = ""
    for part in text.split("@") if not os.path.exists(os.path.expanduser(text)) else [text]:
        key, equals, value = part.partition("=")
        if path and equals and key in CHOOSE:
            chosen[key], last = value, key
        elif last:
            chosen[last] += f"@{part}"
        elif equals and os.path.isfile(os.path.expanduser(path)):
            raise SpecError(unknown("key of rows", key, CHOOSE))
        else:
            path += f"@{part}" if path else part
    return path, chosen


def _is(row: Mapping[str, Any], key: str, value: str) -> bool:
    own = str(shown(row).get(key))
    return own == value or fnmatchcase(own, value)


def _none_left(path: str, chosen: Mapping[str, str]) -> str:
    """The condition that no row of the file meets, and the values of its rows."""
    rows = list(_rows(path))
    for key, value in chosen.items():
        there = sorted({str(shown(row).get(key)) for row in rows})
        if not any(_is(row, key, value) for row in rows):
            return f"no row of {path} has {key}={value}; there is {', '.join(there)}"
    return f"no row of {path} is all of {', '.join(f'{key}={value}' for key, value in chosen.items())}"


def blocks(rows: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The rows grouped by APART, in the order of first appearance."""
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(str(row.get(key)) for key in APART), []).append(row)
    return list(found.values())


def trainings(rows: Iterable[Mapping[str, Any]], what: str) -> list[Mapping[str, Any]]:
    """The rows of trainings. Raises SpecError if there are none. what: who needs them, for the message."""
    found = [row for row in rows if row.get("kind") != "infer"]
    if not found:
        raise SpecError(f"{what} shows trainings, and these rows are of `bench --infer`")
    return found


def groups(block: Iterable[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows of a block grouped by model and flags: the seeds of one run together, each failure alone."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in map(shown, block):
        alone = row["status"] not in GOOD
        found.setdefault((row["model"], row["flags"], row["key"] if alone else ""), []).append(row)
    return list(found.values())


def tables(rows: Iterable[Mapping[str, Any]]) -> list[Table]:
    """The rows as tables, one for each device, precision, recipe and data set. Runs that differ only in their seed are
    one row, with means and the standard deviation of the test accuracy."""
    return [_table(block) for block in blocks(rows)]


def whole(rows: Iterable[Mapping[str, Any]]) -> Table:
    """All rows in one table with every key, for CSV and JSON."""
    listed = [shown(row) for row in rows]
    infer = bool(listed) and all(row.get("kind") == "infer" for row in listed)
    columns, hidden = columns_of(infer)
    return Table("", tuple(column for column in columns if column.key != "spread"), tuple(listed), hidden=hidden)


def columns_of(infer: bool) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """The columns of inference runs or of trainings, and the hidden ones."""
    return (INFERENCE, INFERENCE_HIDDEN) if infer else (TRAINING, TRAINING_HIDDEN)


CURVES = (
    Column("model", "Model"),
    Column("seed", "Seed", "count", priority=2),
    Column("epoch", "Epoch", "count"),
    Column("lr", "Rate", "count", priority=5),
    Column("train_loss", "Train loss", "count", priority=1),
    Column("train_accuracy", "Train", "share"),
    Column("validation_accuracy", "Validation", "share", priority=3),
    Column("test_loss", "Test loss", "count", priority=4),
    Column("test_accuracy", "Test", "share"),
)
CURVES_HIDDEN = tuple(
    Column(key, key) for key in ("recipe", "data", "seconds", "examples_per_second", "validation_loss")
)


def curves(rows: Iterable[Mapping[str, Any]]) -> Table:
    """The learning curves: a row per epoch of every run. Raises SpecError if no run completed an epoch."""
    epochs = [
        {key: row.get(key) for key in ("model", "seed", "recipe", "data")} | epoch
        for row in rows
        for epoch in row.get("history") or ()
    ]
    if not epochs:
        raise SpecError("no run has completed an epoch: there is no learning curve")
    return Table("Learning curves", CURVES, tuple(map(readable, epochs)), hidden=CURVES_HIDDEN)


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its flags as one text."""
    flags = row.get("flags") or {}
    flagged = [key.replace("_", "-") for key in ("channels_last", "deterministic") if flags.get(key)]
    if flags.get("compile"):
        flagged.append(f"compile={flags['compile']}")
    if flags.get("fused") is False:
        flagged.append("no-fused")
    return {**row, "flags": " ".join(flagged)}


def _table(block: list[Mapping[str, Any]]) -> Table:
    """One table of a block, without the columns that are empty or tell nothing."""
    infer = block[0].get("kind") == "infer"
    listed = list(map(shown, block)) if infer else [merged(group) for group in groups(block)]
    columns, hidden = columns_of(infer)
    empty = {
        key
        for key in ("spread", "flags", "mfu_published", "predicted_memory")
        if not any(row.get(key) for row in listed)
    }
    empty |= {"status"} if all(row["status"] == "ok" for row in listed) else set()
    return Table(
        title=title_of(block[0]),
        columns=tuple(column for column in columns if column.key not in empty),
        rows=tuple(map(readable, listed)),
        notes=tuple(_infer_notes(block) if infer else notes_of(block, listed)),
        hidden=(*(column for column in columns if column.key in empty), *hidden),
        caption=_made_with(block[0]),
    )


def _infer_notes(block: list[Mapping[str, Any]]) -> Iterable[str]:
    rate, width = block[0].get("peak_flops_measured"), block[0].get("bandwidth_measured")
    if rate and width:
        yield f"measured: {rate / 1e9:,.1f} GFLOP/s in matrix products, {width / 1e9:,.1f} GB/s in copies"
    yield from (f"{row['model']}, batch {row.get('batch')}: {row['error']}" for row in block if row.get("error"))


GOOD = ("ok", "oom_reduced")


def merged(group: list[dict[str, Any]]) -> dict[str, Any]:
    """The seeds of one run as one row: means, and the standard deviation of the test accuracy."""
    if len(group) == 1:
        return group[0] | {"spread": None, "seeds": 1}
    out = dict(group[0])
    for column in (*TRAINING, *TRAINING_HIDDEN):
        values = [row.get(column.key) for row in group]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values) and len(set(values)) > 1:
            out[column.key] = statistics.fmean(values)  # type: ignore[arg-type]
    accuracies = [row["test_accuracy"] for row in group if row.get("test_accuracy") is not None]
    out["spread"] = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return out | {"seeds": len(group)}


def readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with times, losses and rates rounded to four digits."""
    out = dict(row)
    for key, value in row.items():
        if not isinstance(value, float):
            continue
        if "_ms" in key or key in ("train_loss", "test_loss", "intensity", "examples_per_second"):
            out[key] = float(f"{value:.4g}")
        elif key in ("flops_per_second", "params", "peak_memory", "predicted_memory"):
            out[key] = round(value)
    return out


def title_of(row: Mapping[str, Any]) -> str:
    """`digits, recipe adam, fp32 on CPU with 1 thread`: the common part of the rows of a block."""
    what = "Inference" if row.get("kind") == "infer" else f"{row['data']}, recipe {row['recipe']}"
    world = row.get("world_size") or 1
    count = row.get("threads") if row.get("device") == "cpu" else None
    threads = f" with {count} thread{'s' if count > 1 else ''}" if count else ""
    return f"{what}, {row['precision']} on {f'{world} × ' if world > 1 else ''}{row['device_name']}{threads}"


def notes_of(
    block: list[Mapping[str, Any]], listed: list[dict[str, Any]], spread: str = "; ± is the standard deviation of the "
    "test accuracy",
) -> Iterable[str]:  # fmt: skip
    """The notes of a block. listed: the same rows, merged. spread: how the note on seeds ends."""
    if block[0].get("synthetic"):
        yield "synthetic data, made from a seed: the accuracies say nothing about the networks"
    if block[0].get("data_seen"):
        yield "the test set is the training set: there are no other examples"
    if (block[0].get("world_size") or 1) > 1 and any(row.get("batch_norm") for row in block):
        yield "batch normalisation uses each device's own part of the batch"
    seeds = {row["seeds"] for row in listed}
    if max(seeds) > 1:
        yield f"means over {max(seeds)} seeds{spread}"
    loads = [row["load_average"] for row in block if busy(row)]
    if loads:
        load = f"{min(loads):.1f}" + (f" to {max(loads):.1f}" if len(loads) > 1 else "")
        yield f"the machine was busy (a load of {load} before the runs): do not trust the rates"
    for row in block:
        if row.get("error"):
            yield f"{row['model']}: {row['error']}"
        if row.get("status") == "oom_reduced":
            yield f"{row['model']}: memory was short: {row['micro_batch']} examples at a time, {row['batch']} in a step"
            if row.get("fitting_batch"):
                yield f"{row['model']}: by the record of a step a batch of {row['fitting_batch']} fits"
            if row.get("batch_norm"):
                yield f"{row['model']} normalises over each part, not over the whole batch"
        if row.get("sample"):
            yield f"{row['model']} says {row['sample']}"
        if row.get("resumed"):
            yield f"{row['model']} was resumed; its times are the sum of all parts"
    if any((row.get("mfu") or 0) > 1 or (row.get("mfu_published") or 0) > 1 for row in listed):
        yield (
            "MFU above 100 %: the peak was measured while the machine was busy, or the library computes convolutions "
            "with fewer operations than are counted (Winograd, FFT)"
        )
    for row in listed:
        if row["status"] in GOOD and row.get("flops_per_example") is None:
            yield f"{row['model']}: some operators have no known cost, so there is no FLOP/s"


def busy(row: Mapping[str, Any]) -> bool:
    """Whether other programs used the processors when the run began."""
    return row.get("device") == "cpu" and (row.get("load_average") or 0) > (row.get("threads") or 1) + 0.5


def _made_with(row: Mapping[str, Any]) -> str:
    measured, published = row.get("peak_flops_measured"), row.get("peak_flops_published")
    text = f"Measured peak: {measured / 1e9:,.1f} GFLOP/s. " if measured else ""
    if published:
        source = str(row.get("peak_source")).partition(", ")[0]
        text += f"Published peak: {published / 1e12:,.1f} TFLOP/s ({source}). "
    return f"{text}archscope {row['archscope']}, torch {row.get('torch')}."
