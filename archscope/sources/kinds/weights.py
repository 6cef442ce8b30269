"""Files of weights: `model.safetensors`, `model.safetensors.index.json`, `model.gguf`. Only headers are read."""

from glob import glob
from typing import Any

from archscope.core.errors import SpecError
from archscope.core.weights import Weights
from archscope.sources.source import SOURCES, Source
from archscope.sources.weights.files import weights_of


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
        return weights_of([name])
