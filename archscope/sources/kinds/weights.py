"""Files of weights: `model.safetensors`, `model.safetensors.index.json`, `model.gguf`. Only headers are read."""

from glob import glob
from pathlib import Path
from typing import Any

from archscope.core.errors import SpecError
from archscope.core.weights import Weights
from archscope.sources.source import SOURCES, Source
from archscope.sources.weights import gguf, safetensors
from archscope.sources.weights.packings import with_parameters


@SOURCES.register("weights")
class WeightFiles(Source):
    form = r".+\.(safetensors|gguf)|.+\.safetensors\.index\.json"
    help = "model.safetensors"
    order = 8
    closed = False
    only_weights = True

    def names(self, pattern: str) -> list[str]:
        return sorted(glob(pattern))

    def keys(self, name: str) -> dict[str, Any]:
        return {}

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        raise SpecError(
            f"{name} has weights and no operators, so there is nothing to run: `archscope trace {name}` shows its "
            f"tensors, `archscope table {name}` adds them up, `archscope verify MODEL --file {name}` compares them"
        )

    def weights(self, name: str) -> Weights:
        if name.endswith(".gguf"):
            return Weights(name, "GGUF", tuple(gguf.read(name)))
        indexed = name.endswith(".json")
        tensors = safetensors.read_index(name) if indexed else safetensors.read(name)
        found, notes = with_parameters(tensors, Path(name).expanduser().parent / "config.json")
        return Weights(name, "safetensors", tuple(found), tuple(notes))
