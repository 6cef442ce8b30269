"""Specs -> the comparison table: load, trace, verify and total each model; a failure is a row with its reason."""

from collections.abc import Iterable
from typing import Any

from archscope.errors import ArchscopeError
from archscope.spec import Spec, check_input, input_of, load
from archscope.table import Table
from archscope.tracer import trace
from archscope.verify import disagreements
from archscope.views import model_row, model_table, versions
from archscope.zoo.registry import Entry, entries


def side_by_side(
    specs: Iterable[Spec], input: str | None = None, batch: int | None = None, train: bool = False
) -> Table:
    """One row a model. Raises SpecError when the input is one of no model at all."""
    if input is not None:
        check_input(input)
    listed = [_row(spec, input, batch, train) for spec in specs]
    given = f"Input: {input} for every model" if input else "Input: each model's own"
    given += f", batch {batch}" if batch else ""
    return model_table(listed, f"{given}{', training mode' if train else ''}. {versions()}")


def _row(spec: Spec, input: str | None, batch: int | None, train: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"model": spec.text, "source": spec.source, "verified": False}
    try:
        row["input"] = input_of(spec, input, batch).shape
        model, inputs = load(spec, input, batch)
        record = trace(model, inputs, name=spec.text, train=train)
        differences = disagreements(record, _published(spec, input, batch, train))
        return model_row(record, spec.source, not differences) | {"differences": differences}
    except ArchscopeError as error:
        return row | {"error": str(error)}
    except Exception as error:  # whatever one model does, the others are still printed
        return row | {"error": f"{type(error).__name__}: {error}"}


def _published(spec: Spec, input: str | None, batch: int | None, train: bool) -> Entry | None:
    """The registration, where its counts are those of what was asked for."""
    as_registered = spec.source == "zoo" and not spec.arguments and input is None and batch is None and not train
    return entries()[spec.name] if as_registered else None
