"""Layers that move elements without computing: flatten, unflatten, pixel and channel shuffle."""

from math import prod

from archscope.core.expression import product, symbol
from archscope.layers.formula import Config, Derived, Shapes, axis_of, layer, require


@layer(
    "Flatten",
    source="the product of the flattened axes",
    arguments=("start_dim", "end_dim"),
    functions={"flatten": {"start_dim": 0, "end_dim": -1}},
)
def flatten(config: Config, shapes: Shapes) -> Derived:
    shape = shapes[0]
    first, last = axis_of(config["start_dim"], shape), axis_of(config["end_dim"], shape)
    require(first <= last, f"flattens axes {first} to {last}")
    joined = product(
        *(symbol(f"n_{i}", side) for i, side in enumerate(shape[first : last + 1])), *(() if shape else (1,))
    )
    return Derived(((*shape[:first], joined.value, *shape[last + 1 :]),), (joined,), operations=0)


@layer("Unflatten", source="the product of the new axes is the axis that they replace")
def unflatten(config: Config, shapes: Shapes) -> Derived:
    shape, parts = shapes[0], list(config["unflattened_size"])
    at = axis_of(config["dim"], shape)
    require(len(shape) > 0 and len(parts) > 0 and parts.count(-1) < 2, f"{list(shape)} cannot be parted into {parts}")
    rest = prod(side for side in parts if side != -1)
    if -1 in parts and rest:
        parts[parts.index(-1)] = shape[at] // rest
    require(prod(parts) == shape[at], f"{shape[at]} cannot be parted into {parts}")
    return Derived(((*shape[:at], *parts, *shape[at + 1 :]),), operations=0)


@layer(
    "PixelShuffle",
    source="Shi et al., arXiv:1609.05158, equation 4: [c·r², h, w] → [c, h·r, w·r]",
    letters={"h": "height of the input"},
)
def pixel_shuffle(config: Config, shapes: Shapes) -> Derived:
    require(len(shapes[0]) > 2, f"takes [*, c, h, w], gets {list(shapes[0])}")
    *batch, c, h, w = shapes[0]
    r = symbol("r", config["upscale_factor"])
    require(r.value > 0 and c % r.value**2 == 0, f"{c} channels cannot be spread over {r.value}×{r.value} places")
    sides = (symbol("h", h) * r, symbol("w", w) * r)
    return Derived(((*batch, c // r.value**2, *(s.value for s in sides)),), sides, operations=0)


@layer(
    "PixelUnshuffle",
    source="Shi et al., arXiv:1609.05158, equation 4, backwards: [c, h·r, w·r] → [c·r², h, w]",
    letters={"h": "height of the input"},
)
def pixel_unshuffle(config: Config, shapes: Shapes) -> Derived:
    require(len(shapes[0]) > 2, f"takes [*, c, h, w], gets {list(shapes[0])}")
    *batch, c, h, w = shapes[0]
    r = symbol("r", config["downscale_factor"])
    require(r.value > 0 and h % r.value == 0 and w % r.value == 0, f"{h}×{w} is no multiple of {r.value}")
    sides = (symbol("h", h) / r, symbol("w", w) / r)
    return Derived(((*batch, c * r.value**2, *(s.value for s in sides)),), sides, operations=0)


@layer("ChannelShuffle", source="Zhang et al., arXiv:1707.01083, section 3.1: the channels of each group in turn")
def channel_shuffle(config: Config, shapes: Shapes) -> Derived:
    require(len(shapes[0]) > 2, f"takes [N, c, *], gets {list(shapes[0])}")
    require(shapes[0][1] % config["groups"] == 0, f"{shapes[0][1]} channels in {config['groups']} groups")
    return Derived(shapes[:1], operations=0)
