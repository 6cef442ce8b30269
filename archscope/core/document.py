"""A document: sections with text, tables, derivations and notes. The one place that writes it in each format.

An `Equation` is one derivation as a textbook prints it: letters, numbers, result. A `Section` holds equations, tables
and notes under a title, a `Document` holds sections. One writer a format, each `Document -> str`, each ending in one
newline: the terminal; Markdown with `$$…$$` as GitHub renders it; LaTeX, a document for pdflatex; JSON, the raw values.
"""

import json as json_format
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from archscope.core.expression import Expr, Number, result, symbol
from archscope.core.formats import RENDERERS, escaped
from archscope.core.registry import Registry
from archscope.core.table import Table


class Equation(NamedTuple):
    """One derivation. name: the quantity. letter: its symbol, `h_out`, or empty. source: where the rule is from."""

    name: str
    number: Number
    letter: str = ""
    source: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Section:
    """A title and what belongs to it.

    about: paragraphs under the title. equations, tables. notes: remarks, a list. letters: the meaning of each letter
    in the equations. brief: equations without letters and sources. facts: raw values, for JSON only.
    """

    title: str
    about: tuple[str, ...] = ()
    equations: tuple[Equation, ...] = ()
    notes: tuple[str, ...] = ()
    letters: Mapping[str, str] = field(default_factory=dict)
    brief: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Document:
    """Sections under a title. about: paragraphs under the title. caption: how it was counted, with which versions."""

    title: str
    sections: tuple[Section, ...]
    about: tuple[str, ...] = ()
    caption: str = ""

    @property
    def sources(self) -> dict[str, int]:
        """The sources of the equations, numbered in order of appearance; brief sections name none."""
        full = (section for section in self.sections if not section.brief)
        named = (one.source for section in full for one in section.equations if one.source)
        return {source: i for i, source in enumerate(dict.fromkeys(named), start=1)}


WRITERS: Registry[Callable[..., str]] = Registry("format")
writer = WRITERS.register


def steps(equation: Equation, brief: bool = False, tex: bool = False) -> list[str]:
    """The parts between the equals signs: `h_out`, letters, numbers, result; as text or as LaTeX maths."""
    number = equation.number
    left = _tex_name(equation.letter) if tex else equation.letter
    last = _tex_result(number) if tex else result(number)
    if not isinstance(number, Expr):
        parts = [last]
    else:
        letters = number.latex if tex else number.symbols
        digits = number.latex_digits if tex else number.digits
        if number.plain:
            parts = [letters, last] if number.leaves and not left else [last]
        else:
            parts = [digits, last] if brief or letters == digits else [letters, digits, last]
    return [*([left] if left else []), *dict.fromkeys(parts)]


def meanings(section: Section) -> list[tuple[str, str, str]]:
    """`("m", "227", "side of the input")` for every letter of the section that has a meaning."""
    values: dict[str, dict[str, None]] = {}
    for one in section.equations:
        for letter, value in one.number.leaves.items() if isinstance(one.number, Expr) else ():
            values.setdefault(letter, {})[f"{value:,}"] = None
    return [(x, " and ".join(of), section.letters[x]) for x, of in values.items() if x in section.letters]


# ----------------------------------------------------------------------------------------------------- terminal

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_WIDEST = 110  # text in longer lines is hard to read


@writer("terminal")
def terminal(document: Document, width: int | None = None, color: bool = False) -> str:
    """For a terminal of `width` columns; None: not a terminal, no equation is broken. ANSI codes with `color`."""
    bold, dim, plain = (_BOLD, _DIM, _PLAIN) if color else ("", "", "")
    numbers = document.sources

    def folded(texts: Iterable[str], first: str = "", rest: str = "") -> list[str]:
        wrap = textwrap.TextWrapper(
            min(width or _WIDEST, _WIDEST), initial_indent=first, subsequent_indent=rest, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip
        return [line for text in texts for line in wrap.wrap(text)]

    out = [f"{bold}{document.title}{plain}", *folded(document.about)]
    for section in document.sections:
        out += ["", f"{bold}{section.title}{plain}", *folded(section.about)]
        names = max([len(one.name) for one in section.equations], default=0)
        if section.equations and not section.brief:
            out.append("")
        for one in section.equations:
            mark = f"  [{numbers[one.source]}]" if one.source and not section.brief else ""
            lead = f"  {one.name:<{names}}  "
            parts, unit = steps(one, section.brief), f" {one.unit}" if one.unit else ""
            whole = " = ".join(parts) + unit
            if width is not None and len(lead) + len(whole) + len(mark) > width and len(parts) > 1:
                indent = len(lead) + (len(parts[0]) if one.letter else -1)
                first = " = ".join(parts[: 2 if one.letter else 1])
                whole = f"\n{' ' * indent} = ".join([first, *parts[2 if one.letter else 1 :]]) + unit
            out.append(f"{lead}{whole}{dim}{mark}{plain if mark else ''}")
        out += [line for table in section.tables for line in ("", RENDERERS["terminal"](table, width, color)[:-1])]
        if where := [f"{x}\u00a0=\u00a0{value}: {meaning}" for x, value, meaning in meanings(section)]:
            lines = folded([f"where {'; '.join(where)}."], "  ", "  ")  # "m = 227" stays on one line
            out += ["", *(line.replace("\u00a0", " ") for line in lines)]
        if section.notes:
            out += [*([] if section.brief else [""]), *folded(section.notes, "· ", "  ")]
    if numbers:
        out += ["", f"{bold}Sources{plain}"]
        out += [line for source, i in numbers.items() for line in folded([source], f"[{i}] ", "    ")]
    if document.caption:
        out += ["", *(f"{dim}{line}{plain}" for line in folded([document.caption]))]
    return "\n".join(out) + "\n"


# ----------------------------------------------------------------------------------------------------- LaTeX maths


def _tex_name(letter: str) -> str:
    """`h_out = w_out` -> `h_{\\mathrm{out}} = w_{\\mathrm{out}}`."""
    return " = ".join(symbol(part, 0).latex for part in letter.split(" = ")) if letter else ""


def _tex_result(number: Number) -> str:
    value = number.value if isinstance(number, Expr) else number
    if isinstance(value, Fraction) and value.denominator != 1:
        return rf"\frac{{{value.numerator}}}{{{value.denominator}}} = {float(value):.4g}"
    return f"{int(value):,}".replace(",", "{,}")


def _in_a_line(one: Equation, format: str) -> str:
    """`parameters: $5 \\cdot 5 = 25$`."""
    maths = " = ".join(steps(one, brief=True, tex=True))
    return f"{escaped(one.name, format)}: ${maths}${f' {one.unit}' if one.unit else ''}"


# ----------------------------------------------------------------------------------------------------- markdown


@writer("md")
def md(document: Document) -> str:
    """Markdown for GitHub: every equation a block of maths, a brief one in a line of its own."""
    numbers = document.sources

    def text(text: str) -> str:
        return escaped(text, "md")

    blocks = [f"# {text(document.title)}", *map(text, document.about)]
    for section in document.sections:
        blocks += [f"## {text(section.title)}", *map(text, section.about)]
        if section.brief:
            blocks.append("\n".join(f"- {_in_a_line(one, 'md')}" for one in section.equations))
        for one in () if section.brief else section.equations:
            mark = f" [{numbers[one.source]}]" if one.source else ""
            unit = rf"\ \text{{{one.unit}}}" if one.unit else ""
            blocks.append(f"**{text(one.name)}**{mark}")
            blocks.append(f"$$\n{' = '.join(steps(one, tex=True))}{unit}\n$$")
        blocks += [RENDERERS["md"](table).rstrip("\n") for table in section.tables]
        where = [f"- ${_tex_name(x)}$ = {text(f'{value}: {meaning}')}" for x, value, meaning in meanings(section)]
        blocks += ["\n".join(where), "\n>\n".join(f"> {text(note)}" for note in section.notes)]
    if numbers:
        blocks += ["## Sources", "\n".join(f"- [{i}] {text(source)}" for source, i in numbers.items())]
    blocks.append(f"*{text(document.caption)}*" if document.caption else "")
    return "\n\n".join(block for block in blocks if block) + "\n"


# -------------------------------------------------------------------------------------------------------- LaTeX

_PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{amsmath, amssymb, booktabs}
\usepackage[margin=25mm]{geometry}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
\allowdisplaybreaks
\begin{document}"""


@writer("latex")
def latex(document: Document) -> str:
    """A document for pdflatex: a step a line, aligned at the equals signs."""
    numbers = document.sources

    def text(text: str) -> str:
        return escaped(text, "latex")

    def paragraphs(texts: Iterable[str]) -> list[str]:
        return [text(one) + r"\par" for one in texts]

    def items(texts: Iterable[str]) -> list[str]:
        listed = [rf"\item {one}" for one in texts]
        return [r"\begin{itemize}", *listed, r"\end{itemize}"] if listed else []

    out = [_PREAMBLE, rf"\section*{{{text(document.title)}}}", *paragraphs(document.about)]
    for section in document.sections:
        out += [rf"\subsection*{{{text(section.title)}}}", *paragraphs(section.about)]
        out += items(_in_a_line(one, "latex") for one in section.equations) if section.brief else []
        for one in () if section.brief else section.equations:
            mark = f" [{numbers[one.source]}]" if one.source else ""
            first, *rest = steps(one, tex=True)
            first = f"{first} ={{}}& {rest.pop(0)}" if one.letter and rest else f"& {first}"
            rows = [first, *(f"={{}}& {step}" for step in rest)]
            rows[-1] += rf"\ \text{{{text(one.unit)}}}" if one.unit else ""
            out += [rf"\textbf{{{text(one.name)}}}{mark}", r"\begin{align*}", " \\\\\n".join(rows), r"\end{align*}"]
        out += [RENDERERS["latex"](table).rstrip("\n") for table in section.tables]
        if where := meanings(section):
            each = (f"${_tex_name(x)} = {value.replace(',', '{,}')}$: {meaning}" for x, value, meaning in where)
            out.append(f"where {'; '.join(each)}." + r"\par")
        out += items(map(text, section.notes))
    if numbers:
        out.append(r"\subsection*{Sources}")
        out += [rf"[{i}] {text(source)}\par" for source, i in numbers.items()]
    if document.caption:
        out.append(rf"\medskip{{\footnotesize {text(document.caption)}\par}}")
    return "\n".join([*out, r"\end{document}"]) + "\n"


# --------------------------------------------------------------------------------------------------------- JSON


@writer("json")
def json(document: Document) -> str:
    """The sections with their equations: letters, digits, LaTeX and the raw value of each; tables as their rows."""
    sections = []
    for section in document.sections:
        body = {"title": section.title, **section.facts, "lines": list(map(_json_equation, section.equations))}
        if section.tables:
            body["tables"] = [json_format.loads(RENDERERS["json"](table)) for table in section.tables]
        sections.append({**body, "notes": list(section.notes)})
    return json_format.dumps({"title": document.title, "sections": sections}, indent=2, ensure_ascii=False) + "\n"


def _json_equation(one: Equation) -> dict[str, Any]:
    number = one.number if isinstance(one.number, Expr) else symbol(str(one.number), one.number)
    value = number.value
    return {
        "quantity": one.name,
        "letter": one.letter or None,
        "symbols": number.symbols,
        "digits": number.digits,
        "latex": number.latex,
        "value": float(value) if isinstance(value, Fraction) and value.denominator != 1 else int(value),
        "source": one.source or None,
    }
