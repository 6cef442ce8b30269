"""Somebody's comparison table -> rows of printed numbers.

    | Model      | Params (M) | FLOPs (G) |        model,#params,GMACs
    |------------|-----------:|----------:|        VGG-16,138M,15.5
    | ResNet-50  |       25.6 |       4.1 |        AlexNet,61.1e6,0.714

Markdown (every table of the file that has a column of figures) or CSV with any delimiter. A number keeps the rounding
that it was printed with; its unit may stand in the cell, in the heading, or nowhere: then it is left open, as a list of
the units that it may be in. Nothing here knows a model.
"""

import csv
import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from archscope.core.errors import SpecError
from archscope.peers.published import Rounded, rounded

THOUSAND, MILLION, BILLION = 10**3, 10**6, 10**9


class Cell(NamedTuple):
    """One printed figure.

    quantity: "params", "macs" or "flops", by its heading. heading, text: as printed. readings: unit and value, one
    where the unit is known; empty where the text is no number.
    """

    quantity: str
    heading: str
    text: str
    readings: tuple[tuple[int, Rounded], ...]


class Line(NamedTuple):
    """One row. number: of the line in the file. input: the side that a column of it gives, "" where there is none."""

    number: int
    model: str
    input: str
    cells: tuple[Cell, ...]


def lines_of(path: str | Path) -> list[Line]:
    """The rows of the tables in a file. Raises SpecError where it cannot be read or holds no table of figures."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not text in UTF-8: the table is in a Markdown or CSV file") from error
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}") from error
    grids = [grid for grid in (_markdown(text) or _separated(text)) if grid]
    if not grids:
        raise SpecError(f"{path} holds no table: write Markdown (| Model | Params (M) | FLOPs (G) |) or CSV")
    found, headings = [], []
    for (_, heading), *body in grids:
        roles = [_role(title) for title in heading]
        headings += heading
        if set(roles) & FIGURES.keys():
            found += [line for at, cells in body if (line := _line(at, cells, heading, roles))]
    if not found:
        named = ", ".join(repr(title) for title in dict.fromkeys(headings) if title) or "none"
        raise SpecError(f"{path} has no column of parameters, MACs or FLOPs with rows under it; its headings: {named}")
    return found


# -------------------------------------------------------------------------------------------------------- the grid

Grid = list[tuple[int, list[str]]]  # line in the file, and its cells; the first one is the heading

_RULE = re.compile(r"\s*\|?(\s*:?-+:?\s*\|)*\s*:?-+:?\s*\|?\s*")


def _markdown(text: str) -> list[Grid]:
    """The tables of a Markdown text: a line with bars, a rule under it, and what follows with bars."""
    lines = text.splitlines()
    grids: list[Grid] = []
    inside = False
    for i, line in enumerate(lines):
        if "|" not in line:
            inside = False
        elif not inside and i + 1 < len(lines) and "|" in lines[i + 1] and _RULE.fullmatch(lines[i + 1]):
            grids.append([(i + 1, _bars(line))])
            inside = True
        elif inside and not _RULE.fullmatch(line):
            grids[-1].append((i + 1, _bars(line)))
    return grids


def _bars(line: str) -> list[str]:
    inner = line.strip().removeprefix("|")
    inner = inner.removesuffix("|") if not inner.endswith("\\|") else inner
    return [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", inner)]


def _separated(text: str) -> list[Grid]:
    """A CSV text as one table; empty where its first line has no second cell."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t|", key=first.count)
    try:
        rows = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
        grid = [(rows.line_num, [cell.strip() for cell in row]) for row in rows]
    except csv.Error:
        return []
    grid = [(number, row) for number, row in grid if any(row)]
    return [grid] if len(grid) > 1 and len(grid[0][1]) > 1 else []


# ----------------------------------------------------------------------------------------------------- the headings

FIGURES = {  # what a heading says -> the quantity, in this order
    "params": r"param|weights\b|model size",
    "macs": r"\bm?g?macs?\b|mac\b|macs\b|mult|mul-add|madd|m-add",
    "flops": r"flop|\bops\b|\bgops\b|complexity|computation|\bcost\b",
}
_OTHERS = {
    "model": r"model|network|architecture|backbone|method|\bnet\b|\bname\b|variant",
    "input": r"resolution|input|image|img|crop|\bres\.?$|\bsize\b|side",
}


def _role(title: str) -> str:
    """What a column holds, "" where that is of no interest."""
    plain = _plain(title).lower()
    for role, pattern in {**FIGURES, **_OTHERS}.items():
        if re.search(pattern, plain):
            return "" if re.search(r"latency|time|speed|/s\b|memory|\bmi?b\b", plain) else role
    return ""


def _unit(letters: str, words: str, power: int) -> str:
    """What says a unit in a heading: `GFLOPs`, `(G)`, `/M`, `in M`, `millions`, `10^6`, `1e6`."""
    count = r"(?:flops?|macs?|ops|madds?)"
    return (
        rf"10\^?{power}|1e\+?{power}|\b{words}s?\b|\b[{letters}]{count}\b|\bin [{letters}]\b"
        rf"|[(\[/,]\s*[{letters}](?:{count})?\s*(?:[)\]]|$)"
    )


_HEADING_UNITS = (
    (_unit("gb", "billion", 9), BILLION),
    (_unit("m", "million", 6), MILLION),
    (_unit("k", "thousand", 3), THOUSAND),
)


def unit_of(heading: str) -> int | None:
    """What a unit of a column is worth, None where its heading does not say."""
    plain = _plain(heading).lower()
    return next((worth for pattern, worth in _HEADING_UNITS if re.search(pattern, plain)), None)


# --------------------------------------------------------------------------------------------------------- the rows


def _line(number: int, row: list[str], heading: list[str], roles: list[str]) -> Line | None:
    """One row of a table; None where it has no name or no figure: a section's title, a rule."""
    row = row + [""] * (len(heading) - len(row))
    at = roles.index("model") if "model" in roles else next((i for i, role in enumerate(roles) if not role), 0)
    cells = [
        Cell(role, _plain(heading[i]), _plain(row[i]), readings(row[i], unit_of(heading[i]), role))
        for i, role in enumerate(roles)
        if role in FIGURES and not is_blank(row[i])
    ]
    sides = [_side(row[i]) for i, role in enumerate(roles) if role == "input" and i != at]
    name = _plain(row[at])
    return Line(number, name, next(filter(None, sides), ""), tuple(cells)) if name and cells else None


def is_blank(text: str) -> bool:
    """Whether a cell says that there is no figure."""
    return _plain(text).lower() in ("", "-", "--", "–", "—", "−", "n/a", "na", "?", "none", "tbd")


def _side(text: str) -> str:
    """`224` of `224`, `224×224`, `224²`, `224 x 224 x 3`; the shape where the sides differ."""
    plain = _times(_plain(text)).replace("²", "")
    sides = re.fullmatch(r"(\d{2,4})(?:\s*×\s*(\d{2,4}))?(?:\s*×\s*3)?", plain)
    if sides is None:
        return ""
    return sides[1] if sides[2] in (None, sides[1]) else f"{sides[1]}x{sides[2]}"


_POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


def _times(text: str) -> str:
    """With × for an x or * between digits."""
    return re.sub(r"(?<=\d)\s*[xX*](?=\s*\d)", "×", text)


def _plain(text: str) -> str:
    """A cell without Markdown, LaTeX and footnotes; powers as 10^9."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)  # a link
    text = re.sub(r"(?<=\d)\s*\*\s*(?=\d)", "×", text)
    text = re.sub(r"<sup>(\d+)</sup>", r"^\1", text)
    text = re.sub(r"<[^>]+>|\$|\\text[a-z]*|\\math[a-z]*|\\,|\\ |~", " ", text)
    text = text.replace("\\times", "×").replace("\\cdot", "×").replace("\\%", "%")
    text = re.sub(r"\^\{(\d+)\}", r"^\1", text)
    text = re.sub(r"10([⁰¹²³⁴-⁹]+)", lambda m: "10^" + m[1].translate(_POWERS), text)
    text = unicodedata.normalize("NFKC", text.replace("²", "\0")).replace("\0", "²")
    text = re.sub(r"\*\*|__|`|[*†‡§¶]+|[{}]|\s\[\d+(?:\s*[,–-]\s*\d+)*\]", "", text)
    return " ".join(text.split())


# ------------------------------------------------------------------------------------------------------ the numbers

_NUMBER = re.compile(
    r"[≈<>=±]*\s*(?P<digits>\d[\d,.' ]*?)\s*(?:×?\s*10\^?(?P<power>\d\d?)|e\+?(?P<e>\d\d?))?"
    r"\s*-?(?P<unit>k|m|g|b|t|thousand|million|billion|trillion)?"
    r"\s*-?(?:flops?|macs?|madds?|mult-adds?|ops|params?|parameters|weights)?(?:\s*\([^)]*\))?",
    re.IGNORECASE,
)
_WORTH = {"k": THOUSAND, "m": MILLION, "g": BILLION, "b": BILLION, "t": 10**12}
OPEN = {"params": (MILLION, THOUSAND, 1), "macs": (BILLION, MILLION, 1), "flops": (BILLION, MILLION, 1)}  # unsaid


def readings(text: str, heading: int | None, quantity: str) -> tuple[tuple[int, Rounded], ...]:
    """What a printed number may mean: unit and value. heading: the unit of its column, None where that is not said.

    A unit in the cell goes before that of the heading; a whole number above a million is in units of one, whatever
    the heading says. Empty where the text is no number.
    """
    found = _NUMBER.fullmatch(_times(_plain(text)))
    if found is None:
        return ()
    digits = _digits(found["digits"])
    if digits is None:
        return ()
    power, unit = found["power"] or found["e"], found["unit"]
    if power or unit:
        worth = 10 ** int(power or 0) * (_WORTH[unit[0].lower()] if unit else 1)
        return ((worth, rounded(digits, scale=worth)),)
    if Fraction(digits) >= MILLION:
        return ((1, rounded(digits)),)
    return tuple((worth, rounded(digits, scale=worth)) for worth in ((heading,) if heading else OPEN[quantity]))


def _digits(text: str) -> str | None:
    """A number with a decimal point and nothing else: 25.6 of `25.6` and `25,6`, 25557032 of `25,557,032`."""
    text = text.strip().rstrip(".,'")
    if len(text) > 24:
        return None
    if re.fullmatch(r"\d{1,3}(?P<mark>[,' ])\d{3}(?:(?P=mark)\d{3})*(?:\.\d+)?", text):
        return re.sub(r"[,' ]", "", text)
    if re.fullmatch(r"\d+,\d+", text):
        return text.replace(",", ".")
    return text if re.fullmatch(r"\d+(?:\.\d+)?", text) else None


def quantities(lines: Iterable[Line]) -> list[str]:
    """The quantities that a table has a column of."""
    return list(dict.fromkeys(cell.quantity for line in lines for cell in line.cells))
