"""Worked derivations on a page: what is said, and how each format writes it.

A `Line` is one derivation, written as a textbook does: the letters, the numbers, the result. A `Section` is a layer or
a comparison, a `Page` is what `archscope explain` prints. One function a format, each `Page -> str`, each ending in one
newline: the terminal; Markdown with `$$…$$` as GitHub renders it; LaTeX, a document for pdflatex; JSON, the raw values.
"""

import json as json_format
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from archscope.core.expression import Expr, Number, result, symbol
from archscope.core.formats import escaped
from archscope.core.registry import Registry


class Line(NamedTuple):
    """One derivation. name: of what. letter: its symbol, `h_out`, empty where it has none. source: of the rule."""

    name: str
    number: Number
    letter: str = ""
    source: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Section:
    """One layer, or one comparison.

    about: sentences under the title. notes: sentences under the derivations. letters: what each letter of the
    derivations stands for; empty where the reader has been told. brief: the numbers without the letters. facts: raw
    values that only JSON carries.
    """

    title: str
    about: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()
    letters: Mapping[str, str] = field(default_factory=dict)
    brief: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """Sections under a title. caption: how it was counted, on what, with which versions."""

    title: str
    sections: tuple[Section, ...]
    about: tuple[str, ...] = ()
    caption: str = ""

    @property
    def sources(self) -> dict[str, int]:
        """The sources of the rules, numbered in the order in which they are met; brief sections name none."""
        full = (section for section in self.sections if not section.brief)
        met = (line.source for section in full for line in section.lines if line.source)
        return {source: i for i, source in enumerate(dict.fromkeys(met), start=1)}


WRITERS: Registry[Callable[..., str]] = Registry("format")
writer = WRITERS.register


def steps(line: Line, brief: bool = False) -> list[str]:
    """What stands between the signs of equality: `h_out`, the letters, the numbers, the result."""
    number = line.number
    if not isinstance(number, Expr):
        worked = [result(number)]
    elif number.plain:
        worked = [*([] if line.letter else number.leaves), result(number)]
    else:
        worked = [number.digits, result(number)]
        worked = worked if brief or number.symbols == number.digits else [number.symbols, *worked]
    return [*([line.letter] if line.letter else []), *(w for i, w in enumerate(worked) if w not in worked[:i])]


def meanings(section: Section) -> list[str]:
    """`m = 227: side of the input`, for every letter of the section that has a meaning."""
    values: dict[str, list[str]] = {}
    for line in section.lines:
        for letter, value in line.number.leaves.items() if isinstance(line.number, Expr) else ():
            if f"{value:,}" not in values.setdefault(letter, []):
                values[letter].append(f"{value:,}")
    told = {letter: " and ".join(seen) for letter, seen in values.items() if letter in section.letters}
    return [f"{letter} = {seen}: {section.letters[letter]}" for letter, seen in told.items()]


# ----------------------------------------------------------------------------------------------------- terminal

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_WIDEST = 110  # text in longer lines is hard to read


@writer("terminal")
def terminal(page: Page, width: int | None = None, color: bool = False) -> str:
    """For a terminal of `width` columns; None: not a terminal, no derivation is broken. ANSI codes with `color`."""
    bold, dim, plain = (_BOLD, _DIM, _PLAIN) if color else ("", "", "")
    numbers = page.sources

    def folded(text: str, first: str = "", rest: str = "") -> list[str]:
        return textwrap.wrap(
            text, min(width or _WIDEST, _WIDEST), initial_indent=first, subsequent_indent=rest, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip

    out = [f"{bold}{page.title}{plain}", *(one for text in page.about for one in folded(text))]
    for section in page.sections:
        out += ["", f"{bold}{section.title}{plain}", *(one for text in section.about for one in folded(text))]
        names = max([len(line.name) for line in section.lines], default=0)
        if section.lines and not section.brief:
            out.append("")
        for line in section.lines:
            mark = f"  [{numbers[line.source]}]" if line.source and not section.brief else ""
            lead = f"  {line.name:<{names}}  "
            told = steps(line, section.brief)
            room = None if width is None else width - len(lead) - len(mark)
            whole = " = ".join(told) + (f" {line.unit}" if line.unit else "")
            if room is None or len(whole) <= room or len(told) == 1:
                out.append(f"{lead}{whole}{dim}{mark}{plain if mark else ''}")
                continue
            first, *broken = told
            at = f"\n{' ' * (len(lead) + (len(first) if line.letter else -1))} = "
            first = f"{first} = {broken.pop(0)}" if line.letter else first
            whole = at.join([first, *broken]) + (f" {line.unit}" if line.unit else "")
            out.append(f"{lead}{whole}{dim}{mark}{plain if mark else ''}")
        if where := meanings(section):
            kept = [text.replace(" = ", "\u00a0=\u00a0", 1) for text in where]  # on one line
            out += ["", *(one.replace("\u00a0", " ") for one in folded(f"where {'; '.join(kept)}.", "  ", "  "))]
        if section.notes:
            out += [""] * (not section.brief)
            out += [one for note in section.notes for one in folded(note, "· ", "  ")]
    if numbers:
        out += ["", f"{bold}Sources{plain}"]
        out += [one for source, i in numbers.items() for one in folded(source, f"[{i}] ", "    ")]
    if page.caption:
        out += ["", *(f"{dim}{one}{plain}" for one in folded(page.caption))]
    return "\n".join(out) + "\n"


# ----------------------------------------------------------------------------------------------------- LaTeX maths


def tex_name(letter: str) -> str:
    """`h_out = w_out` -> `h_{\\mathrm{out}} = w_{\\mathrm{out}}`."""
    return " = ".join(symbol(part, 0).latex for part in letter.split(" = "))


def tex_steps(line: Line, brief: bool = False) -> list[str]:
    """The same as `steps`, as LaTeX maths."""
    number = line.number
    left = [tex_name(line.letter)] if line.letter else []
    if not isinstance(number, Expr):
        return [*left, _tex_result(number)]
    if number.plain:
        return [*(left or [number.latex] * bool(number.leaves)), _tex_result(number)]
    worked = [number.latex_digits, _tex_result(number)]
    worked = worked if brief or number.latex == number.latex_digits else [number.latex, *worked]
    return [*left, *(w for i, w in enumerate(worked) if w not in worked[:i])]


def _tex_result(number: Number) -> str:
    value = number.value if isinstance(number, Expr) else number
    if isinstance(value, Fraction) and value.denominator != 1:
        return rf"\frac{{{value.numerator}}}{{{value.denominator}}} = {float(value):.4g}"
    return f"{int(value):,}".replace(",", "{,}")


# ----------------------------------------------------------------------------------------------------- markdown


@writer("md")
def md(page: Page) -> str:
    """Markdown for GitHub: every derivation a block of maths, a brief one in a line of its own."""
    numbers = page.sources
    blocks = [f"# {escaped(page.title, 'md')}", *(escaped(text, "md") for text in page.about)]
    for section in page.sections:
        blocks += [f"## {escaped(section.title, 'md')}", *(escaped(text, "md") for text in section.about)]
        if section.brief:
            blocks.append("\n".join(f"- {_md_inline(line)}" for line in section.lines))
        for line in () if section.brief else section.lines:
            mark = f" [{numbers[line.source]}]" if line.source else ""
            unit = rf"\ \text{{{line.unit}}}" if line.unit else ""
            blocks.append(f"**{escaped(line.name, 'md')}**{mark}")
            blocks.append(f"$$\n{' = '.join(tex_steps(line))}{unit}\n$$")
        if where := meanings(section):
            blocks.append("\n".join(f"- {_md_meaning(text)}" for text in where))
        blocks.append("\n".join(f"> {escaped(note, 'md')}\n>" for note in section.notes).removesuffix("\n>"))
    if numbers:
        blocks += ["## Sources", "\n".join(f"- [{i}] {escaped(source, 'md')}" for source, i in numbers.items())]
    blocks.append(f"*{escaped(page.caption, 'md')}*" if page.caption else "")
    return "\n\n".join(block for block in blocks if block) + "\n"


def _md_inline(line: Line) -> str:
    maths = " = ".join(tex_steps(line, brief=True))
    return f"{escaped(line.name, 'md')}: ${maths}${f' {line.unit}' if line.unit else ''}"


def _md_meaning(text: str) -> str:
    letter, _, meaning = text.partition(" = ")
    return f"${tex_name(letter)}$ = {escaped(meaning, 'md')}"


# -------------------------------------------------------------------------------------------------------- LaTeX

_PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{amsmath, amssymb}
\usepackage[margin=25mm]{geometry}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
\allowdisplaybreaks
\begin{document}"""


@writer("latex")
def latex(page: Page) -> str:
    """A document for pdflatex: a derivation is a step a line, aligned at the signs of equality."""
    numbers = page.sources

    def said(text: str) -> str:
        return escaped(text, "latex")

    out = [_PREAMBLE, rf"\section*{{{said(page.title)}}}", *(said(text) + r"\par" for text in page.about)]
    for section in page.sections:
        out += [rf"\subsection*{{{said(section.title)}}}", *(said(text) + r"\par" for text in section.about)]
        if section.brief and section.lines:
            out += [r"\begin{itemize}", *(rf"\item {_tex_inline(line)}" for line in section.lines), r"\end{itemize}"]
        for line in () if section.brief else section.lines:
            mark = f" [{numbers[line.source]}]" if line.source else ""
            first, *rest = tex_steps(line)
            if line.letter and rest:
                first = f"{first} ={{}}& {rest.pop(0)}"
            else:
                first = f"& {first}"
            rows = [first, *(f"={{}}& {step}" for step in rest)]
            rows[-1] += rf"\ \text{{{said(line.unit)}}}" if line.unit else ""
            out += [rf"\textbf{{{said(line.name)}}}{mark}", r"\begin{align*}", " \\\\\n".join(rows), r"\end{align*}"]
        if where := meanings(section):
            out.append(f"where {'; '.join(map(_tex_meaning, where))}." + r"\par")
        if section.notes:
            out += [r"\begin{itemize}", *(rf"\item {said(note)}" for note in section.notes), r"\end{itemize}"]
    if numbers:
        out.append(r"\subsection*{Sources}")
        out += [rf"[{i}] {said(source)}\par" for source, i in numbers.items()]
    if page.caption:
        out.append(rf"\medskip{{\footnotesize {said(page.caption)}\par}}")
    return "\n".join([*out, r"\end{document}"]) + "\n"


def _tex_inline(line: Line) -> str:
    maths = " = ".join(tex_steps(line, brief=True))
    return f"{escaped(line.name, 'latex')}: ${maths}${f' {line.unit}' if line.unit else ''}"


def _tex_meaning(text: str) -> str:
    letter, _, meaning = text.partition(" = ")
    return f"${tex_name(letter)} = {meaning.partition(':')[0].replace(',', '{,}')}$: {meaning.partition(': ')[2]}"


# --------------------------------------------------------------------------------------------------------- JSON


@writer("json")
def json(page: Page) -> str:
    """The sections with their derivations: letters, digits, LaTeX and the raw value of each."""
    body = {
        "title": page.title,
        "sections": [
            {
                "title": section.title,
                **section.facts,
                "lines": [_json_line(line) for line in section.lines],
                "notes": list(section.notes),
            }
            for section in page.sections
        ],
    }
    return json_format.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _json_line(line: Line) -> dict[str, Any]:
    number = line.number if isinstance(line.number, Expr) else symbol(str(line.number), line.number)
    value = number.value
    return {
        "quantity": line.name,
        "letter": line.letter or None,
        "symbols": number.symbols,
        "digits": number.digits,
        "latex": number.latex,
        "value": float(value) if isinstance(value, Fraction) and value.denominator != 1 else int(value),
        "source": line.source or None,
    }
