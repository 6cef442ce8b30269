"""Operators whose cost nobody knows: bounds in the number's place, and costs that a user enters."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import archscope
from archscope.core.errors import SpecError
from archscope.core.formats import show, text_of
from archscope.core.table import AtLeast
from archscope.operators.custom import COSTS
from archscope.peers.checks import checks_table, derived


@torch.library.custom_op("archscope_costs::mix", mutates_args=())
def mix(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x @ weight


@mix.register_fake
def _(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


class Net(nn.Module):
    """A product of 3 x 4 by a rule, and one of 4 x 9 by an operator of the user's, for 9 examples."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.weight = nn.Linear(3, 4, bias=False), nn.Parameter(torch.rand(4, 9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return mix(self.linear(x), self.weight)


KNOWN, OWN = 9 * 3 * 4, 9 * 4 * 9  # 108 and 324


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = dict(COSTS)
    yield
    COSTS.clear()
    COSTS.update(before)


def record() -> archscope.Trace:
    return archscope.trace(Net(), [(9, 3)])


def test_a_total_without_a_cost_is_a_lower_bound() -> None:
    total = archscope.totals(record())
    assert total["macs"] == KNOWN and total["macs_is_lower_bound"] is True
    assert json.loads(json.dumps(total))["macs"] == KNOWN  # JSON integers stay
    assert show(total["macs"], "count") == "≥ 108"
    assert show(AtLeast(12_345_000), "scaled") == "≥ 12.35 M"
    assert "≥ 108" in text_of(archscope.layer_table(record()), "md")
    assert type(archscope.totals(archscope.trace(nn.Linear(3, 4), [(9, 3)]))["macs"]) is int


def test_a_model_without_a_cost_is_not_verified() -> None:
    (row,) = checks_table([derived(record())]).rows
    assert row["verified"] is None
    archscope.register_cost("archscope_costs::mix", macs=1)
    (row,) = checks_table([derived(record())]).rows
    assert row["verified"] is True


@pytest.mark.parametrize(
    "macs", [OWN, "x[0] * x[1] * weight[1]", "numel(out) * x[-1]", lambda x, weight: x.numel * weight.shape[1]]
)
def test_a_cost_that_is_entered(macs: archscope.operators.custom.Amount) -> None:
    archscope.register_cost("archscope_costs::mix", macs=macs, flops="2 * numel(x) * weight[1] + 1")
    total = archscope.totals(record())
    assert total["macs"] == KNOWN + OWN and total["flops"] == 2 * KNOWN + 2 * OWN + 1
    assert total["unknown"] == {} and total["macs_is_lower_bound"] is False


def test_flops_are_twice_the_macs_unless_said() -> None:
    archscope.register_cost("archscope_costs::mix", macs=OWN)
    assert archscope.totals(record())["flops"] == 2 * (KNOWN + OWN)


@pytest.mark.parametrize("macs", ["x[", "y[0]", "x.__class__", "x[7]", -1, 0.5, "len(x)", "numel()"])
def test_what_is_no_cost(macs: int) -> None:
    with pytest.raises(archscope.ArchscopeError, match="archscope_costs"):
        archscope.register_cost("archscope_costs::mix", macs=macs)
        archscope.totals(record())


def test_an_operator_with_a_rule_keeps_it() -> None:
    with pytest.raises(SpecError, match="has a rule"):
        archscope.register_cost("aten::linear", macs=1)


FILE = """
import torch
from torch import nn

@torch.library.custom_op("archscope_costs::from_file", mutates_args=())
def mix(x: torch.Tensor) -> torch.Tensor:
    return x + 1

@mix.register_fake
def _(x):
    return torch.empty_like(x)

class Net(nn.Module):
    def forward(self, x):
        return mix(x)
"""


def test_costs_of_the_config(archscope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    ask = ("table", "own.py:Net", "--input", "2x5", "--format", "json")
    (row,) = json.loads(archscope(*ask).out)
    assert row["macs"] == 0 and row["macs_is_lower_bound"] is True and row["verified"] is None
    config = tmp_path / "archscope.toml"
    config.write_text('[cost]\n"archscope_costs::from_file" = {macs = 7, flops = "3 * numel(out)"}\n')
    (row,) = json.loads(archscope(*ask).out)
    assert (row["macs"], row["flops"], row["macs_is_lower_bound"]) == (7, 3 * 2 * 5, False)
    config.write_text('[cost]\n"archscope_costs::from_file" = {mac = 7}\n')
    assert archscope(*ask).code == 2 and "unknown key 'mac'" in archscope(*ask).err
