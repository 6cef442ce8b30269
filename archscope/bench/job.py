"""A job: one training, or one inference run, as it is sent to a process of its own. Nothing here imports torch."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from archscope.bench.recipes import Recipe
from archscope.bench.row_schema import SCHEMA
from archscope.core.version import __version__

DEFINES = ("model", "recipe", "data", "data_dir", "device", "seed", "flags", "batches")  # the result of a run


@dataclass(frozen=True)
class Job:
    """data_dir, checkpoints: folders, or "". peak_tflops: the device's peak as the user gave it, or 0. batches: batch
    sizes of an inference run; empty for a training."""

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

    def to_json(self) -> str:
        """The job as text; `from_json` returns an equal job."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        body = json.loads(text)
        return cls(**body | {"batches": tuple(body.get("batches", ()))})

    @property
    def key(self) -> str:
        """The name of the run: two jobs with equal DEFINES are the same run."""
        return key_of({name: getattr(self, name) for name in DEFINES} | {"schema": SCHEMA})

    def row(self) -> dict[str, Any]:
        """The row as far as it is known before the job runs."""
        row: dict[str, Any] = {
            "schema": SCHEMA, "kind": "infer" if self.batches else "train", "key": self.key, "model": self.model,
            "recipe": "", "data": "", "device": self.device, "device_name": self.device, "threads": None,
            "world_size": 1, "precision": self.flags.get("precision", "fp32"), "flags": self.flags, "seed": self.seed,
            "archscope": __version__, "torch": None, "status": "ok", "error": None,
        }  # fmt: skip
        if self.batches:
            return row
        recipe = Recipe.from_dict(self.recipe)
        return row | {"recipe": recipe.text, "data": self.data, "epochs": recipe.epochs, "batch": recipe.batch}


def key_of(definition: Mapping[str, Any]) -> str:
    """A short name for what defines a run, the same in every process and on every machine."""
    text = json.dumps(definition, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ
