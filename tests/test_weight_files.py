"""Files without code: configurations, safetensors, GGUF; and files of weights against models."""

import json
import random
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_files import config, gguf, raw, safetensors, text

from archscope import SpecError, totals
from archscope.core.weights import Weights
from archscope.sources.records import record_of
from archscope.sources.spec import parse

Command = Callable[..., Any]


def read(path: Path) -> Weights:
    spec = parse(str(path))
    assert spec.source.only_weights
    return spec.source.weights(spec.name)


def refusal(path: Path) -> str:
    """Why a file is refused, in one line."""
    with pytest.raises(SpecError) as error:
        read(path)
    assert "\n" not in str(error.value)
    return str(error.value)


# ------------------------------------------------------------------------------------------------------ safetensors


def test_safetensors(tmp_path: Path) -> None:
    file = safetensors(tmp_path / "net.safetensors", {"a.weight": ("BF16", (3, 5)), "a.bias": ("F32", (3,))})
    weights = read(file)
    assert [(t.name, t.shape, t.dtype, t.nbytes, t.params) for t in weights.tensors] == [
        ("a.weight", (3, 5), "bfloat16", 3 * 5 * 2, 15),
        ("a.bias", (3,), "float32", 3 * 4, 3),
    ]
    assert (weights.params, weights.nbytes) == (15 + 3, 30 + 12)


def test_the_same_as_the_package_safetensors(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch")
    import torch

    file = tmp_path / "net.safetensors"
    dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.bool,
              torch.int64, torch.float8_e4m3fn, torch.float8_e5m2]  # fmt: skip
    state = {f"t{i}.x": torch.zeros(i, 2).to(dtype) for i, dtype in enumerate(dtypes)}
    library.save_file(state, file)
    found = {t.name: (t.shape, t.dtype, t.nbytes) for t in read(file).tensors}
    assert found == {k: (tuple(v.shape), str(v.dtype)[6:], v.nbytes) for k, v in state.items()}


def test_an_index_names_its_files(tmp_path: Path) -> None:
    safetensors(tmp_path / "one.safetensors", {"a": ("F32", (2,)), "old": ("F32", (9,))})
    safetensors(tmp_path / "two.safetensors", {"b": ("F16", (4,))})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"b": "two.safetensors", "a": "one.safetensors"}}))
    assert [(t.name, t.nbytes) for t in read(index).tensors] == [("b", 8), ("a", 8)]
    index.write_text(json.dumps({"weight_map": {"c": "two.safetensors"}}))
    assert "'c' is not in two.safetensors" in refusal(index)
    index.write_text(json.dumps({"weight_map": {"c": "../two.safetensors"}}))
    assert "'../two.safetensors'" in refusal(index)
    index.write_text(json.dumps({"weight_map": {"c": "three.safetensors"}}))
    assert "three.safetensors" in refusal(index)


def entry(**values: Any) -> bytes:
    whole = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | values
    return json.dumps({"w": whole}).encode()


@pytest.mark.parametrize(
    "header, room, length, why",
    [
        (entry(), 8, 1 << 60, f"{1 << 60:,}"),
        (entry(), 7, None, "cut off"),
        (entry(), 9, None, "belong to no tensor"),
        (entry(shape=[1 << 60]), 8, None, f"{1 << 60:,} elements"),
        (entry(shape=[1 << 62, 1 << 62]), 8, None, "elements"),
        (entry(shape=[-2]), 8, None, "shape"),
        (entry(shape=[1] * 65 + [2]), 8, None, "shape"),
        (entry(dtype="Q9"), 8, None, "'Q9'"),
        (entry(data_offsets=[8, 16]), 16, None, "begins at byte 8"),
        (entry(data_offsets=[8, 0]), 8, None, "elements"),
        (entry(data_offsets=[0, 10**30]), 8, None, "header"),
        (b'{"w": 1}', 0, None, "header"),
        (b"[" * 100_000, 0, None, "header"),
        (b"\xff\xfe{}", 0, None, "header"),
    ],
)
def test_a_header_that_lies(tmp_path: Path, header: bytes, room: int, length: int | None, why: str) -> None:
    assert why in refusal(raw(tmp_path / "bad.safetensors", header, room, length))


def test_a_file_that_is_too_short(tmp_path: Path) -> None:
    file = tmp_path / "short.safetensors"
    file.write_bytes(b"\x01\x02")
    assert "2 bytes" in refusal(file)
    assert "no file" in refusal(tmp_path / "none.safetensors")


# ------------------------------------------------------------------------------------------------------------- GGUF


def test_gguf(tmp_path: Path) -> None:
    keys = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("llama.block_count") + struct.pack("<II", 4, 1),
    ]
    # Q4_K: 256 weights in 144 bytes (4.5 bits); Q6_K in 210 (6.5625 bits)
    tensors = [
        ("blk.0.attn_q.weight", (512, 3), 12, 3 * 2 * 144),
        ("output.weight", (256, 5), 14, 5 * 210),
        ("norm.weight", (512,), 0, 512 * 4),
        ("rope_freqs.weight", (64,), 0, 64 * 4),
    ]
    weights = read(gguf(tmp_path / "net.gguf", tensors, keys))
    assert [(t.name, t.shape, t.dtype, t.nbytes, t.params) for t in weights.tensors] == [
        ("blk.0.attn_q.weight", (3, 512), "Q4_K", 864, 1536),
        ("output.weight", (5, 256), "Q6_K", 1050, 1280),
        ("norm.weight", (512,), "float32", 2048, 512),
        ("rope_freqs.weight", (64,), "float32", 256, 0),
    ]


def test_the_block_formats_are_those_of_the_package_gguf() -> None:
    library = pytest.importorskip("gguf")
    from archscope.sources.weights.gguf import TYPES

    sizes = {int(kind): size for kind, size in library.GGML_QUANT_SIZES.items()}
    assert {kind: (weights, size) for kind, (_, weights, size) in TYPES.items() if kind in sizes} == sizes


def test_a_file_of_the_package_gguf(tmp_path: Path) -> None:
    library = pytest.importorskip("gguf")
    import numpy as np

    file = tmp_path / "net.gguf"
    writer = library.GGUFWriter(str(file), "llama")
    writer.add_block_count(1)
    writer.add_token_list(["a", "b", "c"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_tensor("w", np.zeros((4, 6), np.float32))
    writer.add_tensor("h", np.zeros((2, 3), np.float16))
    blocks = np.zeros((2, 34), np.uint8)  # two rows of 32 weights
    writer.add_tensor("q", blocks, raw_dtype=library.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert [(t.name, t.shape, t.nbytes, t.params) for t in read(file).tensors] == [
        ("w", (4, 6), 96, 24),
        ("h", (2, 3), 12, 6),
        ("q", (2, 32), 68, 64),
    ]


@pytest.mark.parametrize(
    "data, why",
    [
        (b"GGML", "GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version is 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), f"{1 << 60:,} tensors"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60) + b"\0" * 20, f"{1 << 60:,} bytes"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 4, 1 << 60), "header ends at"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 8, 1 << 60), "texts"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("w") + struct.pack("<IQIQ", 1, 1 << 60, 0, 0), "cut off"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("w") + struct.pack("<I", 1 << 30) + b"\0" * 20, "axes"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("w") + struct.pack("<IQIQ", 1, 7, 12, 0), "blocks of 256"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("w") + struct.pack("<IQIQ", 1, 7, 99, 0), "type 99"),
    ],
)
def test_a_gguf_that_lies(tmp_path: Path, data: bytes, why: str) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(data)
    assert why in refusal(file)


# --------------------------------------------------------------------------------------------------------- packings


def packed(folder: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], quantization: Any) -> Weights:
    config(folder, model_type="llama", **({"quantization_config": quantization} if quantization else {}))
    return read(safetensors(folder / "model.safetensors", tensors))


# a product of 128 inputs and 64 outputs: 8,192 parameters in groups of 32
GPTQ = {"up.qweight": ("I32", (128 * 4 // 32, 64)), "up.qzeros": ("I32", (4, 8)), "up.scales": ("F16", (4, 64)),
        "up.g_idx": ("I32", (128,)), "up.bias": ("F16", (64,))}  # fmt: skip
AWQ = {"up.qweight": ("I32", (128, 64 * 4 // 32)), "up.qzeros": ("I32", (4, 8)), "up.scales": ("F16", (4, 64))}
COMPRESSED = {"up.weight_packed": ("I32", (64, 128 * 4 // 32)), "up.weight_scale": ("BF16", (64, 4)),
              "up.weight_shape": ("I64", (2,))}  # fmt: skip
NVFP4 = {"up.weight_packed": ("U8", (64, 64)), "up.weight_scale": ("F8_E4M3", (64, 8)),
         "up.weight_global_scale": ("F32", (1,))}  # fmt: skip
MXFP4 = {"up_blocks": ("U8", (64, 4, 16)), "up_scales": ("U8", (64, 4))}
FP8 = {"up.weight": ("F8_E4M3", (64, 128)), "up.weight_scale_inv": ("F32", (1, 1))}
GROUPS = {"group_0": {"weights": {"num_bits": 4, "type": "int"}}}


@pytest.mark.parametrize(
    "tensors, quantization, more",
    [
        (GPTQ, {"quant_method": "gptq", "bits": 4, "group_size": 32}, 64),
        (AWQ, {"quant_method": "awq", "bits": 4}, 0),
        (COMPRESSED, {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": GROUPS}, 0),
        (NVFP4, {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized",
                 "config_groups": {"g": {"weights": {"num_bits": 4, "type": "float"}}}}, 0),
        (MXFP4, {"quant_method": "mxfp4"}, 0),
        (FP8, {"quant_method": "fp8", "weight_block_size": [128, 128]}, 0),
        (FP8, None, 0),  # an element is a parameter, whoever scales it
    ],
)  # fmt: skip
def test_packings(tmp_path: Path, tensors: Any, quantization: Any, more: int) -> None:
    weights = packed(tmp_path, tensors, quantization)
    assert weights.params == 128 * 64 + more
    assert not weights.notes


def test_mxfp4_takes_a_quarter_more_than_four_bits(tmp_path: Path, archscope: Command) -> None:
    packed(tmp_path, MXFP4, {"quant_method": "mxfp4"})  # 32 weights: 16 bytes and a scale of one
    ran = archscope("trace", str(tmp_path / "model.safetensors"), "--depth", "1", "--format", "json")
    rows = json.loads(ran.out)["tensors"]
    assert sum(row["stored"] for row in rows) * 8 / (64 * 128) == 4.25


@pytest.mark.parametrize("tensors", [GPTQ, AWQ, COMPRESSED, NVFP4, MXFP4])
@pytest.mark.parametrize("quantization", [None, {"quant_method": "new"}, {"quant_method": "gptq", "bits": 5}])
def test_an_unknown_packing_is_unknown(tmp_path: Path, tensors: Any, quantization: Any, archscope: Command) -> None:
    weights = packed(tmp_path, tensors, quantization)
    assert weights.params is None
    assert "unknown" in weights.notes[0]
    ran = archscope("table", str(tmp_path / "model.safetensors"), "--format", "json")
    row = json.loads(ran.out)[0]
    assert row["params"] is None
    assert row["macs"] is None
    assert row["memory"] == weights.nbytes


# ----------------------------------------------------------------------------------------------------- the commands


def test_tables(tmp_path: Path, archscope: Command) -> None:
    file = safetensors(tmp_path / "net.safetensors", {"a.b.weight": ("F32", (3, 5)), "a.b.bias": ("F32", (3,)),
                                                      "a.bn.running_mean": ("F32", (7,))})  # fmt: skip
    rows = json.loads(archscope("trace", str(file), "--format", "json").out)["tensors"]
    assert [(row["path"], row["params"], row["stored"], row["bits"]) for row in rows] == [
        ("a.b.weight", 15, 60, 32), ("a.b.bias", 3, 12, 32), ("a.bn.running_mean", 0, 28, None),
    ]  # fmt: skip
    rows = json.loads(archscope("trace", str(file), "--depth", "1", "--format", "json").out)["tensors"]
    assert [(row["path"], row["params"], row["stored"], row["bits"]) for row in rows] == [("a", 18, 100, 32)]
    ran = archscope("table", str(file), "--format", "json")
    (row,) = json.loads(ran.out)
    assert ran.code == 0
    assert (row["params"], row["memory"], row["macs"], row["flops"]) == (18, 100, None, None)


@pytest.mark.parametrize("command", ["explain", "draw", "lock", "sizes", "reconcile"])
def test_what_needs_a_run_says_so(tmp_path: Path, archscope: Command, command: str) -> None:
    file = safetensors(tmp_path / "net.safetensors", {"a": ("F32", (3,))})
    ran = archscope(command, str(file), *(["--lock", str(tmp_path / "x.lock")] if command == "lock" else []))
    assert ran.code in (1, 2)
    assert "no operators" in ran.err + ran.out


# ----------------------------------------------------------------------------------------- a file against its model


def file_of(model: str, path: Path, **changed: Any) -> Path:
    """A file with the names, shapes and types that PyTorch itself gives a model's state."""
    import torch

    from archscope import load

    letters = {torch.float32: "F32", torch.int64: "I64"}
    state = load(model)[0].state_dict()
    tensors = {name: (letters[t.dtype], tuple(t.shape)) for name, t in state.items()}
    return safetensors(path, {name: one for name, one in (tensors | changed).items() if one is not None})


def verified(archscope: Command, model: str, file: Path) -> tuple[int, dict[str, Any]]:
    ran = archscope("verify", model, "--file", str(file), "--format", "json")
    return ran.code, json.loads(ran.out)[0]


def test_a_file_of_the_model(tmp_path: Path, archscope: Command) -> None:
    code, row = verified(archscope, "resnet18", file_of("resnet18", tmp_path / "net.safetensors"))
    assert (code, row["verified"], row["disagreements"], row["stated"]) == (0, True, 0, 0)
    assert row["params"] == totals(record_of("resnet18"))["params"]


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"more.weight": ("F32", (2,))}, ["more.weight", "not in the model"]),
        ({"fc3.weight": None}, ["fc3.weight", "not in the file", "10×84"]),
        ({"fc3.weight": ("F32", (84, 10))}, ["fc3.weight", "84×10", "10×84"]),
        ({"fc3.bias": ("BF16", (10,))}, ["fc3.bias", "bfloat16", "float32"]),
    ],
)
def test_each_difference_is_named(tmp_path: Path, archscope: Command, changed: Any, words: list[str]) -> None:
    from archscope import load

    names = list(load("lenet")[0].state_dict())
    ours = {"fc3.weight": names[-2], "fc3.bias": names[-1]}  # the last layer, whatever it is called
    changed = {ours.get(name, name): value for name, value in changed.items()}
    code, row = verified(archscope, "lenet", file_of("lenet", tmp_path / "net.safetensors", **changed))
    assert (code, row["disagreements"]) == (1, 1)
    (sentence,) = row["wrong"]
    for word in words:
        assert ours.get(word, word) in sentence


def test_counts_that_a_file_leaves_out(tmp_path: Path, archscope: Command) -> None:
    """PyTorch loads a batch norm without its counter, and not without its statistics."""
    file = file_of("resnet18", tmp_path / "net.safetensors", **{"bn1.num_batches_tracked": None})
    code, row = verified(archscope, "torchvision:resnet18", file_of("torchvision:resnet18", file,
                                                                    **{"bn1.num_batches_tracked": None}))  # fmt: skip
    assert (code, row["stated"]) == (0, 1)
    file = file_of("torchvision:resnet18", tmp_path / "net.safetensors", **{"bn1.running_mean": None})
    assert verified(archscope, "torchvision:resnet18", file)[0] == 1


def test_tied_weights_and_a_prefix(tmp_path: Path, archscope: Command) -> None:
    pytest.importorskip("transformers")
    config(tmp_path, model_type="gpt2", architectures=["GPT2LMHeadModel"], n_embd=8, n_layer=1, n_head=2,
           vocab_size=11, n_positions=16, bos_token_id=0, eos_token_id=0)  # fmt: skip
    whole = file_of(f"{tmp_path}/config.json", tmp_path / "net.safetensors", **{"lm_head.weight": None})
    code, row = verified(archscope, f"{tmp_path}/config.json", whole)
    assert (code, row["stated"]) == (0, 1)
    bare = json.loads(whole.read_bytes()[8 : 8 + struct.unpack("<Q", whole.read_bytes()[:8])[0]])
    short = {name.removeprefix("transformer."): (one["dtype"], one["shape"])
             for name, one in bare.items() if name != "__metadata__"}  # fmt: skip
    code, row = verified(archscope, str(tmp_path), safetensors(tmp_path / "bare.safetensors", short))
    assert code == 0
    assert "'transformer'" in row["reasons"][0]


def test_packed_weights_against_their_model(tmp_path: Path, archscope: Command) -> None:
    pytest.importorskip("transformers")
    config(tmp_path, model_type="llama", architectures=["LlamaForCausalLM"], hidden_size=32, intermediate_size=64,
           num_hidden_layers=1, num_attention_heads=4, vocab_size=16,
           quantization_config={"quant_method": "gptq", "bits": 4})  # fmt: skip
    at = "model.layers.0.mlp.up_proj"
    changed = {f"{at}.weight": None, f"{at}.qweight": ("I32", (32 * 4 // 32, 64)), f"{at}.scales": ("F16", (1, 64)),
               f"{at}.qzeros": ("I32", (1, 8)), f"{at}.g_idx": ("I32", (32,))}  # fmt: skip
    file = file_of(f"{tmp_path}/config.json", tmp_path / "net.safetensors", **changed)
    code, row = verified(archscope, f"{tmp_path}/config.json", file)
    assert (code, row["wrong"]) == (0, [])
    changed[f"{at}.qweight"] = ("I32", (32 * 8 // 32, 64))
    file = file_of(f"{tmp_path}/config.json", tmp_path / "net.safetensors", **changed)
    code, row = verified(archscope, f"{tmp_path}/config.json", file)
    assert code == 1
    assert f"{2 * 32 * 64:,}" in row["wrong"][0]
    assert f"{32 * 64:,}" in row["wrong"][0]


# --------------------------------------------------------------------------------------------------- configurations

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 64,
         "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100}  # fmt: skip


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_configuration(tmp_path: Path, as_folder: bool) -> None:
    pytest.importorskip("transformers")
    file = config(tmp_path, **LLAMA)
    found = totals(record_of(str(tmp_path) if as_folder else str(file)))
    attention = 32 * 32 * 2 + 32 * 16 * 2  # q and o; k and v of two heads of 8
    layer = attention + 3 * 32 * 64 + 2 * 32
    assert found["params"] == 2 * 100 * 32 + 2 * layer + 32
    assert totals(record_of(f"{file}@num_hidden_layers=3"))["params"] == found["params"] + layer


def test_a_configuration_runs_no_code_of_the_folder(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config(tmp_path, model_type="mine", auto_map={"AutoModel": "modeling_mine.Mine"})
    (tmp_path / "modeling_mine.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(SpecError, match="code is not run"):
        record_of(str(tmp_path))


@pytest.mark.parametrize(
    "values, why",
    [
        ({}, "model_type"),
        ({**LLAMA, "model_type": "lama"}, "did you mean"),
        ({**LLAMA, "hidden_size": 1 << 60}, f"{1 << 60}"),
        ({**LLAMA, "num_hidden_layers": 10**9}, "num_hidden_layers"),
    ],
)
def test_a_configuration_of_nothing(tmp_path: Path, values: Any, why: str) -> None:
    pytest.importorskip("transformers")
    config(tmp_path, **values)
    with pytest.raises(SpecError, match=why):
        record_of(str(tmp_path))


def test_a_folder_without_a_configuration(tmp_path: Path, archscope: Command) -> None:
    for name in (str(tmp_path), f"{tmp_path}/nothing"):
        ran = archscope("trace", name)
        assert ran.code == 2
        assert len(ran.err.splitlines()) == 1


# ---------------------------------------------------------------------------------------------------- damaged files


def damaged(data: bytes, header: int, chance: random.Random) -> bytes:
    """A file with a few bytes of its header changed, cut out or put in, or cut off."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(min(header, len(found)) or 1)
        match chance.randrange(5):
            case 0:
                found[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del found[at : at + chance.randint(1, 8)]
            case 2:
                found[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 8)))
            case 3:
                found[at : at + 8] = struct.pack("<Q", 1 << chance.choice([16, 31, 60, 63]))
            case _:
                del found[chance.randrange(len(found) + 1) :]
    return bytes(found)


CHILD = """
    import contextlib, io, json, sys, time
    from pathlib import Path
    from typer.testing import CliRunner
    from archscope.cli import app

    def most():  # kB; what getrusage says begins with the peak of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    def run(path):
        began = time.perf_counter()
        result = CliRunner().invoke(app, ["trace", path])
        return result.exit_code, result.stderr, time.perf_counter() - began

    good, bad = json.loads(sys.stdin.read())
    first = [run(path) for path in good]
    peak = most()
    found = [run(path) for path in bad]
    print(json.dumps([first, found, most() - peak]))
"""


def test_two_hundred_damaged_headers(tmp_path: Path) -> None:
    """Each ends in one sentence or is still a whole file; none takes a second, none takes memory, none is a bug."""
    chance = random.Random(16)
    tensors: dict[str, Any] = {f"layers.{i}.weight": ("BF16", (8, 8)) for i in range(4)}
    made = [safetensors(tmp_path / "good.safetensors", tensors),
            gguf(tmp_path / "good.gguf", [("w", (256, 2), 12, 288), ("v", (8,), 0, 32)],
                 [text("a.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")]),
            tmp_path / "good.safetensors.index.json"]  # fmt: skip
    made[2].write_text(json.dumps({"weight_map": dict.fromkeys(tensors, "good.safetensors")}))
    bad = []
    for number in range(200):
        good = made[number % len(made)]
        file = tmp_path / f"bad{number}.{good.name.removeprefix('good.')}"
        data = good.read_bytes()
        header = {".gguf": 160, ".json": len(data)}.get(good.suffix, len(data) - 512)
        file.write_bytes(damaged(data, header, chance))
        bad.append(str(file))
    asked = json.dumps([list(map(str, made)), bad])
    child = [sys.executable, "-c", textwrap.dedent(CHILD)]
    ran = subprocess.run(child, input=asked, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    first, found, kilobytes = json.loads(ran.stdout)
    assert [code for code, *_ in first] == [0] * len(made)
    assert kilobytes < 200_000
    refused = 0
    for file, (code, err, seconds) in zip(bad, found, strict=True):
        assert code in (0, 2), (file, err)
        assert seconds < 1, file
        if code == 2:
            refused += 1
            assert len(err.splitlines()) == 1
            assert "bug" not in err
    assert refused > 150
