"""Layers that keep the shape: activations, softmax, dropout; and the GLU, which halves an axis."""

from math import prod

from archscope.core.expression import symbol
from archscope.layers.formula import Config, Derived, Formula, Shapes, axis_of, layer, require


def unchanged(count: int, evaluation: bool = False) -> Formula:
    """The shape stays, with `count` operations for each element."""
    return lambda config, shapes: Derived(shapes[:1], operations=count * prod(shapes[0]), evaluation=evaluation)


# functions of one tensor that are one operation an element
_UNARY = """relu relu6 sigmoid tanh gelu silu mish hardswish hardsigmoid hardtanh elu selu celu leaky_relu threshold exp
    exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal neg abs square sin cos erf erfinv floor ceil round sign trunc
    frac""".split()
_SOURCE = "element by element: the shape stays; nothing is learned"
layer("ReLU", source=_SOURCE, functions=[name + end for name in _UNARY for end in ("", "_")])(unchanged(1))
layer(
    *"ReLU6 Sigmoid Tanh GELU SiLU Mish ELU SELU CELU LeakyReLU Hardswish Hardsigmoid Hardtanh Softplus".split(),
    *"Softshrink Hardshrink Threshold LogSigmoid".split(),
    source=_SOURCE,
)(unchanged(1))
layer("RReLU", source=_SOURCE, functions=("rrelu", "rrelu_"))(unchanged(1, evaluation=True))
layer("Tanhshrink", source=_SOURCE)(unchanged(2))  # x − tanh x
layer("Softsign", source=_SOURCE)(unchanged(3))  # x / (1 + |x|)
layer("Identity", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout", source=_SOURCE)(unchanged(0))
layer("Dropout", source=_SOURCE, arguments=("p",), functions=("dropout",))(unchanged(0))
layer("StochasticDepth", "DropPath", source=_SOURCE)(unchanged(0, evaluation=True))


@layer("Dropout1d", source="whole channels of [N, c, t] or [c, t]")
def dropout_1d(config: Config, shapes: Shapes) -> Derived:
    require(len(shapes[0]) in (2, 3), f"takes 2 to 3 axes, gets {list(shapes[0])}")
    return Derived(shapes[:1], operations=0)


def softmax(count: int) -> Formula:
    """The largest, subtract, exponential, sum, divide: five operations an element."""

    def form(config: Config, shapes: Shapes) -> Derived:
        if "dim" in config:
            axis_of(config["dim"], shapes[0])
        return Derived(shapes[:1], operations=count * prod(shapes[0]))

    return form


_SOFTMAX = "exp(x) over its sum along one axis: the shape stays"
layer("Softmax", source=_SOFTMAX, arguments=("dim",), functions=("softmax",))(softmax(5))
layer("LogSoftmax", source=_SOFTMAX, functions=("log_softmax",))(softmax(5))
layer("Softmin", source=_SOFTMAX)(softmax(6))  # of −x


@layer("Softmax2d", source="softmax over the channels of [N, c, h, w] or [c, h, w]")
def softmax_2d(config: Config, shapes: Shapes) -> Derived:
    require(len(shapes[0]) in (3, 4), f"takes 3 to 4 axes, gets {list(shapes[0])}")
    return Derived(shapes[:1], operations=5 * prod(shapes[0]))


@layer(
    "GLU",
    source="Dauphin et al., arXiv:1612.08083, equation 1: one half of an axis gates the other",
    letters={"n": "side of the axis"},
)
def glu(config: Config, shapes: Shapes) -> Derived:
    at = axis_of(config["dim"], shapes[0])
    require(len(shapes[0]) > 0 and shapes[0][at] % 2 == 0, f"axis {at} of {list(shapes[0])} cannot be halved")
    half = symbol("n", shapes[0][at]) / 2
    shape = (*shapes[0][:at], half.value, *shapes[0][at + 1 :])
    return Derived((shape,), (half,), operations=prod(shape))


@layer("PReLU", source="He et al., arXiv:1502.01852, equation 1: a slope for all channels, or one for each")
def prelu(config: Config, shapes: Shapes) -> Derived:
    slopes, c = config["num_parameters"], shapes[0][1] if len(shapes[0]) > 1 else 1
    require(slopes in (1, c), f"{slopes} slopes for {c} channels")
    return Derived(shapes[:1], params=symbol("slopes", slopes), operations=prod(shapes[0]))
