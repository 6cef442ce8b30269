"""What this device does at most, measured: products of square matrices, and copies of memory.

The best of a few sizes, in about a second, kept in the user's cache by device, precision, threads and PyTorch. On a
machine that is busy the figure comes out too low, and shares of it too high.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from archscope.bench.device import Flags, name_of, synchronize
from archscope.bench.idx import cache
from archscope.core.files import save

SIZES = {"cpu": (512, 1024, 2048)}  # sides of the matrices
LARGER = (2048, 4096, 8192)
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COPIED = {"cpu": 1 << 27}  # bytes: beyond every cache
MORE = 1 << 30


def matmul_peak(device: torch.device, flags: Flags, fresh: bool = False) -> float:
    """FLOP/s of the fastest square product in this precision. The switches of the run have been thrown before."""
    dtype = DTYPES[flags.precision]

    def measured() -> float:
        rates = []
        for side in SIZES.get(device.type, LARGER):
            a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            into = torch.empty_like(a)
            rates.append(2 * side**3 / _seconds(lambda a=a, b=b, into=into: torch.mm(a, b, out=into), device))
        return max(rates)

    return _kept(f"matmul {flags.precision}", device, measured, fresh)


def bandwidth(device: torch.device, fresh: bool = False) -> float:
    """Bytes a second that a copy within the device's memory reads and writes."""

    def measured() -> float:
        count = COPIED.get(device.type, MORE)
        a = torch.zeros(count, dtype=torch.uint8, device=device)
        b = torch.empty_like(a)
        return 2 * count / _seconds(lambda: b.copy_(a), device)

    return _kept("copy", device, measured, fresh)


def _seconds(run: Callable[[], Any], device: torch.device, enough: float = 0.3) -> float:
    """The median of repeated runs, which together take about `enough` seconds, after a first that is not counted."""
    run()
    synchronize(device)
    times: list[float] = []
    while sum(times) < enough and len(times) < 100:
        begun = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _kept(what: str, device: torch.device, measured: Callable[[], float], fresh: bool) -> float:
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    key = f"{name_of(device)}{threads}, torch {torch.__version__}, {what}"
    path = cache() / "peaks.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if not fresh and isinstance(known.get(key), float):
        return known[key]
    known[key] = measured()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(json.dumps(known, indent=1) + "\n", path)
    except OSError:
        pass  # measured again next time
    return known[key]
