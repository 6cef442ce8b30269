"""Build a model without its weights: nothing is initialised, nothing is allocated that is ever touched.

`with torch.device("meta")` would do, but it sends every function call through Python, runs every initialiser, and
fails for models that read the values of small tensors while they are built (`torch.linspace(...).tolist()`). Here
only what holds weights goes to the meta device: `torch.empty`, and any other constructor when the tensor is large.
The initialisers of `torch.nn.init` return such a tensor as it is. Small tensors stay real and keep their values.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from archscope.core.errors import TraceError
from archscope.tracing.collector import gc_paused
from archscope.tracing.compiler import no_compiler
from archscope.tracing.devices import is_meta
from archscope.tracing.layer_cache import META, cached_layers

LARGE = 1 << 16  # elements; a constructor that fills its tensor goes to the meta device from here on

KIND = "archscope_kind"  # the attribute of a module that is another class than the one it stands for
NAME = "archscope_name"  # the attribute in which a model that archscope built keeps what was asked for

try:  # a device context knows constructors by what they are when it is first entered, which must not be in `weightless`
    from torch.utils._device import _device_constructors

    _device_constructors()
except ImportError:  # private, and may go
    pass

_LOCK = threading.RLock()
_LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase)
_FILLED = ("zeros", "ones", "full", "rand", "randn", "randint")


@contextmanager
def weightless() -> Iterator[None]:
    """Within this block, in this thread, parameters are made on the meta device and initialisers do nothing.

    Equal layers are copied. The state of the random generator is left as it was.
    """
    with without_weights(), cached_layers():
        yield


@contextmanager
def without_weights() -> Iterator[None]:
    """The same, and every layer runs its own constructor."""
    with _LOCK, gc_paused():
        here = threading.get_ident()
        replaced = [(torch, name, _placed) for name in ("empty", *_FILLED)]
        replaced += [
            (nn.init, name, _kept)
            for name, value in vars(nn.init).items()
            if name.endswith("_") and not name.startswith("_") and callable(value)
        ]
        replaced += [(layer, "reset_parameters", _reset) for layer in _LAYERS]
        saved = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
        random = torch.get_rng_state()
        for owner, name, replace in replaced:
            setattr(owner, name, replace(getattr(owner, name), here))
        try:
            with no_compiler():
                yield
        finally:
            for owner, name, original in saved:
                setattr(owner, name, original)
            torch.set_rng_state(random)


@contextmanager
def within(limit: int) -> Iterator[None]:
    """Raises TraceError within this block where the parameters of modules take more bytes than this."""
    register, taken = nn.Module.register_parameter, 0

    def counted(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal taken
        taken += 0 if parameter is None or isinstance(parameter, UninitializedParameter) else parameter.nbytes
        if taken > limit:
            raise TraceError(f"to build it with its weights needs more than {limit / 2**30:.1f} GiB")
        register(module, name, parameter)

    nn.Module.register_parameter = counted  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _placed(original: Callable[..., Any], here: int) -> Callable[..., Any]:
    always = original.__name__ == "empty"

    def make(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("device") is None and threading.get_ident() == here and (always or _count(args, kwargs) >= LARGE):
            kwargs["device"] = META
        return original(*args, **kwargs)

    return make


def _count(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Elements that a constructor's arguments ask for."""
    if len(args) == 1 and type(args[0]) is int:
        return args[0]
    size = kwargs.get("size", args)
    if len(size) and isinstance(size[0], (tuple, list)):
        size = size[0]
    sides = [side for side in size if isinstance(side, int)]
    return prod(sides) if sides else 0


def _kept(original: Callable[..., Any], here: int) -> Callable[..., Any]:
    def initialise(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if is_meta(tensor) and threading.get_ident() == here:
            return tensor
        return original(tensor, *args, **kwargs)

    return initialise


def _reset(original: Callable[..., Any], here: int) -> Callable[..., Any]:
    """PyTorch's own layers do nothing here but initialise, and their statistics are made as they are reset."""

    def reset(layer: nn.Module) -> None:
        weight = layer._parameters.get("weight")
        if weight is None or not is_meta(weight) or threading.get_ident() != here:
            original(layer)

    return reset
