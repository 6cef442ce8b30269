"""States whose size does not grow with the text: of Mamba, linear attention and other recurrences, in closed form.

A state is what transformers keeps of one layer: the last inputs of a short convolution, as many as its kernel is long,
and a matrix for each head.
"""

from collections.abc import Mapping
from math import ceil
from typing import Any

Config = Mapping[str, Any]


def number(config: Config, *names: str) -> int | None:
    """The first of these that is a whole number."""
    return next((config[n] for n in names if type(config.get(n)) is int), None)


def state_elements(config: Config) -> int | None:
    """Elements of the state of one layer; None where the configuration is not recognised."""
    forms = (_delta_net, _kimi, _mamba2, _mamba, _rwkv, _lightning, _griffin, _mlstm, _compressed_convolution)
    return next((found for form in forms if (found := form(config)) is not None), None)


def convolution_elements(config: Config) -> int | None:
    """The last inputs of a layer that is a short convolution (LFM2: arXiv:2511.23404, section 3)."""
    hidden, kernel = number(config, "hidden_size"), number(config, "conv_L_cache")
    return None if hidden is None or kernel is None else hidden * kernel


def _delta_net(config: Config) -> int | None:
    """Gated delta net (arXiv:2412.06464): a convolution over queries, keys and values, and d_k × d_v a value head."""
    key, value = number(config, "linear_num_key_heads"), number(config, "linear_num_value_heads")
    d_key, d_value = number(config, "linear_key_head_dim"), number(config, "linear_value_head_dim")
    kernel = number(config, "linear_conv_kernel_dim")
    if key is None or value is None or d_key is None or d_value is None or kernel is None:
        return None
    return (2 * key * d_key + value * d_value) * kernel + value * d_key * d_value


def _kimi(config: Config) -> int | None:
    """Kimi delta attention (arXiv:2510.26692): three convolutions, and d × d a head."""
    heads, width = number(config, "linear_num_heads"), number(config, "linear_head_dim")
    kernel = number(config, "linear_conv_kernel_dim")
    if heads is None or width is None or kernel is None:
        return None
    return 3 * heads * width * kernel + heads * width * width


def _mamba2(config: Config) -> int | None:
    """Mamba-2 (arXiv:2405.21060): the convolution runs over x, B and C, and the state is width × state a head."""
    heads = number(config, "mamba_n_heads", "mamba_num_heads", "n_mamba_heads")
    width = number(config, "mamba_d_head", "mamba_head_dim", "mamba_headdim")
    if config.get("model_type") == "mamba2":
        heads, width = number(config, "num_heads"), number(config, "head_dim")
    groups = number(config, "mamba_n_groups", "mamba_ngroups", "n_groups")
    state = number(config, "mamba_d_state", "ssm_state_size", "state_size")
    kernel = number(config, "mamba_d_conv", "conv_kernel")
    if heads is None or width is None or groups is None or state is None or kernel is None:
        return None
    return (heads * width + 2 * groups * state) * kernel + heads * width * state


def _mamba(config: Config) -> int | None:
    """Mamba (arXiv:2312.00752): a convolution over the inner channels, and a state for each of them."""
    state, kernel = number(config, "mamba_d_state", "state_size"), number(config, "mamba_d_conv", "conv_kernel")
    expand, hidden = number(config, "mamba_expand"), number(config, "hidden_size")
    inner = number(config, "intermediate_size")
    if config.get("model_type") not in ("mamba", "falcon_mamba"):
        inner = None if expand is None or hidden is None else expand * hidden
    return None if inner is None or state is None or kernel is None else inner * (kernel + state)


def _rwkv(config: Config) -> int | None:
    """RWKV-4 (arXiv:2305.13048): the last input of both blocks; numerator, denominator and maximum of its average."""
    hidden, inner = number(config, "hidden_size"), number(config, "attention_hidden_size")
    if config.get("model_type") != "rwkv" or hidden is None or inner is None:
        return None
    return 2 * hidden + 3 * inner


def _lightning(config: Config) -> int | None:
    """Lightning attention of MiniMax-01 (arXiv:2501.08313): d × d a head."""
    heads, width = number(config, "num_attention_heads"), number(config, "head_dim")
    hidden = number(config, "hidden_size")
    if config.get("model_type") != "minimax" or heads is None or hidden is None:
        return None
    width = width or hidden // heads
    return heads * width * width


def _griffin(config: Config) -> int | None:
    """The recurrence of Griffin (arXiv:2402.19427), as RecurrentGemma has it: the inputs before of a convolution, and
    a number a channel."""
    kernel, width = number(config, "conv1d_width"), number(config, "lru_width")
    hidden = number(config, "hidden_size")
    return None if kernel is None or width is None or hidden is None else hidden * (kernel - 1) + width


def _mlstm(config: Config) -> int | None:
    """mLSTM (arXiv:2405.04517, equations 19 to 27): a memory of d_qk × d_v, a normalizer of d_qk and a stabilizer of
    1 a head. Both widths are rounded up to 64 over all heads."""
    heads, hidden = number(config, "num_heads"), number(config, "hidden_size")
    wide, tall = config.get("qk_dim_factor"), config.get("v_dim_factor")
    if config.get("model_type") != "xlstm" or heads is None or hidden is None or wide is None or tall is None:
        return None
    key, value = (ceil(hidden * factor / 64) * 64 // heads for factor in (wide, tall))
    return heads * (key * value + key + 1)


def _compressed_convolution(config: Config) -> int | None:
    """Compressed convolutional attention (arXiv:2510.04476): the last inputs of two convolutions over queries and keys,
    and the half of the values that is taken one token late."""
    heads, groups = number(config, "num_attention_heads"), number(config, "num_key_value_heads")
    width, first, second = number(config, "head_dim"), number(config, "cca_time0"), number(config, "cca_time1")
    if heads is None or groups is None or width is None or first is None or second is None:
        return None
    return (heads + groups) * width * (first - 1 + second - 1) + groups * width // 2
