"""trace(model, inputs) -> Trace: the one place that runs a model. How it runs stands in `run.py`."""

import copy
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.record import Param, Trace
from archscope.tracing.caches import held_by, working_copy
from archscope.tracing.collector import gc_paused
from archscope.tracing.devices import believed, chosen
from archscope.tracing.failure import Rerun, explained
from archscope.tracing.guard import materialized_apart, untouched
from archscope.tracing.run import LOCK, Run
from archscope.tracing.spelling import called_as
from archscope.tracing.tensors import dtype_of, is_lazy, own_tensors, tensors_in
from archscope.tracing.weightless import NAME


def trace(
    model: nn.Module,
    inputs: Sequence[Any] | Mapping[str, Any] | torch.Tensor = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    train: bool | None = False,
    rules: bool = True,
    bound: bool = False,
) -> Trace:
    """Run `model(*inputs, **kwargs)` once without computing anything, and return the record.

    inputs: a tuple or list of tensors or arrays on any device, of which only shape and dtype are read, or of shapes,
    which have the dtype of the model's parameters, or of anything else that the forward takes; a single tensor, array
    or shape may stand alone, and a dict goes by name. kwargs: the arguments by name, likewise. name: of the model in
    the record; else what `load` was asked for, or the class. train: run in training mode (True), in evaluation mode
    (False), or as the model is (None). rules: False runs every operator on PyTorch's
    meta kernels instead of the shape rules of `ops.py`, to compare the two. bound: where a size depends on values
    (`nonzero`, a boolean mask, non-maximum suppression) take its largest, and say so in the record's notes, instead of
    failing.

    The model is left as it was: mode of every submodule, parameters, buffers, attributes, hooks, gradients, device,
    and the state of the random generator. Raises ShapeError when an operator refuses its input, and TraceError when
    the forward needs the value of a tensor or fails in another way; both carry a `failure` with the record so far.
    Raises SpecError for what is no module, and for what is no input.
    """
    _understood(model, inputs)
    alone = not isinstance(inputs, (list, tuple, Mapping)) and hasattr(inputs, "shape")
    if alone or (len(inputs) > 0 and all(type(side) is int for side in inputs)):
        inputs = (inputs,)  # one tensor, or one shape, without the tuple around it
    if isinstance(inputs, Mapping):
        inputs, kwargs = (), {**inputs, **(kwargs or {})}
    device, dtype = chosen(tensors_in((inputs, kwargs or {}))), dtype_of(model)
    arguments = [working_copy(value, dtype) for value in inputs]
    named = {key: working_copy(value, dtype) for key, value in (kwargs or {}).items()}
    modules = list(model.named_modules(remove_duplicate=False))
    lazy = any([is_lazy(p) for _, module in modules for _, p in own_tensors(module, "_parameters")])
    if lazy:  # a first run makes another class of a lazy module: not of the user's
        model = copy.deepcopy(model)
        modules = list(model.named_modules(remove_duplicate=False))
    run = Run(modules, name or getattr(model, NAME, type(model).__name__), rules, lazy, bound)
    run.inputs = tuple(run.record(t) for t in tensors_in([*arguments, *named.values()]))
    held = held_by({**{str(i): value for i, value in enumerate(arguments)}, **named})
    run.cache = tuple(Param(key, run.record(t), False) for key, t in held.items())
    run.born |= {id(t) for t in held.values()}  # copies: a run may write to them
    with LOCK, gc_paused(), ExitStack() as stack:
        stack.enter_context(untouched(run.paths, train))
        if "torch._dynamo" in sys.modules:  # a compiled function runs as it was written
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(believed(device))
        if lazy:
            stack.enter_context(materialized_apart())
        stack.enter_context(torch.inference_mode())
        stack.enter_context(run.watch())
        run.called_as = stack.enter_context(called_as(run.ops))
        stack.enter_context(run)
        try:
            model(*arguments, **named)
        except ArchscopeError as error:
            raise explained(run, error, Rerun(model, tuple(arguments), named, train, bound)) from error.__cause__
        except Exception as error:
            raise explained(run, error, Rerun(model, tuple(arguments), named, train, bound)) from error
    if lazy:
        run.params, run.buffers = run.state("_parameters"), run.state("_buffers")
    return run.finish(bool(train) if train is not None else model.training)


def _understood(model: Any, inputs: Any) -> None:
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise SpecError(f"{model.__name__} is a class: give an object of it, {model.__name__}(…)")
    if not isinstance(model, nn.Module):
        text = repr(model)
        other = f": archscope.record_of({text}) takes a name" if isinstance(model, str) else ""
        raise SpecError(f"{text if len(text) < 60 else type(model).__name__} is no module{other}")
    if isinstance(inputs, (str, int, float)) or inputs is None:
        raise SpecError(f"{inputs!r} is no input of a forward: give tensors or shapes, such as (1, 3, 224, 224)")
