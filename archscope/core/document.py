"""A document: sections with text, tables, derivations and notes; `formats/` writes it.

An `Equation` is one derivation as a textbook prints it: letters, numbers, result. A `Section` holds equations, tables
and notes under a title, a `Document` holds sections.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from archscope.core.expression import Expr, Number, result, symbol
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


def steps(equation: Equation, brief: bool = False, tex: bool = False) -> list[str]:
    """The parts between the equals signs: `h_out`, letters, numbers, result; as text or as LaTeX maths."""
    number = equation.number
    left = tex_name(equation.letter) if tex else equation.letter
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


def tex_name(letter: str) -> str:
    """`h_out = w_out` -> `h_{\\mathrm{out}} = w_{\\mathrm{out}}`."""
    return " = ".join(symbol(part, 0).latex for part in letter.split(" = ")) if letter else ""


def _tex_result(number: Number) -> str:
    value = number.value if isinstance(number, Expr) else number
    if isinstance(value, Fraction) and value.denominator != 1:
        return rf"\frac{{{value.numerator}}}{{{value.denominator}}} = {float(value):.4g}"
    return f"{int(value):,}".replace(",", "{,}")


def inline(one: Equation, escape: Callable[[str], str]) -> str:
    """A brief equation within text: `parameters: $5 \\cdot 5 = 25$`. escape: of the format."""
    maths = " = ".join(steps(one, brief=True, tex=True))
    return f"{escape(one.name)}: ${maths}${f' {one.unit}' if one.unit else ''}"
