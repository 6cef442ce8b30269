"""The totals of a run without its record: what `passes.totals(trace(model, inputs))` says, in a fraction of the time.

A sweep runs thousands of models that consist of the same layers. Here the first call of a layer (one of PyTorch's own,
with one operator inside, or a short `nn.Sequential` of such) on an input of some shape is run by the tracer, and its
share of each total is kept; the next equal call only adds that share up. Everything else, a model's own forward,
functional calls, `x + y`, runs under the tracer's rules operator by operator. The totals are added up as the operators
come, by the definitions of `passes.py`, and nothing is written down. A test holds both against each other on every
network of the zoo.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from archscope.analysis import receptive_field as receptive
from archscope.analysis.metrics.windows import field_of
from archscope.analysis.observed import shapes_of
from archscope.analysis.receptive_field import Field
from archscope.core.record import Op, Tensor
from archscope.operators import VIEWS, Work
from archscope.sweeps.holdings import NUMBERS, PASSIVE, Holdings
from archscope.tracing.collector import gc_paused
from archscope.tracing.devices import CPU, believed, is_meta
from archscope.tracing.guard import untouched
from archscope.tracing.modules import listening
from archscope.tracing.run import LOCK, Run
from archscope.tracing.tensors import tensors_in

MOST = 1 << 13  # shares, and numbers of layers, that are kept

_cast = torch.Tensor._make_subclass  # another tensor of the same memory; no dispatch mode sees it


class Share(NamedTuple):
    """What one call of a layer, or of a chain of them, adds to the totals.

    operator, work: what ran inside, None where nothing did. links: of a chain, its parts. made: a tensor like its
    output, None where the output is the input. passed: where a field gets to, by its axes and whether it is windowed.
    """

    operator: Op | None
    work: Work | None
    links: tuple["Share", ...]
    made: torch.Tensor | None
    shape: tuple[int, ...]
    dtype: str
    macs: int
    flops: int
    stored: int
    neurons: int
    layers: int
    passed: dict[Any, "Passed | None"]


class Passed(NamedTuple):
    """What a layer does to a field: size + grow·jump and jump·scale on each side, whatever size and jump are.

    axes, windowed: of the field behind it. inner: the growth up to the last feature map inside a chain, None where the
    field behind it is one itself.
    """

    grow: tuple[int, ...]
    scale: tuple[int, ...]
    axes: tuple[tuple[tuple[int, int], ...], ...]
    windowed: bool
    inner: tuple[int, ...] | None


_SHARES: dict[Any, Share | None] = {}  # by that number and the input; None: not to be had from the call alone


def forget() -> None:
    """Drop what is known of layers."""
    NUMBERS.clear()
    _SHARES.clear()


# ---------------------------------------------------------------------------------------------------------- a run


class Sum(Run):
    """One run, of which only the totals are kept."""

    def __init__(self, name: str, held: Holdings, train: bool, bound: bool) -> None:
        super().__init__([], name, True, False, bound)
        self.stack.append("")
        self.held, self.numbers, self.train = held, held.numbers, train
        self.counted = 0  # operators of `ops` that are in the totals
        self.macs = self.flops = self.stored = self.neurons = self.longest = 0
        self.unknown: dict[str, int] = {}
        self.depths: dict[int, int] = {}  # by tensor id, as all below
        self.seen: set[int] = set()
        self.learned: set[int] = set()
        self.weights: set[int] = set()  # and buffers, and what is computed from both
        self.fields: dict[int, Field] = {}
        self.lost: set[int] = set()
        self.inner: list[Field] = []  # fields of feature maps within chains
        self.changed: list[tuple[dict[str, Any], dict[str, Any]]] = []  # attributes of layers, and what they were

    def begin(self, tensors: Sequence[torch.Tensor]) -> None:
        """The inputs are there."""
        self.inputs = tuple([self.record(t) for t in tensors])
        self.seen.update([t.id for t in self.inputs])
        self.fields = receptive.at_first(self.inputs)
        self.follows = bool(self.fields)

    def record(self, tensor: torch.Tensor) -> Tensor:
        known = super().record(tensor)
        key = id(tensor)
        if self.held.is_parameter(key):
            self.learned.add(known.id)
            self.weights.add(known.id)
            self.seen.add(known.id)
        elif key in self.held.buffers:
            self.weights.add(known.id)
            self.seen.add(known.id)
        return known

    def count(self) -> None:
        """Add up the operators that came since."""
        for op, done in zip(self.ops[self.counted :], self.works[self.counted :], strict=True):
            self.add(op, done)
        self.counted = len(self.ops)

    def add(self, op: Op, done: Work | None) -> None:
        """One operator, by the definitions of `passes.py`."""
        learned, depths = self.learned, self.depths
        if done is None:
            self.unknown[op.name] = self.unknown.get(op.name, 0) + 1
        else:
            self.macs += done.macs
            self.flops += done.flops
        ids = [t.id for t in op.inputs]
        weighted = False
        if not learned.isdisjoint(ids):
            if learned.issuperset(ids):
                learned.update([t.id for t in op.outputs])
            else:
                weighted = done is not None and done.macs > 0
        for t in op.outputs:
            if t.id not in self.seen:
                self.seen.add(t.id)
                if op.name not in VIEWS and t.id not in learned:
                    self.stored += t.nbytes
        after = max([depths.get(i, 0) for i in ids], default=0)
        if weighted:
            self.neurons += op.outputs[0].numel
            after += int(op.args.get("num_layers", 1))
        for t in op.outputs:
            self.reach(t.id, after)
        if self.follows:
            receptive.onward(op, done, self.fields, self.lost, self.weights)

    def reach(self, key: int, layers: int) -> None:
        """A tensor lies behind this many weighted layers."""
        if layers > self.depths.get(key, 0):
            self.depths[key] = layers
            self.longest = max(self.longest, layers)

    def totals(self, output: Any) -> dict[str, Any]:
        """As `passes.totals` says them. output: what the model returned."""
        self.count()
        held = self.held
        ends = [self.record(t) for t in tensors_in((output,))]
        fields = {**self.fields, **{-i: field for i, field in enumerate(self.inner, 1)}}
        return {
            "model": self.name,
            "input": shapes_of(self.inputs),
            "depth": self.longest,
            "params": held.params,
            "trainable": held.trainable,
            "buffers": held.elements,
            "memory": held.memory,
            "macs": self.macs,
            "flops": self.flops,
            "activations": self.stored,
            "neurons": self.neurons,
            "receptive_field": field_of(fields, ends),
            "fc_share": held.dense / held.params if held.params else None,
            "unknown": self.unknown,
        }

    # -------------------------------------------------------------------------------------------------- layers

    def called(self, original: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> Any:
        """A call of a module: the share of a layer or chain that is known, else the call itself."""
        number = self.numbers.get(id(module))
        if number is None or len(args) != 1 or kwargs:
            return original(module, *args, **kwargs)
        (x,) = args
        into = self.records.get(id(x))
        if into is None or not is_meta(x):
            return original(module, x)
        if self.counted < len(self.ops):
            self.count()
        key = (number, into.shape, into.dtype, x.stride(), self.train)
        share = _SHARES.get(key)
        if share is not None and self.placed(into.id):
            return self.again(share, x, into.id)
        if type(module) is nn.Sequential:
            return self.chain(key, original, module, x, into)
        output = original(module, x)
        if share is None and key not in _SHARES:
            _SHARES[key] = self.share(module, x, output, into)
        return output

    def assign(self, module: nn.Module) -> None:
        """An attribute of a module is about to be set."""
        if type(module) in PASSIVE:
            self.numbers = {}  # a forward that changes its layers: none of them is what it was
            self.changed.append((module.__dict__, module.__dict__.copy()))

    def placed(self, key: int) -> bool:
        """Whether a tensor flows, and it is known where it lies in the input, or that it lies nowhere."""
        return key not in self.learned and (not self.follows or key in self.fields or key in self.lost)

    def chain(self, key: Any, original: Callable[..., Any], module: nn.Module, x: Any, into: Tensor) -> Any:
        """Link by link; what they add up to is kept."""
        links: list[Share | None] = []
        before = self.macs, self.flops, self.stored, self.neurons, self.depths.get(into.id, 0)
        y = x
        modules = module.__dict__["_modules"].values()
        for link in modules:
            if isinstance(y, torch.Tensor) and (at := self.records.get(id(y))) is not None:
                inner = (self.numbers.get(id(link)), at.shape, at.dtype, y.stride(), self.train)
            else:
                inner = None
            y = self.called(original, link, (y,), {})
            links.append(_SHARES.get(inner))
        if self.counted < len(self.ops):
            self.count()
        if None not in links and id(module) in self.numbers:
            shares = tuple([link for link in links if link is not None])
            out = self.records[id(y)]
            added = self.macs - before[0], self.flops - before[1], self.stored - before[2], self.neurons - before[3]
            layers = sum([link.layers for link in shares])
            made = None if y is x else y
            _SHARES[key] = Share(None, None, shares, made, out.shape, out.dtype, *added, layers, {})
        return y

    def share(self, module: nn.Module, x: torch.Tensor, output: Any, into: Tensor) -> Share | None:
        """What a layer that ran just now adds to the totals, None where that does not follow from its call alone."""
        new = self.ops[self.counted :]
        if not new and output is x:
            return Share(None, None, (), None, into.shape, into.dtype, 0, 0, 0, 0, 0, {})
        if len(new) != 1 or not isinstance(output, torch.Tensor) or not is_meta(output) or not self.placed(into.id):
            return None
        op, done = new[0], self.works[-1]
        own = {id(t) for t in (*module._parameters.values(), *module._buffers.values())}
        if done is None or op.inputs[0].id != into.id or [t.id for t in op.outputs] != [self.records[id(output)].id]:
            return None
        if any([id(self.alive[t.id]) not in own for t in op.inputs[1:]]):
            return None
        if done.reach is not None and any([step != int(step) for _, step in done.reach]):
            return None  # it enlarges: what `Passed` says holds for whole jumps
        if op.name.startswith(("aten.upsample", "aten._upsample")):
            return None
        before = self.stored, self.neurons
        self.count()
        grown = self.stored - before[0], self.neurons - before[1]
        layers = int(op.args.get("num_layers", 1)) if grown[1] else 0
        made = None if output is x else output
        out = op.outputs[0]
        return Share(op, done, (), made, out.shape, out.dtype, done.macs, done.flops, *grown, layers, {})

    def again(self, share: Share, x: torch.Tensor, at: int) -> torch.Tensor:
        """Add a share to the totals, and make its output. at: the id of the input."""
        self.macs += share.macs
        self.flops += share.flops
        self.stored += share.stored
        self.neurons += share.neurons
        out = at
        if share.made is not None:
            x = _cast(torch.Tensor, share.made, False)
            out = len(self.alive)
            self.records[id(x)] = Tensor(out, share.shape, share.dtype)
            self.alive.append(x)
            self.seen.add(out)
        if share.layers or out != at:
            self.reach(out, self.depths.get(at, 0) + share.layers)
        if self.follows:
            field = self.fields.get(at)
            after = None if field is None else self.behind(share, field)
            if after is not None:
                self.fields[out] = after
            else:
                self.fields.pop(out, None)
                self.lost.add(out)
        return x

    def behind(self, share: Share, field: Field) -> Field | None:
        """The field behind a layer, None where it is lost there."""
        if any([type(jump) is not int for jump in field.jump]):  # behind an enlargement: no more whole multiples
            after: Field | None = field
            for one in _flat(share):
                after = after and _step(one, after)
                if after is not None and after.windowed:
                    self.inner.append(after)
            return after
        key = (field.axes, field.windowed)
        if key in share.passed:
            passed = share.passed[key]
        else:
            n = len(field.size)
            start = Field((1,) * n, (1,) * n, *key)
            passed = share.passed[key] = _passed(share, start)
        if passed is None:
            return None
        size, jump = field.size, field.jump
        if passed.inner is not None:
            inner = tuple([s + int(g * j) for s, g, j in zip(size, passed.inner, jump, strict=True)])
            self.inner.append(Field(inner, jump, (), True))
        return Field(
            tuple([s + int(g * j) for s, g, j in zip(size, passed.grow, jump, strict=True)]),
            tuple([j * k for j, k in zip(jump, passed.scale, strict=True)]),
            passed.axes,
            passed.windowed,
        )


def _passed(share: Share, field: Field) -> Passed | None:
    """What a layer does to a field of size 1 and jump 1; None where the field is lost."""
    after, inner = field, None
    for i, one in enumerate(_flat(share)):
        if i and after.windowed:
            inner = after
        found = _step(one, after)
        if found is None:
            return None
        after = found
    grow = tuple([size - 1 for size in after.size])
    kept = None if inner is None or after.windowed else tuple([size - 1 for size in inner.size])
    return Passed(grow, tuple([int(jump) for jump in after.jump]), after.axes, after.windowed, kept)


def _step(share: Share, field: Field) -> Field | None:
    """The field behind one layer."""
    op = share.operator
    if op is None:
        return field
    known = {op.inputs[0].id: field}
    receptive.onward(op, share.work, known, set(), set())
    return known.get(op.outputs[0].id)


def _flat(share: Share) -> list[Share]:
    """The layers of a chain of chains."""
    return [one for link in share.links for one in _flat(link)] if share.links else [share]


# ----------------------------------------------------------------------------------------------------- many runs


class Runs:
    """Within its block models are run for their totals, one after the other."""

    def __enter__(self) -> "Runs":
        self.now: Sum | None = None
        self.held: tuple[nn.Module, Holdings] | None = None  # of the last model: often it is the next one, too
        self.stack = ExitStack()
        self.stack.enter_context(LOCK)
        self.stack.enter_context(gc_paused())
        self.stack.enter_context(untouched((), None))
        self.stack.enter_context(believed(CPU))
        self.stack.enter_context(torch.inference_mode())
        self.stack.enter_context(listening(self))
        return self

    def __exit__(self, *error: object) -> None:
        self.held = None
        self.stack.close()

    def totals(
        self,
        model: nn.Module,
        arguments: Sequence[Any],
        named: Mapping[str, Any],
        name: str,
        train: bool = False,
        bound: bool = False,
    ) -> dict[str, Any]:
        """`passes.totals` of one run. arguments, named: tensors on the meta device, or what holds such.

        Raises NotQuick where only the tracer can tell, and whatever the model raises.
        """
        if max(len(_SHARES), len(NUMBERS)) > MOST:
            forget()
            self.held = None
        if self.held is None or self.held[0] is not model:
            self.held = (model, Holdings(model))
        held = self.held[1]
        run = Sum(name, held, train, bound)
        run.begin(tensors_in((*arguments, *named.values())))
        with _as_it_was(run), run:
            self.now = run
            try:
                return run.totals(model(*arguments, **named))
            finally:
                self.now = None


@contextmanager
def _as_it_was(run: Sum) -> Iterator[None]:
    """Set the mode, and give the modules back as they were. A layer of PyTorch's own keeps no notes of a run."""
    own = list(run.held.modules.values())
    modes = [attributes["training"] for attributes in own]
    kept = [(each, each.copy(), [(g, g.copy()) for g in map(each.get, _GROUPS) if g]) for each in run.held.active]
    for attributes in own:
        attributes["training"] = run.train
    try:
        yield
    finally:
        for attributes, before, groups in kept:
            attributes.clear()
            attributes.update(before)
            for group, members in groups:
                if group != members:
                    group.clear()
                    group.update(members)
        for attributes, before in reversed(run.changed):
            attributes.clear()
            attributes.update(before)
        for attributes, mode in zip(own, modes, strict=True):
            attributes["training"] = mode


_GROUPS = ("_parameters", "_buffers", "_modules")
