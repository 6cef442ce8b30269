"""What is varied: a model of any source, or a function that builds one, with what it is run on."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from archscope.analysis.metrics import STEP_METRICS, TOTALS
from archscope.core.errors import SpecError
from archscope.sources.inputs import Argument, Text
from archscope.sources.source import SOURCES, Source, source_of
from archscope.sources.spec import Spec, parse
from archscope.sweeps.grid import BATCH, INPUT, spelled

FACTORIES: dict[str, Callable[..., Any]] = {}  # given by Python code, by name


@SOURCES.register("factory")
class Factories(Source):
    closed = False
    guesses = True

    def names(self, pattern: str) -> list[str]:
        return list(FACTORIES)

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        return FACTORIES[name](**arguments)

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
        from archscope.sources.kinds.file import examples

        factory = FACTORIES[name]
        holder = sys.modules.get(getattr(factory, "__module__", None) or "")
        return examples(holder, getattr(factory, "__qualname__", name)) if holder is not None else ()

    def guess(self, model: Any, text: str) -> tuple[Argument, ...]:
        from archscope.sources.kinds.file import guess

        return guess(model, text)


@dataclass(frozen=True)
class SweepModel:
    """A model with the arguments that stay, and how it is run. It can be sent to another process.

    factory: what builds it, where that is no model with a name. step: the conditions of a training step, as for
    `trace_step`, whose metrics are wanted too; None: none is run.
    """

    spec: Spec
    factory: Callable[..., Any] | None = None
    input: Text = None
    batch: int | None = None
    train: bool = False
    step: Mapping[str, Any] | None = None

    def source(self) -> Source:
        """Where the model comes from; in another process the factory is entered there first."""
        if self.factory is not None:
            FACTORIES[self.spec.name] = self.factory
        if self.spec.source.saved:
            raise SpecError(f"{self.spec.name} is the record of one run: nothing of it can be varied")
        return self.spec.source

    @property
    def totals(self) -> tuple[str, ...]:
        """The keys of what is found at a point."""
        return TOTALS if self.step is None else (*TOTALS, *STEP_METRICS)

    def at(self, point: Mapping[str, Any]) -> tuple[Spec, Text, int | None]:
        """Model, input and batch of a point."""
        arguments = {name: value for name, value in point.items() if name not in (INPUT, BATCH)}
        spec = self.spec
        if arguments:
            spec = Spec(spelled(spec, arguments), spec.source, spec.name, {**spec.arguments, **arguments})
        return spec, point.get(INPUT, self.input), point.get(BATCH, self.batch)


def subject_of(
    factory: str | Callable[..., Any],
    input: Text = None,
    batch: int | None = None,
    train: bool = False,
    step: Mapping[str, Any] | None = None,
) -> SweepModel:
    """What a user names or hands over. Raises SpecError for what is neither a model's name nor callable."""
    if isinstance(factory, str):
        return SweepModel(parse(factory), None, input, batch, train, step)
    if not callable(factory):
        raise SpecError(f"{factory!r} is neither the name of a model nor a function that builds one")
    plain = getattr(factory, "__qualname__", type(factory).__name__)
    name, n = plain, 1
    while FACTORIES.setdefault(name, factory) is not factory:
        n += 1
        name = f"{plain}-{n}"
    return SweepModel(
        Spec(plain.rpartition("<locals>.")[2], source_of("factory"), name), factory, input, batch, train, step
    )
