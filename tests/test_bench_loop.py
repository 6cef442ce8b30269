"""The training loop: that it learns, that it computes what the textbook computes, and that nothing stops it."""

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from archscope.bench import checkpoint, device, loop
from archscope.bench.datasets.base import Data, Split
from archscope.bench.device import Clock, Flags, device_of, quantile, set_up
from archscope.bench.job import Job
from archscope.bench.loop import Diverged, Memory, Outcome, Plan, train
from archscope.bench.network import INITIALISATIONS, built, fitted
from archscope.bench.recipes import recipe_of
from archscope.bench.results import GOOD
from archscope.bench.worker import run
from archscope.core.errors import ArchscopeError, SpecError
from archscope.tracing.devices import is_meta

CPU = torch.device("cpu")
NO_GPU = pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no accelerator on this machine")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Peaks are not measured anew in each test, and nothing is kept in the user's cache."""
    monkeypatch.setenv("ARCHSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("archscope.bench.device.matmul_peak", lambda *args: 1e11)


def job(model: str, recipe: str, dataset: str, **more: Any) -> Job:
    fields = recipe_of(recipe, model.partition("@")[0]).to_dict()
    return Job(model=model, recipe=fields, data=dataset, device="cpu", warmup=0, **more)


def trained(
    model: str, recipe: str, dataset: str, report: Callable[[dict[str, Any]], None] = lambda event: None, **more: Any
) -> tuple[nn.Module, Outcome]:
    """Train in this process; the model and what was measured."""
    chosen = recipe_of(recipe, model)
    network, data = fitted(model, chosen, dataset)
    plan = Plan(chosen, network.needs.shape, network.layout, CPU, **{"warmup": 0, **more})
    outcome = Outcome()
    return train(built(network.spec, chosen, plan.seed), data, plan, outcome, report), outcome


def same(one: nn.Module, other: nn.Module) -> bool:
    """Bit for bit."""
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


# ------------------------------------------------------------------------------------------------------- it learns

LEARN = ("mnist-cnn", "adam@epochs=4@lr=0.003@side=28", "digits")


def test_learns_real_digits() -> None:
    row = run(job(*LEARN))
    assert row["status"] == "ok" and row["test_accuracy"] > 0.85
    assert row["history"][0]["train_loss"] > 2 * row["history"][-1]["train_loss"]


class Still(torch.optim.Adam):
    """An optimiser whose step does nothing."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        pass


def test_a_broken_step_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loop.OPTIMIZERS, "adam", lambda model, recipe, flags: Still(model.parameters()))
    assert run(job(*LEARN))["test_accuracy"] < 0.3


def test_broken_labels_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from archscope.bench.datasets import DATASETS

    whole = DATASETS["digits"].make

    def shuffled(wanted: Any, place: Any) -> Data:
        made = whole(wanted, place)
        order = torch.randperm(len(made.train), generator=torch.Generator().manual_seed(0))
        return Data("digits", Split(made.train.inputs, made.train.labels[order]), made.test, 10)

    monkeypatch.setitem(DATASETS, "digits", DATASETS["digits"]._replace(make=shuffled))
    assert run(job(*LEARN))["test_accuracy"] < 0.3


@pytest.mark.parametrize("model", ["char-rnn", "char-rnn-embedding"])
@pytest.mark.parametrize("seed", [0, 1])
def test_hello_becomes_ohlol(model: str, seed: int) -> None:
    row = run(job(model, "hello", "hello", seed=seed))
    assert row["sample"] == "ohlol" and row["test_accuracy"] == 1 and row["data_seen"]


def test_a_network_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "def net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))\n\n"
        "def example_inputs():\n    return torch.zeros(1, 1, 4, 4)\n\n"
        "def data():\n"
        "    x = torch.randint(0, 256, (64, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)\n"
        "    y = (x[:, 0, 0, 0] > 127).long()\n"
        "    return (x[:48], y[:48]), (x[48:], y[48:])\n",
        encoding="utf-8",
    )
    fields = recipe_of("adam@lr=0.1@epochs=10@batch=16", "mine").to_dict()
    row = run(Job(f"{tmp_path}/mine.py:net", fields, f"{tmp_path}/mine.py:data", device="cpu", warmup=0))
    assert row["status"] == "ok", row["error"]
    assert row["train_accuracy"] > 0.9 and row["params"] == 16 * 2 + 2


# ----------------------------------------------------------------------------------------- what the textbook computes


def textbook(
    model: nn.Module, data: Data, side: int, rate: float, epochs: int, batch: int
) -> tuple[list[float], float]:
    """d2l.train_ch6 in small: per-image transforms, a DataLoader, `.item()` every step. Mean losses, test accuracy."""
    from torchvision import transforms

    way = transforms.Compose([transforms.ToPILImage(), transforms.Resize((side, side)), transforms.ToTensor()])
    sets = [[(way(x), int(y)) for x, y in zip(*split, strict=True)] for split in (data.train, data.test)]
    optimizer = torch.optim.SGD(model.parameters(), rate)
    losses = []
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(sets[0]), generator=torch.Generator().manual_seed(loop.mixed(0, epoch))).tolist()
        total = 0.0
        model.train()
        for x, y in DataLoader(sets[0], batch, sampler=order):  # type: ignore[arg-type]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        losses.append(total / len(sets[0]))
    model.eval()
    with torch.no_grad():
        right = [model(x[None]).argmax().item() == y for x, y in sets[1]]
    return losses, sum(right) / len(right)


def test_the_same_as_the_textbook_loop() -> None:
    """Weights, losses and accuracy, with a last batch that is shorter: 200 = 3·64 + 8."""
    recipe = recipe_of("d2l@epochs=2@batch=64", "lenet-bn")
    network, data = fitted("lenet-bn", recipe, "digits@train=200@test=50")
    theirs = built(network.spec, recipe, 0)
    losses, accuracy = textbook(theirs, data, 28, 1.0, 2, 64)
    ours, outcome = trained("lenet-bn", "d2l@epochs=2@batch=64", "digits@train=200@test=50")
    assert [row["train_loss"] for row in outcome.history] == pytest.approx(losses, rel=1e-5)
    assert outcome.history[-1]["test_accuracy"] == pytest.approx(accuracy)
    for (name, a), (_, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5), name


def test_warming_up_leaves_no_trace() -> None:
    small = ("mnist-cnn", "mnist@epochs=2@momentum=0.9", "digits@train=200@test=50")
    cold, _ = trained(*small)
    warm, outcome = trained(*small, warmup=3)
    assert outcome.warmup_s > 0 and same(cold, warm)


def test_a_run_repeats_and_another_seed_does_not() -> None:
    small = ("mnist-cnn", "mnist@epochs=1", "digits@train=200@test=50")
    first, again, other = (trained(*small, seed=seed)[0] for seed in (3, 3, 4))
    assert same(first, again) and not same(first, other)


def test_deterministic_mode() -> None:
    try:
        row = run(job("lenet", "d2l@epochs=1", "digits@train=64@test=32", flags={"deterministic": True}))
        assert torch.are_deterministic_algorithms_enabled() and row["flags"]["deterministic"]
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_best_validation_model_is_kept() -> None:
    model, outcome = trained("mnist-cnn", "mnist@epochs=3@lr=0.6@momentum=0.9", "digits@train=300@test=100")
    losses = [row["validation_loss"] for row in outcome.history]
    assert outcome.best_epoch == losses.index(min(losses)) + 1 < 3  # with such a rate it gets worse
    _, data = fitted("mnist-cnn", recipe_of("mnist", "mnist-cnn"), "digits@train=300@test=100")
    fit, held = loop.held_out(data.train, 0.2, 0)
    assert (len(fit), len(held)) == (240, 60)  # 4:1
    feed = loop.SplitBatches(data.test, (1, 28, 28), "nchw", CPU, 0.1307, 0.3081)
    with torch.no_grad():
        right = (model.eval()(feed.batch(torch.arange(100))[0]).argmax(1) == data.test.labels).double().mean()
    assert float(right) == pytest.approx(loop.summary(outcome)["test_accuracy"])


def test_the_rate_falls_on_a_plateau() -> None:
    """The validation loss of a network that does not move: no fall for two epochs, then a tenth of the rate."""
    _, outcome = trained(
        "lenet", "alexnet2012@lr=1e-12@epochs=5@batch=20@init=pytorch@augment=none", "digits@train=50@test=10"
    )
    assert [row["lr"] for row in outcome.history][:4] == [1e-12] * 4
    assert outcome.history[4]["lr"] == pytest.approx(1e-13)


def test_alexnet_begins_as_the_paper_says() -> None:
    convs = [nn.Conv2d(8, 8, 3) for _ in range(5)]
    dense = [nn.Linear(100, 100), nn.Linear(100, 100), nn.Linear(100, 10)]
    INITIALISATIONS["alexnet2012"](nn.Sequential(*convs, *dense))
    assert [float(m.bias.detach().mean()) for m in (*convs, *dense) if m.bias is not None] == [0, 1, 0, 1, 1, 1, 1, 0]
    assert all(abs(float(m.weight.detach().std()) - 0.01) < 0.002 for m in (*convs, *dense))


def test_augmentation_moves_turns_and_colours() -> None:
    from archscope.bench.prepare import AlexNet2012

    torch.manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 40, 40), dtype=torch.uint8)
    change = AlexNet2012(images)
    change.values.zero_()  # no colours: what is left is a picture moved by at most round(40·29/227) = 5, or its mirror
    x = images.float() / 255
    y = change(x)
    found = 0
    for before, after in zip(x, y, strict=True):
        for picture in (before, before.flip(-1)):
            padded = nn.functional.pad(picture, (3, 3, 2, 3))
            found += any(torch.equal(padded[:, i : i + 40, j : j + 40], after) for i in range(6) for j in range(7))
    assert found == 64 and not torch.equal(x, y)
    change = AlexNet2012(images)
    assert change(x).shape == x.shape


# -------------------------------------------------------------------------------------------------------- safety

RESUMED = ("mnist-cnn", "mnist@epochs=4@momentum=0.9", "digits@train=300@test=50")  # dropout, momentum, validation


def test_resumed_to_the_last_bit(tmp_path: Path) -> None:
    whole, before = trained(*RESUMED)
    path = tmp_path / "state.pt"

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and event["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(*RESUMED, stop, checkpoint=path, key="k")
    body = checkpoint.load(path)
    assert body is not None and body["epoch"] == 2
    resumed, after = trained(*RESUMED, checkpoint=path, resume=True, key="k", warmup=2)
    assert same(whole, resumed) and after.resumed
    learned = ("train_loss", "train_accuracy", "validation_loss", "test_loss", "test_accuracy")
    assert [[row[k] for k in learned] for row in after.history] == [[row[k] for k in learned] for row in before.history]
    assert len(after.history) == 4 and after.examples == 4 * 240
    with pytest.raises(ArchscopeError, match="belongs to another run"):
        trained(*RESUMED, checkpoint=path, resume=True, key="other")


def test_killed_and_resumed(tmp_path: Path) -> None:
    """kill -9 in the third epoch; what is there afterwards goes on to the same result."""
    wanted = run(job(*RESUMED))
    fields = {
        "model": RESUMED[0], "recipe": recipe_of(RESUMED[1], RESUMED[0]).to_dict(), "data": RESUMED[2],
        "device": "cpu", "warmup": 0, "checkpoints": str(tmp_path), "flags": {"threads": torch.get_num_threads()},
    }  # fmt: skip
    own = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "archscope.bench"]
    with subprocess.Popen([*command, json.dumps(fields)], stdout=subprocess.PIPE, text=True, env=own) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"epoch": 2' in line and json.loads(line)["event"] == "epoch":
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL and [p.suffix for p in tmp_path.iterdir() if p.is_file()] == [".pt"]
    row = run(Job(**fields, resume=True))  # type: ignore[arg-type]
    assert row["resumed"] and row["status"] == "ok" and row["epochs_done"] == 4
    assert row["test_loss"] == wanted["test_loss"] and row["train_loss"] == wanted["train_loss"]
    assert not list(tmp_path.glob("*.pt"))  # done: nothing to resume


def test_checkpoints_are_whole_or_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    checkpoint.save(path, {"epoch": 1})

    def full(*args: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"epoch": 2})
    body = checkpoint.load(path)
    assert body is not None and body["epoch"] == 1 and [p.name for p in tmp_path.iterdir()] == ["state.pt"]
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ArchscopeError, match="not a readable checkpoint"):
        checkpoint.load(path)
    assert checkpoint.load(tmp_path / "none.pt") is None


class Greedy(nn.Module):
    """Has memory for so many examples and no more, as an accelerator would say it."""

    room = 5

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.fc(x.flatten(1))


def test_what_a_failed_part_left_behind_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out at the second part of a step: the first has added its gradient, loss and hits already."""

    class Filling(Greedy):
        room, passes = 16, 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.passes += 1
            if self.passes == 3:  # 32 does not fit, 16 does, and then not again
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    recipe = recipe_of("d2l@lr=0.5@batch=32@epochs=1@init=pytorch", "greedy")
    _, data = fitted("lenet", recipe_of("d2l", "lenet"), "digits@train=64@test=16")
    ended = []
    for kind in (Greedy, Filling):
        monkeypatch.setattr(Greedy, "room", 1000)
        torch.manual_seed(0)
        outcome = Outcome()
        model = train(kind(), data, Plan(recipe, (1, 8, 8), "nchw", CPU, warmup=0), outcome)
        (epoch,) = outcome.history
        ended.append((model.get_parameter("fc.weight"), epoch["train_loss"], epoch["train_accuracy"]))
    (whole, loss, right), (parts, loss_of_parts, right_of_parts) = ended
    assert torch.allclose(whole, parts, atol=1e-6) and right == right_of_parts
    assert loss_of_parts == pytest.approx(loss, rel=1e-5) and outcome.micro_batch == 8


@pytest.mark.parametrize("warmup", [0, 2])
def test_short_memory_shrinks_the_part_and_not_the_batch(warmup: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of("d2l@lr=0.5@batch=32@epochs=2@init=pytorch", "greedy")
    _, data = fitted("lenet", recipe_of("d2l", "lenet"), "digits@train=100@test=20")
    results = []
    for room in (1000, 5):
        monkeypatch.setattr(Greedy, "room", room)
        torch.manual_seed(0)
        outcome, told = Outcome(), []
        plan = Plan(recipe, (1, 8, 8), "nchw", CPU, warmup=warmup)
        results.append((train(Greedy(), data, plan, outcome, told.append), outcome))
    (roomy, before), (short, after) = results
    assert before.micro_batch == 32 and after.micro_batch == 4  # 32, 16, 8, 4
    assert [e["micro_batch"] for e in told if e["event"] == "memory"] == [16, 8, 4]
    for a, b in zip(roomy.parameters(), short.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)  # the same step, added up in another order
    assert after.history[-1]["train_loss"] == pytest.approx(before.history[-1]["train_loss"], rel=1e-5)
    monkeypatch.setattr(Greedy, "room", 0)
    with pytest.raises(Memory, match="not even one example"):
        train(Greedy(), data, plan, Outcome())


def test_a_row_says_that_memory_was_short(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = nn.Linear.forward

    def small(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        if not is_meta(x) and len(x) > 16:  # a forward that is traced is told the device of the user
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried")
        return forward(self, x)

    monkeypatch.setattr(nn.Linear, "forward", small)
    row = run(job("lenet", "d2l@epochs=1@batch=32", "digits@train=64@test=16"))
    assert (row["status"], row["batch"], row["micro_batch"]) == ("oom_reduced", 32, 16) and row["status"] in GOOD


def test_a_loss_that_is_no_number_is_told_with_its_step() -> None:
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.passes = nn.Linear(64, 10), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.passes += self.training
            return self.fc(x.flatten(1)) / (0.0 if self.passes == 6 else 1.0)

    _, data = fitted("lenet", recipe_of("d2l", "lenet"), "digits@train=100@test=20")
    plan = Plan(recipe_of("adam@batch=25@epochs=3", "x"), (1, 8, 8), "nchw", CPU, warmup=0)
    outcome = Outcome()
    with pytest.raises(Diverged, match="step 2 of 4 in epoch 2"):  # the sixth of 4 + 4 steps
        train(Breaks(), data, plan, outcome)
    assert len(outcome.history) == 1


def test_a_diverging_run_has_a_row() -> None:
    row = run(job("basic-cnn", "adam@optimizer=sgd@lr=1e30@epochs=2", "digits@train=128@test=16"))
    assert row["status"] == "nan" and "step" in row["error"] and row["epochs_done"] == 0


def test_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(event: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    row = run(job("lenet", "d2l@epochs=3", "digits@train=64@test=16", checkpoints=str(tmp_path)), report=stop)
    assert row["status"] == "interrupted" and "--resume goes on" in row["error"] and row["epochs_done"] == 1


@pytest.mark.parametrize(
    ("model", "recipe", "dataset", "message"),
    [
        ("lenet", "mnist", "digits", "takes log-probabilities"),
        ("googlenet", "adam", "nowhere", "unknown data set"),
        ("lenet@num_classes=7", "d2l", "digits", "set its num_classes to 10"),
        ("dense-block", "adam", "digits", "one row of scores an example"),
    ],
)
def test_what_cannot_be_trained_has_a_row_that_says_why(model: str, recipe: str, dataset: str, message: str) -> None:
    row = run(job(model, recipe, dataset))
    assert row["status"] == "error" and message in row["error"]


# ------------------------------------------------------------------------------------------------------- the row


def test_the_row_adds_up() -> None:
    row = run(job("lenet", "d2l@epochs=2@batch=64", "digits@train=200@test=50"))
    asked = """model recipe data device epochs train_loss train_accuracy test_accuracy best_test_accuracy
    examples_per_second step_ms_p50 step_ms_p90 step_ms_p99 data_wait_share peak_memory flops_per_second mfu status"""
    assert not {key for key in asked.split() if row.get(key) is None}
    assert row["recipe"] == "d2l@batch=64@epochs=2" and row["overrides"] == ["batch", "epochs"]
    assert row["steps"] == 2 * 4 and row["params"] == 61_706 and row["data"] == "digits@train=200@test=50"
    assert row["examples_per_second"] == pytest.approx(2 * 200 / row["train_s"])
    assert row["flops_per_example"] == 2 * (3 * 416_520 - 28 * 28 * 6 * 25)
    assert row["flops_per_second"] == pytest.approx(row["examples_per_second"] * row["flops_per_example"])
    assert row["mfu"] == pytest.approx(row["flops_per_second"] / 1e11) and row["mfu_published"] is None
    assert 0 < row["data_wait_share"] < 1 and row["step_ms_p50"] <= row["step_ms_p90"] <= row["step_ms_p99"]
    json.dumps(row)


def test_the_usual_data_set_is_told_where_it_is_not_the_first_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archscope.bench.data.find_mnist", lambda *args: None)
    told: list[dict[str, Any]] = []

    def stop(event: dict[str, Any]) -> None:
        told.append(event)
        if event["event"] != "note":
            raise KeyboardInterrupt

    row = run(job("lenet", "d2l@epochs=1", "auto"), report=stop)
    assert row["data"] == "digits" and told[0]["text"] == "fashion-mnist is not on this machine; trains on digits"


def test_networks_are_fitted_to_the_data() -> None:
    row = run(job("mobilenet-v1@width=0.25", "adam@epochs=1@side=32", "digits@train=64@test=16"))
    assert row["model"] == "mobilenet-v1@width=0.25@num_classes=10@in_channels=1" and row["status"] == "ok"
    assert row["input"] == [1, 32, 32]


def test_flags_are_recorded_and_change_nothing_else() -> None:
    plain = run(job("lenet", "d2l@epochs=1", "digits@train=256@test=16"))
    flags = {"precision": "bf16", "channels_last": True, "fused": False}
    row = run(job("lenet", "d2l@epochs=1", "digits@train=256@test=16", flags=flags))
    assert row["status"] == "ok" and row["flags"] == Flags(**flags).to_dict() and row["precision"] == "bf16"
    assert row["recipe_fields"] == plain["recipe_fields"] and row["key"] != plain["key"]
    assert row["train_loss"] == pytest.approx(plain["train_loss"], rel=0.02)


def test_half_precision_scales_its_loss() -> None:
    """The way of float16, warm-up and clipping included, as far as a CPU goes: what `set_up` keeps users from."""
    small = ("lenet", "adam@epochs=2@clip=1.0@side=28", "digits@train=128@test=16")
    _, half = trained(*small, flags=Flags(precision="fp16"), warmup=3)
    _, full = trained(*small)
    losses = [[row["train_loss"] for row in outcome.history] for outcome in (half, full)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != losses[1]


def test_devices() -> None:
    assert device_of("cpu") == CPU and device_of("auto").type in ("cpu", "cuda", "mps", "xpu")
    with pytest.raises(SpecError, match="no device is called 'gpu'"):
        device_of("gpu")
    with pytest.raises(SpecError, match="a CPU has no fp16"):
        set_up(Flags(precision="fp16"), CPU)
    if not torch.accelerator.is_available():
        with pytest.raises(SpecError, match="there is no cuda here: --device cpu"):
            device_of("cuda")
    assert device.name_of(CPU)


def test_quantiles_by_the_nearest_rank() -> None:
    values = [float(v) for v in range(100, 0, -1)]
    assert [quantile(values, q) for q in (0.5, 0.9, 0.99, 1.0)] == [50, 90, 99, 100]
    assert quantile([7.0], 0.99) == 7 and quantile([], 0.5) is None


def test_the_clock_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([1.0, 1.5, 4.0])
    monkeypatch.setattr(device.time, "perf_counter", lambda: next(moments))
    clock = Clock(CPU)
    for _ in range(3):
        clock.mark()
    assert clock.steps() == [500.0, 2500.0] and clock.steps() == []


def test_the_clock_of_an_accelerator_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """One event a boundary, in the device's stream; times are read from neighbouring events."""
    moments = iter([2.0, 5.0, 11.0])

    class Event:
        def __init__(self, where: torch.device, enable_timing: bool) -> None:
            assert where.type == "cuda" and enable_timing

        def record(self) -> None:
            self.at = next(moments)

        def elapsed_time(self, later: "Event") -> float:
            return later.at - self.at

    monkeypatch.setattr(torch, "Event", Event)
    clock = Clock(torch.device("cuda"))
    for _ in range(3):
        clock.mark()
    assert clock.steps() == [3.0, 6.0]


@NO_GPU
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_on_an_accelerator(precision: str) -> None:
    fields = recipe_of("adam@epochs=4@lr=0.003", "mnist-cnn").to_dict()
    row = run(Job("mnist-cnn", fields, "digits", flags={"precision": precision, "channels_last": True}))
    assert row["status"] == "ok", row["error"]
    assert row["test_accuracy"] > 0.85 and row["peak_memory"] < 1 << 30 and row["step_ms_p50"] > 0


@NO_GPU
def test_resized_on_an_accelerator_as_on_the_cpu() -> None:
    from archscope.bench.prepare import resize

    images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
    there = images.to(device_of("auto"))
    if there.device.type != "mps":
        assert torch.equal(resize(there, 96, 96).cpu(), resize(images, 96, 96))


def test_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled is run for whole batches; a shorter last one runs as it is."""
    seen = []

    def compile(model: nn.Module, mode: str) -> nn.Module:
        class Compiled(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                seen.append(len(x))
                return model(x)

        return Compiled()

    monkeypatch.setattr(torch, "compile", compile)
    row = run(job("lenet", "d2l@epochs=1@batch=64", "digits@train=200@test=16", flags={"compile": "default"}))
    assert seen == [64, 64, 64] and row["status"] == "ok" and row["flags"]["compile"] == "default"


FAULTS = """
import resource, sys, torch
from archscope.bench.device import PLAIN, keep_freed_memory, set_up
if sys.argv[1] == "kept":
    set_up(PLAIN, torch.device("cpu"))
for _ in range(12):  # 80 MB a step, freed at its end; the first two are what it takes to get them
    if _ == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones(1 << 20) for _ in range(20)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_memory_is_kept_from_step_to_step() -> None:
    """A step does not fetch its memory page by page again (4 KiB each: 20,480 of them for 80 MB)."""

    def faults(way: str) -> int:
        words = [sys.executable, "-c", FAULTS, way]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    assert faults("kept") < 20_480 // 10
    # by itself glibc gives memory back, unless something that is still held happens to lie above it
    assert any(faults("plain") > 20_480 for _ in range(8))


def test_a_model_without_an_input_says_how_to_give_one(tmp_path: Path) -> None:
    file = tmp_path / "bare.py"
    file.write_text("from torch import nn\nclass Net(nn.Flatten): ...\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"Net has no default input: write example_inputs\(\) beside it"):
        fitted(f"{file}:Net", recipe_of("adam", "any"), "digits")
