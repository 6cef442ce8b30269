"""Closed forms of what a layer computes besides its multiply-adds: biases, norms, activations, windows, gates.

What counts as one operation is defined under *Counting semantics* in `ops.py`; here it is derived once more, from the
layer's configuration and shapes alone. `flops` of a layer are 2 · macs and this.
"""

from collections.abc import Callable
from math import prod
from typing import Any

from archscope.core.record import Shape
from archscope.core.registry import Registry
from archscope.layers.formulas import Config, Derived, norms, weight_shape

# (configuration, input shapes, closed form) -> operations
Extra = Callable[[Config, tuple[Shape, ...], Derived], int | None]

EXTRA: Registry[Extra] = Registry("count of operations of")
IN_TRAINING: set[str] = set()  # kinds that compute more in training, of which nothing is said there


def extra(*kinds: str, training: bool = True) -> Callable[[Extra], Extra]:
    """Enter the operations of layer kinds. training: whether they are the same in training."""

    def enter(function: Extra) -> Extra:
        EXTRA.register(*kinds)(function)
        IN_TRAINING.update(() if training else kinds)
        return function

    return enter


def flops_of(kind: str, config: Config, shapes: tuple[Shape, ...], derived: Derived, train: bool) -> int | None:
    """FLOPs of a layer, None where no closed form is known."""
    if kind not in EXTRA or (train and kind in IN_TRAINING):
        return None
    more = EXTRA[kind](config, shapes, derived)
    if more is not None and "weight_norm" in config:  # the squares and products of v, and g/‖v‖
        more += 2 * prod(weight_shape(kind, config)) + norms(kind, config)
    return None if more is None else 2 * int(derived.macs) + more


# ------------------------------------------------------------------------------------------------ with weights


@extra(*(f"Conv{t}{n}d" for t in ("", "Transpose") for n in (1, 2, 3)), "Linear", "LazyLinear", "Bilinear")
def bias(config: Config, shapes: tuple[Shape, ...], derived: Derived) -> int:
    """One addition an output."""
    return prod(derived.shapes[0]) if config["bias"] else 0


def _gates(gates: int, pointwise: int, cell: bool) -> Extra:
    def recurrent(config: Config, shapes: tuple[Shape, ...], derived: Derived) -> int:
        """For each step, layer, direction and unit: what the gates are put together with, and two biases a gate."""
        each = config["hidden_size"] * (pointwise + (2 * gates if config["bias"] else 0))
        ways = 1 if cell else config["num_layers"] * (2 if config["bidirectional"] else 1)
        return prod(shapes[0][:-1]) * ways * each

    return recurrent


for _kind, _number, _pointwise in (("RNN", 1, 2), ("LSTM", 4, 13), ("GRU", 3, 10)):
    extra(_kind)(_gates(_number, _pointwise, False))
    extra(f"{_kind}Cell")(_gates(_number, _pointwise, True))


@extra("scaled_dot_product_attention")
def scores(config: Config, shapes: tuple[Shape, ...], derived: Derived) -> int:
    """Each of l · s scores is scaled and goes through a softmax; a mask is one addition more."""
    query, key = shapes[:2]
    return prod(query[:-1]) * key[-2] * (7 if len(shapes) > 3 else 6)


# --------------------------------------------------------------------------------------------- element by element


def per_input(count: int) -> Extra:
    return lambda config, shapes, derived: count * prod(shapes[0])


def per_output(count: int) -> Extra:
    return lambda config, shapes, derived: count * prod(derived.shapes[0])


extra(
    *"ReLU ReLU6 Sigmoid Tanh GELU SiLU Mish ELU SELU CELU LeakyReLU Hardswish Hardsigmoid Hardtanh Softplus".split(),
    *"Softshrink Hardshrink Threshold LogSigmoid PReLU".split(),
)(per_input(1))
extra("RReLU", training=False)(per_input(1))
extra("GLU", "arithmetic", "addmm", "addbmm")(per_output(1))
extra("Tanhshrink")(per_input(2))  # x − tanh x
extra("Softsign")(per_input(3))  # x / (1 + |x|)
extra("Softmax", "LogSoftmax", "Softmax2d")(per_input(5))  # the largest, subtract, exponential, sum, divide
extra("Softmin")(per_input(6))  # of −x
extra("LayerNorm", "LayerNorm2d", "GroupNorm")(per_input(5))
extra("RMSNorm")(per_input(4))

_MOVES = """Identity Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout Flatten Unflatten Embedding
    PixelShuffle PixelUnshuffle ChannelShuffle cat stack matmul grouped_mm""".split()
_PADS = [f"{mode}Pad{n}d" for mode in "Zero Constant Reflection Replication Circular".split() for n in (1, 2, 3)]
extra(*_MOVES, *_PADS)(per_input(0))
extra("StochasticDepth", "DropPath", training=False)(per_input(0))


@extra(
    *(f"{kind}Norm{n}d" for kind in ("Batch", "Instance") for n in (1, 2, 3)), "SyncBatchNorm", training=False
)  # fmt: skip
def channels(config: Config, shapes: tuple[Shape, ...], derived: Derived) -> int:
    """A scale and a shift an element; four more where the statistics are taken of this batch."""
    return prod(shapes[0]) * (2 if config.get("track_running_stats", True) else 6)


# ------------------------------------------------------------------------------------------------------- windows


def _window(last: int) -> Extra:
    def pool(config: Config, shapes: tuple[Shape, ...], derived: Derived) -> int:
        """k − 1 comparisons, or k − 1 additions and a division, for each output."""
        k, n = config["kernel_size"], len(derived.sides)
        return prod(derived.shapes[0]) * ((prod(k) if isinstance(k, tuple) else k**n) - 1 + last)

    return pool


def _shares(last: int) -> Extra:
    def adaptive(config: Config, shapes: tuple[Shape, ...], derived: Derived) -> int:
        """Output i of o sees ⌊i·m/o⌋ to ⌈(i + 1)·m/o⌉."""
        n = len(derived.sides)
        pairs = zip(shapes[0][-n:], derived.shapes[0][-n:], strict=True)
        seen = prod(sum(-(-(i + 1) * m // o) - i * m // o for i in range(o)) for m, o in pairs)
        before, places = prod(shapes[0][:-n]), prod(derived.shapes[0][-n:])
        return before * (seen - places + last * places)

    return adaptive


for _n in (1, 2, 3):
    extra(f"MaxPool{_n}d")(_window(0))
    extra(f"AvgPool{_n}d")(_window(1))
    extra(f"AdaptiveMaxPool{_n}d")(_shares(0))
    extra(f"AdaptiveAvgPool{_n}d")(_shares(1))

_BLENDS = {"nearest": 0, "nearest-exact": 0, "linear": 4, "bilinear": 8, "trilinear": 16, "bicubic": 32}


@extra("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d")
def interpolation(config: Config, shapes: tuple[Shape, ...], derived: Derived) -> int | None:
    """2^n neighbours, a product and an addition each; cubic 16 neighbours."""
    each: Any = _BLENDS.get(config.get("mode", "nearest"))
    return None if each is None else each * prod(derived.shapes[0])
