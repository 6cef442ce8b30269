"""Recurrent cells, and whole runs over a sequence."""

from collections.abc import Sequence
from math import prod
from typing import Any

from archscope.core.errors import ShapeError
from archscope.core.record import Tensor
from archscope.operators.rule import DENSE, Maybe, Work, aten, by_x, op, same

DENSE.update(aten("lstm gru rnn_tanh rnn_relu"))


def _gates(name: str, gates: int, pointwise: int) -> None:
    """The rules of one recurrent family: the cell, and the whole run over a sequence."""

    def cell(input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Maybe = None, b_hh: Maybe = None) -> Work:
        # [n, h] = cell([n, i], [n, h], [g·h, i], [g·h, h], [g·h], [g·h])
        state = hx if isinstance(hx, Tensor) else hx[0]
        i, (rows, h) = input.shape[-1], w_hh.shape
        same("input features", w_ih.shape[1], i)
        if state.shape[-1] != h or state.shape[:-1] != input.shape[:-1]:
            raise ShapeError(f"the state {by_x(state.shape)} does not fit the input {by_x(input.shape)} and {h} units")
        n = prod(input.shape[:-1])
        macs = n * rows * (i + h)
        bias = 2 * n * rows if b_ih is not None else 0
        shapes = (state.shape,) * (2 if gates == 4 else 1)
        return Work(shapes, macs, 2 * macs + bias + n * h * pointwise)

    def run(
        hx: Any, params: Sequence[Tensor], has_biases: bool, num_layers: int, bidirectional: bool,
        input: Maybe = None, data: Maybe = None, batch_first: bool = False, **_: Any,
    ) -> Work:  # fmt: skip
        # [t, n, d·out] = run([t, n, i], [l·d, n, out], params): per layer and direction [g·h, i] [g·h, h] …
        # sequences of different lengths arrive packed, [steps of all of them, i], under the name of data
        x = input or data
        assert x is not None
        *order, i = x.shape
        states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        directions = 2 if bidirectional else 1
        per = len(params) // (num_layers * directions)
        projected = per in (3, 5)
        h = params[1].shape[0] // gates
        out = params[per - 1].shape[0] if projected else h
        same("input features", params[0].shape[1], i)
        steps = prod(order)  # of all sequences together
        if len(order) == 2 and order[1 if batch_first else 0] == 0:
            raise ShapeError("a sequence needs at least one step")
        products = sum(prod(w.shape) for w in params if len(w.shape) == 2)
        flops = num_layers * directions * ((2 * gates * h if has_biases else 0) + pointwise * h)
        shapes = ((*order, directions * out), *(s.shape for s in states))
        return Work(shapes, steps * products, steps * (2 * products + flops))

    op(f"aten.{name}_cell")(cell)
    op(f"aten.{name}")(run)


for _name, _count, _pointwise in (("rnn_tanh", 1, 2), ("rnn_relu", 1, 2), ("lstm", 4, 13), ("gru", 3, 10)):
    _gates(_name, _count, _pointwise)
