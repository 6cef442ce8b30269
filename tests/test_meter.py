"""The meter: FLOPs of a step by hand, rates on a clock that the test turns, and the loops of others."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import archscope
from archscope.bench import meter as module
from archscope.bench.callbacks import lightning_meter, trainer_meter
from archscope.bench.meter import Meter, Reading
from archscope.core.errors import SpecError


class Clock:
    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    yield made


def net(freeze: bool = False) -> nn.Sequential:
    made = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 10))
    made[0].requires_grad_(not freeze)
    return made


FIRST, SECOND = 30 * 20, 20 * 10  # multiply-adds of an example


def test_flops_by_hand() -> None:
    flops = Meter(net(), (8, 30), peak=1e9).flops
    assert flops.forward == 2 * 8 * (FIRST + SECOND)
    assert flops.model == flops.hardware == 2 * 8 * (2 * FIRST + 3 * SECOND)  # no gradient of the data
    assert flops.unknown == ()


def test_frozen_layers_cost_their_forward() -> None:
    assert Meter(net(freeze=True), (8, 30), peak=1e9).flops.model == 2 * 8 * (FIRST + 2 * SECOND)


class Again(nn.Module):
    """Its first layer is run again in the backward."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = net()

    def forward(self, x: torch.Tensor) -> Any:
        hidden = checkpoint(lambda t: torch.relu(self.inside[0](t)), x, use_reentrant=False)
        return self.inside[2](hidden)


def test_recomputation_is_hardware_work_only() -> None:
    needed = 2 * 8 * (2 * FIRST + 3 * SECOND)
    own = Meter(Again(), (8, 30), peak=1e9).flops
    assert (own.model, own.hardware) == (needed, needed + 2 * 8 * FIRST)
    said = Meter(nn.Sequential(net()), (8, 30), peak=1e9, checkpoint=["0"]).flops
    # PyTorch stops when all that was saved is there again, and no one saved what the last layer gives
    assert (said.model, said.hardware) == (needed, needed + 2 * 8 * FIRST)


def test_rates(clock: Clock) -> None:
    meter = Meter(net(), (8, 30), peak=1e6)
    each = 2 * (2 * FIRST + 3 * SECOND)
    assert meter.step() == Reading()  # this one was not measured: nobody knows when it began
    clock.now += 0.5
    meter.step(examples=4)
    clock.now += 0.5
    reading = meter.step(examples=4)
    assert reading.examples_per_second == 8.0 and reading.step_seconds == 0.5
    assert reading.flops_per_second == reading.hardware_flops_per_second == 8 * each
    assert reading.mfu == reading.hfu == 8 * each / 1e6
    assert reading.tokens_per_second is None and not reading.lower_bound
    assert str(reading) == f"8 examples/s, {8 * each / 1e12:,.4g} TFLOP/s, MFU {8 * each / 1e6:.1%}"
    assert set(reading.numbers()) == {
        "examples_per_second", "step_seconds", "flops_per_second", "hardware_flops_per_second", "mfu", "hfu",
    }  # fmt: skip


def test_the_window_and_pauses(clock: Clock) -> None:
    meter = Meter(net(), (8, 30), peak=1e6, window=2)
    meter.start()
    for seconds in (8.0, 1.0, 1.0):
        clock.now += seconds
        meter.step()
    assert meter.reading().examples_per_second == 8.0  # of the last two steps
    assert meter.average().examples_per_second == 3 * 8 / 10
    clock.now += 1000  # an evaluation
    meter.start()
    assert meter.reading() == Reading()
    clock.now += 2
    assert meter.step().examples_per_second == 4.0
    assert meter.average().examples_per_second == pytest.approx(4 * 8 / 12)


def test_accumulated_batches_are_one_step_or_several(clock: Clock) -> None:
    one, several = (Meter(net(), (8, 30), peak=1e6) for _ in range(2))
    one.start()
    several.start()
    clock.now += 1
    several.step(examples=8)
    clock.now += 1
    several.step(examples=8)
    one.step(examples=16)
    both = one.reading(), several.reading()
    assert both[0].examples_per_second == both[1].examples_per_second == 8.0
    assert both[0].mfu == both[1].mfu and both[0].mfu is not None


class Reader(nn.Module):
    """A table, one head of attention without a window, a head. 50 tokens, 16 wide."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.qkv, self.head = nn.Linear(16, 48), nn.Linear(16, 50)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.table(ids)).chunk(3, -1)
        return self.head(functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0])


TOKEN = 2 * 3 * (16 * 48 + 16 * 50)  # FLOPs of a token: 6 for each weight in a matrix
PAIR = 2 * 3 * 2 * 16  # and of a pair of tokens: 12·H·Q


def text(ids: tuple[int, int] = (4, 12)) -> Meter:
    made = Meter(Reader(), torch.zeros(ids, dtype=torch.long), peak=1e6)
    made.start()
    return made


@pytest.mark.parametrize(
    ("given", "tokens", "model", "hardware"),
    [
        ({}, 48, 48 * TOKEN + 4 * 144 * PAIR, 48 * TOKEN + 4 * 144 * PAIR),
        # tokens without padding cost what they cost in a text of 12; the padding runs all the same
        ({"tokens": 30}, 30, 30 * (TOKEN + 12 * PAIR), 48 * TOKEN + 4 * 144 * PAIR),
        ({"lengths": [12, 9, 6, 3]}, 30, 30 * TOKEN + (144 + 81 + 36 + 9) * PAIR, 48 * TOKEN + 4 * 144 * PAIR),
        # padded to the longest of this batch
        ({"lengths": [9, 6, 3], "padded": 9}, 18, 18 * TOKEN + (81 + 36 + 9) * PAIR, 4 * (9 * TOKEN + 81 * PAIR)),
        # three texts are packed into one row
        ({"examples": 1, "lengths": [5, 4, 3]}, 12, 12 * TOKEN + (25 + 16 + 9) * PAIR, 12 * TOKEN + 144 * PAIR),
    ],
)  # fmt: skip
def test_texts(clock: Clock, given: dict[str, Any], tokens: int, model: int, hardware: int) -> None:
    meter = text()
    clock.now += 1
    reading = meter.step(**given)
    assert reading.tokens_per_second == tokens
    assert reading.flops_per_second == pytest.approx(model)
    assert reading.hardware_flops_per_second == pytest.approx(hardware)


def test_what_cannot_be_asked() -> None:
    with pytest.raises(SpecError, match="give tokens or lengths, not both"):
        text().step(tokens=3, lengths=[3])
    with pytest.raises(SpecError, match="a batch of token numbers"):
        Meter(net(), (8, 30), peak=1.0).step(tokens=3)
    with pytest.raises(SpecError, match="window is a whole number"):
        Meter(net(), (8, 30), peak=1.0, window=0)
    with pytest.raises(SpecError, match=r"peak is a number of FLOP/s above 0"):
        Meter(net(), (8, 30), peak=0)
    with pytest.raises(SpecError, match=r"precision 'fp8'"):
        Meter(net(), (8, 30), peak=1.0, precision="fp8")


class Windowed(Reader):
    """It sees all tokens up to 6, and no pair beyond: its work is no a·n + b·n²."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids[:, :6])


def test_a_work_of_another_form_is_not_guessed() -> None:
    meter = Meter(Windowed(), torch.zeros(4, 12, dtype=torch.long), peak=1e6)
    assert any("does not grow" in note for note in meter.notes)
    with pytest.raises(SpecError, match="give tokens"):
        meter.step(lengths=[3])


def test_operators_of_unknown_cost_leave_a_lower_bound(clock: Clock) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.qr(self.fc(x)).R

    meter = Meter(Odd(), (6, 6), peak=1e6)
    meter.start()
    clock.now += 1
    reading = meter.step()
    assert reading.lower_bound and "MFU ≥ " in str(reading)
    assert any("aten.linalg_qr" in note for note in meter.notes)


class Event:
    """An event of a device that the test lets run. What waits for the device is an error here."""

    passed = 0.0  # the time that the device has reached
    made: list["Event"] = []

    def __init__(self, device: Any, enable_timing: bool) -> None:
        assert enable_timing
        self.at = float(len(Event.made) * 10)  # ms
        Event.made.append(self)

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return self.at <= Event.passed

    def elapsed_time(self, later: "Event") -> float:
        assert self.query() and later.query()
        return later.at - self.at

    def synchronize(self) -> None:
        Event.passed = max(Event.passed, self.at)


def test_a_device_is_never_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    Event.made, Event.passed = [], -1.0
    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(torch.accelerator, "synchronize", None)
    meter = Meter(net(), (8, 30), device="cuda", peak=1e6)
    meter.start()
    for _ in range(5):
        assert meter.step() == Reading()  # the device is behind
    Event.passed = 25.0  # it has finished two steps
    reading = meter.reading()
    assert reading.step_seconds == pytest.approx(0.01) and reading.examples_per_second == pytest.approx(800)
    assert len(meter._done) == 3
    assert meter.average().step_seconds == pytest.approx(0.01)
    assert Event.passed == 50.0 and len(meter._done) == 6


def test_the_model_is_left_as_it_was() -> None:
    model = net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    Meter(model.eval(), torch.zeros(8, 30), peak=1e6)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.device.type == "cpu" for p in model.parameters()) and not model.training


def test_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "name_of", lambda device: "NVIDIA A100-SXM4-80GB")
    known = Meter(net().to(torch.bfloat16), torch.zeros(8, 30, dtype=torch.bfloat16))
    assert known.peak == 312e12 and known.peak_source.startswith("published for NVIDIA A100-SXM4-80GB in bf16: http")
    monkeypatch.setattr(module, "name_of", lambda device: "a CPU")
    monkeypatch.setattr(module, "matmul_peak", lambda device, flags: 5e10)
    measured = Meter(net(), (8, 30))
    assert measured.peak == 5e10 and "measured here in fp32" in measured.peak_source


def test_it_is_a_name_of_the_package() -> None:
    assert archscope.Meter is Meter


# ------------------------------------------------------------------------------------------------ the loops of others


def test_trainer_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="its Trainer is what the callback is for")
    pytest.importorskip("accelerate", reason="transformers' Trainer needs it")
    size = {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 0}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**size))
    one = {"input_ids": torch.zeros(8, dtype=torch.long), "labels": torch.zeros(8, dtype=torch.long)}
    callback = trainer_meter({key: value.expand(2, 8) for key, value in one.items()}, peak=1e9)
    arguments = transformers.TrainingArguments(
        str(tmp_path), per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=3, logging_steps=1,
        report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(model, arguments, train_dataset=[one] * 16, callbacks=[callback])
    trainer.train()
    rates = trainer.state.log_history[0]
    assert rates["meter_mfu"] == pytest.approx(rates["meter_flops_per_second"] / 1e9)
    assert callback.meter._count[:2] == (3, 3 * 2 * 2)


@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_lightning() -> None:
    lightning = pytest.importorskip("lightning.pytorch", reason="its Trainer is what the callback is for")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    data = torch.utils.data.TensorDataset(torch.zeros(24, 30), torch.zeros(24, dtype=torch.long))
    callback = lightning_meter(peak=1e9)
    trainer = lightning.Trainer(
        max_epochs=1, log_every_n_steps=1, callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, accelerator="cpu", enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=8))
    assert callback.meter._count[:2] == (3, 24)
    assert trainer.callback_metrics["meter/examples_per_second"] > 0


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("archscope.bench.callbacks.import_module", missing)
    with pytest.raises(SpecError, match="transformers is not installed: pip install transformers"):
        trainer_meter({})
    with pytest.raises(SpecError, match="pip install lightning"):
        lightning_meter()


def test_the_page_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "matmul_peak", lambda device, flags: 5e10)
    page = Path(__file__).parent.parent / "docs" / "howto" / "meter.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec("\n".join(block for block in blocks if "Trainer" not in block), {})
    assert re.search(r"examples/s, .* TFLOP/s, MFU", capsys.readouterr().out)
