"""The cost of a training step, forward and backward, from the record of one forward pass.

The backward pass of a product has two products of the same size: the gradients of its weight and of its input. The
second is skipped if nothing before it has a gradient (the first layer), so a training step of LeNet costs 2.72 forward
passes, not 3. FLOPs are 2·MACs here, as in the published peaks of devices.

Known limit: of an operator with three factors (`aten._trilinear`), only two gradients are counted.
"""

from typing import NamedTuple

from archscope.analysis.observed import works
from archscope.core.record import Op, Tensor, Trace
from archscope.operators import VIEWS


class Cost(NamedTuple):
    """MACs of the traced batch; None if the cost of an operator is unknown."""

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
    """MACs of forward and backward. Frozen parameters, integers, and tensors before the first trainable parameter have
    no gradient."""
    learns = {p.tensor.id for p in trace.params if p.trainable}  # tensors with a gradient
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
    """MACs of an operator's gradients: those of forward, once for each factor with a gradient."""
    if op.name in RECURRENT:
        return _recurrent(op, macs, learns)
    factors = [t for key, value in op.args.items() if not _added(op, key) for t in _tensors(value)]
    wanted = [t.id in learns for t in factors]
    if op.name == "aten.scaled_dot_product_attention":
        # q·kᵀ and p·v, each with two gradients; recomputation is not counted
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
    """Both gradients of every gate, without that of the sequence if it needs none."""
    sequence = op.inputs[0]
    if not any(t.id in learns for t in op.inputs):
        return 0
    if sequence.id in learns:
        return 2 * macs
    steps = sequence.numel // sequence.shape[-1]
    hidden = op.outputs[0].shape[-1]  # of both directions where there are two
    return 2 * macs - steps * RECURRENT[op.name] * hidden * sequence.shape[-1]


def bytes_of(trace: Trace) -> list[int]:
    """Bytes that each operator reads and writes, each tensor once; 0 for a view. Caches are ignored."""
    return [
        0 if op.name in VIEWS else sum({t.id: t.nbytes for t in (*op.inputs, *op.outputs)}.values()) for op in trace.ops
    ]


def roofline(trace: Trace, flops_per_second: float, bytes_per_second: float) -> float | None:
    """Minimal seconds of the trace: each operator is limited by the device's rate or by its memory bandwidth.

    Williams et al., CACM 52(4), 2009. None if the cost of an operator is unknown.
    """
    seconds = 0.0
    for work, count in zip(works(trace), bytes_of(trace), strict=True):
        if work is None:
            return None
        seconds += max(work.flops / flops_per_second, count / bytes_per_second)
    return seconds
