"""Points -> records, one by one: `archscope.sweep(factory, grid)`.

A record is a plain dict: the values of the axes, then the keys of `passes.totals`, then `error`, which is None or says
in one line why the point has no totals. Points are taken a few at a time: their models are built (the same model once),
then run for their totals alone. Whatever `fast_totals` cannot do, or fails at, goes the long way, through `load` and
`trace`, so that totals and reasons are theirs.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

from archscope.analysis.metrics import STEP_METRICS, step_totals, totals
from archscope.sources.inputs import Argument, Text
from archscope.sources.loading import forward_arguments, inputs_of, loaded
from archscope.sources.records import reason, step_of, traced
from archscope.sources.spec import Spec
from archscope.sweeps.factory import SweepModel, subject_of
from archscope.sweeps.grid import Grid, columns, grid_of

AT_ONCE = 64  # points whose models are built together; the first ones come sooner

Record = dict[str, Any]


class Evaluator:
    """Evaluates points of one subject; keeps the model of the last one."""

    def __init__(self, subject: SweepModel) -> None:
        self.subject, self.source = subject, subject.source()
        self.kept: tuple[Any, Any] | None = None  # a model and its arguments
        self.given: dict[Any, tuple[Argument, ...]] = {}

    def records(self, points: Sequence[Mapping[str, Any]]) -> list[Record]:
        """A record for each point, in order."""
        from archscope.sweeps.fast_totals import Runs
        from archscope.sweeps.lazy_layers import NeedsTracer
        from archscope.tracing.collector import gc_paused

        asked = [self.subject.at(point) for point in points]
        found: list[dict[str, Any] | None] = []
        with gc_paused():  # until the models are gone: there is nothing to be found among them
            models = self._models([spec for spec, *_ in asked])
            with Runs() as runs:
                for (spec, text, batch), model in zip(asked, models, strict=True):
                    try:
                        found.append(None if model is None else self._fast(runs, model, spec, text, batch))
                    except (Exception, NeedsTracer):
                        found.append(None)
            self.kept = (models[-1], asked[-1][0].arguments) if models[-1] is not None else None
            model = runs = None
            del models
        return [
            {**columns(point), **self._with_step(told or self._slowly(*wanted), *wanted)}
            for point, wanted, told in zip(points, asked, found, strict=True)
        ]

    def _models(self, specs: Sequence[Spec]) -> list[Any]:
        """The models, one object where neighbours have the same arguments; None where it takes the long way."""
        from archscope.sweeps.lazy_layers import NeedsTracer, lazy_parameters

        built: list[Any] = []
        with lazy_parameters():
            before = self.kept
            for spec in specs:
                if before is None or before[1] != spec.arguments:
                    try:
                        before = (self.source.build(spec.name, spec.arguments), spec.arguments)
                    except (Exception, NeedsTracer):
                        before = (None, spec.arguments)
                built.append(before[0])
        return built

    def _fast(self, runs: Any, model: Any, spec: Spec, text: Text, batch: int | None) -> dict[str, Any]:
        given = self._given(spec, text, batch)
        arguments, named = forward_arguments(spec, model, given, text, batch, runs.dtype_of)
        arguments, named = _without_values(model, arguments, named)
        with self.source.running(spec.name):
            found = runs.totals(model, arguments, named, spec.text, self.subject.train, self.source.upper_bound)
        return {**found, "error": None}

    def _given(self, spec: Spec, text: Text, batch: int | None) -> tuple[Argument, ...]:
        """What the model is run on: of these sources it depends on no argument of the builder but the channels."""
        key = (repr(text), batch, spec.arguments.get("in_channels"))
        if spec.source.name not in ("zoo", "file", "module", "factory"):
            return inputs_of(spec, text, batch)
        if key not in self.given:
            if len(self.given) > 1000:
                self.given.clear()
            self.given[key] = inputs_of(spec, text, batch)
        return self.given[key]

    def _slowly(self, spec: Spec, text: Text, batch: int | None) -> dict[str, Any]:
        try:
            return {**totals(traced(spec, loaded(spec, text, batch), self.subject.train)), "error": None}
        except Exception as error:
            return {**dict.fromkeys(self.subject.totals), "model": spec.text, "error": reason(error)}

    def _with_step(self, told: Record, spec: Spec, text: Text, batch: int | None) -> Record:
        """The totals with those of a training step, where they are wanted."""
        step = self.subject.step
        if step is None or told["error"]:
            return told
        told = {**told, **dict.fromkeys(STEP_METRICS)} | {"error": told.pop("error")}
        try:
            return told | step_totals(step_of(spec, text, batch, **step))
        except Exception as error:
            return told | {"error": f"no training step: {reason(error)}"}


def _without_values(model: Any, arguments: Any, named: Any) -> tuple[Any, Any]:
    """Arguments of a user's code as a run without values has them. Raises NeedsTracer where some keep their values."""
    from archscope.sweeps.lazy_layers import NeedsTracer
    from archscope.tracing.devices import is_meta
    from archscope.tracing.inputs import prepared
    from archscope.tracing.tensors import tensors_in

    if all(map(is_meta, tensors_in((*arguments, *named.values())))):
        return arguments, named
    made = prepared(model, arguments, named)
    if not all(map(is_meta, made.tensors)):
        raise NeedsTracer
    return made.arguments, made.named


def failed(point: Mapping[str, Any], subject: SweepModel, why: str) -> Record:
    """The record of a point that could not be evaluated at all."""
    return {**columns(point), **dict.fromkeys(subject.totals), "model": subject.at(point)[0].text, "error": why}


_EVALUATORS: dict[int, tuple[SweepModel, Evaluator]] = {}


def evaluate(subject: SweepModel, points: Sequence[Mapping[str, Any]]) -> list[Record]:
    """The records of some points; an evaluator is kept for the next ones, in this process."""
    if _EVALUATORS.get(0, (None,))[0] != subject:
        _EVALUATORS[0] = (subject, Evaluator(subject))
    evaluator = _EVALUATORS[0][1]
    return [record for some in _batched(points, AT_ONCE) for record in evaluator.records(some)]


def _batched(items: Iterable[Any], n: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(itertools.islice(rest, n)):
        yield some


def records(
    subject: SweepModel, points: Iterable[Mapping[str, Any]], jobs: int = 1, scheduler: str | None = None
) -> Iterator[Record]:
    """The records of points in their order, in this process, in several, or on a cluster."""
    if scheduler is not None or jobs > 1:
        from archscope.sweeps.workers import in_order, on_cluster

        work = partial(evaluate, subject)
        lost = partial(_died, subject)
        if scheduler is not None:
            yield from on_cluster(work, points, scheduler, lost)
        else:
            yield from in_order(work, points, jobs, lost)
        return
    evaluator = Evaluator(subject)
    rest = iter(points)
    for n in itertools.chain((1, 4, 16), itertools.repeat(AT_ONCE)):
        if not (some := list(itertools.islice(rest, n))):
            break
        yield from evaluator.records(some)


def _died(subject: SweepModel, point: Mapping[str, Any]) -> Record:
    return failed(point, subject, "the process that ran it died")


def sweep(
    factory: str | Callable[..., Any],
    grid: Mapping[str, Iterable[Any]] | Iterable[Mapping[str, Any]],
    input: Text = None,
    *,
    batch: int | None = None,
    train: bool = False,
    jobs: int = 1,
    scheduler: str | None = None,
    output: str | None = None,
    step: Mapping[str, Any] | None = None,
) -> Iterator[Record]:
    """What a model costs at every point of a grid, one plain dict after the other, in the order of the points.

    factory: a model's name, such as "mobilenet-v1" or "nets.py:Net", or a function that returns an `nn.Module`. grid:
    values for each of its arguments, and for "input" and "batch"; or points, each a dict of arguments, of which there
    may be any number. input: of points that name none: 224, (1, 3, 224, 224), "1x128:int64". jobs: processes; the
    factory must then be importable, and the code that calls this stand under `if __name__ == "__main__":`. scheduler:
    of a Dask cluster, "tcp://…". output: a .csv, .parquet or .jsonl that is written meanwhile; a sweep that was killed
    goes on where it was. step: conditions of a training step, {"optimizer": "adamw"}, or {}: `training_macs`,
    `training_flops` and `peak_memory` are in each record too.

    A record has the values of the point, every key of `totals`, and `error`: None, or why the point failed. A model is
    built once for all points that differ in input and batch only. Raises SpecError at once for what cannot be
    understood.
    """
    subject = subject_of(factory, input, batch, train, step)
    subject.source()
    points: Any = grid_of(cast(Mapping[str, Iterable[Any]], grid)) if isinstance(grid, Mapping) else grid
    if output is None:
        return records(subject, points, jobs, scheduler)
    from archscope.sweeps.store import resumed

    if not isinstance(points, Grid):
        points = list(points)
    return resumed(output, points, subject, partial(records, subject, jobs=jobs, scheduler=scheduler))
