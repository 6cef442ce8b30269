"""One job -> one row: what a process of its own does for one network."""

import os
import platform
import time
import traceback
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from archscope.bench import measure, peaks
from archscope.bench.device import Flags, device_of, is_out_of_memory, name_of, set_up
from archscope.bench.examples import Place
from archscope.bench.loop import Diverged, Memory, Outcome, Plan, Report, summary, train
from archscope.bench.network import built, fitted, per_example
from archscope.bench.parallel import ALONE, Group
from archscope.bench.recipes import Recipe
from archscope.bench.results import SCHEMA, key_of
from archscope.core.errors import ArchscopeError
from archscope.core.version import __version__


@dataclass(frozen=True)
class Job:
    """One training, as JSON carries it. data_dir, checkpoints: folders, "" for none. peak_tflops: of the device, given
    by the user, 0 where it is not. batches: of an inference run, empty for a training."""

    model: str
    recipe: dict[str, Any]
    data: str = "auto"
    data_dir: str = ""
    download: bool = False
    device: str = "auto"
    seed: int = 0
    flags: dict[str, Any] = field(default_factory=dict)
    warmup: int = 10
    checkpoints: str = ""
    resume: bool = False
    peak_tflops: float = 0.0
    batches: tuple[int, ...] = ()


def definition(job: Job) -> dict[str, Any]:
    """What decides the result of a run: two jobs with the same are the same run."""
    kept = ("model", "recipe", "data", "data_dir", "device", "seed", "flags", "batches")
    return {key: value for key, value in asdict(job).items() if key in kept} | {"schema": SCHEMA}


def run(job: Job, group: Group = ALONE, report: Report = lambda event: None) -> dict[str, Any]:
    """Train as the job says, and return the row, whatever happens but a kill: `status` says how it ended.

    status: "ok"; "oom_reduced", where memory was short and fewer examples went through at once; "oom", "nan",
    "interrupted", "error", with the reason under `error` and the figures of the epochs that were completed.
    """
    begun = time.perf_counter()
    recipe = Recipe.from_dict(job.recipe)
    flags = Flags(**job.flags)
    key = key_of(definition(job))
    row: dict[str, Any] = {
        "schema": SCHEMA, "kind": "train", "key": key, "model": job.model, "recipe": recipe.text, "data": job.data,
        "device": job.device, "device_name": job.device, "threads": torch.get_num_threads(), "epochs": recipe.epochs,
        "batch": recipe.batch, "seed": job.seed, "precision": flags.precision, "flags": flags.to_dict(),
        "world_size": group.world, "recipe_fields": recipe.to_dict(), "overrides": list(recipe.overridden),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "archscope": __version__, "torch": torch.__version__, "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}", "load_average": _load(), "status": "ok", "error": None,
    }  # fmt: skip
    outcome = Outcome()
    path = Path(job.checkpoints) / f"{key}.pt" if job.checkpoints else None
    try:
        device = device_of(job.device, group.local)
        set_up(flags, device)
        row |= {"device": device.type, "device_name": name_of(device), "threads": torch.get_num_threads()}
        network, data = fitted(
            job.model, recipe, job.data, Place(Path(job.data_dir) if job.data_dir else None, job.download)
        )
        forward, both = per_example(network)
        if job.data == "auto" and data.name == "digits":
            report({"event": "said", "text": "fashion-mnist is not on this machine; trains on digits"})
        row |= {
            "model": network.spec.text, "params": network.params, "input": list(network.wanted.shape),
            "batch_norm": network.batch_norm, "data": data.text, "data_origin": data.origin,
            "synthetic": data.synthetic, "data_seen": data.seen,
            "train_examples": len(data.train), "test_examples": len(data.test),
            "forward_flops_per_example": forward, "flops_per_example": both,
        }  # fmt: skip
        row |= peak(device, flags, job.peak_tflops)
        model = built(network.spec, recipe, job.seed)
        plan = Plan(recipe, network.wanted.shape, network.layout, device, flags, job.seed, group, job.warmup, path,
                    job.resume, key)  # fmt: skip
        train(model, data, plan, outcome, report)
        if outcome.micro_batch < min(-(-recipe.batch // group.world), outcome.examples // max(len(outcome.history), 1)):
            row["status"] = "oom_reduced"
        if path is not None and group.first:
            path.unlink(missing_ok=True)  # it is done: nothing to resume
    except KeyboardInterrupt:
        row |= {"status": "interrupted", "error": _kept_at(path, outcome)}
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
    row |= summary(outcome) | {"wall_s": time.perf_counter() - begun}
    return row | rates(row, group.world)


def _kept_at(path: Path | None, outcome: Outcome) -> str:
    done = f"after {len(outcome.history)} epochs"
    return f"interrupted {done}; --resume goes on from there" if path and outcome.history else f"interrupted {done}"


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def peak(device: torch.device, flags: Flags, given: float = 0.0) -> dict[str, Any]:
    """What one device does at most in this precision: measured, and as published or given by the user."""
    published, source = peaks.flops_of(name_of(device), flags.precision)
    if given:
        published, source = given * 1e12, "given with --peak-tflops"
    return {
        "peak_flops_measured": measure.matmul_peak(device, flags),
        "peak_flops_published": published,
        "peak_source": source or None,
    }


def rates(row: dict[str, Any], world: int) -> dict[str, Any]:
    """FLOP/s of all devices together, and the share of what they do at most; None where a part of it is unknown."""
    speed, each = row.get("examples_per_second"), row.get("flops_per_example")
    rate = speed * each if speed and each else None

    def share(most: float | None) -> float | None:
        return rate / (most * world) if rate and most else None

    return {
        "flops_per_second": rate,
        "mfu": share(row.get("peak_flops_measured")),
        "mfu_published": share(row.get("peak_flops_published")),
    }
