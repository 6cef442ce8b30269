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

_NOTHING = """add add_ sub sub_ rsub cat stack mean sum view _unsafe_view reshape t transpose permute expand squeeze
    unsqueeze select slice split chunk unbind flatten detach clone alias split_with_sizes unsafe_split neg roll _to_copy
    copy_ empty zeros ones zeros_like arange constant_pad_nd ones_like lift_fresh native_channel_shuffle
    upsample_nearest2d upsample_bilinear2d""".split()


@SAVES.register(*(f"aten.{name}" for name in _NOTHING))
def nothing(op: Op, needs: Needs) -> Saved:
    """grad, or grad in another shape."""
    return []


_RESULT = "relu relu_ sigmoid sigmoid_ tanh tanh_ exp sqrt rsqrt reciprocal _softmax _safe_softmax _log_softmax".split()


@SAVES.register(*(f"aten.{name}" for name in _RESULT))
def result(op: Op, needs: Needs) -> Saved:
    """threshold_backward(grad, result, 0), sigmoid_backward(grad, result), …"""
    return [op.outputs[0]]


_SELF = """gelu silu hardswish hardtanh hardsigmoid elu leaky_relu softplus mish log pow avg_pool2d avg_pool3d
    _adaptive_avg_pool2d abs sin cos clamp clamp_min""".split()


@SAVES.register(*(f"aten.{name}" for name in _SELF))
def own_input(op: Op, needs: Needs) -> Saved:
    """gelu_backward(grad, self), avg_pool2d_backward(grad, self, …), …"""
    return [op.inputs[0]]


@SAVES.register("aten.mul", "aten.mul_", "aten.mm", "aten.bmm", "aten.matmul")
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
    """native_batch_norm_backward(grad, input, weight, …, result1, result2, …)."""
    return [op.inputs[0], *op.outputs[1:3]]


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
