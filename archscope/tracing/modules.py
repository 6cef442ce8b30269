"""What a module is, as the record keeps it: its kind, and the arguments it was built with; how to watch its calls."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from archscope.layers import LAYERS
from archscope.tracing.weightless import KIND

PLAIN = frozenset((int, bool, float, str, type(None)))  # values that are kept as they are

_KINDS: dict[type, tuple[str, tuple[str, ...]]] = {}


_KNOWN = ("torchvision", "timm")  # whose classes of these names compute what PyTorch's do


def kind_of(cls: type) -> str:
    """The class that gives a module its forward, where that is one of PyTorch's layers; else its own name, with that of
    its file where a layer with a closed form has it: "nets.GELU"."""
    return _kind(cls)[0]


def _own_name(cls: type) -> str:
    name = cls.__name__
    forward = next((c for c in cls.__mro__ if "forward" in c.__dict__), cls).__module__
    if name not in LAYERS or forward.startswith("torch.nn.modules") or forward.partition(".")[0] in _KNOWN:
        return name
    home = cls.__module__
    places = [part for part in home.split(".") if part not in ("modules", name.lower())]
    return f"{places[-1] if places else home}.{name}"


def _kind(cls: type) -> tuple[str, tuple[str, ...]]:
    known = _KINDS.get(cls)
    if known is None:
        owner = next((c for c in cls.__mro__ if "forward" in c.__dict__), cls)
        layer = owner.__module__.startswith("torch.nn.modules") and owner.__module__ != "torch.nn.modules.container"
        layer = layer and owner is not nn.Module and not owner.__name__.startswith("_")
        kind = owner.__name__ if layer else _own_name(cls)
        more = LAYERS[kind].arguments if kind in LAYERS else ()  # that the class does not name in `__constants__`
        names = dict.fromkeys((*more, *getattr(cls, "__constants__", ())))
        known = _KINDS[cls] = (kind, tuple(names))
    return known


def describe(module: nn.Module) -> tuple[str, dict[str, Any]]:
    """Kind and configuration of a module: the arguments it was built with, as plain values. around: whether hooks or a
    transform of torch.func may have done more in the call than the module does."""
    kind, names = _kind(type(module))
    config: dict[str, Any] = {}
    own = module.__dict__
    kind = own.get(KIND, kind)
    for name in names:
        value = own[name] if name in own else getattr(module, name, None)
        if type(value) in PLAIN:
            if value is not None:
                config[name] = value
        elif isinstance(value, (list, tuple)) and PLAIN.issuperset(map(type, value)):
            config[name] = tuple(value)
    if "bias" not in config:
        if "bias" in module._parameters:
            config["bias"] = module._parameters["bias"] is not None
        elif "in_proj_bias" in module._parameters:
            config["bias"] = module._parameters["in_proj_bias"] is not None
            config["add_bias_kv"] = module._parameters.get("bias_k") is not None
    if "parametrizations" in module._modules or module._forward_pre_hooks:
        config |= _reparametrized(module)
    others = [hook for hook in module._forward_pre_hooks.values() if not _of_weights(hook)]
    if module._forward_hooks or others or _transforms() is not None:
        config["around"] = True
    return kind, config


def _of_weights(hook: Any) -> bool:
    """Whether a hook is one of PyTorch's that computes a weight before each run."""
    return type(hook).__module__.startswith("torch.nn.utils.")


_transforms: Callable[[], Any] = torch._C._functorch.peek_interpreter_stack  # type: ignore[attr-defined]


def _reparametrized(module: nn.Module) -> dict[str, Any]:
    """How the weights come about that a layer computes anew in every run, by a parametrization or by its older form, a
    hook. weight_norm: the axis that has norms of its own, -1 for one norm of all. computed: parameters that come about
    in other ways."""
    ways: dict[str, list[Any]] = {}
    for name, steps in getattr(module._modules.get("parametrizations"), "_modules", {}).items():
        ways.setdefault(name, []).extend(steps.children() if steps is not None else ())
    for hook in module._forward_pre_hooks.values():
        if _of_weights(hook):
            ways.setdefault(getattr(hook, "name", "weight"), []).append(hook)
    if not ways:
        return {}
    (first, *others), steps = ways, ways.get("weight", [])
    if first == "weight" and not others and len(steps) == 1 and type(steps[0]).__name__.strip("_") == "WeightNorm":
        return {"weight_norm": steps[0].dim}
    return {"computed": tuple(ways)}


@contextmanager
def calls_go_to(called: Callable[..., Any]) -> Iterator[None]:
    """Within this block a call of any module is one of `called`. What `__call__` ends in is replaced: to replace
    `__call__` itself takes long."""
    original = nn.Module._call_impl
    nn.Module._call_impl = called  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._call_impl = original  # type: ignore[method-assign]


@contextmanager
def listening(owner: Any) -> Iterator[None]:
    """Within this block, in this thread, `owner.now` is told of every call of a module and of every attribute that is
    about to be set: `called(original, module, args, kwargs)`, which gives the output, and `assign(module)`. It is None
    between runs."""
    call, assign, here = nn.Module.__call__, nn.Module.__setattr__, threading.get_ident()

    def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if owner.now is None or threading.get_ident() != here:
            return call(module, *args, **kwargs)
        return owner.now.called(call, module, args, kwargs)

    def assigned(module: nn.Module, name: str, value: Any) -> None:
        if owner.now is not None and threading.get_ident() == here:
            owner.now.assign(module)
        assign(module, name, value)

    nn.Module.__call__ = called  # type: ignore[method-assign]
    nn.Module.__setattr__ = assigned  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__ = call  # type: ignore[method-assign]
        nn.Module.__setattr__ = assign  # type: ignore[method-assign]
