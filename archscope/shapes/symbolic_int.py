"""A side that depends on the input size: an `int` that carries its polynomial and writes down what is assumed of it.

The rules of `operators/` run on it unchanged. `+ − * //` give an expression beside the number; `//` keeps its floor.
A comparison is answered by the number of this run; what it assumes of other sizes is recorded, and that is what a size
must fulfil:

    rest < 0      no: rest is at least 0
    a != b        no: a and b are equal
    m % r         0: r divides m

(JAX does so in `jax/_src/export/shape_poly.py`, PyTorch in `torch.SymInt`.) As there, a side is never taken for 0 or 1
because it is so in this run: a batch of one is no axis that broadcasts.
"""

from typing import NamedTuple

from archscope.core.errors import ArchscopeError
from archscope.shapes.polynomial import Letter, Poly, least, letter, number, product


class Unsupported(ArchscopeError):
    """An operator without a closed form. at: its index. op: its name."""

    exit_code = 1

    def __init__(self, sentence: str, at: int = -1, op: str = "") -> None:
        super().__init__(sentence)
        self.at, self.op = at, op


class Assumption(NamedTuple):
    """What a comparison assumes, and whether it holds in this run. kind: as of a `SizeRequirement`."""

    kind: str
    left: Poly
    right: Poly
    holds: bool


class Context:
    """What the sides of one operator share. log: the assumptions. sums: a letter for each sum that was multiplied, so
    that ⌊(H − 7)/4⌋ · ⌊(W − 7)/4⌋ is not multiplied out before its factors have names."""

    def __init__(self) -> None:
        self.log: list[Assumption] = []
        self.sums: dict[str, Poly] = {}

    def factor(self, poly: Poly) -> Poly:
        """A product of letters as it is, a letter for every other."""
        if len(poly.terms) == 1 and all(isinstance(atom, Letter) for atom in poly.terms[0][0]):
            return poly
        whole = poly.replaced(self.sums)
        name = next((name for name, known in self.sums.items() if known == whole), f"?{len(self.sums) + 1}")
        self.sums[name] = whole
        return letter(name)


class SymbolicInt(int):
    """A number of this run. product: what it is for every input, sums among its factors as letters of the context."""

    product: Poly
    context: Context

    @classmethod
    def of(cls, value: int, product: Poly, context: Context) -> int:
        """The number itself where it is the same for every input."""
        if product.constant is not None:
            return product.constant
        made = cls(value)
        made.product, made.context = product, context
        return made

    @property
    def poly(self) -> Poly:
        """What it is for every input, in letters of the input and named sides."""
        sums = self.context.sums
        return self.product.replaced(sums) if not sums.keys().isdisjoint(self.product.letters) else self.product

    def __add__(self, other: int) -> int:
        return self.of(int.__add__(self, other), self.product + _product(other), self.context)

    __radd__ = __add__

    def __sub__(self, other: int) -> int:
        return self.of(int.__sub__(self, other), self.product - _product(other), self.context)

    def __rsub__(self, other: int) -> int:
        return self.of(int.__rsub__(self, other), _product(other) - self.product, self.context)

    def __neg__(self) -> int:
        return 0 - self

    def __mul__(self, other: float) -> int:  # type: ignore[override]
        if isinstance(other, float):
            return self._scaled(other)
        if not isinstance(other, int):  # a tuple, repeated
            return NotImplemented
        value = int.__mul__(self, other)
        if not isinstance(other, SymbolicInt):
            return self.of(value, self.product * (other + 0), self.context)
        factors = map(self.context.factor, (self.product, other.product))
        return self.of(value, product(factors), self.context)

    __rmul__ = __mul__  # type: ignore[assignment]

    def _scaled(self, factor: float) -> int:
        """⌊self · factor⌋."""
        if factor.is_integer():
            return self * round(factor)
        if not factor or not (1 / factor).is_integer():
            raise Unsupported(f"a factor of {factor} has no closed form")
        return self // round(1 / factor)

    def __floor__(self) -> int:
        return self

    def __floordiv__(self, other: int) -> int:
        return self.of(int.__floordiv__(self, other), quotient(self.poly, poly_of(other)), self.context)

    def __rfloordiv__(self, other: int) -> int:
        return self.of(int.__rfloordiv__(self, other), quotient(poly_of(other), self.poly), self.context)

    def __mod__(self, other: int) -> int:
        divisor, rest = poly_of(other), int.__mod__(self, other)
        if divisor.constant is None:
            quotient(self.poly, divisor)  # without a rest, or not at all
            return 0
        if all(not count % divisor.constant for _, count in self.poly.terms):
            return 0
        self.context.log.append(Assumption("divides", self.poly, divisor, not rest))
        return rest

    def __divmod__(self, other: int) -> tuple[int, int]:
        return self // other, self % other

    def __int__(self) -> int:
        """Where a rule needs the number itself: as many outputs as the side has positions."""
        raise Unsupported(f"as many parts as there are steps, {self.poly.text}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, int):
            return NotImplemented
        apart = (self.poly - poly_of(other)).constant
        if apart is not None:
            return not apart
        if not isinstance(other, SymbolicInt) and (-1 <= other <= 0 or (other == 1 and int.__eq__(self, other))):
            return False
        return self.agrees(other)

    def agrees(self, other: int) -> bool:
        """Whether it must be, and is, another side or number: an assumption, also where that is 1."""
        apart = (self.poly - poly_of(other)).constant
        if apart is not None:
            return not apart
        symbolic = isinstance(other, SymbolicInt)
        equal = int.__eq__(self, other)
        own = not symbolic or not (other.poly.letters - {"N"} and self.poly.letters - {"N"})
        self.context.log.append(Assumption("fixed" if own else "equal", self.poly, poly_of(other), equal))
        if equal and not symbolic:
            self.product = number(other)  # from here on, in this operator
        return equal

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __lt__(self, other: int) -> bool:
        return self._unlike(int.__lt__(self, other), other, self.poly - poly_of(other) + 1)

    def __gt__(self, other: int) -> bool:
        return self._unlike(int.__gt__(self, other), other, poly_of(other) - self.poly + 1)

    def __le__(self, other: int) -> bool:
        return self._unlike(int.__le__(self, other), other, self.poly - poly_of(other))

    def __ge__(self, other: int) -> bool:
        return self._unlike(int.__ge__(self, other), other, poly_of(other) - self.poly)

    def _unlike(self, found: bool, other: int, least: Poly) -> bool:
        """The answer of this run; where it is no, `least` is at least 1."""
        if not isinstance(other, SymbolicInt):  # the larger of two sides is no assumption
            self.context.log.append(Assumption("window", least, number(1), not found))
        return found

    def least(self, other: int) -> int:
        """The smaller of two as an expression."""
        return self.of(min(self.real, other.real), least(self.poly, poly_of(other)), self.context)


def _product(side: int) -> Poly:
    return side.product if isinstance(side, SymbolicInt) else number(side + 0)


def poly_of(side: int) -> Poly:
    """The polynomial of a side; of a plain number, itself."""
    return side.poly if isinstance(side, SymbolicInt) else number(side + 0)


def quotient(above: Poly, below: Poly) -> Poly:
    """⌊above/below⌋; by letters only where no rest is left. Raises Unsupported where there is none."""
    if below.constant is not None:
        return above // below.constant
    if len(below.terms) == 1:
        (powers, count), *_ = below.terms
        out = []
        for own, times in above.terms:
            left = list(own)
            for atom in powers:
                if atom not in left:
                    break
                left.remove(atom)
            else:
                if not times % count:
                    out.append((tuple(left), times // count))
                    continue
            break
        else:
            return Poly(tuple(out))
    raise Unsupported(f"{above.text} cannot be divided by {below.text}")
