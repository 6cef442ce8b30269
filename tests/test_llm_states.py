"""Language models whose layers differ: states that do not grow, windows, chunks, layers with sizes of their own."""

import json
from collections.abc import Callable

import pytest
from conftest import Ran

from archscope.analysis import decoder, generation
from archscope.analysis.states import state_elements
from archscope.report.language import Figure, Setting, Usage

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
    ran = archscope("llm", XLNET, "--context", "8", "--format", "md")
    assert ran.code == 0 and "model_type 'xlnet'" in ran.out
    rows = {row["key"]: row for row in json.loads(archscope("llm", XLNET, "--context", "8", "--format", "json").out)}
    assert rows["cache_elements"]["derived"] is None and rows["bytes"]["value"] is None
    ran = archscope("llm", "transformers:BltConfig", "--context", "8")
    assert ran.code == 2 and "no cache of BltConfig" in ran.err and len(ran.err.splitlines()) == 1


XLNET = "transformers:XLNetConfig@vocab_size=97@d_model=64@n_layer=2@n_head=4@d_inner=96"


def figures_of(spec: str, setting: Setting) -> dict[str, Figure]:
    return {figure.key: figure for figure in Usage(spec, setting).figures()}


def test_layers_with_a_window_have_twice_the_heads() -> None:
    """MiMo-V2-Flash: 2 heads of keys (16 wide) and values (12 wide) in a full layer, 4 in one with a window."""
    sizes = "@num_key_value_heads=2@head_dim=16@v_head_dim=12@num_hidden_layers=3@sliding_window=5@n_routed_experts=4"
    types = '@layer_types=["full_attention","sliding_attention","full_attention"]'
    spec = f"transformers:MiMoV2FlashConfig{SIZES}{sizes}@num_experts_per_tok=2@moe_intermediate_size=32{types}"
    usage = Usage(spec, Setting(context=T))
    found = {figure.key: figure for figure in usage.figures()}
    elements = 2 * 2 * (16 + 12) * T + 4 * (16 + 12) * 4
    assert found["cache_elements"].observed == found["cache_elements"].derived == elements
    attention = [64 * (4 * 16 + n * (16 + 12)) + 4 * 12 * 64 for n in (2, 4, 2)]
    matrices = sum(attention) + 3 * 64 * 96 + 2 * (64 * 4 + 2 * 3 * 64 * 32) + 64 * 97
    assert found["matrices"].observed == matrices
    pair = 4 * (16 + 12)
    assert found["decode_macs"].observed == found["decode_macs"].derived == matrices + pair * (2 * (T + 1) + 5)
    assert all(figure.agrees is not False for figure in found.values())


def test_the_state_of_xlstm() -> None:
    """2 heads, keys of 64/2 and values of 128/2: a matrix, a vector and a number for each head and layer."""
    sizes = "@vocab_size=97@hidden_size=128@num_hidden_layers=2@num_heads=2@qk_dim_factor=0.5@v_dim_factor=1.0"
    found = figures_of(f"transformers:xLSTMConfig{sizes}", Setting(context=T))["cache_elements"]
    assert found.observed == found.derived == 2 * 2 * (32 * 64 + 32 + 1)


def test_convolutions_over_queries_and_keys() -> None:
    """ZAYA: beside keys and values 1 + 1 inputs of its two convolutions over 4 + 2 heads, and half of the values."""
    sizes = "@num_hidden_layers=2@head_dim=16@num_experts=4@moe_intermediate_size=32@router_hidden_size=32"
    spec = f"transformers:ZayaConfig{SIZES}{GROUPS}{sizes}".replace("@intermediate_size=96", "")
    found = figures_of(spec, Setting(context=T))["cache_elements"]
    assert found.observed == found.derived == 2 * (KEYS * T + (4 + 2) * 16 * 2 + 2 * 16 // 2)


def test_streams_of_several_tokens_ahead() -> None:
    """ProphetNet caches its main stream and the rows of the encoder; what its other streams see is no triangle."""
    sides = "@num_encoder_layers=2@num_decoder_layers=2@num_encoder_attention_heads=4@num_decoder_attention_heads=8"
    widths = "@vocab_size=97@hidden_size=64@encoder_ffn_dim=96@decoder_ffn_dim=96@max_position_embeddings=64"
    found = figures_of(f"transformers:ProphetNetConfig{sides}{widths}", Setting(context=T, source=5))
    assert found["cache_elements"].observed == found["cache_elements"].derived == 2 * 2 * 64 * (T + 5)
    assert found["prefill_causal_macs"].value is None
    assert found["decode_macs"].observed is not None and found["decode_macs"].derived is None


MLLAMA_EYE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 4, "intermediate_size": 64,
    "image_size": 28, "patch_size": 7, "vision_output_dim": 96, "max_num_tiles": 4,
    "intermediate_layers_indices": [0, 1], "supported_aspect_ratios": [[1, 1], [1, 2]],
}  # fmt: skip
MLLAMA_TEXT = {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
               "num_key_value_heads": 2, "intermediate_size": 96, "pad_token_id": 0,
               "cross_attention_layers": [1]}  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2])
def test_an_image_beside_the_text(batch: int) -> None:
    """Mllama: layer 1 sees 4 tiles of 16 patches and a class each, whose keys and values are made once."""
    parts = ("text_config", MLLAMA_TEXT), ("vision_config", MLLAMA_EYE)
    spec = "transformers:MllamaConfig" + "".join(f"@{name}={json.dumps(values)}" for name, values in parts)
    seen = figures_of(spec, Setting(context=T, batch=batch))
    blind = figures_of(spec, Setting(context=T, batch=batch, image=0))
    rows = 4 * (16 + 1)
    assert seen["cache_elements"].observed == seen["cache_elements"].derived == batch * KEYS * (2 * T + rows)
    assert blind["cache_elements"].observed == blind["cache_elements"].derived == batch * KEYS * 2 * T
    own, mlp = 2 * 64 * 64 + 2 * 32 * 64, 3 * 64 * 96
    step = 2 * (own + mlp) + 64 * 97 + 2 * 2 * 64 * (T + 1)  # without an image layer 1 is left out
    assert blind["decode_macs"].observed == blind["decode_macs"].derived == batch * step
    cross = 2 * 64 * 64 + mlp + 2 * 64 * rows  # queries and output
    assert seen["decode_macs"].observed == seen["decode_macs"].derived == batch * (step + cross)
    assert all(figure.agrees is not False for figure in (*seen.values(), *blind.values()))


def test_experts_in_attention_and_beside_a_router() -> None:
    """JetMoE: of 4 experts 2 are taken, each with queries and output of 2·16, and an MLP of 64 → 2·96 and 96 → 64."""
    sizes = "@num_hidden_layers=2@kv_channels=16@num_local_experts=4@num_experts_per_tok=2"
    found = figures_of(f"transformers:JetMoeConfig{SIZES}{GROUPS}{sizes}", Setting(context=T))
    each = 2 * 64 * 32 + 64 * 2 * 96 + 96 * 64
    others = 2 * (64 * 2 * 32 + 2 * 64 * 4)  # keys and values, two routers
    assert found["params_experts"].value == 2 * 4 * each
    assert found["matrices"].observed == others + 2 * 2 * each + 64 * 97
    assert found["active"].value == found["params"].value - 2 * 2 * each
    assert found["decode_macs"].observed == found["decode_macs"].derived
    assert found["decode_macs"].value == found["matrices"].value + 2 * 2 * 64 * (T + 1)


def test_experts_in_one_matrix() -> None:
    """DBRX keeps 4 experts of 96 rows in matrices of 4·96 rows; the configuration says how many they are."""
    inside = '@attn_config={"kv_n_heads":2}@ffn_config={"ffn_hidden_size":96,"moe_num_experts":4,"moe_top_k":2}'
    spec = f"transformers:DbrxConfig@vocab_size=97@d_model=64@n_layers=2@n_heads=4@max_seq_len=64{inside}"
    found = figures_of(spec, Setting(context=T))
    each = 3 * 64 * 96
    assert found["active"].value == found["params"].value - 2 * 2 * each
    matrices = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 64 * 4 + 2 * each) + 64 * 97
    assert found["matrices"].observed == matrices
    assert found["decode_macs"].observed == found["decode_macs"].derived == matrices + 2 * 2 * 64 * (T + 1)
    assert found["cache_elements"].observed == found["cache_elements"].derived == 2 * KEYS * T


def test_an_indexer_of_some_layers() -> None:
    """Dots3-Note: an indexer keeps keys of 24 in the layers that see all tokens, and none in those with a window."""
    latent = "@kv_lora_rank=20@q_lora_rank=40@qk_rope_head_dim=8@qk_nope_head_dim=16@v_head_dim=12@index_head_dim=24"
    sizes = (
        f"@num_key_value_heads=4@num_hidden_layers=2@sliding_window=5@index_n_heads=2@index_topk=64@head_dim=24{latent}"
    )
    types = (
        '@layer_types=["indexed_attention","sliding_attention"]@mlp_layer_types=["dense","dense"]@per_layer_config={}'
    )
    found = figures_of(f"transformers:Dots3NoteTextConfig{SIZES}{sizes}{types}", Setting(context=T))["cache_elements"]
    assert found.observed == found.derived == (20 + 8 + 24) * T + (20 + 8) * 4
