"""What the tools with hooks have in common: they count a module's call as a whole, and see nothing that has no module.

A tool has a table from the kind of a module to what it counts at a call of it, as *parts*: the product itself, whose
reason is the word for what is amiss where it is not archscope's, and whatever it adds, each under its own reason.
"""

from collections.abc import Callable, Mapping
from itertools import zip_longest
from math import prod
from typing import NamedTuple

from archscope.core.record import Layer, Op, Tensor, Trace
from archscope.peers.accounts import Ledger, owners, place_of


class Part(NamedTuple):
    """A piece of what a tool counts at a call. product: it is what archscope counts as MACs, counted their way."""

    reason: str
    amount: int
    product: bool = False


Hook = Callable[[Layer], list[Part]]


def kind_of(layer: Layer) -> str:
    """The class of a module, where hooks go by the class: `ReLU6` is recorded under the class it inherits from."""
    if layer.kind == "Hardtanh" and (layer.config.get("min_val"), layer.config.get("max_val")) == (0.0, 6.0):
        return "ReLU6"
    return layer.kind


def hooked(trace: Trace, hooks: Mapping[str, Hook]) -> list[Layer]:
    """The calls that a tool with these hooks sees: it does not look inside a module that it has a hook for."""
    found: list[Layer] = []
    under: int | None = None
    for layer in trace.layers:  # a caller stands before what it calls
        if under is not None and layer.depth > under:
            continue
        under = None
        if kind_of(layer) in hooks and _is_of_torch(layer, hooks[kind_of(layer)]):
            found.append(layer)
            under = layer.depth
    return found


def _is_of_torch(layer: Layer, hook: Hook) -> bool:
    """Whether a module has the arguments that PyTorch's class of that name has; tools know no other."""
    try:
        hook(layer)
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return False
    return True


def enter_calls(ledger: Ledger, hooks: Mapping[str, Hook]) -> tuple[list[bool], int]:
    """Enter what the hooks count. Returns which operators ran inside a call that was seen, and the sum of all parts."""
    seen = [False] * len(ledger.macs)
    total = 0
    for layer in hooked(ledger.trace, hooks):
        place = layer.path or layer.kind
        left = sum(ledger.macs[layer.start : layer.stop])
        seen[layer.start : layer.stop] = [True] * (layer.stop - layer.start)
        for reason, amount, product in hooks[kind_of(layer)](layer):
            total += amount
            ledger.enter(reason, amount - left if product else amount, place)
            left = 0 if product else left
        ledger.enter(f"{layer.kind} not counted", -left, place)
    return seen, total


def functions_of(trace: Trace) -> list[str]:
    """The function of torch or torch.nn.functional that each operator was called by, "matmul", "relu" of `relu_` too.

    "" where a tool that wraps these functions sees no call: `a @ b`, `a + b`, `x.relu()`.
    """
    out = []
    for i, op in enumerate(trace.ops):
        name = op.name.rpartition(".")[2]
        name = name if name in METHODS else name.removesuffix("_")
        usual = "" if name in SUMS else name
        out.append(usual if trace.spelled is None or i not in trace.spelled else trace.spelled[i].rpartition(".")[2])
    return out


METHODS = ("addmm_", "baddbmm_")  # which no function is called by
SUMS = ("add", "mul")


def sums(op: Op) -> int:
    """Elements of a sum or product as tools take them: the larger of each side, counted from the left."""
    shapes = [v.shape for v in (op.args["self"], op.args["other"]) if isinstance(v, Tensor)]
    return prod(max(sides) for sides in zip_longest(*shapes, fillvalue=1))


def reason_of_sums(trace: Trace, index: int) -> str:
    if owners(trace)[index].kind == "LocalResponseNorm":  # PyTorch writes x.mul(y) and x.add(y) there
        return "sums and products of local response normalisation"
    return "sums and products called as functions, 1 per element"


def pieces_of(trace: Trace) -> list[str]:
    """The function that each operator is a piece of, "einsum"; "" for those that the model called themselves."""
    out = [""] * len(trace.ops)
    for composite in reversed(trace.composites):  # the outer one, which stands first, has the last word
        name = composite.name.rpartition(".")[2]
        out[composite.start : composite.stop] = [name] * (composite.stop - composite.start)
    return out


# ---------------------------------------------------------------------------------------------------------- shapes


def batch_and_sides(layer: Layer, transposed: bool = False) -> int:
    """Positions that a convolution's kernel is put on, as the tools take them: N · h · w of the output, or input."""
    shape = (layer.inputs if transposed else layer.outputs)[0].shape
    return layer.inputs[0].shape[0] * prod(shape[2:])


def is_packed(layer: Layer) -> bool:
    """Whether a recurrent layer was given a PackedSequence: its batch sizes come with it."""
    return len(layer.inputs) > 1 and layer.inputs[1].dtype == "int64" and len(layer.inputs[0].shape) == 2


def widths(layer: Layer) -> list[int]:
    """Input features of each layer of a recurrent module."""
    first, hidden = layer.config["input_size"], layer.config.get("proj_size") or layer.config["hidden_size"]
    count = layer.config.get("num_layers", 1)
    return [first] + [hidden * (2 if layer.config.get("bidirectional") else 1)] * (count - 1)


GATES = {"RNN": 1, "RNNCell": 1, "LSTM": 4, "LSTMCell": 4, "GRU": 3, "GRUCell": 3}
POINTWISE = {1: 1, 3: 7, 4: 10}  # operations per unit and step, by the number of gates: RNN, GRU, LSTM


class Recurrent(NamedTuple):
    """What a tool counts of a recurrent module. rows: how many sums of products there are."""

    products: int
    pointwise: int
    biases: int
    rows: int


def recurrent(
    layer: Layer, times: int, c_out: int, c_in: list[int], pointwise: Mapping[int, int] = POINTWISE
) -> Recurrent:
    """times: rows of input, over all steps. c_out: width of the state. c_in: input features of each layer."""
    hidden, gates = layer.config["hidden_size"], GATES[layer.kind]
    times *= 2 if layer.config.get("bidirectional") else 1
    rows = times * len(c_in) * gates * hidden
    products = times * sum(gates * hidden * (c + c_out) for c in c_in)
    return Recurrent(
        products,
        times * len(c_in) * pointwise[gates] * hidden,
        2 * rows if layer.config.get("bias", True) else 0,
        rows,
    )


def recurrent_by_first_sides(layer: Layer) -> Recurrent:
    """As ptflops and calflops have it: the first two sides of the input are steps and batch."""
    shape = layer.inputs[0].shape
    times = shape[0] if layer.kind.endswith("Cell") else prod(shape[:2])
    return recurrent(layer, times, layer.config.get("proj_size") or layer.config["hidden_size"], widths(layer))


def refusal(trace: Trace, tool: str, reads_packed: bool = True) -> str:
    """Why a tool with hooks gives no figure; empty where it gives one."""
    if trace.train:
        return f"{tool} counts in evaluation mode, and this is a record of training mode"
    if not reads_packed and any(layer.kind in ("RNN", "LSTM", "GRU") and is_packed(layer) for layer in trace.layers):
        return f"{tool} fails: it reads the shape of a PackedSequence, which has none"
    return ""


# ---------------------------------------------------------------------------- names of modules, functions, operators

DIMENSIONS = ("1d", "2d", "3d")
CONVOLUTIONS = tuple(f"Conv{n}" for n in DIMENSIONS)
TRANSPOSED = tuple(f"ConvTranspose{n}" for n in DIMENSIONS)
POOLING_FUNCTIONS = tuple(
    f"{a}{kind}_pool{n}" for a in ("", "adaptive_") for kind in ("max", "avg") for n in DIMENSIONS
)
INTERPOLATION_FUNCTIONS = tuple(
    f"upsample_{kind}" for kind in "nearest1d nearest2d nearest3d linear1d bilinear2d trilinear3d bicubic2d".split()
)


def norm_elements(op: Op, word: str, training: bool) -> tuple[str, int]:
    """Elements of a norm as fvcore and calflops count them, and the reason. training: whether the mode matters."""
    affine = op.args.get("weight") is not None
    each = (2 if affine else 1) if training and not op.args.get("training") else 5 if affine else 4
    return f"{word}-norm elements, {each} each", each * op.inputs[0].numel


# ---------------------------------------------------------------------------------------------- products not counted


def not_seen(trace: Trace, index: int) -> str:
    """The reason for an operator that multiplies and that a tool does not see."""
    name = trace.ops[index].name.rpartition(".")[2]
    if name == "scaled_dot_product_attention" or owners(trace)[index].kind == "MultiheadAttention":
        return "attention not seen"
    if name in ("linear", "mm", "bmm", "matmul", "addmm", "baddbmm", "mv", "dot", "einsum"):
        return "matrix products outside modules not seen"
    return "convolutions outside modules not seen" if name.startswith("conv") else f"{name} not seen"


def not_seen_by_wrappers(trace: Trace, index: int) -> str:
    """The same for a tool that wraps functions."""
    return "a @ b not seen" if trace.ops[index].name == "aten.matmul" else not_seen(trace, index)


def note_on_calls(trace: Trace) -> str:
    """A note where the figure depends on how operators were called and the record does not know; else empty."""
    if trace.spelled is None and any(op.name in ("aten.matmul", "aten.add", "aten.mul") for op in trace.ops):
        return "the record does not say how operators were called: taken for torch.matmul(a, b), and for a + b"
    return ""


def enter_not_seen(ledger: Ledger, seen: list[bool]) -> None:
    """Enter the products that were not seen."""
    for index, macs in enumerate(ledger.macs):
        if macs and not seen[index]:
            ledger.enter(not_seen(ledger.trace, index), -macs, place_of(ledger.trace, index))
