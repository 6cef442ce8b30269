"""A worksheet that someone filled in, marked: which cells are right, and which rule each wrong one missed.

A row is judged by the truth first, and then by the sheet's own answer for the row before it: what is right by one's own
numbers is an error carried over, not a second one. The sheet says which model and input it is of; what it gives of
kernels and strides is not read. Sheets may have been through a spreadsheet: semicolons or tabs, quotes, a byte order
mark, `1 x 96 x 55 x 55`, `96×55×55`, `34.944`.
"""

import ast
import csv as csv_format
import io
import operator
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from archscope.core.errors import ShapeError, SpecError
from archscope.core.record import Shape, Trace
from archscope.core.table import Column, Table, unknown
from archscope.layers import derive
from archscope.learn.mistakes import OUTPUT, PARAMS, Anything, missed
from archscope.learn.quiz import Question, questions
from archscope.sources.records import record_of
from archscope.sources.spec import parse

RIGHT, CARRIED, WRONG, BLANK = "right", "carried over", "wrong", "not answered"

# a name of the zoo or of a catalogue: naming it runs nobody's own code
_CATALOGUED = re.compile(r"((torchvision|timm):)?(?!.*\.(py|json|pt2)$)[\w.+-]+")
SUFFIXES = (".md", ".csv", ".tsv", ".txt")


class Sheet(NamedTuple):
    """A sheet as it was read. told: model and input. answers: layer -> cell -> what stands in it."""

    path: str
    told: Mapping[str, str]
    answers: Mapping[str, Mapping[str, str]]


class Mark(NamedTuple):
    """One cell, marked. said: what was missed, a sentence without its full stop; empty where it is right."""

    layer: str
    cell: str
    answer: str
    truth: Any
    verdict: str
    said: str = ""


# ------------------------------------------------------------------------------------------------- reading a sheet


def sheet_of(path: str) -> Sheet:
    """Read a worksheet, Markdown or CSV. Raises SpecError for what is none."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}") from error
    text = _decoded(raw)
    lines = _md_lines(text) if re.search(r"^\s*\|.*\|\s*$", text, re.MULTILINE) else _csv_lines(text)
    at = next(
        (i for i, cells in enumerate(lines) if {"layer", *map(str.lower, (OUTPUT, PARAMS))} <= _lowered(cells)), None
    )
    told = {key.lower(): value for key, value in (_pair(cells) for cells in lines[: at or 0]) if key}
    if at is None or "model" not in told:
        raise SpecError(f"{path} is no worksheet: `archscope quiz MODEL --output {path}` writes one")
    keys = [cell.strip().lower() for cell in lines[at]]
    answers: dict[str, dict[str, str]] = {}
    for cells in lines[at + 1 :]:
        row = dict(zip(keys, (cell.strip() for cell in cells), strict=False))
        if row.get("layer"):
            answers.setdefault(row["layer"], {cell: row.get(cell, "") for cell in (OUTPUT, PARAMS)})
    return Sheet(path, told, answers)


def _decoded(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def _lowered(cells: Sequence[str]) -> set[str]:
    return {cell.strip().lower() for cell in cells}


def _md_lines(text: str) -> list[list[str]]:
    """The cells of a pipe table; a line `- model: ...` is a pair."""
    out = []
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("|"):
            cells = [cell.strip().strip("`*") for cell in line.strip("|").split("|")]
            if not all(re.fullmatch(r":?-*:?", cell) and cell for cell in cells):
                out.append(cells)
        elif pair := re.match(r"[-*]\s*(\w+)\s*:\s*(.*)", line):
            out.append([pair[1], pair[2].strip().strip("`")])
    return out


def _csv_lines(text: str) -> list[list[str]]:
    first = next((line for line in text.splitlines() if "layer" in line.lower()), "")
    delimiter = max(";\t,", key=first.count)
    return [cells for cells in csv_format.reader(io.StringIO(text), delimiter=delimiter) if any(cells)]


def _pair(cells: Sequence[str]) -> tuple[str, str]:
    filled = [cell.strip() for cell in cells if cell.strip()]
    return (filled[0], filled[1]) if len(filled) == 2 else ("", "")


# ------------------------------------------------------------------------------------------------- reading an answer

_SPACES = re.compile(r"[\s'’_\u00a0\u2009\u202f]+")
_GROUPED = re.compile(r"\d{1,3}(?:[.,]\d{3})+")


def number_of(text: str) -> int | None:
    """`34,944`, `34.944`, `34 944`, `34944.0`, `11·11·3·96 + 96` or what stands behind the last `=`; else None."""
    text = unicodedata.normalize("NFKC", text.rpartition("=")[2]).strip()
    bare = _SPACES.sub("", text)
    if _GROUPED.fullmatch(bare):
        return int(re.sub(r"[.,]", "", bare))
    if re.fullmatch(r"\d+(?:[.,]0+)?", bare):
        return int(re.split(r"[.,]", bare)[0])
    return _worked(re.sub(r"[·×xX⋅∙]", "*", bare).replace("−", "-").replace("–", "-"))


_SIGNS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def _worked(text: str) -> int | None:
    """A sum of products, worked out; None for anything else."""
    if not re.fullmatch(r"[\d+*()-]{1,200}", text):
        return None
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _value(node: ast.AST) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
        return _SIGNS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("no arithmetic")


def shapes_of(text: str) -> list[Shape]:
    """The shapes that an answer can be read as: `1 x 96 x 55 x 55`, `96×55×55`, `(1, 96, 55, 55)`, `4,096`."""
    text = unicodedata.normalize("NFKC", text.rpartition("=")[2]).strip()
    text = re.sub(r"torch\.Size|[\[\](){}\"]", " ", text, flags=re.IGNORECASE).strip()
    parts = re.split(r"\s*[x×X✕⨯*·⋅]\s*", text)
    if len(parts) > 1:
        sides = [number_of(part) for part in parts]
        return [] if None in sides else [tuple(side for side in sides if side is not None)]
    found = []
    listed = [part for part in re.split(r"[,;\s]+", text) if part]
    if listed and all(part.isdecimal() for part in listed):
        found.append(tuple(map(int, listed)))
    whole = number_of(text)
    return [*found, *([(whole,)] if whole is not None and (whole,) not in found else [])]


# ---------------------------------------------------------------------------------------------------------- marking


def marked(trace: Trace, sheet: Sheet) -> list[Mark]:
    """Every cell that was asked for, in the order of the sheet."""
    own: dict[str, Shape] = {}  # the sheet's shape of each row, where it is another than the true one
    out = []
    for one in questions(trace):
        if not one.asked:
            continue
        given = sheet.answers.get(one.layer, {})
        before = _own_inputs(one, own)
        shape = _output(one, given.get(OUTPUT, ""), before)
        out += [shape, _params(one, given.get(PARAMS, ""), before)]
        if shape.verdict in (CARRIED, WRONG) and (read := shapes_of(given[OUTPUT])):
            own[one.layer] = _with_batch(read[0], one.output)
    return out


def _own_inputs(one: Question, own: Mapping[str, Shape]) -> tuple[str, tuple[Shape, ...]] | None:
    """The row whose wrong shape this one reads, and the inputs by the sheet; None where all are right."""
    names = {name: own[part] for name in one.after for part in (name.partition(" + ")[0],) if part in own}
    if not names:
        return None
    by_name = [own.get(name.partition(" + ")[0]) for name in one.after]
    shapes = list(one.shapes)
    for i, mine in enumerate(by_name):
        if mine is not None and i < len(shapes):
            shapes[i] = mine
    return next(iter(names)), tuple(shapes)


def _with_batch(shape: Shape, truth: Shape) -> Shape:
    return (*truth[:1], *shape) if len(shape) == len(truth) - 1 else shape


def _same_shape(answers: Sequence[Shape], found: Any) -> bool:
    if isinstance(found, set):
        return any(_same_shape(answers, one) for one in found)
    return isinstance(found, tuple) and any(answer in (found, found[1:]) for answer in answers)


def _same_number(answer: int, found: Any) -> bool:
    return isinstance(found, Anything) or answer == found or (isinstance(found, set) and answer in found)


def _fitted(one: Question, shapes: tuple[Shape, ...]) -> dict[str, Any]:
    """The configuration of a layer that takes other inputs: its channels or features in are theirs."""
    config, shape = dict(one.config), shapes[0]
    n = int(one.kind[-2]) if one.kind[-2:-1].isdigit() else 0
    if "in_channels" in config and len(shape) > n:
        deep = config["groups"] == config["in_channels"] > 1
        config["in_channels"] = shape[-n - 1]
        if deep:
            config["groups"] = shape[-n - 1]
    for key, at in (("in_features", -1), ("input_size", -1), ("num_features", 1)):
        if key in config and len(shape) > 1:
            config[key] = shape[at]
    return config


def _found(one: Question, before: tuple[str, tuple[Shape, ...]] | None) -> Any:
    """The closed form by the sheet's own inputs, None where it refuses them."""
    if before is None:
        return None
    try:
        return derive(one.kind, _fitted(one, before[1]), before[1])
    except (ShapeError, LookupError, TypeError, ValueError, ArithmeticError):
        return None


def _output(one: Question, answer: str, before: tuple[str, tuple[Shape, ...]] | None) -> Mark:
    mark = Mark(one.layer, OUTPUT, answer, one.output, BLANK)
    if not answer.strip():
        return mark
    read = shapes_of(answer)
    if not read:
        return mark._replace(verdict=WRONG, said="this is no shape: write 96x55x55")
    if _same_shape(read, one.output):
        return mark._replace(verdict=RIGHT)
    own = _found(one, before)
    if before is not None and own is not None and _same_shape(read, own.shapes[0]):
        return mark._replace(verdict=CARRIED, said=f"right by your own {before[0]}")
    return mark._replace(verdict=WRONG, said=_why(OUTPUT, read, one, before, _same_shape))


def _params(one: Question, answer: str, before: tuple[str, tuple[Shape, ...]] | None) -> Mark:
    mark = Mark(one.layer, PARAMS, answer, one.params, BLANK)
    if not answer.strip():
        return mark
    read = number_of(answer)
    if read is None:
        return mark._replace(verdict=WRONG, said="this is no number: write 34944 or 34,944")
    if read == one.params:
        return mark._replace(verdict=RIGHT)
    own = _found(one, before)
    if before is not None and own is not None and read == int(own.params):
        return mark._replace(verdict=CARRIED, said=f"right by your own {before[0]}")
    return mark._replace(verdict=WRONG, said=_why(PARAMS, read, one, before, _same_number))


def _why(cell: str, read: Any, one: Question, before: tuple[str, tuple[Shape, ...]] | None, same: Any) -> str:
    """The rule that was missed, by the sheet's own inputs or by the true ones."""
    if found := missed(cell, read, one.kind, one.config, one.shapes, same):
        return " or ".join(found[:2])
    if before is not None and (found := missed(cell, read, one.kind, _fitted(one, before[1]), before[1], same)):
        return f"{' or '.join(found[:2])}, counted on from your own {before[0]}"
    return "no rule that is known gives this"


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


def cell_table(sheet: Sheet, model: str, marks: Sequence[Mark], everything: bool = False) -> Table:
    """The cells of one sheet that are not right, or all of them."""
    count = Counter(mark.verdict for mark in marks)
    shown = [
        {
            "sheet": sheet.path,
            "model": model,
            "layer": mark.layer,
            "cell": mark.cell,
            "answer": mark.answer or None,
            "truth": mark.truth,
            "verdict": mark.verdict,
            "missed": mark.said,
        }
        for mark in marks
        if everything or mark.verdict != RIGHT
    ]
    told = [f"{count[RIGHT]} of {len(marks)} cells are right"]
    told += [f"{count[key]} {key}" for key in (CARRIED, WRONG, BLANK) if count[key]]
    notes = (", ".join(told),)
    return Table(f"{sheet.path}: {model}", CELL_COLUMNS, tuple(shown), notes=notes, hidden=CELL_HIDDEN)


def sheet_row(sheet: str, model: str, marks: Sequence[Mark]) -> dict[str, Any]:
    """One sheet of the table of marks."""
    count = Counter(mark.verdict for mark in marks)
    rules = Counter(mark.said.partition(", counted on")[0] for mark in marks if mark.verdict == WRONG)
    most = "; ".join(f"{rule} ({times}×)" if times > 1 else rule for rule, times in rules.most_common(2))
    return {
        "sheet": sheet,
        "model": model,
        "cells": len(marks),
        "right": count[RIGHT],
        "carried": count[CARRIED],
        "wrong": count[WRONG],
        "blank": count[BLANK],
        "mark": (count[RIGHT] + count[CARRIED]) / len(marks) if marks else None,
        "missed": most,
    }


def sheet_table(listed: Iterable[Mapping[str, Any]]) -> Table:
    """Sheets side by side. One that cannot be read has its row too, with the reason."""
    found = tuple(listed)
    notes = tuple(f"{row['sheet']}: {row['error']}" for row in found if row.get("error"))
    return Table("Marks", SHEET_COLUMNS, found, notes=notes, hidden=SHEET_HIDDEN)


# -------------------------------------------------------------------------------------------------------- the sheets


def sheets_in(paths: Sequence[str]) -> list[str]:
    """The files that were named, and the worksheets of the folders that were. Raises SpecError where there is none."""
    out: list[str] = []
    for path in paths:
        if Path(path).is_dir():
            inside = sorted(
                str(one) for one in Path(path).iterdir() if one.suffix.lower() in (".md", ".csv", ".tsv", ".txt")
            )
            if not inside:
                raise SpecError(f"there is no worksheet (.md, .csv, .tsv, .txt) in {path}")
            out += inside
        else:
            out.append(path)
    return list(dict.fromkeys(out))


def trace_for(sheet: Sheet, model: str | None = None, known: dict[Any, Trace] | None = None) -> Trace:
    """The network that a sheet is of, run on its input. known: those that were run already.

    model: what the sheets have to be of. Raises SpecError for a sheet of another model, and for one that names a file
    or a module of Python, which would be run: only `model` may do that.
    """
    named = sheet.told["model"]
    if model is not None and named != model:
        raise SpecError(f"{sheet.path} is a sheet of {named}, not of {model}")
    if model is None and not _CATALOGUED.fullmatch(named.partition("@")[0]):
        raise SpecError(
            f"{sheet.path} is of {named}, which grading would have to run: `--model {named}` says that you trust it"
        )
    spec = parse(named)
    text, batch = sheet.told.get("input", "default"), sheet.told.get("batch")
    if batch is not None and not batch.isdecimal():
        raise SpecError(unknown("batch", batch, ("1", "2")))
    given = None if text == "default" or spec.source.saved else text.split()
    key = (named, text, batch)
    known = {} if known is None else known
    if key not in known:
        known[key] = record_of(spec, given, int(batch) if batch else None)
    return known[key]
