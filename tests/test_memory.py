"""The memory and the work of a step, layer by layer: figures derived by hand, published ones, and the command."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import archscope
from archscope.analysis.step_table import block_paths, memory_table
from archscope.analysis.training import (
    after_forward,
    memory_curve,
    peak,
    shares,
    training_macs,
    uncounted_in,
    work_by_phase,
)
from archscope.cli import app
from archscope.core.record import Trace
from archscope.report.step_plot import curves, memory_svg


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def step(model: nn.Module, *inputs: tuple[int, ...], **conditions: object) -> Trace:
    return archscope.trace_step(model, inputs, **conditions)  # type: ignore[arg-type]


def test_macs_of_a_product() -> None:
    trace = step(nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 3)), (4, 10))
    first, second = 4 * 10 * 20, 4 * 20 * 3
    # the first layer has no gradient for the data
    assert work_by_phase(trace)["forward"][0] == first + second
    assert work_by_phase(trace)["backward"][0] == first + 2 * second
    assert {one.path: one.macs for one in shares(trace) if one.macs} == {"0": 2 * first, "1": 3 * second}


@pytest.mark.parametrize("groups", [1, 4, 32])
def test_grouped_convolutions_cost_three_times_their_forward(groups: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 3, padding=1, groups=groups), nn.Flatten())
    grouped = next(one for one in shares(step(model, (2, 3, 8, 8))) if one.path == "1")
    assert grouped.macs == 3 * (2 * 32 * 8 * 8) * 9 * (32 // groups)


def test_recomputation_adds_its_work() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.Sequential(nn.Linear(10, 30), nn.Linear(30, 10)), nn.Linear(10, 3))
    plain, again = step(model, (4, 10)), step(model, (4, 10), checkpoint=["1"])
    # what the backward needs is the input of the second layer: the first runs again
    assert training_macs(again) - training_macs(plain) == 4 * 10 * 30
    assert work_by_phase(again)["recompute"][0] == 4 * 10 * 30
    assert after_forward(plain) - after_forward(again) == 4 * (4 * 30)


@pytest.mark.parametrize("spec", ["lenet", "mnist-cnn", "inception-block", "gru-classifier"])
def test_shares_and_terms_add_up(spec: str) -> None:
    model, inputs = archscope.load(spec, batch=2)
    trace = archscope.trace_step(model, inputs, optimizer="adam")
    top = peak(trace)
    assert top.nbytes == max(memory_curve(trace)) == sum(top.terms.values())
    assert sum(sum(one.bytes.values()) for one in shares(trace)) == top.nbytes
    assert sum(one.macs for one in shares(trace)) == training_macs(trace)
    assert [sum(at) for at in zip(*curves(trace).values(), strict=True)] == memory_curve(trace)
    assert not uncounted_in(trace)


def test_the_forward_of_a_step_has_the_macs_of_a_trace() -> None:
    model, inputs = archscope.load("lenet")
    trace = archscope.trace_step(model, inputs)
    assert work_by_phase(trace)["forward"][0] == archscope.totals(archscope.trace(model, inputs, train=True))["macs"]


def test_foreach_adam_holds_five_times_the_parameters_at_its_peak() -> None:
    # parameters, gradients, two moments, and the denominators: pytorch/tutorials#2568,
    # where ViT-L/16 takes 1.2 + 1.2 + 2.4 + 1.2 GB
    model = nn.Linear(1000, 1000)
    n = 4 * (1000 * 1000 + 1000)
    top = peak(step(model, (1, 1000), optimizer="adam"))
    assert top.phase == "optimizer"
    assert [top.terms[role] for role in ("parameter", "gradient", "temporary")] == [n, n, n]
    assert top.terms["optimizer state"] == 2 * n + 2 * 4  # a counter of steps for weight and bias


class Block(nn.Module):
    """A transformer layer as in Korthikanti et al. 2022, figure 2: attention and MLP with dropout, in 16 bit."""

    def __init__(self, h: int, a: int) -> None:
        super().__init__()
        self.a = a
        self.ln1, self.ln2 = nn.LayerNorm(h), nn.LayerNorm(h)
        self.qkv, self.out = nn.Linear(h, 3 * h), nn.Linear(h, h)
        self.up, self.down = nn.Linear(h, 4 * h), nn.Linear(4 * h, h)
        self.drop, self.drop_scores, self.drop_mlp = nn.Dropout(0.1), nn.Dropout(0.1), nn.Dropout(0.1)
        self.gelu, self.softmax = nn.GELU(), nn.Softmax(-1)

    def forward(self, x):  # type: ignore[no-untyped-def]
        b, s, h = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(b, s, 3, self.a, h // self.a).permute(2, 0, 3, 1, 4).unbind()
        scores = self.drop_scores(self.softmax(q @ k.transpose(-1, -2)))
        x = x + self.drop(self.out((scores @ v).transpose(1, 2).reshape(b, s, h)))
        return x + self.drop_mlp(self.down(self.gelu(self.up(self.ln2(x)))))


def test_a_transformer_layer_saves_what_korthikanti_derive() -> None:
    """sbh(34 + 5as/h) bytes, term by term: Korthikanti et al. 2022, arXiv 2205.05198, section 4.1 and equation 1."""
    s, b, h, a = 64, 2, 32, 4
    model = nn.Sequential(nn.Linear(h, h), Block(h, a))
    trace = step(model, (b, s, h), precision="bf16")
    saved = {one.path: one.saved for one in shares(trace)}
    sbh, scores = s * b * h, a * s * s * b
    statistics = 2 * 4 * s * b  # of a layer norm, which the paper leaves out: mean and inverse deviation in 32 bit
    # layer norms: the input of each, 2; of the first it is the output of the layer before
    assert saved["0"] == 2 * sbh
    # attention: the input of the three products 2, q and k 4, v 2, the projection's input 2, dropout's mask 1: 11
    assert saved["1.ln1"] == 2 * sbh + statistics
    own = (4 + 2 + 2) * sbh  # q, k and v as products take them and the projection's input are made between the layers
    assert saved["1.drop"] == 1 * sbh
    # and per score: softmax's output 2, dropout's mask 1, dropout's output 2
    assert saved["1.softmax"] == 2 * scores
    assert saved["1.drop_scores"] == (1 + 2) * scores
    # MLP: the input of the first product 2, of GELU 8, of the second product 8, dropout's mask 1: 19
    assert saved["1.ln2"] == 2 * sbh + statistics
    assert (saved["1.up"], saved["1.gelu"], saved["1.drop_mlp"]) == (8 * sbh, 8 * sbh, 1 * sbh)
    # and so are the second layer norm's input 2, and the block's output 2, the first term of the layer behind it
    assert saved["1"] == own + (2 + 2) * sbh
    block = sum(n for path, n in saved.items() if path in ("0", "1") or path.startswith("1."))
    assert block - 2 * statistics - 2 * sbh == 34 * sbh + 5 * scores == sbh * (34 + 5 * a * s // h)


def test_vit_large_with_foreach_adam_takes_five_times_its_parameters() -> None:
    # pytorch/tutorials#2568: 1.2 + 1.2 + 2.4 + 1.2 GB
    model, inputs = archscope.load("torchvision:vit_l_16", batch=1)
    top = peak(archscope.trace_step(model, inputs, optimizer="adam"))
    parameters = 4 * 304_326_632  # torchvision's own page
    assert top.phase == "optimizer"
    assert [top.terms[role] for role in ("parameter", "temporary")] == [parameters] * 2
    # the class token's gradient stays a view of that of all 197 tokens of 1024
    assert top.terms["gradient"] == parameters + 4 * (197 - 1) * 1024
    counters = 4 * 296  # one for each of 296 parameters
    assert top.terms["optimizer state"] == 2 * parameters + counters
    assert [round(n / 1e9, 1) for n in (parameters, 2 * parameters)] == [1.2, 2.4]


@pytest.mark.filterwarnings("ignore")
def test_llama_2_7b_in_bf16_with_adamw_takes_54_gb() -> None:
    """4 × 13.5 GB without activations: torchtune#389."""
    transformers = pytest.importorskip("transformers", reason="the model is built by transformers")
    from archscope.tracing.weightless import weightless

    with weightless():
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(use_cache=False))
    ids = torch.zeros(1, 8, dtype=torch.int64)
    trace = archscope.trace_step(model, {"input_ids": ids}, optimizer="adamw", precision="bf16",
                                 implementation="for-loop")  # fmt: skip
    layer = 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096  # q, k, v, o; gate, up, down; two norms
    size = 2 * (2 * 32000 * 4096 + 32 * layer + 4096)
    assert size == 2 * 6_738_415_616
    terms = peak(trace).terms
    assert terms["parameter"] == terms["gradient"] == size
    assert terms["optimizer state"] == 2 * size + 4 * 291  # and a counter of steps for each of 291 parameters
    assert round(4 * size / 1e9) == 54


def test_the_table_and_its_notes() -> None:
    model, inputs = archscope.load("lenet", batch=4)
    table = memory_table(archscope.trace_step(model, inputs, optimizer="adamw"))
    assert table.totals is not None
    for key in ("parameter", "gradient", "optimizer_state", "saved", "temporary", "bytes", "macs"):
        assert table.totals.get(key, 0) == sum(row.get(key) or 0 for row in table.rows)


def test_the_command(tmp_path: Path) -> None:
    picture, record = tmp_path / "step.svg", tmp_path / "step.json"
    given = ["memory", "lenet", "--batch", "4", "--optimizer", "adamw", "--format", "json"]
    rows = json.loads(run(*given, "--plot", str(picture), "--save", str(record)))
    model, inputs = archscope.load("lenet", batch=4)
    whole = peak(archscope.trace_step(model, inputs, optimizer="adamw")).nbytes
    assert sum(row["bytes"] for row in rows) == whole
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    assert json.loads(run("memory", str(record), "--format", "json")) == rows
    assert "inference" in run("memory", "lenet", "--inference")


def test_inference_keeps_only_what_is_needed() -> None:
    model = nn.Sequential(*(nn.Linear(100, 100) for _ in range(8)))
    trace = step(model, (5, 100), optimizer=None)
    params = 8 * 4 * (100 * 100 + 100)
    assert peak(trace).nbytes == params + 3 * 4 * 5 * 100  # the model's input, and a layer's input and output
    assert [phase.name for phase in trace.phases] == ["forward"]


def test_blocks_that_are_worth_a_checkpoint() -> None:
    model, inputs = archscope.load("torchvision:resnet18", input=32, batch=2)
    assert block_paths(archscope.trace_step(model, inputs)) == [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)]


def test_the_picture_names_phases_and_peak() -> None:
    trace = step(nn.Linear(10, 3), (4, 10))
    text = memory_svg(trace)
    assert all(name in text for name in ("forward", "backward", "optimizer", "peak"))


class Asks(nn.Module):
    """A forward that branches on a small constant of its own, as transformers' masks do."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 16, bias=False), nn.Linear(16, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(4, device=x.device)
        return x + self.two(self.one(x).relu()) if bool((places.diff() == 1).all()) else x


def test_a_checkpoint_runs_a_branch_on_a_constant_again() -> None:
    """The first product of each block runs again: PyTorch stops once the input of the second is there."""
    model = nn.Sequential(Asks(), Asks())
    plain = archscope.trace_step(model, (3, 8), optimizer="sgd")
    again = archscope.trace_step(model, (3, 8), optimizer="sgd", checkpoint=("*",))
    assert training_macs(again) - training_macs(plain) == 2 * 3 * 8 * 16


def test_what_is_most_of_a_model_is_opened_for_checkpoints() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([Asks(), Asks(), Asks()])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    class WithHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.head = Inner(), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.model(x))

    found = block_paths(archscope.trace_step(WithHead(), (3, 8)))
    assert found == ["model.layers.0", "model.layers.1", "model.layers.2"]
