"""trace_step(model, inputs) -> Trace: one step of training, without computing anything.

The run of a trace goes on: forward, loss, backward and optimizer run under one dispatch mode on the meta device, in
grad mode. Autograd calls its operators there as it does with data, and memory is taken and given back as with data.
Each operator is recorded with its phase, and each storage with the operators at which it appears and disappears.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import nn

from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.record import Trace
from archscope.tracing.casts import Casts, autocast
from archscope.tracing.collector import gc_paused
from archscope.tracing.compiler import as_written, no_compiler, scripted_calls
from archscope.tracing.failure import Rerun, explained
from archscope.tracing.gradients import differentiable
from archscope.tracing.guard import untouched
from archscope.tracing.higher_order import functions_called
from archscope.tracing.inputs import Array, Inputs, prepared, without_values
from archscope.tracing.run import LOCK
from archscope.tracing.step_run import StepRun
from archscope.tracing.step_values import RealStepRun
from archscope.tracing.tensors import SMALL, is_scripted, is_small
from archscope.tracing.tracer import _understood
from archscope.tracing.training import (
    PRECISIONS,
    as_on,
    check_conditions,
    checkpointed,
    make_optimizer,
    stand_in,
)
from archscope.tracing.values import MEMORY, Values, check_mode, on_real_values
from archscope.tracing.weightless import META, NAME


def trace_step(
    model: nn.Module,
    inputs: Sequence[Any] | Mapping[str, Any] | torch.Tensor | Array,
    kwargs: Mapping[str, Any] | None = None,
    *,
    loss: str | Callable[[Any], torch.Tensor] | None = None,
    optimizer: str | Callable[..., torch.optim.Optimizer] | None = "sgd",
    implementation: str = "foreach",
    precision: str = "fp32",
    checkpoint: Sequence[str] = (),
    attention: str = "math",
    device: str = "cuda",
    channels_last: bool = False,
    frozen: Sequence[str] = (),
    accumulate: int = 1,
    set_to_none: bool = True,
    first: bool = False,
    name: str | None = None,
    values: str = "auto",
    memory: int = MEMORY,
) -> Trace:
    """Run a step of training once without computing anything, and return the record.

    model, inputs, kwargs, name, values, memory: as for `trace`; the model is in training mode. loss: "cross-entropy",
    "next-token", "mean-square", or a function of the model's output; None: cross-entropy where the one output is N×C,
    the mean of the squares of every output elsewhere. optimizer: the name of one in torch.optim ("adamw"; "momentum" is
    SGD with momentum), or a function of a list of parameters; None: the forward alone, in evaluation mode and without
    autograd. implementation: "foreach", PyTorch's choice on a GPU, "for-loop" or "fused". precision: "fp32", the
    model's own dtypes; "bf16" or "fp16" for parameters and inputs; "bf16-mixed" or "fp16-mixed" for `torch.autocast` of
    the device around forward and loss, without a gradient scaler. checkpoint: patterns of the paths of modules that
    `torch.utils.checkpoint` runs again in the backward. attention: the kernel, "math", "flash", "efficient" or
    "cpu-flash". device: "cuda" or "cpu", which keep other masks of dropout. channels_last: the memory format of
    parameters and inputs of 4 axes. frozen: patterns of the names of parameters that are not trained. accumulate:
    forward and backward so many times before the optimizer. set_to_none: as in `optimizer.zero_grad`, at the end of a
    step. first: the first step of all, in which the optimizer makes its state; else a later one, which has the state
    from the start.

    A step on real values keeps for the backward what kernels of a CPU keep, whatever `device` says; `memory` is what
    its tensors may take at one time. Its weights stay as they are given.

    Workspaces inside a kernel (cuDNN, cuBLAS, oneDNN) are no tensors and are not in the record. The model is left as
    it was. Raises what `trace` raises, and SpecError for a condition that does not exist.
    """
    _understood(model, inputs, kwargs, {})
    check_conditions(loss, optimizer, implementation, precision, attention, device)
    check_mode(values)
    if accumulate < 1:
        raise SpecError(f"accumulate is a whole number from 1 on, not {accumulate}")
    for path, module in model.named_modules():
        if is_scripted(module):
            raise SpecError(f"{path or 'the model'} is a scripted module, whose backward cannot be followed")
    step = StepSetup(
        inputs, kwargs, name or getattr(model, NAME, type(model).__name__), loss, optimizer, implementation, precision,
        tuple(checkpoint), attention, device, channels_last, tuple(frozen), accumulate, set_to_none, first, memory,
    )  # fmt: skip
    if values == "always":
        return step.real(model)
    try:
        return step.without_values(model)
    except ArchscopeError as stopped:
        if values == "never" or stopped.failure is None or not stopped.failure.values:
            raise
        return on_real_values(lambda: step.real(model), stopped)


Attempt = tuple[StepRun, Trace | None]  # None: it is to be made once more
MOST = 5  # attempts at a step with functions of TorchScript


class StepSetup(NamedTuple):
    """What a step is made of, besides the model."""

    inputs: Any
    kwargs: Mapping[str, Any] | None
    name: str
    loss: str | Callable[[Any], torch.Tensor] | None
    optimizer: str | Callable[..., torch.optim.Optimizer] | None
    implementation: str
    precision: str
    checkpoint: tuple[str, ...]
    attention: str
    device: str
    channels_last: bool
    frozen: tuple[str, ...]
    accumulate: int
    set_to_none: bool
    first: bool
    memory: int

    def without_values(self, model: nn.Module) -> Trace:
        """The record of a step in which nothing is computed."""
        try:
            return self.attempts(lambda unused: self.computing_nothing(model, unused, True))
        except ArchscopeError as error:
            if error.failure is None or "device" not in str(error.__cause__):
                raise
            return self.attempts(lambda unused: self.computing_nothing(model, unused, False))

    def computing_nothing(self, model: nn.Module, unused: set[str], constants: bool) -> Attempt:
        """constants: small ones keep their values, so that a forward may count and branch."""
        take = small_values if constants else differentiable
        given = prepared(model, self.inputs, self.kwargs, lambda tensor: self.placed(take(tensor)))
        return self.ran(StepRun, model, given, unused, constants)

    def real(self, model: nn.Module) -> Trace:
        """The record of a step on real values, of a copy of the model."""
        return self.attempts(lambda unused: self.computing(model, unused))

    def computing(self, model: nn.Module, unused: set[str]) -> Attempt:
        source = Values(model, self.memory)
        given = prepared(model, self.inputs, self.kwargs, lambda tensor: self.placed(source.input(tensor)))
        run, record = self.ran(RealStepRun, source.model(), given, unused, drawn=bool(source.drawn))
        if record is None:
            return run, None
        note = source.sentence(run.decided)
        if self.device != "cpu":
            note += "; the forward saw a CPU, and kernels of a CPU say what is kept for the backward"
        return run, replace(record, notes=(*record.notes, note))

    @staticmethod
    def attempts(attempt: Callable[[set[str]], Attempt]) -> Trace:
        """The record of the last attempt. TorchScript makes other code of a function in its first two calls, so that a
        step which calls one is run until its record stays the same."""
        unused: set[str] = set()
        before: Trace | None = None
        for number in count(1):
            run, record = attempt(unused)
            if record is not None and (not run.scripted or record == before or number >= MOST):
                return record
            before = record
        raise AssertionError

    def placed(self, made: torch.Tensor) -> torch.Tensor:
        """An input in the step's precision and memory format."""
        dtype = PRECISIONS[self.precision][0]
        if dtype is not None and made.is_floating_point():
            made = made.to(dtype)
        last = self.channels_last and made.dim() == 4
        return made.contiguous(memory_format=torch.channels_last) if last else made

    def ran(
        self, kind: type[StepRun], model: nn.Module, given: Inputs, unused: set[str], constants: bool = True,
        drawn: bool = False,
    ) -> Attempt:  # fmt: skip
        """Run the step, and leave the model as it was. unused: the names of parameters that no gradient reaches; where
        there are more of them, they are added, there is no record, and the step is to be run once more."""
        arguments, named, optimizer = given.arguments, given.named, self.optimizer
        dtype, lower = PRECISIONS[self.precision]
        casts = None if lower is None else Casts(self.device, lower)
        modules = list(model.named_modules(remove_duplicate=False))
        paths = {module: path for path, module in reversed(modules)}
        paths = {module: paths[module] for _, module in modules}
        with LOCK, gc_paused(), as_written(), functions_called(), no_compiler(), ExitStack() as stack:
            stack.enter_context(untouched(paths, optimizer is not None))
            params = stand_in(paths, dtype, self.frozen, self.channels_last, SMALL, kind.real)
            if optimizer is not None and not any(p.requires_grad for p in params):
                raise SpecError("no parameter of the model is trained, so there is no training step")
            wrapped = checkpointed(paths, self.checkpoint, lambda: autocast(casts))
            run = kind(modules, self.name, constants, self.device)
            run.limit, run.drawn = self.memory, drawn
            run.take_inputs([*arguments, *named.values()])
            again = Rerun(model, tuple(arguments), named, True, False)
            stack.enter_context(torch.set_grad_enabled(optimizer is not None))
            stack.enter_context(as_on(self.device, self.attention))
            stack.enter_context(run.around())
            stack.enter_context(run.watch())
            run.scripted = stack.enter_context(scripted_calls())
            stack.enter_context(run)
            try:
                if optimizer is None:
                    with autocast(casts):
                        run.infer(model, arguments, named)
                    return run, run.record_of_step(self.conditions(wrapped))
                made = make_optimizer(optimizer, params, self.implementation)
                names = {id(p): n for n, p in model.named_parameters()}
                if not self.first:
                    trained = [p for p in params if p.requires_grad and names[id(p)] not in unused]
                    run.warm_up(made, trained, self.set_to_none)
                chosen = ""
                for _ in range(self.accumulate):
                    chosen = run.forward_and_backward(model, arguments, named, self.loss, casts)
                extra = {names[id(p)] for p in params if p.grad is None and p in made.state}
                if extra - unused:
                    unused |= extra  # no gradient reaches them, and so the optimizer keeps nothing of them
                    return run, None
                run.update(made, params, self.set_to_none)
                return run, run.record_of_step(self.conditions(wrapped, chosen))
            except SpecError:
                raise
            except ArchscopeError as error:
                raise explained(run, error, again) from error.__cause__
            except Exception as error:
                raise explained(run, error, again) from error

    def conditions(self, checkpoint: tuple[str, ...], chosen: str = "") -> dict[str, Any]:
        """As the record says them. checkpoint: the paths of the modules. chosen: the loss, where none was given."""
        loss, optimizer = self.loss, self.optimizer
        return {
            "loss": loss if isinstance(loss, str) else getattr(loss, "__name__", "a function") if loss else chosen,
            "optimizer": optimizer if isinstance(optimizer, str) else getattr(optimizer, "__name__", "a function")
            if optimizer else "none",
            "implementation": self.implementation, "precision": self.precision, "checkpoint": checkpoint,
            "attention": self.attention, "device": self.device, "channels_last": self.channels_last,
            "frozen": self.frozen, "accumulate": self.accumulate, "set_to_none": self.set_to_none, "first": self.first,
        }  # fmt: skip


def small_values(tensor: torch.Tensor) -> torch.Tensor:
    """An input of a step without values: integers and booleans, and few floating numbers, keep theirs."""
    made = without_values(tensor)
    return made if made.layout is not torch.strided or is_small(made) else made.to(META)
