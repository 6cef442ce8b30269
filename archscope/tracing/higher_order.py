"""Operators on functions: `torch.cond`, `while_loop`, `scan`, `map`, `flex_attention`, as Python runs what they mean.

PyTorch compiles their functions, and so hides the modules that these call. Here each function is called as it was
written: a branch by the value of its predicate, a loop as often as its condition holds, attention by its products.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._ops import HigherOrderOperator

_Function = Callable[..., Any]


def _cond(predicate: Any, where_true: _Function, where_false: _Function, operands: Sequence[Any] = ()) -> Any:
    return (where_true if predicate else where_false)(*operands)


def _while_loop(condition: _Function, body: _Function, carried: Any, additional: Sequence[Any] = ()) -> Any:
    while condition(*carried, *additional):
        made = body(*carried, *additional)
        carried = tuple(made) if isinstance(made, tuple | list) else (made,)
    return carried


def _scan(combine: _Function, first: Any, elements: Any, additional: Sequence[Any] = (), **_: Any) -> Any:
    carried, outputs = list(first), []
    for i in range(elements[0].shape[0]):
        made = combine(*carried, *[one[i] for one in elements], *additional)
        carried = list(made[: len(carried)])
        outputs.append(made[len(carried) :])
    return (*carried, *[torch.stack(each) for each in zip(*outputs, strict=True)])


def _map(function: _Function, elements: Sequence[Any], additional: Sequence[Any] = ()) -> Any:
    made = [function(*[one[i] for one in elements], *additional) for i in range(elements[0].shape[0])]
    return tuple([torch.stack(each) for each in zip(*made, strict=True)])


def _flex_attention(*args: Any, **kwargs: Any) -> Any:
    from torch._higher_order_ops.flex_attention import sdpa_dense

    return sdpa_dense(*args, **kwargs)


_MEANINGS: dict[str, _Function] = {
    "cond": _cond, "while_loop": _while_loop, "scan": _scan, "map_impl": _map, "flex_attention": _flex_attention,
}  # fmt: skip


@contextmanager
def functions_called() -> Iterator[None]:
    """Within this block such operators call the functions that they are given, and nothing is compiled."""
    call, compiler = HigherOrderOperator.__call__, torch.compile

    def called(operator: HigherOrderOperator, *args: Any, **kwargs: Any) -> Any:
        meaning = _MEANINGS.get(operator._name)
        return call(operator, *args, **kwargs) if meaning is None else meaning(*args, **kwargs)

    def as_written(model: Any = None, **_: Any) -> Any:
        return model if model is not None else lambda function: function

    HigherOrderOperator.__call__, torch.compile = called, as_written  # type: ignore[method-assign]
    try:
        yield
    finally:
        HigherOrderOperator.__call__, torch.compile = call, compiler  # type: ignore[method-assign]
