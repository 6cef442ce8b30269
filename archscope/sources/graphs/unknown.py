"""Operators that no function here stands for: recorded with the shapes that the graph states, at an unknown cost."""

import re
from functools import cache
from typing import Any

import torch

from archscope.core.errors import TraceError

_LIBRARY = torch.library.Library("onnx", "FRAGMENT")


def recorded(node: Any, inputs: list[torch.Tensor], shapes: Any) -> tuple[torch.Tensor, ...]:
    """The outputs of a node by their declared shapes. Raises TraceError where the graph does not state them."""
    stated = [shapes.get(name) for name in node.outputs if name]
    if not stated or any(one is None or None in one.shape or not one.dtype for one in stated):
        domain = f" of {node.domain}" if node.domain else ""
        raise TraceError(
            f"the operator {node.op}{domain} is not known, and the graph does not state its output's shape"
        )
    sides = [side for one in stated for side in one.shape]
    ranks = [len(one.shape) for one in stated]
    dtypes = [getattr(torch, one.dtype) for one in stated]
    made = _operator(node.op)(inputs, sides, ranks, dtypes)
    places = iter(made)
    return tuple(next(places) if name else None for name in node.outputs)  # type: ignore[misc]


@cache
def _operator(name: str) -> Any:
    name = re.sub(r"\W", "_", name)
    _LIBRARY.define(f"{name}(Tensor[] inputs, int[] sides, int[] ranks, ScalarType[] dtypes) -> Tensor[]")
    _LIBRARY.impl(name, _empty, "CompositeExplicitAutograd")
    return getattr(torch.ops.onnx, name)


def _empty(
    inputs: list[torch.Tensor], sides: list[int], ranks: list[int], dtypes: list[torch.dtype]
) -> list[torch.Tensor]:
    out, at = [], 0
    for rank, dtype in zip(ranks, dtypes, strict=True):
        out.append(torch.empty(sides[at : at + rank], dtype=dtype, device="meta"))
        at += rank
    return out
