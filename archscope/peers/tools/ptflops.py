"""ptflops 0.7.5: "MACs", by two backends that count differently.

`ptflops` is the backend `pytorch`, the default in its code. Read from its `pytorch_ops.py`: modules are counted by
hooks on their class, *and* some functions of `torch.nn.functional` and `torch` are wrapped, so that a ReLU, a pooling
or an interpolation with a module of its own is counted twice:

    convolution, Linear                        multiply-adds, and 1 for each output that gets a bias
    batch, instance, group norm                2 per element with weights, 1 without; layer norm 1
    ReLU, ReLU6, PReLU, ELU, LeakyReLU, GELU   1 per element, as modules; again as functions: relu, elu, prelu, gelu
    pooling                                    1 per input element as a module, and again as a function
    silu, softmax                              1 per element, as functions
    interpolation                              1 per output element, as a module and as a function
    recurrent                                  gates, biases and pointwise work
    MultiheadAttention                         its own formula, and its matrix products again where they are functions
    matmul, mm, bmm, addmm, baddbmm            multiply-adds, by their functions
    add, mul                                   1 per element, by their functions

What modules count is divided by the first side of the input, what functions count is not. Functions are seen where
they are called by their name in `torch` or `torch.nn.functional`, or as a method of those in `torch`: not `a @ b`,
`x + y`, `x.relu()`, nor a function that a model has kept as its own, as `nn.TransformerEncoderLayer` keeps its
activation. Of the functions that `calls.USUAL` does not name, pooling and mm among them, the record does not know that.

`ptflops-aten` is the backend `aten`, read from `aten_ops.py`: a dispatch mode that knows mm, bmm, addmm and
convolution, with their biases, and counts all else 0; on a CPU that is attention and the LSTM. A Linear whose input is
not contiguous, as in a recurrent layer with the batch first and more than one sequence, becomes a product and a sum
instead, and its bias is 0 too: the record does not know of that.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

from archscope.core.record import Layer, Op, Trace
from archscope.peers.accounts import Account, AccountItem, Ledger, counter, measures, place_of, refused
from archscope.peers.hooks import (
    CONVOLUTIONS,
    DIMENSIONS,
    GATES,
    INTERPOLATION_FUNCTIONS,
    POOLING_FUNCTIONS,
    SUMS,
    TRANSPOSED,
    Hook,
    Part,
    batch_and_sides,
    enter_calls,
    functions_of,
    kind_of,
    not_seen,
    not_seen_by_wrappers,
    note_on_calls,
    owners,
    pieces_of,
    reason_of_sums,
    recurrent_by_first_sides,
    refusal,
    sums,
)

_ABOUT: dict[str, Any] = dict(calls="MACs", unit="MAC", package="ptflops", version="0.7.5", isolated=True)


@counter(
    "ptflops",
    order=4,
    title="ptflops, backend pytorch",
    means="multiply-adds, biases, norms, pooling and activations, the last two twice where a module calls a function",
    **_ABOUT,
)
def by_modules(trace: Trace) -> Account:
    """What the default backend prints."""
    if why := refusal(trace, "ptflops", reads_packed=False):
        return refused(why)
    batch = _batch(trace)
    if batch is None:
        return refused("ptflops fails: the first input has no axes")
    ledger = Ledger(trace)
    seen, modules = enter_calls(ledger, HOOKS)
    inside = [kind_of(layer) for layer in owners(trace)]
    pieces, called = pieces_of(trace), functions_of(trace)
    functions = 0
    for i, op in enumerate(trace.ops):
        name, place = called[i], place_of(trace, i, pieces[i])
        if pieces[i]:
            ledger.enter(f"{pieces[i]} not seen", 0 if seen[i] else -ledger.macs[i], place)
        elif name in _FUNCTIONS:
            word, count = _FUNCTIONS[name]
            amount = count(op)
            functions += amount
            if name in _PRODUCTS and not seen[i]:
                ledger.enter("matrix products by the left operand's size", amount - ledger.macs[i], place)
            else:
                twice = inside[i] in HOOKS and name not in ("silu", "softmax")
                ledger.enter(f"{word} counted again as functions (twice)" if twice else word, amount, place)
        elif name in SUMS:
            functions += sums(op)
            ledger.enter(reason_of_sums(trace, i), sums(op), place)
        elif ledger.macs[i] and not seen[i]:
            ledger.enter(not_seen_by_wrappers(trace, i), -ledger.macs[i], place)
    return _divided(ledger.account(note=note_on_calls(trace)), modules, functions, batch)


def _divided(account: Account, modules: int, functions: int, batch: int) -> Account:
    """The account with the modules' part divided by the batch, as the tool does at last."""
    if batch == 1 or account.figure is None:
        return account
    figure = int(modules / batch + functions)
    item = AccountItem(
        f"what modules count is divided by the first side of the input, {batch}", figure - account.figure
    )
    return account._replace(figure=figure, items=(*account.items, item) if item.amount else account.items)


def _batch(trace: Trace) -> int | None:
    """The first side of the first input: what the tool takes for the batch."""
    shape = trace.inputs[0].shape if trace.inputs else (1,)
    return shape[0] if shape else None


# ------------------------------------------------------------------------------------------------- hooks on modules


def _convolution(layer: Layer, transposed: bool = False) -> list[Part]:
    config = layer.config
    each = prod(config["kernel_size"]) * config["in_channels"] * (config["out_channels"] // config["groups"])
    bias = layer.inputs[0].shape[0] * prod(layer.outputs[0].shape[1:]) if config["bias"] else 0
    return [
        Part("convolution without a batch axis", each * batch_and_sides(layer, transposed), True),
        Part("convolution biases", bias),
    ]


def _linear(layer: Layer) -> list[Part]:
    *rows, c_in = layer.inputs[0].shape
    c_out = layer.outputs[0].shape[-1]
    return [
        Part("Linear", prod(rows) * c_in * c_out, True),
        Part("Linear biases", prod(rows) * c_out if layer.config["bias"] else 0),
    ]


def _norm(word: str, layer: Layer) -> list[Part]:
    each = 2 if layer.config.get("affine") else 1
    return [Part(f"{word}-norm elements" + (", 2 each" if each == 2 else ""), each * layer.inputs[0].numel)]


def _activation(layer: Layer) -> list[Part]:
    return [Part("activations, 1 per element", layer.outputs[0].numel)]


def _pool(layer: Layer) -> list[Part]:
    return [Part("pooling, 1 per input element", layer.inputs[0].numel)]


def _upsample(layer: Layer) -> list[Part]:
    # it takes the first sample for the batch: [c, h, w]
    return [Part("interpolation, 1 per output element of the first sample", prod(layer.outputs[0].shape[1:]))]


def _recurrent(layer: Layer) -> list[Part]:
    found = recurrent_by_first_sides(layer)
    return [
        Part("recurrent gates by the first two sides of the input", found.products, True),
        Part("recurrent pointwise work", found.pointwise),
        Part("recurrent biases", found.biases),
    ]


def _attention(layer: Layer) -> list[Part]:
    q, k, v = (t.shape for t in layer.inputs[:3])
    first = layer.config.get("batch_first")
    n, at = (q[0], 1) if first else (q[1], 0)
    heads = layer.config["num_heads"]
    scores = q[at] * k[at]
    products = q[at] * q[2] ** 2 + k[at] * k[2] ** 2 + v[at] * v[2] ** 2
    products += heads * scores * (q[2] // heads + v[2] // heads) + q[at] * v[2] ** 2
    biases = (q[at] + k[at] + v[at]) * q[2] if layer.config["bias"] else 0
    return [
        Part("attention by its own formula", n * products, True),
        Part("attention: scaling of the queries", n * q[at] * q[2]),
        Part("attention: softmax", n * heads * scores),
        Part("attention: biases of the projections", n * (biases + q[at] * v[2])),
    ]


HOOKS: dict[str, Hook] = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(TRANSPOSED, partial(_convolution, transposed=True)),
    "Linear": _linear,
    **{f"{word.title()}Norm{n}": partial(_norm, word) for word in ("batch", "instance") for n in DIMENSIONS},
    "GroupNorm": partial(_norm, "group"),
    "LayerNorm": partial(_norm, "layer"),
    **{kind: _activation for kind in "ReLU PReLU ELU LeakyReLU ReLU6 GELU".split()},
    **{f"{a}{kind}Pool{n}": _pool for a in ("", "Adaptive") for kind in ("Max", "Avg") for n in DIMENSIONS},
    "Upsample": _upsample,
    **{kind: _recurrent for kind in GATES},
    "MultiheadAttention": _attention,
}


# ------------------------------------------------------------------------------------------------ wrapped functions


def _input(op: Op) -> int:
    return op.inputs[0].numel


def _product(op: Op) -> int:
    return op.inputs[0].numel * op.inputs[1].shape[-1]


def _product_and_sum(op: Op) -> int:
    return op.inputs[0].numel + op.inputs[1].numel * op.inputs[2].shape[-1]


def _interpolation(op: Op) -> int:
    factors = op.args.get("scale_factors")
    if op.args.get("output_size") is None and factors:
        return int(op.inputs[0].numel * prod(factors))
    return prod(op.inputs[0].shape[:2]) * prod(op.outputs[0].shape[2:])


_PRODUCTS = frozenset("matmul mm bmm addmm baddbmm".split())
_FUNCTIONS: dict[str, tuple[str, Callable[[Op], int]]] = {
    **{name: ("activations", _input) for name in "relu prelu elu relu6 gelu".split()},
    "silu": ("activations, 1 per element", _input),
    "softmax": ("softmax, 1 per element", _input),
    **{name: ("pooling", _input) for name in POOLING_FUNCTIONS},
    **{f"max_pool{n}_with_indices": ("pooling", _input) for n in DIMENSIONS},
    **{name: ("interpolation", _interpolation) for name in INTERPOLATION_FUNCTIONS},
    **{name: ("attention: products", _product) for name in "matmul mm bmm".split()},
    **{name: ("attention: products", _product_and_sum) for name in ("addmm", "baddbmm")},
}  # fmt: skip


# --------------------------------------------------------------------------------------------------- backend aten


@counter(
    "ptflops-aten",
    order=5,
    title="ptflops, backend aten",
    means="multiply-adds and biases of linear layers, convolutions and matrix products, without attention",
    **_ABOUT,
)
def by_operators(trace: Trace) -> Account:
    """What the backend `aten` prints, on a CPU."""
    if why := refusal(trace, "ptflops"):
        return refused(why)
    ledger = Ledger(trace)
    for i, op in enumerate(trace.ops):
        name, place, macs = op.name.rpartition(".")[2], place_of(trace, i), ledger.macs[i]
        if name == "linear":
            if len(op.inputs[0].shape) < 2:
                ledger.enter("Linear on a single vector not seen", -macs, place)
            elif op.args.get("bias") is not None:
                ledger.enter("Linear biases", op.outputs[0].numel, place)
        elif name.startswith("conv") and macs:
            biases = op.outputs[0].numel if op.args.get("bias") is not None else 0
            ledger.enter("convolution biases", biases, place)
        elif name in ("addmm", "baddbmm"):
            ledger.enter("sums that go with a matrix product", op.outputs[0].numel if name == "addmm" else 0, place)
            ledger.enter("baddbmm not seen", -macs if name == "baddbmm" else 0, place)
        elif name in ("gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"):
            ledger.enter("recurrent biases, as those of matrix products", _gate_biases(op, name), place)
        elif macs and name not in ("mm", "bmm", "matmul"):
            ledger.enter(not_seen(trace, i), -macs, place)
    return ledger.account()


def _gate_biases(op: Op, name: str) -> int:
    """The biases that are added within a matrix product: both of each gate, layer, direction and step."""
    if name.endswith("cell"):
        rows, biases = op.inputs[0].shape[0], [t for t in op.inputs if len(t.shape) == 1]
    else:
        rows, biases = prod(op.inputs[0].shape[:-1]), [t for t in op.args["params"] if len(t.shape) == 1]
    return rows * sum(t.numel for t in biases)


# ------------------------------------------------------------------------------------------------- the tool itself


def _measured(backend: str, model: Any, inputs: tuple[Any, ...], kwargs: Any) -> int:
    import contextlib
    import io
    from importlib import import_module

    import torch
    from torch.nn import functional

    from archscope.peers.fake_cpu import on_fake_cpu
    from archscope.peers.suppressed_kernels import SuppressedKernels

    if kwargs or len(inputs) != 1:
        raise ValueError("ptflops takes one input")
    tool = import_module("ptflops")
    printed = io.StringIO()
    with (
        on_fake_cpu(model, inputs) as (given,),
        SuppressedKernels(lambda: [getattr(wrapped, "collector", []) for wrapped in (functional.relu, torch.mm)]),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        macs, _ = tool.get_model_complexity_info(
            model, (1,), False, False, input_constructor=lambda _: given, backend=backend, ost=printed
        )
    if macs is None:
        lines = [line for line in printed.getvalue().splitlines() if line.startswith("<class")]
        raise RuntimeError(lines[0].partition("'>: ")[2] if lines else "it printed no figure")
    return int(macs)


measures("ptflops")(partial(_measured, "pytorch"))
measures("ptflops-aten")(partial(_measured, "aten"))
