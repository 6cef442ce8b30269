"""Where a run stopped, and why: what the tracer hands on with an error."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

from archscope.core.errors import ArchscopeError, ShapeError, TraceError
from archscope.core.record import Op, Trace
from archscope.operators import UPPER_BOUNDS
from archscope.tracing.lines import user_line
from archscope.tracing.modules import kind_of
from archscope.tracing.tensors import records_in

if TYPE_CHECKING:
    from archscope.tracing.run import Run


class Rerun(NamedTuple):
    """What a run was given, to run it once more with something changed."""

    model: Any
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    train: bool | None
    bound: bool


class Failure(NamedTuple):
    """Where a run stopped: the layers and operators before it, and the path of the module that was running.

    op: the operator that refused its inputs, without outputs, where it was one. place: file and line of the forward.
    values: whether a run on real values may come through. gradients: whether one with autograd may.
    """

    path: str
    trace: Trace
    op: Op | None = None
    place: str = ""
    rerun: Rerun | None = None
    values: bool = False
    gradients: bool = False


def first_line(error: Exception) -> str:
    """The first line of what an error says; a KeyError says the key alone, some say nothing: then with their name.

    Leaving PyTorch for NumPy is refused with the advice to call `Tensor.cpu()`, which would help nobody here.
    """
    said = str(error).strip().splitlines()[:1]
    if isinstance(error, TypeError) and said and "meta device type tensor to numpy" in said[0]:
        return "the forward hands a tensor to NumPy, which a trace, whose tensors hold no values, cannot follow"
    if said and (found := re.search(r"HigherOrderOperator (\w+)", said[0])):
        return f"the forward calls {found[1]}, an operator on functions, which a trace does not follow"
    if said and (found := re.search(r"(\w+)::([\w.]+): attempted to run this operator with Meta tensors", said[0])):
        return f"PyTorch gives no shape of {found[1]}.{found[2]} without values: only a trace on real values follows it"
    if said and "returned an invalid gradient" in said[0]:
        return (
            "the forward trains tensors that are no parameters of the model (layers in a plain list or dict), and a"
            " step would leave them on another device: hold them in nn.ModuleList, nn.ModuleDict or nn.ParameterList"
        )
    if said and "NestedTensor" in said[0]:
        return "the forward makes a nested tensor, which a trace does not follow: give it padded, with a mask"
    if isinstance(error, KeyError) or not said:
        return ": ".join([type(error).__name__, *said])
    return re.sub(r"\bMeta(\w+)Type\b", r"torch.\1Tensor", said[0])


def of_shapes(text: str) -> bool:
    """Whether PyTorch's own kernel refuses a shape."""
    words = "invalid for input of size|must match|shape|size of tensor|dimension|expected size|reduction dim"
    others = ("meta tensor", "data-dependent", "device")  # the devices must match, too
    return any(word in text.lower() for word in words.split("|")) and not any(word in text for word in others)


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


# what PyTorch says where gradients are asked for and autograd does not run
_NO_AUTOGRAD = (
    "require grad",
    "requires grad",
    "requires_grad",
    "grad_fn",
    "nference tensor",
    "InferenceMode",
    "gradient",
)
_VALUE = (DataDependentOutputException,)
_WANTS_VALUES = (
    *("meta tensor", "data-dependent", "data-independent", "item()", "not allocated yet", "unallocated storage"),
    "1D CPU int64 tensor, but got 1D meta",  # lengths of a packed sequence
)
# what PyTorch says of tensors without values, where it has no kernel for them
_NO_KERNEL = (
    "Meta",
    "meta",
    "fake impl",
    "FakeTensor",
    "unallocated",
    "Cannot access data pointer",
    "numpy",
)


def explained(run: "Run", error: Exception, rerun: Rerun) -> ArchscopeError:
    """The error as the user reads it, with the record up to the failure attached."""
    op, values = None, False
    if run.refused is not None and run.refused[0] in (error, error.__cause__, error.__context__):
        _, overload, args, kwargs = run.refused
        named = run.named(overload, args, kwargs)
        op = Op(overload.name, tuple(records_in(named.values())), (), named)
    path = run.failed or ""
    where = f"{path} ({kind_of(type(dict(run.modules)[path]))})" if path else run.name
    line = user_line(error)
    place = f", at {line}" if line else ""
    if isinstance(error, ShapeError):
        explanation: ArchscopeError = ShapeError(f"{where}: {error}{place}", expected=error.expected, got=error.got)
    elif op is not None and isinstance(error, RuntimeError | IndexError) and of_shapes(str(error)):
        explanation = ShapeError(f"{where}: {first_line(error)}{place}")
    elif op is None and of_torch(error) and (numbers := refused_numbers(str(error))) is not None:
        explanation = ShapeError(f"{where}: {first_line(error)}{place}", expected=numbers[0], got=numbers[1])
    else:
        text = first_line(error)
        values = not run.real and any(word in str(error) for word in _NO_KERNEL)
        if any(word in text for word in _WANTS_VALUES) or isinstance(error, _VALUE):
            values = not run.real
            most = ", or, in Python, have the largest size taken: archscope.trace(…, bound=True)"
            text = (
                "the forward depends on the value of a tensor, which a run without values does not compute. Make that a"
                f" constant or an argument{most if run.bounds and op is not None and op.name in UPPER_BOUNDS else ''}"
                f" ({op.name if op is not None else text[:80]})"
            )
        elif hasattr(run, "phases") and not torch.is_grad_enabled() and any(word in text for word in _NO_AUTOGRAD):
            text = "the forward takes gradients, which inference without autograd has not: ask for a step of training"
        elif op is not None and "cond must be a bool" in text:
            text = f"PyTorch's own shape rule of {op.name} takes no empty tensor: give at least one example"
        elif isinstance(error, TypeError) and "forward()" in text:
            text = f"the forward was called with other inputs than it takes: {text}"
        elif isinstance(error, TypeError) and "must be Tensor, not tuple" in text:
            text += "; an LSTM, a GRU and attention give a tuple, whose first is the output: x[0]"
        explanation = TraceError(f"{where}: {text}{place}")
    gradients = not run.gradients and any(word in str(error) for word in _NO_AUTOGRAD)
    explanation.failure = Failure(path, run.finish(False), op, line, rerun, values, gradients)
    return explanation
