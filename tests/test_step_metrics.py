"""What a training step costs, as columns, in sweeps, in the lock and in budgets; run only where it is asked for."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import archscope as package
from archscope.analysis.metrics import METRICS, STEP_METRICS, step_totals
from archscope.analysis.step_work import work_table
from archscope.core.errors import SpecError
from archscope.gate import lock
from archscope.sources.kinds import file as files

NET = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, width=20):
        super().__init__(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, 3))


def build(width=20):
    return Net(width)


example_inputs = (4, 10)
space = {"width": [20, 40]}
"""
# 4 examples: the first layer has no gradient for the data, so 2 products; the second has 3
FIRST, SECOND = 4 * 10 * 20, 4 * 20 * 3
TRAINING = 2 * FIRST + 3 * SECOND
PARAMS = 10 * 20 + 20 + 20 * 3 + 3
# at the peak, the step of AdamW, in bytes: parameters, gradients, two moments and the denominators, a counter of steps
# for each of the 4 parameters, inputs and targets
PEAK_ADAMW = 4 * 5 * PARAMS + 4 * 4 + 4 * 4 * 10 + 8 * 4


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


@pytest.fixture
def no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a training step was run")

    monkeypatch.setattr("archscope.tracing.step.trace_step", refuse)


def step(**conditions: Any) -> package.Trace:
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3))
    return package.trace_step(model, (4, 10), **conditions)


def test_the_metrics_of_a_step() -> None:
    assert not METRICS.keys() & STEP_METRICS.keys()
    found = step_totals(step(optimizer="adamw"))
    assert found["training_macs"] == TRAINING
    assert found["peak_memory"] == PEAK_ADAMW
    # SGD: w ← w − lr·g, 1 for each element; each layer 2 · MACs, its bias in the forward and in the backward,
    # ReLU and its gradient, cross-entropy of 4 × 3 scores: log-softmax 5, its gradient 4, nll 1 and its gradient 1 more
    loss = 5 * 12 + 4 * 12
    flops = step_totals(step())["training_flops"]
    layers = 2 * TRAINING + 2 * (4 * 20 + 4 * 3) + 2 * 4 * 20
    assert PARAMS + layers + loss <= flops <= PARAMS + layers + loss + 2 * 12
    with pytest.raises(ValueError, match="record of a forward"):
        step_totals(package.trace(nn.Linear(4, 2), (1, 4)))


def test_the_table_of_layers_adds_up() -> None:
    table = work_table(step(optimizer="adam"))
    rows = {row["path"]: row for row in table.rows}
    assert (rows["0"]["forward_macs"], rows["0"]["backward_macs"]) == (FIRST, FIRST)
    assert (rows["2"]["forward_macs"], rows["2"]["backward_macs"]) == (SECOND, 2 * SECOND)
    assert table.totals is not None
    assert table.totals["training_macs"] == TRAINING
    assert table.totals["params"] == PARAMS
    for key in ("forward_flops", "optimizer_flops", "training_flops", "peak_memory"):
        assert table.totals[key] == sum(row.get(key) or 0 for row in table.rows), key


@pytest.mark.parametrize("implementation", ["foreach", "for-loop", "fused"])
def test_the_optimizer_s_work_is_that_of_each_layer_s_parameters(implementation: str) -> None:
    rows = {row["path"]: row for row in work_table(step(optimizer="adam", implementation=implementation)).rows}
    first, second = (rows[path]["optimizer_flops"] for path in "02")
    if implementation == "fused":  # it takes the counters of steps, one for each parameter, in its lists
        first, second = first - 2, second - 2
    # as many operations for each element: 220 parameters and 63
    assert first * (20 * 3 + 3) == second * (10 * 20 + 20) > 0
    if implementation == "fused":
        assert first == 14 * (10 * 20 + 20)  # the count of operators/backward.py for each element


def test_the_commands(archscope: Callable[..., Any], net: Path) -> None:
    wanted = "model,macs,training_macs,peak_memory"
    rows = json.loads(archscope("table", "net.py:Net", "--columns", wanted, "--optimizer", "adamw", "-f", "json").out)
    assert rows == [{"model": "net.py:Net", "macs": FIRST + SECOND, "training_macs": TRAINING,
                     "peak_memory": PEAK_ADAMW}]  # fmt: skip
    shown = archscope("table", "net.py:Net", "--train-step").out
    assert "Training step: sgd (foreach), fp32, cross-entropy where the output is N×C" in shown
    rows = json.loads(archscope("trace", "net.py:Net", "--train-step", "-f", "json").out)["layers"]
    assert sum(row["training_macs"] for row in rows) == TRAINING
    for arguments, said in (
        (["--optimizer", "adam"], "are of a training step: add --train-step"),
        (["--train-step", "--optimizer", "adm"], "unknown optimizer 'adm': did you mean adam"),
        (["--train-step", "--precision", "fp8"], "unknown precision 'fp8'"),
    ):
        ran = archscope("trace", "net.py:Net", *arguments)
        assert (ran.code, said in ran.err) == (2, True), ran.err


def test_a_model_without_a_step_has_its_forward_and_the_reason(archscope: Callable[..., Any], net: Path) -> None:
    (net / "still.py").write_text("from torch import nn\n\n\nclass Still(nn.ReLU):\n    pass\n")
    ran = archscope("table", "still.py:Still", "--input", "1x4", "--train-step", "-f", "json")
    (row,) = json.loads(ran.out)
    assert ran.code == 1 and row["params"] == 0 and row["training_macs"] is None
    assert "no training step: no parameter of the model is trained" in row["error"]


def test_no_step_is_run_where_none_is_asked_for(archscope: Callable[..., Any], net: Path, no_step: None) -> None:
    assert archscope("table", "net.py:Net").code == 0
    assert archscope("sweep", "net.py:Net", "--over", "width=20,40").code == 0
    assert archscope("lock", "net.py:Net").code == 0
    assert "training_macs" not in (net / "archscope.lock").read_text()
    assert archscope("check").code == 0


def test_sweeps(archscope: Callable[..., Any], net: Path) -> None:
    given = ["sweep", "net.py:Net", "--over", "width=20,40", "--over", "batch=4,8"]
    rows = list(csv.DictReader(archscope(*given, "--train-step", "-f", "csv").out.splitlines()))
    expected = [batch * (2 * 10 * w + 3 * w * 3) for w in (20, 40) for batch in (4, 8)]
    assert [int(row["training_macs"]) for row in rows] == expected
    assert archscope(*given, "--train-step", "--output", "grid.csv").code == 0
    stored = list(csv.DictReader((net / "grid.csv").read_text().splitlines()))
    assert [int(row["training_macs"]) for row in stored] == expected
    found = list(package.sweep("net.py:Net", {"batch": [4]}, step={"optimizer": "adamw"}))
    assert (found[0]["peak_memory"], found[0]["error"]) == (PEAK_ADAMW, None)
    ran = archscope("search", "net.py:space", "--where", f"training_macs <= {TRAINING}", "-f", "json")
    assert [row["width"] for row in json.loads(ran.out)] == [20]


# ------------------------------------------------------------------------------------------------------- the gate

CONFIG = '[tool.archscope]\nmodels = ["net.py:Net"]\n'
STEP = '[tool.archscope.step]\noptimizer = "adamw"\n'


def edit(net: Path, old: str, new: str) -> None:
    (net / "net.py").write_text(NET.replace(old, new))
    files._FILES.clear()  # another process would read the file anew


def config(net: Path, *parts: str) -> None:
    (net / "pyproject.toml").write_text(CONFIG + "".join(parts))


def budget(text: str) -> str:
    return f'[[tool.archscope.budget]]\nmodel = "net.py:Net"\n{text}\n'


def test_the_lock_has_a_step_where_the_config_asks_for_one(archscope: Callable[..., Any], net: Path) -> None:
    config(net)
    assert archscope("lock").code == 0
    before = (net / "archscope.lock").read_text()
    config(net, STEP)
    assert archscope("check").code == 0  # the lock of before stays valid
    assert archscope("check", "--update").code == 0
    text = (net / "archscope.lock").read_text()
    assert f'{{"training_macs":{TRAINING}}}\n' in text and f'{{"peak_memory":{PEAK_ADAMW}}}\n' in text
    assert lock.text_of(lock.parse(text)) == text
    assert archscope("check").code == 0
    edit(net, "nn.Linear(width, 3)", "nn.Linear(width, 4)")
    ran = archscope("check")
    wider = TRAINING + 3 * 4 * 20
    assert ran.code == 1 and f"training_macs {TRAINING:,} → {wider:,} (+{wider - TRAINING}" in ran.out
    # 20 weights and a bias more: they and their gradient are of the layer, two moments and the denominators are not
    more = 4 * (20 + 1)
    peak = f"at the peak: (optimizer) +{3 * more} B, 2 +{2 * more} B"
    assert f"peak_memory {PEAK_ADAMW:,} → {PEAK_ADAMW + 5 * more:,}" in ran.out and peak in ran.out
    assert peak in archscope("check", "--format", "md").out
    entry = lock.parse(text)["net.py:Net"]
    assert sum(entry.totals.pop("at_peak").values()) == PEAK_ADAMW  # pyright: ignore[reportAttributeAccessIssue]
    (net / "archscope.lock").write_text(lock.text_of({"net.py:Net": entry}))
    ran = archscope("check")  # an older lock says the total alone
    assert "peak_memory" in ran.out and "at the peak" not in ran.out
    edit(net, "", "")
    config(net)
    assert archscope("check", "--update").code == 0
    assert (net / "archscope.lock").read_text() == before


def test_other_conditions_are_told(archscope: Callable[..., Any], net: Path) -> None:
    config(net, STEP)
    assert archscope("lock").code == 0
    config(net, STEP.replace("adamw", "sgd"))
    ran = archscope("check")
    assert ran.code == 1
    assert "was locked with the step optimizer adamw, precision fp32, and is optimizer sgd" in ran.out


def test_budgets(archscope: Callable[..., Any], net: Path) -> None:
    config(net, STEP, budget(f'peak_memory = "<= {PEAK_ADAMW} B"\ntraining_macs = "<= +2 %"'))
    assert archscope("lock").code == 0
    assert archscope("check").code == 0
    config(net, STEP, budget(f'peak_memory = "<= {PEAK_ADAMW - 1} B"'))
    ran = archscope("check")
    assert ran.code == 1 and f"peak_memory {PEAK_ADAMW:,} B, over the limit" in ran.out
    # 21 for 20 columns: 5 % more work
    config(net, STEP, budget('training_macs = "<= +2 %"'))
    edit(net, "width=20", "width=21")
    ran = archscope("check")
    wider = 4 * (2 * 10 * 21 + 3 * 21 * 3)
    assert ran.code == 1 and f"training_macs {wider:,}, over the limit <= +2 %" in ran.out


def test_a_budget_alone_runs_a_step_of_sgd(archscope: Callable[..., Any], net: Path) -> None:
    config(net, budget('peak_memory = "<= 1 kB"'))
    assert archscope("lock").code == 0
    assert '"asked":{"step":{"optimizer":"sgd","precision":"fp32"}}' in (net / "archscope.lock").read_text()
    assert archscope("check").code == 1


def test_a_wrong_config_is_told_with_its_line(archscope: Callable[..., Any], net: Path) -> None:
    config(net, '[tool.archscope.step]\noptimiser = "adamw"\n')
    ran = archscope("check")
    assert ran.code == 2 and "pyproject.toml line 4: unknown key 'optimiser': did you mean optimizer?" in ran.err
    config(net, STEP.replace("adamw", "adm"))
    ran = archscope("lock")
    assert ran.code == 1 and "no training step: unknown optimizer 'adm'" in ran.out


def test_assert_budget(net: Path) -> None:
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3))
    package.assert_budget(model, (4, 10), training_macs=TRAINING)
    with pytest.raises(AssertionError, match="peak_memory .* over the limit <= 1 kB"):
        package.assert_budget(model, (4, 10), peak_memory="<= 1 kB")
    with pytest.raises(AssertionError, match="training_macs"):
        package.assert_budget("net.py:Net", training_macs=TRAINING - 1)
    with pytest.raises(SpecError, match="unknown metric"):
        package.assert_budget(model, (4, 10), peek_memory="<= 1 kB")
