"""What the files of this folder have in common: a closed form, its entry, and the helpers that several families use.

A source names the rule, down to the equation; a letter in brackets is a work of `REFERENCES`.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from archscope.core.errors import ShapeError
from archscope.core.expression import Expr, Number, ceil_div, symbol
from archscope.core.record import Shape
from archscope.core.registry import Registry

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


class Derived(NamedTuple):
    """The result of a closed form for one call.

    shapes: of the outputs; a layer may give more, which are not compared. sides: the derivation of each spatial side,
    empty where the shape does not change. params, macs: with their derivations. weighted: whether the layer computes
    from learned weights, so that its outputs are neurons. lost: for each axis (m + 2·pad − span, stride, rows or
    columns at its end that no window covers). buffers: elements that are stored and not learned. operations: FLOPs
    besides two for each MAC, None where no closed form is known. evaluation: whether `operations` holds in evaluation
    only.
    """

    shapes: tuple[Shape, ...]
    sides: tuple[Expr, ...] = ()
    params: Number = 0
    macs: Number = 0
    weighted: bool = False
    lost: tuple[tuple[int, int, int], ...] = ()
    buffers: Number = 0
    operations: int | None = None
    evaluation: bool = False

    def flops(self, train: bool = False) -> int | None:
        """FLOPs of the call, None where no closed form is known."""
        if self.operations is None or (train and self.evaluation):
            return None
        return 2 * int(self.macs) + self.operations


Config = Mapping[str, Any]
Shapes = tuple[Shape, ...]
Formula = Callable[[Config, Shapes], Derived | None]


class Layer(NamedTuple):
    """All that is known of one kind of layer.

    form: (configuration, input shapes) -> Derived, or None where the configuration is not that of the layer. source: of
    the form; of_params, of_macs: the rule of one count where it is another. arguments: of the constructor, those that
    the class does not name in `__constants__`. letters: the meaning of letters that the kind uses in its own way.
    window: how it moves over the input: "sliding", "transposed", "adaptive", or empty. sides: how many spatial sides
    the window has. gates: of a recurrent layer, by name. functions: operators that compute the same, with the arguments
    that a call may leave out. family: the file that it is in.
    """

    form: Formula
    source: str
    of_params: str = ""
    of_macs: str = ""
    arguments: tuple[str, ...] = ()
    letters: Mapping[str, str] = {}
    window: str = ""
    sides: int = 0
    gates: tuple[str, ...] = ()
    functions: Mapping[str, Config] = {}
    family: str = ""


LAYERS: Registry[Layer] = Registry("closed form of")


def layer(
    *kinds: str, source: str, functions: Sequence[str] | Mapping[str, Config] = (), **facts: Any
) -> Callable[[Formula], Formula]:
    """Register the closed form of layer kinds, with its source and further fields of `Layer`."""
    calls = functions if isinstance(functions, Mapping) else dict.fromkeys(functions, {})

    def register(form: Formula) -> Formula:
        family = form.__module__.rpartition(".")[2]
        LAYERS.register(*kinds)(Layer(form, source, functions=calls, family=family, **facts))
        return form

    return register


def derive(kind: str, config: Config, shapes: Shapes) -> Derived | None:
    """The closed form of a layer of this kind, or None where none is known (a container, a user's own class).

    Raises ShapeError for a configuration or an input that the layer refuses.
    """
    entry = LAYERS.get(kind)
    derived = entry.form(config, shapes) if entry is not None and shapes else None
    if derived is None or "weight_norm" not in config:
        return derived
    # Salimans, Kingma, arXiv:1602.07868, eq. 2: w = g·v/‖v‖, one norm g for each index of an axis, one for all at −1
    weight, axis = weight_shape(kind, config), config["weight_norm"]
    norms = 1 if axis == -1 else weight[axis]
    more = None if derived.operations is None else derived.operations + 2 * prod(weight) + norms
    return derived._replace(params=derived.params + symbol("norms", norms), operations=more)


def weight_shape(kind: str, config: Config) -> Shape:
    """Of a fully connected layer [out, in], of a convolution [out, in/groups, …], transposed [in, out/groups, …]."""
    if kind == "Linear":
        return config["out_features"], config["in_features"]
    ends = [config["out_channels"], config["in_channels"]]
    first, second = ends[::-1] if LAYERS[kind].window == "transposed" else ends
    return first, second // config["groups"], *each(config["kernel_size"], LAYERS[kind].sides)


# ------------------------------------------------------------------------------------------------------ conditions


def require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ShapeError(sentence)


def positive(**named: Sequence[int]) -> None:
    for name, values in named.items():
        require(min(values) > 0, f"{name} is at least 1, gets {list(values)}")


def axis_of(dim: int, shape: Shape) -> int:
    """An axis counted from the front; a single number has one axis."""
    n = max(len(shape), 1)
    require(-n <= dim < n, f"axis {dim} is not among the {len(shape)} axes of {list(shape)}")
    return dim % n


# ---------------------------------------------------------------------------------------------------------- shapes


def each(value: Any, n: int) -> tuple[int, ...]:
    """One number a side."""
    return (value,) * n if isinstance(value, int) else tuple(value)


def examples(shape: Sequence[int]) -> tuple[Number, ...]:
    """The batch as a factor, left out where it is 1."""
    return (symbol("N", prod(shape)),) if prod(shape) != 1 else ()


def split(shape: Shape, n: int, kind: str) -> tuple[Shape, int, Shape]:
    """Batch, channels and sides of [N, c, *sides] or [c, *sides]."""
    require(len(shape) in (n + 1, n + 2), f"{kind} takes [N, c, {n} sides] or [c, {n} sides], gets {list(shape)}")
    return shape[: -n - 1], shape[-n - 1], shape[-n:]


def broadcast(left: Shape, right: Shape) -> Shape:
    """The common shape: a side of 1, and one that is missing, is repeated."""
    n = max(len(left), len(right))
    pairs = list(zip((1,) * (n - len(left)) + left, (1,) * (n - len(right)) + right, strict=True))
    require(all(a == b or 1 in (a, b) for a, b in pairs), f"batches {list(left)} and {list(right)} do not match")
    return tuple(b if a == 1 else a for a, b in pairs)


# --------------------------------------------------------------------------------------------------------- windows


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


def lost(m: int, k: int, s: int, pad: int, d: int, side: int) -> tuple[int, int, int]:
    """How much of the input's end no window covers. Padding comes after the input, so it is lost first."""
    span = m + 2 * pad - (d * (k - 1) + 1)
    rest = span - (side - 1) * s
    return span, s, max(0, rest - pad)


def padded(mode: str, batch: Shape, c: int, sides: Shape, pads: Sequence[Sequence[int]]) -> tuple[Expr, ...]:
    """The sides with their padding; pads: before and after, one pair a side.

    A reflection repeats at most the side less its edge, circular padding at most the side once.
    """
    out = []
    for m, (before, after) in zip(sides, pads, strict=True):
        most = {"reflect": m - 1, "circular": m}.get(mode, max(before, after))
        require(max(before, after) <= most, f"a side of {m} takes {mode} padding up to {most}, gets {before}, {after}")
        # negative padding cuts the input, except where the padding is a copy of what is left
        cut = before + after if mode in ("reflect", "replicate") else min(before, 0) + min(after, 0)
        least = 1 if mode == "replicate" or (mode == "reflect" and len(sides) == 1) else 0
        require(min(m + cut, m + before + after) >= least, f"a side of {m} padded by {before} and {after} is empty")
        out.append(symbol("m", m) + symbol("before", before) + symbol("after", after))
    if mode in ("reflect", "replicate"):
        require(c > 0 and min(sides) > 0, f"{mode} padding needs a non-empty input, gets {[*batch, c, *sides]}")
        require(any(side.value > 0 for side in out), f"{mode} padding of {list(sides)} leaves nothing")
    return tuple(out)
