"""The kinds of shape failure: for each, which two numbers clash, where they come from, and the remedies that work.

One function a kind, entered under the operators that refuse: `@clash("linear")` over `Case -> Mismatch`. A remedy is
named only after the model has been run with it and came past the layer that failed.
"""

import re
from collections.abc import Callable, Iterator
from math import isqrt, prod
from typing import Any

from archscope.core.record import Op, Tensor, Trace
from archscope.core.registry import Registry
from archscope.shapes.axes import (
    after,
    channels_elsewhere,
    channels_first,
    count,
    first_to,
    no_channel_axis,
    only,
    placed,
    times,
)
from archscope.shapes.case import FailureCase, Mismatch
from archscope.tracing.spelling import instead, viewed_as

Rule = Callable[[FailureCase], Mismatch | None]
MISMATCHES: Registry[Rule] = Registry("clash in")


def clash(*names: str) -> Callable[[Rule], Rule]:
    """Enter the kind of failure of some operators."""
    return MISMATCHES.register(*(f"aten.{name}" for name in names))


# ------------------------------------------------------------------------------------------------------- the input


def batch_or_channels(case: FailureCase) -> Mismatch | None:
    """What is wrong with the input itself: no batch axis, channels last, another number of channels."""
    given = case.trace.inputs[0]
    op = case.op
    if op is None or not op.inputs or case.model is None:
        return None
    shape = given.shape
    wants = _channels_of(op) or _first_channels(case)
    if given.dtype.startswith("int"):
        return None
    if len(shape) < 4 and not (len(shape) > 1 and _linear_first(case)):
        for other in [(1, *shape), *([(1, wants, *shape)] if wants else [])]:
            if case.with_input(other):
                axes = "batch axis" if len(other) == len(shape) + 1 else "batch and no channel axis"
                return Mismatch(f"the input {times(shape)} has no {axes}", (f"an input of {times(other)} works",))
    if op.inputs[0].id != given.id or wants is None or len(shape) < 3 or shape[1] == wants:
        return None
    n = len(op.args["weight"].shape) - 2
    if len(shape) == n + 2 and (axis := only(shape, wants)):
        there = first_to(axis, n + 2)
        moved = tuple(shape[i] for i in there)
        if case.with_input(moved, through=False):
            has = f"the input {times(shape)} has them {placed(axis, shape)}"
            return Mismatch(
                f"{case.name} expects {count(wants, 'channel')} on axis 1, {has}",
                (f"x.permute({', '.join(map(str, there))}), which gives {times(moved)}",),
            )
    if len(shape) != n + 2:
        return None
    mends = []
    if case.with_input((shape[0], wants, *shape[2:])):
        mends.append(f"an input of {count(wants, 'channel')} works")
    if op.args.get("groups", 1) == 1 and case.rebuilt(case.path, in_channels=shape[1]):
        mends.append(f"{case.path} with in_channels={shape[1]}")
    says = f"{case.name} expects {count(wants, 'channel')}, gets {shape[1]} from the input"
    return Mismatch(says, mends, channels=shape[1])


def _linear_first(case: FailureCase) -> bool:
    """Whether the first layer with weights is fully connected: it takes any axes before the features."""
    ops = [*case.trace.ops, *([case.op] if case.op is not None else [])]
    first = next((op for op in ops if "weight" in op.args or op.name in ("aten.addmm", "aten.mm")), None)
    return first is not None and first.name in ("aten.linear", "aten.addmm", "aten.mm")


def one_example(case: FailureCase) -> Mismatch | None:
    """Statistics over a single value a channel, in training mode."""
    if "more than 1 value per channel" not in str(case.error) or case.model is None:
        return None
    says = f"{case.name} in training mode takes the mean over several values of each channel, and gets one"
    batched = "n" in case.model.layout and case.model.at({}, batch=2).error is None
    return Mismatch(says, ["--batch 2"] if batched else [])


def stated(case: FailureCase) -> Mismatch | None:
    """What a module of PyTorch says of its input before it runs an operator."""
    said, model = str(case.error), case.model
    x = next((y.inputs[0] for y in case.trace.layers if y.path == case.path and not y.outputs and y.inputs), None)
    if found := re.search(r"embedding dimension of (\d+), but got (\d+)", said):
        says = f"{case.name} expects {found[1]} features, gets {found[2]}"
        above = case.path.rpartition(".")[0]
        keys = {case.path: "embed_dim", above: "d_model"}
        mends = [f"{at} with {key}={found[2]}" for at, key in keys.items() if case.rebuilt(at, **{key: int(found[2])})]
        return Mismatch(says, mends[:1], (x,) if x else ())
    if found := re.search(r"Expected hidden(?:\[\d\])? size \((.*)\), got \[(.*)\]", said):
        sizes, given = (text.replace(", ", "×") for text in found.groups())
        says = f"{case.name}: its state is [layers·directions, examples, hidden_size] = {sizes}, gets {given}"
        built = case.rebuilt(case.path, batch_first=True)
        return Mismatch(says, [f"{case.path} with batch_first=True"] if built else [])
    if (found := re.search(r"expected ((?:\dD or )?\dD) input \(got (\d)D input\)", said)) and x and model is not None:
        says = f"{case.name} takes {found[1]}, gets {times(x.shape)}{after(case, x)}"
        other = f"{case.kind.rstrip('123d')}{max(int(found[2]) - 2, 1)}d"
        mends = [f"{other} in its place"] if other != case.kind and case.exchanged(other) else []
        if not mends and len(x.shape) == 1 and case.tried(model.before(case.path, lambda x: x[None])):
            mends = [f"x.flatten(1) in the place of a squeeze, which drops the batch of one, before {case.path}"]
        return Mismatch(says, mends, (x,))
    return None


def _axis_moved(case: FailureCase, x: Tensor) -> bool:
    """Whether a permutation put another axis in the place of the channels."""
    at = case.maker.get(x.id)
    return at is not None and case.trace.ops[at].name in ("aten.permute", "aten.transpose", "aten.t")


def _from(case: FailureCase, x: Tensor, axis: int) -> str:
    """` from conv1`; ` = 128 + 64 from cat of up and skip`, where branches were joined along that axis."""
    where, at = case.origin(x), case.maker.get(x.id)
    while at is not None:
        op = case.trace.ops[at]
        if op.name in ("aten.cat", "aten.concat") and len(op.inputs) > 1:
            if op.args.get("dim", 0) % len(x.shape) != axis % len(x.shape):
                break
            parts = " + ".join(str(t.shape[axis]) for t in op.inputs)
            names = [case.origin(t) or "the input" for t in op.inputs]
            return f" = {parts} from {where} of {', '.join(names[:-1])} and {names[-1]}"
        if not op.inputs or op.inputs[0].shape != x.shape:
            break
        at = case.maker.get(op.inputs[0].id)
    return f" from {where}" if where else ""


def _channels_of(op: Op) -> int | None:
    if not op.name.startswith("aten.conv") or "weight" not in op.args:
        return None
    weight = op.args["weight"].shape
    return weight[0] if "transpose" in op.name else weight[1] * op.args.get("groups", 1)


def _first_channels(case: FailureCase) -> int | None:
    """The channels that the first convolution takes."""
    return next((c for op in case.trace.ops if (c := _channels_of(op)) is not None), None)


# ---------------------------------------------------------------------------------------------------------- layers


@clash("linear", "addmm", "mm", "matmul", "bmm")
def features(case: FailureCase) -> Mismatch | None:
    """A fully connected layer that expects another number of features."""
    op, error = case.op, case.error
    assert op is not None
    weight = op.args.get("weight")
    expected, got = error.expected, error.got
    if weight is None:
        return _untransposed(case, op)
    if expected is None or got is None:
        return None
    x = op.inputs[0]
    layer = case.kind == "Linear"
    if case.kind == "MultiheadAttention":
        built = case.rebuilt(case.path, kdim=got, vdim=got)
        says = f"{case.name} expects {expected} features of keys and values, gets {got}"
        return Mismatch(says, [f"{case.path} with kdim={got}, vdim={got}"] if built else [], (x,))
    batch = case.trace.inputs[0].shape[0] if case.trace.inputs[0].shape else 0
    if layer and case.model is not None and x.shape == (batch * expected,):
        says = f"{case.name} expects {expected} features, gets {got} = {batch}·{expected}{_from(case, x, -1)}: the "
        says += f"{batch} examples are flattened into one"
        works = case.tried(case.model.before(case.path, lambda x: x.reshape(batch, expected)))
        return Mismatch(says, [f"flatten(1) in the place of flatten(0) before {case.path}"] if works else [], (x,))
    rebuild = layer and case.rebuilt(case.path, in_features=got)
    source = flattened(case.trace, x)
    if source is not None:
        c, *sides = source.shape[1:]
        says = f"{case.name} expects {expected}{_factors(expected, c, len(sides))} features, "
        says += f"gets {got} = {'·'.join(map(str, source.shape[1:]))}{after(case, source)}"
        mends = [*case.paddings(case.behind(x))]
        return Mismatch(says, [*mends, *([f"{case.path} with in_features={got}"] if rebuild else [])], (x,), sizes=True)
    if len(x.shape) > 2 and prod(x.shape[1:]) == expected:
        says = f"{case.name} expects {expected} features, gets a map of {times(x.shape[1:])}{after(case, x)}: it takes "
        says += f"the last axis, {got}, for the features, and {expected} = {'·'.join(map(str, x.shape[1:]))}"
        flat = layer and case.model is not None and case.tried(case.model.flattened(case.path))
        return Mismatch(says, [f"x.flatten(1) before {case.path}"] if flat else [], (x,))
    if layer and (turned := channels_first(case, x, expected)):
        sides = 2 if len(x.shape) == 3 else tuple(range(2, len(x.shape)))
        pooled = case.model is not None and case.tried(case.model.before(case.path, lambda x: x.mean(sides)))
        return turned._replace(mends=[*([f"x.mean({sides}) before {case.path}"] if pooled else []), *turned.mends])
    if len(x.shape) == 4:
        size = prod(x.shape[1:])
        says = (
            f"{case.name} expects {expected} features, gets a map of {times(x.shape[1:])}{after(case, x)} that is not "
        )
        says += f"flattened: it takes the last axis, {got}, for the features"
        first = case.model.flattened(case.path) if layer and case.model is not None else None
        flat = first is not None and case.rebuilt(case.path, first, in_features=size)
        return Mismatch(says, [f"x.flatten(1) before {case.path}, with in_features={size}"] if flat else [], (x,))
    says = f"{case.name} expects {expected} features, gets {got}{_from(case, x, -1)}"
    return Mismatch(says, [f"{case.path} with in_features={got}"] if rebuild else [], (x,))


def flattened(trace: Trace, features: Tensor) -> Tensor | None:
    """The feature map [n, c, h, w] whose flattening gave a tensor [n, features]; None where it was no map."""
    made = {t.id: op for op in trace.ops for t in op.outputs}
    t = features
    while (op := made.get(t.id)) is not None and op.inputs:
        before = op.inputs[0]
        if len(before.shape) > 2 and len(t.shape) == 2:
            return before if before.numel == t.numel and before.shape[0] == t.shape[0] else None
        if before.shape != t.shape or before.id == t.id:
            return None
        t = before
    return None


def _factors(features: int, c: int, n: int) -> str:
    """` = 256·6·6` where that many channels and equal sides give the features."""
    side = isqrt(features // c) if n == 2 else features // c
    return f" = {'·'.join(map(str, (c, *(side,) * n)))}" if c * side**n == features else ""


@clash(*(f"conv{n}d" for n in (1, 2, 3)), *(f"conv_transpose{n}d" for n in (1, 2, 3)))
def convolution(case: FailureCase) -> Mismatch | None:
    """Channels that the layer before does not give, or a kernel that does not fit."""
    op, error = case.op, case.error
    assert op is not None
    x = op.inputs[0]
    if error.expected is None:
        return window(case)
    got, expected = error.got, error.expected
    if last := no_channel_axis(case, x, expected) or channels_elsewhere(case, x, expected):
        return last
    where = case.origin(x)
    says = f"{case.name} expects {count(expected, 'channel')}, gets {got}{_from(case, x, 1)}"
    mends = []
    if not _axis_moved(case, x) and case.rebuilt(case.path, in_channels=got):
        mends.append(f"{case.path} with in_channels={got}")
    if where and case.rebuilt(where, out_channels=expected):
        mends.append(f"{where} with out_channels={expected}")
    return Mismatch(says, mends, (x,))


@clash(*(f"{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)))
def window(case: FailureCase) -> Mismatch | None:
    """A window that is larger than what it moves over."""
    op = case.op
    assert op is not None
    n = int(op.name[-2])
    x, args = op.inputs[0], op.args
    if len(x.shape) not in (n + 1, n + 2):
        says = f"{case.name} takes {n + 2} axes, [N, c, {', '.join('dhw'[-n:])}], gets {len(x.shape)}: {times(x.shape)}"
        return Mismatch(f"{says}{after(case, x)}", (), (x,))
    k = args["weight"].shape[-n:] if "weight" in args else _each(args["kernel_size"], n)
    d = _each(args.get("dilation", 1), n)
    pad = (0,) * n if isinstance(args.get("padding", 0), str) else _each(args.get("padding", 0), n)
    if {len(k), len(d), len(pad)} != {n}:
        return None  # the operator says so
    for m, ki, di, pi in zip(x.shape[-n:], k, d, pad, strict=True):
        span = di * (ki - 1) + 1
        if span > m + 2 * pi:
            padded = f" = {m} + 2·{pi}" if pi else ""
            of = f" of {times(x.shape)}" if len(set(x.shape[-n:])) > 1 else ""
            says = f"{case.name} has a window of {span}, which does not fit {m + 2 * pi}{padded}{of}{after(case, x)}"
            return Mismatch(says, (), (x,), sizes=True)
    return None


def _each(value: Any, n: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values


@clash("batch_norm", "instance_norm", "group_norm")
def normalised(case: FailureCase) -> Mismatch | None:
    """Another number of channels than the layer normalises."""
    error, op = case.error, case.op
    assert op is not None
    if error.expected is None or not op.inputs:
        return None
    x = op.inputs[0]
    key = "num_channels" if case.kind == "GroupNorm" else "num_features"
    if last := channels_elsewhere(case, x, error.expected, around=True):
        return last
    says = f"{case.name} expects {error.expected} channels, gets {error.got}"
    mends = [f"{case.path} with {key}={error.got}"] if case.rebuilt(case.path, **{key: error.got}) else []
    where = case.origin(x)
    return Mismatch(says + (f" from {where}" if where else ""), mends, (x,))


@clash("layer_norm", "rms_norm")
def layer_norm(case: FailureCase) -> Mismatch | None:
    """Other last axes than the layer normalises."""
    op = case.op
    assert op is not None
    x, wanted = op.inputs[0], tuple(op.args["normalized_shape"])
    if len(wanted) == 1 and (turned := channels_first(case, x, wanted[0], around=True)):
        return turned
    last = x.shape[-len(wanted) :]
    says = f"{case.name} normalises the last axes {times(wanted)}, gets {times(x.shape)}{after(case, x)}"
    built = case.rebuilt(case.path, normalized_shape=list(last))
    return Mismatch(says, [f"{case.path} with normalized_shape={list(last)}"] if built else [], (x,), sizes=True)


@clash(*"rnn_tanh rnn_relu lstm gru rnn_tanh_cell rnn_relu_cell lstm_cell gru_cell".split())
def recurrent(case: FailureCase) -> Mismatch | None:
    """Steps of another number of features."""
    op, error = case.op, case.error
    assert op is not None
    if error.expected is None or error.got is None:
        return None
    x = op.args.get("input") or op.args.get("data") or op.inputs[0]
    if len(x.shape) == 3 and (turned := channels_first(case, x, error.expected)):
        return turned
    where = case.origin(x)
    says = f"{case.name} expects {error.expected} features a step, gets {error.got}"
    built = case.rebuilt(case.path, input_size=error.got)
    mends = [f"{case.path} with input_size={error.got}"] if built else []
    return Mismatch(says + (f" from {where}" if where else ""), mends, (x,))


@clash("view", "reshape", "_unsafe_view")
def view(case: FailureCase) -> Mismatch | None:
    """Elements that do not part into the rows that a view asks for."""
    op = case.op
    assert op is not None
    x = op.inputs[0]
    sizes = op.args.get("size", op.args.get("shape"))
    if sizes is None or not x.shape:
        return None
    known = prod(side for side in sizes if side != -1)
    text = f"({', '.join(map(str, sizes))})"
    if known and (x.numel % known == 0 if -1 in sizes else x.numel == known):
        says = f"{case.name}: view{text} keeps the order in memory, which {case.origin(x) or 'a permutation'} has "
        says += f"changed: {times(x.shape)} are {x.numel} elements, as many as it asks for, but not one after the other"
        return Mismatch(says, [f"reshape{text} in its place"] if case.tried(viewed_as(sizes)) else [], (x,))
    each = prod(x.shape[1:])
    product = f"{x.numel} = {'·'.join(map(str, x.shape))}" if len(x.shape) > 1 else str(x.numel)
    says = f"{case.name}: view{text} asks for "
    says += f"rows of {known}" if -1 in sizes else f"{known} elements"
    says += f", gets {product}{after(case, x)}"
    rows = len(sizes) == 2 and sizes[0] in (-1, *x.shape[:1]) and sizes[1] != each
    if rows:
        better = [(len(sizes) - 1, each)]
    else:  # one side that is wrong, such as heads of which there are too many
        better = [(i, x.numel * m // known) for i, m in enumerate(sizes) if i and known and x.numel * m % known == 0]
    fits = len(better) == 1 and -1 not in sizes[1:]
    fits = fits and case.tried(viewed_as([better[0][1] if i == better[0][0] else m for i, m in enumerate(sizes)]))
    mends = [f"{side} in the place of {sizes[i]}" for i, side in better] if fits else []
    return Mismatch(says, mends, (x,), sizes=True)


# -------------------------------------------------------------------------------------------------- what comes together


@clash(*"cat concat stack add add_ sub sub_ mul mul_ div div_ where maximum minimum copy_".split())
def joined_branches(case: FailureCase) -> Mismatch | None:
    """Branches, or a map and a table of the model's own, that are not of one shape."""
    op = case.op
    assert op is not None
    joins = op.name in ("aten.cat", "aten.concat", "aten.stack")
    pair = _unequal(op, joins)
    if pair is None:
        return None
    one, other = pair
    word = op.name.removeprefix("aten.").rstrip("_")
    axes = [i for i in range(1, min(len(one.shape), len(other.shape)) + 1) if one.shape[-i] != other.shape[-i]]
    if joins and op.name != "aten.stack":
        dim = op.args.get("dim", 0)
        axes = [i for i in axes if len(one.shape) - i != dim % max(len(one.shape), 1)]
    own = [t for t in pair if not case.from_input(t)]
    says = f"{case.name}: {word} cannot join {_named(case, one)} and {_named(case, other)}"
    differ = ", ".join(f"{_axis_name(one, i)} {one.shape[-i]} against {other.shape[-i]}" for i in reversed(axes))
    says += f": {differ}" if differ and len(one.shape) == len(other.shape) else ""
    if own:
        mine, theirs = own[0], next(t for t in pair if t is not own[0])
        name = next((p.name for p in case.trace.params if p.tensor.id == mine.id), "")
        mends = [f"{name} of shape {times(theirs.shape)}"] if name and case.resettled(name, theirs.shape) else []
        return Mismatch(says, mends, (theirs,), sizes=True)
    mends = []
    both = case.behind(one) & case.behind(other)
    for branch in sorted(pair, key=lambda t: prod(t.shape[-2:])):
        mends += case.paddings(case.behind(branch) - both)
        if mends:
            break
    mends += _other_axes(case, op, one, other)
    if not joins and len(one.shape) == len(other.shape) == 4:
        earlier = _is_input(case, one) or case.maker.get(one.id, -1) in case.behind(other)
        mends += _shortcut(*((one, other) if earlier else (other, one)))
    return Mismatch(says, mends, pair, sizes=any(i <= len(one.shape) - 2 for i in axes))


def _other_axes(case: FailureCase, op: Op, one: Tensor, other: Tensor) -> Iterator[str]:
    """The axis along which branches can be joined; the axes that a factor a channel lacks."""
    name, n = op.name.removeprefix("aten."), len(one.shape)
    if name in ("cat", "concat"):
        apart = [i for i in range(n) if n == len(other.shape) and one.shape[i] != other.shape[i]]
        along = apart[0] if len(apart) == 1 else 0  # of axis 0 there are other examples
        if along and case.tried(instead(name, lambda function, given, _: function(given[0], along))):
            yield f"dim={along} in the place of {op.args.get('dim', 0)}"
    elif name in ("add", "sub", "mul", "div") and n != len(other.shape):
        small, large = sorted((one, other), key=lambda t: len(t.shape))
        m, rest = len(small.shape), len(large.shape) - len(small.shape)
        at = [getattr(t, "shape", None) for t in (one, other)].index(small.shape)
        index = (..., *[None] * rest)

        def grown(function: Any, given: Any, named: Any) -> Any:
            return function(*(t[index] if i == at else t for i, t in enumerate(given)), **named)

        if m > 1 and large.shape[:m] == small.shape and case.tried(instead(name, grown)):
            yield f"[..., {', '.join(['None'] * rest)}] behind the {times(small.shape)}"


def _untransposed(case: FailureCase, op: Op) -> Mismatch | None:
    """A product of queries and keys, both [*, t, d], of which the second is not transposed."""
    pair = op.inputs
    if len(pair) != 2 or min(len(t.shape) for t in pair) < 2 or pair[0].shape[-1] != pair[1].shape[-1]:
        return None
    (one, other), name = (t.shape for t in pair), op.name.removeprefix("aten.")
    says = f"{case.name}: the {one[-1]} columns of {times(one)} do not fit the {other[-2]} rows of {times(other)}"
    works = case.tried(instead(name, lambda f, given, named: f(given[0], given[1].transpose(-2, -1), **named)))
    return Mismatch(says, ["the second with .transpose(-2, -1)"] if works else [], pair)


def _unequal(op: Op, joins: bool) -> tuple[Tensor, Tensor] | None:
    tensors = op.inputs
    for i, one in enumerate(tensors):
        for other in tensors[i + 1 :]:
            a, b = one.shape, other.shape
            if joins:
                dim = op.args.get("dim", 0) % max(len(a), 1) if op.name != "aten.stack" else -1
                same = len(a) == len(b) and all(x == y or j == dim for j, (x, y) in enumerate(zip(a, b, strict=True)))
            else:
                same = all(x == y or 1 in (x, y) for x, y in zip(a[::-1], b[::-1], strict=False))
            if not same:
                return one, other
    return None


def _named(case: FailureCase, t: Tensor) -> str:
    name = next((p.name for p in (*case.trace.params, *case.trace.buffers) if p.tensor.id == t.id), "")
    where = name or case.origin(t)
    return (
        f"{times(t.shape)} ({where})"
        if where
        else f"{times(t.shape)} (the input)"
        if _is_input(case, t)
        else times(t.shape)
    )


def _is_input(case: FailureCase, t: Tensor) -> bool:
    return any(t.id == given.id for given in case.trace.inputs)


def _axis_name(t: Tensor, back: int) -> str:
    names = {4: ("examples", "channels", "rows", "columns"), 3: ("examples", "tokens", "features")}
    known = names.get(len(t.shape))
    return known[-back] if known else f"axis {len(t.shape) - back}"


def _shortcut(one: Tensor, other: Tensor) -> Iterator[str]:
    """The 1×1 convolution that brings the larger map to the shape of the other, where a whole stride does; of maps of
    equal sides, the first."""
    large, small = sorted((one, other), key=lambda t: -prod(t.shape[2:]))
    m, o = large.shape[2], small.shape[2]
    for s in range(1, m + 1):
        if all((a - 1) // s + 1 == b for a, b in zip(large.shape[2:], small.shape[2:], strict=True)):
            if s > 1 or large.shape[1] != small.shape[1]:
                stride = f", stride={s}" if s > 1 else ""
                made = f"Conv2d({large.shape[1]}, {small.shape[1]}, 1{stride})"
                yield f"a shortcut {made} for the {times(large.shape[1:])}"
            return
        if (m - 1) // s + 1 < o:
            return
