"""Small configurations of the causal language models of transformers, one for each kind of model."""

from functools import cache
from typing import Any

SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "head_dim": 16, "sliding_window": 5, "max_position_embeddings": 64,
    "n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": 128, "ffn_dim": 128, "d_model": 64, "n_layers": 2, "n_heads": 4,
    "num_layers": 2, "num_heads": 4, "word_embed_proj_dim": 64, "moe_intermediate_size": 32, "num_experts": 4,
    "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "decoder_layers": 2, "rotary_dim": 8,
    "decoder_attention_heads": 4, "decoder_ffn_dim": 128, "encoder_layers": 2, "encoder_attention_heads": 4,
    "encoder_ffn_dim": 128, "ffn_hidden_size": 128, "expert_ffn_hidden_size": 32, "kv_channels": 16,
}  # fmt: skip
_LATENT = {
    "num_key_value_heads": 4, "kv_lora_rank": 24, "q_lora_rank": 40, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
    "v_head_dim": 12,
}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {
    "deepseek_v2": {**_LATENT, "head_dim": 8, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2},
    "deepseek_v3": {**_LATENT, "head_dim": 8, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    "qwen3_next": {"num_hidden_layers": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 3},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "ministral": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "minicpm3": _LATENT,
}


@cache
def kinds() -> dict[str, str]:
    """Model type -> class of the causal language model, of all that transformers has."""
    from transformers.models.auto import modeling_auto

    return dict(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def spec_of(kind: str) -> str:
    """The spec of the small configuration of a kind."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    plain = CONFIG_MAPPING[kind]()
    known = plain.to_dict()
    named = {*known, *getattr(plain, "attribute_map", {})}
    chosen = {key: value for key, value in SIZES.items() if key in named and getattr(plain, key, None) is not None}
    if (known.get("pad_token_id") or 0) >= SIZES["vocab_size"]:
        chosen["pad_token_id"] = 0
    chosen |= MORE.get(kind, {})
    return "@".join([f"transformers:{kinds()[kind]}", *(f"{key}={value}" for key, value in chosen.items())])


# decoders whose layers see all tokens before them, or a window: their decode steps add up to the causal prompt
DECODERS = """
    afmoe apertus apertus1p5_text arcee aria_text bart beam bigbird_pegasus biogpt bitnet blenderbot
    blenderbot-small bloom codegen cohere cohere2 cohere2_moe ctrl cwm ernie4_5 ernie4_5_moe exaone4 exaone_moe
    falcon flex_olmo flint gemma gemma2 gemma3_text git glm glm4 glm4_moe gpt2 gpt_bigcode gpt_neox
    gpt_neox_japanese gpt_oss gptj granite granite_swa granitemoe granitemoe_swa granitemoeshared helium
    hunyuan_v1_dense hunyuan_v1_moe hy_v3 hyperclovax internlm3 iquestcoder jais2 kolibri1 laguna llama marian mbart
    megatron-bert mellum minimax_m2 minimax_m3_vl_text ministral ministral3 mistral mixtral modernbert-decoder moshi
    mpt mvp nanochat nemotron olmo olmo2 olmo3 olmoe opt pegasus persimmon phi phi3 phi4_multimodal phimoe plbart
    qwen2 qwen2_moe qwen3 qwen3_moe rembert roformer seed_oss smollm3 solar_open stablelm starcoder2 trocr
    vaultgemma whisper xglm
""".split()
LATENT = ["deepseek_v2", "deepseek_v3", "minicpm3"]
