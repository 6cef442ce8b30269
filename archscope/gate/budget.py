"""The settings of a repository: the models that are locked, and limits on their totals.

    [tool.archscope]                            # pyproject.toml; in archscope.toml without `tool.archscope`
    models = ["alexnet", {model = "net.py:Net", input = "1x28x28"}]

    [[tool.archscope.budget]]
    model = "net.py:Net"
    params = "<= 3.5 M"                         # K M G T are powers of 1000
    macs = "<= +2 %"                            # against the lock; "<= +1 M" too
    activations = "<= 64 MB"                    # MB is 10^6 bytes, MiB 2^20
    peak_memory = "<= 16 GB"                    # of a training step; training_macs and training_flops too
    message = "ask the mobile team before raising"

    [tool.archscope.step]                       # lock what a training step costs; without it only budgets run one
    optimizer = "adamw"                         # precision, loss, implementation, attention, checkpoint
    models = ["resnet*"]                        # all models where this is left out

    [tool.archscope.cost]                       # of operators that no rule knows
    "mylib::op" = {macs = "x[0] * x[1] * weight[0]", flops = "3 * numel(out)"}

An error names the file and the line. Needs no torch; TOML is read by the standard library (tomli on 3.10).
"""

import fnmatch
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import import_module
from math import ceil, floor
from typing import Annotated, Any, NamedTuple

from msgspec import Meta, Struct, ValidationError, convert, defstruct, to_builtins

from archscope.analysis import metrics
from archscope.core import files, limits
from archscope.core.errors import SpecError
from archscope.core.table import unknown
from archscope.core.units import NUMBER, amount
from archscope.gate.lock import METRIC_KEYS, NAME, STEP_KEYS, Entry, shown
from archscope.operators import register_cost

# what a budget may limit, and the unit of bytes
METRICS = {key: "B" if metrics.METRICS[key].form == "bytes" else "" for key in METRIC_KEYS}
METRICS |= {key: "B" if metrics.STEP_METRICS[key].form == "bytes" else "" for key in STEP_KEYS}
STEP = {"optimizer": "sgd", "precision": "fp32"}  # the conditions of a step where the config states none


class Limit(NamedTuple):
    """One bound on one total.

    sign: <=, <, >=, > or ==. amount: exact; of: "" for the total itself, "%" for its change in percent of the locked
    total, "+" for its change in units. text: as it was typed.
    """

    metric: str
    sign: str
    amount: Fraction
    of: str
    text: str
    line: int = 0


class Target(NamedTuple):
    """One model to look at. asked: of "input", "batch" and "train", what differs from its own, and of "step" the
    conditions of the training step whose totals are wanted too. line: in the config."""

    model: str
    asked: Mapping[str, Any] = {}
    line: int = 0


class Budget(NamedTuple):
    """Limits on the models that a name or a wildcard matches."""

    model: str
    asked: Mapping[str, Any]
    limits: tuple[Limit, ...]
    message: str = ""
    line: int = 0

    @property
    def many(self) -> bool:
        """Whether it is for several models."""
        return is_pattern(self.model)


@dataclass(frozen=True)
class Config:
    """The settings of one file. path: None where there is no file. models: None where it names none.

    step: the conditions of the training step whose totals are locked, None where none is; step_models: of which models.
    """

    folder: str
    path: str | None = None
    models: tuple[Target, ...] | None = None
    budgets: tuple[Budget, ...] = ()
    lock: str = NAME
    coverage: bool = False
    costs: Mapping[str, Any] = field(default_factory=dict)
    step: Mapping[str, Any] | None = None
    step_models: tuple[str, ...] = ()

    def with_step(self, target: Target) -> Target:
        """A target, with the training step that the config or a budget asks for."""
        locked = self.step is not None and any(fits(Budget(name, {}, ()), target.model) for name in self.step_models)
        limited = any(
            limit.metric in STEP_KEYS for one in self.budgets if fits(one, target.model) for limit in one.limits
        )
        if not locked and not limited:
            return target
        conditions = self.step or target.asked.get("step") or STEP
        return target._replace(asked={**target.asked, "step": dict(conditions)})

    def where(self, line: int) -> str:
        """`pyproject.toml line 12`."""
        return f"{shown(self.path or '')} line {line}"


def is_pattern(text: str) -> bool:
    """Whether a name matches several models. What is in brackets, after an @, is an argument."""
    head = text.partition("@")[0]
    return head == "all" or bool(re.search(r"[*?\[]", head)) or "," in re.sub(r"\([^)]*\)|\[[^\]]*\]", "", text)


# ------------------------------------------------------------------------------------------------------- the file


def find(start: str = ".") -> Config:
    """The config of a folder: its archscope.toml or pyproject.toml, or that of a folder above, up to the repository.

    The costs of operators that it states are entered. Raises SpecError, naming file and line.
    """
    config = _config_of(start)
    for name, amounts in config.costs.items():
        try:
            register_cost(name, **amounts)
        except SpecError as error:
            raise SpecError(f"{shown(config.path or '')}: {error}") from error
    return config


def _config_of(start: str) -> Config:
    folder = os.path.abspath(start)
    while True:
        for name, table in (("archscope.toml", ""), ("pyproject.toml", "tool.archscope")):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and (config := load_config(path, table)) is not None:
                return config
        above = os.path.dirname(folder)
        if os.path.exists(os.path.join(folder, NAME)):
            return Config(folder)
        if os.path.exists(os.path.join(folder, ".git")) or above == folder:
            return Config(os.path.abspath(start))
        folder = above


_Name = Annotated[str, Meta(pattern=r"\S")]


class _Model(Struct, forbid_unknown_fields=True, kw_only=True):
    model: _Name
    input: str | list[str] = ""
    batch: Annotated[int, Meta(ge=1)] = 0
    train: bool = False

    @property
    def asked(self) -> dict[str, Any]:
        return sparse({"input": self.input, "batch": self.batch, "train": self.train})


class _Message(_Model, forbid_unknown_fields=True, kw_only=True):
    message: str = ""


_LIMITS: list[Any] = [(key, Any, None) for key in METRICS]
_Budget: Any = defstruct("_Budget", _LIMITS, bases=(_Message,), forbid_unknown_fields=True, kw_only=True)


class _Cost(Struct, forbid_unknown_fields=True, omit_defaults=True):
    macs: int | str = 0
    flops: int | str | None = None


class _Step(Struct, forbid_unknown_fields=True, omit_defaults=True):
    models: list[_Name] = []
    loss: str | None = None
    implementation: str | None = None
    attention: str | None = None
    checkpoint: list[str] = []
    optimizer: str = STEP["optimizer"]
    precision: str = STEP["precision"]


class _Table(Struct, forbid_unknown_fields=True):
    models: list[_Name | _Model] | None = None
    lock: Annotated[str, Meta(min_length=1)] = NAME
    budget: list[_Budget] = []  # pyright: ignore[reportInvalidTypeForm]
    require_coverage: bool = False
    cost: dict[str, _Cost] = {}
    step: _Step | None = None


_Path = tuple[str | int, ...]  # ("budget", 0, "batch")


def load_config(path: str, table: str) -> Config | None:
    """The config under a table of a file, None where the file has no such table. Raises SpecError, naming the line."""
    name = shown(path)
    try:
        text = files.text(path, limits.SETTINGS)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error
    if table and not re.search(r"tool\s*\.\s*\"?archscope|\[\s*tool\s*\]", text):
        return None
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        found: Any = toml.loads(text)
    except (ValueError, RecursionError) as error:  # of TOML, or of a number with more digits than Python reads
        at = re.search(r" \(at line (\d+), column \d+\)| \(at end of document\)", str(error))
        digits = (str(i) for i, each in enumerate(text.splitlines(), 1) if re.search(r"\d{4300}", each))
        line = at.group(1) if at and at.group(1) else next(digits, str(len(text.splitlines())))
        what = str(error).replace(at.group(), "") if at else str(error)
        raise SpecError(f"{name} line {line}: this is not TOML: {what[:1].lower()}{what[1:]}") from error
    for part in table.split(".") if table else ():
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]

    places = _positions(text)

    def line_of(*path: str | int) -> int:
        return _line_of(path, found, table, places)

    try:
        read = convert(found, _Table)
        budgets = tuple(_budget(one, i, line_of) for i, one in enumerate(read.budget))
    except ValidationError as error:
        where, what = _problem(str(error))
        raise SpecError(f"{name} line {line_of(*where)}: {what}") from error
    models = [_Model(model=one) if isinstance(one, str) else one for one in read.models or ()]
    targets = tuple(Target(one.model.strip(), one.asked, line_of("models", i)) for i, one in enumerate(models))
    named = None if read.models is None else targets
    costs: dict[str, Any] = {name: to_builtins(one) for name, one in read.cost.items()}
    folder = os.path.dirname(os.path.abspath(path))
    step = None if read.step is None else {**STEP, **to_builtins(read.step)}
    wanted = tuple((step or {}).pop("models", ["*"]))
    return Config(folder, path, named, budgets, read.lock, read.require_coverage, costs, step, wanted)


def _budget(read: Any, index: int, line_of: Callable[..., int]) -> Budget:
    limits = []
    for key in METRICS:
        if (text := getattr(read, key)) is not None:
            try:
                limits.append(limit_of(key, text)._replace(line=line_of("budget", index, key)))
            except SpecError as error:
                raise ValidationError(f"{error} - at `$.budget[{index}].{key}`") from error
    if not limits:
        what = f"{read.model} has no limit, such as {', '.join(METRICS)}"
        raise ValidationError(f"{what} - at `$.budget[{index}]`")
    return Budget(read.model.strip(), read.asked, tuple(limits), read.message.strip(), line_of("budget", index))


def _problem(error: str) -> tuple[_Path, str]:
    """Where the table differs from its schema, and a sentence. error: of msgspec, ``… - at `$.budget[0].batch` ``."""
    what, _, place = error.partition(" - at `$")
    path: _Path = tuple(int(part) if part.isdigit() else part for part in re.findall(r"\w+", place))
    if field := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        holder = {"models": _Model, "budget": _Budget, "cost": _Cost, "step": _Step}[str(path[0])] if path else _Table
        return (*path, field[1]), unknown("key", field[1], holder.__struct_fields__)
    if path and path[-1] in METRICS:
        return path, what
    what = what[:1].lower() + what[1:].replace(" | null", "")
    for json, toml in (("object", "table"), ("array", "list")):
        what = what.replace(json, toml)
    return path, f"{place.strip('.`') or 'tool.archscope'}: {what}"


def _line_of(path: _Path, found: Any, table: str, places: Mapping[tuple[str, int, str], int]) -> int:
    """The line of a key, or of what encloses it."""
    where: list[tuple[str, int, str]] = []
    key = str(path[0]) if path else ""
    if len(path) > 1 and key == "models":  # a model without a name is told at the one before it
        for one in reversed(found["models"][: int(path[1]) + 1]):
            where.append(("", 0, f"in models {one.get('model') if isinstance(one, dict) else one}"))
    nested, (parent, _, name) = f"{table}.{key}".lstrip("."), table.rpartition(".")
    if len(path) > 1 and key == "budget":
        where += [(nested, int(path[1]), part) for part in (*map(str, path[2:]), "")]
    if len(path) > 1 and key == "step":
        where.append((nested, 0, str(path[1])))
    where += [(table, 0, key), (nested, 0, ""), (table, 0, ""), (parent, 0, name)]
    return next((places[place] for place in where if place in places), 1)


def sparse(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are given, without empty ones; one input as a text, several as a list."""
    kept = {key: list(value) if isinstance(value, tuple) else value for key, value in asked.items() if value}
    if isinstance(kept.get("input"), list) and len(kept["input"]) == 1:
        kept["input"] = kept["input"][0]
    return kept


_HEADER = re.compile(r"\s*\[(\[)?\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*([A-Za-z0-9_"'.-]+)\s*=""")


def _positions(text: str) -> dict[tuple[str, int, str], int]:
    """Line numbers, which the standard library's TOML reader does not give: (table, its index, key) -> line.

    The key "" is the table's own header. A model of the list `models` is ("", 0, "in models NAME").
    """
    found: dict[tuple[str, int, str], int] = {}
    count: dict[str, int] = {}
    table, index, listing = "", 0, False
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header and not listing:
            table = re.sub(r"[\"'\s]", "", header.group(2))
            count[table] = count.get(table, -1) + 1
            index = count[table]
            found.setdefault((table, index, ""), number)
        elif key and not listing:
            name = key.group(1).strip("\"'")
            found.setdefault((table, index, name), number)
            for depth in range(name.count(".")):  # tool.archscope.models = … at the top
                parts = name.split(".")
                head, tail = ".".join(parts[: depth + 1]), ".".join(parts[depth + 1 :])
                found.setdefault((f"{table}.{head}".lstrip("."), 0, tail), number)
            listing = name.endswith("models") and "[" in line
        if listing:
            for quoted in re.findall(r"\"([^\"]*)\"|'([^']*)'", line):
                found.setdefault(("", 0, f"in models {quoted[0] or quoted[1]}"), number)
            listing = "]" not in re.sub(r"\"[^\"]*\"|'[^']*'|#.*", "", line)
    return found


# ------------------------------------------------------------------------------------------------------ the limits

_LIMIT = re.compile(rf"(<=|>=|==|<|>|=|≤|≥)?\s*([+−-]?)\s*({NUMBER})\s*([A-Za-z%]*)")
_SIGNS = {None: "<=", "≤": "<=", "≥": ">=", "=": "=="}


def limit_of(metric: str, value: Any) -> Limit:
    """Read a limit: `"<= 3.5 M"`, `"<= +2 %"`, `"64 MB"`. Without a sign it is the most that may be.

    Raises SpecError on a metric that no total has, and on what is no limit.
    """
    if metric not in METRICS:
        raise SpecError(unknown("metric", metric, METRICS))
    in_bytes = METRICS[metric] == "B"
    example = '"<= 64 MB"' if in_bytes else '"<= 3.5 M"'
    text = value.strip() if isinstance(value, str) else ""
    read = _LIMIT.fullmatch(text)
    if type(value) is int:
        raise SpecError(f'{metric} = {value}: at most or exactly? write "<= {value}" or "== {value}"')
    if read is None:
        raise SpecError(f'{metric} = {value!r} is no limit: write {example}, or "<= +2 %" against the lock')
    sign, change, digits, unit = read.groups()
    if unit == "%" and not change:
        raise SpecError(f'{metric} = {value!r}: a percentage is a change against the lock, write "<= +{digits} %"')
    try:
        size = amount(digits) if unit == "%" else amount(digits + unit, in_bytes)
    except ValueError as error:
        raise SpecError(f"{metric} = {value!r}: {error}") from error
    of = "%" if unit == "%" else "+" if change else ""
    sign = _SIGNS.get(sign, sign)
    return Limit(metric, sign, -size if change in ("-", "−") else size, of, text if read[1] else f"<= {text}")


class Verdict(NamedTuple):
    """One limit, checked for one model. bound: in units of the metric; None where the lock has nothing to compare."""

    limit: Limit
    holds: bool
    found: int | None
    bound: Fraction | None
    message: str = ""

    @property
    def sentence(self) -> str:
        """`params 3,504,872, over the limit <= 3.5 M by 4,872 (0.1 %)`."""
        unit = f" {METRICS[self.limit.metric]}".rstrip()
        if self.found is None:
            return f"{self.limit.metric} is unknown, and its limit {self.limit.text} cannot be checked"
        here = f"{self.limit.metric} {self.found:,}{unit}"
        if self.bound is None:
            return f"{here}: the limit {self.limit.text} is against the lock, which does not have this model"
        bound = _nearest(self.bound, self.limit.sign)
        against = f" ({_number(bound)}{unit})" if self.limit.of else ""
        if self.holds:
            return f"{here}, within {self.limit.text}{against}"
        off = self.found - bound
        share = f" ({float(abs(100 * off / bound)):,.1f} %)" if bound else ""
        side = "over" if off > 0 else "under"
        if not off:
            return f"{here}, not within {self.limit.text}{against}"
        return f"{here}, {side} the limit {self.limit.text}{against} by {_number(abs(off))}{unit}{share}"


def _nearest(bound: Fraction, sign: str) -> Fraction:
    """The whole number that a bound comes down to: what is counted is whole."""
    return Fraction(floor(bound)) if sign == "<=" else Fraction(ceil(bound)) if sign == ">=" else bound


def _number(value: Fraction) -> str:
    return f"{int(value):,}" if value.denominator == 1 else f"{float(value):,.1f}"


def judge(budgets: Iterable[Budget], now: Entry, before: Entry | None) -> tuple[Verdict, ...]:
    """Every limit that is set for a model. before: the model as it is locked."""
    return tuple(
        _judged(limit, now.totals.get(limit.metric), before and before.totals.get(limit.metric), budget.message)
        for budget in budgets
        if fits(budget, now.model)
        for limit in budget.limits
    )


def fits(budget: Budget, model: str) -> bool:
    """Whether a budget is for a model."""
    parts = ["*" if part.strip() == "all" else part.strip() for part in budget.model.split(",")]
    return budget.model == model or (budget.many and any(fnmatch.fnmatchcase(model, part) for part in parts))


def _judged(limit: Limit, found: Any, locked: Any, message: str) -> Verdict:
    found, locked = (max(value) if isinstance(value, list | tuple) and value else value for value in (found, locked))
    if found is None:
        return Verdict(limit, False, None, None, message)
    bound: Fraction | None = limit.amount
    if limit.of and locked is None:
        return Verdict(limit, False, found, None, message)
    if limit.of == "+":
        bound = locked + limit.amount
    elif limit.of == "%":
        bound = locked * (1 + limit.amount / 100)
    return Verdict(limit, _HOLDS[limit.sign](found, bound), found, bound, message)


_HOLDS = {
    "<=": lambda a, b: a <= b, "<": lambda a, b: a < b, ">=": lambda a, b: a >= b, ">": lambda a, b: a > b,
    "==": lambda a, b: a == b,
}  # fmt: skip
