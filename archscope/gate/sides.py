"""What `archscope diff A B` compares: two models, two locks, two revisions of a lock in git, or one of each.

diff alexnet vgg16               two models, run now
diff old.lock new.lock           two files
diff main..HEAD                  archscope.lock as it is in two revisions; A...B begins where they parted
diff main                        a revision and the file as it is now
diff archscope.lock resnet50     a model as it is locked and as it is now
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.formats import text_of
from archscope.core.table import Table
from archscope.gate.budget import Target, sparse
from archscope.gate.changes import LAYER_COLUMNS, MODEL_COLUMNS, layers_table, models_table, totals_table
from archscope.gate.drift import Drift, drift_of
from archscope.gate.judge import run
from archscope.gate.lock import Entry, parse, read, shown
from archscope.sources.spec import parse as parse_model

MODEL = ""  # the name under which a side that is a single model is compared


@dataclass(frozen=True)
class ComparedSide:
    """One side: how it is called, and its models. one: whether it is a single model, run now."""

    name: str
    models: Mapping[str, Entry]
    one: bool = False


@dataclass(frozen=True)
class Comparison:
    """Two sides, model by model. drifts: of those that both have and that differ. same: how many do not."""

    before: ComparedSide
    after: ComparedSide
    drifts: tuple[Drift, ...]
    same: int

    @property
    def title(self) -> str:
        return f"{self.before.name} → {self.after.name}"

    def tables(self) -> list[Table]:
        """The models that only one side has, the totals and the layers that changed."""
        none: dict[str, Entry] = {}
        models = models_table(none, none) if self.before.one else models_table(self.before.models, self.after.models)
        return [models, totals_table(self.drifts), layers_table(self.drifts)]


def layers(drifts: Sequence[Drift], title: str = "") -> Table:
    """All layers that changed, each with its model, for --columns and csv."""
    table = layers_table(drifts)
    hidden = tuple(column for column in table.hidden if column.key != "model")
    return replace(table, title=title, columns=LAYER_COLUMNS, hidden=hidden)


def comparison_text(found: Comparison, format: str, **options: Any) -> str:
    """A comparison in one of the formats of tables: what changed; csv: the layers only; json: an object."""
    tables = found.tables()
    if format == "json":
        content = {table.title.lower(): json.loads(text_of(table, "json")) for table in tables}
        both = {"before": found.before.name, "after": found.after.name, "same": found.same}
        return json.dumps(both | content, indent=2, ensure_ascii=False) + "\n"
    if format == "csv":
        return text_of(layers(found.drifts), "csv")
    filled = [table for table in tables if table.rows]
    if not filled:
        count = "" if found.before.one or found.same == 1 else f"all {found.same} models are "
        note = Table(found.title, MODEL_COLUMNS, ()) if format in ("latex", "html") else None
        return text_of(note, format) if note else f"{found.title}: {count}the same\n"
    filled[0] = replace(filled[0], title=f"{found.title}: {filled[0].title.lower()}")
    return "\n".join(text_of(table, format, **options) for table in filled)


def comparison(a: str, b: str | None, path: str, asked: Mapping[str, Any] | None = None) -> Comparison:
    """What changed from A to B. path: the lock that a revision is of. asked: the input of models that are run.

    Raises SpecError for what is no model, no lock and no revision, and whatever running a model raises.
    """
    before, after = _sides(a, b, path, dict(asked or {}))
    if before.one != after.one:
        before, after = _one_of(before, after)
    drifts = [drift_of(entry, after.models[name]) for name, entry in before.models.items() if name in after.models]
    changed = tuple(drift for drift in drifts if drift)
    return Comparison(before, after, changed, len(drifts) - len(changed))


def _sides(a: str, b: str | None, path: str, asked: dict[str, Any]) -> tuple[ComparedSide, ComparedSide]:
    if b is not None:
        asked = sparse(asked)
        return _side(a, path, asked or _locked_input(a, b)), _side(b, path, asked or _locked_input(b, a))
    if ".." in a and not os.path.isfile(a):
        dots = "..." if "..." in a else ".."
        start, _, end = a.partition(dots)
        start, end = start or "HEAD", end or "HEAD"
        if dots == "...":
            start = _git(path, "merge-base", _revision(start, path), _revision(end, path)).strip()[:12]
        return _locked(start, path), _locked(end, path)
    if os.path.isfile(a) and _is_lock(a):
        raise SpecError(f"{a} and what? `archscope diff {a} OTHER.lock`")
    if _is_revision(a, path):
        return _locked(a, path), ComparedSide(shown(path), read(path))
    raise SpecError(f"{a!r} is no git revision; two models are compared as `archscope diff {a} OTHER`")


def _side(text: str, path: str, asked: Mapping[str, Any]) -> ComparedSide:
    if os.path.isfile(text) and _is_lock(text):
        return ComparedSide(text, read(text))
    try:
        parse_model(text)
    except ArchscopeError as error:
        if _is_revision(text, path):
            return _locked(text, path)
        if text.endswith(".lock"):
            raise SpecError(f"there is no {text}") from error
        raise SpecError(f"{text!r} is no lock, no git revision and no model: {error}") from error
    return ComparedSide(text, {MODEL: run(Target(text, asked))}, one=True)


def _locked_input(model: str, other: str) -> Mapping[str, Any]:
    """The input that a model is locked with, where the other side is a lock: a model of a file may have none itself."""
    if not os.path.isfile(other) or not _is_lock(other):
        return {}
    entry = read(other).get(model)
    return {} if entry is None else entry.asked


def _one_of(before: ComparedSide, after: ComparedSide) -> tuple[ComparedSide, ComparedSide]:
    """A lock and a model: the model as the lock has it."""
    lock, model = (after, before) if before.one else (before, after)
    name = model.models[MODEL].model
    if name not in lock.models:
        raise SpecError(f"{lock.name} has no model {name!r}")
    entry = lock.models[name]
    there = ComparedSide(f"{name} in {lock.name}", {MODEL: entry}, one=True)
    if entry.asked and not model.models[MODEL].asked:  # run as it was locked
        model = ComparedSide(model.name, {MODEL: run(Target(name, entry.asked))}, one=True)
    return (model, there) if before.one else (there, model)


def _is_lock(path: str) -> bool:
    """Whether a file is a lock or means to be one."""
    if path.endswith(".lock"):
        return True
    try:
        with open(path, "rb") as stream:  # `isfile` said that it is no pipe
            return stream.read(64).lstrip(b"\xef\xbb\xbf").startswith(b'{"archscope_lock"')
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}") from error


# ------------------------------------------------------------------------------------------------------------ git


def _locked(revision: str, path: str) -> ComparedSide:
    """A lock as it is in a revision."""
    _revision(revision, path)
    try:
        text = _git(path, "show", f"{revision}:./{os.path.basename(path)}")
    except SpecError as error:
        raise SpecError(f"{revision} has no {shown(path)}") from error
    return ComparedSide(revision, parse(text, f"{shown(path)} in {revision}"))


def _is_revision(text: str, path: str) -> bool:
    with suppress(SpecError):
        return bool(_revision(text, path))
    return False


def _revision(text: str, path: str) -> str:
    """The commit of a revision. Raises SpecError where there is none."""
    with suppress(SpecError):
        if not text.startswith("-"):
            return _git(path, "rev-parse", "--verify", "--quiet", f"{text}^{{commit}}").strip()
    raise SpecError(f"{text!r} is no git revision here")


def _git(path: str, *arguments: str) -> str:
    """The output of git in the folder of a file. Raises SpecError where git fails or is not installed."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        command = ["git", "-C", folder, *arguments]
        ran = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except OSError as error:
        raise SpecError(f"git cannot be run: {error.strerror or error}") from error
    if ran.returncode:
        raise SpecError(f"git {arguments[0]} failed: {' '.join(ran.stderr.split())}")
    return ran.stdout
