"""Pooling over sliding windows, and adaptive pooling to a given output."""

from math import prod

from archscope.core.expression import symbol
from archscope.layers.formula import (
    Config,
    Derived,
    Formula,
    Shapes,
    each,
    layer,
    lost,
    positive,
    require,
    split,
    window,
)


def pooling(n: int, average: bool) -> Formula:
    def pool(config: Config, shapes: Shapes) -> Derived:
        """k − 1 comparisons, or k − 1 additions and a division, for each output."""
        batch, c, sides = split(shapes[0], n, "pooling")
        k = each(config["kernel_size"], n)
        stride = config.get("stride")
        s = k if stride is None else each(stride, n)
        p, d = each(config.get("padding", 0), n), each(config.get("dilation", 1), n)
        positive(kernel_size=k, stride=s, dilation=d)
        require(min(p) >= 0, f"padding is at least 0, gets {list(p)}")
        require(
            all(2 * pi <= ki for ki, pi in zip(k, p, strict=True)),
            f"padding {list(p)} is at most half of the window {list(k)}",
        )
        require(config.get("divisor_override") != 0, "nothing can be divided by 0")
        if average and n == 3:  # PyTorch requires this of this kind only
            require(all(m >= ki for m, ki in zip(sides, k, strict=True)), f"{list(sides)} is less than {list(k)}")
        windows = list(zip(sides, k, s, p, d, strict=True))
        out = tuple(window(*at, bool(config.get("ceil_mode", False))) for at in windows)
        require(
            c > 0 and min(sides) > 0 and min(o.value for o in out) > 0,
            f"a window of {list(k)} does not fit an input of {[c, *sides]}",
        )
        shape = (*batch, c, *(o.value for o in out))
        rest = tuple(lost(*at, o.value) for at, o in zip(windows, out, strict=True))
        return Derived((shape,), out, lost=rest, operations=prod(shape) * (prod(k) - 1 + average))

    return pool


def adaptive_pooling(n: int, average: bool) -> Formula:
    def adaptive(config: Config, shapes: Shapes) -> Derived:
        """Output i of o covers ⌊i·m/o⌋ to ⌈(i + 1)·m/o⌉."""
        batch, c, sides = split(shapes[0], n, "adaptive pooling")
        wanted = config.get("output_size")
        require(wanted is not None, "output_size has to be given")
        wanted = each(wanted, n)
        out = tuple(symbol("out", m if o is None else o) for m, o in zip(sides, wanted, strict=True))
        require(c > 0 and min(sides) > 0, f"pooling needs a non-empty input, gets {[c, *sides]}")
        require(min(o.value for o in out) >= 0, f"a side is at least 0, gets {list(wanted)}")
        pairs = [(m, o.value) for m, o in zip(sides, out, strict=True)]
        covered = prod(sum(-(-(i + 1) * m // o) - i * m // o for i in range(o)) for m, o in pairs)
        places = prod(o for _, o in pairs)
        return Derived(
            ((*batch, c, *(o.value for o in out)),),
            out,
            operations=prod(batch) * c * (covered - places + average * places),
        )

    return adaptive


for _n in (1, 2, 3):
    for _kind in ("Max", "Avg"):
        _name = f"{_kind.lower()}_pool{_n}d"
        layer(
            f"{_kind}Pool{_n}d",
            source="[D] relationship 7",
            window="sliding",
            sides=_n,
            functions=(_name, f"{_name}_with_indices") if _kind == "Max" else (_name,),
        )(pooling(_n, _kind == "Avg"))
        layer(
            f"Adaptive{_kind}Pool{_n}d",
            source="the output side is the argument",
            window="adaptive",
            sides=_n,
            functions=(f"adaptive_{_name}",),
        )(adaptive_pooling(_n, _kind == "Avg"))
