"""The totals of a run without its record: `totals(trace(model, inputs))`, in a fraction of the time.

A sweep runs thousands of models that consist of the same layers. What a call of a layer, or of a short chain of layers,
adds to each total is kept in one memo for all models (`tracing/memo.py`). Everything else, a model's own forward,
functional calls, `x + y`, runs under the tracer's rules operator by operator. The totals are added up as the operators
come, by the definitions in `analysis/metrics`, and nothing is written down. A test compares both on every network of
the zoo.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from archscope.analysis import receptive_field as receptive
from archscope.analysis.metrics.parameters import DENSE
from archscope.analysis.metrics.windows import field_of
from archscope.analysis.observed import BYTE, computed_weight, shapes_of
from archscope.analysis.receptive_field import Field
from archscope.core.record import Op, Tensor
from archscope.core.table import AtLeast
from archscope.operators import Work, shares
from archscope.sweeps.lazy_layers import MADE, UNASKED, Frozen, LayerFacts, NeedsTracer
from archscope.tracing.collector import gc_paused
from archscope.tracing.devices import CPU, believed, is_meta
from archscope.tracing.guard import untouched
from archscope.tracing.memo import Memo, MemoRun, Unknown, is_library
from archscope.tracing.modules import kind_of, listening
from archscope.tracing.run import LOCK
from archscope.tracing.tensors import first_dtype, tensors_in
from archscope.tracing.weightless import KIND

MOST = 1 << 13  # calls, and numbers of layers, that are kept
MEMO = Memo(longest=8)


class CallTotals(NamedTuple):
    """What a call of a layer, or of a chain of layers, adds to the totals.

    path: the operators from its input to its output, one after the other. field_steps: what it does to a field, by its
    axes and whether it is windowed.
    """

    path: tuple[tuple[Op, Work], ...]
    macs: int
    flops: int
    stored: int
    neurons: int
    layers: int
    field_steps: dict[Any, "FieldStep | None"]


class FieldStep(NamedTuple):
    """What a layer does to a field: size + grow·jump and jump·scale on each side, whatever size and jump are.

    shift: by how many jumps its middle moves. axes, windowed: of the field behind it. inner: the growth up to the last
    feature map inside a chain, None where the field behind it is one itself.
    """

    grow: tuple[int | Fraction, ...]
    scale: tuple[int | Fraction, ...]
    shift: tuple[int | Fraction, ...]
    axes: tuple[tuple[tuple[int, int], ...], ...]
    windowed: bool
    inner: tuple[int | Fraction, ...] | None


class State:
    """What a model consists of, each once, by id().

    numbers: of layers that are as they were copied, and of chains of such; None of the user's modules. modules:
    attributes of each. active: of those that are no library's, which may keep notes of a run. Raises NeedsTracer
    for what only the tracer can run: scripted and lazy modules.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules: dict[int, dict[str, Any]] = {}
        self.numbers: dict[int, int | None] = {}
        self.active: list[dict[str, Any]] = []
        self.parameters: dict[int, torch.Tensor] = {}
        self.buffers: dict[int, torch.Tensor] = {}
        self.all_facts: list[LayerFacts] = []  # of layers whose parameters are not even made
        self.shared: list[Frozen] = []  # buffers of the other layers that were copied
        self.dtype: torch.dtype | None = None  # of the first parameter of floating point
        dense: dict[int, torch.Tensor] = {}
        MADE.clear()
        self._walk(model, dense)
        all_facts, parameters = self.all_facts, self.parameters.values()
        buffers = [b for i, b in self.buffers.items() if i not in self.parameters]
        held = [*all_facts, *self.shared]
        self.params = sum([p.numel() for p in parameters]) + sum([facts.params for facts in all_facts])
        self.trainable = sum([p.numel() for p in parameters if p.requires_grad]) + sum([m.trainable for m in all_facts])
        self.elements = sum([b.numel() for b in buffers]) + sum([each.elements for each in held])
        self.memory = sum([t.nbytes for t in (*parameters, *buffers)]) + sum([each.nbytes for each in held])
        self.dense = sum([p.numel() for p in dense.values()]) + sum([m.params for m in all_facts if m.dense])
        for shared in (*[facts.buffers for facts in set(all_facts)], *self.shared):
            self.buffers.update(shared.by_id)

    def is_parameter(self, key: int) -> bool:
        """Whether a tensor, by its id(), is one; it may have been made a moment ago."""
        if MADE:
            self.parameters.update({id(p): p for p in MADE})
            MADE.clear()
        return key in self.parameters

    def _walk(self, module: nn.Module, dense: dict[int, torch.Tensor]) -> None:
        """Go through a module that was not met before."""
        here, own = id(module), module.__dict__
        self.modules[here] = own
        cls = type(module)
        if held := own["_parameters"]:
            mine = {id(p): p for p in held.values() if p is not None}
            self.parameters |= mine
            if self.dtype is None:
                self.dtype = first_dtype(mine.values())
            if (own.get(KIND) or kind_of(cls)) in DENSE:
                dense |= mine
        if held := own["_buffers"]:
            if type(held) is Frozen:
                self.shared.append(held)
            else:
                self.buffers |= {id(b): b for b in held.values() if b is not None}
        modules, numbers, all_facts = self.modules, self.numbers, self.all_facts
        links: list[int | None] = []
        for child in own["_modules"].values():
            if child is None:
                continue
            key = id(child)
            if key not in modules:
                inner = child.__dict__
                hooks = inner["_forward_hooks"]
                if (
                    type(hooks) is Frozen
                    and (facts := hooks.facts) is not None
                    and type(inner["_parameters"]) in UNASKED
                ):
                    modules[key] = inner
                    all_facts.append(facts)
                    numbers[key] = -facts.number
                    if self.dtype is None:
                        self.dtype = first_dtype(p for _, p, _ in facts.tensors)
                else:
                    self._walk(child, dense)
            links.append(numbers.get(key))
        if not is_library(cls):
            if isinstance(module, (torch.jit.ScriptModule, LazyModuleMixin)):
                raise NeedsTracer
            self.active.append(own)
            numbers[here] = None
        elif cls is nn.Sequential and None not in links and (chain := MEMO.chain(own, links)) is not None:
            numbers[here] = MEMO.keys.setdefault(chain, len(MEMO.keys))


# ---------------------------------------------------------------------------------------------------------- a run


class TotalsRun(MemoRun):
    """One run, of which only the totals are kept."""

    def __init__(self, name: str, state: State, train: bool, bound: bool) -> None:
        super().__init__(MEMO, name, bound)
        self.of, self.mode, self.copied = state, train, state.numbers
        self.counted = 0  # operators of `ops` that are in the totals
        self.log: list[
            tuple[Op, Work | None] | tuple[CallTotals, int, int]
        ] = []  # operators and calls, with ids in and out
        self.macs = self.flops = self.stored = self.neurons = self.longest = 0
        self.unknown: dict[str, int] = {}
        self.depths: dict[int, int] = {}  # by tensor id, as all below
        self.seen_before: set[int] = set()
        self.learned: set[int] = set()
        self.fixed: set[int] = set()  # buffers
        self.narrow: set[int] = set()  # buffers of bytes
        self.weights: set[int] = set()  # and buffers, and what is computed from both
        self.fields: dict[int, Field] = {}
        self.lost: set[int] = set()
        self.inner: list[Field] = []  # fields of feature maps within chains

    def begin(self, tensors: Sequence[torch.Tensor]) -> None:
        """The inputs are there."""
        self.inputs = tuple([self.record(t) for t in tensors])
        self.seen_before.update([t.id for t in self.inputs])
        self.fields = receptive.at_first(self.inputs)
        self.follows = bool(self.fields)

    def record(self, tensor: torch.Tensor) -> Tensor:
        known = super().record(tensor)
        key = id(tensor)
        if self.of.is_parameter(key):
            self.learned.add(known.id)
            self.weights.add(known.id)
            self.seen_before.add(known.id)
        elif key in self.of.buffers:
            self.weights.add(known.id)
            self.seen_before.add(known.id)
            self.fixed.add(known.id)
            if known.dtype in BYTE:
                self.narrow.add(known.id)
        return known

    def count(self) -> None:
        """Add up the operators that came since."""
        for op, done in zip(self.ops[self.counted :], self.works[self.counted :], strict=True):
            self.add(op, done)
            self.log.append((op, done))
        self.counted = len(self.ops)

    def add(self, op: Op, done: Work | None) -> None:
        """One operator, by the definitions in `analysis/metrics`."""
        learned, depths = self.learned, self.depths
        if done is None:
            self.unknown[op.name] = self.unknown.get(op.name, 0) + 1
        else:
            self.macs += done.macs
            self.flops += done.flops
        ids = [t.id for t in op.inputs]
        weighted = False
        if not (learned.isdisjoint(ids) and self.narrow.isdisjoint(ids)):
            if computed_weight(ids, learned, self.fixed, self.narrow):
                learned.update([t.id for t in op.outputs])
            else:
                weighted = done is not None and done.macs > 0 and not learned.isdisjoint(ids)
        elif ids and self.fixed.issuperset(ids):
            self.fixed.update([t.id for t in op.outputs])
        for t in op.outputs:
            if t.id not in self.seen_before:
                self.seen_before.add(t.id)
                if t.id not in learned and not shares(op, t):
                    self.stored += t.nbytes
        after = max([depths.get(i, 0) for i in ids], default=0)
        if weighted:
            self.neurons += op.outputs[0].numel
            after += int(op.args.get("num_layers", 1))
        for t in op.outputs:
            self.reach(t.id, after)
        if self.follows:
            if op.name in receptive.TURNS and not any([field.windowed for field in self.fields.values()]):
                raise NeedsTracer("axes are turned before the first window")
            receptive.onward(op, done, self.fields, self.lost, self.weights)

    def reach(self, key: int, layers: int) -> None:
        """A tensor lies behind this many weighted layers."""
        if layers > self.depths.get(key, 0):
            self.depths[key] = layers
            self.longest = max(self.longest, layers)

    def totals(self, output: Any) -> dict[str, Any]:
        """The totals. output: what the model returned."""
        self.count()
        of = self.of
        ends = [self.record(t) for t in tensors_in((output,))]
        fields = {**self.fields, **{-i: field for i, field in enumerate(self.inner, 1)}}
        return {
            "model": self.name,
            "input": shapes_of(self.inputs),
            "depth": self.longest,
            "params": of.params,
            "trainable": of.trainable,
            "buffers": of.elements,
            "memory": of.memory,
            "macs": AtLeast(self.macs) if self.unknown else self.macs,
            "flops": AtLeast(self.flops) if self.unknown else self.flops,
            "activations": self.stored,
            "neurons": self.neurons,
            "receptive_field": field_of(fields, ends),
            "fc_share": of.dense / of.params if of.params else None,
            "unknown": self.unknown,
            "macs_is_lower_bound": bool(self.unknown),
        }

    # ------------------------------------------------------------------------------------------ calls of layers

    def number(self, module: nn.Module) -> int | None:
        """Layers that were copied and left as they are have the number of their template."""
        here = id(module)
        return self.copied[here] if here in self.copied else super().number(module)

    def assign(self, module: nn.Module) -> None:
        super().assign(module)
        if is_library(type(module)):
            self.copied = {}  # a forward that changes its layers: none of them need be what it was copied as

    def is_ready(self, given: list[torch.Tensor]) -> bool:
        """Whether a tensor flows, and it is known where it lies in the input, or that it lies nowhere."""
        if self.counted < len(self.ops):
            self.count()
        known = self.records.get(id(given[0])) if len(given) == 1 else None
        if known is None or not is_meta(given[0]) or known.id in self.learned:
            return False
        return not self.follows or known.id in self.fields or known.id in self.lost

    def start(self) -> tuple[int, ...]:
        self.count()
        return len(self.log), self.macs, self.flops, self.stored, self.neurons

    def cost(self, start: tuple[int, ...], module: nn.Module | None, given: Any, output: Any) -> CallTotals:
        """What a call added to the totals. Raises Unknown where that does not follow from the call alone."""
        first, *before = start
        _, *after = self.start()
        at = begun = self.records[id(given[0])].id
        assert module is not None
        own = {id(t) for m in module.modules() for t in (*m._parameters.values(), *m._buffers.values())}
        path: list[tuple[Op, Work]] = []
        for step in self.log[first:]:
            if len(step) == 3:
                call, into, out = step
                if into != at:
                    raise Unknown
                path += call.path
            else:
                op, done = step
                flows = [t.id for t in op.inputs if id(self.alive[t.id]) not in own]
                if done is None or len(op.outputs) != 1 or not _by_whole_steps(op, done):
                    raise Unknown
                if not flows and op.inputs:
                    continue  # a count of batches, say
                out = op.outputs[0].id
                if flows != [at] or op.inputs[0].id != at:
                    raise Unknown
                path.append((op, done))
            at = out
        if not isinstance(output, torch.Tensor) or self.records[id(output)].id != at:
            raise Unknown
        layers = self.depths.get(at, 0) - self.depths.get(begun, 0)
        macs, flops, stored, neurons = [now - then for now, then in zip(after, before, strict=True)]
        return CallTotals(tuple(path), macs, flops, stored, neurons, layers, {})

    def repeat(self, cost: CallTotals, given: list[torch.Tensor], output: Any) -> None:
        at, out = self.records[id(given[0])].id, self.records[id(output)].id
        self.macs += cost.macs
        self.flops += cost.flops
        self.stored += cost.stored
        self.neurons += cost.neurons
        self.log.append((cost, at, out))
        self.seen_before.add(out)
        if cost.layers or out != at:
            self.reach(out, self.depths.get(at, 0) + cost.layers)
        if self.follows:
            field = self.fields.get(at)
            after = None if field is None else self.behind(cost, field)
            if after is not None:
                self.fields[out] = after
            else:
                self.fields.pop(out, None)
                self.lost.add(out)

    def behind(self, call: CallTotals, field: Field) -> Field | None:
        """The field behind a call, None where it is lost there."""
        if any([type(jump) is not int for jump in field.jump]):  # behind an enlargement: no more whole multiples
            *inner, after = _fields(call, field)
            self.inner += [one for one in (*inner, after) if one is not None and one.windowed]
            return after
        key = (field.axes, field.windowed)
        if key in call.field_steps:
            step = call.field_steps[key]
        else:
            n = len(field.size)
            step = call.field_steps[key] = _field_step(call, Field((1,) * n, (1,) * n, *key))
        if step is None:
            return None
        size, jump, shift = field.size, field.jump, field.shift
        if step.shift:
            shift = receptive.moved(shift, [far * j for far, j in zip(step.shift, jump, strict=False)])
        if step.inner is not None:
            inner_size = tuple([s + g * j for s, g, j in zip(size, step.inner, jump, strict=True)])
            self.inner.append(Field(inner_size, jump, (), True, field.coarse))
        return Field(
            tuple([s + g * j for s, g, j in zip(size, step.grow, jump, strict=True)]),
            tuple([j * k for j, k in zip(jump, step.scale, strict=True)]),
            step.axes,
            step.windowed,
            field.coarse,
            shift,
        )


def _by_whole_steps(op: Op, done: Work) -> bool:
    """Whether it enlarges nothing: what `FieldStep` says holds for whole jumps."""
    enlarges = op.name.startswith(("aten.upsample", "aten._upsample"))
    return not enlarges and all([step == int(step) for _, step in done.reach or ()])


def _fields(call: CallTotals, field: Field) -> list[Field | None]:
    """The field that comes in, and behind each operator; the last one is None where it is lost."""
    found: list[Field | None] = [field]
    for op, done in call.path:
        known = {op.inputs[0].id: field}
        receptive.onward(op, done, known, set(), set())
        found.append(known.get(op.outputs[0].id))
        if found[-1] is None:
            break
        field = found[-1]
    return found


def _field_step(call: CallTotals, start: Field) -> FieldStep | None:
    """What a call does to a field of size 1 and jump 1; None where the field is lost."""
    *between, after = _fields(call, start)
    if after is None:
        return None
    maps = [one for one in between[1:] if one is not None and one.windowed]
    grow = tuple([size - 1 for size in after.size])
    inner = None if not maps or after.windowed else tuple([size - 1 for size in maps[-1].size])
    return FieldStep(grow, after.jump, after.shift, after.axes, after.windowed, inner)


# ----------------------------------------------------------------------------------------------------- many runs


class Runs:
    """Within its block models are run for their totals, one after the other."""

    def __enter__(self) -> "Runs":
        self.now: TotalsRun | None = None
        self.last: tuple[nn.Module, State] | None = None  # of the last model: often it is the next one, too
        self.stack = ExitStack()
        self.stack.enter_context(LOCK)
        self.stack.enter_context(gc_paused())
        self.stack.enter_context(untouched((), None))
        self.stack.enter_context(torch.inference_mode())
        self.stack.enter_context(believed(CPU))
        self.stack.enter_context(listening(self))
        return self

    def __exit__(self, *error: object) -> None:
        self.last = None
        self.stack.close()

    def state_of(self, model: nn.Module) -> State:
        """What the model consists of. Raises NeedsTracer."""
        if len(MEMO) > MOST:
            MEMO.clear()
            self.last = None
        if self.last is None or self.last[0] is not model:
            self.last = (model, State(model))
        return self.last[1]

    def dtype_of(self, model: nn.Module) -> torch.dtype | None:
        """`tracing.tensors.dtype_of`, without making parameters that nobody asked for. Raises NeedsTracer."""
        return self.state_of(model).dtype

    def totals(
        self,
        model: nn.Module,
        arguments: Sequence[Any],
        named: Mapping[str, Any],
        name: str,
        train: bool = False,
        bound: bool = False,
    ) -> dict[str, Any]:
        """`analysis.metrics.totals` of one run. arguments, named: tensors on the meta device, or what holds such.

        Raises NeedsTracer where only the tracer can tell, and whatever the model raises.
        """
        run = TotalsRun(name, self.state_of(model), train, bound)
        run.begin(tensors_in((*arguments, *named.values())))
        with _as_it_was(run), run:
            self.now = run
            try:
                return run.totals(model(*arguments, **named))
            finally:
                self.now = None


@contextmanager
def _as_it_was(run: TotalsRun) -> Iterator[None]:
    """Set the mode, and give the modules back as they were. A library's own keep no notes of a run."""
    own = list(run.of.modules.values())
    modes = [attributes["training"] for attributes in own]
    groups = ("_parameters", "_buffers", "_modules")
    kept = [(each, each.copy(), [(g, g.copy()) for g in map(each.get, groups) if g]) for each in run.of.active]
    for attributes in own:
        attributes["training"] = run.mode
    try:
        yield
    finally:
        for attributes, before, held in kept:
            attributes.clear()
            attributes.update(before)
            for group, members in held:
                if group != members:
                    group.clear()
                    group.update(members)
        run.restore()
        for attributes, mode in zip(own, modes, strict=True):
            attributes["training"] = mode
