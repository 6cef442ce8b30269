"""calflops 0.3.2: "FLOPs", two for each multiply-add and some elementwise work.

Read from its `pytorch_ops.py`, which comes from DeepSpeed's profiler. It wraps functions of `torch.nn.functional` and
`torch`; recurrent modules have a hook of their own; all else is 0:

    linear, convolution, matmul, addmm         2 per multiply-add; a bias 1 per output in convolutions, 0 in linear
    convolution with padding='same'            by an output that is d(k − 1) mod 2 too small on each side
    transposed convolution                     with groups: of the channels of one group, divided by the groups again
    batch norm                                 2 per element with weights, 1 without; in training 5 and 4
    layer, group, instance norm                5 per element with weights, 4 without
    relu, relu6, prelu, elu, leaky_relu, silu, gelu, softmax        1 per input element
    pooling                                    1 per input element
    interpolation                              1 per input element; with a size: the product of its sides, once
    add, mul                                   1 per element
    einsum                                     what NumPy's `einsum_path` prints, to four digits
    recurrent                                  2 per multiply-add less one a sum, biases, pointwise work

The module `ReLU6` is a `hardtanh`, which is not wrapped; nor are `a @ b`, `x + y`, bmm and attention. `ptflops.py` says
which calls are seen.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

from archscope.core.record import Layer, Op, Shape, Trace
from archscope.peers.accounts import Account, AccountItem, Ledger, counter, measures, place_of, refused
from archscope.peers.einsum import printed_operations
from archscope.peers.hooks import (
    DIMENSIONS,
    GATES,
    INTERPOLATION_FUNCTIONS,
    POOLING_FUNCTIONS,
    SUMS,
    Hook,
    Part,
    enter_calls,
    functions_of,
    hooked,
    norm_elements,
    not_seen_by_wrappers,
    note_on_calls,
    reason_of_sums,
    recurrent_by_first_sides,
    refusal,
    sums,
)


@counter(
    "calflops",
    title="calflops",
    calls="FLOPs",
    unit="FLOP",
    package="calflops",
    version="0.3.2",
    order=6,
    isolated=True,
    means="two for each multiply-add, without attention; biases of convolutions, norms, activations and pooling",
)
def convention(trace: Trace) -> Account:
    if why := refusal(trace, "calflops", reads_packed=False):
        return refused(why)
    if not trace.params:
        return refused("calflops fails: it asks the first parameter for its device, and there is none")
    products, more = Ledger(trace), Ledger(trace)  # multiply-adds, which it doubles, and single operations
    seen, _ = enter_calls(products, RECURRENT)
    for layer in hooked(trace, RECURRENT):
        for reason, amount in _extra(layer):
            more.enter(reason, amount, layer.path or layer.kind)
    for composite in trace.composites:
        if composite.name == "aten.einsum" and not any(seen[composite.start : composite.stop]):
            place = place_of(trace, composite.start, "einsum")
            shapes = [t.shape for t in composite.args["tensors"]]
            count = int(printed_operations(composite.args["equation"], shapes))
            more.enter("einsum: NumPy's operations, to four digits", count)
            products.enter("einsum not doubled", -sum(products.macs[composite.start : composite.stop]), place)
        seen[composite.start : composite.stop] = [True] * (composite.stop - composite.start)
    called = functions_of(trace)
    for i, op in enumerate(trace.ops):
        name, place = called[i], place_of(trace, i)
        if seen[i]:
            continue
        if name in _PRODUCTS:
            found = _PRODUCTS[name](op)
            if found is None:
                return refused(f"calflops fails: a convolution without a batch axis ({place})")
            reason, count, word, extra = found
            products.enter(reason, count - products.macs[i], place)
            more.enter(word, extra, place)
        elif products.macs[i]:
            products.enter(not_seen_by_wrappers(trace, i), -products.macs[i], place)
        elif name in _ELEMENTWISE:
            more.enter(*_ELEMENTWISE[name](op), place)
        elif name in SUMS:
            more.enter(reason_of_sums(trace, i), sums(op), place)
    return _sum(products.account(factor=2, note=note_on_calls(trace)), more.account())


def _sum(doubled: Account, single: Account) -> Account:
    """Both accounts in one. single: its figure begins at archscope's MACs, which the other one has already."""
    assert doubled.figure is not None
    items: tuple[AccountItem, ...] = (*doubled.items, *single.items)
    return Account(doubled.figure + sum(item.amount for item in single.items), items, doubled.note)


# -------------------------------------------------------------------------------------------------------- products

Found = tuple[str, int, str, int]  # reason and multiply-adds, reason and single operations


def _axes(value: Any, n: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values


def _output(op: Op, sides: Shape, kernel: Shape, padding: Any) -> int:
    """Positions of a convolution as its formula has them: ⌊(m + 2p − d(k − 1) − 1)/s⌋ + 1 on each side."""
    n = len(sides)
    stride, dilation = _axes(op.args.get("stride", 1), n), _axes(op.args.get("dilation", 1), n)
    if padding == "same":
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    padding = (0,) * n if padding == "valid" else _axes(padding, n)
    each = zip(sides, kernel, stride, padding, dilation, strict=True)
    return prod((m + 2 * p - (d * (k - 1) + 1)) // s + 1 for m, k, s, p, d in each)


def _convolution(op: Op) -> Found | None:
    x, weight = (t.shape for t in op.inputs[:2])
    if len(x) != len(weight):
        return None
    groups = op.args.get("groups", 1)
    positions = x[0] * _output(op, x[2:], weight[2:], op.args.get("padding", 0))
    count = prod(weight[2:]) * x[1] * (weight[0] // groups) * positions
    bias = weight[0] * positions if op.args.get("bias") is not None else 0
    return "padding='same' with an even kernel: a smaller output is assumed", count, "convolution biases", bias


def _transposed(op: Op) -> Found | None:
    x, weight = (t.shape for t in op.inputs[:2])
    if len(x) != len(weight):
        return None
    count = prod(weight[2:]) * x[1] * (weight[1] // op.args.get("groups", 1)) * x[0] * prod(x[2:])
    bias = 0
    if op.args.get("bias") is not None:
        bias = weight[1] * x[0] * _output(op, x[2:], weight[2:], op.args.get("padding", 0))
    what = "biases of transposed convolutions, by the output of a plain one"
    return "grouped transposed convolution: divided by the groups twice", count, what, bias


def _linear(op: Op) -> Found:
    return "linear", op.inputs[0].numel * op.inputs[1].shape[0], "", 0


def _matmul(op: Op) -> Found:
    return "matmul by the left operand's size", op.inputs[0].numel * op.inputs[1].shape[-1], "", 0


def _addmm(op: Op) -> Found:
    count = op.inputs[1].numel * op.inputs[2].shape[-1]
    return "addmm", count, "sums that go with a matrix product", op.inputs[0].numel


_PRODUCTS: dict[str, Callable[[Op], Found | None]] = {
    **{f"conv{n}": _convolution for n in DIMENSIONS},
    **{f"conv_transpose{n}": _transposed for n in DIMENSIONS},
    "linear": _linear,
    "matmul": _matmul,
    "addmm": _addmm,
    "baddbmm": _addmm,
}


# ----------------------------------------------------------------------------------------------------- elementwise


def _each(word: str) -> Callable[[Op], tuple[str, int]]:
    return lambda op: (word, op.inputs[0].numel)


def _interpolation(op: Op) -> tuple[str, int]:
    size = op.args.get("output_size")
    if size is not None:
        return "interpolation: the sides of the output, once", prod(_axes(size, 1))
    return "interpolation, 1 per input element", op.inputs[0].numel


_ELEMENTWISE: dict[str, Callable[[Op], tuple[str, int]]] = {
    **{f"{word}_norm": partial(norm_elements, word=word, training=word == "batch")
       for word in ("batch", "layer", "group", "instance")},
    **{name: _each("activations, 1 per element")
       for name in "relu relu6 prelu _prelu_kernel elu leaky_relu silu gelu".split()},
    "softmax": _each("softmax, 1 per element"),
    **{name: _each("pooling, 1 per input element") for name in POOLING_FUNCTIONS},
    **{f"{a}max_pool{n}_with_indices": _each("pooling, 1 per input element")
       for a in ("", "adaptive_") for n in DIMENSIONS},
    **{name: _interpolation for name in INTERPOLATION_FUNCTIONS},
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------- recurrent


def _recurrent(layer: Layer) -> list[Part]:
    return [Part("recurrent gates by the first two sides of the input", recurrent_by_first_sides(layer).products, True)]


def _extra(layer: Layer) -> list[tuple[str, int]]:
    found = recurrent_by_first_sides(layer)
    return [
        ("recurrent gates: a sum of n products has n − 1 additions", -2 * found.rows),
        ("recurrent pointwise work", found.pointwise),
        ("recurrent biases", found.biases),
    ]


RECURRENT: dict[str, Hook] = {kind: _recurrent for kind in GATES}


# ------------------------------------------------------------------------------------------------- the tool itself


def _tool() -> Any:
    """Its module `flops_counter`, without its package's `__init__`, which imports transformers and accelerate."""
    import sys
    from importlib import import_module
    from importlib.util import find_spec
    from types import ModuleType

    if "calflops" not in sys.modules:
        spec = find_spec("calflops")
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError("No module named 'calflops'", name="calflops")
        package = ModuleType("calflops")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["calflops"] = package
    return import_module("calflops.flops_counter")


@measures("calflops")
def measured(model: Any, inputs: tuple[Any, ...], kwargs: Any) -> int:
    from archscope.peers.fake_cpu import on_fake_cpu
    from archscope.peers.suppressed_kernels import SuppressedKernels

    tool = _tool()
    from importlib import import_module

    kept = import_module("calflops.calculate_pipline")
    with (
        on_fake_cpu(model, inputs) as given,
        SuppressedKernels(lambda: [*kept.module_flop_count, *kept.module_mac_count]),
    ):
        flops, _, _ = tool.calculate_flops(
            model, args=list(given), kwargs=dict(kwargs), print_results=False, output_as_string=False
        )
    return int(flops)
