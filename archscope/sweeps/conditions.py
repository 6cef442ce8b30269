"""`macs <= 600e6 and params <= 5e6`: a small language of numbers, names, arithmetic, comparison, and, or, not.

It is Python's grammar and none of its power: the text is parsed, each node is one of those below, and nothing is ever
called. What is unknown (None) meets no condition, and arithmetic with it is unknown.
"""

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from archscope.core.errors import SpecError
from archscope.core.table import unknown

Value = Callable[[Mapping[str, Any]], Any]

ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
COMPARISON: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


EXAMPLES = {"--where": "macs <= 600e6", "--best": "macs / params"}


class Condition:
    """An expression over a record. names: the words in it. parts: the conditions that `and` joins."""

    def __init__(self, text: str, option: str = "--where") -> None:
        self.text, self.option = text.strip(), option
        try:
            tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            told = getattr(error, "msg", None) or error
            raise SpecError(f"{option} {text!r} cannot be read ({told}): write such as {EXAMPLES[option]!r}") from None
        self.names = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})
        self.value = self._value(tree)
        joined = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
        self.parts = [(ast.get_source_segment(self.text, part) or self.text, self._value(part)) for part in joined]

    def check(self, known: Iterable[str]) -> None:
        """Raises SpecError for a word that no record has, with the nearest right ones."""
        known = list(known)
        for name in self.names:
            if name not in known:
                raise SpecError(f"{self.option} {self.text!r}: {unknown('word', name, known)}")

    def __call__(self, record: Mapping[str, Any]) -> Any:
        """Of a record. Raises SpecError where its values cannot be compared or reckoned with."""
        try:
            return self.value(record)
        except TypeError as error:
            raise SpecError(f"{self.option} {self.text!r} does not fit the values: {error}") from None

    def _value(self, node: ast.expr) -> Value:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
            constant = node.value
            return lambda record: constant
        if isinstance(node, ast.Name):
            name = node.id
            return lambda record: record.get(name)
        if isinstance(node, ast.UnaryOp):
            inner = self._value(node.operand)
            if isinstance(node.op, ast.Not):
                return lambda record: not inner(record)
            if isinstance(node.op, ast.USub):
                return lambda record: None if (value := inner(record)) is None else -value
        if isinstance(node, ast.BoolOp):
            values = [self._value(part) for part in node.values]
            return _joined(values, isinstance(node.op, ast.Or))
        if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            return _two(ARITHMETIC[type(node.op)], self._value(node.left), self._value(node.right))
        if isinstance(node, ast.Compare) and all(type(op) in COMPARISON for op in node.ops):
            sides = [self._value(side) for side in (node.left, *node.comparators)]
            pairs = [
                _two(COMPARISON[type(op)], left, right)
                for op, left, right in zip(node.ops, sides, sides[1:], strict=False)
            ]
            return lambda record: all(pair(record) for pair in pairs)
        part = ast.get_source_segment(self.text, node) or self.text
        raise SpecError(
            f"{self.option} {self.text!r}: {part!r} is not understood; there are names, numbers, + - * / // %, "
            f"comparisons, and, or, not"
        )


def _joined(values: list[Value], until: bool) -> Value:
    """The first value that is true (or), or that is not (and), else the last; the others are not asked for."""

    def value(record: Mapping[str, Any]) -> Any:
        found = None
        for one in values:
            found = one(record)
            if bool(found) is until:
                break
        return found

    return value


def _two(apply: Callable[[Any, Any], Any], left: Value, right: Value) -> Value:
    def value(record: Mapping[str, Any]) -> Any:
        a, b = left(record), right(record)
        if a is None or b is None:
            return None
        try:
            return apply(a, b)
        except ZeroDivisionError:
            return None

    return value
