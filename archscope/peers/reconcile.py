"""Why the tools differ: the figure of each, archscope's account of it, and the residual that the account leaves.

A `Reconciled` is one tool and one model. `records` is what scripts read, `account_table` what people read.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from archscope.analysis.metrics import totals
from archscope.core.errors import SpecError
from archscope.core.record import Trace
from archscope.core.table import Column, Table
from archscope.peers.tools import COUNTERS, Account, Counter, find


class ToolResult(NamedTuple):
    """What a tool printed. figure: None where it printed none, and then note is the reason."""

    figure: int | None
    note: str = ""
    version: str = ""


NOT_RUN = ToolResult(None)


class Reconciled(NamedTuple):
    """A tool's figure for a model, and how it gets there.

    result: by the tool itself. account: what its convention predicts. residual: said − predicted, None where one is not
    known.
    """

    counter: Counter
    result: ToolResult
    account: Account

    @property
    def residual(self) -> int | None:
        if self.result.figure is None or self.account.figure is None:
            return None
        return self.result.figure - self.account.figure

    @property
    def notes(self) -> list[str]:
        """Sentences on what is missing, and on another version of the tool than its convention was read from."""
        notes = [note for note in (self.result.note, self.account.note) if note]
        known, ran = self.counter.version, self.result.version
        if self.residual and ran and not f"{ran}.".startswith(f"{known}."):
            notes.append(f"this is version {ran}; the account is that of {known}")
        return notes


def account_of(trace: Trace, name: str, result: ToolResult = NOT_RUN) -> Reconciled:
    """Reconcile one tool. Raises ValueError for a name that no counter has."""
    counter = find(name)
    return Reconciled(counter, result, counter.convention(trace))


def chosen(text: str | None) -> list[str]:
    """The counters that a list `fvcore,torch` names, all where it is None. Raises SpecError on an unknown one."""
    if text is None:
        return list(COUNTERS)
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise SpecError(f"no tool is named: there is {', '.join(COUNTERS)}")
    if "all" in names:
        return list(COUNTERS)
    try:
        return [find(name).name for name in names]
    except ValueError as error:
        raise SpecError(str(error)) from error


def predicted(trace: Trace, names: Iterable[str]) -> dict[str, int | None]:
    """What each tool would print, by its convention alone; None where it gives no figure."""
    return {name: find(name).convention(trace).figure for name in names}


def columns_as(names: Iterable[str]) -> tuple[Column, ...]:
    """A column for each tool's figure, and by what convention it is counted."""
    return tuple(map(_column_as, map(find, names)))


def _column_as(counter: Counter) -> Column:
    where = "" if counter.package else " on the meta device"
    means = f": {counter.means}" if counter.means else ""
    caption = f"{counter.name}: “{counter.calls}” of {counter.title} {counter.version}{where}{means}."
    return Column(counter.name, counter.name, "count", means=caption)


# --------------------------------------------------------------------------------------------------------- printing

RECORD = (
    Column("witness", "Tool"),
    Column("calls", "Its word"),
    Column("figure", "Figure", "count"),
    Column("unit", "Unit"),
    Column("account", "Account"),
    Column("residual", "Residual", "count"),
    Column("predicted", "Predicted", "count"),
    Column("note", "Note"),
)


def records(reconciled: Iterable[Reconciled], trace: Trace) -> Table:
    """For scripts: one row a tool, its account a list of {"reason", "amount"}.

    figure: what the tool result, null where it was not run. predicted: by its convention, archscope's MACs and
    the amounts of the account added up. residual: figure − predicted.
    """
    listed: list[Mapping[str, Any]] = [
        {
            "witness": one.counter.name,
            "calls": one.counter.calls,
            "figure": one.result.figure,
            "unit": one.counter.unit,
            "account": [{"reason": str(item), "amount": item.amount} for item in one.account.items],
            "residual": one.residual,
            "predicted": one.account.figure,
            "note": "; ".join(one.notes) or None,
        }
        for one in reconciled
    ]
    return Table(_title(trace), RECORD, tuple(listed))


PEOPLE = (
    Column("what", "Tool, and what it counts otherwise"),
    Column("amount", "Figure", "count"),
    Column("unit", "Unit", priority=2),
    Column("residual", "Residual", "count", means=(
        "Each figure is archscope's MACs plus the amounts under it; the residual is what they leave unexplained."
    )),
)  # fmt: skip


def account_table(
    reconciled: Iterable[Reconciled],
    trace: Trace,
    made_with: str = "",
    step: int = 0,
    of_step: Iterable[Reconciled] = (),
) -> Table:
    """For people: a row for each tool, its account as rows under it.

    step: MACs of a training step, and of_step: those who count one, in rows of their own.
    """
    reconciled, of_step = list(reconciled), list(of_step)
    rows = _account_rows(reconciled, "archscope: MACs", totals(trace)["macs"])
    if of_step:
        rows += _account_rows(of_step, "archscope: MACs of a training step", step)
    notes = [f"{one.counter.title}: {note}" for one in (*reconciled, *of_step) for note in one.notes]
    return Table(_title(trace), PEOPLE, tuple(rows), tuple(notes), made_with)


def _account_rows(reconciled: Iterable[Reconciled], base: str, macs: int) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [{"what": base, "amount": macs, "unit": "MAC"}]
    for one in reconciled:
        ran = one.result.figure is not None
        figure = one.result.figure if ran else one.account.figure
        version = one.result.version if one.counter.package else ""  # PyTorch's own stands in the caption
        name = f"{one.counter.title} {version}".rstrip()
        row = {"what": f"{name}: {one.counter.calls}", "amount": figure, "unit": one.counter.unit}
        out.append({**row, "residual": one.residual})
        if not ran and figure is not None:
            out[-1]["what"] += ", predicted"
        if one.account.figure is not None:
            out += [{"what": f"{'+' if i.amount > 0 else '−'} {i}", "amount": i.amount} for i in one.account.items]
        if one.residual:
            out.append({"what": "? not explained", "amount": one.residual})
    return out


def _title(trace: Trace) -> str:
    shapes = ", ".join("×".join(map(str, t.shape)) for t in trace.inputs)
    return f"Tools reconciled: {trace.model}{f', input {shapes}' if shapes else ''}"
