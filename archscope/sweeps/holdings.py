"""What a model consists of, as a quick run needs it: its tensors once each, and numbers for layers that do the same.

Two layers have the same number when their work follows from their input alone in the same way: the same class of
PyTorch's own, the same attributes, parameters of the same shapes, no hooks; or a short `nn.Sequential` of such.
"""

import marshal
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from archscope.analysis.metrics.parameters import DENSE
from archscope.sweeps.moulds import CAST, FILLED, Frozen, Mark, NotQuick, Unfilled
from archscope.tracing.modules import kind_of
from archscope.tracing.weightless import KIND

LINKS = 8  # of a chain that is known as a whole
PASSIVE = frozenset((*CAST, nn.Sequential))  # classes that keep no notes of a run
NUMBERS: dict[Any, int] = {}  # of all layers met so far

_BASE = frozenset(vars(nn.Module()))
_KNOWN = frozenset(CAST)
_ALONE = (torch.jit.ScriptModule, LazyModuleMixin)  # what only the tracer can run
_HOOKS = itemgetter("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_ATTRIBUTES: dict[type, tuple[int, Callable[[dict[str, Any]], Any]]] = {}


class Holdings:
    """What a model consists of, each once, by id(); of a module its attributes.

    numbers: of those layers that have one. dense: elements of the parameters of fully connected layers. Raises NotQuick
    for what only the tracer can run: scripted and lazy modules.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules: dict[int, dict[str, Any]] = {}
        self.numbers: dict[int, int] = {}
        self.parameters: dict[int, torch.Tensor] = {}
        self.buffers: dict[int, torch.Tensor] = {}
        self.active: list[dict[str, Any]] = []  # modules that may keep notes of a run
        self._marks: list[Mark] = []  # of layers whose parameters are not even made
        self._shared: list[Frozen] = []  # buffers of the other layers that were cast
        self._dense: dict[int, torch.Tensor] = {}
        FILLED.clear()
        self._walk(model)
        marks, parameters = self._marks, self.parameters.values()
        buffers = [b for i, b in self.buffers.items() if i not in self.parameters]
        held = [*marks, *self._shared]
        self.params = sum([p.numel() for p in parameters]) + sum([mark.params for mark in marks])
        self.trainable = sum([p.numel() for p in parameters if p.requires_grad]) + sum([m.trainable for m in marks])
        self.elements = sum([b.numel() for b in buffers]) + sum([each.elements for each in held])
        self.memory = sum([t.nbytes for t in (*parameters, *buffers)]) + sum([each.nbytes for each in held])
        self.dense = sum([p.numel() for p in self._dense.values()]) + sum([m.params for m in marks if m.dense])
        for mark in set(marks):
            self.buffers.update(mark.buffers.by_id)
        for shared in self._shared:
            self.buffers.update(shared.by_id)

    def is_parameter(self, key: int) -> bool:
        """Whether a tensor, by its id(), is one; it may have been made a moment ago."""
        if FILLED:
            self.parameters.update({id(p): p for p in FILLED})
            FILLED.clear()
        return key in self.parameters

    def _walk(self, module: nn.Module) -> int | None:
        """Go through a module that was not met before; its number."""
        cls, own = type(module), module.__dict__
        self.modules[id(module)] = own
        hooks, held = own["_forward_hooks"], own["_parameters"]
        if type(hooks) is Frozen and hooks.mark is not None and (type(held) is Unfilled or type(held) is Frozen):
            self._marks.append(hooks.mark)
            self.numbers[id(module)] = number = -hooks.mark.number
            return number
        if held:
            for p in held.values():
                if p is not None:
                    self.parameters[id(p)] = p
            if cls is nn.Linear or cls not in _KNOWN:
                if (own.get(KIND) or kind_of(cls)) in DENSE:
                    self._dense |= {id(p): p for p in held.values() if p is not None}
        if held := own["_buffers"]:
            if type(held) is Frozen:
                self._shared.append(held)
            else:
                for b in held.values():
                    if b is not None:
                        self.buffers[id(b)] = b
        if cls in _KNOWN:
            key = _key(cls, own)
        else:
            if isinstance(module, _ALONE):
                raise NotQuick
            modules, numbers, walk = self.modules, self.numbers, self._walk
            links = [
                numbers.get(id(child)) if id(child) in modules else walk(child)
                for child in own["_modules"].values()
                if child is not None
            ]
            key = None
            if cls is not nn.Sequential:
                self.active.append(own)
            elif len(own) == len(_BASE) and len(links) <= LINKS and None not in links and not any(_HOOKS(own)):
                key = tuple(links)
        if key is None:
            return None
        number = NUMBERS.get(key)
        if number is None:
            number = NUMBERS[key] = len(NUMBERS)
        self.numbers[id(module)] = number
        return number


def _key(cls: type, own: dict[str, Any]) -> Any:
    """What the work of a layer depends on but for its input; None where that is not known."""
    hooks = own["_forward_hooks"]
    if type(hooks) is Frozen and hooks.mark is not None:
        key: list[Any] = [hooks.mark]
    else:
        known = _ATTRIBUTES.get(cls)
        if known is None:
            names = [name for name in own if name not in _BASE]
            known = _ATTRIBUTES[cls] = (len(own), itemgetter(*names) if names else lambda own: ())
        size, attributes = known
        if len(own) != size or any(_HOOKS(own)):
            return None
        try:
            key = [cls, marshal.dumps(attributes(own), 2)]
        except (ValueError, KeyError):  # an attribute that is no plain value, or is not there
            return None
    for p in own["_parameters"].values():
        key += (None, None) if p is None else (p.shape, p.dtype)
    buffers = own["_buffers"]
    if buffers:
        key.append(
            buffers.shapes
            if type(buffers) is Frozen
            else tuple([b if b is None else b.shape for b in buffers.values()])
        )
    return tuple(key)
