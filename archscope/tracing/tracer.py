"""trace(model, inputs) -> Trace: the one place that runs a model.

The model runs once under a `TorchDispatchMode`. Where `ops.py` knows an operator's output shape the output is made
from that rule, an empty tensor on the meta device, and PyTorch's own kernel is never called; every other operator
falls through to PyTorch's meta kernel. Nothing is computed and no weight is read.

Inference mode is what makes the record readable: below it PyTorch does not take `linear`, `conv2d`, `batch_norm`,
`lstm` or attention apart before they reach the dispatch mode, so one layer is one operator. An operator that
`ops.py` does not know and that PyTorch can take apart is taken apart here, and its pieces are recorded.

Values stay real where they are small and already known: a model may count, index and branch on constants. A tensor
that existed before the run is never written to.
"""

import copy
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn
from torch._C._autograd import _unsafe_set_version_counter  # type: ignore[import]
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._python_dispatch import TorchDispatchMode

from archscope.core.errors import ArchscopeError, ShapeError, SpecError, TraceError
from archscope.core.record import Composite, Layer, Op, Param, Tensor, Trace
from archscope.core.version import __version__
from archscope.operators import UPPER_BOUNDS, Work, work
from archscope.tracing.collector import gc_paused
from archscope.tracing.dispatch import CALLS, Call, call_of, elements, heard, spelled
from archscope.tracing.failure import Again, Failure, first_line, of_shapes, of_torch, refused_numbers, user_line
from archscope.tracing.modules import PLAIN, describe, kind_of
from archscope.tracing.weightless import KIND, META, NAME

CPU = torch.device("cpu")
SMALL = 1 << 16  # elements; a real tensor up to this size keeps its values while the model runs

_DTYPES = {d: str(d).removeprefix("torch.") for d in vars(torch).values() if isinstance(d, torch.dtype)}
LOCK = threading.RLock()  # one run at a time replaces nn.Module._call_impl


def trace(
    model: nn.Module,
    inputs: Sequence[Any] | Mapping[str, Any] | torch.Tensor,
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    train: bool | None = False,
    rules: bool = True,
    bound: bool = False,
) -> Trace:
    """Run `model(*inputs, **kwargs)` once without computing anything, and return the record.

    inputs: a tuple of tensors on any device, of which only shape and dtype are read, or of shapes (float32), or of
    anything else that the forward takes; a single tensor or shape may stand alone, and a dict goes by name. kwargs:
    likewise. name: of the model in the record; else what `load` was asked for, or the class. train: run in training
    mode (True), in evaluation mode (False), or as the model is (None). rules: False runs every operator on PyTorch's
    meta kernels instead of the shape rules of `ops.py`, to compare the two. bound: where a size depends on values
    (`nonzero`, a boolean mask, non-maximum suppression) take its largest, and say so in the record's notes, instead of
    failing.

    The model is left as it was: mode of every submodule, parameters, buffers, attributes, hooks, gradients, device,
    and the state of the random generator. Raises ShapeError when an operator refuses its input, and TraceError when
    the forward needs the value of a tensor or fails in another way; both carry a `failure` with the record so far.
    Raises SpecError for what is no module, and for what is no input.
    """
    _understood(model, inputs)
    if isinstance(inputs, torch.Tensor) or (len(inputs) > 0 and all(type(side) is int for side in inputs)):
        inputs = (inputs,)  # one tensor, or one shape, without the tuple around it
    if isinstance(inputs, Mapping):
        inputs, kwargs = (), {**inputs, **(kwargs or {})}
    arguments = [_abstract(value) for value in inputs]
    named = {key: _abstract(value) for key, value in (kwargs or {}).items()}
    modules = list(model.named_modules(remove_duplicate=False))
    lazy = any([_is_lazy(p) for _, module in modules for _, p in _own(module, "_parameters")])
    if lazy:  # a first run makes another class of a lazy module: not of the user's
        model = copy.deepcopy(model)
        modules = list(model.named_modules(remove_duplicate=False))
    run = Run(modules, name or getattr(model, NAME, type(model).__name__), rules, lazy, bound)
    run.inputs = tuple(run.record(t) for t in tensors_in([*arguments, *named.values()]))
    with LOCK, gc_paused(), ExitStack() as stack:
        stack.enter_context(untouched(run.paths, train))
        stack.enter_context(torch.inference_mode())
        stack.enter_context(run.watch())
        run.heard = stack.enter_context(heard(run.ops))
        stack.enter_context(run)
        try:
            model(*arguments, **named)
        except ArchscopeError as error:
            raise run.explain(error, Again(model, tuple(arguments), named, train, bound)) from error.__cause__
        except Exception as error:
            raise run.explain(error, Again(model, tuple(arguments), named, train, bound)) from error
    if lazy:
        run.params, run.buffers = run.state("_parameters"), run.state("_buffers")
    return run.finish(bool(train) if train is not None else model.training)


def _understood(model: Any, inputs: Any) -> None:
    if not isinstance(model, nn.Module):
        text = repr(model)
        other = f": archscope.record_of({text}) takes a name" if isinstance(model, str) else ""
        raise SpecError(f"{text if len(text) < 60 else type(model).__name__} is no module{other}")
    if isinstance(inputs, (str, int, float)) or inputs is None:
        raise SpecError(f"{inputs!r} is no input of a forward: give tensors or shapes, such as (1, 3, 224, 224)")


class Run(TorchDispatchMode):
    """One run: the operators and layer calls seen so far."""

    def __init__(self, modules: list[tuple[str, nn.Module]], name: str, rules: bool, lazy: bool, bound: bool) -> None:
        super().__init__()
        self.modules, self.name, self.rules, self.lazy, self.bound = modules, name, rules, lazy, bound
        self.bounded: dict[str, None] = {}  # modules in which a size was taken at its largest
        self.ops: list[Op] = []
        self.works: list[Work | None] = []  # of each operator, as `ops.work` says it: no rule need be asked twice
        self.layers: list[Layer | None] = []
        self.composites: list[Composite | None] = []
        self.heard: dict[int, str] = {}  # the functions by which Python called operators, by the index of these
        self.stack: list[str] = []
        self.failed: str | None = None
        self.refused: tuple[Exception, Call, Any, Any] | None = None  # the operator that raised
        self.calls: dict[nn.Module, int] = {}
        self.paths: dict[nn.Module, str] = {}
        for path, module in self.modules:
            self.paths.setdefault(module, path)
        self.records: dict[int, Tensor] = {}
        self.alive: list[torch.Tensor] = []  # an id() is unique only while its tensor lives
        self.born: set[int] = set()  # real tensors made during the run: the only ones that may be written to
        self.stale: set[int] = set()  # memory of real tensors into which something unknown was written
        self.metas: dict[int, torch.Tensor] = {}
        self.inputs: tuple[Tensor, ...] = ()
        self.params = self.state("_parameters")
        self.buffers = self.state("_buffers")

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch wraps the dispatch below and imports its compiler at the first operator

    # ------------------------------------------------------------------------------------------------- tensors

    def record(self, tensor: torch.Tensor) -> Tensor:
        key, alive = id(tensor), self.alive
        known = self.records.get(key)
        if known is None:
            known = self.records[key] = Tensor(len(alive), tuple(tensor.shape), _DTYPES[tensor.dtype])
            alive.append(tensor)
        return known

    def plain(self, value: Any) -> Any:
        """An operator's argument as the record keeps it."""
        kind = type(value)
        if kind in PLAIN:
            return value
        if isinstance(value, torch.Tensor):
            return self.record(value)
        if kind is list or kind is tuple:
            return tuple([self.plain(v) for v in value])
        if kind is torch.dtype:
            return _DTYPES[value]
        return value if isinstance(value, (int, float, complex)) else str(value)

    def meta(self, value: Any) -> Any:
        """The same argument with every tensor on the meta device."""
        if isinstance(value, torch.Tensor):
            if value.is_meta:
                return value
            kept = self.metas.get(id(value))
            if kept is None:
                self.record(value)  # keeps it alive
                with torch.inference_mode(value.is_inference()), torch.no_grad():
                    kept = self.metas[id(value)] = value.to("meta")
            return kept
        if isinstance(value, (list, tuple)):
            return [self.meta(v) for v in value]
        if isinstance(value, torch.device):
            return META
        return value

    def state(self, group: str) -> tuple[Param, ...]:
        """The parameters or the buffers, under every name that they have."""
        return tuple(
            Param(f"{path}.{name}" if path else name, self.record(value), value.requires_grad)
            for path, module in self.modules
            for name, value in _own(module, group)
            if value is not None and not (self.lazy and _is_lazy(value))
        )

    # ----------------------------------------------------------------------------------------------- operators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = CALLS.get(func)
        if call is None:
            call = CALLS[func] = call_of(func)
        try:
            if call.rule is not None and self.rules:
                return self.ruled(call, func, args, kwargs)
            return self.kernel(call, func, args, kwargs or {})
        except Exception as error:
            if self.refused is None or self.refused[0] is not error:  # the innermost
                self.refused = (error, call, args, kwargs or {})
            raise

    def ruled(self, call: Call, func: Any, args: Any, kwargs: Any) -> Any:
        """Make the output from the rule, in the memory format that PyTorch would choose."""
        named: dict[str, Any] = {}
        inputs: list[Tensor] = []
        live: list[torch.Tensor] = []
        records = self.records
        for key, value in zip(call.arguments, args, strict=False):
            if type(value) in PLAIN:
                named[key] = value
            elif (known := records.get(id(value))) is not None:
                named[key] = known
                inputs.append(known)
                live.append(value)
            elif type(value) is list and value and type(value[0]) is int:
                named[key] = tuple(value)
            elif type(value) is list and None not in (group := [records.get(id(v)) for v in value]):
                named[key] = tuple(group)
                inputs += group  # type: ignore[arg-type]
                live += value
            else:
                self.take(key, value, named, inputs, live)
        for key, value in kwargs.items() if kwargs else ():
            self.take(key, value, named, inputs, live)
        assert call.rule is not None
        done = call.rule(**named)
        shapes = done.shapes
        if shapes is None or not live or done.dtype is not None:
            return self.kernel(call, func, args, kwargs or {})
        first = live[0]
        if call.in_place:
            if shapes[0] != inputs[0].shape:
                raise ShapeError(f"an in-place operation cannot make {list(shapes[0])} of {list(inputs[0].shape)}")
            if not first.is_meta and id(first) in self.born:
                return self.kernel(call, func, args, kwargs or {})
            self.ops.append(Op(call.name, tuple(inputs), (inputs[0],), named))
            self.works.append(done)
            return first
        if call.name == "aten.dropout" and not (named["train"] and named["p"]):
            self.ops.append(Op(call.name, tuple(inputs), (inputs[0],), named))
            self.works.append(done)
            return first  # PyTorch gives the input back
        if not call.dense:
            for tensor in live:
                if not tensor.is_contiguous():
                    return self.kernel(call, func, args, kwargs or {})
        if not first.is_meta and not any([tensor.is_meta for tensor in live]):
            return self.kernel(call, func, args, kwargs or {})  # constants stay real
        made, outputs = [], []
        for shape in shapes:
            tensor = torch.empty(shape, dtype=first.dtype, device=META)
            records[id(tensor)] = new = Tensor(len(self.alive), shape, inputs[0].dtype)
            self.alive.append(tensor)
            made.append(tensor)
            outputs.append(new)
        self.ops.append(Op(call.name, tuple(inputs), tuple(outputs), named))
        self.works.append(done)
        return made[0] if len(made) == 1 else tuple(made)

    def take(self, key: str, value: Any, named: dict[str, Any], inputs: list[Tensor], live: list[torch.Tensor]) -> None:
        """Add one argument of an operator to what is known of its call."""
        named[key] = kept = self.plain(value)
        inputs += _records((kept,))
        live += tensors_in((value,))

    def kernel(self, call: Call, func: Any, args: Any, kwargs: Any) -> Any:
        """Run PyTorch's own kernel: for real on small constants, on the meta device otherwise."""
        tensors = [*tensors_in(args), *tensors_in(kwargs.values())]
        if self.lazy and any(map(_is_lazy, tensors)):
            return func(*args, **kwargs)  # a lazy module makes its parameters: not a part of the forward
        real = all([self.known(t) for t in tensors])
        if not tensors or call.constant:
            small = elements(call, args, kwargs) <= SMALL
            on = str(kwargs.get("device") or (tensors[0].device if tensors else "cpu")).partition(":")[0]
            real = small and (on == "cpu" or call.constant)  # `arange(n, device=x.device)` is known, whatever x is
            if "device" in call.arguments and (on != "cpu" or not real):
                kwargs = {**kwargs, "device": CPU if real else META}
        elif real:  # known values stay so on the device of an unknown input
            args = [CPU if isinstance(value, torch.device) else value for value in args]
            kwargs = {**kwargs, "device": CPU} if kwargs.get("device") is not None else kwargs
        if call.in_place and tensors and not tensors[0].is_meta and id(tensors[0]) not in self.born:
            self.keep(call, args, kwargs, args[0])
            return args[0]  # a tensor of the user's: recorded, not written to
        as_view = call.joins and isinstance(args[0], torch.Tensor) and args[0].is_contiguous()
        if call.composite and not real and not as_view:
            index, start = len(self.composites), len(self.ops)
            self.composites.append(None)
            with self:
                taken_apart = func.decompose(*args, **kwargs)
            if taken_apart is not NotImplemented:
                if call.name == "aten.einsum" or any([w is not None and w.macs for w in self.works[start:]]):
                    named = self.named(call, args, kwargs)
                    self.composites[index] = Composite(call.name, named, start, len(self.ops))
                return taken_apart
        output = func(*args, **kwargs) if real else self.on_meta(call, func, args, kwargs)
        made = tensors_in((output,))
        if real and (not call.view or (tensors and id(tensors[0]) in self.born)):
            self.born.update(map(id, made))
        if call.out:
            for tensor in made:
                self.records.pop(id(tensor), None)  # `out=` gave it another shape
        if not real and (call.in_place or call.out):
            written = tensors[:1] if call.in_place else tensors_in(kwargs.values())
            self.stale |= {t.untyped_storage().data_ptr() for t in written if not t.is_meta}
        self.keep(call, args, kwargs, args[0] if call.in_place else output)
        return args[0] if call.in_place else output

    def known(self, tensor: torch.Tensor) -> bool:
        """Whether its values are there: small, and nothing unknown was written into it."""
        if tensor.device.type != "cpu" or tensor.numel() > SMALL:
            return False
        return not self.stale or tensor.untyped_storage().data_ptr() not in self.stale

    def on_meta(self, call: Call, func: Any, args: Any, kwargs: Any) -> Any:
        """Run PyTorch's meta kernel, or, where a size depends on values, what gives its largest."""
        if self.bound and call.name in UPPER_BOUNDS:
            largest = UPPER_BOUNDS[call.name](*map(self.meta, args), **kwargs)
            if largest is not None:
                self.bounded.setdefault(self.stack[-1] or self.name)
                return largest
        try:
            return func(*map(self.meta, args), **{k: self.meta(v) for k, v in kwargs.items()})
        except Exception:
            if all([t.is_meta or t.numel() > SMALL for t in tensors_in(args)]):
                raise
            return func(*args, **kwargs)  # it wants the values of a small constant: lengths, sizes

    def keep(self, call: Call, args: Any, kwargs: Any, output: Any) -> None:
        """Write an operator down."""
        named = self.named(call, args, kwargs)
        outputs = tuple(self.record(t) for t in tensors_in([output]))
        self.ops.append(Op(call.name, tuple(_records(named.values())), outputs, named))
        self.works.append(work(self.ops[-1]))

    def named(self, call: Call, args: Any, kwargs: Any) -> dict[str, Any]:
        """An operator's arguments by their names in its schema, as the record keeps them."""
        named = dict(zip(call.arguments, [self.plain(a) for a in args], strict=False))
        return named | {k: self.plain(v) for k, v in kwargs.items()}

    # -------------------------------------------------------------------------------------------------- layers

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Replace `nn.Module._call_impl` while the model runs, in this thread, for modules of this model."""
        original = nn.Module._call_impl  # what `__call__` ends in: replacing that one takes long
        here = threading.get_ident()
        paths, layers, stack, ops, calls = self.paths, self.layers, self.stack, self.ops, self.calls
        record, records = self.record, self.records

        def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            path = paths.get(module)
            if path is None or threading.get_ident() != here:
                return original(module, *args, **kwargs)
            index, start, depth = len(layers), len(ops), len(stack)
            call = calls[module] = calls.get(module, -1) + 1
            layers.append(None)
            stack.append(path)
            output: Any = ()
            try:
                output = original(module, *args, **kwargs)
                self.failed = None  # what failed inside was caught there
            except BaseException:
                if self.failed is None:
                    self.failed = path
                raise
            finally:
                stack.pop()
                kind, config = describe(module)
                ins = tuple([records.get(id(t)) or record(t) for t in tensors_in(args)])
                if kwargs:
                    ins += tuple([record(t) for t in tensors_in(kwargs.values())])
                known = records.get(id(output))
                outs = (known,) if known is not None else tuple([record(t) for t in tensors_in((output,))])
                layers[index] = Layer(path, call, kind, depth, config, ins, outs, start, len(ops))
            return output

        nn.Module._call_impl = called  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module._call_impl = original  # type: ignore[method-assign]

    def finish(self, train: bool) -> Trace:
        """The record."""
        record = Trace(
            model=self.name,
            inputs=self.inputs,
            params=self.params,
            buffers=self.buffers,
            layers=tuple(layer for layer in self.layers if layer is not None),
            ops=tuple(self.ops),
            modules={path: module.__dict__.get(KIND) or kind_of(type(module)) for module, path in self.paths.items()},
            train=train,
            versions={"archscope": __version__, "torch": torch.__version__},
            notes=(f"sizes that depend on values are taken at their largest, in {', '.join(self.bounded)}",)
            if self.bounded
            else (),
            composites=tuple(composite for composite in self.composites if composite is not None),
            spelled=spelled(self.ops, self.heard),
        )
        record.__dict__["_kept"] = {("works",): self.works}  # where the passes keep what they have computed
        return record

    def explain(self, error: Exception, again: Again) -> ArchscopeError:
        """The error as the user reads it, with the record up to the failure attached."""
        op = None
        if self.refused is not None and self.refused[0] in (error, error.__cause__, error.__context__):
            _, call, args, kwargs = self.refused
            named = self.named(call, args, kwargs)
            op = Op(call.name, tuple(_records(named.values())), (), named)
        path = self.failed or ""
        where = f"{path} ({kind_of(type(dict(self.modules)[path]))})" if path else self.name
        line = user_line(error)
        place = f", at {line}" if line else ""
        if isinstance(error, ShapeError):
            told: ArchscopeError = ShapeError(f"{where}: {error}{place}", expected=error.expected, got=error.got)
        elif op is not None and isinstance(error, RuntimeError) and of_shapes(str(error)):
            told = ShapeError(f"{where}: {first_line(error)}{place}")
        elif op is None and of_torch(error) and (numbers := refused_numbers(str(error))) is not None:
            told = ShapeError(f"{where}: {first_line(error)}{place}", expected=numbers[0], got=numbers[1])
        else:
            text = first_line(error)
            wants = ("meta tensor", "data-dependent", "data-independent", "item()")
            if any(word in text for word in wants) or isinstance(error, _VALUE):
                most = ", or, in Python, have the largest size taken: archscope.trace(…, bound=True)"
                text = (
                    "the forward depends on the value of a tensor, which a trace does not compute. Make that a constant"
                    f" or an argument{most if op is not None and op.name in UPPER_BOUNDS else ''}"
                    f" ({op.name if op is not None else text[:80]})"
                )
            elif isinstance(error, TypeError) and "forward()" in text:
                text = f"the forward was called with other inputs than it takes: {text}"
            told = TraceError(f"{where}: {text}{place}")
        told.failure = Failure(path, self.finish(False), op, line, again)
        return told


_VALUE = (DataDependentOutputException,)


def _is_lazy(tensor: torch.Tensor | None) -> bool:
    return isinstance(tensor, (UninitializedParameter, UninitializedBuffer))


def tensors_in(values: Any) -> list[torch.Tensor]:
    """Every tensor in nested lists, tuples, dicts and dataclasses, in order."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif type(value) in PLAIN:
            continue
        elif isinstance(value, (list, tuple)):
            found += tensors_in(value)
        elif isinstance(value, Mapping):
            found += tensors_in(value.values())
        elif is_dataclass(value) and not isinstance(value, type):
            found += tensors_in([getattr(value, f.name) for f in fields(value)])
    return found


def _records(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if type(value) is Tensor:
            found.append(value)
        elif type(value) is tuple:
            found += _records(value)
    return found


def _abstract(value: Any) -> Any:
    """An input as the run sees it: a tensor of the same shape and dtype on the meta device."""
    if isinstance(value, torch.Tensor):
        if value.layout is torch.strided:
            return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=META)
        return torch.empty(value.shape, dtype=value.dtype, device=META)
    if isinstance(value, (tuple, list)) and value and all(type(side) is int for side in value):
        return torch.empty(tuple(value), device=META)
    if isinstance(value, Mapping):
        return {k: _abstract(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_abstract(v) for v in value) if type(value) in (list, tuple) else value
    return value


def _own(module: nn.Module, group: str) -> Iterable[tuple[str, torch.Tensor | None]]:
    """A module's own parameters or buffers; a scripted one keeps them outside of Python."""
    if isinstance(module, torch.jit.ScriptModule):
        return module.named_parameters("", False) if group == "_parameters" else module.named_buffers("", False)
    return module.__dict__[group].items()


@contextmanager
def untouched(modules: Iterable[nn.Module], train: bool | None) -> Iterator[None]:
    """Set the mode, and give the modules back as they were: flags, attributes, parameters, buffers, random state."""
    kept = []
    scripted = [(m, m.training) for m in modules if isinstance(m, torch.jit.ScriptModule)]
    if train is not None:
        for module, _ in scripted:
            module.training = train
    for module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        own = module.__dict__
        groups = (own["_parameters"], own["_buffers"], own["_modules"])
        kept.append((own, own.copy(), [(group, group.copy() if group else {}) for group in groups]))
        if train is not None:
            own["training"] = train
        if own.get("_compiled_call_impl") is not None:
            own["_compiled_call_impl"] = None  # `module.compile()`: it runs as it was written
    # a write that the run leaves out still counts as one for autograd, which then refuses a backward that is pending
    state = [t for own, *_ in kept for name in ("_parameters", "_buffers") for t in own[name].values()]
    written = [t for t in state if t is not None and not t.is_meta and not _is_lazy(t) and not t.is_inference()]
    versions = [t._version for t in written]
    random = torch.get_rng_state()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused path hides the work of attention
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_rng_state(random)
        for module, training in scripted:
            module.training = training
        _unsafe_set_version_counter(tuple(written), tuple(versions))
        for own, attributes, contents in kept:
            own.clear()
            own.update(attributes)
            for group, members in contents:
                if group or members:
                    group.clear()
                    group.update(members)
