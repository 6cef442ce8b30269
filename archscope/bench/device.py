"""The device, by `torch.accelerator`: choose, name, synchronize, time, memory, measured peaks, and the flags of a run.

No flag changes the recipe. Each is recorded in the row.
"""

import ctypes
import gc
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from archscope.bench.datasets import cache_folder
from archscope.bench.peaks import PRECISIONS
from archscope.core import files, limits
from archscope.core.errors import SpecError
from archscope.core.files import save


@dataclass(frozen=True)
class Flags:
    """precision: fp32 uses IEEE float32 in every product, tf32 uses TF32; bf16 and fp16 use autocast. compile: a mode
    of `torch.compile`, or "". fused: one kernel for all parameters in the optimiser's step. threads: of the CPU, 0 for
    PyTorch's choice.
    """

    precision: str = "fp32"
    channels_last: bool = False
    compile: str = ""
    fused: bool = True
    deterministic: bool = False
    threads: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


PLAIN = Flags()


def device_of(text: str, local: int = 0) -> torch.device:
    """ "auto": the accelerator where there is one, else the CPU. local: which of several. Raises SpecError."""
    if text == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device(found.type, local) if found is not None else torch.device("cpu")
    try:
        device = torch.device(text)
    except RuntimeError:
        raise SpecError(f"no device is called {text!r}: auto, cpu, cuda, cuda:1, mps or xpu") from None
    if device.type == "cpu":
        return torch.device("cpu")
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if here is None or here.type != device.type:
        raise SpecError(f"there is no {device.type} here: {f'--device {here.type} or ' if here else ''}--device cpu")
    index = device.index if device.index is not None else local
    if index >= torch.accelerator.device_count():
        raise SpecError(f"there is no {device.type}:{index}: this machine has {torch.accelerator.device_count()}")
    return torch.device(device.type, index)


def name_of(device: torch.device) -> str:
    """The device's own name: "NVIDIA H100 80GB HBM3", "Intel(R) Xeon(R) …"."""
    if device.type == "cpu":
        return _processor()
    kind = getattr(torch, device.type)
    return kind.get_device_name(device) if hasattr(kind, "get_device_name") else f"{device.type} of {_processor()}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def set_up(flags: Flags, device: torch.device) -> None:
    """Apply the flags to this process. Raises SpecError for a precision that the device lacks."""
    if flags.precision not in PRECISIONS:
        raise SpecError(f"no precision is called {flags.precision!r}: {', '.join(PRECISIONS)}")
    if device.type == "cpu" and flags.precision in ("tf32", "fp16"):
        raise SpecError(f"a CPU has no {flags.precision} to train in: --precision fp32 or bf16")
    if flags.threads:
        torch.set_num_threads(flags.threads)
    if device.type == "cpu":
        keep_freed_memory()
    else:
        torch.accelerator.set_device_index(device.index or 0)
    if device.type == "cuda":
        # PyTorch's default uses TF32 in convolutions but not in products; here it is both or neither
        torch.set_float32_matmul_precision("high" if flags.precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = flags.precision == "tf32"
        torch.backends.cudnn.benchmark = not flags.deterministic
    if flags.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if flags.deterministic != torch.are_deterministic_algorithms_enabled():  # asking imports PyTorch's compiler
        torch.use_deterministic_algorithms(flags.deterministic)


def autocast(flags: Flags, device: torch.device) -> Any:
    """A new context for one forward pass."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(flags.precision)
    return torch.autocast(device.type, dtype=kind or torch.bfloat16, enabled=kind is not None)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


# ---------------------------------------------------------------------------------------------------------- time


class Clock:
    """Step times in milliseconds, from a mark at each boundary. On an accelerator a mark is an event in its stream, so
    the CPU does not wait; on the CPU it is the wall clock."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[Any] = []

    def mark(self) -> None:
        """The boundary between two steps."""
        if self.device.type == "cpu":
            self.marks.append(time.perf_counter())
            return
        event = torch.Event(self.device, enable_timing=True)
        event.record()
        self.marks.append(event)

    def steps(self) -> list[float]:
        """Milliseconds between the marks, which are then cleared. Call `synchronize` first."""
        pairs = list(zip(self.marks, self.marks[1:], strict=False))
        self.marks = []
        if self.device.type == "cpu":
            return [(after - before) * 1e3 for before, after in pairs]
        return [before.elapsed_time(after) for before, after in pairs]


def quantile(values: list[float], share: float) -> float | None:
    """The quantile by nearest rank; None if there are no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))] if ordered else None


# -------------------------------------------------------------------------------------------------------- memory


def _counts(device: torch.device) -> bool:
    """Whether the device counts its allocated memory; Apple's does not."""
    return device.type not in ("cpu", "mps")


def forget_peak(device: torch.device) -> None:
    """Reset the peak, if the device can. The peak of a process never falls."""
    if _counts(device):
        torch.accelerator.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, int | None]:
    """Bytes. peak_memory: tensors on an accelerator, or the whole process on a CPU. peak_memory_reserved: held by the
    accelerator's allocator. peak_memory_process: resident in main memory, None on Windows."""
    process = _resident()
    if not _counts(device):
        own = process if device.type == "cpu" else None
        return {"peak_memory": own, "peak_memory_reserved": None, "peak_memory_process": process}
    return {
        "peak_memory": torch.accelerator.max_memory_allocated(device),
        "peak_memory_reserved": torch.accelerator.max_memory_reserved(device),
        "peak_memory_process": process,
    }


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that a device has, or that are free on the CPU; None where it does not say."""
    if device.type == "cpu":
        try:
            lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        except (OSError, StopIteration):
            return None
    properties = getattr(getattr(torch, device.type), "get_device_properties", None)
    return getattr(properties(device), "total_memory", None) if properties is not None else None


def _resident() -> int | None:
    """The most memory that this process had, in bytes. What `getrusage` says begins on Linux with the peak of the
    process that started this one, as large as that may be."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on an accelerator or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next step, in this process. False if another library allocates.

    By default glibc may return the activations to the system after each step, and the next step then fetches and clears
    every page again.
    """
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  only glibc has this symbol
        library.mallopt(M_TRIM_THRESHOLD, KEEP)
        return any(library.mallopt(M_MMAP_THRESHOLD, size) for size in (KEEP, 32 << 20))  # older ones take 32 MiB
    except (AttributeError, OSError, TypeError):
        return False


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEEP = 1 << 30  # bytes


def release(device: torch.device) -> None:
    """Free unused memory."""
    gc.collect()
    if _counts(device):
        torch.accelerator.empty_cache()


# --------------------------------------------------------------------------------------------------- measured peaks

# The best of a few sizes, in about a second, cached by device, precision, threads and PyTorch. On a busy machine the
# result is too low, and shares of it are too high.
SIZES = {"cpu": (512, 1024, 2048)}  # sides of the matrices
LARGER = (2048, 4096, 8192)
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COPIED = {"cpu": 1 << 27}  # bytes: beyond every cache
MORE = 1 << 30


def matmul_peak(device: torch.device, flags: Flags) -> float:
    """FLOP/s of the fastest square product in this precision. Call it after `set_up`."""
    dtype = DTYPES[flags.precision]

    def measured() -> float:
        rates = []
        for side in SIZES.get(device.type, LARGER):
            a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            into = torch.empty_like(a)
            rates.append(2 * side**3 / _seconds(lambda a=a, b=b, into=into: torch.mm(a, b, out=into)))
        return max(rates)

    return _cached(f"matmul {flags.precision}", device, measured)


def bandwidth(device: torch.device) -> float:
    """Bytes per second that a copy within the device's memory reads and writes."""

    def measured() -> float:
        count = COPIED.get(device.type, MORE)
        a = torch.zeros(count, dtype=torch.uint8, device=device)
        b = torch.empty_like(a)
        return 2 * count / _seconds(lambda: b.copy_(a))

    return _cached("copy", device, measured)


def _seconds(run: Callable[[], Any]) -> float:
    """The median of repeated runs, about 0.3 s of them."""
    # the timer imports it, and it warns where there is a CUDA compiler and no card
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=0.3).median


def _cached(what: str, device: torch.device, measured: Callable[[], float]) -> float:
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    key = f"{name_of(device)}{threads}, torch {torch.__version__}, {what}"
    path = cache_folder() / "peaks.json"
    try:
        known = json.loads(files.text(path, limits.SETTINGS))
    except (OSError, ValueError, RecursionError):
        known = {}
    known = known if isinstance(known, dict) else {}
    if isinstance(known.get(key), float):
        return known[key]
    known[key] = measured()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(json.dumps(known, indent=1) + "\n", path)
    except OSError:
        pass  # measured again next time
    return known[key]
