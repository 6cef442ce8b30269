"""Sums, means, losses, softmax: what takes many elements to one."""

from collections.abc import Sequence
from math import prod
from typing import Any

from archscope.core.record import Op, Tensor
from archscope.operators.rule import SHOWN, Axes, Work, aten, axis, by_output, op
from archscope.operators.views import moves

SHOWN.add("aten.mean")


@moves("aten.mean", "aten.sum", "aten.amax")
def kept(self: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, **_: Any) -> Axes:
    # [*, 1, *] or [*] = sum([*, m, *])
    dims = (dim,) if isinstance(dim, int) else dim or range(len(self.shape))
    over = {axis(d, self) for d in dims}
    axes = [() if i in over else (i,) for i in range(len(self.shape))]
    return tuple([joined for joined in axes if joined or keepdim])


moves(*aten("amin var std prod logsumexp linalg_vector_norm"), field=False)(kept)


@op("aten.softmax", "aten.log_softmax")
def softmax(self: Tensor, dim: int, dtype: str | None = None) -> Work:
    # [*] = softmax([*], dim)
    axis(dim, self)
    return Work((self.shape,), 0, 5 * prod(self.shape), dtype=dtype)


@by_output(
    *"aten.sum aten.amax aten.amin aten.max aten.min aten.prod aten.any aten.all aten.argmax aten.argmin".split(),
    *"aten.logsumexp aten.norm aten.linalg_vector_norm aten.var aten.std aten.var_mean aten.std_mean".split(),
    *"aten.nansum aten.count_nonzero aten.cummax aten.cummin aten.aminmax aten.trace".split(),
    *"aten.nll_loss_forward aten.nll_loss2d_forward aten.mse_loss aten.smooth_l1_loss aten.huber_loss".split(),
    *"aten.binary_cross_entropy aten.binary_cross_entropy_with_logits aten.soft_margin_loss".split(),
    *"aten.multi_margin_loss aten.multilabel_margin_loss_forward aten.segment_reduce aten.dist".split(),
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


@by_output("aten.scatter_add", "aten.scatter_add_", "aten.index_add", "aten.index_add_", "aten.scatter_reduce",
           "aten.scatter_reduce_", "aten.index_reduce")  # fmt: skip
def added(operator: Op) -> Work:
    # 1 per element that is added
    return Work(None, 0, operator.args.get("src", operator.args.get("source", operator.outputs[0])).numel)
