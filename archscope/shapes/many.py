"""One model at many sizes, when all that is asked is whether it comes through and what its windows lose.

Running every size with a full record each would take minutes. Here nothing is written down, and what was run before is
not run again:

- An operator on tensors without contents depends on their shapes, strides and types and on its other arguments alone.
  The first call is made under the tracer's rules; an equal call gets a tensor like the one that came of it.
- A module of PyTorch or torchvision, without hooks and with none but such modules inside, depends on what it is called
  with and on its attributes alone. An equal call adds what the first one counted. A call that sets an attribute, draws
  a random number, changes or returns what is not a plain tensor without contents is made every time, and so is every
  module in which an attribute was set during the run.

A forward of the user's runs in full, with its decisions, at every size. `legal.py` compares some of the sizes with full
records, and a test holds both ways against each other.
"""

import functools
import marshal
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules import module as hooks
from torch.nn.modules.lazy import LazyModuleMixin

from archscope.shapes.resize import Ran, Resized, lost_by, lost_in
from archscope.tracing.collector import gc_paused
from archscope.tracing.devices import CPU, believed, device_of, is_meta
from archscope.tracing.guard import untouched
from archscope.tracing.modules import listening
from archscope.tracing.run import LOCK, Run
from archscope.tracing.tensors import abstract, tensors_in

LIBRARIES = ("torch.nn.", "torchvision.")  # whose modules are known to depend on their arguments and attributes alone
MOST = 1 << 16  # calls that are kept
SMALL = 128  # elements of a constant that is known by its numbers

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL = ("_global_forward_hooks", "_global_forward_pre_hooks")
_BUILTIN = ("builtins", "collections", "functools", "torch", "_operator", None)
_SEEDED = torch.Tag.nondeterministic_seeded
_PLAIN = frozenset((int, str, type(None), torch.dtype, torch.device, torch.memory_format, torch.layout))
_cast = torch.Tensor._make_subclass  # another tensor of the same memory; no dispatch mode sees it


class Came(NamedTuple):
    """What a run comes to. ops: how many operators it got through. lost: the sides of windows that leave rows or
    columns out. works: whether it came through, with as many examples as went in."""

    ops: int
    lost: int
    failed: bool
    works: bool


class Kept(NamedTuple):
    """What a call came to. made: what it returned, in a form to be made again. ops, lost: as in `Came`."""

    made: Any
    ops: int
    lost: int


_NEW = Kept(None, -1, 0)  # of a call that was not met before


class _Made(NamedTuple):
    """A tensor that a call made."""

    like: torch.Tensor


class _Given(NamedTuple):
    """A tensor that a call was given, by its place among them."""

    place: int


class Unknown(Exception):
    """What a call was given or gives does not say what an equal call would do."""


def came(model: Resized, ran: Ran) -> Came:
    """The same of a full record."""
    ops = ran.trace.ops
    return Came(len(ops), len(lost_in(ran.trace, model.axes)), ran.error is not None, model.works(ran))


class Many:
    """Within its block a model is run at one size after the other."""

    def __init__(self, model: Resized) -> None:
        self.resized, self.model = model, model.model
        self.modules = modules = list(self.model.modules())
        self.whole = any(isinstance(m, (torch.jit.ScriptModule, LazyModuleMixin)) for m in modules)  # the tracer's own
        self.library = {id(m): m for m in modules if not self.whole and _library(m)}
        self.users = len(self.library) < len(modules)  # a forward of the user's, which may change any module
        self.own = {id(t) for m in modules if not self.whole for t in (*m._parameters.values(), *m._buffers.values())}
        self.held: dict[int, list[tuple[Any, list[Any]]]] = {}  # of the library's modules: what their attributes hold
        self.around: dict[int, frozenset[int]] = {}  # of a module whose attribute is set: the library's around it
        self.calls: dict[Any, Kept | None] = {}  # of modules; None: to be made every time
        self.operators: dict[Any, Kept | None] = {}
        self.now: _Counted | None = None

    def __enter__(self) -> "Many":
        with ExitStack() as stack:
            stack.enter_context(LOCK)
            if not self.whole:
                stack.enter_context(self.resized.running)
                stack.enter_context(untouched(self.modules, self.resized.train))
                stack.enter_context(believed(CPU))
                self._watch(stack)
            self.stack = stack.pop_all()
        return self

    def _watch(self, stack: ExitStack) -> None:
        """Hear of every call of a module and of every attribute that is set."""
        if self.users:
            for key, module in self.library.items():
                within = [one for each in module.modules() for one in _containers(each.__dict__)]
                self.held[key] = [(one, list(_values(one))) for one in within]
        stack.enter_context(listening(self))

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def at(self, side: int) -> Came:
        """Run with this side."""
        if self.whole:
            return came(self.resized, self.resized.at(side))
        if max(len(self.calls), len(self.operators)) > MOST:
            self.calls, self.operators = {}, {}
        arguments, named = self.resized.inputs(side)
        arguments, named = [abstract(value) for value in arguments], {key: abstract(v) for key, v in named.items()}
        inputs = tensors_in((*arguments, *named.values()))
        run = _Counted(self)
        with gc_paused(), untouched(self.modules if self.users else (), None), torch.inference_mode(), run:
            self.now = run
            try:
                output = self.model(*arguments, **named)
            except Exception:  # what it was, a full record tells
                return Came(*run.counted(), True, False)
            finally:
                self.now = None
                run.restore()
        made = tensors_in((output,))[:1]
        works = not self.resized.by_example or [t.shape[:1] for t in made] == [t.shape[:1] for t in inputs[:1]]
        return Came(*run.counted(), False, works)

    def containing(self, module: nn.Module) -> frozenset[int]:
        """The library's modules that contain a module, itself among them, by id()."""
        found = self.around.get(id(module))
        if found is None:
            around = [key for key, each in self.library.items() if any(m is module for m in each.modules())]
            found = self.around[id(module)] = frozenset(around)
        return found

    def as_it_was(self, module: nn.Module) -> bool:
        """Whether nothing in a module of the library's was replaced by a forward of the user's, by whatever way."""
        if not self.users:
            return True
        held = self.held.get(id(module))
        if held is None:
            return False
        return all([len(one) == len(values) and all(map(operator.is_, _values(one), values)) for one, values in held])


class _Counted(Run):
    """One run, of which only the operators and the lossy windows are counted."""

    def __init__(self, many: Many) -> None:
        super().__init__([], "", True, False, many.resized.bound)
        self.many, self.axes = many, many.resized.axes
        self.stack.append("")
        self.again = self.lost = 0  # operators that were not run again; lossy windows among all
        self.looked = 0  # operators of `ops` whose windows were looked at
        self.lives: list[torch.Tensor] = []  # an id() is unique only while its tensor lives
        self.assigned = 0  # attributes of modules that were set, and random numbers that were drawn
        self.changed: set[int] = set()  # the library's modules in which one was
        self.before: dict[int, list[tuple[dict[str, Any], dict[str, Any]]]] = {}  # what such a module was

    def assign(self, module: nn.Module) -> None:
        """An attribute of a module is about to be set."""
        self.assigned += 1
        self.changed |= self.many.containing(module)
        if id(module) in self.many.library and id(module) not in self.before:
            own = module.__dict__
            held = (own, *(own[name] for name in ("_parameters", "_buffers", "_modules")))
            self.before[id(module)] = [(each, each.copy()) for each in held]

    def restore(self) -> None:
        """Give the library's modules back as they were."""
        for held in self.before.values():
            for now, before in held:
                now.clear()
                now.update(before)

    def counted(self) -> tuple[int, int]:
        """Operators and lossy windows so far."""
        for op in self.ops[self.looked :]:
            self.lost += len(lost_by(op, self.axes))
        self.looked = len(self.ops)
        return len(self.ops) + self.again, self.lost

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given: list[torch.Tensor] = []
        try:
            key = (func, self.seen(args, given), self.seen((kwargs,), given) if kwargs else None)
            if not given:
                key = (*key, torch.get_default_dtype())
        except Unknown:
            return self.made(func, types, args, kwargs)
        known = self.many.operators
        kept = known.get(key, _NEW)
        if kept is None:
            return self.made(func, types, args, kwargs)
        if kept is not _NEW:
            return self.replay(kept, given)
        known[key] = None  # and so it stays where the operator refuses
        before, stale = self.counted(), len(self.stale)
        output = self.made(func, types, args, kwargs)
        if stale == len(self.stale) and key[1:3] == self.again_seen(args, kwargs, given):
            known[key] = self.call(before, output, given)
        return output

    def made(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """An operator under the tracer's rules."""
        output = super().__torch_dispatch__(func, types, args, kwargs)
        if _SEEDED in func.tags and not all([is_meta(t) for t in tensors_in((output,))]):
            self.assigned += 1
        return output

    def called(self, original: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> Any:
        """A call of a module: what an equal one came to, or the call itself."""
        here = id(module)
        if here not in self.many.library or here in self.changed or not self.many.as_it_was(module):
            return original(module, *args, **kwargs)
        given: list[torch.Tensor] = []
        try:
            key = (here, self.seen(args, given), self.seen((kwargs,), given) if kwargs else None)
        except Unknown:
            return original(module, *args, **kwargs)
        known = self.many.calls
        kept = known.get(key, _NEW)
        if kept is None:
            return original(module, *args, **kwargs)
        if kept is not _NEW:
            return self.replay(kept, given)
        before, assigned, stale = self.counted(), self.assigned, len(self.stale)
        output = original(module, *args, **kwargs)
        alone = bool(given) and assigned == self.assigned and stale == len(self.stale)
        alone = alone and key[1:] == self.again_seen(args, kwargs, given)
        known[key] = self.call(before, output, given) if alone else None
        return output

    # ------------------------------------------------------------------------------------------ what a call depends on

    def seen(self, values: Any, given: list[torch.Tensor]) -> tuple[Any, ...]:
        """All that a call can see of its arguments, their tensors added to `given`. Raises Unknown for what is not
        plain: a tensor with contents that are not known for good, or an object that may be anything."""
        out: list[Any] = []
        for value in values:
            kind = type(value)
            if kind in _PLAIN:
                out.append(value)
            elif kind is torch.Tensor or kind is nn.Parameter:
                given.append(value)
                if not is_meta(value) or value.layout is not torch.strided:
                    out.append(self.contents(value))
                elif value.__dict__:
                    raise Unknown
                else:
                    out += (value.shape, value.stride(), value.dtype, value.is_conj(), value.is_neg())
            elif kind is float or kind is bool:
                out += (kind, value)  # 1, 1.0 and True are equal, and make other types
            elif kind is tuple or kind is list or kind is torch.Size:
                out += (kind, self.seen(value, given))
            elif kind is dict or kind is OrderedDict:
                out += (kind, self.seen(value, given), self.seen(value.values(), given))
            else:
                raise Unknown
        return tuple(out)

    def contents(self, value: torch.Tensor) -> Any:
        """The model's own tensor is itself, and a small constant is its numbers, while nothing unknown is written."""
        if not self.stale:
            if id(value) in self.many.own:
                return ("own", id(value))
            if device_of(value).type == "cpu" and value.numel() <= SMALL and type(value) is torch.Tensor:
                with torch._C._DisableTorchDispatch():  # reading is no operator of the model's
                    numbers = value.tolist()
                return (value.stride(), value.shape, value.dtype, marshal.dumps(numbers))
        raise Unknown

    def again_seen(self, args: Any, kwargs: Any, given: list[torch.Tensor]) -> Any:
        """The same after the call; None where it put other tensors in their places."""
        after: list[torch.Tensor] = []
        try:
            seen = (self.seen(args, after), self.seen((kwargs,), after) if kwargs else None)
        except Unknown:
            return None
        same = len(given) == len(after) and all([a is b for a, b in zip(given, after, strict=True)])
        return seen if same else None

    def call(self, before: tuple[int, int], output: Any, given: list[torch.Tensor]) -> Kept | None:
        """What a call came to, None where that cannot be made again."""
        ops, lost = self.counted()
        try:
            return Kept(_form(output, given), ops - before[0], lost - before[1])
        except Unknown:
            return None

    def replay(self, kept: Kept, given: list[torch.Tensor]) -> Any:
        """Count a call that is not made, and return what it would."""
        self.again += kept.ops
        self.lost += kept.lost
        return self.make(kept.made, given)

    def make(self, form: Any, given: list[torch.Tensor]) -> Any:
        kind = type(form)
        if kind is _Made:
            tensor = _cast(torch.Tensor, form.like, False)
            self.lives.append(tensor)
            return tensor
        if kind is _Given:
            return given[form.place]
        if kind is tuple or kind is list:
            return kind([self.make(one, given) for one in form])
        if isinstance(form, dict):
            return kind((k, self.make(v, given)) for k, v in form.items())
        return form


def _form(value: Any, given: list[torch.Tensor]) -> Any:
    """What was returned, in a form to be made again."""
    kind = type(value)
    if isinstance(value, torch.Tensor):
        if kind is not torch.Tensor or not is_meta(value) or value.layout is not torch.strided or value.is_conj():
            raise Unknown
        place = next((i for i, each in enumerate(given) if each is value), None)
        # another tensor of the same shape: the one that was made may yet be changed in place
        return _Made(_cast(torch.Tensor, value, False)) if place is None else _Given(place)
    if kind is tuple or kind is list:
        return kind([_form(one, given) for one in value])
    if kind is dict or kind is OrderedDict:
        return kind((k, _form(v, given)) for k, v in value.items())
    if kind in _PLAIN or kind is float or kind is bool:
        return value
    raise Unknown


def _library(module: nn.Module) -> bool:
    """Whether a module and all inside are a library's, as they were written: no hooks, no function of the user's."""
    return not any(getattr(hooks, name, None) for name in _GLOBAL) and all(map(_as_written, module.modules()))


def _as_written(module: nn.Module) -> bool:
    cls, own = type(module), module.__dict__
    if not cls.__module__.startswith(LIBRARIES) or "forward" in own or any(own[name] for name in _HOOKS):
        return False
    written = (getattr(cls.forward, "__module__", None) or "").startswith(LIBRARIES)
    return written and all(_theirs(value) for name, value in own.items() if name != "_modules")


def _containers(value: Any) -> Iterator[dict[Any, Any] | list[Any]]:
    """Every dict and list in attributes, other modules left out."""
    if isinstance(value, (dict, list)):
        yield value
    if isinstance(value, (dict, list, tuple)):
        for each in _values(value):
            yield from _containers(each)


def _values(one: Any) -> Iterable[Any]:
    return one.values() if isinstance(one, dict) else one


def _theirs(value: Any) -> bool:
    """Whether nothing in an attribute is the user's: an activation function may read anything."""
    if isinstance(value, (tuple, list, set, frozenset)):
        return all(map(_theirs, value))
    if isinstance(value, dict):
        return all(map(_theirs, value.values()))
    if isinstance(value, functools.partial):
        return _theirs(value.func) and _theirs(value.args) and _theirs(value.keywords)
    place = getattr(value if callable(value) else type(value), "__module__", None)
    return place in _BUILTIN or str(place).startswith((*LIBRARIES, "torch."))
