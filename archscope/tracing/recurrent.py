"""Recurrent layers as PyTorch runs them on a CPU, without data on the meta device.

On a CPU the products with the whole input are made before the loop over its positions, elsewhere one at each position
(`aten/src/ATen/native/RNN.cpp` of PyTorch 2.14, `FullLayer` and `PackedLayer`). The operators and what each keeps are
those of that file; oneDNN's own recurrent kernels are not.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from archscope.tracing.devices import is_meta

Cell = Callable[[torch.Tensor, Any, Sequence[torch.Tensor]], Any]


def _hidden(weights: Sequence[torch.Tensor], hidden: torch.Tensor, bias: bool) -> torch.Tensor:
    return functional.linear(hidden, weights[1], weights[3] if bias else None)


def _simple(activate: Callable[[torch.Tensor], torch.Tensor], bias: bool) -> Cell:
    def cell(given: torch.Tensor, hidden: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
        return activate(_hidden(weights, hidden, bias).add_(given))

    return cell


def _gru(bias: bool) -> Cell:
    def cell(given: torch.Tensor, hidden: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
        i = given.unsafe_chunk(3, 1)
        h = _hidden(weights, hidden, bias).unsafe_chunk(3, 1)
        reset = h[0].add_(i[0]).sigmoid_()
        update = h[1].add_(i[1]).sigmoid_()
        new = i[2].add(h[2].mul_(reset)).tanh_()
        return (hidden - new).mul_(update).add_(new)

    return cell


def _lstm(bias: bool) -> Cell:
    def cell(given: torch.Tensor, hidden: Any, weights: Sequence[torch.Tensor]) -> Any:
        before, state = hidden
        gates = _hidden(weights, before, bias).add_(given).unsafe_chunk(4, 1)
        enter, forget, new, leave = gates[0].sigmoid_(), gates[1].sigmoid_(), gates[2].tanh_(), gates[3].sigmoid_()
        state = (forget * state).add_(enter * new)
        output = leave * state.tanh()
        if len(weights) == 2 + 2 * bias + 1:  # a projection
            output = output @ weights[-1].t()
        return output, state

    return cell


def _given(x: torch.Tensor, weights: Sequence[torch.Tensor], bias: bool) -> Sequence[torch.Tensor]:
    """What each position gives to its cell."""
    return functional.linear(x, weights[0], weights[2] if bias else None).unbind(0)


def _loop(cell: Cell, given: Iterable[torch.Tensor], hidden: Any, weights: Sequence[torch.Tensor]) -> Any:
    """The output of each position, and the last hidden state."""
    outputs = []
    for one in given:
        hidden = cell(one, hidden, weights)
        outputs.append(hidden[0] if isinstance(hidden, tuple) else hidden)
    return outputs, hidden


def _both_ways(cell: Cell, x: torch.Tensor, hidden: Sequence[Any], weights: Sequence[Any], bias: bool) -> Any:
    """One layer in both directions. `given` lives as long as in RNN.cpp: the first until the second is made."""
    given = _given(x, weights[0], bias)
    forth, end = _loop(cell, given, hidden[0], weights[0])
    output = torch.stack(forth, 0)
    given = _given(x, weights[1], bias)
    back, start = _loop(cell, reversed(given), hidden[1], weights[1])
    return torch.cat([output, torch.stack(back[::-1], 0)], -1), [end, start]


def _one_way(cell: Cell, x: torch.Tensor, hidden: Sequence[Any], weights: Sequence[Any], bias: bool) -> Any:
    given = _given(x, weights[0], bias)
    outputs, end = _loop(cell, given, hidden[0], weights[0])
    return torch.stack(outputs, 0), [end]


def _packed(
    cell: Cell, x: torch.Tensor, hidden: Any, weights: Sequence[torch.Tensor], bias: bool, sizes: Sequence[int]
) -> tuple[torch.Tensor, Any]:
    """One layer over a packed sequence. sizes: how many examples have each position, which never grows. An example
    that ends leaves its hidden state."""
    given = functional.linear(x, weights[0], weights[2] if bias else None)
    outputs, ended, before, start = [], [], sizes[0], 0
    for size in sizes:
        one = given.narrow(0, start, size)
        if size < before:
            ended.append(_part(hidden, size, before))
            hidden = _part(hidden, 0, size)
        hidden = cell(one, hidden, weights)
        outputs.append(hidden[0] if isinstance(hidden, tuple) else hidden)
        before, start = size, start + size
    return torch.cat(outputs, 0), _joined([hidden, *reversed(ended)])


def _packed_back(
    cell: Cell, x: torch.Tensor, first: Any, weights: Sequence[torch.Tensor], bias: bool, sizes: Sequence[int]
) -> tuple[torch.Tensor, Any]:
    """The same from the last position to the first: an example begins with its first hidden state where it ends."""
    given = functional.linear(x, weights[0], weights[2] if bias else None)
    outputs, before, stop = [], sizes[-1], x.shape[0]
    hidden = _part(first, 0, before)
    for size in reversed(sizes):
        if size > before:
            hidden = _joined([hidden, _part(first, before, size)])
        hidden = cell(given.narrow(0, stop - size, size), hidden, weights)
        outputs.append(hidden[0] if isinstance(hidden, tuple) else hidden)
        before, stop = size, stop - size
    return torch.cat(outputs[::-1], 0), hidden


def _part(hidden: Any, start: int, stop: int) -> Any:
    if isinstance(hidden, tuple):  # the last one first, as the compiled code does; it is the order in the backward too
        return tuple([one.narrow(0, start, stop - start) for one in hidden[::-1]][::-1])
    return hidden.narrow(0, start, stop - start)


def _joined(hidden: Sequence[Any]) -> Any:
    if isinstance(hidden[0], tuple):
        return tuple([torch.cat(states, 0) for states in list(zip(*hidden, strict=True))[::-1]][::-1])
    return torch.cat(list(hidden), 0)


def _run_packed(
    cell: Cell, x: torch.Tensor, sizes: torch.Tensor, hidden: Sequence[Any], weights: Sequence[torch.Tensor],
    bias: bool, layers: int, dropout: float, train: bool, both: bool,
) -> tuple[torch.Tensor, list[Any]]:  # fmt: skip
    """All layers over a packed sequence. hidden: the first state of each layer and direction."""
    ways = (_packed, _packed_back)[: 1 + both]
    each, counts = len(weights) // (layers * len(ways)), sizes.tolist()
    groups = [weights[i : i + each] for i in range(0, len(weights), each)]
    last: list[Any] = []
    for i in range(layers):
        numbers = range(len(ways) * i, len(ways) * (i + 1))
        found = [way(cell, x, hidden[n], groups[n], bias, counts) for n, way in zip(numbers, ways, strict=True)]
        last += [end for _, end in found]
        x = torch.cat([output for output, _ in found], -1) if both else found[0][0]
        del found
        if dropout and train and i < layers - 1:
            x = torch.dropout(x, dropout, train)
    return x, last


def _run(
    cell: Cell, x: torch.Tensor, hidden: Sequence[Any], weights: Sequence[torch.Tensor], bias: bool, layers: int,
    dropout: float, train: bool, both: bool, batch_first: bool,
) -> tuple[torch.Tensor, list[Any]]:  # fmt: skip
    """All layers. hidden: the first state of each layer and direction."""
    ways = 1 + both
    each = len(weights) // (layers * ways)
    groups = [weights[i : i + each] for i in range(0, len(weights), each)]
    last: list[Any] = []
    x = x.transpose(0, 1) if batch_first else x
    for i in range(layers):
        at = slice(ways * i, ways * (i + 1))
        x, ends = (_both_ways if both else _one_way)(cell, x, hidden[at], groups[at], bias)
        last += ends
        if dropout and train and i < layers - 1:
            x = torch.dropout(x, dropout, train)
    return x.transpose(0, 1) if batch_first else x, last


def _of_one_state(kind: Callable[[bool], Cell]) -> Callable[..., Any]:
    def layer(x: torch.Tensor, *given: Any) -> tuple[Any, ...]:
        if _is_whole(given[1]):
            state, weights, bias, *more = given
            output, last = _run(kind(bias), x, state.unbind(0), weights, bias, *more)
        else:
            sizes, state, weights, bias, *more = given
            output, last = _run_packed(kind(bias), x, sizes, state.unbind(0), weights, bias, *more)
        return output, torch.stack(last, 0)

    return layer


def _of_two_states(x: torch.Tensor, *given: Any) -> tuple[Any, ...]:
    if _is_whole(given[0]):
        states, weights, bias, *more = given
        output, last = _run(_lstm(bias), x, _pairs(states), weights, bias, *more)
    else:
        sizes, states, weights, bias, *more = given
        output, last = _run_packed(_lstm(bias), x, sizes, _pairs(states), weights, bias, *more)
    return output, torch.stack([h for h, _ in last], 0), torch.stack([c for _, c in last], 0)


def _is_whole(value: Any) -> bool:
    """Whether a sequence is no packed one, whose numbers of examples come second: by what is a list or tuple else."""
    return isinstance(value, (list, tuple))


def _pairs(states: Any) -> list[Any]:
    return list(zip(*(state.unbind(0) for state in states), strict=True))


LAYERS: dict[str, Callable[..., Any]] = {
    "rnn_tanh": _of_one_state(lambda bias: _simple(torch.tanh, bias)),
    "rnn_relu": _of_one_state(lambda bias: _simple(torch.relu, bias)),
    "gru": _of_one_state(_gru),
    "lstm": _of_two_states,
}


@contextmanager
def recurrent_on_cpu() -> Iterator[None]:
    """Within this block recurrent layers of PyTorch run as they do on a CPU."""
    kept = {name: getattr(torch._VF, name) for name in LAYERS}

    def replaced(name: str) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            return (LAYERS if is_meta(args[0]) else kept)[name](*args)

        return run

    try:
        for name in LAYERS:
            setattr(torch._VF, name, replaced(name))
        yield
    finally:
        for name, function in kept.items():
            setattr(torch._VF, name, function)
