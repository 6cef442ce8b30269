"""Small language models with unusual options: `llm` beside a real run on the CPU with the model's own cache.

The real run counts elements in the cache that it fills, and FLOPs with PyTorch's own counter. It shares nothing with
archscope.
"""

import json
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from archscope.analysis import decoder, generation
from archscope.report.language import Setting, Usage

transformers = pytest.importorskip("transformers")

T, SOURCE = 11, 7
BASE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "pad_token_id": 0,
}  # fmt: skip
LATENT = {"num_key_value_heads": 4, "kv_lora_rank": 24, "q_lora_rank": 40, "qk_rope_head_dim": 8,
          "qk_nope_head_dim": 16, "v_head_dim": 12, "head_dim": 8}  # fmt: skip
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_d_conv": 4,
          "mamba_expand": 2}  # fmt: skip
FULL, WINDOW = "full_attention", "sliding_attention"
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "seven heads, one of keys": ("Llama", BASE | {"hidden_size": 70, "num_attention_heads": 7,
                                                    "num_key_value_heads": 1}),
    "head_dim": ("Llama", BASE | {"num_attention_heads": 8, "head_dim": 24}),
    "tied, biases": ("Llama", BASE | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "a window of 1": ("Mistral", BASE | {"sliding_window": 1}),
    "a window of T": ("Mistral", BASE | {"sliding_window": T}),
    "a window of T + 1": ("Mistral", BASE | {"sliding_window": T + 1}),
    "windows in the last layers": ("Qwen2", BASE | {"num_hidden_layers": 4, "use_sliding_window": True,
                                                    "sliding_window": 5, "max_window_layers": 2}),
    "a window that is switched off": ("Qwen2", BASE | {"use_sliding_window": False, "sliding_window": 5}),
    "sinks, windows, experts": ("GptOss", BASE | {"num_hidden_layers": 4, "head_dim": 20, "sliding_window": 5,
                                                  "num_local_experts": 6, "num_experts_per_tok": 3}),
    "experts in every second layer": ("Qwen3Moe", BASE | {
        "num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [3], "num_experts": 6,
        "num_experts_per_tok": 3, "moe_intermediate_size": 40, "head_dim": 16}),
    "a shared expert": ("Qwen2Moe", BASE | {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 40,
                                            "shared_expert_intermediate_size": 56}),
    "latents, first layers dense": ("DeepseekV2", BASE | LATENT | {
        "num_hidden_layers": 3, "first_k_dense_replace": 2, "n_routed_experts": 6, "n_shared_experts": 2,
        "num_experts_per_tok": 3, "moe_intermediate_size": 40, "n_group": 1, "topk_group": 1}),
    "an indexer": ("DeepseekV32", BASE | LATENT | {
        "index_n_heads": 2, "index_head_dim": 16, "index_topk": 64, "first_k_dense_replace": 1, "n_routed_experts": 4,
        "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 40, "n_group": 1, "topk_group": 1}),
    "heads that differ by layer": ("MiMoV2Flash", BASE | {
        "num_hidden_layers": 3, "head_dim": 16, "v_head_dim": 12, "sliding_window": 5, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 40, "layer_types": [FULL, WINDOW, FULL]}),
    "one head of keys": ("Falcon", {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2,
                                    "num_attention_heads": 4, "multi_query": True}),
    "keys broadcast before they are cached": ("Falcon", {
        "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_kv_heads": 2,
        "new_decoder_architecture": True}),
    "a narrow table": ("OPT", {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                               "ffn_dim": 96, "word_embed_proj_dim": 32, "do_layer_norm_before": False,
                               "max_position_embeddings": 64, "pad_token_id": 0}),
    "a window that is a mask": ("GPTNeo", {"vocab_size": 97, "hidden_size": 64, "num_layers": 2, "num_heads": 4,
                                           "window_size": 3, "intermediate_size": 96,
                                           "attention_types": [[["global", "local"], 1]]}),
    "experts in attention": ("JetMoe", {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2,
                                        "num_key_value_heads": 2, "intermediate_size": 96, "kv_channels": 16,
                                        "num_local_experts": 4, "num_experts_per_tok": 2}),
    "Mamba-2 and attention": ("Bamba", BASE | MAMBA2 | {"num_hidden_layers": 3, "attn_layer_indices": [1]}),
    "Mamba-2 beside attention": ("FalconH1", BASE | MAMBA2 | {"mamba_d_ssm": 128}),
    "convolutions and attention": ("Lfm2", BASE | {"num_hidden_layers": 3, "layer_types": ["conv", FULL, "conv"]}),
    "a memory": ("xLSTM", {"vocab_size": 97, "hidden_size": 128, "num_hidden_layers": 2, "num_heads": 2}),
    "two attentions a layer": ("LongcatFlash", {"vocab_size": 97, "hidden_size": 64, "num_layers": 2,
                                                "num_attention_heads": 4, **LATENT, "ffn_hidden_size": 96,
                                                "expert_ffn_hidden_size": 40, "n_routed_experts": 4,
                                                "zero_expert_num": 2, "moe_topk": 2}),
    "three layers behind an encoder of two": ("T5", {
        "vocab_size": 97, "d_model": 64, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4, "d_kv": 12,
        "d_ff": 96, "pad_token_id": 0}),
    "other heads than the encoder": ("Bart", {
        "vocab_size": 97, "d_model": 64, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 8,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 80, "max_position_embeddings": 64}),
}  # fmt: skip


def cached(found: Any, seen: set[int]) -> int:
    """Elements of the tensors of the text in a cache, each once."""
    if id(found) in seen or isinstance(found, type | torch.nn.Module | transformers.PretrainedConfig):
        return 0
    seen.add(id(found))
    if isinstance(found, torch.Tensor):
        return found.numel() if found.is_floating_point() and found.dim() else 0
    if isinstance(found, dict | list | tuple):
        inside = found.values() if isinstance(found, dict) else found
    else:
        inside = vars(found).values() if hasattr(found, "__dict__") else ()
    return sum(cached(one, seen) for one in inside)


class RealRun:
    """A prompt and one more token, on the CPU."""

    def __init__(self, model: torch.nn.Module, encodes: bool) -> None:
        text, token = torch.randint(3, 90, (1, T)), torch.randint(3, 90, (1, 1))
        name = "decoder_input_ids" if encodes else "input_ids"
        source = {"input_ids": torch.randint(3, 90, (1, SOURCE))} if encodes else {}
        with torch.no_grad():
            with FlopCounterMode(display=False) as prefill:
                out = model(**{name: text}, use_cache=True, **source)
            if encodes:
                output = transformers.modeling_outputs.BaseModelOutput
                source = {"encoder_outputs": output(last_hidden_state=out.encoder_last_hidden_state)}
            key = next(
                key for key in ("cache", "past_key_values", "cache_params") if getattr(out, key, None) is not None
            )
            self.filled = cached(getattr(out, key), set())
            with FlopCounterMode(display=False) as decode:
                model(**{name: token}, use_cache=True, **{key: getattr(out, key)}, **source)
        self.grown = cached(getattr(out, key), set())
        self.prefill, self.decode = (one.get_total_flops() // 2 for one in (prefill, decode))


@pytest.mark.parametrize("title", MODELS)
def test_figures_are_those_of_a_real_run(title: str) -> None:
    name, values = MODELS[title]
    spec = f"transformers:{name}Config" + "".join(f"@{key}={json.dumps(value)}" for key, value in values.items())
    config = getattr(transformers, f"{name}Config")(**values)
    encodes = bool(config.is_encoder_decoder)
    usage = Usage(spec, Setting(context=T, source=SOURCE if encodes else None))
    figures = {figure.key: figure for figure in usage.figures()}
    config._attn_implementation = config._experts_implementation = "eager"
    torch.manual_seed(0)
    model = getattr(transformers, type(usage.model.model).__name__)(config).eval()
    real = RealRun(model, encodes)

    assert figures["params"].value == sum(p.numel() for p in model.parameters())
    assert usage.layers is not None
    assert figures["cache_elements"].observed == figures["cache_elements"].derived == real.filled
    assert decoder.cache_elements(usage.layers, T + 1) == real.grown
    if values.get("zero_expert_num"):  # how many do something depends on the text
        assert figures["decode_macs"].value is figures["active"].value is None
        assert any("depends on the text" in note for note in usage.notes)
        return
    assert figures["decode_macs"].observed == real.decode
    assert figures["prefill_macs"].observed == real.prefill
    assert figures["decode_macs"].derived in (real.decode, None)
    assert figures["prefill_macs"].derived in (real.prefill, None)
    assert all(figure.agrees is not False for figure in figures.values())
    if all(layer.kind in ("full", "sliding") and not layer.masked for layer in usage.layers):
        steps = [generation.macs(step, usage.config) for step in usage.model.decodes(T)]
        assert sum(step for step in steps if step is not None) == figures["prefill_causal_macs"].derived
