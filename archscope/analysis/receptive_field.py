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
from math import ceil
from typing import NamedTuple

from archscope.core.record import Op, Tensor, Trace
from archscope.operators import AXES, BY_OUTPUT, KEEPS, RULES, VIEWS, Reach, Work


class Field(NamedTuple):
    """Of one tensor. size, jump: per side of the input; behind an upsampling the size is a fraction, and rounded up
    to whole positions of the map that was enlarged it is what the position that sees most sees. coarse: of that map,
    per side its size and its jump. axes: for each axis of the tensor, the sides that lie on it
    with their extents, ((side, extent), …). windowed: made by a sliding window, and so a feature map. shift: by
    how many positions of the input a slice with a step begins later, per side; empty where none does."""

    size: tuple[int | Fraction, ...]
    jump: tuple[int | Fraction, ...]
    axes: tuple[tuple[tuple[int, int], ...], ...]
    windowed: bool = False
    coarse: tuple[tuple[int, int], ...] = ()
    shift: tuple[int | Fraction, ...] = ()

    @property
    def extent(self) -> tuple[int, ...]:
        """The size that the position which sees most sees, per side."""
        if not self.coarse:
            return tuple(map(ceil, self.size))
        sides = zip(self.size, self.coarse, strict=True)
        return tuple([base + ceil((size - base) / unit) * unit for size, (base, unit) in sides])


def fields(trace: Trace, done: Sequence[Work | None]) -> dict[int, Field]:
    """The field of every tensor that has one, by tensor id. done: the work of each operator."""
    known = at_first(trace.inputs, sides_of(trace.inputs, trace.ops, done))
    if trace.inputs and not known:
        return {}
    weights = {p.tensor.id for p in (*trace.params, *trace.buffers)}
    lost: set[int] = set()
    for op, did in zip(trace.ops, done, strict=True):
        onward(op, did, known, lost, weights)
    return known


def at_first(inputs: Sequence[Tensor], sides: Sequence[int] | None = None) -> dict[int, Field]:
    """Each position of an input sees itself; empty where the input has no sides, or there are several. sides: its axes
    that are sides, None for all behind batch and channels."""
    known: dict[int, Field] = {}
    for tensor in inputs:
        n = len(tensor.shape) - 2
        if n < 1 or n > 3 or len(inputs) > 1 or tensor.dtype.startswith("int"):
            return {}
        places: list[tuple[tuple[int, int], ...]] = [()] * (n + 2)
        for side, axis in enumerate(sides or range(2, n + 2)):
            places[axis] = ((side, tensor.shape[axis]),)
        known[tensor.id] = Field((1,) * n, (1,) * n, tuple(places))
    return known


TURNS = frozenset(f"aten.{name}" for name in "permute transpose swapaxes movedim t mT numpy_T".split())


def sides_of(inputs: Sequence[Tensor], ops: Sequence[Op], done: Sequence[Work | None]) -> tuple[int, ...] | None:
    """The axes of the only input that the first window moves over, or that the first layer of a sequence takes as its
    steps: (1, 2) of N×H×W×C, (1,) of N×T×C. None where it is as in N×C×H×W, or where nothing tells."""
    if len(inputs) != 1 or not 3 <= len(inputs[0].shape) <= 5:
        return None
    n = len(inputs[0].shape) - 2
    at = {inputs[0].id: tuple(range(n + 2))}  # where each axis of a tensor was
    for op, did in zip(ops, done, strict=False):
        if not op.inputs or op.inputs[0].id not in at:
            continue
        axes, found = at[op.inputs[0].id], None
        if did is not None and did.reach is not None and did.macs and len(did.reach) == n:
            found = axes[-n:]
        elif op.name == "aten.linear":
            found = axes[1:-1]
        elif op.name in SEQUENCES and len(axes) == 3:
            found = (axes[1] if op.args.get("batch_first") else axes[0],)
        if found is not None:
            return tuple(sorted(found)) if len(found) == n and sorted(found) != list(range(2, n + 2)) else None
        if op.name in TURNS and op.name in AXES:
            moved = AXES[op.name](**op.args)
            if moved is None or any(len(joined) != 1 for joined in moved):
                return None
            axes = tuple([axes[joined[0]] for joined in moved])
        elif op.outputs[0].shape != op.inputs[0].shape:
            return None
        at[op.outputs[0].id] = axes
    return None


SEQUENCES = frozenset(f"aten.{name}" for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"))


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
    if name == "aten.slice" and op.args.get("step", 1) > 1:
        return _strided(op, inputs[0])
    if name in ("aten.cumsum", "aten.cumprod", "aten.logcumsumexp"):  # back to the start
        return inputs[0]._replace(size=_gather(inputs[0], (op.args["dim"],)).size)
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
    size, jump, coarse = list(field.size), list(field.jump), field.coarse
    found = [(0, 1)] * len(size)
    axes = list(field.axes)
    shape = op.outputs[0].shape
    for i, (span, step) in enumerate(reach, start=len(shape) - len(reach)):
        if len(axes[i]) > 1:
            return None
        for side, _ in axes[i]:
            if step < 1 and not coarse and jump[side].denominator == 1:
                found[side] = int(ceil(size[side])), int(jump[side])
            size[side] += (span - 1) * jump[side]
            jump[side] = jump[side] * (step.numerator if step.denominator == 1 else step)  # integers are quicker
            axes[i] = ((side, shape[i]),)
    whole = op.name.startswith("aten.adaptive")
    if whole:
        axes = [at if shape[i] != 1 else () for i, at in enumerate(axes)]
    if not coarse and found != [(0, 1)] * len(size):
        coarse = tuple(found)
    return Field(tuple(size), tuple(jump), tuple(axes), not whole, coarse, field.shift)


def _strided(op: Op, field: Field) -> Field | None:
    """`x[::2]` moves as a window of one position does."""
    axis = op.args.get("dim", 0) % len(field.axes)
    if len(field.axes[axis]) > 1:
        return None
    axes, jump, shift = list(field.axes), list(field.jump), list(field.shift or (0,) * len(field.size))
    start = op.args.get("start") or 0
    for side, _ in field.axes[axis]:
        shift[side] += (start if start >= 0 else op.inputs[0].shape[axis] + start) * jump[side]
        jump[side] *= op.args["step"]
        axes[axis] = ((side, op.outputs[0].shape[axis]),)
    return field._replace(jump=tuple(jump), axes=tuple(axes), shift=tuple(shift) if any(shift) else field.shift)


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
    sizes, coarse, shift = [max(ends) for ends in zip(*[field.size for field in inputs], strict=True)], (), ()
    if any([field.coarse for field in inputs]):
        extents = [field.extent if field.coarse else field.size for field in inputs]
        largest = [inputs[ends.index(max(ends))] for ends in zip(*extents, strict=True)]
        coarse = tuple([f.coarse[side] if f.coarse else (0, 1) for side, f in enumerate(largest)])
        sizes = [field.size[side] for side, field in enumerate(largest)]
    if any([field.shift for field in inputs]):  # x[::2] and x[1::2] beside each other see two positions
        starts = [field.shift or (0,) * len(sizes) for field in inputs]
        shift = tuple(map(min, zip(*starts, strict=True)))
        ends = [[a + b for a, b in zip(at, f.size, strict=True)] for at, f in zip(starts, inputs, strict=True)]
        sizes = [max(each) - at for each, at in zip(zip(*ends, strict=True), shift, strict=True)]
    return Field(
        tuple(sizes),
        widest.jump,
        tuple([((at[0][0], shape[i]),) if len(at) == 1 else at for i, at in enumerate(widest.axes)]),
        windowed=any([field.windowed for field in inputs]) and any(widest.axes),
        coarse=coarse,
        shift=shift,
    )


def _places(field: Field) -> tuple[int, int]:
    return len(field.axes), sum(map(bool, field.axes))


def _gather(field: Field, axes: tuple[int, ...]) -> Field:
    """Everything that lies on these axes is seen at once."""
    size = list(field.size)
    for axis in axes:
        for side, extent in field.axes[axis]:
            size[side] += (extent - 1) * field.jump[side]
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
