"""Build the same layers again and again, quickly: PyTorch's own layers are copied from templates.

Within `with lazy_parameters():` a model is built without weights, as within `weightless()`. The first `Conv2d(16, 32,
3)` runs its constructor; from its attributes the next one with the same arguments is copied, with parameters of its
own, which are made when somebody asks for them. A constructor is a tenth of the work then, and a model of a hundred
layers is built in less than a millisecond. Only classes of PyTorch itself are copied; a subclass, or an argument that
is no plain value, is built.
"""

import copy
import itertools
import marshal
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from archscope.tracing.devices import is_meta
from archscope.tracing.layer_cache import CLONABLE, empty_module
from archscope.tracing.weightless import without_weights

MOST = 1 << 12  # templates that are kept

_like = torch.Tensor._make_subclass  # another tensor of the same memory; no dispatch mode sees it
_NUMBERS = itertools.count(1)


class NeedsTracer(BaseException):
    """This model must be built and run the long way. No `except Exception` of a user's stands in its way."""


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise NeedsTracer


class Frozen(OrderedDict):
    """A container that layers share: whoever would change it gets NeedsTracer.

    facts: of the template, in the container of a layer's hooks, as long as no attribute of the layer was set; it holds
    while the container of its parameters is in `UNASKED`. elements, nbytes, shapes, by_id: of buffers, which every
    layer of a template has for itself, though they are the same here.
    """

    __setitem__ = __delitem__ = setdefault = update = pop = popitem = clear = __ior__ = move_to_end = _refuse
    facts: "LayerFacts | None" = None
    elements = nbytes = 0
    shapes: tuple[Any, ...] = ()
    by_id: Mapping[int, torch.Tensor] = MappingProxyType({})

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return OrderedDict((key, copy.deepcopy(value, memo)) for key, value in self.items())


class LayerFacts:
    """What is known of every layer of a template whose parameters nobody has asked for.

    number: of the template. names: of the parameters, each with None. tensors: those that are there: name, tensor,
    whether it is trained. params, trainable: their elements. dense: whether the layer is fully connected. elements: of
    the buffers. nbytes: of both.
    """

    __slots__ = ("buffers", "dense", "elements", "names", "nbytes", "number", "params", "tensors", "trainable")

    def __init__(self, own: dict[str, Any], buffers: Frozen, dense: bool) -> None:
        self.number = next(_NUMBERS)
        self.names = dict.fromkeys(own["_parameters"])
        self.tensors = [(name, p.detach(), p.requires_grad) for name, p in own["_parameters"].items() if p is not None]
        self.params = sum([p.numel() for _, p, _ in self.tensors])
        self.trainable = sum([p.numel() for _, p, trained in self.tensors if trained])
        self.buffers, self.elements, self.dense = buffers, buffers.elements, dense
        self.nbytes = sum([p.nbytes for _, p, _ in self.tensors]) + buffers.nbytes


MADE: list[torch.Tensor] = []  # parameters that were made since somebody looked here


class Parameters(dict):
    """The parameters of a layer that was copied."""

    __slots__ = ("facts",)
    facts: LayerFacts

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (dict(self),)  # a copy is a dict


class LazyParameters(Parameters):
    """The same, as long as nobody has asked for them."""

    __slots__ = ()


def _making(name: str) -> Callable[..., Any]:
    method = getattr(dict, name)

    def ask(self: LazyParameters, *args: Any, **kwargs: Any) -> Any:
        self.__class__ = Parameters  # type: ignore[assignment]
        self.update(self.facts.names)
        for key, tensor, trained in self.facts.tensors:
            self[key] = made = _like(nn.Parameter, tensor, trained)
            MADE.append(made)
        return method(self, *args, **kwargs)

    return ask


for _name in (
    *("__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__len__", "__eq__", "__ne__"),
    *("__or__", "__ror__", "__ior__", "__reversed__", "__repr__", "keys", "values", "items", "get", "copy", "update"),
    *("setdefault", "pop", "popitem", "clear"),
):
    setattr(LazyParameters, _name, _making(_name))


UNASKED = frozenset((LazyParameters, Frozen))  # of the parameters of a layer that is as it was copied


def _frozen(items: dict[str, Any]) -> Frozen:
    made = Frozen()
    for key, value in items.items():
        OrderedDict.__setitem__(made, key, value)
    return made


class _FrozenNames(set):
    add = update = __ior__ = _refuse


def _emptied(value: Any) -> Any:
    return _NONE if isinstance(value, dict) else _NO_NAMES if isinstance(value, set) else value


_NONE, _NO_NAMES = Frozen(), _FrozenNames()
_OWN = {"_parameters": dict, "_buffers": dict, "_modules": dict, "_non_persistent_buffers_set": set}  # of each module
_BARE = {key: None if key in _OWN else _emptied(value) for key, value in vars(nn.Module()).items()}
_CONTAINERS = frozenset(key for key, value in vars(nn.Module()).items() if isinstance(value, (dict, set)))


class Template(NamedTuple):
    """What a layer is made of.

    plain: its attributes; the containers among them are shared by all copies. facts: of its parameters and buffers.
    buffers, versions: the buffers, and what says whether somebody wrote to one: the next layer is then built.
    """

    plain: dict[str, Any]
    facts: LayerFacts
    buffers: list[torch.Tensor]
    versions: list[int]


_TEMPLATES: dict[Any, Template | None] = {}


@contextmanager
def lazy_parameters() -> Iterator[None]:
    """Within this block, in this thread, models are built without weights, and equal layers from one template."""
    with without_weights():  # its own copies of layers take the place of `cached_layers`
        here = threading.get_ident()
        if len(_TEMPLATES) > MOST:
            _TEMPLATES.clear()
        saved: list[tuple[Any, str, Any]] = []
        for cls in CLONABLE:
            saved.append((cls, "__init__", cls.__dict__.get("__init__")))
            cls.__init__ = _copying(cls, cls.__init__, here)
        saved.append((nn.Module, "__init__", nn.Module.__init__))
        nn.Module.__init__ = empty_module(nn.Module.__init__, here, _BARE, _OWN)
        saved.append((nn.Sequential, "__init__", nn.Sequential.__init__))
        nn.Sequential.__init__ = _chaining(nn.Sequential.__init__, here)  # type: ignore[method-assign]
        saved.append((nn.Module, "__setattr__", nn.Module.__setattr__))
        nn.Module.__setattr__ = _holding(nn.Module.__setattr__, here)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for owner, name, original in reversed(saved):
                if original is None:
                    delattr(owner, name)  # it was inherited
                else:
                    setattr(owner, name, original)


def forget() -> None:
    """Drop the templates."""
    _TEMPLATES.clear()


def _copying(cls: type, original: Callable[..., None], here: int) -> Callable[..., None]:
    @wraps(original)
    def __init__(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        if type(self) is not cls or threading.get_ident() != here:
            original(self, *args, **kwargs)
            return
        try:
            key = (cls, marshal.dumps((args, kwargs), 2), torch.get_default_dtype())  # 1, True and 1.0 are not the same
        except ValueError:
            original(self, *args, **kwargs)
            return
        template = _TEMPLATES.get(key)
        if template is None or (template.versions and [b._version for b in template.buffers] != template.versions):
            original(self, *args, **kwargs)
            if template is not None or key not in _TEMPLATES:
                _TEMPLATES[key] = _template(self)
            return
        own = self.__dict__
        own.update(template.plain)
        if template.facts.names:
            own["_parameters"] = held = LazyParameters()
            held.facts = template.facts

    return __init__


def _template(layer: nn.Module) -> Template | None:
    """The template of a layer, None where it holds something that cannot be copied."""
    own = layer.__dict__
    held = own["_parameters"].values()
    if any([p is not None and (not is_meta(p) or type(p) is not nn.Parameter) for p in held]) or own["_modules"]:
        return None
    if any([own[key] for key in _CONTAINERS - {"_parameters", "_buffers"}]):
        return None  # hooks, or buffers that are not saved
    if any([isinstance(value, (dict, set, torch.Tensor)) and key not in _CONTAINERS for key, value in own.items()]):
        return None
    plain = {key: _emptied(value) for key, value in own.items()}
    shared = _frozen({name: None if b is None else b.clone() for name, b in own["_buffers"].items()})
    buffers = [b for b in shared.values() if b is not None]
    shared.elements, shared.nbytes = sum([b.numel() for b in buffers]), sum([b.nbytes for b in buffers])
    shared.shapes = tuple([None if b is None else b.shape for b in shared.values()])
    shared.by_id = {id(b): b for b in buffers}
    hooks = Frozen()
    hooks.facts = LayerFacts(own, shared, type(layer) is nn.Linear)
    plain["_buffers"], plain["_forward_hooks"] = shared, hooks
    return Template(plain, hooks.facts, buffers, [b._version for b in buffers])


def _chaining(original: Callable[..., None], here: int) -> Callable[..., None]:
    @wraps(original)
    def __init__(self: nn.Sequential, *args: Any) -> None:
        if type(self) is not nn.Sequential or threading.get_ident() != here:
            original(self, *args)
            return
        if len(args) > len(_PLACES) or not all([isinstance(module, nn.Module) for module in args]):
            original(self, *args)  # an OrderedDict with names of its own, say
            return
        own = self.__dict__
        own.update(_BARE)
        own["_parameters"], own["_buffers"], own["_modules"] = {}, {}, dict(zip(_PLACES, args, strict=False))
        own["_non_persistent_buffers_set"] = _NO_NAMES

    return __init__


_PLAIN = frozenset((bool, int, float, str, tuple))  # neither parameter, buffer nor module
_PLACES = tuple(map(str, range(256)))  # names of the layers of a Sequential


def _holding(original: Callable[..., None], here: int) -> Callable[..., None]:
    """To assign a layer to an attribute for the first time needs none of the questions of `nn.Module.__setattr__`."""
    registered = nn.modules.module._global_module_registration_hooks

    def __setattr__(self: nn.Module, name: str, value: Any) -> None:
        own = self.__dict__
        if threading.get_ident() == here:
            if isinstance(value, nn.Module) and not registered:
                modules = own.get("_modules")
                if modules is not None and name not in own and name not in own["_buffers"]:
                    if name not in own["_parameters"] and name not in own["_non_persistent_buffers_set"]:
                        modules[name] = value
                        return
            else:
                hooks = own.get("_forward_hooks")
                if name != "training" and type(hooks) is Frozen and hooks.facts is not None:
                    own["_forward_hooks"] = _NONE  # it is no more what it was copied as
                if type(value) in _PLAIN and hooks is not None and name not in own["_modules"]:
                    if name not in own["_parameters"] and name not in own["_buffers"]:
                        object.__setattr__(self, name, value)
                        return
        original(self, name, value)

    return __setattr__
