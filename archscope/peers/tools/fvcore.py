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

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from archscope.core.record import Composite, Op, Shape, Trace
from archscope.peers.accounts import Account, Ledger, counter, live, measures, owners, place_of, refused
from archscope.peers.einsum import printed_operations
from archscope.peers.hooks import norm_elements


class _FvcoreError(Exception):
    """fvcore stops with an exception where this is raised."""


@counter(
    "fvcore",
    title="fvcore",
    calls="flops",
    unit="MAC",
    package="fvcore",
    version="0.1.5.post20221221",
    order=2,
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
    except _FvcoreError as failure:
        return refused(f"fvcore fails: {failure}")
    return ledger.account()


def _operator(ledger: Ledger, op: Op, macs: int, place: str, config: Mapping[str, Any]) -> None:
    name = op.name.rpartition(".")[2]
    if name in _ELEMENTWISE:
        reason, count = _ELEMENTWISE[name](op)
        ledger.enter(reason, count, place)
    elif name == "matmul":
        left, right = (t.shape for t in op.inputs[:2])
        if len(right) < 2:
            raise _FvcoreError("a matrix product with a vector on the right")
        ledger.enter("matmul: the right operand's batch is left out", prod(left) * right[-1] - macs, place)
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


def _norm(word: str, training: bool = False) -> Callable[[Op], tuple[str, int]]:
    def norm(op: Op) -> tuple[str, int]:
        if (not training or op.args.get("training")) and not 2 <= len(op.inputs[0].shape) <= 5:
            raise _FvcoreError(f"{word} norm of {len(op.inputs[0].shape)} axes")
        return norm_elements(op, word, training)

    return norm


def _each(word: str, inputs: int, outputs: int) -> Callable[[Op], tuple[str, int]]:
    def each(op: Op) -> tuple[str, int]:
        return word, inputs * op.inputs[0].numel + outputs * op.outputs[0].numel

    return each


_ELEMENTWISE: dict[str, Callable[[Op], tuple[str, int]]] = {
    "batch_norm": _norm("batch", training=True),
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
    letters_in_order = equation.translate({ord(letter): 97 + i for i, letter in enumerate(letters)})
    if letters_in_order == "abc,abd->acd":
        return prod(shapes[0]) * shapes[-1][-1]
    if letters_in_order == "abc,adc->adb":
        return prod(shapes[0]) * shapes[-1][1]
    return int(printed_operations(letters_in_order, shapes) / 2)


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
