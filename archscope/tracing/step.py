"""trace_step(model, inputs) -> Trace: one step of training, without computing anything.

The run of a trace goes on: forward, loss, backward and optimizer run under one dispatch mode on the meta device, in
grad mode. Autograd calls its operators there as it does with data, and memory is taken and given back as with data.
Each operator is recorded with its phase, and each storage with the operators at which it appears and disappears.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.record import Trace
from archscope.tracing.casts import Casts, autocast
from archscope.tracing.collector import gc_paused
from archscope.tracing.compiler import as_written, no_compiler
from archscope.tracing.failure import Rerun, explained
from archscope.tracing.guard import untouched
from archscope.tracing.inputs import Array, prepared
from archscope.tracing.run import LOCK
from archscope.tracing.step_run import StepRun
from archscope.tracing.tensors import SMALL, is_scripted
from archscope.tracing.tracer import _understood
from archscope.tracing.training import (
    PRECISIONS,
    as_on,
    check_conditions,
    checkpointed,
    make_optimizer,
    stand_in,
)
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
) -> Trace:
    """Run a step of training once without computing anything, and return the record.

    model, inputs, kwargs, name: as for `trace`; the model is in training mode. loss: "cross-entropy", "next-token",
    "mean-square", or a function of the model's output; None: cross-entropy where the one output is N×C, the mean of
    the squares of every output elsewhere. optimizer: the name of one in torch.optim ("adamw"; "momentum" is SGD with
    momentum), or a function of a list of parameters; None: the forward alone, in evaluation mode and without
    autograd. implementation: "foreach", PyTorch's choice on a GPU, "for-loop"
    or "fused". precision: "fp32", the model's own dtypes; "bf16" or "fp16" for parameters and inputs; "bf16-mixed" or
    "fp16-mixed" for `torch.autocast` of the device around forward and loss, without a gradient scaler. checkpoint:
    patterns of the paths of modules that `torch.utils.checkpoint` runs again in the backward. attention: the kernel,
    "math", "flash", "efficient" or "cpu-flash". device: "cuda" or "cpu", which keep other masks of dropout.
    channels_last: the memory format of parameters and inputs of 4 axes. frozen: patterns of the names of parameters
    that are not trained. accumulate: forward and backward so many times before the optimizer. set_to_none: as in
    `optimizer.zero_grad`, at the end of a step. first: the first step of all, in which the optimizer makes its state;
    else a later one, which has the state from the start.

    Workspaces inside a kernel (cuDNN, cuBLAS, oneDNN) are no tensors and are not in the record. The model is left as
    it was. Raises what `trace` raises, and SpecError for a condition that does not exist.
    """
    _understood(model, inputs, kwargs, {})
    check_conditions(loss, optimizer, implementation, precision, attention, device)
    if accumulate < 1:
        raise SpecError(f"accumulate is a whole number from 1 on, not {accumulate}")
    dtype, lower = PRECISIONS[precision]
    these = None if lower is None else Casts(device, lower)
    given = prepared(model, inputs, kwargs, lambda tensor: _placed(tensor, dtype, channels_last))
    arguments, named = given.arguments, given.named
    modules = list(model.named_modules(remove_duplicate=False))
    for path, module in modules:
        if is_scripted(module):
            raise SpecError(f"{path or 'the model'} is a scripted module, whose backward cannot be followed")
    paths = {module: path for path, module in reversed(modules)}
    paths = {module: paths[module] for _, module in modules}
    title = name or getattr(model, NAME, type(model).__name__)
    conditions = {
        "loss": loss if isinstance(loss, str) else getattr(loss, "__name__", "a function") if loss else "",
        "optimizer": optimizer if isinstance(optimizer, str) else getattr(optimizer or "", "__name__", "a function"),
        "implementation": implementation, "precision": precision, "checkpoint": (), "attention": attention,
        "device": device, "channels_last": channels_last, "frozen": tuple(frozen), "accumulate": accumulate,
        "set_to_none": set_to_none, "first": first,
    }  # fmt: skip
    if optimizer is None:
        conditions["optimizer"] = "none"
    unused: set[str] = set()
    values = True  # small constants keep their values, so that a forward may count and branch
    while True:
        with LOCK, gc_paused(), as_written(), no_compiler(), ExitStack() as stack:
            stack.enter_context(untouched(paths, optimizer is not None))
            params = stand_in(paths, dtype, frozen, channels_last, SMALL)
            if optimizer is not None and not any(p.requires_grad for p in params):
                raise SpecError("no parameter of the model is trained, so there is no training step")
            conditions["checkpoint"] = checkpointed(paths, tuple(checkpoint), lambda: autocast(these))
            run = StepRun(modules, title, values, device)
            run.take_inputs([*arguments, *named.values()])
            again = Rerun(model, tuple(arguments), named, True, False)
            stack.enter_context(torch.set_grad_enabled(optimizer is not None))
            stack.enter_context(as_on(device, attention))
            stack.enter_context(run.watch())
            stack.enter_context(run)
            try:
                if optimizer is None:
                    with autocast(these):
                        run.infer(model, arguments, named)
                    return run.record_of_step(conditions)
                made = make_optimizer(optimizer, params, implementation)
                names = {id(p): n for n, p in model.named_parameters()}
                if not first:
                    trained = [p for p in params if p.requires_grad and names[id(p)] not in unused]
                    run.warm_up(made, trained, set_to_none)
                for _ in range(accumulate):
                    conditions["loss"] = (
                        run.forward_and_backward(model, arguments, named, loss, these) or conditions["loss"]
                    )
                extra = {names[id(p)] for p in params if p.grad is None and p in made.state}
                if not extra - unused:
                    run.update(made, params, set_to_none)
                    return run.record_of_step(conditions)
                unused |= extra  # no gradient reaches them, and so the optimizer keeps nothing of them
            except SpecError:
                raise
            except ArchscopeError as error:
                raise explained(run, error, again) from error.__cause__
            except Exception as error:
                if values and "device" in str(error):
                    values = False
                    continue
                raise explained(run, error, again) from error


def _placed(value: torch.Tensor, dtype: torch.dtype | None, channels_last: bool) -> torch.Tensor:
    """An input in the step's precision and memory format, on the meta device: its bytes count, its values do not."""
    made = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=META)
    if dtype is not None and made.is_floating_point():
        made = made.to(dtype)
    return made.contiguous(memory_format=torch.channels_last) if channels_last and made.dim() == 4 else made
