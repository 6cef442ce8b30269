"""fvcore 0.1.5.post20221221: "flops", which are multiply-adds and some elementwise work.

Read from its `flop_count.py` and `jit_handles.py`. It records the model with `torch.jit` and has a handle for these
operators; every other one counts 0:

    linear, addmm, mm, bmm, matmul      multiply-adds (matmul: elements of the left times columns of the right)
    convolution                         multiply-adds; with padding as a word it is another operator, without a handle
    einsum                              multiply-adds as NumPy's `einsum_path` prints them, to four digits
    batch norm                          2 per element with weights, 1 without; in training 5 and 4
    layer, group, instance norm         5 per element with weights, 4 without
    adaptive average pooling in 2-d     1 per input element
    interpolation, grid sampling        nearest in 2-d: 1 per output element; bilinear, and grid sampling: 4

What no output depends on is not in the record.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from math import prod
from typing import Any

from archscope.core.record import Composite, Op, Shape, Trace
from archscope.peers.accounts import Account, Ledger, counter, live, measures, owners, place_of, refused

Letters = frozenset[str]


class _Fails(Exception):
    """fvcore stops with an exception where this is raised."""


@counter(
    "fvcore",
    title="fvcore",
    calls="flops",
    unit="MAC",
    package="fvcore",
    version="0.1.5.post20221221",
    means="multiply-adds of linear layers, convolutions and matrix products, without attention; 2 per batch-norm and "
    "5 per layer-norm element, 1 per input of adaptive average pooling",
    isolated=True,  # `torch.jit` on tensors without contents: what goes wrong there may end the process
)
def convention(trace: Trace) -> Account:
    ledger = Ledger(trace)
    recorded = live(trace)
    inside = [False] * len(trace.ops)
    try:
        for composite in trace.composites:
            if not inside[composite.start]:
                _composite(ledger, composite)
                inside[composite.start : composite.stop] = [True] * (composite.stop - composite.start)
        for i, op in enumerate(trace.ops):
            if not inside[i]:
                place = place_of(trace, i)
                if recorded[i]:
                    _operator(ledger, op, ledger.macs[i], place, owners(trace)[i].config)
                else:
                    ledger.enter("results that no output depends on are not recorded", -ledger.macs[i], place)
    except _Fails as failure:
        return refused(f"fvcore fails: {failure}")
    return ledger.account()


def _operator(ledger: Ledger, op: Op, macs: int, place: str, config: Mapping[str, Any]) -> None:
    name = op.name.rpartition(".")[2]
    if name in _ELEMENTWISE:
        reason, count = _ELEMENTWISE[name](op)
        ledger.enter(reason, count, place)
    elif name in _PRODUCTS:
        reason, count = _PRODUCTS[name](op)
        ledger.enter(reason, count - macs, place)
    elif macs and name.startswith("conv"):
        padding = op.args.get("padding", config.get("padding"))  # "valid" is a default that PyTorch does not pass on
        if isinstance(padding, str):
            ledger.enter(f"padding={padding!r} has no handle: 0", -macs, place)
    elif macs and name not in _SAME:
        ledger.enter(f"{_NAMES.get(name, name)} not seen: there is no handle for it", -macs, place)


# counted as archscope does; recurrent cells arrive as their two linear layers
_SAME = frozenset("linear addmm mm bmm lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell".split())
_NAMES = {
    "scaled_dot_product_attention": "attention",
    "rnn_tanh": "rnn",
    "rnn_relu": "rnn",
    "lstm": "LSTM",
    "gru": "GRU",
}


def _matmul(op: Op) -> tuple[str, int]:
    left, right = (t.shape for t in op.inputs[:2])
    if len(right) < 2:
        raise _Fails("a matrix product with a vector on the right")
    return "matmul: the right operand's batch is left out", prod(left) * right[-1]


_PRODUCTS: dict[str, Callable[[Op], tuple[str, int]]] = {"matmul": _matmul}


def _norm(word: str, training: str = "") -> Callable[[Op], tuple[str, int]]:
    def norm(op: Op) -> tuple[str, int]:
        shape, affine = op.inputs[0].shape, op.args.get("weight") is not None
        if training and not op.args.get(training):
            each = 2 if affine else 1
        else:
            if not 2 <= len(shape) <= 5:
                raise _Fails(f"{word} norm of {len(shape)} axes")
            each = 5 if affine else 4
        return f"{word}-norm elements, {each} each", each * prod(shape)

    return norm


def _each(word: str, inputs: int, outputs: int) -> Callable[[Op], tuple[str, int]]:
    def each(op: Op) -> tuple[str, int]:
        return word, inputs * op.inputs[0].numel + outputs * op.outputs[0].numel

    return each


_ELEMENTWISE: dict[str, Callable[[Op], tuple[str, int]]] = {
    "batch_norm": _norm("batch", training="training"),
    "layer_norm": _norm("layer"),
    "group_norm": _norm("group"),
    "instance_norm": _norm("instance"),
    "adaptive_avg_pool2d": _each("inputs of adaptive average pooling", 1, 0),
    "upsample_nearest2d": _each("outputs of nearest interpolation", 0, 1),
    "upsample_bilinear2d": _each("outputs of bilinear interpolation, 4 each", 0, 4),
    "grid_sampler_2d": _each("outputs of grid sampling, 4 each", 0, 4),
    "grid_sampler_3d": _each("outputs of grid sampling, 4 each", 0, 4),
}


# -------------------------------------------------------------------------------- operators that PyTorch takes apart


def _composite(ledger: Ledger, composite: Composite) -> None:
    name = composite.name.rpartition(".")[2]
    macs = sum(ledger.macs[composite.start : composite.stop])
    place = place_of(ledger.trace, composite.start, name)
    if name == "einsum":
        shapes = [t.shape for t in composite.args["tensors"]]
        count = _einsum(composite.args["equation"].replace(" ", ""), shapes)
        reason = "einsum: NumPy's count is printed with four digits"
        ledger.enter(reason if macs else "einsum without a sum: half an operation a product", count - macs, place)
    else:
        ledger.enter(f"{name} not seen: there is no handle for it", -macs, place)


def _einsum(equation: str, shapes: list[Shape]) -> int:
    """What fvcore makes of an einsum: exact for its two favourites, else half of NumPy's operations."""
    letters = dict.fromkeys(c for c in equation if c.isalpha())
    spelled = equation.translate({ord(letter): 97 + i for i, letter in enumerate(letters)})
    if spelled == "abc,abd->acd":
        return prod(shapes[0]) * shapes[-1][-1]
    if spelled == "abc,adc->adb":
        return prod(shapes[0]) * shapes[-1][1]
    return int(float(f"{_operations(spelled, shapes) + 1:.3e}") / 2)


def _operations(equation: str, shapes: list[Shape]) -> int:
    """What NumPy's `einsum_path(…, optimize="optimal")` counts: for each contraction of two operands one operation a
    product, and one a sum where something is summed over; the cheapest order that makes nothing larger than the
    largest operand or the output."""
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    wild = max(len(shape) - len(term.replace("...", "")) for term, shape in zip(terms, shapes, strict=True))
    letters = "".join(map(chr, range(65, 65 + wild)))  # for the axes of an ellipsis, the last ones where there are less
    terms = [
        term.replace("...", letters[wild - len(shape) + len(term.replace("...", "")) :])
        for term, shape in zip(terms, shapes, strict=True)
    ]
    if not arrow:
        named = "".join(terms)
        out = letters + "".join(sorted(c for c in set(named) - set(letters) if named.count(c) == 1))
    out = out.replace("...", letters)
    sides: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, side in zip(term, shape, strict=True):
            sides[letter] = max(sides.get(letter, 1), side)

    def size(of: Iterable[str]) -> int:
        return prod(sides[letter] for letter in of)

    def contract(group: Sequence[Letters], rest: Sequence[Letters]) -> tuple[int, Letters]:
        """Operations of one contraction, and the letters that it leaves."""
        joined: Letters = frozenset().union(*group)
        left = joined & frozenset(out).union(*rest)
        return size(joined) * (max(1, len(group) - 1) + (left != joined)), left

    operands = [frozenset(term) for term in terms]
    largest = max(size(term) for term in (*terms, out))
    if len(operands) < 3 or set(sides) == set(out):
        return contract(operands, ())[0]
    ways: list[tuple[int, list[Letters]]] = [(0, operands)]
    for count in range(len(operands), 1, -1):
        longer = []
        for cost, now in ways:
            for i, j in combinations(range(count), 2):
                rest = [one for k, one in enumerate(now) if k not in (i, j)]
                more, made = contract((now[i], now[j]), rest)
                if size(made) <= largest:
                    longer.append((cost + more, [*rest, made]))
        if not longer:  # all that is left in one contraction
            cost, now = min(ways, key=lambda way: way[0])
            return cost + contract(now, ())[0]
        ways = longer
    return min(cost for cost, _ in ways)


def _positional(model: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    """The same model with its keyword arguments in a row: fvcore takes tensors only, and none by name."""
    import torch

    if not kwargs:
        return model, inputs
    tensors = {key: value for key, value in kwargs.items() if isinstance(value, torch.Tensor)}
    rest = {key: value for key, value in kwargs.items() if key not in tensors}

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *given: Any) -> Any:
            named = dict(zip(tensors, given[len(inputs) :], strict=True))
            return self.inner(*given[: len(inputs)], **named, **rest)

    return Positional(), (*inputs, *tensors.values())


@measures("fvcore")
def measured(model: Any, inputs: tuple[Any, ...], kwargs: Any) -> int:
    import logging

    from fvcore.nn import FlopCountAnalysis

    from archscope.peers.fake_cpu import on_fake_cpu

    model, inputs = _positional(model, inputs, kwargs)
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    with on_fake_cpu(model, inputs) as given:  # it cannot record on the meta device
        analysis = FlopCountAnalysis(model, given).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return int(analysis.total())
