"""What a training step costs, forward and backward, from the record of one forward pass.

The backward of a product has two more of the same size: the gradient of its weight, and the gradient of its input. The
second is left out where nothing before the input learns (the first layer), so backward is less than twice forward: a
training step of LeNet costs 2.72 forward passes and not 3. FLOPs are 2·MACs here: what a device's peak counts, too.
"""

from typing import NamedTuple

from archscope.analysis.observed import works
from archscope.core.record import Op, Tensor, Trace
from archscope.operators import VIEWS


class Cost(NamedTuple):
    """MACs of the whole batch that was traced; None where an operator's cost is unknown."""

    forward: int | None
    backward: int | None
    unknown: tuple[str, ...] = ()

    @property
    def train(self) -> int | None:
        """Forward and backward."""
        return None if self.forward is None or self.backward is None else self.forward + self.backward


# the arguments that are added, not multiplied
_ADDED = {"bias", "attn_mask"}
_SUMMAND = {"aten.addmm": "self", "aten.baddbmm": "self", "aten.addmv": "self", "aten.addbmm": "self"}
RECURRENT = {"aten.lstm": 4, "aten.gru": 3, "aten.rnn_tanh": 1, "aten.rnn_relu": 1}  # gates


def cost_of(trace: Trace) -> Cost:
    """MACs of forward and backward. A parameter that does not learn, and what comes before the first that does, have
    no gradient; nor have integers."""
    learns = {p.tensor.id for p in trace.params if p.trainable}  # what a gradient flows to
    forward = backward = 0
    unknown: dict[str, None] = {}
    for op, work in zip(trace.ops, works(trace), strict=True):
        if work is None:
            unknown[op.name] = None
        else:
            forward += work.macs
            backward += _backward(op, work.macs, learns) if work.macs else 0
        if any(t.id in learns for t in op.inputs):
            learns.update(t.id for t in op.outputs if t.dtype.startswith(("float", "bfloat", "complex")))
    if unknown:
        return Cost(None, None, tuple(unknown))
    return Cost(forward, backward)


def _backward(op: Op, macs: int, learns: set[int]) -> int:
    """MACs of an operator's gradients: as many as forward for each factor that has one."""
    if op.name in RECURRENT:
        return _recurrent(op, macs, learns)
    factors = [t for key, value in op.args.items() if not _added(op, key) for t in _tensors(value)]
    wanted = [t.id in learns for t in factors]
    if op.name == "aten.scaled_dot_product_attention":
        # q·kᵀ and p·v, each with two gradients; what is computed a second time is not counted
        return 2 * macs if any(wanted) else 0
    return macs * sum(wanted[:2])


def _added(op: Op, key: str) -> bool:
    return key in _ADDED or _SUMMAND.get(op.name) == key


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple):
        return [t for one in value for t in _tensors(one)]
    return []


def _recurrent(op: Op, macs: int, learns: set[int]) -> int:
    """Both gradients of every gate, less that of the sequence where nothing before it learns."""
    sequence = op.inputs[0]
    if not any(t.id in learns for t in op.inputs):
        return 0
    if sequence.id in learns:
        return 2 * macs
    steps = sequence.numel // sequence.shape[-1]
    hidden = op.outputs[0].shape[-1]  # of both directions where there are two
    return 2 * macs - steps * RECURRENT[op.name] * hidden * sequence.shape[-1]


def bytes_of(trace: Trace) -> list[int]:
    """Bytes that each operator reads and writes, each tensor once; 0 for a view. A cache may save some of them."""
    return [
        0 if op.name in VIEWS else sum({t.id: t.nbytes for t in (*op.inputs, *op.outputs)}.values()) for op in trace.ops
    ]


def roofline(trace: Trace, flops_per_second: float, bytes_per_second: float) -> float | None:
    """Seconds that the trace takes at least: each operator at the device's rate or its memory's, whichever is slower.

    Williams et al., CACM 52(4), 2009. None where an operator's cost is unknown.
    """
    seconds = 0.0
    for work, count in zip(works(trace), bytes_of(trace), strict=True):
        if work is None:
            return None
        seconds += max(work.flops / flops_per_second, count / bytes_per_second)
    return seconds
