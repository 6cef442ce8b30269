"""The run of a model, operator by operator.

The model runs once under a `TorchDispatchMode`. Where `operators/` has the rule of an operator, the output is made
from that rule, an empty tensor on the meta device, and PyTorch's own kernel is never called; every other operator
runs PyTorch's meta kernel. Nothing is computed and no weight is read.

Inference mode is what makes the record readable: below it PyTorch does not take `linear`, `conv2d`, `batch_norm`,
`lstm` or attention apart before they reach the dispatch mode, so one layer is one operator. An operator that has no
rule and that PyTorch can take apart is taken apart here, and its pieces are recorded.

Values stay real where they are small and already known: a model may count, index and branch on constants. What a tensor
of the user's held before the run it holds afterwards.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import GeneratorType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from archscope.core.errors import ShapeError
from archscope.core.record import Composite, Layer, Op, Param, Tensor, Trace
from archscope.core.version import __version__
from archscope.operators import UPPER_BOUNDS, VIEWS, ZERO, Work, of_complex, work
from archscope.tracing.autocast import Autocast
from archscope.tracing.bounds import with_values
from archscope.tracing.checks import ASKS, holding
from archscope.tracing.compiler import no_compiler
from archscope.tracing.devices import CPU, answers, device_of, is_meta, real_devices
from archscope.tracing.dispatch import DROPOUTS, OVERLOADS, Overload, by_value, elements, kept_whole, overload_of
from archscope.tracing.lines import line_now
from archscope.tracing.memory_order import ordered
from archscope.tracing.modules import PLAIN, calls_go_to, describe, kind_of
from archscope.tracing.sparse import SPARSE, product_of
from archscope.tracing.spelling import spelled
from archscope.tracing.tensors import (
    SMALL,
    all_of,
    is_lazy,
    is_small,
    own_tensors,
    records_in,
    tensors_in,
    unwrapped,
)
from archscope.tracing.values import refuse
from archscope.tracing.weightless import KIND, META

_ENLARGED = ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")  # are asked for one of several output sizes
SHOWN = 3  # places in a note

_DTYPES = {d: str(d).removeprefix("torch.") for d in vars(torch).values() if isinstance(d, torch.dtype)}
_empty = torch.empty  # `believed` replaces the name, for models
LOCK = threading.RLock()  # one run at a time replaces nn.Module._call_impl


class Run(TorchDispatchMode):
    """One run: the operators and layer calls seen so far."""

    gradients = False  # whether it runs with autograd
    real = False  # whether every tensor has values
    literal = False  # whether a constant is made where it is said to be
    bounds = True  # whether it can be asked to take the largest size where values decide

    def __init__(self, modules: list[tuple[str, nn.Module]], name: str, rules: bool, lazy: bool, bound: bool) -> None:
        super().__init__()
        self.limit = self.taken = 0  # bytes that such a run may take, and has
        self.decided: dict[str, None] = {}  # where a size or a branch came from values
        self.modules, self.name, self.rules, self.lazy, self.bound = modules, name, rules, lazy, bound
        self.bounded: dict[str, None] = {}  # modules in which a size was taken at its largest
        self.drawn = False  # whether values were drawn, and are none that the user gave
        self.checked: dict[str, None] = {}  # where a check of values was taken to hold
        self.casts = Autocast(CPU)
        self.packed: dict[int, tuple[Any, tuple[Tensor, ...]]] = {}  # what is packed in objects, by their id()
        self.sparse = False  # whether there was a sparse tensor
        self.assumed: dict[str, None] = {}  # other notes
        self.by_weights: dict[str, None] = {}  # where a size or a branch came from the values of weights
        self.ops: list[Op] = []
        self.works: list[Work | None] = []  # of each operator, as `ops.work` says it: no rule need be asked twice
        self.layers: list[Layer | None] = []
        self.composites: list[Composite | None] = []
        self.called_as: dict[int, str] = {}  # the functions by which Python called operators, by the index of these
        self.stack: list[str] = []
        self.failed: str | None = None
        self.refused: tuple[Exception, Overload, Any, Any] | None = None  # the operator that raised
        self.calls: dict[nn.Module, int] = {}
        self.paths: dict[nn.Module, str] = {}
        for path, module in self.modules:
            self.paths.setdefault(module, path)
        self.records: dict[int, Tensor] = {}
        self.alive: list[torch.Tensor] = []  # an id() is unique only while its tensor lives
        self.born: set[int] = set()  # real tensors made during the run, and saved ones: they may be written to
        self.saved: list[tuple[torch.Tensor, torch.Tensor]] = []  # tensors of the user's, and what was in them
        self.stale: set[int] = set()  # memory of real tensors into which something unknown was written
        self.metas: dict[int, torch.Tensor] = {}
        self.inputs: tuple[Tensor, ...] = ()
        self.cache: tuple[Param, ...] = ()
        self.params, self.buffers = self.state("_parameters"), self.state("_buffers")
        # weights whose values are there, and what is computed from them
        self.learned = {id(t) for t in self.alive if type(t) is nn.Parameter and not is_meta(t)}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch wraps the dispatch below and imports its compiler at the first operator

    # ------------------------------------------------------------------------------------------------- tensors

    def record(self, tensor: torch.Tensor) -> Tensor:
        key, alive = id(tensor), self.alive
        known = self.records.get(key)
        if known is None:
            if (inner := unwrapped(tensor)) is not tensor:  # by vmap or grad of torch.func
                return self.record(inner)
            known = self.records[key] = Tensor(len(alive), tuple(tensor.shape), _DTYPES[tensor.dtype])
            alive.append(tensor)
            if tensor.layout in SPARSE:
                self.sparse = True
                if is_meta(tensor) and self.stack:
                    raise NotImplementedError("a sparse tensor of entries that are not known (meta)")
        return known

    def plain(self, value: Any) -> Any:
        """An operator's argument as the record keeps it."""
        kind = type(value)
        if kind in PLAIN:
            return value
        if isinstance(value, torch.Tensor):
            return self.record(value)
        if kind is list or kind is tuple:
            record, plain = self.record, self.plain
            return tuple([record(v) if isinstance(v, torch.Tensor) else plain(v) for v in value])
        if kind is torch.dtype:
            return _DTYPES[value]
        if isinstance(value, torch.ScriptObject) and hasattr(value, "unpack"):
            return self.unpacked(value)
        if isinstance(value, (torch.UntypedStorage, torch.TypedStorage)):
            return type(value).__name__  # as text it is all of its elements
        return value if isinstance(value, (int, float, complex)) else str(value)

    def unpacked(self, value: Any) -> tuple[Tensor, ...]:
        """The weight that a quantised operator has packed, and its bias."""
        known = self.packed.get(id(value))
        if known is None:
            with torch._C._DisableTorchDispatch():
                held = [t for t in value.unpack() if isinstance(t, torch.Tensor)]
            known = self.packed[id(value)] = value, tuple([self.record(t) for t in held])
        return known[1]

    def meta(self, value: Any) -> Any:
        """The same argument with every tensor on the meta device."""
        if isinstance(value, torch.Tensor):
            if is_meta(value):
                return value
            kept = self.metas.get(id(value))
            if kept is None:
                known = self.record(value)  # keeps it alive
                with torch.inference_mode(value.is_inference()), torch.no_grad(), torch._C._DisableTorchDispatch():
                    kept = self.metas[id(value)] = value.to("meta")
                self.records[id(kept)] = known
            return kept
        if isinstance(value, (list, tuple)):
            return [self.meta(v) for v in value]
        if isinstance(value, torch.device):
            return META
        return value

    def state(self, group: str) -> tuple[Param, ...]:
        """The parameters or the buffers, under every name that they have."""
        found, record, lazy = [], self.record, self.lazy
        for path, module in self.modules:
            for name, value in own_tensors(module, group):
                if value is not None and not (lazy and is_lazy(value)):
                    found.append(Param(f"{path}.{name}" if path else name, record(value), value.requires_grad))
        return tuple(found)

    # ----------------------------------------------------------------------------------------------- operators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        overload = OVERLOADS.get(func)
        if overload is None:
            overload = OVERLOADS[func] = overload_of(func)
        try:
            if self.casts.on:
                with self:
                    args, kwargs = self.casts(func, args, kwargs or {})
            if self.sparse and any(t.layout in SPARSE for t in tensors_in((args, kwargs or {}))):
                return self.with_sparse(overload, func, args, kwargs or {})
            if overload.bounds is not None:
                overload.bounds(self.known, *args, **(kwargs or {}))
            if overload.rule is not None and self.rules:
                return self.ruled(overload, func, args, kwargs)
            return self.kernel(overload, func, args, kwargs or {})
        except Exception as error:
            if self.refused is None or self.refused[0] is not error:  # the innermost
                self.refused = (error, overload, args, kwargs or {})
            raise

    def ruled(self, overload: Overload, func: Any, args: Any, kwargs: Any) -> Any:
        """Make the output from the rule, in the memory format that PyTorch would choose."""
        named: dict[str, Any] = {}
        inputs: list[Tensor] = []
        live: list[torch.Tensor] = []
        records = self.records
        for key, value in zip(overload.arguments, args, strict=False):
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
        assert overload.rule is not None
        done = overload.rule(**named)
        if done.macs and live and live[0].is_complex():
            done = of_complex(done)
        shapes = done.shapes
        if shapes is None or not live or done.dtype is not None:
            return self.kernel(overload, func, args, kwargs or {})
        first = live[0]
        if overload.in_place:
            if shapes[0] != inputs[0].shape:
                raise ShapeError(f"an in-place operation cannot make {list(shapes[0])} of {list(inputs[0].shape)}")
            if not is_meta(first) and (self.real or id(first) in self.born):
                return self.kernel(overload, func, args, kwargs or {})
        if overload.in_place or (overload.name in DROPOUTS and not (named["train"] and named["p"])):
            self.ops.append(Op(overload.name, tuple(inputs), (inputs[0],), named))
            self.works.append(done)
            return first  # PyTorch gives the input back
        order = overload.order(*args, **(kwargs or {})) if overload.order is not None else None
        if order is None and not overload.dense:
            for tensor in live:
                if not tensor.is_contiguous():
                    return self.kernel(overload, func, args, kwargs or {})
        if not is_meta(first) and not any(map(is_meta, live)):
            return self.kernel(overload, func, args, kwargs or {})  # constants stay real
        made, outputs = [], []
        for shape in shapes:
            if order:
                tensor, order = torch.empty_permuted(shape, order, dtype=first.dtype, device=META), None
            else:
                tensor = _empty(shape, dtype=first.dtype, device=META)
            records[id(tensor)] = new = Tensor(len(self.alive), shape, inputs[0].dtype)
            self.alive.append(tensor)
            made.append(tensor)
            outputs.append(new)
        self.ops.append(Op(overload.name, tuple(inputs), tuple(outputs), named))
        self.works.append(done)
        return made[0] if len(made) == 1 else tuple(made)

    def take(self, key: str, value: Any, named: dict[str, Any], inputs: list[Tensor], live: list[torch.Tensor]) -> None:
        """Add one argument of an operator to what is known of its overload."""
        named[key] = kept = self.plain(value)
        inputs += records_in((kept,))
        live += tensors_in((value,))

    def kernel(self, overload: Overload, func: Any, args: Any, kwargs: Any) -> Any:
        """Run PyTorch's own kernel: for real on small constants, on the meta device otherwise."""
        tensors = [*tensors_in(args), *tensors_in(kwargs.values())]
        if self.lazy and any(map(is_lazy, tensors)):
            return func(*args, **kwargs)  # a lazy module makes its parameters: not a part of the forward
        counted = tensors[:1] if overload.name == "aten.expand_as" else tensors  # of the other only the shape counts
        real = self.real or all([self.known(t) for t in counted])
        if not tensors or overload.constant:
            small = self.real or elements(overload, args, kwargs) <= SMALL
            given = kwargs.get("device")
            on = given.type if given is not None else device_of(tensors[0]).type if tensors else "cpu"
            asked = given is not None and answers()  # `torch.empty(n, device=x.device)`: for what is not known yet
            real = self.real or (small and ((on == "cpu" and not asked) or (overload.constant and not self.literal)))
            if "device" in overload.arguments and (on != "cpu" or not real):
                kwargs = {**kwargs, "device": CPU if real else META}
        elif real:  # known values stay so on the device of an unknown input
            args = [CPU if isinstance(value, torch.device) else value for value in args]
            kwargs = {**kwargs, "device": CPU} if kwargs.get("device") is not None else kwargs
            if overload.name in ("aten.to", "aten.type_as") and len(args) > 1 and isinstance(args[1], torch.Tensor):
                func, args = torch.ops.aten.to.dtype, [args[0], args[1].dtype]
        if overload.name in ASKS and (not real or self.drawn) and (answer := self.held()) is not None:
            self.keep(overload, self.named(overload, args, kwargs), ())
            return answer
        as_view = overload.joins and isinstance(args[0], torch.Tensor) and args[0].is_contiguous()
        whole = real and kept_whole(overload, args, self.real)
        if overload.composite and not as_view and not whole:
            taken_apart = self.taken_apart(overload, func, args, kwargs, CPU if real else META)
            if taken_apart is not NotImplemented:
                return taken_apart
        if real and not self.real and (overload.in_place or overload.out):
            self.save(tensors_in(args[:1]) if overload.in_place else tensors_in(kwargs.values()))
        named = self.named(overload, args, kwargs)  # in place, an operator may change the shape that it was given
        from_weights = real and not self.learned.isdisjoint(map(id, tensors))
        decides = (self.real or from_weights) and overload.decides
        if decides:
            self.note_decision(overload, args, self.decided if self.real else self.by_weights)
        with real_devices(), no_compiler():
            output = func(*args, **kwargs) if real else self.on_meta(overload, func, args, kwargs)
        if overload.order is not None and not real:
            output = ordered(overload.order(*args, **kwargs), output)
        made = tensors_in((output,))
        if self.real and not overload.view and not overload.in_place:
            self.taken += sum([t.numel() * t.element_size() for t in made])
            refuse(self.taken, self.limit)
        if real and (not overload.view or (tensors and id(tensors[0]) in self.born)):
            self.born.update(map(id, made))
        if from_weights:
            self.learned.update(map(id, made))
        if overload.out:
            for given, tensor in zip(tensors[-len(made) :], made, strict=False):
                if (known := self.records.get(id(given))) is not None and known.shape != tensor.shape:
                    self.records.pop(id(given))  # `out=` gave it another shape
                if given is not tensor and id(given) in self.born:
                    with torch._C._DisableTorchDispatch():
                        given.resize_(tensor.shape).as_strided_(tensor.shape, tensor.stride())
        if not real and (overload.in_place or overload.out):
            written = tensors[:1] if overload.in_place else tensors_in(kwargs.values())
            self.stale |= {t.untyped_storage().data_ptr() for t in written if not is_meta(t)}
        if overload.in_place:
            output = args[0]
            if (known := self.records.get(id(output))) is not None and known.shape != output.shape:
                self.records.pop(id(output))
                self.metas.pop(id(output), None)
        self.keep(overload, named, output)
        return output

    def note_decision(self, overload: Overload, args: Any, deciding: dict[str, None]) -> None:
        """Note an operator that tells a size or a number, unless it is a check that is taken to hold."""
        if by_value(overload, args) and (self.real or overload.name not in ASKS or holding() is None):
            deciding.setdefault(f"{overload.name} in {self.here()}")

    def here(self) -> str:
        """The module that is running, and the line of the user's code."""
        path, line = (self.stack[-1] if self.stack else "") or self.name, line_now()
        return f"{path} ({line})" if line else path

    def with_sparse(self, overload: Overload, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operator that takes a sparse tensor. A product is recorded with the number of its entries; of others
        that compute, the cost is unknown."""
        tensors = tensors_in((args, kwargs))
        if (product := product_of(overload, args, kwargs)) is None:
            if not self.real and not all(map(self.known, tensors)):
                raise NotImplementedError(f"{overload.name} of a sparse tensor and one without values (meta)")
            known = overload.name in ZERO or overload.name in VIEWS
            name = overload.name if known else overload.name.replace("aten.", "sparse.")
            return self.kernel(
                overload._replace(name=name, composite=overload.composite and not known), func, args, kwargs
            )
        output: Any
        if self.real or all(map(self.known, tensors)):
            with real_devices(), no_compiler():
                output = func(*args, **kwargs)
        else:
            dtype = next(t.dtype for t in tensors if t.layout not in SPARSE)
            output = torch.empty(product.shape, dtype=dtype, device=META)
        overload = overload._replace(name=product.name, rule=None)
        self.keep(overload, {key: self.plain(value) for key, value in product.arguments.items()}, output)
        return output

    def save(self, tensors: list[torch.Tensor]) -> None:
        """Keep what is in tensors of the user's that will be written to."""
        for tensor in tensors:
            if id(tensor) not in self.born and tensor.layout is torch.strided:
                with torch._C._DisableTorchDispatch():
                    self.saved.append((tensor, tensor.clone()))
                self.born.add(id(tensor))

    def give_back(self) -> None:
        """Write into the user's tensors what was in them."""
        if self.saved:
            with torch.inference_mode(), torch._C._DisableTorchDispatch():
                for tensor, before in reversed(self.saved):
                    tensor.resize_(before.shape).copy_(before)
        self.saved.clear()

    def taken_apart(self, overload: Overload, func: Any, args: Any, kwargs: Any, device: torch.device) -> Any:
        """Run the pieces of an operator on a device: without values, on the meta device."""
        args = [device if isinstance(value, torch.device) else value for value in args]
        kwargs = {k: device if isinstance(value, torch.device) else value for k, value in kwargs.items()}
        index, start = len(self.composites), len(self.ops)
        self.composites.append(None)
        with real_devices(), no_compiler(), self:
            try:
                output = func.decompose(*args, **kwargs)
            except RuntimeError as error:
                if "device" not in str(error):
                    raise
                del self.composites[index + 1 :], self.ops[start:], self.works[start:]
                self.literal = True
                output = func.decompose(*map(self.meta, args), **{k: self.meta(v) for k, v in kwargs.items()})
            finally:
                self.literal = False
        if output is not NotImplemented:
            if overload.name == "aten.einsum" or any([w is not None and w.macs for w in self.works[start:]]):
                self.composites[index] = Composite(
                    overload.name, self.named(overload, args, kwargs), start, len(self.ops)
                )
        return output

    def known(self, tensor: torch.Tensor) -> bool:
        """Whether its values are there: small, and nothing unknown was written into it."""
        if is_meta(tensor) or device_of(tensor).type != "cpu":
            return False
        if tensor.layout in SPARSE:
            return True
        return is_small(tensor) and (not self.stale or tensor.untyped_storage().data_ptr() not in self.stale)

    def on_meta(self, overload: Overload, func: Any, args: Any, kwargs: Any) -> Any:
        """Run PyTorch's meta kernel, or, where a size depends on values, what gives its largest."""
        if self.bound and overload.name in UPPER_BOUNDS:
            largest = UPPER_BOUNDS[overload.name](*map(self.meta, args), **kwargs)
            if largest is not None:
                self.bounded.setdefault(self.stack[-1] or self.name)
                return largest
        try:
            return func(*map(self.meta, args), **{k: self.meta(v) for k, v in kwargs.items()})
        except Exception:
            if not any([self.known(t) for t in tensors_in(args)]):
                raise
            return with_values(func, args, kwargs)  # it wants the values of a small constant: lengths, sizes

    def keep(self, overload: Overload, named: dict[str, Any], output: Any) -> None:
        """Write an operator down."""
        outputs = tuple(self.record(t) for t in tensors_in([output]))
        self.ops.append(Op(overload.name, tuple(records_in(named.values())), outputs, named))
        self.works.append(work(self.ops[-1]))

    def named(self, overload: Overload, args: Any, kwargs: Any) -> dict[str, Any]:
        """An operator's arguments by their names in its schema, as the record keeps them."""
        named = dict(zip(overload.arguments, [self.plain(a) for a in args], strict=False))
        return named | {k: self.plain(v) for k, v in kwargs.items()}

    def held(self) -> bool | None:
        """The answer with which the check that is made at this moment holds, noted down; None where it is none."""
        if (answer := holding()) is not None:
            self.checked.setdefault(self.here())
        return answer

    # -------------------------------------------------------------------------------------------------- layers

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Replace `nn.Module._call_impl` while the model runs, in this thread, for modules of this model."""
        original = nn.Module._call_impl
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
                if not depth and isinstance(output, GeneratorType):  # the forward runs as its parts are asked for
                    output = all_of(output)
                    self.assumed.setdefault(f"the forward yields: all of its {len(output)} parts were asked for")
                self.failed = None  # what failed inside was caught there
            except BaseException:
                if self.failed is None:
                    self.failed = path
                raise
            finally:
                stack.pop()
                kind, config = describe(module)
                if kind in _ENLARGED and (wanted := (*args, kwargs.get("output_size"))[1]) is not None:
                    config["output_size"] = tuple(wanted)
                known = records.get(id(args[0])) if len(args) == 1 else None
                ins = (known,) if known else tuple([records.get(id(t)) or record(t) for t in tensors_in(args)])
                if kwargs:
                    ins += tuple([record(t) for t in tensors_in(kwargs.values())])
                known = records.get(id(output))
                outs = (known,) if known is not None else tuple([record(t) for t in tensors_in((output,))])
                layers[index] = Layer(path, call, kind, depth, config, ins, outs, start, len(ops))
            return output

        with calls_go_to(called):
            yield

    def notes(self) -> tuple[str, ...]:
        """What was assumed, one sentence each."""
        found = list(self.assumed)
        if self.sparse:
            found.append(
                "a product with a sparse tensor costs its entries; the bytes of one are said as if it were dense"
            )
        if self.bounded:
            found.append(f"sizes that depend on values are taken at their largest, in {', '.join(self.bounded)}")
        if self.by_weights:
            found.append(f"sizes and branches depend on the values of weights, by {'; '.join(self.by_weights)}")
        if self.checked:
            places = [*self.checked]
            more = f" and {len(places) - SHOWN:,} more" if len(places) > SHOWN else ""
            found.append(f"checks of values are taken to hold, in {', '.join(places[:SHOWN])}{more}")
        held = {t.id: t.numel for _, tensors in self.packed.values() for t in tensors}
        if held:
            count = sum(held.values())
            found.append(f"{count:,} numbers are packed in quantised layers, and no parameters of the model")
        own = held.keys() | {p.tensor.id for p in self.params}
        others = [t for i, t in enumerate(self.alive) if type(t) is nn.Parameter and i not in own and not is_lazy(t)]
        if others:
            found.append(
                f"{sum(t.numel() for t in others):,} parameters that the forward uses are no parameters of the model"
                " (layers in a plain list or dict): they are not counted, and an optimizer of model.parameters() does"
                " not train them"
            )
        return tuple(found)

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
            notes=self.notes(),
            composites=tuple(composite for composite in self.composites if composite is not None),
            spelled=spelled(self.ops, self.called_as),
            cache=self.cache,
        )
        record.__dict__["_kept"] = {("works",): self.works}  # where the passes keep what they have computed
        return record
