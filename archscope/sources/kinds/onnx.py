"""Graphs of ONNX: `model.onnx`, on the input that the graph states. Initializers are its parameters; none is read."""

from glob import glob
from typing import Any

from archscope.core.errors import SpecError
from archscope.sources.graphs.graph import read
from archscope.sources.inputs import DTYPES, Argument, of_shape
from archscope.sources.source import SOURCES, Source


@SOURCES.register("onnx")
class OnnxGraphs(Source):
    form = r".+\.onnx"
    help = "model.onnx"
    order = 7
    closed = False

    def names(self, pattern: str) -> list[str]:
        return sorted(glob(pattern))

    def keys(self, name: str) -> dict[str, Any]:
        return {}

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        from archscope.sources.graphs.network import Network

        return Network(read(name))

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
        """As the graph states them. An open first side is the batch, and 1; with another open side there is none."""
        found = []
        for each, stated in read(name).inputs.items():
            if stated.dtype not in DTYPES:
                raise SpecError(f"the input {each} of {name} is no tensor of a type that PyTorch has")
            sides = (1, *stated.shape[1:]) if stated.shape[:1] == (None,) else stated.shape
            if None in sides:
                return ()
            found.append(of_shape(tuple(side for side in sides if side is not None), stated.dtype))
        return tuple(found)
