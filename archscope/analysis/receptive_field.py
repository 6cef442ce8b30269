"""The receptive field: how many input positions one output position depends on, and how far apart outputs lie.

Walks the operators once. A window of p positions that moves s at a time turns a field (size, jump) into

    size + (p − 1)·jump,   jump·s

(A. Araujo, W. Norris, J. Sim: Computing receptive fields of convolutional neural networks. Distill (2019), equation
2; the size is not clipped to the input). Where branches meet the largest field counts. A fully connected layer that
follows a flatten sees every position, as the convolution it is equal to. Once a tensor's axes can no longer be told
apart (attention, an arbitrary view) its field is unknown, and so is all that follows from it.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from archscope.core.record import Op, Tensor, Trace
from archscope.operators import AXES, BY_OUTPUT, KEEPS, RULES, VIEWS, Reach, Work


class Field(NamedTuple):
    """Of one tensor. size, jump: per side of the input. axes: for each axis of the tensor, the sides that lie on it
    with their extents, ((side, extent), …). windowed: made by a sliding window, and so a feature map."""

    size: tuple[int, ...]
    jump: tuple[int | Fraction, ...]
    axes: tuple[tuple[tuple[int, int], ...], ...]
    windowed: bool = False


def fields(trace: Trace, done: Sequence[Work | None]) -> dict[int, Field]:
    """The field of every tensor that has one, by tensor id. done: the work of each operator."""
    known = at_first(trace.inputs)
    if trace.inputs and not known:
        return {}
    weights = {p.tensor.id for p in (*trace.params, *trace.buffers)}
    lost: set[int] = set()
    for op, did in zip(trace.ops, done, strict=True):
        onward(op, did, known, lost, weights)
    return known


def at_first(inputs: Sequence[Tensor]) -> dict[int, Field]:
    """Each position of an input sees itself; empty where the input has no sides, or there are several."""
    known: dict[int, Field] = {}
    for tensor in inputs:
        n = len(tensor.shape) - 2
        if n < 1 or n > 3 or len(inputs) > 1 or tensor.dtype.startswith("int"):
            return {}
        axes = ((), (), *(((side, tensor.shape[2 + side]),) for side in range(n)))
        known[tensor.id] = Field((1,) * n, (1,) * n, axes)
    return known


def onward(op: Op, did: Work | None, known: dict[int, Field], lost: set[int], weights: set[int]) -> None:
    """Carry the fields through one operator: what its outputs see enters `known`, or they are `lost`."""
    inputs = [known[t.id] for t in op.inputs if t.id in known]
    if lost and any(t.id in lost for t in op.inputs):
        after = None
    elif not inputs:
        if op.inputs and all(t.id in weights for t in op.inputs):
            weights.update(t.id for t in op.outputs)
        return
    else:
        after = _step(op, did, inputs)
    for t in op.outputs:
        if after is not None and len(after.axes) == len(t.shape):
            known[t.id] = after
        else:
            known.pop(t.id, None)
            lost.add(t.id)


def _step(op: Op, done: Work | None, inputs: list[Field]) -> Field | None:
    """The field after one operator, None where it is lost."""
    name = op.name
    if name in AXES:
        return _moved(op, inputs[0])
    if done is not None and done.reach is not None:
        return _slide(op, inputs[0], done.reach)
    if name in ("aten.softmax", "aten.log_softmax"):
        return None if inputs[0].axes[op.args["dim"]] else inputs[0]
    if name == "aten.linear":
        return _gather(inputs[0], (len(op.inputs[0].shape) - 1,))
    if name.startswith(("aten.upsample", "aten._upsample")):
        return _resize(op, inputs[0])
    if name in KEEPS or (name in RULES and done is not None and not done.macs):
        return _meet(op, inputs)
    if name in BY_OUTPUT and all(t.shape == op.outputs[0].shape for t in op.inputs if len(t.shape) > 1):
        return _meet(op, inputs)
    return None


def _slide(op: Op, field: Field, reach: Reach) -> Field | None:
    size, jump = list(field.size), list(field.jump)
    axes = list(field.axes)
    shape = op.outputs[0].shape
    for i, (span, step) in enumerate(reach, start=len(shape) - len(reach)):
        if len(axes[i]) > 1:
            return None
        for side, _ in axes[i]:
            size[side] += int((span - 1) * jump[side])
            jump[side] = jump[side] * (step.numerator if step.denominator == 1 else step)  # integers are quicker
            axes[i] = ((side, shape[i]),)
    whole = op.name.startswith("aten.adaptive")
    if whole:
        axes = [at if shape[i] != 1 else () for i, at in enumerate(axes)]
    return Field(tuple(size), tuple(jump), tuple(axes), windowed=not whole)


def _resize(op: Op, field: Field) -> Field | None:
    before, after = op.inputs[0].shape, op.outputs[0].shape
    span = {"linear": 2, "bicubic": 4}
    k = next((v for key, v in span.items() if key in op.name), 1)
    n = len(field.size)
    return _slide(op, field, tuple((k, Fraction(b, a)) for b, a in zip(before[-n:], after[-n:], strict=True)))


def _meet(op: Op, inputs: list[Field]) -> Field | None:
    """Branches that meet element by element or side by side."""
    shape = op.outputs[0].shape
    if len(inputs) == 1 and op.inputs[0].shape == shape:
        return inputs[0]
    widest = inputs[0]
    for field in inputs[1:]:
        if field.axes != widest.axes and _places(field) > _places(widest):
            widest = field
    if len(widest.axes) != len(shape):
        return None
    return Field(
        tuple(map(max, *[field.size for field in inputs])) if len(inputs) > 1 else widest.size,
        widest.jump,
        tuple([((at[0][0], shape[i]),) if len(at) == 1 else at for i, at in enumerate(widest.axes)]),
        windowed=any([field.windowed for field in inputs]) and any(widest.axes),
    )


def _places(field: Field) -> tuple[int, int]:
    return len(field.axes), sum(map(bool, field.axes))


def _gather(field: Field, axes: tuple[int, ...]) -> Field:
    """Everything that lies on these axes is seen at once."""
    size = list(field.size)
    for axis in axes:
        for side, extent in field.axes[axis]:
            size[side] += int((extent - 1) * field.jump[side])
    kept = tuple(() if i in axes else at for i, at in enumerate(field.axes))
    return field._replace(size=tuple(size), axes=kept, windowed=False)


def _moved(op: Op, field: Field) -> Field | None:
    """Each axis of the output joins axes of the input; what lies on none is seen at once."""
    axes = AXES[op.name](**op.args)
    if axes is None:
        return None
    seen = _gather(field, tuple(set(range(len(field.axes))).difference(*axes)))
    places = tuple([tuple([place for i in joined for place in field.axes[i]]) for joined in axes])
    return seen._replace(axes=places, windowed=field.windowed and op.name in VIEWS)
