"""How each operator carries letters: its output shapes and its multiply–accumulates, from input shapes in letters.

One function an operator, `(Walk, Op) -> Done`, entered with `@carries`; the walk (`walk.py`) holds each against what
was recorded. What is not here keeps a shape, meets element by element, or is refused by its name.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

from archscope.core.record import Op, Shape, Tensor, Trace
from archscope.shapes.polynomial import Poly, least, letter, number, product
from archscope.shapes.walk import Dims, Done, Rule, Unable, Walk, carries

WHOLE_AXIS = 1 << 62  # an end that a slice never reaches: PyTorch writes 2⁶³ − 1


def _axis(dim: int, n: int) -> int:
    return dim % max(n, 1)


def _each(value: Any, n: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values


# --------------------------------------------------------------------------------------------------------- windows


def _conv(n: int) -> Rule:
    def conv(walk: Walk, op: Op) -> Done:
        x, weight, args = walk.of(op.inputs[0]), op.args["weight"].shape, op.args
        c_out, depth, *k = weight
        pad, groups = args.get("padding", 0), args.get("groups", 1)
        s, d = _each(args.get("stride", 1), n), _each(args.get("dilation", 1), n)
        walk.need("fixed", x[-n - 1], depth * groups)
        if pad == "same":
            out = x[-n:]
        else:
            p = (0,) * n if pad == "valid" else _each(pad, n)
            out = tuple(walk.slide(i - n, x[i - n], k[i], s[i], p[i], d[i]) for i in range(n))
        dims = (*x[: -n - 1], number(c_out), *out)
        return Done((dims,), product(dims) * (prod(k) * depth))

    return conv


def _conv_transpose(n: int) -> Rule:
    def conv_transpose(walk: Walk, op: Op) -> Done:
        x, weight, args = walk.of(op.inputs[0]), op.args["weight"].shape, op.args
        c_in, depth, *k = weight
        keys = {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}
        s, p, d, extra = (_each(args.get(key, default), n) for key, default in keys.items())
        walk.need("fixed", x[-n - 1], c_in)
        out = []
        for m, ki, si, pi, di, e in zip(x[-n:], k, s, p, d, extra, strict=True):
            side = (m - 1) * si + (di * (ki - 1) + 1 - 2 * pi + e)
            out.append(walk.named(side) if side.constant is None else side)
            walk.need("window", out[-1])
        dims = (*x[: -n - 1], number(depth * args.get("groups", 1)), *out)
        return Done((dims,), product(x) * (prod(k) * depth))

    return conv_transpose


def _pool(n: int) -> Rule:
    def pool(walk: Walk, op: Op) -> Done:
        x, args = walk.of(op.inputs[0]), op.args
        k = _each(args["kernel_size"], n)
        s = _each(args["stride"], n) if args.get("stride") else k
        p, d = _each(args.get("padding", 0), n), _each(args.get("dilation", 1), n)
        ceil = bool(args.get("ceil_mode", False))
        out = tuple(walk.slide(i - n, x[i - n], k[i], s[i], p[i], d[i], ceil) for i in range(n))
        return Done(((*x[:-n], *out),) * len(op.outputs))

    return pool


def _adaptive(n: int) -> Rule:
    def adaptive(walk: Walk, op: Op) -> Done:
        x = walk.of(op.inputs[0])
        out = tuple(map(number, _each(op.args["output_size"], n)))
        if walk.other is not None and walk.other.args["output_size"] != op.args["output_size"]:
            out = tuple(side or m for side, m in zip(walk.number_of(op, "output_size", x[-n:]), x[-n:], strict=True))
        return Done(((*x[:-n], *out),) * len(op.outputs))

    return adaptive


def _upsample(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    n = len(x) - 2
    if op.args.get("output_size"):
        out = walk.number_of(op, "output_size", x[2:])
        return Done(((*x[:2], *(side or m for side, m in zip(out, x[2:], strict=True))),))
    factors = [f for f in (op.args.get("scale_factors") or ()) if f]
    factors = factors * n if len(factors) == 1 else factors
    sides = []
    for m, factor in zip(x[2:], factors, strict=True):
        if not float(factor).is_integer() and not float(1 / factor).is_integer():
            raise Unable(f"a factor of {factor} has no closed form here")
        side = m * int(factor) if factor >= 1 else m // round(1 / factor)
        sides.append(walk.named(side))
        walk.need("window", side)
    return Done(((*x[:2], *sides),))


for _n in (1, 2, 3):
    carries(f"conv{_n}d")(_conv(_n))
    carries(f"conv_transpose{_n}d")(_conv_transpose(_n))
    carries(f"max_pool{_n}d", f"max_pool{_n}d_with_indices", f"avg_pool{_n}d")(_pool(_n))
    carries(f"adaptive_avg_pool{_n}d", f"adaptive_max_pool{_n}d")(_adaptive(_n))
    carries(f"upsample_nearest{_n}d", f"_upsample_nearest_exact{_n}d")(_upsample)
carries("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d")(_upsample)


@carries("pad", "constant_pad_nd")
def pad(walk: Walk, op: Op) -> Done:
    x = list(walk.of(op.inputs[0]))
    amounts = op.args["pad"]
    if walk.other is not None and walk.other.args["pad"] != amounts:
        raise Unable("the padding is computed from the size")
    for i in range(len(amounts) // 2):
        side = x[-1 - i] + (amounts[2 * i] + amounts[2 * i + 1])
        x[-1 - i] = walk.named(side) if side.constant is None and side != x[-1 - i] else side
        walk.need("window", x[-1 - i])
    return Done((tuple(x),))


@carries("pixel_shuffle", "pixel_unshuffle")
def pixel_shuffle(walk: Walk, op: Op) -> Done:
    *n, c, h, w = walk.of(op.inputs[0])
    if "upscale_factor" in op.args:
        r = op.args["upscale_factor"]
        return Done(((*n, c // r**2, walk.named(h * r), walk.named(w * r)),))
    r = op.args["downscale_factor"]
    sides = [side if side.constant is not None else walk.named(walk.quotient(side, number(r))) for side in (h, w)]
    return Done(((*n, c * r**2, *sides),))


# -------------------------------------------------------------------------------------------------------- products


@carries("linear")
def linear(walk: Walk, op: Op) -> Done:
    *n, m = walk.of(op.inputs[0])
    weight = op.args["weight"].shape
    walk.same(m, number(weight[-1]))
    dims = (*n, *map(number, weight[:-1]))
    return Done((dims,), product(dims) * weight[-1])


@carries("mm", "bmm", "matmul", "addmm", "baddbmm")
def matmul(walk: Walk, op: Op) -> Done:
    left, right = (walk.of(t) for t in op.inputs[-2:])
    if min(len(left), len(right)) < 2:
        raise Unable("a product with a vector has no closed form here")
    *batch, n, m = left
    *batches, rows, p = right
    walk.same(m, rows)
    dims = (*walk.broadcast([tuple(batch), tuple(batches)]), n, p)
    return Done((dims,), product(dims) * m)


@carries("scaled_dot_product_attention")
def attention(walk: Walk, op: Op) -> Done:
    (*batch, queries, e), (*_, keys, _), (*_, v) = (walk.of(op.args[key]) for key in ("query", "key", "value"))
    return Done(((*batch, queries, v),), product((*batch, queries, keys)) * (e + v))


@carries("rnn_tanh", "rnn_relu", "lstm", "gru")
def recurrent(walk: Walk, op: Op) -> Done:
    x: Tensor = op.args.get("input") or op.args["data"]
    weights = [w for w in op.args["params"] if len(w.shape) == 2]
    *order, _ = walk.of(x)
    rest = [t.shape for t in op.outputs[1:]]
    states = [t for t in op.inputs if t.shape in rest]
    dims = ((*order, number(op.outputs[0].shape[-1])), *(walk.of(states[i]) for i in range(len(rest))))
    return Done(dims, product(order) * sum(w.numel for w in weights))


@carries("rnn_tanh_cell", "rnn_relu_cell", "lstm_cell", "gru_cell")
def cell(walk: Walk, op: Op) -> Done:
    *n, i = walk.of(op.inputs[0])
    rows, h = op.args["w_hh"].shape
    return Done(((*n, number(h)),) * len(op.outputs), product(n) * rows * (i + h))


@carries("embedding")
def embedding(walk: Walk, op: Op) -> Done:
    return Done(((*walk.of(op.args["indices"]), number(op.args["weight"].shape[-1])),))


@carries("batch_norm", "instance_norm", "group_norm", "prelu", "_prelu_kernel")
def by_channel(walk: Walk, op: Op) -> Done:
    # the weights are one a channel, whatever other side may have as many
    return Done((walk.of(op.inputs[0]),) * len(op.outputs))


@carries("layer_norm", "rms_norm")
def layer_norm(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    wanted = op.args["normalized_shape"]
    if walk.other is None or walk.other.args["normalized_shape"] == wanted:
        for side, m in zip(x[-len(wanted) :], wanted, strict=True):
            walk.same(side, number(m))
    return Done((x,))


# ------------------------------------------------------------------------------------------------------ rearranging


@carries("cat", "concat", "concatenate")
def cat(walk: Walk, op: Op) -> Done:
    parts = [walk.of(t) for t in op.inputs if t.shape != (0,)]
    if not parts:
        raise Unable("it joins nothing")
    at = _axis(op.args.get("dim", 0), len(parts[0]))
    out = list(parts[0])
    for dims in parts[1:]:
        out = [a + b if i == at else walk.same(a, b) for i, (a, b) in enumerate(zip(out, dims, strict=True))]
    return Done((tuple(out),))


@carries("stack")
def stack(walk: Walk, op: Op) -> Done:
    if walk.other is not None and len(walk.other.inputs) != len(op.inputs):
        raise Unable("as many parts as the input has steps")
    first = walk.of(op.inputs[0])
    at = _axis(op.args.get("dim", 0), len(first) + 1)
    return Done(((*first[:at], number(len(op.inputs)), *first[at:]),))


@carries("chunk", "split", "split_with_sizes", "tensor_split", "unbind")
def split(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    at = _axis(op.args.get("dim", 0), len(x))
    if x[at].constant is None:
        raise Unable(f"as many parts as there are steps, {x[at].text}")
    if op.name == "aten.unbind":
        return Done(((*x[:at], *x[at + 1 :]),) * len(op.outputs))
    return Done(tuple((*x[:at], number(t.shape[at]), *x[at + 1 :]) for t in op.outputs))


@carries("select")
def select(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    at = _axis(op.args.get("dim", 0), len(x))
    return Done(((*x[:at], *x[at + 1 :]),))


@carries("slice", "narrow")
def cut(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    at = _axis(op.args.get("dim", 0), len(x))
    begin, end = op.args.get("start") or 0, op.args.get("end")
    step = op.args.get("step", 1)
    if op.name == "aten.narrow" or (walk.other is not None and _cut(walk.other) != _cut(op)):
        other = walk.other.outputs[0].shape[at] if walk.other is not None else None
        side = walk.integer(op.outputs[0].shape[at], other, x)
    else:
        last = x[at] if end is None or end > WHOLE_AXIS else x[at] + end if end < 0 else least(x[at], number(end))
        first = number(begin) if begin >= 0 else x[at] + begin
        side = (last - first + (step - 1)) // step
        side = walk.named(side) if side.constant is None and side != x[at] else side
    return Done(((*x[:at], side, *x[at + 1 :]),))


def _cut(op: Op) -> tuple[Any, ...]:
    return op.args.get("start"), op.args.get("end"), op.args.get("step")


@carries("permute")
def permute(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    return Done((tuple(x[d] for d in op.args["dims"]),))


@carries("transpose", "swapaxes", "t", "transpose_")
def transpose(walk: Walk, op: Op) -> Done:
    x = list(walk.of(op.inputs[0]))
    i, j = _two(op)
    if len(x) > 1:
        x[i], x[j] = x[j], x[i]
    return Done((tuple(x),))


def _two(op: Op) -> tuple[int, int]:
    found = [value for key, value in op.args.items() if key in ("dim0", "dim1", "axis0", "axis1")]
    return (found[0], found[1]) if len(found) == 2 else (0, 1)


@carries("unsqueeze")
def unsqueeze(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    at = _axis(op.args["dim"], len(x) + 1)
    return Done(((*x[:at], number(1), *x[at:]),))


@carries("squeeze")
def squeeze(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    dims = op.args.get("dim")
    over = range(len(x)) if dims is None else [_axis(d, len(x)) for d in ((dims,) if isinstance(dims, int) else dims)]
    return Done((tuple(side for i, side in enumerate(x) if i not in over or side.constant != 1),))


@carries("expand", "expand_as", "broadcast_to")
def expand(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    if op.name == "aten.expand_as":
        return Done((walk.of(op.inputs[1]),))
    sizes = walk.number_of(op, "size", x)
    padded = [number(1)] * (len(sizes) - len(x)) + list(x)
    out = [old if new is None or old.constant != 1 else new for old, new in zip(padded, sizes, strict=True)]
    return Done((tuple(out),))


@carries("flatten")
def flatten(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    first, last = (_axis(op.args.get(key, default), len(x)) for key, default in (("start_dim", 0), ("end_dim", -1)))
    return Done(((*x[:first], product(x[first : last + 1]), *x[last + 1 :]),))


@carries("view", "reshape", "_unsafe_view", "_reshape_alias")
def view(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    key = "size" if "size" in op.args else "shape"
    if key not in op.args:
        raise Unable("its output has no closed form here")
    shape = op.outputs[0].shape if op.outputs else ()
    return Done((_reshaped(walk, x, _computed(walk, op, key, x, shape), refused=not op.outputs),))


@carries("unflatten")
def unflatten(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    at = _axis(op.args["dim"], len(x))
    key = "sizes" if "sizes" in op.args else "unflattened_size"
    parts = _reshaped(walk, (x[at],), walk.number_of(op, key, (x[at],)))
    return Done(((*x[:at], *parts, *x[at + 1 :]),))


def _computed(walk: Walk, op: Op, key: str, x: Dims, shape: Shape) -> list[Poly | None]:
    """The sides of a view. Without a probe, a side that groups those of the input as they stand is their product."""
    sizes = walk.number_of(op, key, x)
    if walk.other is not None or None in sizes:
        return sizes
    here = [side.value(walk.values) for side in x]
    out: list[Poly | None] = []
    i = 0
    for one in shape:
        j, whole = i, 1
        while j < len(x) and whole < one:
            whole *= here[j]
            j += 1
        if j == i and i < len(x) and here[i] == 1 == one:
            j += 1
        if whole != one:
            return sizes
        out.append(product(x[i:j]))
        i = j
    return out if product(s for s in out if s is not None) == product(x) else sizes


def _reshaped(walk: Walk, x: Dims, sizes: Sequence[Poly | None], refused: bool = False) -> Dims:
    total, known = product(x), product(s for s in sizes if s is not None)
    if None in sizes:
        kept = refused or total.value(walk.values) == (x[0] * known).value(walk.values) if x else False
        if sizes[0] is None and kept and x[0] == letter("N"):
            walk.same(total, x[0] * known)  # else it would make other examples of them
            return x[:1] + tuple(side for side in sizes if side is not None)
        rest = walk.quotient(total, known)
        return tuple(rest if side is None else side for side in sizes)
    walk.same(total, known)
    return tuple(side for side in sizes if side is not None)


@carries("mean", "sum", "amax", "amin", "var", "std", "prod", "logsumexp", "linalg_vector_norm")
def reduce(walk: Walk, op: Op) -> Done:
    x = walk.of(op.inputs[0])
    dims = op.args.get("dim")
    dims = (dims,) if isinstance(dims, int) else dims
    over = {_axis(d, len(x)) for d in dims} if dims else set(range(len(x)))
    if op.args.get("keepdim"):
        return Done((tuple(number(1) if i in over else side for i, side in enumerate(x)),))
    return Done((tuple(side for i, side in enumerate(x) if i not in over),))


def walked(trace: Trace, layout: str, probe: Trace | None = None, refused: Op | None = None) -> Walk:
    """The walk over a trace; see `Walk`."""
    return Walk(trace, layout, probe, refused).run()
