"""The receptive field: how many input positions one output position depends on, and how far apart outputs lie.

Walks the operators once. A window of p positions that moves s at a time turns a field (size, jump) into

    size + (p − 1)·jump,   jump·s

(A. Araujo, W. Norris, J. Sim: Computing receptive fields of convolutional neural networks. Distill (2019), equation
2; the size is not clipped to the input). Where branches meet that lie over each other the largest field counts; where
one was moved (a slice, padding on one side, a window without padding) all that lies between their ends does. A fully
connected layer that follows a flatten sees every position, as the convolution it is equal to. Statistics that a
normalisation takes are not seen. Once a tensor's axes can no longer be told apart (attention, an arbitrary view) its
field is unknown, and so is all that follows from it.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import accumulate, zip_longest
from math import ceil
from typing import NamedTuple

from archscope.core.record import Op, Tensor, Trace
from archscope.operators import AXES, BY_OUTPUT, KEEPS, RULES, VIEWS, Reach, Work


class Field(NamedTuple):
    """Of one tensor. size, jump: per side of the input; behind an upsampling the size is a fraction, and rounded up
    to whole positions of the map that was enlarged it is what the position that sees most sees. coarse: of that map,
    per side its size and its jump. axes: for each axis of the tensor, the sides that lie on it
    with their extents, ((side, extent), …). windowed: made by a sliding window, and so a feature map. shift:
    by how many positions of the input the middle of position i lies behind i·jump, per side; empty where by none."""

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
    views: dict[int, int] = {}  # the tensor that one is a view of
    for op, did in zip(trace.ops, done, strict=True):
        onward(op, did, known, lost, weights)
        for t in op.outputs if op.name in VIEWS and op.inputs else ():
            if t.id != op.inputs[0].id:
                views[t.id] = views.get(op.inputs[0].id, op.inputs[0].id)
        if op.inputs and views and op.name.endswith("_") and op.name not in VIEWS:
            _written(op.inputs[0].id, views, known, lost)
    return known


def _written(written: int, views: Mapping[int, int], known: dict[int, Field], lost: set[int]) -> None:
    """What shares its memory with a tensor that was written to sees what it sees, or it is not known what."""
    root = views.get(written, written)
    after = known.get(written)
    for t in [root, *[one for one, of in views.items() if of == root]]:
        before = known.get(t)
        if t != written and before is not None and (after is None or not _over_each_other(before, after)):
            del known[t]
            lost.add(t)
        elif before is None and after is not None and t != written:
            lost.add(t)


def _over_each_other(one: Field, other: Field) -> bool:
    """Whether they are as large, and in the same place."""
    return (one.size, one.jump, one.shift) == (other.size, other.jump, other.shift)


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
        joined = _joined(op, known) if op.name in JOINS else inputs
        after = _step(op, did, joined) if joined else None
    each = [after] * len(op.outputs)
    if after is not None and op.name in PARTS:
        axis = op.args.get("dim", 0) % len(after.axes)
        begins = accumulate([t.shape[axis] for t in op.outputs], initial=0)
        each = [_shifted(after, axis, begin) for begin in begins]
    for t, after in zip(op.outputs, each, strict=False):
        if after is not None and len(after.axes) == len(t.shape):
            known[t.id] = after
        else:
            known.pop(t.id, None)
            lost.add(t.id)


PARTS = frozenset(
    f"aten.{name}"
    for name in "split split_with_sizes tensor_split chunk unsafe_split unsafe_chunk hsplit vsplit".split()
)
PADS = frozenset(
    f"aten.{name}" for name in ("pad", "constant_pad_nd", *[f"{kind}_pad{n}d" for kind in ("reflection", "replication")
    for n in (1, 2, 3)])
)  # fmt: skip
JOINS = frozenset(f"aten.{name}" for name in ("cat", "concat", "concatenate"))


def _joined(op: Op, known: Mapping[int, Field]) -> list[Field]:
    """The fields of parts that are joined, each where it comes to lie; none where the parts are out of order."""
    axis, begin, found = op.args.get("dim", 0) % len(op.outputs[0].shape), 0, []
    for t in op.inputs:
        if (field := known.get(t.id)) is not None:
            found.append(
                _shifted(field, axis, -begin) if len(field.axes) > axis and len(field.axes[axis]) == 1 else field
            )
        begin += t.shape[axis] if len(t.shape) > axis else 0
    apart = any(len(field.axes) > axis and field.axes[axis] for field in found) and len({f.shift for f in found}) > 1
    return [] if apart else found


def _shifted(field: Field, axis: int, places: int) -> Field:
    """The field where the first position of an axis is another, so many places further on."""
    far: list[int | Fraction] = [0] * len(field.size)
    for side, _ in field.axes[axis]:
        far[side] = places * field.jump[side]
    return field._replace(shift=moved(field.shift, far))


def moved(shift: Sequence[int | Fraction], far: Sequence[int | Fraction]) -> tuple[int | Fraction, ...]:
    """A shift and so much more on each side; empty where it comes to none."""
    both = [_plain(a + b) for a, b in zip_longest(shift, far, fillvalue=0)]
    return tuple(both) if any(both) else ()


def _padded(op: Op, field: Field) -> Field:
    before = op.args.get("pad", op.args.get("padding"))
    for axis, places in zip(reversed(range(len(field.axes))), before[::2], strict=False):
        field = _shifted(field, axis, -places)
    return field


def _step(op: Op, done: Work | None, inputs: list[Field]) -> Field | None:
    """The field after one operator, None where it is lost."""
    name = op.name
    if name == "aten.slice":
        return _strided(op, inputs[0])
    if name == "aten.narrow":
        return _shifted(inputs[0], op.args["dim"] % len(inputs[0].axes), op.args["start"])
    if name in PADS:
        met = _meet(op, inputs)
        return None if met is None else _padded(op, met)
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
    n = len(reach)
    if op.name.startswith("aten.conv"):  # it takes all channels together, or those of a group
        mixed = _mixed(op, field, len(field.axes) - n - 1)
        if mixed is None:
            return None
        field = mixed
    size, jump, coarse = list(field.size), list(field.jump), field.coarse
    far: list[int | Fraction] = [0] * len(size)
    found = [(0, 1)] * len(size)
    axes = list(field.axes)
    shape = op.outputs[0].shape
    middles = _middles(op, reach)
    for i, (span, step) in enumerate(reach, start=len(shape) - n):
        if len(axes[i]) > 1:
            return None
        for side, _ in axes[i]:
            far[side] = middles[i - len(shape)] * jump[side]
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
    return Field(tuple(size), tuple(jump), tuple(axes), not whole, coarse, moved(field.shift, far))


def _middles(op: Op, reach: Reach) -> list[int | Fraction]:
    """By how many positions the middle of output 0 lies behind input 0, per side."""
    pads = op.args.get("padding", 0)
    if pads == "same":
        return [Fraction((span - 1) % 2, 2) for span, _ in reach]
    if pads == "valid" or op.name.startswith(("aten.adaptive", "aten.upsample", "aten._upsample")):
        pads = 0
    each = pads if isinstance(pads, tuple | list) else (pads,)
    each = tuple(each) * (len(reach) if len(each) == 1 else 1)
    found: list[int | Fraction] = []
    for (span, step), pad in zip(reach, each, strict=True):
        if op.name.startswith(("aten.adaptive", "aten.upsample", "aten._upsample")):
            found.append(Fraction(step - 1) / 2)
        elif step < 1:  # transposed
            found.append(pad * step - Fraction(span - step) / 2)
        else:
            found.append(Fraction(span - 1) / 2 - pad)
    return [_plain(middle) for middle in found]


def _mixed(op: Op, field: Field, axis: int) -> Field | None:
    """The field with all that lies on the axis of channels taken together; None where only groups of it are."""
    if axis < 0 or not field.axes[axis]:
        return field
    groups = op.args.get("groups", 1)
    if groups == 1:
        return _gather(field, (axis,))
    return field if groups == op.inputs[0].shape[axis] else None


def _strided(op: Op, field: Field) -> Field | None:
    """`x[::2]` moves as a window of one position does."""
    axis, step = op.args.get("dim", 0) % len(field.axes), op.args.get("step", 1)
    start, extent = op.args.get("start") or 0, op.inputs[0].shape[axis]
    begins = min(max(start if start >= 0 else extent + start, 0), extent)
    if len(field.axes[axis]) > 1:
        return None if step > 1 or begins or op.outputs[0].shape[axis] != extent else field
    axes, jump = list(field.axes), list(field.jump)
    field = _shifted(field, axis, begins)
    for side, _ in field.axes[axis]:
        jump[side] *= step
        axes[axis] = ((side, op.outputs[0].shape[axis]),)
    return field._replace(jump=tuple(jump), axes=tuple(axes))


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
    if op.name not in JOINS:
        inputs = [_spread(field, shape) for field in inputs]
    widest = inputs[0]
    for field in inputs[1:]:
        if field.axes != widest.axes and _places(field) > _places(widest):
            widest = field
    if len(widest.axes) != len(shape) or (any([f.axes != widest.axes for f in inputs]) and _crossed(inputs)):
        return None
    sizes, coarse, shift = [max(ends) for ends in zip(*[field.size for field in inputs], strict=True)], (), ()
    wider: list[int | Fraction] = [0] * len(sizes)  # than the largest of them
    extents = [field.extent if field.coarse else field.size for field in inputs]
    if any([field.shift != widest.shift for field in inputs]):
        ends, shift = _ends(inputs)
        wider = [end - max(each) for end, each in zip(ends, zip(*extents, strict=True), strict=True)]
    else:
        shift = widest.shift
    if any([field.coarse for field in inputs]):
        largest = [inputs[each.index(max(each))] for each in zip(*extents, strict=True)]
        bases = [f.coarse[side] if f.coarse else (0, 1) for side, f in enumerate(largest)]
        coarse = tuple([(ceil(base + more), unit) for (base, unit), more in zip(bases, wider, strict=True)])
        sizes = [field.size[side] for side, field in enumerate(largest)]
    if any(wider):
        sizes = [_plain(size + more) for size, more in zip(sizes, wider, strict=True)]
    return Field(
        tuple(sizes),
        widest.jump,
        tuple([((at[0][0], shape[i]),) if len(at) == 1 else at for i, at in enumerate(widest.axes)]),
        windowed=any([field.windowed for field in inputs]) and any(widest.axes),
        coarse=coarse,
        shift=shift,
    )


def _spread(field: Field, shape: Sequence[int]) -> Field:
    """A field whose one position of an axis meets all positions of another's: whatever lies between is between them."""
    behind = len(shape) - len(field.axes)
    spread = [(at[0][0], shape[i + behind] - 1) for i, at in enumerate(field.axes)
              if behind >= 0 and len(at) == 1 and at[0][1] == 1 < shape[i + behind]]  # fmt: skip
    if not spread:
        return field
    size = list(field.size)
    for side, more in spread:
        size[side] += more * field.jump[side]
    return field._replace(size=tuple(size))


def _crossed(inputs: list[Field]) -> bool:
    """Whether two branches have other sides on one axis, as a map and its transpose."""
    for places in zip_longest(*[reversed(field.axes) for field in inputs], fillvalue=()):
        if len({tuple([side for side, _ in at]) for at in places if at}) > 1:
            return True
    return False


def _ends(inputs: list[Field]) -> tuple[list[int | Fraction], tuple[int | Fraction, ...]]:
    """Sizes from the first position to the last that any branch sees, and where the middle of these lies."""
    sizes: list[int | Fraction] = []
    shift: list[int | Fraction] = []
    for side in range(len(inputs[0].size)):
        extents = [field.extent[side] if field.coarse else field.size[side] for field in inputs]
        lies = [any([(side, m) in at for at in field.axes for _, m in at]) for field in inputs]
        moved = [field.shift[side] if field.shift else 0 for field in inputs]
        ends = [(at - Fraction(m - 1) / 2, at + Fraction(m - 1) / 2)
                for at, m, here in zip(moved, extents, lies, strict=True) if here]  # fmt: skip
        low, high = min([a for a, _ in ends], default=0), max([b for _, b in ends], default=0)
        whole = max([m for m, here in zip(extents, lies, strict=True) if not here], default=0)
        sizes.append(_plain(max(high - low + 1, whole)))
        shift.append(_plain(Fraction(low + high) / 2))
    return sizes, tuple(shift) if any(shift) else ()


def _plain(number: int | Fraction) -> int | Fraction:
    return int(number) if number == int(number) else number


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
