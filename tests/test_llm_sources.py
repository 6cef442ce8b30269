"""Language models that read more than a text: a source for their encoder, or an image in the prompt."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran
from torch import nn

import archscope
from archscope.analysis import decoder, generation
from archscope.core.errors import SpecError
from archscope.report.language import Setting, Usage
from archscope.sources.decoding import LanguageModel

pytest.importorskip("transformers")

T, S = 6, 5

T5 = "@vocab_size=97@d_model=64@d_kv=8@d_ff=128@num_layers=3@num_decoder_layers=2@num_heads=4@pad_token_id=0"
BART = (
    "@vocab_size=97@d_model=64@encoder_layers=3@decoder_layers=2@encoder_attention_heads=8@decoder_attention_heads=4"
    "@encoder_ffn_dim=128@decoder_ffn_dim=96@pad_token_id=0"
)
READERS = [
    *(f"transformers:{name}Config{T5}" for name in ("T5", "MT5", "UMT5")),
    *(f"transformers:{name}Config{BART}" for name in ("Bart", "MBart", "Pegasus", "Blenderbot", "M2M100", "PLBart")),
    f"transformers:MarianConfig{BART}@decoder_start_token_id=1",
]
WHISPER = f"transformers:WhisperConfig{BART}@max_source_positions=20@num_mel_bins=8"


@pytest.mark.parametrize("spec", READERS)
def test_encoder_and_steps_add_up_to_the_prompt(spec: str) -> None:
    model = LanguageModel(spec, source=S)
    config, prompt, step = model.config, model.prefill(T), model.decode(T)
    encoder = archscope.trace(model.model.get_encoder(), torch.empty(1, S, dtype=torch.int64, device="meta"))
    steps = [generation.macs(each, config) for each in model.decodes(T)]
    assert None not in steps
    causal = generation.causal_macs(prompt, config, step)
    assert causal == archscope.totals(encoder)["macs"] + sum(each for each in steps if each is not None)
    derived = generation.derived_macs(prompt, config, T, 1, step, model.source_rows(T))
    assert derived is not None
    assert derived.prefill == generation.macs(prompt, config)
    assert derived.causal == causal
    assert derived.decode == generation.macs(step, config)
    own = decoder.mixers(config)
    assert own is not None
    layers = [*own, *decoder.crosses(config, S)]
    assert generation.cached_elements(step) == decoder.cache_elements(layers, T) > 0


def test_t5_by_hand() -> None:
    """d = 64, 4 heads of 8: an attention has 4 matrices of 64·32, an MLP 2 of 64·128."""
    found = {one.key: one for one in Usage(READERS[0], Setting(context=T, source=S)).figures()}
    attention, mlp, head = 4 * 64 * 32, 2 * 64 * 128, 64 * 97
    cross = attention - 2 * 64 * 32  # its keys and values are made in the prompt
    assert found["matrices"].observed == 2 * (attention + cross + mlp) + head
    assert found["decode_macs"].value == 2 * (attention + cross + mlp + 2 * 32 * (T + 1) + 2 * 32 * S) + head
    encoder = 3 * (S * (attention + mlp) + 2 * 32 * S * S)
    of_decoder = 2 * (T * (attention + cross + mlp) + S * 2 * 64 * 32 + 2 * 32 * T * S)
    assert found["prefill_macs"].value == encoder + of_decoder + 2 * 2 * 32 * T * T + T * head
    assert found["prefill_causal_macs"].value == encoder + of_decoder + 2 * 2 * 32 * T * (T + 1) // 2 + T * head
    assert found["cache_elements"].value == 2 * 2 * 4 * 8 * (T + S)
    assert found["params_attention"].value == 3 * attention + 2 * 2 * attention
    assert all(one.agrees is not False for one in found.values())


def test_whisper_hears_what_it_has_room_for() -> None:
    """20 rows of 40 frames, whatever the text; its two convolutions are counted, and not derived."""
    found = {one.key: one for one in Usage(WHISPER, Setting(context=T)).figures()}
    assert found["cache_elements"].observed == found["cache_elements"].derived == 2 * 2 * 64 * (T + 20)
    assert found["decode_macs"].agrees is True
    assert found["prefill_macs"].derived is None
    convolutions = 40 * 64 * 8 * 3 + 20 * 64 * 64 * 3
    encoder = 3 * (20 * (4 * 64 * 64 + 2 * 64 * 128) + 2 * 64 * 20 * 20)
    of_decoder = 2 * (T * (6 * 64 * 64 + 2 * 64 * 96 + 2 * 64 * (T + 20)) + 20 * 2 * 64 * 64) + T * 64 * 97
    assert found["prefill_macs"].observed == convolutions + encoder + of_decoder


# -------------------------------------------------------------------------------------------------------- images

EYE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
       "patch_size": 7}  # fmt: skip
TEXT = {"vocab_size": 97, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "pad_token_id": 0,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}  # fmt: skip
QWEN = {"depth": 2, "num_heads": 2, "patch_size": 7, "spatial_merge_size": 2}
MARKS = {"image_token_id": 96, "video_token_id": 95, "vision_start_token_id": 94, "vision_end_token_id": 93}
ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}}


def seeing(kind: str, eye: dict[str, Any], text: str, **more: Any) -> dict[str, Any]:
    return {"model_type": kind, "vision_config": eye, "text_config": {"model_type": text, **TEXT}, **more}


CLIP, SIGLIP = {"model_type": "clip_vision_model", **EYE}, {"model_type": "siglip_vision_model", **EYE}
QWEN2 = {**QWEN, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
QWEN25 = {**QWEN, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 48, "window_size": 28,
          "fullatt_block_indexes": [1]}  # fmt: skip
QWEN3 = {**QWEN, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 48, "deepstack_visual_indexes": [0]}
GEMMA4 = {**EYE, "model_type": "gemma4_vision", "head_dim": 16, "num_key_value_heads": 2, "patch_size": 2}
WIDE = {"global_head_dim": 16, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0}
SIDES = {"gemma4": 48}  # 70 tokens at most: 24·24 patches, 3·3 of them a token; 54 more patches are empty
SEEING: dict[str, tuple[int, dict[str, Any]]] = {  # tokens of an image of 28×28 in patches of 7×7: 16, or merged 2×2
    "llava": (16, seeing("llava", CLIP, "llama", image_token_index=96)),
    "vipllava": (16, seeing("vipllava", CLIP, "llama", image_token_index=96, vision_feature_layers=[-1, -2])),
    "paligemma": (16, seeing("paligemma", SIGLIP, "gemma", image_token_index=96, projection_dim=64)),
    "gemma3": (4, seeing("gemma3", SIGLIP, "gemma3_text", image_token_id=96, mm_tokens_per_image=4)),
    "internvl": (4, seeing("internvl", {**EYE, "image_size": [28, 28], "patch_size": [7, 7]}, "qwen2", **MARKS)),
    "mistral3": (4, seeing("mistral3", {"model_type": "pixtral", "head_dim": 16, **EYE}, "mistral",
                           image_token_index=96, spatial_merge_size=2)),
    "aya_vision": (4, seeing("aya_vision", SIGLIP, "cohere2", image_token_index=96, downsample_factor=2)),
    "idefics3": (4, seeing("idefics3", EYE, "llama", **MARKS, scale_factor=2, pad_token_id=0)),
    "qwen2_vl": (4, seeing("qwen2_vl", QWEN2, "qwen2_vl_text", **MARKS)),
    "qwen2_5_vl": (4, seeing("qwen2_5_vl", QWEN25, "qwen2_5_vl_text", **MARKS)),
    "qwen3_vl": (4, seeing("qwen3_vl", QWEN3, "qwen3_vl_text", **MARKS)),
    # whole, and in two tiles side by side: of their 4·8 patches those that the image covers, and an end of each line
    "llava_next": (16 + 4 * (4 + 1), seeing("llava_next", CLIP, "llama", image_token_index=96,
                                            image_grid_pinpoints=[[28, 56]])),
    "llava_onevision": (16 + 4 * (4 + 1), seeing("llava_onevision", SIGLIP, "qwen2", image_token_index=96,
                                                 image_grid_pinpoints=[[28, 56]])),
    "gemma4": (64, seeing("gemma4", GEMMA4, "gemma4_text", image_token_id=96)),
}  # fmt: skip


def folder(path: Path, values: dict[str, Any]) -> str:
    for kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"):
        if values["model_type"] == kind:
            values = {**values, "text_config": {**values["text_config"], **ROPE}}
    if values["model_type"] == "gemma4":
        values = {**values, "text_config": {**values["text_config"], **WIDE}}
    (path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return f"{path}/config.json"


@pytest.mark.parametrize("kind", SEEING)
def test_an_image_in_the_prompt(kind: str, tmp_path: Path) -> None:
    """The image costs what the part that reads it costs, and its tokens are tokens of the text."""
    taken, values = SEEING[kind]
    spec, n, side = folder(tmp_path, values), taken + 8, SIDES.get(kind, 28)
    model, blind = LanguageModel(spec, image=side), LanguageModel(spec, image=0)
    config, prompt = model.config, model.prefill(n)
    assert any(f"{taken} of the tokens are an image of {side}×{side}" in note for note in prompt.notes)
    text, step = blind.prefill(n), model.decode(n)
    whole, alone = generation.macs(prompt, config), generation.macs(text, config)
    assert whole is not None and alone is not None
    assert whole - alone == generation.macs(the_image(model, side), {})
    derived = generation.derived_macs(text, config, n, 1, blind.decode(n))
    assert derived is not None and derived.prefill == alone
    assert derived.decode == generation.macs(step, config)
    causal = generation.causal_macs(prompt, config, step)
    assert derived.causal is not None and causal == derived.causal + whole - alone
    layers = decoder.mixers(config)
    assert layers is not None and generation.cached_elements(step) == decoder.cache_elements(layers, n)
    known = None if kind == "gemma4" else generation.matrices(step, config)  # its layers differ in width
    assert decoder.closed_matrices(config) == known


def the_image(model: LanguageModel, side: int) -> archscope.Trace:
    """The record of what reads the image, by itself."""
    from archscope.sources.kinds.transformers import running
    from archscope.sources.prompts import _pixels

    class Eye(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model.model

        def forward(self, **pixels: Any) -> Any:
            return self.model.get_image_features(**pixels)

    read = model.model.get_image_features
    pixels, _ = _pixels(model.model.config, inspect.signature(read).parameters, 1, side)
    with running():
        return archscope.trace(Eye(), pixels)


@pytest.mark.parametrize(("kind", "images"), [("llava", 1), ("llava_next", 1 + 2)])
def test_llava_by_hand(kind: str, images: int, tmp_path: Path) -> None:
    """16 patches of 3·7·7 numbers and a class token through 2 layers; 16 rows through 2 matrices to the text."""
    spec = folder(tmp_path, SEEING[kind][1])
    n, rows = 48, 16 + 1
    prompt, text = LanguageModel(spec).prefill(n), LanguageModel(spec, image=0).prefill(n)
    eye = 16 * 32 * (3 * 7 * 7) + 2 * (rows * (4 * 32 * 32 + 2 * 32 * 48) + 2 * rows * rows * 32)
    whole, alone = (archscope.totals(record)["macs"] for record in (prompt, text))
    assert whole - alone == images * (eye + 16 * (32 * 64 + 64 * 64))
    lines = 0 if images == 1 else 64  # the vector at the end of each line
    image = 32 * 147 + rows * 32 + 32 + 2 * (4 * (32 * 32 + 32) + 2 * 32 * 48 + 48 + 32 + 4 * 32) + 4 * 32
    assert generation.parts(prompt)["image"] == image + 32 * 64 + 64 + 64 * 64 + 64 + lines


def test_a_question_is_read_with_the_image(tmp_path: Path) -> None:
    """InstructBLIP: 4 queries and the text before them look at 17 rows of the image, in the first of 2 layers."""
    former = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
              "encoder_hidden_size": 32, "vocab_size": 97, "cross_attention_frequency": 2}  # fmt: skip
    text = {**TEXT, "ffn_dim": 128, "word_embed_proj_dim": 64}
    values = {"model_type": "instructblip", "vision_config": EYE, "qformer_config": former, "num_query_tokens": 4,
              "text_config": {"model_type": "opt", **text}, "image_token_index": 96}  # fmt: skip
    n, rows, q, words = 24, 16 + 1, 4, 24 - 4
    found = {one.key: one for one in Usage(folder(tmp_path, values), Setting(context=n)).figures()}
    eye = 16 * 32 * (3 * 7 * 7) + 2 * (rows * (4 * 32 * 32 + 2 * 32 * 48) + 2 * rows * rows * 32)
    cross = 2 * q * 32 * 32 + 2 * rows * 32 * 32 + 2 * q * rows * 32
    queries = 2 * ((q + words) * (4 * 32 * 32 + 2 * 32 * 48) + 2 * (q + words) ** 2 * 32) + cross + q * 32 * 64
    matrices = 2 * (4 * 64 * 64 + 2 * 64 * 128) + 64 * 97
    assert found["prefill_macs"].value == eye + queries + n * matrices + 2 * 2 * 64 * n * n
    assert found["decode_macs"].observed == found["decode_macs"].derived == matrices + 2 * 2 * 64 * (n + 1)
    assert found["cache_elements"].observed == 2 * 2 * 64 * n
    with pytest.raises(SpecError, match="leave --image 0 out"):
        LanguageModel(folder(tmp_path, values), image=0).prefill(n)


def test_llama_4_sees() -> None:
    """16 patches, of which 2·2 become a token; its experts are all run, so the causal figure has no closed form."""
    eye = {**EYE, "intermediate_size": 128, "projector_input_dim": 64, "projector_output_dim": 64}
    parts = ("vision_config", {**eye, "vision_output_dim": 64}), ("text_config", {**TEXT, "num_local_experts": 2})
    spec = "transformers:Llama4Config" + "".join(f"@{name}={json.dumps(values)}" for name, values in parts)
    seen, blind = LanguageModel(spec).prefill(12), LanguageModel(spec, image=0).prefill(12)
    assert "4 of the tokens are an image of 28×28 pixels" in seen.notes
    assert any("image_outputs" in note and "None was taken" in note for note in seen.notes)
    rows = 16 + 1
    image = 16 * 32 * (3 * 7 * 7) + 2 * (rows * (4 * 32 * 32 + 2 * 32 * 128) + 2 * rows * rows * 32)
    image += 4 * (128 * 64 + 64 * 64 + 64 * 64)
    assert archscope.totals(seen)["macs"] - archscope.totals(blind)["macs"] == image


def test_what_a_model_does_not_read(archscope: Callable[..., Ran], tmp_path: Path) -> None:
    llama = "transformers:LlamaConfig@hidden_size=64@num_attention_heads=4@num_hidden_layers=1@intermediate_size=64"
    assert "--source" in archscope("llm", llama, "--source", "4").err
    assert "--image" in archscope("llm", llama, "--image", "28").err
    assert archscope("llm", llama, "--image", "-1").code == 2
    ran = archscope("llm", folder(tmp_path, SEEING["llava"][1]), "--context", "16")
    assert ran.code == 2 and "--context 17" in ran.err
    ran = archscope("llm", WHISPER, "--source", "4")
    assert ran.code == 2 and "input_features" in ran.err
    ran = archscope("llm", "transformers:BertConfig@num_hidden_layers=1")
    assert ran.code == 2 and "@is_decoder=true" in ran.err
    other = {**SEEING["llava"][1], "model_type": "lfm2_vl"}
    (tmp_path / "other").mkdir()
    ran = archscope("llm", folder(tmp_path / "other", other), "--context", "16", "--format", "md")
    assert ran.code == 0 and "text alone" in ran.out


def test_a_context_is_no_longer_than_the_positions(archscope: Callable[..., Ran]) -> None:
    ran = archscope("llm", WHISPER + "@max_target_positions=12", "--format", "json")
    rows = {row["key"]: row["value"] for row in json.loads(ran.out)}
    assert ran.code == 0 and rows["cache_elements"] == 2 * 2 * 64 * (12 + 20)


def test_a_text_that_is_longer_than_the_table_of_positions(archscope: Callable[..., Ran]) -> None:
    """A real run of GPT-2 refuses position 12 of 12; figures are functions of the length, and a note says so."""
    plain = "transformers:GPT2Config@n_layer=1@n_embd=64@n_head=4@vocab_size=97@n_positions=12"
    for context, ends in (("11", False), ("12", True), ("20", True)):
        ran = archscope("llm", plain, "--context", context, "--format", "md")
        assert ran.code == 0 and ("transformer.wpe" in ran.out and "too short" in ran.out) is ends
        found = {one.key: one for one in Usage(plain, Setting(context=int(context))).figures()}
        assert found["cache_elements"].observed == found["cache_elements"].derived == 2 * 64 * int(context)


@pytest.mark.parametrize(
    ("key", "value", "code", "said"),
    [("num_hidden_layers", -2, 2, "num_hidden_layers is -2, which no model has"), ("vocab_size", 0, 0, "")],
)
def test_a_damaged_number_of_a_configuration(
    key: str, value: int, code: int, said: str, archscope: Callable[..., Any], tmp_path: Path
) -> None:
    config = {
        **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 64},
    }
    (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
    ran = archscope("llm", f"{tmp_path}/config.json", "--context", "8")
    assert ran.code == code and said in ran.err and "bug" not in ran.err


def rows_of(ran: Ran) -> dict[str, dict[str, Any]]:
    return {row.get("model") or row["key"]: row for row in json.loads(ran.out)}


def test_tables_take_a_source(archscope: Callable[..., Ran]) -> None:
    """The source is for the models that read one: T5 caches keys and values of its 5 rows, in both layers."""
    reader, plain = READERS[0], "transformers:GPT2Config@n_layer=1@n_embd=64@n_head=4@vocab_size=97"
    ran = archscope("table", reader, plain, "--llm", "--context", str(T), "--source", str(S), "--format", "json")
    rows = rows_of(ran)
    assert ran.code == 0
    assert rows[reader]["cache_elements"] == 2 * 2 * 4 * 8 * (T + S)
    assert rows[plain]["cache_elements"] == 2 * 64 * T
    assert archscope("table", plain, "--source", "0").code == 2


def test_conventions_of_two_texts_are_unknown_and_not_0(archscope: Callable[..., Ran]) -> None:
    ran = archscope("reconcile", READERS[0], "--llm", "--context", str(T), "--source", str(S), "--format", "json")
    rows = rows_of(ran)
    found = {one.key: one for one in Usage(READERS[0], Setting(context=T, source=S)).figures()}
    assert rows["forward"]["flops"] == 2 * found["prefill_macs"].value
    assert rows["6n"]["flops"] is None and rows["6n"]["attention"] is None
    plain = "transformers:GPT2Config@n_layer=1@n_embd=64@n_head=4@vocab_size=97"
    for option, of in (("--source", "a source"), ("--image", "no image")):
        ran = archscope("reconcile", plain, option, "5")
        assert ran.code == 2 and of in ran.err and len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("columns", [40, 60])
def test_narrow_terminals(archscope: Callable[..., Ran], columns: int) -> None:
    plain = "transformers:GPT2Config@n_layer=1"
    for words in (["llm", plain], ["table", plain, "--llm"], ["reconcile", plain, "--llm"]):
        ran = archscope(*words, "--context", "64", env={"COLUMNS": str(columns)})
        assert ran.code == 0 and max(map(len, ran.out.splitlines())) <= columns


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["llm", "lenet"], "lenet does not read 1×8192 tokens"),
        (["llm", "transformers:GPT2Config", "--context", "9" * 20], "fits no machine: 1,099,511,627,776 at most"),
        (["table", "--llm", "transformers:GPT2Config", "--image", "-1"], "--image is a whole number from 0 on"),
    ],
)
def test_wrong_words_are_one_sentence(archscope: Callable[..., Ran], words: list[str], said: str) -> None:
    ran = archscope(*words)
    assert ran.code == 2 and said in ran.err and len(ran.err.splitlines()) == 1
