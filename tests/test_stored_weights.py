"""The files of weights beside a configuration: what they take, and whether they are those of the model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from made_files import config, gguf, safetensors

pytest.importorskip("transformers")

Tensors = dict[str, tuple[str, tuple[int, ...]]]
Command = Callable[..., Ran]

CONFIG = {
    "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "dtype": "bfloat16", "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_local_experts": 4, "num_experts_per_tok": 2, "vocab_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
# by hand: tables of 64 words, queries and output of 32, keys and values of 16, a router, 3 matrices an expert, norms
LAYER = 2 * 32 * 32 + 2 * 16 * 32 + 4 * 32 + 4 * 3 * 48 * 32 + 2 * 32
PARAMS = 2 * 64 * 32 + 2 * LAYER + 32


def tensors_of_the_hub(layer: int) -> Tensors:
    """A layer of Mixtral under the names of its published files: three matrices for each expert."""
    at = f"model.layers.{layer}."
    expert = {f"{at}block_sparse_moe.experts.{n}.{name}.weight": ("BF16", (32, 48) if name == "w2" else (48, 32))
              for n in range(4) for name in ("w1", "w2", "w3")}  # fmt: skip
    return {
        **{f"{at}self_attn.{name}_proj.weight": ("BF16", (32, 32) if name in "qo" else (16, 32)) for name in "qkvo"},
        f"{at}block_sparse_moe.gate.weight": ("BF16", (4, 32)),
        **expert,
        **{f"{at}{name}_layernorm.weight": ("BF16", (32,)) for name in ("input", "post_attention")},
    }


ENDS: Tensors = {"model.embed_tokens.weight": ("BF16", (64, 32)), "lm_head.weight": ("BF16", (64, 32)),
                 "model.norm.weight": ("BF16", (32,))}  # fmt: skip
WHOLE = ENDS | tensors_of_the_hub(0) | tensors_of_the_hub(1)


def shards(folder: Path, index: bool = True) -> list[Path]:
    """The model in two files, and the index that names them."""
    parts = [ENDS | tensors_of_the_hub(0), tensors_of_the_hub(1)]
    names = [f"model-{n:05}-of-00002.safetensors" for n in (1, 2)]
    if index:
        where = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return [safetensors(folder / name, part) for name, part in zip(names, parts, strict=True)]


def figures(archscope: Command, model: str, *words: str) -> tuple[dict[str, Any], list[str]]:
    """The values of `archscope llm` by their keys, and the sentences below the table."""
    ran = archscope("llm", model, "--context", "8", "--format", "json", *words)
    assert ran.code == 0
    said = archscope("llm", model, "--context", "8", "--format", "md", *words).out
    return {row["key"]: row["value"] for row in json.loads(ran.out)}, said.splitlines()


def test_a_folder_with_its_weights(tmp_path: Path, archscope: Command) -> None:
    config(tmp_path, **CONFIG)
    safetensors(tmp_path / "model.safetensors", WHOLE)
    safetensors(tmp_path / "adapter_model.safetensors", {"lora": ("F32", (8,))})
    found, said = figures(archscope, str(tmp_path), "--dtype", "fp8")
    assert found["params"] == PARAMS
    assert found["weight_bytes"] == PARAMS
    assert found["stored_bytes"] == 2 * PARAMS
    assert found["stored_bits"] == 16
    assert not any("not of this configuration" in line for line in said)


@pytest.mark.parametrize("index", [True, False])
def test_shards(tmp_path: Path, archscope: Command, index: bool) -> None:
    config(tmp_path, **CONFIG)
    _, last = shards(tmp_path, index)
    found, said = figures(archscope, str(tmp_path))
    assert (found["stored_bytes"], found["stored_bits"]) == (2 * PARAMS, 16)
    assert not any("not of this configuration" in line for line in said)
    last.unlink()
    found, said = figures(archscope, str(tmp_path))
    assert (found["stored_bytes"], found["stored_bits"]) == (None, None)
    assert any("bytes as stored are unknown" in line and last.name in line for line in said)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"num_hidden_layers": 1}, ["model.layers.1.", "in the file and not in the model"]),
        ({"num_hidden_layers": 3}, ["model.layers.2.", "not in the file"]),
        ({"vocab_size": 65}, ["64×32 in the file, 65×32 in the model", "and 1 more"]),
        ({"num_local_experts": 5}, ["mlp.gate.weight", "4×32 in the file, 5×32 in the model"]),
        # gate and up of 4 experts are one tensor of the model
        ({"intermediate_size": 40}, [f"{4 * 2 * 48 * 32:,} parameters in the file, {4 * 2 * 40 * 32:,} in the model"]),
    ],
)
def test_a_file_of_another_model(tmp_path: Path, archscope: Command, change: Any, words: list[str]) -> None:
    config(tmp_path, **{**CONFIG, **change})
    safetensors(tmp_path / "model.safetensors", WHOLE)
    found, said = figures(archscope, str(tmp_path))
    (sentence,) = [line for line in said if "not of this configuration" in line]
    assert all(word in sentence for word in words), sentence
    assert found["stored_bytes"] == 2 * PARAMS


def test_gguf_of_the_same_folder(tmp_path: Path, archscope: Command) -> None:
    """Q8_0: 32 weights in 34 bytes. A norm stays float32."""
    config(tmp_path, **CONFIG)
    matrices = PARAMS - 5 * 32
    big = [("blk.0.weight", (32, matrices // 32), 8, matrices // 32 * 34)]
    norms = [(f"norm.{n}.weight", (32,), 0, 32 * 4) for n in range(5)]
    gguf(tmp_path / "mixtral-Q8_0.gguf", big + norms)
    found, said = figures(archscope, str(tmp_path))
    stored = matrices // 32 * 34 + 5 * 32 * 4
    assert found["stored_bytes"] == stored
    assert found["stored_bits"] == round(8 * stored / PARAMS, 4)
    assert not any("not of this configuration" in line for line in said)
    gguf(tmp_path / "other.gguf", big)
    safetensors(tmp_path / "model.safetensors", WHOLE)
    found, said = figures(archscope, str(tmp_path))  # the file that transformers loads, then each GGUF
    assert [found[key] for key in ("stored_bytes", "stored_bytes_2", "stored_bytes_3")] == [
        2 * PARAMS, stored, matrices // 32 * 34,
    ]  # fmt: skip
    (sentence,) = [line for line in said if "not of this configuration" in line]
    assert "other.gguf" in sentence and f"{matrices:,}" in sentence and f"{PARAMS:,}" in sentence


def test_packed_experts(tmp_path: Path, archscope: Command) -> None:
    """float8 with one scale a matrix, as DeepSeek publishes it: the scales are no parameters."""
    tensors: Tensors = {}
    for name, (dtype, shape) in WHOLE.items():
        packed = ".experts." in name
        tensors[name] = ("F8_E4M3" if packed else dtype, shape)
        if packed:
            tensors[f"{name}_scale_inv"] = ("F32", (1, 1))
    config(tmp_path, **CONFIG, quantization_config={"quant_method": "fp8"})
    safetensors(tmp_path / "model.safetensors", tensors)
    found, said = figures(archscope, str(tmp_path))
    experts, matrices = 2 * 4 * 3 * 48 * 32, 2 * 4 * 3
    stored = experts + 2 * (PARAMS - experts) + 4 * matrices
    assert found["stored_bytes"] == stored
    assert found["stored_bits"] == round(8 * stored / PARAMS, 4)
    assert not any("not of this configuration" in line for line in said)


def test_an_unknown_packing_has_bytes_and_no_bits(tmp_path: Path, archscope: Command) -> None:
    config(tmp_path, **CONFIG)
    safetensors(tmp_path / "model.safetensors", WHOLE | {"lm_head.weight": ("U8", (64, 16))})
    found, said = figures(archscope, str(tmp_path))
    assert found["stored_bytes"] == 2 * (PARAMS - 64 * 32) + 64 * 16
    assert found["stored_bits"] is None
    assert any("1 tensor is packed, such as lm_head.weight" in line for line in said)


def test_tensors_that_the_model_is_not_loaded_with(tmp_path: Path, archscope: Command) -> None:
    """DeepSeek-V3 and others publish a head for the token after the next one as one more layer."""
    import transformers

    config(tmp_path, **CONFIG)
    safetensors(tmp_path / "model.safetensors", WHOLE | {"mtp.weight": ("BF16", (7, 32))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers.MixtralForCausalLM, "_keys_to_ignore_on_load_unexpected", [r"^mtp"])
        found, said = figures(archscope, str(tmp_path))
    assert found["stored_bytes"] == 2 * (PARAMS + 7 * 32)
    assert any(f"1 tensor of {2 * 7 * 32} B" in line and "mtp.weight" in line for line in said)
    assert not any("not of this configuration" in line for line in said)


def test_many_models(tmp_path: Path, archscope: Command) -> None:
    config(tmp_path, **{**CONFIG, "vocab_size": 65})
    safetensors(tmp_path / "model.safetensors", WHOLE)
    words = ["--llm", "--context", "8", "--columns", "model,weight_bytes,stored_bytes,stored_bits"]
    ran = archscope("table", str(tmp_path), *words, "--format", "json")
    (row,) = json.loads(ran.out)
    assert (row["stored_bytes"], row["stored_bits"]) == (2 * PARAMS, 16)
    assert row["weight_bytes"] == 2 * (PARAMS + 2 * 32)
    assert "not of this configuration" in archscope("table", str(tmp_path), *words).out


def test_a_published_file_against_its_model(tmp_path: Path, archscope: Command) -> None:
    """Three matrices for each of 4 experts are two tensors of the model; the configuration says bfloat16."""
    config(tmp_path, **CONFIG)
    file = safetensors(tmp_path / "model.safetensors", WHOLE)
    ran = archscope("verify", str(tmp_path), "--file", str(file), "--format", "json")
    (row,) = json.loads(ran.out)
    assert (ran.code, row["wrong"], row["params"]) == (0, [], PARAMS)
    changed = {
        "lm_head.weight": ("F16", (64, 32)),
        "model.layers.1.block_sparse_moe.experts.3.w3.weight": ("F16", (48, 32)),
    }
    safetensors(file, WHOLE | changed)
    (row,) = json.loads(archscope("verify", str(tmp_path), "--file", str(file), "--format", "json").out)
    assert len(row["wrong"]) == 2 and all("float16" in each and "bfloat16" in each for each in row["wrong"])


def test_an_infinity_of_a_configuration(tmp_path: Path) -> None:
    """JSON has none; transformers writes it as an object."""
    from archscope.sources.kinds.config import class_and_config

    values = {"model_type": "bamba", "time_step_limit": [0.0, {"__float__": "Infinity"}]}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert class_and_config(str(tmp_path), {})[1].time_step_limit == (0.0, float("inf"))
