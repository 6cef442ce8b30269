"""Attention: of all positions, and in windows."""

from collections.abc import Sequence
from math import prod

from archscope.core.expression import Expr, ceil_div, product, symbol
from archscope.core.record import Shape
from archscope.layers.formula import Config, Derived, Shapes, examples, layer, require


@layer(
    "MultiheadAttention",
    source="[V] equation 1 and section 3.2.2: three projections in, one out, h heads of e/h",
    arguments=("embed_dim", "num_heads", "kdim", "vdim", "dropout", "add_zero_attn"),
    letters={"s": "keys"},
)
def attention(config: Config, shapes: Shapes) -> Derived:
    """4·e² + 4·e parameters; projections, then l·s·e MACs for the scores and as many for the sum of the values."""
    query, key, value = (*shapes, *shapes[:1] * 2)[:3] if len(shapes) == 1 else shapes[:3]
    e, heads = symbol("e", config["embed_dim"]), config["num_heads"]
    require(query[-1] == e.value and e.value % heads == 0, f"takes {e.value} features in {heads} heads")
    k_dim, v_dim = symbol("k_dim", config["kdim"]), symbol("v_dim", config["vdim"])
    require(len(query) in (2, 3) and len(key) == len(value) == len(query), "takes [l, e] or [l, n, e], three times")
    require(key[-1] == k_dim.value and value[-1] == v_dim.value, f"takes keys of {k_dim} and values of {v_dim}")
    require(key[:-1] == value[:-1], f"as many keys as values, gets {list(key)} and {list(value)}")
    at = 1 if config["batch_first"] and len(query) == 3 else 0
    require(len(query) == 2 or query[1 - at] == key[1 - at], f"one batch, gets {list(query)} and {list(key)}")
    n = tuple(symbol("N", query[1 - at]) for _ in (0,) if len(query) == 3 and query[1 - at] != 1)
    l, s = symbol("l", query[at]), symbol("s", key[at])  # noqa: E741  (the letters of the paper)
    weights = e * e + k_dim * e + v_dim * e + e * e
    extra = int(config.get("add_bias_kv", False)) + int(config.get("add_zero_attn", False))
    seen = symbol("s", s.value + extra) if extra else s
    work = l * e * e + s * k_dim * e + s * v_dim * e + 2 * l * seen * e + l * e * e
    params = weights + 4 * e if config["bias"] else weights
    if config.get("add_bias_kv", False):
        params = params + 2 * e
    return Derived((query,), params=params, macs=product(*n, work), weighted=True)


@layer(
    "ShiftedWindowAttention",
    source="[L] equation 2: 4·hw·c² + 2·M²·hw·c in windows of M², and section 3.2: a table of (2M − 1)² biases a head",
    arguments=("window_size", "num_heads"),
    letters={"h": "height of the map", "w": "width of the map"},
)
def window_attention(config: Config, shapes: Shapes) -> Derived | None:
    """torchvision's, on [N, h, w, e]: 4·e² + 4·e parameters and the table; attention inside each window of M_h·M_w."""
    if "window_size" not in config:
        return None
    heads = symbol("heads", config["num_heads"])
    tokens, e, area, offsets = _windows(config["window_size"], shapes[0])
    work = tokens * (4 * e * e + 2 * area * e)
    return Derived(shapes[:1], params=4 * e * e + 4 * e + offsets * heads, macs=work, weighted=True)


@layer(
    "ShiftedWindowAttentionV2",
    source="[S] equation 2: a scale τ a head; section 3.3: the biases come from a network 2 → 512 → heads",
    arguments=("window_size", "num_heads"),
    letters={"h": "height of the map", "w": "width of the map"},
)
def window_attention_v2(config: Config, shapes: Shapes) -> Derived | None:
    """torchvision's, on [N, h, w, e]; the small network runs once for each of the (2·M_h − 1)·(2·M_w − 1) offsets."""
    if "window_size" not in config:
        return None
    heads, hidden = symbol("heads", config["num_heads"]), symbol("hidden", 512)
    tokens, e, area, offsets = _windows(config["window_size"], shapes[0])
    weights = 2 * hidden + hidden * heads
    return Derived(
        shapes[:1],
        params=4 * e * e + 4 * e + heads + weights + hidden,
        macs=tokens * (4 * e * e + 2 * area * e) + offsets * weights,
        weighted=True,
    )


def _windows(size: Sequence[int], shape: Shape) -> tuple[Expr, Expr, Expr, Expr]:
    """Tokens in all windows (the last of each axis are filled up), features, tokens of a window, offsets within one."""
    require(len(shape) == 4, f"takes [N, h, w, e], gets {list(shape)}")
    m_h, m_w = symbol("M_h", size[0]), symbol("M_w", size[1])
    n, e = examples(shape[:1]), symbol("e", shape[3])
    rows = ceil_div(symbol("h", shape[1]), m_h) * m_h
    columns = ceil_div(symbol("w", shape[2]), m_w) * m_w
    return product(*n, rows, columns), e, m_h * m_w, (2 * m_h - 1) * (2 * m_w - 1)


@layer(
    "scaled_dot_product_attention",
    source="[V] equation 1: l·s scores of e products, and l sums over s values",
    letters={"s": "keys"},
    functions=("scaled_dot_product_attention",),
)
def dot_product_attention(config: Config, shapes: Shapes) -> Derived | None:
    """q [*, l, e], k [*, s, e], v [*, s, e_v] -> [*, l, e_v]; heads that share their keys count like the others.

    Each of l·s scores is scaled and goes through a softmax; a mask is one addition more.
    """
    if len(shapes) < 3 or min(map(len, shapes[:3])) < 2:
        return None
    query, key, value = shapes[:3]
    require(query[-1] == key[-1] and key[-2] == value[-2], f"takes [l, e], [s, e], [s, v], gets {list(shapes[:3])}")
    l, e = symbol("l", query[-2]), symbol("e", query[-1])  # noqa: E741  (the letters of the paper)
    s, v = symbol("s", key[-2]), symbol("e_v", value[-1])
    work = product(*examples(query[:-2]), l, s, e + v)
    scores = prod(query[:-1]) * key[-2] * (7 if len(shapes) > 3 else 6)
    return Derived(((*query[:-1], v.value),), macs=work, operations=scores)
