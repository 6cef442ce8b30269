"""`verify-table` on figures of language models: the cache, active parameters, training FLOPs, and known mistakes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from archscope.peers.llm_figures import MISTAKES, tokens_of, width_of
from archscope.peers.printed_table import lines_of

pytest.importorskip("transformers")

# Llama-3-8B: 32 layers, 32 heads of 4096/32 = 128, 8 key–value heads
LLAMA = "transformers:LlamaConfig@num_hidden_layers=32@num_key_value_heads=8@vocab_size=128256@intermediate_size=14336"
# 2 layers, 8 heads of 32 where 64/8 = 8, 4 key–value heads, a window of 10: 9 rows of it are kept
MISTRAL = (
    "transformers:MistralConfig@num_hidden_layers=2@hidden_size=64@num_attention_heads=8@num_key_value_heads=4"
    "@head_dim=32@sliding_window=10@vocab_size=97@intermediate_size=128"
)
# 8 experts, of which a token takes 2
MIXTRAL = (
    "transformers:MixtralConfig@num_hidden_layers=2@hidden_size=64@num_attention_heads=4@num_key_value_heads=2"
    "@head_dim=16@vocab_size=97@intermediate_size=128@num_local_experts=8@num_experts_per_tok=2"
)
EXPERT = 3 * 64 * 128
TABLE = 97 * 64
# queries and output, keys and values, router, two norms; twice; the norm at the end
SHARED = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 64 * 8 + 2 * 64) + 64
ALL = 2 * TABLE + SHARED + 2 * 8 * EXPERT
# Llama-3-8B: two tables; of a layer queries and output, keys and values, three matrices, two norms; the norm at the end
LLAMA_ALL = 2 * 128256 * 4096 + 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096) + 4096
# of 1,024 tokens: each meets all matrices and the head; 32 layers of 32 heads of 128, T² or T(T + 1)/2 pairs
MATRICES = 1024 * (LLAMA_ALL - 128256 * 4096 - (2 * 32 + 1) * 4096)
PAIR = 32 * 32 * (128 + 128)
CAUSAL = MATRICES + PAIR * 1024 * 1025 // 2
FULL = MATRICES + PAIR * 1024**2
TRAIN = "Training FLOPs (15T tokens)"

CASES = [
    (LLAMA, "KV cache a token", 2 * 32 * 8 * 128 * 2, "agrees", "bytes of 1 token, 2 a number"),
    (LLAMA, "KV cache a token (KiB)", "128", "agrees", ""),  # 131,072 = 128·1,024
    (LLAMA, "KV cache a token, fp8", 2 * 32 * 8 * 128, "agrees", "1 a number"),
    (LLAMA, "KV cache at 8K tokens", "1.0 GiB", "agrees", "8,192 tokens"),  # 131,072·8,192 = 2^30
    (LLAMA, "KV cache a token", 2 * 32 * 32 * 128 * 2, "explained", "attention heads in the place of key–value heads"),
    (LLAMA, "KV cache at 8K tokens (GB)", "1.000", "explained", "GB for GiB"),  # 1.074 GB
    (LLAMA, "KV cache at 8K tokens (GB)", "4.000", "explained", "key–value heads, and GB for GiB"),
    (LLAMA, "KV cache at 8K tokens (GB)", "3.000", "disagrees", "2.79 times 1,073,741,824"),  # 3·10^9 / 2^30
    (LLAMA, "KV cache a token (KiB)", "131.07", "explained", "KiB for KB"),
    (MISTRAL, "KV cache a token", 2 * 2 * 4 * 32 * 2, "agrees", ""),
    (MISTRAL, "KV cache a token", 2 * 2 * 4 * (64 // 8) * 2, "explained", "head_dim taken as hidden/heads"),
    (MISTRAL, "KV cache @ 100", 2 * 2 * 4 * 32 * 2 * 9, "agrees", ""),
    (MISTRAL, "KV cache @ 100", 2 * 2 * 4 * 32 * 2 * 100, "explained", "the sliding window forgotten"),
    (MISTRAL, "KV cache @ 100", 2 * 2 * 4 * 32 * 2 * 16, "agrees", "in blocks of 16"),
    (LLAMA, "Prefill MACs, causal, 1K tokens", CAUSAL, "agrees", "a prompt of 1,024 tokens"),
    (LLAMA, "Prefill MACs, causal, 1K tokens", FULL, "explained", "the causal half forgotten"),
    (LLAMA, "Causal FLOPs (1K tokens)", 2 * CAUSAL, "agrees", "FLOPs of a prompt of 1,024 tokens"),
    (LLAMA, "Causal FLOPs (1K tokens)", 2 * FULL, "explained", "the causal half forgotten"),
    (LLAMA, "Causal FLOPs (1K tokens)", CAUSAL, "explained", "MACs in a column of FLOPs"),
    (LLAMA, "Causal FLOPs (1K tokens)", 2 * FULL + 1, "disagrees", "times"),
    (MIXTRAL, "Active params", TABLE + SHARED + 2 * 2 * EXPERT, "agrees", "without the input table"),
    (MIXTRAL, "Active params", SHARED + 2 * 2 * EXPERT, "agrees", "without table and head"),
    (MIXTRAL, "Active params", 2 * TABLE + SHARED + 2 * 2 * EXPERT, "agrees", "embeddings counted as active"),
    (MIXTRAL, "Active params", ALL, "explained", "every expert counted as active"),
    (MIXTRAL, "Active params", ALL * 2 // 8, "explained", "the whole model scaled by the share of experts"),
    (LLAMA, TRAIN, f"{6 * LLAMA_ALL * 15 / 10**11:.4f}e23", "agrees", "N all parameters"),
    (LLAMA, TRAIN, f"{2 * LLAMA_ALL * 15 / 10**11:.4f}e23", "explained", "2ND for 6ND"),
    (LLAMA, TRAIN, f"{4 * LLAMA_ALL * 15 / 10**11:.4f}e23", "disagrees", "0.667 times"),
]


def test_figures_and_mistakes(archscope: Callable[..., Ran], tmp_path: Path) -> None:
    tables = [f"| Model | {heading} |\n| --- | --- |\n| {spec} | {text} |\n" for spec, heading, text, *_ in CASES]
    (tmp_path / "table.md").write_text("\n".join(tables), encoding="utf-8")
    ran = archscope("verify-table", str(tmp_path / "table.md"), "--format", "json")
    found = json.loads(ran.out)
    assert ran.code == 1  # some disagree
    assert len(found) == len(CASES)
    for row, (_, heading, text, verdict, because) in zip(found, CASES, strict=True):
        assert row["verdict"] == verdict, (heading, text, row["because"])
        assert because in row["because"]


def test_each_mistake_is_tried() -> None:
    told = " ".join(because for *_, verdict, because in CASES if verdict == "explained")
    names = [name for registry in MISTAKES.values() for name in registry]
    assert len(names) == 7
    assert all(name.partition(":")[0] in told for name in names if "heads in the place" not in name)
    assert "attention heads in the place of key–value heads" in told


def test_other_networks_have_no_cache(archscope: Callable[..., Ran], tmp_path: Path) -> None:
    """Active parameters and training FLOPs of a convolutional network are read as parameters and FLOPs, as before."""
    text = "model,active params (M),KV cache (MB),training FLOPs (G),causal GMACs\nVGG-16,138,3,31,15.5\n"
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    found = json.loads(archscope("verify-table", str(tmp_path / "table.csv"), "--format", "json").out)
    assert [row["verdict"] for row in found] == ["agrees", "not run", "agrees", "agrees"]
    assert "no KV cache" in found[1]["because"]


def test_a_configuration_in_a_file(archscope: Callable[..., Ran], tmp_path: Path) -> None:
    settings = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps({**settings, "num_key_value_heads": 2, "vocab_size": 97}))
    (tmp_path / "table.csv").write_text(f"model,KV cache a token\n{tmp_path}/config.json,{2 * 2 * 2 * 16 * 2}\n")
    [row] = json.loads(archscope("verify-table", str(tmp_path / "table.csv"), "--format", "json").out)
    assert row["verdict"] == "agrees"


@pytest.mark.parametrize(
    ("cell", "value"),
    [("128 KiB", 128 * 1024), ("0.13 MB", 130_000), ("131,072", 131_072), ("131072 B", 131_072), ("2 GiB", 2 * 2**30)],
)
def test_bytes(cell: str, value: int, tmp_path: Path) -> None:
    (tmp_path / "table.md").write_text(f"| Model | KV cache |\n|---|---|\n| x | {cell} |", encoding="utf-8")
    [line] = lines_of(tmp_path / "table.md")
    assert [one.value for _, one in line.cells[0].readings] == [value]


@pytest.mark.parametrize("cell", ["128 apples", "KiB", "1.2.3 GB"])
def test_what_is_no_number_of_bytes(cell: str, tmp_path: Path) -> None:
    (tmp_path / "table.md").write_text(f"| Model | KV cache |\n|---|---|\n| x | {cell} |", encoding="utf-8")
    [line] = lines_of(tmp_path / "table.md")
    assert line.cells[0].readings == ()


def test_headings() -> None:
    headings = (
        "KV cache / token",
        "KV cache at 8,192 tokens",
        "KV cache (32K context)",
        "KV cache @ 4096 (GiB)",
        "KV cache T=7",
    )
    assert [tokens_of(one) for one in headings] == [1, 8192, 32 * 1024, 4096, 7]
    assert tokens_of("Training FLOPs (1.5T tokens)", 1000) == 1_500_000_000_000
    assert [width_of(one) for one in ("KV cache", "KV cache (bf16)", "KV cache fp8", "KV cache, float32")] == [
        2,
        2,
        1,
        4,
    ]
