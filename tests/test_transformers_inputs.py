"""What the models of transformers are given by default, and what their default configurations leave open."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran

from archscope import TraceError, totals
from archscope.sources.loading import inputs_of
from archscope.sources.records import record_of
from archscope.sources.spec import parse

pytest.importorskip("transformers", reason="its models are built")


def given(name: str) -> dict[str, tuple[int, ...]]:
    return {one.name: one.input.shape for one in inputs_of(parse(f"transformers:{name}"))}


def test_words_of_a_docstring_are_sides_of_the_configuration() -> None:
    assert given("BertConfig") == {"input_ids": (1, 128)}
    assert given("WhisperConfig") == {"input_features": (1, 80, 2 * 1500), "decoder_input_ids": (1, 128)}
    assert given("ASTConfig") == {"input_values": (1, 1024, 128)}  # frames, then bins
    assert given("VideoMAEConfig") == {"pixel_values": (1, 16, 3, 224, 224)}
    assert given("VJEPA2Config") == {"pixel_values_videos": (1, 64, 3, 256, 256)}
    assert given("EncodecConfig") == {"input_values": (1, 1, 16_000)}
    # 16·16 patches of 3 channels, 2 images and 14·14 points, and their grid
    assert given("Qwen2_5_VLConfig") == {"input_ids": (1, 128)}
    assert given("Qwen3VLVisionConfig") == {"hidden_states": (16 * 16, 3 * 2 * 16 * 16), "grid_thw": (1, 3)}
    assert given("BrosConfig")["bbox"] == (1, 128, 8)
    assert given("PatchTSTConfig") == {"past_values": (1, 32, 1)}


@pytest.mark.parametrize("name", ["VideoMAEConfig", "LxmertConfig", "PatchTSMixerConfig", "DecisionTransformerConfig"])
def test_models_run_on_them(name: str) -> None:
    found = totals(record_of(f"transformers:{name}"))
    assert found["macs"] > 0 and not found["unknown"]


def test_patches_one_by_one() -> None:
    """The blocks of Qwen3-VL's tower: q, k, v and output, attention over all patches, and two layers of the MLP."""
    small = "@depth=1@hidden_size=64@intermediate_size=128@num_heads=4@out_hidden_size=32@deepstack_visual_indexes=[]"
    found = totals(record_of(f"transformers:Qwen3VLVisionConfig{small}"))
    n, c = 16 * 16, 64
    patch = n * (3 * 2 * 16 * 16) * c
    block = n * (3 * c * c + c * c + 2 * c * 2 * c) + 2 * n * n * c
    merger = n // 4 * (4 * c * 4 * c + 4 * c * 32)
    assert found["macs"] == patch + block + merger


def test_a_configuration_that_leaves_something_open_is_completed_and_it_is_said() -> None:
    record = record_of("transformers:NemotronConfig@num_hidden_layers=1@hidden_size=64@num_attention_heads=4")
    assert any("num_key_value_heads=4" in note and "does not state" in note for note in record.notes)
    record = record_of("transformers:NemotronConfig@num_hidden_layers=1@num_key_value_heads=8")
    assert not any("num_key_value_heads" in note for note in record.notes)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("CohereCompassTextConfig@num_hidden_layers=1", "rope_parameters="),
        ("HunYuanVLTextConfig@num_hidden_layers=1", "rope_parameters="),
        ("Dots1Config@num_hidden_layers=1", "n_routed_experts=128"),
        ("EdgeTamVisionConfig", "backbone_config.architecture=repvit_m1"),
    ],
)
def test_defaults_that_do_not_fit_together(name: str, taken: str) -> None:
    record = record_of(f"transformers:{name}")
    assert totals(record)["macs"] > 0 and any(taken in note for note in record.notes)


def test_what_a_default_cannot_have_is_said(archscope: Callable[..., Ran]) -> None:
    ran = archscope("trace", "transformers:BarkConfig")
    assert ran.code == 2 and "transformers:BarkSemanticModel" in ran.err
    ran = archscope("trace", "transformers:PerceptionLMConfig")
    assert ran.code == 2 and "config.json of a published model" in ran.err


READS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(300, 300)
        self.register_buffer("tail", torch.arange(300 * 300).cpu()[300 * 300 // 2 :])
        self.large = float(self.lin.weight.abs().max()) > 0
    def forward(self, x):
        return self.lin(x) if self.large else x
"""


def test_a_constructor_that_reads_values_is_run_with_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reads.py").write_text(READS)
    monkeypatch.chdir(tmp_path)
    record = record_of("reads.py:Net", "2x300")
    assert totals(record)["macs"] == 2 * 300 * 300
    assert any("built with its weights" in note for note in record.notes)
    monkeypatch.setattr("archscope.tracing.values.MEMORY", 1000)
    with pytest.raises(TraceError, match="needs more than"):
        record_of("reads.py:Net", "2x300", method="forward")


def test_weights_that_are_too_large_are_refused() -> None:
    from torch import nn

    from archscope.tracing.weightless import within

    with within(4 * (3 * 2 + 2)):
        nn.Linear(3, 2)
    with pytest.raises(TraceError, match="needs more than"), within(4 * (3 * 2 + 2) - 1):
        nn.Linear(3, 2)
    register: Any = nn.Module.register_parameter
    assert register.__name__ == "register_parameter"
