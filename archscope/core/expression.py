"""A number that remembers how it was made.

    m, p, pad, s = symbols(m=227, p=11, pad=0, s=4)
    side = (m - p + 2 * pad) // s + 1

    side.value     55
    side.symbols   ⌊(m − p + 2·pad)/s⌋ + 1
    side.digits    ⌊(227 − 11 + 2·0)/4⌋ + 1
    side.latex     \\left\\lfloor\\frac{m - p + 2 \\cdot pad}{s}\\right\\rfloor + 1
    str(side)      ⌊(227 − 11 + 2·0)/4⌋ + 1 = 55

The code that computes is the text that is shown, so the two cannot drift apart. Integers stay exact: `/` is for
divisions that leave no remainder and raises ValueError otherwise, `//` rounds down and `ceil_div` up. A proportion,
which need not be whole, is a `ratio`: its value is a Fraction, and so is that of a sum of such.
"""

import functools
import operator
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Union, cast

Number = Union["Expr", int]

_ATOM, _PRODUCT, _SUM, _NEGATIVE = 3, 2, 1, 0  # how tightly an expression binds


class Expr:
    """An integer with its derivation. Immutable; combines with integers and other expressions by + − · / //."""

    __slots__ = ("kind", "parts", "value")

    def __init__(self, kind: str, parts: tuple[Any, ...], value: int) -> None:
        self.kind = kind
        self.parts = parts
        self.value = value

    def __add__(self, other: Number) -> "Expr":
        return Expr("+", (self, other), self.value + _value(other))

    def __radd__(self, other: int) -> "Expr":
        return Expr("+", (other, self), other + self.value)

    def __sub__(self, other: Number) -> "Expr":
        return Expr("-", (self, other), self.value - _value(other))

    def __rsub__(self, other: int) -> "Expr":
        return Expr("-", (other, self), other - self.value)

    def __mul__(self, other: Number) -> "Expr":
        return Expr("*", (self, other), self.value * _value(other))

    def __rmul__(self, other: int) -> "Expr":
        return Expr("*", (other, self), other * self.value)

    def __truediv__(self, other: Number) -> "Expr":
        quotient, rest = divmod(self.value, _value(other))
        if rest:
            raise ValueError(f"{self.value} is not divisible by {_value(other)}")
        return Expr("/", (self, other), quotient)

    def __floordiv__(self, other: Number) -> "Expr":
        return Expr("//", (self, other), self.value // _value(other))

    def __int__(self) -> int:
        whole = int(self.value)
        if whole != self.value:
            raise ValueError(f"{self.value} is no whole number")
        return whole

    __index__ = __int__

    @property
    def symbols(self) -> str:
        """The derivation in letters."""
        return _text(self, letters=True)[0]

    @property
    def digits(self) -> str:
        """The derivation with the numbers in it."""
        return _text(self, letters=False)[0]

    @property
    def latex(self) -> str:
        """The derivation in letters, as LaTeX maths."""
        return _latex(self, letters=True)[0]

    @property
    def latex_digits(self) -> str:
        """The derivation with the numbers in it, as LaTeX maths."""
        return _latex(self, letters=False)[0]

    @property
    def leaves(self) -> dict[str, int]:
        """The letters of the derivation and what they stand for here, in the order in which they are read."""
        return dict(_leaves(self))

    @property
    def plain(self) -> bool:
        """Whether there is nothing to derive: a single number."""
        return self.kind == "symbol"

    def __str__(self) -> str:
        return result(self) if self.plain else f"{self.digits} = {result(self)}"

    def __repr__(self) -> str:
        return f"<Expr {self.symbols} = {self}>"


def symbol(name: str, value: int) -> Expr:
    """A named number."""
    return Expr("symbol", (name,), value)


def symbols(**named: int) -> tuple[Expr, ...]:
    """Several named numbers, in order."""
    return tuple(symbol(name, value) for name, value in named.items())


def ceil_div(left: Number, right: Number) -> Expr:
    """⌈left / right⌉."""
    return Expr("ceil", (left, right), -(-_value(left) // _value(right)))


def ratio(left: Number, right: Number) -> Expr:
    """left / right as a proportion, which need not be whole."""
    return Expr("ratio", (left, right), cast(int, Fraction(_value(left), _value(right))))


def result(number: Number) -> str:
    """The value as people write it: `34,944`; of a ratio that is not whole `73/576 = 0.1267`, with four digits."""
    value = _value(number)
    if isinstance(value, Fraction) and value.denominator != 1:
        return f"{value.numerator:,}/{value.denominator:,} = {float(value):.4g}"
    return f"{int(value):,}"


def product(*factors: Number) -> Expr:
    """The product of all factors, in the order given."""
    return functools.reduce(operator.mul, factors[1:], _expr(factors[0]))


def total(*terms: Number) -> Expr:
    """The sum of all terms, in the order given."""
    return functools.reduce(operator.add, terms[1:], _expr(terms[0]))


def _expr(number: Number) -> Expr:
    return number if isinstance(number, Expr) else symbol(str(number), number)


def _value(number: Number) -> int:
    return number.value if isinstance(number, Expr) else number


def _leaves(node: Number) -> Iterator[tuple[str, int]]:
    if isinstance(node, Expr):
        if node.kind != "symbol":
            for part in node.parts:
                yield from _leaves(part)
        elif not node.parts[0].lstrip("-").isdigit():
            yield node.parts[0], node.value


def _text(node: Number, letters: bool) -> tuple[str, int]:
    """The text of an expression, and how tightly it binds."""
    if not isinstance(node, Expr):
        return (_spaced(node), _ATOM) if node >= 0 else (f"−{_spaced(-node)}", _NEGATIVE)
    if node.kind == "symbol":
        return (node.parts[0], _ATOM) if letters else _text(node.value, letters)
    (left, left_binds), (right, right_binds) = (_text(part, letters) for part in node.parts)
    match node.kind:
        case "+":
            return f"{left} + {_wrap(right, right_binds, _SUM)}", _SUM
        case "-":
            return f"{left} − {_wrap(right, right_binds, _PRODUCT)}", _SUM
        case "*":
            return f"{_wrap(left, left_binds, _PRODUCT)}·{_wrap(right, right_binds, _PRODUCT)}", _PRODUCT
        case "/" | "ratio":
            return f"{_wrap(left, left_binds, _PRODUCT)}/{_wrap(right, right_binds, _ATOM)}", _PRODUCT
    above, below = _wrap(left, left_binds, _PRODUCT), _wrap(right, right_binds, _ATOM)
    return (f"⌊{above}/{below}⌋" if node.kind == "//" else f"⌈{above}/{below}⌉"), _ATOM


def _spaced(number: int) -> str:
    """With separators from five digits on: 9216·4096, but 1,056,768 + 9,437,184."""
    return f"{number:,}" if abs(number) >= 10_000 else str(number)


def _wrap(text: str, binds: int, least: int) -> str:
    return text if binds >= least else f"({text})"


def _latex(node: Number, letters: bool) -> tuple[str, int]:
    if not isinstance(node, Expr):
        return _spaced(node).replace(",", "{,}"), _ATOM if node >= 0 else _NEGATIVE
    if node.kind == "symbol" and not letters:
        return _latex(node.value, letters)
    if node.kind == "symbol":
        name, _, index = (re.sub(r"[^\w.,+'’ -]", "", part) for part in node.parts[0].partition("_"))  # no commands
        upright = name if len(name) == 1 or name.isdigit() else rf"\mathrm{{{name}}}"
        return (rf"{upright}_{{\mathrm{{{index}}}}}" if index else upright), _ATOM
    (left, left_binds), (right, right_binds) = (_latex(part, letters) for part in node.parts)
    match node.kind:
        case "+":
            return f"{left} + {_wrap(right, right_binds, _SUM)}", _SUM
        case "-":
            return f"{left} - {_wrap(right, right_binds, _PRODUCT)}", _SUM
        case "*":
            return rf"{_wrap(left, left_binds, _PRODUCT)} \cdot {_wrap(right, right_binds, _PRODUCT)}", _PRODUCT
        case "/" | "ratio":
            return rf"\frac{{{left}}}{{{right}}}", _ATOM
    side = "floor" if node.kind == "//" else "ceil"
    return rf"\left\l{side}\frac{{{left}}}{{{right}}}\right\r{side}", _ATOM
