"""Polynomials with integer coefficients in letters and in floors: what a side or a count is for every input size.

    H = letter("H")
    pool5 = ((((H - 11) // 4 + 1 - 3) // 2 + 1 - 3) // 2 + 1 - 3) // 2 + 1
    pool5.text           ⌊(H − 35)/32⌋
    pool5.value({"H": 227})     6

`//` rounds down, also below 0, and divides by a positive number. Every expression is kept in one form, so that two
that are equal by the rules below are equal as values: like terms are added up, what a division leaves no remainder of
stands before its floor, and nested floors are one,

    ⌊(⌊x/a⌋ + c)/b⌋ = ⌊(x + a·c)/(a·b)⌋

(Graham, Knuth, Patashnik: Concrete Mathematics, equation 3.11). This file needs the standard library only.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any, Union


@dataclass(frozen=True)
class Letter:
    """A size that is not known yet: H."""

    name: str


@dataclass(frozen=True)
class Floor:
    """⌊of / by⌋, `by` above 1."""

    of: "Poly"
    by: int


@dataclass(frozen=True)
class Minimum:
    """The smallest of several."""

    parts: tuple["Poly", ...]


ORDER = ("N", "T", "D", "H", "W")  # in which letters are written

Atom = Letter | Floor | Minimum
Powers = tuple[Atom, ...]  # a product, each factor as often as it occurs, in order of their text
Whole = Union["Poly", int]


@dataclass(frozen=True)
class Poly:
    """terms: each product with its coefficient, none of them 0, in order; the empty product is the constant."""

    terms: tuple[tuple[Powers, int], ...]

    def __add__(self, other: Whole) -> "Poly":
        return _sum([*self.terms, *_poly(other).terms])

    __radd__ = __add__

    def __sub__(self, other: Whole) -> "Poly":
        return self + -1 * _poly(other)

    def __rsub__(self, other: int) -> "Poly":
        return other + -1 * self

    def __mul__(self, other: Whole) -> "Poly":
        return _sum([(_ordered(a + b), m * n) for a, m in self.terms for b, n in _poly(other).terms])

    __rmul__ = __mul__

    def __floordiv__(self, by: int) -> "Poly":
        return _floor(self, by)

    @property
    def constant(self) -> int | None:
        """The number that it is, None where it depends on a letter."""
        if not self.terms:
            return 0
        (powers, number), *more = self.terms
        return number if not powers and not more else None

    @property
    def letters(self) -> frozenset[str]:
        """The letters in it."""
        return frozenset(name for powers, _ in self.terms for atom in powers for name in _letters(atom))

    def value(self, of: Mapping[str, int]) -> int:
        """The number for these letters. Raises KeyError for a letter that is not among them."""
        total = 0
        for powers, number in self.terms:
            for atom in powers:
                number *= _value(atom, of)
            total += number
        return total

    def replaced(self, by: Mapping[str, "Poly"]) -> "Poly":
        """The same with some letters written out."""
        total = Poly(())
        for powers, number in self.terms:
            term = _poly(number)
            for atom in powers:
                term = term * _replaced(atom, by)
            total = total + term
        return total

    @property
    def text(self) -> str:
        """For people: `34,848·h1·w1`, `⌊(H − 35)/32⌋`."""
        return _write(self, PLAIN)

    @property
    def latex(self) -> str:
        """LaTeX maths, without the dollars."""
        return _write(self, LATEX)

    @property
    def code(self) -> str:
        """For machines: an expression of Python, `(H - 35)//32`."""
        return _write(self, CODE)

    def __repr__(self) -> str:
        return f"<Poly {self.text}>"


def letter(name: str) -> Poly:
    """A size that is not known yet."""
    return Poly((((Letter(name),), 1),))


def number(value: int) -> Poly:
    """A size that is."""
    return _poly(value)


def product(factors: Iterable[Whole]) -> Poly:
    """The product of all factors, 1 of none."""
    return functools.reduce(lambda done, factor: done * factor, factors, _poly(1))


def least(*parts: Poly) -> Poly:
    """The smallest of several: one of them where they differ by a constant."""
    kept: list[Poly] = []
    for part in parts:
        for i, other in enumerate(kept):
            apart = (part - other).constant
            if apart is not None:
                kept[i] = part if apart < 0 else other
                break
        else:
            kept.append(part)
    return kept[0] if len(kept) == 1 else Poly((((Minimum(tuple(sorted(kept, key=lambda p: p.text))),), 1),))


def _poly(value: Whole) -> Poly:
    return value if isinstance(value, Poly) else Poly((((), value),) if value else ())


@functools.lru_cache(maxsize=1 << 14)
def _key(atom: Atom) -> tuple[int, int, str]:
    if not isinstance(atom, Letter):
        return (2, 0, _atom(atom, PLAIN)[0])
    name = atom.name.rstrip("0123456789")
    place = f"{ORDER.index(name.upper())}" if name.upper() in ORDER else name
    return (0 if name.isupper() else 1, int(atom.name[len(name) :] or 0), place)


def _ordered(powers: Powers) -> Powers:
    return tuple(sorted(powers, key=_key)) if len(powers) > 1 else powers


def _sum(terms: list[tuple[Powers, int]]) -> Poly:
    counts: dict[Powers, int] = {}
    for powers, count in terms:
        counts[powers] = counts.get(powers, 0) + count
    kept = [(powers, count) for powers, count in counts.items() if count]
    if len(kept) > 1:
        kept.sort(key=lambda term: (-len(term[0]), [_key(atom) for atom in term[0]]))
    return Poly(tuple(kept))


def _floor(x: Poly, by: int) -> Poly:
    if by < 1:
        raise ValueError(f"a floor divides by 1 or more, not by {by}")
    rest = 0
    whole, inside = [], []
    for powers, count in x.terms:
        if not powers:
            rest = count
            continue
        whole.append((powers, count // by))
        if count % by:
            inside.append((powers, count % by))
    outside = _sum(whole)
    if not inside:
        return outside + rest // by
    (powers, count), *more = inside
    if not more and count == 1 and len(powers) == 1 and isinstance(powers[0], Floor):
        deeper = powers[0]
        return outside + _floor(deeper.of + deeper.by * rest, deeper.by * by)
    common = gcd(by, *(count for _, count in inside))
    if common > 1:
        smaller = _sum([(powers, count // common) for powers, count in inside])
        return outside + _floor(smaller + rest // common, by // common)
    return outside + rest // by + Poly((((Floor(_sum(inside) + rest % by, by),), 1),))


def _letters(atom: Atom) -> frozenset[str]:
    if isinstance(atom, Letter):
        return frozenset((atom.name,))
    if isinstance(atom, Floor):
        return atom.of.letters
    return frozenset().union(*(part.letters for part in atom.parts))


def _value(atom: Atom, of: Mapping[str, int]) -> int:
    if isinstance(atom, Letter):
        return of[atom.name]
    if isinstance(atom, Floor):
        return atom.of.value(of) // atom.by
    return min(part.value(of) for part in atom.parts)


def _replaced(atom: Atom, by: Mapping[str, Poly]) -> Poly:
    if isinstance(atom, Letter):
        return by.get(atom.name) or letter(atom.name)
    if isinstance(atom, Floor):
        return atom.of.replaced(by) // atom.by
    return least(*(part.replaced(by) for part in atom.parts))


# --------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class Script:
    """How numbers, letters, products and floors are written. floor, least: with {} for what stands in them."""

    times: str
    minus: str
    floor: str
    least: str
    wraps: bool  # a sum above a floor's line stands in parentheses


PLAIN = Script("·", "−", "⌊{}/{}⌋", "min({})", True)
LATEX = Script(" \\cdot ", "-", r"\left\lfloor\frac{{{}}}{{{}}}\right\rfloor", r"\min\left({}\right)", False)
CODE = Script("*", "-", "({}//{})", "min({})", True)


def _digits(value: int, script: Script) -> str:
    if script is CODE:
        return str(value)
    return f"{value:,}".replace(",", "{,}") if script is LATEX else f"{value:,}"


def _write(x: Poly, script: Script) -> str:
    last = x.terms[-1] if x.terms else ((), 0)
    floors = [(p, n) for p, n in x.terms if n == 1 and len(p) == 1 and isinstance(p[0], Floor)]
    if len(x.terms) == 2 and len(floors) == 1 and not last[0]:  # ⌊x/d⌋ + c is ⌊(x + c·d)/d⌋
        ((one,), _) = floors[0]
        assert isinstance(one, Floor)
        return _bare(_over(one.of + last[1] * one.by, one.by, script), script)
    signed = []
    for powers, count in x.terms:
        factors = [_power(atom, powers.count(atom), script) for atom in dict.fromkeys(powers)]
        digits = [_digits(abs(count), script)] if abs(count) != 1 or not factors else []
        signed.append((count < 0, script.times.join([*digits, *factors])))
    if not signed:
        return "0"
    first, *rest = signed
    text = (script.minus if first[0] else "") + first[1]
    text += "".join(f" {script.minus if negative else '+'} {one}" for negative, one in rest)
    return _bare(text, script) if len(signed) == 1 else text


def _bare(text: str, script: Script) -> str:
    """Python's floor without the parentheses around the whole."""
    if script is not CODE or not text.startswith("(") or not text.endswith(")"):
        return text
    inside = text[1:-1]
    opened = 0
    for character in inside:
        opened += (character == "(") - (character == ")")
        if opened < 0:
            return text
    return inside


def _power(atom: Atom, times: int, script: Script) -> str:
    text, _ = _atom(atom, script)
    if times == 1:
        return text
    return f"{text}**{times}" if script is CODE else f"{text}^{times}" if script is LATEX else text + _raised(times)


def _raised(times: int) -> str:
    return "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(times))


def _atom(atom: Atom, script: Script) -> tuple[str, Any]:
    if isinstance(atom, Letter):
        name = atom.name.rstrip("0123456789")
        index = atom.name[len(name) :]
        return (f"{name}_{{{index}}}" if index and script is LATEX else atom.name), None
    if isinstance(atom, Floor):
        return _over(atom.of, atom.by, script), None
    return script.least.format(", ".join(_write(part, script) for part in atom.parts)), None


def _over(of: Poly, by: int, script: Script) -> str:
    above = _write(of, script)
    alone = len(of.terms) == 1 and (of.terms[0][1] == 1 or script is not PLAIN)
    if script.wraps and not alone:
        above = f"({above})"
    return script.floor.format(above, _digits(by, script))
