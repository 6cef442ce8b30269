"""What a source of models is, and how one is found.

A source is a file of `archscope/sources/kinds/` that registers a class under its name. The folder is listed: a new
source is its file and nothing else. A file is imported when it is needed, and imports its library later still.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from archscope.core.errors import SpecError
from archscope.core.record import Trace
from archscope.core.registry import Registry
from archscope.core.table import unknown
from archscope.core.weights import Weights
from archscope.sources import kinds
from archscope.sources.inputs import Argument

Keys = Mapping[str, Any]
SOURCES: Registry[type["Source"]] = Registry("source")
# a builder in the files of timm and torchvision: its name, or that of the function below
REGISTERED = r'^@register_model(?:\(name="|(?!\(name=)\b(?:.|\n)*?^def )(\w+)'


class Source:
    """Where models come from. A subclass has at least `names` and `build`.

    form: a regular expression for the names that belong to this source without a prefix, such as `.+\\.json`. With ""
    a name belongs to it by its prefix, `torchvision:resnet50`.
    help: how its names are written. order: its place in lists and among the forms, the lowest first.
    closed: whether `names("*")` are all names, so that any other name is wrong.
    upper_bound: whether sizes that depend on values are taken at their largest.
    guesses: whether `guess` is asked where a model has no default input.
    saved: whether a name is that of a record, so that nothing is built.
    only_weights: whether a name is that of a file with weights and no operators, so that nothing can be run.
    """

    form = ""
    help = ""
    order = 100
    closed = True
    upper_bound = False
    guesses = False
    saved = False
    only_weights = False

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return source_of, (self.name,)  # another process finds its own

    def names(self, pattern: str) -> Iterable[str]:
        """The names that can match a wildcard, in order."""
        raise NotImplementedError

    def names_in_files(self) -> frozenset[str]:
        """The names of a library that is installed, read from its files: nothing is imported for a wrong name."""
        return frozenset()

    def has(self, name: str) -> bool:
        """Whether it has a model of that name, where `names` are all."""
        return name in self.names("*")

    def completed(self, name: str) -> tuple[str, str]:
        """A name that leaves out what only one model can be, `net.py`, or is an older one, in full, and a note that
        says so."""
        return name, ""

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        """The module of that name."""
        raise NotImplementedError

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
        """The default inputs, empty where there are none."""
        return ()

    def holder(self, where: str) -> ModuleType:
        """The module of Python at a place, of a source whose models stand in such."""
        raise NotImplementedError

    def example(self, name: str, model: Any) -> Any:
        """The arguments that the user's code gives for a built model, objects as they are; None where it gives none."""
        return None

    def keys(self, name: str) -> Keys | None:
        """The arguments of the builder with their defaults, None where only the builder knows them."""
        return None

    def published(self, name: str) -> Mapping[str, Any]:
        """What the source says of a model: "params", "macs", "paper"."""
        return {}

    def running(self, name: str) -> AbstractContextManager[Sequence[str]]:
        """The circumstances that a run needs, with the notes that they add to the record."""
        return nullcontext(())

    def notes(self, model: Any) -> tuple[str, ...]:
        """What a record says of a built model: what was taken to build it."""
        return ()

    def guess(self, model: Any, text: str) -> tuple[Argument, ...]:
        """Inputs for a built model without default inputs. text: the input as typed, "" where there is none."""
        return ()

    def decoder(self, spec: Any) -> Any:
        """The `Spec` of the causal language model, with its head, that a `Spec` means."""
        return spec

    def adapter(self, name: str) -> Keys | None:
        """The configuration of the adapter that a name means; None for a model without one."""
        return None

    def settings(self, config: Any) -> Keys:
        """A model's configuration as plain values."""
        return {key: value for key, value in vars(config).items() if not key.startswith("_")}

    def cache(self, model: Any, kind: str, length: int) -> Any:
        """An empty cache of a language model. kind: "dynamic" or "static". length: of a static one, in tokens."""
        raise NotImplementedError

    def record(self, name: str) -> Trace:
        """The saved record of that name."""
        raise NotImplementedError

    def weights_beside(self, name: str) -> list[Weights | SpecError]:
        """The files of weights that belong to a model, each or the reason why it cannot be read."""
        return []

    def weights(self, name: str) -> Weights:
        """The tensors of the file of that name."""
        raise NotImplementedError


@cache
def in_files(package: str, files: str, pattern: str) -> frozenset[str]:
    """What a regular expression finds in the files of an installed package; empty where it is not installed."""
    found = find_spec(package)
    homes = (found.submodule_search_locations or ()) if found is not None else ()
    paths = [path for home in homes for path in Path(home).glob(files)]
    return frozenset(name for path in paths for name in re.findall(pattern, path.read_text("utf-8"), re.MULTILINE))


@cache
def _files() -> tuple[str, ...]:
    return tuple(module.name for module in iter_modules(kinds.__path__))


@cache
def _instance(made: type[Source], name: str) -> Source:
    return made(name)


def source_of(name: str) -> Source:
    """The source of that name. Raises SpecError where there is none."""
    if name not in SOURCES:
        if name not in _files():
            raise SpecError(unknown("source of models", name, [*_files(), *SOURCES]))
        import_module(f"archscope.sources.kinds.{name}")
    return _instance(SOURCES[name], name)


def every_source() -> list[Source]:
    """All sources, in their order."""
    return sorted(map(source_of, {**dict.fromkeys(_files()), **SOURCES}), key=lambda each: each.order)


def prefixes() -> list[str]:
    """The names of the sources that stand before a colon."""
    return [source.name for source in every_source() if not source.form]


def source_and_name(head: str) -> tuple[Source, str]:
    """The source that `[SOURCE:]NAME` belongs to, and the name there. Raises SpecError where it belongs to none."""
    prefix, colon, name = head.rpartition(":")
    if colon and (prefix in SOURCES or prefix in _files()) and not source_of(prefix).form:
        return source_of(prefix), name
    if colon or "/" in head or re.search(r"\.[a-z]\w*$", head):  # all files are imported only for what may have a form
        for source in every_source():
            if source.form and re.fullmatch(source.form, head):
                return source, head
    if colon:
        *first, last = (source.help for source in every_source() if source.help)
        raise SpecError(f"{head!r} names no model: write {', '.join(first)} or {last}")
    return source_of("zoo"), head


def only_weights(text: str) -> bool:
    """Whether a name is that of a file with weights and no operators. Needs no names of any library."""
    try:
        return source_and_name(text.strip())[0].only_weights
    except SpecError:
        return False
