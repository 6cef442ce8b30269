"""Programs of `torch.export`: `program.pt2`, on the inputs that they were exported with.

Its weights are read as tensors only: what would have to be unpickled, and could run anything, is refused.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Any

from archscope.core.errors import SpecError
from archscope.sources.inputs import Argument, of_shape
from archscope.sources.source import SOURCES, Source


@SOURCES.register("exported")
class ExportedPrograms(Source):
    form = r".+\.pt2"
    help = "program.pt2"
    order = 11
    closed = False

    def names(self, pattern: str) -> list[str]:
        return sorted(glob(pattern))

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        return _module(name)

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
        return _inputs(name)

    def keys(self, name: str) -> dict[str, Any]:
        return {}


def _program(path: str) -> Any:
    """Raises SpecError for a file that holds no program, or one that would have to be unpickled."""
    full = Path(path).expanduser().absolute()
    if not full.is_file():
        raise SpecError(f"there is no file {path}")
    about = full.stat()
    return _loaded(full, path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=8)
def _loaded(full: Path, path: str, changed: int, size: int) -> Any:
    import torch

    try:
        with _tensors_only(), _quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(full)
    except Exception as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SpecError(f"{path} holds no exported program that can be read: {text[:200]}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch logs of a file that it cannot read: the error says it."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _tensors_only() -> Iterator[None]:
    """`torch.load` with weights_only, whatever its caller says, and no other unpickling."""
    import pickle

    import torch

    load, loads = torch.load, pickle.loads

    def tensors(*args: Any, **kwargs: Any) -> Any:
        return load(*args, **{**kwargs, "weights_only": True})

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("it holds pickled objects, which could run anything when they are read")

    torch.load, pickle.loads = tensors, refused
    try:
        yield
    finally:
        torch.load, pickle.loads = load, loads


def _module(path: str) -> Any:
    """The program as a module, with the modules it was exported from inside, each with its old kind."""
    import torch

    from archscope.tracing.weightless import KIND

    program = _program(path)
    kinds: dict[str, str] = {}
    for node in program.graph.nodes:
        for where, kind in (node.meta.get("nn_module_stack") or {}).values():
            kinds[where] = str(kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.export.unflatten(program)
    for where, module in model.named_modules():
        module.__dict__[KIND] = f"exported {kinds[where]}" if where in kinds else "exported"
    return model


def _inputs(path: str) -> tuple[Argument, ...]:
    given = _program(path).example_inputs
    if given is None:
        raise SpecError(f"{path} was saved without the inputs it was exported with")
    args, kwargs = given
    return tuple(
        of_shape(tuple(value.shape), str(value.dtype).removeprefix("torch."), name)
        for name, value in [*(("", a) for a in args), *kwargs.items()]
        if hasattr(value, "shape")
    )
