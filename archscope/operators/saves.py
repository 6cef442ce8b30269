"""What each operator saves for its backward: the tensors that its formulas in PyTorch's derivatives.yaml name.

`SAVES[name](op, needs)` gives them. needs: whether a tensor needs a gradient, by its id: a formula that is not needed
saves nothing. An operator that is not here is unknown. Source: tools/autograd/derivatives.yaml of PyTorch 2.14.
"""

from collections.abc import Callable

from archscope.core.record import Op, Tensor
from archscope.core.registry import Registry

Needs = Callable[[int], bool]
Saved = list[Tensor]

SAVES: Registry[Callable[[Op, Needs], Saved]] = Registry("saved tensors of")

# no gradient goes through them, whatever goes in
CONSTANT = frozenset(f"aten.{name}" for name in """detach empty_like zeros_like ones_like full_like rand_like randn_like
    new_zeros new_empty new_ones new_full bernoulli_ bernoulli ne eq lt le gt ge ne_ eq_ logical_not
    logical_and logical_or isnan argmax argmin""".split())  # fmt: skip

# in place, and their formulas read what was there before: autograd makes a copy of it first
COPIED = frozenset(f"aten.{name}" for name in """mul_ div_ hardswish_ silu_ hardtanh_ gelu_ hardsigmoid_
    mish_ pow_ clamp_ clamp_min_""".split())  # fmt: skip

_NOTHING = """add add_ sub sub_ rsub cat stack mean sum view _unsafe_view t transpose permute expand squeeze unsqueeze
    select slice split unbind clone alias split_with_sizes unsafe_split neg neg_ roll _to_copy copy_ zero_ fill_
    floor ceil round trunc sign constant_pad_nd lift_fresh native_channel_shuffle upsample_nearest1d
    upsample_nearest2d upsample_bilinear2d upsample_bicubic2d cumsum repeat flip tril triu tril_ triu_ diagonal
    unfold as_strided im2col col2im pixel_shuffle pixel_unshuffle""".split()


@SAVES.register(*sorted(CONSTANT), *(f"aten.{name}" for name in _NOTHING))
def nothing(op: Op, needs: Needs) -> Saved:
    """grad, or grad in another shape."""
    return []


_RESULT = """relu relu_ sigmoid sigmoid_ tanh tanh_ exp exp_ sqrt sqrt_ rsqrt rsqrt_ reciprocal _softmax _safe_softmax
    _log_softmax leaky_relu_ elu_ tan expm1""".split()


@SAVES.register(*(f"aten.{name}" for name in _RESULT))
def result(op: Op, needs: Needs) -> Saved:
    """threshold_backward(grad, result, 0), sigmoid_backward(grad, result), …"""
    return [op.outputs[0]]


_SELF = """gelu silu hardswish hardtanh hardsigmoid elu leaky_relu softplus mish log log2 log1p avg_pool2d avg_pool3d
    _adaptive_avg_pool2d _adaptive_avg_pool3d abs sin cos erf clamp clamp_min clamp_max glu var var_mean
    hardswish_ silu_ hardtanh_ gelu_ hardsigmoid_ mish_ pow_ clamp_ clamp_min_ reflection_pad1d
    reflection_pad2d replication_pad2d celu hardshrink softshrink threshold""".split()


@SAVES.register(*(f"aten.{name}" for name in _SELF))
def own_input(op: Op, needs: Needs) -> Saved:
    """gelu_backward(grad, self), avg_pool2d_backward(grad, self, …), …"""
    return [op.inputs[0]]


@SAVES.register("aten.mul", "aten.mul_", "aten.mm", "aten.bmm")
def factors(op: Op, needs: Needs) -> Saved:
    """grad * other for self, grad * self for other; mm and bmm likewise."""
    if len(op.inputs) < 2:
        return []
    a, b = op.inputs[:2]
    return [*([b] if needs(a.id) else []), *([a] if needs(b.id) else [])]


@SAVES.register("aten.addmm", "aten.baddbmm")
def added_product(op: Op, needs: Needs) -> Saved:
    """mm_mat1_backward(grad, mat2, …) for mat1, mm_mat2_backward(grad, mat1, …) for mat2."""
    _, a, b = op.inputs[:3]
    return [*([b] if needs(a.id) else []), *([a] if needs(b.id) else [])]


@SAVES.register("aten.div", "aten.div_")
def quotient(op: Op, needs: Needs) -> Saved:
    """grad / other for self; -grad * (self / other) / other for other."""
    if len(op.inputs) < 2:
        return []
    a, b = op.inputs[:2]
    return [a, b] if needs(b.id) else [b]


@SAVES.register("aten.convolution")
def convolution(op: Op, needs: Needs) -> Saved:
    """convolution_backward(grad, input, weight, …), one function for all three."""
    return list(op.inputs[:2])


@SAVES.register("aten.native_batch_norm", "aten.native_layer_norm", "aten.native_group_norm")
def normalisation(op: Op, needs: Needs) -> Saved:
    """native_batch_norm_backward(grad, input, weight, running_mean, running_var, result1, result2, …), and the bias
    in native_layer_norm_backward."""
    names = ["input", "weight", "running_mean", "running_var"]
    names += ["bias"] if op.name == "aten.native_layer_norm" else []
    given = [op.args.get(name) for name in names]
    return [*(t for t in given if isinstance(t, Tensor)), *op.outputs[1:3]]


@SAVES.register("aten.max_pool2d_with_indices", "aten.max_pool3d_with_indices")
def max_pool(op: Op, needs: Needs) -> Saved:
    """max_pool2d_with_indices_backward(grad, self, …, result1)."""
    return [op.inputs[0], op.outputs[1]]


@SAVES.register("aten.native_dropout")
def dropout(op: Op, needs: Needs) -> Saved:
    """native_dropout_backward(grad, result1, …): the mask, of one byte an element."""
    return [op.outputs[1]]


@SAVES.register("aten.nll_loss_forward")
def nll_loss(op: Op, needs: Needs) -> Saved:
    """nll_loss_backward(grad, self, target, weight, …, total_weight)."""
    return [op.inputs[0], op.inputs[1], op.outputs[1]]


@SAVES.register("aten.embedding")
def embedding(op: Op, needs: Needs) -> Saved:
    """embedding_backward(grad, indices, …)."""
    return [op.inputs[1]]


@SAVES.register("aten.linalg_vector_norm", "aten.norm", "aten.std", "aten.logsumexp", "aten.amax", "aten.amin")
def own_input_and_result(op: Op, needs: Needs) -> Saved:
    """linalg_vector_norm_backward(grad, self, ord, result, …), std_backward(result, grad, self, …), …"""
    return [op.inputs[0], op.outputs[0]]


@SAVES.register("aten.log_sigmoid_forward", "aten._fused_rms_norm", "aten.adaptive_max_pool2d")
def own_input_and_second_result(op: Op, needs: Needs) -> Saved:
    """log_sigmoid_backward(grad, self, buffer), adaptive_max_pool2d_backward(grad, self, result1), …"""
    return [op.inputs[0], op.outputs[1]]


@SAVES.register("aten.max", "aten.min", "aten.topk", "aten.sort", "aten.median")
def places(op: Op, needs: Needs) -> Saved:
    """value_selecting_reduction_backward(grad, dim, indices, …); of the largest of all: self and result."""
    return list(op.outputs[1:2]) or [op.inputs[0], op.outputs[0]]


@SAVES.register("aten.index", "aten.index_select", "aten.masked_fill", "aten.masked_fill_")
def where_it_read(op: Op, needs: Needs) -> Saved:
    """index_backward(…, indices, grad), index_select_backward(…, index), grad.masked_fill(mask, 0)."""
    return [t for t in op.inputs[1:] if not t.dtype.startswith(("float", "bfloat"))]


@SAVES.register("aten.where")
def choice(op: Op, needs: Needs) -> Saved:
    """where(condition, grad, 0) and where(condition, 0, grad)."""
    return [op.inputs[0]]


@SAVES.register("aten.gather")
def gathered(op: Op, needs: Needs) -> Saved:
    """gather_backward(grad, self, dim, index, …)."""
    return list(op.inputs[:2])


@SAVES.register("aten.maximum", "aten.minimum", "aten.atan2", "aten._prelu_kernel", "aten.mse_loss",
                "aten.smooth_l1_loss", "aten.huber_loss")  # fmt: skip
def both(op: Op, needs: Needs) -> Saved:
    """mse_loss_backward(grad, self, target, …), where(self == other, grad / 2, grad), …"""
    return list(op.inputs[:2])


@SAVES.register("aten.pow")
def power(op: Op, needs: Needs) -> Saved:
    """pow_backward(grad, self, exponent); pow_backward_exponent(grad, self, exponent, result)."""
    of_a_number = not isinstance(op.args["exponent"], Tensor)
    return [*op.inputs, *([] if of_a_number else [op.outputs[0]])]


@SAVES.register("aten.binary_cross_entropy_with_logits", "aten.binary_cross_entropy")
def binary_loss(op: Op, needs: Needs) -> Saved:
    """binary_cross_entropy_backward(grad, self, target, weight, …), of these as many as are given."""
    return list(op.inputs)
