"""Grade a worksheet: which cells are right, and which rule each wrong one missed.

A cell is compared with the truth first, and then with what follows from the sheet's own answer for the row before it:
that is an error carried over, not a second one. Of the sheet only its model, its input and the answers are read. Sheets
saved by a spreadsheet are read too: semicolons or tabs, quotes, a byte order mark, `1 x 96 x 55 x 55`, `96×55×55`,
`34.944`.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from archscope.core import limits
from archscope.core.arithmetic import evaluate
from archscope.core.cells import bars, separated, within
from archscope.core.errors import SpecError
from archscope.core.files import content
from archscope.core.record import Shape, Trace
from archscope.core.table import Column, Table
from archscope.layers import LAYERS, Derived
from archscope.learn.language import FIGURE, LanguageQuestion
from archscope.learn.language import asked as figures
from archscope.learn.language import missed as figure_missed
from archscope.learn.mistakes import NOT_DERIVED, OUTPUT, PARAMS, LayerCase, missed
from archscope.learn.quiz import Question, questions
from archscope.sources.records import record_of
from archscope.sources.spec import parse

UNKNOWN = "no rule that is known gives this"
RIGHT, CARRIED, WRONG, BLANK = "right", "carried over", "wrong", "not answered"
SUFFIXES = (".md", ".csv", ".tsv", ".txt")

# a network of the zoo or of a catalogue: building it runs no code of the user
_CATALOGUED = re.compile(r"((torchvision|timm|transformers):)?(?!.*\.(py|json|pt2)$)[\w.+-]+")


class Worksheet(NamedTuple):
    """A sheet as it was read. head: model and input. answers: layer -> cell -> text."""

    path: str
    head: Mapping[str, str]
    answers: Mapping[str, Mapping[str, str]]


class GradedCell(NamedTuple):
    """One cell, graded. reason: what was missed, without a full stop; empty where it is right."""

    layer: str
    cell: str
    answer: str
    truth: Any
    verdict: str
    reason: str = ""


# ------------------------------------------------------------------------------------------------- reading a sheet


def sheet_of(path: str) -> Worksheet:
    """Read a worksheet, Markdown or CSV. Raises SpecError where it is not one."""
    try:
        return _sheet(path, _decoded(content(path, limits.SHEET)))
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}") from error


def answers_lost(path: str, text: str) -> int:
    """How many answers of the worksheet in a file are gone when this text is written there; 0 for any other file."""
    if not os.path.isfile(os.path.expanduser(path)):
        return 0
    try:
        before, after = sheet_of(path).answers, _sheet(path, text).answers
    except SpecError:
        return 0
    return sum(
        bool(answer) and answer != after.get(layer, {}).get(cell)
        for layer, cells in before.items()
        for cell, answer in cells.items()
    )


def _sheet(path: str, text: str) -> Worksheet:
    try:
        lines = _md_lines(text) if re.search(r"^[ \t]*\|.*\|[ \t]*$", text, re.MULTILINE) else _csv_lines(text)
    except ValueError as error:
        raise SpecError(f"{path} is no worksheet that can be read: {error}") from error
    at = next((i for i, cells in enumerate(lines) if {"layer", OUTPUT, PARAMS} <= {c.lower() for c in cells}), 0)
    pairs = [[cell for cell in cells if cell] for cells in lines[:at]]
    head = {pair[0].lower(): pair[1] for pair in pairs if len(pair) == 2}
    if "model" not in head:
        raise SpecError(f"{path} is no worksheet: `archscope quiz MODEL --output {path}` writes one")
    keys = [cell.lower() for cell in lines[at]]
    answers: dict[str, dict[str, str]] = {}
    for cells in lines[at + 1 :]:
        row = dict(zip(keys, cells, strict=False))
        if row.get("layer"):
            answers.setdefault(row["layer"], {cell: row.get(cell, "") for cell in (OUTPUT, PARAMS, FIGURE)})
    return Worksheet(path, head, answers)


def _decoded(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def _md_lines(text: str) -> list[list[str]]:
    """The cells of a pipe table; a line `- model: ...` is a pair."""
    out = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line.startswith("|"):
            cells = [re.sub(r"\\([^\w\s]|_)", r"\1", cell).strip("`*") for cell in bars(line)]
            if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                out.append((number, cells))
        elif pair := re.match(r"[-*]\s*(\w+)\s*:\s*(.*)", line):
            out.append((number, [pair[1], pair[2].strip("`")]))
    return [cells for _, cells in within(out)]


def _csv_lines(text: str) -> list[list[str]]:
    first = next((line for line in text.splitlines() if "layer" in line.lower()), "")
    plain = re.compile(r"'(?=[=+@-]|::)")  # as `cell_text` writes what is no formula
    return [[plain.sub("", cell, count=1) for cell in cells] for _, cells in separated(text, ";\t,", first)]


# ------------------------------------------------------------------------------------------------- reading an answer


def _after_equals(text: str) -> str:
    """What stands behind the last `=`, with full-width digits as plain ones."""
    return unicodedata.normalize("NFKC", text.rpartition("=")[2]).strip()


def number_of(text: str) -> int | None:
    """`34,944`, `34.944`, `34 944`, `34944.0`, `11·11·3·96 + 96`, or the number behind the last `=`; None otherwise."""
    bare = re.sub(r"[\s'’_\u00a0\u2009\u202f]+", "", _after_equals(text))
    if re.search(rf"\d{{{limits.DIGITS + 1}}}", bare):
        return None
    if re.fullmatch(r"\d{1,3}(?:[.,]\d{3})+", bare):
        return int(re.sub(r"[.,]", "", bare))
    if re.fullmatch(r"\d+(?:[.,]0+)?", bare):
        return int(re.split(r"[.,]", bare)[0])
    sum_of_products = re.sub(r"[–−]", "-", re.sub(r"[·×xX⋅∙]", "*", bare))
    if not re.fullmatch(r"[\d+*()-]{1,200}", sum_of_products):
        return None
    try:
        value = evaluate(sum_of_products)
    except (SyntaxError, ValueError, TypeError):
        return None
    return value if isinstance(value, int) and 0 <= value < 10**limits.DIGITS else None


def shapes_of(text: str) -> list[Shape]:
    """The shapes that an answer can mean: `1 x 96 x 55 x 55`, `96×55×55`, `(1, 96, 55, 55)`, `4,096`."""
    text = re.sub(r"torch\.Size|[\[\](){}\"]", " ", _after_equals(text), flags=re.IGNORECASE).strip()
    parts = re.split(r"\s*[x×X✕⨯*·⋅]\s*", text)
    if len(parts) > 1:
        sides = tuple(side for part in parts if (side := number_of(part)) is not None)
        return [sides] if len(sides) == len(parts) <= limits.AXES else []
    listed, whole = [part for part in re.split(r"[,;\s]+", text) if part], number_of(text)
    plain = listed and all(part.isdecimal() and len(part) <= limits.DIGITS for part in listed)
    found = [tuple(map(int, listed))] if plain and len(listed) <= limits.AXES else []
    return list(dict.fromkeys([*found, *([(whole,)] if whole is not None else [])]))


# ---------------------------------------------------------------------------------------------------------- grading


class SheetInputs(NamedTuple):
    """The sheet's own numbers before a layer. row: the wrong row that it reads. case: the layer with those inputs."""

    row: str
    case: LayerCase

    @property
    def derived(self) -> Derived | None:
        try:
            return self.case.derived()
        except NOT_DERIVED:  # the layer refuses these inputs
            return None


def marked(trace: Trace, sheet: Worksheet) -> list[GradedCell]:
    """Every cell that was asked for, in the order of the sheet."""
    wrong: dict[str, Shape] = {}  # the sheet's shape of each row that is not right
    out = []
    for one in questions(trace):
        if not one.asked:
            continue
        given = sheet.answers.get(one.layer, {})
        own = _carried(one, wrong)
        shape = _mark(one, OUTPUT, given.get(OUTPUT, ""), own)
        out += [shape, _mark(one, PARAMS, given.get(PARAMS, ""), own)]
        if shape.verdict in (CARRIED, WRONG) and (read := shapes_of(given[OUTPUT])):
            batch = one.output[:1] if len(read[0]) == len(one.output) - 1 else ()
            wrong[one.layer] = (*batch, *read[0])
    out += [_figure(trace, one, sheet.answers.get(one.heading, {}).get(FIGURE, "")) for one in figures(trace)]
    return out


def _figure(trace: Trace, one: LanguageQuestion, answer: str) -> GradedCell:
    """Grade a figure of a language model, by what `verify-table` says of it."""
    mark = GradedCell(one.heading, FIGURE, answer, one.truth, WRONG)
    if not answer.strip():
        return mark._replace(verdict=BLANK)
    number = number_of(answer) if re.search(r"[·×*⋅∙=]", answer) else None
    found = figure_missed(trace.model, one.heading, answer if number is None else str(number))
    return mark._replace(verdict=RIGHT) if found is None else mark._replace(reason=found or UNKNOWN)


def _carried(one: Question, wrong: Mapping[str, Shape]) -> SheetInputs | None:
    """The layer with the inputs that follow from the sheet; None where all of them are right."""
    rows = [name.partition(" + ")[0] for name in one.after]
    named = [name for name, row in zip(one.after, rows, strict=True) if row in wrong]
    if not named:
        return None
    mine = [wrong.get(row) for row in rows[: len(one.shapes)]]
    shapes = (*(a or b for a, b in zip(mine, one.shapes, strict=False)), *one.shapes[len(mine) :])
    return SheetInputs(named[0], LayerCase(one.kind, _fitted(one, shapes[0]), shapes))


def _fitted(one: Question, shape: Shape) -> dict[str, Any]:
    """The configuration of a layer that takes another input: its channels or features in are those of the input."""
    config, n = dict(one.config), LAYERS[one.kind].sides
    if "in_channels" in config and len(shape) > n:
        if config["groups"] == config["in_channels"] > 1:  # depthwise
            config["groups"] = shape[-n - 1]
        config["in_channels"] = shape[-n - 1]
    for key, at in (("in_features", -1), ("input_size", -1), ("num_features", 1)):
        if key in config and len(shape) > 1:
            config[key] = shape[at]
    return config


def _mark(one: Question, cell: str, answer: str, own: SheetInputs | None) -> GradedCell:
    """Grade one cell: right, carried over from the sheet's own numbers, or wrong, with the rule that was missed."""
    truth: Any = one.output if cell == OUTPUT else one.params
    mark = GradedCell(one.layer, cell, answer, truth, WRONG)
    if not answer.strip():
        return mark._replace(verdict=BLANK)
    same: Callable[[Any], bool]
    if cell == OUTPUT:
        shapes = shapes_of(answer)
        if not shapes:
            return mark._replace(reason="this is no shape: write 96x55x55")
        same = lambda found: any(shape in (found, found[1:]) for shape in shapes)  # noqa: E731
    else:
        number = number_of(answer)
        if number is None:
            return mark._replace(reason="this is no number: write 34944 or 34,944")
        same = lambda found: found == number  # noqa: E731
    if same(truth):
        return mark._replace(verdict=RIGHT)
    derived = own and own.derived
    if own and derived and same(derived.shapes[0] if cell == OUTPUT else int(derived.params)):
        return mark._replace(verdict=CARRIED, reason=f"right by your own {own.row}")
    if found := missed(cell, LayerCase(one.kind, one.config, one.shapes), same):
        return mark._replace(reason=" or ".join(found[:2]))
    if own and (found := missed(cell, own.case, same)):
        return mark._replace(reason=f"{' or '.join(found[:2])}, counted on from your own {own.row}")
    return mark._replace(reason=UNKNOWN)


# ----------------------------------------------------------------------------------------------------------- tables

CELL_COLUMNS = (
    Column("layer", "Layer"),
    Column("cell", "Cell", priority=2),
    Column("answer", "Answer"),
    Column("truth", "Right", "shape"),
    Column("verdict", "Verdict", priority=1),
    Column("missed", "Missed", priority=1, below=True),
)
CELL_HIDDEN = (Column("sheet", "Sheet"), Column("model", "Model"))
SHEET_COLUMNS = (
    Column("sheet", "Sheet"),
    Column("model", "Model", priority=2),
    Column("cells", "Cells", "count", priority=3),
    Column("right", "Right", "count"),
    Column("carried", "Carried over", "count", priority=2),
    Column("wrong", "Wrong", "count"),
    Column("blank", "Not answered", "count", priority=1),
    Column("mark", "Mark", "share", means="Mark: right, or right by the sheet's own numbers, of all cells."),
    Column("missed", "Missed most", priority=4, below=True),
)
SHEET_HIDDEN = (Column("error", "Error"),)


def cell_table(sheet: Worksheet, model: str, marks: Sequence[GradedCell], everything: bool = False) -> Table:
    """The cells of one sheet that are not right, or all of them."""
    count = Counter(mark.verdict for mark in marks)
    rows = tuple(
        {"sheet": sheet.path, "model": model, **mark._asdict(), "answer": mark.answer or None, "missed": mark.reason}
        for mark in marks
        if everything or mark.verdict != RIGHT
    )
    parts = [f"{count[RIGHT]} of {len(marks)} cells are right"]
    parts += [f"{count[verdict]} {verdict}" for verdict in (CARRIED, WRONG, BLANK) if count[verdict]]
    return Table(f"{sheet.path}: {model}", CELL_COLUMNS, rows, notes=(", ".join(parts),), hidden=CELL_HIDDEN)


def sheet_row(sheet: str, model: str, marks: Sequence[GradedCell]) -> dict[str, Any]:
    """One sheet of the table of marks."""
    count = Counter(mark.verdict for mark in marks)
    rules = Counter(mark.reason.partition(", counted on")[0] for mark in marks if mark.verdict == WRONG)
    return {
        "sheet": sheet,
        "model": model,
        "cells": len(marks),
        "right": count[RIGHT],
        "carried": count[CARRIED],
        "wrong": count[WRONG],
        "blank": count[BLANK],
        "mark": (count[RIGHT] + count[CARRIED]) / len(marks) if marks else None,
        "missed": "; ".join(rule + (f" ({times}×)" if times > 1 else "") for rule, times in rules.most_common(2)),
    }


def sheet_table(listed: Iterable[Mapping[str, Any]]) -> Table:
    """Sheets in one table. One that cannot be read has its row too, with the reason."""
    rows = tuple(listed)
    notes = tuple(f"{row['sheet']}: {row['error']}" for row in rows if row.get("error"))
    return Table("Marks", SHEET_COLUMNS, rows, notes=notes, hidden=SHEET_HIDDEN)


# -------------------------------------------------------------------------------------------------------- the sheets


def sheets_in(paths: Sequence[str]) -> list[str]:
    """The files that were named, and the worksheets of the folders that were. Raises SpecError where there is none."""
    out: list[str] = []
    for path in paths:
        inside = [path]
        if Path(path).is_dir():
            inside = sorted(str(one) for one in Path(path).iterdir() if one.suffix.lower() in SUFFIXES)
            if not inside:
                raise SpecError(f"there is no worksheet ({', '.join(SUFFIXES)}) in {path}")
        out += inside
    return list(dict.fromkeys(out))


def trace_for(sheet: Worksheet, model: str | None = None, known: dict[Any, Trace] | None = None) -> Trace:
    """The trace of a sheet's network on its input. known: those that were traced already.

    model: the one that sheets have to name. Raises SpecError for a sheet of another model, and for one that names a
    file or module of Python: its code runs only where `model` names it.
    """
    named = sheet.head["model"]
    if model is not None and named != model:
        raise SpecError(f"{sheet.path} is a sheet of {named}, not of {model}")
    if model is None and not _CATALOGUED.fullmatch(named.partition("@")[0]):
        raise SpecError(
            f"{sheet.path} is of {named}, which grading would have to run: `--model {named}` says that you trust it"
        )
    text, batch = sheet.head.get("input", "default"), sheet.head.get("batch")
    if batch is not None and not batch.isdecimal():
        raise SpecError(f"{sheet.path} has the batch {batch!r}: it is a whole number, such as 1 or 2")
    spec, known = parse(named), {} if known is None else known
    given = None if text == "default" or spec.source.saved else text.split()
    key = (named, text, batch)
    if key not in known:
        known[key] = record_of(spec, given, int(batch) if batch else None)
    return known[key]
