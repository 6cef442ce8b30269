"""The kinds of shape failure: for each, which two numbers clash, where they come from, and the remedies that work.

One function a kind, entered under the operators that refuse: `@clash("linear")` over `Case -> Mismatch`. A remedy is
named only after the model has been run with it and came past the layer that failed.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from math import isqrt, prod
from typing import Any, NamedTuple

from archscope.analysis.row import Row
from archscope.core.errors import ArchscopeError, ShapeError
from archscope.core.record import Op, Shape, Tensor, Trace
from archscope.core.registry import Registry
from archscope.shapes.legal import layers_of
from archscope.shapes.resize import Ran, Resized
from archscope.tracing.failure import Failure
from archscope.tracing.weightless import weightless


class Mismatch(NamedTuple):
    """says: the sentence. mends: what works instead. tensors: those that clash, whose chains are worth showing. sizes:
    whether other input sizes may help. channels: of the input, where the model could be built for them."""

    says: str
    mends: Sequence[str] = ()
    tensors: tuple[Tensor, ...] = ()
    sizes: bool = False
    channels: int | None = None


@dataclass(frozen=True)
class Case:
    """One failure: what the rules ask about it. model: to be run again, None where that cannot be."""

    error: ShapeError
    failure: Failure
    model: Resized | None

    @classmethod
    def of(cls, error: ShapeError, layout: str = "") -> "Case":
        """The case of an error that a run raised."""
        failure, again = error.failure, error.failure.rerun
        if again is None:
            return cls(error, failure, None)
        name = failure.trace.model
        model = Resized(again.model, again.arguments, again.named, layout, name, again.train, again.bound)
        return cls(error, failure, model)

    @property
    def trace(self) -> Trace:
        return self.failure.trace

    @cached_property
    def op(self) -> Op | None:
        """The operator that refused; of a recurrent layer, which looks at its input itself, the one it would call."""
        if self.failure.op is not None or self.kind not in RECURRENT:
            return self.failure.op
        layer = next(y for y in self.trace.layers if y.path == self.path and not y.outputs)
        return Op(RECURRENT[self.kind], layer.inputs, (), {"input": layer.inputs[0]}) if layer.inputs else None

    @property
    def path(self) -> str:
        return self.failure.path

    @property
    def place(self) -> str:
        return self.failure.place

    @cached_property
    def row(self) -> dict[int, Row]:
        """The row of each operator."""
        return layers_of(self.trace)

    @cached_property
    def maker(self) -> dict[int, int]:
        """The operator that made each tensor, first."""
        made: dict[int, int] = {}
        for at, op in enumerate(self.trace.ops):
            for t in op.outputs:
                made.setdefault(t.id, at)
        return made

    @property
    def kind(self) -> str:
        return self.trace.modules.get(self.path, "")

    @property
    def name(self) -> str:
        """`fc6 (Linear)`; of the model itself its name."""
        return f"{self.path} ({self.kind})" if self.path else self.trace.model

    def behind(self, tensor: Tensor) -> frozenset[int]:
        """The operators that a tensor depends on."""
        found: set[int] = set()
        waiting = [tensor]
        while waiting:
            at = self.maker.get(waiting.pop().id)
            if at is not None and at not in found:
                found.add(at)
                waiting += self.trace.ops[at].inputs
        return frozenset(found)

    def from_input(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on an input of the model."""
        given = {t.id for t in self.trace.inputs}
        return tensor.id in given or any(t.id in given for at in self.behind(tensor) for t in self.trace.ops[at].inputs)

    def origin(self, tensor: Tensor) -> str:
        """The layer that gave a tensor its shape: back over what leaves a shape as it is; empty for the input."""
        at = self.maker.get(tensor.id)
        while at is not None:
            op = self.trace.ops[at]
            before = op.inputs[0] if op.inputs else None
            kept = before is not None and before.shape == op.outputs[0].shape and "weight" not in op.args
            if not (kept or (op.name.endswith("_norm") and before is not None)):
                return self.row[at].path if at in self.row else ""
            at = self.maker.get(before.id) if before is not None else None
        return ""

    # ------------------------------------------------------------------------------------------------ trying things

    def past(self, ran: Ran) -> bool:
        """Whether a run came past the operator at which this one stopped."""
        return ran.error is None or len(ran.trace.ops) > len(self.trace.ops)

    def tried(self, change: AbstractContextManager[Any], through: bool = False) -> bool:
        """Whether the model comes past the failure with a change; through: to its end."""
        if self.model is None:
            return False
        try:
            with change:
                ran = self.model.at({})
        except (ArchscopeError, ValueError, TypeError, RuntimeError, AttributeError):
            return False
        return self.model.works(ran) if through else self.past(ran)

    def rebuilt(self, path: str, also: AbstractContextManager[Any] | None = None, /, **arguments: Any) -> bool:
        """Whether the layer at `path`, built with other arguments, gets past the failure; also: another change."""
        config = next((dict(y.config) for y in self.trace.layers if y.path == path), None)
        if self.model is None or not path or config is None:  # the path of a function is no module
            return False
        cls = type(self.model.model.get_submodule(path))
        if not cls.__module__.startswith("torch.nn"):
            return False
        taken = inspect.signature(cls.__init__).parameters
        names = set(taken) if "args" not in taken else OF_RECURRENT
        if not names >= arguments.keys():
            return False
        try:
            with weightless():
                other = cls(**{k: v for k, v in {**config, **arguments}.items() if k in names})
        except (ValueError, TypeError, RuntimeError):
            return False
        with self.model.replaced(path, other):
            return self.tried(also or nullcontext())

    def resettled(self, name: str, shape: Shape) -> bool:
        """Whether a parameter of another shape gets past the failure."""
        return self.model is not None and self.tried(self.model.with_parameter(name, shape))

    def with_input(self, shape: Shape, through: bool = True) -> bool:
        """Whether the model runs on a first input of this shape, or at least past the failure."""
        if self.model is None:
            return False
        try:
            ran = self.model.on(shape)
            return ran.error is None if through else self.past(ran)
        except ArchscopeError:
            return False

    def paddings(self, among: frozenset[int], most: int = 4) -> Iterator[str]:
        """`conv1 with padding=2`: the windows among these operators that get past the failure with other padding."""
        if self.model is None:
            return
        paths = dict.fromkeys(
            self.row[at].path
            for at in sorted(among)
            if at in self.row and self.row[at].layer is not None and "kernel_size" in self.row[at].config
        )
        found = 0
        for path in list(paths)[:most]:
            module = self.model.model.get_submodule(path)
            k, now = getattr(module, "kernel_size", 0), getattr(module, "padding", 0)
            largest = max(k) if isinstance(k, tuple) else k
            if not isinstance(largest, int) or isinstance(now, str):
                continue
            for pad in range(largest // 2 + 1):
                each = (pad,) * len(now) if isinstance(now, tuple) else pad
                if each != now and self.tried(self.model.changed(path, padding=each), through=True):
                    yield f"{path} with padding={pad}"
                    found += 1
                    break
            if found:
                return


RECURRENT = {"RNN": "aten.rnn_tanh", "LSTM": "aten.lstm", "GRU": "aten.gru", "RNNCell": "aten.rnn_tanh_cell",
             "LSTMCell": "aten.lstm_cell", "GRUCell": "aten.gru_cell"}  # fmt: skip

OF_RECURRENT = set("input_size hidden_size num_layers bias batch_first dropout bidirectional proj_size".split())

Rule = Callable[[Case], Mismatch | None]
MISMATCHES: Registry[Rule] = Registry("clash in")


def clash(*names: str) -> Callable[[Rule], Rule]:
    """Enter the kind of failure of some operators."""
    return MISMATCHES.register(*(f"aten.{name}" for name in names))


def _x(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "a single number"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _after(case: Case, tensor: Tensor, word: str = "after") -> str:
    where = case.origin(tensor)
    return f" {word} {where}" if where else ""


# ------------------------------------------------------------------------------------------------------- the input


def batch_or_channels(case: Case) -> Mismatch | None:
    """What is wrong with the input itself: no batch axis, channels last, another number of channels."""
    given = case.trace.inputs[0]
    op = case.op
    if op is None or not op.inputs or case.model is None:
        return None
    shape = given.shape
    wants = _channels_of(op) or _first_channels(case)
    if given.dtype.startswith("int"):
        return None
    if len(shape) < 4:
        for other in [(1, *shape), *([(1, wants, *shape)] if wants else [])]:
            if case.with_input(other):
                axes = "batch axis" if len(other) == len(shape) + 1 else "batch and no channel axis"
                return Mismatch(f"the input {_x(shape)} has no {axes}", (f"an input of {_x(other)} works",))
    if op.inputs[0].id != given.id or wants is None or len(shape) < 3 or shape[1] == wants:
        return None
    n = len(op.args["weight"].shape) - 2
    if len(shape) == n + 2 and shape[-1] == wants:
        moved = (shape[0], shape[-1], *shape[1:-1])
        if case.with_input(moved, through=False):
            order = ", ".join(map(str, (0, n + 1, *range(1, n + 1))))
            return Mismatch(
                f"{case.name} expects {_count(wants, 'channel')} on axis 1, the input {_x(shape)} has them last",
                (f"x.permute({order}), which gives {_x(moved)}",),
            )
    if len(shape) != n + 2:
        return None
    mends = []
    if case.with_input((shape[0], wants, *shape[2:])):
        mends.append(f"an input of {_count(wants, 'channel')} works")
    if op.args.get("groups", 1) == 1 and case.rebuilt(case.path, in_channels=shape[1]):
        mends.append(f"{case.path} with in_channels={shape[1]}")
    says = f"{case.name} expects {_count(wants, 'channel')}, gets {shape[1]} from the input"
    return Mismatch(says, mends, channels=shape[1])


def _channels_of(op: Op) -> int | None:
    if not op.name.startswith("aten.conv") or "weight" not in op.args:
        return None
    weight = op.args["weight"].shape
    return weight[0] if "transpose" in op.name else weight[1] * op.args.get("groups", 1)


def _first_channels(case: Case) -> int | None:
    """The channels that the first convolution takes."""
    return next((c for op in case.trace.ops if (c := _channels_of(op)) is not None), None)


# ---------------------------------------------------------------------------------------------------------- layers


@clash("linear", "addmm", "mm", "matmul")
def features(case: Case) -> Mismatch | None:
    """A fully connected layer that expects another number of features."""
    op, error = case.op, case.error
    assert op is not None
    weight = op.args.get("weight")
    expected, got = error.expected, error.got
    if weight is None or expected is None or got is None:
        return None
    x = op.inputs[0]
    layer = case.kind == "Linear"
    rebuild = layer and case.rebuilt(case.path, in_features=got)
    source = flattened(case.trace, x)
    if source is not None:
        c, *sides = source.shape[1:]
        says = f"{case.name} expects {expected}{_factors(expected, c, len(sides))} features, "
        says += f"gets {got} = {'·'.join(map(str, source.shape[1:]))}{_after(case, source)}"
        mends = [*case.paddings(case.behind(x))]
        return Mismatch(says, [*mends, *([f"{case.path} with in_features={got}"] if rebuild else [])], (x,), sizes=True)
    if len(x.shape) > 2 and prod(x.shape[1:]) == expected:
        says = f"{case.name} expects {expected} features, gets a map of {_x(x.shape[1:])}{_after(case, x)}: it takes "
        says += f"the last axis, {got}, for the features, and {expected} = {'·'.join(map(str, x.shape[1:]))}"
        flat = layer and case.model is not None and case.tried(case.model.flattened(case.path))
        return Mismatch(says, [f"x.flatten(1) before {case.path}"] if flat else [], (x,))
    if len(x.shape) == 4:
        size = prod(x.shape[1:])
        says = f"{case.name} expects {expected} features, gets a map of {_x(x.shape[1:])}{_after(case, x)} that is not "
        says += f"flattened: it takes the last axis, {got}, for the features"
        first = case.model.flattened(case.path) if layer and case.model is not None else None
        flat = first is not None and case.rebuilt(case.path, first, in_features=size)
        return Mismatch(says, [f"x.flatten(1) before {case.path}, with in_features={size}"] if flat else [], (x,))
    where = case.origin(x)
    says = f"{case.name} expects {expected} features, gets {got}{f' from {where}' if where else ''}"
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
def convolution(case: Case) -> Mismatch | None:
    """Channels that the layer before does not give, or a kernel that does not fit."""
    op, error = case.op, case.error
    assert op is not None
    x = op.inputs[0]
    if error.expected is None:
        return window(case)
    got, expected = error.got, error.expected
    where = case.origin(x)
    says = f"{case.name} expects {_count(expected, 'channel')}, gets {got}{f' from {where}' if where else ''}"
    mends = [f"{case.path} with in_channels={got}"] if case.rebuilt(case.path, in_channels=got) else []
    if where and case.rebuilt(where, out_channels=expected):
        mends.append(f"{where} with out_channels={expected}")
    return Mismatch(says, mends, (x,))


@clash(*(f"{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)))
def window(case: Case) -> Mismatch | None:
    """A window that is larger than what it moves over."""
    op = case.op
    assert op is not None
    n = int(op.name[-2])
    x, args = op.inputs[0], op.args
    if len(x.shape) not in (n + 1, n + 2):
        says = f"{case.name} takes {n + 2} axes, [N, c, {', '.join('dhw'[-n:])}], gets {len(x.shape)}: {_x(x.shape)}"
        return Mismatch(f"{says}{_after(case, x)}", (), (x,))
    k = args["weight"].shape[-n:] if "weight" in args else _each(args["kernel_size"], n)
    d = _each(args.get("dilation", 1), n)
    pad = (0,) * n if isinstance(args.get("padding", 0), str) else _each(args.get("padding", 0), n)
    for m, ki, di, pi in zip(x.shape[-n:], k, d, pad, strict=True):
        span = di * (ki - 1) + 1
        if span > m + 2 * pi:
            padded = f" = {m} + 2·{pi}" if pi else ""
            says = f"{case.name} has a window of {span}, which does not fit {m + 2 * pi}{padded}{_after(case, x)}"
            return Mismatch(says, (), (x,), sizes=True)
    return None


def _each(value: Any, n: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values


@clash("batch_norm", "instance_norm", "group_norm")
def normalised(case: Case) -> Mismatch | None:
    """Another number of channels than the layer normalises."""
    error, op = case.error, case.op
    assert op is not None
    if error.expected is None or not op.inputs:
        return None
    x = op.inputs[0]
    key = "num_channels" if case.kind == "GroupNorm" else "num_features"
    says = f"{case.name} expects {error.expected} channels, gets {error.got}"
    mends = [f"{case.path} with {key}={error.got}"] if case.rebuilt(case.path, **{key: error.got}) else []
    where = case.origin(x)
    return Mismatch(says + (f" from {where}" if where else ""), mends, (x,))


@clash("layer_norm", "rms_norm")
def layer_norm(case: Case) -> Mismatch | None:
    """Other last axes than the layer normalises."""
    op = case.op
    assert op is not None
    x, wanted = op.inputs[0], tuple(op.args["normalized_shape"])
    last = x.shape[-len(wanted) :]
    says = f"{case.name} normalises the last axes {_x(wanted)}, gets {_x(x.shape)}{_after(case, x)}"
    built = case.rebuilt(case.path, normalized_shape=list(last))
    return Mismatch(says, [f"{case.path} with normalized_shape={list(last)}"] if built else [], (x,), sizes=True)


@clash(*"rnn_tanh rnn_relu lstm gru rnn_tanh_cell rnn_relu_cell lstm_cell gru_cell".split())
def recurrent(case: Case) -> Mismatch | None:
    """Steps of another number of features."""
    op, error = case.op, case.error
    assert op is not None
    if error.expected is None or error.got is None:
        return None
    x = op.args.get("input") or op.args.get("data") or op.inputs[0]
    where = case.origin(x)
    says = f"{case.name} expects {error.expected} features a step, gets {error.got}"
    built = case.rebuilt(case.path, input_size=error.got)
    mends = [f"{case.path} with input_size={error.got}"] if built else []
    return Mismatch(says + (f" from {where}" if where else ""), mends, (x,))


@clash("view", "reshape", "_unsafe_view")
def view(case: Case) -> Mismatch | None:
    """Elements that do not part into the rows that a view asks for."""
    op = case.op
    assert op is not None
    x = op.inputs[0]
    sizes = op.args.get("size", op.args.get("shape"))
    if sizes is None or not x.shape:
        return None
    each = prod(x.shape[1:])
    product = f"{x.numel} = {'·'.join(map(str, x.shape))}" if len(x.shape) > 1 else str(x.numel)
    known = prod(side for side in sizes if side != -1)
    says = f"{case.name}: view({', '.join(map(str, sizes))}) asks for "
    says += f"rows of {known}" if -1 in sizes else f"{known} elements"
    says += f", gets {product}{_after(case, x)}"
    mends = [f"{each} in the place of {sizes[-1]}"] if len(sizes) == 2 and sizes[0] in (-1, *x.shape[:1]) else []
    return Mismatch(says, mends, (x,), sizes=True)


# -------------------------------------------------------------------------------------------------- what comes together


@clash(*"cat concat stack add add_ sub sub_ mul mul_ div div_ where maximum minimum copy_".split())
def joined(case: Case) -> Mismatch | None:
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
    says = f"{case.name}: {word} cannot join {_told(case, one)} and {_told(case, other)}"
    differ = ", ".join(f"{_axis_name(one, i)} {one.shape[-i]} against {other.shape[-i]}" for i in reversed(axes))
    says += f": {differ}" if differ and len(one.shape) == len(other.shape) else ""
    if own:
        mine, theirs = own[0], next(t for t in pair if t is not own[0])
        name = next((p.name for p in case.trace.params if p.tensor.id == mine.id), "")
        mends = [f"{name} of shape {_x(theirs.shape)}"] if name and case.resettled(name, theirs.shape) else []
        return Mismatch(says, mends, (theirs,), sizes=True)
    mends = []
    both = case.behind(one) & case.behind(other)
    for branch in sorted(pair, key=lambda t: prod(t.shape[-2:])):
        mends += case.paddings(case.behind(branch) - both)
        if mends:
            break
    if not joins and len(one.shape) == len(other.shape) == 4:
        mends += _shortcut(one, other)
    return Mismatch(says, mends, pair, sizes=any(i <= len(one.shape) - 2 for i in axes))


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


def _told(case: Case, t: Tensor) -> str:
    name = next((p.name for p in (*case.trace.params, *case.trace.buffers) if p.tensor.id == t.id), "")
    where = name or case.origin(t)
    return f"{_x(t.shape)} ({where})" if where else f"{_x(t.shape)} (the input)" if _is_input(case, t) else _x(t.shape)


def _is_input(case: Case, t: Tensor) -> bool:
    return any(t.id == given.id for given in case.trace.inputs)


def _axis_name(t: Tensor, back: int) -> str:
    names = {4: ("examples", "channels", "rows", "columns"), 3: ("examples", "tokens", "features")}
    known = names.get(len(t.shape))
    return known[-back] if known else f"axis {len(t.shape) - back}"


def _shortcut(one: Tensor, other: Tensor) -> Iterator[str]:
    """The 1×1 convolution that brings the larger map to the shape of the other, where a whole stride does."""
    large, small = sorted((one, other), key=lambda t: -prod(t.shape[2:]))
    m, o = large.shape[2], small.shape[2]
    for s in range(1, m + 1):
        if all((a - 1) // s + 1 == b for a, b in zip(large.shape[2:], small.shape[2:], strict=True)):
            if s > 1 or large.shape[1] != small.shape[1]:
                stride = f", stride={s}" if s > 1 else ""
                yield f"a shortcut Conv2d({large.shape[1]}, {small.shape[1]}, 1{stride}) for the {_x(large.shape[1:])}"
            return
        if (m - 1) // s + 1 < o:
            return
