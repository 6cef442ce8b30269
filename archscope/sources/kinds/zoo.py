"""The networks of archscope's own zoo."""

from collections.abc import Iterable
from typing import Any

from archscope.sources.inputs import Argument, Input, shape_and_dtype
from archscope.sources.source import SOURCES, Source
from archscope.zoo.catalogue import build, entries


@SOURCES.register("zoo")
class Zoo(Source):
    help = "NAME"
    order = 0

    def names(self, pattern: str) -> Iterable[str]:
        return entries()

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        return build(name, **arguments)

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
        shape, dtype = shape_and_dtype(entries()[name].input)
        return (Argument(Input(tuple(shape), dtype), entries()[name].layout),)

    def keys(self, name: str) -> dict[str, Any]:
        return entries()[name].keys

    def published(self, name: str) -> dict[str, Any]:
        entry = entries()[name]
        return {"params": entry.params, "macs": entry.macs, "paper": entry.paper}
