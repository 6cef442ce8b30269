"""Where a run stopped, and why: what the tracer hands on with an error."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from archscope.core.record import Op, Trace


class Again(NamedTuple):
    """What a run was given, to run it once more with something changed."""

    model: Any
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    train: bool | None
    bound: bool


class Failure(NamedTuple):
    """Where a run stopped: the layers and operators before it, and the path of the module that was running.

    op: the operator that refused its inputs, without outputs, where it was one. place: file and line of the forward.
    """

    path: str
    trace: Trace
    op: Op | None = None
    place: str = ""
    again: Again | None = None


def first_line(error: Exception) -> str:
    """The first line of what an error says; a KeyError says the key alone, some say nothing: then with their name.

    Leaving PyTorch for NumPy is refused with the advice to call `Tensor.cpu()`, which would help nobody here.
    """
    said = str(error).strip().splitlines()[:1]
    if isinstance(error, TypeError) and said and "meta device type tensor to numpy" in said[0]:
        return "the forward hands a tensor to NumPy, which a trace, whose tensors hold no values, cannot follow"
    if isinstance(error, KeyError) or not said:
        return ": ".join([type(error).__name__, *said])
    return said[0]


def of_shapes(text: str) -> bool:
    """Whether PyTorch's own kernel refuses a shape."""
    words = ("invalid for input of size", "must match", "shape", "size of tensor", "dimension", "expected size")
    return any(word in text.lower() for word in words) and "meta tensor" not in text and "data-dependent" not in text


def refused_numbers(text: str) -> tuple[int | None, int | None] | None:
    """Expected and got, where one of PyTorch's layers refuses its input by itself; None for another sentence.

    `Expected 32, got 16`, `was expecting embedding dimension of 64, but got 32`, `expected 4D input (got 3D input)`.
    """
    if re.search(r"expect\w*\b.*\bgot\b", text, re.IGNORECASE | re.DOTALL) is None:
        return None
    found = re.search(r"expect\w*(?: \w+)* (\d+),? (?:but )?got:? (\d+)\b(?!D)", text, re.IGNORECASE)
    return (int(found[1]), int(found[2])) if found else (None, None)


def of_torch(error: BaseException) -> bool:
    """Whether an error was raised in one of PyTorch's own layers."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    home = Path(str(sys.modules["torch"].__file__)).parent / "nn"
    return at is not None and Path(at.tb_frame.f_code.co_filename).is_relative_to(home)


def user_line(error: BaseException) -> str:
    """File and line of the innermost frame that is neither torch's nor archscope's."""
    here, torch_home = Path(__file__).parent.parent, Path(str(sys.modules["torch"].__file__)).parent
    found, at = "", error.__traceback__
    while at is not None:
        code = Path(at.tb_frame.f_code.co_filename)
        if not code.is_relative_to(torch_home) and (not code.is_relative_to(here) or code.parent.name == "zoo"):
            found = f"{code.name if code.is_relative_to(here) else _near(code)}:{at.tb_lineno}"
        at = at.tb_next
    return found


def _near(path: Path) -> Path:
    """A path from the working folder, where it lies below that."""
    try:
        return path.relative_to(Path.cwd())
    except (ValueError, OSError):
        return path
