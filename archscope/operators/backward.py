"""Operators that autograd and optimizers call, and the forward ones that take their place in training.

The gradient of a convolution or a product for its input costs what the forward costs, and so does the gradient for its
weight; of each group of channels as in the forward (a depthwise layer costs 3 × its forward, not 34 ×, see PyTorch
PR #183405). What only moves numbers costs nothing; the rest is counted as in the forward, one operation for each
element: of the gradient that comes in for activations, pooling and losses, of each tensor for an optimizer.
"""

from math import prod
from typing import Any

from archscope.core.record import Op, Tensor
from archscope.operators.rule import Work, by_output


@by_output("aten.convolution_backward")
def convolution_backward(operator: Op) -> Work:
    # dx and dW, each n · c_out · c_in/g · k · outputs; db adds up the gradient
    args = operator.args
    gradient, x, weight = args["grad_output"], args["input"], args["weight"]
    spread = x if args["transposed"] else gradient
    forward = spread.numel * prod(weight.shape[1:])
    for_input, for_weight, for_bias = args["output_mask"]
    macs = forward * (bool(for_input) + bool(for_weight))
    return Work(None, macs, 2 * macs + (gradient.numel if for_bias else 0))


def _scores(query: Tensor, key: Tensor) -> int:
    return prod(query.shape[:-1]) * key.shape[-2]


def _attention(operator: Op) -> Work:
    # q kᵀ and p v, with the softmax between them
    query, key, value = (operator.args[name] for name in ("query", "key", "value"))
    scores = _scores(query, key)
    macs = scores * (query.shape[-1] + value.shape[-1])
    return Work(None, macs, 2 * macs + 6 * scores)


def _attention_backward(operator: Op) -> Work:
    # the scores are made again, then dv = pᵀ do, dp = do vᵀ, dq = ds k, dk = dsᵀ q
    query, key, value = (operator.args[name] for name in ("query", "key", "value"))
    scores = _scores(query, key)
    macs = scores * (3 * query.shape[-1] + 2 * value.shape[-1])
    return Work(None, macs, 2 * macs + 11 * scores)


for _name in ("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention"):
    by_output(f"aten._scaled_dot_product_{_name}")(_attention)
    by_output(f"aten._scaled_dot_product_{_name}_backward")(_attention_backward)


_PER_GRADIENT = """threshold_backward hardtanh_backward gelu_backward silu_backward sigmoid_backward tanh_backward
    hardswish_backward hardsigmoid_backward elu_backward leaky_relu_backward softplus_backward mish_backward
    glu_backward native_dropout_backward max_pool2d_with_indices_backward max_pool3d_with_indices_backward
    avg_pool2d_backward avg_pool3d_backward _adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward
    adaptive_max_pool2d_backward nll_loss_backward nll_loss2d_backward mse_loss_backward embedding_dense_backward
    upsample_nearest2d_backward upsample_bilinear2d_backward upsample_bicubic2d_backward log_sigmoid_backward
    _prelu_kernel_backward smooth_l1_loss_backward huber_loss_backward
    binary_cross_entropy_backward""".split()


@by_output(*(f"aten.{name}" for name in _PER_GRADIENT))
def per_gradient(operator: Op) -> Work:
    # 1 for each element of the gradient that comes in
    return Work(None, 0, operator.inputs[0].numel if operator.inputs else 0)


def _softmax_backward(operator: Op) -> Work:
    # (g − Σ g y) y: multiply, add up, subtract, multiply
    return Work(None, 0, 4 * operator.inputs[0].numel)


by_output("aten._softmax_backward_data", "aten._log_softmax_backward_data")(_softmax_backward)


def _norm_backward(operator: Op) -> Work:
    # two sums over each element for dγ and dβ, then γσ⁻¹ (g − mean g − x̂ mean g x̂): 8 for each element
    return Work(None, 0, 8 * operator.inputs[0].numel)


for _name in ("native_batch_norm", "native_layer_norm", "native_group_norm", "cudnn_batch_norm", "_fused_rms_norm"):
    by_output(f"aten.{_name}_backward")(_norm_backward)


_FOREACH = """add_ add sub sub_ mul mul_ div div_ addcmul_ addcmul addcdiv_ addcdiv lerp_ lerp sqrt sqrt_ neg neg_ pow
    reciprocal_ reciprocal maximum maximum_ abs abs_ sign exp clamp_min clamp_max norm""".split()


@by_output(*(f"aten._foreach_{name}" for name in _FOREACH))
def foreach(operator: Op) -> Work:
    # 1 for each element of the first list of tensors
    first = next(value for value in operator.args.values() if isinstance(value, tuple))
    return Work(None, 0, sum([t.numel for t in first if isinstance(t, Tensor)]))


@by_output("aten._adaptive_avg_pool2d", "aten._adaptive_avg_pool3d")
def adaptive_average(operator: Op) -> Work:
    # its window for each output: each input once where the windows do not overlap
    return Work(None, 0, operator.inputs[0].numel)


_MOVES = """_foreach_zero_ _foreach_copy_ select_backward slice_backward diagonal_backward unfold_backward
    index_select_backward value_selecting_reduction_backward""".split()


@by_output(*(f"aten.{name}" for name in _MOVES))
def moves(operator: Op) -> Work:
    # nothing is computed
    return Work(None)


# reads a gradient, updates a parameter and its state: SGD with momentum 4, Adam 14, AdamW 16 for each element
_FUSED = {"_fused_sgd_": 4, "_fused_adam_": 14, "_fused_adamw_": 16, "_fused_adagrad_": 6}


def _fused(operator: Op) -> Work:
    params: Any = operator.args.get("self", ())
    return Work(None, 0, _FUSED[operator.name.removeprefix("aten.")] * sum([t.numel for t in params]))


for _name in _FUSED:
    by_output(f"aten.{_name}")(_fused)
