"""The number of operations that NumPy's `einsum_path` prints, by which fvcore and calflops count an einsum."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from math import prod

from archscope.core.record import Shape

Letters = frozenset[str]


def printed_operations(equation: str, shapes: list[Shape]) -> float:
    """The optimized count as it is printed: to four digits, and 1 more than it is."""
    return float(f"{operations(equation.replace(' ', ''), shapes) + 1:.3e}")


def operations(equation: str, shapes: list[Shape]) -> int:
    """What NumPy's `einsum_path(…, optimize="optimal")` counts: for each contraction of two operands one operation a
    product, and one a sum where something is summed over; the cheapest order that makes nothing larger than the
    largest operand or the output."""
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    wild = max(len(shape) - len(term.replace("...", "")) for term, shape in zip(terms, shapes, strict=True))
    letters = "".join(map(chr, range(65, 65 + wild)))  # for the axes of an ellipsis, the last ones where there are less
    terms = [
        term.replace("...", letters[wild - len(shape) + len(term.replace("...", "")) :])
        for term, shape in zip(terms, shapes, strict=True)
    ]
    if not arrow:
        named = "".join(terms)
        out = letters + "".join(sorted(c for c in set(named) - set(letters) if named.count(c) == 1))
    out = out.replace("...", letters)
    sides: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, side in zip(term, shape, strict=True):
            sides[letter] = max(sides.get(letter, 1), side)

    def size(of: Iterable[str]) -> int:
        return prod(sides[letter] for letter in of)

    def contract(group: Sequence[Letters], rest: Sequence[Letters]) -> tuple[int, Letters]:
        """Operations of one contraction, and the letters that it leaves."""
        joined: Letters = frozenset().union(*group)
        left = joined & frozenset(out).union(*rest)
        return size(joined) * (max(1, len(group) - 1) + (left != joined)), left

    operands = [frozenset(term) for term in terms]
    largest = max(size(term) for term in (*terms, out))
    if len(operands) < 3 or set(sides) == set(out):
        return contract(operands, ())[0]
    ways: list[tuple[int, list[Letters]]] = [(0, operands)]
    for count in range(len(operands), 1, -1):
        longer = []
        for cost, now in ways:
            for i, j in combinations(range(count), 2):
                rest = [one for k, one in enumerate(now) if k not in (i, j)]
                more, made = contract((now[i], now[j]), rest)
                if size(made) <= largest:
                    longer.append((cost + more, [*rest, made]))
        if not longer:  # all that is left in one contraction
            cost, now = min(ways, key=lambda way: way[0])
            return cost + contract(now, ())[0]
        ways = longer
    return min(cost for cost, _ in ways)
