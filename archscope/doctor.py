"""When a forward fails on a shape: which two numbers clash, where each comes from, and what would mend it."""

from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any

from archscope.errors import ArchscopeError, ShapeError
from archscope.ir import Tensor, Trace

WIDEST = 1 << 14  # input sides are searched up to here


def diagnose(error: ShapeError, run: Callable[[int], Any] | None = None) -> str:
    """One sentence: `fc6 (Linear): expects 9216 = 256·6·6 features, gets 6400 = 256·5·5; inputs of 227 to 258 fit`.

    error: with the failure that the tracer attaches. run: runs the model on a square input of a given side and raises
    what the tracer raises; with it the sizes that fit are searched, and each bound is confirmed by running it and its
    neighbour. Falls back to the error's own sentence where there is no more to say.
    """
    failure, expected, got = error.failure, error.expected, error.got
    if failure is None or expected is None or got is None:
        return str(error)
    source = _flattened(failure.trace, got)
    if source is None:
        return str(error)
    c, *sides = source.shape[1:]
    kind = failure.trace.modules.get(failure.path, "operator")
    text = f"{failure.path} ({kind}) expects {expected} = {_factors(expected, c, len(sides))} features, "
    text += f"gets {got} = {'·'.join(map(str, source.shape[1:]))}"
    fits = fitting(run, failure.path, expected) if run is not None else None
    if fits is None:
        return f"{text}; a layer for this input has in_features={got}"
    low, high = fits
    which = f"inputs of side {low} to {high} work" if low != high else f"an input of side {low} works"
    return f"{text}; {which}, or a layer with in_features={got}"


def _flattened(trace: Trace, features: int) -> Tensor | None:
    """The feature map [n, c, h, w] whose flattening gave this many features, the last one if there are several."""
    for op in reversed(trace.ops):
        if op.outputs and op.outputs[0].shape[1:] == (features,) and op.inputs and len(op.inputs[0].shape) > 2:
            return op.inputs[0] if op.inputs[0].numel == op.outputs[0].numel else None
    return None


def _factors(features: int, c: int, n: int) -> str:
    """`256·6·6` where that many channels and equal sides give the features, else the number."""
    side = isqrt(features // c) if n == 2 else features // c
    return "·".join(map(str, (c, *(side,) * n))) if c * side**n == features else str(features)


def fitting(run: Callable[[int], Any], path: str, expected: int) -> tuple[int, int] | None:
    """The smallest and largest square input for which the layer at `path` gets what it expects, or None.

    The side of a feature map never shrinks as the input grows, so both ends are found by bisection.
    """
    seen: dict[int, int] = {}

    def features(side: int) -> int:
        """What reaches the layer: its expectation when the model runs, 0 when the input is too small."""
        if side not in seen:
            try:
                run(side)
                seen[side] = expected
            except ShapeError as error:
                same = error.failure is not None and error.failure.path == path
                seen[side] = error.got if same and error.got is not None else 0
            except ArchscopeError:
                seen[side] = 0
        return seen[side]

    high = 1
    while features(high) <= expected:
        high *= 2
        if high > WIDEST:
            return None
    first = _bisect(lambda side: features(side) >= expected, high)
    past = _bisect(lambda side: features(side) > expected, high)
    if features(first) != expected or features(past - 1) != expected or features(first - 1) >= expected:
        return None
    return first, past - 1


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


def square(shape: Sequence[int], side: int) -> tuple[int, ...]:
    """An image shape [n, c, h, w] with other sides."""
    return (*shape[:2], *(side for _ in shape[2:]))
