"""`timm:efficientnet_b0`: the models of timm, each on its own default input."""

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Any

from archscope.core.errors import SpecError
from archscope.sources.inputs import Argument, Input
from archscope.sources.source import REGISTERED, SOURCES, Source, in_files


@SOURCES.register("timm")
class Timm(Source):
    help = "timm:NAME"
    order = 2

    def names(self, pattern: str) -> Iterable[str]:
        return _names()

    def names_in_files(self) -> frozenset[str]:
        return in_files("timm", "models/**/*.py", REGISTERED)

    def has(self, name: str) -> bool:
        """Also with the tag of its weights, `resnet50.a1_in1k`, which may come with other classes or an input."""
        return name in _names() or ("." in name and name in _timm().list_pretrained())

    def completed(self, name: str) -> tuple[str, str]:
        """A name that timm still accepts, as it is now."""
        if self.has(name):
            return name, ""
        now = _timm().models._registry.get_deprecated_models().get(name)
        return (now, f"timm:{name} is now timm:{now}") if now else (name, "")

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        return _timm().create_model(name, pretrained=False, **arguments)

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
        """The input of the default weights, or what `img_size` and `in_chans` make of it."""
        config = _timm().models.get_pretrained_cfg(name)
        shape = config.input_size if config is not None and config.input_size else (3, 224, 224)
        side = arguments.get("img_size")
        sides = (side, side) if isinstance(side, int) else tuple(side) if side else shape[1:]
        return (Argument(Input((1, arguments.get("in_chans", shape[0]), *sides)), "nchw"),)


def _timm() -> Any:
    from archscope.tracing.compiler import imported_lightly

    try:
        with imported_lightly():
            return import_module("timm")
    except ImportError as error:
        raise SpecError("timm is not installed; `pip install timm` brings its models") from error


@cache
def _names() -> Iterable[str]:
    return tuple(_timm().list_models())
