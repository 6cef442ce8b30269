"""A number that remembers how it was made.

    m, p, pad, s = symbols(m=227, p=11, pad=0, s=4)
    side = (m - p + 2 * pad) // s + 1

    side.value     55
    side.symbols   ⌊(m − p + 2·pad)/s⌋ + 1
    side.digits    ⌊(227 − 11 + 2·0)/4⌋ + 1
    side.latex     \\left\\lfloor\\frac{m - p + 2 \\cdot pad}{s}\\right\\rfloor + 1
    str(side)      ⌊(227 − 11 + 2·0)/4⌋ + 1 = 55

The code that computes is the text that is shown, so the two cannot drift apart. Integers stay exact: `/` is for
divisions that leave no remainder and raises ValueError otherwise, `//` rounds down and `ceil_div` up.
"""

import functools
import operator
from typing import Any, Union

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
        return self.value

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
        return _latex(self)[0]

    @property
    def plain(self) -> bool:
        """Whether there is nothing to derive: a single number."""
        return self.kind == "symbol"

    def __str__(self) -> str:
        if self.plain:
            return f"{self.value:,}"
        return f"{self.digits} = {self.value:,}"

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


def _text(node: Number, letters: bool) -> tuple[str, int]:
    """The text of an expression, and how tightly it binds."""
    if not isinstance(node, Expr):
        return (str(node), _ATOM) if node >= 0 else (f"−{-node}", _NEGATIVE)
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
        case "/":
            return f"{_wrap(left, left_binds, _PRODUCT)}/{_wrap(right, right_binds, _ATOM)}", _PRODUCT
    above, below = _wrap(left, left_binds, _PRODUCT), _wrap(right, right_binds, _ATOM)
    return (f"⌊{above}/{below}⌋" if node.kind == "//" else f"⌈{above}/{below}⌉"), _ATOM


def _wrap(text: str, binds: int, least: int) -> str:
    return text if binds >= least else f"({text})"


def _latex(node: Number) -> tuple[str, int]:
    if not isinstance(node, Expr):
        return str(node), _ATOM if node >= 0 else _NEGATIVE
    if node.kind == "symbol":
        name, _, index = node.parts[0].partition("_")
        letters = name if len(name) == 1 or name.isdigit() else rf"\mathrm{{{name}}}"
        return (rf"{letters}_{{\mathrm{{{index}}}}}" if index else letters), _ATOM
    (left, left_binds), (right, right_binds) = (_latex(part) for part in node.parts)
    match node.kind:
        case "+":
            return f"{left} + {_wrap(right, right_binds, _SUM)}", _SUM
        case "-":
            return f"{left} - {_wrap(right, right_binds, _PRODUCT)}", _SUM
        case "*":
            return rf"{_wrap(left, left_binds, _PRODUCT)} \cdot {_wrap(right, right_binds, _PRODUCT)}", _PRODUCT
        case "/":
            return rf"\frac{{{left}}}{{{right}}}", _ATOM
    side = "floor" if node.kind == "//" else "ceil"
    return rf"\left\l{side}\frac{{{left}}}{{{right}}}\right\r{side}", _ATOM
