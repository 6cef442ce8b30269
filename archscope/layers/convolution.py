"""Convolutions and transposed convolutions of one, two and three sides."""

from math import prod

from archscope.core.expression import product, symbol
from archscope.layers.formula import (
    Config,
    Derived,
    Formula,
    Shapes,
    each,
    examples,
    layer,
    lost,
    padded,
    positive,
    require,
    split,
    window,
)


def convolution(n: int) -> Formula:
    def conv(config: Config, shapes: Shapes) -> Derived:
        batch, c, sides = split(shapes[0], n, f"Conv{n}d")
        k, s, d = (each(config[name], n) for name in ("kernel_size", "stride", "dilation"))
        groups, pad = config["groups"], config["padding"]
        require(c == config["in_channels"], f"takes {config['in_channels']} channels, gets {c}")
        positive(kernel_size=k, stride=s, dilation=d)
        require(min(sides) > 0 or not prod(batch), f"the sides are at least 1, get {list(sides)}")
        mode = config.get("padding_mode", "zeros")
        if mode != "zeros":  # the input is padded first, by its own values
            both = [di * (ki - 1) for ki, di in zip(k, d, strict=True)] if pad == "same" else []
            equal = [] if pad == "same" else [0] * n if pad == "valid" else each(pad, n)
            padded(mode, batch, c, sides, [(b // 2, b - b // 2) for b in both] or [(p, p) for p in equal])
        if pad == "same":  # as much padding as keeps the side; stride is 1
            require(min(sides) > 0, f"the sides are at least 1, get {list(sides)}")
            out, rest = tuple(symbol("m", m) for m in sides), ()
        else:
            p = (0,) * n if pad == "valid" else each(pad, n)
            require(mode != "zeros" or min(p) >= 0, "padding is at least 0")  # less is cut off, where values pad
            windows = list(zip(sides, k, s, p, d, strict=True))
            out = tuple(window(*at) for at in windows)
            require(
                all(m + 2 * pi > di * (ki - 1) for m, ki, _, pi, di in windows),
                f"a kernel of {list(k)} does not fit an input of {list(sides)} padded by {list(p)}",
            )
            rest = tuple(lost(*at, o.value) for at, o in zip(windows, out, strict=True))
        c_in, c_out = symbol("c_in", c), symbol("c_out", config["out_channels"])
        depth = c_in / symbol("g", groups) if groups != 1 else c_in
        kernel = tuple(symbol(f"k_{axis}", side) for axis, side in zip("thw"[-n:], k, strict=True))
        weights = product(*kernel, depth, c_out)
        places = tuple(symbol(f"{axis}_out", o.value) for axis, o in zip("thw"[-n:], out, strict=True))
        shape = (*batch, c_out.value, *(o.value for o in out))
        return Derived(
            shapes=(shape,),
            sides=out,
            params=weights + c_out if config["bias"] else weights,
            macs=product(*examples(batch), *places, *kernel, depth, c_out),
            weighted=True,
            lost=rest,
            operations=prod(shape) if config["bias"] else 0,
        )

    return conv


def transposed(n: int) -> Formula:
    def conv_transpose(config: Config, shapes: Shapes) -> Derived:
        batch, c, sides = split(shapes[0], n, f"ConvTranspose{n}d")
        names = ("kernel_size", "stride", "padding", "dilation", "output_padding")
        k, s, p, d, extra = (each(config[name], n) for name in names)
        require(c == config["in_channels"], f"takes {config['in_channels']} channels, gets {c}")
        positive(kernel_size=k, stride=s, dilation=d)
        require(min(p) >= 0, f"padding is at least 0, gets {list(p)}")
        require(
            all(0 <= e < max(si, di) for e, si, di in zip(extra, s, d, strict=True)),
            f"output_padding {list(extra)} is smaller than stride {list(s)} or dilation {list(d)}",
        )
        if "output_size" in config:  # of the sizes that a convolution takes back to this input: not the padding given
            wanted = tuple(config["output_size"])[-n:]
            least = [
                (m - 1) * si + di * (ki - 1) + 1 - 2 * pi for m, ki, si, pi, di in zip(sides, k, s, p, d, strict=True)
            ]
            extra = tuple([side - low for side, low in zip(wanted, least, strict=True)])
            require(
                all(0 <= e < si for e, si in zip(extra, s, strict=True)),
                f"output_size {list(wanted)} is {least} and up to {[si - 1 for si in s]} more",
            )
        out = []
        for m, ki, si, pi, di, e in zip(sides, k, s, p, d, extra, strict=True):
            m_, p_, s_, pad_ = symbol("m", m), symbol("p", ki), symbol("s", si), symbol("pad", pi)
            span = p_ if di == 1 else symbol("d", di) * (p_ - 1) + 1
            side = (m_ - 1) * s_ + span - 2 * pad_
            out.append(side + symbol("extra", e) if e else side)
        # an empty batch may have empty sides, and padding may take a side of the output to 0
        least = 1 if prod(batch) else 0
        fits = min(sides) >= least and min(o.value for o in out) >= 0
        require(fits, f"the output would be {[o.value for o in out]}")
        c_in, c_out = symbol("c_in", c), symbol("c_out", config["out_channels"])
        depth = c_out / symbol("g", config["groups"]) if config["groups"] != 1 else c_out
        kernel = tuple(symbol(f"k_{axis}", side) for axis, side in zip("thw"[-n:], k, strict=True))
        places = tuple(symbol(f"{axis}_in", side) for axis, side in zip("thw"[-n:], sides, strict=True))
        weights = product(*kernel, c_in, depth)
        shape = (*batch, c_out.value, *(o.value for o in out))
        return Derived(
            shapes=(shape,),
            sides=tuple(out),
            params=weights + c_out if config["bias"] else weights,
            macs=product(*examples(batch), *places, *kernel, c_in, depth),
            weighted=True,
            operations=prod(shape) if config["bias"] else 0,
        )

    return conv_transpose


for _n in (1, 2, 3):
    layer(
        f"Conv{_n}d",
        source="[D] relationships 6 (stride, padding) and 15 (dilation)",
        of_params="each of c_out kernels: k_h·k_w weights for every input channel of its group, and one bias",
        of_macs="[H] equation 2: every place of the output takes one multiply–accumulate a weight",
        window="sliding",
        sides=_n,
    )(convolution(_n))
    layer(
        f"ConvTranspose{_n}d",
        source="[D] relationship 14",
        of_params="for every pair of an input and an output channel of its group k_h·k_w weights; one bias an output "
        "channel",
        of_macs="every place of the input is spread over the places that the kernel covers: one multiply–accumulate a "
        "weight",
        window="transposed",
        sides=_n,
    )(transposed(_n))
