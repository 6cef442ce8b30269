"""Small models, one situation each: what people's own code does to a record.

A file a family. `@case` above a model gives its inputs and what was derived by hand: parameters, MACs and the shapes of
the outputs, as products with the factors written out. `tests/test_corpus.py` holds these figures against a real run on
the CPU, and the record against these figures.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch
from torch import nn

Shapes = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Case:
    """One model and its answer.

    inputs: shapes of float inputs, or a function that makes the arguments. shapes: of the tensors in the output, in
    order. train: run in training mode. answer: "" where the figure is exact and depends on shapes alone, else
    "depends on values", "unknown" or "lower bound": then a bare figure is a lie. uncounted: why FlopCounterMode gives
    another number.
    """

    family: str
    build: Callable[[], nn.Module]
    inputs: Shapes | Callable[[], tuple[Any, ...]]
    params: int
    macs: int
    shapes: Shapes
    kwargs: Callable[[], Mapping[str, Any]] = field(default=dict)
    train: bool = False
    answer: str = ""
    uncounted: str = ""

    @property
    def name(self) -> str:
        return f"{self.family}-{self.build.__name__}"

    def made(self) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
        """The model and the arguments of its forward, the same ones every time."""
        torch.manual_seed(0)
        model = self.build().train(self.train)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # compressed sparse tensors are "in beta state"
            arguments = self.inputs() if callable(self.inputs) else tuple(torch.rand(shape) for shape in self.inputs)
        return model, arguments, dict(self.kwargs())


CASES: dict[str, Case] = {}


def case(inputs: Shapes | Callable[[], tuple[Any, ...]], **facts: Any) -> Callable[[Any], Any]:
    """Enter the model below under the family that its file is called like."""

    def enter(build: Any) -> Any:
        one = Case(build.__module__.rpartition(".")[2], build, inputs, **facts)
        if one.name in CASES:
            raise ValueError(f"{one.name} is there twice")
        CASES[one.name] = one
        return build

    return enter


def tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in an output, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for one in value.values() for t in tensors(one)]
    if isinstance(value, (list, tuple)):
        return [t for one in value for t in tensors(one)]
    if is_dataclass(value):
        return [t for one in fields(value) for t in tensors(getattr(value, one.name))]
    return []


def load() -> list[Case]:
    """Every case of every family."""
    for family in iter_modules(__path__):
        import_module(f"{__name__}.{family.name}")
    return list(CASES.values())
