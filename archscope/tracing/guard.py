"""The user's model is left as it was."""

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import is_, itemgetter
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn
from torch._C._autograd import _unsafe_set_version_counter  # type: ignore[import]
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from archscope.tracing.copies import copied
from archscope.tracing.devices import is_meta, real_devices
from archscope.tracing.tensors import is_lazy, is_scripted

DEEP = 4  # containers within containers of a module that are looked into
MANY = 200  # attributes of an object that is not looked into

_ATOMS = frozenset(
    (int, bool, float, str, type(None), bytes, complex, torch.dtype, torch.device, torch.Size, torch.Tensor)
) | {nn.Parameter, type, FunctionType, MethodType, BuiltinFunctionType, torch.nn.parameter.Buffer}
_CONTAINERS = frozenset((dict, list, set, OrderedDict, defaultdict, deque, Counter))
_CACHED = type(lru_cache(lambda: None))
_OTHERS = (nn.Module, torch.Tensor, type, ModuleType)

FIRST = tuple(vars(nn.Module()))  # attributes of every module
_OWN = itemgetter("_parameters", "_buffers", "_modules")
_HOOKS = itemgetter(*[name for name in FIRST if name.endswith(("hooks", "_kwargs", "_called", "_set"))])


class AttributeContents:
    """What lists, dicts, sets and objects in the attributes of modules hold: layers of them, but no other module."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.empty: list[Any] = []  # most of them
        self.full: list[tuple[Any, Any]] = []

    def add(self, attributes: dict[str, Any]) -> None:
        """The attributes of a module."""
        values = tuple(attributes.values())
        if tuple(attributes)[: len(FIRST)] == FIRST and not any(hooks := _HOOKS(attributes)):
            self.empty += hooks
            for value in _OWN(attributes):
                if value:
                    self.full.append((value, value.copy()))
                else:
                    self.empty.append(value)
            values = values[len(FIRST) :]
        for value in values:
            if type(value) not in _ATOMS:
                self.hold(value, 0)

    def hold(self, value: Any, depth: int) -> None:
        """One value that may hold others."""
        kind = type(value)
        if kind in _ATOMS or depth > DEEP:
            return
        if kind in _CONTAINERS:
            if not value:
                self.empty.append(value)
                return
            if id(value) in self.seen:
                return
            self.seen.add(id(value))
            self.full.append((value, value.copy()))
            for each in value.values() if isinstance(value, dict) else value:
                if type(each) not in _ATOMS:
                    self.hold(each, depth + 1)
        elif kind is tuple:
            if not _ATOMS.issuperset(map(type, value)):
                for each in value:
                    self.hold(each, depth + 1)
        elif id(value) not in self.seen and not isinstance(value, _OTHERS):
            self.seen.add(id(value))
            inside = getattr(value, "__dict__", None)
            if type(inside) is dict and len(inside) < MANY:
                self.hold(inside, depth + 1)

    def restore(self) -> None:
        """Give everything back what it held."""
        for value in [value for value in self.empty if value]:
            value.clear()
        for value, before in self.full:
            if len(value) == len(before) and _same(value, before):
                continue
            value.clear()
            (value.extend if isinstance(value, list | deque) else value.update)(before)


def _same(value: Any, before: Any) -> bool:
    if isinstance(value, dict):
        return all(map(is_, value, before)) and all(map(is_, value.values(), before.values()))
    return isinstance(value, set) and value == before or all(map(is_, value, before))


@contextmanager
def untouched(modules: Iterable[nn.Module], train: bool | None) -> Iterator[None]:
    """Set the mode, and give the modules back as they were: flags, attributes, parameters, buffers, random state."""
    modules = list(modules)
    kept, held = [], AttributeContents()
    remembering = _caches(modules, held)
    modes = _modes(modules, train)
    scripted = [(m, m.training) for m in modules if is_scripted(m)]
    if train is not None:
        for module, _ in scripted:
            module.training = train
    for module in modules:
        if is_scripted(module):
            continue
        own = module.__dict__
        kept.append((own, own.copy()))
        if train is not None:
            own["training"] = modes.get(id(module), train)
        held.add(own)
        if own.get("_compiled_call_impl") is not None:
            own["_compiled_call_impl"] = None  # `module.compile()`: it runs as it was written
    # a write that the run leaves out still counts as one for autograd, which then refuses a backward that is pending
    state = [t for own, _ in kept for name in ("_parameters", "_buffers") for t in own[name].values()]
    written = [t for t in state if t is not None and not is_meta(t) and not is_lazy(t) and not t.is_inference()]
    versions = [t._version for t in written]
    random = torch.get_rng_state()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused path hides the work of attention
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_rng_state(random)
        for module, training in scripted:
            module.training = training
        _unsafe_set_version_counter(tuple(written), tuple(versions))
        for own, attributes in kept:
            own.clear()
            own.update(attributes)
        held.restore()
        for function, known in remembering:
            if function.cache_info().currsize != known:  # it remembers tensors of this run
                function.cache_clear()


def _caches(modules: Iterable[nn.Module], held: AttributeContents) -> list[tuple[Any, int]]:
    """The functions with a cache that the classes of modules and the files of these classes name, and how much each
    remembers; lists, dicts and sets among their names are held."""
    classes = {base for kind in set(map(type, modules)) for base in kind.__mro__ if not _of_torch(base)}
    spaces = [vars(one) for one in classes]
    spaces += [vars(sys.modules[name]) for name in {one.__module__ for one in classes} if name in sys.modules]
    found: dict[int, tuple[Any, int]] = {}
    for space in spaces:
        for name, value in list(space.items()):
            value = getattr(value, "__func__", value)  # of a static method
            if type(value) is _CACHED:
                found[id(value)] = value, value.cache_info().currsize
            elif type(value) in _CONTAINERS and not name.startswith("__") and len(value) < MANY:
                held.hold(value, DEEP)
    return list(found.values())


def _of_torch(one: type) -> bool:
    return one is object or one.__module__.partition(".")[0] in ("torch", "typing", "abc", "builtins")


def _modes(modules: Sequence[nn.Module], train: bool | None) -> dict[int, bool]:
    """Whether each module trains, by its id(), where one has its own `train()`: which keeps a part in evaluation mode,
    say. It is asked of a copy without values."""
    own = [module for module in modules if type(module).train is not nn.Module.train and not is_scripted(module)]
    if train is None or not own:
        return {}
    root = max(modules[0], modules[-1], key=lambda module: sum(1 for _ in module.modules()))
    tensors = [t for t in (*root.parameters(), *root.buffers()) if not is_lazy(t)]
    try:
        with torch._C._DisableTorchDispatch(), torch.no_grad():
            like = {
                id(t): nn.Parameter(t.to("meta"), False) if type(t) is nn.Parameter else t.to("meta") for t in tensors
            }
            other = copied(root, like)
            other.train(train)
    except Exception:  # code of the user's, which may want anything
        return {}
    return {id(module): its.training for module, its in zip(root.modules(), other.modules(), strict=False)}


@contextmanager
def materialized_apart() -> Iterator[None]:
    """Within this block a lazy module makes its parameters unseen by a run, and where they are to be."""
    original = UninitializedTensorMixin.materialize

    def materialize(self: Any, *args: Any, **kwargs: Any) -> None:
        with torch._C._DisableTorchDispatch(), torch.inference_mode(False), real_devices():
            original(self, *args, **kwargs)

    UninitializedTensorMixin.materialize = materialize
    try:
        yield
    finally:
        UninitializedTensorMixin.materialize = original
