"""Expressions that users type: `macs <= 600e6 and params <= 5e6`, `11*11*3*96 + 96`.

The grammar is a small part of Python's: numbers, texts, names, + - * / // %, comparisons, and, or, not. Nothing is
ever called. A name without a value is None, which is unknown: arithmetic with it is unknown, no comparison holds.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

ARITHMETIC: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
COMPARISON: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}  # fmt: skip
_FORMS = (ast.Constant, ast.Name, ast.UnaryOp, ast.BoolOp, ast.BinOp, ast.Compare)
_SIGNS = (ast.Load, ast.Not, ast.USub, ast.And, ast.Or, *ARITHMETIC, *COMPARISON)


def parse(text: str) -> ast.expr:
    """The syntax tree of an expression. Raises SyntaxError where it is no expression or is nested too deeply, and
    ValueError, naming the part, where it has a form that is not allowed."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (ValueError, MemoryError, RecursionError) as error:
        raise SyntaxError(str(error) or "nested too deeply") from error
    for node in ast.walk(tree):
        constant = getattr(node, "value", 0)
        if not isinstance(node, (*_FORMS, *_SIGNS)) or not isinstance(constant, int | float | str):
            part = ast.get_source_segment(text.strip(), node) if isinstance(node, ast.expr) else None
            raise ValueError(f"{part or text.strip()!r} is not understood")
    return tree


def evaluate(expression: str | ast.expr, values: Mapping[str, Any] | None = None) -> Any:
    """The value of an expression; None where it is unknown or divides by zero.

    Raises what `parse` raises, and TypeError where values do not fit, such as a text compared with a number.
    """
    tree = parse(expression) if isinstance(expression, str) else expression
    try:
        return _value(tree, values or {})
    except RecursionError as error:
        raise TypeError("it is nested too deeply") from error


def _value(node: Any, values: Mapping[str, Any]) -> Any:
    kind = type(node)
    if kind is ast.Constant:
        return node.value
    if kind is ast.Name:
        return values.get(node.id)
    if kind is ast.BinOp:
        return _both(ARITHMETIC[type(node.op)], _value(node.left, values), _value(node.right, values))
    if kind is ast.Compare:
        sides = [_value(side, values) for side in (node.left, *node.comparators)]
        return all(_both(COMPARISON[type(op)], *pair) for op, pair in zip(node.ops, zip(sides, sides[1:])))  # noqa: B905
    if kind is ast.BoolOp:  # the first value that decides, else the last, as in Python
        found = None
        for part in node.values:
            found = _value(part, values)
            if bool(found) is isinstance(node.op, ast.Or):
                break
        return found
    found = _value(node.operand, values)
    return (not found) if isinstance(node.op, ast.Not) else None if found is None else -found


def _both(apply: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    try:
        return apply(a, b)
    except ArithmeticError:
        return None
