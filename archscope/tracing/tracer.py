"""trace(model, inputs) -> Trace: the one place that runs a model. How it runs stands in `run.py`."""

import inspect
import types
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.record import Param, Trace
from archscope.tracing.autocast import Autocast
from archscope.tracing.caches import held_by
from archscope.tracing.collector import gc_paused
from archscope.tracing.compiler import as_written
from archscope.tracing.copies import copied
from archscope.tracing.devices import believed
from archscope.tracing.failure import Rerun, explained
from archscope.tracing.gradients import GradientRun, differentiable, refused, scripted, taken
from archscope.tracing.guard import materialized_apart, untouched
from archscope.tracing.higher_order import functions_called
from archscope.tracing.inputs import Array, Inputs, prepared
from archscope.tracing.run import LOCK, Run
from archscope.tracing.spelling import called_as
from archscope.tracing.tensors import SMALL, is_lazy, is_scripted, own_tensors
from archscope.tracing.training import stand_in
from archscope.tracing.values import MEMORY, Values, check_mode, estimate, on_real_values, refuse
from archscope.tracing.weightless import NAME


def trace(
    model: nn.Module,
    inputs: Sequence[Any] | Mapping[str, Any] | torch.Tensor | Array = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    train: bool | None = False,
    rules: bool = True,
    bound: bool = False,
    values: str = "auto",
    memory: int = MEMORY,
    **named: Any,
) -> Trace:
    """Run `model(*inputs, **kwargs)` once without computing anything, and return the record.

    inputs: a tuple or list of tensors or arrays, or of shapes, which have the dtype of the model's parameters, or of
    anything else that the forward takes; a single tensor, array or shape may stand alone, and a dict goes by name.
    kwargs: the arguments by name, likewise; those that this function has no argument for may stand by themselves,
    `trace(model, tokens=(1, 128))`. Tensors of integers and booleans keep their values (lengths, masks, edges),
    and so do small ones of floating numbers; of others only shape and dtype are read. Objects keep their class, and the
    forward gets a copy of each. A tuple of ints is a shape where no argument is a tensor and the forward does not say
    by annotation or default that it takes numbers; a list of ints is a list.

    name: of the model in the record; else what `load` was asked for, or the class. train: run in training mode (True),
    in evaluation mode (False), or as the model is (None). rules: False runs every operator on PyTorch's meta kernels
    instead of the shape rules of `operators/`, to compare the two. bound: where a size depends on values (`nonzero`, a
    boolean mask, non-maximum suppression) take its largest, and say so in the record's notes, instead of failing.
    values: "auto" runs the model without values, and on real ones where the forward needs them; "never" and "always".
    A run on real values works on a copy of the model, on the CPU, with weights and inputs as given or drawn with a
    fixed seed; the record's notes say so and by which operators the forward decides. memory: bytes that it may take.

    The model is left as it was: mode of every submodule, parameters, buffers, attributes, hooks, gradients, device,
    and the state of the random generator. Raises ShapeError when an operator refuses its input, and TraceError when
    the forward needs the value of a tensor or fails in another way; both carry a `failure` with the record so far.
    Raises SpecError for what is no module, for what is no input, and where the forward needs one.
    """
    by_name = _understood(model, inputs, kwargs, named)
    kwargs = {**(kwargs or {}), **by_name}
    check_mode(values)
    once = RunSetup(inputs, kwargs, name or getattr(model, NAME, type(model).__name__), train, rules, bound, memory)
    if values == "always":
        return once.real(model)
    try:
        return once.without_values(model)
    except ArchscopeError as error:
        if scripted(error):
            return trace(model, inputs, kwargs, **once.conditions(values))
        if error.failure is None or not (error.failure.gradients or error.failure.values):
            raise
        stopped = error
    if stopped.failure.gradients and not any(map(is_scripted, model.modules())):
        try:
            return once.with_gradients(model)
        except ArchscopeError as error:
            if error.failure is None or not error.failure.values:
                raise
            stopped = error
    if values == "never":
        raise stopped

    def real() -> Trace:
        refuse(estimate(stopped.failure.trace), memory)
        return once.real(model)

    return on_real_values(real, stopped)


class RunSetup(NamedTuple):
    """What a run is made of, besides the model."""

    inputs: Any
    kwargs: Mapping[str, Any] | None
    name: str
    train: bool | None
    rules: bool
    bound: bool
    memory: int

    def conditions(self, values: str) -> dict[str, Any]:
        """The arguments of `trace` besides model and inputs."""
        return {
            **{key: value for key, value in self._asdict().items() if key not in ("inputs", "kwargs")},
            "values": values,
        }

    def without_values(self, model: nn.Module) -> Trace:
        """The record of a run in which nothing is computed."""
        given = prepared(model, self.inputs, self.kwargs)
        modules = list(model.named_modules(remove_duplicate=False))
        lazy = _any_lazy(modules)
        if lazy:  # a first run makes another class of a lazy module: not of the user's
            model = copied(model)
            modules = list(model.named_modules(remove_duplicate=False))
        run = Run(modules, self.name, self.rules, lazy, self.bound)
        return self.ran(run, model, given)

    def with_gradients(self, model: nn.Module) -> Trace:
        """The same where the forward takes gradients: with autograd, on weights that have no values either."""
        modules = list(model.named_modules(remove_duplicate=False))
        paths = {module: path for path, module in reversed(modules)}
        with LOCK, untouched(paths, self.train):
            stand_in(paths, None, (), False, SMALL)
            given = prepared(model, self.inputs, self.kwargs, differentiable)
            return self.ran(GradientRun(modules, self.name, False, False, self.bound), model, given)

    def real(self, model: nn.Module) -> Trace:
        """The record of a run on real values, with autograd where the forward takes gradients."""
        try:
            return self.with_values(model, Run)
        except ArchscopeError as error:
            if error.failure is None or not error.failure.gradients:
                raise
        return self.with_values(model, GradientRun)

    def with_values(self, model: nn.Module, kind: type[Run]) -> Trace:
        """The record of a run on real values, of a copy of the model."""
        source = Values(model, self.memory)
        given = prepared(model, self.inputs, self.kwargs, source.input)
        model = source.model()
        modules = list(model.named_modules(remove_duplicate=False))
        lazy = _any_lazy(modules)
        run = kind(modules, self.name, self.rules and kind is Run, lazy, False)
        run.real, run.limit, run.drawn = True, self.memory, bool(source.drawn)
        run.taken = sum(t.numel() * t.element_size() for t in run.alive if not is_lazy(t))
        record = self.ran(run, model, given)
        return replace(record, notes=(*record.notes, source.sentence(run.decided)))

    def ran(self, run: Run, model: nn.Module, given: Inputs) -> Trace:
        """Run the model, and leave it as it was."""
        held = held_by({**{str(i): value for i, value in enumerate(given.arguments)}, **given.named})
        kept = {id(t) for t in held.values()}
        if all(id(t) in kept for t in given.tensors):
            held, kept = {}, set()  # one object holds all inputs
        run.inputs = tuple([run.record(t) for t in given.tensors if id(t) not in kept])
        run.cache = tuple([Param(key, run.record(t), False) for key, t in held.items()])
        run.born.update(map(id, given.tensors))
        with LOCK, gc_paused(), ExitStack() as stack:
            stack.enter_context(untouched(run.paths, self.train))
            stack.enter_context(as_written())
            stack.enter_context(functions_called())
            stack.enter_context(believed(given.device, run.assumed))
            if not run.real:
                run.casts = Autocast(given.device)
                stack.enter_context(run.casts.instead())
            if run.lazy:
                stack.enter_context(materialized_apart())
            for block in (taken(),) if run.gradients else (torch.inference_mode(), refused()):
                stack.enter_context(block)
            stack.enter_context(run.watch())
            run.called_as = stack.enter_context(called_as(run.ops))
            stack.enter_context(run)
            rerun = Rerun(model, given.arguments, given.named, self.train, self.bound)
            try:
                model(*given.arguments, **given.named)
            except ArchscopeError as error:
                raise explained(run, error, rerun) from error.__cause__
            except Exception as error:
                raise explained(run, error, rerun) from error
            finally:
                run.give_back()
        if run.lazy:
            run.params, run.buffers = run.state("_parameters"), run.state("_buffers")
        return run.finish(bool(self.train) if self.train is not None else model.training)


def _any_lazy(modules: list[tuple[str, nn.Module]]) -> bool:
    """Whether a parameter has no shape yet."""
    return any([is_lazy(p) for _, module in modules for _, p in own_tensors(module, "_parameters")])


def _understood(
    model: Any, inputs: Any, kwargs: Mapping[str, Any] | None, named: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The arguments of the forward among those that `trace` does not know. Raises SpecError for what is no model, no
    input or no argument."""
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise SpecError(f"{model.__name__} is a class: give an object of it, {model.__name__}(…)")
    if not isinstance(model, nn.Module):
        raise SpecError(_no_module(model, inputs))
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise SpecError("several inputs stand in one tuple: archscope.trace(model, (first, second))")
    if isinstance(inputs, (str, int, float, types.FunctionType, types.BuiltinFunctionType)) or inputs is None:
        raise SpecError(f"{inputs!r} is no input of a forward: give tensors or shapes, such as (1, 3, 224, 224)")
    try:
        parameters = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):  # of a scripted module
        return named
    open_ended = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    if wrong := [name for name in named if name not in parameters and not open_ended]:
        help = ARGUMENTS.get(wrong[0], "")
        has = f"neither trace() nor the forward of {type(model).__name__} has an argument {wrong[0]!r}"
        raise TypeError(f"{has}{help and f': {help}'}")
    given = isinstance(inputs, Mapping) or hasattr(inputs, "shape") or len(inputs) > 0
    needed = [one.name for one in parameters.values() if one.default is one.empty and one.kind in POSITIONAL]
    if needed and not (given or kwargs or named):
        raise SpecError(f"{type(model).__name__} needs an input, {needed[0]}: archscope.trace(model, (1, 3, 224, 224))")
    return named


ARGUMENTS = {  # of other tools
    **dict.fromkeys(("input_size", "input_shape", "input_data", "input_res", "input_image", "example_inputs"),
                    "the input comes second, archscope.trace(model, (1, 3, 224, 224))"),
    "device": "no device is needed, because nothing is computed",
    "batch_size": "the batch is the first side of the input",
}  # fmt: skip
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _no_module(model: Any, inputs: Any) -> str:
    """What to write in the place of something that is no module."""
    name = getattr(model, "__name__", "")
    if isinstance(inputs, nn.Module):
        return "the model comes first, then its input: archscope.trace(model, inputs)"
    if isinstance(model, str):
        return f"{model!r} is no module: archscope.record_of({model!r}) takes a name"
    if isinstance(model, types.ModuleType):
        return f"{name} is a package: give a model of it"
    if isinstance(getattr(model, "__self__", None), nn.Module):
        return f"{name} is a method of a model: give the model itself"
    if isinstance(model, torch.export.ExportedProgram):
        return "an exported program is run as its module: archscope.trace(program.module(), inputs)"
    if isinstance(model, Mapping) and any(isinstance(one, torch.Tensor) for one in model.values()):
        return "a state_dict holds weights, not the code of a model: give the model that they belong to"
    if callable(model) and name:
        return f"{name} is a function: if it builds a model, call it, {name}()"
    text = repr(model) if isinstance(model, (int, float, tuple, list, dict, type(None))) else ""
    return f"{text if 0 < len(text) < 60 else type(model).__name__} is no module"
