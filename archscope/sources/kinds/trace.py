"""Saved traces: `archscope trace MODEL --save t.json`, later `archscope trace t.json`. Needs no torch."""

from glob import glob
from pathlib import Path
from typing import Any

from archscope.core.errors import SpecError
from archscope.core.record import Trace
from archscope.core.registry import PROVIDED
from archscope.sources.inputs import Argument, of_shape
from archscope.sources.source import SOURCES, Source


@SOURCES.register("trace")
class SavedTraces(Source):
    form = r".+\.json"
    help = "trace.json"
    order = 10
    closed = False
    saved = True

    def names(self, pattern: str) -> list[str]:
        return sorted(glob(pattern))

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        raise SpecError(f"{name} is a record of a run: there is no model in it to build")

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
        return tuple(of_shape(tensor.shape, tensor.dtype) for tensor in read(name).inputs)

    def keys(self, name: str) -> dict[str, Any]:
        return {}

    def record(self, name: str) -> Trace:
        return read(name)


def read(path: str) -> Trace:
    """The record in a file. Raises SpecError where there is none."""
    try:
        return PROVIDED["soundness"](Trace.from_json(Path(path)))
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SpecError(f"{path} is no record of archscope: {error}") from error
