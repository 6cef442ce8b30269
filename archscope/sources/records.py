"""A spec of any source -> its Trace: what every command starts from."""

from dataclasses import replace

from archscope.core.errors import ArchscopeError, ShapeError, SpecError
from archscope.core.record import Trace
from archscope.core.registry import PROVIDED
from archscope.sources.guard import user_code
from archscope.sources.inputs import Text
from archscope.sources.loading import Loaded, loaded
from archscope.sources.spec import Spec, parse


def record_of(spec: str | Spec, input: Text = None, batch: int | None = None, train: bool = False) -> Trace:
    """Build a model without weights and run it once; a saved trace is read, without torch.

    spec, input, batch: as for `load`. Raises SpecError for what cannot be understood, TraceError for a model that
    cannot be built or run, and ShapeError for an input that does not fit, with the inputs that do; the last two carry
    the record up to the failure.
    """
    return record_and_model(parse(spec) if isinstance(spec, str) else spec, input, batch, train)[0]


def record_and_model(
    spec: Spec, input: Text = None, batch: int | None = None, train: bool = False
) -> tuple[Trace, Loaded | None]:
    """The record, and the model that was run for it; None for a saved trace. Raises what `record_of` raises."""
    if spec.source.saved:
        if input or batch is not None or train:
            raise SpecError(f"{spec.name} is the record of one run: its input and mode are what they were")
        return spec.source.record(spec.name), None
    model = loaded(spec, input, batch)
    try:
        return traced(spec, model, train), model
    except ShapeError as error:
        explained = ShapeError(PROVIDED["diagnosis"](error, spec), expected=error.expected, got=error.got)
        explained.failure = error.failure
        raise explained from error


def traced(spec: Spec, model: Loaded, train: bool = False) -> Trace:
    """Run a model that `loaded` built, as its source wants it to be run. Raises what `trace` raises."""
    import archscope.tracing.tracer as tracer

    bound = spec.source.upper_bound
    with user_code(), spec.source.running(spec.name) as notes:
        record = tracer.trace(model.model, model.arguments, model.named, name=spec.text, train=train, bound=bound)
    notes = (*record.notes, *notes, *([spec.note] if spec.note else []))
    return replace(record, notes=notes) if notes else record


def reason(error: Exception) -> str:
    """Why a model has no row, in one line."""
    text = str(error) if isinstance(error, ArchscopeError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
