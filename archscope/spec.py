"""What a user types -> a model and its inputs.

    alexnet                            a network of the zoo
    mobilenet-v1@width=0.5@num_classes=10
    alexnet,vgg*,resnet50              several, with wildcards (in lists)
    227   3x227x227   8x3x227x227   1x128:int64        an input

Sources are entered with `@source`; a name without a colon belongs to the zoo. Nothing imports torch before a model
is built.
"""

import ast
import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from archscope.errors import ArchscopeError, SpecError, TraceError
from archscope.ir import BYTES
from archscope.zoo import registry

MOST = 1 << 40  # elements of an input; more is a typing error


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
    """Where models come from. names: those it has. build: (name, arguments) -> module. default: -> input, layout."""

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
    origin, colon, name = head.rpartition(":")
    origin = origin if colon else "zoo"
    if origin not in SOURCES:
        raise SpecError(f"no source of models is called {origin!r}; there is {_list(SOURCES)}")
    known = SOURCES[origin]
    names = list(known.names())
    if name not in names:
        raise SpecError(f"no model is called {name!r}{_nearest(name, names)}; see `archscope list`")
    keys = known.keys(name)
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise SpecError(f"{pair!r} in {text!r} is not key=value")
        if key not in keys:
            there = f"it has {_list(keys)}" if keys else "it has none"
            raise SpecError(f"{name} has no key {key!r}{_nearest(key, keys)}; {there}")
        arguments[key] = _typed(key, value, keys[key])
    return Spec(text.strip(), origin, name, arguments)


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
        origin, colon, pattern = head.rpartition(":")
        origin = origin if colon else "zoo"
        if origin not in SOURCES:
            raise SpecError(f"no source of models is called {origin!r}; there is {_list(SOURCES)}")
        matches = fnmatch.filter(SOURCES[origin].names(), pattern)
        if not matches:
            raise SpecError(f"no model matches {head!r}; see `archscope list`")
        for name in matches:
            full = f"{origin}:{name}{at}{tail}" if colon else f"{name}{at}{tail}"
            found.setdefault(full, parse(full))
    if not found:
        raise SpecError("no model was named; `archscope list` shows them, `all` takes every one")
    return list(found.values())


def _typed(key: str, value: str, default: Any) -> Any:
    """A value as the builder's default says it should be."""
    if isinstance(default, bool):
        known = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}
        if value.lower() not in known:
            raise SpecError(f"{key} is true or false, not {value!r}")
        return known[value.lower()]
    if isinstance(default, str):
        return value
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        raise SpecError(f"{key} is a number, not {value!r} (its default is {default})") from None
    if isinstance(default, float) and type(read) in (int, float):
        return float(read)
    if isinstance(default, int) and type(read) is not int:
        raise SpecError(f"{key} is a whole number, not {value!r} (its default is {default})")
    if default is not None and not isinstance(read, type(default)):
        raise SpecError(f"{key} is like {default!r}, not {value!r}")
    return read


def _nearest(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word.lower(), list(words), n=3, cutoff=0.5)
    return f"; did you mean {_list(close, 'or')}?" if close else ""


def _list(words: Iterable[str], join: str = "and") -> str:
    *first, last = words
    return f"{', '.join(first)} {join} {last}" if first else last


# ------------------------------------------------------------------------------------------------------- inputs


def _shape_and_dtype(text: str) -> tuple[list[int], str]:
    shape, _, dtype = text.strip().lower().replace("×", "x").partition(":")
    dtype = dtype or "float32"
    if dtype not in BYTES:
        raise SpecError(f"no dtype is called {dtype!r}{_nearest(dtype, BYTES)}")
    try:
        sides = [int(side) for side in shape.split("x")]
    except ValueError:
        raise SpecError(f"{text!r} is not an input: write 224, 3x224x224, 8x3x224x224 or 1x128:int64") from None
    if any(side < 1 for side in sides):
        raise SpecError(f"{text!r} is not an input: every side is at least 1")
    count = 1
    for side in sides:
        count *= side
    if count > MOST:
        raise SpecError(f"{text!r} is not an input that fits any machine: {count:,} elements")
    return sides, dtype


def parse_input(text: str | None, default: Input, layout: str, batch: int | None = None) -> Input:
    """An input from what was typed and the model's default.

    One number sets every side that has a place (h, w, or t of a sequence); a shape that is one axis short gets the
    default's batch. batch: sets the batch axis. Raises SpecError.
    """
    shape, dtype = default.shape, default.dtype
    if text is not None:
        sides, given = _shape_and_dtype(text)
        dtype = given if ":" in text else default.dtype
        if len(sides) == 1 and len(shape) > 1:
            movable = [axis for axis, letter in enumerate(layout) if letter in "dhwt"]
            shape = tuple(sides[0] if axis in movable else side for axis, side in enumerate(shape))
        elif len(sides) == len(shape) - 1 and layout.startswith("n"):
            shape = (shape[0], *sides)
        elif len(sides) == len(shape):
            shape = tuple(sides)
        else:
            raise SpecError(f"the input {text!r} has {len(sides)} axes; the model takes {len(shape)}, such as {default}")
    if batch is not None:
        if batch < 1:
            raise SpecError(f"the batch is at least 1, not {batch}")
        if "n" not in layout:
            raise SpecError(f"the input {default} has no batch axis")
        axis = layout.index("n")
        shape = (*shape[:axis], batch, *shape[axis + 1 :])
    return Input(shape, dtype)


# ------------------------------------------------------------------------------------------------------ loading


def input_of(spec: Spec, text: str | None = None, batch: int | None = None) -> Input:
    """The input a model will be run on. The builder's `in_channels` sets the channels of the default."""
    default, layout = SOURCES[spec.source].default(spec.name)
    channels = spec.arguments.get("in_channels")
    if isinstance(channels, int) and "c" in layout:
        axis = layout.index("c")
        default = default._replace(shape=(*default.shape[:axis], channels, *default.shape[axis + 1 :]))
    return parse_input(text, default, layout, batch)


def load(spec: str | Spec, input: str | None = None, batch: int | None = None) -> tuple[Any, tuple[Any, ...]]:
    """Build a model without weights, and its inputs on the meta device: `model(*inputs)` runs.

    spec: "alexnet", "mobilenet-v1@width=0.5", or what `parse` returned. input: "227", "8x3x227x227", "1x128:int64".
    Raises SpecError for a wrong name, key or input, and for a value that the builder refuses.
    """
    wanted = parse(spec) if isinstance(spec, str) else spec
    given = input_of(wanted, input, batch)
    import torch

    from archscope.weightless import weightless

    try:
        with weightless():
            model = SOURCES[wanted.source].build(wanted.name, wanted.arguments)
    except ArchscopeError:
        raise
    except (ValueError, ZeroDivisionError) as error:
        raise SpecError(f"{wanted.text}: {error}") from error
    except Exception as error:
        raise TraceError(f"{wanted.text} could not be built: {type(error).__name__}: {error}") from error
    return model, (torch.empty(given.shape, dtype=getattr(torch, given.dtype), device="meta"),)
