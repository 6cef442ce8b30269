"""Language models: prompts, steps behind a cache, and the closed forms that they are held against."""

import copy
import json
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from conftest import Ran
from small_decoders import DECODERS, LATENT, spec_of

import archscope
from archscope.analysis import decoder, generation
from archscope.core.record import Trace
from archscope.peers.llm import conventions, residual
from archscope.report.language import Setting, Usage
from archscope.report.language_plot import numbers, picture
from archscope.sources.decoding import LanguageModel, decode_step

T = 6  # beyond the window of 5 of the small configurations

LLAMA = "transformers:LlamaConfig@vocab_size=97@hidden_size=64@num_hidden_layers=2@num_attention_heads=4" + (
    "@num_key_value_heads=2@intermediate_size=128"
)

pytest.importorskip("transformers")


# -------------------------------------------------------------------------------------------------- prompts and steps


@pytest.mark.parametrize("kind", DECODERS)
def test_steps_add_up_to_the_causal_prompt(kind: str) -> None:
    model = LanguageModel(spec_of(kind))
    config, prompt = model.config, model.prefill(T)
    steps = [generation.macs(step, config) for step in model.decodes(T)]
    assert None not in steps
    assert generation.causal_macs(prompt, config) == sum(step for step in steps if step is not None)
    step = model.decode(T)
    derived = generation.derived_macs(prompt, config, T)
    assert derived is not None
    assert derived.prefill == generation.macs(prompt, config)
    assert derived.causal == generation.causal_macs(prompt, config)
    assert derived.decode == generation.macs(step, config)
    layers = decoder.mixers(config)
    assert layers is not None
    assert generation.cached_elements(step) == decoder.cache_elements(layers, T) > 0


@pytest.mark.parametrize("kind", LATENT)
def test_a_latent_cache_is_made_into_keys_and_values_at_each_step(kind: str) -> None:
    """transformers caches the latent (24 + 8 numbers a token) and multiplies all of it at each step."""
    model = LanguageModel(spec_of(kind))
    config, step = model.config, model.decode(T)
    layers = decoder.mixers(config)
    derived = generation.derived_macs(model.prefill(T), config, T)
    assert layers is not None and derived is not None
    assert generation.cached_elements(step) == decoder.cache_elements(layers, T) == 2 * (24 + 8) * T
    assert derived.prefill == generation.macs(model.prefill(T), config)
    assert derived.causal is not None and derived.causal == generation.causal_macs(model.prefill(T), config)
    assert derived.decode == generation.macs(step, config)
    steps = sum(generation.macs(each, config) or 0 for each in model.decodes(T))
    again = 2 * 24 * 4 * (16 + 12) * T * (T - 1) // 2  # 2 layers, 4 heads, keys of 16 and values of 12
    assert steps == derived.causal + again


def test_a_step_twice_is_the_same_record() -> None:
    model = LanguageModel(LLAMA)
    first, again = model.decode(T), model.decode(T)
    assert first.to_json() == again.to_json()
    assert decode_step(LLAMA, T).to_json() == first.to_json()
    assert Trace.from_json(first.to_json()).cache == first.cache
    names = [one.name.partition(".")[2] for one in first.cache]
    assert names == ["layers.0.keys", "layers.0.values", "layers.1.keys", "layers.1.values"]
    assert {one.tensor.shape for one in first.cache} == {(1, 2, T, 16)}


def test_a_static_cache_has_its_whole_length() -> None:
    step = LanguageModel(LLAMA, "static").decode(T)
    assert {one.tensor.shape for one in generation.cached_tensors(step)} == {(1, 2, T + 1, 16)}
    dynamic = LanguageModel(LLAMA).decode(T)
    assert generation.macs(step, {}) == generation.macs(dynamic, {})


class Cached(torch.nn.Module):
    """A decoder of one layer with a cache of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, cache: "Kept") -> torch.Tensor:
        cache.keys = torch.cat([cache.keys, self.linear(x)])
        cache.count += len(x)
        return cache.keys[-int(cache.count) :] @ cache.keys.T


class Kept:
    def __init__(self) -> None:
        self.keys = torch.zeros(3, 4)
        self.count = torch.tensor(3)


def test_the_cache_of_a_caller_is_left_as_it_was() -> None:
    cache = Kept()
    before = copy.deepcopy(cache)
    model = Cached()
    first = archscope.trace(model, (torch.empty(1, 4), cache))
    assert archscope.trace(model, (torch.empty(1, 4), cache)).to_json() == first.to_json()
    assert cache.keys.equal(before.keys) and cache.count.equal(before.count) and not cache.keys.is_meta
    assert [(one.name, one.tensor.shape) for one in first.cache] == [("1.keys", (3, 4)), ("1.count", ())]
    assert archscope.totals(first)["macs"] == 4 * 4 + 4 * 4 * 4  # the layer; 3 + 1 cached rows, each with each


# ------------------------------------------------------------------------------------------------------- caches

DEEPSEEK_V3 = {
    "num_hidden_layers": 61, "num_attention_heads": 128, "hidden_size": 7168, "kv_lora_rank": 512,
    "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
}  # fmt: skip
QWEN25_72B = {"num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "hidden_size": 8192}
LLAMA31_405B = {"num_hidden_layers": 126, "num_attention_heads": 128, "num_key_value_heads": 8, "hidden_size": 16384}
GPT_OSS_120B = {
    "num_hidden_layers": 36, "num_attention_heads": 64, "num_key_value_heads": 8, "hidden_size": 2880, "head_dim": 64,
    "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 18,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "published"),
    [(DEEPSEEK_V3, 70_272), (QWEN25_72B, 327_680), (LLAMA31_405B, 516_096)],
    ids=["DeepSeek-V3", "Qwen2.5-72B", "Llama-3.1-405B"],
)
def test_published_bytes_a_token(config: dict[str, int], published: int) -> None:
    """arXiv:2505.09343, table 1, in bf16."""
    layers = decoder.mixers(config)
    assert layers is not None
    assert 2 * decoder.cache_elements(layers, 1) == published


def sizes(hidden: int, layers: int, heads: int, groups: int, inner: int) -> str:
    return (
        f"@hidden_size={hidden}@num_hidden_layers={layers}@num_attention_heads={heads}@num_key_value_heads={groups}"
        f"@intermediate_size={inner}"
    )


@pytest.mark.parametrize(
    ("spec", "published"),
    [
        ("transformers:Qwen2Config" + sizes(8192, 80, 64, 8, 29568), 327_680),
        ("transformers:LlamaConfig" + sizes(16384, 126, 128, 8, 53248), 516_096),
        ("transformers:GptOssConfig", 73_728),  # behind fewer tokens than the window of 128
    ],
    ids=["Qwen2.5-72B", "Llama-3.1-405B", "gpt-oss-120b"],
)
def test_published_bytes_a_token_by_tensors(spec: str, published: int) -> None:
    step = LanguageModel(spec).decode(8)
    assert 2 * generation.cached_elements(step) == 8 * published


def test_a_window_holds_what_it_sees() -> None:
    layers = decoder.mixers(GPT_OSS_120B)
    assert layers is not None
    assert 2 * sum(layer.elements for layer in layers) == 73_728 == 36 * 2 * 8 * 64 * 2  # were every layer full
    assert decoder.cache_elements(layers, 8192) == 18 * 1024 * 8192 + 18 * 1024 * 127
    assert decoder.cache_elements(layers, 8192, paged=True) == 18 * 1024 * 8192 + 18 * 1024 * 128
    assert decoder.cache_elements(layers, 8193, paged=True) == 18 * 1024 * 8208 + 18 * 1024 * 128  # blocks of 16
    assert decoder.kinds_of(layers) == "hybrid: 18 sliding, 18 full"
    assert decoder.cache_formula(layers) == "18·1024·min(T, 127) + 18·1024·T"
    assert layers[0].pairs(130) == sum(min(t, 128) for t in range(1, 131))


def test_what_is_not_recognised_is_unknown() -> None:
    assert decoder.mixers({}) is None
    assert decoder.mixers({**QWEN25_72B, "layer_types": ["something_new"] * 80}) is None
    assert decoder.closed_matrices({**QWEN25_72B, "vocab_size": 9, "model_type": "nobody_knows"}) is None


def test_the_largest_that_fits() -> None:
    assert decoder.largest(lambda n: 10 + 3 * n, 100) == 30
    assert decoder.largest(lambda n: 10 + 3 * n, 9) == -1
    assert decoder.largest(lambda n: 10, 10, limit=64) == 64


# ------------------------------------------------------------------------------------------------------ experts


class Loop(torch.nn.Module):
    """4 experts, of which each token takes 2, written as a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.router = torch.nn.Linear(8, 4, bias=False)
        self.experts = torch.nn.ModuleList(torch.nn.Linear(8, 8, bias=False) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2, dim=-1)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            row, place = torch.where(chosen == i)
            out.index_add_(0, row, expert(x[row]) * weights[row, place, None])
        return out


class Batched(torch.nn.Module):
    """The same with one tensor of weights, and products in a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.router = torch.nn.Linear(8, 4, bias=False)
        self.experts = torch.nn.ParameterDict({"weight": torch.nn.Parameter(torch.empty(4, 8, 8))})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2, dim=-1)
        taken = self.experts["weight"][chosen.flatten()]
        rows = torch.bmm(taken, x.repeat_interleave(2, 0).unsqueeze(-1)).squeeze(-1)
        return (rows.view(-1, 2, 8) * weights.unsqueeze(-1)).sum(1)


class Grouped(Batched):
    """The same with rows in order of their expert, and one product of groups."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2, dim=-1)
        _, order = chosen.flatten().sort()
        counts = torch.histc(chosen.float(), bins=4, min=0, max=3).cumsum(0).to(torch.int32)
        rows = torch.ops.aten._grouped_mm(x[order // 2], self.experts["weight"], offs=counts)
        return rows * weights.flatten()[order, None]


@pytest.mark.parametrize("how", [Loop, Batched, Grouped])
def test_experts_cost_what_a_token_takes(how: type[torch.nn.Module]) -> None:
    model = how().to(torch.bfloat16)
    record = archscope.trace(model, torch.empty(10, 8, dtype=torch.bfloat16), bound=True)
    assert generation.routing(record, {}) == (4, 2, 4 * 8 * 8)
    assert generation.matrices(record, {}) == 8 * 4 + 2 * 8 * 8
    assert generation.macs(record, {}) == Fraction(10 * (8 * 4 + 2 * 8 * 8))
    active = generation.active(record, {})
    assert active is not None and active.whole == 8 * 4 + 2 * 8 * 8


# ------------------------------------------------------------------------------------------------- published figures

QWEN3_30B = (
    "transformers:Qwen3MoeConfig@vocab_size=151936@hidden_size=2048@num_hidden_layers=48@num_attention_heads=32"
    "@num_key_value_heads=4@head_dim=128@moe_intermediate_size=768@num_experts=128@num_experts_per_tok=8"
)


def test_gpt2_in_the_sheets_of_nanogpt() -> None:
    """karpathy/nanoGPT, transformer_sizing.ipynb: GPT-2 at 1024 tokens; its models have no biases."""
    model = LanguageModel("transformers:GPT2Config")
    record = model.prefill(1024)
    forward = generation.macs(record, model.config)
    assert forward is not None
    assert 2 * forward == 291_648_307_200
    found = {one.name: one for one in conventions(record, model.config)}
    assert found["nanogpt"].params == 124_337_664
    assert found["nanogpt"].flops == 879_894_724_608 == 1024 * (6 * 124_337_664 + 12 * 12 * 12 * 64 * 1024)
    assert found["6n"].flops == 3 * (found["2n"].flops or 0) == 6 * 124_439_808 * 1024
    assert found["palm"].flops == 1024 * (6 * 124_439_808 + 12 * 12 * 12 * 64 * 1024)
    assert found["transformers"].params == 124_439_808 - 50_257 * 768 - 1024 * 768
    assert residual(found["transformers"], model.model, 1024) == 0


def test_llama2_in_maxtext() -> None:
    """Llama-2-7B, batch 4 of 256 tokens: 41.00620025856 TFLOP."""
    model = LanguageModel("transformers:LlamaConfig")
    found = {one.name: one for one in conventions(model.prefill(256, 4), model.config)}
    assert found["maxtext"].flops == 41_006_200_258_560 == 6 * 6_607_077_376 * 1024 + 12 * 32 * 4096 * 256 * 1024
    assert found["maxtext-causal"].flops == 6 * 6_607_077_376 * 1024 + 6 * 32 * 4096 * 256 * 1024
    assert found["megatron"].flops == found["maxtext"].flops  # no experts, no router
    assert decoder.closed_matrices(model.config) == 6_607_077_376


def test_qwen3_in_torchtitan() -> None:
    """Qwen3-30B-A3B, published active 3.35 B with both tables; torchtitan at 8192: 37,578,559,488 a token."""
    model = LanguageModel(QWEN3_30B)
    record = model.prefill(8192)
    active = generation.active(record, model.config)
    assert active is not None and active.whole == 3_353_032_704
    assert active.without_input == 3_041_867_776 == 3_353_032_704 - 151_936 * 2048
    titan = next(one for one in conventions(record, model.config) if one.name == "torchtitan")
    assert titan.flops == 8192 * 37_578_559_488
    assert 37_578_559_488 == 6 * 3_041_867_776 + 12 * 48 * 32 * 128 * 8192
    assert decoder.closed_matrices(model.config) == generation.matrices(record, model.config)
    megatron = next(one for one in conventions(record, model.config) if one.name == "megatron")
    assert megatron.params == (generation.matrices(record, model.config) or 0) - 48 * 2048 * 128  # its routers


def test_active_parameters_as_published() -> None:
    """Mixtral 8x7B: 12.9 B; gpt-oss-120b: 5.13 B, MLP 114.71 B, attention 0.96 B, tables 1.16 B (its model card)."""
    mixtral = LanguageModel("transformers:MixtralConfig")
    active = generation.active(mixtral.prefill(4), mixtral.config)
    assert active is not None and active.whole == 12_879_925_248
    oss = LanguageModel("transformers:GptOssConfig")
    record = oss.prefill(4)
    parts = generation.parts(record)
    assert round((parts["experts"] + parts["router"]) / 1e9, 2) == 114.71
    assert round(parts["attention"] / 1e9, 2) == 0.96
    assert round((parts["embedding"] + parts["head"]) / 1e9, 2) == 1.16
    active = generation.active(record, oss.config)
    assert active is not None and round(active.without_input / 1e9, 2) == 5.13
    assert archscope.totals(record)["params"] == 116_829_156_672
    layers = decoder.mixers(oss.config)
    assert layers is not None and 2 * sum(layer.elements for layer in layers) == 73_728


@pytest.mark.slow
def test_deepseek_v3_with_a_step() -> None:
    started = time.process_time()
    model = LanguageModel("transformers:DeepseekV3Config")
    step = model.decode(64)
    assert archscope.totals(step)["params"] == 671_026_404_352
    assert generation.cached_elements(step) * 2 == 64 * 70_272
    active = generation.active(model.prefill(64), model.config)
    assert active is not None
    assert round(active.whole / 1e9, 2) == 37.55  # 256 experts of 3·7168·2048 in 58 layers, of which 8 are taken
    assert active.whole == 671_026_404_352 - 58 * 248 * 3 * 7168 * 2048
    assert active.without_input == active.whole - 129_280 * 7168  # the report's 37 B
    assert time.process_time() - started < 15


# ---------------------------------------------------------------------------------------------------------- commands


def test_the_command(archscope: Callable[..., Ran]) -> None:
    ran = archscope("llm", LLAMA, "--context", "32", "--memory", "1 MB", "--cache-dtype", "fp8", "--format", "json")
    assert ran.code == 0, ran.err
    rows = {row["key"]: row for row in json.loads(ran.out)}
    assert rows["params"]["value"] == 97 * 64 * 2 + 2 * (3 * 64 * 128 + 2 * 64 * 64 + 2 * 64 * 32 + 2 * 64) + 64
    assert rows["weight_bytes"]["value"] == 2 * rows["params"]["value"]
    assert rows["cache_elements"]["observed"] == rows["cache_elements"]["derived"] == 2 * 2 * 2 * 16 * 32
    assert rows["cache_bytes"]["value"] == 4096
    assert rows["matrices"]["agrees"] is rows["decode_macs"]["agrees"] is rows["prefill_causal_macs"]["agrees"] is True
    assert rows["largest_context"]["value"] == (10**6 - rows["weight_bytes"]["value"]) // 128
    assert archscope("llm", LLAMA, "--dtype", "bf61").code == 2
    assert archscope("llm", "transformers:BertConfig", "--context", "no").code == 2


def test_bit_operations_by_hand() -> None:
    """MACs times the bits of weight or cache times those of activations: int4 weights, an fp8 cache, 16 bits."""
    usage = Usage(LLAMA, Setting(context=32, dtype="int4", cache_dtype="fp8"))
    found = {one.key: one for one in usage.figures()}
    matrices = 97 * 64 + 2 * (3 * 64 * 128 + 2 * 64 * 64 + 2 * 64 * 32)
    scores = 2 * 2 * 64 * (32 + 1)  # 2 layers, queries with keys and weights with values, 4 heads of 16
    assert found["decode_macs"].value == matrices + scores
    assert found["decode_bit_operations"].value == 16 * (4 * matrices + 8 * scores)
    wide = {one.key: one for one in Usage(LLAMA, Setting(context=32, dtype="fp32", cache_dtype="fp32")).figures()}
    assert wide["decode_bit_operations"].value == 32 * 32 * (matrices + scores)


def test_tables_of_commands(archscope: Callable[..., Ran]) -> None:
    ran = archscope("table", LLAMA, "transformers:Nothing", "--llm", "--context", "16", "--format", "json")
    assert ran.code == 1 or ran.code == 2
    ran = archscope("table", LLAMA, "--llm", "--context", "16", "--format", "json")
    (row,) = json.loads(ran.out)
    assert ran.code == 0 and row["agrees"] is True and row["cache_bytes"] == 2 * 2 * 2 * 2 * 16 * 16
    ran = archscope("reconcile", LLAMA, "--llm", "--context", "16", "--format", "json")
    rows = {row["key"]: row for row in json.loads(ran.out)}
    assert ran.code == 0 and rows["transformers"]["residual"] == 0
    assert rows["forward"]["flops"] == 2 * 16 * (rows["maxtext"]["params"] + 2 * 4 * 32 * 16)


def test_explain_knows_shared_keys_and_6n(archscope: Callable[..., Ran]) -> None:
    model = LLAMA.replace("LlamaConfig", "LlamaForCausalLM") + "@head_dim=32"
    out = archscope("explain", model, "--input", "1x8:int64").out
    assert "2·g·d = 2·2·32 = 128" in out  # the keys and values of 2 heads, that 4 heads of queries share
    assert "h·d·T·(T + 1) = 4·32·8·(8 + 1) = 9216" in out.replace(",", "")
    matrices = 97 * 64 + 2 * (3 * 64 * 128 + 2 * 64 * 128 + 2 * 64 * 64)
    assert f"6·N = 6·{matrices:,} = {6 * matrices:,}" in out
    assert "64/4 is another number" in out


def test_a_printed_table_in_other_conventions(archscope: Callable[..., Ran], tmp_path: Path) -> None:
    mixtral = LLAMA.replace("LlamaConfig", "MixtralForCausalLM") + "@num_local_experts=4"
    table = tmp_path / "table.md"
    rows = [("transformers:GPT2LMHeadModel", "85,056,000", "47.44 G"), (mixtral, "0.1299 M", "")]
    lines = ["| Model | Params | MACs |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in rows)]
    table.write_text("\n".join(lines), encoding="utf-8")
    found = json.loads(archscope("verify-table", str(table), "--format", "json").out)
    assert [row["verdict"] for row in found] == ["explained"] * 3
    assert "without table and head" in found[0]["because"]
    assert "3N of the text" in found[1]["because"]  # 3·123,532,032·128: 6N FLOPs
    assert "active a token, without the input table: 129,920" in found[2]["because"]  # of 4 experts 2


def test_the_plot_has_the_numbers_of_the_table() -> None:
    usage = Usage(LLAMA, Setting(context=64, memory=10**6))
    data = numbers(usage)
    assert data["contexts"][-1] == 2048  # the positions of the configuration
    assert data["bytes"]["4"][-1] == data["weights"] + 4 * 2048 * 2 * (2 * 2 * 2 * 16)
    assert picture(usage).startswith(b"<?xml")
