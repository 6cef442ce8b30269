"""The memory of a training before it runs: its peak by the record of a step, and the largest batch that fits."""

from typing import Any

import torch

from archscope.analysis.training import peak
from archscope.bench.device import Flags, memory_of
from archscope.bench.prepare import RESIDENT
from archscope.bench.recipes import Recipe
from archscope.core.errors import SpecError
from archscope.shapes.fit import CONTEXT, largest, steps_of
from archscope.sources.records import step_of
from archscope.sources.spec import Spec


def conditions(recipe: Recipe, flags: Flags, device: torch.device) -> dict[str, Any]:
    """How the training loop runs a step, as arguments of `trace_step`."""
    on_cpu, half = device.type == "cpu", flags.precision in ("bf16", "fp16")
    return {
        "optimizer": "momentum" if recipe.optimizer == "sgd" and recipe.momentum else recipe.optimizer,
        "implementation": "fused" if flags.fused else "for-loop" if on_cpu else "foreach",
        "precision": f"{flags.precision}-mixed" if half else "fp32",
        "channels_last": flags.channels_last,
        "device": "cpu" if on_cpu else "cuda",
        "attention": "cpu-flash" if on_cpu else "flash" if half else "efficient",
    }


def predicted_peak(spec: Spec, recipe: Recipe, flags: Flags, device: torch.device, batch: int) -> int:
    """The most bytes that the tensors of a training step hold; the data set is not among them."""
    return peak(step_of(spec, side_of(recipe), batch, **conditions(recipe, flags, device))).nbytes


def largest_batch(spec: Spec, recipe: Recipe, flags: Flags, device: torch.device) -> int | None:
    """The largest batch whose step fits the memory of a device, as `archscope fit` has it; None: not even 1.

    Left free are what CUDA takes for itself, and the most that the data set takes on the device. Raises SpecError where
    the device does not say how much memory it has.
    """
    memory = memory_of(device)
    if memory is None:
        raise SpecError(f"how much memory {device.type} has is not known: write --batch N")
    record = steps_of(spec, side_of(recipe), "batch", None, conditions(recipe, flags, device))
    return largest(record, max(memory - CONTEXT - RESIDENT, 0)).largest


def side_of(recipe: Recipe) -> str | None:
    """The side of the input, as an option has it; None: the network's own."""
    return str(recipe.side) if recipe.side else None
