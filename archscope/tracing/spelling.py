"""By which function Python called an operator."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import get_ident
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from archscope.core.record import Op

# how an operator is usually called: the functions, or "" for an operator of Python
USUAL = {
    "aten.add": ("",),
    "aten.mul": ("",),
    "aten.matmul": ("torch.matmul", "Tensor.matmul"),
    "aten.baddbmm": ("torch.baddbmm",),
    **{f"aten.{name}{place}": (f"functional.{name}",)
       for name in "relu elu leaky_relu gelu silu softmax".split() for place in ("", "_")},
}  # fmt: skip

# where the functions are found
_HOMES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "torch": (torch, ("add", "mul", "matmul", "baddbmm")),
    "Tensor": (torch.Tensor, ("add", "mul", "matmul")),
    "functional": (functional, ("relu", "elu", "leaky_relu", "gelu", "silu", "softmax")),
}


@contextmanager
def called_as(ops: Sequence[Op]) -> Iterator[dict[int, str]]:
    """By which function each operator that this block adds to `ops` is called, by its index: {2: "torch.add"}.

    The functions are replaced while the block runs, as tools do that count by them: one that the model has kept under a
    name of its own is not seen, here as there. A mode for functions would see all of them, and each `x.shape` too.
    """
    calls: dict[int, str] = {}
    here = get_ident()

    def watched(function: Callable[..., Any], spelling: str) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            index = len(ops)
            output = function(*args, **kwargs)
            if len(ops) == index + 1 and get_ident() == here:
                calls[index] = spelling
            return output

        called.__name__ = function.__name__
        return called

    kept = [(home, name, vars(home).get(name)) for home, names in _HOMES.values() for name in names]
    try:
        for word, (home, names) in _HOMES.items():
            for name in names:
                setattr(home, name, watched(getattr(home, name), f"{word}.{name}"))
        yield calls
    finally:
        for home, name, own in kept:
            if own is not None:
                setattr(home, name, own)
            else:  # inherited
                delattr(home, name)


def spelled(ops: Sequence[Op], calls: dict[int, str]) -> dict[int, str]:
    """Those operators that were not called the usual way, and by which function they were, "" for none."""
    found = {}
    for index, op in enumerate(ops):
        usual = USUAL.get(op.name)
        if usual is not None and (name := calls.get(index, "")) not in usual:
            found[index] = name
    return found


def viewed_as(sizes: Sequence[int]) -> AbstractContextManager[None]:
    """Within this block a `view` that fails is `reshape(*sizes)` in its place."""
    return instead("view", lambda _, given, named: given[0].reshape(*sizes))


@contextmanager
def instead(name: str, other: Callable[[Any, Any, Any], Any]) -> Iterator[None]:
    """Within this block a function of that name that fails is `other(function, args, kwargs)` in its place."""

    class Fallback(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            try:
                return func(*args, **(kwargs or {}))
            except (RuntimeError, ValueError):
                if getattr(func, "__name__", "") != name:
                    raise
                return other(func, args, kwargs or {})

    with Fallback():
        yield
