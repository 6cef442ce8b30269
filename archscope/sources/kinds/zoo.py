"""The networks of archscope's own zoo."""

from typing import Any

from archscope.sources.inputs import Given, Input, shape_and_dtype
from archscope.sources.spec import Source, source
from archscope.zoo import catalogue as registry


@source("zoo")
def enter() -> Source:
    return Source(
        names=lambda pattern: registry.entries(),
        build=lambda name, arguments: registry.build(name, **arguments),
        inputs=_inputs,
        keys=lambda name: registry.entries()[name].keys,
        published=_published,
    )


def _inputs(name: str, arguments: dict[str, Any]) -> tuple[Given, ...]:
    entry = registry.entries()[name]
    shape, dtype = shape_and_dtype(entry.input)
    return (Given(Input(tuple(shape), dtype), entry.layout),)


def _published(name: str) -> dict[str, Any]:
    entry = registry.entries()[name]
    return {"params": entry.params, "macs": entry.macs, "paper": entry.paper}
