"""Adapters of peft: what LoRA adds, by its file, against the model that peft builds."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran

import archscope
from archscope.analysis.adapters import Adapted, adapted
from archscope.core.errors import SpecError
from archscope.report.language import Setting, Usage
from archscope.sources.kinds import adapter

pytest.importorskip("transformers")

# 2 layers of 64: queries and outputs 64·64, keys and values 64·32, three matrices of 64·128; 97 words, head of its own
BASE = (
    "transformers:LlamaConfig@vocab_size=97@hidden_size=64@num_hidden_layers=2@num_attention_heads=4"
    "@num_key_value_heads=2@intermediate_size=128"
)
PARAMS = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64) + 64 + 2 * 97 * 64
ATTENTION = 2 * (64 + 64) + 2 * (64 + 32)  # in + out of all four
MLP = 3 * (64 + 128)

# fields of the file -> what is trained
CASES: list[tuple[dict[str, Any], int]] = [
    ({"target_modules": ["q_proj", "v_proj"]}, 2 * 8 * (64 + 64 + 64 + 32)),
    ({"target_modules": "all-linear"}, 2 * 8 * (ATTENTION + MLP)),
    ({"target_modules": r".*\.mlp\..*_proj"}, 2 * 8 * MLP),
    ({"target_modules": ["q_proj"], "r": 3, "rank_pattern": {r"layers\.1\.self_attn\.q_proj": 5}}, (3 + 5) * 128),
    ({"target_modules": ["q_proj", "o_proj"], "layers_to_transform": [1]}, 2 * 8 * 128),
    ({"target_modules": ["q_proj", "o_proj"], "layers_to_transform": 0, "layers_pattern": "layers"}, 2 * 8 * 128),
    ({"target_modules": "all-linear", "exclude_modules": ["q_proj", "up_proj"]}, 2 * 8 * (ATTENTION + MLP - 128 - 192)),
    ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, 2 * 8 * 128 + 64 * 97),
    # peft asks how a name ends: "norm" is input_layernorm and post_attention_layernorm of both layers too
    ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "norm"]}, 2 * 8 * 128 + 97 * 64 + 5 * 64),
    ({"target_modules": ["k_proj"], "use_dora": True}, 2 * (8 * (64 + 32) + 32)),
    ({"target_modules": ["embed_tokens"]}, 8 * (97 + 64)),
    ({"target_modules": ["lm_head"], "use_rslora": True}, 8 * (97 + 64)),
]  # fmt: skip
BIASED = "transformers:Qwen2Config@vocab_size=97@hidden_size=64@num_hidden_layers=2@num_attention_heads=4" + (
    "@num_key_value_heads=2@intermediate_size=128"
)
WITH_BIASES: list[tuple[dict[str, Any], int]] = [
    ({"target_modules": ["q_proj"], "bias": "lora_only"}, 2 * (8 * 128 + 64)),
    ({"target_modules": ["q_proj"], "bias": "all"}, 2 * (8 * 128 + 64 + 32 + 32)),
    ({"target_modules": ["q_proj"], "lora_bias": True}, 2 * (8 * 128 + 64)),
]
ALL = [*((BASE, *case) for case in CASES), *((BIASED, *case) for case in WITH_BIASES)]


def written(folder: Path, **fields: Any) -> str:
    """A file as peft saves it."""
    values = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True, "r": 8, "lora_alpha": 16}
    values |= {"base_model_name_or_path": "some/model", "bias": "none", "megatron_core": "megatron.core", **fields}
    (folder / "adapter_config.json").write_text(json.dumps(values), encoding="utf-8")
    return f"{folder}/adapter_config.json"


def usage(spec: str, **setting: Any) -> dict[str, Any]:
    return {one.key: one for one in Usage(spec, Setting(context=6, **setting)).figures()}


@pytest.mark.parametrize(("base", "fields", "trained"), ALL, ids=[json.dumps(fields) for _, fields, _ in ALL])
def test_the_closed_form_is_what_peft_builds(tmp_path: Path, base: str, fields: dict[str, Any], trained: int) -> None:
    pytest.importorskip("peft")
    found = usage(f"{written(tmp_path, **fields)}@base={base}")
    assert found["trainable"].derived == trained
    assert found["trainable"].observed == trained
    assert found["adapter_bytes"].value == 2 * trained
    assert all(one.agrees is not False for one in found.values())
    if not fields.get("use_dora") and not fields.get("lora_bias"):
        assert found["prefill_macs"].agrees and found["decode_macs"].agrees and found["matrices"].agrees
    if not fields.get("modules_to_save"):
        more = 2 * 64 if fields.get("bias") == "lora_only" else 2 * 128 if "all" == fields.get("bias") else 0
        assert found["params"].value == usage(base)["params"].value + trained - more


@pytest.mark.parametrize(("base", "fields", "trained"), ALL, ids=[json.dumps(fields) for _, fields, _ in ALL])
def test_without_peft_it_is_derived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, fields: dict[str, Any], trained: int
) -> None:
    monkeypatch.setattr(adapter, "installed", lambda: False)
    spec = f"{written(tmp_path, **fields)}@base={base}"
    here = Usage(spec, Setting(context=6, dtype="int4", cache_dtype="fp8"))
    found = {one.key: one for one in here.figures()}
    assert found["trainable"].observed is None and found["trainable"].derived == trained
    assert found["params"].observed is None
    assert "training_palm" not in found and "decode_intensity" not in found
    assert any("peft is not installed" in note for note in here.notes)
    if base == BASE:
        assert found["params"].derived == PARAMS + trained
        assert found["weight_bytes"].value == -(-PARAMS // 2) + 2 * trained
    with pytest.raises(SpecError, match="peft is not installed|pip install peft"):
        archscope.load(spec)


def test_a_quantised_base_under_an_adapter(tmp_path: Path) -> None:
    """QLoRA: four bits a weight, sixteen of the adapter, sixteen of the activations."""
    pytest.importorskip("peft")
    found = usage(f"{written(tmp_path, target_modules=['q_proj'])}@base={BASE}", dtype="int4", cache_dtype="fp8")
    low, base = 2 * 8 * 128, PARAMS - 97 * 64 - 5 * 64  # of the matrices: no table, no norms
    scores = 2 * 64 * 2 * 7
    assert found["weight_bytes"].value == PARAMS // 2 + 2 * low
    assert found["decode_bit_operations"].value == 16 * (4 * base + 16 * low + 8 * scores)
    read = (PARAMS - 97 * 64) / 2 + 2 * low + found["cache_bytes"].value
    assert found["decode_intensity"].value == round(2 * (base + low + scores) / read, 2)
    assert found["training_palm"].value is None  # 6N counts a gradient for each parameter


def test_a_replaced_module_is_not_active(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    found = usage(f"{written(tmp_path, target_modules=['q_proj'], modules_to_save=['lm_head'])}@base={BASE}")
    assert found["params"].value == PARAMS + 2 * 8 * 128 + 97 * 64
    assert found["params_replaced"].value == found["params_head"].value == 97 * 64
    assert found["active_without_input"].value == PARAMS - 97 * 64 + 2 * 8 * 128


def test_what_is_not_recognised_is_named() -> None:
    record = archscope.trace(archscope.load(BASE)[0], archscope.load(BASE)[1])
    found = adapted({"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"]}, record)
    assert isinstance(found, Adapted) and found.matrices == 2 * 8 * 128
    assert adapted({"peft_type": "LORA", "target_parameters": ["experts.w"], "target_modules": ["q_proj"]}, record) == (
        "target_parameters"
    )
    assert adapted({"peft_type": "IA3"}, record) == "peft_type 'IA3'"
    assert adapted({"peft_type": "LORA", "target_modules": ["none"]}, record) == "target_modules"
    assert isinstance(adapted({"peft_type": "LORA", "target_modules": "("}, record), str)
    assert isinstance(adapted({"peft_type": "LORA", "target_modules": ["q_proj"], "rank_pattern": 3}, record), str)


def test_a_model_that_the_user_has_wrapped(tmp_path: Path, archscope: Callable[..., Ran]) -> None:
    peft = pytest.importorskip("peft")
    import torch
    import transformers

    import archscope as package

    config = transformers.LlamaConfig(vocab_size=97, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                                      num_key_value_heads=2, intermediate_size=128)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lora = peft.LoraConfig(r=8, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
        model = peft.get_peft_model(transformers.LlamaForCausalLM(config), lora)
    found = package.totals(package.trace(model, torch.zeros(1, 6, dtype=torch.int64)))
    assert found["trainable"] == 2 * 8 * 128 + 97 * 64
    assert found["params"] == PARAMS + found["trainable"]
    (tmp_path / "own.py").write_text(
        "import peft, transformers, warnings\n"
        "def net():\n"
        "    warnings.simplefilter('ignore')\n"
        f"    config = transformers.LlamaConfig(**{config.to_diff_dict()!r})\n"
        "    lora = peft.LoraConfig(r=8, target_modules=['q_proj'], task_type='CAUSAL_LM')\n"
        "    return peft.get_peft_model(transformers.LlamaForCausalLM(config), lora)\n"
    )
    ran = archscope("llm", f"{tmp_path}/own.py:net", "--context", "6", "--format", "json")
    rows = {row["key"]: row for row in json.loads(ran.out)}
    assert rows["trainable"]["observed"] == rows["trainable"]["derived"] == 2 * 8 * 128
    assert rows["decode_macs"]["agrees"] is True


@pytest.mark.parametrize(
    ("fields", "end", "said"),
    [
        ({}, "", "its base model is some/model, which is not here"),
        ({"base_model_name_or_path": None}, "", "it names no base model"),
        ({}, "@base=transformers:LlamaConfg", "LlamaConfig"),
        ({"peft_type": "NONE"}, f"@base={BASE}", "peft_type 'NONE'"),
        ({"some_field": 3}, f"@base={BASE}", "'some_field'"),
        ({"r": 0, "target_modules": ["q_proj"]}, f"@base={BASE}", "r"),
        ({"target_modules": ["nothing"]}, f"@base={BASE}", "nothing"),
        ({"peft_type": "PROMPT_TUNING"}, f"@base={BASE}", "PROMPT_TUNING"),
    ],
)
def test_one_sentence(
    tmp_path: Path, archscope: Callable[..., Ran], fields: dict[str, Any], end: str, said: str
) -> None:
    pytest.importorskip("peft")
    ran = archscope("llm", f"{written(tmp_path, **fields)}{end}", "--context", "6")
    assert ran.code == 2 and said in ran.err and len(ran.err.strip().splitlines()) == 1


def test_the_base_is_found_beside_the_file(tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
              "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 97}  # fmt: skip
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    file = written(tmp_path, target_modules=["q_proj"], base_model_name_or_path="base")
    assert usage(file)["trainable"].derived == 2 * 8 * 128
