"""Language models whose layers differ: states that do not grow, windows, chunks, layers with sizes of their own."""

import json
from collections.abc import Callable

import pytest
from conftest import Ran

from archscope.analysis import decoder, generation
from archscope.analysis.states import state_elements
from archscope.report.language import Setting, Usage

pytest.importorskip("transformers")

T = 12
SIZES = "@vocab_size=97@hidden_size=64@num_attention_heads=4@intermediate_size=96@pad_token_id=0"
GROUPS = "@num_key_value_heads=2"
MAMBA2 = "@mamba_n_heads=8@mamba_d_head=16@mamba_d_state=8@mamba_n_groups=1@mamba_d_conv=4@mamba_expand=2"
KEYS = 2 * 2 * 16  # keys and values of 2 heads of 64/4
STATE2 = (8 * 16 + 2 * 8) * 4 + 8 * 16 * 8  # Mamba-2: a convolution over x, B and C, and a state of 16 × 8 a head

HYBRIDS = {
    "jamba": (
        f"transformers:JambaConfig{SIZES}{GROUPS}@num_hidden_layers=4@attn_layer_period=2@attn_layer_offset=1"
        "@mamba_d_state=8@mamba_d_conv=4@mamba_expand=2@num_experts=2",
        2 * KEYS * T + 2 * (128 * 4 + 128 * 8),  # 128 inner channels, a kernel of 4, a state of 8
        "2·1536 + 2·64·T",
    ),
    "mamba": (
        "transformers:MambaConfig@vocab_size=97@hidden_size=64@num_hidden_layers=3@state_size=8@pad_token_id=0",
        3 * (128 * 4 + 128 * 8),
        "3·1536",
    ),
    "mamba2": (
        "transformers:Mamba2Config@vocab_size=97@hidden_size=64@num_hidden_layers=2@num_heads=8@head_dim=16"
        "@state_size=8@n_groups=1@pad_token_id=0",
        2 * STATE2,
        "2·1600",
    ),
    "rwkv": (
        "transformers:RwkvConfig@vocab_size=97@hidden_size=64@num_hidden_layers=2",
        2 * (2 * 64 + 3 * 64),
        "2·320",
    ),
    "bamba": (
        f"transformers:BambaConfig{SIZES}{GROUPS}{MAMBA2}@num_hidden_layers=3@attn_layer_indices=[1]",
        KEYS * T + 2 * STATE2,
        "2·1600 + 1·64·T",
    ),
    "granite": (
        f'transformers:GraniteMoeHybridConfig{SIZES}{GROUPS}{MAMBA2}@num_hidden_layers=3@layer_types=["mamba",'
        '"attention","mamba"]',
        KEYS * T + 2 * STATE2,
        "2·1600 + 1·64·T",
    ),
    "falcon_h1": (
        f"transformers:FalconH1Config{SIZES}{GROUPS}{MAMBA2}@num_hidden_layers=2@mamba_d_ssm=128",
        2 * KEYS * T + 2 * STATE2,
        "2·64·T + 2·1600",
    ),
    "lfm2": (
        f'transformers:Lfm2Config{SIZES}{GROUPS}@num_hidden_layers=3@layer_types=["conv","full_attention","conv"]',
        KEYS * T + 2 * 64 * 3,
        "2·192 + 1·64·T",
    ),
    "minimax": (
        f"transformers:MiniMaxConfig{SIZES}{GROUPS}@num_hidden_layers=2@head_dim=16@num_local_experts=2"
        '@layer_types=["full_attention","linear_attention"]',
        KEYS * T + 4 * 16 * 16,
        "1·64·T + 1·1024",
    ),
    "gemma3": (
        f"transformers:Gemma3TextConfig{SIZES}{GROUPS}@num_hidden_layers=3@head_dim=16@sliding_window=5"
        '@layer_types=["sliding_attention","sliding_attention","full_attention"]',
        KEYS * (2 * 4 + T),  # a window of 5 keeps 4
        "2·64·min(T, 4) + 1·64·T",
    ),
    "gemma4": (  # 4 heads of 256 with a window of 512 in 25 layers, of 512 in the 5 full ones
        "transformers:Gemma4TextConfig",
        25 * 2 * 4 * 256 * T + 5 * 2 * 4 * 512 * T,
        "25·2048·min(T, 511) + 5·4096·T",
    ),
    "llama4": (
        f"transformers:Llama4TextConfig{SIZES}{GROUPS}@num_hidden_layers=2@head_dim=16@attention_chunk_size=5"
        '@num_local_experts=2@intermediate_size_mlp=96@layer_types=["chunked_attention","full_attention"]',
        KEYS * (4 + T),
        "1·64·min(T, 4) + 1·64·T",
    ),
}


@pytest.mark.parametrize("name", HYBRIDS)
def test_the_cache_of_layers_that_differ(name: str) -> None:
    spec, elements, formula = HYBRIDS[name]
    usage = Usage(spec, Setting(context=T))
    assert usage.layers is not None
    assert decoder.cache_elements(usage.layers, T) == elements
    assert decoder.cache_formula(usage.layers) == formula
    assert usage.decode is not None
    if name != "rwkv":  # it is given a list of states, and no object that holds a cache
        assert generation.cached_elements(usage.decode) == elements
    assert all(figure.agrees is not False for figure in usage.figures())


def test_steps_behind_windows_and_wide_heads() -> None:
    """Gemma 4: the closed forms of each layer's own sizes are the run's."""
    usage = Usage(HYBRIDS["gemma4"][0], Setting(context=T))
    found = {figure.key: figure for figure in usage.figures()}
    assert found["decode_macs"].agrees is True and found["prefill_causal_macs"].agrees is True
    steps = [generation.macs(step, usage.config) for step in usage.model.decodes(T)]
    assert sum(step for step in steps if step is not None) == found["prefill_causal_macs"].value


def test_a_chunk_sees_nothing_before_it() -> None:
    layer = decoder.Mixer("chunked", 1, 5)
    assert layer.pairs(12) == 15 + 15 + 1 + 2
    assert layer.pairs(4) == 1 + 2 + 3 + 4


def test_published_states() -> None:
    """Mamba-2 2.7B in transformers: 2·2560 = 5120 channels of 80 heads, 128 states, one group, a kernel of 4."""
    config = {"model_type": "mamba2", "num_heads": 80, "head_dim": 64, "n_groups": 1, "state_size": 128,
              "conv_kernel": 4}  # fmt: skip
    assert state_elements(config) == (5120 + 2 * 128) * 4 + 5120 * 128
    assert state_elements({"model_type": "nobody_knows"}) is None


def test_states_that_a_model_keeps_to_itself() -> None:
    """RecurrentGemma: layers 1 and 2 keep 3 inputs and a number for each of 64 channels; layer 3 a window of 5."""
    spec = f"transformers:RecurrentGemmaConfig{SIZES}@num_key_value_heads=1@num_hidden_layers=3@lru_width=64"
    usage = Usage(f"{spec}@attention_window_size=5", Setting(context=T))
    assert usage.decode is not None and usage.layers is not None
    attention, states = 2 * 16 * 4, 2 * (3 * 64 + 64)
    assert generation.cached_elements(usage.decode) == attention
    found = {figure.key: figure for figure in usage.figures()}
    assert found["cache_elements"].observed is None and found["cache_elements"].derived == attention + states
    assert any("keeps its states to itself" in note for note in usage.notes)
    (step,) = [op for op in usage.decode.ops if op.name == "aten.scaled_dot_product_attention"]
    assert step.inputs[1].shape[-2] == 5  # the token itself, behind the 4 that are kept
    assert found["params_attention"].value == 2 * 64 * 64 + 2 * 64 * 16 + 64  # and a bias of the output


def test_a_window_that_is_a_mask() -> None:
    """GPT-Neo: a local layer caches and multiplies all rows, of which a token sees the last 3."""
    sizes = "@vocab_size=97@hidden_size=64@num_layers=2@num_heads=4@window_size=3@max_position_embeddings=64"
    spec = f'transformers:GPTNeoConfig{sizes}@attention_types=[[["global","local"],1]]'
    usage = Usage(spec, Setting(context=T))
    found = {figure.key: figure for figure in usage.figures()}
    assert found["cache_elements"].observed == found["cache_elements"].derived == 2 * 2 * 64 * T
    matrices = 2 * (4 * 64 * 64 + 2 * 64 * 256) + 64 * 97
    assert found["decode_macs"].observed == found["decode_macs"].derived == matrices + 2 * 2 * 64 * (T + 1)
    pairs = T * (T + 1) // 2 + (1 + 2 + 3 * (T - 2))
    assert found["prefill_causal_macs"].value == matrices * T + 2 * 64 * pairs
    assert all(figure.agrees is not False for figure in found.values())


@pytest.mark.parametrize("kind", ["DiffLlama", "Doge"])
def test_a_cache_is_derived_where_products_are_not(kind: str) -> None:
    usage = Usage(f"transformers:{kind}Config{SIZES}{GROUPS}@num_hidden_layers=2", Setting(context=T))
    found = {figure.key: figure for figure in usage.figures()}
    assert found["cache_elements"].observed == found["cache_elements"].derived == 2 * KEYS * T
    assert found["decode_macs"].derived is None
    assert any("has other products" in note for note in usage.notes)


def test_what_is_not_recognised_has_a_name(archscope: Callable[..., Ran]) -> None:
    assert decoder.unrecognised({"num_hidden_layers": 1, "num_attention_heads": 4, "hidden_size": 64,
                                 "layer_types": ["nobody_knows"]}) == "layers of type 'nobody_knows'"  # fmt: skip
    assert decoder.unrecognised({"num_hidden_layers": 1, "swa_head_dim": 3}) == "swa_head_dim"
    assert decoder.unrecognised({"num_hidden_layers": 2, "layer_types": ["full_attention"]}) is not None
    ran = archscope("llm", MLLAMA, "--context", "8", "--format", "md")
    assert ran.code == 0 and "cross_attention_layers" in ran.out
    rows = {row["key"]: row for row in json.loads(archscope("llm", MLLAMA, "--context", "8", "--format", "json").out)}
    assert rows["cache_elements"]["derived"] is None and rows["bytes"]["value"] is None
    ran = archscope("llm", "transformers:BltConfig", "--context", "8")
    assert ran.code == 2 and "no cache of BltConfig" in ran.err and len(ran.err.splitlines()) == 1


MLLAMA = "transformers:MllamaForCausalLM@vocab_size=97@hidden_size=64@num_hidden_layers=2@num_attention_heads=4" + (
    "@num_key_value_heads=2@intermediate_size=96@pad_token_id=0@cross_attention_layers=[1]"
)
