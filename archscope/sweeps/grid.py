"""What is swept: axes and their points.

    input=64:512:32        every input side from 64 to 512, both included, 32 apart
    width=0.25,0.5,0.75,1  values of an argument of the builder, typed as its default is
    batch=1,8,64           examples in the batch

A grid is never a list: a point is computed from its number. The builder's arguments vary slowest, then input and
batch, so that a model is built once for all its inputs.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

from archscope.analysis.metrics import STEP_METRICS, TOTALS
from archscope.core.errors import SpecError
from archscope.core.table import unknown
from archscope.sources.inputs import check_input
from archscope.sources.spec import Spec, parse, written

INPUT, BATCH = "input", "batch"  # axes that are no arguments of the builder
MOST = 100_000  # values of one axis


@dataclass(frozen=True)
class Axis:
    """One thing that is varied, and its values."""

    name: str
    values: tuple[Any, ...]


def key_of(name: str, arguments: Iterable[str] = ()) -> str:
    """The column of an axis: its name, `arg_depth` where a total is called so, `side` for the number that the input
    is set to (`input` is the whole shape)."""
    if name == INPUT:
        return "side"
    return f"arg_{name}" if name in (*TOTALS, *STEP_METRICS, "error", "side", "trial") else name


def columns(point: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record that says where it lies."""
    found: dict[str, Any] = {}
    for name, value in point.items():
        if name != INPUT:
            found[key_of(name)] = value
        elif type(value) is int:
            found["side"] = value
    return found


class Grid(Sequence[dict[str, Any]]):
    """Every combination of the values of some axes; a point is a value for each name."""

    def __init__(self, axes: Iterable[Axis]) -> None:
        self.axes = tuple(axes)
        names = [axis.name for axis in self.axes]
        if twice := [name for i, name in enumerate(names) if name in names[:i]]:
            raise SpecError(f"{twice[0]} is varied twice")
        if empty := [axis.name for axis in self.axes if not axis.values]:
            raise SpecError(f"{empty[0]} has no values")
        # slowest first: what has to be built anew
        self.slow = sorted(self.axes, key=lambda axis: axis.name in (INPUT, BATCH))

    def __len__(self) -> int:
        return prod(len(axis.values) for axis in self.axes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        rest = index % len(self)
        point: dict[str, Any] = {}
        for axis in reversed(self.slow):
            rest, at = divmod(rest, len(axis.values))
            point[axis.name] = axis.values[at]
        return {axis.name: point[axis.name] for axis in self.axes}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))


def grid_of(axes: Mapping[str, Iterable[Any]]) -> Grid:
    """A grid in Python: `{"width": [0.5, 1.0], "input": range(128, 257, 32)}`."""
    return Grid(Axis(name, tuple(values)) for name, values in axes.items())


# --------------------------------------------------------------------------------------------------------- typed


def typed_axes(texts: Iterable[str], spec: Spec) -> list[Axis]:
    """The axes that were typed, `NAME=VALUES` each. Raises SpecError for what the model does not take."""
    return [_axis(text, spec) for text in texts]


def _axis(text: str, spec: Spec) -> Axis:
    name, equals, values = (part.strip() for part in text.partition("="))
    if not name or not equals or not values:
        raise SpecError(f"{text!r} is no axis: write NAME=VALUES, such as width=0.25,0.5,1 or input=64:512:32")
    if name in spec.arguments:
        raise SpecError(f"{name} is set in {spec.text} and varied: leave one of them out")
    found = _values(name, values)
    if name == INPUT:
        for value in found:
            check_input(value)
        return Axis(name, tuple(int(value) if value.isdigit() else value for value in found))
    if name == BATCH:
        if wrong := [value for value in found if not value.isdigit() or int(value) < 1]:
            raise SpecError(f"a batch is a whole number from 1 on, not {wrong[0]!r}")
        return Axis(name, tuple(map(int, found)))
    head = spec.text.partition("@")[0]
    try:
        return Axis(name, tuple(parse(f"{head}@{name}={value}").arguments[name] for value in found))
    except SpecError as error:
        if "has no key" not in str(error):
            raise
        known = unknown("axis", name, [INPUT, BATCH, *spec.keys])
        raise SpecError(f"{spec.name} cannot be swept over it: {known}") from None


def _values(name: str, text: str) -> list[str]:
    """The values of an axis as texts: parts between commas, of which FIRST:LAST:STEP is a range."""
    parts = [part.strip() for part in re.findall(r"(?:\([^)]*\)|\[[^\]]*\]|[^,])+", text)]
    found: list[str] = []
    for part in parts:
        found += _range(name, part) if re.fullmatch(r"[-+\d.e]+(:[-+\d.e]+){1,2}", part) else [part]
    if twice := [value for value in dict.fromkeys(found) if found.count(value) > 1][:1] if len(found) < 1000 else []:
        raise SpecError(f"{name} has the value {twice[0]} twice")
    return found


def _range(name: str, text: str) -> list[str]:
    """`64:512:32` -> 64, 96, … 512; the step is 1 where it is left out. Decimals stay exact."""
    try:
        first, last, step = (Fraction(part) for part in (text if text.count(":") == 2 else f"{text}:1").split(":"))
    except (ValueError, ZeroDivisionError):
        raise SpecError(f"{name}={text} is no range: write FIRST:LAST:STEP, such as 64:512:32") from None
    if step == 0 or (last - first) * step < 0:
        raise SpecError(f"{name}={text} is an empty range: steps of {step} from {first} never reach {last}")
    count = (last - first) // step + 1
    if count > MOST:
        raise SpecError(f"{name}={text} has {count:,} values; an axis has at most {MOST:,}")
    values = [first + i * step for i in range(count)]
    return [str(value.numerator) if value.denominator == 1 else str(float(value)) for value in values]


def spelled(spec: Spec, arguments: Mapping[str, Any]) -> str:
    """A model as one would type it: `mobilenet-v1@width=0.5`."""
    return spec.text + "".join(f"@{key}={written(value)}" for key, value in arguments.items())
