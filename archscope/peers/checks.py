"""Does a model's every number hold? Derivations that share no code, held against each other.

For each layer what was observed and the closed form; for each operator the shapes that PyTorch's own meta kernels
give; for the model what its paper or its source has published, and what the other tools say; in training mode the bytes
of a step. A `Tally` is one kind of these: how many numbers were compared, what disagrees, and what disagrees for a
reason that is known.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from archscope.analysis.metrics import METRICS, totals
from archscope.analysis.observed import unknown_operators
from archscope.analysis.row import rows
from archscope.analysis.texts import of_model, uncounted, without_cost
from archscope.analysis.verification import WHOLE, check, same_run
from archscope.core.errors import ArchscopeError
from archscope.core.record import Trace
from archscope.core.table import Column, Table
from archscope.peers import published
from archscope.peers.compared import Tally
from archscope.peers.reconcile import Reconciled, ToolResult, account_of
from archscope.sources.conditions import current
from archscope.sources.guard import user_code
from archscope.sources.inputs import Text
from archscope.sources.loading import loaded
from archscope.sources.records import reason, record_and_model, record_of
from archscope.sources.spec import Spec
from archscope.zoo.catalogue import entries

SAVED = "a saved trace: there is no model to run again"


class ModelCheck(NamedTuple):
    """One model. error: why it has no numbers at all. underived: parts that compute and have no closed form.
    uncounted: operators whose cost is unknown and in no total, `mine.double (1×)`."""

    model: str
    layers: Tally = Tally()
    underived: int = 0
    kernels: Tally = Tally()
    figures: Tally = Tally()
    tools: Tally = Tally()
    step: Tally = Tally()
    error: str = ""
    uncounted: tuple[str, ...] = ()

    @property
    def wrong(self) -> list[str]:
        return [text for part in self.parts for text in part.wrong] + ([self.error] if self.error else [])

    @property
    def parts(self) -> tuple[Tally, ...]:
        return self.layers, self.kernels, self.figures, self.tools, self.step


def checked(
    spec: Spec, input: Text = None, batch: int | None = None, train: bool = False, against: Sequence[str] = ()
) -> ModelCheck:
    """Every check of one model; what goes wrong on the way is its `error`. against: names of counters to run."""
    try:
        return _checked(spec, input, batch, train, against)
    except Exception as error:
        return ModelCheck(spec.text, error=reason(error))


def _checked(spec: Spec, input: Text, batch: int | None, train: bool, against: Sequence[str]) -> ModelCheck:
    own = not input and batch is None and not train
    if spec.source.saved:
        record = record_of(spec, input, batch, train)
        missing = Tally(missing=(SAVED,))
        tools = missing if against else Tally()
        return derived(record)._replace(figures=_figures(record, spec, own), kernels=missing, tools=tools)
    model, arguments, named = loaded(spec, input, batch)
    with spec.source.running(spec.name):
        record, found = of_module(model, arguments, named, spec.text, train, against, spec.source.upper_bound)
    if found.error:
        return found
    found = found._replace(figures=_figures(record, spec, own))
    if train:
        from archscope.peers.step_checks import step_compared

        found = found._replace(step=step_compared(spec, input, batch))
    return found


def of_module(
    model: Any,
    inputs: tuple[Any, ...],
    named: Mapping[str, Any] | None = None,
    name: str | None = None,
    train: bool = False,
    against: Sequence[str] = (),
    bound: bool = False,
) -> tuple[Trace, ModelCheck]:
    """The record of a module and every check but that of published figures. Raises TraceError where it cannot run."""
    from archscope.tracing.tracer import trace

    def run(rules: bool, values: str = "") -> Trace:
        with user_code():
            how: dict[str, Any] = {"name": name, "train": train, "rules": rules, "bound": bound}
            return trace(model, inputs, named, **how, values=values or current().values)

    try:
        record, stopped = run(rules=True), ""
    except ArchscopeError as error:
        if error.failure is None:
            raise
        record, stopped = error.failure.trace, reason(error)
    try:
        kernels = run(rules=False)
    except ArchscopeError:
        if stopped:
            return record, ModelCheck(record.model, error=stopped)  # PyTorch refuses it too
        raise
    # PyTorch's kernels may need values where the rules do not, and such a run takes other operators apart
    alike = kernels.notes == record.notes or stopped
    compared = record if alike else run(rules=True, values="always")
    shapes = Tally(sum(len(op.outputs) for op in record.ops), tuple(same_run(compared, kernels)))
    if stopped:
        return record, ModelCheck(record.model, kernels=shapes, error=stopped)
    result = _run_tools(against, record, model, inputs, named or {}, train)
    return record, derived(record)._replace(kernels=shapes, tools=_tools(result))


def reconciled(
    spec: Spec, names: Sequence[str], input: Text = None, batch: int | None = None, train: bool = False
) -> tuple[Trace, list[Reconciled]]:
    """The record of a model, and the tools reconciled with it. Raises what `record_of` raises.

    names: of counters. Those of a saved trace are only predicted.
    """
    record, model = record_and_model(spec, input, batch, train)
    if model is None:
        return record, [account_of(record, name, ToolResult(None, SAVED)) for name in names]
    with spec.source.running(spec.name):
        return record, _run_tools(names, record, *model, train)


def _run_tools(
    names: Sequence[str], record: Trace, model: Any, inputs: tuple[Any, ...], named: Mapping[str, Any], train: bool
) -> list[Reconciled]:
    """Run the tools on a model and account for what they say."""
    if not names:
        return []

    from archscope.peers.measured import run_tool
    from archscope.tracing.inputs import prepared

    on_meta = prepared(model, inputs, named, lambda tensor: tensor.to("meta"))
    given, by_name = on_meta.arguments, on_meta.named
    return [account_of(record, name, run_tool(name, model, given, by_name, train)) for name in names]


def derived(record: Trace) -> ModelCheck:
    """The layers of a record against their closed forms."""
    table = rows(record, whole=WHOLE)
    checks = check(record, table)
    wrong = [f"{row.path}: {text}" for row, one in zip(table, checks, strict=True) for text in one.differences]
    macs = METRICS["macs"].of(record, table)
    bare = sum(one.agrees is None and bool(n or row.params) for row, one, n in zip(table, checks, macs, strict=True))
    count = sum(one.agrees is not None for one in checks)
    return ModelCheck(record.model, Tally(count, tuple(wrong)), bare, uncounted=uncounted(unknown_operators(record)))


def _figures(record: Trace, spec: Spec, own: bool) -> Tally:
    """What the papers print, and what the model's source says of it. own: it ran on its own input."""
    verdicts = published.checks(record)
    wrong = [f"{_where(v)}: {v.text}" for v in verdicts if not v.holds]
    stated = [f"{_where(v)}: {v.text}" for v in verdicts if v.status in ("stated reason", "counted otherwise")]
    count, found = len(verdicts), totals(record)
    if own and not spec.arguments:
        for key, number, within in _source_figures(spec):
            count += 1
            if abs(found[key] - number) > within:
                words = {"params": "parameters", "macs": "MACs"}[key]
                text = f"{found[key]:,} {words}, {number:,} published or derived"
                why = EXCUSED.get((spec.text, key), (0, ""))
                if key == "macs" and record.notes:
                    stated.append(f"{text}: sizes that depend on the image are taken at their largest")
                elif why[0] and found[key] + why[0] == number:
                    stated.append(f"{text}: {why[1]}")
                else:
                    wrong.append(text)
    return Tally(count, tuple(wrong), tuple(stated))


# of what a source publishes: what it counts more than the network has, and why
EXCUSED = {
    ("torchvision:quantized_inception_v3", "params"): (
        128 * 768 + 2 * 128 + 5 * 5 * 128 * 768 + 2 * 768 + 768 * 1000 + 1000,
        "the published number counts the auxiliary classifier, which the quantized network does not have",
    ),
}


def _where(verdict: published.Verdict) -> str:
    figure = verdict.figure
    return f"{figure.layers}: {figure.quantity}" if figure.layers else figure.quantity


def _source_figures(spec: Spec) -> Iterable[tuple[str, int, int]]:
    """(quantity, number, how far off still agrees): the registration's exact ones, else those of the model's source."""
    if spec.in_zoo:
        entry = entries()[spec.name]
        yield "params", entry.params, 0
        yield "macs", entry.macs, 0
        return
    figures = spec.source.published(spec.name)
    if figures.get("params") is not None:
        yield "params", figures["params"], 0
    if figures.get("macs") is not None:
        yield "macs", figures["macs"], 500_000  # printed in units of 10⁹ with three decimals


def _tools(result: list[Reconciled]) -> Tally:
    wrong, missing = [], []
    for one in result:
        if one.residual:
            figures = f"{one.result.figure:,} measured, {one.account.figure:,} by its convention"
            wrong.append(f"{one.counter.title}: {figures}: {one.residual:,} are not explained")
        elif one.residual is None:
            missing += [f"{one.counter.title}: {note}" for note in one.notes] or [f"{one.counter.title}: no figure"]
    return Tally(len(result) - len(missing), tuple(wrong), missing=tuple(missing))


# --------------------------------------------------------------------------------------------------------- printing

COLUMNS_OF = (
    Column("model", "Model"),
    Column("layers", "Layers", "count", means="Layers: calls held against their closed form."),
    Column("underived", "No formula", "count", priority=3),
    Column("shapes", "Shapes", "count", priority=2,
           means="Shapes: operator outputs held against PyTorch's meta kernels."),
    Column("figures", "Figures", "count", priority=1, means="Figures: published numbers."),
    Column("stated", "Excused", "count", priority=2, means="Excused: of these, those that differ for a stated reason."),
    Column("witnesses", "Tools", "count", priority=1, means="Tools: other counters, explained to the last unit."),
    Column("step", "Step", "count", priority=1, means=(
        "Step: storages and moments of a training step, held against what operators save for their backward, against a "
        "real step on the CPU and against PyTorch's MemTracker."
    )),
    Column("disagreements", "Disagreements", "count"),
    Column("verified", "Verified", "flag"),
)  # fmt: skip
HIDDEN = (Column("wrong", "Sentences"), Column("reasons", "Stated reasons"), Column("missing", "Not compared"))


def checks_table(results: Iterable[ModelCheck], made_with: str = "") -> Table:
    """One row a model; every disagreement and what could not be compared are notes, and for a model alone the reasons
    that are stated."""
    listed, notes, reasons, missing = [], [], [], []
    for one in results:
        failed = bool(one.error)
        stated = [text for part in one.parts for text in part.stated]
        listed.append(
            {
                "model": one.model,
                "layers": None if failed else one.layers.compared,
                "underived": None if failed else one.underived,
                "shapes": one.kernels.compared or None,
                "figures": None if failed else one.figures.compared,
                "stated": None if failed else len(stated),
                "witnesses": one.tools.compared if one.tools != Tally() else None,
                "step": one.step.compared if one.step != Tally() else None,
                "disagreements": len(one.wrong),
                "verified": None if one.uncounted and not one.wrong else not one.wrong,
                "wrong": one.wrong,
                "reasons": stated,
                "missing": [text for part in one.parts for text in part.missing],
            }
        )
        notes += [of_model(one.model, text) for text in one.wrong]
        if one.uncounted:
            missing.append(f"{one.model}: {without_cost(one.uncounted)}")
        reasons += [f"{one.model} for a stated reason: {text}" for text in stated]
        missing += [f"{one.model} not compared: {text}" for text in listed[-1]["missing"]]
    if len(listed) > 1 and reasons:
        reasons = [f"for a stated reason {len(reasons)} figures differ: `archscope verify MODEL` tells them"]
    return Table("Verified", COLUMNS_OF, tuple(listed), (*notes, *missing, *reasons), made_with, hidden=HIDDEN)


def failed(results: Iterable[ModelCheck]) -> bool:
    """Whether any number of any model disagrees without a stated reason."""
    return any(one.wrong for one in results)
