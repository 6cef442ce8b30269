"""Specs -> the comparison table: load, trace, verify and total each model; a failure is a row with its reason."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from archscope.analysis.by_model import MODEL_COLUMNS, MODEL_HIDDEN, STEP_COLUMNS, model_row, model_table
from archscope.analysis.by_tensor import weights_row
from archscope.analysis.metrics import STEP_METRICS, step_totals
from archscope.analysis.texts import step_text, versions
from archscope.analysis.verification import disagreements
from archscope.bench import model_columns as figures
from archscope.bench.model_columns import Measured
from archscope.core.record import Trace
from archscope.core.table import Column, Table
from archscope.peers.reconcile import columns_as, predicted
from archscope.sources.inputs import Text, check_input, texts_of
from archscope.sources.loading import inputs_of
from archscope.sources.records import reason, result_of, step_of
from archscope.sources.spec import Spec
from archscope.sweeps.workers import in_order
from archscope.zoo.catalogue import Entry, entries


def side_by_side(
    specs: Iterable[Spec],
    input: Text = None,
    batch: int | None = None,
    train: bool = False,
    counters: Sequence[str] = (),
    jobs: int = 1,
    measured: Measured | None = None,
    step: Mapping[str, Any] | None = None,
) -> Table:
    """One row a model. Raises SpecError when the input is one of no model at all.

    counters: tools whose figures, by their conventions, stand in place of archscope's MACs and FLOPs. jobs: processes.
    measured: what runs have measured, in columns of its own; a model that has no run has nothing there. step: the
    conditions of a training step, as for `trace_step`, whose metrics are columns too; None: none is run.
    """
    texts = texts_of(input)
    for text in texts:
        check_input(text)
    work = partial(_rows, input=input, batch=batch, train=train, counters=counters, step=step)
    listed = work(specs) if jobs == 1 else list(in_order(work, specs, jobs, _died, group=1))
    made = [known for row in listed if (known := row.pop("versions", None))]
    running = made[0] if made and all(one == made[0] for one in made) else None
    given = f"Input: {', '.join(texts)} for every model" if texts else "Input: each model's own"
    given += f", batch {batch}" if batch else ""
    given += f". {step_text(step)}" if step is not None else ""
    if measured is not None:
        for row in listed:
            row.pop("peak_memory", None)  # beside runs it is the one that they measured
        listed = [{**row, **measured.figures.get(row["model"], {})} for row in listed]
    table = model_table(listed, f"{given}{', training mode' if train else ''}. {versions(running)}")
    columns, hidden = columns_for(counters, measured is not None, step is not None)
    notes = (*(measured.notes if measured is not None else ()), *table.notes)
    return replace(table, columns=columns, hidden=hidden, notes=notes)


def columns_for(
    counters: Sequence[str], measured: bool = False, step: bool = False
) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """The columns that are shown, and those that only scripts get: with counters, archscope's own figures."""
    if step:
        shown, hidden = columns_for(counters, measured)
        at = [column.key for column in shown].index("verified")
        taken = {column.key for column in (*shown, *hidden)}
        return (*shown[:at], *(c for c in STEP_COLUMNS if c.key not in taken), *shown[at:]), hidden
    if measured:
        shown, hidden = columns_for(counters)
        return (*shown, *figures.COLUMNS), (*hidden, *figures.HIDDEN)
    if not counters:
        return MODEL_COLUMNS, MODEL_HIDDEN
    at = [column.key for column in MODEL_COLUMNS].index("macs")
    own = {column.key: column for column in MODEL_COLUMNS if column.key in ("macs", "flops")}
    rest = [column for column in MODEL_COLUMNS if column.key not in own]
    return (*rest[:at], *columns_as(counters), *rest[at:]), (*own.values(), *MODEL_HIDDEN)


def _rows(
    specs: Iterable[Spec],
    input: Text,
    batch: int | None,
    train: bool,
    counters: Sequence[str],
    step: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    found = []
    for spec in specs:
        row = _row(spec, input, batch, train, counters)
        found.append(row if step is None or row.get("error") else row | _of_step(spec, input, batch, step))
    return found


def _of_step(spec: Spec, input: Text, batch: int | None, step: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a training step; where there is none, why."""
    if spec.source.only_weights:
        return {}
    try:
        return step_totals(step_of(spec, input, batch, **step))
    except Exception as error:  # the forward may be known all the same
        return {**dict.fromkeys(STEP_METRICS), "error": f"no training step: {reason(error)}"}


def _died(spec: Spec) -> dict[str, Any]:
    error = "the process that ran it died (out of memory?)"
    return {"model": spec.text, "source": spec.source.name, "verified": False, "error": error}


def _row(spec: Spec, input: Text, batch: int | None, train: bool, counters: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"model": spec.text, "source": spec.source.name, "verified": False}
    try:
        if spec.source.only_weights:
            return weights_row(spec.source.weights(spec.name), spec.source.name)
        kind = f"row {spec.source.name} {_published(spec, input, batch, train)} {' '.join(counters)}"
        make = partial(_figures, spec=spec, entry=_published(spec, input, batch, train), counters=counters)
        return dict(result_of(kind, make, spec, input, batch, train))
    except Exception as error:  # whatever one model does, the others are still printed
        with suppress(Exception):  # an input may be what is wrong
            row["input"] = inputs_of(spec, input, batch)[0].input.shape
        return row | {"error": reason(error)}


def _figures(record: Trace, spec: Spec, entry: Entry | None, counters: Sequence[str]) -> dict[str, Any]:
    """The row of a record: a function of the record, the registration and the tools."""
    differences = disagreements(record, entry)
    more = {"differences": differences, **predicted(record, counters), "versions": dict(record.versions)}
    return model_row(record, spec.source.name, not differences) | more


def _published(spec: Spec, input: Text, batch: int | None, train: bool) -> Entry | None:
    """The registration, where its counts are those of what was asked for."""
    as_registered = spec.in_zoo and not spec.arguments and not input and batch is None and not train
    return entries()[spec.name] if as_registered else None
