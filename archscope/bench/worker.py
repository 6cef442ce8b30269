"""One training job -> one row, in a process of its own."""

import os
import platform
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import archscope.bench.device as hardware
from archscope.bench import peaks
from archscope.bench.datasets.base import Lookup
from archscope.bench.device import Flags, device_of, is_out_of_memory, name_of, set_up
from archscope.bench.job import Job
from archscope.bench.loop import Diverged, Memory, Outcome, Plan, Report, summary, train
from archscope.bench.memory import largest_batch, predicted_peak
from archscope.bench.meter import share
from archscope.bench.network import built, fitted, per_example
from archscope.bench.parallel import ALONE, Group
from archscope.bench.recipes import Recipe
from archscope.core.errors import ArchscopeError
from archscope.sources.guard import user_code


def run(job: Job, group: Group = ALONE, report: Report = lambda event: None) -> dict[str, Any]:
    """Train and return the row, whatever happens, except after a kill.

    status: "ok"; "oom_reduced": memory was short, so each step ran in smaller parts; "oom", "nan", "interrupted" or
    "error", with the reason under `error` and the results of the completed epochs.
    """
    begun = time.perf_counter()
    recipe = Recipe.from_dict(job.recipe)
    flags = Flags(**job.flags)
    row = job.row() | {
        "flags": flags.to_dict(), "world_size": group.world, "threads": torch.get_num_threads(),
        "recipe_fields": recipe.to_dict(), "overrides": list(recipe.overridden),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "torch": torch.__version__, "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}", "load_average": _load(),
    }  # fmt: skip
    outcome = Outcome()
    network = device = None
    path = Path(job.checkpoints) / f"{job.key}.pt" if job.checkpoints else None
    try:
        device = device_of(job.device, group.local)
        set_up(flags, device)
        row |= {"device": device.type, "device_name": name_of(device), "threads": torch.get_num_threads()}
        lookup = Lookup(Path(job.data_dir) if job.data_dir else None, job.download)
        with user_code():
            network, data = fitted(job.model, recipe, job.data, lookup)
        forward, both = per_example(network)
        if job.data == "auto" and data.name == "digits":
            report({"event": "note", "text": "fashion-mnist is not on this machine; trains on digits"})
        row |= {
            "model": network.spec.text, "params": network.params, "input": list(network.needs.shape),
            "batch_norm": network.batch_norm, "data": data.text, "data_origin": data.origin,
            "synthetic": data.synthetic, "data_seen": data.seen,
            "train_examples": len(data.train), "test_examples": len(data.test),
            "forward_flops_per_example": forward, "flops_per_example": both,
        }  # fmt: skip
        row |= peak(device, flags, job.peak_tflops)
        batch = min(-(-recipe.batch // group.world), len(data.train))
        row["predicted_memory"] = _known(predicted_peak, network.spec, recipe, flags, device, batch)
        model = built(network.spec, recipe, job.seed)
        plan = Plan(recipe, network.needs.shape, network.layout, device, flags, job.seed, group, job.warmup, path,
                    job.resume, job.key)  # fmt: skip
        with user_code():
            train(model, data, plan, outcome, report)
        if outcome.micro_batch < min(-(-recipe.batch // group.world), outcome.examples // max(len(outcome.history), 1)):
            row["status"] = "oom_reduced"
        if path is not None and group.first:
            path.unlink(missing_ok=True)  # nothing to resume
    except KeyboardInterrupt:
        row |= {"status": "interrupted", "error": _interrupted(path, outcome)}
    except Diverged as error:
        row |= {"status": "nan", "error": str(error)}
    except Memory as error:
        row |= {"status": "oom", "error": str(error)}
    except ArchscopeError as error:
        row |= {"status": "error", "error": str(error)}
    except Exception as error:
        if os.environ.get("ARCHSCOPE_DEBUG"):
            traceback.print_exc()
        status = "oom" if is_out_of_memory(error) else "error"
        text = (str(error).strip().splitlines() or [""])[0]
        row |= {"status": status, "error": f"{type(error).__name__}: {text}"}
    if row["status"] in ("oom", "oom_reduced") and network is not None and device is not None:
        row["fitting_batch"] = fits = _known(largest_batch, network.spec, recipe, flags, device)
        if row["status"] == "oom":
            row["error"] += f"; by the record of a step a batch of {fits} fits: --batch {fits}" if fits else ""
    row |= summary(outcome) | {"wall_s": time.perf_counter() - begun}
    return row | rates(row, group.world)


def _known(derive: Callable[..., Any], *given: Any) -> Any:
    """What a record says, None where there is no record: a training does not depend on it."""
    try:
        with user_code():
            return derive(*given)
    except Exception:
        return None


def _interrupted(path: Path | None, outcome: Outcome) -> str:
    done = f"after {len(outcome.history)} epochs"
    return f"interrupted {done}; --resume goes on from there" if path and outcome.history else f"interrupted {done}"


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def peak(device: torch.device, flags: Flags, given: float = 0.0) -> dict[str, Any]:
    """The peak of one device in this precision: measured, and as published or given by the user."""
    published, source = peaks.flops_of(name_of(device), flags.precision)
    if given:
        published, source = given * 1e12, "given with --peak-tflops"
    return {
        "peak_flops_measured": hardware.matmul_peak(device, flags),
        "peak_flops_published": published,
        "peak_source": source or None,
    }


def rates(row: dict[str, Any], world: int) -> dict[str, Any]:
    """FLOP/s of all devices together and their share of the peak; None where a part is unknown."""
    speed, each = row.get("examples_per_second"), row.get("flops_per_example")
    rate = speed * each if speed and each else None
    return {
        "flops_per_second": rate,
        "mfu": share(rate, row.get("peak_flops_measured"), world),
        "mfu_published": share(rate, row.get("peak_flops_published"), world),
    }
