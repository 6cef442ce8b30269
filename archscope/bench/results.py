"""Rows: one a run, kept as JSON lines, and the tables made of them. Needs no torch.

A row is a flat JSON object with raw values: seconds, milliseconds where the key says ms, bytes, FLOP/s, shares in 0 to
1, null where something is unknown. `schema` is the version of its keys. A file of rows is only ever appended to, each
row by one write.
"""

import hashlib
import json
import math
import os
import statistics
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from archscope.core.errors import SpecError
from archscope.core.table import Column, Table, unknown

SCHEMA = 1

MFU = "MFU: 2·MACs of forward and backward a second, as a share of the fastest matrix product measured on this device."
WAIT = "Data wait: share of the time in which the next batch was made."
MEMORY = "Memory: the most that tensors took on an accelerator, or the whole process on a CPU."
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
    Column("flops_per_second", "FLOP/s", "scaled", priority=5),
    Column("mfu", "MFU", "share", priority=2, means=MFU),
    Column("mfu_published", "of published", "share", priority=7),
    Column("flags", "Flags", priority=3),
    Column("status", "Status", priority=2),
)
TRAINING_HIDDEN = tuple(
    Column(key, key)
    for key in """recipe data device device_name world_size precision seed seeds batch micro_batch epochs_done
    validation_accuracy test_loss best_epoch train_s eval_s warmup_s compile_s prepare_s wall_s peak_memory_process
    flops_per_example peak_flops_measured peak_flops_published peak_source synthetic resumed sample error key schema
    torch archscope""".split()
)
INFERENCE = (
    Column("model", "Model"),
    Column("batch", "Batch", "count"),
    Column("examples_per_second", "Examples/s", "scaled"),
    Column("latency_ms_p50", "Latency p50", "count", unit="ms"),
    Column("latency_ms_p90", "p90", "count", unit="ms", priority=5),
    Column("latency_ms_p99", "p99", "count", unit="ms", priority=4),
    Column("flops_per_second", "FLOP/s", "scaled", priority=3),
    Column("intensity", "FLOP/B", "count", priority=4, means="FLOP/B: operations a byte that is read or written."),
    Column("roofline_ms", "Roofline", "count", unit="ms", priority=1,
           means="Roofline: least time by the trace at the measured peak and bandwidth."),
    Column("roofline_share", "Reached", "share", priority=1),
    Column("bound", "Bound by", priority=2),
    Column("status", "Status", priority=2),
)  # fmt: skip
INFERENCE_HIDDEN = tuple(
    Column(key, key)
    for key in """device device_name precision params flops_per_example peak_flops_measured bandwidth_measured
    bandwidth_published flags error schema torch archscope""".split()
)

# rows that differ in one of these never stand in one table
APART = ("kind", "schema", "data", "recipe", "device_name", "world_size", "threads", "precision")
# by what the rows of a file are chosen: FILE@recipe=d2l
CHOOSE = ("model", "data", "recipe", "device", "device_name", "world_size", "threads", "precision", "seed", "flags",
          "status", "kind")  # fmt: skip


def key_of(definition: Mapping[str, Any]) -> str:
    """A short name for what defines a run: the same for the same model, recipe, data, seed, device and flags."""
    text = json.dumps(definition, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def append(path: str | Path, row: Mapping[str, Any]) -> None:
    """Add a row to a file by one write, and see that it is on the disk. A line that another program left unfinished is
    ended first. Raises SpecError where that cannot be done."""
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
    """A value as JSON knows it; what is no number (NaN, infinity) is null."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """The rows of files in order; a last line that was never finished is left out. `FILE@recipe=d2l@model=vgg*` are
    the rows of that recipe and those models. Raises SpecError for other text, and where nothing is left."""
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
        text = Path(os.path.expanduser(path)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "it is no text"
        raise SpecError(f"cannot read {path}: {what}") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            schema = row["schema"]
        except (ValueError, KeyError, TypeError):
            if number == len(text.splitlines()) and not text.endswith("\n"):
                continue
            raise SpecError(f"{path}, line {number}, is no row of archscope bench") from None
        if schema > SCHEMA:
            raise SpecError(f"{path}, line {number}, has schema {schema}; this archscope reads up to {SCHEMA}")
        yield row


def _chosen(text: str) -> tuple[str, dict[str, str]]:
    """File and conditions of `FILE@key=value…`; recipes, data sets and devices have an @ of their own."""
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
    """Which condition no row of the file meets, and what its rows have there."""
    rows = list(_rows(path))
    for key, value in chosen.items():
        there = sorted({str(shown(row).get(key)) for row in rows})
        if not any(_is(row, key, value) for row in rows):
            return f"no row of {path} has {key}={value}; there is {', '.join(there)}"
    return f"no row of {path} is all of {', '.join(f'{key}={value}' for key, value in chosen.items())}"


def blocks(rows: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The rows by what keeps them apart, in the order of their first."""
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(str(row.get(key)) for key in APART), []).append(row)
    return list(found.values())


def trainings(rows: Iterable[Mapping[str, Any]], what: str) -> list[Mapping[str, Any]]:
    """The rows of trainings. Raises SpecError, naming what needs them, where there is none."""
    found = [row for row in rows if row.get("kind") != "infer"]
    if not found:
        raise SpecError(f"{what} shows trainings, and these rows are of `bench --infer`")
    return found


def groups(block: Iterable[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows of a block by model and flags: runs of several seeds together, each failure alone."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in map(shown, block):
        alone = row["status"] not in GOOD
        found.setdefault((row["model"], row["flags"], row["key"] if alone else ""), []).append(row)
    return list(found.values())


def tables(rows: Iterable[Mapping[str, Any]]) -> list[Table]:
    """The rows as tables: one for each device, precision, recipe and data set, never two of them in one. Runs that
    differ in their seed alone are one row, with the mean and, of the test accuracy, the standard deviation."""
    return [_infer_table(block) if block[0].get("kind") == "infer" else _train_table(block) for block in blocks(rows)]


def whole(rows: Iterable[Mapping[str, Any]]) -> Table:
    """All rows in one table, each with every key, for the formats that machines read."""
    listed = [shown(row) for row in rows]
    infer = bool(listed) and all(row.get("kind") == "infer" for row in listed)
    columns, hidden = (INFERENCE, INFERENCE_HIDDEN) if infer else (TRAINING, TRAINING_HIDDEN)
    if not infer:
        columns = tuple(column for column in columns if column.key != "spread")
    return Table("", columns, tuple(listed), hidden=hidden)


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
    """The learning curves: a row an epoch of every run. Raises SpecError where no run has completed one."""
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
    said = [key.replace("_", "-") for key in ("channels_last", "deterministic") if flags.get(key)]
    if flags.get("compile"):
        said.append(f"compile={flags['compile']}")
    if flags.get("fused") is False:
        said.append("no-fused")
    return {**row, "flags": " ".join(said)}


def _train_table(block: list[Mapping[str, Any]]) -> Table:
    listed = [merged(group) for group in groups(block)]
    return Table(
        title=title_of(block[0]),
        columns=tuple(column for column in TRAINING if column.key not in _same(listed)),
        rows=tuple(readable(row) for row in listed),
        notes=tuple(notes_of(block, listed)),
        hidden=tuple(c for c in (*TRAINING, *TRAINING_HIDDEN) if c.key in _same(listed) or c in TRAINING_HIDDEN),
        caption=_made_with(block),
    )


def _infer_table(block: list[Mapping[str, Any]]) -> Table:
    first = block[0]
    rate, width = first.get("peak_flops_measured"), first.get("bandwidth_measured")
    well = all(row["status"] == "ok" for row in block)
    return Table(
        title=title_of(first),
        columns=tuple(column for column in INFERENCE if column.key != "status" or not well),
        rows=tuple(readable(shown(row)) for row in block),
        hidden=tuple(
            c for c in (*INFERENCE, *INFERENCE_HIDDEN) if c in INFERENCE_HIDDEN or (well and c.key == "status")
        ),
        notes=(
            *(
                [f"measured: {rate / 1e9:,.1f} GFLOP/s in matrix products, {width / 1e9:,.1f} GB/s in copies"]
                if rate and width
                else []
            ),
            *(f"{row['model']}, batch {row['batch']}: {row['error']}" for row in block if row.get("error")),
        ),
        caption=_made_with(block),
    )


GOOD = ("ok", "oom_reduced")


def merged(group: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs of one kind as one row: means, and the standard deviation of the test accuracy."""
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


def _same(listed: list[dict[str, Any]]) -> set[str]:
    """Columns that would say nothing: no spread without seeds, no status where all is well, no flags where none is."""
    empty = {key for key in ("spread", "flags", "mfu_published") if not any(row.get(key) for row in listed)}
    return empty | ({"status"} if all(row["status"] == "ok" for row in listed) else set())


def readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Times, losses and rates with the digits that they are good for."""
    out = dict(row)
    for key, value in row.items():
        if isinstance(value, float) and (
            "_ms" in key or key in ("train_loss", "test_loss", "intensity", "examples_per_second")
        ):
            out[key] = float(f"{value:.4g}")
        if key in ("flops_per_second", "params", "peak_memory") and isinstance(value, float):
            out[key] = round(value)
    return out


def title_of(row: Mapping[str, Any]) -> str:
    """`digits, recipe adam, fp32 on CPU with 1 thread`: what the rows of a block have in common."""
    what = "Inference" if row.get("kind") == "infer" else f"{row['data']}, recipe {row['recipe']}"
    world = row.get("world_size") or 1
    count = row.get("threads") if row.get("device") == "cpu" else None
    threads = f" with {count} thread{'s' if count > 1 else ''}" if count else ""
    return f"{what}, {row['precision']} on {f'{world} × ' if world > 1 else ''}{row['device_name']}{threads}"


def notes_of(
    block: list[Mapping[str, Any]], listed: list[dict[str, Any]], spread: str = "; ± is the standard deviation of the "
    "test accuracy",
) -> Iterable[str]:  # fmt: skip
    """What is to be said of the rows of a block. listed: the same, merged. spread: what is said of their spread."""
    if block[0].get("synthetic"):
        yield "synthetic data, made by a seed: the accuracies say nothing about the networks"
    if block[0].get("data_seen"):
        yield "tested on what was learned: there are no other examples"
    if (block[0].get("world_size") or 1) > 1 and any(row.get("batch_norm") for row in block):
        yield "batch normalisation takes each device's own part of the batch"
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
            if row.get("batch_norm"):
                yield f"{row['model']} normalises over those that go through at once, not over the whole batch"
        if row.get("sample"):
            yield f"{row['model']} says {row['sample']}"
        if row.get("resumed"):
            yield f"{row['model']} was resumed; its times are the sum of the parts"
    if any((row.get("mfu") or 0) > 1 or (row.get("mfu_published") or 0) > 1 for row in listed):
        yield (
            "MFU above 100 %: the peak was measured while the machine was busy, or the library computes convolutions "
            "with fewer operations than are counted (Winograd, FFT)"
        )
    for row in listed:
        if row["status"] in GOOD and row.get("flops_per_example") is None:
            yield f"{row['model']}: some operators have no known cost, so there is no FLOP/s"


def busy(row: Mapping[str, Any]) -> bool:
    """Whether others computed on the same processors as the run began."""
    return row.get("device") == "cpu" and (row.get("load_average") or 0) > (row.get("threads") or 1) + 0.5


def _made_with(block: list[Mapping[str, Any]]) -> str:
    first = block[0]
    texts = []
    if first.get("peak_flops_measured"):
        texts.append(f"Measured peak: {first['peak_flops_measured'] / 1e9:,.1f} GFLOP/s.")
    if first.get("peak_flops_published"):
        source = str(first.get("peak_source")).partition(", ")[0]
        texts.append(f"Published peak: {first['peak_flops_published'] / 1e12:,.1f} TFLOP/s ({source}).")
    texts.append(f"archscope {first['archscope']}, torch {first['torch']}.")
    return " ".join(texts)
