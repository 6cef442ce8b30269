"""Inputs as they are typed: `227`, `3x227x227`, `8x3x227x227`, `1x128:int64`, `tokens=1x128:int64`.

`3,224,224` and `(1, 3, 224, 224)`, as Python writes a shape, are read too, and `3 224 224`.
`ids=1x128:int64<30000` is drawn below 30,000 where the run needs values. `lengths=[5,3]` and `mask=[[true,false]]` are
the values themselves, and so are `cache=none`, `scale=0.5` and `mode='fast'`. `batch.py:make` is a function that makes
all arguments.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

from archscope.core import limits
from archscope.core.errors import SpecError
from archscope.core.record import BYTES
from archscope.core.table import unknown

DTYPES = [name for name in BYTES if not name.startswith(("q", "uq")) and name != "complex32"]


class Input(NamedTuple):
    """Shape and dtype of one input."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        text = "x".join(map(str, self.shape))
        return text if self.dtype == "float32" else f"{text}:{self.dtype}"


class Argument(NamedTuple):
    """One argument of a forward.

    layout: a letter an axis (n batch, c channels, t steps, d h w sides, any other fixed). name: of a keyword argument,
    empty for one by position. listed: handed over in a list of its own, as torchvision's detectors take images.
    as_model: nobody named a dtype, so it is that of the model's parameters. below: what is drawn is below it, 0 where
    nobody says. value: where the value itself is given, it alone in a tuple; numbers in lists are those of a tensor.
    """

    input: Input
    layout: str = ""
    name: str = ""
    listed: bool = False
    as_model: bool = False
    below: int = 0
    value: tuple[Any, ...] = ()

    def with_axis(self, letter: str, side: int) -> "Argument":
        """The same with another size on the axis of that letter, where its layout has one."""
        if letter not in self.layout:
            return self
        axis, shape = self.layout.index(letter), self.input.shape
        return self._replace(input=self.input._replace(shape=(*shape[:axis], side, *shape[axis + 1 :])))


Text = str | int | Sequence[int] | Sequence[str] | None  # an input, or several, as a user writes them


def texts_of(input: Text) -> list[str]:
    """The same as text: 227 and (8, 3, 227, 227) are one input, ["1x128:int64", "1x128:bool"] are two."""
    if input is None:
        return []
    if isinstance(input, str | int):
        return [str(input)]
    if all(isinstance(side, int) for side in input):
        return ["x".join(map(str, input))]
    return [str(one) for one in input]


def shape_and_dtype(text: str) -> tuple[list[int], str]:
    """The sides and the dtype of `8x3x224x224`, `3,224,224`, `(1, 3, 224, 224):float16`. Raises SpecError."""
    shape, _, dtype = text.partition("<")[0].strip().lower().replace("×", "x").partition(":")
    dtype = dtype.removeprefix("torch.") or "float32"
    if dtype not in DTYPES:
        raise SpecError(unknown("dtype", dtype, DTYPES))
    if (listed := re.fullmatch(r"(?:torch\.size)?\(\[?(.*?),?\s*\]?\)|\[(.*)\]", shape)) or re.search(r"[,*\s]", shape):
        within = (listed[1] or listed[2]).strip() if listed else shape
        shape = re.sub(r"\s*,\s*" if listed else r"\s*[,*]\s*|\s+", "x", within)
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
        sides, given = shape_and_dtype(text)
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
    _may_fit(shape)
    return Input(shape, dtype)


def check_input(text: str) -> None:
    """Raises SpecError where the text is no input of any model."""
    if not is_code(text):
        name, shape = _named(text)
        _whole(shape, name)


def parse_inputs(texts: Sequence[str], defaults: Sequence[Argument], batch: int | None = None) -> tuple[Argument, ...]:
    """The arguments of a forward from what was typed, one text each, and the model's defaults.

    A text without a name sets the first input, and those of the same layout with it (the two images of an optical
    flow); several set one each. `name=SHAPE` sets the argument of that name. Where there are no defaults, a text is a
    whole shape. Raises SpecError.
    """
    pairs = [_named(text) for text in texts]
    plain = [text for name, text in pairs if not name]
    named = {name: text for name, text in pairs if name}
    if len(plain) + len(named) < len(texts):
        raise SpecError(f"an input is given twice in {' '.join(texts)}")
    found = list(defaults)
    if named and not plain and not any(given.name for given in found):
        found = []  # other arguments than those by position
    if plain and not defaults:
        found = [_whole(text, "") for text in plain]
    elif len(plain) == 1:
        first = found[0].layout
        found = [_set(g, plain[0]) if g.layout == first else g for g in found]
    elif plain:
        if len(plain) != len(found):
            are = "1 input" if len(found) == 1 else f"{len(found)} inputs"
            raise SpecError(f"{len(plain)} inputs are given; the model has {are}")
        found = [_set(g, text) for g, text in zip(found, plain, strict=True)]
    places = {given.name: i for i, given in enumerate(found) if given.name}
    for name, text in named.items():
        if name in places:
            found[places[name]] = _set(found[places[name]], text)
        else:
            found.append(_whole(text, name))
    if batch is not None:
        if found and not any("n" in given.layout for given in found):
            raise SpecError(f"the input {found[0].input} has no batch axis")
        found = [g._replace(input=parse_input(None, g.input, g.layout, batch)) if "n" in g.layout else g for g in found]
    for given in found:
        _may_fit(given.input.shape)
    return tuple(found)


def _set(given: Argument, text: str) -> Argument:
    """The argument with what was typed for it."""
    if given.name and (value := _value(text)):
        return _of_value(value, given.name)
    input = parse_input(text, given.input, given.layout)
    return given._replace(input=input, as_model=given.as_model and ":" not in text, below=_below(text, input))


def _may_fit(shape: Sequence[int]) -> None:
    if prod(shape) > limits.INPUT:
        raise SpecError(f"an input of {'×'.join(map(str, shape))} fits no machine: {prod(shape):,} elements")


def _named(text: str) -> tuple[str, str]:
    name, equals, shape = text.rpartition("=")
    if equals and not name.strip().isidentifier():
        raise SpecError(f"{text!r} is not an input: write SHAPE, or NAME=SHAPE for the argument NAME of the forward")
    return name.strip(), shape


def _whole(text: str, name: str) -> Argument:
    """An input that is given in full; its first axis is the batch. One with a name may be given by its value."""
    if name and (value := _value(text)):
        return _of_value(value, name)
    sides, dtype = shape_and_dtype(text)
    layout = LAYOUTS.get(len(sides), "n" + "?" * (len(sides) - 1))
    input = Input(tuple(sides), dtype)
    return Argument(input, layout, name, as_model=":" not in text, below=_below(text, input))


def is_code(text: str) -> bool:
    """Whether a text names the function of a file, `batch.py:make`, that makes all arguments of a forward."""
    return re.fullmatch(r".+\.py:\w+", text.strip()) is not None


def _below(text: str, input: Input) -> int:
    """The bound of `1x128:int64<30000`, 0 where there is none. Raises SpecError."""
    _, less, bound = text.partition("<")
    if not less:
        return 0
    if "int" not in input.dtype:
        raise SpecError(f"{text!r}: only integers have a bound, such as {Input(input.shape, 'int64')}<30000")
    if not bound.strip().isdecimal() or int(bound) < 1:
        raise SpecError(f"{text!r}: the bound is a whole number from 1 on, such as <30000")
    return int(bound)


def _value(text: str) -> tuple[Any, ...]:
    """The value that is written out, alone in a tuple, with a dtype behind it: `[5,3]`, `[5,3]:int32`, `none`, `0.5`,
    `'fast'`. Nothing for a shape."""
    plain, colon, dtype = text.strip().rpartition(":")
    if not colon or dtype.removeprefix("torch.") not in DTYPES:
        plain, dtype = text.strip(), ""
    if plain.lower() in ("none", "true", "false"):
        return (ast.literal_eval(plain.capitalize()), dtype)
    if not re.match(r"""\[|\{|['"]|-?\d*\.\d|-\d|-?\d+\.?\d*e""", plain):
        return ()
    plain = re.sub(r"\b(none|true|false)\b", lambda word: word[0].capitalize(), plain)
    try:
        return (ast.literal_eval(plain), dtype.removeprefix("torch."))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise SpecError(f"{text!r} is no value: write [5,3], [[true,false]], none, 0.5 or 'text'") from None


def _of_value(read: tuple[Any, ...], name: str) -> Argument:
    """An argument that is given by its value: numbers in lists are a tensor, anything else is what it is."""
    value, dtype = read
    numbers = list(_numbers(value)) if isinstance(value, list) else []
    if not numbers and not dtype:
        return Argument(Input((), ""), "", name, value=(value,))
    kinds = {type(number) for number in numbers or [value]}
    if not kinds <= {int, float, bool}:
        raise SpecError(f"{name}={value!r} is no tensor: it holds {', '.join(sorted(kind.__name__ for kind in kinds))}")
    dtype = dtype or ("bool" if kinds == {bool} else "float32" if float in kinds else "int64")
    return Argument(Input(_sides(value, name), dtype), "", name, value=(value,))


def _numbers(value: Any) -> Iterator[Any]:
    """What stands in nested lists."""
    for one in value:
        if isinstance(one, list):
            yield from _numbers(one)
        else:
            yield one


def _sides(value: Any, name: str) -> tuple[int, ...]:
    """The shape of nested lists. Raises SpecError where they are not rectangular."""
    if not isinstance(value, list):
        return ()
    inner = {_sides(one, name) for one in value}
    if len(inner) > 1:
        raise SpecError(f"{name}={value!r} is no tensor: its rows are not of one length")
    return (len(value), *(inner.pop() if inner else ()))


LAYOUTS = {1: "?", 2: "n?", 3: "n??", 4: "nchw", 5: "ncdhw"}  # by the number of axes, where nobody says


def of_shape(shape: Sequence[int], dtype: str = "float32", name: str = "") -> Argument:
    """An input whose layout nobody says: integers of two axes are a sequence, four axes an image, five a video."""
    layout = "nt" if len(shape) == 2 and "int" in dtype else LAYOUTS.get(len(shape), "n" + "?" * (len(shape) - 1))
    return Argument(Input(tuple(shape), dtype), layout, name)
