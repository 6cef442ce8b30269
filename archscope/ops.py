"""One row per operator: its output shape, its cost, and how it moves the receptive field.

Counting semantics, version 1
-----------------------------
`macs` are multiply–accumulates: one multiplication and the addition that goes with it.

    convolution                 outputs · k · c_in/groups          (k = product of the kernel's sides), deformable too
    transposed convolution      inputs  · k · c_out/groups         by input size: each input element is spread once
    matrix products             n · m · p                          linear, mm, bmm, matmul, mv, dot, einsum
    attention                   queries · keys · (d_qk + d_v) · heads; a causal mask is not discounted
    recurrent gates             steps · gates · h · (in + h)

`flops` are 2 · macs plus the work below, one operation a unit:

    bias                        1 per output element
    batch, instance norm        2 per element; 4 more to take the statistics of a batch in training
    layer, group, RMS norm      5 per element (RMS: 4)
    activation, arithmetic      1 per output element, whatever the function (what PyTorch writes as several
                                operators counts as those: softsign 3, tanhshrink 2)
    softmax                     5 per element (maximum, subtract, exponential, sum, divide)
    max pooling                 k − 1 comparisons per output;  adaptive: window − 1
    average pooling             k per output (k − 1 additions and a division);  adaptive: its window
    reductions, losses          1 per input element (mean: one division more per output; embedding bag: 1 per
                                element of the rows looked up; scatter, index add: 1 per element added)
    interpolation               nearest 0; linear 2^n · 2 per output in n dimensions; bicubic 32
    deformable convolution      8 per sampled element (bilinear), 1 more with a mask
    region align                9 per sample (bilinear, and the mean); a ratio that depends on the box counts as 1
    weight norm                 2 per element of the weight, 1 per gain
    recurrent pointwise         per step and unit: RNN 2, LSTM 13, GRU 10, and 2 per gate for the biases

Zero by definition: views and copies, concatenation, padding, indexing and embedding, dropout, comparison, sorting and
creation of tensors, non-maximum suppression. They move numbers and compute none. An operator that is in none of these
lists is *unknown*: its cost is `None`, never 0, and it is named under every table.

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
from archscope.named import Named

COUNTING = 1  # version of the counting semantics above: one more whenever a rule counts differently

# per spatial axis: how many input positions one output sees, and how far apart neighbouring outputs lie
Reach = tuple[tuple[int, int | Fraction], ...]


class Work(NamedTuple):
    """What one operator does.

    shapes: of its outputs, or None where only PyTorch's own kernel says. macs, flops: see above.
    reach: the window of each spatial axis (the last axes of the output), None where it has none.
    dtype: of an output, where it is not that of the first tensor.
    """

    shapes: tuple[Shape, ...] | None
    macs: int = 0
    flops: int = 0
    reach: Reach | None = None
    dtype: str | None = None


Rule = Callable[..., Work]
Maybe = Tensor | None

RULES: Named[Rule] = Named("rule of")
op = RULES.of


def work(operator: Op) -> Work | None:
    """What a recorded operator did: its rule, or nothing for one that is zero by definition. None when unknown."""
    rule = RULES.get(operator.name)
    if rule is not None:
        args = operator.args
        return rule(**args) if "out" not in args else rule(**{k: v for k, v in args.items() if k != "out"})
    rule = BY_OUTPUT.get(operator.name)
    if rule is not None:
        return rule(operator)
    if operator.name in ZERO:
        return Work(None)
    return None


# ------------------------------------------------------------------------------------------------- convolution


def _axes(value: int | Sequence[int], n: int, name: str) -> tuple[int, ...]:
    """One number for n axes, or n numbers."""
    if type(value) is tuple and len(value) == n:
        return value
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


def _same(what: str, expected: int, got: int) -> None:
    if expected != got:
        raise ShapeError(f"expects {expected} {what}, gets {got}", expected=expected, got=got)


def _per_channel(c: int, *tensors: Maybe) -> None:
    for tensor in tensors:
        if tensor is not None and tensor.shape != (c,):
            _same("channels", prod(tensor.shape), c)
            raise ShapeError(f"expects [{c}], gets {_x(tensor.shape)}")


def _same_dtype(what: str, *tensors: Maybe) -> None:
    first = tensors[0]
    for tensor in tensors:
        if tensor is not None and first is not None and tensor.dtype != first.dtype:
            raise ShapeError(f"{what} needs one dtype, gets {first.dtype} and {tensor.dtype}")


def _conv(n: int) -> Rule:
    what = f"a {n}-d convolution"

    def conv(
        input: Tensor, weight: Tensor, bias: Maybe = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
        groups: int = 1,
    ) -> Work:  # fmt: skip
        # [N, c_out, (h + 2p − d(k − 1) − 1)//s + 1, …] = conv([N, c_in, h, …], [c_out, c_in/g, k, …], [c_out])
        batch, c_in, sides = _batched(input, n, what)
        c_out, c_in_g, *k = weight.shape
        _same_dtype(what, input, weight, bias)
        s, d = _axes(stride, n, "stride"), _axes(dilation, n, "dilation")
        _positive("groups", [groups])
        _positive("stride", s)
        _positive("dilation", d)
        _positive("kernel_size", k)
        _same("input channels", c_in_g * groups, c_in)
        if min(sides) < 1 and prod(batch):
            raise ShapeError(f"{what} needs sides of at least 1, gets {_x(sides)}")
        if c_out % groups:
            raise ShapeError(f"{c_out} output channels cannot be split into {groups} groups")
        if padding == "same":
            if max(s) > 1 or min(sides) < 1:
                raise ShapeError(f"padding='same' needs stride 1 and sides of at least 1, gets {_x(s)} and {_x(sides)}")
            out = sides
        else:
            p = (0,) * n if padding == "valid" else _axes(padding, n, "padding")
            _positive("padding", p, 0)
            out = []
            for m, ki, si, pi, di in zip(sides, k, s, p, d, strict=True):
                rest = m + 2 * pi - di * (ki - 1) - 1
                if rest < 0:
                    raise ShapeError(
                        f"the kernel spans {di * (ki - 1) + 1} and the padded input only {m + 2 * pi} = {m} + 2·{pi}"
                    )
                out.append(rest // si + 1)
        outputs = prod(batch) * c_out * prod(out)
        macs = outputs * prod(k) * c_in_g
        reach = tuple([(di * (ki - 1) + 1, si) for ki, si, di in zip(k, s, d, strict=True)])
        return Work(((*batch, c_out, *out),), macs, 2 * macs + (outputs if bias is not None else 0), reach)

    return conv


def _conv_transpose(n: int) -> Rule:
    def conv_transpose(
        input: Tensor, weight: Tensor, bias: Maybe = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
        groups: int = 1, dilation: Any = 1,
    ) -> Work:  # fmt: skip
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
        _same("input channels", c_in_w, c_in)
        if c_in % groups:
            raise ShapeError(f"{c_in} input channels cannot be split into {groups} groups")
        for oi, si, di in zip(o, s, d, strict=True):
            if oi >= max(si, di):
                raise ShapeError(f"output_padding {oi} must be smaller than stride {si} or dilation {di}")
        out = tuple(
            (m - 1) * si - 2 * pi + di * (ki - 1) + oi + 1
            for m, ki, si, pi, di, oi in zip(sides, k, s, p, d, o, strict=True)
        )
        if min(*out, *sides) < (1 if prod(batch) else 0):  # an empty batch may have empty sides
            raise ShapeError(f"an input of {_x(sides)} would give an output of {_x(out)}")
        inputs, outputs = prod(batch) * c_in * prod(sides), prod(batch) * c_out_g * groups * prod(out)
        macs = inputs * prod(k) * c_out_g
        reach = tuple((-(-(di * (ki - 1) + 1) // si), Fraction(1, si)) for ki, si, di in zip(k, s, d, strict=True))
        shape = (*batch, c_out_g * groups, *out)
        return Work((shape,), macs, 2 * macs + (outputs if bias is not None else 0), reach)

    return conv_transpose


for _n in (1, 2, 3):
    op(f"aten.conv{_n}d")(_conv(_n))
    op(f"aten.conv_transpose{_n}d")(_conv_transpose(_n))


@op("aten.convolution", "aten._convolution")
def convolution(input: Tensor, weight: Tensor, bias: Maybe, transposed: bool, output_padding: Any, **more: Any) -> Work:
    # the general form, reached when a model calls torch.convolution itself, or was traced by torch.jit
    for switch in ("benchmark", "deterministic", "cudnn_enabled", "allow_tf32"):
        more.pop(switch, None)
    n = len(weight.shape) - 2
    if transposed:
        return _conv_transpose(n)(input, weight, bias, output_padding=output_padding, **more)
    return _conv(n)(input, weight, bias, **more)


# --------------------------------------------------------------------------------------------- matrix products


@op("aten.linear")
def linear(input: Tensor, weight: Tensor, bias: Maybe = None) -> Work:
    # [*, p] = linear([*, m], [p, m], [p])
    _same_dtype("a linear layer", input, weight, bias)
    if not input.shape:
        raise ShapeError("a linear layer needs at least one axis")
    *n, m = input.shape
    *p, features = _axes_of(weight, "the weight of a linear layer", 1, 2)
    _same("input features", features, m)
    outputs = prod(n) * prod(p)
    macs = outputs * m
    if bias is not None:
        _fits(bias.shape, (*n, *p))
    return Work(((*n, *p),), macs, 2 * macs + (outputs if bias is not None else 0))


def _axes_of(t: Tensor, what: str, *counts: int) -> Shape:
    """The shape of a tensor that must have one of these numbers of axes."""
    if len(t.shape) not in counts:
        raise ShapeError(f"{what} has {' or '.join(map(str, counts))} axes, gets {len(t.shape)}: {_x(t.shape)}")
    return t.shape


def _fits(small: Shape, large: Shape) -> None:
    """Refuse what cannot be expanded to a shape."""
    if broadcast(small, large) != large:
        raise ShapeError(f"{_x(small)} cannot be expanded to {_x(large)}")


def _inner(left: int, right: int) -> None:
    if left != right:
        raise ShapeError(f"the matrices do not fit: {left} columns against {right} rows", expected=right, got=left)


@op("aten.mm")
def mm(self: Tensor, mat2: Tensor) -> Work:
    # [n, p] = mm([n, m], [m, p])
    n, m = _axes_of(self, "a matrix", 2)
    rows, p = _axes_of(mat2, "a matrix", 2)
    _inner(m, rows)
    return Work(((n, p),), n * m * p, 2 * n * m * p)


@op("aten.bmm")
def bmm(self: Tensor, mat2: Tensor) -> Work:
    # [b, n, p] = bmm([b, n, m], [b, m, p])
    b, n, m = _axes_of(self, "a batch of matrices", 3)
    batches, rows, p = _axes_of(mat2, "a batch of matrices", 3)
    _inner(m, rows)
    if b != batches:
        raise ShapeError(f"the batches do not fit: {b} against {batches}", expected=b, got=batches)
    return Work(((b, n, p),), b * n * m * p, 2 * b * n * m * p)


@op("aten._grouped_mm")
def grouped_mm(self: Tensor, mat2: Tensor, offs: Maybe = None, **more: Any) -> Work:
    # [n, p] = mm([n, m], [g, m, p]), each row by the matrix of its group; [g, n, p] = bmm without groups of rows
    if offs is None or len(self.shape) != 2 or len(mat2.shape) != 3:
        if len(self.shape) == len(mat2.shape) == 3:
            return bmm(self, mat2)
        raise ShapeError(f"expects rows [n, m] and matrices [g, m, p], gets {_x(self.shape)} and {_x(mat2.shape)}")
    n, m = self.shape
    _, rows, p = mat2.shape
    _inner(m, rows)
    return Work(((n, p),), n * m * p, 2 * n * m * p)


@op("aten.mv")
def mv(self: Tensor, vec: Tensor) -> Work:
    # [n] = mv([n, m], [m])
    n, m = _axes_of(self, "a matrix", 2)
    _inner(m, *_axes_of(vec, "a vector", 1))
    return Work(((n,),), n * m, 2 * n * m)


@op("aten.dot", "aten.vdot")
def dot(self: Tensor, tensor: Maybe = None, other: Maybe = None) -> Work:
    # [] = dot([m], [m])
    (m,) = _axes_of(self, "a vector", 1)
    _inner(m, *_axes_of(tensor or other or self, "a vector", 1))
    return Work(((),), m, 2 * m)


def _plus(self: Tensor, product: Work) -> Work:
    """A product with a tensor added to it: one addition per element."""
    assert product.shapes is not None
    _fits(self.shape, product.shapes[0])
    return product._replace(flops=product.flops + prod(product.shapes[0]))


@op("aten.addmm")
def addmm(self: Tensor, mat1: Tensor, mat2: Tensor, beta: Any = 1, alpha: Any = 1) -> Work:
    # [n, p] = addmm([n, p] or [p], [n, m], [m, p])
    return _plus(self, mm(mat1, mat2))


@op("aten.baddbmm")
def baddbmm(self: Tensor, batch1: Tensor, batch2: Tensor, beta: Any = 1, alpha: Any = 1) -> Work:
    # [b, n, p] = baddbmm([b, n, p], [b, n, m], [b, m, p])
    return _plus(self, bmm(batch1, batch2))


@op("aten.addbmm")
def addbmm(self: Tensor, batch1: Tensor, batch2: Tensor, beta: Any = 1, alpha: Any = 1) -> Work:
    # [n, p] = addbmm([n, p], [b, n, m], [b, m, p]): the products of all b, added up
    product = bmm(batch1, batch2)
    return _plus(self, product._replace(shapes=((batch1.shape[1], batch2.shape[2]),)))


@op("aten.addmv")
def addmv(self: Tensor, mat: Tensor, vec: Tensor, beta: Any = 1, alpha: Any = 1) -> Work:
    # [n] = addmv([n], [n, m], [m])
    return _plus(self, mv(mat, vec))


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
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Maybe = None, is_causal: bool = False,
    enable_gqa: bool = False, **_: Any,
) -> Work:  # fmt: skip
    # [*, h, l, v] = attention([*, h, l, e], [*, h, s, e], [*, h, s, v]): softmax(q kᵀ/√e) v
    _same_dtype("attention", query, key, value)
    if min(len(t.shape) for t in (query, key, value)) < 2 + enable_gqa:
        raise ShapeError(f"attention needs {2 + enable_gqa} axes or more")
    *batch, length, e = query.shape
    *keys, s, e_key = key.shape
    *values, s_value, v = value.shape
    if e != e_key or s != s_value:
        raise ShapeError(f"query {_x(query.shape)}, key {_x(key.shape)} and value {_x(value.shape)} do not fit")
    if enable_gqa:  # each head of the keys and values serves several of the queries
        h = batch[-1]
        if any(not side or h % side for side in (keys[-1], values[-1])):
            raise ShapeError(f"{h} heads cannot be shared out to {keys[-1]} heads of keys and {values[-1]} of values")
        keys[-1] = values[-1] = h
    scored = broadcast(tuple(batch), tuple(keys))
    batch = broadcast(scored, tuple(values))
    if attn_mask is not None:
        if is_causal:
            raise ShapeError("a causal attention takes no other mask")
        _fits(attn_mask.shape, ((1,) * (2 - len(scored)) + (*scored, length, s)))
    scores = prod(batch) * length * s
    macs = scores * (e + v)
    extra = scores * (6 if attn_mask is None else 7)  # scale, softmax, mask
    return Work(((*batch, length, v),), macs, 2 * macs + extra)


# --------------------------------------------------------------------------------------------------- recurrent


def _gates(name: str, gates: int, pointwise: int) -> None:
    """The rules of one recurrent family: the cell, and the whole run over a sequence."""

    def cell(input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Maybe = None, b_hh: Maybe = None) -> Work:
        # [n, h] = cell([n, i], [n, h], [g·h, i], [g·h, h], [g·h], [g·h])
        state = hx if isinstance(hx, Tensor) else hx[0]
        i, (rows, h) = input.shape[-1], w_hh.shape
        _same("input features", w_ih.shape[1], i)
        if state.shape[-1] != h or state.shape[:-1] != input.shape[:-1]:
            raise ShapeError(f"the state {_x(state.shape)} does not fit the input {_x(input.shape)} and {h} units")
        n = prod(input.shape[:-1])
        macs = n * rows * (i + h)
        bias = 2 * n * rows if b_ih is not None else 0
        shapes = (state.shape,) * (2 if gates == 4 else 1)
        return Work(shapes, macs, 2 * macs + bias + n * h * pointwise)

    def run(
        hx: Any, params: Sequence[Tensor], has_biases: bool, num_layers: int, bidirectional: bool,
        input: Maybe = None, data: Maybe = None, batch_first: bool = False, **_: Any,
    ) -> Work:  # fmt: skip
        # [t, n, d·out] = run([t, n, i], [l·d, n, out], params): per layer and direction [g·h, i] [g·h, h] …
        # sequences of different lengths arrive packed, [steps of all of them, i], under the name of data
        x = input or data
        assert x is not None
        *order, i = x.shape
        states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        directions = 2 if bidirectional else 1
        per = len(params) // (num_layers * directions)
        projected = per in (3, 5)
        h = params[1].shape[0] // gates
        out = params[per - 1].shape[0] if projected else h
        _same("input features", params[0].shape[1], i)
        steps = prod(order)  # of all sequences together
        if len(order) == 2 and order[1 if batch_first else 0] == 0:
            raise ShapeError("a sequence needs at least one step")
        products = sum(prod(w.shape) for w in params if len(w.shape) == 2)
        flops = num_layers * directions * ((2 * gates * h if has_biases else 0) + pointwise * h)
        shapes = ((*order, directions * out), *(s.shape for s in states))
        return Work(shapes, steps * products, steps * (2 * products + flops))

    op(f"aten.{name}_cell")(cell)
    op(f"aten.{name}")(run)


for _name, _count, _pointwise in (("rnn_tanh", 1, 2), ("rnn_relu", 1, 2), ("lstm", 4, 13), ("gru", 3, 10)):
    _gates(_name, _count, _pointwise)


# --------------------------------------------------------------------------------------------------- normalise


def _by_channel(of_batch: str) -> Rule:
    """Batch and instance norm: the rule, by the name of the argument that asks for the statistics of this batch."""

    def norm(input: Tensor, weight: Maybe, bias: Maybe, running_mean: Maybe, running_var: Maybe, **more: Any) -> Work:
        # [N, c, *] = norm([N, c, *], [c], [c], [c], [c])
        if len(input.shape) < 2:
            raise ShapeError(f"needs at least 2 axes, [N, c], gets {_x(input.shape)}")
        n, c, *_ = input.shape
        _per_channel(c, running_mean, running_var, weight, bias)
        if not n and weight is not None and of_batch == "use_input_stats":
            raise ShapeError("instance norm with learned weights needs a batch that is not empty")
        return Work((input.shape,), 0, (6 if more[of_batch] else 2) * prod(input.shape))

    return norm


op("aten.batch_norm")(_by_channel("training"))
op("aten.instance_norm")(_by_channel("use_input_stats"))


def _last_axes(input: Tensor, normalized_shape: Sequence[int], weight: Maybe, bias: Maybe) -> None:
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
    input: Tensor, normalized_shape: Sequence[int], weight: Maybe = None, bias: Maybe = None, **_: Any
) -> Work:
    # [*, d] = layer_norm([*, d], [d], [d])
    _last_axes(input, normalized_shape, weight, bias)
    return Work((input.shape,), 0, 5 * prod(input.shape))


@op("aten.rms_norm")
def rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Maybe = None, **_: Any) -> Work:
    # [*, d] = rms_norm([*, d], [d])
    _last_axes(input, normalized_shape, weight, None)
    return Work((input.shape,), 0, 4 * prod(input.shape))


@op("aten.group_norm")
def group_norm(input: Tensor, num_groups: int, weight: Maybe = None, bias: Maybe = None, **_: Any) -> Work:
    # [N, c, *] = group_norm([N, c, *], [c], [c])
    if len(input.shape) < 2:
        raise ShapeError(f"group norm expects at least 2 axes, gets {len(input.shape)}")
    c, sides = input.shape[1], input.shape[2:]
    _positive("num_groups", [num_groups])
    if c % num_groups or not c:
        raise ShapeError(f"{c} channels cannot be split into {num_groups} groups")
    _per_channel(c, weight, bias)
    if not prod(sides):
        raise ShapeError(f"group norm needs sides of at least 1, gets {_x(sides)}")
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
    for ki, pi in zip(k, p, strict=True):
        if pi > ki // 2:
            raise ShapeError(f"padding {pi} is more than half of the window {ki}")
    if c < 1 or min(sides) < 1:
        raise ShapeError(f"{what} needs a non-empty input, gets {_x(input.shape)}")
    out = tuple(pooled(m, ki, si, pi, di, ceil_mode) for m, ki, si, pi, di in zip(sides, k, s, p, d, strict=True))
    if min(out) < 1:
        raise ShapeError(f"a window of {_x(k)} does not fit an input of {_x(sides)}: the output would be {_x(out)}")
    reach = tuple([(di * (ki - 1) + 1, si) for ki, si, di in zip(k, s, d, strict=True)])
    return (*batch, c, *out), prod(batch) * c * prod(out), prod(k), reach


def _max_pool(n: int, indices: bool) -> Rule:
    def max_pool(
        self: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> Work:
        # [N, c, out, …] = max_pool([N, c, h, …])
        shape, outputs, k, reach = _window(
            self, n, kernel_size, stride, padding, dilation, ceil_mode, f"{n}-d max pooling"
        )
        if indices:
            return Work((shape, shape), 0, outputs * (k - 1), reach, dtype="int64")
        return Work((shape,), 0, outputs * (k - 1), reach)

    return max_pool


def _avg_pool(n: int) -> Rule:
    def avg_pool(
        self: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False, **more: Any
    ) -> Work:
        # [N, c, out, …] = avg_pool([N, c, h, …])
        if more.get("divisor_override") == 0:
            raise ShapeError("divisor_override must not be 0")
        shape, outputs, k, reach = _window(self, n, kernel_size, stride, padding, 1, ceil_mode, f"{n}-d pooling")
        if n == 3 and any(m < span for m, (span, _) in zip(self.shape[-3:], reach, strict=True)):
            raise ShapeError(f"3-d average pooling needs an input of at least its window, gets {_x(self.shape[-3:])}")
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
        if kind == "max":
            return Work((shape, shape), 0, inputs - outputs, reach, dtype="int64")
        return Work((shape,), 0, inputs, reach)

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
    # of integers, f may give floats: PyTorch's own promotion decides
    known = self.dtype.startswith(("float", "bfloat"))
    return Work((self.shape,) if known else None, 0, prod(self.shape))


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


def quotient(self: Any, other: Any, *_: Any, **__: Any) -> Work:
    """[*] = f([*], [*] or number), where integers may give floats: PyTorch's own promotion decides there."""
    done = arithmetic(self, other)
    is_float = isinstance(self, Tensor) and self.dtype.startswith(("float", "bfloat"))
    return done if is_float else done._replace(shapes=None)


@op("aten.pow", "aten.pow_")
def power(self: Any, exponent: Any) -> Work:
    # [*] = pow([*], [*] or number)
    return quotient(self, exponent)


_IN_PLACE_TOO = """relu relu6 sigmoid tanh gelu silu mish hardswish hardsigmoid hardtanh elu selu celu leaky_relu
    threshold rrelu exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal neg abs square sin cos erf erfinv floor
    ceil round sign trunc frac""".split()
for _name in [*_IN_PLACE_TOO, *(f"{name}_" for name in _IN_PLACE_TOO)]:
    op(f"aten.{_name}")(elementwise)
for _name in "log_sigmoid softplus softshrink hardshrink".split():
    op(f"aten.{_name}")(elementwise)
for _name in "add add_ sub sub_ mul mul_ rsub".split():
    op(f"aten.{_name}")(arithmetic)
for _name in "div div_".split():
    op(f"aten.{_name}")(quotient)

# one operation per element of the output; PyTorch decides shape and dtype
_PER_OUTPUT = """clamp clamp_ clamp_min clamp_min_ clamp_max clamp_max_ clip clip_ divide true_divide
    float_power maximum minimum fmax fmin fmod remainder remainder_ floor_divide floor_divide_ atan2 addcmul addcmul_
    addcdiv addcdiv_ lerp lerp_ addr outer cumsum cumprod logcumsumexp logaddexp logaddexp2 tan asin acos atan sinh
    cosh asinh acosh atanh lgamma digamma logit logit_ sgn heaviside deg2rad rad2deg polar complex angle
    rrelu_with_noise _prelu_kernel xlogy hypot copysign nan_to_num nan_to_num_ sinc i0 erfc
    fake_quantize_per_tensor_affine quantize_per_tensor diff""".split()


@op("aten.prelu")
def prelu(self: Tensor, weight: Tensor) -> Work:
    # [N, c, *] = prelu([N, c, *], [c] or [1])
    slopes = prod(_axes_of(weight, "the weight of prelu", 0, 1))
    c = self.shape[1] if len(self.shape) > 1 else 1
    if slopes != 1:
        _same("input channels", slopes, c)
    return Work((self.shape,), 0, prod(self.shape))


@op("aten.glu")
def glu(self: Tensor, dim: int = -1) -> Work:
    # [*, a, *] = glu([*, 2a, *]): one half times the sigmoid of the other
    at = _axis(dim, self)
    a, odd = divmod(self.shape[at], 2) if self.shape else (0, 1)
    if odd:
        raise ShapeError(f"axis {dim} of {_x(self.shape)} cannot be halved")
    shape = (*self.shape[:at], a, *self.shape[at + 1 :])
    return Work((shape,), 0, prod(shape))


def _axis(dim: int, t: Tensor) -> int:
    """An axis counted from the front; a scalar has one that can be named."""
    n = max(len(t.shape), 1)
    if not -n <= dim < n:
        raise ShapeError(f"axis {dim} is not among the {len(t.shape)} axes of {_x(t.shape)}")
    return dim % n


@op("aten.softmax", "aten.log_softmax")
def softmax(self: Tensor, dim: int, dtype: str | None = None) -> Work:
    # [*] = softmax([*], dim)
    _axis(dim, self)
    return Work((self.shape,), 0, 5 * prod(self.shape), dtype=dtype)


@op("aten.embedding")
def embedding(weight: Tensor, indices: Tensor, **_: Any) -> Work:
    # [*, d] = embedding([v, d], [*]): a lookup
    d = _axes_of(weight, "a table of embeddings", 2)[1]
    if indices.dtype not in ("int64", "int32"):
        raise ShapeError(f"an embedding looks up integers, gets {indices.dtype}; write the input as 1x128:int64")
    return Work(((*indices.shape, d),))


@op("aten.dropout", "aten.feature_dropout", "aten.alpha_dropout", "aten.feature_alpha_dropout")
def dropout(input: Tensor, p: float, train: bool) -> Work:
    # [*] = dropout([*])
    return Work((input.shape,))


@op("aten.cat")
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Work:
    # [*, a + b + …, *] = cat([*, a, *], [*, b, *], …)
    kept = [t for t in tensors if t.shape != (0,)]  # an empty vector may stand beside anything
    if not kept:
        return Work(((0,),) if len({t.dtype for t in tensors}) == 1 else None)
    first = kept[0].shape
    dim = _axis(dim, kept[0])
    before, after, total = first[:dim], first[dim + 1 :], 0
    for t in kept:
        if len(t.shape) != len(first) or t.shape[:dim] != before or t.shape[dim + 1 :] != after:
            raise ShapeError(f"{_x(first)} and {_x(t.shape)} cannot be joined along axis {dim}: another axis differs")
        total += t.shape[dim]
    known = len({t.dtype for t in kept}) == 1
    return Work(((*before, total, *after),) if known else None)


@op("aten.stack")
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Work:
    # [*, n, *] = stack n·[*]
    first = tensors[0].shape
    for t in tensors:
        if t.shape != first:
            raise ShapeError(f"{_x(first)} and {_x(t.shape)} cannot be stacked: all shapes must be the same")
    if not -len(first) - 1 <= dim <= len(first):
        raise ShapeError(f"axis {dim} is not among the {len(first) + 1} axes of the stack")
    dim %= len(first) + 1
    known = len({t.dtype for t in tensors}) == 1
    return Work(((*first[:dim], len(tensors), *first[dim:]),) if known else None)


# --------------------------------------------------------------------------------------------------- resampling


@op("aten.pixel_shuffle")
def pixel_shuffle(self: Tensor, upscale_factor: int) -> Work:
    # [*, c, h·r, w·r] = pixel_shuffle([*, c·r², h, w])
    r = upscale_factor
    if len(self.shape) < 3 or r < 1 or self.shape[-3] % r**2:
        raise ShapeError(f"pixel shuffle by {r} needs [*, c·{r}², h, w], gets {_x(self.shape)}")
    *n, c, h, w = self.shape
    return Work(((*n, c // r**2, h * r, w * r),), reach=((1, Fraction(1, r)),) * 2)


@op("aten.pixel_unshuffle")
def pixel_unshuffle(self: Tensor, downscale_factor: int) -> Work:
    # [*, c·r², h, w] = pixel_unshuffle([*, c, h·r, w·r])
    r = downscale_factor
    if len(self.shape) < 3 or r < 1 or self.shape[-2] % r or self.shape[-1] % r:
        raise ShapeError(f"pixel unshuffle by {r} needs [*, c, h·{r}, w·{r}], gets {_x(self.shape)}")
    *n, c, h, w = self.shape
    return Work(((*n, c * r**2, h // r, w // r),), reach=((r, Fraction(r)),) * 2)


@op("aten.pad")
def pad(self: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Work:
    # [*, h + before + after, …] = pad([*, h, …], (…, before, after)): pairs from the last axis forward
    n, axes = len(pad) // 2, len(self.shape)
    if len(pad) % 2 or n > axes or (mode != "constant" and (not 1 <= n <= 3 or axes not in (n + 1, n + 2))):
        raise ShapeError(f"{mode} padding of {axes} axes by {list(pad)}: one pair an axis, from the last forward")
    out = list(self.shape)
    for i in range(n):
        m, before, after = self.shape[-1 - i], pad[2 * i], pad[2 * i + 1]
        most = {"reflect": m - 1, "circular": m}.get(mode)
        if most is not None and max(before, after) > most:
            raise ShapeError(f"{mode} padding of a side of {m} is at most {most}, gets {max(before, after)}")
        least = 1 if mode == "replicate" or (mode == "reflect" and n == 1) else 0
        cut = min(before, 0) + min(after, 0) if mode in ("constant", "circular") else before + after
        if m + cut < least or m + before + after < least:
            raise ShapeError(f"padding a side of {m} by {before} and {after} leaves {m + before + after}")
        out[-1 - i] += before + after
    if mode in ("reflect", "replicate") and not prod(self.shape[-n - 1 :]):
        raise ShapeError(f"{mode} padding needs a non-empty input, gets {_x(self.shape)}")
    return Work((tuple(out),))


def _upsample(n: int, cost: int) -> Rule:
    def upsample(self: Maybe = None, output_size: Any = None, *_: Any, input: Maybe = None, **more: Any) -> Work:
        # [N, c, ⌊h·factor⌋, …] = upsample([N, c, h, …])
        x = self or input
        assert x is not None
        *batch, c = _axes_of(x, f"the input of {n}-d interpolation", n + 2)[:2]
        sides = x.shape[2:]
        if output_size is None:
            factors = _axes(more["scale_factors"], n, "scale_factors")
            out = tuple(int(m * factor) for m, factor in zip(sides, factors, strict=True))
        else:
            out = _axes(output_size, n, "output_size")
        if min(*sides, *out) < 1:
            raise ShapeError(f"interpolation needs sides of at least 1, gets {_x(sides)} and gives {_x(out)}")
        shape = (*batch, c, *out)
        return Work((shape,), 0, cost * prod(shape))

    return upsample


for _kind, _n, _cost in (
    *(("nearest", n, 0) for n in (1, 2, 3)),
    *(("linear", 1, 4), ("bilinear", 2, 8), ("trilinear", 3, 16), ("bicubic", 2, 32)),
):
    op(f"aten.upsample_{_kind}{_n}d")(_upsample(_n, _cost))
for _n in (1, 2, 3):
    op(f"aten._upsample_nearest_exact{_n}d")(_upsample(_n, 0))


@op("torchvision.roi_align")
def roi_align(
    input: Tensor, rois: Tensor, pooled_height: int, pooled_width: int, sampling_ratio: int, **more: Any
) -> Work:
    # [K, c, h, w] = align([N, c, …], [K, 5]): s·s samples a cell, interpolated, and their mean
    if len(input.shape) != 4 or len(rois.shape) != 2 or rois.shape[1] != 5:
        raise ShapeError(f"expects [N, c, h, w] and boxes [K, 5], gets {_x(input.shape)} and {_x(rois.shape)}")
    out = (rois.shape[0], input.shape[1], pooled_height, pooled_width)
    samples = max(sampling_ratio, 1) ** 2  # a ratio below 1 takes as many as the box is large: at least one
    return Work((out,), flops=prod(out) * samples * 9)


@op("torchvision.deform_conv2d")
def deform_conv2d(input: Tensor, weight: Tensor, bias: Tensor, groups: int, use_mask: bool, **more: Any) -> Work:
    # [N, c_out, h, w] = conv([N, c_in, …], [c_out, c_in/g, k, k]), each weight at an offset of its own, interpolated
    at = [(more[f"{name}_h"], more[f"{name}_w"]) for name in ("stride", "pad", "dilation")]
    plain = RULES["aten.conv2d"](input, weight, bias, *at, groups)
    assert plain.shapes is not None
    n, _, h, w = plain.shapes[0]
    sampled = n * input.shape[1] * prod(weight.shape[2:]) * h * w
    return plain._replace(flops=plain.flops + sampled * (9 if use_mask else 8), reach=None)


# -------------------------------------------------------------------- known cost, shape by PyTorch's own kernel

BY_OUTPUT: Named[Callable[[Op], Work | None]] = Named("rule of")


def by_output(*names: str) -> Callable[[Callable[[Op], Any]], Callable[[Op], Any]]:
    """Enter the cost of operators whose output shape is left to PyTorch's own kernel."""
    if twice := [name for name in names if name in RULES]:
        raise ValueError(f"the rule of {twice[0]!r} is entered twice")
    return BY_OUTPUT.of(*names)


@by_output(*(f"aten.{name}" for name in _PER_OUTPUT))
def per_output(operator: Op) -> Work:
    # 1 per element of the result
    return Work(None, 0, operator.outputs[0].numel)


@by_output(
    *"aten.sum aten.amax aten.amin aten.max aten.min aten.prod aten.any aten.all aten.argmax aten.argmin".split(),
    *"aten.logsumexp aten.norm aten.linalg_vector_norm aten.var aten.std aten.var_mean aten.std_mean".split(),
    *"aten.nansum aten.count_nonzero aten.cummax aten.cummin aten.aminmax aten.trace".split(),
    *"aten.nll_loss_forward aten.nll_loss2d_forward aten.mse_loss aten.smooth_l1_loss aten.huber_loss".split(),
    *"aten.binary_cross_entropy aten.binary_cross_entropy_with_logits".split(),
)
def reduction(operator: Op) -> Work:
    # 1 per element of the input
    return Work(None, 0, operator.inputs[0].numel)


@by_output("aten.mean")
def mean(operator: Op) -> Work:
    # the additions, and one division per output
    return Work(None, 0, operator.inputs[0].numel + operator.outputs[0].numel)


@by_output(*"aten._softmax aten._log_softmax aten._safe_softmax aten.native_layer_norm aten.native_group_norm".split())
def five(operator: Op) -> Work:
    # what softmax, layer and group norm become below: 5 per element
    return Work(None, 0, 5 * operator.outputs[0].numel)


@by_output("aten.native_batch_norm", "aten._native_batch_norm_legit", "aten._native_batch_norm_legit_no_training")
def batch_norm_kernel(operator: Op) -> Work:
    return Work(None, 0, (6 if operator.args.get("training", False) else 2) * operator.outputs[0].numel)


@by_output(
    "aten._upsample_bilinear2d_aa", "aten._upsample_bicubic2d_aa", "aten.grid_sampler_2d", "aten.grid_sampler_3d"
)
def interpolate(operator: Op) -> Work:
    # linear in n dimensions: 2^n neighbours, a product and an addition each; cubic: 4·4 of them
    cost = 32 if "bicubic" in operator.name else 16 if "3d" in operator.name else 8
    return Work(None, 0, cost * operator.outputs[0].numel)


@by_output("aten.scatter_add", "aten.scatter_add_", "aten.index_add", "aten.index_add_", "aten.scatter_reduce")
def added(operator: Op) -> Work:
    # 1 per element that is added
    return Work(None, 0, operator.args.get("src", operator.args.get("source", operator.outputs[0])).numel)


@by_output("aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding_bag(operator: Op) -> Work:
    # [bags, d] = embedding_bag([v, d], [*]): 1 per element of the rows looked up
    return Work(None, 0, operator.args["indices"].numel * operator.args["weight"].shape[1])


@by_output("aten._weight_norm", "aten._weight_norm_interface")
def weight_norm(operator: Op) -> Work:
    # w = v · (g / |v|)
    return Work(None, 0, 2 * operator.args["v"].numel + operator.args["g"].numel)


@by_output("aten.einsum")
def einsum(operator: Op) -> Work | None:
    # kept whole only between constants; otherwise it arrives as its bmm. Two operands, each letter once in each:
    # a product of the sides of all letters, less those that one operand sums over alone
    left, arrow, out = operator.args["equation"].replace(" ", "").partition("->")
    terms = left.split(",")
    letters = [set(term) for term in terms]
    if len(terms) != 2 or "." in left or not arrow or list(map(len, terms)) != list(map(len, letters)):
        return None
    one, other = (dict(zip(term, t.shape, strict=True)) for term, t in zip(terms, operator.inputs, strict=True))
    sides = {c: max(one.get(c, 1), other.get(c, 1)) for c in left if c != ","}
    shared = letters[0] & letters[1]
    cost = prod(m for c, m in sides.items() if c in shared or c in out)
    summed = sum(t.numel for t, s in zip(operator.inputs, letters, strict=True) if s - shared - set(out))
    return Work(None, cost, 2 * cost + summed) if shared - set(out) else Work(None, 0, cost + summed)


# ---------------------------------------------------------------------------------------------- zero by definition

# the output shares the memory of its input
VIEWS = frozenset(
    f"aten.{name}"
    for name in """view reshape flatten unflatten permute transpose t mT swapaxes movedim expand expand_as squeeze
    unsqueeze select slice split split_with_sizes tensor_split chunk unbind narrow diagonal as_strided detach alias
    contiguous view_as unfold hsplit vsplit real imag view_as_real view_as_complex _unsafe_view _reshape_alias
    lift_fresh lift squeeze_ unsqueeze_ transpose_ t_ detach_ as_strided_ adjoint numpy_T _conj conj
    resolve_conj resolve_neg""".split()
)

# copies, creation, comparison, indexing: no arithmetic
ZERO = (
    VIEWS
    | frozenset(
        f"aten.{name}"
        for name in """clone copy copy_ to _to_copy type_as constant_pad_nd reflection_pad1d reflection_pad2d
    reflection_pad3d replication_pad1d replication_pad2d replication_pad3d _pad_circular hstack vstack
    column_stack concat concatenate repeat repeat_interleave tile roll flip rot90 index index_put index_put_
    _unsafe_index index_select gather scatter scatter_ masked_fill masked_fill_ masked_select where tril triu
    tril_indices triu_indices zeros ones empty full zeros_like ones_like empty_like full_like new_zeros new_ones
    new_empty new_full arange linspace eye scalar_tensor tensor randn rand randint randn_like rand_like normal_
    uniform_ bernoulli_ bernoulli randperm fill fill_ zero_ zero eq ne lt le gt ge logical_and logical_or logical_not
    logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor bitwise_and_ bitwise_or_ bitwise_xor_ median kthvalue
    block_diag __and__ __or__ isnan isinf isfinite channel_shuffle native_channel_shuffle im2col col2im
    native_dropout sort argsort topk _unique2 one_hot meshgrid broadcast_tensors broadcast_to empty_strided
    new_empty_strided set_ resize_ is_same_size sym_size size numel item _local_scalar_dense equal max_unpool2d
    max_unpool3d dropout_ searchsorted bucketize triu_ tril_ take take_along_dim diag diag_embed cartesian_prod histc
    bincount nonzero feature_dropout_ alpha_dropout_ __lshift__ __rshift__ slice_scatter select_scatter _assert_async
    _assert_tensor_metadata hann_window dequantize is_nonzero""".split()
    )
    | {"torchvision.nms", "profiler._record_function_enter_new", "profiler._record_function_exit"}
)
