"""Layers of PyTorch itself are built once for each set of arguments, and copied from then on.

The first `Conv2d(16, 32, 3)` within `cached_layers` runs its constructor. The next one with equal arguments takes its
attributes from the first, and gets parameters and buffers of its own: a fraction of the work. Only classes in
`CLONABLE` are copied, and only where all arguments are plain values; a subclass is built as ever.
"""

import marshal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import nn

from archscope.tracing.devices import is_meta

MOST = 1 << 12  # templates that are kept

# layers without layers inside, whose constructor depends on its arguments alone
CLONABLE = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LocalResponseNorm),
    *(nn.Linear, nn.Embedding, nn.Flatten, nn.Unflatten, nn.Identity),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh),
    *(nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softmax, nn.LogSoftmax, nn.Threshold),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d),
    *(nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle),
)

META = torch.device("meta")

_empty, _cast = torch.empty, torch.Tensor._make_subclass
_ATOMS = frozenset((bool, int, float, str, type(None), torch.dtype))
_FRESH = {key: type(value) for key, value in vars(nn.Module()).items() if isinstance(value, (dict, set))}
_BARE = {key: None if key in _FRESH else value for key, value in vars(nn.Module()).items()}
_OWN = ("_parameters", "_buffers")
_HOOKS = nn.modules.module


class Template(NamedTuple):
    """What a layer is made of: its attributes; its parameters by name, with shape, dtype and whether they are trained;
    and its buffers by name, with their values."""

    attributes: dict[str, Any]
    parameters: tuple[tuple[str, tuple[torch.Size, torch.dtype, bool] | None], ...]
    buffers: tuple[tuple[str, torch.Tensor | None], ...]


_TEMPLATES: dict[Any, Template | None] = {}


def forget() -> None:
    """Drop the templates."""
    _TEMPLATES.clear()


@contextmanager
def cached_layers() -> Iterator[None]:
    """Within this block, in this thread, equal layers are copied from one template. For use within `weightless`."""
    here = threading.get_ident()
    if len(_TEMPLATES) > MOST:
        _TEMPLATES.clear()
    saved = [(cls, cls.__dict__.get("__init__")) for cls in (*CLONABLE, nn.Module)]
    for cls in CLONABLE:
        cls.__init__ = _copying(cls, cls.__init__, here)  # type: ignore[misc]
    nn.Module.__init__ = empty_module(nn.Module.__init__, here, _BARE, _FRESH)
    try:
        yield
    finally:
        for cls, original in reversed(saved):
            if original is None:
                del cls.__init__  # it is inherited
            else:
                cls.__init__ = original  # type: ignore[misc]


def _plainly_built() -> bool:
    """Whether nothing else changes what a constructor makes: a default device, a mode, a hook on registration."""
    modes = torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack()
    hooks = _HOOKS._global_parameter_registration_hooks or _HOOKS._global_buffer_registration_hooks
    return not modes and not hooks


def _copying(cls: type, original: Callable[..., None], here: int) -> Callable[..., None]:
    @wraps(original)  # builders ask `inspect.signature` whether a layer has `num_features`
    def __init__(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        if type(self) is not cls or threading.get_ident() != here or not _plainly_built():
            original(self, *args, **kwargs)
            return
        try:  # 1, True and 1.0 are not the same
            key = (original, marshal.dumps((args, kwargs), 2), torch.get_default_dtype())
        except ValueError:
            original(self, *args, **kwargs)
            return
        template = _TEMPLATES.get(key)
        if template is None:
            original(self, *args, **kwargs)
            if key not in _TEMPLATES:
                _TEMPLATES[key] = _template(self)
            return
        own = self.__dict__
        own.update(template.attributes)
        for name, container in _FRESH.items():
            own[name] = container()
        if template.parameters:
            own["_parameters"] = {name: None if p is None else _parameter(*p) for name, p in template.parameters}
        if template.buffers:
            own["_buffers"] = {name: None if b is None else b.clone() for name, b in template.buffers}

    return __init__


def _parameter(shape: torch.Size, dtype: torch.dtype, trained: bool) -> nn.Parameter:
    return _cast(nn.Parameter, _empty(shape, dtype=dtype, device=META), trained)


def _template(layer: nn.Module) -> Template | None:
    """The template of a layer, None where it holds something that a copy would share with it."""
    own = layer.__dict__
    parameters, buffers = own["_parameters"], own["_buffers"]
    if any([p is not None and (not is_meta(p) or type(p) is not nn.Parameter) for p in parameters.values()]):
        return None
    if any([own[name] for name in _FRESH if name not in _OWN]):
        return None  # layers, hooks, or buffers that are not saved
    if not all([name in _FRESH or _is_plain(value) for name, value in own.items()]):
        return None
    return Template(
        {name: None if name in _FRESH else value for name, value in own.items()},
        tuple([(name, None if p is None else (p.shape, p.dtype, p.requires_grad)) for name, p in parameters.items()]),
        tuple([(name, None if b is None else b.clone()) for name, b in buffers.items()]),
    )


def _is_plain(value: Any) -> bool:
    return type(value) in _ATOMS or (type(value) is tuple and all(map(_is_plain, value)))


def empty_module(original: Callable[..., None], here: int, bare: dict[str, Any], own: dict[str, type]) -> Any:
    """`nn.Module.__init__` sets each attribute by a call of its own, which is a good part of its time.

    bare: every attribute in its order. own: containers that each module has for itself.
    """

    @wraps(original)
    def __init__(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        if args or kwargs or self.call_super_init or threading.get_ident() != here:
            original(self, *args, **kwargs)
            return
        attributes = self.__dict__
        attributes.update(bare)
        for name, container in own.items():
            attributes[name] = container()

    return __init__
