"""What a metric is, and the decorator that registers one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from archscope.analysis.observed import cached
from archscope.analysis.row import Row
from archscope.core.record import Trace
from archscope.core.registry import Registry
from archscope.core.table import AtLeast, Column


@dataclass(frozen=True)
class Metric:
    """One quantity of a model: all that tables, locks, budgets, sweeps, pages and plots need to know of it.

    key: the name in scripts, "macs". title: the heading of its column. form: how a value is printed, one of
    `core.table.FORMS`. unit: what is counted, as it follows a number: "MACs", "bytes". means: a sentence that tables
    with this column print below.

    values: a value for each row of a table; None for a metric of whole models. total: the value of a model; None for a
    metric of rows only.

    layer_priority, model_priority: the column's priority in the layer table and in the table of models
    (`core.table.Column`); None: only the machine formats have the column.
    locked: a lock file records the total, and a budget may limit it. layer_locked: the lock records it per layer too.
    implied_by: a metric that it follows from; a change is reported there alone.
    sized: it depends on the size of the input.
    """

    key: str
    title: str
    form: str = "count"
    unit: str = ""
    means: str = ""
    values: Callable[[Trace, list[Row]], list[Any]] | None = None
    total: Callable[[Trace], Any] | None = None
    layer_priority: int | None = None
    model_priority: int | None = None
    locked: bool = False
    layer_locked: bool = False
    implied_by: str = ""
    sized: bool = False

    @property
    def amount(self) -> str:
        """What a number of it is called in a sentence: "MACs", "bytes of activations"."""
        return f"bytes of {self.title.lower()}" if self.form == "bytes" else self.unit or self.title.lower()

    def column(self, priority: int | None = None) -> Column:
        """Its column in a table."""
        return Column(self.key, self.title, self.form, priority=priority or 0, means=self.means)

    def of(self, trace: Trace, table: list[Row]) -> list[Any]:
        """A value for each row, None where it is unknown or does not apply.

        Raises ValueError for a metric of whole models.
        """
        if self.values is None:
            raise ValueError(f"{self.key} is a metric of whole models, not of layers")
        return self.values(trace, table)


METRICS: Registry[Metric] = Registry("metric")
STEP_METRICS: Registry[Metric] = Registry("metric of a training step")  # of the record of a step, not of a forward

Function = Callable[..., Any]


def metric(
    key: str,
    title: str,
    per: Literal["operator", "row", "model"],
    total: Callable[[Trace], Any] | None = None,
    step: bool = False,
    **facts: Any,
) -> Callable[[Function], Function]:
    """Register a metric by the function below.

    per: what the function gives. "operator": `trace -> a number for each operator`, None where unknown; a row has the
    sum of its operators, unknown when one of them is, and the total is the sum of what is known. "row": `trace, rows ->
    a value for each row`, and `total` gives the model's. "model": `trace -> the model's value`.
    step: it is of the record of a training step (`trace_step`), which is run only where such a metric is asked for.
    facts: the other fields of `Metric`.
    """

    def register(function: Function) -> Function:
        values, of_model = (function, total) if per == "row" else (None, function)
        if per == "operator":
            values, of_model = _sums(cached(function))
        registry = STEP_METRICS if step else METRICS
        registry.add(key, Metric(key, title, values=values, total=of_model, **facts))
        return function

    return register


def _sums(amounts: Function) -> tuple[Function, Function]:
    """Rows and total of a number for each operator."""

    def values(trace: Trace, table: list[Row]) -> list[int | None]:
        each = amounts(trace)
        parts = [each[row.start : row.stop] for row in table]
        return [None if None in part else sum(part) for part in parts]

    def total(trace: Trace) -> int:
        each = amounts(trace)
        known = sum([amount for amount in each if amount is not None])
        return AtLeast(known) if None in each else known

    return values, total


def arranged(order: str, own: Iterable[Column], metrics: Iterable[Column]) -> tuple[Column, ...]:
    """Columns in an order of keys, `*` standing for the metrics that it does not name."""
    metrics = list(metrics)
    known = {column.key: column for column in (*own, *metrics)}
    rest = [column for column in metrics if column.key not in order.split()]
    return tuple(column for key in order.split() for column in (rest if key == "*" else [known[key]]))
