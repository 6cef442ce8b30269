"""What stands on which axis: channels and features that a layer takes elsewhere, and an axis that is missing."""

from collections.abc import Sequence

from archscope.core.record import Tensor
from archscope.shapes.case import FailureCase, Mismatch
from archscope.shapes.resize import moved_around


def times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "a single number"


def count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def after(case: FailureCase, tensor: Tensor, word: str = "after") -> str:
    where = case.origin(tensor)
    return f" {word} {where}" if where else ""


def only(shape: Sequence[int], side: int) -> int:
    """The axis behind axis 1 that has this side, 0 where none or several have: of 64×32×32 none has the 32 channels."""
    return shape.index(side, 2) if list(shape[2:]).count(side) == 1 else 0


def placed(axis: int, shape: Sequence[int]) -> str:
    return "last" if axis == len(shape) - 1 else f"on axis {axis}"


def first_to(axis: int, n: int) -> tuple[int, ...]:
    """The order of n axes that brings one to axis 1."""
    return (0, axis, *(i for i in range(1, n) if i != axis))


def channels_elsewhere(case: FailureCase, x: Tensor, expected: int, around: bool = False) -> Mismatch | None:
    """The channels are there, on another axis. around: the layer keeps the shape, so its output is turned back."""
    if case.model is None or not case.path or not (axis := only(x.shape, expected)):
        return None
    says = f"{case.name} expects {count(expected, 'channel')} on axis 1, "
    says += f"gets {times(x.shape)}{after(case, x, 'from')}, which has them {placed(axis, x.shape)}"
    return _turned(case, x, says, first_to(axis, len(x.shape)), around)


def channels_first(case: FailureCase, x: Tensor, expected: int, around: bool = False) -> Mismatch | None:
    """The channels are on axis 1, as a convolution gives them, and the layer takes them last."""
    n = len(x.shape)
    if case.model is None or not case.path or n < 3 or list(x.shape[1:]).count(expected) != 1 or x.shape[1] != expected:
        return None
    says = f"{case.name} expects {count(expected, 'feature')} on the last axis, "
    says += f"gets {times(x.shape)}{after(case, x, 'from')}, which has them on axis 1"
    return _turned(case, x, says, (0, *range(2, n), 1), around)


def _turned(case: FailureCase, x: Tensor, says: str, there: tuple[int, ...], around: bool) -> Mismatch:
    """What works with the axes of what a layer gets in this order."""
    assert case.model is not None
    back = sorted(range(len(there)), key=lambda axis: there[axis])
    to, fro = ("transpose(1, 2)" if order in ((0, 2, 1), [0, 2, 1]) else f"permute({', '.join(map(str, order))})"
               for order in (there, back))  # fmt: skip
    mend = f"{case.path}(x.{to}).{fro}" if around else f"x.{to} before {case.path}"
    change = moved_around(case.model.model, case.path, there) if around else case.model.permuted(case.path, there)
    return Mismatch(says, [mend] if case.tried(change) else [], (x,))


def no_channel_axis(case: FailureCase, x: Tensor, expected: int) -> Mismatch | None:
    """Several pictures without an axis of channels, which a convolution takes for one picture with as many channels."""
    n = int(str(case.op and case.op.name)[-2])
    axis = 1 if expected == 1 else 2 if list(x.shape[1:]).count(expected) == 1 and x.shape[1] == expected else 0
    if len(x.shape) != n + 1 or not axis or case.model is None or not case.path:
        return None
    whole = (*x.shape[:axis], 1, *x.shape[axis:])
    says = f"{case.name} takes [N, c, {', '.join('dhw'[-n:])}], gets {times(x.shape)}{after(case, x)}, and reads "
    says += f"{x.shape[0]} channels of one example"
    works = case.tried(case.model.before(case.path, lambda x: x.unsqueeze(axis)))
    return Mismatch(
        says, [f"x.unsqueeze({axis}) before {case.path}, which gives {times(whole)},"] if works else [], (x,)
    )
