"""PyTorch's compiler is not loaded for a run: that takes seconds, and some of PyTorch's own kernels need none of it.

They want `torch._dynamo.disable` alone, which says that a function is not to be compiled: here nothing is.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

NAME = "torch._dynamo"


class _CompilerStub(ModuleType):
    """What stands for the compiler. It makes room for the real one as soon as anything else is asked of it."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.functions: list[Any] = []

    def disable(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
        self.functions.append(function)
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        _leave(self)
        return getattr(import_module(NAME), name)


def _leave(stub: _CompilerStub) -> None:
    """Take the stub away, and what functions have noted of it."""
    if sys.modules.get(NAME) is stub:
        del sys.modules[NAME]
        del torch._dynamo
    for function in stub.functions:
        vars(function).pop("__dynamo_disable", None)
    stub.functions.clear()


class no_compiler:
    """Within this block PyTorch's kernels do not load the compiler."""

    __slots__ = ("stub",)

    def __enter__(self) -> None:
        self.stub: _CompilerStub | None = None
        if NAME not in sys.modules:
            self.stub = sys.modules[NAME] = torch._dynamo = _CompilerStub()  # type: ignore[assignment]

    def __exit__(self, *error: object) -> None:
        if self.stub is not None:
            _leave(self.stub)


def as_written() -> AbstractContextManager[Any]:
    """Within this block a function that was given to `torch.compile` runs as it was written."""
    return torch.compiler.set_stance("force_eager") if NAME in sys.modules else nullcontext()


@contextmanager
def scripted_calls() -> Iterator[list[str]]:
    """Within this block the list that it yields gets the names of TorchScript's functions as they are called."""
    kind, found = torch.jit.ScriptFunction, list[str]()
    original = kind.__call__

    def called(function: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(function.name)
        return original(function, *args, **kwargs)

    kind.__call__ = called  # type: ignore[method-assign]
    try:
        yield found
    finally:
        kind.__call__ = original  # type: ignore[method-assign]


class _UtilsStub(ModuleType):
    """What stands for `torch._dynamo.utils` while torchvision is imported, which wants a single function of it."""

    @staticmethod
    def is_compile_supported(device_type: str) -> Any:
        return import_module(UTILS).is_compile_supported(device_type)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _give_way(self)
        return getattr(import_module(UTILS), name)


UTILS = f"{NAME}.utils"


def _give_way(stub: ModuleType) -> None:
    if sys.modules.get(UTILS) is stub:
        del sys.modules[UTILS]


@contextmanager
def imported_lightly() -> Iterator[None]:
    """Within this block importing torchvision does not load the compiler, which takes longer than itself."""
    if NAME in sys.modules or UTILS in sys.modules:
        yield
        return
    stub = sys.modules[UTILS] = _UtilsStub(UTILS)
    try:
        yield
    finally:
        _give_way(stub)
