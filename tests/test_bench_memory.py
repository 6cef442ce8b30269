"""Memory of a training before it runs: its predicted peak, `--batch max`, and what fits where memory runs out."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import archscope
from archscope.analysis.allocator import events, simulate
from archscope.bench import memory, results, worker
from archscope.bench.device import Flags, _resident, memory_of
from archscope.bench.job import Job
from archscope.bench.loop import Memory
from archscope.bench.memory import conditions, largest_batch, predicted_peak
from archscope.bench.prepare import RESIDENT
from archscope.bench.recipes import recipe_of
from archscope.cli import bench as command
from archscope.core.errors import SpecError
from archscope.peers.cpu_step import real_step
from archscope.shapes.fit import CONTEXT
from archscope.sources.spec import parse

CPU = torch.device("cpu")
ADAM = recipe_of("adam@epochs=1", "mnist-cnn")


def test_a_prediction_is_what_a_real_step_takes() -> None:
    model, inputs = archscope.load("mnist-cnn", batch=8)
    measured = real_step(model, inputs, optimizer="adam", implementation="fused", attention="cpu-flash")
    assert predicted_peak(parse("mnist-cnn"), ADAM, Flags(), CPU, 8) == measured.peak


def test_conditions_are_those_of_the_loop() -> None:
    momentum = recipe_of("adam@optimizer=sgd@momentum=0.9", "mnist-cnn")
    half = conditions(momentum, Flags(precision="bf16", fused=False), torch.device("cuda"))
    assert (half["optimizer"], half["implementation"], half["precision"]) == ("momentum", "foreach", "bf16-mixed")
    assert (half["device"], half["attention"]) == ("cuda", "flash")
    assert conditions(ADAM, Flags(), CPU)["implementation"] == "fused"


def free(monkeypatch: pytest.MonkeyPatch, nbytes: int | None) -> None:
    monkeypatch.setattr(memory, "memory_of", lambda device: nbytes)


def test_the_largest_batch_fits_and_one_more_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    room = 64 << 20
    free(monkeypatch, CONTEXT + RESIDENT + room)
    batch = largest_batch(parse("mnist-cnn"), ADAM, Flags(), CPU)
    assert batch is not None and batch > 100
    for size, fits in ((batch, True), (batch + 1, False)):
        model, inputs = archscope.load("mnist-cnn", batch=size)
        trace = archscope.trace_step(model, inputs, **conditions(ADAM, Flags(), CPU))
        assert simulate(events(trace.storages), room).fits is fits
    free(monkeypatch, CONTEXT + RESIDENT)
    assert largest_batch(parse("mnist-cnn"), ADAM, Flags(), CPU) is None
    free(monkeypatch, None)
    with pytest.raises(SpecError, match="write --batch N"):
        largest_batch(parse("mnist-cnn"), ADAM, Flags(), CPU)


def test_memory_of_the_machine() -> None:
    assert memory_of(CPU) is None or memory_of(CPU) > 1 << 20  # type: ignore[operator]


def test_batch_max(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, CONTEXT + RESIDENT + (64 << 20))
    common = {"flags": Flags().to_dict(), "device": "cpu"}
    (job,) = command._jobs(["mnist-cnn"], "adam@epochs=1", {}, range(1), common, most=True)
    assert job.recipe["batch"] == largest_batch(parse("mnist-cnn"), ADAM, Flags(), CPU)
    free(monkeypatch, 0)
    with pytest.raises(SpecError, match="not even one example of mnist-cnn fits"):
        command._jobs(["mnist-cnn"], "adam", {}, range(1), common, most=True)


def test_batch_max_is_no_inference(archscope: Any) -> None:
    ran = archscope("bench", "lenet", "--infer", "--batch", "max")
    assert ran.code == 2 and "--batch max is for a training" in ran.err


def job() -> Job:
    recipe = recipe_of("adam@epochs=1@batch=16", "mnist-cnn").to_dict()
    return Job("mnist-cnn", recipe, data="digits@train=32@test=16", device="cpu", flags=Flags().to_dict(), warmup=0)


def test_a_row_has_the_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.hardware, "matmul_peak", lambda device, flags: 1e9)
    row = worker.run(job())
    assert row["status"] == "ok"
    assert row["predicted_memory"] == predicted_peak(parse(row["model"]), ADAM, Flags(), CPU, 16)
    assert "predicted_memory" in [column.key for column in results.TRAINING]


def test_out_of_memory_names_the_batch_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise Memory("not even one example at a time fits into memory")

    monkeypatch.setattr(worker.hardware, "matmul_peak", lambda device, flags: 1e9)
    monkeypatch.setattr(worker, "train", full)
    free(monkeypatch, CONTEXT + RESIDENT + (64 << 20))
    row = worker.run(job())
    fits = largest_batch(parse(row["model"]), ADAM, Flags(), CPU)
    assert row["status"] == "oom" and row["fitting_batch"] == fits
    assert row["error"].endswith(f"by the record of a step a batch of {fits} fits: --batch {fits}")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read as on Linux")
def test_the_peak_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux `getrusage` begins with the peak of the process that started this one."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=1 << 40))
    status = Path("/proc/self/status").read_text().splitlines()
    now = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))
    found = _resident()
    assert found is not None and now / 2 < found < 1 << 40
