"""A `Spec` -> its model, built without weights, and the inputs of its forward on the meta device."""

import copy
import inspect
import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

from archscope.core.errors import ArchscopeError, SpecError, TraceError
from archscope.core.table import did_you_mean
from archscope.core.version import torch_version
from archscope.sources.arguments import as_parameter, by_position_and_name, code_of, givens_in, result_of
from archscope.sources.conditions import current
from archscope.sources.guard import user_code
from archscope.sources.inputs import Argument, Input, Text, parse_inputs, texts_of
from archscope.sources.spec import Spec, parse

REAL = "_archscope_real"  # attribute of a model that was built with its weights


class LoadedModel(NamedTuple):
    """A model built without weights, and the arguments of its forward on the meta device."""

    model: Any
    arguments: tuple[Any, ...]
    named: dict[str, Any]


def load(spec: str | Spec, input: Text = None, batch: int | None = None) -> tuple[Any, Any]:
    """Build a model without weights, and its inputs on the meta device.

    spec: "alexnet", "mobilenet-v1@width=0.5", "torchvision:resnet50", "nets.py:Net", or what `parse` returned. input:
    227, (8, 3, 227, 227), "8x3x227x227", "1x128:int64", or a list of such texts, "name=SHAPE" for an argument by name.
    Returns the model and its inputs: a tuple, so that `model(*inputs)` runs, or a dict where they go by name, so that
    `model(**inputs)` does; `trace(model, inputs)` takes either. Raises SpecError for a wrong name, key or input, and
    for a value that the builder refuses; TraceError where the builder fails.
    """
    from archscope.tracing.inputs import prepared

    model, arguments, named = loaded(parse(spec) if isinstance(spec, str) else spec, input, batch)
    made = prepared(model, arguments, named, lambda tensor: tensor.to("meta"))
    arguments, named = made.arguments, made.named
    if named and arguments:
        return model, dict(inspect.signature(model.forward).bind(*arguments, **named).arguments)
    return model, named or arguments


def loaded(spec: Spec, input: Text = None, batch: int | None = None) -> LoadedModel:
    """Build a model without weights, and the arguments of its forward. Raises what `load` raises."""
    if not torch_version():
        raise SpecError(f"{spec.text} has to be run for this, and PyTorch is not installed: pip install torch")
    # a wrong input is told before anything is built
    given = () if code_of(input) else inputs_of(spec, input, batch)
    model = built(spec)
    return LoadedModel(model, *forward_arguments(spec, model, given, input, batch))


# ------------------------------------------------------------------------------------------------------- inputs


def defaults_of(spec: Spec) -> tuple[Argument, ...]:
    """The default inputs. The builder's `in_channels` sets their channels."""
    found = spec.source.inputs(spec.name, spec.arguments)
    channels = spec.arguments.get("in_channels")
    return tuple(given.with_axis("c", channels) for given in found) if isinstance(channels, int) else found


def inputs_of(spec: Spec, input: Text = None, batch: int | None = None) -> tuple[Argument, ...]:
    """The inputs that a model will be run on, empty where only the built model can say. Raises SpecError."""
    if code := code_of(input):
        _no_batch(code, batch)
        return givens_in(result_of(code))
    found = defaults_of(spec)
    return parse_inputs(texts_of(input), found, batch) if found or not spec.source.guesses else ()


def input_of(spec: Spec, text: Text = None, batch: int | None = None) -> Input:
    """The first input that a model will be run on. Raises SpecError where there is none."""
    found = inputs_of(spec, text, batch)
    if not found:
        raise SpecError(f"{spec.name} has no default input: give one, such as 1x3x224x224")
    return found[0].input


def forward_arguments(
    spec: Spec,
    model: Any,
    given: tuple[Argument, ...],
    input: Text = None,
    batch: int | None = None,
    dtype_of: Callable[[Any], Any] | None = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a model's forward, by position and by name. given: what `inputs_of` says.

    Shapes become tensors on the meta device; what a user's code gives is handed over as it is. dtype_of: tells the
    dtype of the model's parameters.
    """
    if code := code_of(input):
        _no_batch(code, batch)
        return by_position_and_name(result_of(code), model.forward)
    texts = texts_of(input)
    if not texts and batch is None and (example := spec.source.example(spec.name, model)) is not None:
        return by_position_and_name(example, model.forward)
    if not given and spec.source.guesses:
        one = bool(texts) and all("=" in text for text in texts[1:])  # the others go by name, in full
        given = parse_inputs(texts, spec.source.guess(model, texts[0] if one else ""), batch)
        if not given:
            raise SpecError(
                f"{spec.name} has no default input: give --input 1x3x224x224, or write example_inputs() beside it"
            )
    made = [(one.name, tensor_of(_as_model(as_parameter(one, model.forward), model, dtype_of))) for one in given]
    return tuple(t for name, t in made if not name), {name: t for name, t in made if name}


def _no_batch(code: str, batch: int | None) -> None:
    if batch is not None:
        raise SpecError(f"the arguments that {code} gives have the batch that they have: leave --batch out")


def _as_model(given: Argument, model: Any, dtype_of: Callable[[Any], Any] | None) -> Argument:
    """The argument in the dtype of the model's parameters, where nobody named another."""
    from archscope.tracing.tensors import dtype_of as of_parameters

    dtype = (dtype_of or of_parameters)(model) if given.as_model and not given.value else None
    return given if dtype is None else given._replace(input=Input(given.input.shape, str(dtype).partition(".")[2]))


def tensor_of(given: Argument) -> Any:
    """An input on the meta device, or the given value. Raises SpecError for a dtype that torch does not have."""
    import torch

    from archscope.tracing.values import BELOW

    if given.value and not given.input.dtype:
        return given.value[0]
    try:
        dtype = getattr(torch, given.input.dtype)
        if given.value:
            made = torch.tensor(given.value[0], dtype=dtype)
        else:
            made = torch.empty(given.input.shape, dtype=dtype, device="meta")
    except (AttributeError, RuntimeError) as error:
        raise SpecError(f"torch {torch.__version__} makes no input of dtype {given.input.dtype}") from error
    if given.below:
        setattr(made, BELOW, given.below)
    return [made] if given.listed else made


# ------------------------------------------------------------------------------------------------------- models


def built(spec: Spec) -> Any:
    """The model, without weights. Raises SpecError and TraceError."""
    from archscope.tracing.weightless import NAME

    try:
        model = _built(spec)
    except ArchscopeError:
        raise
    except (ValueError, ZeroDivisionError) as error:
        raise SpecError(f"{spec.text}: {error}") from error
    except Exception as error:
        unknown_key = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if isinstance(error, TypeError) and unknown_key and unknown_key[1] in spec.arguments:
            raise SpecError(f"{spec.name} has no argument {unknown_key[1]!r}") from error
        raise TraceError(f"{spec.text} could not be built: {type(error).__name__}: {error}") from error
    if (method := current().method) != "forward":
        model = _running(model, method, spec.name)
    object.__setattr__(model, NAME, spec.text)
    return model


def _built(spec: Spec) -> Any:
    """The model, by the first way in which it can be built."""
    import torch

    from archscope.tracing.values import MEMORY
    from archscope.tracing.weightless import weightless, within

    for device in (nullcontext(), torch.device("meta")):  # on it, a model may run a part of itself while it is built
        try:
            with weightless(), device, user_code():
                return spec.source.build(spec.name, spec.arguments)
        except (RuntimeError, TraceError) as error:
            if not _reads_values(error):
                raise
    with within(MEMORY), user_code():  # it reads values that it has computed
        model = spec.source.build(spec.name, spec.arguments)
    object.__setattr__(model, REAL, True)
    return model


def _reads_values(error: Exception) -> bool:
    """Whether PyTorch refused a tensor without values."""
    return re.search(r"\bmeta (tensor|device)|device[ '\"]*meta", str(error)) is not None


def _running(model: Any, method: str, name: str) -> Any:
    """The model with a method in the place of its forward; a model that stands in the user's file stays as it is."""
    from torch import nn

    if not callable(getattr(model, method, None)):
        known = [one for one in dir(type(model)) if not one.startswith("_") and one not in dir(nn.Module)]
        question = did_you_mean(method, known)
        raise SpecError(f"{name} has no method {method!r}{f': {question}' if question else ''}")
    model = copy.copy(model)
    model.forward = getattr(model, method)
    return model
