"""The table of published language models: `python benchmarks/language_models.py [--write]`.

Each model is built without weights from its published configuration and run with a prompt and one more token behind
its cache. `--write` puts the table into `reports/language-models.md`.
"""

import argparse
import time
from pathlib import Path

from archscope.core.formats import text_of
from archscope.report.language import Setting, models_table
from archscope.sources.spec import expand

PAGE = Path(__file__).parent.parent / "reports" / "language-models.md"


def llama(hidden: int, layers: int, heads: int, groups: int, inner: int, words: int, more: str = "") -> str:
    """The sizes of a decoder, as arguments of its configuration."""
    return (
        f"@hidden_size={hidden}@num_hidden_layers={layers}@num_attention_heads={heads}@num_key_value_heads={groups}"
        f"@intermediate_size={inner}@vocab_size={words}{more}"
    )


def gpt2(hidden: int, layers: int, heads: int) -> str:
    """The sizes of a GPT-2."""
    return f"transformers:GPT2Config@n_embd={hidden}@n_layer={layers}@n_head={heads}"


LLAMA, QWEN2, QWEN3 = "transformers:LlamaConfig", "transformers:Qwen2Config", "transformers:Qwen3Config"
WHOLE = "@use_sliding_window=false"
EXPERTS = "@num_experts=128@num_experts_per_tok=8@moe_intermediate_size="
MODELS = {  # by their names; the sizes are those of each model's config.json
    "GPT-2": gpt2(768, 12, 12),
    "GPT-2 medium": gpt2(1024, 24, 16),
    "GPT-2 large": gpt2(1280, 36, 20),
    "GPT-2 XL": gpt2(1600, 48, 25),
    "TinyLlama 1.1B": LLAMA + llama(2048, 22, 32, 4, 5632, 32000),
    "Llama 2 7B": LLAMA + llama(4096, 32, 32, 32, 11008, 32000),
    "Llama 2 13B": LLAMA + llama(5120, 40, 40, 40, 13824, 32000),
    "Llama 2 70B": LLAMA + llama(8192, 80, 64, 8, 28672, 32000),
    "Llama 3.1 8B": LLAMA + llama(4096, 32, 32, 8, 14336, 128256),
    "Llama 3.1 70B": LLAMA + llama(8192, 80, 64, 8, 28672, 128256),
    "Llama 3.1 405B": LLAMA + llama(16384, 126, 128, 8, 53248, 128256),
    "Llama 3.2 1B": LLAMA + llama(2048, 16, 32, 8, 8192, 128256, "@tie_word_embeddings=true"),
    "Llama 3.2 3B": LLAMA + llama(3072, 28, 24, 8, 8192, 128256, "@tie_word_embeddings=true"),
    "Mistral 7B v0.1": "transformers:MistralConfig",
    "Mixtral 8x7B": "transformers:MixtralConfig",
    "Mixtral 8x22B": "transformers:MixtralConfig" + llama(6144, 56, 48, 8, 16384, 32768),
    "Qwen2.5 0.5B": QWEN2 + llama(896, 24, 14, 2, 4864, 151936, "@tie_word_embeddings=true"),
    "Qwen2.5 7B": QWEN2 + llama(3584, 28, 28, 4, 18944, 152064),
    "Qwen2.5 72B": QWEN2 + llama(8192, 80, 64, 8, 29568, 152064),
    "Qwen3 0.6B": QWEN3 + llama(1024, 28, 16, 8, 3072, 151936, "@head_dim=128@tie_word_embeddings=true"),
    "Qwen3 8B": QWEN3 + llama(4096, 36, 32, 8, 12288, 151936, "@head_dim=128"),
    "Qwen3 32B": QWEN3 + llama(5120, 64, 64, 8, 25600, 151936, "@head_dim=128"),
    "Qwen3 30B-A3B": "transformers:Qwen3MoeConfig" + llama(2048, 48, 32, 4, 6144, 151936, f"@head_dim=128{EXPERTS}768"),
    "Qwen3 235B-A22B": "transformers:Qwen3MoeConfig"
    + llama(4096, 94, 64, 4, 12288, 151936, f"@head_dim=128{EXPERTS}1536"),
    "Phi-2": "transformers:PhiConfig" + llama(2560, 32, 32, 32, 10240, 51200),
    "StarCoder2 15B": "transformers:Starcoder2Config"
    + llama(6144, 40, 48, 4, 24576, 49152, "@sliding_window=4096@tie_word_embeddings=false"),
    "Pythia 6.9B": "transformers:GPTNeoXConfig@hidden_size=4096@num_hidden_layers=32@num_attention_heads=32"
    "@intermediate_size=16384@vocab_size=50432",
    "gpt-oss-20b": "transformers:GptOssConfig@num_hidden_layers=24@num_local_experts=32",
    "gpt-oss-120b": "transformers:GptOssConfig",
    "DeepSeek-V3": "transformers:DeepseekV3Config",
}


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    started, used = time.time(), time.process_time()
    specs = expand(MODELS.values())
    table = models_table(specs, Setting(context=8192))
    names = dict(zip(MODELS.values(), MODELS, strict=True))
    rows = tuple({**row, "model": names[row["model"]]} for row in table.rows)
    text = text_of(type(table)(table.title, table.columns, rows, table.notes, table.caption), "md")
    print(text, f"\n{time.time() - started:.0f} s, of which {time.process_time() - used:.0f} s of this process")
    if options.write:
        head = "<!-- python benchmarks/language_models.py --write -->\n# Published language models\n\n"
        PAGE.write_text(head + text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
