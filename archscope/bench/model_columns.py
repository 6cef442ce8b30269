"""Results of bench as columns of the model table: a row per model, all from one setting."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from archscope.bench.results import (
    APART,
    GOOD,
    MEMORY,
    MFU,
    TRAINING,
    blocks,
    groups,
    merged,
    notes_of,
    readable,
    title_of,
    trainings,
)
from archscope.core.errors import SpecError
from archscope.core.table import Column

COLUMNS = (
    Column("test_accuracy", "Test", "share", priority=1, means="Test: accuracy on the test set."),
    Column("examples_per_second", "Examples/s", "scaled", priority=2, means="Examples/s: trained, over whole epochs."),
    Column("peak_memory", "Memory", "bytes", priority=4, means=MEMORY),
    Column("mfu", "MFU", "share", priority=3, means=MFU),
)
_OWN = {column.key: column for column in TRAINING}
HIDDEN = tuple(
    _OWN.get(key) or Column(key, key)
    for key in """data recipe device_name world_size threads precision flags epochs seeds spread mfu_published
    status""".split()
)
KEYS = tuple(column.key for column in (*COLUMNS, *HIDDEN))


class Measured(NamedTuple):
    """The results of each model, and notes on how they were measured."""

    figures: dict[str, dict[str, Any]]
    notes: tuple[str, ...]


def measured(rows: Iterable[Mapping[str, Any]], models: Sequence[str], files: Sequence[str]) -> Measured:
    """The results for these models, by their text; means over seeds. Rows of other models are ignored.

    Raises SpecError if no model has a row, and if rows differ in APART or in their flags: such results must not be in
    one column.
    """
    where = ", ".join(files)
    there = trainings(rows, "--bench")
    mine = [row for row in there if row["model"] in models]
    if not mine:
        known = list(dict.fromkeys(row["model"] for row in there))
        raise SpecError(f"{where} holds no run of {_few(models)}: it has {_few(known)}")
    grouped = [group for block in blocks(mine) for group in groups(block)]
    well = [group for group in grouped if group[0]["status"] in GOOD]
    _alike(well, where, files[0])
    figures = {row["model"]: {key: readable(row).get(key) for key in KEYS} for row in map(merged, well)}
    title = title_of((well or grouped)[0][0])
    return Measured(figures, (f"measured: {title}", *notes_of(mine, [merged(group) for group in grouped], "")))


def _alike(grouped: Sequence[Sequence[Mapping[str, Any]]], where: str, file: str) -> None:
    """Raises SpecError if the runs differ, with the differences and the text that selects."""
    first = [group[0] for group in grouped]
    different = {key: list(dict.fromkeys(str(row.get(key)) for row in first)) for key in (*APART, "flags")}
    found = {key: values for key, values in different.items() if len(values) > 1}
    if not found:
        return
    listed = "; ".join(f"{key}: {_few([value or 'none' for value in values])}" for key, values in found.items())
    choice = "".join(f"@{key}={values[0]}" for key, values in found.items())
    raise SpecError(
        f"the runs in {where} differ ({listed}), so their results cannot be in one column; select some, such as "
        f"--bench '{file}{choice}'"
    )


def _few(names: Sequence[str]) -> str:
    """Four names at most: `a, b, c, d and 7 more`."""
    more = len(names) - 4
    return ", ".join(names[:4]) + (f" and {more} more" if more > 0 else "")
