"""Why other tools have other numbers: the worked example, the form of what is printed, and no residual on a sample."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import archscope as package
from archscope.peers import reconcile
from archscope.peers.accounts import counter, measures
from archscope.peers.checks import reconciled
from archscope.peers.measured import run_tool, version_of, without_weights
from archscope.peers.reconcile import ToolResult, account_of, account_table, chosen, columns_as, records
from archscope.peers.tools import COUNTERS, MEASURES, Account, AccountItem, find
from archscope.sources.spec import parse

THREE = "torchinfo,fvcore,torch"
RESNET = 4_089_184_256  # multiply-adds of torchvision's ResNet-50 at 224


@pytest.fixture(scope="module")
def resnet() -> tuple[Any, list[reconcile.Reconciled]]:
    return reconciled(parse("torchvision:resnet50"), THREE.split(","))


def test_the_worked_example(resnet: Any) -> None:
    trace, (torchinfo, fvcore, torch_) = resnet
    assert package.totals(trace)["macs"] == RESNET
    assert torchinfo.result.figure == 4_089_238_376 == RESNET + 53_120 + 1_000
    assert [(item.amount, str(item)) for item in torchinfo.account.items] == [
        (2 * 26_560, "batch-norm weights and biases counted as multiply-adds (53 layers)"),
        (1_000, "Linear biases counted as multiply-adds (fc)"),
    ]
    assert fvcore.result.figure == 4_111_512_576
    assert [(item.amount, str(item)) for item in fvcore.account.items] == [
        (2 * 11_113_984, "batch-norm elements, 2 each (53 layers)"),
        (7 * 7 * 2048, "inputs of adaptive average pooling (avgpool)"),
    ]
    assert torch_.result.figure == 2 * RESNET
    assert [one.residual for one in (torchinfo, fvcore, torch_)] == [0, 0, 0]


# one or two of each family of torchvision and of the zoo; benchmarks/residuals.py runs all of them
SAMPLE = """lenet alexnet vgg11 nin googlenet densenet-d2l mobilenet-v1@width=0.25 mobilenet-v2 mobilenet-v3-small
    rnn-cell char-rnn-embedding gru-classifier inception-block torchvision:convnext_tiny torchvision:regnet_y_400mf
    torchvision:shufflenet_v2_x0_5 torchvision:squeezenet1_1 torchvision:swin_t torchvision:vit_b_16""".split()


@pytest.mark.parametrize("model", SAMPLE)
def test_nothing_is_left_unexplained(model: str) -> None:
    trace, told = reconciled(parse(model), THREE.split(","))
    macs = package.totals(trace)["macs"]
    for one in told:
        assert one.residual == 0, one.counter.title
        assert one.account.figure == macs + sum(item.amount for item in one.account.items)


def test_a_model_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, built = parse("lenet"), []
    build = type(spec.source).build
    monkeypatch.setattr(type(spec.source), "build", lambda *given: built.append(given[1]) or build(*given))
    _, (one,) = reconciled(spec, ["torch"])
    assert (built, one.residual) == (["lenet"], 0)


def test_in_training_and_with_a_batch() -> None:
    _, told = reconciled(parse("resnet18"), THREE.split(","), "64", 2, train=True)
    assert [one.residual for one in told] == [0, 0, 0]


# --------------------------------------------------------------------------------------------------- the registry


def test_names() -> None:
    assert chosen("fvcore, torch,fvcore") == ["fvcore", "torch"]
    assert chosen(None) == chosen("all") == list(COUNTERS)
    with pytest.raises(package.ArchscopeError, match="unknown tool 'fvcor': did you mean fvcore"):
        chosen("fvcor")
    with pytest.raises(package.ArchscopeError, match="no tool is named"):
        chosen(" , ")
    with pytest.raises(ValueError, match="unknown tool"):
        find("flops")


def test_a_name_is_entered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="the counter 'fvcore' is registered twice"):
        counter("fvcore", title="", calls="", unit="MAC", package="", version="")(find("fvcore").convention)
    with pytest.raises(ValueError, match="the measure of 'fvcore' is registered twice"):
        measures("fvcore")(MEASURES["fvcore"])
    assert set(MEASURES) <= set(COUNTERS)


@pytest.mark.parametrize("name", COUNTERS)
def test_every_account_adds_up(name: str, traced: Callable[..., Any]) -> None:
    """Whatever a convention enters: archscope's MACs and the amounts are the figure."""
    for model in ("lenet", "resnet18", "gru-classifier", "googlenet"):
        account = COUNTERS[name].convention(traced(model))
        if account.figure is None:
            assert account.note
        else:
            assert account.figure == package.totals(traced(model))["macs"] + sum(i.amount for i in account.items)
        assert all(item.reason and item.amount for item in account.items)


def test_conventions_need_no_torch(tmp_path: Any, traced: Callable[..., Any]) -> None:
    stored = tmp_path / "trace.json"
    stored.write_text(traced("resnet18").to_json(), encoding="utf-8")
    code = f"""
import sys
from pathlib import Path
from archscope.peers.tools import COUNTERS
from archscope.core.record import Trace
trace = Trace.from_json(Path({str(stored)!r}))
for counter in COUNTERS.values():
    counter.convention(trace)
print(sorted({{"torch", "numpy", "torchinfo", "fvcore"}} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_place_of_an_item() -> None:
    assert str(AccountItem("why", 3)) == "why"
    assert str(AccountItem("why", 3, ("fc",))) == "why (fc)"
    assert str(AccountItem("why", 3, ("a", "b"))) == "why (2 layers)"
    assert str(AccountItem("why", 3, ("",))) == "why"


# ----------------------------------------------------------------------------------------------------- running them


def test_a_tool_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.rand(1, 3, 9, 9)
    keys, random = [set(vars(m)) for m in model.modules()], torch.get_rng_state()
    for name in MEASURES:
        run_tool(name, model, (x,))
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [set(vars(m)) for m in model.modules()] == keys
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_copy_has_no_weights() -> None:
    table = nn.Embedding(10, 4)
    head = nn.Linear(4, 10, bias=False)
    head.weight = table.weight  # tied
    model = nn.Sequential(table, head, nn.LazyLinear(3))
    model.register_buffer("small", torch.arange(3))
    copied: Any = without_weights(model, (torch.zeros(2, 3, dtype=torch.int64),), {})
    assert copied[1].weight is copied[0].weight
    assert all(p.is_meta for p in copied.parameters())
    assert tuple(copied[2].weight.shape) == (3, 10)  # a lazy layer has run
    assert isinstance(model[2], nn.LazyLinear)


def test_what_goes_wrong_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    for name in ("fvcore", "torch"):
        assert "values of a tensor" in run_tool(name, Branching(), (torch.rand(3),)).note
    monkeypatch.setitem(COUNTERS, "fvcore", find("fvcore")._replace(package="not_there"))
    said = run_tool("fvcore", nn.Linear(3, 4), (torch.rand(1, 3),))
    assert said == ToolResult(None, "not_there is not installed: pip install not_there")
    assert version_of(find("fvcore")) == ""


def test_a_tool_that_dies_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setitem(MEASURES, "fvcore", lambda *given: os._exit(3))
    assert run_tool("fvcore", nn.Linear(3, 4), (torch.rand(1, 3),)).note == "its process ended with exit code 3"


# -------------------------------------------------------------------------------------------------------- printing


def test_a_residual_is_told(traced: Callable[..., Any]) -> None:
    trace = traced("lenet")
    macs = package.totals(trace)["macs"]
    told = account_of(trace, "torch", ToolResult(2 * macs + 5, version="9.9"))
    assert told.residual == 5
    assert told.notes == ["this is version 9.9; the account is that of 2.14"]
    table = account_table([told], trace)
    assert [(row["what"], row["amount"], row.get("residual")) for row in table.rows] == [
        ("archscope: MACs", macs, None),
        ("torch FlopCounterMode: FLOP", 2 * macs + 5, 5),
        ("+ each multiply-add counted as two operations", macs, None),
        ("? not explained", 5, None),
    ]
    assert table.notes == ("torch FlopCounterMode: this is version 9.9; the account is that of 2.14",)


def test_a_tool_that_was_not_run_is_predicted(traced: Callable[..., Any]) -> None:
    trace = traced("lenet")
    told = account_of(trace, "torch", ToolResult(None, "it is not there"))
    assert told.residual is None
    row = account_table([told], trace).rows[1]
    assert row["what"] == "torch FlopCounterMode: FLOP, predicted"
    assert row["amount"] == 2 * package.totals(trace)["macs"]
    (record,) = records([told], trace).rows
    assert (record["figure"], record["predicted"], record["note"]) == (None, row["amount"], "it is not there")


def test_as_json(archscope: Callable[..., Any]) -> None:
    ran = archscope("reconcile", "torchvision:resnet50", "--against", "fvcore", "--format", "json")
    assert ran.code == 0
    assert json.loads(ran.out) == [
        {
            "witness": "fvcore",
            "calls": "flops",
            "figure": 4_111_512_576,
            "unit": "MAC",
            "account": [
                {"reason": "batch-norm elements, 2 each (53 layers)", "amount": 22_227_968},
                {"reason": "inputs of adaptive average pooling (avgpool)", "amount": 100_352},
            ],
            "residual": 0,
            "predicted": 4_111_512_576,
            "note": None,
        }
    ]


@pytest.mark.parametrize("format", ["terminal", "md", "csv", "latex", "html"])
def test_in_every_format(format: str, archscope: Callable[..., Any]) -> None:
    ran = archscope("reconcile", "lenet", "--against", "torchinfo,torch", "--format", format, env={"COLUMNS": "60"})
    assert ran.code == 0
    assert "torchinfo" in ran.out and "833040" in ran.out.replace(",", "").replace(" ", "")  # 2 · 416,520


def test_a_residual_is_exit_1(archscope: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURES, "torch", lambda *given: 7)
    ran = archscope("reconcile", "lenet", "--against", "torch")
    assert ran.code == 1
    assert "? not explained" in ran.out
    ran = archscope("verify", "lenet", "--against", "torch")
    assert ran.code == 1
    assert "are not explained" in " ".join(ran.out.split())


def test_a_saved_trace_is_predicted(archscope: Callable[..., Any], tmp_path: Any, traced: Callable[..., Any]) -> None:
    stored = tmp_path / "lenet.json"
    stored.write_text(traced("lenet").to_json(), encoding="utf-8")
    ran = archscope("reconcile", str(stored), "--against", "torch")
    assert ran.code == 0
    assert "torch FlopCounterMode: FLOP, predicted" in ran.out
    assert "there is no model to run again" in ran.out


def test_wrong_words(archscope: Callable[..., Any]) -> None:
    ran = archscope("reconcile", "lenet", "--against", "torchinf")
    assert (ran.code, ran.out) == (2, "")
    assert "did you mean torchinfo?" in ran.err
    assert archscope("reconcile", "lenett").code == 2
    assert archscope("reconcile", "lenet", "--columns", "nothing").code == 2


# -------------------------------------------------------------------------------------------------------- table --as


def test_a_table_by_the_convention_of_others(archscope: Callable[..., Any]) -> None:
    ran = archscope("table", "lenet", "torchvision:resnet50", "--as", "fvcore,torch", "--format", "json")
    assert ran.code == 0
    lenet, resnet50 = json.loads(ran.out)
    assert (lenet["macs"], lenet["torch"]) == (416_520, 2 * 416_520)
    assert resnet50["fvcore"] == 4_111_512_576
    shown = archscope("table", "lenet", "--as", "fvcore", env={"COLUMNS": "100"})
    text = " ".join(shown.out.split())
    assert "fvcore: “flops” of fvcore 0.1.5.post20221221: multiply-adds of linear layers" in text
    assert "MACs" not in shown.out
    sorted_by = archscope("table", "lenet", "alexnet", "--as", "torch", "--sort", "-torch", "--columns", "model,torch")
    assert sorted_by.out.index("alexnet") < sorted_by.out.index("lenet")
    assert archscope("table", "lenet", "--as", "nothing").code == 2


def test_a_refusal_leaves_the_cell_empty(traced: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COUNTERS, "torch", find("torch")._replace(convention=lambda trace: Account(None, (), "no")))
    assert reconcile.predicted(traced("lenet"), ["torch"]) == {"torch": None}
    assert [column.key for column in columns_as(["torch"])] == ["torch"]
