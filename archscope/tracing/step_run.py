"""The run of a step: forward, loss, backward and optimizer, with the births and deaths of storages.

An operator of the backward belongs to the layer call whose forward made its autograd node: nodes are numbered in the
order in which they are made, and the record knows which numbers each layer call made.
"""

import threading
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from archscope.core.errors import SpecError
from archscope.core.record import Layer, Op, Phase, Storage, Tensor, Trace
from archscope.operators import VIEWS
from archscope.tracing.bounds import with_values
from archscope.tracing.casts import Casts, autocast, followed
from archscope.tracing.checks import ASKS
from archscope.tracing.devices import CPU, answers, believed, device_of, is_meta, real_devices, storage_of
from archscope.tracing.dispatch import OVERLOADS, Overload, elements, overload_of
from archscope.tracing.memory_order import ordered
from archscope.tracing.modules import calls_go_to, describe
from archscope.tracing.run import _DTYPES, Run
from archscope.tracing.sparse import SPARSE
from archscope.tracing.step_shapes import ON_CPU, OUTPUTS, REFUSED, EqualCalls
from archscope.tracing.tensors import SMALL, is_small, is_wrapped, records_in, tensors_in, unwrapped
from archscope.tracing.training import (
    LOSSES,
    default_loss,
    take_step,
)
from archscope.tracing.values import refuse
from archscope.tracing.weightless import META

RESHAPES = VIEWS | {"aten.resize_", "aten.set_"}  # in place, but with another shape

# the number that the next autograd node gets
_sequence: Callable[[], int] = torch._C._autograd._get_sequence_nr  # type: ignore[attr-defined]


class LiveStorage:
    """A storage while the run goes on."""

    __slots__ = ("born", "died", "host", "nbytes", "reference", "role", "stale", "tensors")

    def __init__(self, nbytes: int, born: int, host: bool) -> None:
        self.nbytes, self.born, self.host = nbytes, born, host
        self.died: int | None = None
        self.role = ""
        self.stale = False  # whether it holds values that are no longer right: unknown ones were written into it
        self.tensors: dict[Any, Tensor] = {}  # by offset, shape, strides and dtype
        self.reference: Any = None


class StepRun(Run):
    """A run that goes on through loss, backward and optimizer."""

    bounds = False
    place = META  # where the tensors of the step are

    def __init__(self, modules: list[tuple[str, nn.Module]], name: str, values: bool, device: str) -> None:
        self.values, self.device, self.on_cpu = values, torch.device(device), device == "cpu"
        self.equal_calls = EqualCalls()
        self.live: dict[int, LiveStorage] = {}  # by the address of the storage
        self.pieces: list[LiveStorage] = []
        self.count = 0  # of tensors
        self.quiet = True  # nothing is written down
        self.phases: list[Phase] = []
        self.phase = ""
        self.owners: dict[int, int] = {}
        self.nodes: list[int] = [0]  # from this autograd node on …
        self.node_layers: list[int] = [-1]  # … this layer call is running
        self.first_call: dict[str, int] = {}  # of each path, its index
        self.running: list[int] = []  # indices of the layer calls that are running
        self.output: Any = None  # of a forward without a backward
        self.targets: dict[tuple[int, ...], torch.Tensor] = {}
        # storages of tensors with values that are said to be on the device: given ones, and what is made of them
        self.moved: set[int] = set()
        self.scripted: list[str] = []  # functions of TorchScript that were called
        self.again: list[int] = []  # operators that a checkpoint ran again
        super().__init__(modules, name, True, False, False)
        self.homes: dict[int, str] = {}  # the module of each parameter, by its id()
        for path, module in modules:
            for value in module._parameters.values():
                if value is not None:
                    self.homes.setdefault(id(value), path)
        for role, group in (("parameter", self.params), ("buffer", self.buffers)):
            ids = {p.tensor.id for p in group}
            for piece in self.pieces:
                if not piece.role and any([t.id in ids for t in piece.tensors.values()]):
                    piece.role, piece.host = role, False

    # ------------------------------------------------------------------------------------------------- tensors

    def piece(self, tensor: torch.Tensor) -> LiveStorage:
        """The storage of a tensor."""
        if tensor.layout in SPARSE:
            raise SpecError(
                "a step of training with a sparse tensor cannot be followed: its gradients depend on values"
            )
        storage = tensor.untyped_storage()
        key = storage._cdata
        found = self.live.get(key)
        if found is None:
            born = -1 if self.quiet else len(self.ops)
            found = self.live[key] = LiveStorage(storage.nbytes(), born, self.on_host(tensor))
            self.pieces.append(found)
            self.taken += found.nbytes

            def gone(_: Any, self: "StepRun" = self, key: int = key) -> None:
                dead = self.live.pop(key)
                self.taken -= dead.nbytes
                self.moved.discard(key)
                dead.reference = None
                if self.quiet and self.phase == "":
                    if self.pieces[-1] is dead:
                        self.pieces.pop()
                    else:
                        self.pieces.remove(dead)
                else:
                    dead.died = len(self.ops)

            found.reference = weakref.ref(storage, gone)
        return found

    def around(self) -> AbstractContextManager[None]:
        """A block in which the step runs."""
        return nullcontext()

    @property
    def optimizing(self) -> bool:
        """Whether the optimizer runs, or makes its state."""
        return self.phase in ("", "optimizer")

    def on_host(self, tensor: torch.Tensor) -> bool:
        """Whether a storage that is new stays in the main memory where the model is on a GPU."""
        return self.optimizing and device_of(tensor) == CPU

    def known(self, tensor: torch.Tensor) -> bool:
        """Whether its values are there: small, and nothing unknown was written into it."""
        if is_meta(tensor) or not is_small(tensor):
            return False
        piece = self.live.get(storage_of(tensor))
        return piece is None or not piece.stale

    def record(self, tensor: torch.Tensor) -> Tensor:
        if is_wrapped(tensor):
            tensor = unwrapped(tensor)
        try:
            piece = self.live.get(tensor.untyped_storage()._cdata) or self.piece(tensor)
        except NotImplementedError:  # a sparse tensor has no storage
            piece = self.piece(tensor)
        place = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        known = piece.tensors.get(place)
        if known is None:
            known = piece.tensors[place] = Tensor(self.count, tuple(tensor.shape), _DTYPES[tensor.dtype])
            self.count += 1
        return known

    def meta(self, value: Any) -> Any:
        """The same argument with every tensor on the meta device."""
        if isinstance(value, torch.Tensor):
            return value if is_meta(value) else value.to("meta")
        if isinstance(value, (list, tuple)):
            return [self.meta(v) for v in value]
        return self.there(value)

    @staticmethod
    def there(value: Any) -> Any:
        """A device as the meta device, anything else as it is."""
        return META if isinstance(value, torch.device) else value

    def take_inputs(self, values: Sequence[Any]) -> None:
        self.inputs = tuple(self.record(t) for t in tensors_in(values))
        for tensor in tensors_in(values):
            piece = self.piece(tensor)
            piece.role, piece.host = "input", False
            if not (self.real or self.on_cpu or is_meta(tensor)):
                self.moved.add(storage_of(tensor))

    def target(self, shape: Sequence[int]) -> torch.Tensor:
        """A target of class numbers, which is there before the step like an input."""
        made = self.targets.get(tuple(shape))  # the next batch has its own, after this one is gone
        if made is None:
            with torch._C._DisableTorchDispatch():
                made = self.targets[tuple(shape)] = torch.zeros(tuple(shape), dtype=torch.int64, device=self.place)
            self.quiet = True
            self.piece(made).role = "input"
            self.quiet = False
        return made

    # ----------------------------------------------------------------------------------------------- operators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        overload = OVERLOADS.get(func)
        if overload is None:
            overload = OVERLOADS[func] = overload_of(func)
        if overload.name.startswith("profiler."):
            return func(*args, **(kwargs or {}))
        asked = answers()  # the forward makes a tensor, and not a kernel of PyTorch's
        try:
            with real_devices():
                output = self.produce(overload, func, args, kwargs or {}, asked)
        except Exception as error:
            if self.refused is None or self.refused[0] is not error:
                self.refused = (error, overload, args, kwargs or {})
            raise
        if self.quiet:
            for tensor in tensors_in((output,)):
                self.piece(tensor)
        else:
            self.write_down(overload, args, kwargs or {}, output)
        if self.real:
            refuse(self.taken, self.limit)
        return output

    def produce(self, overload: Overload, func: Any, args: Any, kwargs: Any, asked: bool) -> Any:
        """The output of an operator: for real of small constants, on the meta device otherwise.

        asked: whether a device that is named is that of the forward's tensors: `torch.zeros(n, device=x.device)`.
        """
        if overload.name == "aten._local_scalar_dense" and not is_meta(args[0]) and self.optimizing:
            return func(*args)  # a counter of an optimizer: one for each parameter
        if overload.bounds is not None:
            overload.bounds(self.known, *args, **kwargs)
        tensors = tensors_in((*args, *kwargs.values()))
        on_meta = [is_meta(t) for t in tensors]
        if overload.name in ASKS and any(on_meta) and (answer := self.held()) is not None:
            return answer
        if self.on_cpu and overload.name in ON_CPU and on_meta[0] and tensors[0].is_contiguous():
            output = ON_CPU[overload.name](*args, **kwargs)
            if output is not None:
                return output
        if overload.name in REFUSED and on_meta[0]:
            return REFUSED[overload.name](*args, **kwargs)
        make = OUTPUTS.get(overload.name)
        if make is not None and on_meta[0] and not overload.out:
            dtype = tensors[0].dtype
            if all([t.is_contiguous() and t.dtype == dtype for t in tensors]):
                output = make(*args, **kwargs)
                if output is not None:
                    return output
        if overload.in_place and self.phase != "forward" and all(on_meta) and overload.name not in RESHAPES:
            return args[0] if func._schema.returns else None  # it has the shape that it had
        constant = overload.constant and self.values and (self.phase == "forward" or self.runs_again())
        if tensors and all(on_meta) and not constant:
            if overload.name == "aten._to_copy" and kwargs.keys() == {"device"}:
                return torch.ops.aten.alias(*args)  # all tensors are on one device: nothing is copied
            args, kwargs = [*map(self.there, args)], {key: self.there(value) for key, value in kwargs.items()}
            if overload.view or overload.in_place or overload.out:
                return func(*args, **kwargs)
            output = self.equal_calls(func, args, kwargs)
            if overload.order is None or not self.on_cpu:
                return output
            return ordered(overload.order(*args, **kwargs), output)
        if not tensors or overload.constant:
            small = elements(overload, args, kwargs) <= SMALL
            given = kwargs.get("device")
            on = str(given or (tensors[0].device if tensors else "cpu")).partition(":")[0]
            real = small and ((on == "cpu" and not (asked and given is not None)) or constant)
            if "device" in overload.arguments and (on != "cpu" or not real):
                kwargs = {**kwargs, "device": CPU if real else META}
            return func(*args, **kwargs) if real else func(*map(self.meta, args), **kwargs)
        if all([self.known(t) for t in tensors]):
            if kwargs.get("device") is not None or any(isinstance(value, torch.device) for value in args):
                args = [CPU if isinstance(value, torch.device) else value for value in args]
                kwargs = {**kwargs, "device": CPU} if kwargs.get("device") is not None else kwargs
            piece = self.piece(tensors[0])
            if overload.in_place and self.phase == "forward" and piece.born < 0 and not piece.role:
                return args[0]  # a tensor of the user's: not written to
            output = func(*args, **kwargs)
            if self.moved and not self.moved.isdisjoint(map(storage_of, tensors)):
                for tensor in tensors_in((output,)):
                    self.piece(tensor)  # which tells when the storage is gone
                    self.moved.add(storage_of(tensor))
            return output
        if overload.in_place and not on_meta[0]:
            self.piece(tensors[0]).stale = True
            return args[0] if func._schema.returns else None
        if overload.view and not any(on_meta):
            return func(*args, **kwargs)  # of the same memory, whose values are not known
        try:
            output = func(*map(self.meta, args), **{k: self.meta(v) for k, v in kwargs.items()})
        except Exception:
            if not any([self.known(t) for t in tensors]):
                raise
            return with_values(func, args, kwargs)  # it wants the values of a small constant: lengths, sizes
        return args[0] if overload.in_place and output is not None else output

    def runs_again(self) -> bool:
        """Whether a backward runs a part of the forward again, of a checkpoint."""
        return self.phase == "backward" and torch.is_grad_enabled() and torch._C._current_autograd_node() is not None

    def write_down(self, overload: Overload, args: Any, kwargs: Any, output: Any) -> None:
        """Record an operator, and whose it is."""
        index = len(self.ops)
        named = self.named(overload, args, kwargs)
        outputs = tuple([self.record(t) for t in tensors_in((output,))])
        if self.phase == "backward":
            owner = self.owner()
            if owner >= 0:
                self.owners[index] = owner
            if self.runs_again():
                self.again.append(index)
        self.ops.append(Op(overload.name, tuple(records_in(named.values())), outputs, named))

    def owner(self) -> int:
        """The layer call to which the running part of the backward belongs, -1 where it is none."""
        if self.running:
            return self.running[-1]
        node: Any = torch._C._current_autograd_node()
        if node is None:
            return -1
        if "AccumulateGrad" in node.name():
            path = self.homes.get(id(node.variable))
            return self.first_call.get(path, -1) if path is not None else -1
        return self.node_layers[bisect_right(self.nodes, node._sequence_nr()) - 1]

    # -------------------------------------------------------------------------------------------------- layers

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Replace `nn.Module._call_impl` while the step runs, in this thread, for modules of this model."""
        original = nn.Module._call_impl
        here = threading.get_ident()
        latest: dict[nn.Module, int] = {}  # the index of the last call of each module

        def enter(index: int) -> None:
            self.running.append(index)
            self.nodes.append(_sequence())
            self.node_layers.append(index)

        def leave() -> None:
            self.running.pop()
            self.nodes.append(_sequence())
            self.node_layers.append(self.running[-1] if self.running else -1)

        def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            path = self.paths.get(module)
            if path is None or threading.get_ident() != here or self.quiet:
                return original(module, *args, **kwargs)
            if self.phase == "backward":  # a checkpoint runs it again
                enter(latest.get(module, -1))
                try:
                    return original(module, *args, **kwargs)
                finally:
                    leave()
            index, start, depth = len(self.layers), len(self.ops), len(self.stack)
            call = self.calls[module] = self.calls.get(module, -1) + 1
            latest[module] = index
            self.first_call.setdefault(path, index)
            self.layers.append(None)
            self.stack.append(path)
            enter(index)
            output: Any = ()
            try:
                output = original(module, *args, **kwargs)
                self.failed = None
            except BaseException:
                if self.failed is None:
                    self.failed = path
                raise
            finally:
                leave()
                self.stack.pop()
                kind, config = describe(module)
                ins = tuple([self.record(t) for t in tensors_in((args, kwargs))])
                outs = tuple([self.record(t) for t in tensors_in((output,))])
                self.layers[index] = Layer(path, call, kind, depth, config, ins, outs, start, len(self.ops))
            return output

        with calls_go_to(called):
            yield

    # -------------------------------------------------------------------------------------------------- phases

    @contextmanager
    def in_phase(self, name: str) -> Iterator[None]:
        start, self.phase, self.quiet = len(self.ops), name, False
        try:
            if name == "optimizer":
                yield
            else:  # code of the model runs, which may ask for its device and switch autocast on
                with believed(self.device, self.assumed, self.moved), followed(self.device.type):
                    yield
        finally:
            self.phases.append(Phase(name, start, len(self.ops)))
            self.phase, self.quiet = "between", True

    def warm_up(self, optimizer: torch.optim.Optimizer, trained: list[nn.Parameter], set_to_none: bool) -> None:
        """Let the optimizer make its state, as it does in its first step, without writing anything down."""
        for p in trained:
            with torch._C._DisableTorchDispatch():
                p.grad = torch.empty_strided(p.shape, p.stride(), dtype=p.dtype, device=self.place)
            self.piece(p.grad)
        take_step(optimizer)
        for p in trained:
            if set_to_none:
                p.grad = None

    def infer(self, model: nn.Module, arguments: Any, named: Any) -> None:
        """The forward alone, whose output stays."""
        with self.in_phase("forward"):
            self.output = model(*arguments, **named)

    def forward_and_backward(
        self, model: nn.Module, arguments: Any, named: Any, loss: Any, these: Casts | None = None
    ) -> str:
        """One batch. these: of autocast. Returns the name of the loss where it was chosen here."""
        chosen = ""
        with autocast(these):
            with self.in_phase("forward"):
                output = model(*arguments, **named)
            with self.in_phase("loss"):
                if loss is None:
                    loss = chosen = default_loss(output)
                value = LOSSES[loss](output, self.target) if isinstance(loss, str) else loss(output)
                del output
        if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.requires_grad:
            raise SpecError("the loss is one number that depends on a parameter that is trained")
        with self.in_phase("backward"):
            value.backward()
        return chosen

    def update(self, optimizer: torch.optim.Optimizer, params: list[nn.Parameter], set_to_none: bool) -> None:
        """The optimizer's step, and the end of the gradients."""
        for p in params:
            if p.grad is not None:
                self.piece(p.grad).role = "gradient"
        with self.in_phase("optimizer"):
            take_step(optimizer)
            if not set_to_none:
                torch._foreach_zero_([p.grad for p in params if p.grad is not None])  # type: ignore[attr-defined]
        for tensor in tensors_in([list(state.values()) for state in optimizer.state.values()]):
            self.piece(tensor).role = "optimizer state"
        for p in params:
            if set_to_none:
                p.grad = None

    def finish(self, train: bool) -> Trace:
        return replace(super().finish(train))  # a record whose operators are not costed yet

    def record_of_step(self, conditions: Mapping[str, Any]) -> Trace:
        """The record."""
        starts = [(p.start, q.start) for p, q in zip(self.phases, self.phases[2:], strict=False) if p.name == "forward"]
        storages = []
        for index, piece in enumerate(self.pieces):
            role = piece.role
            if not role and piece.born < 0:
                role = "buffer"  # a constant of the model that is not registered
            if not role:
                saved = any(a <= piece.born < b and (piece.died is None or piece.died > b) for a, b in starts)
                role = "saved" if saved else "temporary"
            ids = tuple(t.id for t in piece.tensors.values())
            storages.append(Storage(index, piece.nbytes, piece.born, piece.died, role, piece.host, ids))
        phases = list(self.phases)
        for index in self.again:
            if phases[-1].name == "recompute" and phases[-1].stop == index:
                phases[-1] = phases[-1]._replace(stop=index + 1)
            else:
                phases.append(Phase("recompute", index, index + 1))
        phases.sort(key=lambda phase: (phase.start, -phase.stop))
        record = self.finish(self.phases[-1].name != "forward")
        notes = record.notes
        if any([isinstance(module, nn.RNNBase) for module in self.paths]):
            notes += ("recurrent layers are written out step by step; the fused ones of cuDNN save other tensors",)
        return replace(
            record,
            notes=notes,
            spelled=None,
            phases=tuple(phases),
            storages=tuple(storages),
            owners=self.owners,
            step=dict(conditions),
        )
