"""A spec of any source -> its Trace: what every command starts from."""

from dataclasses import replace

from archscope.core.errors import ArchscopeError, ShapeError, SpecError
from archscope.core.record import Trace
from archscope.core.registry import PROVIDED
from archscope.sources.guard import user_code
from archscope.sources.spec import Loaded, Spec, Text, loaded, parse, source_of


def record_of(spec: str | Spec, input: Text = None, batch: int | None = None, train: bool = False) -> Trace:
    """Build a model without weights and run it once; a saved trace is read, without torch.

    spec, input, batch: as for `load`. Raises SpecError for what cannot be understood, TraceError for a model that
    cannot be built or run, and ShapeError for an input that does not fit, which says what would; the last two carry the
    record up to the failure.
    """
    wanted = parse(spec) if isinstance(spec, str) else spec
    here = source_of(wanted.source)
    if here.record is not None:
        if input or batch is not None or train:
            raise SpecError(f"{wanted.name} is the record of one run: its input and mode are what they were")
        return here.record(wanted.name)
    model = loaded(wanted, input, batch)
    try:
        return traced(wanted, model, train)
    except ShapeError as error:
        told = ShapeError(PROVIDED["diagnosis"](error, wanted), expected=error.expected, got=error.got)
        told.failure = error.failure
        raise told from error


def traced(spec: Spec, model: Loaded, train: bool = False) -> Trace:
    """Run a model that `loaded` built, as its source wants it to be run. Raises what `trace` raises."""
    import archscope.tracing.tracer as tracer

    here = source_of(spec.source)
    with user_code(), here.running(spec.name) as said:
        record = tracer.trace(model.model, model.arguments, model.named, name=spec.text, train=train, bound=here.bound)
    return replace(record, notes=(*record.notes, *said)) if said else record


def reason(error: Exception) -> str:
    """Why a model has no row, in one line."""
    text = str(error) if isinstance(error, ArchscopeError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
