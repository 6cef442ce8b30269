"""Do the models still cost what the lock says? Each is run again, and compared with the lock and the budgets.

`plan` lists the models, `look` checks one, `renew` writes the lock that accepts the changes. A model that cannot be
built, one that is not in the lock and one that the config no longer names are findings too: the rest is still checked.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archscope.analysis.metrics import METRICS, step_totals, totals
from archscope.analysis.row import rows, visible
from archscope.analysis.training import shares
from archscope.analysis.verification import WHOLE
from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.record import Tensor, Trace
from archscope.core.table import did_you_mean
from archscope.core.version import __version__, torch_version
from archscope.gate import budget, lock
from archscope.gate.budget import Budget, Config, Target, Verdict, fits, is_pattern, sparse
from archscope.gate.drift import Drift, drift_of
from archscope.gate.lock import FIGURES, TOTALS, Entry, Line, Lock, read, shown, without_defaults
from archscope.operators import COUNTING
from archscope.sources.records import reason, record_of, result_of, step_of
from archscope.sources.spec import expand, parse
from archscope.zoo import catalogue as registry

# ------------------------------------------------------------------------------------------------ a trace -> an entry


def entry_of(record: Trace, model: str, asked: Mapping[str, Any] | None = None, by: str = "command") -> Entry:
    """What a lock records of a run: its totals, and a line for each row of the layer table."""
    table = rows(record, None, WHOLE)
    made = METRICS["activations"].of(record, table)
    table = [row for row, count in zip(table, made, strict=True) if count or visible(record, row)]
    figures = [METRICS[key].of(record, table) for key in FIGURES]
    lines = tuple(
        Line(row.path, row.kind, locked_config(row.config), _shapes(row.outputs), *values)
        for row, *values in zip(table, *figures, strict=True)
    )
    sums = totals(record)
    versions = {"archscope": record.versions.get("archscope", ""), "torch": _public(record.versions.get("torch", ""))}
    code = code_of(model) if by == "command" else ""
    return Entry(
        model=model,
        input=_shapes(record.inputs),
        asked=dict(asked or {}),
        counting=COUNTING,
        made=versions | ({"code": code} if code else {}),
        totals={key: _plain(sums[key]) for key in TOTALS},
        lines=lines,
        by=by,
    )


def with_step(entry: Entry, record: Trace) -> Entry:
    """An entry with the totals of a training step too, and the bytes of each layer at its peak. record: of the step."""
    at_peak = {share.path: sum(share.bytes.values()) for share in shares(record) if share.bytes}
    return replace(entry, totals={**entry.totals, **_plain(step_totals(record)), lock.AT_PEAK: at_peak})


def locked_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as a lock records it, with the best known arguments first."""
    kept = without_defaults(config)
    first = ("in_channels", "out_channels", "in_features", "out_features", "kernel_size", "stride", "padding")
    return _plain({key: kept[key] for key in (*(k for k in first if k in kept), *(k for k in kept if k not in first))})


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value, default=str))


def _shapes(tensors: Sequence[Tensor]) -> str:
    """`1x96x55x55`, `1x5:int64`, several joined by ", ", a scalar ()."""
    texts = ("x".join(map(str, t.shape)) or "()" for t in tensors)
    return ", ".join(
        text if t.dtype == "float32" else f"{text}:{t.dtype}" for t, text in zip(tensors, texts, strict=True)
    )


def _public(version: str) -> str:
    """A version without its build: 2.14.1+cpu and 2.14.1+cu130 count alike."""
    return version.partition("+")[0]


_SHARED = ("blocks", "knobs")  # what the families of the zoo import


def code_of(model: str) -> str:
    """A checksum of the source of a network of the zoo, "" for any other model. Imports no torch."""
    if not (is_zoo := model.partition("@")[0].removeprefix("zoo:") in registry.entries()):
        return ""
    name = parse(model).name if is_zoo else ""
    home = Path(registry.__file__).parent
    texts = [(home / f"{family}.py").read_bytes() for family in (registry.entries()[name].family, *_SHARED)]
    return hashlib.sha256(b"\0".join(text.replace(b"\r\n", b"\n") for text in texts)).hexdigest()[:16]


def is_current(entry: Entry) -> bool:
    """Whether a run would give the same again: a network of the zoo, whose source and versions are unchanged."""
    try:
        code = code_of(entry.model)
    except SpecError:
        return False
    made = {"archscope": __version__, "torch": _public(torch_version()), "code": code}
    return bool(code) and dict(entry.made) == made and entry.counting == COUNTING


# --------------------------------------------------------------------------------------------------- what is found


@dataclass(frozen=True)
class CheckOutcome:
    """One model, checked. before: as it is locked; after: as it is now, None where it could not be run.

    problem: why it could not be compared, one sentence. line: where the config names it. cached: whether the locked
    figures were used without a run. uncovered: whether it has an operator without a rule, and that is a failure.
    accepted, removed: whether the lock was renewed with what was found, or the model taken out of it.
    """

    model: str
    before: Entry | None = None
    after: Entry | None = None
    drift: Drift | None = None
    verdicts: tuple[Verdict, ...] = ()
    problem: str = ""
    line: int = 0
    cached: bool = False
    uncovered: bool = False
    accepted: bool = False
    removed: bool = False

    @property
    def changed(self) -> bool:
        """Whether it differs from the lock, and the difference was not accepted."""
        return bool(self.drift) and not self.accepted

    @property
    def over(self) -> bool:
        """Whether a limit of its budgets does not hold."""
        return any(not verdict.holds for verdict in self.verdicts)

    @property
    def fails(self) -> bool:
        """Whether the check fails because of this model."""
        return bool(self.problem or self.changed or self.uncovered or self.over)


@dataclass(frozen=True)
class Result:
    """All models, checked. updated: whether the lock was renewed with what was found."""

    outcomes: tuple[CheckOutcome, ...]
    config: Config
    lock: str
    updated: bool = False

    @property
    def fails(self) -> bool:
        return any(outcome.fails for outcome in self.outcomes)


@dataclass(frozen=True)
class Plan:
    """What to check. gone: models that the lock has and the config no longer names. unnamed: those that are to be
    locked, and that the config does not name."""

    config: Config
    path: str
    locked: Lock
    targets: tuple[Target, ...]
    gone: tuple[str, ...] = ()
    unnamed: frozenset[str] = frozenset()


def plan(config: Config, path: str | None, names: Sequence[str] = ()) -> Plan:
    """Which models `check` runs: those of the config, of the lock where it has none, or some of these by name.

    Raises LockError for a lock that is not whole, SpecError for a name that neither has.
    """
    path = path_of(config, path)
    has_budgets_only = config.models is None and config.budgets and not os.path.exists(path)
    locked = {} if has_budgets_only and not any(_against(b) for b in config.budgets) else read(path)
    ours = {name: entry for name, entry in locked.items() if entry.by == "command"}
    targets = {target.model: target for target in targets_of(config, locked)}
    if config.models is None:
        targets = {name: Target(name, entry.asked) for name, entry in ours.items()} | targets
    _budgets_fit(config, targets)
    gone = tuple(name for name in ours if name not in targets) if config.models is not None else ()
    if names:
        wanted = _chosen(names, (*targets, *gone), shown(path))
        targets = {name: target for name, target in targets.items() if name in wanted}
        gone = tuple(name for name in gone if name in wanted)
    if not targets and not gone:
        raise SpecError(f"{shown(path)} has no model; `archscope lock MODEL` adds one")
    return Plan(config, path, locked, tuple(map(config.with_step, targets.values())), gone)


def _against(budget: Budget) -> bool:
    return any(limit.of for limit in budget.limits)


def targets_of(config: Config, locked: Lock) -> list[Target]:
    """The models of a config, its wildcards expanded, and those that only a budget names. Raises SpecError.

    locked: a budget without an input is for the input that the lock has.
    """
    found: dict[str, Target] = {}
    for target in config.models or ():
        for name in _expanded(target, config):
            if name in found and found[name].asked != target.asked:
                raise SpecError(f"{config.where(target.line)}: {name} is there already, with another input")
            found.setdefault(name, target._replace(model=name))
    for one in config.budgets:
        if one.many:
            continue
        there = found.get(one.model)
        if there is None:
            asked = one.asked or (locked[one.model].asked if one.model in locked else {})
            found[one.model] = Target(one.model, asked, one.line)
        elif one.asked and there.asked and there.asked != one.asked:
            raise SpecError(f"{config.where(one.line)}: {one.model} has another input at line {there.line}")
        elif one.asked:
            found[one.model] = there._replace(asked=one.asked)
    return list(found.values())


def _expanded(target: Target, config: Config) -> list[str]:
    if not is_pattern(target.model):
        return [target.model]
    try:
        with inside(config.folder):
            return [spec.text for spec in expand([target.model])]
    except SpecError as error:
        raise SpecError(f"{config.where(target.line)}: {error}") from error


def _budgets_fit(config: Config, targets: Iterable[str]) -> None:
    names = list(targets)
    for one in config.budgets:
        if not any(fits(one, name) for name in names):
            raise SpecError(f"{config.where(one.line)}: no model is called {one.model!r} here")


def _chosen(names: Sequence[str], known: Sequence[str], where: str) -> set[str]:
    """The known models that names and wildcards match. Raises SpecError for one that matches none."""
    wanted = set()
    for name in names:
        matches = [one for one in known if fits(Budget(name, {}, ()), one)]
        if not matches:
            near = did_you_mean(name, known) or f"`archscope lock {name}` adds it"
            raise SpecError(f"{where} has no model {name!r}: {near}")
        wanted.update(matches)
    return wanted


# ------------------------------------------------------------------------------------------------------ one by one


def look(target: Target, plan: Plan, cached: bool = False, coverage: bool = False) -> CheckOutcome:
    """Run one model and compare it. cached: use the locked figures where nothing can have changed, without torch."""
    before = plan.locked.get(target.model)
    found = CheckOutcome(target.model, before, line=target.line)
    if cached and before is not None and dict(before.asked) == dict(target.asked) and is_current(before):
        return _judged(replace(found, after=before, cached=True), plan, coverage)
    try:
        after = run(target, plan.config.folder)
    except Exception as error:  # whatever one model does, the others are still checked
        if os.environ.get("ARCHSCOPE_DEBUG") and not isinstance(error, ArchscopeError):
            raise
        why = reason(error)
        if "--input" in why and plan.config.path:
            why += f' (in {shown(plan.config.path)}: {{model = "{target.model}", input = "…"}})'
        return replace(found, problem=f"cannot be run: {why}")
    found = _judged(replace(found, after=after), plan, coverage)
    if before is None:
        if plan.config.models is None and not any(_against(b) for b in plan.config.budgets if fits(b, target.model)):
            return found  # a model that is not locked and only has a budget
        return replace(found, problem=f"is not in {shown(plan.path)}; `archscope lock '{target.model}'` adds it")
    if before.counting != after.counting:
        return replace(found, problem=_other_counting(before, plan))
    if _step_text(before) != _step_text(after) and _step_text(before) and _step_text(after):
        was, now = _step_text(before), _step_text(after)
        return replace(found, problem=f"was locked with the step {was}, and is {now} now; {_ACCEPTS}")
    return replace(found, drift=drift_of(before, after))


_ACCEPTS = "`archscope check --update` accepts it"


def _step_text(entry: Entry) -> str:
    """The conditions of the training step, "" where none is locked."""
    return ", ".join(f"{key} {value}" for key, value in sorted(entry.asked.get("step", {}).items()))


def _judged(found: CheckOutcome, plan: Plan, coverage: bool) -> CheckOutcome:
    assert found.after is not None
    verdicts = budget.judge(plan.config.budgets, found.after, found.before)
    required = coverage or plan.config.coverage
    return replace(found, verdicts=verdicts, uncovered=required and bool(found.after.totals["unknown"]))


def _other_counting(before: Entry, plan: Plan) -> str:
    if before.counting > COUNTING:
        return f"was locked by counting semantics {before.counting}, this archscope has {COUNTING}: upgrade it"
    return (
        f"was locked by counting semantics {before.counting}, this archscope has {COUNTING}: its figures cannot be "
        "compared; `archscope check --update` renews them"
    )


def run(target: Target, folder: str = ".") -> Entry:
    """A model as it is now. folder: where the paths of its name begin. Raises what `runs.record_of` raises."""
    asked = target.asked
    step = asked.get("step")
    kind = f"lock {target.model} {sorted(asked.items())}"

    def locked(record: Trace) -> str | None:
        entry = entry_of(record, target.model, asked)
        text = lock.text_of({target.model: entry})
        return text if lock.parse(text) == {target.model: entry} else None

    with inside(folder):
        given = (asked.get("input"), asked.get("batch"), asked.get("train", False))
        text = result_of(kind, locked, target.model, *given)
        entry = (
            lock.parse(text)[target.model] if text else entry_of(record_of(target.model, *given), target.model, asked)
        )
        if step is None:
            return entry
        try:
            return with_step(entry, step_of(target.model, *given[:2], **step))
        except ArchscopeError as error:
            raise SpecError(f"no training step: {reason(error)}") from error


@contextmanager
def inside(folder: str) -> Iterator[None]:
    """Within this block the folder is the working directory."""
    here = os.getcwd()
    if os.path.abspath(folder) == here:
        yield
        return
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)


def missing(plan: Plan) -> list[CheckOutcome]:
    """The models that the lock has and the config does not name."""
    config = shown(plan.config.path or "")
    return [
        CheckOutcome(
            name, plan.locked[name], problem=f"is locked, and {config} does not name it: add it there, or {_REMOVES}"
        )
        for name in plan.gone
    ]


_REMOVES = "`archscope check --update` removes it"


def accepted(outcomes: Iterable[CheckOutcome], gone: Iterable[str] = ()) -> Callable[[Lock], Lock]:
    """The change to a lock that accepts what was found: for `lock.update`."""
    found, dropped = tuple(outcomes), set(gone)

    def change(now: Lock) -> Lock:
        kept = {name: entry for name, entry in now.items() if name not in dropped}
        return kept | {outcome.model: outcome.after for outcome in found if outcome.after is not None}

    return change


def renew(plan: Plan, outcomes: Iterable[CheckOutcome]) -> None:
    """Write the lock that accepts what was found. A model that could not be run stays as it was locked."""
    found = [outcome for outcome in outcomes if outcome.after is not None]
    if found or plan.gone:
        lock.update(plan.path, accepted(found, plan.gone))


def settled(outcome: CheckOutcome, plan: Plan) -> CheckOutcome:
    """An outcome after its change was accepted: the budgets hold against the new lock or they do not."""
    if outcome.model in plan.gone:
        return replace(outcome, problem="", removed=True)
    if outcome.after is None:
        return outcome
    verdicts = budget.judge(plan.config.budgets, outcome.after, outcome.after)
    return replace(outcome, problem="", verdicts=verdicts, accepted=True)


def plan_to_lock(config: Config, path: str | None, names: Sequence[str], asked: Mapping[str, Any]) -> Plan:
    """Which models `lock` records: those that are named, or else all of the config, and no others.

    asked: the input of those that are named; else that of the config or of the lock. Raises SpecError where no
    model is named anywhere, LockError for a lock that is not whole.
    """
    asked = sparse(asked)
    path = path_of(config, path)
    locked = read(path) if os.path.exists(path) else {}
    configured = targets_of(config, locked)
    known = {name: entry.asked for name, entry in locked.items()}
    known |= {target.model: target.asked for target in configured}
    if names:
        texts = [spec.text for spec in expand(names)]
        named = {target.model for target in configured} if config.models is not None else set(texts)
        targets = tuple(Target(text, asked or known.get(text, {})) for text in texts)
        return Plan(config, path, locked, tuple(map(config.with_step, targets)), unnamed=frozenset(texts) - named)
    if asked:
        raise SpecError("name the models that the input is for: `archscope lock MODEL --input …`")
    ours = {name for name, entry in locked.items() if entry.by == "command"}
    targets = configured if config.models is not None else [Target(n, known[n]) for n in known if n in ours]
    if not targets:
        raise SpecError(
            'name the models to lock, `archscope lock MODEL`, or write models = ["MODEL"] under [tool.archscope] in '
            "pyproject.toml"
        )
    gone = ours - {target.model for target in targets} if config.models is not None else set()
    return Plan(config, path, locked, tuple(map(config.with_step, targets)), tuple(sorted(gone)))


def path_of(config: Config, path: str | None) -> str:
    """The path of the lock: the option, or else the setting of the config."""
    if path == "":
        raise SpecError("--lock names no file")
    return path or os.path.join(config.folder, config.lock)
