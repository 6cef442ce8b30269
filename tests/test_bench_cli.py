"""`archscope bench` from the command line: rows in files, tables that mix nothing, processes that die, two of them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from archscope.bench import results, worker
from archscope.bench.job import Job
from archscope.bench.progress import line
from archscope.bench.recipes import recipe_of
from archscope.core.errors import SpecError

SMALL = ("--dataset", "synthetic@train=200@test=50", "--device", "cpu", "--threads", "1", "--warmup", "0")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Peaks are there already and nothing is kept in the user's cache; processes that are started find the same."""
    from archscope.bench.device import name_of

    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("ARCHSCOPE_CACHE", str(cache))
    for variable in ("RANK", "WORLD_SIZE", "CI"):
        monkeypatch.delenv(variable, raising=False)
    about = f"{name_of(torch.device('cpu'))}, 1 threads, torch {torch.__version__}"
    peaks = {f"{about}, matmul fp32": 1e11, f"{about}, copy": 1e10}
    (cache / "peaks.json").write_text(json.dumps(peaks), encoding="utf-8")


def row(**more: Any) -> dict[str, Any]:
    """A row as a run leaves it."""
    return {
        "schema": 1, "kind": "train", "key": "k", "model": "lenet", "recipe": "d2l", "data": "digits", "seed": 0,
        "device": "cpu", "device_name": "CPU", "threads": 1, "world_size": 1, "precision": "fp32", "flags": {},
        "epochs": 1, "batch": 256, "params": 61_706, "train_loss": 0.5, "train_accuracy": 0.8, "test_accuracy": 0.75,
        "best_test_accuracy": 0.76, "examples_per_second": 1000.0, "flops_per_second": 2e9, "mfu": 0.02,
        "flops_per_example": 2_000_000, "status": "ok", "error": None, "archscope": "0", "torch": "2",
    } | more  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ rows


def test_rows_are_appended_whole(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    results.append(path, row(model="a"))
    with open(path, "ab") as stream:
        stream.write(b'{"schema": 1, "mod')  # another program died here
    assert [r["model"] for r in results.read([path])] == ["a"]
    results.append(path, row(model="b", train_loss=float("nan")))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(lines[i])["model"] for i in (0, 2)] == ["a", "b"] and json.loads(lines[2])["train_loss"] is None
    with pytest.raises(SpecError, match="line 2, is not a row"):
        results.read([path])


def test_what_is_no_file_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(row(schema=99)) + "\n", encoding="utf-8")
    with pytest.raises(SpecError, match="has schema 99; this archscope reads up to 1"):
        results.read([path])
    path.write_text("", encoding="utf-8")
    with pytest.raises(SpecError, match="there are no rows"):
        results.read([path])
    with pytest.raises(SpecError, match="cannot read"):
        results.read([tmp_path / "none"])


@pytest.mark.parametrize(
    "apart",
    [
        {"precision": "bf16"},
        {"device_name": "GPU"},
        {"recipe": "d2l@lr=0.1"},
        {"data": "mnist"},
        {"world_size": 2},
        {"kind": "infer", "batch": 1},
    ],
)
def test_tables_do_not_mix(apart: dict[str, Any]) -> None:
    tables = results.tables([row(), row(model="nin") | apart, row(model="vgg11")])
    assert [[r["model"] for r in table.rows] for table in tables] == [["lenet", "vgg11"], ["nin"]]
    assert len({table.title for table in tables}) == 2


def test_seeds_are_one_row_with_mean_and_spread() -> None:
    (table,) = results.tables([row(seed=s, test_accuracy=a) for s, a in enumerate((0.7, 0.8, 0.9))])
    (merged,) = table.rows
    assert merged["test_accuracy"] == pytest.approx(0.8) and merged["spread"] == pytest.approx(0.1)  # n − 1 = 2
    assert merged["seeds"] == 3 and "3 seeds" in " ".join(table.notes)
    assert "spread" in [c.key for c in table.columns] and "spread" not in [
        c.key for c in results.tables([row()])[0].columns
    ]
    failed = results.tables([row(seed=0), row(seed=1, status="nan", error="the loss", key="l")])[0]
    assert len(failed.rows) == 2  # a failure is no part of a mean


def test_learning_curves(archscope, tmp_path: Path) -> None:
    epochs = [{"epoch": i, "train_loss": 1 / i, "train_accuracy": 0.5, "test_accuracy": i / 4} for i in (1, 2)]
    results.append(tmp_path / "runs.jsonl", row(history=epochs))
    results.append(tmp_path / "runs.jsonl", row(seed=1, history=epochs[:1]))
    ran = archscope("bench", "compare", str(tmp_path / "runs.jsonl"), "--curves", "--format", "json")
    shown = [(r["model"], r["seed"], r["epoch"], r["test_accuracy"]) for r in json.loads(ran.out)]
    assert shown == [("lenet", 0, 1, 0.25), ("lenet", 0, 2, 0.5), ("lenet", 1, 1, 0.25)]
    with pytest.raises(SpecError, match="no learning curve"):
        results.curves([row()])


def test_notes() -> None:
    (table,) = results.tables(
        [
            row(mfu=1.2, synthetic=True, load_average=5.0),
            row(model="n", status="oom_reduced", micro_batch=8, batch_norm=True, key="l"),
        ]
    )
    text = " ".join(table.notes)
    for said in (
        "MFU above 100 %",
        "synthetic data",
        "load of 5.0",
        "8 examples at a time, 256 in a step",
        "n normalises over each part",
    ):
        assert said in text
    assert table.rows[0]["mfu"] == 1.2  # not clamped


def test_progress_in_plain_lines() -> None:
    event = {"event": "epoch", "epoch": 2, "epochs": 3, "train_loss": 0.5, "train_accuracy": 0.25,
             "test_accuracy": 0.125, "examples_per_second": 1234.5}  # fmt: skip
    assert line("lenet", event) == "lenet  epoch 2/3  loss 0.5000  train 25.0%  test 12.5%  1,234 examples/s"
    assert line("lenet", {"event": "step"}) is None


def test_both_processes_name_a_run_alike() -> None:
    job = Job("lenet", recipe_of("d2l", "lenet").to_dict(), seed=1, flags={"precision": "fp32"}, batches=(1, 8))
    there = Job.from_json(job.to_json())
    assert there == job and there.key == job.key == job.row()["key"]
    assert replace(job, seed=2).key != job.key == replace(job, warmup=4).key


# -------------------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name the networks to train"),
        (("lennet",), "did you mean lenet"),
        (("lenet", "--recipe", "d3l"), "did you mean d2l"),
        (("resnet18", "--recipe", "d2l"), "says nothing of resnet18"),
        (("lenet", "--dataset", "digist"), "did you mean digits"),
        (("lenet", "--precision", "fp8"), "unknown precision 'fp8'"),
        (("lenet", "--device", "tpuu"), "no device is called 'tpuu'"),
        (("lenet", "--device", "cuda:77"), "there is no cuda"),
        (("lenet", "--compile", "fast"), "unknown mode of --compile"),
        (("lenet", "--epochs", "0"), "--epochs is a whole number from 1 on"),
        (("lenet", "--warmup", "x"), "--warmup is a whole number"),
        (("lenet", "--seeds", "none"), "--seeds is a whole number"),
        (("lenet", "--peak-tflops", "-1"), "--peak-tflops is a number"),
        (("lenet", "--columns", "modle"), "did you mean model"),
        (("lenet", "--output", "no/such/runs.jsonl"), "there is no folder"),
        (("lenet", "--resume", "--checkpoints", "none"), "keeps none"),
        (("compare",), "compare needs files"),
        (("compare", "no.jsonl"), "cannot read no.jsonl"),
        (("lenet", "--format", "xml"), "unknown format"),
        (("lenet", "--infer", "--batches", "1,b"), "--batches is a whole number"),
    ],
)
def test_what_is_typed_wrong(archscope, words: tuple[str, ...], message: str) -> None:
    ran = archscope("bench", *words)
    assert ran.code == 2 and message in ran.err and not ran.out and ran.err.count("\n") == 1


def test_list(archscope) -> None:
    ran = archscope("bench", "--list")
    assert ran.code == 0 and "resnet18-d2l" in ran.out and "fashion-mnist" in ran.out
    listed = json.loads(archscope("bench", "--list", "--format", "json").out)
    assert {"recipe": "d2l", "model": "lenet", "lr": 0.9, "batch": 256}.items() <= listed[0].items()


def test_list_and_compare_need_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    results.append(path, row())
    code = f"""
import sys
from archscope.cli import app
for words in (["bench", "--list"], ["bench", "compare", {str(path)!r}]):
    try: app(words)
    except SystemExit as end: assert not end.code, end.code
assert not {{"torch", "numpy", "pandas"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_compare(archscope, tmp_path: Path) -> None:
    one, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    results.append(one, row())
    results.append(other, row(model="nin", precision="bf16"))
    ran = archscope("bench", "compare", str(one), str(other))
    assert ran.code == 0 and "fp32 on CPU" in ran.out and "bf16 on CPU" in ran.out
    rows = json.loads(archscope("bench", "compare", str(one), str(other), "--format", "json").out)
    assert [(r["model"], r["precision"], r["test_accuracy"]) for r in rows] == [
        ("lenet", "fp32", 0.75),
        ("nin", "bf16", 0.75),
    ]
    picked = archscope("bench", "compare", str(one), "--columns", "model,test_accuracy", "--format", "csv")
    assert picked.out == "model,test_accuracy\nlenet,0.75\n"


def test_bench_in_processes_of_their_own(archscope, tmp_path: Path) -> None:
    """Two networks, one of which cannot be; then the same again, where only what is missing is done."""
    path = tmp_path / "runs.jsonl"
    words = ("bench", "lenet,dense-block", "--epochs", "1", *SMALL, "--recipe", "adam", "--output", str(path))
    ran = archscope(*words)
    assert ran.code == 1, ran.err
    good, bad = results.read([path])
    assert (good["model"], good["status"], bad["status"]) == ("lenet", "ok", "error")
    assert good["recipe"] == "adam@epochs=1" and good["threads"] == 1 and good["peak_flops_measured"] == 1e11
    assert "lenet" in ran.out and "one row of scores an example" in ran.out
    assert "lenet  epoch 1/1" in ran.err
    again = archscope("bench", "lenet", *words[2:], "--resume")
    assert "is in" in again.err and again.code == 0 and len(results.read([path])) == 2


def test_a_process_that_dies_has_a_row_and_the_others_run(archscope, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import os\nfrom torch import nn\nLIVES = True\n"
        "def example_inputs():\n    import torch\n    return torch.zeros(1, 1, 8, 8)\n"
        "class Dies(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(64, 10)\n"
        "    def forward(self, x):\n        if not x.is_meta:\n            os.kill(os.getpid(), 9)\n"
        "        return self.fc(x.flatten(1))\n",
        encoding="utf-8",
    )
    path = tmp_path / "runs.jsonl"
    ran = archscope("bench", f"{mine}:Dies", "--epochs", "1", *SMALL, "--output", str(path))
    (dead,) = results.read([path])
    assert ran.code == 1 and dead["status"] == "error" and "ended by signal 9" in dead["error"]
    assert "ended by signal 9" in ran.out


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    """SIGINT in an epoch: a row with what was done, exit code 130, and --resume goes on."""
    path = tmp_path / "runs.jsonl"
    words = [
        sys.executable, "-m", "archscope", "bench", "lenet", "--dataset", "digits", "--epochs", "400",
        "--device", "cpu", "--threads", "1", "--warmup", "0", "--output", str(path),
    ]  # fmt: skip
    with subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    ) as process:
        assert process.stderr is not None
        for text in process.stderr:
            if "epoch 2/" in text:
                process.send_signal(signal.SIGINT)
                break
        process.stderr.read()
        begun = time.monotonic()
        assert process.wait(60) == 130 and time.monotonic() - begun < 30
    (stopped,) = results.read([path])
    assert stopped["status"] == "interrupted" and stopped["epochs_done"] >= 2
    kept = list((tmp_path / "cache" / "bench").iterdir())
    assert [p.name for p in kept] == [f"{stopped['key']}.pt"]


def test_infer(archscope) -> None:
    ran = archscope(
        "bench", "lenet", "--infer", "--batches", "1,4", "--device", "cpu", "--threads", "1", "--format", "json"
    )
    assert ran.code == 0, ran.err
    one, four = json.loads(ran.out)
    assert (one["batch"], four["batch"]) == (1, 4) and one["flops_per_example"] == 2 * 416_520 == four[
        "flops_per_example"
    ]
    for measured in (one, four):
        assert measured["latency_ms_p50"] <= measured["latency_ms_p99"] and measured["bound"] in ("memory", "compute")
        rate = measured["batch"] / measured["latency_ms_p50"] * 1e3
        assert measured["examples_per_second"] == pytest.approx(rate)
        assert measured["roofline_share"] == pytest.approx(measured["roofline_ms"] / measured["latency_ms_p50"])
    assert four["intensity"] > one["intensity"]  # the weights are read once for four


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """torchrun with gloo, the same global batch, a last batch that the two share unevenly: 201 = 3·64 + 9."""
    words = ["bench", "lenet", "--dataset", "synthetic@train=201@test=51", "--epochs", "2", "--batch", "64", "--device",
             "cpu", "--threads", "1", "--checkpoints", "none", "--format", "json"]  # fmt: skip
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    path = tmp_path / "runs.jsonl"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "archscope"]
    ran = subprocess.run([*torchrun, *words, "--output", str(path)], env=own, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    (two,) = results.read([path])  # one row a run, by the first process
    assert two["world_size"] == 2 and two["status"] == "ok" and len(json.loads(ran.stdout)) == 1
    fields = recipe_of("d2l", "lenet", {"epochs": 2, "batch": 64}).to_dict()
    one = worker.run(Job("lenet", fields, "synthetic@train=201@test=51", device="cpu", flags={"threads": 1}))
    for key in ("train_loss", "test_loss"):
        assert two[key] == pytest.approx(one[key], rel=1e-4), key
    assert two["train_accuracy"] == one["train_accuracy"] and two["test_accuracy"] == one["test_accuracy"]
    assert two["steps"] == one["steps"] and two["mfu"] == pytest.approx(two["flops_per_second"] / 2e11)


def test_a_compiler_without_a_card_is_no_news(tmp_path: Path) -> None:
    code = "from archscope.bench.device import _seconds; _seconds(lambda: None)"
    env = os.environ | {"CUDA_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
