"""A user's own models: `path/to/nets.py:Net`, a class, a function that builds one, or a module that stands there.

Importing a file is running it. Its folder is on the import path while it is, as with `python path/to/nets.py`.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache
from glob import glob
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from archscope.core.errors import ArchscopeError, SpecError, TraceError
from archscope.core.table import did_you_mean
from archscope.sources.arguments import givens_in, has_tensors, outcome
from archscope.sources.guard import user_code
from archscope.sources.inputs import LAYOUTS, Argument, Input, of_shape, parse_input, shape_and_dtype
from archscope.sources.nested import in_full, required
from archscope.sources.source import SOURCES, Source

EXAMPLE = "example_inputs"  # beside the model, or an attribute of it

LISTED = 12  # names in a message
LIGHTNING = "example_input_array"  # attribute of a module of Lightning

_FILES: dict[Path, ModuleType] = {}


class PythonModels(Source):
    """What a file and a package have in common: a module of Python, and the name of a model in it."""

    closed = False
    guesses = True

    def holder(self, where: str) -> ModuleType:
        """The module of Python at a place. Raises SpecError where there is none, TraceError where it fails."""
        raise NotImplementedError

    def names(self, pattern: str) -> list[str]:
        where = pattern.rpartition(":")[0]
        return [f"{where}:{name}" for name in models_in(self.holder(where))]

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        where, _, attribute = name.rpartition(":")
        return made(self.holder(where), where, attribute, arguments)

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
        """What `example_inputs()` beside the model gives."""
        where, _, attribute = name.rpartition(":")
        return examples(self.holder(where), attribute)

    def example(self, name: str, model: Any) -> Any:
        """What `example_inputs` gives, where tensors are in it; else Lightning's `example_input_array`."""
        where, _, attribute = name.rpartition(":")
        found = example(self.holder(where), attribute)
        if found is None:
            return getattr(model, LIGHTNING, None)
        return found if has_tensors(found) else None

    def guess(self, model: Any, text: str) -> tuple[Argument, ...]:
        return guess(model, text)


@SOURCES.register("file")
class Files(PythonModels):
    form = r".+\.py(:[^:]*)?"
    help = "file.py:NAME"
    order = 4

    def holder(self, where: str) -> ModuleType:
        return module_at(where)

    def names(self, pattern: str) -> list[str]:
        """The modules, and the functions that say they return one, which the files of a pattern define."""
        where = pattern.rpartition(":")[0]
        paths = sorted(glob(where)) or [where]
        return [name for path in paths for name in PythonModels.names(self, f"{path}:")]

    def completed(self, name: str) -> tuple[str, str]:
        """`nets.py` is its only model. Raises SpecError where it has none or several."""
        where = name.removesuffix(":")
        if not where.endswith(".py"):
            return name, ""
        holder = module_at(where)
        *rest, last = models_in(holder) or [""]
        if rest:
            raise SpecError(f"{where} has {len(rest) + 1} models: write {', '.join(f'{where}:{one}' for one in rest)} "
                            f"or {where}:{last}")  # fmt: skip
        if not last:
            raise SpecError(_no_model(holder, where))
        return f"{where}:{last}", f"{last} is the only model in {where}; its full name is {where}:{last}"


# ----------------------------------------------------------------------------------------------- models in a module


def models_in(holder: ModuleType) -> list[str]:
    """Names of what a file defines itself and can be built without arguments."""
    from torch import nn

    found = []
    for name, value in vars(holder).items():
        if name.startswith("_") or name == EXAMPLE:
            continue
        if isinstance(value, nn.Module):
            found.append(name)
        elif getattr(value, "__module__", None) != holder.__name__ or not callable(value):
            continue
        elif isinstance(value, type):
            own = issubclass(value, nn.Module) and "forward" in {k for c in value.__mro__[:-1] for k in vars(c)}
            if own and not required(value):
                found.append(name)
        elif _returns_module(value, nn.Module) and not required(value):
            found.append(name)
    return found


def _no_model(holder: ModuleType, where: str) -> str:
    """Why a file without a name in it is no model: its classes need arguments, or there are none."""
    from torch import nn

    for name, value in vars(holder).items():
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == holder.__name__:
            wants = "".join(f"@{key}=…" for key in required(value))
            return f"no model in {where} can be built without arguments; write {where}:{name}{wants}"
    makers = [
        name for name, one in vars(holder).items() if inspect.isfunction(one) and one.__module__ == holder.__name__
    ]
    what = f"if {makers[-1]} returns one, write {where}:{makers[-1]}" if makers else (
        "archscope looks for subclasses of torch.nn.Module, and for modules")  # fmt: skip
    return f"{where} defines no model: {what}"


def _returns_module(function: Any, module: type) -> bool:
    stated = getattr(function, "__annotations__", {}).get("return")
    if isinstance(stated, str):
        return stated.endswith("Module")
    return isinstance(stated, type) and issubclass(stated, module)


def made(holder: ModuleType, where: str, attribute: str, arguments: dict[str, Any]) -> Any:
    """The module that a name of a file stands for, built with arguments."""
    from torch import nn

    builder, call, rest = attribute.partition("().")
    value = _attribute(holder, builder, lambda: _absent(holder, where, builder))
    if call:
        value = _built(value, builder, holder, where, arguments)
        value = _attribute(value, rest, lambda: f"what {builder} gives has no {rest!r}")
        arguments = {}
    if isinstance(value, nn.Module):
        if arguments:
            raise SpecError(f"{attribute} in {where} is a module, not a class: it takes no arguments")
        return value
    model = _built(value, attribute, holder, where, arguments)
    if not isinstance(model, nn.Module):
        raise SpecError(f"{attribute} in {where} gives {_a(type(model).__name__)}, not a module")
    return model


def _attribute(value: Any, path: str, absent: Callable[[], str]) -> Any:
    """What stands at a path of attributes."""
    for part in path.split("."):
        if not hasattr(value, part):
            raise SpecError(absent())
        value = getattr(value, part)
    return value


def _built(value: Any, attribute: str, holder: ModuleType, where: str, arguments: dict[str, Any]) -> Any:
    """What a builder gives for arguments."""
    if not callable(value):
        raise SpecError(f"{attribute} in {where} is neither a module nor something that builds one")
    by_place, arguments = _by_place(value, attribute, arguments)
    if not by_place:
        _fits(value, attribute, {key.partition(".")[0]: given for key, given in arguments.items()})
    arguments = in_full(value, arguments)
    try:
        return value(*by_place, **arguments)
    except ArchscopeError:
        raise
    except Exception as error:
        line = _line(error, getattr(holder, "__file__", None) or "")
        raise TraceError(f"{attribute} could not be built: {type(error).__name__}: {error}{line}") from error


def _by_place(factory: Any, name: str, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that have no name, `*args` of the builder, and those with a name. One that is given by place, whose
    key is its number, has the name that the builder has for it."""
    given = [value for key, value in arguments.items() if key.isdigit()]
    named = {key: value for key, value in arguments.items() if not key.isdigit()}
    if not given:
        return [], named
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return given, named
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return given, named
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(given) > len(names):
        raise SpecError(f"{name} takes {len(names)} arguments by place, not {len(given)}")
    found = dict(zip(names, given, strict=False))
    if twice := next((key for key in found if key in named), None):
        raise SpecError(f"{twice} of {name} is set twice")
    return [], found | named


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiouAEIOU" else f"a {noun}"


def _absent(holder: ModuleType, where: str, attribute: str) -> str:
    known = models_in(holder) or _classes_in(holder)
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    there = f"it has {', '.join(known[:LISTED])}{more}" if known else "nothing in it is a model"
    question = did_you_mean(attribute, known)
    return f"{where} has no {attribute!r}{f': {question} ({there})' if question else f'; {there}'}"


def _classes_in(holder: ModuleType) -> list[str]:
    """The classes of modules that a package has from elsewhere."""
    from torch import nn

    found = [name for name, one in vars(holder).items() if isinstance(one, type) and issubclass(one, nn.Module)]
    return [name for name in found if not name.startswith("_")]


def _fits(factory: Any, name: str, arguments: dict[str, Any]) -> None:
    """Raises SpecError for arguments that a factory does not take, and for those that it misses."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in arguments:
        if key not in parameters and not open_ended:
            has = f"it has {', '.join(parameters)}" if parameters else "it has none"
            question = did_you_mean(key, parameters)
            raise SpecError(f"{name} has no argument {key!r}{f': {question} ({has})' if question else f'; {has}'}")
    missing = [key for key in required(factory) if key not in arguments]
    if missing:
        wants = "".join(f"@{key}=…" for key in missing)
        raise SpecError(f"{name} needs {', '.join(missing)}: write {name}{wants}")


def examples(holder: ModuleType, attribute: str) -> tuple[Argument, ...]:
    """The default inputs that a file gives, as shapes."""
    given = example(holder, attribute)
    if given is None:
        return ()
    try:
        return _givens(given)
    except SpecError:
        if has_tensors(given):  # objects, None or numbers beside tensors
            return givens_in(given)
        raise


@cache  # a sweep asks for it at each point
def example(holder: ModuleType, attribute: str) -> Any:
    """What `example_inputs` gives, a function or a value, on the model's class or beside it; None without one."""
    owner = getattr(holder, attribute.split(".")[0].removesuffix("()"), None)
    value = getattr(owner, EXAMPLE, None)
    if value is None:
        value = getattr(holder, EXAMPLE, None)
    return None if value is None else outcome(value, f"{EXAMPLE} of {attribute}")


def _givens(value: Any, name: str = "") -> tuple[Argument, ...]:
    """A tensor, a shape, text such as 1x3x32x32, a tuple of those, a dict by name, or a tuple and a dict."""
    if isinstance(value, Mapping):
        return tuple(given for key, one in value.items() for given in _givens(one, str(key)))
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return (of_shape(tuple(value.shape), str(value.dtype).removeprefix("torch."), name),)
    if isinstance(value, str):
        return (of_shape(*shape_and_dtype(value), name)._replace(as_model=":" not in value),)
    if isinstance(value, list | tuple) and value:
        if all(type(side) is int for side in value):
            return (of_shape(value, "float32", name)._replace(as_model=True),)
        return tuple(given for one in value for given in _givens(one, name))
    raise SpecError(f"{EXAMPLE} gives {_a(type(value).__name__)}: give a tensor, a shape, a tuple of those, or a dict")


def guess(model: Any, text: str) -> tuple[Argument, ...]:
    """The input of a model that says nothing: the first layer tells channels or features, what was typed the sides."""
    from torch import nn

    if not text:
        return ()
    name, _, text = text.rpartition("=")
    if name:
        return ()  # an argument by name is given in full
    sides, _ = shape_and_dtype(text)
    layers = (m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear | nn.Embedding))
    first = next(layers, None)
    if isinstance(first, nn.modules.conv._ConvNd):
        n = len(first.kernel_size)
        if len(sides) in (1, n, n + 1):
            layout = "nc" + "dhw"[-n:]
            typed = parse_input(text, Input((1, first.in_channels, *[1] * n)), layout)
            found = Argument(typed, layout, as_model=":" not in text)
            if len(sides) == 2 and 1 in (n, sides[0]) and _batch_and_time(model, typed.shape, tuple(sides)):
                return ()
            return (found,)
    if isinstance(first, nn.Linear) and len(sides) == 1:
        image = (1, 3, sides[0], sides[0])  # cut into patches before the first layer
        if first.in_features != sides[0] and not _runs(model, (1, *sides)) and _runs(model, image):
            return (Argument(Input(image), "nchw", as_model=True),)
        return (Argument(Input((1, sides[0])), "n?", as_model=True),)
    if isinstance(first, nn.Embedding) and len(sides) == 1:
        return (Argument(Input((1, sides[0]), "int64"), "nt"),)
    with_batch = (1, *sides)
    if len(sides) in (2, 3) and ":" not in text and not _runs(model, tuple(sides)) and _runs(model, with_batch):
        return (Argument(Input(with_batch), LAYOUTS[len(with_batch)], as_model=True),)
    return ()


def _batch_and_time(model: Any, completed: tuple[int, ...], typed: tuple[int, ...]) -> bool:
    """Whether `1x16000` is what the forward takes, [batch, time], and not a sound of one channel, [1, 1, 16000]."""
    return not _runs(model, completed) and _runs(model, typed)


def _runs(model: Any, shape: tuple[int, ...]) -> bool:
    """Whether the forward takes an input of this shape."""
    from archscope.tracing.tracer import trace

    try:
        with user_code():
            trace(model, (shape,), values="never")
    except ArchscopeError:
        return False
    return True


# --------------------------------------------------------------------------------------------------- importing


def module_at(path: str) -> ModuleType:
    """A file as a module, run once in a process. Raises SpecError where there is none, TraceError where it fails."""
    full = Path(path).expanduser().resolve()
    if full in _FILES:
        return _FILES[full]
    if not full.is_file():
        raise SpecError(f"there is no file {path}")
    name = f"archscope_user_{full.stem}" if full.stem in sys.modules else full.stem
    found = spec_from_file_location(name, full)
    assert found is not None and found.loader is not None
    holder = module_from_spec(found)
    sys.modules[name] = holder  # dataclasses and pickles look their module up
    sys.path.insert(0, str(full.parent))
    try:
        with user_code():
            found.loader.exec_module(holder)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception) or isinstance(error, ArchscopeError):
            raise
        where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else _line(error, str(full))
        message = error.msg if isinstance(error, SyntaxError) else error
        raise TraceError(f"{path} cannot be imported: {type(error).__name__}: {message}{where}") from error
    finally:
        sys.path.remove(str(full.parent))
    _FILES[full] = holder
    return holder


def _line(error: BaseException, path: str) -> str:
    """`, at nets.py:12` for the innermost line of a file that an error went through."""
    found, at = "", error.__traceback__
    while at is not None:
        if path and at.tb_frame.f_code.co_filename == path:
            found = f", at {path}:{at.tb_lineno}"
        at = at.tb_next
    return found
