"""An expression's text and its value are one thing: what is printed can be computed again."""

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archscope.core.expression import Expr, ceil_div, product, ratio, result, symbol, symbols, total


def evaluate(digits: str) -> int:
    """The value of a printed derivation, by Python's own grammar."""
    text = digits.replace("·", "*").replace("−", "-")
    assert re.fullmatch(r"[\d+\-*/() ⌊⌋⌈⌉]*", text), text
    while "⌊" in text or "⌈" in text:  # innermost first
        found = re.search(r"⌊([^⌊⌋⌈⌉]*)⌋|⌈([^⌊⌋⌈⌉]*)⌉", text)
        assert found is not None, text
        inner = found[1] if found[1] is not None else found[2]
        above, below = split(inner)
        value = f"(({above})//({below}))" if found[1] is not None else f"(-(-({above})//({below})))"
        text = text[: found.start()] + f"({eval(value)})" + text[found.end() :]
    return eval(text.replace("/", "//"))


def split(inner: str) -> tuple[str, str]:
    """The dividend and the divisor: at the last division that no parenthesis encloses."""
    level = 0
    for i in range(len(inner) - 1, -1, -1):
        level += (inner[i] == ")") - (inner[i] == "(")
        if inner[i] == "/" and not level:
            return inner[:i], inner[i + 1 :]
    raise AssertionError(inner)


LEAVES = st.one_of(
    st.integers(-9, 30).map(lambda n: symbol("n", n)), st.integers(0, 12).map(lambda n: total(n)), st.integers(-9, 12)
)


def combine(parts: st.SearchStrategy) -> st.SearchStrategy:
    def join(left, right, how: str):
        if not isinstance(left, Expr) and not isinstance(right, Expr):
            left = symbol("n", left)
        value = right.value if isinstance(right, Expr) else right
        match how:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
        if value == 0:
            return left * right
        if how == "/":  # exact only
            return left * right / right if isinstance(left * right, Expr) else left
        if not isinstance(left, Expr):
            left = symbol("n", left)
        return left // right if how == "//" else ceil_div(left, right)

    return st.builds(join, parts, parts, st.sampled_from(["+", "-", "*", "/", "//", "ceil"]))


@settings(max_examples=400, deadline=None)
@given(st.recursive(LEAVES, combine, max_leaves=8))
def test_what_is_printed_computes_to_the_value(expression: Expr | int) -> None:
    if isinstance(expression, Expr):
        assert evaluate(expression.digits) == expression.value == int(expression)
        if not expression.plain:
            assert str(expression) == f"{expression.digits} = {expression.value:,}"


def test_the_textbook_convolution() -> None:
    m, p, pad, s = symbols(m=227, p=11, pad=0, s=4)
    side = (m - p + 2 * pad) // s + 1
    assert side.value == (227 - 11 + 2 * 0) // 4 + 1 == 55
    assert side.symbols == "⌊(m − p + 2·pad)/s⌋ + 1"
    assert side.digits == "⌊(227 − 11 + 2·0)/4⌋ + 1"
    assert side.latex == (r"\left\lfloor\frac{m - p + 2 \cdot \mathrm{pad}}{s}\right\rfloor + 1")
    assert str(side) == "⌊(227 − 11 + 2·0)/4⌋ + 1 = 55"


@pytest.mark.parametrize(
    ("made", "symbols_", "digits"),
    [
        (lambda a, b, c: (a + b) * c, "(a + b)·c", "(2 + 3)·4"),
        (lambda a, b, c: a + b * c, "a + b·c", "2 + 3·4"),
        (lambda a, b, c: a * (b + c), "a·(b + c)", "2·(3 + 4)"),
        (lambda a, b, c: a - (b + c), "a − (b + c)", "2 − (3 + 4)"),
        (lambda a, b, c: a - (b - c), "a − (b − c)", "2 − (3 − 4)"),
        (lambda a, b, c: (a - b) - c, "a − b − c", "2 − 3 − 4"),
        (lambda a, b, c: (a * c) / (a * b - a), "a·c/(a·b − a)", "2·4/(2·3 − 2)"),
        (lambda a, b, c: (b * c) / (a * a), "b·c/(a·a)", "3·4/(2·2)"),
        (lambda a, b, c: c / a * b, "c/a·b", "4/2·3"),
        (lambda a, b, c: b * (c / a), "b·c/a", "3·4/2"),  # exact, so the same
        (lambda a, b, c: (a + c) // b, "⌊(a + c)/b⌋", "⌊(2 + 4)/3⌋"),
        (lambda a, b, c: c // a // b, "⌊⌊c/a⌋/b⌋", "⌊⌊4/2⌋/3⌋"),
        (lambda a, b, c: ceil_div(a + c, b) - 1, "⌈(a + c)/b⌉ − 1", "⌈(2 + 4)/3⌉ − 1"),
        (lambda a, b, c: 10 - a, "10 − a", "10 − 2"),
        (lambda a, b, c: 10 + a * -1, "10 + a·(−1)", "10 + 2·(−1)"),
        (lambda a, b, c: a + -1, "a + (−1)", "2 + (−1)"),
        (lambda a, b, c: -1 + a, "−1 + a", "−1 + 2"),
        (lambda a, b, c: product(a, 2, c), "a·2·c", "2·2·4"),
        (lambda a, b, c: product(2, a), "2·a", "2·2"),
        (lambda a, b, c: total(1, a, b), "1 + a + b", "1 + 2 + 3"),
    ],
)
def test_parentheses_stand_where_they_are_needed_and_nowhere_else(made, symbols_: str, digits: str) -> None:
    expression = made(*symbols(a=2, b=3, c=4))
    assert expression.symbols == symbols_
    assert expression.digits == digits
    assert evaluate(expression.digits) == expression.value


def test_latex_of_every_kind() -> None:
    c_in, k_h, n, g = symbols(c_in=3, k_h=11, n=6, g=3)
    assert c_in.latex == r"c_{\mathrm{in}}"
    assert k_h.latex == r"k_{\mathrm{h}}"
    assert symbol("gates", 4).latex == r"\mathrm{gates}"
    assert (n / g).latex == r"\frac{n}{g}"
    assert ceil_div(n, g).latex == r"\left\lceil\frac{n}{g}\right\rceil"
    assert ((n - g) * c_in).latex == r"(n - g) \cdot c_{\mathrm{in}}"
    assert (n * n / g * 2).latex == r"\frac{n \cdot n}{g} \cdot 2"
    assert (n - (g + 1)).latex == "n - (g + 1)"
    assert (n + -1).latex == "n + (-1)"
    assert "lfloor" in (n // g).latex


def test_a_division_with_a_remainder_is_an_error() -> None:
    n, g = symbols(n=7, g=3)
    with pytest.raises(ValueError, match="7 is not divisible by 3"):
        _ = n / g
    assert (n // g).value == 2
    assert ceil_div(n, g).value == 3
    assert ceil_div(-7, 3).value == -2


def test_an_expression_serves_as_the_integer_it_is() -> None:
    (n,) = symbols(n=3)
    assert [10, 20, 30, 40][n] == 40
    assert int(n + 1) == 4
    assert n.plain and not (n + 1).plain
    assert str(symbol("n", 23_296)) == "23,296"
    assert repr(n + 1) == "<Expr n + 1 = 3 + 1 = 4>"


def test_a_ratio_need_not_be_whole() -> None:
    c, k = symbols(c=64, k=3)
    share = ratio(1, c) + ratio(1, k * k)
    assert share.value == Fraction(1, 64) + Fraction(1, 9)
    assert share.symbols == "1/c + 1/(k·k)" and share.digits == "1/64 + 1/(3·3)"
    assert share.latex == r"\frac{1}{c} + \frac{1}{k \cdot k}"
    assert result(share) == "73/576 = 0.1267" and str(share) == "1/64 + 1/(3·3) = 73/576 = 0.1267"
    assert result(ratio(c, 2)) == "32"


def test_numbers_from_five_digits_on_are_grouped() -> None:
    a, b = symbols(a=9216, b=1_056_768)
    assert (a + b).digits == "9216 + 1,056,768" and (a + b).latex_digits == "9216 + 1{,}056{,}768"
    assert (a * b).symbols == "a·b" and str(a + b) == "9216 + 1,056,768 = 1,065,984"
    assert (a - 20_000).digits == "9216 − 20,000"


def test_latex_with_the_numbers() -> None:
    m, s = symbols(m=227, s=4)
    side = (m - 11) // s + 1
    assert side.latex_digits == r"\left\lfloor\frac{227 - 11}{4}\right\rfloor + 1"
    assert (m * -1).latex_digits == r"227 \cdot (-1)"


def test_the_letters_of_a_derivation() -> None:
    m, s = symbols(m=227, s=4)
    assert ((m - 11) // s + s).leaves == {"m": 227, "s": 4}
    assert list((s * m).leaves) == ["s", "m"]
    assert product(2, m).leaves == {"m": 227}
