"""What a user types -> a model and its inputs.

    alexnet                            a network of the zoo
    mobilenet-v1@width=0.5@num_classes=10
    alexnet,vgg*,resnet50              several, with wildcards (in lists)
    227   227x300   3x227x227   8x3x227x227   1x128:int64        an input

Sources are entered with `@source`; a name without a colon belongs to the zoo. Nothing imports torch before a model
is built.
"""

import ast
import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from archscope.errors import ArchscopeError, SpecError, TraceError
from archscope.ir import BYTES
from archscope.table import did_you_mean, unknown
from archscope.zoo import registry

MOST = 1 << 40  # elements of an input; more is a typing error
DTYPES = [name for name in BYTES if not name.startswith(("q", "uq")) and name != "complex32"]


class Input(NamedTuple):
    """Shape and dtype of one input."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        text = "x".join(map(str, self.shape))
        return text if self.dtype == "float32" else f"{text}:{self.dtype}"


@dataclass(frozen=True)
class Spec:
    """One model as it was asked for: its source, its name there, and the arguments of its builder."""

    text: str
    source: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


class Source(NamedTuple):
    """Where models come from. names: those it has. build: (name, arguments) -> module. default: -> input, layout.
    keys: -> the arguments of its builder, with their defaults."""

    names: Callable[[], Iterable[str]]
    build: Callable[[str, dict[str, Any]], Any]
    default: Callable[[str], tuple[Input, str]]
    keys: Callable[[str], dict[str, Any]]


SOURCES: dict[str, Source] = {}


def source(name: str) -> Callable[[Callable[[], Source]], Callable[[], Source]]:
    """Enter a source of models. Raises ValueError on a duplicate."""

    def enter(make: Callable[[], Source]) -> Callable[[], Source]:
        if name in SOURCES:
            raise ValueError(f"two sources are called {name!r}")
        SOURCES[name] = make()
        return make

    return enter


@source("zoo")
def zoo() -> Source:
    """The networks of archscope's own zoo."""

    def default(name: str) -> tuple[Input, str]:
        entry = registry.entries()[name]
        shape, dtype = _shape_and_dtype(entry.input)
        return Input(tuple(shape), dtype), entry.layout

    return Source(
        names=lambda: registry.entries(),
        build=lambda name, arguments: registry.build(name, **arguments),
        default=default,
        keys=lambda name: registry.entries()[name].keys,
    )


# ------------------------------------------------------------------------------------------------------- models


def parse(text: str) -> Spec:
    """Read `[SOURCE:]NAME[@key=value…]`. Raises SpecError, naming the nearest right name or key."""
    head, *pairs = text.strip().split("@")
    origin, name = _origin(head)
    known = SOURCES[origin]
    names = list(known.names())
    if name not in names:
        if not name:
            raise SpecError(f"no model was named; {_SEE}")
        if re.search(r"[,*?\[]", name):
            raise SpecError(f"one model at a time, not {head!r}; `archscope table --models {head!r}` takes several")
        raise SpecError(_sentences(f"no model is called {name!r}", did_you_mean(name, names), _SEE))
    keys = known.keys(name)
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if key not in keys:
            if not key:
                raise SpecError(f"an argument of {text.strip()!r} is empty; write {name}@key=value")
            there = f"it has {_list(keys)}" if keys else "it has none"
            raise SpecError(_sentences(f"{name} has no key {key!r}", did_you_mean(key, keys), there))
        if not equals or not value:
            raise SpecError(f"{key} has no value in {text.strip()!r}; write {name}@{key}={written(keys[key])}")
        if key in arguments:
            raise SpecError(f"{key} is set twice in {text.strip()!r}")
        arguments[key] = _typed(key, value, keys[key])
    return Spec(text.strip(), origin, name, arguments)


_SEE = "`archscope list` shows all"


def _origin(head: str) -> tuple[str, str]:
    """Source and name of `[SOURCE:]NAME`."""
    origin, colon, name = head.rpartition(":")
    origin = origin if colon else "zoo"
    if origin not in SOURCES:
        raise SpecError(f"no source of models is called {origin!r}: there is {_list(SOURCES)}")
    return origin, name


def _sentences(what: str, question: str, rest: str) -> str:
    """`what: question? rest`, or `what; rest` where there is no question."""
    return f"{what}: {question} ({rest})" if question else f"{what}; {rest}"


def expand(texts: Iterable[str]) -> list[Spec]:
    """Specs of a list: names, comma-separated names, wildcards, `all`; each once, in the order asked for."""
    found: dict[str, Spec] = {}
    for text in [part for each in texts for part in each.split(",") if part.strip()]:
        text = text.strip()
        head, at, tail = text.partition("@")
        if head == "all":
            head = "*"
        if not re.search(r"[*?\[]", head):
            found.setdefault(text, parse(text))
            continue
        origin, pattern = _origin(head)
        matches = [name for name in SOURCES[origin].names() if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            raise SpecError(f"no model matches {head!r}; {_SEE}")
        for name in matches:
            full = f"{origin}:{name}{at}{tail}" if ":" in head else f"{name}{at}{tail}"
            found.setdefault(full, parse(full))
    if not found:
        raise SpecError("no model was named; `archscope list` shows them, `all` takes every one")
    return list(found.values())


def _typed(key: str, value: str, default: Any) -> Any:
    """A value as the builder's default says it should be."""
    if isinstance(default, bool):
        if value.lower() in ("true", "yes", "on", "1"):
            return True
        if value.lower() in ("false", "no", "off", "0"):
            return False
        raise SpecError(f"{key} is true or false, not {value!r}")
    if isinstance(default, str):
        return value
    number = "a whole number" if isinstance(default, int) else "a number" if isinstance(default, float) else ""
    try:
        read = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        read = None
    if isinstance(default, float) and type(read) is int and abs(read) < 1 << 53:
        read = float(read)
    if type(read) is not type(default) and default is not None:
        what = f"{number} (its default is {default})" if number else f"like {default!r}"
        raise SpecError(f"{key} is {what}, not {value!r}")
    return read


def written(value: Any) -> str:
    """A value as a user types it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(words: Iterable[str], join: str = "and") -> str:
    *first, last = words
    return f"{', '.join(first)} {join} {last}" if first else last


# ------------------------------------------------------------------------------------------------------- inputs


def _shape_and_dtype(text: str) -> tuple[list[int], str]:
    shape, _, dtype = text.strip().lower().replace("×", "x").partition(":")
    dtype = dtype or "float32"
    if dtype not in DTYPES:
        raise SpecError(unknown("dtype", dtype, DTYPES))
    try:
        sides = [int(side) for side in shape.split("x")]
    except ValueError:
        raise SpecError(f"{text!r} is not an input: write 224, 3x224x224, 8x3x224x224 or 1x128:int64") from None
    if min(sides) < 1:
        raise SpecError(f"{text!r} is not an input: every side is at least 1")
    return sides, dtype


def parse_input(text: str | None, default: Input, layout: str, batch: int | None = None) -> Input:
    """An input from what was typed and the model's default.

    One number sets every side that has a place (h, w, or t of a sequence), as many numbers as there are such sides
    set each; a shape that is one axis short gets the default's batch. batch: sets the batch axis. Raises SpecError.
    """
    shape, dtype = default.shape, default.dtype
    if text is not None:
        sides, given = _shape_and_dtype(text)
        dtype = given if ":" in text else default.dtype
        movable = [axis for axis, letter in enumerate(layout) if letter in "dhwt"]
        if len(sides) == len(shape):
            shape = tuple(sides)
        elif movable and len(sides) in (1, len(movable)):
            each = dict(zip(movable, sides * len(movable) if len(sides) == 1 else sides, strict=True))
            shape = tuple(each.get(axis, side) for axis, side in enumerate(shape))
        elif len(sides) == len(shape) - 1 and layout.startswith("n"):
            shape = (shape[0], *sides)
        else:
            axes = "1 axis" if len(sides) == 1 else f"{len(sides)} axes"
            raise SpecError(f"the input {text!r} has {axes}; the model takes {len(shape)}, such as {default}")
    if batch is not None:
        if batch < 1:
            raise SpecError(f"the batch is at least 1, not {batch}")
        if "n" not in layout:
            raise SpecError(f"the input {default} has no batch axis")
        axis = layout.index("n")
        shape = (*shape[:axis], batch, *shape[axis + 1 :])
    if prod(shape) > MOST:
        raise SpecError(f"an input of {'×'.join(map(str, shape))} fits no machine: {prod(shape):,} elements")
    return Input(shape, dtype)


def check_input(text: str) -> None:
    """Raises SpecError where the text is no input of any model."""
    _shape_and_dtype(text)


# ------------------------------------------------------------------------------------------------------ loading


def input_of(spec: Spec, text: str | None = None, batch: int | None = None) -> Input:
    """The input a model will be run on. The builder's `in_channels` sets the channels of the default."""
    default, layout = SOURCES[spec.source].default(spec.name)
    channels = spec.arguments.get("in_channels")
    if isinstance(channels, int) and "c" in layout:
        axis = layout.index("c")
        default = default._replace(shape=(*default.shape[:axis], channels, *default.shape[axis + 1 :]))
    return parse_input(text, default, layout, batch)


def load(
    spec: str | Spec, input: str | int | Sequence[int] | None = None, batch: int | None = None
) -> tuple[Any, tuple[Any, ...]]:
    """Build a model without weights, and its inputs on the meta device: `model(*inputs)` runs.

    spec: "alexnet", "mobilenet-v1@width=0.5", or what `parse` returned. input: 227, (8, 3, 227, 227), "8x3x227x227",
    "1x128:int64". Raises SpecError for a wrong name, key or input, and for a value that the builder refuses.
    """
    wanted = parse(spec) if isinstance(spec, str) else spec
    if input is not None and not isinstance(input, str):
        input = "x".join(map(str, [input] if isinstance(input, int) else input))
    given = input_of(wanted, input, batch)
    import torch

    from archscope.construct import NAME, weightless

    try:
        with weightless():
            model = SOURCES[wanted.source].build(wanted.name, wanted.arguments)
    except ArchscopeError:
        raise
    except (ValueError, ZeroDivisionError) as error:
        raise SpecError(f"{wanted.text}: {error}") from error
    except Exception as error:
        raise TraceError(f"{wanted.text} could not be built: {type(error).__name__}: {error}") from error
    setattr(model, NAME, wanted.text)
    try:
        return model, (torch.empty(given.shape, dtype=getattr(torch, given.dtype), device="meta"),)
    except (AttributeError, RuntimeError) as error:
        raise SpecError(f"torch {torch.__version__} makes no input of dtype {given.dtype}") from error
