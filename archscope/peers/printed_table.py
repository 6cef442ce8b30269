"""Somebody's comparison table -> rows of printed numbers.

    | Model      | Params (M) | FLOPs (G) |        model,#params,GMACs
    |------------|-----------:|----------:|        VGG-16,138M,15.5
    | ResNet-50  |       25.6 |       4.1 |        AlexNet,61.1e6,0.714

Markdown (every table of the file that has a column of figures) or CSV with any delimiter. A number keeps the rounding
that it was printed with. Its unit stands in the cell or in the heading; where it stands in neither, all usual units
remain possible. Nothing here knows a model.
"""

import re
import unicodedata
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from archscope.core import files, limits
from archscope.core.cells import Grid, bars, separated, within
from archscope.core.errors import SpecError
from archscope.peers.published import Rounded, rounded

THOUSAND, MILLION, BILLION = 10**3, 10**6, 10**9


class PrintedCell(NamedTuple):
    """One printed figure.

    quantity: by its heading "params", "macs" or "flops"; of a language model "cache", "active", "training" or "causal".
    heading, text: as printed. readings: unit and value, one where the unit is known; empty where the text is no number.
    """

    quantity: str
    heading: str
    text: str
    readings: tuple[tuple[int, Rounded], ...]


class Line(NamedTuple):
    """One row. number: of the line in the file. input: the side in its column of inputs, "" where there is none."""

    number: int
    model: str
    input: str
    cells: tuple[PrintedCell, ...]


def lines_of(path: str | Path) -> list[Line]:
    """The rows of the tables in a file. Raises SpecError where it cannot be read or holds no table of figures."""
    try:
        text = files.text(path, limits.TABLE, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not text in UTF-8: the table is in a Markdown or CSV file") from error
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        grids = _markdown(text) or _separated(text)
    except ValueError as error:
        raise SpecError(f"{path} holds no table that can be read: {error}") from error
    if not grids:
        raise SpecError(f"{path} holds no table: write Markdown (| Model | Params (M) | FLOPs (G) |) or CSV")
    found = [line for (_, heading), *body in grids for at, row in body if (line := _line(at, row, heading))]
    if not found:
        titles = dict.fromkeys(title for (_, heading), *_ in grids for title in heading if title)
        named = ", ".join(map(repr, titles)) or "none"
        raise SpecError(f"{path} has no column of parameters, MACs or FLOPs with rows under it; its headings: {named}")
    return found


# -------------------------------------------------------------------------------------------------------- the grid

# the first row of a grid is the heading

_RULE = re.compile(r"\|?(:?-+:?\|)*:?-+:?\|?")


def _markdown(text: str) -> list[Grid]:
    """The tables of a Markdown text: neighbouring lines with bars, of which one is a rule."""
    grids: list[Grid] = []
    for with_bars, group in groupby(enumerate(text.splitlines(), 1), lambda line: "|" in line[1]):
        block = list(group) if with_bars else []
        first = next((i for i, (_, line) in enumerate(block) if i and _is_rule(line)), None)
        if first is not None:
            grids.append(within((at, bars(line)) for at, line in block[first - 1 :] if not _is_rule(line)))
    return grids


def _is_rule(line: str) -> bool:
    return _RULE.fullmatch("".join(line.split())) is not None


def _separated(text: str) -> list[Grid]:
    """A CSV text as one table; none where its first line has no second cell."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    grid = separated(text, ",;\t|", first, skip=True)
    return [grid] if len(grid) > 1 and len(grid[0][1]) > 1 else []


# ----------------------------------------------------------------------------------------- headings, rows and cells

_ROLES = {  # what a heading says -> what its column holds, the first that fits; seven are quantities
    "cache": r"\bkv[ -]?cache\b",
    "active": r"\bactiv(?:e|ated)\b.*\bparam|\bparam.*\bactiv(?:e|ated)\b|^#?\s*active\b",
    "training": r"\btrain(?:ing)?\b.*\bflops?\b|\bflops?\b.*\btrain(?:ing)?\b",
    "causal": r"\bcausal\b.*(?:flop|macs?\b)|(?:flop|macs?\b).*\bcausal\b",
    "params": r"param|weights\b|model size",
    "macs": r"\bm?g?macs?\b|mac\b|macs\b|mult|mul-add|madd|m-add",
    "flops": r"flop|\bops\b|\bgops\b|complexity|computation|\bcost\b",
    "model": r"model|network|architecture|backbone|method|\bnet\b|\bname\b|variant",
    "input": r"resolution|input|image|img|crop|\bres\.?$|\bsize\b|side",
}
_UNITS = {  # usual
    "params": (MILLION, THOUSAND, 1),
    "macs": (BILLION, MILLION, 1),
    "flops": (BILLION, MILLION, 1),
    "cache": (1,),
    "active": (BILLION, MILLION, 1),
    "training": (BILLION, MILLION, 1),
    "causal": (BILLION, MILLION, 1),
}


def _role(title: str) -> str:
    """What a column holds, "" where that is of no interest."""
    plain = _plain(title).lower()
    role = next((role for role, pattern in _ROLES.items() if re.search(pattern, plain)), "")
    other = r"latency|time|speed|/s\b" + ("" if role == "cache" else r"|memory|\bmi?b\b")
    return "" if re.search(other, plain) else role


def unit_of(heading: str) -> int | None:
    """What a unit of a column is worth: `GFLOPs`, `(G)`, `/M`, `in M`, `millions`, `10^6`, `1e6`; None if unstated."""
    plain, count = _plain(heading).lower(), r"(?:flops?|macs?|ops|madds?)"
    for letters, word, power in (("gb", "billion", 9), ("m", "million", 6), ("k", "thousand", 3)):
        written = rf"10\^?{power}|1e\+?{power}|\b{word}s?\b|\b[{letters}]{count}\b|\bin [{letters}]\b"
        if re.search(rf"{written}|[(\[/,]\s*[{letters}](?:{count})?\s*(?:[)\]]|$)", plain):
            return 10**power
    return None


def _line(number: int, row: list[str], heading: list[str]) -> Line | None:
    """One row of a table; None where it has no name or no figure: a section's title, a rule."""
    row, roles = row + [""] * (len(heading) - len(row)), list(map(_role, heading))
    model = roles.index("model") if "model" in roles else next((i for i, role in enumerate(roles) if not role), 0)
    cells = [
        cell_of(title, text)
        for role, title, text in zip(roles, heading, row, strict=False)
        if role in _UNITS
        and _plain(text).lower() not in ("", "-", "--", "–", "—", "−", "n/a", "na", "?", "none", "tbd")
    ]
    sides = (_side(row[i]) for i, role in enumerate(roles) if role == "input" and i != model)
    name = _plain(row[model])
    return Line(number, name, next(filter(None, sides), ""), tuple(cells)) if name and cells else None


def cell_of(heading: str, text: str) -> PrintedCell:
    """A figure under a heading that names its quantity."""
    role = _role(heading)
    read = _bytes(text, heading) if role == "cache" else readings(text, unit_of(heading), role)
    return PrintedCell(role, _plain(heading), _plain(text), read)


def _side(text: str) -> str:
    """`224` of `224`, `224×224`, `224²`, `224 x 224 x 3`; the shape where the sides differ."""
    sides = re.fullmatch(r"(\d{2,4})(?:\s*×\s*(\d{2,4}))?(?:\s*×\s*3)?", _times(_plain(text)).replace("²", ""))
    if sides is None:
        return ""
    return sides[1] if sides[2] in (None, sides[1]) else f"{sides[1]}x{sides[2]}"


def _times(text: str) -> str:
    """With × for an x or * between digits."""
    return re.sub(r"(?<=\d)\s*[xX*](?=\s*\d)", "×", text)


def _plain(text: str) -> str:
    """A cell without Markdown, LaTeX and footnotes; powers as 10^9."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)  # a link
    text = re.sub(r"(?<=\d)\s*\*\s*(?=\d)", "×", text)
    text = re.sub(r"<sup>(\d+)</sup>", r"^\1", text)
    text = re.sub(r"\\(?:times|cdot)", "×", text)
    text = re.sub(r"<[^>]+>|\$|\\text[a-z]*|\\math[a-z]*|\\,|\\ |~", " ", text).replace("\\%", "%")
    text = re.sub(r"\^\{(\d+)\}", r"^\1", text)
    text = re.sub(r"10(?=[⁰¹²³⁴-⁹])", "10^", text)
    text = re.sub(r"(?<!\^)(?<![⁰¹³⁴-⁹])²", "\0", text)  # 224² is no power of ten
    text = unicodedata.normalize("NFKC", text).replace("\0", "²")
    text = re.sub(r"\*\*|__|`|[*†‡§¶]+|[{}]|\s\[\d+(?:\s*[,–-]\s*\d+)*\]", "", text)
    return " ".join(text.split())


_NUMBER = re.compile(
    r"[≈<>=±]*\s*(?P<digits>\d[\d,.' ]*?)\s*(?:×?\s*10\^?(?P<power>\d\d?)|e\+?(?P<e>\d\d?))?"
    r"\s*-?(?P<unit>k|m|g|b|t|thousand|million|billion|trillion)?"
    r"\s*-?(?:flops?|macs?|madds?|mult-adds?|ops|params?|parameters|weights)?(?:\s*\([^)]*\))?",
    re.IGNORECASE,
)
_WORTH = {"k": THOUSAND, "m": MILLION, "g": BILLION, "b": BILLION, "t": 10**12}


def readings(text: str, heading: int | None, quantity: str) -> tuple[tuple[int, Rounded], ...]:
    """What a printed number may mean: unit and value. heading: the unit of its column, None where that is not stated.

    A unit in the cell goes before that of the heading; a whole number above a million is in units of one, whatever
    the heading says. Empty where the text is no number.
    """
    found = _NUMBER.fullmatch(_times(_plain(text)))
    digits = _digits(found["digits"]) if found else None
    if found is None or digits is None:
        return ()
    power, unit = found["power"] or found["e"], found["unit"]
    if power or unit:
        units = (10 ** int(power or 0) * (_WORTH[unit[0].lower()] if unit else 1),)
    elif Fraction(digits) >= MILLION:
        units = (1,)
    else:
        units = (heading,) if heading else _UNITS[quantity]
    return tuple((worth, rounded(digits, scale=worth)) for worth in units)


_BYTES = re.compile(r"(?P<letter>[kmgt]?)(?P<binary>i?)b(?:ytes?)?", re.IGNORECASE)


def _bytes(text: str, heading: str) -> tuple[tuple[int, Rounded], ...]:
    """What a printed number of bytes is: `128 KiB`, `0.13 MB`; in the unit of its heading, `(GiB)`, else in bytes."""
    number = re.fullmatch(r"[≈~<>=±]*\s*(\d[\d,.' ]*)([a-zA-Z]*)", _plain(text))
    digits = _digits(number[1]) if number else None
    if number is None or digits is None or (number[2] and not _BYTES.fullmatch(number[2])):
        return ()
    named = re.findall(rf"\b{_BYTES.pattern}\b", number[2] or _plain(heading), re.IGNORECASE)
    letter, binary = max(named, key=lambda one: one[0] != "", default=("", ""))
    worth = (1024 if binary else 1000) ** " kmgt".index(letter.lower() or " ")
    return ((worth, rounded(digits, scale=worth)),)


def _digits(text: str) -> str | None:
    """A number with a decimal point and nothing else: 25.6 of `25.6` and `25,6`, 25557032 of `25,557,032`."""
    text = text.strip().rstrip(".,'")
    if re.fullmatch(r"\d{1,3}(?P<mark>[,' ])\d{3}(?:(?P=mark)\d{3})*(?:\.\d+)?", text):
        text = re.sub(r"[,' ]", "", text)
    elif re.fullmatch(r"\d+,\d+", text):
        text = text.replace(",", ".")
    return text if len(text) <= limits.DIGITS and re.fullmatch(r"\d+(?:\.\d+)?", text) else None
