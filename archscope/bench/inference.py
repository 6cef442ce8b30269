"""Inference at several batch sizes, compared with the roofline from the trace.

Roofline (Williams et al., CACM 52(4), 2009): an operator takes at least its operations at the measured peak rate, or
its bytes at the measured bandwidth, whichever is longer.
"""

import time
from collections.abc import Iterator
from typing import Any

import torch

from archscope.analysis.metrics import totals
from archscope.analysis.observed import works
from archscope.bench.device import (
    Clock,
    Flags,
    autocast,
    bandwidth,
    device_of,
    is_out_of_memory,
    matmul_peak,
    name_of,
    quantile,
    set_up,
    synchronize,
)
from archscope.bench.job import Job
from archscope.bench.network import built
from archscope.bench.peaks import peak_of
from archscope.bench.recipes import Recipe
from archscope.core.errors import ArchscopeError
from archscope.core.record import Trace
from archscope.operators import VIEWS
from archscope.sources.loading import inputs_of
from archscope.sources.records import record_of
from archscope.sources.spec import parse

ENOUGH = 1.0  # seconds for each batch size
MOST = 200  # steps for each


def infer(job: Job) -> Iterator[dict[str, Any]]:
    """A row per batch size: throughput, latency, operations per byte, and the roofline. Weights are random."""
    recipe = Recipe.from_dict(job.recipe)
    flags = Flags(**job.flags)
    base = job.row() | {
        "flags": flags.to_dict(), "torch": torch.__version__, "threads": torch.get_num_threads(),
    }  # fmt: skip
    try:
        device = device_of(job.device)
        set_up(flags, device)
        base |= {"device": device.type, "device_name": name_of(device), "threads": torch.get_num_threads()}
        base |= {"peak_flops_measured": matmul_peak(device, flags), "bandwidth_measured": bandwidth(device)}
        published = peak_of(name_of(device))
        base["bandwidth_published"] = published.bandwidth * 1e9 if published and published.bandwidth else None
        yield from _rows(job, recipe, flags, device, base)
    except ArchscopeError as error:
        yield base | {"batch": job.batches[0], "status": "error", "error": str(error)}


def _rows(
    job: Job, recipe: Recipe, flags: Flags, device: torch.device, base: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    spec = parse(job.model)
    side = str(recipe.side) if recipe.side else None
    given = inputs_of(spec, side)
    if len(given) != 1 or given[0].listed or "n" not in given[0].layout:
        raise ArchscopeError(f"{spec.text} does not take exactly one input with a batch axis, which bench needs")
    model = built(spec, recipe, job.seed).to(device).eval()
    if flags.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    quick = torch.compile(model, mode=flags.compile) if flags.compile else model
    for batch in job.batches:
        record = record_of(spec, side, batch)
        total = totals(record)
        known = not total["unknown"]
        flops = 2 * total["macs"] if known else None
        moved = sum(bytes_of(record))
        row = base | {"batch": batch, "params": total["params"], "flops_per_example": flops and flops // batch}
        least = roofline(record, base["peak_flops_measured"], base["bandwidth_measured"])
        if least is not None:
            work = sum(w.flops for w in works(record) if w is not None)
            row |= {"intensity": work / moved, "roofline_ms": least * 1e3}
            row["bound"] = (
                "memory" if work / base["peak_flops_measured"] < moved / base["bandwidth_measured"] else "compute"
            )
        shape, dtype = record.inputs[0].shape, getattr(torch, record.inputs[0].dtype)
        x = (
            torch.randn(shape, device=device)
            if dtype.is_floating_point
            else torch.zeros(shape, dtype=dtype, device=device)
        )
        if flags.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        try:
            times = _times(quick, x, flags, device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise ArchscopeError(f"{spec.text}: {type(error).__name__}: {str(error).splitlines()[0]}") from error
            yield row | {"status": "oom", "error": "memory ran out"}
            return
        typical = quantile(times, 0.5)
        assert typical is not None
        rate = batch / typical * 1e3
        row |= {f"latency_ms_p{q}": quantile(times, q / 100) for q in (50, 90, 99)}
        row |= {"examples_per_second": rate, "flops_per_second": flops and flops / typical * 1e3}
        if row.get("roofline_ms"):
            row["roofline_share"] = row["roofline_ms"] / typical
        yield row


def _times(model: Any, x: torch.Tensor, flags: Flags, device: torch.device) -> list[float]:
    """Milliseconds of single passes, with a synchronization after each; the first three are not counted."""
    clock = Clock(device)
    with torch.inference_mode(), autocast(flags, device):
        for _ in range(3):
            model(x)
        synchronize(device)
        begun = time.perf_counter()
        clock.mark()
        for _ in range(MOST):
            model(x)
            clock.mark()
            synchronize(device)
            if time.perf_counter() - begun > ENOUGH:
                break
    return clock.steps()


def bytes_of(trace: Trace) -> list[int]:
    """Bytes that each operator reads and writes, each tensor once; 0 for a view. Caches are ignored."""
    return [
        0 if op.name in VIEWS else sum({t.id: t.nbytes for t in (*op.inputs, *op.outputs)}.values()) for op in trace.ops
    ]


def roofline(trace: Trace, flops_per_second: float, bytes_per_second: float) -> float | None:
    """Minimal seconds of the trace: each operator is limited by the device's rate or by its memory bandwidth.

    Williams et al., CACM 52(4), 2009. None if the cost of an operator is unknown.
    """
    seconds = 0.0
    for work, count in zip(works(trace), bytes_of(trace), strict=True):
        if work is None:
            return None
        seconds += max(work.flops / flops_per_second, count / bytes_per_second)
    return seconds
