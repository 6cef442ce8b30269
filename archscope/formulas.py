"""Closed forms: what a layer gives, from its configuration and its input shape alone.

One function a family of kinds, written in `Expr`, so that the code that computes is the text that is shown. Nothing
here knows how PyTorch computes a layer, and `ops.py` is never consulted: where a closed form and an observation agree,
two derivations that share no code agree.

[D] V. Dumoulin, F. Visin: A guide to convolution arithmetic for deep learning. arXiv:1603.07285 (2016).
[H] A. Howard et al.: MobileNets. arXiv:1704.04861 (2017).
[V] A. Vaswani et al.: Attention is all you need. arXiv:1706.03762 (2017).
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from archscope.errors import ShapeError
from archscope.expr import Expr, Number, ceil_div, product, symbol, total
from archscope.ir import Shape


class Derived(NamedTuple):
    """What a closed form says of one call.

    shapes: of the outputs (a layer may give more than it derives; those are not compared). sides: the derivation of
    each spatial side, empty where the shape is not changed. params, macs: with their derivations. weighted: whether
    the layer computes from learned weights, so that its outputs are neurons. lost: rows or columns at the end of each
    axis that no window reaches, with the numbers: (m + 2·pad − span, s, rest).
    """

    shapes: tuple[Shape, ...]
    sides: tuple[Expr, ...] = ()
    params: Number = 0
    macs: Number = 0
    weighted: bool = False
    lost: tuple[tuple[int, int, int], ...] = ()


Config = Mapping[str, Any]
Formula = Callable[[Config, tuple[Shape, ...]], Derived]

FORMULAS: dict[str, Formula] = {}
SOURCES: dict[str, str] = {}


def formula(*kinds: str, source: str) -> Callable[[Formula], Formula]:
    """Enter the closed form of layer kinds, with its source down to the equation. Raises ValueError on a duplicate."""

    def enter(function: Formula) -> Formula:
        for kind in kinds:
            if kind in FORMULAS:
                raise ValueError(f"two formulas for {kind}")
            FORMULAS[kind] = function
            SOURCES[kind] = source
        return function

    return enter


def derive(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Derived | None:
    """The closed form of a layer of this kind, or None where none is known (a container, a user's own class).

    Raises ShapeError for a configuration or an input that the layer refuses.
    """
    function = FORMULAS.get(kind)
    return function(config, shapes) if function is not None and shapes else None


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


def _per_example(batch: Shape) -> tuple[Number, ...]:
    """The batch as a factor, left out where it is 1."""
    return (symbol("N", prod(batch)),) if prod(batch) != 1 else ()


def _conv(n: int) -> Formula:
    def conv(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        batch, c, sides = _sides(shapes[0], n, f"Conv{n}d")
        k, s, d = (_each(config[name], n) for name in ("kernel_size", "stride", "dilation"))
        groups, pad = config["groups"], config["padding"]
        _require(c == config["in_channels"], f"takes {config['in_channels']} channels, gets {c}")
        _require(min(k) > 0 and min(s) > 0 and min(d) > 0, "kernel, stride and dilation are at least 1")
        if pad == "same":  # as much padding as keeps the side; stride is 1
            out = tuple(symbol("m", m) for m in sides)
            lost: tuple[tuple[int, int, int], ...] = ()
        else:
            p = (0,) * n if pad == "valid" else _each(pad, n)
            _require(min(p) >= 0, "padding is at least 0")
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
        _require(min(p) >= 0 and min(s) > 0, "padding is at least 0, stride at least 1")
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
        _require(min(o.value for o in out) > 0, f"the output would be {[o.value for o in out]}")
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


def _pool(n: int) -> Formula:
    def pool(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        batch, c, sides = _sides(shapes[0], n, "pooling")
        k = _each(config["kernel_size"], n)
        s = _each(config.get("stride") or k, n)
        p, d = _each(config.get("padding", 0), n), _each(config.get("dilation", 1), n)
        _require(min(k) > 0 and min(s) > 0 and min(d) > 0 and min(p) >= 0, "kernel, stride and dilation are positive")
        _require(
            all(2 * pi <= di * (ki - 1) + 1 for ki, pi, di in zip(k, p, d, strict=True)),
            f"padding {list(p)} is at most half of the window",
        )
        ceil_mode = bool(config.get("ceil_mode", False))
        out = tuple(window(*at, ceil_mode) for at in zip(sides, k, s, p, d, strict=True))
        _require(
            min(sides) > 0 and min(o.value for o in out) > 0,
            f"a window of {list(k)} does not fit an input of {list(sides)}",
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
        wanted = (wanted,) * n if wanted is None or isinstance(wanted, int) else tuple(wanted)
        out = tuple(symbol("out", m if o is None else o) for m, o in zip(sides, wanted, strict=True))
        _require(min(sides) > 0, f"pooling needs a non-empty input, gets {list(sides)}")
        return Derived(((*batch, c, *(o.value for o in out)),), out)

    return adaptive


for _n in (1, 2, 3):
    formula(f"Conv{_n}d", source="[D] relationships 6 (stride, padding) and 15 (dilation)")(_conv(_n))
    formula(f"ConvTranspose{_n}d", source="[D] relationship 14")(_conv_transpose(_n))
    formula(f"MaxPool{_n}d", f"AvgPool{_n}d", source="[D] relationship 7")(_pool(_n))
    formula(f"AdaptiveAvgPool{_n}d", f"AdaptiveMaxPool{_n}d", source="the output side is the argument")(_adaptive(_n))


# ------------------------------------------------------------------------------------------------------- linear


@formula("Linear", "LazyLinear", source="y = x·Wᵀ + b: one weight per pair of features, one bias per output")
def linear(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    """n_in·n_out + n_out parameters; n_in·n_out MACs for each vector. After a flatten it is a convolution."""
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


@formula("Embedding", source="one row of the table per symbol: vocabulary · dimension; a lookup, no arithmetic")
def embedding(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    vocabulary, dimension = symbol("vocabulary", config["num_embeddings"]), symbol("d", config["embedding_dim"])
    return Derived(((*shapes[0], dimension.value),), params=vocabulary * dimension)


# -------------------------------------------------------------------------------------------------- normalising


@formula(
    *(f"BatchNorm{n}d" for n in (1, 2, 3)),
    *(f"InstanceNorm{n}d" for n in (1, 2, 3)),
    "SyncBatchNorm",
    source="Ioffe, Szegedy, arXiv:1502.03167, algorithm 1: γ and β per channel (mean and variance are buffers)",
)
def batch_norm(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    c = symbol("c", config["num_features"])
    shape = shapes[0]
    axis = 0 if len(shape) == 1 else 1
    _require(c.value in shape[: axis + 1], f"takes {c.value} channels, gets {shape[axis]}")
    return Derived((shape,), params=2 * c if config["affine"] else 0)


@formula("LayerNorm", source="Ba, Kiros, Hinton, arXiv:1607.06450, equation 4: a gain and a bias per normalised element")
def layer_norm(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    wanted = tuple(config["normalized_shape"])
    _require(shapes[0][-len(wanted) :] == wanted, f"normalises {list(wanted)}, gets {list(shapes[0])}")
    d = product(*(symbol("d", side) for side in wanted))
    if not config["elementwise_affine"]:
        return Derived(shapes[:1])
    return Derived(shapes[:1], params=2 * d if config.get("bias", True) else 1 * d)


@formula("RMSNorm", source="Zhang, Sennrich, arXiv:1910.07467, equation 4: a gain per normalised element")
def rms_norm(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    wanted = tuple(config["normalized_shape"])
    _require(shapes[0][-len(wanted) :] == wanted, f"normalises {list(wanted)}, gets {list(shapes[0])}")
    return Derived(
        shapes[:1], params=product(*(symbol("d", side) for side in wanted)) if config["elementwise_affine"] else 0
    )


@formula("GroupNorm", source="Wu, He, arXiv:1803.08494, equations 1 and 2: γ and β per channel")
def group_norm(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    c = symbol("c", config["num_channels"])
    _require(shapes[0][1] == c.value, f"takes {c.value} channels, gets {shapes[0][1]}")
    _require(c.value % config["num_groups"] == 0, f"{c.value} channels in {config['num_groups']} groups")
    return Derived(shapes[:1], params=2 * c if config["affine"] else 0)


# --------------------------------------------------------------------------------------- the shape stays as it is


@formula(
    *"ReLU ReLU6 Sigmoid Tanh GELU SiLU Mish ELU SELU CELU LeakyReLU Hardswish Hardsigmoid Hardtanh Softplus".split(),
    *"Softsign Softshrink Hardshrink Tanhshrink Threshold LogSigmoid RReLU Softmin Softmax Softmax2d".split(),
    *"LogSoftmax Identity Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout".split(),
    *"LocalResponseNorm CrossMapLRN2d ChannelShuffle".split(),
    source="element by element, or along an axis: the shape stays; nothing is learned",
)
def unchanged(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    return Derived(shapes[:1])


@formula("PReLU", source="He et al., arXiv:1502.01852, equation 1: a slope for all channels, or one for each")
def prelu(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    return Derived(shapes[:1], params=symbol("slopes", config["num_parameters"]))


@formula("Flatten", source="the product of the flattened axes")
def flatten(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    shape = shapes[0]
    first, last = config["start_dim"] % len(shape), config["end_dim"] % len(shape)
    _require(first <= last, f"flattens axes {first} to {last}")
    joined = product(*(symbol(f"n_{i}", side) for i, side in enumerate(shape[first : last + 1])))
    return Derived(((*shape[:first], joined.value, *shape[last + 1 :]),), (joined,))


# ---------------------------------------------------------------------------------------------------- recurrent


def _recurrent(gates: int) -> Formula:
    def recurrent(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        """Per layer and direction: gates·h·(in + h) weights and 2·gates·h biases; a layer above has in = directions·h.

        Shapes [t, n, in] → [t, n, directions·h], [layers·directions, n, h] (and the cell state).
        """
        shape = shapes[0]
        *order, features = shape
        _require(len(shape) in (2, 3), f"takes [t, n, features] or [t, features], gets {list(shape)}")
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
        steps = tuple(symbol(name, side) for name, side in zip(("t", "n"), order, strict=False) if side != 1)
        state = tuple(order[1:]) if not config["batch_first"] else tuple(order[:1])
        states = [(layers * directions, *(state if len(shape) == 3 else ()), out.value)]
        if gates == 4:
            states.append((layers * directions, *(state if len(shape) == 3 else ()), h.value))
        return Derived(
            shapes=((*order, directions * out.value), *states),
            params=total(products, *biases) if config["bias"] else products,
            macs=product(*steps, products) if steps else products,
            weighted=True,
        )

    return recurrent


def _cell(gates: int) -> Formula:
    def cell(config: Config, shapes: tuple[Shape, ...]) -> Derived:
        *batch, features = shapes[0]
        _require(features == config["input_size"], f"takes {config['input_size']} features, gets {features}")
        i, h = symbol("in", features), symbol("h", config["hidden_size"])
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
    _require(key[-1] == k_dim.value and value[-1] == v_dim.value, f"takes keys of {k_dim} and values of {v_dim}")
    at = 1 if config["batch_first"] and len(query) == 3 else 0
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


# --------------------------------------------------------------------------------------------------- resampling


@formula("PixelShuffle", source="Shi et al., arXiv:1609.05158, equation 4: [c·r², h, w] → [c, h·r, w·r]")
def pixel_shuffle(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    *batch, c, h, w = shapes[0]
    r = symbol("r", config["upscale_factor"])
    _require(c % r.value**2 == 0, f"{c} channels cannot be spread over {r.value}×{r.value} places")
    sides = (symbol("h", h) * r, symbol("w", w) * r)
    return Derived(((*batch, c // r.value**2, *(s.value for s in sides)),), sides)


@formula(*(f"{kind}Pad{n}d" for kind in ("Zero", "Constant", "Reflection", "Replication", "Circular") for n in (1, 2, 3)),
         source="the side grows by its padding on both ends")  # fmt: skip
def pad(config: Config, shapes: tuple[Shape, ...]) -> Derived:
    amounts: Sequence[int] = config["padding"]
    shape, n = shapes[0], len(config["padding"]) // 2
    sides = tuple(
        symbol("m", m) + symbol("before", amounts[2 * (n - 1 - i)]) + symbol("after", amounts[2 * (n - 1 - i) + 1])
        for i, m in enumerate(shape[-n:])
    )
    return Derived(((*shape[:-n], *(s.value for s in sides)),), sides)
