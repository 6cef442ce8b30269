"""A spec of any source -> its Trace: what every command starts from."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from archscope.core.errors import ArchscopeError, ShapeError, SpecError
from archscope.core.record import Trace
from archscope.core.registry import PROVIDED
from archscope.core.version import torch_version
from archscope.sources import shipped, store, watch
from archscope.sources.conditions import current, under
from archscope.sources.guard import user_code
from archscope.sources.inputs import Text
from archscope.sources.loading import REAL, LoadedModel, loaded
from archscope.sources.spec import Spec, parse


def record_of(
    spec: str | Spec,
    input: Text = None,
    batch: int | None = None,
    train: bool = False,
    *,
    values: str | None = None,
    method: str | None = None,
) -> Trace:
    """The record of a model: the stored one where nothing that it depends on has changed, else that of a new run.

    A model is built without weights and run once; a saved trace is read. `cached` says whether the record was stored.
    $ARCHSCOPE_FRESH=1 runs every model anew.

    spec, input, batch: as for `load`. values: as for `trace`; "auto" when left out. method: of the model, which runs in
    place of `forward`. Raises SpecError for what cannot be understood, TraceError for a model that
    cannot be built or run, and ShapeError for an input that does not fit, with the inputs that do; the last two carry
    the record up to the failure.
    """
    if not isinstance(spec, str | Spec):
        raise SpecError(f"record_of takes a name, such as 'torchvision:resnet18'; archscope.trace(model, inputs) takes "
                        f"an object, as this {type(spec).__name__}")  # fmt: skip
    with under(values, method):
        return _record_of(spec, input, batch, train)


def _record_of(spec: str | Spec, input: Text, batch: int | None, train: bool) -> Trace:
    asked = store.asked_of(_typed(spec), input, batch, train)
    return _stored_or_run(spec, asked, lambda known: record_and_model(known, input, batch, train)[0])


def _typed(spec: str | Spec) -> str:
    return spec if isinstance(spec, str) else f"{spec.text} {spec.note}".strip()


def _stored_or_run(spec: str | Spec, asked: store.RecordRequest, run: Callable[[Spec], Trace]) -> Trace:
    """The stored record, else that of a run, stored where all that it depends on is known."""
    key = store.key_of(asked)  # now, because to look a name up may change what it depends on
    stored = shipped.find(asked) or store.find(asked, key)
    if stored is not None and (found := stored.trace()) is not None:
        return found
    if isinstance(spec, str) and not spec.rstrip().endswith(".py"):  # the name of a model in a file is found by a run
        spec = parse(spec)
    saved = not isinstance(spec, str) and (spec.source.saved or spec.source.only_weights)
    if saved or store.off() or not torch_version():
        return run(parse(spec) if isinstance(spec, str) else spec)
    package = (
        "" if isinstance(spec, str) or spec.source.name != "module" else spec.name.partition(":")[0].partition(".")[0]
    )
    with watch.watched(package) as seen:
        record = run(parse(spec) if isinstance(spec, str) else spec)
    store.keep(key, seen, record)
    return record


def result_of(
    kind: str,
    make: Callable[[Trace], Any],
    spec: str | Spec,
    input: Text = None,
    batch: int | None = None,
    train: bool = False,
) -> Any:
    """`make(record)`: plain data that is a function of the record, stored with it. Raises what `record_of` raises."""
    if isinstance(spec, str) or not (spec.note or spec.source.saved):
        asked = store.asked_of(spec if isinstance(spec, str) else spec.text, input, batch, train)
        stored = shipped.find(asked) or store.find(asked)
        if stored is not None and (found := store.result(kind, stored, make)) is not None:
            return found
    return make(record_of(spec, input, batch, train))


def record_and_model(
    spec: Spec, input: Text = None, batch: int | None = None, train: bool = False
) -> tuple[Trace, LoadedModel | None]:
    """The record, and the model that was run for it; None for a saved trace. Raises what `record_of` raises."""
    if spec.source.saved:
        if input or batch is not None or train:
            raise SpecError(f"{spec.name} is the record of one run: its input and mode are what they were")
        return spec.source.record(spec.name), None
    model = loaded(spec, input, batch)
    try:
        return traced(spec, model, train), model
    except ShapeError as error:
        if not _DIAGNOSED.get():
            raise
        raise with_diagnosis(error, spec) from error


def with_diagnosis(error: ShapeError, spec: Spec) -> ShapeError:
    """The error with its diagnosis for a sentence."""
    explained = ShapeError(PROVIDED["diagnosis"](error, spec), expected=error.expected, got=error.got)
    explained.failure = error.failure
    return explained


_DIAGNOSED: ContextVar[bool] = ContextVar("diagnosed", default=True)


@contextmanager
def undiagnosed() -> Iterator[None]:
    """Within this block a shape error keeps its own sentence: to find what would mend it takes ten runs and more."""
    before = _DIAGNOSED.set(False)
    try:
        yield
    finally:
        _DIAGNOSED.reset(before)


def traced(spec: Spec, model: LoadedModel, train: bool = False) -> Trace:
    """Run a model that `loaded` built, as its source wants it to be run. Raises what `trace` raises."""
    import archscope.tracing.tracer as tracer

    bound = spec.source.upper_bound
    with user_code(), spec.source.running(spec.name) as notes:
        values = current().values
        how: dict[str, Any] = {"name": spec.text, "train": train, "bound": bound, "values": values}
        record = tracer.trace(model.model, model.arguments, model.named, **how)
    built = ("it was built with its weights: its constructor reads values",) if model.model.__dict__.get(REAL) else ()
    notes = (*record.notes, *notes, *spec.source.notes(model.model), *built, *([spec.note] if spec.note else []))
    return replace(record, notes=notes) if notes else record


def step_of(spec: str | Spec, input: Text = None, batch: int | None = None, **conditions: Any) -> Trace:
    """The record of a step of training: the stored one, as for `record_of`, else that of a run without weights; a saved
    record of a step is read.

    conditions: those of `trace_step`. Raises what `record_of` and `trace_step` raise.
    """
    asked = store.asked_of(_typed(spec), input, batch)
    try:
        asked = asked._replace(step=json.dumps(conditions, sort_keys=True))
    except TypeError:  # a loss or an optimizer that is a function: nobody knows what it depends on
        return _step(parse(spec) if isinstance(spec, str) else spec, input, batch, conditions)
    return _stored_or_run(spec, asked, lambda known: _step(known, input, batch, conditions))


def _step(spec: Spec, input: Text, batch: int | None, conditions: Mapping[str, Any]) -> Trace:
    """A run of a step."""
    from archscope.tracing.step import trace_step

    if spec.source.saved:
        record = spec.source.record(spec.name)
        if not record.phases:
            raise SpecError(f"{spec.name} is the record of a forward, not of a step of training")
        return record
    model = loaded(spec, input, batch)
    with user_code(), spec.source.running(spec.name) as notes:
        how = {"name": spec.text, "values": current().values, **conditions}
        record = trace_step(model.model, model.arguments, model.named, **how)
    return replace(record, notes=(*record.notes, *notes)) if notes else record


def check_step(conditions: Mapping[str, Any]) -> None:
    """Raises SpecError for a condition of a training step that does not exist."""
    from archscope.tracing.training import check_conditions

    check_conditions(**conditions)


def reason(error: Exception) -> str:
    """Why a model has no row, in one line."""
    text = str(error) if isinstance(error, ArchscopeError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def verified(most: int) -> Iterator[tuple[str, str]]:
    """Run the models of stored records again: what was asked for, and what is wrong, "" where nothing is.

    most: how many, chosen at random among the records that would answer here and now.
    """
    entries = [store.read(path) for path, _ in store.entries()]
    found = [(one.asked, stored.trace()) for one in entries if one and (stored := store.find(one.asked)) is not None]
    for asked, stored in random.sample(found, min(most, len(found))):
        text = " ".join([asked.model, *asked.inputs, *([f"batch {asked.batch}"] if asked.batch else [])])
        try:
            with under(asked.values, asked.method), watch.watched():
                given = parse(asked.model), list(asked.inputs) or None, asked.batch
                ran = (_step(*given, json.loads(asked.step)) if asked.step else
                       record_and_model(*given, asked.train)[0])  # fmt: skip
            yield text, "" if ran == stored else "a new run gives another record"
        except ArchscopeError as error:
            yield text, f"cannot be run: {reason(error)}"
