"""When a forward fails on a shape: which two numbers clash, where each comes from, and what would mend it."""

from collections.abc import Callable
from math import isqrt
from typing import Any

from archscope.errors import ArchscopeError, ShapeError
from archscope.ir import Tensor, Trace
from archscope.spec import SOURCES, Spec
from archscope.tracer import trace

WIDEST = 1 << 14  # input sides are searched up to here
NEXT = 8  # sides behind the first that works, which must work too before a range is named

Run = Callable[[int], Any]  # runs the model on a square input of this side; raises what the tracer raises


def diagnose(error: ShapeError, spec: Spec, model: Any, inputs: tuple[Any, ...], train: bool = False) -> str:
    """One sentence: `fc6 (Linear) expects 9216 = 256·6·6 features, gets 6400 = 256·5·5; inputs of side 227 to 258
    work, …`.

    error: with the failure that the tracer attaches. Where the model takes an image, the sizes that fit are searched
    by running it. Falls back to the error's own sentence where there is no more to say.
    """
    failure = error.failure
    if failure is None or not failure.trace.inputs:
        return str(error)
    shape = failure.trace.inputs[0].shape
    if _channels(error, failure) is not None:
        return f"{error}; {_other_channels(spec, shape[1], error.expected)}"
    text, mend = _clash(error) or (str(error), "")
    if len(shape) != 4:
        return text
    works = fitting(lambda side: trace(model, [inputs[0].new_empty((*shape[:2], side, side))], train=train))
    fits = f"; {_sides(*works)}" if works else ""
    return f"{text}{fits}{', or' if works else '; it would take'} {mend}" if mend else f"{text}{fits}"


def _sides(low: int, high: int | None) -> str:
    if high is None:
        return f"inputs of side {low} or more work"
    return f"inputs of side {low} to {high} work" if low != high else f"an input of side {low} works"


# ---------------------------------------------------------------------------------------------------- the numbers


def _clash(error: ShapeError) -> tuple[str, str] | None:
    """A layer behind a flatten: what it expects and gets, as products of a feature map's sides, and what to change."""
    failure, expected, got = error.failure, error.expected, error.got
    if expected is None or got is None:
        return None
    source = _flattened(failure.trace, got)
    if source is None:
        return None
    c, *sides = source.shape[1:]
    kind = failure.trace.modules.get(failure.path, "operator")
    text = f"{failure.path} ({kind}) expects {expected}{_factors(expected, c, len(sides))} features, "
    return text + f"gets {got} = {'·'.join(map(str, source.shape[1:]))}", f"a layer with in_features={got}"


def _flattened(trace: Trace, features: int) -> Tensor | None:
    """The feature map [n, c, h, w] whose flattening gave this many features, the last one if there are several."""
    for op in reversed(trace.ops):
        if op.outputs and op.outputs[0].shape[1:] == (features,) and op.inputs and len(op.inputs[0].shape) > 2:
            return op.inputs[0] if op.inputs[0].numel == op.outputs[0].numel else None
    return None


def _factors(features: int, c: int, n: int) -> str:
    """` = 256·6·6` where that many channels and equal sides give the features."""
    side = isqrt(features // c) if n == 2 else features // c
    return f" = {'·'.join(map(str, (c, *(side,) * n)))}" if c * side**n == features else ""


# -------------------------------------------------------------------------------------------------------- channels


def _channels(error: ShapeError, failure: Any) -> Tensor | None:
    """The model's input, where the layer that failed takes it and another number of channels."""
    given = failure.trace.inputs[0]
    at_input = any(y.path == failure.path and y.inputs and y.inputs[0].id == given.id for y in failure.trace.layers)
    clash = len(given.shape) > 1 and error.got == given.shape[1] and error.expected not in (None, error.got)
    return given if at_input and clash else None


def _other_channels(spec: Spec, channels: int, expected: int | None) -> str:
    """What to type for this number of channels."""
    keys = SOURCES[spec.source].keys(spec.name)
    if "in_channels" not in keys or spec.arguments.get("in_channels") == channels:
        return f"give it an input of {expected} channels"
    head, *pairs = spec.text.split("@")
    kept = "".join(f"@{pair}" for pair in pairs if not pair.startswith("in_channels="))
    return f"`{head}@in_channels={channels}{kept}` takes {channels}"


# ------------------------------------------------------------------------------------------------------- the sizes


def fitting(run: Run) -> tuple[int, int | None] | None:
    """The smallest and the largest square input that works, None for the largest where all above work; or None where
    no such range is found.

    The sides of a feature map never shrink as the input grows, so both ends are found by bisection; they and their
    neighbours are then run. Where a model takes every other size, say, nothing is claimed.
    """
    seen: dict[int, int] = {}

    def size(side: int) -> int:
        """-1 too small, 0 works, 1 too large."""
        if side not in seen:
            try:
                run(side)
                seen[side] = 0
            except ShapeError as error:
                more = error.expected is not None and error.got is not None and error.got > error.expected
                seen[side] = 1 if more else -1
        return seen[side]

    try:
        high = 1
        while size(high) < 0:
            high *= 2
            if high > WIDEST:
                return None
        first = _bisect(lambda side: size(side) >= 0, high)
        if size(first) or (first > 1 and size(first - 1) >= 0):
            return None
        if size(WIDEST) == 0:
            last = None
        else:
            last = _bisect(lambda side: size(side) > 0, WIDEST) - 1
            if size(last + 1) <= 0:
                return None
        upto = min(first + NEXT, last or WIDEST)
        return None if any(size(side) for side in (*range(first, upto + 1), last or WIDEST)) else (first, last)
    except ArchscopeError:
        return None


def _bisect(holds: Callable[[int], bool], high: int) -> int:
    """The smallest side from 1 to `high` for which it holds; it does at `high`."""
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
