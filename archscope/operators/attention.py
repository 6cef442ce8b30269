"""Attention."""

from math import prod
from typing import Any

from archscope.core.errors import ShapeError
from archscope.core.record import Tensor
from archscope.operators.rule import DENSE, Maybe, Work, aten, broadcast, by_x, fits, op, same_dtype

DENSE.update(aten("scaled_dot_product_attention"))


@op("aten.scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Maybe = None, is_causal: bool = False,
    enable_gqa: bool = False, **_: Any,
) -> Work:  # fmt: skip
    # [*, h, l, v] = attention([*, h, l, e], [*, h, s, e], [*, h, s, v]): softmax(q kᵀ/√e) v
    same_dtype("attention", query, key, value)
    if min(len(t.shape) for t in (query, key, value)) < 2 + enable_gqa:
        raise ShapeError(f"attention needs {2 + enable_gqa} axes or more")
    *batch, length, e = query.shape
    *keys, s, e_key = key.shape
    *values, s_value, v = value.shape
    if e != e_key or s != s_value:
        raise ShapeError(f"query {by_x(query.shape)}, key {by_x(key.shape)} and value {by_x(value.shape)} do not fit")
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
        fits(attn_mask.shape, ((1,) * (2 - len(scored)) + (*scored, length, s)))
    scores = prod(batch) * length * s
    macs = scores * (e + v)
    extra = scores * (6 if attn_mask is None else 7)  # scale, softmax, mask
    return Work(((*batch, length, v),), macs, 2 * macs + extra)
