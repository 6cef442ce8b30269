"""The expressions and the units that users type."""

from fractions import Fraction

import pytest

from archscope.core.arithmetic import evaluate, parse
from archscope.core.units import amount


def test_arithmetic_is_exact_and_unknown_stays_unknown() -> None:
    assert evaluate("11*11*3*96 + 96") == 11 * 11 * 3 * 96 + 96
    assert evaluate("a // 0") is None and evaluate("a + 1") is None and evaluate("a + 1", {"a": 2}) == 3
    assert evaluate("10000000000 * " * 40 + "1 / 0.5") is None  # too large for a float


@pytest.mark.parametrize("text", ["", "1 +", "(" * 500, "a b"])
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(SyntaxError):
        parse(text)


@pytest.mark.parametrize("text", ["f(1)", "a.b", "2 ** 9", "[1]", "None", "1j", "b'x'"])
def test_what_is_not_allowed_names_the_part(text: str) -> None:
    with pytest.raises(ValueError, match="is not understood"):
        parse(f"1 + {text}")


def test_a_sum_that_is_nested_too_deeply_is_a_type_error() -> None:
    with pytest.raises((TypeError, SyntaxError)):
        evaluate("+".join("1" for _ in range(20_000)))


@pytest.mark.parametrize(
    ("text", "in_bytes", "number"),
    [
        ("3.5 M", False, 3_500_000),
        ("3,500,000", False, 3_500_000),
        (".5k", False, 500),
        ("64 MB", True, 64 * 10**6),
        ("16 GiB", True, 16 * 2**30),
        ("0.1", True, Fraction(1, 10)),
    ],
)
def test_amounts(text: str, in_bytes: bool, number: int | Fraction) -> None:
    assert amount(text, in_bytes) == number


@pytest.mark.parametrize(
    ("text", "in_bytes", "told"),
    [("3 MB", False, "K M G T"), ("3 M", True, "MiB"), ("many", False, "'many'"), ("1.2.3", False, "no number")],
)
def test_what_is_no_amount(text: str, in_bytes: bool, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        amount(text, in_bytes)
