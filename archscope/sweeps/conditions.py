"""What `search` is asked for: a condition, `--where "macs <= 600e6 and params <= 5e6"`, or an order, `--best macs`."""

import ast
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from archscope.core.arithmetic import evaluate, parse
from archscope.core.errors import SpecError
from archscope.core.table import unknown

EXAMPLES = {"--where": "macs <= 600e6", "--best": "macs / params"}


class Condition:
    """An expression over a record. names: the words in it. parts: the conditions that `and` joins."""

    def __init__(self, text: str, option: str = "--where") -> None:
        self.text, self.option = text.strip(), option
        try:
            self.tree = tree = parse(self.text)
        except SyntaxError as error:
            reason = f"({error.msg}): write such as {EXAMPLES[option]!r}"
            raise SpecError(f"{option} {text!r} cannot be read {reason}") from None
        except ValueError as error:
            allowed = "there are names, numbers, + - * / // %, comparisons, and, or, not"
            raise SpecError(f"{option} {self.text!r}: {error}; {allowed}") from None
        self.names = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})
        joined = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
        self.parts: list[tuple[str, Callable[[Mapping[str, Any]], Any]]] = [
            (ast.get_source_segment(self.text, part) or self.text, partial(evaluate, part)) for part in joined
        ]

    def check(self, known: Iterable[str]) -> None:
        """Raises SpecError for a word that no record has, with the nearest right ones."""
        known = list(known)
        for name in self.names:
            if name not in known:
                raise SpecError(f"{self.option} {self.text!r}: {unknown('word', name, known)}")

    def __call__(self, record: Mapping[str, Any]) -> Any:
        """The value for a record. Raises SpecError where the record's values cannot be compared or calculated with."""
        try:
            return evaluate(self.tree, record)
        except TypeError as error:
            raise SpecError(f"{self.option} {self.text!r} does not fit the values: {error}") from None
