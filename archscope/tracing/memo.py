"""A call is made once: what it came to is kept, and taken when an equal call comes.

`Memo` is the store, `MemoRun` a run that uses it. Two calls are equal when their modules (or operators) and arguments
are, and what is believed of equal calls is decided here, for `sizes`, sweeps and searches alike:

- The module and all inside are PyTorch's or torchvision's, without hooks and without a function of the user's among
  their attributes. Two modules are equal when classes, attributes and shapes of parameters are, as they stand at the
  call. A module whose forward may read values of its parameters is equal to itself only.
- The arguments are plain values and plain tensors: those on the meta device count by shape, strides and dtype, small
  constants by their values.
- The first call left things as they were: it set no attribute, drew no random number, wrote nothing unknown into a
  constant, and did not change the shape of its arguments. It returned plain values and tensors on the meta device.
"""

import functools
import marshal
import operator
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules import module as hooks
from torch.nn.modules.lazy import LazyModuleMixin

from archscope.core.record import Tensor
from archscope.tracing.devices import device_of, is_meta
from archscope.tracing.dispatch import OVERLOADS
from archscope.tracing.guard import FIRST
from archscope.tracing.layer_cache import CLONABLE
from archscope.tracing.run import Run
from archscope.tracing.tensors import tensors_in

LIBRARIES = ("torch.nn.", "torchvision.")  # whose modules depend on their arguments and attributes alone
SMALL = 128  # elements of a constant that counts by its values

_HOOKS = operator.itemgetter("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_BUILTIN = ("builtins", "collections", "functools", "torch", "_operator", None)
_PLAIN = frozenset((int, str, type(None), torch.dtype, torch.device, torch.memory_format, torch.layout))
_BY_SHAPE = frozenset(CLONABLE)  # these read no value of a parameter that would change a shape
_like = torch.Tensor._make_subclass  # another tensor of the same memory; no dispatch mode sees it


class Unknown(Exception):
    """What a call is given or gives does not decide what an equal call would do."""


class MemoEntry(NamedTuple):
    """What a call came to. form: what it returned, to be made again. cost: what the run wants to know of it."""

    form: Any
    cost: Any


class CreatedTensor(NamedTuple):
    """A tensor that a call made."""

    like: torch.Tensor
    shape: tuple[int, ...]
    dtype: str


class InputTensor(NamedTuple):
    """A tensor that a call was given, by its place among them."""

    place: int


class Memo:
    """What calls came to, and the numbers of modules: equal modules have the same.

    model: the only one whose calls are kept; its modules and tensors may then count as themselves. None: many models.
    longest: children of an `nn.Sequential` that is kept as a whole.
    """

    def __init__(self, model: nn.Module | None = None, longest: int = 1 << 30) -> None:
        self.calls: dict[Any, MemoEntry | None] = {}  # None: to be made every time
        self.keys: dict[Any, int] = {}
        self.longest, self.model = longest, model
        modules = [] if model is None else list(model.modules())
        self.users = model is None or not all([is_library(type(module)) for module in modules])
        self.numbers: dict[int, int | None] = {}  # of modules, where no forward of the user's may change one
        self.volatile: set[int] = set()  # the library's modules in which a run sets an attribute, and those around them
        self.own = {id(t) for m in modules for group in _state(m) for t in group.values()}

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self.calls, self.keys, self.numbers):
            kept.clear()

    def is_set(self, module: nn.Module) -> None:
        """A run sets an attribute of this module: what contains it is made every time."""
        around = self.model.modules() if self.model is not None else ()
        self.volatile.update([id(each) for each in around if any(one is module for one in each.modules())])

    def chain(self, own: dict[str, Any], numbers: list[Any]) -> Any:
        """The key of an `nn.Sequential` with these attributes and these layers; None where it is not kept."""
        if len(numbers) > self.longest or len(own) > len(FIRST) or any(_HOOKS(own)):
            return None
        return nn.Sequential, own["training"], *numbers

    def __len__(self) -> int:
        return max(len(self.calls), len(self.keys))


def _state(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its parameters and buffers; those of a scripted module lie outside of Python."""
    own = module.__dict__
    return own.get("_parameters", {}), own.get("_buffers", {})


_WRITTEN: dict[type, bool] = {}


def is_library(cls: type) -> bool:
    """Whether a class and its forward are a library's."""
    written = _WRITTEN.get(cls)
    if written is None:
        place = getattr(cls.forward, "__module__", None) or ""  # type: ignore[attr-defined]
        written = cls.__module__.startswith(LIBRARIES) and place.startswith(LIBRARIES)
        written = _WRITTEN[cls] = written and not issubclass(cls, (torch.jit.ScriptModule, LazyModuleMixin))
    return written


class MemoRun(Run):
    """A run that takes calls from a memo. A subclass decides what is kept of a call: `start`, `cost`, `repeat`."""

    def __init__(self, memo: Memo, name: str, bound: bool) -> None:
        super().__init__([], name, True, False, bound)
        self.stack.append("")
        self.memo, self.mode = memo, False  # of training, where the numbers of modules do not tell
        self.numbers = {} if memo.users else memo.numbers  # of modules, while no forward of the user's runs
        self.inside = 0  # calls of a library's modules that are being made
        self.effects = 0  # attributes that were set, and random numbers that were drawn
        self.changed: dict[int, list[tuple[dict[str, Any], dict[str, Any]]]] = {}  # of modules in which one was set

    def start(self) -> Any:
        """Where the run stands before a call."""
        raise NotImplementedError

    def cost(self, start: Any, module: nn.Module | None, given: list[torch.Tensor], output: Any) -> Any:
        """What is kept of the call that was just made. module: None for an operator. Raises Unknown for nothing."""
        raise NotImplementedError

    def repeat(self, cost: Any, given: list[torch.Tensor], output: Any) -> None:
        """Count a call that is not made."""
        raise NotImplementedError

    def is_ready(self, given: list[torch.Tensor]) -> bool:
        """Whether a call on these tensors may be kept or taken."""
        return True

    # --------------------------------------------------------------------------------------------------- calls

    def called(self, original: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> Any:
        """The output of a call of a module."""
        if self.memo.users and not self.inside:
            self.numbers.clear()  # a forward of the user's ran since, and may have changed any of them
        number = self.number(module)
        if number is None:
            return original(module, *args, **kwargs)
        given: list[torch.Tensor] = []
        try:
            key = (number, self.arguments(args, kwargs, given), torch.get_default_dtype(), self.mode)
        except Unknown:
            key = None
        kept = self.memo.calls.get(key)
        if kept is not None and self.is_ready(given):
            return self.again(kept, given)
        self.inside += 1
        try:
            if key is None:
                return original(module, *args, **kwargs)
            return self.first(key, module, functools.partial(original, module), args, kwargs, given)
        finally:
            self.inside -= 1

    def assign(self, module: nn.Module) -> None:
        """An attribute of a module is about to be set."""
        self.effects += 1
        if not is_library(type(module)):
            return  # its calls are made in any case, and `untouched` gives it back as it was
        if id(module) not in self.memo.volatile:
            self.memo.is_set(module)
            self.numbers.clear()
        if id(module) not in self.changed:
            own = module.__dict__
            held = [own, *(own[name] for name in ("_parameters", "_buffers", "_modules"))]
            self.changed[id(module)] = [(each, dict(each)) for each in held]

    def restore(self) -> None:
        """Give the modules in which an attribute was set back as they were."""
        self.give_back()
        for held in self.changed.values():
            for now, before in held:
                if list(now) != list(before) or not all(map(operator.is_, now.values(), before.values())):
                    now.clear()
                    now.update(before)

    def remembered(self, what: Any, make: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The output of an operator's call: that of an equal one, or of the call itself, `make(*args, **kwargs)`."""
        given: list[torch.Tensor] = []
        try:
            key = (what, self.arguments(args, kwargs, given), torch.get_default_dtype(), self.mode)
        except Unknown:
            return make(*args, **kwargs)
        kept = self.memo.calls.get(key)
        if kept is not None and self.is_ready(given):
            return self.again(kept, given)
        return self.first(key, None, make, args, kwargs, given)

    def again(self, kept: MemoEntry, given: list[torch.Tensor]) -> Any:
        """The output of a call that was made before."""
        output = self.make(kept.form, given)
        self.repeat(kept.cost, given, output)
        return output

    def first(self, key: Any, module: nn.Module | None, make: Any, args: Any, kwargs: Any, given: Any) -> Any:
        """Make a call, and keep what it came to where it is the first of its key. module: None for an operator."""
        calls = self.memo.calls
        if key in calls or not self.is_ready(given):
            return make(*args, **kwargs)
        calls[key] = None  # and so it stays should the call fail
        start, effects = self.start(), self.effects + len(self.stale)
        output = make(*args, **kwargs)
        if effects == self.effects + len(self.stale) and self.unchanged(key[1], args, kwargs, given):
            try:
                calls[key] = MemoEntry(self.form(output, given), self.cost(start, module, given, output))
            except Unknown:
                pass
        return output

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = super().__torch_dispatch__(func, types, args, kwargs)
        if OVERLOADS[func].draws and not all(map(is_meta, tensors_in((output,)))):
            self.effects += 1
        return output

    # ------------------------------------------------------------------------------------------------- modules

    def number(self, module: nn.Module) -> int | None:
        """Equal modules have the same number; None where calls of this one must be made."""
        here = id(module)
        if here in self.numbers:
            return self.numbers[here]
        try:
            key = self.key(module)
            number = self.memo.keys.setdefault(key, len(self.memo.keys))
        except (Unknown, TypeError):
            number = None
        self.numbers[here] = number
        return number

    def key(self, module: nn.Module) -> Any:
        """All that the work of a module depends on but its arguments. Raises Unknown or TypeError for what is not."""
        cls, own = type(module), module.__dict__
        if (
            not is_library(cls)
            or id(module) in self.memo.volatile
            or "forward" in own
            or any(_HOOKS(own))
            or hooks._global_forward_hooks
        ):
            raise Unknown
        children = own["_modules"]
        if cls is nn.Sequential and len(own) == len(FIRST):
            chain = self.memo.chain(own, [self.inner_number(child) for child in children.values()])
            if chain is None:
                raise Unknown
            return chain
        names = tuple(own)
        if names[: len(FIRST)] != FIRST:
            raise Unknown
        attributes = tuple(own.values())[len(FIRST) :]
        try:
            plain: Any = marshal.dumps(attributes, 2)
        except ValueError:
            plain = self.frozen(attributes)
        key: list[Any] = [cls, names[len(FIRST) :], plain, own["training"]]
        by_shape = cls in _BY_SHAPE
        for name in ("_parameters", "_buffers"):
            for tensor in own[name].values():
                if tensor is None:
                    key.append(None)
                elif by_shape or is_meta(tensor):
                    key += (tensor.shape, tensor.dtype, tensor.layout is torch.strided and tensor.stride())
                else:
                    key.append(self.itself(tensor))
        key += [None if child is None else self.inner_number(child) for child in children.values()]
        return tuple(key)

    def inner_number(self, module: nn.Module) -> int:
        """The number of a module inside another. Raises Unknown where it has none."""
        number = self.number(module)
        if number is None:
            raise Unknown
        return number

    def frozen(self, value: Any) -> Any:
        """An attribute as a part of a key."""
        kind = type(value)
        if kind in _PLAIN or kind is float or kind is bool:
            return kind, value
        if kind in (tuple, list, set, frozenset, torch.Size):
            return kind, tuple(map(self.frozen, value))
        if kind is dict or kind is OrderedDict:
            return kind, tuple([(self.frozen(k), self.frozen(v)) for k, v in value.items()])
        if kind is functools.partial:
            return kind, self.frozen((value.func, value.args, value.keywords))
        place = getattr(value if callable(value) else kind, "__module__", None)
        if place not in _BUILTIN and not str(place).startswith((*LIBRARIES, "torch.")):
            raise Unknown  # a function of the user's may read anything
        return value if callable(value) and not hasattr(value, "__self__") else self.itself(value)

    def itself(self, value: Any) -> Any:
        """An object that is equal to itself only."""
        if self.memo.model is None:
            raise Unknown
        return "itself", id(value)

    # ----------------------------------------------------------------------------------------------- arguments

    def arguments(self, args: Any, kwargs: Any, given: list[torch.Tensor]) -> Any:
        """All that a call can see of its arguments; their tensors are added to `given`. Raises Unknown."""
        if len(args) == 1 and not kwargs and type(x := args[0]) is torch.Tensor and is_meta(x) and not x.__dict__:
            if x.layout is torch.strided:
                given.append(x)
                return x.shape, x.stride(), x.dtype, x.is_conj(), x.is_neg()
        seen = self.seen(args, given), self.seen((kwargs,), given) if kwargs else None
        if len(given) < 2:
            return seen
        places = [id(t) for t in given]
        return seen, tuple([places.index(place) for place in places])  # one tensor twice is not two

    def unchanged(self, seen: Any, args: Any, kwargs: Any, given: list[torch.Tensor]) -> bool:
        """Whether the arguments are after a call what they were before."""
        after: list[torch.Tensor] = []
        try:
            now = self.arguments(args, kwargs, after)
        except Unknown:
            return False
        return now == seen and all(map(operator.is_, given, after))

    def seen(self, values: Any, given: list[torch.Tensor]) -> tuple[Any, ...]:
        out: list[Any] = []
        for value in values:
            kind = type(value)
            if kind is torch.Tensor or kind is nn.Parameter:
                given.append(value)
                if not is_meta(value) or value.layout is not torch.strided:
                    out.append(self.contents(value))
                elif value.__dict__:
                    raise Unknown
                else:
                    out += (value.shape, value.stride(), value.dtype, value.is_conj(), value.is_neg())
            elif kind in _PLAIN:
                out.append(value)
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
        """The model's own tensor is itself, and a small constant is its values, while nothing unknown is written."""
        if not self.stale:
            if id(value) in self.memo.own:
                return "itself", id(value)
            if device_of(value).type == "cpu" and value.numel() <= SMALL and type(value) is torch.Tensor:
                with torch._C._DisableTorchDispatch():  # reading is no operator of the model's
                    numbers = value.tolist()
                return value.stride(), value.shape, value.dtype, marshal.dumps(numbers)
        raise Unknown

    # -------------------------------------------------------------------------------------------------- output

    def form(self, value: Any, given: list[torch.Tensor]) -> Any:
        """What was returned, in a form to be made again."""
        kind = type(value)
        if isinstance(value, torch.Tensor):
            if kind is not torch.Tensor or not is_meta(value) or value.layout is not torch.strided or value.is_conj():
                raise Unknown
            for place, each in enumerate(given):
                if each is value:
                    return InputTensor(place)
            known = self.record(value)
            # another tensor of the same shape: the one that was made may yet be changed in place
            return CreatedTensor(_like(torch.Tensor, value, False), known.shape, known.dtype)
        if kind is tuple or kind is list:
            return kind([self.form(one, given) for one in value])
        if kind is dict or kind is OrderedDict:
            return kind((k, self.form(v, given)) for k, v in value.items())
        if kind in _PLAIN or kind is float or kind is bool:
            return value
        raise Unknown

    def make(self, form: Any, given: list[torch.Tensor]) -> Any:
        """What an equal call returns."""
        kind = type(form)
        if kind is CreatedTensor:
            tensor = _like(torch.Tensor, form.like, False)
            self.records[id(tensor)] = Tensor(len(self.alive), form.shape, form.dtype)
            self.alive.append(tensor)
            return tensor
        if kind is InputTensor:
            return given[form.place]
        if kind is tuple or kind is list:
            return kind([self.make(one, given) for one in form])
        if isinstance(form, dict):
            return kind((k, self.make(v, given)) for k, v in form.items())
        return form
