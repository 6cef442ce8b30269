"""Normalization."""

from collections.abc import Sequence
from math import prod
from typing import Any

from archscope.core.errors import ShapeError
from archscope.core.record import Op, Tensor
from archscope.operators.rule import Maybe, Rule, Work, by_output, by_x, op, per_channel, positive


def _by_channel(of_batch: str) -> Rule:
    """Batch and instance norm: the rule, by the name of the argument that asks for the statistics of this batch."""

    def norm(input: Tensor, weight: Maybe, bias: Maybe, running_mean: Maybe, running_var: Maybe, **more: Any) -> Work:
        # [N, c, *] = norm([N, c, *], [c], [c], [c], [c])
        if len(input.shape) < 2:
            raise ShapeError(f"needs at least 2 axes, [N, c], gets {by_x(input.shape)}")
        n, c, *_ = input.shape
        per_channel(c, running_mean, running_var, weight, bias)
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
            f"expects the last axes to be {by_x(shape)}, gets {by_x(input.shape)}",
            expected=shape[-1] if shape else None,
            got=input.shape[-1] if input.shape else None,
        )
    for tensor in (weight, bias):
        if tensor is not None and tensor.shape != shape:
            raise ShapeError(f"weight and bias must be {by_x(shape)}, get {by_x(tensor.shape)}")


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
    positive("num_groups", [num_groups])
    if c % num_groups or not c:
        raise ShapeError(f"{c} channels cannot be split into {num_groups} groups")
    per_channel(c, weight, bias)
    if not prod(sides):
        raise ShapeError(f"group norm needs sides of at least 1, gets {by_x(sides)}")
    return Work((input.shape,), 0, 5 * prod(input.shape))


@by_output("aten.native_batch_norm", "aten._native_batch_norm_legit", "aten._native_batch_norm_legit_no_training")
def batch_norm_kernel(operator: Op) -> Work:
    return Work(None, 0, (6 if operator.args.get("training", False) else 2) * operator.outputs[0].numel)


@by_output("aten._weight_norm", "aten._weight_norm_interface")
def weight_norm(operator: Op) -> Work:
    # w = v · (g / |v|)
    return Work(None, 0, 2 * operator.args["v"].numel + operator.args["g"].numel)
