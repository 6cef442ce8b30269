"""What some default configurations of transformers leave open, so that nothing can be built of them.

`transformers.HunYuanDenseV1Config()` has no `head_dim`, and its model asks for one. Each value here is that of the
model the configuration was published with, or what the code around it derives. A record names the values that were
taken.
"""

from collections.abc import Callable, Iterator
from functools import reduce
from math import isqrt
from typing import Any

Value = Any | Callable[[Any], Any]  # or what makes it of the configuration


def _head(config: Any) -> int:
    return config.hidden_size // config.num_attention_heads


def _heads(config: Any) -> int:
    return config.num_attention_heads


def _half_rotary(config: Any) -> dict[str, Any]:
    """A part of the head as wide as twice the sections of its rotary embedding."""
    parameters = dict(config.rope_parameters)
    sections, width = parameters.get("mrope_section", [8, 12, 12]), getattr(config, "head_dim", None) or _head(config)
    return {**parameters, "partial_rotary_factor": 2 * sum(sections) / width}


def _whole_heads(config: Any, otherwise: int) -> int:
    heads = config.num_attention_heads
    return otherwise if config.hidden_size % heads else heads


def _rotary_by_type(config: Any) -> dict[str, Any]:
    """The same rotary embedding for each type of layer."""
    stated = config.rope_parameters or {}
    plain = {"rope_type": "default", "rope_theta": 10_000.0}
    return {kind: stated.get(kind) or plain for kind in dict.fromkeys(config.layer_types)}


def _four_sections(config: Any) -> dict[str, Any]:
    """A rotary embedding of four axes, each with a quarter of the pairs of a head."""
    width = getattr(config, "head_dim", None) or _head(config)
    return {"mrope_section": [width // 8] * 4, **config.rope_parameters}


def _pools(config: Any) -> bool:
    """Whether the patches of an image can be pooled to as many tokens as the text gets."""
    vision = config.vision_config
    return vision.image_size % (vision.patch_size * isqrt(config.mm_tokens_per_image)) == 0


def _dense_first(config: Any) -> list[str]:
    return ["dense", *["sparse"] * (config.num_hidden_layers - 1)]


OPEN: dict[str, dict[str, Value]] = {
    "ChameleonConfig": {"vocabulary_map": {"<image>": 8711}},
    "Blip2Config": {"image_token_index": 50_265},
    "DbrxAttentionConfig": {"rope_theta": 10_000.0, "clip_qkv": 8.0},
    "DeepseekOcr2TextConfig": {"mlp_layer_types": _dense_first, "num_experts_per_tok": 6},
    "DeepseekV2Config": {"num_experts_per_tok": 6},
    "Emu3Config": {"vocabulary_map": {"<image>": 151_646, "<|extra_200|>": 151_846}},
    "Dots1Config": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
    "EsmConfig": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "Granite4VisionConfig": {"deepstack_layer_map": [], "downsample_rate": "4/8"},
    "HunYuanDenseV1Config": {"head_dim": _head},
    "HunYuanMoEV1Config": {"head_dim": _head},
    "HunYuanVLTextConfig": {"head_dim": _head},
    "InstructBlipConfig": {"image_token_index": 32_100},
    "InstructBlipVideoConfig": {"video_token_index": 32_100},
    "Lfm2MoeConfig": {"layer_types": lambda config: ["full_attention"] * config.num_hidden_layers},
    "MinistralConfig": {"head_dim": _head},
    "MoonshineStreamingConfig": {"num_key_value_heads": _heads},
    "NemotronConfig": {"num_key_value_heads": _heads},
    "Step3p7TextConfig": {"sliding_window": 512},
    "T5Gemma2TextConfig": {"dropout_rate": 0.0},
    "TimeSeriesTransformerConfig": {"prediction_length": 24, "context_length": 24},
    "AutoformerConfig": {"prediction_length": 24, "context_length": 24},
    "InformerConfig": {"prediction_length": 24, "context_length": 24},
    "TimmBackboneConfig": {"backbone": "resnet50"},
    "XmodConfig": {"default_language": "en_XX"},
}
# what is stated and does not fit together; "vision_config.image_size" is a field of a configuration inside
CLASHING: dict[str, dict[str, Value]] = {
    "AyaVisionConfig": {  # 14 heads for a width of 1152
        "vision_config.num_attention_heads": lambda config: _whole_heads(config.vision_config, 16)
    },
    "CohereCompassTextConfig": {"rope_parameters": _rotary_by_type},
    "EdgeTamVisionConfig": {"backbone_config.architecture": "repvit_m1"},  # which it names by a misspelt field
    "Gemma3Config": {
        "vision_config.image_size": lambda config: config.vision_config.image_size if _pools(config) else 896,
        "vision_config.patch_size": lambda config: config.vision_config.patch_size if _pools(config) else 14,
    },
    "Llama4VisionConfig": {  # a shuffle makes one row of 1/ratio² patches, which has to be as wide as its first matrix
        "hidden_size": lambda config: int(config.intermediate_size * config.pixel_shuffle_ratio**2),
        "vision_output_dim": lambda config: config.projector_output_dim,
    },
    "HunYuanVLTextConfig": {"rope_parameters": _four_sections},
    "Glm4vTextConfig": {"rope_parameters": _half_rotary},
    "Glm4vMoeTextConfig": {"head_dim": 128, "rope_parameters": _half_rotary},
    "GlmImageTextConfig": {"rope_parameters": _half_rotary},
}


def completed(config: Any, given: dict[str, Any]) -> tuple[str, ...]:
    """Fill what a configuration and those inside it leave open, and what does not fit. given: what the user has set.

    Returns a sentence that names the values, nothing where all was stated.
    """
    taken: list[str] = []
    for one in _inside(config, set()):
        kind = type(one).__name__
        for key, value in {**OPEN.get(kind, {}), **CLASHING.get(kind, {})}.items():
            *path, field = key.split(".")
            holder = reduce(getattr, path, one)
            stated = getattr(holder, field, None)
            if key in given or (stated is not None and key not in CLASHING.get(kind, {})):
                continue
            made = value(one) if callable(value) else value
            if made == stated:
                continue
            setattr(holder, field, made)
            shown = str(made)
            taken.append(f"{'' if one is config else f'{kind}.'}{key}={shown if len(shown) < 40 else shown[:37] + '…'}")
    if not taken:
        return ()
    return (f"{type(config).__name__}() does not state what a model needs: taken were {', '.join(taken)}",)


def _inside(config: Any, seen: set[int]) -> Iterator[Any]:
    """A configuration and those that are its attributes."""
    if id(config) in seen:
        return
    seen.add(id(config))
    yield config
    for value in list(vars(config).values()):
        if type(value).__name__.endswith("Config") and hasattr(value, "to_dict"):
            yield from _inside(value, seen)
