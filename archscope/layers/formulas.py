"""Closed forms: what a layer gives, from its configuration and its input shape alone.

One function a family of kinds, written in `Expr`, so that the code that computes is the text that is shown. Nothing
here knows how PyTorch computes a layer, and `ops.py` is never consulted: where a closed form and an observation agree,
two derivations that share no code agree.

A source names the rule, down to the equation; a letter in brackets is a work of `REFERENCES`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from archscope.core.errors import ShapeError
from archscope.core.expression import Expr, Number, ceil_div, product, symbol, total
from archscope.core.record import Shape
from archscope.core.registry import Registry


class Derived(NamedTuple):
    """What a closed form says of one call.

    shapes: of the outputs (a layer may give more than it derives; those are not compared). sides: the derivation of
    each spatial side, empty where the shape is not changed. params, macs: with their derivations. weighted: whether
    the layer computes from learned weights, so that its outputs are neurons. lost: rows or columns at the end of each
    axis that no window reaches, with the numbers: (m + 2·pad − span, s, rest). buffers: what is kept and not learned.
    """

    shapes: tuple[Shape, ...]
    sides: tuple[Expr, ...] = ()
    params: Number = 0
    macs: Number = 0
    weighted: bool = False
    lost: tuple[tuple[int, int, int], ...] = ()
    buffers: Number = 0


Config = Mapping[str, Any]
Formula = Callable[[Config, tuple[Shape, ...]], Derived | None]

FORMULAS: Registry[Formula] = Registry("closed form of")
SOURCES: dict[str, str] = {}
REFERENCES = {
    "A": "A. Araujo, W. Norris, J. Sim: Computing receptive fields of convolutional neural networks. Distill (2019)",
    "D": "V. Dumoulin, F. Visin: A guide to convolution arithmetic for deep learning. arXiv:1603.07285 (2016)",
    "H": "A. Howard et al.: MobileNets. arXiv:1704.04861 (2017)",
    "K": "A. Krizhevsky, I. Sutskever, G. Hinton: ImageNet classification with deep convolutional neural networks. "
    "NIPS (2012)",
    "L": "Z. Liu et al.: Swin Transformer. arXiv:2103.14030 (2021)",
    "S": "Z. Liu et al.: Swin Transformer V2. arXiv:2111.09883 (2022)",
    "V": "A. Vaswani et al.: Attention is all you need. arXiv:1706.03762 (2017)",
}


def formula(*kinds: str, source: str) -> Callable[[Formula], Formula]:
    """Enter the closed form of layer kinds, with its source down to the equation."""

    def enter(function: Formula) -> Formula:
        FORMULAS.register(*kinds)(function)
        SOURCES.update(dict.fromkeys(kinds, source))
        return function

    return enter


def derive(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Derived | None:
    """The closed form of a layer of this kind, or None where none is known (a container, a user's own class).

    Raises ShapeError for a configuration or an input that the layer refuses.
    """
    function = FORMULAS.get(kind)
    derived = function(config, shapes) if function is not None and shapes else None
    if derived is not None and "weight_norm" in config:  # Salimans, Kingma, arXiv:1602.07868, eq. 2
        return derived._replace(params=derived.params + symbol("norms", norms(kind, config)))
    return derived


def norms(kind: str, config: Config) -> int:
    """How many norms g a weight has: one for each index of an axis, or one for all of it (axis -1)."""
    axis = config["weight_norm"]
    return 1 if axis == -1 else weight_shape(kind, config)[axis]


def weight_shape(kind: str, config: Config) -> Shape:
    """Of a fully connected layer [out, in], of a convolution [out, in/groups, …], transposed [in, out/groups, …]."""
    if kind == "Linear":
        return config["out_features"], config["in_features"]
    ends = [config["out_channels"], config["in_channels"]]
    first, second = ends[::-1] if "Transpose" in kind else ends
    return first, second // config["groups"], *_each(config["kernel_size"], int(kind[-2]))


# ------------------------------------------------------------------------------------------------------ windows


def _each(value: Any, n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value)


def window(m: int, k: int, s: int = 1, pad: int = 0, d: int = 1, ceil_mode: bool = False) -> Expr:
    """Output side of a sliding window: ⌊(m − p + 2·pad)/s⌋ + 1, with the span d·(p − 1) + 1 for p when dilated.

    m: input side, p: kernel side, s: stride. Source: [D], relationships 6 and 15; pooling: relationship 7.
    With ceil_mode the division rounds up, and a last window that would start in the right padding is dropped.
    """
    m_, p_, s_, pad_ = symbol("m", m), symbol("p", k), symbol("s", s), symbol("pad", pad)
    reach = m_ - p_ if d == 1 else m_ - symbol("d", d) * (p_ - 1) - 1
    reach = reach + 2 * pad_
    if not ceil_mode:
        return reach // s_ + 1
    side = ceil_div(reach, s_) + 1
    return side - 1 if (side.value - 1) * s >= m + pad else side


def _lost(m: int, k: int, s: int, pad: int, d: int, side: int) -> tuple[int, int, int]:
    """How much of the input's end no window reaches. Padding is reached last, so it is what is lost first."""
    span = m + 2 * pad - (d * (k - 1) + 1)
    rest = span - (side - 1) * s
    return span, s, max(0, rest - pad)


def _sides(shape: Shape, n: int, kind: str) -> tuple[Shape, int, Shape]:
    """[N, c, *sides] or [c, *sides]."""
    if len(shape) not in (n + 1, n + 2):
        raise ShapeError(f"{kind} takes [N, c, {n} sides] or [c, {n} sides], gets {list(shape)}")
    return shape[: -n - 1], shape[-n - 1], shape[-n:]


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ShapeError(sentence)


def _positive(**named: Sequence[int]) -> None:
    for name, values in named.items():
        _require(min(values) > 0, f"{name} is at least 1, gets {list(values)}")


def _padded(mode: str, batch: Shape, c: int, sides: Shape, pads: Sequence[tuple[int, int]]) -> tuple[Expr, ...]:
    """The sides with what is put before and after them; pads: one pair a side.

    A reflection shows at most the side less its edge, a circle at most the side once.
    """
    out = []
    for m, (before, after) in zip(sides, pads, strict=True):
        most = {"reflect": m - 1, "circular": m}.get(mode, max(before, after))
        _require(max(before, after) <= most, f"a side of {m} takes {mode} padding up to {most}, gets {before}, {after}")
        # what is cut off is cut from the input, except where the padding is a copy of what is left
        cut = before + after if mode in ("reflect", "replicate") else min(before, 0) + min(after, 0)
        least = 1 if mode == "replicate" else 0
        _require(min(m + cut, m + before + after) >= least, f"a side of {m} padded by {before} and {after} is empty")
        out.append(symbol("m", m) + symbol("before", before) + symbol("after", after))
    if mode == "reflect":
        _require(any(side.value > 0 for side in out), f"{mode} padding leaves nothing of a map of {list(sides)}")
    if mode in ("reflect", "replicate"):
        _require(c > 0 and min(sides) > 0, f"{mode} padding needs a non-empty input, gets {[*batch, c, *sides]}")
    return tuple(out)


def _per_example(batch: Shape) -> tuple[Number, ...]:
    """The batch as a factor, left out where it is 1."""
    return (symbol("N", prod(batch)),) if prod(batch) != 1 else ()


def _conv(n: int) -> Formula:
    def conv(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        batch, c, sides = _sides(shapes[0], n, f"Conv{n}d")
        k, s, d = (_each(config[name], n) for name in ("kernel_size", "stride", "dilation"))
        groups, pad = config["groups"], config["padding"]
        _require(c == config["in_channels"], f"takes {config['in_channels']} channels, gets {c}")
        _positive(kernel_size=k, stride=s, dilation=d)
        _require(min(sides) > 0 or not prod(batch), f"the sides are at least 1, get {list(sides)}")
        mode = config.get("padding_mode", "zeros")
        if mode != "zeros":  # the input is padded first, by its own values
            both = [di * (ki - 1) for ki, di in zip(k, d, strict=True)] if pad == "same" else []
            each = [] if pad == "same" else [0] * n if pad == "valid" else _each(pad, n)
            _padded(mode, batch, c, sides, [(b // 2, b - b // 2) for b in both] or [(p, p) for p in each])
        if pad == "same":  # as much padding as keeps the side; stride is 1
            _require(min(sides) > 0, f"the sides are at least 1, get {list(sides)}")
            out = tuple(symbol("m", m) for m in sides)
            lost: tuple[tuple[int, int, int], ...] = ()
        else:
            p = (0,) * n if pad == "valid" else _each(pad, n)
            _require(mode != "zeros" or min(p) >= 0, "padding is at least 0")  # less is cut off, where values pad
            out = tuple(window(*at) for at in zip(sides, k, s, p, d, strict=True))
            _require(
                all(m + 2 * pi > di * (ki - 1) for m, ki, pi, di in zip(sides, k, p, d, strict=True)),
                f"a kernel of {list(k)} does not fit an input of {list(sides)} padded by {list(p)}",
            )
            lost = tuple(
                _lost(m, ki, si, pi, di, o.value) for m, ki, si, pi, di, o in zip(sides, k, s, p, d, out, strict=True)
            )
        c_in, c_out = symbol("c_in", c), symbol("c_out", config["out_channels"])
        depth = c_in / symbol("g", groups) if groups != 1 else c_in
        kernel = tuple(symbol(f"k_{axis}", side) for axis, side in zip("thw"[-n:], k, strict=True))
        weights = product(*kernel, depth, c_out)
        places = tuple(symbol(f"{axis}_out", o.value) for axis, o in zip("thw"[-n:], out, strict=True))
        return Derived(
            shapes=((*batch, c_out.value, *(o.value for o in out)),),
            sides=out,
            params=weights + c_out if config["bias"] else weights,
            macs=product(*_per_example(batch), *places, *kernel, depth, c_out),
            weighted=True,
            lost=lost,
        )

    return conv


def _conv_transpose(n: int) -> Formula:
    def conv_transpose(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        batch, c, sides = _sides(shapes[0], n, f"ConvTranspose{n}d")
        names = ("kernel_size", "stride", "padding", "dilation", "output_padding")
        k, s, p, d, extra = (_each(config[name], n) for name in names)
        _require(c == config["in_channels"], f"takes {config['in_channels']} channels, gets {c}")
        _positive(kernel_size=k, stride=s, dilation=d)
        _require(min(p) >= 0, f"padding is at least 0, gets {list(p)}")
        _require(
            all(0 <= e < max(si, di) for e, si, di in zip(extra, s, d, strict=True)),
            f"output_padding {list(extra)} is smaller than stride {list(s)} or dilation {list(d)}",
        )
        out = []
        for m, ki, si, pi, di, e in zip(sides, k, s, p, d, extra, strict=True):
            m_, p_, s_, pad_ = symbol("m", m), symbol("p", ki), symbol("s", si), symbol("pad", pi)
            span = p_ if di == 1 else symbol("d", di) * (p_ - 1) + 1
            side = (m_ - 1) * s_ + span - 2 * pad_
            out.append(side + symbol("extra", e) if e else side)
        # an empty batch may have empty sides
        least = 1 if prod(batch) else 0
        _require(min(*sides, *(o.value for o in out)) >= least, f"the output would be {[o.value for o in out]}")
        c_in, c_out = symbol("c_in", c), symbol("c_out", config["out_channels"])
        depth = c_out / symbol("g", config["groups"]) if config["groups"] != 1 else c_out
        kernel = tuple(symbol(f"k_{axis}", side) for axis, side in zip("thw"[-n:], k, strict=True))
        places = tuple(symbol(f"{axis}_in", side) for axis, side in zip("thw"[-n:], sides, strict=True))
        weights = product(*kernel, c_in, depth)
        return Derived(
            shapes=((*batch, c_out.value, *(o.value for o in out)),),
            sides=tuple(out),
            params=weights + c_out if config["bias"] else weights,
            macs=product(*_per_example(batch), *places, *kernel, c_in, depth),
            weighted=True,
        )

    return conv_transpose


def _pool(n: int, kind: str) -> Formula:
    def pool(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        batch, c, sides = _sides(shapes[0], n, "pooling")
        k = _each(config["kernel_size"], n)
        stride = config.get("stride")
        s = k if stride is None else _each(stride, n)
        p, d = _each(config.get("padding", 0), n), _each(config.get("dilation", 1), n)
        _positive(kernel_size=k, stride=s, dilation=d)
        _require(min(p) >= 0, f"padding is at least 0, gets {list(p)}")
        _require(
            all(2 * pi <= ki for ki, pi in zip(k, p, strict=True)),
            f"padding {list(p)} is at most half of the window {list(k)}",
        )
        _require(config.get("divisor_override") != 0, "nothing can be divided by 0")
        if kind == "Avg" and n == 3:  # PyTorch asks this of this one kind
            _require(all(m >= ki for m, ki in zip(sides, k, strict=True)), f"{list(sides)} is less than {list(k)}")
        ceil_mode = bool(config.get("ceil_mode", False))
        out = tuple(window(*at, ceil_mode) for at in zip(sides, k, s, p, d, strict=True))
        _require(
            c > 0 and min(sides) > 0 and min(o.value for o in out) > 0,
            f"a window of {list(k)} does not fit an input of {[c, *sides]}",
        )
        lost = tuple(
            _lost(m, ki, si, pi, di, o.value) for m, ki, si, pi, di, o in zip(sides, k, s, p, d, out, strict=True)
        )
        return Derived(((*batch, c, *(o.value for o in out)),), out, lost=lost)

    return pool


def _adaptive(n: int) -> Formula:
    def adaptive(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        batch, c, sides = _sides(shapes[0], n, "adaptive pooling")
        wanted = config.get("output_size")
        _require(wanted is not None, "output_size has to be given")
        wanted = (wanted,) * n if isinstance(wanted, int) else tuple(wanted or ())
        out = tuple(symbol("out", m if o is None else o) for m, o in zip(sides, wanted, strict=True))
        _require(c > 0 and min(sides) > 0, f"pooling needs a non-empty input, gets {[c, *sides]}")
        _require(min(o.value for o in out) >= 0, f"a side is at least 0, gets {list(wanted)}")
        return Derived(((*batch, c, *(o.value for o in out)),), out)

    return adaptive


for _n in (1, 2, 3):
    formula(f"Conv{_n}d", source="[D] relationships 6 (stride, padding) and 15 (dilation)")(_conv(_n))
    formula(f"ConvTranspose{_n}d", source="[D] relationship 14")(_conv_transpose(_n))
    for _kind in ("Max", "Avg"):
        formula(f"{_kind}Pool{_n}d", source="[D] relationship 7")(_pool(_n, _kind))
    formula(f"AdaptiveAvgPool{_n}d", f"AdaptiveMaxPool{_n}d", source="the output side is the argument")(_adaptive(_n))


# ------------------------------------------------------------------------------------------------------- linear


@formula("Linear", "LazyLinear", source="y = x·Wᵀ + b: one weight per pair of features, one bias per output")
def linear(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    """n_in·n_out + n_out parameters; n_in·n_out MACs for each vector. After a flatten it is a convolution."""
    _require(len(shapes[0]) > 0, "takes at least one axis")
    *rows, features = shapes[0]
    n_in, n_out = symbol("n_in", config["in_features"]), symbol("n_out", config["out_features"])
    _require(features == n_in.value, f"takes {n_in.value} features, gets {features}")
    weights = n_in * n_out
    return Derived(
        shapes=((*rows, n_out.value),),
        params=weights + n_out if config["bias"] else weights,
        macs=product(*_per_example(tuple(rows)), n_in, n_out),
        weighted=True,
    )


@formula("Bilinear", source="y = x₁·W·x₂ + b: one matrix of weights per output, first x₁·W, then that times x₂")
def bilinear(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    """n_1·n_2·n_out + n_out parameters; n_out·(n_1·n_2 + n_2) MACs for each pair of vectors."""
    (*rows, first), (*others, second) = shapes[:2]
    n_1, n_2 = symbol("n_1", config["in1_features"]), symbol("n_2", config["in2_features"])
    n_out = symbol("n_out", config["out_features"])
    _require(rows == others, f"takes as many vectors of one as of the other, gets {list(shapes[0])}, {list(shapes[1])}")
    _require(first == n_1.value, f"takes {n_1.value} features, gets {first}")
    _require(second == n_2.value, f"takes {n_2.value} features, gets {second}")
    return Derived(
        shapes=((*rows, n_out.value),),
        params=n_1 * n_2 * n_out + n_out if config["bias"] else n_1 * n_2 * n_out,
        macs=product(*_per_example(tuple(rows)), n_out, n_1 * n_2 + n_2),
        weighted=True,
    )


@formula("Embedding", source="one row of the table per symbol: vocabulary · dimension; a lookup, no arithmetic")
def embedding(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    vocabulary, dimension = symbol("vocabulary", config["num_embeddings"]), symbol("d", config["embedding_dim"])
    return Derived(((*shapes[0], dimension.value),), params=vocabulary * dimension)


# -------------------------------------------------------------------------------------------------- normalising


def _batch_norm(kind: str, axes: tuple[int, ...]) -> Formula:
    def norm(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        shape, c = shapes[0], symbol("c", config["num_features"])
        _require(len(shape) in axes, f"takes {' or '.join(map(str, axes))} axes, gets {list(shape)}")
        at = 0 if kind == "instance" and len(shape) == axes[0] else 1  # one example, without its batch
        if config["affine"] or config.get("track_running_stats", True):
            _require(shape[at] == c.value, f"takes {c.value} channels, gets {shape[at]}")
        if kind == "instance" and at and config["affine"]:
            _require(shape[0] > 0, "learned weights need a batch that is not empty")
        if not config.get("track_running_stats", True):  # statistics of this batch, which one value has none of
            values = prod(shape[at + 1 :]) * (shape[0] if kind == "batch" else 1)
            _require(values != 1, f"one value a channel has no variance: {list(shape)}")
        kept = kind == "batch" and config.get("track_running_stats", True)
        return Derived((shape,), params=2 * c if config["affine"] else 0, buffers=2 * c + 1 if kept else 0)

    return norm


_IOFFE = "Ioffe, Szegedy, arXiv:1502.03167, algorithm 1: γ and β per channel (mean and variance are buffers)"
_ULYANOV = "Ulyanov et al., arXiv:1607.08022, equation 5: batch norm of each example alone"
for _n, _axes in ((1, (2, 3)), (2, (4,)), (3, (5,))):
    formula(f"BatchNorm{_n}d", source=_IOFFE)(_batch_norm("batch", _axes))
    formula(f"InstanceNorm{_n}d", source=_ULYANOV)(_batch_norm("instance", (_n + 1, _n + 2)))
formula("SyncBatchNorm", source=_IOFFE)(_batch_norm("batch", (2, 3, 4, 5)))


@formula(
    "LayerNorm", source="Ba, Kiros, Hinton, arXiv:1607.06450, equation 4: a gain and a bias per normalised element"
)
def layer_norm(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    wanted = tuple(config["normalized_shape"])
    _require(bool(wanted) and shapes[0][-len(wanted) :] == wanted, f"normalises {list(wanted)}, gets {list(shapes[0])}")
    d = product(*(symbol("d", side) for side in wanted))
    if not config["elementwise_affine"]:
        return Derived(shapes[:1])
    return Derived(shapes[:1], params=2 * d if config.get("bias", True) else 1 * d)


@formula("LayerNorm2d", source="Ba, Kiros, Hinton, arXiv:1607.06450, equation 4, over the channels of [N, c, h, w]")
def layer_norm_2d(config: Config, shapes: tuple[Shape, ...]) -> Derived | None:
    """torchvision's and timm's: a layer norm whose axis of channels is the second."""
    wanted = config.get("normalized_shape")
    if not isinstance(wanted, tuple) or len(wanted) != 1:
        return None
    c = symbol("c", wanted[0])
    _require(len(shapes[0]) == 4 and shapes[0][1] == c.value, f"takes [N, {c.value}, h, w], gets {list(shapes[0])}")
    return Derived(shapes[:1], params=2 * c if config["elementwise_affine"] else 0)


@formula("RMSNorm", source="Zhang, Sennrich, arXiv:1910.07467, equation 4: a gain per normalised element")
def rms_norm(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    wanted = tuple(config["normalized_shape"])
    _require(bool(wanted) and shapes[0][-len(wanted) :] == wanted, f"normalises {list(wanted)}, gets {list(shapes[0])}")
    return Derived(
        shapes[:1], params=product(*(symbol("d", side) for side in wanted)) if config["elementwise_affine"] else 0
    )


@formula("GroupNorm", source="Wu, He, arXiv:1803.08494, equations 1 and 2: γ and β per channel")
def group_norm(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    c, groups, shape = symbol("c", config["num_channels"]), config["num_groups"], shapes[0]
    _require(len(shape) > 1, f"takes [N, c, *], gets {list(shape)}")
    n, channels, *sides = shape
    _require(channels == c.value or not config["affine"], f"takes {c.value} channels, gets {channels}")
    _require(channels > 0 and channels % groups == 0, f"{channels} channels in {groups} groups")
    _require(prod(sides) > 0, f"the sides are at least 1, get {sides}")
    _require(n * channels // groups * prod(sides) != 1, f"one value a group has no variance: {list(shape)}")
    return Derived(shapes[:1], params=2 * c if config["affine"] else 0)


# --------------------------------------------------------------------------------------- the shape stays as it is


@formula(
    *"ReLU ReLU6 Sigmoid Tanh GELU SiLU Mish ELU SELU CELU LeakyReLU Hardswish Hardsigmoid Hardtanh Softplus".split(),
    *"Softsign Softshrink Hardshrink Tanhshrink Threshold LogSigmoid RReLU Identity".split(),
    *"Dropout Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout StochasticDepth DropPath".split(),
    source="element by element: the shape stays; nothing is learned",
)
def unchanged(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    return Derived(shapes[:1])


@formula("Softmax", "LogSoftmax", "Softmin", source="exp(x) over its sum along one axis: the shape stays")
def softmax(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    if "dim" in config:
        _axis(config["dim"], shapes[0])
    return Derived(shapes[:1])


def _axis(dim: int, shape: Shape) -> int:
    """An axis counted from the front; a single number has one axis to speak of."""
    n = max(len(shape), 1)
    _require(-n <= dim < n, f"axis {dim} is not among the {len(shape)} axes of {list(shape)}")
    return dim % n


def _unchanged(least: int, most: int) -> Formula:
    def same(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        _require(least <= len(shapes[0]) <= most, f"takes {least} to {most} axes, gets {list(shapes[0])}")
        return Derived(shapes[:1])

    return same


formula("Softmax2d", source="softmax over the channels of [N, c, h, w] or [c, h, w]")(_unchanged(3, 4))
formula("Dropout1d", source="whole channels of [N, c, t] or [c, t]")(_unchanged(2, 3))
formula(
    "LocalResponseNorm", source="Krizhevsky et al. (2012), section 3.3: over neighbouring channels; nothing learned"
)(_unchanged(3, 99))
formula("CrossMapLRN2d", source="Krizhevsky et al. (2012), section 3.3")(_unchanged(4, 4))


@formula("GLU", source="Dauphin et al., arXiv:1612.08083, equation 1: one half of an axis gates the other")
def glu(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    at = _axis(config["dim"], shapes[0])
    _require(len(shapes[0]) > 0 and shapes[0][at] % 2 == 0, f"axis {at} of {list(shapes[0])} cannot be halved")
    half = symbol("n", shapes[0][at]) / 2
    return Derived(((*shapes[0][:at], half.value, *shapes[0][at + 1 :]),), (half,))


@formula("PReLU", source="He et al., arXiv:1502.01852, equation 1: a slope for all channels, or one for each")
def prelu(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    slopes, c = config["num_parameters"], shapes[0][1] if len(shapes[0]) > 1 else 1
    _require(slopes in (1, c), f"{slopes} slopes for {c} channels")
    return Derived(shapes[:1], params=symbol("slopes", slopes))


@formula("Flatten", source="the product of the flattened axes")
def flatten(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    shape = shapes[0]
    first, last = _axis(config["start_dim"], shape), _axis(config["end_dim"], shape)
    _require(first <= last, f"flattens axes {first} to {last}")
    joined = product(
        *(symbol(f"n_{i}", side) for i, side in enumerate(shape[first : last + 1])), *(() if shape else (1,))
    )
    return Derived(((*shape[:first], joined.value, *shape[last + 1 :]),), (joined,))


@formula("Unflatten", source="the product of the new axes is the axis that they replace")
def unflatten(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    shape, parts = shapes[0], list(config["unflattened_size"])
    at = _axis(config["dim"], shape)
    _require(len(shape) > 0 and len(parts) > 0 and parts.count(-1) < 2, f"{list(shape)} cannot be parted into {parts}")
    rest = prod(side for side in parts if side != -1)
    if -1 in parts and rest:
        parts[parts.index(-1)] = shape[at] // rest
    _require(prod(parts) == shape[at], f"{shape[at]} cannot be parted into {parts}")
    return Derived(((*shape[:at], *parts, *shape[at + 1 :]),))


# ---------------------------------------------------------------------------------------------------- recurrent


_ORDER = {False: ("t", "n"), True: ("n", "t")}  # by batch_first


def _recurrent(gates: int) -> Formula:
    def recurrent(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        """Per layer and direction: gates·h·(in + h) weights and 2·gates·h biases; a layer above has in = directions·h.

        Shapes [t, n, in] → [t, n, directions·h], [layers·directions, n, h] (and the cell state).
        """
        shape = shapes[0]
        _require(len(shape) in (2, 3), f"takes [t, n, features] or [t, features], gets {list(shape)}")
        *order, features = shape
        packed = len(shape) == 2 and len(shapes) > 1 and len(shapes[1]) == 1  # [steps of all, features], [rows a step]
        _require(features == config["input_size"], f"takes {config['input_size']} features, gets {features}")
        directions, layers = (2 if config["bidirectional"] else 1), config["num_layers"]
        h, projected = symbol("h", config["hidden_size"]), config.get("proj_size", 0)
        out = symbol("proj", projected) if projected else h
        g = (symbol("gates", gates),) if gates > 1 else ()
        weights, biases = [], []
        for layer in range(layers):
            i = symbol("in", features) if layer == 0 else symbol("in", directions * out.value)
            once = product(*g, h, i + out)
            once = once + h * out if projected else once
            weights.append(symbol("directions", 2) * once if directions == 2 else once)
            twice = product(2, *g, h)
            biases.append(symbol("directions", 2) * twice if directions == 2 else twice)
        products = total(*weights)
        steps = tuple(symbol(name, side) for name, side in zip(_ORDER[config["batch_first"]], order, strict=False))
        _require(packed or steps[config["batch_first"] and len(shape) == 3].value > 0, "takes at least one step")
        batch = () if len(shape) == 2 else (order[0 if config["batch_first"] else 1],)
        states = [(layers * directions, *batch, side.value) for side in ((out, h) if gates == 4 else (out,))]
        if packed:
            states = []
        elif len(shapes) > 1:
            _require(list(shapes[1 : 1 + len(states)]) == states, f"takes states {states}, gets {list(shapes[1:])}")
        steps = tuple(step for step in steps if step.value != 1)
        return Derived(
            shapes=((*order, directions * out.value), *states),
            params=total(products, *biases) if config["bias"] else products,
            macs=product(*steps, products) if steps else products,
            weighted=True,
        )

    return recurrent


def _cell(gates: int) -> Formula:
    def cell(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        _require(len(shapes[0]) in (1, 2), f"takes [n, features] or [features], gets {list(shapes[0])}")
        *batch, features = shapes[0]
        _require(features == config["input_size"], f"takes {config['input_size']} features, gets {features}")
        i, h = symbol("in", features), symbol("h", config["hidden_size"])
        states = shapes[1:3] if gates == 4 else shapes[1:2]
        _require(all(s == (*batch, h.value) for s in states), f"takes states {[*batch, h.value]}, gets {list(states)}")
        g = (symbol("gates", gates),) if gates > 1 else ()
        weights = product(*g, h, i + h)
        return Derived(
            shapes=((*batch, h.value),) * (2 if gates == 4 else 1),
            params=weights + product(2, *g, h) if config["bias"] else weights,
            macs=product(*_per_example(tuple(batch)), weights),
            weighted=True,
        )

    return cell


for _kind, _gates, _source in (
    ("RNN", 1, "Elman (1990), as PyTorch writes it: h' = tanh(W_ih·x + b_ih + W_hh·h + b_hh)"),
    ("LSTM", 4, "Hochreiter, Schmidhuber (1997) with forget gates: four gates of the same form"),
    ("GRU", 3, "Cho et al., arXiv:1406.1078, equations 5 to 8: reset, update, candidate"),
):
    formula(_kind, source=_source)(_recurrent(_gates))
    formula(f"{_kind}Cell", source=_source)(_cell(_gates))


# ---------------------------------------------------------------------------------------------------- attention


@formula("MultiheadAttention", source="[V] equation 1 and section 3.2.2: three projections in, one out, h heads of e/h")
def attention(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    """4·e² + 4·e parameters; projections, then l·s·e MACs for the scores and as many for the sum of the values."""
    query, key, value = (*shapes, *shapes[:1] * 2)[:3] if len(shapes) == 1 else shapes[:3]
    e, heads = symbol("e", config["embed_dim"]), config["num_heads"]
    _require(query[-1] == e.value and e.value % heads == 0, f"takes {e.value} features in {heads} heads")
    k_dim, v_dim = symbol("k_dim", config["kdim"]), symbol("v_dim", config["vdim"])
    _require(len(query) in (2, 3) and len(key) == len(value) == len(query), "takes [l, e] or [l, n, e], three times")
    _require(key[-1] == k_dim.value and value[-1] == v_dim.value, f"takes keys of {k_dim} and values of {v_dim}")
    _require(key[:-1] == value[:-1], f"as many keys as values, gets {list(key)} and {list(value)}")
    at = 1 if config["batch_first"] and len(query) == 3 else 0
    _require(len(query) == 2 or query[1 - at] == key[1 - at], f"one batch, gets {list(query)} and {list(key)}")
    n = tuple(symbol("N", query[1 - at]) for _ in (0,) if len(query) == 3 and query[1 - at] != 1)
    l, s = symbol("l", query[at]), symbol("s", key[at])  # noqa: E741  (the letters of the paper)
    weights = e * e + k_dim * e + v_dim * e + e * e
    extra = int(config.get("add_bias_kv", False)) + int(config.get("add_zero_attn", False))
    seen = symbol("s", s.value + extra) if extra else s
    work = l * e * e + s * k_dim * e + s * v_dim * e + 2 * l * seen * e + l * e * e
    params = weights + 4 * e if config["bias"] else weights
    if config.get("add_bias_kv", False):
        params = params + 2 * e
    return Derived((query,), params=params, macs=product(*n, work), weighted=True)


@formula(
    "ShiftedWindowAttention",
    source="[L] equation 2: 4·hw·c² + 2·M²·hw·c in windows of M², and section 3.2: a table of (2M − 1)² biases a head",
)
def window_attention(config: Config, shapes: tuple[Shape, ...]) -> Derived | None:
    """torchvision's, on [N, h, w, e]: 4·e² + 4·e parameters and the table; attention inside each window of M_h·M_w."""
    if "window_size" not in config:
        return None
    heads = symbol("heads", config["num_heads"])
    tokens, e, area, offsets = _windows(config["window_size"], shapes[0])
    work = tokens * (4 * e * e + 2 * area * e)
    return Derived(shapes[:1], params=4 * e * e + 4 * e + offsets * heads, macs=work, weighted=True)


@formula(
    "ShiftedWindowAttentionV2",
    source="[S] equation 2: a scale τ a head; section 3.3: the biases come from a network 2 → 512 → heads",
)
def window_attention_v2(config: Config, shapes: tuple[Shape, ...]) -> Derived | None:
    """torchvision's, on [N, h, w, e]; the small network runs once for each of the (2·M_h − 1)·(2·M_w − 1) offsets."""
    if "window_size" not in config:
        return None
    heads, hidden = symbol("heads", config["num_heads"]), symbol("hidden", 512)
    tokens, e, area, offsets = _windows(config["window_size"], shapes[0])
    weights = 2 * hidden + hidden * heads
    return Derived(
        shapes[:1],
        params=4 * e * e + 4 * e + heads + weights + hidden,
        macs=tokens * (4 * e * e + 2 * area * e) + offsets * weights,
        weighted=True,
    )


def _windows(size: Sequence[int], shape: Shape) -> tuple[Expr, Expr, Expr, Expr]:
    """Tokens in all windows (the last of each axis are filled up), features, tokens of a window, offsets within one."""
    _require(len(shape) == 4, f"takes [N, h, w, e], gets {list(shape)}")
    m_h, m_w = symbol("M_h", size[0]), symbol("M_w", size[1])
    n, e = _per_example(shape[:1]), symbol("e", shape[3])
    rows = ceil_div(symbol("h", shape[1]), m_h) * m_h
    columns = ceil_div(symbol("w", shape[2]), m_w) * m_w
    return product(*n, rows, columns), e, m_h * m_w, (2 * m_h - 1) * (2 * m_w - 1)


@formula("matmul", source="[n, p] = [n, m]·[m, p]: each of n·p sums has m products, for every matrix of the batch")
def matmul(config: Config, shapes: tuple[Shape, ...]) -> Derived | None:
    """Of two tensors; leading axes are a batch, and one of 1 is repeated. A vector is a row or a column."""
    if len(shapes) != 2 or not shapes[0] or not shapes[1]:
        return None
    left = shapes[0] if len(shapes[0]) > 1 else (1, *shapes[0])
    right = shapes[1] if len(shapes[1]) > 1 else (*shapes[1], 1)
    _require(left[-1] == right[-2], f"[…, n, m]·[…, m, p] cannot be {list(shapes[0])}·{list(shapes[1])}")
    batch = _broadcast(left[:-2], right[:-2])
    n, m, p = symbol("n", left[-2]), symbol("m", left[-1]), symbol("p", right[-1])
    rows, columns = ((n.value,) if len(shapes[0]) > 1 else ()), ((p.value,) if len(shapes[1]) > 1 else ())
    return Derived(((*batch, *rows, *columns),), macs=product(*_per_example(batch), n, m, p))


def _broadcast(left: Shape, right: Shape) -> Shape:
    n = max(len(left), len(right))
    pairs = list(zip((1,) * (n - len(left)) + left, (1,) * (n - len(right)) + right, strict=True))
    _require(all(a == b or 1 in (a, b) for a, b in pairs), f"batches {list(left)} and {list(right)} do not match")
    return tuple(b if a == 1 else a for a, b in pairs)


@formula("grouped_mm", source="[n, p] = [n, m]·[g, m, p]: each row by the matrix of its group")
def grouped_mm(config: Config, shapes: tuple[Shape, ...]) -> Derived | None:
    if len(shapes) < 2 or len(shapes[0]) != 2 or len(shapes[1]) != 3:
        return matmul(config, shapes[:2])
    _require(shapes[0][1] == shapes[1][1], f"[n, m]·[g, m, p] cannot be {list(shapes[0])}·{list(shapes[1])}")
    n, m, p = symbol("n", shapes[0][0]), symbol("m", shapes[0][1]), symbol("p", shapes[1][2])
    return Derived(((n.value, p.value),), macs=product(n, m, p))


@formula("addmm", source="a matrix product, and a tensor added to it")
def addmm(config: Config, shapes: tuple[Shape, ...]) -> Derived | None:
    """c + a·b, which are given in this order; the product may be one of a batch or of a vector."""
    product_of = matmul({}, shapes[1:])
    if product_of is not None:
        _require(_broadcast(shapes[0], product_of.shapes[0]) == product_of.shapes[0], f"{list(shapes[0])} is too large")
    return product_of


@formula("addbmm", source="the products of a batch, added up")
def addbmm(config: Config, shapes: tuple[Shape, ...]) -> Derived | None:
    product_of = matmul({}, shapes[1:])
    return None if product_of is None else product_of._replace(shapes=(product_of.shapes[0][1:],))


@formula("arithmetic", source="element by element: a side of 1, and one that is missing, is repeated")
def arithmetic(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    """A sum, a product, … of two tensors, or of a tensor and a number."""
    return Derived((functools.reduce(_broadcast, shapes),))


@formula("cat", source="side by side along one axis: the sum of its sides, the others alike")
def cat(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    shapes = tuple(shape for shape in shapes if shape != (0,)) or shapes  # nothing may stand beside anything
    at = _axis(config.get("dim", 0), shapes[0])
    rest = {(*shape[:at], *shape[at + 1 :]) for shape in shapes}
    _require(len(rest) == 1, f"joins along axis {at} what is alike in all others, gets {list(map(list, shapes))}")
    side = total(*(symbol(f"n_{i}", shape[at]) for i, shape in enumerate(shapes, 1)))
    return Derived(((*shapes[0][:at], side.value, *shapes[0][at + 1 :]),), (side,))


@formula("stack", source="side by side along a new axis")
def stack(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    _require(len(set(shapes)) == 1, f"stacks what is alike, gets {list(map(list, shapes))}")
    at = config.get("dim", 0) % (len(shapes[0]) + 1)
    return Derived(((*shapes[0][:at], len(shapes), *shapes[0][at:]),))


@formula("scaled_dot_product_attention", source="[V] equation 1: l·s scores of e products, and l sums over s values")
def dot_product_attention(config: Config, shapes: tuple[Shape, ...]) -> Derived | None:
    """q [*, l, e], k [*, s, e], v [*, s, e_v] -> [*, l, e_v]; heads that share their keys count like the others."""
    if len(shapes) < 3 or min(map(len, shapes[:3])) < 2:
        return None
    query, key, value = shapes[:3]
    _require(query[-1] == key[-1] and key[-2] == value[-2], f"takes [l, e], [s, e], [s, v], gets {list(shapes[:3])}")
    l, e = symbol("l", query[-2]), symbol("e", query[-1])  # noqa: E741  (the letters of the paper)
    s, v = symbol("s", key[-2]), symbol("e_v", value[-1])
    work = product(*_per_example(query[:-2]), l, s, e + v)
    return Derived(((*query[:-1], v.value),), macs=work)


@formula("parameter", source="a tensor of learned numbers: the product of its sides")
def parameter(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    """A parameter that belongs to no layer: a class token, a position table, the scale of a residual branch."""
    return Derived(
        shapes[:1],
        params=product(*(symbol(f"n_{i}", n) for i, n in enumerate(shapes[0], 1)), *(() if shapes[0] else (1,))),
    )


# --------------------------------------------------------------------------------------------------- resampling


@formula("PixelShuffle", source="Shi et al., arXiv:1609.05158, equation 4: [c·r², h, w] → [c, h·r, w·r]")
def pixel_shuffle(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    _require(len(shapes[0]) > 2, f"takes [*, c, h, w], gets {list(shapes[0])}")
    *batch, c, h, w = shapes[0]
    r = symbol("r", config["upscale_factor"])
    _require(r.value > 0 and c % r.value**2 == 0, f"{c} channels cannot be spread over {r.value}×{r.value} places")
    sides = (symbol("h", h) * r, symbol("w", w) * r)
    return Derived(((*batch, c // r.value**2, *(s.value for s in sides)),), sides)


@formula("PixelUnshuffle", source="Shi et al., arXiv:1609.05158, equation 4, backwards: [c, h·r, w·r] → [c·r², h, w]")
def pixel_unshuffle(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    _require(len(shapes[0]) > 2, f"takes [*, c, h, w], gets {list(shapes[0])}")
    *batch, c, h, w = shapes[0]
    r = symbol("r", config["downscale_factor"])
    _require(r.value > 0 and h % r.value == 0 and w % r.value == 0, f"{h}×{w} is no multiple of {r.value}")
    sides = (symbol("h", h) / r, symbol("w", w) / r)
    return Derived(((*batch, c * r.value**2, *(s.value for s in sides)),), sides)


@formula("ChannelShuffle", source="Zhang et al., arXiv:1707.01083, section 3.1: the channels of each group in turn")
def channel_shuffle(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    _require(len(shapes[0]) > 2, f"takes [N, c, *], gets {list(shapes[0])}")
    _require(shapes[0][1] % config["groups"] == 0, f"{shapes[0][1]} channels in {config['groups']} groups")
    return Derived(shapes[:1])


@formula("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d", source="the side asked for, or ⌊side · factor⌋")
def upsample(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    *batch, c = shapes[0][:2]
    sides, n = shapes[0][2:], len(shapes[0]) - 2
    mode = config.get("mode", "nearest")
    takes = {"linear": (1,), "bilinear": (2,), "bicubic": (2,), "trilinear": (3,)}.get(mode, (1, 2, 3))
    _require(n in takes, f"{mode} interpolation takes {takes} sides, gets {list(shapes[0])}")
    size, factor = config.get("size"), config.get("scale_factor")
    wanted: Any = factor if size is None else size
    wanted = wanted if isinstance(wanted, tuple) else (wanted,) * n
    _require(len(wanted) == n, f"one number or {n}, gets {list(wanted)}")
    if size is None:
        out = tuple(_scaled(m, f) for m, f in zip(sides, wanted, strict=True))
    else:
        out = tuple(symbol("size", side) for side in wanted)
    _require(min(*sides, *(o.value for o in out)) > 0, f"{list(sides)} would become {[o.value for o in out]}")
    return Derived(((*batch, c, *(o.value for o in out)),), out)


def _scaled(m: int, factor: Any) -> Expr:
    if float(factor).is_integer():
        return symbol("m", m) * symbol("factor", int(factor))
    return symbol("out", int(m * factor))


def _pad(n: int, mode: str) -> Formula:
    def pad(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        shape, amounts = shapes[0], _each(config["padding"], 2 * n)
        least, most = (n, 99) if mode == "constant" else (n + 1, n + 2)
        _require(least <= len(shape) <= most, f"takes {n} sides, after a batch and channels, gets {list(shape)}")
        pads = [amounts[i : i + 2] for i in range(0, 2 * n, 2)][::-1]  # the last axis is named first
        batch, c = shape[: -n - 1], shape[-n - 1] if len(shape) > n else 1
        sides = _padded(mode, batch, c, shape[-n:], [(before, after) for before, after in pads])
        return Derived(((*shape[:-n], *(s.value for s in sides)),), sides)

    return pad


for _kind, _mode in (
    *(("Zero", "constant"), ("Constant", "constant"), ("Reflection", "reflect")),
    *(("Replication", "replicate"), ("Circular", "circular")),
):
    for _n in (1, 2, 3):
        formula(f"{_kind}Pad{_n}d", source="the side grows by its padding on both ends")(_pad(_n, _mode))
