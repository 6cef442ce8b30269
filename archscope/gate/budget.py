"""What a repository asks of its models: the models that are locked, and limits on their totals.

    [tool.archscope]                            # pyproject.toml; in archscope.toml without `tool.archscope`
    models = ["alexnet", {model = "net.py:Net", input = "1x28x28"}]

    [[tool.archscope.budget]]
    model = "net.py:Net"
    params = "<= 3.5 M"                         # K M G T are powers of 1000
    macs = "<= +2 %"                            # against the lock; "<= +1 M" too
    activations = "<= 64 MB"                    # MB is 10^6 bytes, MiB 2^20
    message = "ask the mobile team before raising"

Whatever is wrong there is told with its line. Needs no torch; TOML is read by the standard library (tomli on 3.10).
"""

import fnmatch
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from math import ceil, floor
from typing import Any, NamedTuple

from archscope.core.errors import SpecError
from archscope.core.table import unknown
from archscope.core.units import NUMBER, amount
from archscope.gate.lock import NAME, Entry, shown

METRICS = {  # of a budget: totals of a lock, and what they are counted in
    "params": "", "trainable": "", "buffers": "", "memory": "B", "macs": "", "flops": "", "activations": "B",
    "neurons": "", "depth": "", "receptive_field": "",
}  # fmt: skip
ASKED = {
    "input": 'a text, "1x3x224x224", or a list of them',
    "batch": "a whole number from 1 on",
    "train": "true or false",
}


class Limit(NamedTuple):
    """One bound on one total.

    sign: <=, <, >=, > or ==. amount: exact; of: "" for the total itself, "%" for its change in percent of the locked
    total, "+" for its change in units. text: as it was written.
    """

    metric: str
    sign: str
    amount: Fraction
    of: str
    text: str
    line: int = 0


class Target(NamedTuple):
    """One model to look at. asked: of "input", "batch" and "train", what differs from its own. line: in the config."""

    model: str
    asked: Mapping[str, Any] = {}
    line: int = 0


class Budget(NamedTuple):
    """Limits on the models that a name or a wildcard stands for."""

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
    """What one file says. path: None where there is no file. models: None where it names none."""

    folder: str
    path: str | None = None
    models: tuple[Target, ...] | None = None
    budgets: tuple[Budget, ...] = ()
    lock: str = NAME
    coverage: bool = False

    def where(self, line: int) -> str:
        """`pyproject.toml line 12`."""
        return f"{shown(self.path or '')} line {line}"


def is_pattern(text: str) -> bool:
    """Whether a name stands for several models. What is within brackets, after an @, is an argument."""
    head = text.partition("@")[0]
    return head == "all" or bool(re.search(r"[*?\[]", head)) or "," in re.sub(r"\([^)]*\)|\[[^\]]*\]", "", text)


# ------------------------------------------------------------------------------------------------------- the file


def find(start: str = ".") -> Config:
    """The config of a folder: its archscope.toml or pyproject.toml, or that of a folder above, up to the repository."""
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


def load_config(path: str, table: str) -> Config | None:
    """The config under a table of a file, None where the file has no such table. Raises SpecError, naming the line."""
    name = shown(path)
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error
    if table and not re.search(r"tool\s*\.\s*\"?archscope|\[\s*tool\s*\]", text):
        return None
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        said: Any = toml.loads(text)
    except toml.TOMLDecodeError as error:
        at = re.search(r" \(at line (\d+), column \d+\)| \(at end of document\)", str(error))
        line = at.group(1) if at and at.group(1) else str(len(text.splitlines()))
        what = str(error).replace(at.group(), "") if at else str(error)
        raise SpecError(f"{name} line {line}: this is not TOML: {what[:1].lower()}{what[1:]}") from error
    for part in table.split(".") if table else ():
        if not isinstance(said, dict) or part not in said:
            return None
        said = said[part]
    return _Reader(path, table, _positions(text)).config(said)


class _Reader:
    """Reads one table, knowing where its keys stand."""

    def __init__(self, path: str, table: str, positions: Mapping[tuple[str, int, str], int]) -> None:
        self.path, self.table, self.positions = path, table, positions

    def line(self, key: str, index: int | None = None, inside: str = "") -> int:
        """The line of a key of the table, or of a key of its index-th `inside`; of what encloses it otherwise."""
        if index is None:
            parent, _, name = self.table.rpartition(".")
            below = f"{self.table}.{key}".lstrip(".")
            places = ((self.table, 0, key), (below, 0, ""), (self.table, 0, ""), (parent, 0, name))
            found = next((self.positions[place] for place in places if place in self.positions), 0)
        else:
            nested = f"{self.table}.{inside}" if self.table else inside
            found = self.positions.get((nested, index, key)) or self.positions.get((nested, index, ""))
            found = found or self.line(inside)
        return found or 1

    def refuse(self, line: int, what: str) -> SpecError:
        return SpecError(f"{shown(self.path)} line {line}: {what}")

    def config(self, said: Any) -> Config:
        if not isinstance(said, dict):
            raise self.refuse(self.line(""), f"{self.table} is a table with models and budgets")
        for key in said:
            if key not in ("models", "lock", "budget", "require_coverage"):
                known = ("models", "lock", "budget", "require_coverage")
                raise self.refuse(self.line(key), unknown("key", key, known))
        lock = said.get("lock", NAME)
        if not isinstance(lock, str) or not lock:
            raise self.refuse(self.line("lock"), "lock is the name of a file")
        coverage = said.get("require_coverage", False)
        if not isinstance(coverage, bool):
            raise self.refuse(self.line("require_coverage"), "require_coverage is true or false")
        folder = os.path.dirname(os.path.abspath(self.path))
        models = self.models(said["models"]) if "models" in said else None
        return Config(folder, self.path, models, self.budgets(said.get("budget", [])), lock, coverage)

    def models(self, said: Any) -> tuple[Target, ...]:
        line = self.line("models")
        if not isinstance(said, list):
            raise self.refuse(line, 'models is a list: ["alexnet", {model = "net.py:Net", input = "1x28x28"}]')
        out = []
        for one in said:
            line = self.positions.get(("", 0, f"in models {one if isinstance(one, str) else _name(one)}"), line)
            if isinstance(one, str) and one.strip():
                out.append(Target(one.strip(), {}, line))
            elif isinstance(one, dict) and isinstance(one.get("model"), str) and one["model"].strip():
                for key in one:
                    if key not in ("model", *ASKED):
                        raise self.refuse(line, unknown("key", key, ("model", *ASKED)))
                asked = {key: self.asked(key, one[key], line) for key in ASKED if key in one}
                out.append(Target(one["model"].strip(), sparse(asked), line))
            else:
                raise self.refuse(line, f'a model is "NAME" or {{model = "NAME", input = "…"}}, not {one!r}')
        return tuple(out)

    def budgets(self, said: Any) -> tuple[Budget, ...]:
        if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
            begins = f"[[{self.table}.budget]]" if self.table else "[[budget]]"
            raise self.refuse(self.line("budget"), f"a budget begins with {begins}")
        return tuple(self.budget(one, index) for index, one in enumerate(said))

    def budget(self, said: Mapping[str, Any], index: int) -> Budget:
        def line(key: str) -> int:
            return self.line(key, index, "budget")

        known = ("model", "message", *ASKED, *METRICS)
        for key in said:
            if key not in known:
                raise self.refuse(line(key), unknown("key", key, known))
        model, message = said.get("model"), said.get("message", "")
        if not isinstance(model, str) or not model.strip():
            raise self.refuse(line("model"), 'a budget says which model it is for: model = "NAME"')
        if not isinstance(message, str):
            raise self.refuse(line("message"), "message is a text")
        limits = []
        for key in METRICS:
            if key in said:
                try:
                    limits.append(limit_of(key, said[key])._replace(line=line(key)))
                except SpecError as error:
                    raise self.refuse(line(key), str(error)) from error
        if not limits:
            raise self.refuse(line(""), f"the budget of {model} has no limit: it may have {', '.join(METRICS)}")
        asked = {key: self.asked(key, said[key], line(key)) for key in ASKED if key in said}
        return Budget(model.strip(), sparse(asked), tuple(limits), message.strip(), line(""))

    def asked(self, key: str, value: Any, line: int) -> Any:
        if key == "input":
            fine = isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))
        else:
            fine = type(value) is bool if key == "train" else type(value) is int and value > 0
        if not fine:
            raise self.refuse(line, f"{key} is {ASKED[key]}, not {value!r}")
        return value


def _name(said: Any) -> Any:
    return said.get("model") if isinstance(said, dict) else said


def sparse(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for, without what says nothing; one input as a text, several as a list."""
    kept = {key: list(value) if isinstance(value, tuple) else value for key, value in asked.items() if value}
    if isinstance(kept.get("input"), list) and len(kept["input"]) == 1:
        kept["input"] = kept["input"][0]
    return kept


_HEADER = re.compile(r"\s*\[(\[)?\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*([A-Za-z0-9_"'.-]+)\s*=""")


def _positions(text: str) -> dict[tuple[str, int, str], int]:
    """Line numbers, which no TOML reader of the standard library gives: (table, its how-manieth, key) -> line.

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


def limit_of(metric: str, said: Any) -> Limit:
    """Read a limit: `"<= 3.5 M"`, `"<= +2 %"`, `"64 MB"`. Without a sign it is the most that may be.

    Raises SpecError on a metric that no total has, and on what is no limit.
    """
    if metric not in METRICS:
        raise SpecError(unknown("metric", metric, METRICS))
    in_bytes = METRICS[metric] == "B"
    example = '"<= 64 MB"' if in_bytes else '"<= 3.5 M"'
    text = said.strip() if isinstance(said, str) else ""
    read = _LIMIT.fullmatch(text)
    if type(said) is int:
        raise SpecError(f'{metric} = {said}: at most or exactly? write "<= {said}" or "== {said}"')
    if read is None:
        raise SpecError(f'{metric} = {said!r} is no limit: write {example}, or "<= +2 %" against the lock')
    sign, change, digits, unit = read.groups()
    if unit == "%" and not change:
        raise SpecError(f'{metric} = {said!r}: a percentage is a change against the lock, write "<= +{digits} %"')
    try:
        size = amount(digits) if unit == "%" else amount(digits + unit, in_bytes)
    except ValueError as error:
        raise SpecError(f"{metric} = {said!r}: {error}") from error
    of = "%" if unit == "%" else "+" if change else ""
    sign = _SIGNS.get(sign, sign)
    return Limit(metric, sign, -size if change in ("-", "−") else size, of, text if read[1] else f"<= {text}")


class Verdict(NamedTuple):
    """One limit, held against one model. bound: in units of the metric; None where the lock has nothing to compare."""

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
        _judged(limit, now.totals[limit.metric], before and before.totals[limit.metric], budget.message)
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
