"""Products of integers, and PyTorch's quantised operators: what they cost is what their counterparts in floats cost.

Weights that an operator has packed arrive as the record's tensors of them, with the bias where there is one.
"""

from math import prod

from archscope.core.record import Op, Tensor
from archscope.operators.rule import ZERO, Work, by_output, free


@by_output("aten._int_mm", "aten._scaled_mm", "aten._weight_int8pack_mm", "aten._weight_int4pack_mm")
def product(operator: Op) -> Work:
    # [n, p] = mm([n, m], [m, p]), of integers or of floats of 8 bits, with scales
    out = operator.outputs[0].numel
    macs = out * operator.inputs[0].shape[-1]
    return Work(None, macs, 2 * macs + (out if isinstance(operator.args.get("bias"), Tensor) else 0))


def _packed(operator: Op) -> tuple[Tensor, int] | None:
    """The weight that was packed, and how many operations an element of the output has besides: bias, ReLU.

    None where no weight is among the arguments.
    """
    for key in ("W_prepack", "packed_weight", "weight"):
        held = operator.args.get(key)
        if isinstance(held, tuple) and held:
            return held[0], len(held) - 1 + ("relu" in operator.name)
    return None


@by_output(*(f"quantized.linear{name}" for name in ("", "_relu", "_dynamic", "_relu_dynamic", "_dynamic_fp16")))
def linear(operator: Op) -> Work | None:
    # [*, p] = linear([*, m], [p, m])
    if (packed := _packed(operator)) is None:
        return None
    (weight, more), out = packed, operator.outputs[0].numel
    macs = out * weight.shape[1]
    return Work(None, macs, 2 * macs + more * out)


@by_output(
    *(f"quantized.conv{n}d{name}" for n in (1, 2, 3) for name in ("", "_relu", "_dynamic")),
    *(f"quantized.conv_transpose{n}d{name}" for n in (1, 2, 3) for name in ("", "_dynamic")),
)
def convolution(operator: Op) -> Work | None:
    # outputs · k · c_in/g; transposed: inputs · k · c_out/g
    if (packed := _packed(operator)) is None:
        return None
    (weight, more), out = packed, operator.outputs[0].numel
    places = operator.inputs[0].numel if "transpose" in operator.name else out
    macs = places * prod(weight.shape[1:])
    return Work(None, macs, 2 * macs + more * out)


@by_output(*(f"quantized.{name}" for name in "add add_relu mul mul_relu hardswish leaky_relu elu sigmoid celu".split()))
def elementwise(operator: Op) -> Work:
    # 1 per element of the result, and 1 more for a ReLU behind it
    return Work(None, 0, operator.outputs[0].numel * (2 if operator.name.endswith("_relu") else 1))


@by_output("quantized.batch_norm2d", "quantized.batch_norm3d", "quantized.layer_norm", "quantized.group_norm")
def norm(operator: Op) -> Work:
    # 2 per element by statistics that are there, 5 where they are taken
    return Work(None, 0, operator.outputs[0].numel * (2 if "batch" in operator.name else 5))


@by_output("aten.quantized_lstm")
def lstm(operator: Op) -> Work | None:
    # [t, n, d·h] = run([t, n, i]): per layer and direction 4h·(i + h) a step, as an LSTM in floats
    args = operator.args
    if not isinstance(args.get("hx"), tuple) or "input" not in args:
        return None
    *order, i = args["input"].shape
    h, layers, directions = args["hx"][0].shape[-1], args["num_layers"], 2 if args["bidirectional"] else 1
    steps = prod(order) * directions
    products = sum(4 * h * ((directions * h if k else i) + h) for k in range(layers))
    more = layers * ((8 * h if args["has_biases"] else 0) + 13 * h)
    return Work(None, steps * products, steps * (2 * products + more))


ZERO.update(f"quantized.{name}" for name in ("cat", "embedding_byte", "embedding_4bit", "dropout"))
free("int_repr q_scale q_zero_point q_per_channel_scales q_per_channel_zero_points qscheme")
