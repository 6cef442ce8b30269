"""Costs that a user enters for operators that no rule knows."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from archscope.core.errors import SpecError
from archscope.core.record import Op, Tensor
from archscope.operators.rule import BY_OUTPUT, RULES, ZERO, Work

Amount = int | str | Callable[..., int]

COSTS: dict[str, Callable[[Op], Work]] = {}


def register_cost(name: str, macs: Amount = 0, flops: Amount | None = None) -> None:
    """Enter what one call of an operator costs: `register_cost("mylib::op", macs="x[0] * x[1] * weight[1]")`.

    macs, flops: a number, a function of the operator's arguments by the names in its schema, where a tensor has
    `shape`, `dtype` and `numel`, or an expression of these names as text: `x[0]` is a side of x, `numel(x)` its
    elements, `out` the first output. flops: 2·macs where they are left out. A second cost replaces the first.
    Raises SpecError for an operator that has a rule, and for an expression that is none.
    """
    name = name.replace("::", ".")
    if name in RULES or name in BY_OUTPUT or name in ZERO:
        raise SpecError(f"{name} has a rule already")
    if "." not in name:
        raise SpecError(f"{name!r} is no operator: write LIBRARY::NAME")
    each = [_function(name, amount) for amount in (macs, flops) if amount is not None]

    def cost(op: Op) -> Work:
        amounts = [_whole(name, amount(op)) for amount in each]
        return Work(None, amounts[0], amounts[1] if len(amounts) > 1 else 2 * amounts[0])

    COSTS[name] = cost


def _whole(name: str, amount: Any) -> int:
    if not isinstance(amount, int) or amount < 0:
        raise SpecError(f"the cost of {name} is {amount!r}, and not a whole number from 0 on")
    return amount


def _function(name: str, amount: Amount) -> Callable[[Op], Any]:
    if isinstance(amount, str):
        try:
            tree = ast.parse(amount, mode="eval").body
        except SyntaxError as error:
            raise SpecError(f"the cost of {name} is no expression: {amount!r}") from error
        return lambda op: _value(tree, {"out": op.outputs[0] if op.outputs else None, **op.args}, name, amount)
    if callable(amount):
        return lambda op: amount(**op.args)
    number = _whole(name, amount)
    return lambda op: number


_SIGNS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}  # fmt: skip


def _value(tree: ast.expr, names: Mapping[str, Any], name: str, text: str) -> Any:
    """The value of an expression: sums, products and rounded quotients of sides and numbers."""

    def of(part: ast.expr) -> Any:
        match part:
            case ast.Constant(value=int() as number):
                return number
            case ast.Name(id=key) if key in names:
                return names[key]
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _SIGNS:
                return _SIGNS[type(sign)](of(left), of(right))
            case ast.UnaryOp(op=ast.USub(), operand=number):
                return -of(number)
            case ast.Subscript(value=held, slice=index):
                found = of(held)
                return (found.shape if isinstance(found, Tensor) else found)[of(index)]
            case ast.Call(func=ast.Name(id="numel"), args=[tensor], keywords=[]):
                return of(tensor).numel
            case _:
                raise SpecError(f"the cost of {name}: {ast.unparse(part)!r} in {text!r} is no argument of it")

    try:
        return of(tree)
    except (TypeError, IndexError, AttributeError, ZeroDivisionError) as error:
        raise SpecError(f"the cost of {name}, {text!r}: {error}") from error
