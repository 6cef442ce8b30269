"""The arguments of a forward as a user's own code gives them: `--inputs batch.py:make`, `example_inputs`.

Each object keeps its class: a dict of tensors, a batch of Hugging Face, a NamedTuple, a list of dicts, None and numbers
beside tensors. How they are handed over follows the forward: see `placed`.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.table import did_you_mean
from archscope.sources.guard import user_code
from archscope.sources.inputs import Argument, is_code, of_shape, texts_of
from archscope.sources.source import source_of

Placed = tuple[tuple[Any, ...], dict[str, Any]]


def code_of(input: Any) -> str:
    """`batch.py:make` where the inputs are given by code, "" where they are shapes. Raises SpecError for both."""
    texts = texts_of(input)
    found = [text for text in texts if is_code(text)]
    if found and len(texts) > 1:
        raise SpecError(f"{found[0]} gives every argument of the forward: leave out the other inputs")
    return found[0].strip() if found else ""


def result_of(text: str) -> Any:
    """What the function or the value `FILE.py:NAME` gives. Raises SpecError and TraceError."""
    where, _, name = text.rpartition(":")
    holder = source_of("file").holder(where)
    if not hasattr(holder, name):
        question = did_you_mean(name, [one for one in vars(holder) if not one.startswith("_")])
        raise SpecError(f"{where} has no {name!r}{f': {question}' if question else ''}")
    return outcome(getattr(holder, name), text)


def outcome(value: Any, what: str) -> Any:
    """The value, or what it returns where it is a function. Raises SpecError where that fails."""
    if not callable(value):
        return value
    try:
        with user_code():
            return value()
    except ArchscopeError:
        raise
    except Exception as error:
        raise SpecError(f"{what} fails, called without arguments: {type(error).__name__}: {error}") from error


def by_position_and_name(value: Any, forward: Any) -> Placed:
    """Arguments by position and by name.

    A tuple goes by position, a tuple and a dict by position and by name. A dict, or what is like one, goes by name
    where the forward has those names, and is one argument where it has not. A list is one argument of a forward that
    takes one, and goes by position where it takes more. Anything else is one argument.
    """
    if type(value) is tuple:
        if len(value) == 2 and type(value[0]) is tuple and type(value[1]) is dict:
            return value
        return value, {}
    if isinstance(value, Mapping) and value and all(isinstance(key, str) for key in value):
        if _fits(forward, (), dict(value)):
            return (), dict(value)
    elif type(value) is list and not _fits(forward, (value,), {}) and _fits(forward, tuple(value), {}):
        return tuple(value), {}
    return (value,), {}


def _fits(forward: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> bool:
    try:
        inspect.signature(forward).bind(*arguments, **named)
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return True
    return True


def has_tensors(value: Any) -> bool:
    """Whether tensors or arrays stand in it, at any depth of containers and objects."""
    return any(True for _ in _tensors(value))


def givens_in(value: Any) -> tuple[Argument, ...]:
    """The tensors in it as shapes, for tables that show what a model was run on."""
    return tuple(of_shape(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for t in _tensors(value))


def _tensors(value: Any) -> Iterator[Any]:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        for one in vars(value).values():
            yield from _tensors(one)


def as_parameter(given: Argument, forward: Any) -> Argument:
    """`steps=4` and `size=16x16` are numbers where the forward says by annotation or default that it takes such."""
    if not given.name or given.value or not given.as_model or "?" not in given.layout:
        return given
    try:
        parameter = inspect.signature(forward).parameters[given.name]
    except (TypeError, ValueError, KeyError):
        return given
    stated, default = parameter.annotation, parameter.default
    text = stated.__name__ if isinstance(stated, type) else str(stated)
    numbers = stated is not parameter.empty and "int" in text and "Tensor" not in text
    if not numbers and not (type(default) in (int, tuple, list) and default):
        return given
    sides: Any = given.input.shape
    return given._replace(input=given.input._replace(dtype=""), value=(sides if len(sides) > 1 else sides[0],))
