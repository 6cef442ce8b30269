"""One row per operator: its output shape, its cost, and how it moves the receptive field.

Counting semantics, version 1
-----------------------------
`macs` are multiply–accumulates: one multiplication and the addition that goes with it.

    convolution                 outputs · k · c_in/groups          (k = product of the kernel's sides)
    transposed convolution      inputs  · k · c_out/groups         by input size: each input element is spread once
    matrix products             n · m · p                          linear, mm, bmm, matmul, einsum
    attention                   queries · keys · (d_qk + d_v) · heads; a causal mask is not discounted
    recurrent gates             steps · gates · h · (in + h)

`flops` are 2 · macs plus the work below, one operation a unit:

    bias                        1 per output element
    batch, instance norm        2 per element; 4 more to take the statistics of a batch in training
    layer, group, RMS norm      5 per element (RMS: 4)
    activation, arithmetic      1 per output element, whatever the function
    softmax                     5 per element (maximum, subtract, exponential, sum, divide)
    max pooling                 k − 1 comparisons per output;  adaptive: window − 1
    average pooling             k per output (k − 1 additions and a division);  adaptive: its window
    reductions                  1 per input element (mean: one division more per output)
    interpolation               nearest 0; linear 2^n · 2 per output in n dimensions; bicubic 32
    recurrent pointwise         per step and unit: RNN 2, LSTM 13, GRU 10, and 2 per gate for the biases

Zero by definition: views and copies, concatenation, padding, indexing and embedding, dropout, comparison and creation
of tensors. They move numbers and compute none. An operator that is in none of these lists is *unknown*: its cost is
`None`, never 0, and it is named under every table.

A rule takes the operator's arguments by their schema names, tensors as `ir.Tensor`, and returns a `Work`. It refuses
what PyTorch refuses (PyTorch's own meta kernels are more lenient than its real ones). Rules see shapes only, never
module configurations: `formulas.py` derives the same figures from those, and neither knows of the other.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import prod
from typing import Any, NamedTuple

from archscope.errors import ShapeError
from archscope.ir import Op, Shape, Tensor

# per spatial axis: how many input positions one output sees, and how far apart neighbouring outputs lie
Reach = tuple[tuple[int, Fraction], ...]


class Work(NamedTuple):
    """What one operator does.

    shapes: of its outputs, or None where only PyTorch's own kernel says. macs, flops: see above.
    reach: the window of each spatial axis (the last axes of the output), None where it has none.
    dtype: of the outputs, where it is not that of the first tensor.
    """

    shapes: tuple[Shape, ...] | None
    macs: int = 0
    flops: int = 0
    reach: Reach | None = None
    dtype: str | None = None


Rule = Callable[..., Work]

RULES: dict[str, Rule] = {}


def op(*names: str) -> Callable[[Rule], Rule]:
    """Enter a rule for operators. Raises ValueError on a duplicate."""

    def enter(rule: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"two rules for {name}")
            RULES[name] = rule
        return rule

    return enter


def work(operator: Op) -> Work | None:
    """What a recorded operator did: its rule, or nothing for one that is zero by definition. None when unknown."""
    rule = RULES.get(operator.name)
    if rule is not None:
        return rule(**operator.args)
    rule = BY_OUTPUT.get(operator.name)
    if rule is not None:
        return rule(operator)
    if operator.name in ZERO:
        return Work(None)
    return None


# ------------------------------------------------------------------------------------------------- convolution


def _axes(value: int | Sequence[int], n: int, name: str) -> tuple[int, ...]:
    """One number for n axes, or n numbers."""
    values = (value,) if isinstance(value, int) else tuple(value)
    if len(values) == 1:
        values = values * n
    if len(values) != n:
        raise ShapeError(f"{name} needs 1 or {n} numbers, gets {len(values)}: {list(values)}")
    return values


def _positive(name: str, values: Sequence[int], least: int = 1) -> None:
    if min(values) < least:
        raise ShapeError(f"{name} must be at least {least}, gets {_x(values)}")


def _x(values: Sequence[int]) -> str:
    return "×".join(map(str, values))


def _batched(x: Tensor, n: int, what: str) -> tuple[Shape, int, Shape]:
    """Split [N, C, *sides] or [C, *sides] into batch, channels, sides."""
    if len(x.shape) not in (n + 1, n + 2):
        raise ShapeError(f"{what} expects {n + 1} or {n + 2} axes, gets {len(x.shape)}: {_x(x.shape)}")
    return x.shape[: -n - 1], x.shape[-n - 1], x.shape[-n:]


def _same_dtype(what: str, *tensors: Tensor | None) -> None:
    kinds = {t.dtype for t in tensors if t is not None}
    if len(kinds) > 1:
        raise ShapeError(f"{what} needs one dtype, gets {' and '.join(sorted(kinds))}")


def _conv(n: int) -> Rule:
    def conv(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Work:
        # [N, c_out, (h + 2p − d(k − 1) − 1)//s + 1, …] = conv([N, c_in, h, …], [c_out, c_in/g, k, …], [c_out])
        what = f"a {n}-d convolution"
        batch, c_in, sides = _batched(input, n, what)
        c_out, c_in_g, *k = weight.shape
        _same_dtype(what, input, weight, bias)
        s, d = _axes(stride, n, "stride"), _axes(dilation, n, "dilation")
        _positive("groups", [groups])
        _positive("stride", s)
        _positive("dilation", d)
        _positive("kernel_size", k)
        if c_in != c_in_g * groups:
            raise ShapeError(
                f"expects {c_in_g * groups} input channels, gets {c_in}", expected=c_in_g * groups, got=c_in
            )
        if c_out % groups:
            raise ShapeError(f"{c_out} output channels cannot be split into {groups} groups")
        if padding == "same":
            if max(s) > 1:
                raise ShapeError("padding='same' needs stride 1")
            out = sides
        else:
            p = (0,) * n if padding == "valid" else _axes(padding, n, "padding")
            _positive("padding", p, 0)
            for m, ki, pi, di in zip(sides, k, p, d, strict=True):
                if m + 2 * pi < di * (ki - 1) + 1:
                    raise ShapeError(
                        f"the kernel spans {di * (ki - 1) + 1} and the padded input only {m + 2 * pi} = {m} + 2·{pi}"
                    )
            out = tuple(
                (m + 2 * pi - di * (ki - 1) - 1) // si + 1
                for m, ki, si, pi, di in zip(sides, k, s, p, d, strict=True)
            )
        outputs = prod(batch) * c_out * prod(out)
        macs = outputs * prod(k) * c_in_g
        reach = tuple((di * (ki - 1) + 1, Fraction(si)) for ki, si, di in zip(k, s, d, strict=True))
        return Work(((*batch, c_out, *out),), macs, 2 * macs + (outputs if bias is not None else 0), reach)

    return conv


def _conv_transpose(n: int) -> Rule:
    def conv_transpose(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Work:
        # [N, c_out, (h − 1)s − 2p + d(k − 1) + o + 1, …] = conv_transpose([N, c_in, h, …], [c_in, c_out/g, k, …])
        what = f"a {n}-d transposed convolution"
        batch, c_in, sides = _batched(input, n, what)
        c_in_w, c_out_g, *k = weight.shape
        _same_dtype(what, input, weight, bias)
        s, p, d = _axes(stride, n, "stride"), _axes(padding, n, "padding"), _axes(dilation, n, "dilation")
        o = _axes(output_padding, n, "output_padding")
        _positive("groups", [groups])
        _positive("stride", s)
        _positive("dilation", d)
        _positive("kernel_size", k)
        _positive("padding", p, 0)
        _positive("output_padding", o, 0)
        if c_in != c_in_w:
            raise ShapeError(f"expects {c_in_w} input channels, gets {c_in}", expected=c_in_w, got=c_in)
        if c_in % groups:
            raise ShapeError(f"{c_in} input channels cannot be split into {groups} groups")
        for oi, si, di in zip(o, s, d, strict=True):
            if oi >= max(si, di):
                raise ShapeError(f"output_padding {oi} must be smaller than stride {si} or dilation {di}")
        out = tuple(
            (m - 1) * si - 2 * pi + di * (ki - 1) + oi + 1
            for m, ki, si, pi, di, oi in zip(sides, k, s, p, d, o, strict=True)
        )
        if min(out) < 1 or min(sides) < 1:
            raise ShapeError(f"the output would be {_x(out)}")
        inputs, outputs = prod(batch) * c_in * prod(sides), prod(batch) * c_out_g * groups * prod(out)
        macs = inputs * prod(k) * c_out_g
        reach = tuple((-(-(di * (ki - 1) + 1) // si), Fraction(1, si)) for ki, si, di in zip(k, s, d, strict=True))
        shape = (*batch, c_out_g * groups, *out)
        return Work((shape,), macs, 2 * macs + (outputs if bias is not None else 0), reach)

    return conv_transpose


for _n in (1, 2, 3):
    op(f"aten.conv{_n}d")(_conv(_n))
    op(f"aten.conv_transpose{_n}d")(_conv_transpose(_n))


@op("aten.convolution")
def convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Work:
    # the general form, reached when a model calls torch.convolution itself
    n = len(weight.shape) - 2
    if transposed:
        return _conv_transpose(n)(input, weight, bias, stride, padding, output_padding, groups, dilation)
    return _conv(n)(input, weight, bias, stride, padding, dilation, groups)


# --------------------------------------------------------------------------------------------- matrix products


@op("aten.linear")
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Work:
    # [*, p] = linear([*, m], [p, m], [p])
    _same_dtype("a linear layer", input, weight, bias)
    if not input.shape:
        raise ShapeError("a linear layer needs at least one axis")
    *n, m = input.shape
    *p, features = weight.shape
    if m != features:
        raise ShapeError(f"expects {features} input features, gets {m}", expected=features, got=m)
    outputs = prod(n) * prod(p)
    macs = outputs * m
    return Work(((*n, *p),), macs, 2 * macs + (outputs if bias is not None else 0))


def _inner(left: int, right: int) -> None:
    if left != right:
        raise ShapeError(f"the matrices do not fit: {left} columns against {right} rows", expected=right, got=left)


@op("aten.mm")
def mm(self: Tensor, mat2: Tensor) -> Work:
    # [n, p] = mm([n, m], [m, p])
    n, m = self.shape
    rows, p = mat2.shape
    _inner(m, rows)
    return Work(((n, p),), n * m * p, 2 * n * m * p)


@op("aten.addmm")
def addmm(self: Tensor, mat1: Tensor, mat2: Tensor, beta: Any = 1, alpha: Any = 1) -> Work:
    # [n, p] = addmm([n, p] or [p], [n, m], [m, p])
    n, m = mat1.shape
    rows, p = mat2.shape
    _inner(m, rows)
    return Work(((n, p),), n * m * p, 2 * n * m * p + n * p)


@op("aten.bmm")
def bmm(self: Tensor, mat2: Tensor) -> Work:
    # [b, n, p] = bmm([b, n, m], [b, m, p])
    b, n, m = self.shape
    batches, rows, p = mat2.shape
    _inner(m, rows)
    if b != batches:
        raise ShapeError(f"the batches do not fit: {b} against {batches}", expected=b, got=batches)
    return Work(((b, n, p),), b * n * m * p, 2 * b * n * m * p)


@op("aten.baddbmm")
def baddbmm(self: Tensor, batch1: Tensor, batch2: Tensor, beta: Any = 1, alpha: Any = 1) -> Work:
    # [b, n, p] = baddbmm([b, n, p], [b, n, m], [b, m, p])
    product = bmm(batch1, batch2)
    return product._replace(flops=product.flops + product.macs // max(batch1.shape[2], 1))


@op("aten.mv")
def mv(self: Tensor, vec: Tensor) -> Work:
    # [n] = mv([n, m], [m])
    n, m = self.shape
    _inner(m, vec.shape[0])
    return Work(((n,),), n * m, 2 * n * m)


@op("aten.dot", "aten.vdot")
def dot(self: Tensor, tensor: Tensor | None = None, other: Tensor | None = None) -> Work:
    # [] = dot([m], [m])
    (m,) = self.shape
    return Work(((),), m, 2 * m)


@op("aten.matmul")
def matmul(self: Tensor, other: Tensor) -> Work:
    # [*, n, p] = matmul([*, n, m], [*, m, p]); a vector on either side is a row, or a column, that is dropped after
    if not self.shape or not other.shape:
        raise ShapeError("a matrix product needs at least one axis on both sides")
    a = self.shape if len(self.shape) > 1 else (1, *self.shape)
    b = other.shape if len(other.shape) > 1 else (*other.shape, 1)
    *left, n, m = a
    *right, rows, p = b
    _inner(m, rows)
    batch = broadcast(tuple(left), tuple(right))
    macs = prod(batch) * n * m * p
    shape = batch + (() if len(self.shape) == 1 else (n,)) + (() if len(other.shape) == 1 else (p,))
    return Work((shape,), macs, 2 * macs)


@op("aten.scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Work:
    # [*, h, l, v] = attention([*, h, l, e], [*, h, s, e], [*, h, s, v]): softmax(q kᵀ/√e) v
    _same_dtype("attention", query, key, value)
    *batch, length, e = query.shape
    *keys, s, e_key = key.shape
    *values, s_value, v = value.shape
    if e != e_key or s != s_value:
        raise ShapeError(f"query {_x(query.shape)}, key {_x(key.shape)} and value {_x(value.shape)} do not fit")
    if not enable_gqa:
        batch = list(broadcast(broadcast(tuple(batch), tuple(keys)), tuple(values)))
    scores = prod(batch) * length * s
    macs = scores * (e + v)
    extra = scores * (6 if attn_mask is None else 7)  # scale, softmax, mask
    return Work(((*batch, length, v),), macs, 2 * macs + extra)


# --------------------------------------------------------------------------------------------------- recurrent


def _gates(name: str, gates: int, pointwise: int) -> None:
    """The rules of one recurrent family: the cell, and the whole run over a sequence."""

    def cell(
        input: Tensor,
        hx: Any,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Work:
        # [n, h] = cell([n, i], [n, h], [g·h, i], [g·h, h], [g·h], [g·h])
        state = hx if isinstance(hx, Tensor) else hx[0]
        i, (rows, h) = input.shape[-1], w_hh.shape
        if i != w_ih.shape[1]:
            raise ShapeError(
                f"expects {w_ih.shape[1]} input features, gets {i}", expected=w_ih.shape[1], got=i
            )
        if state.shape[-1] != h or state.shape[:-1] != input.shape[:-1]:
            raise ShapeError(f"the state {_x(state.shape)} does not fit the input {_x(input.shape)} and {h} units")
        n = prod(input.shape[:-1])
        macs = n * rows * (i + h)
        bias = 2 * n * rows if b_ih is not None else 0
        shapes = (state.shape,) * (2 if gates == 4 else 1)
        return Work(shapes, macs, 2 * macs + bias + n * h * pointwise)

    def run(
        input: Tensor,
        hx: Any,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Work:
        # [t, n, d·out] = run([t, n, i], [l·d, n, out], params): per layer and direction [g·h, i] [g·h, h] …
        steps, batch = (input.shape[1], input.shape[0]) if batch_first else input.shape[:2]
        states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        directions = 2 if bidirectional else 1
        per = len(params) // (num_layers * directions)
        projected = per in (3, 5)
        h = params[1].shape[0] // gates
        out = params[per - 1].shape[0] if projected else h
        if input.shape[2] != params[0].shape[1]:
            raise ShapeError(
                f"expects {params[0].shape[1]} input features, gets {input.shape[2]}",
                expected=params[0].shape[1],
                got=input.shape[2],
            )
        macs = flops = 0
        for at in range(0, len(params), per):
            products = sum(prod(w.shape) for w in params[at : at + per] if len(w.shape) == 2)
            macs += steps * batch * products
            flops += steps * batch * ((2 * gates * h if has_biases else 0) + pointwise * h)
        order = (batch, steps) if batch_first else (steps, batch)
        shapes = ((*order, directions * out), *(s.shape for s in states))
        return Work(shapes, macs, 2 * macs + flops)

    op(f"aten.{name}_cell")(cell)
    op(f"aten.{name}")(run)


for _name, _count, _pointwise in (("rnn_tanh", 1, 2), ("rnn_relu", 1, 2), ("lstm", 4, 13), ("gru", 3, 10)):
    _gates(_name, _count, _pointwise)


# --------------------------------------------------------------------------------------------------- normalise


@op("aten.batch_norm")
def batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Work:
    # [N, c, *] = batch_norm([N, c, *], [c], [c], [c], [c])
    if len(input.shape) < 2:
        raise ShapeError(f"batch norm expects at least 2 axes, gets {len(input.shape)}")
    c = input.shape[1]
    for tensor in (running_mean, running_var, weight, bias):
        if tensor is not None and tensor.shape != (c,):
            raise ShapeError(f"expects {prod(tensor.shape)} channels, gets {c}", expected=prod(tensor.shape), got=c)
    return Work((input.shape,), 0, (6 if training else 2) * prod(input.shape))


@op("aten.instance_norm")
def instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Work:
    # [N, c, *] = instance_norm([N, c, *], [c], [c], [c], [c])
    c = input.shape[1]
    for tensor in (running_mean, running_var, weight, bias):
        if tensor is not None and tensor.shape != (c,):
            raise ShapeError(f"expects {prod(tensor.shape)} channels, gets {c}", expected=prod(tensor.shape), got=c)
    return Work((input.shape,), 0, (6 if use_input_stats else 2) * prod(input.shape))


def _last_axes(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None) -> None:
    shape = tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"expects the last axes to be {_x(shape)}, gets {_x(input.shape)}",
            expected=shape[-1] if shape else None,
            got=input.shape[-1] if input.shape else None,
        )
    for tensor in (weight, bias):
        if tensor is not None and tensor.shape != shape:
            raise ShapeError(f"weight and bias must be {_x(shape)}, get {_x(tensor.shape)}")


@op("aten.layer_norm")
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Work:
    # [*, d] = layer_norm([*, d], [d], [d])
    _last_axes(input, normalized_shape, weight, bias)
    return Work((input.shape,), 0, 5 * prod(input.shape))


@op("aten.rms_norm")
def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Work:
    # [*, d] = rms_norm([*, d], [d])
    _last_axes(input, normalized_shape, weight, None)
    return Work((input.shape,), 0, 4 * prod(input.shape))


@op("aten.group_norm")
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Work:
    # [N, c, *] = group_norm([N, c, *], [c], [c])
    if len(input.shape) < 2:
        raise ShapeError(f"group norm expects at least 2 axes, gets {len(input.shape)}")
    c = input.shape[1]
    _positive("num_groups", [num_groups])
    if c % num_groups:
        raise ShapeError(f"{c} channels cannot be split into {num_groups} groups")
    for tensor in (weight, bias):
        if tensor is not None and tensor.shape != (c,):
            raise ShapeError(f"expects {prod(tensor.shape)} channels, gets {c}", expected=prod(tensor.shape), got=c)
    return Work((input.shape,), 0, 5 * prod(input.shape))


# ----------------------------------------------------------------------------------------------------- pooling


def pooled(m: int, k: int, s: int, p: int, d: int, ceil_mode: bool) -> int:
    """Output side of a pooling window. With ceil_mode a last window that starts in the right padding is dropped."""
    span = m + 2 * p - d * (k - 1) - 1
    if ceil_mode:
        count = -(-span // s) + 1
        return count - 1 if (count - 1) * s >= m + p else count
    return span // s + 1


def _window(
    input: Tensor, n: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, what: str
) -> tuple[Shape, int, int, Reach]:
    """Output shape, elements, window size and reach of a pooling layer."""
    batch, c, sides = _batched(input, n, what)
    k = _axes(kernel_size, n, "kernel_size")
    s = k if stride is None or stride in ((), []) else _axes(stride, n, "stride")
    p, d = _axes(padding, n, "padding"), _axes(dilation, n, "dilation")
    _positive("kernel_size", k)
    _positive("stride", s)
    _positive("dilation", d)
    _positive("padding", p, 0)
    for ki, pi, di in zip(k, p, d, strict=True):
        if pi > (di * (ki - 1) + 1) // 2:
            raise ShapeError(f"padding {pi} is more than half of the window {di * (ki - 1) + 1}")
    if c < 1 or min(sides) < 1:
        raise ShapeError(f"{what} needs a non-empty input, gets {_x(input.shape)}")
    out = tuple(pooled(m, *at, ceil_mode) for m, *at in zip(sides, k, s, p, d, strict=True))
    if min(out) < 1:
        raise ShapeError(f"a window of {_x(k)} does not fit an input of {_x(sides)}: the output would be {_x(out)}")
    reach = tuple((di * (ki - 1) + 1, Fraction(si)) for ki, si, di in zip(k, s, d, strict=True))
    return (*batch, c, *out), prod(batch) * c * prod(out), prod(k), reach


def _max_pool(n: int, indices: bool) -> Rule:
    def max_pool(
        self: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> Work:
        # [N, c, out, …] = max_pool([N, c, h, …])
        shape, outputs, k, reach = _window(
            self, n, kernel_size, stride, padding, dilation, ceil_mode, f"{n}-d max pooling"
        )
        return Work((shape, shape) if indices else (shape,), 0, outputs * (k - 1), reach)

    return max_pool


def _avg_pool(n: int) -> Rule:
    def avg_pool(
        self: Tensor,
        kernel_size: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Work:
        # [N, c, out, …] = avg_pool([N, c, h, …])
        if divisor_override == 0:
            raise ShapeError("divisor_override must not be 0")
        shape, outputs, k, reach = _window(self, n, kernel_size, stride, padding, 1, ceil_mode, f"{n}-d pooling")
        return Work((shape,), 0, outputs * k, reach)

    return avg_pool


def _adaptive(n: int, kind: str) -> Rule:
    def adaptive(self: Tensor, output_size: Any) -> Work:
        # [N, c, out, …] = adaptive_pool([N, c, h, …]): output i sees ⌊i·h/out⌋ … ⌈(i + 1)·h/out⌉
        batch, c, sides = _batched(self, n, f"{n}-d adaptive pooling")
        out = _axes(output_size, n, "output_size")
        _positive("output_size", out, 0)
        if c < 1 or min(sides) < 1:
            raise ShapeError(f"adaptive pooling needs a non-empty input, gets {_x(self.shape)}")
        seen = [[-(-(i + 1) * m // o) - i * m // o for i in range(o)] for m, o in zip(sides, out, strict=True)]
        outputs, inputs = prod(batch) * c * prod(out), prod(batch) * c * prod(map(sum, seen))
        reach = tuple((max(w, default=0), Fraction(m, o or 1)) for w, m, o in zip(seen, sides, out, strict=True))
        shape = (*batch, c, *out)
        return Work((shape, shape) if kind == "max" else (shape,), 0, inputs - (outputs if kind == "max" else 0), reach)

    return adaptive


for _n in (1, 2, 3):
    op(f"aten.max_pool{_n}d")(_max_pool(_n, False))
    op(f"aten.max_pool{_n}d_with_indices")(_max_pool(_n, True))
    op(f"aten.avg_pool{_n}d")(_avg_pool(_n))
    op(f"aten.adaptive_avg_pool{_n}d")(_adaptive(_n, "avg"))
    op(f"aten.adaptive_max_pool{_n}d")(_adaptive(_n, "max"))


# -------------------------------------------------------------------------------------------------- elementwise


def broadcast(a: Shape, b: Shape) -> Shape:
    """The common shape of two; raises ShapeError when an axis differs and is 1 on neither side."""
    if a == b:
        return a
    if len(a) < len(b):
        a, b = b, a
    out = list(a)
    for i in range(1, len(b) + 1):
        if b[-i] != out[-i]:
            if out[-i] == 1:
                out[-i] = b[-i]
            elif b[-i] != 1:
                raise ShapeError(f"{_x(a)} and {_x(b)} do not fit: {out[-i]} against {b[-i]}")
    return tuple(out)


def elementwise(self: Tensor, *_: Any, **__: Any) -> Work:
    """[*] = f([*]): one operation per element."""
    return Work((self.shape,), 0, prod(self.shape))


def arithmetic(self: Any, other: Any = None, *_: Any, **__: Any) -> Work:
    """[*] = f([*], [*] or number): one operation per element of the result."""
    if isinstance(other, Tensor):
        if isinstance(self, Tensor):
            shape = self.shape if self.shape == other.shape else broadcast(self.shape, other.shape)
            # two dtypes: PyTorch's own promotion decides
            return Work((shape,) if self.dtype == other.dtype else None, 0, prod(shape))
        return Work(None, 0, prod(other.shape))
    # a float times an integer tensor is a float tensor: PyTorch's own promotion decides
    known = self.dtype.startswith(("float", "bfloat")) and not isinstance(other, complex)
    return Work((self.shape,) if known else None, 0, prod(self.shape))


for _name in """relu relu6 sigmoid tanh gelu silu mish hardswish hardsigmoid hardtanh elu selu celu leaky_relu
    log_sigmoid softplus softsign softshrink hardshrink tanhshrink threshold exp exp2 expm1 log log2 log10 log1p sqrt
    rsqrt reciprocal neg abs square sin cos erf erfinv floor ceil round sign trunc frac clamp clamp_min clamp_max
    clip""".split():
    op(f"aten.{_name}", f"aten.{_name}_")(elementwise)

for _name in "add sub mul rsub".split():
    op(f"aten.{_name}", *([] if _name == "rsub" else [f"aten.{_name}_"]))(arithmetic)

# one operation per element of the output; PyTorch decides shape and dtype
_PER_OUTPUT = """div div_ divide true_divide pow pow_ float_power maximum minimum fmod remainder floor_divide atan2
    prelu glu addcmul addcmul_ addcdiv addcdiv_ lerp lerp_ cumsum cumprod logaddexp where_arithmetic tan asin acos
    atan sinh cosh asinh acosh atanh lgamma digamma logit polar complex angle pixel_norm rrelu xlogy hypot copysign
    nan_to_num bernoulli_p sinc i0 erfc __rpow__ fake_quantize_per_tensor_affine quantize_per_tensor""".split()


@op("aten.softmax", "aten.log_softmax")
def softmax(self: Tensor, dim: int, dtype: str | None = None) -> Work:
    # [*] = softmax([*], dim)
    if self.shape and not -len(self.shape) <= dim < len(self.shape):
        raise ShapeError(f"axis {dim} is not among the {len(self.shape)} axes of {_x(self.shape)}")
    return Work((self.shape,), 0, 5 * prod(self.shape), dtype=dtype)


@op("aten.embedding")
def embedding(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Work:
    # [*, d] = embedding([v, d], [*]): a lookup
    if not indices.dtype.startswith("int"):
        raise ShapeError(f"an embedding looks up integers, gets {indices.dtype}")
    return Work(((*indices.shape, *weight.shape[1:]),), dtype=weight.dtype)


@op("aten.dropout", "aten.feature_dropout", "aten.alpha_dropout", "aten.feature_alpha_dropout")
def dropout(input: Tensor, p: float, train: bool) -> Work:
    # [*] = dropout([*])
    return Work((input.shape,))


@op("aten.cat")
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Work:
    # [*, a + b + …, *] = cat([*, a, *], [*, b, *], …)
    kept = [t for t in tensors if t.shape != (0,)] or list(tensors)
    first = kept[0].shape
    if not -len(first) <= dim < len(first):
        raise ShapeError(f"axis {dim} is not among the {len(first)} axes of {_x(first)}")
    dim %= len(first)
    total = 0
    for t in kept:
        if t.shape[:dim] + t.shape[dim + 1 :] != first[:dim] + first[dim + 1 :] or len(t.shape) != len(first):
            raise ShapeError(f"{_x(first)} and {_x(t.shape)} cannot be joined along axis {dim}: another axis differs")
        total += t.shape[dim]
    known = len({t.dtype for t in kept}) == 1
    return Work(((*first[:dim], total, *first[dim + 1 :]),) if known else None)


# -------------------------------------------------------------------- known cost, shape by PyTorch's own kernel

BY_OUTPUT: dict[str, Callable[[Op], Work]] = {}


def by_output(*names: str) -> Callable[[Callable[[Op], Work]], Callable[[Op], Work]]:
    """Enter the cost of operators whose output shape is left to PyTorch's own kernel."""

    def enter(cost: Callable[[Op], Work]) -> Callable[[Op], Work]:
        for name in names:
            if name in BY_OUTPUT or name in RULES:
                raise ValueError(f"two rules for {name}")
            BY_OUTPUT[name] = cost
        return cost

    return enter


@by_output(*(f"aten.{name}" for name in _PER_OUTPUT))
def per_output(operator: Op) -> Work:
    # 1 per element of the result
    return Work(None, 0, operator.outputs[0].numel)


@by_output(
    *"aten.sum aten.amax aten.amin aten.max aten.min aten.prod aten.any aten.all aten.argmax aten.argmin".split(),
    *"aten.logsumexp aten.norm aten.linalg_vector_norm aten.var aten.std aten.var_mean aten.std_mean".split(),
    *"aten.nansum aten.count_nonzero aten.cummax aten.cummin".split(),
)
def reduction(operator: Op) -> Work:
    # 1 per element of the input
    return Work(None, 0, operator.inputs[0].numel)


@by_output("aten.mean")
def mean(operator: Op) -> Work:
    # the additions, and one division per output
    return Work(None, 0, operator.inputs[0].numel + operator.outputs[0].numel)


@by_output("aten._softmax", "aten._log_softmax", "aten._safe_softmax")
def softmax_kernel(operator: Op) -> Work:
    return Work(None, 0, 5 * operator.outputs[0].numel)


@by_output("aten.native_layer_norm", "aten.native_group_norm")
def norm_kernel(operator: Op) -> Work:
    return Work(None, 0, 5 * operator.outputs[0].numel)


@by_output("aten.native_batch_norm", "aten._native_batch_norm_legit", "aten._native_batch_norm_legit_no_training")
def batch_norm_kernel(operator: Op) -> Work:
    return Work(None, 0, (6 if operator.args.get("training", False) else 2) * operator.outputs[0].numel)


@by_output(
    *(f"aten.upsample_{k}" for k in ("linear1d", "bilinear2d", "trilinear3d", "bicubic2d")),
    *(f"aten._upsample_{k}_aa" for k in ("bilinear2d", "bicubic2d")),
    "aten.grid_sampler_2d",
    "aten.grid_sampler_3d",
)
def interpolate(operator: Op) -> Work:
    # linear in n dimensions: 2^n neighbours, a product and an addition each; cubic: 4·4 of them
    per = {"linear1d": 4, "trilinear3d": 16, "sampler_3d": 16}
    cost = next((v for k, v in per.items() if k in operator.name), 32 if "bicubic" in operator.name else 8)
    return Work(None, 0, cost * operator.outputs[0].numel)


@by_output("aten.einsum")
def einsum(operator: Op) -> Work:
    # kept whole only when it needs no product; otherwise it arrives as its bmm
    return Work(None)


# ---------------------------------------------------------------------------------------------- zero by definition

# the output shares the memory of its input
VIEWS = frozenset(
    f"aten.{name}"
    for name in """view reshape flatten unflatten permute transpose t T mT swapaxes movedim expand expand_as squeeze
    unsqueeze select slice split split_with_sizes tensor_split chunk unbind narrow diagonal as_strided detach alias
    contiguous view_as unfold hsplit vsplit real imag view_as_real view_as_complex _unsafe_view _reshape_alias
    lift_fresh lift chunk_ squeeze_ unsqueeze_ transpose_ t_ detach_ as_strided_ adjoint numpy_T _conj conj
    resolve_conj resolve_neg""".split()
)

# copies, creation, comparison, indexing: no arithmetic
ZERO = VIEWS | frozenset(
    f"aten.{name}"
    for name in """clone copy copy_ to _to_copy type_as pad constant_pad_nd reflection_pad1d reflection_pad2d
    reflection_pad3d replication_pad1d replication_pad2d replication_pad3d circular_pad stack hstack vstack column_stack
    concat concatenate repeat repeat_interleave tile roll flip rot90 index index_put index_put_ _unsafe_index
    index_select gather scatter scatter_ masked_fill masked_fill_ masked_select where tril triu tril_indices
    triu_indices zeros ones empty full zeros_like ones_like empty_like full_like new_zeros new_ones new_empty new_full
    arange linspace eye scalar_tensor tensor randn rand randint randn_like rand_like normal_ uniform_ bernoulli_ bernoulli
    randperm fill fill_ zero_ zero eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and
    bitwise_or bitwise_not bitwise_xor __and__ __or__ isnan isinf isfinite pixel_shuffle pixel_unshuffle channel_shuffle
    native_channel_shuffle upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d im2col col2im native_dropout sort argsort topk unique
    _unique2 one_hot meshgrid broadcast_tensors broadcast_to empty_strided new_empty_strided set_ resize_ is_same_size
    sym_size size numel item _local_scalar_dense equal embedding_bag_lookup max_unpool2d max_unpool3d dropout_
    searchsorted bucketize triu_ tril_ take take_along_dim diag diag_embed cartesian_prod histc bincount nonzero
    feature_dropout_ alpha_dropout_ __lshift__ __rshift__ slice_scatter select_scatter _assert_async
    _assert_tensor_metadata complex_view hann_window dequantize""".split()
)
