"""Padding and upsampling."""

from math import prod
from typing import Any

from archscope.core.expression import Expr, symbol
from archscope.layers.formula import Config, Derived, Formula, Shapes, each, layer, padded, require

# operations an output: 2^n neighbours, a product and an addition each; cubic 16 neighbours
_BLENDS = {"nearest": 0, "nearest-exact": 0, "linear": 4, "bilinear": 8, "trilinear": 16, "bicubic": 32}


@layer("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d", source="the side asked for, or ⌊side · factor⌋")
def upsample(config: Config, shapes: Shapes) -> Derived:
    *batch, c = shapes[0][:2]
    sides, n = shapes[0][2:], len(shapes[0]) - 2
    mode = config.get("mode", "nearest")
    takes = {"linear": (1,), "bilinear": (2,), "bicubic": (2,), "trilinear": (3,)}.get(mode, (1, 2, 3))
    require(n in takes, f"{mode} interpolation takes {takes} sides, gets {list(shapes[0])}")
    size, factor = config.get("size"), config.get("scale_factor")
    wanted: Any = factor if size is None else size
    wanted = wanted if isinstance(wanted, tuple) else (wanted,) * n
    require(len(wanted) == n, f"one number or {n}, gets {list(wanted)}")
    if size is None:
        out = tuple(_scaled(m, f) for m, f in zip(sides, wanted, strict=True))
    else:
        out = tuple(symbol("size", side) for side in wanted)
    require(min(*sides, *(o.value for o in out)) > 0, f"{list(sides)} would become {[o.value for o in out]}")
    shape, cost = (*batch, c, *(o.value for o in out)), _BLENDS.get(mode)
    return Derived((shape,), out, operations=None if cost is None else cost * prod(shape))


def _scaled(m: int, factor: Any) -> Expr:
    if float(factor).is_integer():
        return symbol("m", m) * symbol("factor", int(factor))
    return symbol("out", int(m * factor))


def padding(n: int, mode: str) -> Formula:
    def pad(config: Config, shapes: Shapes) -> Derived:
        shape, amounts = shapes[0], each(config["padding"], 2 * n)
        least, most = (n, 99) if mode == "constant" else (n + 1, n + 2)
        require(least <= len(shape) <= most, f"takes {n} sides, after a batch and channels, gets {list(shape)}")
        pads = [amounts[i : i + 2] for i in range(0, 2 * n, 2)][::-1]  # the last axis is named first
        batch, c = shape[: -n - 1], shape[-n - 1] if len(shape) > n else 1
        sides = padded(mode, batch, c, shape[-n:], pads)
        return Derived(((*shape[:-n], *(s.value for s in sides)),), sides, operations=0)

    return pad


for _kind, _mode in (
    *(("Zero", "constant"), ("Constant", "constant"), ("Reflection", "reflect")),
    *(("Replication", "replicate"), ("Circular", "circular")),
):
    for _n in (1, 2, 3):
        layer(f"{_kind}Pad{_n}d", source="the side grows by its padding on both ends")(padding(_n, _mode))
